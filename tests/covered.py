# SPDX-License-Identifier: MIT
"""What the tests run of lensipc/ and csrc/: `make coverage`, or `python tests/covered.py [--holes N] [PYTEST'S ...]`.

The tests are run on a copy whose C core is compiled for gcov, so that nothing in the checkout is. Python is measured
by branches, in renderers and other child processes, too; C by lines, in the extension module and in the plain programs
of tests/c. What is killed by SIGKILL takes what it has counted with it. lensipc/bench is left out. A test may fail here
that looks at what a process imports, opens, allocates or inherits: coverage does so, too.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COPIED = (
    "lensipc",
    "csrc",
    "tests",
    "bench",
    "docs",
    "examples",
    "mkdocs.yml",
    "build.py",
    "pyproject.toml",
    "Makefile",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "RELEASING.md",
    "SECURITY.md",
)
GCOV = "--coverage -fprofile-update=atomic"
# They run other copies of the core, or measure.
LEFT_OUT = ["test_csrc", "test_model", "test_mutants", "test_bench"]
SETTINGS = """
[run]
branch = true
parallel = true
sigterm = true
source = {copy}/lensipc
omit = {copy}/lensipc/bench/*
data_file = {copy}/.coverage
patch = subprocess
[report]
exclude_also =
    if TYPE_CHECKING:
    \\.\\.\\.$
"""


def copied(copy: Path) -> None:
    """A fresh copy of what the tests need."""
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            shutil.copy(source, copy)
    (copy / "coveragerc").write_text(SETTINGS.format(copy=copy))


def run_tests(copy: Path, arguments: list[str]) -> None:
    """All tests under coverage, then the C programs."""
    pytest = ["-m", "pytest", "-q", f"--basetemp={copy / 'tmp'}", "-o", "tmp_path_retention_policy=all"]
    left_out = [f"--ignore=tests/{name}.py" for name in LEFT_OUT]
    command = ["-m", "coverage", "run", f"--rcfile={copy / 'coveragerc'}", *pytest, *left_out, *arguments]
    subprocess.run([sys.executable, *command], cwd=copy, check=False)
    pytest[3] = f"--basetemp={copy / 'tmp-c'}"
    programs = [*pytest, "tests/test_csrc.py", "-k", "plain"]
    environment = {**os.environ, "CC": f"{os.environ.get('CC', 'cc')} {GCOV}"}
    subprocess.run([sys.executable, *programs], cwd=copy, env=environment, check=False)


def python_lines(copy: Path) -> dict[str, Any]:
    """What coverage tells, by file."""
    rcfile = f"--rcfile={copy / 'coveragerc'}"
    subprocess.run([sys.executable, "-m", "coverage", "combine", "-q", rcfile], cwd=copy, check=True)
    command: list[str | Path] = [sys.executable, "-m", "coverage", "json", "-q", rcfile, "-o", copy / "python.json"]
    subprocess.run(command, cwd=copy, check=True)
    files: dict[str, Any] = json.loads((copy / "python.json").read_text())["files"]
    return files


def c_lines(copy: Path) -> dict[str, Counter[int]]:
    """How often each line of csrc/ has run, by file."""
    lines: dict[str, Counter[int]] = defaultdict(Counter)
    folder = copy / "gcov"
    folder.mkdir()
    for number, data in enumerate(sorted(copy.rglob("*.gcda"))):
        own = folder / str(number)
        own.mkdir()
        subprocess.run(["gcov", "--json-format", data], cwd=own, capture_output=True, check=True)
        for path in own.glob("*.gcov.json.gz"):
            for file in json.loads(gzip.decompress(path.read_bytes()))["files"]:
                _, found, name = file["file"].rpartition("csrc/")
                for line in file["lines"] if found else ():
                    lines[found + name][line["line_number"]] += line["count"]
    return dict(lines)


def runs(numbers: Iterable[int], counted: Iterable[int]) -> list[tuple[int, int, int]]:
    """Of the lines that count, those that come one after the other: how many, the first, the last."""
    missing, found, run = set(numbers), [], list[int]()
    for number in [*sorted(counted), 0]:
        if number in missing:
            run.append(number)
        elif run:
            found.append((len(run), run[0], run[-1]))
            run = []
    return found


def main() -> int:
    """Copy, compile, run, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--holes", type=int, default=10, help="how many of the largest to print")
    parser.add_argument("--copy", type=Path, default=ROOT / "build" / "coverage")
    options, arguments = parser.parse_known_args()
    copy = options.copy.resolve()
    copied(copy)
    environment = {**os.environ, "CFLAGS": f"{GCOV} -O1"}
    subprocess.run([sys.executable, "build.py"], cwd=copy, env=environment, check=True, stdout=subprocess.DEVNULL)
    run_tests(copy, arguments)

    holes: list[tuple[int, str]] = []
    print(f"{'file':<44}{'lines':>7}{'missed':>8}{'branches':>10}{'missed':>8}{'covered':>9}")

    def row(name: str, lines: int, missed: int, branches: int, partly: int) -> None:
        share = 100 * (1 - (missed + partly) / max(1, lines + branches))
        print(f"{name:<44}{lines:>7}{missed:>8}{branches or '':>10}{partly if branches else '':>8}{share:>8.1f}%")

    total = Counter[str]()
    for name, each in sorted(python_lines(copy).items()):
        summary, missing = each["summary"], each["missing_lines"]
        numbers = [summary[key] for key in ("num_statements", "missing_lines", "num_branches", "missing_branches")]
        row(name, *numbers)
        total.update(dict(zip("abcd", numbers, strict=True)))
        holes += [
            (size, f"{name}:{first}-{last}") for size, first, last in runs(missing, each["executed_lines"] + missing)
        ]
    row("Python", *(total[key] for key in "abcd"))
    lines = missed = 0
    for name, counts in sorted(c_lines(copy).items()):
        missing = [number for number, count in counts.items() if not count]
        row(name, len(counts), len(missing), 0, 0)
        lines, missed = lines + len(counts), missed + len(missing)
        holes += [(size, f"{name}:{first}-{last}") for size, first, last in runs(missing, counts)]
    row("C", lines, missed, 0, 0)
    print("\nThe largest holes:")
    for size, where in sorted(holes, reverse=True)[: options.holes]:
        print(f"{size:>5} lines  {where}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
