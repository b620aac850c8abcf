# SPDX-License-Identifier: MIT
"""lensipc: what attaching a renderer costs, apart from starting its process."""

from __future__ import annotations

import asyncio
import re
import time
from contextlib import ExitStack
from pathlib import Path

from lensipc import MainProcess, RendererProcess
from lensipc.main import acceptor

from ..contest import Contest
from ..loops import run
from ..side import Side, patiently
from .lens import manifest

SHARED = re.compile(r"^(\w+)-(\w+) \S+ (\w+) \S+ (\d+) +/memfd:", re.MULTILINE)


def private() -> int:
    """Bytes of memory that are this process's own."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return 1024 * sum(map(int, re.findall(r"^Private_\w+: +(\d+) kB", rollup, re.MULTILINE)))


def segments() -> int:
    """Bytes of the segments that are mapped here, each counted once."""
    sizes: dict[str, int] = {}
    for begin, end, offset, inode in SHARED.findall(Path("/proc/self/maps").read_text()):
        size = int(offset, 16) + int(end, 16) - int(begin, 16)
        sizes[inode] = max(sizes.get(inode, 0), size)
    return sum(sizes.values())


class Attach(Contest):
    """One process connects again and again, and stays: all are attached at the end."""

    def main(self, side: Side) -> None:
        """Take them in; weigh them."""
        run(self._host(side), self.task.loop)

    async def _host(self, side: Side) -> None:
        acceptor.MOST_OF_PROCESS = self.task.total  # type: ignore[misc]  # all of them come from one process
        async with MainProcess(self.task.path) as host:
            await host.install(manifest())
            await side.ready_async()
            while len(host.renderers) < self.task.warmup:
                await asyncio.sleep(0)
            base, own = segments(), private()
            count = self.task.count
            while len(host.renderers) < self.task.warmup + count:
                await asyncio.sleep(0.001)
            self._weight = {"segment_bytes": (segments() - base) / count, "main_bytes": (private() - own) / count}
            await side.done_async(self._weight)

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Connect, and time it."""
        with ExitStack() as stack:

            def attach() -> None:
                renderer = RendererProcess.connect(self.task.path).__enter__()
                stack.callback(renderer.close)

            patiently(attach)
            side.ready()
            times = []
            for _ in range(self.task.total - 1):
                begun = time.perf_counter_ns()
                attach()
                times.append(time.perf_counter_ns() - begun)
                time.sleep(0.005)  # main weighs itself in between
            side.done({"times": times[self.task.warmup :]})
