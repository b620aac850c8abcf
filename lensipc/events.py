# SPDX-License-Identifier: MIT
"""The event objects: the first argument of every listener and handler. They say who sent it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVarTuple, overload

from .channel import Channel
from .runtime.ports import ExtensionInfo as ExtensionInfo
from .runtime.ports import PoolState as PoolState
from .runtime.ports import RendererInfo as RendererInfo
from .runtime.protocol import MAIN

Args = TypeVarTuple("Args")
Send = Callable[[int, str, tuple[Any, ...]], None]


class IpcEvent:
    """Who sent a message, and where to.

    Attributes:
        frame_id: which process sent it: 0 is main; each renderer has a number of its own, never used again.
        pid: that process's id.
        extension: the id of the extension it belongs to.
        channel: the channel's name.
        missed: how many events of this channel were dropped just before this one because this process read too
            slowly, or skipped because the listener was busy; 0 unless it listens with `latest=True`, or with another
            `when_slow` than "disconnect".
    """

    __slots__ = ("_send", "channel", "extension", "frame_id", "missed", "pid")

    def __init__(self, frame_id: int, pid: int, extension: str, channel: str, missed: int, send: Send) -> None:
        self.frame_id: int = frame_id
        self.pid: int = pid
        self.extension: str = extension
        self.channel: str = channel
        self.missed: int = missed
        self._send = send

    @property
    def process(self) -> Literal["main", "renderer"]:
        """The kind of process that sent it."""
        return "main" if self.frame_id == MAIN else "renderer"

    @overload
    def reply(self, channel: Channel[tuple[*Args], Any], *args: *Args) -> None: ...

    @overload
    def reply(self, channel: str, *args: Any) -> None: ...

    def reply(self, channel: Any, *args: Any) -> None:  # type: ignore[misc]
        """Send an event to the sender of this one alone; its listeners of `channel` hear it.

        Does nothing if the sender is gone by now. Raises what `broadcast` raises.
        """
        self._send(self.frame_id, channel, args)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.extension}/{self.channel} from {self.process} "
            f"frame_id={self.frame_id} pid={self.pid}>"
        )


class IpcMainEvent(IpcEvent):
    """An event that a listener in main hears."""

    __slots__ = ()


class IpcRendererEvent(IpcEvent):
    """An event that a listener in a renderer hears."""

    __slots__ = ()


class IpcMainInvokeEvent(IpcEvent):
    """A request that a handler in main answers, by a result or, if it is a generator, by a stream."""

    __slots__ = ()
