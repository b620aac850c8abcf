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
    detail: int,
    pid: int,
    correlation: int,
    body: bytes | bytearray | memoryview,
    when_full: int,
    /,
) -> int: ...
def send_value(endpoint: int, kind: int, channel: int, detail: int, correlation: int, value: object, /) -> bool: ...
def publish(topic: int, sender: int, pid: int, body: bytes | bytearray | memoryview, /) -> int: ...
def publish_value(topic: int, sender: int, pid: int, value: object, /) -> int | None: ...
def receive(
    endpoint: int,
    memory: list[Any],
    provide: Callable[[int], None],
    made_here: int,
    channels: list[Any],
    max: int,
    decoded: int,
    most: int,
    into: list[Any],
    /,
) -> int: ...
def relay_status(endpoint: int, /) -> int: ...
def flush(endpoint: int, /) -> int: ...
def park(endpoint: int, for_data: bool = True, /) -> bool: ...
def unpark(endpoint: int, /) -> None: ...
def busy_poll(*endpoints_and_nanoseconds: int) -> bool | None: ...
def fail_with(function: Callable[[int], Any], /) -> None: ...

class Message:
    def __init__(
        self,
        kind: int,
        body: Any = None,
        channel: int = 0,
        detail: int = 0,
        pid: int = 0,
        correlation: int = 0,
        value: Any = None,
    ) -> None: ...
    @property
    def kind(self) -> int: ...
    @property
    def channel(self) -> int: ...
    @property
    def target(self) -> int: ...
    @property
    def sender(self) -> int: ...
    @property
    def extension(self) -> int: ...
    @property
    def when_full(self) -> int: ...
    @property
    def items(self) -> int: ...
    @property
    def pid(self) -> int: ...
    @property
    def correlation(self) -> int: ...
    @property
    def missed(self) -> int: ...
    @property
    def body(self) -> Any: ...
    @property
    def value(self) -> Any: ...
