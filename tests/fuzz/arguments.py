# SPDX-License-Identifier: MIT
"""What each constructor takes, mostly: from its row in the table, or from a hint, and some of it hostile."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fuzz import assembler as asm
from fuzz.pools import BAD_DTYPES, BYTES, EDGES, EQUALS, FLOATS, INTS, NAMES, POOLS, SIMPLE, STRINGS

if TYPE_CHECKING:
    from fuzz.grammar import Grammar

Maker = Callable[["Grammar"], bytes]
Fragment = bytes | Maker
Pool = Sequence[Fragment]


def pick(g: Grammar, pool: Sequence[Any]) -> Any:
    return pool[g.bits(16) * len(pool) >> 16]


def one(pool: Pool) -> Maker:
    """A maker of any of a pool."""

    def make(g: Grammar) -> bytes:
        found = pool[g.bits(16) * len(pool) >> 16]
        return found if type(found) is bytes else found(g)  # type: ignore[operator]

    return make


def some_number(g: Grammar) -> bytes:
    return asm.number(g.bits(g.bits(6) + 1) * (1 - 2 * g.bits(1)))


def any_value(g: Grammar) -> bytes:
    return g.value()


def some_string(g: Grammar) -> bytes:
    return b"\x8c\x02" + bytes([97 + g.bits(4), 97 + g.bits(4)])


def within(low: int, high: int) -> list[bytes]:
    return [asm.number(value) for value in (low, low + 1, (low + high) // 2, high - 1, high)]


def simple_dtype(text: str) -> tuple[bytes, int]:
    kind, digits = text[1], text[2:].partition("[")[0] or "8"
    return asm.text(text), int(digits) * (4 if kind == "U" else 1)


DTYPES = [simple_dtype(text) for text in SIMPLE]
HOSTILE_DTYPES = [(asm.text(text), 0 if text[2:] == "0" else 8) for text in BAD_DTYPES]
LENGTHS = [asm.number(value) for value in (0, 1, 300, 2048, 1 << 16, 1 << 20, 1 << 33)] + EDGES


def dtype(g: Grammar, hostile: bool, depth: int = 0) -> tuple[bytes, int]:
    """A dtype's fragment, and how long its item is."""
    chance = g.bits(8)
    if hostile and chance < 70:
        return pick(g, HOSTILE_DTYPES)  # type: ignore[no-any-return]
    if chance < 150 + 30 * depth:
        return pick(g, DTYPES)  # type: ignore[no-any-return]
    if chance > 235:
        inner, size = dtype(g, hostile, depth + 1)
        length = g.bits(3)
        told = pick(g, INTS) if hostile and g.bits(1) else asm.number(length)
        return asm.sequence(asm.text("array"), inner, told), size * length
    members = []
    end = offset = 0
    for name in "abcd"[: 1 + g.bits(2)]:
        inner, size = dtype(g, hostile, depth + 1)
        told = asm.number(offset)
        if hostile and g.bits(2) == 0:
            told = pick(g, EDGES if g.bits(1) else INTS)
        if hostile and g.bits(4) == 0:
            name = pick(g, NAMES)
        members.append(asm.sequence(asm.text(name), told, inner))
        end = max(end, offset + size)
        offset = end if g.bits(2) else g.bits(3)
    end += g.bits(1) and g.bits(3)
    told = pick(g, INTS) if hostile and g.bits(3) == 0 else asm.number(end)
    return asm.sequence(pick(g, POOLS["fields"][: 1 + hostile]), told, asm.boolean(g.bits(4) == 0), *members), end


def array_arguments(g: Grammar) -> list[bytes]:
    hostile = g.bits(2) == 0
    told, itemsize = dtype(g, hostile)
    shape = [g.bits(2) for _ in range(g.bits(2))]
    count = itemsize
    for length in shape:
        count *= length
    order = pick(g, POOLS["order"][:2])
    if hostile and g.bits(3) == 0:
        shape.insert(0, 0)
        count = 0
    fragments = [asm.number(length) for length in shape]
    if hostile and not count:
        fragments = [pick(g, LENGTHS) for _ in range(g.bits(2))] + fragments
    elif hostile and g.bits(2) == 0 and fragments:
        fragments[-1] = pick(g, INTS)
    chance = g.bits(5)
    if chance < 2 and g.arrays:
        memory = asm.get(pick(g, g.arrays))
    elif chance < 4 or (g.room and chance < 20):
        memory = asm.number(g.bits(2))
        if g.room and g.bits(2):
            g.buffers.append(count)
    elif chance < 6:
        memory = g.value()
    else:
        memory = asm.raw((b"\x01" if chance & 1 else b"\0") * count if chance & 2 else random_bytes(g, count))
    return [told, order, memory, *fragments]


def random_bytes(g: Grammar, count: int) -> bytes:
    return g.bits(8 * count).to_bytes(count, "little") if count else b""


def scalar_arguments(g: Grammar) -> list[bytes]:
    told, itemsize = dtype(g, g.bits(2) == 0)
    return [told, asm.raw(random_bytes(g, itemsize) if g.bits(1) else bytes(itemsize))]


def packed_arguments(g: Grammar) -> list[bytes]:
    return [pick(g, POOLS["typecode"]), asm.raw(random_bytes(g, 8 * g.bits(3) + (g.bits(3) == 0)))]


def datetime_arguments(g: Grammar) -> list[bytes]:
    chance = g.bits(8)
    year, month, fold = g.bits(13) + 1, g.bits(8) * 12 // 256 + 1, g.bits(1)
    state = struct.pack(
        ">H6BH", year, month | fold << 7, g.bits(4) + 1, g.bits(4), g.bits(5), g.bits(5), g.bits(3), g.bits(16)
    )
    if chance < 10:
        state = random_bytes(g, 10)
    if chance < 128:
        return [asm.raw(state)]
    return [asm.raw(state), zone(g)]


def time_arguments(g: Grammar) -> list[bytes]:
    parts = [g.bits(4), g.bits(5), g.bits(5), g.bits(19), g.bits(1)]
    return [asm.number(part) for part in parts] + ([zone(g)] if g.bits(1) else [])


def zone(g: Grammar) -> bytes:
    chance = g.bits(3)
    if chance == 0:
        return asm.NONE
    return pick(g, POOLS["zone"]) if chance < 3 else asm.number((g.bits(11) - 1024) * 60_000_000 + (chance == 3))


MANY = ["as_network", "as_range", "as_array", "as_packed"]
"""What is iterated over, if anybody does."""


def error_arguments(g: Grammar) -> list[bytes]:
    name = pick(g, POOLS["error"])
    hostile = g.bits(2) == 0
    plain = any_value if hostile else one(STRINGS[:1] + INTS[:20] + [asm.NONE])
    arguments: list[bytes]
    if b"Unicode" in name:
        subject = asm.raw(b"xyz") if b"Decode" in name else asm.text("xyz")
        places = [pick(g, INTS) for _ in "ab"] if g.bits(1) else [asm.number(g.bits(2)), asm.number(g.bits(2))]
        arguments = [asm.text("utf-8"), subject, *places, asm.text("why")]
        if b"Translate" in name:
            del arguments[0]
    elif any(each in name for each in (b"Syntax", b"Indent", b"Tab")):
        where = [asm.text("f"), *(pick(g, INTS) for _ in "ab"), asm.text("line")] + [pick(g, INTS)] * (
            g.bits(2) == 0
        ) * 2
        arguments = [asm.text("m"), asm.sequence(*where)]
    elif any(each in name for each in (b"OS", b"IO", b"File", b"Connection", b"Blocking")):
        arguments = [asm.number(g.bits(6)), asm.text("why"), asm.text("file"), asm.NONE, asm.text("other")][
            : 1 + g.bits(2)
        ]
    else:
        arguments = [plain(g) for _ in range(g.bits(2))]
    if hostile and arguments:
        arguments[g.bits(8) % len(arguments)] = g.call(pick(g, MANY)) if g.bits(1) and g.depth < 4 else g.value()
    cause = g.call("as_error") if g.bits(3) == 0 and g.depth < 3 else asm.NONE
    notes = asm.NOTHING if g.bits(2) else asm.sequence(*(pick(g, STRINGS) for _ in range(g.bits(2))))
    trace = asm.NONE if g.bits(2) else pick(g, STRINGS)
    return [name, asm.sequence(*arguments), cause, notes, trace]


def group_arguments(g: Grammar) -> list[bytes]:
    _, _, cause, notes, trace = error_arguments(g)
    name = asm.text(pick(g, ["ExceptionGroup", "BaseExceptionGroup", "ValueError", "ExceptionGroup"]))
    kinds = ["as_error", "as_group"] if g.depth < 4 else ["as_error"]
    members = [g.call(pick(g, kinds)) for _ in range(1 + g.bits(1))]
    return [name, pick(g, STRINGS), cause, notes, trace, *members]


SCALARS: Pool = [*STRINGS, *INTS, *FLOATS, *BYTES, asm.NONE, asm.TRUE]
ANY_INT: Pool = [*INTS, some_number, some_number]
SMALL: Pool = [*within(0, 255), some_number, *INTS[:30]]

FLAGS: Pool = within(0, 511) + [asm.number(1 << n) for n in range(10)]

HINTS: dict[str, Sequence[Pool] | Callable[[Grammar], list[bytes]]] = {
    "as_uuid": [[asm.number(value) for value in (0, 1, (1 << 128) - 1, 1 << 127)]],
    "as_datetime": datetime_arguments,
    "as_date": [within(1, 9999), within(1, 12), within(1, 28)],
    "as_time": time_arguments,
    "as_timedelta": [within(-999_999_999, 999_999_999), within(0, 86_399), within(0, 999_999)],
    "as_timezone": [[zone]],
    "as_complex": [FLOATS, FLOATS],
    "as_decimal": [POOLS["decimal"]],
    "as_fraction": [ANY_INT, ANY_INT],
    "as_range": [ANY_INT, ANY_INT, ANY_INT],
    "as_pattern": [[*POOLS["pattern"], asm.raw(b"a[b-d]"), asm.raw(b"\xff+")], FLAGS],
    "as_path": [POOLS["pathkind"], POOLS["path"]],
    "as_network": [POOLS["addresskind"], POOLS["network"] + POOLS["address"]],
    "as_error": error_arguments,
    "as_group": group_arguments,
    "as_packed": packed_arguments,
    "as_array": array_arguments,
    "as_scalar": scalar_arguments,
    "as_record": scalar_arguments,
    "as_unsigned": [POOLS["number"], [*INTS, *EQUALS]],
    "as_number": [POOLS["number"], [*INTS, *FLOATS, *EQUALS]],
    "as_registered": [[asm.text("fuzz"), asm.text("nobody")], [any_value]],
    "as_dict": [],
    "as_list": [],
    "as_is": [[any_value]],
    "as_last": [[any_value], [any_value]],
}  # fmt: skip


def pool_of(argument: Any) -> Pool:
    """Values that a row of the table says it takes."""
    kinds = argument.kinds
    low, high, size = argument.low, argument.high, argument.size
    bits = min(size or 64, 4096)
    low = -(1 << bits) + 1 if low is None else low
    high = (1 << bits) - 1 if high is None else high
    length = min(size if size is not None else 300, 300)
    pools: dict[str, Pool] = {
        "none": [asm.NONE],
        "bool": [asm.TRUE, asm.FALSE],
        "int": within(low, high),
        "float": FLOATS,
        "str": [asm.text(value) for value in ("", "a"[:length], "b" * length, "é" * (length // 2))],
        "bytes": [asm.raw(value) for value in (b"", b"\1"[:length], bytes(length))],
        "scalars": [asm.NOTHING, lambda g: asm.sequence(*(pick(g, SCALARS) for _ in range(g.bits(2))))],
        "tuple": [asm.NOTHING, lambda g: asm.sequence(*(g.value() for _ in range(min(g.bits(2), length))))],
        "array": [lambda g: g.call("as_array")],
        "error": [lambda g: g.call("as_error")],
        "any": [any_value],
    }
    return [fragment for kind in sorted(kinds) for fragment in pools[kind]]
