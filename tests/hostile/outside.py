# SPDX-License-Identifier: MIT
"""Attacks from a process of its own, for as long as it lives: for who measures what others notice of them.

    python tests/hostile/outside.py PATH ATTACK

Whenever main disconnects it, it comes again. Prints a line when it begins.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import sys
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path

sys.path[:1] = [str(Path(__file__).parent.parent / "extensions"), str(Path(__file__).parent.parent)]

from hostile.chance import at_random  # noqa: E402 - the path comes first
from hostile.renderer import DATA_OFFSET, Renderer, connect, frame  # noqa: E402
from hostile.values import costly  # noqa: E402
from lensipc import LensIpcError, clone  # noqa: E402
from lensipc.runtime.protocol import ALL, EVENT, INVOKE, LISTEN, UNLISTEN  # noqa: E402

SMALL = clone.encode((1,))


async def floods_events(renderer: Renderer, _rng: random.Random) -> None:
    """That main and the neighbour hear."""
    channel = renderer.declare("flooded")
    while not renderer.gone:
        for _ in range(50):
            renderer.send(EVENT, channel, ALL, body=SMALL)
        await _breathe(renderer)


async def floods_async_listeners(renderer: Renderer, _rng: random.Random) -> None:
    """That main has, and that take a while."""
    channel = renderer.declare("flooded slowly")
    while not renderer.gone:
        for _ in range(50):
            renderer.send(EVENT, channel, ALL, body=SMALL)
        await _breathe(renderer)


async def floods_invokes_and_reads_nothing(renderer: Renderer, _rng: random.Random) -> None:
    """Until it is disconnected for it."""
    while not renderer.gone:
        for _ in range(50):
            renderer.invoke(0, "x" * 500)
        await _breathe(renderer)


async def floods_invokes(renderer: Renderer, _rng: random.Random) -> None:
    """And reads the answers."""
    while not renderer.gone:
        for _ in range(50):
            renderer.invoke(0, "x" * 500)
        renderer.receive()
        renderer.inbox.clear()
        await _breathe(renderer)


async def floods_costly_events(renderer: Renderer, _rng: random.Random) -> None:
    """That main hears, of values that take long to make."""
    channel, body = renderer.declare("costly"), clone.encode(([ip_network(n << 64) for n in range(1000)],))
    while not renderer.gone:
        for _ in range(50):
            renderer.send(EVENT, channel, ALL, body=body)
        await _breathe(renderer)


async def floods_costly_values(renderer: Renderer, _rng: random.Random) -> None:
    """In invokes that nobody handles: each keeps main away for as long as one message may."""
    body = costly("arrays")
    channel = renderer.declare("nobody handles this")
    while not renderer.gone:
        for _ in range(5):
            renderer.invoke(channel, body=body)
        renderer.receive()
        renderer.inbox.clear()
        await _breathe(renderer)


async def declares(renderer: Renderer, _rng: random.Random) -> None:
    """As many channels as there may be, with names as long as they may be, and listens to them."""
    number = 0
    while not renderer.gone:
        for _ in range(50):
            number = renderer.declare(f"{number + 1:04096}")
            renderer.send(LISTEN, number)
        await _breathe(renderer)


async def subscribes(renderer: Renderer, _rng: random.Random) -> None:
    """Listens, and does not."""
    while not renderer.gone:
        for _ in range(50):
            renderer.send(LISTEN, 0)
            renderer.send(UNLISTEN, 0)
        await _breathe(renderer)


async def wakes(renderer: Renderer, _rng: random.Random) -> None:
    """Signals main for nothing."""
    while not renderer.gone:
        for _ in range(200):
            os.eventfd_write(renderer.wakeup_fd, 1)


async def flips_bits(renderer: Renderer, rng: random.Random) -> None:
    """Of frames that main reads."""
    body = clone.encode(({"numbers": list(range(50))},))
    while not renderer.gone:
        renderer.put(frame(INVOKE, 0, correlation=renderer.next_id(), body=body))
        for _ in range(50):
            renderer.memory[rng.randrange(DATA_OFFSET, len(renderer.memory))] ^= 1 << rng.randrange(8)
        await asyncio.sleep(0)


async def connects(renderer: Renderer, _rng: random.Random) -> None:
    """And says nothing, again and again."""
    path = renderer.sock.getpeername()
    while not renderer.gone:
        socks = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) for _ in range(20)]
        for sock in socks:
            sock.connect_ex(path)
        await asyncio.sleep(0.001)
        for sock in socks:
            sock.close()


async def leaves_at_once(_renderer: Renderer, _rng: random.Random) -> None:
    """Attaches and is gone."""


async def _breathe(renderer: Renderer) -> None:
    """Let what waits go out first: this process's memory is not what is tested."""
    while not renderer.gone and renderer.endpoint.flush() > 100_000:
        await asyncio.sleep(0)


ATTACKS = {
    attack.__name__: attack
    for attack in (
        floods_events,
        floods_async_listeners,
        floods_invokes,
        floods_invokes_and_reads_nothing,
        floods_costly_events,
        floods_costly_values,
        declares,
        subscribes,
        wakes,
        flips_bits,
        connects,
        leaves_at_once,
        at_random,
    )
}


async def main(path: Path, name: str) -> None:
    """Until somebody ends this process."""
    rng, begun = random.Random(0), False
    while True:
        renderer = await connect(path, None)
        if not begun:
            print("attacking", flush=True)
            begun = True
        with suppress(LensIpcError, OSError):  # its own endpoint finds what it has bent
            await ATTACKS[name](renderer, rng)
        renderer.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
