# SPDX-License-Identifier: MIT
"""What mypy and pyright have to find: each line that a part of their words stands above, and no other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import lensipc
from lensipc import Channel, Ipc, Types

SEARCH = Channel[tuple[str, int], list[str]]("search")
MOVED = Channel[tuple[float, float], None]("moved")
ROWS = Channel[tuple[str], Iterator[int]]("rows")
# mypy says expected "str"
# pyright says "Literal[3]" is not assignable to "str"
NAMELESS = Channel[tuple[str], None](3)
# mypy says no attribute "Chanel"
# pyright says "Chanel" is not a known attribute
lensipc.Chanel


def other_arguments(event: Types.IpcMainInvokeEvent, query: int, limit: int) -> list[str]:
    return []


async def other_result(event: Types.IpcMainInvokeEvent, query: str, limit: int) -> list[int]:
    return []


def without_event(query: str, limit: int) -> list[str]:
    return []


def only_from_main(event: Types.IpcRendererEvent, x: float, y: float) -> None:
    pass


def main_side(ipc: Ipc.Main) -> None:
    # mypy says expected "Callable[[IpcMainInvokeEvent, str, int]
    # pyright says "str" is not assignable to "int"
    ipc.handle(SEARCH, other_arguments)
    # mypy says incompatible type
    # pyright says "list[int]" is not
    ipc.handle(SEARCH, other_result)
    # mypy says incompatible type
    # pyright says expected 3 but received 2
    ipc.handle(SEARCH, without_event)
    # mypy says Cannot infer type of lambda
    # pyright says expected 3 but received 2
    ipc.handle(SEARCH, lambda event, query: [query])
    # mypy says incompatible type
    # pyright says "IpcMainEvent" is not assignable to "IpcRendererEvent"
    ipc.listen(MOVED, only_from_main)
    # mypy says "float" has no attribute "upper"
    # pyright says Cannot access attribute "upper"
    ipc.listen(MOVED, lambda event, x, y: x.upper())
    # mypy says No overload variant
    # pyright says "Literal[3]" is not assignable
    ipc.handle("search", 3)
    # mypy says Cannot infer value of type parameter
    # pyright says "tuple[Literal[1]]"
    ipc.broadcast(MOVED, 1)
    # mypy says Cannot infer value of type parameter
    # pyright says "tuple[Literal['x'], Literal['y']]"
    ipc.send(1, MOVED, "x", "y")
    # mypy says No overload variant
    # pyright says No overloads for "send"
    ipc.send(MOVED, 1, 2)
    # mypy says has no attribute "invoke"
    # pyright says Cannot access attribute "invoke"
    ipc.invoke(SEARCH, "lens", 3)


async def renderer_side(ipc: Ipc.Renderer) -> None:
    # mypy says Cannot infer value of type parameter
    # pyright says "tuple[Literal[3], Literal['lens']]"
    await ipc.invoke(SEARCH, 3, "lens")
    # mypy says Cannot infer value of type parameter
    # pyright says "tuple[Literal['lens']]"
    await ipc.invoke(SEARCH, "lens")
    # mypy says Too many arguments
    # pyright says Literal[4]
    await ipc.invoke(SEARCH, "lens", 3, 4)
    # mypy says No overload variant
    # pyright says No overloads for "invoke"
    await ipc.invoke(SEARCH, "lens", 3, timeout="soon")
    # mypy says No overload variant
    # pyright says No overloads for "invoke"
    await ipc.invoke(SEARCH, "lens", 3, arrays="views")
    # mypy says incompatible type
    # pyright says "list[str]" is not assignable to "list[int]"
    hits: list[int] = await ipc.invoke(SEARCH, "lens", 3)
    # mypy says Too many arguments
    # pyright says Expected 0 positional arguments
    ipc.invoke(SEARCH, "lens", 3).result(2)
    # mypy says Cannot infer value
    # pyright says "tuple[Literal['lens'], Literal['3']]"
    await asyncio.create_task(ipc.invoke(SEARCH, "lens", "3"))
    # mypy says "list[str]" has no attribute "upper"
    # pyright says Cannot access attribute "upper"
    ipc.submit(SEARCH, "lens", 3).result().upper()
    # mypy says "list[str]" has no attribute "upper"
    # pyright says Cannot access attribute "upper"
    ipc.invoke_sync(SEARCH, "lens", 3).upper()
    # mypy says expected "Channel[tuple[str, int], Iterator
    # pyright says No overloads for "stream"
    ipc.stream(SEARCH, "lens", 3)
    # mypy says Cannot infer value of type parameter
    # pyright says No overloads for "stream"
    ipc.stream(ROWS, 3)
    # mypy says No overload variant
    # pyright says No overloads for "listen"
    ipc.listen(MOVED, print, when_slow="never")
    print(hits)
