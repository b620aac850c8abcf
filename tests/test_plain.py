# SPDX-License-Identifier: MIT
"""The writer and reader of small plain messages, beside the pickler and the unpickler whose messages they are."""

from __future__ import annotations

import gc
import math
import pickle
import sys
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lensipc import clone
from lensipc._core import lib
from lensipc.errors import DecodeError

CALLS = lib.lipc_calls()

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
    | st.binary(max_size=255)
)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(SCALARS.filter(lambda k: k == k), inner)
    ),
    max_leaves=30,
)


@given(TREES)
def test_plain_trees_are_pickles_and_come_back(value: Any) -> None:
    body = CALLS.encode(value)
    assert body is not None
    assert CALLS.scan(body) == 0
    assert repr(CALLS.decode(body)) == repr(pickle.loads(body)) == repr(value)


@pytest.mark.parametrize(
    "number", [0, 1, 255, 256, 65535, 65536, 2**31 - 1, 2**31, -1, -(2**31), -(2**31) - 1, 2**63 - 1, -(2**63)]
)
def test_whole_numbers_at_the_ends_of_their_forms_come_back(number: int) -> None:
    body = CALLS.encode(number)
    assert body is not None
    assert CALLS.decode(body) == pickle.loads(body) == number


def test_floats_come_back_bit_by_bit() -> None:
    for value in (0.0, -0.0, math.inf, -math.inf, 5e-324, 1.7976931348623157e308):
        assert CALLS.decode(CALLS.encode(value) or b"").hex() == value.hex()


class Text(str):
    pass


SHARED: list[int] = []
LOOP: list[Any] = []
LOOP.append(LOOP)
DEEP: list[Any] = []
for _ in range(70):
    DEEP = [DEEP]
KEPT = [[i] for i in range(40)]  # more containers that something else refers to than are looked through

OTHERS: dict[str, Any] = {
    "a shared list": [SHARED, SHARED],
    "a cycle": LOOP,
    "levels of lists": DEEP,
    "many containers in other hands": list(KEPT),
    "a large number": 1 << 63,
    "a small number": -(1 << 63) - 1,
    "a set": {1},
    "a subclass of str": Text("x"),
    "a long string": "x" * 256,
    "long bytes": b"x" * 256,
    "a lone surrogate": "\ud800",
    "complex": 1j,
    "an object": object(),
    "many values": list(range(40_000)),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_is_no_small_plain_tree_is_left_to_the_pickler(what: str) -> None:
    assert CALLS.encode(OTHERS[what]) is None
    if what != "an object":
        assert repr(clone.decode(clone.encode(OTHERS[what]))) == repr(OTHERS[what])


def message(opcodes: bytes) -> bytes:
    return b"\x80\x05" + opcodes + b"."


LEFT = [
    b"", b"N", b"\x80\x05", b"\x80\x04N.", message(b""), message(b"NN"), message(b"("), message(b"t"), message(b"\x85"),
    message(b"(\x85"), message(b"N(\x86"), message(b"e"), message(b"(e"), message(b"u"), message(b"N(Ne"),
    message(b"](K\x01u"), message(b"}(K\x01u"), message(b"}(](u"), message(b"}(]Nu"), message(b"}()Nu"),
    message(b"}(NNNNu"), message(b"}(K\x01N\x88Nu"), message(b"}(NNu(\x88Nu"), message(b"](Ne(Ne"),
    message(b"\x8c\x05abcd"), message(b"C\x05abcd"), message(b"K"), message(b"M\x01"), message(b"J\x01\x01\x01"),
    message(b"\x8a\x08" + bytes(7)), message(b"\x8a\x01\x01"), message(b"G" + bytes(7)), message(b"\x8c\x01\xff"),
    message(b"\x8c\x03\xed\xa0\x80"), message(b"N\x94"), message(b"h\x00"), message(b"\x8c\x02os\x8c\x06system\x93"),
    message(b"(" * 65 + b"t" * 65), message(b"N") + b"N", b"\x80\x05N",
]  # fmt: skip


@pytest.mark.parametrize("body", LEFT)
def test_what_is_no_such_message_is_left_to_the_scan(body: bytes) -> None:
    assert CALLS.decode(body) is NotImplemented


def test_every_prefix_of_a_message_is_refused() -> None:
    body = clone.encode({"a": [1, 2.0, "x", (None, True, b"y")], "b": {}})
    for size in range(len(body)):
        with pytest.raises(DecodeError):
            clone.decode(body[:size])


def test_a_message_beyond_the_limit_is_left_to_the_scan() -> None:
    assert CALLS.decode(message(b"](" + b"N" * 40_000 + b"e")) is NotImplemented
    assert len(CALLS.decode(message(b"](" + b"N" * 30_000 + b"e"))) == 30_000


def test_keys_are_of_their_own_messages() -> None:
    names = [f"key {i}" for i in range(2000)]
    for name in names * 2:
        assert CALLS.decode(CALLS.encode({name: name}) or b"") == {name: name}


def test_neither_keeps_a_value_alive() -> None:
    value = [Text("x"), None]
    before = sys.getrefcount(value[0]), sys.getrefcount(None)
    for _ in range(1000):
        CALLS.encode(value)
        CALLS.decode(message(b"(NNN}(K\x01\x8c\x01au"))  # left half-way
    gc.collect()
    after = sys.getrefcount(value[0]), sys.getrefcount(None)
    assert after[0] == before[0]
    assert abs(after[1] - before[1]) < 100


def test_threads_share_the_reader() -> None:
    failures: list[object] = []

    def work(number: int) -> None:
        for i in range(3000):
            value = {f"{number}-{i % 50}": i, "same": [number]}
            if CALLS.decode(CALLS.encode(value) or b"") != value:
                failures.append(value)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
