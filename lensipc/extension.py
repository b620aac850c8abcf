# SPDX-License-Identifier: MIT
"""What an extension is to its host: a manifest that names its two parts, and the life cycle of a part."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, NamedTuple

from .errors import ActivationError
from .log import log_raised
from .raised import ends_process, repr_of
from .renderer_port import RendererPort
from .router import MainPort

ENTRY_POINTS = "lensipc.extensions"


class _Fields(NamedTuple):
    id: str
    version: str
    main: str | None = None
    renderer: str | None = None


class ExtensionManifest(_Fields):  # no dataclass: its import takes as long as all of ours
    """Describes an extension to its host.

    Args:
        id: its name; unique in a host.
        version: its version, in whatever form its author likes.
        main: "package.module:Class" of its part in main, a LensMainExtension; None if it has none there.
        renderer: the same of its part in each renderer, a LensRendererExtension.
    """

    __slots__ = ()

    def __new__(cls, id: str, version: str, main: str | None = None, renderer: str | None = None) -> ExtensionManifest:
        if not isinstance(id, str) or not id:
            raise ValueError(f"an extension's id is a str that says something, not {id!r}")
        for what, path in (("main", main), ("renderer", renderer)):
            if path is not None and not _is_path(path):
                raise ValueError(f"{what} of extension {id!r} is 'package.module:Class', not {path!r}")
        if renderer is not None and renderer.startswith("__main__:"):
            raise ValueError(
                f"renderer of extension {id!r} is in __main__, which is another module in each process: "
                "put it in a module that can be imported"
            )
        return super().__new__(cls, id, version, main, renderer)

    @staticmethod
    def discover() -> list[ExtensionManifest]:
        """The manifests that installed packages offer by the entry point group `lensipc.extensions`.

        Each entry point names an ExtensionManifest. One that cannot be loaded is logged and left out.
        """
        from importlib.metadata import entry_points

        manifests = []
        for entry in entry_points(group=ENTRY_POINTS):
            try:
                manifest = entry.load()
                if not isinstance(manifest, ExtensionManifest):
                    raise TypeError(f"it is {type(manifest).__name__}, not an ExtensionManifest")
            except BaseException as error:
                if ends_process(error):
                    raise
                log_raised(error, "extension %s (%s) is left out", entry.name, entry.value)
            else:
                manifests.append(manifest)
        return manifests


def _is_path(path: object) -> bool:
    if not isinstance(path, str) or path.count(":") != 1:
        return False
    return all(name.isidentifier() for name in path.replace(":", ".").split("."))


class _Extension:
    """One part of an extension in one process. Its host makes it; its author overrides the two methods.

    Attributes:
        id: the extension's id.
        version: the extension's version.
        disposers: a contextlib.ExitStack that is closed after `on_deactivate`: whatever else the part wants undone
            is pushed here. All that it registers with lensipc is undone without that.
    """

    def __init__(self, id: str, version: str, port: Any) -> None:
        self.id = id
        self.version = version
        self.disposers = ExitStack()
        self._port = port

    def on_activate(self) -> Any:
        """Called when the part comes to life; may be async. Raising leaves the extension inactive everywhere.

        In a renderer it has 30 s, after which the renderer is disconnected.
        """

    def on_deactivate(self) -> Any:
        """Called before the part's registrations are undone; may be async.

        It has 10 s. In main it is cancelled then; a renderer is disconnected, and ended if main started it. A part in
        main is called when those in renderers are done, and when the handlers that still ran have been cancelled and
        have cleaned up, for which they have 10 s, too.
        """

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.version}>"


class LensMainExtension(_Extension):
    """An extension's part in main."""

    _port: MainPort


class LensRendererExtension(_Extension):
    """An extension's part in a renderer."""

    _port: RendererPort


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


def load(path: str, base: type[_Extension], id: str, folders: Iterable[str] = ()) -> type[Any]:
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


def undo(part: _Extension) -> None:
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
