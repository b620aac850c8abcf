# SPDX-License-Identifier: MIT
"""A renderer that lives in trio: it waits for lensipc's descriptor, and does other things meanwhile.

Main runs on asyncio, so it has a process of its own: this program starts itself once more as the host.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile

from lensipc import (
    ExtensionManifest,
    Ipc,
    LensMainExtension,
    LensRendererExtension,
    MainProcess,
    PeerGone,
    RendererProcess,
    Types,
)


class IpcMain(Ipc.Main):
    """Doubles numbers, and tells everybody of each."""

    def __init__(self, extension: LensMainExtension) -> None:
        super().__init__(extension)
        self.handle("double", self._double)

    async def _double(self, _event: Types.IpcMainInvokeEvent, number: int) -> int:
        self.broadcast("doubled", number)
        return 2 * number


class DoublingMain(LensMainExtension):
    """In main."""

    def on_activate(self) -> None:
        IpcMain.create_instance(self)


class IpcRenderer(Ipc.Renderer):
    """Listeners are plain functions here: `dispatch` calls them."""

    def __init__(self, extension: LensRendererExtension) -> None:
        super().__init__(extension)
        self.heard: list[int] = []
        self.listen("doubled", lambda _event, number: self.heard.append(number))


class DoublingRenderer(LensRendererExtension):
    """In the renderer."""

    def on_activate(self) -> None:
        IpcRenderer.create_instance(self)


MANIFEST = ExtensionManifest(
    "doubling", "1.0", main="trio_renderer:DoublingMain", renderer="trio_renderer:DoublingRenderer"
)


async def host(path: str) -> None:
    """The main process: until its stdin is closed."""
    async with MainProcess(path) as main:
        await main.install(MANIFEST)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def renderer(path: str, seconds: float) -> None:
    """The renderer, in trio."""
    import trio

    with RendererProcess.connect(path) as process:
        ipc = IpcRenderer.get_instance()

        async def dispatch() -> None:
            """What makes lensipc live in this loop."""
            while process.connected:
                await trio.lowlevel.wait_readable(process.fileno())
                try:
                    process.dispatch()
                except PeerGone:
                    return

        async def invoke(channel: str, *args: object) -> object:
            """An invoke that trio can await: a concurrent future, which `dispatch` above resolves."""
            done = trio.Event()
            future = ipc.invoke(channel, *args, timeout=10.0)
            future.add_done_callback(lambda _future: done.set())
            try:
                await done.wait()
            finally:
                future.cancel()  # does nothing once it is done; else trio has cancelled the wait
            return future.result()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(dispatch)
            with trio.move_on_after(seconds):
                number = 1
                while True:
                    print(f"{number} doubled is {await invoke('double', number)}; heard {len(ipc.heard)}", flush=True)
                    number += 1
                    await trio.sleep(0.25)
            nursery.cancel_scope.cancel()


def run(seconds: float) -> None:
    """A host in a process of its own, and the renderer here."""
    import trio

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/main.sock"
        with subprocess.Popen(
            [sys.executable, __file__, "--host", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            trio.run(renderer, path, seconds)
            process.stdin.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--host", metavar="PATH", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    import trio_renderer  # the parts' own module: as __main__ it would be another one

    if arguments.host:
        asyncio.run(trio_renderer.host(arguments.host))
    else:
        trio_renderer.run(arguments.seconds)
