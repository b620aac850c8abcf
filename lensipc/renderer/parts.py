# SPDX-License-Identifier: MIT
"""The extensions' parts in this renderer. Main tells the renderer when to activate and deactivate each part."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..extension import LensRendererExtension
from ..log import log, log_raised
from ..runtime.driver import Driver, Settle, call
from ..runtime.loader import dispose_part, load
from ..user_code import conclude
from .port import RendererPort


class _Part:
    """A part that is active or being activated. Its deactivation begins only after its activation has ended."""

    def __init__(self, part: LensRendererExtension) -> None:
        self.part = part
        self.activating = True
        self.then: list[Callable[[], None]] = []


class Parts:
    """The parts of one renderer.

    Args:
        driver: awaits the results of the parts' methods.
        frame_id: this renderer's number.

    Attributes:
        failure: the error of the last part that could not be activated.
    """

    def __init__(self, driver: Driver, frame_id: int) -> None:
        self.failure: BaseException | None = None
        self._driver = driver
        self._frame_id = frame_id
        self._active: dict[RendererPort, _Part] = {}
        self._leaving: dict[RendererPort, list[Settle]] = {}  # whose on_deactivate runs; to call when it ends

    def __len__(self) -> int:
        """How many parts are active, being activated, or being deactivated."""
        return len(self._active) + len(self._leaving)

    @property
    def leaving(self) -> bool:
        """Whether the on_deactivate of a part runs."""
        return bool(self._leaving)

    def activate(
        self,
        port: RendererPort,
        version: str,
        path: str,
        folders: list[str],
        settings: Callable[[], Any],
        settle: Settle,
    ) -> None:
        """Load and activate a part, then call `settle(None, error)`; error None: the part is active."""
        try:
            kind = load(path, LensRendererExtension, port.extension, folders)
            part = kind(port.extension, version, port, settings())
        except BaseException as error:
            self._failed(port, error)
            conclude(error, partial(settle, None, error))
            return
        active = self._active[port] = _Part(part)
        port.table.open = True

        def activated(_result: object, error: BaseException | None) -> None:
            active.activating = False
            if error is None:
                self._log_change(port, "activated")
            else:
                self._failed(port, error)
                self._active.pop(port, None)
                dispose_part(part)
            settle(None, error)
            for then in active.then:
                then()

        call(self._driver, part.on_activate, activated)

    def _failed(self, port: RendererPort, error: BaseException) -> None:
        self.failure = error
        self._log_raised("on_activate", port, error)

    def deactivate(self, port: RendererPort, settle: Settle = lambda _result, _error: None, reason: str = "") -> None:
        """Deactivate a part once its activation has ended, then call `settle(None, error)`.

        With a reason, main is gone or ends this connection: the part's `on_closed` is called first.
        """
        active = self._active.get(port)
        if port in self._leaving:
            self._leaving[port].append(settle)
            return
        if active is None:
            settle(None, None)
            return
        if active.activating:
            active.then.append(partial(self.deactivate, port, settle, reason))
            return
        del self._active[port]
        part = active.part
        self._leaving[port] = [settle]

        def deactivated(_result: object, error: BaseException | None) -> None:
            if error is not None:
                self._log_raised("on_deactivate", port, error)
            dispose_part(part)
            self._log_change(port, "deactivated")
            for each in self._leaving.pop(port):
                each(None, error)

        def closed(_result: object, error: BaseException | None) -> None:
            if error is not None:
                self._log_raised("on_closed", port, error)
            call(self._driver, part.on_deactivate, deactivated)

        if reason:
            call(self._driver, partial(part.on_closed, reason), closed)
        else:
            closed(None, None)

    def deactivate_all(self, reason: str = "") -> None:
        """Deactivate all parts."""
        for port in list(self._active):
            self.deactivate(port, reason=reason)

    def _log_change(self, port: RendererPort, change: str) -> None:
        log.debug("the part of extension %s in renderer %d is %s", port.extension, self._frame_id, change)

    def _log_raised(self, method: str, port: RendererPort, error: BaseException) -> None:
        """Log the error here with its traceback, because main gets only the error's type and text."""
        log_raised(error, "%s of extension %s in renderer %d raised", method, port.extension, self._frame_id)
