# SPDX-License-Identifier: MIT
"""What the reader refuses and what it makes of the rest: hostile pickles by hand, mutated ones, and honest ones."""

from __future__ import annotations

import collections
import io
import math
import os
import pickle
import random
import shutil
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fuzz.assembler import call, callee, number, raw, text
from fuzz.fuzz_decode import Unpickler, alike, corpus, mutate, unframed
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import HONEST

import lensipc
from lensipc import clone
from lensipc.clone import Limits, constructors
from lensipc.errors import DecodeError

ROOT = Path(__file__).resolve().parents[1]
P = b"\x80\x05"


def name(constructor: str, module: str = "lensipc.values") -> bytes:
    return callee(module, constructor)


def long(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8b" + struct.pack("<I", len(data)) + data


def doubled(times: int) -> bytes:
    """A tuple that holds another twice, that holds another twice, ... by memo."""
    body = b")\x85\x94"
    for i in range(times):
        body += b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86\x94"
    return body


REFUSED: dict[str, bytes] = {
    "GLOBAL os.system": P + b"cos\nsystem\n(X\x02\0\0\0idtR.",
    "STACK_GLOBAL os.system": P + name("system", "os") + text("id") + b"\x85R.",
    "STACK_GLOBAL builtins.eval": P + name("eval", "builtins") + text("1") + b"\x85R.",
    "INST": P + b"(X\x02\0\0\0idios\nsystem\n.",
    "OBJ": P + b"(cos\nsystem\nX\x02\0\0\0ido.",
    "NEWOBJ": P + name("as_dict") + b")\x81.",
    "NEWOBJ_EX": P + name("as_dict") + b")}\x92.",
    "a dotted name": P + text("lensipc.values") + text("as_dict.make.__globals__") + b"\x93)R.",
    "a dotted module": P + text("lensipc") + text("constructors.as_dict") + b"\x93)R.",
    "another name of the module": P + name("Row") + b"N\x85R.",
    "a private name of the module": P + name("__builtins__") + b"N\x85R.",
    "a name that is a value": P + name("TABLE") + b".",
    "a name from bytes": P + b"C\x0elensipc.values" + b"C\x07as_dict\x93)R.",
    "EXT1": P + b"\x82\x01.",
    "EXT2": P + b"\x83\x01\0.",
    "EXT4": P + b"\x84\x01\0\0\0.",
    "BUILD": P + name("as_dict") + b"}b.",
    "BUILD of a dict": P + b"}}b.",
    "PERSID": P + b"Pid\n.",
    "BINPERSID": P + b"NQ.",
    "NEXT_BUFFER": P + b"\x97.",
    "READONLY_BUFFER": P + b"C\x01a\x98.",
    "PUT": P + b"Np5\n.",
    "BINPUT": P + b"]q\x05.",
    "LONG_BINPUT, a memo bomb": P + b"]r\xff\xff\xff\x0f.",
    "GET": P + b"]\x94g0\n0.",
    "BINGET of nothing": P + b"h\x00.",
    "LONG_BINGET of nothing": P + b"j\xff\xff\xff\xff.",
    "MEMOIZE of nothing": P + b"\x94N.",
    "MEMOIZE above a mark, of nothing": P + b"](\x94e.",
    "MEMOIZE of what is below a mark": P + b"N(\x941.",
    "DUP": P + b"N2\x86.",
    "the text opcodes: INT": P + b"I5\n.",
    "the text opcodes: LONG": P + b"L5L\n.",
    "the text opcodes: FLOAT": P + b"F5\n.",
    "the text opcodes: STRING": P + b"S'a'\n.",
    "the text opcodes: UNICODE": P + b"Va\n.",
    "BINSTRING": P + b"T\x01\0\0\0a.",
    "SHORT_BINSTRING": P + b"U\x01a.",
    "LIST and DICT of protocol 0": P + b"(l.",
    "an older protocol": b"\x80\x04N.",
    "no protocol": b"N.",
    "a protocol twice": P + P + b"N.",
    "nothing": b"",
    "a byte": b"\x80",
    "only a protocol": P,
    "no STOP": P + b"N",
    "bytes behind STOP": P + b"N.N",
    "STOP on nothing": P + b".",
    "STOP on two": P + b"NN.",
    "STOP below a mark": P + b"N(.",
    "BINBYTES beyond the end": P + b"B\xff\xff\xff\x7fabc.",
    "BINBYTES8 beyond the end": P + b"\x8e" + struct.pack("<Q", 1 << 33) + b"abc.",
    "BINBYTES8 that overflows": P + b"\x8e" + b"\xff" * 8 + b"abc.",
    "BYTEARRAY8 beyond the end": P + b"\x96" + struct.pack("<Q", 1 << 33) + b"abc.",
    "BINUNICODE8 beyond the end": P + b"\x8d" + struct.pack("<Q", 1 << 62) + b"abc.",
    "BINUNICODE beyond the end": P + b"X\xff\xff\xff\xffa.",
    "SHORT_BINUNICODE beyond the end": P + b"\x8c\x05abc.",
    "LONG1 beyond the end": P + b"\x8a\x09a.",
    "LONG4 of a negative length": P + b"\x8b\xff\xff\xff\xffa.",
    "BINFLOAT cut": P + b"G\0\0\0.",
    "BININT cut": P + b"J\0.",
    "a length cut": P + b"\x8e\x01\0",
    "a frame beyond the end": P + b"\x95" + struct.pack("<Q", 100) + b"N.",
    "a frame that overflows": P + b"\x95" + b"\xff" * 8 + b"N.",
    "APPEND to a dict": P + b"}Na.",
    "APPEND to a bytearray": P + b"\x96" + bytes(8) + b"K\x01a.",
    "APPENDS to a set": P + b"\x8f(Ne.",
    "APPENDS to a call": P + call("as_packed", text("B"), b"C\x00") + b"(K\x01e.",
    "APPENDS to nothing": P + b"(Ne.",
    "SETITEM of a list": P + b"]K\x00Ns.",
    "SETITEM of a call": P + call("as_array", text("u1"), text("C"), b"C\x00", b"K\x00") + b"K\x00Ns.",
    "SETITEMS of a tuple": P + b")(NNu.",
    "SETITEMS of an odd number": P + b"}(NNNu.",
    "ADDITEMS to a list": P + b"](N\x90.",
    "ADDITEMS to a frozenset": P + b"(\x91(N\x90.",
    "APPEND to a list from the memo": P + b"]\x940h\x00Na.",
    "APPENDS to a list from the memo": P + b"]\x94h\x00(Ne0.",
    "SETITEM of a dict from the memo": P + b"}\x940h\x00NNs.",
    "SETITEMS of a dict from the memo": P + b"}\x940h\x00(NNu.",
    "ADDITEMS to a set from the memo": P + b"\x8f\x940h\x00(N\x90.",
    "APPEND to a list that as_is gave": P + call("as_is", b"]") + b"Na.",
    "APPEND across a mark": P + b"](Na1.",
    "APPEND of nothing": P + b"]a.",
    "SETITEM of half": P + b"}Ns.",
    "REDUCE of a string": P + text("a") + b")R.",
    "REDUCE with a list": P + name("as_is") + b"]R.",
    "REDUCE below a mark": P + name("as_is") + b"(N\x85R.",
    "a dict of arguments": P + call("as_dict", b"N") + b".",
    "a value of nothing": P + name("as_is") + b")R.",
    "as_is of two": P + name("as_is") + b"NN\x86R.",
    "a constructor that nothing calls": P + name("as_is") + b".",
    "a constructor in a list": P + b"]" + name("as_is") + b"a.",
    "a constructor as a key": P + b"}" + name("as_is") + b"Ns.",
    "a constructor as a value": P + b"}N" + name("as_is") + b"s.",
    "a constructor as an argument": P + name("as_is") + name("as_is") + b"\x85R.",
    "a constructor dropped": P + name("as_is") + b"0N.",
    "a constructor dropped with a mark": P + b"N(" + name("as_is") + b"1.",
    "a constructor that nothing calls, from the memo": P + name("as_dict") + b"\x94)R0h\x00.",
    "a constructor in a set": P + b"\x8f(" + name("as_is") + b"\x90.",
    "a constructor in a frozenset": P + b"(" + name("as_is") + b"\x91.",
    "a constructor in a tuple": P + name("as_is") + b"\x85.",
    "a constructor as the name of one": P + text("lensipc.values") + name("as_is") + b"\x93.",
    "a constructor left below": P + name("as_is") + b"N.",
    "a constructor that another one's name drops": P + name("as_is") + text("as_is") + b"\x93.",
    "a constructor from the memo in a list": P + name("as_is") + b"\x94N\x85R0]h\x00a.",
    "TUPLE2 across a mark": P + b"N(N\x86.",
    "TUPLE3 of two": P + b"NN\x87.",
    "TUPLE without a mark": P + b"Nt.",
    "POP of nothing": P + b"0N.",
    "POP of a mark": P + b"N(0.",
    "POP_MARK without a mark": P + b"N1.",
    "an unhashable key": P + b"}]Ns.",
    "an unhashable element": P + b"\x8f(}\x90.",
    "an unhashable part of a frozenset": P + b"(]\x85\x91.",
    "an instance as a key": P + b"}" + name("as_dict") + b")RNs.",
    "an int key twice": P + b"}(K\x01NK\x01Nu.",
    "an int key twice, in two batches": P + b"}(K\x01Nu(K\x01Nu.",
    "a key twice, once as a float": P + b"}(K\x01NG" + struct.pack(">d", 1.0) + b"Nu.",
    "a key twice, once as a bool": P + b"}(K\x01N\x88Nu.",
    "a key twice, once as what another type equals": (
        P + b"}(" + call("as_decimal", text("1")) + b"NK\x01Nu."
    ),
    "a string key twice": P + b"}(" + text("a") + b"N" + text("a") + b"Nu.",
    "a string key twice, in two ways": P + b"}(" + text("a") + b"NX\x01\0\0\0aNu.",
    "a key twice, once with idle bytes": P + b"}(K\x01N\x8a\x0c\x01" + bytes(11) + b"Nu.",
    "a tuple key twice": P + b"}(K\x01\x85NK\x01\x85Nu.",
    "an element twice": P + b"\x8f(K\x01K\x01\x90.",
    "an element of a frozenset twice": P + b"(K\x01K\x01\x91.",
    "text that is none": P + b"\x8c\x01\xff.",
    "text that is none, as a key": P + b"}\x8c\x01\xffNs.",
    "long text that is none": P + b"X\x01\0\0\0\xff.",
    "a buffer's name where there is none": P + call("as_array", text("|u1"), text("C"), b"K\x00", b"K\x01") + b".",
    "empty sets without end": P + b"(" + b"\x8f" * 3_000_000 + b"t.",
    "empty lists without end": P + b"(" + b"]" * 3_000_000 + b"t.",
    "empty dicts without end": P + b"(" + b"}" * 3_000_000 + b"t.",
    "tuples in tuples without end": P + b")" + b"\x85" * 3_000_000 + b".",
    "a tuple doubled 59 times as a key": P + b"}" + doubled(59) + b"Ns.",
    "a tuple doubled 25 times as an element": P + b"\x8f(" + doubled(25) + b"\x90.",
    "a tuple of weight 2**20, a hundred times a key": (
        P + b"(" + b"".join(b"}" + (doubled(20) if i == 0 else b"h\x14") + b"Ns" for i in range(100)) + b"t."
    ),
    "a deep tuple as a key": P + b"})" + b"\x85" * 75_000 + b"Ns.",
    "ints of one hash": P + b"}(" + b"".join(long(k * (2**61 - 1)) + b"N" for k in range(1, 20_000)) + b"u.",
    "ints of one hash in batches": (
        P + b"}" + b"".join(b"(" + long(k * (2**61 - 1)) + b"Nu" for k in range(1, 20_000)) + b"."
    ),
    "ints of one hash in many dicts": (
        P + b"(" + b"".join(
            b"}(" + b"".join(long(k * (2**61 - 1)) + b"N" for k in range(1, 1000)) + b"u" for _ in range(50)
        ) + b"t."
    ),
    "ints of one hash in a set": (
        P + b"\x8f(" + b"".join(long(k * (2**61 - 1)) for k in range(1, 20_000)) + b"\x90."
    ),
    "ints of one hash in a frozenset": (
        P + b"(" + b"".join(long(k * (2**61 - 1)) for k in range(1, 20_000)) + b"\x91."
    ),
    "UUIDs of one hash": (
        P + name("as_uuid") + b"\x94N\x85R0}("
        + b"".join(b"h\x00" + long(k * (2**61 - 1)) + b"\x85RN" for k in range(1, 20_000)) + b"u."
    ),
    "Decimals of one hash": (
        P + name("as_decimal") + b"\x94" + text("1") + b"\x85R0}("
        + b"".join(b"h\x00" + text(str(k * (2**61 - 1))) + b"\x85RN" for k in range(1, 20_000)) + b"u."
    ),
}  # fmt: skip


def chain(size: int) -> list[int]:
    """A third of the slots of a dict of that size, as small ints, in the order in which it looks for a free one."""
    found, slot = [], 0
    for _ in range(size // 3):
        found.append(slot)
        slot = (slot * 5 + 1) % size
    return found


def small(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


CHAIN = chain(1 << 17)
REFUSED["ints along one probe chain, and one again and again"] = (
    P + b"}(" + b"".join(small(k) + b"N" for k in CHAIN) + b"u" + (b"(" + small(CHAIN[-1]) + b"Nu") * 40_000 + b"."
)
REFUSED["ints along one probe chain, and as many that land on it"] = (
    P + b"}(" + b"".join(small(k) + b"N" for k in CHAIN + [k + (1 << 17) for k in CHAIN]) + b"u."
)


@pytest.mark.parametrize("what", REFUSED)
def test_a_hostile_message_is_refused(what: str) -> None:
    body = REFUSED[what]
    for read in (clone.decode, lambda body: clone.decode_owned(bytearray(body)), clone.weigh):
        with pytest.raises(DecodeError, match=r"^byte \d+: "):
            read(body)
    assert clone.decode(clone.encode([1, {"a": (2,)}])) == [1, {"a": (2,)}]


FRAME = b"\x95"
ACCEPTED: dict[str, tuple[bytes, Any]] = {
    "a memo of an atom": (b"N\x94h\x00\x86", (None, None)),
    "a memo of a memo": (b"K\x05\x94h\x00\x94h\x01\x87", (5, 5, 5)),
    "a value remembered twice": (b"]\x94\x94h\x00h\x01\x87", ([], [], [])),
    "a value remembered after its items": (b"](K\x01e\x94h\x00\x86", ([1], [1])),
    "a value remembered after another has come and gone": (b"]K\x010\x94h\x00\x86", ([], [])),
    "a memo that nothing takes": (b"N\x94N\x94N\x94\x87", (None, None, None)),
    "a long reference": (b"K\x05\x94j\0\0\0\0\x86", (5, 5)),
    "an argument from the memo": (text("2") + b"\x940" + name("as_decimal") + b"h\x00\x85R", 2),
    "arguments from the memo": (b"K\x05\x85\x940" + name("as_is") + b"h\x00R", 5),
    "arguments of two calls": (b"K\x05\x85\x940" + 2 * (name("as_uuid") + b"h\x00R") + b"(\x91\x87", ...),
    "a constructor from the memo": (name("as_is") + b"\x94N\x85R0h\x00K\x05\x85R", 5),
    "a frame that straddles an opcode": (FRAME + struct.pack("<Q", 1) + b"K\x05", 5),
    "a frame in a frame": (FRAME + struct.pack("<Q", 11) + FRAME + struct.pack("<Q", 2) + b"N", None),
    "a frame of nothing": (FRAME + bytes(8) + b"N", None),
    "a frame in the midst": (b"](K\x05" + FRAME + struct.pack("<Q", 2) + b"e", [5]),
    "an int of no bytes": (b"\x8a\x00", 0),
    "an int with idle bytes": (b"\x8a\x0c\x01" + bytes(11), 1),
    "a negative int with idle bytes": (b"\x8a\x0c" + b"\xff" * 12, -1),
    "a long int of few bytes": (b"\x8b\x01\0\0\0\xff", -1),
    "ints of each length": (
        b"](" + b"".join(long(-1 << 8 * i) for i in range(12)) + b"e", [-1 << 8 * i for i in range(12)]
    ),
    "a surrogate": (b"\x8c\x03\xed\xa0\x80", "\ud800"),
    "a surrogate as a key": (b"}\x8c\x03\xed\xa0\x80Ns", {"\ud800": None}),
    "text of eight bytes' length": (b"\x8d" + struct.pack("<Q", 1) + b"a", "a"),
    "bytes of eight bytes' length": (b"\x8e" + struct.pack("<Q", 1) + b"a", b"a"),
    "a bytearray": (b"\x96" + struct.pack("<Q", 1) + b"a", bytearray(b"a")),
    "items in batches": (b"](K\x01K\x02e(K\x03eK\x04a", [1, 2, 3, 4]),
    "batches of none": (b"](e(e", []),
    "pairs in batches": (b"}(K\x01NuK\x02Ns(u", {1: None, 2: None}),
    "elements in batches": (b"\x8f(K\x01\x90(K\x02K\x03\x90", {1, 2, 3}),
    "what is dropped": (b"N0N(NN1", None),
    "items of what as_dict and as_list make": (
        name("as_dict") + b")R(K\x01" + name("as_list") + b")R(K\x02eu", {1: [2]}
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", ACCEPTED)
def test_an_honest_message_is_accepted(what: str) -> None:
    opcodes, expected = ACCEPTED[what]
    arrived = clone.decode(P + opcodes + b".")
    if expected is not ...:
        assert arrived == expected
        assert type(arrived) is type(expected) or what == "an argument from the memo"
    assert alike(arrived, Unpickler(io.BytesIO(unframed(P + opcodes + b"."))).load())


def test_the_error_names_the_byte() -> None:
    for body, offset in [
        (P + b"N\x82\x01.", 3),
        (P + b"](N\x90.", 5),
        (P + b"N", 3),
        (P + b"\x8c\x05ab.", 2),
        (P + b"N" + call("as_uuid", b"N") + b"0.", 3 + 16 + 9 + 1 + 3),
        (b"", 0),
    ]:
        with pytest.raises(DecodeError, match=rf"^byte {offset}: \w+"):
            clone.decode(body)


def test_an_extension_code_that_somebody_resolved_is_refused_all_the_same() -> None:
    import copyreg

    copyreg.add_extension("os", "system", 77)
    try:
        assert pickle.loads(P + b"\x82\x4d.").__name__ == "system"
        with pytest.raises(DecodeError):
            clone.decode(P + b"\x82\x4dX\x02\0\0\0id\x85R.")
    finally:
        copyreg.remove_extension("os", "system", 77)
        copyreg.clear_extension_cache()


HARMLESS: dict[str, Callable[[], Any]] = {
    "many int keys": lambda: dict.fromkeys(range(200_000)),
    "ids": lambda: {i * 7919 % (1 << 40): None for i in range(100_000)},
    "multiples of powers of two": lambda: {i << 32: None for i in range(50_000)},
    "negative keys": lambda: dict.fromkeys(range(-50_000, 50_000)),
    "floats": lambda: {i / 7: None for i in range(50_000)},
    "a grid": lambda: {(x, y): 0 for x in range(-150, 150) for y in range(-150, 150)},
    "a grid of three": lambda: {(x, y, z): 0 for x in range(-10, 10) for y in range(-10, 10) for z in range(-10, 10)},
    "names and numbers": lambda: {(f"name{x}", y): 0 for x in range(300) for y in range(100)},
    "a set of pairs": lambda: {(x, str(x)) for x in range(50_000)},
    "frozensets": lambda: {frozenset((x, x + 1)) for x in range(50_000)},
    "a set of ints": lambda: set(range(100_000)),
    "a frozenset of strings": lambda: frozenset(map(str, range(50_000))),
    "sets of ints": lambda: [set(range(i, i + 20)) for i in range(5000)],
    "rows": lambda: [{"id": i} for i in range(200_000)],
    "rows of ints": lambda: [{1: i} for i in range(100_000)],
    "lists of one": lambda: [[i] for i in range(300_000)],
    "empty lists": lambda: [[] for _ in range(100_000)],
    "small dicts of ints": lambda: [{1: 2, 3: 4, 5: 6} for _ in range(50_000)],
    "nothing and zero": lambda: {(None, None), (None, 0), (0, None), (0.0, 0), (0, ""), ("", None), ((), None)},
    "not a number": lambda: {(math.nan, i) if i % 2 else (float("nan"), 0): i for i in range(1000)},
    "large ints": lambda: {1 << i: i for i in range(3000)},
    "a shared tuple in many dicts": lambda: [{key: 1} for key in [tuple(range(100))] for _ in range(10_000)],
}


@pytest.mark.parametrize("what", HARMLESS)
def test_large_honest_data_passes(what: str) -> None:
    value = HARMLESS[what]()
    for body in (clone.encode(value), pickle.dumps(value, 5)):
        arrived = clone.decode(body)
        assert len(arrived) == len(value)
        assert arrived == value or what == "not a number"


@pytest.mark.parametrize("what", HONEST)
def test_what_the_encoder_writes_passes(what: str) -> None:
    body = clone.encode(HONEST[what])
    arrived = clone.decode(body)
    assert type(arrived) in (type(HONEST[what]), dict)
    weighed, weight = clone.weigh(bytearray(body))
    assert weight >= len(body)
    if what != "deep":  # too deep to be compared
        assert alike(weighed, arrived)


def test_each_constructor_is_called_by_an_honest_message() -> None:
    called = {name for name in constructors.TABLE for body in map(clone.encode, HONEST.values()) if text(name) in body}
    if sys.version_info >= (3, 12):  # whose pickler follows deeper than any message is
        called.add("as_last")
    assert called == set(constructors.TABLE)


def test_no_other_name_can_be_called() -> None:
    for other in {*vars(constructors), *dir(constructors), "", "as_", "as_dict\0", "AS_DICT"} - set(constructors.TABLE):
        for arguments in (b")", b"N\x85", text("a") + b"\x85"):
            with pytest.raises(DecodeError, match="none of lensipc's constructors"):
                clone.decode(P + name(other) + arguments + b"R.")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.integers() | st.text() | st.tuples(st.integers(), st.text()), inner)
        | st.frozensets(st.integers() | st.text())
        | st.sets(st.integers() | st.tuples(st.floats(allow_nan=False), st.binary()))
    ),
)


@settings(deadline=None)
@given(plain)
def test_pickles_of_plain_data_arrive_as_what_was_pickled(value: Any) -> None:
    body = pickle.dumps(value, 5)
    arrived = clone.decode(body)
    assert alike(arrived, pickle.loads(body))
    assert repr(arrived) == repr(value) or "{" in repr(value)  # the order of sets


@pytest.mark.parametrize("seed", range(4))
def test_what_passes_is_what_an_unpickler_makes_of_it(seed: int) -> None:
    rng = random.Random(seed)
    bodies = [body for body in corpus() if body[:1] == b"\x80" and len(body) < 2000]
    verdicts: collections.Counter[bool] = collections.Counter()
    for _ in range(10_000):
        body = mutate(bodies, rng)
        try:
            value = clone.decode(body)
        except DecodeError:
            continue
        verdicts[b"lensipc.values" in body] += 1
        try:
            assert alike(value, Unpickler(io.BytesIO(unframed(body))).load()), body
        except (RecursionError, ValueError):
            continue  # nested too deep to be compared; an int too long to be shown
    assert verdicts[False] > 100
    assert verdicts[True] > 100


@pytest.mark.parametrize("seed", range(4))
def test_any_bytes_decode_or_raise_decode_error(seed: int) -> None:
    rng = random.Random(1000 + seed)
    bodies = [body for body in corpus() if len(body) < 4000]
    for _ in range(10_000):
        body = mutate(bodies, rng)
        for limits in (clone.STANDARD, rng.choice([Limits(plain=True), Limits(1000, count_all=True), Limits(0)])):
            try:
                clone.decode(body, limits)
            except DecodeError as error:
                assert str(error)  # noqa: PT017
    assert clone.decode(clone.encode([1])) == [1]


def test_pieces_arrive_as_the_pickler_cuts_them() -> None:
    for value in (
        [bytes(70_000), 1, bytearray(70_000), "x" * 70_000, 2],
        [b"x" * 70_000] * 3,
        [str(i) for i in range(50_000)] + [1 << 70],
        {"a": bytes(1 << 17), "b": list(range(50_000))},
    ):
        pieces = clone.encode_parts(value)
        assert isinstance(pieces, list)
        assert clone.decode(b"".join(pieces)) == value
        with pytest.raises(DecodeError):
            clone.decode(b"".join(pieces[:-1]))


def limited(code: str, memory: int = 256 << 20, timeout: float = 60) -> None:
    """Run code in a process that may take `memory` bytes more than it has by then; the timeout is a watchdog."""
    script = textwrap.dedent(
        f"""
        import resource
        from lensipc import clone
        from lensipc.errors import DecodeError
        import numpy
        clone.decode(clone.encode(numpy.ones(3)))
        pages = int(open("/proc/self/statm").read().split()[0])
        limit = pages * resource.getpagesize() + {memory}
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        """
    ) + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", script], timeout=timeout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.process
@pytest.mark.parametrize(
    "body",
    [
        "b'\\x80\\x05(' + b'\\x8f' * 4_000_000 + b't.'",
        "b'\\x80\\x05(' + b']' * 4_000_000 + b't.'",
        "b'\\x80\\x05(' + b'N' * 4_000_000 + b't.'",
        "b'\\x80\\x05' + b'(' * 4_000_000 + b'.'",
        "b'\\x80\\x05](' + b'}K\\x00Ns' * 800_000 + b'e.'",
        "b'\\x80\\x05](' + b']Na' * 1_300_000 + b'e.'",
        "b'\\x80\\x05](' + b'C\\x02ab' * 1_000_000 + b'e.'",
        "b'\\x80\\x05](' + b'C\\x02ab\\x94' * 800_000 + b'e.'",
        "b'\\x80\\x05]' + b']' * 2_000_000 + b'a' * 2_000_000 + b'.'",
        "b'\\x80\\x05\\x8e' + (1 << 33).to_bytes(8, 'little') + b'x' * 4_000_000",
        "b'\\x80\\x05](' + b'\\x85'.join([b')'] * 1_000_000) + b'e.'",
        "b'LIB\\x01' + b'\\xff' * 4_000_000",
    ],
)
def test_hostile_messages_of_4_mb_take_no_more_than_72_times_as_much(body: str) -> None:
    limited(
        f"""
        body = {body}
        try:
            clone.decode(body)
        except DecodeError as error:
            assert str(error).startswith("byte"), error
    """,
        memory=72 * 4_000_000,
    )


@pytest.mark.process
def test_refused_messages_take_no_more_than_256_mib(tmp_path: Path) -> None:
    for i, body in enumerate(REFUSED.values()):
        (tmp_path / str(i)).write_bytes(body)
    limited(f"""
        import pathlib
        for path in pathlib.Path({str(tmp_path)!r}).iterdir():
            try:
                clone.decode(path.read_bytes())
                raise SystemExit("decoded")
            except DecodeError as error:
                assert str(error).startswith("byte"), error
    """)


LOOP = """
import random, sys, time
from fuzz.fuzz_decode import OWNED, corpus, mutate
from lensipc import _fast, clone
from lensipc._core import ffi
from lensipc.errors import DecodeError
import lensipc
assert lensipc.__file__.startswith(sys.argv[1]), lensipc.__file__
rng, bodies, count, decoded = random.Random(int(sys.argv[2])), corpus(), 0, 0
end = time.monotonic() + float(sys.argv[3])
while time.monotonic() < end:
    body = mutate(bodies, rng)
    memory = ffi.new("char[]", len(body))  # so many bytes, and none behind them
    ffi.buffer(memory)[:] = body
    for budget, flags in (clone.STANDARD.budget, 0), (rng.choice([1000, 1 << 40]), rng.randrange(16)):
        try:
            value = _fast.decode(ffi.buffer(memory), budget, flags)
            decoded += 1
        except DecodeError:
            continue
        if flags == 0:
            again = clone.encode(value)
            clone.decode(again)
    value = None
    count += 1
print(count, decoded)
"""


@pytest.mark.process
def test_the_reader_reads_no_byte_beyond_a_message(tmp_path: Path) -> None:
    """Mutated messages in a child whose C core has AddressSanitizer and UndefinedBehaviorSanitizer in it."""
    shutil.copytree(
        Path(lensipc.__file__).parent, tmp_path / "lensipc", ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    shutil.copy(ROOT / "build.py", tmp_path)
    flags = "-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all"
    subprocess.run(
        [sys.executable, "build.py"], cwd=tmp_path, env={**os.environ, "CFLAGS": flags}, check=True, timeout=100
    )
    found = subprocess.run(["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    environment = {
        **os.environ,
        "LD_PRELOAD": found.stdout.strip(),
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "tests")]),
    }
    done = subprocess.run(
        [sys.executable, "-c", LOOP, str(tmp_path), "7", "5"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-5000:]
    count, decoded = map(int, done.stdout.split())
    assert count > 1000
    assert decoded > 100


@pytest.mark.process
def test_a_slice_of_the_fuzzer_of_decode(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tests/fuzz/fuzz_decode.py"), "--seed", "11", "--count", "100000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_prefix_of_a_message_is_refused() -> None:
    for value in (None, {5: 1}, [1, (2, "a")], HONEST["array, out of band"]):
        body = clone.encode(value)
        for end in range(min(len(body) - 1, 300)):
            with pytest.raises(DecodeError, match=r"^byte"):
                clone.decode(body[:end])


# ---- bounds: of what is read, whoever has written it


def deep(kind: str, levels: int) -> bytes:
    """So many levels of containers."""
    opened, closed = {
        "list": (b"]", b"a"),
        "list in batches": (b"](", b"e"),
        "dict": (b"}K\x00", b"s"),
        "tuple": (b"", b"\x85"),
        "tuple of four": (b"(NNN", b"t"),
        "frozenset": (b"(", b"\x91"),
        "as_is": (name("as_is"), b"\x85R"),
        "own dict": (name("as_dict") + b")RK\x00", b"s"),
    }[kind]
    innermost = {"frozenset": b"(\x91", "as_is": b"]"}.get(kind, b")")
    return opened * (levels - 1) + innermost + closed * (levels - 1)


@pytest.mark.parametrize("kind", ["list", "list in batches", "dict", "tuple", "tuple of four", "frozenset", "own dict"])
def test_a_thousand_levels_are_read_and_one_more_is_refused(kind: str) -> None:
    def below(levels: int) -> bytes:
        """A value of 900 levels, from the memo, in so many lists."""
        return deep(kind, 900) + b"\x940" + b"]" * levels + b"h\x00" + b"a" * levels

    for body in (deep(kind, 1000), below(100)):
        clone.decode(P + body + b".")
    for body in (*(deep(kind, levels) for levels in (1001, 5000, 200_000)), below(101)):
        with pytest.raises(DecodeError, match="more than 1000 levels of containers"):
            clone.decode(P + body + b".")


def test_levels_that_a_value_gets_after_others_have_taken_it_in_are_counted() -> None:
    def grown(levels: int) -> bytes:
        """A list in so many lists, which then gets so many levels itself; both in a tuple."""
        outer = b"]" * levels + b"h\x00" + b"a" * levels + b"\x940"
        return P + b"]\x94" + outer + deep("list", levels) + b"ah\x01\x86."

    clone.decode(grown(499))
    with pytest.raises(DecodeError, match="more than 1000 levels of containers"):
        clone.decode(grown(500))


def test_what_gives_its_argument_back_is_no_level() -> None:
    assert clone.decode(P + deep("as_is", 5000) + b".") == []


JOINS = {
    "lists": b"](??e",
    "lists, one by one": b"]?a?a",
    "tuples": b"??\x86",
    "dicts": b"}(K\x00?K\x01?u",
    "tuples in lists": b"]??\x86a",
    "lists in lists": b"]]?aa?a",
    "own lists": name("as_list") + b")R(??e",
}


def dag(levels: int, join: str) -> bytes:
    """A container that holds another one twice, that holds another one twice, ..., each remembered and dropped."""
    body = b")\x940"
    for i in range(levels):
        body += JOINS[join].replace(b"?", b"h" + bytes([i])) + b"\x940"
    return P + body + b"h" + bytes([levels]) + b"."


@pytest.mark.parametrize("join", JOINS)
def test_two_hundred_bytes_that_would_be_huge_if_they_were_written_out_are_refused(join: str) -> None:
    assert len(dag(20, "tuples")) < 200
    assert clone.decode(dag(14, join))
    for levels in (20, 30, 60):
        with pytest.raises(DecodeError, match="if it were written out"):
            clone.decode(dag(levels, join))


def test_a_cycle_is_counted_once() -> None:
    arrived = clone.decode(P + b"]\x94(h\x00h\x00h\x00e.")
    assert arrived[0] is arrived[1] is arrived[2] is arrived
    arrived = clone.decode(P + b"}\x94K\x00]\x94(h\x00h\x01es.")
    assert arrived[0][0] is arrived
    assert arrived[0][1] is arrived[0]


def test_what_is_shared_is_bounded_in_proportion_to_the_message() -> None:
    """A million values, and 16 for each byte."""
    part = b"](" + b"K\x07" * 1000 + b"e\x940"
    assert len(clone.decode(P + part + b"](" + b"h\x00" * 1000 + b"e.")) == 1000
    with pytest.raises(DecodeError, match="if it were written out"):
        clone.decode(P + part + b"](" + b"h\x00" * 1200 + b"e.")
    assert len(clone.decode(P + idle(1 << 18) + part + b"](" + b"h\x00" * 4000 + b"e.")) == 4000


def idle(size: int) -> bytes:
    """Bytes that are dropped."""
    return b"B" + struct.pack("<I", size) + bytes(size) + b"0"


@pytest.mark.parametrize("made", [b"]", b"}", b"\x8f", b"(\x91", b"}NNs"])
def test_containers_take_no_more_memory_than_eight_mib_and_what_the_message_warrants(made: bytes) -> None:
    takes = sys.getsizeof(clone.decode(P + made + b".")) + 16  # for the garbage collector
    for more in (0, 1 << 18):

        def count(share: float, more: int = more) -> int:
            """How many take that share of what the message may."""
            return int(share * ((8 << 20) + 32 * more) / (takes - share * 32 * len(made)))

        assert len(clone.decode(P + idle(more) + b"(" + made * count(0.8) + b"t.")) == count(0.8)
        with pytest.raises(DecodeError, match="more memory than its size warrants"):
            clone.decode(P + idle(more) + b"(" + made * count(1.4) + b"t.")


COSTLY: dict[str, Callable[[int], bytes]] = {
    "tuples of one hash": lambda n: b"}(" + b"".join(long(k * (2**61 - 1)) + b"\x85N" for k in range(1, n)) + b"u",
    "addresses": lambda n: (
        name("as_network") + b"\x94" + text("IPv4Address") + b"\x94" + text("0.0.0.0") + b"\x94\x86R0]("
        + b"h\x00h\x01h\x02\x86R" * n + b"e"
    ),
    "a long int, hashed again and again": lambda n: (
        b"\x8b" + struct.pack("<I", 1 << 16) + b"\x01" * (1 << 16) + b"\x940](" + b"}h\x00Ns" * n + b"e"
    ),
    "a large tuple, hashed again and again": lambda n: (
        b"(" + b"K\x07" * 10_000 + b"t\x940](" + b"}h\x00Ns" * n + b"e"
    ),
    "what is hashed where strings that calls gave named its constructor": lambda n: (
        call("as_is", text("lensipc.values")) + b"\x940" + call("as_is", text("as_is")) + b"\x940"
        + b"(" + b"K\x07" * 10_000 + b"t\x85\x940](" + b"}h\x00h\x01\x93h\x02RNs" * n + b"e"
    ),
    "a time in a zone": lambda n: (
        name("as_timezone") + b"\x94" + text("UTC") + b"\x94\x85R0](" + b"h\x00h\x01\x85R" * 2 * n + b"e"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", COSTLY)
def test_keys_and_constructors_cost_no_more_than_the_budget(what: str) -> None:
    few, many = (P + COSTLY[what](n) + b"." for n in (50, 20_000))
    clone.decode(few)
    for body, limits in ((many, clone.STANDARD), (few, Limits(budget=100, count_all=True)), (few, Limits(budget=0))):
        with pytest.raises(DecodeError, match="decode_budget allows"):
            clone.decode(body, limits)
    clone.decode(few, Limits(budget=1 << 40, count_all=True))


def test_a_few_keys_that_take_long_to_compare_are_counted() -> None:
    def keys(memo: int, first: int, last: int, size: int) -> bytes:
        """Tuples of one hash, which differ in their last item."""
        each = [long(5 + k * (2**61 - 1)) for k in range(first, last)]
        return b"".join(b"(" + (b"h" + bytes([memo])) * size + one + b"tN" for one in each)

    start = P + b"(" + call("as_fraction", number(7), number(1)) + b"\x94G" + struct.pack(">d", 7.0) + b"\x94"
    few = b"}(" + keys(0, 0, 2, 3) + keys(1, 2, 8, 3) + b"u"
    assert len(clone.decode(start + few + b"t.")[2]) == 8
    with pytest.raises(DecodeError, match="decode_budget allows"):
        clone.decode(start + (b"}(" + keys(0, 0, 4, 1000) + keys(1, 4, 16, 1000) + b"u") * 3 + b"t.")


# ---- limits that main sets


def test_where_only_plain_values_cross_others_are_refused() -> None:
    plain_only = Limits(plain=True)
    for what, value in HONEST.items():
        body = clone.encode(value)
        called = {each for each in constructors.TABLE if text(each) in body}
        if all(constructors.TABLE[each].plain for each in called) and what != "fields":
            assert what == "deep" or alike(clone.decode(body, plain_only), clone.decode(body))
        else:
            with pytest.raises(DecodeError, match="where only plain values cross"):
                clone.decode(body, plain_only)


def test_plain_data_counts_where_all_is_counted() -> None:
    tight = Limits(budget=1000, count_all=True)
    for body in (
        b"](" + b"N" * 400 + b"e",
        b"(" + b"K\x05" * 400 + b"t",
        b"N0" * 400 + b"N",
        b"](" + b"]" * 150 + b"e",
        b"\x8b" + struct.pack("<I", 20_000) + b"\x01" * 20_000,
        b"\x8b" + struct.pack("<I", 20_000) + bytes(20_000),  # idle digits, of zero
    ):
        clone.decode(P + body + b".")
        with pytest.raises(DecodeError, match=r"allows|warrants"):
            clone.decode(P + body + b".", tight)
        assert clone.decode(P + body + b".", Limits(budget=5000, count_all=True)) == clone.decode(P + body + b".")
    assert clone.decode(P + b"](" + b"N" * 300 + b"e.", tight) == [None] * 300


@pytest.mark.parametrize("opcode", [b"\x94", b"N", b"("], ids=["memos", "values", "marks"])
def test_what_goes_into_nothing_counts_where_all_is_counted(opcode: bytes) -> None:
    with pytest.raises(DecodeError, match="more values and memos than decode_budget allows"):
        clone.decode(P + b"N" + opcode * (1 << 25) + b".", Limits(count_all=True))


@pytest.mark.parametrize("size", [0, 1, 4, 5, 6, 10, 11, 18, 19, 20, 76, 77, 1000, 20_000, 60_000, 90_000])
def test_a_container_of_any_size_counts_for_what_it_takes(size: int) -> None:
    ints = range(size)
    for sent in (list(ints), tuple(ints), set(ints), frozenset(ints), dict.fromkeys(ints), {str(i): i for i in ints}):
        value, weight = clone.weigh(clone.encode(sent))
        takes = sys.getsizeof(value) + 16  # the garbage collector's part
        if size:  # empty tuples and frozensets are one for all
            assert takes <= weight <= takes + size * (2 * 88 + 80) + 200, type(sent)


def test_what_a_value_weighs_grows_with_its_containers() -> None:
    empty = clone.encode([])
    assert clone.weigh(empty) == ([], clone.weigh(empty)[1])
    makers: list[Callable[[int], Any]] = [lambda _: [], lambda _: {}, lambda i: {i: i}, lambda i: (i,), lambda i: {i}]
    for make in makers:
        few, many = (clone.weigh(clone.encode([make(i) for i in range(n)]))[1] for n in (10, 110))
        assert many - few >= 80 * sys.getsizeof(make(1))
    texts, longs = ["\u0100"] * 1000, [1 << 70] * 1000
    for values_, each in ((texts, sys.getsizeof(texts[0])), (longs, sys.getsizeof(longs[0]))):
        body = P + b"](" + clone.encode(values_[0])[2:-1].replace(b"\x94", b"") * 1000 + b"e."
        assert clone.weigh(body)[1] >= 900 * each


# ---- an audit's messages, one of each kind


def array(dtype: bytes, memory: bytes, *shape: int) -> bytes:
    return P + call("as_array", dtype, text("C"), raw(memory), *map(number, shape)) + b"."


def fields(size: int, *told: tuple[str, int, bytes]) -> bytes:
    members = b"".join(b"".join((text(key), number(offset), dtype, b"\x87")) for key, offset, dtype in told)
    return b"(" + text("fields") + number(size) + b"\x89" + members + b"t"


def error(kind: str, *args: bytes) -> bytes:
    return P + call("as_error", text(kind), b"(" + b"".join(args) + b"t", b"N", b")", b"N") + b"."


def one_long_int_in_many_tuples(size: int) -> bytes:
    remembered = call("as_is", b"\x8b" + struct.pack("<I", size // 2) + b"\x01" * (size // 2)) + b"\x94"
    return P + b"(" + remembered + b"h\x00h\x00h\x00\x87" * (size // 14) + b"t."


AUDITED: dict[str, bytes] = {
    "a field beyond its item": array(fields(8, ("a", 2**31 - 1, text("|b1"))), bytes(8), 1),
    "a field beyond an inner item": array(fields(8, ("a", 0, fields(8, ("b", 2**31 - 1, text("|b1"))))), bytes(8), 1),
    "a number beyond its item": array(fields(8, ("a", 2**31 - 8, text("<u8"))), bytes(8), 1),
    "memory that nobody has cleared": array(text("|S0"), b"", 2048),
    "8 GiB in 50 bytes": array(text("|S0"), b"", 2**33),
    "units of no time": (
        P + b"}(" + call("as_scalar", text("<M8[0s]"), raw(b"\x05" + bytes(7))) + b"N"
        + call("as_scalar", text("<M8[s]"), raw(bytes(8))) + b"Nu."
    ),
    "an exception that iterates over a network": error(
        "SyntaxError", text("x"), call("as_network", text("IPv6Network"), text("::/0"))
    ),
    "an exception that iterates over a range": error(
        "SyntaxError", text("x"), call("as_range", number(0), number(60_000_000), number(1))
    ),
    "an exception whose positions lie": error(
        "UnicodeDecodeError", text("utf-8"), raw(b"x"), number(-40), number(3), text("y")
    ),
    "one long int in many tuples": one_long_int_in_many_tuples(1 << 18),
}  # fmt: skip


@pytest.mark.process
@pytest.mark.parametrize("what", AUDITED)
def test_what_an_audit_found_is_refused_soon_and_takes_little_memory(what: str, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(AUDITED[what])
    limited(
        f"""
        import time
        body = open({str(tmp_path / "body")!r}, "rb").read()
        began = time.process_time()
        for read in clone.decode, lambda body: clone.decode_owned(bytearray(body)), clone.weigh:
            try:
                print(read(body))
                raise SystemExit("decoded")
            except DecodeError as error:
                assert str(error).startswith("byte"), error
        assert time.process_time() - began < 2
        """,
        memory=32 << 20,
    )


WITHOUT_MEMORY = """
    import _testcapi, messages
    from lensipc import clone
    from lensipc.errors import DecodeError

    # numpy itself does not survive it.
    for name in {names!r}:
        body = clone.encode(messages.HONEST[name])
        clone.decode(body)
        for which in range(150):
            _testcapi.set_nomemory(which, which + 1)
            try:
                clone.decode(body)
            except (MemoryError, DecodeError):
                pass
            finally:
                _testcapi.remove_mem_hooks()
        clone.decode(body)
"""


# Not of lensipc: CPython 3.12.1 and 3.13.0 crash in it.
PYTHON_WITHOUT_MEMORY = """
    import _testcapi

    def wide(text):
        return any(char > "\\xff" for char in text)

    for which in range(100):
        _testcapi.set_nomemory(which, which + 1)
        try:
            wide("ab")
        except MemoryError:
            pass
        finally:
            _testcapi.remove_mem_hooks()
"""


@pytest.mark.process
def test_each_allocation_that_fails_while_a_message_is_read_is_an_error() -> None:
    names = ["small", "args", "ints", "keys", "sets", "tuples", "circle", "records"]
    if (
        subprocess.run([sys.executable, "-c", textwrap.dedent(PYTHON_WITHOUT_MEMORY)], capture_output=True).returncode
        == 0
    ):
        names += ["own", "times", "texts", "errors"]  # what makes these is written in Python
    script = f"import sys\nsys.path[:] = {sys.path!r}\n" + textwrap.dedent(WITHOUT_MEMORY.format(names=names))
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


# ---- what objects of registered classes hold ----


class Box:
    """Holds what it was made of, as most classes that users register."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __hash__(self) -> int:
        return hash(tuple(self.held))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Box) and self.held == other.held


@pytest.fixture
def boxes() -> Iterator[None]:
    undo = clone.register(Box, "tests.Box", lambda box: box.held, Box)
    yield
    undo()


def boxed(held: bytes) -> bytes:
    return call("as_registered", text("tests.Box"), held)


def shared(times: int) -> bytes:
    """A box that holds another twice, that holds another twice, ... by memo."""
    body = boxed(b"]") + b"\x94"
    for i in range(times):
        body += boxed(b"h" + bytes([i]) + b"h" + bytes([i]) + b"\x86") + b"\x94"
    return body


def nested(levels: int) -> bytes:
    return b"]" * levels + b"a" * (levels - 1)


@pytest.mark.usefixtures("boxes")
@pytest.mark.parametrize(
    ("pickle", "why"),
    [
        (shared(40), "written out"),
        # A list that gets what makes it deep when a box has it already, which others hold.
        (
            b"]\x94" + boxed(b"h\0") + b"\x940" + nested(600) + b"ah\1" + b"\x85" * 600 + b"\x86",
            "more than 1000 levels",
        ),
        # One list that is looked at for each box.
        (b"](" + b"N" * 100_000 + b"e\x94" + b"(" + boxed(b"h\0") * 2_000 + b"t\x86", "budget|written out"),
        # One box that is hashed for each dict: looking at all that it holds.
        (boxed(b"](" + b"N" * 100_000 + b"e") + b"\x94(" + b"}h\0Ns" * 10_000 + b"t\x86", "budget|written out"),
    ],
    ids=["a box of boxes", "a list filled later", "a box for each", "a dict for each"],
)
def test_what_a_registered_class_holds_is_within_the_bounds(pickle: bytes, why: str) -> None:
    with pytest.raises(DecodeError, match=why):
        clone.decode(P + pickle + b".")


@pytest.mark.usefixtures("boxes")
def test_what_hashing_an_object_of_a_registered_class_may_take_is_counted() -> None:
    one = boxed(b"](" + b"K\x07" * 10_000 + b"e") + b"\x940]("
    clone.decode(P + one + b"}h\x00Ns" * 20 + b"e.")
    with pytest.raises(DecodeError, match="decode_budget allows"):
        clone.decode(P + one + b"}h\x00Ns" * 1000 + b"e.")


@pytest.mark.usefixtures("boxes")
def test_objects_of_registered_classes_arrive_shared_nested_and_as_keys() -> None:
    inner = Box((1, "x"))
    value = [inner, Box((inner, inner)), {inner: 1}, [Box([i]) for i in range(1000)]]
    first, second, keyed, many = clone.decode(clone.encode(value))
    assert second.held[0] is second.held[1] is first is next(iter(keyed))
    assert [box.held for box in many] == [[i] for i in range(1000)]
