# SPDX-License-Identifier: MIT
"""The poller: one descriptor for descriptors, timers and work left over."""

from __future__ import annotations

import math
import os
import select
import socket
import time
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from lensipc.transport.poller import EDGE, Poller, seconds_of

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def poller() -> Iterator[Poller]:
    poller = Poller()
    yield poller
    poller.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        yield ours, theirs


def readable(poller: Poller) -> bool:
    """Whether a foreign loop would call poll now."""
    return bool(select.select([poller.fileno()], [], [], 0)[0])


def poll_until(poller: Poller, condition: object) -> None:
    """Poll until a list is not empty; the test's own timeout is the watchdog."""
    while not condition:
        poller.poll(None)


def test_nothing_to_do_is_not_readable_and_calls_nothing(poller: Poller) -> None:
    assert not readable(poller)
    assert poller.poll(0) is False


def test_a_readable_descriptor_calls_its_callback_until_it_is_read(poller: Poller, pair: Pair) -> None:
    ours, theirs = pair
    called: list[int] = []
    poller.register(ours.fileno(), lambda: called.append(1))
    theirs.send(b"x")
    assert readable(poller)
    assert poller.poll(0) is True
    poller.poll(0)
    assert called == [1, 1]
    ours.recv(1)
    assert not readable(poller)
    assert poller.poll(0) is False


def test_the_end_of_a_socket_is_told(poller: Poller, pair: Pair) -> None:
    ours, theirs = pair
    called: list[int] = []
    poller.register(ours.fileno(), lambda: called.append(1))
    theirs.close()
    poll_until(poller, called)


def test_an_edge_is_told_once_a_signal_and_needs_no_read(poller: Poller) -> None:
    fd = os.eventfd(0)
    called: list[int] = []
    poller.register(fd, lambda: called.append(1), EDGE)
    for count in (1, 2, 3):
        os.eventfd_write(fd, 1)
        assert readable(poller)
        poller.poll(0)
        assert len(called) == count
        assert not readable(poller)
    poller.unregister(fd)
    os.close(fd)


def test_a_wake_is_readable_until_the_next_poll_and_two_are_one(poller: Poller) -> None:
    poller.wake()
    poller.wake()
    assert readable(poller)
    assert poller.poll(0) is True
    assert not readable(poller)
    poller.wake()
    assert readable(poller)


def test_timers_come_in_the_order_of_their_times_and_then_of_their_making(poller: Poller) -> None:
    called: list[str] = []
    for name, seconds in (("c", 0.03), ("a", 0.0), ("d", 0.03), ("b", 0.01)):
        poller.call_later(seconds, partial(called.append, name))
    while len(called) < 4:
        poller.poll(None)
    assert called == ["a", "b", "c", "d"]
    assert not readable(poller)


def test_a_timer_is_never_early(poller: Poller) -> None:
    called: list[float] = []
    start = time.monotonic()
    poller.call_later(0.02, lambda: called.append(time.monotonic()))
    poll_until(poller, called)
    assert called[0] >= start + 0.02


def test_a_nearer_timer_set_later_comes_first(poller: Poller) -> None:
    called: list[str] = []
    poller.call_later(60, lambda: called.append("far"))
    poller.call_later(0.01, lambda: called.append("near"))
    poll_until(poller, called)
    assert called == ["near"]


def test_a_timer_set_by_a_timer_comes_as_well(poller: Poller) -> None:
    called: list[str] = []
    poller.call_later(0.0, lambda: poller.call_later(0.0, lambda: called.append("second")))
    poll_until(poller, called)


def test_a_cancelled_timer_is_never_called(poller: Poller) -> None:
    called: list[str] = []
    first = poller.call_later(0.0, lambda: called.append("cancelled"))
    first.cancel()
    first.cancel()  # idempotent
    poller.call_later(0.01, lambda: called.append("kept"))
    poll_until(poller, called)
    assert called == ["kept"]


def test_timers_that_were_cancelled_do_not_pile_up(poller: Poller) -> None:
    kept = [poller.call_later(1000, lambda: None) for _ in range(10)]
    for _ in range(10_000):
        poller.call_later(1000, lambda: None).cancel()
    assert len(poller._deadlines) < 200
    assert all(deadline.callback is not None for deadline in kept)


def test_cancelling_a_timer_that_has_come_changes_nothing(poller: Poller) -> None:
    called: list[int] = []
    come = [poller.call_later(0.0, lambda: called.append(1)) for _ in range(100)]
    while len(called) < 100:
        poller.poll(None)
    for deadline in come:
        deadline.cancel()
    assert poller._cancelled == 0  # or the heap would be rebuilt for timers that are not in it


def test_a_timer_that_never_comes_and_one_that_is_no_number(poller: Poller) -> None:
    called: list[str] = []
    poller.call_later(math.inf, lambda: called.append("never"))
    poller.call_later(1e300, lambda: called.append("never"))
    with pytest.raises(ValueError, match="no number"):
        poller.call_later(math.nan, lambda: called.append("never"))
    poller.call_later(0.0, lambda: called.append("now"))
    poll_until(poller, called)
    poller.poll(0)
    assert called == ["now"]


def test_a_callback_that_raises_loses_no_others_edge(poller: Poller) -> None:
    fds = [os.eventfd(0) for _ in range(5)]
    called: list[int] = []

    def callback(fd: int) -> None:
        called.append(fd)
        if len(called) == 2:
            raise KeyboardInterrupt

    for fd in fds:
        poller.register(fd, partial(callback, fd), EDGE)
        os.eventfd_write(fd, 1)
    with pytest.raises(KeyboardInterrupt):
        poller.poll(0)
    assert readable(poller)
    while len(called) < 5:
        poller.poll(None)
    assert sorted(called) == fds
    for fd in fds:
        poller.unregister(fd)
        os.close(fd)


def test_a_timer_that_raises_loses_no_other_timer(poller: Poller) -> None:
    called: list[int] = []

    def fail() -> None:
        raise KeyboardInterrupt

    poller.call_later(0.0, fail)
    poller.call_later(0.0, lambda: called.append(1))
    time.sleep(0.001)
    with pytest.raises(KeyboardInterrupt):
        poller.poll(None)
    poll_until(poller, called)


def test_a_callback_may_unregister_another_that_is_next(poller: Poller) -> None:
    fds = [os.eventfd(1), os.eventfd(1)]
    called: list[int] = []

    def callback(fd: int, other: int) -> None:
        called.append(fd)
        poller.unregister(other)

    poller.register(fds[0], partial(callback, *fds))
    poller.register(fds[1], partial(callback, *reversed(fds)))
    poller.poll(0)
    assert len(called) == 1
    for fd in fds:
        poller.unregister(fd)  # nothing the second time
        os.close(fd)


def test_a_descriptors_number_can_be_used_again(poller: Poller) -> None:
    called: list[str] = []
    first = os.eventfd(1)
    poller.register(first, lambda: called.append("first"))
    poller.unregister(first)
    os.close(first)
    second = os.eventfd(1)
    assert second == first
    poller.register(second, lambda: called.append("second"))
    poller.poll(0)
    assert called == ["second"]
    poller.unregister(second)
    os.close(second)


def test_a_callback_may_poll(poller: Poller) -> None:
    fds = [os.eventfd(0) for _ in range(3)]
    called: list[int] = []

    def callback(fd: int) -> None:
        called.append(fd)
        if len(called) == 1:
            poller.poll(0)

    for fd in fds:
        poller.register(fd, partial(callback, fd), EDGE)
        os.eventfd_write(fd, 1)
    poller.poll(0)
    assert sorted(called) == fds
    for fd in fds:
        poller.unregister(fd)
        os.close(fd)


def test_a_closed_poller_has_given_its_descriptors_back_and_can_be_closed_again() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    poller = Poller()
    deadline = poller.call_later(1, lambda: None)
    poller.close()
    poller.close()
    deadline.cancel()
    poller.wake()
    assert poller.closed
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_callback_may_close_the_poller() -> None:
    poller = Poller()
    fds = [os.eventfd(1), os.eventfd(1)]
    for fd in fds:
        poller.register(fd, poller.close)
    poller.poll(0)
    assert poller.closed
    for fd in fds:
        os.close(fd)


# ---- deadlines ----


def test_a_deadline_is_judged_after_what_its_descriptors_tell_of(poller: Poller, pair: Pair) -> None:
    ours, theirs = pair
    called: list[str] = []
    poller.call_later(0.0, lambda: called.append("timer"))
    poller.register(ours.fileno(), lambda: called.append(ours.recv(1).decode()))
    theirs.send(b"x")
    time.sleep(0.001)
    poller.poll(0)
    assert called == ["x", "timer"]


def test_a_deadline_is_put_off_until_what_has_come_is_handled_and_others_are_not(poller: Poller) -> None:
    asked: list[int] = []
    called: list[str] = []

    def caught_up(times: int) -> bool:
        asked.append(times)
        return times == 3

    poller.call_later(0.0, lambda: called.append("put off"), caught_up)
    poller.call_later(0.0, lambda: called.append("due"))
    while len(called) < 2:
        poller.poll(None)
    assert called == ["due", "put off"]
    assert asked == [0, 1, 2, 3]
    assert not readable(poller)


def test_what_has_come_may_call_its_deadline_off(poller: Poller) -> None:
    called: list[str] = []

    def caught_up(_times: int) -> bool:
        deadline.cancel()
        return True

    deadline = poller.call_later(0.0, lambda: called.append("too late"), caught_up)
    poller.call_later(0.0, lambda: called.append("next"))
    poll_until(poller, called)
    poller.poll(0)
    assert called == ["next"]
    assert poller._cancelled == 0


def test_a_signal_while_what_has_come_is_handled_loses_no_deadline(poller: Poller) -> None:
    called: list[str] = []

    def caught_up(times: int) -> bool:
        if times == 0:
            raise KeyboardInterrupt
        return True

    poller.call_later(0.0, lambda: called.append("it"), caught_up)
    poller.call_later(0.0, lambda: called.append("another"))
    time.sleep(0.001)
    with pytest.raises(KeyboardInterrupt):
        poller.poll(None)
    while len(called) < 2:
        poller.poll(None)
    assert sorted(called) == ["another", "it"]


@pytest.mark.parametrize("when", [-math.inf, -1e300, -1.0, 1e300, math.inf])
def test_after_a_timer_at_any_time_others_come(poller: Poller, when: float) -> None:
    called: list[str] = []
    poller.call_later(when, lambda: called.append("it"))
    poller.call_later(0.0, lambda: called.append("after"))
    while "after" not in called:
        poller.poll(None)
    assert ("it" in called) == (when < 0)
    poller.call_later(0.001, lambda: called.append("later"))
    while "later" not in called:
        poller.poll(None)


def test_a_wake_can_be_taken_back_and_made_again(poller: Poller) -> None:
    for _ in range(2):
        poller.clear_wake()
        poller.wake()
        assert readable(poller)
        poller.clear_wake()
        poller.clear_wake()
        assert not readable(poller)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (1, 1.0),
        (0.25, 0.25),
        (True, 1.0),
        (np.float32(0.5), 0.5),
        (Decimal("0.5"), 0.5),
        (Fraction(1, 2), 0.5),
        (0, 0.0),
        (-0.001, 0.0),
        (-math.inf, 0.0),
        (-(10**400), 0.0),
        (math.inf, None),
        (1e300, None),
        (2**63, None),
        (10**400, None),
    ],
)
def test_what_is_past_is_over_and_what_no_machine_runs_for_is_for_ever(value: object, expected: float | None) -> None:
    assert seconds_of(value) == expected


@pytest.mark.parametrize("value", [math.nan, Decimal("nan"), "1", b"1", 1j, [], object(), np.str_("1")])
def test_a_time_that_is_no_number_is_refused(value: object) -> None:
    with pytest.raises((TypeError, ValueError), match="timeout"):
        seconds_of(value)
