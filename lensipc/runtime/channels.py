# SPDX-License-Identifier: MIT
"""The channels of one extension in one process: who listens, who handles, and how each is undone.

For honest parts, isolation rests on this table. An extension's part is given its own table and no other, so no channel
name reaches another extension. Against a hostile renderer, isolation rests on main/connection.py:
RendererConnection._on_declare and RendererConnection._channel check every channel number that a renderer sends.

This module knows nothing of processes, bytes or event loops.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any, Final, Generic, NoReturn, Protocol, TypeVar

from ..errors import ForkError, HandlerExistsError, NotActivatedError

Disposer = Callable[[], None]
Callback = Callable[..., object]
Post = Callable[[Callable[[], object], str], bool]


def _stay(_call: Callable[[], object], _what: str) -> bool:
    """The `post` of a table that one thread alone has."""
    return False


class Running(Protocol):
    """User code on its way."""

    def cancel(self) -> object: ...


class Registration:
    """One listener or handler: calling it disposes of it, once; afterwards no new call of it starts."""

    __slots__ = ("_post", "_undo", "active", "callback", "where")

    def __init__(
        self,
        callback: Callback,
        where: str,
        undo: Callable[[Registration], None],
        post: Post = _stay,
    ) -> None:
        self._post = post
        self.callback: Callback = callback
        self.where: str = where
        self.active: bool = True
        self._undo = undo

    def __call__(self) -> None:
        if self.active:
            self.active = False
            if not self._post(partial(self._undo, self), "disposing"):
                self._undo(self)


_NO_VIEWS: Final[frozenset[Registration]] = frozenset()


class Channel:
    """A named channel of one extension.

    Attributes:
        listeners: those that there are, in the order in which they came. One who calls them takes a copy first.
        has_listeners: whether there are any; to look into the dict takes a tenth of an event where channels are many.
        only: the callback of the one listener that there is; None: there is none, or there are several.
        views: the listeners whose arrays are read-only, and lie where they came.
    """

    __slots__ = ("handler", "has_listeners", "listeners", "name", "only", "views")

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.only: Callback | None = None
        self.handler: Registration | None = None
        self.has_listeners: bool = False
        self.listeners: dict[Registration, None] = {}
        self.views: frozenset[Registration] = _NO_VIEWS

    def add(self, registration: Registration) -> None:
        """Add a listener: the last to be called."""
        self.listeners[registration] = None
        self._change()

    def remove(self, registration: Registration) -> None:
        """Remove a listener."""
        self.listeners.pop(registration, None)
        if registration in self.views:
            self.views -= {registration}
        self._change()

    def _change(self) -> None:
        self.has_listeners = bool(self.listeners)
        self.only = next(iter(self.listeners)).callback if len(self.listeners) == 1 else None


AnyChannel = TypeVar("AnyChannel", bound=Channel)


class ChannelTable(Generic[AnyChannel]):
    """All channels of one extension in one process.

    Args:
        extension: the extension's id, for error messages.
        make: makes a channel from its name.
        on_listening: called with a channel when its first listener comes (True) and when its last goes (False).
        post: `post(call, what)` has the owner's thread call that, if this is another: whether it is.
    """

    def __init__(
        self,
        extension: str,
        make: Callable[[str], AnyChannel],
        on_listening: Callable[[AnyChannel, bool], None] | None = None,
        post: Post = _stay,
    ) -> None:
        self.extension = extension
        self.open: bool = False
        self.running: set[Running] = set()  # async listeners on their way
        self._make = make
        self._on_listening = on_listening or (lambda _channel, _listening: None)
        self._post = post
        self._claims: dict[str, Registration] = {}  # handlers of other threads that are not set yet
        self._claiming = threading.RLock()  # a signal's handler may claim a channel, too
        self.channels: dict[str, AnyChannel] = {}  # those that have been asked for
        self._registrations: dict[Registration, None] = {}  # in the order they came
        _tables.add(self)

    def __getitem__(self, name: str) -> AnyChannel:
        """The channel of that name, made if it is new. TypeError: the name is no text."""
        channel = self.channels.get(name)
        if channel is None:
            if not isinstance(name, str):
                raise TypeError(f"a channel's name is a str, not {type(name).__name__}")
            name = str(name)  # of a Channel, which is a str of its own class
            channel = self.channels[name] = self._make(name)
        return channel

    def listen(
        self,
        name: str,
        callback: Callback,
        begin: Callable[[AnyChannel], None] = lambda _channel: None,
        added: Callable[[AnyChannel, Registration], None] = lambda _channel, _registration: None,
        removed: Callable[[], None] = lambda: None,
    ) -> Disposer:
        """Add a listener; the disposer removes it.

        `begin` is called with the channel before its first one is added, `added` when this one is, and `removed` when
        it is disposed of.
        """
        self._check(name, callback, "listener")
        registration = Registration(callback, _caller(), partial(self._remove_listener, name, removed), self._post)
        add = partial(self._add_listener, name, registration, begin, added)
        if not self._post(add, f"listen to {name!r}"):
            add()
        return registration

    def _add_listener(
        self,
        name: str,
        registration: Registration,
        begin: Callable[[AnyChannel], None],
        added: Callable[[AnyChannel, Registration], None],
    ) -> None:
        if not registration.active:
            return
        self.check_open(name)
        channel = self[name]
        first = not channel.listeners
        if first:
            begin(channel)
        try:
            self._registrations[registration] = None
            channel.add(registration)
            if first:
                self._on_listening(channel, True)
        except BaseException:  # main could not be told: it is as if this had not been called
            registration.active = False
            self._registrations.pop(registration, None)
            channel.remove(registration)
            raise
        try:
            added(channel, registration)
        except BaseException:
            registration()
            raise

    def _remove_listener(self, name: str, removed: Callable[[], None], registration: Registration) -> None:
        if registration in self._registrations:
            del self._registrations[registration]
            removed()
            channel = self[name]
            channel.remove(registration)
            if not channel.listeners:
                self._on_listening(channel, False)

    def handle(self, name: str, callback: Callback) -> Disposer:
        """Set the handler; the disposer removes it. HandlerExistsError: there is one."""
        self._check(name, callback, "handler")
        registration = Registration(callback, _caller(), partial(self._remove_handler, name), self._post)
        self._claim(name, registration)
        if not self._post(partial(self._set_handler, name, registration), f"handle {name!r}"):
            self._set_handler(name, registration)
        return registration

    def _claim(self, name: str, registration: Registration) -> None:
        with self._claiming:
            known = self.channels.get(name)
            for other in (self._claims.get(name), None if known is None else known.handler):
                if other is not None and other.active:
                    raise HandlerExistsError(
                        f"channel {name!r} of extension {self.extension!r} has a handler already, registered at "
                        f"{other.where}: dispose of that one first"
                    )
            self._claims[name] = registration

    def _set_handler(self, name: str, registration: Registration) -> None:
        with self._claiming:
            if self._claims.get(name) is registration:
                del self._claims[name]
            if registration.active:
                self.check_open(name)
                self[name].handler = registration
                self._registrations[registration] = None

    def _remove_handler(self, name: str, registration: Registration) -> None:
        if registration in self._registrations:
            del self._registrations[registration]
            channel = self[name]
            if channel.handler is registration:  # another may have come since this was disposed of
                channel.handler = None

    def drop_if_unused(self, channel: AnyChannel) -> None:
        """Drop a channel that nobody knows by anything but its name, unless something is registered for it."""
        if not channel.listeners and channel.handler is None:
            self.channels.pop(channel.name, None)

    def stop_handling(self) -> None:
        """Dispose of all handlers."""
        for channel in self.channels.values():
            if channel.handler is not None:
                channel.handler()

    def close(self) -> None:
        """Dispose of all listeners and handlers, the last first, and cancel what of them still runs.

        Nothing can be registered until `open` is set.
        """
        self.open = False
        with ExitStack() as stack:  # one that raises stops none of the others
            for task in list(self.running):
                stack.callback(task.cancel)
            for registration in self._registrations:
                stack.callback(registration)

    def check_open(self, name: str) -> None:
        """NotActivatedError: the extension is not active. TypeError: that is no channel's name."""
        if not self.open:
            raise NotActivatedError(f"extension {self.extension!r} is not active in this process")
        if not isinstance(name, str):
            raise TypeError(f"a channel's name is a str, not {type(name).__name__}")

    def _check(self, name: str, callback: Callback, what: str) -> None:
        self.check_open(name)
        check_callback(callback, what, f" of channel {str(name)!r}")


def check_callback(callback: Callback, what: str, of: str = "") -> None:
    """TypeError: it is no function, does not take the event, or is a listener that yields.

    The error says `what` it is, and `of` what.
    """
    if not callable(callback):
        raise TypeError(f"a {what} is a function, not {type(callback).__name__}")
    function, before = _function_of(callback)
    if function is None:
        return
    if not _takes(function.__code__, before + 1):
        raise TypeError(_without_event(what + of, function, before))
    if what == "listener" and _yields(function.__code__):
        raise TypeError(
            f"the {what}{of}, {function.__qualname__}, is a generator function, and nothing of it would run: leave "
            "`yield` out, or `handle` it and read it by `ipc.stream`"
        )


def _function_of(callback: Any) -> tuple[FunctionType | None, int]:
    """The Python function that a call of `callback` comes to, and how many arguments it gets before the call's own.

    None: it takes `inspect` to tell, which registering does not import: a class, a partial, or code in C.
    """
    kind = type(callback)
    if kind is FunctionType:
        return callback, 0
    if kind is MethodType:
        return (callback.__func__, 1) if type(callback.__func__) is FunctionType else (None, 0)
    # As the class has it: what is written in C, or is a static method, is no function there.
    call = next((vars(base)["__call__"] for base in kind.__mro__ if "__call__" in vars(base)), None)
    return (call, 1) if type(call) is FunctionType else (None, 0)


_VARIADIC: Final = 4  # inspect.CO_VARARGS: the function has *args
_GENERATOR: Final = 0x20 | 0x200  # inspect.CO_GENERATOR, inspect.CO_ASYNC_GENERATOR
_AWAITABLE: Final = 0x100  # inspect.CO_ITERABLE_COROUTINE: of `types.coroutine`


def _takes(code: CodeType, count: int) -> bool:
    """Whether a function can be called with so many arguments, given by their places."""
    return code.co_argcount >= count or bool(code.co_flags & _VARIADIC)


def _yields(code: CodeType) -> bool:
    """Whether a call runs nothing of the function, but makes a generator, plain or async."""
    return bool(code.co_flags & _GENERATOR) and not code.co_flags & _AWAITABLE


def _without_event(what: str, function: FunctionType, before: int) -> str:
    """Say that a callback does not take the event, and how it has to be written."""
    code, name = function.__code__, function.__name__
    right = ", ".join((*(code.co_varnames[: min(before, code.co_argcount)] or before * ("self",)), "event", "..."))
    right = f"lambda {right}: ..." if name == "<lambda>" else f"def {name}({right})"
    where = f"{code.co_filename}:{code.co_firstlineno}"
    return f"the {what}, {function.__qualname__} at {where}, does not take the event, which comes first: `{right}`"


class _ForkedTable(ChannelTable[Any]):
    """What an inherited table turns into: whatever is sent, listened to or handled by it would reach nobody."""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_"):
            return object.__getattribute__(self, name)
        if name in ("close", "drop_if_unused"):  # there is nothing to undo here
            return lambda *_: None
        return self._refuse()

    def __setattr__(self, name: str, value: object) -> None:
        self._refuse()

    def __getitem__(self, name: str) -> Any:
        self._refuse()

    def _refuse(self) -> NoReturn:
        extension = self.__dict__["extension"]
        raise ForkError(f"extension {extension!r} is active in the parent process, and this is a fork of it")


_tables: weakref.WeakSet[ChannelTable[Any]] = weakref.WeakSet()


def _disown() -> None:
    """In a forked child: the channels are the parent's."""
    for table in list(_tables):
        table.__class__ = _ForkedTable
    _tables.clear()


os.register_at_fork(after_in_child=_disown)


# The packages between an extension's code and this module.
_OURS = ("lensipc", "lensipc.main", "lensipc.renderer", "lensipc.runtime")


def _caller() -> str:
    """File and line of the nearest caller outside lensipc."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__package__") in _OURS:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
