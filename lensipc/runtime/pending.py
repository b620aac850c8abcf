# SPDX-License-Identifier: MIT
"""Requests on their way: from correlation id to the one outcome that each will have.

An id is never used again, so an outcome that comes late, after a timeout or a cancellation, meets nobody: it is
dropped. Knows nothing of processes, bytes or event loops; time is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

from ..errors import InvokeTimeout


class Pending(Protocol):
    """What waits for an outcome: an asyncio or a concurrent future, or the like."""

    def set_result(self, result: Any, /) -> object:
        """Give it a result. True: who waits has gone on already."""

    def set_exception(self, exception: BaseException, /) -> None: ...


class Deadline(Protocol):
    """A timer that can be called off."""

    def cancel(self) -> None: ...


class PendingInvokes:
    """The pending requests of one connection.

    Args:
        call_later: starts a timer: `call_later(seconds, function, caught_up)`.
        caught_up: sees to it that an outcome which has come is taken before its deadline is judged.

    Attributes:
        late: how many outcomes came for which nobody waited any more.
    """

    def __init__(
        self,
        call_later: Callable[[float, Callable[[], None], Callable[[int], bool]], Deadline],
        caught_up: Callable[[int], bool],
    ) -> None:
        self._call_later = call_later
        self._caught_up = caught_up
        self.last = 0
        self.late = 0
        self._pending: dict[int, Pending] = {}
        self._deadlines: dict[int, Deadline] = {}  # of those that have one

    def __len__(self) -> int:
        return len(self._pending)

    def __iter__(self) -> Iterator[tuple[int, Pending]]:
        return iter(list(self._pending.items()))

    def __contains__(self, correlation: int) -> bool:
        return correlation in self._pending

    def open(self, pending: Pending, what: str, timeout: float | None, give_up: Callable[[int], None]) -> int:
        """Enter a request and return its correlation id. After `timeout` seconds it has the outcome InvokeTimeout,
        and `give_up(correlation)` is called to tell the other side."""
        self.last = correlation = self.last + 1
        if timeout is not None:
            expire = partial(self._expire, correlation, timeout, what, give_up)
            self._deadlines[correlation] = self._call_later(timeout, expire, self._caught_up)
        self._pending[correlation] = pending
        return correlation

    def _expire(self, correlation: int, timeout: float, what: str, give_up: Callable[[int], None]) -> None:
        self._deadlines.pop(correlation, None)
        pending = self._pending.pop(correlation, None)
        if pending is not None:
            pending.set_exception(InvokeTimeout(f"{what} had no outcome within {timeout:g} s"))
            give_up(correlation)

    def take(self, correlation: int) -> Pending | None:
        """Remove and return what waits for this outcome; None when nobody does any more."""
        pending = self._pending.pop(correlation, None)
        if pending is None:
            self.late += 1
        elif self._deadlines:
            self.call_off(correlation)
        return pending

    def forget(self, correlation: int) -> None:
        """Nobody waits for this outcome any more."""
        self._pending.pop(correlation, None)
        self.call_off(correlation)

    def call_off(self, correlation: int) -> None:
        """It has no deadline any more: its outcome has come, though it may be taken later."""
        deadline = self._deadlines.pop(correlation, None)
        if deadline is not None:
            deadline.cancel()

    def fail_all(self, make: Callable[[], Exception]) -> None:
        """Give everything that waits the outcome `make()`, each its own."""
        for correlation in list(self._pending):
            pending = self.take(correlation)
            if pending is not None:
                pending.set_exception(make())


class Outcome:
    """What a blocking invoke waits for."""

    # Of the class, so that making one runs no code.
    done = False
    value: Any = None
    error: BaseException | None = None

    def set_result(self, result: Any, /) -> None:
        self.value = result
        self.done = True

    def set_exception(self, exception: BaseException, /) -> None:
        self.error = exception
        self.done = True
