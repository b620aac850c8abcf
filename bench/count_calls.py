# SPDX-License-Identifier: MIT
"""How long the way of one message is: Python calls into lensipc, changes of file between them, and files.

    python bench/count_calls.py [--list WAY]

Main is this process, the renderer another one. A script that blocks invokes; main broadcasts to a renderer on asyncio.
Each way is counted on both sides (`sys.setprofile`), for one message: *hot*, one straight after the other, and *cold*,
when both sides sleep before it.
Counts vary a little with the machine's mood (a poll that finds nothing is called again); the smallest of several is
printed. `--list` prints the calls of one way.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from types import FrameType

import numpy as np

import lensipc
from lensipc import ExtensionManifest, Ipc, LensMainExtension, LensRendererExtension, MainProcess, RendererProcess

PACKAGE = str(Path(lensipc.__file__).parent)
SMALL = {"id": 1, "name": "a/b.txt", "size": 1234, "ok": True}
ARRAY = np.zeros(8192)
# Messages before each count, messages counted together when hot, and how often each way is counted.
WARM_UP, TOGETHER, REPEATED = 300, 10, 15
# Seconds after which both sides are asleep.
ASLEEP = 0.02
# How many messages are counted together.
KINDS = {"cold": 1, "hot": TOGETHER}

Call = tuple[str, str]
calls: list[Call] = []
# What waits, in this process, for the renderer: its counts of one message's calls, and that it is there.
counts: asyncio.Queue[list[Call]] = asyncio.Queue()


def note(frame: FrameType, event: str, _argument: object) -> None:
    """What sys.setprofile calls."""
    if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
        calls.append((frame.f_code.co_filename[len(PACKAGE) + 1 :], frame.f_code.co_qualname))


def changes(noted: list[Call]) -> int:
    """How often a call is of another file than the one before it."""
    return sum(one[0] != other[0] for one, other in pairwise(noted))


def count(begin: bool) -> list[Call]:
    """Begin to note the calls of this process, or end and give what was called since."""
    if begin:
        calls.clear()
        sys.setprofile(note)
        return []
    sys.setprofile(None)
    return list(calls)


class IpcMain(Ipc.Main):
    """Main's side."""


class Main(LensMainExtension):
    """The part in main."""

    def on_activate(self) -> None:
        """Register what is called."""

        async def echo_async(_event: object, value: object) -> object:
            return value

        ipc = IpcMain.create_instance(self)
        ipc.handle("count", lambda _event, begin: count(begin))
        ipc.handle("plain", lambda _event, value: value)
        ipc.handle("async", echo_async)
        ipc.handle("counted", lambda _event, noted: counts.put_nowait([tuple(call) for call in noted]))


class IpcRenderer(Ipc.Renderer):
    """The renderer's side."""


class Renderer(LensRendererExtension):
    """The part in the renderer."""

    def on_activate(self) -> None:
        """Make the instance."""
        IpcRenderer.create_instance(self)


Noted = tuple[list[Call], list[Call]]


def one_way(idle: list[Noted], noted: list[Noted]) -> list[Call]:
    """The calls of the shortest way in both processes, without those that beginning and ending a count take.

    Args:
        idle: what was called without a message: by the process that was asked to count, and by the one that asked.
        noted: what was called with messages.
    """
    nothing = min((asked for asked, _ in idle), key=len)
    asked, own = min(noted, key=lambda both: len(both[0]) + len(both[1]))
    before = len(nothing) // 2
    return [*own, *asked[before : len(asked) - (len(nothing) - before)]]


def invoke(ipc: IpcRenderer, channel: str, messages: int, cold: bool) -> Noted:
    """What so many invokes call in main, and here."""
    for _ in range(3 if cold else WARM_UP):
        ipc.invoke_sync(channel, SMALL)
    ipc.invoke_sync("count", True)
    if cold:
        time.sleep(ASLEEP)
    count(True)
    for _ in range(messages):
        ipc.invoke_sync(channel, SMALL)
    ours = count(False)
    if cold:
        time.sleep(ASLEEP)
    return [tuple(call) for call in ipc.invoke_sync("count", False)], ours


async def broadcast(value: object, messages: int) -> Noted:
    """What so many broadcasts of main call in a renderer, and here."""
    ipc = IpcMain.get_instance()
    ipc.broadcast("begin")
    await asyncio.sleep(ASLEEP)
    count(True)
    for _ in range(messages):
        ipc.broadcast("event", value)
    ours = count(False)
    await asyncio.sleep(ASLEEP)
    ipc.broadcast("end")
    theirs = await counts.get()
    await asyncio.sleep(ASLEEP)
    return theirs, ours


def invokes(path: str) -> None:
    """The process of the renderer that invokes. It prints its counts as JSON."""
    results: dict[str, dict[str, list[Call]]] = {"plain": {}, "async": {}}
    with RendererProcess.connect(path):
        ipc = IpcRenderer.get_instance()
        for channel, kinds in results.items():
            for kind, messages in KINDS.items():
                idle, noted = (
                    [invoke(ipc, channel, number, kind == "cold") for _ in range(REPEATED)] for number in (0, messages)
                )
                kinds[kind] = one_way(idle, noted)
    print(json.dumps(results))


async def listens(path: str) -> None:
    """The process of the renderer that listens, until main has had all its counts."""
    async with RendererProcess.connect(path) as process:
        ipc = IpcRenderer.get_instance()
        ipc.listen("event", lambda _event, _value: None)
        ipc.listen("begin", lambda _event: count(True) and None)
        ipc.listen("end", lambda _event: ipc.invoke("counted", count(False)))
        await ipc.invoke("counted", [])  # it listens
        await process.wait_closed()


async def start(side: str, path: Path | None) -> asyncio.subprocess.Process:
    """Start a renderer's process."""
    return await asyncio.create_subprocess_exec(sys.executable, __file__, side, str(path), stdout=subprocess.PIPE)


async def main(listed: str | None) -> None:
    """Start the renderers, one after the other, and print."""
    results: dict[str, dict[str, list[Call]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        async with MainProcess(Path(folder, "main")) as host:
            await host.install(ExtensionManifest("count", "1", "count_calls:Main", "count_calls:Renderer"))
            process = await start("--invokes", host.path)
            out, _ = await process.communicate()
            for channel, kinds in json.loads(out).items():
                handler = "async" if channel == "async" else "plain"
                results[f"invoke, {handler} handler"] = kinds
            process = await start("--listens", host.path)
            await counts.get()
            for name, value in (("event, small dict", SMALL), ("array of 64 KiB", ARRAY)):
                idle = [await broadcast(value, 0) for _ in range(REPEATED)]
                results[name] = {
                    kind: one_way(idle, [await broadcast(value, messages) for _ in range(REPEATED)])
                    for kind, messages in KINDS.items()
                }
        await process.wait()
    print(f"{'way of one message':24} {'cold: calls, changes, files':30} hot: calls, changes")
    for name, kinds in results.items():
        cold, hot = kinds["cold"], kinds["hot"]
        files = len({file for file, _ in cold})
        print(
            f"{name:24} {f'{len(cold)}, {changes(cold)}, {files}':30} "
            f"{len(hot) / TOGETHER:.1f}, {changes(hot) / TOGETHER:.1f}"
        )
        if name == listed:
            for kind, noted in kinds.items():
                print(f"  {kind}", *(f"    {file:32} {function}" for file, function in noted), sep="\n")


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
    sys.modules["count_calls"] = sys.modules["__main__"]
    match sys.argv[1:]:
        case ["--invokes", path]:
            invokes(path)
        case ["--listens", path]:
            asyncio.run(listens(path))
        case ["--list", way]:
            asyncio.run(main(way))
        case _:
            asyncio.run(main(None))
