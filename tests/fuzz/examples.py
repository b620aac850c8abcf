# SPDX-License-Identifier: MIT
"""Values that cross: for each constructor at least one, with as many arguments as it takes."""

from __future__ import annotations

import array
import datetime as dt
import decimal
import faulthandler
import fractions
import ipaddress
import pathlib
import re
import sys
import time
import uuid
import zoneinfo
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from messages import HONEST  # noqa: E402 - the path comes first

from lensipc import clone  # noqa: E402


class Own:
    """A class that both sides register as `fuzz`."""

    def __init__(self, payload: Any) -> None:
        self.payload = payload


class Faulty:
    """A class whose decoder does what a wrong reader might: the fuzzer must see each of these."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    @staticmethod
    def decode(fault: str) -> Any:
        if fault == "crash":
            faulthandler._sigsegv()  # type: ignore[attr-defined]
        elif fault == "hang":
            while True:
                pass
        elif fault == "time":
            end = time.process_time() + 0.1
            while time.process_time() < end:
                pass
        elif fault == "memory":
            return (b"x" * (1 << 26))[:1]
        elif fault == "leak":
            _leaked.append([fault])
        elif fault == "open":
            Path(__file__).open().close()
        elif fault == "import":
            __import__("lensipc.cli")
            del sys.modules["lensipc.cli"]
        elif fault == "system":
            raise KeyboardInterrupt
        elif fault == "uncleared":
            return [b"\xcd" * 64]
        return Faulty(fault) if fault == "use" else fault

    def __hash__(self) -> int:
        raise SystemError("a result with an exception set")


_leaked: list[Any] = []


def register() -> Callable[[], None]:
    """Make both classes known to the codec; returns what undoes it."""
    undo = [
        clone.register(Own, "fuzz", lambda own: own.payload, Own),
        clone.register(Faulty, "faulty", lambda faulty: faulty.fault, Faulty.decode),
    ]

    def undo_all() -> None:
        for each in undo:
            each()

    return undo_all


def _noted() -> Exception:
    error = ValueError("outer", 1, 2.5, None)
    error.__cause__ = KeyError("inner")
    error.add_note("a note")
    return error


_zone = dt.timezone(dt.timedelta(hours=1))
_fields = [("a", "<u8"), ("b", "?"), ("c", [("d", "?", (2,))])]
VALUES: list[Any] = [each for value in HONEST.values() for each in (value if type(value) is list else [value])]
VALUES += [
    dt.datetime(2020, 1, 2, 3, 4, 5, 6, _zone, fold=1),
    dt.datetime(2020, 1, 2, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
    dt.time(1, 2, 3, 4, _zone, fold=1),
    dt.timedelta(-1, 2, 3),
    _zone,
    zoneinfo.ZoneInfo("UTC"),
    1j,
    decimal.Decimal("-1.5E+10"),
    fractions.Fraction(-1, 3),
    range(1, 10, 2),
    uuid.UUID(int=1 << 127),
    re.compile(b"a[b-d]", re.DOTALL),
    pathlib.PurePosixPath("a/b"),
    pathlib.PosixPath("/a"),
    pathlib.PureWindowsPath("C:\\a"),
    ipaddress.ip_address("::1"),
    ipaddress.ip_address("1.2.3.4"),
    ipaddress.ip_address("fe80::1%eth0"),
    ipaddress.ip_network("::/64"),
    ipaddress.ip_interface("10.0.0.1/8"),
    _noted(),
    KeyError("key"),
    SyntaxError("m", ("f", 1, 2, "t")),
    UnicodeDecodeError("utf-8", b"xyz", 0, 1, "y"),
    UnicodeEncodeError("utf-8", "xyz", 0, 1, "y"),
    OSError(2, "no", "f"),
    SystemExit(3),
    StopIteration(1),
    ImportError("no", name="n", path="p"),
    array.array("i", [1, 2]),
    array.array("u", "ab"),
    bytearray(b"xyz"),
    memoryview(b"xyz"),
    np.array([(1, True, ([False, True],))], _fields),
    np.zeros((), _fields)[()],
    np.array([[1, 2], [3, 4]], "<i2", order="F"),
    np.array(["ab", "c"]),
    np.array([b"ab", b"c"]),
    np.array([1, 2], "M8[s]"),
    np.array([1], "m8[25us]"),
    np.array([True, False]),
    np.float64("nan"),
    np.float16(1.5),
    np.int64(-1),
    np.complex64(1j),
    np.datetime64(5, "s"),
    np.timedelta64(5, "ms"),
    np.str_("ab"),
    np.bytes_(b"ab"),
    np.void(b"abc"),
    Own([1]),
    {1 + 0j: np.int64(1), dt.date(1, 1, 1): 2, (1, 2.5): frozenset({b"a"})},
]
