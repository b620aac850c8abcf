# SPDX-License-Identifier: MIT
"""numpy's arrays, scalars and dtypes in messages. This module is imported when numpy is imported already, or needed.

A message has an array's dtype, order, memory and shape. Small memory is sent as bytes, and large memory as the number
of one of the message's buffers. If an earlier array of the message shows the same memory, that array is sent in the
memory's place. A dtype that holds pointers is refused by the sender and by the receiver.
"""

from __future__ import annotations

import math
import re
import sys
from typing import Any

import numpy as np

from .. import _fast
from .constructors import SCALAR_LIMIT, as_array, as_number, as_record, as_scalar, as_unsigned

MAX_DIMENSIONS = 64  # NPY_MAXDIMS of numpy 2; numpy 1 has 32

_NUMBER = re.compile(r"\|[biu]1|[<>](?:[iu][248]|f[248]|f1[26]|c8|c16|c24|c32)")
_TIME = re.compile(r"[<>][Mm]8(?:\[([1-9][0-9]{0,8})?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as|generic)\])?")
_TEXT = re.compile(r"(?:\|[SV]|[<>]U)([1-9][0-9]{0,8})")
_CODES = "?bBhHiIlLqQefdFD"  # not g and G, because their items have idle bytes
_DTYPES = {np.dtype(code).str: np.dtype(np.dtype(code).str) for code in _CODES}
_TEXTS = {dtype: text for text, dtype in _DTYPES.items()}
"""The dtypes of most arrays by their texts, and the texts by the dtypes. A lookup takes 0.1 us, making a dtype 0.7."""

MAX_PARTS = 1 << 14
"""The most names, offsets and types in a dtype, each counted as often as it occurs. That is some 4000 fields."""

MAX_ITEM = 1 << 28
"""The most bytes of an array's item."""

_DTYPE_DEPTH = 32
_USER_DEFINED = 256  # NPY_USERDEF: dtypes that other packages have added have this number or a higher one
_IDLE_ITEMSIZE = 1 << 20
"""The most bytes of an item in an array without items, because numpy allocates one item all the same."""

MAX_IDLE_ITEMS = 1 << 17
"""The largest product of the lengths other than 0 of an array without items. tolist() may make that many lists."""

_view = np.ndarray.view


class RefusedError(TypeError):
    """Raised for a numpy value that has no clone. The text describes the value."""


def dtype_text(dtype: Any, depth: int = 0) -> Any:
    """Describe a dtype by plain values: a str, or tuples for fields and subarrays. `build_dtype` reverses this."""
    known = _TEXTS.get(dtype)
    if known is not None:
        return known
    if depth > _DTYPE_DEPTH:
        raise RefusedError("an array whose dtype is nested too deep")
    if not 0 < dtype.itemsize <= MAX_ITEM:
        raise RefusedError(f"an array whose items have {dtype.itemsize} bytes")
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
    if dtype.num >= _USER_DEFINED or _simple_size(simple) is None:
        raise RefusedError(f"an array of {dtype}")
    return simple


def _simple_size(text: str) -> int | None:
    """The bytes of an item of a dtype without fields; None: the text is no such dtype."""
    if len(text) > 24:
        return None
    if _NUMBER.fullmatch(text):
        return int(text[2:])
    if _TIME.fullmatch(text):
        return 8
    found = _TEXT.fullmatch(text)
    if found is None:
        return None
    size = int(found[1]) * (4 if text[1] == "U" else 1)
    return size if size <= MAX_ITEM else None


def _parts(text: Any) -> int:
    """How many parts a dtype's text has. Shared parts could make this endless, so it stops after MAX_PARTS."""
    waiting, count = [text], 1
    while waiting and count <= MAX_PARTS:
        part = waiting.pop()
        if type(part) is tuple:
            count += len(part)
            if count <= MAX_PARTS:
                waiting += part
    return count


def build_dtype(text: Any) -> Any:
    """Build the dtype that `dtype_text` described. Any exception: the text is not a dtype. The caller has counted its
    parts."""
    known = _DTYPES.get(text) if type(text) is str else None
    return _build_dtype(text, 0)[0] if known is None else known


def _is_int(value: object, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _build_dtype(text: Any, depth: int) -> tuple[Any, int]:
    """The dtype and the bytes of an item. This counts the bytes itself, so numpy need not check that fields fit."""
    if depth > _DTYPE_DEPTH:
        raise ValueError("a dtype nested too deep")
    if type(text) is str:
        size = _simple_size(text)
        if size is None:
            raise ValueError("not a dtype")
        dtype = np.dtype(text)
    elif type(text) is not tuple or len(text) < 3:
        raise ValueError("not a dtype")
    elif text[0] == "array":
        base, size = _build_dtype(text[1], depth + 1)
        shape = text[2:]
        if len(shape) > MAX_DIMENSIONS // 2:
            raise ValueError("too many dimensions")
        for length in shape:
            if not _is_int(length, 1, MAX_ITEM):
                raise ValueError("not a length")
            size *= length
        if size > MAX_ITEM:
            raise ValueError("an item that is too large")
        dtype = np.dtype((base, shape))
    elif text[0] == "fields":
        _, size, aligned, *fields = text
        if not _is_int(size, 1, MAX_ITEM) or type(aligned) is not bool:
            raise ValueError("not a dtype")
        names, formats, offsets = [], [], []
        for field in fields:
            if type(field) is not tuple or len(field) != 3:
                raise ValueError("not a field")
            name, offset, told = field
            inner, inner_size = _build_dtype(told, depth + 1)
            if type(name) is not str or not _is_int(offset, 0, size - inner_size):
                raise ValueError("a field that does not fit in its item")
            names.append(name)
            formats.append(inner)
            offsets.append(offset)
        description: Any = {"names": names, "formats": formats, "offsets": offsets, "itemsize": size}
        dtype = np.dtype(description, align=aligned)
        if dtype.names != tuple(names) or [dtype.fields[name][1] for name in names] != offsets:
            raise ValueError("fields that numpy reads in another way")
    else:
        raise ValueError("not a dtype")
    if dtype.itemsize != size or dtype.hasobject:
        raise ValueError("a dtype that numpy reads in another way")
    return dtype, size


def _looked_at(text: Any, depth: int = 0) -> int:
    """How many bools and characters of an item must be checked, each as often as a field shows it."""
    if type(text) is str:
        return 1 if text == "|b1" else int(text[2:]) if text[1:2] == "U" else 0
    if depth > _DTYPE_DEPTH:
        raise ValueError("a dtype nested too deep")
    if text[0] == "array":
        if not all(_is_int(length, 1, MAX_ITEM) for length in text[2:]):
            raise ValueError("not a length")
        return int(math.prod(text[2:])) * _looked_at(text[1], depth + 1)
    return sum(_looked_at(told, depth + 1) for _, _, told in text[3:])


def dtype_price(text: Any, items: int) -> int:
    """The cost of building a dtype and of checking the bools and characters of so many items, in units of 10 ns."""
    if type(text) is str:
        return 200 + items * _looked_at(text) // 16
    parts = _parts(text)
    if parts > MAX_PARTS:
        raise ValueError("a dtype with too many fields")
    return 150 * parts + parts * items // 8 + items * _looked_at(text) // 16


def array_price(text: Any, _order: str, _memory: Any, *shape: int) -> int:
    """The cost of building an array without its memory, in units of 10 ns."""
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError("too many dimensions")
    items = math.prod(shape)
    if items > 1 << 62:
        raise ValueError("more items than there can be")
    return dtype_price(text, items)


def _padded(dtype: Any) -> bool:
    """Whether items have bytes that belong to no field. Such bytes hold old heap data, which must not leave here."""
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


_IDLE = slice(10, 16) if np.finfo(np.longdouble).nmant == 63 else slice(0, 0)
"""The idle bytes of an x86 longdouble. They hold old heap data, too."""


def _clear_idle(copy: Any) -> None:
    """Clear the idle bytes in an array that nobody else uses."""
    dtype = copy.dtype
    if dtype.names is not None:
        for name in dtype.names:
            _clear_idle(copy[name])
    elif dtype.char in _IDLING and copy.size:
        bytes_ = copy[..., None].view(np.uint8)
        bytes_.reshape(*bytes_.shape[:-1], -1, 16)[..., _IDLE] = 0


def _has(dtype: Any, codes: str) -> bool:
    """Whether a dtype has parts of one of these type codes."""
    if dtype.subdtype is not None:
        return _has(dtype.subdtype[0], codes)
    if dtype.names is not None:
        return any(_has(field, codes) for field, *_ in dtype.fields.values())
    return dtype.char in codes


_IDLING = "gG"
"""The type codes of items that have idle bytes."""

_CHECKED = "?U"
"""The type codes of items that some bytes make invalid. Another array that shares their memory must have the same
dtype, because it could write such bytes."""


def _contiguous(array: Any, order: Any, padded: bool) -> Any:
    """A copy of the array in that order. Its padding is zeros."""
    copy = (np.zeros if padded else np.empty)(array.shape, array.dtype, order)
    if padded:
        _copy_fields(copy, array)
    else:
        copy[...] = array
    if _has(array.dtype, _IDLING):
        _clear_idle(copy)
    return copy


def _copy_fields(target: Any, source: Any) -> None:
    """Copy field by field, because numpy may copy whole items with the padding between their fields."""
    if source.dtype.names is None:
        target[...] = source
    else:
        for name in source.dtype.names:
            _copy_fields(target[name], source[name])


def _place(array: Any) -> tuple[Any, ...]:
    """A key that two arrays share if they show exactly the same memory.

    If the memory has bools or texts, the arrays must have the same dtype, too.
    """
    place: tuple[Any, ...] = (array.__array_interface__["data"][0], array.nbytes)
    if _has(array.dtype, _CHECKED):
        place = (*place, array.dtype)
    return place if array.flags.forc else (*place, array.itemsize, array.shape, array.strides)


def _sent_before(array: Any, message: Any) -> Any:
    """The array of the message that shows exactly the memory of this one; None: there is none yet.

    To get an array's address takes a fifth of the time of a whole array, so it is done only once there is a second
    array.
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
        view: memoryview = array.data.cast("B")  # takes 0.1 us; numpy's way below takes 0.45
    except (TypeError, ValueError):  # a memoryview does not know the dtype: fields, times, texts
        view = array.reshape(-1).view(np.uint8).data
    return view


def reduce_array(array: Any, message: Any) -> tuple[Any, ...]:
    """Reduce an ndarray for the pickler. Only the part of its memory that it shows is sent."""
    if type(array) is not np.ndarray:
        if issubclass(type(array), np.ma.MaskedArray):
            raise RefusedError("a masked array")
        array = _view(array, np.ndarray)
    text = dtype_text(array.dtype)
    shape, size, flags = array.shape, array.nbytes, array.flags
    contiguous = flags.c_contiguous
    order = "C" if contiguous or not flags.f_contiguous else "F"
    if not size:
        if math.prod(length or 1 for length in shape) > MAX_IDLE_ITEMS:
            raise RefusedError(f"an array without items whose shape {shape} is too large")
        return as_array, (text, order, b"", *shape)
    known = _sent_before(array, message)
    if known is not None:
        return as_array, (text, order, known, *shape)
    padded = array.dtype.names is not None and _padded(array.dtype)
    if padded or not (contiguous or order == "F") or _has(array.dtype, _IDLING):
        array = _contiguous(array, order, padded)
    if size < _fast.OUT_OF_BAND:
        return as_array, (text, order, array.tobytes("A"), *shape)
    flat = array.T if order == "F" else array
    message.buffers.append(_bytes_of(flat))
    return as_array, (text, order, len(message.buffers) - 1, *shape)


def build_array(text: Any, order: Any, memory: Any, *shape: int) -> Any:
    """Build the array that `reduce_array` described. It uses its buffer if that is writable, else memory of its own."""
    return _build(text, order, memory, shape, copies=True)


def build_view(text: Any, order: Any, memory: Any, *shape: int) -> Any:
    """Build the array that `reduce_array` described, in its buffer, and read-only."""
    array = _build(text, order, memory, shape, copies=False)
    array.flags.writeable = False
    # What is made of this view has the array for its base, and not the view: so the view alone can be released.
    return array.view()


def _build(text: Any, order: Any, memory: Any, shape: tuple[int, ...], *, copies: bool) -> Any:
    if order != "C" and order != "F":
        raise ValueError("not an order")
    dtype = build_dtype(text)
    if type(memory) is np.ndarray:
        if not memory.flags.forc:
            raise ValueError("the memory of an array that is not contiguous")
        if memory.dtype != dtype and (_has(memory.dtype, _CHECKED) or _has(dtype, _CHECKED)):
            raise ValueError("bools or texts that share memory with an array of another dtype")
        memory = memory.reshape(-1, order="A").view(np.uint8).data
    size = len(memory)
    if math.prod(shape) * dtype.itemsize != size:
        raise ValueError("an array whose shape and memory differ in size")
    if not size:
        if dtype.itemsize > _IDLE_ITEMSIZE or math.prod(length or 1 for length in shape) > MAX_IDLE_ITEMS:
            raise ValueError("an array without items whose items or shape are too large")
        return np.zeros(shape, dtype, order)
    array: Any = np.ndarray(shape, dtype, memory if copies else _flat(memory), order=order)
    if copies and not array.flags.writeable:
        array = np.empty(shape, dtype, order)
        array.reshape(-1, order="A").view(np.uint8)[:] = np.frombuffer(memory, np.uint8)
    if array.nbytes != size:
        raise ValueError("an array that numpy makes with another size")
    if dtype.kind in "bUV":
        _check_items(array)
    return array


def _flat(memory: Any) -> Any:
    """The bytes of a view's array, read-only."""
    if type(memory) is bytes:  # a single byte is one object in all of Python, and somebody may write to arrays by force
        own = np.frombuffer(memory, np.uint8).copy()
        own.flags.writeable = False
        return own
    if type(memory.obj) in (_fast.Lease, np.ndarray):
        # This refers to that, and not to the memoryview, which somebody could release.
        return np.ndarray(len(memory), np.uint8, memory)
    return np.frombuffer(memory, np.uint8)


def _check_items(array: Any) -> None:
    """Refuse bools that are neither 0 nor 1, and texts with invalid characters, because numpy trusts both.

    numpy counts a mask by adding its bools, but writes one number for each bool that is true.
    """
    dtype = array.dtype
    if dtype.names is not None:
        for name in dtype.names:
            _check_items(array[name])
    elif dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
        raise ValueError("a bool that is neither true nor false")
    elif dtype.kind == "U" and array.size:
        # One more dimension, of one item, so that this works for a field, too.
        characters = array[..., None].view(np.dtype(np.uint32).newbyteorder(dtype.byteorder))
        if characters.max() > sys.maxunicode:
            raise ValueError("a text with an invalid character")


def reduce_scalar(scalar: Any, _: Any) -> tuple[Any, ...]:
    """Reduce a numpy scalar for the pickler: to a Python number if that holds its value, with the same hash."""
    dtype = scalar.dtype
    if dtype.kind in "biu" or (dtype.kind == "f" and dtype.itemsize <= 8 and scalar == scalar):
        number = scalar.item()
        return as_unsigned if type(number) is int and number >= 1 << 63 else as_number, (dtype.str, number)
    if scalar.nbytes > SCALAR_LIMIT:
        raise RefusedError("a numpy scalar that is too large")
    if (dtype.names is not None and _padded(dtype)) or _has(dtype, _IDLING):
        scalar = _contiguous(np.asarray(scalar), "C", dtype.names is not None)
    if dtype.names is not None:
        return as_record, (dtype_text(dtype), scalar.tobytes())
    return as_scalar, (dtype_text(dtype), scalar.tobytes())


def build_number(text: str, value: Any) -> Any:
    """Build the scalar of a number."""
    if text[1:2] not in tuple("biuf") or _simple_size(text) is None:
        raise ValueError("not the dtype of a number")
    with np.errstate(over="ignore"):
        scalar = np.array(value, text)[()]
    if scalar.item() != value or scalar.dtype.itemsize > 8:
        raise ValueError("a number that its dtype cannot hold")
    return scalar


def build_scalar(text: Any, data: bytes) -> Any:
    """Build the scalar that `reduce_scalar` described. A scalar with fields cannot be a key, because numpy's hash of it
    trusts the dtype."""
    return build_array(text, "C", data)[()]


_probe = np.zeros((2, 3))
_fast.register_arrays(
    np.ndarray,
    np.frombuffer,
    tuple((dtype, dtype.str, dtype.itemsize) for dtype in map(np.dtype, _CODES)),
    _probe,
    _probe.__array_interface__["data"][0],
    build_view,
)
