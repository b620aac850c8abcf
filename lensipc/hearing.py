# SPDX-License-Identifier: MIT
"""Events that come to a renderer, and the listeners that are called with them.

Small events come decoded, and those that follow each other as one record, a run, whatever their channels: what is the
same for all of them is done once. That takes a renderer half the time that each event by itself takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import clone
from .connection import finish_listener, log
from .endpoint import RUN, Buffer, Record
from .errors import DecodeError
from .face import Face
from .renderer_port import RendererChannel
from .types import IpcRendererEvent


def unfolded(run: list[Any]) -> list[Record]:
    """The events of a run, each a run by itself."""
    return [(RUN, run[i : i + 2], 0, 0, 0, 0, None) for i in range(0, len(run), 2)]


class Hearing:
    """Calls the listeners of a renderer.

    Args:
        channels: by the numbers that main knows them by.
        face: how what listeners return is awaited.
        frame_id: this renderer's number.

    Attributes:
        run: what comes next of the run that is heard. There is something, and nobody who hears it, where a callback has
            cut that short.
    """

    def __init__(self, channels: list[RendererChannel], face: Face, frame_id: int) -> None:
        self._channels = channels
        self._face = face
        self._frame_id = frame_id
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
                if result is not None and hasattr(result, "__await__"):
                    finish_listener(self._face, channel.port.table, channel.name, result)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:  # CancelledError too, which a plain function can raise
                self._report(channel)
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
                if body is not None:
                    args = clone.decode_owned(body) if len(listeners) == 1 else clone.decode(body)
                if type(args) is not tuple:
                    raise DecodeError("arguments that are no tuple")
                result = listener.callback(event, *args)
                if result is not None and hasattr(result, "__await__"):
                    finish_listener(self._face, channel.port.table, channel.name, result)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:  # as above
                self._report(channel)

    def _report(self, channel: RendererChannel) -> None:
        log.exception("listener of %s/%s in renderer %d raised", channel.port.extension, channel.name, self._frame_id)
