# SPDX-License-Identifier: MIT
"""Attacks by what lies in the ring: positions, headers, fragments."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from hostile.catalogue import EITHER, INVALID, VALID, attack, attacks
from hostile.renderer import (
    CAPACITY,
    CONTINUED,
    DATA_OFFSET,
    FRAME,
    FRAME_MAX,
    MESSAGE_LIMIT,
    MORE,
    RINGS,
    SLEEPERS,
    Renderer,
    frame,
)
from lensipc import clone
from lensipc.runtime.protocol import ALL, EVENT, INVOKE, LISTEN

# ---- positions ----


@attacks(INVALID, "write_pos_moved_by", CAPACITY + 8, 2**63, -8, 1, 4, 2**32)
def _write_pos(renderer: Renderer, _rng: random.Random, by: int) -> None:
    renderer.poke(RINGS + 128, renderer.write_pos + by)


@attacks(INVALID, "write_pos_set_to", 2**64 - 8, 2**64 - 1, 3)
def _write_pos_to(renderer: Renderer, _rng: random.Random, to: int) -> None:
    renderer.poke(RINGS + 128, to)


@attack(INVALID)
def read_pos_past_what_main_wrote(renderer: Renderer, _rng: random.Random) -> None:
    renderer.poke(RINGS + 64, 2**63)
    for _ in range(4):  # main looks at it only when it seems to lack room
        renderer.invoke(0, bytes(FRAME_MAX))


@attack(INVALID)
def read_pos_is_wrong_when_an_async_handler_replies(renderer: Renderer, _rng: random.Random) -> None:
    channel = renderer.declare("async echo")
    renderer.poke(RINGS + 64, 4)
    for _ in range(10):
        renderer.invoke(channel, bytes(FRAME_MAX // 2))


@attack(INVALID)
async def read_pos_is_wrong_when_main_broadcasts(renderer: Renderer, _rng: random.Random) -> None:
    renderer.send(LISTEN, renderer.declare("news"))
    await renderer.parked()
    renderer.poke(RINGS + 64, 2**64 - 8)
    for _ in range(3):
        renderer.host.ipc.broadcast("news", bytes(CAPACITY // 2))


@attack(VALID)
def positions_of_main_itself_are_overwritten(renderer: Renderer, _rng: random.Random) -> None:
    renderer.memory[RINGS : RINGS + 8] = b"\xff" * 8  # main never reads these two back, only this side does
    renderer.memory[RINGS + 192 : RINGS + 200] = b"\xff" * 8


@attack(VALID)
def magic_version_capacity_and_parked_flags_are_overwritten(renderer: Renderer, rng: random.Random) -> None:
    renderer.memory[:64] = rng.randbytes(64)
    for side in range(2):
        at = SLEEPERS + 64 * side
        renderer.memory[at + 4 : at + 64] = rng.randbytes(60)
    renderer.wake()


# ---- headers ----


@attacks(
    INVALID,
    "header_with",
    {"kind": 0},
    {"reserved": 1},
    {"flags": 4},
    {"flags": 0xFFFF},
    {"size": 5},
    {"total": 3},
    {"size": 0xFFFFFFFF},
    {"size": 0xFFFFFFFF, "total": 2**64 - 1},
    {"size": FRAME_MAX + 1, "total": FRAME_MAX + 1},
    {"size": CAPACITY, "total": CAPACITY},
    {"size": 2000, "total": 2000},  # more than was published
    {"total": 2**62 + 1, "flags": MORE},
    {"total": 2**64 - 1, "flags": MORE},
    {"total": MESSAGE_LIMIT + 1, "flags": MORE},  # one byte more than this host allows
)
def _header(renderer: Renderer, _rng: random.Random, lie: dict[str, int]) -> None:
    words: dict[str, Any] = {"kind": EVENT, "body": b"12345678"}
    renderer.put(frame(**(words | lie)))


@attack(INVALID)
def zeros_where_a_frame_should_be(renderer: Renderer, _rng: random.Random) -> None:
    renderer.put(bytes(FRAME.size))


@attack(INVALID)
def fewer_bytes_published_than_a_header_has(renderer: Renderer, _rng: random.Random) -> None:
    renderer.put(frame(EVENT), publish=8)


@attack(INVALID)
def random_bytes_where_a_frame_should_be(renderer: Renderer, rng: random.Random) -> None:
    renderer.put(b"\xff" + rng.randbytes(1023))


@attack(EITHER)
async def the_header_changes_while_main_reads_it(renderer: Renderer, rng: random.Random) -> None:
    import threading

    place = DATA_OFFSET + renderer.capacity + renderer.write_pos % renderer.capacity
    stop = threading.Event()

    def flip() -> None:
        while not stop.is_set():
            renderer.memory[place + 16 + rng.randrange(20)] = rng.randrange(256)

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        for _ in range(5):
            if not renderer.gone:
                renderer.put(frame(EVENT, 0, ALL, body=clone.encode((1,))))
                await asyncio.sleep(0.002)
    finally:
        stop.set()
        thread.join()


# ---- fragments ----

_HALF = {"kind": INVOKE, "correlation": 2**40, "body": bytes(64), "total": 128}


@attacks(
    INVALID,
    "fragments",
    [_HALF | {"flags": CONTINUED}],
    [_HALF | {"flags": MORE | CONTINUED}],
    [_HALF | {"flags": 0}],
    [_HALF | {"flags": MORE, "total": 64}],
    [_HALF | {"flags": MORE}, _HALF | {"flags": CONTINUED, "total": 129}],
    [_HALF | {"flags": MORE}, _HALF | {"flags": CONTINUED, "correlation": 2**40 + 1}],
    [_HALF | {"flags": MORE}, _HALF | {"flags": CONTINUED, "channel": 1}],
    [_HALF | {"flags": MORE}, _HALF | {"flags": CONTINUED, "kind": EVENT}],
    [_HALF | {"flags": MORE}, _HALF | {"flags": CONTINUED, "detail": 9}],
    [_HALF | {"flags": MORE}, _HALF | {"flags": CONTINUED, "pid": 9}],
    [_HALF | {"flags": MORE}, _HALF | {"flags": MORE | CONTINUED}],
    [_HALF | {"flags": MORE}, _HALF | {"flags": MORE}],
    [_HALF | {"flags": MORE}, _HALF | {"flags": 0}],
    [_HALF | {"flags": MORE}, _HALF | {"flags": CONTINUED, "body": bytes(72)}],
    [_HALF | {"flags": MORE}, _HALF | {"flags": CONTINUED, "body": bytes(56)}],
    [_HALF | {"flags": MORE}, _HALF | {"flags": MORE | CONTINUED, "body": b""}],
    [_HALF | {"flags": MORE, "body": b""}],
    [_HALF | {"flags": MORE, "body": b"", "total": 0}],
    [_HALF | {"flags": MORE}, {"kind": EVENT, "body": b""}],  # another message in the midst
)
def _fragments(renderer: Renderer, _rng: random.Random, frames: list[dict[str, Any]]) -> None:
    renderer.put(*(frame(**each) for each in frames))


@attack(VALID)
async def a_message_byte_by_byte_is_a_message(renderer: Renderer, _rng: random.Random) -> None:
    correlation, body = renderer.next_id(), clone.encode(("slow",))
    for i in range(len(body)):
        flags = (CONTINUED if i else 0) | (MORE if i + 1 < len(body) else 0)
        renderer.put(
            frame(INVOKE, 0, correlation=correlation, body=body[i : i + 1], total=len(body), flags=flags),
        )
        await asyncio.sleep(0)
    record = await renderer.outcome(correlation)
    assert clone.decode(record.body) == ("slow",)


@attack(VALID)
async def a_large_message_is_announced_and_never_sent(renderer: Renderer, _rng: random.Random) -> None:
    renderer.put(frame(EVENT, 0, ALL, body=b"x", total=MESSAGE_LIMIT, flags=MORE))
    await renderer.parked()
    renderer.close()


@attack(VALID)
async def the_socket_closes_in_the_midst_of_a_message(renderer: Renderer, _rng: random.Random) -> None:
    renderer.put(frame(INVOKE, 0, correlation=1, body=bytes(64), total=128, flags=MORE))
    renderer.close()
