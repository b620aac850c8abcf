# SPDX-License-Identifier: MIT
"""A camera at 1080p: main broadcasts each frame once, and four renderers read it in place, each for a job of its own.

    python examples/camera.py

* brightness: how bright the frame is;
* motion: what has changed since the last frame, of which it keeps a view;
* edges: takes longer than a frame lasts. It says `latest=True`, so it is called with the newest frame only;
* recorder: copies every 30th frame, and keeps the last of these.

A frame has 6.2 MB. Main copies it into shared memory, once for all renderers, and `arrays="view"` lets them look at it
there: a copy of their own is what they would have without that. The table says what this costs: frames that were sent,
seen and missed, and the memory of the pool and of each process.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections import deque
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lensipc import ExtensionManifest, Ipc, LensMainExtension, LensRendererExtension, MainProcess, Types

HEIGHT, WIDTH, RATE = 1080, 1920, 30
SHAPE = (HEIGHT, WIDTH, 3)
FRAME = HEIGHT * WIDTH * 3  # bytes
# Between two tables (seconds): in a terminal, and as lines of text.
PAINTING, SPEAKING = 0.5, 1.0

Frame = np.ndarray[Any, np.dtype[np.uint8]]


# ---- in main ----


class Camera:
    """Takes pictures of a wide ground, along which it moves, and of a square that moves the other way."""

    def __init__(self) -> None:
        row, column = np.ogrid[:HEIGHT, : 2 * WIDTH]
        shades = [column // 8 + row // 16, column // 16 + row // 8, (column + row) // 32]
        self._ground: Frame = np.stack([shade % 200 for shade in shades], axis=2).astype(np.uint8)

    def read_into(self, frame: Frame, number: int) -> None:
        """Take a picture."""
        left = number * 6 % WIDTH
        np.copyto(frame, self._ground[:, left : left + WIDTH])
        frame[400:700, 1600 - left % 1600 : 1900 - left % 1600] = 255


class Report(NamedTuple):
    """What a renderer says after a frame."""

    seen: int
    missed: int
    memory: int
    found: str


class IpcMain(Ipc.Main):
    """Has the camera."""

    def __init__(self, extension: LensMainExtension) -> None:
        super().__init__(extension)
        self.listen("report", self._on_report)
        self.reports: dict[int, Report] = {}  # by frame id
        self.sent = 0

    def _on_report(self, event: Types.IpcMainEvent, *report: Any) -> None:
        self.reports[event.frame_id] = Report(*report)

    async def film(self) -> None:
        """Broadcast a frame at a time, for ever."""
        camera, loop = Camera(), asyncio.get_running_loop()
        frame: Frame = np.empty(SHAPE, np.uint8)
        due = loop.time()
        for number in count():
            camera.read_into(frame, number)
            self.broadcast("frame", number, frame)
            self.sent += 1
            due = max(due + 1 / RATE, loop.time())  # what is late is not made up for
            await asyncio.sleep(due - loop.time())


class CameraMain(LensMainExtension):
    """In main: films for as long as it is active."""

    def on_activate(self) -> None:
        filming = asyncio.create_task(IpcMain.create_instance(self).film())
        self.disposers.callback(filming.cancel)


# ---- in the renderers ----


class Job:
    """What a renderer does. `look` has a read-only array, which lies where main has written it."""

    # How it listens: of the frames that are too many, the oldest are dropped.
    options: dict[str, Any] = {"when_slow": "drop_oldest"}  # noqa: RUF012

    def look(self, number: int, frame: Frame) -> str:
        """Say what there is."""
        raise NotImplementedError


class Brightness(Job):
    """How bright a frame is, and how much of it is white."""

    def look(self, number: int, frame: Frame) -> str:  # noqa: ARG002
        histogram = np.bincount(frame[::4, ::4, 1].ravel(), minlength=256)
        mean = histogram @ np.arange(256) / histogram.sum()
        return f"{mean:.0f} of 255, white {histogram[255] / histogram.sum():.1%}"


class Motion(Job):
    """How much of a frame is another than in the last one."""

    last: Frame | None = None

    def look(self, number: int, frame: Frame) -> str:  # noqa: ARG002
        last, self.last = self.last, frame[::4, ::4, 1]  # a slice is a view, and keeps the whole frame as it is
        if last is None:
            return ""
        return f"{np.mean(last != self.last):.1%} of it moves"


class Edges(Job):
    """Where a frame has edges. This is slow, so it sees the newest frame when it has time for one."""

    options = {"latest": True}  # noqa: RUF012

    def look(self, number: int, frame: Frame) -> str:
        down, across = np.gradient(frame.mean(axis=2))
        return f"{np.mean(np.hypot(down, across) > 10):.2%} of frame {number}"


class Recorder(Job):
    """Keeps one frame of each second, for four seconds. What is to be kept is copied: main needs its memory back."""

    def __init__(self) -> None:
        self.kept: deque[Frame] = deque(maxlen=4)

    def look(self, number: int, frame: Frame) -> str:
        if number % RATE == 0:
            self.kept.append(frame.copy())
        return f"{len(self.kept)} copies, {sum(each.nbytes for each in self.kept) / 1e6:.1f} MB"


JOBS: dict[str, type[Job]] = {"brightness": Brightness, "motion": Motion, "edges": Edges, "recorder": Recorder}


class IpcRenderer(Ipc.Renderer):
    """Does the job that this renderer is named for."""

    def __init__(self, extension: LensRendererExtension) -> None:
        super().__init__(extension)
        self.job = JOBS[extension.renderer.name]()
        self.seen = self.missed = 0
        self.listen("frame", self._on_frame, arrays="view", **self.job.options)

    def _on_frame(self, event: Types.IpcRendererEvent, number: int, frame: Frame) -> None:
        found = self.job.look(number, frame)
        self.seen += 1
        self.missed += event.missed
        event.reply("report", self.seen, self.missed, own_memory(), found)


class CameraRenderer(LensRendererExtension):
    """In each renderer."""

    def on_activate(self) -> None:
        IpcRenderer.create_instance(self)


MANIFEST = ExtensionManifest("camera", "1.0", main="camera:CameraMain", renderer="camera:CameraRenderer")


# ---- the host ----


def own_memory() -> int:
    """Bytes of memory that this process shares with no other one."""
    resident, shared = Path("/proc/self/statm").read_text().split()[1:3]
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGESIZE")


class Table:
    """How things are, over and over: in a terminal in its place, elsewhere as lines of text."""

    def __init__(self, host: MainProcess, names: dict[int, str]) -> None:
        self._host = host
        self._names = names  # of the renderers, by frame id
        self._in_place = sys.stdout.isatty()
        self.interval: float = PAINTING if self._in_place else SPEAKING
        self._began = self._before = time.monotonic()
        # Frames that each renderer has seen by the last table, and those that main (0) has sent.
        self._counted: dict[int, int] = {0: IpcMain.get_instance().sent}
        self._lines = 0

    def show(self) -> None:
        """Print it."""
        lines = self._text()
        if self._in_place:
            back = f"\x1b[{self._lines}A" if self._lines else ""
            print(back + "".join(f"{line}\x1b[K\n" for line in lines), end="", flush=True)
            self._lines = len(lines)
        else:
            print(*lines, "", sep="\n", flush=True)

    def _text(self) -> list[str]:
        ipc, pool, now = IpcMain.get_instance(), self._host.pool, time.monotonic()
        seconds, self._before = now - self._before, now

        def rate(who: int, number: int) -> float:
            before, self._counted[who] = self._counted.get(who, 0), number
            return (number - before) / seconds

        sent = rate(0, ipc.sent)
        shared = f"the pool has {pool.bytes / 1e6:.1f} MB, of which {pool.held / 1e6:.1f} MB are in use"
        lines = [
            f"{now - self._began:.1f} s: {sent:.1f} frames/s sent, {sent * FRAME / 1e6:.0f} MB/s; {shared}",
            f"{'':12}{'frames/s':>9}{'seen':>8}{'missed':>8}{'memory':>11}  found",
            f"{'main':12}{'':25}{own_memory() / 1e6:8.1f} MB",
        ]
        for frame_id, name in self._names.items():
            report = ipc.reports.get(frame_id, Report(0, 0, 0, ""))
            lines.append(
                f"{name:12}{rate(frame_id, report.seen):9.1f}{report.seen:8}{report.missed:8}"
                f"{report.memory / 1e6:8.1f} MB  {report.found}"
            )
        return lines


async def main(seconds: float) -> None:
    """A host with a renderer for each job."""
    async with MainProcess() as host:
        await host.install(MANIFEST)
        renderers = await asyncio.gather(*(host.spawn_renderer(name=name) for name in JOBS))
        table = Table(host, {each.frame_id: each.name for each in renderers})
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(table.interval, left))
            table.show()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3600.0)
    import camera  # parts are imported by name, and so is what finds them: as __main__ it would be another module

    with suppress(KeyboardInterrupt):  # the host has ended its renderers by then
        asyncio.run(camera.main(parser.parse_args().seconds))
