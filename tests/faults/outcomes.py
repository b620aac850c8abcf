# SPDX-License-Identifier: MIT
"""Invokes of a random fate, each with exactly one outcome.

    python tests/faults/outcomes.py --count 1000000

Renderers invoke what returns, raises, is slow or is not there, with timeouts that meet the result half-way, and cancel
some. Meanwhile the extension is disabled and enabled, one renderer after another is killed, and another process comes,
invokes, and leaves. At the end no table has anything pending on either side, and no handler ran twice for one invoke.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import command
import fates
from command import Before, beat, until
from hosting import Host, hosting

from lensipc import RendererHandle

RENDERERS = 3
AT_ONCE = 200


async def main(seed: int, count: int) -> dict[str, Any]:
    """So many invokes."""
    rng, before = random.Random(seed), Before()
    with tempfile.TemporaryDirectory() as folder:
        async with hosting(RENDERERS, path=Path(folder) / "main") as host:
            await host.main.install(fates.MANIFEST)
            left = iter(range(0, count * 4 // 5, AT_ONCE))
            disturbances = Disturbances(host, rng)
            comers = asyncio.create_task(disturbances.come_and_go(max(AT_ONCE, count // 5)))
            others = [asyncio.create_task(each) for each in (disturbances.disable(), disturbances.kill())]
            outcomes: Counter[int] = Counter()
            late: dict[int, int] = {}

            async def work(renderer: RendererHandle) -> None:
                for first in left:
                    beat()
                    result = await host.ipc.run(renderer, "fates:batch", rng.getrandbits(32), first, AT_ONCE)
                    assert result["pending"] <= 1  # the lab's own, by which this result comes
                    assert len(result["outcomes"]) == AT_ONCE
                    late[renderer.pid] = result["late"]
                    outcomes.update(result["outcomes"])
                    for number, outcome in enumerate(result["outcomes"], first):
                        times = fates.executed[renderer.pid].pop(number, 0)
                        assert times == 1 if outcome in (fates.RESULT, fates.RAISED) else times <= 1

            await asyncio.gather(*(work(each) for each in host.renderers))
            disturbances.over = True
            outsiders = await comers
            await asyncio.gather(*others)
            for connection in host.main._core.connections.values():
                await until(lambda connection=connection: not connection.running)
                assert len(connection.own_requests) == 0
            assert all(times == 1 for counts in fates.executed.values() for times in counts.values())
            assert len(host.main._runs) == RENDERERS
    await before.again()
    total = outcomes + outsiders
    return {
        "invokes": sum(total.values()),
        **{name: total[number] for number, name in enumerate(fates.NAMES)},
        "late and dropped": sum(late.values()) + disturbances.late,
        "of them by those who left": sum(outsiders.values()),
        "disabled": disturbances.disabled,
        "killed with invokes pending": disturbances.killed,
    }


class Disturbances:
    """What happens meanwhile."""

    def __init__(self, host: Host, rng: random.Random) -> None:
        self.host = host
        self.rng = rng
        self.over = False
        self.disabled = self.killed = self.late = 0

    async def disable(self) -> None:
        """Disable the extension and enable it, from time to time."""
        while not self.over:
            await asyncio.sleep(2 * self.rng.random())
            await self.host.main.disable("fates")
            await asyncio.sleep(self.rng.random() * 0.02)
            await self.host.main.enable("fates")
            self.disabled += 1

    async def kill(self) -> None:
        """Kill renderers that have invokes pending."""
        while not self.over:
            with suppress(Exception):  # its part may be disabled while it starts
                victim = await self.host.main.spawn_renderer()
                seed = self.rng.getrandbits(32)
                self.host.ipc.broadcast("run", victim.pid, -1, "fates:batch", (seed, 0, AT_ONCE))
                await asyncio.sleep(self.rng.random() * 0.1)
                victim.kill()
                await victim.wait()
                await until(lambda victim=victim: victim not in self.host.main.renderers)
                self.killed += 1
                fates.executed.pop(victim.pid, None)
            await asyncio.sleep(self.rng.random())

    async def come_and_go(self, count: int) -> Counter[int]:
        """Another process that connects, invokes and leaves; what its invokes came to."""
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; import asyncio, fates; "
            f"asyncio.run(fates.come_and_go({str(self.host.main.path)!r}, {self.rng.getrandbits(32)}, {count}, 100))"
        )
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
        said, _ = await process.communicate()
        assert process.returncode == 0
        *numbers, self.late = map(int, said.split())
        fates.executed.pop(process.pid, None)  # the same numbers again with each connection
        return Counter(dict(enumerate(numbers)))


if __name__ == "__main__":
    command.run(__doc__, 1_000_000, main)
