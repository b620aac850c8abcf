# SPDX-License-Identifier: MIT
"""Renderers that do not read as fast as is sent to them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .peer import RendererConnection


class Pace:
    """Calls `slow()`, once, when a renderer has taken less than the high-water mark in `seconds`, unless cancelled."""

    def __init__(self, connection: RendererConnection, seconds: float, slow: Callable[[], object]) -> None:
        self._connection = connection
        self._seconds = seconds
        self._slow = slow
        self._begin()

    def _begin(self) -> None:
        judge = partial(self._judge, self._connection.endpoint.progress)
        self._deadline = self._connection.poller.call_later(self._seconds, judge)

    def _judge(self, before: int) -> None:
        if self._connection.endpoint.progress - before < self._connection.router.high_water:
            self._slow()
        else:
            self._begin()

    def cancel(self) -> None:
        """Look no more."""
        self._deadline.cancel()
