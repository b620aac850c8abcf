# SPDX-License-Identifier: MIT
"""The driver of a plain script: callbacks run on the thread that dispatches, and invokes are concurrent futures."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from ..errors import NoHandlerError, PeerGone
from ..transport.poller import Deadline, Poller, seconds_of
from .driver import Abandon, Contexts, Settle
from .pending import Outcome


class Core(Protocol):
    """The core that waits for outcomes: RendererCore of renderer/core.py."""

    poller: Poller

    def wait(self, outcome: Outcome) -> None: ...

    def caught_up(self, asked: int, /) -> bool: ...


class Request(concurrent.futures.Future[Any]):
    """A pending request. Any thread may wait for it and cancel it. An outcome that comes after that is dropped."""

    correlation = 0  # 0 until the request is sent
    limit: Deadline | None = None  # set while the request waits to be sent

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
    """A future whose `result` and `exception` dispatch until the outcome is there, because no event loop does that.

    In another thread, they wait until the driver's thread has dispatched the outcome.
    """

    def __init__(self, driver: BlockingDriver, abandon: Abandon) -> None:
        super().__init__(abandon)
        self._driver = driver

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the result and return it. Events that come meanwhile are kept for `dispatch`. TimeoutError: late."""
        return super().result(self._waited(timeout))

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait as `result` does, and return the error of the request; None: it has a result."""
        return super().exception(self._waited(timeout))

    def _waited(self, timeout: float | None) -> float | None:
        if self.done() or threading.get_ident() != self._driver.thread:
            return timeout
        left = seconds_of(timeout)
        core, outcome = self._driver.core, Outcome()
        give_up = partial(outcome.set_result, None)
        self.add_done_callback(lambda _done: give_up())  # what refers to this request, it would keep from being freed
        deadline = None if left is None else core.poller.call_later(left, give_up, core.caught_up)
        try:
            core.wait(outcome)
        finally:
            if deadline is not None:
                deadline.cancel()
        return 0.0


class BlockingDriver:
    """Runs callbacks on the thread that calls dispatch(). They must be plain functions: no loop runs coroutines."""

    blocking = True
    deactivated = NoHandlerError
    closed = PeerGone
    started = False
    core: Core  # set once the core is made

    def __init__(self) -> None:
        self.contexts: Contexts = Contexts(of_script=True)
        self.thread: int = threading.get_ident()

    def call_soon(self, callback: Callable[[], None]) -> None:
        callback()

    def run_awaitable(self, awaitable: Awaitable[Any], settle: Settle) -> None:
        close = getattr(awaitable, "close", None)
        if close is not None:
            close()  # otherwise Python warns that a coroutine was never awaited
        settle(
            None,
            TypeError(
                f"{getattr(awaitable, '__qualname__', 'an async function')} is async, and this process runs no event "
                "loop: make it a plain function, or enter the process with `async with`"
            ),
        )

    async def yield_to_loop(self) -> None:
        pass

    def future(self) -> concurrent.futures.Future[Any]:
        return concurrent.futures.Future()

    def invocation(self, abandon: Abandon) -> concurrent.futures.Future[Any]:
        return _Invocation(self, abandon)

    posted = invocation
