# SPDX-License-Identifier: MIT
"""polars' frames and series, as tables of pyarrow. The large memory of both is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import polars as pl
import pyarrow as pa

from . import Type


def _encode_frame(frame: Any) -> Any:
    for name, dtype in frame.schema.items():
        if _has_objects(dtype):  # to Arrow they are addresses
            raise TypeError(f"column {name!r}: objects of Python do not cross: convert them first")
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def _has_objects(dtype: Any) -> bool:
    fields = [field.dtype for field in getattr(dtype, "fields", ())]
    parts = [*fields, dtype.inner] if getattr(dtype, "inner", None) is not None else fields
    return bool(dtype == pl.Object) or any(map(_has_objects, parts))


def _decode_frame(table: Any) -> Any:
    if type(table) is not pa.Table:
        raise ValueError("not a table")
    return pl.from_arrow(table, rechunk=False)


def _encode_series(series: Any) -> Any:
    return series.name, _encode_frame(series.to_frame())


def _decode_series(told: Any) -> Any:
    name, table = told
    frame = _decode_frame(table)
    if type(name) is not str or frame.width != 1:
        raise ValueError("not a series")
    return frame.to_series().alias(name)  # Arrow's tables have no empty name


def _contained(call: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The same function. A panic of polars' own code is no Exception, and would end a process."""

    def contained(value: Any) -> Any:
        try:
            return call(value)
        except pl.exceptions.PanicException as panic:
            raise ValueError(f"polars panicked: {panic}") from None

    return contained


TYPES: Final[list[Type]] = [
    (pl.DataFrame, "polars.DataFrame", _contained(_encode_frame), _contained(_decode_frame)),
    (pl.Series, "polars.Series", _contained(_encode_series), _contained(_decode_series)),
]
