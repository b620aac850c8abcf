# SPDX-License-Identifier: MIT
"""A renderer, as the host sees it: its process, watched until it has ended."""

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
# How often main looks whether it has, where the system gives no pidfd (seconds).
EXIT_LOOK: Final = 0.02


class RendererHandle:
    """A renderer, as main sees it.

    Attributes:
        pid: its process id; 0: it is in another PID namespace, and has none here.
        frame_id: its number; never used again.
        extensions: the ids of the extensions it may speak for; None: all.
    """

    def __init__(
        self,
        main: MainProcess,
        connection: RendererConnection,
        process: spawn.Child | None,
        visitor: Visitor | None,
    ) -> None:
        self.pid = connection.pid
        self.frame_id = connection.frame_id
        self.extensions = connection.grants
        self._main = main
        self._connection = connection
        self._process = process
        self._asked = False  # to end, by this program
        self._exited: asyncio.Future[None] = main._loop.create_future()
        # A pid may be another process's by the time it is used; this descriptor never is.
        if process is not None:
            self._pidfd = process.pidfd  # which it closes
        else:
            assert visitor is not None
            self._pidfd, self._certain = visitor.pidfd, visitor.certain
        if self._pidfd >= 0:
            main._loop.add_reader(self._pidfd, self._on_exit)
        if visitor is not None:
            visitor.pidfd = -1

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return not self._exited.done()

    def kill(self) -> None:
        """Kill the process, with SIGKILL; `wait` tells when it is gone.

        Raises:
            PermissionError: main has not started it, and cannot be certain which process it is, or may not signal it.
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
                why = "this kernel does not tell who that was" if self.pid else "it is in another PID namespace"
                raise PermissionError(
                    errno.EPERM,
                    f"renderer {self.frame_id} (pid {self.pid}) is not main's to kill: it came by the path, and {why}; "
                    "close() disconnects it, and one that spawn_renderer() starts can be killed",
                )

    async def close(self) -> None:
        """Deactivate the renderer's parts and end it. A renderer that main started is killed if it does not exit.

        Its parts have 10 s to deactivate, and its process 3 s to exit. It is closed to the end though who waits for
        that is cancelled; a handler may close the renderer that has invoked it.
        """
        import asyncio

        self._main._check_thread("RendererHandle.close")
        self._connection.spare(asyncio.current_task())
        await self._main._lifecycle.shielded(self._close())

    async def _close(self) -> None:
        import asyncio

        self._asked = True
        if self._connection.state is not CLOSED:
            await self._main._lifecycle.take_down(self._connection)
            handshake.say_goodbye(self._connection.sock, "main closed this renderer")
            self._main._core.detach(self._connection, "main closed it")
        if self._process is not None:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._exited), EXIT_WAIT)
            self.kill()
            await self._exited

    async def wait(self) -> int | None:
        """Wait until the process has ended; its exit status, -9 after SIGKILL.

        None: main did not start it; or nobody can know, because something else in this program waits for all its
        children (`os.waitpid(-1, ...)`) or has SIGCHLD ignored.
        """
        import asyncio

        await asyncio.shield(self._exited)
        return None if self._process is None else self._process.status

    async def _fate(self) -> str | None:
        """How a process that main started has ended, in words that follow its name; None: as this program wished."""
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
        # Its socket's end of file tells the same, unless it has left its descriptors to a child.
        self._connection.end()
        self._main._core.poller.wake()
        if self._process is not None and self._connection.ended and not self._asked:
            level = logging.WARNING if self._process.status else logging.INFO
            log.log(level, "renderer %d (pid %d) %s", self.frame_id, self.pid, self._process.fate)

    def _look_for_exit(self) -> None:
        """Where there is no pidfd: whether a process that main started has ended, now that its connection has."""
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
                self._process.reap()  # it has exited: this does not block
            elif self._pidfd >= 0:
                os.close(self._pidfd)
            self._exited.set_result(None)
        if self._connection.state is CLOSED:
            self._main._handles.pop(self.frame_id, None)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} frame_id={self.frame_id} pid={self.pid}>"
