"""What tests of loans run in renderers: listeners that say what arrays have come, and senders of loans."""

from __future__ import annotations

import asyncio
import random
import zlib
from typing import Any

import numpy as np

from lensipc import Ipc, clone

# Of this process: what each event brought; and views that it has kept, with what they showed.
heard: list[Any] = []
kept: list[tuple[Any, Any]] = []


def told(array: Any) -> tuple[str, tuple[int, ...], int]:
    """An array as it is compared: its dtype, its shape and a CRC of its items."""
    return str(array.dtype), array.shape, zlib.crc32(array.tobytes())


def tell(value: Any) -> Any:
    """A value with each array told."""
    if isinstance(value, np.ndarray):
        return told(value)
    if isinstance(value, dict):
        return {key: tell(each) for key, each in value.items()}
    return [tell(each) for each in value] if isinstance(value, (list, tuple)) else value


def note(
    ipc: Ipc.Renderer, channel: str, when_slow: Any = "disconnect", replay: bool = False, arrays: Any = "copy"
) -> None:
    """Listen, and note what comes. An array of its own is written to; a view is kept for a while."""

    def take(_event: Any, value: Any) -> None:
        heard.append(tell(value))
        array = value["frame"] if isinstance(value, dict) and "frame" in value else value
        if not isinstance(array, np.ndarray) or not array.size:
            return
        if arrays == "copy":
            array.reshape(-1).view(np.uint8).fill(255)
        else:
            kept.append((array, told(array)))
            if len(kept) > 3:
                before, was = kept.pop(random.randrange(4))
                assert told(before) == was

    ipc.listen(channel, take, when_slow=when_slow, replay=replay, arrays=arrays)


class Shot:
    """A class of an application, whose encoder makes a thumbnail."""

    def __init__(self, pixels: Any) -> None:
        self.pixels, self.thumbnail = pixels, None


def register_shots(_ipc: Any = None) -> None:
    """Have shots cross: as the array that they have."""

    def encode(shot: Shot) -> Any:
        shot.thumbnail = shot.pixels[::16]
        return {"pixels": shot.pixels}

    clone.register(Shot, "tests: shot", encode, lambda value: value)


def let_go(_ipc: Ipc.Renderer) -> list[bool]:
    """Of each view that is kept, whether it shows what it has shown; and forget them."""
    right = [told(array) == was for array, was in kept]
    kept.clear()
    return right


async def take(_ipc: Ipc.Renderer, count: int) -> list[Any]:
    """What was heard, once it is so much; and forget it."""
    while len(heard) < count:
        await asyncio.sleep(0.002)
    taken = heard[:]
    heard.clear()
    return taken


async def lend_here(ipc: Ipc.Renderer, channel: str) -> Any:
    """Send a loan from here as a part in main would; say what it was, and what is left of it."""
    frame = ipc.loan((300, 1000), np.uint16)
    frame[:] = np.arange(300_000, dtype=np.uint16).reshape(300, 1000)
    expected = told(frame)
    ipc.broadcast(channel, frame, transfer=[frame])
    with ipc.loan(100_000) as other:
        other.fill(1)
        answer = await ipc.invoke("loaned", other, transfer=[other])
    with ipc.loan(10) as third:
        third.fill(2)
    return expected, frame.shape, other.shape, third.shape, answer
