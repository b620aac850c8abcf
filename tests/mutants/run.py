# SPDX-License-Identifier: MIT
"""Breaks one promise at a time, in a copy, and sees whether the tests notice: `make mutants`.

mutants.toml holds small mistakes that somebody could make. A test suite that lets one of them pass does not hold the
promise that it breaks. The checkout is read only: each mutant has a copy of its own, in a temporary directory. The exit
status is 1 where a mutant survived or could not be made, and 2 where the tests fail without any.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MUTANTS = Path(__file__).with_name("mutants.toml")
COPIED = ["lensipc", "csrc", "tests", "bench", "docs", "build.py", "pyproject.toml", "Makefile"]
COPIED += [path.name for path in ROOT.glob("*.md")]  # tests read them

# How long the tests of one mutant may take, and one of them (seconds): what hangs is noticed, too.
TIMEOUT = 300
TEST_TIMEOUT = 45
# pytest's exit statuses for arguments that are wrong, and for no test at all.
NOT_RUN = (4, 5)

CAUGHT, SURVIVED, FAILED = "caught", "survived", "FAILED"


@dataclass(frozen=True)
class Mutant:
    """A small mistake.

    Attributes:
        name: what `--only` calls it.
        file: where it is made.
        promise: what does not hold any more.
        tests: pytest's names of those that should notice.
        old, new: the text that stands there once, and what takes its place.
    """

    name: str
    file: str
    promise: str
    tests: tuple[str, ...]
    old: str
    new: str

    def applied(self, root: Path) -> str:
        """The file's text with the mistake in it. ValueError: the old text is not there exactly once."""
        text = (root / self.file).read_text(encoding="utf-8")
        count = text.count(self.old)
        if count != 1:
            raise ValueError(f"its old text is {count} times in {self.file}, where it has to be once")
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: CAUGHT, SURVIVED or FAILED, and by which test or why."""

    verdict: str
    detail: str
    seconds: float = 0.0


def load(path: Path = MUTANTS) -> list[Mutant]:
    """The mutants of a file. ValueError: two have one name, or one changes nothing."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
    mutants = [Mutant(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]
    names = [mutant.name for mutant in mutants]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"names that come twice: {', '.join(sorted(twice))}")
    idle = [mutant.name for mutant in mutants if mutant.old == mutant.new or not mutant.tests]
    if idle:
        raise ValueError(f"they change nothing, or name no test: {', '.join(idle)}")
    return mutants


def copy(target: Path) -> None:
    """A copy of the package and its tests, with a core of its own where the checkout has none that is up to date."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target / name)
    built = list((target / "lensipc").glob("_core*.so"))
    sources = [target / "build.py", *(path for path in (target / "csrc").rglob("*") if path.is_file())]
    if len(built) != 1 or built[0].stat().st_mtime < max(path.stat().st_mtime for path in sources):
        build(target)


def build(root: Path) -> None:
    """Compile the core of a copy. ValueError: that fails."""
    done = subprocess.run(
        [sys.executable, "build.py"], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise ValueError(f"it does not compile: {done.stdout.strip()[-500:]}")


def command(root: Path, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """How to run Python with a copy's package, and not with an installed one; and in what environment."""
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    return [sys.executable, "-P", *arguments], environment


def check_import(root: Path) -> None:
    """ValueError: what Python imports there is not the copy."""
    arguments, environment = command(root, "-c", "import lensipc; print(lensipc.__file__)")
    done = subprocess.run(arguments, cwd=root, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    if not Path(done.stdout.strip()).is_relative_to(root):
        raise ValueError(f"the tests would see {done.stdout.strip()}, and not the copy in {root}")


def run_tests(root: Path, tests: Iterable[str], *options: str, timeout: float = TIMEOUT) -> tuple[int, str]:
    """Run tests in a copy: pytest's exit status, which a signal makes negative, and what it said."""
    arguments, environment = command(root, "-m", "pytest", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider")
    arguments += [f"--timeout={TEST_TIMEOUT}", *options, *tests]
    with tempfile.TemporaryFile("w+") as said:  # no pipe: a process that is left over would keep it open
        process = subprocess.Popen(
            arguments, cwd=root, env=environment, stdout=said, stderr=said, stdin=subprocess.DEVNULL, process_group=0
        )
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            status = -signal.SIGKILL
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        said.seek(0)
        return status, said.read()


def try_out(mutant: Mutant, base: Path) -> Outcome:
    """Make the mistake in a copy of `base`, and run the tests that should notice."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-", ignore_cleanup_errors=True) as folder:
        root = Path(folder, "copy")
        shutil.copytree(base, root)
        try:
            (root / mutant.file).write_text(mutant.applied(root), encoding="utf-8")
            if mutant.file.startswith("csrc/"):
                build(root)
        except ValueError as error:
            return Outcome(FAILED, str(error))
        status, said = run_tests(root, mutant.tests, "-x")
    seconds = time.monotonic() - started
    if status == 0:
        return Outcome(SURVIVED, mutant.promise, seconds)
    if status in NOT_RUN:
        return Outcome(FAILED, said.strip()[-500:], seconds)
    found = re.search(r"^(?:FAILED|ERROR) \S*?(test_\w+\.py(?:::\w+)?)", said, re.MULTILINE)
    return Outcome(CAUGHT, found[1] if found else f"pytest ended with {status}", seconds)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines, each column as wide as its widest."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Try mutants out, and return the exit status."""
    parser = argparse.ArgumentParser(description="Whether the tests notice small mistakes that break a promise.")
    parser.add_argument("--only", action="append", metavar="NAME", help="this one; may come several times")
    parser.add_argument("--list", action="store_true", help="say which there are, and what each breaks")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="so many at once")
    parser.add_argument("--mutants", type=Path, default=MUTANTS, metavar="FILE", help="others than those beside this")
    options = parser.parse_args(arguments)
    mutants = load(options.mutants)
    unknown = set(options.only or ()) - {mutant.name for mutant in mutants}
    if unknown:
        parser.error(f"no mutant is called {', '.join(sorted(unknown))}: --list names them")
    if options.only:
        mutants = [mutant for mutant in mutants if mutant.name in options.only]
    if options.list:
        print(table([(mutant.name, mutant.file, mutant.promise) for mutant in mutants]))
        return 0
    with tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as folder:
        base = Path(folder, "base")
        base.mkdir()
        copy(base)
        check_import(base)
        tests = sorted({test for mutant in mutants for test in mutant.tests})
        status, said = run_tests(base, tests, timeout=TIMEOUT * len(mutants))
        if status:
            print(said, f"\nwithout any mutant, pytest ends with {status}: nothing is said of them", sep="")
            return 2
        outcomes = []
        with ThreadPoolExecutor(max(1, options.jobs)) as pool:
            for mutant, outcome in zip(mutants, pool.map(try_out, mutants, [base] * len(mutants)), strict=True):
                outcomes.append(outcome)
                print(f"{outcome.verdict:8}  {mutant.name}", flush=True)
    seen = zip(mutants, outcomes, strict=True)
    rows = [(mutant.name, each.verdict, f"{each.seconds:.1f} s", each.detail) for mutant, each in seen]
    print("", table([("mutant", "verdict", "took", "by, or why"), *rows]), sep="\n")
    verdicts = [outcome.verdict for outcome in outcomes]
    counts = ", ".join(f"{verdicts.count(each)} {each}" for each in (CAUGHT, SURVIVED, FAILED))
    print(f"\n{len(mutants)} mutants: {counts}")
    return 0 if set(verdicts) <= {CAUGHT} else 1


if __name__ == "__main__":
    sys.exit(main())
