# SPDX-License-Identifier: MIT
"""Constructors given what a hostile peer would give them, and what they must not do with it."""

from __future__ import annotations

import fractions
import ipaddress
import pathlib
import pickle
import re
import struct
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lensipc import arrays, clone, values
from lensipc.errors import DataCloneError, DecodeError


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
    ("as_datetime", (b"\x07\xe4\x01\x01\0\0\0\0\0\0", "../../etc/passwd")),
    ("as_datetime", (b"\x07\xe4\x01\x01\0\0\0\0\0\0", "/etc/passwd")),
    ("as_datetime", (b"\x07\xe4\x01\x01\0\0\0\0\0\0", "No/Where")),
    ("as_datetime", (b"\x07\xe4\x01\x01\0\0\0\0\0\0", "A" * 65)),
    ("as_datetime", (b"\x07\xe4\x01\x01\0\0\0\0\0\0", b"UTC")), ("as_timezone", (None,)),
    ("as_timezone", ("a\0b",)), ("as_date", (0, 1, 1)), ("as_date", (2020, 2, 30)),
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
    ("as_pattern", (1, 0)), ("as_pattern", ("[a-\\uffff]" * 50, 2)), ("as_pattern", ("a", 1 << 70)),
    ("as_pattern", (bytearray(b"a"), 0)), ("as_path", ("Path", "/a")), ("as_path", ("os", "/a")),
    ("as_path", ("PosixPath", b"/a")), ("as_path", ("PosixPath", ["a"])),
    ("as_address", ("IPv4Address", "x")), ("as_address", ("ip_address", "1.2.3.4")),
    ("as_address", ("IPv4Address", 5)), ("as_address", ("IPv4Network", "1.2.3.4/8")),
    ("as_address", ("IPv6Address", "::" + "0" * 1000)), ("as_address", (5, "x")),
    ("as_error", ("OSError",)), ("as_error", ("object", (), None, (), None)),
    ("as_error", ("eval", ("1",), None, (), None)), ("as_error", ("ValueError", [1], None, (), None)),
    ("as_error", ("ValueError", (), 5, (), None)), ("as_error", ("ValueError", (), None, (5,), None)),
    ("as_error", ("ValueError", (), None, (), 5)), ("as_error", ("__import__", ("os",), None, (), None)),
    ("as_packed", ("x", b"")), ("as_packed", ("d", b"abc")), ("as_packed", ("bb", b"")),
    ("as_packed", ("d", [1.0])), ("as_packed", ("O", bytes(8))), ("as_packed", ("u", b"abc")),
    ("as_array", ("O", "C", bytes(8), 1)), ("as_array", ("|O8", "C", bytes(8), 1)),
    ("as_array", ("<f8", "C", bytes(8), 2)), ("as_array", ("<f8", "K", bytes(8), 1)),
    ("as_array", ("<f8", "C", bytes(8), -1)), ("as_array", ("<f8", "C", bytes(8), 1.0)),
    ("as_array", ("<f8", "C", bytes(8), True)), ("as_array", ("<f8", "C", 0, 1)),
    ("as_array", ("<f8", "C", -1, 1)), ("as_array", ("<f8", "C", bytearray(8), 1)),
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
    ("as_array", (("array", "|u1", 1 << 40), "C", b"", 0)),
    ("as_array", (("array", "|u1", -1), "C", b"", 0)), ("as_array", (("other",), "C", b"", 0)),
    ("as_array", (5, "C", b"", 0)), ("as_scalar", ("|O8", bytes(8))), ("as_scalar", ("<f8", b"")),
    ("as_scalar", ("|b1", b"\2")), ("as_scalar", ("<f8", 1.5)), ("as_scalar", ("<U1", b"\xff\xff\xff\xff")),
    ("as_registered", ("nobody", None)), ("as_registered", (["x"], None)),
]  # fmt: skip


@pytest.mark.parametrize(("constructor", "args"), REFUSED, ids=lambda v: "" if isinstance(v, tuple) else v)
def test_what_no_encoder_writes_is_refused(constructor: str, args: tuple[Any, ...]) -> None:
    body = message(constructor, *args)
    with pytest.raises(DecodeError) as raised:
        clone.decode(body)
    assert "byte" not in str(raised.value).split()[0]


def test_the_helper_above_makes_messages_that_pass() -> None:
    assert clone.decode(message("as_uuid", 5)).int == 5
    assert clone.decode(message("as_array", "<f8", "C", bytes(8), 1)).tolist() == [0.0]


def nested_dtype(depth: int) -> Any:
    text: Any = "|u1"
    for _ in range(depth):
        text = ("fields", 1, False, ("a", 0, text))
    return text


def test_a_dtype_that_holds_another_twice_and_again_is_refused() -> None:
    shared: Any = "|V0"
    for _ in range(30):
        shared = ("fields", 0, False, ("a", 0, shared), ("b", 0, shared))
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
MANY_TIMES = {
    "as_packed": (text("B") + large(b"B", bytes(1 << 20)) + b"\x86R", text("B") + b"h\x01\x86R"),
    "as_array": (
        b"(" + U1 + large(b"B", bytes(1 << 16)) + b"J\0\0\1\0tR",
        b"(" + U1 + b"h\x01J\0\0\1\0tR",
    ),
    "as_path": (text("PosixPath") + large(b"X", b"/a" * 500_000) + b"\x86R", text("PosixPath") + b"h\x01\x86R"),
    "as_network": (
        text("IPv6Network") + b"\x94" + text("::/0") + b"\x94\x86R",
        b"h\x01h\x02\x86R",  # 8 bytes for what Python takes 10 us for
    ),
    "as_decimal": (large(b"X", b"1" * 4000) + b"\x85R", b"h\x01\x85R"),
    "as_error": (
        b"(" + text("ValueError") + b"(" + b"N" * 100_000 + b"t\x94N)NtR",
        b"(" + text("ValueError") + b"h\x01N)NtR",
    ),
}


@pytest.mark.parametrize("constructor", MANY_TIMES)
def test_one_piece_of_a_message_is_not_worked_on_many_times(constructor: str) -> None:
    once, again = MANY_TIMES[constructor]
    head = b"\x80\x05(" + name(constructor) + once
    assert clone.decode(head + b"t.")
    with pytest.raises(DecodeError, match="more than the message has"):
        clone.decode(head + (b"h\x00" + again) * 10_000 + b"t.")


TEXT = "x" * 200
MANY = tuple(range(200))
SHARED: dict[str, Callable[[], object]] = {
    "paths": lambda: pathlib.PurePosixPath(TEXT),
    "windows paths": lambda: pathlib.PureWindowsPath(TEXT),
    "arguments of exceptions": lambda: ValueError(*MANY),
    "numerators": lambda: fractions.Fraction(1 << 4000, 1),
    "networks": lambda: ipaddress.ip_network("::/0"),
    "addresses": lambda: ipaddress.ip_address("::"),
    "scopes": lambda: ipaddress.ip_address("::%eth0"),
    "dtypes": lambda: np.empty(0, [(f"f{i}", "i1") for i in range(60)]),
    "memory": lambda: np.frombuffer(TEXT.encode(), np.uint8),
}


@pytest.mark.parametrize("what", SHARED)
def test_many_values_that_share_their_parts_arrive(what: str) -> None:
    sent = [SHARED[what]() for _ in range(1000)]
    arrived = clone.decode(clone.encode(sent))
    assert len(arrived) == 1000
    assert {repr(value) for value in arrived} == {repr(sent[0])}


@pytest.mark.parametrize("kind", ["OSError", "ValueError", "StopIteration", "SystemExit", "UnicodeDecodeError"])
def test_exceptions_chained_without_end_are_refused(kind: str) -> None:
    """Those with a layout of their own are freed by recursion: 300,000 of them would crash."""

    def chained(levels: int) -> bytes:
        opened = name("as_error") + b"(" + text(kind) + b"\x94)" + b"h\x00(h\x01)" * levels
        return b"\x80\x05" + opened + b"N" + b")NtR" * (levels + 1) + b"."

    assert isinstance(clone.decode(chained(300)), BaseException)
    for levels in (5000, 300_000):
        with pytest.raises(DecodeError, match="nested too deep"):
            clone.decode(chained(levels))
    error: BaseException = ValueError(0)
    for _ in range(5000):
        outer = OSError("x")
        outer.__cause__ = error
        error = outer
    with pytest.raises(DataCloneError):
        clone.encode(error)
    while error.__cause__ is not None:  # freed one by one, or this test would crash
        error, error.__cause__ = error.__cause__, None


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


def test_buffers_beside_the_pickle_are_checked_one_by_one() -> None:
    body = clone.encode({"a": np.arange(20_000.0), "b": np.ones(10_000)})
    assert body[:4] == clone.MAGIC
    count, size = struct.unpack_from("<IQ", body, 4)
    assert count == 2
    for offset, form, change in [
        (4, "<I", 3), (4, "<I", 1), (4, "<I", 2**32 - 1), (8, "<Q", 0), (8, "<Q", size + 1),
        (8, "<Q", 2**64 - 1), (16, "<Q", 0), (16, "<Q", 160_001), (16, "<Q", 2**64 - 1), (24, "<Q", 79_999),
        (24, "<Q", 80_001),
    ]:  # fmt: skip
        bad = bytearray(body)
        struct.pack_into(form, bad, offset, change)
        for decode in (clone.decode, lambda b: clone.decode_owned(memoryview(b))):
            with pytest.raises(DecodeError):
                decode(bad)
    for bad in (body[:-1], body + b"\0", body[:20], body[:4], clone.MAGIC + body[4:16]):
        with pytest.raises(DecodeError):
            clone.decode(bad)


def test_constructors_have_nothing_to_poison() -> None:
    for constructor in values.CONSTRUCTORS.values():
        assert not hasattr(constructor, "__dict__")
        assert not hasattr(constructor, "__setstate__")
        assert not hasattr(constructor.bind(None), "__dict__")
        assert getattr(values, constructor.name) is constructor
        assert pickle.loads(pickle.dumps([constructor.name])) == [constructor.name]


def test_patterns_of_one_message_share_a_budget_on_both_sides() -> None:
    patterns = [re.compile(f"{i:04}[\u0100-\uffff]") for i in range(60)]
    assert clone.decode(clone.encode(patterns)) == patterns
    with pytest.raises(DataCloneError, match=r"value\[6\d\] is a pattern that takes too long"):
        clone.encode([re.compile(f"{i:04}[\u0100-\uffff]") for i in range(70)])
    with pytest.raises(DataCloneError, match="longer than"):
        clone.encode(re.compile("a" * 9000))
    many = [re.compile(f"{i:04}[a-z0-9_]+(?:x|y)", re.IGNORECASE) for i in range(100)]
    assert clone.decode(clone.encode(many)) == many


def test_what_the_sender_would_refuse_of_a_fraction_is_told_there() -> None:
    from fractions import Fraction

    with pytest.raises(DataCloneError, match="Fraction"):
        clone.encode(Fraction(1 << 70_000, 3))


def test_importing_the_codec_imports_none_of_the_types() -> None:
    import subprocess

    code = (
        "import sys; before = set(sys.modules); import lensipc.clone; "
        "late = {'numpy', 'decimal', 'fractions', 'uuid', 'pathlib', 'ipaddress', 'dataclasses', 'zoneinfo'}; "
        "print(*sorted((set(sys.modules) - before) & late))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


class _Message:
    def take(self, count: int) -> None: ...


def test_dtypes_are_told_and_built_alike() -> None:
    for dtype in ("?", ">i4", "U3", "V0", "S0", "M8[7D]", [("a", "f4"), ("b", "u1", (2, 2))]):
        assert arrays.build_dtype(_Message(), arrays.dtype_text(np.dtype(dtype))) == np.dtype(dtype)
