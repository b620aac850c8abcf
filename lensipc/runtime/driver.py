# SPDX-License-Identifier: MIT
"""How callbacks are called: what a core needs to know of the loop that drives it. No thread is ever started.

The cores (main/core.py, renderer/core.py) work the same with each driver. Drivers differ in what they do with an
awaitable that a callback returns, and in the future that a pending invoke is. asyncio_driver.py and blocking_driver.py
are imported only when a process is entered, because `import lensipc` must cost little.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from functools import partial
from typing import Any, Protocol, TypeGuard

from ..errors import NoHandlerError, PeerGone
from ..user_code import conclude
from .channels import Running

Settle = Callable[[Any, BaseException | None], None]
Abandon = Callable[[int], None]


class Contexts:
    """The contexts that callbacks run in. A callback does not see variables that another message's callback has set.

    A new context for each message would cost 30 ns, and few callbacks set a variable. So the messages of a turn share
    one context. Before each message, `changed` compares that context with `base`, which takes 9 ns. If a callback has
    set a variable, every later message of the turn runs in its own copy of `base`.

    Attributes:
        base: the variables that each message starts with.
        context: the context that a turn's messages share; None once a callback has set a variable there.
    """

    def __init__(self, of_script: bool) -> None:
        """`of_script`: take `base` anew for each turn, from the script that dispatches, and not once from its start."""
        self.base: Context = copy_context()
        self.context: Context | None = self.base.copy()
        self._of_script = of_script

    def turn(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a turn in a new shared context, where the loop does not do that. Turns may be nested."""
        outer, begins = self.context, self._of_script
        if begins:
            self.base = copy_context()
            self._of_script = False  # nested turns start with the same variables
        context = self.context = self.base.copy()
        try:
            return context.run(function, *args)
        finally:
            self.context, self._of_script = outer, begins

    def changed(self) -> bool:
        """Whether an earlier message of this turn has set a context variable."""
        try:
            changed = self.context != self.base
        except Exception:  # a variable whose values cannot be compared
            changed = True
        if changed:
            self.context = None
        return changed

    def apart(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call the function for one message, in a new copy of `base`."""
        return self.base.copy().run(function, *args)


class Driver(Protocol):
    """One way to drive a core.

    Attributes:
        contexts: the contexts that callbacks run in.
        blocking: whether there is no event loop, so that a call may block.
        deactivated: the error of a pending request whose extension is deactivated here.
        closed: the error of a pending request when main closes in good order.
        started: whether a callback has given work to the event loop, which then needs a turn soon. The core's turn
            clears it.
    """

    contexts: Contexts
    blocking: bool
    deactivated: type[NoHandlerError]
    closed: type[PeerGone]
    started: bool

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call the callback after the other ready callbacks of the loop."""

    def run_awaitable(self, awaitable: Awaitable[Any], settle: Settle) -> Running | None:
        """Await what a callback returned, then call `settle(result, error)`, whatever it raised."""

    async def yield_to_loop(self) -> None:
        """Let the other callbacks of the loop have their turn."""

    def future(self) -> Any:
        """A new future. It keeps its first outcome and drops later ones."""

    def invocation(self, abandon: Abandon) -> Any:
        """A new future for a request. If its user cancels it, it calls `abandon(future.correlation)`."""

    def posted(self, abandon: Abandon) -> Any:
        """A new concurrent future for a request that another thread waits for. Cancelling it calls `abandon`, too."""


def is_awaitable(result: object) -> TypeGuard[Awaitable[Any]]:
    """Whether a callback's result is to be awaited. The class decides, because an instance may have any attribute."""
    return hasattr(type(result), "__await__")


def call(driver: Driver, function: Callable[[], Any], settle: Settle) -> None:
    """Call a part's method, await its result if need be, and call `settle(result, error)`, whatever it raised."""
    try:
        result = function()
    except BaseException as error:
        conclude(error, partial(settle, None, error))
        return
    if is_awaitable(result):
        driver.run_awaitable(result, settle)
    else:
        settle(result, None)
