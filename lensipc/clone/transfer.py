# SPDX-License-Identifier: MIT
"""Transfer: what a message takes away from its sender.

The receiver gets a clone as ever; the sender's object is empty once the message is on its way. Knows nothing of
messages: `check_transfer` before anything is sent, `detach` when the message is committed.
"""

from __future__ import annotations

import sys
import weakref
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .. import _fast
from ..errors import DataCloneError
from .reducers import describe

if TYPE_CHECKING:
    import ctypes


def check_transfer(items: Iterable[object]) -> None:
    """Make sure that `detach` will be able to empty every item. Call it before anything is sent.

    Args:
        items: the `transfer` list: bytearrays, numpy arrays that own their memory and are writable, and arrays on
            loan.

    Raises:
        DataCloneError: an item comes twice, is nothing of the kind, or its memory is in use elsewhere.
        TypeError: this is no list. An iterator, say, would have no items left for `detach`.
    """
    if not isinstance(items, (list, tuple)):
        raise TypeError(
            f"transfer is a list of what is emptied here, as in transfer=[array], and not {describe(items)}"
        )
    seen: dict[int, object] = {}
    for i, item in enumerate(items):
        if id(item) in seen:
            raise DataCloneError(f"transfer[{i}] is in the list twice")
        seen[id(item)] = item
        problem = _bytearray_problem(item) if type(item) is bytearray else _array_problem(item)
        if problem:
            raise DataCloneError(f"transfer[{i}] is {problem}")


def lent(items: Iterable[object]) -> tuple[Any, ...]:
    """The arrays on loan in a `transfer` list."""
    if _loans() is None:
        return ()
    return tuple(filter(_fast.is_lent, items))


def detach(items: Iterable[object]) -> None:
    """Empty the items of a `transfer` list. Call it once the message is committed.

    A bytearray has the length 0 afterwards, an array the shape (0,). Views made of an array before keep its memory.

    Args:
        items: the list that `check_transfer` has passed.
    """
    for item in items:
        if type(item) is bytearray:
            item.clear()
        elif not _empty_loan(item):
            _empty_array(item)


def _bytearray_problem(item: bytearray) -> str | None:
    try:  # whether its memory is exported is only told by a change of its size
        item.append(0)
    except BufferError:
        return "a bytearray whose memory is in use"
    item.pop()
    return None


def _array_problem(item: object) -> str | None:
    np = sys.modules.get("numpy")
    loan = _loans()
    if np is None or not (type(item) is np.ndarray or (loan is not None and type(item) is loan.Loan)):
        return f"{describe(item)}, which cannot be transferred"
    if loan is not None and loan.is_open(item):
        return None
    array: Any = item
    if not array.flags.owndata:
        return "an array that does not own its memory"
    if not array.flags.writeable:
        return "an array that is not writable"
    if array.dtype.hasobject:
        return "an array of objects"
    if _memory_of(array).value != array.__array_interface__["data"][0]:
        return "an array that this Python lays out in another way"
    return None


def _loans() -> Any:
    """The module of arrays on loan; None: nobody has imported it, so there are none."""
    return sys.modules.get("lensipc.clone.loan")


def _empty_loan(array: Any) -> bool:
    """Make the array's shape (0,), if it is on loan. Its memory stays as `_empty_array` has it."""
    loan = _loans()
    if loan is None:
        return False
    if loan.is_open(array):
        _fast.reset_array(array)
        return True
    return bool(loan.is_closed(array))


def _memory_of(array: Any) -> ctypes.c_void_p:
    """The field of an array's C struct that points to its memory: the first one behind the object's header."""
    import ctypes  # 4 ms that only a transfer takes

    return ctypes.c_void_p.from_address(id(array) + object.__basicsize__)


def _empty_array(array: Any) -> None:
    """Make an array's shape (0,), with its memory alive as long as views may show it.

    An array frees its memory when it becomes another one, and numpy cannot tell whether views show it. So another array
    of the same size, whose pages are never touched, swaps memory with this one, and stays until this one is gone: as
    every view of it holds it, none outlives the memory.

    Both pointers are swapped in one call: were a signal's handler to raise between the two, both arrays would free the
    same memory. `resize` would do for most arrays, but not for one that is in neither order, or has a weak reference.
    """
    import numpy as np

    from . import ndarray as _  # noqa: F401 - with it the C core knows arrays

    keeper = np.empty(array.shape, array.dtype)
    weakref.finalize(array, type, keeper).atexit = False  # type(keeper): any call that holds it
    ours, theirs = _memory_of(array), _memory_of(keeper)
    deque(map(setattr, (ours, theirs), ("value", "value"), (theirs.value, ours.value)), maxlen=0)
    _fast.reset_array(array)
