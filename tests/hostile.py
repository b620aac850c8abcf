# SPDX-License-Identifier: MIT
"""A hostile renderer: it shakes hands like any other, and then does one thing that an honest one never does.

    python tests/hostile.py --seed 7 --count 1000     random trials; a failure names the seed of its trial
    python tests/hostile.py --attack NAME             one attack by its name

The renderer's side of a connection lives in this process, by hand: its socket, its eventfd and its segment, mapped
here to write whatever bytes an attack likes. Main is a real MainProcess on this process's loop, with the lab installed
and an honest renderer process as the neighbour. After each attack the harness looks for what must hold:

    main's loop has met no exception, and its heart still beats;
    the offender is disconnected, with one reason in the log, if and only if what it did was invalid;
    main keeps nothing of a renderer that is gone;
    the neighbour's invokes and main's broadcasts work as before.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import inspect
import json
import logging
import mmap
import os
import pickle
import random
import signal
import socket
import struct
import sys
import tempfile
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

if __name__ == "__main__":  # pytest's conftest.py does it otherwise
    sys.path.insert(0, str(Path(__file__).parent / "extensions"))

from hosting import Host, hosting, until

from lensipc import attach, clone, renderer_connection
from lensipc.endpoint import SIDE_RENDERER, WAKEUP_EVENTFD, WAKEUP_SOCKET, Endpoint
from lensipc.message import (
    ACTIVATE,
    ALL,
    CANCEL,
    DEACTIVATE,
    DECLARE,
    ERROR,
    EVENT,
    INVOKE,
    LISTEN,
    READY,
    RESULT,
    UNLISTEN,
    describe,
)
from lensipc.renderer_connection import RendererConnection

# csrc/layout.h, written down again on purpose: a hostile renderer does not ask the library where things are.
DATA_OFFSET: Final = 65536
RINGS: Final = 64
SLEEPERS: Final = 320
FRAME: Final = struct.Struct("=QQIIIIHHI")  # total, correlation, size, channel, peer, pid, kind, flags, reserved
MORE, CONTINUED = 1, 2
WORD: Final = struct.Struct("=Q")

# The host's limits: small, so that an attack meets them soon.
CAPACITY: Final = 64 * 1024
HIGH_WATER: Final = 256 * 1024
OUTBOX_LIMIT: Final = 1024 * 1024
MESSAGE_LIMIT: Final = 4 * 1024 * 1024
MAX_INVOKES: Final = 1000
MAX_CHANNELS: Final = 2000
FRAME_MAX: Final = CAPACITY // 4 - FRAME.size

INVALID, VALID, EITHER = "invalid", "valid", "either"
LAB: Final = "lab"


def frame(
    kind: int,
    channel: int = 0,
    peer: int = 0,
    pid: int = 0,
    correlation: int = 0,
    body: bytes = b"",
    *,
    total: int | None = None,
    size: int | None = None,
    flags: int = 0,
    reserved: int = 0,
) -> bytes:
    """A frame as it lies in the ring; every field can be made to lie."""
    header = FRAME.pack(
        len(body) if total is None else total,
        correlation,
        len(body) if size is None else size,
        channel,
        peer,
        pid,
        kind,
        flags,
        reserved,
    )
    return header + body + bytes(-len(body) % 8)


class Renderer:
    """The renderer's end of a connection, in the hands of an attack."""

    def __init__(self, host: Host, sock: socket.socket, words: dict[str, Any], segment: int, wakeup_fd: int) -> None:
        self.host = host
        self.sock = sock
        self.segment = segment
        self.wakeup_fd = wakeup_fd
        self.frame_id: int = words["frame_id"]
        self.memory = mmap.mmap(segment, 0)
        self.capacity = (len(self.memory) - DATA_OFFSET) // 2
        self.endpoint = Endpoint(
            segment, SIDE_RENDERER, WAKEUP_EVENTFD, wakeup_fd, high_water=1 << 30, limit=1 << 30, quota=1 << 30
        )
        self.connection = weakref.ref(host.main._router.connections[self.frame_id])
        self.extension = -1  # the lab's number
        self.inbox: list[Any] = []
        self._last = 0
        self._channels = 0

    # ---- honest ways ----

    def send(self, kind: int, *args: Any, **options: Any) -> None:
        """Send a message by the library's own endpoint."""
        names = ("channel", "peer", "pid", "correlation", "body")
        fields: dict[str, Any] = (
            dict.fromkeys(names, 0) | {"body": b""} | dict(zip(names, args, strict=False)) | options
        )
        self.endpoint.send(kind, *(fields[name] for name in names))

    def declare(self, name: str | bytes, extension: int | None = None) -> int:
        """Declare a channel; its number."""
        body = name if isinstance(name, bytes) else name.encode("utf-8", "surrogatepass")
        self.send(DECLARE, self._channels, self.extension if extension is None else extension, body=body)
        self._channels += 1
        return self._channels - 1

    def next_id(self) -> int:
        """A correlation id that has not been used."""
        self._last += 1
        return self._last

    def invoke(self, channel: int, *args: Any, body: bytes | None = None) -> int:
        """Invoke; the correlation id."""
        correlation = self.next_id()
        self.send(INVOKE, channel, correlation=correlation, body=clone.encode(args) if body is None else body)
        return correlation

    def receive(self) -> list[Any]:
        """What main has sent since the last time; `inbox` has it all."""
        received = []
        while not self.gone and self.segment >= 0 and (batch := self.endpoint.receive(256)):
            received += batch
        self.inbox += received
        return received

    async def outcome(self, correlation: int) -> Any:
        """The record that answers an invoke; None when main has disconnected this renderer."""
        while not self.gone:
            self.flush()
            for record in self.receive():
                if record[0] in (RESULT, ERROR) and record[5] == correlation:
                    return record
            await asyncio.sleep(0.001)
        return None

    @property
    def gone(self) -> bool:
        """Whether main has closed its end."""
        connection = self.connection()
        return connection is None or connection.closed

    @property
    def main_end(self) -> RendererConnection:
        """Main's end, while it lives."""
        connection = self.connection()
        assert connection is not None
        return connection

    def flush(self) -> None:
        """Send what has had to wait for room."""
        if self.segment >= 0 and self.endpoint.outbox:
            self.endpoint.flush()

    async def over(self) -> None:
        """Until main has disconnected this renderer."""
        while not self.gone:
            self.flush()
            await asyncio.sleep(0.001)

    async def parked(self) -> None:
        """Until main has read everything and sleeps, or has disconnected this renderer."""
        for _ in range(50):  # main may not have been woken yet; and not every attack leaves the positions true
            self.flush()
            if self.gone or self.segment < 0 or self.word(RINGS + 192) == self.write_pos:
                break
            await asyncio.sleep(0.001)
        while not self.gone and (self.main_end.ready or (self.segment >= 0 and self.endpoint.outbox)):
            self.flush()
            await asyncio.sleep(0.001)

    # ---- dishonest ways ----

    def word(self, offset: int) -> int:
        """Eight bytes of the segment."""
        return int(WORD.unpack_from(self.memory, offset)[0])

    def poke(self, offset: int, value: int) -> None:
        """Write eight bytes of the segment, and wake main."""
        WORD.pack_into(self.memory, offset, value % 2**64)
        self.wake()

    def wake(self) -> None:
        """Signal main, parked or not."""
        with suppress(OSError):
            os.eventfd_write(self.wakeup_fd, 1)

    @property
    def write_pos(self) -> int:
        """Of the ring to main."""
        return self.word(RINGS + 128)

    def put(self, *frames: bytes, publish: int | None = None) -> None:
        """Write bytes where the next frame goes, publish them (or another number of bytes), and wake main.

        Nothing may be sent by `send` after this: the endpoint keeps a position of its own.
        """
        data = b"".join(frames)
        at = self.write_pos
        for i in range(0, len(data), 8):
            place = DATA_OFFSET + self.capacity + (at + i) % self.capacity
            self.memory[place : place + len(data[i : i + 8])] = data[i : i + 8]
        self.poke(RINGS + 128, at + (len(data) if publish is None else publish))

    def close(self) -> None:
        """Let go of everything, as the kernel does for a process that ends. Idempotent."""
        self.endpoint.close()
        self.memory.close()
        self.sock.close()
        for fd in (self.segment, self.wakeup_fd):
            with suppress(OSError):
                os.close(fd)
        self.segment = self.wakeup_fd = -1


Attack = Callable[[Renderer, random.Random], "Awaitable[None] | None"]


@dataclass
class Named:
    """An attack, and what main has to make of it."""

    name: str
    run: Attack
    expect: str


ATTACKS: dict[str, Named] = {}


def attack(expect: str) -> Callable[[Attack], Attack]:
    """Enter an attack into the list under its function's name."""

    def enter(function: Attack) -> Attack:
        ATTACKS[function.__name__] = Named(function.__name__, function, expect)
        return function

    return enter


def attacks(expect: str, name: str, *variants: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The same for a function that takes a variant as its last argument."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        for number, variant in enumerate(variants):
            label = variant if isinstance(variant, (int, str)) else number

            def run(renderer: Renderer, rng: random.Random, variant: Any = variant) -> Any:
                return function(renderer, rng, variant)

            ATTACKS[f"{name}_{label}"] = Named(f"{name}_{label}", run, expect)
        return function

    return enter


# ---- positions ----


@attacks(INVALID, "write_pos_moved_by", CAPACITY + 8, 2**63, -8, 1, 4, 2**32)
def _write_pos(renderer: Renderer, _rng: random.Random, by: int) -> None:
    renderer.poke(RINGS + 128, renderer.write_pos + by)


@attacks(INVALID, "write_pos_set_to", 2**64 - 8, 2**64 - 1, 3)
def _write_pos_to(renderer: Renderer, _rng: random.Random, to: int) -> None:
    renderer.poke(RINGS + 128, to)


@attack(INVALID)
def read_pos_past_what_main_wrote(renderer: Renderer, _rng: random.Random) -> None:
    renderer.poke(RINGS + 64, 2**63)
    for _ in range(4):  # main looks at it only when it seems to lack room
        renderer.invoke(0, bytes(FRAME_MAX))


@attack(INVALID)
def read_pos_is_wrong_when_an_async_handler_replies(renderer: Renderer, _rng: random.Random) -> None:
    channel = renderer.declare("async echo")
    renderer.poke(RINGS + 64, 4)
    for _ in range(10):
        renderer.invoke(channel, bytes(FRAME_MAX // 2))


@attack(INVALID)
async def read_pos_is_wrong_when_main_broadcasts(renderer: Renderer, _rng: random.Random) -> None:
    renderer.send(LISTEN, renderer.declare("news"))
    await renderer.parked()
    renderer.poke(RINGS + 64, 2**64 - 8)
    for _ in range(3):
        renderer.host.ipc.broadcast("news", bytes(CAPACITY // 2))


@attack(VALID)
def positions_of_main_itself_are_overwritten(renderer: Renderer, _rng: random.Random) -> None:
    renderer.memory[RINGS : RINGS + 8] = b"\xff" * 8  # main never reads these two back, only this side does
    renderer.memory[RINGS + 192 : RINGS + 200] = b"\xff" * 8


@attack(VALID)
def magic_version_capacity_and_parked_flags_are_overwritten(renderer: Renderer, rng: random.Random) -> None:
    renderer.memory[:64] = rng.randbytes(64)
    for side in range(2):
        at = SLEEPERS + 64 * side
        renderer.memory[at + 4 : at + 64] = rng.randbytes(60)
    renderer.wake()


# ---- headers ----


@attacks(
    INVALID,
    "header_with",
    {"kind": 0},
    {"reserved": 1},
    {"flags": 4},
    {"flags": 0xFFFF},
    {"size": 5},
    {"total": 3},
    {"size": 0xFFFFFFFF},
    {"size": 0xFFFFFFFF, "total": 2**64 - 1},
    {"size": FRAME_MAX + 1, "total": FRAME_MAX + 1},
    {"size": CAPACITY, "total": CAPACITY},
    {"size": 2000, "total": 2000},  # more than was published
    {"total": 2**62 + 1, "flags": MORE},
    {"total": 2**64 - 1, "flags": MORE},
    {"total": MESSAGE_LIMIT + 1, "flags": MORE},  # one byte more than this host allows
)
def _header(renderer: Renderer, _rng: random.Random, lie: dict[str, int]) -> None:
    renderer.put(frame(**({"kind": EVENT, "body": b"12345678"} | lie)))


@attack(INVALID)
def zeros_where_a_frame_should_be(renderer: Renderer, _rng: random.Random) -> None:
    renderer.put(bytes(FRAME.size))


@attack(INVALID)
def fewer_bytes_published_than_a_header_has(renderer: Renderer, _rng: random.Random) -> None:
    renderer.put(frame(EVENT), publish=8)


@attack(INVALID)
def random_bytes_where_a_frame_should_be(renderer: Renderer, rng: random.Random) -> None:
    renderer.put(b"\xff" + rng.randbytes(1023))


@attack(EITHER)
async def the_header_changes_while_main_reads_it(renderer: Renderer, rng: random.Random) -> None:
    import threading

    place = DATA_OFFSET + renderer.capacity + renderer.write_pos % renderer.capacity
    stop = threading.Event()

    def flip() -> None:
        while not stop.is_set():
            renderer.memory[place + 16 + rng.randrange(20)] = rng.randrange(256)

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        for _ in range(5):
            if not renderer.gone:
                renderer.put(frame(EVENT, 0, ALL, body=clone.encode((1,))))
                await asyncio.sleep(0.002)
    finally:
        stop.set()
        thread.join()


# ---- fragments ----

_HALF = {"kind": INVOKE, "correlation": 2**40, "body": bytes(64), "total": 128}


@attacks(
    INVALID,
    "fragments",
    [_HALF | {"flags": CONTINUED}],
    [_HALF | {"flags": MORE | CONTINUED}],
    [_HALF | {"flags": 0}],
    [_HALF | {"flags": MORE, "total": 64}],
    [_HALF | {"flags": MORE}, _HALF | {"flags": CONTINUED, "total": 129}],
    [_HALF | {"flags": MORE}, _HALF | {"flags": CONTINUED, "correlation": 2**40 + 1}],
    [_HALF | {"flags": MORE}, _HALF | {"flags": CONTINUED, "channel": 1}],
    [_HALF | {"flags": MORE}, _HALF | {"flags": CONTINUED, "kind": EVENT}],
    [_HALF | {"flags": MORE}, _HALF | {"flags": CONTINUED, "peer": 9}],
    [_HALF | {"flags": MORE}, _HALF | {"flags": CONTINUED, "pid": 9}],
    [_HALF | {"flags": MORE}, _HALF | {"flags": MORE | CONTINUED}],
    [_HALF | {"flags": MORE}, _HALF | {"flags": MORE}],
    [_HALF | {"flags": MORE}, _HALF | {"flags": 0}],
    [_HALF | {"flags": MORE}, _HALF | {"flags": CONTINUED, "body": bytes(72)}],
    [_HALF | {"flags": MORE}, _HALF | {"flags": CONTINUED, "body": bytes(56)}],
    [_HALF | {"flags": MORE}, _HALF | {"flags": MORE | CONTINUED, "body": b""}],
    [_HALF | {"flags": MORE, "body": b""}],
    [_HALF | {"flags": MORE, "body": b"", "total": 0}],
    [_HALF | {"flags": MORE}, {"kind": EVENT, "body": b""}],  # another message in the midst
)
def _fragments(renderer: Renderer, _rng: random.Random, frames: list[dict[str, Any]]) -> None:
    renderer.put(*(frame(**each) for each in frames))


@attack(VALID)
async def a_message_byte_by_byte_is_a_message(renderer: Renderer, _rng: random.Random) -> None:
    correlation, body = renderer.next_id(), clone.encode(("slow",))
    for i in range(len(body)):
        flags = (CONTINUED if i else 0) | (MORE if i + 1 < len(body) else 0)
        renderer.put(
            frame(INVOKE, 0, correlation=correlation, body=body[i : i + 1], total=len(body), flags=flags),
        )
        await asyncio.sleep(0)
    record = await renderer.outcome(correlation)
    assert clone.decode(record[1]) == ("slow",)


@attack(VALID)
async def a_large_message_is_announced_and_never_sent(renderer: Renderer, _rng: random.Random) -> None:
    renderer.put(frame(EVENT, 0, ALL, body=b"x", total=MESSAGE_LIMIT, flags=MORE))
    await renderer.parked()
    renderer.close()


@attack(VALID)
async def the_socket_closes_in_the_midst_of_a_message(renderer: Renderer, _rng: random.Random) -> None:
    renderer.put(frame(INVOKE, 0, correlation=1, body=bytes(64), total=128, flags=MORE))
    renderer.close()


# ---- kinds ----


@attacks(INVALID, "kind", ACTIVATE, DEACTIVATE, READY, 12, 13, 255, 256, 65535)
def _kind(renderer: Renderer, _rng: random.Random, kind: int) -> None:
    renderer.send(kind, 0, renderer.extension, 0, 1, clone.encode((LAB, "1.0", "os:system")))


# ---- channels ----


@attacks(INVALID, "a_channel_that_was_not_declared_by", EVENT, INVOKE, LISTEN, UNLISTEN)
def _undeclared(renderer: Renderer, rng: random.Random, kind: int) -> None:
    renderer.send(kind, rng.choice([5, 2**16, 2**31, 2**32 - 1]), correlation=10**6, body=clone.encode(()))


@attacks(INVALID, "declares_for_extension", 1, 2, 77, 2**32 - 1)
def _ungranted(renderer: Renderer, _rng: random.Random, number: int) -> None:
    renderer.declare("echo", extension=number)


@attacks(INVALID, "declares", b"\xff\xfe", b"\x80", b"ok\xc0\xaf", b"x" * 4097, b"x" * 100_000)
def _declares(renderer: Renderer, _rng: random.Random, name: bytes) -> None:
    renderer.declare(name)


@attacks(VALID, "declares_well", b"", b"x" * 4096, "\ud800".encode("utf-8", "surrogatepass"), b"a\x00\nb")
def _declares_well(renderer: Renderer, _rng: random.Random, name: bytes) -> None:
    number = renderer.declare(name)
    renderer.send(LISTEN, number)
    renderer.send(EVENT, number, ALL, body=clone.encode((1,)))
    renderer.invoke(number)  # answered by NoHandlerError


@attacks(INVALID, "declares_number", 0, 5, 2**32 - 1)
def _declares_number(renderer: Renderer, _rng: random.Random, number: int) -> None:
    renderer.send(DECLARE, number, renderer.extension, body=b"another")


@attack(INVALID)
def declares_a_channel_twice(renderer: Renderer, _rng: random.Random) -> None:
    renderer.declare("twice")
    renderer.declare("twice")


@attack(INVALID)
async def declares_without_end(renderer: Renderer, _rng: random.Random) -> None:
    for number in range(MAX_CHANNELS + 100):
        renderer.declare(f"channel {number}")
        if number % 100 == 0:
            renderer.flush()
            await asyncio.sleep(0)
        if renderer.gone:
            return


@attack(INVALID)
def listens_twice(renderer: Renderer, _rng: random.Random) -> None:
    renderer.send(LISTEN, 0)
    renderer.send(LISTEN, 0)


@attacks(INVALID, "listens_with_policy", 3, 2**32 - 1)
def _policy(renderer: Renderer, _rng: random.Random, policy: int) -> None:
    renderer.send(LISTEN, 0, policy)


@attack(INVALID)
def stops_listening_without_having_begun(renderer: Renderer, _rng: random.Random) -> None:
    renderer.send(UNLISTEN, 0)


@attack(INVALID)
def stops_listening_twice(renderer: Renderer, _rng: random.Random) -> None:
    renderer.send(LISTEN, 0)
    renderer.send(UNLISTEN, 0)
    renderer.send(UNLISTEN, 0)


@attack(VALID)
async def listens_and_stops_without_end(renderer: Renderer, _rng: random.Random) -> None:
    for number in range(3000):
        renderer.send(LISTEN, 0, number % 3)
        renderer.send(UNLISTEN, 0)
        if number % 100 == 0:
            await asyncio.sleep(0)


# ---- requests and outcomes ----


@attacks(INVALID, "invoke_ids", [5, 5], [5, 4], [0], [2**64 - 1, 1])
def _ids(renderer: Renderer, _rng: random.Random, ids: list[int]) -> None:
    for correlation in ids:
        renderer.send(INVOKE, 0, correlation=correlation, body=clone.encode(()))


@attacks(INVALID, "answers_what_main_never_asked", RESULT, ERROR)
def _unasked(renderer: Renderer, rng: random.Random, kind: int) -> None:
    correlation = rng.choice([0, 5, 10**9, 2**64 - 1])
    renderer.send(kind, correlation=correlation, body=describe(ValueError("unasked")))


@attack(INVALID)
def answers_its_activation_twice(renderer: Renderer, _rng: random.Random) -> None:
    renderer.send(RESULT, correlation=1)


@attack(VALID)
async def cancels_the_neighbours_invoke(renderer: Renderer, _rng: random.Random) -> None:
    host = renderer.host
    asking = asyncio.create_task(host.ipc.run(host.renderers[0], "invoke", "sleep", 0.05, "neighbour's"))
    await until(lambda: host.ipc.running)
    for correlation in range(200):
        renderer.send(CANCEL, correlation=correlation)
    renderer.send(CANCEL, correlation=2**64 - 1)
    assert await asking == "neighbour's"


@attack(VALID)
async def cancels_its_own_at_once(renderer: Renderer, _rng: random.Random) -> None:
    channel = renderer.declare("sleep")
    for _ in range(200):
        correlation = renderer.invoke(channel, 60.0, "cancelled at once")
        renderer.send(CANCEL, correlation=correlation)
        renderer.send(CANCEL, correlation=correlation)
    await renderer.parked()
    await until(lambda: renderer.host.ipc.running == 0)


@attack(VALID)
async def leaves_a_hundred_handlers_running(renderer: Renderer, _rng: random.Random) -> None:
    channel = renderer.declare("sleep")
    for _ in range(100):
        renderer.invoke(channel, 60.0, "left running")
    await until(lambda: renderer.host.ipc.running == 100)
    renderer.close()
    await until(lambda: renderer.host.ipc.running == 0)


# ---- bodies ----


class _System:
    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/lensipc-was-here",)


def _bodies() -> dict[str, bytes]:
    good = clone.encode((1, "two", [3.0], {"four": b"5"}))
    return {
        "empty": b"",
        "zeros": bytes(64),
        "ones": b"\xff" * 64,
        "cut": good[: len(good) // 2],
        "no_stop": good[:-1],
        "system": pickle.dumps((_System(),), 5),
        "memo_bomb": b"\x80\x05Nr\x00\x00\x00\x08.",  # LONG_BINPUT: 2 GiB in an unpickler that believes it
        "long_bomb": b"\x80\x05\x8b\xff\xff\xff\x7f.",
        "string_bomb": b"\x80\x05\x8d\xff\xff\xff\xff\xff\xff\x00\x00.",
        "global": b"cos\nsystem\n(S'true'\ntR.",
        "persistent": b"\x80\x05Pxyz\n.",
        "out_of_band": b"\x80\x05\x97\x85.",
    }


@attacks(INVALID, "invokes_with_a_body", *_bodies())
def _invoke_body(renderer: Renderer, _rng: random.Random, name: str) -> None:
    renderer.invoke(0, body=_bodies()[name])


@attacks(INVALID, "main_hears_a_body", *_bodies())
def _event_body(renderer: Renderer, _rng: random.Random, name: str) -> None:
    renderer.send(EVENT, renderer.declare("heard in main"), ALL, body=_bodies()[name])


@attacks(EITHER, "the_neighbour_hears_a_body", *_bodies())
def _neighbour_body(renderer: Renderer, _rng: random.Random, name: str) -> None:
    renderer.send(EVENT, renderer.declare("news"), ALL, body=_bodies()[name])


@attacks(INVALID, "arguments_that_are_no_tuple", 1, "text", [1], {"a": 1}, None, b"bytes")
def _no_tuple(renderer: Renderer, _rng: random.Random, value: Any) -> None:
    renderer.invoke(0, body=clone.encode(value))


@attack(VALID)
async def the_neighbour_hears_arguments_that_are_no_tuple(renderer: Renderer, _rng: random.Random) -> None:
    channel, host = renderer.declare("news"), renderer.host
    renderer.send(EVENT, channel, ALL, body=clone.encode("abc"))
    renderer.send(EVENT, channel, ALL, body=clone.encode(("a tuple",)))
    heard: list[Any] = []
    while not heard:
        heard = await host.ipc.run(host.renderers[0], "heard", "news")
        heard = [entry[1:-1] for entry in heard if entry[0] == renderer.frame_id]
    assert heard == [("a tuple",)]


@attacks(VALID, "nested", 90, 2_000, 100_000)
async def _nested(renderer: Renderer, _rng: random.Random, depth: int) -> None:
    correlation = renderer.invoke(0, body=b"\x80\x05" + b"(" * depth + b"t" * depth + b".")
    assert (await renderer.outcome(correlation))[0] == RESULT


@attack(EITHER)
async def nested_sets_and_keys(renderer: Renderer, _rng: random.Random) -> None:
    tower = b"\x80\x05}" + b"(" * 50_000 + b"t" * 50_000 + b"Ns\x85."  # a key that takes long to hash, or to compare
    await renderer.outcome(renderer.invoke(0, body=tower))


# ---- the socket ----


@attacks(INVALID, "a_datagram", b"w", b"{}", b'{"goodbye": "x"}', b"x" * 100_000)
def _datagram(renderer: Renderer, _rng: random.Random, data: bytes) -> None:
    renderer.sock.send(data)


@attack(VALID)
def an_empty_datagram_is_an_end(renderer: Renderer, _rng: random.Random) -> None:
    renderer.sock.send(b"")
    renderer.close()


@attack(INVALID)
def descriptors(renderer: Renderer, _rng: random.Random) -> None:
    for _ in range(20):
        with suppress(OSError):
            socket.send_fds(renderer.sock, [b"for you"], [renderer.segment] * 100)


@attack(VALID)
async def the_socket_is_shut_down(renderer: Renderer, _rng: random.Random) -> None:
    renderer.invoke(0, 1)
    renderer.sock.shutdown(socket.SHUT_RDWR)
    await until(lambda: renderer.gone)


@attack(VALID)
def leaves_without_a_word(renderer: Renderer, _rng: random.Random) -> None:
    renderer.invoke(0, 1)
    renderer.close()


# ---- the memory and the eventfd ----


@attack(VALID)
def changes_of_size_and_seals_are_refused(renderer: Renderer, _rng: random.Random) -> None:
    import fcntl

    for size in (0, 4096, len(renderer.memory) - 1, len(renderer.memory) * 2):
        try:
            os.ftruncate(renderer.segment, size)
        except PermissionError:
            continue
        raise AssertionError(f"the segment could be made {size} bytes")
    try:
        fcntl.fcntl(renderer.segment, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    except PermissionError:
        return
    raise AssertionError("a seal could be added")


def _punch(fd: int, offset: int, length: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    keep_size, punch = 1, 2
    if libc.fallocate(fd, keep_size | punch, ctypes.c_long(offset), ctypes.c_long(length)):
        raise OSError(ctypes.get_errno(), "fallocate")


@attack(INVALID)
def a_hole_is_punched_where_frames_wait(renderer: Renderer, _rng: random.Random) -> None:
    renderer.put(*(frame(EVENT, 0, ALL, body=clone.encode((1,))) for _ in range(8)))
    position = renderer.write_pos
    _punch(renderer.segment, DATA_OFFSET, 2 * renderer.capacity)
    renderer.poke(RINGS + 128, position)


@attack(INVALID)
def a_hole_is_punched_where_the_positions_are(renderer: Renderer, _rng: random.Random) -> None:
    _punch(renderer.segment, 0, DATA_OFFSET)
    renderer.wake()


def _drain(fd: int) -> None:
    os.set_blocking(fd, False)
    with suppress(BlockingIOError):
        os.eventfd_read(fd)


@attack(VALID)
async def the_eventfd_is_full_and_blocks(renderer: Renderer, _rng: random.Random) -> None:
    _drain(renderer.wakeup_fd)
    os.eventfd_write(renderer.wakeup_fd, 2**64 - 2)
    os.set_blocking(renderer.wakeup_fd, True)  # the flag is the open file's: main's descriptor has it too
    renderer.memory[SLEEPERS : SLEEPERS + 4] = bytes(4)  # nobody is parked: this side does not write to it either
    renderer.invoke(0, 1)
    await asyncio.sleep(0.01)
    _drain(renderer.wakeup_fd)
    renderer.wake()


@attack(VALID)
async def the_eventfd_is_drained_and_blocks(renderer: Renderer, _rng: random.Random) -> None:
    renderer.invoke(0, 1)
    _drain(renderer.wakeup_fd)
    os.set_blocking(renderer.wakeup_fd, True)
    await asyncio.sleep(0.01)
    renderer.wake()


@attack(VALID)
async def wakes_without_end(renderer: Renderer, _rng: random.Random) -> None:
    for number in range(5000):
        os.eventfd_write(renderer.wakeup_fd, 1)
        if number % 50 == 0:
            await asyncio.sleep(0)


# ---- floods ----


@attack(INVALID)
async def invokes_without_end_and_reads_nothing(renderer: Renderer, _rng: random.Random) -> None:
    while not renderer.gone:
        renderer.flush()
        for _ in range(20):
            renderer.invoke(0, bytes(4000))
        await asyncio.sleep(0)


@attack(INVALID)
async def broadcasts_to_itself_and_reads_nothing(renderer: Renderer, _rng: random.Random) -> None:
    channel = renderer.declare("itself")
    renderer.send(LISTEN, channel)
    body = clone.encode((bytes(4000),))
    while not renderer.gone:
        renderer.flush()
        for _ in range(20):
            renderer.send(EVENT, channel, ALL, body=body)
        await asyncio.sleep(0.001)


@attacks(VALID, "broadcasts_to_itself_and_drops", 1, 2)
async def _drops(renderer: Renderer, _rng: random.Random, policy: int) -> None:
    channel = renderer.declare("itself")
    renderer.send(LISTEN, channel, policy)
    for _ in range(200):
        renderer.send(EVENT, channel, ALL, body=clone.encode((bytes(4000),)))
    await renderer.parked()
    await asyncio.sleep(0.2)  # it is congested, and held for a while
    await renderer.parked()


@attack(VALID)
async def ten_thousand_events_that_nobody_hears(renderer: Renderer, _rng: random.Random) -> None:
    for number in range(10_000):
        renderer.send(EVENT, 0, ALL, body=b"")
        if number % 500 == 0:
            await asyncio.sleep(0)


@attack(INVALID)
async def holds_more_invokes_than_it_may(renderer: Renderer, _rng: random.Random) -> None:
    channel = renderer.declare("sleep")
    body = clone.encode((60.0, "x" * 100))
    for number in range(20 * MAX_INVOKES):  # the answers to those beyond the limit fill its outbox in the end, unread
        renderer.send(INVOKE, channel, correlation=number + 10, body=body)
        if number % 200 == 0:
            await asyncio.sleep(0)
        if renderer.gone:
            return


# ---- at random ----


async def at_random(renderer: Renderer, rng: random.Random) -> None:
    """A few messages like an honest renderer's, some of them bent."""
    renderer.declare("async echo")
    renderer.declare("news")
    renderer.send(LISTEN, 2, rng.randrange(3))
    bodies = [clone.encode((rng.randrange(10),)), *_bodies().values()]
    numbers = [0, 1, 2, 3, 255, 2**16, 2**31, 2**32 - 1]
    for _ in range(rng.randrange(1, 12)):
        body = bodies[0] if rng.random() < 0.7 else rng.choice(bodies)
        if rng.random() < 0.2:
            body = bytearray(body)  # type: ignore[assignment]
            for _ in range(rng.randrange(1, 4)):
                if body:
                    body[rng.randrange(len(body))] = rng.randrange(256)  # type: ignore[index]
            body = bytes(body)
        fields: dict[str, Any] = {
            "kind": rng.choice([EVENT, INVOKE, INVOKE, CANCEL, LISTEN, UNLISTEN, RESULT, ERROR, DECLARE]),
            "channel": rng.randrange(3) if rng.random() < 0.8 else rng.choice(numbers),
            "peer": rng.choice([ALL, 0, renderer.extension, renderer.frame_id]),
            "pid": rng.choice(numbers),
            "correlation": renderer.next_id() if rng.random() < 0.8 else rng.choice([*numbers, 2**63, 2**64 - 1]),
            "body": body,
        }
        if rng.random() < 0.25:
            lie = rng.choice(["total", "size", "flags", "reserved", "kind"])
            fields[lie] = rng.choice([0, 1, 2, 3, 4, len(body), len(body) + 8, 0xFFFF if lie != "total" else 2**62])
        data = bytearray(frame(**fields))
        if rng.random() < 0.15:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        publish = rng.choice([0, 8, len(data) + 8, len(data) + CAPACITY, -8]) if rng.random() < 0.05 else None
        renderer.put(bytes(data), publish=publish)
        if rng.random() < 0.1:
            renderer.poke(RINGS + 8 * rng.randrange(32), rng.choice([0, 8, 2**63, rng.getrandbits(64)]))
        if rng.random() < 0.5:
            await asyncio.sleep(0)
        if renderer.gone:
            return


# ---- the host, and what must hold ----


class _Log(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(f"{record.levelname} {record.getMessage()}")


class Arena:
    """A host with an honest neighbour, ready for one attack after another."""

    def __init__(self, host: Host, log: _Log) -> None:
        self.host = host
        self.log = log
        self.trials = self.pulses = 0
        self.longest_gap = 0.0  # of main's heartbeat
        self.loop_errors: list[str] = []
        self._dead: list[tuple[str, weakref.ref[RendererConnection]]] = []
        self._baseline = self._kept()

    def _kept(self) -> dict[str, int]:
        """What main keeps of renderers."""
        router = self.host.main._router
        return {
            "connections": len(router.connections),
            "channels": sum(len(port.table.channels) for port in router.ports.values()),
            "subscriptions": sum(
                len(channel.topic) for port in router.ports.values() for channel in port.table.channels.values()
            ),
            "callbacks": len(router.poller._callbacks),
            "congested": len(router._congested),
        }

    async def beat(self) -> None:
        """Notice how long main's loop is away at the most."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.001)
            now = time.monotonic()
            self.longest_gap = max(self.longest_gap, now - last)
            last = now

    async def connect(self, answer: Callable[[Renderer, Any], None] | None = None) -> Renderer:
        """Attach as a renderer would, up to READY. `answer` answers the activation in another way."""
        path = self.host.main.path
        assert path is not None
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        while sock.connect_ex(str(path)):  # its backlog may be full
            await asyncio.sleep(0)
        sock.send(attach.hello(WAKEUP_SOCKET))
        while True:
            try:
                words, (segment, wakeup_fd) = attach.receive_welcome(sock)
                break
            except BlockingIOError:
                await asyncio.sleep(0)
        renderer = Renderer(self.host, sock, words, segment, wakeup_fd)
        while not renderer.gone:
            for record in renderer.receive():
                if record[0] == ACTIVATE:
                    if clone.decode(record[1])[0] == LAB:
                        renderer.extension = record[3]
                    if answer is None:
                        renderer.send(RESULT, correlation=record[5])
                    else:
                        answer(renderer, record)
                elif record[0] == READY:
                    renderer.declare("echo")
                    return renderer
            if renderer.segment < 0:
                return renderer
            await asyncio.sleep(0)
        return renderer

    async def trial(self, named: Named, seed: int) -> None:
        """One attack, and all that must hold afterwards."""
        self.trials += 1
        self.log.records.clear()
        renderer = await self.connect()
        connection = renderer.connection
        try:
            result = named.run(renderer, random.Random(seed))
            if inspect.isawaitable(result):
                await result
            if named.expect == INVALID or renderer.segment < 0:
                await renderer.over()
            else:
                await self._settled(renderer)
            disconnected = renderer.gone and renderer.segment >= 0
        finally:
            renderer.close()
        await until(lambda: renderer.gone)
        reasons = [text for text in self.log.records if f"renderer {renderer.frame_id} " in text]
        if named.expect == INVALID:
            assert len(reasons) == 1, f"not one reason, but {reasons}"
        elif named.expect == VALID:
            assert reasons == []
        else:
            assert len(reasons) == (1 if disconnected else 0), f"not one reason, but {reasons}"
        errors = [text for text in self.log.records if text.startswith(("ERROR", "CRITICAL"))]
        assert errors == []
        assert self.loop_errors == []
        await self.neighbour_is_well()
        assert self._kept() == self._baseline
        self._dead.append((named.name, connection))

    async def _settled(self, renderer: Renderer) -> None:
        """Until main has taken all that was written, or has disconnected the renderer."""
        await renderer.parked()
        await asyncio.sleep(0)
        await renderer.parked()

    async def neighbour_is_well(self) -> None:
        """The neighbour's invoke and main's broadcast work."""
        neighbour = self.host.renderers[0]
        self.pulses += 1
        assert await self.host.ipc.run(neighbour, "invoke", "echo", self.pulses) == (self.pulses,)
        self.host.ipc.broadcast("pulse", self.pulses)
        heard = await self.host.ipc.run(neighbour, "hear", "pulse", self.pulses)
        assert heard[-1] == (0, self.pulses, 0)
        assert len(heard) == self.pulses

    def all_released(self) -> None:
        """Main keeps no connection of a renderer that is gone."""
        gc.collect()
        assert [name for name, connection in self._dead if connection() is not None] == []
        self._dead.clear()


@asynccontextmanager
async def arena() -> AsyncIterator[Arena]:
    """A host, its neighbour, and the watch over both."""
    limits = renderer_connection.MAX_INVOKES, renderer_connection.MAX_CHANNELS
    renderer_connection.MAX_INVOKES, renderer_connection.MAX_CHANNELS = MAX_INVOKES, MAX_CHANNELS  # type: ignore[misc]
    log = _Log()
    logger = logging.getLogger("lensipc")
    logger.addHandler(log)
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "path": Path(folder) / "main",
            "capacity": CAPACITY,
            "high_water": HIGH_WATER,
            "outbox_limit": OUTBOX_LIMIT,
            "message_limit": MESSAGE_LIMIT,
        }
        async with hosting(1, **options) as host:
            neighbour = host.renderers[0]
            for channel in ("pulse", "news", "itself"):
                await host.ipc.run(neighbour, "note", channel)
            host.ipc.note("heard in main")
            ring = Arena(host, log)
            loop.set_exception_handler(lambda _loop, context: ring.loop_errors.append(repr(context)))
            heart = asyncio.create_task(ring.beat())
            try:
                yield ring
            finally:
                heart.cancel()
                loop.set_exception_handler(None)
                logger.removeHandler(log)
                renderer_connection.MAX_INVOKES, renderer_connection.MAX_CHANNELS = limits  # type: ignore[misc]


RANDOM: Final = Named("at_random", at_random, EITHER)


async def main(seed: int, count: int, name: str | None) -> None:
    """Run attacks until one succeeds."""
    rng = random.Random(seed)
    chosen = [ATTACKS[name]] if name else [RANDOM]
    async with arena() as ring:
        for number in range(count):
            trial_seed = seed if count == 1 else rng.getrandbits(32)
            named = rng.choice(chosen if name or rng.random() < 0.9 else list(ATTACKS.values()))
            signal.alarm(60)  # the watchdog of a loop that is blocked
            try:
                await asyncio.wait_for(ring.trial(named, trial_seed), 20)
            except BaseException:
                print(f"trial {number} failed: --attack {named.name} --seed {trial_seed} --count 1", file=sys.stderr)
                print("\n".join(ring.log.records[-20:]), file=sys.stderr)
                raise
            if number % 100 == 99:
                ring.all_released()
        ring.all_released()
        print(json.dumps({"trials": ring.trials, "longest_gap_ms": round(ring.longest_gap * 1e3, 1)}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--attack", choices=sorted([*ATTACKS, RANDOM.name]))
    arguments = parser.parse_args()
    ATTACKS[RANDOM.name] = RANDOM
    print(f"seed {arguments.seed}")
    asyncio.run(main(arguments.seed, arguments.count, arguments.attack))
