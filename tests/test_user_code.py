# SPDX-License-Identifier: MIT
"""What user code raises: whether a signal has raised it, and that it can be put into words whatever it is."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lensipc.user_code import TEXT_MOST, ends_process, explained, is_small, repr_of, text_of, trace, type_name


def caught(function: Callable[[], object]) -> BaseException:
    """What a function raises."""
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("it raised nothing")


@pytest.fixture
def restored() -> Iterator[None]:
    """The handlers of signals are as before afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


# ---- what a signal has raised ----


def _send_soon() -> None:
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()


def in_a_call_that_waits() -> None:
    _send_soon()
    time.sleep(60)


def between_instructions() -> None:
    _send_soon()
    while True:
        pass


def in_a_finally_clause() -> None:
    try:
        in_a_call_that_waits()
    finally:
        time.sleep(0)


def raised_again() -> None:
    try:
        in_a_call_that_waits()
    except KeyboardInterrupt as error:
        raise error


def sent_by_itself() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    "interrupted", [in_a_call_that_waits, between_instructions, in_a_finally_clause, raised_again, sent_by_itself]
)
def test_ctrl_c_is_told_wherever_it_comes(interrupted: Callable[[], None]) -> None:
    error = caught(interrupted)
    assert type(error) is KeyboardInterrupt
    assert ends_process(error)


class Handler:
    """Handlers of a signal: a method, and what is called itself."""

    def method(self, *_: object) -> None:
        sys.exit("terminated")

    def __call__(self, *_: object) -> None:
        raise KeyboardInterrupt


def function(*_: object) -> None:
    raise SystemExit(3)


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize(
    "handler", [function, Handler().method, Handler(), functools.partial(functools.partial(function, 1), 2)]
)
def test_what_a_handler_written_in_python_raises_is_of_the_signal(handler: Any) -> None:
    signal.signal(signal.SIGTERM, handler)
    assert ends_process(caught(lambda: signal.raise_signal(signal.SIGTERM)))


def test_the_second_ctrl_c_of_asyncios_runner_is_told() -> None:
    async def main() -> bool:
        signal.raise_signal(signal.SIGINT)  # the first one cancels
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(60)
        return ends_process(caught(sent_by_itself))

    assert asyncio.run(main())


def by_a_statement() -> None:
    raise KeyboardInterrupt


def from_another() -> None:
    raise KeyboardInterrupt from ValueError("a cause")


def after_cleaning_up() -> None:
    try:
        by_a_statement()
    except BaseException:
        time.sleep(0)
        raise


def by_exit() -> None:
    sys.exit(2)


def cancelled() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("code", [by_a_statement, from_another, after_cleaning_up, by_exit, cancelled])
def test_what_code_raises_is_not_of_a_signal(code: Callable[[], None]) -> None:
    assert not ends_process(caught(code))


def test_what_has_never_been_raised_is_not_of_a_signal() -> None:
    assert not ends_process(KeyboardInterrupt())


# ---- in words ----


class Odd(type):
    """A metaclass whose classes have no attributes that can be had."""

    def __getattribute__(cls, name: str) -> Any:
        if name in ("__module__", "__qualname__", "__mro__", "__str__"):
            raise SystemExit(name)
        return super().__getattribute__(name)


class Nameless(Exception, metaclass=Odd):  # noqa: N818
    pass


class Mute(Exception):  # noqa: N818
    """Everything that is asked of it raises, or is of a wrong type."""

    def __str__(self) -> str:
        raise KeyboardInterrupt

    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        raise SystemExit

    @property
    def args(self) -> Any:  # type: ignore[override]
        raise MemoryError


class Numeric(Exception):  # noqa: N818
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


def nested() -> BaseException:
    error: Exception = ValueError("innermost")
    for _ in range(20_000):
        error = ExceptionGroup("group", [error])
    return error


def circular() -> BaseException:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    return one


def shared(levels: int = 60) -> list[Any]:
    """What would take for ever to print."""
    value: list[Any] = [1]
    for _ in range(levels):
        value = [value, value]
    return value


ODD: dict[str, Callable[[], BaseException]] = {
    "no name": Nameless,
    "no text": Mute,
    "text is a number": Numeric,
    "bytes for a text": lambda: SyntaxError("bad", ("query", 1, 3, b"a b")),  # type: ignore[arg-type]
    "no clone": lambda: ValueError(print, open, object()),
    "shared": lambda: KeyError(shared()),
    "shared in an exception": lambda: ValueError(ValueError(shared())),
    "shared in its cause": lambda: _caused(ValueError("outer"), ValueError(shared())),
    "nested groups": nested,
    "circle": circular,
    "recursion": lambda: caught(_recurse),
    "memory": MemoryError,
    "surrogates": lambda: ValueError("\ud800"),
    "position that lies": lambda: UnicodeDecodeError("utf-8", b"x", 0, 1, "why"),
    "huge int": lambda: ValueError(1 << 100_000),
    "huge": lambda: ValueError("x" * 100_000_000),
    "of huge": lambda: ValueError(["x" * 1_000_000] * 1000),
}


def _caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


def _recurse() -> None:
    _recurse()


@pytest.mark.parametrize("name", ODD)
def test_whatever_was_raised_can_be_put_into_words_of_a_bounded_length(name: str) -> None:
    error = ODD[name]()
    for text in (text_of(error), trace(error), type_name(error), repr_of(error)):
        assert type(text) is str
        assert len(text) <= TEXT_MOST + 200


def test_the_traceback_is_as_python_prints_it_with_its_end_when_it_is_cut() -> None:
    text = trace(caught(lambda: [][0]))
    assert text.startswith("Traceback (most recent call last):")
    assert "in caught" in text
    assert text.endswith("IndexError: list index out of range\n")
    text = trace(ValueError("x" * 1_000_000 + "the end"))
    assert text.endswith("the end\n")
    assert "characters are left out" in text


def test_where_python_cannot_print_a_traceback_its_frames_are_there() -> None:
    def fail() -> None:
        raise SyntaxError("bad", ("query", 1, 3, b"a b"))  # type: ignore[arg-type]

    text = trace(caught(fail))
    assert "in fail" in text
    assert text.endswith(("SyntaxError: bad (query, line 1)\n", "SyntaxError: bad\n"))  # Python 3.15 can print it


def test_what_is_small_is_printed_and_what_shares_too_much_is_not() -> None:
    assert is_small([{"a": (1, 2, {3})}, b"x", object(), print, is_small, str])
    assert is_small(shared(10))
    assert not is_small(shared(20))
    assert text_of(ValueError([1, 2])) == "[1, 2]"
    assert text_of(KeyError(shared())) == "<the arguments of this KeyError are too large to print>"


# ---- what a callback is called with ----


def failed(callback: Callable[..., Any], count: int) -> BaseException:
    """The TypeError of a call, as who calls a listener sees it."""
    try:
        callback(*range(count + 1))
    except TypeError as error:
        return error
    raise AssertionError("it raised nothing")


def none() -> None:
    pass


def two(_event: object, _value: object) -> None:
    pass


def inner(_event: object) -> None:
    two(1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("callback", "count", "says"),
    [
        (
            none,
            0,
            "takes 0 positional arguments but 1 was given: it is called with the event first and then 0 arguments",
        ),
        (two, 0, "missing 1 required positional argument: '_value': it is called with the event first"),
        (two, 3, "takes 2 positional arguments but 4 were given: it is called with the event first and then 3 arg"),
        (lambda *, key: key, 0, "it is called with the event first and then 0 arguments of the message"),
    ],
)
def test_who_does_not_take_the_event_is_told_what_it_is_called_with(
    callback: Callable[..., Any], count: int, says: str
) -> None:
    assert says in str(explained(failed(callback, count), callback, count))


@pytest.mark.parametrize("callback", [inner, len, lambda event: event + "x"])
def test_a_type_error_from_within_is_as_it_is(callback: Callable[..., Any]) -> None:
    error = failed(callback, 0)
    assert explained(error, callback, 0) is error
