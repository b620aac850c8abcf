# SPDX-License-Identifier: MIT
"""What a rival without requests of its own needs to have them: numbers, and the futures that wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Calling:
    """The caller's side: `send(number)` sends a request of that number."""

    def __init__(self, send: Callable[[int], object]) -> None:
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._pending: dict[int, asyncio.Future[object]] = {}
        self._number = 0

    def ask(self) -> asyncio.Future[object]:
        """Send one; await what this returns."""
        self._number += 1
        future = self._pending[self._number] = self._loop.create_future()
        self._send(self._number)
        return future

    def settle(self, number: int, value: object) -> None:
        """The answer has come."""
        self._pending.pop(number).set_result(value)
