"""Guarantee 6: a process that is killed takes nothing with it, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import weakref
from pathlib import Path

import lab
import psutil
import pytest
from hosting import hosting, until

from lensipc import MainProcess, PeerGone, RendererProcess


async def test_when_a_renderer_is_killed_the_others_go_on() -> None:
    async with hosting(3) as host:
        victim, *others = host.renderers
        for renderer in host.renderers:
            await host.ipc.run(renderer, "note", "news")
        sleeping = asyncio.create_task(host.ipc.run(victim, "invoke", "sleep", 60, "victim's"))
        await until(lambda: host.ipc.running == 1)
        victim.kill()
        assert await victim.wait() == -signal.SIGKILL
        await until(lambda: host.main.renderers == others)
        await until(lambda: host.ipc.cancelled == ["victim's"])  # its handlers are cancelled
        host.ipc.broadcast("news", 1)
        for renderer in others:
            assert await host.ipc.run(renderer, "hear", "news", 1) == [(0, 1, 0)]
            assert await host.ipc.run(renderer, "invoke", "echo", 2) == (2,)
        sleeping.cancel()


async def test_what_a_renderer_had_sent_before_it_was_killed_is_delivered() -> None:
    async with hosting(1) as host:
        host.ipc.note("last words")
        running = asyncio.create_task(host.ipc.run(host.renderers[0], "broadcast_and_die", "last words", 1000))
        await host.renderers[0].wait()
        await until(lambda: not host.main.renderers)
        assert host.ipc.heard["last words"] == [(host.renderers[0].frame_id, number) for number in range(1000)]
        running.cancel()


async def test_descriptors_and_mappings_of_main_are_as_before_after_many_kills() -> None:
    async with hosting() as host:
        here = psutil.Process()

        async def one() -> None:
            renderer = await host.main.spawn_renderer()
            renderer.kill()
            await renderer.wait()
            await until(lambda: not host.main.renderers)

        await one()
        descriptors, mappings = here.num_fds(), _segments()
        for _ in range(5):
            await one()
        assert here.num_fds() == descriptors
        assert _segments() == mappings


def _segments() -> int:
    return Path("/proc/self/maps").read_text().count("lensipc")


MAIN = """
    import asyncio, sys
    sys.path[:0] = {path!r}
    import lab
    from lensipc import MainProcess

    async def host():
        async with MainProcess({socket!r}) as main:
            await main.install(lab.MANIFEST)
            ipc = lab.IpcMain.get_instance()
            for _ in range({renderers}):
                renderer = await main.spawn_renderer()
                ipc.broadcast("run", renderer.pid, 0, "{function}", (1000,)[: {function!r} == "block"])
            print("ready", *[each.pid for each in main.renderers], flush=True)
            await asyncio.sleep(60)

    asyncio.run(host())
"""


def runs(pid: int) -> bool:
    """Whether the process runs: a zombie, which its parent or init has yet to reap, does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def start_main(path: Path, renderers: int = 0, function: str = "invoke_until_gone") -> subprocess.Popen[str]:
    """A main process of its own, with the lab installed and renderers that run a function, which listens at `path`."""
    code = textwrap.dedent(MAIN).format(path=sys.path, socket=str(path), renderers=renderers, function=function)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


async def test_a_renderers_channels_are_freed_when_it_goes_and_not_by_the_garbage_collector(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s") as host:
        gc.disable()  # a full collection holds everybody up for longer, the more there is
        try:
            async with RendererProcess.connect(tmp_path / "s"):
                ipc = lab.IpcRenderer.get_instance()
                ipc.listen("its own", print)
                await ipc.invoke("echo")
                topic = weakref.ref(host.ipc._port.table.channels["its own"].topic)
            await until(lambda: not host.main.renderers)
            assert topic() is None
        finally:
            gc.enable()


async def test_when_main_is_killed_pending_invokes_fail_and_nothing_is_left(tmp_path: Path) -> None:
    path = tmp_path / "main.sock"
    with start_main(path, renderers=2) as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()[1:]]
        assert len(pids) == 2
        async with RendererProcess.connect(path) as renderer:
            import lab

            ipc = lab.IpcRenderer.get_instance()
            assert await ipc.invoke("echo", 1) == (1,)
            pending = [ipc.invoke("sleep", 60), ipc.invoke("sleep", 60, timeout=50)]
            await asyncio.sleep(0.05)
            process.kill()
            for invocation in pending:
                with pytest.raises(PeerGone, match="main is gone"):
                    await invocation
            await renderer.wait_closed()
            for attempt in (lambda: ipc.broadcast("n"), lambda: ipc.invoke("echo"), lambda: ipc.listen("n", print)):
                for _ in range(2):
                    with pytest.raises(PeerGone, match="main is gone"):
                        attempt()
            with pytest.raises(PeerGone, match="main is gone"):
                await ipc.drain()
            assert not renderer.connected
        assert process.wait() == -signal.SIGKILL
        await until(lambda: not any(map(runs, pids)))  # the renderers it had started
        await until(lambda: not path.exists())  # and its socket, which only this renderer could remove


async def test_a_renderer_removes_the_path_that_it_took_and_none_that_main_could_name(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(tmp_path / "dead"))
    with start_main(tmp_path / "main.sock", renderers=1) as process:
        assert process.stdout is not None
        spawned = int(process.stdout.readline().split()[1])
        (tmp_path / "main.sock").rename(tmp_path / "taken")
        (tmp_path / "dead").rename(tmp_path / "main.sock")  # where main's own word would lead
        async with RendererProcess.connect(tmp_path / "taken") as renderer:
            process.kill()
            await renderer.wait_closed()
        assert not (tmp_path / "taken").exists()
    await until(lambda: not runs(spawned))
    assert (tmp_path / "main.sock").exists()


# Everything that is needed is imported while it may still be read.
OF_ANOTHER_USER = """
    import sys; sys.path[:] = {path!r}
    import asyncio, hmac, json, os, pathlib, signal
    from lensipc import MainProcess
    from lensipc.runtime import asyncio_driver as asyncio_face
    from lensipc.transport import handshake
    os.setgroups([]); os.setgid(65534); os.setuid(65534)

    async def host():
        async with MainProcess({socket!r}, token="0123456789abcdef") as main:
            print("ready", flush=True)
            while not main.renderers:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(asyncio.wait_for(host(), 30))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
async def test_a_renderer_removes_no_socket_of_another_users_main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, 65534, 65534)
        path = Path(folder) / "s"
        code = textwrap.dedent(OF_ANOTHER_USER).format(path=sys.path, socket=str(path))
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            async with RendererProcess.connect(path, token="0123456789abcdef", user=65534) as renderer:
                await renderer.wait_closed()
        assert process.returncode == -signal.SIGKILL
        assert path.exists()


async def test_when_main_is_killed_even_a_renderer_whose_code_never_returns_ends(tmp_path: Path) -> None:
    with start_main(tmp_path / "main.sock", renderers=1, function="block") as process:
        assert process.stdout is not None
        pids = [int(word) for word in process.stdout.readline().split()[1:]]
        await asyncio.sleep(0.2)  # it blocks by now
        process.kill()
        process.wait()
        await until(lambda: not any(map(runs, pids)))


async def test_one_that_has_closed_its_end_is_let_go_though_main_was_about_to_rest(tmp_path: Path) -> None:
    """It lives on, so that nothing but the end of its socket's file tells of it."""
    async with hosting(path=tmp_path / "s") as host:
        renderer = RendererProcess.connect(tmp_path / "s")
        await renderer.__aenter__()
        host.ipc.note("n")
        lab.IpcRenderer.get_instance().broadcast("n", 1)
        renderer.close()
        core = host.main._core
        core.next_turn(linger=True)
        core.dispatch()
        await until(lambda: not host.main.renderers)
        assert host.ipc.heard["n"][0][1] == 1


async def test_a_new_main_takes_the_path_of_one_that_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "main.sock"
    with start_main(path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        process.wait()
        assert path.exists()  # nobody was there to remove it
    async with hosting(path=path), RendererProcess.connect(path):
        pass
    assert not path.exists()


async def test_a_main_does_not_take_the_path_of_one_that_lives(tmp_path: Path) -> None:
    path = tmp_path / "main.sock"
    async with MainProcess(path):
        with pytest.raises(OSError, match=r"main\.sock"):
            async with MainProcess(path):
                pass
        async with RendererProcess.connect(path):
            pass


async def test_a_stopped_renderer_is_not_dead_and_loses_nothing() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        await host.ipc.run(renderer, "note", "n")
        os.kill(renderer.pid, signal.SIGSTOP)
        for number in range(5000):
            host.ipc.broadcast("n", number)
        await asyncio.sleep(0.3)
        os.kill(renderer.pid, signal.SIGCONT)
        got = await host.ipc.run(renderer, "hear", "n", 5000)
        assert got == [(0, number, 0) for number in range(5000)]


async def test_closing_a_renderer_deactivates_its_parts_and_ends_it() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        await renderer.close()
        assert not renderer.alive
        assert await renderer.wait() == 0
        assert host.main.renderers == []
        await renderer.close()  # once is enough


async def test_a_renderer_that_will_not_exit_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lensipc.main.lifecycle.DEACTIVATION_WAIT", 0.3)
    monkeypatch.setattr("lensipc.main.run.EXIT_WAIT", 0.3)
    async with hosting(1) as host:
        (renderer,) = host.renderers
        running = asyncio.create_task(host.ipc.run(renderer, "lab:block", 60))
        await asyncio.sleep(0.2)
        running.cancel()
        await renderer.close()
        assert await renderer.wait() == -signal.SIGKILL


async def test_a_script_meets_peer_gone_in_every_call_once_main_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "main.sock"
    code = f"""
import sys; sys.path[:] = {sys.path!r}
import lab, os, signal
from lensipc import PeerGone, RendererProcess
with RendererProcess.connect({str(path)!r}) as renderer:
    ipc = lab.IpcRenderer.get_instance()
    os.kill(renderer.main_pid, signal.SIGKILL)
    calls = {{
        "wait": lambda: renderer.dispatch(60) or renderer.dispatch(60),
        "invoke_sync": lambda: ipc.invoke_sync("echo", 1),
        "invoke": lambda: ipc.invoke("echo", 1),
        "broadcast": lambda: ipc.broadcast("n"),
        "listen": lambda: ipc.listen("n", print),
        "drain_sync": ipc.drain_sync,
    }}
    for name, call in calls.items():
        try:
            call()
        except PeerGone:
            print(name)
"""
    with start_main(path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stdout.split() == ["wait", "invoke_sync", "invoke", "broadcast", "listen", "drain_sync"]
        process.wait()


async def test_one_that_main_has_disconnected_and_that_does_not_end_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lensipc.main.run.EXIT_WAIT", 0.2)
    async with hosting(1) as host:
        (renderer,) = host.renderers
        os.kill(renderer.pid, signal.SIGSTOP)
        host.main._core.disconnect(host.main._core.connections[renderer.frame_id], "for the test")
        assert await renderer.wait() == -signal.SIGKILL


async def test_a_renderer_is_gone_when_it_dies_though_a_program_that_it_started_has_its_socket_open() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        child = await host.ipc.run(renderer, "leave_a_child_with_the_socket")
        try:
            renderer.kill()
            await until(lambda: not host.main.renderers)
            assert runs(child)
        finally:
            os.kill(child, signal.SIGKILL)
