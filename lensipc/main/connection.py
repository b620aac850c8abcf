# SPDX-License-Identifier: MIT
"""A renderer as main sees it. Main checks here every message of the renderer before it uses the message.

A renderer may be hostile. When it attached, main granted it certain extensions. It declares channels only for those,
and names channels by the numbers it declared. So no number reaches another extension's channel. A message that no
honest renderer sends is a ProtocolError, which disconnects the renderer.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, Final

from .. import clone
from ..errors import DecodeError, KeptFull, OutboxFull, PeerGone, ProtocolError, UnknownValueError, printable
from ..events import IpcMainInvokeEvent
from ..log import log
from ..runtime.channels import Running
from ..runtime.connection import CLOSED, OPEN, Connection, body_of
from ..runtime.pending import PendingInvokes
from ..runtime.protocol import (
    ACTIVATE,
    CANCEL,
    CREDIT,
    DEACTIVATE,
    DECLARE,
    ERROR,
    EVENT,
    INVOKE,
    ITEMS,
    KEEP_EVENT,
    KEPT,
    KINDS,
    LISTEN,
    MAX_CHANNELS,
    MAX_NAME,
    MAX_NAMES,
    MAX_READ_AHEAD,
    MAX_REPORTS,
    NOT_KEPT,
    REPLAY,
    REPORT,
    RESULT,
    STREAM,
    UNLISTEN,
    VIEWS,
)
from ..runtime.remote_error import NoHandler, describe, read_summary
from ..transport.endpoint import IN_BLOCK, KEEP, KEEP_NEWEST, Batch, Buffer, Endpoint, Message
from ..transport.slabs import WANTS_SLAB
from ..user_code import conclude, explained
from .backpressure import StallTimer
from .port import MainChannel, MainPort
from .streams import StreamRequest, asks_for_a_stream, begin, is_generator_function

if TYPE_CHECKING:
    import asyncio

    from ..transport.slabs import Slabs
    from .core import MainCore

# Main puts off the deadline of its request to a renderer at most this many times, by 1 ms each time, while the renderer
# may have more messages in its ring. The outcome may be among them.
CATCH_UP: Final = 1000
# Main puts off the deadline of an invoke that waits for activation this many times, by 1 ms each time. Main's loop may
# have been busy past the deadline, and in that time the activation may end.
GIVE_WAY: Final = 20
# How long an invoke waits for main to finish activating its extension (seconds).
ACTIVATION_WAIT: Final = 5.0
# What one renderer may have at once. These limits bound main's memory, and no honest renderer reaches them.
MAX_INVOKES: Final = 8192  # in flight, or streams; each with an async handler costs main 2.7 KiB and its arguments
MAX_DEFERRED: Final = 16 * 1024 * 1024  # bytes of invokes that wait for activation, without the last invoke
# Async listeners in main that a renderer's events have started and that have not finished. At this number, main leaves
# the renderer's further messages in its ring. That much work keeps any loop busy, and a flood of events costs main no
# more.
MAX_LISTENERS: Final = 1024
# How long a renderer has to read as many bytes as the high-water mark (seconds). TIME_TO_READ_NS of
# csrc/endpoint/topic.c is the same time for events.
TIME_TO_READ: Final = 1.0
# How long main waits before it looks again whether there is room for a kept value (seconds).
LOOK_AGAIN: Final = 0.02
# Reasons why main leaves a renderer's messages in its ring, as bits of RendererConnection.paused.
PAUSED_BY_LISTENERS: Final = 1  # MAX_LISTENERS async listeners of its events run, or their arguments are too large
PAUSED_BY_OUTCOMES: Final = 2  # outcomes for the renderer fill its outbox
PAUSED_BY_CONGESTION: Final = 4  # a renderer that listens to its events is congested
PAUSED_BY_KEPT: Final = 8  # kept values that it has asked for wait for it to read
PAUSES: Final = {
    PAUSED_BY_LISTENERS: "too many async listeners of its events run",
    PAUSED_BY_OUTCOMES: "outcomes of its invokes fill its outbox",
    PAUSED_BY_CONGESTION: "a renderer that listens to its events is congested",
    PAUSED_BY_KEPT: "kept values that it has asked for wait for it to read",
}
# An invoke of more bytes than this counts against the bytes of invokes that a renderer may have in flight
# (RendererConnection.message_limit). It counts with the memory of its decoded arguments. Smaller invokes do not count:
# 8,192 of them take 64 MiB.
SMALL: Final = 256
GENERATORS: Final = (GeneratorType, AsyncGeneratorType)


class _DeferredInvoke:
    """An invoke that waits until main has activated its extension, or until its deadline has passed.

    `stream`: what it asks for is a stream.
    """

    __slots__ = ("body", "channel", "connection", "correlation", "deadline", "stream")

    def __init__(
        self,
        connection: RendererConnection,
        channel: MainChannel,
        correlation: int,
        body: Buffer,
        stream: StreamRequest | None,
    ) -> None:
        self.connection = connection
        self.stream = stream
        self.channel = channel
        self.correlation = correlation
        self.body = body
        self.deadline = connection.poller.call_later(ACTIVATION_WAIT, self.execute, lambda asked: asked >= GIVE_WAY)
        connection.deferred_bytes += len(body)
        channel.port.deferred[self] = None

    def cancel(self) -> None:
        """Stop waiting."""
        self.deadline.cancel()
        self.connection.deferred_bytes -= len(self.body)
        self.channel.port.deferred.pop(self, None)

    def execute(self) -> None:
        """Execute the invoke, unless it was cancelled."""
        if self.connection.running.pop(self.correlation, None) is not None:
            self.cancel()
            try:
                args = self.connection.read_arguments(self.correlation, self.body)
                if args is not None:
                    stream, execute = self.stream, self.connection.execute
                    if stream is not None:
                        execute = partial(begin, self.connection, stream)
                    self.connection._contexts.apart(execute, self.channel, self.correlation, args)
            except (ProtocolError, DecodeError) as error:
                self.connection.broken(error)


def _stop(port: MainPort, running: Any, done: Callable[[Any], object] | None = None) -> bool:
    """Cancel an invoke that waits or runs. Deactivating its extension then waits for the end of the handler's task.

    Return whether there is such a task. `done` is called when it has ended.
    """
    if running is None:
        return False
    running.cancel()
    task = _task_of(running)
    if not hasattr(task, "add_done_callback"):  # it is no handler's own task
        return False
    port.stopping.add(task)
    task.add_done_callback(port.stopping.discard)
    if done is not None:
        task.add_done_callback(done)
    return True


def _task_of(running: Any) -> Any:
    """The task of an invoke, or of a stream; something else if it has none."""
    return getattr(running, "task", running)


class RendererConnection(Connection):
    """One renderer, as main's core sees it.

    Attributes:
        name: its name; empty: it has none.
        exit_status: that of its process, once it is known.
        paused: why the renderer's messages wait in its ring, as bits of PAUSED_BY_*.
    """

    drain_requested: bool

    paused: int
    status: int

    def __init__(
        self,
        core: MainCore,
        endpoint: Endpoint,
        sock: socket.socket,
        wakeup_fd: int,
        frame_id: int,
        pid: int,
        grants: frozenset[str] | None,
        capacity: int,
        message_limit: int,
        limits: clone.Limits,
    ) -> None:
        on_message: list[Callable[[Message], None]] = [self._on_nonsense] * KINDS
        on_message[EVENT] = self._on_event
        on_message[INVOKE] = self._on_invoke
        on_message[CANCEL] = self._on_cancel
        on_message[RESULT] = self._on_result
        on_message[ERROR] = self._on_error
        on_message[DECLARE] = self._on_declare
        on_message[LISTEN] = self._on_listen
        on_message[UNLISTEN] = self._on_unlisten
        on_message[REPORT] = self._on_report
        on_message[REPLAY] = self._on_replay
        on_message[KEEP_EVENT] = self._on_keep_event
        on_message[STREAM] = self._on_stream
        on_message[CREDIT] = self._on_credit
        super().__init__(endpoint, sock, core.poller, core.low_water, on_message, self._on_batch, 1 << INVOKE, SMALL)
        self.core = core
        self._contexts = core.driver.contexts
        self.wakeup_fd = wakeup_fd  # the eventfd by which the renderer signals main; `close` closes it
        self.frame_id = frame_id
        self.pid = pid
        self.grants = grants
        self.name = ""
        self.exit_status: int | None = None
        self.reason = ""  # why it was closed
        self.started_here = False  # by main
        self.asked = False  # whether this program has asked its process to end
        self.takes_slabs = True  # whether it may be handed slabs
        self.activation_timeout: float | None = None  # how long a part may take to activate there; None: no limit
        self.raise_errors = True  # if it cannot activate its part, that is an error of `install` or its own start
        self.fate: Callable[[], Awaitable[str | None]] | None = None  # how the process ended; None: it is not main's
        self.brought_up = False  # extensions that are enabled from now on are activated in it, too
        self.on_closed: list[Callable[[], None]] = []
        self.own_requests: PendingInvokes = PendingInvokes(core.poller.call_later, self._caught_up)
        self.given_up: set[int] = set()  # main's own requests that had no outcome in time
        self.ports: dict[int, MainPort] = {}  # of the extensions that main told it of, by number
        self.active: set[MainPort] = set()  # of the extensions whose part is active there
        self.failed: dict[MainPort, str] = {}  # of those whose part could not be activated, each with the error
        self.channels: list[MainChannel] = []  # by the numbers it declared
        self.name_bytes: int = 0  # of the names of these channels
        self.declared: set[MainChannel] = set()
        self.listening: set[MainChannel] = set()
        self.viewing: set[MainChannel] = set()  # of these, those whose large events it reads in place
        self.last_sequences: dict[int, int] = {}  # of channels that it no longer listens to: so every gap is a drop
        self.running: dict[int, tuple[MainPort, Running | None]] = {}  # its invokes that are deferred or awaited
        self.most_running: int = MAX_INVOKES  # without those that it has cancelled, and that have not ended
        self.event_cache: dict[MainChannel, IpcMainInvokeEvent] = {}  # the first arguments of its invokes' handlers
        self.deferred_bytes = 0  # of invokes that wait for activation
        self.message_limit = message_limit
        self.limits = limits  # of the messages that it sends
        self.large: dict[int, int] = {}  # its large invokes without an outcome, and their bytes; those of in_place, too
        self.in_place: set[int] = set()  # its invokes without an outcome whose answers it reads in place
        self.slabs: Slabs | None = None  # where such answers lie; no other renderer has these slabs
        self.large_bytes: int = 0
        self.last_invoke: int = 0
        self._when_room: list[Callable[[], None]] = []  # what waits until its outbox is down to the low-water mark
        self.running_listeners: int = 0  # async listeners in main that its events have started and that still run
        self.listeners_bytes: int = 0  # of their arguments
        self._unanswered = False  # an answer to a request for a kept value waits for room
        self._backed_up: StallTimer | None = None  # running while its outcomes wait beyond its outbox's limit
        # Another renderer could not decode its event: main decodes each before others get it.
        self.distrusted: bool = False
        self.reports: int = 0  # that it has sent about other renderers, since `reports_since`
        self.reports_since: float = 0.0
        self.until: float = 0.0  # when its turn ends
        self.overdue = False  # whether its last turn lasted until then
        self.last_messages: int = capacity // 8  # to handle at most once its socket is closed: a ring holds fewer

    @property
    def who(self) -> str:
        """The renderer, as a person is told of it."""
        name = f" {self.name!r}" if self.name else ""
        return f"renderer {self.frame_id}{name} (pid {self.pid})"

    def may_speak_for(self, extension: str) -> bool:
        """Whether main granted it that extension."""
        return self.grants is None or extension in self.grants

    # ---- requests of main's own ----

    def activate(
        self,
        port: MainPort,
        version: str,
        path: str,
        folders: list[str],
        settings: bytes,
        pending: Any,
        timeout: float | None,
    ) -> None:
        """Tell the renderer to activate its part. `pending` gets the outcome."""
        self.ports[port.number] = port
        # A renderer that connected by itself has its own import path, because its Python may be another one.
        body = clone.encode((port.extension, version, path, folders if self.started_here else [], settings))
        self._request(ACTIVATE, port, body, pending, timeout)

    def deactivate(self, port: MainPort, reason: str, pending: Any, timeout: float) -> None:
        """Tell the renderer to deactivate its part. `pending` gets the outcome. `reason`: why the connection ends next.

        The reason stands in this message, and not only in the goodbye, because the part's requests end with it.
        """
        self._request(DEACTIVATE, port, reason.encode(), pending, timeout)

    def _request(self, kind: int, port: MainPort, body: bytes, pending: Any, timeout: float | None) -> None:
        what = f"{self.who}, extension {port.extension!r}"
        correlation = self.own_requests.open(pending, what, timeout, self.given_up.add)
        try:
            self.send(kind, 0, port.number, 0, correlation, body, KEEP)  # whatever waits for the renderer already
        except (OutboxFull, ProtocolError) as error:
            self.broken(error)

    def _caught_up(self, asked: int) -> bool:
        """Whether main may judge a deadline of this renderer now. Main may have been busy past that deadline.

        Main first handles the messages in the renderer's ring. CATCH_UP bounds the time for that, because a renderer
        may write without end. A renderer that is paused for another reason than congestion is judged at once, because
        such a pause may last for ever.
        """
        return not self.ready or bool(self.paused & ~PAUSED_BY_CONGESTION) or asked >= CATCH_UP

    def _asked(self, message: Message) -> Any:
        """The future of main's request that this message answers; None: main has given the request up."""
        correlation = message.correlation
        pending = self.own_requests.take(correlation)
        if pending is None and correlation not in self.given_up:
            raise ProtocolError(f"it sent an outcome of request {correlation}, which is unknown or has its outcome")
        self.given_up.discard(correlation)
        return pending

    def _on_result(self, message: Message) -> None:
        pending = self._asked(message)
        if pending is not None:
            pending.set_result(None)

    def _on_error(self, message: Message) -> None:
        error, pending = read_summary(body_of(message)), self._asked(message)
        if pending is not None:
            pending.set_exception(error)

    # ---- the renderer's messages ----

    def _on_nonsense(self, message: Message) -> None:
        raise ProtocolError(f"a message of kind {message.kind}, which a renderer never sends")

    def _on_batch(self, _batch: Batch) -> None:
        raise AssertionError("main does not ask for batches")

    def _channel(self, number: int) -> MainChannel:
        if number >= len(self.channels):
            raise ProtocolError(f"it used channel number {number}, but declared only {len(self.channels)} channels")
        return self.channels[number]

    def _on_declare(self, message: Message) -> None:
        number, extension, body = message.channel, message.extension, body_of(message)
        if self._is_declared(number, extension, body):
            return
        if number != len(self.channels) or number >= MAX_CHANNELS:
            raise ProtocolError(f"it declared channel number {number}, but the next number is {len(self.channels)}")
        port = self.ports.get(extension)
        if port is None:
            raise ProtocolError(f"it declared a channel of extension number {extension}, which main did not grant")
        if len(body) > MAX_NAME:
            raise ProtocolError(f"it declared a channel name of {len(body)} bytes, but at most {MAX_NAME} are allowed")
        self.name_bytes += len(body)
        if self.name_bytes > MAX_NAMES:
            raise ProtocolError(f"its channel names have {self.name_bytes} bytes, but at most {MAX_NAMES} are allowed")
        try:
            name = str(body, "utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise ProtocolError(f"it declared a channel name that is not UTF-8: {error}") from None
        channel = port.table[name]
        if channel in self.declared:
            raise ProtocolError(f"it declared channel '{printable(name)}' of extension {port.extension!r} twice")
        self.endpoint.relay(number, channel.topic, self.frame_id, self.pid)
        self.declared.add(channel)
        self.channels.append(channel)
        channel.declare_count += 1

    def _is_declared(self, number: int, extension: int, body: Buffer) -> bool:
        """Whether this is what it declared last: a signal's exception made it forget that it had done so."""
        if number != len(self.channels) - 1:
            return False
        last = self.channels[number]
        return last.port is self.ports.get(extension) and last.name.encode("utf-8", "surrogatepass") == body

    def _on_listen(self, message: Message) -> None:
        """It listens, or reads in place from now on, or no longer. It may say so twice: see `_is_declared`."""
        number, when_full, views = message.channel, message.when_full & ~VIEWS, bool(message.when_full & VIEWS)
        channel = self._channel(number)
        if when_full > KEEP_NEWEST:
            raise ProtocolError(f"it listens to channel number {number} with an unknown policy, {when_full}")
        if channel not in self.listening:
            channel.topic.add(self.endpoint, number, when_full, self.last_sequences.pop(number, 0))
            self.listening.add(channel)
        channel.topic.view(self.endpoint, views)
        (self.viewing.add if views else self.viewing.discard)(channel)

    def _on_unlisten(self, message: Message) -> None:
        number = message.channel
        channel = self._channel(number)
        if channel in self.listening:
            self.listening.remove(channel)
            self.viewing.discard(channel)
            self.last_sequences[number] = channel.topic.remove(self.endpoint)

    def _on_event(self, message: Message) -> None:
        """Route an event that C does not relay: it is for main too, or for one process, or large, or distrusted."""
        channel, body = self._channel(message.channel), body_of(message)
        if self.distrusted:
            self._check(body)
        router = self.core.router
        self.status |= router.route(channel, self.frame_id, self.pid, body, message.target)
        router.deliver()

    def _on_keep_event(self, message: Message) -> None:
        """Route an event, and keep it. It is decoded once, because it stays when its sender has gone."""
        channel, body = self._channel(message.channel), body_of(message)
        self._check(body)
        router = self.core.router
        try:
            self.status |= router.keep(channel, self.frame_id, self.pid, body)
        except KeptFull as error:
            refusal = NOT_KEPT, message.channel, 0, 0, 0, str(error).encode(errors="replace")
            self._tell_kept(lambda: refusal)
        router.deliver()

    def _on_replay(self, message: Message) -> None:
        """Answer with the channel's kept value, in its place among the events that go there."""
        channel = self._channel(message.channel)
        if channel not in self.listening:
            raise ProtocolError(f"it asks for the kept value of channel number {message.channel}, and does not listen")
        number, question = message.channel, message.correlation

        def answer() -> tuple[Any, ...]:
            kept = channel.port.kept.get(channel.name)
            if kept is None:
                return KEPT, number, 0, 0, question
            return KEPT, number, kept.frame_id, kept.pid, question, kept.body

        self._tell_kept(answer)

    def _tell_kept(self, answer: Callable[[], tuple[Any, ...]]) -> None:
        """Send what must not be lost, if the renderer can still hear it: what `answer` gives `send` then.

        A renderer asks for much by a short message. So main takes nothing more of it while much waits for it, or for
        all renderers of its process: then the answer waits, too. They may take their time to read.
        """
        if self.state is not OPEN:
            return
        try:
            self.send(*answer())
        except OutboxFull:
            self._pause(PAUSED_BY_KEPT)
            self._unanswered = True
            self.poller.call_later(LOOK_AGAIN, partial(self._tell_kept, answer))
        except (ProtocolError, MemoryError) as error:
            self.broken(error)
        else:
            self._unanswered = False
            if self.endpoint.outbox > self.core.high_water:
                self._pause(PAUSED_BY_KEPT)
            else:
                self._resume(PAUSED_BY_KEPT)

    def _check(self, body: Buffer) -> None:
        try:
            if type(clone.decode_owned(body, self.limits)) is not tuple:
                raise DecodeError("the arguments are not a tuple")
        except UnknownValueError:  # the receivers may know the value
            return
        except DecodeError as error:
            raise DecodeError(f"it sent an event that cannot be decoded: {error}") from None

    def _on_report(self, message: Message) -> None:
        """The renderer reports that it could not decode an event of another renderer. The report may be false."""
        now = time.monotonic()
        if now - self.reports_since >= 1.0:
            self.reports, self.reports_since = 0, now
        self.reports += 1
        reported = self.core.connections.get(message.sender)
        if reported is not None and reported is not self and self.reports <= MAX_REPORTS:
            reported.distrust()

    def distrust(self) -> None:
        """From now on decode each event of this renderer before others get it. A failure disconnects the renderer."""
        self.distrusted = True
        self.endpoint.stop_relaying()

    def count_listener(self, size: int, change: int) -> None:
        """Count an async listener that begins (1) or has finished (-1). Its arguments take `size` bytes."""
        self.running_listeners += change
        self.listeners_bytes += change * size
        if self.running_listeners >= MAX_LISTENERS or self.listeners_bytes > self.message_limit:
            self._pause(PAUSED_BY_LISTENERS)
        else:
            self._resume(PAUSED_BY_LISTENERS)

    def hold_for_congestion(self) -> None:
        """Pause the renderer, because a receiver of its events is congested."""
        self._pause(PAUSED_BY_CONGESTION)

    def resume_after_congestion(self) -> None:
        """Undo `hold_for_congestion`."""
        if self.paused & PAUSED_BY_CONGESTION:
            self._clear(PAUSED_BY_CONGESTION)

    def _pause(self, why: int) -> None:
        if not self.ended and not self.paused & why:  # a renderer that has ended cannot send much more
            self.paused |= why
            log.debug("renderer %d is paused: %s", self.frame_id, PAUSES[why])

    def _resume(self, why: int) -> None:
        if self.paused & why:
            self._clear(why)
            self.poller.wake()

    def _clear(self, why: int) -> None:
        self.paused &= ~why
        log.debug("renderer %d is no longer paused for this reason: %s", self.frame_id, PAUSES[why])

    def end(self) -> None:
        super().end()
        self.paused = 0

    def _on_invoke(self, message: Message) -> None:
        body, number, correlation, args = message.body, message.channel, message.correlation, message.value
        channels = self.channels
        channel = channels[number] if number < len(channels) else self._channel(number)
        if correlation <= self.last_invoke:
            raise ProtocolError(f"it sent invoke {correlation} after invoke {self.last_invoke}, but ids must grow")
        self.last_invoke = correlation
        if len(self.running) >= self.most_running:
            self._refuse(correlation)
            return
        if message.views:
            self._answer_in_place(correlation, message.views)
        if channel.port.activating:
            self._defer(channel, correlation, clone.encode(args) if body is None else body)
            return
        if body is not None:
            args = self.read_arguments(correlation, body)
            if args is None:
                return
        contexts = self._contexts
        try:
            changed = contexts.context != contexts.base  # as contexts.changed() does; a call would take 40 ns more
        except Exception:
            changed = True
        if changed:
            contexts.apart(self.execute, channel, correlation, args)
        else:
            self.execute(channel, correlation, args)

    def _answer_in_place(self, correlation: int, views: int) -> None:
        """Note that the renderer reads the answer of this invoke in place."""
        if views != VIEWS:
            raise ProtocolError(f"it sent invoke {correlation} with flags that there are not, {views}")
        self.in_place.add(correlation)
        self.large[correlation] = 0

    def _refuse(self, correlation: int) -> None:
        why = f"{MAX_INVOKES} invokes of this renderer are in flight, or still end: await some of them first"
        self._answer(correlation, None, OutboxFull(why))

    def _on_stream(self, message: Message) -> None:
        channel, correlation, read_ahead = self._channel(message.channel), message.correlation, message.items
        if correlation <= self.last_invoke:
            raise ProtocolError(f"it sent stream {correlation} after invoke {self.last_invoke}, but ids must grow")
        if read_ahead > MAX_READ_AHEAD:
            raise ProtocolError(f"it reads {read_ahead} items of a stream ahead, but at most {MAX_READ_AHEAD} may be")
        self.last_invoke = correlation
        if len(self.running) >= self.most_running:
            self._refuse(correlation)
            return
        body, stream = body_of(message), StreamRequest(read_ahead)
        if channel.port.activating:
            self._defer(channel, correlation, body, stream)
            return
        args = self.read_arguments(correlation, body)
        if args is not None:
            self._contexts.apart(begin, self, stream, channel, correlation, args)

    def _on_credit(self, message: Message) -> None:
        correlation = message.correlation
        if correlation > self.last_invoke:
            raise ProtocolError(f"it gave credit to stream {correlation}, which it has not asked for")
        _, running = self.running.get(correlation, (None, None))
        if running is not None:  # else the stream had its end before the credit came
            stream: Any = running.stream if isinstance(running, _DeferredInvoke) else running
            if not hasattr(stream, "add_credit"):
                raise ProtocolError(f"it gave credit to request {correlation}, which is no stream")
            stream.add_credit(message.items)

    def read_arguments(self, correlation: int, body: Buffer) -> tuple[Any, ...] | None:
        """Decode an invoke's arguments; None: they are too large or not known here, and the invoke has its outcome."""
        weight = len(body)
        if self._is_room_for(weight):
            args: tuple[Any, ...]
            try:
                args, weight = clone.weigh(body, self.limits)
            except UnknownValueError as error:  # the renderer is honest, but main does not know the value
                self._answer(correlation, None, error)
                return None
            if type(args) is not tuple:
                raise ProtocolError("the arguments are not a tuple")
            if weight <= SMALL:
                return args
        if not self._is_room_for(weight):
            why = f"invokes of this renderer that take {self.large_bytes} bytes are in flight: await some of them first"
            self._answer(correlation, None, OutboxFull(why))
            return None
        self.large[correlation] = weight
        self.large_bytes += weight
        return args

    def _is_room_for(self, weight: int) -> bool:
        return not self.large_bytes or self.large_bytes + weight <= self.message_limit

    def _defer(self, channel: MainChannel, correlation: int, body: Buffer, stream: StreamRequest | None = None) -> None:
        if self.deferred_bytes > MAX_DEFERRED:
            self._answer(
                correlation,
                None,
                OutboxFull(f"{self.deferred_bytes} bytes of invokes wait for activation: try again later"),
            )
        else:
            self.running[correlation] = (channel.port, _DeferredInvoke(self, channel, correlation, body, stream))

    def execute(self, channel: MainChannel, correlation: int, args: Any) -> None:
        """Call an invoke's handler, or answer that there is none."""
        port, handler = channel.port, channel.handler
        if handler is None or port.activating:
            self._answer(correlation, None, self.no_handler(channel))
            return
        if type(args) is not tuple:
            raise ProtocolError("the arguments are not a tuple")
        event = self.event_cache.get(channel)
        if event is None:
            event = self.event_of(channel)
        try:
            result: Any = handler.callback(event, *args)
        except BaseException as error:  # SystemExit and CancelledError, too
            error = explained(error, handler.callback, len(args))
            conclude(error, partial(self._answer, correlation, None, error))
            return
        if self._send_plain(correlation, result):
            return
        try:
            if hasattr(type(result), "__await__"):  # as is_awaitable does; a call would take 40 ns more
                task = self.core.driver.run_awaitable(result, partial(self._settle, correlation))
                if self.state is not CLOSED:
                    self.running[correlation] = (port, task)
                elif task is not None:  # the handler has closed the connection
                    _stop(port, task)
                return
        except Exception as error:  # the result's own code has raised it
            self._answer(correlation, None, error)
            return
        if type(result) in GENERATORS and is_generator_function(handler.callback):
            self._answer(correlation, None, asks_for_a_stream(channel))
            return
        self._answer(correlation, result, None)

    def event_of(self, channel: MainChannel) -> IpcMainInvokeEvent:
        """What a handler of the channel is called with first. All requests of this renderer there share one event,
        because it never changes."""
        event = self.event_cache.get(channel)
        if event is None:
            port = channel.port
            event = IpcMainInvokeEvent(self.frame_id, self.pid, port.extension, channel.name, 0, port.send)
            self.event_cache[channel] = event
        return event

    def no_handler(self, channel: MainChannel) -> NoHandler:
        """Why nothing handles a request on the channel now."""
        port = channel.port
        if port.activating:
            return NoHandler(f"main is still activating extension {port.extension!r} after {ACTIVATION_WAIT:g} s")
        if not port.table.open:
            return NoHandler(f"extension {port.extension!r} is not active in main")
        name = printable(channel.name)
        return NoHandler(f"extension {port.extension!r} has no handler in main for channel '{name}'")

    def _settle(self, correlation: int, result: object, error: BaseException | None) -> None:
        """Give an awaited invoke its one outcome. Do nothing if it has one (cancelled, deactivated, renderer gone)."""
        if self.running.pop(correlation, None) is not None:
            if error is None and self._send_plain(correlation, result):
                return
            self._answer(correlation, result, error)

    def _send_plain(self, correlation: int, result: object) -> bool:
        """Send a result that is small plain data, encoded in C. Return whether that has settled the invoke."""
        if (self.large and correlation in self.large) or self.state is CLOSED:  # `_answer` does more
            return False
        try:
            return self.endpoint.send_value(RESULT, 0, 0, correlation, result)
        except OutboxFull:  # `_tell` handles a full outbox
            return False
        except ProtocolError as error:
            self.broken(error)
            return True

    def _answer(self, correlation: int, result: object, error: BaseException | None) -> None:
        """Send the outcome of an invoke to the renderer."""
        views = self._forget(correlation) if self.large else 0
        if self.state is CLOSED:
            return
        if error is not None:
            self._tell(ERROR, 0, correlation, describe(error))
            return
        try:
            body = clone.encode_parts(result, "result", self.core.limits)
        except BaseException as unclonable:  # DataCloneError, MemoryError, or an error of the value's own code
            conclude(unclonable, partial(self._tell, ERROR, 0, correlation, describe(unclonable)))
            return
        if not (views and self._send_in_place(correlation, body)):
            self._tell(RESULT, views, correlation, body)

    def _forget(self, correlation: int) -> int:
        """An invoke has ended: it counts no more. Return VIEWS if its answer is read in place, else 0."""
        self.large_bytes -= self.large.pop(correlation, 0)
        if correlation not in self.in_place:
            return 0
        self.in_place.remove(correlation)
        return VIEWS

    def _send_in_place(self, correlation: int, body: Buffer | Sequence[Buffer]) -> bool:
        """Send a large result in a block that this renderer alone has. Return whether that has settled the invoke."""
        pool = self.core.pool
        if self.slabs is None:
            self.slabs = pool.slabs()
        if self.slabs is None or not self.takes_slabs:
            return False
        try:
            sent = self.endpoint.send_in_block(self.slabs, RESULT, VIEWS, correlation, body)
        except OutboxFull:  # `_tell` handles a full outbox
            return False
        except ProtocolError as error:
            self.broken(error)
            return True
        if sent == WANTS_SLAB:
            pool.provide_own(self)
        return sent == IN_BLOCK

    def _tell(self, kind: int, detail: int, correlation: int, body: Buffer | Sequence[Buffer]) -> None:
        try:
            try:
                self.send(kind, 0, detail, 0, correlation, body)
            except OutboxFull:
                waiting, limit = self.endpoint.outbox, self.core.outbox_limit
                if waiting < limit:  # too many bytes wait for all renderers of its process together
                    raise
                if waiting >= 2 * limit and kind != ITEMS:  # a stream has stopped long before
                    full = OutboxFull(f"{waiting} bytes of outcomes wait for this renderer already: it must read first")
                    kind, body = ERROR, describe(full)
                self.send(kind, 0, detail, 0, correlation, body, KEEP)
                self._back_up()
        except (OutboxFull, ProtocolError) as error:
            self.broken(error)

    def _back_up(self) -> None:
        """Outcomes fill the renderer's outbox: leave its further messages in its ring until it has read them.

        The renderer has TIME_TO_READ for that, as it has for events (guarantee 5). Handlers that run already may still
        answer. Main keeps their outcomes up to twice the outbox's limit. Beyond that, it sends OutboxFull in their
        place.
        """
        if self._backed_up is None and self.state is not CLOSED:
            self._backed_up = StallTimer(self, self.core.high_water, TIME_TO_READ, self._has_not_read)
            self._pause(PAUSED_BY_OUTCOMES)

    def _has_not_read(self) -> None:
        self.broken(OutboxFull(f"{self.endpoint.outbox} bytes of outcomes wait for it"))

    def broken(self, error: Exception) -> None:
        """Disconnect this renderer, because the error is its fault. Other renderers are not affected."""
        slow = "it reads too slowly: " if isinstance(error, OutboxFull) else ""
        self.core.disconnect(self, slow + str(error) or "there is no memory for what it sends")

    def _on_cancel(self, message: Message) -> None:
        # None: the invoke had its outcome before the cancel came.
        correlation = message.correlation
        running = self.running.pop(correlation, None)
        if running is not None and _stop(*running, partial(self._has_stopped, correlation)):
            self.most_running -= 1  # its handler's `finally` may take its time
        else:
            self._forget(correlation)

    def _has_stopped(self, correlation: int, _task: object) -> None:
        self.most_running += 1
        self._forget(correlation)

    def below_low_water(self) -> None:
        if self._backed_up is not None:
            self._backed_up.cancel()
            self._backed_up = None
            self._resume(PAUSED_BY_OUTCOMES)
        if self.paused & PAUSED_BY_KEPT and not self._unanswered:
            self._resume(PAUSED_BY_KEPT)
        if self._when_room:
            waiting, self._when_room = self._when_room, []
            self.drain_requested = False  # if others wait for it, `release` knows
            for resume in waiting:
                resume()
        self.core.backpressure.release(self)

    def when_room(self, resume: Callable[[], None]) -> None:
        """Call `resume` once the outbox is down to its low-water mark. It must not raise."""
        self._when_room.append(resume)
        self.drain_requested = True

    # ---- how things end ----

    def cancel_invokes_of(self, port: MainPort) -> None:
        """The extension is inactive in main now: give its running invokes an outcome, and cancel their handlers."""
        for correlation, (owner, task) in list(self.running.items()):
            if owner is port:
                why = f"extension {port.extension!r} was deactivated in main while its handler ran"
                self._settle(correlation, None, NoHandler(why))
                _stop(port, task)

    def spare(self, task: asyncio.Task[Any] | None) -> None:
        """Let this handler's task go on when the connection is closed, because the task itself closes it."""
        for correlation, (_, running) in list(self.running.items()):
            if _task_of(running) is task:
                del self.running[correlation]

    def close(self) -> None:
        """Undo everything that this renderer was part of. Idempotent."""
        if self.state is CLOSED:
            return
        for channel in self.listening:  # this needs the endpoint, which is closed next
            channel.topic.remove(self.endpoint)
        if self._backed_up is not None:
            self._backed_up.cancel()
        self.listening.clear()
        self.core.pool.leave(self)
        super().close()
        self.poller.unregister(self.wakeup_fd)
        os.close(self.wakeup_fd)
        for channel in self.channels:
            channel.declare_count -= 1
            if not channel.declare_count:
                channel.port.table.drop_if_unused(channel)
        self.event_cache.clear()
        self.channels.clear()  # so that they are freed now, and not once the garbage collector finds the cycles here
        self.declared.clear()
        self._when_room.clear()
        running, self.running = self.running, {}
        with ExitStack() as stack:  # what a signal raises in a generator that is closed here stops none of the others
            stack.callback(self._tell_those_who_ask)
            for port, task in running.values():
                stack.callback(_stop, port, task)

    def _tell_those_who_ask(self) -> None:
        self.own_requests.fail_all(lambda: PeerGone(f"{self.who} is gone: {self.reason}"))
        for closed in self.on_closed:
            closed()
