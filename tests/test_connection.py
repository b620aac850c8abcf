# SPDX-License-Identifier: MIT
"""One end of a line: both ends in this process, without a loop."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lines import receive

from lensipc import ProtocolError
from lensipc.runtime.connection import BATCH, CLOSED, Connection
from lensipc.runtime.protocol import ALL, EVENT, KINDS
from lensipc.transport.endpoint import (
    FORM_MEMFD,
    SIDE_MAIN,
    SIDE_RENDERER,
    WAKEUP_EVENTFD,
    Endpoint,
    Message,
    Topic,
    create_segment,
)
from lensipc.transport.poller import Poller

LIMIT = 1 << 22


class Line:
    """A connection under test, and the other end of it by hand."""

    def __init__(self, poller: Poller, sock: socket.socket, peer: socket.socket, fds: list[int]) -> None:
        self.heard: list[int] = []
        self.signals = fds[1]  # what the other end signals this one by
        self.on_record: Callable[[Message], None] = lambda _record: None
        self.peer_sock = peer
        sizes: dict[str, Any] = {"high_water": 1 << 20, "limit": LIMIT, "quota": 1 << 24}
        self.peer = Endpoint(fds[0], SIDE_RENDERER, WAKEUP_EVENTFD, fds[1], **sizes)
        ours = Endpoint(fds[0], SIDE_MAIN, WAKEUP_EVENTFD, fds[2], **sizes)
        self.connection = Connection(ours, sock, poller, 1 << 18, [self.hear] * KINDS, lambda _batch: None, 0, 0)
        poller.register(sock.fileno(), self._read)

    def _read(self) -> None:
        self.connection.read_socket()

    def hear(self, record: Message) -> None:
        self.heard.append(record.correlation)
        self.on_record(record)

    def send(self, *numbers: int, kind: int = EVENT, body: bytes = b"") -> None:
        for number in numbers:
            self.peer.send(kind, 0, 0, 0, number, body)


@pytest.fixture
def line() -> Iterator[Line]:
    poller = Poller()
    sock, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fds = [create_segment(FORM_MEMFD, 1 << 16), os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0, os.EFD_NONBLOCK)]
    line = Line(poller, sock, peer, fds)
    yield line
    line.connection.close()
    line.peer.close()
    peer.close()
    poller.close()
    for fd in fds:
        os.close(fd)


def test_a_turn_that_only_relays_ends_by_the_clock_too(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    connection, topic = line.connection, Topic()
    connection.endpoint.relay(0, topic, 1, 1)
    clock = itertools.count()
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    for _ in range(5 * BATCH):
        line.peer.send(EVENT, 0, ALL, 0, 0, b"")
    line.send(7)
    assert connection.pump(1000, 1) == 2 * BATCH
    assert connection.pump(1000) == 3 * BATCH + 1
    assert line.heard == [7]


def test_messages_are_handled_once_and_in_their_order(line: Line) -> None:
    line.send(*range(1000))
    handled = 0
    while len(line.heard) < 1000:
        handled += line.connection.pump(64)
    assert line.heard == list(range(1000))
    assert handled == 1000
    assert line.connection.pump(64) == 0


@pytest.mark.parametrize("size", [20_000, 1 << 20])  # of two frames, so that three fit into the ring; of a block
def test_the_memory_of_a_large_body_that_nobody_holds_is_free_before_the_next_one_needs_some(
    line: Line, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Two in turn would take twice the memory."""
    bodies: list[Any] = []
    holders: set[int] = set()
    receive = line.connection.endpoint.receive

    def watched(*args: Any) -> int:
        if bodies:
            holders.add(sys.getrefcount(bodies[-1]) - 1)
        return receive(*args)

    monkeypatch.setattr(line.connection.endpoint, "receive", watched)
    line.on_record = lambda record: bodies.append(record.body)
    line.send(*range(4), body=bytes(size))
    while len(line.heard) < 4:
        line.connection.pump(64)
        line.peer.flush()
    assert holders == {1}


@pytest.mark.parametrize("budget", [1, 2, 63, 64, 65, 1000])
def test_a_pump_handles_no_more_than_its_budget_and_loses_nothing(line: Line, budget: int) -> None:
    line.send(*range(300))
    turns = []
    while len(line.heard) < 300:
        turns.append(line.connection.pump(budget))
    assert max(turns) <= budget
    assert line.heard == list(range(300))


@pytest.mark.parametrize("size", [0, 20_000, 3_000_000])
def test_a_signal_between_the_core_and_its_caller_loses_no_message_and_no_memory(
    line: Line, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Small, assembled in memory that C has made, and in a block: with its parts from one call to the next."""
    endpoint = line.connection.endpoint
    receive = endpoint.receive
    interrupted = 0

    def struck(limit: int, decoded: int, most: int, into: list[Any]) -> int:
        relayed = receive(limit, decoded, most, into)
        if into or endpoint.assembling[0] is not None:
            nonlocal interrupted
            interrupted += 1
            raise KeyboardInterrupt
        return relayed

    monkeypatch.setattr(endpoint, "receive", struck)
    sent = bytes(range(256)) * (size // 256)
    bodies: list[bytes] = []
    line.on_record = lambda record: bodies.append(bytes(record.body))
    line.send(1, 2, 3, body=sent)
    for _ in range(10_000):
        if len(line.heard) == 3:
            break
        with contextlib.suppress(KeyboardInterrupt):
            line.connection.pump(64)
        gc.collect()  # what nobody holds is gone
        line.peer.flush()
    assert line.heard == [1, 2, 3]
    assert bodies == [sent] * 3
    assert interrupted


def test_who_is_woken_by_an_old_signal_is_awake_and_is_not_signalled_again(line: Line) -> None:
    assert line.connection.park()
    line.connection.woken()  # by a signal of a park before this one
    line.send(1)
    with pytest.raises(BlockingIOError):
        os.eventfd_read(line.signals)
    assert line.connection.pump(64) == 1
    assert line.connection.park()
    line.send(2)
    assert os.eventfd_read(line.signals) == 1


def test_what_has_been_taken_and_not_handled_keeps_the_connection_awake(line: Line) -> None:
    def pause(_: Message) -> None:
        line.connection.paused = int(line.heard == [1])

    line.on_record = pause
    line.send(1, 2, 3)
    line.connection.pump(64)
    line.connection.paused = 0
    assert not line.connection.park()
    assert line.connection.ready
    line.connection.pump(64)
    assert line.connection.park()
    assert not line.connection.ready


@pytest.mark.parametrize("budget", [1, 64])
def test_who_waits_until_little_waits_to_be_sent_is_told_however_a_turn_ends(line: Line, budget: int) -> None:
    """By its budget too: a peer that always has more to say would else keep drain() waiting for ever."""
    told: list[int] = []
    line.connection.below_low_water = lambda: told.append(1)  # type: ignore[method-assign]
    line.send(1, 2, 3)
    line.connection.pump(budget)
    assert told == []
    line.connection.drain_requested = True
    line.send(4, 5, 6)
    line.connection.pump(budget)
    assert told == [1]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_callback_that_raises_loses_no_message_but_its_own(line: Line, error: type[BaseException]) -> None:
    def fail(record: Message) -> None:
        if record.correlation % 7 == 3:
            raise error

    line.on_record = fail
    line.send(*range(100))
    raised = 0
    while len(line.heard) < 100:
        try:
            line.connection.pump(64)
        except error:
            raised += 1
    assert line.heard == list(range(100))
    assert raised == 14


def test_a_callback_may_pump_and_the_order_stays(line: Line) -> None:
    depths: list[int] = []

    def nest(_record: Message) -> None:
        depths.append(1)
        if len(depths) < 50:
            line.connection.pump(3)

    line.on_record = nest
    line.send(*range(BATCH * 3))
    while len(line.heard) < BATCH * 3:
        line.connection.pump(10)
    assert line.heard == list(range(BATCH * 3))
    assert line.connection.pump(10) == 0


def test_a_callback_that_pauses_stops_the_pump_and_what_is_left_waits(line: Line) -> None:
    def pause(record: Message) -> None:
        line.connection.paused = int(record.correlation == 4)

    line.on_record = pause
    line.send(*range(10))
    assert line.connection.pump(64) == 5
    assert line.heard == [0, 1, 2, 3, 4]
    line.connection.paused = 0
    assert line.connection.pump(64) == 5
    assert line.heard == list(range(10))


def test_a_callback_that_closes_stops_the_pump(line: Line) -> None:
    line.on_record = lambda _record: line.connection.close()
    line.send(*range(10))
    assert line.connection.pump(64) == 1
    assert line.heard == [0]
    assert line.connection.state is CLOSED


@pytest.mark.parametrize("kind", [KINDS, KINDS + 1, 255, 65535])
def test_a_kind_that_is_none_is_a_protocol_error(line: Line, kind: int) -> None:
    line.send(1)
    line.send(2, kind=kind)
    with pytest.raises(ProtocolError, match=f"kind {kind}, which is none"):
        line.connection.pump(64)
    assert line.heard == [1]


def test_a_large_message_comes_whole_between_small_ones(line: Line) -> None:
    bodies: list[Any] = []
    line.on_record = lambda record: bodies.append(bytes(record.body))
    large = os.urandom(300_000)
    line.send(1, body=b"small")
    line.send(2, body=large)
    line.send(3, body=b"small too")
    while len(line.heard) < 3:
        line.connection.pump(64)
        line.peer.flush()
    assert line.heard == [1, 2, 3]
    assert bodies == [b"small", large, b"small too"]


@pytest.mark.parametrize("paused", [0, 1])
def test_a_wake_makes_it_ready_and_what_has_waited_is_sent(line: Line, paused: int) -> None:
    """By the pump, or at once where there will be none."""
    while line.connection.endpoint.outbox == 0:
        line.connection.send(EVENT, body=bytes(10_000))
    line.connection.paused = paused
    assert line.connection.park()
    while receive(line.peer, 256):
        pass
    line.connection.woken()
    assert line.connection.ready
    if not paused:
        line.connection.pump(64)
    assert line.connection.endpoint.outbox == 0


def test_little_waiting_is_told(line: Line) -> None:
    told: list[int] = []
    line.connection.below_low_water = lambda: told.append(1)  # type: ignore[method-assign]
    line.connection.low_water = 0
    while line.connection.endpoint.outbox == 0:
        line.connection.send(EVENT, body=bytes(10_000))
    line.connection.flush()
    assert told == []
    while receive(line.peer, 256):
        line.connection.flush()
    line.connection.flush()
    assert told


def test_the_end_of_the_socket_is_not_the_end_of_what_was_sent(line: Line) -> None:
    line.send(1, 2, 3)
    line.peer_sock.close()
    line.connection.poller.poll(None)
    assert line.connection.ended
    assert line.connection.ready
    assert line.connection.pump(64) == 3
    assert line.heard == [1, 2, 3]
    line.connection.end()  # again: nothing
    assert line.connection.poller.poll(0) is False  # it does not spin on the end of file


def test_a_datagram_is_given_and_an_empty_one_is_an_end(line: Line) -> None:
    assert line.connection.read_socket() is None
    assert not line.connection.ended
    line.peer_sock.send(b"data")
    assert line.connection.read_socket() == b"data"
    line.peer_sock.send(b"")
    assert line.connection.read_socket() is None
    assert line.connection.ended


def test_after_it_is_closed_a_connection_does_nothing(line: Line) -> None:
    line.connection.close()
    line.connection.close()
    line.connection.woken()
    line.connection.end()
    assert not line.connection.ready
    assert not line.connection.ended


def test_a_budget_of_one_is_one_message(line: Line) -> None:
    line.send(1, 2)
    assert line.connection.pump(1) == 1
    assert line.connection.pump(1) == 1
    assert line.connection.pump(1) == 0
