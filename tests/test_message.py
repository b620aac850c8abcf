# SPDX-License-Identifier: MIT
"""Errors as messages: what goes in comes out, and what was never an error comes out as DecodeError."""

from __future__ import annotations

import builtins
import random
import sys
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from lensipc import DecodeError, NoHandlerError, RemoteError, clone, errors
from lensipc.message import CAUSES, describe, rebuild

ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "UnicodeDecodeError": ("utf-8", b"\xff", 0, 1, "why"),
    "UnicodeEncodeError": ("utf-8", "\ud800", 0, 1, "why"),
    "UnicodeTranslateError": ("\ud800", 0, 1, "why"),
    "SyntaxError": ("bad", ("file.py", 1, 2, "text")),
    "IndentationError": ("bad", ("file.py", 1, 2, "text")),
    "TabError": ("bad", ("file.py", 1, 2, "text")),
    "ExceptionGroup": ("several", [ValueError("one"), KeyError("two")]),
    "OSError": (2, "gone", "path"),
}
BUILTINS = sorted(
    kind.__name__
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, Exception) and name == kind.__name__ and name[0] != "_"
)
# Python itself acts on these when they leave a coroutine, so they come as RemoteError alone.
SPECIAL = {"StopIteration", "StopAsyncIteration"}


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    """The same error, having been raised."""
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def body(**changes: Any) -> bytes:
    """A good description with something changed in it."""
    return clone.encode(clone.decode(describe(raised(ValueError("bad", 7)))) | changes)


@pytest.mark.parametrize("name", [name for name in BUILTINS if name not in SPECIAL])
def test_every_builtin_exception_is_caught_by_its_own_type_and_has_its_args(name: str) -> None:
    kind = getattr(builtins, name)
    original = kind(*ARGUMENTS.get(name, ("text", 7)))
    rebuilt = rebuild(describe(raised(original)))
    assert isinstance(rebuilt, kind)
    assert isinstance(rebuilt, RemoteError)
    assert str(rebuilt) == str(original)
    if name != "ExceptionGroup":
        assert rebuilt.args == original.args
    assert rebuilt.remote_type == type(original).__name__  # OSError makes a FileNotFoundError of 2
    assert rebuilt.remote_message == str(original)
    assert "in raised" in rebuilt.remote_traceback


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, StopAsyncIteration])
def test_an_exception_that_would_disturb_its_receiver_comes_as_remote_error_alone(kind: type[BaseException]) -> None:
    rebuilt = rebuild(describe(raised(kind("text"))))
    assert type(rebuilt) is RemoteError
    assert rebuilt.remote_type == kind.__name__


def test_an_os_error_keeps_its_file_name() -> None:
    rebuilt = rebuild(describe(FileNotFoundError(2, "gone", "/a/file")))
    assert isinstance(rebuilt, FileNotFoundError)
    assert (rebuilt.errno, rebuilt.filename) == (2, "/a/file")


class Own(UnicodeDecodeError):  # noqa: N818
    """A subclass with a constructor of its own."""

    def __init__(self) -> None:
        super().__init__("utf-8", b"x", 0, 1, "own")


def test_a_subclass_is_caught_by_its_nearest_builtin_whatever_that_one_is_made_of() -> None:
    rebuilt = rebuild(describe(raised(Own())))
    assert isinstance(rebuilt, UnicodeDecodeError)
    assert rebuilt.remote_type == f"{__name__}.Own"
    assert rebuilt.args == (str(Own()),)


def test_no_handler_error_comes_as_itself() -> None:
    rebuilt = rebuild(describe(NoHandlerError("no such channel")))
    assert type(rebuilt) is NoHandlerError
    assert str(rebuilt) == "no such channel"


def test_causes_are_followed_so_far_and_no_farther() -> None:
    error: BaseException = KeyError(0)
    for number in range(1, 50):
        error = raised(ValueError(number), error)
    rebuilt: BaseException | None = rebuild(describe(error))
    chain = []
    while rebuilt is not None:
        chain.append(rebuilt.args[0])
        rebuilt = rebuilt.__cause__
    assert chain == list(range(49, 49 - CAUSES - 1, -1))


def test_a_cause_that_is_its_own_cause_ends() -> None:
    error = ValueError("round")
    error.__cause__ = error
    assert rebuild(describe(error)).args == ("round",)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes came with Python 3.11")
def test_the_remote_traceback_is_shown_with_the_error() -> None:
    assert "in raised" in rebuild(describe(raised(ValueError("x")))).__notes__[0]  # type: ignore[attr-defined]


class Odd(Exception):  # noqa: N818
    """Its text cannot be had, or is no plain str."""

    def __init__(self, text: Any) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        if isinstance(self.text, str):
            return self.text
        raise RuntimeError("no text")


class Text(str):
    """A str that has no clone, being of a class of its own."""

    __slots__ = ()


class Unprintable:
    """What has neither a clone nor a repr."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


@pytest.mark.parametrize(
    "error",
    [Odd(None), Odd(Text("text")), ValueError(Unprintable()), ValueError(print, open), KeyError(Text("k")), OSError()],
)
def test_describing_never_raises(error: Exception) -> None:
    assert isinstance(rebuild(describe(raised(error))), RemoteError)


NONSENSE = [None, 1, True, 1.5, "text", b"bytes", [], (), {}, {1: 2}, [["type"]], np.zeros(3), {"cause": None}]


@pytest.mark.parametrize("value", NONSENSE, ids=repr)
def test_what_is_no_description_is_a_decode_error(value: Any) -> None:
    with pytest.raises(DecodeError):
        rebuild(clone.encode(value))


@pytest.mark.parametrize("field", ["type", "base", "text", "args", "traceback", "no_handler", "cause"])
@pytest.mark.parametrize("value", NONSENSE, ids=repr)
def test_a_field_of_the_wrong_type_is_a_decode_error_and_nothing_else(field: str, value: Any) -> None:
    try:
        rebuilt = rebuild(body(**{field: value}))
    except DecodeError:
        return
    assert isinstance(rebuilt, (RemoteError, NoHandlerError))  # where that value will do


@pytest.mark.parametrize("field", ["type", "base", "text", "args", "traceback", "no_handler"])
def test_a_field_that_is_missing_is_a_decode_error(field: str) -> None:
    described = clone.decode(body())
    del described[field]
    with pytest.raises(DecodeError):
        rebuild(clone.encode(described))


@pytest.mark.parametrize(
    "name",
    ["Exception", "BaseException", "SystemExit", "KeyboardInterrupt", "eval", "__import__", "no such", "", "int"],
)
def test_a_builtin_that_is_no_exception_to_raise_is_remote_error_alone(name: str) -> None:
    assert type(rebuild(body(base=name))) is RemoteError


def test_a_hostile_name_of_a_builtin_is_not_kept() -> None:
    errors._and_remote.cache_clear()
    for number in range(100):
        rebuild(body(base=f"no such {number}"))
    assert errors._and_remote.cache_info().currsize == 0


def test_a_huge_error_is_an_error() -> None:
    rebuilt = rebuild(body(text="x" * 1_000_000, args=("y" * 1_000_000,), traceback="z" * 1_000_000))
    assert isinstance(rebuilt, ValueError)
    assert len(rebuilt.remote_message) == 1_000_000


def test_causes_without_end_are_cut() -> None:
    described: Any = None
    for _ in range(5_000):
        described = clone.decode(body()) | {"cause": described}
    rebuilt: BaseException | None = rebuild(clone.encode(described))
    length = 0
    while rebuilt is not None:
        rebuilt, length = rebuilt.__cause__, length + 1
    assert length == CAUSES + 1


def test_random_bytes_are_a_decode_error_or_an_error_and_nothing_else() -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    good = body()
    for _ in range(2_000):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        with suppress(DecodeError):
            assert isinstance(rebuild(bytes(data[: rng.choice([len(data), rng.randrange(len(data))])])), Exception)
