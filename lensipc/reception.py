# SPDX-License-Identifier: MIT
"""How renderers come in: by the path at which main listens, until they have said who they are.

Whoever connects there has said nothing yet and may never do so. It has a time to say hello in, and it shares a few
places with others like it: when those are taken, the one that has been silent longest gives its place up. So nobody
who speaks at once is kept out, and silence costs main no more than those places.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from . import attach
from .errors import PeerGone, ProtocolError
from .log import log
from .poller import Poller

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

# How long the listening socket rests when this process has no descriptor left to accept with (seconds).
ACCEPT_REST: Final = 0.1
# How many may be connected without having said hello.
MOST_SILENT: Final = 64


async def hear_hello(
    sock: socket.socket, poller: Poller, loop: asyncio.AbstractEventLoop, token: str | None, seconds: float
) -> int:
    """Wait for a renderer's first words: what it is woken by. The socket is the caller's to close if this fails.

    Raises:
        PeerGone: it has closed the connection.
        ProtocolError: it speaks another version or does not know the token; it has been told.
        TimeoutError: it has said nothing in time; it has been told.
    """
    import asyncio

    from .asyncio_face import set_once

    sock.setblocking(False)
    said = loop.create_future()
    poller.register(sock.fileno(), partial(set_once, said))
    try:
        await asyncio.wait_for(said, seconds)
    except asyncio.TimeoutError:
        attach.say_goodbye(sock, f"no hello in {seconds:g} s")
        raise TimeoutError(f"it said nothing in {seconds:g} s") from None
    finally:
        poller.unregister(sock.fileno())
    data = sock.recv(attach.HELLO_MAX, socket.MSG_DONTWAIT)
    if not data:
        raise PeerGone("it ended before it was attached")
    try:
        return attach.check_hello(data, token)
    except ProtocolError as error:
        attach.say_goodbye(sock, str(error))
        raise


class Reception:
    """The path, and those who came by it and have not said hello.

    Args:
        path: where to listen.
        token: what they have to know; None: nothing, but they have to be of this user.
        poller: what the socket is registered with.
        loop: the loop it runs on.
        take_in: serves one that has said hello: (its socket, its pid, what it is woken by). It owns the socket.

    Raises:
        OSError: somebody listens there, or the folder is not safe.
    """

    def __init__(
        self,
        path: Path,
        token: str | None,
        poller: Poller,
        loop: asyncio.AbstractEventLoop,
        take_in: Callable[[socket.socket, int, int], Awaitable[None]],
    ) -> None:
        self._path = path
        self._token = token
        self._poller = poller
        self._loop = loop
        self._take_in = take_in
        self._tasks: set[asyncio.Task[Any]] = set()
        self._silent: dict[asyncio.Task[Any], None] = {}  # those of them that wait for a hello, the oldest first
        self._starved = False  # there was no descriptor the last time
        self._sock = attach.listen(path, for_all=token is not None)
        poller.register(self._sock.fileno(), self._accept)

    async def close(self) -> None:
        """Listen no more, and send away those who are on their way in."""
        import asyncio

        self._poller.unregister(self._sock.fileno())
        self._sock.close()
        self._path.unlink(missing_ok=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self) -> None:
        try:
            sock, _ = self._sock.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            # No descriptor to accept with: the socket would stay readable, and spin.
            if not self._starved:
                log.error("cannot accept a renderer until there is room again: %s", error)
            self._starved = True
            self._poller.unregister(self._sock.fileno())
            self._poller.call_later(ACCEPT_REST, self._accept_again)
            return
        self._starved = False
        if len(self._silent) >= MOST_SILENT:
            oldest = next(iter(self._silent))
            del self._silent[oldest]
            oldest.cancel()
        task = self._loop.create_task(self._receive(sock))
        self._silent[task] = None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _accept_again(self) -> None:
        if self._sock.fileno() >= 0:
            self._poller.register(self._sock.fileno(), self._accept)

    async def _receive(self, sock: socket.socket) -> None:
        import asyncio

        pid, uid = attach.peer(sock)
        try:
            if self._token is None and uid not in (os.geteuid(), 0):
                attach.say_goodbye(sock, "it runs as another user")
                raise PermissionError(1, f"a process of user {uid}")
            try:
                wakeup = await hear_hello(sock, self._poller, self._loop, self._token, attach.HANDSHAKE_WAIT)
            finally:
                task = asyncio.current_task()
                assert task is not None
                self._silent.pop(task, None)
        except Exception as error:
            log.warning("a renderer (pid %d, user %d) did not attach: %r", pid, uid, error)
            sock.close()
            return
        except BaseException:  # too many are silent, or main is being left
            attach.say_goodbye(sock, "main has no time for one that says nothing")
            sock.close()
            raise
        await self._take_in(sock, pid, wakeup)
