# SPDX-License-Identifier: MIT
"""The host: `async with MainProcess() as main`. Installs extensions, starts renderers, and takes in others."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from . import attach
from .endpoint import (
    FORM_MEMFD,
    FORM_SHM,
    SIDE_MAIN,
    WAKEUP_SEMAPHORE,
    Endpoint,
    create_segment,
)
from .extension import ExtensionManifest
from .lifecycle import Lifecycle, to_the_end
from .reception import Reception, hear_hello
from .renderer_connection import RendererConnection
from .router import Router

if TYPE_CHECKING:
    import asyncio
    import subprocess
    from pathlib import Path

log = logging.getLogger("lensipc")

# How long a renderer may take to exit before it is killed (seconds).
EXIT_WAIT: Final = 3.0


class RendererHandle:
    """A renderer, as main sees it.

    Attributes:
        pid: its process id.
        frame_id: its number; never used again.
        extensions: the ids of the extensions it may speak for; None: all.
    """

    def __init__(
        self, main: MainProcess, connection: RendererConnection, process: subprocess.Popen[bytes] | None
    ) -> None:
        self.pid = connection.pid
        self.frame_id = connection.frame_id
        self.extensions = connection.grants
        self._main = main
        self._connection = connection
        self._process = process
        # A pid may be another process's by the time it is used; this descriptor never is.
        self._pidfd = os.pidfd_open(self.pid)
        self._exited: asyncio.Future[None] = main._loop.create_future()
        main._loop.add_reader(self._pidfd, self._on_exit)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return not self._exited.done()

    def kill(self) -> None:
        """Kill the process, with SIGKILL; `wait` tells when it is gone."""
        if self.alive:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def close(self) -> None:
        """Deactivate the renderer's parts and end it. A renderer that main started is killed if it does not exit."""
        import asyncio

        if not self._connection.closed:
            await self._main._lifecycle.take_down(self._connection)
            attach.say_goodbye(self._connection.sock, "main closed this renderer")
            self._main._router.detach(self._connection, "main closed it")
        if self._process is not None:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._exited), EXIT_WAIT)
            self.kill()
            await self._exited

    async def wait(self) -> int | None:
        """Wait until the process has ended; its exit status (-9 after SIGKILL), None if main did not start it."""
        import asyncio

        await asyncio.shield(self._exited)
        return None if self._process is None else self._process.returncode

    def _on_exit(self) -> None:
        self._release()
        if self._process is not None:
            self._process.wait()  # it has exited: this does not block
        # Its socket's end of file tells the same, unless it has left its descriptors to a child.
        self._connection.end()
        self._main._router.poller.wake()

    def _release(self) -> None:
        """Stop watching the process."""
        if not self._exited.done():
            self._main._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._exited.set_result(None)
        if self._connection.closed:
            self._main._handles.pop(self.frame_id, None)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} frame_id={self.frame_id} pid={self.pid}>"


class MainProcess:
    """The main process of an application that hosts extensions. Runs on asyncio: `async with MainProcess() as main`.

    Args:
        path: a file path at which renderers started elsewhere may connect; None: there is no such path. The socket
            is made when the host is entered, for this user alone, and removed when it is left. Its folder has to be
            one in which no other user can put another socket in its place.
        extensions: the ids that a renderer which connects there may speak for; None: all.
        token: lets renderers of other users connect to the path, a sandbox's say: whoever knows it may. At least 16
            characters that nobody can guess, `secrets.token_urlsafe()` for one. To processes of this user it is no
            obstacle: those can read it in this process's memory.
        capacity: bytes of each ring, a power of two from 64 KiB; there are two for each renderer. The default fits
            a core's L2 cache.
        form: what a segment is: "memfd" (sealed; the default) or "shm" (POSIX shm_open, which a hostile renderer
            could truncate).
        high_water: bytes waiting for a renderer from which `drain` waits for it.
        outbox_limit: bytes waiting for a renderer, behind the message that is on its way to it, from which it is
            disconnected, having been too slow.
        message_limit: the largest message that a renderer may send, in bytes.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        extensions: Iterable[str] | None = None,
        token: str | None = None,
        capacity: int = 256 * 1024,
        form: str = "memfd",
        high_water: int = 1024 * 1024,
        outbox_limit: int = 64 * 1024 * 1024,
        message_limit: int = 512 * 1024 * 1024,
    ) -> None:
        forms = {"memfd": FORM_MEMFD, "shm": FORM_SHM}
        if form not in forms:
            raise ValueError(f"form is 'memfd' or 'shm', not {form!r}")
        if path is not None:
            from pathlib import Path

            path = Path(path).absolute()
        if token is not None and len(token) < attach.TOKEN_MIN:
            raise ValueError(f"a token has at least {attach.TOKEN_MIN} characters: secrets.token_urlsafe() makes one")
        self.path: Path | None = path
        self._token = token
        self._extensions = _ids(extensions)
        self._capacity = capacity
        self._form = forms[form]
        self._high_water = high_water
        self._outbox_limit = outbox_limit
        self._message_limit = message_limit
        self._frame_ids = count(1)
        self._handles: dict[int, RendererHandle] = {}
        self._reception: Reception | None = None
        self._entered = False

    # ---- life ----

    async def __aenter__(self) -> MainProcess:
        import asyncio

        from .asyncio_face import AsyncioFace

        if self._entered:
            raise RuntimeError("a MainProcess is entered once")
        self._entered = True
        self._loop = asyncio.get_running_loop()
        face = AsyncioFace()
        self._router = Router(face, os.getpid(), high_water=self._high_water)
        self._spawning: set[asyncio.Task[Any]] = set()
        self._lifecycle = Lifecycle(self._router, self._loop)
        if self.path is not None:
            try:
                self._reception = Reception(self.path, self._token, self._router.poller, self._loop, self._take_in)
            except BaseException:
                self._router.poller.close()
                raise
        face.watch(self._router.poller.fileno(), self._router.dispatch)
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self._router.poller.closed:  # as it is in a fork of this process
            await to_the_end(self._leave())

    async def _leave(self) -> None:
        import asyncio

        for task in self._spawning:
            task.cancel()
        if self._reception is not None:
            await self._reception.close()
        await asyncio.gather(*self._spawning, return_exceptions=True)
        await self._lifecycle.end()
        await asyncio.gather(*(handle.close() for handle in list(self._handles.values())), return_exceptions=True)
        self._loop.remove_reader(self._router.poller.fileno())
        self._router.poller.close()

    @property
    def renderers(self) -> list[RendererHandle]:
        """The renderers that are attached, the oldest first."""
        return [handle for handle in self._handles.values() if not handle._connection.closed]

    # ---- extensions ----

    async def install(self, manifest: ExtensionManifest) -> None:
        """Install an extension and enable it: in main, and in every renderer that may speak for it, now and later.

        Returns when all its parts are active and main knows what they listen to. A renderer that does not answer
        within 30 s is disconnected, and so is one that connected by itself and whose part cannot be activated.

        Raises:
            ValueError: an extension of that id is installed.
            ActivationError: a part in main, or in a renderer that main started, could not be loaded, or raised;
                names it. Nothing is left of the extension.
        """
        await self._lifecycle.install(manifest)

    async def enable(self, id: str) -> None:
        """Activate an extension that was disabled; nothing if it is enabled. Raises as `install`, and KeyError."""
        await self._lifecycle.enable(id)

    async def disable(self, id: str) -> None:
        """Deactivate an extension everywhere: `on_deactivate`, then its disposers. KeyError: it is not installed.

        An activation that is under way is given up for it.
        """
        await self._lifecycle.disable(id)

    async def uninstall(self, id: str) -> None:
        """Disable an extension and forget it. KeyError: it is not installed."""
        await self._lifecycle.uninstall(id)

    # ---- renderers ----

    async def spawn_renderer(self, extensions: Iterable[str] | None = None) -> RendererHandle:
        """Start a renderer process: a fresh interpreter, never a fork, that inherits a socket and nothing else.

        Returns when the parts of all installed extensions it may speak for are active there.

        Args:
            extensions: the ids of the extensions it may speak for, installed or not; None: all.

        Raises:
            ActivationError: a part could not be loaded there, or raised; the renderer is ended.
            PeerGone: the process ended before it was attached.
            TimeoutError: the process said nothing in 60 s.
            OSError, MemoryError: no memory or no descriptor for its segment.
        """
        spawning = self._loop.create_task(self._spawn(_ids(extensions)))
        self._spawning.add(spawning)
        spawning.add_done_callback(self._spawning.discard)
        return await spawning

    async def _spawn(self, grants: frozenset[str] | None) -> RendererHandle:
        import asyncio
        import subprocess

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        with theirs:
            # It imports extensions from where this process would.
            code = (
                f"import sys; sys.path[:] = {sys.path!r}; "
                f"from lensipc.renderer_process import main; main({theirs.fileno()}, {os.getpid()})"
            )
            # Ctrl-C in a terminal reaches all its processes. Blocked here, it is blocked there until it is ignored.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                process = subprocess.Popen(
                    [sys.executable, "-c", code], stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
                )
            except BaseException:
                ours.close()
                raise
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        try:
            try:
                wakeup = await hear_hello(ours, self._router.poller, self._loop, None, attach.SPAWN_WAIT)
            except BaseException:
                ours.close()
                raise
            handle = self._attach(ours, process.pid, wakeup, grants, process)
        except BaseException:
            process.kill()
            process.wait()  # a moment: it has been killed
            raise
        try:
            await self._lifecycle.bring_up(handle._connection)
        except BaseException as error:
            if isinstance(error, Exception):
                self._router.disconnect(handle._connection, str(error))
            handle.kill()
            with suppress(asyncio.CancelledError):
                await handle.wait()
            raise
        return handle

    async def _take_in(self, sock: socket.socket, pid: int, wakeup: int) -> None:
        """Serve a renderer that came by the path."""
        try:
            handle = self._attach(sock, pid, wakeup, self._extensions, None)
        except Exception as error:
            log.warning("a renderer (pid %d) did not attach: %r", pid, error)
            return
        try:
            await self._lifecycle.bring_up(handle._connection)
        except Exception as error:  # also PeerGone: it did not wait, or was disconnected
            self._router.disconnect(handle._connection, str(error))

    def _attach(
        self,
        sock: socket.socket,
        pid: int,
        wakeup: int,
        grants: frozenset[str] | None,
        process: subprocess.Popen[bytes] | None,
    ) -> RendererHandle:
        """Share a segment with one that has said hello. Takes the socket over: it is closed if this fails."""
        descriptors: list[int] = []
        try:
            descriptors.append(create_segment(self._form, self._capacity))
            descriptors.append(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
            try:
                endpoint = Endpoint(
                    descriptors[0],
                    SIDE_MAIN,
                    wakeup,
                    -1 if wakeup == WAKEUP_SEMAPHORE else sock.fileno(),
                    high_water=self._high_water,
                    limit=self._outbox_limit,
                    quota=self._message_limit,
                )
            except MemoryError:
                raise MemoryError(
                    f"no address space to map a segment: {4 * self._capacity} bytes for {self._capacity} of a ring"
                ) from None
            frame_id = next(self._frame_ids)
            words = {
                "frame_id": frame_id,
                "pid": os.getpid(),
                "high_water": self._high_water,
                "limit": self._outbox_limit,
                "quota": self._message_limit,
                "path": None if self.path is None else str(self.path),
            }
            try:
                attach.welcome(sock, descriptors, words)
            except BaseException:
                endpoint.close()
                raise
        except BaseException as error:
            attach.say_goodbye(sock, f"main cannot take it in: {error}")
            sock.close()
            for fd in descriptors:
                os.close(fd)
            raise
        segment, wakeup_fd = descriptors
        os.close(segment)
        connection = RendererConnection(
            self._router, endpoint, sock, wakeup_fd, frame_id, pid, grants, self._capacity, self._message_limit
        )
        try:
            handle = self._handles[frame_id] = RendererHandle(self, connection, process)
        except BaseException as error:  # it has died since it said hello, or there is no descriptor to watch it with
            attach.say_goodbye(sock, f"main cannot take it in: {error}")
            connection.close()
            raise
        connection.started_here = process is not None
        connection.on_closed.append(partial(self._on_closed, handle))
        self._router.attach(connection)
        return handle

    def _on_closed(self, handle: RendererHandle) -> None:
        if handle._process is None or not handle.alive:
            handle._release()  # its process has ended, or goes on and is not ours
        else:
            self._router.poller.call_later(EXIT_WAIT, handle.kill)  # if it does not see that its time has come


def _ids(extensions: Iterable[str] | None) -> frozenset[str] | None:
    if isinstance(extensions, str):
        raise TypeError(f"extensions is a list of ids: [{extensions!r}], not {extensions!r}")
    return None if extensions is None else frozenset(extensions)
