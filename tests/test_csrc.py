# SPDX-License-Identifier: MIT
"""The C tests: each program of tests/c is built plain, with ASan and UBSan, and with TSan."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import programs
import pytest

PROGRAMS = sorted((programs.ROOT / "tests" / "c").glob("*.c"))

Run = Callable[..., str]


def is_for_tsan(source: Path) -> bool:
    """Whether it has threads."""
    return "pthread_create" in source.read_text()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where programs are built."""
    return tmp_path_factory.mktemp("csrc")


@pytest.fixture
def run(folder: Path) -> Run:
    """Builds a program of one variant and runs it; returns what it printed."""

    def run(variant: str, name: str, *arguments: str) -> str:
        lacking = programs.what_lacks_for(variant)
        if lacking:
            pytest.skip(lacking)
        command = [*programs.command(folder, variant, name), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
        print(done.stdout)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


# Those with a test of their own below: a variant of theirs, or what they have to be told.
SPECIAL = {"exhaustion", "hostile", "killed", "once", "slabs"}
RUNS = [
    (source.stem, variant)
    for source in PROGRAMS
    if source.stem not in SPECIAL
    for variant in ("plain", "asan", "tsan")
    if variant != "tsan" or is_for_tsan(source)
]


@pytest.mark.parametrize(("name", "variant"), RUNS)
def test_a_program_of_the_cores_tests_finds_nothing(run: Run, name: str, variant: str) -> None:
    run(variant, name)


@pytest.mark.parametrize(("variant", "states"), [("plain", "100000"), ("asan", "100000")])
def test_nothing_that_a_peer_writes_makes_main_leave_its_memory(run: Run, variant: str, states: str) -> None:
    """Not under TSan: such a peer races on purpose. The night's count: `asan hostile --count 100000000`."""
    run(variant, "hostile", "--count", states)


@pytest.mark.parametrize(("variant", "steps"), [("plain", "5000"), ("asan", "5000"), ("tsan", "300")])
def test_nothing_that_a_renderer_returns_takes_a_block_from_another(run: Run, variant: str, steps: str) -> None:
    """And all else of slabs. The night's count: `asan slabs --count 10000000`."""
    run(variant, "slabs", "--count", steps)


@pytest.mark.parametrize("variant", ["plain", "asan"])
def test_each_allocation_and_each_call_that_fails_is_an_error_that_leaks_nothing(run: Run, variant: str) -> None:
    run(variant, "exhaustion")


def test_a_process_killed_at_any_instruction_leaves_the_old_or_the_new_never_a_part(run: Run) -> None:
    done = run("shipped", "killed")
    assert all(int(count) > 100 for count in re.findall(r"(\d+) instructions", done))


def test_every_message_comes_once_and_in_order(run: Run) -> None:
    """Between two processes. The night's count: `once --count 100000000`."""
    assert "1000000 messages" in run("shipped", "once", "--count", "1000000")


@pytest.mark.parametrize("variant", ["shipped", "asan"])
def test_no_wake_is_lost_whatever_is_late(run: Run, variant: str) -> None:
    assert "no wake lost" in run(variant, "delays", "--count", "100000" if variant == "shipped" else "20000")


@pytest.mark.parametrize("name", ["message", "ring", "wakeup", "once", "delays"])
def test_on_another_processor_the_same_holds(run: Run, name: str) -> None:
    """The core of aarch64, under an emulator where there is one. It runs the other instructions; x86 orders them."""
    run("aarch64", name, *(["--count", "20000"] if name in ("once", "delays") else []))
