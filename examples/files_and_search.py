# SPDX-License-Identifier: MIT
"""Files and search: main watches a folder and tells each window what changes; a window searches the files' text.

    python examples/files_and_search.py FOLDER

Events go to all windows, in one order. A search is a stream: its hits come as they are found, each with how far the
search is, and main stops searching when the window stops reading. This module is the extension and the host, so that
one file shows all of it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from lensipc import ExtensionManifest, InvokeTimeout, Ipc, LensMainExtension, LensRendererExtension, MainProcess, Types

# Between two looks at the folder (seconds).
INTERVAL = 0.2

Stamps = dict[str, tuple[int, int]]  # by path within the folder: when it was changed (ns), and its size
Found = tuple[str, list[int], float]  # a file, the lines with the word, and which share of the files was searched


def look(folder: Path) -> Stamps:
    """The files of a folder, at any depth."""
    found = {}
    for path in folder.rglob("*"):
        try:
            state = path.stat()
        except OSError:  # it has just gone
            continue
        if path.is_file():
            found[os.fspath(path.relative_to(folder))] = state.st_mtime_ns, state.st_size
    return found


class IpcMain(Ipc.Main):
    """Has the original of the list of files."""

    def __init__(self, extension: LensMainExtension) -> None:
        super().__init__(extension)
        self.folder = Path(extension.settings["folder"])
        self.files: Stamps = {}
        self.listen("window.opened", self._on_opened)
        self.handle("search", self._search)

    def _on_opened(self, event: Types.IpcMainEvent) -> None:
        event.reply("files.all", self.files)  # and each change from now on

    async def watch(self) -> None:
        """Tell of each change, for ever."""
        while True:
            found = await asyncio.to_thread(look, self.folder)
            for path, stamp in found.items():
                if self.files.get(path) != stamp:
                    self.broadcast("file.changed", path, stamp)
            for path in self.files.keys() - found.keys():
                self.broadcast("file.gone", path)
            self.files = found
            await self.drain()
            await asyncio.sleep(INTERVAL)

    async def _search(self, _event: Types.IpcMainInvokeEvent, word: str) -> AsyncIterator[Found]:
        async for found in search(self.folder, sorted(self.files), word):
            yield found


async def search(folder: Path, paths: list[str], word: str) -> AsyncIterator[Found]:
    """Look for a word, file by file."""
    for done, path in enumerate(paths, 1):
        lines = await asyncio.to_thread(lines_of, folder / path)  # a window that stops reading ends it here
        yield path, [number for number, line in enumerate(lines, 1) if word in line], done / len(paths)


def lines_of(path: Path) -> list[str]:
    """A file's lines; none of one that has gone."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


class FilesMain(LensMainExtension):
    """In main: watches for as long as it is active."""

    def on_activate(self) -> None:
        ipc = IpcMain.create_instance(self)
        watching = asyncio.create_task(ipc.watch())
        self.disposers.callback(watching.cancel)


class IpcRenderer(Ipc.Renderer):
    """Has a copy of the list, kept up to date by events."""

    def __init__(self, extension: LensRendererExtension) -> None:
        super().__init__(extension)
        self.files: Stamps = {}
        self.progress: dict[str, float] = {}
        self.listen("files.all", self._on_all)
        self.listen("file.changed", self._on_changed)
        self.listen("file.gone", self._on_gone)

    async def search(self, word: str, timeout: float = 10.0) -> list[tuple[str, int]]:
        """Where the word stands: path and line. InvokeTimeout: one file took too long, and main has stopped."""
        hits: list[tuple[str, int]] = []
        async with self.stream("search", word, timeout=timeout) as found:
            async for path, lines, share in found:
                hits += [(path, line) for line in lines]
                self.progress[word] = share
        return hits

    def _on_all(self, _event: Types.IpcRendererEvent, files: Stamps) -> None:
        self.files = files

    def _on_changed(self, _event: Types.IpcRendererEvent, path: str, stamp: tuple[int, int]) -> None:
        self.files[path] = stamp

    def _on_gone(self, _event: Types.IpcRendererEvent, path: str) -> None:
        self.files.pop(path, None)


class FilesRenderer(LensRendererExtension):
    """In each window."""

    def on_activate(self) -> None:
        ipc = IpcRenderer.create_instance(self)
        ipc.broadcast("window.opened")
        if self.settings["word"]:
            searching = asyncio.create_task(self._show(ipc, self.settings["word"]))
            self.disposers.callback(searching.cancel)

    async def _show(self, ipc: IpcRenderer, word: str) -> None:
        while True:
            await asyncio.sleep(2 * INTERVAL)
            try:
                hits = await ipc.search(word)
            except InvokeTimeout:
                print(f"window {os.getpid()}: a file took too long", flush=True)
            else:
                print(f"window {os.getpid()}: {len(ipc.files)} files, {word!r} in {len(hits)} lines", flush=True)


MANIFEST = ExtensionManifest(
    "files", "1.0", main="files_and_search:FilesMain", renderer="files_and_search:FilesRenderer"
)


async def main(folder: Path, word: str, seconds: float) -> None:
    """A host with two windows."""
    async with MainProcess() as host:
        await host.install(MANIFEST, settings={"folder": os.fspath(folder.resolve()), "word": word})
        await asyncio.gather(host.spawn_renderer(), host.spawn_renderer())
        await asyncio.sleep(seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent)
    parser.add_argument("--word", default="broadcast")
    parser.add_argument("--seconds", type=float, default=3600.0)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.folder, arguments.word, arguments.seconds))
