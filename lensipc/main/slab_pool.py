# SPDX-License-Identifier: MIT
"""The pool: all slabs of main, which extension each belongs to, and which renderers have it.

A large event for several renderers is copied once, into a block of a slab, and each renderer copies it out of there.
The C core does that (csrc/endpoint/topic.c). It tells by WANTS_SLAB that a slab is missing, and until there is one, the
events go through the rings. So nothing waits for this file, and a failure here costs only time.

A slab belongs to one extension, for as long as it exists. Only renderers that listen to a channel of the extension are
handed it, because whoever has mapped a slab can read all that was ever written there.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple

from ..errors import ProtocolError
from ..log import log
from ..transport import handshake
from ..transport.slabs import PAGE, Holds, Slabs
from .port import MainChannel

if TYPE_CHECKING:
    from ..transport.poller import Poller
    from .connection import RendererConnection

# Bytes of the smallest slab; and of the largest one that is kept while the host runs, if it is its extension's first.
LEAST: Final = 4 * 1024 * 1024
KEPT: Final = 16 * 1024 * 1024
# A slab has room for this many of the messages that it was made for, up to ROOMY bytes.
ROOM_FOR: Final = 8
ROOMY: Final = 32 * 1024 * 1024
# A message of more than the pool's limit divided by this goes through the rings, so that no message fills the pool.
PARTS: Final = 4
# How long a slab is unused before its memory is given back (seconds).
IDLE: Final = 10.0
# How long no slab is made after that has failed (seconds).
RETRY: Final = 1.0


class PoolState(NamedTuple):
    """Main's shared memory for large events: `MainProcess.pool`.

    Attributes:
        limit: bytes that the slabs may have together.
        slabs: how many slabs there are.
        bytes: the memory of all slabs.
        blocks: messages that lie in the slabs, because a renderer has not read them yet.
        held: bytes of these messages.
        holders: bytes that each renderer has not read yet, by frame id; without those that hold nothing, and with those
            that main has disconnected, until they have ended.
    """

    limit: int
    slabs: int
    bytes: int
    blocks: int
    held: int
    holders: dict[int, int]


class _Slab:
    __slots__ = ("number", "owner", "readers", "size", "uses")

    def __init__(self, number: int, size: int, owner: Slabs) -> None:
        self.number: int = number
        self.size: int = size
        self.owner: Slabs = owner
        self.readers: set[RendererConnection] = set()  # to which it was handed
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
        self._not_before: float = 0.0  # no slab is made until then
        self._waits: bool = False  # whether the timer runs

    def slabs(self) -> Slabs | None:
        """The slabs of a new extension: none so far. None: there is no pool."""
        return Slabs(self._limit // PARTS) if self._limit else None

    def provide(self, channel: MainChannel) -> None:
        """Make a slab where one was missing, and hand the extension's slabs to those who listen to the channel."""
        owner = channel.port.slabs
        if owner is None:
            return
        wanted = owner.wanted()
        if wanted:
            self._grow(owner, wanted)
        ours = [each for each in self._slabs if each.owner is owner]
        for connection in list(self._connections.values()):
            if channel in connection.listening:
                for slab in ours:
                    if connection not in slab.readers:
                        self._hand(connection, slab)

    def _grow(self, owner: Slabs, wanted: int) -> None:
        needed = _pages(wanted)
        size = max(LEAST, needed, min(ROOM_FOR * needed, ROOMY))
        left = self._limit - self._bytes()
        if size > left:
            size = needed
        if size > left or time.monotonic() < self._not_before:
            return
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
            return
        log.debug("slab %d has %d bytes", number, size)

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

    def leave(self, connection: RendererConnection) -> None:
        """Main closes this connection next. What the renderer holds stays held until `ended`, for it may still read."""
        if connection in self._watched and not connection.ended:
            holds = Holds(connection.endpoint)
            if holds.bytes:
                self._left[connection.frame_id] = holds

    def ended(self, frame_id: int) -> None:
        """This renderer has closed its end, too, or its process has ended: so it reads no more."""
        holds = self._left.pop(frame_id, None)
        if holds is not None:
            holds.give_back()

    # ---- giving memory back ----

    def _look_later(self) -> None:
        if not self._waits:
            self._poller.call_later(IDLE, self._give_back)
            self._waits = True

    def _give_back(self) -> None:
        """Give back the slabs that were not used since the last time, but for one of each extension that has readers.

        A slab is taken back from a renderer that listens to no channel of the extension any more.
        """
        self._waits = False
        self._collect()
        kept: set[Slabs] = set()
        for slab in list(self._slabs):
            state = slab.owner.look(slab.number)
            for connection in list(slab.readers):
                listens = any(channel.port.slabs is slab.owner for channel in connection.listening)
                if not listens and not connection.endpoint.held:
                    self._take_back(connection, slab)
            if slab.readers and slab.owner not in kept and slab.size <= KEPT:
                kept.add(slab.owner)
            elif state.taken == 0 and state.uses == slab.uses:
                self._withdraw(slab)
            slab.uses = state.uses
        if self._slabs:
            self._look_later()

    def _take_back(self, connection: RendererConnection, slab: _Slab) -> None:
        """Have a renderer unmap a slab of which it holds no block."""
        with suppress(OSError):  # its socket is full: it keeps the slab until later
            handshake.take_slab_back(connection.sock, slab.number)
            connection.endpoint.withdraw_slab(slab.number)
            slab.readers.discard(connection)

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
        )

    def close(self) -> None:
        """Give all slabs back, when nothing is sent any more. Who still reads has them mapped, and as they are."""
        for holds in self._left.values():
            holds.give_back()
        self._left.clear()
        for owner in {slab.owner for slab in self._slabs}:
            owner.close()
        self._slabs.clear()

    def _bytes(self) -> int:
        return sum(each.size for each in self._slabs)


def _pages(size: int) -> int:
    return -(-size // PAGE) * PAGE
