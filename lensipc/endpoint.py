# SPDX-License-Identifier: MIT
"""One side of a segment, as Python sees it: bytes in, bytes out.

It knows frames' headers and bodies, and nothing of what they mean. Every number of a record is the peer's
word: main checks them against what it has granted.
"""

from __future__ import annotations

import errno
import math
import os
import struct
import time
import weakref
from collections.abc import Iterable, Sequence
from typing import NoReturn, TypeAlias

from lensipc._core import ffi, lib
from lensipc.errors import ForkError, LensIpcError, OutboxFull, ProtocolError

FORM_MEMFD = lib.LIPC_FORM_MEMFD
FORM_SHM = lib.LIPC_FORM_SHM
SIDE_MAIN = lib.LIPC_SIDE_MAIN
SIDE_RENDERER = lib.LIPC_SIDE_RENDERER
WAKEUP_EVENTFD = lib.LIPC_WAKEUP_EVENTFD
WAKEUP_SOCKET = lib.LIPC_WAKEUP_SOCKET
WAKEUP_SEMAPHORE = lib.LIPC_WAKEUP_SEMAPHORE
REFUSE = lib.LIPC_REFUSE
DROP_OLDEST = lib.LIPC_DROP_OLDEST
DROP_NEWEST = lib.LIPC_DROP_NEWEST
KEEP = lib.LIPC_KEEP
VERSION = lib.LIPC_VERSION

# bytes, bytearray, memoryview, ndarray: anything C-contiguous (collections.abc.Buffer is of Python 3.12).
Buffer: TypeAlias = "bytes | bytearray | memoryview"
Whole = (bytearray, memoryview)  # a body in one piece that is not bytes
# kind, body, channel, peer, pid, correlation
Record = tuple[int, "bytes | memoryview", int, int, int, int]

_HEADER = struct.Struct("=QIIII")  # struct lipc_header
_RECORD = struct.Struct("=QQIIIII4x")  # struct lipc_record
_BATCH = 256  # records of one call into C
_BATCH_BYTES = 2 * lib.LIPC_INLINE  # and bytes of their bodies
# Up to here a body in pieces is joined: one more copy takes 0.5 us at most, telling C the pieces takes 2.
_JOIN_BYTES = 8192

# Memory for a large message. It is not cleared first: every byte of it is written before it is handed out.
_allocate = ffi.new_allocator(should_clear_after_alloc=False)

# What is called for every message, without the look-up in `lib` (30 ns).
_send = lib.lipc_send
_recv = lib.lipc_recv


def create_segment(form: int, capacity: int) -> int:
    """Make a segment for two rings of `capacity` bytes each, all of it reserved, and return its descriptor.

    Raises:
        OSError: by its errno, ENOMEM and ENOSPC among them; says what was needed.
    """
    fd = lib.lipc_segment_create(form, capacity)
    if fd < 0:
        raise OSError(
            -fd,
            f"cannot make a segment of two rings of {capacity} bytes ({2 * capacity} bytes needed; "
            f"a capacity is a power of two from 64 KiB to 1 GiB): {os.strerror(-fd)}",
        )
    return fd


class Endpoint:
    """One side of a segment. It belongs to one thread at a time.

    `wakeup` and `wakeup_fd` say how the peer is woken. Messages that the ring has no room for wait in the
    outbox: one that finds `limit` bytes there is refused, and those that may be dropped are from `high_water`
    bytes on. A peer's message of more than `quota` bytes is an error of the protocol.

    Raises:
        ProtocolError: `fd` is no segment of this version.
    """

    __slots__ = (
        "__weakref__",
        "_batch",
        "_batch_bytes",
        "_handle",
        "_header",
        "_header_bytes",
        "_memory",
        "_quota",
        "_records",
        "_records_bytes",
        "_wanted",
    )

    def __init__(
        self, fd: int, side: int, wakeup: int, wakeup_fd: int, *, high_water: int, limit: int, quota: int
    ) -> None:
        error = ffi.new("int *")
        handle = lib.lipc_endpoint_open(fd, side, wakeup, wakeup_fd, high_water, limit, error)
        if handle == ffi.NULL:
            if error[0] == -errno.EPROTO:
                raise ProtocolError(f"descriptor {fd} is no lensipc segment of version {VERSION}")
            _fail(error[0])
        self._handle = ffi.gc(handle, lib.lipc_endpoint_close)
        self._quota = quota
        self._memory: memoryview | None = None  # what a large message is being assembled in
        self._header = ffi.new("struct lipc_header *")
        self._header_bytes = ffi.buffer(self._header)
        self._records = ffi.new("struct lipc_record[]", _BATCH)
        self._records_bytes = ffi.buffer(self._records)
        self._batch = _allocate("char[]", _BATCH_BYTES)
        self._batch_bytes = ffi.buffer(self._batch)
        self._wanted = ffi.new("uint64_t *")
        _live.add(self)

    def send(
        self,
        kind: int,
        channel: int,
        peer: int,
        pid: int,
        correlation: int,
        body: Buffer | Sequence[Buffer],
        when_full: int = REFUSE,
    ) -> int:
        """Send a message whole or not at all; return how many were dropped, itself included: mostly 0.

        Raises:
            OutboxFull: the outbox holds its limit already, and `when_full` is REFUSE.
            ProtocolError: the peer broke the ring.
            MemoryError: there is none for what the ring has no room for.
            TypeError, BufferError: a piece of the body is no contiguous buffer.
        """
        _HEADER.pack_into(self._header_bytes, 0, correlation, channel, peer, pid, kind)
        if not isinstance(body, bytes):
            pieces = (body,) if isinstance(body, Whole) else body
            if sum(memoryview(piece).nbytes for piece in pieces) > _JOIN_BYTES:
                return self._send_parts(pieces, when_full)
            body = b"".join(pieces)
        dropped = _send(self._handle, self._header, body, len(body), when_full)
        if dropped < 0:
            _fail(dropped)
        return dropped

    def _send_parts(self, body: Sequence[Buffer], when_full: int) -> int:
        pieces = [ffi.from_buffer(piece) for piece in body]  # they hold the buffers until C has copied them
        parts = ffi.new("struct lipc_part[]", [(piece, len(piece)) for piece in pieces])
        dropped = lib.lipc_send_parts(self._handle, self._header, parts, len(pieces), when_full)
        if dropped < 0:
            _fail(dropped)
        return dropped

    def receive(self, limit: int) -> list[Record]:
        """Take at most `limit` messages. A large body comes as writable memory that nobody else holds.

        An empty list says that there was nothing to hand out yet, not that there is nothing to do: a large
        message may be on its way. `park` tells.

        Raises:
            ProtocolError: the peer broke the protocol, or announced a message larger than the quota.
        """
        count = self._take(limit)
        if count == 0 and self._wanted[0]:
            self._provide(self._wanted[0])
            count = self._take(limit)
        if count == 0:
            return []
        records = _RECORD.iter_unpack(self._records_bytes[: count * _RECORD.size])
        if self._memory is not None:
            body = self._memory
            self._memory = None
            return [
                (kind, body, channel, peer, pid, correlation) for correlation, _, _, channel, peer, pid, kind in records
            ]
        batch = self._batch_bytes
        return [
            (kind, batch[offset : offset + size], channel, peer, pid, correlation)
            for correlation, size, offset, channel, peer, pid, kind in records
        ]

    @property
    def assembling(self) -> bool:
        """Whether a large message has come in part."""
        return self._memory is not None

    def _take(self, limit: int) -> int:
        most = limit if limit < _BATCH else _BATCH  # min() takes twice as long
        count = _recv(self._handle, self._records, most, self._batch, _BATCH_BYTES, self._wanted)
        if count < 0:
            _fail(count)
        return count

    def _provide(self, size: int) -> None:
        """Give the large message that comes next the memory that it is assembled in."""
        if size > self._quota:
            raise ProtocolError(f"the peer sends a message of {size} bytes, and {self._quota} are allowed")
        memory = _allocate("char[]", size)
        code = lib.lipc_assemble(self._handle, memory, size)
        if code < 0:
            _fail(code)
        self._memory = memoryview(ffi.buffer(memory))  # which keeps it alive

    def flush(self) -> int:
        """Move what waits into the ring as far as there is room, and return the bytes that still wait."""
        waiting = lib.lipc_flush(self._handle)
        if waiting < 0:
            _fail(waiting)
        return waiting

    @property
    def outbox(self) -> int:
        """Bytes that wait to be sent."""
        return lib.lipc_outbox(self._handle)

    @property
    def progress(self) -> int:
        """Bytes that the peer has taken so far: the number grows while it reads."""
        return lib.lipc_progress(self._handle)

    def park(self, for_data: bool = True) -> bool:
        """Be woken by the peer from now on, by room for what waits and `for_data`; False: there is work already."""
        return lib.lipc_park(self._handle, for_data) == 1

    def unpark(self) -> None:
        """Be awake: no wake is needed."""
        lib.lipc_unpark(self._handle)

    def wait(self, seconds: float) -> bool:
        """Sleep until there is work, at most `seconds` (`math.inf` too). For a side woken by the semaphore.

        A signal's handler runs meanwhile; what it raises ends the wait.
        """
        deadline = time.monotonic() + seconds
        while True:
            left = max(0.0, deadline - time.monotonic())
            woken = lib.lipc_wait(self._handle, 2**63 if math.isinf(left) else min(int(left * 1e9), 2**63))
            if woken >= 0:
                return woken == 1
            if woken != -errno.EINTR:
                _fail(woken)

    def close(self) -> None:
        """Give everything back. Nothing may be asked of it afterwards, but to close it again."""
        ffi.release(self._handle)
        self._memory = None
        _live.discard(self)
        self.__class__ = _ClosedEndpoint


def poll(endpoints: Iterable[Endpoint], ns: int) -> bool:
    """Look for work at any of these endpoints for at most `ns` nanoseconds, without sleeping: whether there is some."""
    handles = [endpoint._handle for endpoint in endpoints]
    return lib.lipc_poll(ffi.new("struct lipc_endpoint *[]", handles), len(handles), ns) == 1


class Timer:
    """A descriptor that becomes readable at a time."""

    __slots__ = ("_fd",)

    def __init__(self) -> None:
        self._fd = lib.lipc_timer_create()
        if self._fd < 0:
            _fail(self._fd)

    def fileno(self) -> int:
        """Return the descriptor, -1 once it is closed."""
        return self._fd

    def set(self, deadline_ns: int) -> None:
        """Become readable at `deadline_ns` (of time.monotonic_ns), or never when it is 0, and not before."""
        code = lib.lipc_timer_set(self._fd, deadline_ns)
        if code < 0:
            _fail(code)

    def close(self) -> None:
        """Close the descriptor, once."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def end_with_parent(parent: int, seconds: int) -> None:
    """Have the kernel kill this process `seconds` after `parent`, which started it, has died."""
    code = lib.lipc_end_with_parent(parent, seconds)
    if code < 0:
        _fail(code)


def _fail(code: int) -> NoReturn:
    """Raise what a negative number from the C core means."""
    if code == -errno.EBADMSG:
        raise ProtocolError("the peer wrote a position, a header or a length that cannot be")
    if code == -errno.ENOBUFS:
        raise OutboxFull("the outbox is full: the peer does not read as fast as is sent to it")
    if code == -errno.ENOMEM:
        raise MemoryError("no memory for a message, or for a segment's mapping")
    raise OSError(-code, os.strerror(-code))


class _DeadEndpoint(Endpoint):
    """What a closed or inherited endpoint turns into, so that a live one need not ask on every call."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> object:
        if name == "close":
            return lambda: None
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        return _refuse(type(self), name)


class _ClosedEndpoint(_DeadEndpoint):
    __slots__ = ()


class _ForkedEndpoint(_DeadEndpoint):
    __slots__ = ()


def _refuse(kind: type[_DeadEndpoint], name: str) -> NoReturn:
    if kind is _ForkedEndpoint:
        raise ForkError(f"Endpoint.{name}: the endpoint belongs to the parent process, this is a fork of it")
    raise LensIpcError(f"Endpoint.{name}: the endpoint is closed")


# Those that a forked child must not touch: it has not inherited their memory.
_live: weakref.WeakSet[Endpoint] = weakref.WeakSet()


def _disown() -> None:
    """In a forked child: give up the parent's endpoints, and unmap nothing: it was not inherited."""
    for endpoint in list(_live):
        ffi.gc(endpoint._handle, None)
        endpoint.__class__ = _ForkedEndpoint
    _live.clear()


os.register_at_fork(after_in_child=_disown)
