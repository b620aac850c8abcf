# SPDX-License-Identifier: MIT
"""The renderer's end of a connection, by hand: its socket, its eventfd, and its segment, mapped to be written to."""

from __future__ import annotations

import asyncio
import mmap
import os
import select
import socket
import struct
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from hosting import Host
from lines import receive

from lensipc import clone
from lensipc.main.connection import RendererConnection
from lensipc.runtime.connection import CLOSED
from lensipc.runtime.protocol import ACTIVATE, DECLARE, ERROR, INVOKE, READY, RESULT
from lensipc.transport import handshake
from lensipc.transport.endpoint import SIDE_RENDERER, WAKEUP_EVENTFD, WAKEUP_SOCKET, Endpoint

# csrc/ring/layout.h, written down again on purpose: a hostile renderer does not ask the library where things are.
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

LAB: Final = "lab"


def frame(
    kind: int,
    channel: int = 0,
    detail: int = 0,
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
        detail,
        pid,
        kind,
        flags,
        reserved,
    )
    return header + body + bytes(-len(body) % 8)


class Renderer:
    """The renderer's end of a connection, in the hands of an attack."""

    def __init__(
        self, host: Host | None, sock: socket.socket, words: dict[str, Any], segment: int, wakeup_fd: int
    ) -> None:
        self._host = host  # None: main is another process
        self.sock = sock
        self.segment = segment
        self.wakeup_fd = wakeup_fd
        self.frame_id: int = words["frame_id"]
        self.memory = mmap.mmap(segment, 0)
        self.capacity = (len(self.memory) - DATA_OFFSET) // 2
        self.endpoint = Endpoint(
            segment, SIDE_RENDERER, WAKEUP_EVENTFD, wakeup_fd, high_water=1 << 30, limit=1 << 30, quota=1 << 30
        )
        self.connection: Callable[[], RendererConnection | None] = lambda: None
        if host is not None:
            self.connection = weakref.ref(host.main._core.connections[self.frame_id])
        self.extension = -1  # the lab's number
        self.inbox: list[Any] = []
        self._last = 0
        self._channels = 0

    # ---- honest ways ----

    def send(self, kind: int, *args: Any, **options: Any) -> None:
        """Send a message by the library's own endpoint."""
        names = ("channel", "detail", "pid", "correlation", "body")
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
        while not self.gone and self.segment >= 0 and (batch := receive(self.endpoint, 256)):
            received += batch
        self.inbox += received
        return received

    async def outcome(self, correlation: int) -> Any:
        """The record that answers an invoke; None when main has disconnected this renderer."""
        while not self.gone:
            self.flush()
            for record in self.receive():
                if record.kind in (RESULT, ERROR) and record.correlation == correlation:
                    return record
            await asyncio.sleep(0.001)
        return None

    @property
    def host(self) -> Host:
        """Main, where it is this process."""
        assert self._host is not None
        return self._host

    @property
    def gone(self) -> bool:
        """Whether main has closed its end."""
        if self._host is None:
            poll = select.poll()
            poll.register(self.sock.fileno(), select.POLLRDHUP)
            return bool(poll.poll(0))
        connection = self.connection()
        return connection is None or connection.state is CLOSED

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


async def connect(
    path: Path,
    host: Host | None,
    *,
    answer: Callable[[Renderer, Any], None] | None = None,
    wakeup: int = WAKEUP_SOCKET,
) -> Renderer:
    """Attach as a renderer would, up to READY. `answer` answers the activation in another way."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    while sock.connect_ex(str(path)):  # its backlog may be full
        await asyncio.sleep(0)
    with suppress(ConnectionError):  # main has closed the connection already: what it said first is still there
        sock.send(handshake.hello(wakeup), socket.MSG_NOSIGNAL)
    while True:
        try:
            words, (segment, wakeup_fd) = handshake.receive_welcome(sock)
            break
        except BlockingIOError:
            await asyncio.sleep(0)
    renderer = Renderer(host, sock, words, segment, wakeup_fd)
    while not renderer.gone:
        for record in renderer.receive():
            if record.kind == ACTIVATE:
                if clone.decode(record.body)[0] == LAB:
                    renderer.extension = record.extension
                if answer is None:
                    renderer.send(RESULT, correlation=record.correlation)
                else:
                    answer(renderer, record)
            elif record.kind == READY:
                renderer.declare("echo")
                return renderer
        if renderer.segment < 0:
            return renderer
        await asyncio.sleep(0)
    return renderer
