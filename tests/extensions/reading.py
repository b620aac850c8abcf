"""What the lab's part in a renderer runs to read streams."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import lab

from lensipc import Ipc, LensMainExtension, LensRendererExtension, Stream

held: list[Any] = []  # what a test wants to be kept


async def read(ipc: lab.IpcRenderer, channel: str, *args: Any, **options: Any) -> list[Any]:
    """All items of a stream."""
    return [item async for item in ipc.stream(channel, *args, **options)]


async def read_until_error(ipc: lab.IpcRenderer, channel: str, args: tuple[Any, ...] = (), **options: Any) -> Any:
    """The items of a stream, and what it ended with: the names of the error's types, and its text."""
    items: list[Any] = []
    try:
        async for item in ipc.stream(channel, *args, **options):
            items.append(item)
    except Exception as error:
        return items, [kind.__name__ for kind in type(error).__mro__], str(error)
    return items, None, None


async def read_with(ipc: lab.IpcRenderer, channel: str, options: dict[str, Any], *args: Any) -> Any:
    """As `read_until_error`, with options."""
    return await read_until_error(ipc, channel, args, **options)


async def read_some(ipc: lab.IpcRenderer, channel: str, count: int, read_ahead: int) -> list[Any]:
    """So many items; the stream is kept, and read no further."""
    stream = ipc.stream(channel, read_ahead=read_ahead)
    held.append(stream)
    return [await anext(stream) for _ in range(count)]


async def end(ipc: lab.IpcRenderer, how: str, channel: str) -> Any:
    """Read two items, and end the stream in one of several ways; what that came to."""
    if how == "end":
        return await read(ipc, channel, read_ahead=2)
    if how == "break":
        async for _item in ipc.stream(channel, read_ahead=2):
            break
        return None
    if how == "async with":
        async with ipc.stream(channel, read_ahead=2) as stream:
            await anext(stream)
            held.append(stream)
        return None
    if how == "let go":
        stream = ipc.stream(channel, read_ahead=2)
        await anext(stream)
        del stream
        return None
    if how == "let go in a thread":
        streams = [ipc.stream(channel, read_ahead=2)]
        await anext(streams[0])
        thread = threading.Thread(target=streams.clear)
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.001)
        return None
    if how == "cancel":
        task = asyncio.create_task(read(ipc, channel, read_ahead=2))
        held.append(task)
        await asyncio.sleep(0.05)
        task.cancel()
        return [type(each).__name__ for each in await asyncio.gather(task, return_exceptions=True)]
    if how == "timeout":
        return (await read_until_error(ipc, channel, read_ahead=2, timeout=0.05))[1:]
    if how == "keep":
        stream = ipc.stream(channel, read_ahead=2)
        held.append(stream)
        return await anext(stream)
    raise AssertionError(how)


async def open_and_close(ipc: lab.IpcRenderer, channel: str, read_ahead: int) -> list[Any]:
    """Close streams that nobody has read: what is left of them here, and what a closed one gives."""
    for _ in range(20):
        ipc.stream(channel, read_ahead=read_ahead).close()
    stream = ipc.stream(channel, read_ahead=read_ahead)
    await stream.aclose()
    await ipc.invoke("echo")
    return [len(list(lab.core_of(ipc).pending_invokes)), [item async for item in stream], stream.ended, repr(stream)]


async def read_in_two_tasks(ipc: lab.IpcRenderer, channel: str) -> list[Any]:
    """Two tasks want an item of one stream at once: what each has."""
    stream = ipc.stream(channel)

    async def one() -> Any:
        return await anext(stream)

    outcomes = await asyncio.gather(one(), one(), return_exceptions=True)
    return [str(each) for each in outcomes]


async def read_a_thousand(ipc: lab.IpcRenderer, channel: str, count: int) -> bool:
    """A thousand streams at once: whether each has its own items, in order."""
    streams = await asyncio.gather(*(read(ipc, channel, number, count, read_ahead=7) for number in range(1000)))
    return streams == [[(number, place) for place in range(count)] for number in range(1000)]


async def read_and_be_busy(ipc: lab.IpcRenderer, channel: str) -> list[Any]:
    """Read with a timeout that passes while this process is busy, and the item is there."""
    items = []
    async with ipc.stream(channel, read_ahead=1, timeout=0.2) as stream:
        for _ in range(3):
            waiting = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            time.sleep(0.3)
            items.append(await waiting)
    return items


async def block_and_count(ipc: lab.IpcRenderer, channel: str, count: int, seconds: float) -> int:
    """Ask for a stream of large items, read nothing for a while, and then all: how many were right."""
    stream = ipc.stream(channel, count, read_ahead=count)
    time.sleep(seconds)
    return sum([item == bytes([number % 256]) * 65536 async for number, item in aenumerate(stream)])


async def aenumerate(stream: Stream[Any]) -> Any:
    """Items with their places."""
    place = 0
    async for item in stream:
        yield place, item
        place += 1


async def read_arrays(ipc: lab.IpcRenderer, channel: str, count: int) -> list[Any]:
    """Read arrays between small items: sums, after one has been added to each."""
    sums = []
    async for item in ipc.stream(channel, count):
        if isinstance(item, int):
            sums.append(item)
        else:
            item += 1
            sums.append(int(item.sum()))
    return sums


async def ask_wrongly(ipc: lab.IpcRenderer, channel: str) -> list[str]:
    """Whatever is no way to ask or to iterate: the errors."""
    errors = []
    for options in (
        {"read_ahead": -1},
        {"read_ahead": 65_537},
        {"read_ahead": True},
        {"read_ahead": 1.5},
        {"timeout": "soon"},
        {"timeout": float("nan")},
        {"transfer": [b"immutable"]},
    ):
        try:
            ipc.stream(channel, **options)
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
    for call in (lambda: ipc.stream(channel, print), lambda: list(ipc.stream(channel))):
        try:
            call()
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")

    def elsewhere() -> None:
        try:
            ipc.stream(channel)
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    errors.append(f"{len(list(lab.core_of(ipc).pending_invokes))} pending")
    return errors


async def read_what_is_unknown(ipc: lab.IpcRenderer, channel: str) -> Any:
    """Read items of which one is of a type that is not registered here; and whether the stream has ended."""
    items: list[Any] = []
    stream = ipc.stream(channel)
    try:
        async for item in stream:
            items.append(item)
    except Exception as error:
        return items, type(error).__name__, stream.ended
    return items, None, stream.ended


async def read_while_others_run(ipc: lab.IpcRenderer, channel: str, count: int) -> int:
    """Read so many items as fast as they come: how often another task of this process had its turn."""
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    assert len(await read(ipc, channel, count)) == count
    task.cancel()
    return turns


async def empty_what_is_transferred(ipc: lab.IpcRenderer, channel: str) -> Any:
    """Transfer a bytearray: what is left of it here, and what comes back of it."""
    data = bytearray(b"transferred")
    back = await read(ipc, channel, data, transfer=[data])
    return len(data), back


# ---- an extension whose part in main takes its time to activate ----

begun: list[str] = []
told: list[Any] = []


class EarlyIpcMain(Ipc.Main):
    pass


class EarlyMain(LensMainExtension):
    async def on_activate(self) -> None:
        ipc = EarlyIpcMain.create_instance(self)
        ipc.handle("told", lambda _event, value: told.append(value))
        may_end = asyncio.Event()

        def rows(_event: object, name: str) -> Any:
            begun.append(name)
            yield from (1, 2, 3)

        ipc.handle("rows", rows)
        ipc.handle("gave up", lambda _event: may_end.set())
        ipc.listen("gave up", lambda _event: may_end.set())
        await may_end.wait()


class EarlyIpcRenderer(Ipc.Renderer):
    pass


class EarlyRenderer(LensRendererExtension):
    async def on_activate(self) -> None:
        ipc = EarlyIpcRenderer.create_instance(self)
        ipc.stream("rows", "given up").close()
        reading = asyncio.create_task(self.read(ipc))
        await asyncio.sleep(0)  # it gives credit while it waits
        ipc.broadcast("gave up")
        await ipc.invoke("told", await reading)

    async def read(self, ipc: EarlyIpcRenderer) -> list[Any]:
        return [row async for row in ipc.stream("rows", "read", read_ahead=0)]
