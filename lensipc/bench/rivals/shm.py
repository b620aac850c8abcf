# SPDX-License-Identifier: MIT
"""multiprocessing.shared_memory for the bytes of an array, and a Pipe for what says that they are there.

A receiver copies them out, into memory of its own, and gives the slot back: two slots are in turn, so that both sides
copy at the same time. Or it reads them in the slot.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import Array, arrays, pack, room, unpack
from ..contest import Contest
from ..side import Listener, Side
from ..task import Task

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
                slots[begin : begin + size] = np.frombuffer(memory, np.uint8)
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
