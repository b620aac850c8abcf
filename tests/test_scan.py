# SPDX-License-Identifier: MIT
"""What the scan refuses and what it lets pass: hostile pickles by hand, mutated ones, and honest ones."""

from __future__ import annotations

import collections
import io
import math
import pickle
import pickletools
import random
import runpy
import shutil
import struct
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lensipc import clone, values
from lensipc._core import ffi, lib
from lensipc.errors import DecodeError

ROOT = Path(__file__).resolve().parents[1]
HONEST: dict[str, Any] = runpy.run_path(str(ROOT / "tests" / "messages.py"))["HONEST"]
P = b"\x80\x05"


def text(value: str) -> bytes:
    return b"\x8c" + bytes([len(value)]) + value.encode()


def name(constructor: str, module: str = "lensipc.values") -> bytes:
    return text(module) + text(constructor) + b"\x93"


def call(constructor: str, *args: bytes) -> bytes:
    return name(constructor) + b"(" + b"".join(args) + b"tR"


def long(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8b" + struct.pack("<I", len(data)) + data


def scan(body: bytes) -> int:
    return lib.lipc_calls().scan(body)


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
    "a dotted module": P + text("lensipc") + text("values.as_dict") + b"\x93)R.",
    "another name of the module": P + name("Constructor") + b"N\x85R.",
    "a private name of the module": P + name("__builtins__") + b"N\x85R.",
    "a name that is a value": P + name("CONSTRUCTORS") + b".",
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
    "MEMOIZE of an atom": P + b"N\x94.",
    "MEMOIZE twice": P + b"]\x94\x94.",
    "MEMOIZE of nothing": P + b"\x94N.",
    "MEMOIZE later": P + b"](\x94e.",
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
    "an opcode over the end of its frame": P + b"\x95" + struct.pack("<Q", 2) + b"K\x01\x8c\x01a\x86."[1:],
    "a frame in a frame": P + b"\x95" + struct.pack("<Q", 11) + b"\x95" + struct.pack("<Q", 2) + b"N.",
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
    "REDUCE of a string": P + text("a") + b")R.",
    "REDUCE of a tuple of another time": P + name("as_is") + b"N\x85\x940h\x00R.",
    "REDUCE with a tuple from the memo": P + b"N\x85\x940" + name("as_is") + b"h\x00R.",
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
    "a key twice, once with idle bytes": P + b"}(K\x01N\x8a\x0c\x01" + bytes(11) + b"Nu.",
    "a tuple key twice": P + b"}(K\x01\x85NK\x01\x85Nu.",
    "an element twice": P + b"\x8f(K\x01K\x01\x90.",
    "an element of a frozenset twice": P + b"(K\x01K\x01\x91.",
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
def test_refused(what: str) -> None:
    body = REFUSED[what]
    with pytest.raises(DecodeError, match=r"^byte \d+: "):
        clone.decode(body)
    with pytest.raises(DecodeError):
        clone.decode_owned(memoryview(bytearray(body)))
    assert clone.decode(clone.encode([1, {"a": (2,)}])) == [1, {"a": (2,)}]


def test_the_report_names_the_byte() -> None:
    report = ffi.new("struct lipc_scan_report *")
    for body, offset in [
        (P + b"N\x82\x01.", 3),
        (P + b"](N\x90.", 5),
        (P + b"N", 3),
        (P + b"\x8c\x05ab.", 2),
    ]:
        assert lib.lipc_scan(body, len(body), report) < 0
        assert report.offset == offset
        assert ffi.string(report.reason)


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


HARMLESS: dict[str, Any] = {
    "many int keys": dict.fromkeys(range(200_000)),
    "ids": {i * 7919 % (1 << 40): None for i in range(100_000)},
    "multiples of powers of two": {i << 32: None for i in range(50_000)},
    "negative keys": dict.fromkeys(range(-50_000, 50_000)),
    "floats": {i / 7: None for i in range(50_000)},
    "a grid": {(x, y): 0 for x in range(-150, 150) for y in range(-150, 150)},
    "a grid of three": {(x, y, z): 0 for x in range(-10, 10) for y in range(-10, 10) for z in range(-10, 10)},
    "names and numbers": {(f"name{x}", y): 0 for x in range(300) for y in range(100)},
    "a set of pairs": {(x, str(x)) for x in range(50_000)},
    "frozensets": {frozenset((x, x + 1)) for x in range(50_000)},
    "a set of ints": set(range(100_000)),
    "a frozenset of strings": frozenset(map(str, range(50_000))),
    "sets of ints": [set(range(i, i + 20)) for i in range(5000)],
    "rows": [{"id": i} for i in range(200_000)],
    "rows of ints": [{1: i} for i in range(100_000)],
    "lists of one": [[i] for i in range(300_000)],
    "empty lists": [[] for _ in range(300_000)],
    "small dicts of ints": [{1: 2, 3: 4, 5: 6} for _ in range(50_000)],
    "nothing and zero": {(None, None), (None, 0), (0, None), (0.0, 0), (0, ""), ("", None), ((), None)},
    "not a number": {(math.nan, i) if i % 2 else (float("nan"), 0): i for i in range(1000)},
    "large ints": {1 << i: i for i in range(3000)},
    "a shared tuple in many dicts": [{key: 1} for key in [tuple(range(100))] for _ in range(10_000)],
}


@pytest.mark.parametrize("what", HARMLESS)
def test_large_honest_data_passes(what: str) -> None:
    value = HARMLESS[what]
    arrived = clone.decode(clone.encode(value))
    assert len(arrived) == len(value)
    assert arrived == value or what == "not a number"
    assert scan(pickle.dumps(value, 5)) == 0


@pytest.mark.parametrize("what", HONEST)
def test_what_the_encoder_writes_passes(what: str) -> None:
    clone.decode(clone.encode(HONEST[what]))


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
def test_pickles_of_plain_data_pass_and_name_nothing(value: Any) -> None:
    assert scan(pickle.dumps(value, 5)) == 0


class NoNames(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise AssertionError(f"{module}.{name} was looked for")


class OnlyOurs(pickle.Unpickler):
    """Counts what is named; constructors do nothing."""

    def find_class(self, module: str, name: str) -> Any:
        assert module == values.__name__
        assert name in values.CONSTRUCTORS
        return {"as_dict": dict, "as_list": list, "as_is": lambda x: x, "as_last": lambda *x: x[-1]}.get(name, Opaque)


class Opaque:
    def __init__(self, *_: Any) -> None: ...


def mutated(bodies: list[bytes], rng: random.Random) -> bytes:
    body = bytearray(rng.choice(bodies))
    opcodes = bytes(ord(op.code) for op in pickletools.opcodes)
    for _ in range(rng.randrange(6)):
        at = rng.randrange(len(body) + 1)
        end = min(len(body), at + rng.randrange(1, 20))
        kind = rng.randrange(6)
        if kind == 0 and at < len(body):
            body[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            body[at:at] = bytes([rng.choice(opcodes)])
        elif kind == 2:
            del body[at:end]
        elif kind == 3:
            body[at:at] = body[at:end] * rng.randrange(4)
        elif kind == 4:
            other = rng.choice(bodies)
            start = rng.randrange(len(other))
            body[at:at] = other[start : start + rng.randrange(1, 40)]
        elif at < len(body):
            body[at] = rng.randrange(256)
    return bytes(body)


@pytest.mark.parametrize("seed", range(4))
def test_what_passes_is_taken_without_a_call(seed: int) -> None:
    rng = random.Random(seed)
    bodies = [body for body in map(clone.encode, HONEST.values()) if body[:1] == b"\x80" and len(body) < 2000]
    heard: list[str] = []
    sys.addaudithook(lambda event, _: heard.append(event) if event == "pickle.find_class" else None)
    verdicts: collections.Counter[int] = collections.Counter()
    for _ in range(20_000):
        body = mutated(bodies, rng)
        found = scan(body)
        verdicts[min(found, 0) if found < 0 else found] += 1
        loader = {0: NoNames, 1: OnlyOurs}.get(found)
        if loader is None:
            continue
        try:
            loader(io.BytesIO(body)).load()
        except (UnicodeDecodeError, TypeError):
            continue  # text that is none; an argument that the stand-ins made unhashable
    assert not heard
    assert verdicts[0] > 500
    assert verdicts[1] > 500


@pytest.mark.parametrize("seed", range(4))
def test_any_bytes_decode_or_raise_decode_error(seed: int) -> None:
    rng = random.Random(1000 + seed)
    bodies = [body for body in map(clone.encode, HONEST.values()) if len(body) < 4000]
    for _ in range(10_000):
        body = mutated(bodies, rng)
        try:
            clone.decode(body)
        except DecodeError as error:
            assert str(error)  # noqa: PT017
    assert clone.decode(clone.encode([1])) == [1]


def test_pieces_pass_as_the_pickler_cuts_them() -> None:
    for value in (
        [bytes(70_000), 1, bytearray(70_000), "x" * 70_000, 2],
        [b"x" * 70_000] * 3,
        [str(i) for i in range(50_000)],
        {"a": bytes(1 << 17), "b": list(range(50_000))},
    ):
        pieces = clone.encode_parts(value)
        assert isinstance(pieces, list)
        pinned = [ffi.from_buffer(piece) for piece in pieces]
        parts = ffi.new("struct lipc_part[]", [(pin, len(pin)) for pin in pinned])
        assert lib.lipc_scan_parts(parts, len(pinned), ffi.NULL) == 0
        assert scan(b"".join(pieces)) == 0
        assert lib.lipc_scan_parts(parts, len(pinned) - 1, ffi.NULL) < 0
    assert lib.lipc_scan_parts(ffi.NULL, 0, ffi.NULL) < 0


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
        "b'\\x80\\x05]' + b']' * 4_000_000 + b'a' * 4_000_000 + b'.'",
        "b'\\x80\\x05\\x8e' + (1 << 33).to_bytes(8, 'little') + b'x' * 4_000_000",
        "b'\\x80\\x05](' + b'\\x85'.join([b')'] * 1_000_000) + b'e.'",
        "b'LIB\\x01' + b'\\xff' * 4_000_000",
    ],
)
def test_hostile_messages_take_no_more_than_256_mib(body: str) -> None:
    limited(f"""
        body = {body}
        try:
            clone.decode(body)
        except DecodeError as error:
            assert "Memory" not in repr(error.__cause__), error
    """)


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


def compiler() -> list[str]:
    found = shutil.which("cc") or shutil.which("gcc")
    assert found, "a C compiler is needed"
    return [found]


def test_the_scan_reads_no_byte_beyond_a_message(tmp_path: Path) -> None:
    """The mutation loop in C under AddressSanitizer and UndefinedBehaviorSanitizer, from every honest message."""
    program = tmp_path / "scan"
    sources = [
        ROOT / "tests/c/scan.c",
        *(ROOT / "csrc" / name for name in ("scan.c", "effects.c", "keys.c")),
    ]
    flags = [
        "-std=c11",
        "-g",
        "-O1",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        "-Wall",
        "-Wextra",
        "-Werror",
    ]
    subprocess.run([*compiler(), *flags, *map(str, sources), "-o", str(program)], check=True)
    files = []
    for i, value in enumerate(HONEST.values()):
        body = clone.encode(value)
        if body[:1] == b"\x80" and len(body) < 4000:
            files.append(tmp_path / f"{i}.pickle")
            files[-1].write_bytes(body)
    done = subprocess.run(
        [str(program), "7", "200000", *map(str, files)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_slice_of_the_fuzzer_of_decode(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "tests/fuzz/fuzz_decode.py"), "--seed", "11", "--count", "20000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_target_of_libfuzzer_compiles(tmp_path: Path) -> None:
    source = ROOT / "tests/fuzz/fuzz_scan.c"
    subprocess.run(
        [*compiler(), "-std=c11", "-Wall", "-Wextra", "-Werror", "-c", str(source), "-o", "f.o"],
        check=True,
        cwd=tmp_path,
    )


def test_both_tables_of_constructors_agree() -> None:
    source = (ROOT / "csrc" / "effects.c").read_text()
    table = source[source.index("constructors[] = {") : source.index("#define CONSTRUCTORS")]
    named = {line.split('"')[1] for line in table.replace("{", "\n{").splitlines() if '"' in line}
    assert named == set(values.CONSTRUCTORS)


def test_every_prefix_of_a_message_is_refused() -> None:
    for value in (None, {5: 1}, [1, (2, "a")], HONEST["array, out of band"]):
        body = clone.encode(value)
        for end in range(min(len(body) - 1, 300)):
            with pytest.raises(DecodeError, match=r"^byte"):
                clone.decode(body[:end])
