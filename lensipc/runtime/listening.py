# SPDX-License-Identifier: MIT
"""Listeners with options: `replay=True`, `latest=True`, `concurrency=N`.

Each of these objects stands in a channel in place of the user's callback. So a listener without options is called as if
there were none of this.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from .channels import Callback, Registration, check_callback
from .dispatch import Dispatcher, finish
from .driver import is_awaitable

# What `latest=True` means if `concurrency` is not said.
ONE: Final = 1
# How long a call with `latest=True` is put off, at most, while there is more to look at (seconds). A flood never ends.
PUT_OFF: Final = 0.1


class Replay:
    """A listener that waits for main's answer: the channel's kept value, or that there is none.

    The answer has its place in main's order of events. What comes before it was sent before main knew of the listener,
    which does not hear it. What comes after it is newer than the kept value, and the listener hears all of it.

    The object also stands for a channel of which only this listener is called: that is how it hears the kept value.

    Attributes:
        channel, registration: of the listener, once it is added.
        has_value: whether there is a kept value.
    """

    __slots__ = ("_callback", "channel", "has_value", "registration")

    channel: Any
    registration: Registration

    def __init__(self, callback: Callback) -> None:
        self._callback = callback
        self.has_value: bool = False

    def __call__(self, *_args: object) -> None:
        """An event that came before the answer."""

    def begin(self, channel: Any, registration: Registration) -> None:
        """The listener is added."""
        self.channel, self.registration = channel, registration

    def go_live(self) -> None:
        """The answer has come: from now on the channel calls the listener itself."""
        registration = self.registration
        if registration.active:
            registration.callback = self._callback
            self.channel.add(registration)  # it stays in its place; the channel looks at its callback again

    @property
    def name(self) -> str:
        """The channel's name."""
        return str(self.channel.name)

    @property
    def port(self) -> Any:
        """The channel's port."""
        return self.channel.port

    @property
    def views(self) -> frozenset[Registration]:
        """The channel's listeners whose arrays are read-only."""
        views: frozenset[Registration] = self.channel.views
        return views

    @property
    def listeners(self) -> tuple[Registration, ...]:
        """Who is called with the answer. It goes live for that, whether the value can be decoded or not."""
        self.go_live()
        return (self.registration,) if self.has_value else ()


class Paced:
    """A listener of which only so many async calls run at once.

    With `latest`, events that come meanwhile are skipped, but for the newest: it waits, and is heard next. A plain
    listener is slow in its call, and then events wait in the ring. So each call is put off until all that has come was
    looked at.

    Without `latest`, all of them wait, in order.

    A signal's handler may raise at the beginning and the end of each call here. So what says how things stand is
    changed in one step, or in a step that may be done twice: no interrupted call counts as one that runs.

    Args:
        callback: what is called.
        latest: whether only the newest event waits.
        limit: how many calls may run at once.
        dispatcher: logs what they raise, and awaits what they return.
    """

    __slots__ = (
        "_callback",
        "_calls",
        "_channel",
        "_dispatcher",
        "_limit",
        "_newest",
        "_registration",
        "_soon",
        "_waiting",
        "latest",
    )

    _channel: Any
    _registration: Registration
    _soon: Callable[[], None]

    def __init__(self, callback: Callback, latest: bool, limit: int, dispatcher: Dispatcher) -> None:
        self._callback = callback
        self.latest = latest
        self._limit = limit
        self._dispatcher = dispatcher
        self._calls: set[object] = set()  # those that run
        # With `latest`: the event that waits, its arguments, and how many were skipped since the last call.
        self._newest: tuple[Any, tuple[Any, ...], int] | None = None
        # Without: the events that wait, each with the future that ends when it was heard.
        self._waiting: deque[tuple[Any, tuple[Any, ...], Any]] = deque()

    def begin(self, channel: Any, registration: Registration, soon: Callable[[], None]) -> None:
        """The listener is added.

        `soon()` has `run` called once, with context variables of its own, however often it was called before. With
        `latest` that is when all that has come was looked at.
        """
        self._channel, self._registration, self._soon = channel, registration, soon

    def end(self) -> None:
        """The listener is disposed of: what waits will not be heard."""
        self._newest = None
        while self._waiting:
            _end(self._waiting.popleft()[2])

    def __call__(self, event: Any, *args: Any) -> Any:
        """An event. What is awaited of the result is over when the event was heard: main counts what waits by that."""
        if self.latest:
            before = self._newest
            self._newest = event, args, 0 if before is None else before[2] + 1 + before[0].missed
            self._go_on()
            return None
        if not self._waiting and len(self._calls) < self._limit:
            return self._hear(event, args, None)
        heard = self._dispatcher.driver.future()
        self._waiting.append((event, args, heard))
        self._go_on()
        return heard

    def _go_on(self) -> None:
        """Have what waits heard, as far as there may be more calls."""
        if (self._newest is not None or self._waiting) and len(self._calls) < self._limit:
            self._soon()

    def run(self, *_: object) -> None:
        """Hear the newest event, or those that wait, as far as there may be more calls."""
        if not self._registration.active:
            self.end()
        elif not self.latest:
            while self._waiting and len(self._calls) < self._limit:
                self._dispatcher.driver.contexts.apart(self._hear, *self._waiting[0])
        elif self._newest is not None and len(self._calls) < self._limit:
            event, args, missed = self._newest
            if missed:  # others share the event object
                missed += event.missed
                event = type(event)(event.frame_id, event.pid, event.extension, event.channel, missed, event._send)
            self._hear(event, args, None)

    def _hear(self, event: Any, args: tuple[Any, ...], heard: Any) -> Any:
        """Call the listener. Returns a future that ends when its call has ended, if that is async."""
        dispatcher, table, awaited, call = self._dispatcher, self._channel.port.table, False, object()
        try:
            self._calls.add(call)  # a plain call, too: it may run a loop of its own, in which events come
            self._newest = None  # the event waits no more: its call begins
            if heard is not None:
                self._waiting.popleft()
            result = self._callback(event, *args)
            if result is not None and is_awaitable(result):
                if heard is None:
                    heard = dispatcher.driver.future()
                what = "listener of %s/%s raised", table.extension, self._channel.name
                finish(dispatcher.driver, table, result, what, partial(self._count, call, heard))
                awaited = True
                return None if self.latest else heard
        except BaseException as error:  # SystemExit and CancelledError, too
            dispatcher.failed(self._channel, table, self._callback, len(args), error)
        finally:
            if not awaited:
                self._calls.discard(call)
                _end(heard)
                self._go_on()
        return None

    def _count(self, call: object, heard: Any, change: int) -> None:
        """An async call has begun (1), or has ended (-1): there may be one more."""
        if change < 0:
            self._calls.discard(call)
            _end(heard)
            self._go_on()


def _end(heard: Any) -> None:
    """An event was heard, or will not be: `heard` is its future, or None."""
    if heard is not None and not heard.done():
        heard.set_result(None)


def reads_in_place(arrays: str) -> bool:
    """Whether a listener's `arrays` says so. ValueError: it is no such word."""
    if arrays not in ("copy", "view"):
        raise ValueError(f"arrays is 'copy' or 'view', not {arrays!r}")
    return arrays == "view"


def with_options(
    listener: Callback,
    replay: bool,
    latest: bool,
    concurrency: int | None,
    dispatcher: Dispatcher,
    soon: Callable[[Paced], Callable[[], None]],
    ask: Callable[[Replay], None],
) -> tuple[Callback, Callable[[Any, Registration], None], Callable[[], None]]:
    """What stands in the channel for a listener with options, and what is to be called when it is added and removed.

    Args:
        listener, replay, latest, concurrency: as the user has given them.
        dispatcher: as Paced takes it.
        soon: makes what Paced.begin takes.
        ask: asks main for the channel's kept value.

    Raises:
        TypeError: the listener is no function, or does not take the event.
        TypeError, ValueError: `concurrency` is no number of calls.
    """
    check_callback(listener, "listener")
    callback = listener
    paced = replayed = None
    if latest or concurrency is not None:
        callback = paced = Paced(callback, latest, _limit_of(concurrency), dispatcher)
    if replay:
        callback = replayed = Replay(callback)

    def added(channel: Any, registration: Registration) -> None:
        if paced is not None:
            paced.begin(channel, registration, soon(paced))
        if replayed is not None:
            replayed.begin(channel, registration)
            ask(replayed)

    def removed() -> None:
        if paced is not None:
            paced.end()

    return callback, added, removed


def _limit_of(concurrency: int | None) -> int:
    if concurrency is None:
        return ONE
    if not isinstance(concurrency, int) or isinstance(concurrency, bool):
        raise TypeError(f"concurrency is a number of calls, or None, not {type(concurrency).__name__}")
    if concurrency < 1:
        raise ValueError(f"concurrency is at least 1, not {concurrency}")
    return concurrency
