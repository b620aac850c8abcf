# SPDX-License-Identifier: MIT
"""A blocking Unix socket: messages with their length in front."""

from __future__ import annotations

import pickle
import socket
import struct
from collections.abc import Callable

from ..contest import Contest
from ..side import Side
from ..task import SMALL, Task

LENGTH = struct.Struct("=I")


def over(sock: socket.socket) -> tuple[Callable[[], bytes], Callable[[bytes], object]]:
    """What receives a message, and what sends one."""

    def receive() -> bytes:
        data = sock.recv(65536)  # mostly the whole message: one is on its way at a time
        size = LENGTH.size + LENGTH.unpack_from(data)[0]
        while len(data) < size:
            data += sock.recv(65536)
        return data[LENGTH.size :]

    def send(body: bytes) -> None:
        sock.sendall(LENGTH.pack(len(body)) + body)

    return receive, send


class Calls(Contest):
    """One connection, both ends blocking."""

    ours: socket.socket
    theirs: socket.socket

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.ours, self.theirs = socket.socketpair()

    def main(self, side: Side) -> None:
        """Answer."""
        side.answer_all(*over(self.ours))

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Call."""
        receive, send = over(self.theirs)

        def ask() -> object:
            send(pickle.dumps(SMALL, 5))
            return pickle.loads(receive())

        side.ask_all(ask, lambda: send(b""))
