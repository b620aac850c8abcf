# SPDX-License-Identifier: MIT
"""pyzmq over ipc: PAIR for one renderer, PUB/SUB for several, a proxy between them, DEALER/ROUTER for requests."""

from __future__ import annotations

import asyncio
import pickle
import threading
from contextlib import closing, suppress
from typing import Any

import zmq
import zmq.asyncio

from ..arrays import arrays, pack, room, unpack
from ..calls import Calling
from ..contest import Contest, Life
from ..loops import run
from ..side import Side, handle
from ..task import SMALL, Task

# Messages that wait at most in a PAIR's queues. PUB would drop what is beyond, so there it has no limit.
HIGH_WATER = 10_000


def opened(kind: int, high_water: int = 0) -> Any:
    """A socket of a context of its own."""
    socket = zmq.Context().socket(kind)
    socket.set_hwm(high_water)
    socket.linger = 0
    return socket


class _Zmq(Contest):
    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.address: str = f"ipc://{task.path}"

    def connected(self, kind: int, high_water: int = 0, address: str = "") -> Any:
        socket = opened(kind, high_water)
        socket.connect(address or self.address)
        return socket

    def bound(self, kind: int, high_water: int = 0, address: str = "") -> Any:
        socket = opened(kind, high_water)
        socket.bind(address or self.address)
        return socket


class Pair(_Zmq):
    """PAIR: one way, or blocking calls, or arrays."""

    def main(self, side: Side) -> None:
        """Send."""
        socket = self.bound(zmq.PAIR, HIGH_WATER)
        side.send_all(socket.send)
        socket.close()

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Receive."""
        socket = self.connected(zmq.PAIR, HIGH_WATER)
        side.receive_all(socket.recv)
        socket.close()


class Calls(_Zmq):
    """PAIR, both ends blocking."""

    def main(self, side: Side) -> None:
        """Answer."""
        with closing(self.bound(zmq.PAIR)) as socket:
            side.answer_all(socket.recv, socket.send)

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Call."""
        with closing(self.connected(zmq.PAIR)) as socket:

            def ask() -> object:
                socket.send(pickle.dumps(SMALL, 5))
                return pickle.loads(socket.recv())

            side.ask_all(ask, lambda: socket.send(b""))


class Bulk(_Zmq):
    """Arrays in two parts, neither copied by pyzmq before the socket: PAIR, or PUB to several."""

    def main(self, side: Side) -> None:
        """Send."""
        several = self.task.renderers > 1
        socket = self.bound(zmq.XPUB if several else zmq.PAIR, 0 if several else 16)
        if several:
            subscribed(socket, self.task.renderers)
        side.ready()
        for count in side.portions():
            for array in arrays(self.task, count):
                socket.send_multipart(pack(array), copy=False)
        side.done()
        socket.close()

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Receive into memory that is ready for it."""
        several = self.task.renderers > 1
        socket = self.connected(zmq.SUB if several else zmq.PAIR, 0 if several else 16)
        if several:
            socket.subscribe(b"")
        side.ready()
        listen = side.listener
        for _ in range(self.task.total):
            head = socket.recv()
            memory = room(self.task.size)
            socket.recv_into(memory)
            listen(unpack(head, memory))
        side.done(listen.report())
        socket.close()


def subscribed(socket: Any, count: int) -> None:
    """Wait until so many have subscribed: who comes later misses what was published."""
    socket.xpub_verbose = 1
    for _ in range(count):
        socket.recv()


class PubSub(_Zmq):
    """PUB to all renderers (XPUB, which knows who has subscribed)."""

    def main(self, side: Side) -> None:
        """Send."""
        with closing(self.bound(zmq.XPUB)) as socket:
            subscribed(socket, self.task.renderers)
            side.send_all(socket.send)

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Receive."""
        with closing(self.connected(zmq.SUB)) as socket:
            socket.subscribe(b"")
            side.receive_all(socket.recv)


class Relay(PubSub):
    """XSUB and XPUB in main, joined by zmq's own proxy, which is all C."""

    def sides(self) -> dict[str, Life]:
        """Also the sender."""
        return {**super().sides(), "sender": self._send}

    def main(self, side: Side) -> None:
        """Join them."""
        context = zmq.Context()
        xpub, xsub = context.socket(zmq.XPUB), context.socket(zmq.XSUB)
        for socket, address in ((xpub, self.address), (xsub, f"{self.address}2")):
            socket.set_hwm(0)
            socket.linger = 0
            socket.bind(address)
        subscribed(xpub, self.task.renderers)
        xsub.send(b"\x01")  # to all that is published

        def proxy() -> None:
            with suppress(zmq.ContextTerminated):
                zmq.proxy(xsub, xpub)
            xsub.close()
            xpub.close()

        thread = threading.Thread(target=proxy)
        thread.start()
        side.ready()
        side.done()
        context.term()
        thread.join()

    def _send(self, side: Side) -> None:
        with closing(self.connected(zmq.XPUB, address=f"{self.address}2")) as socket:
            subscribed(socket, 1)
            side.send_all(socket.send)


class AsyncCalls(_Zmq):
    """DEALER and ROUTER on an event loop, through zmq.asyncio."""

    def main(self, side: Side) -> None:
        """Answer."""
        run(self._serve(side), self.task.loop)

    async def _serve(self, side: Side) -> None:
        context = zmq.asyncio.Context()
        socket = context.socket(zmq.ROUTER)
        socket.bind(self.address)

        async def answer() -> None:
            while True:
                who, number, body = await socket.recv_multipart()
                await socket.send_multipart((who, number, pickle.dumps(handle(pickle.loads(body)), 5)))

        answering = asyncio.create_task(answer())
        await side.ready_async()
        await side.done_async()
        answering.cancel()
        context.destroy(linger=0)

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Call."""
        run(self._call(side), self.task.loop)

    async def _call(self, side: Side) -> None:
        context = zmq.asyncio.Context()
        socket = context.socket(zmq.DEALER)
        socket.connect(self.address)
        calling = Calling(lambda number: socket.send_multipart((number.to_bytes(8, "big"), pickle.dumps(SMALL, 5))))

        async def settle() -> None:
            while True:
                number, body = await socket.recv_multipart()
                calling.settle(int.from_bytes(number, "big"), pickle.loads(body))

        settling = asyncio.create_task(settle())
        await side.ask_all_async(calling.ask)
        settling.cancel()
        context.destroy(linger=0)
