# SPDX-License-Identifier: MIT
"""Main's core: the connections of all renderers, served in turns, and the extensions that talk through them."""

from __future__ import annotations

import time
from functools import partial
from typing import Final

from .. import clone
from ..errors import OutboxFull, ProtocolError, printable
from ..log import log
from ..runtime.connection import CLOSED
from ..runtime.driver import Driver
from ..runtime.posts import Posts
from ..runtime.turns import AWAY, TurnLoop
from ..transport import handshake
from ..transport.endpoint import CONGESTED, FAILED, busy_poll
from ..transport.poller import EDGE, Poller
from .backpressure import Backpressure
from .connection import RendererConnection
from .port import MainPort
from .router import EVENTS_PER_TURN, Router
from .slab_pool import SlabPool
from .streams import StreamTurns

# Messages that one renderer may have handled before the next one has its turn, unless they take too long.
MESSAGES_PER_TURN: Final = 64
# How long main may work for one renderer before the next one has its turn (seconds). A number of messages alone is no
# bound on time: some messages take a thousand times as long as small plain data.
TURN_TIME: Final = 0.002
# Characters of the reason why a renderer is disconnected.
REASON_MOST: Final = 1000


class MainCore(TurnLoop):
    """All connections of main, and all extensions it has heard of.

    Args:
        driver: calls this core back on the loop.
        pid: main's process id.
        high_water: bytes that may wait for a renderer before it holds its senders back.
        limit: bytes that may wait for a renderer, and of what other threads have sent.
        kept_limit: bytes that the kept values of one extension may take.
        pool_limit: bytes of shared memory for large events; 0: they go through the rings.
        limits: of what main sends.
    """

    low_water: int
    high_water: int
    outbox_limit: int

    def __init__(
        self,
        driver: Driver,
        pid: int,
        *,
        high_water: int,
        limit: int,
        kept_limit: int = 0,
        pool_limit: int = 0,
        limits: clone.Limits = clone.STANDARD,
    ) -> None:
        super().__init__(driver, Poller())
        self.pid = pid
        self.limits = limits
        self.kept_limit = kept_limit
        self.thread: int = self.poller.thread
        self.connections: dict[int, RendererConnection] = {}
        self.ports: dict[str, MainPort] = {}
        high_water = min(high_water, limit)  # the C core does the same
        self.low_water, self.high_water, self.outbox_limit = high_water // 4, high_water, limit
        self.backpressure: Backpressure = Backpressure(self.connections, high_water, self.poller)
        self.posts: Posts = Posts(self.poller, limit, self.backpressure.wait)
        self.pool: SlabPool = SlabPool(pool_limit, self.connections, self.poller)
        self.router: Router = Router(
            driver,
            self.connections,
            limits,
            self.disconnect_failed,
            self.next_turn,
            self.pool.provide,
            self.disconnect,
        )
        self.streams: StreamTurns = StreamTurns(driver)
        self._latest: RendererConnection | None = None  # the renderer whose messages were handled last
        self._emptied: RendererConnection | None = None  # its ring was read empty before this turn

    def port(self, extension: str) -> MainPort:
        """The extension's port, made when it is first heard of; its number never means another extension."""
        port = self.ports.get(extension)
        if port is None:
            self.poller.check_fork()
            port = self.ports[extension] = MainPort(self, extension, len(self.ports))
        return port

    async def drain(self) -> None:
        """Wait until nothing is congested, and main's own listeners have heard what it has sent."""
        self.poller.check_thread("drain", "await it on the loop of that thread")
        await self.driver.yield_to_loop()
        if time.monotonic() - self.drained > AWAY:
            await self.driver.yield_to_loop()
        while self.router.local:
            await self.driver.yield_to_loop()
        while self.backpressure.look():
            pending = self.driver.future()
            self.backpressure.wait(partial(pending.set_result, None))
            await pending
        self.drained: float = time.monotonic()

    # ---- renderers come and go ----

    def attach(self, connection: RendererConnection) -> None:
        """Begin to serve a renderer."""
        self.connections[connection.frame_id] = connection
        self.poller.register(connection.sock.fileno(), partial(self._on_socket, connection))
        # Edge-triggered and never read: the renderer shares this eventfd, and could make a read of it block.
        self.poller.register(connection.wakeup_fd, connection.woken, EDGE)
        self.poller.wake()

    def _on_socket(self, connection: RendererConnection) -> None:
        # After the handshake a renderer sends nothing on its socket. Only the end of file can come.
        if connection.read_socket() is not None:
            self.disconnect(connection, "it sent a datagram on its socket")

    def disconnect_failed(self) -> None:
        """Disconnect the renderers to which an event could not be sent."""
        for connection in list(self.connections.values()):
            try:
                connection.endpoint.check()
            except (OutboxFull, ProtocolError, MemoryError) as error:
                connection.broken(error)

    def disconnect(self, connection: RendererConnection, reason: str, told: str = "") -> None:
        """Close a connection, and tell the reason in the log and to the renderer, which may be told another one."""
        if connection.state is not CLOSED:
            reason = printable(reason, REASON_MOST)  # it may quote what the renderer has sent
            log.warning("%s is disconnected: %s", connection.who, reason)
            handshake.say_goodbye(connection.sock, told or reason)
            self._detach(connection, reason)

    def detach(self, connection: RendererConnection, reason: str) -> None:
        """Close a connection that has had its time, and undo all that its renderer was part of."""
        if connection.frame_id in self.connections:
            log.info("%s is detached: %s", connection.who, reason)
            self._detach(connection, reason)

    def _detach(self, connection: RendererConnection, reason: str) -> None:
        if self.connections.pop(connection.frame_id, None) is not None:
            connection.reason = reason
            if self._latest is connection:
                self._latest = None
            self.backpressure.release(connection)
            connection.close()

    # ---- turns ----

    def dispatch(self) -> None:
        """Take a turn. The loop calls this when the poller's descriptor is readable."""
        try:
            self._serve_last_sender()
        except BaseException:  # as in a turn
            self.poller.wake()
            raise
        self.poller.poll()
        self.turn()
        self._emptied = None

    def _serve_last_sender(self) -> None:
        """Serve the renderer that sent last before asking the poller, because that renderer mostly sends next, too.

        A call between two processes that sleep on one core takes 17 us. Asking the poller takes 2 of them. Main's own
        work from the answer until it sleeps takes another 2, so main offers the processor to the renderer first.
        """
        latest, self._latest, self._emptied = self._latest, None, None
        if latest is None or latest.ready or latest.paused or self.router.local:  # what main is to hear comes first
            return
        latest.ready = True
        more = self._serve(latest)
        busy_poll = self._busy_poll
        offers = self._latest is latest and not (self.driver.started or busy_poll.nanoseconds or busy_poll.preempted)
        if offers:
            found = latest.endpoint.busy_poll(1)  # it looks, yields once, and looks
            if found is None:
                busy_poll.report(None)
            more |= bool(found)
        if not more:
            self._emptied = latest

    def poll_rings(self, nanoseconds: int) -> bool | None:
        """Poll the rings of all renderers that are neither parked nor paused."""
        if len(self.connections) == 1:
            (one,) = self.connections.values()
            return one.endpoint.busy_poll(nanoseconds) if one.ready and not one.paused else False
        awake = [each.endpoint for each in self.connections.values() if each.ready and not each.paused]
        return busy_poll(awake, nanoseconds) if awake else False

    @property
    def is_assembling(self) -> bool:
        """Whether a part of a large message has come, and the rest is on its way."""
        return any(each.endpoint.assembling[0] is not None for each in self.connections.values())

    def work(self) -> bool:
        """Call main's own listeners, and let each renderer have its turn.

        A renderer is overdue if it has used up its last turn. When a renderer becomes overdue, main asks the poller for
        others first. Of the overdue renderers, only the one that has waited longest has a turn. So however many
        renderers keep main busy, another renderer waits no longer than one such turn.
        """
        router = self.router
        if router.local and not router.delivering:
            # Those that wait now come before what renderers have sent. Those that they bring about do not, or a
            # listener that broadcasts what it hears would keep main from all renderers.
            all_now = len(router.local) <= EVENTS_PER_TURN
            router.deliver()
            if not all_now:
                return True
        busy, waiting = False, []
        for connection in list(self.connections.values()):
            if connection.ready and not connection.paused:
                if connection is self._emptied:
                    self._emptied = None
                    continue
                if connection.overdue:
                    waiting.append(connection)
                    continue
                busy |= self._serve(connection)
                if connection.overdue:
                    return True
        if waiting:
            waiting.sort(key=lambda each: each.until)
            busy |= self._serve(waiting[0]) or len(waiting) > 1
        return busy or bool(router.local and not router.delivering)

    def _serve(self, connection: RendererConnection) -> bool:
        """Give a renderer its turn. Return whether it may have more to do."""
        connection.until = time.monotonic() + TURN_TIME
        connection.overdue = False
        handled = connection.pump(MESSAGES_PER_TURN, connection.until)
        connection.overdue = handled > 0 and time.monotonic() >= connection.until
        if connection.status:
            self._heed(connection)
        if handled and connection.state is not CLOSED:
            self._latest = connection
        if connection.ended:
            # Main still delivers what is in the ring, and nothing that the renderer, if it lives, writes there later.
            connection.last_messages -= handled
            if handled == 0 or connection.last_messages <= 0:
                self.detach(connection, "it closed the connection, or died")
            return True
        return connection.overdue or handled == MESSAGES_PER_TURN

    def _heed(self, sender: RendererConnection) -> None:
        """Act on the receivers that could not take the sender's events: disconnect them, or pause the sender."""
        status, sender.status = sender.status, 0
        if status & FAILED:
            self.disconnect_failed()
        if status & CONGESTED and sender.state is not CLOSED and self.backpressure.holds_back(sender):
            sender.hold_for_congestion()

    def rest(self) -> None:
        """Park each renderer's ring that is empty."""
        for connection in list(self.connections.values()):
            # A renderer that has ended is read to the end of its ring, and then detached.
            if connection.ready and (connection.ended or not connection.park()):
                self.next_turn()
