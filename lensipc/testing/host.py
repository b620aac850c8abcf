# SPDX-License-Identifier: MIT
"""What a test talks to: a host with extensions, and its renderers."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import shutil
import signal
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, TypeVar

from ..errors import ActivationError, PeerGone
from ..extension import ExtensionManifest
from ..log import log
from ..main.handle import RendererHandle
from ..main.process import MainProcess
from ..main.run import Run
from ..runtime.connection import CLOSED
from ..runtime.protocol import ALL
from . import parts
from .in_process import RendererHere
from .leaks import Watch

# How long a renderer may take to answer (seconds), unless the test says otherwise.
ANSWER_WAIT: Final = 10.0

Result = TypeVar("Result")


class NeedsProcesses(RuntimeError):  # noqa: N818
    """A renderer in this process cannot be killed, stopped or slowed down: the test would be, too."""


class ExtensionErrors(AssertionError):  # noqa: N818
    """A listener, a disposer or a part's method raised while the test ran, or a renderer died; the text has each."""


class LeaksFound(AssertionError):  # noqa: N818
    """Something is still open that the test or an extension has opened; the text names each and where it was made."""


class _Errors(logging.Handler):
    """Keeps what lensipc logs as errors, of main and of renderers."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "on_activate of extension" not in record.getMessage():  # install or renderer() raises those
            self.texts.append(self.format(record))


class Renderer:
    """A renderer of a test's host: `await host.renderer()` gives one.

    Attributes:
        number: the test's number for it.
        handle: its RendererHandle.
        pid, frame_id: as the handle's. In the test's own process all renderers have one pid.
    """

    pid: int
    frame_id: int

    def __init__(self, host: Host, number: int, handle: RendererHandle, here: RendererHere | None) -> None:
        self.number = number
        self.handle = handle
        self.pid, self.frame_id = handle.pid, handle.frame_id
        self._host = host
        self._here = here
        self._stopped = False
        self._slow = False

    @property
    def connected(self) -> bool:
        """Whether it is connected to main."""
        return self.handle._connection.state is not CLOSED

    async def ask(self, function: Callable[..., Any], *args: Any, timeout: float = ANSWER_WAIT) -> Any:
        """Call the function in this renderer, and return what it returns; `Host.ask` says more."""
        what = getattr(function, "__qualname__", repr(function))
        code = getattr(function, "__code__", None)
        if code is not None:
            what = f"{what} ({code.co_filename}:{code.co_firstlineno})"
        return await self._do("call", parts.packed(function, args), timeout, what)

    async def _do(self, method: str, payload: bytes, timeout: float, what: str) -> Any:
        return await self._host._asking().ask(self.frame_id, method, payload, timeout, what)

    async def _call(self, method: str, *args: Any, timeout: float = ANSWER_WAIT) -> Any:
        return await self._do(method, pickle.dumps(args), timeout, f"{method}{args}")

    async def invoke(self, channel: str, *args: Any, timeout: float = ANSWER_WAIT, extension: str | None = None) -> Any:
        """Invoke main's handler as the extension's part in this renderer would; return or raise the outcome.

        Args:
            channel, args: as `Ipc.Renderer.invoke` takes them.
            timeout: seconds to wait for the outcome.
            extension: whose channel it is; None: that of the host's one extension.
        """
        own = self._host._one(extension)
        return await self._call("invoke", own, channel, args, timeout, timeout=timeout + ANSWER_WAIT)

    async def broadcast(self, channel: str, *args: Any, extension: str | None = None) -> None:
        """Broadcast as the extension's part in this renderer would. Main has heard it when this returns."""
        await self._call("broadcast", self._host._one(extension), channel, args)

    async def hear(self, channel: str, *, extension: str | None = None) -> None:
        """Keep the arguments of each event of the channel that comes to this renderer from now on."""
        await self._call("hear", self._host._one(extension), channel)

    async def heard(self, channel: str, *, extension: str | None = None) -> list[tuple[Any, ...]]:
        """The arguments of each event of the channel since `hear`. `await host.settle()` comes first."""
        found: list[tuple[Any, ...]] = await self._call("heard", self._host._one(extension), channel)
        return found

    # ---- faults ----

    async def kill(self) -> None:
        """Kill its process with SIGKILL; return when main has noticed. NeedsProcesses: it has no process of its own."""
        self._needs_process("kill")
        self.handle.kill()
        await self.handle.wait()
        await self._gone()

    async def stop(self) -> None:
        """Stop its process with SIGSTOP, until `cont`. NeedsProcesses: it has no process of its own."""
        self._needs_process("stop")
        self._stopped = True
        os.kill(self.pid, signal.SIGSTOP)
        stat = Path(f"/proc/{self.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] not in "tTZ":
            await asyncio.sleep(0.001)

    async def cont(self) -> None:
        """Let its process go on after `stop`."""
        if self._stopped and self.handle.alive:
            os.kill(self.pid, signal.SIGCONT)
        self._stopped = False

    async def slow(self, seconds: float) -> None:
        """Keep its process busy for so long in each turn of its loop; 0: no more.

        NeedsProcesses: it has no process of its own.
        """
        self._needs_process("slow")
        self._slow = seconds > 0
        await self._call("be_slow", seconds)

    async def drop(self) -> None:
        """Have main drop its connection, as it does with one that breaks the protocol. It meets PeerGone."""
        self.handle._connection.asked = True
        self._host.main._core.disconnect(self.handle._connection, "the test dropped it")
        if self._here is None:
            await self.handle.wait()
        await self._gone()

    async def close(self) -> None:
        """End it in good order: its parts are deactivated."""
        if self._here is not None:
            await self._here.leave()
        else:
            await self.handle.close()
        await self._gone()

    async def _gone(self) -> None:
        while self.connected:
            await asyncio.sleep(0.001)

    def _needs_process(self, fault: str) -> None:
        if self._here is not None:
            raise NeedsProcesses(
                f"{fault}() of a renderer that runs in the test's own process would be the test's own: "
                "it needs lensipc_host(..., in_process=False)"
            )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.number} frame_id={self.frame_id} pid={self.pid}>"


class Host:
    """A host with extensions, for one test: `async with` it on asyncio, or `with` it where there is no loop.

    When it is left after a test that has not failed, it raises what went wrong besides: ExtensionErrors, LeaksFound.

    Args:
        manifests: the extensions to install.
        in_process: False: each renderer has a process of its own, as in an application. True: they run on this loop, in
            this process: quicker, and a debugger stops in them.
        settings: for `install`, by the extension's id.
        leaks: whether to look for what is left open, here and in renderers.
        options: MainProcess's arguments.

    Attributes:
        main: the MainProcess.
    """

    main: MainProcess

    def __init__(
        self,
        *manifests: ExtensionManifest,
        in_process: bool = False,
        settings: Mapping[str, Any] | None = None,
        leaks: bool = True,
        **options: Any,
    ) -> None:
        for each in manifests:
            if not isinstance(each, ExtensionManifest):
                raise TypeError(f"a host of a test is made for manifests, not for {type(each).__name__}")
        self._manifests = manifests
        self._in_process = in_process
        self._settings = settings or {}
        self._leaks = leaks
        self._options = options
        self._renderers: dict[int, Renderer] = {}
        self._all: list[Renderer] = []
        self._runs: list[Run] = []  # of all renderers that main has started, also by spawn_renderer or again
        self._errors = _Errors()
        self._undo = AsyncExitStack()
        self._runner: asyncio.Runner | None = None
        self._watch: Watch | None = None

    # ---- life ----

    async def __aenter__(self) -> Host:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise RuntimeError(
                "main runs on asyncio, and this test runs on another loop: with anyio, parametrize its fixture "
                "anyio_backend with 'asyncio'"
            ) from None
        try:
            await self._enter()
        except BaseException:
            await self._undo.aclose()
            self._end_watch()
            raise
        return self

    async def _enter(self) -> None:
        if self._leaks:
            self._watch = Watch()
        log.addHandler(self._errors)
        self._undo.callback(log.removeHandler, self._errors)
        if self._in_process and "path" not in self._options:
            folder = tempfile.mkdtemp(prefix="lensipc-test-")
            self._undo.callback(shutil.rmtree, folder, ignore_errors=True)
            self._options["path"] = os.path.join(folder, "main.sock")  # noqa: PTH118
        self.main = await self._undo.enter_async_context(
            MainProcess(**self._options | {"on_renderer_attached": self._attached})
        )
        self._undo.push_async_callback(self._end_renderers)
        settings = {
            "process": os.getpid(),
            "level": logging.getLogger().getEffectiveLevel(),
            "lensipc_level": log.level,
        }
        await self.main.install(parts.MANIFEST, settings=settings)
        for manifest in self._manifests:
            await self.main.install(manifest, settings=self._settings.get(manifest.id))

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        __tracebackhide__ = True  # pytest shows the test's own line
        amiss: list[Exception] = []
        try:
            if error is None and not self.main._core.poller.closed:
                amiss += await self._look()
        finally:
            try:
                await self._undo.aclose()
                if error is None and self._watch is not None:
                    left = await self._watch.left()
                    if left:
                        amiss.append(_leaks(f"the test's process (pid {os.getpid()})", left))
            finally:
                self._end_watch()
        if error is None and self._errors.texts:
            what = "an extension raised, or a renderer died, and the test did not take_errors():\n\n" + "\n\n".join(
                self._errors.texts
            )
            amiss.insert(0, ExtensionErrors(what))
        if len(amiss) > 1:
            raise ExceptionGroup("what the test's host found amiss", amiss)
        if amiss:
            raise amiss[0]

    def _end_watch(self) -> None:
        if self._watch is not None:
            self._watch.end()
            self._watch = None

    async def _look(self) -> list[Exception]:
        """Deactivate the extensions, and look what is left in each renderer."""
        for each in self._all:
            await each.cont()
            if each._slow and each.connected:
                await each.slow(0)
        for manifest in reversed(self._manifests):
            if manifest.id in self.main._lifecycle._installed:
                await self.main.uninstall(manifest.id)
        amiss: list[Exception] = []
        for run in [each for each in self._runs if each.connection.state is CLOSED]:
            self._ended(run, await run.fate())
        for each in self._all:
            if each.connected and self._leaks and each._here is None:
                left = await each._call("left")
                if left:
                    amiss.append(_leaks(f"renderer {each.frame_id} (pid {each.pid})", left))
        return amiss

    def _attached(self, handle: RendererHandle) -> Any:
        if handle._run.process is not None:
            self._runs.append(handle._run)
        hook = self._options.get("on_renderer_attached")
        return None if hook is None else hook(handle)

    def _ended(self, run: Run, how: str | None) -> None:
        self._runs.remove(run)
        if not run.connection.asked:
            self._errors.texts.append(f"{run.connection.who} {how}")

    async def _end_renderers(self) -> None:
        for each in self._all:
            await each.cont()
            if each._here is not None:
                await each._here.leave()

    # ---- without a loop ----

    def __enter__(self) -> Host:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise RuntimeError("this test runs on a loop: `async with` its host, not `with`")
        self._runner = asyncio.Runner()
        try:
            self._runner.run(self.__aenter__())
        except BaseException:
            self._runner.close()
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        __tracebackhide__ = True  # pytest shows the test's own line
        assert self._runner is not None
        with self._runner:
            try:
                self._runner.run(self.__aexit__(kind, error, trace))
            except (LeaksFound, ExtensionErrors, ExceptionGroup) as found:
                raise found.with_traceback(None) from None  # the loop's frames say nothing

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Where the host was entered by `with`: run a coroutine on its loop, `host.run(host.renderer())`."""
        __tracebackhide__ = True
        if self._runner is None:
            raise RuntimeError("run() is for a host that was entered by `with`: here, await the coroutine")
        return self._runner.run(coroutine)

    # ---- renderers ----

    async def renderer(self, number: int = 1) -> Renderer:
        """The test's renderer of this number: the first call starts it, and so does one after it has gone.

        Raises:
            ActivationError: a part in it could not be activated.
        """
        known = self._renderers.get(number)
        if known is not None and known.connected:
            return known
        here = None
        if self._in_process:
            here = RendererHere(Path(self._options["path"]))
            try:
                entered = await here.start()
            except PeerGone as error:
                cause = error.__cause__
                raise (
                    cause if isinstance(cause, ActivationError) else ActivationError(f"{error}: {cause!r}")
                ) from cause
            (handle,) = (each for each in self.main.renderers if each.frame_id == entered.frame_id)
        else:
            handle = await self.main.spawn_renderer()
        made = self._renderers[number] = Renderer(self, number, handle, here)
        self._all.append(made)
        return made

    async def ask(
        self, renderer: Renderer, function: Callable[..., Any], *args: Any, timeout: float = ANSWER_WAIT
    ) -> Any:
        """Call a function in a renderer's process, on its loop, and return what it returns or raise what it raises.

        The function may be a lambda, a nested one or async. It is sent by value, and what it uses by name, as
        cloudpickle does it; its arguments and its result are pickled, also in this process.

        Args:
            renderer: where to call it.
            function, args: what to call.
            timeout: how long to wait for the answer (seconds).

        Raises:
            TimeoutError: there was no answer in time; it names the function.
            PeerGone: the renderer has gone; it says how.
        """
        return await renderer.ask(function, *args, timeout=timeout)

    async def settle(self, rounds: int = 2) -> None:
        """Wait until what was sent before has been heard, in main and in all renderers.

        What listeners send in answer takes one more round each. Async listeners may still run.
        """
        for _ in range(rounds):
            there = [each for each in self._all if each.connected and not each._stopped]
            await asyncio.gather(*(each._call("nothing") for each in there))
            await asyncio.sleep(0)

    def hear(self, channel: str, *, extension: str | None = None) -> list[tuple[Any, ...]]:
        """A list that gets the arguments of each event of the channel that main hears from now on."""
        heard: list[tuple[Any, ...]] = []
        port = self.main._core.port(self._one(extension))
        port.table.listen(channel, lambda _event, *args: heard.append(args))
        return heard

    def broadcast(self, channel: str, *args: Any, extension: str | None = None) -> None:
        """Broadcast as the extension's part in main would."""
        self.main._core.port(self._one(extension)).send(ALL, channel, args)

    def take_errors(self) -> list[str]:
        """The errors that lensipc has logged so far, of main and of renderers; they no longer fail the test.

        And how renderers have died by themselves, if main has noticed.
        """
        for run in [each for each in self._runs if not each.alive]:
            assert run.process is not None
            self._ended(run, run.process.fate)
        taken, self._errors.texts = self._errors.texts, []
        return taken

    def _one(self, extension: str | None) -> str:
        if extension is not None:
            return extension
        if len(self._manifests) != 1:
            raise TypeError(f"this host has {len(self._manifests)} extensions: say which, extension=...")
        return self._manifests[0].id

    def _asking(self) -> parts.InMain:
        found = self.main._lifecycle._installed[parts.ID].part
        assert isinstance(found, parts.InMain)
        return found


def _leaks(where: str, left: list[str]) -> LeaksFound:
    return LeaksFound(f"{where} has left open:\n" + "\n".join(f"  {each}" for each in left))
