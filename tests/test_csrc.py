# SPDX-License-Identifier: MIT
"""The C tests: each program of tests/c is built plain, with ASan and UBSan, and with TSan."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CC = shlex.split(os.environ.get("CC", "cc"))
CFLAGS = shlex.split(
    "-std=c11 -O1 -g -pthread -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes -Werror"
)
VARIANTS = {
    "plain": [],
    "asan": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "tsan": ["-fsanitize=thread"],
}
PROGRAMS = sorted((ROOT / "tests" / "c").glob("*.c"))
ARGUMENTS = {"hostile": ["100000"]}  # states; a night's worth is run by hand: see tests/c/hostile.c

Build = Callable[[str, Path], Path]


def is_for_tsan(program: Path) -> bool:
    """Whether it has threads, and not for the sake of a race: a hostile peer races on purpose."""
    return "pthread_create" in program.read_text() and program.stem != "hostile"


def compile_c(*arguments: str | Path) -> None:
    # GCC warns that TSan does not model fences. They order `parked` only: frames are published by release.
    wtsan = ["-Wno-tsan"] if "-fsanitize=thread" in arguments and "clang" not in CC[0] else []
    done = subprocess.run([*CC, *CFLAGS, *wtsan, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Compiles a program of one variant; the core's own files once per variant."""
    folder = tmp_path_factory.mktemp("csrc")

    def library(variant: str) -> Path:
        archive = folder / f"{variant}.a"
        if not archive.exists():
            objects = []
            for source in sorted((ROOT / "csrc").glob("*.c")):
                objects.append(folder / f"{variant}-{source.stem}.o")
                compile_c(*VARIANTS[variant], "-c", source, "-o", objects[-1])
            subprocess.run(["ar", "rcs", archive, *objects], check=True)
        return archive

    def program(variant: str, source: Path) -> Path:
        # What a program includes of csrc/*.c itself, the linker does not take from the archive.
        target = folder / f"{source.stem}-{variant}"
        compile_c(*VARIANTS[variant], source, library(variant), "-lrt", "-o", target)
        return target

    return program


RUNS = [(source, variant) for source in PROGRAMS for variant in VARIANTS if variant != "tsan" or is_for_tsan(source)]


@pytest.mark.parametrize(("source", "variant"), RUNS, ids=lambda each: getattr(each, "stem", each))
def test_program(build: Build, source: Path, variant: str) -> None:
    command = [build(variant, source), *ARGUMENTS.get(source.stem, [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
