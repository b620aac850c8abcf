"""An extension whose part in main notes who comes and goes, and whose renderers tell what they hear."""

from __future__ import annotations

import asyncio
from typing import Any

from lensipc import ExtensionManifest, Ipc, LensMainExtension, LensRendererExtension, Types

MANIFEST = ExtensionManifest("present", "1", main="present:Main", renderer="present:Renderer")

notes: list[Any] = []  # in main's process
raise_in: set[str] = set()  # where to raise; in main's process


class Odd(type):
    """Nobody can tell what its classes have."""

    def __getattr__(cls, name: str) -> Any:
        raise RuntimeError(f"no {name}")


class Thing(metaclass=Odd):
    pass


class IpcMain(Ipc.Main):
    def __init__(self, extension: LensMainExtension) -> None:
        super().__init__(extension)
        self.listen("heard", lambda event, *args: notes.append(("heard", event.frame_id, *args)))


class Main(LensMainExtension):
    async def on_activate(self) -> None:
        IpcMain.create_instance(self)
        await asyncio.sleep(0.05)  # the parts in renderers are active by now
        notes.append("activated")

    def on_renderer_attached(self, renderer: Types.RendererInfo) -> Any:
        notes.append(("attached", renderer))
        if "odd" in raise_in:
            return Thing()
        return self.attached(renderer)

    async def attached(self, renderer: Types.RendererInfo) -> None:
        if "attached" in raise_in:
            raise ValueError("not welcome")
        if "wait" in raise_in:
            try:
                await asyncio.sleep(600)
            finally:
                notes.append(("ended", renderer))

    async def on_deactivate(self) -> None:
        await asyncio.sleep(0)
        notes.append(("deactivated", [*IpcMain.get_instance().renderers]))

    def on_renderer_gone(self, renderer: Types.RendererInfo, reason: str) -> None:
        notes.append(("gone", renderer, reason, [*IpcMain.get_instance().renderers]))
        if "gone" in raise_in:
            raise ValueError("do not go")


class IpcRenderer(Ipc.Renderer):
    def __init__(self, extension: LensRendererExtension) -> None:
        super().__init__(extension)
        self.listen("say", lambda _event, *args: self.broadcast("heard", *args))
        self.listen("who", lambda _event: self.broadcast("heard", *extension.renderer))


class Renderer(LensRendererExtension):
    async def on_activate(self) -> None:
        IpcRenderer.create_instance(self)
        if self.settings == "slow":
            await asyncio.sleep(0.3)
        if self.settings == "hostile":  # soon after the outcome
            core: Any = self._port
            asyncio.get_running_loop().call_later(0.05, lambda: core.core.send(77))

    async def on_deactivate(self) -> None:
        if self.settings == "slow":
            await asyncio.sleep(0.3)
