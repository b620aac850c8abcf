# SPDX-License-Identifier: MIT
"""What a process has left open: descriptors, shared memory, child processes and tasks, each with where it was made.

Where a descriptor was made is not known to the kernel. Python tells its audit hooks of files, sockets, mappings and
child processes; the functions of `os` that give a new descriptor without telling are replaced while a watch is on.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import mmap
import os
import sys
import sysconfig
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final

# How long what is being closed may take (seconds): a killed process, say.
PATIENCE: Final = 1.0
# Functions of `os` that no audit hook hears of.
QUIET: Final = ("pipe", "pipe2", "dup", "eventfd", "memfd_create", "pidfd_open")
# The most places that are kept of one kind; the oldest are forgotten.
PLACES: Final = 10_000
# Frames of lensipc and of Python are not where a test or an extension made something. Packages may lie below Python's.
OURS: Final = str(Path(__file__).parent.parent) + os.sep
PYTHONS: Final = sysconfig.get_path("stdlib") + os.sep, "<frozen "
PACKAGES: Final = f"{os.sep}site-packages{os.sep}"


class _Places:
    """Where descriptors, files, sockets, mappings and processes were made."""

    def __init__(self) -> None:
        self.on = 0  # how many watches look
        self.descriptors: dict[object, str] = {}
        self.files: dict[object, str] = {}
        self.mappings: dict[object, str] = {}
        self.commands: dict[object, str] = {}
        self.sockets: list[tuple[weakref.ref[Any], str]] = []
        self.tasks: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._hooked = False
        self._replaced: dict[str, Any] = {}

    def begin(self) -> None:
        self.on += 1
        if not self._hooked:
            self._hooked = True
            sys.addaudithook(self._hook)  # which cannot be taken back
        if self.on == 1:
            for name in QUIET:
                if hasattr(os, name):
                    self._replaced[name] = getattr(os, name)
                    setattr(os, name, self._noting(self._replaced[name]))

    def end(self) -> None:
        self.on -= 1
        if self.on == 0:
            for name, function in self._replaced.items():
                setattr(os, name, function)
            for each in (self.descriptors, self.files, self.mappings, self.commands, self.sockets):
                each.clear()

    def _noting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def noting(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            for fd in result if isinstance(result, tuple) else (result,):
                _keep(self.descriptors, fd)
            return result

        return noting

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            with suppress(TypeError, ValueError, OSError):
                if not isinstance(args[0], int):
                    _keep(self.files, os.path.realpath(os.fsdecode(args[0])))
        elif event == "socket.__new__":
            self.sockets.append((weakref.ref(args[0]), _where()))
            del self.sockets[:-PLACES]
        elif event == "mmap.__new__":
            _keep(self.mappings, -(-args[1] // mmap.PAGESIZE))
        elif event == "subprocess.Popen":
            with suppress(TypeError):
                _keep(self.commands, tuple(map(os.fsencode, args[1])))

    def of_descriptor(self, fd: int, target: str) -> str:
        for reference, where in self.sockets:
            sock = reference()
            if sock is not None and sock.fileno() == fd:
                return where
        return self.files.get(target.removesuffix(" (deleted)")) or self.descriptors.get(fd) or NOWHERE


NOWHERE: Final = "a place that is not known"
_places = _Places()


def _keep(places: dict[object, str], key: object) -> None:
    places.pop(key, None)
    places[key] = _where()
    if len(places) > PLACES:
        del places[next(iter(places))]


def _where() -> str:
    """The innermost frame of code that is neither Python's nor lensipc's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(OURS) and (PACKAGES in file or not file.startswith(PYTHONS)):
            return f"{file}:{frame.f_lineno}, in {frame.f_code.co_qualname}"
        frame = frame.f_back
    return NOWHERE


def _descriptors() -> dict[int, str]:
    found = {}
    for fd in os.listdir("/proc/self/fd"):  # noqa: PTH208 - of names alone it is three times as fast
        with suppress(FileNotFoundError):  # the listing's own descriptor
            found[int(fd)] = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115
    return found


def _mappings() -> dict[str, tuple[str, int]]:
    """Of shared memory: by address, what is mapped and its pages."""
    found = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "/memfd:" in line or "/dev/shm/" in line:
            place, *_, name = line.split(maxsplit=5)
            begin, end = (int(each, 16) for each in place.split("-"))
            found[place] = name, (end - begin) // mmap.PAGESIZE
    return found


def _children() -> dict[int, tuple[bytes, ...]]:
    """By pid, the command line; of those that have ended nothing."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            for pid in (task / "children").read_text().split():
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                found[int(pid)] = tuple(command.rstrip(b"\0").split(b"\0"))
    return found


def _code(coroutine: Any) -> Any:
    return getattr(coroutine, "cr_code", None)


def _users(task: asyncio.Task[Any]) -> Any:
    """The coroutine of a user that a task runs; None: the task is lensipc's own."""
    coroutine: Any = task.get_coro()
    code = _code(coroutine)
    if code is None or not code.co_filename.startswith(OURS):
        return coroutine
    called = getattr(coroutine.cr_frame, "f_locals", {}).get("awaitable")  # what a listener has returned
    return called if _code(called) is not None else None


class Watch:
    """What this process has open now, on the running loop; `left` says what has come and not gone since."""

    def __init__(self) -> None:
        _places.begin()
        self._before = _descriptors(), _mappings(), _children()
        self._tasks = weakref.WeakSet(asyncio.all_tasks())
        self._loop = asyncio.get_running_loop()
        self._factory = self._loop.get_task_factory()
        self._loop.set_task_factory(self._make_task)

    def end(self) -> None:
        """Look no more."""
        _places.end()
        if self._loop.get_task_factory() == self._make_task:
            self._loop.set_task_factory(self._factory)

    def _make_task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> Any:
        task: Any
        if self._factory is None:
            task = asyncio.Task(coroutine, loop=loop, **options)
        else:
            task = self._factory(loop, coroutine, **options)
        _places.tasks[task] = _where()
        return task

    async def left(self) -> list[str]:
        """Each thing that is left, as a text: what it is, and where it was made."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while True:
            gc.collect()
            found = self._look()
            if not found or asyncio.get_running_loop().time() > deadline:
                return found
            await asyncio.sleep(0.1)

    def _look(self) -> list[str]:
        descriptors, mappings, children = self._before
        found = [
            f"descriptor {fd} ({target}), made at {_places.of_descriptor(fd, target)}"
            for fd, target in _descriptors().items()
            if descriptors.get(fd) != target
        ]
        for place, (name, pages) in _mappings().items():
            if place not in mappings:
                where = _places.mappings.get(pages, NOWHERE)
                found.append(f"mapping of {pages * mmap.PAGESIZE} bytes of {name}, made at {where}")
        for pid, command in _children().items():
            if pid not in children:
                shown = os.fsdecode(b" ".join(command)) or "it has ended, and nobody has waited for it"
                found.append(f"child process {pid} ({shown}), made at {_places.commands.get(command, NOWHERE)}")
        for task in asyncio.all_tasks():
            if task not in self._tasks and task is not asyncio.current_task() and not task.done():
                coroutine = _users(task)
                if coroutine is not None:
                    where = _places.tasks.get(task, NOWHERE)
                    found.append(f"a task that runs {_place(coroutine)}, made at {where}")
        return found


def _place(coroutine: Any) -> str:
    code, frame = _code(coroutine), getattr(coroutine, "cr_frame", None)
    if code is None:
        return repr(coroutine)
    line = code.co_firstlineno if frame is None else frame.f_lineno
    return f"{code.co_qualname}, at {code.co_filename}:{line}"
