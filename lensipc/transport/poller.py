# SPDX-License-Identifier: MIT
"""One descriptor that is readable exactly while there is something to do, for any loop that waits for it.

asyncio, a blocking call and a foreign loop all wait for `Poller.fileno()` and then call `poll(0)`. This descriptor
covers the descriptors registered here, the timers set here, and work left over from the last turn (`wake`).
"""

from __future__ import annotations

import heapq
import os
import select
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from itertools import count
from operator import length_hint
from typing import Any, Final

from ..errors import ForkError
from .endpoint import Timer

READ = select.EPOLLIN | select.EPOLLRDHUP
# Edge-triggered: epoll reports each signal once, and the descriptor itself is never read. So a peer that shares the
# descriptor cannot make this process block on it, whatever flags the peer sets there.
EDGE = select.EPOLLIN | select.EPOLLET
# gevent removes epoll from `select`, because a wait for epoll blocks all greenlets. A wait here blocks them, too, so a
# gevent program waits for `fileno()` and then dispatches. A fresh instance of the module still has epoll.
_select = select
if not hasattr(select, "epoll"):
    from importlib.util import find_spec, module_from_spec

    _spec = find_spec("select")
    assert _spec is not None
    assert _spec.loader is not None
    _spec.loader.exec_module(_select := module_from_spec(_spec))
# The number of the current thread. gevent replaces it by the greenlet's number, but all greenlets of a thread are one
# owner here.
get_ident: Callable[[], int] = threading.get_ident
if "gevent.monkey" in sys.modules:
    get_ident = sys.modules["gevent.monkey"].get_original("_thread", "get_ident")
# More seconds than any machine runs for. A timer beyond it, `math.inf` too, is set to it.
FOREVER = 2.0**33
# How long a deadline is put off while `caught_up` says that messages are still to be handled (seconds).
AGAIN: Final = 0.001


def seconds_of(value: Any) -> float | None:
    """A user's timeout in seconds: at least 0.0, because a negative timeout is over already. None: for ever.

    TypeError, ValueError: `value` is not a number of seconds.
    """
    if value is None or (type(value) is float and 0.0 <= value < FOREVER):
        return value
    if isinstance(value, (str, bytes)) or not (hasattr(value, "__float__") or hasattr(value, "__index__")):
        raise TypeError(f"a timeout is a number of seconds or None, not {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:  # an int of hundreds of digits
        number = FOREVER if value > 0 else 0.0
    if number != number:
        raise ValueError("a timeout that is no number: nan")
    return None if number >= FOREVER else max(number, 0.0)


class Deadline:
    """A timer of a Poller."""

    __slots__ = ("_poller", "asked", "callback", "caught_up")

    def __init__(self, poller: Poller, callback: Callable[[], None], caught_up: Callable[[int], bool] | None) -> None:
        self._poller = poller
        self.callback: Callable[[], None] | None = callback
        self.caught_up = caught_up
        self.asked: int = 0

    @property
    def is_pending(self) -> bool:
        """Whether it was neither called nor cancelled."""
        return self.callback is not None

    def cancel(self) -> None:
        """Never call it."""
        if self.callback is not None:
            self.callback = self.caught_up = None  # the heap keeps this object, but nothing of its owner
            self._poller._forget_one()


class Poller:
    """Waits for descriptors, timers and its own wake, all behind one descriptor.

    Attributes:
        thread: the thread that owns the poller and all that is registered here.
        on_wake: called from `poll` after a signal.
        waking: `fileno()` is readable because of `wake`.
    """

    def __init__(self) -> None:
        self.thread: int = get_ident()
        self.on_wake: Callable[[], None] = lambda: None
        self._lock = threading.RLock()  # held while another thread signals
        self._epoll = _select.epoll()
        self._timer = Timer()
        try:
            self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            try:
                self._signal_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            except OSError:
                os.close(self._wake_fd)
                raise
        except OSError:
            self._timer.close()
            raise
        self._callbacks: dict[int, Callable[[], None]] = {
            self._wake_fd: self._awake,
            self._signal_fd: self._woken_by_thread,
            self._timer.fileno(): self._note_due,
        }
        for fd in self._callbacks:
            self._epoll.register(fd, select.EPOLLIN)
        self.waking: bool = False
        # Kept across calls. epoll reports an edge once, so the rest must not be lost when a callback raises.
        self._events: Iterator[tuple[int, int]] = iter(())
        self._deadlines: list[tuple[float, int, Deadline]] = []
        self._cancelled = 0
        self._armed = 0.0
        self._due = False
        self._order = count()
        self.closed: bool = False
        _pollers.add(self)

    def fileno(self) -> int:
        """The descriptor: level-triggered, readable while there is something to do."""
        return self._epoll.fileno()

    def register(self, fd: int, callback: Callable[[], None], events: int = READ) -> None:
        """Call `callback` from `poll` when `fd` is readable, or has reached its end."""
        self._epoll.register(fd, events)
        self._callbacks[fd] = callback

    def unregister(self, fd: int) -> None:
        """Stop watching `fd`. Idempotent."""
        if self._callbacks.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def wake(self) -> None:
        """Make `fileno()` readable until the next `poll`, or until `clear_wake`."""
        if not self.waking and not self.closed:
            self.waking = True
            os.eventfd_write(self._wake_fd, 1)

    def wake_threadsafe(self) -> None:
        """Any thread. Have the next `poll` call `on_wake`. A `poll` that waits now returns."""
        with self._lock:
            if not self.closed:
                os.eventfd_write(self._signal_fd, 1)

    def _woken_by_thread(self) -> None:
        os.eventfd_read(self._signal_fd)
        self.on_wake()

    def clear_wake(self) -> None:
        """Take a wake back, unless the last `poll` has left events that it is for."""
        if not length_hint(self._events):
            self._awake()

    def call_later(
        self, seconds: float, callback: Callable[[], None], caught_up: Callable[[int], bool] | None = None
    ) -> Deadline:
        """Call `callback` from the first `poll` after `seconds` of the monotonic clock.

        `caught_up` is for a deadline of a message. This process may have been busy past the deadline while the message
        waited in the ring. So before `callback`, `caught_up(n)` is called, which handles what has come. If it returns
        False, it is called again AGAIN seconds later; n is 0 at first and grows by one. It may cancel the timer.
        """
        when = time.monotonic() + seconds
        if when != when:
            raise ValueError("a time that is no number")
        deadline = Deadline(self, callback, caught_up)
        heapq.heappush(self._deadlines, (when, next(self._order), deadline))
        if not self._armed or when < self._armed:
            self._arm(when)
        return deadline

    def poll(self, timeout: float | None = 0.0) -> bool:
        """Wait at most `timeout` seconds (None: for ever), and call the due callbacks; whether there were any."""
        if not length_hint(self._events):
            self._events = iter(self._epoll.poll(timeout))
        called = bool(length_hint(self._events))
        try:
            for fd, _ in self._events:
                callback = self._callbacks.get(fd)  # an earlier callback may have unregistered it
                if callback is not None:
                    callback()
            if self._due:  # after the descriptors: their messages came before the deadline passed
                self._due = False
                self._expire()
        except BaseException:
            self.wake()  # for the rest of them
            raise
        return called

    def check_thread(self, call: str, instead: str) -> None:
        """RuntimeError: this is another thread than the one that owns the poller. It names the call and the way out."""
        if get_ident() != self.thread:
            name = threading.current_thread().name
            raise RuntimeError(
                f"{call} was called in thread {name!r}, and belongs to the thread that has entered lensipc's process "
                f"object: {instead}"
            )

    def check_fork(self) -> None:
        """ForkError: this is a fork of the process that the poller belongs to."""

    def close(self) -> None:
        """Release the descriptors. Idempotent."""
        if not self.closed:
            with self._lock:
                self.closed = True
                os.close(self._signal_fd)
            self.on_wake = lambda: None  # it keeps nobody
            self.waking = self._due = False
            self._callbacks.clear()
            self._deadlines.clear()
            self._epoll.close()
            self._timer.close()
            os.close(self._wake_fd)

    def _awake(self) -> None:
        if self.waking:
            self.waking = False
            os.eventfd_read(self._wake_fd)

    def _note_due(self) -> None:
        self._due = True

    def _arm(self, when: float) -> None:
        self._timer.set(int(min(max(when, 0.0), FOREVER) * 1e9) + 1)
        self._armed = when

    def _expire(self) -> None:
        now = time.monotonic()
        try:
            while not self.closed and self._deadlines and self._deadlines[0][0] <= now:
                _, order, deadline = heapq.heappop(self._deadlines)
                judged, caught_up = False, deadline.caught_up
                try:
                    judged = caught_up is None or deadline.callback is None or caught_up(deadline.asked)
                finally:
                    if not judged:
                        deadline.asked += 1
                        heapq.heappush(self._deadlines, (now + AGAIN, order, deadline))
                if judged:
                    callback, deadline.callback = deadline.callback, None
                    if callback is None:
                        self._cancelled -= 1
                    else:
                        callback()
        finally:
            if not self.closed:
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
        poller._lock = threading.RLock()  # which another thread may have held
        poller.close()
        poller.__class__ = _ForkedPoller
    _pollers.clear()


os.register_at_fork(after_in_child=_close_in_child)
