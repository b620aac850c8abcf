# SPDX-License-Identifier: MIT
"""What has come to a renderer and is kept for its turn, in its order, while something else is waited for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from ..runtime.connection import size_of
from ..runtime.protocol import ERROR, RESULT
from ..transport.endpoint import RUN, Record
from .dispatch import unfolded

OUTCOMES = (RESULT, ERROR)


class Backlog(deque[Record]):
    """Records, the one that comes first at the left; runs of events come apart.

    A signal's handler may raise at any place: then a record is here, or `has_kept` says that it is not.

    Attributes:
        size: bytes of their bodies.
        has_outcomes: there may be some among them.
    """

    __slots__ = ("_keeping", "has_outcomes", "size")

    def __init__(self) -> None:
        super().__init__()
        self.size = 0
        self.has_outcomes = False
        self._keeping: tuple[Record | None, list[Record]] = (None, [])  # what is being put here, and as what

    def keep(self, record: Record) -> None:
        """Put one behind all others."""
        if record[0] in OUTCOMES:
            self.has_outcomes = True
        self._keeping = record, parts_of(record)
        self.extend(self._keeping[1])
        self.size += size_of(record)
        self._keeping = None, []

    def has_kept(self, record: Record) -> bool:
        """Whether `keep`, which was cut short, has put it here."""
        kept, parts = self._keeping
        return kept is record and bool(self) and self[-1] is parts[-1]

    def put_first(self, records: Iterable[Record]) -> None:
        """Put records before all others."""
        self.extendleft(reversed(list(records)))

    def take(self) -> Record:
        """Take the first one out."""
        record = self.popleft()
        self.size -= size_of(record)
        return record

    def put_outcomes_first(self) -> None:
        """Move all outcomes before all else."""
        super().__init__(sorted(self, key=lambda record: record[0] not in OUTCOMES))


def parts_of(record: Record) -> list[Record]:
    """A record, or the events of one that is a run."""
    return unfolded(record[1]) if record[0] == RUN else [record]
