"""Guarantee 2: each listener hears each broadcast once, and all processes hear them in one order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import coins
import lab
import numpy as np
import pytest
from hosting import hosting, until

from lensipc import DataCloneError, RendererProcess, Types


async def test_a_broadcast_from_main_reaches_main_itself_and_every_renderer() -> None:
    async with hosting(2) as host:
        host.ipc.note("news")
        for renderer in host.renderers:
            await host.ipc.run(renderer, "note", "news")
        host.ipc.broadcast("news", "hello", 1)
        for renderer in host.renderers:
            assert await host.ipc.run(renderer, "hear", "news", 1) == [(0, "hello", 1, 0)]
        await until(lambda: host.ipc.heard["news"])
        assert host.ipc.heard["news"] == [(0, "hello", 1)]


async def test_a_broadcast_from_a_renderer_reaches_main_the_others_and_its_sender() -> None:
    async with hosting(2) as host:
        host.ipc.note("news")
        for renderer in host.renderers:
            await host.ipc.run(renderer, "note", "news")
        sender = host.renderers[0]
        await host.ipc.run(sender, "broadcast", "news", 2)
        for renderer in host.renderers:
            expected = [(sender.frame_id, 0, 0), (sender.frame_id, 1, 0)]
            assert await host.ipc.run(renderer, "hear", "news", 2) == expected
        assert host.ipc.heard["news"] == [(sender.frame_id, 0), (sender.frame_id, 1)]


async def test_broadcasts_of_many_at_once_are_heard_everywhere_in_one_order() -> None:
    async with hosting(3) as host:
        host.ipc.note("flood")
        await asyncio.gather(*(host.ipc.run(each, "note", "flood") for each in host.renderers))
        sending = [host.ipc.run(each, "broadcast", "flood", 1000) for each in host.renderers]

        async def from_main() -> None:
            for number in range(1000):
                host.ipc.broadcast("flood", number)
                if number % 10 == 0:
                    await asyncio.sleep(0)

        await asyncio.gather(*sending, from_main())
        await until(lambda: len(host.ipc.heard["flood"]) == 4000)
        in_main = host.ipc.heard["flood"]
        for renderer in host.renderers:
            there = await host.ipc.run(renderer, "hear", "flood", 4000)
            assert [entry[:2] for entry in there] == in_main
        for frame_id in (0, *(each.frame_id for each in host.renderers)):
            assert [number for sender, number in in_main if sender == frame_id] == list(range(1000))


async def test_each_listener_has_a_clone_of_its_own() -> None:
    async with hosting(1) as host:
        got: list[Any] = []
        host.ipc.listen("list", lambda _event, value: got.append(value))
        host.ipc.listen("list", lambda _event, value: got.append(value))
        sent = [1]
        host.ipc.broadcast("list", sent)
        sent.append(2)  # after the call: not seen by anybody
        await until(lambda: len(got) == 2)
        assert got == [[1], [1]]
        assert got[0] is not got[1]


async def test_a_listener_that_raises_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async with hosting() as host:
        got: list[int] = []

        def bad(_event: Types.IpcMainEvent, _number: int) -> None:
            raise ValueError("no")

        async def bad_later(_event: Types.IpcMainEvent, _number: int) -> None:
            raise ValueError("not either")

        host.ipc.listen("n", bad)
        host.ipc.listen("n", bad_later)
        host.ipc.listen("n", lambda _event, number: got.append(number))
        for number in range(3):
            host.ipc.broadcast("n", number)
        await until(lambda: got == [0, 1, 2] and len(caplog.records) == 6)
        assert "lab/n" in caplog.text


async def test_a_broadcast_inside_a_listener_comes_after_the_one_it_answers_everywhere() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        await host.ipc.run(renderer, "note", "chain")
        host.ipc.note("chain")

        def follow(_event: object, number: int) -> None:
            if number < 5:
                host.ipc.broadcast("chain", number + 1)

        host.ipc.listen("chain", follow)
        host.ipc.broadcast("chain", 0)
        there = await host.ipc.run(renderer, "hear", "chain", 6)
        assert [entry[1] for entry in there] == list(range(6))
        await until(lambda: len(host.ipc.heard["chain"]) == 6)
        assert [entry[1] for entry in host.ipc.heard["chain"]] == list(range(6))


async def test_an_async_listener_is_awaited() -> None:
    async with hosting() as host:
        done = asyncio.Event()

        async def listener(_event: Types.IpcMainEvent) -> None:
            await asyncio.sleep(0.01)
            done.set()

        host.ipc.listen("later", listener)
        host.ipc.broadcast("later")
        await done.wait()
        await asyncio.sleep(0)
        assert host.ipc._port.table.running == set()  # nothing is kept of it


async def test_the_event_says_who_sent_it_and_where() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        events: list[Types.IpcMainEvent] = []
        host.ipc.listen("who", lambda event, *_: events.append(event))
        host.ipc.broadcast("who")
        await host.ipc.run(renderer, "broadcast", "who", 1)
        ours, theirs = events
        assert isinstance(ours, Types.IpcMainEvent)
        assert (ours.process, ours.frame_id, ours.extension, ours.channel) == ("main", 0, "lab", "who")
        assert (theirs.process, theirs.frame_id, theirs.pid) == ("renderer", renderer.frame_id, renderer.pid)
        assert await host.ipc.run(renderer, "invoke", "who") == (
            "renderer",
            renderer.pid,
            renderer.frame_id,
            "lab",
            "who",
        )


async def test_a_reply_reaches_the_sender_alone() -> None:
    async with hosting(2) as host:
        first, second = host.renderers
        for renderer in host.renderers:
            await host.ipc.run(renderer, "note", "answer")
        host.ipc.note("answer")
        host.ipc.listen("ask", lambda event, number: event.reply("answer", number + 1))
        await host.ipc.run(first, "broadcast", "ask", 1)
        assert await host.ipc.run(first, "hear", "answer", 1) == [(0, 1, 0)]
        assert await host.ipc.run(second, "heard", "answer") == []
        assert host.ipc.heard["answer"] == []
        host.ipc.broadcast("ask", 6)  # main answers itself
        await until(lambda: host.ipc.heard["answer"])
        assert host.ipc.heard["answer"] == [(0, 7)]


async def test_a_reply_between_renderers_passes_through_main_to_the_one() -> None:
    async with hosting(2) as host:
        first, second = host.renderers
        host.ipc.note("pong")
        await host.ipc.run(first, "note", "pong")
        await host.ipc.run(second, "lab:reply_to", "ping", "pong")
        await host.ipc.run(first, "broadcast", "ping", 1)
        assert await host.ipc.run(first, "hear", "pong", 1) == [(second.frame_id, 0, 0)]
        assert host.ipc.heard["pong"] == []


async def test_after_its_disposer_returned_a_listener_is_not_called() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        got: list[int] = []
        dispose = host.ipc.listen("n", lambda _event, number: got.append(number))
        host.ipc.broadcast("n", 1)
        dispose()
        dispose()  # idempotent
        host.ipc.broadcast("n", 2)
        await host.ipc.run(renderer, "note", "n")
        host.ipc.broadcast("n", 3)
        assert await host.ipc.run(renderer, "hear", "n", 1) == [(0, 3, 0)]
        await host.ipc.run(renderer, "dispose", "n")
        host.ipc.broadcast("n", 4)
        assert await host.ipc.run(renderer, "heard", "n") == [(0, 3, 0)]
        assert got == []


async def test_a_listener_may_dispose_of_another_that_is_next() -> None:
    async with hosting() as host:
        got: list[str] = []
        second: list[Any] = []

        def first(_event: object) -> None:
            got.append("first")
            second[0]()

        host.ipc.listen("n", first)
        second.append(host.ipc.listen("n", lambda _event: got.append("second")))
        host.ipc.broadcast("n")
        await until(lambda: got)
        assert got == ["first"]


async def test_a_listener_in_a_renderer_may_dispose_of_another_that_is_next() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        await host.ipc.run(renderer, "hear_twice", "n")
        host.ipc.broadcast("n")
        assert await host.ipc.run(renderer, "hear", "n", 1) == ["first"]


async def test_who_listens_again_has_missed_nothing() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        for number in range(3):
            await host.ipc.run(renderer, "note", "n")
            host.ipc.broadcast("n", number)
            host.ipc.broadcast("n", number)
            expected = [(0, each, 0) for each in range(number + 1) for _ in range(2)]
            assert await host.ipc.run(renderer, "hear", "n", len(expected)) == expected
            await host.ipc.run(renderer, "dispose", "n")
            host.ipc.broadcast("n", "that nobody there listens to")


async def test_each_listener_has_a_large_array_of_its_own() -> None:
    async with hosting(1) as host:
        got: list[Any] = []

        def take(_event: Types.IpcMainEvent, array: Any) -> None:
            got.append(array.copy())
            array.fill(7)

        host.ipc.listen("back", take)
        host.ipc.listen("back", take)
        await host.ipc.run(host.renderers[0], "lab:echo_arrays", "array", "back")
        array = np.arange(1_000_000)
        host.ipc.broadcast("array", array)
        await until(lambda: len(got) == 2)
        for arrived in got:
            assert np.array_equal(arrived, array)


async def test_what_cannot_be_transferred_raises_at_its_sender_and_nothing_is_sent(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s") as host, RendererProcess.connect(tmp_path / "s"):
        ipc = lab.IpcRenderer.get_instance()
        host.ipc.note("n")
        called: list[Any] = []
        host.ipc.handle("call", lambda _event, *args: called.append(args))
        given = bytearray(b"abc")
        with memoryview(given):
            send: Callable[[], object]
            for send in (
                lambda: host.ipc.broadcast("n", given, transfer=[given]),
                lambda: ipc.broadcast("n", given, transfer=[given]),
                lambda: ipc.invoke("call", given, transfer=[given]),
            ):
                attempts: tuple[Callable[[], Any], ...] = (send, partial(asyncio.to_thread, send))
                for attempt in attempts:
                    with pytest.raises(DataCloneError, match=r"transfer\[0\] is a bytearray whose memory is in use"):
                        await to_its_end(attempt())
        await ipc.invoke("echo")
        await host.ipc.drain()
        assert (called, host.ipc.heard["n"], bytes(given)) == ([], [], b"abc")


@pytest.mark.parametrize("size", [1000, 1_000_000])
async def test_what_another_thread_transfers_is_sent_once_and_empty_afterwards(size: int) -> None:
    async with hosting(1) as host:
        host.ipc.note("n")
        for sent in range(1, 4):
            given, array = bytearray(size), np.ones(size, np.uint8)
            await asyncio.to_thread(host.ipc.broadcast, "n", given, array, transfer=[given, array])
            assert (len(given), array.shape) == (0, (0,))
            await until(lambda sent=sent: len(host.ipc.heard["n"]) == sent)


async def to_its_end(what: Any) -> None:
    """Await what can be awaited."""
    if hasattr(what, "__await__"):
        await what


@pytest.mark.parametrize("size", [0, 1, 31_000, 33_000, 65_536, 1_000_000, 20_000_000])
async def test_arrays_of_any_size_arrive_writable_and_whole(size: int) -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        got: list[Any] = []
        host.ipc.listen("array", lambda _event, array: got.append(array))
        await host.ipc.run(renderer, "lab:echo_arrays", "array", "back")
        host.ipc.listen("back", lambda _event, array: got.append(array))
        array = np.arange(size, dtype=np.uint8)
        host.ipc.broadcast("array", array)
        await until(lambda: len(got) == 2)
        for arrived in got:
            assert arrived.dtype == array.dtype
            assert np.array_equal(arrived, array)
            arrived.fill(7)


async def test_an_unclonable_argument_raises_at_its_sender_and_the_channel_stays_usable() -> None:
    async with hosting() as host:
        host.ipc.note("n")
        with pytest.raises(DataCloneError, match=r"args\[1\]\['cfg'\]\['cb'\] is a function"):
            host.ipc.broadcast("n", 1, {"cfg": {"cb": lambda: None}})
        host.ipc.broadcast("n", 2)
        await until(lambda: host.ipc.heard["n"])
        assert host.ipc.heard["n"] == [(0, 2)]


async def test_an_event_of_a_type_that_only_its_sender_has_registered_is_skipped_with_its_reason_and_all_stay(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    async with hosting(2) as host:
        sender, other = host.renderers
        host.ipc.note("n")
        for renderer in host.renderers:
            await host.ipc.run(renderer, "note", "n")
        await host.ipc.run(sender, "coins:know_here", "coin")
        await host.ipc.run(sender, "coins:broadcast", "n")
        await host.ipc.run(sender, "coins:broadcast", "n")  # main looks at nobody's events more closely for it
        got = await host.ipc.run(other, "hear", "n", 2)
        assert [(entry[0], entry[1]) for entry in got] == [(sender.frame_id, "after")] * 2
        assert await host.ipc.run(sender, "count_heard", "n", 4) == 4
        await until(lambda: len(host.ipc.heard["n"]) == 2)
        assert host.main.renderers == [sender, other]
    way_out = "nothing is registered here as 'coin': call lensipc.clone.register on both sides"
    assert way_out in caplog.text  # of main
    assert way_out in capfd.readouterr().err  # of the renderer


async def test_an_event_of_a_type_that_main_alone_has_registered_is_skipped_by_renderers(
    capfd: pytest.CaptureFixture[str],
) -> None:
    forget = coins.know("main's coin")
    try:
        async with hosting(2) as host:
            for renderer in host.renderers:
                await host.ipc.run(renderer, "note", "n")
            host.ipc.broadcast("n", coins.Coin(5))
            host.ipc.broadcast("n", "after")
            for renderer in host.renderers:
                assert await host.ipc.run(renderer, "hear", "n", 1) == [(0, "after", 0)]
            assert host.main.renderers == host.renderers
    finally:
        forget()
    assert 'nothing is registered here as "main\'s coin"' in capfd.readouterr().err
