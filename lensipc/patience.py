# SPDX-License-Identifier: MIT
"""Whether it pays to poll a ring for a little before sleeping.

Waking a process that sleeps on another core costs some 50 µs; a frame that comes sooner than that is had sooner and
cheaper by polling. Where none comes, polling only burns the processor and holds the event loop up. So polling has to
be earned: each time it finds a frame it gains credit, each time it does not it loses some, and without credit it is
tried only now and then. A process to which nothing comes sleeps, and uses no processor at all.
"""

from __future__ import annotations

from typing import Final

# How long one poll lasts (nanoseconds): a round trip between two Python processes that both poll fits in.
POLL: Final = 100_000
# A find is worth so many failures, up to a limit; with no credit, one time in so many is a trial.
GAIN: Final = 2
CREDIT: Final = 8
TRIAL: Final = 16


class Patience:
    """The credit of one ring's consumer."""

    __slots__ = ("_credit", "_until_trial")

    def __init__(self) -> None:
        self._credit = 0
        self._until_trial = TRIAL

    def nanoseconds(self) -> int:
        """How long to poll this time: 0 or POLL. `report` what came of the latter."""
        if self._credit:
            return POLL
        self._until_trial -= 1
        if self._until_trial:
            return 0
        self._until_trial = TRIAL
        return POLL

    def report(self, found: bool) -> None:
        """Whether the poll found a frame."""
        if found:
            self._credit = min(self._credit + GAIN, CREDIT)
        elif self._credit:
            self._credit -= 1
