# SPDX-License-Identifier: MIT
"""Requests on their way: from correlation id to the one outcome that each will have.

An id is never used again. So an outcome that comes after a timeout or a cancellation finds no pending request, and is
dropped. This module knows nothing of processes, bytes or event loops; its caller hands in the timer.

A cancelled invoke takes this way: Invocation.cancel (asyncio_driver.py) or Request.cancel (blocking_driver.py) calls
RendererPort.abandon (renderer/port.py). That forgets the request here and sends the message CANCEL to main, where
RendererConnection._on_cancel (main/connection.py) cancels the handler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

from ..errors import InvokeTimeout


class Pending(Protocol):
    """A request's future, which waits for its outcome: asyncio's, a concurrent future, or an Outcome."""

    def set_result(self, result: Any, /) -> object:
        """Give the request its result. True: the task that awaits it has already gone on."""

    def set_exception(self, exception: BaseException, /) -> None: ...


class Deadline(Protocol):
    """A timer that can be cancelled."""

    def cancel(self) -> None: ...


class PendingInvokes:
    """The pending requests of one connection.

    Args:
        call_later: starts a timer: `call_later(seconds, function, caught_up)`.
        caught_up: takes outcomes that have already come before a deadline is judged (Poller.call_later).

    Attributes:
        late: the number of outcomes that came when their request was no longer pending.
    """

    def __init__(
        self,
        call_later: Callable[[float, Callable[[], None], Callable[[int], bool]], Deadline],
        caught_up: Callable[[int], bool],
    ) -> None:
        self._call_later = call_later
        self._caught_up = caught_up
        self.last: int = 0
        self.late: int = 0
        self._pending: dict[int, Pending] = {}
        self._deadlines: dict[int, Deadline] = {}  # of those that have one

    def __len__(self) -> int:
        return len(self._pending)

    def __iter__(self) -> Iterator[tuple[int, Pending]]:
        return iter(list(self._pending.items()))

    def __contains__(self, correlation: int) -> bool:
        return correlation in self._pending

    def open(self, pending: Pending, what: str, timeout: float | None, give_up: Callable[[int], None]) -> int:
        """Add a request and return its correlation id. After `timeout` seconds the request gets the outcome
        InvokeTimeout, and `give_up(correlation)` is called to tell the other side."""
        self.last = correlation = self.last + 1
        if timeout is not None:
            expire = partial(self._expire, correlation, timeout, what, give_up)
            self._deadlines[correlation] = self._call_later(timeout, expire, self._caught_up)
        self._pending[correlation] = pending
        return correlation

    def _expire(
        self, correlation: int, timeout: float, what: str, give_up: Callable[[int], None], lacks: str = "outcome"
    ) -> None:
        self._deadlines.pop(correlation, None)
        pending = self._pending.pop(correlation, None)
        if pending is not None:
            pending.set_exception(InvokeTimeout(f"{what} had no {lacks} within {timeout:g} s"))
            give_up(correlation)

    def limit(self, correlation: int, what: str, timeout: float, give_up: Callable[[int], None]) -> None:
        """Give a stream `timeout` seconds from now for its next item, or its end. After that, do as `open` says."""
        expire = partial(self._expire, correlation, timeout, what, give_up, "item")
        self._deadlines[correlation] = self._call_later(timeout, expire, self._caught_up)

    def find(self, correlation: int) -> Pending | None:
        """The stream that an item has come of, whose deadline is called off; None if it is no longer pending."""
        if self._deadlines:
            self.call_off(correlation)
        return self._pending.get(correlation)

    def take(self, correlation: int) -> Pending | None:
        """Remove and return the request with this id; None if it is no longer pending."""
        pending = self._pending.pop(correlation, None)
        if pending is None:
            self.late += 1
        elif self._deadlines:
            self.call_off(correlation)
        return pending

    def forget(self, correlation: int) -> None:
        """Remove the request and its deadline. A later outcome is dropped."""
        self._pending.pop(correlation, None)
        self.call_off(correlation)

    def call_off(self, correlation: int) -> None:
        """Cancel the request's deadline. Its outcome has come, though it may be taken later."""
        deadline = self._deadlines.pop(correlation, None)
        if deadline is not None:
            deadline.cancel()

    def fail_all(self, make: Callable[[], Exception]) -> None:
        """Give each pending request the outcome `make()`, called once for each."""
        for correlation in list(self._pending):
            pending = self.take(correlation)
            if pending is not None:
                pending.set_exception(make())


class Outcome:
    """The outcome that a blocking invoke waits for."""

    # These are class attributes, so creating an Outcome runs no code.
    done: bool = False
    value: Any = None
    error: BaseException | None = None

    def set_result(self, result: Any, /) -> None:
        self.value = result
        self.done = True

    def set_exception(self, exception: BaseException, /) -> None:
        self.error = exception
        self.done = True
