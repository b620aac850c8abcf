# SPDX-License-Identifier: MIT
"""What decoding does beside making a value: an audit hook hears of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


class Listener:
    """Hears the events whose names begin with one of `forbidden`, but for those that are `allowed`.

    An audit hook cannot be taken off, so it is switched.
    """

    def __init__(self, forbidden: tuple[str, ...], allowed: Callable[[str, tuple[Any, ...]], bool]) -> None:
        self.on = False
        self.heard: list[str] = []
        self._forbidden = forbidden
        self._allowed = allowed
        sys.addaudithook(self)

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if self.on and event.startswith(self._forbidden) and not self._allowed(event, args):
            self.heard.append(f"{event} {args!r:.100}")
