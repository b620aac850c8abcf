# SPDX-License-Identifier: MIT
"""`kill -9` at random instants under load: of renderers, or of main.

    python tests/faults/kills.py --who renderer --count 1000
    python tests/faults/kills.py --who main --count 500

Renderers: they send events, invoke, send large arrays and change their subscriptions, and are killed within 50 ms of
that, or anywhere between the start of their interpreter and then. What was in the ring is heard, whole and in order;
the handlers of their invokes are cancelled; two others invoke all the while, and every call is answered.

Main: renderers of its own work, and this process is one that connected, with invokes pending. They end with PeerGone;
the renderers that it had started end; the next main takes the same path.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import command
import lab
import loads
from command import Before, beat, runs, summary, until
from hosting import Host, hosting

from lensipc import PeerGone, RendererProcess, Types

AT_ONCE = 3


async def main(seed: int, count: int, who: str) -> dict[str, Any]:
    """So many kills."""
    return await (kill_renderers if who == "renderer" else kill_mains)(random.Random(seed), count)


class Ledger:
    """Main's side of the load: what it hears, and which handlers run for whom."""

    def __init__(self, host: Host) -> None:
        self.last: Counter[int] = Counter()  # event of each process
        self.heard = 0
        self.holding: Counter[int] = Counter()
        self.wrong: list[str] = []
        host.ipc.listen("load", self._on_load)
        host.ipc.handle("hold", self._on_hold)

    def _on_load(self, event: Types.IpcMainEvent, number: int, checksum: int, value: Any) -> None:
        self.heard += 1
        if number != self.last[event.pid] + 1:
            self.wrong.append(f"event {number} of {event.pid} after {self.last[event.pid]}")
        if loads.checksum(value) != checksum:
            self.wrong.append(f"event {number} of {event.pid} is not what was sent")
        self.last[event.pid] = number

    async def _on_hold(self, event: Types.IpcMainInvokeEvent) -> None:
        self.holding[event.pid] += 1
        try:
            await asyncio.sleep(3600)
        finally:
            self.holding[event.pid] -= 1


async def kill_renderers(rng: random.Random, count: int) -> dict[str, Any]:
    """Kill so many of them, a few at a time."""
    before = Before()
    told: list[float] = []
    kinds: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        async with hosting(2, path=Path(folder) / "main") as host:
            ledger, left = Ledger(host), iter(range(count))
            witnesses = [
                asyncio.create_task(host.ipc.run(each, "loads:witness", rng.getrandbits(32), "enough"))
                for each in host.renderers
            ]

            async def killer(number: int) -> None:
                victim = Victim(host, ledger, Path(folder) / f"record {number}")
                for _ in left:
                    beat()
                    kinds[await victim.live_and_die(random.Random(rng.getrandbits(64)), told)] += 1
                    assert ledger.wrong == []
                    assert not any(witness.done() for witness in witnesses)

            # The first dies alone, so that what is made once is made before anything is counted.
            await Victim(host, ledger, Path(folder) / "first").live_and_die(rng, [])
            with_witnesses = Before()
            await asyncio.gather(*(killer(number) for number in range(min(AT_ONCE, count))))
            await with_witnesses.again()
            assert len(host.main._runs) == len(host.main._core.connections) == 2
            assert +ledger.holding == Counter()
            host.ipc.broadcast("enough")
            results = await asyncio.gather(*witnesses)
            for result in results:
                assert result["asked"] == result["right"] > 0
            await host.main.uninstall("lab")
    await before.again()
    return {
        "kills": count,
        **kinds,
        "events heard": ledger.heard,
        "gone and its handlers cancelled, ms": summary(told),
        "others' calls": sum(result["asked"] for result in results),
        "others' calls answered": sum(result["right"] for result in results),
        "others' calls, ms": summary([each for result in results for each in result["times"]]),
    }


class Victim:
    """One renderer after another, each to be killed."""

    def __init__(self, host: Host, ledger: Ledger, record: Path) -> None:
        self.host = host
        self.ledger = ledger
        self.record = record

    async def live_and_die(self, rng: random.Random, told: list[float]) -> str:
        """Start one, let it work, kill it, and see that nothing is left of it."""
        self.record.write_bytes(bytes(loads.COUNT.size))
        if rng.random() < 0.6:
            handle = await self.host.main.spawn_renderer()
            self.host.ipc.broadcast("run", handle.pid, -1, "loads:everything", (rng.getrandbits(32), str(self.record)))
            await asyncio.sleep(rng.uniform(0, 0.05))
            pid, started = handle.pid, time.perf_counter()
            handle.kill()
            assert await handle.wait() == -signal.SIGKILL
            kind = "started by main"
        else:
            pid, started = await self._outsider(rng)
            kind = "connected by itself"
        await until(lambda: not any(each.pid == pid for each in self.host.main.renderers))
        await until(lambda: not self.ledger.holding[pid])
        told.append(time.perf_counter() - started)
        (committed,) = loads.COUNT.unpack(self.record.read_bytes())
        assert self.ledger.last[pid] >= committed, f"{committed} events were in the ring, {self.ledger.last[pid]} heard"
        del self.ledger.last[pid]  # a process id may come again
        return kind

    async def _outsider(self, rng: random.Random) -> tuple[int, float]:
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; import asyncio, loads; asyncio.run("
            f"loads.connect_and_do_everything({str(self.host.main.path)!r}, {rng.getrandbits(32)}, "
            f"{str(self.record)!r}))"
        )
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
        if rng.random() < 0.5:
            await until(lambda: self.ledger.last[process.pid] or process.returncode is not None)
            await asyncio.sleep(rng.uniform(0, 0.05))
        else:
            await asyncio.sleep(rng.uniform(0, 1.0))
        assert process.returncode is None, "it ended by itself"
        started = time.perf_counter()
        process.kill()
        await process.wait()
        return process.pid, started


# ---- main ----


def start_main(path: Path, renderers: int, *function: str) -> subprocess.Popen[str]:
    """A main process, listening at the path."""
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "serving.py"), str(path), str(renderers), *function],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


async def kill_mains(rng: random.Random, count: int) -> dict[str, Any]:
    """Kill so many, one after the other, at one path."""
    before = Before()
    failed: list[float] = []
    ended: list[float] = []
    accepted: list[float] = []
    welcomed: list[float] = []
    early = pending = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "main"
        record = Path(folder) / "record"
        record.write_bytes(bytes(loads.COUNT.size))
        for _ in range(count):
            beat()
            started = time.perf_counter()
            work = "loads:everything", f'[{rng.getrandbits(32)}, "{record}"]'
            with start_main(path, 2, *work) as process:
                if rng.random() < 0.2:  # before it is ready, or while it welcomes this process
                    early += 1
                    await asyncio.sleep(rng.uniform(0, 0.6))
                    killing = asyncio.get_running_loop().call_later(rng.uniform(0, 0.3), process.kill)
                    with suppress(OSError, PeerGone):
                        async with RendererProcess.connect(path) as renderer:
                            await renderer.wait_closed()
                    killing.cancel()
                    process.kill()
                    process.wait()
                    continue
                assert process.stdout is not None
                words = await asyncio.get_running_loop().run_in_executor(None, process.stdout.readline)
                pids = [int(word) for word in words.split()[1:]]
                assert len(pids) == 2
                ready = time.perf_counter()
                async with RendererProcess.connect(path) as renderer:
                    accepted.append(time.perf_counter() - started)
                    welcomed.append(time.perf_counter() - ready)
                    ipc = lab.IpcRenderer.get_instance()
                    waiting = [ipc.invoke("hold") for _ in range(20)]
                    waiting += [ipc.invoke("hold", timeout=3000) for _ in range(20)]
                    busy = asyncio.create_task(_busy(ipc, rng))
                    await asyncio.sleep(rng.uniform(0, 0.06))
                    killed = time.perf_counter()
                    os.kill(process.pid, signal.SIGKILL)
                    for outcome in await asyncio.gather(*waiting, return_exceptions=True):
                        assert isinstance(outcome, PeerGone), repr(outcome)
                    failed.append(time.perf_counter() - killed)
                    pending += len(waiting)
                    assert isinstance((await asyncio.gather(busy, return_exceptions=True))[0], PeerGone)
                    await renderer.wait_closed()
                    assert len(lab.core_of(ipc).pending_invokes) == 0
                process.wait()
                while any(map(runs, pids)):
                    await asyncio.sleep(0.001)
                ended.append(time.perf_counter() - killed)
        # Whoever was told of its death removed the socket, or the next main did. The last one killed early may leave
        # one, which only the next main could remove.
    await before.again()
    return {
        "kills": count,
        "before main was ready": early,
        "pending invokes": pending,
        "PeerGone after, ms": summary(failed),
        "main's renderers ended after, ms": summary(ended),
        "the next main has taken this process in, its start included, ms": summary(accepted),
        "of that, from its being ready, ms": summary(welcomed),
    }


async def _busy(ipc: lab.IpcRenderer, rng: random.Random) -> None:
    while True:
        value = loads.payload(rng)
        (back,) = await ipc.invoke("echo", value)
        assert loads.checksum(back) == loads.checksum(value)
        ipc.broadcast("load", value)


if __name__ == "__main__":
    command.run(__doc__, 1000, main, who=["renderer", "main"])
