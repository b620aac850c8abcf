# SPDX-License-Identifier: MIT
"""Beginning and ending without a block, from anywhere, and what a renderer is told when main ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import ending
import pytest
from hosting import until

from lensipc import ActivationError, ExtensionManifest, MainProcess, PeerGone, RendererProcess
from lensipc.renderer import process as renderer_process

HEADER = f"import sys; sys.path[:] = {sys.path!r}\nimport asyncio, ending, os, pickle, select\nfrom lensipc import *\n"


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    ending.hosts.clear()
    ending.close_in.clear()
    ending.heard.clear()
    yield
    assert ending.IpcMain.get_instance(strict=False) is None


@asynccontextmanager
async def program(code: str, *arguments: str | Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program in a process of its own, whose stdout and stderr are read."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-X",
        "dev",
        "-c",
        HEADER + textwrap.dedent(code),
        *map(str, arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def said(process: asyncio.subprocess.Process) -> list[str]:
    """The lines that a program has printed, which is to end by itself and to complain of nothing."""
    out, err = await process.communicate()
    assert (process.returncode, err.decode()) == (0, "")
    return out.decode().splitlines()


# ---- a host ----


@pytest.mark.parametrize("lacks", ["its path", "a descriptor"])
async def test_a_host_whose_start_has_failed_is_as_one_that_was_not_started(tmp_path: Path, lacks: str) -> None:
    main, other = MainProcess(tmp_path / "s"), MainProcess(tmp_path / "s")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if lacks == "its path":
        await other.start()
    else:
        highest = max(int(number) for number in os.listdir("/proc/self/fd"))  # noqa: PTH208
        held = [os.open("/", os.O_PATH) for _ in range(highest)]  # no number is free below the limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(held) + 1, limits[1]))
    try:
        with pytest.raises(OSError, match=r"already in use|Too many open files"):
            await main.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        if lacks == "its path":
            await other.aclose()
        else:
            for fd in held:
                os.close(fd)
    with pytest.raises(RuntimeError, match="has not been entered"):
        _ = main.extensions
    await main.aclose()
    assert await main.start() is main
    await main.install(ending.MANIFEST)
    await main.aclose()


async def test_a_host_that_is_started_and_closed_does_what_one_in_a_block_does(tmp_path: Path) -> None:
    main = MainProcess(tmp_path / "s")
    assert await main.start() is main
    await main.install(ending.MANIFEST)
    handle = await main.spawn_renderer()
    await main.aclose()
    assert await handle.wait() == 0
    assert not (tmp_path / "s").exists()
    await main.aclose()  # once more does nothing


async def test_what_comes_in_the_wrong_order_or_twice_is_an_error_that_says_so(tmp_path: Path) -> None:
    main = MainProcess(tmp_path / "s")
    with pytest.raises(RuntimeError, match=r"was not started: `await main\.start\(\)` comes before aclose\(\)"):
        await main.aclose()
    await main.start()
    with pytest.raises(RuntimeError, match=r"is entered once, by `async with` or start\(\): make a new one"):
        await main.start()
    with pytest.raises(OSError, match="Address already in use"):
        await MainProcess(tmp_path / "s").start()
    await main.aclose()
    with pytest.raises(RuntimeError, match="is entered once"):
        await main.start()
    with pytest.raises(RuntimeError, match=r"was exited before install\(\)"):
        await main.install(ending.MANIFEST)


async def test_a_host_whose_start_has_failed_can_be_closed(tmp_path: Path) -> None:
    main = MainProcess(tmp_path / "no folder" / "s")
    with pytest.raises(FileNotFoundError):
        await main.start()
    await main.aclose()


def test_a_host_that_is_used_on_another_loop_is_an_error_that_says_so() -> None:
    main = MainProcess()
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        first.run_until_complete(main.start())
        for call in (main.aclose, main.spawn_renderer):
            with pytest.raises(RuntimeError, match=r"another event loop.*use one asyncio\.run\(\) for all of it"):
                second.run_until_complete(call())
    finally:
        first.run_until_complete(main.aclose())
        first.close()
        second.close()


async def test_who_closes_at_once_with_another_waits_for_the_same_end() -> None:
    main = await MainProcess().start()
    await main.install(ending.MANIFEST)
    handle = await main.spawn_renderer()
    await asyncio.gather(main.aclose(), main.aclose(), main.aclose())
    assert not handle.alive
    assert ending.heard.count("deactivated in main") == 1


async def test_a_host_is_closed_to_the_end_though_who_closes_it_is_cancelled() -> None:
    main = await MainProcess().start()
    await main.install(ending.MANIFEST)
    handle = await main.spawn_renderer()
    closing = asyncio.create_task(main.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert not handle.alive


async def test_a_host_that_is_being_closed_takes_nothing_on() -> None:
    main = await MainProcess().start()
    await main.install(ending.MANIFEST)
    spawning = asyncio.create_task(main.spawn_renderer())
    await asyncio.sleep(0.01)
    closing = asyncio.create_task(main.aclose())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match=r"is being closed: spawn_renderer\(\) comes too late"):
        await main.spawn_renderer()
    with pytest.raises(PeerGone, match="exited while the renderer was being started"):
        await spawning
    await closing


@pytest.mark.parametrize("where", ["broadcast quit", "invoke quit", "on_activate", "on_renderer_attached"])
async def test_a_callback_of_main_closes_its_host_and_nobody_waits_for_himself(where: str) -> None:
    main = await MainProcess().start()
    ending.hosts.append(main)
    ending.close_in.add(where)
    handle = await main.spawn_renderer()
    if where == "on_activate":
        with pytest.raises(ActivationError, match="disabled while it was being activated"):
            await main.install(ending.MANIFEST)
    else:
        await main.install(ending.MANIFEST)
        if ending.IpcMain.get_instance(strict=False) is not None:
            ending.IpcMain.get_instance().broadcast(where)
    await handle.wait()
    await main.aclose()  # waits for the end of what the callback has begun
    assert main._core.poller.closed


async def test_a_part_that_closes_its_host_while_it_is_deactivated_does_not_wait_for_itself() -> None:
    main = await MainProcess().start()
    ending.hosts.append(main)
    ending.close_in.add("on_deactivate")
    await main.install(ending.MANIFEST)
    await main.disable("ending")
    await main.aclose()
    assert ending.heard == ["returned from on_deactivate", "deactivated in main"]


async def test_a_program_that_ends_before_its_host_is_closed_leaves_no_renderer(tmp_path: Path) -> None:
    code = """
        import psutil
        async def run():
            main = await MainProcess(sys.argv[1]).start()
            ending.hosts.append(main)
            await main.install(ending.MANIFEST)
            await main.spawn_renderer()
            ending.IpcMain.get_instance().broadcast("broadcast quit")
            while not main._closing.begun:
                await asyncio.sleep(0)
        before = len(os.listdir("/proc/self/fd"))
        asyncio.run(run())
        print(psutil.Process().children(), len(os.listdir("/proc/self/fd")) - before, os.path.exists(sys.argv[1]))
    """
    async with program(code, tmp_path / "s") as process:
        out, err = await process.communicate()
        assert out.decode().splitlines()[-1] == "[] 0 False", err


# ---- a renderer ----


async def test_a_renderer_that_is_started_and_closed_on_asyncio_does_what_one_in_a_block_does(tmp_path: Path) -> None:
    async with MainProcess(tmp_path / "s") as main:
        await main.install(ending.MANIFEST)
        renderer = RendererProcess.connect(tmp_path / "s")
        with pytest.raises(RuntimeError, match="has not been entered"):
            await renderer.aclose()
        renderer.close()  # does nothing
        assert await renderer.start() is renderer
        with pytest.raises(RuntimeError, match="is entered once"):
            await renderer.start()
        assert await ending.IpcRenderer.get_instance().invoke("echo", 1) == 1
        assert renderer.closed_reason is None
        await asyncio.gather(renderer.aclose(), renderer.aclose())
        await renderer.aclose()
        assert renderer.closed_reason == "this process has closed the connection"
        await until(lambda: not main.renderers)


async def test_a_renderer_that_could_not_connect_may_try_again(tmp_path: Path) -> None:
    renderer = RendererProcess.connect(tmp_path / "s")
    with pytest.raises(FileNotFoundError):
        await renderer.start()
    async with MainProcess(tmp_path / "s"):
        await renderer.start()
        await renderer.aclose()


async def test_who_cancels_a_renderers_start_leaves_nothing(tmp_path: Path) -> None:
    async with MainProcess(tmp_path / "s") as main:
        for turns in range(12):
            renderer = RendererProcess.connect(tmp_path / "s")
            starting = asyncio.create_task(renderer.start())
            for _ in range(turns):
                await asyncio.sleep(0)
            if turns and not starting.done():
                with pytest.raises(RuntimeError, match="is entered once"):
                    await renderer.start()
            starting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await starting
            renderer.close()
        await until(lambda: not main.renderers)


async def test_a_renderer_leaves_to_the_end_though_who_closes_it_is_cancelled_or_is_its_own_listener(
    tmp_path: Path,
) -> None:
    async with MainProcess(tmp_path / "s") as main:
        await main.install(ending.MANIFEST)
        renderer = await RendererProcess.connect(tmp_path / "s").start()
        closing = asyncio.create_task(renderer.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert renderer._entered.poller.closed

        again = await RendererProcess.connect(tmp_path / "s").start()
        ended: list[str] = []

        async def leave(_event: object) -> None:
            await again.aclose()
            ended.append("returned")

        ending.IpcRenderer.get_instance().listen("leave", leave)
        ending.IpcRenderer.get_instance().broadcast("leave")
        await until(lambda: ended)
        await again.aclose()
        assert again._entered.poller.closed


async def test_a_script_opens_and_closes_and_what_it_has_sent_is_heard(tmp_path: Path) -> None:
    async with MainProcess(tmp_path / "s") as main:
        await main.install(ending.PLAIN)
        code = """
            renderer = RendererProcess.connect(sys.argv[1])
            renderer.close()
            assert renderer.open() is renderer
            for wrong, why in (
                (renderer.open, "entered once"),
                (lambda: asyncio.run(renderer.aclose()), "close() ends"),
            ):
                try:
                    wrong()
                except RuntimeError as error:
                    assert why in str(error), error
            ipc = ending.IpcRenderer.get_instance()
            for number in range(1000):
                ipc.broadcast("heard", number, bytes(1000))
            renderer.close()
            renderer.close()
            print(renderer.closed_reason)
        """
        async with program(code, tmp_path / "s") as process:
            assert await said(process) == ["on_deactivate", "this process has closed the connection"]
        await until(lambda: len(ending.heard) == 1000)
        assert [number for number, _ in ending.heard] == list(range(1000))


async def test_a_renderer_with_all_the_time_to_attach_does_not_wait_as_long_for_its_parts_when_it_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renderer_process, "LEAVE_WAIT", 0.05)
    async with MainProcess(tmp_path / "s") as main:
        await main.install(ExtensionManifest("stays", "1", renderer="starting:NeverLeavesRenderer"))
        renderer = await RendererProcess.connect(tmp_path / "s", timeout=None).start()
        await renderer.aclose()
        assert renderer.closed_reason == "this process has closed the connection"


# ---- what a renderer is told of the end ----

RUN = {
    "asyncio": """
        async def run():
            async with RendererProcess.connect(sys.argv[1], on_closed=closed) as renderer:
                print("ready", flush=True)
                await renderer.wait_closed()
                print(renderer.closed_reason)
        async def closed(reason):
            print("host:", reason)
        asyncio.run(run())
    """,
    "script": """
        with RendererProcess.connect(sys.argv[1], on_closed=lambda reason: print("host:", reason)) as renderer:
            print("ready", flush=True)
            renderer.run_forever()
            print(renderer.closed_reason)
    """,
    "foreign": """
        renderer = RendererProcess.connect(sys.argv[1], on_closed=lambda reason: print("host:", reason)).open()
        print("ready", flush=True)
        try:
            while select.select([renderer], [], []):
                renderer.dispatch()
        except PeerGone as error:
            assert renderer.closed_reason in str(error)
            print(renderer.closed_reason)
        renderer.close()
    """,
}


@pytest.mark.parametrize("loop", RUN)
@pytest.mark.parametrize("end", ["aclose", "close", "disconnect"])
async def test_a_renderer_is_told_why_main_has_left_it_before_it_is_deactivated(
    tmp_path: Path, loop: str, end: str
) -> None:
    main = await MainProcess(tmp_path / "s").start()
    await main.install(ending.MANIFEST if loop == "asyncio" else ending.PLAIN)
    async with program(RUN[loop], tmp_path / "s") as process:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        await until(lambda: main.renderers)
        if end == "aclose":
            reason = "main is closing"
        elif end == "close":
            reason = "main closed this renderer"
            await main.renderers[0].close()
        else:
            reason = "it is too loud"
            main._core.disconnect(main.renderers[0]._connection, reason)
        await main.aclose()
        lines = await said(process)
        assert reason in lines
        assert [f"on_closed: {reason}", "on_deactivate"] == [each for each in lines if each.startswith("on_")]
        assert f"host: {reason}" in lines


async def test_a_renderer_is_told_that_main_was_killed(tmp_path: Path) -> None:
    host = """
        async def run():
            async with MainProcess(sys.argv[1]) as main:
                await main.install(ending.MANIFEST)
                print("ready", flush=True)
                await asyncio.sleep(600)
        asyncio.run(run())
    """
    async with program(host, tmp_path / "s") as main:
        assert main.stdout is not None
        assert await main.stdout.readline() == b"ready\n"
        async with program(RUN["asyncio"], tmp_path / "s") as process:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n"
            main.kill()
            reason = "it closed the connection, or died"
            lines = await said(process)
            assert lines[:2] == [f"on_closed: {reason}", "on_deactivate"] or f"host: {reason}" in lines[:2]
            assert sorted(lines) == sorted([f"on_closed: {reason}", "on_deactivate", f"host: {reason}", reason])


async def test_disabling_an_extension_and_leaving_by_oneself_close_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with MainProcess(tmp_path / "s") as main:
        await main.install(ending.MANIFEST)
        told: list[str] = []
        async with RendererProcess.connect(tmp_path / "s", on_closed=told.append):
            await main.disable("ending")
            await main.enable("ending")
        await until(lambda: not main.renderers)
        assert told == []
        assert capfd.readouterr().out == "on_deactivate\n" * 2


async def test_a_renderer_that_closes_at_once_is_not_told_that_main_has_left(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with MainProcess(tmp_path / "s") as main:
        await main.install(ending.MANIFEST)
        told: list[str] = []
        renderer = await RendererProcess.connect(tmp_path / "s", on_closed=told.append).start()
        renderer.close()
        await until(lambda: not main.renderers)
        assert told == []
        assert capfd.readouterr().out == "on_deactivate\n"


async def test_what_on_closed_raises_is_logged_and_the_part_is_deactivated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAISE", "1")

    def closed(reason: str) -> None:
        raise ValueError(reason)

    main = await MainProcess(tmp_path / "s").start()
    await main.install(ending.MANIFEST)
    async with RendererProcess.connect(tmp_path / "s", on_closed=closed) as renderer:
        await main.aclose()
        await renderer.wait_closed()
    assert "on_closed of extension ending in renderer 1 raised" in caplog.text
    assert "on_closed of renderer 1 raised" in caplog.text
    assert capfd.readouterr().out == "on_closed: main is closing\non_deactivate\n"


PENDING = """
    async def run():
        async with RendererProcess.connect(sys.argv[1]) as renderer:
            ipc = ending.IpcRenderer.get_instance()
            kept = []

            async def lets_it_go():
                await ipc.invoke("wait")

            async def says_it():
                try:
                    await ipc.invoke("wait")
                except PeerGone as error:
                    print(repr(error), type(pickle.loads(pickle.dumps(error))) is PeerGone)

            async def in_a_group():
                async with asyncio.TaskGroup() as group:
                    group.create_task(lets_it_go())
                    group.create_task(lets_it_go())

            async def gathers():
                await asyncio.gather(ipc.invoke("wait"), lets_it_go(), ipc.invoke("wait"))

            async def in_time():
                async with asyncio.timeout(600):
                    await ipc.invoke("wait")

            async def goes_on():
                while True:
                    ipc.broadcast("nothing")
                    await asyncio.sleep(0.001)

            ipc.invoke("wait")  # dropped at once
            kept.append(ipc.invoke("wait"))  # and at the end
            each = (lets_it_go, says_it, in_a_group, gathers, in_time, goes_on)
            tasks = [asyncio.create_task(one()) for one in each]
            kept.append(tasks.pop())
            while "on_deactivate" not in sys.stdout.said:
                await asyncio.sleep(0.01)
                if len(tasks) == 5:
                    kept.append(tasks.pop(0))
            await renderer.wait_closed()
            await asyncio.sleep(0.05)
            print([task.cancelled() for task in tasks])
            try:
                await ipc.invoke("wait")
            except PeerGone as error:
                print(error)

    class Stdout:
        said = ""
        def write(self, text):
            self.said += text
            return sys.__stdout__.write(text)
        flush = sys.__stdout__.flush
    sys.stdout = Stdout()
    asyncio.run(run())
"""


async def test_what_is_pending_when_main_closes_ends_with_peer_gone_and_no_task_complains(tmp_path: Path) -> None:
    main = await MainProcess(tmp_path / "s").start()
    await main.install(ending.MANIFEST)
    async with program(PENDING, tmp_path / "s") as process:
        await until(lambda: ending.IpcMain.get_instance().waiting == 10)
        await main.aclose()
        assert await said(process) == [
            "on_closed: main is closing",
            "on_deactivate",
            "PeerGone('main is closing') True",
            "[False, False, True, True]",  # a TaskGroup leaves it at the end of those that were cancelled
            "main is closing",
        ]


@pytest.mark.parametrize("how", ["invoke_sync", "result"])
async def test_a_blocking_invoke_ends_when_main_closes_and_main_does_not_wait_for_it(tmp_path: Path, how: str) -> None:
    main = await MainProcess(tmp_path / "s").start()
    await main.install(ending.PLAIN)
    code = """
        renderer = RendererProcess.connect(sys.argv[1]).open()
        ipc = ending.IpcRenderer.get_instance()
        try:
            ipc.invoke_sync("wait") if sys.argv[2] == "invoke_sync" else ipc.invoke("wait").result()
        except PeerGone as error:
            print(error, flush=True)
        renderer.run_forever()
    """
    async with program(code, tmp_path / "s", how) as process:
        await until(lambda: ending.IpcMain.get_instance().waiting == 1)
        await main.aclose()
        assert await said(process) == ["main is closing", "on_closed: main is closing", "on_deactivate"]


async def test_an_on_deactivate_that_blocks_has_its_outcome_though_main_closes(tmp_path: Path) -> None:
    main = await MainProcess(tmp_path / "s").start()
    await main.install(ending.ASKS)
    for name in ("b", "c"):
        await main.install(ExtensionManifest(name, "1", renderer="lensipc:LensRendererExtension"))
    code = """
        renderer = RendererProcess.connect(sys.argv[1]).open()
        print("ready", flush=True)
        renderer.run_forever()
    """
    async with program(code, tmp_path / "s") as process:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        await main.aclose()
        assert "the answer: 5" in await said(process)


async def test_a_renderer_that_main_has_started_ends_without_a_complaint_too(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async with MainProcess() as main:
        await main.install(ending.MANIFEST)
        handle = await main.spawn_renderer()
        ending.hosts.append(main)
        ending.IpcMain.get_instance().broadcast("invoke quit")  # whose future nobody keeps
        assert await handle.wait() == 0
    out, err = capfd.readouterr()
    assert out.splitlines() == ["on_closed: main is closing", "on_deactivate"]
    assert err == ""


async def test_on_sigterm_a_renderer_leaves_by_itself_and_its_part_is_told_of_no_end(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async with MainProcess() as main:
        await main.install(ending.MANIFEST)
        handle = await main.spawn_renderer()
        os.kill(handle.pid, signal.SIGTERM)
        assert await handle.wait() == 0
    assert capfd.readouterr().out == "on_deactivate\n"
