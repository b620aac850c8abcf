"""Renderers that count what they hear, and renderers that flood: run by the lab, as `tallies:NAME`."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import lab


class Tally:
    """How many events of a channel were heard, and how many were dropped before one that was."""

    def __init__(self, ipc: lab.IpcRenderer, channel: str, when_slow: Any) -> None:
        self.heard = self.missed = self.wrong = 0
        self.last = -1
        ipc.listen(channel, self._on_event, when_slow=when_slow)

    def _on_event(self, event: Any, number: int, *_: Any) -> None:
        self.heard += 1
        self.missed += event.missed
        self.wrong += number != self.last + 1 + event.missed
        self.last = number


tallies: dict[str, Tally] = {}


def tally(ipc: lab.IpcRenderer, channel: str, when_slow: str = "disconnect") -> None:
    """Begin to count."""
    tallies[channel] = Tally(ipc, channel, when_slow)


async def told(_ipc: lab.IpcRenderer, channel: str, number: int = -1) -> dict[str, int]:
    """What was counted, once event `number` was heard."""
    kept = tallies[channel]
    while kept.last < number:
        await asyncio.sleep(0.001)
    return {"heard": kept.heard, "missed": kept.missed, "wrong": kept.wrong, "last": kept.last}


async def flood(ipc: lab.IpcRenderer, channel: str, size: int) -> None:
    """Broadcast as fast as it goes, until the channel `enough` is heard."""
    over = asyncio.Event()
    ipc.listen("enough", lambda *_: over.set())
    body = bytes(size)
    while not over.is_set():
        for _ in range(50):
            ipc.broadcast(channel, body)
        await ipc.drain()


async def ask(ipc: lab.IpcRenderer, seconds: float) -> list[float]:
    """Invoke one after the other for so long: how long each took."""
    times, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        started = time.perf_counter()
        await ipc.invoke("echo", 1)
        times.append(time.perf_counter() - started)
    return times


async def burst(ipc: lab.IpcRenderer, count: int, pieces: int) -> None:
    """Send so many events at once, again and again."""
    for _ in range(count):
        for number in range(pieces):
            ipc.broadcast("quiet", number)
        await ipc.invoke("echo")
        await asyncio.sleep(0.005)
