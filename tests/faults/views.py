# SPDX-License-Identifier: MIT
"""Four renderers keep random views for random times, and one of them is killed every second: each view is right to its
end, and all memory comes back.

    python tests/faults/views.py --count 10000000 --every 1

Main broadcasts arrays of 0 to 4 MiB, many of them around 64 KiB and around a multiple of a page, each with its CRC.
Slabs that are idle go back to the kernel five times a second, so renderers map and unmap them all the time.
"""

from __future__ import annotations

import asyncio
import random
import time
import zlib
from typing import Any, Final

import command
import numpy as np
from command import Before, beat, until
from hosting import Host, hosting

from lensipc import RendererHandle
from lensipc.main import slab_pool

RENDERERS: Final = 4
MIB: Final = 1 << 20
LARGEST: Final = 4 * MIB
LIMITS: Final = {"pool_limit": 48 * MIB, "high_water": 2 * MIB}
# Of the pool, instead of 10 s and 16 MiB: idle slabs go back soon, and none is kept.
POOL: Final = {"IDLE": 0.2, "KEPT": 0}


class Sender:
    """Main, which broadcasts, kills and starts renderers."""

    def __init__(self, host: Host, seed: int) -> None:
        self.host = host
        self.rng = random.Random(seed)
        self.bytes = np.random.default_rng(seed).integers(0, 256, 2 * LARGEST, np.uint8)
        self.sent = self.kills = 0
        self.views = self.seen = 0  # events that lay in place, for those that were killed, and for the others

    def size(self) -> int:
        """A random one."""
        rng = self.rng
        around = rng.choice([0, 65536, 4096 * rng.randrange(1, 128), int(2 ** rng.uniform(0, 22))])
        return min(LARGEST, max(0, around + rng.choice([-300, -1, 0, 0, 1, rng.randrange(300)])))

    def broadcast(self, size: int) -> None:
        """The next event."""
        at = self.rng.randrange(len(self.bytes) - size + 1)
        array = self.bytes[at : at + size]
        self.host.ipc.broadcast("n", self.sent, array, zlib.crc32(array.data))
        self.sent += 1

    async def run(self, renderer: RendererHandle, function: str, *args: Any) -> Any:
        """Run a function of viewing.py there."""
        return await self.host.ipc.run(renderer, f"viewing:{function}", *args)

    async def begin(self, renderer: RendererHandle) -> None:
        """Have a renderer keep views."""
        await self.run(renderer, "keep_at_random", self.rng.getrandbits(32))

    async def check(self, renderer: RendererHandle, last: int) -> int:
        """What it has heard by then was right; how much of it lay in place."""
        told = await self.run(renderer, "reached", last)
        assert told["wrong"] == [], told["wrong"]
        return int(told["in place"])

    async def kill_one(self) -> None:
        """Kill one of the renderers at a random instant, and start another."""
        renderers = self.host.renderers
        victim = renderers.pop(self.rng.randrange(len(renderers)))
        self.views += await self.check(victim, -1)
        await asyncio.sleep(self.rng.uniform(0, 0.02))
        victim.kill()
        await victim.wait()
        self.kills += 1
        renderers.append(await self.host.main.spawn_renderer())
        await self.begin(renderers[-1])

    async def send(self, count: int, every: float) -> None:
        """So many events, or more until one was killed."""
        killing = asyncio.ensure_future(asyncio.sleep(0))
        next_kill = time.monotonic() + every
        while self.sent < count or not self.kills:
            beat()
            self.broadcast(self.size())
            if self.rng.randrange(3) == 0:
                await self.host.ipc.drain()
            await asyncio.sleep(0)
            if killing.done() and time.monotonic() >= next_kill:
                await killing
                killing, next_kill = asyncio.ensure_future(self.kill_one()), time.monotonic() + every
        await killing

    async def at_rest(self) -> list[tuple[int, int]]:
        """Once each renderer has had a view, and keeps none: the descriptors of each, and what it has mapped."""
        ipc, main, renderers = self.host.ipc, self.host.main, self.host.renderers
        while True:
            self.broadcast(MIB)
            await ipc.drain()
            views = [await self.check(each, self.sent - 1) for each in renderers]
            for each in renderers:
                await self.run(each, "drop")
            if all(views):
                break
        await until(lambda: not main.pool.blocks and not main.pool.slabs)
        assert main.pool.holders == {}
        self.seen = sum(views)
        used: list[tuple[int, int]] = [tuple(await self.run(each, "used")) for each in renderers]
        return used


async def main(seed: int, count: int, every: float) -> dict[str, Any]:
    """So many events."""
    for name, value in POOL.items():
        setattr(slab_pool, name, value)
    before = Before()
    async with hosting(RENDERERS, **LIMITS) as host:
        sender = Sender(host, seed)
        for each in host.renderers:
            await sender.begin(each)
        (used,) = set(await sender.at_rest())
        within = Before()
        await sender.send(count, every)
        assert set(await sender.at_rest()) == {used}
        await within.again(but="children")
    await before.again()
    return {
        "events": sender.sent,
        "kills": sender.kills,
        "events that renderers read in place": sender.views + sender.seen,
    }


if __name__ == "__main__":
    command.run(__doc__, 10_000_000, main, every=1.0)
