"""Guarantee 5: frames arrive once and in order; nothing is dropped silently; sending never blocks."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import beside
import hostile
import lab
import numpy as np
import pytest
from hosting import Host, hosting, until

from lensipc import (
    DataCloneError,
    ExtensionManifest,
    InvokeTimeout,
    OutboxFull,
    PeerGone,
    RendererProcess,
    Types,
    clone,
)
from lensipc.runtime.protocol import ALL, EVENT, LISTEN

SMALL = {"high_water": 64 * 1024, "outbox_limit": 1024 * 1024}  # bytes


@asynccontextmanager
async def one_that_reads_by_hand() -> AsyncIterator[tuple[hostile.Arena, hostile.Renderer]]:
    """An arena, and a renderer that listens to "n" and takes what comes when the test calls `receive`."""
    async with hostile.arena() as ring:
        renderer = await ring.connect()
        renderer.send(LISTEN, renderer.declare("n"))
        await renderer.parked()
        yield ring, renderer
        renderer.close()
        await renderer.over()


def fill(ipc: lab.IpcRenderer) -> int:
    """Broadcast 0, 1, 2, ... while main does not run, until the outbox is full; how many were sent."""
    for number in range(1_000_000):
        try:
            ipc.broadcast("n", number)
        except OutboxFull:
            return number
    raise AssertionError("the outbox has no limit")


async def test_draining_keeps_main_at_its_receivers_pace() -> None:
    async with hosting(2, **SMALL) as host:
        for renderer in host.renderers:
            await host.ipc.run(renderer, "note", "n")
        for number in range(30_000):  # some four times what ring and outbox hold
            host.ipc.broadcast("n", number)
            if number % 50 == 0:
                await host.ipc.drain()
        for renderer in host.renderers:
            got = await host.ipc.run(renderer, "hear", "n", 30_000)
            assert got == [(0, number, 0) for number in range(30_000)]


@pytest.mark.parametrize("where", ["main", "renderer"])
async def test_who_drains_without_end_lets_the_loop_run(where: str) -> None:
    async with hosting(1) as host:
        if where == "main":
            assert await beside.rounds_while_draining(host.ipc) > 100
        else:
            assert await host.ipc.run(host.renderers[0], "beside:rounds_while_draining") > 100


async def test_draining_keeps_a_renderer_at_the_pace_of_those_who_hear_it() -> None:
    async with hosting(3, **SMALL) as host:
        sender, *others = host.renderers
        for renderer in others:
            await host.ipc.run(renderer, "note", "n")
        await host.ipc.run(sender, "broadcast", "n", 30_000)
        for renderer in others:
            got = await host.ipc.run(renderer, "hear", "n", 30_000)
            assert got == [(sender.frame_id, number, 0) for number in range(30_000)]


async def test_a_receiver_that_stays_too_slow_is_disconnected_and_the_others_hear_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with hosting(2, **SMALL) as host:
        slow, fast = host.renderers
        for renderer in host.renderers:
            await host.ipc.run(renderer, "note", "n")
        os.kill(slow.pid, signal.SIGSTOP)
        for number in range(30_000):
            host.ipc.broadcast("n", number)
            if number % 50 == 0:
                await host.ipc.drain()
        assert host.main.renderers == [fast]
        assert "reads too slowly" in caplog.text
        assert len(await host.ipc.run(fast, "hear", "n", 30_000)) == 30_000
        os.kill(slow.pid, signal.SIGCONT)
        assert await slow.wait() == 0  # it ends by itself


@pytest.mark.parametrize("when_slow", ["drop_newest", "drop_oldest", "keep_newest"])
async def test_a_channel_may_drop_events_of_a_slow_receiver_which_sees_how_many(when_slow: str) -> None:
    async with hosting(2, **SMALL) as host:
        slow, fast = host.renderers
        await host.ipc.run(slow, "note", "n", when_slow)
        await host.ipc.run(fast, "note", "n")
        os.kill(slow.pid, signal.SIGSTOP)
        for number in range(30_000):
            host.ipc.broadcast("n", number)
            if number % 50 == 0:
                await host.ipc.drain()
        os.kill(slow.pid, signal.SIGCONT)
        await host.ipc.drain()
        host.ipc.broadcast("n", "last")
        assert (await host.ipc.run(fast, "hear", "n", 30_001))[-1] == (0, "last", 0)
        await asyncio.sleep(0.2)
        host.ipc.broadcast("n", "really last")
        got: list[Any] = []
        while not got or got[-1][1] != "really last":
            got = await host.ipc.run(slow, "heard", "n")
        missed = sum(entry[2] for entry in got)
        assert missed > 0
        assert len(got) + missed == 30_002  # sent = delivered + dropped
        numbers = [entry[1] for entry in got if isinstance(entry[1], int)]
        assert numbers == sorted(set(numbers))
        if when_slow != "keep_newest":  # there "last" may have come in its place
            assert (29_999 in numbers) == (when_slow == "drop_oldest")


async def test_a_renderer_that_sends_without_draining_is_told_and_loses_nothing(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s", **SMALL) as host, RendererProcess.connect(tmp_path / "s"):
        ipc = lab.IpcRenderer.get_instance()
        host.ipc.note("n")
        sent = fill(ipc)
        await ipc.drain()
        ipc.broadcast("n", sent)
        await until(lambda: len(host.ipc.heard["n"]) == sent + 1)
        assert [number for _, number in host.ipc.heard["n"]] == list(range(sent + 1))


async def test_a_drain_ends_when_main_is_gone(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s", **SMALL) as host, RendererProcess.connect(tmp_path / "s"):
        ipc = lab.IpcRenderer.get_instance()
        fill(ipc)
        draining = asyncio.create_task(ipc.drain())
        await asyncio.sleep(0)
        host.main._core.disconnect(next(iter(host.main._core.connections.values())), "for the test")
        with pytest.raises(PeerGone, match="for the test"):
            await draining


async def test_mains_drain_ends_when_the_one_that_it_waits_for_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lensipc.main.backpressure.HOLD", 600.0)  # whoever is held is held for ever
    async with hosting(1, **SMALL) as host:
        (stopped,) = host.renderers
        await host.ipc.run(stopped, "note_count", "n")
        os.kill(stopped.pid, signal.SIGSTOP)
        for _ in range(8):  # what ring and high-water mark hold, and not what the outbox does
            host.ipc.broadcast("n", bytes(100_000))
        draining = asyncio.create_task(host.ipc.drain())
        await asyncio.sleep(0.1)
        assert not draining.done()
        stopped.kill()
        await draining


async def test_a_large_message_on_its_way_holds_its_sender_back_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lensipc.main.backpressure.HOLD", 600.0)
    async with hosting(2, **SMALL) as host:
        stopped, sender = host.renderers
        await host.ipc.run(stopped, "note_count", "n")
        os.kill(stopped.pid, signal.SIGSTOP)
        sending = asyncio.create_task(host.ipc.run(sender, "broadcast_and_pause", "n", 4_000_000))
        await asyncio.wait([sending], timeout=1)
        assert not sending.done()  # what it reports waits behind its event
        os.kill(stopped.pid, signal.SIGCONT)
        await sending
        await host.ipc.run(stopped, "wait_count", "n", 1)


async def test_one_that_trickles_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "lensipc.main.backpressure.HOLD", 0.5
    )  # in which it takes something however slow this machine is
    async with one_that_reads_by_hand() as (ring, renderer):
        ring.host.ipc.broadcast("n", bytes(1 << 26))
        draining = asyncio.create_task(ring.host.ipc.drain())
        for _ in range(60):  # it takes a ring's worth each time, a quarter of the mark, and three or four in HOLD
            if draining.done():
                break
            renderer.receive()
            await asyncio.sleep(0.15)
        assert draining.done()
        assert ring.host.main._core.backpressure.is_lagging(renderer.main_end)


async def test_one_that_does_nothing_for_a_moment_is_waited_for_by_a_sender_that_drains() -> None:
    async with hosting(1, **SMALL) as host:
        (renderer,) = host.renderers
        await host.ipc.run(renderer, "note_count", "n")
        sent, stood_still = 0, 1.0
        while stood_still > 0.9:  # again, if this machine was too busy to let it go on in time
            began = time.monotonic()
            os.kill(renderer.pid, signal.SIGSTOP)  # as one that imports numpy for its first array, say
            going_on = threading.Timer(0.3, os.kill, (renderer.pid, signal.SIGCONT))
            going_on.start()
            while going_on.is_alive():
                host.ipc.broadcast("n", bytes(100_000))
                sent += 1
                await host.ipc.drain()
            going_on.join()
            stood_still = time.monotonic() - began
        assert host.main.renderers == [renderer]
        await host.ipc.run(renderer, "wait_count", "n", sent)


async def test_one_that_was_too_slow_and_has_read_all_has_its_time_again() -> None:
    async with hosting(1, **SMALL) as host:
        (renderer,) = host.renderers
        await host.ipc.run(renderer, "note", "n")
        os.kill(renderer.pid, signal.SIGSTOP)
        for _ in range(8):
            host.ipc.broadcast("n", bytes(100_000))
        await host.ipc.drain()
        (connection,) = host.main._core.connections.values()
        assert host.main._core.backpressure.is_lagging(connection)
        os.kill(renderer.pid, signal.SIGCONT)
        assert await host.ipc.run(renderer, "count_heard", "n", 8) == 8
        os.kill(renderer.pid, signal.SIGSTOP)
        sent = burst(host)
        assert host.main.renderers == [renderer]
        os.kill(renderer.pid, signal.SIGCONT)
        await host.ipc.drain()
        host.ipc.broadcast("n", "after")
        assert await host.ipc.run(renderer, "count_heard", "n", 8 + sent + 1) == 8 + sent + 1
        assert await host.ipc.run(renderer, "missed", "n") == 0  # nobody was sent what was refused


def burst(host: Host) -> int:
    """Broadcast until main refuses: how many were sent."""
    for sent in range(1000):
        try:
            host.ipc.broadcast("n", bytes(100_000))
        except OutboxFull:
            return sent
    raise AssertionError("it is not refused")


async def test_one_that_once_had_something_waiting_has_its_time_all_the_same() -> None:
    async with hosting(1, high_water=1024 * 1024, outbox_limit=4 * 1024 * 1024) as host:
        (renderer,) = host.renderers
        await host.ipc.run(renderer, "note_count", "n")
        os.kill(renderer.pid, signal.SIGSTOP)
        for _ in range(4):  # of which the last waits behind another
            host.ipc.broadcast("n", bytes(100_000))
        os.kill(renderer.pid, signal.SIGCONT)
        await host.ipc.run(renderer, "wait_count", "n", 4)
        await asyncio.sleep(1.1)  # longer than it takes to be too slow
        os.kill(renderer.pid, signal.SIGSTOP)
        sent = burst(host)
        assert host.main.renderers == [renderer]
        os.kill(renderer.pid, signal.SIGCONT)
        await host.ipc.drain()
        await host.ipc.run(renderer, "wait_count", "n", 4 + sent)


async def test_one_that_reads_on_while_something_always_waits_has_its_time() -> None:
    async with one_that_reads_by_hand() as (ring, renderer):
        end = renderer.main_end
        until_then = time.monotonic() + 1.3  # longer than it takes to be too slow
        while time.monotonic() < until_then:
            while end.endpoint.outbox < 400_000:
                ring.host.ipc.broadcast("n", bytes(10_000))
            renderer.receive()
            await asyncio.sleep(0)
        burst(ring.host)
        await asyncio.sleep(0)
        assert not renderer.gone


async def test_the_answer_to_an_activation_is_sent_over_a_full_outbox(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with hosting(path=tmp_path / "s", **SMALL) as host:
        async with RendererProcess.connect(tmp_path / "s"):
            await host.main.install(ExtensionManifest("full", "1", renderer="starting:FullRenderer"))
            assert await lab.IpcRenderer.get_instance().invoke("echo", 1) == (1,)
        await host.main.uninstall("full")
        async with RendererProcess.connect(tmp_path / "s"):
            await host.main.install(ExtensionManifest("full", "1", renderer="starting:FullAndFailingRenderer"))
            assert "starting:FullAndFailingRenderer" in caplog.text
            assert "raised ValueError: it will not" in caplog.text


async def test_a_report_is_sent_over_a_full_outbox(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s", **SMALL) as host, RendererProcess.connect(tmp_path / "s") as process:
        ipc = lab.IpcRenderer.get_instance()
        (connection,) = host.main._core.connections.values()
        fill(ipc)
        process._entered._report_sender(77)
        await ipc.drain()
        await ipc.invoke("echo")
        assert connection.reports == 1


async def test_a_message_far_larger_than_the_outboxs_limit_goes_through() -> None:
    async with hosting(1, **SMALL) as host:
        array = np.arange(5_000_000)
        await host.ipc.run(host.renderers[0], "note", "n")
        host.ipc.broadcast("n", array)
        (got,) = await host.ipc.run(host.renderers[0], "hear", "n", 1)
        assert np.array_equal(got[1], array)


async def test_one_that_reads_at_a_pace_holds_its_senders_back_while_a_large_message_is_on_its_way() -> None:
    """256 MiB took longer to read than it might hold anyone back, so the next ones met the outbox's limit."""
    async with one_that_reads_by_hand() as (ring, renderer):
        ring.host.ipc.broadcast("n", bytes(1 << 26))
        draining = asyncio.create_task(ring.host.ipc.drain())
        for _ in range(200):  # 0.4 s at least, in which it takes 12 MiB
            renderer.receive()
            await asyncio.sleep(0.002)
        assert not draining.done()
        await draining  # it reads no more, so nobody waits for it any longer
        assert ring.host.main._core.backpressure.is_lagging(renderer.main_end)


@pytest.mark.parametrize("kind", ["array", "texts", "objects"])
async def test_a_message_larger_than_main_allows_is_refused_at_its_sender_and_the_channel_stays_usable(
    tmp_path: Path, kind: str
) -> None:
    """An array goes to C as it is, texts are written there, and objects by the pickler."""
    made: dict[str, Any] = {
        "array": lambda n: np.zeros(n, np.uint8),
        "texts": lambda n: ["x" * 100] * (n // 100),
        "objects": lambda n: [SimpleNamespace(text=b"x" * n)],
    }
    async with (
        hosting(path=tmp_path / "s", message_limit=100_000) as host,
        RendererProcess.connect(tmp_path / "s") as process,
    ):
        ipc = lab.IpcRenderer.get_instance()
        host.ipc.note("n")
        events: list[Any] = []
        ipc.listen("asked", lambda event, *_: events.append(event))
        await ipc.invoke("echo")  # so main knows that it listens
        host.ipc.broadcast("asked")
        await until(lambda: events)
        large, small = made[kind](200_000), made[kind](60_000)
        memory = np.zeros(200_000, np.uint8)
        refused = r"args are 2\d{5} bytes as a message, and main takes 100000 of a renderer: MainProcess\(message_l"
        for send in (
            lambda: ipc.broadcast("n", large),
            lambda: events[0].reply("n", large),
            lambda: ipc.invoke("echo", large),
            lambda: ipc.broadcast("n", memory, transfer=[memory]),
            lambda: ipc.invoke("echo", memory, transfer=[memory]),
        ):
            with pytest.raises(DataCloneError, match=refused):
                send()
        assert len(memory) == 200_000  # nothing was sent, so it is its owner's still
        assert not list(process._core.pending_invokes)  # type: ignore[union-attr]
        ipc.broadcast("n", small)
        await ipc.invoke("echo", small)
        assert len(host.ipc.heard["n"]) == 1
        assert len(host.main.renderers) == 1


async def test_a_message_as_large_as_main_allows_is_taken_and_one_byte_more_is_not(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s", message_limit=100_000) as host, RendererProcess.connect(tmp_path / "s"):
        ipc = lab.IpcRenderer.get_instance()
        host.ipc.note("n")
        room = 100_000 - len(clone.encode((np.zeros(70_000, np.uint8),))) + 70_000
        ipc.broadcast("n", np.zeros(room, np.uint8))
        with pytest.raises(DataCloneError, match="args are 100001 bytes"):
            ipc.broadcast("n", np.zeros(room + 1, np.uint8))
        await until(lambda: host.ipc.heard["n"])
        assert [len(array) for _, array in host.ipc.heard["n"]] == [room]


async def test_an_array_that_is_too_large_is_refused_in_a_renderer_of_its_own_too() -> None:
    async with hosting(1, message_limit=100_000) as host:
        (renderer,) = host.renderers
        with pytest.raises(AssertionError, match="DataCloneError: args are 200128 bytes"):
            await host.ipc.run(renderer, "invoke_array", 200_000)
        assert await host.ipc.run(renderer, "invoke_array", 50_000)
        assert host.main.renderers == [renderer]


async def test_two_that_flood_each_other_and_drain_are_both_heard() -> None:
    async with hosting(2, high_water=256 * 1024, outbox_limit=4 * 1024 * 1024) as host:
        for renderer in host.renderers:
            await host.ipc.run(renderer, "note_count", "n")
        await asyncio.gather(*(host.ipc.run(each, "broadcast_large", "n", 3000) for each in host.renderers))
        for renderer in host.renderers:
            await host.ipc.run(renderer, "wait_count", "n", 6000)


async def test_a_renderers_turn_in_main_ends_soon_whatever_its_messages_take(tmp_path: Path) -> None:
    """Small invokes of a handler that takes 1 ms: of some 2 ms, not of 64 messages."""
    async with hosting(path=tmp_path / "s") as host, RendererProcess.connect(tmp_path / "s"):
        called: list[int] = []

        def slow(_event: object, number: int) -> None:
            until = time.perf_counter() + 0.001
            while time.perf_counter() < until:
                pass
            called.append(number)

        host.ipc.handle("slow", slow)
        ipc = lab.IpcRenderer.get_instance()
        asked = [ipc.invoke("slow", number) for number in range(200)]
        turns = [0]
        while turns[-1] < 200:
            await asyncio.sleep(0)  # others' turn
            turns.append(len(called))
        await asyncio.gather(*asked)
        assert max(after - before for before, after in itertools.pairwise(turns)) <= 8


async def test_what_main_relays_unread_counts_in_its_senders_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lensipc.main.core.TURN_TIME", 0.0)
    async with hostile.arena() as ring:
        renderer = await ring.connect()
        channel = renderer.declare("news")
        await renderer.parked()
        for _ in range(200):
            renderer.send(EVENT, channel, ALL, body=b"")
        relay_status = renderer.main_end.endpoint.relay_status
        calls: list[int] = []

        def counted() -> int:
            calls.append(1)
            return relay_status()

        renderer.main_end.endpoint.relay_status = counted
        assert ring.host.main._core._serve(renderer.main_end)
        assert renderer.main_end.overdue
        assert len(calls) == 1  # of the C core, which hands out 64
        renderer.close()
        await renderer.over()


async def test_what_must_not_be_lost_is_sent_over_a_full_outbox(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s", **SMALL) as host, RendererProcess.connect(tmp_path / "s"):
        ipc = lab.IpcRenderer.get_instance()
        heard: list[object] = []
        dispose = ipc.listen("gone", print)
        asked = ipc.invoke("sleep", 60, "given up", timeout=0.01)
        cancelled = ipc.invoke("sleep", 60, "cancelled")
        await asyncio.sleep(0)
        await host.ipc.drain()
        fill(ipc)
        cancelled.cancel()
        dispose()
        ipc.listen("new", lambda _event, *args: heard.append(args))
        with pytest.raises(InvokeTimeout):
            await asked
        await until(lambda: sorted(host.ipc.cancelled) == ["cancelled", "given up"])
        await ipc.drain()
        assert await ipc.invoke("echo", 1) == (1,)
        host.ipc.broadcast("gone")
        host.ipc.broadcast("new", 1)
        await until(lambda: heard)
        assert heard == [(1,)]


async def test_what_a_renderer_has_sent_is_heard_though_it_leaves_at_once(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s", **SMALL) as host:
        host.ipc.note("n")
        async with RendererProcess.connect(tmp_path / "s"):
            sent = fill(lab.IpcRenderer.get_instance())
        await until(lambda: not host.main.renderers)
        assert [number for _, number in host.ipc.heard["n"]] == list(range(sent))


class Slow:
    """An async listener in main that finishes when it is let."""

    def __init__(self, host: Host) -> None:
        self.may_finish = asyncio.Event()
        self.heard: list[Any] = []
        self.running = self.most = 0
        host.ipc.listen("slow", self._on_event)

    async def _on_event(self, _event: object, value: Any) -> None:
        self.heard.append(value)
        self.running += 1
        self.most = max(self.most, self.running)
        await self.may_finish.wait()
        self.running -= 1


async def test_a_sender_waits_while_too_many_async_listeners_of_its_events_run_and_nobody_else_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lensipc.main.connection.MAX_LISTENERS", 10)
    async with hosting(2, **SMALL) as host:
        sender, other = host.renderers
        slow = Slow(host)
        sending = asyncio.create_task(host.ipc.run(sender, "broadcast", "slow", 5000))
        await until(lambda: slow.running == 10)
        for number in range(100):
            assert await host.ipc.run(other, "invoke", "echo", number) == (number,)
        assert (slow.most, sending.done()) == (10, False)  # what it reports waits behind its events
        slow.may_finish.set()
        await sending
        await until(lambda: slow.running == 0)
        assert slow.heard == list(range(5000))
        assert slow.most == 10


async def test_a_sender_waits_while_async_listeners_hold_more_of_it_than_the_largest_message() -> None:
    async with hosting(1, message_limit=100_000) as host:
        slow = Slow(host)
        (sender,) = host.renderers
        sending = asyncio.create_task(host.ipc.run(sender, "tallies:flood", "slow", 60_000))
        await until(lambda: slow.running == 2)
        host.ipc.broadcast("enough")
        await asyncio.sleep(0.1)  # main would read on if it were to
        assert slow.most == 2
        slow.may_finish.set()
        await sending


async def test_a_sender_whose_events_take_main_long_has_its_turn_no_longer_than_others() -> None:
    async with hosting(2) as host:
        slow, quick = host.renderers
        order: list[str] = []

        def hear_slowly(*_: object) -> None:
            time.sleep(0.003)
            order.append("slow")

        host.ipc.listen("slow", hear_slowly)
        host.ipc.listen("quick", lambda *_: order.append("quick"))
        running = [
            asyncio.create_task(host.ipc.run(slow, "broadcast", "slow", 50)),
            asyncio.create_task(host.ipc.run(quick, "broadcast", "quick", 5)),
        ]
        await asyncio.sleep(0)
        time.sleep(0.5)
        await asyncio.gather(*running)
        assert order.index("quick") < 5, order
        assert (order.count("slow"), order.count("quick")) == (50, 5)


async def test_main_hears_the_end_of_a_sender_whose_events_keep_it_busy_and_all_that_it_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lensipc.main.connection.MAX_LISTENERS", 10)
    async with hosting(1) as host:
        slow = Slow(host)
        (sender,) = host.renderers
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(host.ipc.run(sender, "broadcast_and_die", "slow", 500), 0.01)
        await until(lambda: not host.main.renderers)
        assert slow.heard == list(range(500))  # fewer than a ring holds
        slow.may_finish.set()


async def test_draining_lets_other_tasks_run_and_main_hear_itself() -> None:
    async with hosting() as host:
        host.ipc.note("n")
        steps = 0

        async def other() -> None:
            nonlocal steps
            while True:
                steps += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        for number in range(100):
            host.ipc.broadcast("n", number)
            await host.ipc.drain()
            assert len(host.ipc.heard["n"]) == number + 1
        assert steps >= 100
        for number in range(1000):  # more than main hears in one turn
            host.ipc.broadcast("n", number)
        await host.ipc.drain()
        assert len(host.ipc.heard["n"]) == 1100
        task.cancel()


@pytest.mark.parametrize("main_hears", [False, True])
async def test_a_burst_is_its_senders_error_and_disconnects_nobody(main_hears: bool) -> None:
    async with hosting(2, **SMALL) as host:
        stopped, fast = host.renderers
        for renderer in host.renderers:
            await host.ipc.run(renderer, "note_count", "n")
        if main_hears:
            host.ipc.note("n")
        os.kill(stopped.pid, signal.SIGSTOP)  # for a moment: nobody reads so fast that this burst fits
        sent = 0

        def burst() -> None:
            nonlocal sent
            for _ in range(1000):
                host.ipc.broadcast("n", bytes(100_000))
                sent += 1

        with pytest.raises(OutboxFull, match=rf"bytes wait for renderer {stopped.frame_id} \(pid {stopped.pid}\)"):
            burst()
        array = np.zeros(100_000)
        for transfer in ([], [array]):  # of an event with an array, too
            with pytest.raises(OutboxFull, match="nothing was sent"):
                host.ipc.broadcast("n", array, transfer=transfer)
        assert len(array) == 100_000
        assert sent > 0
        assert host.main.renderers == host.renderers
        os.kill(stopped.pid, signal.SIGCONT)
        await host.ipc.drain()
        host.ipc.broadcast("n", "after")
        for renderer in host.renderers:  # all that was sent, and nothing of what was not
            await host.ipc.run(renderer, "wait_count", "n", sent + 1)
            assert await host.ipc.run(renderer, "count_heard", "n", sent + 1) == sent + 1
        if main_hears:
            assert len(host.ipc.heard["n"]) == sent + 1
        assert host.main.renderers == [stopped, fast]


async def test_one_that_has_had_its_time_is_disconnected_by_a_sender_that_never_drains(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with hosting(2, **SMALL) as host:
        stopped, fast = host.renderers
        for renderer in host.renderers:
            await host.ipc.run(renderer, "note_count", "n")
        os.kill(stopped.pid, signal.SIGSTOP)
        sent = refused = 0
        while len(host.main.renderers) == 2:
            try:
                host.ipc.broadcast("n", bytes(10_000))
                sent += 1
            except OutboxFull:
                refused += 1
            await asyncio.sleep(0.005)
        assert host.main.renderers == [fast]
        assert "reads too slowly" in caplog.text
        await host.ipc.run(fast, "wait_count", "n", sent)
        os.kill(stopped.pid, signal.SIGCONT)
        assert await stopped.wait() == 0


@pytest.mark.parametrize("channel", ["bytes", "async bytes"])
async def test_outcomes_that_fill_an_outbox_wait_until_a_renderer_that_was_busy_has_read_them(channel: str) -> None:
    async with hosting(2, **SMALL) as host:
        waiting: list[int] = []

        def answer(event: Types.IpcMainInvokeEvent, size: int) -> bytes:
            waiting.append(host.main._core.connections[event.frame_id].endpoint.outbox)
            return bytes(size)

        async def answer_later(event: Types.IpcMainInvokeEvent, size: int) -> bytes:
            await asyncio.sleep(0)
            return answer(event, size)

        host.ipc.handle("bytes", answer)
        host.ipc.handle("async bytes", answer_later)
        busy, other = host.renderers
        neighbour = asyncio.create_task(host.ipc.run(other, "invoke_many", "echo", 1000))
        asking = asyncio.create_task(host.ipc.run(busy, "ask_and_be_busy", channel, 300, 100_000, 0.5))
        await until(lambda: max(waiting, default=0) > 1_000_000)
        assert await neighbour  # nobody else waits
        sizes = await asking
        assert set(sizes) <= {100_000, "OutboxFull"}
        assert channel == "async bytes" or "OutboxFull" not in sizes  # handlers that ran already do not wait
        assert sizes.count(100_000) >= 10
        assert max(waiting) < 2 * 1024 * 1024 + 300_000
        assert host.main.renderers == [busy, other]
        assert await host.ipc.run(busy, "invoke", "echo", 2) == (2,)


async def test_a_renderer_that_does_not_read_what_it_has_asked_for_is_disconnected(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with hosting(2, **SMALL) as host:
        host.ipc.handle("bytes", lambda _event, size: bytes(size))
        stopped, other = host.renderers
        asking = asyncio.create_task(host.ipc.run(stopped, "ask_and_be_busy", "bytes", 300, 100_000, 60.0))
        await until(lambda: host.main.renderers == [other])  # long before that minute is over
        assert re.search(r"renderer \d+ .* it reads too slowly: \d+ bytes of outcomes wait", caplog.text)
        assert await host.ipc.run(other, "invoke", "echo", 1) == (1,)
        asking.cancel()
