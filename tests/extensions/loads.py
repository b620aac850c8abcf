"""What renderers do while something goes wrong: run by the lab, as `loads:NAME`."""

from __future__ import annotations

import asyncio
import itertools
import mmap
import os
import random
import struct
import time
import zlib
from pathlib import Path
from typing import Any

import lab
import numpy as np

from lensipc import RendererProcess

COUNT = struct.Struct("=Q")


def payload(rng: random.Random) -> Any:
    """Something to send: mostly small, at times far larger than a ring."""
    kind = rng.random()
    if kind < 0.9:
        return rng.randbytes(rng.randrange(300))
    if kind < 0.98:
        return rng.randbytes(rng.randrange(20_000))
    return np.frombuffer(rng.randbytes(rng.randrange(600_000)), dtype=np.uint8)


def checksum(value: Any) -> int:
    """Of a payload."""
    return zlib.crc32(value)


async def everything(ipc: lab.IpcRenderer, seed: int, record: str) -> None:
    """Events, invokes, large arrays and changing subscriptions, until this process is killed.

    The file `record` holds how many events have gone into the ring: those are to be heard, whatever happens then.
    """
    rng = random.Random(seed)
    with Path(record).open("r+b") as file, mmap.mmap(file.fileno(), COUNT.size) as committed:
        await asyncio.gather(_events(ipc, rng, committed), _invokes(ipc, rng), _subscriptions(ipc, rng))


async def _events(ipc: lab.IpcRenderer, rng: random.Random, committed: mmap.mmap) -> None:
    endpoint = lab.core_of(ipc).endpoint
    for number in itertools.count(1):
        value = payload(rng)
        ipc.broadcast("load", number, checksum(value), value)
        if endpoint.outbox == 0:
            COUNT.pack_into(committed, 0, number)
        if number % 10 == 0:
            await ipc.drain()


async def _invokes(ipc: lab.IpcRenderer, rng: random.Random) -> None:
    for _ in range(20):
        ipc.invoke("hold").add_done_callback(lambda future: future.cancelled() or future.exception())
    while True:
        values = [payload(rng) for _ in range(rng.randrange(1, 20))]
        for value, (back,) in zip(
            values, await asyncio.gather(*(ipc.invoke("echo", value) for value in values)), strict=True
        ):
            assert checksum(value) == checksum(back)


async def _subscriptions(ipc: lab.IpcRenderer, rng: random.Random) -> None:
    while True:
        disposers = [ipc.listen(f"changing {rng.randrange(50)}", lambda *_: None) for _ in range(10)]
        ipc.broadcast(f"changing {rng.randrange(50)}", 1)
        await asyncio.sleep(0.001)
        for dispose in disposers:
            dispose()


async def witness(ipc: lab.IpcRenderer, seed: int, channel: str) -> dict[str, Any]:
    """Invoke without a pause until something is heard on `channel`: how often, how many were right, and how long."""
    rng, stop, asked, right, times = random.Random(seed), asyncio.Event(), 0, 0, []
    dispose = ipc.listen(channel, lambda *_: stop.set())
    while not stop.is_set():
        value = payload(rng)
        asked += 1
        started = time.perf_counter()
        (back,) = await ipc.invoke("echo", value)
        times.append(time.perf_counter() - started)
        right += checksum(value) == checksum(back)
        if asked % 20 == 0:
            await asyncio.sleep(0.002)  # they are many here, and are to leave the machine to what is tested
    dispose()
    return {"asked": asked, "right": right, "times": times}


async def connect_and_do_everything(path: str, seed: int, record: str) -> None:
    """The life of a renderer that connects by itself."""
    async with RendererProcess.connect(path):
        await everything(lab.IpcRenderer.get_instance(), seed, record)


def rss() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
