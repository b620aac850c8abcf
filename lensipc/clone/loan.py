# SPDX-License-Identifier: MIT
"""Arrays on loan: how they are made and emptied. Imported with the first loan.

An array on loan is a view of a root: a plain array that no Python code has, and that has the memory. A slice, or
another plain view, refers to the root by its `base` or by its slot. What else can reach the memory, such as a
memoryview or a tensor, refers to the array itself, and that refers to the root as long as it exists, also when it is
empty. So the root is gone when, and only when, nothing can reach the memory. And its references tell whether numpy has
views of it (csrc/python/module.c: find_loan). Whose memory it is, is an affair of whoever has the array made.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .. import _fast
from .ndarray import RefusedError, dtype_text

if TYPE_CHECKING:
    from typing import SupportsIndex

    from numpy.typing import DTypeLike

DType = TypeVar("DType", bound="np.dtype[Any]", covariant=True)


class Loan(np.ndarray[tuple[int, ...], DType]):
    """A writable numpy array that `ipc.loan` has made. In `with`, what was not sent is given back at the end.

    Copies of it, and what is computed of it, are arrays of their own. Slices and other views show its memory.
    """

    __slots__ = ("_root",)

    _root: Any  # of this array, also when it is empty, and of its views; a copy has none

    def __array_finalize__(self, source: Any) -> None:
        # numpy gives a slice this array for its base, and not the root, because the root is of another class.
        root = getattr(source, "_root", None) if type(source) is Loan else None
        base = self.base if root is not None else None
        while base is not None and base is not root:
            base = getattr(base, "base", None)
        if base is not None:  # this is no copy
            self._root = root

    def __array_wrap__(self, array: Any, _context: Any = None, return_scalar: bool = False) -> Any:
        if array is self:  # it was computed in place
            return array
        return array[()] if return_scalar or array.ndim == 0 else np.asarray(array)

    def __enter__(self) -> Loan[DType]:
        if not is_open(self):
            raise RuntimeError(
                "`with` takes what ipc.loan has returned, not a view of it, or what was sent or given back"
            )
        return self

    def __exit__(self, *_: object) -> None:
        if is_open(self):
            _fast.reset_array(self)


_fast.register_loans(Loan)


def size_of(shape: SupportsIndex | Sequence[SupportsIndex], dtype: DTypeLike) -> tuple[tuple[int, ...], Any, int]:
    """The lengths, the dtype and the bytes of an array that can cross.

    Raises:
        TypeError: a length is no number, or arrays of this dtype do not cross.
        ValueError: a length is negative.
    """
    of: Any = np.dtype(dtype)
    try:
        dtype_text(of)
    except RefusedError as error:
        raise TypeError(f"there is no loan of what cannot cross: {error}") from None
    # `tuple` first, because to ask whether something else is a Sequence takes 0.2 us.
    lengths = tuple(map(operator.index, shape if isinstance(shape, (tuple, Sequence)) else (shape,)))
    if min(lengths, default=0) < 0:
        raise ValueError(f"a shape has no negative lengths, as {lengths} has")
    return lengths, of, math.prod(lengths) * of.itemsize


def make(shape: tuple[int, ...], dtype: Any, memory: Any = None) -> Loan[Any]:
    """An array in that memory, which is not cleared; None: in memory of its own."""
    root = np.zeros(shape, dtype) if memory is None else np.ndarray(shape, dtype, memory)
    array: Loan[Any] = root.view(Loan)
    array._root = root
    return array


def is_open(array: Any) -> bool:
    """Whether `make` has made this array, and it is not empty yet."""
    return type(array) is Loan and array.base is not None and array.base is getattr(array, "_root", None)


def is_closed(array: Any) -> bool:
    """Whether `make` has made this array, and it is empty."""
    return type(array) is Loan and array.base is None and array.size == 0 and hasattr(array, "_root")
