# SPDX-License-Identifier: MIT
"""Backpressure: how receivers that do not keep pace hold back their senders, and how long.

A receiver is congested while more bytes than its high-water mark wait for it. A congested receiver holds back the
renderers that send to it, and main's drain(). So senders and receivers that both work find a common pace.

A congested receiver becomes lagging if it takes fewer bytes in HOLD seconds than the high-water mark. A lagging
receiver holds back no sender, and so its outbox may reach its limit. It lags until its outbox is down to the low-water
mark.

The pace decides, and not how long the outbox takes to empty. A receiver that keeps pace reads one high-water mark of
bytes within HOLD. After a message of 256 MiB, any receiver needs longer than HOLD to empty its outbox.

Other files act on these decisions. MainCore._heed (main/core.py) pauses senders. csrc/endpoint/send.c drops messages,
and csrc/endpoint/topic.c refuses main's broadcast at the limit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from ..log import log
from ..transport.poller import Poller

if TYPE_CHECKING:
    from .connection import RendererConnection

# A congested receiver holds its senders back as long as it takes at least one high-water mark of bytes in each period
# of this length (seconds). Importing numpy for the first array, or a pass of the collector, may take a good part of it.
HOLD: Final = 1.0


class StallTimer:
    """Calls `slow()` once, when a renderer takes fewer bytes in `seconds` than the high-water mark."""

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
        """Stop watching."""
        self._deadline.cancel()


class Backpressure:
    """The renderers that are congested or lagging, and the callbacks that wait for congestion to end.

    Args:
        connections: the connections of all renderers, by frame id.
        high_water: bytes that may wait for a renderer before it is congested.
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
        """Whether this renderer holds its senders back."""
        return connection in self._congested

    def is_lagging(self, connection: RendererConnection) -> bool:
        """Whether this renderer was congested for too long, and so holds back no sender until it has caught up."""
        return connection in self._lagging

    def look(self) -> bool:
        """Find the renderers that are congested now. Return whether there are any."""
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
        """Whether a congested renderer listens to a channel that `sender` has declared. Main then pauses `sender`."""
        return self.look() and any(not each.listening.isdisjoint(sender.channels) for each in self._congested)

    def wait(self, resume: Callable[[], None]) -> bool:
        """Return whether a renderer is congested. If so, call `resume` once no renderer is."""
        if not self.look():
            return False
        self._waiting.append(resume)
        return True

    def release(self, connection: RendererConnection, *, lagging: bool = False) -> None:
        """Let the senders of this renderer go on: its outbox is at the low-water mark, or it is gone or `lagging`."""
        pace = self._congested.pop(connection, None)
        if pace is None and connection not in self._lagging:
            return
        if lagging:
            self._lagging.add(connection)
            log.debug("renderer %d is lagging: it no longer holds back its senders", connection.frame_id)
        else:
            self._lagging.discard(connection)
            log.debug("renderer %d is released: it is no longer congested or lagging", connection.frame_id)
        connection.drain_requested = lagging
        connection.endpoint.lag(lagging)
        if pace is not None:
            pace.cancel()
            for other in self._connections.values():
                other.resume_after_congestion()  # a sender to another congested renderer will be paused again
            self._poller.wake()
            if not self._congested:
                waiting, self._waiting = self._waiting, []
                for resume in waiting:
                    resume()
