# SPDX-License-Identifier: MIT
"""numpy's arrays, scalars and dtypes as messages carry them. Imported when numpy is there already, or needed.

An array is its dtype, its order, its memory and its shape. The memory is the bytes themselves when it is small, the
number of one of the message's buffers when it is not, or another array of the message that has the very same
memory. No dtype that holds pointers has a name here, in either direction.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from .values import LEARNERS, as_array, as_number, as_scalar, expect

OUT_OF_BAND = 1 << 16
"""Bytes from which on an array's memory travels beside the pickle. Below, one more copy (5 us at most) is cheaper
than the bookkeeping."""

MAX_DIMENSIONS = 64  # NPY_MAXDIMS of numpy 2; 32 before

_SIMPLE = re.compile(r"[<>|](?:[biufcSUV][0-9]{1,9}|[Mm]8(?:\[[0-9]{0,9}[A-Za-z]{1,2}\])?)")
_CODES = "?bBhHiIlLqQefdgFDG"
_DTYPES = {np.dtype(code).str: np.dtype(np.dtype(code).str) for code in _CODES}
_TEXTS = {dtype: text for text, dtype in _DTYPES.items()}
"""The dtypes of most arrays, by their texts, and the other way round: to find one takes 0.1 us, to make it 0.7."""

MAX_PARTS = 1 << 14
"""Names, offsets and types in a dtype, each counted as often as it occurs: some 4000 fields."""

MAX_SCALAR = 1 << 16
"""Bytes of a numpy scalar: hash() takes time in proportion."""

_DTYPE_DEPTH = 32
_USER_DEFINED = 256  # NPY_USERDEF: from here on, dtypes that other packages have added
_IDLE_ITEMSIZE = 1 << 20
"""Largest item, in bytes, that an array without items may have: numpy allocates one all the same."""

_view = np.ndarray.view


class RefusedError(TypeError):
    """A value of numpy's that has no clone; says what it is."""


def dtype_text(dtype: Any, depth: int = 0) -> Any:
    """A dtype in plain values: a string, or tuples for fields and subarrays. `build_dtype` undoes it."""
    known = _TEXTS.get(dtype)
    if known is not None:
        return known
    if depth > _DTYPE_DEPTH:
        raise RefusedError("an array whose dtype is nested too deep")
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return ("array", dtype_text(base, depth + 1), *shape)
    if dtype.names is not None:
        fields = [(name, *dtype.fields[name][:2]) for name in dtype.names]
        told = [(name, offset, dtype_text(field, depth + 1)) for name, field, offset in fields]
        text = ("fields", dtype.itemsize, dtype.isalignedstruct, *told)
        if depth == 0 and _parts(text) > MAX_PARTS:
            raise RefusedError("an array whose dtype has too many fields")
        return text
    if dtype.hasobject:
        raise RefusedError("an array of objects")
    simple = dtype.str
    if dtype.num >= _USER_DEFINED or not _SIMPLE.fullmatch(simple):
        raise RefusedError(f"an array of {dtype}")
    return simple


def _parts(text: Any) -> int:
    """How many parts a dtype's text has; it may share them, so no more than MAX_PARTS are followed."""
    waiting, count = [text], 1
    while waiting and count <= MAX_PARTS:
        part = waiting.pop()
        if type(part) is tuple:
            count += len(part)
            if count <= MAX_PARTS:
                waiting += part
    return count


def build_dtype(message: Any, text: Any) -> Any:
    """The dtype that `dtype_text` told; any exception when it told none."""
    if type(text) is str and text in _DTYPES:
        return _DTYPES[text]
    if type(text) is tuple:
        parts = _parts(text)
        if parts > MAX_PARTS:
            raise ValueError("a dtype of too many fields")
        message.take(parts)
    return _build_dtype(text, 0)


def _build_dtype(text: Any, depth: int) -> Any:
    if depth > _DTYPE_DEPTH:
        raise ValueError("a dtype nested too deep")
    if type(text) is str:
        if not _SIMPLE.fullmatch(text):
            raise ValueError("no dtype")
        return np.dtype(text)
    expect(text, tuple)
    if text[0] == "array":
        shape = text[2:]
        for length in shape:
            expect(length, int)
        return np.dtype((_build_dtype(text[1], depth + 1), shape))
    if text[0] != "fields":
        raise ValueError("no dtype")
    _, itemsize, aligned, *fields = text
    expect(itemsize, int)
    expect(aligned, bool)
    for name, offset, _ in fields:
        expect(name, str)
        expect(offset, int)
    description: Any = {
        "names": [name for name, _, _ in fields],
        "formats": [_build_dtype(field, depth + 1) for _, _, field in fields],
        "offsets": [offset for _, offset, _ in fields],
        "itemsize": itemsize,
    }
    return np.dtype(description, align=aligned)


def _padded(dtype: Any) -> bool:
    """Whether items have bytes that belong to no field. They hold what lay on the heap: nobody else's business."""
    if dtype.subdtype is not None:
        return _padded(dtype.subdtype[0])
    if dtype.names is None:
        return False
    end = 0
    for field, offset, *_ in sorted(dtype.fields.values(), key=lambda each: each[1]):
        if offset > end or _padded(field):
            return True
        end = max(end, offset + field.itemsize)  # fields may overlap
    return bool(end < dtype.itemsize)


def _contiguous(array: Any, order: Any, padded: bool) -> Any:
    """A copy in that order, with zeros for padding."""
    copy = (np.zeros if padded else np.empty)(array.shape, array.dtype, order)
    if padded:
        _copy_fields(copy, array)
    else:
        copy[...] = array
    return copy


def _copy_fields(target: Any, source: Any) -> None:
    """Copy field by field: numpy may copy an item as a whole, with what is between the fields."""
    if source.dtype.names is None:
        target[...] = source
    else:
        for name in source.dtype.names:
            _copy_fields(target[name], source[name])


def _place(array: Any) -> tuple[Any, ...]:
    """What two arrays have in common that show the same memory, all of it and nothing else."""
    place = (array.__array_interface__["data"][0], array.nbytes)
    return place if array.flags.forc else (*place, array.itemsize, array.shape, array.strides)


def _sent_before(array: Any, message: Any) -> Any:
    """The array of the message that shows the very memory of this one; None if there is none yet.

    The address takes a fifth of the time of a whole array to get, so it waits until there is a second array.
    """
    pending, places = message.arrays, message.places
    if not pending and not places:
        pending.append((array, message.current))
        return None
    while pending:
        earlier, original = pending.pop()
        places[_place(earlier)] = original
    place = _place(array)
    known = places.get(place)
    if known is None:
        places[place] = message.current
    return known


def _bytes_of(array: Any) -> memoryview:
    """The memory of an array in C order, as single bytes."""
    try:
        view: memoryview = array.data.cast("B")  # 0.1 us, where numpy takes 0.45
    except (TypeError, ValueError):  # a dtype that a memoryview does not know: fields, times, texts
        view = array.reshape(-1).view(np.uint8).data
    return view


def reduce_array(array: Any, message: Any) -> tuple[Any, ...]:
    """An ndarray for the pickler: only the part of its memory that it shows."""
    if type(array) is not np.ndarray:
        if issubclass(type(array), np.ma.MaskedArray):
            raise RefusedError("a masked array")
        array = _view(array, np.ndarray)
    text = dtype_text(array.dtype)
    shape, size, flags = array.shape, array.nbytes, array.flags
    contiguous = flags.c_contiguous
    order = "C" if contiguous or not flags.f_contiguous else "F"
    if not size:
        return as_array, (text, order, b"", *shape)
    known = _sent_before(array, message)
    if known is not None:
        return as_array, (text, order, known, *shape)
    padded = array.dtype.names is not None and _padded(array.dtype)
    if padded or not (contiguous or order == "F"):
        array = _contiguous(array, order, padded)
    if size < OUT_OF_BAND:
        return as_array, (text, order, array.tobytes("A"), *shape)
    flat = array.T if order == "F" else array
    message.buffers.append(_bytes_of(flat))
    return as_array, (text, order, len(message.buffers) - 1, *shape)


def build_array(message: Any, text: Any, order: Any, memory: Any, *shape: int) -> Any:
    """The array that `reduce_array` told: in its buffer if that is writable, else in memory of its own."""
    dtype = build_dtype(message, text)
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError("too many dimensions")
    for length in shape:
        if type(length) is not int or not 0 <= length < 1 << 63:
            raise ValueError("no length")
    if order != "C" and order != "F":
        raise ValueError("no order")
    if type(memory) is np.ndarray:
        if not memory.flags.forc:
            raise ValueError("the memory of an array that is not contiguous")
        memory = memory.reshape(-1, order="A").view(np.uint8).data
    elif type(memory) is int:
        if not 0 <= memory < len(message.buffers):
            raise ValueError("no buffer")
        number, memory = memory, message.buffers[memory]
        message.buffers[number] = None  # one buffer, one array
        if memory is None:
            raise ValueError("a buffer that is taken")
    else:
        expect(memory, bytes)
        message.take(len(memory))
    size = len(memory)
    if math.prod(shape) * dtype.itemsize != size:
        raise ValueError("an array whose shape and memory differ")
    if not size:
        if dtype.itemsize > _IDLE_ITEMSIZE:
            raise ValueError("an array of nothing but large items")
        return np.empty(shape, dtype, order)
    array: Any = np.ndarray(shape, dtype, memory, order=order)
    if not array.flags.writeable:
        array = np.empty(shape, dtype, order)
        array.reshape(-1, order="A").view(np.uint8)[:] = np.frombuffer(memory, np.uint8)
    if dtype.kind in "bV":
        _check_bools(array)
    return array


def _check_bools(array: Any) -> None:
    """Refuse bools that are neither 0 nor 1: numpy counts a mask by adding them, and writes as many as it finds."""
    dtype = array.dtype
    if dtype.names is not None:
        for name in dtype.names:
            _check_bools(array[name])
    elif dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
        raise ValueError("a bool that is neither true nor false")


def reduce_scalar(scalar: Any, _: Any) -> tuple[Any, ...]:
    """A numpy scalar for the pickler: with a number of Python's, whose hash it has, where that holds all of it."""
    dtype = scalar.dtype
    if dtype.kind in "biu" or (dtype.kind == "f" and dtype.itemsize <= 8 and scalar == scalar):
        return as_number, (dtype.str, scalar.item())
    if scalar.nbytes > MAX_SCALAR:
        raise RefusedError("a numpy scalar too large")
    if dtype.names is not None and _padded(dtype):
        scalar = _contiguous(np.asarray(scalar), "C", True)
    return as_scalar, (dtype_text(dtype), scalar.tobytes())


def build_number(text: str, value: Any) -> Any:
    """The scalar of a number."""
    expect(text, str)
    expect(value, bool, int, float)
    if text[1:2] not in tuple("biuf") or not _SIMPLE.fullmatch(text):
        raise ValueError("no dtype of a number")
    with np.errstate(over="ignore"):
        scalar = np.array(value, text)[()]
    if scalar.item() != value or scalar.dtype.itemsize > 8:
        raise ValueError("a number that its dtype does not hold")
    return scalar


def build_scalar(message: Any, text: Any, data: bytes) -> Any:
    """The scalar that `reduce_scalar` told."""
    expect(data, bytes)
    if len(data) > MAX_SCALAR:
        raise ValueError("a scalar too large")
    if not data:
        dtype = build_dtype(message, text)
        if dtype.itemsize:
            raise ValueError("a scalar whose dtype and memory differ")
        return np.zeros((), dtype)[()]
    return build_array(message, text, "C", data)[()]


as_array.make = build_array  # what stood there was the import of this module
as_scalar.make = build_scalar
as_number.make = build_number


_probe = np.zeros((2, 3))
for _learn in LEARNERS:
    _learn(
        np.ndarray,
        np.frombuffer,
        tuple((dtype, dtype.str, dtype.itemsize) for dtype in map(np.dtype, _CODES)),
        _probe,
        _probe.__array_interface__["data"][0],
    )
