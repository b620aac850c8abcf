# SPDX-License-Identifier: MIT
"""How callbacks are called: what a core needs to know of the loop that drives it. No thread is ever started.

The cores (main/core.py, renderer/core.py) are the same whatever drives them. What differs is what becomes of an
awaitable that a callback returns, and what a pending invoke is: see asyncio_driver.py and blocking_driver.py, which are
imported when a process is entered, for `import lensipc` is to cost little.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Protocol, TypeGuard

from ..errors import NoHandlerError
from ..user_code import conclude
from .channels import Running

Settle = Callable[[Any, BaseException | None], None]
Abandon = Callable[[int], None]


class Contexts:
    """What context variables callbacks see: each message has a context of its own, and what it sets there is its own.

    A context for each message costs it 30 ns, and hardly any callback sets a variable. So those of a turn share one,
    and before each it is asked whether that is still as it was, which takes 9 ns: if not, all that follow have copies.

    Attributes:
        base: what a message's context holds at first.
        context: what a turn runs in; None once something was set there.
    """

    def __init__(self, of_script: bool) -> None:
        """`of_script`: messages find what has been set where the script dispatches, not where it has begun to."""
        self.base = copy_context()
        self.context: Context | None = self.base.copy()
        self._of_script = of_script

    def turn(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call this, a turn that no loop calls in a context of ours; there may be another up the stack."""
        outer, begins = self.context, self._of_script
        if begins:
            self.base = copy_context()
            self._of_script = False  # those within it begin with what it has begun with
        context = self.context = self.base.copy()
        try:
            return context.run(function, *args)
        finally:
            self.context, self._of_script = outer, begins

    def changed(self) -> bool:
        """Whether a message before this one has set a variable."""
        try:
            changed = self.context != self.base
        except Exception:  # a variable whose values cannot be compared
            changed = True
        if changed:
            self.context = None
        return changed

    def apart(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call this, for one message, in a context that nobody has set anything in."""
        return self.base.copy().run(function, *args)


class Driver(Protocol):
    """One way to drive a core.

    Attributes:
        contexts: what callbacks are called in.
        blocking: no event loop is there that a call which blocks would stop.
        deactivated: what a request ends with whose extension is deactivated here.
        started: something was left to the event loop, which is to have its turn soon. Who drives the core clears it.
    """

    contexts: Contexts
    blocking: bool
    deactivated: type[NoHandlerError]
    started: bool

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call this when other callbacks of the loop have had their turn."""

    def run_awaitable(self, awaitable: Awaitable[Any], settle: Settle) -> Running | None:
        """Wait for what a callback returned; `settle(result, error)` then has its outcome, whatever it raises."""

    async def yield_to_loop(self) -> None:
        """Let the other callbacks of the loop have their turn."""

    def future(self) -> Any:
        """A new future; an outcome that comes when it has one is dropped."""

    def invocation(self, abandon: Abandon) -> Any:
        """A new future of a request; when its user cancels it, `abandon(future.correlation)` is called."""

    def posted(self, abandon: Abandon) -> Any:
        """The same for another thread to wait for: a concurrent one."""


def is_awaitable(result: object) -> TypeGuard[Awaitable[Any]]:
    """Whether what a callback has returned is to be awaited. Its class says so: an instance may have any attribute."""
    return hasattr(type(result), "__await__")


def call(driver: Driver, function: Callable[[], Any], settle: Settle) -> None:
    """Call a part's method, and await what it returns: `settle(result, error)` has its outcome, whatever it raises."""
    try:
        result = function()
    except BaseException as error:
        conclude(error, partial(settle, None, error))
        return
    if is_awaitable(result):
        driver.run_awaitable(result, settle)
    else:
        settle(result, None)
