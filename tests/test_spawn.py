# SPDX-License-Identifier: MIT
"""How main starts renderers: with what, which flags, and where they import from; frozen programs; signals; ends."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mortal
import pytest
import signed
from hosting import hosting, until

import lensipc
from lensipc import ActivationError, ExtensionManifest, MainProcess, PeerGone, freeze_support
from lensipc.renderer import spawned
from lensipc.runtime.loader import adopt, import_path

ROOT = Path(__file__).parent.parent
HOME = Path(lensipc.__file__).parent.parent  # the folder that lensipc is imported from
HERE = f"import sys; sys.path[:] = {sys.path!r}\n"

# An extension of which nothing but its being active is of interest.
PLAIN = "from lensipc import *\nclass Main(LensMainExtension): pass\nclass Rend(LensRendererExtension): pass\n"


def run(code: str, *arguments: str, flags: tuple[str, ...] = (), **options: Any) -> str:
    """Run a program in a process of its own, that is to succeed; what it prints."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "timeout": 100} | options
    done = subprocess.run([sys.executable, *flags, "-c", textwrap.dedent(code), *arguments], text=True, **options)
    assert done.returncode == 0, done.stdout
    return str(done.stdout)


# ---- where a renderer imports from ----


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for extensions, that nobody imports from yet. What sys.path holds later is undone."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("place", [0, None])
async def test_a_renderer_imports_from_a_folder_that_main_has_added_since(folder: Path, place: int | None) -> None:
    async with MainProcess() as main:
        await main.spawn_renderer()
        (folder / "added.py").write_text(PLAIN)
        sys.path.insert(len(sys.path) if place is None else place, str(folder))
        await main.install(ExtensionManifest("added", "1", main="added:Main", renderer="added:Rend"))
        sys.path.remove(str(folder))
        await main.spawn_renderer()  # and so does one that comes when main has it no more
        assert len(main.renderers) == 2


async def test_what_main_has_put_first_is_first_in_a_renderer_that_runs(folder: Path) -> None:
    async with MainProcess() as main:
        for name in ("old", "new"):
            (folder / name).mkdir()
        (folder / "old" / "either.py").write_text("raise ImportError('the old one')")
        (folder / "new" / "either.py").write_text(PLAIN)
        sys.path.append(str(folder / "old"))
        await main.spawn_renderer()
        sys.path.insert(0, str(folder / "new"))
        await main.install(ExtensionManifest("either", "1", renderer="either:Rend"))


async def test_a_renderer_that_has_connected_by_itself_imports_from_where_it_will(folder: Path) -> None:
    async with hosting(path=folder / "s"):
        code = f"""
            import sys; sys.path[:] = {sys.path!r}  # as it is now: what was collected after this file has changed it
            from lensipc import RendererProcess
            with RendererProcess.connect(sys.argv[1]):
                print(sys.path == {sys.path!r})
        """
        sys.path.append(str(folder))
        assert await asyncio.to_thread(run, code, str(folder / "s")) == "True\n"


MOVES = """
    import asyncio, os, tempfile
    from lensipc import ExtensionManifest, MainProcess
    async def main():
        async with MainProcess() as host:
            await host.install(ExtensionManifest("x", "1", main="cext:Main", renderer="cext:Rend"))
            await host.spawn_renderer()
            with tempfile.TemporaryDirectory() as other:
                os.chdir(other)
            await host.spawn_renderer()  # in a folder that is gone
            os.chdir("/")
            await host.spawn_renderer()
            print(len(host.renderers))
    asyncio.run(main())
"""


@pytest.mark.skipif(
    sys.version_info[:3] == (3, 13, 0),
    reason="CPython 3.13.0 cannot import socket in a folder that is gone: SystemError",
)
@pytest.mark.parametrize("entry", ["", ".", "plugins", "plugins.zip"])
def test_a_relative_entry_means_what_it_meant_when_the_extension_was_installed(tmp_path: Path, entry: str) -> None:
    where = tmp_path / (entry if entry == "plugins" else "")
    where.mkdir(exist_ok=True)
    (where / "cext.py").write_text(PLAIN)
    if entry.endswith(".zip"):
        subprocess.run([sys.executable, "-m", "zipfile", "-c", entry, "cext.py"], cwd=tmp_path, check=True)
        (where / "cext.py").unlink()
    code = HERE + f"sys.path.insert(0, {entry!r})\n" + textwrap.dedent(MOVES)
    assert run(code, cwd=tmp_path) == "3\n"


def test_a_daemon_that_imports_lensipc_by_a_relative_entry_and_changes_to_the_root_starts_renderers() -> None:
    code = f"""
        import sys
        sys.path[:] = [entry for entry in {sys.path!r} if entry and not os.path.exists(entry + "/lensipc")] + ["."]
        import asyncio, lensipc
        os.chdir("/")
        async def main():
            async with lensipc.MainProcess() as host:
                await host.spawn_renderer()
                print(lensipc.__file__)
        asyncio.run(main())
    """
    assert run("import os\n" + textwrap.dedent(code), cwd=HOME) == f"{HOME / 'lensipc' / '__init__.py'}\n"


async def test_what_is_no_str_on_the_path_harms_no_renderer(folder: Path) -> None:
    class Entry(str):
        __slots__ = ()

        def __str__(self) -> str:
            raise AssertionError("it is not asked")

    (folder / "subclass.py").write_text(PLAIN)
    sys.path += [folder, None, 5, Entry(folder), "\udcff"]  # type: ignore[list-item]
    async with MainProcess() as main:
        await main.spawn_renderer()
        await main.install(ExtensionManifest("subclass", "1", main="subclass:Main", renderer="subclass:Rend"))


async def test_a_path_of_a_megabyte_reaches_renderers(folder: Path) -> None:
    (folder / "far.py").write_text(PLAIN)
    sys.path += [f"/nowhere/{number:0200}" for number in range(5000)]
    async with MainProcess() as main:
        await main.spawn_renderer()
        sys.path.append(str(folder))
        await main.install(ExtensionManifest("far", "1", main="far:Main", renderer="far:Rend"))
        await main.spawn_renderer()


def test_no_file_in_the_working_directory_stands_for_a_module_while_a_renderer_starts(tmp_path: Path) -> None:
    for name in ("marshal", "json", "os", "lensipc", "socket", "signal"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')")
    code = """
        import asyncio, lensipc, os
        async def main():
            async with lensipc.MainProcess() as host:
                os.chdir(sys.argv[1])
                await host.spawn_renderer()
                print("good")
        asyncio.run(main())
    """
    assert run(HERE + textwrap.dedent(code), str(tmp_path)) == "good\n"


def test_entries_are_adopted_each_after_the_one_that_it_comes_after() -> None:
    for ours, theirs, expected in [
        ("abc", "abc", "abc"),
        ("abc", "xabc", "xabc"),
        ("abc", "abcx", "abcx"),
        ("own abc", "abc", "own abc"),
        ("a1b", "axb", "ax1b"),
        ("ab1", "abx", "abx1"),
        ("", "abc", "abc"),
        ("abc", "", "abc"),
        ("abc", "cxy", "abcxy"),
    ]:
        path = list(ours)
        adopt(path, theirs)
        assert "".join(path) == expected
        adopt(path, theirs)
        assert "".join(path) == expected


def test_the_path_is_absolute_but_for_what_a_path_hook_may_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", ["", "tests", "/usr/lib/../lib", "__editable__.hook", "/nowhere"])
    path = import_path()
    assert path[:5] == [str(ROOT), str(ROOT / "tests"), "/usr/lib/../lib", "__editable__.hook", "/nowhere"]


# ---- with which flags ----

FLAGS = """
import sys
def state():
    names = [name for name in dir(sys.flags) if not name.startswith(("_", "n_", "count", "index"))]
    flags = {name: getattr(sys.flags, name) for name in names}
    return flags, sys.warnoptions, dict(sorted(sys._xoptions.items())), sys.__stdout__.write_through
"""


@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("-O",),
        ("-OO", "-B", "-b"),
        ("-X", "dev", "-W", "error::DeprecationWarning"),
        ("-I",),
        ("-E", "-s"),
        ("-P",),
        ("-S",),
        ("-u",),
        ("-X", "utf8=1", "-X", "faulthandler", "-X", "int_max_str_digits=5000", "-X", "pycache_prefix=/tmp/nowhere"),
    ],
    ids=" ".join,
)
def test_a_renderers_interpreter_has_the_flags_of_mains(tmp_path: Path, flags: tuple[str, ...]) -> None:
    (tmp_path / "flags.py").write_text(
        FLAGS + "from lensipc import *\nclass Rend(LensRendererExtension):\n"
        "    def on_activate(self): print(state(), flush=True)\n"
    )
    code = HERE + textwrap.dedent(f"""
        sys.path.append({str(tmp_path)!r})
        import asyncio, flags
        from lensipc import ExtensionManifest, MainProcess
        async def main():
            async with MainProcess() as host:
                print(flags.state(), flush=True)
                await host.install(ExtensionManifest("x", "1", renderer="flags:Rend"))
                await host.spawn_renderer()
        asyncio.run(main())
    """)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    in_main, in_renderer = run(code, flags=flags, env=clean).splitlines()
    assert in_renderer == in_main


# ---- with what ----


def executable(path: Path, text: str) -> Path:
    """A program."""
    path.write_text(text)
    path.chmod(0o700)
    return path


async def test_an_empty_sys_executable_is_an_error_that_says_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async with MainProcess() as main:
        for empty in ("", None):
            monkeypatch.setattr(sys, "executable", empty)
            with pytest.raises(FileNotFoundError, match=r"sys\.executable is empty.*MainProcess\(executable="):
                await main.spawn_renderer()


async def test_what_cannot_be_started_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    for path, kind in ((tmp_path / "nowhere", FileNotFoundError), (tmp_path / "text", PermissionError)):
        async with MainProcess(executable=path) as main:
            with pytest.raises(kind, match=r"cannot start renderers with .*MainProcess\(executable=") as raised:
                await main.spawn_renderer()
            assert raised.value.filename == str(path)


async def test_renderers_are_started_with_the_interpreter_that_main_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here by a wrapper that stays, so that main is no parent of theirs."""
    wrapper = f"#!/bin/sh\necho started > {tmp_path}/log\n'{sys.executable}' \"$@\"\nexit 7\n"
    executable(tmp_path / "python", wrapper)
    monkeypatch.chdir(tmp_path)
    async with MainProcess(executable="./python") as main:
        monkeypatch.chdir("/")
        monkeypatch.setattr(sys, "executable", "/nowhere")
        renderer = await main.spawn_renderer()
        assert (tmp_path / "log").read_text() == "started\n"
        await asyncio.sleep(spawned.EXIT_WAIT + 0.5)  # it is not taken for one whose main has died
        assert main.renderers == [renderer]
    assert await renderer.wait() == 7


@pytest.mark.parametrize(
    ("ends", "how"),
    [
        ("exit 3", "exited with status 3"),
        ("kill -SEGV $$", r"died of signal 11 \(SIGSEGV\)"),
        ("kill -40 $$", "died of signal 40"),
    ],
)
async def test_one_that_ends_before_it_is_attached_says_how(tmp_path: Path, ends: str, how: str) -> None:
    async with MainProcess(executable=executable(tmp_path / "program", f"#!/bin/sh\n{ends}\n")) as main:
        with pytest.raises(PeerGone, match=rf"the renderer \(pid \d+\) {how} before it was attached"):
            await main.spawn_renderer()


async def test_one_that_closes_its_socket_and_lives_on_is_ended(tmp_path: Path) -> None:
    closes = (
        '#!/bin/bash\nfor fd in /proc/self/fd/*; do n=${fd##*/}; [ $n -gt 2 ] && eval "exec $n>&-"; done\nsleep 60\n'
    )
    async with MainProcess(executable=executable(tmp_path / "program", closes)) as main:
        with pytest.raises(PeerGone, match="closed its socket before it was attached"):
            await main.spawn_renderer()


# ---- a program as its own renderer ----

# Stands for a program that embeds Python: what sys.executable names is the program itself, and no interpreter.
EMBEDDING = """\
#!{python}
import sys
sys.path[:] = {path!r}
import asyncio, lab, os, lensipc
async def main():
    sys.executable = {program!r}
    async with lensipc.MainProcess() as host:
        await host.install(lab.MANIFEST)
        try:
            renderer = await host.spawn_renderer()
        except lensipc.PeerGone as error:
            print(type(error).__name__, error, flush=True)
            return
        run = lab.IpcMain.get_instance().run
        print(await run(renderer, "starting:surroundings"), flush=True)
print("starts", flush=True)
{support}
try:
    asyncio.run(main())
except RuntimeError as error:
    print("RuntimeError:", error, flush=True)
    {after}
"""


def embed(folder: Path, support: str, after: str = "pass") -> str:
    """Run such a program; what all its processes print."""
    program = folder / "program"
    text = EMBEDDING.format(python=sys.executable, path=sys.path, program=str(program), support=support, after=after)
    executable(program, text)
    return subprocess.run([program], stdout=subprocess.PIPE, text=True, timeout=100, check=True).stdout


def test_a_program_that_calls_freeze_support_is_its_own_renderer(tmp_path: Path) -> None:
    said = embed(tmp_path, "lensipc.freeze_support()").splitlines()
    assert said[:2] == ["starts", "starts"]
    assert said[2:] == [str(([str(tmp_path / "program")], []))]  # its argv and environment tell of nothing


@pytest.mark.parametrize("after", ["pass", "import time; time.sleep(60)"])
def test_a_program_that_forgets_freeze_support_starts_itself_once_and_is_told_at_once(
    tmp_path: Path, after: str
) -> None:
    starts, again, error, told = embed(tmp_path, "", after).splitlines()
    assert (starts, again) == ("starts", "starts")
    assert "RuntimeError: this process was started to be a renderer" in error
    assert "lensipc.freeze_support() first" in error
    assert told.startswith("PeerGone the renderer (pid ")
    assert "before it was attached" in told


def test_freeze_support_does_nothing_in_a_process_that_nobody_has_started_to_be_a_renderer() -> None:
    freeze_support()


def test_a_renderer_whose_socket_was_closed_on_the_way_says_so() -> None:
    code = HERE + "import lensipc, os\nos.environ['LENSIPC_RENDERER'] = '1:5'\n"
    for call in ("lensipc.freeze_support()", "asyncio.run(lensipc.MainProcess().__aenter__())"):
        done = subprocess.run(
            [sys.executable, "-c", f"{code}import asyncio\n{call}"], stderr=subprocess.PIPE, text=True, check=False
        )
        assert done.returncode == 1
        assert "started to be a renderer" in done.stderr or "leave its descriptors open" in done.stderr


# ---- a frozen program ----

FROZEN = """
import asyncio, os, sys
import lensipc
from lensipc import ExtensionManifest, MainProcess, PeerGone

async def main():
    async with MainProcess(executable=os.environ.get("EXECUTABLE")) as host:
        sys.path.append(os.environ["PLUGINS"])
        await host.install(ExtensionManifest("x", "1", main="plugin:Main", renderer="plugin:Rend"))
        try:
            renderer = await host.spawn_renderer()
        except PeerGone as error:
            print("PeerGone", error, flush=True)
            return
    print("status", await renderer.wait(), flush=True)

if __name__ == "__main__":
    print("starts", flush=True)
    if "FORGET" not in os.environ:
        lensipc.freeze_support()
    asyncio.run(main())
"""

PLUGIN = """
import sys
import numpy as np
from lensipc import Ipc, LensMainExtension, LensRendererExtension
class IpcMain(Ipc.Main): pass
class Main(LensMainExtension):
    def on_activate(self): IpcMain.create_instance(self).handle("double", lambda event, array: array * 2)
class IpcRenderer(Ipc.Renderer): pass
class Rend(LensRendererExtension):
    async def on_activate(self):
        array = await IpcRenderer.create_instance(self).invoke("double", np.arange(3))
        print("active, frozen", getattr(sys, "frozen", False), array.tolist(), flush=True)
"""


@pytest.fixture(scope="module")
def frozen() -> Iterator[Path]:
    """A program that PyInstaller has frozen, as anybody would have it do that; beside it, plugins that are not."""
    with tempfile.TemporaryDirectory(prefix="lensipc-") as name:
        folder = Path(name)
        (folder / "app.py").write_text(FROZEN)
        (folder / "plugins").mkdir()
        (folder / "plugins" / "plugin.py").write_text(PLUGIN)
        command = [sys.executable, "-m", "PyInstaller", "--onedir", "--log-level", "ERROR", "app.py"]
        environment = os.environ | {"PYTHONPATH": str(HOME)}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        yield folder


def run_frozen(folder: Path, **environment: str) -> list[str]:
    """Run it; what all its processes print."""
    done = subprocess.run(
        [folder / "dist" / "app" / "app"],
        env=os.environ | {"PLUGINS": str(folder / "plugins")} | environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.timeout(300)
def test_a_frozen_program_starts_renderers_that_import_plugins(frozen: Path) -> None:
    assert run_frozen(frozen) == ["starts", "starts", "active, frozen True [0, 2, 4]", "status 0"]


@pytest.mark.timeout(300)
def test_a_frozen_program_that_forgets_freeze_support_starts_itself_once_and_is_told(frozen: Path) -> None:
    first, second, told = run_frozen(frozen, FORGET="1")
    assert (first, second) == ("starts", "starts")
    assert "exited with status 1 before it was attached: a frozen program must call lensipc.freeze_support()" in told


@pytest.mark.timeout(300)
def test_a_frozen_program_may_have_its_renderers_in_an_interpreter(frozen: Path) -> None:
    with_package = {"EXECUTABLE": sys.executable, "PYTHONPATH": os.pathsep.join([str(HOME), *sys.path])}
    assert run_frozen(frozen, **with_package) == ["starts", "active, frozen False [0, 2, 4]", "status 0"]


@pytest.mark.timeout(300)
async def test_an_interpreter_may_have_its_renderers_in_a_frozen_program(
    frozen: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(frozen / "plugins")])
    async with MainProcess(executable=frozen / "dist" / "app" / "app") as main:
        await main.install(ExtensionManifest("x", "1", main="plugin:Main", renderer="plugin:Rend"))
        await main.spawn_renderer()
    assert capfd.readouterr().out.splitlines() == ["starts", "active, frozen True [0, 2, 4]"]


# ---- how it ends ----


@pytest.fixture(autouse=True)
def _immortal() -> Iterator[None]:
    mortal.ways.clear()
    mortal.heard.clear()
    yield
    mortal.ways.clear()


WAYS = [("3", "exited with status 3"), ("0", "exited with status 0"), ("SIGKILL", r"died of signal 9 \(SIGKILL\)")]


@pytest.mark.parametrize(("way", "how"), [*WAYS, ("SIGSEGV", r"died of signal 11 \(SIGSEGV\)")])
async def test_install_says_which_renderer_has_died_of_it_and_how_and_leaves_nothing(
    way: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with hosting(2) as host:
        victim, other = host.renderers
        mortal.ways[victim.pid] = way
        where = rf"extension 'mortal' \(mortal:Renderer\) in renderer {victim.frame_id} \(pid {victim.pid}\)"
        with pytest.raises(ActivationError, match=rf"{where} was being activated when the process {how}"):
            await host.main.install(mortal.MANIFEST)
        assert mortal.IpcMain.get_instance(strict=False) is None
        assert host.main.renderers == [other]
        expected = 0 if way == "0" else 3 if way == "3" else -signal.Signals[way]
        assert await victim.wait() == expected
        if expected:
            assert f"renderer {victim.frame_id} (pid {victim.pid}) {how}".replace("\\", "") in caplog.text
        await host.main.install(mortal.MANIFEST)  # with the one that is left
        assert await host.ipc.run(other, "active_extensions") == ["lab", "mortal"]


async def test_a_renderer_that_the_host_kills_does_not_keep_an_extension_from_being_installed() -> None:
    async with hosting(2) as host:
        victim, other = host.renderers
        mortal.ways[victim.pid] = "hang"
        installing = asyncio.create_task(host.main.install(mortal.MANIFEST))
        await until(lambda: victim.pid in mortal.heard)
        victim.kill()
        await installing
        assert await host.ipc.run(other, "active_extensions") == ["lab", "mortal"]


async def test_spawn_says_how_one_has_died_of_a_part_and_the_rest_goes_on() -> None:
    async with hosting(1) as host:
        await host.main.install(mortal.MANIFEST)
        for way, how in WAYS:
            mortal.ways[None] = way
            with pytest.raises(ActivationError, match=rf"'mortal'.* in renderer \d+ \(pid \d+\) was being .* {how}"):
                await host.main.spawn_renderer()
        assert host.main.renderers == host.renderers
        mortal.ways.clear()
        await host.main.spawn_renderer()


async def test_a_part_whose_import_kills_its_renderers_is_not_installed_and_later_ones_are() -> None:
    async with hosting(2) as host:
        with pytest.raises(ActivationError, match=r"'mortal' \(mortal_at_import:Renderer\).* died of signal 11"):
            await host.main.install(mortal.AT_IMPORT)
        assert host.main.renderers == []
        renderer = await host.main.spawn_renderer()
        await host.main.install(mortal.MANIFEST)
        assert await host.ipc.run(renderer, "active_extensions") == ["lab", "mortal"]


async def test_one_that_somebody_else_kills_while_it_activates_is_no_success_either() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        mortal.ways[None] = "hang"
        installing = asyncio.create_task(host.main.install(mortal.MANIFEST))
        await until(lambda: renderer.pid in mortal.heard)
        os.kill(renderer.pid, signal.SIGKILL)
        with pytest.raises(ActivationError, match=r"died of signal 9 \(SIGKILL\)"):
            await installing


async def test_one_that_connected_by_itself_and_dies_is_no_obstacle_to_an_install(tmp_path: Path) -> None:
    async with hosting(1, path=tmp_path / "s") as host:
        code = "import asyncio\nfrom lensipc import RendererProcess\nasync def main():\n"
        code += "    async with RendererProcess.connect(sys.argv[1]) as renderer: await renderer.wait_closed()\n"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", f"{HERE}{code}asyncio.run(main())", tmp_path / "s"
        )
        await until(lambda: len(host.main.renderers) == 2)
        mortal.ways[process.pid] = "3"
        await host.main.install(mortal.MANIFEST)
        assert await process.wait() == 3
        assert host.main.renderers == host.renderers


# What a host may do with its children, as a supervisor or process 1 does.
REAPS = """
    import asyncio, os, signal
    from lensipc import MainProcess, PeerGone
    def reap(*_):
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
    async def main():
        signal.signal(signal.SIGCHLD, {how})
        async with MainProcess() as host:
            renderer = await host.spawn_renderer()
            renderer.kill()
            print(await renderer.wait(), renderer.alive)
            renderer = await host.spawn_renderer()
            await renderer.close()
            print(await renderer.wait(), renderer.alive)
        async with MainProcess(executable="/bin/false") as host:
            try:
                await host.spawn_renderer()
            except PeerGone as error:
                print(str(error).partition(")")[2])
    asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["signal.SIG_DFL", "reap", "signal.SIG_IGN"])
def test_a_status_that_nobody_can_know_is_not_said_to_be_0(how: str) -> None:
    said = run(HERE + textwrap.dedent(REAPS.format(how=how)))
    if how == "signal.SIG_DFL":
        assert said == "-9 False\n0 False\n exited with status 1 before it was attached\n"
    else:
        *statuses, ended = said.splitlines()
        assert statuses == ["None False"] * 2
        assert " ended" in ended


# ---- signals ----

SERVICE = """
    import asyncio, os, signal, sys
    import signed
    from lensipc import MainProcess
    async def main():
        stop = asyncio.Event()
        for name in {handles!r}:
            asyncio.get_running_loop().add_signal_handler(getattr(signal, name), stop.set)
        async with MainProcess() as host:
            await host.install(signed.{manifest})
            renderer = await host.spawn_renderer()
            signed.say("ready", renderer.pid)
            await stop.wait()
        signed.say("status", await renderer.wait())
    asyncio.run(main())
"""


def service(handles: list[str], *command: str, manifest: str = "MANIFEST") -> subprocess.Popen[str]:
    """A main with one renderer, in a process group of its own, that ends in good order on these signals."""
    code = HERE + textwrap.dedent(SERVICE.format(handles=handles, manifest=manifest))
    return subprocess.Popen(
        [*command, sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE, text=True
    )


def ready(process: subprocess.Popen[str]) -> int:
    """Wait until it runs; its renderer's pid."""
    assert process.stdout is not None
    return int(process.stdout.readline().split()[1])


@pytest.mark.parametrize(
    ("name", "manifest"),
    [("SIGINT", "MANIFEST"), ("SIGTERM", "MANIFEST"), ("SIGHUP", "MANIFEST"), ("SIGTERM", "SLOW")],
)
def test_a_signal_to_the_whole_group_ends_main_and_renderers_in_good_order(name: str, manifest: str) -> None:
    with service([name], manifest=manifest) as process:
        ready(process)
        os.killpg(process.pid, signal.Signals[name])
        said, _ = process.communicate(timeout=60)
        assert sorted(said.splitlines()) == ["main: deactivated", "renderer: deactivated", "status 0"]
        assert process.returncode == 0


def test_a_signal_that_main_does_not_survive_ends_its_renderers_in_good_order() -> None:
    with service([]) as process:
        ready(process)
        os.killpg(process.pid, signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
        assert said == "renderer: deactivated\n"
        assert process.returncode == -signal.SIGTERM


def test_when_main_is_killed_a_part_has_the_time_to_deactivate() -> None:
    with service([]) as process:
        ready(process)
        process.kill()
        assert process.communicate(timeout=60)[0] == "renderer: deactivated\n"


def test_what_main_was_started_to_ignore_its_renderers_ignore_too() -> None:
    with service(["SIGTERM"], "nohup") as process:
        renderer = ready(process)
        os.killpg(process.pid, signal.SIGHUP)
        os.kill(renderer, signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.terminate()
        said, _ = process.communicate(timeout=60)
        assert sorted(said.splitlines()) == ["main: deactivated", "renderer: deactivated", "status 0"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_renderer_alone_ends_in_good_order_on_a_signal_and_main_sees_it_gone(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    async with hosting(2) as host:
        first, second = host.renderers
        await host.main.install(signed.MANIFEST)
        os.kill(first.pid, number)
        os.kill(first.pid, number)
        assert await first.wait() == 0
        await until(lambda: host.main.renderers == [second])
        assert capfd.readouterr().out == "renderer: deactivated\n"
        assert await host.ipc.run(second, "invoke", "echo", 1) == (1,)
        os.kill(second.pid, signal.SIGINT)  # which is main's affair
        await asyncio.sleep(0.1)
        assert await host.ipc.run(second, "invoke", "echo", 1) == (1,)


async def test_what_a_renderer_starts_inherits_what_main_would_leave_to_it() -> None:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    try:
        async with hosting(1) as host:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            said = await host.ipc.run(host.renderers[0], "signed:what_a_child_inherits")
            assert said == signed.what_main_inherits()
            assert said.endswith("set()\n")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


async def test_a_fork_of_a_renderer_ends_of_a_signal_alone(capfd: pytest.CaptureFixture[str]) -> None:
    async with hosting(1) as host:
        await host.main.install(signed.MANIFEST)
        signed.IpcMain.get_instance().broadcast("end a fork")
        said = ""
        while not said:
            await asyncio.sleep(0.01)
            said = capfd.readouterr().out
        assert said == f"fork: {-signal.SIGTERM}\n"
        await asyncio.sleep(0.1)
        assert await host.ipc.run(host.renderers[0], "invoke", "echo", 1) == (1,)


async def test_a_signal_while_a_renderer_activates_ends_it_when_it_has() -> None:
    async with hosting() as host:
        mortal.ways[None] = "SIGTERM"
        await host.main.install(mortal.MANIFEST)
        renderer = await host.main.spawn_renderer()
        assert await renderer.wait() == 0


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, errno.EPERM])
def test_where_the_platform_cannot_end_a_renderer_with_main_it_warns_and_goes_on(code: int) -> None:
    said = run(
        HERE
        + textwrap.dedent("""
            import asyncio, confined
            from lensipc import MainProcess
            async def main():
                async with MainProcess() as host:
                    confined.refuse("timer_create", int(sys.argv[1]))
                    renderer = await host.spawn_renderer()
                    await renderer.close()
                    print(await renderer.wait())
            asyncio.run(main())
        """),
        str(code),
    )
    assert said == (
        f"this platform cannot end a process with its parent ({os.strerror(code)}): "
        "code that never returns to its loop would outlive it\n0\n"
    )
