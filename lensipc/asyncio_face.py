# SPDX-License-Identifier: MIT
"""Callbacks on an asyncio loop; coroutines in tasks; invokes as asyncio futures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from .channels import Running
from .face import Abandon, Settle


class Invocation(asyncio.Future[Any]):
    """A request on its way: await it, gather it, or make a task of it; cancelling it cancels the handler.

    A future that is a coroutine as well, because `create_task` and `TaskGroup` accept nothing else. The request has
    been sent already: nothing waits for the first await.
    """

    # Slots: an instance's dict would cost each invoke 45 ns.
    __slots__ = ("_steps", "abandon", "correlation")

    abandon: Abandon
    correlation: int

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the request, here and in main."""
        if not super().cancel(msg):
            return False
        self.abandon(self.correlation)
        return True

    # The coroutine protocol (collections.abc.Coroutine): what a task calls.

    _steps: Generator[Any, None, Any]  # since the first step

    def send(self, value: None) -> Any:
        return self._begun().send(value)

    def throw(self, *error: Any) -> Any:
        if not hasattr(self, "_steps"):  # a task that is cancelled before its first step
            self.cancel()
        return self._begun().throw(*error)

    def close(self) -> None:
        if hasattr(self, "_steps"):
            self._steps.close()
        else:
            self.cancel()

    def _begun(self) -> Generator[Any, None, Any]:
        if not hasattr(self, "_steps"):
            self._steps = self.__await__()
        return self._steps


class Pending(asyncio.Future[Any]):
    """What main or a renderer waits for: an outcome that comes late, after it was cancelled say, is dropped."""

    def set_result(self, result: Any, /) -> None:
        if not self.done():
            super().set_result(result)

    def set_exception(self, exception: type | BaseException, /) -> None:
        if not self.done():
            super().set_exception(exception)


class AsyncioFace:
    """Callbacks run on the loop; what they return is awaited in a task of its own."""

    blocking = False

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.started = False
        self._tasks: set[asyncio.Future[Any]] = set()  # the loop itself holds tasks only weakly

    def soon(self, callback: Callable[[], None]) -> None:
        self.loop.call_soon(callback)

    def finish(self, awaitable: Awaitable[Any], settle: Settle) -> Running:
        task = asyncio.ensure_future(awaitable, loop=self.loop)
        self._tasks.add(task)
        self.started = True

        def done(task: asyncio.Future[Any]) -> None:
            self._tasks.discard(task)
            if task.cancelled():
                settle(None, asyncio.CancelledError())
            else:
                error = task.exception()
                settle(None if error else task.result(), error)

        task.add_done_callback(done)
        return task

    async def give_way(self) -> None:
        await asyncio.sleep(0)

    def pending(self) -> Pending:
        return Pending(loop=self.loop)

    def invocation(self, abandon: Abandon) -> Invocation:
        invocation = Invocation(loop=self.loop)
        invocation.abandon = abandon
        return invocation


def set_once(future: asyncio.Future[None]) -> None:
    """Give a future its result, unless it has one: what readiness callbacks do."""
    if not future.done():
        future.set_result(None)
