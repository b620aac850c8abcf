"""An extension as a user would write it, for the tests of lensipc.testing; and mistakes, if its settings name one."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from typing import Any

from lensipc import ExtensionManifest, Ipc, LensMainExtension, LensRendererExtension, Types

log = logging.getLogger("greeting")


class IpcMain(Ipc.Main):
    """Knows who has come."""

    def __init__(self, extension: LensMainExtension) -> None:
        super().__init__(extension)
        self.come: list[str] = []
        self.listen("initialize", self._on_initialize)
        self.handle("describe", describe)

    def _on_initialize(self, event: Types.IpcMainEvent, id: str) -> None:
        self.come.append(id)
        event.reply("welcome", id)


async def describe(event: Types.IpcMainInvokeEvent, id: str) -> dict[str, str]:
    """Tell on the way how far it is."""
    if not id:
        raise KeyError(id)
    event.reply("progress", 50)
    return {"id": id, "state": "ready"}


class Main(LensMainExtension):
    """In main."""

    def on_activate(self) -> None:
        IpcMain.create_instance(self)


class IpcRenderer(Ipc.Renderer):
    """Hears its welcome."""

    def __init__(self, extension: LensRendererExtension) -> None:
        super().__init__(extension)
        self.heard: list[str] = []
        self.listen("welcome", self._on_welcome)

    def _on_welcome(self, _event: Types.IpcRendererEvent, id: str) -> None:
        self.heard.append(id)


kept: list[Any] = []


class Renderer(LensRendererExtension):
    """In a renderer. Its settings are the name of a mistake."""

    def on_activate(self) -> None:
        ipc = IpcRenderer.create_instance(self)
        log.warning("greetings from a renderer")
        if self.settings == "open":
            kept.append(open("/etc/passwd"))  # noqa: SIM115, PTH123
        elif self.settings == "socket":
            kept.append(socket.socket())
        elif self.settings == "eventfd":
            kept.append(os.eventfd(0))
        elif self.settings == "task":
            kept.append(asyncio.create_task(asyncio.sleep(100)))
        elif self.settings == "raise":
            raise ValueError("no greetings")
        ipc.broadcast("initialize", "an-id")


MANIFEST = ExtensionManifest("greeting", "1.0", main="greeting:Main", renderer="greeting:Renderer")
