# SPDX-License-Identifier: MIT
"""Puts the events of each extension in one order, and gives them to all who listen.

An event takes one of three paths:

- The C core relays a renderer's small broadcast as it takes the event out of that renderer's ring, unless main listens
  to the channel (csrc/endpoint/receive.c).
- MainPort.send passes main's own broadcast of plain data straight to topic.send_value, unless main listens.
- Router.route sends every other event.

All paths meet in lipc_topic_send of the C core (csrc/endpoint/topic.c). It gives the event its sequence number for each
subscriber, and sends it to all of them before the next event is looked at. So all processes hear an extension's events
in one order. Main's own listeners are called from Router.local, which holds the events in that same order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from .. import clone
from ..errors import DecodeError, OutboxFull, UnknownValueError, printable
from ..events import IpcMainEvent
from ..log import log
from ..runtime.dispatch import Dispatcher
from ..runtime.driver import Driver
from ..runtime.listening import Replay
from ..runtime.protocol import ALL, MAIN
from ..transport.endpoint import CONGESTED, FAILED, ONE_PIECE, Buffer
from ..transport.slabs import WANTS_SLAB
from .kept import Kept
from .port import MainChannel

if TYPE_CHECKING:
    from .connection import RendererConnection

# Events that main's own listeners are called with before other callbacks of the loop have their turn.
EVENTS_PER_TURN: Final = 64
# While async listeners run, an event of up to this many bytes counts by its size, and a larger event counts by the
# weight of its arguments. 1,024 small events take at most 60 MiB.
UNWEIGHED: Final = 256


class Router:
    """Routes events.

    Args:
        driver: awaits what main's own listeners return.
        connections: the connections of all renderers, by frame id.
        limits: the limits of what main sends.
        on_failed: called when an event could not be sent to a renderer; Endpoint.check raises the error.
        on_local: called when there is an event for main's own listeners.
        on_slab_wanted: called with the channel of an event for which a slab was missing.
        disconnect: ends a connection, for a reason.

    Attributes:
        local: the events for main's own listeners, in order.
        delivering: whether a listener is being called. A loop within a listener calls no other one.
    """

    def __init__(
        self,
        driver: Driver,
        connections: dict[int, RendererConnection],
        limits: clone.Limits,
        on_failed: Callable[[], None],
        on_local: Callable[[], None],
        on_slab_wanted: Callable[[MainChannel], None],
        disconnect: Callable[[RendererConnection, str], None],
    ) -> None:
        self.local: deque[tuple[MainChannel | Replay, int, int, Buffer]] = deque()
        self._connections = connections
        self._limits = limits
        self._on_failed = on_failed
        self._on_local = on_local
        self._on_slab_wanted = on_slab_wanted
        self._disconnect = disconnect
        self._contexts = driver.contexts
        self._dispatcher = Dispatcher(driver, "main")
        self.delivering: bool = False

    def route(
        self, channel: MainChannel, frame_id: int, pid: int, body: Buffer | Sequence[Buffer], target: int = ALL
    ) -> int:
        """Send an event to its subscribers, in order (lipc_topic_send), and keep it for main's own listeners.

        Returns CONGESTED if that applies.
        """
        status = 0
        if target == ALL:
            status = channel.topic.send(frame_id, pid, body)
        elif target in self._connections:
            status = channel.topic.send(frame_id, pid, body, self._connections[target].endpoint)
        if status:
            self.settle(channel, status)
        if channel.has_listeners and target in (ALL, MAIN):
            whole = body if isinstance(body, ONE_PIECE) else b"".join(body)
            self.local.append((channel, frame_id, pid, whole))
            self._on_local()
        return status & CONGESTED

    def settle(self, channel: MainChannel, status: int) -> None:
        """See to what a topic says of an event that it has sent."""
        if status & FAILED:
            self._on_failed()
        if status & WANTS_SLAB:
            self._on_slab_wanted(channel)

    def keep(self, channel: MainChannel, frame_id: int, pid: int, body: Buffer) -> int:
        """Send an event to all, and keep it for who listens later. KeptFull: neither was done. Returns as `route`."""
        kept = channel.port.kept
        kept.check(channel.name, len(body))
        if type(body) is not bytes:
            body = memoryview(body).toreadonly()  # no listener may have it for its own
        status = self.route(channel, frame_id, pid, body)
        kept.put(channel.name, Kept(frame_id, pid, body))
        return status

    def replay(self, replay: Replay) -> None:
        """Have a new listener of main's own hear the kept value, behind the events that are routed already."""
        channel: MainChannel = replay.channel
        kept = channel.port.kept.get(channel.name)
        replay.has_value = kept is not None
        self.local.append((replay, *(kept or Kept(MAIN, 0, b""))))
        self._on_local()

    def full(self, channel: MainChannel) -> OutboxFull:
        """The error for main's broadcast when a receiver has had no time yet to read its full outbox."""
        slowest = max(
            (each for each in self._connections.values() if channel in each.listening),
            key=lambda each: each.endpoint.outbox,
        )
        return OutboxFull(
            f"{slowest.endpoint.outbox} bytes wait for {slowest.who}, which had no time yet to read them, so nothing "
            "was sent: `await ipc.drain()` between sends"
        )

    def deliver(self) -> None:
        """Call main's own listeners with the events that were routed, in order."""
        if self.delivering:
            return  # a listener has called this: events that it sends come after the present one
        self.delivering = True
        contexts = self._contexts
        try:
            for _ in range(min(len(self.local), EVENTS_PER_TURN)):  # a listener may broadcast what it hears, for ever
                channel, frame_id, pid, body = self.local.popleft()
                if contexts.changed():
                    contexts.apart(self._call_listeners, channel, frame_id, pid, body)
                else:
                    self._call_listeners(channel, frame_id, pid, body)
        finally:
            self.delivering = False

    def _call_listeners(self, channel: MainChannel | Replay, frame_id: int, pid: int, body: Buffer) -> None:
        port = channel.port
        sender = self._connections.get(frame_id)
        limits = self._limits if sender is None else sender.limits
        event = IpcMainEvent(frame_id, pid, port.extension, channel.name, 0, port.send)
        weight = len(body)
        # A kept event, and main's own, is not writable. What a renderer has sent only this listener will have.
        owned = type(body) is not bytes and not memoryview(body).readonly and len(channel.listeners) == 1
        count = None if sender is None else lambda change: sender.count_listener(weight, change)

        def read(view: bool = False) -> Any:
            nonlocal weight
            if len(body) <= UNWEIGHED:
                return clone.decode_view(bytearray(body), limits) if view else clone.decode(body, limits)
            args, weight = clone.weigh(body, limits, owned=owned, view=view)
            return args

        try:
            if not channel.views:
                self._dispatcher.call(channel, port.table, event, read, count)
                return
            for listener in tuple(channel.listeners):
                own = partial(read, listener in channel.views)
                self._dispatcher.call(channel, port.table, event, own, count, (listener,))
        except UnknownValueError as error:  # the sender is honest, but this process does not know the type
            what = "an event of %s/%s is not heard in main: %s"
            log.warning(what, port.extension, channel.name, printable(str(error)))
        except DecodeError as error:
            if sender is not None and frame_id in self._connections:
                self._disconnect(sender, f"it sent an event that cannot be decoded: {error}")
