# SPDX-License-Identifier: MIT
"""Events that nobody has sent, so that a test can call a handler or a listener alone."""

from __future__ import annotations

import os
from typing import Any

from ..events import IpcMainEvent, IpcMainInvokeEvent, IpcRendererEvent


class FakeEvent(IpcMainEvent, IpcMainInvokeEvent, IpcRendererEvent):
    """An event object of every kind, made by `fake_event`. What is replied to it is kept.

    Attributes:
        replies: each reply as a tuple: the channel, then the arguments.
    """

    replies: list[tuple[Any, ...]]


def fake_event(
    channel: str = "fake", *, extension: str = "fake", frame_id: int = 1, pid: int | None = None, missed: int = 0
) -> FakeEvent:
    """Make an event object to call a handler or a listener with: `await describe(fake_event(), "an-id")`.

    Args:
        channel, extension: where it says it was sent.
        frame_id: which process has sent it: 0 is main, each renderer has another number.
        pid: that process's id; None: this process's.
        missed: how many events were dropped before it.
    """
    replies: list[tuple[Any, ...]] = []

    def keep(_frame_id: int, channel: str, args: tuple[Any, ...]) -> None:
        replies.append((channel, *args))

    event = FakeEvent(frame_id, os.getpid() if pid is None else pid, extension, channel, missed, keep)
    event.replies = replies
    return event
