# SPDX-License-Identifier: MIT
"""An asyncio Protocol over Unix sockets, on asyncio's loop or on uvloop: what its users write when streams are slow."""

from __future__ import annotations

import asyncio
import pickle
import struct
from collections.abc import Callable, Iterator
from typing import Any

from ..calls import Calling
from ..contest import Contest, Life
from ..loops import run
from ..side import Side, handle
from ..task import SMALL, Task

HEAD = struct.Struct("=II")
BURST = 64


def frame(number: int, body: bytes) -> bytes:
    """A message as it goes over the wire."""
    return HEAD.pack(len(body), number) + body


class Wire(asyncio.Protocol):
    """One end of a connection. All messages of one read are handled together, and answered by one write."""

    def __init__(self, on_message: Callable[[int, bytes], bytes | None]) -> None:
        self._on_message = on_message
        self._rest = b""
        self._writable = asyncio.Event()
        self._writable.set()
        self.connected: asyncio.Event = asyncio.Event()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = transport
        self.connected.set()

    def data_received(self, data: bytes) -> None:
        """Handle the messages that are complete."""
        messages = self._messages(self._rest + data)
        answers = [answer for number, body in messages if (answer := self._on_message(number, body))]
        if answers:
            self.transport.write(b"".join(answers))

    def _messages(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        at, end = 0, len(data)
        while end - at >= HEAD.size:
            size, number = HEAD.unpack_from(data, at)
            if end - at < HEAD.size + size:
                break
            at += HEAD.size + size
            yield number, data[at - size : at]
        self._rest = data[at:]

    def pause_writing(self) -> None:
        """The other end is slow."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._writable.set()

    async def drain(self) -> None:
        """Wait for it."""
        if not self._writable.is_set():
            await self._writable.wait()


async def connect(path: str, on_message: Callable[[int, bytes], bytes | None]) -> Wire:
    """Connect as soon as somebody listens."""
    while True:
        try:
            _, wire = await asyncio.get_running_loop().create_unix_connection(lambda: Wire(on_message), path)
        except (FileNotFoundError, ConnectionRefusedError):
            await asyncio.sleep(0.002)
        else:
            return wire


async def send_all(wires: list[Wire], side: Side) -> None:
    """Send every message to each."""
    async for count in side.portions_async():
        for number, body in enumerate(side.bodies(count)):
            data = frame(0, body)
            for wire in wires:
                wire.transport.write(data)
            if not number % BURST:
                for wire in wires:
                    await wire.drain()


class _Protocol(Contest):
    def main(self, side: Side) -> None:
        run(self.serve(side), self.task.loop)

    async def serve(self, side: Side) -> None:
        raise NotImplementedError

    async def wires(self, count: int, on_message: Callable[[int, bytes], bytes | None]) -> list[Wire]:
        """Listen, and return the first connections."""
        wires: list[Wire] = []

        def accept() -> Wire:
            wires.append(Wire(on_message))
            return wires[-1]

        await asyncio.get_running_loop().create_unix_server(accept, self.task.path)
        while len(wires) < count:
            await asyncio.sleep(0.002)
        for wire in wires:
            await wire.connected.wait()
        return wires


class Events(_Protocol):
    """One connection to each renderer."""

    async def serve(self, side: Side) -> None:
        """Send to each."""
        wires = await self.wires(self.task.renderers, lambda _number, _body: None)
        await side.ready_async()
        await send_all(wires, side)
        await side.done_async()

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Receive."""
        run(self._receive(side), self.task.loop)

    async def _receive(self, side: Side) -> None:
        finished = side.finished()
        listen, loads = side.listener, pickle.loads
        wire = await connect(self.task.path, lambda _number, body: listen(loads(body)))
        await side.ready_async()
        await finished.wait()
        await side.done_async(listen.report())
        wire.transport.close()


class Relay(Events):
    """Main passes what it reads on as it is, whole or in part: it needs no look at the messages."""

    def sides(self) -> dict[str, Life]:
        """Also the sender."""
        return {**super().sides(), "sender": lambda side: run(self._send(side), self.task.loop)}

    async def serve(self, side: Side) -> None:
        """Pass on."""
        hearers = Relaying(self.task)
        loop = asyncio.get_running_loop()
        servers = [await loop.create_unix_server(hearers.accept, self.task.path)]  # uvloop closes what nobody holds
        while len(hearers.wires) < self.task.renderers:
            await asyncio.sleep(0.002)
        servers.append(await loop.create_unix_server(hearers.source, f"{self.task.path}2"))
        await side.ready_async()
        await side.done_async()
        for server in servers:
            server.close()

    async def _send(self, side: Side) -> None:
        wire = await connect(f"{self.task.path}2", lambda _number, _body: None)
        await side.ready_async()
        await send_all([wire], side)
        await side.done_async()
        wire.transport.close()


class Relaying:
    """Main's part of it: stops reading from the sender while a hearer is slow."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.wires: list[Wire] = []

    def accept(self) -> Wire:
        """One that hears."""
        self.wires.append(Wire(lambda _number, _body: None))
        return self.wires[-1]

    def source(self) -> asyncio.Protocol:
        """The one that sends."""
        wires = self.wires

        class Source(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                self.transport = transport

            def data_received(self, data: bytes) -> None:
                for wire in wires:
                    wire.transport.write(data)
                if any(not wire._writable.is_set() for wire in wires):
                    self.transport.pause_reading()
                    self.resuming = asyncio.ensure_future(self.resume())

            async def resume(self) -> None:
                for wire in wires:
                    await wire.drain()
                self.transport.resume_reading()

        return Source()


class AsyncCalls(_Protocol):
    """Requests and answers over one connection."""

    async def serve(self, side: Side) -> None:
        """Answer."""

        def answer(number: int, body: bytes) -> bytes:
            return frame(number, pickle.dumps(handle(pickle.loads(body)), 5))

        await self.wires(1, answer)
        await side.ready_async()
        await side.done_async()

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Call."""
        run(self._call(side), self.task.loop)

    async def _call(self, side: Side) -> None:
        calling: Calling

        def settle(number: int, body: bytes) -> None:
            calling.settle(number, pickle.loads(body))

        wire = await connect(self.task.path, settle)
        calling = Calling(lambda number: wire.transport.write(frame(number, pickle.dumps(SMALL, 5))))
        await side.ask_all_async(calling.ask)
        wire.transport.close()


class OnUvloop(Events):
    """The same on uvloop."""

    def __init__(self, task: Task) -> None:
        super().__init__(on_uvloop(task))


class RelayOnUvloop(Relay):
    """The same on uvloop."""

    def __init__(self, task: Task) -> None:
        super().__init__(on_uvloop(task))


class AsyncCallsOnUvloop(AsyncCalls):
    """The same on uvloop."""

    def __init__(self, task: Task) -> None:
        super().__init__(on_uvloop(task))


def on_uvloop(task: Task) -> Task:
    """The same task on that loop."""
    from dataclasses import replace

    return replace(task, loop="uvloop")
