# SPDX-License-Identifier: MIT
"""What ordinary code does to a value that has come: none of it may crash, hang or take memory out of proportion.

An exception that Python's own values raise, too, is right: TypeError of a hash, RecursionError of a deep list,
ValueError of an array's truth. SystemError, MemoryError and what is no Exception are not, nor is anything but
DataCloneError from the encoder.
"""

from __future__ import annotations

import copy
import logging
import operator
import pickle
import sys
import traceback
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np

from lensipc import clone
from lensipc.errors import DataCloneError, DecodeError

WIDE = 1 << 17
"""Leaves, and pieces of 64 bytes of long ones, that a value may have to be shown, compared and copied.

Whoever shows `[text] * n` expects n times the text, so what shares its parts is not shown beyond this. It is hashed."""

PARTS = 24
"""Parts of a container that are looked at each for itself."""


TIMES = [np.datetime64(0, "s"), np.datetime64(1, "D"), np.timedelta64(1, "ns"), np.timedelta64(1, "Y")]


class WrongError(Exception):
    """What no value may do."""


def parts_of(value: Any) -> tuple[list[Any], bool]:
    """Some of the values in a container, and whether it can be shown: no cycle, and not too much when written out."""
    found: list[Any] = []
    counts: dict[int, int] = {}  # by id: leaves when written out; not positive while they are being counted
    waiting: list[tuple[Any, Any]] = []

    def enter(each: Any) -> None:
        kind = type(each)
        if kind is dict:
            items: Any = iter([*each, *each.values()])
        elif kind is tuple or kind is list or kind is set or kind is frozenset:
            items = iter(each)
        elif isinstance(each, BaseException):
            items = iter([*each.args, each.__cause__])
        else:
            items = iter(())
            if len(found) < PARTS and type(each) not in SCALARS:
                found.append(each)
            counts[id(each)] = 1 + (len(each) >> 6 if kind in TEXTS else each.bit_length() >> 9 if kind is int else 0)
            return
        if len(found) < PARTS and kind is not list and kind is not dict:
            found.append(each)
        counts[id(each)] = 0
        waiting.append((each, items))

    enter(value)
    while waiting:
        container, items = waiting[-1]
        for item in items:
            known = counts.get(id(item))
            if known is None:
                enter(item)
                if waiting[-1][1] is not items:
                    break
                known = counts[id(item)]
            elif known <= 0:
                return found, False
            counts[id(container)] -= known
        else:
            waiting.pop()
            total = 1 - counts[id(container)]
            counts[id(container)] = total
            if waiting:
                counts[id(waiting[-1][0])] -= total
    return found, counts[id(value)] <= WIDE


TEXTS = {str, bytes, bytearray}
SCALARS = {int, float, str, bytes, bool, type(None)}
EXPECTED = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError, pickle.PickleError)


class Exercise:
    """Calls everything, and notes what it is doing in `step`, for who finds the process dead."""

    def __init__(self, say: Callable[[bytes], None], say_type: Callable[[bytes], None]) -> None:
        self.say = say
        self.say_type = say_type
        self.logger = logging.Formatter("%(levelname)s %(message)s")
        self.unclonable = 0
        self.body = b""

    def run(self, value: Any, again: Any, turn: int) -> None:
        """Use a value, and a second clone of the same message; `turn` says which of the costlier ways are meant."""
        kind = type(value)
        self.say_type(kind.__name__.encode())
        if kind in SCALARS:
            self.simply(value, again)
            if turn & 2:
                self.cloned(value)
            return
        found, shown = parts_of(value)
        if shown:
            self.simply(value, again)
        else:
            self.attempt("hash", hash, value)
            self.attempt("bool", bool, value)
        for part in found:
            if part is not value:
                self.say_type(type(part).__name__.encode())
                self.attempt("hash of a part", hash, part)
                if shown and turn & 1:
                    self.attempt("repr of a part", repr, part)
            self.specially(part)
        self.say_type(kind.__name__.encode())
        if turn & 2:
            self.cloned(value)
        elif turn & 1:
            self.attempt("copy", copy.copy, value)
            if shown:
                self.attempt("deepcopy", copy.deepcopy, value)
        else:
            self.attempt("pickle", self.pickled, value)
        if (kind is dict or kind is set) and not any(type(each) is range for each in value):
            self.attempt("sort", sorted, value)  # but numpy makes an array of a range to compare it
            self.attempt("min", min, value)

    def attempt(self, step: str, function: Callable[..., Any], *args: Any) -> Any:
        self.say(step.encode())
        try:
            return function(*args)
        except EXPECTED:
            return None

    def simply(self, value: Any, again: Any) -> None:
        attempt = self.attempt
        if attempt("hash", hash, value) is not None:
            attempt("lookup", {value: 1}.get, again)
        attempt("==", operator.eq, value, again)
        attempt("repr", repr, value)
        attempt("str", str, value)
        attempt("bool", bool, value)
        if hasattr(value, "__len__"):
            attempt("len", len, value)
        if hasattr(value, "__iter__"):
            attempt("iterate", lambda: list(islice(iter(value), 100)))

    def pickled(self, value: Any) -> None:
        pickle.loads(pickle.dumps(value, 5))

    def cloned(self, value: Any) -> None:
        """What was decoded is encoded again, if it has a clone, and then decodes."""
        self.say(b"encode")
        try:
            body = clone.encode(value)
        except DataCloneError:
            self.unclonable += 1
            return
        self.say(b"decode what was encoded")
        try:
            clone.decode(body)
        except DecodeError as error:
            raise WrongError("the encoder writes what decode refuses") from error
        self.body = body

    def specially(self, value: Any) -> None:
        if isinstance(value, BaseException):
            self.raised(value)
        elif isinstance(value, np.ndarray):
            self.attempt("use an array", self.array, value)
        elif isinstance(value, np.generic):
            self.attempt("item", value.item)
            self.attempt("compare", lambda: (value == value, value < value))  # type: ignore[operator]
            if value.dtype.kind in "mM":
                self.attempt("compare times", lambda: [value == other for other in TIMES])
            self.attempt("tobytes", value.tobytes)
            self.attempt("format", format, value)
        elif type(value) not in SCALARS and type(value) not in (tuple, list, dict, set, frozenset):
            self.attempt("repr", repr, value)
            self.attempt("str", str, value)
            self.attempt("format", format, value)
            self.attempt("compare", lambda: value < value)

    def raised(self, error: BaseException) -> None:
        self.say(b"raise")
        try:
            raise error
        except BaseException as caught:
            if caught is not error:
                raise
            self.attempt("traceback", traceback.format_exception, caught)
            record = logging.LogRecord("fuzz", logging.ERROR, "f", 1, "%s", (caught,), (type(caught), caught, None))
            self.attempt("log", self.logger.format, record)
        finally:
            error.__traceback__ = None
        self.attempt("str", str, error)
        self.attempt("repr", repr, error)

    def array(self, array: Any) -> None:
        """Read and write all of it, in each of the ways that trust its dtype."""
        attempt = self.attempt
        small = array.size <= 1000
        attempt("array.copy", array.copy)
        attempt("array.tobytes", array.tobytes)
        attempt("array.view", array.view, np.uint8)
        attempt("array.__setitem__", array.__setitem__, ..., array.copy("K"))
        attempt("array.flags", str, array.flags)
        if small:
            attempt("array.tolist", array.tolist)
            attempt("array.astype", array.astype, str)
            attempt("array ==", lambda: array == array)
            attempt("array.sort", np.sort, array, None)
            attempt("array repr", repr, array)
            attempt("array of fields", self.fields, array, 0)
            attempt("array[0]", lambda: array[(0,) * array.ndim].item())
        if array.dtype.kind in "mM":
            attempt("compare times", lambda: [array == other for other in TIMES])
        elif array.dtype.kind == "b":
            attempt("array.sum", array.sum)
            attempt("mask", lambda: np.arange(array.size)[array.reshape(-1)])
            attempt("nonzero", array.nonzero)
        elif array.dtype.kind in "iufc":
            attempt("array.astype", array.astype, np.int64)
            attempt("array.sum", array.sum)

    def fields(self, array: Any, depth: int) -> None:
        if array.dtype.names and depth < 4:
            for name in array.dtype.names[:4]:
                field = array[name]
                field.copy()
                field.tolist()
                field[...] = field
                if field.dtype.kind == "b":
                    field.any()
                    field.sum()
                    field.nonzero()
                self.fields(field, depth + 1)


logging.raiseExceptions = False
sys.setrecursionlimit(1000)
