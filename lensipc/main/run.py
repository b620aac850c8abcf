# SPDX-License-Identifier: MIT
"""One run of a renderer: a connection and its process, which main watches until the process has ended."""

from __future__ import annotations

import errno
import logging
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ..log import log
from ..runtime.connection import CLOSED
from ..transport import handshake
from . import spawn
from .acceptor import Visitor
from .connection import RendererConnection

if TYPE_CHECKING:
    import asyncio

    from .handle import RendererHandle
    from .logs import LogReader
    from .process import MainProcess

# How long a renderer may take to exit before it is killed (seconds).
EXIT_WAIT: Final = 3.0
# How often main looks whether the process has exited, where the system gives no pidfd (seconds).
EXIT_LOOK: Final = 0.02


class Run:
    """One run of a renderer. A renderer that is started again has another run, and the same handle.

    Attributes:
        handle: what the host has of the renderer.
        connection: main's end of the line to it.
        process: the process, if main has started it.
    """

    def __init__(
        self,
        main: MainProcess,
        handle: RendererHandle,
        connection: RendererConnection,
        process: spawn.Child | None,
        visitor: Visitor | None,
        logs: LogReader | None = None,
    ) -> None:
        self.handle = handle
        self.connection = connection
        self.process = process
        self._main = main
        self._logs = logs
        self._exited: asyncio.Future[None] = main._loop.create_future()
        # By the time that a pid is used, another process may have it. A pidfd always means the same process.
        if process is not None:
            self._pidfd = process.pidfd  # `process` closes it
        else:
            assert visitor is not None
            self._pidfd, self._certain = visitor.pidfd, visitor.certain
        if self._pidfd >= 0:
            main._loop.add_reader(self._pidfd, self._on_exit)
        if visitor is not None:
            visitor.pidfd = -1
        handle._run = self

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return not self._exited.done()

    def kill(self) -> None:
        """Kill the process with SIGKILL. PermissionError: as RendererHandle.kill."""
        self.connection.asked = True
        if not self.alive:
            return
        if self.process is not None:
            self.process.kill()
            return
        pid = self.connection.pid
        with suppress(ProcessLookupError):
            if self._certain and pid:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            else:
                why = "this kernel does not say which process did" if pid else "it is in another PID namespace"
                raise PermissionError(
                    errno.EPERM,
                    f"{self.connection.who} is not main's to kill: it connected by the path, and {why}; close() "
                    "disconnects it, and main can kill renderers that spawn_renderer() starts",
                )

    async def close(self, reason: str) -> None:
        """Deactivate the renderer's parts and end it. The renderer is told the reason."""
        import asyncio

        self.connection.asked = True
        if self.connection.state is not CLOSED:
            await self._main._lifecycle.take_down(self.connection, reason)
            handshake.say_goodbye(self.connection.sock, reason)
            self._main._core.detach(self.connection, "main closed it")
        if self.process is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(EXIT_WAIT):
                    await self.wait()
            self.kill()
            await self._exited

    async def wait(self) -> int | None:
        """Wait until the process has ended, and return its exit status. None: it is not known."""
        import asyncio

        await asyncio.shield(self._exited)
        return self.connection.exit_status

    async def fate(self) -> str | None:
        """How a process that main started has ended, as a text that follows its name; None: this program closed it."""
        import asyncio

        assert self.process is not None
        if not self.connection.ended:  # main has closed the connection
            return None if self.connection.asked else f"was disconnected: {self.connection.reason}"
        with suppress(TimeoutError):
            async with asyncio.timeout(spawn.END_WAIT):  # wait_for of Python 3.11 may lose a cancellation
                await self.wait()
            return self.process.fate
        return "closed its connection"

    @property
    def failed(self) -> bool:
        """Whether a process that main started, and that has ended, has done so in another way than a good one."""
        return not self.connection.asked and (self.connection.exit_status != 0 or not self.connection.ended)

    def _on_exit(self) -> None:
        self.release()
        # Its socket's end of file says the same, unless a child of the process still has the socket.
        self.connection.end()
        self._main._core.poller.wake()
        if self.process is not None:
            by_itself = self.connection.ended and not self.connection.asked
            level = logging.WARNING if by_itself and self.process.status else logging.INFO
            log.log(level, "%s %s", self.connection.who, self.process.fate)

    def on_closed(self) -> None:
        """The connection is closed: stop watching the process, or see that it ends if main has started it."""
        if self.process is None or not self.alive:
            self.release()
        else:
            self._main._core.poller.call_later(EXIT_WAIT, self.kill_leftover)  # unless the process exits by itself
            if self._pidfd < 0:
                self._look_for_exit()

    def kill_leftover(self) -> None:
        """Kill a process whose connection is closed and that has not exited in time."""
        if self.process is not None and self.alive:
            self.process.kill()

    def _look_for_exit(self) -> None:
        """Without a pidfd: look again and again whether a process that main started has ended. Its connection has."""
        assert self.process is not None
        if not self.process.has_ended():
            self._main._loop.call_later(EXIT_LOOK, self._look_for_exit)
        else:
            self._on_exit()

    def release(self) -> None:
        """Stop watching the process."""
        if not self._exited.done():
            if self._pidfd >= 0:
                self._main._loop.remove_reader(self._pidfd)
            if self.process is not None:
                self.process.reap()  # the process has exited, so this does not block
                self.connection.exit_status = self.process.status
                if self._logs is not None:
                    self._logs.finish()
            elif self._pidfd >= 0:
                os.close(self._pidfd)
            self._exited.set_result(None)
        if self.connection.state is CLOSED:
            self._main._runs.pop(self.connection.frame_id, None)
