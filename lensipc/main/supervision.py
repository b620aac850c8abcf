# SPDX-License-Identifier: MIT
"""Starts renderers, starts those again that have failed, and tells the host who comes and goes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

from ..errors import PeerGone
from ..log import log, log_raised
from ..runtime.closing import to_the_end
from ..runtime.driver import is_awaitable
from ..transport import handshake
from ..user_code import ends_process
from . import spawn
from .acceptor import hear_hello
from .handle import RendererHandle
from .logs import LogReader
from .run import Run
from .spawn import Options

if TYPE_CHECKING:
    import asyncio

    from .process import MainProcess

# How long to wait before a renderer that has failed is started again (seconds): at first, and then twice as long each
# time, up to the longest.
FIRST_DELAY: Final = 0.1
LONGEST_DELAY: Final = 10.0
# A renderer that fails so many times, one after another, is not started again.
MOST_FAILURES: Final = 8
# Failures of a renderer that has run for so long before do not count (seconds).
STEADY: Final = 60.0

AttachedHook = Callable[[RendererHandle], Any]
GoneHook = Callable[[RendererHandle, str], Any]


class Supervision:
    """The renderers that a host has started, and its two hooks.

    Args:
        main: the host.
        on_attached: called with a renderer that is attached.
        on_gone: called with a renderer that was attached and is gone, and with the reason.
    """

    def __init__(self, main: MainProcess, on_attached: AttachedHook | None, on_gone: GoneHook | None) -> None:
        self._main = main
        self._on_attached = on_attached
        self._on_gone = on_gone
        self._tasks: set[asyncio.Task[Any]] = set()  # that start renderers, or keep them running
        self._telling: set[asyncio.Task[Any]] = set()

    # ---- starting ----

    async def spawn(self, options: Options) -> RendererHandle:
        """Start a renderer, and keep it running if the options say so."""
        import asyncio

        handle = RendererHandle(self._main, options.name, options.extensions)
        starting = self._begin(self._start(options, handle), self._tasks)
        try:
            await starting
        except asyncio.CancelledError:
            if starting.done() and not starting.cancelled() and starting.exception() is None:
                # The renderer has been started by now, and nobody will have its handle.
                await to_the_end(handle._close(handshake.CLOSED_BY_HOST))
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise PeerGone("the MainProcess was exited while the renderer was being started") from None
        if options.restart:
            handle._keeper = self._begin(self._keep(options, handle), self._tasks)
        return handle

    def _begin(self, work: Any, tasks: set[asyncio.Task[Any]]) -> asyncio.Task[Any]:
        task = self._main._loop.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    async def end(self) -> None:
        """Start nothing more, and end what is being started."""
        import asyncio

        for task in [*self._tasks, *self._telling]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _start(self, options: Options, handle: RendererHandle) -> None:
        """Start a process, and activate all enabled extensions in it."""
        main = self._main
        poller = main._core.poller
        process, ours, pipe = spawn.start(options)
        name = f" {options.name!r}" if options.name else ""
        who, wait = f"the renderer{name} (pid {process.pid})", handshake.SPAWN_WAIT
        logs: LogReader | None = None
        try:
            if pipe >= 0:
                logs = LogReader(poller, pipe, who, options.name)
            try:
                wakeup, _ = await hear_hello(ours, poller, main._loop, None, wait)
            except BaseException as error:
                ours.close()
                if isinstance(error, (PeerGone, TimeoutError)):
                    silence = "closed its socket" if isinstance(error, PeerGone) else f"said nothing in {wait:g} s"
                    raise type(error)(await spawn.before_attached(process, who, silence)) from None
                raise
            run = main._attach(ours, process.pid, wakeup, options, handle, process=process, logs=logs)
        except BaseException:
            process.end()
            if logs is not None:
                logs.finish()
            raise
        if logs is not None:
            logs.who = run.connection.who
        try:
            await main._lifecycle.bring_up(run.connection)
        except BaseException as error:
            if isinstance(error, Exception):
                main._core.disconnect(run.connection, str(error))
            run.kill()
            await to_the_end(run.wait())
            raise
        self.attached(run)

    # ---- starting again ----

    async def _keep(self, options: Options, handle: RendererHandle) -> None:
        """Start the renderer again each time that it has failed, until it has failed too often."""
        import asyncio

        loop, failures = self._main._loop, 0
        while True:
            run, began = handle._run, loop.time()
            await run.wait()
            if not run.failed:
                return
            if loop.time() - began >= STEADY:
                failures = 0
            while True:
                failures += 1
                who = run.connection.who
                if failures >= MOST_FAILURES:
                    log.error("%s is not started again: it has failed %d times, one after another", who, failures)
                    return
                delay = min(FIRST_DELAY * 2 ** (failures - 1), LONGEST_DELAY)
                why = "%s has failed (%d of %d): it is started again in %g s"
                log.warning(why, who, failures, MOST_FAILURES, delay)
                await asyncio.sleep(delay)
                try:
                    await self._start(options, handle)
                except Exception as error:
                    log.error("%s could not be started again: %s", who, error)
                else:
                    handle.restarts += 1
                    break

    # ---- who comes and goes ----

    def attached(self, run: Run) -> None:
        """All that is enabled is active in the renderer: tell the host, now and when the renderer is gone."""
        if self._on_attached is not None:
            self._tell("on_renderer_attached", self._on_attached, run.handle)
        if self._on_gone is not None:
            run.connection.on_closed.append(lambda: self._gone(run))

    def _gone(self, run: Run) -> None:
        if self._on_gone is not None and not self._main._closing.begun:
            self._tell("on_renderer_gone", self._on_gone, run.handle, self._reason(run))

    async def _reason(self, run: Run) -> str:
        how = await run.fate() if run.process is not None else None
        return how or run.connection.reason

    def _tell(self, what: str, hook: Callable[..., Any], handle: RendererHandle, *reason: Awaitable[str]) -> None:
        with self._main._closing.callbacks():
            self._begin(self._call(what, hook, handle, *reason), self._telling)

    async def _call(self, what: str, hook: Callable[..., Any], handle: RendererHandle, *reason: Awaitable[str]) -> None:
        """Call a hook of the host's, and await what it returns. What it raises is logged."""
        import asyncio

        try:
            result = hook(handle, *[await each for each in reason])
            if is_awaitable(result):
                await result
        except BaseException as error:
            task = asyncio.current_task()
            cancelled = isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling()
            if cancelled or ends_process(error):
                raise
            log_raised(error, "%s of the host raised", what)
