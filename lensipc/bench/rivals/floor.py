# SPDX-License-Identifier: MIT
"""What bounds everybody: waking a sleeper, pickling, copying memory, a ring in C, a cache line between two cores."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import time
from pathlib import Path

import numpy as np

from ..contest import Contest, Life
from ..side import EACH_PAGE, Side
from ..task import SMALL, Task
from . import ROOT, compiler

RUNS = 5
RING_ENOUGH = 50_000  # of the task's count, from which the ring runs more than once, and in full
HERE = Path(__file__).parent.parent


class Wake(Contest):
    """Two processes that sleep in turn, each woken by the other through an eventfd: there and back."""

    up: int
    down: int

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.up, self.down = os.eventfd(0), os.eventfd(0)

    def main(self, side: Side) -> None:
        """Wake the other whenever awake."""
        side.ready()
        while os.eventfd_read(self.up) == 1:
            os.eventfd_write(self.down, 1)
        side.done()

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Time it."""

        def ask() -> None:
            os.eventfd_write(self.up, 1)
            os.eventfd_read(self.down)

        side.ask_all(ask, lambda: os.eventfd_write(self.up, 2))


class _Alone(Contest):
    """A floor that one process measures."""

    def sides(self) -> dict[str, Life]:
        return {"main": self.main}

    def main(self, side: Side) -> None:
        side.ready()
        side.done({"figures": self.measure()})

    def measure(self) -> dict[str, float]:
        raise NotImplementedError


class Pickle(_Alone):
    """The small dict pickled and unpickled: messages per second of two processes that do nothing but one of them."""

    def measure(self) -> dict[str, float]:
        """The best of some runs."""
        body, count = pickle.dumps(SMALL, 5), self.task.count
        dumps = loads = float("inf")
        for _ in range(RUNS):
            begun = time.perf_counter()
            for _ in range(count):
                pickle.dumps(SMALL, 5)
            half = time.perf_counter()
            for _ in range(count):
                pickle.loads(body)
            dumps, loads = min(dumps, half - begun), min(loads, time.perf_counter() - half)
        return {
            "per_second": count / max(dumps, loads),
            "dumps_us": 1e6 * dumps / count,
            "loads_us": 1e6 * loads / count,
        }


class Memcpy(_Alone):
    """One copy of `size` bytes into memory that was used before, and into fresh memory."""

    def measure(self) -> dict[str, float]:
        """The mean over all copies."""
        source = np.ones(self.task.size, np.uint8)
        target = np.zeros(self.task.size, np.uint8)
        begun = time.perf_counter()
        for _ in range(self.task.count):
            np.copyto(target, source)
        half = time.perf_counter()
        for _ in range(self.task.count):
            source.copy()
        ended = time.perf_counter()
        gib = self.task.count * self.task.size / 2**30
        return {"gib_per_second": gib / (half - begun), "fresh_gib_per_second": gib / (ended - half)}


class MemcpyAndRead(_Alone):
    """One copy of `size` bytes, of which then a number in each page is read, once for each renderer."""

    def measure(self) -> dict[str, float]:
        """The mean over all reads, with their copies."""
        source = np.ones(self.task.size // 4, np.float32)
        target = np.zeros_like(source)
        readers = range(self.task.renderers)
        begun = time.perf_counter()
        for _ in range(self.task.count):
            np.copyto(target, source)
            for _ in readers:
                target[::EACH_PAGE].sum()
        took = time.perf_counter() - begun
        return {"gib_per_second": self.task.count * self.task.renderers * self.task.size / 2**30 / took}


class CacheLine(_Alone):
    """A cache line between two cores."""

    def measure(self) -> dict[str, float]:
        """Compile floor.c, and run it."""
        cores = sorted(os.sched_getaffinity(0))
        program = compiled([HERE / "floor.c"], self.task.folder)
        ns = float(output([program, "200000", str(cores[0]), str(cores[1])], self.task.limit))
        return {"per_second": 1e9 / ns, "one_way_ns": ns}


class Ring(_Alone):
    """The C core without Python: bench/ring.c of a checkout."""

    def measure(self) -> dict[str, float]:
        """Compile it, and run it."""
        ring = ROOT / "bench" / "ring.c"
        core = [path for part in ("ring", "endpoint") for path in sorted((ROOT / "csrc" / part).glob("*.c"))]
        program = compiled([ring, *core], self.task.folder)
        runs, share = ("3", "1") if self.task.count >= RING_ENOUGH else ("1", "10")
        told = output([program, "262144", runs, share], self.task.limit)
        lines = re.findall(r"(\d+) bytes: +([\d.]+) M messages/s +([\d.]+) GiB/s", told)
        found = {f"{size} bytes, GiB/s": float(gib) for size, _, gib in lines}
        return {"per_second": float(lines[0][1]) * 1e6, **found}


def compiled(sources: list[Path], folder: str) -> str:
    """A program made of these."""
    program = f"{folder}/program"
    options = ["-std=c11", "-O2", "-pthread", f"-I{ROOT / 'csrc'}"]
    subprocess.run(
        [compiler() or "cc", *options, "-o", program, *map(str, sources), "-lrt"], check=True, capture_output=True
    )
    return program


def output(command: list[str], limit: float) -> str:
    """What a program prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=limit).stdout
