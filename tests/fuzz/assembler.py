# SPDX-License-Identifier: MIT
"""Pickles of protocol 5 by hand: the opcodes in which messages are written, and a message with buffers beside it."""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Sequence
from typing import Any

PROTOCOL = b"\x80\x05"
MAGIC = b"LIB\x01"
ALIGNMENT = 64

NONE, TRUE, FALSE = b"N", b"\x88", b"\x89"
NOTHING = b")"
STOP, MARK, MEMOIZE, REDUCE, GLOBAL, POP, POP_MARK, DUP = b".", b"(", b"\x94", b"R", b"\x93", b"0", b"1", b"2"
LIST, DICT, SET = b"]", b"}", b"\x8f"
APPEND, APPENDS, SETITEM, SETITEMS, ADDITEMS, FROZENSET, TUPLE = b"a", b"e", b"s", b"u", b"\x90", b"\x91", b"t"


def text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"\x8c" + bytes([len(data)]) + data if len(data) < 256 else b"X" + struct.pack("<I", len(data)) + data


def raw(data: bytes) -> bytes:
    return b"C" + bytes([len(data)]) + data if len(data) < 256 else b"B" + struct.pack("<I", len(data)) + data


def bytearray8(data: bytes) -> bytes:
    return b"\x96" + struct.pack("<Q", len(data)) + data


def real(value: float) -> bytes:
    return b"G" + struct.pack(">d", value)


def number(value: int) -> bytes:
    """An int as CPython's pickler writes it."""
    if 0 <= value < 1 << 8:
        return b"K" + bytes([value])
    if 0 <= value < 1 << 16:
        return b"M" + struct.pack("<H", value)
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    return long(value)


def long(value: int) -> bytes:
    """An int in the form for long ones, whatever its size."""
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return (b"\x8a" + bytes([len(data)]) if len(data) < 256 else b"\x8b" + struct.pack("<I", len(data))) + data


def boolean(value: bool) -> bytes:
    return TRUE if value else FALSE


def sequence(*items: bytes) -> bytes:
    """A tuple."""
    if not items:
        return NOTHING
    return b"".join(items) + bytes([0x84 + len(items)]) if len(items) <= 3 else MARK + b"".join(items) + TUPLE


def get(index: int) -> bytes:
    return b"h" + bytes([index]) if index < 256 else b"j" + struct.pack("<I", index)


def frame(body: bytes) -> bytes:
    return b"\x95" + struct.pack("<Q", len(body)) + body


def callee(module: str, name: str) -> bytes:
    return text(module) + text(name) + GLOBAL


def call(constructor: str, *arguments: bytes) -> bytes:
    """What one of lensipc's constructors makes of these."""
    return callee("lensipc.values", constructor) + MARK + b"".join(arguments) + TUPLE + REDUCE


def with_buffers(pickled: bytes, buffers: Sequence[bytes]) -> bytearray:
    """A message whose buffers stand beside its pickle."""
    body = bytearray(struct.pack("<4sIQ", MAGIC, len(buffers), len(pickled)))
    body += b"".join(struct.pack("<Q", len(each)) for each in buffers) + pickled
    for each in buffers:
        body += bytes(-len(body) % ALIGNMENT) + each
    return body


def calls_of(body: bytes) -> list[tuple[str, bytes, list[bytes]]]:
    """The constructors that an encoder's message calls: name, what names it there, arguments; all free of the memo."""
    stack: list[Any] = []  # fragments; tuples of fragments; the names of constructors; None for a mark
    memo: list[Any] = []
    found: list[tuple[str, bytes, list[bytes]]] = []

    def flat(item: Any) -> bytes:
        return sequence(*map(flat, item)) if type(item) is tuple else item[0] if type(item) is list else item

    def unmark() -> list[Any]:
        at = len(stack) - 1 - stack[::-1].index(None)
        items = stack[at + 1 :]
        del stack[at:]
        return items

    operations: list[Any] = list(pickletools.genops(body))
    places = [place for _, _, place in operations] + [len(body)]
    for (operation, argument, place), end in zip(operations, places[1:], strict=True):
        name = operation.name
        if name in ("PROTO", "FRAME", "STOP"):
            pass
        elif name == "MARK":
            stack.append(None)
        elif name == "MEMOIZE":
            memo.append(stack[-1])
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "STACK_GLOBAL":
            module, which = stack[-2:]
            stack[-2:] = [[module + which + GLOBAL, which[2:].decode()]]
        elif name == "REDUCE":
            (callee, which), items = stack[-2:]
            arguments = [flat(item) for item in items]
            found.append((which, callee, arguments))
            stack[-2:] = [callee + sequence(*arguments) + REDUCE]
        elif name == "TUPLE":
            stack.append(tuple(unmark()))
        elif name in ("EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            count = 0 if name == "EMPTY_TUPLE" else int(name[-1])
            stack[len(stack) - count :] = [tuple(stack[len(stack) - count :])]
        elif name in ("APPENDS", "SETITEMS", "ADDITEMS"):
            items = unmark()
            stack[-1] = flat(stack[-1]) + MARK + b"".join(map(flat, items)) + body[place:end]
        elif name in ("APPEND", "SETITEM"):
            count = 1 if name == "APPEND" else 2
            stack[-count - 1 :] = [b"".join(map(flat, stack[-count - 1 :])) + body[place:end]]
        elif name == "FROZENSET":
            stack.append(MARK + b"".join(map(flat, unmark())) + FROZENSET)
        else:
            stack.append(body[place:end])
    return found
