# SPDX-License-Identifier: MIT
"""The log: what comes and goes, so much of a kind at most, and whatever user code has raised."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import lab
import pytest
from hosting import hosting, until

from lensipc import MainProcess, RendererProcess
from lensipc.log import _Few, log, log_raised
from lensipc.main import connection as peer


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock that a test sets."""
    now = [time.monotonic() + 1000]  # other tests' lines are long ago
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    yield now
    for each in log.filters:
        if isinstance(each, _Few):
            each._kinds.clear()


def test_so_many_lines_of_one_kind_are_logged_in_a_second_and_the_next_says_how_many_were_left_out(
    caplog: pytest.LogCaptureFixture, clock: list[float]
) -> None:
    for number in range(1000):
        log.warning("stranger %d is here", number)
    assert [record.getMessage() for record in caplog.records] == [f"stranger {number} is here" for number in range(10)]
    log.warning("another kind")
    assert caplog.records[-1].getMessage() == "another kind"
    clock[0] += 1
    for number in range(1000):
        log.warning("stranger %d is here", number)
    said = [record.getMessage() for record in caplog.records[11:]]
    assert said[0] == "stranger 0 is here (and 990 more lines like this one, which were left out)"
    assert said[1:] == [f"stranger {number} is here" for number in range(1, 10)]
    clock[0] += 60
    log.warning("stranger %d is here", 7)
    assert "990 more" in caplog.records[-1].getMessage()
    clock[0] += 1
    log.warning("stranger %d is here", 8)
    assert caplog.records[-1].getMessage() == "stranger 8 is here"


@pytest.mark.usefixtures("clock")
def test_errors_of_user_code_are_bounded_too(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(1000):
        log_raised(ValueError("what a stranger sends"), "listener of %s raised", "x")
    assert len(caplog.records) == 100


@pytest.mark.usefixtures("clock")
def test_lines_of_one_level_leave_out_none_of_another(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for level, most in [(logging.DEBUG, 100), (logging.INFO, 100), (logging.WARNING, 10), (logging.ERROR, 100)]:
        for _ in range(200):
            log.log(level, "renderer %d exited", 1)
        assert [record.levelno for record in caplog.records] == most * [level]
        caplog.clear()


def test_what_python_cannot_print_is_logged_all_the_same(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = logging.StreamHandler()
    log.addHandler(handler)
    try:
        log_raised(SyntaxError("bad", ("query", 1, 3, b"a b")), "%s raised", "it")  # type: ignore[arg-type]
    finally:
        log.removeHandler(handler)
    assert "it raised" in caplog.text
    assert "SyntaxError: bad" in caplog.text  # Python 3.15 can print it
    assert "Logging error" not in capsys.readouterr().err
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is SyntaxError


# ---- what comes and goes ----


def lines(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    """What lensipc has logged at a level."""
    return [each.getMessage() for each in caplog.records if (each.name, each.levelno) == ("lensipc", level)]


@pytest.mark.process
async def test_the_log_tells_a_whole_life_each_thing_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with MainProcess() as main:
        await main.install(lab.MANIFEST)
        renderer = await main.spawn_renderer()
        await main.disable("lab")
        await main.enable("lab")
        os.kill(renderer.pid, signal.SIGKILL)
        await renderer.wait()
        await until(lambda: not main.renderers)
        other = await main.spawn_renderer()
        other.kill()
        await other.wait()
        await until(lambda: not main.renderers)
        last = await main.spawn_renderer()
        await last.close()
        await main.uninstall("lab")
    first, second, third = (f"renderer {each.frame_id} (pid {each.pid})" for each in (renderer, other, last))
    assert lines(caplog, logging.WARNING) == [f"{first} died of signal 9 (SIGKILL)"]
    told = lines(caplog, logging.INFO)
    assert [line for line in told if line.startswith("extension")] == [
        "extension lab 1.0 is installed and enabled",
        "extension lab is disabled",
        "extension lab is enabled",
        "extension lab is disabled",
        "extension lab is uninstalled",
    ]
    assert sorted(line for line in told if not line.startswith("extension")) == [
        f"{first} is attached: main has started it",
        f"{first} is detached: it closed the connection, or died",
        f"{second} died of signal 9 (SIGKILL)",
        f"{second} is attached: main has started it",
        f"{second} is detached: it closed the connection, or died",
        f"{third} exited with status 0",
        f"{third} is attached: main has started it",
        f"{third} is detached: main closed it",
    ]


@pytest.mark.process
async def test_a_renderer_that_is_disconnected_is_not_said_to_be_detached_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with hosting(1) as host:
        (renderer,) = host.renderers
        host.main._core.disconnect(renderer._connection, "a\nreason")
        await renderer.wait()
    assert lines(caplog, logging.WARNING) == [f"renderer 1 (pid {renderer.pid}) is disconnected: a\\nreason"]
    assert "detached" not in caplog.text


@pytest.mark.process
async def test_changes_of_state_in_main_and_in_a_renderer_are_logged_for_who_debugs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with MainProcess(tmp_path / "s") as main:
        await main.install(lab.MANIFEST)
        async with RendererProcess.connect(tmp_path / "s"):
            assert lines(caplog, logging.DEBUG) == [
                "the part of extension lab in main is activated",
                "the part of extension lab in renderer 1 is activated",
            ]
            attached = f"renderer 1 (pid {os.getpid()}) is attached: it connected by the path"
            assert attached in lines(caplog, logging.INFO)
            caplog.clear()
        await until(lambda: not main.renderers)
        assert sorted(lines(caplog, logging.DEBUG)) == [
            "the connection of renderer 1 is CLOSED",
            "the connection of renderer 1 is CLOSED",
            "the connection of renderer 1 is ENDED",
            "the part of extension lab in renderer 1 is deactivated",
        ]
        caplog.clear()
    assert lines(caplog, logging.DEBUG) == ["the part of extension lab in main is deactivated"]


@pytest.mark.process
async def test_a_renderer_that_is_slow_is_said_to_be_congested_lagging_and_released(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with hosting(1, capacity=64 * 1024, high_water=64 * 1024) as host:
        (renderer,) = host.renderers
        await host.ipc.run(renderer, "note", "news")
        caplog.set_level(logging.DEBUG)
        host.ipc.broadcast("run", renderer.pid, -1, "block", (1.5,))
        for _ in range(10):
            host.ipc.broadcast("news", bytes(32 * 1024))
        await host.ipc.drain()
        await until(lambda: len(lines(caplog, logging.DEBUG)) == 3)
        congested, lagging, released = lines(caplog, logging.DEBUG)
        assert congested.startswith("renderer 1 is congested: ")
        assert lagging == "renderer 1 is lagging: it no longer holds back its senders"
        assert released == "renderer 1 is released: it is no longer congested or lagging"


@pytest.mark.process
async def test_each_pause_of_a_renderer_begins_and_ends_with_a_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(peer, "MAX_LISTENERS", 1)
    async with hosting(1) as host:
        heard = []

        async def listener(_event: object, number: int) -> None:
            heard.append(number)

        host.ipc.listen("news", listener)
        caplog.set_level(logging.DEBUG)
        await host.ipc.run(host.renderers[0], "broadcast", "news", 3)
        await until(lambda: heard == [0, 1, 2])
        said = lines(caplog, logging.DEBUG)
    why = "too many async listeners of its events run"
    pause = [f"renderer 1 is paused: {why}", f"renderer 1 is no longer paused for this reason: {why}"]
    assert said == len(said) // 2 * pause != []
