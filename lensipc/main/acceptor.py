# SPDX-License-Identifier: MIT
"""How renderers attach by the path at which main listens, and the places that limit how many there are.

A process that has connected may never say hello. It must say hello within HANDSHAKE_WAIT, and until then it takes one
of MOST_SILENT silent places. When all of them are taken, main cancels the oldest silent connection of the payer (a
process or a user) that has the most. So a process that says hello at once always gets in, and silent ones cost main
no more than these places.

A process that has said hello takes a connection place instead. Each process, each user other than main's own, and all
of them together have a limited number of connection places. A process keeps its place until it has hung up and main has
taken back the shared memory. So it gains nothing by being disconnected and connecting again.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from fcntl import ioctl
from functools import partial
from mmap import MADV_REMOVE, mmap
from resource import RLIMIT_NOFILE, getrlimit
from select import EPOLLET, EPOLLOUT, EPOLLRDHUP, POLLRDHUP, poll
from struct import unpack
from termios import TIOCOUTQ
from typing import TYPE_CHECKING, Any, Final

from ..errors import PeerGone, ProtocolError
from ..log import log
from ..transport import handshake, unix_socket
from ..transport.poller import Poller

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

    from ..transport.endpoint import Account

# How long the listening socket rests when this process has no descriptor left to accept with (seconds).
ACCEPT_REST: Final = 0.1
# Processes that may be connected at once without having said hello.
MOST_SILENT: Final = 64
# Renderers that may be attached by the path: for one process, for one user, and in all. MOST applies unless the host
# chooses a limit. MOST_SHARED is the bytes of rings that they may have together.
MOST_OF_PROCESS: Final = 16
MOST_OF_USER: Final = 64
MOST: Final = 1024
MOST_SHARED: Final = 1024 * 1024 * 1024
# Descriptors that are never used for renderers that come by the path, or a quarter of all if that is less. The host
# needs them for its own files and for the renderers that it starts.
RESERVE: Final = 64
# The errors that say that one of these limits has been reached.
FULL: Final = (errno.EMFILE, errno.ENFILE, errno.EDQUOT)


async def hear_hello(
    sock: socket.socket, poller: Poller, loop: asyncio.AbstractEventLoop, token: str | None, seconds: float
) -> tuple[int, str]:
    """Wait for a renderer's HELLO, and return how the renderer is woken and its name. On failure, the caller closes
    the socket.

    Raises:
        PeerGone: the renderer has closed the connection.
        ProtocolError: the renderer speaks another version or does not know the token; it has been told.
        TimeoutError: the renderer has said nothing in time; it has been told.
    """
    import asyncio

    from ..runtime.asyncio_driver import set_once

    sock.setblocking(False)
    said = loop.create_future()
    poller.register(sock.fileno(), partial(set_once, said))
    try:
        async with asyncio.timeout(seconds):  # wait_for of Python 3.11 loses a cancellation that comes with the hello
            await said
    except TimeoutError:
        handshake.say_goodbye(sock, f"no hello in {seconds:g} s")
        raise TimeoutError(f"it said nothing in {seconds:g} s") from None
    finally:
        poller.unregister(sock.fileno())
    data = sock.recv(handshake.HELLO_MAX, socket.MSG_DONTWAIT)
    if not data:
        raise PeerGone("it ended before it was attached")
    try:
        return handshake.check_hello(data, token), handshake.name_in(data)
    except ProtocolError as error:
        handshake.say_goodbye(sock, str(error))
        raise


def check_reserve(*descriptors: int) -> None:
    """Raise OSError if descriptors that were opened for a renderer by the path belong to the host's reserve.

    The system gives out the lowest free number, so the highest numbers stay free for the host.
    """
    limit, _ = getrlimit(RLIMIT_NOFILE)
    reserve = min(RESERVE, limit // 4)
    if max(descriptors) >= limit - reserve:
        raise OSError(
            errno.EMFILE,
            f"main may have {limit} descriptors open, and keeps the last {reserve} for the renderers that it starts: "
            "its process needs a higher limit (ulimit -n)",
        )


def unread(sock: socket.socket) -> bool:
    """Whether the other end has not read all that was sent, with the descriptors in it.

    Such descriptors count as this user's open ones until the other end reads them or closes. Shutting the socket down
    is not enough.
    """
    return bool(unpack("i", ioctl(sock, TIOCOUTQ, bytes(4)))[0])


def discard(segment: int) -> None:
    """Give a segment's memory back to the system. A process that still maps the segment reads zeros from then on."""
    with mmap(segment, 0) as memory:
        memory.madvise(MADV_REMOVE)


class Visitor:
    """A connection that came by the path.

    Attributes:
        sock: its socket.
        pid, uid: the process and the user at the other end; pid 0: main cannot see the process's PID namespace.
        pidfd: becomes readable when the process ends; -1: there is none, or the RendererHandle has it.
        certain: whether `pidfd` certainly belongs to that process.
        segment: the memory that it shares with main; -1: none yet.
        account: counts the bytes that wait for it; all visitors of one payer share it.
        payer: a process of main's own user, or another user; the visitor's silent place and account count for it.
        bounds: the limits of connection places that the visitor counts against, by process, user and main.
        on_hung_up: called when main has closed the connection, and its process, too, has hung up.
    """

    pid: int
    uid: int
    pidfd: int
    certain: bool

    def __init__(self, sock: socket.socket, acceptor: Acceptor) -> None:
        self.sock = sock
        self.pid, self.uid = unix_socket.peer(sock)
        self.pidfd, self.certain = -1, False
        self.segment: int = -1
        self.account: Account | None = None
        ours = self.uid == os.geteuid() and self.pid
        self.payer: tuple[str, int] = ("process", self.pid) if ours else ("user", self.uid)
        self.bounds: dict[tuple[str, int], int] = {("main", 0): acceptor.most, self.payer: MOST_OF_USER}
        if self.pid:  # the payer may be the process
            self.bounds["process", self.pid] = MOST_OF_PROCESS
        self.on_hung_up: Callable[[], None] = lambda: None
        self._acceptor = acceptor

    def watch(self) -> None:
        """Have its process watched. OSError: main has no descriptor for that."""
        self.pidfd, self.certain = unix_socket.watch(self.sock, self.pid)
        check_reserve(self.pidfd)

    def linger(self) -> None:
        """Main has closed the connection: keep the visitor's place until its process has hung up, too."""
        if self._acceptor.closed:
            self.leave()
            return
        with suppress(OSError):  # the process has hung up already
            self.sock.shutdown(socket.SHUT_WR)
        self._acceptor.lingering.add(self)
        # epoll reports once that the process hangs up, and each time that it reads. It does not report what it sends.
        self._acceptor.poller.register(self.sock.fileno(), self._look, EPOLLRDHUP | EPOLLOUT | EPOLLET)
        self._look()

    def _look(self) -> None:
        hung_up = poll()
        hung_up.register(self.sock, POLLRDHUP)
        if hung_up.poll(0) and not unread(self.sock):
            with suppress(OSError):  # no room to map it
                discard(self.segment)  # the process could keep the memory, and connect again for more
            self.on_hung_up()
            self.leave()

    def leave(self) -> None:
        """Give the visitor's place up, and close its descriptors. Idempotent."""
        self._acceptor.give_up(self)
        self.sock.close()
        for fd in (self.pidfd, self.segment):
            if fd >= 0:
                os.close(fd)
        self.pidfd = self.segment = -1


class Acceptor:
    """The path at which main listens, and the visitors that came by it.

    Args:
        path: where to listen.
        token: the secret that a renderer has to know; None: there is none, but renderers must be of this user, or root.
        most: renderers that may be attached at once.
        poller: where the sockets are registered.
        loop: the loop that main runs on.
        take_in: called with a visitor that has said hello, with how it is woken, and with its name.

    Raises:
        OSError: another process listens at the path, or the folder is not safe.
    """

    def __init__(
        self,
        path: Path,
        token: str | None,
        most: int,
        poller: Poller,
        loop: asyncio.AbstractEventLoop,
        take_in: Callable[[Visitor, int, str], Awaitable[None]],
    ) -> None:
        self.most = most
        self.poller = poller
        self.closed: bool = False
        self.lingering: set[Visitor] = set()
        self._places: Counter[tuple[str, int]] = Counter()  # the places that are taken, by kind and number
        self._holders: set[Visitor] = set()
        self._path = path
        self._token = token
        self._loop = loop
        self._take_in = take_in
        self._tasks: set[asyncio.Task[Any]] = set()
        # The tasks that wait for a hello, the oldest first, each with its payer.
        self._silent: dict[asyncio.Task[Any], tuple[str, int]] = {}
        self._starved = False  # there was no descriptor the last time
        self._sock = unix_socket.listen(path, for_all=token is not None)
        self._file = unix_socket.file_id(path)
        poller.register(self._sock.fileno(), self._accept)

    async def close(self) -> None:
        """Stop listening, and send away the visitors that are not attached yet."""
        import asyncio

        self.closed = True
        self.poller.unregister(self._sock.fileno())
        # As long as the socket is open, nobody takes it for a dead main's, and no other file has its number.
        if self._file is not None and unix_socket.file_id(self._path) == self._file:
            self._path.unlink(missing_ok=True)
        self._sock.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for visitor in list(self.lingering):
            visitor.leave()

    def take_place(self, visitor: Visitor) -> None:
        """Take a place for a visitor that has said hello. OSError: one of its limits is reached."""
        for (kind, number), most in visitor.bounds.items():
            if self._places[kind, number] >= most:
                whose = "in all, by MainProcess(connection_limit=)" if kind == "main" else f"of {kind} {number}"
                raise OSError(errno.EDQUOT, f"{most} renderers may be connected by its path {whose}, and are")
        self._places.update(list(visitor.bounds))
        self._holders.add(visitor)

    def give_up(self, visitor: Visitor) -> None:
        """Give a visitor's place up, if it has one."""
        if visitor in self.lingering:
            self.lingering.remove(visitor)
            self.poller.unregister(visitor.sock.fileno())
        if visitor in self._holders:
            self._holders.remove(visitor)
            self._places -= Counter(list(visitor.bounds))  # which forgets those that have none left

    def _accept(self) -> None:
        try:
            sock, _ = self._sock.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            # This process has no descriptor left. The socket would stay readable and keep the loop busy, so it rests.
            if not self._starved:
                log.error("cannot accept a renderer until there is room again: %s", error)
            self._starved = True
            self.poller.unregister(self._sock.fileno())
            self.poller.call_later(ACCEPT_REST, self._accept_again)
            return
        self._starved = False
        if len(self._silent) >= MOST_SILENT:
            (most, _), *_ = Counter(self._silent.values()).most_common(1)
            oldest = next(task for task, payer in self._silent.items() if payer == most)
            del self._silent[oldest]
            oldest.cancel()
        visitor = Visitor(sock, self)
        task = self._loop.create_task(self._receive(visitor))
        self._silent[task] = visitor.payer
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _accept_again(self) -> None:
        if self._sock.fileno() >= 0:
            self.poller.register(self._sock.fileno(), self._accept)

    async def _receive(self, visitor: Visitor) -> None:
        import asyncio

        sock, pid, uid = visitor.sock, visitor.pid, visitor.uid
        try:
            try:
                if self._token is None and uid not in (os.geteuid(), 0):
                    handshake.say_goodbye(sock, "it runs as another user")
                    raise PermissionError(1, f"a process of user {uid}")
                check_reserve(sock.fileno())
                wakeup, name = await hear_hello(sock, self.poller, self._loop, self._token, handshake.HANDSHAKE_WAIT)
            finally:
                task = asyncio.current_task()
                assert task is not None
                self._silent.pop(task, None)
            self.take_place(visitor)
            visitor.watch()
        except Exception as error:
            if isinstance(error, OSError) and error.errno in FULL:
                handshake.say_goodbye(sock, f"main cannot attach this renderer: {error}")
            log.warning("a renderer (pid %d, user %d) did not attach: %r", pid, uid, error)
            visitor.leave()
            return
        except BaseException:  # too many are silent, or main is being left
            handshake.say_goodbye(sock, "main has no time for one that says nothing")
            visitor.leave()
            raise
        await self._take_in(visitor, wakeup, name)
