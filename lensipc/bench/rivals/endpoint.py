# SPDX-License-Identifier: MIT
"""lensipc below its values: endpoints, bytes in and bytes out."""

from __future__ import annotations

from lensipc.transport.endpoint import (
    FORM_MEMFD,
    INLINE,
    SIDE_MAIN,
    SIDE_RENDERER,
    WAKEUP_SEMAPHORE,
    Batch,
    Endpoint,
    Message,
    create_segment,
)

from ..contest import Contest
from ..side import Side
from ..task import RAW, Task

CAPACITY = 1 << 18  # MainProcess's own
BATCH = 256
WAIT = 1.0


class Events(Contest):
    """A segment for two processes, both woken by its semaphores."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.segment: int = create_segment(FORM_MEMFD, CAPACITY)

    def _open(self, side: int) -> Endpoint:
        return Endpoint(self.segment, side, WAKEUP_SEMAPHORE, -1, high_water=1 << 20, limit=1 << 22, quota=1 << 26)

    def main(self, side: Side) -> None:
        """Send; sleep where the ring has no room."""
        endpoint = self._open(SIDE_MAIN)
        side.ready()
        send = endpoint.send
        for count in side.portions():
            for _ in range(0, count, BATCH):
                for _ in range(BATCH):
                    send(1, 0, 0, 0, 0, RAW)
                while endpoint.outbox:
                    endpoint.wait(WAIT)
                    endpoint.flush()
        side.done()
        endpoint.close()

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Receive; sleep where there is nothing."""
        endpoint = self._open(SIDE_RENDERER)
        side.ready()
        receive, listen = endpoint.receive, side.listener
        while not listen.finished:
            messages: list[Message | Batch] = []
            receive(BATCH, 0, INLINE, messages)
            if messages:
                listen.add(len(messages))
            else:
                endpoint.wait(WAIT)
        side.done(listen.report())
        endpoint.close()
