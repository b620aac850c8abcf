# SPDX-License-Identifier: MIT
"""Callbacks on an asyncio loop; coroutines in tasks; invokes as asyncio futures."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import NoHandlerError, PeerGone
from ..user_code import conclude, ends_process
from .channels import Running
from .driver import Abandon, Contexts, Settle

T = TypeVar("T")

# Bound once: each invoke's outcome needs it, and to look it up takes 25 ns.
_set_result = asyncio.Future.set_result


class Deactivated(NoHandlerError, asyncio.CancelledError):  # noqa: N818
    """A NoHandlerError that ends a task as a cancellation does.

    When a part is deactivated, its own tasks may still await its requests. This error ends those tasks without a log
    entry, unless they catch it.
    """


class Closed(PeerGone, asyncio.CancelledError):
    """A PeerGone that ends a task as a cancellation does: main closes in good order, so this is no failure."""

    def __reduce__(self) -> tuple[type[PeerGone], tuple[Any, ...]]:
        return PeerGone, self.args


Closed.__name__ = Closed.__qualname__ = PeerGone.__name__  # tracebacks say what users catch
Closed.__module__ = PeerGone.__module__


if TYPE_CHECKING:
    # asyncio asks whether something has a coroutine's methods, and type checkers ask for the base.
    class _FutureAndCoroutine(asyncio.Future[T], Coroutine[Any, Any, T]): ...
else:
    _FutureAndCoroutine = asyncio.Future


class Invocation(_FutureAndCoroutine[T]):
    """A pending invoke. Await it, gather it, or make a task of it; cancelling it cancels the handler.

    It is a future and a coroutine as well, because `create_task` and `TaskGroup` accept only coroutines. The request
    has been sent already, before the first await.
    """

    # Slots: an instance's dict would cost each invoke 45 ns.
    __slots__ = ("_steps", "_waiter", "abandon", "correlation")

    at_once = True  # a test can have the loop call tasks, as any future does

    # The callback of the task that awaits this future, and its context; () once the loop handles callbacks instead.
    _waiter: tuple[()] | tuple[Callable[[Any], object], Context] | None
    abandon: Abandon
    correlation: int

    def add_done_callback(self, fn: Callable[[Any], object], *, context: Context | None = None) -> None:
        """Call `fn` when there is an outcome."""
        if self._waiter is None and context is not None:  # as tasks do, and hardly anybody else
            self._waiter = fn, context
        else:
            self._leave_to_loop()
            super().add_done_callback(fn, context=context)

    def remove_done_callback(self, fn: Callable[[Any], object], /) -> int:
        """Remove the callback, and return how many times it was registered."""
        self._leave_to_loop()
        return super().remove_done_callback(fn)

    def set_result(self, result: Any, /) -> bool:  # type: ignore[override]
        """Set the result. True: the task that awaits it has already gone on.

        An ordinary future has the loop call the task in its next round, by a new handle. That takes 0.4 us of the
        2.7 us that one of many invokes takes in all. Here the task goes on at once, in its own context, as the loop
        would call it. If another task runs now, the loop calls this one later, because two tasks cannot run at once.
        That is tried and not asked: `asyncio.current_task` takes 0.15 us on Python 3.11.
        """
        _set_result(self, result)
        waiter, self._waiter = self._waiter, ()
        if not waiter:
            return False
        fn, context = waiter
        if not self.at_once:
            self.get_loop().call_soon(fn, self, context=context)
            return False
        try:
            context.run(fn, self)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            loop = self.get_loop()
            # A task's callback raises nothing of its coroutine's. So this error says that the task was not entered,
            # because another one runs or its context is in use. Any other callback has been called, and has raised.
            if isinstance(error, RuntimeError) and asyncio.isfuture(getattr(fn, "__self__", None)):
                loop.call_soon(fn, self, context=context)
                return False
            message = {"message": f"Exception in callback {fn!r}", "exception": error, "future": self}
            loop.call_exception_handler(message)
        return True

    def set_exception(self, exception: type | BaseException, /) -> None:
        """Set an error as the outcome."""
        self._leave_to_loop()
        super().set_exception(exception)
        if isinstance(exception, (Deactivated, Closed)):
            self.exception()  # marks it as retrieved, so asyncio does not log it

    def _leave_to_loop(self) -> None:
        waiter, self._waiter = self._waiter, ()
        if waiter:
            super().add_done_callback(waiter[0], context=waiter[1])

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel the request, here and in main."""
        self._leave_to_loop()
        if not super().cancel(msg):
            return False
        self.abandon(self.correlation)
        return True

    # The coroutine protocol (collections.abc.Coroutine): what a task calls.

    _steps: Generator[Any, None, Any]  # since the first step

    def send(self, value: None, /) -> Any:
        """Go on to where it waits, or to its end. A task calls this."""
        return self._begun().send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an error where it waits. A task calls this."""
        if not hasattr(self, "_steps"):  # a task that is cancelled before its first step
            self.cancel()
        return self._begun().throw(*error)

    def close(self) -> None:
        """Stop awaiting it. If nobody has begun to, it is cancelled."""
        if hasattr(self, "_steps"):
            self._steps.close()
        else:
            self.cancel()

    def _begun(self) -> Generator[Any, None, Any]:
        if not hasattr(self, "_steps"):
            self._steps = self.__await__()
        return self._steps


class Pending(asyncio.Future[Any]):
    """A future inside main or a renderer. It drops an outcome that comes late, for example after it was cancelled."""

    def set_result(self, result: Any, /) -> None:
        if not self.done():
            super().set_result(result)

    def set_exception(self, exception: type | BaseException, /) -> None:
        if not self.done():
            super().set_exception(exception)


class _Kept(Exception):  # noqa: N818
    """Carries KeyboardInterrupt or SystemExit as its cause, because asyncio would end the loop for those."""


async def _kept(awaitable: Awaitable[Any], settle: Settle) -> Any:
    try:
        return await awaitable
    except (KeyboardInterrupt, SystemExit) as error:
        if ends_process(error):
            conclude(error, partial(settle, None, error))  # now: the loop may not go on
        raise _Kept from error


class _Waiting:
    """Waits for a future that is not lensipc's own. Cancelling this stops the wait and leaves the future alone."""

    __slots__ = ("_future", "_settle")

    def __init__(self, future: asyncio.Future[Any], settle: Settle) -> None:
        self._future = future
        self._settle = settle
        future.add_done_callback(self._done)

    def _done(self, future: asyncio.Future[Any]) -> None:
        _settle_with(future, self._settle)

    def cancel(self) -> None:
        if self._future.remove_done_callback(self._done):
            self._settle(None, asyncio.CancelledError())


def _settle_with(future: asyncio.Future[Any], settle: Settle) -> None:
    if future.cancelled():
        settle(None, asyncio.CancelledError())
        return
    error = future.exception()
    if isinstance(error, _Kept):
        error = error.__cause__
    settle(None if error is not None else future.result(), error)


class AsyncioDriver:
    """Runs callbacks on the loop, and awaits each awaitable that they return in a task of its own.

    Attributes:
        nests: whether the loop may run again from within a callback, as a Qt loop does for a modal dialog. The inner
            loop calls other callbacks, but not a descriptor's callback that has not returned yet.
    """

    blocking = False
    deactivated: type[NoHandlerError] = Deactivated
    closed: type[PeerGone] = Closed

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        own = type(self.loop).__module__.split(".")[0] in ("asyncio", "uvloop")
        self.nests: bool = not own or hasattr(self.loop, "_nest_patched")  # the latter: nest_asyncio was here
        self._told = False
        self.started: bool = False
        self.contexts: Contexts = Contexts(of_script=False)
        self._tasks: set[asyncio.Future[Any]] = set()  # the loop itself holds tasks only weakly

    def call_soon(self, callback: Callable[[], None]) -> None:
        if self.nests:
            self.loop.call_soon(self.contexts.turn, callback)  # a context cannot be entered twice
        else:
            self.loop.call_soon(callback, context=self.contexts.context)

    def run_awaitable(self, awaitable: Awaitable[Any], settle: Settle) -> Running:
        self.started = True
        if asyncio.isfuture(awaitable):
            return _Waiting(awaitable, settle)
        task = asyncio.ensure_future(_kept(awaitable, settle), loop=self.loop)
        self._tasks.add(task)
        if not asyncio.iscoroutine(awaitable):  # cancelling the task would cancel the awaitable, too
            task.add_done_callback(self._tasks.discard)
            return _Waiting(task, settle)

        def done(task: asyncio.Future[Any]) -> None:
            self._tasks.discard(task)
            if task.cancelled():
                awaitable.close()  # or Python warns of one that was cancelled before its first step
            elif isinstance(task.exception(), (KeyboardInterrupt, SystemExit)):
                return
            _settle_with(task, settle)

        task.add_done_callback(done)
        return task

    def watch(self, fd: int, callback: Callable[[], object]) -> None:
        """Have the loop call the callback while the descriptor is readable.

        If the loop nests, the descriptor's callback only schedules `callback` and returns. So the loop still watches
        the descriptor while `callback` runs.
        """
        if self.nests:
            self.loop.add_reader(fd, self._tell, callback)
            return
        context = self.contexts.context
        assert context is not None
        self.loop.add_reader(fd, context.run, callback)

    def _tell(self, callback: Callable[[], object]) -> None:
        if not self._told:
            self._told = True
            self.loop.call_soon(self._tell_now, callback)

    def _tell_now(self, callback: Callable[[], object]) -> None:
        self._told = False
        self.contexts.turn(callback)

    async def yield_to_loop(self) -> None:
        await asyncio.sleep(0)

    def future(self) -> Pending:
        return Pending(loop=self.loop)

    def invocation(self, abandon: Abandon) -> Invocation[Any]:
        invocation: Invocation[Any] = Invocation(loop=self.loop)
        invocation._waiter = None
        invocation.abandon = abandon
        return invocation

    def posted(self, abandon: Abandon) -> concurrent.futures.Future[Any]:
        from .blocking_driver import Request

        return Request(abandon)


async def readable(fd: int, seconds: float) -> bool:
    """Wait at most `seconds` for a descriptor to be readable, without reading it. Return whether it is."""
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(fd, set_once, ready)
    try:
        await asyncio.wait([ready], timeout=seconds)
    finally:
        loop.remove_reader(fd)
    return ready.done()


def set_once(future: asyncio.Future[None]) -> None:
    """Set a future's result, unless it has one. Readiness callbacks use this."""
    if not future.done():
        future.set_result(None)
