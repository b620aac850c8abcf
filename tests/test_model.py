# SPDX-License-Identifier: MIT
"""Every interleaving of the handshake that lets a side sleep (wakeup.c), on processors with store buffers.

The model is x86's total store order: a store goes to its processor's own first-in-first-out buffer and
reaches memory at any later time; a load sees that buffer first; a fence or an atomic exchange waits until it
is empty. The steps are those of the code, with its labels: S1 to S4 of the sleeper, P1 to P4 of the waker. A
position that says "there are frames" and one that says "there is room" take the same steps, so one model
stands for both.

A wake is lost when a sleeper sleeps, no signal is pending, and the waker is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

DATA, SPACE = 1, 2


@dataclass(frozen=True)
class Side:
    """One processor: where it is in its program, and the stores that wait in its buffer."""

    pc: int = 0
    buffer: tuple[tuple[str, int], ...] = ()
    rounds: int = 0  # completed: publishings of the waker, takings of the sleeper


@dataclass(frozen=True)
class State:
    sleeper: Side = Side()
    waker: Side = Side()
    published: int = 0  # memory
    parked: int = 0
    signals: int = 0

    def load(self, side: Side, name: str) -> int:
        for stored, value in reversed(side.buffer):
            if stored == name:
                return value
        return int(getattr(self, name))


def drained(state: State, who: str) -> Iterator[State]:
    """The oldest store of a buffer reaches memory."""
    side: Side = getattr(state, who)
    if side.buffer:
        (name, value), rest = side.buffer[0], side.buffer[1:]
        yield replace(state, **{who: replace(side, buffer=rest), name: value})


def waker_steps(state: State, fence: bool, rounds: int, reason: int) -> Iterator[State]:
    me = state.waker
    if me.rounds == rounds:
        return

    def go(pc: int, **changes: int) -> State:
        return replace(state, waker=replace(me, pc=pc), **changes)

    if me.pc == 0:  # P1: publish
        stored = (*me.buffer, ("published", me.rounds + 1))
        yield replace(state, waker=replace(me, pc=1, buffer=stored))
    elif me.pc == 1:  # P2: fence
        if not fence or not me.buffer:
            yield go(2)
    elif me.pc == 2:  # P3: parked & reason
        if state.load(me, "parked") & reason:
            yield go(3)
        else:
            yield replace(state, waker=replace(me, pc=0, rounds=me.rounds + 1))
    elif not me.buffer:  # P4: signal if exchange(parked, 0), which waits for the buffer as a fence does
        signals = state.signals + (state.parked != 0)
        yield replace(state, waker=replace(me, pc=0, rounds=me.rounds + 1), parked=0, signals=min(signals, rounds + 1))


def sleeper_steps(state: State, fence: bool, rounds: int, reasons: int, atomic_or: bool) -> Iterator[State]:
    me = state.sleeper
    taken = me.rounds  # all that was published when it last looked
    if taken == rounds:
        return

    def look(pc_if_none: int, unpark: bool) -> State:
        published = state.load(me, "published")
        if published == taken:
            return replace(state, sleeper=replace(me, pc=pc_if_none))
        buffer = (*me.buffer, ("parked", 0)) if unpark else me.buffer
        return replace(state, sleeper=Side(pc=0, buffer=buffer, rounds=published))

    if me.pc == 0:  # takes what there is
        yield look(1, unpark=False)
    elif me.pc == 1:  # S1: parked |= reasons, an atomic of x86 and so a fence by itself; elsewhere it is none
        if not atomic_or:
            yield replace(state, sleeper=replace(me, pc=2, buffer=(*me.buffer, ("parked", reasons))))
        elif not me.buffer:
            yield replace(state, sleeper=replace(me, pc=2), parked=state.parked | reasons)
    elif me.pc == 2:  # S2: fence
        if not fence or not me.buffer:
            yield replace(state, sleeper=replace(me, pc=3))
    elif me.pc == 3:  # S3: look again; unpark when there is something
        yield look(4, unpark=True)
    elif state.signals:  # S4: sleeps until there is a signal; all of them wake it once
        yield replace(state, sleeper=replace(me, pc=0), signals=0)


def lost_wakes(
    *, sleeper_fence: bool, waker_fence: bool, reasons: int = DATA, atomic_or: bool = False, rounds: int = 3
) -> list[State]:
    """Explore everything and return the states in which nothing can happen any more but something should."""
    seen = {State()}
    pending = [State()]
    lost = []
    while pending:
        state = pending.pop()
        following = [
            *waker_steps(state, waker_fence, rounds, DATA),
            *sleeper_steps(state, sleeper_fence, rounds, reasons, atomic_or),
            *drained(state, "waker"),
            *drained(state, "sleeper"),
        ]
        if not following and state.sleeper.rounds < rounds:
            lost.append(state)
        for step in following:
            if step not in seen:
                seen.add(step)
                pending.append(step)
    assert len(seen) > 100, "the model explores next to nothing"
    return lost


@pytest.mark.parametrize("reasons", [DATA, DATA | SPACE])
@pytest.mark.parametrize("atomic_or", [False, True])
def test_with_both_fences_no_wake_is_lost(reasons: int, atomic_or: bool) -> None:
    assert lost_wakes(sleeper_fence=True, waker_fence=True, reasons=reasons, atomic_or=atomic_or) == []


def test_without_the_sleepers_fence_a_wake_is_lost() -> None:
    assert lost_wakes(sleeper_fence=False, waker_fence=True)


def test_without_the_wakers_fence_a_wake_is_lost() -> None:
    assert lost_wakes(sleeper_fence=True, waker_fence=False)
    assert lost_wakes(sleeper_fence=True, waker_fence=False, atomic_or=True)


def test_on_x86_the_sleepers_atomic_or_fences_by_itself() -> None:
    """It need not elsewhere: the fence of the code is for those processors, and for the compiler."""
    assert lost_wakes(sleeper_fence=False, waker_fence=True, atomic_or=True) == []
