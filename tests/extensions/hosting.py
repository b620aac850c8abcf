"""A host with the lab installed, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import lab

from lensipc import MainProcess, RendererHandle


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
