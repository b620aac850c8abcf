# SPDX-License-Identifier: MIT
"""Messages that a renderer has received and keeps, in their order, until it may handle them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from ..runtime.connection import size_of
from ..runtime.protocol import ERROR, ITEMS, RESULT
from ..transport.endpoint import Batch, Message
from .dispatch import split

# A stream's items are of its outcome: its end must not overtake them.
OUTCOMES = (RESULT, ERROR, ITEMS)


def is_outcome(message: Message | Batch) -> bool:
    """Whether the message is the outcome of a request, or a part of it."""
    return not isinstance(message, list) and message.kind in OUTCOMES


class Backlog(deque[Message | Batch]):
    """The kept messages. The first is at the left. A batch of events is kept as single events.

    A signal's handler may raise at any place. `has_kept` then says whether the message is here.

    Attributes:
        size: bytes of the messages' bodies.
        has_outcomes: whether there may be outcomes among the messages.
    """

    __slots__ = ("_keeping", "has_outcomes", "size")

    def __init__(self) -> None:
        super().__init__()
        self.size: int = 0
        self.has_outcomes: bool = False
        # The message that `keep` is adding, and the parts it is added as.
        self._keeping: tuple[Message | Batch | None, list[Message | Batch]] = (None, [])

    def keep(self, message: Message | Batch) -> None:
        """Add a message behind all others."""
        if is_outcome(message):
            self.has_outcomes = True
        self._keeping = message, parts_of(message)
        self.extend(self._keeping[1])
        self.size += size_of(message)
        self._keeping = None, []

    def has_kept(self, message: Message | Batch) -> bool:
        """Whether `keep` had added the message when a signal's handler interrupted it."""
        kept, parts = self._keeping
        return kept is message and bool(self) and self[-1] is parts[-1]

    def put_first(self, messages: Iterable[Message | Batch]) -> None:
        """Add messages before all others."""
        self.extendleft(reversed(list(messages)))

    def take(self) -> Message | Batch:
        """Remove and return the first message."""
        message = self.popleft()
        self.size -= size_of(message)
        return message

    def put_outcomes_first(self) -> None:
        """Move all outcomes before all other messages."""
        super().__init__(sorted(self, key=lambda message: not is_outcome(message)))


def parts_of(message: Message | Batch) -> list[Message | Batch]:
    """A batch's single events, or any other message by itself."""
    return [*split(message)] if isinstance(message, list) else [message]
