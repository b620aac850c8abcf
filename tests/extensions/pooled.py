"""What tests of the pool run in renderers: listeners that check each array that comes."""

from __future__ import annotations

import asyncio
import os
import resource
import time
import zlib
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from lensipc import Disposer, Ipc
from lensipc.transport import handshake
from lensipc.transport.endpoint import Endpoint

# Of this process: the numbers that were heard in whole, and what was wrong.
heard: list[int] = []
wrong: list[str] = []
note: TextIO | None = None
listening: list[Disposer] = []
pause = 0.0


def message(number: int, size: int) -> tuple[int, Any, int]:
    """An event's arguments: its number, an array that is its own, and the array's CRC."""
    array = np.random.default_rng(number).integers(0, 256, size, np.uint8)
    return number, array, zlib.crc32(array.data)


def check(ipc: Ipc.Renderer, channel: str, when_slow: Any = "disconnect", replay: bool = False) -> None:
    """Listen, and check each event. The listener writes to what it gets: it is its own."""

    def take(event: Any, number: int, array: Any, crc: int) -> None:
        if zlib.crc32(array.data) != crc:
            wrong.append(f"{number}: the array has changed")
        if not array.flags.writeable:
            wrong.append(f"{number}: it is read-only")
        if heard and number <= heard[-1] and event.frame_id == 0:
            wrong.append(f"{number} came after {heard[-1]}")
        array.fill(number % 256)
        heard.append(number)
        if note is not None:
            time.sleep(pause)
            note.write(f"{wrong or number}\n")

    listening.append(ipc.listen(channel, take, when_slow=when_slow, replay=replay))


def deaf(_ipc: Ipc.Renderer) -> None:
    """Listen no more, and forget what was heard."""
    listening.pop()()
    heard.clear()


def note_to(_ipc: Ipc.Renderer, path: str, seconds: float = 0.0) -> None:
    """Write to a file, too, what is heard from now on, each after so long: it can be read when this process is gone."""
    global note, pause
    pause = seconds
    note = open(path, "w", buffering=1)  # noqa: SIM115, PTH123


async def numbers(_ipc: Ipc.Renderer, count: int) -> tuple[list[int], list[str]]:
    """What was heard, once it is so much."""
    while len(heard) < count and not wrong:
        await asyncio.sleep(0.002)
    return heard, wrong


async def broadcast(ipc: Ipc.Renderer, channel: str, first: int, count: int, size: int) -> None:
    """Broadcast so many events."""
    for number in range(first, first + count):
        ipc.broadcast(channel, *message(number, size))
        await ipc.drain()


def starve(_ipc: Ipc.Renderer, what: str) -> None:
    """Leave this process no descriptor, or no address space, beyond what it has."""
    if what == "descriptors":
        most = max(int(each) for each in os.listdir("/proc/self/fd"))  # noqa: PTH208
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        while True:
            try:
                os.open("/dev/null", os.O_RDONLY)
            except OSError:
                return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + 3 * 1024 * 1024, -1))


did_raise: list[str] = []


def raise_after(_ipc: Ipc.Renderer, where: str) -> None:
    """Have the next call that takes a slab raise when it returns, as if a signal's handler had."""
    owner: Any = handshake if where == "read_words" else Endpoint
    really = getattr(owner, where)

    def then_raise(*arguments: Any) -> Any:
        result = really(*arguments)
        if where != "read_words" or "slab" in result:
            setattr(owner, where, really)
            did_raise.append(where)
            raise InterruptedError("a signal's handler, as this test has it")
        return result

    setattr(owner, where, then_raise)


def raised(_ipc: Ipc.Renderer) -> list[str]:
    """Where it did."""
    return did_raise
