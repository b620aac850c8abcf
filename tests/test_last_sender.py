# SPDX-License-Identifier: MIT
"""Main guesses who has woken it before it asks: that must change nothing but the time it takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lab
import pytest
from hosting import Host, hosting, until

from lensipc import RendererProcess
from lensipc.main.connection import RendererConnection


def _connection(host: Host) -> RendererConnection:
    (connection,) = host.main._core.connections.values()
    return connection


async def test_who_has_called_last_has_its_answer_before_the_poller_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hosting(path=tmp_path / "s") as host, RendererProcess.connect(tmp_path / "s"):
        order = []
        host.ipc.handle("order", lambda _event: order.append("answered"))
        ipc = lab.IpcRenderer.get_instance()
        await ipc.invoke("order")
        await until(lambda: not _connection(host).ready)
        order.clear()
        poll: Callable[[], bool] = host.main._core.poller.poll

        def asked() -> bool:
            order.append("asked")
            return poll()

        monkeypatch.setattr(host.main._core.poller, "poll", asked)
        await ipc.invoke("order")
        assert order[:2] == ["answered", "asked"]


@pytest.mark.process
async def test_a_guess_that_is_wrong_is_given_up_and_everybody_is_served() -> None:
    async with hosting(3) as host:
        for number in range(30):
            renderer = host.renderers[number % 3]
            assert await host.ipc.run(renderer, "invoke", "echo", number) == (number,)


async def test_one_that_waits_is_not_served_for_having_called_last(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s") as host, RendererProcess.connect(tmp_path / "s"):
        ipc, router = lab.IpcRenderer.get_instance(), host.main._core
        await ipc.invoke("echo", 1)
        connection = _connection(host)
        await until(lambda: not connection.ready)
        connection.hold_for_congestion()
        waiting = ipc.invoke("echo", 2)
        router.dispatch()
        assert connection.last_invoke < waiting.correlation
        connection.resume_after_congestion()
        router.poller.wake()
        assert await waiting == (2,)


async def test_one_that_is_gone_is_not_remembered(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s") as host:
        async with RendererProcess.connect(tmp_path / "s"):
            await lab.IpcRenderer.get_instance().invoke("echo", 1)
        await until(lambda: not host.main.renderers)
        assert host.main._core._latest is None


@pytest.mark.process
async def test_ctrl_c_while_main_polls_before_a_turn_leaves_main_awake(monkeypatch: pytest.MonkeyPatch) -> None:
    async with hosting(1) as host:
        core = host.main._core
        assert await host.ipc.run(host.renderers[0], "invoke", "echo", 1) == (1,)
        monkeypatch.setattr(core, "poll_rings", lambda _nanoseconds: raise_interrupt())
        core._scheduled = core._lingers = True
        with pytest.raises(KeyboardInterrupt):
            core._take_turn()
        monkeypatch.undo()
        assert core.poller.waking
        assert await host.ipc.run(host.renderers[0], "invoke", "echo", 2) == (2,)


def raise_interrupt() -> bool:
    raise KeyboardInterrupt


@pytest.mark.process
async def test_a_listener_in_main_that_broadcasts_what_it_hears_keeps_main_from_no_renderer() -> None:
    async with hosting(1) as host:
        stopped, heard = False, 0

        def again(_event: object) -> None:
            nonlocal heard
            heard += 1
            if not stopped and heard < 200_000:
                host.ipc.broadcast("again")

        host.ipc.listen("again", again)
        host.ipc.broadcast("again")
        for number in range(20):
            assert await host.ipc.run(host.renderers[0], "invoke", "echo", number) == (number,)
        assert 20 < heard < 200_000
        stopped = True
        await until(lambda: not host.main._core.router.local)
