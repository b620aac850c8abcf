# SPDX-License-Identifier: MIT
"""Threads beside the one that a process's lensipc objects belong to, and a connection that one of them could break."""

from __future__ import annotations

import asyncio
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
