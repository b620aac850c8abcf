# SPDX-License-Identifier: MIT
"""Programs that end with everything open: their exit status is 0, and nothing of them stays.

python tests/faults/exits.py --count 1000

How long each takes to end is counted from where its own code is over (`over()`) until it has ended, and what it had
started, which holds its output open, too. What comes before is the interpreter's start, its imports, and its work.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import command
from command import Before, beat, summary
from hosting import hosting

# Each ends in its own way. `path` is a main's where it is a renderer, and its own where it is a main.
RENDERERS = {
    "a script falls off its end": """
        renderer = RendererProcess.connect(path)
        renderer.__enter__()
        ipc = lab.IpcRenderer.get_instance()
        ipc.listen("n", print)
        waiting = [ipc.invoke("sleep", 60) for _ in range(5)]
        ipc.broadcast("n", bytes(100_000))
        over()
    """,
    "a signal ends a script with a semaphore in a listener": """
        renderer = RendererProcess.connect(path, wakeup="semaphore")
        renderer.__enter__()
        ipc = lab.IpcRenderer.get_instance()
        ipc.listen("n", lambda *_: (over(), signal.raise_signal(signal.SIGTERM)))
        ipc.broadcast("n")
        renderer.run_forever()
    """,
    "a script leaves a daemon thread behind that uses the connection": """
        def work():
            with RendererProcess.connect(path) as renderer:
                ipc = lab.IpcRenderer.get_instance()
                while True:
                    ipc.invoke_sync("echo", 1)
                    ready.set()
        ready = threading.Event()
        threading.Thread(target=work, daemon=True).start()
        ready.wait()
        over()
    """,
    "a loop ends in the midst of invokes": """
        async def main():
            renderer = RendererProcess.connect(path)
            await renderer.__aenter__()
            ipc = lab.IpcRenderer.get_instance()
            tasks = [asyncio.create_task(ipc.invoke("sleep", 60)) for _ in range(5)]
            await asyncio.sleep(0)
            over()
        asyncio.run(main())
    """,
    "a loop is left by sys.exit": """
        async def main():
            async with RendererProcess.connect(path) as renderer:
                ipc = lab.IpcRenderer.get_instance()
                waiting = ipc.invoke("sleep", 60)
                over()
                sys.exit(0)
        asyncio.run(main())
    """,
}
MAINS = {
    "a main is not left": """
        async def main():
            host = MainProcess(path)
            await host.__aenter__()
            await host.install(lab.MANIFEST)
            renderer = await host.spawn_renderer()
            lab.IpcMain.get_instance().broadcast("run", renderer.pid, 0, "invoke", ("sleep", 60))
            print(renderer.pid, flush=True)
            over()
        asyncio.run(main())
    """,
    "a signal ends a main in a handler": """
        async def main():
            async with MainProcess(path) as host:
                await host.install(lab.MANIFEST)
                ipc = lab.IpcMain.get_instance()
                ipc.handle("exit", lambda event: (over(), signal.raise_signal(signal.SIGTERM)))
                renderer = await host.spawn_renderer()
                print(renderer.pid, flush=True)
                ipc.broadcast("run", renderer.pid, 0, "invoke", ("exit",))
                await asyncio.sleep(60)
        asyncio.run(main())
    """,
}
HEADER = """
import asyncio, faulthandler, signal, sys, time
sys.path[:] = {path!r}
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
import lab, threading
from lensipc import MainProcess, RendererProcess
path = {socket!r}
def over():
    print("over", time.monotonic(), flush=True)
    faulthandler.dump_traceback_later(1)  # what it does then instead of ending
"""


async def main(seed: int, count: int) -> dict[str, Any]:
    """So many programs."""
    rng, before = random.Random(seed), Before()
    lives: defaultdict[str, list[float]] = defaultdict(list)
    ends: defaultdict[str, list[float]] = defaultdict(list)
    slowest = 0.0, "", ""
    with tempfile.TemporaryDirectory() as folder:
        async with hosting(path=Path(folder) / "main") as host:
            everything = [*RENDERERS, *MAINS]
            for number in range(count):
                beat()
                way = everything[number] if number < len(everything) else rng.choice(everything)
                path = Path(folder) / ("main" if way in RENDERERS else f"main {number}")
                code = HEADER.format(path=sys.path, socket=str(path)) + textwrap.dedent((RENDERERS | MAINS)[way])
                begun = time.monotonic()
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", code, stdout=subprocess.PIPE, stderr=subprocess.PIPE
                )
                said, errors = await process.communicate()
                end = time.monotonic()
                assert process.returncode == 0, f"{way}: {process.returncode}, {errors.decode()}"
                *words, word, over = said.split()
                pids = [int(word) for word in words]
                assert word == b"over"
                lives[way].append(float(over) - begun)
                ends[way].append(end - float(over))
                slowest = max(slowest, (ends[way][-1], way, errors.decode()))
                while any(map(command.runs, pids)):
                    await asyncio.sleep(0.001)
                await command.until(lambda: not host.main.renderers)
            await command.until(lambda: host.ipc.running == 0)
    await before.again()
    return {
        "exits": count,
        "ended after its code was over, ms": summary([time for each in ends.values() for time in each]),
        "the slowest, and what it said": slowest,
        "each": {
            way: {"times": len(ends[way]), "its life, ms": summary(lives[way]), "its end, ms": summary(ends[way])}
            for way in ends
        },
    }


if __name__ == "__main__":
    command.run(__doc__, 1000, main)
