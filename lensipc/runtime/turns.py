# SPDX-License-Identifier: MIT
"""The turns of a core: what it does in one callback of its loop, and when the loop is to call it again."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..transport.busy_poll import POLLING_TURN, SHORT_POLL, BusyPoll
from ..transport.poller import Poller
from .driver import Driver


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
        self._step: Callable[[], None] | None = None

    def work(self) -> bool:
        """Do what there is to do now, for a while: whether there may be more."""
        raise NotImplementedError

    def has_work(self) -> bool:
        """Whether something waits here already, for which no ring need be looked at."""
        raise NotImplementedError

    def poll_rings(self, nanoseconds: int) -> bool | None:
        """Look for so long whether something comes; None: others want the processor."""
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
            self.next(self.turn)
        elif busy_poll.nanoseconds:
            self.next(self._linger)  # when the tasks that this turn has woken have sent what they will
        else:
            busy_poll.rested()
            self.rest()

    def _linger(self) -> None:
        """Poll for longer, before resting."""
        if self.has_work() or self._busy_poll.report(self.poll_rings(self._busy_poll.nanoseconds)):
            self.turn()
        else:
            self.rest()

    def next(self, step: Callable[[], None]) -> None:
        """Take this step when other callbacks of the loop have had their turn, unless another is on its way: each looks
        for all there is to do."""
        if self._step is None:
            self._step = step
            self.driver.call_soon(self._take_step)

    def _take_step(self) -> None:
        step, self._step = self._step, None
        if step is not None and not self.poller.closed:
            step()
