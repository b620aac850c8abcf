# SPDX-License-Identifier: MIT
"""What a pending invoke is, and what becomes of an awaitable that a callback returns, on asyncio and without a loop."""

from __future__ import annotations

import asyncio
import collections.abc
import concurrent.futures
import contextlib
import contextvars
import gc
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lensipc.runtime.asyncio_driver import AsyncioDriver, Invocation, set_once
from lensipc.runtime.blocking_driver import BlockingDriver
from lensipc.runtime.driver import Contexts


def sent(given_up: list[int] | None = None) -> Invocation[Any]:
    """An invoke on its way."""
    invocation = AsyncioDriver().invocation(lambda number: given_up.append(number) if given_up is not None else None)
    invocation.correlation = 1
    return invocation


def later(invocation: Invocation[Any], outcome: Any) -> None:
    """Give it its outcome in a moment."""
    settle = invocation.set_exception if isinstance(outcome, BaseException) else invocation.set_result
    asyncio.get_running_loop().call_later(0.001, settle, outcome)


# ---- asyncio: a future and a coroutine in one ----


async def test_an_invocation_is_both_a_future_and_a_coroutine() -> None:
    invocation = sent()
    assert asyncio.isfuture(invocation)
    assert isinstance(invocation, collections.abc.Coroutine)
    assert asyncio.iscoroutine(invocation)
    invocation.cancel()


async def test_an_invocation_can_be_awaited_before_and_after_it_has_its_outcome() -> None:
    invocation = sent()
    later(invocation, 5)
    assert await invocation == 5
    assert await invocation == 5


async def test_an_invocation_can_be_made_a_task() -> None:
    invocation = sent()
    task = asyncio.create_task(invocation)
    later(invocation, 5)
    assert await task == 5
    done = sent()
    done.set_result(6)
    assert await asyncio.create_task(done) == 6


async def test_an_error_is_raised_where_it_is_awaited_also_through_a_task() -> None:
    for wrap in (lambda each: each, asyncio.create_task, asyncio.ensure_future, asyncio.shield):
        invocation = sent()
        later(invocation, ValueError("remote"))
        with pytest.raises(ValueError, match="remote"):
            await wrap(invocation)


async def test_invocations_can_be_gathered_waited_for_and_taken_as_they_complete() -> None:
    some = [sent() for _ in range(6)]
    for number, each in enumerate(some):
        later(each, number)
    assert await asyncio.gather(*some[:2]) == [0, 1]
    assert await asyncio.wait_for(some[2], 10) == 2
    assert sorted([await each for each in asyncio.as_completed(some[3:5])]) == [3, 4]
    task = asyncio.create_task(some[5])  # asyncio.wait takes nothing that looks like a coroutine
    done, _ = await asyncio.wait([task])
    assert done == {task}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup came with Python 3.11")
async def test_a_task_group_takes_invocations_and_cancels_them() -> None:
    some = [sent() for _ in range(3)]
    for number, each in enumerate(some):
        later(each, number)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in some]
    assert [task.result() for task in tasks] == [0, 1, 2]

    given_up: list[int] = []
    failing = sent()
    later(failing, ValueError("remote"))
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(sent(given_up))
            group.create_task(failing)
    except Exception as several:
        raised = str(several)
    assert "1 sub-exception" in raised
    assert given_up == [1]


async def test_the_task_that_awaits_goes_on_within_the_callback_that_brings_the_outcome() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nobody's")
    invocation = sent()
    log: list[Any] = []

    async def waiter() -> None:
        variable.set("the task's")
        log.append((await invocation, variable.get(), asyncio.current_task()))
        await asyncio.sleep(0)
        log.append("later")

    def settle() -> None:
        invocation.set_result(5)
        log.append((variable.get(), asyncio.current_task()))

    task = asyncio.create_task(waiter())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(settle)
    await task
    assert log == [(5, "the task's", task), ("nobody's", None), "later"]


async def test_an_outcome_that_a_task_brings_reaches_the_task_that_awaits_it_too() -> None:
    invocation = sent()

    async def waiter() -> Any:
        return await invocation

    task = asyncio.create_task(waiter())
    await asyncio.sleep(0)
    invocation.set_result(5)  # in this task: that one cannot run now
    assert not task.done()
    await asyncio.wait([task], timeout=10)
    assert task.result() == 5


def _loops() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    def eager() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]
        return loop

    def debugged() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_debug(True)
        return loop

    def slow() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_task_factory(lambda loop, coroutine, **given: asyncio.tasks._PyTask(coroutine, loop=loop, **given))  # type: ignore[attr-defined]
        return loop

    made: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop, "debug": debugged}
    made["tasks in Python"] = slow
    if hasattr(asyncio, "eager_task_factory"):  # of Python 3.12
        made["eager"] = eager
    with contextlib.suppress(ImportError):
        import uvloop

        first = uvloop.new_event_loop()  # the first to run opens a pipe that stays
        first.run_until_complete(asyncio.sleep(0))
        first.close()
        made["uvloop"] = uvloop.new_event_loop
    return made


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("kind", _loops())
def test_on_every_loop_tasks_that_await_outcomes_run_alike_whether_they_go_on_at_once_or_later(
    kind: str, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Invocation, "at_once", at_once)
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")

    async def asks(number: int, invocation: Invocation[Any]) -> tuple[int, int, bool]:
        variable.set(number)
        try:
            value = await invocation
        except ValueError:
            value = -1
        own = asyncio.current_task() in asyncio.all_tasks()
        await asyncio.sleep(0)
        return value, variable.get(), own

    async def main() -> tuple[list[tuple[int, int, bool]], list[str]]:
        loop = asyncio.get_running_loop()
        told: list[str] = []
        loop.set_exception_handler(lambda _loop, context: told.append(context["message"]))
        invocations = [sent() for _ in range(6)]
        tasks = [asyncio.create_task(asks(number, each)) for number, each in enumerate(invocations)]
        await asyncio.sleep(0)
        loop.call_soon(invocations[0].set_result, 10)  # as the core does, in a callback of the loop
        loop.call_soon(invocations[1].set_exception, ValueError())
        assert invocations[2].set_result(12) is False  # in a task: it runs, and another cannot
        tasks[3].cancel()
        invocations[4].add_done_callback(lambda done: told.append(f"called with {done.result()}"))
        loop.call_soon(invocations[4].set_result, 14)
        invocations[5].add_done_callback(lambda _done: 1 / 0)
        loop.call_soon(invocations[5].set_result, 15)
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(done.pop(3), asyncio.CancelledError)
        return done, told  # type: ignore[return-value]

    loop = _loops()[kind]()
    try:
        done, told = loop.run_until_complete(main())
    finally:
        loop.close()
    assert done == [(10, 0, True), (-1, 1, True), (12, 2, True), (14, 4, True), (15, 5, True)]
    assert told[0] == "called with 14"
    assert told[1].startswith("Exception in callback")
    assert len(told) == 2


async def test_an_error_inside_the_task_that_goes_on_is_its_own() -> None:
    invocation = sent()

    async def failing() -> None:
        await invocation
        raise RuntimeError("mine")

    task = asyncio.create_task(failing())
    later(invocation, 5)
    with pytest.raises(RuntimeError, match="mine"):
        await task


async def test_an_outcome_that_comes_in_the_context_of_the_task_that_awaits_it_reaches_the_task() -> None:
    invocation, context = sent(), contextvars.copy_context()

    async def waiter() -> Any:
        return await invocation

    task = asyncio.create_task(waiter(), context=context)
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(invocation.set_result, 5, context=context)  # which cannot be entered twice
    await asyncio.wait([task], timeout=10)
    assert task.result() == 5


@pytest.mark.parametrize("in_a_task", [False, True])
@pytest.mark.parametrize("error", [RuntimeError("mine"), ValueError("mine")])
async def test_a_callback_that_raises_is_called_once_and_told_to_the_loop(error: Exception, in_a_task: bool) -> None:
    invocation, called, told = sent(), [], []

    def callback(done: Any) -> None:
        called.append(done.result())
        raise error

    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context["exception"]))
    invocation.add_done_callback(callback, context=contextvars.copy_context())
    invocation.set_result(5) if in_a_task else later(invocation, 5)
    assert await invocation == 5
    await asyncio.sleep(0.01)
    assert (called, told) == ([5], [error])


async def test_several_tasks_and_callbacks_hear_of_one_outcome_in_the_order_in_which_they_came() -> None:
    invocation, heard = sent(), []

    async def waiter(name: str) -> None:
        heard.append((name, await invocation))

    tasks = []
    for name in "ab":
        tasks.append(asyncio.create_task(waiter(name)))
        await asyncio.sleep(0)
        invocation.add_done_callback(lambda done, name=name: heard.append((name.upper(), done.result())))  # type: ignore[misc]
    removed = heard.append
    invocation.add_done_callback(removed)
    assert invocation.remove_done_callback(removed) == 1
    later(invocation, 5)
    await asyncio.gather(*tasks)
    await asyncio.sleep(0)
    assert heard == [("a", 5), ("A", 5), ("b", 5), ("B", 5)]


async def test_cancelling_tells_the_other_side_once() -> None:
    given_up: list[int] = []
    invocation = sent(given_up)
    assert invocation.cancel()
    assert not invocation.cancel()
    assert given_up == [1]
    with pytest.raises(asyncio.CancelledError):
        await invocation


@pytest.mark.parametrize("how", ["await", "task", "wait_for", "gather"])
async def test_cancelling_whoever_waits_cancels_the_invocation(how: str) -> None:
    given_up: list[int] = []
    invocation = sent(given_up)

    async def wait() -> Any:
        if how == "wait_for":
            return await asyncio.wait_for(invocation, 60)
        if how == "gather":
            return await asyncio.gather(invocation)
        return await invocation

    task = asyncio.create_task(invocation if how == "task" else wait())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert given_up == [1]
    assert invocation.cancelled()


async def test_a_task_that_is_cancelled_before_its_first_step_ends_as_well() -> None:
    task = asyncio.create_task(sent())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_shield_keeps_the_invocation() -> None:
    given_up: list[int] = []
    invocation = sent(given_up)
    waiting = asyncio.ensure_future(asyncio.shield(invocation))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert given_up == []
    invocation.set_result(1)
    assert await invocation == 1


async def test_a_timeout_of_wait_for_is_a_cancellation() -> None:
    given_up: list[int] = []
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(sent(given_up), 0.001)
    assert given_up == [1]


async def test_what_main_waits_for_takes_no_outcome_that_comes_late_or_twice() -> None:
    pending = AsyncioDriver().future()
    pending.set_result(1)
    pending.set_result(2)
    pending.set_exception(ValueError())
    assert await pending == 1
    cancelled = AsyncioDriver().future()
    cancelled.cancel()
    cancelled.set_result(1)
    cancelled.set_exception(ValueError())
    assert cancelled.cancelled()


async def test_closing_an_invocation_that_nobody_awaited_is_no_error() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        invocation = sent()
        invocation.close()
        assert invocation.cancelled()
        del invocation
        gc.collect()  # it is no coroutine that complains of not having been awaited


# ---- asyncio: what callbacks return ----


async def test_what_a_callback_returns_runs_in_a_task_and_is_settled_once() -> None:
    driver, settled = AsyncioDriver(), asyncio.get_running_loop().create_future()

    async def callback() -> int:
        await asyncio.sleep(0)
        return 5

    driver.run_awaitable(callback(), lambda result, error: settled.set_result((result, error)))
    assert await settled == (5, None)
    assert not driver.blocking


async def test_an_error_and_a_cancellation_are_settled_too() -> None:
    driver, settled = AsyncioDriver(), []

    async def fail() -> None:
        raise ValueError("no")

    driver.run_awaitable(fail(), lambda *outcome: settled.append(outcome))
    driver.run_awaitable(asyncio.sleep(60), lambda *outcome: settled.append(outcome)).cancel()
    while len(settled) < 2:
        await asyncio.sleep(0)
    assert [type(error) for _, error in settled] == [ValueError, asyncio.CancelledError]


async def test_a_task_is_kept_alive_while_it_runs_and_no_longer() -> None:
    driver, settled = AsyncioDriver(), []
    driver.run_awaitable(asyncio.sleep(0.01), lambda *outcome: settled.append(outcome))
    gc.collect()
    assert len(driver._tasks) == 1
    while not settled:
        await asyncio.sleep(0.001)
    assert len(driver._tasks) == 0


async def test_any_awaitable_will_do() -> None:
    driver, settled = AsyncioDriver(), []

    class Awaitable:
        def __await__(self) -> Any:
            yield from asyncio.sleep(0).__await__()
            return 5

    future = asyncio.get_running_loop().create_future()
    future.set_result(6)
    driver.run_awaitable(Awaitable(), lambda result, _error: settled.append(result))
    driver.run_awaitable(future, lambda result, _error: settled.append(result))
    while len(settled) < 2:
        await asyncio.sleep(0)
    assert sorted(settled) == [5, 6]


async def test_who_stops_waiting_for_what_is_not_its_own_leaves_it_running() -> None:
    driver, settled = AsyncioDriver(), []
    shared = asyncio.ensure_future(asyncio.sleep(0.01, 5))

    class Shared:
        def __await__(self) -> Any:
            return shared.__await__()

    for awaitable in (shared, Shared()):
        hasty = driver.run_awaitable(awaitable, lambda *outcome: settled.append(outcome))
        driver.run_awaitable(awaitable, lambda *outcome: settled.append(outcome))
        await asyncio.sleep(0)
        hasty.cancel()
        hasty.cancel()
    assert [type(error) for _, error in settled] == [asyncio.CancelledError] * 2
    while len(settled) < 4:
        await asyncio.sleep(0.001)
    assert settled[2:] == [(5, None)] * 2
    await asyncio.sleep(0)
    assert len(driver._tasks) == 0


async def test_a_shared_task_that_others_cancel_or_that_fails_is_settled_so() -> None:
    driver, settled = AsyncioDriver(), []

    async def fail() -> None:
        raise ValueError("no")

    cancelled = asyncio.ensure_future(asyncio.sleep(60))
    for shared in (cancelled, asyncio.ensure_future(fail())):
        driver.run_awaitable(shared, lambda *outcome: settled.append(outcome))
    cancelled.cancel()
    while len(settled) < 2:
        await asyncio.sleep(0)
    assert {type(error) for _, error in settled} == {ValueError, asyncio.CancelledError}


# ---- contexts ----

variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")


def test_what_a_message_sets_is_noticed_and_the_next_has_a_context_of_its_own() -> None:
    variable.set("before")
    contexts = Contexts(of_script=False)

    def turn() -> None:
        assert not contexts.changed()
        variable.reset(variable.set("for a while"))
        assert not contexts.changed()
        variable.set("changed")
        assert contexts.changed()
        assert contexts.changed()
        assert contexts.apart(variable.get) == "before"
        contexts.apart(variable.set, "in its own")
        assert contexts.apart(variable.get) == "before"

    contexts.turn(turn)
    assert variable.get() == "before"
    contexts.turn(lambda: contexts.changed() or variable.get())


def test_a_value_that_cannot_be_compared_counts_as_changed() -> None:
    variable.set(np.zeros(3))
    contexts = Contexts(of_script=False)

    def turn() -> bool:
        variable.set(np.ones(3))
        return contexts.changed()

    assert contexts.turn(turn) is True


def test_the_turns_of_a_script_begin_with_what_it_has_set_and_those_within_them_as_they_did() -> None:
    contexts = Contexts(of_script=True)
    seen = []

    def turn() -> None:
        seen.append(variable.get())
        variable.set("the callback's")
        contexts.turn(lambda: seen.append((variable.get(), contexts.changed())))
        assert contexts.changed()

    for value in ("first", "second"):
        variable.set(value)
        contexts.turn(turn)
    assert seen == ["first", ("first", False), "second", ("second", False)]


async def test_soon_is_after_the_callbacks_that_are_due() -> None:
    order: list[int] = []
    asyncio.get_running_loop().call_soon(order.append, 1)
    AsyncioDriver().call_soon(lambda: order.append(2))
    assert order == []
    await asyncio.sleep(0)
    assert order == [1, 2]


async def test_set_once_leaves_a_future_alone_that_is_done() -> None:
    future = asyncio.get_running_loop().create_future()
    set_once(future)
    set_once(future)
    assert future.done()


# ---- without a loop ----


def test_without_a_loop_a_pending_invoke_is_a_concurrent_future() -> None:
    given_up: list[int] = []
    future = BlockingDriver().invocation(given_up.append)
    future.correlation = 1  # type: ignore[attr-defined]
    assert isinstance(future, concurrent.futures.Future)
    future.set_result(5)
    assert future.result(0) == 5
    assert not future.cancel()
    assert given_up == []
    assert BlockingDriver().blocking


def test_without_a_loop_cancelling_tells_the_other_side() -> None:
    given_up: list[int] = []
    future = BlockingDriver().invocation(given_up.append)
    future.correlation = 1  # type: ignore[attr-defined]
    assert future.cancel()
    assert given_up == [1]
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(0)


def test_without_a_loop_an_async_callback_is_refused_with_the_way_out() -> None:
    settled: list[Any] = []
    ran: list[int] = []

    async def callback() -> None:
        ran.append(1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is closed: no "was never awaited"
        BlockingDriver().run_awaitable(callback(), lambda *outcome: settled.append(outcome))
        gc.collect()
    (outcome,) = settled
    assert outcome[0] is None
    assert isinstance(outcome[1], TypeError)
    assert "runs no event loop" in str(outcome[1])
    assert "async with" in str(outcome[1])
    assert ran == []


def test_without_a_loop_an_awaitable_that_cannot_be_closed_is_refused_as_well() -> None:
    class Awaitable:
        def __await__(self) -> Any:
            yield

    settled: list[Any] = []
    BlockingDriver().run_awaitable(Awaitable(), lambda *outcome: settled.append(outcome))
    assert isinstance(settled[0][1], TypeError)


def test_without_a_loop_soon_is_now() -> None:
    called: list[int] = []
    BlockingDriver().call_soon(lambda: called.append(1))
    assert called == [1]
