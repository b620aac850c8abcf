"""What runs at the other end of a benchmark: the renderer's part of ours, and a process for the rivals."""

from __future__ import annotations

import pickle
import time
from multiprocessing.connection import Connection
from typing import Any

from lensipc import ExtensionManifest, Ipc, LensMainExtension, LensRendererExtension

MANIFEST = ExtensionManifest("bench", "1", main="workers:Main", renderer="workers:Renderer")
SMALL = {"id": 17, "name": "initialize", "ok": True, "v": 3.14, "tags": ["a", "b"]}


class IpcMain(Ipc.Main):
    """Answers, and counts what it hears."""

    def __init__(self, extension: LensMainExtension) -> None:
        super().__init__(extension)
        self.results: list[Any] = []
        self.handle("echo", lambda _event, value: value)
        self.listen("result", lambda _event, value: self.results.append(value))


class Main(LensMainExtension):
    def on_activate(self) -> None:
        IpcMain.create_instance(self)


class IpcRenderer(Ipc.Renderer):
    """Receives, and says how long that took."""

    def __init__(self, extension: LensRendererExtension) -> None:
        super().__init__(extension)
        self.left = 0
        self.begun = 0.0
        self.listen("expect", self._expect)
        self.listen("small", self._small)
        self.listen("round trips", self._round_trips)

    def _expect(self, _event: Any, count: int) -> None:
        self.left = count
        self.begun = time.perf_counter()

    def _small(self, _event: Any, _value: Any) -> None:
        self.left -= 1
        if not self.left:
            self.broadcast("result", time.perf_counter() - self.begun)

    async def _round_trips(self, _event: Any, count: int) -> None:
        times = []
        for _ in range(count):
            begun = time.perf_counter()
            await self.invoke("echo", SMALL)
            times.append(time.perf_counter() - begun)
        self.broadcast("result", times)


class Renderer(LensRendererExtension):
    def on_activate(self) -> None:
        IpcRenderer.create_instance(self)


def pipe(connection: Connection) -> None:
    """A process at the end of a multiprocessing.Pipe: ("one way", count) or ("round trips", count)."""
    while True:
        what, count = connection.recv()
        if what == "end":
            return
        begun = time.perf_counter()
        if what == "one way":
            for _ in range(count):
                pickle.loads(connection.recv_bytes())
            connection.send(time.perf_counter() - begun)
        else:
            times = []
            for _ in range(count):
                begun = time.perf_counter()
                connection.send_bytes(pickle.dumps(SMALL, 5))
                pickle.loads(connection.recv_bytes())
                times.append(time.perf_counter() - begun)
            connection.send_bytes(b"")
            connection.send(times)
