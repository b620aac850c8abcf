# SPDX-License-Identifier: MIT
"""The workloads: what is measured, in which cases, with how many messages."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from .task import Placement, Task

KIB: Final = 1 << 10
MIB: Final = 1 << 20

Kind = Literal["events", "calls", "idle", "attach", "floor"]


@dataclass(frozen=True)
class Case:
    """A workload under one circumstance.

    Attributes:
        name: of the circumstance.
        floor: the case of the workload "floor" that bounds it.
        told: fields of its tasks.
    """

    name: str
    floor: str = ""
    told: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Workload:
    """A workload.

    Attributes:
        name: as `--only` takes it.
        kind: how its reports are made figures.
        title: what is measured.
        figure: the one that rivals are compared by.
        unit: of that.
        more: whether more of it is better.
        cases: the circumstances.
        told: fields of all its tasks.
        spinners: whether a rival that keeps a core busy while nothing comes counts as one.
        rounds: how often it is measured at most.
    """

    name: str
    kind: Kind
    title: str
    figure: str
    unit: str
    more: bool
    cases: tuple[Case, ...]
    told: dict[str, Any]
    spinners: bool = True
    rounds: int = 1000

    def task(self, case: Case, rival: str, where: str, effort: float) -> Task:
        """The task of one measurement; an `effort` below 1 makes it that much shorter."""
        task = Task(self.name, case.name, rival, where, **{**self.told, **case.told})
        return replace(
            task,
            count=max(2, int(task.count * effort)) if task.count > 1 else task.count,
            warmup=max(1, int(task.warmup * effort), task.channels, task.extensions),
            seconds=max(0.05, task.seconds * effort),
            pause=task.pause if self.kind != "idle" else max(1.0, task.pause * effort),
        )


PLACEMENTS: Final[tuple[Placement, ...]] = ("free", "two cores", "one core")
_BY_PLACEMENT = tuple(Case(place, f"wake, {place}", {"placement": place}) for place in PLACEMENTS)

_ASLEEP: Final = {"count": 300, "warmup": 20, "pause": 0.002, "seconds": 3.0}


# Of each size of array: its bytes, and how many are sent to so many renderers.
_ARRAYS: Final[dict[str, tuple[int, dict[int, int]]]] = {
    "64 KiB": (64 * KIB, {1: 10_000, 4: 4_000, 16: 1_500}),
    "1 MiB": (MIB, {1: 1_500, 4: 600, 16: 200}),
    "16 MiB": (16 * MIB, {1: 80, 4: 40, 16: 20}),
    "256 MiB": (256 * MIB, {1: 8}),
}
_COPIES: Final = {"64 KiB": 20_000, "1 MiB": 2_000, "16 MiB": 60, "256 MiB": 5}  # of a floor


def _name(size: str, renderers: int) -> str:
    return size if renderers == 1 else f"{size} to {renderers}"


def _bulk(size: str, renderers: int, *, in_place: bool) -> Case:
    name = _name(size, renderers)
    nbytes, counts = _ARRAYS[size]
    count = counts[renderers]
    warmup = max(count // 10, min(8, count // 2))  # memory is made when the first arrays need it
    told = {"size": nbytes, "renderers": renderers, "count": count, "warmup": warmup}
    return Case(name, f"memcpy and read {name}" if in_place else f"memcpy {size}", told)


def _to_one(*, in_place: bool) -> tuple[Case, ...]:
    return tuple(_bulk(size, 1, in_place=in_place) for size in _ARRAYS)


def _to_several(*, in_place: bool) -> tuple[Case, ...]:
    told = [(size, each) for size, (_, counts) in _ARRAYS.items() for each in counts if each > 1]
    return tuple(_bulk(size, renderers, in_place=in_place) for size, renderers in told)


def _copies(what: str, size: str, renderers: int) -> Case:
    told = {"size": _ARRAYS[size][0], "renderers": renderers, "count": _COPIES[size]}
    return Case(f"{what} {_name(size, renderers)}", "", told)


def _to(renderers: int, count: int) -> Case:
    return Case(f"to {renderers}", "", {"renderers": renderers, "count": count, "warmup": count // 10})


WORKLOADS: Final[tuple[Workload, ...]] = (
    Workload(
        "event_small",
        "events",
        "the small dict, main to one listener: encode, send, decode, call",
        "per_second",
        "messages/s",
        True,
        (Case("", "pickle"),),
        {"count": 100_000, "warmup": 10_000},
    ),
    Workload(
        "event_raw64",
        "events",
        "64 bytes, main to one renderer, nothing encoded",
        "per_second",
        "messages/s",
        True,
        (Case("", "C ring"),),
        {"payload": "raw64", "count": 300_000, "warmup": 30_000},
    ),
    Workload(
        "rtt_small",
        "calls",
        "a blocking call with the small dict, and the answer",
        "p50_us",
        "µs",
        False,
        _BY_PLACEMENT,
        {"count": 10_000, "warmup": 500},
    ),
    Workload(
        "rtt_idle2ms",
        "calls",
        "the same, after 2 ms of sleep each: both sides asleep",
        "p50_us",
        "µs",
        False,
        _BY_PLACEMENT,
        _ASLEEP,
        spinners=False,
    ),
    Workload(
        "rtt_async",
        "calls",
        "an awaited call with the small dict, and the answer, one at a time",
        "p50_us",
        "µs",
        False,
        _BY_PLACEMENT,
        {"count": 10_000, "warmup": 500},
    ),
    Workload(
        "rtt_async_idle2ms",
        "calls",
        "the same, after 2 ms of sleep each: both sides asleep",
        "p50_us",
        "µs",
        False,
        _BY_PLACEMENT,
        _ASLEEP,
        spinners=False,
    ),
    Workload(
        "rtt_async_x64",
        "calls",
        "an awaited call with the small dict, and the answer, 64 at a time",
        "per_second",
        "calls/s",
        True,
        (Case("asyncio"), Case("uvloop", "", {"loop": "uvloop"})),
        {"count": 50_000, "warmup": 3_000, "flight": 64, "seconds": 3.0},
    ),
    Workload(
        "bulk",
        "events",
        "float32 arrays; the receiver owns writable memory",
        "gib_per_second",
        "GiB/s",
        True,
        _to_one(in_place=False),
        {"payload": "array"},
    ),
    Workload(
        "bulk_in_place",
        "events",
        "float32 arrays; the receiver reads a number of each page where the sender has copied them",
        "gib_per_second",
        "GiB/s",
        True,
        _to_one(in_place=True),
        {"payload": "array"},
    ),
    Workload(
        "bulk_loaned",
        "events",
        "float32 arrays; the sender writes a number of each page where the receiver reads it, and nothing is copied",
        "gib_per_second",
        "GiB/s",
        True,
        tuple(replace(_bulk(size, 1, in_place=True), floor="") for size in ("64 KiB", "1 MiB", "16 MiB")),
        {"payload": "array"},
    ),
    Workload(
        "fanout_bulk",
        "events",
        "float32 arrays, main to every renderer, which owns writable memory; deliveries to all of them",
        "gib_per_second",
        "GiB/s",
        True,
        _to_several(in_place=False),
        {"payload": "array"},
    ),
    Workload(
        "fanout_bulk_in_place",
        "events",
        "float32 arrays, main to every renderer, which reads a number of each page where main has copied them; "
        "deliveries to all of them",
        "gib_per_second",
        "GiB/s",
        True,
        _to_several(in_place=True),
        {"payload": "array"},
    ),
    Workload(
        "fanout",
        "events",
        "the small dict, main to every renderer; deliveries to all of them",
        "per_second",
        "deliveries/s",
        True,
        (_to(1, 50_000), _to(4, 25_000), _to(16, 8_000)),
        {},
    ),
    Workload(
        "relay",
        "events",
        "the small dict, one renderer to the others through main, which does not listen; deliveries to all of them",
        "per_second",
        "deliveries/s",
        True,
        (_to(1, 50_000), _to(4, 25_000), _to(16, 8_000)),
        {},
    ),
    Workload(
        "small_beside_bulk",
        "calls",
        "an awaited call with the small dict of a renderer that gets, or sends, float32 arrays of 256 MiB without end",
        "p50_us",
        "µs",
        False,
        (Case("it gets them"), Case("it sends them")),
        {"count": 1000, "warmup": 10, "pause": 0.01, "seconds": 3.0, "payload": "array", "size": 256 * MIB},
    ),
    Workload(
        "idle",
        "idle",
        "connected, and nothing sent: CPU of both sides",
        "idle_percent",
        "% CPU",
        False,
        (Case(""),),
        {"pause": 3.0},
        rounds=1,
    ),
    Workload(
        "scale",
        "events",
        "event_small over many channels, or many extensions, in turn",
        "message_us",
        "µs/message",
        False,
        (
            *(Case(f"{n:,} channels", "", {"channels": n}) for n in (1, 100, 10_000)),
            *(Case(f"{n:,} extensions", "", {"extensions": n}) for n in (1, 100, 1_000)),
        ),
        {"count": 50_000, "warmup": 5_000},
    ),
    Workload(
        "scale",
        "attach",
        "attaching a renderer, its process started before",
        "attach_ms",
        "ms",
        False,
        (Case("attach"),),
        {"count": 30, "warmup": 3},
    ),
    Workload(
        "floor",
        "floor",
        "what bounds the others",
        "p50_us",
        "µs",
        False,
        tuple(Case(f"wake, {place}", "", {"placement": place}) for place in PLACEMENTS),
        {"count": 5_000, "warmup": 500},
    ),
    Workload(
        "floor",
        "floor",
        "what bounds the others",
        "per_second",
        "messages/s",
        True,
        (Case("pickle"), Case("C ring"), Case("cache line")),
        {"count": 50_000},
    ),
    Workload(
        "floor",
        "floor",
        "what bounds the others",
        "gib_per_second",
        "GiB/s",
        True,
        (
            *(_copies("memcpy", size, 1) for size in _ARRAYS),
            *(_copies("memcpy and read", size, each) for size, (_, counts) in _ARRAYS.items() for each in counts),
        ),
        {},
    ),
)
NAMES: Final = tuple(dict.fromkeys(workload.name for workload in WORKLOADS))
