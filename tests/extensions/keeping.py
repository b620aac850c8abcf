"""What the tests of kept values and of paced listeners have a renderer do; `ipc` is the lab's, in main or there."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def note(ipc: Any, name: str, channel: str, options: dict[str, Any] | None = None) -> None:
    """Listen, with `replay` if nothing else is said, and note under `name` what is heard: (frame_id, *args)."""
    heard = ipc.heard[name] = []
    options = {"replay": True} if options is None else options
    dispose = ipc.listen(channel, lambda event, *args: heard.append((event.frame_id, *args)), **options)
    vars(ipc).setdefault("disposers", {})[name] = dispose


def send(ipc: Any, *said: tuple[str, str, Any]) -> None:
    """Do all of that at once: ("keep", channel, value), ("send", channel, value), ("note", name, channel)."""
    for what, first, second in said:
        if what == "note":
            note(ipc, first, second)
        elif what == "dispose":
            ipc.disposers[first]()
        else:
            ipc.broadcast(first, second, keep=what == "keep")


async def keep_and_die(ipc: Any, channel: str, value: Any) -> None:
    """Have a value kept, and be killed."""
    ipc.broadcast(channel, value, keep=True)
    await ipc.drain()
    os.kill(os.getpid(), signal.SIGKILL)


def keep_bytes(ipc: Any, channel: str, size: int) -> str:
    """Have so many bytes kept: the error, or "kept"."""
    try:
        ipc.broadcast(channel, bytes(size), keep=True)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "kept"


async def in_a_thread(ipc: Any, name: str, channel: str, value: Any) -> None:
    """Have a value kept, and listen, both by another thread."""

    def act() -> None:
        ipc.broadcast(channel, value, keep=True)
        note(ipc, name, channel)

    await asyncio.to_thread(act)


def listen_to_many(ipc: Any, count: int) -> None:
    """Listen to so many channels with large values at once, as a part that begins does, and be busy then."""
    ipc.sizes = []
    for number in range(count):
        ipc.listen(f"large {number}", lambda _event, value: ipc.sizes.append(len(value)), replay=True)
    time.sleep(1.2)


async def sizes(ipc: Any, count: int) -> list[int]:
    """What `listen_to_many` has heard, once that is so much."""
    while len(ipc.sizes) < count:
        await asyncio.sleep(0.002)
    return list(ipc.sizes)


def unanswered(ipc: Any, channel: str) -> int:
    """The listeners that main has still to answer."""
    return len(ipc._port.table[channel].replays)


async def weave(ipc: Any, channel: str, seed: int, steps: int, rest: float, listens: bool = True) -> int:
    """Broadcast, with and without `keep`, and listen and stop listening with `replay`, at random: how often it sent.

    `ipc.woven` has each listener: the step at which it came, whether it was disposed of, and what it heard.
    """
    rng = random.Random(seed)
    ipc.woven, sent = [], 0
    for step in range(steps):
        what = rng.random()
        if what < 0.6:
            large = bytes(40_000) if rng.random() < 0.03 else b""
            ipc.broadcast(channel, os.getpid(), step, what < 0.3, large, keep=what < 0.3)
            sent += 1
        elif listens and what < 0.8:
            heard: list[Any] = []
            ipc.woven.append([step, False, heard, ipc.listen(channel, _noting(heard), replay=True)])
        elif living := [each for each in vars(ipc)["woven"] if not each[1]]:
            each = rng.choice(living)
            each[1] = True
            each[3]()
        if rng.random() < rest:
            await asyncio.sleep(rng.choice([0, 0, 0.001]))
    await ipc.drain()
    return sent


def _noting(heard: list[Any]) -> Callable[..., None]:
    return lambda _event, pid, step, kept, _large: heard.append((pid, step, kept))


def watch(ipc: Any, channel: str) -> None:
    """Listen in the ordinary way: `ipc.order` is what was heard, in order."""
    ipc.order = []
    ipc.listen(channel, _noting(ipc.order))


async def order(ipc: Any, count: int) -> list[Any]:
    """What `watch` has heard, once that is so much."""
    while len(ipc.order) < count:
        await asyncio.sleep(0.002)
    return list(ipc.order)


def woven(ipc: Any) -> tuple[int, list[Any]]:
    """This process, and what each listener of `weave` has heard."""
    return os.getpid(), [each[:3] for each in ipc.woven]


# ---- paced listeners ----


def pace(ipc: Any, name: str, channel: str, seconds: float, options: dict[str, Any], blocks: bool = False) -> None:
    """Listen slowly: notes (the last argument, missed, how many calls run)."""
    heard, running = ipc.heard[name], [0]

    async def slow(event: Any, *args: Any) -> None:
        running[0] += 1
        heard.append((args[-1], event.missed, running[0]))
        await asyncio.sleep(seconds)
        running[0] -= 1

    def slow_and_plain(event: Any, *args: Any) -> None:
        heard.append((args[-1], event.missed, 1))
        time.sleep(seconds)

    dispose = ipc.listen(channel, slow_and_plain if blocks else slow, **options)
    vars(ipc).setdefault("disposers", {})[name] = dispose


def hold_frames(ipc: Any, channel: str, seconds: float, options: dict[str, Any]) -> None:
    """Listen to frames with a listener that takes so long, and note (number, missed, the first byte)."""
    ipc.seen = []

    async def slow(event: Any, number: int, frame: Any) -> None:
        ipc.seen.append((number, event.missed, int(frame[0])))
        await asyncio.sleep(seconds)
        assert int(frame[0]) == number % 251

    ipc.listen(channel, slow, **options)


def seen(ipc: Any) -> tuple[list[Any], int]:
    """What `hold_frames` has noted, and this process's memory."""
    return ipc.seen, memory()


def memory() -> int:
    """Bytes of this process that are in memory now."""
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * resource.getpagesize()


async def tick(ipc: Any, channel: str, count: int) -> None:
    """Broadcast 0, 1, 2, ... 5 ms apart."""
    for number in range(count):
        ipc.broadcast(channel, number)
        await asyncio.sleep(0.005)


async def film(ipc: Any, channel: str, count: int) -> None:
    """Broadcast so many frames of 2 MiB, at the pace of who hears them."""
    for number in range(count):
        ipc.broadcast(channel, number, np.full(2 * 1024 * 1024, number % 251, np.uint8))
        await ipc.drain()
        await asyncio.sleep(0.005)


async def pace_in_a_thread(ipc: Any, name: str, channel: str, options: dict[str, Any]) -> None:
    """The same as `pace`, by another thread."""
    await asyncio.to_thread(pace, ipc, name, channel, 0, options)
