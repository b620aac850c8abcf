# SPDX-License-Identifier: MIT
"""A renderer's core: what it sends to main, and what comes from there to its listeners and pending invokes."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from . import attach, clone
from .channels import Callback, Channel, ChannelTable, Disposer
from .connection import Connection, finish_listener, log
from .endpoint import DROP_NEWEST, DROP_OLDEST, KEEP, REFUSE, Buffer, Endpoint, Record, poll
from .errors import DecodeError, NotActivatedError, PeerGone, ProtocolError
from .face import Face, Settle
from .invocations import Invocations
from .message import (
    ACTIVATE,
    CANCEL,
    DEACTIVATE,
    DECLARE,
    ERROR,
    EVENT,
    INVOKE,
    KINDS,
    LISTEN,
    MAX_CHANNELS,
    MAX_NAME,
    READY,
    RESULT,
    UNLISTEN,
    describe,
    rebuild,
)
from .patience import Patience
from .poller import Poller
from .types import IpcRendererEvent

# Messages handled before other callbacks of the loop have their turn.
TURN: Final = 64
# How long a renderer that sleeps on a semaphore does so before it looks for main's death (seconds).
NAP: Final = 0.05

# Event objects kept for each channel.
MOST_EVENTS: Final = 64

WHEN_SLOW: Final = {"disconnect": REFUSE, "drop_oldest": DROP_OLDEST, "drop_newest": DROP_NEWEST}


class RendererChannel(Channel):
    """A channel, and the number by which main knows it."""

    __slots__ = ("events", "number", "place", "port", "when_full")

    def __init__(self, port: RendererPort, name: str) -> None:
        super().__init__(name)
        self.port = port
        self.number = -1  # declared when first used
        self.place = 0  # of the last event heard
        self.events: dict[int, IpcRendererEvent] = {}  # by the frame id of the sender
        self.when_full = 0


class RendererPort:
    """Through which an extension's part in a renderer talks."""

    def __init__(self, core: RendererCore, extension: str, number: int) -> None:
        self.core = core
        self.extension = extension
        self.number = number
        self.table: ChannelTable[RendererChannel] = ChannelTable(
            extension, partial(RendererChannel, self), self._listening
        )

    def close(self) -> None:
        """The part is over: undo what it has registered, and end what runs of it."""
        self.table.close()

    def send(self, target: int, channel: str, args: tuple[Any, ...], transfer: Sequence[Any] = ()) -> None:
        """Send an event to every listener of the channel in the process `target`, or everywhere: ALL."""
        number = self._number(channel)
        if transfer:
            clone.check_transfer(transfer)
        self.core.send(EVENT, number, target, 0, 0, clone.encode_parts(args, "args"))
        if transfer:
            clone.detach(transfer)

    def listen(self, channel: str, listener: Callback, when_slow: str) -> Disposer:
        """Add a listener; the first of a channel says what main does when this process is too slow for it."""
        if when_slow not in WHEN_SLOW:
            raise ValueError(f"when_slow is one of {', '.join(map(repr, WHEN_SLOW))}, not {when_slow!r}")
        if not self.table[channel].listeners:
            self.table[channel].when_full = WHEN_SLOW[when_slow]
        return self.table.listen(channel, listener)

    def invoke(self, channel: str, args: tuple[Any, ...], timeout: float | None, transfer: Sequence[Any]) -> Any:
        """Send a request; returns the future of its outcome."""
        correlation = 0

        def give_up() -> None:
            self.core.invocations.take(correlation)
            self.core.cancel(correlation)

        pending = self.core.face.pending(give_up)
        correlation = self._request(channel, args, timeout, pending, transfer)
        return pending

    def invoke_sync(self, channel: str, args: tuple[Any, ...], timeout: float | None, transfer: Sequence[Any]) -> Any:
        """Send a request and block until its outcome is there."""
        if not self.core.face.blocking:
            raise RuntimeError("invoke_sync would block this process's event loop: use `await ipc.invoke(...)`")
        outcome = Outcome()
        correlation = self._request(channel, args, timeout, outcome, transfer)
        try:
            self.core.wait(outcome)
        except BaseException:  # Ctrl-C: nobody waits for it any more
            self.core.invocations.take(correlation)
            self.core.cancel(correlation)
            raise
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    def _request(
        self,
        channel: str,
        args: tuple[Any, ...],
        timeout: float | None,
        pending: Any,
        transfer: Sequence[Any],
    ) -> int:
        number = self._number(channel)
        if transfer:
            clone.check_transfer(transfer)
        body = clone.encode_parts(args, "args")
        invocations, what = self.core.invocations, f"invoke of {self.extension}/{channel}"
        correlation = invocations.open(pending, what, timeout, self.core.cancel)
        try:
            self.core.send(INVOKE, number, 0, 0, correlation, body)
        except BaseException:
            invocations.take(correlation)
            raise
        if transfer:
            clone.detach(transfer)
        return correlation

    def _number(self, name: str) -> int:
        if not self.table.open:
            raise NotActivatedError(f"extension {self.extension!r} is not active in this process")
        channel = self.table[name]
        if channel.number < 0:
            self.core.declare(channel)
        return channel.number

    def _listening(self, channel: RendererChannel, listening: bool) -> None:
        if not listening and (self.core.closed or self.core.ended):
            return  # main is gone: nothing more will come
        if channel.number < 0:
            self.core.declare(channel)
        self.core.send(LISTEN if listening else UNLISTEN, channel.number, channel.when_full, when_full=KEEP)


class Parts(Protocol):
    """What brings an extension's part to life and ends it; settle(result, error) reports how that went."""

    def activate(self, port: RendererPort, version: str, path: str, settle: Settle) -> None: ...

    def deactivate(self, port: RendererPort, settle: Settle) -> None: ...

    def attached(self) -> None:
        """All that main had installed when this renderer came is active."""

    def gone(self) -> None:
        """Main is gone: end all parts."""


class Outcome:
    """What a blocking invoke waits for."""

    __slots__ = ("done", "error", "value")

    def __init__(self) -> None:
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None

    def set_result(self, result: Any, /) -> None:
        self.value = result
        self.done = True

    def set_exception(self, exception: BaseException, /) -> None:
        self.error = exception
        self.done = True


class RendererCore(Connection):
    """A renderer's end of the line to main.

    Args:
        face: how callbacks are run.
        parts: what activates extensions here.
        frame_id: this renderer's number.
        wakeup_fd: the eventfd that main is signalled by; closed with the connection.
        semaphore: whether this side sleeps on the segment's semaphore and not on `poller`.
        high_water: bytes in the outbox from which `drain` waits.
        backlog_limit: bytes of messages that may wait for `dispatch` while a blocking invoke waits for its outcome.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        sock: socket.socket,
        poller: Poller,
        face: Face,
        parts: Parts,
        frame_id: int,
        *,
        wakeup_fd: int,
        semaphore: bool,
        high_water: int,
        backlog_limit: int,
    ) -> None:
        handlers: list[Callable[[Record], None]] = [self._on_nonsense] * KINDS
        handlers[EVENT] = self._on_event
        handlers[RESULT] = self._on_result
        handlers[ERROR] = self._on_error
        handlers[ACTIVATE] = self._on_activate
        handlers[DEACTIVATE] = self._on_deactivate
        handlers[READY] = self._on_ready
        super().__init__(endpoint, sock, poller, high_water // 4, handlers)
        self.face = face
        self.parts = parts
        self.frame_id = frame_id
        self.invocations = Invocations(poller.call_later)
        self.attached = False  # main has activated here all that it had installed
        self.reason = "it closed the connection, or died"
        self.told_goodbye = False
        self._drained: list[Callable[[], None]] = []
        self._wakeup_fd = wakeup_fd
        self._semaphore = semaphore
        self._high_water = high_water
        self._ports: dict[int, RendererPort] = {}
        self._channels: list[RendererChannel] = []
        self._handlers = handlers
        self._only_outcomes = [handlers[kind] if kind in (RESULT, ERROR) else self._keep for kind in range(KINDS)]
        self._patience = Patience()
        self._backlog: deque[Record] = deque()
        self._backlog_bytes = 0
        self._backlog_limit = backlog_limit
        poller.register(sock.fileno(), self._on_socket)
        poller.wake()

    # ---- toward main ----

    def send(
        self,
        kind: int,
        channel: int = 0,
        peer: int = 0,
        pid: int = 0,
        correlation: int = 0,
        body: Buffer | Sequence[Buffer] = b"",
        when_full: int = REFUSE,
    ) -> int:
        """Send a message, without blocking. PeerGone: main is gone. OutboxFull: not sent."""
        self.check_open()
        return super().send(kind, channel, peer, pid, correlation, body, when_full)

    def declare(self, channel: RendererChannel) -> None:
        """Give a channel its number, and tell main."""
        name = channel.name.encode("utf-8", "surrogatepass")
        if len(name) > MAX_NAME:
            raise ValueError(f"a channel's name has at most {MAX_NAME} bytes, this one has {len(name)}")
        number = len(self._channels)
        if number == MAX_CHANNELS:
            raise ValueError(f"a renderer has at most {MAX_CHANNELS} channels, and this one has as many")
        self.send(DECLARE, number, channel.port.number, body=name, when_full=KEEP)
        channel.number = number
        self._channels.append(channel)

    def cancel(self, correlation: int) -> None:
        """Tell main that nobody waits for this invoke any more."""
        if not self.closed and not self.ended:
            self.send(CANCEL, correlation=correlation, when_full=KEEP)

    # ---- from main ----

    def _on_nonsense(self, record: Record) -> None:
        raise ProtocolError(f"a message of kind {record[0]}, which main never sends")

    def _on_event(self, record: Record) -> None:
        _, body, number, frame_id, pid, place = record
        channel = self._channels[number]
        missed = place - channel.place - 1
        channel.place = place
        event = channel.events.get(frame_id)
        if event is None or missed:
            port = channel.port
            event = IpcRendererEvent(frame_id, pid, port.extension, channel.name, missed, port.send)
            if not missed:  # then it holds nothing that changes: one serves for all that this sender sends
                if len(channel.events) == MOST_EVENTS:
                    channel.events.clear()  # renderers come and go
                channel.events[frame_id] = event
        listeners = channel.listeners
        decode = clone.decode_owned if len(listeners) == 1 and type(body) is memoryview else clone.decode
        for listener in listeners:
            if not listener.active:
                continue
            try:
                args = decode(body)  # each listener has a clone of its own
                if type(args) is not tuple:
                    raise DecodeError("arguments that are no tuple")
                result = listener.callback(event, *args)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:  # CancelledError too, which a plain function can raise
                log.exception(
                    "listener of %s/%s in renderer %d raised", channel.port.extension, channel.name, self.frame_id
                )
                continue
            if result is not None and hasattr(result, "__await__"):
                finish_listener(self.face, channel.port.table, channel.name, result)

    def _on_result(self, record: Record) -> None:
        pending = self.invocations.take(record[5])
        if pending is not None:
            try:
                body = record[1]
                value = clone.decode(body) if type(body) is bytes else clone.decode_owned(body)
            except DecodeError as error:
                pending.set_exception(error)
            else:
                pending.set_result(value)

    def _on_error(self, record: Record) -> None:
        pending = self.invocations.take(record[5])
        if pending is not None:
            pending.set_exception(rebuild(record[1]))

    def _on_activate(self, record: Record) -> None:
        _, body, _, number, _, correlation = record
        extension, version, path = clone.decode(body)
        port = self._ports.get(number)
        if port is None:
            port = self._ports[number] = RendererPort(self, extension, number)
        self.parts.activate(port, version, path, partial(self._report, correlation))

    def _on_deactivate(self, record: Record) -> None:
        _, _, _, number, _, correlation = record
        self.parts.deactivate(self._ports[number], partial(self._report, correlation))

    def _report(self, correlation: int, _result: object, error: BaseException | None) -> None:
        if not self.closed and not self.ended:
            if error is None:
                self.send(RESULT, correlation=correlation, when_full=KEEP)
            else:
                self.send(ERROR, correlation=correlation, body=describe(error), when_full=KEEP)

    def _on_ready(self, _record: Record) -> None:
        self.attached = True
        self.parts.attached()

    # ---- turns ----

    def dispatch(self, timeout: float | None = 0.0, budget: int = TURN) -> int:
        """Wait at most `timeout` seconds for something to do, and handle at most `budget` messages of it."""
        self._sleep(0.0 if self.ready or self._backlog else timeout)
        try:
            return self._handle(budget)
        finally:
            self._settle()

    def on_loop(self) -> None:
        """The same, called by an event loop when the poller's descriptor is readable."""
        self.poller.poll()
        self._turn()

    def _turn(self) -> None:
        try:
            self._handle(TURN)
        finally:
            if self.pending or self._backlog or self.ended or not self._patience.nanoseconds:
                self._patience.rested()
                self._settle()
            else:
                self.face.soon(self._linger)  # when the tasks that this turn has woken have sent what they will

    def _linger(self) -> None:
        """Look for more to do for a little, before parking."""
        if self.closed:
            return
        if self.ready and self._patience.report(poll([self.endpoint], self._patience.nanoseconds)):
            self._turn()
        else:
            self._settle()

    def _handle(self, budget: int) -> int:
        handled = 0
        while handled < budget and not self.closed:
            if self._backlog:
                record = self._backlog.popleft()
                self._backlog_bytes -= len(record[1])
                handled += 1
                self._handlers[record[0]](record)
                continue
            if self.ready:
                self.paused = False
                handled += self.pump(budget - handled)
            if not self._backlog:
                break
        return handled

    def _settle(self) -> None:
        """Before there is nothing to run here: see to it that what is left, and what comes, makes itself known."""
        if not self.closed:
            if self._backlog or (self.ready and not self.rest()):
                self.poller.wake()
            elif self.ended:
                self.gone()

    def wait(self, outcome: Outcome) -> None:
        """Block until there is an outcome. All other messages are kept for `dispatch`, in their order."""
        before, self.on_message = self.on_message, self._only_outcomes
        self.paused = False
        try:
            self._wake_up()
            while not outcome.done and not self.closed:
                self.pump(TURN)
                if outcome.done:
                    break
                if self._patience.nanoseconds and self._patience.report(
                    poll([self.endpoint], self._patience.nanoseconds)
                ):
                    continue
                self._patience.rested()
                if not self.rest():
                    continue
                if self.ended:
                    self.gone()
                else:
                    self._sleep(None)
                    self._wake_up()
        finally:
            self.on_message = before
            self.paused = bool(self._backlog)  # a dispatch further up the stack is not to overtake the backlog
            self._settle()

    def _wake_up(self) -> None:
        """What comes is looked for from now on: main need not signal it."""
        if not self.ready and not self.closed:
            self.endpoint.unpark()
            self.ready = True

    def _keep(self, record: Record) -> None:
        self._backlog.append(record)
        self._backlog_bytes += len(record[1])
        if self._backlog_bytes > self._backlog_limit:
            self.reason = (
                f"{self._backlog_bytes} bytes of events waited here for dispatch(), where {self._backlog_limit} may"
            )
            self.ended = True
            self.gone()

    def _sleep(self, timeout: float | None) -> None:
        if not self._semaphore:
            self.poller.poll(timeout)
            return
        # No descriptor tells of a semaphore, and no semaphore of main's death or of a timer: look after those
        # between naps.
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            left = NAP if until is None else min(NAP, until - time.monotonic())
            if self.poller.poll(0.0) or left <= 0:
                return
            if self.endpoint.wait(left):
                self.woken()
                return

    def relieved(self) -> None:
        if self._drained:
            self._resume()

    def _resume(self) -> None:
        drained, self._drained = self._drained, []
        for resume in drained:
            resume()

    async def drain(self) -> None:
        """Wait until little waits to be sent."""
        await self.face.give_way()
        if not self.closed and self.endpoint.outbox > self._high_water:
            pending = self.face.pending(lambda: None)
            self._drained.append(partial(pending.set_result, None))
            await pending
        self.check_open()

    def drain_sync(self) -> None:
        """The same, blocking."""
        if not self.closed and self.endpoint.outbox > self._high_water:
            outcome = Outcome()
            self._drained.append(partial(outcome.set_result, None))
            self.wait(outcome)
        self.check_open()

    def check_open(self) -> None:
        """PeerGone: main is gone."""
        if self.closed or self.ended:
            raise PeerGone(f"main is gone: {self.reason}")

    def _on_socket(self) -> None:
        data = self.read_socket()
        if data is None:
            return
        if len(data) == 1:
            self.woken()
        else:
            self.reason = attach.read_goodbye(data)
            self.told_goodbye = True

    def gone(self) -> None:
        """Main is gone, or this process is done with it: whatever still waits for it has that outcome."""
        if not self.closed:
            self.close()
            os.close(self._wakeup_fd)
            self.invocations.fail_all(lambda: PeerGone(f"main is gone: {self.reason}"))
            self._resume()
            self.parts.gone()
