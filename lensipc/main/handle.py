# SPDX-License-Identifier: MIT
"""A renderer as the host sees it. Main watches the renderer's process until the process has ended."""

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

    from .process import MainProcess

# How long a renderer may take to exit before it is killed (seconds).
EXIT_WAIT: Final = 3.0
# How often main looks whether the process has exited, where the system gives no pidfd (seconds).
EXIT_LOOK: Final = 0.02


class RendererHandle:
    """A renderer, as main sees it.

    Attributes:
        pid: its process id; 0: the process is in another PID namespace, and has no id here.
        frame_id: its number, which no other renderer ever gets.
        extensions: the ids of the extensions that it may speak for; None: all.
    """

    def __init__(
        self,
        main: MainProcess,
        connection: RendererConnection,
        process: spawn.Child | None,
        visitor: Visitor | None,
    ) -> None:
        self.pid: int = connection.pid
        self.frame_id: int = connection.frame_id
        self.extensions: frozenset[str] | None = connection.grants
        self._main = main
        self._connection = connection
        self._process = process
        self._asked = False  # whether this program has asked it to end
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

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return not self._exited.done()

    def kill(self) -> None:
        """Kill the process with SIGKILL. `wait` returns when the process has ended.

        Raises:
            PermissionError: main did not start the process, and cannot be certain which process it is, or may not
                signal it.
        """
        self._asked = True
        if not self.alive:
            return
        if self._process is not None:
            self._process.kill()
            return
        with suppress(ProcessLookupError):
            if self._certain and self.pid:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            else:
                why = "this kernel does not say which process did" if self.pid else "it is in another PID namespace"
                raise PermissionError(
                    errno.EPERM,
                    f"renderer {self.frame_id} (pid {self.pid}) is not main's to kill: it connected by the path, and "
                    f"{why}; close() disconnects it, and main can kill renderers that spawn_renderer() starts",
                )

    async def close(self) -> None:
        """Deactivate the renderer's parts and end it. A renderer that main started is killed if it does not exit.

        The parts have 10 s to deactivate, and the process has 3 s to exit. Closing goes on even if the task that awaits
        it is cancelled. A handler may close the renderer that invoked the handler.
        """
        import asyncio

        self._main._check_thread("RendererHandle.close")
        self._connection.spare(asyncio.current_task())
        await self._main._lifecycle.shielded(self._close("main closed this renderer"))

    async def _close(self, reason: str) -> None:
        import asyncio

        self._asked = True
        if self._connection.state is not CLOSED:
            await self._main._lifecycle.take_down(self._connection, reason)
            handshake.say_goodbye(self._connection.sock, reason)
            self._main._core.detach(self._connection, "main closed it")
        if self._process is not None:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._exited), EXIT_WAIT)
            self.kill()
            await self._exited

    async def wait(self) -> int | None:
        """Wait until the process has ended, and return its exit status; -9: SIGKILL.

        None: main did not start the process, or the status is lost. It is lost if something else in this program waits
        for all child processes (`os.waitpid(-1, ...)`) or ignores SIGCHLD.
        """
        import asyncio

        await asyncio.shield(self._exited)
        return None if self._process is None else self._process.status

    async def _fate(self) -> str | None:
        """How a process that main started has ended, as a text that follows its name; None: this program ended it."""
        import asyncio

        assert self._process is not None
        if not self._connection.ended:  # main has closed the connection
            return None if self._asked else f"was disconnected: {self._connection.reason}"
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.wait(), spawn.END_WAIT)
            return self._process.fate
        return "closed its connection"

    def _on_exit(self) -> None:
        self._release()
        # Its socket's end of file says the same, unless a child of the process still has the socket.
        self._connection.end()
        self._main._core.poller.wake()
        if self._process is not None:
            by_itself = self._connection.ended and not self._asked
            level = logging.WARNING if by_itself and self._process.status else logging.INFO
            log.log(level, "renderer %d (pid %d) %s", self.frame_id, self.pid, self._process.fate)

    def _look_for_exit(self) -> None:
        """Without a pidfd: look again and again whether a process that main started has ended. Its connection has."""
        assert self._process is not None
        if not self._process.has_ended():
            self._main._loop.call_later(EXIT_LOOK, self._look_for_exit)
        else:
            self._on_exit()

    def _release(self) -> None:
        """Stop watching the process."""
        if not self._exited.done():
            if self._pidfd >= 0:
                self._main._loop.remove_reader(self._pidfd)
            if self._process is not None:
                self._process.reap()  # the process has exited, so this does not block
            elif self._pidfd >= 0:
                os.close(self._pidfd)
            self._exited.set_result(None)
        if self._connection.state is CLOSED:
            self._main._handles.pop(self.frame_id, None)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} frame_id={self.frame_id} pid={self.pid}>"
