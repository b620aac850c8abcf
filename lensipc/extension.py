# SPDX-License-Identifier: MIT
"""What an extension is to its host: a manifest that names its two parts, and the class of each."""

from __future__ import annotations

from contextlib import ExitStack
from functools import cached_property
from typing import Any, NamedTuple

from .log import log_raised
from .runtime.ports import MainPort, RendererInfo, RendererPort
from .user_code import ends_process

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
        settings: what the host has given `MainProcess.install`, a clone for each part; None: nothing.
        disposers: a contextlib.ExitStack that is closed after `on_deactivate`: whatever else the part wants undone
            is pushed here. All that it registers with lensipc is undone without that.
    """

    def __init__(self, id: str, version: str, port: Any, settings: Any = None) -> None:
        self.id = id
        self.version = version
        self.settings = settings
        self.disposers: ExitStack[bool | None] = ExitStack()
        self._port = port

    def on_activate(self) -> Any:
        """Called when the part comes to life; may be async.

        Raising makes `install` or `enable` fail, and leaves the extension inactive everywhere. In a renderer that is
        started later it makes `spawn_renderer` fail, and ends that renderer alone. In a renderer it has 30 s, after
        which the renderer is disconnected.
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
    """An extension's part in main. Subclass it.

    Attributes:
        id, version: the extension's, of its manifest.
        settings: a clone of what the host has given `MainProcess.install`; None: nothing.
        disposers: a contextlib.ExitStack, closed after `on_deactivate`: push there what else is to be undone.
    """

    _port: MainPort

    def on_renderer_attached(self, renderer: RendererInfo) -> Any:
        """Called when the extension's part is active in one more renderer; may be async.

        For the renderers that are there when the extension is enabled, it is called after `on_activate`. What it raises
        is logged. An async call that still runs when the extension is disabled is cancelled.
        """

    def on_renderer_gone(self, renderer: RendererInfo, reason: str) -> Any:
        """Called when such a renderer has left, was disconnected, or died; may be async, as `on_renderer_attached`.

        It is not called when the extension is disabled, or the host is exited: `on_deactivate` is.

        Args:
            renderer: the renderer that is gone.
            reason: why, for a person to read: of a process that main has started, how it ended, such as "died of signal
                9 (SIGKILL)".
        """


class LensRendererExtension(_Extension):
    """An extension's part in a renderer. Subclass it.

    Its attributes are those of a LensMainExtension, and `renderer`.
    """

    _port: RendererPort

    @cached_property
    def renderer(self) -> RendererInfo:
        """This renderer, as the extension's part in main sees it: its `frame_id`, `pid` and `name`."""
        return self._port.renderer

    def on_closed(self, reason: str) -> Any:
        """Called before `on_deactivate` when main closes, closes this renderer, disconnects it, or dies; may be async.

        It is not called when the extension is disabled, nor when this process leaves by itself. It and `on_deactivate`
        have 10 s together. What it raises is logged.

        Args:
            reason: why, for a person to read: "main is closing" when main ends in good order.
        """
