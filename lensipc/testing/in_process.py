# SPDX-License-Identifier: MIT
"""Renderers that run in the test's own process: on its loop, connected to main as any renderer is.

Everything is as in a process of its own, the rings too, but for one thing: `IpcRenderer.get_instance()` has to give
each renderer its own instance. A renderer's callbacks run in contexts that are copies of the one in which it was
entered, so a context variable tells whose table is meant. Code that none of these renderers runs, such as main's and
the test's, has the process's own table. So has a thread that an extension starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, MutableMapping
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import Any

from ..ipc import _Ipc
from ..renderer.process import RendererProcess

Table = MutableMapping[type[Any], Any]

_table: ContextVar[Table | None] = ContextVar("lensipc-instances", default=None)


class _Instances(MutableMapping[type[Any], Any]):
    """The instances of whoever runs now: one renderer of this process, or the process itself."""

    def __init__(self, of_process: Table) -> None:
        self._of_process = of_process

    def _now(self) -> Table:
        table = _table.get()
        return self._of_process if table is None else table

    def __getitem__(self, kind: type[Any]) -> Any:
        return self._now()[kind]

    def __setitem__(self, kind: type[Any], instance: Any) -> None:
        self._now()[kind] = instance

    def __delitem__(self, kind: type[Any]) -> None:
        del self._now()[kind]

    def __iter__(self) -> Iterator[type[Any]]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())


class RendererHere:
    """A renderer in this process. It lives in a task of its own, from `start` until `leave`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._leaving = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> RendererProcess:
        """Connect to main, and return when all parts are active here. Raises what entering a renderer raises."""
        if not isinstance(_Ipc._instances, _Instances):
            _Ipc._instances = _Instances(_Ipc._instances)
        entered: asyncio.Future[RendererProcess] = asyncio.get_running_loop().create_future()
        context = copy_context()
        context.run(_table.set, {})
        self._task = asyncio.get_running_loop().create_task(self._live(entered), context=context)
        both: list[asyncio.Future[Any]] = [entered, self._task]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not entered.done():
            await self._task  # it has raised
        return entered.result()

    async def _live(self, entered: asyncio.Future[RendererProcess]) -> None:
        async with RendererProcess.connect(self._path) as renderer:
            entered.set_result(renderer)
            await self._leaving.wait()

    async def leave(self) -> None:
        """Leave in good order. Idempotent."""
        self._leaving.set()
        if self._task is not None:
            await asyncio.wait([self._task])
