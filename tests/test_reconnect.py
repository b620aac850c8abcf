# SPDX-License-Identifier: MIT
"""A renderer that outlives its main: it connects again, however it is driven."""

from __future__ import annotations

import asyncio
import socket
import sys
import textwrap
from itertools import count
from pathlib import Path

import ending
import kept
import present
import pytest
from hosting import until
from test_life import HEADER, program, said

from lensipc import MainProcess, RendererProcess
from lensipc.main import lifecycle
from lensipc.renderer import reconnect

ROUNDS = {
    "asyncio": """
        async def run():
            async with RendererProcess.connect(sys.argv[1], reconnect=True) as renderer:
                for _ in range(3):
                    while renderer.state != "connected":
                        await asyncio.sleep(0.005)
                    ipc = ending.IpcRenderer.get_instance()
                    print("connected", await ipc.invoke("echo", renderer.main_pid), descriptors(), flush=True)
                    try:
                        await ipc.invoke("wait")
                    except PeerGone as error:
                        print(type(error).__name__ == "PeerGone", flush=True)
                    while renderer.state == "connected":
                        await asyncio.sleep(0.005)
                    print(renderer.state, renderer.closed_reason, flush=True)
        asyncio.run(run())
    """,
    "script": """
        with RendererProcess.connect(sys.argv[1], reconnect=True, wakeup=sys.argv[2]) as renderer:
            for _ in range(3):
                while renderer.state != "connected":
                    renderer.dispatch(0.1)
                ipc = ending.IpcRenderer.get_instance()
                print("connected", ipc.invoke_sync("echo", renderer.main_pid), descriptors(), flush=True)
                try:
                    ipc.invoke_sync("wait")
                except PeerGone as error:
                    print(type(error).__name__ == "PeerGone", flush=True)
                while renderer.state == "connected":
                    renderer.dispatch(0.1)
                print(renderer.state, renderer.closed_reason, flush=True)
    """,
    "foreign": """
        renderer = RendererProcess.connect(sys.argv[1], reconnect=True).open()
        descriptor = renderer.fileno()
        def turn():
            select.select([descriptor], [], [])
            assert renderer.fileno() == descriptor
            renderer.dispatch()
        for _ in range(3):
            while renderer.state != "connected":
                turn()
            ipc = ending.IpcRenderer.get_instance()
            asked = ipc.invoke("echo", renderer.main_pid)
            while not asked.done():
                turn()
            print("connected", asked.result(), descriptors(), flush=True)
            asked = ipc.invoke("wait")
            while not asked.done():
                turn()
            print(type(asked.exception()).__name__ == "PeerGone", flush=True)
            while renderer.state == "connected":
                turn()
            print(renderer.state, renderer.closed_reason, flush=True)
        turns = 0
        while select.select([descriptor], [], [], 0.05)[0] and turns < 100:  # it is quiet while there is nothing to do
            renderer.dispatch()
            turns += 1
        assert turns < 10, turns
        renderer.close()
    """,
}


def state_of(renderer: RendererProcess) -> str:
    """Its state, which mypy does not take for the one before."""
    return renderer.state


DESCRIPTORS = "descriptors = lambda: len(os.listdir('/proc/self/fd'))\n"

HOST = """
    async def run():
        async with MainProcess(sys.argv[1]) as main:
            await main.install(ending.MANIFEST if sys.argv[2] == "asyncio" else ending.PLAIN)
            print(os.getpid(), flush=True)
            while not ending.IpcMain.get_instance().waiting:
                await asyncio.sleep(0.005)
            print("waiting", flush=True)
            await asyncio.sleep(600 if sys.argv[3] == "kill" else 0)
    asyncio.run(run())
"""


@pytest.mark.parametrize("end", ["kill", "leave"])
@pytest.mark.parametrize(
    ("loop", "wakeup"), [("asyncio", "socket"), ("script", "socket"), ("script", "semaphore"), ("foreign", "socket")]
)
async def test_a_renderer_is_attached_to_each_main_that_comes_after_the_last(
    tmp_path: Path, loop: str, wakeup: str, end: str
) -> None:
    path, pids, rounds = tmp_path / "s", [], 0
    code = DESCRIPTORS + textwrap.dedent(ROUNDS[loop])
    async with program(HOST, path, loop, end) as first:
        assert first.stdout is not None
        pids.append((await first.stdout.readline()).decode().strip())
        async with program(code, path, wakeup) as renderer:
            host = first
            while True:
                assert host.stdout is not None
                assert await host.stdout.readline() == b"waiting\n"
                if end == "kill":
                    host.kill()
                await host.wait()
                rounds += 1
                if rounds == 3:
                    break
                host = await asyncio.create_subprocess_exec(*command(path, loop, end), stdout=asyncio.subprocess.PIPE)
                assert host.stdout is not None
                pids.append((await host.stdout.readline()).decode().strip())
            lines = await said(renderer)
    reason = "it closed the connection, or died" if end == "kill" else "main is closing"
    connected = [line.split() for line in lines if line.startswith("connected")]
    assert [pid for _, pid, _ in connected] == pids
    assert connected[0][2] == connected[1][2] == connected[2][2]  # no descriptor is left of those before
    assert lines.count("True") == 3
    assert lines.count(f"reconnecting {reason}") == 3
    assert lines.count(f"on_closed: {reason}") == 3
    assert lines.count("on_deactivate") == 3


def command(path: Path, loop: str, end: str) -> list[str]:
    """How to start one more host."""
    return [sys.executable, "-c", HEADER + textwrap.dedent(HOST), str(path), loop, end]


async def test_a_renderer_that_its_host_has_closed_does_not_come_back(tmp_path: Path) -> None:
    async with MainProcess(tmp_path / "s") as main:
        renderer = await RendererProcess.connect(tmp_path / "s", reconnect=True).start()
        assert state_of(renderer) == "connected"
        await main.renderers[0].close()
        await renderer.wait_closed()
        assert state_of(renderer) == "closed"
        await asyncio.sleep(0.2)
        assert main.renderers == []
        await renderer.aclose()


@pytest.mark.parametrize("how", ["its part takes too long", "it breaks the protocol"])
async def test_a_renderer_whose_closing_by_its_host_goes_wrong_does_not_come_back_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(lifecycle, "DEACTIVATION_WAIT", 0.1)
    async with MainProcess(tmp_path / "s") as main:
        await main.install(present.MANIFEST, settings="slow")  # 0.3 s
        renderer = await RendererProcess.connect(tmp_path / "s", reconnect=True).start()
        closing = asyncio.create_task(main.renderers[0].close())
        core = renderer._core
        assert core is not None
        if how == "it breaks the protocol":
            await until(lambda: core.parts.leaving)
            core.send(77)
        await closing
        await renderer.wait_closed()
        assert state_of(renderer) == "closed"
        await until(lambda: not core.parts)
        await renderer.aclose()


async def test_a_renderer_that_main_has_disconnected_comes_back_and_its_callback_is_told_each_time(
    tmp_path: Path,
) -> None:
    told: list[str] = []
    async with MainProcess(tmp_path / "s") as main:
        await main.install(ending.MANIFEST)
        renderer = RendererProcess.connect(tmp_path / "s", reconnect=True, on_closed=told.append)
        assert state_of(renderer) == "new"
        async with renderer:
            for count in (1, 2):
                before = ending.IpcRenderer.get_instance()
                main._core.disconnect(main.renderers[0]._connection, f"number {count}")
                await until(lambda: renderer.state == "reconnecting")
                await until(lambda: renderer.state == "connected")
                assert ending.IpcRenderer.get_instance() is not before
                assert await ending.IpcRenderer.get_instance().invoke("echo", count) == count
                assert renderer.frame_id == count + 1
            assert told == ["number 1", "number 2"]
        assert state_of(renderer) == "closed"


async def test_parts_that_take_their_time_to_deactivate_do_not_meet_the_new_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with MainProcess(tmp_path / "s") as main:
        await main.install(present.MANIFEST, settings="slow")  # 0.3 s, where it connects again after 0.1
        async with RendererProcess.connect(tmp_path / "s", reconnect=True) as renderer:
            main._core.disconnect(main.renderers[0]._connection, "for the test")
            await until(lambda: renderer.state == "reconnecting")
            await until(lambda: renderer.state == "connected")
            assert renderer.frame_id == 2
            assert "raised" not in caplog.text


async def test_a_renderer_goes_on_to_try_while_main_declines_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(reconnect, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(reconnect, "LONGEST_DELAY", 0.02)
    main = await MainProcess(tmp_path / "s").start()
    renderer = await RendererProcess.connect(tmp_path / "s", reconnect=True).start()
    await main.aclose()
    await until(lambda: "is not connected again yet: [Errno 2] No such file" in caplog.text)
    main = await MainProcess(tmp_path / "s").start()
    await until(lambda: renderer.state == "connected")
    await main.aclose()
    main = await MainProcess(tmp_path / "s").start()
    await main.install(kept.BROKEN)
    await until(lambda: caplog.text.count("on_activate of extension broken") > 2)
    await main.disable("broken")
    await until(lambda: renderer.state == "connected")
    await renderer.aclose()
    await main.aclose()


INTERRUPTED = """
    import signal

    class Tick(Exception):
        pass

    def tick(*_):
        raise Tick

    signal.signal(signal.SIGALRM, tick)
    with RendererProcess.connect(sys.argv[1], reconnect=True) as renderer:
        again, method = renderer._reconnect, sys.argv[2]
        before = getattr(again, method)

        def interrupted(*args):
            setattr(again, method, before)
            signal.raise_signal(signal.SIGALRM)

        setattr(again, method, interrupted)
        print(renderer.state, flush=True)
        ticks = 0
        while renderer.frame_id < 7:
            try:
                renderer.dispatch(0.05)
            except Tick:
                ticks += 1
        print(ticks, flush=True)
        while renderer.state != "connected":
            renderer.dispatch(0.05)
        print(renderer.state, flush=True)
"""


@pytest.mark.parametrize("method", ["start", "_connect", "_begin"])
async def test_what_a_signals_handler_raises_does_not_stop_a_renderer_from_connecting_again(
    tmp_path: Path, method: str
) -> None:
    async with program(INTERRUPTED, tmp_path / "s", method) as renderer:
        async with MainProcess(tmp_path / "s"):
            assert renderer.stdout is not None
            assert await renderer.stdout.readline() == b"connected\n"
        async with MainProcess(tmp_path / "s") as main:
            main._frame_ids = count(7)
            assert await said(renderer) == ["1", "connected"]


async def test_a_renderer_that_has_changed_its_directory_connects_again_by_the_same_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    main = await MainProcess("s").start()
    renderer = await RendererProcess.connect("s", reconnect=True).start()
    monkeypatch.chdir("/")
    await main.aclose()
    await until(lambda: renderer.state == "reconnecting")
    main = await MainProcess(tmp_path / "s").start()
    await until(lambda: renderer.state == "connected")
    await renderer.aclose()
    await main.aclose()


@pytest.mark.parametrize("when", ["waits", "asks"])
async def test_a_renderer_that_is_connecting_again_can_be_closed(tmp_path: Path, when: str) -> None:
    main = await MainProcess(tmp_path / "s").start()
    renderer = await RendererProcess.connect(tmp_path / "s", reconnect=True).start()
    waiting = asyncio.create_task(renderer.wait_closed())
    await main.aclose()
    await until(lambda: renderer.state == "reconnecting")
    if when == "asks":
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as mute:  # it never answers
            mute.bind(str(tmp_path / "s"))
            mute.listen()
            again = renderer._reconnect
            assert again is not None
            await until(lambda: again._sock)
            await renderer.aclose()
    else:
        await renderer.aclose()
    await waiting
    assert state_of(renderer) == "closed"
