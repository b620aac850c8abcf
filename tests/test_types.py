# SPDX-License-Identifier: MIT
"""What type checkers say of users' code, right and wrong, and of lensipc; and typed channels at run time."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import channels_typed
import lab
import plain
import pytest
from hosting import hosting

import lensipc
from lensipc import (
    Channel,
    DataCloneError,
    ExtensionManifest,
    InvokeTimeout,
    MainProcess,
    RendererProcess,
    Types,
    clone,
)

TYPED = Path(__file__).parent / "typed"
RIGHT, WRONG = TYPED / "right.py", TYPED / "wrong.py"
Findings = dict[int, str]  # of wrong.py: what is said of each line


def run(*command: str) -> str:
    """What a type checker prints. Its Python is this one, wherever `python` is looked for."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, timeout=300, env=environment, cwd=TYPED
    )
    assert done.returncode in (0, 1), done.stderr + done.stdout  # 2 and more: it could not do its work
    return done.stdout


def pyright(*arguments: str) -> Any:
    return json.loads(run("pyright", "--outputjson", *arguments))


@pytest.fixture(scope="module")
def found_by_mypy(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Findings]:
    """What mypy finds in both files."""
    cache = tmp_path_factory.mktemp("mypy")
    printed = run("mypy", "--strict", "--config-file=", f"--cache-dir={cache}", RIGHT.name, WRONG.name)
    found: dict[str, Findings] = {RIGHT.name: {}, WRONG.name: {}}
    for name, line, text in re.findall(r"^(\S+?):(\d+): error: (.*)$", printed, re.MULTILINE):
        found[name][int(line)] = found[name].get(int(line), "") + text + "\n"
    return found


@pytest.fixture(scope="module")
def found_by_pyright() -> dict[str, Findings]:
    """What pyright finds in both files."""
    report = pyright(RIGHT.name, WRONG.name)
    assert report["summary"]["filesAnalyzed"] == 2
    found: dict[str, Findings] = {RIGHT.name: {}, WRONG.name: {}}
    for each in report["generalDiagnostics"]:
        name, line = Path(each["file"]).name, each["range"]["start"]["line"] + 1
        found[name][line] = found[name].get(line, "") + each["message"].replace("\xa0", " ") + "\n"
    return found


def expected(checker: str) -> Findings:
    """What has to be said of each line of wrong.py: the comments above it tell."""
    wanted: Findings = {}
    said = ""
    for number, line in enumerate(WRONG.read_text(encoding="utf-8").splitlines(), 1):
        comment = re.match(r" *# (mypy|pyright) says (.*)", line)
        if comment is None and said:
            wanted[number], said = said, ""
        elif comment is not None and comment[1] == checker:
            said = comment[2]
    assert len(wanted) > 20
    return wanted


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_a_type_checker_finds_nothing_in_right_code(checker: str, request: pytest.FixtureRequest) -> None:
    assert request.getfixturevalue(f"found_by_{checker}")[RIGHT.name] == {}


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_a_type_checker_finds_each_wrong_line_and_no_other(checker: str, request: pytest.FixtureRequest) -> None:
    found, wanted = request.getfixturevalue(f"found_by_{checker}")[WRONG.name], expected(checker)
    assert sorted(found) == sorted(wanted)
    assert [(line, said) for line, said in wanted.items() if said not in found[line]] == []


def test_nearly_all_names_have_types_that_every_checker_reads_alike() -> None:
    report = pyright("--verifytypes", "lensipc", "--ignoreexternal")["typeCompleteness"]
    incomplete = [
        f"{each['name']}: {said['message'].splitlines()[0]}"
        for each in report["symbols"]
        for said in each["diagnostics"]
        if not each["isTypeKnown"] and "annotation" in said["message"]  # all others follow from these
    ]
    assert sum(report["exportedSymbolCounts"].values()) > 1000, "it has not found lensipc"
    assert report["completenessScore"] >= 0.99, incomplete


# ---- typed channels at run time ----


async def test_typed_channels_and_plain_names_are_the_same_channels_in_all_processes() -> None:
    async with hosting(renderers=1) as host:
        ipc, found = host.ipc, list[str]()

        def search(event: Types.IpcMainInvokeEvent, query: str, limit: int) -> list[str]:
            return [f"{query} {event.channel}"] * limit

        def on_found(event: Types.IpcMainEvent, hit: str) -> None:
            found.append(f"{hit} {type(event.channel).__name__}")
            event.reply(channels_typed.DOUBLED, hit)
            ipc.send(event.frame_id, channels_typed.DOUBLED, hit)
            ipc.broadcast(channels_typed.DOUBLED, hit)

        ipc.handle(channels_typed.SEARCH, search)
        ipc.listen(channels_typed.FOUND, on_found)
        hits, heard = await ipc.run(host.renderers[0], "channels_typed:asks")
        assert hits == [["typed search"] * 2, ["plain search"]]
        assert found == ["typed search str", "plain search str"]
        assert heard == 3 * ["typed search str doubled"] + 3 * ["plain search str doubled"]


def test_a_channel_is_its_name_and_arrives_as_such() -> None:
    typed: Any = channels_typed.SEARCH
    assert typed == "search"
    assert hash(typed) == hash("search")
    assert isinstance(typed, str)
    assert repr(typed) == "'search'"
    assert type(clone.decode(clone.encode([typed]))[0]) is str
    for name in None, 3, b"search":
        with pytest.raises(TypeError, match="a channel's name is a str, not"):
            Channel[tuple[()], None](name)  # type: ignore[arg-type]


def test_an_invocation_is_imported_when_it_is_asked_for() -> None:
    code = "import sys, lensipc; print('asyncio' in sys.modules, lensipc.Invocation)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False <class 'lensipc.runtime.asyncio_driver.Invocation'>\n"
    with pytest.raises(AttributeError, match="module 'lensipc' has no attribute 'Invocations'"):
        lensipc.Invocations  # type: ignore[attr-defined]  # noqa: B018


# ---- submit ----


async def test_submit_gives_a_concurrent_future_in_a_script_and_in_another_thread(tmp_path: Path) -> None:
    manifest = ExtensionManifest("lab", "1", main="lab:LabMain", renderer="plain:PlainRenderer")
    async with MainProcess(tmp_path / "s") as main:
        await main.install(manifest)

        def script() -> list[Any]:
            with RendererProcess.connect(tmp_path / "s") as renderer:
                ipc = plain.Ipc.get_instance()
                futures = [ipc.submit("echo", number) for number in range(3)]
                assert all(isinstance(future, concurrent.futures.Future) for future in futures)
                with concurrent.futures.ThreadPoolExecutor() as pool:
                    elsewhere = pool.submit(lambda: ipc.submit("async echo", 3).result(30))
                    while not elsewhere.done():
                        renderer.dispatch(0.01)
                late = ipc.submit("sleep", 100, timeout=0)
                assert isinstance(late.exception(30), InvokeTimeout)
                with pytest.raises(DataCloneError):
                    ipc.submit("echo", print)
                return [*(future.result(30) for future in futures), elsewhere.result()]

        assert await asyncio.to_thread(script) == [(0,), (1,), (2,), (3,)]


async def test_submit_on_the_thread_of_an_event_loop_is_refused_with_the_way_out(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s") as host, RendererProcess.connect(tmp_path / "s"):
        ipc = lab.IpcRenderer.get_instance()
        with pytest.raises(RuntimeError, match=r"would block this thread's event loop: use `await ipc\.invoke"):
            ipc.submit("sleep", 100)
        assert not host.ipc.running
        future = await asyncio.to_thread(ipc.submit, "echo", 1)
        assert await asyncio.wrap_future(future) == (1,)
        with pytest.raises(AttributeError, match=r"has no 'submit': only an Ipc\.Renderer has"):
            host.ipc.submit  # type: ignore[attr-defined]  # noqa: B018
