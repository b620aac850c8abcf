# SPDX-License-Identifier: MIT
"""multiprocessing.shared_memory for the bytes of an array, and a Pipe for what says that they are there.

A receiver copies them out, into memory of its own, and gives the slot back: two slots are in turn, so that both sides
copy at the same time. Or it reads them in the slot.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array, arrays, pack, room, unpack
from ..calls import Calling
from ..contest import Contest
from ..loops import run
from ..side import EACH_PAGE, Listener, Side, handle
from ..task import SMALL, Task

SLOTS = 2


class Bulk(Contest):
    """A block of shared memory in two slots; a pipe to each renderer, and one back."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.pipes: list[tuple[Any, Any]] = [multiprocessing.Pipe() for _ in range(task.renderers)]
        self.memory: SharedMemory = SharedMemory(f"{Path(task.folder).name}", create=True, size=SLOTS * task.size)
        assert self.memory.buf is not None
        self.slots: Any = np.frombuffer(self.memory.buf, np.uint8)
        # The name is not needed any more: the processes that are forked have it mapped. Nothing is left of it.
        self.memory.unlink()

    def main(self, side: Side) -> None:
        """Send."""
        size, slots = self.task.size, self.slots
        side.ready()
        turn = 0
        for count in side.portions():
            for array in arrays(self.task, count):
                head, memory = pack(array)
                if turn >= SLOTS:
                    for ours, _ in self.pipes:
                        ours.recv_bytes()  # the slot is free again
                begin = turn % SLOTS * size
                self.fill(slots[begin : begin + size], memory)
                for ours, _ in self.pipes:
                    ours.send((head, begin, size))
                turn += 1
        side.done()

    def renderer(self, number: int, side: Side) -> None:
        """Receive."""
        _, theirs = self.pipes[number]
        slots, listen = self.slots, side.listener
        side.ready()

        def free() -> None:
            with suppress(BrokenPipeError):
                theirs.send_bytes(b"free")

        for _ in range(self.task.total):
            head, begin, size = theirs.recv()
            self.hear(listen, head, slots[begin : begin + size], free)
        side.done(listen.report())

    def fill(self, slot: Array, memory: memoryview) -> None:
        """Copy an array into a slot."""
        slot[:] = np.frombuffer(memory, np.uint8)

    def hear(self, listen: Listener, head: bytes, slot: Array, free: Callable[[], None]) -> None:
        """Copy it out of the slot, which is free then."""
        memory = room(slot.nbytes)
        np.frombuffer(memory, np.uint8)[:] = slot
        free()
        listen(unpack(head, memory))


class InPlace(Bulk):
    """The receivers read in the slot. It is free when they have."""

    def hear(self, listen: Listener, head: bytes, slot: Array, free: Callable[[], None]) -> None:
        """Read it there."""
        listen.read(unpack(head, slot.data))
        free()


class Loaned(InPlace):
    """The sender writes in the slot itself."""

    def fill(self, slot: Array, memory: memoryview) -> None:  # noqa: ARG002
        """Write a number of each page."""
        slot.view(np.float32)[::EACH_PAGE] = 1


class CallsBesideBulk(Bulk):
    """Awaited calls by the pipe, while one array after the other is copied into the slots and out of them."""

    def main(self, side: Side) -> None:
        """Answer."""
        run(self._serve(side), self.task.loop)

    async def _serve(self, side: Side) -> None:
        end = _End(self.pipes[0][0], self.slots, self.task)
        await side.ready_async()
        if self.task.case == "it gets them":
            await end.feed()
        await side.done_async()

    def renderer(self, number: int, side: Side) -> None:
        """Call."""
        run(self._call(side, self.pipes[number][1]), self.task.loop)

    async def _call(self, side: Side, connection: Any) -> None:
        end = _End(connection, self.slots, self.task)
        calling = end.calling = Calling(lambda number: connection.send(("ask", (number, SMALL))))
        sending = asyncio.create_task(end.feed() if self.task.case == "it sends them" else end.over.wait())

        def over() -> None:
            end.end()
            connection.send(("over", None))

        await side.ask_all_async(calling.ask, over)
        await sending


class _End:
    """One end of the pipe, watched by an event loop."""

    calling: Calling

    def __init__(self, connection: Any, slots: Any, task: Task) -> None:
        self._connection = connection
        self._slots = slots
        self._size = task.size
        self._array: Any = next(arrays(task, 1)).view(np.uint8)
        self._memory: Any = np.frombuffer(room(task.size), np.uint8)
        self._free = asyncio.Semaphore(SLOTS)
        self.over = asyncio.Event()
        asyncio.get_running_loop().add_reader(connection.fileno(), self._on_readable)

    async def feed(self) -> None:
        """Send arrays until the calls are over."""
        for turn in itertools.count():
            await self._free.acquire()
            if self.over.is_set():
                return
            begin = turn % SLOTS * self._size
            self._slots[begin : begin + self._size] = self._array
            self._connection.send(("bulk", begin))
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # what has come meanwhile is handled

    def _on_readable(self) -> None:
        kind, what = self._connection.recv()
        match kind:
            case "ask":
                self._connection.send(("answer", (what[0], handle(what[1]))))
            case "answer":
                self.calling.settle(*what)
            case "bulk":
                self._memory[:] = self._slots[what : what + self._size]
                self._connection.send(("free", None))
            case "free":
                self._free.release()
            case "over":
                self.end()

    def end(self) -> None:
        """The calls are over."""
        self.over.set()
        self._free.release()
