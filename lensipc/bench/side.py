# SPDX-License-Identifier: MIT
"""One process of a trial: its line to the trial, the listener, and the loops that all rivals go through.

The loops are here so that every rival does the same work around its own calls, and none has a call more than another.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from itertools import repeat
from multiprocessing.connection import Connection
from typing import Any, Final, TypeVar

from .task import RAW, SMALL, Task

Ask = Callable[[], object]
Report = dict[str, Any]
Made = TypeVar("Made")

CONNECT_WAIT: Final = 10.0
PAGE: Final = 4096
EACH_PAGE: Final = PAGE // 4  # numbers of an array, which has four bytes each


class Stalled(BaseException):
    """The trial has waited long enough for messages: no Exception, so that no event loop keeps it."""


class Listener:
    """What messages are delivered to. It knows when the warm-up ended and when the last message came."""

    begun: tuple[int, int]
    ended: tuple[int, int]

    def __init__(self, task: Task, mark: Callable[[], None], then: Callable[[], object] = lambda: None) -> None:
        self._task = task
        self._mark = mark
        self._then = then
        self._next = task.warmup
        self._pages = -(-task.size // PAGE)
        self.heard: int = 0
        self.begun = self.ended = (0, 0)  # messages heard by then, and the time (ns)

    def __call__(self, value: object) -> None:
        """Hear a message."""
        self.heard += 1
        if self.heard == self._next:
            self._pass(value)

    def on_event(self, _event: object, value: object) -> None:
        """The same, as a listener of lensipc is called."""
        self.heard += 1
        if self.heard == self._next:
            self._pass(value)

    def add(self, count: int) -> None:
        """Hear so many at once."""
        self.heard += count
        if self.heard >= self._next:
            self._pass(None)

    def read(self, array: Any) -> None:
        """Hear of an array that stays where it is: read a number in each of its pages."""
        if array[::EACH_PAGE].sum() != self._pages:  # they are all ones
            raise AssertionError("the array does not hold what was sent")
        self.add(1)

    def on_view(self, _event: object, array: Any) -> None:
        """The same, as a listener of lensipc is called."""
        self.read(array)

    @property
    def finished(self) -> bool:
        """Whether all have come."""
        return self.heard >= self._task.total

    def _pass(self, value: object) -> None:
        if not self.begun[0]:
            if self._task.payload == "array" and value is not None:
                array: Any = value
                assert array.nbytes == self._task.size
                assert array.flags.writeable
            self.begun = (self.heard, time.monotonic_ns())
            self._next = self._task.total
            self._mark()
        if self.heard >= self._task.total:
            self.ended = (self.heard, time.monotonic_ns())
            self._next = 0
            self._then()

    def report(self) -> Report:
        """For the trial."""
        return {"heard": self.heard, "begun": self.begun, "ended": self.ended}


class Side:
    """One process of a trial.

    It says `ready` when it is connected, works when the trial says go, says `done` with what it found, and tells its
    CPU time when all others are done too: some of them still need it until then.
    """

    def __init__(self, task: Task, name: str, line: Connection) -> None:
        self.task = task
        self.name = name
        self.listener: Listener = Listener(task, self.mark)
        self._line = line
        self._cpu = 0.0
        self._warm = False

    # ---- the line to the trial ----

    def ready(self) -> None:
        """Wait until all are ready."""
        self._line.send("ready")
        self._line.recv()
        self._cpu = time.process_time()

    async def ready_async(self) -> None:
        """The same on an event loop."""
        self._line.send("ready")
        await self._heard()
        self._cpu = time.process_time()

    def mark(self) -> None:
        """The warm-up is over: CPU time counts from now on."""
        self._cpu = time.process_time()
        self._warm = True

    def done(self, report: Report | None = None) -> None:
        """Report, and wait until all have."""
        self._line.send(report or {})
        self._line.recv()
        self._tell_cpu()

    async def done_async(self, report: Report | None = None) -> None:
        """The same on an event loop, which goes on serving the others."""
        self._line.send(report or {})
        await self._heard()
        self._tell_cpu()

    def _tell_cpu(self) -> None:
        self._line.send({"cpu": time.process_time() - self._cpu, "warm": self._warm})

    async def _heard(self) -> None:
        loop, heard = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._line.fileno(), heard.set)
        try:
            await heard.wait()
        finally:
            loop.remove_reader(self._line.fileno())
        os.set_blocking(self._line.fileno(), True)  # as it was before uvloop watched it: a long report must not fail
        self._line.recv()

    # ---- events ----

    def bodies(self, count: int) -> Iterable[bytes]:
        """So many messages as bytes, each encoded anew when its turn comes."""
        if self.task.payload == "raw64":
            return repeat(RAW, count)
        return map(pickle.dumps, repeat(SMALL, count), repeat(5))

    def portions(self) -> Iterator[int]:
        """How many messages to send: the warm-up's, then, after the pause, those that are measured."""
        yield self.task.warmup
        self.mark()
        time.sleep(self.task.pause)
        yield self.task.count

    async def portions_async(self) -> AsyncIterator[int]:
        """The same on an event loop."""
        yield self.task.warmup
        self.mark()
        await asyncio.sleep(self.task.pause)
        yield self.task.count

    def send_all(self, send: Callable[[bytes], object]) -> None:
        """Encode and send every message by a blocking call, and be done."""
        self.ready()
        for count in self.portions():
            for body in self.bodies(count):
                send(body)
        self.done()

    def receive_all(self, receive: Callable[[], Any]) -> None:
        """Receive every message by a blocking call, decode it, call the listener, and be done."""
        self.ready()
        listen, loads, total = self.listener, pickle.loads, self.task.total
        if self.task.payload == "raw64":
            for count in (self.task.warmup, self.task.count):
                for _ in range(count):
                    receive()
                listen.add(count)
        else:
            for _ in range(total):
                listen(loads(receive()))
        self.done(listen.report())

    def finished(self) -> asyncio.Event:
        """What is set when the listener has heard all; on an event loop."""
        event = asyncio.Event()
        self.listener = Listener(self.task, self.mark, event.set)
        return event

    # ---- calls ----

    def ask_all(self, ask: Ask, then: Callable[[], object] = lambda: None) -> None:
        """Call `ask`, which blocks for one round trip, and time it; then tell the other side by `then`, and be done."""
        self.ready()
        for _ in range(self.task.warmup):
            ask()
        self.mark()
        pause, clock, times = self.task.pause, time.perf_counter_ns, []
        deadline = clock() + int(self.task.seconds * 1e9)
        for _ in range(self.task.count):
            if pause:
                time.sleep(pause)
            begun = clock()
            ask()
            ended = clock()
            times.append(ended - begun)
            if ended > deadline:
                break
        then()
        self.done({"times": times, "asked": len(times)})

    async def ask_all_async(
        self, ask: Callable[[], Awaitable[object]], then: Callable[[], object] = lambda: None
    ) -> None:
        """The same, awaiting; `flight` at a time."""
        task, pause, clock = self.task, self.task.pause, time.perf_counter_ns
        times: list[int] = []

        async def work(left: Iterator[None]) -> None:
            for _ in left:
                if pause:
                    await asyncio.sleep(pause)
                begun = clock()
                await ask()
                ended = clock()
                times.append(ended - begun)
                if ended > deadline:
                    break

        async def work_all(count: int) -> None:
            left = repeat(None, count)  # one iterator, from which all take
            await asyncio.gather(*(work(left) for _ in range(task.flight)))

        await self.ready_async()
        deadline = clock() + int(task.seconds * 1e9)
        await work_all(task.warmup)
        times.clear()
        self.mark()
        begun = clock()
        deadline = begun + int(task.seconds * 1e9)
        await work_all(task.count)
        took = clock() - begun
        then()
        await self.done_async({"times": times, "asked": len(times), "took": took})

    def answer_all(self, receive: Callable[[], Any], send: Callable[[bytes], object]) -> None:
        """Answer calls with what the handler returns, until an empty message comes; be done."""
        self.ready()
        loads, dumps = pickle.loads, pickle.dumps
        while body := receive():
            send(dumps(handle(loads(body)), 5))
        self.done()


def patiently(attempt: Callable[[], Made]) -> Made:
    """Attempt it until the other side is there for it."""
    deadline = time.monotonic() + CONNECT_WAIT
    while True:
        try:
            return attempt()
        except (FileNotFoundError, ConnectionRefusedError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.002)


def handle(value: object) -> object:
    """The handler of all calls."""
    return value
