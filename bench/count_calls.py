# SPDX-License-Identifier: MIT
"""How long the way of one message is: Python calls into lensipc, changes of file between them, and files.

    python bench/count_calls.py [--list WAY]

Main is this process, the renderer another one, a plain script that blocks. Each way is counted on both sides
(`sys.setprofile`), for one message: *hot*, one straight after the other, and *cold*, when both sides sleep before it.
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
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

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

Call = tuple[str, str]
calls: list[Call] = []


def note(frame: FrameType, event: str, _argument: object) -> None:
    """What sys.setprofile calls."""
    if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
        calls.append((frame.f_code.co_filename[len(PACKAGE) + 1 :], frame.f_code.co_qualname))


def changes(noted: list[Call]) -> int:
    """How often a call is of another file than the one before it."""
    return sum(one[0] != other[0] for one, other in pairwise(noted))


class IpcMain(Ipc.Main):
    """Main's side: its own count is asked for by the renderer, so that both begin and end together."""

    def count(self, _event: object, begin: bool) -> list[Call]:
        """Begin, or end and give what was called since."""
        if begin:
            calls.clear()
            sys.setprofile(note)
            return []
        sys.setprofile(None)
        return list(calls)


class Main(LensMainExtension):
    """The part in main."""

    def on_activate(self) -> None:
        """Register what is called."""

        async def echo_async(_event: object, value: object) -> object:
            return value

        ipc = IpcMain.create_instance(self)
        ipc.handle("count", ipc.count)
        ipc.handle("plain", lambda _event, value: value)
        ipc.handle("async", echo_async)


class IpcRenderer(Ipc.Renderer):
    """The renderer's side."""


class Renderer(LensRendererExtension):
    """The part in the renderer."""

    def on_activate(self) -> None:
        """Make the instance."""
        IpcRenderer.create_instance(self)


def ways(renderer: RendererProcess, ipc: IpcRenderer) -> dict[str, Callable[[], object]]:
    """What sends one message, by its name."""
    heard: list[object] = []
    ipc.listen("event", lambda _event, value: heard.append(value))

    def event(value: object) -> None:
        heard.clear()
        ipc.broadcast("event", value)
        while not heard:
            renderer.dispatch(1)

    return {
        "invoke, plain handler": lambda: ipc.invoke_sync("plain", SMALL),
        "invoke, async handler": lambda: ipc.invoke_sync("async", SMALL),
        "event, small dict": lambda: event(SMALL),
        "array of 64 KiB": lambda: event(ARRAY),
    }


def counted(ipc: IpcRenderer, send: Callable[[], object], cold: bool) -> list[Call]:
    """What one message calls, both processes together. What the count itself calls in main is taken away."""
    both: list[list[list[Call]]] = []
    for messages in (0, 1 if cold else TOGETHER):
        for _ in range(WARM_UP if not cold else 3):
            send()
        ipc.invoke_sync("count", True)
        if cold:
            time.sleep(ASLEEP)
        calls.clear()
        sys.setprofile(note)
        for _ in range(messages):
            send()
        sys.setprofile(None)
        ours = list(calls)
        if cold:
            time.sleep(ASLEEP)
        both.append([[tuple(call) for call in ipc.invoke_sync("count", False)], ours])  # type: ignore[misc]
    (idle, _), (main, own) = both
    return [*main[len(idle) // 2 : len(main) - (len(idle) - len(idle) // 2)], *own]


def renderer(path: str) -> None:
    """The renderer's process: prints all counts as JSON."""
    results: dict[str, dict[str, list[Call]]] = {}
    with RendererProcess.connect(path) as process:
        ipc = IpcRenderer.get_instance()
        for name, send in ways(process, ipc).items():
            results[name] = {
                kind: min((counted(ipc, send, kind == "cold") for _ in range(REPEATED)), key=len)
                for kind in ("cold", "hot")
            }
    print(json.dumps(results))


async def main(listed: str | None) -> None:
    """Start both, and print."""
    with tempfile.TemporaryDirectory() as folder:
        async with MainProcess(Path(folder, "main")) as host:
            await host.install(ExtensionManifest("count", "1", "count_calls:Main", "count_calls:Renderer"))
            process = await asyncio.create_subprocess_exec(
                sys.executable, __file__, "--renderer", str(host.path), stdout=subprocess.PIPE
            )
            out, _ = await process.communicate()
    results = json.loads(out)
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
    if sys.argv[1:2] == ["--renderer"]:
        sys.modules["count_calls"] = sys.modules["__main__"]
        renderer(sys.argv[2])
    else:
        sys.modules["count_calls"] = sys.modules["__main__"]
        wanted: Any = sys.argv[2] if sys.argv[1:2] == ["--list"] else None
        asyncio.run(main(wanted))
