"""Threads that send, each in its order, beside the one that a process's lensipc objects belong to."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from lensipc import Ipc, OutboxFull

SIZE = 128 * 1024  # of int64: 1 MiB


def send(ipc: Ipc.Main | Ipc.Renderer, thread: int, small: int, arrays: int) -> None:
    """Broadcast so many small events, and arrays evenly among them; wait where too much waits already."""
    every = max(1, small // arrays) if arrays else small + 1
    buffer = np.empty(SIZE, "i8")
    for number in range(small):
        value: Any = number
        if number % every == 0 and number // every < arrays:
            buffer[:] = number  # the array that was sent before is no longer looked at
            value = buffer
        while True:
            try:
                ipc.broadcast("woven", thread, value)
                break
            except OutboxFull:
                time.sleep(0.001)


def start(ipc: Ipc.Main | Ipc.Renderer, threads: int, small: int, arrays: int) -> list[threading.Thread]:
    """Threads that `send`, started."""
    started = [threading.Thread(target=send, args=(ipc, each, small, arrays)) for each in range(threads)]
    for each in started:
        each.start()
    return started


async def weave(ipc: Ipc.Main | Ipc.Renderer, threads: int, small: int, arrays: int) -> None:
    """Have threads send, and wait for them."""
    for each in start(ipc, threads, small, arrays):
        await asyncio.to_thread(each.join)


class Ear:
    """Hears what was woven, and finds what is lost, torn or out of order."""

    def __init__(self) -> None:
        self.heard: defaultdict[int, int] = defaultdict(int)
        self.arrays = 0
        self.wrong: list[Any] = []

    def __call__(self, _event: Any, thread: int, value: Any) -> None:
        if isinstance(value, np.ndarray):
            self.arrays += 1
            if len(value) != SIZE or not (value == value[0]).all():
                self.wrong.append(("torn", thread, self.heard[thread]))
            value = int(value[0])
        if value != self.heard[thread]:
            self.wrong.append((thread, self.heard[thread], value))
        self.heard[thread] += 1

    def has_heard(self, threads: int, small: int) -> bool:
        """All that so many threads were to send. Nothing may be wrong so far."""
        assert self.wrong == []
        return dict(self.heard) == dict.fromkeys(range(threads), small)


async def call(ipc: Ipc.Renderer, values: Sequence[Any]) -> list[Any]:
    """Invoke `echo` in a thread, with each value, and wait for the outcomes there."""

    def work() -> list[Any]:
        return [ipc.invoke("echo", value, timeout=30).result(30) for value in values]  # type: ignore[call-arg]

    return await asyncio.to_thread(work)


async def listen_until(ipc: Ipc.Main | Ipc.Renderer, threads: int, small: int) -> int:
    """Listen until all has been heard that was to be sent; how many arrays."""
    ear = Ear()
    dispose = ipc.listen("woven", ear)
    while not ear.has_heard(threads, small):
        await asyncio.sleep(0.002)
    dispose()
    return ear.arrays


async def hear_own(ipc: Ipc.Renderer) -> list[Any]:
    """What a listener hears that was added, and disposed of, in threads."""
    heard: list[Any] = []
    dispose = await asyncio.to_thread(ipc.listen, "own", lambda _event, value: heard.append(value))
    await asyncio.to_thread(ipc.broadcast, "own", 1)
    while not heard:
        await asyncio.sleep(0.002)
    await asyncio.to_thread(dispose)
    await asyncio.to_thread(ipc.broadcast, "own", 2)
    await ipc.invoke("echo")
    return heard
