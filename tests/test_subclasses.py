"""What arrives of an instance of a subclass is its value, or its sender hears that there is no clone of it."""

from __future__ import annotations

import array
import collections
import datetime as dt
import decimal
import enum
import fractions
import http
import signal
import sys
import time
import types
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lensipc import clone
from lensipc.errors import DataCloneError

# For each base that may have subclasses: the arguments that make values of it.
VALUES: dict[type, list[tuple[Any, ...]]] = {
    int: [(0,), (-1,), (1 << 70,)],
    float: [(0.0,), (-1.5,), (float("inf"),)],
    complex: [(1, -2.5)],
    str: [("",), ("text \udc80",)],
    bytes: [(b"",), (b"bytes",)],
    bytearray: [(b"bytes",)],
    list: [(), ([1, "two"],)],
    tuple: [(), ((1, "two"),)],
    dict: [(), ({1: "one", "two": 2},)],
    set: [(), ({1, 2},)],
    frozenset: [(), ({1, 2},)],
    collections.OrderedDict: [({2: 1, 1: 2},)],
    collections.defaultdict: [(list, {1: [2]})],
    collections.Counter: [("aab",)],
    dt.datetime: [(2024, 1, 2, 3, 4, 5, 678901), (1, 1, 1), (9999, 12, 31, 0, 0, 0, 0, dt.UTC)],
    dt.date: [(2024, 1, 2), (1, 1, 1)],
    dt.time: [(1, 2, 3, 4), (23, 0, 0, 0, dt.UTC)],
    dt.timedelta: [(1, 2, 3), (-999999999,), (0, 0, 1)],
    decimal.Decimal: [("1.50",), ("-Infinity",), ("1E+400",)],
    fractions.Fraction: [(1, 3), (-(1 << 70), 7)],
    uuid.UUID: [("12345678123456781234567812345678",)],
    array.array: [("d", [1.5, 2.5]), ("b", [])],
    np.ndarray: [((2, 3), "u1", bytes(range(6)))],
    np.float64: [(2.5,)],
    np.complex128: [(1 - 2j,)],
    np.str_: [("text",)],
    np.bytes_: [(b"bytes",)],
}
ARRIVES = {
    collections.OrderedDict: dict,
    collections.defaultdict: dict,
    collections.Counter: dict,
    np.float64: float,
    np.complex128: complex,
    np.str_: str,
    np.bytes_: bytes,
}
"""What a subclass arrives as, where that is not the base itself."""

LIES = [
    "__eq__",
    "__ne__",
    "__lt__",
    "__len__",
    "__iter__",
    "__getitem__",
    "__contains__",
    "__bool__",
    "__int__",
    "__index__",
    "__float__",
    "__complex__",
    "__str__",
    "__repr__",
    "__bytes__",
    "__reduce__",
    "__reduce_ex__",
    "__getstate__",
    "__pos__",
    "__abs__",
    "__buffer__",
    "__array__",
    "keys",
    "items",
    "values",
    "get",
    "tobytes",
    "isoformat",
    "utcoffset",
    "total_seconds",
    "as_tuple",
    "hex",
]


def lie(*_: object) -> Any:
    raise AssertionError("a method of a user's class has run")


def plain(base: type) -> type:
    return types.new_class("Plain", (base,))


def slotted(base: type) -> type:
    # Those of no fixed size can have no slots with a name.
    return types.new_class("Slotted", (base,), {}, lambda namespace: namespace.update(__slots__=()))


def lying(base: type) -> type:
    return types.new_class("Lying", (base,), {}, lambda namespace: namespace.update(dict.fromkeys(LIES, lie)))


def twice(base: type) -> type:
    return plain(lying(plain(base)))


def mixed(base: type) -> type:
    return types.new_class("Mixed", (types.new_class("Beside"), base))


@pytest.mark.parametrize("made", [plain, slotted, lying, twice, mixed])
@pytest.mark.parametrize("base", VALUES, ids=lambda base: base.__name__)
def test_a_subclass_that_a_statement_makes_arrives_as_its_bases_value(base: type, made: Callable[[type], type]) -> None:
    kind = made(base)
    for arguments in VALUES[base]:
        try:
            value = kind(*arguments)
        except AssertionError:  # the constructor itself asks the class
            continue
        expected = base(*arguments)
        arrives: Any = ARRIVES.get(base, base)
        back = clone.decode(clone.encode([value]))[0]
        assert type(back) is arrives
        if base is np.ndarray:
            assert back.dtype == expected.dtype
            assert np.array_equal(back, expected)
        else:
            assert back == (expected if arrives is base else arrives(expected))


class Named(enum.Enum):
    TEXT = "text"
    PAIR = (1, 2.5)


class Coordinate(bytes, enum.Enum):
    """A member that holds bytes, and has another value."""

    def __new__(cls, value: int, _unit: str) -> Coordinate:
        member = bytes.__new__(cls, b"held")
        member._value_ = value
        return member

    PX = (7, "P.X")


class Bits(enum.IntFlag):
    ONE = 1
    FOUR = 4


MEMBERS = [*Named, *Coordinate, Bits.ONE | Bits.FOUR, signal.SIGINT, http.HTTPStatus.NOT_FOUND, http.HTTPMethod.GET]


@pytest.mark.parametrize("member", MEMBERS, ids=str)
def test_a_member_of_an_enum_arrives_as_its_value_whatever_it_is_besides(member: enum.Enum) -> None:
    back = clone.decode(clone.encode(member))
    assert back == member.value
    assert type(back) is type(member.value)


@pytest.mark.parametrize(
    "value", [Path().stat(), time.localtime(0), sys.version_info, sys.flags], ids=lambda v: type(v).__name__
)
def test_a_named_tuple_of_c_arrives_as_the_tuple_that_it_compares_as(value: tuple[Any, ...]) -> None:
    back = clone.decode(clone.encode(value))
    assert type(back) is tuple
    assert back == value


def refused(value: object) -> str:
    with pytest.raises(DataCloneError) as raised:
        clone.encode({"key": [value]})
    return str(raised.value)


def test_a_subclass_that_c_code_makes_is_refused_and_so_are_its_own() -> None:
    xxsubtype = pytest.importorskip("xxsubtype")
    for kind, base in (xxsubtype.spamlist, "list"), (xxsubtype.spamdict, "dict"):
        for each in (kind, plain(kind), slotted(plain(kind)), mixed(kind)):
            said = refused(each())
            assert said.startswith("value['key'][0] is a")
            assert f"a subclass of {base} made in C, and may keep its value elsewhere: register it with lensipc" in said


def test_what_was_refused_crosses_once_it_is_registered_and_no_longer_then() -> None:
    xxsubtype = pytest.importorskip("xxsubtype")
    refused(xxsubtype.spamlist())
    forget = clone.register(xxsubtype.spamlist, "spam", lambda spam: [*spam], xxsubtype.spamlist)
    try:
        assert clone.decode(clone.encode(xxsubtype.spamlist([1, 2]))) == [1, 2]
    finally:
        forget()
    refused(xxsubtype.spamlist())


def test_times_of_pandas_which_keep_their_value_beside_the_datetime_are_refused() -> None:
    pd = pytest.importorskip("pandas")
    for value in (
        pd.NaT,
        pd.Timestamp("2024-01-02 03:04:05.123456789"),
        pd.Timestamp(np.datetime64("12000-01-01", "s")),
        pd.Timedelta("1ns"),
        pd.Timedelta(np.timedelta64(10**12, "s")),
    ):
        assert "call lensipc.adapters.enable('pandas') in both processes" in refused(value)
    stamp = pd.Timestamp("2024-01-02 03:04:05.123456")
    assert clone.decode(clone.encode(stamp.to_pydatetime())) == stamp


def test_a_namespace_with_slots_arrives_with_all_its_attributes() -> None:
    class Slotted(types.SimpleNamespace):
        __slots__ = ("x", "y")

    class Below(Slotted):
        __slots__ = ("z",)

    slotted = Below(a=1)
    slotted.x, slotted.z = 2, 3
    assert clone.decode(clone.encode(slotted)) == {"a": 1, "x": 2, "z": 3}
    assert clone.decode(clone.encode(types.SimpleNamespace(a=1))) == {"a": 1}
