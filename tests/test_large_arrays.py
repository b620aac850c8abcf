# SPDX-License-Identifier: MIT
"""Large arrays among plain data: written in C as the pickler writes them, and read in the memory that they came in."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lines import receive

import lensipc.clone.ndarray  # noqa: F401 - tells the C core of numpy
from lensipc import _fast, clone
from lensipc.errors import DataCloneError, DecodeError
from lensipc.transport import endpoint
from lensipc.transport.endpoint import Endpoint, create_segment

CODES = "?bBhHiIlLqQefdFD"
OUT_OF_BAND = _fast.OUT_OF_BAND


def open_endpoint(fd: int, side: int) -> Endpoint:
    return Endpoint(fd, side, endpoint.WAKEUP_SEMAPHORE, -1, high_water=1 << 24, limit=1 << 26, quota=1 << 26)


class Line:
    """A line to send values on."""

    def __init__(self, fd: int) -> None:
        self.sides = open_endpoint(fd, endpoint.SIDE_MAIN), open_endpoint(fd, endpoint.SIDE_RENDERER)

    def carry(self, value: object) -> Any:
        """The body that arrives of a value; None: it is left to the pickler."""
        main, renderer = self.sides
        if not main.send_value(2, 0, 0, 0, value):
            return None
        while True:
            main.flush()
            if records := receive(renderer, 1):
                return records[0].body


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    fd = create_segment(endpoint.FORM_MEMFD, 1 << 18)
    carrying = Line(fd)
    os.close(fd)
    yield carrying
    for side in carrying.sides:
        side.close()


def in_place(body: bytearray) -> Any:
    """The value of a message, in its own memory."""
    return _fast.decode(body, clone.STANDARD.budget, _fast.READ_OWNED)


def filled(code: str, *shape: int) -> Any:
    array = np.empty(shape, code)
    array.view(np.uint8)[...] = np.arange(array.nbytes, dtype=np.uint64).reshape(array.view(np.uint8).shape) % 2
    return array


def same(one: Any, other: Any) -> bool:
    """Whether two values are alike in type and content, arrays to the byte."""
    if type(one) is not type(other):
        return False
    if type(one) is np.ndarray:
        return bool(one.dtype == other.dtype) and one.shape == other.shape and one.tobytes() == other.tobytes()
    if type(one) in (tuple, list):
        return len(one) == len(other) and all(map(same, one, other))
    if type(one) is dict:
        return list(one) == list(other) and all(map(same, one.values(), other.values()))
    return repr(one) == repr(other)


VALUES: dict[str, Any] = {
    **{f"of {code}": (filled(code, OUT_OF_BAND // np.dtype(code).itemsize),) for code in CODES},
    "of two dimensions": (filled("f", 300, 200),),
    "of many dimensions": (filled("H", *[2] * 16),),
    "of a long dimension": (filled("B", 1, 70_000),),
    "of more than a block": (filled("d", 1 << 18),),
    "several": (filled("f", 20_000), "between", filled("b", 65_537), filled("d", 9000)),
    "deep in it": ({"a": [1, {"pixels": filled("B", 300, 300)}], "b": (None, filled("i", 30_000))},),
    "by itself": filled("f", 20_000),
    "of another's memory": (filled("f", 40_000)[:20_000],),
    "read-only": (np.frombuffer(bytes(range(256)) * 300, np.uint8),),
}


@pytest.mark.parametrize("what", VALUES)
def test_large_arrays_arrive_from_either_writer_and_for_either_reader(line: Line, what: str) -> None:
    value = VALUES[what]
    body = line.carry(value)
    pickled = bytearray(clone.encode(value))
    for message in (body, pickled):
        for arrived in (clone.decode(bytes(message)), clone.decode_owned(message), in_place(message)):
            assert same(arrived, value)
        arrived, weight = clone.weigh(message)
        assert same(arrived, value)
        assert weight >= len(message)


def arrays_of(value: Any) -> Iterator[Any]:
    if type(value) is np.ndarray:
        yield value
    elif type(value) in (tuple, list, dict):
        for each in value.values() if type(value) is dict else value:
            yield from arrays_of(each)


@pytest.mark.parametrize("what", VALUES)
def test_what_was_given_away_is_not_copied_and_what_was_not_is(line: Line, what: str) -> None:
    body = line.carry(VALUES[what])
    memory = np.frombuffer(body, np.uint8)
    given, kept = clone.decode_owned(body), clone.decode(body)
    from_readonly = clone.decode_owned(memoryview(body).toreadonly())
    assert all(np.shares_memory(array, memory) for array in arrays_of(given))
    for arrived in (kept, from_readonly):
        assert not any(np.shares_memory(array, memory) for array in arrays_of(arrived))
        assert all(array.flags.writeable for array in arrays_of(arrived))


def test_an_array_lives_in_the_memory_that_its_message_was_assembled_in(line: Line) -> None:
    for size in (OUT_OF_BAND, 1 << 20):
        body = line.carry((np.zeros(size, np.uint8),))
        (array,) = clone.decode_owned(body)
        assert np.shares_memory(array, np.frombuffer(body, np.uint8))
        assert array.flags.writeable
        assert array.flags.aligned
        array[:] = 1


def test_the_memory_of_an_array_cannot_be_taken_from_under_it(line: Line) -> None:
    body = line.carry((np.zeros(OUT_OF_BAND, np.uint8),))
    assert type(body) is bytearray
    arrays = clone.decode_owned(body)
    with pytest.raises(BufferError):
        body.clear()
    del arrays
    body.clear()


TWICE = filled("f", 20_000)
LEFT: dict[str, Any] = {
    "a small one": filled("B", OUT_OF_BAND - 1),
    "in Fortran's order": np.asfortranarray(filled("f", 200, 300)),
    "with gaps": filled("f", 40_000)[::2],
    "of another byte order": filled(">f4", 20_000),
    "of fields": np.zeros(20_000, [("a", "f4"), ("b", "i4")]),
    "of times": np.zeros(20_000, "M8[s]"),
    "of texts": np.zeros(20_000, "U4"),
    "of long doubles": np.zeros(20_000, "g"),
    "of a subclass": filled("f", 20_000).view(type("Mine", (np.ndarray,), {})),
    "twice": [TWICE, TWICE],
    "in another shape too": [TWICE, TWICE.reshape(100, 200)],
    "of which another begins where it does": [TWICE, TWICE[:17_000]],
    "nine of them": [filled("B", OUT_OF_BAND) for _ in range(9)],
    "beside a set": [filled("B", OUT_OF_BAND), {1}],
}


@pytest.mark.parametrize("what", LEFT)
def test_other_arrays_are_left_to_the_pickler(line: Line, what: str) -> None:
    assert line.carry(LEFT[what]) is None


def test_an_array_of_objects_is_refused_as_ever(line: Line) -> None:
    with pytest.raises(DataCloneError, match="an array of objects"):
        clone.encode_parts((np.zeros(20_000, object),))
    assert line.carry((np.zeros(20_000, object),)) is None


@pytest.mark.process
def test_a_numpy_that_lays_its_arrays_out_in_another_way_is_not_known() -> None:
    script = """if True:
        import numpy as np
        from lensipc import _fast
        know, probe = _fast.register_arrays, np.zeros((2, 3))
        at = probe.__array_interface__["data"][0]
        assert not know(np.ndarray, np.frombuffer, (), probe, at + 8, None)
        assert not know(np.ndarray, np.frombuffer, (), probe.T, at, None)
        assert not know(np.ndarray, np.frombuffer, (), probe[0], at, None)
        assert know(np.ndarray, np.frombuffer, (), probe, at, None)
    """
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    wrong: tuple[Any, ...]
    for wrong in ((1, 2), (np.ndarray, np.frombuffer, [], np.zeros((2, 3)), 1, None)):
        with pytest.raises(TypeError):
            _fast.register_arrays(*wrong)


def test_a_message_that_is_refused_keeps_no_array_alive(line: Line) -> None:
    array = filled("f", 20_000)
    before = sys.getrefcount(array)
    for _ in range(10):
        assert line.carry([array, {1}]) is None
        assert line.carry([array]) is not None
    assert sys.getrefcount(array) == before


def message(pickle: bytes, *sizes: int, count: int | None = None) -> bytearray:
    head = struct.pack("<4sIQ", _fast.MAGIC, len(sizes) if count is None else count, len(pickle))
    body = bytearray(head + b"".join(struct.pack("<Q", size) for size in sizes) + pickle)
    for size in sizes:
        body += bytes(-len(body) % _fast.ALIGNMENT + size)
    return body


NAME = b"\x8c\x0elensipc.values\x8c\x08as_array\x93"
FOUR = b"(\x8c\x03<f4\x8c\x01CK\x00M\x00\x40tR"  # 16384 items


def array_as(old: bytes = b"N", new: bytes = b"N", *sizes: int) -> bytearray:
    """A message of an array, with that change."""
    return message(b"\x80\x05" + (NAME + FOUR).replace(old, new) + b".", *sizes or (OUT_OF_BAND,))


WRONG = {
    "a name alone": message(b"\x80\x05" + NAME + b".", OUT_OF_BAND),
    "a name in a tuple": message(b"\x80\x05" + NAME + b"\x85.", OUT_OF_BAND),
    "another name": array_as(b"as_array", b"as_arraz"),
    "no buffers": message(b"\x80\x05" + NAME + FOUR + b"."),
    "a buffer taken twice": message(b"\x80\x05" + (NAME + FOUR) * 2 + b"\x86.", OUT_OF_BAND),
    "a buffer that is not there": array_as(b"K\x00", b"K\x01"),
    "a buffer below none": array_as(b"K\x00", b"J\xff\xff\xff\xff"),
    "memory too small": array_as(b"N", b"N", OUT_OF_BAND - 4),
    "memory too large": array_as(b"N", b"N", OUT_OF_BAND + 4),
    "lengths that overflow": array_as(b"M\x00\x40", b"\x8a\x08\x00\x00\x00\x00\x00\x00\x00\x40" * 4),
    "a negative length": array_as(b"M\x00\x40", b"J\xff\xff\xff\xff"),
    "objects": array_as(b"\x03<f4", b"\x02|O"),
    "an order of none": array_as(b"C", b"X"),
    "the end in it": message(b"\x80\x05" + NAME + FOUR[:-1], OUT_OF_BAND),
    "a key that is an array": message(b"\x80\x05}(" + NAME + FOUR + b"Nu.", OUT_OF_BAND),
    "more buffers than it has": message(b"\x80\x05N.", OUT_OF_BAND, count=1 << 31),
    "bytes behind the end": array_as() + b"\0",
    "a bool of 2": array_as(b"\x03<f4\x8c\x01CK\x00M\x00\x40", b"\x03|b1\x8c\x01CK\x00J\x00\x00\x01\x00")[:-1] + b"\2",
}


@pytest.mark.parametrize("what", WRONG)
def test_an_array_that_cannot_be_is_refused(what: str) -> None:
    body = WRONG[what]
    for read in (in_place, clone.decode_owned, clone.decode, clone.weigh, lambda body: clone.decode(bytes(body))):
        with pytest.raises(DecodeError, match=r"^byte \d+: "):
            read(body)
    assert body == WRONG[what]


RIGHT = {
    "a buffer that nothing takes": (message(b"\x80\x05N.", OUT_OF_BAND), None),
    "no buffers at all": (message(b"\x80\x05K\x05."), 5),
    "a buffer of nothing": (message(b"\x80\x05K\x05.", 0), 5),
    "buffers in another order": (
        message(
            b"\x80\x05" + NAME + FOUR.replace(b"K\x00", b"K\x01") + NAME + FOUR + b"\x86.", OUT_OF_BAND, OUT_OF_BAND
        ),
        (np.zeros(16384, "<f4"), np.zeros(16384, "<f4")),
    ),
    "a buffer below 64 KiB": (array_as(b"M\x00\x40", b"K\x03", 12), np.zeros(3, "<f4")),
}


@pytest.mark.parametrize("what", RIGHT)
def test_buffers_may_be_few_small_and_in_any_order(what: str) -> None:
    body, expected = RIGHT[what]
    for read in (in_place, clone.decode_owned, clone.decode):
        assert same(read(body), expected)


@settings(max_examples=1000, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 255)), max_size=3))
def test_what_is_read_in_place_is_what_a_copy_is(changes: list[tuple[int, int]]) -> None:
    body = message(b"\x80\x05(N" + NAME + FOUR + b"}(\x8c\x01aK\x05ut.", OUT_OF_BAND)
    for at, byte in changes:
        body[at] = byte
    told = []
    for read in (clone.decode, in_place):
        try:
            told.append(read(body))
        except DecodeError as error:
            told.append(str(error))
    assert same(*told)


def test_other_threads_may_drop_an_array_while_it_is_sent() -> None:
    """Large ones are copied without the GIL."""
    fd = create_segment(endpoint.FORM_MEMFD, 1 << 18)
    own = Line(fd)
    os.close(fd)
    holder = [np.full(1 << 20, 7, np.uint8)]
    over = threading.Event()

    def replace() -> None:
        while not over.is_set():
            holder[0] = np.full(1 << 20, 7, np.uint8)

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        for _ in range(50):
            assert own.carry(holder)[-1] == 7
    finally:
        over.set()
        thread.join()
        for side in own.sides:
            side.close()
