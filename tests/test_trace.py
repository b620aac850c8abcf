# SPDX-License-Identifier: MIT
"""The trace: a line for each message where LENSIPC_TRACE=1 asks for it, and nothing at all where it does not."""

from __future__ import annotations

import functools
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hostile
import lab
import pytest
from hosting import hosting, until

from lensipc import MainProcess, RendererProcess, _fast
from lensipc.main.router import Router
from lensipc.runtime import protocol, trace
from lensipc.runtime.protocol import KINDS, RESULT


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Messages are traced; the logger is as before afterwards."""
    monkeypatch.setenv(trace.VARIABLE, "1")
    level = trace.log.level
    yield
    trace.log.setLevel(level)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was traced in this process."""
    return [each.getMessage() for each in caplog.records if each.name == "lensipc.trace"]


def is_in_order(expected: list[str], said: list[str]) -> bool:
    """Whether these patterns match lines that come one after another, others between them."""
    rest = iter(said)
    return all(any(re.fullmatch(pattern, line) for line in rest) for pattern in expected)


@pytest.mark.usefixtures("traced")
async def test_an_invoke_and_an_event_are_traced_both_ways_by_main(caplog: pytest.LogCaptureFixture) -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        host.ipc.note("news")
        await host.ipc.run(renderer, "note", "answers")
        caplog.clear()
        assert await host.ipc.run(renderer, "invoke", "echo", "secret") == ("secret",)
        await host.ipc.run(renderer, "broadcast", "news", 1)
        host.ipc.broadcast("answers", "secret")
        host.ipc.broadcast("answers", {"secret"})  # which is no plain data
        await until(lambda: len([line for line in lines(caplog) if "answers" in line]) == 2)
        assert host.ipc.heard["news"] == [(1, 0)]
    said = lines(caplog)
    assert is_in_order([r"main > renderer 1: EVENT, \d+ bytes, channel 0 lab/run"], said)
    invoke = [
        r"main < renderer 1: DECLARE, 4 bytes, channel (\d+)",
        r"main < renderer 1: INVOKE 2, \d+ bytes, channel \d+ lab/echo",
        r"main > renderer 1: RESULT 2, \d+ bytes",
        r"main < renderer 1: EVENT, 6 bytes, channel \d+ lab/news",
        r"main > renderer 1: EVENT, \d+ bytes, channel \d+ lab/answers",
        r"main > renderer 1: EVENT, \d+ bytes, channel \d+ lab/answers",
    ]
    assert is_in_order(invoke, said)
    assert "secret" not in caplog.text


@pytest.mark.usefixtures("traced")
async def test_a_renderer_traces_the_same_messages_to_its_own_stderr(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    async with hosting(1) as host:
        assert await host.ipc.run(host.renderers[0], "invoke", "echo", [1, 2]) == ([1, 2],)
    mirrored = {" < ": " > ", " > ": " < "}
    here = [re.sub(r"main( . )renderer 1", lambda found: f"renderer 1{mirrored[found[1]]}main", line)
            for line in lines(caplog)]  # fmt: skip
    there = [line.split(" ", 3)[3] for line in capfd.readouterr().err.splitlines()]
    unnamed = [re.sub(r"(DECLARE.*channel \d+) .*", r"\1", line) for line in there]
    assert len(unnamed) > 8
    for way in (" < ", " > "):
        assert [line for line in unnamed if way in line] == [line for line in here if way in line]


@pytest.mark.usefixtures("traced")
async def test_what_a_renderer_sends_to_another_passes_main_in_sight(caplog: pytest.LogCaptureFixture) -> None:
    async with hosting(2) as host:
        sender, receiver = host.renderers
        await host.ipc.run(receiver, "note", "news")
        caplog.clear()
        await host.ipc.run(sender, "broadcast", "news", 3)
        assert await host.ipc.run(receiver, "hear", "news", 3) == [(1, 0, 0), (1, 1, 0), (1, 2, 0)]
    said = [line for line in lines(caplog) if "lab/news" in line and "EVENT" in line]
    into, out = r"main < renderer 1: EVENT, 6 bytes, channel \d lab/news", r"main > renderer 2: EVENT, 6 bytes, .*news"
    assert is_in_order([into, out] * 3, said)
    assert len(said) == 6


@pytest.mark.usefixtures("traced")
async def test_a_hostile_renderers_channel_name_is_one_line_short_and_without_control_characters(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with hostile.arena() as ring:
        renderer = await ring.connect()
        for name in ("a\nmain > renderer 2: \x1b[31mforged\u202e", "\ud800" + "x" * 4000):
            await renderer.outcome(renderer.invoke(renderer.declare(name)))
        said = [line for line in lines(caplog) if f"renderer {renderer.frame_id}: INVOKE" in line]
        assert r"lab/a\nmain > renderer 2: \x1b[31mforged\u202e" in said[-2]
        assert r"lab/\ud800xxx" in said[-1]
        assert all(line.isprintable() and len(line) < 400 for line in lines(caplog))
        renderer.close()
        await renderer.over()


async def test_without_the_variable_nothing_is_wrapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, "", "0"):
        monkeypatch.delenv(trace.VARIABLE, raising=False)
        if value is not None:
            monkeypatch.setenv(trace.VARIABLE, value)
        async with MainProcess(tmp_path / "s") as main:
            await main.install(lab.MANIFEST)
            async with RendererProcess.connect(tmp_path / "s") as renderer:
                core = main._core
                (connection,), here = core.connections.values(), renderer._core
                assert here is not None
                for each in (connection, here):
                    for name in ("receive", "send_value"):
                        function = getattr(each.endpoint, name)
                        assert type(function) is functools.partial
                        assert function.func is getattr(_fast, name)
                    assert "send" not in vars(each)
                    assert each.decoded != 0
                assert connection.on_message[RESULT] == connection._on_result
                assert here.on_message[RESULT] == here._on_result
                assert here.on_batch == here._dispatcher.on_batch
                topic = core.ports["lab"].table["run"].topic
                assert type(topic.send_value) is functools.partial
                assert topic.send_value.func is _fast.publish_value
                assert "route" not in vars(core.router)
                assert not {"attach", "port"} & vars(core).keys()
                assert core.router.route == Router.route.__get__(core.router)


def test_every_kind_of_message_has_the_name_of_the_protocol() -> None:
    assert sorted(trace.NAMES) == list(range(1, KINDS))
    assert all(getattr(protocol, name) == kind for kind, name in trace.NAMES.items())


CONFIGURED = [
    ("", 1, "a line"),
    ("logging.basicConfig(format='here: %(message)s')", 1, "here: a line"),
    ("logging.getLogger('lensipc.trace').setLevel('INFO')", 0, ""),
]


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize(("before", "count", "line"), CONFIGURED)
def test_the_trace_uses_the_programs_handler_or_else_one_of_its_own_and_prints_no_line_twice(
    before: str, count: int, line: str
) -> None:
    code = f"""
import logging
from lensipc.runtime import trace
{before}
assert trace.is_asked_for() and trace.is_asked_for()
logging.getLogger().addHandler(logging.StreamHandler()) if not logging.getLogger().handlers else None
trace.log.debug("a line")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert len(done.stderr.splitlines()) == count
    assert line in done.stderr


def test_a_size_is_that_of_all_pieces_of_a_body() -> None:
    assert trace._bytes_of(b"abc") == 3
    assert trace._bytes_of([b"abc", memoryview(bytearray(8))]) == 11
    assert logging.getLogger("lensipc.trace") is trace.log
