# SPDX-License-Identifier: MIT
"""The turns of a core: what it does in one callback of its loop, and when the loop is to call it again.

How long main serves one renderer within a turn stands in main/core.py: MESSAGES_PER_TURN and TURN_TIME.
"""

from __future__ import annotations

import time
from typing import Final

from ..transport.poller import Poller
from .busy_poll import BusyPoll
from .driver import Driver

# How long one poll within a turn lasts (nanoseconds). A peer that answers at once does so within this time, and a round
# of the event loop takes as long.
SHORT_POLL: Final = 5_000
# How long a turn goes on while such polls find something (nanoseconds): so long the loop's other callbacks wait.
POLLING_TURN: Final = 100_000
# Who calls `drain` after so long (seconds) has kept the loop busy meanwhile: it has sent a large message, say. What has
# come is handled first, which takes two rounds of the loop. In one round the caller's task stands before the callback
# that finds what has come: it would send the next message, and a small request would wait for that one, too.
AWAY: Final = 0.001


class TurnLoop:
    """Works while there is something to do, polls for more if that has paid lately, and rests.

    Args:
        driver: how the loop calls back.
        poller: woken when a callback raises, so that the loop comes back for what is left of the turn.
    """

    def __init__(self, driver: Driver, poller: Poller) -> None:
        self.driver = driver
        self.poller = poller
        self._busy_poll = BusyPoll()
        self._scheduled = False
        self._lingers = False  # the scheduled turn polls first, for nothing is known to be there
        self.drained: float = 0.0  # when `drain` has returned last

    @property
    def is_busy(self) -> bool:
        """Whether the last turn has left something to do, as far as is known, for the next."""
        return self._scheduled and not self._lingers

    def work(self) -> bool:
        """Do what there is to do now, for a while: whether there may be more."""
        raise NotImplementedError

    def poll_rings(self, nanoseconds: int) -> bool | None:
        """Wait for so long for something to do, and return whether there is. None: others want the processor."""
        raise NotImplementedError

    def rest(self) -> None:
        """There is nothing to do: be woken by what comes."""
        raise NotImplementedError

    def turn(self, *, linger: bool = False) -> None:
        """Have a turn. `linger`: only if polling finds something, else rest."""
        busy_poll, driver = self._busy_poll, self.driver
        try:
            if linger and not busy_poll.report(self.poll_rings(busy_poll.nanoseconds)):
                self.rest()
                return
            until = time.monotonic_ns() + POLLING_TURN if busy_poll.nanoseconds else 0
            busy = self.work()
            while not busy and until and not driver.started and time.monotonic_ns() < until:
                if not self.poll_rings(SHORT_POLL):
                    break
                busy = self.work()
            driver.started = False
            if busy:
                self.next_turn()
            elif busy_poll.nanoseconds:
                self.next_turn(linger=True)  # when the tasks that this turn has woken have sent what they will
            else:
                busy_poll.rested()
                self.rest()
        except BaseException:  # Ctrl-C in a listener, say: what is left is still to be handled
            self.poller.wake()
            raise

    def next_turn(self, *, linger: bool = False) -> None:
        """Have a turn when other callbacks of the loop have had theirs. `linger`: as `turn` takes it."""
        self._lingers = linger and (self._lingers or not self._scheduled)
        if not self._scheduled:
            self._scheduled = True
            self.driver.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._scheduled = False
        if not self.poller.closed:
            self.turn(linger=self._lingers)
