# SPDX-License-Identifier: MIT
"""How user code is run: what the cores need to know of the way they are driven. No thread is ever started.

The cores (router.py, renderer.py) are the same whatever drives them. What differs is what becomes of an awaitable
that a callback returns, and what a pending invoke is: see asyncio_face.py and plain_face.py, which are imported when
a process is entered, for `import lensipc` is to cost little.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeGuard

from .channels import Running
from .errors import NoHandlerError
from .raised import conclude

Settle = Callable[[Any, BaseException | None], None]
Abandon = Callable[[int], None]


class Face(Protocol):
    """One way to drive a core.

    Attributes:
        blocking: no event loop is there that a call which blocks would stop.
        deactivated: what a request ends with whose extension is deactivated here.
        started: something was left to the event loop, which is to have its turn soon. Who drives the core clears it.
    """

    blocking: bool
    deactivated: type[NoHandlerError]
    started: bool

    def soon(self, callback: Callable[[], None]) -> None:
        """Call this when other callbacks of the loop have had their turn."""

    def finish(self, awaitable: Awaitable[Any], settle: Settle) -> Running | None:
        """Wait for what a callback returned; `settle(result, error)` then has its outcome, whatever it raises."""

    async def give_way(self) -> None:
        """Let the other callbacks of the loop have their turn."""

    def pending(self) -> Any:
        """A new future; an outcome that comes when it has one is dropped."""

    def invocation(self, abandon: Abandon) -> Any:
        """A new future of a request; when its user cancels it, `abandon(future.correlation)` is called."""


def is_awaitable(result: object) -> TypeGuard[Awaitable[Any]]:
    """Whether what a callback has returned is to be awaited. Its class says so: an instance may have any attribute."""
    return hasattr(type(result), "__await__")


def call(face: Face, function: Callable[[], Any], settle: Settle) -> None:
    """Call a part's method, and await what it returns: `settle(result, error)` has its outcome, whatever it raises."""
    try:
        result = function()
    except BaseException as error:
        conclude(error, partial(settle, None, error))
        return
    if is_awaitable(result):
        face.finish(result, settle)
    else:
        settle(result, None)


class NextStep:
    """What a core does next, when other callbacks of the loop have had their turn: one step at a time is on its way.

    Args:
        face: how the core is driven.
        over: whether the core is closed, so that a step on its way is not taken.
    """

    __slots__ = ("_face", "_over", "_step")

    def __init__(self, face: Face, over: Callable[[], bool]) -> None:
        self._face = face
        self._over = over
        self._step: Callable[[], None] | None = None

    def __call__(self, step: Callable[[], None]) -> None:
        """Take this step, unless another is on its way: each looks for all there is to do."""
        if self._step is None:
            self._step = step
            self._face.soon(self._take)

    def _take(self) -> None:
        step, self._step = self._step, None
        if step is not None and not self._over():
            step()
