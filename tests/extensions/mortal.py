"""An extension that ends the renderer it is activated in, in the way that main's part says."""

from __future__ import annotations

import asyncio
import os
import signal

from lensipc import ExtensionManifest, Ipc, LensMainExtension, LensRendererExtension, Types

MANIFEST = ExtensionManifest("mortal", "1", main="mortal:Main", renderer="mortal:Renderer")
AT_IMPORT = ExtensionManifest("mortal", "1", main="mortal:Main", renderer="mortal_at_import:Renderer")

ways: dict[int | None, str] = {}  # by renderer's pid, None: any
heard: set[int | None] = set()  # renderers that asked for their way


class IpcMain(Ipc.Main):
    pass


def way(event: Types.IpcMainInvokeEvent) -> str | None:
    heard.add(event.pid)
    return ways.get(event.pid, ways.get(None))


class Main(LensMainExtension):
    def on_activate(self) -> None:
        IpcMain.create_instance(self).handle("way", way)


class IpcRenderer(Ipc.Renderer):
    pass


def die(way: str) -> None:
    """End this process: by a signal's name, or a status."""
    if way.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, way))
    else:
        os._exit(int(way))


class Renderer(LensRendererExtension):
    async def on_activate(self) -> None:
        way = await IpcRenderer.create_instance(self).invoke("way")
        if way == "hang":
            await asyncio.Event().wait()
        elif way is not None:
            die(way)
