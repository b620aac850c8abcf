# SPDX-License-Identifier: MIT
"""Main's core: puts the broadcasts of each extension in one order and routes them.

Every broadcast passes here, whoever sent it, and is given to all its subscribers before the next one is looked at.
So all processes hear an extension's broadcasts in one order; main's own listeners are subscribers like any other.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from .. import clone
from ..errors import DecodeError, OutboxFull, ProtocolError, UnknownValueError, printable
from ..events import IpcMainEvent
from ..log import log, log_raised
from ..runtime.connection import finish_listener
from ..runtime.driver import Face, NextStep, is_awaitable
from ..runtime.posts import Posts
from ..runtime.protocol import ALL, MAIN
from ..transport import handshake
from ..transport.busy_poll import LOOK, LOOKING, Patience
from ..transport.endpoint import CONGESTED, FAILED, Buffer, poll
from ..transport.poller import EDGE, Poller
from ..user_code import ends_process, explained
from .backpressure import Pace
from .port import MainChannel, MainPort

if TYPE_CHECKING:
    from .peer import RendererConnection

# Messages that one renderer may have handled before the next one has its turn, unless they take too long.
TURN: Final = 64
# How long a receiver above its high-water mark may hold its senders back, or take as much as that mark, before it is
# left to its outbox (seconds).
HOLD: Final = 0.1
# Bytes of an event up to which it counts as what it is, and not as what its arguments weigh, while async listeners have
# them: 1,024 of these take 60 MiB at most.
UNWEIGHED: Final = 256
# Characters of the reason why a renderer is disconnected.
REASON_MOST: Final = 1000


class Router:
    """All connections of main, and all extensions it has heard of."""

    def __init__(
        self, face: Face, pid: int, *, high_water: int, limit: int, limits: clone.Limits = clone.STANDARD
    ) -> None:
        self.face = face
        self.pid = pid
        self.limits = limits  # of what main sends
        self.poller = Poller()
        self.thread = self.poller.thread
        self.posts = Posts(self.poller, limit, self._holds_posts)
        self.connections: dict[int, RendererConnection] = {}
        self.ports: dict[str, MainPort] = {}
        self.low_water, self.high_water, self.outbox_limit = high_water // 4, high_water, limit
        self._congested: set[RendererConnection] = set()
        self._drained: list[Callable[[], None]] = []
        self._local: deque[tuple[MainChannel, int, int, Buffer]] = deque()  # for main's own listeners, in order
        self._delivering = False
        self._latest: RendererConnection | None = None  # from whom something has come last
        self._patience = Patience()
        self._next = NextStep(face, lambda: self.poller.closed)

    def port(self, extension: str) -> MainPort:
        """The extension's port, made when it is first heard of; its number never means another extension."""
        port = self.ports.get(extension)
        if port is None:
            self.poller.check_fork()
            port = self.ports[extension] = MainPort(self, extension, len(self.ports))
        return port

    # ---- events ----

    def route(
        self, channel: MainChannel, frame_id: int, pid: int, body: Buffer | Sequence[Buffer], target: int = ALL
    ) -> int:
        """Give an event its place in the order and send it to its subscribers; CONGESTED if that applies."""
        told = 0
        if target == ALL:
            told = channel.topic.send(frame_id, pid, body)
        elif target in self.connections:
            told = channel.topic.send(frame_id, pid, body, self.connections[target].endpoint)
        if told & FAILED:
            self.disconnect_failed()
        if channel.has_listeners and target in (ALL, MAIN):
            whole = body if isinstance(body, (bytes, bytearray, memoryview)) else b"".join(body)
            self._local.append((channel, frame_id, pid, whole))
            self._next(self._turn)
        return told & CONGESTED

    def full(self, channel: MainChannel) -> OutboxFull:
        """What is raised where a receiver's outbox is full of what it has had no time to read."""
        slowest = max(
            (each for each in self.connections.values() if channel in each.listening),
            key=lambda each: each.endpoint.outbox,
        )
        return OutboxFull(
            f"{slowest.endpoint.outbox} bytes wait for renderer {slowest.frame_id} (pid {slowest.pid}), which had no "
            "time yet to read them, so nothing was sent: `await ipc.drain()` between sends"
        )

    def disconnect_failed(self) -> None:
        """Disconnect those to whom an event could not be sent."""
        for connection in list(self.connections.values()):
            try:
                connection.endpoint.check()
            except (OutboxFull, ProtocolError, MemoryError) as error:
                connection.broken(error)

    def deliver(self) -> None:
        """Call main's own listeners of the events that were routed, in their order."""
        if self._delivering:
            return  # called from a listener: its own events come after it
        self._delivering = True
        contexts = self.face.contexts
        try:
            for _ in range(min(len(self._local), TURN)):  # a listener may broadcast what it hears, for ever
                channel, frame_id, pid, body = self._local.popleft()
                if contexts.changed():
                    contexts.apart(self._call_listeners, channel, frame_id, pid, body)
                else:
                    self._call_listeners(channel, frame_id, pid, body)
        finally:
            self._delivering = False

    def _call_listeners(self, channel: MainChannel, frame_id: int, pid: int, body: Buffer) -> None:
        port = channel.port
        sender = self.connections.get(frame_id)
        limits = self.limits if sender is None else sender.limits
        for listener in channel.listeners:
            if not listener.active:
                continue
            try:
                weight = len(body)
                if weight <= UNWEIGHED:
                    args = clone.decode(body, limits)  # each listener has a clone of its own
                else:
                    args, weight = clone.weigh(body, limits, owned=False)
                if type(args) is not tuple:
                    raise DecodeError("arguments that are no tuple")
            except UnknownValueError as error:  # honest, and nothing for this process
                log.warning(
                    "an event of %s/%s is not heard in main: %s", port.extension, channel.name, printable(str(error))
                )
                return
            except DecodeError as error:
                if frame_id in self.connections:
                    self.disconnect(self.connections[frame_id], f"it sent an event that cannot be decoded: {error}")
                return
            event = IpcMainEvent(frame_id, pid, port.extension, channel.name, 0, port.send)
            try:
                result = listener.callback(event, *args)
                if result is not None and is_awaitable(result):
                    count = None if sender is None else partial(sender.count_listener, weight)
                    finish_listener(self.face, port.table, channel.name, result, count)
            except BaseException as error:  # SystemExit and CancelledError, too
                if ends_process(error):
                    raise
                error = explained(error, listener.callback, len(args))
                log_raised(error, "listener of %s/%s in main raised", port.extension, channel.name)

    # ---- back-pressure ----
    #
    # A receiver above its high-water mark holds back those who send to it, main's drain() included, so that senders
    # and receivers that both work find a common pace. One that takes less than that mark in HOLD seconds is lagging
    # until it has come down to its low-water mark: it holds up nobody, and will meet its outbox's limit. A mark's
    # worth in that time is the pace of one that comes down in time from the mark; a message of 256 MiB takes longer to
    # come down from, at any pace.

    def _look_for_congestion(self) -> bool:
        for connection in self.connections.values():
            if connection.hold is None and not connection.lagging and connection.endpoint.outbox > self.high_water:
                self._congested.add(connection)
                connection.awaited = True
                connection.hold = Pace(connection, HOLD, partial(self.release, connection, True))
        return bool(self._congested)

    def _sends_to_congested(self, sender: RendererConnection) -> bool:
        """Whether one who is congested listens to what it may send: others' congestion is not its affair."""
        return any(not connection.listening.isdisjoint(sender.channels) for connection in self._congested)

    def release(self, connection: RendererConnection, lagging: bool) -> None:
        """It holds nobody back any longer: it has come down to its low-water mark, or is `lagging`."""
        connection.lagging = connection.awaited = lagging
        connection.endpoint.lag(lagging)
        if connection.hold is not None:
            connection.hold.cancel()
            connection.hold = None
            self._congested.discard(connection)
            for other in self.connections.values():
                other.resume()  # who sends to another that is congested will be paused again
            self.poller.wake()
            if not self._congested:
                drained, self._drained = self._drained, []
                for resume in drained:
                    resume()

    def _holds_posts(self, resume: Callable[[], None]) -> bool:
        """Other threads cannot drain: what they send waits here for as long as that would."""
        if not self._look_for_congestion():
            return False
        self._drained.append(resume)
        return True

    async def drain(self) -> None:
        """Wait until nothing is congested, and main's own listeners have heard what it has sent."""
        self.poller.check_thread("drain", "await it on the loop of that thread")
        await self.face.give_way()
        while self._local:
            await self.face.give_way()
        while self._look_for_congestion():
            pending = self.face.pending()
            self._drained.append(partial(pending.set_result, None))
            await pending

    # ---- renderers ----

    def attach(self, connection: RendererConnection) -> None:
        """Begin to serve a renderer."""
        self.connections[connection.frame_id] = connection
        self.poller.register(connection.sock.fileno(), partial(self._on_socket, connection))
        # Edge-triggered and never read: the renderer shares this eventfd, and could make a read of it block.
        self.poller.register(connection.wakeup_fd, connection.woken, EDGE)
        self.poller.wake()

    def _on_socket(self, connection: RendererConnection) -> None:
        # After the handshake a renderer has nothing to say here: all that can come is the end.
        if connection.read_socket() is not None:
            self.disconnect(connection, "it sent a datagram on its socket")

    def disconnect(self, connection: RendererConnection, reason: str) -> None:
        """Close a connection for cause: say so in the log and to the renderer."""
        if not connection.closed:
            reason = printable(reason, REASON_MOST)  # it may quote what the renderer has sent
            log.warning("renderer %d (pid %d) is disconnected: %s", connection.frame_id, connection.pid, reason)
            handshake.say_goodbye(connection.sock, reason)
            self.detach(connection, reason)

    def detach(self, connection: RendererConnection, reason: str) -> None:
        """Close a connection and undo all that its renderer was part of."""
        if self.connections.pop(connection.frame_id, None) is not None:
            connection.reason = reason
            if self._latest is connection:
                self._latest = None
            self.release(connection, False)
            connection.close()

    # ---- turns ----

    def dispatch(self) -> None:
        """Do what there is to do: called when the poller's descriptor is readable."""
        try:
            self._guess()
        except BaseException:  # as in a turn
            self.poller.wake()
            raise
        self.poller.poll()
        self._turn()

    def _guess(self) -> None:
        """Who has called last calls next, as a rule: that one has its answer before the poller is asked who it is.

        Of the 17 us that a call takes between two who sleep on one core, asking is 2, and another 2 are what there is
        to do here from the answer until this process sleeps: so who waits for it is offered the processor first.
        """
        latest, self._latest = self._latest, None
        if latest is None or latest.ready or latest.paused or self._local:  # what main is to hear comes first
            return
        latest.ready = True
        self._serve_one(latest)
        patience = self._patience
        offers = self._latest is latest and not self.face.started and not (patience.nanoseconds or patience.crowded)
        if offers and latest.endpoint.poll(1) is None:  # it looks, yields once, and looks
            patience.report(None)

    def _turn(self) -> None:
        try:
            patience = self._patience
            until = time.monotonic_ns() + LOOKING if patience.nanoseconds else 0
            busy = self._work()
            while not busy and until and not self.face.started and time.monotonic_ns() < until:
                if not self._look(LOOK):
                    break
                busy = self._work()
        except BaseException:  # Ctrl-C in a listener, say: what the others have sent is still to be handled
            self.poller.wake()
            raise
        self.face.started = False
        if busy:
            self._next(self._turn)
        elif self._patience.nanoseconds:
            self._next(self._linger)  # when the tasks that this turn has woken have sent what they will
        else:
            self._patience.rested()
            self._rest()

    def _work(self) -> bool:
        """Do what there is to do now: whether there may be more."""
        if self._local:
            self.deliver()
            if self._local:
                return True
        return self._serve() or bool(self._local)

    def _look(self, nanoseconds: int) -> bool | None:
        """Look for more to do for a little: whether there is some."""
        awake = [each.endpoint for each in self.connections.values() if each.ready and not each.paused]
        if len(awake) == 1:
            return awake[0].poll(nanoseconds)
        return poll(awake, nanoseconds) if awake else False

    def _serve(self) -> bool:
        """Let each renderer have its turn: whether one may have more to do.

        When one has used its turn up, main looks who else has come; and of those that have used their last turn up
        only one has another, the one that has waited longest. So however many renderers keep main busy, they hold up
        one that does not for as long as one of them does.
        """
        busy, waiting = False, []
        for connection in list(self.connections.values()):
            if connection.ready and not connection.paused:
                if connection.overdue:
                    waiting.append(connection)
                    continue
                busy |= self._serve_one(connection)
                if connection.overdue:
                    return True
        if waiting:
            waiting.sort(key=lambda each: each.until)
            busy |= self._serve_one(waiting[0]) or len(waiting) > 1
        return busy

    def _serve_one(self, connection: RendererConnection) -> bool:
        handled = connection.take_turn(TURN)
        if connection.told:
            self._heed(connection)
        if handled and not connection.closed:
            self._latest = connection
        busy = connection.overdue or handled == TURN
        if connection.ended:
            # What is in its ring is still delivered; what it writes there from now on, if it lives, is not.
            connection.last_messages -= handled
            if handled == 0 or connection.last_messages <= 0:
                self.detach(connection, "it closed the connection, or died")
            busy = True
        return busy

    def _heed(self, sender: RendererConnection) -> None:
        """Do something about those who could not take what it has sent."""
        told, sender.told = sender.told, 0
        if told & FAILED:
            self.disconnect_failed()
        if told & CONGESTED and not sender.closed and self._look_for_congestion() and self._sends_to_congested(sender):
            sender.paused = True

    def _linger(self) -> None:
        """Look for more to do for longer, before parking."""
        if self._local or self._patience.report(self._look(self._patience.nanoseconds)):
            self._turn()
        else:
            self._rest()

    def _rest(self) -> None:
        for connection in list(self.connections.values()):
            # One that has ended is read to its end, and then let go.
            if connection.ready and (connection.ended or not connection.rest()):
                self._next(self._turn)
