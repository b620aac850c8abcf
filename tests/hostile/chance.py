# SPDX-License-Identifier: MIT
"""Attacks at random."""

from __future__ import annotations

import asyncio
import random
from typing import Any, Final

from hostile.catalogue import EITHER, Named
from hostile.renderer import CAPACITY, RINGS, Renderer, frame
from hostile.words import bodies_of_no_use
from lensipc import clone
from lensipc.runtime.protocol import (
    ALL,
    CANCEL,
    CREDIT,
    DECLARE,
    ERROR,
    EVENT,
    INVOKE,
    LISTEN,
    RESULT,
    STREAM,
    UNLISTEN,
)


async def at_random(renderer: Renderer, rng: random.Random) -> None:
    """A few messages like an honest renderer's, some of them bent."""
    renderer.declare("async echo")
    renderer.declare("news")
    renderer.declare("endless")
    renderer.send(LISTEN, 2, rng.randrange(3))
    bodies = [clone.encode((rng.randrange(10),)), *bodies_of_no_use().values()]
    numbers = [0, 1, 2, 3, 255, 2**16, 2**31, 2**32 - 1]
    for _ in range(rng.randrange(1, 12)):
        body = bodies[0] if rng.random() < 0.7 else rng.choice(bodies)
        if rng.random() < 0.2:
            body = bytearray(body)  # type: ignore[assignment]
            for _ in range(rng.randrange(1, 4)):
                if body:
                    body[rng.randrange(len(body))] = rng.randrange(256)  # type: ignore[index]
            body = bytes(body)
        fields: dict[str, Any] = {
            "kind": rng.choice(
                [EVENT, INVOKE, INVOKE, CANCEL, LISTEN, UNLISTEN, RESULT, ERROR, DECLARE, STREAM, CREDIT]
            ),
            "channel": rng.randrange(4) if rng.random() < 0.8 else rng.choice(numbers),
            "detail": rng.choice([ALL, 0, 1, 64, renderer.extension, renderer.frame_id]),
            "pid": rng.choice(numbers),
            "correlation": renderer.next_id() if rng.random() < 0.8 else rng.choice([*numbers, 2**63, 2**64 - 1]),
            "body": body,
        }
        if rng.random() < 0.25:
            lie = rng.choice(["total", "size", "flags", "reserved", "kind"])
            fields[lie] = rng.choice([0, 1, 2, 3, 4, len(body), len(body) + 8, 0xFFFF if lie != "total" else 2**62])
        data = bytearray(frame(**fields))
        if rng.random() < 0.15:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        publish = rng.choice([0, 8, len(data) + 8, len(data) + CAPACITY, -8]) if rng.random() < 0.05 else None
        renderer.put(bytes(data), publish=publish)
        if rng.random() < 0.1:
            renderer.poke(RINGS + 8 * rng.randrange(32), rng.choice([0, 8, 2**63, rng.getrandbits(64)]))
        if rng.random() < 0.5:
            await asyncio.sleep(0)
        if renderer.gone:
            return


RANDOM: Final = Named("at_random", at_random, EITHER)
