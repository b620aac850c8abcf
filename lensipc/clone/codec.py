# SPDX-License-Identifier: MIT
"""Structured clone: what may cross from one process to another, as bytes and back.

A message is a pickle of protocol 5 that holds plain data. The only callables that it names are the constructors of
constructors.py. csrc/clone/writer.c writes trees of plain builtins, and most large arrays in them, in less than half
the time of a pickler. CPython's own pickler writes everything else, and asks reducers.py about each object that is no
plain builtin. csrc/clone/reader.c reads every message and builds each value as it checks it; Python's unpickler is not
used. A large array travels beside the pickle, so its memory is copied once on each side:

    4 bytes  _fast.MAGIC, with which no pickle begins
    4 bytes  how many buffers there are
    8 bytes  how long the pickle is
    8 bytes  for each buffer: how long it is
    the pickle, then each buffer, at multiples of _fast.ALIGNMENT

This module knows nothing of rings, processes or channels. docs/clone.md tells what arrives, what is lost and what
raises.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from typing import Any

from .. import _fast
from .._core import lib
from ..errors import DataCloneError, DecodeError, UnknownValueError
from . import constructors, diagnose, reducers
from . import stdlib_reducers as _library  # noqa: F401 - fills the tables of reducers

REUSED = 4096
"""Bytes up to which a pickler is used again. Its first buffer has this size. A grown buffer slows later messages."""

UNTRIED = 1024
"""Bytes up to which a pickle that takes nothing from its memo is sent without a trial. A pickle this short cannot be
nested too deep or cost too much to read."""

FEW_REPEATED = 16
"""Memo references that a pickle may have and still be sent without a trial, where it is short but for large strings.
With at most this many, no part of the value is repeated a thousand times, however its containers share each other."""


class Limits:
    """What reading a message may cost. Main chooses the limits and tells its renderers, which check what they send.

    Attributes:
        budget: what the keys and constructors of one message may cost, in units of 10 ns. Each byte of the pickle adds
            20 ns.
        plain: only builtins and arrays of simple dtypes cross.
        count_all: plain data counts against the budget too, and bytes of the pickle add nothing.
        flags: `plain` and `count_all` for csrc/clone/reader.c.
    """

    __slots__ = ("budget", "count_all", "flags", "plain")

    budget: int
    count_all: bool
    plain: bool

    def __init__(self, budget: int = lib.LIPC_BUDGET, plain: bool = False, count_all: bool = False) -> None:
        self.budget, self.plain, self.count_all = budget, plain, count_all
        self.flags: int = plain * _fast.READ_PLAIN | count_all * _fast.READ_ALL


STANDARD = Limits()

_ALIGNMENT, _OUT_OF_BAND = _fast.ALIGNMENT, _fast.OUT_OF_BAND
_HEADER = struct.Struct("<4sIQ")
_LENGTH = struct.Struct("<Q")
_fast.register_constructors(DecodeError, UnknownValueError, constructors.rows())
_encode_plain, _decode, _weigh = _fast.encode, _fast.decode, _fast.weigh
encode_small = _encode_plain
"""Clones plain data into one piece of bytes, for a reader that counts no plain data against its budget. None: the value
is something else, which `encode_parts` clones. It is the C core's own: a call in Python would double its time."""


class _Message:
    """What reducers.py and ndarray.py note down while one message is written."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.limits = STANDARD
        self.price = 0
        """What compiling the message's patterns costs, in the units of `Limits.budget`."""
        self.may_be_key = False
        """Whether an object in the message may be a key whose clone is not hashable, or equals another key's clone."""
        self.current: Any = None
        """The object that the pickler asks about now."""
        self.buffers: list[memoryview] = []
        self.arrays: list[tuple[Any, Any]] = []
        self.places: dict[Any, Any] = {}
        """The first array of the message for each piece of memory; `arrays` are those not placed yet."""


class _Pickler(pickle.Pickler):
    """A pickler with a function of its own for what it does not know.

    In a slot: as a method it would be bound again for every message, which takes 0.07 of a small one.
    """

    __slots__ = ("reducer_override",)

    reducer_override: Callable[[Any], Any]


class _Writer:
    """A file to the pickler. It is handed bytes and bytearrays of OUT_OF_BAND or more as they are, uncopied."""

    __slots__ = ("write",)

    def __init__(self, write: Callable[[Any], None]) -> None:
        self.write = write


_Entry = tuple[list[Any], _Message, _Pickler]

_idle: list[_Entry] = []
"""Picklers that nobody uses now, with what they write to. Making one takes longer than a small message.

list.pop and list.append are atomic, so threads share it, and an encoder that calls `encode` finds another one."""


def _new_entry() -> _Entry:
    chunks: list[Any] = []
    message = _Message()
    pickler = _Pickler(_Writer(chunks.append), _fast.PROTOCOL)
    known = reducers.TABLE.get

    def reducer_override(obj: Any) -> Any:
        message.current = obj
        reduce = known(id(type(obj))) or reducers.reducer_of(obj)
        return reduce(obj, message)

    pickler.reducer_override = reducer_override
    return chunks, message, pickler


def encode(obj: object, limits: Limits = STANDARD, name: str = "value") -> bytes:
    """Clone a value into bytes that `decode` takes, here or in another process.

    Args:
        obj: what to clone. docs/clone.md says what arrives of it.
        limits: what its receiver has.
        name: what a DataCloneError calls `obj`: with "args", a tuple's first item is `args[0]`.

    Returns:
        The message, complete in itself.

    Raises:
        DataCloneError: something in `obj` has no clone; it says where and what. Or its receiver would refuse it.
    """
    body = _encode_plain(obj)
    if body is None:
        return b"".join(_encode(obj, name, limits))
    return body if limits is STANDARD else _checked(body, obj, name, limits)


def encode_parts(obj: object, name: str = "value", limits: Limits = STANDARD) -> bytes | list[Any]:
    """Clone a value without copying the large memory in it.

    Args:
        obj, name, limits: as `encode` takes them.

    Returns:
        The message in one piece, or its pieces in order: bytes and memoryviews of single bytes. Views may show the
        memory of `obj` itself; then what arrives is what it holds when they are copied.

    Raises:
        DataCloneError: as `encode` does.
    """
    body = _encode_plain(obj)
    if body is not None:
        return body if limits is STANDARD else _checked(body, obj, name, limits)
    parts = _encode(obj, name, limits)
    return parts[0] if len(parts) == 1 and type(parts[0]) is bytes else parts


def _checked(body: bytes, obj: object, name: str, limits: Limits) -> bytes:
    """Return a message of plain data after checking, where needed, that its receiver would read it."""
    if limits.count_all and len(body) > UNTRIED:
        _try(body, obj, name, limits)
    return body


def _encode(obj: object, name: str, limits: Limits) -> list[Any]:
    """The pieces of any message."""
    try:
        entry = _idle.pop()
    except IndexError:
        entry = _new_entry()
    entry[1].limits = limits
    try:
        entry[2].dump(obj)
    except BaseException as error:  # this pickler may be in any state: it is not used again
        entry = _recover(error, obj, name, limits)
    return _finish(entry, obj, name, limits)


def _recover(error: BaseException, obj: object, name: str, limits: Limits) -> _Entry:
    """Say what was wrong with a value, or clone it once more if it was merely too deep for the pickler."""
    if isinstance(error, RecursionError):
        entry = _new_entry()
        entry[1].limits = limits
        try:
            entry[2].dump(_Sequence((*diagnose.cuts(obj), obj)))
            return entry
        except RecursionError:
            raise DataCloneError(f"{name} is nested too deep") from None
        except BaseException as another:
            error = another
    if isinstance(error, reducers.Unclonable):
        path = diagnose.path_to(obj, error.culprit, name) or f"something in {name}"
        raise DataCloneError(f"{path} is {error.what}") from error.__cause__
    if isinstance(error, MemoryError) or not isinstance(error, Exception):
        raise error
    raise DataCloneError(f"{name} could not be cloned: {error}") from error


class _Sequence:
    """Values to be cloned one after the other, of which only the last arrives."""

    def __init__(self, members: tuple[Any, ...]) -> None:
        self.members = members


reducers.EXACT[_Sequence] = lambda obj, _: (constructors.as_last, obj.members)


def _finish(entry: _Entry, obj: object, name: str, limits: Limits) -> list[Any]:
    """The message that a pickler has written."""
    chunks, message, pickler = entry
    parts = [chunk if type(chunk) is bytes else _view(chunk) for chunk in chunks]
    chunks.clear()
    size = sum(map(len, parts))
    if message.may_be_key or limits.plain or _is_to_be_tried(parts, size):
        _try(b"".join(parts), obj, name, limits)
    buffers = message.buffers
    if size <= REUSED:
        pickler.memo = _EMPTY
        message.begin()
        _idle.append(entry)
    if not buffers:
        return parts
    head = _HEADER.pack(_fast.MAGIC, len(buffers), size) + b"".join([_LENGTH.pack(len(buffer)) for buffer in buffers])
    end = len(head) + size
    parts.insert(0, head)
    if size <= REUSED:  # the sender has less to do for one piece, the first buffer's padding in it
        padding = -end % _ALIGNMENT
        parts = [b"".join((*parts, bytes(padding)))]
        end += padding
    for buffer in buffers:
        if padding := -end % _ALIGNMENT:
            parts.append(bytes(padding))
        parts.append(buffer)
        end += padding + len(buffer)
    return parts


_EMPTY: dict[int, tuple[int, Any]] = {}


def _view(chunk: Any) -> memoryview:
    """The memory of a bytearray or PickleBuffer. While the view lives, a bytearray cannot change its size."""
    return chunk.raw() if type(chunk) is pickle.PickleBuffer else memoryview(chunk)


def _is_to_be_tried(parts: list[Any], size: int) -> bool:
    if size <= UNTRIED:  # in one piece
        return b"h" in parts[0] or b"j" in parts[0]  # BINGET and LONG_BINGET: nothing is shared without
    # A large piece is a string's bytes and nothing else.
    small = [part for part in parts if len(part) < _OUT_OF_BAND]
    if sum(map(len, small)) > UNTRIED:
        return True
    return len(small) < len(parts) and sum(part.count(b"h") + part.count(b"j") for part in small) > FEW_REPEATED


def _try(pickle: bytes, obj: object, name: str, limits: Limits) -> None:
    """Read what is to be sent, so that its sender hears what the receiver would refuse."""
    try:
        _decode(pickle, limits.budget, limits.flags | _fast.READ_TRIAL)
    except DecodeError as error:
        refusal = str(error)
    else:
        return
    # To find the culprit, diagnose walks through the whole value. So it runs only for the refusals that it can place.
    if "not hashable" in refusal:
        found = diagnose.unhashable(obj)
    elif "there already" in refusal:
        found = diagnose.colliding(obj, _arrive)
    else:
        found = diagnose.too_deep(obj) if "levels" in refusal else None
    if found is not None:
        culprit, what = found
        raise DataCloneError(f"{diagnose.path_to(obj, culprit, name) or name} is {what}")
    raise DataCloneError(f"{name} could not be cloned: its pickle has {refusal.partition(': ')[2]}")


def _arrive(key: Any) -> Any:
    """What a key arrives as, by itself."""
    entry = _new_entry()
    entry[2].dump(key)
    return _decode(b"".join(entry[0]))


def decode(buffer: Any, limits: Limits = STANDARD) -> Any:
    """Make the value that `encode` was given, from bytes that nobody vouches for.

    Args:
        buffer: the message, as bytes or anything else that exports its memory. The result shares none of it.
        limits: what reading it may cost.

    Returns:
        A new value, of plain builtins and the types in docs/clone.md.

    Raises:
        DecodeError: these bytes are no message, or one that would do harm; it says at which byte and why.
        UnknownValueError: a DecodeError too: an honest message, of something that this process does not know.
    """
    if type(buffer) is not bytes:
        buffer = bytes(buffer)  # so that it cannot change while it is read
    return _decode(buffer) if limits is STANDARD else _decode(buffer, limits.budget, limits.flags)


def decode_each(buffers: list[bytes], limits: Limits = STANDARD) -> list[Any]:
    """Make the value of each message of a list, as `decode` does for one."""
    budget, flags = limits.budget, limits.flags
    return [_decode(buffer, budget, flags) for buffer in buffers]


def decode_owned(buffer: bytes | bytearray | memoryview, limits: Limits = STANDARD) -> Any:
    """Make the value as `decode` does, from memory that the value may keep.

    Args:
        buffer: the message, as single bytes of memory that nobody else reads or writes, now or later. Arrays of the
            result live in it where it is writable, and large enough to be worth it.
        limits: what reading it may cost.

    Returns:
        A new value.

    Raises:
        DecodeError: as `decode` does.
    """
    if len(buffer) < _OUT_OF_BAND:  # nothing is beside its pickle
        return decode(buffer, limits)
    return _decode(buffer, limits.budget, limits.flags | _fast.READ_OWNED)


def decode_view(buffer: bytes | bytearray | memoryview | _fast.Block, limits: Limits = STANDARD) -> Any:
    """Make the value as `decode` does, but leave its large memory where it is.

    Args:
        buffer: the message, in memory that does not change while anything of the result lives.
        limits: what reading it may cost.

    Returns:
        A new value. Its arrays are read-only, and lie in `buffer` if they are large. Long bytes and bytearrays are
        read-only memoryviews of it.

    Raises:
        DecodeError: as `decode` does.
    """
    memory: Any = buffer
    if type(buffer) is _fast.Block:
        memory = buffer.lease()
    elif type(buffer) is not bytes:
        memory = memoryview(buffer).toreadonly()
    return _decode(memory, limits.budget, limits.flags | _fast.READ_VIEW)


def weigh(
    buffer: bytes | bytearray | memoryview, limits: Limits = STANDARD, *, owned: bool = True, view: bool = False
) -> tuple[Any, int]:
    """Make the value as `decode_owned` does, as `decode`, or as `decode_view` of a copy.

    Say what it weighs, too: bytes of memory at most.
    """
    flags = limits.flags | (_fast.READ_OWNED if owned and len(buffer) >= _OUT_OF_BAND else 0)
    if view:
        if not owned:
            buffer = bytearray(buffer)
        buffer = memoryview(buffer).toreadonly()
        flags |= _fast.READ_VIEW
    elif not owned and type(buffer) is not bytes:
        buffer = bytes(buffer)
    value, weight = _weigh(buffer, limits.budget, flags)
    return value, weight + len(buffer)


_registered: set[type] = set()


def register(
    cls: type,
    name: str,
    encode: Callable[[Any], Any],
    decode: Callable[[Any], Any],
    *,
    subclasses: bool = False,
) -> Callable[[], None]:
    """Let instances of one's own class cross as such. Both sides register it, under one name.

    Args:
        cls: the class.
        name: what it is called in messages: the same on both sides, and unique there.
        encode: takes an instance and returns a value to be cloned in its place.
        decode: takes that value's clone and returns an instance. What it gets a peer chose: it must check it.
        subclasses: whether an instance of a subclass, which a class statement made, is encoded by `encode`, too.

    Returns:
        A function that undoes the registration.

    Raises:
        TypeError: `cls` is no class, or one of Python's own builtins.
        ValueError: `cls` or `name` is registered already.
    """
    if not isinstance(cls, type) or cls.__module__ == "builtins":
        raise TypeError(f"{cls!r} is not a class of one's own")
    if cls in _registered:
        raise ValueError(f"{cls.__qualname__} is registered already")
    if name in constructors.DECODERS:
        raise ValueError(f"{name!r} is registered already")

    def reduce(obj: Any, _: Any) -> tuple[Any, ...]:
        try:
            return constructors.as_registered, (name, encode(obj))
        except (MemoryError, RecursionError):
            raise
        except Exception as error:
            raise reducers.Unclonable(obj, f"{reducers.describe(obj)} that its encoder refuses: {error}") from error

    _registered.add(cls)
    constructors.DECODERS[name] = decode
    table = reducers.BASES if subclasses else reducers.EXACT
    before = table.get(cls)
    table[cls] = reduce
    reducers.forget(cls, subclasses)

    def undo() -> None:
        if table.get(cls) is not reduce:
            return
        del table[cls], constructors.DECODERS[name]
        if before is not None:
            table[cls] = before
        reducers.forget(cls, subclasses)
        _registered.discard(cls)

    return undo
