# SPDX-License-Identifier: MIT
"""Runs the tests on an installed wheel, not on this checkout: `make test-wheel PYTHON=python3.13 [SHARE=3] [SEED=1]`.

What the tests need is copied away from the checkout, without lensipc/: so what they import is what the wheel of dist/
for this machine has put into a fresh environment of that Python. PYTHON is a command, or a version, such as 3.15, that
pythons.py gets. One of so many tests is run: a printed seed chooses. All of them are run by two pytests at a time,
because tests of processes mostly wait.
"""

from __future__ import annotations

import argparse
import platform
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What tests read of a checkout. csrc/ and build.py: they build the C core's own tests, and variants with sanitizers.
NEEDED = ["tests", "bench", "docs", "examples", "csrc", "build.py", "pyproject.toml", "mkdocs.yml", "Makefile"]
NEEDED += ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "RELEASING.md", "SECURITY.md"]
# These are of the text of a checkout, and say nothing of a wheel.
OF_CHECKOUTS = ["--ignore=tests/test_mutants.py", "--ignore=tests/test_house.py"]
# These are of C alone, whatever Python it is: they run where all tests do.
OF_C = ["--ignore=tests/test_csrc.py", "--ignore=tests/test_model.py"]
# The files that one pytest runs while the other runs the rest: about half of the time.
HALF = ["adapters", "bench", "channels", "cli", "clone", "constructors", "constructors_generated", "csrc", "demo"]
HALF += ["docs", "endpoint", "events", "examples", "extension", "fuzz", "handshake", "ipc", "large_arrays", "model"]
HALF += ["pending", "poller", "pool", "reader", "remote_error", "streams", "subclasses", "supervision", "testing"]
HALF += ["types", "user_code", "writer"]


class Share:
    """Leaves one of so many tests, which the seed chooses."""

    def __init__(self, share: int, seed: int) -> None:
        self.share, self.seed = share, seed

    def pytest_collection_modifyitems(self, items: list[object]) -> None:
        """In their order: some fixtures are of a file."""
        chosen = set(random.Random(self.seed).sample(range(len(items)), -(-len(items) // self.share)))
        items[:] = [item for number, item in enumerate(items) if number in chosen]


def in_two_halves(command: list[str | Path], copy: Path) -> int:
    """Run all tests by two pytests at a time; print what each has said when it has ended, and give the worse status."""
    files = [f"tests/test_{name}.py" for name in HALF]
    runs = []
    for arguments in (files, [f"--ignore={name}" for name in files]):
        log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - until its run has ended
        runs.append((subprocess.Popen([*command, *arguments], cwd=copy, stdout=log, stderr=log), log))
    worst = 0
    for run, log in runs:
        worst = max(worst, abs(run.wait()))
        log.seek(0)
        print(log.read(), flush=True)
        log.close()
    return worst


def inside(share: int, seed: int, arguments: list[str]) -> int:
    """Run pytest, in the environment that has the wheel."""
    import pytest

    import lensipc

    assert Path(lensipc.__file__).is_relative_to(sys.prefix), f"this is not the wheel's: {lensipc.__file__}"
    print(f"lensipc {lensipc.__version__} of {Path(lensipc.__file__).parent}, Python {sys.version}")
    print(f"one test of {share}: --share {share} --seed {seed}", flush=True)
    left_out = OF_CHECKOUTS + (OF_C if share > 1 else [])
    return pytest.main(["-q", *left_out, *arguments], plugins=[Share(share, seed)])


def main() -> int:
    """Make the environment and the copy, run, and give pytest's status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="a command, or a version that pythons.py gets")
    parser.add_argument("--share", type=int, default=1, help="one of so many tests")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--dist", type=Path, default=ROOT / "dist")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments, more = parser.parse_known_args()
    if arguments.inside:
        return inside(arguments.share, arguments.seed, more)
    with tempfile.TemporaryDirectory(prefix="lensipc-suite-") as name:
        copy, environment = Path(name, "copy"), Path(name, "venv")
        copy.mkdir()
        for each in NEEDED:
            source = ROOT / each
            if source.is_dir():
                shutil.copytree(source, copy / each, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, copy)
        import pythons

        of = arguments.python
        if of.replace(".", "").isdigit():
            found = pythons.find(f"manylinux_2_17_{platform.machine()}", of)
            of = found.command
            if found.takes:  # unpacked, with a libc of its own, which a frozen program does not bring along
                more += ["-k", "not frozen_program"]
        subprocess.run([of, "-m", "venv", "--without-pip", environment], check=True)
        python = environment / "bin" / "python"
        pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
        (wheel,) = arguments.dist.resolve().glob(f"*-cp311-abi3-manylinux*_{platform.machine()}.whl")
        subprocess.run([*pip, f"{wheel}[cli,bench,testing]", "--group", "dev"], cwd=copy, check=True)
        options = ["--inside", "--share", str(arguments.share), "--seed", str(arguments.seed)]
        command: list[str | Path] = [python, "-P", copy / "tests/wheels/suite.py", *options, *more]
        return in_two_halves(command, copy) if arguments.share == 1 else subprocess.run(command, cwd=copy).returncode


if __name__ == "__main__":
    sys.exit(main())
