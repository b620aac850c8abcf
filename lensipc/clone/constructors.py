# SPDX-License-Identifier: MIT
"""The constructors that a message may call: one for each kind of value that a plain pickle cannot hold.

TABLE has a row for each constructor. The row says exactly what each argument may be, and what a call costs.
csrc/clone/reader.c checks every call against its row before it makes the call. So the functions here get exact builtins
of a bounded size. Code that is not lensipc's own gets only plain scalars. If a row cannot say something, its `make` or
`price` checks it, and refuses by raising any exception, which becomes a DecodeError. If this process only lacks a
registered name, a time zone, or an exception of a newer Python, the error is UnknownValueError.

The encoders in `reducers.py`, `stdlib_reducers.py` and `ndarray.py` refer to the rows as objects. A pickler writes a
row as WIRE_MODULE and the row's name. Functions here import a module only when a message needs it, so that
`import lensipc` stays cheap.
"""

from __future__ import annotations

import builtins
import codecs
import struct
import sys
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from .. import _fast
from ..errors import UnknownValueError

WIRE_MODULE = _fast.WIRE_MODULE
"""The name of this module in messages. It stays the same if the module moves."""

sys.modules[WIRE_MODULE] = sys.modules[__name__]  # a pickler looks there for a name before it writes the name

PATTERN_LIMIT = 8192
"""The longest regular expression in characters."""

FRACTION_BITS = 1 << 16
"""The longest numerator or denominator in bits. Reducing a fraction takes quadratic time, 1 ms at this size."""

DECIMAL_LIMIT = 4096
"""The longest text of a Decimal in characters. hash() takes time in proportion to the length, 10 us at this length."""

RANGE_BITS = 4096
"""The longest number of a range in bits, for the same reason."""

ZONE_LIMIT = 64
"""The longest name of a time zone in characters."""

TEXT_LIMIT = _fast.TEXT_LIMIT
"""The longest text in an exception in characters: each of its strings, its notes, and its traceback."""

ERROR_ARGS = 64
"""The most arguments, and the most notes, of an exception."""

SCALAR_LIMIT = 1 << 16
"""The most bytes of a numpy scalar, because hash() takes time in proportion to them."""

UNBOUNDED = 1 << 62
"""No limit except the message's own size."""


class Argument(NamedTuple):
    """What an argument of a constructor may be.

    Attributes:
        kinds: some of none, bool, int, float, str, bytes, scalars (a tuple of these), tuple (of anything), array (of
            numpy), error (an exception that a row made) and any. Types are exact: True is not an int.
        low, high: the range of an int; None: an int may have up to `size` bits.
        size: the largest size of a str in characters, of bytes, or of a tuple.
    """

    kinds: frozenset[str]
    low: int | None = None
    high: int | None = None
    size: int = 0


class Row:
    """A constructor. It pickles as its name.

    Attributes:
        name: its name in messages.
        arguments: the arguments that it takes. At least the first `required` of them must be there.
        rest: an argument that may follow them, any number of times; None: no more arguments.
        make: makes the value from the arguments.
        does: what csrc/clone/reader.c does for a call, one of DOES.
        plain: whether the result is a builtin, or an array of a simple dtype.
        cost, per_byte: the cost of a call, and for each byte of its arguments, in units of 10 ns.
        price: called with the arguments before `make`; None: not called. It returns the extra cost of the call, beyond
            `cost` and `per_byte`, and may refuse arguments for reasons that a row cannot say.
        hash_cost: the cost of hash() of the result, in the same units; None: the result must not be a key.
    """

    __module__ = WIRE_MODULE
    __slots__ = (
        "arguments", "cost", "does", "hash_cost", "make", "name", "per_byte", "plain", "price", "required", "rest",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        make: Callable[..., Any],
        *arguments: Argument,
        required: int | None = None,
        rest: Argument | None = None,
        does: str = "call",
        plain: bool = False,
        cost: int = 0,
        per_byte: int = 0,
        price: Callable[..., int] | None = None,
        hash_cost: int | None = 4,
    ) -> None:
        self.name: str = name
        self.make: Callable[..., Any] = make
        self.arguments: tuple[Argument, ...] = arguments
        self.required: int = len(arguments) if required is None else required
        self.rest: Argument | None = rest
        self.does: str = does
        self.plain: bool = plain
        self.cost: int = cost
        self.per_byte: int = per_byte
        self.price: Callable[..., int] | None = price
        self.hash_cost: int | None = hash_cost

    def __call__(self, *_: Any) -> Any:  # because the pickler requires a callable
        raise TypeError(f"{self.name} is called by messages only")


KINDS = ("none", "bool", "int", "float", "str", "bytes", "scalars", "tuple", "array", "error", "any")
"""The kinds of arguments, in the order of the bits LIPC_TAKES_*."""

DOES = ("dict", "list", "last", "call", "call a user's", "array", "error")
"""What the reader does for a row, in the order of LIPC_MAKES_DICT and the constants after it."""


def _takes(*kinds: str, low: int | None = None, high: int | None = None, size: int = 0) -> Argument:
    return Argument(frozenset(kinds), low, high, size)


def _int(low: int, high: int) -> Argument:
    return _takes("int", low=low, high=high)


def _text(size: int) -> Argument:
    return _takes("str", size=size)


# ---- the functions that make the values ----


def _zone(zone: Any) -> Any:
    """A tzinfo from None, an offset from UTC in microseconds, or the key of a time zone."""
    if zone is None:
        return None
    import datetime

    known = _zones.get(zone)
    if known is not None:
        return known
    if type(zone) is int:
        return datetime.timezone(datetime.timedelta(microseconds=zone))
    import zoneinfo

    global _names
    if _names is None:
        _names = zoneinfo.available_timezones()
    if zone not in _names:  # ZoneInfo would keep some memory each time that it is asked for an unknown zone
        raise UnknownValueError(f"this machine has no time zone {zone!r}: install the package tzdata")
    found = _zones[zone] = zoneinfo.ZoneInfo(zone)
    return found


_names: set[str] | None = None
"""The names of this machine's time zones; None: nobody has asked for one yet."""

_zones: dict[str, Any] = {}
"""The time zones that were loaded, by name. There are some 600, and loading one takes 0.1 ms."""


_STATE = struct.Struct(">H6BH")


def _datetime(state: bytes, zone: Any = None) -> Any:
    import datetime

    year, month, day, hour, minute, second, high, low = _STATE.unpack(state)
    return datetime.datetime(
        year, month & 0x7F, day, hour, minute, second, high << 16 | low, _zone(zone), fold=month >> 7
    )


def _date(year: int, month: int, day: int) -> Any:
    import datetime

    return datetime.date(year, month, day)


def _time(hour: int, minute: int, second: int, microsecond: int, fold: int, zone: Any = None) -> Any:
    import datetime

    return datetime.time(hour, minute, second, microsecond, _zone(zone), fold=fold)


def _timedelta(days: int, seconds: int, microseconds: int) -> Any:
    import datetime

    return datetime.timedelta(days, seconds, microseconds)


def _uuid(number: int) -> Any:
    import uuid

    return uuid.UUID(int=number)


def _decimal(text: str) -> Any:
    import decimal
    import re

    if not re.fullmatch(r"-?(?:[0-9]+(?:\.[0-9]+)?(?:E[+-]?[0-9]+)?|Infinity|s?NaN[0-9]*)", text):
        raise ValueError("not the text of a Decimal")
    return decimal.Decimal(text)


def _fraction(numerator: int, denominator: int) -> Any:
    import fractions

    return fractions.Fraction(numerator, denominator)


def pattern_price(pattern: str | bytes, flags: int) -> int:
    """The cost of compiling a pattern, in units of 10 ns.

    Raises:
        ValueError: a pattern cannot have these flags.
    """
    text = pattern if type(pattern) is str else bytes(pattern).decode("latin-1")  # type: ignore[arg-type]
    if flags & 0x81:  # TEMPLATE, and DEBUG, which prints
        raise ValueError("flags that a pattern cannot have")
    # Measured on CPython 3.11: each character takes 0.5 to 3.5 us. Beyond Latin-1, a range takes 5.5 ms, and 12 ms with
    # IGNORECASE; a set, or alternatives that become a set, takes 75 us. Any other range or set takes 4 us, and up to
    # 0.25 ms with IGNORECASE.
    sets = text.count("[")
    ranges = text.count("-") if sets else 0
    wide = max(text, default="") > "\xff" or "\\u" in text or "\\U" in text or "\\N" in text
    folded = flags & 2 or ("(?" in text and "i" in text)
    costly = 1_200_000 * ranges if folded else 600_000 * min(sets, ranges)
    costly += 8_000 * (sets + min(text.count("("), text.count("|")))
    return 400 * len(text) + (costly if wide else (25_000 if folded else 2_000) * (sets + ranges))


def _pattern(pattern: str | bytes, flags: int) -> Any:
    import re
    import warnings

    with warnings.catch_warnings():  # re warns of patterns that a later Python will read in another way
        warnings.simplefilter("ignore")
        return re.compile(pattern, flags)


PATHS = frozenset(("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"))


def _path(kind: str, text: str) -> Any:
    import pathlib

    if kind not in PATHS:
        raise ValueError("an unknown kind of path")
    return getattr(pathlib, kind)(text)


NETWORKS = frozenset(v + kind for v in ("IPv4", "IPv6") for kind in ("Address", "Network", "Interface"))


def _network(kind: str, text: str) -> Any:
    import ipaddress

    if kind not in NETWORKS:
        raise ValueError("an unknown kind of address")
    return getattr(ipaddress, kind)(text)


def _packed(typecode: str, data: bytes) -> Any:
    import array

    if typecode not in tuple("bBuhHiIlLqQfd"):
        raise ValueError("an unknown typecode")
    result = array.array(typecode)
    if typecode == "u":
        _check_characters(data, result.itemsize)
    result.frombytes(data)
    return result


def _check_characters(data: bytes, size: int) -> None:
    """Raise an error unless all characters are code points, because array.array does not check them."""
    decode = getattr(
        codecs, f"utf_{8 * size}_{sys.byteorder[0]}e_decode"
    )  # this function imports nothing, unlike bytes.decode
    decode(data, "surrogatepass", True)


# ---- exceptions ----

EXCEPTIONS: dict[str, type[BaseException]] = {
    name: cls
    for name, cls in vars(builtins).items()
    if isinstance(cls, type) and issubclass(cls, BaseException) and cls.__name__ == name
}
"""The builtin exceptions by their names."""


def exact_error_args(cls: type[BaseException], args: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """The arguments to construct `cls` with, if its str() is safe with them; None: these arguments are not safe."""
    if issubclass(cls, SyntaxError):  # its str() and its traceback trust the positions
        return args if len(args) == 1 and type(args[0]) is str else None
    if issubclass(cls, BlockingIOError) and len(args) > 2 and type(args[2]) is not int:
        return None
    if issubclass(cls, UnicodeError) and cls is not UnicodeError:  # str() reads at the positions without a check
        kinds = {UnicodeEncodeError: (str, str, int, int, str), UnicodeDecodeError: (str, bytes, int, int, str)}
        wanted = kinds.get(cls, (str, int, int, str))
        if tuple(map(type, args)) != wanted:
            return None
        text, start, end = args[-4:-1]
        return args if 0 <= start <= end <= len(text) else None
    return args


def _error(name: str, args: tuple[Any, ...], cause: Any, notes: tuple[Any, ...], trace: str | None) -> BaseException:
    cls = EXCEPTIONS.get(name)
    if cls is None:
        raise UnknownValueError(f"this Python has no exception {name!r}")
    if issubclass(cls, BaseExceptionGroup) or exact_error_args(cls, args) is None:
        raise ValueError("arguments that this exception cannot have")
    return _completed(cls(*args), cause, notes, trace)


def _group(
    name: str, message: str, cause: Any, notes: tuple[Any, ...], trace: str | None, *members: BaseException
) -> BaseException:
    cls = {"ExceptionGroup": ExceptionGroup, "BaseExceptionGroup": BaseExceptionGroup}.get(name)
    if cls is None:
        raise ValueError("an unknown exception group")
    return _completed(cls(message, members), cause, notes, trace)


def _completed(error: BaseException, cause: Any, notes: tuple[Any, ...], trace: str | None) -> BaseException:
    if any(type(note) is not str for note in notes):
        raise TypeError("a note that is not a str")
    if cause is not None:
        error.__cause__ = cause
    if notes:
        error.__notes__ = list(notes)
    if trace is not None:
        error.remote_traceback = trace  # type: ignore[attr-defined]
    return error


# ---- numpy's ----


def _array(*args: Any) -> Any:
    from . import ndarray

    return ndarray.build_array(*args)


def _array_price(*args: Any) -> int:
    from . import ndarray

    return ndarray.array_price(*args)


def _scalar(text: Any, data: bytes) -> Any:
    from . import ndarray

    return ndarray.build_scalar(text, data)


def _record_price(text: Any, _data: bytes) -> int:
    from . import ndarray

    return ndarray.dtype_price(text, 1)


def _number(text: str, value: Any) -> Any:
    from . import ndarray

    return ndarray.build_number(text, value)


# ---- registered types ----

DECODERS: dict[str, Callable[[Any], Any]] = {}
"""The decoders that `clone.register` was given, by name. Each makes a value from its encoder's result."""

ADAPTED: Final = frozenset(
    ("pandas.DataFrame", "pandas.Series", "pandas.Index", "pandas.Timestamp", "pandas.Timedelta", "pandas.NaTType",
     "pandas.NAType", "polars.DataFrame", "polars.Series", "pyarrow.Table", "pyarrow.RecordBatch", "PIL.Image",
     "torch.Tensor")
)  # fmt: skip
"""The types that adapters register, by their names in messages: the adapter's name, and the class's."""


def adapter_of(name: str) -> str | None:
    """How to let the type of this name cross; None: there is no adapter for it."""
    if name not in ADAPTED:
        return None
    return f"call lensipc.adapters.enable({name.partition('.')[0]!r}) in both processes"


def _registered(name: str, payload: Any) -> Any:
    decode = DECODERS.get(name)
    if decode is None:
        way_out = adapter_of(name) or "call lensipc.clone.register on both sides, with the same name"
        raise UnknownValueError(f"nothing is registered here as {name!r}: {way_out}")
    return decode(payload)


# ---- the table ----

_ZONE = _takes("none", "int", "str", low=-86_400_000_000, high=86_400_000_000, size=ZONE_LIMIT)
_ERROR = (
    _takes("none", "error"),
    _takes("scalars", size=ERROR_ARGS),
    _takes("none", "str", size=TEXT_LIMIT),
)
_ANY = _takes("any")
# The `make` of rows whose values the reader makes itself.
_none: Callable[..., Any] = lambda *_: None  # noqa: E731

as_dict: Final = Row("as_dict", _none, does="dict", plain=True)
as_list: Final = Row("as_list", _none, does="list", plain=True)
as_is: Final = Row("as_is", _none, _ANY, does="last", plain=True)
as_last: Final = Row("as_last", _none, _ANY, rest=_ANY, does="last", plain=True)
as_complex: Final = Row("as_complex", complex, _takes("float"), _takes("float"), plain=True, cost=15)
# Not a key: a numpy number with the same hash would be compared with the range, and numpy would make an array of it.
as_range: Final = Row("as_range", range, *(3 * (_takes("int", size=RANGE_BITS),)), plain=True, cost=20, hash_cost=None)
as_uuid: Final = Row("as_uuid", _uuid, _takes("int", size=128), cost=200, hash_cost=30)
as_datetime: Final = Row("as_datetime", _datetime, _takes("bytes", size=10), _ZONE, required=1, cost=200, hash_cost=40)
as_date: Final = Row("as_date", _date, _int(1, 9999), _int(1, 12), _int(1, 31), cost=60)
as_time: Final = Row(
    "as_time", _time, _int(0, 23), _int(0, 59), _int(0, 59), _int(0, 999_999), _int(0, 1), _ZONE, required=5, cost=150,
    hash_cost=40,
)  # fmt: skip
as_timedelta: Final = Row(
    "as_timedelta", _timedelta, _int(-999_999_999, 999_999_999), _int(0, 86_399), _int(0, 999_999), cost=60
)
as_timezone: Final = Row("as_timezone", _zone, _ZONE._replace(kinds=_ZONE.kinds - {"none"}), cost=150, hash_cost=30)
as_decimal: Final = Row("as_decimal", _decimal, _text(DECIMAL_LIMIT), cost=150, per_byte=1, hash_cost=30)
as_fraction: Final = Row(
    "as_fraction", _fraction, *(2 * (_takes("int", size=FRACTION_BITS),)), cost=100, per_byte=24, hash_cost=130
)
as_pattern: Final = Row(
    "as_pattern", _pattern, _takes("str", "bytes", size=PATTERN_LIMIT), _int(0, 511), cost=5_000, price=pattern_price,
    hash_cost=2048,
)  # fmt: skip
as_path: Final = Row("as_path", _path, _text(32), _text(1 << 16), cost=250, per_byte=6, hash_cost=60)
as_network: Final = Row("as_network", _network, _text(32), _text(128), cost=1500, hash_cost=130)
as_packed: Final = Row("as_packed", _packed, _text(1), _takes("bytes", size=UNBOUNDED), cost=60, hash_cost=None)
as_error: Final = Row(
    "as_error", _error, _text(64), _takes("scalars", size=ERROR_ARGS), *_ERROR, does="error", cost=300
)
as_group: Final = Row(
    "as_group", _group, _text(64), _text(TEXT_LIMIT), *_ERROR, rest=_takes("error"), does="error", cost=500
)
as_array: Final = Row(
    "as_array",
    _array,
    _takes("str", "tuple", size=1 << 14),
    _text(1),
    _takes("bytes", "int", "array", low=0, high=(1 << 32) - 1, size=UNBOUNDED),
    rest=_int(0, (1 << 62) - 1),
    does="array",
    plain=True,
    cost=300,
    price=_array_price,
    hash_cost=None,
)
as_number: Final = Row(
    "as_number", _number, _text(8), _takes("bool", "int", "float", low=-(1 << 63), high=(1 << 63) - 1), cost=350
)
as_unsigned: Final = Row("as_unsigned", _number, _text(8), _takes("int", size=64), cost=350)
as_scalar: Final = Row("as_scalar", _scalar, _text(40), _takes("bytes", size=SCALAR_LIMIT), cost=500, hash_cost=130)
as_record: Final = Row(
    "as_record", _scalar, _takes("tuple", size=1 << 14), _takes("bytes", size=SCALAR_LIMIT), cost=300,
    price=_record_price, hash_cost=None,
)  # fmt: skip
as_registered: Final = Row(
    "as_registered", _registered, _text(1 << 10), _ANY, does="call a user's", cost=100, hash_cost=130
)

TABLE: dict[str, Row] = {value.name: value for value in list(globals().values()) if type(value) is Row}
"""All constructors by name. A message can name nothing else."""


def rows() -> list[tuple[Any, ...]]:
    """TABLE in the form that csrc/clone/constructors.c takes."""

    def argument(each: Argument) -> tuple[int, int, int, int]:
        bounded = each.low is not None and each.high is not None
        return (
            sum(1 << KINDS.index(kind) for kind in each.kinds),
            each.low if bounded else 0,  # type: ignore[return-value]
            each.high if bounded else -1,
            each.size,
        )

    return [
        (
            row.name,
            row.make,
            row.price,
            DOES.index(row.does),
            row.plain,
            row.cost,
            row.per_byte,
            0xFFFFFFFF if row.hash_cost is None else row.hash_cost,
            row.required,
            tuple(map(argument, row.arguments)),
            None if row.rest is None else argument(row.rest),
        )
        for row in TABLE.values()
    ]
