# SPDX-License-Identifier: MIT
"""pyarrow's tables and record batches: each column's type, and the buffers of its arrays.

No bytes of Arrow's own formats are read. Types come from an exact list, and Arrow checks whole arrays, offsets and
texts too, before anybody sees them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import pyarrow as pa

from . import Type, kind_of

SIMPLE: Final = {
    str(each): each
    for each in (
        pa.null(), pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(),
        pa.uint64(), pa.float16(), pa.float32(), pa.float64(), pa.string(), pa.large_string(), pa.binary(),
        pa.large_binary(), pa.date32(), pa.date64(), pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"),
        *(make(unit) for make in (pa.timestamp, pa.duration) for unit in ("s", "ms", "us", "ns")),
    )
}  # fmt: skip
"""The types without parameters, by their texts."""

LISTS: Final = {"list": pa.list_, "large_list": pa.large_list}
DECIMALS: Final = {128: pa.decimal128, 256: pa.decimal256}
UNITS: Final = ("s", "ms", "us", "ns")
MOST: Final = 1 << 48
"""The most items of an array."""

MOST_WITHOUT_BYTES: Final = 1 << 17
"""The most items of an array that has no bytes: of nulls, say. A message of 100 bytes could have any number of them.

An array of more has a bit for each item, at least, or a child with as many items, which has them.
"""

DEPTH: Final = 32
"""How deep types may be nested."""


def _tell_type(of: Any, depth: int = 0) -> Any:
    """A type as plain values. `_make_type` reverses this."""
    text = str(of)
    if SIMPLE.get(text) == of:
        return text
    if depth > DEPTH:
        raise TypeError("a type that is nested too deep")
    if pa.types.is_timestamp(of):
        return "timestamp", of.unit, of.tz
    if pa.types.is_decimal128(of) or pa.types.is_decimal256(of):
        return "decimal", of.bit_width, of.precision, of.scale
    if pa.types.is_fixed_size_binary(of):
        return "binary", of.byte_width
    if pa.types.is_dictionary(of):
        return "dictionary", *(_tell_type(each, depth + 1) for each in (of.index_type, of.value_type)), of.ordered
    if pa.types.is_list(of) or pa.types.is_large_list(of):
        return "list" if pa.types.is_list(of) else "large_list", _tell_field(of.value_field, depth)
    if pa.types.is_fixed_size_list(of):
        return "fixed_list", _tell_field(of.value_field, depth), of.list_size
    if pa.types.is_struct(of):
        return "struct", *(_tell_field(of.field(i), depth) for i in range(of.num_fields))
    raise TypeError(f"a column of type {of} does not cross: cast it first")


def _tell_field(field: Any, depth: int = 0) -> Any:
    return field.name, _tell_type(field.type, depth + 1), field.nullable


def _make_type(told: Any, depth: int = 0) -> Any:
    if type(told) is str:
        return SIMPLE[told]
    if depth > DEPTH:
        raise ValueError("a type that is nested too deep")
    match (kind_of(told), *told[1:]):
        case ("timestamp", str(unit), None | str() as zone) if unit in UNITS:
            return pa.timestamp(unit, zone)
        case ("decimal", int(bits), int(precision), int(scale)) if bits in DECIMALS and abs(scale) <= 76:
            return DECIMALS[bits](precision, scale)
        case ("binary", int(width)) if 0 <= width < 1 << 31:
            return pa.binary(width)
        case ("dictionary", indices, values, bool(ordered)):
            return pa.dictionary(_make_type(indices, depth + 1), _make_type(values, depth + 1), ordered)
        case ("list" | "large_list" as kind, field):
            return LISTS[kind](_make_field(field, depth))
        case ("fixed_list", field, int(size)) if 0 <= size < 1 << 31:
            return pa.list_(_make_field(field, depth), size)
        case ("struct", *fields):
            return pa.struct([_make_field(field, depth) for field in fields])
    raise ValueError("not a type")


def _make_field(told: Any, depth: int = 0) -> Any:
    name, of, nullable = told
    if type(name) is not str or type(nullable) is not bool:
        raise ValueError("not a field")
    return pa.field(name, _make_type(of, depth + 1), nullable)


def _children(array: Any) -> list[Any]:
    """The arrays that an array which begins at its buffers' first item is made of."""
    of = array.type
    if pa.types.is_dictionary(of):
        return [array.indices, array.dictionary]
    if pa.types.is_struct(of):
        return [array.field(i) for i in range(of.num_fields)]
    return [array.values] if pa.types.is_nested(of) else []


def _tell_array(array: Any) -> Any:
    """An array without its type: its length, its own buffers, and its children."""
    buffers = [] if pa.types.is_dictionary(array.type) else array.buffers()[: array.type.num_buffers]
    told = [None if each is None else np.frombuffer(each, np.uint8) for each in buffers]
    children = list(map(_whole, _children(array)))
    if len(array) > _most_items(told, children):  # nulls, or structs without fields: say of each that it is there
        told[0] = np.full((len(array) + 7) // 8, 0xFF, np.uint8)
    return len(array), tuple(told), tuple(map(_tell_array, children))


def _most_items(buffers: Iterable[Any], children: Iterable[Any]) -> int:
    """The most items of an array with these buffers and children."""
    bits: int = 8 * sum(each.size for each in buffers if each is not None)
    lengths: list[int] = [len(each) for each in children]
    return max([MOST_WITHOUT_BYTES, bits, *lengths])


def _whole(array: Any) -> Any:
    """An array that holds what it shows and no more: a slice would take along what it was cut from."""
    if array.offset == 0 and array.get_total_buffer_size() <= array.nbytes + 64 * (1 + len(array.buffers())):
        return array
    return pa.concat_arrays([array, array.slice(0, 0)])


def _make_array(of: Any, told: Any, copied: bool = False) -> Any:
    """The array of a type that `_tell_array` described. It lives in its buffers, unless they hold offsets or texts.

    Those are copied before Arrow checks them: the sender may have put one piece of memory into the message twice, and
    whoever wrote to it by its other name would undo the check.
    """
    length, buffers, children = told
    if type(length) is not int or not 0 <= length <= MOST or type(buffers) is not tuple or type(children) is not tuple:
        raise ValueError("not an array")
    if pa.types.is_dictionary(of):
        indices, values = children
        indices, values = _make_array(of.index_type, indices, copied=True), _make_array(of.value_type, values)
        return pa.DictionaryArray.from_arrays(indices, values, ordered=of.ordered, safe=True)
    for each in buffers:
        if each is not None and (type(each) is not np.ndarray or each.dtype != np.uint8 or each.ndim != 1):
            raise ValueError("not a buffer")
    inner = [_make_array(each, child) for each, child in zip(_parts(of), children, strict=True)]
    if length > _most_items(buffers, inner):
        raise ValueError("more items than their bytes")
    copied = copied or not (pa.types.is_primitive(of) or pa.types.is_decimal(of))
    own = [None if each is None else pa.py_buffer(each.tobytes() if copied else each) for each in buffers]
    if pa.types.is_null(of):  # Arrow has none for them
        own = [None]
    return pa.Array.from_buffers(of, length, own, children=inner)


def _parts(of: Any) -> list[Any]:
    """The types of the children of an array of this type."""
    return [of.field(i).type for i in range(of.num_fields)]


def _encode_table(table: Any) -> Any:
    columns: list[Any] = []
    for name, of, column in zip(table.schema.names, table.schema.types, table.columns, strict=True):
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        field = name, _tell_type(of), table.schema.field(len(columns)).nullable
        columns.append((*field, [_tell_array(_whole(chunk)) for chunk in chunks]))
    return table.num_rows, columns


def _decode_table(told: Any) -> Any:
    rows, columns = told
    if type(rows) is not int or type(columns) is not list:
        raise ValueError("not a table")
    fields, arrays = [], []
    for name, of, nullable, chunks in columns:
        field = _make_field((name, of, nullable))
        column = pa.chunked_array([_make_array(field.type, chunk) for chunk in chunks], field.type)
        column.validate(full=True)
        fields.append(field)
        arrays.append(column)
    table = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
    if table.num_rows != rows and fields:
        raise ValueError("columns of other lengths")
    return table


def _decode_batch(told: Any) -> Any:
    table = _decode_table(told)
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)


TYPES: Final[list[Type]] = [
    (pa.Table, "pyarrow.Table", _encode_table, _decode_table),
    (pa.RecordBatch, "pyarrow.RecordBatch", _encode_table, _decode_batch),
]
