"""What tests of small messages beside large ones run in renderers."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import lab
import numpy as np

heard: list[None] = []  # an entry for each large event


def hear(ipc: Any) -> None:
    """Listen to large events."""
    ipc.listen("bulk", lambda _event, _array: heard.append(None))


async def ask_while_sending(ipc: Any, size: int, count: int) -> list[int]:
    """Broadcast large events; how many of them were begun while each request waited for its answer."""
    sent, waits, array = 0, [], np.ones(size, np.uint8)

    async def ask() -> None:
        while sent < count:
            before = sent
            await ipc.invoke("echo", before)
            waits.append(sent - before)
            await asyncio.sleep(0.001)

    asking = asyncio.create_task(ask())
    while sent < count:
        sent += 1
        ipc.broadcast("bulk", array)
        await ipc.drain()
    await asking
    return waits


async def ask_while_hearing(ipc: Any, count: int) -> list[int]:
    """How many large events are heard while each request waits for its answer."""
    waits = []
    for _ in range(count):
        before = len(heard)
        await ipc.invoke("echo", before)
        waits.append(len(heard) - before)
        await asyncio.sleep(0.003)
    return waits


async def count_rounds(ipc: Any) -> int:
    """How many rounds the loop has while one large event is received."""
    rounds, endpoint = 0, lab.core_of(ipc).endpoint
    while not heard:
        await asyncio.sleep(0)
        rounds += endpoint.assembling[0] is not None
    return rounds


async def send(ipc: Any, size: int, count: int, channel: str) -> None:
    """Broadcast arrays of ones."""
    for _ in range(count):
        ipc.broadcast(channel, np.ones(size, np.uint8))
        await ipc.drain()


def keep(ipc: Any, size: int, channel: str) -> None:
    """Broadcast one, to be kept."""
    ipc.broadcast(channel, np.ones(size, np.uint8), keep=True)


async def replayed(ipc: Any, channel: str) -> list[int]:
    """What the kept array consists of."""
    values: list[Any] = []
    ipc.listen(channel, lambda _event, array: values.append(np.unique(array).tolist()), replay=True)
    while not values:
        await asyncio.sleep(0.001)
    return list(values[0])


async def send_elsewhere(ipc: Any, size: int, count: int, channel: str) -> int:
    """Broadcast from another thread, each array full of its number; how many requests were answered meanwhile."""

    def broadcast() -> None:
        for number in range(count):
            ipc.broadcast(channel, np.full(size, number, np.uint8))

    thread, answers = threading.Thread(target=broadcast), 0
    thread.start()
    while thread.is_alive():
        await ipc.invoke("echo", answers)
        answers += 1
    return answers


async def rounds_while_draining(ipc: Any) -> int:
    """How often a callback of the loop runs while 10,000 events are sent, each with a drain behind it."""
    loop, rounds, over = asyncio.get_running_loop(), 0, False

    def again() -> None:
        nonlocal rounds
        rounds += 1
        if not over:
            loop.call_soon(again)

    again()
    for number in range(10_000):
        ipc.broadcast("n", number)
        await ipc.drain()
    over = True
    return rounds
