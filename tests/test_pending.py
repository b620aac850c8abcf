# SPDX-License-Identifier: MIT
"""One request, one outcome: with a clock of the test's own, and at random against a model."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from lensipc import InvokeTimeout, PeerGone
from lensipc.runtime.pending import PendingInvokes


class Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Clock:
    """Timers that come when the test says so."""

    def __init__(self) -> None:
        self.timers: list[tuple[float, Timer]] = []

    def call_later(self, seconds: float, callback: Callable[[], None], caught_up: Callable[[int], bool]) -> Timer:
        assert caught_up(0)
        timer = Timer(callback)
        self.timers.append((seconds, timer))
        return timer

    def expire(self) -> None:
        for _, timer in self.timers:
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()


class Pending:
    def __init__(self) -> None:
        self.outcomes: list[Any] = []

    def set_result(self, result: Any, /) -> None:
        self.outcomes.append(result)

    def set_exception(self, exception: BaseException, /) -> None:
        self.outcomes.append(exception)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def invocations(clock: Clock) -> PendingInvokes:
    return PendingInvokes(clock.call_later, lambda _asked: True)


def nobody(_correlation: int) -> None:
    """Tell nobody."""


def test_ids_are_never_used_again(invocations: PendingInvokes) -> None:
    ids = []
    for _ in range(10):
        ids.append(invocations.open(Pending(), "it", None, nobody))
        invocations.take(ids[-1])
    assert ids == list(range(1, 11))


def test_what_is_taken_is_taken_once(invocations: PendingInvokes) -> None:
    pending = Pending()
    correlation = invocations.open(pending, "it", None, nobody)
    assert len(invocations) == 1
    assert invocations.take(correlation) is pending
    assert invocations.take(correlation) is None
    assert len(invocations) == 0


def test_an_outcome_of_nothing_that_was_asked_meets_nobody(invocations: PendingInvokes) -> None:
    for correlation in (0, 1, 2**64 - 1):
        assert invocations.take(correlation) is None


def test_a_timeout_is_the_outcome_and_the_other_side_is_told(invocations: PendingInvokes, clock: Clock) -> None:
    pending, told = Pending(), list[object]()
    correlation = invocations.open(pending, "invoke of ext/channel", 1.5, told.append)
    assert [seconds for seconds, _ in clock.timers] == [1.5]
    clock.expire()
    assert isinstance(pending.outcomes[0], InvokeTimeout)
    assert str(pending.outcomes[0]) == "invoke of ext/channel had no outcome within 1.5 s"
    assert told == [correlation]
    assert invocations.take(correlation) is None  # a late outcome meets nobody


def test_an_outcome_calls_its_timer_off(invocations: PendingInvokes, clock: Clock) -> None:
    told: list[int] = []
    invocations.take(invocations.open(Pending(), "it", 1.0, told.append))
    assert clock.timers[0][1].callback is None
    clock.expire()
    assert told == []


def test_who_gives_up_calls_the_timer_off_and_an_outcome_that_comes_then_is_late(
    invocations: PendingInvokes, clock: Clock
) -> None:
    correlation = invocations.open(Pending(), "it", 1.0, nobody)
    invocations.forget(correlation)
    invocations.forget(correlation)
    assert clock.timers[0][1].callback is None
    assert invocations.late == 0
    assert invocations.take(correlation) is None
    assert invocations.late == 1


def test_what_has_come_and_is_taken_later_has_no_timeout_any_more(invocations: PendingInvokes, clock: Clock) -> None:
    pending = Pending()
    correlation = invocations.open(pending, "it", 1.0, nobody)
    invocations.call_off(correlation)
    invocations.call_off(correlation)
    clock.expire()
    assert pending.outcomes == []
    assert invocations.take(correlation) is pending


def test_without_a_timeout_there_is_no_timer(invocations: PendingInvokes, clock: Clock) -> None:
    invocations.open(Pending(), "it", None, nobody)
    assert clock.timers == []


def test_a_timeout_that_cannot_be_told_to_the_other_side_is_the_outcome_all_the_same(
    invocations: PendingInvokes, clock: Clock
) -> None:
    def fail(_correlation: int) -> None:
        raise BufferError("no room")

    pending = Pending()
    invocations.open(pending, "it", 1.0, fail)
    with pytest.raises(BufferError):
        clock.expire()
    assert isinstance(pending.outcomes[0], InvokeTimeout)


def test_when_the_peer_is_gone_each_has_an_error_of_its_own(invocations: PendingInvokes, clock: Clock) -> None:
    pending = [Pending() for _ in range(5)]
    for each in pending:
        invocations.open(each, "it", 1.0, nobody)
    invocations.fail_all(lambda: PeerGone("gone"))
    invocations.fail_all(lambda: PeerGone("gone"))
    clock.expire()
    errors = [each.outcomes for each in pending]
    assert all(len(outcomes) == 1 and isinstance(outcomes[0], PeerGone) for outcomes in errors)
    assert len({id(outcomes[0]) for outcomes in errors}) == 5
    assert len(invocations) == 0


def test_those_that_wait_can_be_gone_through_while_each_is_given_its_outcome(invocations: PendingInvokes) -> None:
    pending = {invocations.open(each, "it", None, nobody): each for each in (Pending(), Pending(), Pending())}
    for correlation, each in invocations:
        assert pending[correlation] is each
        invocations.forget(correlation)
    assert len(invocations) == 0


def test_what_is_opened_while_all_fail_is_not_lost(invocations: PendingInvokes) -> None:
    opened: list[int] = []

    class Reopens(Pending):
        def set_exception(self, exception: BaseException, /) -> None:
            super().set_exception(exception)
            opened.append(invocations.open(Pending(), "again", None, nobody))

    invocations.open(Reopens(), "it", None, nobody)
    invocations.fail_all(lambda: PeerGone("gone"))
    assert invocations.take(opened[0]) is not None


def test_whatever_happens_in_whatever_order_each_request_has_exactly_one_outcome(
    invocations: PendingInvokes, clock: Clock
) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    everything: dict[int, Pending] = {}
    cancelled: set[int] = set()
    for _ in range(20_000):
        step = rng.random()
        if step < 0.4 or not everything:
            pending = Pending()
            everything[invocations.open(pending, "it", rng.choice([None, 1.0]), nobody)] = pending
        elif step < 0.7:
            taken = invocations.take(rng.choice(list(everything)[-50:]))
            if taken is not None:
                taken.set_result(1)
        elif step < 0.8:
            correlation = rng.choice(list(everything)[-50:])
            if not everything[correlation].outcomes:  # as a cancelled future does
                invocations.forget(correlation)
                cancelled.add(correlation)
        elif step < 0.99 and clock.timers:
            _, timer = clock.timers.pop(rng.randrange(len(clock.timers)))
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()
        else:
            invocations.fail_all(lambda: PeerGone("gone"))
    invocations.fail_all(lambda: PeerGone("gone"))
    for correlation, pending in everything.items():
        assert len(pending.outcomes) == (0 if correlation in cancelled else 1)
    assert len(invocations) == 0


def test_a_timeout_that_is_refused_leaves_nothing() -> None:
    def refuse(*_: object) -> Timer:
        raise ValueError("no such time")

    invocations = PendingInvokes(refuse, lambda _asked: True)
    with pytest.raises(ValueError, match="no such time"):
        invocations.open(Pending(), "asked", 1.0, lambda _correlation: None)
    assert len(invocations) == 0
    assert list(invocations) == []
