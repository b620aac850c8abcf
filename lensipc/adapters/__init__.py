# SPDX-License-Identifier: MIT
"""Lets values of other libraries cross, where both processes ask for it: `adapters.enable("pandas")`.

    pandas      DataFrame, Series, Index, Timestamp, Timedelta, NaT, NA
    polars      DataFrame, Series; with pyarrow, which it needs
    pyarrow     Table, RecordBatch
    PIL         Image
    torch       Tensor

Each is a module here, which imports the library and is imported when it is enabled. Its TYPES say how each class is
told by arrays and plain values, and made of them again: large memory travels beside the message, and what arrives
lives in the memory that it came in. docs/clone.md tells what is lost.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Final

from ..clone import register

Type = tuple[type, str, Callable[[Any], Any], Callable[[Any], Any]]
"""A row of an adapter's TYPES: a class, its name in messages, its encoder and its decoder."""

ADAPTERS: Final = ("pandas", "polars", "pyarrow", "PIL", "torch")
_NEEDED: Final = {"polars": ("pyarrow",)}


def kind_of(told: Any) -> str:
    """The word that a tuple begins with, by which adapters tell what the rest is. ValueError: there is none.

    It has to be asked before anything of a peer's is compared with `==`: a pandas.RangeIndex makes an array for that,
    of its whole length, whatever it is compared with.
    """
    if type(told) is not tuple or not told or type(told[0]) is not str:
        raise ValueError("no tuple that says what it is")
    kind: str = told[0]
    return kind


_enabled: dict[str, ExitStack] = {}
"""What undoes each adapter that is enabled."""

_enabling = threading.RLock()


def enable(*names: str) -> None:
    """Let the values of these libraries cross, in both directions. Both processes call it; more than once does no harm.

    It imports the libraries, and holds for the whole process, as long as it lives.

    Args:
        names: some of "pandas", "polars", "pyarrow", "PIL" and "torch".

    Raises:
        ValueError: there is no adapter of that name, or a type of it is registered already; nothing was enabled.
        ModuleNotFoundError: the library is not installed, or one that the adapter needs.
    """
    for name in names:
        if name not in ADAPTERS:
            raise ValueError(f"there is no adapter {name!r}: there are {', '.join(map(repr, ADAPTERS))}")
    with _enabling:
        for name in names:
            if name not in _enabled:
                enable(*_NEEDED.get(name, ()))
                _enable(name)


def _enable(name: str) -> None:
    try:
        module = importlib.import_module(f".{name.lower()}", __name__)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the adapter {name!r} needs {error.name}, which is not installed here", name=error.name
        ) from None
    with ExitStack() as undo:
        for cls, wire_name, encode, decode in module.TYPES:
            undo.callback(register(cls, wire_name, encode, decode, subclasses=True))
        _enabled[name] = undo.pop_all()
