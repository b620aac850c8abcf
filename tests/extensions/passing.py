"""Coming and going, a great many times: what main's part and a renderer's have in common, and what the lab runs."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import lab
from loads import rss

from lensipc import ExtensionManifest, Ipc, LensMainExtension, LensRendererExtension, RendererProcess

MANIFEST = ExtensionManifest("passing", "1", main="passing:Main", renderer="passing:Renderer")

heard: list[Any] = []  # by the part of this process


class IpcMain(Ipc.Main):
    def __init__(self, extension: LensMainExtension) -> None:
        super().__init__(extension)
        self.listen("news", lambda _event, number: heard.append(number))
        self.handle("heard", lambda _event: heard)


class Main(LensMainExtension):
    def on_activate(self) -> None:
        IpcMain.create_instance(self)


class IpcRenderer(Ipc.Renderer):
    def __init__(self, extension: LensRendererExtension) -> None:
        super().__init__(extension)
        self.listen("news", lambda _event, number: heard.append(number))


class Renderer(LensRendererExtension):
    def on_activate(self) -> None:
        IpcRenderer.create_instance(self)


async def take_heard(_ipc: Any, count: int) -> list[Any]:
    """What this process's part has heard since the last time, once there is so much."""
    while len(heard) < count:
        await asyncio.sleep(0.001)
    taken = heard[:]
    heard.clear()
    return taken


class Steady:
    """Listeners that stay: each is to be called once for each broadcast, in order."""

    def __init__(self, ipc: Ipc.Main | Ipc.Renderer, listeners: int) -> None:
        self.last = [0] * listeners
        self.wrong = 0
        for place in range(listeners):
            ipc.listen("steady", lambda _event, number, place=place: self._on(place, number))

    def _on(self, place: int, number: int) -> None:
        self.wrong += number != self.last[place] + 1
        self.last[place] = number


async def listen_and_dispose(ipc: Any, seed: int, count: int) -> dict[str, int]:
    """Come and go as a listener, so many times, while `steady` is broadcast by main."""
    rng, called, wrong = random.Random(seed), 0, 0

    def come() -> Any:
        here = True

        def on_event(*_: object) -> None:
            nonlocal called, wrong
            called += 1
            wrong += not here

        dispose = ipc.listen(f"passing {rng.randrange(20)}" if rng.random() < 0.7 else "steady", on_event)

        def go() -> None:
            nonlocal here
            dispose()
            here = False

        return go

    present: list[Any] = []
    warm = 0
    for number in range(count):
        present.append(come())
        if len(present) > 10 or rng.random() < 0.5:
            present.pop(rng.randrange(len(present)))()
        if number % 50 == 0:
            ipc.broadcast(f"passing {rng.randrange(20)}", number)
            await ipc.drain()
        if number == count // 5:
            warm = rss()
    for go in present:
        go()
    return {"called": called, "wrong": wrong, "rss": rss() - warm}


def steady(ipc: Any, listeners: int) -> None:
    """Have listeners that stay."""
    ipc.steady = Steady(ipc, listeners)


async def steady_heard(ipc: Any, number: int) -> dict[str, Any]:
    """What they have heard, once they have heard that."""
    while min(ipc.steady.last) < number:
        await asyncio.sleep(0.001)
    return {"last": ipc.steady.last, "wrong": ipc.steady.wrong}


def memory(_ipc: Any) -> int:
    """Bytes of memory that this process has."""
    return rss()


def attach_and_detach(path: str, count: int) -> None:
    """Connect, invoke, and leave, so many times; prints how much this process has grown after the first fifth."""
    warm = 0
    for number in range(count):
        with RendererProcess.connect(path, wakeup="semaphore" if number % 2 else "socket"):
            assert lab.IpcRenderer.get_instance().invoke_sync("async echo", number) == (number,)
        if number == count // 5:
            warm = rss()
    print(rss() - warm)
