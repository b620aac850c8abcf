# SPDX-License-Identifier: MIT
"""The example extension's part in main."""

from __future__ import annotations

from lensipc import LensMainExtension

from .ipc_main import IpcMain


class ExampleExtensionMain(LensMainExtension):
    """Comes to life once, in the main process."""

    def on_activate(self) -> None:
        IpcMain.create_instance(self)
