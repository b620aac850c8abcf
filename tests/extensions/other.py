"""Another extension, with the same channel names as the lab."""

from __future__ import annotations

import asyncio
from typing import Any

from lensipc import Ipc, LensMainExtension, LensRendererExtension


class IpcMain(Ipc.Main):
    pass


class OtherMain(LensMainExtension):
    def on_activate(self) -> None:
        IpcMain.create_instance(self).handle("who", lambda event: event.extension)


class IpcRenderer(Ipc.Renderer):
    pass


class OtherRenderer(LensRendererExtension):
    def on_activate(self) -> None:
        IpcRenderer.create_instance(self)


heard: list[Any] = []


def note(_lab: Ipc.Renderer, channel: str) -> None:
    IpcRenderer.get_instance().listen(channel, lambda _event, value: heard.append(value))


async def hear(_lab: Ipc.Renderer, _channel: str, count: int) -> list[Any]:
    while len(heard) < count:
        await asyncio.sleep(0.005)
    return heard


async def who(_lab: Ipc.Renderer) -> Any:
    return await IpcRenderer.get_instance().invoke("who")
