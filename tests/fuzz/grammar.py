# SPDX-License-Identifier: MIT
"""Messages from a seed: programs of containers and constructors, right but for what is hostile in them.

What a constructor takes comes from the calls in the encoder's own messages, from its row in the table of constructors,
where the module under test has one, and from hints: texts and combinations that a row cannot tell. The encoder's
messages are also taken apart into opcodes and put together wrongly, whatever form it writes.
"""

from __future__ import annotations

import pickletools
import random
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from fuzz import assembler as asm
from fuzz.arguments import HINTS, Fragment, Pool, one, pick, pool_of, some_number, some_string
from fuzz.excess import LARGE
from fuzz.pools import ATOMS, BYTES, EQUALS, EVERY_INT, FLOATS, INTS, ODD_INTS, POOLS, STRINGS

BATCH = 512
"""Messages of one seed. Each is made without regard to what came of the others."""

OFTEN = ["as_array", "as_scalar", "as_error"]
"""Constructors whose arguments have the most forms."""


class Grammar:
    """Makes messages of the constructors in `names`: `rows` is their table, `honest` are messages of the encoder."""

    def __init__(self, module: str, names: Iterable[str], rows: dict[str, Any], honest: Sequence[bytes]) -> None:
        self.names = sorted(names)
        self.often = self.names + [name for name in OFTEN if name in self.names] * 4
        self.callees = {name: asm.callee(module, name) for name in self.names}
        self.rows = {
            name: ([pool_of(each) for each in row.arguments], row.rest and pool_of(row.rest), row.required)
            for name, row in rows.items()
        }
        self.templates: dict[str, list[list[bytes]]] = {}
        for body in honest:
            if body.startswith(asm.PROTOCOL) and len(body) < 4000:
                for name, _, arguments in asm.calls_of(body):
                    self.templates.setdefault(name, []).append(arguments)
        self.honest = [tokens for tokens in map(tokens_of, honest) if len(tokens) < 400]
        self.tokens = sorted({token for tokens in self.honest for token in tokens if len(token) < 100})
        self.tokens += [bytes([code]) for code in range(256)]
        self.bits: Callable[[int], int] = random.Random(0).getrandbits
        self.reset()

    def reset(self) -> None:
        self.depth = 0
        self.memo = 0
        self.arrays: list[int] = []
        self.shared: dict[str, int] = {}
        self.buffers: list[int] = []
        self.room = False

    def batch(self, seed: int, number: int) -> Iterable[bytes]:
        """The messages of a batch, one after the other."""
        self.bits = random.Random(seed << 40 | number).getrandbits
        self.last = asm.PROTOCOL + asm.NONE + asm.STOP
        for _ in range(BATCH):
            yield self.message()

    def message(self) -> bytes:
        bits = self.bits
        chance = bits(9)
        if chance < 90:
            return self.mutated(self.last)
        if chance < 150:
            return self.spliced()
        self.reset()
        if chance == 511:
            size = 1 << bits(4) % 15
            body = pick(self, LARGE)(self, size + bits(4) % size)
        elif chance < 180:
            self.room = True
            body = self.value()
        elif chance < 340:
            body = self.call(pick(self, self.often))
        elif chance < 400:
            name = pick(self, self.often)
            keys = [self.call(name) + asm.NONE for _ in range(1 + bits(1))]
            body = asm.DICT + asm.MARK + b"".join(keys) + asm.SETITEMS
        else:
            body = self.container()
        if chance & 31 == 0:
            size = len(body) + 1
            body = b"\x95" + struct.pack("<Q", size if bits(2) else bits(6)) + body
        message: bytes = asm.PROTOCOL + body + asm.STOP
        self.last = message
        if self.room:
            return self.beside(message)
        return message

    def named(self, name: str) -> bytes:
        """The constructor, as the pickler names it: in full the first time, from the memo afterwards."""
        known = self.shared.get(name)
        if known is not None:
            return asm.get(known)
        found = self.callees.get(name)
        if found is None:
            found = self.callees[self.names[0]]
        if self.bits(3) == 0:
            self.shared[name] = self.memo
            self.memo += 1
            return found + asm.MEMOIZE
        return found

    def call(self, name: str) -> bytes:
        """A call of a constructor, mostly with arguments that it takes."""
        self.depth += 1
        callee = self.named(name)
        arguments = self.arguments(name)
        bits = self.bits
        chance = bits(8)
        if chance > 190:
            if chance < 235 and arguments:
                arguments[chance % len(arguments)] = self.value()
            elif chance < 242:
                arguments.append(self.value())
            elif chance < 248 and arguments:
                arguments.pop()
            elif chance < 252 and arguments:
                arguments[0], arguments[-1] = arguments[-1], arguments[0]
        self.depth -= 1
        body = callee + asm.sequence(*arguments) + asm.REDUCE
        if chance & 3 == 0:
            body += asm.MEMOIZE
            if name == "as_array":
                self.arrays.append(self.memo)
            self.memo += 1
        return body

    def arguments(self, name: str) -> list[bytes]:
        row = self.rows.get(name)
        hint = HINTS.get(name)
        if self.bits(2) == 0 and name in self.templates:
            return list(pick(self, self.templates[name]))
        if row is not None and (hint is None or self.bits(1)):
            pools, rest, required = row
            count = len(pools) if self.bits(1) else max(required, self.bits(2))
            found = [one(pool)(self) for pool in pools[:count]]
            if rest:
                found += [one(rest)(self) for _ in range(self.bits(2))]
            return found
        if hint is None:
            return [self.value() for _ in range(self.bits(2))]
        return [one(pool)(self) for pool in hint] if not callable(hint) else hint(self)

    def value(self) -> bytes:
        """Any value."""
        maker = VALUES[self.bits(8)]
        return maker if type(maker) is bytes else maker(self)  # type: ignore[operator]

    def container(self) -> bytes:
        """A container, with what is in it; it may refer to itself, and to what came before."""
        if self.depth > 3:
            return asm.LIST
        self.depth += 1
        bits = self.bits
        kind = bits(4)
        own = self.memo
        kept = bits(1)
        head = b""
        if kind < 4:
            head = asm.LIST
        elif kind < 8:
            head = asm.DICT
        elif kind < 10:
            head = asm.SET
        if head and kept:
            self.memo += 1
            head += asm.MEMOIZE
        items = [self.value() for _ in range(bits(2) * (1 + (kind in (4, 5, 6, 7))))]
        if kind < 4:
            body = (
                head + asm.MARK + b"".join(items) + asm.APPENDS
                if kind
                else head + b"".join(each + b"a" for each in items)
            )
        elif kind < 8:
            body = head + asm.MARK + b"".join(items) + asm.SETITEMS
        elif kind < 10:
            body = head + asm.MARK + b"".join(items) + asm.ADDITEMS
        elif kind < 12:
            body = asm.MARK + b"".join(items) + asm.FROZENSET
        elif kind < 15:
            body = asm.sequence(*items)
        else:  # a tuple in itself, as the pickler writes it
            inner = asm.LIST + asm.MEMOIZE + asm.get(self.memo) + b"\x85" + asm.MEMOIZE + asm.APPEND
            body = (
                inner + asm.POP + asm.get(self.memo + 1)
                if bits(1)
                else asm.MARK + inner + asm.POP_MARK + asm.get(self.memo + 1)
            )
            self.memo += 2
        if not head and kept and kind < 15:
            self.memo += 1
            body += asm.MEMOIZE
        if kept and bits(2) == 0:
            body = asm.sequence(body, asm.get(own))
        self.depth -= 1
        return body

    def recalled(self) -> bytes:
        if not self.memo or self.bits(5) == 0:
            return asm.get(self.bits(10))
        return asm.get(self.bits(16) * self.memo >> 16)

    def nested_call(self) -> bytes:
        return self.call(pick(self, self.names)) if self.depth < 4 else asm.NONE

    # ---- without regard to what is right ----

    def mutated(self, body: bytes) -> bytes:
        """A message with bytes changed, dropped, doubled or put in."""
        bits = self.bits
        for _ in range(1 + (bits(2) == 0) * bits(2)):
            at = bits(20) % len(body)
            chance = bits(3)
            if chance < 2:
                body = body[:at] + bytes([body[at] ^ 1 << bits(3)]) + body[at + 1 :]
            elif chance == 2:
                body = body[:at] + bytes([bits(8)]) + body[at + 1 :]
            elif chance == 3:
                body = body[:at] + body[at + 1 + bits(3) :] or b"."
            elif chance == 4:
                body = body[:at] + body[at : at + bits(4)] + body[at:]
            elif chance == 5:
                body = body[:at] + pick(self, self.tokens) + body[at:]
            elif chance == 6:
                body = body[:at] + self.value() + body[at:]
            else:
                body = body[:at] + b"\xff\xff\xff\x7f"[: 1 + bits(2)] + body[at + 1 + bits(2) :]
        return body

    def spliced(self) -> bytes:
        """An honest message with opcodes of others in it."""
        bits = self.bits
        self.depth = 2
        tokens = list(pick(self, self.honest))
        for _ in range(1 + bits(1)):
            at = bits(16) * len(tokens) >> 16
            chance = bits(3)
            if chance < 2:
                tokens[at] = pick(self, self.tokens)
            elif chance < 5:
                tokens[at] = self.value()
            elif chance == 5:
                tokens.insert(at, tokens[at])
            elif chance == 6:
                del tokens[at]
            else:
                tokens.insert(at, self.value())
            tokens = tokens or [asm.STOP]
        return b"".join(tokens)

    def beside(self, message: bytes) -> bytes:
        """A message with buffers, of which lengths and counts may lie."""
        bits = self.bits
        sizes = self.buffers or [bits(7)]
        if bits(4) == 0:
            sizes = [size ^ bits(3) for size in sizes] + [1 << 16] * (bits(3) == 0)
        body = asm.with_buffers(message, [bytes(size) for size in sizes])
        if bits(3) == 0:
            at = 4 + 4 * (bits(16) * (3 + 2 * len(sizes)) >> 16)
            lie = pick(self, EVERY_INT) if bits(1) else bits(9)
            body[at : at + 4] = struct.pack("<I", lie & 0xFFFFFFFF)
        if bits(5) == 0:
            del body[len(body) - bits(7) :]
        return bytes(body)


def tokens_of(body: bytes) -> list[bytes]:
    """A message cut into its opcodes."""
    body = body[body.index(asm.PROTOCOL) :]
    places = [place for _, _, place in pickletools.genops(body)]
    return [body[start:end] for start, end in zip(places, [*places[1:], len(body)], strict=True)]


def _spread(*parts: tuple[int, Pool]) -> list[Fragment]:
    """A table of 256 entries in which each pool has its share."""
    table: list[Fragment] = []
    for share, pool in parts:
        table += [pool[index * len(pool) // share] for index in range(share)] if len(pool) >= share else (
            list(pool) * (share // len(pool) + 1)
        )[:share]  # fmt: skip
    assert len(table) == 256
    return table


VALUES = _spread(
    (30, INTS),
    (14, [some_number, some_string]),
    (5, ODD_INTS),
    (12, FLOATS),
    (16, STRINGS),
    (10, BYTES),
    (2, [asm.bytearray8(b"xyz"), asm.bytearray8(b"")]),
    (24, ATOMS),
    (7, EQUALS),
    (46, [Grammar.container]),
    (34, [Grammar.recalled]),
    (44, [Grammar.nested_call]),
    (6, [one(INTS)]),
    (6, [one([fragment for pool in POOLS.values() for fragment in pool])]),
)
