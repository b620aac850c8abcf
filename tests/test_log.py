# SPDX-License-Identifier: MIT
"""The log: so much of a kind at most, and whatever user code has raised."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest

from lensipc.log import _Few, log, log_raised


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock that a test sets."""
    now = [time.monotonic() + 1000]  # other tests' lines are long ago
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    yield now
    for each in log.filters:
        if isinstance(each, _Few):
            each._kinds.clear()


def test_so_many_lines_of_one_kind_are_logged_in_a_second_and_the_next_says_how_many_were_left_out(
    caplog: pytest.LogCaptureFixture, clock: list[float]
) -> None:
    for number in range(1000):
        log.warning("stranger %d is here", number)
    assert [record.getMessage() for record in caplog.records] == [f"stranger {number} is here" for number in range(10)]
    log.warning("another kind")
    assert caplog.records[-1].getMessage() == "another kind"
    clock[0] += 1
    for number in range(1000):
        log.warning("stranger %d is here", number)
    said = [record.getMessage() for record in caplog.records[11:]]
    assert said[0] == "stranger 0 is here (and 990 more lines like this one, which were left out)"
    assert said[1:] == [f"stranger {number} is here" for number in range(1, 10)]
    clock[0] += 60
    log.warning("stranger %d is here", 7)
    assert "990 more" in caplog.records[-1].getMessage()
    clock[0] += 1
    log.warning("stranger %d is here", 8)
    assert caplog.records[-1].getMessage() == "stranger 8 is here"


def test_errors_of_user_code_are_bounded_too(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(1000):
        log_raised(ValueError("what a stranger sends"), "listener of %s raised", "x")
    assert len(caplog.records) == 100


def test_what_python_cannot_print_is_logged_all_the_same(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = logging.StreamHandler()
    log.addHandler(handler)
    try:
        log_raised(SyntaxError("bad", ("query", 1, 3, b"a b")), "%s raised", "it")  # type: ignore[arg-type]
    finally:
        log.removeHandler(handler)
    assert "it raised" in caplog.text
    assert "SyntaxError: bad (query, line 1)" in caplog.text
    assert "Logging error" not in capsys.readouterr().err
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is SyntaxError
