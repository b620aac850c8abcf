# SPDX-License-Identifier: MIT
"""Events that come to a renderer, and the listeners that are called with them.

Small events come decoded, and those of one channel and sender that follow each other as one record, a run: what is the
same for all of them is done once. That takes a renderer half the time that each event by itself takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import length_hint
from typing import Any, Final

from . import clone
from .connection import finish_listener, log
from .endpoint import Buffer, Record
from .errors import DecodeError
from .face import Face
from .renderer_port import RendererChannel
from .types import IpcRendererEvent

# Event objects kept for each channel.
MOST_EVENTS: Final = 64


def unfolded(run: Record) -> list[Record]:
    """The events of a run, each a run by itself."""
    kind, values, number, frame_id, pid, first, none = run
    return [(kind, [args], number, frame_id, pid, first + i, none) for i, args in enumerate(values)]


class Hearing:
    """Calls the listeners of a renderer.

    Args:
        channels: by the numbers that main knows them by.
        face: how what listeners return is awaited.
        frame_id: this renderer's number.

    Attributes:
        over: no listener is to be called any more.
    """

    def __init__(self, channels: list[RendererChannel], face: Face, frame_id: int) -> None:
        self.over = False
        self._channels = channels
        self._face = face
        self._frame_id = frame_id
        # Kept across calls: a callback that raises, or waits for an outcome, loses nothing.
        self._run: tuple[Record, Iterator[tuple[Any, ...]]] | None = None

    def on_event(self, record: Record) -> None:
        """An event that came by itself."""
        _, body, number, frame_id, pid, place, _ = record
        channel = self._channels[number]
        event = self._event(channel, frame_id, pid, place)
        channel.due = place + 1
        self._call(channel, event, body, None)

    def on_run(self, record: Record) -> None:
        """Events of one channel from one sender."""
        _, values, number, frame_id, pid, place, _ = record
        channel = self._channels[number]
        run: Iterator[tuple[Any, ...]] = iter(values)
        begun = self._run = record, run
        event = self._event(channel, frame_id, pid, place)
        channel.due = place + len(values)
        if event.missed:
            self._call(channel, event, None, next(run))
            event = self._event(channel, frame_id, pid, channel.due)
        for args in run:
            if self.over:
                break
            listeners = channel.listeners
            if len(listeners) != 1:
                self._call(channel, event, None, args)
                continue
            try:
                # To call with a list of arguments takes 50 ns more.
                callback = listeners[0].callback
                result = callback(event, args[0]) if len(args) == 1 else callback(event, *args)
                if result is not None and hasattr(result, "__await__"):
                    finish_listener(self._face, channel.port.table, channel.name, result)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:  # CancelledError too, which a plain function can raise
                self._report(channel)
        if self._run is begun:  # and not one that a callback has begun meanwhile, which was cut short
            self._run = None

    @property
    def begun(self) -> bool:
        """Whether there may be events of a run that a callback has cut short."""
        return self._run is not None

    def left(self) -> list[Record]:
        """The events of a run that a callback has cut short, each a run by itself."""
        if self._run is None:
            return []
        record, run = self._run
        self._run = None
        left = unfolded(record)[len(record[1]) - length_hint(run) :]
        for _ in run:  # they are heard later
            pass
        if left:
            self._channels[record[2]].due = left[0][5]
        return left

    def _event(self, channel: RendererChannel, frame_id: int, pid: int, place: int) -> IpcRendererEvent:
        """What listeners are called with."""
        missed = place - channel.due
        event = None if missed else channel.events.get(frame_id)
        if event is None:
            port = channel.port
            event = IpcRendererEvent(frame_id, pid, port.extension, channel.name, missed, port.send)
            if not missed:  # then it holds nothing that changes: one serves for all that this sender sends
                if len(channel.events) == MOST_EVENTS:
                    channel.events.clear()  # renderers come and go
                channel.events[frame_id] = event
        return event

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
