# SPDX-License-Identifier: MIT
"""Streams as main produces them: the generators of handlers, stepped as far as their readers give credit.

A plain generator is stepped where its reader's message is handled, within that renderer's turn. Where the turn is over
before the credit is, the stream waits for a turn of the streams. Those turns are as long as a renderer's, the loop's
other callbacks have theirs between them, and in them renderers take turns, however many streams one of them has. An
async generator runs in a task of its own, which waits for the same turns. When something else wakes that task, it goes
on at once: in a burst. All bursts of one round of the loop together are no longer than one turn.

A stream whose reader has used up what it was given costs nothing but its generator. A generator is closed here, once:
at the end, or when its reader or its extension ends it. Python's garbage collector never has to.

runtime/streams.py is the other side.
"""

from __future__ import annotations

import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from .. import clone
from ..clone import encode_small
from ..errors import ProtocolError, printable
from ..log import log_raised
from ..runtime.connection import CLOSED
from ..runtime.driver import Driver
from ..runtime.protocol import ITEMS
from ..user_code import conclude, ends_process, explained

if TYPE_CHECKING:
    from .connection import RendererConnection
    from .port import MainChannel

# Items that go in one message: as many, or of so many bytes together, or half of what the reader reads ahead, which it
# takes while main produces the other half. An item of more than ALONE bytes has a message of its own.
ITEMS_TOGETHER: Final = 512
BYTES_TOGETHER: Final = 16 * 1024
ALONE: Final = 4096
# How long streams go on before the loop's other callbacks have their turn, and one stream of them (seconds).
TURN_TIME: Final = 0.002
SLICE: Final = 0.0005

_END: Final = object()


class StreamTurns:
    """The streams that may go on and wait for a turn. Renderers take turns, and the streams of each do.

    Args:
        driver: calls back when the loop's other callbacks have had their turn.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._waiting: dict[RendererConnection, deque[Stream]] = {}
        self._scheduled = False
        self._bursting: AsyncStream | None = None  # the last of this round
        self._bursts_until = 0.0

    def add(self, stream: Stream) -> None:
        """Have the stream go on in a turn."""
        self._waiting.setdefault(stream.connection, deque()).append(stream)
        self._schedule()

    def _schedule(self) -> None:
        self._driver.started = True
        if not self._scheduled:
            self._scheduled = True
            self._driver.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        now = time.monotonic()
        until = now + TURN_TIME
        try:
            while self._waiting and now < until:
                connection = next(iter(self._waiting))
                streams = self._waiting.pop(connection)
                stream = streams.popleft()
                if streams:
                    self._waiting[connection] = streams  # behind all others
                stream.go_on(now + SLICE)
                now = time.monotonic()
        finally:
            if self._waiting:
                self._schedule()

    def begin_burst(self, stream: AsyncStream) -> float:
        """The stream's task was woken by something else. Return when it has to wait for a turn: it may be over.

        What it yields is sent when the next one begins, or in the loop's next round. So no more than one stream has
        items that are not sent yet, however many are woken at once, and each sees what waits for its renderer.
        """
        before, self._bursting = self._bursting, stream
        if before is None:
            self._bursts_until = time.monotonic() + TURN_TIME
            self._driver.started = True
            self._driver.call_soon(self._end_bursts)
        elif before is not stream:
            before.flush()
        return self._bursts_until

    def _end_bursts(self) -> None:
        last, self._bursting = self._bursting, None
        if last is not None:
            last.flush()


class Stream:
    """A stream of one renderer. It stands among the renderer's running requests.

    Attributes:
        connection: the renderer's.
        ended: whether nobody waits for its items any more.
    """

    def __init__(
        self, connection: RendererConnection, channel: MainChannel, correlation: int, read_ahead: int, credit: int
    ) -> None:
        self.connection = connection
        self._channel = channel
        self._correlation = correlation
        self._read_ahead = read_ahead
        self._credit = credit  # items that may be produced
        self._together = min(ITEMS_TOGETHER, (read_ahead + 1) // 2)
        self._core = connection.core
        self._bodies: list[bytes] = []  # items that are not sent yet, and their bytes
        self._size = 0
        self._has_no_credit = False  # it waits for credit
        self._is_full = False  # too much waits for the renderer
        self.ended = False

    def add_credit(self, count: int) -> None:
        """The reader lets main produce so many more. ProtocolError: no reader gives so much."""
        self._credit = added(self._credit, count, self._read_ahead)
        if self._has_no_credit:
            self._has_no_credit = False
            self.go_on(self.connection.until)

    def go_on(self, until: float) -> None:
        """Produce items: at least one, and no further one after the time `until`. First wait until there is room."""
        if self._is_over():
            return
        if self._is_crowded():
            self._wait_for_room()
        else:
            self._produce(until)

    def _produce(self, until: float) -> None:
        raise NotImplementedError

    def cancel(self) -> None:
        """Close the generator: nobody waits for its items any more. Idempotent."""
        raise NotImplementedError

    def _put(self, item: object) -> None:
        """Encode an item. It is sent together with those that follow at once."""
        self._credit -= 1
        body: Any = encode_small(item)
        if body is None or len(body) > ALONE:
            self.flush()
            self._send(1, clone.encode_parts(item, "item", self._core.limits) if body is None else body)
            return
        bodies = self._bodies
        bodies.append(body)
        self._size += len(body)
        if self._size >= BYTES_TOGETHER or len(bodies) >= self._together:
            self.flush()

    def flush(self) -> None:
        """Send the items that were not sent yet."""
        bodies = self._bodies
        if bodies:
            self._bodies, self._size = [], 0
            self._send(len(bodies), bodies[0] if len(bodies) == 1 else encode_small(bodies))

    def _send(self, count: int, body: Any) -> None:
        connection = self.connection
        if not self._is_over():
            connection._tell(ITEMS, count, self._correlation, body)
        # This is less than makes a renderer congested: who sends it events is not held up by its streams.
        self._is_full = self._is_crowded()

    def _is_crowded(self) -> bool:
        return self.connection.state is not CLOSED and self.connection.endpoint.outbox > self.connection.low_water

    def _is_over(self) -> bool:
        """Whether nobody waits for further items. An async generator may close its own renderer, and run on."""
        return self.ended or self._correlation not in self.connection.running

    def _wait(self) -> None:
        """Have `go_on` called when there is credit, or room, or when it is this stream's turn."""
        if not self._credit:
            self._has_no_credit = True
        elif self._is_full:
            self._wait_for_room()
        else:
            self._core.streams.add(self)

    def _wait_for_room(self) -> None:
        self._is_full = False
        self.connection.when_room(partial(self._core.streams.add, self))

    def _log_raised(self, error: BaseException) -> None:
        """Log what a generator has raised as it was closed: its stream has its end already."""
        what = "generator of %s/%s raised when it was closed"
        log_raised(error, what, self._channel.port.extension, self._channel.name)


class PlainStream(Stream):
    """The stream of a plain generator."""

    ended: bool

    def __init__(self, generator: Any, *about: Any) -> None:
        super().__init__(*about)
        self._generator = generator
        self._context = self._core.driver.contexts.base.copy()  # all its steps see one context
        self._stepping = False

    def begin(self) -> None:
        """Go on if there is credit."""
        if self._credit:
            self.go_on(self.connection.until)
        else:
            self._has_no_credit = True

    def _produce(self, until: float) -> None:
        self._stepping = True
        try:
            self._context.run(self._step, until)
        finally:
            self._stepping = False
            if self.ended:
                self._context.run(self._close)

    def _step(self, until: float) -> None:
        generator = self._generator
        try:
            while self._credit and not (self._is_full or self.ended):
                item = next(generator, _END)
                if item is _END:
                    self.flush()
                    self._finish(None)
                    return
                self._put(item)
                if time.monotonic() >= until:
                    break
            self.flush()
        except BaseException as error:  # what the generator has raised, or the item has no clone
            self.flush()
            conclude(error, partial(self._finish, error))
            return
        if not self.ended:
            self._wait()

    def _finish(self, error: BaseException | None) -> None:
        self.ended = True
        self.connection._settle(self._correlation, None, error)

    def cancel(self) -> None:
        if not self.ended:
            self.ended = True
            if not self._stepping:  # else it is closed at the end of the step
                self._context.run(self._close)

    def _close(self) -> None:
        try:
            self._generator.close()
        except BaseException as error:
            if ends_process(error):
                raise
            self._log_raised(error)


class AsyncStream(Stream):
    """The stream of an async generator.

    Attributes:
        task: what runs it; None: it has ended, or was not made yet.
    """

    def __init__(self, generator: Any, *about: Any) -> None:
        super().__init__(*about)
        self._generator = generator
        self.task: Any = None
        self._waiter: Any = None
        self._until = 0.0
        self._stepping = False  # `go_on` runs the task, and flushes when it waits

    async def run(self) -> None:
        """What the stream's task runs."""
        generator = self._generator
        try:
            if not self._credit:
                await self._pause()
            async for item in generator:
                if self.ended:  # the generator has caught its cancellation
                    return
                while not (self._bodies or self._stepping or self._may_burst()):
                    if self._is_over():  # it has closed its own renderer
                        return
                    await self._pause()
                self._put(item)
                if not self._credit or self._is_full or time.monotonic() >= self._until:
                    if self._is_over():
                        return
                    await self._pause()
        finally:
            self.flush()
            try:
                await generator.aclose()
            except BaseException as error:
                if type(error).__name__ == "CancelledError" or ends_process(error):
                    raise
                self._log_raised(error)

    def settle(self, _result: object, error: BaseException | None) -> None:
        """The task has ended."""
        self.task = None  # or, where it was cancelled, the two would hold each other by its traceback
        self.connection._settle(self._correlation, None, error)

    def _may_burst(self) -> bool:
        """Whether there is room and time for what the generator yields until it waits for something."""
        self._until = self._core.streams.begin_burst(self)
        self._is_full = self._is_crowded()
        return not self._is_full and time.monotonic() < self._until

    async def _pause(self) -> None:
        self.flush()
        self._waiter = waiter = self._core.driver.invocation(self._forget_waiter)
        waiter.correlation = self._correlation
        self._wait()
        await waiter

    def _forget_waiter(self, _correlation: int) -> None:
        self._waiter = None

    def _produce(self, until: float) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            return
        self._until = until
        self._stepping = True
        try:
            if not waiter.set_result(None):
                self._core.driver.started = True
        finally:
            self._stepping = False
            self.flush()

    def cancel(self) -> None:
        if not self.ended:
            self.ended = True
            self._bodies.clear()
            if self.task is not None:
                self.task.cancel()


class StreamRequest:
    """A stream that waits until main has activated its extension."""

    credit: int

    def __init__(self, read_ahead: int) -> None:
        self.read_ahead = self.credit = read_ahead

    def add_credit(self, count: int) -> None:
        """As Stream's."""
        self.credit = added(self.credit, count, self.read_ahead)


def added(credit: int, count: int, read_ahead: int) -> int:
    """What credit a stream has when its reader gives some. ProtocolError: no reader gives so much."""
    if not 0 < count <= max(read_ahead, 1) - credit:
        raise ProtocolError(f"it gave a stream with a credit of {credit} {count} more, and {read_ahead} may be in all")
    return credit + count


def is_generator(value: object) -> bool:
    """Whether a handler's result is a generator, plain or async."""
    kind = type(value)
    return (hasattr(kind, "__next__") and hasattr(kind, "close")) or (
        hasattr(kind, "__anext__") and hasattr(kind, "aclose")
    )


def is_generator_function(handler: Any) -> bool:
    """Whether calling the handler runs nothing of it, but makes a generator, plain or async."""
    import inspect

    if inspect.iscoroutinefunction(handler):
        return False
    try:
        function = inspect.unwrap(handler)
        if not (inspect.isroutine(function) or hasattr(function, "func")):  # an object with a `__call__`
            function = inspect.unwrap(type(function).__call__)
    except ValueError:  # it is wrapped in itself
        return False
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def asks_for_a_stream(channel: MainChannel) -> TypeError:
    """The error of an invoke whose handler is a generator."""
    name = printable(channel.name)
    return TypeError(
        f"the handler of channel '{name}' of extension {channel.port.extension!r} is a generator: ask for what it "
        f"yields by `ipc.stream('{name}', ...)`, not by an invoke"
    )


def begin(
    connection: RendererConnection, request: StreamRequest, channel: MainChannel, correlation: int, args: Any
) -> None:
    """Make the generator of a stream, and begin to step it."""
    port, handler = channel.port, channel.handler
    if handler is None or port.activating:
        connection._answer(correlation, None, connection.no_handler(channel))
        return
    name, callback = printable(channel.name), handler.callback
    if not is_generator_function(callback):
        why = (
            f"the handler of channel '{name}' of extension {port.extension!r} is no generator function, so it has no "
            f"stream: ask it by `ipc.invoke('{name}', ...)`, or let it `yield`"
        )
        connection._answer(correlation, None, TypeError(why))
        return
    try:
        generator = callback(connection.event_of(channel), *args)
        if not is_generator(generator):
            raise TypeError(f"the handler of channel '{name}' gave no generator, but {type(generator).__name__}")
    except BaseException as error:
        error = explained(error, callback, len(args))
        conclude(error, partial(connection._answer, correlation, None, error))
        return
    if connection.state is CLOSED:  # a wrapper of the handler's has closed it
        return
    about = connection, channel, correlation, request.read_ahead, request.credit
    if hasattr(type(generator), "__anext__"):
        stream = AsyncStream(generator, *about)
        connection.running[correlation] = (port, stream)  # before its first step, which an eager task takes at once
        stream.task = connection.core.driver.run_awaitable(stream.run(), stream.settle)
        if stream.ended:
            stream.task.cancel()
    else:
        plain = PlainStream(generator, *about)
        connection.running[correlation] = (port, plain)
        plain.begin()
