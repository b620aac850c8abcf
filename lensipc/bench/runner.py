# SPDX-License-Identifier: MIT
"""Runs the trials: each in fresh processes, in rounds that go from rival to rival, each with its watchdog."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from lensipc import __version__

from .machine import machine
from .results import Results, Row
from .rivals import ENTRIES, FLOOR, Entry, versions
from .task import Task
from .workloads import WORKLOADS, Case, Workload

# Seconds beyond a task's own limit after which a trial that has not ended is killed.
GRACE: Final = 60.0
SHM: Final = Path("/dev/shm")


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        rounds: of each case.
        share: of each case's messages and seconds.
    """

    rounds: int = 3
    share: float = 1.0


FULL: Final = Effort()
QUICK: Final = Effort(rounds=1, share=0.1)


@dataclass(frozen=True, eq=False)
class Place:
    """A rival in a workload's case: one row of the table."""

    workload: Workload
    case: Case
    entry: Entry

    def task(self, share: float) -> Task:
        """Its task."""
        return self.workload.task(self.case, self.entry.rival, self.entry.where, share)

    def row(self) -> Row:
        """Its row, empty."""
        work, entry = self.workload, self.entry
        return Row(
            work.name,
            self.case.name,
            entry.rival,
            work.figure,
            work.unit,
            work.more,
            ours=entry.ours,
            counts=entry.compared and (work.spinners or not entry.spins),
            note="; ".join(filter(None, ["spins" if entry.spins else "", entry.note])),
            floor=self.case.floor,
        )


def places(only: Iterable[str] = (), rivals: Iterable[str] = ()) -> tuple[list[list[Place]], dict[str, str]]:
    """What there is to measure, a list for each case; and who is left out, and why.

    Args:
        only: names of workloads; none: all. The floors that they are compared with come along.
        rivals: names of rivals; none: all.
    """
    wanted, names = set(only), set(rivals)
    chosen = [(work, case) for work in WORKLOADS for case in work.cases if not wanted or work.name in wanted]
    floors = {case.floor for _, case in chosen}
    chosen += [
        (work, case)
        for work in WORKLOADS
        for case in work.cases
        if work.name == FLOOR and case.name in floors and (work, case) not in chosen
    ]
    cores = len(os.sched_getaffinity(0))
    found, left_out = [], {}
    for work, case in chosen:
        group = []
        if case.told.get("placement") == "two cores" and cores < 2:
            left_out[f"{work.name}, {case.name}"] = "there is one core"
            continue
        for entry in ENTRIES:
            if entry.takes_part(work.name, case.name) and (not names or entry.rival in names or entry.rival == FLOOR):
                if lacks := entry.missing():
                    left_out.update(lacks)
                else:
                    group.append(Place(work, case, entry))
        found.append(group)
    return found, left_out


def run(
    groups: list[list[Place]],
    left_out: dict[str, str],
    effort: Effort,
    progress: Callable[[Place, int, int, int], object] = lambda *_: None,
) -> Results:
    """Measure all of it. Interrupted by Ctrl-C, it returns what there is so far.

    Args:
        groups: what `places` gave.
        left_out: what it also gave.
        effort: how much.
        progress: is told before each trial: where, which round from 1, trials done, and trials in all.
    """
    results = Results(about(effort), left_out)
    rows = {place: place.row() for group in groups for place in group}
    results.rows = list(rows.values())
    total = sum(min(effort.rounds, place.workload.rounds) for place in rows)
    done = 0
    try:
        for group in groups:
            for number in range(effort.rounds):
                for place in group:
                    if number < place.workload.rounds:
                        progress(place, number + 1, done, total)
                        measure(place.task(effort.share), rows[place])
                        done += 1
    except KeyboardInterrupt:
        results.about["interrupted"] = True
        results.rows = [row for row in results.rows if row.rounds or row.failures]
    return results


def about(effort: Effort) -> dict[str, Any]:
    """What the run is: when, where, of what."""
    found = versions()
    if node := shutil.which("node"):
        told = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
        found["node"] = told.stdout.strip()
    return {
        "lensipc": __version__,
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "rounds": effort.rounds,
        "share": effort.share,
        "machine": machine(),
        "versions": found,
    }


def measure(task: Task, row: Row) -> None:
    """One trial, into its row."""
    report = trial(task)
    if "failed" in report:
        row.failures.append(str(report["failed"]))
    else:
        if left := report.pop("hung_at_the_end", None):
            row.failures.append(f"had to be killed at the end: {', '.join(left)}")
        row.rounds.append(report)


def trial(task: Task, grace: float = GRACE) -> dict[str, Any]:
    """One trial in processes of its own, of which none is left: its figures, or "failed" with the reason."""
    folder = tempfile.mkdtemp(prefix="lensipc-bench-")
    # One thread each for numpy: threads that were started before the fork are not there after it.
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"{__package__}.trial", str(os.getpid()), replace(task, folder=folder).as_json()]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,  # so that all of its processes can be ended, whoever started them
    ) as process:
        try:
            out, errors = process.communicate(timeout=task.limit + grace)
        except subprocess.TimeoutExpired:
            return {"failed": f"not ended within {task.limit + grace:g} s"}
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            clean(Path(folder))
    try:
        report: dict[str, Any] = json.loads(out.splitlines()[-1])
    except (IndexError, ValueError):
        last = (errors.strip().splitlines() or [f"status {process.returncode}"])[-1]
        return {"failed": f"no report: {last}"}
    if "failed" in report:
        report["errors"] = errors
    return report


def clean(folder: Path) -> None:
    """Remove what a trial has left: its folder, and shared memory of its name."""
    shutil.rmtree(folder, ignore_errors=True)
    for path in SHM.glob(f"*{folder.name}*"):
        with suppress(OSError):
            path.unlink()
