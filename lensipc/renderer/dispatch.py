# SPDX-License-Identifier: MIT
"""Events that come to a renderer, and the listeners that are called with them.

Small events come decoded, and those that follow each other as one record, a run, whatever their channels: what is the
same for all of them is done once. That takes a renderer half the time that each event by itself takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from .. import clone
from ..errors import DecodeError, UnknownValueError, printable
from ..events import IpcRendererEvent
from ..log import log, log_raised
from ..runtime.connection import finish_listener
from ..runtime.driver import Face, is_awaitable
from ..runtime.protocol import MAIN, MAX_REPORTS
from ..transport.endpoint import RUN, Buffer, Record
from ..user_code import ends_process, explained
from .port import RendererChannel


def unfolded(run: list[Any]) -> list[Record]:
    """The events of a run, each a run by itself."""
    return [(RUN, run[i : i + 2], 0, 0, 0, 0, None) for i in range(0, len(run), 2)]


class Hearing:
    """Calls the listeners of a renderer.

    Args:
        channels: by the numbers that main knows them by.
        face: how what listeners return is awaited.
        frame_id: this renderer's number.
        limits: what reading an event may cost.
        report: tells main of the frame id of one who has sent what cannot be decoded.

    Attributes:
        run: what comes next of the run that is heard. There is something, and nobody who hears it, where a callback has
            cut that short.
    """

    def __init__(
        self,
        channels: list[RendererChannel],
        face: Face,
        frame_id: int,
        limits: clone.Limits,
        report: Callable[[int], None],
    ) -> None:
        self._channels = channels
        self._face = face
        self._frame_id = frame_id
        self._limits = limits
        self._report_to_main = report
        self._reported: set[int] = set()  # within a second from then on
        self._reported_since = 0.0
        self.run: Iterator[Any] = iter(())
        self._begun: list[Record] = []  # records that are heard now: one within another where a listener dispatches

    def on_event(self, record: Record) -> None:
        """An event by itself: large, no plain data, the first from its sender, or one before which some are missing."""
        _, body, number, frame_id, pid, missed, args = record
        channel = self._channels[number]
        port, event = channel.port, channel.event
        if event is None or event.frame_id != frame_id:
            # It holds nothing that changes: one serves for all that follow.
            event = channel.event = IpcRendererEvent(frame_id, pid, port.extension, channel.name, 0, port.send)
        if missed:
            event = IpcRendererEvent(frame_id, pid, port.extension, channel.name, missed, port.send)
        self._begun.append(record)
        contexts = self._face.contexts
        if contexts.changed():
            contexts.apart(self._call, channel, event, body, args)
        else:
            self._call(channel, event, body, args)
        self._begun.pop()

    def on_run(self, record: Record) -> None:
        """Events of which each comes from whom its channel's last one came from."""
        run = self.run = iter(record[1])
        self._begun.append(record)
        contexts = self._face.contexts
        context, base = contexts.context, contexts.base
        for channel, args in zip(run, run, strict=False):
            try:
                changed = context != base  # as Contexts.changed, which would take 40 ns more
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
            try:
                # To call with a list of arguments takes 50 ns more.
                result = callback(channel.event, args[0]) if len(args) == 1 else callback(channel.event, *args)
                if result is not None and is_awaitable(result):
                    finish_listener(self._face, channel.port.table, channel.name, result)
            except BaseException as error:  # SystemExit and CancelledError, too
                if ends_process(error):
                    raise
                self._report(channel, explained(error, callback, len(args)))
        self._begun.pop()

    def cut_short(self, record: Record) -> bool:
        """A signal's handler has raised: whether that was when the record was heard already, and not before."""
        for place, begun in enumerate(self._begun):
            if begun is record:
                del self._begun[place:]
                return True
        return False

    def left(self) -> list[Record]:
        """The events of a run that a callback has cut short, each a run by itself: who called it hears them no more."""
        return unfolded(list(self.run))

    def _call(
        self, channel: RendererChannel, event: IpcRendererEvent, body: Buffer | None, args: tuple[Any, ...] | None
    ) -> None:
        """Call each listener with a clone of its own, of `body` or of `args`."""
        listeners = channel.listeners
        if body is None and len(listeners) > 1:
            body = clone.encode(args)
        for listener in listeners:
            if not listener.active:
                continue
            try:
                try:
                    if body is not None:
                        decode = clone.decode_owned if len(listeners) == 1 else clone.decode
                        args = decode(body, self._limits)
                    if type(args) is not tuple:
                        raise DecodeError("arguments that are no tuple")
                except DecodeError as error:
                    self._drop(channel, event.frame_id, error)
                    return
                result = listener.callback(event, *args)
                if result is not None and is_awaitable(result):
                    finish_listener(self._face, channel.port.table, channel.name, result)
            except BaseException as error:  # as above
                if ends_process(error):
                    raise
                self._report(channel, explained(error, listener.callback, len(args or ())))

    def _drop(self, channel: RendererChannel, sender: int, error: DecodeError) -> None:
        """Say that an event cannot be decoded, and report its sender: each once in a second, and not many."""
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

    def _report(self, channel: RendererChannel, error: BaseException) -> None:
        what = "listener of %s/%s in renderer %d raised"
        log_raised(error, what, channel.port.extension, channel.name, self._frame_id)
