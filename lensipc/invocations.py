# SPDX-License-Identifier: MIT
"""Requests on their way: from correlation id to the one outcome that each will have.

An id is never used again, so an outcome that comes late, after a timeout or a cancellation, meets nobody: it is
dropped. Knows nothing of processes, bytes or event loops; time is handed in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from .errors import InvokeTimeout


class Pending(Protocol):
    """What waits for an outcome: an asyncio or a concurrent future, or the like."""

    def set_result(self, result: Any, /) -> None: ...

    def set_exception(self, exception: BaseException, /) -> None: ...


class Deadline(Protocol):
    """A timer that can be called off."""

    def cancel(self) -> None: ...


class Invocations:
    """The pending requests of one connection.

    Args:
        call_later: starts a timer: `call_later(seconds, function)`.

    Attributes:
        late: how many outcomes came for which nobody waited any more.
    """

    def __init__(self, call_later: Callable[[float, Callable[[], None]], Deadline]) -> None:
        self._call_later = call_later
        self.last = 0
        self.late = 0
        self._pending: dict[int, tuple[Pending, Deadline | None]] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def open(self, pending: Pending, what: str, timeout: float | None, give_up: Callable[[int], None]) -> int:
        """Enter a request and return its correlation id. After `timeout` seconds it has the outcome InvokeTimeout,
        and `give_up(correlation)` is called to tell the other side."""
        self.last = correlation = self.last + 1
        deadline = None
        if timeout is not None:

            def expire() -> None:
                entry = self._pending.pop(correlation, None)
                if entry is not None:
                    entry[0].set_exception(InvokeTimeout(f"{what} had no outcome within {timeout:g} s"))
                    give_up(correlation)

            deadline = self._call_later(timeout, expire)
        self._pending[correlation] = (pending, deadline)
        return correlation

    def take(self, correlation: int) -> Pending | None:
        """Remove and return what waits for this outcome; None when nobody does any more."""
        entry = self._pending.pop(correlation, None)
        if entry is None:
            self.late += 1
            return None
        if entry[1] is not None:
            entry[1].cancel()
        return entry[0]

    def fail_all(self, make: Callable[[], Exception]) -> None:
        """Give everything that waits the outcome `make()`, each its own."""
        for correlation in list(self._pending):
            pending = self.take(correlation)
            if pending is not None:
                pending.set_exception(make())
