# SPDX-License-Identifier: MIT
"""Reducers of types of the standard library and of numpy. Each is installed once somebody has imported its module.

So the codec imports none of these modules, but knows each type before a value of that type can come.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pickle import PickleBuffer
from typing import Any

from .. import _fast
from . import constructors
from .reducers import BASES, EXACT, LATER, Reducer, Unclonable, first, items_of

_PLAIN = frozenset(map(id, (str, int, float, bool, bytes, type(None))))


def _collections() -> None:
    import collections

    def ordered(obj: Any, _: Any) -> tuple[Any, ...]:
        # To iterate in an OrderedDict's own order takes hash() of each key, and a key's hash() may be a user's code. If
        # a key is not plain, the items are in the order of insertion.
        plain = all(id(type(key)) in _PLAIN for key in dict.__iter__(obj))
        items = collections.OrderedDict.items(obj) if plain else items_of(obj)
        return constructors.as_dict, (), None, None, iter(items)

    BASES[collections.OrderedDict] = ordered
    BASES[collections.defaultdict] = BASES[dict]


def _datetime() -> None:
    import datetime as dt

    utcoffsets: dict[type, Callable[[Any], Any]] = {dt.datetime: dt.datetime.utcoffset, dt.time: dt.time.utcoffset}
    microsecond = dt.timedelta(microseconds=1)

    def zone(kind: type, obj: Any, tzinfo: Any) -> Any:
        if type(tzinfo) is not dt.timezone:
            zoneinfo = sys.modules.get("zoneinfo")
            is_known = zoneinfo is not None and type(tzinfo) is zoneinfo.ZoneInfo and tzinfo.key is not None
            if is_known and len(tzinfo.key) <= constructors.ZONE_LIMIT:
                return tzinfo.key
        try:
            offset = utcoffsets[kind](obj)
        except Exception as error:
            raise Unclonable(obj, f"a time whose tzinfo raised {type(error).__name__}") from error
        return None if offset is None else dt.timedelta.__floordiv__(offset, microsecond)

    def datetime(obj: Any, _: Any) -> tuple[Any, ...]:
        reduced = dt.datetime.__reduce_ex__(obj, 4)[1]
        tzinfo = reduced[1] if len(reduced) > 1 else None
        if tzinfo is None:
            return constructors.as_datetime, (reduced[0],)
        return constructors.as_datetime, (reduced[0], zone(dt.datetime, obj, tzinfo))

    def date(obj: Any, _: Any) -> tuple[Any, ...]:
        d: Any = dt.date
        return constructors.as_date, (d.year.__get__(obj), d.month.__get__(obj), d.day.__get__(obj))

    def time(obj: Any, _: Any) -> tuple[Any, ...]:
        t: Any = dt.time
        names = (t.hour, t.minute, t.second, t.microsecond, t.fold)
        tzinfo = t.tzinfo.__get__(obj)
        if tzinfo is not None:
            tzinfo = zone(dt.time, obj, tzinfo)
        return constructors.as_time, (*(name.__get__(obj) for name in names), tzinfo)

    def timedelta(obj: Any, _: Any) -> tuple[Any, ...]:
        t: Any = dt.timedelta
        return constructors.as_timedelta, (t.days.__get__(obj), t.seconds.__get__(obj), t.microseconds.__get__(obj))

    BASES[dt.datetime] = datetime
    BASES[dt.date] = date
    BASES[dt.time] = time
    BASES[dt.timedelta] = timedelta
    EXACT[dt.timezone] = lambda obj, _: (constructors.as_timezone, (obj.utcoffset(None) // microsecond,))


def _zoneinfo() -> None:
    import zoneinfo

    def zone(obj: Any, _: Any) -> tuple[Any, ...]:
        if obj.key is None or len(obj.key) > constructors.ZONE_LIMIT:
            raise Unclonable(obj, f"a ZoneInfo without a key of at most {constructors.ZONE_LIMIT} characters")
        return constructors.as_timezone, (obj.key,)

    EXACT[zoneinfo.ZoneInfo] = zone


def _array() -> None:
    import array

    typecode = array.array.__dict__["typecode"].__get__

    def packed(obj: Any, _: Any) -> tuple[Any, ...]:
        if type(obj) is array.array:  # a subclass may define its own __buffer__
            memory = memoryview(obj).toreadonly()
            if memory.nbytes >= _fast.OUT_OF_BAND:
                return constructors.as_packed, (typecode(obj), PickleBuffer(memory))
        return constructors.as_packed, (typecode(obj), array.array.tobytes(obj))

    BASES[array.array] = packed


def _decimal() -> None:
    import decimal

    def reduce(obj: Any, _: Any) -> tuple[Any, ...]:
        text = decimal.Decimal.__str__(obj)
        if len(text) > constructors.DECIMAL_LIMIT:
            raise Unclonable(obj, f"a Decimal of more than {constructors.DECIMAL_LIMIT} characters")
        return constructors.as_decimal, (text,)

    BASES[decimal.Decimal] = reduce


def _fractions() -> None:
    import fractions

    numerator, denominator = (fractions.Fraction.__dict__[n].__get__ for n in ("_numerator", "_denominator"))

    def fraction(obj: Any, _: Any) -> tuple[Any, ...]:
        parts = numerator(obj), denominator(obj)
        if max(int.bit_length(part) for part in parts) > constructors.FRACTION_BITS:
            raise Unclonable(obj, f"a Fraction of more than {constructors.FRACTION_BITS} bits")
        return constructors.as_fraction, tuple(int.__pos__(part) for part in parts)

    BASES[fractions.Fraction] = fraction


def _uuid() -> None:
    import uuid

    number = uuid.UUID.__dict__["int"].__get__
    BASES[uuid.UUID] = lambda obj, _: (constructors.as_uuid, (int.__pos__(number(obj)),))


def _as_text(constructor: constructors.Row, name: str) -> Reducer:
    limit = constructor.arguments[1].size

    def reduce(obj: Any, _: Any) -> tuple[Any, ...]:
        text = str(obj)
        if len(text) > limit:
            raise Unclonable(obj, f"a {name} of more than {limit} characters")
        return constructor, (name, text)

    return reduce


def _pathlib() -> None:
    import pathlib

    for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"):
        EXACT[getattr(pathlib, name)] = _as_text(constructors.as_path, name)


def _ipaddress() -> None:
    import ipaddress

    for name in constructors.NETWORKS:
        EXACT[getattr(ipaddress, name)] = _as_text(constructors.as_network, name)


def _enum() -> None:
    import enum

    dict_of = enum.Enum.__dict__["__dict__"].__get__

    def member(obj: Any, _: Any) -> tuple[Any, ...]:
        return constructors.as_is, (dict_of(obj)["_value_"],)

    BASES[enum.Enum] = member
    first(enum.Enum)


def _numpy() -> None:
    from . import ndarray

    np = sys.modules["numpy"]

    def refusing(reduce: Reducer) -> Reducer:
        def reducer(obj: Any, message: Any) -> Any:
            try:
                return reduce(obj, message)
            except ndarray.RefusedError as refused:
                raise Unclonable(obj, str(refused)) from None

        return reducer

    BASES[np.ndarray] = refusing(ndarray.reduce_array)
    scalar = refusing(ndarray.reduce_scalar)
    for cls in {*np.sctypeDict.values()} - {np.object_, np.str_, np.bytes_}:
        EXACT[cls] = scalar
    # These numpy types are subclasses of Python types, and have their value as the Python type.
    for cls, base in (np.str_, str), (np.bytes_, bytes), (np.float64, float), (np.complex128, complex):
        BASES[cls] = BASES[base]


LATER.update(
    {
        "collections": _collections,
        "datetime": _datetime,
        "zoneinfo": _zoneinfo,
        "array": _array,
        "decimal": _decimal,
        "fractions": _fractions,
        "uuid": _uuid,
        "pathlib": _pathlib,
        "ipaddress": _ipaddress,
        "enum": _enum,
        "numpy": _numpy,
    }
)
