# SPDX-License-Identifier: MIT
"""What an honest renderer notices of a hostile one: how long its invokes take, before and meanwhile.

    python tests/faults/neighbours.py --count 1 --seconds 3

For each attack of tests/hostile/outside.py, from a process of its own: the neighbour's calls are all answered, main's
memory stays within what one renderer may have, and everything that was the attacker's is gone afterwards.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import command
from command import TESTS, Before, beat, summary
from hosting import Host, hosting
from loads import rss

from lensipc.message import MAX_CHANNELS, MAX_NAMES

LIMITS = {"high_water": 1024 * 1024, "outbox_limit": 8 * 1024 * 1024, "message_limit": 16 * 1024 * 1024}
# What main may grow by: an outbox, a message, the most channels and their names, and what allocators keep of it.
GROWTH = 2 * (LIMITS["outbox_limit"] + LIMITS["message_limit"]) + 2 * (MAX_NAMES + 1024 * MAX_CHANNELS)
NAMES = (
    "floods_events",
    "floods_async_listeners",
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
    with tempfile.TemporaryDirectory() as folder:
        async with hosting(1, path=Path(folder) / "main", **LIMITS) as host:
            host.ipc.listen("flooded", lambda *_: None)
            host.ipc.listen("flooded slowly", lambda *_: asyncio.sleep(0.5))
            await host.ipc.run(host.renderers[0], "note_count", "flooded")
            quiet = summary(await host.ipc.run(host.renderers[0], "tallies:ask", seconds))
            calm = Before()
            for _ in range(count):
                for name in NAMES:
                    result[name] = await attacked(host, name, seconds, quiet["p99"])
                    await calm.again()
    await before.again()
    return {"quiet, ms": quiet, "attacked": result}


async def attacked(host: Host, name: str, seconds: float, quiet: float) -> dict[str, Any]:
    """By one."""
    (neighbour,) = host.renderers
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(TESTS / "hostile" / "outside.py"),
        str(host.main.path),
        name,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"attacking\n"
    memory = most = rss()
    came = next(host.main._frame_ids)
    asking = asyncio.create_task(host.ipc.run(neighbour, "tallies:ask", seconds))
    while not asking.done():
        beat()
        await asyncio.sleep(0.01)
        most = max(most, rss())
    times = await asking
    assert process.returncode is None, "the attacker has given up"
    process.kill()
    await process.communicate()
    await command.until(lambda: host.main.renderers == [neighbour])
    router = host.main._router
    for port in router.ports.values():
        assert all(len(channel.topic) <= 1 for channel in port.table.channels.values())
    assert await host.ipc.run(neighbour, "invoke", "echo", 1) == (1,)
    assert most - memory < GROWTH, f"main has grown by {most - memory}"
    measured = summary(times)
    return {
        "calls": len(times),
        "ms": measured,
        "p99 times": round(measured["p99"] / quiet, 1),
        "came": next(host.main._frame_ids) - came,
        "main grew by": most - memory,
    }


if __name__ == "__main__":
    command.run(__doc__, 1, main, seconds=3.0)
