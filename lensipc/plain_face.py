# SPDX-License-Identifier: MIT
"""Callbacks on the thread that dispatches; invokes as concurrent futures."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Awaitable, Callable
from typing import Any

from .errors import NoHandlerError
from .face import Abandon, Settle


class _Invocation(concurrent.futures.Future[Any]):
    abandon: Abandon
    correlation: int

    def cancel(self) -> bool:
        if not super().cancel():
            return False
        self.abandon(self.correlation)
        return True


class PlainFace:
    """Callbacks run on the thread that calls dispatch(), and must not be coroutines: no loop would run them."""

    blocking = True
    deactivated = NoHandlerError
    started = False

    def soon(self, callback: Callable[[], None]) -> None:
        callback()

    def finish(self, awaitable: Awaitable[Any], settle: Settle) -> None:
        close = getattr(awaitable, "close", None)
        if close is not None:
            close()  # or Python warns that it was never awaited
        settle(
            None,
            TypeError(
                "an async function was registered in a process that runs no event loop: make it a plain function, "
                "or enter the process with `async with`"
            ),
        )

    async def give_way(self) -> None:
        pass

    def pending(self) -> concurrent.futures.Future[Any]:
        return concurrent.futures.Future()

    def invocation(self, abandon: Abandon) -> concurrent.futures.Future[Any]:
        invocation = _Invocation()
        invocation.abandon = abandon
        return invocation
