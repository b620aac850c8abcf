# SPDX-License-Identifier: MIT
"""The pool: all slabs of main, whose each is, and which renderers have it.

A large event for several renderers is copied once, into a block of a slab, and each renderer copies it out of there.
The C core does that (csrc/endpoint/topic.c). It tells by WANTS_SLAB that a slab is missing, and until there is one, the
events go through the rings. So nothing waits for this file, and a failure here costs only time.

A slab belongs to one extension, for as long as it exists. Whoever has mapped a slab can read all that is ever written
there, also when it listens no more, or has left. So only renderers that listen to a channel of the extension are handed
it, and of those only who could go on to listen, or connect again, as it likes: those that main has started, and those
of this user that connect where no token is asked for.

Answers of invokes that a renderer reads in place lie in slabs of its connection's own, which no other renderer is ever
handed. So an answer is read by nobody but who has asked for it, as in its ring.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from contextlib import suppress
from functools import partial
from itertools import count
from select import EPOLLRDHUP
from typing import TYPE_CHECKING, Final

from ..errors import PoolFull, ProtocolError
from ..log import log
from ..runtime.ports import PoolState
from ..transport import handshake
from ..transport.slabs import LOAN_HEAD, LOAN_LEAST, PAGE, Holds, Lent, Slabs
from .port import MainChannel, MainPort

if TYPE_CHECKING:
    from ..transport.poller import Deadline, Poller
    from .connection import RendererConnection

# Bytes of the smallest slab; and of the largest one that is kept while the host runs, if it is its extension's first.
LEAST: Final = 4 * 1024 * 1024
KEPT: Final = 16 * 1024 * 1024
# A slab has room for this many of the messages that it was made for, up to ROOMY bytes.
ROOM_FOR: Final = 8
ROOMY: Final = 32 * 1024 * 1024
# A message of more than the pool's limit divided by this goes through the rings, so that no message fills the pool.
PARTS: Final = 4
# The slabs for one renderer's answers have at most the pool's limit divided by this.
OWN: Final = 2
# How long a slab is unused before its memory is given back (seconds).
IDLE: Final = 10.0
# How long no slab is made after that has failed (seconds).
RETRY: Final = 1.0


class _Slab:
    __slots__ = ("number", "owner", "readers", "size", "uses", "withdrawn")

    def __init__(self, number: int, size: int, owner: Slabs) -> None:
        self.number: int = number
        self.size: int = size
        self.owner: Slabs = owner
        self.readers: set[RendererConnection] = set()  # to which it was handed
        self.withdrawn: set[RendererConnection] = set()  # those of them that have to be told to unmap it
        self.uses: int = 0  # when it was last looked at


class SlabPool:
    """The slabs of all extensions.

    Args:
        limit: bytes that all slabs may have together; 0: large events go through the rings.
        connections: the connections of all renderers, by frame id.
        poller: for the timer that gives unused slabs back.
    """

    def __init__(self, limit: int, connections: dict[int, RendererConnection], poller: Poller) -> None:
        self._limit: int = limit
        self._connections = connections
        self._poller = poller
        self._slabs: list[_Slab] = []  # the oldest first
        self._numbers: count[int] = count(1)
        self._watched: set[RendererConnection] = set()  # whose end is to be told to `_forget`
        self._left: dict[int, Holds] = {}  # of renderers that main has closed and that may still read, by frame id
        self._sockets: dict[int, socket.socket] = {}  # by which main sees that those that it started hang up
        self._not_before: float = 0.0  # no slab is made until then
        self._timer: Deadline | None = None  # of `_give_back`

    def slabs(self) -> Slabs | None:
        """The slabs of a new extension, or of a renderer: none so far. None: there is no pool."""
        return Slabs(self._limit // PARTS) if self._limit else None

    def provide(self, channel: MainChannel) -> None:
        """Make a slab where one was missing, and hand the extension's slabs to those who listen to the channel."""
        owner = channel.port.slabs
        if owner is None:
            return
        listening = [each for each in self._connections.values() if each.takes_slabs and channel in each.listening]
        wanted = owner.wanted()
        # To one alone nothing is sent there, unless it reads in place.
        if wanted and (len(listening) > 1 or any(channel in each.viewing for each in listening)):
            self._grow(owner, wanted, self._limit)
        self._hand_all(owner, listening)

    def provide_own(self, connection: RendererConnection) -> None:
        """Make a slab for answers that a renderer reads in place, where one was missing, and hand it to that one."""
        owner = connection.slabs
        if owner is None:
            return
        wanted = owner.wanted()
        if wanted:
            self._grow(owner, wanted, self._limit // OWN)
        self._hand_all(owner, [connection])

    def lend(self, port: MainPort, size: int) -> Lent | None:
        """Memory for an array of `size` bytes of this extension. None: it does not lie in the pool.

        PoolFull: it would, but there is no room.
        """
        owner, room = port.slabs, size + LOAN_HEAD
        if owner is None or size < LOAN_LEAST or size > self._limit // PARTS:
            return None
        lent = owner.lend(size)
        if lent is None:
            self._collect()
            lent = owner.lend(size)
        if lent is None and self._grow(owner, room, self._limit):
            connections = [each for each in self._connections.values() if each.takes_slabs]
            self._hand_all(
                owner, [each for each in connections if any(channel.port is port for channel in each.listening)]
            )
            lent = owner.lend(size)
        if lent is None and (left := self._limit - self._bytes() - _pages(room)) < 0:
            unused = [each for each in self._slabs if not each.owner.look(each.number).taken]
            if left + sum(each.size for each in unused) < 0:
                raise PoolFull(self._full(size))
            for slab in unused:
                self._withdraw(slab)  # there is room once its renderers have unmapped it
        return lent

    def _full(self, size: int) -> str:
        """Say that there is no room for a loan, and who holds what."""
        state = self.state
        held = []
        for frame_id, bytes_ in state.holders.items():
            if frame_id in self._left:
                who, seconds = f"renderer {frame_id}, which was disconnected,", self._left[frame_id].time
            else:
                connection = self._connections[frame_id]
                who, seconds = connection.who, connection.endpoint.held_time
            held.append(f"{who} has {bytes_} bytes, for {seconds:.1f} s")
        if state.loans:
            oldest = max(each.owner.look(each.number).oldest for each in self._slabs)
            held.append(f"main itself has {state.lent} bytes in {state.loans} loans, for {oldest:.1f} s")
        return (
            f"there is no room for a loan of {size} bytes: the pool has {state.bytes} of at most {state.limit} bytes, "
            f"in pieces. {'; '.join(held) or 'Nobody has any'}. `await ipc.drain()` waits for renderers that read too "
            "slowly, a loan ends when nothing refers to it any more, and MainProcess(pool_limit=...) makes more room"
        )

    def _hand_all(self, owner: Slabs, connections: list[RendererConnection]) -> None:
        """Hand the extension's slabs to those that have not got them."""
        ours = [each for each in self._slabs if each.owner is owner]
        if ours:
            self._look_later()
        for connection in connections:
            for slab in ours:
                if connection not in slab.readers:
                    self._hand(connection, slab)

    def _grow(self, owner: Slabs, wanted: int, most: int) -> bool:
        """Make a slab with room for a message of that size, if the owner's have at most `most` bytes with it.

        Return whether it was made.
        """
        needed = _pages(wanted)
        size = max(LEAST, needed * max(1, min(ROOM_FOR, ROOMY // needed)))
        left = min(self._limit - self._bytes(), most - sum(each.size for each in self._slabs if each.owner is owner))
        if size > left:
            size = needed
        if size > left or time.monotonic() < self._not_before:
            return False
        number = next(self._numbers)
        slab = _Slab(number, size, owner)
        self._slabs.append(slab)  # before it is made, and the timer too: a signal may raise at any step
        try:
            self._look_later()
            owner.add(number, size)
        except BaseException as error:
            owner.remove(number)
            self._slabs.remove(slab)
            if not isinstance(error, OSError):
                raise
            self._not_before = time.monotonic() + RETRY
            if error.errno == errno.EINVAL:  # a kernel before 5.1
                self._not_before = float("inf")
            log.info("no memory is shared for large events, which go through the rings: %s", error)
            return False
        log.debug("slab %d has %d bytes", number, size)
        return True

    def _hand(self, connection: RendererConnection, slab: _Slab) -> None:
        """Give a slab's descriptor to a renderer. The slab is used once the renderer has mapped it."""
        if connection not in self._watched:
            connection.on_closed.append(partial(self._forget, connection))
            self._watched.add(connection)
        slab.readers.add(connection)
        hold, sent = 0, False
        try:
            hold = connection.endpoint.offer_slab(slab.number)
            if not hold:
                slab.readers.discard(connection)
                return
            fd = slab.owner.open(slab.number)
            try:
                sent = True
                handshake.hand_slab(connection.sock, slab.number, hold, fd)
            finally:
                os.close(fd)
        except BaseException as error:
            # Its socket is full, or main has no descriptor: a later event tries again. If a signal has raised, the
            # renderer may have got it all the same, and then the offer stands.
            failed = isinstance(error, OSError)
            if failed or not sent:
                connection.endpoint.withdraw_slab(slab.number, hold)
                slab.readers.discard(connection)
            if not failed:
                raise

    def _forget(self, connection: RendererConnection) -> None:
        """This connection is closed."""
        self._watched.discard(connection)
        for slab in self._slabs:
            slab.readers.discard(connection)
            slab.withdrawn.discard(connection)

    def leave(self, connection: RendererConnection) -> None:
        """Main closes this connection next. What the renderer holds stays held until it has hung up: it may still read.

        That a process has ended says nothing: the one that main has started may be a wrapper of the one that reads.
        """
        if connection in self._watched:
            holds = self._left.setdefault(connection.frame_id, Holds())
            holds.take(connection.endpoint)
            if not holds.bytes:
                del self._left[connection.frame_id]

    def hang_up(self, frame_id: int, sock: socket.socket) -> None:
        """Close the socket of a renderer that main has started; while it holds something, only main's half of it.

        Of a visitor, main keeps the socket in any case (Visitor.linger).
        """
        if frame_id not in self._left:
            sock.close()
            return
        self._sockets[frame_id] = sock
        with suppress(OSError):  # it has hung up already
            sock.shutdown(socket.SHUT_WR)
        self._poller.register(sock.fileno(), partial(self.hung_up, frame_id), EPOLLRDHUP)

    def hung_up(self, frame_id: int) -> None:
        """All processes that had this renderer's end of the socket have closed it, or have ended: so none reads on."""
        if frame_id in self._left:
            self._left[frame_id].give_back()
            del self._left[frame_id]
        sock = self._sockets.pop(frame_id, None)
        if sock is not None:
            self._poller.unregister(sock.fileno())
            sock.close()

    # ---- giving memory back ----

    def _look_later(self) -> None:
        if self._timer is None or not self._timer.is_pending:
            self._timer = self._poller.call_later(IDLE, self._give_back)

    def _give_back(self) -> None:
        """Give back the slabs that were not used since the last time, but for one of each extension that has readers.

        Nobody else uses the slabs of a renderer that is gone, so none is waited for there.
        A slab is taken back from a renderer that listens to no channel of the extension any more.
        """
        try:
            if self._slabs:
                self._look_later()  # first, and in the end: a signal may raise at any step
            self._collect()
            kept: set[Slabs] = set()
            for slab in list(self._slabs):
                state = slab.owner.look(slab.number)
                if not state.size:  # it is gone: a signal has raised when it was given back, or before it was made
                    self._slabs.remove(slab)
                    continue
                for connection in list(slab.readers):
                    listens = any(channel.port.slabs is slab.owner for channel in connection.listening)
                    uses = listens or connection.slabs is slab.owner
                    if connection in slab.withdrawn or not (uses or connection.endpoint.held):
                        self._take_back(connection, slab)
                is_own = any(each.slabs is slab.owner for each in slab.readers)
                if slab.readers and not is_own and slab.owner not in kept and slab.size <= KEPT:
                    kept.add(slab.owner)
                elif state.taken == 0 and (state.uses == slab.uses or not slab.readers):
                    self._withdraw(slab)
                slab.uses = state.uses
        finally:
            if self._slabs:
                self._look_later()

    def _take_back(self, connection: RendererConnection, slab: _Slab) -> None:
        """Have a renderer unmap a slab of which it holds no block."""
        slab.withdrawn.add(connection)
        connection.endpoint.withdraw_slab(slab.number)  # first: once it is told, it must be sent no place there
        with suppress(OSError):  # its socket is full: it is told later
            handshake.take_slab_back(connection.sock, slab.number)
            slab.readers.discard(connection)
            slab.withdrawn.discard(connection)

    def _withdraw(self, slab: _Slab) -> None:
        """Have all renderers unmap a slab that nobody holds a block of. Give it back once they have.

        A renderer may keep its mapping. Then the slab stays, counts, and is used again when it is needed.
        """
        for connection in list(slab.readers):
            self._take_back(connection, slab)
        if not slab.readers and not slab.owner.is_had_by_others(slab.number) and slab.owner.remove(slab.number):
            self._slabs.remove(slab)
            log.debug("slab %d is given back", slab.number)

    def _collect(self) -> None:
        """Look at what all renderers have returned."""
        for connection in list(self._connections.values()):
            try:
                connection.endpoint.collect()
            except ProtocolError as error:
                connection.broken(error)

    @property
    def state(self) -> PoolState:
        """What there is, and who holds it."""
        self._collect()
        states = [each.owner.look(each.number) for each in self._slabs]
        return PoolState(
            limit=self._limit,
            slabs=len(states),
            bytes=self._bytes(),
            blocks=sum(each.blocks for each in states),
            held=sum(each.taken for each in states),
            holders={each.frame_id: held for each in self._connections.values() if (held := each.endpoint.held)}
            | {frame_id: holds.bytes for frame_id, holds in self._left.items()},
            loans=sum(each.loans for each in states),
            lent=sum(each.lent for each in states),
            by_ring={each.frame_id: count for each in self._connections.values() if (count := each.endpoint.by_ring)},
        )

    def close(self) -> None:
        """Give all slabs back, when nothing is sent any more.

        Who still reads has them mapped, and as they are. What is on loan stays until nothing refers to it.
        """
        for frame_id in list(self._left):
            self.hung_up(frame_id)
        for slab in self._slabs:
            slab.owner.close()
        self._slabs.clear()

    def _bytes(self) -> int:
        return sum(each.size for each in self._slabs)


def _pages(size: int) -> int:
    return -(-size // PAGE) * PAGE
