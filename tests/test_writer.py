# SPDX-License-Identifier: MIT
"""The writer of plain trees in C, beside the pickler whose messages it writes, and what it leaves to the pickler."""

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

from lensipc import _fast, clone
from lensipc.clone import Limits
from lensipc.errors import DataCloneError, DecodeError

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
    body = _fast.encode(value)
    assert body is not None
    assert repr(_fast.decode(body)) == repr(pickle.loads(body)) == repr(value)
    assert repr(clone.decode(pickle.dumps(value, 5))) == repr(value)


@pytest.mark.parametrize(
    "number", [0, 1, 255, 256, 65535, 65536, 2**31 - 1, 2**31, -1, -(2**31), -(2**31) - 1, 2**63 - 1, -(2**63)]
)
def test_whole_numbers_at_the_ends_of_their_forms_come_back(number: int) -> None:
    body = _fast.encode(number)
    assert body is not None
    assert _fast.decode(body) == pickle.loads(body) == number


def test_floats_come_back_bit_by_bit() -> None:
    for value in (0.0, -0.0, math.inf, -math.inf, 5e-324, 1.7976931348623157e308):
        assert _fast.decode(_fast.encode(value) or b"").hex() == value.hex()


class Text(str):
    pass


def lists(levels: int) -> Any:
    """So many levels of lists, the innermost of which is empty."""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


SHARED: list[int] = []
LOOP: list[Any] = []
LOOP.append(LOOP)
DEPTH = _fast.WRITER_DEPTH
LARGE = _fast.OUT_OF_BAND  # what is as large is handed on uncopied
LONG = "x" * 256  # a string that is looked for when it turns up again
KEPT = [[i] for i in range(500)]  # containers that something else refers to: the table of them grows

WRITTEN: dict[str, Any] = {
    "many values": list(range(1_000_000)),
    "a long string": "x" * 256,
    "the longest string": "x" * (LARGE - 1),
    "the longest string by its bytes": "\u00e9" * (LARGE // 2 - 1),
    "long bytes": b"x" * 256,
    "the longest bytes": b"x" * (LARGE - 1),
    "many long strings": [str(i) * 300 for i in range(1000)],
    "a short string twice": ["x" * 255] * 2,
    "many containers in other hands": list(KEPT),
    "as many in dicts and tuples": {i: (kept, (kept[0],)) for i, kept in enumerate(KEPT)},
    "as many levels as it follows": lists(DEPTH),
    "the same in dicts": {"a": lists(DEPTH - 1)},
    "an empty tuple twice": [(), ()],
    "the largest number": (1 << 63) - 1,
    "the smallest number": -(1 << 63),
}


@pytest.mark.parametrize("what", WRITTEN)
def test_trees_of_any_size_are_written(what: str) -> None:
    body = _fast.encode(WRITTEN[what])
    assert body is not None
    assert _fast.decode(body) == pickle.loads(body) == WRITTEN[what]
    assert clone.encode(WRITTEN[what]) == clone.encode_parts(WRITTEN[what]) == body


OTHERS: dict[str, Any] = {
    "a shared list": [SHARED, SHARED],
    "a shared dict": [{"a": 1}] * 2,
    "a shared tuple": [(1, 2)] * 2,
    "a container that is shared beside many others": [KEPT, {"again": KEPT[-1]}],
    "a cycle": LOOP,
    "more levels than it follows": lists(DEPTH + 1),
    "a large number": 1 << 63,
    "a small number": -(1 << 63) - 1,
    "a large number in it": [1, {"a": 1 << 63}],
    "a set": {1},
    "a frozenset": frozenset([1]),
    "a bytearray": bytearray(b"a"),
    "a subclass of str": Text("x"),
    "a subclass of str as a key": {Text("x"): 1},
    "a long string that comes twice": [LONG, {"a": LONG}],
    "a long key that comes twice": [{LONG: 1}, {LONG: 2}],
    "long bytes that come twice": [LONG.encode()] * 2,
    "a large string": "x" * LARGE,
    "a string large by its bytes": "\u00e9" * (LARGE // 2),
    "large bytes": b"x" * LARGE,
    "a lone surrogate": "\ud800",
    "a key with a lone surrogate": {"\ud800": 1},
    "complex": 1j,
    "an object": object(),
}


@pytest.mark.parametrize("what", OTHERS)
def test_what_is_no_plain_tree_is_left_to_the_pickler(what: str) -> None:
    assert _fast.encode(OTHERS[what]) is None
    if what != "an object":
        assert repr(clone.decode(clone.encode(OTHERS[what]))) == repr(OTHERS[what])


def message(opcodes: bytes) -> bytes:
    return b"\x80\x05" + opcodes + b"."


def test_every_prefix_of_a_message_is_refused() -> None:
    body = clone.encode({"a": [1, 2.0, "x", (None, True, b"y")], "b": {}})
    assert body == _fast.encode({"a": [1, 2.0, "x", (None, True, b"y")], "b": {}})
    for size in range(len(body)):
        with pytest.raises(DecodeError, match=r"^byte \d+: "):
            clone.decode(body[:size])


def test_who_sends_a_tree_that_its_receiver_would_refuse_is_told() -> None:
    def chain(size: int) -> list[int]:
        """A third of the slots of a dict of that size, in the order in which it looks for a free one."""
        found, slot = [], 0
        for _ in range(size // 3):
            found.append(slot)
            slot = (slot * 5 + 1) % size
        return found

    slots = chain(1 << 17)
    value = dict.fromkeys([*slots, *(slot + (1 << 17) for slot in slots)])
    with pytest.raises(DataCloneError, match="could not be cloned"):
        clone.encode(value)
    with pytest.raises(DataCloneError, match="could not be cloned"):
        clone.encode_parts((1, value), "args")


def test_a_tree_too_heavy_for_its_bytes_is_left_to_the_pickler_which_writes_more() -> None:
    value: list[object] = [[] for _ in range(400_000)]
    assert clone.decode(clone.encode(value)) == value


def test_a_tree_is_held_against_what_its_receiver_counts() -> None:
    tight = Limits(budget=10_000, count_all=True)
    assert clone.decode(clone.encode([None] * 3000, tight), tight) == [None] * 3000
    with pytest.raises(
        DataCloneError, match=r"^value could not be cloned: .* more plain data than decode_budget allows"
    ):
        clone.encode([None] * 4000, tight)
    with pytest.raises(
        DataCloneError, match=r"^args could not be cloned: .* more plain data than decode_budget allows"
    ):
        clone.encode_parts(([None] * 4000,), "args", tight)
    assert clone.decode(clone.encode([None] * 4000)) == [None] * 4000


def test_keys_are_of_their_own_messages() -> None:
    names = [f"key {i}" for i in range(2000)]
    for name in names * 2:
        assert _fast.decode(_fast.encode({name: name}) or b"") == {name: name}


def test_neither_keeps_a_value_alive() -> None:
    value = [Text("x"), None]
    before = sys.getrefcount(value[0]), sys.getrefcount(None)
    for _ in range(1000):
        _fast.encode(value)
        with pytest.raises(DecodeError):
            _fast.decode(message(b"(NNN}(K\x01\x8c\x01auN\x94\x94\x96"))  # left half-way
    gc.collect()
    after = sys.getrefcount(value[0]), sys.getrefcount(None)
    assert after[0] == before[0]
    # From Python 3.12 on None is immortal; what was compiled for 3.11's stable ABI counts its references all the same.
    assert sys.version_info >= (3, 12) or abs(after[1] - before[1]) < 100


def test_no_message_keeps_what_it_refers_to_alive() -> None:
    value = object()
    before = sys.getrefcount(value)
    for held in ([value], {1: value}, (1, 2, 3, value), [[[value]]], {"a": LONG, "b": [value]}):
        assert _fast.encode(held) is None
    del held
    gc.collect()
    assert sys.getrefcount(value) == before


def test_threads_share_the_reader() -> None:
    failures: list[object] = []

    def work(number: int) -> None:
        for i in range(3000):
            value = {f"{number}-{i % 50}": i, "same": [number]}
            if _fast.decode(_fast.encode(value) or b"") != value:
                failures.append(value)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
