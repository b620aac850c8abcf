# SPDX-License-Identifier: MIT
"""Threads beside the one that a process's lensipc objects belong to, and a connection that one of them could break."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lab
import numpy as np
import plain
import pytest
import weaving
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
    RendererProcess,
)
from lensipc.renderer import core
from lensipc.runtime.protocol import ACTIVATE, KINDS

PLAIN = ExtensionManifest("lab", "1", main="lab:LabMain", renderer="plain:PlainRenderer")

# ---- a connection whose other side breaks the protocol ----


@pytest.mark.parametrize("kind", [KINDS, ACTIVATE])
async def test_a_renderer_whose_main_breaks_the_protocol_loses_it_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: int
) -> None:
    async with hosting(path=tmp_path / "s") as host, RendererProcess.connect(tmp_path / "s") as renderer:
        ipc = lab.IpcRenderer.get_instance()
        invocation = ipc.invoke("sleep", 100)
        (connection,) = host.main._core.connections.values()
        connection.endpoint.send(kind, 0, 0, 0, 0, b"\xff")
        with pytest.raises(PeerGone, match=f"kind {kind}, which is none" if kind == KINDS else "main is gone"):
            await invocation
        await renderer.wait_closed()
        await asyncio.sleep(0.1)  # in which it would have said so again
        with pytest.raises(PeerGone):
            ipc.broadcast("n")
        assert "Traceback" not in caplog.text


async def test_a_script_whose_main_breaks_the_protocol_loses_it_once(tmp_path: Path) -> None:
    async with MainProcess(tmp_path / "s") as main:
        await main.install(PLAIN)

        def run() -> list[str]:
            said = []
            with RendererProcess.connect(tmp_path / "s") as renderer:
                ipc = plain.Ipc.get_instance()
                for wait in (lambda: ipc.invoke_sync("sleep", 100), lambda: renderer.dispatch(5)):
                    with pytest.raises(PeerGone) as caught:
                        wait()
                    said.append(str(caught.value))
                assert not renderer.connected
            return said

        script = asyncio.get_running_loop().run_in_executor(None, run)
        await until(lambda: script.done() or any(each.running for each in main._core.connections.values()))
        for connection in main._core.connections.values():
            connection.endpoint.send(KINDS, 0, 0, 0, 0, b"")
        assert all(f"kind {KINDS}, which is none" in text for text in await script)


# ---- what belongs to one thread ----


async def refused(call: Callable[[], object], name: str) -> None:
    """In another thread the call is refused, by its name and at once."""

    def attempt() -> object:
        result = call()
        return asyncio.run(result) if asyncio.iscoroutine(result) else result

    with pytest.raises(RuntimeError, match=f"{name} was called in thread 'asyncio_.*belongs to the thread") as caught:
        await asyncio.to_thread(attempt)
    assert type(caught.value) is RuntimeError


async def test_what_changes_a_host_is_refused_in_another_thread_and_nothing_comes_of_it() -> None:
    async with hosting(1) as host:
        main = host.main
        await refused(lambda: main.install(PLAIN), "install")
        await refused(lambda: main.enable("lab"), "enable")
        await refused(lambda: main.disable("lab"), "disable")
        await refused(lambda: main.uninstall("lab"), "uninstall")
        await refused(main.spawn_renderer, "spawn_renderer")
        await refused(host.renderers[0].close, "RendererHandle.close")
        await refused(host.ipc.drain, "drain")
        assert await host.ipc.run(host.renderers[0], "invoke", "echo", 1) == (1,)


async def test_what_drives_or_waits_in_a_renderer_is_refused_in_another_thread(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s"), RendererProcess.connect(tmp_path / "s") as renderer:
        ipc = lab.IpcRenderer.get_instance()
        await refused(renderer.dispatch, "RendererProcess.dispatch")
        await refused(renderer.run_forever, "RendererProcess.run_forever")
        await refused(renderer.wait_closed, "RendererProcess.wait_closed")
        await refused(renderer.close, "RendererProcess.close")
        await refused(lambda: ipc.invoke_sync("echo"), "invoke_sync")
        await refused(ipc.drain, "drain")
        await refused(ipc.drain_sync, "drain_sync")
        assert await ipc.invoke("echo", 1) == (1,)


# ---- what any thread may do ----


async def test_threads_of_main_send_whole_and_each_in_its_order_to_all() -> None:
    async with hosting(1) as host:
        ear = weaving.Ear()
        host.ipc.listen("woven", ear)
        there = asyncio.create_task(host.ipc.run(host.renderers[0], "weaving:listen_until", 4, 2000))
        await until(lambda: len(host.ipc._port.table["woven"].topic))  # it listens
        await weaving.weave(host.ipc, 4, 2000, 20)
        await until(lambda: ear.has_heard(4, 2000))
        assert ear.arrays == 80
        assert await there == 80


async def test_threads_of_a_renderer_send_whole_and_each_in_its_order() -> None:
    async with hosting(1) as host:
        ear = weaving.Ear()
        host.ipc.listen("woven", ear)
        await host.ipc.run(host.renderers[0], "weaving:weave", 4, 2000, 20)
        await until(lambda: ear.has_heard(4, 2000))
        assert ear.arrays == 80
        assert host.renderers[0].alive


async def test_threads_of_a_script_send_whole_and_each_in_its_order(tmp_path: Path) -> None:
    async with MainProcess(tmp_path / "s") as main:
        await main.install(PLAIN)
        ear = weaving.Ear()
        lab.IpcMain.get_instance().listen("woven", ear)

        def run() -> list[object]:
            with RendererProcess.connect(tmp_path / "s") as renderer:
                threads = weaving.start(plain.Ipc.get_instance(), 4, 2000, 20)
                answers = []
                while any(each.is_alive() for each in threads):
                    answers.append(plain.Ipc.get_instance().invoke_sync("echo", 1))
                    renderer.dispatch(0.01)
            return answers

        answers = await asyncio.to_thread(run)
        await until(lambda: ear.has_heard(4, 2000))
        assert set(answers) == {(1,)}


async def test_an_idle_loop_is_woken_for_what_a_thread_sends() -> None:
    async with hosting() as host:
        host.ipc.note("n")
        for number in range(5):
            await asyncio.to_thread(host.ipc.broadcast, "n", number)
            async with asyncio.timeout(30):
                await until(lambda number=number: len(host.ipc.heard["n"]) > number)
        assert [args for _, args in host.ipc.heard["n"]] == [0, 1, 2, 3, 4]


async def test_a_thread_of_a_renderer_invokes_and_waits_for_the_outcome() -> None:
    async with hosting(1) as host:
        run = host.ipc.run
        assert await run(host.renderers[0], "weaving:call", [1, "two", None]) == [(1,), ("two",), (None,)]


async def test_what_a_thread_invokes_fails_as_on_the_loop(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s") as host, RendererProcess.connect(tmp_path / "s") as renderer:
        ipc: Any = lab.IpcRenderer.get_instance()

        def outcome(*args: object, timeout: float | None = None) -> object:
            return ipc.invoke(*args, timeout=timeout).exception(30)

        assert isinstance(await asyncio.to_thread(outcome, "nothing"), NoHandlerError)
        assert isinstance(await asyncio.to_thread(outcome, "fail", "KeyError"), KeyError)
        assert isinstance(await asyncio.to_thread(outcome, "sleep", 100, timeout=0.05), InvokeTimeout)
        with pytest.raises(DataCloneError, match=r"args\[0\]"):
            await asyncio.to_thread(ipc.invoke, "echo", print)
        with pytest.raises(DataCloneError, match=r"args\[0\]"):
            await asyncio.to_thread(ipc.broadcast, "n", print)
        invocation = await asyncio.to_thread(ipc.invoke, "sleep", 100, "cancelled")
        await until(lambda: host.ipc.running)
        assert await asyncio.to_thread(invocation.cancel)
        await until(lambda: "cancelled" in host.ipc.cancelled)
        invocation = await asyncio.to_thread(ipc.invoke, "sleep", 100)
        await host.main.renderers[0].close()
        await renderer.wait_closed()
        assert isinstance(await asyncio.to_thread(invocation.exception, 30), NoHandlerError | PeerGone)
        for call in (ipc.invoke, ipc.broadcast):
            with pytest.raises(PeerGone):
                await asyncio.to_thread(call, "n")


async def test_threads_listen_handle_and_dispose() -> None:
    async with hosting() as host:
        ipc, heard = host.ipc, list[object]()
        dispose = await asyncio.to_thread(ipc.listen, "n", lambda _event, value: heard.append(value))
        await asyncio.to_thread(ipc.broadcast, "n", 1)
        await until(lambda: heard)
        await asyncio.to_thread(dispose)
        await asyncio.to_thread(ipc.broadcast, "n", 2)
        await asyncio.sleep(0.05)
        assert heard == [1]

        def replace() -> None:
            first = ipc.handle("asked", lambda _event: 1)
            with pytest.raises(HandlerExistsError, match=r"test_threads\.py"):
                ipc.handle("asked", lambda _event: 2)
            first()
            first()
            ipc.handle("asked", lambda _event: 3)

        await asyncio.to_thread(replace)
        with pytest.raises(HandlerExistsError, match=r"test_threads\.py"):
            ipc.handle("asked", lambda _event: 4)
        renderer = await host.main.spawn_renderer()
        assert await ipc.run(renderer, "invoke", "asked") == 3


async def test_a_thread_of_a_renderer_listens_and_hears() -> None:
    async with hosting(1) as host:
        assert await host.ipc.run(host.renderers[0], "weaving:hear_own") == [1]


async def test_what_a_thread_changes_or_transfers_after_it_was_sent_arrives_as_it_was() -> None:
    async with hosting() as host:
        host.ipc.note("n")
        sent, given = np.arange(200_000), bytearray(b"x" * 100_000)
        # Nothing of this loop runs until the thread has ended: what it has posted waits.
        thread = threading.Thread(target=lambda: host.ipc.broadcast("n", sent, given, transfer=[given]))
        thread.start()
        thread.join()
        sent[:] = 0
        assert given == b""
        await until(lambda: host.ipc.heard["n"])
        ((_, array, text),) = host.ipc.heard["n"]
        assert (array == np.arange(200_000)).all()
        assert text == b"x" * 100_000


async def test_what_threads_send_to_a_busy_loop_is_bounded() -> None:
    async with hosting(outbox_limit=4 * 1024 * 1024) as host:
        host.ipc.note("n")
        results: list[object] = []

        def flood() -> None:
            try:
                for _ in range(100):
                    host.ipc.broadcast("n", bytes(1024 * 1024))
                    results.append(None)
            except OutboxFull as full:
                results.append(full)

        thread = threading.Thread(target=flood)
        thread.start()
        thread.join()  # the loop is busy
        *sent, refused = results
        assert isinstance(refused, OutboxFull)
        assert 1 <= len(sent) <= 4
        await until(lambda: len(host.ipc.heard["n"]) == len(sent))


async def test_what_a_thread_has_sent_before_a_part_is_deactivated_is_sent() -> None:
    async with hosting(1) as host:
        heard = asyncio.create_task(host.ipc.run(host.renderers[0], "weaving:listen_until", 1, 1))
        await until(lambda: len(host.ipc._port.table["woven"].topic))  # it listens
        thread = threading.Thread(target=host.ipc.broadcast, args=("woven", 0, 0))
        thread.start()
        thread.join()
        assert await heard == 0
        await host.main.disable("lab")
        with pytest.raises(NotActivatedError):
            await asyncio.to_thread(host.ipc.broadcast, "n")


async def test_a_foreign_loop_sees_its_descriptor_readable_for_what_a_thread_sends(tmp_path: Path) -> None:
    async with MainProcess(tmp_path / "s") as main:
        await main.install(PLAIN)
        ipc = lab.IpcMain.get_instance()
        ipc.note("n")

        def run() -> object:
            with RendererProcess.connect(tmp_path / "s") as renderer:
                while select.select([renderer], [], [], 0.2)[0]:
                    renderer.dispatch()
                own = plain.Ipc.get_instance()
                futures: list[Any] = []
                thread = threading.Thread(target=lambda: futures.append(own.invoke("echo", 2)))
                thread.start()
                thread.join()
                while not futures[0].done():
                    assert select.select([renderer], [], [], 30)[0]
                    renderer.dispatch()
                return futures[0].result()

        assert await asyncio.to_thread(run) == (2,)


async def test_a_script_that_sleeps_on_a_semaphore_is_woken_for_what_a_thread_sends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "NAP", 1000.0)  # it looks for nothing by itself
    async with MainProcess(tmp_path / "s") as main:
        await main.install(PLAIN)
        ipc = lab.IpcMain.get_instance()
        ipc.note("n")
        sleeping, over = threading.Event(), threading.Event()

        def send() -> None:
            own = plain.Ipc.get_instance()
            for number in range(20):
                sleeping.wait(30)
                sleeping.clear()
                time.sleep(0.01)  # in which it falls asleep
                if number == 19:
                    over.set()
                own.broadcast("n", number)

        def run() -> None:
            with RendererProcess.connect(tmp_path / "s", wakeup="semaphore") as script:
                thread = threading.Thread(target=send)
                thread.start()
                while not over.is_set():
                    sleeping.set()
                    script.dispatch(50)
                thread.join()

        script = asyncio.get_running_loop().run_in_executor(None, run)
        async with asyncio.timeout(60):
            await until(lambda: len(ipc.heard["n"]) == 20)
        assert [number for _, number in ipc.heard["n"]] == list(range(20))
        await script


async def test_a_thread_is_told_of_what_main_would_not_take_where_it_sends_it(tmp_path: Path) -> None:
    async with (
        hosting(path=tmp_path / "s", message_limit=1 << 20) as host,
        RendererProcess.connect(tmp_path / "s"),
    ):
        ipc: Any = lab.IpcRenderer.get_instance()
        host.ipc.note("n")
        for call in (ipc.broadcast, ipc.invoke):
            with pytest.raises(DataCloneError, match="main takes 1048576 of a renderer"):
                await asyncio.to_thread(call, "n", bytes(1 << 20))
            with pytest.raises(ValueError, match="a channel's name has at most 4096 bytes, this one has 4097"):
                await asyncio.to_thread(call, "n" * 4097)
        await asyncio.to_thread(ipc.broadcast, "n", bytes(1000))
        await until(lambda: host.ipc.heard["n"])
        assert [args for _, args in host.ipc.heard["n"]] == [bytes(1000)]


# ---- what is on its way between two threads when something ends ----


def at_once(call: Callable[[], object]) -> None:
    """Have a thread call this while the loop does nothing: what it posts waits."""
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


async def test_what_threads_transfer_and_main_has_no_room_for_is_theirs_still() -> None:
    async with hosting(outbox_limit=1024 * 1024) as host:
        given, refused = bytearray(800_000), list[OutboxFull]()

        def send() -> None:
            host.ipc.broadcast("n", bytes(800_000))
            with pytest.raises(OutboxFull) as caught:
                host.ipc.broadcast("n", given, transfer=[given])
            refused.append(caught.value)

        at_once(send)
        assert len(refused) == 1
        assert len(given) == 800_000


async def test_what_threads_send_is_bounded_by_what_waits_and_not_by_all_that_they_have_sent() -> None:
    async with hosting(outbox_limit=4 * 1024 * 1024) as host:
        host.ipc.note("n")
        refused: list[Exception] = []

        def send() -> None:
            for _ in range(2):  # the first one always passes
                try:
                    host.ipc.broadcast("n", bytes(1024 * 1024))
                except OutboxFull as full:
                    refused.append(full)

        for number in range(1, 11):
            at_once(send)
            assert refused == []
            await until(lambda number=number: len(host.ipc.heard["n"]) == 2 * number)


async def test_what_a_thread_has_sent_is_sent_though_its_part_is_deactivated_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with hosting() as host:
        at_once(lambda: host.ipc.broadcast("n", 1))
        await host.main.disable("lab")
        assert "was not done" not in caplog.text


async def test_what_a_thread_has_sent_is_heard_though_its_renderer_leaves_at_once(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s", high_water=64 * 1024, outbox_limit=4 * 1024 * 1024) as host:
        host.ipc.note("n")
        async with RendererProcess.connect(tmp_path / "s"):
            ipc = lab.IpcRenderer.get_instance()
            for _ in range(2):  # so that what threads send has to wait
                ipc.broadcast("n", bytes(400_000))
            at_once(lambda: ipc.broadcast("n", "the last"))
        await until(lambda: not host.main.renderers)
        assert host.ipc.heard["n"][-1][1] == "the last"


async def test_an_invoke_of_a_thread_that_its_renderers_end_meets_on_its_way_has_that_outcome(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s"), RendererProcess.connect(tmp_path / "s") as renderer:
        ipc: Any = lab.IpcRenderer.get_instance()
        asked: list[Any] = []
        at_once(lambda: asked.append(ipc.invoke("echo", 1)))
        posts = renderer._entered.posts
        renderer.close()
        assert isinstance(asked[0].exception(0), PeerGone)
        failed: list[Exception] = []
        with pytest.raises(PeerGone):  # as for a thread that was about to post
            posts.post(1, print, failed.append)
        assert failed == []


async def test_an_invoke_that_a_thread_cancels_before_it_was_sent_is_not_executed(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s") as host, RendererProcess.connect(tmp_path / "s"):
        ipc: Any = lab.IpcRenderer.get_instance()
        called: list[object] = []
        host.ipc.handle("call", lambda _event: called.append(True))
        at_once(lambda: ipc.invoke("call").cancel())
        assert await ipc.invoke("echo", 1) == (1,)
        assert called == []


async def test_what_threads_send_waits_for_a_receiver_that_others_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lensipc.main.backpressure.HOLD", 600.0)  # whoever is held is held for ever
    async with hosting(1, high_water=64 * 1024, outbox_limit=1024 * 1024) as host:
        (renderer,) = host.renderers
        await host.ipc.run(renderer, "note_count", "n")
        os.kill(renderer.pid, signal.SIGSTOP)
        for _ in range(6):
            host.ipc.broadcast("n", bytes(100_000))
        at_once(lambda: host.ipc.broadcast("n", 1))
        await asyncio.sleep(0.1)
        assert len(host.main._core.posts) == 1
        os.kill(renderer.pid, signal.SIGCONT)
        await host.ipc.run(renderer, "wait_count", "n", 7)


async def test_what_threads_of_a_renderer_send_waits_until_main_has_read_what_it_sent(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s", high_water=64 * 1024, outbox_limit=4 * 1024 * 1024) as host:
        host.ipc.note("n")
        async with RendererProcess.connect(tmp_path / "s") as process:
            ipc, core = lab.IpcRenderer.get_instance(), process._entered
            for _ in range(4):
                ipc.broadcast("n", bytes(400_000))
            at_once(lambda: ipc.broadcast("n", 1))
            core.poller.poll()  # in which it would be sent
            assert len(core.posts) == 1
            await until(lambda: len(host.ipc.heard["n"]) == 5)
            assert len(core.posts) == 0


async def test_an_invoke_of_a_thread_has_its_timeout_though_it_waits_to_be_sent(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s", high_water=64 * 1024, outbox_limit=4 * 1024 * 1024) as host:
        host.ipc.note("n")
        asked: list[object] = []
        host.ipc.handle("ask", lambda _event, number: asked.append(number))
        async with RendererProcess.connect(tmp_path / "s") as process:
            ipc, core = lab.IpcRenderer.get_instance(), process._entered
            for _ in range(4):
                ipc.broadcast("n", bytes(400_000))
            futures: list[Any] = []
            at_once(lambda: futures.extend(ipc.invoke("ask", number, timeout=0.05 + number) for number in (0, 60)))
            core.poller.poll()  # in which they would be sent
            assert len(core.posts) == 2
            time.sleep(0.1)
            core.poller.poll()
            assert isinstance(futures[0].exception(), InvokeTimeout)
            await asyncio.wrap_future(futures[1])
            assert asked == [60]
            assert not core.poller._deadlines or core.poller._deadlines[0][2].callback is None
