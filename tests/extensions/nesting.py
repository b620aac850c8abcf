"""A loop that can be run from within one of its own callbacks, as Qt's is by a modal dialog."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class NestingLoop(asyncio.SelectorEventLoop):
    def nest(self, until: Callable[[], Any]) -> None:
        while not until():
            self._run_once()  # type: ignore[attr-defined]
        for _ in range(1000):  # it has taken those that the loop around it has counted
            self.call_soon(int)
