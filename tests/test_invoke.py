"""Guarantee 3: an invoke is executed at most once and has exactly one outcome."""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import decimal
import fractions
import functools
import math
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import coins
import hostile
import lab
import numpy as np
import pytest
import raising
import starting
from hosting import hosting, until

from lensipc import (
    DataCloneError,
    ExtensionManifest,
    HandlerExistsError,
    InvokeTimeout,
    MainProcess,
    NoHandlerError,
    NotActivatedError,
    OutboxFull,
    PeerGone,
    RemoteError,
    RendererProcess,
)
from lensipc.runtime.protocol import DEACTIVATE, RESULT
from lensipc.runtime.remote_error import rebuild


async def test_the_result_of_a_plain_and_of_an_async_handler_comes_back() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        assert await host.ipc.run(renderer, "invoke", "echo", 1, "two", [3.0]) == (1, "two", [3.0])
        assert await host.ipc.run(renderer, "invoke", "async echo", {"four": 5}) == ({"four": 5},)
        assert await host.ipc.run(renderer, "invoke", "echo") == ()


async def test_two_thousand_invokes_in_flight_from_each_of_three_renderers_each_have_their_own_result() -> None:
    async with hosting(3) as host:
        runs = [host.ipc.run(each, "invoke_many", "async echo", 2000) for each in host.renderers]
        assert await asyncio.gather(*runs) == [True] * 3


async def test_a_builtin_exception_is_raised_as_itself_and_as_remote_error() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        error = await host.ipc.run(renderer, "invoke_error", "fail", ("ValueError", "bad", 7))
        assert {"RemoteError", "ValueError"} <= set(error["types"])
        assert error["args"] == ("bad", 7)
        assert error["remote_type"] == "ValueError"
        assert 'raise LookupError("the cause")' in error["remote_traceback"]
        assert "in _fail" in error["remote_traceback"]
        assert "the cause" in error["cause"]


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        ("KeyError", ("k",)),
        ("OSError", (2, "gone")),
        ("FileNotFoundError", (2, "gone")),
        ("UnicodeDecodeError", ("utf-8", b"x", 0, 1, "why")),
        ("ZeroDivisionError", ()),
        ("TimeoutError", ("slow",)),
        ("ConnectionResetError", ()),
        ("RecursionError", ("deep",)),
    ],
)
async def test_any_builtin_exception_can_be_caught_by_its_type(kind: str, args: tuple[Any, ...]) -> None:
    async with hosting(1) as host:
        error = await host.ipc.run(host.renderers[0], "invoke_error", "fail", (kind, *args))
        assert kind in error["types"]
        assert error["args"] == args


async def test_an_exception_of_the_extensions_own_comes_as_its_nearest_builtin_with_its_text() -> None:
    async with hosting(1) as host:
        error = await host.ipc.run(host.renderers[0], "invoke_error", "fail", ("Custom", 1, 2))
        assert {"RemoteError", "ValueError"} <= set(error["types"])
        assert error["remote_type"] == "lab.Custom"
        assert error["remote_message"] == "1 is not 2"


@pytest.mark.parametrize("kind", ["StopIteration", "GeneratorExit"])
async def test_an_exception_that_would_disturb_the_caller_comes_as_remote_error_alone(kind: str) -> None:
    async with hosting(1) as host:
        error = await host.ipc.run(host.renderers[0], "invoke_error", "async fail", (kind,))
        assert "NoHandlerError" in error["types"]


async def test_without_a_handler_the_outcome_is_no_handler_error() -> None:
    async with hosting(1) as host:
        error = await host.ipc.run(host.renderers[0], "invoke_error", "nobody", ())
        assert "NoHandlerError" in error["types"]
        assert "'nobody'" in error["text"]


async def test_a_result_that_cannot_be_cloned_is_an_error_that_says_so() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        error = await host.ipc.run(renderer, "invoke_error", "unclonable", ())
        assert error["remote_type"].endswith("DataCloneError")
        assert "result is a" in error["text"]
        assert await host.ipc.run(renderer, "invoke", "echo", 1) == (1,)


async def test_a_timeout_is_an_outcome_and_cancels_the_handler() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        error = await host.ipc.run(renderer, "invoke_error", "sleep", (60, "slow"), 0.05)
        assert {"InvokeTimeout", "TimeoutError"} <= set(error["types"])
        await until(lambda: host.ipc.cancelled == ["slow"])
        assert host.ipc.running == 0


async def test_cancelling_the_awaiting_task_cancels_the_handlers_task() -> None:
    async with hosting(1) as host:
        assert await host.ipc.run(host.renderers[0], "lab:cancel_invoke", "sleep", 60, "cancelled")
        await until(lambda: host.ipc.cancelled == ["cancelled"])


async def test_an_invoke_can_be_awaited_gathered_made_a_task_and_waited_for() -> None:
    async with hosting(1) as host:
        assert await host.ipc.run(host.renderers[0], "lab:invoke_in_every_way") == [(1,)] * 5


async def test_an_array_of_many_megabytes_goes_both_ways() -> None:
    async with hosting(1) as host:
        assert await host.ipc.run(host.renderers[0], "lab:invoke_array", 30_000_000)


async def test_a_second_handler_is_refused_and_the_error_says_where_the_first_is() -> None:
    async with hosting() as host:
        dispose = host.ipc.handle("once", lambda _event: 1)
        with pytest.raises(HandlerExistsError, match=r"test_invoke\.py:\d+"):
            host.ipc.handle("once", lambda _event: 2)
        dispose()
        host.ipc.handle("once", lambda _event: 3)


async def test_an_invoke_that_comes_while_main_is_activating_waits_for_it() -> None:
    manifest = ExtensionManifest("slow", "1", main="starting:SlowMain", renderer="starting:SlowRenderer")
    starting.answered.clear()
    async with hosting(1) as host:
        await host.main.install(manifest)  # its renderer's on_activate invokes what main's handles only later
        assert starting.answered == ["answered", "async answered"]


async def test_an_invoke_waits_only_so_long_for_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lensipc.main.connection.ACTIVATION_WAIT", 0.1)
    manifest = ExtensionManifest("never", "1", main="starting:NeverMain", renderer="starting:NeverRenderer")
    async with hosting(1) as host:
        installing = asyncio.create_task(host.main.install(manifest))
        await until(lambda: starting.refused)
        assert "NoHandlerError" in starting.refused[0]
        assert "still activating" in starting.refused[0]
        installing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await installing


async def test_deactivating_an_extension_ends_its_running_invokes() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        asking = asyncio.create_task(host.ipc.run(renderer, "invoke_error", "sleep", (60, "interrupted")))
        await until(lambda: host.ipc.running == 1)
        ipc = host.ipc
        await host.main.disable("lab")
        assert ipc.cancelled == ["interrupted"]
        asking.cancel()


async def test_deactivating_an_extension_leaves_the_invokes_of_others_alone() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        await host.main.install(ExtensionManifest("other", "1", main="other:OtherMain", renderer="other:OtherRenderer"))
        may_end = asyncio.Event()

        async def wait(_event: Any) -> str:
            await may_end.wait()
            return "its own"

        host.ipc.handle("wait", wait)
        asking = asyncio.create_task(host.ipc.run(renderer, "invoke", "wait"))
        await until(lambda: any(len(each.running) for each in host.main._core.connections.values()))
        await host.main.disable("other")
        may_end.set()
        assert await asking == "its own"


async def test_deactivating_an_extension_ends_what_a_renderer_still_asks_of_it() -> None:
    """A renderer's part takes back what it has asked for. Main does not count on that: here is one that does not."""
    async with hostile.arena() as ring:
        ipc, renderer = ring.host.ipc, await ring.connect()
        correlation = renderer.invoke(renderer.declare("sleep"), 60.0, "not taken back")
        await until(lambda: ipc.running == 1)
        disabling = asyncio.create_task(ring.host.main.disable("lab"))
        while not (told := [record for record in renderer.receive() if record.kind == DEACTIVATE]):
            await asyncio.sleep(0.001)
        assert ipc.running == 1  # what it still asks for is answered
        renderer.send(RESULT, correlation=told[0].correlation)
        record = await renderer.outcome(correlation)
        assert "was deactivated in main while its handler ran" in str(rebuild(record.body))
        await disabling
        assert (ipc.running, ipc.cancelled) == (0, ["not taken back"])
        renderer.close()
        await renderer.over()


async def test_deactivating_an_extension_ends_what_its_part_in_a_renderer_waits_for(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s") as host, RendererProcess.connect(tmp_path / "s"):
        ipc, in_main = lab.IpcRenderer.get_instance(), host.ipc
        asked = ipc.invoke("sleep", 60, "taken back")
        await until(lambda: in_main.running == 1)
        ended: list[object] = []
        in_main.extension.disposers.callback(lambda: ended.append(in_main.running))
        (port,) = host.main._core.ports.values()
        answered: list[int] = []
        (connection,) = host.main._core.connections.values()
        forget = connection.cancel_invokes_of
        connection.cancel_invokes_of = lambda port: (answered.append(len(connection.running)), forget(port))  # type: ignore
        await host.main.disable("lab")
        assert set(answered) == {0}  # the renderer had taken it back by then
        with pytest.raises(NoHandlerError, match="'lab' was deactivated here while main was asked"):
            await asked
        assert (in_main.cancelled, ended, len(port.stopping)) == (["taken back"], [0], 0)


async def test_a_handler_that_closes_its_own_connection_is_not_awaited() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        started = []

        async def rest() -> None:
            started.append(True)
            await asyncio.sleep(60)

        def last(event: Any) -> Any:
            host.main._core.disconnect(host.main._core.connections[event.frame_id], "for the test")
            return rest()

        host.ipc.handle("last", last)
        asking = asyncio.create_task(host.ipc.run(renderer, "invoke", "last"))
        await renderer.wait()
        assert started == []
        asking.cancel()


async def test_handlers_run_concurrently_and_outcomes_come_as_they_are_ready() -> None:
    async with hosting(1) as host:
        order = await host.ipc.run(host.renderers[0], "lab:invoke_two_sleeps")
        assert order == ["short", "long"]


async def test_arrays_in_results_are_writable_and_owned() -> None:
    async with hosting(1) as host:
        host.ipc.handle("zeros", lambda _event, count: np.zeros(count))
        assert await host.ipc.run(host.renderers[0], "lab:fill_result", "zeros", 100_000)


async def test_a_task_that_is_cancelled_before_its_first_step_cancels_its_invoke() -> None:
    async with hosting(1) as host:
        assert await host.ipc.run(host.renderers[0], "lab:cancel_unstarted", "sleep", 60, "never awaited") == 0
        await until(lambda: host.ipc.running == 0)


@pytest.mark.parametrize("way", ["plain", "awaited", "at_once"])
async def test_whatever_a_handler_raises_its_caller_is_told_and_the_host_lives_on(way: str) -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        host.ipc.handle("raise", getattr(raising, way))
        for how, (_, name) in raising.HOW.items():
            error = await host.ipc.run(renderer, "invoke_error", "raise", (how,), 60)
            assert error["remote_type"] == name
            assert "RemoteError" in error["types"]
            assert len(error["remote_message"]) < 70_000
            assert len(error["remote_traceback"]) < 70_000
            assert await host.ipc.run(renderer, "invoke", "echo", 1) == (1,)


async def test_argparse_in_a_handler_ends_nothing() -> None:
    async with hosting(1) as host:
        host.ipc.handle("parse", lambda _event, *words: argparse.ArgumentParser().parse_args(words))
        error = await host.ipc.run(host.renderers[0], "invoke_error", "parse", ("--no-such-option",))
        assert (error["remote_type"], error["args"]) == ("SystemExit", (2,))


@pytest.mark.parametrize("way", ["plain", "awaited", "at_once"])
async def test_whatever_a_listener_raises_in_main_or_in_a_renderer_all_live_on(way: str) -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        host.ipc.listen("raise", getattr(raising, way))
        host.ipc.note("raise")
        await host.ipc.run(renderer, "lab:listen_to", "raise", f"raising:{way}")
        await host.ipc.run(renderer, "note", "raise")
        for how in raising.HOW:
            host.ipc.broadcast("raise", how)
        assert len(await host.ipc.run(renderer, "hear", "raise", len(raising.HOW))) == len(raising.HOW)
        await until(lambda: len(host.ipc.heard["raise"]) == len(raising.HOW))
        assert await host.ipc.run(renderer, "invoke", "echo", 1) == (1,)


class Unclonable:
    """Its clone cannot be made, for code of its own leaves."""

    def __reduce__(self) -> str:
        raise SystemExit("in __reduce__")


async def test_an_exit_in_the_code_of_a_result_is_its_outcome() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        host.ipc.handle("odd", lambda _event: Unclonable())
        await host.ipc.run(renderer, "lab:outcome", "odd")
        assert await host.ipc.run(renderer, "invoke", "echo", 1) == (1,)


@pytest.mark.parametrize("kind", [OutboxFull, DataCloneError, NotActivatedError, HandlerExistsError])
async def test_an_error_of_lensipc_that_a_handler_meets_is_caught_by_its_type(kind: type[Exception]) -> None:
    async with hosting(1) as host:

        def fail(_event: object) -> None:
            raise kind("in main")

        host.ipc.handle("raise", fail)
        error = await host.ipc.run(host.renderers[0], "invoke_error", "raise", ())
        assert {"RemoteError", kind.__name__} <= set(error["types"])
        assert error["args"] == ("in main",)


@pytest.mark.parametrize("kind", [PeerGone, InvokeTimeout, NoHandlerError])
async def test_an_outcome_of_another_request_is_not_taken_for_this_ones(kind: type[Exception]) -> None:
    async with hosting(1) as host:

        def fail(_event: object) -> None:
            raise kind("of another renderer")

        def give(_event: object) -> asyncio.Future[None]:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.set_exception(kind("of another renderer"))  # which was never raised
            return future

        host.ipc.handle("raise", fail)
        host.ipc.handle("give", give)
        for channel in ("raise", "give"):
            error = await host.ipc.run(host.renderers[0], "invoke_error", channel, ())
            assert "RemoteError" in error["types"]
            assert kind.__name__ not in error["types"]
            assert kind.__bases__[-1].__name__ in error["types"]


async def test_more_invokes_than_may_be_in_flight_are_caught_as_outbox_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lensipc.main.connection.MAX_INVOKES", 10)
    async with hosting(1) as host:
        assert await host.ipc.run(host.renderers[0], "lab:count_refused", "sleep", 0.2, 15) == 5


@pytest.mark.parametrize("arguments", [(), (1, 2)])
async def test_a_handler_that_does_not_take_the_event_is_told_so(arguments: tuple[int, ...]) -> None:
    async with hosting(1) as host:
        host.ipc.handle("add", functools.partial(lambda: 1))  # which nobody looks into when it is registered
        host.ipc.handle("inner", lambda _event, *_args: (lambda: 1)(1))  # type: ignore[call-arg]
        error = await host.ipc.run(host.renderers[0], "invoke_error", "add", arguments)
        assert "TypeError" in error["types"]
        assert f"called with the event first and then {len(arguments)} arguments" in error["text"]
        error = await host.ipc.run(host.renderers[0], "invoke_error", "inner", arguments)
        assert error["text"].endswith("takes 0 positional arguments but 1 was given")


class Anything(dict):  # type: ignore[type-arg]
    """Has every attribute, as the results of some libraries have."""

    def __getattr__(self, name: str) -> Any:
        return self.get(name)


async def test_a_result_that_has_every_attribute_is_no_awaitable() -> None:
    async with hosting(1) as host:
        host.ipc.handle("anything", lambda _event: Anything(a=1))
        assert await host.ipc.run(host.renderers[0], "invoke", "anything") == {"a": 1}


INTERRUPTED = """
    import asyncio, signal, sys
    sys.path[:] = {path!r}
    import lab
    from lensipc import MainProcess

    def plain(event):
        signal.raise_signal(signal.SIGINT)

    async def awaited(event):
        await asyncio.sleep(0)
        signal.raise_signal(signal.SIGINT)

    def by_terminate(event):
        signal.raise_signal(signal.SIGTERM)

    async def host():
        async with MainProcess({socket!r}) as main:
            await main.install(lab.MANIFEST)
            lab.IpcMain.get_instance().handle("interrupt", {handler})
            print("ready", flush=True)
            await asyncio.sleep(60)

    def leave(*_):
        raise SystemExit("terminated")

    signal.signal(signal.SIGTERM, leave)
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(host())  # where no Runner takes the first Ctrl-C for a cancellation
    except (KeyboardInterrupt, SystemExit) as error:
        print(type(error).__name__, flush=True)
        input()
"""


@pytest.mark.parametrize(
    ("handler", "kind"),
    [("plain", "KeyboardInterrupt"), ("awaited", "KeyboardInterrupt"), ("by_terminate", "SystemExit")],
)
async def test_what_a_signal_raises_in_a_handler_ends_the_host_when_the_outcome_has_been_sent(
    tmp_path: Path, handler: str, kind: str
) -> None:
    code = textwrap.dedent(INTERRUPTED).format(path=sys.path, socket=str(tmp_path / "s"), handler=handler)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        async with RendererProcess.connect(tmp_path / "s"):
            import lab

            with pytest.raises(RemoteError) as caught:
                await lab.IpcRenderer.get_instance().invoke("interrupt", timeout=60)
            assert caught.value.remote_type == kind
            assert process.stdout.readline() == f"{kind}\n"
            process.kill()  # it waits in input()


async def test_an_invoke_that_waits_for_activation_is_answered_though_main_was_busy_past_its_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lensipc.main.connection.ACTIVATION_WAIT", 0.2)
    manifest = ExtensionManifest("blocked", "1", main="starting:BlockedMain", renderer="starting:SlowRenderer")
    async with hosting(1) as host:
        starting.answered.clear()
        await host.main.install(manifest)
        assert starting.answered == ["answered", "async answered"]


async def test_a_renderer_that_was_busy_past_its_timeout_has_the_answer_that_is_there() -> None:
    async with hosting(1) as host:
        assert await host.ipc.run(host.renderers[0], "lab:invoke_and_be_busy", "echo", 5) == [(5,)] * 20


async def test_who_gives_up_on_a_task_that_others_wait_for_too_does_not_end_it_for_them() -> None:
    async with hosting(2) as host:
        shared = asyncio.ensure_future(asyncio.sleep(1, "shared"))

        class Shared:
            def __await__(self) -> Any:
                return shared.__await__()

        host.ipc.handle("shared", lambda _event: shared)
        host.ipc.handle("in an object", lambda _event: Shared())
        patient = [
            asyncio.create_task(host.ipc.run(host.renderers[0], "invoke", name)) for name in ("shared", "in an object")
        ]
        for name in ("shared", "in an object"):
            error = await host.ipc.run(host.renderers[1], "invoke_error", name, (), 0.05)
            assert "InvokeTimeout" in error["types"]
            assert await host.ipc.run(host.renderers[1], "lab:cancel_invoke", name)
        assert await asyncio.gather(*patient) == ["shared"] * 2
        assert await host.ipc.run(host.renderers[1], "invoke", "shared") == "shared"


async def test_what_a_handler_sets_in_a_context_variable_no_other_message_sees() -> None:
    async with hosting(2) as host:
        user: contextvars.ContextVar[Any] = contextvars.ContextVar("user", default="nobody")

        def log_in(_event: Any, name: Any) -> Any:
            before = user.get()
            user.set(np.array([name] * 3))  # what cannot be compared
            return before

        async def later(_event: Any) -> Any:
            return user.get()

        def then(_event: Any) -> Any:
            user.set("the handler's")
            return later(_event)

        host.ipc.handle("log in", log_in)
        host.ipc.handle("later", later)
        host.ipc.handle("then", then)
        host.ipc.listen("event", lambda _event, *_: seen.append(log_in(_event, "listener")))
        host.ipc.listen("event", lambda _event, *_: seen.append(user.get()[0]))  # the same message
        seen: list[Any] = []
        for _ in range(2):
            for renderer in host.renderers:
                assert await host.ipc.run(renderer, "invoke", "log in", "one") == "nobody"
                assert await host.ipc.run(renderer, "invoke", "later") == "nobody"
                assert await host.ipc.run(renderer, "invoke", "then") == "the handler's"
                await host.ipc.run(renderer, "broadcast", "event", 2)
        host.ipc.broadcast("event")
        await until(lambda: len(seen) == 18)
        assert seen == ["nobody", "listener"] * 9


async def test_what_a_handler_sets_in_a_context_variable_no_invoke_that_waited_sees(tmp_path: Path) -> None:
    starting.answered.clear()
    async with MainProcess(tmp_path / "s") as main, RendererProcess.connect(tmp_path / "s"):
        await main.install(
            ExtensionManifest("slow", "1", main="starting:LoggingInMain", renderer="starting:LoggingInRenderer")
        )
        assert starting.answered == ["nobody"] * 3


async def test_a_handler_sees_what_was_set_before_main_was_entered() -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user")
    user.set("the host's")
    async with hosting(1) as host:

        def log_in(_event: Any) -> str:
            before = user.get()
            user.set("another")
            return before

        host.ipc.handle("log in", log_in)
        for _ in range(3):
            assert await host.ipc.run(host.renderers[0], "invoke", "log in") == "the host's"


TIMES = [-math.inf, -1e300, -1, -(10**400), 0, 1e-300, True, math.inf, 1e300, 10**400]


async def test_large_events_that_come_while_timeouts_are_judged_end_no_renderer() -> None:
    async with hosting(1, high_water=65_536, outbox_limit=4 << 20) as host:
        (renderer,) = host.renderers
        await host.ipc.run(renderer, "note_sizes", "n")
        asking = asyncio.ensure_future(host.ipc.run(renderer, "ask_in_vain", 0.8))
        array, sent = np.ones(3 << 20, np.uint8), 0
        while not asking.done() and host.main.renderers:
            host.ipc.broadcast("n", array)
            sent += 1
            await host.ipc.drain()
        assert host.main.renderers == [renderer]
        assert await asking > 100
        while len(await host.ipc.run(renderer, "heard", "n")) < sent:
            await asyncio.sleep(0.01)


async def test_whatever_timeout_is_asked_for_those_that_follow_come(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s") as host, RendererProcess.connect(tmp_path / "s"):
        ipc = lab.IpcRenderer.get_instance()
        timeout: Any
        for timeout in [*TIMES, decimal.Decimal("0.01"), fractions.Fraction(1, 100), np.float32(0.01)]:
            asking = ipc.invoke("sleep", 60, repr(timeout), timeout=timeout)
            if timeout > 1e10:
                await ipc.invoke("echo")
                assert not asking.done()
                asking.cancel()
            else:
                with pytest.raises(InvokeTimeout):
                    await asking
            with pytest.raises(InvokeTimeout):
                await ipc.invoke("sleep", 60, "after", timeout=0.01)
        for nonsense in (math.nan, "1", b"1", [], 1j, decimal.Decimal("nan"), object()):
            with pytest.raises((TypeError, ValueError), match="timeout"):
                ipc.invoke("sleep", 60, "nonsense", timeout=nonsense)  # type: ignore[call-overload]
        await until(lambda: host.ipc.running == 0)
        assert "nonsense" not in host.ipc.cancelled


async def test_a_type_that_one_side_alone_has_registered_is_its_invokes_outcome_and_disconnects_nobody() -> None:
    forget = coins.know("main's coin")
    try:
        async with hosting(1) as host:
            (renderer,) = host.renderers
            host.ipc.handle("coin", lambda _event: coins.Coin(5))
            result = await host.ipc.run(renderer, "invoke_error", "coin", ())
            assert "UnknownValueError" in result["types"]
            assert 'nothing is registered here as "main\'s coin"' in result["text"]
            await host.ipc.run(renderer, "coins:know_here", "coin")
            request = await host.ipc.run(renderer, "coins:ask")
            assert request == [
                "RemoteError",
                "lensipc.errors.UnknownValueError",
                "nothing is registered here as 'coin'",
            ]
            assert await host.ipc.run(renderer, "invoke", "echo", 1) == (1,)
            assert host.main.renderers == [renderer]
    finally:
        forget()
