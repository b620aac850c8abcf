# SPDX-License-Identifier: MIT
"""The example extension's part in a renderer."""

from __future__ import annotations

import platform

from lensipc import LensRendererExtension

from .ipc_renderer import IpcRenderer
from .window import Window


class ExampleExtensionRenderer(LensRendererExtension):
    """Comes to life in each renderer."""

    def on_activate(self) -> None:
        ipc = IpcRenderer.create_instance(self)
        window = Window(ipc)
        self.disposers.callback(window.close)
        ipc.broadcast("initialize", platform.node())
