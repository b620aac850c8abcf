# SPDX-License-Identifier: MIT
"""pandas' frames, series, indexes and times: arrays of numpy, and plain values where pandas has objects."""

from __future__ import annotations

import datetime
import sys
from typing import Any, Final

import numpy as np
import pandas as pd

from . import Type, kind_of

MASKED: Final[dict[str, Any]] = {
    "i": pd.arrays.IntegerArray, "u": pd.arrays.IntegerArray, "f": pd.arrays.FloatingArray, "b": pd.arrays.BooleanArray,
}  # fmt: skip
"""The arrays with a mask, by the kind of their values' dtype."""

UNSORTED: Final = 256
"""The most categories, or values of a level, that are neither texts nor sorted."""

MISSING: Final = {"NaT": pd.NaT, "NA": pd.NA}


# ---- arrays ----


def _tell_array(array: Any) -> tuple[Any, ...]:
    """An array of pandas or numpy as plain values. `_make_array` reverses this."""
    dtype: Any = array.dtype
    if isinstance(dtype, np.dtype) or isinstance(array, pd.arrays.NumpyExtensionArray):
        plain = np.asarray(array)
        if plain.dtype.hasobject:
            return "objects", plain.tolist()
        return "numpy", plain if plain.dtype.isnative else plain.astype(plain.dtype.newbyteorder("="))
    if isinstance(dtype, pd.DatetimeTZDtype):
        return "zoned", np.asarray(array, f"M8[{dtype.unit}]"), _zone(dtype.tz)
    if isinstance(dtype, pd.CategoricalDtype):
        return "categories", array.codes, _filled(dtype.categories), bool(dtype.ordered)
    if isinstance(dtype, pd.StringDtype):
        return "strings", dtype.na_value is pd.NA, array.to_numpy(object, na_value=None).tolist()
    if type(array) in MASKED.values():
        numpy_dtype = dtype.numpy_dtype
        return "masked", array.to_numpy(numpy_dtype, na_value=numpy_dtype.type(0)), array.isna()
    raise TypeError(f"the dtype {dtype} does not cross: convert it first, with astype")


def _make_array(told: Any) -> Any:
    match (kind_of(told), *told[1:]):
        case ("objects", list(values)):
            return np.fromiter(values, object, len(values))
        case ("numpy", values):
            return _checked(values, "biufcmM")
        case ("zoned", values, datetime.tzinfo() as zone):
            return pd.DatetimeIndex(_checked(values, "M"), tz="UTC", copy=False).tz_convert(zone).array
        case ("categories", codes, categories, bool(ordered)):
            return pd.Categorical.from_codes(_codes(codes), _of_values(categories), ordered=ordered)
        case ("strings", bool(with_na), list(values)) if all(type(each) is str or each is None for each in values):
            return pd.array(values, dtype="string" if with_na else "str")
        case ("masked", values, mask):
            kind = MASKED[_checked(values, "iufb").dtype.kind]
            return kind(values, _checked(mask, "b"))
    raise ValueError("not an array of pandas")


def _checked(values: Any, kinds: str, dimensions: int = 1) -> Any:
    """An array that pandas can take over: of this process's byte order, and of one of these kinds."""
    if type(values) is not np.ndarray or values.ndim != dimensions:
        raise ValueError("not an array of that many dimensions")
    if values.dtype.kind not in kinds or not values.dtype.isnative:
        raise ValueError("an array of another dtype")
    return values


def _codes(codes: Any) -> Any:
    """Places in a list of categories or levels, which pandas checks once. A copy: the message may have the memory under
    another name, too, by which it could be written to afterwards."""
    return _checked(codes, "i").copy()


def _zone(zone: Any) -> Any:
    zoneinfo = sys.modules.get("zoneinfo")
    if type(zone) is datetime.timezone or (zoneinfo is not None and type(zone) is zoneinfo.ZoneInfo):
        return zone
    raise TypeError(f"a time zone that is a {type(zone).__name__} does not cross: use zoneinfo, with tz_convert")


# ---- indexes, series, frames ----


def _encode_index(index: Any) -> Any:
    if isinstance(index, pd.RangeIndex):
        return "range", index.start, index.stop, index.step, index.name
    if isinstance(index, pd.MultiIndex):
        return (
            "multi",
            list(map(_filled, index.levels)),
            [np.asarray(codes) for codes in index.codes],
            list(index.names),
        )
    return "index", _tell_array(index.array), index.name


def _decode_index(told: Any) -> Any:
    match (kind_of(told), *told[1:]):
        case ("range", int(start), int(stop), int(step), name):
            return pd.RangeIndex(start, stop, step, name=name)
        case ("multi", list(levels), list(codes), list(names)):
            return pd.MultiIndex(list(map(_of_values, levels)), list(map(_codes, codes)), names=names)
        case ("index", array, name):
            made = _make_array(array)
            return pd.Index(made, made.dtype, copy=False, name=name)
    raise ValueError("not an index")


def _filled(index: Any) -> Any:
    """Categories or levels that `_of_values` takes: of a RangeIndex, what pandas would make of it anyway."""
    filled = pd.Index(index.to_numpy(), name=index.name) if isinstance(index, pd.RangeIndex) else index
    if not _is_quick(filled):
        raise TypeError(f"more than {UNSORTED} categories or levels have to be texts, or be sorted")
    return filled


def _of_values(index: Any) -> Any:
    """Categories or levels. pandas makes an array of a RangeIndex among them, however long."""
    if not isinstance(index, pd.Index) or isinstance(index, pd.RangeIndex) or not _is_quick(index):
        raise ValueError("no categories or levels")
    return index


def _is_quick(index: Any) -> bool:
    """Whether pandas finds soon that no value is there twice.

    It enters them into a hash table, where n numbers that a peer has chosen take n * n steps: 64,000 take 1.7 s. Not
    so if it knows that they are sorted. Texts are safe: Python hashes them with a secret of its own.
    """
    if len(index) <= UNSORTED or isinstance(index.dtype, pd.StringDtype):
        return True
    if index.dtype == object:
        return all(type(value) is str for value in index.array)
    if not isinstance(index.dtype, np.dtype | pd.DatetimeTZDtype):
        return False
    values = index.asi8 if isinstance(index.dtype, pd.DatetimeTZDtype) else index.to_numpy()
    return bool((values[1:] > values[:-1]).all()) and bool(index.is_monotonic_increasing)  # which it notes


def _encode_series(series: Any) -> Any:
    return _tell_array(series.array), series.index, series.name


def _decode_series(told: Any) -> Any:
    array, index, name = told
    return _make_series(array, _of_pandas(index), name)


def _make_series(array: Any, index: Any, name: Any = None) -> Any:
    made = _make_array(array)
    if len(made) != len(index):
        raise ValueError("an index of another length")
    return pd.Series(made, index, made.dtype, name, copy=False)


def _of_pandas(index: Any) -> Any:
    if not isinstance(index, pd.Index):
        raise ValueError("not an index")
    return index


def _encode_frame(frame: Any) -> Any:
    kinds = set(frame.dtypes)
    kind = next(iter(kinds), None)
    if len(kinds) == 1 and isinstance(kind, np.dtype) and not kind.hasobject and kind.isnative:
        return frame.columns, frame.index, frame.to_numpy()  # the very memory, where pandas has it in one block
    return frame.columns, frame.index, [_tell_column(frame, i) for i in range(frame.shape[1])]


def _tell_column(frame: Any, number: int) -> Any:
    try:
        return _tell_array(frame.iloc[:, number].array)
    except TypeError as error:
        raise TypeError(f"column {frame.columns[number]!r}: {error}") from error


def _decode_frame(told: Any) -> Any:
    columns, index, data = told
    columns, index = _of_pandas(columns), _of_pandas(index)
    if type(data) is not list:
        return pd.DataFrame(_checked(data, "biufcmM", 2), index, columns, copy=False)
    frame = pd.DataFrame({i: _make_series(array, index) for i, array in enumerate(data)}, index, copy=False)
    frame.columns = columns
    return frame


# ---- single values ----


def _encode_timestamp(stamp: Any) -> Any:
    return stamp.asm8, None if stamp.tz is None else _zone(stamp.tz)


def _decode_timestamp(told: Any) -> Any:
    value, zone = told
    if type(value) is not np.datetime64:
        raise ValueError("not a time")
    if zone is None:
        return pd.Timestamp(value)
    if not isinstance(zone, datetime.tzinfo):
        raise ValueError("not a time zone")
    return pd.Timestamp(value).tz_localize("UTC").tz_convert(zone)


def _decode_timedelta(value: Any) -> Any:
    if type(value) is not np.timedelta64:
        raise ValueError("not a span of time")
    return pd.Timedelta(value)


def _decode_missing(name: Any) -> Any:
    if type(name) is not str:
        raise ValueError("not a name")
    return MISSING[name]


TYPES: Final[list[Type]] = [
    (pd.DataFrame, "pandas.DataFrame", _encode_frame, _decode_frame),
    (pd.Series, "pandas.Series", _encode_series, _decode_series),
    (pd.Index, "pandas.Index", _encode_index, _decode_index),
    (pd.Timestamp, "pandas.Timestamp", _encode_timestamp, _decode_timestamp),
    (pd.Timedelta, "pandas.Timedelta", lambda delta: delta.asm8, _decode_timedelta),
    (type(pd.NaT), "pandas.NaTType", lambda _: "NaT", _decode_missing),
    (type(pd.NA), "pandas.NAType", lambda _: "NA", _decode_missing),
]
