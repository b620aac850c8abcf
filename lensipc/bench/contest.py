# SPDX-License-Identifier: MIT
"""What an adapter in rivals/ is: the processes of one trial."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .side import Side
from .task import Task

Life = Callable[[Side], None]


class Contest:
    """A rival in one trial: a main, and `task.renderers` renderers.

    It is made before the processes are forked: what they are to share is made by the constructor, and nothing else.
    """

    def __init__(self, task: Task) -> None:
        self.task = task

    def sides(self) -> dict[str, Life]:
        """What each process does, by its name."""
        renderers = {f"renderer {number}": partial(self.renderer, number) for number in range(self.task.renderers)}
        return {"main": self.main, **renderers}

    def main(self, side: Side) -> None:
        """The life of the main process."""
        raise NotImplementedError

    def renderer(self, number: int, side: Side) -> None:
        """The life of a renderer."""
        raise NotImplementedError
