"""An extension whose parts print what they are told of the end, and whose main part closes its host when asked."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from lensipc import ExtensionManifest, Ipc, LensMainExtension, LensRendererExtension, MainProcess, Types

MANIFEST = ExtensionManifest("ending", "1", main="ending:Main", renderer="ending:Renderer")
ASKS = ExtensionManifest("ending", "1", main="ending:Main", renderer="ending:Asks")
PLAIN = ExtensionManifest("ending", "1", main="ending:Main", renderer="ending:Plain")

hosts: list[MainProcess] = []  # in main's process: what to close
close_in: set[str] = set()  # in main's process: where to close it
heard: list[Any] = []  # in main's process


class IpcMain(Ipc.Main):
    def __init__(self, extension: LensMainExtension) -> None:
        super().__init__(extension)
        self.waiting = 0
        self.handle("wait", self._on_wait)
        self.handle("quit", self._on_quit)
        self.handle("slow", self._on_slow)
        self.handle("echo", lambda _event, value: value)
        self.listen("heard", lambda _event, *args: heard.append(args))
        self.listen("quit", self._on_quit)

    async def _on_wait(self, _event: Types.IpcMainInvokeEvent) -> None:
        self.waiting += 1
        await asyncio.sleep(600)

    async def _on_slow(self, _event: Types.IpcMainInvokeEvent, value: int) -> int:
        await asyncio.sleep(0.1)
        return value

    async def _on_quit(self, _event: object) -> str:
        (host,) = hosts
        await host.aclose()
        return "bye"


class Main(LensMainExtension):
    async def on_activate(self) -> None:
        IpcMain.create_instance(self)
        await self._close("on_activate")

    async def on_renderer_attached(self, _renderer: Types.RendererInfo) -> None:
        await self._close("on_renderer_attached")

    async def on_deactivate(self) -> None:
        await self._close("on_deactivate")
        heard.append("deactivated in main")

    async def _close(self, where: str) -> None:
        if where in close_in:
            await asyncio.create_task(hosts[0].aclose())  # a task of its own is a callback's, too
            heard.append(f"returned from {where}")


class IpcRenderer(Ipc.Renderer):
    def __init__(self, extension: LensRendererExtension) -> None:
        super().__init__(extension)
        self.listen("raise in on_closed", lambda _event: os.environ.update(RAISE="1"))
        self.listen("broadcast quit", lambda _event: self.broadcast("quit"))
        self.listen("invoke quit", lambda _event: self.invoke("quit"))


class Plain(LensRendererExtension):
    """For a script: nothing of it is async."""

    def on_activate(self) -> None:
        IpcRenderer.create_instance(self)

    def on_closed(self, reason: str) -> Any:
        print("on_closed:", reason, flush=True)
        if "RAISE" in os.environ:
            raise ValueError("not now")

    def on_deactivate(self) -> Any:
        print("on_deactivate", flush=True)


class Renderer(Plain):
    async def on_closed(self, reason: str) -> None:
        await asyncio.sleep(0.01)  # on_deactivate comes after it, all the same
        super().on_closed(reason)


class Asks(Plain):
    """Blocks when it is deactivated."""

    def on_deactivate(self) -> None:
        print("the answer:", IpcRenderer.get_instance().invoke_sync("slow", 5), flush=True)
