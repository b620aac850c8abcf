# SPDX-License-Identifier: MIT
"""What arrives, what is lost and what raises: docs/clone.md, row by row."""

from __future__ import annotations

import array
import collections
import contextvars
import dataclasses
import datetime as dt
import enum
import functools
import gc
import io
import ipaddress
import itertools
import math
import mmap
import os
import pathlib
import pickle
import queue
import random
import re
import socket
import struct
import sys
import threading
import traceback
import types
import uuid
import weakref
import zoneinfo
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensipc import clone
from lensipc.clone import Limits, constructors
from lensipc.errors import DataCloneError, DecodeError


def there_and_back(value: Any) -> Any:
    """A clone, made by `decode`; `decode_owned` of the same message and of the pieces must agree."""
    body = clone.encode(value)
    pieces = clone.encode_parts(value)
    assert (pieces if isinstance(pieces, bytes) else b"".join(pieces)) == body
    clone.decode_owned(memoryview(bytearray(body)))
    return clone.decode(body)


def same(arrived: Any, expected: Any) -> bool:
    return type(arrived) is type(expected) and bool(arrived == expected)


class Plain:
    color = "of the class"

    def __init__(self) -> None:
        self.x = 1
        self._y = [2]
        self.__z = None

    @property
    def danger(self) -> None:
        raise AssertionError("a property was read")


@dataclasses.dataclass
class Point:
    x: int
    y: list[int]


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: int = 1


class Slotted:
    __slots__ = ("a", "b", "unset")

    def __init__(self) -> None:
        self.b = 2
        self.a = 1


class SlottedWithDict(Slotted):
    def __init__(self) -> None:
        super().__init__()
        self.c = 3


Pair = collections.namedtuple("Pair", "left right")


class Color(enum.Enum):
    RED = "r"


class Level(enum.IntEnum):
    LOW = 1


class Bits(enum.Flag):
    A = 1
    B = 2


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise AssertionError("an override was called")


class Number(int):
    def __index__(self) -> int:
        raise AssertionError("an override was called")

    __int__ = __pos__ = __add__ = __index__  # type: ignore[assignment]


class Items(list):  # type: ignore[type-arg]
    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("an override was called")

    __len__ = __getitem__ = __iter__  # type: ignore[assignment]


class Mapping(dict):  # type: ignore[type-arg]
    def items(self) -> Any:
        raise AssertionError("an override was called")

    __iter__ = keys = values = __getitem__ = items  # type: ignore[assignment]


class Elements(set):  # type: ignore[type-arg]
    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("an override was called")


class Twisted(tuple):  # type: ignore[type-arg]
    __slots__ = ()

    def __getitem__(self, index: Any) -> Any:
        raise AssertionError("an override was called")

    __iter__ = __len__ = __getitem__  # type: ignore[assignment]


ARRIVES_AS_IT_IS: list[Any] = [
    None, True, False, 0, 1, -1, 255, 256, 65535, 65536, 2**31 - 1, -(2**31), 2**31, 2**63, -(2**63), 2**64,
    -(2**70), 1 << 3000, 0.0, 1.5, math.inf, -math.inf, 5e-324, sys.float_info.max, "", "a", "\0", "é", "🎈",
    "\ud800", "x" * 300, "ä" * 100_000, b"", b"a", bytes(300), bytes(100_000), bytearray(), bytearray(b"a"),
    bytearray(100_000), [], [1, [2]], (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {}, {"b": 1, "a": 2},
    {1: 2, (1, "a"): 3, None: 4, 1.5: 5, b"x": 6}, {frozenset({1}): 1}, set(), {1, "a"}, frozenset(),
    frozenset({1, (2, 3)}), 1 + 2j, complex(math.inf, -0.0), range(5), range(1, -(10**30), -3),
    dt.datetime(2020, 1, 2, 3, 4, 5, 6), dt.datetime(1, 1, 1), dt.datetime.max,
    dt.datetime(2020, 10, 25, 2, 30, fold=1), dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
    dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-3, microseconds=7))),
    dt.datetime(2020, 6, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Paris")), dt.date(2020, 2, 29), dt.date.max,
    dt.time(1, 2, 3, 4), dt.time(1, fold=1), dt.time(1, tzinfo=dt.UTC), dt.timedelta(-1, 2, 3),
    dt.timedelta.max, dt.UTC, zoneinfo.ZoneInfo("Europe/Paris"), Decimal("1.50"), Decimal("-0"),
    Decimal("Infinity"), Decimal("1E+999999"), Decimal((1, (1, 2, 3), -5)), Fraction(-7, 3),
    uuid.UUID(int=5), uuid.uuid4(), pathlib.Path("/a/ü b"), pathlib.PurePosixPath("a"),
    pathlib.PureWindowsPath("C:\\x"), ipaddress.ip_address("10.0.0.1"),
    ipaddress.ip_address("fe80::1%eth0"), ipaddress.ip_network("10.0.0.0/8"),
    ipaddress.ip_interface("::1/64"), re.compile(r"a(?P<n>[b-d]+)", re.IGNORECASE | re.MULTILINE),
    re.compile(b"\xff"), array.array("d", [1.5, 2.5]), array.array("B"), array.array("q", range(20_000)),
    array.array("u", "aé"), np.bool_(True), np.int8(-1), np.uint64(2**64 - 1), np.float16(0.5),
    np.float64(2.5), np.longdouble(1) / 3, np.complex64(1j), np.datetime64("2020-01-01"),
    np.timedelta64(3, "h"),
]  # fmt: skip


@pytest.mark.parametrize("value", ARRIVES_AS_IT_IS, ids=lambda v: f"{type(v).__name__}-{repr(v)[:30]}")
def test_a_plain_value_arrives_as_it_is(value: Any) -> None:
    arrived = there_and_back(value)
    assert same(arrived, value)
    if isinstance(value, (dict, list, tuple)):
        assert repr(arrived) == repr(value)
    if isinstance(value, (dt.datetime, dt.time)):
        assert (arrived.fold, arrived.utcoffset()) == (value.fold, value.utcoffset())


@pytest.mark.parametrize("bits", [0x7FF8000000000000, 0xFFF8000000000123, 0x8000000000000000, 1])
def test_floats_arrive_bit_by_bit(bits: int) -> None:
    value = struct.unpack("<d", struct.pack("<Q", bits))[0]
    assert struct.pack("<d", there_and_back(value)) == struct.pack("<Q", bits)


def test_a_decimal_that_is_no_number_arrives() -> None:
    assert str(there_and_back(Decimal("-NaN123"))) == "-NaN123"
    assert str(there_and_back(Decimal("sNaN"))) == "sNaN"


ARRIVES_AS: list[tuple[Any, Any]] = [
    (Plain(), {"x": 1, "_y": [2], "_Plain__z": None}), (Point(1, [2]), {"x": 1, "y": [2]}),
    (Frozen(), {"x": 1}), (Slotted(), {"a": 1, "b": 2}), (SlottedWithDict(), {"a": 1, "b": 2, "c": 3}),
    (types.SimpleNamespace(a=1), {"a": 1}), (Pair(1, [2]), (1, [2])), (Color.RED, "r"), (Level.LOW, 1),
    (Bits.A | Bits.B, 3), (Text("t"), "t"), (Number(-7), -7), (Number(2**70), 2**70),
    (Items([1, 2]), [1, 2]), (Mapping(a=1), {"a": 1}), (Elements({1}), {1}), (Twisted((1, 2)), (1, 2)),
    (collections.OrderedDict([("b", 1), ("a", 2)]), {"b": 1, "a": 2}),
    (collections.defaultdict(list, a=[1]), {"a": [1]}), (collections.Counter("aab"), {"a": 2, "b": 1}),
    (type("F", (float,), {})(1.5), 1.5), (type("B", (bytes,), {})(b"b"), b"b"),
    (type("A", (bytearray,), {})(b"b"), bytearray(b"b")),
    (type("Z", (frozenset,), {})([1]), frozenset([1])), (type("C", (complex,), {})(1j), 1j),
    (type("D", (dt.datetime,), {})(2020, 1, 1), dt.datetime(2020, 1, 1)),
    (type("E", (Decimal,), {})("1.5"), Decimal("1.5")), (memoryview(b"abcdef")[::2], b"ace"),
    (memoryview(bytes(200_000)), bytes(200_000)),
    (memoryview(array.array("i", [1, 2])), array.array("i", [1, 2]).tobytes()), (np.str_("a"), "a"),
    (np.bytes_(b"a\0"), b"a\0"), (pickle.PickleBuffer(b"abc"), b"abc"),
    (dt.datetime(2020, 1, 1, tzinfo=type("Own", (dt.tzinfo,), {"utcoffset": lambda _, __: dt.timedelta(hours=1)})()),
     dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))),
]  # fmt: skip


@pytest.mark.parametrize(("value", "expected"), ARRIVES_AS, ids=lambda v: type(v).__name__)
def test_a_value_of_a_class_arrives_as_plain_data(value: Any, expected: Any) -> None:
    arrived = there_and_back(value)
    assert same(arrived, expected)
    if isinstance(expected, dict):
        assert list(arrived.items()) == list(expected.items())


def test_an_ordered_dict_arrives_in_its_own_order() -> None:
    value = collections.OrderedDict(a=1, b=2)
    value.move_to_end("a")
    assert list(there_and_back(value)) == ["b", "a"]


# ---- no code of the user's runs


class Hostile:
    """Everything that a pickler or a naive clone might call."""

    def __init__(self) -> None:
        object.__setattr__(self, "kept", 1)

    def _never(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("user code ran")

    __reduce__ = __reduce_ex__ = __getstate__ = __deepcopy__ = __copy__ = __getnewargs_ex__ = _never
    __getattr__ = __getattribute__ = __iter__ = __len__ = __eq__ = __repr__ = __str__ = _never
    __hash__ = __bool__ = __class_getitem__ = __sizeof__ = _never
    __class__ = property(_never)


class HostileMeta(type):
    def __getattribute__(cls, name: str) -> Any:
        raise AssertionError("a metaclass ran")

    __instancecheck__ = __subclasscheck__ = __hash__ = __eq__ = __repr__ = __getattribute__  # type: ignore


class HiddenByAProperty:
    __dict__ = property(lambda _self: {"computed": 1})


class HiddenByANumber:
    __dict__ = 5  # type: ignore[assignment]


class HasAttributes:
    pass


class LeavesOutBases(type):
    def mro(cls) -> list[type]:
        return [cls, object]


class HiddenByItsMro(HasAttributes, metaclass=LeavesOutBases):
    pass


@pytest.mark.parametrize("kind", [HiddenByAProperty, HiddenByANumber, HiddenByItsMro])
def test_attributes_that_cannot_be_found_raise_and_do_not_vanish(kind: type[Any]) -> None:
    value = kind()
    value.kept = 1
    with pytest.raises(DataCloneError, match=kind.__name__):
        clone.encode([value])


def test_nothing_of_a_class_runs() -> None:
    assert there_and_back([Hostile()]) == [{"kept": 1}]


def test_nothing_of_a_metaclass_runs() -> None:
    made: Any = HostileMeta("Made", (), {})
    value = object.__new__(made)
    assert there_and_back([value]) == [{}]


def test_nothing_of_copyreg_runs() -> None:
    import copyreg

    def never(_: Any) -> Any:
        raise AssertionError("user code ran")

    copyreg.pickle(Plain, never)
    try:
        assert there_and_back(Plain())["x"] == 1
    finally:
        del copyreg.dispatch_table[Plain]


def test_a_dict_property_does_not_stand_for_the_dict() -> None:
    class Honest(Plain):
        @property
        def __dict__(self) -> Any:  # type: ignore[override]
            raise AssertionError("a property was read")

    assert there_and_back(Honest())["x"] == 1


# ---- what has no clone


def unclonables() -> list[tuple[str, Any]]:
    def generator() -> Iterator[int]:
        yield 1

    async def coroutine() -> None: ...

    waiting = coroutine()
    waiting.close()
    try:
        raise ValueError
    except ValueError as error:
        traceback = error.__traceback__
    released = memoryview(b"x")
    released.release()
    found: list[tuple[str, Any]] = [
        ("a function", generator), ("a function", lambda: None), ("a built-in function", len),
        ("a method", Plain.__init__.__get__(Plain())), ("the class int", int), ("", Plain), ("a module", sys),
        ("a property", property(len)), ("", functools.partial(len)), ("a generator", generator()),
        ("a coroutine", waiting), ("", iter([])), ("", zip()), ("", map(len, [])), ("", threading.Lock()),
        ("", threading.RLock()), ("", threading.Thread()), ("", threading.local()), ("", threading.Event()),
        ("", queue.Queue()), ("", io.StringIO()), ("", io.BytesIO()), ("", socket.socket()),
        ("", mmap.mmap(-1, 10)), ("", weakref.ref(Plain)), ("", weakref.WeakSet()),
        ("", weakref.WeakKeyDictionary()), ("a code object", generator.__code__),
        ("a frame", sys._getframe()), ("a traceback", traceback), ("", re.match("a", "a")),
        ("", contextvars.ContextVar("v")), ("Ellipsis", ...), ("NotImplemented", NotImplemented),
        ("a bare object", object()), ("a released memoryview", released),
        ("an array of objects", np.array([None])), ("a masked array", np.ma.masked_array([1])),
        ("", np.random.default_rng()), ("", np.add), ("", types.MappingProxyType({})), ("", {}.keys()),
        ("", collections.deque()), ("", Path()),
        ("an array of objects", np.array([(1, None)], [("a", "i4"), ("b", "O")])), ("", os.scandir(".")),
    ]  # fmt: skip
    if hasattr(np, "dtypes") and hasattr(np.dtypes, "StringDType"):
        found.append(("an array of", np.array(["a"], np.dtypes.StringDType())))
    return found


class Path:
    """Has no dict, but a C base."""

    def __new__(cls) -> Any:
        import ctypes

        return ctypes.pointer(ctypes.c_int(1))


@pytest.mark.parametrize(("what", "value"), unclonables(), ids=lambda v: str(v)[:30])
def test_what_has_no_clone_has_none_at_any_depth(what: str, value: Any) -> None:
    holder = Plain()
    holder.x = value
    for outer in (
        value,
        [value],
        (1, value),
        {"a": {"b": [value]}},
        holder,
        Items([value]),
        {1: Pair(1, value)},
    ):
        with pytest.raises(DataCloneError) as raised:
            clone.encode(outer)
        assert what in str(raised.value)
    try:
        hash(value)
    except (TypeError, ValueError):
        pass
    else:
        for outer in ({value: 1}, {value}, frozenset([(1, value)])):
            with pytest.raises(DataCloneError):
                clone.encode(outer)
    assert clone.decode(clone.encode([1])) == [1]


def test_unclonables_are_named_with_their_path() -> None:
    def bad() -> None: ...

    holder = Plain()
    holder.x = {"l": [bad]}  # type: ignore[assignment]
    caused = ValueError("m")
    chain = [ValueError(i) for i in range(150)]
    for error, cause in itertools.pairwise(chain):
        error.__cause__ = cause
    caused.__cause__ = chain[0]
    value: Any
    for value, path in [
        (({"cfg": {"cb": bad}},), "args[0]['cfg']['cb']"),
        ((1, holder), "args[1].x['l'][0]"),
        (({bad: 1},), "a key of args[0]"),
        (({1, bad},), "an element of args[0]"),
        (({(1, bad): 1},), "(a key of args[0])[1]"),
        ((Items([1, bad]),), "args[0][1]"),
        (({Color.RED: bad},), "args[0][<test_clone.Color>]"),
        (({1.5: bad},), "args[0][1.5]"),
        ((Pair(1, {"a": bad}),), "args[0][1]['a']"),
        ((Point(1, [bad]),), "args[0].y[0]"),  # type: ignore[list-item]
        ((types.SimpleNamespace(a=[bad]),), "args[0].a[0]"),
    ]:
        with pytest.raises(DataCloneError) as raised:
            clone.encode_parts(value, "args")
        assert re.sub(r"<[\w.]*?(\w+)>", r"<\1>", str(raised.value)) == re.sub(
            r"<[\w.]*?(\w+)>", r"<\1>", f"{path} is a function"
        )
    for value, path in [
        ((chain[0],), "args[0]"),
        ((caused,), "args[0]"),
        ((ExceptionGroup("m", [ValueError(), caused]),), "args[0].exceptions[1]"),
    ]:
        with pytest.raises(DataCloneError) as raised:
            clone.encode_parts(value, "args")
        assert str(raised.value) == f"{path} is an exception with more than 100 causes"


def test_a_path_is_told_in_no_more_than_a_few_hundred_characters() -> None:
    def nested_in(levels: int, key: str) -> Any:
        value: Any = print
        for _ in range(levels):
            value = {key: [value]}
        return value

    for levels, key in ((900, "k"), (1, "k" * 1_000_000), (300, "k" * 1000), (5000, "k")):
        with pytest.raises(DataCloneError) as raised:
            clone.encode(nested_in(levels, key))
        told = str(raised.value)
        assert told.startswith("value['k")
        assert " ... " in told
        assert told.endswith("[0] is a built-in function")
        assert len(told) < 300
    with pytest.raises(DataCloneError) as raised:
        clone.encode(nested("list", 1001))
    assert str(raised.value).startswith("value[0][0][0]")
    assert str(raised.value).endswith("is nested deeper than 1000 levels")
    assert len(str(raised.value)) < 300


def test_a_key_that_would_arrive_unhashable_raises_at_the_sender() -> None:
    class Hashable(Plain):
        __hash__ = object.__hash__

    class HashableDict(dict):  # type: ignore[type-arg]
        __hash__ = object.__hash__  # type: ignore[assignment]

    for key in (Hashable(), Frozen(), HashableDict(), (1, Frozen()), frozenset([Hashable()])):
        for value in ({key: 1}, {key}, frozenset([key]), [{"a": {key: 1}}]):
            with pytest.raises(DataCloneError, match="arrives unhashable"):
                clone.encode(value)
    own = Hashable()
    own.x = {own}  # type: ignore[assignment]
    with pytest.raises(DataCloneError):
        clone.encode(own)


def itself(cls: Any, *args: Any) -> Any:
    """An instance of a class of one's own below `cls`, which is equal to nothing but itself."""
    own = {"__eq__": lambda self, other: self is other, "__hash__": object.__hash__}
    return type(f"Own{cls.__name__.title()}", (cls,), own)(*args)


COLLIDING: dict[str, tuple[Any, Any]] = {
    "an enum and its value": (Color.RED, "r"),
    "an enum and a tuple": (enum.Enum("Pairs", {"A": (1, 2)}).A, (1, 2)),  # type: ignore[attr-defined]
    "an enum and a frozenset": (enum.Enum("Sets", {"A": frozenset([1])}).A, frozenset([1])),  # type: ignore[attr-defined]
    "two enums of one value": (Color.RED, enum.Enum("Other", {"R": "r"}).R),  # type: ignore[attr-defined]
    "an int of one's own": (itself(int, 5), 5),
    "an int of one's own and a float": (itself(int, 5), 5.0),
    "an int of one's own and True": (itself(int, 1), True),
    "a long int of one's own": (itself(int, 1 << 70), 1 << 70),
    "a float of one's own": (itself(float, 1.5), 1.5),
    "a str of one's own": (itself(str, "a"), "a"),
    "two of one's own": (itself(str, "a"), itself(str, "a")),
    "bytes of one's own": (itself(bytes, b"a"), b"a"),
    "a tuple of one's own": (itself(tuple, (1, 2)), (1, 2)),
    "a frozenset of one's own": (itself(frozenset, [1]), frozenset([1])),
    "a date of one's own": (itself(dt.date, 2020, 1, 1), dt.date(2020, 1, 1)),
    "a Decimal of one's own": (itself(Decimal, "1.5"), Decimal("1.5")),
    "a UUID of one's own": (itself(uuid.UUID, 32 * "0"), uuid.UUID(int=0)),
    "in tuples": ((1, Color.RED), (1, "r")),
    "deep in tuples": ((1, ((Color.RED,),)), (1, (("r",),))),
    "in frozensets": (frozenset([Color.RED]), frozenset(["r"])),
}


@pytest.mark.parametrize("what", COLLIDING)
def test_two_keys_that_would_arrive_as_one_raise_at_the_sender(what: str) -> None:
    one, other = COLLIDING[what]
    for value in ({one: 1, other: 2}, {one, other}, frozenset([one, other]), {(one, 1): 1, (other, 1): 2}):
        assert len(value) == 2
        with pytest.raises(
            DataCloneError, match=r"^value\[1\]\['a'\] is a \w+ of which two keys or elements arrive as one"
        ):
            clone.encode([{(1, 2): 3}, {"a": value}])
    clone.encode([one, other, {one: 1}, {other: 2}])


def test_two_keys_of_different_types_that_would_arrive_as_equal_raise_at_the_sender() -> None:
    for one, other in (
        (itself(Fraction, 1, 1), 1),
        (itself(Decimal, 2), 2.0),
        (itself(dt.timedelta, 1), dt.timedelta(1)),
    ):
        with pytest.raises(DataCloneError):
            clone.encode({one: 1, other: 2})


# ---- identity, cycles, depth


def test_shared_references_stay_shared_and_equal_ones_distinct() -> None:
    inner: list[int] = []
    point = Point(1, [])
    arrived = there_and_back([inner, inner, [], point, point, {"k": inner}])
    assert arrived[0] is arrived[1] is arrived[5]["k"]
    assert arrived[0] is not arrived[2]
    assert arrived[3] is arrived[4]


def test_cycles_arrive() -> None:
    items: list[Any] = []
    items.append(items)
    assert (arrived := there_and_back(items))[0] is arrived
    mapping: dict[str, Any] = {}
    mapping["self"] = mapping
    assert (arrived := there_and_back(mapping))["self"] is arrived
    pair: tuple[Any, ...] = ([],)
    pair[0].append(pair)
    assert (arrived := there_and_back(pair))[0][0] is arrived
    four: tuple[Any, ...] = ([], 2, 3, 4)
    four[0].append(four)
    assert (arrived := there_and_back(four))[0][0] is arrived
    holder = Plain()
    holder.x = holder  # type: ignore[assignment]
    assert (arrived := there_and_back(holder))["x"] is arrived
    own = Items()
    own.append(own)
    assert (arrived := there_and_back(own))[0] is arrived
    twisted = Twisted(([],))
    tuple.__getitem__(twisted, 0).append(twisted)
    arrived = there_and_back(twisted)
    assert type(arrived) is tuple
    assert arrived[0][0] == arrived or True
    frozen = frozenset([Pair(1, 2)])
    assert there_and_back([frozen, frozen]) == [{(1, 2)}, {(1, 2)}]


def nested(kind: str, depth: int) -> Any:
    value: Any = None
    for _ in range(depth):
        if kind == "instance":
            holder = Plain.__new__(Plain)
            holder.x = value
            value = holder
        else:
            value = {"list": [value], "tuple": (value,), "dict": {"x": value}, "own list": Items([value])}[kind]
    return value


def depth_of(value: Any) -> int:
    depth = 0
    while value is not None:
        value = value["x"] if isinstance(value, dict) else value[0]
        depth += 1
    return depth


KINDS = ["list", "tuple", "dict", "instance", "own list"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [400, 1000])
def test_deep_values_arrive(kind: str, depth: int) -> None:
    limit = sys.getrecursionlimit()
    value = nested(kind, depth)
    assert depth_of(clone.decode(clone.encode(value))) == depth
    assert sys.getrecursionlimit() == limit


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [1001, 1010, 10_000])
def test_values_of_more_than_a_thousand_levels_raise_at_the_sender(kind: str, depth: int) -> None:
    value = nested(kind, depth)
    limit = sys.getrecursionlimit()
    for recursion in (limit, 5000):
        sys.setrecursionlimit(recursion)
        try:
            with pytest.raises(DataCloneError, match=r"^args\[1\]\['a'\].* is nested deeper than 1000 levels$"):
                clone.encode_parts((1, {"a": value, (1, 2): 3}), "args")
            with pytest.raises(DataCloneError, match="deeper than 1000 levels"):
                clone.encode(value)
        finally:
            sys.setrecursionlimit(limit)


def test_a_value_shared_at_several_depths_is_as_deep_as_its_deepest_place() -> None:
    shared = nested("list", 600)
    assert clone.decode(clone.encode([shared, nested("list", 300), shared]))
    below: Any = shared
    for _ in range(399):
        below = [below]
    clone.decode(clone.encode([shared, below]))
    for value in ([shared, [below]], [[below], shared], {"a": shared, "b": ([below],)}):
        with pytest.raises(DataCloneError, match=r"^value.* is nested deeper than 1000 levels"):
            clone.encode(value)


def test_what_is_shared_so_often_that_it_would_be_huge_raises_at_the_sender() -> None:
    joins: list[Callable[[Any], Any]] = [
        lambda x: [x, x],
        lambda x: (x, x),
        lambda x: {"a": x, "b": x},
        lambda x: Pair(x, x),
    ]
    for join in joins:
        value: Any = []
        for _ in range(14):
            value = join(value)
        clone.decode(clone.encode(value))
        for _ in range(30):
            value = join(value)
        with pytest.raises(DataCloneError, match="written out"):
            clone.encode(value)
        with pytest.raises(DataCloneError, match=r"^args"):
            clone.encode_parts((1, value), "args")


def test_what_would_take_more_memory_than_its_size_warrants_raises_at_the_sender() -> None:
    for make in (set, list, dict, frozenset):
        clone.decode(clone.encode([make() for _ in range(30_000)]))
    value: Any
    for value in ([set() for _ in range(100_000)], [{None, False, True, 2, 3} for _ in range(100_000)]):
        with pytest.raises(DataCloneError, match="more memory than its size warrants"):
            clone.encode(value)


def test_what_is_repeated_until_it_could_not_be_written_out_raises_at_the_sender() -> None:
    for each in ("x" * (1 << 20), b"x" * 100_000, bytearray(100_000), np.zeros((200, 200))):
        assert len(clone.decode(clone.encode([each] * 20))) == 20
        for value in ([each] * 9000, [[each] * 100] * 100, dict.fromkeys(range(9000), each)):
            with pytest.raises(DataCloneError, match="written out"):
                clone.encode(value)
            with pytest.raises(DataCloneError, match="written out"):
                clone.encode_parts((value,), "args")
    words = ["some category", "another one"] * 100_000
    assert clone.decode(clone.encode(words)) == words


def test_keys_that_take_too_long_to_enter_raise_at_the_sender() -> None:
    of_one_hash = [k * (2**61 - 1) for k in range(1, 5000)]
    for value in (dict.fromkeys(of_one_hash), set(of_one_hash), {(k, 1) for k in of_one_hash}):
        with pytest.raises(DataCloneError, match="longer than decode_budget allows"):
            clone.encode(value)
    with pytest.raises(DataCloneError, match="longer than decode_budget allows"):
        clone.encode([ipaddress.ip_address(i) for i in range(10_000)])
    few = [ipaddress.ip_address(i) for i in range(100)]
    assert clone.decode(clone.encode(few)) == few
    with pytest.raises(DataCloneError, match="longer than decode_budget allows"):
        clone.encode(few, Limits(budget=10_000))


def test_where_only_plain_values_cross_others_raise_at_the_sender() -> None:
    plain_only = Limits(plain=True)
    value: Any
    for value in (
        [1, {"a": (2.5, "x", b"b", None, True)}, {1}, frozenset([2]), bytearray(b"a"), 1j, range(5), 1 << 80],
        np.arange(5), np.zeros(30_000), np.zeros(3, "M8[s]"), np.array(["a"]), Plain(), Items([1]), Color.RED,
    ):  # fmt: skip
        body = clone.encode(value, plain_only)
        assert repr(clone.decode(body, plain_only)) == repr(clone.decode(clone.encode(value)))
    for value in (
        dt.date(2020, 1, 1), Decimal(1), uuid.UUID(int=5), re.compile("a"), ValueError(1), np.float64(1),
        pathlib.Path("a"), np.zeros(3, [("a", "i4")]), np.zeros(30_000, [("a", "i4")]), array.array("d", [1.0]),
        dt.timedelta(1),
    ):  # fmt: skip
        for holder in (value, [1, value], {"a": (value,)}):
            with pytest.raises(DataCloneError, match="where only plain values cross"):
                clone.encode(holder, plain_only)
            with pytest.raises(DataCloneError, match=r"^args"):
                clone.encode_parts((holder,), "args", plain_only)
            clone.encode(holder)


def test_where_all_is_counted_a_large_value_raises_at_the_sender() -> None:
    tight = Limits(budget=20_000, count_all=True)
    value: Any
    for value in (["a"] * 10_000, tuple(range(10_000)), dict.fromkeys(range(10_000)), [{i} for i in range(5000)],
                  [Plain() for _ in range(2000)], [[] for _ in range(5000)]):  # fmt: skip
        clone.encode(value)
        with pytest.raises(DataCloneError, match=r"decode_budget allows|warrants"):
            clone.encode(value, tight)
        with pytest.raises(DataCloneError, match=r"^args .*(decode_budget allows|warrants)"):
            clone.encode_parts((value,), "args", tight)
        with pytest.raises(DecodeError, match=r"decode_budget allows|warrants"):
            clone.decode(clone.encode(value), tight)
        few = value[:100] if isinstance(value, (list, tuple)) else {1: 2}
        assert clone.decode(clone.encode(few, tight), tight) == clone.decode(clone.encode(few))
    large = [bytes(1_000_000), "x" * 1_000_000, np.zeros(1 << 17)]
    assert clone.decode(clone.encode(large, tight), tight)[2].shape == (1 << 17,)


def test_deep_values_arrive_from_deep_in_the_stack() -> None:
    value = nested("list", 400)

    def deeper(levels: int) -> int:
        return deeper(levels - 1) if levels else depth_of(clone.decode(clone.encode(value)))

    assert deeper(600) == 400


def test_a_deep_value_that_holds_its_parents_arrives_or_raises() -> None:
    for length, arrives in ((300, True), (10_000, False)):
        first = node = Plain()
        for _ in range(length):
            child = Plain()
            child.x = node  # type: ignore[assignment]
            node._y = child  # type: ignore[assignment]
            node = child
        if arrives:
            arrived = clone.decode(clone.encode(first))
            assert arrived["_y"]["x"] is arrived
        else:
            with pytest.raises(DataCloneError, match=r"too deep|deeper than 1000 levels"):
                clone.encode(first)


def test_an_unclonable_deep_down_is_found() -> None:
    for levels in (900, 5000):
        value: Any = print
        for _ in range(levels):
            value = [value]
        with pytest.raises(DataCloneError, match="is a built-in function"):
            clone.encode(value)


def test_a_tuple_too_deep_to_be_hashed_by_the_receiver_raises_at_the_sender() -> None:
    key: Any = ()
    for _ in range(9000):
        key = (key,)
    holder = Plain()
    holder.x = key
    for value in ([holder, {key: 1}], {key}, [{(1, key)}], key):
        with pytest.raises(DataCloneError, match="deeper than 1000 levels"):
            clone.encode(value)


# ---- exceptions


class Custom(Exception):  # noqa: N818
    def __init__(self, code: int, extra: int) -> None:
        self.code = code
        self.extra = extra

    def __str__(self) -> str:
        return f"code {self.code}"


class Unprintable(LookupError):  # noqa: N818
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x", 1, None), KeyError("k"), OSError(2, "no", "file"), OSError(2, "no", "a", None, "b"),
        StopIteration(5), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), SystemExit(3),
        KeyboardInterrupt(), MemoryError(), OSError("x"), SyntaxError("m"), TimeoutError(), ImportError("x"),
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "bad"), UnicodeTranslateError("abc", 1, 3, "bad"), BaseException(),
        ValueError(2.5, True, False, b"b", -(1 << 63), "\ud800"), Exception(*range(64)), UnicodeError("a", 1),
    ],
    ids=repr,
)  # fmt: skip
def test_builtin_exceptions_arrive_with_type_args_and_text(error: BaseException) -> None:
    arrived = there_and_back(error)
    assert type(arrived) is type(error)
    assert arrived.args == error.args
    assert str(arrived) == str(error)


def test_what_an_exception_holds_but_plain_scalars_arrives_as_text() -> None:
    looped: list[Any] = []
    looped.append(looped)

    class Unshowable:
        def __repr__(self) -> str:
            raise RuntimeError

    for held, text in [
        ([1, {"a": 2}], "[1, {'a': 2}]"), ((1, (2,)), "(1, (2,))"), ({1}, "{1}"), (1j, "1j"), (int, "<class 'int'>"),
        (1 << 63, str(1 << 63)), (-(1 << 63) - 1, str(-(1 << 63) - 1)), (bytearray(b"a"), "bytearray(b'a')"),
        (Decimal("1.5"), "Decimal('1.5')"), (Color.RED, repr(Color.RED)), (looped, "[[[[[[[[[...]]]]]]]]]"),
        (ValueError("x"), "ValueError('x')"), (Number(5), "5"), (len, "<built-in function len>"),
        (type("Own", (str,), {})("a"), "'a'"), (range(10**9), "range(0, 1000000000)"),
    ]:  # fmt: skip
        arrived = there_and_back(ValueError("before", held, 5))
        assert arrived.args == ("before", text, 5)
        assert all(type(each) in (str, int) for each in arrived.args)
    (told,) = there_and_back(KeyError(Unshowable())).args
    assert re.fullmatch(r"<.*Unshowable.*>", told)


def test_the_texts_of_an_exception_arrive_cut() -> None:
    limit = 32_768
    error = ValueError("a" * limit, "b" * (limit + 1) + "end", [0] * 1_000_000, b"x" * (limit + 1), 1 << 100_000)
    error.__notes__ = ["n" * 1_000_000 + "end"] * 10 + [5] + ["m"] * 100  # type: ignore[assignment]
    error.remote_traceback = "t" * 1_000_000 + "end"  # type: ignore[attr-defined]
    arrived = there_and_back(error)
    assert arrived.args[0] == "a" * limit
    assert all(type(each) is str and len(each) <= limit for each in arrived.args)
    assert arrived.args[1].startswith("...bbb")
    assert arrived.args[1].endswith("bend")
    assert len(arrived.__notes__) == 64
    assert {len(note) for note in arrived.__notes__} == {limit, 1}
    assert arrived.__notes__[0] == "..." + "n" * (limit - 6) + "end"
    assert len(arrived.remote_traceback) == limit
    assert arrived.remote_traceback.endswith("end")
    own = there_and_back(type("Own", (ValueError,), {})("c" * 100_000))
    assert own.args == ("..." + "c" * (limit - 3),)
    many = there_and_back(ValueError(*range(65)))
    assert many.args == (str(ValueError(*range(65))),)
    group = there_and_back(ExceptionGroup("m" * 100_000, [error]))
    assert len(group.message) == limit
    assert len(group.exceptions[0].args[1]) == limit


def test_exceptions_whose_text_trusts_their_arguments_arrive_checked() -> None:
    syntax = there_and_back(SyntaxError("m", ("f", 1, 2, "t")))
    assert (type(syntax), syntax.args) == (SyntaxError, (str(SyntaxError("m", ("f", 1, 2, "t"))),))
    assert there_and_back(IndentationError("m", ("f", 1, 2, "t"))).args == ("m (f, line 1)",)
    for error in (
        UnicodeDecodeError("utf-8", b"x", 0, 1, "y"), UnicodeEncodeError("utf-8", "x", 0, 1, "y"),
        UnicodeTranslateError("x", 0, 1, "y"),
    ):  # fmt: skip
        assert there_and_back(error).args == error.args
        lying = type(error)(*error.args)
        lying.start, lying.end, lying.args = 0, 1, (*error.args[:-3], -40, 3, "y")
        arrived = there_and_back(lying)
        assert type(arrived) is UnicodeError
        assert arrived.args == (str(lying),)
        kind: Any = type(error)
        outside = kind(*error.args[:-3], 5, 9, "y")
        assert type(there_and_back(outside)) is UnicodeError


HOLDS: list[Any] = [
    None, True, -40, 1 << 70, 1 << 200_000, 2.5, math.nan, "x", "x" * 100_000, "\ud800", b"x", b"x" * 100_000,
    bytearray(b"x"), [1], (1,), {}, range(10**9), print, int, object(), ValueError("y"), Number(5), "utf-8", 0, 1,
]  # fmt: skip


@pytest.mark.parametrize("kind", constructors.EXCEPTIONS)
def test_whatever_a_builtin_exception_holds_it_arrives_and_can_be_shown_raised_and_pickled(kind: str) -> None:
    cls = constructors.EXCEPTIONS[kind]
    rng = random.Random(kind)
    made = 0
    for count in [*range(7), 64, 65, 100] * 5:
        try:
            error = cls(*rng.choices(HOLDS, k=count))
        except (TypeError, ValueError):
            continue
        made += 1
        error.args = tuple(rng.choices(HOLDS, k=rng.randrange(7))) if rng.random() < 0.5 else error.args
        arrived = clone.decode(clone.encode(error))
        assert type(arrived) is cls or (issubclass(cls, OSError) and isinstance(arrived, OSError))
        assert all(type(each) in (type(None), bool, int, float, str, bytes) for each in arrived.args) or (
            isinstance(arrived, BaseExceptionGroup)
        )
        assert type(str(arrived)) is type(repr(arrived)) is str
        assert traceback.format_exception(arrived)
        copied = pickle.loads(pickle.dumps(arrived, 5))
        assert (type(copied), repr(copied)) == (type(arrived), repr(arrived))
        with pytest.raises(type(arrived)):
            raise arrived
    assert made or issubclass(cls, (BaseExceptionGroup, UnicodeError))


def test_custom_exceptions_arrive_as_their_builtin_base() -> None:
    arrived = there_and_back(Custom(5, 6))
    assert (type(arrived), str(arrived)) == (Exception, "code 5")
    arrived = there_and_back(Unprintable("a"))
    assert (type(arrived), str(arrived)) == (LookupError, "<str() of this LookupError raised>")
    own = type("Own", (UnicodeDecodeError,), {})("utf-8", b"\xff", 0, 1, "bad")
    arrived = there_and_back(own)
    assert (type(arrived), str(arrived)) == (UnicodeError, str(own))
    assert type(there_and_back(socket.gaierror(1, "x"))) is OSError


def test_causes_notes_and_tracebacks_arrive() -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("outer") from inner
    except ValueError as raised:
        error = raised
    error.__notes__ = ["a note", 5]  # type: ignore[list-item]
    arrived = there_and_back(error)
    assert type(arrived.__cause__) is KeyError
    assert arrived.__cause__.args == ("inner",)
    assert arrived.__notes__ == ["a note"]
    assert "test_causes_notes_and_tracebacks_arrive" in arrived.remote_traceback
    assert arrived.__traceback__ is None
    assert there_and_back(arrived).remote_traceback == arrived.remote_traceback


def test_causes_in_a_circle_do_not_hang() -> None:
    first, second = ValueError(1), ValueError(2)
    first.__cause__, second.__cause__ = second, first
    assert there_and_back(first).args == (1,)
    assert there_and_back(first).__cause__ is None
    looped = ValueError([])
    looped.args[0].append(looped)
    (told,) = there_and_back(looped).args
    assert told.startswith("[ValueError([ValueError([")


def test_exception_groups_arrive_with_their_members() -> None:
    inner = ExceptionGroup("inner", [TypeError("b")])
    inner.__cause__ = KeyError("why")
    inner.add_note("a note")
    arrived = there_and_back(ExceptionGroup("outer", [ValueError(1), inner]))
    assert type(arrived) is type(arrived.exceptions[1]) is ExceptionGroup
    assert (arrived.message, arrived.exceptions[1].message) == ("outer", "inner")
    assert list(map(repr, (arrived.exceptions[0], *arrived.exceptions[1].exceptions))) == [
        "ValueError(1)",
        "TypeError('b')",
    ]
    assert repr(arrived.exceptions[1].__cause__) == "KeyError('why')"
    assert arrived.exceptions[1].__notes__ == ["a note"]
    assert type(there_and_back(BaseExceptionGroup("m", [SystemExit(3)]))) is BaseExceptionGroup
    own = type("Own", (ExceptionGroup,), {})("own", [ValueError(1)])
    assert type(there_and_back(own)) is ExceptionGroup
    assert "".join(traceback.format_exception(arrived)).count("ValueError: 1") == 1
    assert type(pickle.loads(pickle.dumps(arrived))) is ExceptionGroup


# ---- arrays


DTYPES: list[Any] = [
    "?", "i1", "u2", ">i4", "i8", "<f2", ">f4", "f8", "g", "F", "D", "G", "S3", "U2", ">U2", "V5", "M8[D]",
    ">M8[ns]", "m8[25us]", [("a", "i4"), ("b", "?"), ("c", [("d", "f8", (2, 3))])],
    np.dtype([("a", "u1"), ("b", "f8")], align=True),
    np.dtype({"names": ["x"], "formats": ["i2"], "offsets": [3], "itemsize": 9}),
]  # fmt: skip


@pytest.mark.parametrize("shape", [(), (0,), (3,), (0, 5), (2, 3), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_arrays_arrive_with_dtype_shape_and_order(dtype: Any, shape: tuple[int, ...]) -> None:
    base = np.zeros(shape, dtype)
    if base.size and base.dtype.kind not in "VUMm":  # any bytes are numbers, but not text or dates
        base.reshape(-1).view(np.uint8)[::7] = 1
    for sent in (base, np.asfortranarray(base), base.T, base[..., ::-1] if shape else base, base[...]):
        body = clone.encode(sent)
        for arrived in (clone.decode(body), clone.decode_owned(memoryview(bytearray(body)))):
            assert type(arrived) is np.ndarray
            assert (arrived.dtype, arrived.shape) == (sent.dtype, sent.shape)
            assert arrived.dtype.isalignedstruct == sent.dtype.isalignedstruct
            assert arrived.flags.writeable
            assert repr(arrived) == repr(sent)
            if sent.flags.f_contiguous and not sent.flags.c_contiguous:
                assert arrived.flags.f_contiguous
        assert clone.decode(body).flags.owndata


@pytest.mark.parametrize("order", ["C", "F"])
def test_large_arrays_live_in_the_memory_that_is_given_away(order: Any) -> None:
    sent = np.asarray(np.random.default_rng(1).random((300, 400)), order=order)
    pieces: Any = clone.encode_parts({"a": sent})
    assert any(isinstance(p, memoryview) and np.shares_memory(np.asarray(p), sent) for p in pieces)
    memory = bytearray(b"".join(pieces))
    arrived: Any = clone.decode_owned(memoryview(memory))
    assert np.array_equal(arrived["a"], sent)
    assert np.shares_memory(arrived["a"], np.frombuffer(memory, np.uint8))
    assert arrived["a"].flags.writeable
    again: Any = clone.decode(memory)
    assert not np.shares_memory(again["a"], np.frombuffer(memory, np.uint8))
    assert again["a"].flags.owndata


def test_only_the_viewed_part_is_sent() -> None:
    base = np.zeros(1_000_000)
    assert len(clone.encode(base[:10])) < 300
    assert len(clone.encode(base[::1000])) < 9000
    assert len(clone.encode(memoryview(bytes(1_000_000))[:10])) < 100
    expanded = clone.decode(clone.encode(np.broadcast_to(np.float32(1), (300, 400))))
    assert expanded.strides == (1600, 4)


@pytest.mark.parametrize("length", [10, 100_000])
def test_views_of_all_of_one_memory_arrive_as_one(length: int) -> None:
    base = np.arange(float(length))
    a, b, c, d, e = there_and_back([base, base.reshape(2, -1), base.view("i8"), base, base[:-1]])
    assert a is d
    assert np.shares_memory(a, b)
    assert np.shares_memory(a, c)
    assert not np.shares_memory(a, e)
    assert np.array_equal(c.view(float), base)
    stepped = base[::2]
    f, g = there_and_back([stepped, base[::2]])
    assert np.shares_memory(f, g)


def test_bytes_between_fields_are_not_sent() -> None:
    aligned = np.dtype([("a", "u1"), ("b", "u8")], align=True)
    nested = np.dtype([("a", "u1"), ("b", aligned)], align=True)
    tail = np.dtype({"names": ["a"], "formats": ["u1"], "itemsize": 16})
    overlapping = np.dtype({"names": ["a", "b"], "formats": ["u1", "u1"], "offsets": [0, 0], "itemsize": 16})
    for dtype in (aligned, nested, tail, overlapping):
        for count in (10, 10_000):
            raw = np.full(count * dtype.itemsize, 0xAA, np.uint8).view(dtype)
            raw["a"] = 1
            if dtype is aligned:
                raw["b"] = 1
            if dtype is nested:
                raw["b"]["a"] = raw["b"]["b"] = 1
            for sent in (raw, raw[::2], raw.reshape(2, -1).T, raw[0], [raw[0]], raw[:1].reshape(())):
                assert b"\xaa\xaa" not in clone.encode(sent)


def test_subclasses_of_ndarray_arrive_as_ndarray(tmp_path: pathlib.Path) -> None:
    mapped = np.memmap(tmp_path / "m", dtype="i4", mode="w+", shape=(3,))
    for sent in (np.matrix([[1, 2]]), np.array([(1, 2.0)], "i8,f8").view(np.recarray), mapped):
        arrived = there_and_back(sent)
        assert type(arrived) is np.ndarray
        assert arrived.tolist() == sent.tolist()
    frozen = np.arange(5)
    frozen.flags.writeable = False
    assert there_and_back(frozen).flags.writeable


# ---- register


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents


def test_registered_classes_arrive_as_such() -> None:
    undo = clone.register(Money, "money", lambda m: {"cents": m.cents}, lambda d: Money(d["cents"]))
    try:
        one = Money(5)
        arrived = there_and_back([one, one, {"m": one}])
        assert type(arrived[0]) is Money
        assert arrived[0].cents == 5
        assert arrived[0] is arrived[1] is arrived[2]["m"]
        body = clone.encode(one)
        with pytest.raises(ValueError, match="registered already"):
            clone.register(Money, "other", vars, Money)
        with pytest.raises(ValueError, match="registered already"):
            clone.register(Plain, "money", vars, Money)
        with pytest.raises(TypeError):
            clone.register(dict, "dict", vars, Money)
    finally:
        undo()
    undo()
    with pytest.raises(DecodeError, match="'money'"):
        clone.decode(body)
    assert there_and_back(Money(5)) == {"cents": 5}


def test_what_a_registered_function_raises_is_the_cause() -> None:
    undo = clone.register(Money, "money", lambda m: m.cents, lambda d: 1 // d)
    try:
        body = clone.encode(Money(0))
        with pytest.raises(DecodeError) as decoding:
            clone.decode(body)
        assert isinstance(decoding.value.__cause__, ZeroDivisionError)
        with pytest.raises(DataCloneError) as encoding:
            clone.encode([Money.__new__(Money)])
        assert isinstance(encoding.value.__cause__, AttributeError)
        assert clone.encode_parts([1]) == clone.encode([1])
    finally:
        undo()


def test_whatever_a_registered_function_raises_decoding_it_is_a_decode_error() -> None:
    class Unprintable(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise RuntimeError

    raised: list[Exception] = [
        Unprintable(), ValueError("x" * 1_000_000), ValueError("\ud800"), KeyError([1]), StopIteration(1),
        RecursionError(), OSError(2, "no"), DataCloneError("x"), DecodeError("x"), ExceptionGroup("m", [ValueError(1)]),
    ]  # fmt: skip
    for error in raised:

        def fail(_: Any, error: Exception = error) -> Any:
            raise error

        undo = clone.register(Money, "money", lambda m: m.cents, fail)
        try:
            body = clone.encode([1, Money(5)])
            with pytest.raises(DecodeError, match=r"^byte \d+: ") as decoding:
                clone.decode(body)
            assert len(str(decoding.value)) < 1000
        finally:
            undo()


def test_who_sends_a_registered_value_that_its_receiver_would_refuse_is_told() -> None:
    shared: Any = []
    for _ in range(40):
        shared = [shared, shared]
    undo = clone.register(Money, "money", lambda m: m.cents, Money)
    try:
        for payload in (shared, nested("list", 1001)):
            with pytest.raises(DataCloneError):
                clone.encode([Money(payload)])
    finally:
        undo()


def test_a_registered_encoder_may_encode() -> None:
    undo = clone.register(Money, "money", lambda m: clone.encode([m.cents]), lambda d: clone.decode(d))
    try:
        assert there_and_back([Money(1), Money(2)]) == [[1], [2]]
    finally:
        undo()


# ---- transfer


def test_transferred_memory_is_gone_from_the_sender() -> None:
    text = bytearray(b"abc")
    grid = np.ones((100, 200))
    view = grid[1]
    scalar = np.array(1.5)
    clone.check_transfer([text, grid, scalar])
    assert (bytes(text), grid.shape) == (b"abc", (100, 200))
    clone.detach([text, grid, scalar])
    shapes: list[tuple[int, ...]] = [grid.shape, scalar.shape]
    assert (len(text), shapes) == (0, [(0,), (0,)])
    del grid
    gc.collect()
    assert view.sum() == 200


def test_views_of_what_was_transferred_keep_its_memory() -> None:
    arrays = [np.full(64, float(number)) for number in range(50)]
    views = [array[:] for array in arrays]
    clone.detach(arrays)
    others = [np.full(64, -1.0) for _ in range(500)]  # which would have it, if it were free
    assert [set(view) for view in views] == [{float(number)} for number in range(50)]
    assert len(others) == 500


def test_memoryviews_of_what_was_transferred_stay_usable() -> None:
    array: Any = np.full((400, 500), 7, np.int32)
    view = memoryview(array)
    clone.detach([array])
    others: list[Any] = [np.zeros((400, 500), np.int32)[:, 1:] for _ in range(50)]
    assert [memoryview(other).nbytes for other in others] == 50 * [400 * 499 * 4]
    assert (view.format, view.shape, view.strides) == ("i", (400, 500), (2000, 4))
    assert (np.asarray(view) == 7).all()


def test_arrays_of_any_order_and_with_weak_references_are_transferred_with_their_views_intact() -> None:
    in_no_order = np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2) * 1
    assert (in_no_order.flags.owndata, in_no_order.flags.forc) == (True, False)  # neither C's order nor Fortran's
    referenced = np.arange(24.0)
    reference = weakref.ref(referenced)
    fields = np.zeros(3, [("a", "i4"), ("b", "f8")])
    arrays: list[np.ndarray[Any, Any]] = [
        in_no_order,
        referenced,
        np.asfortranarray(np.ones((3, 4))),
        fields,
        np.zeros((0, 3)),
    ]
    views = [array[1:] for array in arrays]
    contents = [view.tolist() for view in views]
    clone.check_transfer(arrays)
    clone.detach(arrays)
    others = [np.full(24, -1.0) for _ in range(500)]  # which would have the memory, if it were free
    assert [array.shape for array in arrays] == [(0,)] * len(arrays)
    assert reference() is referenced
    assert fields.dtype.names == ("a", "b")
    assert [view.tolist() for view in views] == contents
    assert len(others) == 500


@pytest.mark.parametrize(
    "given",
    [iter([bytearray(1)]), {bytes(1): 1}, bytearray(1), np.ones(3)],
    ids=["iterator", "dict", "bytearray", "array"],
)
def test_a_transfer_that_is_no_list_is_told_beforehand(given: Any) -> None:
    with pytest.raises(
        TypeError, match=r"transfer is a list of what is emptied here, as in transfer=\[array\], and not an? \w"
    ):
        clone.check_transfer(given)


def test_what_cannot_be_transferred_is_told_beforehand() -> None:
    text = bytearray(b"abc")
    exported = bytearray(b"abc")
    held = memoryview(exported)
    frozen = np.ones(3)
    frozen.flags.writeable = False
    items: Any
    for items, what in [
        ([text, text], r"transfer\[1\] is in the list twice"),
        ([exported], r"transfer\[0\] is a bytearray whose memory is in use"),
        ([text, "x"], r"transfer\[1\] is a str"),
        ([np.ones(3)[:2]], "does not own"),
        ([frozen], "not writable"),
        ([np.array([None])], "objects"),
        ([print], "a built-in function"),
    ]:
        with pytest.raises(DataCloneError, match=what):
            clone.check_transfer(items)
    assert bytes(text) == bytes(held) == b"abc"


# ---- the encoder itself


@pytest.mark.parametrize("decode", [clone.decode, lambda body: clone.decode_owned(memoryview(bytearray(body)))])
def test_what_has_arrived_goes_with_its_last_reference(decode: Callable[[bytes], Any]) -> None:
    """Not when the garbage collector runs: until then a stream of large arrays would fill the memory."""
    body = clone.encode({"a": np.ones(1 << 18, np.float32), "at": Decimal(1)})
    gc.collect()
    gc.disable()
    try:
        arrived = decode(body)
        array = weakref.ref(arrived["a"])
        del arrived
        assert array() is None
    finally:
        gc.enable()


def test_the_last_message_is_not_kept_alive() -> None:
    class Noted:
        pass

    for count in (1, 1000):
        noted = Noted()
        gone = weakref.ref(noted)
        clone.encode([noted] * count)
        del noted
        gc.collect()
        assert gone() is None
    noted = Noted()
    gone = weakref.ref(noted)
    with pytest.raises(DataCloneError):
        clone.encode([noted, print])
    del noted
    gc.collect()
    assert gone() is None


def test_threads_do_not_disturb_each_other() -> None:
    failures: list[Any] = []

    def work(seed: int) -> None:
        value = {"seed": seed, "items": [Point(seed, [seed] * 50)] * 3, "a": np.full(10, seed)}
        for _ in range(300):
            arrived = clone.decode(clone.encode(value))
            if arrived["items"][2]["y"] != [seed] * 50 or arrived["a"][9] != seed:
                failures.append(arrived)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_dict_that_changes_meanwhile_is_cloned_whole_or_not_at_all() -> None:
    shared: dict[Any, Any] = {i: [i] for i in range(500)}
    holder = Plain()
    holder.x = shared  # type: ignore[assignment]
    stop = threading.Event()

    def change() -> None:
        i = 500
        while not stop.is_set():
            shared[i] = [i]
            shared.pop(i - 400, None)
            i += 1

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(200):
            try:
                arrived = clone.decode(clone.encode(holder))
            except DataCloneError:
                continue
            assert all(value == [key] for key, value in arrived["x"].items())
    finally:
        stop.set()
        thread.join()


def test_a_large_bytearray_cannot_change_its_size_while_it_is_sent() -> None:
    sent = bytearray(100_000)
    pieces = clone.encode_parts([sent])
    with pytest.raises(BufferError):
        sent.append(1)
    del pieces
    sent.append(1)


def test_large_payloads_are_not_copied() -> None:
    for sent in (bytes(200_000), bytearray(200_000), np.ones(50_000), array.array("d", bytes(400_000))):
        pieces = clone.encode_parts([1, sent, {"more": [2] * 10}])
        assert isinstance(pieces, list)
        mine = np.frombuffer(sent, np.uint8)
        assert any(len(p) >= 200_000 and np.shares_memory(np.frombuffer(p, np.uint8), mine) for p in pieces)


def test_decode_takes_any_buffer() -> None:
    body = clone.encode([1, "a"])
    for buffer in (body, bytearray(body), memoryview(body), memoryview(b"x" + body)[1:]):
        assert clone.decode(buffer) == [1, "a"]


# ---- Hypothesis: any graph of values

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(max_size=100),
    st.text(alphabet=st.characters()), st.datetimes(), st.decimals(allow_nan=False), st.fractions(), st.uuids(),
    st.complex_numbers(allow_nan=False), st.timedeltas(),
)  # fmt: skip
hashables = st.recursive(
    st.one_of(
        st.integers(),
        st.text(),
        st.booleans(),
        st.none(),
        st.floats(allow_nan=False),
        st.uuids(),
        st.binary(),
    ),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
graphs = st.recursive(
    scalars | hashables,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.tuples(inner, inner),
        st.dictionaries(hashables, inner, max_size=5),
        st.sets(hashables, max_size=5),
        st.builds(Point, inner, st.lists(inner, max_size=3)),
        st.builds(lambda x: [x, x], inner),
        st.builds(lambda x: Items([x]), inner),
    ),
    max_leaves=20,
)


def plain(value: Any) -> Any:
    if isinstance(value, Point):
        return {"x": plain(value.x), "y": plain(value.y)}
    if isinstance(value, (list, tuple)) and not isinstance(value, Items):
        return type(value)(plain(item) for item in value)
    if isinstance(value, Items):
        return [plain(list.__getitem__(value, 0))]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def alike(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(map(alike, a, b)) and all(map(alike, a.values(), b.values()))
    return bool(a == b) or (isinstance(a, float) and struct.pack("d", a) == struct.pack("d", b))


@settings(max_examples=300, deadline=None)
@given(graphs)
def test_any_graph_arrives(value: Any) -> None:
    assert alike(there_and_back(value), plain(value))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("ldti"), st.integers(0, 9)), max_size=30))
def test_any_web_of_references_keeps_its_shape(edges: list[tuple[int, str, int]]) -> None:
    nodes: list[Any] = [[] if i % 2 else {} for i in range(10)]
    for n, (source, kind, target) in enumerate(edges):
        wraps: dict[str, Callable[[Any], Any]] = {
            "l": lambda x: [x],
            "d": lambda x: {"k": x},
            "t": lambda x: (x, x),
            "i": lambda x: Point(x, []),
        }
        held = wraps[kind](nodes[target])
        nodes[source].append(held) if source % 2 else nodes[source].update({n: held})

    def shape(value: Any) -> list[Any]:
        numbers: dict[int, int] = {}
        found: list[Any] = []
        waiting = [value]
        while waiting:
            item = waiting.pop()
            item = vars(item) if isinstance(item, Point) else item
            if not isinstance(item, (list, tuple, dict)):
                found.append(item)
            elif id(item) in numbers:
                found.append(("again", numbers[id(item)]))
            else:
                numbers[id(item)] = len(numbers)
                found.append((type(item).__name__, len(item)))
                waiting += item.values() if isinstance(item, dict) else item
        return found

    assert shape(there_and_back(nodes)) == shape(nodes)


def test_names_are_public() -> None:
    callables: list[Callable[..., Any]] = [getattr(clone, name) for name in clone.__all__]
    assert all(c.__doc__ for c in callables)


def test_however_many_classes_come_and_go_a_value_arrives_with_its_own_attributes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A new class may have the place in memory, and with it the id, of one that is gone."""
    monkeypatch.setattr("lensipc.clone.reducers.KNOWN_CLASSES", 8)
    for number in range(300):
        name = f"a{number}"
        kind: Any = type("Passing", (list,) if number % 2 else (), {})
        value = kind()
        setattr(value, name, number)
        assert clone.decode(clone.encode(value)) == ([] if number % 2 else {name: number})
        del kind, value
        if number % 10 == 0:
            gc.collect()
