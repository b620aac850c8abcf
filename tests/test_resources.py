# SPDX-License-Identifier: MIT
"""What happens when descriptors or memory run out: a clear error for who comes, nothing for who is there."""

from __future__ import annotations

import asyncio
import errno
import re
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import lab
import pytest
from test_process_life import script

from lensipc import RendererProcess
from lensipc.transport import endpoint

# A main process that can be starved. What it says on its log comes with its output.
MAIN = """
    import sys; sys.path[:] = {path!r}
    import asyncio, lab, logging, os, resource, time
    from lensipc import MainProcess
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    taken = []

    def starve(_event, free):
        used = len(os.listdir("/proc/self/fd")) - 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        try:
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            for _ in range(free):
                os.close(taken.pop())

    def limit(_event, descriptors):
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    def feed(_event):
        while taken:
            os.close(taken.pop())
        return len(os.listdir("/proc/self/fd"))

    def shrink(_event, room):
        pages = int(open("/proc/self/statm").read().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + room, -1))

    async def spawn(_event):
        try:
            renderer = await main.spawn_renderer()
        except Exception as error:
            return f"{{type(error).__name__}}: {{error}}"
        await renderer.close()
        return "in"

    async def serve():
        global main
        async with MainProcess({socket!r}, **{options!r}) as main:
            await main.install(lab.MANIFEST)
            ipc = lab.IpcMain.get_instance()
            for function in (starve, limit, feed, shrink, spawn):
                ipc.handle(function.__name__, function)
            ipc.handle("processor time", lambda _event: time.process_time())
            ipc.handle("take", lambda _event, array: len(array))
            print("ready", flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

    asyncio.run(serve())
"""

COME = """
    import lab
    from lensipc import RendererProcess
    try:
        with RendererProcess.connect(sys.argv[1], timeout=float(sys.argv[2])):
            assert lab.IpcRenderer.get_instance().invoke_sync("echo", 1) == (1,)
            print("in")
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
"""


DECLINED = (
    "main declined: main cannot attach this renderer: [Errno 24] main may have {} descriptors open, and keeps the last "
    "{} for the renderers that it starts: its process needs a higher limit (ulimit -n)"
)


@asynccontextmanager
async def a_main(path: Path, log: list[str], **options: object) -> AsyncIterator[lab.IpcRenderer]:
    """A main process, and this process as its renderer that is there all the while; what its log said."""
    code = textwrap.dedent(MAIN).format(path=sys.path, socket=str(path), options=options)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    while (await process.stdout.readline()) != b"ready\n":
        assert process.returncode is None
    try:
        async with RendererProcess.connect(path):
            yield lab.IpcRenderer.get_instance()
    finally:
        said, _ = await process.communicate(b"")  # which closes its standard input, on Python 3.11 too
        log += said.decode().splitlines()
    assert process.returncode == 0, process.returncode  # not -SIGBUS, say


async def come(path: Path, seconds: float = 60) -> str:
    """What comes of connecting."""
    status, said = await script(COME, path, seconds)
    assert status == 0
    return said.strip()


# ---- descriptors ----


async def test_without_descriptors_who_comes_is_told_and_who_is_there_goes_on(tmp_path: Path) -> None:
    path, outcomes, log = tmp_path / "s", [], []  # type: ignore[var-annotated]
    async with a_main(path, log) as ipc:
        assert await come(path) == "in"
        before = await ipc.invoke("feed")
        reserve = (before + 99) // 4
        for free in (0, 1, 4, *range(reserve - 1, reserve + 7)):
            await ipc.invoke("starve", free)
            outcomes.append(await come(path, 1.0 if free == 0 else 60))
            assert await ipc.invoke("echo", free) == (free,)  # the session that lives goes on
            assert await ipc.invoke("feed") == before
            assert await come(path) == "in"  # and whoever came in vain no longer waits to be accepted
    assert outcomes[0] == "TimeoutError: main did not attach this renderer within 1 s"  # main could not even accept
    assert outcomes[-1] == "in"
    told = [outcome for outcome in outcomes[1:] if outcome != "in"]
    assert len(told) >= 4
    for outcome in told:
        assert outcome == f"PeerGone: {DECLINED.format(before + 99, reserve)}"
    assert sum("cannot accept" in line for line in log) == 1  # it does not fill the log while it waits


# Six processes that each attach, read nothing and never leave, as long as main takes them in.
ATTACHES = """
    import asyncio, os, pathlib
    from hostile.renderer import connect

    async def attach():
        kept = []
        try:
            while True:
                kept.append(await connect(pathlib.Path(sys.argv[1]), None))
        except Exception as error:  # PeerGone, with what main says; the test looks at it
            os.write(1, f"{len(kept)} {error}\\n".encode())  # whole
        sys.stdin.read()

    for _ in range(5):
        if not os.fork():
            break
    asyncio.run(attach())
"""


@pytest.mark.parametrize("limit", [256, 1024])
async def test_however_many_attach_without_end_others_are_served_and_renderers_are_spawned(
    tmp_path: Path, limit: int
) -> None:
    path, log = tmp_path / "s", []  # type: ignore[var-annotated]
    program = f"import sys; sys.path[:] = {sys.path!r}\n" + textwrap.dedent(ATTACHES)
    async with a_main(path, log) as ipc:
        before = await ipc.invoke("feed")
        await ipc.invoke("limit", limit)
        pipe = subprocess.PIPE
        hostile = await asyncio.create_subprocess_exec(sys.executable, "-c", program, path, stdin=pipe, stdout=pipe)
        try:
            assert hostile.stdout is not None
            said = [(await hostile.stdout.readline()).decode() for _ in range(6)]
            taken = [int(line.split()[0]) for line in said]
            if limit == 1024:
                assert taken == [16] * 6
                assert all("16 renderers may be connected by its path of process" in line for line in said)
            else:
                assert 20 < sum(taken) < 48
                assert {line.split(" ", 1)[1].strip() for line in said} == {DECLINED.format(limit, 64)}
            held = await ipc.invoke("feed")
            assert held <= before + 4 * sum(taken)  # a socket, a segment, an eventfd and a pidfd for each
            assert held <= limit - 64
            for number in range(3):
                assert await ipc.invoke("echo", number) == (number,)  # the session that lives goes on
                assert await ipc.invoke("spawn") == "in"
            assert await come(path) == ("in" if limit == 1024 else f"PeerGone: {DECLINED.format(limit, 64)}")
        finally:
            await hostile.communicate(b"")
        assert await come(path) == "in"
        assert await ipc.invoke("feed") == before


async def test_main_does_not_spin_while_it_cannot_accept_and_accepts_by_itself_when_it_can(tmp_path: Path) -> None:
    path, log = tmp_path / "s", []  # type: ignore[var-annotated]
    async with a_main(path, log) as ipc:
        await ipc.invoke("starve", 0)
        coming = asyncio.create_task(come(path))
        await asyncio.sleep(0.5)  # it knocks by now
        before = await ipc.invoke("processor time")
        await asyncio.sleep(1)
        assert await ipc.invoke("processor time") - before < 0.5  # of a second: it sleeps
        assert not coming.done()
        await ipc.invoke("feed")
        assert await coming == "in"


async def test_without_descriptors_a_renderer_is_not_spawned_and_the_error_says_why(tmp_path: Path) -> None:
    path, log = tmp_path / "s", []  # type: ignore[var-annotated]
    async with a_main(path, log) as ipc:
        before, outcomes = await ipc.invoke("feed"), []
        for free in range(0, 14, 2):
            await ipc.invoke("starve", free)
            outcomes.append(await ipc.invoke("spawn"))
            assert await ipc.invoke("feed") == before
        assert outcomes[-1] == "in"
        for outcome in outcomes:
            assert outcome == "in" or outcome.startswith("OSError: [Errno 24]")


async def test_a_renderer_without_descriptors_says_so(tmp_path: Path) -> None:
    path, log = tmp_path / "s", []  # type: ignore[var-annotated]
    code = """
        import os, resource, lab, json
        from lensipc import RendererProcess
        from lensipc.transport import handshake
        from lensipc.runtime import blocking_driver as plain_face
        used = len(os.listdir("/proc/self/fd")) - 1
        for free in range(9):
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + free, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            try:
                with RendererProcess.connect(sys.argv[1]):
                    print("outcome: in")
            except OSError as error:
                print("outcome:", error)
                resource.setrlimit(resource.RLIMIT_NOFILE, (used + 99, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            assert len(os.listdir("/proc/self/fd")) - 1 == used
    """
    async with a_main(path, log) as ipc:
        status, said = await script(code, path)
        assert status == 0, said
        # The log is in it, too: an extension that is not activated for want of a descriptor.
        outcomes = [line.removeprefix("outcome: ") for line in said.splitlines() if line.startswith("outcome: ")]
        assert len(outcomes) == 9
        assert outcomes[-1] == "in"
        for outcome in outcomes:
            assert outcome == "in" or "Errno 24" in outcome
        assert await ipc.invoke("echo", 1) == (1,)


# ---- memory ----


def test_a_segment_that_finds_no_room_says_what_it_needs_and_what_there_is() -> None:
    assert endpoint._free(endpoint.FORM_MEMFD, errno.ENOMEM).endswith(" free")
    assert endpoint._free(endpoint.FORM_SHM, errno.ENOSPC).endswith(" free in /dev/shm")
    assert endpoint._free(endpoint.FORM_MEMFD, errno.EMFILE) == ""


async def test_without_address_space_who_comes_is_told_and_who_is_there_goes_on(tmp_path: Path) -> None:
    path, log = tmp_path / "s", []  # type: ignore[var-annotated]
    async with a_main(path, log, capacity=16 * 1024 * 1024) as ipc:
        assert await come(path) == "in"
        before = await ipc.invoke("feed")
        await ipc.invoke("shrink", 48 * 1024 * 1024)
        for _ in range(3):
            said = await come(path)
            assert "main cannot attach this renderer: no address space to map a segment: 67108864 bytes" in said
            assert await ipc.invoke("echo", bytes(100_000)) == (bytes(100_000),)
        assert await ipc.invoke("feed") == before
        await ipc.invoke("shrink", 1024 * 1024 * 1024)
        assert await come(path) == "in"


async def test_a_message_that_main_has_no_memory_for_disconnects_its_sender_alone(tmp_path: Path) -> None:
    path, log = tmp_path / "s", []  # type: ignore[var-annotated]
    code = """
        import lab
        from lensipc import RendererProcess, PeerGone
        with RendererProcess.connect(sys.argv[1]):
            try:
                lab.IpcRenderer.get_instance().invoke_sync("take", bytes(200_000_000))
            except PeerGone as error:
                print(error)
    """
    async with a_main(path, log, message_limit=1 << 29) as ipc:
        await ipc.invoke("shrink", 100_000_000)
        status, said = await script(code, path)
        assert (status, "no memory" in said) == (0, True), said
        assert await ipc.invoke("echo", 1) == (1,)
        await ipc.invoke("shrink", 1_000_000_000)
        assert await ipc.invoke("take", bytes(200_000_000)) == 200_000_000
    assert sum("is disconnected" in line for line in log) == 1


SMALL_SHM = """
    import asyncio, gc, lab, os
    from hosting import hosting
    from lensipc import MainProcess

    def descriptors():
        # Without open libraries: libffi keeps its own open for a while.
        links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
        return sum(".so" not in os.readlink(link) for link in links if os.path.lexists(link))

    async def main():
        async with hosting(1, form="shm", capacity=256 * 1024) as host:
            (first,) = host.renderers
            before = descriptors()
            for _ in range(3):
                try:
                    await host.main.spawn_renderer()
                except OSError as error:
                    print(error)
                assert descriptors() == before
                assert await host.ipc.run(first, "invoke_array", 2_000_000)  # far more than fits in the rings
            await first.close()
            second = await host.main.spawn_renderer()
            assert await host.ipc.run(second, "invoke_array", 2_000_000)

    asyncio.run(main())
"""


async def test_a_full_dev_shm_is_an_error_with_need_and_free_and_no_bus_error() -> None:
    unshare = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"', "sh"]
    allowed = subprocess.run([*unshare, "true"], capture_output=True)
    if allowed.returncode:
        pytest.skip(f"no tmpfs of our own may be mounted here: {allowed.stderr.decode().strip()}")
    program = f"import sys; sys.path[:] = {sys.path!r}\n" + textwrap.dedent(SMALL_SHM)
    process = await asyncio.create_subprocess_exec(
        *unshare, sys.executable, "-c", program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    # The renderers may say it, too, as what main has told them, and perhaps on main's line.
    told = (
        r"(?<!main cannot attach this renderer: )\[Errno 28\] cannot make a segment of two rings of 262144 bytes "
        r"\(524288 bytes needed, \d+ free in /dev/shm; "
    )
    assert len(re.findall(told, said.decode())) == 3, said.decode()
