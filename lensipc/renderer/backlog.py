# SPDX-License-Identifier: MIT
"""What has come to a renderer and is kept for its turn, in its order, while something else is waited for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from ..runtime.connection import size_of
from ..runtime.protocol import ERROR, RESULT
from ..transport.endpoint import Batch, Message
from .dispatch import split

OUTCOMES = (RESULT, ERROR)


def is_outcome(message: Message | Batch) -> bool:
    """Whether it is what a request has ended with."""
    return not isinstance(message, list) and message.kind in OUTCOMES


class Backlog(deque[Message | Batch]):
    """Messages, the one that comes first at the left; batches of events come apart.

    A signal's handler may raise at any place: then a message is here, or `has_kept` says that it is not.

    Attributes:
        size: bytes of their bodies.
        has_outcomes: there may be some among them.
    """

    __slots__ = ("_keeping", "has_outcomes", "size")

    def __init__(self) -> None:
        super().__init__()
        self.size = 0
        self.has_outcomes = False
        # What is being put here, and as what.
        self._keeping: tuple[Message | Batch | None, list[Message | Batch]] = (None, [])

    def keep(self, message: Message | Batch) -> None:
        """Put one behind all others."""
        if is_outcome(message):
            self.has_outcomes = True
        self._keeping = message, parts_of(message)
        self.extend(self._keeping[1])
        self.size += size_of(message)
        self._keeping = None, []

    def has_kept(self, message: Message | Batch) -> bool:
        """Whether `keep`, which was cut short, has put it here."""
        kept, parts = self._keeping
        return kept is message and bool(self) and self[-1] is parts[-1]

    def put_first(self, messages: Iterable[Message | Batch]) -> None:
        """Put messages before all others."""
        self.extendleft(reversed(list(messages)))

    def take(self) -> Message | Batch:
        """Take the first one out."""
        message = self.popleft()
        self.size -= size_of(message)
        return message

    def put_outcomes_first(self) -> None:
        """Move all outcomes before all else."""
        super().__init__(sorted(self, key=lambda message: not is_outcome(message)))


def parts_of(message: Message | Batch) -> list[Message | Batch]:
    """A message, or the events of one that is a batch."""
    return [*split(message)] if isinstance(message, list) else [message]
