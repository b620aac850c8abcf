# SPDX-License-Identifier: MIT
"""A slice of each command of faults/, with a fresh seed: `make faults` runs them all at full length.

What a test prints, which pytest shows when it fails, is the command that repeats it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FAULTS = Path(__file__).parent / "faults"


def run(name: str, *arguments: object) -> dict[str, Any]:
    """Run a command of faults/; what it measured."""
    program = [sys.executable, str(FAULTS / f"{name}.py"), *map(str, arguments)]
    done = subprocess.run(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(" ".join(program), done.stdout, sep="\n")
    assert done.returncode == 0
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def test_renderers_killed_at_random_instants_take_nothing_with_them_and_leave_nothing() -> None:
    measured = run("kills", "--who", "renderer", "--count", 20)
    assert measured["others' calls"] == measured["others' calls answered"]


def test_a_main_killed_at_random_instants_leaves_its_renderers_told_and_nothing_else() -> None:
    run("kills", "--who", "main", "--count", 6)


def test_every_invoke_has_exactly_one_outcome_whatever_becomes_of_it() -> None:
    assert run("outcomes", "--count", 20_000)["invokes"] >= 20_000


@pytest.mark.parametrize(("what", "count"), [("attach", 100), ("listen", 20_000), ("enable", 50)])
def test_coming_and_going_keeps_nothing_and_each_listener_hears_each_event_once(what: str, count: int) -> None:
    run("churn", "--what", what, "--count", count)


def test_a_program_that_ends_with_everything_open_ends_well() -> None:
    run("exits", "--count", 7)


def test_signals_at_random_instants_lose_no_message() -> None:
    run("interruptions", "--count", 1000)


def test_a_stopped_receiver_costs_the_others_nothing_and_its_losses_are_counted() -> None:
    run("slow", "--seconds", 2)


def test_a_quiet_renderer_has_its_turn_among_those_that_flood() -> None:
    run("flood", "--count", 16, "--seconds", 1)


def test_stopping_and_continuing_either_side_loses_no_wake_and_is_no_death() -> None:
    run("stops", "--count", 10, "--longest", 0.5)


def test_a_hostile_process_takes_no_more_of_main_than_its_share() -> None:
    run("neighbours", "--seconds", 0.3)


def test_views_kept_at_random_are_right_to_their_end_whoever_is_killed() -> None:
    assert run("views", "--count", 300, "--every", 0.1)["kills"] > 0


@pytest.mark.parametrize("who", ["main", "renderer", "script"])
def test_threads_that_send_at_once_lose_and_tear_nothing_and_keep_their_order(who: str) -> None:
    run("threads", "--who", who, "--count", 10_000, "--arrays", 20)
