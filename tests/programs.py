# SPDX-License-Identifier: MIT
"""Builds the C tests, and runs one by hand: `python tests/programs.py VARIANT PROGRAM [ARGUMENT ...]`.

PROGRAM is the name of a file of tests/c, or `model` or `delays` of tests/model.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CC = shlex.split(os.environ.get("CC", "cc"))
CFLAGS = shlex.split(
    "-std=c11 -O1 -g -pthread -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wstrict-prototypes -Werror"
)
VARIANTS = {
    "plain": [],
    "asan": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "tsan": ["-fsanitize=thread"],
    "shipped": ["-O2"],  # the instructions that users run: as build.py compiles them
    "aarch64": ["-O2", "-static"],
}
CROSS = "aarch64-linux-gnu-gcc"
EMULATOR = "qemu-aarch64"
# The calls of a program's that it can make fail one by one.
FALLIBLE = [
    "malloc",
    "calloc",
    "realloc",
    "free",
    "syscall",
    "shm_open",
    "ftruncate",
    "posix_fallocate",
    "mmap",
    "madvise",
    "mprotect",
    "fcntl",
    "fstat",
    "timerfd_create",
]
WRAPPED = {"exhaustion": FALLIBLE}
CORE = sorted(path for part in ("ring", "endpoint") for path in (ROOT / "csrc" / part).glob("*.c"))


def what_lacks_for(variant: str) -> str | None:
    """Why a variant cannot be built or run on this machine, if so."""
    lacking = [tool for tool in (CROSS, EMULATOR) if variant == "aarch64" and not shutil.which(tool)]
    return f"{' and '.join(lacking)} not found (Debian: gcc-aarch64-linux-gnu, qemu-user)" if lacking else None


def compile_c(variant: str, *arguments: str | Path) -> None:
    """One call of the compiler, with all warnings."""
    compiler = [CROSS] if variant == "aarch64" else CC
    # GCC warns that TSan does not model fences. They order `parked` only: frames are published by release.
    wtsan = ["-Wno-tsan"] if variant == "tsan" and "clang" not in compiler[0] else []
    command = [*compiler, *CFLAGS, f"-I{ROOT / 'csrc'}", *wtsan, *VARIANTS[variant], *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def library(folder: Path, variant: str) -> Path:
    """The core of one variant."""
    archive = folder / f"{variant}.a"
    if not archive.exists():
        objects = []
        for source in CORE:
            objects.append(folder / f"{variant}-{source.stem}.o")
            compile_c(variant, "-c", source, "-o", objects[-1])
        subprocess.run(["ar", "rcs", archive, *objects], check=True)
    return archive


def program(folder: Path, variant: str, name: str) -> Path:
    """A program of tests/c. What it includes of the core's files itself, the linker does not take from the archive."""
    target = folder / f"{name}-{variant}"
    wrapped = [f"-Wl,--wrap={function}" for function in WRAPPED.get(name, [])]
    source = ROOT / "tests" / "c" / f"{name}.c"
    compile_c(variant, source, library(folder, variant), *wrapped, "-lrt", "-o", target)
    return target


# The programs of tests/model: their own files, and those of the core whose atomics and calls they answer (shim.h).
SHIMMED = {
    "model": (["explorer", "memory", "scenarios", "header"], ["ring", "wakeup", "send", "receive", "outbox"]),
    "delays": (["delays"], ["ring", "wakeup", "send", "receive", "outbox", "endpoint"]),
}


def shimmed(folder: Path, variant: str, name: str) -> Path:
    """A program of tests/model; `scenarios` and `header` include the rest of the core."""
    own, core = SHIMMED[name]
    here = ROOT / "tests" / "model"
    objects: list[Path] = []
    for source in [*(here / f"{stem}.c" for stem in own), *(path for path in CORE if path.stem in core)]:
        objects.append(folder / f"{name}-{variant}-{source.stem}.o")
        shim: list[str | Path] = (
            ["-include", here / "shim.h"] if source.stem not in ("explorer", "memory", "delays") else []
        )
        compile_c(variant, *shim, "-c", source, "-o", objects[-1])
    target = folder / f"{name}-{variant}"
    compile_c(variant, *objects, library(folder, variant), "-lrt", "-o", target)
    return target


def command(folder: Path, variant: str, name: str) -> list[str | Path]:
    """What to run, built."""
    built = (shimmed if name in SHIMMED else program)(folder, variant, name)
    return [EMULATOR, built] if variant == "aarch64" else [built]


def main(variant: str, name: str, *arguments: str) -> int:
    """Build, run, and give the exit status."""
    lacking = what_lacks_for(variant)
    if lacking:
        print(f"skipped: {lacking}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run([*command(Path(folder), variant, name), *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
