"""lensipc.testing and its pytest plugin: tests as a user would write them, run by pytest."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import greeting
import pytest

from lensipc import ActivationError, PeerGone
from lensipc.testing import ExtensionErrors, Host, LeaksFound, NeedsProcesses, fake_event

pytest_plugins = ["pytester"]

MakeHost = Callable[..., Host]
EXTENSIONS = Path(greeting.__file__).parent

both = pytest.mark.parametrize("in_process", [False, True], ids=["processes", "in_process"])


def heard() -> list[str]:
    return greeting.IpcRenderer.get_instance().heard


# ---- a host ----


@both
async def test_the_same_test_runs_in_processes_and_in_this_one(lensipc_host: MakeHost, in_process: bool) -> None:
    async with lensipc_host(greeting.MANIFEST, in_process=in_process) as host:
        first, second = await host.renderer(1), await host.renderer(2)
        assert await host.renderer(1) is first
        await host.settle()
        assert greeting.IpcMain.get_instance().come == ["an-id", "an-id"]
        assert [await host.ask(each, heard) for each in (first, second)] == [["an-id"]] * 2
        await host.ask(second, lambda: heard().append("its own"))
        assert (await first.ask(heard), await second.ask(heard)) == (["an-id"], ["an-id", "its own"])
        assert greeting.IpcRenderer.get_instance(strict=False) is None
        assert (await first.ask(os.getpid) == os.getpid()) == in_process
        assert first.frame_id != second.frame_id


@both
async def test_a_test_invokes_broadcasts_and_hears_as_the_extension_would(
    lensipc_host: MakeHost, in_process: bool
) -> None:
    async with lensipc_host(greeting.MANIFEST, in_process=in_process) as host:
        first, second = await host.renderer(1), await host.renderer(2)
        assert await first.invoke("describe", "x") == {"id": "x", "state": "ready"}
        with pytest.raises(KeyError, match="''"):
            await first.invoke("describe", "")
        in_main = host.hear("news")
        await second.hear("news")
        await first.broadcast("news", 1)
        host.broadcast("news", 2)
        await host.settle()
        assert in_main == await second.heard("news") == [(1,), (2,)]


@both
async def test_what_a_function_raises_in_a_renderer_is_raised_in_the_test(
    lensipc_host: MakeHost, in_process: bool
) -> None:
    class OddError(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    def odd() -> None:
        raise OddError(1, 2)

    async def late() -> int:
        raise LookupError("late")

    async with lensipc_host(greeting.MANIFEST, in_process=in_process) as host:
        renderer = await host.renderer()
        with pytest.raises(LookupError, match="late"):
            await renderer.ask(late)
        with pytest.raises(Exception, match="1 and 2"):
            await renderer.ask(odd)
        with pytest.raises(TimeoutError, match=r"renderer 1 has not answered .*sleep.* in 0.1 s"):
            await renderer.ask(_sleep_for_ever, timeout=0.1)


async def _sleep_for_ever() -> None:
    await asyncio.sleep(60)


@both
async def test_a_part_that_cannot_be_activated_makes_renderer_fail(lensipc_host: MakeHost, in_process: bool) -> None:
    settings = {"greeting": "raise"}
    async with lensipc_host(greeting.MANIFEST, in_process=in_process, settings=settings) as host:
        with pytest.raises(ActivationError, match="no greetings"):
            await host.renderer()


def test_where_there_is_no_loop_the_host_brings_one(lensipc_host: MakeHost) -> None:
    with lensipc_host(greeting.MANIFEST, in_process=True) as host:
        renderer = host.run(host.renderer())
        assert host.run(renderer.invoke("describe", "x"))["id"] == "x"


async def test_a_host_that_is_entered_in_the_wrong_way_says_the_right_one(lensipc_host: MakeHost) -> None:
    with pytest.raises(RuntimeError, match="`async with` its host"), lensipc_host(greeting.MANIFEST):
        pass
    async with lensipc_host() as host:
        settling = host.settle()
        with pytest.raises(RuntimeError, match="await the coroutine"):
            host.run(settling)
        await settling
        with pytest.raises(TypeError, match="this host has 0 extensions"):
            host.hear("news")
    with pytest.raises(TypeError, match="made for manifests, not for str"):
        lensipc_host("greeting")


async def test_a_handler_is_called_alone_with_an_event_that_nobody_has_sent() -> None:
    event = fake_event("describe", frame_id=7, extension="greeting")
    assert await greeting.describe(event, "x") == {"id": "x", "state": "ready"}
    assert event.replies == [("progress", 50)]
    assert (event.frame_id, event.process, event.pid) == (7, "renderer", os.getpid())


async def test_without_cloudpickle_only_a_function_of_the_test_needs_it_and_says_so(
    lensipc_host: MakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    async with lensipc_host(greeting.MANIFEST, in_process=True) as host:
        renderer = await host.renderer()
        assert (await renderer.invoke("describe", "x"))["id"] == "x"
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'lensipc\[testing\]'"):
            await renderer.ask(heard)


# ---- faults ----


async def test_a_killed_renderer_is_gone_and_comes_again_when_it_is_asked_for(lensipc_host: MakeHost) -> None:
    async with lensipc_host(greeting.MANIFEST) as host:
        renderer = await host.renderer()
        await renderer.kill()
        assert not renderer.connected
        assert await renderer.handle.wait() == -signal.SIGKILL
        with pytest.raises(PeerGone, match="renderer 1 is gone"):
            await renderer.ask(heard)
        again = await host.renderer()
        assert again is not renderer
        await host.settle()
        assert await again.ask(heard) == ["an-id"]


async def test_a_stopped_renderer_answers_when_it_goes_on(lensipc_host: MakeHost) -> None:
    async with lensipc_host(greeting.MANIFEST) as host:
        renderer = await host.renderer()
        await renderer.stop()
        with pytest.raises(TimeoutError):
            await renderer.ask(heard, timeout=0.1)
        await renderer.cont()
        assert await renderer.ask(os.getpid) == renderer.pid
        await renderer.stop()  # the host lets it go on


async def test_a_slow_renderer_sleeps_in_each_turn_of_its_loop(lensipc_host: MakeHost) -> None:
    def turns() -> Any:
        import asyncio
        import time

        async def count() -> float:
            began = time.monotonic()
            for _ in range(3):
                await asyncio.sleep(0)
            return time.monotonic() - began

        return count()

    async with lensipc_host(greeting.MANIFEST) as host:
        renderer = await host.renderer()
        await renderer.slow(0.05)
        assert await renderer.ask(turns) >= 0.1


@both
async def test_a_dropped_renderer_meets_peer_gone(lensipc_host: MakeHost, in_process: bool) -> None:
    async with lensipc_host(greeting.MANIFEST, in_process=in_process) as host:
        renderer = await host.renderer()
        await renderer.drop()
        assert not renderer.connected


async def test_a_fault_that_needs_a_process_says_so(lensipc_host: MakeHost) -> None:
    async with lensipc_host(greeting.MANIFEST, in_process=True) as host:
        renderer = await host.renderer()
        for fault in (renderer.kill, renderer.stop, lambda: renderer.slow(1.0)):
            with pytest.raises(NeedsProcesses, match="in_process=False"):
                await fault()


# ---- what fails a test besides its assertions ----


@pytest.mark.parametrize(
    ("mistake", "named"),
    [
        ("open", r"descriptor \d+ \(/etc/passwd\), made at .*greeting.py:\d+, in Renderer.on_activate"),
        ("socket", r"descriptor \d+ \(socket:.*\), made at .*greeting.py:\d+, in Renderer.on_activate"),
        ("eventfd", r"descriptor \d+ \(anon_inode:.*\), made at .*greeting.py:\d+, in Renderer.on_activate"),
        ("task", r"a task that runs sleep, at .*, made at .*greeting.py:\d+, in Renderer.on_activate"),
    ],
)
async def test_what_a_renderer_leaves_open_is_named_with_the_place_where_it_was_made(
    lensipc_host: MakeHost, mistake: str, named: str
) -> None:
    with pytest.raises(LeaksFound, match=rf"renderer 1 \(pid \d+\) has left open:\n  {named}"):
        async with lensipc_host(greeting.MANIFEST, settings={"greeting": mistake}) as host:
            await host.renderer()


async def test_what_the_test_itself_leaves_open_is_named_too(lensipc_host: MakeHost) -> None:
    import mmap

    left = SimpleNamespace()
    with pytest.raises(LeaksFound) as found:  # noqa: PT012 - what the host finds when it is left
        async with lensipc_host(greeting.MANIFEST, in_process=True):
            left.process = subprocess.Popen(["sleep", "60"])
            left.memory = os.memfd_create("a-memory")
            os.ftruncate(left.memory, 8192)
            left.mapping = mmap.mmap(left.memory, 8192)
    left.process.kill()
    left.process.wait()
    left.mapping.close()
    os.close(left.memory)
    text = str(found.value)
    assert f"child process {left.process.pid} (sleep 60), made at {__file__}" in text
    assert "mapping of 8192 bytes of /memfd:a-memory" in text
    assert text.count(__file__) >= 3


@both
async def test_what_a_listener_raises_fails_the_test_unless_it_is_taken(
    lensipc_host: MakeHost, in_process: bool
) -> None:
    with pytest.raises(ExtensionErrors, match=r"listener of greeting/welcome in renderer 1 raised(.|\n)*TypeError"):  # noqa: PT012
        async with lensipc_host(greeting.MANIFEST, in_process=in_process) as host:
            await host.renderer()
            host.broadcast("welcome")
            await host.settle()
    async with lensipc_host(greeting.MANIFEST, in_process=in_process) as host:
        await host.renderer()
        host.broadcast("welcome")
        await host.settle()
        assert len(host.take_errors()) == 1


async def test_a_renderer_that_dies_by_itself_fails_the_test(lensipc_host: MakeHost) -> None:
    with pytest.raises(ExtensionErrors, match=r"renderer 1 \(pid \d+\) died of signal 6 \(SIGABRT\)"):  # noqa: PT012
        async with lensipc_host(greeting.MANIFEST) as host:
            renderer = await host.renderer()
            with pytest.raises(PeerGone):
                await renderer.ask(os.abort)


async def test_a_renderer_that_main_was_asked_for_fails_the_test_too_if_it_dies_by_itself(
    lensipc_host: MakeHost,
) -> None:
    attached: list[Any] = []
    died = r"renderer 1 'own' \(pid \d+\) died of signal 11 \(SIGSEGV\)"
    hook = {"on_renderer_attached": attached.append}
    with pytest.raises(ExtensionErrors, match=died):  # noqa: PT012
        async with lensipc_host(greeting.MANIFEST, **hook) as host:
            handle = await host.main.spawn_renderer(name="own", restart="on-failure")
            os.kill(handle.pid, signal.SIGSEGV)
            while not handle.restarts:
                await asyncio.sleep(0.01)
    assert attached == [handle, handle]
    async with lensipc_host(greeting.MANIFEST) as host:
        handle = await host.main.spawn_renderer(name="own")
        os.kill(handle.pid, signal.SIGSEGV)
        await handle.wait()
        (error,) = host.take_errors()
        assert re.fullmatch(died, error)
        await (await host.main.spawn_renderer()).close()
        (await host.main.spawn_renderer()).kill()


# ---- the plugin, run by pytest ----

SIMPLE = """
import greeting
import pytest

{mark}
async def test_it(lensipc_host):
    async with lensipc_host(greeting.MANIFEST) as host:
        renderer = await host.renderer()
        assert (await renderer.invoke("describe", "x"))["id"] == "x"
"""
ANYIO = """
import pytest

@pytest.fixture(params={backends})
def anyio_backend(request):
    return request.param
"""
SYNC = """
import greeting

def test_it(lensipc_host):
    with lensipc_host(greeting.MANIFEST) as host:
        renderer = host.run(host.renderer())
        assert host.run(renderer.invoke("describe", "x"))["id"] == "x"
"""
QUIET = ["-o", "asyncio_default_fixture_loop_scope=function"]
QUIET += [
    each for name in ("cacheprovider", "timeout", "benchmark", "hypothesispytest") for each in ("-p", f"no:{name}")
]


@pytest.fixture
def pytester(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """What it runs finds the extensions of the tests."""
    monkeypatch.setenv("PYTHONPATH", str(EXTENSIONS))
    return pytester


@pytest.mark.parametrize(
    ("source", "options"),
    [
        (SIMPLE.format(mark="@pytest.mark.asyncio"), ["-o", "asyncio_mode=strict", "-p", "no:anyio"]),
        (SIMPLE.format(mark=""), ["-o", "asyncio_mode=auto", "-p", "no:anyio"]),
        (ANYIO.format(backends=["asyncio"]) + SIMPLE.format(mark="@pytest.mark.anyio"), ["-p", "no:asyncio"]),
        (SYNC, ["-p", "no:asyncio", "-p", "no:anyio"]),
    ],
    ids=["strict", "auto", "anyio", "neither"],
)
def test_it_works_with_either_mode_of_pytest_asyncio_with_anyio_and_with_neither(
    pytester: pytest.Pytester, source: str, options: list[str]
) -> None:
    pytester.makepyfile(source)
    pytester.runpytest_inprocess(*QUIET, *options).assert_outcomes(passed=1)


def test_a_function_may_use_others_of_a_test_module_that_renderers_cannot_import(pytester: pytest.Pytester) -> None:
    (pytester.mkdir("elsewhere") / "test_it.py").write_text(
        "import greeting\n"
        "def helper(): return greeting.IpcRenderer.get_instance().heard\n"
        "def test_it(lensipc_host):\n"
        "    with lensipc_host(greeting.MANIFEST) as host:\n"
        "        renderer = host.run(host.renderer())\n"
        "        host.run(host.settle())\n"
        "        assert host.run(renderer.ask(lambda: helper())) == host.run(renderer.ask(helper)) == ['an-id']\n"
    )
    pytester.runpytest_subprocess(*QUIET, "--import-mode=importlib").assert_outcomes(passed=1)


def test_on_trio_it_says_that_main_runs_on_asyncio(pytester: pytest.Pytester) -> None:
    pytest.importorskip("trio")
    pytester.makepyfile(ANYIO.format(backends=["trio"]) + SIMPLE.format(mark="@pytest.mark.anyio"))
    done = pytester.runpytest_inprocess(*QUIET, "-p", "no:asyncio")
    done.stdout.fnmatch_lines("*RuntimeError: main runs on asyncio, and this test runs on another loop*")


def test_renderers_logs_and_errors_stand_in_the_report_of_a_test_that_fails(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import greeting, sys

        def test_it(lensipc_host, caplog):
            with lensipc_host(greeting.MANIFEST) as host:
                renderer = host.run(host.renderer())
                host.run(renderer.ask(lambda: print("said aloud", file=sys.stderr, flush=True)))
                assert "greetings from a renderer" in caplog.text
                assert False
        """
    )
    done = pytester.runpytest_subprocess(*QUIET)
    done.stdout.fnmatch_lines(["*Captured stderr call*", "said aloud", "*Captured log call*"])
    done.stdout.fnmatch_lines("WARNING *greeting.py:* [[]renderer 1[]] greetings from a renderer")


def test_with_in_process_asked_for_a_test_that_kills_is_skipped(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import greeting

        def test_it(lensipc_host):
            with lensipc_host(greeting.MANIFEST) as host:
                host.run(host.run(host.renderer()).kill())
        """
    )
    pytester.runpytest_inprocess(*QUIET, "--lensipc-in-process").assert_outcomes(skipped=1)


def test_the_plugin_imports_nothing_of_lensipc_until_a_test_needs_it() -> None:
    code = "import sys, pytest, pytest_lensipc; print([name for name in sys.modules if name.startswith('lensipc')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
    code = "import sys, lensipc; print('lensipc.testing' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


COVERAGE = """
[run]
parallel = true
sigterm = true
patch = subprocess
source = {extensions}
data_file = {data}
"""


def test_coverage_counts_what_runs_in_renderers(pytester: pytest.Pytester) -> None:
    """As docs/how-to/testing.md says it is set up."""
    pytest.importorskip("coverage")
    pytester.makepyfile(SYNC)
    config = pytester.path / "coveragerc"
    config.write_text(COVERAGE.format(extensions=EXTENSIONS, data=pytester.path / ".coverage"))
    coverage = [sys.executable, "-m", "coverage"]
    rcfile = f"--rcfile={config}"
    pytester.run(*coverage, "run", rcfile, "-m", "pytest", *QUIET, "-p", "no:asyncio", "-p", "no:anyio")
    pytester.run(*coverage, "combine", "-q", rcfile)
    pytester.run(*coverage, "json", "-q", rcfile, "-o", "covered.json")
    files = json.loads((pytester.path / "covered.json").read_text())["files"]
    (found,) = (each for name, each in files.items() if name.endswith("greeting.py"))
    source = Path(greeting.__file__).read_text().splitlines()
    line = 1 + next(number for number, text in enumerate(source) if "self.heard.append" in text)
    assert line in found["executed_lines"]  # which runs in renderers only


# ---- mistakes in lensipc itself ----

# Each is made in main and in renderers, where the extension that it is a part of is imported.
MISTAKES = {
    "a handler is never called": """
        from lensipc.main.connection import RendererConnection
        RendererConnection.execute = lambda *_: None
    """,
    "a renderer leaks a descriptor": """
        import os
        from lensipc.renderer.parts import Parts
        activate = Parts.activate
        def leaking(*args):
            if not leaked:
                leaked.append(open("/etc/hostname"))
            activate(*args)
        leaked = []
        Parts.activate = leaking
    """,
    "an event is delivered twice": """
        from lensipc.main.port import MainPort
        send = MainPort.send
        def twice(self, *args):
            send(self, *args)
            if self.extension == "greeting":
                send(self, *args)
        MainPort.send = twice
    """,
}
USERS = """
import broken
import greeting

def test_it(lensipc_host):
    with lensipc_host(broken.MANIFEST, greeting.MANIFEST) as host:
        renderer = host.run(host.renderer())
        host.run(renderer.hear("news", extension="greeting"))
        host.broadcast("news", "is told", extension="greeting")
        assert host.run(renderer.invoke("describe", "x", timeout=TIMEOUT, extension="greeting"))["id"] == "x"
        host.run(host.settle())
        assert host.run(renderer.heard("news", extension="greeting")) == [("is told",)]
"""


@pytest.mark.parametrize(
    ("mistake", "named"),
    [
        ("none", ""),
        ("a handler is never called", "*InvokeTimeout: invoke of greeting/describe*0.5 s*"),
        ("a renderer leaks a descriptor", "*renderer 1 (pid *) has left open:*"),
        ("an event is delivered twice", "*assert [[]('is told',), ('is told',)[]] == *"),
    ],
)
def test_a_mistake_in_lensipc_fails_a_users_test_with_a_message_that_names_it(
    pytester: pytest.Pytester, mistake: str, named: str
) -> None:
    broken = """
        from lensipc import ExtensionManifest, LensMainExtension, LensRendererExtension
        class Main(LensMainExtension): pass
        class Renderer(LensRendererExtension): pass
        MANIFEST = ExtensionManifest("broken", "1.0", main="broken:Main", renderer="broken:Renderer")
    """
    users = USERS.replace("TIMEOUT", "0.5" if "handler" in mistake else "30.0")
    pytester.makepyfile(broken=broken + MISTAKES.get(mistake, ""), test_users=users)
    done = pytester.runpytest_subprocess(*QUIET)
    if mistake == "none":
        done.assert_outcomes(passed=1)
    else:
        done.assert_outcomes(failed=1)
        done.stdout.fnmatch_lines(named)
