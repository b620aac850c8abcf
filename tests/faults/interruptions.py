# SPDX-License-Identifier: MIT
"""Signals with a Python handler at random instants, in main and in renderers: no message is lost, or comes twice.

python tests/faults/interruptions.py --count 10000
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import command
import signalled
from command import Before, beat
from hosting import hosting

RUNS = {
    "a script woken by its socket": "script(path, seed, count, 'socket')",
    "a script woken by a semaphore": "script(path, seed, count, 'semaphore')",
    "an event loop": "asyncio.run(loop(path, seed, count))",
}


async def main(seed: int, count: int) -> dict[str, Any]:
    """So many signals in each kind of renderer, and more in main."""
    rng, before = random.Random(seed), Before()
    result = {name: await interrupted(rng, run, count) for name, run in RUNS.items()}
    await before.again()
    return result


async def interrupted(rng: random.Random, run: str, count: int) -> dict[str, int]:
    """One renderer, and main."""
    sent, ready, over, finished = 0, asyncio.Event(), asyncio.Event(), asyncio.Event()
    with tempfile.TemporaryDirectory() as folder:
        async with hosting(path=Path(folder) / "main") as host:
            listener = signalled.Listener(host.ipc, "up")

            async def on_over(_event: Any, expected: int) -> tuple[int]:
                over.set()
                await finished.wait()
                await command.until(lambda: listener.heard == expected)
                return (sent,)

            host.ipc.handle("ready", lambda _event: ready.set())
            host.ipc.handle("over", on_over)
            code = (
                f"import sys; sys.path[:] = {sys.path!r}; import asyncio; from signalled import *; "
                f"path, seed, count = {str(host.main.path)!r}, {rng.getrandbits(32)}, {count}; {run}"
            )
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
            await ready.wait()
            signals = signalled.Signals(rng.getrandbits(32), 10**9)
            while not over.is_set():
                beat()
                for _ in range(5):
                    sent += 1
                    host.ipc.broadcast("down", sent, bytes(sent % 5000))
                await host.ipc.drain()
                await asyncio.sleep(0.0005)
            finished.set()
            said, _ = await process.communicate()
            signal.signal(signal.SIGALRM, signal.SIG_IGN)  # the last one may be on its way, and would arm the timer
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert process.returncode == 0
    handled, up, heard, wrong, calls = map(int, said.split())
    assert (heard, wrong) == (sent, 0)
    assert (listener.heard, listener.wrong) == (up, 0)
    return {
        "signals": handled,
        "signals in main": signals.handled,
        "events up": up,
        "events down": heard,
        "invokes": calls,
    }


if __name__ == "__main__":
    command.run(__doc__, 10_000, main)
