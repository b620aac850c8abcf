# SPDX-License-Identifier: MIT
"""Attacks by what values hold: what would crash, hang or fill main if it believed them, or harm whoever uses them."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Callable

from fuzz.assembler import call, callee, number, text

from hostile.catalogue import EITHER, INVALID, VALID, attacks
from hostile.renderer import Renderer
from lensipc.runtime.protocol import ALL, ERROR, EVENT

P = b"\x80\x05"


def _fields(size: int, *told: tuple[int, bytes]) -> bytes:
    each = (text(f"f{i}") + number(offset) + dtype + b"\x87" for i, (offset, dtype) in enumerate(told))
    return b"(" + text("fields") + number(size) + b"\x89" + b"".join(each) + b"t"


def _array(dtype: bytes, memory: bytes, *shape: int) -> bytes:
    data = b"B" + struct.pack("<I", len(memory)) + memory
    return call("as_array", dtype, text("C"), data, *map(number, shape))


def _error(kind: str, *args: bytes) -> bytes:
    return call("as_error", text(kind), b"(" + b"".join(args) + b"t", b"N", b")", b"N")


def _doubled(times: int) -> bytes:
    """A tuple that holds another twice, that holds another twice, and so on."""
    return b")\x85\x94" + b"".join(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86\x94" for i in range(times))


_COLLIDING = b"".join(number(k * (2**61 - 1)) + b"N" for k in range(1, 20_000))

REFUSED: dict[str, bytes] = {
    "a_field_beyond_its_item": _array(_fields(8, (2**31 - 1, text("|b1"))), bytes(8), 1),
    "items_without_bytes": _array(text("|S0"), b"", 2**33),
    "a_unit_of_no_time": call("as_scalar", text("<M8[0s]"), b"C\x08" + bytes(8)),
    "texts_in_fields_that_overlap": _array(_fields(4000, *[(0, text("<U1000"))] * 1500), bytes(4000 * 500), 500),
    "an_error_of_a_network": _error("SyntaxError", call("as_network", text("IPv6Network"), text("::/0"))),
    "an_error_that_lies": _error("UnicodeDecodeError", text("utf-8"), b"C\1x", number(-40), number(3), text("y")),
    "shared_parts": _doubled(60),
    "a_key_of_shared_parts": b"}" + _doubled(60) + b"Ns",
    "a_tower": b"(" * 100_000 + b"t" * 100_000,
    "lists_in_each_other": b"]" * 100_000 + b"a" * 99_999,
    "colliding_keys": b"}(" + _COLLIDING + b"u",
    "colliding_elements": b"\x8f(" + _COLLIDING.replace(b"N", b"") + b"\x90",
    "a_tuple_hashed_under_stale_notes": (
        call("as_is", text("lensipc.values")) + b"\x940" + call("as_is", text("as_is")) + b"\x940("
        + b"K\7" * 10_000 + b"t\x85\x940](" + b"}h\0h\1\x93h\2RNs" * 20_000 + b"e"
    ),
    "constructors_beyond_the_budget": (
        callee("lensipc.values", "as_network") + b"\x94" + text("IPv4Address") + text("0.0.0.0")
        + b"\x86\x94R0](" + b"h\0h\1R" * 20_000 + b"e"
    ),
    "more_plain_values_than_may_be": b"](" + b"N" * 2_000_000 + b"e",
    "sets_without_end": b"](" + b"\x8f" * 500_000 + b"e",
}  # fmt: skip
"""What no honest renderer sends, by what would become of who believes it."""


def _as_arguments(value: bytes) -> bytes:
    return P + b"(" + value + b"t."


@attacks(INVALID, "invokes_nobody_with", *REFUSED)
def _invokes(renderer: Renderer, _rng: random.Random, name: str) -> None:
    renderer.invoke(renderer.declare("nobody handles this"), body=_as_arguments(REFUSED[name]))


@attacks(INVALID, "main_hears", *REFUSED)
def _main_hears(renderer: Renderer, _rng: random.Random, name: str) -> None:
    renderer.send(EVENT, renderer.declare("heard in main"), ALL, body=_as_arguments(REFUSED[name]))


@attacks(EITHER, "the_neighbour_hears", *sorted(REFUSED.keys() - {"more_plain_values_than_may_be"}))
async def _neighbour_hears(renderer: Renderer, _rng: random.Random, name: str) -> None:
    channel = renderer.declare("news")
    for _ in range(3):  # main looks at the later ones, once the neighbour has reported the first
        renderer.send(EVENT, channel, ALL, body=_as_arguments(REFUSED[name]))
        await renderer.parked()
        await asyncio.sleep(0.02)


@attacks(EITHER, "tells_an_error", *REFUSED)
def _tells(renderer: Renderer, _rng: random.Random, name: str) -> None:
    for correlation in (0, 1, 2**64 - 1):
        renderer.send(ERROR, correlation=correlation, body=_as_arguments(REFUSED[name])[:2000])


@attacks(VALID, "costs_all_that_it_may", "addresses", "arrays", "colliding keys", "plain values", "lists")
async def _costs(renderer: Renderer, _rng: random.Random, what: str) -> None:
    """Ten invokes, one after the other: each keeps main away for as long as one may."""
    body = costly(what)
    channel = renderer.declare("nobody handles this")
    for _ in range(10):
        record = await renderer.outcome(renderer.invoke(channel, body=body))
        assert record is not None
        assert record.kind == ERROR


def costly(what: str) -> bytes:
    """A message that uses up nearly all of the budget that a renderer by path has."""
    value: Callable[[], bytes] = {
        "addresses": lambda: REFUSED["constructors_beyond_the_budget"].replace(b"h\0h\1R" * 20_000, b"h\0h\1R" * 3000),
        "colliding keys": lambda: b"}(" + b"".join(number(k * (2**61 - 1)) + b"N" for k in range(1, 800)) + b"u",
        "plain values": lambda: b"](" + b"N" * 1_400_000 + b"e",
        "arrays": lambda: (
            callee("lensipc.values", "as_array")
            + b"\x94("
            + text("<i4")
            + b"\x94"
            + text("C")
            + b"C\4abcdK\1tR0]("
            + (b"h\0(h\1" + text("C") + b"C\4abcdK\1tR") * 9000
            + b"e"
        ),
        "lists": lambda: b"](" + b"]" * 200_000 + b"e",
    }[what]
    return _as_arguments(value())


__all__ = ["REFUSED", "costly"]
