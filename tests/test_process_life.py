# SPDX-License-Identifier: MIT
"""What happens to a process that uses lensipc: it forks, starts others, is interrupted, is given another time, ends."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lab
import pytest
from hosting import Host, hosting, until

import lensipc
from lensipc import ExtensionManifest, ForkError, MainProcess, PeerGone, ProtocolError, RendererProcess
from lensipc.transport import unix_socket
from lensipc.transport.endpoint import VERSION

ROOT = Path(__file__).parent.parent


async def script(code: str, *arguments: object, **options: Any) -> tuple[int | None, str]:
    """Run a program that finds what the tests have; its exit status, and all that it said."""
    program = f"import sys; sys.path[:] = {sys.path!r}\n" + textwrap.dedent(code)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        program,
        *map(str, arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **options,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


# ---- fork ----


def in_a_fork(*attempts: Callable[[], object]) -> list[str]:
    """What each attempt comes to in a forked child."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            for attempt in attempts:
                try:
                    attempt()
                    said = "it worked"
                except BaseException as error:
                    said = type(error).__name__
                os.write(writing, f"{said}\n".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said.split("\n")[:-1]


async def test_in_a_fork_of_main_every_object_is_refused_and_the_parent_is_unharmed() -> None:
    async with hosting(1) as host:
        loop, outcome = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
        host.ipc.note("n")
        said = in_a_fork(
            lambda: host.ipc.broadcast("n", "from the child"),
            host.main._core.dispatch,
            lambda: host.main._core.poller.call_later(0, print),
            lambda: next(iter(host.main._core.connections.values())).send(1),
        )
        assert said == ["ForkError"] * 4
        assert await host.ipc.run(host.renderers[0], "invoke", "echo", 1) == (1,)
        host.ipc.broadcast("n", "from the parent")
        await until(lambda: host.ipc.heard["n"])
        assert host.ipc.heard["n"] == [(0, "from the parent")]
        loop.call_later(0.01, outcome.set_result, None)
        await outcome


async def test_in_a_fork_of_a_main_without_renderers_every_object_is_refused_too() -> None:
    async with hosting() as host:
        host.ipc.note("n")
        assert in_a_fork(lambda: host.ipc.broadcast("n", "from the child")) == ["ForkError"]


async def test_in_a_fork_of_a_renderer_every_object_is_refused_and_the_parent_is_unharmed(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s") as host, RendererProcess.connect(tmp_path / "s") as renderer:
        ipc = lab.IpcRenderer.get_instance()
        said = in_a_fork(
            lambda: ipc.broadcast("n", "from the child"),
            lambda: ipc.invoke("echo"),
            lambda: ipc.listen("n", print),
            renderer.dispatch,
            renderer.fileno,
            renderer.run_forever,
        )
        assert said == ["ForkError"] * 6
        assert await ipc.invoke("echo", 1) == (1,)
        host.ipc.note("n")
        ipc.broadcast("n", "from the parent")
        await until(lambda: host.ipc.heard["n"])
        assert host.ipc.heard["n"][0][1] == "from the parent"


async def test_a_fork_of_main_loses_nothing_silently() -> None:
    async with hosting() as host:
        events: list[Any] = []
        host.ipc.listen("n", events.append)
        host.ipc.broadcast("n")
        await until(lambda: events)
        manifest = ExtensionManifest("another", "1")

        def run(change: Any) -> None:
            try:
                change.send(None)
            finally:
                change.close()

        said = in_a_fork(
            lambda: host.ipc.broadcast("never used before"),
            lambda: host.ipc.broadcast("n", print),
            lambda: host.ipc.listen("never used before", print),
            lambda: host.ipc.listen("n", print),
            lambda: host.ipc.handle("never used before", print),
            lambda: events[0].reply("n"),
            lambda: run(host.main.install(manifest)),
            lambda: run(host.main.disable("lab")),
            lambda: run(host.main.uninstall("lab")),
        )
        assert said == ["ForkError"] * 9
        assert host.ipc.handle("never used before", print) is not None


async def test_a_fork_of_a_renderer_loses_nothing_silently(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s"):
        code = """
            import os, plain, lab
            from lensipc import ForkError, RendererProcess
            with RendererProcess.connect(sys.argv[1]) as renderer:
                ipc = lab.IpcRenderer.get_instance()
                events = []
                dispose = ipc.listen("n", events.append)
                ipc.broadcast("n")
                while not events:
                    renderer.dispatch(10)
                asked = ipc.invoke("sleep", 60)
                child = os.fork()
                if not child:
                    for attempt in (
                        lambda: ipc.broadcast("n"),
                        lambda: ipc.broadcast("never used before"),
                        lambda: ipc.listen("n", print),
                        lambda: ipc.listen("never used before", print),
                        lambda: ipc.invoke("never used before"),
                        lambda: ipc.invoke_sync("never used before"),
                        lambda: events[0].reply("n"),
                        lambda: asked.result(),
                        lambda: renderer.dispatch(),
                        lambda: renderer.run_forever(),
                    ):
                        try:
                            attempt()
                            print("it worked", flush=True)
                        except ForkError:
                            print(end=".", flush=True)
                    os._exit(0)
                os.waitpid(child, 0)
                assert ipc.invoke_sync("echo", 2) == (2,)
                asked.cancel()
        """
        assert await script(code, tmp_path / "s") == (0, "." * 10)


async def test_a_child_that_lives_on_keeps_no_connection_open(tmp_path: Path) -> None:
    async with hosting(1, path=tmp_path / "s") as host:
        child = await host.ipc.run(host.renderers[0], "leave_a_child")
        await host.renderers[0].close()
        assert host.main.renderers == []
        os.kill(child, 9)


async def test_a_fork_may_become_a_renderer_of_its_parents_main(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s"):
        code = """
            import os, lab
            from lensipc import RendererProcess
            with RendererProcess.connect(sys.argv[1]):
                child = os.fork()
                if not child:
                    lab.IpcRenderer.reset_instance()
                    with RendererProcess.connect(sys.argv[1]):
                        ok = lab.IpcRenderer.get_instance().invoke_sync("echo", 1) == (1,)
                    os._exit(0 if ok else 1)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
                assert lab.IpcRenderer.get_instance().invoke_sync("echo", 2) == (2,)
        """
        assert await script(code, tmp_path / "s") == (0, "")


async def test_a_fork_that_ends_as_a_program_does_says_nothing_and_undoes_nothing_of_its_parents(
    tmp_path: Path,
) -> None:
    async with hosting(path=tmp_path / "s"):
        plain = """
            import os, lab
            from lensipc import RendererProcess
            with RendererProcess.connect(sys.argv[1]):
                child = os.fork()
                if not child:
                    sys.exit(0)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
                assert lab.IpcRenderer.get_instance().invoke_sync("echo", 2) == (2,)
        """
        assert await script(plain, tmp_path / "s") == (0, "")
    on_asyncio = """
        import asyncio, os, lab
        from hosting import hosting
        async def main():
            async with hosting(1, path=sys.argv[1]) as host:
                child = os.fork()
                if not child:
                    sys.exit(0)
                os.waitpid(child, 0)
                assert os.path.exists(sys.argv[1])
                assert await host.ipc.run(host.renderers[0], "invoke", "echo", 1) == (1,)
        asyncio.run(main())
    """
    if sys.version_info < (3, 14):  # from then on sys.exit does not end a fork of a running loop, lensipc or not
        assert await script(on_asyncio, tmp_path / "s") == (0, "")


# ---- a loop within a loop ----


async def test_a_loop_that_is_run_within_a_listener_in_main_serves_renderers_and_keeps_mains_events_for_later() -> None:
    code = """
        import asyncio, lab
        from hosting import hosting
        from nesting import NestingLoop
        async def main():
            loop, heard, done = asyncio.get_running_loop(), [], []
            async with hosting(2) as host:
                def dialog(event):
                    task = asyncio.current_task()
                    heard.append("dialog")
                    before = time.process_time()
                    loop.call_later(0.5, done.append, "time")
                    loop.nest(lambda: len(done) == 3)
                    heard.append(time.process_time() - before < 0.4)  # of 0.5 s: it does not spin
                async def ask(renderer):
                    await asyncio.sleep(0.1)
                    done.append(await host.ipc.run(renderer, "invoke", "echo", 1))
                host.ipc.listen("dialog", dialog)
                host.ipc.listen("other", lambda event: heard.append("other"))
                asking = [asyncio.create_task(ask(each)) for each in host.renderers]
                loop.call_later(0.05, host.ipc.broadcast, "other")
                host.ipc.broadcast("dialog")
                await asyncio.gather(*asking)
                while len(heard) < 3:
                    await asyncio.sleep(0.01)
                print(heard, end="")
        import time
        with asyncio.Runner(loop_factory=NestingLoop) as runner:
            runner.run(main())
    """
    assert await script(code) == (0, "['dialog', True, 'other']")


# ---- exec ----

OURS = re.compile(r"memfd:|eventfd|eventpoll|timerfd|pidfd|socket:|/dev/shm/")
LIST = "import os; print(*[os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')[:-1]], sep='\\n')"


async def test_no_descriptor_survives_exec_in_main_or_in_a_renderer(tmp_path: Path) -> None:
    before = {link for link in map(os.path.realpath, Path("/proc/self/fd").iterdir()) if OURS.search(link)}
    async with hosting(1, path=tmp_path / "s") as host, RendererProcess.connect(tmp_path / "s"):
        for _ in range(20):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", LIST, close_fds=False, stdout=subprocess.PIPE
            )
            said, _ = await process.communicate()
            assert [link for link in said.decode().split("\n") if OURS.search(link) and link not in before] == []
            said = await host.ipc.run(host.renderers[0], "lab:descriptors_of_a_child")
            assert [link for link in said if OURS.search(link)] == []


# ---- the clock ----

JUMPS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
static long jump(void) { static unsigned calls; return calls++ % 2 ? 3600 : -3600; }
int clock_gettime(clockid_t clock, struct timespec *when)
{
    typedef int function(clockid_t, struct timespec *);
    function *real = (function *)dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, when);
    if (clock == CLOCK_REALTIME) when->tv_sec += jump();
    return result;
}
int gettimeofday(struct timeval *restrict when, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    when->tv_sec = now.tv_sec;
    when->tv_usec = now.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *when)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (when) *when = now.tv_sec;
    return now.tv_sec;
}
"""


async def test_a_wall_clock_that_jumps_by_hours_changes_nothing(tmp_path: Path) -> None:
    source, library = tmp_path / "jumps.c", tmp_path / "jumps.so"
    source.write_text(JUMPS)
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    async with hosting(path=tmp_path / "s") as host:
        code = """
            import time, lab
            from lensipc import InvokeTimeout, RendererProcess
            assert abs(time.time() - time.time()) > 7000, "the clock does not jump"
            for wakeup in ("socket", "semaphore"):
                with RendererProcess.connect(sys.argv[1], wakeup=wakeup) as renderer:
                    ipc = lab.IpcRenderer.get_instance()
                    assert ipc.invoke_sync("echo", 1, timeout=1000) == (1,)
                    assert ipc.invoke_sync("sleep", 0.05, "slept", timeout=1000) == "slept"
                    renderer.dispatch(0.05)
                    try:
                        ipc.invoke_sync("sleep", 1000, "never", timeout=0.05)
                    except InvokeTimeout:
                        print("timeout")
        """
        environment = os.environ | {"LD_PRELOAD": str(library)}
        assert await script(code, tmp_path / "s", env=environment) == (0, "timeout\n" * 2)
        await until(lambda: host.ipc.cancelled == ["never"] * 2)


def test_nothing_asks_for_the_wall_clock() -> None:
    asks = re.compile(r"\btime\.time\b|\btime_ns\(|datetime\.now|\butcnow\b|CLOCK_REALTIME|gettimeofday|\btime\(NULL\)")
    package = Path(lensipc.__file__).parent
    for path in [*package.rglob("*.py"), *(ROOT / "csrc").rglob("*.[ch]")]:
        if path.is_relative_to(package / "bench"):
            continue  # a result has its date
        text = path.read_text()
        if path.name == "wakeup.c":  # where the C library is too old to measure a semaphore's timeout otherwise
            text = re.sub(r"^#else$.*?^#endif$", "", text, flags=re.MULTILINE | re.DOTALL)
        assert asks.search(text) is None, path


# ---- gevent ----


async def test_a_program_that_gevent_has_patched_is_a_renderer_and_waits_for_its_descriptor(tmp_path: Path) -> None:
    async with MainProcess(tmp_path / "s") as main:
        await main.install(ExtensionManifest("lab", "1", main="lab:LabMain", renderer="plain:PlainRenderer"))
        lab.IpcMain.get_instance().handle("send", lambda _event: lab.IpcMain.get_instance().broadcast("n", 1))
        code = """
            from gevent import monkey, socket, spawn
            monkey.patch_all()
            import select
            assert not hasattr(select, "epoll")
            import plain
            from lensipc import RendererProcess
            with RendererProcess.connect(sys.argv[1]) as renderer:
                ipc = plain.Ipc.get_instance()
                assert ipc.invoke_sync("async echo", 1) == (1,)
                heard = []
                ipc.listen("n", lambda event, n: heard.append(n))
                other = spawn(lambda: ipc.invoke_sync("send"))  # another greenlet runs while this one waits
                while not heard:
                    socket.wait_read(renderer.fileno())
                    renderer.dispatch()
                print(heard, other.dead)
        """
        assert await script(code, tmp_path / "s") == (0, "[1] True\n")


# ---- versions ----


async def test_a_renderer_of_another_version_is_told_so_and_so_is_mains_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with MainProcess(tmp_path / "s"):
        code = """
            from lensipc import PeerGone, RendererProcess
            from lensipc.transport import handshake
            handshake.VERSION += 1
            try:
                with RendererProcess.connect(sys.argv[1]):
                    pass
            except PeerGone as error:
                print(error)
        """
        _, said = await script(code, tmp_path / "s")
        both = f"version {VERSION + 1} of the lensipc protocol and this process version {VERSION}:"
        assert said.count(both) == 1
        assert said.startswith("main declined: ")
        assert caplog.text.count(both) == 1


async def test_a_main_of_another_version_is_recognized(tmp_path: Path) -> None:
    with unix_socket.listen(tmp_path / "s") as listening:

        async def other_main() -> None:
            while True:
                try:
                    sock, _ = listening.accept()
                    break
                except BlockingIOError:
                    await asyncio.sleep(0.001)
            with sock, open(os.devnull) as null:  # noqa: PTH123
                words = f'{{"lensipc": {VERSION + 1}}}'.encode()
                socket.send_fds(sock, [words], [null.fileno()] * 2)

        serving = asyncio.create_task(other_main())
        with pytest.raises(ProtocolError, match=f"version {VERSION + 1} .* version {VERSION}:.*install the same"):
            async with RendererProcess.connect(tmp_path / "s"):
                pass
        await serving
    (tmp_path / "s").unlink()


async def test_an_object_of_the_parent_says_whose_it_is(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s") as host:
        assert in_a_fork(lambda: _raises(host)) == ["it worked"]


def _raises(host: Host) -> None:
    with pytest.raises(ForkError, match="belongs to the parent process"):
        host.main._core.dispatch()


async def test_a_renderer_that_main_leaves_behind_is_told_and_ends(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s"), RendererProcess.connect(tmp_path / "s") as renderer:
        ipc = lab.IpcRenderer.get_instance()
        waiting = ipc.invoke("sleep", 60)
        renderer.close()
        with pytest.raises(PeerGone, match="this process has closed the connection"):
            await waiting
