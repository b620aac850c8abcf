# SPDX-License-Identifier: MIT
"""asyncio's streams over Unix sockets: messages with their length and number in front."""

from __future__ import annotations

import asyncio
import pickle
import struct

from ..calls import Calling
from ..contest import Contest
from ..loops import run
from ..side import Side, handle
from ..task import SMALL

HEAD = struct.Struct("=II")
BURST = 64


def frame(number: int, body: bytes) -> bytes:
    """A message as it goes over the wire."""
    return HEAD.pack(len(body), number) + body


async def read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The next message."""
    size, number = HEAD.unpack(await reader.readexactly(HEAD.size))
    return number, await reader.readexactly(size)


async def connect(path: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect as soon as somebody listens."""
    while True:
        try:
            return await asyncio.open_unix_connection(path)
        except (FileNotFoundError, ConnectionRefusedError):
            await asyncio.sleep(0.002)


class Events(Contest):
    """One connection to each renderer."""

    def main(self, side: Side) -> None:
        """Send to each."""
        run(self._send(side), self.task.loop)

    async def _send(self, side: Side) -> None:
        writers: list[asyncio.StreamWriter] = []
        server = await asyncio.start_unix_server(lambda _, writer: writers.append(writer), self.task.path)
        async with server:
            while len(writers) < self.task.renderers:
                await asyncio.sleep(0.002)
            await side.ready_async()
            async for count in side.portions_async():
                for number, body in enumerate(side.bodies(count)):
                    data = frame(0, body)
                    for writer in writers:
                        writer.write(data)
                    if not number % BURST:
                        for writer in writers:
                            await writer.drain()
            await side.done_async()
            for writer in writers:
                writer.close()

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Receive."""
        run(self._receive(side), self.task.loop)

    async def _receive(self, side: Side) -> None:
        reader, writer = await connect(self.task.path)
        await side.ready_async()
        listen = side.listener
        for _ in range(self.task.total):
            _, body = await read(reader)
            listen(pickle.loads(body))
        await side.done_async(listen.report())
        writer.close()


class AsyncCalls(Contest):
    """Requests and answers over one connection."""

    def main(self, side: Side) -> None:
        """Answer."""
        run(self._serve(side), self.task.loop)

    async def _serve(self, side: Side) -> None:
        async with await asyncio.start_unix_server(self._answer, self.task.path):
            await side.ready_async()
            await side.done_async()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                number, body = await read(reader)
                writer.write(frame(number, pickle.dumps(handle(pickle.loads(body)), 5)))
        except asyncio.IncompleteReadError:
            writer.close()

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Call."""
        run(self._call(side), self.task.loop)

    async def _call(self, side: Side) -> None:
        reader, writer = await connect(self.task.path)
        calling = Calling(lambda number: writer.write(frame(number, pickle.dumps(SMALL, 5))))

        async def settle() -> None:
            while True:
                number, body = await read(reader)
                calling.settle(number, pickle.loads(body))

        settling = asyncio.create_task(settle())
        await side.ask_all_async(calling.ask)
        settling.cancel()
        writer.close()
