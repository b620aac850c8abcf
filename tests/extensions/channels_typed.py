# SPDX-License-Identifier: MIT
"""The lab's channels with their types, and what a test runs in a renderer with them."""

from __future__ import annotations

from typing import Any

from lab import IpcRenderer

from lensipc import Channel, Types

SEARCH = Channel[tuple[str, int], list[str]]("search")
FOUND = Channel[tuple[str], None]("found")
DOUBLED = Channel[tuple[str], None]("doubled")


async def asks(ipc: IpcRenderer) -> Any:
    """Ask and tell by typed channels, and by their plain names."""
    heard: list[str] = []

    def on_doubled(event: Types.IpcRendererEvent, text: str) -> None:
        heard.append(f"{text} {type(event.channel).__name__} {event.channel}")

    ipc.listen(DOUBLED, on_doubled)
    hits = [await ipc.invoke(SEARCH, "typed", 2), await ipc.invoke("search", "plain", 1)]
    ipc.broadcast(FOUND, hits[0][0])
    ipc.broadcast("found", hits[1][0])
    await ipc.invoke(SEARCH, "main has heard both", 0)
    return hits, heard
