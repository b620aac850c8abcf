"""Kept values: who listens late hears the last kept value, and then every later event, none twice."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import keeping
import lab
import pytest
from hostile.renderer import connect
from hosting import Host, hosting, plain_hosting, script, until

from lensipc import ExtensionManifest, KeptFull, MainProcess, NotActivatedError, RendererHandle, RendererProcess
from lensipc.runtime.protocol import KEPT, LISTEN, REPLAY

KEPT_LIMIT = 64 * 1024  # bytes, where a test is about it


async def act(host: Host, where: RendererHandle | None, function: str, *args: Any) -> Any:
    """Have a renderer, or main itself, do something of `keeping`."""
    if where is not None:
        return await host.ipc.run(where, f"keeping:{function}", *args)
    result = getattr(keeping, function)(host.ipc, *args)
    return await result if hasattr(result, "__await__") else result


async def heard(host: Host, where: RendererHandle | None, name: str, count: int) -> list[Any]:
    """What was noted in a renderer, or in main, once it is so much."""
    if where is not None:
        found: list[Any] = await host.ipc.run(where, "hear", name, count)
        return found
    await until(lambda: len(host.ipc.heard[name]) >= count)
    return host.ipc.heard[name]


async def test_who_listens_late_hears_the_last_kept_value_and_then_every_later_event() -> None:
    async with hosting(2) as host:
        for sender in (None, host.renderers[0]):
            me = 0 if sender is None else sender.frame_id
            said = ("keep", "s", "old"), ("keep", "s", "new"), ("send", "s", "not kept")
            await act(host, sender, "send", *said)
            await host.ipc.run(host.renderers[0], "invoke", "echo")  # main has all of it
            everywhere = (None, *host.renderers)
            for receiver in everywhere:
                await act(host, receiver, "note", f"of {me}", "s")
                assert await heard(host, receiver, f"of {me}", 1) == [(me, "new")]
            await act(host, sender, "send", ("send", "s", 1), ("keep", "s", 2), ("send", "s", 3))
            for receiver in everywhere:
                assert await heard(host, receiver, f"of {me}", 4) == [(me, "new"), (me, 1), (me, 2), (me, 3)]


async def test_where_nothing_is_kept_only_later_events_are_heard() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        for where in (None, renderer):
            await act(host, where, "send", ("send", "n", 1), ("note", "late", "n"), ("send", "n", 2), ("send", "n", 3))
            me = 0 if where is None else renderer.frame_id
            assert await heard(host, where, "late", 2) == [(me, 2), (me, 3)]


async def test_of_two_listeners_only_the_new_one_hears_the_kept_value_and_none_hears_anything_twice() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        for where in (None, renderer):
            await act(host, where, "note", "first", "s")
            for number in range(3):  # what is on its way when the second comes is the first's alone
                host.ipc.broadcast("s", number, keep=True)
            await act(host, where, "note", "second", "s")
            host.ipc.broadcast("s", 3)
            host.ipc.broadcast("s", 4)
            old = [(0, 2)] if where is renderer else []  # that main keeps of its own turn
            assert await heard(host, where, "first", 5 + len(old)) == [*old, *((0, n) for n in range(5))]
            assert await heard(host, where, "second", 3) == [(0, 2), (0, 3), (0, 4)]


async def test_who_listens_again_hears_the_kept_value_again() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        for where in (None, renderer):
            host.ipc.broadcast("s", "kept", keep=True)
            for number in range(3):
                await act(host, where, "send", ("note", "again", "s"), ("dispose", "again", ""), ("note", "again", "s"))
                host.ipc.broadcast("s", number)
                assert await heard(host, where, "again", 2) == [(0, "kept"), (0, number)]
                await act(host, where, "send", ("dispose", "again", ""))
        assert await act(host, renderer, "unanswered", "s") == 0


async def test_a_value_stays_when_its_sender_has_died_and_its_event_says_who_that_was(tmp_path: Path) -> None:
    async with hosting(2, path=tmp_path / "s") as host:
        sender, other = host.renderers
        doing = asyncio.create_task(act(host, sender, "keep_and_die", "s", "testament"))
        await sender.wait()
        doing.cancel()
        await until(lambda: sender not in host.main.renderers)
        await act(host, other, "note", "late", "s")
        assert await heard(host, other, "late", 1) == [(sender.frame_id, "testament")]
        events: list[Any] = []
        host.ipc.listen("s", lambda event, _value: events.append(event), replay=True)
        await until(lambda: events)
        assert (events[0].frame_id, events[0].pid, events[0].missed) == (sender.frame_id, sender.pid, 0)
        events[0].reply("s", "to nobody")
        async with RendererProcess.connect(tmp_path / "s"):
            theirs = lab.IpcRenderer.get_instance()
            theirs.listen("s", lambda event, _value: events.append(event), replay=True)
            await until(lambda: len(events) == 2)
            assert (events[1].frame_id, events[1].pid, events[1].channel) == (sender.frame_id, sender.pid, "s")
            events[1].reply("s", "to nobody")
            await theirs.invoke("echo")
        assert len(events) == 2


async def test_kept_values_are_forgotten_with_their_extension() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        for end in (host.main.disable, host.main.uninstall):
            await act(host, renderer, "send", ("keep", "theirs", 1))
            await host.ipc.run(renderer, "invoke", "echo")
            host.ipc.broadcast("ours", 1, keep=True)
            port: Any = host.ipc._port
            assert port.kept.total > 0
            await end("lab")
            assert port.kept.total == 0
            with pytest.raises(NotActivatedError):
                host.ipc.broadcast("ours", 1, keep=True)
            await (host.main.enable("lab") if end == host.main.disable else host.main.install(lab.MANIFEST))
            host.ipc = lab.IpcMain.get_instance()
            for channel in ("theirs", "ours"):
                await act(host, renderer, "note", channel, channel)
                host.ipc.broadcast(channel, 2)
                assert await heard(host, renderer, channel, 1) == [(0, 2)]


async def test_what_an_extension_keeps_is_bounded_and_its_sender_is_told() -> None:
    async with hosting(2, kept_limit=KEPT_LIMIT) as host:
        first = host.renderers[0]
        host.ipc.note("b")
        for where in (None, first):
            for _ in range(3):  # in place of each other
                assert await act(host, where, "keep_bytes", "a", KEPT_LIMIT // 2) == "kept"
            error = await act(host, where, "keep_bytes", "b", KEPT_LIMIT // 2)
            assert error.startswith("KeptFull: the values that extension 'lab' keeps would take 66")
            assert error.endswith(f"bytes, and {KEPT_LIMIT} are allowed: MainProcess(kept_limit=...)")
            assert await act(host, where, "keep_bytes", "a", 10) == "kept"
            assert await act(host, where, "keep_bytes", "b", KEPT_LIMIT) != "kept"
        await host.ipc.run(first, "invoke", "echo")
        assert host.ipc.heard["b"] == []  # nothing was sent
        host.ipc.broadcast("b", "sent")
        await until(lambda: host.ipc.heard["b"] == [(0, "sent")])
        with pytest.raises(KeptFull):
            host.ipc.broadcast("b", bytes(KEPT_LIMIT), keep=True)


async def test_a_renderer_whose_value_others_have_left_no_room_for_logs_that_and_nothing_is_heard(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async with hosting(2, kept_limit=KEPT_LIMIT) as host:
        first, second = host.renderers
        host.ipc.note("b")
        assert await act(host, first, "keep_bytes", "a", KEPT_LIMIT // 2) == "kept"
        await host.ipc.run(first, "invoke", "echo")
        assert await act(host, second, "keep_bytes", "b", KEPT_LIMIT // 2) == "kept"  # as far as it knows
        await host.ipc.run(second, "invoke", "echo")
        assert await act(host, second, "keep_bytes", "c", KEPT_LIMIT // 4) == "kept"  # what was refused counts no more
        assert await act(host, second, "keep_bytes", "a", KEPT_LIMIT // 4) == "kept"
        await act(host, second, "note", "late", "b")
        host.ipc.broadcast("b", "sent")
        assert await heard(host, second, "late", 1) == [(0, "sent")]
        assert host.ipc.heard["b"] == [(0, "sent")]
    assert "broadcast of lab/b was not done: the values that extension 'lab' keeps would take" in capfd.readouterr().err


async def test_the_names_of_channels_count_for_what_is_kept_too() -> None:
    async with hosting(1, kept_limit=KEPT_LIMIT) as host:
        for number in range(KEPT_LIMIT // 4600):
            host.ipc.broadcast(f"{number:01000}", keep=True)
        with pytest.raises(KeptFull):
            host.ipc.broadcast(1000 * "x", keep=True)


async def test_a_value_of_any_size_is_kept_and_each_listener_has_a_clone_of_its_own() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        for size in (10, 40_000, 3 * 1024 * 1024):
            assert await act(host, renderer, "keep_bytes", "s", size) == "kept"
            await host.ipc.run(renderer, "invoke", "echo")
            for name in (f"first {size}", f"second {size}"):
                await act(host, renderer, "note", name, "s")
                assert await heard(host, renderer, name, 1) == [(renderer.frame_id, bytes(size))]
            got: list[Any] = []
            host.ipc.listen("s", lambda _event, value, got=got: got.append(value), replay=True)
            host.ipc.listen("s", lambda _event, value, got=got: got.append(value), replay=True)
            await until(lambda got=got: len(got) == 2)
            assert got == [bytes(size)] * 2


async def test_a_renderer_that_asks_for_more_than_its_outbox_holds_has_it_all_and_stays() -> None:
    async with hosting(1, high_water=64 * 1024, outbox_limit=1024 * 1024) as host:
        (renderer,) = host.renderers
        for number in range(12):
            host.ipc.broadcast(f"large {number}", bytes(1024 * 1024), keep=True)
        busy = asyncio.create_task(act(host, renderer, "listen_to_many", 12))
        await until(lambda: host.main._core.connections[renderer.frame_id].endpoint.outbox > 64 * 1024)
        host.ipc.broadcast("run", 0, 0, "", ())  # is not refused for that
        await busy
        assert await act(host, renderer, "sizes", 12) == [1024 * 1024] * 12
        assert host.main.renderers == [renderer]


async def test_kept_values_that_wait_for_all_connections_of_one_process_are_bounded_together(tmp_path: Path) -> None:
    """16 connections of one process ask for 1 MiB each, and read nothing; then they read."""
    size = 1024 * 1024
    async with hosting(0, path=tmp_path / "s", high_water=64 * 1024, outbox_limit=size) as host:
        host.ipc.broadcast("large", bytes(size), keep=True)
        visitors = [await connect(tmp_path / "s", host) for _ in range(16)]
        for visitor in visitors:
            number = visitor.declare("large")
            visitor.send(LISTEN, number)
            visitor.send(REPLAY, number)
        connections = list(host.main._core.connections.values())
        await until(lambda: all(each.paused for each in connections))
        assert sum(each.endpoint.outbox for each in connections) <= 4.5 * size  # twice outbox_limit, and what is sent
        host.ipc.broadcast("large", "newer", keep=True)
        answered: set[int] = set()
        while len(answered) < 16:
            for place, visitor in enumerate(visitors):
                if any(record.kind == KEPT for record in visitor.receive()):
                    answered.add(place)
            await asyncio.sleep(0.001)
        await until(lambda: not any(each.paused for each in connections))
        for visitor in visitors:
            visitor.close()


async def test_what_a_listener_raises_at_the_kept_value_is_logged_and_it_hears_later_events(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with hosting() as host:
        got: list[Any] = []

        def listener(_event: object, value: int) -> None:
            got.append(value)
            if value == 1:
                raise ValueError("no")

        host.ipc.broadcast("s", 1, keep=True)
        host.ipc.listen("s", listener, replay=True)
        host.ipc.listen("s", lambda _event: None, replay=True)
        host.ipc.broadcast("s", 2)
        await until(lambda: got == [1, 2] and "1 argument of the message" in caplog.text)
        assert "listener of lab/s in main raised" in caplog.text


async def test_an_async_listener_hears_the_kept_value_too() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        host.ipc.broadcast("s", 1, keep=True)
        for where in (None, renderer):
            await act(host, where, "pace", "slow", "s", 0.01, {"replay": True})
            assert await heard(host, where, "slow", 1) == [(1, 0, 1)]


async def test_a_listener_that_is_disposed_of_before_the_answer_is_not_called() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        host.ipc.broadcast("s", 1, keep=True)
        for where in (None, renderer):
            await act(host, where, "send", ("note", "gone", "s"), ("dispose", "gone", ""), ("note", "stays", "s"))
            assert await heard(host, where, "stays", 1) == [(0, 1)]
            assert await heard(host, where, "gone", 0) == []


async def test_a_channel_that_everybody_has_left_keeps_its_value() -> None:
    async with hosting(2) as host:
        first, second = host.renderers
        await act(host, first, "send", ("keep", "s", 1))
        await host.ipc.run(first, "invoke", "echo")
        first.kill()
        await first.wait()
        port: Any = host.ipc._port
        await until(lambda: "s" not in port.table.channels)
        await act(host, second, "note", "late", "s")
        assert await heard(host, second, "late", 1) == [(first.frame_id, 1)]


async def test_values_of_an_extension_without_a_part_in_main_are_kept_too(tmp_path: Path) -> None:
    async with MainProcess(tmp_path / "s") as main, RendererProcess.connect(tmp_path / "s"):
        await main.install(ExtensionManifest("lab", "1", renderer="lab:LabRenderer"))
        ipc, got = lab.IpcRenderer.get_instance(), list[Any]()
        ipc.broadcast("s", 1, keep=True)
        ipc.listen("s", lambda _event, value: got.append(value), replay=True)
        ipc.broadcast("s", 2)
        await until(lambda: got == [1, 2])


async def test_a_thread_may_have_a_value_kept_and_ask_for_it(caplog: pytest.LogCaptureFixture) -> None:
    async with hosting(1, kept_limit=KEPT_LIMIT) as host:
        (renderer,) = host.renderers
        for where in (None, renderer):
            await act(host, where, "in_a_thread", "late", "s", "of a thread")
            assert await heard(host, where, "late", 1) == [(0 if where is None else renderer.frame_id, "of a thread")]
        await asyncio.to_thread(host.ipc.broadcast, "s", bytes(KEPT_LIMIT), keep=True)
        await until(lambda: "broadcast of lab/s from thread" in caplog.text)
        assert "was not done: the values that extension 'lab' keeps would take" in caplog.text


async def test_what_cannot_be_cloned_is_not_kept() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        given = bytearray(b"moved")
        host.ipc.broadcast("s", given, transfer=[given], keep=True)
        assert given == b""
        with pytest.raises(TypeError, match="is a built-in function"):
            host.ipc.broadcast("s", print, keep=True)
        await act(host, renderer, "note", "late", "s")
        assert await heard(host, renderer, "late", 1) == [(0, bytearray(b"moved"))]


async def test_a_value_that_is_kept_in_on_activate_is_kept(tmp_path: Path) -> None:
    async with plain_hosting(tmp_path / "s") as host:
        out = await script(
            host,
            """
            def on_activate(self):
                plain.Ipc.create_instance(self).broadcast("s", "at once", keep=True)
            plain.PlainRenderer.on_activate = on_activate
            with RendererProcess.connect(path):
                print("kept")
            """,
        )
        assert out == "kept\n"
        host.ipc.heard["late"] = []
        keeping.note(host.ipc, "late", "s")
        await until(lambda: host.ipc.heard["late"])
        assert host.ipc.heard["late"][0][1] == "at once"


@pytest.mark.parametrize("wakeup", ["socket", "semaphore"])
async def test_a_script_hears_the_kept_value_by_dispatch_and_not_during_a_blocking_invoke(
    tmp_path: Path, wakeup: str
) -> None:
    async with plain_hosting(tmp_path / "s") as host:
        host.ipc.broadcast("s", "kept", keep=True)
        out = await script(
            host,
            f"""
            with RendererProcess.connect(path, wakeup={wakeup!r}) as renderer:
                ipc, heard = plain.Ipc.get_instance(), []
                ipc.listen("s", lambda event, value: heard.append(value), replay=True)
                ipc.broadcast("s", "later")
                ipc.invoke_sync("echo")
                assert heard == [], heard
                while len(heard) < 2:
                    renderer.dispatch(10)
                print(heard)
            """,
        )
        assert out == "['kept', 'later']\n"


async def test_ctrl_c_before_the_kept_value_is_heard_loses_nothing(tmp_path: Path) -> None:
    async with plain_hosting(tmp_path / "s") as host:
        host.ipc.broadcast("s", "kept", keep=True)
        out = await script(
            host,
            """
            with RendererProcess.connect(path) as renderer:
                ipc, heard = plain.Ipc.get_instance(), []
                take = renderer._core._dispatcher.on_kept
                def interrupted(message):
                    renderer._core._handlers[17] = take
                    signal.raise_signal(signal.SIGINT)
                    take(message)
                renderer._core._handlers[17] = interrupted
                ipc.listen("s", lambda event, value: heard.append(value), replay=True)
                ipc.broadcast("s", "later")
                while len(heard) < 3:
                    try:
                        renderer.dispatch(10)
                    except KeyboardInterrupt:
                        heard.append("interrupted")
                print(heard)
            """,
        )
        assert out == "['interrupted', 'kept', 'later']\n"


async def test_who_listens_again_after_its_part_was_activated_again_hears_what_is_kept_by_then(tmp_path: Path) -> None:
    async with MainProcess(tmp_path / "s") as main, RendererProcess.connect(tmp_path / "s"):
        await main.install(lab.MANIFEST)
        theirs = lab.IpcRenderer.get_instance()
        lab.IpcMain.get_instance().broadcast("s", 1, keep=True)
        got: list[Any] = []
        theirs.listen("s", lambda _event, value: got.append(value), replay=True)
        await main.disable("lab")
        await main.enable("lab")
        theirs = lab.IpcRenderer.get_instance()
        theirs.listen("s", lambda _event, value: got.append(value), replay=True)
        lab.IpcMain.get_instance().broadcast("s", 2, keep=True)
        await until(lambda: 2 in got)
        assert got in ([1, 2], [2])  # 1, if main's answer came before the listener went


def place(order: list[Any], heard: list[Any], living: bool) -> set[int]:
    """Where in main's order a listener can have come that heard the value kept there, and then every later event."""
    found, kept = set(), None
    for at in range(len(order) + 1):
        expected = ([kept] if kept is not None else []) + order[at : at + len(heard)]
        if expected[: len(heard)] == heard and (not living or len(heard) == len(order) - at + (kept is not None)):
            found.add(at)
        if at < len(order) and order[at][2]:
            kept = order[at]
    return found


def test_the_judge_of_the_generated_test_finds_gaps_and_doubles() -> None:
    order = [("a", 0, True), ("a", 1, False), ("a", 2, True), ("a", 3, False)]
    assert place(order, [order[0], order[2], order[3]], True) == {2}
    assert place(order, order, True) == {0, 1}
    for wrong in ([order[2], order[2], order[3]], [order[0], order[3]], order[3:], [order[1], *order[1:]]):
        assert place(order, wrong, True) == set()
    assert place(order, order[2:3], False) == {3, 4}


@pytest.mark.parametrize("main_listens", [True, False])
async def test_whoever_keeps_and_listens_when_each_listener_hears_the_kept_value_and_every_later_event(
    main_listens: bool,
) -> None:
    seed = random.randrange(2**32)
    rest = random.Random(seed).choice([0.02, 0.2, 0.5])  # how often each gives others the time to come in between
    print("seed", seed)
    async with hosting(3) as host:
        watcher = host.renderers[0]
        await act(host, watcher, "watch", "w")
        everywhere = [None, *host.renderers]
        sent = await asyncio.gather(
            *(
                act(host, each, "weave", "w", seed + number, 150, rest, main_listens or each is not None)
                for number, each in enumerate(everywhere)
            )
        )
        order = await act(host, watcher, "order", sum(sent))
        await host.ipc.drain()
        judged = 0
        for each in everywhere:
            pid, listeners = await act(host, each, "woven")
            for step, disposed, got in listeners:
                before = [at for at, (who, number, _) in enumerate(order) if who == pid and number < step]
                after = [at for at, (who, number, _) in enumerate(order) if who == pid and number > step]
                first, last = max(before, default=-1) + 1, min(after, default=len(order))
                places = place(order, got, not disposed)
                assert any(first <= at <= last for at in places), (seed, pid, step, disposed, got, order)
                judged += len(got)
        assert judged > 100
