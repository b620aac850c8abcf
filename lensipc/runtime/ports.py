# SPDX-License-Identifier: MIT
"""What an extension's part talks through, as its author's classes see it: main/port.py and renderer/port.py have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from .channels import Callback, ChannelTable, Disposer


class Port(Protocol):
    """What both sides have. To `close` it undoes all that was registered."""

    @property
    def table(self) -> ChannelTable[Any]: ...

    def send(self, target: int, channel: str, args: tuple[Any, ...], transfer: Sequence[Any] = ()) -> None: ...

    async def drain(self) -> None: ...

    def close(self) -> None: ...


class MainPort(Port, Protocol):
    """Main's."""


class RendererPort(Port, Protocol):
    """A renderer's."""

    def listen(self, channel: str, listener: Callback, when_slow: str) -> Disposer: ...

    def invoke(self, channel: str, args: tuple[Any, ...], timeout: float | None, transfer: Sequence[Any]) -> Any: ...

    def invoke_sync(
        self, channel: str, args: tuple[Any, ...], timeout: float | None, transfer: Sequence[Any]
    ) -> Any: ...

    def drain_sync(self) -> None: ...
