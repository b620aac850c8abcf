# SPDX-License-Identifier: MIT
"""Who takes part in which workload. One file here for each rival; it is imported only where it is installed."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

OURS: Final = "lensipc"
FLOOR: Final = "floor"
ROOT: Final = Path(__file__).parents[3]  # of a checkout


def compiler() -> str | None:
    """A C compiler's path."""
    return shutil.which(os.environ.get("CC", "cc"))


# The packages that rivals need, and what is imported of them.
MODULES: Final = {
    "pyzmq": "zmq",
    "iceoryx2": "iceoryx2",
    "faster-fifo": "faster_fifo",
    "eclipse-zenoh": "zenoh",
    "uvloop": "uvloop",
}
# What else they need: whether it is there, and what is said where it is not.
OTHERS: Final[dict[str, tuple[Callable[[], object], str]]] = {
    "interpreters": (lambda: sys.version_info >= (3, 14), "concurrent.interpreters came with Python 3.14"),
    "Node": (lambda: shutil.which("node"), "node is not on PATH"),
    "cache line": (compiler, "there is no C compiler"),
    "C ring": (lambda: (ROOT / "bench" / "ring.c").is_file() and compiler(), "needs a checkout and a C compiler"),
}


def missing(need: str) -> str:
    """Why a need is not met; "" if it is."""
    if need in OTHERS:
        there, why = OTHERS[need]
        return "" if there() else why
    return "" if find_spec(MODULES[need]) else "not installed"


def versions() -> dict[str, str]:
    """What is installed of the packages."""
    return {package: version(package) for package in MODULES if not missing(package)}


@dataclass(frozen=True)
class Entry:
    """A way to go through some workloads.

    Attributes:
        rival: its name in the table.
        where: "module:Class" of it here.
        workloads: their names; of a single case "name/case".
        needs: packages, or others of what it needs.
        spins: whether it keeps a core busy while nothing comes.
        compared: whether it does the same work, between processes. Else it is shown, and is nobody's best rival.
        note: what the table says of it.
    """

    rival: str
    where: str
    workloads: tuple[str, ...]
    needs: tuple[str, ...] = ()
    spins: bool = False
    compared: bool = True
    note: str = ""

    @property
    def ours(self) -> bool:
        """Whether it is lensipc itself."""
        return self.rival.partition(" ")[0] == OURS

    def takes_part(self, workload: str, case: str) -> bool:
        """Whether it goes through that."""
        return workload in self.workloads or f"{workload}/{case}" in self.workloads

    def missing(self) -> dict[str, str]:
        """Which of its needs are not met, and why."""
        return {need: why for need in self.needs if (why := missing(need))}


_ZMQ = ("pyzmq",)
_ICEORYX = ("iceoryx2",)
_FIFO = ("faster-fifo",)
_ZENOH = ("eclipse-zenoh",)
_UVLOOP = ("uvloop",)
_NODE = ("Node",)
_INTERPRETERS = ("interpreters",)
_THREADS = "two threads of one process"
_WITHIN = "two interpreters of one process"
_RTT = ("rtt_small", "rtt_idle2ms")
_IN_PLACE = ("bulk_in_place", "fanout_bulk_in_place")
_SIZES = ("64 KiB", "1 MiB", "16 MiB", "256 MiB")
_FANOUTS = tuple(f"{size} to {renderers}" for size in _SIZES[:3] for renderers in (4, 16))
_1_MIB_TO_16 = "fanout_bulk/1 MiB to 16"  # for those that copy once more for each renderer
_ON_UVLOOP = "rtt_async_x64/uvloop"
_ON_ASYNCIO = ("rtt_async", "rtt_async_idle2ms", "rtt_async_x64/asyncio")

_BESIDE_BULK = ("small_beside_bulk/it gets them", "small_beside_bulk/it sends them")

_SCALE = tuple(
    f"scale/{number:,} {what}"
    for what, numbers in (("channels", (1, 100, 10_000)), ("extensions", (1, 100, 1_000)))
    for number in numbers
)

ENTRIES: tuple[Entry, ...] = (
    Entry("lensipc", "lens:Events", ("event_small", "bulk", "fanout", "idle", *_SCALE)),
    Entry("lensipc", "lens:Arrays", ("fanout_bulk",)),
    Entry("lensipc", "lens:InPlace", _IN_PLACE),
    Entry("lensipc", "lens:Loaned", ("bulk_loaned",)),
    Entry("lensipc", "endpoint:Events", ("event_raw64",), note="endpoints"),
    Entry("lensipc", "lens:Relay", ("relay",)),
    Entry("lensipc", "lens:Calls", _RTT),
    Entry("lensipc", "lens:AsyncCalls", _ON_ASYNCIO),
    Entry("lensipc", "lens:AsyncCalls", (_ON_UVLOOP,), _UVLOOP),
    Entry("lensipc", "lens:CallsBesideBulk", _BESIDE_BULK),
    Entry("lensipc", "attach:Attach", ("scale/attach",)),
    Entry("lensipc script", "lens:EventsToScripts", ("event_small",), note="the renderer runs no event loop"),
    Entry("lensipc semaphore", "lens:CallsBySemaphore", _RTT, note='wakeup="semaphore"'),
    Entry("Pipe", "pipe:Events", ("event_small", "event_raw64", "fanout", "idle")),
    Entry("Pipe", "pipe:Relay", ("relay",)),
    Entry("Pipe", "pipe:Bulk", ("bulk", _1_MIB_TO_16)),
    Entry("Pipe", "pipe:Calls", _RTT),
    Entry("Pipe", "pipe:AsyncCalls", _ON_ASYNCIO, note="watched by asyncio"),
    Entry("Pipe", "pipe:AsyncCalls", (_ON_UVLOOP,), _UVLOOP),
    Entry("Unix socket", "unix:Calls", _RTT),
    Entry("asyncio streams", "streams:Events", ("event_small", "fanout", "idle")),
    Entry("asyncio streams", "streams:AsyncCalls", _ON_ASYNCIO),
    Entry("asyncio streams", "streams:AsyncCalls", (_ON_UVLOOP,), _UVLOOP),
    Entry("asyncio protocol", "protocol:Events", ("event_small", "fanout", "idle")),
    Entry("asyncio protocol", "protocol:Relay", ("relay",)),
    Entry("asyncio protocol", "protocol:AsyncCalls", _ON_ASYNCIO),
    Entry("uvloop protocol", "protocol:OnUvloop", ("event_small", "fanout", "idle"), _UVLOOP),
    Entry("uvloop protocol", "protocol:RelayOnUvloop", ("relay",), _UVLOOP),
    Entry("uvloop protocol", "protocol:AsyncCallsOnUvloop", ("rtt_async", "rtt_async_idle2ms", _ON_UVLOOP), _UVLOOP),
    Entry("pyzmq PAIR", "zeromq:Pair", ("event_small", "event_raw64", "idle"), _ZMQ),
    Entry("pyzmq PAIR", "zeromq:Calls", _RTT, _ZMQ),
    Entry("pyzmq PAIR", "zeromq:Bulk", ("bulk",), _ZMQ),
    Entry("pyzmq PUB/SUB", "zeromq:PubSub", ("fanout",), _ZMQ),
    Entry("pyzmq PUB/SUB", "zeromq:Bulk", (_1_MIB_TO_16,), _ZMQ),
    Entry("pyzmq XPUB/XSUB", "zeromq:Relay", ("relay",), _ZMQ),
    Entry("pyzmq DEALER/ROUTER", "zeromq:AsyncCalls", _ON_ASYNCIO, _ZMQ),
    Entry("pyzmq DEALER/ROUTER", "zeromq:AsyncCalls", (_ON_UVLOOP,), _ZMQ + _UVLOOP),
    Entry("iceoryx2 spin", "iceoryx:Events", ("event_small", "event_raw64", "idle"), _ICEORYX, spins=True),
    Entry("iceoryx2 spin", "iceoryx:Calls", _RTT, _ICEORYX, spins=True),
    Entry("iceoryx2 event", "iceoryx:SleepyEvents", ("event_small", "event_raw64", "fanout", "idle"), _ICEORYX),
    Entry("iceoryx2 event", "iceoryx:SleepyCalls", _RTT, _ICEORYX),
    Entry("iceoryx2 event", "iceoryx:Bulk", ("bulk", "fanout_bulk"), _ICEORYX),
    Entry("iceoryx2 event", "iceoryx:InPlace", _IN_PLACE, _ICEORYX),
    Entry("iceoryx2 event", "iceoryx:Loaned", ("bulk_loaned",), _ICEORYX),
    Entry("faster-fifo", "faster:Events", ("event_small", "event_raw64", "idle"), _FIFO, note="64 at a time"),
    Entry("faster-fifo", "faster:EventsEncodedOnce", ("fanout",), _FIFO),
    Entry("faster-fifo", "faster:Calls", _RTT, _FIFO),
    Entry("shared_memory + Pipe", "shm:Bulk", ("bulk", "fanout_bulk")),
    Entry("shared_memory + Pipe", "shm:InPlace", _IN_PLACE),
    Entry("shared_memory + Pipe", "shm:Loaned", ("bulk_loaned",)),
    Entry("shared_memory + Pipe", "shm:CallsBesideBulk", _BESIDE_BULK, note="watched by asyncio"),
    Entry("zenoh", "zenoh:Events", ("event_small", "event_raw64", "fanout", "idle"), _ZENOH),
    Entry("Node workers", "node:Workers", ("event_small", "bulk", "fanout", _1_MIB_TO_16, "idle"), _NODE),
    Entry("Node workers", "node:WorkersCalls", ("rtt_async/free", "rtt_async/one core", "rtt_async_x64"), _NODE),
    Entry("Node children", "node:Children", ("event_small", "fanout", "idle"), _NODE),
    Entry("Node children", "node:ChildrenCalls", ("rtt_async", "rtt_async_x64/asyncio"), _NODE),
    Entry("SimpleQueue", "threads:Events", ("event_small",), compared=False, note=_THREADS),
    Entry("SimpleQueue", "threads:Calls", _RTT, compared=False, note=_THREADS),
    Entry("queue.Queue", "threads:QueueEvents", ("event_small",), compared=False, note=_THREADS),
    Entry("queue.Queue", "threads:QueueCalls", _RTT, compared=False, note=_THREADS),
    Entry("interpreters", "interpreters:Events", ("event_small",), _INTERPRETERS, compared=False, note=_WITHIN),
    Entry("interpreters", "interpreters:Calls", _RTT, _INTERPRETERS, compared=False, note=_WITHIN),
    Entry(FLOOR, "floor:Wake", ("floor/wake, free", "floor/wake, two cores", "floor/wake, one core")),
    Entry(FLOOR, "floor:Pickle", ("floor/pickle",)),
    Entry(FLOOR, "floor:Ring", ("floor/C ring",), ("C ring",)),
    Entry(FLOOR, "floor:CacheLine", ("floor/cache line",), ("cache line",)),
    Entry(FLOOR, "floor:Memcpy", tuple(f"floor/memcpy {size}" for size in _SIZES)),
    Entry(FLOOR, "floor:MemcpyAndRead", tuple(f"floor/memcpy and read {case}" for case in _SIZES + _FANOUTS)),
)
