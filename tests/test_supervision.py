# SPDX-License-Identifier: MIT
"""Renderers that main starts: names, surroundings, starting again, logs, and extensions that fail there."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import kept
import lab
import present
import psutil
import pytest
from hosting import hosting, until

from lensipc import ActivationError, MainProcess, PeerGone, RendererHandle, RendererProcess, Types
from lensipc.main import logs, supervision
from lensipc.runtime import asyncio_driver
from lensipc.transport.poller import Poller

# ---- names, states, and the host's hooks ----


async def test_a_renderers_name_stands_in_its_command_line_in_the_log_and_in_every_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with hosting() as host:
        handle = await host.main.spawn_renderer(name="a search")
        assert handle.name == "a search"
        assert psutil.Process(handle.pid).cmdline()[-3:] == [kept_script(), "--name", "a search"]
        assert (await host.ipc.run(handle, "kept:surroundings", ""))[-1] == [kept_script()]
        os.kill(handle.pid, signal.SIGKILL)
        assert await handle.wait() == handle.status == -9
        who = f"renderer 1 'a search' (pid {handle.pid})"
        assert f"{who} is attached: main has started it" in caplog.text
        assert f"{who} died of signal 9 (SIGKILL)" in caplog.text
        await host.main.install(kept.BROKEN)
        with pytest.raises(
            ActivationError, match=r"'broken' \(kept:Broken\) in renderer 2 'another' \(pid \d+\) raised"
        ):
            await host.main.spawn_renderer(name="another")
        with pytest.raises(PeerGone, match=r"the renderer 'third' \(pid \d+\) exited with status 1 before it was att"):
            await host.main.spawn_renderer(name="third", executable="/bin/false")
        for wrong in ("a\nb", "x" * 65):
            with pytest.raises(ValueError, match="a renderer's name has at most 64 characters, all printable"):
                await host.main.spawn_renderer(name=wrong)


def kept_script() -> str:
    """What main starts an interpreter with."""
    from lensipc.main.spawn import SCRIPT

    return SCRIPT


async def test_a_renderer_that_connects_by_itself_may_have_a_name(tmp_path: Path) -> None:
    present.notes.clear()
    async with MainProcess(tmp_path / "s") as main:
        await main.install(present.MANIFEST)
        async with RendererProcess.connect(tmp_path / "s", name="window") as renderer:
            await until(lambda: ("attached", Types.RendererInfo(1, os.getpid(), "window")) in present.notes)
            assert [handle.name for handle in main.renderers] == ["window"]
            assert "'window'" in repr(main.renderers[0]) or "name='window'" in repr(main.renderers[0])
            renderer.close()
        with pytest.raises(ValueError, match="a renderer's name"):
            RendererProcess.connect(tmp_path / "s", name="\x1b[31m")


async def test_the_host_is_told_of_each_renderer_that_comes_and_how_each_has_gone(tmp_path: Path) -> None:
    told: list[Any] = []

    async def gone(handle: RendererHandle, reason: str) -> None:
        await asyncio.sleep(0)
        told.append(("gone", handle, reason, handle.status))

    hooks: Any = {"on_renderer_attached": lambda handle: told.append(("attached", handle)), "on_renderer_gone": gone}
    async with hosting(path=tmp_path / "s", **hooks) as host:
        first = await host.main.spawn_renderer()
        second = await host.main.spawn_renderer()
        async with RendererProcess.connect(tmp_path / "s"):
            await until(lambda: len(told) == 3)
            third = host.main.renderers[2]
            os.kill(first.pid, signal.SIGKILL)
            await until(lambda: len(told) == 4)
            await second.close()
            await until(lambda: len(told) == 5)
        await until(lambda: len(told) == 6)
        await host.main.spawn_renderer()  # which is told of as gone no more: the host is exited
        await until(lambda: len(told) == 7)
    assert told[:6] == [
        ("attached", first),
        ("attached", second),
        ("attached", third),
        ("gone", first, "died of signal 9 (SIGKILL)", -9),
        ("gone", second, "main closed it", told[4][3]),
        ("gone", third, "it closed the connection, or died", None),
    ]
    assert len(told) == 7


async def test_what_the_hosts_hook_raises_is_logged_and_one_that_waits_ends_with_the_host(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended: list[str] = []

    async def attached(handle: RendererHandle) -> None:
        if handle.frame_id == 1:
            raise SystemExit(3)
        try:
            await asyncio.sleep(600)
        finally:
            ended.append("ended")

    async with hosting(on_renderer_attached=attached) as host:
        await host.main.spawn_renderer()
        await host.main.spawn_renderer()
        await until(lambda: "on_renderer_attached of the host raised" in caplog.text)
    await until(lambda: ended)


async def test_the_state_of_each_extension_is_seen_and_where_it_is_active() -> None:
    async with MainProcess() as main:
        assert main.extensions == {}
        await main.install(lab.MANIFEST)
        renderer = await main.spawn_renderer()
        other = await main.spawn_renderer(["other"])
        assert main.extensions == {"lab": Types.ExtensionInfo("lab", "1.0", "enabled", (renderer.frame_id,), {})}
        installing = asyncio.create_task(main.install(kept.SLOW, settings=0.2))
        await until(lambda: "slow" in main.extensions)
        assert main.extensions["slow"] == ("slow", "1", "activating", (), {})
        await installing
        await main.install(present.MANIFEST, settings="slow")
        disabling = asyncio.create_task(main.disable("present"))
        await until(lambda: main.extensions["present"].state != "enabled")
        assert main.extensions["present"].state == "deactivating"
        await disabling
        assert main.extensions["present"] == ("present", "1", "disabled", (), {})
        assert other.alive
    with pytest.raises(RuntimeError, match="has not been entered"):
        _ = MainProcess().extensions


# ---- surroundings ----


async def test_a_renderer_has_the_environment_the_directory_and_the_output_that_it_is_given(tmp_path: Path) -> None:
    async with hosting() as host:
        with (tmp_path / "out").open("w") as out:
            env = {name: value for name, value in os.environ.items() if name != "PATH"} | {"GIVEN": "a value"}
            handle = await host.main.spawn_renderer(env=env, cwd=tmp_path, stdout=out, stderr=subprocess.STDOUT)
        found = await host.ipc.run(handle, "kept:surroundings", "GIVEN")
        assert found[:3] == ["a value", str(tmp_path), sys.executable]
        assert (await host.ipc.run(handle, "kept:surroundings", "PATH"))[0] is None
        assert (await host.ipc.run(handle, "kept:surroundings", "LENSIPC_RENDERER"))[0] is None
        await host.ipc.run(handle, "kept:say", "hello")
        assert sorted((tmp_path / "out").read_text().splitlines()) == ["err: hello", "out: hello"]


async def test_what_cannot_be_given_to_a_renderer_is_an_error_that_names_it(tmp_path: Path) -> None:
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"cwd": tmp_path / "nowhere"}, FileNotFoundError, r"cannot start a renderer in this folder .*nowhere"),
        ({"executable": "/nowhere/python"}, FileNotFoundError, "cannot start renderers with this program"),
        ({"env": {"A": 5}}, TypeError, "env has names and values that are str, and not 'A': 5"),
        ({"stdout": subprocess.PIPE}, ValueError, "stdout cannot be subprocess.PIPE"),
        ({"stdout": subprocess.STDOUT}, ValueError, "stdout cannot be subprocess.STDOUT, which is for stderr"),
        ({"stderr": 2, "forward_logs": True}, ValueError, "stderr and forward_logs=True do not go together"),
        ({"restart": "always"}, ValueError, "restart must be 'never' or 'on-failure', not 'always'"),
        ({"on_error": "ignore"}, ValueError, "on_error must be 'raise' or 'disable', not 'ignore'"),
        ({"activation_timeout": "soon"}, TypeError, "a timeout is a number of seconds or None"),
        ({"name": 5}, TypeError, "a renderer's name is a str, not int"),
    ]
    async with MainProcess() as main:
        for options, kind, why in wrong:
            with pytest.raises(kind, match=why):
                await main.spawn_renderer(**options)
        (tmp_path / "file").touch()
        with pytest.raises(NotADirectoryError, match="cannot start a renderer in this folder"):
            await main.spawn_renderer(cwd=tmp_path / "file")
        assert main.renderers == []
        await main.spawn_renderer(env={})  # nothing at all


# ---- started again ----


async def test_a_renderer_that_was_killed_is_started_again_and_its_handle_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[Any] = []
    hooks: Any = {
        "on_renderer_attached": lambda handle: told.append(("attached", handle.frame_id)),
        "on_renderer_gone": lambda _handle, reason: told.append(("gone", reason)),
    }
    async with hosting(**hooks) as host:
        handle = await host.main.spawn_renderer(name="kept", restart="on-failure")
        first = handle.pid
        os.kill(first, signal.SIGKILL)
        await until(lambda: handle.state == "restarting")
        await until(lambda: handle.state == "running" and handle.restarts == 1)
        assert (handle.pid != first, handle.frame_id, handle.status) == (True, 2, None)
        assert host.main.renderers == [handle]
        assert await host.ipc.run(handle, "invoke", "echo", 1) == (1,)  # its extensions are active
        host.ipc.broadcast("run", handle.pid, 0, "kept:wreck", ())
        await until(lambda: handle.restarts == 2)  # main has disconnected it
        assert told[:3] == [("attached", 1), ("gone", "died of signal 9 (SIGKILL)"), ("attached", 2)]
        assert f"renderer 1 'kept' (pid {first}) has failed (1 of 8): it is started again in 0.1 s" in caplog.text
        await handle.close()
        assert handle.state == "ended"
        assert await handle.wait() == 0
    assert handle.restarts == 2


@pytest.mark.parametrize("how", ["status 0", "SIGTERM", "kill", "close"])
async def test_a_renderer_that_ends_well_or_is_ended_by_main_is_not_started_again(how: str) -> None:
    async with hosting() as host:
        handle = await host.main.spawn_renderer(restart="on-failure")
        if how == "status 0":
            host.ipc.broadcast("run", handle.pid, 0, "kept:die", (0,))
        elif how == "SIGTERM":
            os.kill(handle.pid, signal.SIGTERM)
        elif how == "kill":
            handle.kill()
        else:
            await handle.close()
        assert await handle.wait() == (-9 if how == "kill" else 0)
        assert (handle.state, handle.restarts) == ("ended", 0)
        await asyncio.sleep(0.2)
        assert host.main.renderers == []


async def test_a_renderer_that_fails_again_and_again_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervision, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(supervision, "MOST_FAILURES", 3)
    async with hosting() as host:
        handle = await host.main.spawn_renderer(name="kept", restart="on-failure")
        for count in range(1, 3):
            os.kill(handle.pid, signal.SIGKILL)
            await until(lambda count=count: handle.restarts == count)
        os.kill(handle.pid, signal.SIGSEGV)
        assert await handle.wait() == -signal.SIGSEGV
        assert (handle.state, handle.restarts) == ("ended", 2)
        assert "has failed (2 of 3)" in caplog.text
        assert "is not started again: it has failed 3 times, one after another" in caplog.text


async def test_failures_before_a_long_run_do_not_count(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervision, "STEADY", 0.0)
    monkeypatch.setattr(supervision, "FIRST_DELAY", 0.001)
    monkeypatch.setattr(supervision, "MOST_FAILURES", 2)
    async with hosting() as host:
        handle = await host.main.spawn_renderer(restart="on-failure")
        for count in range(1, 4):
            os.kill(handle.pid, signal.SIGKILL)
            await until(lambda count=count: handle.restarts == count)
    assert "not started again" not in caplog.text


async def test_a_start_that_fails_counts_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(supervision, "FIRST_DELAY", 0.001)
    async with hosting() as host:
        handle = await host.main.spawn_renderer(cwd=tmp_path / ".", restart="on-failure")
        tmp_path.rename(tmp_path.with_name("away"))
        os.kill(handle.pid, signal.SIGKILL)
        await until(lambda: caplog.text.count("could not be started again") >= 2)
        assert "cannot start a renderer in this folder" in caplog.text
        assert handle.state == "restarting"
        tmp_path.with_name("away").rename(tmp_path)
        await until(lambda: handle.restarts == 1)


@pytest.mark.parametrize("how", ["close", "kill", "aclose"])
async def test_a_renderer_that_waits_to_be_started_again_can_be_ended(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(supervision, "FIRST_DELAY", 600.0)
    monkeypatch.setattr(supervision, "LONGEST_DELAY", 600.0)
    main = await MainProcess().start()
    handle = await main.spawn_renderer(restart="on-failure")
    os.kill(handle.pid, signal.SIGKILL)
    await until(lambda: handle.state == "restarting")
    waiting = asyncio.create_task(handle.wait())
    if how == "kill":
        handle.kill()
    else:
        await (handle.close() if how == "close" else main.aclose())
    assert await waiting == -9
    assert handle.state == "ended"
    await main.aclose()


@pytest.mark.parametrize("how", ["close", "kill", "aclose"])
async def test_a_renderer_that_is_being_started_again_can_be_ended(how: str) -> None:
    main = await MainProcess().start()
    handle = await main.spawn_renderer(restart="on-failure")
    await main.install(kept.SLOW, settings=0)
    await main.uninstall("slow")
    slow = asyncio.create_task(main.install(kept.SLOW, settings=600))
    await asyncio.sleep(0.05)
    os.kill(handle.pid, signal.SIGKILL)
    with pytest.raises(ActivationError, match="SIGKILL"):
        await slow
    before = handle.pid
    await until(lambda: handle.pid != before)  # attached, or about to be
    handle.kill() if how == "kill" else await (handle.close() if how == "close" else main.aclose())
    await handle.wait()
    assert handle.state == "ended"
    await main.aclose()


@pytest.mark.parametrize("how", ["close", "kill", "aclose"])
async def test_a_renderer_whose_new_start_has_just_failed_can_be_ended(tmp_path: Path, how: str) -> None:
    main = await MainProcess().start()
    await main.install(kept.ONCE, settings=str(tmp_path / "once"))
    handle = await main.spawn_renderer(restart="on-failure")
    first = handle.pid
    os.kill(first, signal.SIGKILL)
    # Until its part has failed, and main waits for the process's end.
    while handle.pid == first or not handle._connection.asked:
        await asyncio.sleep(0)
    (tmp_path / "once").unlink()  # one more start would succeed
    handle.kill() if how == "kill" else await (handle.close() if how == "close" else main.aclose())
    await handle.wait()
    assert (handle.state, handle.frame_id, handle.restarts) == ("ended", 2, 0)
    assert main.renderers == []
    await main.aclose()


@pytest.mark.parametrize("how", ["close", "kill", "aclose"])
async def test_a_renderer_that_is_ended_just_when_its_new_process_says_hello_stays_ended(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    main = await MainProcess().start()
    handle = await main.spawn_renderer(restart="on-failure")
    ends: list[asyncio.Future[Any]] = []
    before = asyncio_driver.set_once

    def set_once(future: asyncio.Future[None]) -> None:
        before(future)
        if not ends:
            if how == "kill":
                handle.kill()
            end = {"close": handle.close, "kill": handle.wait, "aclose": main.aclose}[how]
            ends.append(asyncio.ensure_future(end()))

    monkeypatch.setattr(asyncio_driver, "set_once", set_once)
    os.kill(handle.pid, signal.SIGKILL)
    await until(lambda: ends)
    await ends[0]
    await handle.wait()
    assert handle.state == "ended"
    assert main.renderers == []
    await main.aclose()


@pytest.mark.parametrize("rounds", range(4))
async def test_a_spawn_that_is_cancelled_as_it_ends_leaves_no_renderer(rounds: int) -> None:
    async with hosting() as host:
        spawning = asyncio.create_task(host.main.spawn_renderer(restart="on-failure"))
        while not host.main.extensions["lab"].renderers:  # the last part is active
            await asyncio.sleep(0)
        for _ in range(rounds):
            await asyncio.sleep(0)
        if spawning.cancel():
            with pytest.raises(asyncio.CancelledError):
                await spawning
            assert host.main.renderers == []


# ---- its logs ----


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, str]]:
    """What was forwarded: the renderer's name, the level and the text."""
    found = [record for record in caplog.records if record.name == "lensipc.renderer"]
    return [(record.__dict__["renderer"], record.levelno, record.getMessage().partition("): ")[2]) for record in found]


async def test_what_a_renderer_logs_and_writes_to_stderr_is_logged_in_main_with_its_name(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    async with hosting() as host:
        handle = await host.main.spawn_renderer(name="search", forward_logs=True)
        await host.ipc.run(handle, "kept:log", logging.DEBUG, "not asked for")
        await host.ipc.run(handle, "kept:log", logging.INFO, "%s is %d", "Ä\x1b[0m", 5)
        await host.ipc.run(handle, "kept:log", logging.ERROR, "two\nlines")
        await host.ipc.run(handle, "kept:log", logging.ERROR, "%d wrong", "argument")
        await host.ipc.run(handle, "kept:say", "hello")
        await until(lambda: len(lines(caplog)) == 5)
        assert lines(caplog) == [
            ("search", logging.INFO, "own.logger: Ä\\x1b[0m is 5"),
            ("search", logging.ERROR, "own.logger: two"),
            ("search", logging.ERROR, "own.logger: lines"),
            ("search", logging.ERROR, lines(caplog)[3][2]),
            ("search", logging.WARNING, "err: hello"),
        ]
        assert "could not be formatted" in lines(caplog)[3][2]
        assert f"renderer 1 'search' (pid {handle.pid}): err: hello" in caplog.text
        caplog.clear()
        await host.ipc.run(handle, "kept:log_error")
        await until(lambda: any("nobody awaits this" in text for _, _, text in lines(caplog)))
        texts = [text for _, level, text in lines(caplog) if level == logging.ERROR]
        assert texts[0] == "own.logger: it failed"
        assert any(text.startswith("own.logger: KeyError: 'a\\x1b[31mkey'") or "x1b[31mkey" in text for text in texts)
        assert any(text.startswith("asyncio: Task exception was never retrieved") for text in texts)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("before", ["\rprogress 42 %", "." * 5000, "a line\n\n"], ids=["progress", "dots", "lines"])
async def test_a_record_has_its_level_whatever_was_written_to_stderr_before_it(
    caplog: pytest.LogCaptureFixture, before: str
) -> None:
    async with hosting() as host:
        handle = await host.main.spawn_renderer(forward_logs=True)
        await host.ipc.run(handle, "kept:write", before.encode())
        await host.ipc.run(handle, "kept:log", logging.ERROR, "the disk is full")
        await handle.close()
        (_, level, text), last = lines(caplog)
        assert level == logging.WARNING
        assert text.startswith(before[:13].strip("\n").replace("\r", "\\r"))
        assert last == ("", logging.ERROR, "own.logger: the disk is full")


def test_records_that_each_come_by_themselves_count_as_one_line_each(caplog: pytest.LogCaptureFixture) -> None:
    with closing(Poller()) as poller:
        ours, theirs = os.pipe()
        reader = logs.LogReader(poller, ours, "renderer 1 (pid 1)", "")
        for number in range(600):
            os.write(theirs, b'\x1e[40, "work", "%d"]\n' % number)
            reader._on_readable()
        os.write(theirs, b"".join(b'\x1e[40, "work", "%d"]\n' % number for number in range(600, 1000)))
        reader._on_readable()
        reader.finish()
        os.close(theirs)
        assert [text for _, _, text in lines(caplog)] == [f"work: {number}" for number in range(1000)]


async def test_the_last_words_of_a_dying_interpreter_are_logged_before_main_says_how_it_ended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gone: list[int] = []
    hooks: Any = {"on_renderer_gone": lambda _handle, _reason: gone.append(len(lines(caplog)))}
    async with hosting(**hooks) as host:
        handle = await host.main.spawn_renderer(forward_logs=True)
        await host.ipc.run(handle, "kept:crash")
        assert await handle.wait() == -signal.SIGSEGV
        await until(lambda: gone)
        assert any("Segmentation fault" in text for _, _, text in lines(caplog))
        assert gone == [len(lines(caplog))]
    caplog.clear()
    async with MainProcess(executable=sys.executable) as main:
        with pytest.raises(PeerGone, match="exited with status 1 before"):
            await main.spawn_renderer(env={"PYTHONHOME": "/nowhere"}, forward_logs=True, name="lost")
        assert any("encodings" in text for _, _, text in lines(caplog))


async def test_what_main_had_no_time_to_read_of_one_that_has_died_is_read_when_its_end_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs.LogReader, "_on_readable", lambda _self: None)
    async with hosting() as host:
        handle = await host.main.spawn_renderer(forward_logs=True)
        await host.ipc.run(handle, "kept:say", "last words")
        os.kill(handle.pid, signal.SIGKILL)
        await handle.wait()
        assert [text for _, _, text in lines(caplog)] == ["err: last words"]


async def test_whatever_a_renderer_writes_is_bounded_and_shown_escaped(caplog: pytest.LogCaptureFixture) -> None:
    hostile = [
        (b"\xff\xfe not UTF-8\n", "\\xff\\xfe not UTF-8"),
        (b"\x1e[50, 1, 2]\n", "\\x1e[50, 1, 2]"),
        (b"\x1e" + b"[" * 4000 + b"\n", "\\x1e" + "[" * 4000),
        (b'\x1e[true, "a", "b"]\n', '\\x1e[true, "a", "b"]'),
        (b'\x1e[1000000, "a", "b"]\n', '\\x1e[1000000, "a", "b"]'),
        (b'\x1e[40, "a\\nb", "c\\u001b\\nfake"]\n', "a\\nb: c\\x1b\\nfake"),
        (b"\r\x1b[2J\n", "\\r\\x1b[2J"),
        (b"x" * 5000 + b"\nafter\n", None),
    ]
    async with hosting() as host:
        handle = await host.main.spawn_renderer(forward_logs=True)
        for data, expected in hostile:
            caplog.clear()
            await host.ipc.run(handle, "kept:write", data)
            await until(lambda: lines(caplog))
            if expected is None:
                await until(lambda: lines(caplog)[-1][2] == "after")
                assert len(lines(caplog)) == 2
                assert lines(caplog)[0][2].startswith("x" * 4096 + "... (")
            else:
                assert [text for _, _, text in lines(caplog)] == [expected]
        caplog.clear()
        began = time.monotonic()
        await host.ipc.run(handle, "kept:write", b"\n" * 65536 + b"flood\n" * 10_000, 20)
        await host.ipc.run(handle, "kept:write", b"unfinished")
        await handle.close()
        seconds = time.monotonic() - began
        texts = [text for _, _, text in lines(caplog)]
        assert texts[-1] == "unfinished" or "were left out" in texts[-1]
        assert sum("lines were left out: 1000 a second are logged of a renderer" in text for text in texts)
        assert len(texts) <= (logs.LINES_MOST + 2) * (int(seconds) + 2)


async def test_a_renderer_that_logs_a_hundred_thousand_lines_goes_on_and_main_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with hosting() as host:
        handle = await host.main.spawn_renderer(forward_logs=True)
        logging_much = asyncio.create_task(host.ipc.run(handle, "kept:log_many", 100_000))
        rounds = 0
        while not logging_much.done():
            await asyncio.sleep(0.001)
            rounds += 1
        await logging_much
        assert rounds > 100  # main's loop went on
        assert lines(caplog)[0][2] == "own.logger: line 0"
        await handle.close()
        assert any("lines were left out" in text for _, _, text in lines(caplog))


async def test_a_process_that_a_renderer_has_started_keeps_neither_its_handle_nor_main_waiting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with hosting() as host:
        handle = await host.main.spawn_renderer(forward_logs=True)
        child = await host.ipc.run(handle, "kept:start_sleeper")
        await host.ipc.run(handle, "kept:say", "last")
        await handle.close()
        assert lines(caplog)[-1][2] == "err: last"
        os.kill(child, signal.SIGKILL)
        await until(lambda: not psutil.pid_exists(child))


# ---- a part that fails, waits, or is debugged ----


async def test_an_extension_that_cannot_be_activated_in_one_renderer_is_disabled_there_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with hosting() as host:
        careful = await host.main.spawn_renderer(["lab"])
        lenient = await host.main.spawn_renderer(on_error="disable")
        await host.main.install(kept.BROKEN)
        later = await host.main.spawn_renderer(name="later", on_error="disable")
        found = host.main.extensions["broken"]
        assert (found.state, found.renderers, sorted(found.failed)) == (
            "enabled",
            (),
            [lenient.frame_id, later.frame_id],
        )
        assert found.failed[later.frame_id] == "ValueError: not\\nhere"
        why = (
            f"'broken' (kept:Broken) in renderer 3 'later' (pid {later.pid}) raised ValueError: not\\nhere, and is not"
        )
        assert why in caplog.text
        for handle in (careful, lenient, later):
            assert await host.ipc.run(handle, "invoke", "echo", 1) == (1,)
        with pytest.raises(ActivationError):  # the default: an error of the start, and of installing
            await host.main.spawn_renderer()
        await host.main.disable("broken")
        assert host.main.extensions["broken"].failed == {}
        await host.main.enable("broken")
        assert sorted(host.main.extensions["broken"].failed) == [lenient.frame_id, later.frame_id]


async def test_a_host_may_choose_that_for_all_of_its_renderers(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s", on_error="disable") as host:
        await host.main.install(kept.BROKEN)
        handle = await host.main.spawn_renderer()
        async with RendererProcess.connect(tmp_path / "s") as renderer:
            assert sorted(host.main.extensions["broken"].failed) == [handle.frame_id, renderer.frame_id]
        with pytest.raises(ActivationError):
            await host.main.spawn_renderer(on_error="raise")


async def test_a_part_has_as_long_to_activate_as_the_host_says() -> None:
    async with MainProcess(activation_timeout=0.2) as main:
        await main.install(kept.SLOW, settings=0.4)
        with pytest.raises(PeerGone, match=r"'slow' did not activate there in 0\.2 s"):
            await main.spawn_renderer()
        patience = (None, float("inf"), 60)
        await asyncio.gather(*(main.spawn_renderer(activation_timeout=each) for each in patience))
        assert len(main.renderers) == 3


DEBUGGED = "-m", "lensipc", "renderer"


async def test_a_renderer_that_is_run_by_hand_stops_at_a_breakpoint_and_is_not_killed_for_it(
    tmp_path: Path,
) -> None:
    async with MainProcess(tmp_path / "s", activation_timeout=None) as main:
        await main.install(kept.STOPS)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *DEBUGGED,
            str(tmp_path / "s"),
            "--name",
            "by hand",
            cwd=Path(kept.__file__).parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdin is not None
        await until(lambda: main.renderers)
        assert main.renderers[0].name == "by hand"
        await asyncio.sleep(0.5)
        assert not main.extensions["stops"].renderers
        process.stdin.write(b"answer = 43\ncontinue\n")
        assert process.stdout is not None
        said = ""
        while "renderer 1 of main (pid" not in said:
            said += (await process.stdout.readline()).decode()
        assert main.extensions["stops"].renderers == (1,)
        await main.aclose()
        out, err = await process.communicate()
        assert process.returncode == 0, err
        said += out.decode()
        assert "the answer is 43" in said
        assert said.endswith("main is gone: main is closing\n")


@pytest.mark.parametrize("where", ["nowhere", "broken"])
async def test_a_renderer_by_hand_that_cannot_attach_says_why_in_one_line(tmp_path: Path, where: str) -> None:
    async with MainProcess(tmp_path / "broken") as main:
        await main.install(kept.BROKEN)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *DEBUGGED,
            str(tmp_path / where),
            cwd=Path(kept.__file__).parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = await process.communicate()
    last = err.decode().splitlines()[-1]
    assert (process.returncode, out) == (1, b"")
    assert last.startswith("lensipc: ")
    assert ("No such file" if where == "nowhere" else "main did not attach this renderer") in last


async def test_ctrl_c_leaves_a_renderer_that_is_run_by_hand_in_good_order(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s") as host:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *DEBUGGED, str(tmp_path / "s"), cwd=Path(kept.__file__).parent, stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 130
        await until(lambda: not host.main.renderers)


def test_what_main_starts_says_what_it_is_for_when_a_person_starts_it() -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("LENSIPC")}
    done = subprocess.run([sys.executable, kept_script()], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 1
    assert done.stderr == "main starts this with spawn_renderer(); to run a renderer by hand: lensipc renderer PATH\n"
