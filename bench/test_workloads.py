# SPDX-License-Identifier: MIT
"""The workloads of `lensipc bench`, as pytest-benchmark shows, saves and compares them.

    pytest bench --benchmark-only -k "event_small or rtt_small"
    pytest bench --benchmark-only --benchmark-autosave --benchmark-compare

The times are not those of a call made here: what takes part runs in processes of its own, and reports. A time is that
of one message (a rate's inverse), of one round trip (its median), of one attachment; of `idle` the CPU seconds used in
a second. All other figures are in the benchmark's extra info.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lensipc.bench import runner
from lensipc.bench.results import Row
from lensipc.bench.runner import Effort, Place

GROUPS, LEFT_OUT = runner.places()
PLACES = [place for group in GROUPS for place in group]


class Clock:
    """What pytest-benchmark takes for the time: it goes on by what a rival has reported."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


clock = Clock()


@pytest.fixture(scope="session")
def measured(request: pytest.FixtureRequest) -> Callable[[Place], Row]:
    """Measures the rivals of a case that are selected, in interleaved rounds, when the first of them is asked for."""
    option = request.config.getoption
    effort = Effort(option("--rounds"), option("--share"))
    selected = [item.callspec.params.get("place") for item in request.session.items if hasattr(item, "callspec")]
    rows: dict[Place, Row] = {}

    def of(place: Place) -> Row:
        if place not in rows:
            (group,) = ([each for each in group if each in selected] for group in GROUPS if place in group)
            results = runner.run([group], {}, effort)
            if results.about.get("interrupted"):
                raise KeyboardInterrupt
            rows.update(zip(group, results.rows, strict=True))
        return rows[place]

    return of


def name(place: Place) -> str:
    return "-".join(filter(None, [place.workload.name, place.case.name, place.entry.rival]))


@pytest.mark.timeout(3600)  # each trial has its own watchdog
@pytest.mark.benchmark(timer=clock)
@pytest.mark.parametrize("place", PLACES, ids=name)
def test_workload(benchmark: Any, measured: Callable[[Place], Row], place: Place) -> None:
    row = measured(place)
    assert row.failures == []
    assert row.lost == 0
    benchmark.group = " ".join(filter(None, [place.workload.name, place.case.name]))
    benchmark.extra_info.update({key: row.median(key) for key in row.rounds[0]}, unit=row.unit)
    times = iter([seconds(row, value, place) for value in row.values()])

    def replay() -> None:
        clock.now += next(times)

    benchmark.pedantic(replay, rounds=len(row.rounds))


def seconds(row: Row, value: float, place: Place) -> float:
    """What is compared, as the time of one message."""
    if row.unit == "GiB/s":
        return place.task(1.0).size / 2**30 / value
    return {"µs": value / 1e6, "µs/message": value / 1e6, "ms": value / 1e3, "% CPU": value / 100}.get(
        row.unit, 1 / value if value else 0.0
    )
