# SPDX-License-Identifier: MIT
"""A renderer's core: what it sends to main, and what comes from there to its listeners and pending invokes."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from operator import length_hint
from typing import Any, Final

from .. import clone
from ..errors import DecodeError, PeerGone, ProtocolError
from ..log import log
from ..runtime.connection import CLOSED, OPEN, Connection, body_of, size_of
from ..runtime.driver import Driver
from ..runtime.pending import Outcome, PendingInvokes
from ..runtime.posts import Posts
from ..runtime.protocol import (
    ACTIVATE,
    CANCEL,
    DEACTIVATE,
    DECLARE,
    ERROR,
    EVENT,
    ITEMS,
    KEPT,
    KINDS,
    MAX_CHANNELS,
    MAX_NAMES,
    NOT_KEPT,
    READY,
    REPORT,
    RESULT,
)
from ..runtime.remote_error import rebuild, summarize
from ..runtime.turns import AWAY, TurnLoop
from ..transport import handshake
from ..transport.endpoint import INLINE, KEEP, REFUSE, Batch, Block, Buffer, Endpoint, Message
from ..transport.poller import Poller
from .backlog import OUTCOMES, Backlog, is_outcome, parts_of
from .dispatch import EventDispatcher
from .parts import Parts
from .port import RendererChannel, RendererPort, Soon, encoded_name

# Messages handled before other callbacks of the loop have their turn: that takes asyncio some 10 us.
MESSAGES_PER_TURN: Final = 256
# How long a renderer sleeps on its semaphore at once (seconds). Then it looks for main's death and for due timers.
NAP: Final = 0.05
# The longest single wait that is passed to the kernel (seconds). A longer wait is made of several.
LONGEST: Final = 2.0**20
# Turns' worth of messages that are taken from the ring, at most, before a deadline is judged. A ring of the usual size
# holds fewer.
CATCH_UP: Final = 64
# A blocking invoke polls for due timers and other descriptors after this many rounds, even if each finds messages.
ROUNDS: Final = 64

# The reason why main's messages stay in the ring (Connection.paused): earlier messages are in the backlog here.
PAUSED_BY_BACKLOG: Final = 1
# The kinds of messages that come decoded, as bits.
DECODED: Final = 1 << EVENT | 1 << RESULT


class RendererCore(Connection, TurnLoop):
    """A renderer's end of the line to main.

    Args:
        driver: runs the callbacks.
        parts: activates and deactivates extensions here.
        frame_id: this renderer's number.
        name: its name, as main knows it.
        on_change: called when main has activated here all that it had installed, and when main is gone.
        wakeup_fd: the eventfd that wakes main; closed with the connection.
        semaphore: whether this side sleeps on the segment's semaphore and not on `poller`.
        high_water: `drain` waits while more bytes are in the outbox.
        kept_limit: bytes that main keeps of one extension.
        backlog_limit: bytes of messages that may wait for `dispatch` while a blocking invoke waits for its outcome.
        limits: what main allows reading a message of this renderer to cost.
    """

    paused: int
    on_message: Sequence[Callable[[Message], None]]
    on_batch: Callable[[Batch], None]
    decoded: int
    drain_requested: bool

    def __init__(
        self,
        endpoint: Endpoint,
        sock: socket.socket,
        poller: Poller,
        driver: Driver,
        parts: Parts,
        frame_id: int,
        name: str,
        *,
        on_change: Callable[[], None],
        wakeup_fd: int,
        semaphore: bool,
        high_water: int,
        kept_limit: int,
        backlog_limit: int,
        limits: clone.Limits,
    ) -> None:
        handlers: list[Callable[[Message], None]] = [self._on_nonsense] * KINDS
        self._channels: list[RendererChannel] = endpoint.channels
        self.reads: clone.Limits = clone.Limits(limits.budget, limits.plain)  # main has held the senders to more
        self._dispatcher = EventDispatcher(self._channels, driver, frame_id, self.reads, self._report_sender)
        handlers[EVENT] = self._dispatcher.on_event
        handlers[RESULT] = self._on_result
        handlers[ERROR] = self._on_error
        handlers[ITEMS] = self._on_items
        handlers[ACTIVATE] = self._on_activate
        handlers[DEACTIVATE] = self._on_deactivate
        handlers[READY] = self._on_ready
        handlers[KEPT] = self._dispatcher.on_kept
        handlers[NOT_KEPT] = self._on_not_kept
        Connection.__init__(
            self, endpoint, sock, poller, high_water // 4, handlers, self._dispatcher.on_batch, DECODED, INLINE
        )
        TurnLoop.__init__(self, driver, poller)
        self.thread: int = poller.thread
        self.posts: Posts = Posts(poller, backlog_limit, self._holds_posts, endpoint.wake if semaphore else None)
        self.limits = limits
        self.max_size: int | None = endpoint.max_size
        self.kept_limit = kept_limit
        self.parts = parts
        self._on_change = on_change
        self.frame_id = frame_id
        self.name: str = name
        self.pending_invokes: PendingInvokes = PendingInvokes(poller.call_later, self.caught_up)
        self.attached: bool = False  # main has activated here all that it had installed
        self.reason: str = "it closed the connection, or died"
        self.said_goodbye: bool = False
        self.closing: str = ""  # why main ends this connection in good order, once it has begun to
        self.left: bool = False  # this process has closed the connection itself
        self._drained: list[Callable[[], None]] = []
        self._leaves_signals = False  # what comes by the socket is read when this turn is over
        self._signalled = False  # something has come there, and is not read yet
        self._offered: tuple[int, int] | None = None  # the slab whose descriptor comes next there, and its hold
        self._wakeup_fd = wakeup_fd
        self._semaphore = semaphore
        self._high_water = high_water
        self._ports: dict[int, RendererPort] = {}
        self._name_bytes = 0  # of all its channels' names
        self._handlers = handlers
        self._only_outcomes = [handlers[kind] if kind in OUTCOMES else self._keep for kind in range(KINDS)]
        self._only_outcomes[DEACTIVATE] = self._keep_deactivate
        self._keep_all = [self._keep_outcome if kind in OUTCOMES else self._keep for kind in range(KINDS)]
        self._backlog = Backlog()
        self._put_off: dict[Soon, float] = {}  # paced listeners that run soon: each at that time at the latest
        self._backlog_limit = backlog_limit
        poller.register(sock.fileno(), self._on_socket)
        poller.wake()

    # ---- toward main ----

    def send(
        self,
        kind: int,
        channel: int = 0,
        detail: int = 0,
        pid: int = 0,
        correlation: int = 0,
        body: Buffer | Sequence[Buffer] = b"",
        when_full: int = REFUSE,
    ) -> int:
        """Send a message, without blocking. PeerGone: main is gone. OutboxFull: not sent."""
        self.check_open()
        return super().send(kind, channel, detail, pid, correlation, body, when_full)

    def declare(self, channel: RendererChannel) -> None:
        """Give a channel its number, and tell main.

        If a signal's exception has ended this before, main may know the channel or not. So it is told again: it takes
        the last declaration twice.
        """
        name = encoded_name(channel.name)
        last = self._channels[-1] if self._channels else None
        if last is not None and last is not channel and last.number < 0:
            self.declare(last)
        number = len(self._channels) - (last is channel)
        if number == MAX_CHANNELS:
            raise ValueError(f"a renderer has at most {MAX_CHANNELS} channels, and this one has as many")
        if self._name_bytes + len(name) > MAX_NAMES:
            raise ValueError(f"a renderer's channel names have at most {MAX_NAMES} bytes together")
        self.check_open()
        if last is not channel:
            self.endpoint.count_gaps(channel)
        self.send(DECLARE, number, channel.port.number, body=name, when_full=KEEP)
        channel.number = number
        self._name_bytes += len(name)

    def cancel(self, correlation: int) -> None:
        """Tell main that this invoke is cancelled."""
        if self.state is OPEN:
            self.send(CANCEL, correlation=correlation, when_full=KEEP)

    def abandon(self, correlation: int) -> None:
        """Give an invoke up, here and in main: the message CANCEL makes main cancel the handler."""
        self.pending_invokes.forget(correlation)
        self.cancel(correlation)

    def _report_sender(self, frame_id: int) -> None:
        if self.state is OPEN:
            self.send(REPORT, detail=frame_id, when_full=KEEP)

    # ---- from main ----

    def _on_nonsense(self, message: Message) -> None:
        raise ProtocolError(f"a message of kind {message.kind}, which main never sends")

    def _on_result(self, message: Message) -> None:
        pending = self.pending_invokes.take(message.correlation)
        if pending is not None:
            body = message.body
            try:
                if body is None:
                    value = message.value
                elif message.views:
                    value = self._read_in_place(body)
                else:
                    value = clone.decode_owned(body, self.reads)
            except DecodeError as error:
                pending.set_exception(error)
                self.driver.started = True
            else:
                if not pending.set_result(value):
                    self.driver.started = True  # the task that awaits the result is to go on

    def _read_in_place(self, body: Any) -> Any:
        """Decode a result whose arrays are read-only, wherever they lie."""
        try:
            return clone.decode_view(body, self.reads)
        finally:
            if type(body) is Block:
                body.heard()

    def _on_error(self, message: Message) -> None:
        pending = self.pending_invokes.take(message.correlation)
        if pending is not None:
            self.driver.started = True
            try:
                error = rebuild(body_of(message))
            except DecodeError as undecodable:
                error = undecodable
            pending.set_exception(error)

    def _on_items(self, message: Message) -> None:
        stream: Any = self.pending_invokes.find(message.correlation)
        if stream is not None and not stream.add(message):
            self.driver.started = True

    def _on_activate(self, message: Message) -> None:
        number, correlation = message.extension, message.correlation
        extension, version, path, folders, settings = clone.decode(body_of(message))
        port = self._ports.get(number)
        if port is None:
            port = self._ports[number] = RendererPort(self, extension, number)
        read = partial(clone.decode, settings, self.reads)
        self.parts.activate(port, version, path, folders, read, partial(self._report, correlation))

    def _on_deactivate(self, message: Message) -> None:
        number, correlation = message.extension, message.correlation
        reason = self._note_closing(message)
        self.parts.deactivate(self._ports[number], partial(self._report, correlation), reason)

    def _note_closing(self, message: Message) -> str:
        """Why main ends this connection next, as its request to deactivate a part says; empty: it does not."""
        reason = str(body_of(message), "utf-8", "replace")
        if reason:
            self.reason = self.closing = reason
            self.said_goodbye = True
        return reason

    def _report(self, correlation: int, _result: object, error: BaseException | None) -> None:
        if self.state is OPEN:
            if error is None:
                self.send(RESULT, correlation=correlation, when_full=KEEP)
            else:
                self.send(ERROR, correlation=correlation, body=summarize(error), when_full=KEEP)

    def _on_ready(self, _message: Message) -> None:
        self.attached = True
        self._on_change()

    def _on_not_kept(self, message: Message) -> None:
        channel = self._channels[message.channel]
        channel.port.not_kept(channel, str(body_of(message), "utf-8", "replace"))

    # ---- turns ----

    def call_soon(self, soon: Soon, seconds: float) -> None:
        """Call it, once, as if it were an event behind all that is in the ring: at most after so long."""
        if soon not in self._put_off:
            self._put_off[soon] = time.monotonic() + seconds
            self.poller.wake()

    def _admit(self, handled: int) -> bool:
        """Put what was put off longest into the backlog, if there was nothing to handle, or its time has come.

        After a message more may follow at once: main writes on as soon as there is room.
        """
        soon = min(self._put_off, key=self._put_off.__getitem__)
        more = handled or self.endpoint.assembling[0] is not None
        if more and time.monotonic() < self._put_off[soon]:
            return False
        self._backlog.append([soon, ()])
        del self._put_off[soon]
        return True

    def broken(self, error: Exception) -> None:
        self._end(str(error) or "there is no memory here for what it sends")

    def _end(self, reason: str) -> None:
        self.reason = reason
        self.said_goodbye = True  # main has not died, as far as is known
        self.end()
        self.gone()

    def dispatch(self, timeout: float | None = 0.0, budget: int = MESSAGES_PER_TURN) -> int:
        """Wait at most `timeout` seconds for something to do, and handle at most `budget` messages of it."""
        # A callback may run a loop of its own that waits for the poller's descriptor. So the descriptor stays readable
        # until this dispatch is over. If a signal on the socket has made it readable, that signal stays unread until
        # then.
        self._leaves_signals = True
        try:
            self._sleep(0.0 if self.ready or self._backlog or self._put_off else timeout)
            self._leaves_signals = False
            if not (self.ready or self._backlog or self._put_off):
                return 0
            if not self._signalled:
                self.poller.wake()
            handled: int = self.driver.contexts.turn(self._handle, budget)
            return handled
        finally:
            self._leaves_signals = False
            self.rest()

    def on_nesting_loop(self) -> None:
        """Dispatch, as a step of a loop that may also run from within a callback."""
        if not self.poller.closed:
            self.dispatch()

    def on_loop(self) -> None:
        """Take a turn. An event loop calls this when the poller's descriptor is readable."""
        self.poller.poll()
        self.turn()

    def work(self) -> bool:
        """Handle at most a turn of messages."""
        return self._handle(MESSAGES_PER_TURN) >= MESSAGES_PER_TURN

    def poll_rings(self, nanoseconds: int) -> bool | None:
        """Poll main's ring."""
        return self.endpoint.busy_poll(nanoseconds) if self.ready and not self.ended else False

    def _handle(self, budget: int) -> int:
        handled = 0
        while handled < budget and self.state is not CLOSED:
            if length_hint(self._dispatcher.batch):
                self._keep_rest_of_batch()
            if self._backlog:
                handled += 1
                self._handle_kept()
                continue
            if self.ready:
                self.paused = 0
                handled += self.pump(budget - handled)
            if not (self._backlog or (self._put_off and self._admit(handled))):
                break
        return handled

    def _handle_kept(self) -> None:
        message = self._backlog.take()
        try:
            if isinstance(message, list):
                self._dispatcher.on_batch(message)
            else:
                self._handlers[message.kind](message)
        except (ProtocolError, DecodeError, MemoryError) as error:
            self.broken(error)
        except (KeyboardInterrupt, SystemExit):
            self.interrupted(message)
            raise

    def interrupted(self, message: Message | Batch) -> None:
        # A message whose handling has not begun is kept in its place, because the C core has already counted the events
        # after it.
        outcome = is_outcome(message)
        if self.on_message is self._keep_all:
            begun = self._backlog.has_kept(message)
        elif outcome:
            pending: Any = self.pending_invokes.find(message.correlation)  # type: ignore[union-attr]
            begun = pending is None or (message.kind == ITEMS and pending.has(message))  # type: ignore[union-attr]
        else:
            event = isinstance(message, list) or message.kind in (EVENT, KEPT)
            begun = not event or self._dispatcher.has_begun(message) or self._backlog.has_kept(message)
        if not begun:
            if outcome:
                self.pending_invokes.call_off(message.correlation)  # type: ignore[union-attr]
            if self.on_message is not self._handlers:
                self._backlog.keep(message)
            else:
                self._backlog.put_first(parts_of(message))
                self._backlog.size += size_of(message)
                self._backlog.has_outcomes |= outcome

    def _keep_rest_of_batch(self) -> None:
        """Put the rest of an interrupted batch before all messages of the backlog."""
        self._backlog.put_first(self._dispatcher.take_rest())

    def rest(self) -> None:
        """End a dispatch: park the ring, or keep the poller's descriptor readable if messages are left."""
        if self._signalled:
            self._signalled = False
            self._on_socket()
        if self.state is not CLOSED:
            if length_hint(self._dispatcher.batch):
                self._keep_rest_of_batch()
            if not self._backlog:
                self.paused = 0
            if self._backlog or self._put_off or (self.ready and not self.park()):
                self.poller.wake()
            elif self.ended:
                self.gone()
            elif self.poller.waking:
                self.poller.clear_wake()

    def wait(self, outcome: Outcome) -> None:
        """Block until there is an outcome. All other messages are kept for `dispatch`, in their order."""
        before = self.on_message, self.on_batch
        self.on_message, self.on_batch = self._only_outcomes, self._keep
        self.decoded = 1 << RESULT  # events are kept as they are
        self.paused = 0
        self._leaves_signals = False
        rounds = 0
        try:
            self._wake_up()
            if length_hint(self._dispatcher.batch):
                self._keep_rest_of_batch()
            if self._backlog.has_outcomes:
                self._handle_kept_outcomes()
            busy_poll = self._busy_poll
            while not outcome.done and self.state is not CLOSED:
                rounds += 1
                if rounds % ROUNDS == 0:
                    self.poller.poll()
                # Poll first: straight after a request nothing can have come, and a look at the ring would only keep
                # a peer on the same core waiting.
                if not length_hint(self._batch):
                    nanoseconds = busy_poll.nanoseconds
                    if not nanoseconds or not busy_poll.report(self.endpoint.busy_poll(nanoseconds)):
                        busy_poll.rested()
                        if self.park():
                            if self.ended:
                                self.gone()
                                break
                            self._sleep(None)
                            self._wake_up()
                self.pump(MESSAGES_PER_TURN)
        finally:
            self.on_message, self.on_batch = before
            if self.on_message is not self._only_outcomes:  # else another wait further up the stack goes on
                self.decoded = DECODED
                # A dispatch further up the stack must not handle newer messages before the backlog.
                self.paused = PAUSED_BY_BACKLOG if self._backlog else 0
            self.rest()

    def _handle_kept_outcomes(self) -> None:
        """Handle the outcomes in the backlog before its other messages."""
        self._backlog.put_outcomes_first()
        while self._backlog and is_outcome(self._backlog[0]):
            self._handle_kept()
        self._backlog.has_outcomes = False

    def caught_up(self, _asked: int) -> bool:
        """Take messages from the ring before a deadline is judged. This process may have been busy past that deadline.

        The messages are kept and handled in their order in the next turn. An outcome cancels its deadline at once.
        During a blocking wait, outcomes are handled at once.
        """
        before = self.on_message, self.on_batch
        if self.on_message is self._handlers:
            self.on_message, self.on_batch = self._keep_all, self._keep
        self.paused = 0
        try:
            for _ in range(CATCH_UP):
                if (
                    self.state is CLOSED
                    or self._backlog.size > self._backlog_limit // 2
                    or not self.pump(MESSAGES_PER_TURN)
                ):
                    break
        finally:
            self.on_message, self.on_batch = before
            self.paused = PAUSED_BY_BACKLOG if self._backlog and self.on_message is not self._only_outcomes else 0
        return True

    def _wake_up(self) -> None:
        """Unpark: this side looks at the ring itself now, and main need not signal."""
        if not self.ready and self.state is not CLOSED:
            self.endpoint.unpark()
            self.ready = True

    def _keep_outcome(self, message: Message) -> None:
        self.pending_invokes.call_off(message.correlation)
        self._keep(message)

    def _keep(self, message: Message | Batch) -> None:
        self._backlog.keep(message)
        size, limit = self._backlog.size, self._backlog_limit
        if self.on_message is self._keep_all:
            if size > limit // 2:
                self.paused = PAUSED_BY_BACKLOG  # a deadline is judged: the rest stays in the ring
        elif size > limit and len(self._backlog) > 1:
            self._end(f"{size} bytes of events waited here for dispatch(), where {limit} may")

    def _keep_deactivate(self, message: Message) -> None:
        """During a blocking invoke, main asks for a part to be deactivated, which `dispatch` does.

        If main ends the connection next, it would wait for the invoke, so the invoke ends now. An on_deactivate that
        invokes, though, has its outcome: main still has its handlers.
        """
        self._keep(message)
        if self._note_closing(message) and not self.parts.leaving:
            for correlation, pending in self.pending_invokes:
                self.abandon(correlation)
                pending.set_exception(self.peer_gone())

    def _sleep(self, timeout: float | None) -> None:
        if not self._semaphore:
            self.poller.poll(None if timeout is None else min(timeout, LONGEST))
            return
        # No descriptor tells of the semaphore, and the semaphore does not tell of main's death or of timers. So those
        # are polled between naps.
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            called = self.poller.poll()
            left = NAP if until is None else min(NAP, until - time.monotonic())
            if self.state is CLOSED:
                return
            if self.endpoint.wait(0.0 if called else left, self.posts.__len__):
                self.woken()
                self.poller.poll()  # another thread may have woken this one
                return
            if called or left <= 0:
                return

    def below_low_water(self) -> None:
        if self._drained:
            self._resume()

    def _resume(self) -> None:
        self.drain_requested = False
        drained, self._drained = self._drained, []
        for resume in drained:
            resume()

    def _holds_posts(self, resume: Callable[[], None]) -> bool:
        """Hold the posts of other threads while `drain` would wait, because other threads cannot drain."""
        if self.state is CLOSED or self.endpoint.outbox <= min(self._high_water, self._backlog_limit - 1):
            return False
        self._drained.append(resume)
        self.drain_requested = True
        return True

    async def drain(self) -> None:
        """Wait until the outbox is down to its low-water mark, if more than the high-water mark waits."""
        self.poller.check_thread("drain", "await it on the loop of that thread")
        await self.driver.yield_to_loop()
        if time.monotonic() - self.drained > AWAY:
            await self.driver.yield_to_loop()
        if self.state is not CLOSED and self.endpoint.outbox > self._high_water:
            pending = self.driver.future()
            self._drained.append(partial(pending.set_result, None))
            self.drain_requested = True
            await pending
        self.drained: float = time.monotonic()
        self.check_open()

    def drain_sync(self) -> None:
        """Do as `drain`, but block."""
        self.poller.check_thread("drain_sync", "call it there")
        if self.state is not CLOSED and self.endpoint.outbox > self._high_water:
            outcome = Outcome()
            self._drained.append(partial(outcome.set_result, None))
            self.drain_requested = True
            self.wait(outcome)
        self.check_open()

    def check_open(self) -> None:
        """PeerGone: main is gone."""
        if self.state is not OPEN:
            raise self.peer_gone()

    def peer_gone(self) -> PeerGone:
        """The error of what main does not answer any more."""
        return self.driver.closed(self.closing) if self.closing else PeerGone(self._why_gone())

    def _why_gone(self) -> str:
        return self.closing or f"main is gone: {self.reason}"

    def _on_socket(self) -> None:
        if self.state is CLOSED:
            return
        if self._leaves_signals:
            self._signalled = True
            self.woken()
            return
        if self._offered is not None:
            self._take_slab(*self._offered)
            return
        data = self.read_socket()
        if data is None:
            return
        if len(data) == 1:
            self.woken()
        else:
            self._on_words(data)

    def _on_words(self, data: bytes) -> None:
        if data == handshake.SLAB:  # a signal has raised when its offer was read; main goes on without it
            return
        try:
            words = handshake.read_words(data)
            if "slab" in words:
                self._offered = words["slab"], words["hold"]
                self._take_slab(*self._offered)
            elif "unmap" in words:
                self.endpoint.unmap_slab(words["unmap"])
            else:
                self.reason = handshake.read_goodbye(data)
                self.said_goodbye = True
        except ProtocolError as error:
            self.broken(error)

    def _take_slab(self, number: int, hold: int) -> None:
        """Map a slab. Without memory or descriptors for that, large events go on to come through the ring."""
        try:
            data, error = self.endpoint.receive_slab(self.sock, number, hold)
        except BlockingIOError:  # main is about to send it
            return
        except ConnectionError:
            data, error = b"", 0
        self._offered = None
        if data == handshake.SLAB and error:
            log.info("a slab of main's is not mapped: %s", os.strerror(error))
        if data == b"":
            self.end()
        elif len(data) == 1:
            self.woken()
        elif data != handshake.SLAB:
            self._on_words(data)

    def gone(self) -> None:
        """Close the connection: main is gone, or this process has left. Pending requests get the outcome PeerGone."""
        if self.state is not CLOSED:
            self._dispatcher.take_rest()  # these events are not to be heard
            self._put_off.clear()

            def gone() -> PeerGone:  # for other threads, whose errors cancel no task
                return PeerGone(self._why_gone())

            self.posts.refuse(gone)  # before there is no endpoint
            self.close()
            os.close(self._wakeup_fd)
            self.posts.close(gone)
            self.pending_invokes.fail_all(self.peer_gone)
            self._resume()
            self.parts.deactivate_all("" if self.left else self.reason)
            self.poller.wake()  # until `dispatch` has said so
            self._on_change()
