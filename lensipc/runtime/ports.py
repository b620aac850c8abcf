# SPDX-License-Identifier: MIT
"""The ports that an extension's parts talk through, as types. main/port.py and renderer/port.py implement them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from .channels import Callback, ChannelTable, Disposer
from .streams import Stream


class RendererInfo(NamedTuple):
    """A renderer in which an extension's part is active, as its part in main sees it.

    Attributes:
        frame_id: the renderer's number, never used again.
        pid: its process id; 0: the process is in another PID namespace, and has no id here.
    """

    frame_id: int
    pid: int


class Port(Protocol):
    """The methods of both sides' ports. `close` undoes all that was registered."""

    @property
    def table(self) -> ChannelTable[Any]: ...

    def send(self, target: int, channel: str, args: tuple[Any, ...], transfer: Sequence[Any] = ()) -> None: ...

    def keep(self, channel: str, args: tuple[Any, ...], transfer: Sequence[Any]) -> None: ...

    async def drain(self) -> None: ...

    def close(self) -> None: ...


class MainPort(Port, Protocol):
    """The port of a part in main."""

    @property
    def renderers(self) -> dict[int, RendererInfo]: ...

    def listen(
        self,
        channel: str,
        listener: Callback,
        replay: bool = False,
        latest: bool = False,
        concurrency: int | None = None,
    ) -> Disposer: ...


class RendererPort(Port, Protocol):
    """The port of a part in a renderer."""

    def listen(
        self,
        channel: str,
        listener: Callback,
        when_slow: str,
        replay: bool = False,
        latest: bool = False,
        concurrency: int | None = None,
    ) -> Disposer: ...

    def invoke(self, channel: str, args: tuple[Any, ...], timeout: float | None, transfer: Sequence[Any]) -> Any: ...

    def submit(self, channel: str, args: tuple[Any, ...], timeout: float | None, transfer: Sequence[Any]) -> Any: ...

    def invoke_sync(
        self, channel: str, args: tuple[Any, ...], timeout: float | None, transfer: Sequence[Any]
    ) -> Any: ...

    def stream(
        self, channel: str, args: tuple[Any, ...], read_ahead: int, timeout: float | None, transfer: Sequence[Any]
    ) -> Stream[Any]: ...

    def drain_sync(self) -> None: ...
