# SPDX-License-Identifier: MIT
"""Whether a core busy-polls its rings for a little before it sleeps.

To wake a process that sleeps on another processor core costs some 50 us. A frame that comes sooner than that is had
sooner and cheaper by polling. If none comes, polling only burns the processor and holds the event loop up. So polling
has to be earned: each poll that finds a frame adds credit, and each that does not takes some away. Without credit there
is a poll only now and then. A process to which nothing comes sleeps, and uses no processor at all.

TurnLoop.turn (turns.py) and RendererCore.wait (renderer/core.py) ask. csrc/endpoint/endpoint.c looks at the rings.

Where others want the processor, polling costs all its credit at once. A process that yields to one that computes has
the processor back after a slice of some 3 ms, but one that sleeps is woken at once.
"""

from __future__ import annotations

from typing import Final

# How long one poll lasts (nanoseconds): a round trip between two Python processes that both poll fits in.
POLL: Final = 100_000
# A poll that finds something is worth so many that do not, up to a limit.
GAIN: Final = 2
CREDIT: Final = 8
# Without credit, one rest in so many is followed by a poll.
TRIAL: Final = 16


class BusyPoll:
    """Whether it pays to poll before sleeping: the credit of one process.

    Attributes:
        nanoseconds: how long to poll next time: 0 or POLL.
        preempted: others wanted the processor, and no poll since then has tried whether they still do.
    """

    __slots__ = ("_credit", "_rests", "nanoseconds", "preempted")

    def __init__(self) -> None:
        self.nanoseconds: int = 0
        self.preempted: bool = False
        self._credit = 0
        self._rests = 0

    def report(self, found: bool | None) -> bool:
        """Whether polling has found something; returns that. None: others want the processor."""
        if found is None:
            self._credit = self.nanoseconds = 0
            self.preempted = True
            return False
        if found:
            self._credit = min(self._credit + GAIN, CREDIT)
            self.nanoseconds = POLL
        elif self._credit > 1:
            self._credit -= 1
        else:
            self._credit = self.nanoseconds = 0
        return found

    def rested(self) -> None:
        """It went to sleep without polling: now and then, it tries whether that would pay."""
        self._rests += 1
        if self._rests == TRIAL:
            self._rests = 0
            self.nanoseconds = POLL
            self.preempted = False
