# SPDX-License-Identifier: MIT
"""Guarantee 1, for other processes of this machine: who comes in by the path, and who does not."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import lab
import pytest
from hostile.renderer import Renderer, connect
from hosting import Host, hosting, until
from test_process_life import script

from lensipc import MainProcess, PeerGone, RendererProcess
from lensipc.main import acceptor
from lensipc.transport import handshake, unix_socket
from lensipc.transport.endpoint import FORM_MEMFD, FORM_SHM, create_segment

TOKEN = secrets.token_urlsafe()
NOBODY = 65534

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder of this user's that others can enter."""
    folder = Path(tempfile.mkdtemp(prefix="lensipc-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


# ---- silence ----


async def test_one_that_says_nothing_is_told_and_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "HANDSHAKE_WAIT", 0.2)
    async with MainProcess(tmp_path / "s"):
        before = descriptors()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as sock:
            sock.connect(str(tmp_path / "s"))
            said = await asyncio.get_running_loop().sock_recv(sock, 4096)
            assert handshake.read_goodbye(said) == "no hello in 0.2 s"
            assert await asyncio.get_running_loop().sock_recv(sock, 4096) == b""
        await until(lambda: descriptors() == before)


async def test_the_silent_share_a_few_places_and_one_that_speaks_gets_in(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s"):
        before, socks = descriptors(), []
        for _ in range(3 * acceptor.MOST_SILENT):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
            socks.append(sock)
            while sock.connect_ex(str(tmp_path / "s")):
                await asyncio.sleep(0)
        async with RendererProcess.connect(tmp_path / "s"):
            assert await lab.IpcRenderer.get_instance().invoke("echo", 1) == (1,)
        await until(lambda: descriptors() - before - len(socks) <= acceptor.MOST_SILENT)
        assert b"says nothing" in socks[0].recv(4096)  # the one that was silent longest
        with pytest.raises(BlockingIOError):
            socks[-1].recv(4096)
        for sock in socks:
            sock.close()
        await until(lambda: descriptors() == before)


async def test_who_is_silent_most_gives_its_places_up_and_others_keep_theirs(tmp_path: Path) -> None:
    flood = """
        import socket, time
        socks = []
        for _ in range(150):
            socks.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK))
            while socks[-1].connect_ex(sys.argv[1]):
                time.sleep(0.001)
        for sock in socks[:150 - 63]:
            sock.setblocking(True)
            assert b"says nothing" in sock.recv(4096)
    """
    async with hosting(path=tmp_path / "s") as host:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as sock:
            sock.connect(str(tmp_path / "s"))
            await until(lambda: host.main._acceptor._silent)  # type: ignore[union-attr]
            assert await script(flood, tmp_path / "s") == (0, "")
            with pytest.raises(BlockingIOError):
                sock.recv(4096)  # the one that has been silent longest of all
            sock.send(handshake.hello(1))
            await until(lambda: host.main.renderers)


async def test_a_renderer_that_main_starts_and_that_says_nothing_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 600\n")
    silent.chmod(0o700)
    async with MainProcess() as main:
        monkeypatch.setattr(handshake, "SPAWN_WAIT", 0.3)
        monkeypatch.setattr(sys, "executable", str(silent))
        with pytest.raises(TimeoutError, match=r"said nothing in 0\.3 s"):
            await main.spawn_renderer()
        assert main.renderers == []


# ---- the folder ----


async def test_a_main_that_ends_removes_its_own_socket_and_not_one_that_has_taken_its_place(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with MainProcess(path):
        pass
    assert not path.exists()
    async with MainProcess(path):
        path.unlink()
        next_main = unix_socket.listen(path)
    with next_main, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(str(path))


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722, 0o720])
async def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    before = descriptors()
    with pytest.raises(PermissionError, match=r"chmod go-w.*folder"):
        async with MainProcess(folder / "s"):
            pass
    assert list(folder.iterdir()) == []
    assert descriptors() == before


@pytest.mark.parametrize("mode", [0o1777, 0o755, 0o700])
async def test_a_folder_where_none_can_touch_what_is_anothers_will_do(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    async with MainProcess(folder / "s"), RendererProcess.connect(folder / "s"):
        pass


@root
async def test_a_folder_of_another_user_is_refused(open_folder: Path) -> None:
    os.chown(open_folder, NOBODY, NOBODY)
    with pytest.raises(PermissionError, match=f"belongs to user {NOBODY}") as caught:
        unix_socket.listen(open_folder / "s")
    assert str(open_folder) in str(caught.value)


# ---- other users ----

# Everything that is needed is imported while it may still be read.
OTHER = """
    import asyncio, json, os, sys
    sys.path[:] = {path!r}
    from lensipc import MainProcess, PeerGone, RendererProcess
    from lensipc.runtime import asyncio_driver as asyncio_face
    from lensipc.transport import handshake
    from lensipc.runtime import blocking_driver as plain_face
    import hmac, pathlib
    os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})
    try:
        with RendererProcess.connect({socket!r}, token={token!r}, user={user!r}) as renderer:
            print("in, main is", renderer.main_pid)
    except Exception as error:
        print(type(error).__name__, error)
"""


async def as_another_user(path: Path, token: str | None, user: int | None) -> str:
    """What connecting comes to for a process of another user."""
    code = textwrap.dedent(OTHER).format(path=sys.path, nobody=NOBODY, socket=str(path), token=token, user=user)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE)
    said, _ = await process.communicate()
    return said.decode()


@root
async def test_another_user_cannot_connect_at_all(open_folder: Path) -> None:
    async with MainProcess(open_folder / "s"):
        assert "PermissionError" in await as_another_user(open_folder / "s", None, 0)


@root
async def test_another_user_who_got_at_the_socket_is_declined(open_folder: Path) -> None:
    async with MainProcess(open_folder / "s") as main:
        (open_folder / "s").chmod(0o666)
        assert "PeerGone main declined: it runs as another user" in await as_another_user(open_folder / "s", None, 0)
        assert main.renderers == []
        assert not main._acceptor._silent  # type: ignore[union-attr]


@root
async def test_a_token_lets_another_user_in_and_only_with_it(open_folder: Path) -> None:
    async with MainProcess(open_folder / "s", token=TOKEN):
        assert f"in, main is {os.getpid()}" in await as_another_user(open_folder / "s", TOKEN, 0)
        for wrong in (None, "", TOKEN[:-1], TOKEN + "x", "é"):
            assert "PeerGone main declined: the renderer does not know main's token" in await as_another_user(
                open_folder / "s", wrong, 0
            )


@root
async def test_a_renderer_connects_to_a_main_of_root_unasked(open_folder: Path) -> None:
    async with MainProcess(open_folder / "s", token=TOKEN):
        assert f"in, main is {os.getpid()}" in await as_another_user(open_folder / "s", TOKEN, None)


@root
async def test_a_renderer_says_nothing_to_a_main_of_another_user(open_folder: Path) -> None:
    async with MainProcess(open_folder / "s", token=TOKEN):
        for user in (1234, NOBODY):
            said = await as_another_user(open_folder / "s", TOKEN, user)
            assert f"user 0 listens there, not user {user}" in said


async def test_with_a_token_this_user_needs_it_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with MainProcess(tmp_path / "s", token=TOKEN):
        with pytest.raises(PeerGone, match="does not know main's token"):
            async with RendererProcess.connect(tmp_path / "s"):
                pass
        async with RendererProcess.connect(tmp_path / "s", token=TOKEN):
            pass
    assert TOKEN not in caplog.text


def test_a_token_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 characters"):
        MainProcess("/tmp/s", token="secret")


async def test_no_secret_stands_in_a_renderers_command_line_or_environment(tmp_path: Path) -> None:
    async with hosting(1, path=tmp_path / "s", token=TOKEN) as host:
        (renderer,) = host.renderers
        for name in ("cmdline", "environ"):
            text = Path(f"/proc/{renderer.pid}/{name}").read_bytes()
            assert TOKEN.encode() not in text
            assert str(tmp_path / "s").encode() not in text


# ---- so many of each ----


@asynccontextmanager
async def visitors(path: Path, *count: int) -> AsyncIterator[list[str]]:
    """Other processes that each attach so often and stay; what comes of each attempt."""
    code = """
        import asyncio, pathlib
        from hostile.renderer import connect
        from lensipc import PeerGone

        async def come(count):
            kept = []
            for _ in range(count):
                try:
                    kept.append(await connect(pathlib.Path(sys.argv[1]), None))
                    print("in", flush=True)
                except PeerGone as error:
                    print(error, flush=True)
            sys.stdin.read()

        asyncio.run(come(int(sys.argv[2])))
    """
    program = f"import sys; sys.path[:] = {sys.path!r}\n" + textwrap.dedent(code)
    processes, outcomes = [], []
    try:
        for each in count:
            command = [sys.executable, "-c", program, str(path), str(each)]
            pipe = subprocess.PIPE
            processes.append(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe))
            said = processes[-1].stdout
            assert said is not None
            outcomes += [(await said.readline()).decode().strip() for _ in range(each)]
        yield outcomes
    finally:
        for process in processes:
            await process.communicate(b"")  # which closes its standard input


async def test_one_process_has_sixteen_places_and_its_neighbours_have_theirs(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s") as host:
        before = descriptors()
        async with visitors(tmp_path / "s", acceptor.MOST_OF_PROCESS + 3) as outcomes:
            assert outcomes[:16] == ["in"] * acceptor.MOST_OF_PROCESS
            declined = re.compile(
                r"main declined: .* 16 renderers may be connected by its path of process \d+, and are"
            )
            assert all(declined.fullmatch(outcome) for outcome in outcomes[16:])
            assert len(host.main.renderers) == 16
            async with RendererProcess.connect(tmp_path / "s"):
                assert await lab.IpcRenderer.get_instance().invoke("echo", 1) == (1,)
        await until(lambda: descriptors() == before)
        async with visitors(tmp_path / "s", 16) as outcomes:  # the places are free again
            assert outcomes == ["in"] * 16


async def test_the_host_may_say_how_many_places_there_are_in_all(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s", connection_limit=5) as host:
        async with visitors(tmp_path / "s", 3, 3) as outcomes:
            assert outcomes[:5] == ["in"] * 5
            assert "5 renderers may be connected by its path in all, by MainProcess(connection_limit=)" in outcomes[5]
            await (await host.main.spawn_renderer()).close()  # which is not of them
        async with RendererProcess.connect(tmp_path / "s"):
            pass


def test_how_many_places_there_are_follows_from_the_memory_that_they_take() -> None:
    assert MainProcess()._connection_limit == acceptor.MOST
    for capacity in (2**20, 2**24, 2**28):
        limit = MainProcess(capacity=capacity)._connection_limit
        assert 2 * capacity * limit <= acceptor.MOST_SHARED < 2 * capacity * (limit + 1)
    assert MainProcess(capacity=2**30)._connection_limit == 1


# Everything that is needed is imported while it may still be read.
OF_ANOTHER_USER = """
    import asyncio, hmac, json, os, pathlib
    from hostile.renderer import connect
    from lensipc import PeerGone
    from lensipc.transport import handshake
    hello = handshake.hello
    handshake.hello = lambda wakeup: hello(wakeup, sys.argv[2])
    os.setgroups([]); os.setgid(int(sys.argv[3])); os.setuid(int(sys.argv[3]))

    async def come():
        kept = []
        try:
            while True:
                kept.append(await connect(pathlib.Path(sys.argv[1]), None))
                await asyncio.sleep(0.2)
        except PeerGone as error:
            print(len(kept), error, flush=True)
        sys.stdin.read()

    asyncio.run(come())
"""


@root
async def test_another_user_has_so_many_places_whatever_processes_it_has(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "MOST_OF_USER", 3)
    async with hosting(path=open_folder / "s", token=TOKEN):
        processes = []
        limit = "3 renderers may be connected by its path of user 65534, and are"
        reason = f"main declined: main cannot attach this renderer: [Errno 122] {limit}"
        for _ in range(2):
            code = f"import sys; sys.path[:] = {sys.path!r}\n" + textwrap.dedent(OF_ANOTHER_USER)
            pipe = subprocess.PIPE
            command = [sys.executable, "-c", code, str(open_folder / "s"), TOKEN, str(NOBODY)]
            processes.append(await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe))
        said = [(await each.stdout.readline()).decode() for each in processes if each.stdout is not None]
        assert sorted(said) == sorted([f"2 {reason}\n", f"1 {reason}\n"])
        async with RendererProcess.connect(open_folder / "s", token=TOKEN):
            pass
        for process in processes:
            await process.communicate(b"")  # which closes its standard input


# ---- a place is kept until its holder has hung up ----


def test_what_was_sent_is_unread_until_it_is_read_or_the_other_end_is_closed() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        for again in range(2):
            assert not acceptor.unread(ours)
            socket.send_fds(ours, [b"x"], [0])
            theirs.shutdown(socket.SHUT_WR)
            assert acceptor.unread(ours)
            (theirs.close if again else partial(theirs.recv, 1))()
            assert not acceptor.unread(ours)


@pytest.mark.parametrize("form", [FORM_MEMFD, FORM_SHM])
def test_a_discarded_segment_has_no_memory_any_more(form: int) -> None:
    segment = create_segment(form, 64 * 1024)
    assert os.fstat(segment).st_blocks > 0
    acceptor.discard(segment)
    assert os.fstat(segment).st_blocks == 0
    os.close(segment)


async def disconnected(host: Host) -> Renderer:
    """A renderer that main has disconnected, and that goes on holding all it was given."""
    assert host.main.path is not None
    renderer = await connect(host.main.path, host)
    renderer.sock.send(b"what no renderer says here")
    await until(lambda: renderer.gone)
    return renderer


@pytest.mark.parametrize("how", ["close", "read", "shut down", "shut down and read", "shut down and close"])
async def test_one_that_is_disconnected_keeps_its_place_until_it_has_hung_up_and_read(tmp_path: Path, how: str) -> None:
    async with hosting(path=tmp_path / "s", connection_limit=1) as host:
        before = descriptors()
        renderer = await disconnected(host)
        segment = os.dup(renderer.segment)
        with pytest.raises(PeerGone, match="and are"):
            await connect(tmp_path / "s", host)
        if "shut down" in how:
            renderer.sock.shutdown(socket.SHUT_RDWR)
        if "read" in how:
            assert b"goodbye" in renderer.sock.recv(4096)
        if how in ("read", "shut down"):
            await asyncio.sleep(0.05)
            with pytest.raises(PeerGone, match="and are"):
                await connect(tmp_path / "s", host)
            assert os.fstat(segment).st_blocks > 0
            renderer.sock.close()
        if "close" in how:
            renderer.sock.close()
        await until(lambda: not host.main._acceptor.lingering)  # type: ignore[union-attr]
        assert os.fstat(segment).st_blocks == 0  # what it kept is worth nothing
        os.close(segment)
        renderer.close()
        again = await connect(tmp_path / "s", host)
        again.close()
        await until(lambda: descriptors() == before)


async def test_what_a_renderer_keeps_when_it_hangs_up_by_itself_is_worth_nothing(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s", connection_limit=1) as host:
        for _ in range(5):
            renderer = await connect(tmp_path / "s", host)
            segment = os.dup(renderer.segment)
            renderer.close()
            await until(lambda renderer=renderer: renderer.gone)
            assert os.fstat(segment).st_blocks == 0
            os.close(segment)


async def test_main_can_be_left_while_one_that_it_disconnected_has_not_hung_up(tmp_path: Path) -> None:
    before = descriptors()
    async with hosting(path=tmp_path / "s") as host:
        renderer = await disconnected(host)
    renderer.close()
    assert descriptors() == before


# ---- who it is ----

STAYS = """
    from lensipc import RendererProcess
    with RendererProcess.connect(sys.argv[1]) as renderer:
        renderer.run_forever()
"""


async def test_a_renderer_that_came_by_the_path_can_be_killed(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s") as host:
        coming = asyncio.create_task(script(STAYS, tmp_path / "s"))
        await until(lambda: host.main.renderers)
        (renderer,) = host.main.renderers
        renderer.kill()
        assert (await coming)[0] == -signal.SIGKILL
        assert await renderer.wait() is None
        assert not renderer.alive
        renderer.kill()  # nothing


# A main whose kernel or sandbox refuses some calls.
CONFINED = """
    import asyncio, confined, errno, logging, os, signal
    from lensipc import MainProcess, RendererProcess
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    confined.refuse("getsockopt", errno.ENOPROTOOPT, 77)  # SO_PEERPIDFD, as before Linux 6.5
    if sys.argv[2] != "0":
        confined.refuse("pidfd_open", int(sys.argv[2]))

    async def serve():
        async with MainProcess(sys.argv[1]) as main:
            async with RendererProcess.connect(sys.argv[1]) as renderer:
                (attached,) = main.renderers
                try:
                    attached.kill()
                except PermissionError as error:
                    print(error)
                await attached.close()
                await renderer.wait_closed()
                assert not attached.alive and await attached.wait() is None
            for how in "kill", "close", "die":
                spawned = await main.spawn_renderer()
                assert spawned.alive
                if how == "die":
                    os.kill(spawned.pid, signal.SIGKILL)
                elif how == "kill":
                    spawned.kill()
                else:
                    await spawned.close()
                print(how, await spawned.wait(), spawned.alive, len(main.renderers))
            assert not main._runs
            print(len(os.listdir("/proc/self/fd")) - before)

    before = len(os.listdir("/proc/self/fd"))
    asyncio.run(serve())
    print(len(os.listdir("/proc/self/fd")) - before)
"""


@pytest.mark.parametrize("code", [0, errno.EPERM, errno.ENOSYS])
async def test_without_those_system_calls_all_are_served_and_only_who_main_started_is_killed(
    tmp_path: Path, code: int
) -> None:
    status, said = await script(CONFINED, tmp_path / "s", code)
    lines = [line for line in said.splitlines() if not line.startswith("renderer ")]  # the log's word of its death
    assert status == 0, said
    if code:
        assert f"pidfd_open: {os.strerror(code)}: main learns of a renderer's death by the end of its" in lines.pop(0)
    assert "is not main's to kill" in lines[0]
    assert "close() disconnects it" in lines[0]
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["kill", "-9", "False"],
        ["close", "0", "False"],
        ["die", "-9", "False"],
    ]
    assert lines[-1] == "0"


# One connects, leaves its socket to a child, and ends. The child says hello when the pid is a stranger's.
LEAVES = """
    import os, socket, sys
    from lensipc.transport import handshake
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.connect(sys.argv[1])
    if os.fork():
        os._exit(0)
    sys.stdin.read(1)
    sock.send(handshake.hello(1))
    sys.stdin.read(1)
"""
# In a PID namespace of its own, where it can choose the next pid.
REUSED = """
    import asyncio, confined, errno, os, pathlib, signal, subprocess, time
    from lensipc import MainProcess
    if sys.argv[2] == "old":
        confined.refuse("getsockopt", errno.ENOPROTOOPT, 77)  # SO_PEERPIDFD, as before Linux 6.5

    async def serve():
        async with MainProcess(sys.argv[1]) as main:
            first = subprocess.Popen([sys.executable, "-c", sys.argv[3], sys.argv[1]], stdin=subprocess.PIPE)
            first.wait()
            stranger = None
            while stranger != first.pid:
                pathlib.Path("/proc/sys/kernel/ns_last_pid").write_text(str(first.pid - 1))
                stranger = os.fork()
                if not stranger:
                    time.sleep(600)
                    os._exit(0)
                if stranger != first.pid:
                    os.kill(stranger, signal.SIGKILL)
                    os.waitpid(stranger, 0)
            first.stdin.write(b"x")
            first.stdin.flush()
            seen = 0
            for _ in range(200):
                await asyncio.sleep(0.005)
                for renderer in main.renderers:
                    seen += 1
                    assert renderer.pid == stranger
                    try:
                        renderer.kill()
                    except PermissionError as error:
                        assert "not main's to kill" in str(error)
            print(seen > 100, os.waitpid(stranger, os.WNOHANG))
            os.kill(stranger, signal.SIGKILL)
            os.waitpid(stranger, 0)
            first.stdin.close()

    asyncio.run(serve())
"""


def of_own_pids(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program in a PID namespace of its own."""
    unshare = ["unshare", "-rpf", "--mount-proc", "--kill-child"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("no PID namespace may be made here")
    program = f"import sys; sys.path[:] = {sys.path!r}\n" + textwrap.dedent(code)
    command = [*unshare, sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("kernel", ["new", "old"])
def test_a_stranger_who_has_the_pid_of_one_that_connected_is_never_killed(tmp_path: Path, kernel: str) -> None:
    leaves = f"import sys; sys.path[:] = {sys.path!r}\n" + textwrap.dedent(LEAVES)
    done = of_own_pids(REUSED, tmp_path / "s", kernel, leaves)
    # With a pidfd of the peer's own, main also sees that it has ended.
    assert done.stdout == f"{kernel == 'old'} (0, 0)\n", done.stderr


INSIDE = """
    import asyncio, pathlib
    from lensipc import MainProcess

    async def serve():
        async with MainProcess(sys.argv[1]) as main:
            pathlib.Path(sys.argv[2]).touch()
            while not main.renderers:
                await asyncio.sleep(0.01)
            (renderer,) = main.renderers
            try:
                renderer.kill()
            except PermissionError as error:
                print(renderer.pid, error, flush=True)
            while main.renderers:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(serve(), 30))
"""


async def test_a_renderer_outside_mains_pid_namespace_is_served_and_not_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    inside = asyncio.create_task(asyncio.to_thread(of_own_pids, INSIDE, tmp_path / "s", ready))
    await until(lambda: ready.exists() or inside.done())
    if not inside.done():
        async with RendererProcess.connect(tmp_path / "s") as renderer:
            await asyncio.sleep(0.1)
            assert renderer.connected
    done = await inside
    assert done.stdout.startswith("0 [Errno 1] renderer 1 (pid 0) is not main's to kill"), done.stderr
    assert "another PID namespace" in done.stdout


async def test_a_renderer_in_a_pid_namespace_of_its_own_is_served_and_can_be_killed(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s") as host:
        inside = asyncio.create_task(asyncio.to_thread(of_own_pids, STAYS, tmp_path / "s"))
        await until(lambda: host.main.renderers or inside.done())
        for renderer in host.main.renderers:
            assert renderer.pid > 0
            renderer.kill()
        assert (await inside).returncode != 0


async def test_strangers_cannot_fill_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with hosting(path=tmp_path / "s", token="a token of sixteen characters"):
        word = json.dumps({"lensipc": "forged\nline \x1b[2J" + "x" * 3000}).encode()
        began, sent = time.monotonic(), 0
        while time.monotonic() < began + 2.5:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as sock:
                while sock.connect_ex(str(tmp_path / "s")):
                    await asyncio.sleep(0)
                sock.send(word)
                sent += 1
                await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        seconds, lines = time.monotonic() - began, [record.getMessage() for record in caplog.records]
    assert sent > 200
    assert len(lines) <= 10 * (int(seconds) + 2)  # the first and the last second are begun in, an earlier test's also
    assert all(line.isprintable() and len(line) < 2000 for line in lines)
    left_out = [re.search(r"\(and (\d+) more lines like this one, which were left out\)", line) for line in lines]
    assert sum(int(found[1]) for found in left_out if found) > 50
