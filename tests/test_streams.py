"""Guarantee 13: a stream's items come in order, not too far ahead of their reader, and its generator ends once."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import contextvars
import functools
import logging
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import hostile
import lab
import numpy as np
import pytest
import reading
from hosting import Host, hosting, plain_hosting, script, until

from lensipc import ExtensionManifest, PeerGone, RendererProcess, Types, clone
from lensipc.main import streams
from lensipc.runtime.protocol import CANCEL, CREDIT, ERROR, INVOKE, ITEMS, RESULT, STREAM

KINDS = ("plain", "async")


class Generator:
    """Yields 0, 1, 2, ... and notes what becomes of it. It is kept, so that no garbage collector closes it."""

    def __init__(self, count: int = 10**9, error: BaseException | None = None, sleeps: int = -1) -> None:
        self.count, self.error, self.sleeps = count, error, sleeps
        self.begun = self.produced = self.finished = 0
        self.kept: list[Any] = []
        self.made: Callable[[int], Any] = lambda number: number

    def plain(self, _event: Any) -> Iterator[int]:
        self.begun += 1
        try:
            for number in range(self.count):
                self.produced += 1
                yield self.made(number)
            if self.error is not None:
                raise self.error
        finally:
            self.finished += 1

    async def async_(self, _event: Any) -> AsyncIterator[int]:
        self.begun += 1
        try:
            for number in range(self.count):
                if number == self.sleeps:
                    await asyncio.sleep(3600)
                self.produced += 1
                yield self.made(number)
            if self.error is not None:
                raise self.error
        finally:
            await asyncio.sleep(0)
            self.finished += 1

    def of(self, kind: str) -> Callable[..., Any]:
        function: Callable[..., Any] = self.plain if kind == "plain" else self.async_

        @functools.wraps(function)
        def keep(event: Any) -> Any:
            self.kept.append(function(event))
            return self.kept[-1]

        return keep


def numbers(kind: str) -> Callable[..., Any]:
    """A handler that yields 0, 1, 2, ... up to a count, quickly."""

    def plain(_event: Any, count: int) -> Iterator[int]:
        yield from range(count)

    async def async_(_event: Any, count: int) -> AsyncIterator[int]:
        for number in range(count):
            if number % 1000 == 999:
                await asyncio.sleep(0)
            yield number

    return plain if kind == "plain" else async_


async def run(host: Host, function: str, *args: Any) -> Any:
    """Run a function of reading.py in the first renderer."""
    return await host.ipc.run(host.renderers[0], f"reading:{function}", *args)


def running(host: Host) -> int:
    """The requests of all renderers that main works at."""
    return sum(len(each.running) for each in host.main._core.connections.values())


# ---- the three ways of driving a renderer ----


@pytest.mark.parametrize("kind", KINDS)
async def test_all_items_come_in_order_on_asyncio(kind: str) -> None:
    async with hosting(1) as host:
        host.ipc.handle("numbers", numbers(kind))
        for count in (0, 1, 63, 64, 65, 10_000):
            assert await run(host, "read", "numbers", count) == list(range(count))
        assert running(host) == 0


@pytest.fixture
async def plain_host(tmp_path: Path) -> AsyncIterator[Host]:
    """A host whose lab has only plain functions in its renderer part."""
    async with plain_hosting(tmp_path / "s") as host:
        yield host


@pytest.mark.parametrize("wakeup", ["socket", "semaphore"])
async def test_all_items_come_in_order_in_a_script_that_keeps_events_meanwhile(plain_host: Host, wakeup: str) -> None:
    unread, left = Generator(), Generator()
    for kind in KINDS:
        plain_host.ipc.handle(f"{kind} numbers", numbers(kind))
    plain_host.ipc.handle("unread", unread.plain)
    plain_host.ipc.handle("left", left.async_)
    plain_host.ipc.handle("never", Generator(sleeps=0).async_)
    plain_host.ipc.listen("ready", lambda _event: list(map(functools.partial(plain_host.ipc.broadcast, "n"), range(3))))
    out = await script(
        plain_host,
        f"""
        import asyncio
        with RendererProcess.connect(path, wakeup={wakeup!r}) as renderer:
            ipc = plain.Ipc.get_instance()
            heard = []
            ipc.listen("n", lambda event, n: heard.append((n, list(ipc.stream("plain numbers", n)))))
            ipc.broadcast("ready")
            for kind in ("plain", "async"):
                for count in (0, 1, 64, 10_000):
                    assert [*ipc.stream(kind + " numbers", count)] == [*range(count)]
            both = zip(ipc.stream("plain numbers", 500), ipc.stream("async numbers", 500, read_ahead=1))
            assert [*both] == [(number, number) for number in range(500)]
            assert heard == []
            while len(heard) < 3:
                renderer.dispatch(10)
            assert heard == [(0, []), (1, [0]), (2, [0, 1])], heard
            with ipc.stream("unread") as stream:
                assert [next(stream), ipc.invoke_sync("echo", 1), next(stream)] == [0, (1,), 1]
            assert list(stream) == []
            for number in ipc.stream("left"):
                if number == 100:
                    break
            try:
                next(ipc.stream("never", timeout=0.05))
            except InvokeTimeout as error:
                assert str(error) == "stream of lab/never had no item within 0.05 s", error
            try:
                asyncio.run(anext(ipc.stream("unread")))
            except RuntimeError as error:
                assert "this process runs no asyncio loop: use `for` or `take()`" in str(error)
            try:
                next(ipc.stream("echo"))
            except TypeError as error:
                assert isinstance(error, RemoteError)
            ipc.invoke_sync("echo")
            print("good")
        """,
    )
    assert out == "good\n"
    await until(lambda: (unread.finished, left.finished) == (unread.begun, 1))


async def test_a_foreign_loop_takes_what_its_dispatches_have_received(plain_host: Host) -> None:
    one = Generator(5)
    for kind in KINDS:
        plain_host.ipc.handle(f"{kind} numbers", numbers(kind))
        plain_host.ipc.handle(f"{kind} failing", Generator(3, ValueError("after three")).of(kind))
    plain_host.ipc.handle("one", one.plain)
    out = await script(
        plain_host,
        """
        with RendererProcess.connect(path) as renderer:
            ipc = plain.Ipc.get_instance()

            def read(channel, *args, read_ahead):
                taken, stream = [], ipc.stream(channel, *args, read_ahead=read_ahead)
                stream.take()
                while not stream.ended:
                    select.select([renderer], [], [])
                    renderer.dispatch()
                    taken += stream.take()
                return taken

            for kind in ("plain", "async"):
                assert read(kind + " numbers", 5_000, read_ahead=64) == [*range(5_000)]
                assert read(kind + " numbers", 100, read_ahead=1) == [*range(100)]
                stream = ipc.stream(kind + " failing")
                taken = []
                try:
                    while True:
                        renderer.dispatch(1)
                        taken += stream.take()
                except ValueError as error:
                    assert (taken, error.args, stream.ended) == ([0, 1, 2], ("after three",), True)
            stream = ipc.stream("one", read_ahead=0)
            ipc.invoke_sync("echo")
            taken = []
            while not stream.ended:
                taken.append(stream.take())
                renderer.dispatch(10)
            assert [each for each in taken if each] == [[0], [1], [2], [3], [4]], taken
            print("good")
        """,
    )
    assert (out, one.finished) == ("good\n", 1)


async def test_items_come_once_though_a_signals_handler_raises_as_they_are_received(plain_host: Host) -> None:
    plain_host.ipc.handle("numbers", numbers("plain"))
    out = await script(
        plain_host,
        """
        class Interrupted(KeyboardInterrupt):
            pass

        from lensipc.runtime.streams import Incoming

        add, adding = Incoming.add, 0

        def interrupted_add(self, message):  # as a signal may interrupt it: before it, or after it
            global adding
            adding += 1
            if adding % 5 == 1:
                raise Interrupted
            result = add(self, message)
            if adding % 5 == 3:
                raise Interrupted
            return result

        Incoming.add = interrupted_add
        with RendererProcess.connect(path) as renderer:
            ipc = plain.Ipc.get_instance()
            taken, times, stream = [], 0, ipc.stream("numbers", 300_000, read_ahead=1000)
            while not stream.ended:
                try:
                    renderer.dispatch(1)
                except Interrupted:
                    times += 1
                taken += stream.take()
            assert taken == [*range(300_000)]
            assert times > 100, times
            print("good")
        """,
    )
    assert out == "good\n"


@pytest.mark.parametrize("way", ["take", "for"])
async def test_what_ctrl_c_interrupts_in_a_stream_leaves_no_gap_and_ends_it_at_most(plain_host: Host, way: str) -> None:
    """Ctrl-C at each line of the reader's own code, one after the other."""
    plain_host.ipc.handle("numbers", numbers("plain"))
    out = await script(
        plain_host,
        f"""
        from lensipc.runtime.streams import Stream

        def interrupt_at(place):
            global left
            left = place

            def trace(frame, event, _arg):
                global left
                if type(frame.f_locals.get("self")) is not Stream:
                    return None
                if event != "return" and sys.exc_info()[0] is None:  # not while it ends already
                    left -= 1
                    if not left:
                        sys.settrace(None)
                        raise KeyboardInterrupt
                return trace

            sys.settrace(trace)

        def read(stream, taken):
            while not stream.ended:
                if {way!r} == "for":
                    for number in stream:
                        taken.append(number)
                else:
                    taken += stream.take()
                    renderer.dispatch(0.001)

        with RendererProcess.connect(path) as renderer:
            ipc = plain.Ipc.get_instance()
            place, left, whole = 0, 0, 0
            while left <= 0:
                place += 1
                taken, stream = [], ipc.stream("numbers", 12, read_ahead=6)
                try:
                    interrupt_at(place)
                    read(stream, taken)
                except KeyboardInterrupt:
                    read(stream, taken)
                finally:
                    sys.settrace(None)
                assert taken == [*range(len(taken))], (place, taken)
                whole += taken == [*range(12)]
            assert place > 100 and 1 < whole < place, (place, whole)
            print("good")
        """,
    )
    assert out == "good\n"


# ---- ahead ----


@pytest.mark.parametrize("kind", KINDS)
async def test_a_generator_is_ahead_of_its_reader_by_so_many_items_at_most(kind: str) -> None:
    generators = []
    async with hosting(1) as host:
        for read_ahead, count in [(0, 0), (0, 3), (1, 0), (1, 3), (2, 3), (8, 3), (1000, 1)]:
            generators.append(generator := Generator())
            dispose = host.ipc.handle("numbers", generator.of(kind))
            assert await run(host, "read_some", "numbers", count, read_ahead) == list(range(count))
            for _ in range(10):
                await host.ipc.run(host.renderers[0], "invoke", "echo")
            most = count + read_ahead
            assert most - read_ahead // 2 <= generator.produced <= most
            assert (generator.begun, generator.finished) == (most > 0, 0)
            dispose()
    assert all(generator.finished == generator.begun for generator in generators)


@pytest.mark.parametrize("outbox_limit", [64 * 1024 * 1024, 512 * 1024])
async def test_a_reader_that_is_busy_costs_main_no_more_than_the_low_water_mark_and_an_item(outbox_limit: int) -> None:
    high_water = 1024 * 1024
    most = 0

    def large(_event: Any, count: int) -> Iterator[bytes]:
        nonlocal most
        for number in range(count):
            (connection,) = host.main._core.connections.values()
            most = max(most, connection.endpoint.outbox)
            yield bytes([number % 256]) * 65536

    async with hosting(1, high_water=high_water, outbox_limit=outbox_limit) as host:
        host.ipc.handle("large", large)
        assert await run(host, "block_and_count", "large", 300, 0.3) == 300
    assert 64 * 1024 < most <= min(high_water, outbox_limit) // 4  # when an item is produced


async def test_async_generators_that_are_woken_together_keep_to_the_low_water_mark_all_together() -> None:
    """A renderer by hand, which does not read."""
    wake, woken = asyncio.Event(), 0

    async def burst(_event: Any) -> AsyncIterator[bytes]:
        nonlocal woken
        await wake.wait()
        woken += 1
        for _ in range(15):
            yield bytes(1000)
        await asyncio.sleep(3600)

    async with hostile.arena() as ring:
        ring.host.ipc.handle("burst", burst)
        renderer = await ring.connect()
        channel = renderer.declare("burst")
        for _ in range(500):
            renderer.send(STREAM, channel, 4000, correlation=renderer.next_id(), body=clone.encode(()))
        await renderer.parked()
        core = ring.host.main._core
        (connection,) = [each for each in core.connections.values() if each.running]
        wake.set()
        await until(lambda: woken == 500)
        await asyncio.sleep(0.01)
        most = connection.endpoint.outbox
        assert core.low_water < most <= core.low_water + streams.BYTES_TOGETHER + streams.ALONE
        assert most < core.high_water
        renderer.close()
        await renderer.over()


async def test_async_generators_that_are_woken_together_go_on_for_one_turn_in_a_round_of_the_loop() -> None:
    """Counts, and no times: how many items are produced between two rounds of the loop."""
    wake, produced, most = asyncio.Event(), 0, 0

    async def busy(_event: Any) -> AsyncIterator[int]:
        nonlocal produced
        await wake.wait()
        for number in range(100):
            until = time.thread_time() + 0.00002
            while time.thread_time() < until:
                pass
            produced += 1
            yield number

    async with hosting(1) as host:
        host.ipc.handle("busy", busy)
        for _ in range(80):
            await run(host, "read_some", "busy", 0, 1000)
        await until(lambda: running(host) == 80)
        wake.set()
        while produced < 8000:
            before = produced
            await asyncio.sleep(0)
            most = max(most, produced - before)
    assert most < 700, most  # 80 bursts of 0.5 ms each: 2,000


async def test_a_thousand_streams_at_once_each_have_their_own_items() -> None:
    def rows(_event: Any, number: int, count: int) -> Iterator[Any]:
        yield from ((number, place) for place in range(count))

    async def async_rows(_event: Any, number: int, count: int) -> AsyncIterator[Any]:
        for place in range(count):
            if place == number % 7:
                await asyncio.sleep(0)
            yield number, place

    async with hosting(1) as host:
        host.ipc.handle("rows", rows)
        host.ipc.handle("async rows", async_rows)
        assert await run(host, "read_a_thousand", "rows", 20)
        assert await run(host, "read_a_thousand", "async rows", 20)
        assert running(host) == 0


async def test_generators_that_are_busy_all_the_time_keep_nobody_waiting_and_renderers_take_turns() -> None:
    """Counts, and no times: how many items all of them produce between two invokes of a neighbour, and for whom."""
    produced: collections.Counter[int] = collections.Counter()
    counts: list[int] = []

    def busy(event: Types.IpcMainInvokeEvent) -> Iterator[int]:
        while True:
            until = time.thread_time() + 0.0005
            while time.thread_time() < until:
                pass
            produced[event.frame_id] += 1
            yield produced[event.frame_id]

    async def async_busy(event: Types.IpcMainInvokeEvent) -> AsyncIterator[int]:
        for each in busy(event):
            yield each

    async with hosting(2) as host:
        greedy, modest = host.renderers
        host.ipc.handle("busy", busy)
        host.ipc.handle("async busy", async_busy)
        host.ipc.handle("count", lambda _event: counts.append(produced.total()))
        for channel in ("busy", "async busy") * 20:
            await host.ipc.run(greedy, "reading:read_some", channel, 0, 65_536)
        for _ in range(20):
            await host.ipc.run(modest, "invoke", "count")
        for channel in ("busy", "async busy"):
            produced.clear()
            await host.ipc.run(modest, "reading:read_some", channel, 0, 65_536)
            await until(lambda: produced[modest.frame_id] >= 30)
            assert produced[greedy.frame_id] < 300  # they are 40 to 1, and have a turn each
        await greedy.close()
    between = [later - earlier for earlier, later in pairwise(counts)]
    assert max(between) < 100, between  # 40 streams had 50 ms each if each of them had a turn of its own
    assert counts[-1] > 40


async def test_the_other_tasks_of_a_reader_have_their_turns() -> None:
    async with hosting(1) as host:
        host.ipc.handle("numbers", numbers("plain"))
        assert await run(host, "read_while_others_run", "numbers", 200_000) > 100


# ---- ends ----

ENDS = {
    "end": [0, 1, 2],
    "break": None,
    "async with": None,
    "let go": None,
    "let go in a thread": None,
    "cancel": ["CancelledError"],
    "timeout": None,
}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_generator_ends_once_and_soon_however_its_reader_ends(kind: str) -> None:
    async with hosting(1) as host:
        for how, expected in ENDS.items():
            never = how in ("cancel", "timeout")
            if never and kind == "plain":  # one that yields nothing blocks main
                continue
            generator = Generator(3 if how == "end" else 10**9, sleeps=1 if never else -1)
            dispose = host.ipc.handle("numbers", generator.of(kind))
            came = await run(host, "end", how, "numbers")
            if how == "timeout":
                assert "InvokeTimeout" in came[0]
                assert came[1] == "stream of lab/numbers had no item within 0.05 s"
            else:
                assert came == expected
            await until(lambda generator=generator: generator.finished)
            await host.ipc.run(host.renderers[0], "invoke", "echo")
            assert (generator.begun, generator.finished, running(host)) == (1, 1, 0)
            dispose()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["kill", "close", "disable", "uninstall", "leave"])
async def test_a_generator_ends_once_and_soon_whatever_becomes_of_its_reader_and_its_extension(
    kind: str, how: str
) -> None:
    generator = Generator()
    finished_before: list[int] = []
    async with hosting(1) as host:
        (renderer,) = host.renderers
        host.ipc.handle("numbers", generator.of(kind))
        host.ipc.extension.disposers.callback(lambda: finished_before.append(generator.finished))
        assert await run(host, "end", "keep", "numbers") == 0
        assert (generator.begun, generator.finished) == (1, 0)
        if how == "kill":
            renderer.kill()
            await renderer.wait()
        elif how == "close":
            await renderer.close()
        elif how == "disable":
            await host.main.disable("lab")
        elif how == "uninstall":
            await host.main.uninstall("lab")
        if how != "leave":
            await until(lambda: generator.finished)
    assert (generator.begun, generator.finished, finished_before) == (1, 1, [1])


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_that_is_closed_before_it_began_never_begins(kind: str) -> None:
    generator = Generator()
    async with hosting(1) as host:
        host.ipc.handle("numbers", generator.of(kind))
        gone = [0, [], True, "<Stream stream of lab/numbers, ended>"]
        assert await run(host, "open_and_close", "numbers", 0) == gone
        assert (generator.begun, running(host)) == (0, 0)
        assert await run(host, "open_and_close", "numbers", 64) == gone  # which may begin before it is closed
        await until(lambda: generator.finished == generator.begun)
        assert running(host) == 0


async def test_a_stream_that_comes_while_main_is_activating_waits_and_one_that_is_given_up_meanwhile_never_begins() -> (
    None
):
    reading.begun.clear()
    reading.told.clear()
    async with hosting(1) as host:
        await host.main.install(
            ExtensionManifest("early", "1", main="reading:EarlyMain", renderer="reading:EarlyRenderer")
        )
        assert (reading.told, reading.begun) == ([[1, 2, 3]], ["read"])


@pytest.mark.parametrize("kind", KINDS)
async def test_all_items_before_an_error_come_before_it(kind: str) -> None:
    generator = Generator(1000, ValueError("after", 1000))
    async with hosting(1) as host:
        host.ipc.handle("numbers", generator.of(kind))
        items, types, text = await run(host, "read_until_error", "numbers")
        assert items == list(range(1000))
        assert {"RemoteError", "ValueError"} <= set(types)
        assert text == "('after', 1000)"
        assert (generator.finished, running(host)) == (1, 0)


@pytest.mark.parametrize("kind", KINDS)
async def test_whatever_a_generator_raises_is_its_readers_error_and_the_host_lives_on(kind: str) -> None:
    async with hosting(1) as host:
        for error in (
            StopIteration(1),
            StopAsyncIteration(),
            GeneratorExit(),
            asyncio.CancelledError(),
            SystemExit(3),
            KeyboardInterrupt(),
        ):
            generator = Generator(3, error)
            dispose = host.ipc.handle("numbers", generator.of(kind))
            items, types, _ = await run(host, "read_until_error", "numbers")
            assert items == [0, 1, 2]
            assert "RemoteError" in types
            assert await host.ipc.run(host.renderers[0], "invoke", "echo", 1) == (1,)
            assert (generator.finished, running(host)) == (1, 0)
            dispose()


@pytest.mark.parametrize("kind", KINDS)
async def test_an_item_that_cannot_be_cloned_ends_the_stream_and_the_generator(kind: str) -> None:
    generator = Generator()
    generator.made = lambda number: number if number != 1 else {"cb": print}
    async with hosting(1) as host:
        host.ipc.handle("rows", generator.of(kind))
        items, types, text = await run(host, "read_until_error", "rows")
        assert items == [0]
        await until(lambda: generator.finished)
        assert (generator.begun, generator.finished) == (1, 1)
        assert {"RemoteError", "DataCloneError"} <= set(types)
        assert "item['cb'] is a" in text


async def test_what_a_generator_raises_as_it_is_closed_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def raises(_event: Any) -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise LookupError("as it is closed")

    def yields(_event: Any) -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            yield 2

    async def async_raises(_event: Any) -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            raise LookupError("as it is closed")

    async def async_yields(_event: Any) -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            yield 2

    async with hosting(1) as host:
        for handler in (raises, yields, async_raises, async_yields):
            caplog.clear()
            host.ipc.handle(handler.__name__, handler)
            await run(host, "end", "async with", handler.__name__)
            await until(lambda: caplog.records)
            (record,) = caplog.records
            expected = f"generator of lab/{handler.__name__} raised when it was closed"
            assert (record.levelno, record.getMessage()) == (logging.ERROR, expected)
            assert running(host) == 0


async def test_a_generator_that_catches_its_cancellation_and_goes_on_is_ended_all_the_same() -> None:
    caught, finished = [], []

    async def stubborn(_event: Any) -> AsyncIterator[int]:
        try:
            yield 0
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    caught.append(True)
                yield 1
        finally:
            finished.append(True)

    async with hosting(1) as host:
        host.ipc.handle("stubborn", stubborn)
        await run(host, "end", "async with", "stubborn")
        await until(lambda: finished)
        assert (caught, finished) == ([True], [True])


async def test_a_generator_may_end_its_own_renderer() -> None:
    finished: list[str] = []

    async def last(_event: Any) -> AsyncIterator[int]:
        try:
            yield 0
            (handle,) = host.main.renderers
            await handle.close()
            yield 1
            yield 2
        finally:
            finished.append("async")

    def plain_last(event: Any) -> Iterator[int]:
        try:
            yield 0
            host.main._core.disconnect(host.main._core.connections[event.frame_id], "for the test")
            yield 1
            yield 2
        finally:
            finished.append("plain")

    async with hosting(1) as host:
        (renderer,) = host.renderers
        host.ipc.handle("last", last)
        asking = asyncio.create_task(run(host, "read", "last"))
        await renderer.wait()
        await until(lambda: finished)
        asking.cancel()
        host.renderers = [await host.main.spawn_renderer()]
        host.ipc.handle("plain last", plain_last)
        asking = asyncio.create_task(run(host, "read", "plain last"))
        await until(lambda: len(finished) == 2)
        asking.cancel()
    assert finished == ["async", "plain"]


async def test_when_main_ends_a_reader_has_what_had_come_and_then_peer_gone(tmp_path: Path) -> None:
    generator = Generator(10, sleeps=5)
    async with contextlib.AsyncExitStack() as stack:
        host = await stack.enter_async_context(hosting(path=tmp_path / "s"))
        await stack.enter_async_context(RendererProcess.connect(tmp_path / "s"))
        host.ipc.handle("numbers", generator.async_)
        stream = lab.IpcRenderer.get_instance().stream("numbers")
        assert await anext(stream) == 0
        await until(lambda: generator.produced == 5)
        (connection,) = host.main._core.connections.values()
        host.main._core.disconnect(connection, "for the test")
        assert [await anext(stream) for _ in range(4)] == [1, 2, 3, 4]
        with pytest.raises(PeerGone, match="for the test"):
            await anext(stream)
        assert [item async for item in stream] == []
        await until(lambda: generator.finished == 1)


async def test_deactivating_a_part_in_a_renderer_ends_its_streams_as_its_invokes(tmp_path: Path) -> None:
    generator = Generator(10, sleeps=1)
    ended = []
    async with hosting(path=tmp_path / "s") as host, RendererProcess.connect(tmp_path / "s"):
        host.ipc.handle("numbers", generator.async_)

        async def read() -> None:
            try:
                async for item in lab.IpcRenderer.get_instance().stream("numbers"):
                    ended.append(item)
            except LookupError as error:
                ended.append(str(error))
                raise

        task = asyncio.create_task(read())
        await until(lambda: ended == [0])
        await host.main.disable("lab")
        await asyncio.wait([task])
        assert task.cancelled()  # as one that awaits an invoke
        assert ended == [0, "extension 'lab' was deactivated here while main was asked"]
        assert generator.finished == 1


# ---- what an item is ----


@pytest.mark.parametrize("kind", KINDS)
async def test_an_item_is_what_it_was_when_it_was_yielded(kind: str) -> None:
    def plain(_event: Any) -> Iterator[Any]:
        row: dict[str, Any] = {"done": 0, "of": [0] * 5}
        for number in range(200):
            row["done"] = number
            row["of"][0] = number
            yield row

    async def async_(event: Any) -> AsyncIterator[Any]:
        for each in plain(event):
            yield each

    async with hosting(1) as host:
        host.ipc.handle("rows", plain if kind == "plain" else async_)
        assert await run(host, "read", "rows") == [{"done": n, "of": [n, 0, 0, 0, 0]} for n in range(200)]


async def test_arrays_and_small_items_come_in_one_order_and_arrays_can_be_written_to() -> None:
    def rows(_event: Any, count: int) -> Iterator[Any]:
        for number in range(count):
            yield number
            yield np.full(1 << number, number, np.uint8)

    async with hosting(1) as host:
        host.ipc.handle("rows", rows)
        expected = [each for number in range(18) for each in (number, (number + 1) << number)]
        assert await run(host, "read_arrays", "rows", 18) == expected


async def test_an_item_of_a_type_that_its_reader_does_not_know_ends_the_stream_after_those_before_it() -> None:
    class Known:
        pass

    generator = Generator()

    def rows(event: Any) -> Iterator[Any]:
        for number in generator.plain(event):
            yield number if number != 5 else Known()

    async with hosting(1) as host:
        undo = clone.register(Known, "known to main only", lambda _value: 1, lambda _value: Known())
        try:
            host.ipc.handle("rows", rows)
            outcome = await run(host, "read_what_is_unknown", "rows")
        finally:
            undo()
        assert outcome == ([0, 1, 2, 3, 4], "UnknownValueError", True)
        await until(lambda: generator.finished == 1)


async def test_arguments_can_be_transferred() -> None:
    def rows(_event: Any, data: bytearray) -> Iterator[Any]:
        yield data

    async with hosting(1) as host:
        host.ipc.handle("rows", rows)
        assert await run(host, "empty_what_is_transferred", "rows") == (0, [bytearray(b"transferred")])


# ---- handlers that fit and that do not ----


async def test_an_invoke_of_a_generator_and_a_stream_of_a_plain_handler_are_errors_that_run_nothing() -> None:
    ran = []

    def rows(_event: Any) -> Iterator[int]:
        ran.append("rows")
        yield 1

    async def async_rows(_event: Any) -> AsyncIterator[int]:
        ran.append("async rows")
        yield 1

    async def coroutine(_event: Any) -> None:
        ran.append("coroutine")

    async with hosting(1) as host:
        (renderer,) = host.renderers
        for name, handler in {"rows": rows, "async rows": async_rows}.items():
            host.ipc.handle(name, handler)
            error = await host.ipc.run(renderer, "invoke_error", name, ())
            assert {"RemoteError", "TypeError"} <= set(error["types"])
            assert f"the handler of channel '{name}' of extension 'lab' is a generator" in error["text"]
            assert f"`ipc.stream('{name}', ...)`" in error["text"]
        plain: dict[str, Callable[..., Any]] = {
            "plain": lambda _event: ran.append("plain"),
            "coroutine": coroutine,
            "builtin": print,
        }
        for name, handler in plain.items():
            host.ipc.handle(name, handler)
            items, types, text = await run(host, "read_until_error", name)
            assert items == []
            assert {"RemoteError", "TypeError"} <= set(types)
            assert f"the handler of channel '{name}' of extension 'lab' is no generator function" in text
            assert f"`ipc.invoke('{name}', ...)`" in text
        _, types, text = await run(host, "read_until_error", "nobody")
        assert "NoHandlerError" in types
        assert "'nobody'" in text
        assert (ran, running(host)) == ([], 0)


async def test_a_generator_function_is_known_in_whatever_it_is_wrapped() -> None:
    def rows(event: Any, first: int, second: int) -> Iterator[int]:
        assert event.channel
        yield first
        yield second

    @functools.wraps(rows)
    def wrapped(*args: Any) -> Iterator[int]:
        return rows(*args)

    class Rows:
        def __call__(self, _event: Any, first: int, second: int) -> Iterator[int]:
            yield first
            yield second

        async def method(self, _event: Any, first: int, second: int) -> AsyncIterator[int]:
            yield first
            yield second

    handlers: dict[str, Callable[..., Any]] = {
        "wrapped": wrapped,
        "object": Rows(),
        "method": Rows().method,
        "partial": functools.partial(Rows().method, second=2),
        "managed": contextlib.contextmanager(rows),
        "awaited": functools.wraps(rows)(lab.invoke),
    }
    async with hosting(1) as host:
        for name, handler in handlers.items():
            host.ipc.handle(name, handler)
        for name in ("wrapped", "object", "method"):
            assert await run(host, "read", name, 1, 2) == [1, 2]
        assert await run(host, "read", "partial", 1) == [1, 2]
        _, types, text = await run(host, "read_until_error", "managed", (1, 2))
        assert "TypeError" in types
        assert "gave no generator, but _GeneratorContextManager" in text
        _, types, text = await run(host, "read_until_error", "awaited", (1, 2))
        assert "is no generator function" in text
        _, types, text = await run(host, "read_until_error", "object", (1,))
        assert "TypeError" in types
        assert "it is called with the event first and then 1 argument of the message" in text


async def test_whoever_asks_wrongly_is_told_and_nothing_is_sent() -> None:
    generator = Generator()
    async with hosting(1) as host:
        host.ipc.handle("numbers", generator.plain)
        errors = await run(host, "ask_wrongly", "numbers")
        assert errors[:4] == [
            "ValueError: read_ahead is from 0 to 65536 items, not -1",
            "ValueError: read_ahead is from 0 to 65536 items, not 65537",
            "TypeError: read_ahead is a number of items, not bool",
            "TypeError: read_ahead is a number of items, not float",
        ]
        assert errors[4] == "TypeError: a timeout is a number of seconds or None, not str"
        assert errors[5].startswith("ValueError: ")
        assert "DataCloneError" in errors[6]
        assert errors[7].startswith("DataCloneError: args[0] is a")
        assert errors[8].startswith("RuntimeError: stream of lab/numbers: `for` would block this process's event loop")
        assert errors[9].startswith("RuntimeError: stream was called in thread ")
        assert errors[10] == "0 pending"
        await until(lambda: generator.finished == generator.begun)
        assert generator.begun <= 1  # of the one that was not iterated


async def test_a_second_task_that_wants_an_item_at_once_is_told() -> None:
    async def rows(_event: Any) -> AsyncIterator[int]:
        await asyncio.sleep(0.05)
        yield 7

    async with hosting(1) as host:
        host.ipc.handle("rows", rows)
        first, second = await run(host, "read_in_two_tasks", "rows")
        assert first == "7"
        assert second == "stream of lab/rows: another task waits for the next item already: one at a time may"


async def test_a_timeout_is_for_each_item_and_not_for_all() -> None:
    async def rows(_event: Any) -> AsyncIterator[int]:
        for number in range(5):
            await asyncio.sleep(0.1)
            yield number

    async with hosting(1) as host:
        host.ipc.handle("rows", rows)
        assert await run(host, "read_with", "rows", {"timeout": 0.4}) == ([0, 1, 2, 3, 4], None, None)
        items, types, _ = await run(host, "read_with", "rows", {"timeout": -1})
        assert items == []
        assert "InvokeTimeout" in types


async def test_a_reader_that_was_busy_past_its_timeout_has_the_items_that_came_meanwhile() -> None:
    async def rows(_event: Any) -> AsyncIterator[int]:
        for number in range(3):
            await asyncio.sleep(0.05)
            yield number

    async with hosting(1) as host:
        host.ipc.handle("rows", rows)
        assert await run(host, "read_and_be_busy", "rows") == [0, 1, 2]


async def test_a_generators_context_variables_are_its_own_in_all_its_steps() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)

    def plain(_event: Any, value: int, count: int) -> Iterator[int]:
        variable.set(value)
        for _ in range(count):
            yield variable.get()

    async def async_(_event: Any, value: int, count: int) -> AsyncIterator[int]:
        variable.set(value)
        for _ in range(count):
            yield variable.get()

    async with hosting(1) as host:
        host.ipc.handle("get", lambda _event: variable.get())
        for name, handler in {"plain": plain, "async": async_}.items():
            host.ipc.handle(name, handler)
            asked = [run(host, "read", name, value, 300) for value in range(1, 5)]
            assert await asyncio.gather(*asked) == [[value] * 300 for value in range(1, 5)]
            assert await host.ipc.run(host.renderers[0], "invoke", "get") == 0


# ---- what a hostile renderer asks for ----


async def test_main_sends_no_more_than_the_credit_and_one_end_of_each_stream() -> None:
    """A renderer by hand: what it is sent, message by message."""
    async with hostile.arena() as ring:
        ipc, renderer = ring.host.ipc, await ring.connect()
        ipc.handle("numbers", numbers("plain"))
        channel = renderer.declare("numbers")

        def sent(correlation: int) -> list[Any]:
            kinds = (ITEMS, RESULT, ERROR)
            return [(m.kind, m.items) for m in renderer.inbox if m.correlation == correlation and m.kind in kinds]

        ids = [renderer.next_id() for _ in range(3)]
        for correlation in ids:
            renderer.send(STREAM, channel, 4, correlation=correlation, body=clone.encode((9,)))
        await renderer.parked()
        renderer.receive()
        of = {each: sent(each) for each in ids}
        assert of == {each: [(ITEMS, 2), (ITEMS, 2)] for each in ids}
        renderer.send(CANCEL, correlation=ids[0])
        renderer.send(CANCEL, correlation=ids[0])
        for credit in (2, 2, 4):
            renderer.send(CREDIT, 0, credit, correlation=ids[1])
            renderer.send(CREDIT, 0, 77, correlation=ids[0])  # it has ended: whatever is sent for it is dropped
        renderer.send(CREDIT, 0, 4, correlation=ids[2])
        await renderer.parked()
        renderer.receive()
        of = {each: sent(each)[2:] for each in ids}
        assert of[ids[0]] == []
        assert of[ids[1]] == [(ITEMS, 2), (ITEMS, 2), (ITEMS, 1), (RESULT, 0)]
        assert of[ids[2]] == [(ITEMS, 2), (ITEMS, 2)]
        renderer.close()
        await renderer.over()


async def test_streams_count_among_the_invokes_of_which_a_renderer_may_have_so_many() -> None:
    async with hostile.arena() as ring:
        ipc, renderer = ring.host.ipc, await ring.connect()
        generator = Generator()
        ipc.handle("numbers", generator.plain)
        channel = renderer.declare("numbers")
        for _ in range(hostile.renderer.MAX_INVOKES + 3):
            renderer.send(STREAM, channel, 1, correlation=renderer.next_id(), body=clone.encode(()))
        await renderer.parked()
        renderer.receive()
        assert generator.begun == hostile.renderer.MAX_INVOKES
        assert sum(message.kind == ERROR for message in renderer.inbox) == 3
        renderer.close()
        await renderer.over()
        assert generator.finished == generator.begun


@pytest.mark.parametrize("kind", [STREAM, INVOKE], ids=["streams", "invokes"])
async def test_a_request_that_was_cancelled_counts_among_those_in_flight_until_its_handler_has_ended(kind: int) -> None:
    go, begun, ended = asyncio.Event(), 0, 0

    async def handler(_event: Any) -> None:
        nonlocal begun, ended
        begun += 1
        try:
            await asyncio.sleep(3600)
        finally:
            await go.wait()
            ended += 1

    async def generator(event: Any) -> AsyncIterator[None]:
        await handler(event)
        yield

    async with hostile.arena() as ring:
        renderer, most = await ring.connect(), hostile.renderer.MAX_INVOKES
        ring.host.ipc.handle("slow to end", generator if kind == STREAM else handler)
        channel = renderer.declare("slow to end")

        async def ask(count: int) -> list[int]:
            ids = [renderer.next_id() for _ in range(count)]
            for correlation in ids:
                renderer.send(kind, channel, kind == STREAM, correlation=correlation, body=clone.encode(()))
            await renderer.parked()
            return ids

        ids = await ask(most)
        await until(lambda: begun == most)
        for correlation in ids:
            renderer.send(CANCEL, correlation=correlation)
        await ask(3)
        renderer.receive()
        assert sum(message.kind == ERROR for message in renderer.inbox) == 3
        assert (begun, ended) == (most, 0)
        go.set()
        await until(lambda: ended == most)
        await ask(most)
        await until(lambda: begun == 2 * most)
        renderer.close()
        await renderer.over()


def test_what_is_no_handler_at_all_is_no_generator_function() -> None:
    assert not streams.is_generator_function(len)
    assert not streams.is_generator_function(int)
    assert streams.is_generator_function(numbers("plain"))


async def test_what_a_signal_raises_in_a_generator_ends_the_host_when_its_reader_has_been_told() -> None:
    code = """
    import asyncio, os, signal, sys
    import lab
    from lensipc import MainProcess

    finished = []

    def rows(_event):
        try:
            yield 1
            os.kill(os.getpid(), signal.SIGINT)
            yield 2
        finally:
            finished.append(True)

    async def main():
        async with MainProcess() as host:
            await host.install(lab.MANIFEST)
            renderer = await host.spawn_renderer()
            ipc = lab.IpcMain.get_instance()
            ipc.handle("rows", rows)
            await ipc.run(renderer, "reading:read", "rows")

    signal.signal(signal.SIGINT, signal.default_int_handler)
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(main())
    except KeyboardInterrupt:
        assert finished == [True], finished
        print("interrupted", flush=True)
        os._exit(0)
    """
    header = f"import sys; sys.path[:] = {sys.path!r}\n"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", header + textwrap.dedent(code), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert out == b"interrupted\n"
