# SPDX-License-Identifier: MIT
"""Messages that have much of one thing: depth, references, keys of one hash, calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fuzz import assembler as asm
from fuzz.arguments import pick

if TYPE_CHECKING:
    from fuzz.grammar import Grammar


def deep(g: Grammar, count: int) -> bytes:
    kind = g.bits(3)
    count *= 8
    if kind == 0:
        return asm.LIST * count + asm.APPEND * (count - 1)
    if kind == 1:
        return asm.NOTHING + b"\x85" * count
    if kind == 2:
        return (asm.DICT + asm.NONE) * count + asm.NONE + asm.SETITEM * count
    if kind == 3:
        return asm.MARK * count + asm.FROZENSET * count
    if kind == 4:
        count = min(count, 2000)
        start = g.named("as_error") + asm.MARK + asm.text("KeyError") + asm.NOTHING
        return start * count + asm.NONE + (asm.NOTHING + asm.NONE + b"tR") * count
    if kind == 5:
        return asm.DICT + asm.NOTHING + b"\x85" * count + asm.NONE + asm.SETITEM
    name = pick(g, g.names)
    count = min(count, 2000)
    return (g.named(name) + asm.MARK) * count + g.value() + (asm.TUPLE + asm.REDUCE) * count


def doubled(g: Grammar, count: int) -> bytes:
    """Each level refers to the one below twice."""
    kind = g.bits(3)
    named = g.callees.get("as_error", asm.NONE)
    out = [asm.DICT if kind & 1 else b"", asm.NOTHING, asm.MEMOIZE]
    for index in range(min(count, 200)):
        below = asm.get(index)
        if kind < 3:
            level = asm.sequence(below, below)
        elif kind == 3:
            level = asm.MARK + asm.sequence(below, below) + below + asm.FROZENSET
        elif kind == 4:
            level = asm.LIST + asm.MARK + below + below + asm.APPENDS
        elif kind == 5:
            level = asm.MARK + below + asm.number(index) + asm.FROZENSET
        elif kind == 6:
            level = asm.DICT + asm.MARK + asm.number(1) + below + asm.number(2) + below + asm.SETITEMS
        else:
            two = asm.sequence(below, below)
            level = named + asm.MARK + asm.text("KeyError") + two + asm.NONE + asm.NOTHING + asm.NONE + b"tR"
        out += [level, asm.MEMOIZE]
    return b"".join(out) + (asm.NONE + asm.SETITEM if kind & 1 else b"")


def one_in_many(g: Grammar, count: int) -> bytes:
    """One large value that many small ones refer to."""
    kind = g.bits(2)
    large = [
        asm.long(1 << 8 * count),
        asm.raw(bytes(count)),
        asm.text("x" * count),
        asm.sequence(*[b"K\1"] * (count + 4)),
    ][kind]
    g.memo = 1
    if g.bits(1):
        return asm.MARK + large + asm.MEMOIZE + b"h\0h\0\x86" * count + asm.TUPLE
    name = pick(g, g.names)
    call = g.named(name) + asm.MARK + b"".join(b"h\0" if g.bits(1) else g.value() for _ in range(1 + g.bits(2))) + b"tR"
    return asm.MARK + large + asm.MEMOIZE + call * min(count, 500) + asm.TUPLE


def alike(g: Grammar, count: int) -> bytes:
    """Keys whose hashes are equal, or run along one chain of a table."""
    kind = g.bits(3)
    prime = (1 << 61) - 1
    named, two = g.named, asm.sequence

    def key(index: int) -> bytes:
        if kind == 0:
            return asm.number(index * prime)
        if kind == 1:
            return two(asm.number(index * prime), asm.NONE)
        if kind == 2:
            return named("as_complex") + two(asm.real(float(index << 20)), asm.real(0.0)) + asm.REDUCE
        if kind == 3:
            return named("as_timedelta") + two(asm.number(index), asm.number(0), asm.number(0)) + asm.REDUCE
        if kind == 4:
            return named("as_fraction") + two(asm.number(1 + index * prime), asm.number(1)) + asm.REDUCE
        if kind == 5:
            return named("as_network") + two(asm.text("IPv6Address"), asm.text(f"::{index:x}")) + asm.REDUCE
        if kind == 6:
            return named("as_decimal") + two(asm.text(str(index * prime))) + asm.REDUCE
        return asm.real(float(index << 30))

    return asm.SET + asm.MARK + b"".join(map(key, range(count))) + asm.ADDITEMS


def colliding(g: Grammar, count: int) -> bytes:
    """A key, and a number that has its hash, so that a dict compares them."""
    kind = g.bits(2)
    for size in range(count + 1, count + 1000):  # of an empty range the hash is not the same each time
        key: Any = (
            range(size << 40) if kind < 2 else tuple(range(size % 200)) if kind == 2 else frozenset(range(size % 200))
        )
        if abs(hash(key)) < (1 << 61) - 1:
            break
    body = b"".join(map(asm.number, key)) if kind > 1 else b""
    if kind < 2:
        told = g.named("as_range") + asm.sequence(asm.number(0), asm.number(key.stop), asm.number(1)) + asm.REDUCE
    else:
        told = asm.MARK + body + (asm.TUPLE if kind == 2 else asm.FROZENSET)
    value = asm.number(hash(key))
    same = [
        g.named("as_number") + asm.sequence(asm.text("<i8"), value) + asm.REDUCE,
        g.named("as_fraction") + asm.sequence(value, asm.number(1)) + asm.REDUCE,
        g.named("as_decimal") + asm.sequence(asm.text(str(hash(key)))) + asm.REDUCE,
        value,
    ][g.bits(2)]
    two = [told, same] if g.bits(1) else [same, told]
    return asm.SET + asm.MARK + b"".join(two) + asm.ADDITEMS


def many_calls(g: Grammar, count: int) -> bytes:
    name = pick(g, g.names)
    return asm.MARK + b"".join(g.call(name) for _ in range(min(count, 300))) + asm.TUPLE


LARGE: list[Callable[[Grammar, int], bytes]] = [deep, doubled, one_in_many, alike, many_calls, colliding]
