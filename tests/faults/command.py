# SPDX-License-Identifier: MIT
"""What the commands in this folder share: their arguments, a watchdog, and what has to be as it was before.

Each command prints its seed first and what it has measured last, as JSON. What must hold is asserted; how long
something took is only reported, for that depends on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import json
import logging
import random
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

TESTS: Final = Path(__file__).parent.parent
sys.path[:0] = [str(TESTS / "extensions"), str(TESTS)]

import psutil  # noqa: E402 - the path comes first

# A command that makes no progress for so long has failed, with a traceback (seconds). No promise: only an end.
STALL: Final = 120.0


def beat() -> None:
    """There is progress: the watchdog begins anew."""
    faulthandler.dump_traceback_later(STALL, exit=True)


def run(
    doc: str | None,
    count: int,
    command: Callable[..., Coroutine[Any, Any, dict[str, Any]]],
    **options: Sequence[Any] | Any,
) -> None:
    """Parse the arguments and run the command: `await command(seed, count, **options)`.

    An option whose value is a list has these choices, the first of which is its default.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--count", type=int, default=count)
    for name, value in options.items():
        if isinstance(value, list):
            parser.add_argument(f"--{name}", choices=value, default=value[0])
        else:
            parser.add_argument(f"--{name}", type=type(value), default=value)
    arguments = vars(parser.parse_args())
    print("seed", arguments["seed"], flush=True)
    logging.getLogger("lensipc").addHandler(logging.NullHandler())  # renderers that are killed are no news here
    beat()
    started = time.monotonic()
    measured: dict[str, Any] = asyncio.run(command(**arguments))
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps(measured | {"seconds": round(time.monotonic() - started, 1)}), flush=True)


async def until(condition: Callable[..., object]) -> None:
    """Wait until something is true; the watchdog is the limit."""
    while not condition():
        await asyncio.sleep(0.001)


def descriptors() -> dict[str, str]:
    """This process's descriptors, and what each is."""
    found = {}
    for fd in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the listing's own descriptor
            found[fd.name] = str(fd.readlink())
    return found


def mappings() -> int:
    """How many segments, or parts of them, are mapped here."""
    return sum("memfd:" in line or "/dev/shm/" in line for line in Path("/proc/self/maps").read_text().splitlines())


def runs(pid: int) -> bool:
    """Whether the process runs: a zombie, which its parent or init has yet to reap, does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


class Before:
    """What this process has now, to be compared with what it has in the end."""

    def __init__(self) -> None:
        gc.collect()
        self._now = self._look()

    @staticmethod
    def _look() -> dict[str, Any]:
        return {
            "descriptors": sorted(target.partition(":")[0] for target in descriptors().values()),
            "mappings": mappings(),
            "shm": sorted(path.name for path in Path("/dev/shm").glob("lensipc-" + 16 * "[0-9a-f]")),
            "children": sorted(child.pid for child in psutil.Process().children(recursive=True)),
        }

    async def again(self, but: str = "") -> None:
        """Everything but that is as it was: at once, or as soon as the kernel has cleaned up after the dead."""
        self._now.pop(but, None)
        for _ in range(1000):
            gc.collect()
            now = self._look()
            now.pop(but, None)
            if now == self._now:
                return
            await asyncio.sleep(0.01)
        changed = {name: (self._now[name], now[name]) for name in now if self._now[name] != now[name]}
        raise AssertionError(f"not as it was: {changed}")


def summary(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and maximum, in milliseconds."""
    ordered = sorted(seconds) or [0.0]
    at = {"p50": ordered[len(ordered) // 2], "p99": ordered[len(ordered) * 99 // 100], "max": ordered[-1]}
    return {name: round(value * 1e3, 2) for name, value in at.items()}
