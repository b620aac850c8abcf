# SPDX-License-Identifier: MIT
"""An extension's parts: where they are imported from, whether their files have changed since, and how one is undone."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from ..errors import ActivationError
from ..log import log_raised
from ..user_code import ends_process, repr_of

# ---- where parts are imported from ----


def import_path() -> list[str]:
    """Where this process imports from, so that another can: absolute, whatever becomes of the working directory."""
    # What is no str, a Path say, Python's import does not look at. A name of no file may be a path hook's.
    path = [_absolute(str.__str__(entry)) for entry in sys.path if isinstance(entry, str)]
    path = [entry for entry in path if entry]
    return path + [entry for entry in _relative if entry not in path]


def _absolute(entry: str) -> str:
    if entry.startswith(os.sep):
        return entry
    try:
        return os.path.abspath(entry) if not entry or os.path.exists(entry) else entry  # noqa: PTH100, PTH110
    except (OSError, ValueError):  # the working directory is gone, or a NUL: nothing can be there
        return ""


# What relative entries meant when lensipc was imported from them, perhaps: a daemon changes to / after its imports.
_relative: list[str] = []
_relative += [entry for entry in import_path() if entry.startswith(os.sep) and entry not in sys.path]


def adopt(path: list[str], entries: Iterable[str]) -> None:
    """Add those of `entries` that `path` lacks, each after the one that it comes after."""
    place = 0
    for entry in entries:
        if entry in path:
            place = path.index(entry) + 1
        else:
            path.insert(place, entry)
            place += 1


# ---- parts ----


def load(path: str, base: type[Any], id: str, folders: Iterable[str] = ()) -> type[Any]:
    """The class that "package.module:Class" names, importable from `folders` too.

    A process keeps what it has imported, as everywhere in Python. Where an extension was updated since, its new code
    runs in no process that has the old: two versions of it would talk to each other.

    ActivationError: there is none, it is no `base`, or its code has changed.
    """
    module, _, name = path.partition(":")
    adopt(sys.path, folders)
    importlib.invalidate_caches()  # what was looked for before it was installed is found
    _check_unchanged(module, id)
    try:
        found: Any = importlib.import_module(module)
        for attribute in name.split("."):
            found = getattr(found, attribute)
    except BaseException as error:
        if ends_process(error):
            raise
        raise ActivationError(f"extension {id!r}: {path!r} cannot be loaded: {repr_of(error)}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ActivationError(f"extension {id!r}: {path!r} is no subclass of {base.__name__}")
    _remember(module)
    return found


# What parts' modules were imported from: their specs, and the files' times and sizes when they were seen first.
_files: dict[str, tuple[Any, Any]] = {}


def _modules(module: str) -> list[tuple[str, Any]]:
    """What an extension whose part is in `module` has imported of its own: that, and all of the package it is in."""
    top, package = module.partition(".")[0], module.rpartition(".")[0] or module
    within = package + "."
    names = [*dict.fromkeys((top, package)), *[name for name in list(sys.modules) if name.startswith(within)]]
    return [(name, getattr(sys.modules[name], "__spec__", None)) for name in names if name in sys.modules]


def _file(spec: Any) -> str | None:
    return getattr(getattr(spec, "loader", None), "archive", getattr(spec, "origin", None))


def _state(spec: Any) -> tuple[int, int] | None:
    """The time and the size of a module's file; None: it has none."""
    try:
        found = os.stat(_file(spec) or "")  # noqa: PTH116
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _remember(module: str) -> None:
    for name, spec in _modules(module):
        if name not in _files or _files[name][0] is not spec:  # or it was reloaded
            _files[name] = spec, _state(spec)


def _check_unchanged(module: str, id: str) -> None:
    for name, spec in _modules(module):
        known, state = _files.get(name, (None, None))
        if known is None or known is not spec:
            continue
        if state != _state(spec):
            what = f"{_file(spec)} has changed since"
        elif "." not in name and (found := _found(name)) not in (None, _file(spec)):
            what = f"{name} is {found} by now, not {_file(spec)} as when"
        else:
            continue
        raise ActivationError(
            f"extension {id!r}: {what} this process (pid {os.getpid()}) imported {name}, and it keeps the old code: "
            "start this process again"
        )


def _found(name: str) -> str | None:
    """The file that a module would be imported from now."""
    found = (finder.find_spec(name, None) for finder in sys.meta_path if hasattr(finder, "find_spec"))
    return _file(next(filter(None, found), None))


def dispose_part(part: Any) -> None:
    """Close the part's disposers and its port. One that raises stops none of the others; it is logged."""
    _remember(type(part).__module__)  # what it has imported since
    try:
        _undo(part.id, part.disposers.close)
    finally:
        _undo(part.id, part._port.close)


def _undo(id: str, close: Callable[[], None]) -> None:
    try:
        close()
    except BaseException as error:
        if ends_process(error):
            raise
        log_raised(error, "a disposer of extension %s raised", id)
