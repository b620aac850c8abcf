# SPDX-License-Identifier: MIT
"""Events that come to a renderer, and the listeners that are called with them.

Small events come decoded. Small events that follow each other come as one batch, whatever their channels. The
dispatcher does once per batch what is the same for all of its events. A batch takes a renderer half the time that
single events take.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from .. import clone
from ..errors import DecodeError, ProtocolError, UnknownValueError, printable
from ..events import IpcRendererEvent
from ..log import log
from ..runtime.dispatch import Dispatcher
from ..runtime.driver import Driver, is_awaitable
from ..runtime.listening import Replay
from ..runtime.protocol import MAIN, MAX_REPORTS
from ..transport.endpoint import Batch, Block, Buffer, Message
from .port import RendererChannel


def split(batch: Batch) -> list[Batch]:
    """The events of a batch, each a batch by itself."""
    return [batch[i : i + 2] for i in range(0, len(batch), 2)]


class EventDispatcher(Dispatcher):
    """Calls the listeners of a renderer.

    Args:
        channels: this renderer's channels, by number.
        driver: awaits what listeners return.
        frame_id: this renderer's number.
        limits: what reading an event may cost.
        report: reports to main the frame id of a sender whose event cannot be decoded.

    Attributes:
        batch: iterates over the rest of the batch that is being dispatched. A signal's exception interrupts the
            batch, and so does a listener that dispatches or waits. `take_rest` then returns the events that are left.
    """

    def __init__(
        self,
        channels: list[RendererChannel],
        driver: Driver,
        frame_id: int,
        limits: clone.Limits,
        report: Callable[[int], None],
    ) -> None:
        super().__init__(driver, f"renderer {frame_id}")
        self._channels = channels
        self._frame_id = frame_id
        self._limits = limits
        self._report_to_main = report
        self._reported: set[int] = set()  # within a second from then on
        self._reported_since = 0.0
        self.batch: Iterator[Any] = iter(())
        self._begun: list[Message | Batch] = []  # one within another where a listener dispatches

    def on_event(self, message: Message) -> None:
        """Dispatch a single event: large, not plain data, the first from its sender, or after a gap."""
        sender, missed = message.sender, message.missed
        channel = self._channels[message.channel]
        port, event = channel.port, channel.event
        if event is None or event.frame_id != sender:
            # An event object holds nothing that changes, so all further events from this sender share it.
            event = channel.event = IpcRendererEvent(sender, message.pid, port.extension, channel.name, 0, port.send)
        if missed:
            event = IpcRendererEvent(sender, message.pid, port.extension, channel.name, missed, port.send)
        self._begun.append(message)
        contexts = self.driver.contexts
        if contexts.changed():
            contexts.apart(self._call, channel, event, message.body, message.value)
        else:
            self._call(channel, event, message.body, message.value)
        self._begun.pop()

    def on_kept(self, message: Message) -> None:
        """Dispatch main's answer to a listener that has asked for the kept value: it alone hears that."""
        channel = self._channels[message.channel]
        if message.correlation not in channel.replays:
            raise ProtocolError(f"a kept value of channel number {message.channel}, which was not asked for")
        self._begun.append(message)
        replay = channel.replays.pop(message.correlation)
        replay.has_value = bool(message.body)
        event = IpcRendererEvent(
            message.sender, message.pid, channel.port.extension, channel.name, 0, channel.port.send
        )
        self.driver.contexts.apart(self._call_kept, replay, event, message.body)
        self._begun.pop()

    def _call_kept(self, replay: Replay, event: IpcRendererEvent, body: Buffer) -> None:
        channel = replay.channel
        try:
            decode = clone.decode_view if replay.registration in replay.views else clone.decode_owned
            self.call(replay, channel.port.table, event, partial(decode, body, self._limits))
        except DecodeError as error:
            self._drop(channel, event.frame_id, error)

    def on_batch(self, events: Batch) -> None:
        """Dispatch a batch. Each event's sender is the sender of the event before it on the same channel."""
        batch = self.batch = iter(events)
        self._begun.append(events)
        contexts = self.driver.contexts
        context, base = contexts.context, contexts.base
        for channel, args in zip(batch, batch, strict=False):
            try:
                changed = context != base  # as Contexts.changed: to call that takes a tenth of what an event does
            except Exception:
                changed = True
            if changed:
                context = contexts.context = None
                contexts.apart(self._call, channel, channel.event, None, args)
                continue
            callback = channel.only
            if callback is None:
                self._call(channel, channel.event, None, args)
                continue
            try:  # as Dispatcher.call, for the same reason
                # To call with a list of arguments takes 50 ns more.
                result = callback(channel.event, args[0]) if len(args) == 1 else callback(channel.event, *args)
                if result is not None and is_awaitable(result):
                    self.finish(channel, channel.port.table, result)
            except BaseException as error:  # SystemExit and CancelledError, too
                self.failed(channel, channel.port.table, callback, len(args), error)
        self._begun.pop()

    def has_begun(self, message: Message | Batch) -> bool:
        """After a signal's handler has raised, whether dispatching this message had begun."""
        for place, begun in enumerate(self._begun):
            if begun is message:
                del self._begun[place:]
                return True
        return False

    def take_rest(self) -> list[Batch]:
        """Take the events that are left of an interrupted batch, each as a batch of its own."""
        return split(list(self.batch))

    def _call(
        self, channel: RendererChannel, event: IpcRendererEvent, body: Buffer | None, args: tuple[Any, ...] | None
    ) -> None:
        """Call each listener with a clone of its own, of `body` or of `args`."""
        if channel.views and body is not None:  # what comes decoded is small, and has no arrays
            self._call_views(channel, event, body)
            return
        alone = channel.only is not None
        if body is None and not alone:
            body = clone.encode(args)
        if body is None:
            read: Callable[[], Any] = lambda: args  # noqa: E731
        else:
            read = partial(clone.decode_owned if alone else clone.decode, body, self._limits)
        try:
            self.call(channel, channel.port.table, event, read)
        except DecodeError as error:
            self._drop(channel, event.frame_id, error)

    def _call_views(self, channel: RendererChannel, event: IpcRendererEvent, body: Any) -> None:
        """Call each listener, some of which read in place, and the others have a clone of their own."""
        listeners = tuple(channel.listeners)
        try:
            try:
                # All is read before a listener runs, which may write to its arrays by force.
                clones = [self._read(body, listener in channel.views) for listener in listeners]
            finally:
                if type(body) is Block:
                    body.heard()  # so a listener that runs can give it back
            clones.reverse()
            for listener in listeners:
                self.call(channel, channel.port.table, event, [clones.pop()].pop, None, (listener,))
        except DecodeError as error:
            self._drop(channel, event.frame_id, error)

    def _read(self, body: Any, view: bool) -> Any:
        return clone.decode_view(body, self._limits) if view else clone.decode_owned(bytearray(body), self._limits)

    def _drop(self, channel: RendererChannel, sender: int, error: DecodeError) -> None:
        """Log that an event cannot be decoded, and report its sender: once a second each, and at most MAX_REPORTS."""
        now = time.monotonic()
        if now - self._reported_since >= 1.0:
            self._reported.clear()
            self._reported_since = now
        if sender in self._reported or len(self._reported) == MAX_REPORTS:
            return
        self._reported.add(sender)
        log.error(
            "an event of %s/%s from %d is dropped in renderer %d: it cannot be decoded: %s",
            channel.port.extension,
            channel.name,
            sender,
            self._frame_id,
            printable(str(error)),
        )
        if sender not in (MAIN, self._frame_id) and not isinstance(error, UnknownValueError):
            self._report_to_main(sender)
