# SPDX-License-Identifier: MIT
"""Whether it pays to poll a ring for a little before sleeping.

Waking a process that sleeps on another core costs some 50 µs; a frame that comes sooner than that is had sooner and
cheaper by polling. Where none comes, polling only burns the processor and holds the event loop up. So polling has to
be earned: each time it finds a frame it gains credit, each time it does not it loses some, and without credit it is
tried only now and then. A process to which nothing comes sleeps, and uses no processor at all.

Where others want the processor, polling costs all its credit at once: who yields to one that computes has the processor
back after a slice of some 3 ms, and who sleeps is woken at once.
"""

from __future__ import annotations

from typing import Final

# How long one poll lasts (nanoseconds): a round trip between two Python processes that both poll fits in.
POLL: Final = 100_000
# A find is worth so many failures, up to a limit; with no credit, one time in so many is a trial.
GAIN: Final = 2
CREDIT: Final = 8
TRIAL: Final = 16


# A peer that answers at once, within microseconds, is met before the event loop has its turn, which takes as long: one
# such look, and how long the loop's other callbacks may wait for them all (nanoseconds).
SHORT_POLL: Final = 5_000
POLLING_TURN: Final = 100_000


class BusyPoll:
    """The credit of one process.

    Attributes:
        nanoseconds: how long to poll next time: 0 or POLL.
        preempted: others wanted the processor, and whether they still do has not been tried since.
    """

    __slots__ = ("_credit", "_rests", "nanoseconds", "preempted")

    def __init__(self) -> None:
        self.nanoseconds = 0
        self.preempted = False
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
