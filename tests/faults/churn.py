# SPDX-License-Identifier: MIT
"""Coming and going a great many times: memory stays flat, and everybody hears each event once.

python tests/faults/churn.py --what attach --count 10000
python tests/faults/churn.py --what listen --count 1000000
python tests/faults/churn.py --what enable --count 1000
"""

from __future__ import annotations

import asyncio
import gc
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import command
import lab
import passing
from command import Before, beat
from hosting import Host, hosting
from loads import rss

RENDERERS = 2
STEADY = 5
# What a process may grow by after the first fifth: no single thing that is kept each time would fit in that.
GROWTH = 1024 * 1024
# What may wait to be sent, on a machine that is slow at the moment, is to be little beside that.
HIGH_WATER = 64 * 1024


async def main(seed: int, count: int, what: str) -> dict[str, Any]:
    """So many times."""
    before, rng = Before(), random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        async with hosting(RENDERERS, path=Path(folder) / "main", high_water=HIGH_WATER) as host:
            result = await {"attach": attach, "listen": listen, "enable": enable}[what](host, rng, count)
    await before.again()
    grown = [value for name, value in result.items() if "grown" in name]
    assert max(grown) < GROWTH, grown
    return {what: count, **result}


class Broadcasts:
    """Main broadcasts all the while; its listeners that stay, and the renderers', hear each event once."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.steady = passing.Steady(host.ipc, STEADY)
        self.sent = 0
        self.over = False

    async def run(self) -> None:
        """Until it is over."""
        while not self.over:
            for _ in range(10):
                self.sent += 1
                self.host.ipc.broadcast("steady", self.sent)
            await self.host.ipc.drain()
            await asyncio.sleep(0.002)
            beat()

    async def check(self) -> None:
        """All have heard all, once."""
        assert (self.steady.last, self.steady.wrong) == ([self.sent] * STEADY, 0)
        for renderer in self.host.renderers:
            result = await self.host.ipc.run(renderer, "passing:steady_heard", self.sent)
            assert result == {"last": [self.sent] * STEADY, "wrong": 0}


async def attach(host: Host, _rng: random.Random, count: int) -> dict[str, Any]:
    """Renderers come and go."""
    for renderer in host.renderers:
        await host.ipc.run(renderer, "passing:steady", STEADY)
    broadcasts = Broadcasts(host)
    running = asyncio.create_task(broadcasts.run())
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; import passing; "
        f"passing.attach_and_detach({str(host.main.path)!r}, {count})"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    ended = asyncio.create_task(process.communicate())
    warm = None
    while not ended.done():
        await asyncio.sleep(0.01)
        if warm is None and max(host.main._runs) > count // 5:
            warm = Before(), rss()
    assert process.returncode == 0
    assert warm is not None
    broadcasts.over = True
    await running
    await broadcasts.check()
    await until_only_ours(host)
    gc.collect()
    return {
        "broadcasts": broadcasts.sent,
        "main has grown by": rss() - warm[1],
        "the renderer has grown by": int((await ended)[0]),
    }


async def until_only_ours(host: Host) -> None:
    """Until all others have gone."""
    await command.until(lambda: len(host.main._runs) == len(host.main._core.connections) == RENDERERS)
    for port in host.main._core.ports.values():
        for channel in port.table.channels.values():
            assert len(channel.topic) <= RENDERERS


async def listen(host: Host, rng: random.Random, count: int) -> dict[str, Any]:
    """Listeners come and go, in main and in the renderers at once."""
    for renderer in host.renderers:
        await host.ipc.run(renderer, "passing:steady", STEADY)
    broadcasts = Broadcasts(host)
    running = asyncio.create_task(broadcasts.run())
    share = count // (1 + RENDERERS)
    results = await asyncio.gather(
        passing.listen_and_dispose(host.ipc, rng.getrandbits(32), count - RENDERERS * share),
        *(
            host.ipc.run(renderer, "passing:listen_and_dispose", rng.getrandbits(32), share)
            for renderer in host.renderers
        ),
    )
    broadcasts.over = True
    await running
    await broadcasts.check()
    assert [result["wrong"] for result in results] == [0] * (1 + RENDERERS)
    return {
        "broadcasts": broadcasts.sent,
        "calls of those who came and went": sum(result["called"] for result in results),
        "calls after the disposer returned": 0,
        "main has grown by": results[0]["rss"],
        "a renderer has grown by": max(result["rss"] for result in results[1:]),
    }


async def enable(host: Host, _rng: random.Random, count: int) -> dict[str, Any]:
    """An extension is enabled and disabled."""
    await host.main.install(passing.MANIFEST)
    warm: list[int] = []
    for number in range(count):
        beat()
        ipc = passing.IpcMain.get_instance()
        ipc.broadcast("news", number)
        await ipc.drain()
        assert await passing.take_heard(ipc, 1) == [number]
        for renderer in host.renderers:
            assert await host.ipc.run(renderer, "passing:take_heard", 1) == [number]
        await host.main.disable("passing")
        await host.main.enable("passing")
        if number == count // 5:
            warm = [rss(), *[await host.ipc.run(each, "passing:memory") for each in host.renderers]]
    grown = [await host.ipc.run(each, "passing:memory") for each in host.renderers]
    gc.collect()
    assert lab.IpcMain.get_instance() is host.ipc
    return {
        "main has grown by": rss() - warm[0],
        "a renderer has grown by": max(now - then for now, then in zip(grown, warm[1:], strict=True)),
    }


if __name__ == "__main__":
    command.run(__doc__, 10_000, main, what=["attach", "listen", "enable"])
