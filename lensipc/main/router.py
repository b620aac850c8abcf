# SPDX-License-Identifier: MIT
"""Puts the events of each extension in one order, and gives them to all who listen.

A small event that a renderer broadcasts, and that main does not listen to itself, is sent on by the C core as it comes
out of that renderer's ring (csrc/endpoint/receive.c). All others pass here. Either way an event is given to all its
subscribers before the next one is looked at, so all processes hear an extension's events in one order; main's own
listeners are subscribers like any other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from .. import clone
from ..errors import DecodeError, OutboxFull, UnknownValueError, printable
from ..events import IpcMainEvent
from ..log import log
from ..runtime.dispatch import Dispatcher
from ..runtime.driver import Driver
from ..runtime.protocol import ALL, MAIN
from ..transport.endpoint import CONGESTED, FAILED, Buffer
from .port import MainChannel

if TYPE_CHECKING:
    from .connection import RendererConnection

# Main's own listeners are called with so many events before others have their turn.
EVENTS_PER_TURN: Final = 64
# Bytes of an event up to which it counts as what it is, and not as what its arguments weigh, while async listeners have
# them: 1,024 of these take 60 MiB at most.
UNWEIGHED: Final = 256


class Router:
    """Routes events.

    Args:
        driver: how what main's own listeners return is awaited.
        connections: of all renderers, by their frame ids.
        limits: of what main sends.
        on_failed: called when an event could not be sent to somebody: their endpoints say so.
        on_local: called when there is something for main's own listeners.
        disconnect: ends a connection, for a reason.

    Attributes:
        local: what is there for main's own listeners, in order.
    """

    def __init__(
        self,
        driver: Driver,
        connections: dict[int, RendererConnection],
        limits: clone.Limits,
        on_failed: Callable[[], None],
        on_local: Callable[[], None],
        disconnect: Callable[[RendererConnection, str], None],
    ) -> None:
        self.local: deque[tuple[MainChannel, int, int, Buffer]] = deque()
        self._connections = connections
        self._limits = limits
        self._on_failed = on_failed
        self._on_local = on_local
        self._disconnect = disconnect
        self._contexts = driver.contexts
        self._dispatcher = Dispatcher(driver, "main")
        self._delivering = False

    def route(
        self, channel: MainChannel, frame_id: int, pid: int, body: Buffer | Sequence[Buffer], target: int = ALL
    ) -> int:
        """Give an event its place in the order and send it to its subscribers; CONGESTED if that applies."""
        status = 0
        if target == ALL:
            status = channel.topic.send(frame_id, pid, body)
        elif target in self._connections:
            status = channel.topic.send(frame_id, pid, body, self._connections[target].endpoint)
        if status & FAILED:
            self._on_failed()
        if channel.has_listeners and target in (ALL, MAIN):
            whole = body if isinstance(body, (bytes, bytearray, memoryview)) else b"".join(body)
            self.local.append((channel, frame_id, pid, whole))
            self._on_local()
        return status & CONGESTED

    def full(self, channel: MainChannel) -> OutboxFull:
        """What is raised where a receiver's outbox is full of what it has had no time to read."""
        slowest = max(
            (each for each in self._connections.values() if channel in each.listening),
            key=lambda each: each.endpoint.outbox,
        )
        return OutboxFull(
            f"{slowest.endpoint.outbox} bytes wait for renderer {slowest.frame_id} (pid {slowest.pid}), which had no "
            "time yet to read them, so nothing was sent: `await ipc.drain()` between sends"
        )

    def deliver(self) -> None:
        """Call main's own listeners of the events that were routed, in their order."""
        if self._delivering:
            return  # called from a listener: its own events come after it
        self._delivering = True
        contexts = self._contexts
        try:
            for _ in range(min(len(self.local), EVENTS_PER_TURN)):  # a listener may broadcast what it hears, for ever
                channel, frame_id, pid, body = self.local.popleft()
                if contexts.changed():
                    contexts.apart(self._call_listeners, channel, frame_id, pid, body)
                else:
                    self._call_listeners(channel, frame_id, pid, body)
        finally:
            self._delivering = False

    def _call_listeners(self, channel: MainChannel, frame_id: int, pid: int, body: Buffer) -> None:
        port = channel.port
        sender = self._connections.get(frame_id)
        limits = self._limits if sender is None else sender.limits
        event = IpcMainEvent(frame_id, pid, port.extension, channel.name, 0, port.send)
        weight = len(body)
        count = None if sender is None else lambda change: sender.count_listener(weight, change)

        def read() -> Any:
            nonlocal weight
            if len(body) <= UNWEIGHED:
                return clone.decode(body, limits)
            args, weight = clone.weigh(body, limits, owned=False)
            return args

        try:
            self._dispatcher.call(channel, port.table, event, read, count)
        except UnknownValueError as error:  # honest, and nothing for this process
            what = "an event of %s/%s is not heard in main: %s"
            log.warning(what, port.extension, channel.name, printable(str(error)))
        except DecodeError as error:
            if sender is not None and frame_id in self._connections:
                self._disconnect(sender, f"it sent an event that cannot be decoded: {error}")
