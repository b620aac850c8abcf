"""Extensions whose main part takes its time to activate."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import time
from contextlib import suppress
from typing import Any

from lensipc import Ipc, LensMainExtension, LensRendererExtension, OutboxFull

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


class BusyIpcMain(Ipc.Main):
    """Counts what it hears."""

    def __init__(self, extension: LensMainExtension) -> None:
        super().__init__(extension)
        self.heard = 0
        self.listen("n", self._on_n)

    def _on_n(self, _event: Any) -> None:
        self.heard += 1


class BusyMain(LensMainExtension):
    def on_activate(self) -> None:
        BusyIpcMain.create_instance(self)


class BusyIpcRenderer(Ipc.Renderer):
    pass


class BusyRenderer(LensRendererExtension):
    """Answers in a moment, after many events."""

    def on_activate(self) -> None:
        self._ipc = BusyIpcRenderer.create_instance(self)
        self._answer()

    def on_deactivate(self) -> None:
        self._answer()

    def _answer(self) -> None:
        time.sleep(0.05)
        for _ in range(1000):
            self._ipc.broadcast("n")


class BlockedMain(LensMainExtension):
    """Keeps main busy while an invoke waits for it, and has something to wait for then."""

    async def on_activate(self) -> None:
        ipc = SlowIpcMain.create_instance(self)
        ipc.handle("answered", lambda _event, text: answered.append(text))
        await asyncio.sleep(0.1)  # the renderer has asked by now
        time.sleep(0.5)
        await asyncio.create_task(asyncio.sleep(0))
        ipc.handle("late", lambda _event: "answered")


class FullIpcRenderer(Ipc.Renderer):
    pass


class FullRenderer(LensRendererExtension):
    """Leaves no room for its answer."""

    def on_activate(self) -> None:
        ipc = FullIpcRenderer.create_instance(self)
        with suppress(OutboxFull):
            while True:
                ipc.broadcast("n", bytes(10_000))


class FullAndFailingRenderer(FullRenderer):
    def on_activate(self) -> None:
        super().on_activate()
        raise ValueError("it will not")


class UndoneIpcMain(Ipc.Main):
    pass


class UndoneMain(LensMainExtension):
    """Fails, and takes its time to be undone."""

    undoing = asyncio.Event()
    may_end = asyncio.Event()

    def on_activate(self) -> None:
        UndoneIpcMain.create_instance(self)
        raise ValueError("it will not")

    async def on_deactivate(self) -> None:
        self.undoing.set()
        await self.may_end.wait()
        answered.append("undone")


class SlowToLeaveRenderer(LensRendererExtension):
    async def on_deactivate(self) -> None:
        await asyncio.sleep(0.2)
        answered.append("has left")


class SlowToComeRenderer(LensRendererExtension):
    async def on_activate(self) -> None:
        answered.append("comes")
        await asyncio.sleep(0.2)
        answered.append("is there")

    def on_deactivate(self) -> None:
        answered.append("has left")


user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")


class LoggingInMain(LensMainExtension):
    async def on_activate(self) -> None:
        SlowIpcMain.create_instance(self).handle("log in", self._log_in)
        await asyncio.sleep(0.3)

    def _log_in(self, _event: Any) -> str:
        before = user.get()
        user.set("somebody")
        return before


class LoggingInRenderer(LensRendererExtension):
    async def on_activate(self) -> None:
        ipc = SlowIpcRenderer.create_instance(self)
        answered.extend(await asyncio.gather(*(ipc.invoke("log in") for _ in range(3))))


class SlowBothWaysMain(LensMainExtension):
    async def on_activate(self) -> None:
        await asyncio.sleep(0.05)

    async def on_deactivate(self) -> None:
        await asyncio.sleep(0.05)


class NeverLeavesRenderer(LensRendererExtension):
    async def on_deactivate(self) -> None:
        await asyncio.Event().wait()
