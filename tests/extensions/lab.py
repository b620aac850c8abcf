"""An extension for tests: its main part answers the usual requests, its renderer part runs what a test asks it to."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from lensipc import (
    ExtensionManifest,
    Ipc,
    LensMainExtension,
    LensRendererExtension,
    OutboxFull,
    RendererHandle,
    Types,
)

MANIFEST = ExtensionManifest("lab", "1.0", main="lab:LabMain", renderer="lab:LabRenderer")


class IpcMain(Ipc.Main):
    """Main's side of the lab."""

    def __init__(self, extension: LensMainExtension) -> None:
        super().__init__(extension)
        self.heard: defaultdict[str, list[Any]] = defaultdict(list)
        self.cancelled: list[Any] = []
        self.running = 0
        self._ids = itertools.count()
        self._runs: dict[int, asyncio.Future[Any]] = {}
        self.handle("report", self._on_report)
        self.handle("echo", lambda _event, *args: args)
        self.handle("who", lambda event: (event.process, event.pid, event.frame_id, event.extension, event.channel))
        self.handle("async echo", self._on_async_echo)
        self.handle("fail", _fail)
        self.handle("unclonable", lambda _event: print)
        self.handle("sleep", self._on_sleep)
        self.handle("endless", _endless)

    async def run(self, renderer: RendererHandle, function: str, *args: Any) -> Any:
        """Run `function(ipc, *args)` of this module (or "module:function") in a renderer; its result."""
        run, future = next(self._ids), asyncio.get_running_loop().create_future()
        self._runs[run] = future
        self.broadcast("run", renderer.pid, run, function, args)
        try:
            return await future
        finally:
            del self._runs[run]

    def _on_report(self, _event: Types.IpcMainInvokeEvent, run: int, error: str | None, result: Any) -> None:
        future = self._runs.get(run)
        if future is not None and not future.done():
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(AssertionError(f"in the renderer: {error}"))

    def note(self, channel: str) -> None:
        """Listen to a channel, and keep what is heard in `heard`."""
        self.listen(channel, lambda event, *args: self.heard[channel].append((event.frame_id, *args)))

    async def _on_async_echo(self, _event: Types.IpcMainInvokeEvent, *args: Any) -> Any:
        await asyncio.sleep(0)
        return args

    async def _on_sleep(self, _event: Types.IpcMainInvokeEvent, seconds: float, name: str = "") -> str:
        self.running += 1
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        finally:
            self.running -= 1
        return name


def _endless(_event: Types.IpcMainInvokeEvent) -> Iterator[int]:
    yield from itertools.count()


def _fail(_event: Types.IpcMainInvokeEvent, kind: str, *args: Any) -> None:
    import builtins

    try:
        raise LookupError("the cause")
    except LookupError as cause:
        raise (Custom if kind == "Custom" else getattr(builtins, kind))(*args) from cause


class Custom(ValueError):  # noqa: N818
    """An exception with a constructor of its own."""

    def __init__(self, left: int, right: int) -> None:
        super().__init__(f"{left} is not {right}")


class LabMain(LensMainExtension):
    """The part in main."""

    def on_activate(self) -> None:
        IpcMain.create_instance(self)


class IpcRenderer(Ipc.Renderer):
    """A renderer's side of the lab."""

    def __init__(self, extension: LensRendererExtension) -> None:
        super().__init__(extension)
        self.heard: defaultdict[str, list[Any]] = defaultdict(list)
        self.disposers: dict[str, Any] = {}
        self.listen("run", self._on_run)

    async def _on_run(self, _event: Types.IpcRendererEvent, pid: int, run: int, function: str, args: Any) -> None:
        if pid != os.getpid():
            return
        module, _, name = function.rpartition(":")
        try:
            result = getattr(importlib.import_module(module or __name__), name)(self, *args)
            if hasattr(result, "__await__"):
                result = await result
        except Exception as error:
            await self.invoke("report", run, f"{type(error).__name__}: {error}", None)
        else:
            await self.invoke("report", run, None, result)


class LabRenderer(LensRendererExtension):
    """The part in a renderer."""

    def on_activate(self) -> None:
        IpcRenderer.create_instance(self)


# ---- what a test runs in a renderer ----


def note(ipc: IpcRenderer, channel: str, when_slow: Any = "disconnect") -> None:
    """Listen to a channel, and keep what is heard."""
    ipc.disposers[channel] = ipc.listen(
        channel,
        lambda event, *args: ipc.heard[channel].append((event.frame_id, *args, event.missed)),
        when_slow=when_slow,
    )


def heard(ipc: IpcRenderer, channel: str) -> list[Any]:
    """What `note` has kept: (frame_id of the sender, *args, missed)."""
    return ipc.heard[channel]


async def hear(ipc: IpcRenderer, channel: str, count: int) -> list[Any]:
    """The same, once there are so many."""
    while len(ipc.heard[channel]) < count:
        await asyncio.sleep(0.005)
    return ipc.heard[channel]


def dispose(ipc: IpcRenderer, channel: str) -> None:
    """Stop what `note` began."""
    ipc.disposers.pop(channel)()


async def broadcast(ipc: IpcRenderer, channel: str, count: int) -> None:
    """Broadcast 0, 1, 2, ..."""
    for number in range(count):
        ipc.broadcast(channel, number)
        if number % 100 == 99:
            await ipc.drain()


def note_sizes(ipc: IpcRenderer, channel: str) -> None:
    """Listen to arrays, and keep in `heard` how large they were."""
    ipc.listen(channel, lambda _event, array: ipc.heard[channel].append(array.nbytes))


async def ask_in_vain(ipc: IpcRenderer, seconds: float) -> int:
    """Invoke what answers late, ten times at once, until then; how often its timeout came."""
    until, late = time.monotonic() + seconds, 0

    async def ask() -> None:
        nonlocal late
        while time.monotonic() < until:
            try:
                await ipc.invoke("sleep", 5.0, timeout=0.003)
            except TimeoutError:
                late += 1

    await asyncio.gather(*(ask() for _ in range(10)))
    return late


async def invoke(ipc: IpcRenderer, channel: str, *args: Any) -> Any:
    """Invoke, and return the result."""
    return await ipc.invoke(channel, *args)


async def invoke_error(ipc: IpcRenderer, channel: str, args: Any, timeout: float | None = None) -> dict[str, Any]:
    """Invoke, and describe what it raised."""
    try:
        await ipc.invoke(channel, *args, timeout=timeout)
    except Exception as error:
        return {
            "types": [kind.__name__ for kind in type(error).__mro__],
            "text": str(error),
            "args": error.args,
            "remote_type": getattr(error, "remote_type", None),
            "remote_message": getattr(error, "remote_message", None),
            "remote_traceback": getattr(error, "remote_traceback", None),
            "cause": repr(error.__cause__),
        }
    raise AssertionError("it raised nothing")


async def invoke_many(ipc: IpcRenderer, channel: str, count: int) -> bool:
    """So many invokes in flight at once: whether each has its own result."""
    results = await asyncio.gather(*(ipc.invoke(channel, number) for number in range(count)))
    return results == [(number,) for number in range(count)]


async def ask_and_be_busy(ipc: IpcRenderer, channel: str, count: int, size: int, seconds: float) -> list[Any]:
    """So many invokes at once, whose outcomes nobody reads for a while: the bytes of each, or OutboxFull."""
    asked = [ipc.invoke(channel, size) for _ in range(count)]
    time.sleep(seconds)
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    return ["OutboxFull" if isinstance(each, OutboxFull) else len(each) for each in outcomes]  # type: ignore[arg-type]


def reply_to(ipc: IpcRenderer, channel: str, answer: str) -> None:
    """Reply on `answer` to whatever comes on `channel`."""
    ipc.listen(channel, lambda event, *args: event.reply(answer, *args))


def echo_arrays(ipc: IpcRenderer, channel: str, back: str) -> None:
    """Broadcast on `back` what comes on `channel`."""
    ipc.listen(channel, lambda _event, array: ipc.broadcast(back, array))


async def cancel_invoke(ipc: IpcRenderer, channel: str, *args: Any) -> bool:
    """Cancel a task that awaits an invoke: whether it was cancelled."""

    async def ask() -> Any:
        return await ipc.invoke(channel, *args)

    task = asyncio.create_task(ask())
    await asyncio.sleep(0.05)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


async def invoke_in_every_way(ipc: IpcRenderer) -> list[Any]:
    """The same invoke, waited for in each way that asyncio has."""
    return [
        await ipc.invoke("echo", 1),
        await asyncio.create_task(ipc.invoke("echo", 1)),
        (await asyncio.gather(ipc.invoke("echo", 1)))[0],
        await asyncio.wait_for(ipc.invoke("echo", 1), 10),
        next(iter((await asyncio.wait([asyncio.create_task(ipc.invoke("echo", 1))]))[0])).result(),
    ]


async def invoke_array(ipc: IpcRenderer, size: int) -> bool:
    """Whether a large array comes back as it went."""
    import numpy as np

    array = np.arange(size, dtype=np.uint8)
    (back,) = await ipc.invoke("echo", array)
    back[0] = 0
    return bool(np.array_equal(array, back))


async def fill_result(ipc: IpcRenderer, channel: str, *args: Any) -> bool:
    """Whether the array that comes back can be written to."""
    array = await ipc.invoke(channel, *args)
    array.fill(1)
    return bool(array.all())


async def invoke_two_sleeps(ipc: IpcRenderer) -> list[str]:
    """The names of two sleeps, in the order in which they ended."""
    order = []

    async def ask(seconds: float, name: str) -> None:
        order.append(await ipc.invoke("sleep", seconds, name))

    await asyncio.gather(ask(0.2, "long"), ask(0.01, "short"))
    return order


async def broadcast_and_die(ipc: IpcRenderer, channel: str, count: int) -> None:
    """Broadcast 0, 1, 2, ... and be killed at once."""
    for number in range(count):
        ipc.broadcast(channel, number)
    os.kill(os.getpid(), signal.SIGKILL)


async def invoke_until_gone(ipc: IpcRenderer) -> None:
    """Keep invoking as long as main lives."""
    while True:
        await ipc.invoke("echo", "still there?")


def block(_ipc: IpcRenderer, seconds: float) -> None:
    """Block the event loop, as no good extension does."""
    time.sleep(seconds)


def active_extensions(_ipc: IpcRenderer) -> list[str]:
    """The ids of the extensions that have an instance in this process."""
    return sorted(instance.extension.id for instance in Ipc._Ipc._instances.values())


def descriptors(_ipc: IpcRenderer) -> list[str]:
    """What this process's descriptors are."""
    found = []
    for fd in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{fd}"))  # noqa: PTH115
    return found


async def take(ipc: IpcRenderer, channel: str) -> int:
    """Invoke, and return only how long the result is."""
    return len(await ipc.invoke(channel))


async def count_heard(ipc: IpcRenderer, channel: str, count: int) -> int:
    """Wait until `note` has kept so many; return only how many."""
    return len(await hear(ipc, channel, count))


def leave_a_child(_ipc: IpcRenderer) -> int:
    """Fork a child that holds on to all descriptors and does nothing; its pid."""
    import time

    child = os.fork()
    if not child:
        time.sleep(60)
        os._exit(0)
    return child


def note_count(ipc: IpcRenderer, channel: str) -> None:
    """Listen to a channel, and keep only how often it was heard."""
    ipc.listen(channel, lambda *_: ipc.heard[channel].append(None))


async def broadcast_large(ipc: IpcRenderer, channel: str, count: int) -> None:
    """Broadcast 4 KiB so many times, draining now and then."""
    for number in range(count):
        ipc.broadcast(channel, bytes(4096))
        if number % 10 == 9:
            await ipc.drain()


async def wait_count(ipc: IpcRenderer, channel: str, count: int) -> None:
    """Wait until it was heard so often."""
    while len(ipc.heard[channel]) < count:
        await asyncio.sleep(0.005)


def core_of(ipc: Ipc.Renderer) -> Any:
    """What is behind a renderer's part: its port's protocol does not say."""
    port: Any = ipc._port
    return port.core


async def cancel_unstarted(ipc: IpcRenderer, channel: str, *args: Any) -> int:
    """Cancel a task before it has begun to await an invoke: how many invokes are pending then."""
    before = len(core_of(ipc).pending_invokes)
    task = asyncio.create_task(ipc.invoke(channel, *args))
    task.cancel()
    await asyncio.wait([task])
    return len(core_of(ipc).pending_invokes) - before


def descriptors_of_a_child(_ipc: IpcRenderer) -> list[str]:
    """What the descriptors of a program are that this process starts."""
    import subprocess
    import sys

    code = "import os; print(*[os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')[:-1]], sep='|')"
    return subprocess.run(
        [sys.executable, "-c", code], close_fds=False, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split("|")


def listen_to(ipc: IpcRenderer, channel: str, function: str) -> None:
    """Listen with "module:function"."""
    module, _, name = function.partition(":")
    ipc.listen(channel, getattr(importlib.import_module(module), name))


async def invoke_and_forget(ipc: IpcRenderer, channel: str, *args: Any) -> None:
    """Invoke twice, once in a task, and wait for neither."""

    async def wait() -> None:
        await ipc.invoke(channel, *args)

    ipc.disposers[channel] = ipc.invoke(channel, *args), asyncio.create_task(wait())


async def outcome(ipc: IpcRenderer, channel: str) -> str:
    """Invoke, and return what that came to in words."""
    try:
        return repr(await ipc.invoke(channel, timeout=60))
    except Exception as error:
        return repr(error)


async def count_refused(ipc: IpcRenderer, channel: str, seconds: float, count: int) -> int:
    """So many invokes at once: how many OutboxFull tells that they are too many."""
    outcomes = await asyncio.gather(*(ipc.invoke(channel, seconds) for _ in range(count)), return_exceptions=True)
    return sum(isinstance(outcome, OutboxFull) for outcome in outcomes)


async def invoke_and_be_busy(ipc: IpcRenderer, channel: str, *args: Any) -> list[Any]:
    """Several invokes, whose timeouts pass while this process is busy: what each comes to."""
    ipc.listen("busy", lambda _event: None)
    for _ in range(1000):
        ipc.broadcast("busy")  # these come before the answers
    asked = [ipc.invoke(channel, *args, timeout=0.1) for _ in range(20)]
    time.sleep(0.4)
    return await asyncio.gather(*asked, return_exceptions=True)


def missed(ipc: IpcRenderer, channel: str) -> int:
    """How many events main has dropped before those that `note` has kept."""
    return sum(entry[-1] for entry in ipc.heard[channel])


async def broadcast_and_pause(ipc: IpcRenderer, channel: str, size: int) -> None:
    """Broadcast so many bytes, and do nothing for a moment."""
    ipc.broadcast(channel, bytes(size))
    await asyncio.sleep(0.1)


def hear_twice(ipc: IpcRenderer, channel: str) -> None:
    """Two listeners, of which the first disposes of the second."""

    def hear_first(*_: Any) -> None:
        ipc.heard[channel].append("first")
        second()

    first = ipc.listen(channel, hear_first)
    second = ipc.listen(channel, lambda *_: ipc.heard[channel].append("second"))
    ipc.disposers[channel] = first


def leave_a_child_with_the_socket(ipc: IpcRenderer) -> int:
    """Start a program that has this process's end of the connection open, too; its pid."""
    import subprocess

    return subprocess.Popen(["sleep", "60"], pass_fds=[core_of(ipc).sock.fileno()]).pid
