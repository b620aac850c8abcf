# SPDX-License-Identifier: MIT
"""What psutil says of the machine's processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psutil

from .catalog import Details, Item


async def running() -> AsyncIterator[psutil.Process]:
    """The processes that run now.

    One at a time, for each costs some 0.2 ms to read: in between, the event loop has its turn for whoever asks.
    """
    for process in psutil.process_iter(["name", "cpu_percent", "memory_info"]):
        yield process
        await asyncio.sleep(0)


def item(process: psutil.Process) -> Item:
    """The facts that the catalog has on a process that `running` gave."""
    info = process.info  # what this user may not read is None
    memory = info["memory_info"].rss if info["memory_info"] else 0
    return {
        "pid": process.pid,
        "name": printable(info["name"] or ""),
        "cpu": round(info["cpu_percent"] or 0.0),
        "memory": round(memory / 2**20, 1),
    }


def details(process: psutil.Process) -> Details | None:
    """The details of a process; None if it has ended."""
    try:
        found = process.as_dict(["cmdline", "username", "ppid", "create_time"])
    except psutil.NoSuchProcess:
        return None
    return {
        "pid": process.pid,
        "command": printable(" ".join(found["cmdline"] or ())),
        "user": found["username"] or "",
        "parent": found["ppid"] or 0,
        "started": found["create_time"] or 0.0,
    }


def printable(text: str) -> str:
    """A process chooses its own name and arguments: they may hold what would take a terminal over."""
    return "".join(character if character.isprintable() else "?" for character in text)
