# SPDX-License-Identifier: MIT
"""The host: an application with one main process and some renderers, in which the example extension is installed.

The story it tells: renderers come to life and broadcast "initialize", main syncs its catalog to all of them, one is
killed, the others go on. At the end each of them reports what it heard, and main compares.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Literal

from lensipc import MainProcess, RendererHandle, Types

from . import MANIFEST
from .ipc_main import IpcMain
from .summary import Death, Report, Summary

# How long a renderer may take to report at the end (seconds).
REPORT_WAIT = 10.0

How = Literal["screen", "picture", "lines", "nothing"]


async def run(renderers: int, seconds: float, show: How) -> Summary:
    """Run the demo.

    Args:
        renderers: how many renderers to start; the last one is killed half-way.
        seconds: how long it goes on once they are there.
        show: what the first renderer shows of itself.
    """
    async with MainProcess() as main:
        await main.install(MANIFEST)
        story = _Story(IpcMain.get_instance(), show)
        handles = [await main.spawn_renderer()]  # the one that shows itself: it is to be there from the start
        handles += await asyncio.gather(*(main.spawn_renderer() for _ in range(renderers - 1)))
        handles.sort(key=lambda handle: handle.frame_id)
        await asyncio.sleep(seconds / 2)
        victim = handles.pop()
        death = await story.kill(victim)
        await asyncio.sleep(seconds / 2)
        death.detached = victim not in main.renderers
        reports = await story.finish(handles)
        survivors = {each.frame_id: each.pid for each in handles}
        return Summary(seconds, story.ipc.catalog, death, survivors, reports, story.picture)


class _Story:
    """What the host says to the renderers, and hears from them: channels of its own, beside the extension's."""

    def __init__(self, ipc: IpcMain, show: How) -> None:
        self.ipc = ipc
        self._show = show
        self._began = time.monotonic()
        self._reports: dict[int, asyncio.Future[Report]] = {}
        ipc.listen("initialize", self._on_initialize)
        ipc.handle("demo.report", self._on_report)
        ipc.handle("demo.picture", self._on_picture)
        self.picture = ""  # as SVG, once the first renderer has sent it

    def _on_initialize(self, event: Types.IpcMainEvent, id: str) -> None:
        if self._show != "nothing":
            event.reply("demo.show", self._show, event.frame_id, f"catalog of {id}", self._began)
            self._show = "nothing"  # to no other
        self._tell(f"renderer {event.frame_id} (pid {event.pid}) broadcasts initialize({id!r})")

    def _tell(self, text: str) -> None:
        self.ipc.broadcast("demo.news", text)

    async def kill(self, victim: RendererHandle) -> Death:
        killed_at = time.monotonic()
        victim.kill()
        status = await victim.wait()
        death = Death(victim.frame_id, victim.pid, status, time.monotonic() - killed_at)
        self.ipc.broadcast("demo.killed", victim.frame_id)
        self._tell(f"renderer {victim.frame_id} (pid {victim.pid}) was killed with SIGKILL")
        return death

    async def finish(self, handles: list[RendererHandle]) -> dict[int, Report]:
        """What the renderers report, by frame id; one that does not is missing."""
        await self.ipc.stop()  # main's catalog is now what theirs are to be
        loop = asyncio.get_running_loop()
        self._reports = {handle.frame_id: loop.create_future() for handle in handles if handle.alive}
        self.ipc.broadcast("demo.finish")
        if self._reports:
            await asyncio.wait(self._reports.values(), timeout=REPORT_WAIT)
        return {frame_id: report.result() for frame_id, report in self._reports.items() if report.done()}

    def _on_picture(self, _event: Types.IpcMainInvokeEvent, svg: str) -> None:
        self.picture = svg

    def _on_report(self, event: Types.IpcMainInvokeEvent, report: dict[str, Any]) -> None:
        self._reports[event.frame_id].set_result(Report(**report))
