# SPDX-License-Identifier: MIT
"""Two threads of one process: what isolation costs. Nothing is encoded, and both sides have the same object."""

from __future__ import annotations

import queue
from collections.abc import Callable
from threading import Thread
from typing import Any

from ..contest import Contest
from ..side import Side, handle
from ..task import SMALL


def beside(work: Callable[[], object]) -> Thread:
    """Start a thread that does this work."""
    thread = Thread(target=work, daemon=True)
    thread.start()
    return thread


class Threads(Contest):
    """Main's part runs in the renderer's process, in a thread. That process makes the queues: none is to be forked."""

    make: Callable[[], Any] = queue.SimpleQueue

    def main(self, side: Side) -> None:
        """Nothing."""
        side.ready()
        side.done()


class Events(Threads):
    """One thread puts, the other gets."""

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Do both."""
        listen, down = side.listener, self.make()
        get, put = down.get, down.put
        side.ready()

        def send() -> None:
            for _ in range(self.task.total):
                put(SMALL)

        thread = beside(send)
        for _ in range(self.task.total):
            listen(get())
        thread.join()
        side.done(listen.report())


class Calls(Threads):
    """One thread asks, the other answers."""

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Do both."""
        up, down = self.make(), self.make()

        def answer() -> None:
            while (value := up.get()) is not None:
                down.put(handle(value))

        def ask() -> object:
            up.put(SMALL)
            return down.get()

        thread = beside(answer)
        side.ask_all(ask, lambda: up.put(None))
        thread.join()


class QueueEvents(Events):
    """By queue.Queue."""

    make: Callable[[], Any] = queue.Queue


class QueueCalls(Calls):
    """By queue.Queue."""

    make: Callable[[], Any] = queue.Queue
