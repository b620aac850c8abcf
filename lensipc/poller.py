# SPDX-License-Identifier: MIT
"""One descriptor that is readable exactly while there is something to do, whoever waits for it.

asyncio, a blocking call and a foreign loop all wait for `Poller.fileno()` and then call `poll(0)`. It stands for the
descriptors registered here, for the timers set here, and for work left over from the last time (`wake`).
"""

from __future__ import annotations

import heapq
import os
import select
import time
import weakref
from collections.abc import Callable, Iterator
from itertools import count
from operator import length_hint

from .endpoint import Timer
from .errors import ForkError

READ = select.EPOLLIN | select.EPOLLRDHUP
# Edge-triggered: told once a signal, and the descriptor itself is never read. A peer that shares it can therefore
# not make us block on it, whatever flags it sets there.
EDGE = select.EPOLLIN | select.EPOLLET
# Seconds that no machine runs for: a timer at or beyond it, `math.inf` too, is set to it.
FOREVER = 2.0**33


class Deadline:
    """A timer of a Poller."""

    __slots__ = ("_poller", "callback")

    def __init__(self, poller: Poller, callback: Callable[[], None]) -> None:
        self._poller = poller
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Never call it."""
        if self.callback is not None:
            self.callback = None
            self._poller._forget_one()


class Poller:
    """Waits for descriptors, timers and its own wake, all behind one descriptor."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._timer = Timer()
        try:
            self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        except OSError:
            self._timer.close()
            raise
        self._callbacks: dict[int, Callable[[], None]] = {
            self._wake_fd: self._awake,
            self._timer.fileno(): self._expire,
        }
        for fd in self._callbacks:
            self._epoll.register(fd, select.EPOLLIN)
        self._waking = False
        # Kept across calls: an edge is told once, and a callback that raises is to lose no other's.
        self._events: Iterator[tuple[int, int]] = iter(())
        self._deadlines: list[tuple[float, int, Deadline]] = []
        self._cancelled = 0
        self._armed = 0.0
        self._order = count()
        self.closed = False
        _pollers.add(self)

    def fileno(self) -> int:
        """The descriptor: level-triggered, readable while there is something to do."""
        return self._epoll.fileno()

    def register(self, fd: int, callback: Callable[[], None], events: int = READ) -> None:
        """Call `callback` from `poll` when `fd` is readable, or has reached its end."""
        self._epoll.register(fd, events)
        self._callbacks[fd] = callback

    def unregister(self, fd: int) -> None:
        """Stop that; nothing if it has stopped."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def wake(self) -> None:
        """Make `fileno()` readable until the next `poll`."""
        if not self._waking and not self.closed:
            self._waking = True
            os.eventfd_write(self._wake_fd, 1)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Deadline:
        """Call `callback` from the first `poll` after `seconds` of the monotonic clock."""
        when = time.monotonic() + seconds
        if when != when:
            raise ValueError("a time that is no number")
        deadline = Deadline(self, callback)
        heapq.heappush(self._deadlines, (when, next(self._order), deadline))
        if not self._armed or when < self._armed:
            self._arm(when)
        return deadline

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Wait at most `timeout` seconds (None: for ever), and call what is due: whether anything was."""
        if not length_hint(self._events):
            self._events = iter(self._epoll.poll(timeout))
        called = bool(length_hint(self._events))
        try:
            for fd, _ in self._events:
                callback = self._callbacks.get(fd)  # an earlier callback may have unregistered it
                if callback is not None:
                    callback()
        except BaseException:
            self.wake()  # for the rest of them
            raise
        return called

    def check_fork(self) -> None:
        """ForkError: this is a fork of the process that the poller belongs to."""

    def close(self) -> None:
        """Release the descriptors. Idempotent."""
        if not self.closed:
            self.closed = True
            self._callbacks.clear()
            self._deadlines.clear()
            self._epoll.close()
            self._timer.close()
            os.close(self._wake_fd)

    def _awake(self) -> None:
        self._waking = False
        os.eventfd_read(self._wake_fd)

    def _arm(self, when: float) -> None:
        self._armed = when
        self._timer.set(int(min(when, FOREVER) * 1e9) + 1)

    def _expire(self) -> None:
        now = time.monotonic()
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline = heapq.heappop(self._deadlines)[2]
            callback, deadline.callback = deadline.callback, None
            if callback is None:
                self._cancelled -= 1
            else:
                callback()
                if self.closed:
                    return
        if self._deadlines:
            self._arm(self._deadlines[0][0])
        else:
            self._armed = 0.0
            self._timer.set(0)

    def _forget_one(self) -> None:
        # Timers that were called off leave the heap when their time comes, or when they are most of it.
        self._cancelled += 1
        if self._cancelled > 64 and 2 * self._cancelled > len(self._deadlines):
            self._deadlines = [entry for entry in self._deadlines if entry[2].callback is not None]
            heapq.heapify(self._deadlines)
            self._cancelled = 0


class _ForkedPoller(Poller):
    """What an inherited poller turns into: it is closed, and can only be closed again."""

    def __getattribute__(self, name: str) -> object:
        if name in ("close", "closed", "unregister") or name.startswith("_"):
            return object.__getattribute__(self, name)
        raise ForkError(f"Poller.{name}: it belongs to the parent process, this is a fork of it")


_pollers: weakref.WeakSet[Poller] = weakref.WeakSet()


def _close_in_child() -> None:
    """In a forked child: these are the parent's, and what they register is shared with it."""
    for poller in list(_pollers):
        poller.close()
        poller.__class__ = _ForkedPoller
    _pollers.clear()


os.register_at_fork(after_in_child=_close_in_child)
