# SPDX-License-Identifier: MIT
"""What an honest renderer notices of a hostile one: how long its invokes take, before and meanwhile.

    python tests/faults/neighbours.py --count 1 --seconds 3

For each attack of tests/hostile/outside.py, from a process of its own: the neighbour's calls are all answered, main's
memory stays within what one renderer may have, and everything that was the attacker's is gone afterwards.

A neighbour also waits for a processor, and where it shares one the kernel may let it wait a tick (4 ms at 250 Hz). So
main has one for itself here, the neighbour shares another with the attacker, and the same is measured with company that
does no harm in the attacker's place: a process that is merely busy, and an honest renderer that sends all it can. What
is main's own doing is how long it works for others before the neighbour has its turn: its processor time for each turn.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import command
from command import TESTS, Before, beat, summary
from hosting import Host, hosting
from loads import rss

from lensipc.main.connection import RendererConnection
from lensipc.runtime.protocol import MAX_CHANNELS, MAX_NAMES

LIMITS = {"high_water": 1024 * 1024, "outbox_limit": 8 * 1024 * 1024, "message_limit": 16 * 1024 * 1024}
# What main may grow by: an outbox, a message, the most channels and their names, and what allocators keep of it.
GROWTH = 2 * (LIMITS["outbox_limit"] + LIMITS["message_limit"]) + 2 * (MAX_NAMES + 1024 * MAX_CHANNELS)
HARMLESS = ("nobody", "busy", "honest")
ATTACKS = (
    "floods_events",
    "floods_async_listeners",
    "floods_costly_events",
    "floods_costly_values",
    "floods_invokes",
    "floods_invokes_and_reads_nothing",
    "declares",
    "subscribes",
    "wakes",
    "flips_bits",
    "connects",
    "leaves_at_once",
    "at_random",
)


async def main(seed: int, count: int, seconds: float) -> dict[str, Any]:
    """So many rounds of all attacks."""
    _ = random.Random(seed)
    before, result = Before(), {}
    cores = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as folder:
        async with hosting(1, path=Path(folder) / "main", **LIMITS) as host:
            host.ipc.listen("flooded", lambda *_: None)
            host.ipc.listen("flooded slowly", lambda *_: asyncio.sleep(0.5))
            host.ipc.listen("costly", lambda *_: None)
            await host.ipc.run(host.renderers[0], "note_count", "flooded")
            for core, pid in zip(cores, (0, host.renderers[0].pid), strict=False):
                os.sched_setaffinity(pid, {core})
            calm = Before()
            for _ in range(count):
                for name in (*HARMLESS, *ATTACKS):
                    result[name] = await beside(host, name, seconds)
                    await calm.again()
    await before.again()
    for each in result.values():
        each["p99, times that beside a busy process"] = round(each["ms"]["p99"] / result["busy"]["ms"]["p99"], 2)
    return result


@asynccontextmanager
async def company(host: Host, name: str) -> AsyncIterator[None]:
    """Have an attacker, or other company, while the neighbour asks."""
    if name == "nobody":
        yield
    elif name == "honest":
        renderer = await host.main.spawn_renderer()
        share(host, renderer.pid)
        host.ipc.broadcast("run", renderer.pid, -1, "tallies:flood", ("flooded", 100))
        yield
        await renderer.close()
    else:
        busy = ["-c", "print('attacking', flush=True)\nwhile True: pass"]
        attack = [str(TESTS / "hostile" / "outside.py"), str(host.main.path), name]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *(busy if name == "busy" else attack), stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        share(host, process.pid)
        assert await process.stdout.readline() == b"attacking\n"
        yield
        assert process.returncode is None, "the attacker has given up"
        process.kill()
        await process.communicate()


def share(host: Host, pid: int) -> None:
    """Have this process share the neighbour's processor."""
    os.sched_setaffinity(pid, os.sched_getaffinity(host.renderers[0].pid))


@contextmanager
def turns_of_others(frame_id: int) -> Iterator[list[float]]:
    """How long main works for others than this renderer, each time before it looks at the next one."""
    took: list[float] = []
    pump = RendererConnection.pump

    def timed(self: RendererConnection, budget: int, until: float | None = None) -> int:
        started = time.thread_time()
        try:
            return pump(self, budget, until)
        finally:
            if self.frame_id != frame_id:
                took.append(time.thread_time() - started)

    RendererConnection.pump = timed  # type: ignore[method-assign, assignment]
    try:
        yield took
    finally:
        RendererConnection.pump = pump  # type: ignore[method-assign]


async def beside(host: Host, name: str, seconds: float) -> dict[str, Any]:
    """What the neighbour notices of this company."""
    (neighbour,) = host.renderers
    memory = most = rss()
    came = next(host.main._frame_ids)
    with turns_of_others(neighbour.frame_id) as turns:
        async with company(host, name):
            asking = asyncio.create_task(host.ipc.run(neighbour, "tallies:ask", seconds))
            while not asking.done():
                beat()
                await asyncio.sleep(0.01)
                most = max(most, rss())
            times = await asking
    await command.until(lambda: host.main.renderers == [neighbour])
    for port in host.main._core.ports.values():
        assert all(len(channel.topic) <= 1 for channel in port.table.channels.values())
    assert await host.ipc.run(neighbour, "invoke", "echo", 1) == (1,)
    assert most - memory < GROWTH, f"main has grown by {most - memory}"
    return {
        "calls": len(times),
        "ms": summary(times),
        "main's time for a turn of others, ms": summary(turns),
        "came": next(host.main._frame_ids) - came,
        "main grew by": most - memory,
    }


if __name__ == "__main__":
    command.run(__doc__, 1, main, seconds=3.0)
