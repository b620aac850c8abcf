# SPDX-License-Identifier: MIT
"""The port through which an extension's part in a renderer talks: its channels, its sends, its requests."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from .. import clone
from ..errors import InvokeTimeout, NotActivatedError, PeerGone
from ..events import IpcRendererEvent
from ..log import log
from ..runtime.channels import Callback, Channel, ChannelTable, Disposer, Registration
from ..runtime.connection import CLOSED, OPEN, post_args
from ..runtime.dispatch import Dispatcher
from ..runtime.kept import KeptBytes
from ..runtime.listening import PUT_OFF, Paced, Replay, reads_in_place, with_options
from ..runtime.pending import Outcome
from ..runtime.ports import RendererInfo
from ..runtime.posts import Fail, not_done
from ..runtime.protocol import (
    EVENT,
    INVOKE,
    KEEP_EVENT,
    LISTEN,
    MAX_NAME,
    MAX_READ_AHEAD,
    REPLAY,
    STREAM,
    UNLISTEN,
    VIEWS,
)
from ..runtime.streams import Incoming, Stream
from ..transport.endpoint import DROP_NEWEST, DROP_OLDEST, KEEP, KEEP_NEWEST, REFUSE, Buffer
from ..transport.poller import get_ident, seconds_of

if TYPE_CHECKING:
    from .core import RendererCore

WHEN_SLOW: Final = {
    "disconnect": REFUSE,
    "drop_oldest": DROP_OLDEST,
    "drop_newest": DROP_NEWEST,
    "keep_newest": KEEP_NEWEST,
}


def encoded_name(channel: str) -> bytes:
    """A channel's name as main is told it. ValueError: it is too long."""
    name = channel.encode("utf-8", "surrogatepass")
    if len(name) > MAX_NAME:
        raise ValueError(f"a channel's name has at most {MAX_NAME} bytes, this one has {len(name)}")
    return name


class RendererChannel(Channel):
    """A channel, and the number by which main knows it."""

    __slots__ = ("event", "number", "port", "replays", "viewed", "when_full")

    def __init__(self, port: RendererPort, name: str) -> None:
        super().__init__(name)
        self.port: RendererPort = port
        self.number: int = -1  # declared when first used
        self.event: IpcRendererEvent | None = None  # the event object for the last sender, used again
        self.when_full: int = 0
        self.replays: dict[int, Replay] = {}  # the listeners that main has still to answer, by the question's id
        self.viewed: bool = False  # main knows that some of its listeners read in place


class Soon(Channel):
    """Stands for a channel in a batch, so that a paced listener is run in its turn, as an event's listeners are."""

    __slots__ = ("event", "port")

    def __init__(self, port: RendererPort, paced: Paced) -> None:
        super().__init__("")
        self.port: RendererPort = port
        self.event: None = None
        self.add(Registration(paced.run, "", self.remove))


class RendererPort:
    """The port through which an extension's part in a renderer talks."""

    def __init__(self, core: RendererCore, extension: str, number: int) -> None:
        self.core = core
        self.extension = extension
        self.number = number
        self.table: ChannelTable[RendererChannel] = ChannelTable(
            extension, partial(RendererChannel, self), self._listening, core.posts.post_from_elsewhere
        )
        self._kept = KeptBytes(extension, core.kept_limit)  # what this process has had main keep
        self._questions = count(1)  # ids of what main is asked by REPLAY

    @property
    def renderer(self) -> RendererInfo:
        """This renderer, as the extension's part in main sees it."""
        return RendererInfo(self.core.frame_id, os.getpid(), self.core.name)

    def close(self) -> None:
        """Undo all that the part has registered, cancel its running listeners, and end its pending invokes."""
        self.core.posts.take_all()
        self.table.close()
        self._kept.clear()
        pending: Any
        for correlation, pending in self.core.pending_invokes:
            if getattr(pending, "abandon", None) == self.abandon:
                self.abandon(correlation)
                why = f"extension {self.extension!r} was deactivated here while main was asked"
                closing = self.core.closing
                pending.set_exception(self.core.peer_gone() if closing else self.core.driver.deactivated(why))

    def abandon(self, correlation: int) -> None:
        """Give an invoke up, here and in main. Any thread may call this."""
        core = self.core
        if get_ident() == core.thread:
            core.abandon(correlation)
        elif correlation:  # 0: not sent yet, and _send_request checks whether it was cancelled
            with suppress(PeerGone):
                core.posts.post(0, partial(core.abandon, correlation), not_done("cancel"))

    def send(self, target: int, channel: str, args: tuple[Any, ...], transfer: Sequence[Any] = ()) -> None:
        """Send an event to every listener of the channel in the process `target`, or everywhere: ALL."""
        table, core = self.table, self.core
        found = table.channels.get(channel)
        if (
            found is not None
            and found.number >= 0
            and table.open
            and not transfer
            and core.state is OPEN
            # The C core checks the thread; a check here would take 45 ns.
            and core.endpoint.send_value(EVENT, found.number, target, 0, args)
        ):
            return
        if get_ident() != core.thread:
            self._post(target, channel, args, transfer)
            return
        number = self._number(channel)
        if transfer:
            clone.check_transfer(transfer)
        core.send(EVENT, number, target, 0, 0, clone.encode_parts(args, "args", core.limits))
        if transfer:
            clone.detach(transfer)

    def loan(self, shape: Any, dtype: Any) -> Any:
        """An array in memory of its own: the C core copies it into the ring, from which main reads it."""
        from ..clone import loan  # numpy takes longer to import than all else

        self.table.check_open("loan")
        shape, dtype, _ = loan.size_of(shape, dtype)
        return loan.make(shape, dtype)

    def _post(self, target: int, channel: str, args: tuple[Any, ...], transfer: Sequence[Any]) -> None:
        """Send from another thread: encode the event here, and have the owner's thread send it."""
        send, lost = partial(self._send_body, target, channel), not_done(f"broadcast of {self.extension}/{channel}")
        self._post_args(channel, args, transfer, send, lost)

    def _post_args(
        self,
        channel: str,
        args: tuple[Any, ...],
        transfer: Sequence[Any],
        send: Callable[[Buffer], object],
        fail: Fail,
    ) -> None:
        core = self.core
        self._check_active()
        self.table.check_open(channel)
        encoded_name(channel)
        post_args(core.posts, args, transfer, core.limits, send, fail, core.max_size)

    def _send_body(self, target: int, channel: str, body: Buffer) -> None:
        self.core.send(EVENT, self._number(channel), target, body=body)

    def keep(self, channel: str, args: tuple[Any, ...], transfer: Sequence[Any]) -> None:
        """Send an event to every listener of the channel, and have main keep it for who listens later."""
        core = self.core
        if get_ident() != core.thread:
            lost = not_done(f"broadcast of {self.extension}/{channel}")
            self._post_args(channel, args, transfer, partial(self._keep_body, channel), lost)
            return
        self._number(channel)
        if transfer:
            clone.check_transfer(transfer)
        self._keep_body(channel, clone.encode(args, core.limits, "args"))
        if transfer:
            clone.detach(transfer)

    def _keep_body(self, channel: str, body: Buffer) -> None:
        self._kept.check(channel, len(body))
        self.core.send(KEEP_EVENT, self._number(channel), body=body)
        self._kept.enter(channel, len(body))

    def not_kept(self, channel: RendererChannel, why: str) -> None:
        """Main keeps too much of others, so it has neither kept nor sent on what was broadcast here."""
        self._kept.forget(channel.name)
        log.error("broadcast of %s/%s was not done: %s", self.extension, channel.name, why)

    def listen(
        self,
        channel: str,
        listener: Callback,
        when_slow: str | None,
        replay: bool = False,
        latest: bool = False,
        concurrency: int | None = None,
        arrays: str = "copy",
    ) -> Disposer:
        """Add a listener. A channel's first `when_slow` says what main does when this process is too slow."""
        if when_slow is None:
            when_slow = "keep_newest" if latest else "disconnect"
        if when_slow not in WHEN_SLOW:
            raise ValueError(f"when_slow is one of {', '.join(map(repr, WHEN_SLOW))}, not {when_slow!r}")
        core, views = self.core, reads_in_place(arrays)
        self._check_active()

        def begin(first: RendererChannel) -> None:
            first.when_full = WHEN_SLOW[when_slow]

        if not (replay or latest or concurrency is not None):
            if views:
                return self.table.listen(channel, listener, begin, *self._viewing())
            return self.table.listen(channel, listener, begin)
        callback, added, removed = with_options(
            listener,
            replay,
            latest,
            concurrency,
            Dispatcher(core.driver, f"renderer {core.frame_id}"),
            lambda paced: partial(core.call_soon, Soon(self, paced), PUT_OFF if paced.latest else 0.0),
            self._ask_for_kept,
        )
        if views:
            added, removed = self._viewing(added, removed)
        return self.table.listen(channel, callback, begin, added, removed)

    def _viewing(
        self,
        added: Callable[[RendererChannel, Registration], None] = lambda _channel, _registration: None,
        removed: Callable[[], None] = lambda: None,
    ) -> tuple[Callable[[RendererChannel, Registration], None], Callable[[], None]]:
        """What is to be called when a listener that reads in place is added and removed."""
        own: list[tuple[RendererChannel, Registration]] = []

        def begin(channel: RendererChannel, registration: Registration) -> None:
            own.append((channel, registration))
            channel.views |= {registration}
            self._tell_views(channel)
            added(channel, registration)

        def end() -> None:
            removed()
            for channel, registration in own:
                channel.views -= {registration}
                if len(channel.listeners) > 1:  # else main is told that nobody listens
                    self._tell_views(channel)

        return begin, end

    def _tell_views(self, channel: RendererChannel) -> None:
        """Tell main, and the endpoint, whether large events of the channel are read in place."""
        views = bool(channel.views)
        if views is not channel.viewed and self.core.state is OPEN:
            self.core.endpoint.view_channel(channel.number, views)
            self.core.send(LISTEN, channel.number, channel.when_full | VIEWS * views, when_full=KEEP)
            channel.viewed = views  # last: after a signal's exception main is told once more, rather than not at all

    def _ask_for_kept(self, replay: Replay) -> None:
        channel: RendererChannel = replay.channel
        question = next(self._questions)
        channel.replays[question] = replay  # first: main's answer to it is never unexpected
        self.core.send(REPLAY, channel.number, correlation=question, when_full=KEEP)

    def invoke(
        self,
        channel: str,
        args: tuple[Any, ...],
        timeout: float | None,
        transfer: Sequence[Any],
        arrays: str = "copy",
    ) -> Any:
        """Send a request; returns the future of its outcome."""
        core = self.core
        views = 0 if arrays == "copy" else VIEWS * reads_in_place(arrays)
        if get_ident() != core.thread:
            return self._post_invoke(channel, args, timeout, transfer, views)
        invocation = core.driver.invocation(self.abandon)
        invocation.correlation = self._request(channel, args, timeout, invocation, transfer, INVOKE, views)
        return invocation

    def submit(
        self,
        channel: str,
        args: tuple[Any, ...],
        timeout: float | None,
        transfer: Sequence[Any],
        arrays: str = "copy",
    ) -> Any:
        """Send a request; returns the concurrent.futures.Future of its outcome."""
        core = self.core
        if get_ident() == core.thread and not core.driver.blocking:
            raise RuntimeError("the result of submit would block this thread's event loop: use `await ipc.invoke(...)`")
        return self.invoke(channel, args, timeout, transfer, arrays)

    def _post_invoke(
        self, channel: str, args: tuple[Any, ...], timeout: float | None, transfer: Sequence[Any], views: int
    ) -> Any:
        """Invoke from another thread. Returns a concurrent.futures.Future."""
        left = seconds_of(timeout)
        until = None if left is None else time.monotonic() + left
        future = self.core.driver.posted(self.abandon)
        send = partial(self._send_request, channel, until, future, views)
        self._post_args(channel, args, transfer, send, future.set_exception)
        if left is not None:
            self.core.posts.post_ahead(partial(self._limit_unsent, channel, left, future))
        return future

    def _limit_unsent(self, channel: str, left: float, future: Any) -> None:
        """Give another thread's request its timeout while it waits to be sent, because main reads too slowly."""

        def expire() -> None:
            if not future.correlation:
                future.set_exception(InvokeTimeout(f"invoke of {self.extension}/{channel} was not sent in {left:g} s"))

        if not (self.core.state is CLOSED or future.done() or future.correlation):
            future.limit = self.core.poller.call_later(left, expire)

    def _send_request(self, channel: str, until: float | None, future: Any, views: int, body: Buffer) -> None:
        if future.limit is not None:
            future.limit.cancel()
        if future.done():
            return
        core, number = self.core, self._number(channel)
        left = None if until is None else max(0.0, until - time.monotonic())
        correlation = core.pending_invokes.open(future, f"invoke of {self.extension}/{channel}", left, core.cancel)
        future.correlation = correlation
        try:
            core.send(INVOKE, number, views, 0, correlation, body)
        except BaseException:
            core.pending_invokes.forget(correlation)
            raise
        if future.cancelled():  # just now, by a thread that knew of no correlation
            core.abandon(correlation)

    def invoke_sync(
        self,
        channel: str,
        args: tuple[Any, ...],
        timeout: float | None,
        transfer: Sequence[Any],
        arrays: str = "copy",
    ) -> Any:
        """Send a request and block until its outcome is there."""
        core = self.core
        views = 0 if arrays == "copy" else VIEWS * reads_in_place(arrays)
        if get_ident() != core.thread:
            core.poller.check_thread("invoke_sync", "ipc.invoke(...).result() waits here")
        if not core.driver.blocking:
            raise RuntimeError("invoke_sync would block this process's event loop: use `await ipc.invoke(...)`")
        outcome = Outcome()
        correlation = self._request(channel, args, timeout, outcome, transfer, INVOKE, views)
        try:
            core.wait(outcome)
        except BaseException:  # Ctrl-C: nobody waits for it any more
            core.abandon(correlation)
            raise
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    def stream(
        self, channel: str, args: tuple[Any, ...], read_ahead: int, timeout: float | None, transfer: Sequence[Any]
    ) -> Stream[Any]:
        """Ask for a stream; returns what its items are taken of."""
        core = self.core
        if get_ident() != core.thread:
            core.poller.check_thread("stream", "call it there, and iterate it there")
        if isinstance(read_ahead, bool) or not isinstance(read_ahead, int):
            raise TypeError(f"read_ahead is a number of items, not {type(read_ahead).__name__}")
        if not 0 <= read_ahead <= MAX_READ_AHEAD:
            raise ValueError(f"read_ahead is from 0 to {MAX_READ_AHEAD} items, not {read_ahead}")
        left, incoming = seconds_of(timeout), Incoming(core.driver, self.abandon)
        correlation = self._request(channel, args, None, incoming, transfer, STREAM, read_ahead)
        name = f"stream of {self.extension}/{channel}"
        return Stream(core, incoming, name, correlation, read_ahead, left)

    async def drain(self) -> None:
        """Wait until the outbox is down to its low-water mark, if more than the high-water mark waits."""
        await self.core.drain()

    def drain_sync(self) -> None:
        """Do as `drain`, but block."""
        self.core.drain_sync()

    def _request(
        self,
        channel: str,
        args: tuple[Any, ...],
        timeout: float | None,
        pending: Any,
        transfer: Sequence[Any],
        kind: int = INVOKE,
        detail: int = 0,
    ) -> int:
        if timeout is not None:
            timeout = seconds_of(timeout)
        core, number = self.core, self._number(channel)
        pending_invokes = core.pending_invokes
        what = "" if timeout is None else f"invoke of {self.extension}/{channel}"
        correlation = pending_invokes.open(pending, what, timeout, core.cancel)
        try:
            if transfer or not core.endpoint.send_value(kind, number, detail, correlation, args):
                # A user's encoder may invoke, too, and main accepts only growing ids. So this request gets a new id.
                pending_invokes.forget(correlation)
                if transfer:
                    clone.check_transfer(transfer)
                body = clone.encode_parts(args, "args", core.limits)
                correlation = pending_invokes.open(pending, what, timeout, core.cancel)
                core.send(kind, number, detail, 0, correlation, body)
        except BaseException:
            pending_invokes.forget(correlation)
            raise
        if transfer:
            clone.detach(transfer)
        return correlation

    def _number(self, name: str) -> int:
        """The number of a channel by which something can be sent now."""
        table, core = self.table, self.core
        if not table.open:
            self._check_active()
        channel = table.channels.get(name) or table[name]
        if channel.number < 0:
            core.declare(channel)
        if core.state is not OPEN:
            core.check_open()
        return channel.number

    def _check_active(self) -> None:
        """PeerGone: main is gone, and the part with it. NotActivatedError: the part is not active."""
        if not self.table.open:
            self.core.check_open()
            if self.core.closing:
                raise self.core.peer_gone()
            raise NotActivatedError(f"extension {self.extension!r} is not active in this process")

    def _listening(self, channel: RendererChannel, listening: bool) -> None:
        if not listening and self.core.state is not OPEN:
            return  # main is gone: nothing more will come
        if channel.number < 0:
            self.core.declare(channel)
        self.core.endpoint.view_channel(channel.number, False)
        channel.viewed = False
        self.core.send(LISTEN if listening else UNLISTEN, channel.number, channel.when_full, when_full=KEEP)
