# SPDX-License-Identifier: MIT
"""Eight renderers that work, one after another killed, one extension that comes and goes: for as long as you like.

    python tests/faults/soak.py --minutes 60 --count 8

Nothing goes wrong, and main's memory and the renderers' do not grow: how much they do, in bytes an hour, is reported.
A minute says nothing of that: the first half is warming up, and a large array more or less is a megabyte.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import command
import passing
from command import Before, beat, summary
from hosting import hosting
from kills import Ledger, Victim
from loads import rss


async def main(seed: int, count: int, minutes: float) -> dict[str, Any]:
    """So many renderers, for so long."""
    rng, before, kills, changes = random.Random(seed), Before(), 0, 0
    samples: list[tuple[float, int]] = []
    times: list[float] = []
    calls: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        async with hosting(count, path=Path(folder) / "main") as host:
            await host.main.install(passing.MANIFEST)
            ledger = Ledger(host)
            victim = Victim(host, ledger, Path(folder) / "record")
            end = time.monotonic() + 60 * minutes
            renderers: dict[int, list[int]] = {each.pid: [] for each in host.renderers}
            while time.monotonic() < end:
                rounds = [
                    asyncio.create_task(host.ipc.run(each, "loads:witness", rng.getrandbits(32), "enough"))
                    for each in host.renderers
                ]
                until = min(end, time.monotonic() + 30)
                while time.monotonic() < until:
                    beat()
                    await victim.live_and_die(random.Random(rng.getrandbits(64)), times)
                    kills += 1
                    await host.main.disable("passing")
                    await host.main.enable("passing")
                    changes += 1
                host.ipc.broadcast("enough")
                for result in await asyncio.gather(*rounds):
                    assert result["asked"] == result["right"]
                    calls["asked"] += result["asked"]
                assert ledger.wrong == []
                samples.append((time.monotonic(), rss()))
                for each in host.renderers:
                    renderers[each.pid].append(await host.ipc.run(each, "passing:memory"))
    await before.again()
    hours = (samples[-1][0] - samples[0][0]) / 3600
    return {
        "calls answered": calls["asked"],
        "kills": kills,
        "changes of state": changes,
        "events heard": ledger.heard,
        "gone and its handlers cancelled, ms": summary(times),
        "main grows by, bytes an hour": growth([memory for _, memory in samples], hours),
        "a renderer grows by at most, bytes an hour": max(growth(each, hours) for each in renderers.values()),
    }


def growth(memory: list[int], hours: float) -> int:
    """Bytes an hour, from the third quarter of so many hours to the last: the least in each, for more is on its way."""
    quarter = len(memory) // 4
    if not quarter:
        return 0
    return round((min(memory[-quarter:]) - min(memory[-2 * quarter : -quarter])) / (hours / 4))


if __name__ == "__main__":
    command.run(__doc__, 8, main, minutes=60.0)
