# SPDX-License-Identifier: MIT
"""The turns of a core: what it does in one callback of its loop, and when the loop is to call it again.

Before a core sleeps, it may poll its rings for a little. To wake a process that sleeps on another core costs some
50 us. A frame that comes sooner than that is had sooner and cheaper by polling. If none comes, polling only burns the
processor and holds the event loop up. So polling has to be earned: each poll that finds a frame adds credit, and each
that does not takes some away. Without credit a core polls only now and then. A process to which nothing comes sleeps,
and uses no processor at all.

Where others want the processor, polling costs all its credit at once. A process that yields to one that computes has
the processor back after a slice of some 3 ms, but one that sleeps is woken at once.
"""

from __future__ import annotations

import time
from typing import Final

from ..transport.poller import Poller
from .driver import Driver

# How long one poll lasts (nanoseconds): a round trip between two Python processes that both poll fits in.
POLL: Final = 100_000
# A poll that finds something is worth so many that do not, up to a limit.
GAIN: Final = 2
CREDIT: Final = 8
# Without credit, one rest in so many is followed by a poll.
TRIAL: Final = 16
# A peer that answers within microseconds is met before the event loop has its turn, which takes as long. So long does
# such a poll last, and so long may the loop's other callbacks wait for all of them together (nanoseconds).
SHORT_POLL: Final = 5_000
POLLING_TURN: Final = 100_000


class BusyPoll:
    """Whether it pays to poll before sleeping: the credit of one process.

    Attributes:
        nanoseconds: how long to poll next time: 0 or POLL.
        preempted: others wanted the processor, and no poll since then has tried whether they still do.
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


class TurnLoop:
    """Works while there is something to do, polls for more if that has paid lately, and rests.

    Args:
        driver: how the loop calls back.
        poller: what is woken for what a turn has left when a callback has raised.
    """

    def __init__(self, driver: Driver, poller: Poller) -> None:
        self.driver = driver
        self.poller = poller
        self._busy_poll = BusyPoll()
        self._scheduled = False
        self._lingers = False  # the scheduled turn polls first, for nothing is known to be there

    def work(self) -> bool:
        """Do what there is to do now, for a while: whether there may be more."""
        raise NotImplementedError

    def poll_rings(self, nanoseconds: int) -> bool | None:
        """Wait for so long for something to do, and return whether there is. None: others want the processor."""
        raise NotImplementedError

    def rest(self) -> None:
        """There is nothing to do: be woken by what comes."""
        raise NotImplementedError

    def turn(self) -> None:
        """Have a turn."""
        busy_poll, driver = self._busy_poll, self.driver
        try:
            until = time.monotonic_ns() + POLLING_TURN if busy_poll.nanoseconds else 0
            busy = self.work()
            while not busy and until and not driver.started and time.monotonic_ns() < until:
                if not self.poll_rings(SHORT_POLL):
                    break
                busy = self.work()
        except BaseException:  # Ctrl-C in a listener, say: what is left is still to be handled
            self.poller.wake()
            raise
        driver.started = False
        if busy:
            self.next_turn()
        elif busy_poll.nanoseconds:
            self.next_turn(linger=True)  # when the tasks that this turn has woken have sent what they will
        else:
            busy_poll.rested()
            self.rest()

    def next_turn(self, *, linger: bool = False) -> None:
        """Have a turn when other callbacks of the loop have had theirs. `linger`: only if polling finds something."""
        self._lingers = linger and (self._lingers or not self._scheduled)
        if not self._scheduled:
            self._scheduled = True
            self.driver.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._scheduled = False
        if not self.poller.closed:
            if not self._lingers or self._busy_poll.report(self.poll_rings(self._busy_poll.nanoseconds)):
                self.turn()
            else:
                self.rest()
