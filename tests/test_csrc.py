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
ARGUMENTS = {"hostile": ["100000"]}  # states; a night's worth is run by hand: see tests/c/hostile.c

Run = Callable[..., str]


def is_for_tsan(source: Path) -> bool:
    """Whether it has threads, and not for the sake of a race: a hostile peer races on purpose."""
    return "pthread_create" in source.read_text() and source.stem != "hostile"


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
SPECIAL = {"killed"}
RUNS = [
    (source.stem, variant)
    for source in PROGRAMS
    if source.stem not in SPECIAL
    for variant in ("plain", "asan", "tsan")
    if variant != "tsan" or is_for_tsan(source)
]


@pytest.mark.parametrize(("name", "variant"), RUNS)
def test_program(run: Run, name: str, variant: str) -> None:
    run(variant, name, *ARGUMENTS.get(name, []))


def test_a_process_killed_at_any_instruction_leaves_the_old_or_the_new_never_a_part(run: Run) -> None:
    done = run("shipped", "killed")
    assert all(int(count) > 100 for count in re.findall(r"(\d+) instructions", done))
