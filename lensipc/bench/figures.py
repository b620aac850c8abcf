# SPDX-License-Identifier: MIT
"""What the sides of a trial report, made figures."""

from __future__ import annotations

from .side import Report
from .task import Task

Figures = dict[str, float]


def figures(task: Task, reports: dict[str, Report]) -> Figures:
    """The figures of a trial.

    Rates are the receivers': from the first message that is measured to the last at any of them. A side's CPU is per
    message that it sent or heard, of several renderers their mean.
    """
    main = reports.get("main", {})
    if "figures" in main:  # measured within the one process that there is
        return dict(main["figures"])
    if "segment_bytes" in main:
        (attached,) = (sorted(report["times"]) for report in reports.values() if "times" in report)
        return {
            "attach_ms": percentile(attached, 50) / 1e6,
            **{key: main[key] for key in main if key.endswith("bytes")},
        }
    if any("times" in report for report in reports.values()):
        return _calls(task, reports)
    hearers = [report for name, report in reports.items() if name.startswith("renderer")]
    return _events(task, main, hearers)


def _events(task: Task, main: Report, hearers: list[Report]) -> Figures:
    lost = sum(max(0, task.total - report["heard"]) for report in hearers)
    found: Figures = {"lost": lost}
    if lost or not hearers:
        if not any(report["heard"] for report in hearers):
            raise TimeoutError(f"nothing was heard within {task.limit:g} s")
        return found
    begun = min(report["begun"][1] for report in hearers)
    ended = max(report["ended"][1] for report in hearers)
    heard = sum(report["ended"][0] - report["begun"][0] for report in hearers)
    seconds = max(1, ended - begun) / 1e9
    cpu_main = main["cpu"]
    sent = task.count if main["warm"] else task.total  # a main that only relays does not know of the warm-up
    cpu_renderer = sum(report["cpu"] for report in hearers) / len(hearers)
    found.update(
        per_second=heard / seconds,
        message_us=1e6 * seconds / (heard / len(hearers)),
        gib_per_second=heard * task.size / seconds / 2**30,
        idle_percent=100 * (cpu_main + cpu_renderer) / seconds,
        idle_main_percent=100 * cpu_main / seconds,
        idle_renderer_percent=100 * cpu_renderer / seconds,
        cpu_main_us=1e6 * cpu_main / sent,
        cpu_renderer_us=1e6 * cpu_renderer / task.count,
    )
    return found


def _calls(task: Task, reports: dict[str, Report]) -> Figures:
    (asker,) = (report for report in reports.values() if "times" in report)
    times = sorted(asker["times"])
    asked = len(times)
    main = reports["main"]
    found: Figures = {
        "lost": 0,
        "p50_us": percentile(times, 50) / 1e3,
        "p99_us": percentile(times, 99) / 1e3,
        "p999_us": percentile(times, 99.9) / 1e3,
        "calls": asked,
        "cpu_renderer_us": 1e6 * asker["cpu"] / asked,
    }
    if main is not asker:
        found["cpu_main_us"] = 1e6 * main["cpu"] / (asked + task.warmup)  # it does not know when the warm-up ended
    if "took" in asker:
        found["per_second"] = asked / asker["took"] * 1e9
    return found


def percentile(times: list[int], percent: float) -> int:
    """So many percent of the times, which are sorted, are within it."""
    return times[min(len(times) - 1, int(len(times) * percent / 100))]
