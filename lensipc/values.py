# SPDX-License-Identifier: MIT
"""What a receiver may call: one constructor for each kind of value that a plain pickle cannot hold.

Their names and what their results are to a dict or set stand in csrc/effects.c too; nothing else can be named by a
message. Each takes values that a hostile peer chose, so each checks all of them and spends no more than their size
warrants. A refusal is any exception; `clone.decode` turns it into DecodeError. The encoders beside them, in
`reducers.py`, `library.py` and `arrays.py`, refer to these objects by name only.

Nothing is imported here before a message needs it: `import lensipc` stays cheap.
"""

from __future__ import annotations

import builtins
import struct
from collections.abc import Callable
from typing import Any

PATTERN_LIMIT = 8192
"""Longest regular expression in characters."""

PATTERN_TOTAL = 4 * PATTERN_LIMIT
"""Characters of all of a message's regular expressions. Python takes 3 to 7 us for each to compile them."""

PATTERN_WORK = 64
"""What the character sets of a message may take to compile, in units of 6 ms: see `pattern_work`."""

FRACTION_BITS = 1 << 16
"""Longest numerator or denominator in bits. Reducing a fraction takes quadratic time, 1 ms at this size."""

DECIMAL_LIMIT = 4096
"""Longest text of a Decimal in characters. Each hash() of it takes time in proportion, 10 us at this length."""

RANGE_BITS = 4096
"""Longest number of a range in bits, for the same reason."""

TEXT_CALL = 11
"""Bytes in which a call with one string is written at least, that string not counted. Python parses a network for up to
27 us, which is 1 us for each byte of the shortest."""

ZONE_LIMIT = 64
"""Longest name of a time zone in characters."""


class Constructor:
    """A callable that a message may name. Has no attributes to set, and pickles as its name.

    `per_message` says that `make` takes the message's unpickler first. All constructors of a message together may take
    no more bytes than it has: one string or tuple that many calls refer to must not be worked on many times. So an
    encoder gives each call a string or tuple of its own.
    """

    __slots__ = ("make", "name", "per_message")

    def __init__(self, name: str, make: Callable[..., Any], per_message: bool = False) -> None:
        self.name = name
        self.make = make
        self.per_message = per_message

    def __call__(self, *args: Any) -> Any:
        return self.make(*args)

    def bind(self, message: object) -> Bound:
        return Bound(self, message)


class Bound:
    """A constructor together with the message that it works for."""

    __slots__ = ("constructor", "message")

    def __init__(self, constructor: Constructor, message: object) -> None:
        self.constructor = constructor
        self.message = message

    def __call__(self, *args: Any) -> Any:
        return self.constructor.make(self.message, *args)


def expect(value: object, *types: type) -> None:
    """Raise TypeError unless `value` is exactly of one of `types`."""
    if type(value) not in types:
        raise TypeError(f"{' or '.join(t.__name__ for t in types)} expected, not {type(value).__name__}")


def _is(value: Any) -> Any:
    return value


def _last(*values: Any) -> Any:
    return values[-1]


def _uuid(number: int) -> Any:
    import uuid

    expect(number, int)
    return uuid.UUID(int=number)


def _zone(zone: object) -> Any:
    """A tzinfo from None, an offset from UTC in microseconds, or the key of a time zone."""
    import datetime

    if zone is None:
        return None
    if type(zone) is int:
        return datetime.timezone(datetime.timedelta(microseconds=zone))
    expect(zone, str)
    import re
    import zoneinfo

    assert type(zone) is str
    if len(zone) > ZONE_LIMIT or not re.fullmatch(r"[A-Za-z0-9_+\-]+(/[A-Za-z0-9_+\-]+)*", zone):
        raise ValueError("no name of a time zone")
    return zoneinfo.ZoneInfo(zone)


def _datetime(state: bytes, zone: object = None) -> Any:
    import datetime

    expect(state, bytes)
    year, month, day, hour, minute, second, high, low = struct.unpack(">H6BH", state)
    return datetime.datetime(
        year, month & 0x7F, day, hour, minute, second, high << 16 | low, _zone(zone), fold=month >> 7
    )


def _date(year: int, month: int, day: int) -> Any:
    import datetime

    return datetime.date(year, month, day)


def _time(hour: int, minute: int, second: int, microsecond: int, fold: int, zone: object = None) -> Any:
    import datetime

    return datetime.time(hour, minute, second, microsecond, _zone(zone), fold=fold)


def _timedelta(days: int, seconds: int, microseconds: int) -> Any:
    import datetime

    for part in (days, seconds, microseconds):
        expect(part, int)
    return datetime.timedelta(days, seconds, microseconds)


def _timezone(zone: object) -> Any:
    expect(zone, int, str)
    return _zone(zone)


def _complex(real: float, imaginary: float) -> complex:
    expect(real, float)
    expect(imaginary, float)
    return complex(real, imaginary)


def _decimal(message: Any, text: str) -> Any:
    import decimal
    import re

    expect(text, str)
    message.take(len(text))
    if len(text) > DECIMAL_LIMIT:
        raise ValueError("a Decimal too long")
    if not re.fullmatch(r"-?(?:[0-9]+(?:\.[0-9]+)?(?:E[+-]?[0-9]+)?|Infinity|s?NaN[0-9]*)", text):
        raise ValueError("no text of a Decimal")
    return decimal.Decimal(text)


def _fraction(message: Any, numerator: int, denominator: int) -> Any:
    import fractions

    for part in (numerator, denominator):
        expect(part, int)
        message.take(part.bit_length() // 8)
        if part.bit_length() > FRACTION_BITS:
            raise ValueError("a fraction too long to reduce")
    return fractions.Fraction(numerator, denominator)


def _range(start: int, stop: int, step: int) -> range:
    for part in (start, stop, step):
        expect(part, int)
        if part.bit_length() > RANGE_BITS:
            raise ValueError("a range too long")
    return range(start, stop, step)


def pattern_work(pattern: str | bytes, flags: int) -> int:
    """How much of a message's PATTERN_WORK compiling `pattern` takes at most.

    Raises:
        ValueError: it is longer than PATTERN_LIMIT, or its flags are none that a pattern can have.
    """
    text = pattern if type(pattern) is str else bytes(pattern).decode("latin-1")  # type: ignore[arg-type]
    if len(text) > PATTERN_LIMIT:
        raise ValueError(f"a pattern longer than {PATTERN_LIMIT} characters")
    if not 0 <= flags < 512 or flags & 0x81:  # TEMPLATE and DEBUG, which prints
        raise ValueError("flags that no pattern has")
    # Measured on CPython 3.11: a range beyond Latin-1 takes 5.5 ms, with IGNORECASE 12 ms; others 0.02 to 0.25 ms.
    sets = text.count("[")
    ranges = text.count("-") if sets else 0
    wide = any(char > "\xff" for char in text) or any(escape in text for escape in ("\\u", "\\U", "\\N"))
    folded = flags & 2 or ("(?" in text and "i" in text)
    if wide:
        return 2 * ranges if folded else min(sets, ranges)
    return (sets + ranges) // 16


def _pattern(message: Any, pattern: str | bytes, flags: int) -> Any:
    import re

    expect(pattern, str, bytes)
    expect(flags, int)
    message.pattern_work += pattern_work(pattern, flags)
    message.pattern_size += len(pattern)
    if message.pattern_work > PATTERN_WORK or message.pattern_size > PATTERN_TOTAL:
        raise ValueError("patterns that take too long to compile")
    return re.compile(pattern, flags)


def _path(message: Any, kind: str, text: str) -> Any:
    import pathlib

    expect(kind, str)
    expect(text, str)
    message.take(len(text))
    if kind not in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"):
        raise ValueError("no kind of path")
    return getattr(pathlib, kind)(text)


def _address(message: Any, kind: str, text: str) -> Any:
    """An address. With a scope it has a hash that a peer can choose, and goes the way of networks."""
    if kind not in ("IPv4Address", "IPv6Address") or "%" in text:
        raise ValueError("no kind of address")
    return _network(message, kind, text)


def _network(message: Any, kind: str, text: str) -> Any:
    import ipaddress

    expect(kind, str)
    expect(text, str)
    message.take(TEXT_CALL + len(text))
    if kind[:4] not in ("IPv4", "IPv6") or kind[4:] not in ("Address", "Network", "Interface"):
        raise ValueError("no kind of address")
    if len(text) > 128:
        raise ValueError("no address")
    return getattr(ipaddress, kind)(text)


def builtin_exception(name: object) -> type[BaseException]:
    """The builtin exception of that name; ValueError if there is none."""
    expect(name, str)
    found = vars(builtins).get(str(name))
    if not isinstance(found, type) or not issubclass(found, BaseException) or found.__module__ != "builtins":
        raise ValueError("no builtin exception")
    return found


def _error(
    message: Any, name: str, args: tuple[Any, ...], cause: object, notes: tuple[Any, ...], trace: object
) -> BaseException:
    expect(args, tuple)
    expect(notes, tuple)
    message.take(len(args) + len(notes))
    expect(trace, str, type(None))
    error = None
    for cls in builtin_exception(name).__mro__:  # UnicodeDecodeError does not take a mere message, ValueError does
        try:
            error = cls(*args)
            break
        except TypeError:
            continue
    if not isinstance(error, BaseException):
        raise TypeError("arguments that no exception takes")
    if cause is not None:
        if not isinstance(cause, BaseException):
            raise TypeError("a cause that is no exception")
        error.__cause__ = cause
    for note in notes:
        expect(note, str)
    if notes:
        vars(error)["__notes__"] = list(notes)  # where Python 3.11 keeps them
    if trace is not None:
        error.remote_traceback = trace  # type: ignore[attr-defined]
    return error


def _packed(message: Any, typecode: str, data: bytes) -> Any:
    import array

    expect(typecode, str)
    expect(data, bytes)
    message.take(len(data))
    result = array.array(typecode)
    result.frombytes(data)
    return result


def _array(message: Any, *args: Any) -> Any:
    from . import arrays  # takes the place of this function

    return arrays.build_array(message, *args)


def _scalar(message: Any, *args: Any) -> Any:
    from . import arrays

    return arrays.build_scalar(message, *args)


def _number(*args: Any) -> Any:
    from . import arrays

    return arrays.build_number(*args)


DECODERS: dict[str, Callable[[Any], Any]] = {}
"""What `clone.register` was given to make values of a name from what their encoder gave."""


def _registered(name: str, payload: Any) -> Any:
    expect(name, str)
    decode = DECODERS.get(name)
    if decode is None:
        raise LookupError(f"nothing is registered here as {name!r}")
    return decode(payload)


LEARNERS: list[Callable[..., object]] = []
"""What `arrays` tells of numpy once it is imported: `clone` puts csrc/python/arrays.c here."""

as_dict = Constructor("as_dict", dict)
as_list = Constructor("as_list", list)
as_is = Constructor("as_is", _is)
as_last = Constructor("as_last", _last)
as_uuid = Constructor("as_uuid", _uuid)
as_datetime = Constructor("as_datetime", _datetime)
as_date = Constructor("as_date", _date)
as_time = Constructor("as_time", _time)
as_timedelta = Constructor("as_timedelta", _timedelta)
as_timezone = Constructor("as_timezone", _timezone)
as_complex = Constructor("as_complex", _complex)
as_decimal = Constructor("as_decimal", _decimal, per_message=True)
as_fraction = Constructor("as_fraction", _fraction, per_message=True)
as_range = Constructor("as_range", _range)
as_pattern = Constructor("as_pattern", _pattern, per_message=True)
as_path = Constructor("as_path", _path, per_message=True)
as_address = Constructor("as_address", _address, per_message=True)
as_network = Constructor("as_network", _network, per_message=True)
as_error = Constructor("as_error", _error, per_message=True)
as_packed = Constructor("as_packed", _packed, per_message=True)
as_array = Constructor("as_array", _array, per_message=True)
as_number = Constructor("as_number", _number)
as_scalar = Constructor("as_scalar", _scalar, per_message=True)
as_registered = Constructor("as_registered", _registered)

CONSTRUCTORS: dict[str, Constructor] = {
    name: value for name, value in list(globals().items()) if type(value) is Constructor
}
"""Every constructor by its name. The only thing that the unpickler ever looks up."""
