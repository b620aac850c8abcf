# SPDX-License-Identifier: MIT
"""One end of the line between main and a renderer: an endpoint and its socket, drained in batches.

The rings carry messages. The socket carries the rings' descriptors at attach, then only wakeups toward the renderer and
a reason before main disconnects. Its end of file tells either side of the other's death. A Connection knows messages as
kinds and bytes; its subclasses know what they mean.
"""

from __future__ import annotations

import enum
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import length_hint
from typing import Any

from .. import clone
from ..errors import DecodeError, ProtocolError
from ..log import log
from ..transport import unix_socket
from ..transport.endpoint import LARGE, REFUSE, Batch, Buffer, Endpoint, Message, join, too_large
from ..transport.poller import Poller
from .posts import Fail, Posts

# Messages taken from a ring by one call into C: enough to make the call's cost vanish.
BATCH = 64
# How long to wait for the next part of a large message before doing something else (nanoseconds): a peer that writes
# it puts a quarter of a ring in within a few microseconds.
STREAM = 20_000
# Rings full of a large message that are read before other callbacks have their turn: 4 MiB by default, or about 0.5 ms.
STEPS = 16


class State(enum.Enum):
    """How far a connection has come. It only goes on, by `Connection.end` and `Connection.close`."""

    OPEN = "both sides send"
    ENDED = "the peer will send no more: what it has sent is still to be handled"
    CLOSED = "closed by this side, or once all that the peer had sent was handled"


OPEN, ENDED, CLOSED = State


class Connection:
    """The part that main and renderer have in common.

    Args:
        endpoint: this side of the segment.
        sock: this side of the socket.
        poller: what the socket is registered with.
        low_water: the outbox's low-water mark, in bytes.
        on_message: a handler for each kind of message; raises ProtocolError to disconnect the peer.
        on_batch: the handler for a batch of events.
        decoded: the kinds of messages, as bits, that come decoded if they are small plain data.
        decoded_size: the largest size of a message that comes decoded, in bytes.

    Attributes:
        frame_id: the renderer's number, 0 until it is known.
        state: OPEN, ENDED or CLOSED.
        ended: whether the peer sends no more. It stays set when the connection is closed.
        ready: whether the ring is not parked, so that there may be work.
        paused: the reasons why messages stay in the ring, as bits that the subclass defines; 0: messages are handled.
        status: FAILED and CONGESTED of the receivers of its events.
        drain_requested: whether a call waits for the outbox to be down to `low_water`.
    """

    frame_id = 0

    def __init__(
        self,
        endpoint: Endpoint,
        sock: socket.socket,
        poller: Poller,
        low_water: int,
        on_message: Sequence[Callable[[Message], None]],
        on_batch: Callable[[Batch], None],
        decoded: int,
        decoded_size: int,
    ) -> None:
        self.endpoint = endpoint
        self.sock = sock
        self.poller = poller
        self.low_water = low_water
        self.on_message = on_message
        self.on_batch = on_batch
        self.decoded = decoded
        self._decoded_size = decoded_size
        unix_socket.keep_from_forks(sock)
        self.hang_up: Callable[[], None] = sock.close  # called in the end, in place of closing the socket
        self.state: State = OPEN
        self.ended: bool = False
        self.ready: bool = True
        self.paused = 0
        self.status: int = 0
        self.drain_requested = False
        self._batch: Iterator[Message | Batch] = iter(())  # kept across calls: a callback that raises loses nothing

    def send(
        self,
        kind: int,
        channel: int = 0,
        detail: int = 0,
        pid: int = 0,
        correlation: int = 0,
        body: Buffer | Sequence[Buffer] = b"",
        when_full: int = REFUSE,
    ) -> int:
        """Send a message, without blocking; the number of messages dropped for it. OutboxFull: not sent."""
        return self.endpoint.send(kind, channel, detail, pid, correlation, body, when_full)

    def pump(self, budget: int, until: float | None = None) -> int:
        """Handle at most `budget` messages, and none after the time `until` but the first. Return how many.

        A message that cannot be read ends the connection, because no later message can be found in the ring.
        """
        endpoint, on_message = self.endpoint, self.on_message
        message: Message | Batch | None
        received: list[Message | Batch]
        handled = limit = steps = 0
        for _ in range(budget + 1):  # this bound holds even for a peer that sends a large message byte by byte
            batch, before = self._batch, handled
            for message in batch:
                try:
                    if type(message) is list:
                        handled += len(message) // 2
                        self.on_batch(message)
                    else:
                        handled += 1
                        kind = message.kind  # type: ignore[union-attr]
                        try:
                            take = on_message[kind]
                        except IndexError:
                            raise ProtocolError(f"a message of kind {kind}, which is none") from None
                        take(message)  # type: ignore[arg-type]
                except (KeyboardInterrupt, SystemExit):
                    self.interrupted(message)
                    raise
                except (ProtocolError, DecodeError, MemoryError) as error:
                    self.broken(error)
                    return handled
                if (
                    handled >= budget
                    or self.paused
                    or self.state is CLOSED
                    or (until is not None and time.monotonic() >= until)
                ):
                    if self.drain_requested:
                        self._tell_those_who_wait()
                    return handled
            if batch is not self._batch:
                continue  # a callback has pumped meanwhile
            if 0 < handled - before < limit:
                break  # fewer messages came than were asked for, so the ring is mostly empty: poll or park looks again
            message = None  # frees a large body, so that the next message can use its memory
            limit = min(BATCH, budget - handled)
            received = []
            self._batch = iter(received)
            try:
                relayed = endpoint.receive(limit, self.decoded, self._decoded_size, received)
            except (ProtocolError, MemoryError) as error:
                self.broken(error)
                return handled
            if relayed:
                handled += relayed
                limit -= relayed
                self.status |= endpoint.relay_status()
            if received:
                if type(received[0]) is not list and type(received[0].body) in LARGE:  # type: ignore[union-attr]
                    limit = 0  # a large message comes alone, even if others are behind it
            elif (
                handled >= budget
                or self.paused
                or steps == STEPS
                or (until is not None and time.monotonic() >= until)
                or not (relayed or (endpoint.assembling[0] is not None and endpoint.busy_poll(STREAM)))
            ):
                break
            else:  # the peer is writing the rest of a large message: read on
                steps += 1
        if self.drain_requested:
            self._tell_those_who_wait()
        return handled

    def _tell_those_who_wait(self) -> None:
        """Flush, so that `below_low_water` is called if the outbox is down to its low-water mark."""
        if self.state is not CLOSED:
            self.flush()

    def interrupted(self, message: Message | Batch) -> None:
        """Called when a signal's handler has raised while `message` was handled, or before its handling began."""

    def broken(self, error: Exception) -> None:
        """The peer has broken the protocol, or there is no memory for what it sends: subclasses end the connection."""
        raise error

    def park(self) -> bool:
        """Park and return True if there is nothing to do. Clear `ready`, unless messages are to stay in the ring."""
        try:
            if self.paused:  # the peer's messages stay in the ring; room for the outbox wakes this side all the same
                if self.endpoint.park(False):
                    return True
                self.flush()
                return False
            if length_hint(self._batch) or not self.endpoint.park():
                return False
        except ProtocolError as error:
            self.broken(error)
            return True
        self.ready = False
        return True

    def woken(self) -> None:
        """The peer has signalled: the ring has messages, or there is room for the outbox."""
        if self.state is not CLOSED:
            self.ready = True
            # The signal may answer an earlier park. While this side still looked parked, the peer would go on
            # signalling, and each such signal would end the next sleep early.
            self.endpoint.unpark()
            if self.paused:
                self.flush()  # if not paused, the pump comes next and flushes

    def flush(self) -> None:
        """Move what waits to be sent into the ring, as far as there is room."""
        try:
            waiting = self.endpoint.flush()
        except ProtocolError as error:
            self.broken(error)
        else:
            if waiting <= self.low_water:
                self.below_low_water()

    def below_low_water(self) -> None:
        """Called after each flush that finds the outbox at or below its low-water mark."""

    def read_socket(self) -> bytes | None:
        """One datagram; None when there is none, or at the end of file, which ends the connection."""
        try:
            data = self.sock.recv(4096, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except ConnectionError:
            data = b""
        if not data:
            self.end()
            return None
        return data

    def end(self) -> None:
        """Note that the peer sends no more. The messages in the ring are still handled."""
        if self.state is OPEN:
            self._become(ENDED)
            self.ended = self.ready = True
            self.poller.unregister(self.sock.fileno())

    def close(self) -> None:
        """Release the endpoint and the socket. Idempotent."""
        if self.state is not CLOSED:
            self._become(CLOSED)
            self.ready = False
            self.poller.unregister(self.sock.fileno())
            self.endpoint.close()
            self.hang_up()

    def _become(self, state: State) -> None:
        self.state = state
        log.debug("the connection of renderer %d is %s", self.frame_id, state.name)


def body_of(message: Message) -> Buffer:
    """The body of a message that came as bytes."""
    body = message.body
    assert body is not None
    whole: Buffer = body
    return whole


def size_of(message: Message | Batch) -> int:
    """Bytes of a message's body. A message that came decoded is small, and counts as 0."""
    return 0 if isinstance(message, list) or message.body is None else len(message.body)


def post_args(
    posts: Posts,
    args: tuple[Any, ...],
    transfer: Sequence[Any],
    limits: clone.Limits,
    send: Callable[[Buffer], object],
    fail: Fail,
    max_size: int | None = None,
) -> None:
    """Any thread. Encode arguments now, post a call that has the owner `send` them, and detach `transfer`."""
    if transfer:
        clone.check_transfer(transfer)
    encoded = clone.encode_parts(args, "args", limits)
    body = encoded if isinstance(encoded, bytes) else join(encoded)
    del encoded  # views of a bytearray, which cannot be emptied before they are gone
    if max_size is not None and len(body) > max_size:
        raise too_large(len(body), max_size)
    posts.post(len(body), partial(send, body), fail)
    if transfer:
        clone.detach(transfer)
