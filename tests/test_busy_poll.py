# SPDX-License-Identifier: MIT
"""When it pays to poll before sleeping."""

from __future__ import annotations

from lensipc.runtime.busy_poll import CREDIT, POLL, TRIAL, BusyPoll


def test_one_who_finds_nothing_polls_only_now_and_then() -> None:
    busy_poll = BusyPoll()
    polls = 0
    for _ in range(TRIAL * 10):
        if busy_poll.nanoseconds:
            polls += 1
            assert busy_poll.report(False) is False
        else:
            busy_poll.rested()
    assert 8 <= polls <= 10


def test_a_find_earns_more_polls_and_failures_use_them_up() -> None:
    busy_poll = BusyPoll()
    assert busy_poll.nanoseconds == 0
    assert busy_poll.report(True) is True
    assert busy_poll.nanoseconds == POLL
    failures = 0
    while busy_poll.nanoseconds:
        busy_poll.report(False)
        failures += 1
    assert 1 <= failures <= CREDIT


def test_credit_has_a_limit() -> None:
    busy_poll = BusyPoll()
    for _ in range(1000):
        busy_poll.report(True)
    failures = 0
    while busy_poll.nanoseconds:
        busy_poll.report(False)
        failures += 1
    assert failures <= CREDIT


def test_where_others_want_the_processor_all_credit_is_lost_at_once() -> None:
    busy_poll = BusyPoll()
    for _ in range(CREDIT):
        busy_poll.report(True)
    assert busy_poll.report(None) is False
    assert busy_poll.nanoseconds == 0


def test_that_others_want_the_processor_is_believed_until_it_is_time_to_try_again() -> None:
    busy_poll = BusyPoll()
    assert not busy_poll.preempted
    busy_poll.report(None)
    for _ in range(TRIAL):
        assert busy_poll.preempted
        busy_poll.rested()
    assert not busy_poll.preempted
