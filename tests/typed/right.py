# SPDX-License-Identifier: MIT
"""What users write with types, all of it right: `mypy --strict` and strict pyright find nothing here."""

# pyright: strict

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypedDict, TypeVar, TypeVarTuple, assert_type
from unittest.mock import Mock

import numpy as np

from lensipc import (
    Channel,
    Disposer,
    ExtensionManifest,
    Invocation,
    Ipc,
    LensMainExtension,
    LensRendererExtension,
    MainProcess,
    RendererProcess,
    Stream,
    Types,
    clone,
)

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


class Row(TypedDict):
    name: str


SEARCH = Channel[tuple[str, int], list[str]]("search")
PING = Channel[tuple[()], None]("ping")
NAMES = Channel[tuple[str], Sequence[str]]("names")
MOVED = Channel[tuple[float, float], None]("moved")
SET = Channel[tuple[Mapping[str, float | None], Sequence[float]], None]("set")
ADD = Channel[tuple[Row], Row | None]("add")
ROWS = Channel[tuple[str], Iterator[int]]("rows")


def search(event: Types.IpcMainInvokeEvent, query: str, limit: int) -> list[str]:
    return [f"{query} of {event.process} {event.frame_id}"] * limit


async def search_async(event: Types.IpcMainInvokeEvent, query: str, limit: int) -> list[str]:
    await asyncio.sleep(0)
    return search(event, query, limit)


def search_anything(event: object, query: object, limit: float, more: int = 3) -> list[str]:
    return [str((event, query, limit, more))]


def search_with(prefix: str, event: Types.IpcMainInvokeEvent, query: str, limit: int) -> list[str]:
    return search(event, prefix + query, limit)


def rows(event: Types.IpcMainInvokeEvent, query: str) -> Iterator[int]:
    yield len(query) + event.pid


def on_moved(event: Types.IpcEvent, x: float, y: float) -> None:
    event.reply(MOVED, y, x)
    event.reply("moved", y, x)


async def on_moved_async(event: Types.IpcRendererEvent, x: float, y: float) -> None:
    print(event.missed, x, y)


class IpcMain(Ipc.Main):
    def __init__(self, extension: LensMainExtension, prefix: str = "") -> None:
        super().__init__(extension)
        self.prefix = prefix
        self.disposers: list[Disposer] = [self.handle(SEARCH, self.search), self.listen(MOVED, self.on_moved)]

    async def search(self, event: Types.IpcMainInvokeEvent, query: str, limit: int) -> list[str]:
        return search(event, self.prefix + query, limit)

    def on_moved(self, event: Types.IpcMainEvent, x: float, y: float) -> None:
        self.broadcast(MOVED, x, y)
        self.send(event.frame_id, MOVED, x, 3)
        self.send(event.frame_id, "moved", x, y, transfer=[bytearray(3)])


class IpcRenderer(Ipc.Renderer):
    pass


def main_side(ipc: IpcMain) -> None:
    ipc.handle(SEARCH, search)
    ipc.handle(SEARCH, search_async)
    ipc.handle(SEARCH, search_anything)
    ipc.handle(SEARCH, functools.partial(search_with, "x"))
    ipc.handle(SEARCH, lambda event, query, limit: [query] * limit)
    ipc.handle(NAMES, lambda event, start: [start])
    ipc.handle(PING, lambda event: None)
    ipc.handle(ROWS, rows)
    ipc.handle("search", search)
    ipc.handle("search", Mock(return_value=[]))
    ipc.handle("search", print)
    ipc.listen(MOVED, on_moved)
    ipc.listen("moved", on_moved)


async def ask(ipc: Ipc.Renderer, channel: Channel[tuple[str], Result]) -> Result:
    return await ipc.invoke(channel, "a")


def on(
    ipc: Ipc.Renderer, channel: Channel[tuple[*Arguments], None], listener: Callable[[Types.IpcEvent, *Arguments], None]
) -> Disposer:
    return ipc.listen(channel, listener)


async def renderer_side(ipc: IpcRenderer) -> None:
    ipc.listen(MOVED, on_moved)
    ipc.listen(MOVED, on_moved_async, when_slow="drop_oldest")
    ipc.listen(MOVED, lambda event, x, y: print(event.missed, x + y))
    ipc.listen(MOVED, on_moved_async, replay=True, latest=True, concurrency=2)
    ipc.broadcast(MOVED, 1, 2, keep=True)
    ipc.broadcast("moved", 1, 2, transfer=[bytearray(3)])
    ipc.broadcast(SET, {"x": None, "y": 1}, [1, 2])
    for channel in (PING, "ping"):
        ipc.broadcast(channel)
    on(ipc, MOVED, lambda event, x, y: print(event.pid, x + y))
    assert_type(await ask(ipc, NAMES), Sequence[str])
    row: Row = {"name": "x"}
    assert_type(await ipc.invoke(ADD, row), Row | None)

    assert_type(await ipc.invoke(SEARCH, "lens", 3), list[str])
    assert_type(await ipc.invoke(SEARCH, "lens", True, timeout=2.5, transfer=[bytearray(3)]), list[str])
    assert_type(await ipc.invoke(PING, timeout=None), None)
    assert_type(await ipc.invoke("search", "lens", 3, timeout=2), Any)

    assert_type(ipc.invoke(SEARCH, "lens", 3), Invocation[list[str]])
    assert_type(await asyncio.create_task(ipc.invoke(SEARCH, "lens", 3)), list[str])
    assert_type(await asyncio.create_task(ipc.invoke("search", "lens")), Any)
    assert_type(await asyncio.wait_for(ipc.invoke(SEARCH, "lens", 3), 2), list[str])
    assert_type(await asyncio.shield(ipc.invoke(SEARCH, "lens", 3)), list[str])
    hits, nothing = await asyncio.gather(ipc.invoke(SEARCH, "lens", 3), ipc.invoke(PING))
    assert_type(hits, list[str])
    assert_type(nothing, None)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(ipc.invoke(SEARCH, "lens", 3))
    assert_type(task.result(), list[str])
    later = ipc.invoke(SEARCH, "lens", 3)
    later.add_done_callback(lambda done: print(done.result()))
    later.cancel()
    for each in asyncio.as_completed([ipc.invoke(SEARCH, "lens", n) for n in range(3)]):
        assert_type(await each, list[str])
    await asyncio.wait({ipc.invoke(SEARCH, "lens", 3)}, timeout=2)

    assert_type(await ipc.invoke(SEARCH, "lens", 3, arrays="view", timeout=2), list[str])

    async for number in ipc.stream(ROWS, "a", read_ahead=8):
        assert_type(number, int)
    async with ipc.stream("rows", "a", timeout=2) as numbers:
        assert_type(await anext(numbers), Any)


def script_side(ipc: IpcRenderer) -> None:
    assert_type(ipc.invoke_sync(SEARCH, "lens", 3, timeout=2), list[str])
    assert_type(ipc.invoke_sync("search", "lens"), Any)
    futures = [ipc.submit(SEARCH, "lens", n, timeout=2) for n in range(3)]
    assert_type(futures, list[concurrent.futures.Future[list[str]]])
    assert_type([future.result(5) for future in futures], list[list[str]])
    assert_type(ipc.submit("search", "lens").result(timeout=5), Any)
    assert_type(ipc.submit(SEARCH, "lens", 3, arrays="view").result(), list[str])
    assert_type(ipc.invoke_sync(SEARCH, "lens", 3, arrays="copy"), list[str])
    assert_type(ipc.stream(ROWS, "a"), Stream[int])
    assert_type(list(ipc.stream(ROWS, "a")), list[int])
    assert_type(ipc.stream(ROWS, "a").take(), list[int])


class Main(LensMainExtension):
    async def on_activate(self) -> None:
        main_side(IpcMain.create_instance(self, prefix="x"))
        assert_type(IpcMain.get_instance(), IpcMain)
        assert_type(IpcMain.get_instance(strict=False), IpcMain | None)
        self.disposers.callback(print, "bye")

    def on_renderer_attached(self, renderer: Types.RendererInfo) -> None:
        print(renderer.frame_id, renderer.pid)


class Renderer(LensRendererExtension):
    def on_activate(self) -> None:
        IpcRenderer.create_instance(self)


async def host() -> None:
    manifest = ExtensionManifest(id="files", version="1.0", main="files:Main", renderer="files:Renderer")
    async with MainProcess("/tmp/files.sock") as main:
        await main.install(manifest, settings={"folder": "/tmp"})
        renderer = await main.spawn_renderer(extensions=["files"])
        print(renderer.pid)
        assert_type(main.pool, Types.PoolState)
    async with RendererProcess.connect("/tmp/files.sock"):
        await renderer_side(IpcRenderer.get_instance())


def names() -> dict[object, int]:
    assert SEARCH == "search"
    assert clone.decode(clone.encode([str(SEARCH)])) == ["search"]
    return {SEARCH: 1, "moved": 2}


def frames(ipc: IpcMain, there: IpcRenderer) -> None:
    frame = ipc.loan((480, 640, 3), np.uint8)
    assert_type(frame.dtype, np.dtype[np.uint8])
    with there.loan(10) as numbers:
        assert_type(numbers.dtype, np.dtype[np.float64])
        ipc.broadcast("frame", {"frame": frame, "numbers": numbers}, transfer=[frame])
