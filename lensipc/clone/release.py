# SPDX-License-Identifier: MIT
"""Release: what a listener with `arrays="view"` has received is given back before the collector does it."""

from __future__ import annotations

import sys
from typing import Any

from .. import _fast
from .reducers import describe


def release(*values: Any) -> None:
    """Give back what a listener with `arrays="view"` was called with, at once.

    An array has the length 0 afterwards, and a memoryview is released, so that using them is an error. Main gets the
    memory back when nothing else shows it: slices, transposes and other plain arrays of it go on to. If a buffer was
    ever made of the array itself, as `memoryview(array)` does, or if it is an array that the listener has made of a
    memoryview, main gets the memory back when the array is gone.

    What refers to the array itself in another way cannot be seen. It is to be gone before, or it would show later
    events: its `flat`, a masked array or another subclass of it, the results of `sliding_window_view` and `as_strided`,
    iterators such as `np.nditer`, what `from_dlpack` or `__array_interface__` has made of it, tensors, frames of
    pandas, and whatever has its address alone.

    Without this, memory is given back when the last array, slice or memoryview of it is gone. So it is of use where an
    array lives longer than it is needed: in a reference cycle, in a traceback, or in the listener that still runs.

    Args:
        values: arrays and memoryviews, wherever they lie. Bytes and arrays without dimensions stay as they are: such a
            listener gets them, too, and they are small.

    Raises:
        TypeError: one of them is something else, or an array that owns its memory; nothing was released.
        BufferError: something has a buffer of a memoryview, which is not released.
    """
    np = sys.modules.get("numpy")
    for value in values:
        if type(value) in (memoryview, bytes):
            continue
        if np is None or type(value) is not np.ndarray:
            raise TypeError(f"release takes arrays and memoryviews, not {describe(value)}")
        if value.ndim and (value.base is None or value.flags.owndata):
            raise TypeError('release takes arrays of a listener with arrays="view", not one that owns its memory')
    if np is not None:
        from . import ndarray as _  # noqa: F401 - with it the C core knows arrays
    for value in values:
        if type(value) is memoryview:
            value.release()
        elif type(value) is not bytes and value.ndim:
            _fast.empty_array(value)
