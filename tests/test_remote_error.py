# SPDX-License-Identifier: MIT
"""Errors as messages: what goes in comes out, and what was never an error comes out as DecodeError."""

from __future__ import annotations

import asyncio
import builtins
import copy
import pickle
import random
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from lensipc import DecodeError, LensIpcError, NoHandlerError, ProtocolError, RemoteError, clone, errors
from lensipc.runtime.remote_error import CAUSES, SUMMARY_BYTES, NoHandler, describe, read_summary, rebuild, summarize
from lensipc.user_code import TEXT_MOST

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
    rebuilt: Any = rebuild(describe(raised(Own())))
    assert UnicodeDecodeError in type(rebuilt).__mro__
    assert rebuilt.remote_type == f"{__name__}.Own"
    assert rebuilt.args == (str(Own()),)


def test_mains_own_word_that_there_is_no_handler_comes_as_itself_and_a_handlers_does_not() -> None:
    rebuilt = rebuild(describe(NoHandler("no such channel")))
    assert type(rebuilt) is NoHandlerError
    assert str(rebuilt) == "no such channel"
    assert not isinstance(rebuild(describe(NoHandlerError("of another request"))), NoHandlerError)


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


def test_the_remote_traceback_is_shown_with_the_error() -> None:
    assert "in raised" in rebuild(describe(raised(ValueError("x")))).__notes__[0]


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
    rebuilt: Any = rebuild(body(text="x" * 1_000_000, args=("y" * 1_000_000,), traceback="z" * 1_000_000))
    assert ValueError in type(rebuilt).__mro__
    assert len(rebuilt.remote_message) == 1_000_000


def test_causes_without_end_are_cut() -> None:
    described: Any = None
    for _ in range(900):
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


# ---- errors of lensipc's own, and what becomes of a rebuilt one ----

OWN = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LensIpcError)]
# Outcomes of a request: one that a handler has met with is no outcome of the request to that handler.
OUTCOMES = {"PeerGone", "InvokeTimeout", "NoHandlerError"}


@pytest.mark.parametrize("kind", [kind for kind in OWN if kind.__name__ not in OUTCOMES])
def test_an_error_of_lensipcs_own_is_caught_by_its_own_type_too(kind: type[LensIpcError]) -> None:
    rebuilt = rebuild(describe(raised(kind("why"))))
    assert isinstance(rebuilt, kind)
    assert isinstance(rebuilt, RemoteError)
    assert rebuilt.args == ("why",)
    assert rebuilt.remote_type == f"lensipc.errors.{kind.__name__}"


def test_an_outcome_of_another_request_is_caught_by_its_builtin_base_alone() -> None:
    for kind, base in ((errors.PeerGone, ConnectionError), (errors.InvokeTimeout, TimeoutError)):
        rebuilt = rebuild(describe(kind("of another")))
        assert isinstance(rebuilt, base)
        assert isinstance(rebuilt, RemoteError)
        assert not isinstance(rebuilt, kind)


def test_a_group_comes_with_what_is_in_it() -> None:
    group = ExceptionGroup("several", [ValueError("one"), ExceptionGroup("more", [KeyError("two")])])
    rebuilt = rebuild(describe(raised(group)))
    assert isinstance(rebuilt, ExceptionGroup)
    values, _ = rebuilt.split(ValueError)
    assert values is not None
    assert values.exceptions[0].args == ("one",)
    assert isinstance(rebuilt.exceptions[1].exceptions[0], KeyError)


def test_a_hundred_groups_of_groups_do_not_grow_without_bound() -> None:
    group = ValueError("x")
    for _ in range(5):
        group = ExceptionGroup("g" * 1000, [group] * 10)  # type: ignore[assignment]
    assert len(describe(group)) < 32 * 1024 * 1024


REBUILT = [
    KeyError("missing"),
    OSError(2, "gone", "a/path"),
    errors.OutboxFull("full"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "why"),
    SyntaxError("bad", ("file.py", 1, 2, "text")),
    ImportError("none", name="module"),
    ExceptionGroup("several", [ValueError(1)]),
    Own(),
    SystemExit(3),
]


@pytest.mark.parametrize("error", REBUILT, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_a_remote_error_can_be_pickled_and_copied(error: BaseException, again: Any) -> None:
    rebuilt = rebuild(describe(raised(error)))
    other = again(rebuilt)
    assert type(other) is type(rebuilt)
    assert (str(other), repr(other)) == (str(rebuilt), repr(rebuilt))
    for name in ("remote_type", "remote_message", "remote_traceback", "__notes__"):
        assert getattr(other, name) == getattr(rebuilt, name)


def test_the_type_that_was_raised_shows_in_the_repr_and_in_a_traceback() -> None:
    rebuilt = rebuild(describe(KeyError("missing")))
    assert repr(rebuilt) == "RemoteError[KeyError]('missing')"
    assert "RemoteError[KeyError]: 'missing'" in traceback.format_exception_only(rebuilt)[0]
    assert repr(rebuild(describe(Odd("text")))) == f"RemoteError[{__name__}.Odd]('text')"
    assert repr(RemoteError("plain")) == "RemoteError('plain')"


# ---- bounds, and what cannot be described ----


class Mute(Exception):  # noqa: N818
    """Nothing of it can be had."""

    def __str__(self) -> str:
        raise KeyboardInterrupt

    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        raise SystemExit

    @property
    def args(self) -> Any:  # type: ignore[override]
        raise MemoryError


def _deep() -> BaseException:
    error: Exception = ValueError("innermost")
    for _ in range(20_000):
        error = ExceptionGroup("group", [error])
    return error


def _shared() -> BaseException:
    value: list[Any] = [1]
    for _ in range(60):
        value = [value, value]
    return KeyError(value)


def _circle() -> BaseException:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    return one


UNDESCRIBABLE: dict[str, Callable[[], BaseException]] = {
    "mute": Mute,
    "deep": _deep,
    "shared": _shared,
    "circle": _circle,
    "bytes": lambda: SyntaxError("bad", ("query", 1, 3, b"a b")),  # type: ignore[arg-type]
    "large text": lambda: ValueError("x" * 50_000_000),
    "large args": lambda: ValueError(*range(1_000_000)),
    "large int": lambda: ValueError(1 << 1_000_000),
    "large type": lambda: type("x" * 1_000_000, (Exception,), {})(),
    "memory": MemoryError,
    "recursion": lambda: RecursionError("deep"),
    "cancelled": asyncio.CancelledError,
    "array": lambda: ValueError(np.zeros((100, 100))),
}


@pytest.mark.parametrize("name", UNDESCRIBABLE)
def test_whatever_was_raised_is_described_and_summarized_within_bounds(name: str) -> None:
    error = UNDESCRIBABLE[name]()
    body = describe(error)
    assert len(body) < 16 * TEXT_MOST
    rebuilt = rebuild(body)
    assert isinstance(rebuilt, RemoteError)
    assert "".join(traceback.format_exception(rebuilt))  # it can be printed there
    assert len(summarize(error)) <= SUMMARY_BYTES
    summary = read_summary(summarize(error))
    assert f"{summary.remote_type}: {summary}".isprintable()


# ---- up: two texts ----


def test_a_summary_says_the_type_and_the_text() -> None:
    summary = read_summary(summarize(ValueError("no such folder")))
    assert (summary.remote_type, str(summary)) == ("ValueError", "no such folder")
    assert type(summary) is RemoteError


def test_what_could_forge_a_line_of_the_log_is_escaped() -> None:
    summary = read_summary("Type\nx\0one\r\ntwo \x1b[31m \u202e \u2028 \x85 é 漢".encode())
    assert summary.remote_type == "Type\\nx"
    assert str(summary) == "one\\r\\ntwo \\x1b[31m \\u202e \\u2028 \\x85 é 漢"


def test_any_bytes_are_a_summary_on_one_line_of_a_bounded_length() -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for _ in range(2_000):
        summary = read_summary(rng.randbytes(rng.choice([0, 1, 10, 1000, SUMMARY_BYTES])))
        assert f"{summary.remote_type}{summary}".isprintable()
        assert len(f"{summary.remote_type}{summary}") < 50_000


def test_a_summary_longer_than_any_that_is_made_is_refused() -> None:
    with pytest.raises(ProtocolError, match=f"an error of {SUMMARY_BYTES + 1} bytes"):
        read_summary(bytes(SUMMARY_BYTES + 1))
