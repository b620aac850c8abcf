# SPDX-License-Identifier: MIT
"""What other threads ask of the one that owns a core. That does it when it polls next, and is woken for it at once."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from ..errors import OutboxFull, PeerGone
from ..log import log
from ..transport.poller import Poller, get_ident

# What keeping one takes besides its body (bytes), and how many are done before other callbacks have their turn.
EACH: Final = 512
CALLS_PER_TURN: Final = 64

Fail = Callable[[Exception], object]


class Posts:
    """Calls that wait for the owner's thread, in the order they were posted.

    Args:
        poller: what the owner waits with.
        most: bytes that may wait: who posts more is told OutboxFull.
        hold: `hold(resume)`: whether they have to wait, because receivers do not keep pace; `resume` is called then
            when they no longer have to.
        wake: wakes an owner that does not wait with the poller; not called any more when these are closed.
    """

    def __init__(
        self,
        poller: Poller,
        most: int,
        hold: Callable[[Callable[[], None]], bool],
        wake: Callable[[], None] | None = None,
    ) -> None:
        self._poller = poller
        self._wake = wake
        self._most = most
        self._hold = hold
        self._holding = False
        self._lock = threading.RLock()  # a signal's handler may post, too
        self._waiting: deque[tuple[int, Callable[[], object], Fail]] = deque()
        self._ahead: deque[Callable[[], object]] = deque()  # of what waits
        self._bytes = 0
        self._closed: Callable[[], Exception] | None = None
        poller.on_wake = self._take

    def __len__(self) -> int:
        return len(self._waiting)

    def post(self, size: int, call: Callable[[], object], fail: Fail) -> None:
        """Any thread. Have the owner call this; `fail(error)` if that raises, or if the owner ends before.

        Raises:
            OutboxFull: too much waits already for one of `size` bytes; what has none is always taken.
            What `close` was given: the owner has ended.
        """
        self._poller.check_fork()
        cost = size + EACH
        with self._lock:
            if self._closed is not None:
                raise self._closed()
            if size and self._waiting and self._bytes + cost > self._most:
                raise OutboxFull(f"{self._bytes} bytes of other threads wait here already to be sent, try again later")
            self._waiting.append((cost, call, fail))
            self._bytes += cost
            if len(self._waiting) == 1:
                self._signal()

    def post_ahead(self, call: Callable[[], object]) -> None:
        """Any thread. Have the owner call this, which must not raise, before what waits; not at all if it has ended."""
        with self._lock:
            if self._closed is None:
                self._ahead.append(call)
                self._signal()

    def _signal(self) -> None:
        self._poller.wake_threadsafe()
        if self._wake is not None:
            self._wake()

    def post_from_elsewhere(self, call: Callable[[], object], what: str) -> bool:
        """Any thread. Post this if the thread is not the owner's: whether it was posted."""
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
        """Do all that waits now: what it is for ends."""
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
        """The owner ends: what is posted from now on fails with `why()`."""
        with self._lock:
            self._closed = why

    def close(self, why: Callable[[], Exception]) -> None:
        """The same, and so does what waits."""
        with self._lock:
            self.refuse(why)
            waiting = list(self._waiting)
            self._waiting.clear()
            self._ahead.clear()
            self._bytes = 0
        for _, _, fail in waiting:
            fail(why())


def not_done(what: str) -> Fail:
    """For what nobody waits for: say in the log that it was not done, and whose it was."""
    return partial(_say, what, threading.current_thread().name)


def _say(what: str, thread: str, error: Exception) -> None:
    if not isinstance(error, PeerGone):  # then it is as with all that waits to be sent
        log.error("%s from thread %r was not done: %s", what, thread, error)
