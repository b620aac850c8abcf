# SPDX-License-Identifier: MIT
"""Logs a line for each message, in and out, if the environment has LENSIPC_TRACE=1.

With tracing, the functions that a connection and its endpoint call for each message are wrapped once, when the
connection is made. Without tracing, nothing is wrapped. So an untraced message costs nothing more, and no code on its
way asks whether it is traced.

A trace shows the size of each message. So with tracing, the C core hands out every message as bytes: it decodes no
small plain data, and relays no event.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, Final

from .. import clone
from ..errors import printable
from ..transport.endpoint import ONE_PIECE, REFUSE, Batch, Buffer, Message
from . import protocol
from .connection import Connection
from .protocol import ALL, DECLARE, EVENT, INVOKE, KEEP_EVENT, KEPT, LISTEN, NOT_KEPT, REPLAY, RESULT, STREAM, UNLISTEN

VARIABLE: Final = "LENSIPC_TRACE"
_KINDS = (
    "EVENT", "INVOKE", "CANCEL", "RESULT", "ERROR", "DECLARE", "LISTEN", "UNLISTEN", "ACTIVATE", "DEACTIVATE", "READY",
    "REPORT", "STREAM", "ITEMS", "CREDIT", "REPLAY", "KEPT", "KEEP_EVENT", "NOT_KEPT",
)  # fmt: skip
NAMES: Final = {getattr(protocol, name): name for name in _KINDS}
# The kinds of messages whose header has a channel number.
OF_CHANNELS: Final = (EVENT, INVOKE, DECLARE, LISTEN, UNLISTEN, REPLAY, KEPT, KEEP_EVENT, NOT_KEPT, STREAM)

log: Final = logging.getLogger("lensipc.trace")


def is_asked_for() -> bool:
    """Whether the environment asks for a trace. If so, and no log handler is configured, add one for stderr."""
    if os.environ.get(VARIABLE) != "1":
        return False
    if log.level == logging.NOTSET:
        log.setLevel(logging.DEBUG)
    if not log.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(message)s"))
        log.addHandler(handler)
        log.propagate = False  # otherwise a handler that is configured later would print each line again
    return True


def _tell(way: str, kind: int, size: int, correlation: int = 0, number: int = 0, channels: Sequence[Any] = ()) -> None:
    """Log one line. A peer chooses a channel's name, so the name comes last and cannot be taken for anything else."""
    said = f"{way}: {NAMES.get(kind, kind)}"
    if correlation and kind != EVENT:
        said += f" {correlation}"
    said += f", {size} bytes"
    if kind in OF_CHANNELS:
        said += f", channel {number}"
        if number < len(channels):
            channel = channels[number]
            said += f" {channel.port.extension}/{printable(channel.name)}"
    log.debug("%s", said)


def _bytes_of(body: Buffer | Sequence[Buffer]) -> int:
    if isinstance(body, ONE_PIECE):
        return memoryview(body).nbytes
    return sum(memoryview(piece).nbytes for piece in body)


def _trace_sent(connection: Connection, way: str, channels: Sequence[Any]) -> None:
    send, send_value = connection.send, connection.endpoint.send_value

    def traced_send(
        kind: int,
        channel: int = 0,
        detail: int = 0,
        pid: int = 0,
        correlation: int = 0,
        body: Buffer | Sequence[Buffer] = b"",
        when_full: int = REFUSE,
    ) -> int:
        dropped = send(kind, channel, detail, pid, correlation, body, when_full)
        _tell(way, kind, _bytes_of(body), correlation, channel, channels)
        return dropped

    def traced_send_value(kind: int, channel: int, detail: int, correlation: int, value: object) -> bool:
        sent = send_value(kind, channel, detail, correlation, value)
        if sent:
            _tell(way, kind, _bytes_of(clone.encode_parts(value)), correlation, channel, channels)
        return sent

    connection.send = traced_send  # type: ignore[method-assign]
    connection.endpoint.send_value = traced_send_value


def _trace_sent_in_place(connection: Any, way: str) -> None:
    send_in_place = connection._send_in_place

    def traced(correlation: int, body: Buffer | Sequence[Buffer]) -> bool:
        sent: bool = send_in_place(correlation, body)
        if sent:
            _tell(way, RESULT, _bytes_of(body), correlation)
        return sent

    connection._send_in_place = traced


def trace_renderer(core: Connection) -> None:
    """Trace the messages that a renderer's core sends and receives."""
    here = f"renderer {core.frame_id}"
    way, channels = f"{here} < main", core.endpoint.channels
    receive = core.endpoint.receive

    def traced_receive(limit: int, _decoded: int, most: int, into: list[Message | Batch]) -> int:
        relayed = receive(limit, 0, most, into)
        for message in into:
            assert not isinstance(message, list)
            _tell(way, message.kind, len(message.body), message.correlation, message.channel, channels)
        return relayed

    core.endpoint.receive = traced_receive
    _trace_sent(core, f"{here} > main", channels)


def trace_main(core: Any) -> None:
    """Trace the messages between main's core and each renderer that attaches from now on."""
    attach, port, route = core.attach, core.port, core.router.route

    def traced_attach(connection: Any) -> None:
        there = f"renderer {connection.frame_id}"
        _trace_sent(connection, f"main > {there}", connection.channels)
        _trace_sent_in_place(connection, f"main > {there}")
        connection.on_message[:] = [traced_take(take, connection) for take in connection.on_message]
        connection.decoded = 0
        connection.endpoint.stop_relaying()
        attach(connection)

    def traced_take(take: Callable[[Message], None], connection: Any) -> Callable[[Message], None]:
        way = f"main < renderer {connection.frame_id}"

        def traced(message: Message) -> None:
            size = len(message.body)
            _tell(way, message.kind, size, message.correlation, message.channel, connection.channels)
            take(message)

        return traced

    def tell_all(channel: Any, target: int, size: int) -> None:
        for each in core.connections.values():
            if target in (ALL, each.frame_id) and channel in each.listening:
                number = each.channels.index(channel)
                _tell(f"main > renderer {each.frame_id}", EVENT, size, 0, number, each.channels)

    def traced_route(channel: Any, frame_id: int, pid: int, body: Any, target: int = ALL) -> int:
        status: int = route(channel, frame_id, pid, body, target)
        tell_all(channel, target, _bytes_of(body))
        return status

    def traced_port(extension: str) -> Any:
        new = extension not in core.ports
        made = port(extension)
        if new:
            make = made.table._make
            made.table._make = lambda name: trace_channel(make(name))
        return made

    def trace_channel(channel: Any) -> Any:
        send_value, send_loan = channel.topic.send_value, channel.topic.send_loan

        def traced_send_value(frame_id: int, pid: int, value: object) -> int | None:
            status: int | None = send_value(frame_id, pid, value)
            if status is not None:
                tell_all(channel, ALL, _bytes_of(clone.encode_parts(value)))
            return status

        def traced_send_loan(frame_id: int, pid: int, body: Any, arrays: tuple[Any, ...]) -> int | None:
            size = _bytes_of(body if isinstance(body, list) else clone.encode_parts(body))  # the arrays are empty later
            status: int | None = send_loan(frame_id, pid, body, arrays)
            if status is not None:
                tell_all(channel, ALL, size)
            return status

        channel.topic.send_value, channel.topic.send_loan = traced_send_value, traced_send_loan
        return channel

    core.attach, core.port, core.router.route = traced_attach, traced_port, traced_route
