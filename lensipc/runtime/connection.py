# SPDX-License-Identifier: MIT
"""One end of the line between main and a renderer: an endpoint and its socket, drained in batches.

The rings carry messages. The socket carries their descriptors at attach, then only wakeups toward the renderer and
a reason before main disconnects; its end of file is how either side learns of the other's death. Knows messages as
kinds and bytes; what they mean is its subclasses' business.
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import length_hint
from typing import Any

from .. import clone
from ..errors import DecodeError, ProtocolError
from ..log import log
from ..transport import unix_socket
from ..transport.endpoint import REFUSE, WHOLE, Batch, Buffer, Endpoint, Message, too_large
from ..transport.poller import Poller
from .posts import Fail, Posts

# Messages taken from a ring by one call into C: enough to make the call's cost vanish.
BATCH = 64
# How long to wait for the next part of a large message before doing something else (nanoseconds): a peer that writes
# it puts a quarter of a ring in within a few microseconds.
STREAM = 20_000


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
        low_water: bytes waiting to be sent from which on that is little.
        on_message: for each kind of message, what takes it; raises ProtocolError to disconnect the peer.
        on_batch: what takes a batch of events.
        decoded: the kinds of messages, as bits, that come decoded if they are small plain data.
        most: the bytes that a message has at most which comes decoded.

    Attributes:
        frame_id: the renderer's number, 0 until it is known.
        state: how far it has come.
        ended: the peer will send no more, or the connection was closed after that.
        ready: it is not parked: there may be work.
        paused: why what has come has to wait, as bits of the subclass's; 0: it is handled.
        status: FAILED and CONGESTED of those to whom its events went.
        drain_requested: somebody waits until little waits to be sent.
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
        most: int,
    ) -> None:
        self.endpoint = endpoint
        self.sock = sock
        self.poller = poller
        self.low_water = low_water
        self.on_message = on_message
        self.on_batch = on_batch
        self.decoded = decoded
        self._most = most
        unix_socket.keep_from_forks(sock)
        self.hang_up: Callable[[], None] = sock.close  # called in the end, in place of closing the socket
        self.state = OPEN
        self.ended = False
        self.ready = True
        self.paused = 0
        self.status = 0
        self.drain_requested = False
        self._batch: Iterator[Message | Batch] = iter(())  # kept across calls: a callback that raises loses nothing

    def send(
        self,
        kind: int,
        channel: int = 0,
        peer: int = 0,
        pid: int = 0,
        correlation: int = 0,
        body: Buffer | Sequence[Buffer] = b"",
        when_full: int = REFUSE,
    ) -> int:
        """Send a message, without blocking; the number of messages dropped for it. OutboxFull: not sent."""
        return self.endpoint.send(kind, channel, peer, pid, correlation, body, when_full)

    def pump(self, budget: int) -> int:
        """Handle at most `budget` messages and return how many; `pending` tells whether there may be more.

        What cannot be read ends the connection, once: no message after it can be found in the ring.
        """
        endpoint, on_message = self.endpoint, self.on_message
        message: Message | Batch | None
        received: list[Message | Batch]
        handled = most = 0
        for _ in range(budget + 1):  # a bound for a peer that sends a large message by the byte, too
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
                if handled >= budget or self.paused or self.state is CLOSED:
                    if self.drain_requested:
                        self._tell_those_who_wait()
                    return handled
            if batch is not self._batch:
                continue  # a callback has pumped meanwhile
            if 0 < handled - before < most:
                break  # fewer than might have come: mostly that was all. To look again is left to who polls, or parks
            message = None  # the memory of a large body serves for the next one, which comes here
            most = min(BATCH, budget - handled)
            received = []
            self._batch = iter(received)
            try:
                relayed = endpoint.receive(most, self.decoded, self._most, received)
            except (ProtocolError, MemoryError) as error:
                self.broken(error)
                return handled
            if relayed:
                handled += relayed
                most -= relayed
                self.status |= endpoint.relay_status()
                self.pause_if_turn_is_over()
            if received:
                if type(received[0]) is not list and type(received[0].body) in WHOLE:  # type: ignore[union-attr]
                    most = 0  # a large one comes alone, whatever is behind it
            elif (
                handled >= budget
                or self.paused
                or not (relayed or (endpoint.assembling[0] is not None and endpoint.poll(STREAM)))
            ):
                break
            # else the peer writes the rest of a large message while this side reads it
        if self.drain_requested:
            self._tell_those_who_wait()
        return handled

    def _tell_those_who_wait(self) -> None:
        """Tell them, however the turn has ended, if little waits to be sent."""
        if self.state is not CLOSED:
            self.flush()

    def pause_if_turn_is_over(self) -> None:
        """Messages have been sent on, which may have taken long: become `paused` if the turn's time is over."""

    def interrupted(self, message: Message | Batch) -> None:
        """A signal's handler has raised while this was handled, or before that began."""

    @property
    def pending(self) -> bool:
        """Whether messages have been taken from the ring and not been handled."""
        return length_hint(self._batch) > 0

    def broken(self, error: Exception) -> None:
        """The peer has broken the protocol, or there is no memory for what it sends: subclasses end the connection."""
        raise error

    def park(self) -> bool:
        """Park, and clear `ready`, if there is nothing to do, as there is nothing when the connection is broken."""
        try:
            if self.paused:  # its messages are to wait; room for what is sent to it is welcome all the same
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
        """The peer has signalled: there are messages, or room for those that wait."""
        if self.state is not CLOSED:
            self.ready = True
            # The signal may be an earlier park's: what still seemed parked would be signalled again and again, and each
            # such signal would end the next sleep early.
            self.endpoint.unpark()
            if self.paused:
                self.flush()  # else the pump does, which comes next

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
        """Little waits to be sent: called after each flush that finds it so."""

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
        """The peer will send no more: what it has sent is still to be handled."""
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
    """The body of a message of a kind that is not decoded."""
    body = message.body
    assert body is not None
    whole: Buffer = body
    return whole


def size_of(message: Message | Batch) -> int:
    """Bytes of a message's body; that of one which came decoded is small, and counts as nothing."""
    return 0 if isinstance(message, list) or message.body is None else len(message.body)


def post_args(
    posts: Posts,
    args: tuple[Any, ...],
    transfer: Sequence[Any],
    limits: clone.Limits,
    send: Callable[[bytes], object],
    fail: Fail,
    most: int | None = None,
) -> None:
    """Any thread. Write arguments now, have the owner `send` them, and empty `transfer`; else as `Posts.post`."""
    if transfer:
        clone.check_transfer(transfer)
    body = clone.encode(args, limits, "args")
    if most is not None and len(body) > most:
        raise too_large(len(body), most)
    posts.post(len(body), partial(send, body), fail)
    if transfer:
        clone.detach(transfer)
