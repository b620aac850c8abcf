# SPDX-License-Identifier: MIT
"""Frames of pandas in a renderer, with the adapter and without."""

from __future__ import annotations

from typing import Any

import lab

from lensipc import adapters


def enable(_ipc: lab.IpcRenderer, *names: str) -> None:
    """What each process does by itself."""
    adapters.enable(*names)


async def sums(ipc: lab.IpcRenderer, channel: str) -> list[Any]:
    """The sum of a frame's column that was broadcast, and that column from main, asked for with a frame."""
    (_, frame, _), *_ = await lab.hear(ipc, channel, 1)
    (again,) = await ipc.invoke("echo", frame)
    return [type(frame).__module__.partition(".")[0], float(frame["x"].sum()), float(again["x"].sum())]
