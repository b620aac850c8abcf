# SPDX-License-Identifier: MIT
"""The workloads: what is measured, in which cases, with how many messages."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from .task import Payload, Placement, Task

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


def _bulk(name: str, size: int, count: int) -> Case:
    return Case(name, f"memcpy {name}", {"size": size, "count": count, "warmup": max(2, count // 10)})


def _to(renderers: int, count: int, payload: Payload = "small", size: int = 0) -> Case:
    told = {"renderers": renderers, "count": count, "warmup": count // 10, "payload": payload, "size": size}
    return Case(f"to {renderers}", "", told)


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
        (
            _bulk("64 KiB", 64 * KIB, 10_000),
            _bulk("1 MiB", MIB, 1_500),
            _bulk("16 MiB", 16 * MIB, 80),
            _bulk("256 MiB", 256 * MIB, 8),
        ),
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
        "fanout16_1mib",
        "events",
        "a float32 array of 1 MiB, main to 16 renderers",
        "per_second",
        "deliveries/s",
        True,
        (_to(16, 150, "array", MIB),),
        {},
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
            Case("memcpy 64 KiB", "", {"size": 64 * KIB, "count": 20_000}),
            Case("memcpy 1 MiB", "", {"size": MIB, "count": 2_000}),
            Case("memcpy 16 MiB", "", {"size": 16 * MIB, "count": 60}),
            Case("memcpy 256 MiB", "", {"size": 256 * MIB, "count": 5}),
        ),
        {},
    ),
)
NAMES: Final = tuple(dict.fromkeys(workload.name for workload in WORKLOADS))
