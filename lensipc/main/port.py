# SPDX-License-Identifier: MIT
"""The port through which an extension's part in main talks: its channels, and its sends."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from .. import clone
from ..errors import OutboxFull
from ..runtime.channels import Callback, Channel, ChannelTable, Disposer, Registration
from ..runtime.connection import post_args
from ..runtime.dispatch import Dispatcher
from ..runtime.listening import PUT_OFF, Paced, reads_in_place, with_options
from ..runtime.ports import RendererInfo
from ..runtime.posts import not_done
from ..runtime.protocol import ALL, MAIN
from ..transport.endpoint import Buffer, Topic
from ..transport.poller import get_ident
from ..transport.slabs import Slabs
from .kept import KeptValues

if TYPE_CHECKING:
    import asyncio

    from .core import MainCore

# How long a paced listener waits for the rest of a large message before it looks again (seconds).
LOOK_AGAIN: Final = 0.001


class MainChannel(Channel):
    """A channel, and the renderers that listen to it."""

    __slots__ = ("declare_count", "port", "topic")

    def __init__(self, port: MainPort, name: str) -> None:
        super().__init__(name)
        self.port: MainPort = port
        self.topic: Topic = Topic(port.slabs)
        self.declare_count: int = 0  # the number of attached renderers that have declared it


def _view(channel: MainChannel, registration: Registration) -> None:
    channel.views |= {registration}


def _listening(channel: MainChannel, listening: bool) -> None:
    channel.topic.main_listens(listening)


class MainPort:
    """The port through which an extension's part in main talks. It is also main's record of the extension."""

    def __init__(self, core: MainCore, extension: str, number: int) -> None:
        self.core = core
        self.extension = extension
        self.number = number
        self.slabs: Slabs | None = core.pool.slabs()  # where its large events lie
        self.table: ChannelTable[MainChannel] = ChannelTable(
            extension, partial(MainChannel, self), _listening, core.posts.post_from_elsewhere
        )
        self.renderers: dict[int, RendererInfo] = {}  # those of which the part in main was told, by frame id
        self.kept: KeptValues = KeptValues(extension, core.kept_limit)
        self._put_off: dict[Paced, float] = {}  # paced listeners that run soon: each at that time at the latest
        self.activating: bool = False
        self.deferred: dict[Any, None] = {}  # invokes that wait for `activating` to end, in their order
        self.stopping: set[asyncio.Task[Any]] = set()  # handlers that were cancelled, and have not ended

    def send(self, target: int, channel: str, args: tuple[Any, ...], transfer: Sequence[Any] = ()) -> None:
        """Send an event to every listener of the channel in the process `target`, or everywhere: ALL."""
        table, core = self.table, self.core
        found = table.channels.get(channel)
        if found is not None and target == ALL and not (transfer or found.has_listeners) and table.open:
            # Main does not need the event as bytes. The C core checks the thread; a check here would take 45 ns.
            try:
                status = found.topic.send_value(MAIN, core.pid, args)
            except OutboxFull:
                raise core.router.full(found) from None
            if status is not None:
                if status:
                    core.router.settle(found, status)
                return
        if get_ident() != core.thread:
            self._post(target, channel, args, transfer)
            return
        table.check_open(channel)
        found = table[channel]
        try:
            if transfer:
                clone.check_transfer(transfer)
                if target == ALL and not found.has_listeners and self._send_loan(found, args, clone.lent(transfer)):
                    clone.detach(transfer)
                    return
            body = clone.encode_parts(args, "args", core.limits)
            core.router.route(found, MAIN, core.pid, body, target)
        except OutboxFull:
            raise core.router.full(found) from None
        if transfer:
            clone.detach(transfer)

    def _send_loan(self, channel: MainChannel, args: tuple[Any, ...], arrays: tuple[Any, ...]) -> bool:
        """Send an event to all without a copy of the one array on loan in it. Return whether it was sent."""
        if not arrays:
            return False
        core, send = self.core, channel.topic.send_loan
        status = send(MAIN, core.pid, args, arrays)
        if status is None:
            body = clone.encode_parts(args, "args", core.limits)
            status = send(MAIN, core.pid, body, arrays) if isinstance(body, list) else None
        if status is None:
            return False
        if status:
            core.router.settle(channel, status)
        return True

    def loan(self, shape: Any, dtype: Any) -> Any:
        """An array to write in, where renderers can read it: in a block of the pool, or else in memory of its own."""
        from ..clone.loan import make, size_of  # numpy takes longer to import than all else

        self.table.check_open("loan")
        shape, dtype, size = size_of(shape, dtype)
        own_thread = get_ident() == self.core.thread
        return make(shape, dtype, self.core.pool.lend(self, size) if own_thread else None)

    def _post(self, target: int, channel: str, args: tuple[Any, ...], transfer: Sequence[Any]) -> None:
        """Send from another thread: encode the event here, and have the owner's thread send it."""
        self.table.check_open(channel)
        send, lost = partial(self._send_body, target, channel), not_done(f"broadcast of {self.extension}/{channel}")
        post_args(self.core.posts, args, transfer, self.core.limits, send, lost)

    def _send_body(self, target: int, channel: str, body: Buffer) -> None:
        self.table.check_open(channel)
        self.core.router.route(self.table[channel], MAIN, self.core.pid, body, target)

    def keep(self, channel: str, args: tuple[Any, ...], transfer: Sequence[Any]) -> None:
        """Send an event to every listener of the channel, and keep it for who listens later."""
        core = self.core
        self.table.check_open(channel)
        if get_ident() != core.thread:
            lost = not_done(f"broadcast of {self.extension}/{channel}")
            post_args(core.posts, args, transfer, core.limits, partial(self._keep_body, channel), lost)
            return
        if transfer:
            clone.check_transfer(transfer)
        self._keep_body(channel, clone.encode(args, core.limits, "args"))
        if transfer:
            clone.detach(transfer)

    def _keep_body(self, channel: str, body: Buffer) -> None:
        self.table.check_open(channel)
        found = self.table[channel]
        try:
            self.core.router.keep(found, MAIN, self.core.pid, body)
        except OutboxFull:
            raise self.core.router.full(found) from None

    def listen(
        self,
        channel: str,
        listener: Callback,
        replay: bool = False,
        latest: bool = False,
        concurrency: int | None = None,
        arrays: str = "copy",
    ) -> Disposer:
        """Add a listener."""
        core, views = self.core, reads_in_place(arrays)
        if not (replay or latest or concurrency is not None):
            return self.table.listen(channel, listener, added=_view) if views else self.table.listen(channel, listener)
        callback, added, removed = with_options(
            listener,
            replay,
            latest,
            concurrency,
            Dispatcher(core.driver, "main"),
            lambda paced: partial(self._run_soon, paced),
            core.router.replay,
        )

        def viewing(found: MainChannel, registration: Registration) -> None:
            _view(found, registration)
            added(found, registration)

        return self.table.listen(channel, callback, added=viewing if views else added, removed=removed)

    def _run_soon(self, paced: Paced) -> None:
        if paced not in self._put_off:
            self._put_off[paced] = time.monotonic() + PUT_OFF if paced.latest else 0.0
            call_soon = self.core.driver.call_soon
            call_soon(partial(call_soon, partial(self._run, paced)))  # so late that the loop has looked what has come

    def _run(self, paced: Paced) -> None:
        """Run it, or put it off again while there is more to look at."""
        core = self.core
        in_time = time.monotonic() < self._put_off[paced]
        if in_time and core.is_busy:
            core.driver.call_soon(partial(self._run, paced))
        elif in_time and core.is_assembling:
            core.poller.call_later(LOOK_AGAIN, partial(self._run, paced))
        else:
            del self._put_off[paced]
            core.driver.contexts.apart(paced.run)

    async def drain(self) -> None:
        """Wait until no renderer is congested, and main's own listeners have heard what was sent."""
        await self.core.drain()

    def end_handlers(self) -> None:
        """Answer no more requests, and cancel the handlers that run."""
        self.table.stop_handling()
        for connection in list(self.core.connections.values()):
            connection.cancel_invokes_of(self)

    def close(self) -> None:
        """Undo all that the part has registered, and cancel its running listeners and handlers."""
        self.core.posts.take_all()
        self.table.close()
        self.end_handlers()

    def end_activation(self) -> None:
        """Activation has ended, with or without success: execute the invokes that waited for it."""
        self.activating = False
        for deferred in list(self.deferred):
            deferred.execute()
