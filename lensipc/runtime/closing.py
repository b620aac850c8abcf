# SPDX-License-Identifier: MIT
"""Closing a MainProcess or a RendererProcess on asyncio: once, to its end, whoever asks for it and is cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

# Whose callback runs: a handler, a listener, a part's method, or a task that one of these has started.
_callback_of: ContextVar[Closing | None] = ContextVar("lensipc_callback_of", default=None)


class Closing:
    """Closes a process's object once.

    Closing waits for handlers and for parts' methods. One of these that waited for the closing would wait for itself.
    So what a callback asks for is begun, and the callback does not wait for it.

    Args:
        leave: closes the object.
    """

    def __init__(self, leave: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._leave = leave
        self._task: asyncio.Task[None] | None = None

    @property
    def begun(self) -> bool:
        """Whether somebody has asked for it."""
        return self._task is not None

    @contextmanager
    def callbacks(self) -> Iterator[None]:
        """Contexts that are copied, and tasks that are started, in this block are those of the object's callbacks."""
        token = _callback_of.set(self)
        try:
            yield
        finally:
            _callback_of.reset(token)

    async def close(self) -> None:
        """Close the object, and return when that is done; at once in one of its callbacks."""
        import asyncio

        if self._task is None:
            with self.callbacks():
                self._task = asyncio.get_running_loop().create_task(self._leave())
        if _callback_of.get() is not self:
            await to_the_end(self._task)


async def to_the_end(awaitable: Awaitable[object]) -> None:
    """Await something to its end even if this task is cancelled meanwhile, then raise the cancellation."""
    import asyncio

    task = asyncio.ensure_future(awaitable)
    cancelled: BaseException | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
        except Exception:
            break
    if cancelled is not None:
        raise cancelled
    task.result()
