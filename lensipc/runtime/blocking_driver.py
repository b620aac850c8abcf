# SPDX-License-Identifier: MIT
"""Callbacks on the thread that dispatches; invokes as concurrent futures."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from ..errors import NoHandlerError
from ..transport.poller import Deadline, Poller, seconds_of
from .driver import Abandon, Contexts, Settle
from .pending import Outcome


class Core(Protocol):
    """What brings outcomes about: renderer/core.py."""

    poller: Poller

    def wait(self, outcome: Outcome) -> None: ...

    def caught_up(self, asked: int, /) -> bool: ...


class Request(concurrent.futures.Future[Any]):
    """A request on its way, which any thread may wait for and cancel. An outcome that comes after that is dropped."""

    correlation = 0  # before it is sent
    limit: Deadline | None = None  # while it waits to be

    def __init__(self, abandon: Abandon) -> None:
        super().__init__()
        self.abandon = abandon

    def set_result(self, result: Any) -> None:
        with suppress(concurrent.futures.InvalidStateError):
            super().set_result(result)

    def set_exception(self, exception: BaseException | None) -> None:
        with suppress(concurrent.futures.InvalidStateError):
            super().set_exception(exception)

    def cancel(self) -> bool:
        if not super().cancel():
            return False
        self.abandon(self.correlation)
        return True


class _Invocation(Request):
    """A future that brings its outcome about when it is asked for that: nothing else here would.

    Another thread waits for this one to do so.
    """

    def __init__(self, driver: BlockingDriver, abandon: Abandon) -> None:
        super().__init__(abandon)
        self._driver = driver

    def result(self, timeout: float | None = None) -> Any:
        """Its result, once that is there; meanwhile events are kept for `dispatch`. TimeoutError: it is not in time."""
        return super().result(self._waited(timeout))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What it failed with, None if it has a result, once it has either; as `result`."""
        return super().exception(self._waited(timeout))

    def _waited(self, timeout: float | None) -> float | None:
        if self.done() or threading.get_ident() != self._driver.thread:
            return timeout
        left = seconds_of(timeout)
        core, outcome = self._driver.core, Outcome()
        self.add_done_callback(outcome.set_result)
        give_up = partial(outcome.set_result, None)
        deadline = None if left is None else core.poller.call_later(left, give_up, core.caught_up)
        try:
            core.wait(outcome)
        finally:
            if deadline is not None:
                deadline.cancel()
        return 0.0


class BlockingDriver:
    """Callbacks run on the thread that calls dispatch(), and must not be coroutines: no loop would run them."""

    blocking = True
    deactivated = NoHandlerError
    started = False
    core: Core  # once it is there

    def __init__(self) -> None:
        self.contexts = Contexts(of_script=True)
        self.thread = threading.get_ident()

    def call_soon(self, callback: Callable[[], None]) -> None:
        callback()

    def run_awaitable(self, awaitable: Awaitable[Any], settle: Settle) -> None:
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

    async def yield_to_loop(self) -> None:
        pass

    def future(self) -> concurrent.futures.Future[Any]:
        return concurrent.futures.Future()

    def invocation(self, abandon: Abandon) -> concurrent.futures.Future[Any]:
        return _Invocation(self, abandon)

    posted = invocation
