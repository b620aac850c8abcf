# SPDX-License-Identifier: MIT
"""Endpoints as the layers above use them, within a process and between two."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import math
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lines import fields, receive

from lensipc import _core, _fast, clone
from lensipc.errors import ForkError, LensIpcError, OutboxFull, ProtocolError
from lensipc.runtime.protocol import MAX_CHANNELS
from lensipc.transport import endpoint
from lensipc.transport.endpoint import Endpoint, Message, Timer, Topic, create_segment

CAPACITY = 1 << 16
Pair = tuple[Endpoint, Endpoint]


def resources() -> list[Path]:
    ours = Path("/dev/shm").glob("lensipc-" + 16 * "[0-9a-f]")  # others on this machine have theirs there
    return sorted([*Path("/proc/self/fd").iterdir(), *ours])


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    before = resources()
    yield
    assert resources() == before


def open_endpoint(fd: int, side: int, **sizes: Any) -> Endpoint:
    options: dict[str, Any] = {"high_water": 1 << 20, "limit": 1 << 22, "quota": 1 << 26} | sizes
    return Endpoint(fd, side, endpoint.WAKEUP_SEMAPHORE, -1, **options)


@pytest.fixture(params=[endpoint.FORM_MEMFD, endpoint.FORM_SHM], ids=["memfd", "shm"])
def segment(request: pytest.FixtureRequest) -> Iterator[int]:
    fd = create_segment(request.param, CAPACITY)
    yield fd
    os.close(fd)


@pytest.fixture
def pair(segment: int) -> Iterator[Pair]:
    both = open_endpoint(segment, endpoint.SIDE_MAIN), open_endpoint(segment, endpoint.SIDE_RENDERER)
    yield both
    for side in both:
        side.close()


def seen(side: Endpoint, limit: int, decoded: int = 0) -> list[Any]:
    return [fields(message) for message in receive(side, limit, decoded)]


def receive_one(receiver: Endpoint, sender: Endpoint | None = None) -> Message:
    while True:
        if sender:
            sender.flush()
        if records := receive(receiver, 1):
            message: Message = records[0]
            return message
        if not sender:
            assert receiver.wait(60), "nothing comes"


# ---- messages ----


def test_a_message_arrives_with_all_that_goes_with_it(pair: Pair) -> None:
    main, renderer = pair
    largest = 2**16 - 1, 2**32 - 1, 2**32 - 2, 2**32 - 3, 2**64 - 1
    assert main.send(1, 2, 3, 4, 5, b"body") == 0
    assert main.send(*largest, b"") == 0
    assert seen(renderer, 10) == [(1, b"body", 2, 3, 4, 5, None), (2**16 - 1, b"", *largest[1:], None)]
    assert receive(renderer, 10) == []


def test_small_plain_bodies_of_the_kinds_asked_for_come_decoded(pair: Pair) -> None:
    main, renderer = pair
    plain, other = clone.encode(({"a": [1, 2.5]},)), clone.encode(({1, 2},))
    for kind, body in ((1, plain), (2, plain), (1, other), (1, b"no message"), (1, b"")):
        main.send(kind, 2, 3, 4, 5, body)
    assert seen(renderer, 10, 1 << 2) == [
        (1, plain, 2, 3, 4, 5, None),
        (2, None, 2, 3, 4, 5, ({"a": [1, 2.5]},)),
        (1, other, 2, 3, 4, 5, None),
        (1, b"no message", 2, 3, 4, 5, None),
        (1, b"", 2, 3, 4, 5, None),
    ]


def test_decoded_events_that_nothing_is_missing_before_come_as_a_batch_whatever_their_channels(pair: Pair) -> None:
    main, renderer = pair
    for hearer in ("zero", "one", "two"):
        renderer.count_gaps(hearer)
    other = clone.encode((1j,))  # it takes a call
    # channel, peer, pid, correlation
    sent = [
        (1, 0, 5, 1),  # the first
        (1, 0, 5, 2),
        (2, 3, 4, 1),  # the first
        (1, 0, 5, 3),
        (2, 3, 4, 2),
        (1, 0, 5, 4),
        (1, 0, 5, 7),  # two are missing
        (1, 0, 5, 8),
        (2, 0, 5, 3),  # from another peer
        (2, 0, 5, 4),
        (9, 0, 5, 1),  # of a channel that is not heard
    ]
    for number, (channel, peer, pid, correlation) in enumerate(sent):
        main.send(1, channel, peer, pid, correlation, clone.encode((number,)))
    main.send(1, 1, 0, 5, 9, other)
    main.send(1, 1, 0, 5, 10, clone.encode((11,)))
    main.send(1, 1, 0, 5, 11, clone.encode("no tuple"))
    main.send(1, 1, 0, 5, 12, clone.encode((12,)))

    def batch(*pairs: object) -> list[object]:
        return list(pairs)

    assert seen(renderer, 64, 1 << 1) == [
        (1, None, 1, 0, 5, 0, (0,)),
        batch("one", (1,)),
        (1, None, 2, 3, 4, 0, (2,)),
        batch("one", (3,), "two", (4,), "one", (5,)),
        (1, None, 1, 0, 5, 2, (6,)),
        batch("one", (7,)),
        (1, None, 2, 0, 5, 0, (8,)),
        batch("two", (9,)),
        (1, None, 9, 0, 5, 1, (10,)),
        (1, other, 1, 0, 5, 0, None),
        batch("one", (11,)),
        (1, None, 1, 0, 5, 0, "no tuple"),
        batch("one", (12,)),
    ]


def test_what_is_missing_before_an_event_is_counted_however_the_event_comes(pair: Pair) -> None:
    main, renderer = pair
    renderer.count_gaps("zero")
    for correlation in (2, 3):
        main.send(1, 0, 0, 5, correlation, clone.encode((1,)))
    main.send(1, 0, 0, 5, 7, bytes(endpoint.INLINE))
    main.send(4, 0, 0, 5, 7, b"")  # no event
    main.send(1, 0, 0, 5, 8, clone.encode((1,)))
    got: list[Message] = []
    while len(got) < 5:
        got += receive(renderer, 64)
    assert [record.correlation for record in got] == [1, 0, 3, 7, 0]


def test_only_events_are_dropped_for_an_event_of_their_channel(pair: Pair) -> None:
    """Outcomes bear no channel, which reads as channel 0."""
    main, renderer = pair
    results = events = dropped = 0
    for number in range(3000):
        if number % 3:
            dropped += main.send(1, 0, 0, 0, number, bytes(1000), endpoint.DROP_OLDEST)
            events += 1
        else:
            main.send(4, 0, 0, 0, number, bytes(1000), endpoint.KEEP)
            results += 1
    assert dropped > 0
    kinds: list[int] = []
    while len(kinds) < results + events - dropped:
        kinds += [record.kind for record in receive(renderer, 64)]
        main.flush()
    assert receive(renderer, 64) == []
    assert kinds.count(4) == results


def test_what_is_relayed_before_a_large_message_is_told_before_it(pair: Pair) -> None:
    main, renderer = pair
    fd = create_segment(endpoint.FORM_MEMFD, CAPACITY)
    receiver = open_endpoint(fd, endpoint.SIDE_MAIN, high_water=1000)
    topic = Topic()
    topic.add(receiver, 0, endpoint.REFUSE, 0)
    main.relay(0, topic, 1, 1)
    for _ in range(3):
        renderer.send(1, 0, 0xFFFFFFFF, 0, 0, bytes(15_000))
        receiver.send(1, 0, 0, 0, 0, bytes(15_000))  # so that they wait there
    renderer.send(1, 0, 5, 0, 0, bytes(40_000))
    got: list[Any] = []
    assert main.receive(64, 0, endpoint.INLINE, got) == 3
    assert main.relay_status() == endpoint.CONGESTED
    while not got:
        renderer.flush()
        assert main.receive(64, 0, endpoint.INLINE, got) == 0
    assert [len(record.body) for record in got] == [40_000]
    topic.remove(receiver)
    receiver.close()
    os.close(fd)


def test_bodies_of_more_bytes_than_asked_for_come_as_they_are(pair: Pair) -> None:
    main, renderer = pair
    for size in (100, 101):
        main.send(2, 0, 0, 0, size, clone.encode(bytes(size - len(clone.encode(b"")))))
    assert [record.body is None for record in receive(renderer, 10, 1 << 2, 100)] == [True, False]


def test_a_value_goes_as_it_is_if_it_is_small_plain_data(pair: Pair) -> None:
    main, renderer = pair
    assert main.send_value(2, 3, 4, 5, ({"a": [1, 2.5]},))
    assert not main.send_value(2, 3, 0, 5, ({1, 2},))
    assert not main.send_value(2, 3, 0, 5, (bytes(40_000),))
    assert seen(renderer, 10) == [(2, clone.encode(({"a": [1, 2.5]},)), 3, 4, 0, 5, None)]
    assert receive(renderer, 10) == []


def test_what_is_no_bytes_or_no_number_is_refused_by_the_calls() -> None:
    for wrong in (
        lambda: _fast.decode(None),  # type: ignore[arg-type]
        lambda: _fast.send(0, 1),  # type: ignore[call-arg]
        lambda: _fast.flush("x"),  # type: ignore[arg-type]
        lambda: _fast.send_value(0, 1),  # type: ignore[call-arg]
        lambda: _fast.publish_value(0, 1),  # type: ignore[call-arg]
    ):
        with pytest.raises(TypeError):
            wrong()
    for wrong in (
        lambda: _fast.flush(0),
        lambda: _fast.receive(0, [None], print, 0, [], 1, 0, 0, []),
        lambda: _fast.publish(0, 1, 2, b""),
        lambda: _fast.publish_value(0, 1, 2, ()),
        lambda: _fast.send_value(0, 1, 2, 3, 4, ()),
    ):
        with pytest.raises(ValueError, match="no address"):
            wrong()


def test_no_more_messages_come_than_asked_for(pair: Pair) -> None:
    main, renderer = pair
    for number in range(200):
        main.send(1, 0, 0, 0, number, b"")
    counts = [len(receive(renderer, n)) for n in (1, 7, 1000, 1000, 1000, 1000)]
    assert sum(counts) == 200
    assert counts[:2] == [1, 7]


@pytest.mark.parametrize("size", [0, 1, 1000, 8192, 8193, 40_000, 1_000_000])
def test_a_body_in_pieces_arrives_as_one(pair: Pair, size: int) -> None:
    main, renderer = pair
    whole = os.urandom(size)
    one, other = size // 3, size // 2
    main.send(1, 2, 3, 4, 5, [whole[:one], b"", bytearray(whole[one:other]), memoryview(whole)[other:]])
    assert bytes(receive_one(renderer, main).body) == whole


def test_bodies_stay_when_others_come(pair: Pair) -> None:
    main, renderer = pair
    kept = []
    bodies = [os.urandom(size) for size in (90, 40_000, 0, 200_000, 32_768, 32_767)] * 3
    for body in bodies:
        main.send(1, 0, 0, 0, 0, body)
        kept.append(receive_one(renderer, main).body)
    assert [bytes(body) for body in kept] == bodies


@pytest.mark.parametrize(("size", "kind"), [(100_000, "bytearray"), (_core.lib.LIPC_POOLED, "memoryview")])
def test_a_large_body_is_memory_of_its_own(pair: Pair, size: int, kind: str) -> None:
    main, renderer = pair
    main.send(1, 0, 0, 0, 0, bytes(size))
    body: Any = receive_one(renderer, main).body
    assert type(body).__name__ == kind
    body[:] = b"x" * size
    renderer.close()
    assert bytes(body[-3:]) == b"xxx"


def test_what_is_no_contiguous_buffer_is_not_sent(pair: Pair) -> None:
    main, renderer = pair
    for size in (100, 100_000):
        with pytest.raises((TypeError, BufferError)):
            main.send(1, 0, 0, 0, 0, [memoryview(bytes(size))[::2], bytes(size)])
    with pytest.raises(TypeError):
        main.send(1, 0, 0, 0, 0, ["text"])  # type: ignore[list-item]
    assert receive(renderer, 1) == []


# ---- the outbox ----


def test_a_full_outbox_refuses_and_takes_again_when_the_peer_has_read(segment: int) -> None:
    main = open_endpoint(segment, endpoint.SIDE_MAIN, high_water=1000, limit=2000)
    renderer = open_endpoint(segment, endpoint.SIDE_RENDERER)
    sent = 0
    while main.outbox < 2000 + 540:  # the limit, and the message that is on its way
        assert main.send(1, 0, 0, 0, sent, bytes(500)) == 0
        sent += 1
    with pytest.raises(OutboxFull):
        main.send(1, 0, 0, 0, sent, b"")
    assert 2540 <= main.outbox < 3540
    assert main.send(1, 0, 0, 0, 0, b"", endpoint.DROP_NEWEST) == 1
    before = main.progress
    received = 0
    while received < sent:
        assert receive_one(renderer, main).correlation == received
        received += 1
    assert main.progress > before
    assert main.flush() == main.outbox == 0
    assert main.send(1, 0, 0, 0, sent, b"") == 0
    main.close()
    renderer.close()


def test_what_waits_takes_no_more_memory_than_the_limit_says(segment: int) -> None:
    limit = 32 << 20
    main = open_endpoint(segment, endpoint.SIDE_MAIN, high_water=limit, limit=limit)
    before = resident()
    sent = fill(main, b"x")
    assert resident() - before < limit + (4 << 20)
    assert sent > limit // 250  # small ones are not weighed as far more than they are
    main.close()


def fill(main: Endpoint, body: bytes) -> int:
    """Send until that is refused; how many were sent."""
    for number in range(1_000_000):
        try:
            main.send(1, 0, 0, 0, 0, body)
        except OutboxFull:
            return number
    raise AssertionError("the outbox has no limit")


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_several_that_share_an_account_are_refused_together() -> None:
    all_of_them, limit = endpoint.Account(1 << 30), 100_000
    account = endpoint.Account(limit, all_of_them)
    fds = [create_segment(endpoint.FORM_MEMFD, CAPACITY) for _ in range(21)]
    mains = [open_endpoint(fd, endpoint.SIDE_MAIN, limit=1 << 26, account=account) for fd in fds[1:]]
    stranger = open_endpoint(fds[0], endpoint.SIDE_MAIN, limit=1 << 26, account=all_of_them)
    for main in mains:
        fill(main, bytes(1000))
        assert main.send(1, 0, 0, 0, 0, bytes(1000), endpoint.DROP_OLDEST) == 1
        assert main.send(1, 0, 0, 0, 0, bytes(1000), endpoint.DROP_NEWEST) == 1
    assert limit <= account.bytes < limit + 3000  # the first of a full outbox, and the one that met the limit
    assert account.bytes == all_of_them.bytes == sum(main.outbox for main in mains)
    for _ in range(1000):
        stranger.send(1, 0, 0, 0, 0, bytes(1000))
    assert account.bytes + stranger.outbox == all_of_them.bytes
    del account  # it is needed, and stays
    for main in mains:
        main.close()
    assert all_of_them.bytes == stranger.outbox
    stranger.close()
    assert all_of_them.bytes == 0
    for fd in fds:
        os.close(fd)


def test_each_channel_that_main_gives_a_renderer_may_have_a_queue() -> None:
    assert MAX_CHANNELS <= _core.lib.LIPC_CHANNELS


def test_drop_oldest_keeps_the_latest(segment: int) -> None:
    main = open_endpoint(segment, endpoint.SIDE_MAIN, high_water=5000, limit=100_000)
    renderer = open_endpoint(segment, endpoint.SIDE_RENDERER)
    dropped = sum(main.send(1, 0, 0, 0, number, bytes(500), endpoint.DROP_OLDEST) for number in range(1000))
    numbers = []
    while True:
        main.flush()
        records = receive(renderer, 64)
        if not records:
            break
        numbers += [record.correlation for record in records]
    assert len(numbers) + dropped == 1000
    assert numbers == sorted(numbers)
    assert numbers[-1] == 999
    main.close()
    renderer.close()


def test_keep_newest_has_the_newest_alone_wait_and_counts_the_others(segment: int) -> None:
    main = open_endpoint(segment, endpoint.SIDE_MAIN, high_water=1 << 20, limit=1 << 21)
    renderer = open_endpoint(segment, endpoint.SIDE_RENDERER)
    in_ring = 0
    while main.outbox == 0:
        assert main.send(1, 0, 0, 0, in_ring, bytes(500), endpoint.KEEP_NEWEST) == 0
        in_ring += 1
    for number in range(in_ring, 1000):
        assert main.send(1, 0, 0, 0, number, bytes(500), endpoint.KEEP_NEWEST) == 1
    numbers: list[int] = []
    while len(numbers) < in_ring:
        numbers += [record.correlation for record in receive(renderer, 64)]
        main.flush()
    assert numbers == [*range(in_ring - 1), 999]
    main.close()
    renderer.close()


# ---- what is refused ----


def test_a_message_over_the_quota_breaks_the_protocol(segment: int) -> None:
    main = open_endpoint(segment, endpoint.SIDE_MAIN, quota=50_000)
    renderer = open_endpoint(segment, endpoint.SIDE_RENDERER)
    renderer.send(1, 0, 0, 0, 0, bytes(50_000))
    assert len(receive_one(main, renderer).body) == 50_000
    renderer.send(1, 0, 0, 0, 0, bytes(50_001))
    with pytest.raises(ProtocolError, match=r"50001 .* 50000"):
        receive_one(main, renderer)
    main.close()
    renderer.close()


def test_what_is_no_segment_of_this_version_is_refused(segment: int) -> None:
    ends = os.pipe()
    with pytest.raises(ProtocolError, match=f"descriptor {ends[0]} .* version {endpoint.VERSION}"):
        open_endpoint(ends[0], endpoint.SIDE_MAIN)
    for end in ends:
        os.close(end)
    os.pwrite(segment, b"\xff", 8)  # the version
    with pytest.raises(ProtocolError):
        open_endpoint(segment, endpoint.SIDE_RENDERER)
    with pytest.raises(OSError, match="Bad file descriptor"):
        open_endpoint(-1, endpoint.SIDE_MAIN)


@pytest.mark.parametrize("capacity", [0, 4096, 100_000, 1 << 31])
def test_a_capacity_that_cannot_be_is_named(capacity: int) -> None:
    with pytest.raises(OSError, match=f"{capacity} bytes") as caught:
        create_segment(endpoint.FORM_MEMFD, capacity)
    assert caught.value.errno == errno.EINVAL


def test_a_hole_punched_in_the_segment_is_found(segment: int, pair: Pair) -> None:
    main, renderer = pair
    for number in range(10):
        renderer.send(1, 0, 0, 0, number, bytes(1000))
    libc = ctypes.CDLL(None)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
    keep_size_punch_hole = 3
    rings = os.fstat(segment).st_size - 2 * CAPACITY
    assert libc.fallocate(segment, keep_size_punch_hole, rings, 2 * CAPACITY) == 0
    with pytest.raises(ProtocolError):
        receive(main, 10)


def test_random_bytes_in_the_ring_are_no_frame(segment: int, pair: Pair) -> None:
    main, renderer = pair
    renderer.send(1, 0, 0, 0, 0, b"body")
    os.pwrite(segment, os.urandom(40), os.fstat(segment).st_size - CAPACITY)
    with pytest.raises(ProtocolError):
        receive(main, 10)


# ---- sleeping ----


def test_there_is_no_parking_over_work(pair: Pair) -> None:
    main, renderer = pair
    assert main.park()
    main.unpark()
    renderer.send(1, 0, 0, 0, 0, b"")
    assert not main.park()
    assert endpoint.busy_poll([main], 0)
    assert main.wait(0)
    assert main.wait(math.inf)
    receive(main, 1)
    assert not endpoint.busy_poll([main], 1000)
    assert not main.wait(0.001)
    assert not main.wait(-1)


def test_a_poll_on_a_core_that_another_process_computes_on_says_so(pair: Pair) -> None:
    """Each of its yields would else give that one 3 ms, and find its message then."""
    main, _ = pair
    cores = os.sched_getaffinity(0)
    core = min(cores)
    busy = f"import os; os.sched_setaffinity(0, {{{core}}}); print(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            os.sched_setaffinity(0, {core})
            assert main.busy_poll(10_000_000_000) is None
        finally:
            os.sched_setaffinity(0, cores)
            process.kill()


def test_a_signal_handlers_exception_ends_a_wait(pair: Pair) -> None:
    def raise_it(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, raise_it)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(KeyboardInterrupt):
            pair[0].wait(60)
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_a_signal_handler_that_returns_does_not_end_a_wait(pair: Pair) -> None:
    called = []
    previous = signal.signal(signal.SIGALRM, lambda *_: called.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        start = time.monotonic()
        assert not pair[0].wait(0.1)
        assert time.monotonic() - start >= 0.1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert called


def test_a_timer_is_readable_from_its_time_on() -> None:
    timer = Timer()
    assert select.select([timer], [], [], 0)[0] == []
    timer.set(time.monotonic_ns() + 1_000_000)
    assert select.select([timer], [], [], 60)[0] == [timer]
    timer.set(0)
    assert select.select([timer], [], [], 0)[0] == []
    timer.close()
    timer.close()
    assert timer.fileno() == -1


# ---- the end, and forks ----


def test_a_closed_endpoint_says_so(pair: Pair) -> None:
    main = pair[0]
    main.close()
    main.close()
    assert "Closed" in repr(main)
    with pytest.raises(LensIpcError, match="receive: the endpoint is closed"):
        receive(main, 1)
    with pytest.raises(LensIpcError, match="outbox: the endpoint is closed"):
        _ = main.outbox


def test_a_fork_does_not_inherit_an_endpoint(pair: Pair) -> None:
    main, renderer = pair
    child = os.fork()
    if child == 0:
        code = 1
        try:
            main.send(1, 0, 0, 0, 0, b"from the child")
        except ForkError:
            main.close()
            renderer.close()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    main.send(1, 0, 0, 0, 0, b"from the parent")
    assert receive(renderer, 10)[0].body == b"from the parent"


# ---- two processes ----


def start(script: str, fd: int) -> subprocess.Popen[bytes]:
    program = f"""
import os, sys
from lensipc.transport import endpoint
from lensipc.transport.endpoint import Endpoint
peer = Endpoint({fd}, endpoint.SIDE_RENDERER, endpoint.WAKEUP_SEMAPHORE, -1,
                high_water=1 << 20, limit=1 << 22, quota=1 << 26)
{script}
"""
    return subprocess.Popen([sys.executable, "-c", program], pass_fds=[fd])


def test_two_processes_talk_and_sleep(segment: int) -> None:
    main = open_endpoint(segment, endpoint.SIDE_MAIN)
    echo = """
while True:
    messages = []
    peer.receive(64, 0, 0, messages)
    for message in messages:
        kind, body = message.kind, message.body
        rest = message.channel, message.target, message.pid, message.correlation
        peer.send(kind, *rest, [body])
        if kind == 2:
            sys.exit()
    while peer.flush():
        peer.wait(60)
    peer.wait(60)
"""
    with start(echo, segment) as process:
        for number in range(300):
            body = os.urandom(number * 997 % 70_000)
            main.send(1, 0, 0, 0, number, body)
            while main.flush():
                main.wait(60)
            record = receive_one(main)
            assert (record.correlation, bytes(record.body)) == (number, body)
        main.send(2, 0, 0, 0, 0, b"")
        assert process.wait(60) == 0
    main.close()


def test_a_writer_that_is_killed_leaves_whole_messages(segment: int) -> None:
    write = """
number = 0
while True:
    size = number * 7919 % 3000
    try:
        peer.send(1, 0, 0, 0, number, number.to_bytes(4, "little") * (size // 4))
    except endpoint.OutboxFull:
        peer.wait(60)
        peer.flush()
    else:
        number += 1
"""
    main = open_endpoint(segment, endpoint.SIDE_MAIN)
    received = 0
    with start(write, segment) as process:
        killed = False
        while True:
            records = receive(main, 64)
            for record in records:
                kind, body, number = record.kind, record.body, record.correlation
                assert (kind, number) == (1, received)
                assert body == number.to_bytes(4, "little") * (number * 7919 % 3000 // 4)
                received += 1
            if received > 20_000 and not killed:
                process.send_signal(signal.SIGKILL)
                process.wait(60)
                killed = True
            elif killed and not records:
                break
            elif not records:
                assert main.wait(60)
    main.close()


# ---- the binding ----


def test_the_types_of_the_core_are_those_of_the_core() -> None:
    stub = Path(_core.__file__).with_name("_core.pyi").read_text()
    declared = stub.partition("class _Lib:")[2].partition("\nffi:")[0]
    assert sorted(re.findall(r"^    (?:def )?(\w+)", declared, re.MULTILINE)) == dir(_core.lib)
    stub = Path(_core.__file__).with_name("_fast.pyi").read_text()
    found = [name for name in dir(_fast) if not name.startswith("__")]
    assert sorted(re.findall(r"^(?:def |class )?(\w+)[(:]", stub, re.MULTILINE)) == found


def test_cffi_binds_no_function_that_python_does_not_call() -> None:
    called = set()
    for path in Path(clone.__file__).parents[1].rglob("*.py"):
        called.update(re.findall(r"\blib\.(lipc_\w+)", path.read_text()))
    assert called == {name for name in dir(_core.lib) if name.startswith("lipc_")}


def test_descriptors_are_closed_on_exec(segment: int) -> None:
    timer = Timer()
    for fd in (segment, timer.fileno()):
        assert fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    timer.close()
