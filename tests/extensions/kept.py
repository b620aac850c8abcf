"""What a test of supervision runs in a renderer, and an extension that waits, fails or logs when it is activated."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from lensipc import ExtensionManifest, Ipc, LensRendererExtension

SLOW = ExtensionManifest("slow", "1", renderer="kept:Slow")
BROKEN = ExtensionManifest("broken", "1", renderer="kept:Broken")
STOPS = ExtensionManifest("stops", "1", renderer="kept:Stops")
ONCE = ExtensionManifest("once", "1", renderer="kept:Once")


class Slow(LensRendererExtension):
    async def on_activate(self) -> None:
        await asyncio.sleep(self.settings)


class Broken(LensRendererExtension):
    def on_activate(self) -> None:
        raise ValueError("not\nhere")


class Once(LensRendererExtension):
    """Its settings name a file. The first that is activated makes the file, and the others fail while it is there."""

    def on_activate(self) -> None:
        Path(self.settings).touch(exist_ok=False)


class Stops(LensRendererExtension):
    def on_activate(self) -> None:
        answer = 42
        breakpoint()
        print(f"the answer is {answer}", flush=True)


def surroundings(_ipc: Ipc.Renderer, name: str) -> list[Any]:
    """A variable of the environment, the working directory, the interpreter, what is ignored, and the arguments."""
    return [os.environ.get(name), str(Path.cwd()), sys.executable, sys.argv]


def say(_ipc: Ipc.Renderer, text: str) -> None:
    """Print on both streams."""
    print(f"out: {text}", flush=True)
    print(f"err: {text}", file=sys.stderr, flush=True)


def log(_ipc: Ipc.Renderer, level: int, text: Any, *args: Any) -> None:
    """Log a record of an extension's own logger."""
    logging.getLogger("own.logger").log(level, text, *args)


def log_many(_ipc: Ipc.Renderer, count: int) -> None:
    """Log so many lines."""
    logger = logging.getLogger("own.logger")
    for number in range(count):
        logger.warning("line %d", number)


def log_error(_ipc: Ipc.Renderer) -> None:
    """Log an error with its traceback, and let a task fail that nobody awaits."""
    try:
        raise KeyError("a\x1b[31mkey")
    except KeyError:
        logging.getLogger("own.logger").exception("it failed")

    async def fails() -> None:
        raise LookupError("nobody awaits this")

    asyncio.get_running_loop().create_task(fails())


def write(_ipc: Ipc.Renderer, data: bytes, times: int = 1) -> None:
    """Write bytes to stderr as C code may."""
    for _ in range(times):
        os.write(2, data)


def die(_ipc: Ipc.Renderer, status: int) -> None:
    """End at once, with this status."""
    os._exit(status)


def crash(_ipc: Ipc.Renderer) -> None:
    """Die of a segmentation fault, with the last words of faulthandler."""
    import ctypes
    import faulthandler

    faulthandler.enable()
    asyncio.get_running_loop().call_soon(ctypes.string_at, 0)


def wreck(ipc: Any) -> None:
    """Break the protocol."""
    ipc._port.core.send(77)


def start_sleeper(_ipc: Ipc.Renderer) -> int:
    """Start a program that has this process's stderr, and does not end with it."""
    return subprocess.Popen(["sleep", "60"], start_new_session=True).pid
