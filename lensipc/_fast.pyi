# SPDX-License-Identifier: MIT
"""Types of csrc/python/module.c. A test holds this file equal to it."""

from collections.abc import Callable
from typing import Any

ALIGNMENT: int
DEPTH: int
MAGIC: bytes
OUT_OF_BAND: int
POLLED: int
PROTOCOL: int
READ_ALL: int
READ_OWNED: int
READ_PLAIN: int
READ_TRIAL: int
TEXT_LIMIT: int
WIRE_MODULE: str
WRITER_DEPTH: int

def encode(value: object, /) -> bytes | None: ...
def decode(message: bytes | bytearray | memoryview, budget: int = ..., flags: int = ..., /) -> Any: ...
def weigh(message: bytes | bytearray | memoryview, budget: int, flags: int, /) -> tuple[Any, int]: ...
def register_constructors(decode_error: type, unknown_error: type, rows: list[tuple[Any, ...]], /) -> None: ...
def register_arrays(
    ndarray: type,
    frombuffer: Callable[..., Any],
    dtypes: tuple[tuple[Any, str, int], ...],
    array: Any,
    address: int,
    /,
) -> bool: ...
def send(
    endpoint: int,
    kind: int,
    channel: int,
    peer: int,
    pid: int,
    correlation: int,
    body: bytes,
    when_full: int,
    /,
) -> int: ...
def send_value(
    endpoint: int,
    kind: int,
    channel: int,
    peer: int,
    pid: int,
    correlation: int,
    value: object,
    when_full: int,
    /,
) -> int | None: ...
def publish(topic: int, peer: int, pid: int, body: bytes, /) -> int: ...
def publish_value(topic: int, peer: int, pid: int, value: object, /) -> int | None: ...
def receive(
    endpoint: int,
    max: int,
    decoded: int,
    most: int,
    heard: list[Any],
    given: int,
    memory: list[Any],
    into: list[Any],
    /,
) -> Any: ...
def flush(endpoint: int, /) -> int: ...
def park(endpoint: int, for_data: bool, /) -> bool: ...
def unpark(endpoint: int, /) -> None: ...
def poll(nanoseconds: int, /, *endpoints: int) -> bool: ...
