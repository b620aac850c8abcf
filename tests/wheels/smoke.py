# SPDX-License-Identifier: MIT
"""Whether an installed wheel works: `python smoke.py [EXECUTABLE]` prints one line, and exits with 0 if all was right.

One main and two real renderers: invokes, an array of 8 MB there and back, values of many types, a renderer killed while
the other goes on. It needs nothing but lensipc, and runs under an emulator as well. EXECUTABLE starts the renderers.
"""

from __future__ import annotations

import asyncio
import datetime
import decimal
import os
import platform
import signal
import sys
import sysconfig
import time
import uuid
from pathlib import Path

import numpy as np

import lensipc
from lensipc import ExtensionManifest, Ipc, LensMainExtension, LensRendererExtension, MainProcess, Types, clone

INVOKES = 3_000
# For all of it, in seconds: an emulator is slow.
WATCHDOG = 240


def values() -> list[object]:
    """What is to arrive as it was sent, equal and of the same type."""
    return [
        None,
        True,
        -(2**70),
        1.5,
        2 - 1j,
        "ä€😀",
        b"bytes",
        bytearray(b"array"),
        [1, [2, [3]]],
        (1, ("two",)),
        {"a": {"b": [1]}, 2: None},
        {1, 2},
        frozenset({"x"}),
        range(3),
        datetime.datetime(2026, 1, 2, 3, 4, 5, 6, datetime.UTC),
        datetime.timedelta(days=-1),
        decimal.Decimal("1.10"),
        uuid.UUID(int=7),
        Path("/a/b"),
    ]


def same(sent: object, got: object) -> bool:
    """Whether it arrived as it was sent."""
    return type(sent) is type(got) and sent == got


class IpcMain(Ipc.Main):
    """Main's end."""

    def __init__(self, extension: LensMainExtension) -> None:
        super().__init__(extension)
        self.reports: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        self.handle("add", lambda _, a, b: a + b)
        self.handle("negative", lambda _, array: -array)
        self.handle("echo", lambda _, value: value)
        self.listen("report", lambda _, report: self.reports.put_nowait(report))


class SmokeMain(LensMainExtension):
    """The part in main."""

    def on_activate(self) -> None:
        """Listen."""
        IpcMain.create_instance(self)


class IpcRenderer(Ipc.Renderer):
    """A renderer's end."""

    def __init__(self, extension: LensRendererExtension) -> None:
        super().__init__(extension)
        self.listen("go", self.go)

    async def go(self, _: Types.IpcRendererEvent, chosen: int) -> None:
        """The one that is chosen works and reports."""
        if chosen != os.getpid():
            return
        right = 0
        for number in range(INVOKES):
            right += await self.invoke("add", number, 1) == number + 1
        array = np.arange(1_000_000, dtype=np.float64)
        negative = await self.invoke("negative", array)
        cloned = [same(value, await self.invoke("echo", value)) for value in values()]
        self.broadcast(
            "report",
            {
                "pid": os.getpid(),
                "invokes": right,
                "array": bool(np.array_equal(negative, -array)),
                "clones": all(cloned),
            },
        )


class SmokeRenderer(LensRendererExtension):
    """The part in a renderer."""

    def on_activate(self) -> None:
        """Listen."""
        IpcRenderer.create_instance(self)


MANIFEST = ExtensionManifest("smoke", "1.0", main="smoke:SmokeMain", renderer="smoke:SmokeRenderer")


async def run(executable: str | None) -> None:
    """Main."""
    import smoke  # the module that the manifest names, which is not __main__

    async with asyncio.timeout(WATCHDOG), MainProcess(executable=executable) as host:
        await host.install(MANIFEST)
        works = await host.spawn_renderer()
        dies = await host.spawn_renderer()
        ipc = smoke.IpcMain.get_instance()
        for moment in ("before", "after"):
            ipc.broadcast("go", works.pid)
            report = await ipc.reports.get()
            assert report == {"pid": works.pid, "invokes": INVOKES, "array": True, "clones": True}, report
            if moment == "before":
                os.kill(dies.pid, signal.SIGKILL)
                status = await dies.wait()
                assert status == -signal.SIGKILL, status


def main() -> None:
    """Run it all."""
    began = time.monotonic()
    assert all(same(value, clone.decode(clone.encode(value))) for value in values())
    shared: list[object] = []
    shared.append(shared)
    (cycle,) = (got := clone.decode(clone.encode(shared)))
    assert cycle is got
    asyncio.run(run(sys.argv[1] if len(sys.argv) > 1 else None))
    gil = "" if getattr(sys, "_is_gil_enabled", lambda: True)() else ", without the GIL"
    if sysconfig.get_config_var("Py_GIL_DISABLED") and not gil:
        gil = ", free-threaded, the GIL enabled by an import"
    print(
        f"lensipc {lensipc.__version__}, Python {platform.python_version()}{gil}, {platform.machine()}, "
        f"numpy {np.__version__}: right, in {time.monotonic() - began:.1f} s"
    )


if __name__ == "__main__":
    main()
