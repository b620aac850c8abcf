# SPDX-License-Identifier: MIT
"""Many renderers flood main with events, and a quiet one has its share all the same.

    python tests/faults/flood.py --count 64 --seconds 5

Main serves its renderers in turns. The quiet one sends bursts longer than a turn: between two of its events that lie
next to each other, main handles no more of the others' than a round of turns.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import command
from command import Before, beat, summary
from hosting import hosting

from lensipc.main.core import MESSAGES_PER_TURN

BURST = 3 * MESSAGES_PER_TURN


async def main(seed: int, count: int, seconds: float) -> dict[str, Any]:
    """So many flood."""
    _ = random.Random(seed)  # nothing here is random but the machine
    before = Before()
    async with hosting(1) as host:
        (quiet,) = host.renderers
        calm = await host.ipc.run(quiet, "tallies:ask", min(seconds, 2.0))
        handled = last = widest = bursts = 0

        def on_flood(*_: Any) -> None:
            nonlocal handled
            handled += 1

        def on_quiet(_event: Any, number: int) -> None:
            nonlocal last, widest, bursts
            if number == 0:
                bursts += 1
            elif bursts:
                widest = max(widest, handled - last)
            last = handled

        host.ipc.listen("flood", on_flood)
        host.ipc.listen("quiet", on_quiet)
        flooders = []
        for first in range(0, count, 8):  # interpreters that start are a flood of another kind
            beat()
            flooders += await asyncio.gather(*(host.main.spawn_renderer() for _ in range(min(8, count - first))))
        for flooder in flooders:
            host.ipc.broadcast("run", flooder.pid, -1, "tallies:flood", ("flood", 100))
        while handled < 1000 * count:
            beat()
            await asyncio.sleep(0.01)
        handled_then, started = handled, asyncio.get_running_loop().time()
        busy = await host.ipc.run(quiet, "tallies:ask", seconds)
        rate = (handled - handled_then) / (asyncio.get_running_loop().time() - started)
        beat()
        await host.ipc.run(quiet, "tallies:burst", 5, BURST)
        assert bursts == 5
        bound = (count + 1) * MESSAGES_PER_TURN
        assert widest <= bound, f"{widest} events of others between two of the quiet one's, where {bound} make a round"
        host.ipc.broadcast("enough")
        assert len(host.main.renderers) == count + 1
    await before.again()
    return {
        "flooders": count,
        "their events/s": round(rate),
        "events of others between two of the quiet one's": widest,
        "at most": bound,
        "its invokes while nobody floods": len(calm),
        "ms while nobody floods": summary(calm),
        "its invokes in the flood": len(busy),
        "ms in the flood": summary(busy),
    }


if __name__ == "__main__":
    command.run(__doc__, 64, main, seconds=5.0)
