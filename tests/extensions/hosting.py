"""A host with the lab installed, for tests."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lab

from lensipc import ExtensionManifest, MainProcess, RendererHandle


@dataclass
class Host:
    """A running host: its MainProcess, the lab's part in main, and its renderers."""

    main: MainProcess
    ipc: lab.IpcMain
    renderers: list[RendererHandle]


@asynccontextmanager
async def hosting(renderers: int = 0, **options: Any) -> AsyncIterator[Host]:
    """A host with the lab installed and so many renderers."""
    async with MainProcess(**options) as main:
        await main.install(lab.MANIFEST)
        spawned = await asyncio.gather(*(main.spawn_renderer() for _ in range(renderers)))
        yield Host(main, lab.IpcMain.get_instance(), sorted(spawned, key=lambda each: each.frame_id))


async def until(condition: Callable[..., object]) -> None:
    """Wait until something is true; the test's own timeout is the watchdog."""
    while not condition():
        await asyncio.sleep(0.002)


# ---- scripts ----


@asynccontextmanager
async def plain_hosting(path: Path, **options: Any) -> AsyncIterator[Host]:
    """A host whose lab has only plain functions in its renderer part."""
    async with MainProcess(path, **options) as main:
        await main.install(ExtensionManifest("lab", "1", main="lab:LabMain", renderer="plain:PlainRenderer"))
        yield Host(main, lab.IpcMain.get_instance(), [])


async def script(host: Host, code: str) -> str:
    """Run a script in a process of its own that has `path`, the host's path; its output."""
    header = f"import sys; sys.path[:] = {sys.path!r}\npath = {str(host.main.path)!r}\n"
    header += "import lab, os, plain, select, signal, threading, time\nfrom lensipc import *\n"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", header + textwrap.dedent(code), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        out, err = await process.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        raise
    assert process.returncode == 0, err.decode()
    assert err.decode() == ""
    return out.decode()
