# SPDX-License-Identifier: MIT
"""Structured clone: what may cross from one process to another, as bytes and back.

A message is a pickle of protocol 5 that holds plain data, and names no callables but the constructors in `values`. It
is written by CPython's own pickler, which asks `reducers` about everything that is not a plain builtin, and loaded by
CPython's own unpickler, after csrc/scan.c has proved it harmless. Large arrays travel beside the pickle, so that their
memory is copied once on each side:

    4 bytes  MAGIC, which no pickle begins with
    4 bytes  how many buffers there are
    8 bytes  how long the pickle is
    8 bytes  for each buffer: how long it is
    the pickle, then each buffer; buffers begin at multiples of ALIGNMENT

This module knows nothing of rings, processes or channels. docs/clone.md tells what arrives, what is lost and what
raises.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from typing import Any, NoReturn

from . import reducers, values, walk
from ._core import ffi, lib
from .errors import DataCloneError, DecodeError
from .reducers import Unclonable, describe

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
ALIGNMENT = 64  # a cache line; what numpy and SIMD like at most
_HEADER = struct.Struct("<4sIQ")

UNCHECKED = 2048
"""Bytes up to which a message of plain builtins is not scanned by its sender. What the scan could refuse of those needs
keys that take millions of steps to hash, which the sender has taken when it made them."""

_LARGE = 1 << 16
_scan = lib.lipc_scan
_NULL = ffi.NULL
_loads = pickle.loads


class _Pickler(pickle.Pickler):
    """A pickler that is used again and again: making one takes longer than a small message."""

    def __init__(self) -> None:
        self.chunks: list[Any] = []
        super().__init__(_Writer(self.chunks.append), 5)
        self.begin()

    def begin(self) -> None:
        """What `reducers` and `arrays` note down about one message."""
        self.reduced = False
        self.current: Any = None
        self.buffers: list[Any] = []
        self.places: dict[Any, Any] = {}
        self.pattern_work = self.pattern_size = 0

    def reducer_override(self, obj: Any) -> Any:
        self.reduced = True
        self.current = obj
        reduce = reducers.TABLE.get(type(obj)) or reducers.reducer_of(obj)
        return reduce(obj, self)


class _Writer:
    """A file to the pickler. It takes the memory of bytes and bytearrays of 64 KiB or more as it is, uncopied."""

    __slots__ = ("write",)

    def __init__(self, write: Callable[[Any], None]) -> None:
        self.write = write


class _Deep:
    """A value too deep for the pickler at once, and what to clone before it."""

    def __init__(self, values: tuple[Any, ...]) -> None:
        self.values = values


reducers.EXACT[_Deep] = lambda obj, _: (values.as_last, obj.values)

_idle: list[_Pickler] = []
"""Picklers that nobody uses now. list.pop and list.append are atomic, so threads need no lock."""


def encode(obj: object) -> bytes:
    """Clone a value into bytes that `decode` takes, here or in another process.

    Args:
        obj: what to clone. docs/clone.md says what arrives of it.

    Returns:
        The message, complete in itself.

    Raises:
        DataCloneError: something in `obj` has no clone; it says where and what.
    """
    body = encode_parts(obj)
    return body if type(body) is bytes else b"".join(body)


def encode_parts(obj: object, name: str = "value") -> bytes | list[Any]:
    """Clone a value without copying the large memory in it.

    Args:
        obj: what to clone.
        name: what a DataCloneError calls `obj`: with "args", a tuple's first item is `args[0]`.

    Returns:
        The message in one piece, or its pieces in order. Pieces may be the memory of `obj` itself: they are valid, and
        their contents settled, only as long as nobody changes it.

    Raises:
        DataCloneError: something in `obj` has no clone; it says where and what.
    """
    try:
        pickler = _idle.pop()
    except IndexError:
        pickler = _Pickler()
    try:
        pickler.dump(obj)
    except BaseException as error:  # this pickler may be in any state, so it is not used again
        pickler = _recover(error, obj, name)
    chunks = pickler.chunks
    body = chunks.pop()
    if chunks or pickler.reduced or len(body) > UNCHECKED:
        chunks.append(body)
        body = _finish(pickler, obj, name)
    else:
        pickler.clear_memo()
        _idle.append(pickler)
    return body  # type: ignore[no-any-return]


def _finish(pickler: _Pickler, obj: object, name: str) -> bytes | list[Any]:
    """The message of a pickler that has done more than the simplest."""
    chunks, buffers = pickler.chunks[:], pickler.buffers
    _check(chunks, obj, name)
    size = sum(len(chunk) if type(chunk) is bytes else memoryview(chunk).nbytes for chunk in chunks)
    pickler.chunks.clear()
    if size <= UNCHECKED:  # a larger memo takes longer to clear than a new pickler to make
        pickler.clear_memo()
        pickler.begin()
        _idle.append(pickler)
    if not buffers:
        return chunks[0] if len(chunks) == 1 else chunks
    head = _HEADER.pack(MAGIC, len(buffers), size) + struct.pack(f"<{len(buffers)}Q", *(b.nbytes for b in buffers))
    parts = [head, *chunks]
    end = len(head) + size
    for buffer in buffers:
        parts += [bytes(-end % ALIGNMENT), buffer]
        end += -end % ALIGNMENT + buffer.nbytes
    return parts


def _check(chunks: list[Any], obj: object, name: str) -> None:
    """Let the sender hear what the receiver would refuse."""
    body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    if _scan(body, len(body), _NULL) >= 0:
        return
    _, reason = _refusal(body)
    found = walk.unhashable(obj)
    if found is not None:
        culprit, what = found
        raise DataCloneError(f"{walk.path_to(obj, culprit, name) or name} is {what}")
    raise DataCloneError(f"{name} holds {reason}")


def _recover(error: BaseException, obj: object, name: str) -> _Pickler:
    """Raise DataCloneError for what the pickler raised, or clone once more what was too deep for it."""
    if isinstance(error, Unclonable):
        path = walk.path_to(obj, error.culprit, name) or name
        raise DataCloneError(f"{path} is {error.what}") from error.__cause__
    if isinstance(error, RecursionError) and not isinstance(obj, _Deep):
        pickler = _Pickler()
        try:
            pickler.dump(_Deep((*walk.cuts(obj), obj)))
        except RecursionError:
            raise DataCloneError(f"{name} is nested too deep") from None
        except BaseException as again:
            _recover_not(again, obj, name)
        return pickler
    _recover_not(error, obj, name)


def _recover_not(error: BaseException, obj: object, name: str) -> NoReturn:
    if isinstance(error, Unclonable):
        path = walk.path_to(obj, error.culprit, name) or name
        raise DataCloneError(f"{path} is {error.what}") from error.__cause__
    if isinstance(error, (DataCloneError, MemoryError)) or not isinstance(error, Exception):
        raise error
    raise DataCloneError(f"{name} could not be cloned: {error}") from error


def decode(buffer: Any) -> Any:
    """Make the value that `encode` was given, from bytes that nobody vouches for.

    Args:
        buffer: the message, as bytes or anything else that exports its memory. The result shares no memory with it.

    Returns:
        A new value, of plain builtins and the types in docs/clone.md.

    Raises:
        DecodeError: these bytes are no message, or one that would do harm; it says at which byte and why.
    """
    if type(buffer) is not bytes:
        buffer = bytes(buffer)  # once, so that it cannot change between the proof and its use
    found = _scan(buffer, len(buffer), _NULL)
    if found == 0:
        try:
            return _loads(buffer)
        except Exception as error:
            raise DecodeError(f"no structured clone: {error}") from None
    return _decode(found, buffer, memoryview(buffer))


def decode_owned(buffer: memoryview) -> Any:
    """Make the value as `decode` does, from memory that the value may keep.

    Args:
        buffer: the message, in writable memory that nobody else reads or writes, now or later. Arrays of the result
            live in it.

    Returns:
        A new value.

    Raises:
        DecodeError: as `decode` does.
    """
    if len(buffer) < _LARGE:
        return decode(bytes(buffer))
    pinned = ffi.from_buffer(buffer)
    return _decode(_scan(pinned, len(buffer), _NULL), buffer, buffer)


def _decode(found: int, body: Any, view: memoryview) -> Any:
    """The rest of decoding: buffers beside the pickle, constructors in it, and refusals."""
    buffers: list[memoryview] = []
    message: Any = body
    if found < 0 and bytes(view[:4]) == MAGIC:
        message, buffers = _split(view)
        found = _scan(ffi.from_buffer(message), len(message), _NULL)
    if found < 0:
        offset, reason = _refusal(message)
        raise DecodeError(f"byte {offset}: {reason}")
    try:
        if found == 0:
            return _loads(message)
        return _Unpickler(message, buffers).load()
    except Exception as error:
        cause = error if isinstance(error, _DecoderRaised) else None
        raise DecodeError(f"no structured clone: {error}") from (cause and cause.__cause__)


def _refusal(message: Any) -> tuple[int, str]:
    """At which byte and why the scan refuses a message."""
    report = ffi.new("struct lipc_scan_report *")
    lib.lipc_scan(ffi.from_buffer(message), len(message), report)
    return report.offset, ffi.string(report.reason).decode()


def _split(view: memoryview) -> tuple[memoryview, list[memoryview]]:
    """The pickle and the buffers of a message with buffers."""
    total = len(view)
    if total < _HEADER.size:
        raise DecodeError("byte 0: the end inside the header")
    _, count, size = _HEADER.unpack_from(view)
    end = _HEADER.size + 8 * count
    if end > total:
        raise DecodeError("byte 4: more buffers than there is room for")
    sizes = struct.unpack_from(f"<{count}Q", view, _HEADER.size)
    if size > total - end:
        raise DecodeError("byte 8: a pickle beyond the end")
    message = view[end : end + size]
    end += size
    buffers = []
    for i, length in enumerate(sizes):
        end += -end % ALIGNMENT
        if end > total or length > total - end:
            raise DecodeError(f"byte {_HEADER.size + 8 * i}: a buffer beyond the end")
        buffers.append(view[end : end + length])
        end += length
    if end != total:
        raise DecodeError(f"byte {end}: bytes behind the end")
    return message, buffers


class _DecoderRaised(Exception):
    """What a registered decoder raised is its cause."""


class _Unpickler(pickle.Unpickler):
    """An unpickler that finds lensipc's constructors, and nothing else."""

    def __init__(self, message: Any, buffers: Sequence[memoryview]) -> None:
        super().__init__(BytesIO(message))
        self.buffers = buffers
        self.pattern_work = self.pattern_size = 0

    def find_class(self, module: str, name: str) -> Any:  # noqa: ARG002 - the scan has checked the module
        constructor = values.CONSTRUCTORS[name]
        return constructor.bind(self) if constructor.per_message else constructor


def register(cls: type, name: str, encode: Callable[[Any], Any], decode: Callable[[Any], Any]) -> Callable[[], None]:
    """Let instances of one's own class cross as such. Both sides register, under one name.

    Args:
        cls: the class; not its subclasses.
        name: what it is called in messages: the same on both sides, and unique there.
        encode: takes an instance, returns a value to be cloned in its place.
        decode: takes that value's clone, returns an instance. It gets what a peer chose to send: it must check it.

    Returns:
        A function that undoes the registration.

    Raises:
        TypeError: `cls` is a builtin that crosses as it is.
        ValueError: `cls` or `name` is registered already.
    """
    if not isinstance(cls, type) or cls.__module__ == "builtins":
        raise TypeError(f"{cls!r} is not a class of one's own")
    if name in values.DECODERS:
        raise ValueError(f"{name!r} is registered already")
    if cls in _registered:
        raise ValueError(f"{cls.__qualname__} is registered already")

    def reduce(obj: Any, _: Any) -> tuple[Any, ...]:
        return values.as_registered, (name, encode(obj))

    _registered.add(cls)
    values.DECODERS[name] = decode
    reducers.EXACT[cls] = reduce
    reducers.TABLE.pop(cls, None)

    def undo() -> None:
        if values.DECODERS.get(name) is decode and reducers.EXACT.get(cls) is reduce:
            del values.DECODERS[name]
            del reducers.EXACT[cls]
            reducers.TABLE.pop(cls, None)
            _registered.discard(cls)

    return undo


_registered: set[type] = set()


def check_transfer(items: Iterable[object]) -> None:
    """Make sure that `detach` will be able to empty every item. Call it before anything is sent.

    Args:
        items: the `transfer` list: bytearrays, and numpy arrays that are writable and own their memory.

    Raises:
        DataCloneError: an item comes twice, is no such thing, or its memory is in use elsewhere.
    """
    seen: dict[int, object] = {}
    for i, item in enumerate(items):
        if id(item) in seen:
            raise DataCloneError(f"transfer[{i}] is in the list twice")
        seen[id(item)] = item
        if type(item) is bytearray:
            try:  # a bytearray whose memory is exported refuses to change its size
                item.append(0)
            except BufferError:
                raise DataCloneError(f"transfer[{i}] is a bytearray whose memory is in use") from None
            item.pop()
        else:
            raise DataCloneError(f"transfer[{i}] is {describe(item)}, which cannot be transferred")


def detach(items: Iterable[object]) -> None:
    """Empty the items of a `transfer` list that `check_transfer` has passed. Call it once the message is committed.

    Args:
        items: the same list.
    """
    for item in items:
        if type(item) is bytearray:
            item.clear()
