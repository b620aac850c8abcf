# SPDX-License-Identifier: MIT
"""Runs the wheels of dist/: `make wheels-test`, or `python tests/wheels/run.py [--only PLATFORM] [--python VERSION]`.

Each is installed with what it needs, in a fresh environment where no compiler is found, and runs smoke.py, on each
Python that can be had for it. What cannot be had is in the table with the reason; the status is 1 where something
failed, or where nothing ran.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import pythons

SMOKE = Path(__file__).resolve().with_name("smoke.py")
VERSIONS = ["3.11", "3.12", "3.13", "3.14", "3.15"]
# How long one may take, seconds: an emulator is slow.
WATCHDOG = 300
PIP = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:"]


def install(wheel: Path, python: pythons.Python, folder: Path) -> tuple[list[str | Path], dict[str, str]]:
    """Install it; what runs a script there: a command, and variables."""
    if not python.takes:
        pythons.call(python.command, "-m", "venv", folder / "venv")
        there = folder / "venv" / "bin" / "python"
        pythons.call(there, *PIP, wheel)
        return [there, SMOKE], {}
    site = folder / "site"
    chosen = [f"--platform={each}" for each in python.takes]
    abi = f"cp{python.version.replace('.', '')}"
    alone = ["--no-deps"] if python.packages else []
    options = [*chosen, f"--python-version={python.version}", f"--abi={abi}", "--abi=abi3", "--abi=none", *alone]
    pythons.call(sys.executable, *PIP, "--implementation=cp", *options, f"--target={site}", wheel)
    return [python.command, SMOKE, python.command], {"PYTHONPATH": str(site)}


def tried(wheel: Path, version: str) -> tuple[bool | None, str, str]:
    """Whether it ran; None: no such Python can be had. With the Python's name, and what was said."""
    try:
        python = pythons.find(wheel.stem.rsplit("-", 1)[1], version)
    except pythons.CannotBeHadError as reason:
        return None, "", str(reason)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            command, variables = install(wheel, python, folder)
        except pythons.CannotBeHadError as reason:
            return False, python.name, f"not installed: {reason}"
        bare = {"PATH": str(folder / "nothing"), "HOME": name, "LANG": "C.UTF-8"} | variables
        try:
            done = subprocess.run(command, env=bare, cwd=folder, capture_output=True, text=True, timeout=WATCHDOG)
        except subprocess.TimeoutExpired:
            return False, python.name, f"did not end in {WATCHDOG} s"
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        return False, python.name, (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
    return True, python.name, done.stdout.strip()


def main() -> None:
    """Run all, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="wheels whose platform has this in its name; native: those for here")
    parser.add_argument("--python", choices=VERSIONS, action="append", help="a version; may be given again")
    parser.add_argument("--dist", type=Path, default=pythons.ROOT / "dist")
    arguments = parser.parse_args()
    only = (
        f"many*{platform.machine()}" if arguments.only == "native" else f"*{arguments.only}*" if arguments.only else "*"
    )
    wheels = sorted(arguments.dist.resolve().glob(f"*-cp311-abi3-{only}.whl"))
    results = []
    for wheel in wheels:
        for version in arguments.python or VERSIONS:
            ran, name, said = tried(wheel, version)
            word = {True: "ran", False: "FAILED", None: "-"}[ran]
            line = f"{wheel.stem.rsplit('-', 1)[1]:24} {version:5} {word:7} {f'({name}) ' if name else ''}{said}"
            print(line, flush=True)
            results.append(ran)
    sys.exit(1 if False in results or True not in results else 0)


if __name__ == "__main__":
    os.environ.setdefault("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    main()
