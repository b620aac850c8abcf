# SPDX-License-Identifier: MIT
"""SIGSTOP and SIGCONT at random instants, of renderers and of main: no wake is lost, and nobody is taken for dead.

python tests/faults/stops.py --count 100
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import tempfile
from pathlib import Path
from typing import Any

import command
import lab
import loads
import tallies
from command import Before, beat
from hosting import hosting
from kills import start_main

from lensipc import RendererProcess

RENDERERS = 3


async def main(seed: int, count: int, longest: float) -> dict[str, Any]:
    """So many stops of renderers, and as many of main, each of at most so many seconds."""
    rng, before = random.Random(seed), Before()
    result = {"renderers": await stop_renderers(rng, count, longest), "main": await stop_main(rng, count, longest)}
    await before.again()
    return {"stops of each": count, **result}


async def stop_renderers(rng: random.Random, count: int, longest: float) -> dict[str, int]:
    """Main goes on sending, with pauses in which everybody sleeps; the renderers go on invoking."""
    async with hosting(RENDERERS) as host:
        for renderer in host.renderers:
            await host.ipc.run(renderer, "tallies:tally", "n")
        witnesses = [
            asyncio.create_task(host.ipc.run(each, "loads:witness", rng.getrandbits(32), "enough"))
            for each in host.renderers
        ]
        sent = 0

        async def send() -> None:
            nonlocal sent
            while True:
                for _ in range(rng.randrange(1, 50)):
                    host.ipc.broadcast("n", sent, bytes(rng.randrange(200)))
                    sent += 1
                await host.ipc.drain()
                await asyncio.sleep(rng.choice([0, 0.001, 0.02]))

        sending = asyncio.create_task(send())
        for _ in range(count):
            beat()
            await asyncio.sleep(rng.random() * 0.02)
            victim = rng.choice(host.renderers)
            os.kill(victim.pid, signal.SIGSTOP)
            await asyncio.sleep(rng.choice([0, rng.random() * 0.01, rng.random() * longest]))
            os.kill(victim.pid, signal.SIGCONT)
            assert not sending.done()
        sending.cancel()
        for renderer in host.renderers:
            told = await host.ipc.run(renderer, "tallies:told", "n", sent - 1)
            assert told == {"heard": sent, "missed": 0, "wrong": 0, "last": sent - 1}
        host.ipc.broadcast("enough")
        results = await asyncio.gather(*witnesses)
        assert all(result["asked"] == result["right"] for result in results)
        assert host.main.renderers == host.renderers
    return {"events": sent, "invokes": sum(result["asked"] for result in results)}


async def stop_main(rng: random.Random, count: int, longest: float) -> dict[str, int]:
    """A renderer that connected goes on invoking, and broadcasts to itself by way of main."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "main"
        with start_main(path, 1, "invoke_until_gone", "[]") as process:
            assert process.stdout is not None
            await asyncio.get_running_loop().run_in_executor(None, process.stdout.readline)
            async with RendererProcess.connect(path) as renderer:
                ipc = lab.IpcRenderer.get_instance()
                kept, sent, asked, over = tallies.Tally(ipc, "n", "disconnect"), 0, 0, False

                async def work() -> None:
                    nonlocal sent, asked
                    while not over:
                        value = loads.payload(rng)
                        (back,) = await ipc.invoke("echo", value)
                        assert loads.checksum(back) == loads.checksum(value)
                        asked += 1
                        ipc.broadcast("n", sent)
                        sent += 1
                        await asyncio.sleep(rng.choice([0, 0, 0.001, 0.02]))

                working = asyncio.create_task(work())
                for _ in range(count):
                    beat()
                    await asyncio.sleep(rng.random() * 0.02)
                    os.kill(process.pid, signal.SIGSTOP)
                    await asyncio.sleep(rng.choice([0, rng.random() * 0.01, rng.random() * longest]))
                    os.kill(process.pid, signal.SIGCONT)
                    assert not working.done()
                over = True
                await working
                await command.until(lambda: kept.heard == sent)
                assert (kept.wrong, kept.missed) == (0, 0)
                assert renderer.connected
                assert len(lab.core_of(ipc).pending_invokes) == 0
            assert process.stdin is not None
            process.stdin.close()
        assert process.returncode == 0
    return {"events": sent, "invokes": asked}


if __name__ == "__main__":
    command.run(__doc__, 100, main, longest=5.0)
