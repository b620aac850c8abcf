"""An extension whose parts tell their settings."""

from __future__ import annotations

import time
from typing import Any

from lensipc import ExtensionManifest, Ipc, LensMainExtension, LensRendererExtension

MANIFEST = ExtensionManifest("configured", "1", main="configured:Main", renderer="configured:Renderer")

told: list[Any] = []  # in main's process


class IpcMain(Ipc.Main):
    def __init__(self, extension: LensMainExtension) -> None:
        super().__init__(extension)
        self.handle("told", lambda _event, settings: told.append(settings))


class Main(LensMainExtension):
    def on_activate(self) -> None:
        IpcMain.create_instance(self)
        told.append(self.settings)


class IpcRenderer(Ipc.Renderer):
    pass


class Renderer(LensRendererExtension):
    async def on_activate(self) -> None:
        ipc = IpcRenderer.create_instance(self)
        await ipc.invoke("told", self.settings)


class Silent(LensRendererExtension):
    pass


class Busy(LensRendererExtension):
    def on_activate(self) -> None:
        time.sleep(0.3)  # and reads nothing meanwhile
