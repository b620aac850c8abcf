# SPDX-License-Identifier: MIT
"""A terminal app as a renderer: python examples/textual_renderer.py

Textual runs on asyncio, so the renderer is entered with `async with` and its listeners may be async. Main has a process
of its own, which this program starts; it broadcasts its clock, and the app shows it.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time

from lensipc import ExtensionManifest, Ipc, LensMainExtension, LensRendererExtension, MainProcess, RendererProcess


class IpcMain(Ipc.Main):
    """Has the clock."""

    async def tick(self) -> None:
        """Tell the time, for ever."""
        while True:
            self.broadcast("time", time.strftime("%H:%M:%S"))
            await asyncio.sleep(0.2)


class ClockMain(LensMainExtension):
    """In main."""

    def on_activate(self) -> None:
        ticking = asyncio.create_task(IpcMain.create_instance(self).tick())
        self.disposers.callback(ticking.cancel)


class IpcRenderer(Ipc.Renderer):
    """The app listens by it."""


class ClockRenderer(LensRendererExtension):
    """In the app's process."""

    def on_activate(self) -> None:
        IpcRenderer.create_instance(self)


MANIFEST = ExtensionManifest(
    "clock", "1.0", main="textual_renderer:ClockMain", renderer="textual_renderer:ClockRenderer"
)


async def host(path: str) -> None:
    """The main process: until its stdin is closed."""
    async with MainProcess(path) as main:
        await main.install(MANIFEST)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def show(path: str, seconds: float) -> int:
    """The app; how many times it has heard."""
    from textual.app import App, ComposeResult
    from textual.widgets import Digits, Footer

    class ClockApp(App[None]):  # type: ignore[misc]
        BINDINGS = (("q", "quit", "Quit"),)
        heard = 0

        def compose(self) -> ComposeResult:
            yield Digits("")
            yield Footer()

        def on_mount(self) -> None:
            IpcRenderer.get_instance().listen("time", self.on_time)
            self.set_timer(seconds, self.exit)

        def on_time(self, _event: object, now: str) -> None:
            self.heard += 1
            self.query_one(Digits).update(now)

    async with RendererProcess.connect(path):
        app = ClockApp()
        await app.run_async(headless=not sys.stdout.isatty())
        return app.heard


def run(seconds: float) -> None:
    """A host in a process of its own, and the app here."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/main.sock"
        with subprocess.Popen(
            [sys.executable, __file__, "--host", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            heard = asyncio.run(show(path, seconds))
            process.stdin.close()
    print(f"heard the time {heard} times")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--host", metavar="PATH", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    import textual_renderer  # the parts' own module: as __main__ it would be another one

    if arguments.host:
        asyncio.run(textual_renderer.host(arguments.host))
    else:
        textual_renderer.run(arguments.seconds)
