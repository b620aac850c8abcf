# SPDX-License-Identifier: MIT
"""The shipped core, run under every behaviour that C11's memory model allows it: tests/model/explorer.h says how."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import programs
import pytest

SITE = re.compile(r"memory_order_(acquire|release|acq_rel|seq_cst)\b")
WEAKER = {"acquire": ["relaxed"], "release": ["relaxed"], "acq_rel": ["relaxed"], "seq_cst": ["relaxed", "acq_rel"]}
# No process shares anything with another there: tests/c runs their threads under ThreadSanitizer.
UNSHARED = ("account.c", "buffer_pool.c", "mapped_slabs.c", "slabs.c", "views.c")


def lines(pattern: re.Pattern[str]) -> list[tuple[str, re.Match[str]]]:
    """The places that match in the core's source, where it meets another process."""
    return [
        (f"{path.name}:{number}", found)
        for path in programs.CORE
        if path.name not in UNSHARED
        for number, line in enumerate(path.read_text().splitlines(), 1)
        for found in pattern.finditer(line)
    ]


SITES = [(place, found[1]) for place, found in lines(SITE)]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return programs.shimmed(tmp_path_factory.mktemp("model"), "shipped", "model")


def explore(model: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([model, *arguments], capture_output=True, text=True, timeout=110, check=False)
    print(done.stdout)
    return done


def test_no_frame_is_torn_and_no_wake_is_lost_in_any_execution_that_the_memory_model_allows(model: Path) -> None:
    done = explore(model, "sites")
    assert done.returncode == 0, done.stdout
    states = re.search(r"^(\d+) states$", done.stdout, re.MULTILINE)
    assert states is not None
    assert int(states[1]) > 1_000_000, "the model explores next to nothing"
    # The very accesses of the source: none is left out, and none is a copy that could differ.
    assert set(re.findall(r"^\w+\.c:\d+$", done.stdout, re.MULTILINE)) == {place for place, _ in SITES}


@pytest.mark.parametrize(
    "weaker", [f"{place}:{weaker}" for place, order in SITES for weaker in WEAKER[order]], ids=lambda each: each
)
def test_each_order_and_each_fence_is_needed(model: Path, weaker: str) -> None:
    done = explore(model, weaker)
    assert done.returncode == 1, f"{weaker} makes no difference"
    assert re.search("a race with a (read|write)|a wake is lost", done.stdout)


def test_signals_taken_by_a_plain_store_would_be_lost(model: Path) -> None:
    *_, (last, _) = lines(re.compile(r"\(void\)atomic_exchange_explicit\(posted"))
    done = explore(model, f"{last}:plain")
    assert done.returncode == 1
    assert "a wake is lost" in done.stdout


def test_every_atomic_operation_of_the_core_is_one_that_the_explorer_answers() -> None:
    shim = (programs.ROOT / "tests" / "model" / "shim.h").read_text()
    known = set(re.findall(r"#undef (atomic_\w+)", shim))
    assert {found[0] for _, found in lines(re.compile(r"\batomic_\w+(?=\()"))} <= known
    assert not lines(re.compile(r"\b__(atomic|sync)_\w+"))
    where = {place.partition(":")[0] for place, _ in lines(re.compile(r"\batomic_\w+(?=\()"))}
    assert where == {"ring.c", "wakeup.c", "segment.c"}
