# SPDX-License-Identifier: MIT
"""An extension's parts: imports them, notices that their files have changed since, and undoes them."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final

from ..errors import ActivationError
from ..log import log_raised
from ..user_code import ends_process, repr_of

# ---- where parts are imported from ----


def import_path() -> list[str]:
    """This process's import path, for another process. It is absolute, so the working directory may change."""
    # Python's import ignores an entry that is not a str, such as a Path. An entry that names no file may be meant for a
    # path hook.
    path = [_absolute(str.__str__(entry)) for entry in sys.path if isinstance(entry, str)]
    path = [entry for entry in path if entry]
    return path + [entry for entry in _relative if entry not in path]


def _absolute(entry: str) -> str:
    if entry.startswith(os.sep):
        return entry
    try:
        return os.path.abspath(entry) if not entry or os.path.exists(entry) else entry  # noqa: PTH100, PTH110
    except (OSError, ValueError):  # the working directory is gone, or the entry has a NUL: nothing can be there
        return ""


# The relative entries, made absolute when lensipc was imported. A daemon changes to / after its imports.
_relative: list[str] = []
_relative += [entry for entry in import_path() if entry.startswith(os.sep) and entry not in sys.path]


def adopt(path: list[str], entries: Iterable[str]) -> None:
    """Add to `path` the `entries` that it lacks. Each comes after the entry that precedes it in `entries`."""
    place = 0
    for entry in entries:
        if entry in path:
            place = path.index(entry) + 1
        else:
            path.insert(place, entry)
            place += 1


# ---- parts ----

# What Lens calls the methods of a part, in JavaScript.
IN_LENS: Final = {"onActivate": "on_activate", "onDeactivate": "on_deactivate"}


def load(path: str, base: type[Any], id: str, folders: Iterable[str] = ()) -> type[Any]:
    """Import the class that "package.module:Class" names. `folders` are added to the import path.

    A Python process keeps the modules that it has imported. If the extension was updated since, a process with the old
    code does not load it, because two versions of the extension would talk to each other.

    ActivationError: there is no such class, it is not a subclass of `base`, it names a method as Lens does, or its code
    has changed.
    """
    module, _, name = path.partition(":")
    adopt(sys.path, folders)
    importlib.invalidate_caches()  # a module may have been installed after somebody looked for it
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
        raise ActivationError(f"extension {id!r}: {path!r} is not a subclass of {base.__name__}")
    for lens, ours in IN_LENS.items():
        if hasattr(found, lens):
            raise ActivationError(f"extension {id!r}: {path!r} defines {lens}, which nobody calls: name it {ours}")
    _remember(module)
    return found


# The modules of parts by name: each module's spec, and its file's time and size when the module was seen first.
_files: dict[str, tuple[Any, Any]] = {}


def _modules(module: str) -> list[tuple[str, Any]]:
    """The imported modules of an extension whose part is in `module`, with their specs: all modules of its package."""
    top, package = module.partition(".")[0], module.rpartition(".")[0] or module
    within = package + "."
    names = [*dict.fromkeys((top, package)), *[name for name in list(sys.modules) if name.startswith(within)]]
    return [(name, getattr(sys.modules[name], "__spec__", None)) for name in names if name in sys.modules]


def _file(spec: Any) -> str | None:
    return getattr(getattr(spec, "loader", None), "archive", getattr(spec, "origin", None))


def _state(spec: Any) -> tuple[int, int] | None:
    """The time and the size of a module's file; None: the module has no file."""
    try:
        found = os.stat(_file(spec) or "")  # noqa: PTH116
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _remember(module: str) -> None:
    for name, spec in _modules(module):
        if name not in _files or _files[name][0] is not spec:  # the module is new, or was reloaded
            _files[name] = spec, _state(spec)


def _check_unchanged(module: str, id: str) -> None:
    for name, spec in _modules(module):
        known, state = _files.get(name, (None, None))
        if known is None or known is not spec:
            continue
        if state != _state(spec):
            what = f"{_file(spec)} has changed since"
        elif "." not in name and (found := _found(name)) not in (None, _file(spec)):
            what = f"{name} is now {found}, not {_file(spec)} as when"
        else:
            continue
        raise ActivationError(
            f"extension {id!r}: {what} this process (pid {os.getpid()}) imported {name}, and this process keeps the "
            "old code: start this process again"
        )


def _found(name: str) -> str | None:
    """The file from which a module would be imported now."""
    found = (finder.find_spec(name, None) for finder in sys.meta_path if hasattr(finder, "find_spec"))
    return _file(next(filter(None, found), None))


def dispose_part(part: Any) -> None:
    """Close the part's disposers and its port. A disposer that raises is logged, and the others still run."""
    _remember(type(part).__module__)  # the part may have imported more modules since it was loaded
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
