# SPDX-License-Identifier: MIT
"""The benchmarks: that they measure, that they count what is lost, and that they end and leave nothing behind."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil
import pytest

import lensipc
from lensipc.bench import figures, plot, report, runner
from lensipc.bench.machine import machine
from lensipc.bench.results import Results, Row
from lensipc.bench.rivals import ENTRIES, Entry
from lensipc.bench.task import Task
from lensipc.bench.workloads import NAMES, WORKLOADS

BENCH = [sys.executable, "-m", "lensipc", "bench"]
TINY = ["--quick", "--share", "0.002"]
RIVALS = Path(lensipc.__file__).parent / "bench" / "rivals"
# The command, in a Python in which one rival is not installed.
WITHOUT = """
import sys
import lensipc.bench.rivals as rivals
rivals.MODULES["pyzmq"] = "lensipc_no_such_module"
from lensipc.cli import main
main()
"""


def trials() -> list[int]:
    """Processes of trials that this process, or one that it started, has begun: others on this machine have theirs."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        with suppress(psutil.Error):
            ours = "lensipc.bench.trial" in (process.info["cmdline"] or ())
            if ours and process.environ().get("TMPDIR", "").startswith(tempfile.gettempdir()):
                found.append(process.pid)
    return found


@pytest.fixture(autouse=True)
def nothing_of_a_trial_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Any:
    tmp_path_factory.getbasetemp()  # pytest makes this once, for all files: not in the folder that goes
    with tempfile.TemporaryDirectory() as folder:  # a short name, as sockets need it
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield
        deadline = time.monotonic() + 5
        while trials() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert trials() == []
        assert list(Path(folder).glob("lensipc-bench-*")) == []


# ---- a side ----


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_side_can_write_a_report_of_any_length_after_its_loop_has_watched_the_line(loop: str) -> None:
    """uvloop makes what it watches non-blocking, and leaves it so."""
    code = f"""
import multiprocessing, os
from lensipc.bench.loops import run
from lensipc.bench.side import Side
from lensipc.bench.task import Task
ours, theirs = multiprocessing.Pipe()
ours.send("go")
run(Side(Task("idle", "", "Pipe", ""), "main", theirs).ready_async(), {loop!r})
print(os.get_blocking(theirs.fileno()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "True\n", done.stderr


# ---- the command ----


def test_the_command_measures_writes_what_it_found_and_says_who_is_left_out(tmp_path: Path) -> None:
    files = {option: tmp_path / option for option in ("json", "plot", "markdown")}
    options = [*TINY, "--only", "event_small", "--rival", "lensipc", "--rival", "Pipe", "--rival", "pyzmq PAIR"]
    for option, path in files.items():
        options += [f"--{option}", str(path)]
    command = [sys.executable, "-c", WITHOUT, "bench", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left out: pyzmq (not installed)" in done.stdout
    assert "event_small: the small dict" in done.stdout

    told = json.loads(files["json"].read_text())
    rows = {row["rival"]: row for row in told["rows"]}
    assert set(rows) == {"lensipc", "Pipe", "floor"}
    assert told["left_out"] == {"pyzmq": "not installed"}
    assert all(row["failures"] == [] and row["lost"] == 0 and row["value"] > 0 for row in rows.values())
    ours = rows["lensipc"]
    assert ours["to_best_rival"] == pytest.approx(ours["value"] / rows["Pipe"]["value"])
    assert ours["to_floor"] == pytest.approx(ours["value"] / rows["floor"]["value"])
    assert "| **lensipc** |" in files["markdown"].read_text()
    ElementTree.parse(files["plot"])

    again = subprocess.run([*BENCH, "--load", str(files["json"])], capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout) == (0, done.stdout)


def test_ctrl_c_ends_it_with_what_there_is_so_far() -> None:
    command = [*BENCH, "--only", "event_small", "--rival", "Pipe"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("[0/")
        deadline = time.monotonic() + 20
        while not trials() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=30)
    assert "interrupted" in out
    assert "Traceback" not in errors


def test_when_it_is_killed_its_trials_end() -> None:
    environment = {**os.environ, "TMPDIR": tempfile.mkdtemp()}  # what is left there is the killed process's to leave
    command = [*BENCH, "--only", "idle", "--rival", "Pipe"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as process:
        deadline = time.monotonic() + 20
        while not trials() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert trials()
        process.kill()


@pytest.mark.parametrize("wrong", [["--only", "event_large"], ["--rival", "pigeon"]])
def test_an_unknown_name_is_refused_and_the_known_ones_are_told(wrong: list[str]) -> None:
    done = subprocess.run([*BENCH, *wrong], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is none of" in re.sub(r"[\s│]+", " ", done.stderr)


def test_importing_lensipc_or_its_command_line_does_not_import_the_benchmarks() -> None:
    code = "import sys, lensipc, lensipc.cli.commands; print([name for name in sys.modules if 'lensipc.bench' in name])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


# ---- trials ----


def tiny(entry: Entry) -> Task:
    """The shortest task of an entry."""
    places = [place for group in runner.places()[0] for place in group if place.entry is entry]
    return places[0].task(0.001)


@pytest.mark.timeout(300)
def test_every_rival_that_is_installed_goes_through_a_workload() -> None:
    installed = [entry for entry in ENTRIES if not entry.missing() and entry.where != "floor:Ring"]
    entries = list({entry.where: entry for entry in installed}.values())
    with ThreadPoolExecutor(3) as pool:
        told = dict(zip([entry.where for entry in entries], pool.map(runner.trial, map(tiny, entries)), strict=True))
    assert {where: each for where, each in told.items() if "failed" in each or "hung_at_the_end" in each} == {}
    assert {where: each for where, each in told.items() if each.get("lost")} == {}


def test_what_does_not_come_in_time_is_counted_as_lost() -> None:
    task = Task("event_small", "", "Pipe", "pipe:Events", warmup=3, count=7, pause=60, limit=1)
    assert runner.trial(task) == {"lost": 7}


def test_a_side_that_raises_is_named_with_what_it_raised() -> None:
    task = Task("event_small", "", "Pipe", "pipe:Events", payload="array", size=8)
    assert "renderer 0: AttributeError" in runner.trial(task)["failed"]


def test_a_trial_that_hangs_is_killed_and_said_to_have_failed() -> None:
    task = Task("event_small", "", "Pipe", "pipe:Events", pause=60, limit=60)
    assert runner.trial(task, grace=-59) == {"failed": "not ended within 1 s"}


def test_a_trial_that_cannot_begin_says_why() -> None:
    assert "AttributeError" in runner.trial(Task("event_small", "", "Pipe", "pipe:Nothing"))["failed"]


# ---- who takes part in what ----


def test_every_workload_and_case_that_an_entry_names_exists_and_we_take_part_in_each() -> None:
    cases = {(work.name, case.name) for work in WORKLOADS for case in work.cases}
    known = set(NAMES) | {f"{name}/{case}" for name, case in cases}
    assert {name for entry in ENTRIES for name in entry.workloads} <= known
    for name, case in cases:
        who = [entry.ours for entry in ENTRIES if entry.takes_part(name, case)]
        assert True in who or name == "floor"


def test_no_rival_is_twice_in_a_case() -> None:
    for work in WORKLOADS:
        for case in work.cases:
            names = [entry.rival for entry in ENTRIES if entry.takes_part(work.name, case.name)]
            assert len(names) == len(set(names)), (work.name, case.name)


def test_every_floor_that_a_case_names_exists() -> None:
    floors = {case.name for work in WORKLOADS if work.name == "floor" for case in work.cases}
    assert {case.floor for work in WORKLOADS for case in work.cases} - {""} <= floors


@pytest.mark.parametrize("where", sorted({entry.where for entry in ENTRIES}))
def test_every_entry_names_a_class_of_an_adapter(where: str) -> None:
    module, _, name = where.partition(":")
    tree = ast.parse((RIVALS / f"{module}.py").read_text())
    assert name in [node.name for node in tree.body if isinstance(node, ast.ClassDef)]


# ---- figures ----


def test_a_rate_is_the_receivers_and_begins_when_the_warm_up_ends() -> None:
    task = Task("event_small", "", "", "", warmup=10, count=100)
    heard = {"heard": 110, "begun": (10, 1_000_000_000), "ended": (110, 1_500_000_000), "cpu": 0.001, "warm": True}
    found = figures.figures(task, {"main": {"cpu": 0.002, "warm": True}, "renderer 0": heard})
    assert (found["per_second"], found["message_us"], found["lost"]) == (200, 5000, 0)
    assert (found["cpu_main_us"], found["cpu_renderer_us"]) == pytest.approx((20, 10))


def test_percentiles_are_of_all_calls() -> None:
    report = {"times": list(range(1000, 2_001_000, 1000))[::-1], "cpu": 0.0, "warm": True}
    found = figures.figures(Task("rtt_small", "", "", ""), {"main": {"cpu": 0, "warm": False}, "renderer 0": report})
    assert (found["p50_us"], found["p99_us"], found["p999_us"]) == (1001, 1981, 1999)


def results() -> Results:
    def row(rival: str, *values: float, ours: bool = False, counts: bool = True) -> Row:
        rounds = [{"p50_us": value} for value in values]
        return Row("rtt_small", "free", rival, "p50_us", "µs", False, ours, counts, floor="wake, free", rounds=rounds)

    floor = Row("floor", "wake, free", "floor", "p50_us", "µs", False, False, True, rounds=[{"p50_us": 5.0}])
    spinner = row("spinner", 1, counts=False)
    return Results(
        {"lensipc": "1", "date": "now", "rounds": 3, "share": 1, "versions": {}, "machine": machine()},
        {"pigeon": "not installed"},
        [row("slow", 30, 20, 40), spinner, row("lensipc", 10, 11, 90, ours=True), row("good", 22, 23, 21), floor],
    )


def test_the_best_comes_first_and_ratios_are_of_medians_to_the_best_that_counts() -> None:
    found = results()
    rows = found.groups()["rtt_small", "free"]
    assert [row.rival for row in rows] == ["spinner", "lensipc", "good", "slow"]
    assert [found.to_best(row) for row in rows] == [pytest.approx(each) for each in (1 / 22, 0.5, 22 / 30, 30 / 22)]
    assert found.to_floor(rows[1]) == pytest.approx(11 / 5)


def test_what_was_written_is_read_again() -> None:
    found = results()
    assert Results.from_json(json.loads(json.dumps(found.as_json()))) == found


def test_the_picture_has_a_bar_for_each_rival() -> None:
    drawn = ElementTree.fromstring(plot.svg(results()))
    assert len([each for each in drawn.iter() if each.tag.endswith("rect")]) == 1 + 4


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (1_234_567, "messages/s", "1.23 M"),
        (45_678, "calls/s", "45.7 k"),
        (9_876, "calls/s", "9,876"),
        (7.654, "GiB/s", "7.65"),
        (45_678, "µs", "45,678"),
        (0.04, "% CPU", "0.0"),
        (None, "µs", ""),
    ],
)
def test_a_figure_is_shown_with_the_digits_that_say_something(value: float | None, unit: str, shown: str) -> None:
    assert report.number(value, unit) == shown
