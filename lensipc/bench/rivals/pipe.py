# SPDX-License-Identifier: MIT
"""multiprocessing.Pipe with pickles of protocol 5."""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
from collections.abc import Callable
from typing import Any

from ..arrays import arrays, pack, room, unpack
from ..calls import Calling
from ..contest import Contest, Life
from ..loops import run
from ..side import Side, handle
from ..task import SMALL, Task


def to_all(connections: list[Any]) -> Callable[[bytes], object]:
    """What sends to all of them; to one, its own method."""
    if len(connections) == 1:
        return connections[0].send_bytes  # type: ignore[no-any-return]

    def send(body: bytes) -> None:
        for connection in connections:
            connection.send_bytes(body)

    return send


class Events(Contest):
    """One pipe to each renderer."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.pipes: list[tuple[Any, Any]] = [multiprocessing.Pipe(duplex=False) for _ in range(task.renderers)]

    def main(self, side: Side) -> None:
        """Send to each."""
        side.send_all(to_all([sender for _, sender in self.pipes]))

    def renderer(self, number: int, side: Side) -> None:
        """Receive."""
        side.receive_all(self.pipes[number][0].recv_bytes)


class Relay(Events):
    """Main passes the bytes on, without a look into them."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.first: tuple[Any, Any] = multiprocessing.Pipe(duplex=False)

    def sides(self) -> dict[str, Life]:
        """Also the sender."""
        return {**super().sides(), "sender": lambda side: side.send_all(self.first[1].send_bytes)}

    def main(self, side: Side) -> None:
        """Pass on."""
        side.ready()
        send, receive = to_all([sender for _, sender in self.pipes]), self.first[0].recv_bytes
        for _ in range(self.task.total):
            send(receive())
        side.done()


class Bulk(Contest):
    """Arrays: a head, then the bytes into memory that is ready for them."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.pipes: list[tuple[Any, Any]] = [multiprocessing.Pipe(duplex=False) for _ in range(task.renderers)]

    def main(self, side: Side) -> None:
        """Send."""
        side.ready()
        for count in side.portions():
            for array in arrays(self.task, count):
                head, memory = pack(array)
                for _, sender in self.pipes:
                    sender.send((head, memory.nbytes))
                    sender.send_bytes(memory)
        side.done()

    def renderer(self, number: int, side: Side) -> None:
        """Receive."""
        receiver, _ = self.pipes[number]
        side.ready()
        for _ in range(self.task.total):
            head, size = receiver.recv()
            memory = room(size)
            receiver.recv_bytes_into(memory)
            side.listener(unpack(head, memory))
        side.done(side.listener.report())


class Calls(Contest):
    """A duplex pipe, both ends blocking."""

    ours: Any
    theirs: Any

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.ours, self.theirs = multiprocessing.Pipe()

    def main(self, side: Side) -> None:
        """Answer."""
        side.answer_all(self.ours.recv_bytes, self.ours.send_bytes)

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Call."""
        send, receive = self.theirs.send_bytes, self.theirs.recv_bytes

        def ask() -> object:
            send(pickle.dumps(SMALL, 5))
            return pickle.loads(receive())

        side.ask_all(ask, lambda: send(b""))


class AsyncCalls(Calls):
    """The same pipe, watched by an event loop at either end."""

    def main(self, side: Side) -> None:
        """Answer."""
        run(self._serve(side), self.task.loop)

    async def _serve(self, side: Side) -> None:
        connection = self.ours

        def on_readable() -> None:
            number, value = pickle.loads(connection.recv_bytes())
            connection.send_bytes(pickle.dumps((number, handle(value)), 5))

        asyncio.get_running_loop().add_reader(connection.fileno(), on_readable)
        await side.ready_async()
        await side.done_async()

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Call."""
        run(self._call(side), self.task.loop)

    async def _call(self, side: Side) -> None:
        connection = self.theirs
        calling = Calling(lambda number: connection.send_bytes(pickle.dumps((number, SMALL), 5)))

        def on_readable() -> None:
            calling.settle(*pickle.loads(connection.recv_bytes()))

        asyncio.get_running_loop().add_reader(connection.fileno(), on_readable)
        await side.ask_all_async(calling.ask)
