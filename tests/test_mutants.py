# SPDX-License-Identifier: MIT
"""The list of mutants goes with the code and the tests, and its runner tells a caught one from a survivor.

Whether the mutants are caught is seen by `make mutants`, which takes minutes.
"""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from mutants import run

MUTANTS = run.load()


@functools.cache
def functions(file: Path) -> set[str]:
    """The names of a file's functions; none of one that is not there."""
    tree = ast.parse(file.read_text(encoding="utf-8") if file.is_file() else "")
    return {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_applies_and_names_tests_that_exist(mutant: run.Mutant) -> None:
    text = mutant.applied(run.ROOT)
    if mutant.file.endswith(".py"):
        ast.parse(text)
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert name in functions(run.ROOT / file), test


# ---- the runner ----


def test_the_copy_has_all_that_the_tests_of_mutants_are_collected_from(tmp_path: Path) -> None:
    run.copy(tmp_path)
    tests = {test for mutant in MUTANTS for test in mutant.tests}
    status, said = run.run_tests(tmp_path, tests, "--collect-only")
    assert status == 0, said


HARMLESS = """
[[mutant]]
name = "harmless"
file = "lensipc/runtime/busy_poll.py"
promise = "none"
tests = ["tests/test_busy_poll.py"]
old = "How long one poll lasts"
new = "How long a poll lasts"
"""
HARMFUL = """
[[mutant]]
name = "harmful"
file = "lensipc/runtime/busy_poll.py"
promise = "Where others want the processor, that is noted."
tests = ["tests/test_busy_poll.py"]
old = "self.preempted = True"
new = "self.preempted = False"
"""
GONE = """
[[mutant]]
name = "gone"
file = "lensipc/runtime/busy_poll.py"
promise = "That of code which is there no more."
tests = ["tests/test_busy_poll.py"]
old = "what nobody has written"
new = "what nobody reads"
"""


def run_mutants(folder: Path, mutants: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the command with these mutants."""
    (folder / "mutants.toml").write_text(mutants)
    command = [sys.executable, run.__file__, "--mutants", str(folder / "mutants.toml"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def test_the_runner_tells_what_was_caught_from_what_survived_and_what_could_not_be_made(tmp_path: Path) -> None:
    source = run.ROOT / "lensipc" / "runtime" / "busy_poll.py"
    before = source.read_bytes(), source.stat().st_mtime_ns
    done = run_mutants(tmp_path, HARMLESS + HARMFUL + GONE)
    assert done.returncode == 1, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()[:3]] == [
        ["survived", "harmless"],
        ["caught", "harmful"],
        ["FAILED", "gone"],
    ]
    assert "test_busy_poll.py::test_" in done.stdout  # which has caught it
    assert "its old text is 0 times in lensipc/runtime/busy_poll.py" in done.stdout
    assert "3 mutants: 1 caught, 1 survived, 1 FAILED" in done.stdout
    assert (source.read_bytes(), source.stat().st_mtime_ns) == before


def test_the_runner_is_content_where_all_that_it_was_asked_for_are_caught(tmp_path: Path) -> None:
    done = run_mutants(tmp_path, HARMLESS + HARMFUL, "--only", "harmful", "--jobs", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 mutants: 1 caught, 0 survived" in done.stdout


def test_the_runner_says_nothing_of_mutants_where_the_tests_fail_without_any(tmp_path: Path) -> None:
    done = run_mutants(tmp_path, HARMFUL.replace("test_busy_poll.py", "test_that_is_not_there.py"))
    assert done.returncode == 2
    assert "without any mutant, pytest ends with 4" in done.stdout


def test_the_list_is_shown_without_a_run(tmp_path: Path) -> None:
    done = run_mutants(tmp_path, HARMLESS + HARMFUL, "--list")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["harmless", "harmful"]
    assert run_mutants(tmp_path, HARMLESS, "--only", "another").returncode == 2


def test_a_list_with_a_name_twice_or_a_mutant_that_changes_nothing_is_refused(tmp_path: Path) -> None:
    for mutants, what in [
        (HARMLESS + HARMLESS, "come twice: harmless"),
        (HARMLESS.replace("How long a poll", "How long one poll"), "change nothing"),
    ]:
        (tmp_path / "mutants.toml").write_text(mutants)
        with pytest.raises(ValueError, match=what):
            run.load(tmp_path / "mutants.toml")


def test_a_mutant_whose_tests_hang_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    (tmp_path / "test_hangs.py").write_text(
        "import pathlib, subprocess, time\n\n\n"
        "def test_hangs():\n"
        "    child = subprocess.Popen(['sleep', '60'])\n"
        "    pathlib.Path('child').write_text(str(child.pid))\n"
        "    time.sleep(60)\n"
    )
    status, _ = run.run_tests(tmp_path, ["test_hangs.py"], timeout=5)
    assert status < 0
    child = int((tmp_path / "child").read_text())
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
