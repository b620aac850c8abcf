# SPDX-License-Identifier: MIT
"""Values of each kind that the encoder knows: each row of lensipc.values.TABLE is called by one of them.

Tests begin mutations from what is written of them. To import this module registers a type, once in a process.
"""

from __future__ import annotations

import array
import collections
import datetime as dt
import enum
import ipaddress
import pathlib
import re
import types
import uuid
import zoneinfo
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from lensipc import clone


class Record:
    def __init__(self, id: int, name: str, tags: list[str]) -> None:
        self.id = id
        self.name = name
        self.tags = tags


class Own(list):  # type: ignore[type-arg]
    pass


Pair = collections.namedtuple("Pair", "left right")


class Color(enum.Enum):
    RED = "r"


class Stamp:
    """A type of one's own that crosses as such."""

    def __init__(self, parts: tuple[int, str]) -> None:
        if type(parts) is not tuple or [*map(type, parts)] != [int, str]:
            raise ValueError("no stamp")
        self.parts = parts

    def __eq__(self, other: object) -> bool:
        return type(other) is Stamp and other.parts == self.parts

    def __hash__(self) -> int:
        return hash(self.parts)

    def __repr__(self) -> str:
        return f"Stamp({self.parts})"


clone.register(Stamp, "tests.Stamp", lambda stamp: stamp.parts, Stamp)


def _error() -> Exception:
    try:
        raise KeyError("inner")
    except KeyError as inner:
        error = ValueError("outer", 1, None, 2.5, True, b"b")
        error.__cause__ = inner
        error.add_note("a note")
        return error


def _group() -> BaseException:
    inner = ExceptionGroup("inner", [TypeError("b"), OSError(2, "no such file", "f")])
    return BaseExceptionGroup("outer", [_error(), KeyboardInterrupt(), inner])


def _circle() -> Any:
    value: list[Any] = [1]
    value.append((value, {"self": value}))
    return value


def _deep() -> Any:
    value: Any = None
    for _ in range(600):
        value = [value]
    return value


_grid = np.arange(12.0).reshape(3, 4)
_large = np.arange(20_000.0)

HONEST: dict[str, Any] = {
    "small": {"id": 17, "name": "initialize", "ok": True, "v": 3.14, "tags": ["a", "b"]},
    "args": (1, "a", None, {"k": (2, 3)}),
    "ints": [0, 1, 255, 256, 65535, 65536, -1, 2**31, -(2**63), 2**70, -(2**100)],
    "strings": ["", "a", "\ud800", "é" * 40, "x" * 300, b"", b"ab", bytes(300), bytearray(b"xyz")],
    "keys": {1: 1, (1, "a"): 2, None: 3, 1.5: 4, b"x": 5, frozenset({1, 2}): 6, -1: 7, -2: 8, 2**70: 9},
    "sets": [{1, 2, "a"}, frozenset({1, (2, 3)}), set()],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
    "circle": _circle(),
    "deep": _deep(),
    "records": [Record(i, "n", ["a"]) for i in range(3)],
    "own": [Own([1, 2]), collections.OrderedDict(a=1), collections.Counter("ab"), Pair(1, [2]), Color.RED],
    "times": [
        dt.datetime(2020, 1, 2, 3, 4, 5, 6, fold=1),
        dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        dt.date(2020, 1, 1),
        dt.time(1, 2),
        dt.timedelta(1, 2, 3),
        dt.timezone(dt.timedelta(hours=2)),
        zoneinfo.ZoneInfo("Europe/Paris"),
        dt.datetime(2020, 6, 1, tzinfo=zoneinfo.ZoneInfo("UTC")),
        dt.time(1, 2, tzinfo=dt.UTC),
    ],
    "numbers": [
        Decimal("1.5"),
        Fraction(1, 3),
        1 + 2j,
        range(5),
        uuid.UUID(int=7),
        Fraction(1 << 80, 7),
        range(1 << 70),
    ],
    "keys that constructors make": {
        Decimal("1.5"): 1,
        Fraction(1, 3): 2,
        uuid.UUID(int=7): 3,
        dt.date(2020, 1, 1): 4,
        (dt.timedelta(1), 1): 5,
        pathlib.PurePosixPath("/a"): 7,
        np.int8(5): 8,
        Stamp((1, "a")): 9,
        1j: 10,
    },
    "texts": [
        re.compile("a[b-d]+", re.IGNORECASE),
        pathlib.PurePosixPath("/a"),
        ipaddress.ip_network("10.0.0.0/8"),
    ],
    "error": _error(),
    "errors": [OSError(2, "no such file", "f"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), SyntaxError("s")],
    "group": _group(),
    "registered": [Stamp((1, "a")), {"k": Stamp((2, "b"))}],
    "namespace": types.SimpleNamespace(a=1, b=[2]),
    "array.array": array.array("d", [1.0, 2.0]),
    "arrays": [_grid, _grid.T, _grid[::2], _grid.reshape(-1), np.array(["a"]), np.zeros((0, 3), "M8[D]")],
    "fields": np.zeros(3, [("a", "i4"), ("b", [("c", "?", (2,))])]),
    "scalars": [
        np.float32(1),
        np.bool_(True),
        np.datetime64("2020-01-01"),
        np.uint64(1 << 63),
        np.int64(-5),
        np.complex64(1j),
        np.float64("nan"),
        np.longdouble(1) / 3,
        np.array([(1, 2.5)], [("a", "i4"), ("b", "f8")])[0],
    ],
    "array, out of band": {"a": _large, "b": _large.reshape(2, -1)},
    "frames": [str(i) for i in range(20_000)],
}
