# SPDX-License-Identifier: MIT
"""lensipc itself: an extension whose main and renderers run in the processes of the trial."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from functools import partial
from itertools import cycle, islice
from typing import Any, Final

import numpy as np

from lensipc import ExtensionManifest, Ipc, LensMainExtension, LensRendererExtension, MainProcess, RendererProcess

from ..contest import Contest, Life
from ..loops import run
from ..side import EACH_PAGE, Side, handle, patiently
from ..task import SMALL, Task

# Messages between two looks at whether the receivers keep pace; of large ones, each.
BURST: Final = 64


class IpcMain(Ipc.Main):
    """Answers calls; has no listener."""

    def __init__(self, extension: LensMainExtension) -> None:
        super().__init__(extension)
        self.handle("echo", lambda _event, value: handle(value))


class MainPart(LensMainExtension):
    """In main."""

    def on_activate(self) -> None:
        """One instance of a class of its own for each extension: a class has one instance."""
        own: type[IpcMain] = type("IpcMain", (IpcMain,), {})
        mains.append(own.create_instance(self))


class RendererPart(LensRendererExtension):
    """In a renderer: listens, if this renderer has a listener."""

    def on_activate(self) -> None:
        """Listen before main is told that this renderer is there."""
        own: type[Ipc.Renderer] = type("IpcRenderer", (Ipc.Renderer,), {})
        ipc = own.create_instance(self)
        renderers.append(ipc)
        for listen in listening:
            listen(ipc)


# Of this process.
mains: list[IpcMain] = []
renderers: list[Ipc.Renderer] = []
listening: list[Callable[[Ipc.Renderer], object]] = []


def channels(task: Task) -> list[str]:
    """The names of the channels."""
    return [f"event {number}" for number in range(task.channels)]


def manifest(number: int = 0) -> ExtensionManifest:
    """An extension."""
    return ExtensionManifest(f"bench {number}", "1", main=f"{__name__}:MainPart", renderer=f"{__name__}:RendererPart")


def value(task: Task) -> Any:
    """What is broadcast."""
    return np.ones(task.size // 4, np.float32) if task.payload == "array" else SMALL


async def broadcast_all(ipcs: list[Any], side: Side) -> None:
    """Broadcast what is to be, through all extensions and channels in turn."""
    task, message = side.task, value(side.task)
    turns = cycle([(ipc, channel) for ipc in ipcs for channel in channels(task)])
    burst = 1 if task.payload == "array" else BURST
    async for count in side.portions_async():
        for sent in range(0, count, burst):
            for ipc, channel in islice(turns, min(burst, count - sent)):
                ipc.broadcast(channel, message)
            await ipc.drain()


class _Lens(Contest):
    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.options: dict[str, Any] = {"outbox_limit": 2**30, "message_limit": 2**30}  # of the MainProcess

    def main(self, side: Side) -> None:
        run(self.serve(side), self.task.loop)

    async def serve(self, side: Side) -> None:
        async with MainProcess(self.task.path, **self.options) as host:
            await asyncio.gather(*(host.install(manifest(number)) for number in range(self.task.extensions)))
            await side.ready_async()
            await self.work(side)
            await side.done_async()

    async def work(self, side: Side) -> None:
        """What main does between ready and done."""

    async def connected(self) -> RendererProcess:
        """This process as a renderer."""
        while True:
            try:
                return await RendererProcess.connect(self.task.path).__aenter__()
            except (FileNotFoundError, ConnectionRefusedError):
                await asyncio.sleep(0.002)


class Events(_Lens):
    """Main broadcasts; the renderers listen on asyncio."""

    async def work(self, side: Side) -> None:
        """Broadcast."""
        await broadcast_all(mains, side)

    def listen(self, side: Side, ipc: Ipc.Renderer) -> None:
        """Have a renderer's part listen."""
        for channel in channels(self.task):
            ipc.listen(channel, side.listener.on_event)

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Listen."""
        run(self._listen(side), self.task.loop)

    async def _listen(self, side: Side) -> None:
        finished = side.finished()
        listening.append(partial(self.listen, side))
        renderer = await self.connected()
        try:
            await side.ready_async()
            await finished.wait()
            await side.done_async(side.listener.report())
        finally:
            renderer.close()


class Arrays(Events):
    """Arrays to several renderers. As many bytes may wait for each as for a subscriber of iceoryx2, or some arrays."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        # A renderer may hold 8 times high_water, or an eighth of the pool, which takes messages of at most a quarter.
        self.options.update(high_water=max(8 * 2**20, task.size // 2), pool_limit=max(2**28, 5 * task.size))


class InPlace(Arrays):
    """The renderers read arrays where main has copied them."""

    def listen(self, side: Side, ipc: Ipc.Renderer) -> None:
        """Have a renderer's part listen."""
        for channel in channels(self.task):
            ipc.listen(channel, side.listener.on_view, arrays="view")


class Loaned(InPlace):
    """Main writes the arrays where the renderers read them."""

    async def work(self, side: Side) -> None:
        """Write a number of each page of a loan, and broadcast it."""
        (ipc,), (channel,), shape = mains, channels(self.task), self.task.size // 4
        async for count in side.portions_async():
            for _ in range(count):
                frame = ipc.loan(shape, np.float32)
                frame[::EACH_PAGE] = 1
                ipc.broadcast(channel, frame, transfer=[frame])
                del frame
                await ipc.drain()


class EventsToScripts(Events):
    """The renderers are plain scripts: no event loop."""

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Dispatch until all have come."""
        listening.append(partial(self.listen, side))
        with closing(patiently(lambda: RendererProcess.connect(self.task.path).__enter__())) as renderer:
            side.ready()
            while not side.listener.finished:
                renderer.dispatch(1.0)
            side.done(side.listener.report())


class Relay(Events):
    """One renderer more, which broadcasts; main does nothing itself."""

    def sides(self) -> dict[str, Life]:
        """Also the sender."""
        return {**super().sides(), "sender": lambda side: run(self._send(side), self.task.loop)}

    async def work(self, side: Side) -> None:
        """Nothing: main has no listener."""

    async def _send(self, side: Side) -> None:
        renderer = await self.connected()
        try:
            await side.ready_async()
            await broadcast_all(renderers, side)
            await side.done_async()
        finally:
            renderer.close()


class Calls(_Lens):
    """Blocking calls from a plain script, woken by its socket."""

    wakeup: Any = "socket"

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Call."""
        connect = partial(RendererProcess.connect, self.task.path, wakeup=self.wakeup)
        with closing(patiently(lambda: connect().__enter__())):
            side.ask_all(partial(renderers[0].invoke_sync, "echo", SMALL))


class CallsBySemaphore(Calls):
    """The same, woken by a semaphore."""

    wakeup = "semaphore"


class AsyncCalls(_Lens):
    """Awaited calls: event loops on both sides."""

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Call."""
        run(self._call(side), self.task.loop)

    async def _call(self, side: Side) -> None:
        renderer = await self.connected()
        try:
            await side.ask_all_async(partial(renderers[0].invoke, "echo", SMALL))
        finally:
            renderer.close()


class CallsBesideBulk(_Lens):
    """Awaited calls, while one array after the other goes to the renderer that calls, or from it."""

    async def work(self, side: Side) -> None:  # noqa: ARG002
        """Broadcast until the calls are over; or only hear what is broadcast."""
        (ipc,) = mains
        over = asyncio.Event()
        ipc.listen("over", lambda _event: over.set())
        if self.task.case == "it sends them":
            ipc.listen("bulk", lambda _event, _array: None)
        else:
            await self._send(ipc, over)

    async def _send(self, ipc: Any, over: asyncio.Event) -> None:
        array = value(self.task)
        while not over.is_set():
            ipc.broadcast("bulk", array)
            await ipc.drain()

    def renderer(self, number: int, side: Side) -> None:  # noqa: ARG002
        """Call."""
        run(self._call(side), self.task.loop)

    async def _call(self, side: Side) -> None:
        renderer = await self.connected()
        (ipc,) = renderers
        over = asyncio.Event()
        if self.task.case == "it sends them":
            sending: asyncio.Task[Any] = asyncio.create_task(self._send(ipc, over))
        else:
            ipc.listen("bulk", lambda _event, _array: None)
            sending = asyncio.create_task(over.wait())

        def end() -> None:
            over.set()
            ipc.broadcast("over")

        try:
            await side.ask_all_async(partial(ipc.invoke, "echo", SMALL), end)
            await sending
        finally:
            renderer.close()
