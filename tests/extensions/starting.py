"""Extensions whose main part takes its time to activate."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from lensipc import Ipc, LensMainExtension, LensRendererExtension

answered: list[str] = []
refused: list[str] = []


class SlowIpcMain(Ipc.Main):
    pass


class SlowMain(LensMainExtension):
    async def on_activate(self) -> None:
        ipc = SlowIpcMain.create_instance(self)
        ipc.handle("answered", lambda _event, text: answered.append(text))
        ipc.handle("early", lambda _event: "early")
        await asyncio.sleep(0.3)  # long after the renderer has asked
        ipc.handle("late", lambda _event: "answered")


class SlowIpcRenderer(Ipc.Renderer):
    pass


class SlowRenderer(LensRendererExtension):
    async def on_activate(self) -> None:
        ipc = SlowIpcRenderer.create_instance(self)
        await ipc.invoke("answered", await ipc.invoke("late"))
        await ipc.invoke("answered", f"async {await ipc.invoke('late')}")


class NeverIpcMain(Ipc.Main):
    pass


class NeverMain(LensMainExtension):
    async def on_activate(self) -> None:
        NeverIpcMain.create_instance(self).listen("refused", lambda _event, text: refused.append(text))
        await asyncio.Event().wait()


class NeverIpcRenderer(Ipc.Renderer):
    pass


class NeverRenderer(LensRendererExtension):
    async def on_activate(self) -> Any:
        ipc = NeverIpcRenderer.create_instance(self)
        try:
            await ipc.invoke("anything")
        except Exception as error:
            ipc.broadcast("refused", repr(error))


class EndlessRenderer(LensRendererExtension):
    async def on_activate(self) -> None:
        await asyncio.Event().wait()


def surroundings(_lab: Ipc.Renderer) -> tuple[list[str], list[str]]:
    """This process's arguments, and what lensipc has in its environment."""
    return sys.argv, [name for name in os.environ if "LENSIPC" in name]
