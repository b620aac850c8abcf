# SPDX-License-Identifier: MIT
"""Two interpreters of one process, each in a thread, by the queues of concurrent.interpreters (Python 3.14)."""

from __future__ import annotations

import sys
from typing import Any

from ..side import Side
from ..task import SMALL
from .threads import Threads, beside

if sys.version_info >= (3, 14):
    from concurrent import interpreters
else:
    interpreters: Any = None

SEND = """
for _ in range(total):
    put(small)
"""
ANSWER = """
while (value := get()) is not None:
    put(value)
"""


class Interpreters(Threads):
    """The other side is another interpreter, in the renderer's process."""

    @staticmethod
    def make() -> Any:
        """Make a queue."""
        return interpreters.create_queue()


class Events(Interpreters):
    """The other interpreter puts, this one gets."""

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Do both."""
        listen, down, other = side.listener, self.make(), interpreters.create()
        get = down.get
        other.prepare_main(queue=down, small=repr(SMALL), total=self.task.total)
        other.exec("put, small = queue.put, eval(small)")
        side.ready()
        thread = beside(lambda: other.exec(SEND))
        for _ in range(self.task.total):
            listen(get())
        thread.join()
        side.done(listen.report())


class Calls(Interpreters):
    """This interpreter asks, the other one answers."""

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Do both."""
        up, down, other = self.make(), self.make(), interpreters.create()
        other.prepare_main(up=up, down=down)
        other.exec("get, put = up.get, down.put")

        def ask() -> object:
            up.put(SMALL)
            return down.get()

        thread = beside(lambda: other.exec(ANSWER))
        side.ask_all(ask, lambda: up.put(None))
        thread.join()
