# SPDX-License-Identifier: MIT
"""The ports that an extension's parts talk through, as types. main/port.py and renderer/port.py implement them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

from .channels import Callback, ChannelTable, Disposer
from .streams import Stream


class RendererInfo(NamedTuple):
    """A renderer in which an extension's part is active, as its part in main sees it.

    Attributes:
        frame_id: the renderer's number, never used again.
        pid: its process id; 0: the process is in another PID namespace, and has no id here.
        name: its name, of `spawn_renderer(name=)` or `RendererProcess.connect(name=)`; empty: it has none. Several
            renderers may have one name.
        status: in `on_renderer_gone`, the exit status of its process, -N after signal N; None: main did not start it,
            or has closed it, or its status is not known.
    """

    frame_id: int
    pid: int
    name: str = ""
    status: int | None = None


class ExtensionInfo(NamedTuple):
    """An installed extension, as `MainProcess.extensions` shows it. It does not change when the extension does.

    Attributes:
        id, version: the extension's, of its manifest.
        state: "activating": `install` or `enable` is at work. "enabled": active in main, and in each renderer that may
            speak for it, those to come included. "deactivating": `disable` or `uninstall` is at work. "disabled":
            active nowhere; `enable` activates it again.
        renderers: the frame ids of the renderers in which its part is active.
        failed: the frame ids of renderers in which its part could not be activated, each with the error
            (`on_error="disable"`).
    """

    id: str
    version: str
    state: Literal["activating", "enabled", "deactivating", "disabled"]
    renderers: tuple[int, ...]
    failed: dict[int, str]


class PoolState(NamedTuple):
    """Main's shared memory for large events: `MainProcess.pool`.

    Attributes:
        limit: bytes that the slabs may have together.
        slabs: how many slabs there are.
        bytes: the memory of all slabs.
        blocks: messages that lie in the slabs, because a renderer has not read them yet, or has views of them; and
            loans.
        held: bytes of these.
        holders: bytes that each renderer has not read yet, or has views of, by frame id; without those that hold
            nothing, and with those that main has disconnected, until they have hung up.
        loans: arrays of `ipc.loan` to whose memory something in main refers, also those that were sent.
        lent: bytes of these.
        by_ring: how many large messages went to each connected renderer by its ring after all, by frame id; without
            those of which none did. Some do before it has mapped the memory. That many do means that it keeps so much
            that it has no share left, or that the pool is full.
    """

    limit: int
    slabs: int
    bytes: int
    blocks: int
    held: int
    holders: dict[int, int]
    loans: int
    lent: int
    by_ring: dict[int, int]


class Port(Protocol):
    """The methods of both sides' ports. `close` undoes all that was registered."""

    @property
    def table(self) -> ChannelTable[Any]: ...

    def send(self, target: int, channel: str, args: tuple[Any, ...], transfer: Sequence[Any] = ()) -> None: ...

    def keep(self, channel: str, args: tuple[Any, ...], transfer: Sequence[Any]) -> None: ...

    def loan(self, shape: Any, dtype: Any) -> Any: ...

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
        arrays: str = "copy",
    ) -> Disposer: ...


class RendererPort(Port, Protocol):
    """The port of a part in a renderer."""

    @property
    def renderer(self) -> RendererInfo: ...

    def listen(
        self,
        channel: str,
        listener: Callback,
        when_slow: str | None,
        replay: bool = False,
        latest: bool = False,
        concurrency: int | None = None,
        arrays: str = "copy",
    ) -> Disposer: ...

    def invoke(
        self,
        channel: str,
        args: tuple[Any, ...],
        timeout: float | None,
        transfer: Sequence[Any],
        arrays: str = "copy",
    ) -> Any: ...

    def submit(
        self,
        channel: str,
        args: tuple[Any, ...],
        timeout: float | None,
        transfer: Sequence[Any],
        arrays: str = "copy",
    ) -> Any: ...

    def invoke_sync(
        self,
        channel: str,
        args: tuple[Any, ...],
        timeout: float | None,
        transfer: Sequence[Any],
        arrays: str = "copy",
    ) -> Any: ...

    def stream(
        self, channel: str, args: tuple[Any, ...], read_ahead: int, timeout: float | None, transfer: Sequence[Any]
    ) -> Stream[Any]: ...

    def drain_sync(self) -> None: ...
