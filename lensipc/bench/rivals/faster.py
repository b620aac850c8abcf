# SPDX-License-Identifier: MIT
"""faster-fifo: queues in shared memory. Its users put and get many at a time, for the price of one lock."""

from __future__ import annotations

import pickle
from functools import partial
from itertools import islice, repeat
from typing import Any

import faster_fifo

from ..contest import Contest
from ..side import Side
from ..task import RAW, SMALL, Task

SIZE = 1 << 20
BATCH = 64


def queue(task: Task) -> faster_fifo.Queue:
    """A queue that pickles as all rivals here do, or not at all."""
    if task.payload == "raw64":
        return faster_fifo.Queue(SIZE, loads=bytes, dumps=bytes)
    return faster_fifo.Queue(SIZE, loads=pickle.loads, dumps=partial(pickle.dumps, protocol=5))


class Events(Contest):
    """One queue to each renderer."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.queues: list[Any] = [queue(task) for _ in range(task.renderers)]

    def main(self, side: Side) -> None:
        """Put into each."""
        side.ready()
        message = RAW if self.task.payload == "raw64" else SMALL
        for count in side.portions():
            messages = repeat(message, count)
            while batch := list(islice(messages, BATCH)):
                for each in self.queues:
                    each.put_many(batch)
        side.done()

    def renderer(self, number: int, side: Side) -> None:
        """Get as many as there are."""
        side.ready()
        get, listen = self.queues[number].get_many, side.listener
        while not listen.finished:
            if self.task.payload == "raw64":
                listen.add(len(get()))
            else:
                for message in get():
                    listen(message)
        side.done(listen.report())


class EventsEncodedOnce(Events):
    """To several renderers: each message is pickled once, and its bytes are put into each queue."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.queues: list[Any] = [
            faster_fifo.Queue(SIZE, loads=pickle.loads, dumps=bytes) for _ in range(task.renderers)
        ]

    def main(self, side: Side) -> None:
        """Put into each."""
        side.ready()
        for count in side.portions():
            bodies = iter(side.bodies(count))
            while batch := list(islice(bodies, BATCH)):
                for each in self.queues:
                    each.put_many(batch)
        side.done()


class Calls(Contest):
    """A queue each way."""

    asked: Any
    answered: Any

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.asked, self.answered = queue(task), queue(task)

    def main(self, side: Side) -> None:
        """Answer."""
        side.ready()
        get, put = self.asked.get, self.answered.put
        while (value := get()) is not None:
            put(value)
        side.done()

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Call."""
        get, put = self.answered.get, self.asked.put

        def ask() -> object:
            put(SMALL)
            return get()

        side.ask_all(ask, lambda: put(None))
