# SPDX-License-Identifier: MIT
"""A slice of the fuzzer of values, and whether it sees what it looks for. fuzz/fuzz_values.py says what that is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fuzz import examples

from lensipc import clone

FUZZER = Path(__file__).parent / "fuzz" / "fuzz_values.py"

FAULTS = {
    "none": "right",
    "crash": "decode: dies of SIGSEGV",
    "hang": "decode: hangs",
    "time": "decode takes too long",
    "memory": "takes too much memory",
    "leak": "decode leaves memory behind",
    "open": "decode runs open",
    "import": "decode runs import",
    "system": "decode raises KeyboardInterrupt",
    "uncleared": "memory that was never cleared",
    "use": "hash of Faulty: SystemError",
}


def fuzz(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FUZZER), "--folder", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)


def test_a_slice_of_the_fuzzer_of_values_finds_nothing(tmp_path: Path) -> None:
    done = fuzz(tmp_path, "--seed", "12", "--count", "50000", "--seconds", "50", "--kinds", "1", "--shorten", "0")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_fuzzer_sees_each_kind_of_fault(tmp_path: Path) -> None:
    undo = examples.register()
    messages = [clone.encode(examples.Faulty(fault)).hex() for fault in FAULTS]
    undo()
    path = tmp_path / "messages.hex"
    path.write_text("\n".join(messages))
    told = fuzz(tmp_path, "--replay", str(path)).stdout.splitlines()
    for (fault, kind), line in zip(FAULTS.items(), told, strict=True):
        assert kind in line, f"{fault}: {line}"


def test_the_same_seed_makes_the_same_messages(tmp_path: Path) -> None:
    first, again = (fuzz(tmp_path, "--seed", "5", "--count", "1000", "--print").stdout for _ in range(2))
    assert len(first.splitlines()) == 1000
    assert first == again
    assert len(set(first.splitlines())) > 800  # the shortest come often
