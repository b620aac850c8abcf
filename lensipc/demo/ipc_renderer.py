# SPDX-License-Identifier: MIT
"""The example extension's IPC in a renderer: a copy of the catalog, kept up to date by main's events."""

from __future__ import annotations

from lensipc import Ipc, LensRendererExtension, Types

from .catalog import Catalog, Details, Item


class IpcRenderer(Ipc.Renderer):
    """One in each renderer. `IpcRenderer.get_instance()` finds it from anywhere in that process."""

    def __init__(self, extension: LensRendererExtension) -> None:
        super().__init__(extension)
        self.catalog: Catalog = Catalog()
        self.heard: int = 0  # changes, since the catalog was received
        self.listen("catalog.all", self._on_all)
        self.listen("catalog.added", self._on_item)
        self.listen("catalog.changed", self._on_item)
        self.listen("catalog.removed", self._on_removed)

    async def describe(self, pid: int) -> Details:
        """Ask main for what it knows of a process. KeyError: it has ended."""
        details: Details = await self.invoke("catalog.describe", pid, timeout=10.0)
        return details

    # What main sends arrives in the order it was sent: a change that was heard before the whole catalog is in it,
    # one that is heard after it is not.

    def _on_all(self, _event: Types.IpcRendererEvent, items: dict[int, Item], revision: int) -> None:
        self.catalog = Catalog(items, revision)
        self.heard = 0

    def _on_item(self, _event: Types.IpcRendererEvent, item: Item) -> None:
        self.catalog.put(item)
        self.heard += 1

    def _on_removed(self, _event: Types.IpcRendererEvent, pid: int) -> None:
        self.catalog.remove(pid)
        self.heard += 1
