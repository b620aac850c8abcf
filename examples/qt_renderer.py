# SPDX-License-Identifier: MIT
"""A Qt window as a renderer, in Qt's own event loop: python examples/qt_renderer.py

A QSocketNotifier watches lensipc's descriptor; `dispatch` calls the listeners in the window's thread. Main runs on
asyncio in a process of its own, which this program starts. It counts words; the window shows progress as it comes.
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

TEXT = "the quick brown fox jumps over the lazy dog " * 20


class IpcMain(Ipc.Main):
    """Counts."""

    def __init__(self, extension: LensMainExtension) -> None:
        super().__init__(extension)
        self.handle("count", self._count)

    async def _count(self, event: Types.IpcMainInvokeEvent, text: str) -> dict[str, int]:
        counts: dict[str, int] = {}
        words = text.split()
        for done, word in enumerate(words, 1):
            counts[word] = counts.get(word, 0) + 1
            if done % 20 == 0:
                event.reply("progress", 100 * done // len(words))
                await asyncio.sleep(0.01)
        return counts


class WordsMain(LensMainExtension):
    """In main."""

    def on_activate(self) -> None:
        IpcMain.create_instance(self)


class IpcRenderer(Ipc.Renderer):
    """The window sets what is called with progress."""

    def __init__(self, extension: LensRendererExtension) -> None:
        super().__init__(extension)
        self.listen("progress", lambda _event, percent: self.on_progress(percent))

    def on_progress(self, percent: int) -> None:
        """A percentage has come."""


class WordsRenderer(LensRendererExtension):
    """In the window's process. Plain: there is no asyncio loop."""

    def on_activate(self) -> None:
        IpcRenderer.create_instance(self)


MANIFEST = ExtensionManifest("words", "1.0", main="qt_renderer:WordsMain", renderer="qt_renderer:WordsRenderer")


async def host(path: str) -> None:
    """The main process: until its stdin is closed."""
    async with MainProcess(path) as main:
        await main.install(MANIFEST)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)


def window(path: str, seconds: float) -> None:
    """The window, until it is closed or the time is over."""
    from concurrent.futures import Future

    from PySide6.QtCore import QSocketNotifier, QTimer
    from PySide6.QtWidgets import QApplication, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

    app = QApplication(sys.argv[:1])
    with RendererProcess.connect(path) as renderer:
        notifier = QSocketNotifier(renderer.fileno(), QSocketNotifier.Type.Read)

        def dispatch() -> None:
            try:
                renderer.dispatch()
            except PeerGone:  # main has gone, and the window can do nothing without it
                app.quit()

        notifier.activated.connect(dispatch)

        ipc = IpcRenderer.get_instance()
        widget, bar, label, button = QWidget(), QProgressBar(), QLabel("nothing counted yet"), QPushButton("Count")
        layout = QVBoxLayout(widget)
        for each in (bar, label, button):
            layout.addWidget(each)
        ipc.on_progress = bar.setValue  # type: ignore[method-assign]

        def counted(future: Future[dict[str, int]]) -> None:
            """Called by dispatch(), in this thread: it may touch the window."""
            text = f"{sum(future.result().values())} words, {len(future.result())} different"
            label.setText(text)
            print(f"{text}, {bar.value()} %", flush=True)

        button.clicked.connect(lambda: ipc.invoke("count", TEXT, timeout=10.0).add_done_callback(counted))
        widget.setWindowTitle(f"renderer {renderer.frame_id}")
        widget.show()
        QTimer.singleShot(0, button.click)
        QTimer.singleShot(round(1000 * seconds), app.quit)
        app.exec()
        notifier.setEnabled(False)


def run(seconds: float) -> None:
    """A host in a process of its own, and the window here."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/main.sock"
        with subprocess.Popen(
            [sys.executable, __file__, "--host", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            window(path, seconds)
            process.stdin.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--host", metavar="PATH", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    import qt_renderer  # the parts' own module: as __main__ it would be another one

    if arguments.host:
        asyncio.run(qt_renderer.host(arguments.host))
    else:
        qt_renderer.run(arguments.seconds)
