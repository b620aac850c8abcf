# SPDX-License-Identifier: MIT
"""One side of a segment, as Python sees it: bytes in, bytes out.

An endpoint knows the headers and bodies of messages, and nothing of what they mean. The peer has written every number
of a record, so main checks these numbers against what it has granted.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import math
import os
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias

from lensipc import _fast
from lensipc._core import ffi, lib
from lensipc.errors import DataCloneError, ForkError, LensIpcError, OutboxFull, ProtocolError
from lensipc.log import log

if TYPE_CHECKING:
    import socket

    from lensipc._core import CData

    from .slabs import Slabs

# Bytes of the datagram in which a renderer expects a slab, or of another one that comes in its place.
SLAB_MOST: Final = 4096
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
KEEP_NEWEST = lib.LIPC_KEEP_NEWEST
KEEP = lib.LIPC_KEEP
VERSION = lib.LIPC_VERSION
FAILED = lib.LIPC_FAILED
CONGESTED = lib.LIPC_CONGESTED
INLINE = lib.LIPC_INLINE
IN_BLOCK = lib.LIPC_IN_BLOCK

# bytes, bytearray, memoryview, ndarray: anything C-contiguous (collections.abc.Buffer is of Python 3.12).
Buffer: TypeAlias = "bytes | bytearray | memoryview"
WHOLE = (bytearray, memoryview)  # a body in one piece that is not bytes
ONE_PIECE = (bytes, *WHOLE)
Block = _fast.Block
LARGE = (*WHOLE, Block)  # a large body that was received
# A run of small events that follow each other: a flat list of what stands for the channel and the arguments of each.
Batch: TypeAlias = list[Any]

# Up to here a body in pieces is joined: one more copy takes 0.5 us at most, telling C the pieces takes 2.
_JOIN_BYTES = 8192

# Memory for a large message, from the buffer pool. It is not cleared: every byte of it is written before it is handed
# out.
_take_buffer = ffi.new_allocator(lib.lipc_buffer_take, lib.lipc_buffer_give, should_clear_after_alloc=False)

# What is called for every message.
Message = _fast.Message
_send = _fast.send


def create_segment(form: int, capacity: int) -> int:
    """Make a segment for two rings of `capacity` bytes each, all of it reserved, and return its descriptor.

    Raises:
        OSError: by its errno, ENOMEM and ENOSPC among them; says what was needed.
    """
    fd = lib.lipc_segment_create(form, capacity)
    if fd < 0:
        raise OSError(
            -fd,
            f"cannot make a segment of two rings of {capacity} bytes ({2 * capacity} bytes needed{_free(form, -fd)}; "
            f"a capacity is a power of two from 64 KiB to 1 GiB): {os.strerror(-fd)}",
        )
    return fd


def _free(form: int, code: int) -> str:
    """Where a lack of memory is the matter: how much there is."""
    with contextlib.suppress(OSError):
        if form == FORM_SHM and code == errno.ENOSPC:
            room = os.statvfs("/dev/shm")
            return f", {room.f_bavail * room.f_frsize} free in /dev/shm"
        if code in (errno.ENOSPC, errno.ENOMEM):
            return f", {os.sysconf('SC_AVPHYS_PAGES') * os.sysconf('SC_PAGESIZE')} free"
    return ""


class Account:
    """What waits in several outboxes: all of them are full from `limit` bytes on. It counts in `parent`, too."""

    __slots__ = ("__weakref__", "_handle")

    def __init__(self, limit: int, parent: Account | None = None) -> None:
        handle = lib.lipc_account_create(limit, ffi.NULL if parent is None else parent._handle)
        if handle == ffi.NULL:
            _fail(-errno.ENOMEM)
        self._handle: CData = ffi.gc(handle, lib.lipc_account_free)

    @property
    def bytes(self) -> int:
        """Bytes that wait."""
        return lib.lipc_account_bytes(self._handle)


class Endpoint:
    """One side of a segment. It belongs to one thread at a time.

    `wakeup` and `wakeup_fd` say how the peer is woken. Messages wait in the outbox while the ring has no room. A
    message that finds `limit` bytes in the outbox is refused. A message that may be dropped is dropped from
    `high_water` bytes on. If `account` is full, the outbox counts as full, too. A peer's message of more than `quota`
    bytes is a protocol error. `max_size` is the peer's quota for messages sent here. By `sock`, a renderer's, main sees
    that it has hung up: not before what is read in place is this process's own.

    Attributes:
        max_size: bytes that a message sent here may have; None: there is no limit.
        assembling: a list of one item: the memory that a large message is being assembled in, or None.
        channels: the caller's object for each channel that events come on, by number.

    These functions are called for every message, so they are functions of the C core, bound to this endpoint:

    receive(limit, decoded, most, into) -> int
        Take at most `limit` messages, add them to the list `into` as Message or Batch, and flush. Return the number of
        events that were relayed instead. If nothing was added, a large message may be on its way, and `park` tells.
        A body of at most `most` bytes whose kind has its bit set in `decoded` comes as a value if it is small plain
        data. A large body comes as writable memory that only the caller holds, or as a Block: see `view_channel`.
        Raises ProtocolError and MemoryError.
    relay_status() -> int
        FAILED and CONGESTED of the events that the last `receive` has relayed.
    send_value(kind, channel, detail, correlation, value) -> bool
        Send small plain data, and large arrays in it, as `send` does, but encode it straight into the ring. False:
        nothing was sent, because the value is something else, the message is larger than the peer takes, or another
        thread has opened the endpoint. Raises OutboxFull, ProtocolError and MemoryError as `send`.
    flush() -> int
        Move messages from the outbox into the ring as far as there is room. Return the bytes that still wait. Raises
        ProtocolError.
    park(for_data=True) -> bool
        Have the peer wake this side when there is room for the outbox, and also for new data if `for_data`. False: this
        side is not parked, because there is work already.
    unpark()
        Tell the peer that this side is awake and needs no wake.
    busy_poll(nanoseconds) -> bool | None
        Look for work for at most `nanoseconds`, without sleeping. Return whether there is some. None: other processes
        want this processor, so it is better to sleep; there may be work or not.

    Raises:
        ProtocolError: `fd` is no segment of this version.
    """

    __slots__ = (
        "__weakref__",
        "_address",
        "_handle",
        "assembling",
        "busy_poll",
        "channels",
        "flush",
        "max_size",
        "park",
        "receive",
        "relay_status",
        "send_value",
        "unpark",
    )

    def __init__(
        self,
        fd: int,
        side: int,
        wakeup: int,
        wakeup_fd: int,
        *,
        high_water: int,
        limit: int,
        quota: int,
        max_size: int | None = None,
        account: Account | None = None,
        sock: socket.socket | None = None,
    ) -> None:
        error = ffi.new("int *")
        handle = lib.lipc_endpoint_open(fd, side, wakeup, wakeup_fd, high_water, limit, error)
        if handle == ffi.NULL:
            if error[0] == -errno.EPROTO:
                raise ProtocolError(f"descriptor {fd} is no lensipc segment of version {VERSION}")
            _fail(error[0])
        self._handle = ffi.gc(handle, lib.lipc_endpoint_close)
        if account is not None:
            lib.lipc_set_account(handle, account._handle)
        if sock is not None:
            lib.lipc_set_socket(handle, sock.fileno())
        if max_size is not None:
            lib.lipc_limit_message(handle, max_size)
        self.max_size: int | None = max_size
        self.channels: list[Any] = []
        self.assembling: list[Any] = [None]
        self._address = address = int(ffi.cast("uintptr_t", handle))
        provide = partial(_admit, self._handle, quota, self.assembling)
        made_here = min(quota, lib.LIPC_POOLED - 1)  # bytes of messages whose memory C makes
        self.receive: Callable[[int, int, int, list[Message | Batch]], int] = partial(
            _fast.receive, address, self.assembling, provide, made_here, self.channels
        )
        self.relay_status: Callable[[], int] = partial(_fast.relay_status, address)
        self.send_value: Callable[[int, int, int, int, object], bool] = partial(_fast.send_value, address)
        self.flush: Callable[[], int] = partial(_fast.flush, address)
        self.park: Callable[..., bool] = partial(_fast.park, address)
        self.unpark: Callable[[], None] = partial(_fast.unpark, address)
        self.busy_poll: Callable[[int], bool | None] = partial(_fast.busy_poll, address)
        _live.add(self)

    def send(
        self,
        kind: int,
        channel: int,
        detail: int,
        pid: int,
        correlation: int,
        body: Buffer | Sequence[Buffer],
        when_full: int = REFUSE,
    ) -> int:
        """Send a message whole or not at all; return how many were dropped, itself included: mostly 0.

        Raises:
            OutboxFull: the outbox holds its limit already, and `when_full` is REFUSE.
            DataCloneError: the peer takes no message of that size, and `when_full` is not KEEP.
            ProtocolError: the peer broke the ring.
            MemoryError: there is none for what the ring has no room for.
            TypeError, BufferError: a piece of the body is no contiguous buffer.
        """
        if not isinstance(body, ONE_PIECE):
            size = sum(memoryview(piece).nbytes for piece in body)
            if size > _JOIN_BYTES:
                header = _header(kind, channel, detail, pid, correlation)
                with _Parts(body) as (parts, count):
                    dropped = lib.lipc_send_parts(self._handle, header, parts, count, when_full)
                return dropped if dropped >= 0 else self._refuse(dropped, size)
            body = b"".join(body)
        dropped = _send(self._address, kind, channel, detail, pid, correlation, body, when_full)
        return dropped if dropped >= 0 else self._refuse(dropped, len(body))

    def send_in_block(
        self, slabs: Slabs, kind: int, detail: int, correlation: int, body: Buffer | Sequence[Buffer]
    ) -> int:
        """Main: send a message that the peer reads in place, in a block of `slabs`, which no other peer has.

        Return IN_BLOCK. If it was not sent, return WANTS_SLAB where a slab was missing, else 0. Raises OutboxFull,
        ProtocolError and MemoryError as `send`.
        """
        with _Parts((body,) if isinstance(body, ONE_PIECE) else body) as (parts, count):
            header = _header(kind, 0, detail, 0, correlation)
            sent = lib.lipc_send_in_block(self._handle, slabs._handle, header, parts, count)
        return sent if sent >= 0 else _fail(sent)

    def _refuse(self, code: int, size: int) -> NoReturn:
        if code == -errno.EMSGSIZE:
            raise too_large(size, self.max_size)
        _fail(code)

    def count_gaps(self, channel: object) -> None:
        """Events will come on the next channel, for which `channel` stands. Count how many are missing before each:
        what its message has as `missed`.
        """
        code = lib.lipc_count_gaps(self._handle, len(self.channels))
        if code < 0:
            _fail(code)
        self.channels.append(channel)

    def relay(self, number: int, topic: Topic, frame_id: int, pid: int) -> None:
        """Send events of the peer's channel `number`, the next one, to `topic`, as coming from `frame_id` and `pid`."""
        code = lib.lipc_relay(self._handle, number, topic._handle, frame_id, pid)
        if code < 0:
            _fail(code)

    def stop_relaying(self) -> None:
        """Hand out the peer's events from now on, whatever `relay` has said."""
        lib.lipc_stop_relaying(self._handle)

    def lag(self, late: bool) -> None:
        """Say whether the peer has had enough time to read what waits. If so, it fails when its outbox is full."""
        lib.lipc_set_late(self._handle, late)

    def check(self) -> None:
        """Raise the error of sending a topic's event here, such as OutboxFull or ProtocolError, if there was one."""
        code = lib.lipc_failure(self._handle)
        if code < 0:
            _fail(code)

    def offer_slab(self, number: int) -> int:
        """Main: begin to hand a slab to the peer, which returns this hold when it has mapped the slab.

        0: the peer has too many, or there is no memory to note it.
        """
        return max(0, lib.lipc_offer_slab(self._handle, number))

    def withdraw_slab(self, number: int, unsent: int = 0) -> None:
        """Main: use a slab no more toward the peer. `unsent` is the hold of an offer that did not reach it."""
        lib.lipc_withdraw_slab(self._handle, number, unsent)

    def collect(self) -> None:
        """Main: see what the peer has returned of the slabs. ProtocolError: it has returned what it does not hold."""
        code = lib.lipc_collect(self._handle)
        if code < 0:
            _fail(code)

    @property
    def held(self) -> int:
        """Bytes of the slabs that the peer has not returned."""
        return lib.lipc_held_bytes(self._handle)

    @property
    def by_ring(self) -> int:
        """How many large messages went by the ring to a peer that has slabs, though a block could have had them."""
        return lib.lipc_by_ring(self._handle)

    @property
    def held_time(self) -> float:
        """For how long the peer has held the oldest of these (seconds)."""
        return lib.lipc_held_time(self._handle) / 1e9

    def receive_slab(self, sock: socket.socket, number: int, hold: int) -> tuple[bytes, int]:
        """A renderer: the datagram after {"slab": ...}, and 0 if it has mapped the slab whose descriptor came with it.

        Otherwise an errno. EMFILE: no descriptor was left here, or main could not send it; then the datagram may be
        another one. OSError: as of socket.recv.
        """
        data, mapped = ffi.new("char[]", SLAB_MOST), ffi.new("int *")
        got = lib.lipc_slab_receive(self._handle, sock.fileno(), number, hold, data, SLAB_MOST, mapped)
        if got < 0:
            raise OSError(-got, os.strerror(-got))
        return bytes(ffi.buffer(data, got)), -mapped[0]

    def unmap_slab(self, number: int) -> None:
        """A renderer: unmap a slab that main takes back. ProtocolError: what is being read lies there."""
        code = lib.lipc_slab_unmap(self._handle, number)
        if code == -errno.EBUSY:
            raise ProtocolError(f"it took slab {number} back, from which an event is being read")
        if code < 0:
            _fail(code)

    def view_channel(self, number: int, views: bool) -> None:
        """A renderer: say whether large events of a channel that lie in main's memory stay there, as a Block."""
        lib.lipc_view_channel(self._handle, number, views)

    @property
    def outbox(self) -> int:
        """Bytes of memory that the waiting messages take, and what lies unread in the slabs, if that is much."""
        return lib.lipc_outbox_bytes(self._handle)

    @property
    def progress(self) -> int:
        """Bytes that the peer has taken or heard so far: the number grows while it reads."""
        return lib.lipc_bytes_taken(self._handle)

    def wait(self, seconds: float, ends: Callable[[], object] = lambda: False) -> bool:
        """Sleep until there is work, at most `seconds` (`math.inf` too). For a side woken by the semaphore.

        After `wake`, the wait ends if `ends()` is true. Signal handlers run during the wait. One that raises ends it.
        """
        deadline = time.monotonic() + seconds
        while True:
            left = max(0.0, deadline - time.monotonic())
            woken = lib.lipc_sleep(self._handle, 2**63 if math.isinf(left) else min(int(left * 1e9), 2**63))
            if woken in (0, 1):
                return woken == 1
            if woken < 0 and woken != -errno.EINTR:
                _fail(woken)
            if ends():
                return True

    def wake(self) -> None:
        """Any thread, while the endpoint is open. Have this side's `wait` call its `ends` at once."""
        lib.lipc_wake_self(self._handle)

    def close(self) -> None:
        """Release the segment. Afterwards only `close` may be called again. What was received in a Block stays."""
        _live.discard(self)  # first: to release it gives other threads their turn, and one of them may fork
        _fast.detach_views(self._address)
        ffi.release(self._handle)
        self.assembling[0] = None
        self.__class__ = _ClosedEndpoint


class Topic:
    """The renderers that listen to one channel of an extension. Large events for several of them lie in `slabs`.

    A function of the C core, bound to this topic:

    send_value(frame_id, pid, value) -> int | None
        Send a value that `Endpoint.send_value` would send to all subscribers, as `send` does. None: nothing was sent,
        because it is another value or another thread.
    send_loan(frame_id, pid, value or pieces, arrays) -> int | None
        The same of a value, or of a list of a message's pieces, whose only large memory is one of these arrays on loan.
        The array is not copied for those who read it where it lies, and is empty afterwards.
    """

    __slots__ = ("__weakref__", "_address", "_handle", "send_loan", "send_value")

    def __init__(self, slabs: Slabs | None = None) -> None:
        handle = lib.lipc_topic_create()
        if handle == ffi.NULL:
            _fail(-errno.ENOMEM)
        self._handle = ffi.gc(handle, lib.lipc_topic_free)
        if slabs is not None:
            lib.lipc_topic_use_slabs(handle, slabs._handle)
        self._address = int(ffi.cast("uintptr_t", handle))
        self.send_value: Callable[[int, int, object], int | None] = partial(_fast.publish_value, self._address)
        self.send_loan: Callable[[int, int, object, tuple[Any, ...]], int | None]
        self.send_loan = partial(_fast.publish_loan, self._address)
        _live_topics.add(self)

    def add(self, endpoint: Endpoint, number: int, when_full: int, sequence: int) -> None:
        """`endpoint` listens, and knows the channel by `number`; its events are numbered from `sequence` + 1 on."""
        code = lib.lipc_topic_add(self._handle, endpoint._handle, number, when_full, sequence)
        if code < 0:
            _fail(code)

    def remove(self, endpoint: Endpoint) -> int:
        """`endpoint` listens no more; the number of the last event that it was sent."""
        return lib.lipc_topic_remove(self._handle, endpoint._handle)

    def __len__(self) -> int:
        """How many listen."""
        return lib.lipc_topic_count(self._handle)

    def view(self, endpoint: Endpoint, views: bool) -> None:
        """Whether this one of those who listen reads large events in place."""
        lib.lipc_topic_view(self._handle, endpoint._handle, views)

    def main_listens(self, listens: bool) -> None:
        """Whether main listens itself: then its events are not relayed without it."""
        lib.lipc_topic_main_listens(self._handle, listens)

    def send(self, frame_id: int, pid: int, body: Buffer | Sequence[Buffer], only: Endpoint | None = None) -> int:
        """Send an event to all who listen, or to `only`; FAILED, CONGESTED and WANTS_SLAB as they apply.

        Raises:
            OutboxFull: main itself sends, and somebody's outbox is full of what it has had no time to read.
            TypeError, BufferError: a piece of the body is no contiguous buffer.
        """
        if only is None and isinstance(body, ONE_PIECE):
            return _fast.publish(self._address, frame_id, pid, body)
        with _Parts((body,) if isinstance(body, ONE_PIECE) else body) as (parts, count):
            header = _header(lib.LIPC_EVENT, 0, frame_id, pid, 0)
            status = lib.lipc_topic_send(self._handle, only._handle if only else ffi.NULL, header, parts, count)
            return status if status >= 0 else _fail(status)


def too_large(size: int, max_size: int | None) -> DataCloneError:
    """A message has more bytes than main takes of a renderer."""
    return DataCloneError(
        f"args are {size} bytes as a message, and main takes {max_size} of a renderer: MainProcess(message_limit=...)"
    )


def _header(kind: int, channel: int, detail: int, pid: int, correlation: int) -> CData:
    return ffi.new("struct lipc_header *", (correlation, channel, detail, pid, kind))


class _Parts:
    """Pieces of a body as C takes them. Their memory stays where it is until the end of the block.

    A class: contextlib's way takes 0.6 us more, of 12 for an array of 64 KiB.
    """

    __slots__ = ("_pinned",)

    def __init__(self, pieces: Sequence[Buffer]) -> None:
        self._pinned = [ffi.from_buffer(piece) for piece in pieces]

    def __enter__(self) -> tuple[CData, int]:
        pinned = self._pinned
        return ffi.new("struct lipc_part[]", [(pin, len(pin)) for pin in pinned]), len(pinned)

    def __exit__(self, *_: object) -> None:
        for pin in self._pinned:
            ffi.release(pin)


def join(pieces: Sequence[Buffer]) -> Buffer:
    """Copy pieces into one. Large ones are copied while other threads run, into memory of the buffer pool."""
    size = sum(memoryview(piece).nbytes for piece in pieces)
    if size < lib.LIPC_POOLED:
        return b"".join(pieces)
    buffer = _take_buffer("char[]", size)
    with _Parts(pieces) as (parts, count):
        lib.lipc_join(parts, count, buffer)
    return memoryview(ffi.buffer(buffer))


def busy_poll(endpoints: Iterable[Endpoint], ns: int) -> bool | None:
    """Look for work at any of these endpoints for at most `ns` nanoseconds, as `Endpoint.busy_poll` does."""
    # Endpoints beyond the first POLLED are not looked at here. Their peers wake this side by a signal.
    return _fast.busy_poll(*[endpoint._address for endpoint in islice(endpoints, _fast.POLLED)], ns)


def _admit(handle: CData, quota: int, memory: list[Any], size: int) -> None:
    """Refuse the next, large, message if it is larger than the quota; else give the memory to assemble it in."""
    if size > quota:
        raise ProtocolError(f"the peer sends a message of {size} bytes, and {quota} are allowed")
    try:
        buffer = _take_buffer("char[]", size)
    except MemoryError:
        _fail(-errno.ENOMEM)
    memory[0] = memoryview(ffi.buffer(buffer))  # which keeps it alive, from before the core writes there
    code = lib.lipc_assemble(handle, buffer, size)
    if code < 0:
        _fail(code)


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
    """Have the kernel kill this process `seconds` after `parent`, which started it, has died.

    Where the platform cannot do that, as an emulator or a sandbox, it is a warning: a process whose code returns to its
    loop ends with its parent all the same.
    """
    code = lib.lipc_end_with_parent(parent, seconds)
    if code in (-errno.EINVAL, -errno.ENOSYS, -errno.EPERM):
        log.warning(
            "this platform cannot end a process with its parent (%s): "
            "code that never returns to its loop would outlive it",
            os.strerror(-code),
        )
    elif code < 0:
        _fail(code)


def _fail(code: int) -> NoReturn:
    """Raise what a negative number from the C core means."""
    if code == -errno.EBADMSG:
        raise ProtocolError("the peer wrote a position, a header or a length that cannot be")
    if code == -errno.ENOBUFS:
        raise OutboxFull(
            "the outbox is full, because the peer does not read as fast as is sent to it: `await ipc.drain()` between "
            "sends, or `ipc.drain_sync()` in a script"
        )
    if code == -errno.ENOMEM:
        raise MemoryError("no memory for a message, or for a segment's mapping")
    raise OSError(-code, os.strerror(-code))


_fast.fail_with(_fail)


class _ClosedEndpoint(Endpoint):
    """What a closed or inherited endpoint turns into, so that a live one need not ask on every call."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> object:
        if name == "close":
            return lambda: None
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        if type(self) is _ForkedEndpoint:
            raise ForkError(f"Endpoint.{name}: the endpoint belongs to the parent process, this is a fork of it")
        raise LensIpcError(f"Endpoint.{name}: the endpoint is closed")


class _ForkedEndpoint(_ClosedEndpoint):
    __slots__ = ()


class _ForkedTopic(Topic):
    """What an inherited topic turns into: the endpoints that it knows are the parent's."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> object:
        if name == "main_listens" or name.startswith("__"):  # whether main listens is no affair of the parent's
            return object.__getattribute__(self, name)
        raise ForkError(f"Topic.{name}: the topic belongs to the parent process, this is a fork of it")

    def main_listens(self, listens: bool) -> None:
        """Nothing: no event comes here."""


# Those that a forked child must not touch: it has not inherited the endpoints' memory.
_live: weakref.WeakSet[Endpoint] = weakref.WeakSet()
_live_topics: weakref.WeakSet[Topic] = weakref.WeakSet()


def _disown() -> None:
    """In a forked child: give up the parent's endpoints, and unmap nothing: it was not inherited."""
    for endpoint in list(_live):
        _fast.disown_views(endpoint._address)
        ffi.gc(endpoint._handle, None)
        endpoint.__class__ = _ForkedEndpoint
    _live.clear()
    for topic in list(_live_topics):
        topic.__class__ = _ForkedTopic
    _live_topics.clear()


def _detach_views() -> None:
    """Before this process ends: its socket may be closed before its last finalizer runs."""
    for endpoint in list(_live):
        _fast.detach_views(endpoint._address)


atexit.register(_detach_views)
os.register_at_fork(after_in_child=_disown)
