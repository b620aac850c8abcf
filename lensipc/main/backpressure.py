# SPDX-License-Identifier: MIT
"""What becomes of senders whose receivers do not keep pace, and of those receivers.

A receiver above its high-water mark is congested: it holds back those who send to it, main's drain() included, so that
senders and receivers that both work find a common pace. One that takes less than that mark in HOLD seconds is lagging
until it has come down to its low-water mark: it holds up nobody, and will meet its outbox's limit. A mark's worth in
that time is the pace of one that comes down in time from the mark; a message of 256 MiB takes longer to come down from,
at any pace.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from ..log import log
from ..transport.poller import Poller

if TYPE_CHECKING:
    from .connection import RendererConnection

# How long a receiver above its high-water mark may hold its senders back, or take as much as that mark, before it is
# left to its outbox (seconds).
HOLD: Final = 0.1


class StallTimer:
    """Calls `slow()`, once, when a renderer has taken less than the high-water mark in `seconds`, unless cancelled."""

    def __init__(
        self, connection: RendererConnection, high_water: int, seconds: float, slow: Callable[[], object]
    ) -> None:
        self._connection = connection
        self._high_water = high_water
        self._seconds = seconds
        self._slow = slow
        self._begin()

    def _begin(self) -> None:
        judge = partial(self._check, self._connection.endpoint.progress)
        self._deadline = self._connection.poller.call_later(self._seconds, judge)

    def _check(self, before: int) -> None:
        if self._connection.endpoint.progress - before < self._high_water:
            self._slow()
        else:
            self._begin()

    def cancel(self) -> None:
        """Look no more."""
        self._deadline.cancel()


class Backpressure:
    """Who is congested, who lags, and who waits for that to end.

    Args:
        connections: of all renderers, by their frame ids.
        high_water: bytes that may wait for one before it is congested.
        poller: is woken when senders may go on.
    """

    def __init__(self, connections: dict[int, RendererConnection], high_water: int, poller: Poller) -> None:
        self.high_water = high_water
        self._connections = connections
        self._poller = poller
        self._congested: dict[RendererConnection, StallTimer] = {}
        self._lagging: set[RendererConnection] = set()
        self._waiting: list[Callable[[], None]] = []

    def is_congested(self, connection: RendererConnection) -> bool:
        """Whether it holds its senders back."""
        return connection in self._congested

    def is_lagging(self, connection: RendererConnection) -> bool:
        """Whether it was congested for too long, and holds up nobody any more."""
        return connection in self._lagging

    def look(self) -> bool:
        """Look who is congested: whether anybody is."""
        for connection in self._connections.values():
            if connection in self._congested or connection in self._lagging:
                continue
            waiting = connection.endpoint.outbox
            if waiting > self.high_water:
                log.debug("renderer %d is congested: %d bytes wait for it", connection.frame_id, waiting)
                connection.drain_requested = True
                slow = partial(self.release, connection, lagging=True)
                self._congested[connection] = StallTimer(connection, self.high_water, HOLD, slow)
        return bool(self._congested)

    def holds_back(self, sender: RendererConnection) -> bool:
        """Whether one who is congested listens to what it may send: others' congestion is not its affair."""
        return self.look() and any(not each.listening.isdisjoint(sender.channels) for each in self._congested)

    def wait(self, resume: Callable[[], None]) -> bool:
        """Whether anybody is congested: `resume` is called then when nobody is any more."""
        if not self.look():
            return False
        self._waiting.append(resume)
        return True

    def release(self, connection: RendererConnection, *, lagging: bool = False) -> None:
        """It holds nobody back any longer: it has come down to its low-water mark, is gone, or is `lagging`."""
        pace = self._congested.pop(connection, None)
        if pace is None and connection not in self._lagging:
            return
        if lagging:
            self._lagging.add(connection)
            log.debug("renderer %d is lagging: it holds up nobody", connection.frame_id)
        else:
            self._lagging.discard(connection)
            log.debug("renderer %d is released: it is congested or lagging no more", connection.frame_id)
        connection.drain_requested = lagging
        connection.endpoint.lag(lagging)
        if pace is not None:
            pace.cancel()
            for other in self._connections.values():
                other.resume_after_congestion()  # who sends to another that is congested will be paused again
            self._poller.wake()
            if not self._congested:
                waiting, self._waiting = self._waiting, []
                for resume in waiting:
                    resume()
