# SPDX-License-Identifier: MIT
"""Attacks by too much of what is allowed."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

from hosting import until

from hostile.catalogue import INVALID, VALID, attack, attacks
from hostile.renderer import MAX_INVOKES, MESSAGE_LIMIT, Renderer, connect
from lensipc import OutboxFull, PeerGone, clone
from lensipc.main.acceptor import MOST_OF_PROCESS
from lensipc.runtime.protocol import ALL, CANCEL, ERROR, EVENT, INVOKE, LISTEN, RESULT

# ---- floods ----


@attack(INVALID)
async def invokes_without_end_and_reads_nothing(renderer: Renderer, _rng: random.Random) -> None:
    while not renderer.gone:
        renderer.flush()
        with suppress(OutboxFull):  # main reads no more of it
            for _ in range(20):
                renderer.invoke(0, bytes(4000))
        await asyncio.sleep(0)


@attack(INVALID)
async def broadcasts_to_itself_and_reads_nothing(renderer: Renderer, _rng: random.Random) -> None:
    channel = renderer.declare("itself")
    renderer.send(LISTEN, channel)
    body = clone.encode((bytes(4000),))
    while not renderer.gone:
        renderer.flush()
        for _ in range(20):
            renderer.send(EVENT, channel, ALL, body=body)
        await asyncio.sleep(0.001)


@attacks(VALID, "broadcasts_to_itself_and_drops", 1, 2)
async def _drops(renderer: Renderer, _rng: random.Random, policy: int) -> None:
    channel = renderer.declare("itself")
    renderer.send(LISTEN, channel, policy)
    for _ in range(200):
        renderer.send(EVENT, channel, ALL, body=clone.encode((bytes(4000),)))
    await renderer.parked()
    await asyncio.sleep(0.2)  # it is congested, and held for a while
    await renderer.parked()


@attack(VALID)
async def ten_thousand_events_that_nobody_hears(renderer: Renderer, _rng: random.Random) -> None:
    for number in range(10_000):
        renderer.send(EVENT, 0, ALL, body=b"")
        if number % 500 == 0:
            await asyncio.sleep(0)


@attack(INVALID)
async def holds_more_invokes_than_it_may(renderer: Renderer, _rng: random.Random) -> None:
    channel = renderer.declare("sleep")
    body = clone.encode((60.0, "x" * 100))
    for number in range(20 * MAX_INVOKES):  # the answers to those beyond the limit fill its outbox in the end, unread
        renderer.send(INVOKE, channel, correlation=number + 10, body=body)
        if number % 200 == 0:
            await asyncio.sleep(0)
        if renderer.gone:
            return


@attack(VALID)
async def cancels_without_end(renderer: Renderer, rng: random.Random) -> None:
    for number in range(10_000):
        renderer.send(CANCEL, correlation=rng.getrandbits(rng.choice([4, 64])))
        if number % 500 == 0:
            await asyncio.sleep(0)


@attack(VALID)
async def listens_to_a_thousand_channels_and_hears_nothing(renderer: Renderer, rng: random.Random) -> None:
    channels = [renderer.declare(f"one of many {number}") for number in range(1000)]
    for channel in channels:
        renderer.send(LISTEN, channel, rng.randrange(3))
    await renderer.parked()


@attack(VALID)
async def large_invokes_wait_in_slow_handlers(renderer: Renderer, _rng: random.Random) -> None:
    channel = renderer.declare("sleep")
    body = clone.encode((3600.0, "x" * (MESSAGE_LIMIT // 4)))
    for _ in range(20):
        renderer.send(INVOKE, channel, correlation=renderer.next_id(), body=body)
        await renderer.parked()
        renderer.receive()
    assert renderer.host.ipc.running == 3  # four would be more than a message of the largest size
    assert sum(record.kind == ERROR for record in renderer.inbox) == 17
    for correlation in range(1, 21):
        renderer.send(CANCEL, correlation=correlation)
    await renderer.parked()
    await until(lambda: renderer.host.ipc.running == 0)
    again = renderer.next_id()
    renderer.send(INVOKE, channel, correlation=again, body=clone.encode((0.0, "x" * (MESSAGE_LIMIT // 4))))
    assert (await renderer.outcome(again)).kind == RESULT


@attack(VALID)
async def attaches_without_end(renderer: Renderer, _rng: random.Random) -> None:
    main, more, reason = renderer.host.main, [], ""
    assert main.path is not None
    while not reason:
        try:
            more.append(await connect(main.path, renderer.host))
        except PeerGone as error:
            reason = str(error)
    assert "renderers may be connected by its path of process" in reason
    assert len(more) == MOST_OF_PROCESS - 1
    await (await main.spawn_renderer()).close()
    for each in more:
        each.close()
        await each.over()


@attack(VALID)
async def is_disconnected_and_comes_again_without_end(renderer: Renderer, _rng: random.Random) -> None:
    main, more, reason = renderer.host.main, [], ""
    assert main.path is not None
    while not reason:
        try:
            more.append(await connect(main.path, renderer.host))
            more[-1].sock.send(b"what disconnects it")  # and all that main has given it, it keeps
            await until(lambda: more[-1].gone)
        except PeerGone as error:
            reason = str(error)
    assert len(more) == MOST_OF_PROCESS - 1
    await (await main.spawn_renderer()).close()
    for each in more:
        each.close()
