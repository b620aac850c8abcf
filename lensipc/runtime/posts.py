# SPDX-License-Identifier: MIT
"""Calls that other threads post to a core's owner: their broadcasts, invokes, listens and disposals.

The owner is woken at once, and runs the calls when it polls. connection.py: post_args encodes the arguments first.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from ..errors import OutboxFull, PeerGone
from ..log import log
from ..transport.poller import Poller, get_ident

# Bytes that one post takes besides its body, and how many posts run before other callbacks have their turn.
EACH: Final = 512
CALLS_PER_TURN: Final = 64

Fail = Callable[[Exception], object]


class Posts:
    """Calls that wait for the owner's thread, in the order in which they were posted.

    Args:
        poller: the owner waits with it.
        limit: bytes that may wait. A post beyond them raises OutboxFull.
        hold: `hold(resume)` returns whether the calls must wait, because receivers do not keep pace. If so, it calls
            `resume` when the calls may go on.
        wake: wakes an owner that does not wait with the poller. It is not called after `close`.
    """

    def __init__(
        self,
        poller: Poller,
        limit: int,
        hold: Callable[[Callable[[], None]], bool],
        wake: Callable[[], None] | None = None,
    ) -> None:
        self._poller = poller
        self._wake = wake
        self._limit = limit
        self._hold = hold
        self._holding = False
        self._lock = threading.RLock()  # a signal's handler may post, too
        self._waiting: deque[tuple[int, Callable[[], object], Fail]] = deque()
        self._ahead: deque[Callable[[], object]] = deque()  # calls that run before the waiting ones
        self._bytes = 0
        self._closed: Callable[[], Exception] | None = None
        poller.on_wake = self._take

    def __len__(self) -> int:
        return len(self._waiting)

    def post(self, size: int, call: Callable[[], object], fail: Fail) -> None:
        """Any thread. Have the owner run `call`. If the call raises, or the owner ends first, `fail(error)` is called.

        Raises:
            OutboxFull: too many bytes wait already. A post of size 0 is always accepted.
            The error that `refuse` or `close` was given: the owner has ended.
        """
        self._poller.check_fork()
        cost = size + EACH
        with self._lock:
            if self._closed is not None:
                raise self._closed()
            if size and self._waiting and self._bytes + cost > self._limit:
                raise OutboxFull(f"{self._bytes} bytes of other threads wait here to be sent already: try again later")
            self._waiting.append((cost, call, fail))
            self._bytes += cost
            if len(self._waiting) == 1:
                self._signal()

    def post_ahead(self, call: Callable[[], object]) -> None:
        """Any thread. Have the owner run `call` before the waiting calls, unless it has ended. It must not raise."""
        with self._lock:
            if self._closed is None:
                self._ahead.append(call)
                self._signal()

    def _signal(self) -> None:
        self._poller.wake_threadsafe()
        if self._wake is not None:
            self._wake()

    def post_from_elsewhere(self, call: Callable[[], object], what: str) -> bool:
        """Any thread. Post `call` if this thread is not the owner's. Return whether it was posted."""
        if get_ident() == self._poller.thread:
            return False
        self.post(0, call, not_done(what))
        return True

    def _take(self) -> None:
        while self._ahead:
            self._ahead.popleft()()
        try:
            for _ in range(CALLS_PER_TURN):
                if not self._waiting or self._holding:
                    return
                self._holding = self._hold(self._resume)
                if not self._holding:
                    self._take_one()
        finally:
            if self._waiting and not self._holding:
                self._poller.wake_threadsafe()

    def take_all(self) -> None:
        """Run all waiting calls now. An extension's port does this first when it closes, so that no call is lost."""
        for _ in range(len(self._waiting)):
            if self._waiting:
                self._take_one()

    def _take_one(self) -> None:
        with self._lock:
            cost, call, fail = self._waiting.popleft()
            self._bytes -= cost
        try:
            call()
        except Exception as error:
            fail(error)

    def _resume(self) -> None:
        self._holding = False
        self._poller.wake_threadsafe()

    def refuse(self, why: Callable[[], Exception]) -> None:
        """The owner ends: a post raises `why()` from now on."""
        with self._lock:
            self._closed = why

    def close(self, why: Callable[[], Exception]) -> None:
        """Do as `refuse`, and fail all waiting calls with `why()`."""
        with self._lock:
            self.refuse(why)
            waiting = list(self._waiting)
            self._waiting.clear()
            self._ahead.clear()
            self._bytes = 0
        for _, _, fail in waiting:
            fail(why())


def not_done(what: str) -> Fail:
    """A `fail` for calls that nobody waits for. It logs that `what` was not done, and which thread asked for it."""
    return partial(_say, what, threading.current_thread().name)


def _say(what: str, thread: str, error: Exception) -> None:
    if not isinstance(error, PeerGone):  # messages that wait to be sent end with PeerGone unlogged, too
        log.error("%s from thread %r was not done: %s", what, thread, error)
