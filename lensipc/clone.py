# SPDX-License-Identifier: MIT
"""Structured clone: what may cross from one process to another, as bytes and back.

A message is a pickle of protocol 5 that holds plain data, and names no callables but the constructors in
`values`. CPython's own pickler writes it, and asks `reducers` about everything that is not a plain builtin.
CPython's own unpickler loads it, after csrc/scan.c has proved it harmless. Most messages are small trees of plain
builtins: csrc/python/plain.h tells how those are written and read without either, in less than half the time, and most
large arrays in them. Such arrays travel beside the pickle, so that their memory is copied once on each side:

    4 bytes  MAGIC, with which no pickle begins
    4 bytes  how many buffers there are
    8 bytes  how long the pickle is
    8 bytes  for each buffer: how long it is
    the pickle, then each buffer, at multiples of ALIGNMENT

This module knows nothing of rings, processes or channels. docs/clone.md tells what arrives, what is lost and what
raises.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

from . import library as _library  # noqa: F401 - fills the tables of reducers
from . import reducers, values, walk
from ._core import ffi, lib
from .errors import DataCloneError, DecodeError
from .transfer import check_transfer, detach

__all__ = [
    "check_transfer",
    "decode",
    "decode_owned",
    "detach",
    "encode",
    "encode_parts",
    "register",
]

MAGIC = b"LIB\x01"
ALIGNMENT = 64
"""Where a buffer begins, in bytes: a cache line, and as much as any vector instruction asks for."""

REUSED = 4096
"""Bytes up to which a pickler is used again. Its first buffer has this size; grown, it slows all that comes after."""

UNCHECKED = 1 << 19
"""Bytes up to which a message of plain builtins is not scanned by its sender, which would take a quarter more.

The receiver refuses such a message only if its keys take millions of steps to hash, and its sender took these steps
itself when it made them; or if it loads into 64 MiB and 32 times its size, for which this is too short."""

LARGE = 1 << 16
"""Bytes from which on `decode_owned` works in the memory it was given. Below, a copy is cheaper."""

HEAD = 1024
"""Bytes that are copied out of a message to read it in C: where the pickle of one with large arrays mostly ends."""

_HEADER = struct.Struct("<4sIQ")
_LENGTH = struct.Struct("<Q")
_calls = lib.lipc_calls()
_scan, _encode_plain, _decode_plain, _decode_arrays = _calls.scan, _calls.encode, _calls.decode, _calls.decode_arrays
values.LEARNERS.append(_calls.know_arrays)


class _Message:
    """What `reducers` and `arrays` note down while one message is written."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        self.reduced = False
        self.current: Any = None
        """The object that the pickler asks about."""
        self.buffers: list[memoryview] = []
        self.arrays: list[tuple[Any, Any]] = []
        self.places: dict[Any, Any] = {}
        """The first array of the message for each piece of memory; `arrays` are those not placed yet."""
        self.pattern_work = self.pattern_size = 0


class _Pickler(pickle.Pickler):
    """A pickler with a function of its own for what it does not know.

    In a slot: as a method it would be bound again for every message, which takes 0.07 of a small one.
    """

    __slots__ = ("reducer_override",)

    reducer_override: Callable[[Any], Any]


class _Writer:
    """A file to the pickler. It is handed bytes and bytearrays of 64 KiB or more as they are, uncopied."""

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
    pickler = _Pickler(_Writer(chunks.append), 5)
    known = reducers.TABLE.get

    def reducer_override(obj: Any) -> Any:
        message.reduced = True
        message.current = obj
        reduce = known(id(type(obj))) or reducers.reducer_of(obj)
        return reduce(obj, message)

    pickler.reducer_override = reducer_override
    return chunks, message, pickler


def encode(obj: object) -> bytes:
    """Clone a value into bytes that `decode` takes, here or in another process.

    Args:
        obj: what to clone. docs/clone.md says what arrives of it.

    Returns:
        The message, complete in itself.

    Raises:
        DataCloneError: something in `obj` has no clone; it says where and what.
    """
    body = _encode_plain(obj)
    return b"".join(_encode(obj, "value")) if body is None else body


def encode_parts(obj: object, name: str = "value") -> bytes | list[Any]:
    """Clone a value without copying the large memory in it.

    Args:
        obj: what to clone.
        name: what a DataCloneError calls `obj`: with "args", a tuple's first item is `args[0]`.

    Returns:
        The message in one piece, or its pieces in order: bytes and memoryviews of single bytes. Views may show the
        memory of `obj` itself; then what arrives is what it holds when they are copied.

    Raises:
        DataCloneError: something in `obj` has no clone; it says where and what.
    """
    body = _encode_plain(obj)
    if body is not None:
        return body
    parts = _encode(obj, name)
    return parts[0] if len(parts) == 1 and type(parts[0]) is bytes else parts


def _encode(obj: object, name: str) -> list[Any]:
    """The pieces of any message."""
    try:
        entry = _idle.pop()
    except IndexError:
        entry = _new_entry()
    try:
        entry[2].dump(obj)
    except BaseException as error:  # this pickler may be in any state: it is not used again
        entry = _recover(error, obj, name)
    return _finish(entry, obj, name)


def _recover(error: BaseException, obj: object, name: str) -> _Entry:
    """Say what was wrong with a value, or clone it once more if it was merely too deep for the pickler."""
    if isinstance(error, RecursionError):
        entry = _new_entry()
        try:
            entry[2].dump(_Sequence((*walk.cuts(obj), obj)))
            return entry
        except RecursionError:
            raise DataCloneError(f"{name} is nested too deep") from None
        except BaseException as another:
            error = another
    if isinstance(error, reducers.Unclonable):
        path = walk.path_to(obj, error.culprit, name) or f"something in {name}"
        raise DataCloneError(f"{path} is {error.what}") from error.__cause__
    if isinstance(error, MemoryError) or not isinstance(error, Exception):
        raise error
    raise DataCloneError(f"{name} could not be cloned: {error}") from error


class _Sequence:
    """Values to be cloned one after the other, of which only the last arrives."""

    def __init__(self, members: tuple[Any, ...]) -> None:
        self.members = members


reducers.EXACT[_Sequence] = lambda obj, _: (values.as_last, obj.members)


def _finish(entry: _Entry, obj: object, name: str) -> list[Any]:
    """The message that a pickler has written."""
    chunks, message, pickler = entry
    parts = [chunk if type(chunk) is bytes else _view(chunk) for chunk in chunks]
    chunks.clear()
    size = sum(map(len, parts))
    if message.reduced or size > UNCHECKED:
        refusal = _refusal(parts)
        if refusal is not None:
            _explain(refusal, obj, name)
    buffers = message.buffers
    if size <= REUSED:
        pickler.memo = _EMPTY
        message.begin()
        _idle.append(entry)
    if not buffers:
        return parts
    head = _HEADER.pack(MAGIC, len(buffers), size) + b"".join([_LENGTH.pack(len(buffer)) for buffer in buffers])
    end = len(head) + size
    parts.insert(0, head)
    if size <= REUSED:  # the sender has less to do for one piece, the first buffer's padding in it
        padding = -end % ALIGNMENT
        parts = [b"".join((*parts, bytes(padding)))]
        end += padding
    for buffer in buffers:
        if padding := -end % ALIGNMENT:
            parts.append(bytes(padding))
        parts.append(buffer)
        end += padding + len(buffer)
    return parts


_EMPTY: dict[int, tuple[int, Any]] = {}


def _view(chunk: Any) -> memoryview:
    """The memory of a bytearray or PickleBuffer. While the view lives, a bytearray cannot change its size."""
    return chunk.raw() if type(chunk) is pickle.PickleBuffer else memoryview(chunk)


def _refusal(parts: Sequence[Any]) -> tuple[int, str] | None:
    """At which byte and why the receiver would refuse a pickle; None if it would not."""
    if len(parts) == 1 and type(parts[0]) is bytes and _scan(parts[0]) >= 0:
        return None
    pinned = [ffi.from_buffer(part) for part in parts]
    described = ffi.new("struct lipc_part[]", [(pin, len(pin)) for pin in pinned])
    report = ffi.new("struct lipc_scan_report *")
    if lib.lipc_scan_parts(described, len(pinned), report) >= 0:
        return None
    return report.offset, ffi.string(report.reason).decode()


def _explain(refusal: tuple[int, str], obj: object, name: str) -> None:
    """Let the sender hear what the receiver would have refused."""
    found = walk.unhashable(obj)
    if found is not None:
        culprit, what = found
        raise DataCloneError(f"{walk.path_to(obj, culprit, name) or name} is {what}")
    raise DataCloneError(f"{name} could not be cloned: its pickle has {refusal[1]}, at byte {refusal[0]}")


def decode(buffer: Any) -> Any:
    """Make the value that `encode` was given, from bytes that nobody vouches for.

    Args:
        buffer: the message, as bytes or anything else that exports its memory. The result shares none of it.

    Returns:
        A new value, of plain builtins and the types in docs/clone.md.

    Raises:
        DecodeError: these bytes are no message, or one that would do harm; it says at which byte and why.
    """
    if type(buffer) is not bytes:
        buffer = bytes(buffer)  # so that it cannot change between its proof and its use
    value = _decode_plain(buffer)
    return value if value is not NotImplemented else _decode(buffer)


def decode_owned(buffer: bytes | bytearray | memoryview) -> Any:
    """Make the value as `decode` does, from memory that the value may keep.

    Args:
        buffer: the message, as single bytes of writable memory that nobody else reads or writes, now or later.
            Arrays of the result live in it. Bytes are taken too, and copied from.

    Returns:
        A new value.

    Raises:
        DecodeError: as `decode` does.
    """
    if len(buffer) < LARGE:
        return decode(bytes(buffer))
    body = memoryview(buffer)
    if not body.readonly:
        value = _decode_arrays(bytes(body[:HEAD]), len(body), body)
        if value is not NotImplemented:
            return value
    return _decode(body)


def _decode(message: bytes | memoryview) -> Any:
    """The rest of decoding: buffers beside the pickle, constructors in it, and refusals."""
    buffers: list[memoryview] = []
    if message[:4] == MAGIC:
        message, buffers = _split(memoryview(message))
        if len(message) < LARGE:
            message = bytes(message)
    if type(message) is bytes:
        found = _scan(message)
    else:
        found = lib.lipc_scan(ffi.from_buffer(message), len(message), ffi.NULL)
    if found < 0:
        offset, reason = _refusal([message]) or (0, "it changed while it was read")
        raise DecodeError(f"byte {offset}: {reason}")
    try:
        if found == 0:
            return pickle.loads(message)
        unpickler = _Unpickler(BytesIO(message))  # bytes are not copied
        unpickler.received = _Received(buffers, len(message))
        return unpickler.load()
    except Exception as error:
        raise DecodeError(f"no structured clone: {error}") from error


def _split(body: memoryview) -> tuple[memoryview, list[memoryview]]:
    """The pickle and the buffers of a message with buffers."""
    total = len(body)
    if total < _HEADER.size:
        raise DecodeError("byte 0: the end inside the header")
    _, count, size = _HEADER.unpack_from(body)
    begin = _HEADER.size + 8 * count
    if begin > total:
        raise DecodeError("byte 4: more buffers than there is room for")
    if size > total - begin:
        raise DecodeError("byte 8: a pickle beyond the end")
    end = begin + size
    message = body[begin:end]
    buffers = []
    for at in range(_HEADER.size, begin, 8):
        (length,) = _LENGTH.unpack_from(body, at)
        end += -end % ALIGNMENT
        if end > total or length > total - end:
            raise DecodeError(f"byte {at}: a buffer beyond the end")
        buffers.append(body[end : end + length])
        end += length
    if end != total:
        raise DecodeError(f"byte {end}: bytes behind the end")
    return message, buffers


class _Received:
    """What the constructors of one message have of it, and what they have used up.

    Apart from the unpickler, whose memo holds those that are bound to it: a cycle would keep every array that has come
    until the garbage collector runs.
    """

    __slots__ = ("buffers", "left", "pattern_size", "pattern_work")

    def __init__(self, buffers: Sequence[memoryview], size: int) -> None:
        self.buffers: list[memoryview | None] = list(buffers)
        self.left = size
        self.pattern_work = self.pattern_size = 0

    def take(self, count: int) -> None:
        """Note that a constructor works on so many bytes of the message; raise if that is more than it has."""
        self.left -= count
        if self.left < 0:
            raise ValueError("constructors that take more than the message has")


class _Unpickler(pickle.Unpickler):
    """An unpickler that finds lensipc's constructors, and nothing else."""

    __slots__ = ("received",)

    received: _Received

    def find_class(self, module: str, name: str) -> Any:  # noqa: ARG002 - the scan has checked the module
        constructor = values.CONSTRUCTORS[name]
        return constructor.bind(self.received) if constructor.per_message else constructor


_registered: set[type] = set()


def register(cls: type, name: str, encode: Callable[[Any], Any], decode: Callable[[Any], Any]) -> Callable[[], None]:
    """Let instances of one's own class cross as such. Both sides register it, under one name.

    Args:
        cls: the class. Its subclasses are not meant.
        name: what it is called in messages: the same on both sides, and unique there.
        encode: takes an instance and returns a value to be cloned in its place.
        decode: takes that value's clone and returns an instance. What it gets a peer chose: it must check it.

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
    if name in values.DECODERS:
        raise ValueError(f"{name!r} is registered already")

    def reduce(obj: Any, _: Any) -> tuple[Any, ...]:
        return values.as_registered, (name, encode(obj))

    _registered.add(cls)
    values.DECODERS[name] = decode
    before = reducers.EXACT.get(cls)
    reducers.EXACT[cls] = reduce
    reducers.forget(cls)

    def undo() -> None:
        if reducers.EXACT.get(cls) is not reduce:
            return
        del reducers.EXACT[cls], values.DECODERS[name]
        if before is not None:
            reducers.EXACT[cls] = before
        reducers.forget(cls)
        _registered.discard(cls)

    return undo
