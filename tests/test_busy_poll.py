# SPDX-License-Identifier: MIT
"""When it pays to poll before sleeping."""

from __future__ import annotations

from lensipc.transport.busy_poll import CREDIT, POLL, TRIAL, Patience


def test_one_who_finds_nothing_polls_only_now_and_then() -> None:
    patience = Patience()
    polls = 0
    for _ in range(TRIAL * 10):
        if patience.nanoseconds:
            polls += 1
            assert patience.report(False) is False
        else:
            patience.rested()
    assert 8 <= polls <= 10


def test_a_find_earns_more_polls_and_failures_use_them_up() -> None:
    patience = Patience()
    assert patience.nanoseconds == 0
    assert patience.report(True) is True
    assert patience.nanoseconds == POLL
    failures = 0
    while patience.nanoseconds:
        patience.report(False)
        failures += 1
    assert 1 <= failures <= CREDIT


def test_credit_has_a_limit() -> None:
    patience = Patience()
    for _ in range(1000):
        patience.report(True)
    failures = 0
    while patience.nanoseconds:
        patience.report(False)
        failures += 1
    assert failures <= CREDIT


def test_where_others_want_the_processor_all_credit_is_lost_at_once() -> None:
    patience = Patience()
    for _ in range(CREDIT):
        patience.report(True)
    assert patience.report(None) is False
    assert patience.nanoseconds == 0


def test_that_others_want_the_processor_is_believed_until_it_is_time_to_try_again() -> None:
    patience = Patience()
    assert not patience.crowded
    patience.report(None)
    for _ in range(TRIAL):
        assert patience.crowded
        patience.rested()
    assert not patience.crowded
