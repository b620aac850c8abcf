"""An extension that records its own life, in main's process and in its renderers."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from lensipc import ExtensionManifest, Ipc, LensMainExtension, LensRendererExtension

MANIFEST = ExtensionManifest("living", "2.0", main="living:Main", renderer="living:Renderer")

life: list[Any] = []  # in main's process
raise_in: set[str] = set()  # where to raise; in main's process


class IpcMain(Ipc.Main):
    def __init__(self, extension: LensMainExtension) -> None:
        super().__init__(extension)
        self.listen("life", lambda event, what: life.append((event.frame_id, what)))
        self.handle("should raise", lambda _event: sorted(raise_in))


class Main(LensMainExtension):
    async def on_activate(self) -> None:
        IpcMain.create_instance(self)
        life.append("activate")
        self.disposers.callback(life.append, "disposed first")
        self.disposers.callback(life.append, "disposed last")
        await asyncio.sleep(0)
        if "activate" in raise_in:
            raise ValueError("main will not")

    async def on_deactivate(self) -> None:
        life.append("deactivate")
        IpcMain.get_instance().broadcast("life", "main says goodbye")
        if "deactivate" in raise_in:
            raise ValueError("main will not end")


class IpcRenderer(Ipc.Renderer):
    def __init__(self, extension: LensRendererExtension) -> None:
        super().__init__(extension)
        self.listen("invoke", lambda _event, channel: self.invoke(channel))
        self.listen("ping", lambda _event, number: self.broadcast("life", f"pong {number}"))


class Renderer(LensRendererExtension):
    async def on_activate(self) -> None:
        ipc = IpcRenderer.create_instance(self)
        if "renderer" in await ipc.invoke("should raise"):
            raise ValueError("the renderer will not")
        if f"renderer {os.getpid()}" in await ipc.invoke("should raise"):
            raise ValueError("this renderer will not")
        ipc.broadcast("life", "activate")

    def on_deactivate(self) -> None:
        IpcRenderer.get_instance().broadcast("life", "deactivate")


class MainOnly(LensMainExtension):
    def on_activate(self) -> None:
        life.append("main only")


class NotAnExtension:
    pass
