# SPDX-License-Identifier: MIT
"""One value of each kind that the encoder knows, to begin mutations from. Tests take it in with runpy.run_path."""

from __future__ import annotations

import array
import collections
import datetime as dt
import ipaddress
import pathlib
import re
import uuid
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np


class Record:
    def __init__(self, id: int, name: str, tags: list[str]) -> None:
        self.id = id
        self.name = name
        self.tags = tags


class Own(list):  # type: ignore[type-arg]
    pass


def _error() -> Exception:
    try:
        raise KeyError("inner")
    except KeyError as inner:
        error = ValueError("outer", [1, 2])
        error.__cause__ = inner
        return error


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
    "own": [Own([1, 2]), collections.OrderedDict(a=1), collections.Counter("ab")],
    "times": [
        dt.datetime(2020, 1, 2, 3, 4, 5, 6, fold=1),
        dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc),
        dt.date(2020, 1, 1),
        dt.time(1, 2),
        dt.timedelta(1, 2, 3),
    ],
    "numbers": [Decimal("1.5"), Fraction(1, 3), 1 + 2j, range(5), uuid.UUID(int=7)],
    "texts": [
        re.compile("a[b-d]+", re.IGNORECASE),
        pathlib.PurePosixPath("/a"),
        ipaddress.ip_network("10.0.0.0/8"),
    ],
    "error": _error(),
    "array.array": array.array("d", [1.0, 2.0]),
    "arrays": [_grid, _grid.T, _grid[::2], _grid.reshape(-1), np.array(["a"]), np.zeros((0, 3), "M8[D]")],
    "fields": np.zeros(3, [("a", "i4"), ("b", [("c", "?", (2,))])]),
    "scalars": [np.float32(1), np.bool_(True), np.datetime64("2020-01-01")],
    "array, out of band": {"a": _large, "b": _large.reshape(2, -1)},
    "frames": [str(i) for i in range(20_000)],
}
