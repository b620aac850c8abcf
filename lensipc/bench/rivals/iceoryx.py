# SPDX-License-Identifier: MIT
"""iceoryx2: samples in shared memory. A receiver spins for the next one, or sleeps until an event tells of it.

Its Python API carries memory, so small messages are pickled and copied in and out by ctypes, the fastest of the ways
that were tried. No sample is dropped: a publisher whose subscriber is slow retries.
"""

from __future__ import annotations

import ctypes
import pickle
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import iceoryx2
import numpy as np

from ..arrays import arrays, pack, room, unpack
from ..contest import Contest
from ..side import EACH_PAGE, Side
from ..task import SMALL

BUFFER: Final = 1024
BUFFER_BYTES: Final = 64 << 20
BURST: Final = 64  # messages of one event
WAIT: Final = iceoryx2.Duration.from_secs(1)
HEAD: Final = struct.Struct("=I")
ARRAY_AT: Final = 4096  # where an array begins in a sample, after its head

Receive = Callable[[], bytes]


def attempted(make: Callable[[], Any]) -> Any:
    """Services that two processes make at the same time are in flux for a moment."""
    for _ in range(1000):
        try:
            return make()
        except Exception as error:
            last = error
            time.sleep(0.005)
    raise last


class _Iceoryx(Contest):
    """Files and names of its own: nothing is shared with other users of iceoryx2, and all can be removed."""

    node: Any

    spins = True

    @property
    def buffer(self) -> int:
        """Samples that wait at most. A publisher that finds no room sleeps, long: there is to be room for some."""
        return max(2, min(BUFFER, BUFFER_BYTES // max(1, self.task.size)))

    def open_node(self) -> None:
        iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
        config = iceoryx2.config.default()
        config.global_cfg.root_path = iceoryx2.Path.new(f"{self.task.folder}/")
        config.global_cfg.prefix = iceoryx2.FileName.new(Path(self.task.folder).name)
        builder = iceoryx2.NodeBuilder.new().config(config)
        builder = builder.signal_handling_mode(iceoryx2.SignalHandlingMode.Disabled)
        self.node = attempted(lambda: builder.create(iceoryx2.ServiceType.Ipc))

    def _service(self, name: str) -> Any:
        builder = self.node.service_builder(iceoryx2.ServiceName.new(name))
        builder = builder.publish_subscribe(iceoryx2.Slice[ctypes.c_uint8]).max_publishers(1).max_nodes(40)
        builder = builder.max_subscribers(self.task.renderers).history_size(0).subscriber_max_borrowed_samples(2)
        return builder.subscriber_max_buffer_size(self.buffer).enable_safe_overflow(False)

    def _event(self, name: str) -> Any:
        builder = self.node.service_builder(iceoryx2.ServiceName.new(name)).event().max_nodes(40)
        builder = builder.max_listeners(self.task.renderers).max_notifiers(1)
        return attempted(builder.open_or_create)

    def publisher(self, name: str) -> Any:
        builder = attempted(self._service(name).open_or_create).publisher_builder()
        builder = builder.initial_max_slice_len(ARRAY_AT + self.task.size).max_loaned_samples(1)
        return builder.backpressure_strategy(iceoryx2.BackpressureStrategy.RetryUntilDelivered).create()

    def sender(self, name: str) -> Callable[[bytes], None]:
        """What sends a message; who is asleep for it is told by an event."""
        loan, copy = self.publisher(name).loan_slice_uninit, ctypes.memmove
        notify = (lambda: None) if self.spins else self._event(name).notifier_builder().create().notify

        def send(body: bytes) -> None:
            size = len(body)
            sample = loan(size)
            copy(sample.payload_ptr, body, size)
            sample.assume_init().send()
            notify()

        return send

    def next_sample(self, name: str) -> Callable[[], Any]:
        """What waits for a sample."""
        receive = attempted(self._service(name).open_or_create).subscriber_builder().create().receive
        if self.spins:

            def spin() -> Any:
                while (sample := receive()) is None:
                    pass
                return sample

            return spin
        wait = self._event(name).listener_builder().create().timed_wait

        def sleep() -> Any:
            while (sample := receive()) is None:
                wait(WAIT)
            return sample

        return sleep

    def receiver(self, name: str) -> Receive:
        """What waits for a message."""
        following, copy = self.next_sample(name), ctypes.string_at

        def receive() -> bytes:
            sample = following()
            return copy(sample.payload_ptr, sample.header.number_of_elements)

        return receive


class Events(_Iceoryx):
    """A publisher, and a subscriber in each renderer, which spins."""

    def main(self, side: Side) -> None:
        """Send."""
        self.open_node()
        loan, copy = self.publisher("down").loan_slice_uninit, ctypes.memmove
        notify = None if self.spins else self._event("down").notifier_builder().create().notify
        side.ready()
        for count in side.portions():
            for number, body in enumerate(side.bodies(count), 1):
                size = len(body)
                sample = loan(size)
                copy(sample.payload_ptr, body, size)
                sample.assume_init().send()
                if notify and not number % BURST:
                    notify()
            if notify:
                notify()
        side.done()

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Receive."""
        self.open_node()
        side.receive_all(self.receiver("down"))


class SleepyEvents(Events):
    """The renderers sleep until an event comes, one for 64 messages."""

    spins = False


class Calls(_Iceoryx):
    """A service each way; both ends spin."""

    def main(self, side: Side) -> None:
        """Answer."""
        self.open_node()
        side.answer_all(self.receiver("up"), self.sender("down"))

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Call."""
        self.open_node()
        receive, send = self.receiver("down"), self.sender("up")

        def ask() -> object:
            send(pickle.dumps(SMALL, 5))
            return pickle.loads(receive())

        side.ask_all(ask, lambda: send(b""))


class SleepyCalls(Calls):
    """Both ends sleep until an event comes."""

    spins = False


class Bulk(_Iceoryx):
    """Arrays: copied into a sample, and out of it into memory that the receiver owns. Sleeps until an event comes."""

    spins = False
    in_place = False

    def main(self, side: Side) -> None:
        """Send."""
        self.open_node()
        loan, copy = self.publisher("down").loan_slice_uninit, ctypes.memmove
        notify = self._event("down").notifier_builder().create().notify
        side.ready()
        for count in side.portions():
            for array in arrays(self.task, count):
                head, memory = pack(array)
                sample = loan(ARRAY_AT + memory.nbytes)
                at = sample.payload_ptr
                copy(at, HEAD.pack(len(head)) + head, HEAD.size + len(head))
                self.fill(at + ARRAY_AT, memory)
                sample.assume_init().send()
                notify()
        side.done()

    def fill(self, at: int, memory: memoryview) -> None:
        """Copy an array into a sample."""
        ctypes.memmove(at, np.frombuffer(memory, np.uint8).ctypes.data, memory.nbytes)

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Receive."""
        self.open_node()
        following, listen = self.next_sample("down"), side.listener
        side.ready()
        for _ in range(self.task.total):
            sample = following()
            at, size = sample.payload_ptr, sample.header.number_of_elements - ARRAY_AT
            head = ctypes.string_at(at + HEAD.size, HEAD.unpack(ctypes.string_at(at, HEAD.size))[0])
            if self.in_place:
                listen.read(unpack(head, memoryview((ctypes.c_uint8 * size).from_address(at + ARRAY_AT))))
            else:
                memory = room(size)
                ctypes.memmove(np.frombuffer(memory, np.uint8).ctypes.data, at + ARRAY_AT, size)
                listen(unpack(head, memory))
        side.done(listen.report())


class InPlace(Bulk):
    """Arrays that stay where they are: the receiver looks at shared memory, which all receivers share."""

    in_place = True


class Loaned(InPlace):
    """Arrays that the sender writes in the sample itself."""

    def fill(self, at: int, memory: memoryview) -> None:
        """Write a number of each page."""
        sample: Any = (ctypes.c_float * (memory.nbytes // 4)).from_address(at)
        np.frombuffer(sample, np.float32)[::EACH_PAGE] = 1
