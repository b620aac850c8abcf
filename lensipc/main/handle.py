# SPDX-License-Identifier: MIT
"""A renderer as the host sees it, whichever process it is in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ..transport import handshake

if TYPE_CHECKING:
    import asyncio

    from .connection import RendererConnection
    from .process import MainProcess
    from .run import Run


class RendererHandle:
    """A renderer, as main sees it.

    With `spawn_renderer(restart="on-failure")` the renderer may be started again. The handle stays the same then, and
    speaks of the newest process.

    Attributes:
        name: its name; empty: it has none.
        extensions: the ids of the extensions that it may speak for; None: all.
        restarts: how many times it was started again.
    """

    _run: Run

    def __init__(self, main: MainProcess, name: str, extensions: frozenset[str] | None) -> None:
        self.name: str = name
        self.extensions: frozenset[str] | None = extensions
        self.restarts: int = 0
        self._main = main
        self._keeper: asyncio.Task[None] | None = None  # starts it again

    @property
    def pid(self) -> int:
        """Its process id; 0: the process is in another PID namespace, and has no id here."""
        return self._run.connection.pid

    @property
    def frame_id(self) -> int:
        """Its number, which no other renderer ever gets. A renderer that is started again has a new one."""
        return self._run.connection.frame_id

    @property
    def status(self) -> int | None:
        """The exit status of its process, or -N after signal N: -9 is SIGKILL.

        None: the process runs, or main did not start it, or the status is lost. It is lost if something else in this
        program waits for all child processes (`os.waitpid(-1, ...)`) or ignores SIGCHLD.
        """
        return self._run.connection.exit_status

    @property
    def state(self) -> Literal["running", "restarting", "ended"]:
        """ "running": its process runs. "restarting": it has failed, and is started again soon. "ended": for good."""
        if self._run.alive:
            return "running"
        return "ended" if self._keeping is None else "restarting"

    @property
    def alive(self) -> bool:
        """Whether its process still runs."""
        return self._run.alive

    def kill(self) -> None:
        """Kill the process with SIGKILL; it is not started again. `wait` returns when it has ended.

        Raises:
            PermissionError: main did not start the process, and cannot be certain which process it is, or may not
                signal it.
        """
        self._stop()
        self._run.kill()

    async def close(self) -> None:
        """Deactivate the renderer's parts and end it. A renderer that main started is killed if it does not exit.

        The parts have 10 s to deactivate, and the process has 3 s to exit. It is not started again. Closing goes on
        even if the task that awaits it is cancelled. A handler may close the renderer that invoked the handler.
        """
        import asyncio

        self._main._check_thread("RendererHandle.close")
        self._connection.spare(asyncio.current_task())
        await self._main._lifecycle.shielded(self._close(handshake.CLOSED_BY_HOST))

    async def wait(self) -> int | None:
        """Wait until the process has ended for good, and return its exit status, as `status`."""
        import asyncio

        while (keeper := self._keeping) is not None:
            await asyncio.wait([keeper])
        return await self._run.wait()

    @property
    def _connection(self) -> RendererConnection:
        return self._run.connection

    @property
    def _keeping(self) -> asyncio.Task[None] | None:
        """What starts it again, as long as that goes on."""
        return None if self._keeper is None or self._keeper.done() else self._keeper

    def _stop(self) -> None:
        """Start it no more. Any thread may call this, because any thread may kill."""
        self._connection.asked = True
        if self._keeping is not None:
            self._main._loop.call_soon_threadsafe(self._end_keeper)

    def _end_keeper(self) -> None:
        if (keeper := self._keeping) is not None:
            keeper.cancel()
            self._run.kill()  # by now this may be a later run than the one that was killed at first

    async def _close(self, reason: str) -> None:
        import asyncio

        if (keeper := self._keeping) is not None:
            self._connection.asked = True
            keeper.cancel()
            await asyncio.wait([keeper])
        await self._run.close(reason)

    def __repr__(self) -> str:
        name = f" name={self.name!r}" if self.name else ""
        return f"<{type(self).__name__}{name} frame_id={self.frame_id} pid={self.pid} {self.state}>"
