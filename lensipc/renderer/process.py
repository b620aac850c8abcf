# SPDX-License-Identifier: MIT
"""A renderer process. It connects to main by itself, or main starts it (main/spawn.py)."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from .. import clone
from ..errors import PeerGone
from ..log import log_raised
from ..runtime import trace
from ..runtime.closing import Closing
from ..runtime.connection import CLOSED, OPEN
from ..runtime.driver import Driver, call
from ..transport import handshake, unix_socket
from ..transport.endpoint import SIDE_RENDERER, WAKEUP_EVENTFD, WAKEUP_SEMAPHORE, WAKEUP_SOCKET, Endpoint
from ..transport.poller import Poller, get_ident, seconds_of
from .core import LONGEST, MESSAGES_PER_TURN, RendererCore
from .parts import Parts
from .reconnect import Reconnect

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

# How long to wait before connecting again, when too many others wait for main to accept them (seconds).
CONNECT_REST: Final = 0.01
# The bytes that the kernel has for a socket's path and the zero byte after it. A relative path may fit in there where
# the absolute one does not.
ADDRESS_ROOM: Final = 108
# How long the parts may take to deactivate, and then what waits to be sent to be sent (seconds).
LEAVE_WAIT: Final = 10.0


class RendererProcess:
    """This process as a renderer. Enter it with `async with` on an asyncio loop, or with `with` in a plain script.

    Where a block does not fit: `await start()` and `await aclose()` on an asyncio loop, else `open()` and `close()`.

    In a plain script nothing runs by itself: the script calls `dispatch`, `run_forever` or `invoke_sync`. Another event
    loop (Qt, GLib, trio) watches `fileno()`, and calls `dispatch()` when that descriptor is readable.

    Attributes:
        frame_id: this renderer's number.
        name: its name, as main knows it; empty: it has none.
        main_pid: main's process id.
    """

    frame_id: int
    name: str
    main_pid: int

    def __init__(
        self,
        connect: Callable[[float], socket.socket],
        wakeup: int,
        timeout: float,
        token: str | None = None,
        path: Path | None = None,
        on_closed: Callable[[str], Any] | None = None,
        name: str = "",
        *,
        attach_timeout: float | None = None,
        reconnect: bool = False,
    ) -> None:
        self._connect = connect
        self._wakeup = wakeup
        self._token = token
        self._timeout = timeout
        self._path = path
        self._core: RendererCore | None = None
        self._on_closed = on_closed
        self._name = name
        self._attach_timeout = timeout if attach_timeout is None else attach_timeout
        self._wants_reconnect = reconnect
        self._reconnect: Reconnect | None = None  # once it was attached
        self._watch: Callable[[RendererCore], object] = lambda _core: None
        self._entering = self._leaving = self._ended = False
        self._unwatch: Callable[[], object] = lambda: None
        self._closing = Closing(self._leave)
        self._changed: asyncio.Event | None = None  # on asyncio: set when main has come or gone

    @classmethod
    def connect(
        cls,
        path: str | os.PathLike[str],
        *,
        wakeup: Literal["socket", "semaphore"] = "socket",
        timeout: float | None = handshake.HANDSHAKE_WAIT,
        token: str | None = None,
        user: int | None = None,
        on_closed: Callable[[str], Any] | None = None,
        name: str = "",
        reconnect: bool = False,
    ) -> RendererProcess:
        """Make a renderer that, when entered, connects to the main process that listens at `path`.

        Entering the renderer returns when it has activated its parts of all installed extensions that main grants it.

        Args:
            path: MainProcess's `path`.
            wakeup: how main wakes this process: by its socket, which any event loop can wait for, or by a semaphore
                in the segment, which only a plain script can wait for.
            timeout: how long entering the renderer may take (seconds); None: without limit.
            token: MainProcess's `token`, if it has one. Get it from a file or a pipe, and not from the command line or
                the environment, because other processes can read those.
            user: the id of the user that main runs as; None: this process's user, or root.
            on_closed: called once with the reason, for a person to read, when main closes, closes this renderer,
                disconnects it, or dies; "main is closing" when main ends in good order. It is called by the loop, or
                by `dispatch`, after the parts' own `on_closed`. On asyncio it may be async. It is not called when this
                process leaves by itself. What it raises is logged.
            name: what main's log and errors call this renderer; at most 64 printable characters.
            reconnect: once this renderer was attached and main is gone, whether main has ended or died or has
                disconnected it, connect again: after 0.1 s, twice as long after each time in vain, and 2 s at most,
                until `close` or `aclose`. What was pending ends with PeerGone, and parts are deactivated as ever. When
                main is there again its extensions are activated anew, under a new `frame_id`. `state` says how far that
                is. Meanwhile `dispatch` raises no PeerGone, `run_forever` and `wait_closed` go on, and `fileno()` stays
                the same. A renderer that the host closes by its handle is not connected again.

        Raises, when entered:
            OSError: nothing listens at the path (FileNotFoundError, ConnectionRefusedError), or a process of another
                user does (PermissionError). Then nothing was sent to that process.
            PeerGone: main declined this renderer, or a part could not be activated; the error says why.
            ProtocolError: main has another version of lensipc.
            TimeoutError: main did not answer in time.
        """
        limit = seconds_of(timeout)
        timeout = LONGEST if limit is None else min(limit, LONGEST)
        kinds = {"socket": WAKEUP_SOCKET, "semaphore": WAKEUP_SEMAPHORE}
        if wakeup not in kinds:
            raise ValueError(f"wakeup must be 'socket' or 'semaphore', not {wakeup!r}")

        from pathlib import Path

        absolute = Path(path).absolute()  # so that it still leads there when this process has changed its directory
        address = str(absolute if len(os.fsencode(absolute)) < ADDRESS_ROOM else path)

        def connected(timeout: float) -> socket.socket:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            try:
                sock.settimeout(timeout)
                sock.connect(address)
                _, uid = unix_socket.peer(sock)
                if uid not in ((os.geteuid(), 0) if user is None else (user,)):
                    expected = "this user" if user is None else f"user {user}"
                    raise PermissionError(errno.EPERM, f"user {uid} listens there, not {expected}", str(path))
            except BaseException as error:
                sock.close()
                if isinstance(error, BlockingIOError) or not isinstance(error, OSError):
                    raise  # so many connect at once that the kernel's queue is full: the caller tries again
                raise unix_socket.naming(path, error) from None
            return sock

        name = handshake.check_name(name)
        return cls(connected, kinds[wakeup], timeout, token, absolute, on_closed, name, reconnect=reconnect)

    # ---- life ----

    async def start(self) -> RendererProcess:
        """Connect on asyncio, as entering `async with` does, and return this object. `aclose` ends it.

        Raises what `connect` lists, and RuntimeError: it was entered before.
        """
        with self._once():
            return await self._start()

    async def aclose(self) -> None:
        """Deactivate the parts, send what waits to be sent, and disconnect, as leaving `async with` does.

        It goes on to its end even if the task that awaits it is cancelled. Called again, it waits for the same end, and
        does nothing after that. In a listener or a part's method, or a task that one of them has started, it returns at
        once, because leaving waits for these; the renderer has left when they are done.

        Raises:
            RuntimeError: it was not started, or on another event loop, or it was opened by `open`, which `close` ends.
        """
        import asyncio

        core = self._entered
        if core.poller.closed:
            return  # closed already, or left by a fork of the process that entered it
        self._owned("aclose")
        if core.driver.blocking:
            raise RuntimeError("this RendererProcess was entered without an event loop: close() ends it, not aclose()")
        if core.driver.loop is not asyncio.get_running_loop():  # type: ignore[attr-defined]
            raise RuntimeError("aclose() was called on another event loop than the one that start() was called on")
        await self._closing.close()

    async def __aenter__(self) -> RendererProcess:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def open(self) -> RendererProcess:
        """Connect in a plain script or in a foreign event loop, as entering `with` does, and return this object.

        It blocks until this renderer is attached. `close` ends it. Raises what `connect` lists, and RuntimeError: it
        was entered before.
        """
        with self._once():
            return self._open()

    def __enter__(self) -> RendererProcess:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _once(self) -> Iterator[None]:
        if self._entering or self._core is not None:
            raise RuntimeError("a RendererProcess is entered once: make a new one with RendererProcess.connect()")
        self._entering = True
        try:
            yield
        finally:
            self._entering = False

    async def _start(self) -> RendererProcess:
        import asyncio

        from ..runtime.asyncio_driver import AsyncioDriver, readable

        if self._wakeup == WAKEUP_SEMAPHORE:
            raise ValueError("wakeup='semaphore' is for a plain script: an event loop cannot wait for a semaphore")
        loop = asyncio.get_running_loop()
        deadline = time.monotonic() + self._attach_timeout
        while (sock := self._greet(deadline)) is None:
            await asyncio.sleep(CONNECT_REST)
        try:
            if not await readable(sock.fileno(), deadline - time.monotonic()):
                raise self._too_late()
        except BaseException:
            sock.close()
            raise
        self._changed = asyncio.Event()
        with self._closing.callbacks():
            driver = AsyncioDriver()
        core = self._begin(sock, driver)

        def watch(core: RendererCore) -> None:
            driver.watch(core.poller.fileno(), core.on_nesting_loop if driver.nests else core.on_loop)

        self._watch = watch
        watch(core)
        self._unwatch = partial(loop.remove_reader, core.poller.fileno())
        try:
            while not core.attached and core.state is not CLOSED:
                try:
                    async with asyncio.timeout(deadline - time.monotonic()):
                        await self._change()
                except TimeoutError:
                    core.dispatch()  # this process may have been busy: handle messages that have come in time
                    if not core.attached and core.state is not CLOSED:
                        raise self._too_late() from None
            self._check_attached(core)
        except BaseException:
            self._disconnect()
            raise
        return self

    async def _leave(self) -> None:
        import asyncio

        if self._reconnect is not None:
            self._reconnect.stop()
        core = self._entered
        try:
            core.parts.deactivate_all()
            deadline = time.monotonic() + LEAVE_WAIT
            while core.parts and time.monotonic() < deadline:  # also parts that main's death deactivates
                await asyncio.sleep(0.001)
            deadline = time.monotonic() + LEAVE_WAIT
            while self._sending and time.monotonic() < deadline:
                await asyncio.sleep(0.001)
        finally:
            self._disconnect()

    def _open(self) -> RendererProcess:
        from ..runtime.blocking_driver import BlockingDriver

        deadline = time.monotonic() + self._attach_timeout
        while (sock := self._greet(deadline)) is None:
            time.sleep(CONNECT_REST)
        try:
            sock.settimeout(max(0.001, deadline - time.monotonic()))
            with suppress(ConnectionResetError):  # main has closed the connection, and may have said why before
                sock.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            sock.close()
            raise self._too_late() from None
        except BaseException:
            sock.close()
            raise
        driver = BlockingDriver()

        def watch(core: RendererCore) -> None:
            driver.core = core

        self._watch = watch
        core = driver.core = self._begin(sock, driver)
        try:
            while not core.attached and core.state is not CLOSED:
                left = deadline - time.monotonic()
                if not core.dispatch(max(left, 0.0)) and left <= 0:
                    raise self._too_late()
            self._check_attached(core)
        except BaseException:
            self._disconnect()
            raise
        return self

    @property
    def _sending(self) -> bool:
        """Whether sent messages still wait for room in the ring. They would be lost if this process left now."""
        core = self._entered
        return core.state is OPEN and (core.endpoint.outbox > 0 or len(core.posts) > 0)

    def close(self) -> None:
        """Disconnect from main. Idempotent; it does nothing if this renderer is not connected.

        Without an event loop it first deactivates the parts and sends what waits to be sent, as leaving `with` does. On
        asyncio it disconnects at once, and pending requests get the outcome PeerGone: `aclose` leaves in good order.
        """
        core = self._core
        if core is None or core.poller.closed:
            return  # also in a fork of the process that entered it
        self._owned("close")
        try:
            if core.driver.blocking and not self._leaving:
                self._leaving = True  # on_deactivate may call this, too
                if self._reconnect is not None:
                    self._reconnect.stop()
                core.parts.deactivate_all()
                deadline = time.monotonic() + LEAVE_WAIT
                while self._sending and time.monotonic() < deadline:
                    core.dispatch(max(0.0, deadline - time.monotonic()))
        finally:
            self._disconnect()

    def _disconnect(self) -> None:
        core = self._entered
        if not core.poller.closed:
            self._ended = True
            if self._reconnect is not None:
                self._reconnect.stop()
            if core.state is not CLOSED:
                core.reason = "this process has closed the connection"
                core.said_goodbye = core.left = True
                core.gone()
            elif self._changed is not None:
                self._changed.set()
            self._unwatch()
            core.poller.close()

    def _greet(self, deadline: float) -> socket.socket | None:
        """Connect and say hello; None: too many renderers wait for main to accept them, try again later."""
        try:
            sock = self._connect(self._timeout)
        except BlockingIOError:
            if time.monotonic() < deadline:
                return None
            raise self._too_late() from None
        self._say_hello(sock)
        return sock

    def _say_hello(self, sock: socket.socket) -> None:
        with suppress(ConnectionError):  # main has closed the connection already; its goodbye can still be read
            sock.send(handshake.hello(self._wakeup, self._token, self._name), socket.MSG_NOSIGNAL)

    def _greet_again(self) -> socket.socket:
        sock = self._connect(0.0)
        self._say_hello(sock)
        return sock

    def _begin_again(self, sock: socket.socket) -> None:
        """Main has answered once more: share its segment, on the same poller."""
        before = self._entered
        core = self._begin(sock, before.driver, before.poller)
        self._unwatch()
        self._watch(core)

    def _begin(self, sock: socket.socket, driver: Driver, poller: Poller | None = None) -> RendererCore:
        """Read main's answer, and share its segment."""
        with ExitStack() as undo_all:
            undo_all.callback(sock.close)
            words, (segment, wakeup_fd) = handshake.receive_welcome(sock)
            undo_all.callback(os.close, wakeup_fd)
            sock.setblocking(False)
            try:
                endpoint = Endpoint(
                    segment,
                    SIDE_RENDERER,
                    WAKEUP_EVENTFD,
                    wakeup_fd,
                    high_water=words["high_water"],
                    limit=words["limit"],
                    quota=2**62,  # main is trusted
                    max_size=words["quota"],
                    sock=sock,
                )
            finally:
                os.close(segment)
            undo_all.callback(endpoint.close)
            if poller is None:
                poller = Poller()
                undo_all.callback(poller.close)
            undo_all.callback(poller.unregister, sock.fileno())
            self.frame_id = words["frame_id"]
            self.name = words["name"]
            self.main_pid = words["pid"]
            if unix_socket.peer(sock)[1] != os.geteuid():
                self._path = None  # this process must not remove it: main's user could make it lead to another file
            core = RendererCore(
                endpoint,
                sock,
                poller,
                driver,
                Parts(driver, self.frame_id),
                self.frame_id,
                self.name,
                on_change=self._on_change,
                wakeup_fd=wakeup_fd,
                semaphore=self._wakeup == WAKEUP_SEMAPHORE,
                high_water=words["high_water"],
                kept_limit=words["kept_limit"],
                backlog_limit=words["limit"],
                limits=clone.Limits(words["budget"], words["plain"], words["count_all"]),
            )
            if trace.is_asked_for():
                trace.trace_renderer(core)
            undo_all.pop_all()
            self._core = core
        return core

    def _too_late(self) -> TimeoutError:
        return TimeoutError(f"main did not attach this renderer within {self._attach_timeout:g} s")

    def _check_attached(self, core: RendererCore) -> None:
        if not core.attached:
            raise PeerGone(f"main did not attach this renderer: {core.reason}") from core.parts.failure

    # ---- driving it ----

    @property
    def _entered(self) -> RendererCore:
        if self._core is None:
            raise RuntimeError("this RendererProcess has not been entered: enter it using `with` or `async with`")
        return self._core

    def _owned(self, call: str) -> RendererCore:
        core = self._entered
        if get_ident() != core.thread:
            core.poller.check_thread(f"RendererProcess.{call}", "call it there")
        return core

    @property
    def connected(self) -> bool:
        """Whether this renderer is connected to main."""
        return self._core is not None and self._core.state is not CLOSED

    @property
    def state(self) -> Literal["new", "connected", "reconnecting", "closed"]:
        """How far this renderer is.

        "new": not entered yet. "connected": to main. "reconnecting": main is gone, and with `reconnect=True` this
        renderer connects again, until all that main has enabled is active here anew. "closed": for good.
        """
        core = self._core
        if core is None:
            return "new"
        if core.state is not CLOSED and (core.attached or self._reconnect is None):
            return "connected"
        return "closed" if self._reconnect is None or self._ended else "reconnecting"

    @property
    def closed_reason(self) -> str | None:
        """Why this renderer is no longer connected, for a person to read; None: it is connected, or was not yet."""
        return None if self._core is None or self._core.state is not CLOSED else self._core.reason

    def fileno(self) -> int:
        """A descriptor that is readable exactly while `dispatch` has something to do.

        This also holds in a loop that a listener runs. When main is gone, the descriptor is readable until `dispatch`
        has raised PeerGone once.

        With `wakeup="semaphore"` it does not hold, because no descriptor tells of the semaphore.
        """
        return self._entered.poller.fileno()

    def dispatch(self, timeout: float | None = 0.0, *, budget: int = MESSAGES_PER_TURN) -> int:
        """Handle the messages that have come: call listeners, settle invokes, activate and deactivate parts.

        Args:
            timeout: how long to wait if no message is there (seconds). Negative: do not wait. None or infinity: wait
                for ever.
            budget: the most messages to handle. If more are there, `fileno()` stays readable.

        Returns:
            How many messages were handled.

        Raises:
            PeerGone: main is gone, and all messages that it had sent have been handled; not while `state` is
                "reconnecting".
            TypeError, ValueError: the timeout is not a number.
        """
        core = self._core
        if core is None or get_ident() != core.thread:
            core = self._owned("dispatch")
        if timeout is not None and timeout != 0.0:
            timeout = seconds_of(timeout)
        if core.state is CLOSED:
            core.poller.clear_wake()
            if self.state == "closed":
                core.check_open()
            if self._reconnect is not None:
                self._reconnect.go_on()
            core.poller.poll(None if timeout is None else min(timeout, LONGEST))
            return 0
        return core.dispatch(timeout, budget)

    def run_forever(self) -> None:
        """Dispatch until main is gone; with `reconnect=True`, until this renderer is closed."""
        self._owned("run_forever")
        while self.state != "closed":
            self.dispatch(None)

    async def wait_closed(self) -> None:
        """Wait until main is gone; with `reconnect=True`, until this renderer is closed."""
        core = self._owned("wait_closed")
        if core.driver.blocking:
            raise RuntimeError("wait_closed is for an event loop: here, run_forever() returns when main is gone")
        while self.state != "closed":
            await self._change()

    async def _change(self) -> None:
        assert self._changed is not None
        await self._changed.wait()
        self._changed.clear()

    def _on_change(self) -> None:
        """Called when main has activated all its extensions here, or is gone."""
        if self._changed is not None:
            self._changed.set()
        core = self._entered
        if core.state is not CLOSED:
            if self._reconnect is not None:
                self._reconnect.succeeded()
            elif self._wants_reconnect:
                self._reconnect = Reconnect(
                    core.poller,
                    self._greet_again,
                    self._begin_again,
                    lambda: len(self._entered.parts) > 0,
                    LEAVE_WAIT,
                )
        if core.state is CLOSED and self._path is not None and not core.said_goodbye:
            with suppress(OSError):  # this process may not write to the folder
                unix_socket.remove_stale(self._path)  # main was killed, and could not remove its socket
        if core.state is CLOSED and core.attached and self._on_closed is not None and not core.left:
            call(core.driver, partial(self._on_closed, core.reason), self._log_raised)
        if core.state is CLOSED and self._reconnect is not None and not self._ended:
            if handshake.CLOSED_BY_HOST in (core.closing, core.reason):
                self._ended = True
            else:
                self._reconnect.start()

    def _log_raised(self, _result: object, error: BaseException | None) -> None:
        if error is not None:
            log_raised(error, "on_closed of renderer %d raised", self.frame_id)
