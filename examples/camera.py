# SPDX-License-Identifier: MIT
"""A camera: main broadcasts frames as numpy arrays, and each renderer works on its own copy.

One renderer is slow. It says `when_slow="keep_newest"`, so it loses old frames, is told how many, and holds up nobody.
The camera is made of numbers, so that the example runs everywhere; a real one would put its frames in the same place.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from typing import Any

import numpy as np

from lensipc import ExtensionManifest, Ipc, LensMainExtension, LensRendererExtension, MainProcess, Types

WIDTH, HEIGHT, RATE = 640, 480, 60

Frame = np.ndarray[Any, np.dtype[np.uint8]]


def picture(number: int) -> Frame:
    """A bright bar that wanders over a dark ground."""
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    left = number * 8 % (WIDTH - 40)
    frame[:, left : left + 40] = 255
    return frame


class IpcMain(Ipc.Main):
    """Has the camera."""

    def __init__(self, extension: LensMainExtension) -> None:
        super().__init__(extension)
        self.listen("seen", self._on_seen)
        self.reports: dict[int, tuple[int, int]] = {}

    def _on_seen(self, event: Types.IpcMainEvent, frames: int, missed: int) -> None:
        self.reports[event.frame_id] = frames, missed

    async def film(self) -> None:
        """Broadcast a frame at a time, for ever."""
        number = 0
        while True:
            self.broadcast("frame", {"number": number, "at": time.time(), "pixels": picture(number)})
            number += 1
            await asyncio.sleep(1 / RATE)


class CameraMain(LensMainExtension):
    """In main: films for as long as it is active."""

    def on_activate(self) -> None:
        filming = asyncio.create_task(IpcMain.create_instance(self).film())
        self.disposers.callback(filming.cancel)


class IpcRenderer(Ipc.Renderer):
    """Looks for the bar in each frame."""

    def __init__(self, extension: LensRendererExtension) -> None:
        super().__init__(extension)
        self.frames = self.missed = 0
        self.bar = -1
        self.slow = False
        self.listen("frame", self._on_frame, when_slow="keep_newest")

    def _on_frame(self, event: Types.IpcRendererEvent, frame: dict[str, Any]) -> None:
        pixels: Frame = frame["pixels"]  # writable, and nobody else's
        self.bar = int(pixels[0, :, 0].argmax())
        self.frames += 1
        self.missed += event.missed
        if self.slow:
            time.sleep(0.1)  # what a heavy computation would do
        self.broadcast("seen", self.frames, self.missed)


class CameraRenderer(LensRendererExtension):
    """In each renderer. The second one is slow."""

    def on_activate(self) -> None:
        ipc = IpcRenderer.create_instance(self)
        ipc.listen("be-slow", lambda _event: setattr(ipc, "slow", True))


MANIFEST = ExtensionManifest("camera", "1.0", main="camera:CameraMain", renderer="camera:CameraRenderer")


async def main(seconds: float) -> None:
    """A host with two renderers."""
    async with MainProcess() as host:
        await host.install(MANIFEST)
        _quick, slow = await host.spawn_renderer(), await host.spawn_renderer()
        IpcMain.get_instance().send(slow.frame_id, "be-slow")
        for _ in range(max(1, round(seconds))):
            await asyncio.sleep(min(1.0, seconds))
            for frame_id, (frames, missed) in sorted(IpcMain.get_instance().reports.items()):
                print(f"renderer {frame_id} has seen {frames} frames and missed {missed}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3600.0)
    import camera  # parts are imported by name, and so is what finds them: as __main__ it would be another module

    asyncio.run(camera.main(parser.parse_args().seconds))
