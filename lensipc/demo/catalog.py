# SPDX-License-Identifier: MIT
"""The catalog: a machine's processes, a few facts on each. Main has the original, each renderer a copy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypedDict


class Item(TypedDict):
    """A process in the catalog."""

    pid: int
    name: str
    cpu: int  # percent of one core
    memory: float  # resident, MiB


class Details(TypedDict):
    """What else main knows of a process, for whoever asks."""

    pid: int
    command: str
    user: str
    parent: int
    started: float  # seconds since the epoch


@dataclass
class Catalog:
    """Processes by their pid.

    Attributes:
        items: the processes.
        revision: how many changes made it what it is. Two of one revision that hold the same have missed nothing.
    """

    items: dict[int, Item] = field(default_factory=dict)
    revision: int = 0

    def put(self, item: Item) -> None:
        """Add a process, or replace what is known of it."""
        self.items[item["pid"]] = item
        self.revision += 1

    def remove(self, pid: int) -> None:
        """A process has ended."""
        self.items.pop(pid, None)
        self.revision += 1

    def largest(self) -> list[Item]:
        """All processes, those that use most memory first: an order that seldom changes while one looks."""
        return sorted(self.items.values(), key=lambda item: (-item["memory"], item["pid"]))
