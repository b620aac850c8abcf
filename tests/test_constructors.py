# SPDX-License-Identifier: MIT
"""Constructors given what a hostile peer would give them, and what they must not do with it."""

from __future__ import annotations

import fractions
import ipaddress
import pathlib
import pickle
import re
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any

import messages  # noqa: F401 - registers a type
import numpy as np
import pytest

from lensipc import _fast, clone
from lensipc.clone import Limits, constructors, ndarray
from lensipc.errors import DataCloneError, DecodeError, UnknownValueError


def message(constructor: str, *args: Any) -> bytes:
    """A pickle that calls a constructor with any plain arguments."""
    body = pickle.dumps(args, 5)
    arguments = body[11 if body[2:3] == b"\x95" else 2 : -1]
    if arguments.endswith(b"\x94"):
        arguments = arguments[:-1]
    text = b"\x8c\x0elensipc.values\x8c" + bytes([len(constructor)]) + constructor.encode() + b"\x93"
    return b"\x80\x05" + text + arguments + b"R."  # nothing before the arguments is memoized: theirs begin at 0


REFUSED: list[tuple[str, tuple[Any, ...]]] = [
    ("as_uuid", ("x",)), ("as_uuid", (-1,)), ("as_uuid", (1 << 128,)), ("as_uuid", (1.0,)),
    ("as_uuid", (True,)), ("as_datetime", (b"",)), ("as_datetime", (bytes(10),)),
    ("as_datetime", (b"\x07\xe4\x0d\x01\0\0\0\0\0\0",)),
    ("as_datetime", (b"\x07\xe4\x01\x20\0\0\0\0\0\0",)),
    ("as_datetime", (b"\x07\xe4\x01\x01\x18\0\0\0\0\0",)),
    ("as_datetime", (b"\x07\xe4\x01\x01\0\0\0\xff\xff\xff",)), ("as_datetime", ("2020",)),
    ("as_datetime", (bytes(11),)), ("as_datetime", (b"\x07\xe4\x01\x01\0\0\0\0\0\0", 10**12)),
    ("as_datetime", (b"\x07\xe4\x01\x01\0\0\0\0\0\0", 1 << 999)),
    ("as_datetime", (b"\x07\xe4\x01\x01\0\0\0\0\0\0", "A" * 65)),
    ("as_datetime", (b"\x07\xe4\x01\x01\0\0\0\0\0\0", b"UTC")), ("as_timezone", (None,)),
    ("as_timezone", ("A" * 65,)), ("as_date", (0, 1, 1)), ("as_date", (2020, 2, 30)),
    ("as_date", ("2020", 1, 1)), ("as_date", (2020,)), ("as_date", (b"\x07\xe4\x02\x1e",)),
    ("as_time", (24, 0, 0, 0, 0)), ("as_time", (1, 0, 0, 0, 2)), ("as_time", (b"\0" * 6,)),
    ("as_timedelta", (10**9 + 1, 0, 0)), ("as_timedelta", (1e300, 0, 0)),
    ("as_timedelta", (1 << 9999, 0, 0)), ("as_complex", ("1", 2.0)), ("as_complex", (1, 2)),
    ("as_complex", (1.0,)), ("as_decimal", ("x",)), ("as_decimal", ("1_000",)), ("as_decimal", (" 1",)),
    ("as_decimal", ("\u0661",)), ("as_decimal", (1.5,)), ("as_decimal", ((0, (1,), 2),)),
    ("as_fraction", (1, 0)), ("as_fraction", ("1/2",)), ("as_fraction", (1.5, 2)),
    ("as_fraction", (1 << 70_000, 3)), ("as_range", (0, 1, 0)), ("as_range", (0.5, 1, 1)),
    ("as_range", (1,)), ("as_pattern", ("(", 0)), ("as_pattern", ("a", 128)), ("as_pattern", ("a", -1)),
    ("as_pattern", ("a" * 8193, 0)), ("as_pattern", ("(" * 2000 + ")" * 2000, 0)),
    ("as_pattern", ("[a-\uffff]" * 100, 0)), ("as_pattern", ("a", 1)),
    ("as_pattern", ("[a-\uffff]" * 50, 2)), ("as_pattern", ("(?i)" + "[a-\uffff]" * 50, 0)),
    ("as_pattern", ("[\u0100\u0102\u0104]" * 1000, 0)), ("as_pattern", ("(?:\u0100|\u0102|\u0104)" * 800, 0)),
    ("as_pattern", (1, 0)), ("as_pattern", ("[a-\\uffff]" * 50, 2)), ("as_pattern", ("a", 1 << 70)),
    ("as_pattern", (bytearray(b"a"), 0)), ("as_path", ("Path", "/a")), ("as_path", ("os", "/a")),
    ("as_path", ("PosixPath", b"/a")), ("as_path", ("PosixPath", ["a"])),
    ("as_network", ("IPv4Address", "x")), ("as_network", ("ip_address", "1.2.3.4")),
    ("as_network", ("IPv4Address", 5)), ("as_network", ("IPv4Network", "1.2.3.4/8")),
    ("as_network", ("IPv6Address", "::" + "0" * 1000)), ("as_network", (5, "x")),
    ("as_error", ("OSError",)), ("as_error", ("ValueError", [1], None, (), None)),
    ("as_error", ("ValueError", (), 5, (), None)), ("as_error", ("ValueError", (), None, (5,), None)),
    ("as_error", ("ValueError", (), None, (), 5)),
    ("as_error", ("ValueError", ([1],), None, (), None)), ("as_error", ("ValueError", ((1,),), None, (), None)),
    ("as_error", ("ValueError", (1 << 63,), None, (), None)), ("as_error", ("ValueError", ({},), None, (), None)),
    ("as_error", ("ValueError", ({1},), None, (), None)), ("as_error", ("ValueError", ("x" * 32769,), None, (), None)),
    ("as_error", ("ValueError", (b"x" * 32769,), None, (), None)),
    ("as_error", ("ValueError", (0,) * 65, None, (), None)),
    ("as_error", ("ValueError", (), None, ("n",) * 65, None)),
    ("as_error", ("ValueError", (), None, ("x" * 32769,), None)),
    ("as_error", ("ValueError", (), None, (), "x" * 32769)), ("as_error", ("SyntaxError", ("x", "y"), None, (), None)),
    ("as_error", ("SyntaxError", (), None, (), None)), ("as_error", ("IndentationError", (5,), None, (), None)),
    ("as_error", ("UnicodeDecodeError", ("utf-8", b"x", -40, 3, "y"), None, (), None)),
    ("as_error", ("UnicodeDecodeError", ("utf-8", b"x", 0, 2, "y"), None, (), None)),
    ("as_error", ("UnicodeDecodeError", ("utf-8", b"xy", 2, 1, "y"), None, (), None)),
    ("as_error", ("UnicodeDecodeError", ("utf-8", "x", 0, 1, "y"), None, (), None)),
    ("as_error", ("UnicodeDecodeError", ("utf-8", b"x", 0, 1), None, (), None)),
    ("as_error", ("UnicodeError", [], None, (), None)),
    ("as_error", ("UnicodeEncodeError", ("utf-8", "x", 5, 6, "y"), None, (), None)),
    ("as_error", ("UnicodeEncodeError", ("utf-8", b"x", 0, 1, "y"), None, (), None)),
    ("as_error", ("UnicodeTranslateError", ("x", 0, 5, "y"), None, (), None)),
    ("as_error", ("UnicodeTranslateError", ("x", False, True, "y"), None, (), None)),
    ("as_error", ("ExceptionGroup", ("m",), None, (), None)), ("as_error", ("BaseExceptionGroup", (), None, (), None)),
    ("as_group", ("ExceptionGroup", "m", None, (), None)), ("as_group", ("ValueError", "m", None, (), None)),
    ("as_group", ("ExceptionGroup", 5, None, (), None)), ("as_group", ("ExceptionGroup", "m", None, (), None, 5)),
    ("as_group", ("ExceptionGroup", "m", None, (), None, ())),
    ("as_group", ("ExceptionGroup", "x" * 32769, None, (), None)),
    ("as_packed", ("x", b"")), ("as_packed", ("d", b"abc")), ("as_packed", ("bb", b"")),
    ("as_packed", ("d", [1.0])), ("as_packed", ("O", bytes(8))), ("as_packed", ("u", b"abc")),
    ("as_packed", ("u", b"\xff" * 4)), ("as_packed", ("u", b"\0\0\x11\0")),
    ("as_packed", ("u", b"\0\0\xfe\xff\0\0\0A")),
    ("as_packed", ("", b"")), ("as_packed", ("w", b"\xff" * 4)), ("as_packed", ("d", bytearray(8))),
    ("as_array", ("O", "C", bytes(8), 1)), ("as_array", ("|O8", "C", bytes(8), 1)),
    ("as_array", ("<f8", "C", bytes(8), 2)), ("as_array", ("<f8", "K", bytes(8), 1)),
    ("as_array", ("<f8", "C", bytes(8), -1)), ("as_array", ("<f8", "C", bytes(8), 1.0)),
    ("as_array", ("<f8", "C", bytes(8), True)), ("as_array", ("<f8", "C", 0, 1)),
    ("as_array", ("<f8", "C", -1, 1)), ("as_array", ("<f8", "C", bytearray(8), 1)),
    ("as_array", ("|S0", "C", b"", 2048)), ("as_array", ("<U0", "C", b"", 0)), ("as_array", ("|V0", "C", b"", 5)),
    ("as_array", ("|S01", "C", b"a", 1)), ("as_array", (f"|V{(1 << 28) + 1}", "C", b"", 0)),
    ("as_array", (f"<U{(1 << 26) + 1}", "C", b"", 0)), ("as_array", ("<M8[0s]", "C", bytes(8), 1)),
    ("as_array", ("<M8[-1s]", "C", bytes(8), 1)), ("as_array", ("<M8[01s]", "C", bytes(8), 1)),
    ("as_array", ("<M8[9999999999s]", "C", bytes(8), 1)), ("as_array", ("<M8[s/2]", "C", bytes(8), 1)),
    ("as_array", ("<M8[x]", "C", bytes(8), 1)), ("as_array", ("<M4[s]", "C", bytes(4), 1)),
    ("as_array", ("<M8[]", "C", bytes(8), 1)), ("as_array", ("=f8", "C", bytes(8), 1)),
    ("as_array", ("f8", "C", bytes(8), 1)), ("as_array", ("float64", "C", bytes(8), 1)),
    ("as_array", ("<f3", "C", bytes(3), 1)), ("as_array", ("|u2", "C", bytes(2), 1)),
    ("as_array", ("|a5", "C", bytes(5), 1)),
    ("as_array", ("<f8", "C", b"", 10**6, 10**6)), ("as_array", ("f8,O", "C", b"", 0)),
    ("as_array", ("|u1", "C", b"", *[0] * 65)), ("as_array", ("|u1", "C", b"", 1 << 63, 0)),
    ("as_array", ("|u1", "C", b"\0", *[1] * 999)), ("as_array", ("|V999999999", "C", b"", 0)),
    ("as_array", ("<U999999999", "C", b"", 0)), ("as_array", ("|b1", "C", b"\2", 1)),
    ("as_array", ("|u1", "C", b"", 1 << 62, 1 << 62, 0)), ("as_array", ("T", "C", bytes(16), 1)),
    ("as_array", ("<i4\n", "C", bytes(4), 1)), ("as_array", ((), "C", b"", 0)),
    ("as_array", (("fields", 4, False, ("a", 0, "|O8")), "C", bytes(8), 1)),
    ("as_array", (("fields", 4, False, ("a", 2, "<i4")), "C", bytes(4), 1)),
    ("as_array", (("fields", 4, False, ("a", -2, "<i4")), "C", bytes(4), 1)),
    ("as_array", (("fields", 4, False, ("a", 0, "<i4"), ("a", 0, "<i4")), "C", bytes(4), 1)),
    ("as_array", (("fields", 1, False, ("a", 0, "|b1")), "C", b"\2", 1)),
    ("as_array", (("fields", 8, False, ("a", 2**31 - 1, "|b1")), "C", bytes(8), 1)),
    ("as_array", (("fields", 8, False, ("a", 8, "|u1")), "C", bytes(8), 1)),
    ("as_array", (("fields", 8, False, ("a", 1 << 63, "|u1")), "C", bytes(8), 1)),
    ("as_array", (("fields", 8, False, ("a", 0, ("fields", 9, False, ("b", 0, "|u1")))), "C", bytes(8), 1)),
    ("as_array", (("fields", 0, False), "C", b"", 1)), ("as_array", (("fields", -1, False), "C", b"", 1)),
    ("as_array", (("fields", (1 << 28) + 1, False, ("a", 0, "|u1")), "C", b"", 0)),
    ("as_array", (("fields", 8, False, ("a", True, "|u1")), "C", bytes(8), 1)),
    ("as_array", (("fields", 8, 0, ("a", 0, "|u1")), "C", bytes(8), 1)),
    ("as_array", (("fields", 8, False, (b"a", 0, "|u1")), "C", bytes(8), 1)),
    ("as_array", (("fields", 8, False, ("a", 0)), "C", bytes(8), 1)),
    ("as_array", (("fields", 8, False, ["a", 0, "|u1"]), "C", bytes(8), 1)),
    ("as_array", (("array", "|u1", 0), "C", b"", 1)), ("as_array", (("array", "|u1", True), "C", b"\0", 1)),
    ("as_array", (("array", "|u1", *[1] * 40), "C", b"\0", 1)), ("as_array", (("array", "|O", 1), "C", bytes(8), 1)),
    ("as_array", (("array", ("array", "|V100000", 100_000), 100_000), "C", b"", 0)),
    ("as_array", (("array", "|b1", 2), "C", b"\0\2", 1)), ("as_array", ("<U1", "C", b"\xff" * 4, 1)),
    ("as_array", (("array", "|u1", 1 << 40), "C", b"", 0)),
    ("as_array", (("array", "|u1", -1), "C", b"", 0)), ("as_array", (("other",), "C", b"", 0)),
    ("as_array", (5, "C", b"", 0)), ("as_scalar", ("|O8", bytes(8))), ("as_scalar", ("<f8", b"")),
    ("as_scalar", ("|b1", b"\2")), ("as_scalar", ("<f8", 1.5)), ("as_scalar", ("<U1", b"\xff\xff\xff\xff")),
    ("as_scalar", (("fields", 1, False, ("a", 0, "|u1")), b"\0")), ("as_scalar", ("|V0", b"")),
    ("as_scalar", ("|V65537", bytes(65537))), ("as_scalar", ("<M8[0s]", bytes(8))),
    ("as_record", ("|u1", b"\0")), ("as_record", ((), b"")),
    ("as_record", (("fields", 1, False, ("a", 0, "|b1")), b"\2")),
    ("as_record", (("fields", 1, False, ("a", 0, "|u1")), b"\0\0")),
    ("as_number", ("<f8", "1")), ("as_number", ("|u1", 256)), ("as_number", ("|u1", -1)), ("as_number", ("|i1", 1.5)),
    ("as_number", ("<f2", 1e300)), ("as_number", ("<f4", 0.1)), ("as_number", ("<f8", float("nan"))),
    ("as_number", ("<c16", 1.0)), ("as_number", ("|O", 1)), ("as_number", ("<M8[s]", 1)), ("as_number", ("|S1", 1)),
    ("as_number", ("<u8", 1 << 63)), ("as_number", ("<f16", 1.0)), ("as_number", ("|b1", 2)),
    ("as_unsigned", ("<u8", 1 << 64)), ("as_unsigned", ("<u8", -1)), ("as_unsigned", ("<f8", 1.0)),
    ("as_unsigned", ("<u4", 1 << 32)), ("as_unsigned", ("<u8", True)),
    ("as_registered", (["x"], None)), ("as_registered", ("x" * 1025, None)), ("as_registered", ("x",)),
]  # fmt: skip


@pytest.mark.parametrize(("constructor", "args"), REFUSED, ids=lambda v: "" if isinstance(v, tuple) else v)
def test_what_no_encoder_writes_is_refused(constructor: str, args: tuple[Any, ...]) -> None:
    body = message(constructor, *args)
    read: Callable[[Any], Any]
    for read in (clone.decode, lambda body: clone.decode_owned(bytearray(body))):
        with pytest.raises(DecodeError, match=r"^byte \d+: ") as raised:
            read(body)
        assert type(raised.value) is DecodeError
        assert "none of lensipc's constructors" not in str(raised.value)


# One call of each constructor, with arguments that it takes.
CALLS: dict[str, tuple[Any, ...]] = {
    "as_dict": (), "as_list": (), "as_is": (1,), "as_last": (1, 2), "as_complex": (1.0, 2.0), "as_range": (1, 2, 3),
    "as_uuid": (5,), "as_datetime": (b"\x07\xe4\x01\x01\0\0\0\0\0\0", 3_600_000_000), "as_date": (2020, 1, 1),
    "as_time": (1, 2, 3, 4, 0, 3_600_000_000), "as_timedelta": (1, 2, 3), "as_timezone": ("UTC",),
    "as_decimal": ("1.5",), "as_fraction": (1, 3), "as_pattern": ("a", 32), "as_path": ("PurePosixPath", "/a"),
    "as_network": ("IPv4Network", "10.0.0.0/8"), "as_packed": ("B", b"ab"),
    "as_error": ("ValueError", ("a", 1), None, ("a note",), "a traceback"),
    "as_array": ("|u1", "C", b"ab", 2), "as_number": ("<i4", 5), "as_unsigned": ("<u8", 1 << 63),
    "as_scalar": ("<f8", bytes(8)), "as_record": (("fields", 1, False, ("a", 0, "|u1")), b"a"),
    "as_registered": ("tests.Stamp", (1, "a")),
}  # fmt: skip

# A value of each kind that an argument may be, and larger ones.
KINDS: dict[str, list[Any]] = {
    "none": [None], "bool": [True, False], "int": [0, 1, -1, 1 << 40, -(1 << 70), 1 << 100_000],
    "float": [1.5, float("inf")], "str": ["", "a", "\ud800", "\0", "x" * 100_000], "bytes": [b"", b"a", b"x" * 100_000],
    "scalars": [(), (1, "a"), (None,) * 100], "tuple": [((),), ((1,),), ([],)],
    "other": [[], {}, set(), frozenset(), bytearray(b"a")],
}  # fmt: skip


def takes(argument: constructors.Argument, value: Any) -> bool:
    """Whether an argument may be that value: what constructors.Argument promises, said once more."""
    kind = {type(None): "none", bool: "bool", int: "int", float: "float", str: "str", bytes: "bytes"}.get(type(value))
    if "any" in argument.kinds:
        return True
    if type(value) is tuple:
        flat = all(type(each) in (type(None), bool, int, float, str, bytes) for each in value)
        return (
            bool({"tuple"} & argument.kinds or ("scalars" in argument.kinds and flat)) and len(value) <= argument.size
        )
    if kind not in argument.kinds:
        return False
    if kind == "int":
        if argument.low is not None and argument.high is not None:
            return bool(argument.low <= value <= argument.high)
        return bool(-(1 << 63) <= value < 1 << 63 or value.bit_length() <= argument.size)
    return kind not in ("str", "bytes") or len(value) <= argument.size


@pytest.mark.parametrize("name", constructors.TABLE)
def test_each_argument_of_each_constructor_is_held_against_its_row(name: str) -> None:
    """Whatever stands in its place, and is none that it may be, is refused before anything is called."""
    row = constructors.TABLE[name]
    if name == "as_group":  # an exception is no value that pickle.dumps writes as messages have it
        return
    honest = CALLS[name]
    body = message(name, *honest)
    clone.encode(clone.decode(body))
    told = "a call with an argument that its constructor does not take"
    for i, argument in enumerate([*row.arguments, *([row.rest] * 2 if row.rest else [])]):
        for value in (each for kind in KINDS.values() for each in kind):
            args = (*honest[:i], *[1] * (i - len(honest)), value, *honest[i + 1 :])
            try:
                clone.decode(message(name, *args))
            except DecodeError as error:
                if not takes(argument, value):
                    assert str(error).endswith(told)  # noqa: PT017
            else:
                assert takes(argument, value), (args, argument)
    for i, a in enumerate(row.arguments):
        for value in (a.low - 1, a.high + 1) if a.low is not None and a.high is not None else ():
            with pytest.raises(DecodeError, match=told):
                clone.decode(message(name, *honest[:i], value, *honest[i + 1 :]))


@pytest.mark.parametrize("name", constructors.TABLE)
def test_no_constructor_takes_fewer_or_more_arguments_than_its_row_has(name: str) -> None:
    row = constructors.TABLE[name]
    for count in (*range(row.required), *([] if row.rest else [len(row.arguments) + 1, len(row.arguments) + 1000])):
        with pytest.raises(DecodeError, match="wrong number of arguments"):
            clone.decode(message(name, *[None] * count))


def test_there_is_a_call_of_each_constructor_above() -> None:
    assert {*CALLS, "as_group"} == set(constructors.TABLE)


def test_the_helper_above_makes_messages_that_pass() -> None:
    assert clone.decode(message("as_uuid", 5)).int == 5
    assert clone.decode(message("as_array", "<f8", "C", bytes(8), 1)).tolist() == [0.0]


def nested_dtype(depth: int) -> Any:
    text: Any = "|u1"
    for _ in range(depth):
        text = ("fields", 1, False, ("a", 0, text))
    return text


def test_a_dtype_that_holds_another_twice_and_again_is_refused() -> None:
    shared: Any = "|u1"
    for _ in range(12):
        shared = ("fields", 1, False, ("a", 0, shared), ("b", 0, shared))
    with pytest.raises(DecodeError, match="too many fields"):
        clone.decode(message("as_array", shared, "C", b"", 0))


def name(constructor: str) -> bytes:
    """A constructor on the stack, as memo 0."""
    return b"\x8c\x0elensipc.values\x8c" + bytes([len(constructor)]) + constructor.encode() + b"\x93\x94"


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def large(opcode: bytes, data: bytes) -> bytes:
    """Data as memo 1."""
    return opcode + struct.pack("<I", len(data)) + data + b"\x94"


U1 = text("|u1") + text("C")
MANY_TIMES: dict[str, tuple[bytes, bytes, int]] = {
    "as_packed": (text("B") + large(b"B", bytes(1 << 16)) + b"\x86R", text("B") + b"h\x01\x86R", 4000),
    "as_array": (
        b"(" + U1 + large(b"B", bytes(1 << 16)) + b"J\0\0\1\0tR",
        b"(" + U1 + b"h\x01J\0\0\1\0tR",
        4000,
    ),
    "as_scalar": (text("|V65536") + large(b"B", bytes(1 << 16)) + b"\x86R", text("|V65536") + b"h\x01\x86R", 4000),
    "as_path": (text("PosixPath") + large(b"X", b"/a" * 30_000) + b"\x86R", text("PosixPath") + b"h\x01\x86R", 20_000),
    "as_network": (
        text("IPv6Network") + b"\x94" + text("::/0") + b"\x94\x86R",
        b"h\x01h\x02\x86R",  # 8 bytes for what Python takes 10 us for
        20_000,
    ),
    "as_decimal": (large(b"X", b"1" * 4000) + b"\x85R", b"h\x01\x85R", 20_000),
    "as_fraction": (b"\x8b" + struct.pack("<I", 8000) + b"\x01" * 8000 + b"\x94K\x01\x86R", b"h\x01K\x01\x86R", 20_000),
    "as_pattern": (large(b"X", b"a" * 2000) + b"K\x20\x86R", b"h\x01K\x20\x86R", 20_000),
    "as_error": (
        b"(" + text("ValueError") + b"(" + b"N" * 64 + b"t\x94N)NtR",
        b"(" + text("ValueError") + b"h\x01N)NtR",
        20_000,
    ),
}


@pytest.mark.parametrize("constructor", MANY_TIMES)
def test_one_piece_of_a_message_is_not_worked_on_many_times(constructor: str) -> None:
    once, again, times = MANY_TIMES[constructor]
    head = b"\x80\x05" + name(constructor) + once + b"0]("
    assert clone.decode(head + (b"h\x00" + again) * 3 + b"e.")
    with pytest.raises(DecodeError, match=r"decode_budget allows|more memory than its size warrants"):
        clone.decode(head + (b"h\x00" + again) * times + b"e.")


TEXT = "x" * 200
MANY = tuple(range(64))
SHARED: dict[str, Callable[[], object]] = {
    "paths": lambda: pathlib.PurePosixPath(TEXT),
    "windows paths": lambda: pathlib.PureWindowsPath(TEXT),
    "arguments of exceptions": lambda: ValueError(*MANY),
    "numerators": lambda: fractions.Fraction(1 << 800, 1),
    "networks": lambda: ipaddress.ip_network("::/0"),
    "addresses": lambda: ipaddress.ip_address("::"),
    "scopes": lambda: ipaddress.ip_address("::%eth0"),
    "dtypes": lambda: np.empty(0, [(f"f{i}", "i1") for i in range(5)]),
    "memory": lambda: np.frombuffer(TEXT.encode(), np.uint8),
}


@pytest.mark.parametrize("what", SHARED)
def test_many_values_that_share_their_parts_arrive(what: str) -> None:
    sent = [SHARED[what]() for _ in range(1000)]
    arrived = clone.decode(clone.encode(sent))
    assert len(arrived) == 1000
    assert {repr(value) for value in arrived} == {repr(sent[0])}


CHAINED = {
    "OSError": b")", "ValueError": b")", "StopIteration": b")", "SystemExit": b")", "SyntaxError": text("x") + b"\x85",
    "UnicodeDecodeError": b"(" + text("utf-8") + b"C\x01aK\x00K\x01" + text("bad") + b"t",
}  # fmt: skip


@pytest.mark.parametrize("kind", CHAINED)
def test_exceptions_in_each_other_are_a_hundred_levels_deep_at_most(kind: str) -> None:
    """Those with a layout of their own are freed by recursion: 300,000 of them would crash."""

    def chained(levels: int) -> bytes:
        opened = (
            name("as_error") + b"(" + text(kind) + b"\x94" + CHAINED[kind] + (b"h\x00(h\x01" + CHAINED[kind]) * levels
        )
        return b"\x80\x05" + opened + b"N" + b")NtR" * (levels + 1) + b"."

    def grouped(levels: int) -> bytes:
        opened = name("as_group") + b"(" + text("BaseExceptionGroup") + b"\x94" + text("m") + b"N)N"
        inner = b"\x8c\x0elensipc.values" + text("as_error") + b"\x93(" + text(kind) + CHAINED[kind] + b"N)NtR"
        return (
            b"\x80\x05" + opened + (b"h\x00(h\x01" + text("m") + b"N)N") * levels + inner + b"tR" * (levels + 1) + b"."
        )

    arrived = clone.decode(chained(100))
    traceback.format_exception(arrived)
    pickle.dumps(clone.decode(grouped(90)))
    for levels in (101, 5000, 300_000):
        for body in (chained(levels), grouped(levels)):
            with pytest.raises(DecodeError, match="nested too deep"):
                clone.decode(body)


def test_who_sends_exceptions_nested_too_deep_is_told_where() -> None:
    def chained(levels: int) -> BaseException:
        error: BaseException = ValueError(0)
        for _ in range(levels):
            outer = OSError("x")
            outer.__cause__ = error
            error = outer
        return error

    def unchain(error: BaseException) -> None:
        while error.__cause__ is not None:  # freed one by one, or this test would crash
            error, error.__cause__ = error.__cause__, None

    arrived, count = clone.decode(clone.encode(chained(100))), 0
    while arrived.__cause__ is not None:
        arrived, count = arrived.__cause__, count + 1
    assert count == 100
    for levels in (101, 5000):
        error = chained(levels)
        with pytest.raises(DataCloneError, match=r"value\[1\]\['e'\] is an exception with more than 100 causes"):
            clone.encode([0, {"e": error}])
        unchain(error)
    group: BaseException = ValueError(0)
    for _ in range(150):
        group = BaseExceptionGroup("m", [group])
    with pytest.raises(DataCloneError):
        clone.encode(group)


def test_exceptions_with_too_much_text_are_refused() -> None:
    texts = large(b"X", b"x" * 32_000) + b"0"
    one = b"\x8c\x0elensipc.values\x8c\x08as_error\x93(" + text("ValueError") + b"(" + b"h\x00" * 30 + b"tN)NtR"
    clone.decode(b"\x80\x05" + texts + one + b".")
    group = (
        b"\x8c\x0elensipc.values\x8c\x08as_group\x93(" + text("ExceptionGroup") + text("m") + b"N)N" + one + one + b"tR"
    )
    with pytest.raises(DecodeError, match="too much text"):
        clone.decode(b"\x80\x05" + texts + group + b".")
    with pytest.raises(DecodeError, match="too much text"):
        clone.decode(b"\x80\x05" + texts + one.replace(b"h\x00" * 30, b"h\x00" * 40) + b".")


def test_exceptions_that_hold_each_other_twice_and_again_are_refused() -> None:
    body = name("as_group") + b"0\x8c\x0elensipc.values\x8c\x08as_error\x93(" + text("ValueError") + b")N)NtR\x940"
    for i in range(40):
        body += b"h\x00(" + text("ExceptionGroup") + text("m") + b"N)N" + 2 * (b"h" + bytes([i + 1])) + b"tR\x940"
    with pytest.raises(DecodeError):
        clone.decode(b"\x80\x05" + body + b"h\x29.")


HOSTILE_ARGS: list[tuple[Any, ...]] = [
    (), (None,), ("x",), ("x" * 32_768,), (b"x" * 32_768,), ("\ud800\0",), (-(1 << 63), (1 << 63) - 1),
    (float("nan"), True),
    ("x", "y"), (2, "no", "f"), (2, "no", "f", None, "g"), (2, b"\xff", b"\0"), (None,) * 5, (True,) * 64,
    ("x", "f"), ("utf-8", b"x", 0, 1, "y"), ("utf-8", "x", 0, 1, "y"), ("x", 0, 1, "y"), ("utf-8", b"", 0, 0, ""),
    ("\ud800", b"x", 0, 1, "\ud800"), ("", "\ud800" * 9, 3, 5, ""), (1 << 62, 1 << 62), ("x", None, None, None, None),
]  # fmt: skip


@pytest.mark.parametrize("kind", constructors.EXCEPTIONS)
def test_whatever_an_exception_was_made_of_it_can_be_shown_raised_and_pickled(kind: str) -> None:
    arrived = 0
    for number, args in enumerate(HOSTILE_ARGS):
        surrogates = 32_768 if number == 0 else 32  # each takes its time
        long = "\ud800" * surrogates + "t" * (32_768 - surrogates)
        cause = message("as_error", "UnicodeDecodeError", ("utf-8", b"x", 0, 1, "y"), None, ("n\ud800",), "t")
        for body in (
            message("as_error", kind, args, None, (), None),
            message("as_error", kind, args, None, ("n" * 32_768,) * 3, long),
            message("as_error", kind, args, None, (), None).replace(b"N)N", cause[2:-1] + b")N"),
        ):
            try:
                error = clone.decode(body)
            except DecodeError:
                continue
            arrived += 1
            assert type(error) in (
                constructors.EXCEPTIONS[kind],
                *constructors.EXCEPTIONS[kind].__subclasses__(),
            )  # OSError's
            assert all(type(each) is str for each in (str(error), repr(error)))
            for printed in (traceback.format_exception(error), traceback.format_exception(ValueError(error))):
                assert "".join(printed)
            with pytest.raises(BaseException) as raised:  # noqa: PT011
                raise error
            assert raised.value is error
            error.__traceback__ = None
            hash(error)
            copied = pickle.loads(pickle.dumps(error, 5))
            assert type(copied) is type(error)
            assert copied.args == error.args or "nan" in repr(args)
            again = clone.decode(clone.encode(error))
            assert type(again) is type(error)
            assert str(again) == str(error) or len(str(error)) > 30_000
    assert arrived or issubclass(constructors.EXCEPTIONS[kind], BaseExceptionGroup)


def test_what_an_honest_peer_may_know_and_this_process_does_not_is_told_apart() -> None:
    moment = b"\x07\xe4\x01\x01\0\0\0\0\0\0"
    for body, told in [
        (message("as_registered", "nobody", None), "nothing is registered here as 'nobody'"),
        (message("as_timezone", "No/Where"), "no time zone 'No/Where'"),
        (message("as_datetime", moment, "Mars/Olympus"), "no time zone 'Mars/Olympus'"),
        (message("as_time", 1, 2, 3, 4, 0, "europe/paris"), "no time zone 'europe/paris'"),
        (message("as_timezone", "../../etc/passwd"), "no time zone '../../etc/passwd'"),
        (message("as_timezone", "/etc/passwd"), "no time zone '/etc/passwd'"),
        (message("as_timezone", "a\0b"), r"no time zone 'a\\x00b'"),
        (message("as_timezone", "Europe"), "no time zone 'Europe'"),
        (message("as_timezone", ""), "no time zone ''"),
        (message("as_error", "NewError", (), None, (), None), "no exception 'NewError'"),
        (message("as_error", "object", (), None, (), None), "no exception 'object'"),
        (message("as_error", "__import__", ("os",), None, (), None), "no exception '__import__'"),
        (message("as_error", "IOError", (), None, (), None), "no exception 'IOError'"),
    ]:
        for read in (clone.decode, lambda body: clone.decode_owned(bytearray(body)), clone.weigh):
            with pytest.raises(UnknownValueError, match=told):
                read(body)
        assert clone.decode(message("as_is", 5)) == 5
    assert issubclass(UnknownValueError, DecodeError)


REGISTERED = """
import collections
from lensipc import clone
from lensipc.errors import DecodeError

Pair = collections.namedtuple("Pair", "left right")
clone.register(Pair, "pair", list, lambda payload: Pair(*payload))
one = b"\\x8c\\x0elensipc.values\\x8c\\x0das_registered\\x93\\x8c\\x04pair]("

def nested(levels):
    return one * levels + b"N" + b"Ne\\x86R" * levels

few = clone.decode(b"\\x80\\x05" + nested(300) + b".")
assert type(few.left.left) is Pair
assert clone.decode(clone.encode({few: 1})) == {few: 1}
for levels in (1100, 300_000):
    for body in (nested(levels), b"}" + nested(levels) + b"Ns", b"(" + nested(levels) + b"\\x91"):
        try:
            clone.decode(b"\\x80\\x05" + body + b".")
        except DecodeError as error:
            assert "more than 1000 levels" in str(error), error
        else:
            raise SystemExit("decoded")
"""


@pytest.mark.process
def test_values_of_a_registered_type_in_each_other_are_a_thousand_levels_deep_at_most() -> None:
    """In a child: hash() of a named tuple recurses without a check, and 300,000 levels of it would crash."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", REGISTERED],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_buffer_is_the_memory_of_one_array() -> None:
    body = bytearray(clone.encode([np.zeros(20_000), np.ones(20_000)]))
    at = bytes(body).index(b"K\x01", bytes(body).index(b"K\x00"))
    body[at + 1] = 0
    with pytest.raises(DecodeError, match="taken"):
        clone.decode(body)


def test_a_dtype_nested_too_deep_is_refused_on_both_sides() -> None:
    with pytest.raises(DecodeError, match="too deep"):
        clone.decode(message("as_array", nested_dtype(100), "C", b"\0", 1))
    dtype: Any = np.dtype("u1")
    for _ in range(40):
        dtype = np.dtype([("a", dtype)])
    with pytest.raises(DataCloneError, match="nested too deep"):
        clone.encode(np.zeros(1, dtype))


def test_an_array_cannot_stand_for_the_memory_of_a_larger_one() -> None:
    def array(*args: bytes) -> bytes:
        return b"\x8c\x0elensipc.values\x8c\x08as_array\x93(" + b"".join(args) + b"tR"

    inner = array(b"\x8c\x03<f8\x8c\x01C", b"C\x08" + bytes(8), b"K\x01")
    for shape in (b"K\x02", b"K\x00", b"K\x01K\x02"):
        with pytest.raises(DecodeError, match="differ"):
            clone.decode(b"\x80\x05" + array(b"\x8c\x03<f8\x8c\x01C", inner, shape) + b".")
    arrived = clone.decode(b"\x80\x05" + array(b"\x8c\x03<i4\x8c\x01C", inner, b"K\x02") + b".")
    assert arrived.tolist() == [0, 0]


def test_bools_and_texts_share_their_memory_with_none_but_their_like() -> None:
    """Else who writes to the other array makes what numpy believes to be 0 or 1, or a character, something else."""

    def array(*args: bytes) -> bytes:
        return b"\x8c\x0elensipc.values\x8c\x08as_array\x93(" + b"".join(args) + b"tR"

    def named(text: str) -> bytes:
        return b"\x8c" + bytes([len(text)]) + text.encode() + b"\x8c\x01C"

    for one, other in (("|u1", "|b1"), ("|b1", "|u1"), ("|b1", "|i1")):
        inner = array(named(one), b"C\x04\1\0\1\0", b"K\x04")
        with pytest.raises(DecodeError, match="share memory with an array of another dtype"):
            clone.decode(b"\x80\x05" + array(named(other), inner, b"K\x04") + b".")
    numbers, flags = np.zeros(4, np.uint8), np.zeros(4, np.bool_)
    fields = np.zeros(4, [("a", "?"), ("b", "u1")])
    for first, second, shared in (
        (numbers, numbers.view("?"), False), (numbers.view("?"), numbers, False), (flags, flags.reshape(2, 2), True),
        (numbers, numbers.view("i4"), True), (fields, fields.view("V2"), False), (fields, fields[:], True),
    ):  # fmt: skip
        arrived = clone.decode(clone.encode((first, second)))
        assert np.shares_memory(*arrived) is shared
        assert [each.dtype for each in arrived] == [first.dtype, second.dtype]


@pytest.mark.parametrize("told", ["<U1000", ("array", "|b1", 4000)])
def test_bools_and_texts_that_many_fields_show_are_counted_for_each(told: Any) -> None:
    def shown(times: int) -> bytes:
        dtype = ("fields", 4000, False, *((f"f{i}", 0, told) for i in range(times)))
        return message("as_array", dtype, "C", bytes(4000 * 500), 500)

    clone.decode(shown(2))
    with pytest.raises(DecodeError, match="decode_budget allows"):
        clone.decode(shown(1500))


def test_buffers_beside_the_pickle_are_checked_one_by_one() -> None:
    body = clone.encode({"a": np.arange(20_000.0), "b": np.ones(10_000)})
    assert body[:4] == _fast.MAGIC
    count, size = struct.unpack_from("<IQ", body, 4)
    assert count == 2
    for offset, form, change in [
        (4, "<I", 3), (4, "<I", 1), (4, "<I", 2**32 - 1), (8, "<Q", 0), (8, "<Q", size + 1),
        (8, "<Q", 2**64 - 1), (16, "<Q", 0), (16, "<Q", 160_001), (16, "<Q", 2**64 - 1), (24, "<Q", 79_999),
        (24, "<Q", 80_001),
    ]:  # fmt: skip
        bad = bytearray(body)
        struct.pack_into(form, bad, offset, change)
        decode: Callable[[Any], Any]
        for decode in (clone.decode, lambda b: clone.decode_owned(memoryview(b))):
            with pytest.raises(DecodeError):
                decode(bad)
    for part in (body[:-1], body + b"\0", body[:20], body[:4], _fast.MAGIC + body[4:16]):
        with pytest.raises(DecodeError):
            clone.decode(part)


def test_constructors_have_nothing_to_poison() -> None:
    for name, row in constructors.TABLE.items():
        assert row.name == name
        assert getattr(constructors, name) is row
        assert not hasattr(row, "__dict__")
        assert not hasattr(row, "__setstate__")
        with pytest.raises(TypeError, match="called by messages only"):
            row()
        with pytest.raises(DataCloneError):
            clone.encode(row.make)


def test_patterns_of_one_message_share_a_budget_on_both_sides() -> None:
    def costly(count: int) -> list[re.Pattern[str]]:
        return [re.compile(f"{i:04}[\u0100-\uffff]") for i in range(count)]

    assert clone.decode(clone.encode(costly(8))) == costly(8)
    with pytest.raises(DataCloneError, match=r"value\[8\] is a pattern that takes too long"):
        clone.encode(costly(9))
    with pytest.raises(DataCloneError, match=r"value\[0\] is a pattern that takes too long"):
        clone.encode(costly(1), Limits(budget=100_000))
    with pytest.raises(DecodeError, match="decode_budget allows"):
        clone.decode(clone.encode(costly(1)), Limits(budget=100_000))
    with pytest.raises(DataCloneError, match="longer than"):
        clone.encode(re.compile("a" * 9000))
    many = [re.compile(f"{i:04}[a-z0-9_]+(?:x|y)", re.IGNORECASE) for i in range(40)]
    assert clone.decode(clone.encode(many)) == many


def test_what_the_sender_would_refuse_of_a_fraction_is_told_there() -> None:
    with pytest.raises(DataCloneError, match="Fraction"):
        clone.encode(fractions.Fraction(1 << 70_000, 3))


@pytest.mark.process
def test_importing_the_codec_imports_none_of_the_types() -> None:
    code = (
        "import logging, sys; before = set(sys.modules); import lensipc.clone; "  # logging imports pathlib in 3.15
        "late = {'numpy', 'decimal', 'fractions', 'uuid', 'pathlib', 'ipaddress', 'dataclasses', 'zoneinfo'}; "
        "print(*sorted((set(sys.modules) - before) & late))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_dtypes_are_told_and_built_alike() -> None:
    for told in (
        "?",
        ">i4",
        "U3",
        "V1",
        "S1",
        "M8[7D]",
        "M8",
        "g",
        [("a", "f4"), ("b", "u1", (2, 2))],
        [("a", "M8[ns]")],
    ):
        dtype = np.dtype(told)
        assert ndarray.build_dtype(ndarray.dtype_text(dtype)) == dtype
    for told in ("V0", "S0", "U0", "O", [], [("a", "S0")], [("a", "O")], f"V{(1 << 28) + 1}"):
        with pytest.raises(ndarray.RefusedError):
            ndarray.dtype_text(np.dtype(told))


def test_items_of_an_array_have_a_byte_at_least_and_256_mib_at_most() -> None:
    largest = 1 << 28
    for size in (1, largest):
        assert ndarray.build_dtype(f"|V{size}").itemsize == size
        assert ndarray.build_dtype(("fields", size, False, ("a", size - 1, "|u1"))).itemsize == size
        assert ndarray.build_dtype(("array", "|u1", size)).itemsize == size
    for text in (
        "|V0", f"|V{largest + 1}", ("fields", 0, False), ("fields", largest + 1, False, ("a", 0, "|u1")),
        ("array", "|u1", 0), ("array", "|u1", largest + 1),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"not a dtype|too large|not a length"):
            ndarray.build_dtype(text)
    for value in (
        np.zeros(3, [("a", "S0")])["a"],
        np.zeros(0, f"V{largest + 1}"),
        np.zeros(0, [("a", f"V{largest + 1}")]),
    ):
        with pytest.raises(DataCloneError, match="whose items have"):
            clone.encode(value)
    with pytest.raises(DataCloneError, match="whose items have 0 bytes"):
        clone.encode(np.zeros(3, [("a", "S0")]))
