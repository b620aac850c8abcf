# SPDX-License-Identifier: MIT
"""numpy's arrays, scalars and dtypes as messages carry them. Imported when numpy is there already, or needed.

An array is its dtype, its order, its memory and its shape. The memory is the bytes themselves when it is small, the
number of one of the message's buffers when it is not, or another array of the message that has the very same memory.
No dtype that holds pointers has a name here, in either direction.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from .values import as_array, as_scalar, expect

OUT_OF_BAND = 1 << 16
"""Bytes from which on an array's memory travels beside the pickle. Below, one more memcpy (5 us at most) is cheaper
than the bookkeeping."""

_KINDS = "biufcSUVMm"
_SIMPLE = re.compile(r"[<>|](?:[biufcSUV][0-9]{1,9}|[Mm]8(?:\[[0-9]{0,9}[A-Za-z]{1,2}\])?)")
_DTYPE_DEPTH = 32
_USER_DEFINED = 256  # NPY_USERDEF: numbers of dtypes that other packages have added begin here
_view = np.ndarray.view


class Refused(TypeError):
    """A value of numpy's that has no clone; says what it is."""


def dtype_text(dtype: Any, depth: int = 0) -> Any:
    """A dtype in plain values: a string, or tuples for fields and subarrays; `build_dtype` undoes it."""
    if depth > _DTYPE_DEPTH:
        raise Refused("an array whose dtype is nested too deep")
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return ("array", dtype_text(base, depth + 1), *shape)
    if dtype.names is not None:
        fields = [(name, dtype.fields[name][1], dtype_text(dtype.fields[name][0], depth + 1)) for name in dtype.names]
        return ("fields", dtype.itemsize, dtype.isalignedstruct, *fields)
    if dtype.hasobject:
        raise Refused("an array of objects")
    if dtype.kind not in _KINDS or dtype.num >= _USER_DEFINED:
        raise Refused(f"an array of {dtype}")
    return dtype.str


def build_dtype(text: Any, depth: int = 0) -> Any:
    """The dtype that `dtype_text` told; any exception when it told none."""
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
        return np.dtype((build_dtype(text[1], depth + 1), shape))
    if text[0] != "fields":
        raise ValueError("no dtype")
    _, itemsize, aligned, *fields = text
    expect(itemsize, int)
    expect(aligned, bool)
    for name, offset, _ in fields:
        expect(name, str)
        expect(offset, int)
    description = {
        "names": [name for name, _, _ in fields],
        "formats": [build_dtype(format_, depth + 1) for _, _, format_ in fields],
        "offsets": [offset for _, offset, _ in fields],
        "itemsize": itemsize,
    }
    return np.dtype(description, align=aligned)  # type: ignore[call-overload]


def _packed(array: Any) -> Any:
    """A contiguous copy. Padding between fields is zeroed: it would be whatever lay on our heap."""
    if array.dtype.kind != "V":
        return np.ascontiguousarray(array).reshape(array.shape)
    copy = np.zeros(array.shape, array.dtype)
    copy[...] = array
    return copy


def reduce_array(array: Any, message: Any) -> tuple[Any, ...]:
    """An ndarray for the pickler; only the part of its memory that it shows."""
    if type(array) is not np.ndarray:
        if isinstance(array, np.ma.MaskedArray):
            raise Refused("a masked array")
        array = _view(array, np.ndarray)
    dtype = array.dtype
    text = dtype_text(dtype)
    shape = array.shape
    flags = array.flags
    if flags.c_contiguous:
        order, place = "C", (array.ctypes.data, array.nbytes)
    elif flags.f_contiguous:
        order, place = "F", (array.ctypes.data, array.nbytes)
    else:
        order, place = "C", (array.ctypes.data, array.nbytes, array.itemsize, shape, array.strides)
    if array.nbytes:
        known = message.places.get(place)
        if known is not None:
            return as_array, (text, order, known, *shape)
        message.places[place] = message.current
    if array.nbytes < OUT_OF_BAND:
        if len(place) > 2:
            array = _packed(array)
        return as_array, (text, order, array.tobytes("A"), *shape)
    if len(place) > 2:
        array = _packed(array)
    elif order == "F":
        array = array.T
    message.buffers.append(array.reshape(-1).view(np.uint8))
    return as_array, (text, order, len(message.buffers) - 1, *shape)


def build_array(buffers: Sequence[Any], text: Any, order: str, memory: Any, *shape: int) -> Any:
    """The array that `reduce_array` told. It lives in a buffer that is writable, and in memory of its own otherwise."""
    dtype = build_dtype(text)
    count = 1
    for length in shape:
        expect(length, int)
        if length < 0:
            raise ValueError("a negative length")
    count = math.prod(shape)
    if order not in ("C", "F"):
        raise ValueError("no order")
    if type(memory) is int:
        memory = memoryview(buffers[memory] if 0 <= memory < len(buffers) else b"")
    elif type(memory) is np.ndarray:
        if not memory.flags.forc:
            raise ValueError("an array that is not contiguous")
    else:
        expect(memory, bytes)
    size = memory.nbytes if type(memory) is not bytes else len(memory)
    if count * dtype.itemsize != size:
        raise ValueError("an array whose shape and memory differ")
    if type(memory) is np.ndarray:
        memory = memory.reshape(-1, order="A").view(np.uint8).data
        return np.ndarray(shape, dtype, memory, order=order)  # type: ignore[call-overload]
    array = np.ndarray(shape, dtype, memory, order=order)  # type: ignore[call-overload]
    return array if array.flags.writeable else array.copy(order)


def reduce_scalar(scalar: Any, _: Any) -> tuple[Any, ...]:
    """A numpy scalar for the pickler."""
    return as_scalar, (dtype_text(scalar.dtype), scalar.tobytes())


def build_scalar(text: Any, data: bytes) -> Any:
    """The scalar that `reduce_scalar` told."""
    expect(data, bytes)
    dtype = build_dtype(text)
    if dtype.itemsize != len(data):
        raise ValueError("a scalar whose dtype and memory differ")
    return np.ndarray((), dtype, data).copy()[()]
