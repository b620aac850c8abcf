# SPDX-License-Identifier: MIT
"""What a renderer does as long as it lives: look into one process after another, and count for the report."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from itertools import count

from lensipc import Types

from .catalog import Details
from .ipc_renderer import IpcRenderer
from .screen import Lines, Picture, Screen

# It looks into so many of the largest processes, then pauses (seconds).
LARGEST = 5
PAUSE = 0.025
# How long one of them is the chosen one (seconds).
STAY = 1.0


class Window:
    """What a person would look at. One of the windows is shown on the terminal: the one that main asks to."""

    def __init__(self, ipc: IpcRenderer) -> None:
        self.ipc = ipc
        self.details: dict[int, Details] = {}  # of the processes that it looked into, by pid
        self.chosen: int | None = None  # the pid of the one to be shown
        self.roles: dict[int, str] = {}  # what this process knows of the others by their events, by pid
        self.asked: int = 0
        self.round_trips: list[float] = []  # of each invoke that was answered (microseconds)
        self.killed: dict[str, int] = {}  # what had been counted when another renderer was killed
        self._turn, self._stay_until = count(), 0.0
        self._shown: Screen | Lines | None = None
        self._finishing = False
        ipc.listen("initialize", self._on_initialize)
        ipc.listen("demo.show", self._on_show)
        ipc.listen("demo.news", self._on_news)
        ipc.listen("demo.killed", self._on_killed)
        ipc.listen("demo.finish", self._on_finish)
        self._looking = asyncio.create_task(self._look_around())

    def close(self) -> None:
        """The extension is deactivated."""
        self._looking.cancel()
        if self._shown is not None:
            self._shown.close()

    async def _look_around(self) -> None:
        while not self._finishing:
            found = [await self._look_into(item["pid"]) for item in self.ipc.catalog.largest()[:LARGEST]]
            self.details = {details["pid"]: details for details in found if details is not None}
            self._choose()
            if self._shown is not None:
                self._shown.update(self)
            await asyncio.sleep(PAUSE)

    async def _look_into(self, pid: int) -> Details | None:
        self.asked += 1
        asked_at = time.perf_counter()
        details = None
        with suppress(KeyError):  # it has ended: that is an answer too
            details = await self.ipc.describe(pid)
        self.round_trips.append((time.perf_counter() - asked_at) * 1e6)
        return details

    def _choose(self) -> None:
        if self.details and (self.chosen not in self.details or time.monotonic() >= self._stay_until):
            self.chosen = list(self.details)[next(self._turn) % len(self.details)]
            self._stay_until = time.monotonic() + STAY

    def _on_initialize(self, event: Types.IpcRendererEvent, _id: str) -> None:
        """A broadcast reaches everyone: not only main learns that a renderer is there."""
        self.roles[event.pid] = f"renderer {event.frame_id}"

    # ---- what the host says ----

    def _on_show(self, event: Types.IpcRendererEvent, how: str, frame_id: int, title: str, began: float) -> None:
        self.roles[event.pid] = "main"
        kinds: dict[str, type[Screen | Lines]] = {"screen": Screen, "picture": Picture, "lines": Lines}
        self._shown = kinds[how](frame_id, title, began)

    def _on_news(self, _event: Types.IpcRendererEvent, text: str) -> None:
        if self._shown is not None:
            self._shown.news(text)

    def _on_killed(self, _event: Types.IpcRendererEvent, frame_id: int) -> None:
        self.killed = {"frame_id": frame_id, "heard": self.ipc.heard, "answered": len(self.round_trips)}

    async def _on_finish(self, _event: Types.IpcRendererEvent) -> None:
        self._finishing = True
        await asyncio.wait([self._looking])  # the last invoke is answered
        if self._shown is not None:
            self._shown.update(self, last=True)
            self._shown.close()
        if isinstance(self._shown, Picture):
            await self.ipc.invoke("demo.picture", self._shown.svg, timeout=10.0)
        report = {
            "items": self.ipc.catalog.items,
            "revision": self.ipc.catalog.revision,
            "heard": self.ipc.heard,
            "asked": self.asked,
            "round_trips": self.round_trips,
            "killed": self.killed,
        }
        await self.ipc.invoke("demo.report", report, timeout=10.0)
