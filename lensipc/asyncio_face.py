# SPDX-License-Identifier: MIT
"""Callbacks on an asyncio loop; coroutines in tasks; invokes as asyncio futures."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from .channels import Running
from .face import GiveUp, Settle


class Invocation(asyncio.Future[Any]):
    """A request on its way: await it, gather it, or make a task of it; cancelling it cancels the handler.

    A future that is a coroutine as well, because `create_task` and `TaskGroup` accept nothing else. The request has
    been sent already: nothing waits for the first await.
    """

    _give_up: GiveUp | None = None

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the request, here and in main."""
        if not super().cancel(msg):
            return False
        if self._give_up is not None:
            self._give_up()
        return True

    # The coroutine protocol (collections.abc.Coroutine): what a task calls.

    _steps: Generator[Any, None, Any] | None = None

    def send(self, value: None) -> Any:
        if self._steps is None:
            self._steps = self.__await__()
        return self._steps.send(value)

    def throw(self, *error: Any) -> Any:
        if self._steps is None:  # a task that is cancelled before its first step
            self.cancel()
            self._steps = self.__await__()
        return self._steps.throw(*error)

    def close(self) -> None:
        if self._steps is None:
            self.cancel()
        else:
            self._steps.close()

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

    def pending(self, give_up: GiveUp) -> Invocation:
        invocation = Invocation(loop=self.loop)
        invocation._give_up = give_up
        return invocation


def set_once(future: asyncio.Future[None]) -> None:
    """Give a future its result, unless it has one: what readiness callbacks do."""
    if not future.done():
        future.set_result(None)
