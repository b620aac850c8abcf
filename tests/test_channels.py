# SPDX-License-Identifier: MIT
"""The channel table of one extension: no processes, no bytes, no loop."""

from __future__ import annotations

import functools
import operator
import types
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock, create_autospec

import pytest

from lensipc import Channel as LensChannel
from lensipc import HandlerExistsError, LensIpcError, NotActivatedError
from lensipc.runtime.channels import Channel, ChannelTable


def nothing(*_: Any) -> None:
    """Hear, and do nothing."""


@pytest.fixture
def told() -> list[tuple[str, bool]]:
    """What the table has said of who listens."""
    return []


@pytest.fixture
def table(told: list[tuple[str, bool]]) -> ChannelTable[Channel]:
    table = ChannelTable("ext", Channel, lambda channel, listening: told.append((channel.name, listening)))
    table.open = True
    return table


def callbacks(table: ChannelTable[Channel], name: str) -> list[Any]:
    return [listener.callback for listener in table[name].listeners]


def test_a_channel_is_made_once(table: ChannelTable[Channel]) -> None:
    assert table["a"] is table["a"]
    assert table["a"] is not table["A"]


@pytest.mark.parametrize("name", [None, 1, b"bytes", ("a",)])
def test_a_name_that_is_no_text_is_refused(table: ChannelTable[Channel], name: Any) -> None:
    with pytest.raises(TypeError, match="a channel's name is a str"):
        table[name]


def test_two_tables_share_no_channel(table: ChannelTable[Channel]) -> None:
    other = ChannelTable("other", Channel)
    other.open = True
    table.listen("a", nothing)
    assert not other["a"].listeners


def test_listeners_are_kept_in_their_order_and_one_function_may_listen_twice(table: ChannelTable[Channel]) -> None:
    first = table.listen("a", nothing)
    table.listen("a", print)
    table.listen("a", nothing)
    assert callbacks(table, "a") == [nothing, print, nothing]
    first()
    assert callbacks(table, "a") == [print, nothing]


def test_only_the_first_listener_and_the_last_are_told(
    table: ChannelTable[Channel], told: list[tuple[str, bool]]
) -> None:
    first, second = table.listen("a", nothing), table.listen("a", nothing)
    assert told == [("a", True)]
    first()
    assert told == [("a", True)]
    second()
    assert told == [("a", True), ("a", False)]


def test_a_disposer_works_once_and_the_listener_is_inactive_at_once(table: ChannelTable[Channel]) -> None:
    dispose = table.listen("a", nothing)
    (snapshot,) = table["a"].listeners  # as one who is calling them has it
    dispose()
    dispose()
    assert not snapshot.active
    assert not table["a"].listeners
    assert table._registrations == {}


def test_a_second_handler_is_refused_with_the_place_of_the_first(table: ChannelTable[Channel]) -> None:
    dispose = table.handle("a", nothing)
    with pytest.raises(HandlerExistsError, match=rf"'a' of extension 'ext'.*{__name__.rpartition('.')[2]}\.py:\d+"):
        table.handle("a", print)
    assert table["a"].handler is not None
    assert table["a"].handler.callback is nothing
    dispose()
    dispose()
    assert table["a"].handler is None
    table.handle("a", print)


def test_an_old_disposer_leaves_the_new_handler_alone(table: ChannelTable[Channel]) -> None:
    old = table.handle("a", nothing)
    old()
    table.handle("a", print)
    old()
    assert table["a"].handler is not None


@pytest.mark.parametrize("callback", [None, 1, "name", []])
def test_what_cannot_be_called_is_refused(table: ChannelTable[Channel], callback: Any) -> None:
    with pytest.raises(TypeError, match="a listener is a function"):
        table.listen("a", callback)
    with pytest.raises(TypeError, match="a handler is a function"):
        table.handle("a", callback)
    assert table._registrations == {}


class Callbacks:
    """Callbacks of each kind that classes make."""

    def takes(self, event: object) -> None: ...

    def does_not(self) -> None: ...

    def takes_all(*args: object) -> None: ...

    def has_no_self() -> None: ...  # type: ignore[misc]

    @classmethod
    def of_class(cls, event: object) -> None: ...

    @classmethod
    def of_class_does_not(cls) -> None: ...

    @staticmethod
    def is_static(event: object) -> None: ...

    @staticmethod
    def is_static_does_not() -> None: ...


class Callable:
    def __call__(self, event: object) -> None: ...


class CallableDoesNot:
    def __call__(self) -> None: ...


class CallableStatic:
    @staticmethod
    def __call__(event: object) -> None: ...


class CallableClass:
    @classmethod
    def __call__(cls, event: object) -> None: ...


class CallableByPartial:
    __call__ = functools.partial(nothing)


class Meta(type):
    def __call__(cls, event: object) -> None: ...


class OfMeta(metaclass=Meta):
    """What a call of it does, its metaclass says."""


def no_arguments() -> None: ...


async def no_arguments_async() -> None: ...


def only_named(*, event: object) -> None: ...


def only_keywords(**event: object) -> None: ...


def by_default(event: object = None, /) -> None: ...


@functools.wraps(no_arguments)
def decorated(*args: object) -> None: ...


NO_SELF: Any = Callbacks().__getattribute__("has_no_self")
TAKES_THE_EVENT: list[Any] = [
    nothing, by_default, decorated, lambda event: event, lambda *event: event, print, len, [].append, "x".join, dict,
    operator.itemgetter(0), functools.partial(no_arguments), functools.lru_cache(no_arguments), Mock(), AsyncMock(),
    create_autospec(by_default), types.MethodType(print, 1), types.MethodType(functools.partial(print), 1),
    Callbacks().takes, Callbacks.takes, Callbacks().takes_all, Callbacks.of_class, Callbacks().of_class,
    Callbacks.is_static, Callbacks().is_static, Callable(), CallableStatic(), CallableClass(), CallableByPartial(),
    Callable, OfMeta,
]  # fmt: skip


@pytest.mark.parametrize("callback", TAKES_THE_EVENT, ids=repr)
def test_whatever_may_take_the_event_is_taken(table: ChannelTable[Channel], callback: Any) -> None:
    table.listen("a", callback)
    table.handle("a", callback)
    assert callbacks(table, "a") == [callback]


@pytest.mark.parametrize(
    ("callback", "right"),
    [
        (no_arguments, "def no_arguments(event, ...)"),
        (no_arguments_async, "def no_arguments_async(event, ...)"),
        (only_named, "def only_named(event, ...)"),
        (only_keywords, "def only_keywords(event, ...)"),
        (lambda: 1, "lambda event, ...: ..."),
        (Callbacks().does_not, "def does_not(self, event, ...)"),
        (NO_SELF, "def has_no_self(self, event, ...)"),
        (Callbacks.of_class_does_not, "def of_class_does_not(cls, event, ...)"),
        (Callbacks.is_static_does_not, "def is_static_does_not(event, ...)"),
        (CallableDoesNot(), "def __call__(self, event, ...)"),
    ],
)
def test_a_callback_that_does_not_take_the_event_is_named_with_how_to_write_it(
    table: ChannelTable[Channel], callback: Any, right: str
) -> None:
    with pytest.raises(TypeError) as listening:
        table.listen("a", callback)
    with pytest.raises(TypeError) as handling:
        table.handle("a", callback)
    for what, raised in ("listener", listening), ("handler", handling):
        text = str(raised.value)
        assert text.startswith(f"the {what} of channel 'a', ")
        assert f"{Path(__file__).name}:" in text
        assert text.endswith(f"does not take the event, which comes first: `{right}`")
    assert table._registrations == {}


def yields(_event: Any) -> Iterator[int]:
    yield 1


async def yields_async(_event: Any) -> AsyncIterator[int]:
    yield 1


@types.coroutine
def is_awaited(_event: Any) -> Iterator[None]:
    yield


@pytest.mark.parametrize("callback", [yields, yields_async])
def test_a_generator_function_is_no_listener_but_a_handler(table: ChannelTable[Channel], callback: Any) -> None:
    with pytest.raises(TypeError, match=r"^the listener of channel 'a', yields.*, is a generator function"):
        table.listen("a", callback)
    assert table._registrations == {}
    table.listen("a", is_awaited)
    table.handle("a", callback)


def test_a_table_keeps_plain_names_though_it_is_asked_for_typed_channels(table: ChannelTable[Channel]) -> None:
    typed: Any = LensChannel("a")
    dispose = table.handle(typed, nothing)
    table.listen(typed, nothing)
    assert type(table[typed].name) is str
    assert table["a"] is table[typed]
    with pytest.raises(HandlerExistsError, match="channel 'a' of extension"):
        table.handle("a", nothing)
    dispose()
    assert table["a"].handler is None


def test_nothing_can_be_registered_before_the_table_is_open_and_after_it_is_closed() -> None:
    table = ChannelTable("ext", Channel)
    for _ in range(2):
        with pytest.raises(NotActivatedError, match="'ext' is not active"):
            table.listen("a", nothing)
        with pytest.raises(NotActivatedError):
            table.handle("a", nothing)
        table.open = True
        table.close()


def test_closing_disposes_of_everything_the_last_first(
    table: ChannelTable[Channel], told: list[tuple[str, bool]]
) -> None:
    for name in "abc":
        table.listen(name, nothing)
        table.handle(name, nothing)
    del told[:]
    table.close()
    table.close()
    assert told == [("c", False), ("b", False), ("a", False)]
    assert table._registrations == {}
    assert all(not table[name].listeners and table[name].handler is None for name in "abc")


def test_closing_cancels_what_still_runs(table: ChannelTable[Channel]) -> None:
    cancelled: list[int] = []

    class Run:
        def cancel(self) -> None:
            cancelled.append(1)

    table.running = {Run(), Run()}
    table.close()
    assert cancelled == [1, 1]


def test_a_listener_that_main_could_not_be_told_of_is_not_half_registered() -> None:
    refuse = True

    def on_listening(_channel: Channel, _listening: bool) -> None:
        if refuse:
            raise LensIpcError("no room")

    table = ChannelTable("ext", Channel, on_listening)
    table.open = True
    with pytest.raises(LensIpcError, match="no room"):
        table.listen("a", nothing)
    assert not table["a"].listeners
    assert table._registrations == {}
    refuse = False
    table.listen("a", nothing)
    assert len(table["a"].listeners) == 1


def test_a_disposer_that_raises_stops_none_of_the_others() -> None:
    def on_listening(_channel: Channel, listening: bool) -> None:
        if not listening:
            raise LensIpcError("no room")

    table = ChannelTable("ext", Channel, on_listening)
    table.open = True
    for name in "abc":
        table.listen(name, nothing)
    with pytest.raises(LensIpcError):
        table.close()
    assert table._registrations == {}
    assert all(not table[name].listeners for name in "abc")


def test_a_channel_is_forgotten_only_when_nothing_is_registered_for_it(table: ChannelTable[Channel]) -> None:
    dispose_listener, dispose_handler = table.listen("a", nothing), table.handle("b", nothing)
    for name in "ab":
        channel = table[name]
        table.drop_if_unused(channel)
        assert table[name] is channel
    dispose_listener()
    dispose_handler()
    for name in "ab":
        channel = table[name]
        table.drop_if_unused(channel)
        table.drop_if_unused(channel)
        assert table[name] is not channel


def test_a_thousand_listeners_that_come_and_go_leave_nothing(table: ChannelTable[Channel]) -> None:
    for _ in range(1000):
        table.listen("a", nothing)()
    assert table._registrations == {}
    assert not table["a"].listeners


def test_twenty_thousand_listeners_of_one_channel_come_and_go_in_their_order() -> None:
    told: list[bool] = []
    table = ChannelTable("ext", Channel, lambda _channel, listening: told.append(listening))
    table.open = True
    disposers = [table.listen("c", print) for _ in range(20_000)]
    assert list(table["c"].listeners) == disposers
    for dispose in disposers[::2]:
        dispose()
    assert list(table["c"].listeners) == disposers[1::2]
    assert told == [True]
    for dispose in disposers:
        dispose()
    assert not table["c"].listeners
    assert told == [True, False]


def test_a_channel_knows_its_listener_if_it_has_only_one(table: ChannelTable[Channel]) -> None:
    channel = table["a"]
    assert (channel.only, bool(channel.listeners)) == (None, False)
    first = table.listen("a", print)
    assert (channel.only, bool(channel.listeners)) == (print, True)
    second = table.listen("a", repr)
    assert (channel.only, bool(channel.listeners)) == (None, True)
    first()
    assert channel.only is repr
    second()
    assert channel.only is None
    assert not channel.listeners
