# SPDX-License-Identifier: MIT
"""One of eight receivers is stopped for a while: the others keep their rate, main its memory, and nobody's events are
lost uncounted.

    python tests/faults/slow.py --count 1 --seconds 10

Main broadcasts as fast as the receivers read. Once with all of them running, once with one of them stopped that
allowed its events to be dropped, and once with one that did not: that one is disconnected.
"""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from typing import Any

import command
from command import Before, beat
from hosting import Host, hosting
from loads import rss

RECEIVERS = 8
LIMITS = {"high_water": 1024 * 1024, "outbox_limit": 8 * 1024 * 1024}
# What main may grow by while one does not read: its outbox, as Python allocates it, and room for the others'.
GROWTH = 4 * LIMITS["outbox_limit"]


class Sender:
    """Main, broadcasting as fast as its receivers read."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.sent = 0
        self.most = 0  # bytes that main had

    async def send(self, seconds: float) -> float:
        """For so long; events a second."""
        ipc, until, first, started = self.host.ipc, time.monotonic() + seconds, self.sent, time.monotonic()
        while time.monotonic() < until:
            beat()
            for _ in range(50):
                ipc.broadcast("n", self.sent, bytes(200))
                self.sent += 1
            await ipc.drain()
            self.most = max(self.most, rss())
        await self.all_have_it()
        return (self.sent - first) / (time.monotonic() - started)

    async def all_have_it(self) -> None:
        """The receivers that run have heard all."""
        for renderer in self.host.renderers:
            if renderer in self.host.main.renderers and renderer.pid not in stopped:
                told = await self.host.ipc.run(renderer, "tallies:told", "n", self.sent - 1)
                assert told == {"heard": self.sent, "missed": 0, "wrong": 0, "last": self.sent - 1}


stopped: set[int] = set()


async def main(seed: int, count: int, seconds: float) -> dict[str, Any]:
    """So many times, each with a rest of so many seconds."""
    _ = random.Random(seed)  # nothing here is random but the machine
    before, rounds = Before(), []
    for _ in range(count):
        async with hosting(RECEIVERS, **LIMITS) as host:
            rounds.append(await one(host, seconds))
    await before.again()
    return {"rounds": rounds}


async def one(host: Host, seconds: float) -> dict[str, Any]:
    """One that may be dropped for, and one that may not."""
    dropping, strict, *others = host.renderers
    for renderer in host.renderers:
        await host.ipc.run(renderer, "tallies:tally", "n", "drop_oldest" if renderer is dropping else "disconnect")
    sender = Sender(host)
    stopped.add(dropping.pid)  # not asked what it has heard: even awake it may miss some
    await sender.send(min(seconds, 1.0))
    awake = await sender.send(seconds)
    memory = sender.most = rss()
    os.kill(dropping.pid, signal.SIGSTOP)
    with_one_stopped = await sender.send(seconds)
    grown = sender.most - memory
    os.kill(dropping.pid, signal.SIGCONT)
    while (told := await host.ipc.run(dropping, "tallies:told", "n"))["last"] < sender.sent - 1:
        host.ipc.broadcast("n", sender.sent, b"")  # what tells it of the last gap
        sender.sent += 1
        await host.ipc.drain()
    stopped.discard(dropping.pid)
    assert told["heard"] + told["missed"] == sender.sent, f"{told}, of {sender.sent}"
    assert told["wrong"] == 0
    assert dropping in host.main.renderers
    stopped.add(strict.pid)
    stopped.add(dropping.pid)
    os.kill(strict.pid, signal.SIGSTOP)
    with_one_leaving = await sender.send(seconds)
    while strict in host.main.renderers:  # a slow machine needs longer to fill its outbox
        await sender.send(0.1)
    grown = max(grown, sender.most - memory)
    with suppress(ProcessLookupError):  # main kills one that it has started and that does not leave in 3 s
        os.kill(strict.pid, signal.SIGCONT)
    assert strict not in host.main.renderers
    assert await strict.wait() in (0, -signal.SIGKILL)
    stopped.clear()
    assert {each.frame_id for each in host.main.renderers} == {each.frame_id for each in [dropping, *others]}
    assert grown < GROWTH, f"main has grown by {grown} bytes"
    return {
        "events sent": sender.sent,
        "events/s": round(awake),
        "with one stopped, %": round(100 * with_one_stopped / awake, 1),
        "with one that is disconnected, %": round(100 * with_one_leaving / awake, 1),
        "the stopped one heard": told["heard"],
        "and knows that it missed": told["missed"],
        "main has grown by": grown,
    }


if __name__ == "__main__":
    command.run(__doc__, 1, main, seconds=10.0)
