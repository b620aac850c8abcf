# SPDX-License-Identifier: MIT
"""Threads beside the one that a process's lensipc objects belong to, and a connection that one of them could break."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import lab
import plain
import pytest
from hosting import hosting, until

from lensipc import ExtensionManifest, MainProcess, PeerGone, RendererProcess
from lensipc.message import ACTIVATE, KINDS

PLAIN = ExtensionManifest("lab", "1", main="lab:LabMain", renderer="plain:PlainRenderer")

# ---- a connection whose other side breaks the protocol ----


@pytest.mark.parametrize("kind", [KINDS, ACTIVATE])
async def test_a_renderer_whose_main_breaks_the_protocol_loses_it_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: int
) -> None:
    async with hosting(path=tmp_path / "s") as host, RendererProcess.connect(tmp_path / "s") as renderer:
        ipc = lab.IpcRenderer.get_instance()
        invocation = ipc.invoke("sleep", 100)
        (connection,) = host.main._router.connections.values()
        connection.endpoint.send(kind, 0, 0, 0, 0, b"\xff")
        with pytest.raises(PeerGone, match=f"kind {kind}, which is none" if kind == KINDS else "main is gone"):
            await invocation
        await renderer.wait_closed()
        await asyncio.sleep(0.1)  # in which it would have said so again
        with pytest.raises(PeerGone):
            ipc.broadcast("n")
        assert "Traceback" not in caplog.text


async def test_a_script_whose_main_breaks_the_protocol_loses_it_once(tmp_path: Path) -> None:
    async with MainProcess(tmp_path / "s") as main:
        await main.install(PLAIN)

        def run() -> list[str]:
            said = []
            with RendererProcess.connect(tmp_path / "s") as renderer:
                ipc = plain.Ipc.get_instance()
                for wait in (lambda: ipc.invoke_sync("sleep", 100), lambda: renderer.dispatch(5)):
                    with pytest.raises(PeerGone) as caught:
                        wait()
                    said.append(str(caught.value))
                assert not renderer.connected
            return said

        script = asyncio.get_running_loop().run_in_executor(None, run)
        await until(lambda: script.done() or any(each.running for each in main._router.connections.values()))
        for connection in main._router.connections.values():
            connection.endpoint.send(KINDS, 0, 0, 0, 0, b"")
        assert all(f"kind {KINDS}, which is none" in text for text in await script)


# ---- what belongs to one thread ----


async def refused(call: Callable[[], object], name: str) -> None:
    """In another thread the call is refused, by its name and at once."""

    def attempt() -> object:
        result = call()
        return asyncio.run(result) if asyncio.iscoroutine(result) else result

    with pytest.raises(RuntimeError, match=f"{name} was called in thread 'asyncio_.*belongs to the thread") as caught:
        await asyncio.to_thread(attempt)
    assert type(caught.value) is RuntimeError


async def test_what_changes_a_host_is_refused_in_another_thread_and_nothing_comes_of_it() -> None:
    async with hosting(1) as host:
        main = host.main
        await refused(lambda: main.install(PLAIN), "install")
        await refused(lambda: main.enable("lab"), "enable")
        await refused(lambda: main.disable("lab"), "disable")
        await refused(lambda: main.uninstall("lab"), "uninstall")
        await refused(main.spawn_renderer, "spawn_renderer")
        await refused(host.renderers[0].close, "RendererHandle.close")
        await refused(host.ipc.drain, "drain")
        assert await host.ipc.run(host.renderers[0], "invoke", "echo", 1) == (1,)


async def test_what_drives_or_waits_in_a_renderer_is_refused_in_another_thread(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s"), RendererProcess.connect(tmp_path / "s") as renderer:
        ipc = lab.IpcRenderer.get_instance()
        await refused(renderer.dispatch, "RendererProcess.dispatch")
        await refused(renderer.run_forever, "RendererProcess.run_forever")
        await refused(renderer.wait_closed, "RendererProcess.wait_closed")
        await refused(renderer.close, "RendererProcess.close")
        await refused(lambda: ipc.invoke_sync("echo"), "invoke_sync")
        await refused(ipc.drain, "drain")
        await refused(ipc.drain_sync, "drain_sync")
        assert await ipc.invoke("echo", 1) == (1,)
