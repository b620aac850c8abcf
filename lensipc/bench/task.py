# SPDX-License-Identifier: MIT
"""What one measurement is told to do, and what its messages are."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

SMALL: dict[str, Any] = {"id": 17, "name": "initialize", "ok": True, "v": 3.14, "tags": ["a", "b"]}
RAW = bytes(range(64))

Payload = Literal["small", "raw64", "array"]
Placement = Literal["free", "two cores", "one core"]


@dataclass(frozen=True)
class Task:
    """One measurement: a workload in one of its cases, by one rival.

    Attributes:
        workload, case: their names.
        rival: its name.
        where: "module:Class" of it, in lensipc.bench.rivals.
        payload: what a message is: the small dict, 64 bytes, or an array of `size` bytes.
        renderers: how many hear each message.
        count: messages that are measured, or calls.
        warmup: those before them, at least one.
        seconds: calls end after this time, even if there were fewer than `count`.
        pause: seconds of nothing before each call, or before the messages that are measured.
        flight: calls on their way at a time.
        loop: the event loop, where there is one.
        placement: on which cores the two sides run.
        channels, extensions: how many the messages go through in turn.
        limit: seconds after which it has failed.
        folder: its own, for sockets and the like; its name is unique, and all that has that name in it is removed.
    """

    workload: str
    case: str
    rival: str
    where: str
    payload: Payload = "small"
    size: int = 0
    renderers: int = 1
    count: int = 1
    warmup: int = 1
    seconds: float = 1.0
    pause: float = 0.0
    flight: int = 1
    loop: str = "asyncio"
    placement: Placement = "free"
    channels: int = 1
    extensions: int = 1
    limit: float = 60.0
    folder: str = ""

    @property
    def path(self) -> str:
        """A path for a socket."""
        return f"{self.folder}/socket"

    @property
    def total(self) -> int:
        """Messages that each renderer hears."""
        return self.warmup + self.count

    def as_json(self) -> str:
        """For the trial's command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Task:
        """What `as_json` gave."""
        return cls(**json.loads(text))
