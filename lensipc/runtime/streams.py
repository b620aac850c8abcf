# SPDX-License-Identifier: MIT
"""A stream as its reader has it: the items that a generator in main yields, in their order.

A Stream is what its user iterates. What has come for it is in its Incoming, which stands among the pending requests as
the future of an invoke does. They are two objects, so that the Stream goes when its user lets go of it.

The reader gives credit: main produces no more items than that. main/streams.py is the other side.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

from .. import clone
from ..errors import DecodeError
from ..transport.endpoint import KEEP, Message
from ..transport.poller import Poller, get_ident
from .connection import OPEN, State, body_of
from .driver import Abandon, Driver
from .pending import Outcome, PendingInvokes
from .protocol import CREDIT

Item = TypeVar("Item")


class Core(Protocol):
    """The core that the items come to: RendererCore of renderer/core.py."""

    driver: Driver
    poller: Poller
    pending_invokes: PendingInvokes
    reads: clone.Limits
    state: State
    thread: int

    def send(self, kind: int, *, detail: int, correlation: int, when_full: int) -> int: ...

    def cancel(self, correlation: int) -> None: ...

    def wait(self, outcome: Outcome) -> None: ...


class Incoming:
    """What has come of a stream, and was not taken yet.

    Args:
        driver: calls the task back that waits.
        abandon: gives the stream up, here and in main.

    Attributes:
        ended: whether nothing more will come.
        error: what the stream ended with, until it is raised; None: its regular end.
        messages: those with items.
        waiter: what a reader waits for.
    """

    __slots__ = ("_driver", "_newest", "abandon", "ended", "error", "messages", "waiter")

    def __init__(self, driver: Driver, abandon: Abandon) -> None:
        self._driver = driver
        self.abandon: Abandon = abandon
        self.ended: bool = False
        self.error: BaseException | None = None
        self.messages: deque[Message] = deque()
        self.waiter: Any = None
        self._newest: Message | None = None

    def add(self, message: Message) -> bool:
        """Add items. True: the task that awaits them has already gone on."""
        self.messages.append(message)
        self._newest = message
        return self.wake()

    def has(self, message: Message) -> bool:
        """Whether `add` had added this message when a signal's handler interrupted it."""
        return message is self._newest or any(each is message for each in self.messages)

    def set_result(self, _result: Any, /) -> bool:
        """The stream has ended. True: as `add`."""
        self._end()
        return self.wake()

    def set_exception(self, exception: BaseException, /) -> None:
        """The stream has ended with an error."""
        self.error = exception
        self._end()
        if self.waiter is not None:  # in its loop's next round, as an invoke: this may be the end of the connection
            self._driver.call_soon(self._wake_soon)

    def _end(self) -> None:
        self.ended = True
        self._newest = None  # it may be large

    def drop(self) -> bool:
        """Drop what has come: nobody wants it any more. Return whether main has yet to be told."""
        self.messages.clear()
        self.error = None
        was_open = not self.ended
        self._end()
        return was_open

    def wake(self) -> bool:
        """Have the reader that waits look again. True: as `add`."""
        waiter, self.waiter = self.waiter, None
        return waiter is None or waiter.set_result(None) is True

    def _wake_soon(self) -> None:
        self.wake()

    def forget_waiter(self, _correlation: int) -> None:
        """The reader that waits was cancelled."""
        self.waiter = None


class Stream(Generic[Item]):
    """The items of a stream, as `Ipc.Renderer.stream` returns it.

    On asyncio, `async for item in stream`. In a script, `for item in stream`, which blocks. A foreign event loop takes
    what `dispatch` has received by `stream.take()`. One task at a time may wait for an item.

    A `break` does not end a stream that something still refers to. `async with` or `with` ends it for sure, as `aclose`
    and `close` do. A stream that nothing refers to any more is ended, too, when Python frees it. A task that is
    cancelled while it waits for an item ends the stream.
    """

    __slots__ = (
        "__weakref__",
        "_asked",
        "_core",
        "_correlation",
        "_half",
        "_incoming",
        "_items",
        "_limited",
        "_name",
        "_over",
        "_owed",
        "_timeout",
        "_waiting",
    )

    def __init__(
        self, core: Core, incoming: Incoming, name: str, correlation: int, read_ahead: int, timeout: float | None
    ) -> None:
        self._core = core
        self._incoming = incoming
        self._name = name
        self._correlation = correlation
        self._timeout = timeout
        self._over: type[Exception] = StopIteration if core.driver.blocking else StopAsyncIteration
        self._items: list[Item] = []  # of the message that is being read, the first of them last
        # Credit is given back half of `read_ahead` at a time, while the other half is on its way or here.
        self._half = (read_ahead + 1) // 2  # 0: each item is asked for
        self._owed = 0  # items of messages that were read, for which no credit was given back
        self._asked = False
        self._limited = False  # a deadline runs
        self._waiting = False

    # ---- asyncio ----

    def __aiter__(self) -> Stream[Item]:
        if self._core.driver.blocking:
            raise RuntimeError(f"{self._name}: this process runs no asyncio loop: use `for` or `take()`")
        return self

    async def __anext__(self) -> Item:
        items = self._items
        if self._waiting or not items:
            self.__aiter__()
            self._check_may_wait()
        try:
            if len(items) > 1:
                return items.pop()
            if items:
                return self._take_last()
            self._waiting = True
            while not self._open_next():
                invocation = self._core.driver.invocation(self._incoming.forget_waiter)
                invocation.correlation = self._correlation
                self._wait_with(invocation)
                await invocation
            self._waiting = False
            return self._take_first()
        except BaseException:  # the end, an error, or this task was cancelled
            self._waiting = False
            self._incoming.waiter = None
            self.close()
            raise

    async def aclose(self) -> None:
        """Do as `close`."""
        self.close()

    async def __aenter__(self) -> Stream[Item]:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    # ---- a script ----

    def __iter__(self) -> Stream[Item]:
        if not self._core.driver.blocking:
            raise RuntimeError(f"{self._name}: `for` would block this process's event loop: use `async for`")
        return self

    def __next__(self) -> Item:
        items = self._items
        if not items:
            self.__iter__()
            self._check_may_wait()
        try:
            if len(items) > 1:
                return items.pop()
            if items:
                return self._take_last()
            self._waiting = True
            while not self._open_next():
                outcome = Outcome()
                self._wait_with(outcome)
                self._core.wait(outcome)
            self._waiting = False
            return self._take_first()
        except BaseException:  # the end, an error, or Ctrl-C
            self._waiting = False
            self._incoming.waiter = None
            self.close()
            raise

    def __enter__(self) -> Stream[Item]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- either ----

    def take(self) -> list[Item]:
        """Take the items that have come, without waiting: all of them, in order; [] if there is none now.

        This is for a foreign event loop: call it at once and after each `dispatch`, again and again until it has
        nothing or `ended` is true. With a `read_ahead` of 0, each call asks for one more item.

        Raises:
            LensIpcError: what iterating raises, in the call after that which has returned the last items.
            Ctrl-C ends the stream, as in `for`: no later call can return items after a gap.
        """
        self._check_thread("take")
        try:
            return self._take_all()
        except BaseException:  # an error, or Ctrl-C, which drops the items that were taken so far
            self._close()
            raise

    def _take_all(self) -> list[Item]:
        incoming = self._incoming
        items: list[Item] = []
        while self._items or incoming.messages:
            if self._items:
                items += reversed(self._items)
                del self._items[1:]
                self._take_last()
            else:
                self._read(incoming.messages.popleft())
        self._ask()
        if not items:
            error, incoming.error = incoming.error, None
            if error is not None:
                raise error
            self._limit()
        return items

    @property
    def ended(self) -> bool:
        """Whether the stream has ended, and all its items and its error were had."""
        incoming = self._incoming
        return incoming.ended and not (self._items or incoming.messages or incoming.error)

    def close(self) -> None:
        """End the stream: its generator in main is closed, and what has come is dropped. Idempotent.

        It does not wait for main. What is sent after it is handled in main after the end of a plain generator. An async
        generator is cancelled.
        """
        self._check_thread("close")
        self._close()

    def _close(self) -> None:
        self._items.clear()
        if self._incoming.drop():
            self._incoming.abandon(self._correlation)
            self._incoming.wake()

    def __del__(self) -> None:  # in any thread
        with suppress(Exception):  # it was not made whole, or it is the parent's, and this is a fork
            self._close()

    def __repr__(self) -> str:
        return f"<Stream {self._name}{', ended' if self.ended else ''}>"

    def _check_may_wait(self) -> None:
        self._check_thread("iterating")
        if self._waiting:
            raise RuntimeError(f"{self._name}: another task waits for the next item already: one at a time may")

    def _check_thread(self, call: str) -> None:
        if get_ident() != self._core.thread:
            self._core.poller.check_thread(f"{self._name}: {call}", "use a stream there alone")

    def _open_next(self) -> bool:
        """Begin with the next message; False: none has come yet. At the end, raise the stream's error, or its end."""
        incoming = self._incoming
        if incoming.messages:
            self._read(incoming.messages.popleft())
            if self._items:
                return True
        if not incoming.ended:
            return False
        error, incoming.error = incoming.error, None
        raise self._over if error is None else error

    def _read(self, message: Message) -> None:
        """Decode a message. If an item cannot be decoded, those before it are had, and then the error."""
        self._asked = self._limited = False
        self._owed += message.items
        limits, bodies = self._core.reads, [body_of(message)]
        try:
            if message.items == 1:
                items = [clone.decode_owned(bodies[0], limits)]
            else:
                bodies = clone.decode(bodies[0])
                items = clone.decode_each(bodies, limits)
        except DecodeError as failed:
            error = failed
            items = []
            try:
                for body in bodies:
                    items.append(clone.decode(body, limits))
            except DecodeError as failed:
                error = failed
            self._close()
            self._incoming.error = error
        items.reverse()
        self._items = items

    def _take_first(self) -> Item:
        """The first item of a message that was just opened."""
        return self._items.pop() if len(self._items) > 1 else self._take_last()

    def _take_last(self) -> Item:
        """The last item of a message: that much was taken, and main may produce as much again."""
        if self._owed >= self._half > 0:
            taken, self._owed = self._owed, 0
            self._give_credit(taken)
        return self._items.pop()

    def _wait_with(self, waiter: Any) -> None:
        """Have `waiter` told of the next item, or of the end."""
        self._ask()
        self._incoming.waiter = waiter
        self._limit()

    def _limit(self) -> None:
        """Begin to count the time for the next item."""
        if self._timeout is not None and not (self._limited or self._incoming.ended):
            self._limited = True
            core = self._core
            core.pending_invokes.limit(self._correlation, self._name, self._timeout, core.cancel)

    def _ask(self) -> None:
        """Ask for one item, if nothing is read ahead."""
        if not self._half and not self._asked:
            self._asked = True
            self._give_credit(1)

    def _give_credit(self, count: int) -> None:
        core = self._core
        if not self._incoming.ended and core.state is OPEN:
            self._check_thread("iterating")
            core.send(CREDIT, detail=count, correlation=self._correlation, when_full=KEEP)
