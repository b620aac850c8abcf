# SPDX-License-Identifier: MIT
"""Messages as tests compare them."""

from __future__ import annotations

from typing import Any

from lensipc.transport.endpoint import INLINE, Batch, Endpoint, Message


def receive(endpoint: Endpoint, limit: int, decoded: int = 0, most: int = INLINE) -> list[Any]:
    """What an endpoint has for its side now: messages, and batches of events."""
    received: list[Message | Batch] = []
    endpoint.receive(limit, decoded, most, received)
    return received


def fields(message: Message | Batch) -> Any:
    """A message as a tuple: kind, body, channel, detail, pid, correlation, value. A batch as it is."""
    if isinstance(message, list):
        return message
    return (
        message.kind, message.body, message.channel, message.target, message.pid, message.correlation, message.value
    )  # fmt: skip
