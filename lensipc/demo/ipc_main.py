# SPDX-License-Identifier: MIT
"""The example extension's IPC in main: it owns the catalog, tells of each change, and answers for the details."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import psutil

from lensipc import Ipc, LensMainExtension, Types

from . import processes
from .catalog import Catalog, Details, Item

# Between two looks at the machine's processes (seconds).
INTERVAL = 0.25


class IpcMain(Ipc.Main):
    """One for all renderers. `IpcMain.get_instance()` finds it from anywhere in main."""

    def __init__(self, extension: LensMainExtension) -> None:
        super().__init__(extension)
        self.catalog: Catalog = Catalog()
        # Too much to send to everybody, so it stays here and is asked for.
        self._details: dict[int, Details] = {}
        self._syncing: asyncio.Task[None] | None = None
        self.listen("initialize", self._on_initialize)
        self.handle("catalog.describe", self._describe)

    def _on_initialize(self, event: Types.IpcMainEvent, _id: str) -> None:
        """A renderer is there: it is given the catalog as it is, and hears each change from now on."""
        event.reply("catalog.all", self.catalog.items, self.catalog.revision)
        if self._syncing is None:
            self._syncing = asyncio.create_task(self._sync())
            self.extension.disposers.callback(self._syncing.cancel)

    def _describe(self, _event: Types.IpcMainInvokeEvent, pid: int) -> Details:
        return self._details[pid]  # a KeyError here is a KeyError in the renderer that asked

    async def _sync(self) -> None:
        while True:
            seen = set()
            async for process in processes.running():
                if self._look_at(process):
                    seen.add(process.pid)
            for pid in self.catalog.items.keys() - seen:
                self._remove(pid)
            await self.drain()  # a slow renderer slows the syncing down, and nothing else
            await asyncio.sleep(INTERVAL)

    def _look_at(self, process: psutil.Process) -> bool:
        item = processes.item(process)
        known = self.catalog.items.get(process.pid)
        if item == known:
            return True
        if known is None or item["name"] != known["name"]:
            details = processes.details(process)
            if details is None:
                return False  # it has just ended
            self._details[process.pid] = details
        self._put("catalog.added" if known is None else "catalog.changed", item)
        return True

    def _put(self, channel: str, item: Item) -> None:
        self.catalog.put(item)
        self.broadcast(channel, item)

    def _remove(self, pid: int) -> None:
        self.catalog.remove(pid)
        del self._details[pid]
        self.broadcast("catalog.removed", pid)

    async def stop(self) -> None:
        """End the syncing: the catalog stays as it is."""
        if self._syncing is not None:
            self._syncing.cancel()
            with suppress(asyncio.CancelledError):
                await self._syncing
