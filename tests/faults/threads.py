# SPDX-License-Identifier: MIT
"""Threads of one process broadcast at once: nothing is lost or torn, and each thread's events come in its order.

    python tests/faults/threads.py --who main --count 1000000 --arrays 1000

Four threads send `--count` small events each, and `--arrays` arrays of 1 MiB among them: in main, in a renderer, or in
a renderer that runs no event loop.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Any

import command
import weaving
from command import Before, beat
from hosting import hosting

THREADS = 4

SCRIPT = """
import sys; sys.path[:] = {path!r}
import lab, weaving
from lensipc import RendererProcess
with RendererProcess.connect({socket!r}) as renderer:
    threads = weaving.start(lab.IpcRenderer.get_instance(), {threads}, {count}, {arrays})
    while any(each.is_alive() for each in threads):
        renderer.dispatch(0.01)
"""


async def main(seed: int, count: int, who: str, arrays: int) -> dict[str, Any]:
    """Threads of one kind."""
    _ = seed  # nothing here is random but the machine
    before = Before()
    with tempfile.TemporaryDirectory() as folder:
        await weave(Path(folder) / "s", count, who, arrays)
    await before.again()
    return {"events": THREADS * count, "arrays": THREADS * arrays}


async def weave(path: Path, count: int, who: str, arrays: int) -> None:
    """Have them send, and hear all of it."""
    async with hosting(1, path=path) as host:
        ear = weaving.Ear()
        host.ipc.listen("woven", ear)
        if who == "main":
            work: asyncio.Future[Any] = asyncio.ensure_future(weaving.weave(host.ipc, THREADS, count, arrays))
        elif who == "renderer":
            work = asyncio.ensure_future(host.ipc.run(host.renderers[0], "weaving:weave", THREADS, count, arrays))
        else:
            script = SCRIPT.format(
                path=sys.path, socket=str(host.main.path), threads=THREADS, count=count, arrays=arrays
            )
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
            work = asyncio.ensure_future(process.wait())
        heard = -1
        while not ear.has_heard(THREADS, count):
            if (now := sum(ear.heard.values())) != heard:
                heard = now
                beat()
            await asyncio.sleep(0.05)
        assert await work in (None, 0)
        assert ear.arrays == THREADS * arrays


if __name__ == "__main__":
    command.run(__doc__, 1_000_000, main, who=["main", "renderer", "script"], arrays=1000)
