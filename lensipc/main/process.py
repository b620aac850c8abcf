# SPDX-License-Identifier: MIT
"""The host: `async with MainProcess() as main`. It installs extensions, starts renderers, and lets others connect."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from .. import clone
from ..errors import NotActivatedError, PeerGone, printable
from ..extension import ExtensionManifest
from ..log import log
from ..runtime import trace
from ..runtime.closing import Closing
from ..runtime.connection import CLOSED
from ..transport import handshake
from ..transport.endpoint import (
    FORM_MEMFD,
    FORM_SHM,
    SIDE_MAIN,
    WAKEUP_SEMAPHORE,
    Account,
    Endpoint,
    create_segment,
)
from . import spawn
from .acceptor import MOST, MOST_SHARED, Acceptor, Visitor, check_reserve, hear_hello
from .connection import RendererConnection
from .core import REASON_MOST, MainCore
from .handle import EXIT_WAIT, RendererHandle
from .lifecycle import Lifecycle

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

# The largest message in bytes: of a renderer that main started, and of a renderer that connected by itself.
SPAWNED_LIMIT: Final = 512 * 1024 * 1024
CONNECTED_LIMIT: Final = 64 * 1024 * 1024
# The least decode_budget, in units of 10 ns. Small messages are sent without a trial, so any budget must let them pass.
LEAST_BUDGET: Final = 100_000
# How many times `outbox_limit` may wait in the outboxes of renderers that connected by the path: of one process or one
# other user, and of all together.
OUTBOXES_OF_ONE: Final = 2
OUTBOXES_BY_PATH: Final = 16
# What renderers are told when main ends in good order.
CLOSING: Final = "main is closing"


class MainProcess:
    """The main process of an application that hosts extensions. Runs on asyncio: `async with MainProcess() as main`.

    Where a block does not fit, as in Jupyter or a GUI, `await main.start()` and `await main.aclose()` do the same.

    Args:
        path: the file path of a socket to which renderers started elsewhere may connect; None: no socket. The socket
            is made when the host is entered, for this user alone, and removed when the host is exited. Its folder must
            be one where no other user can put another socket in its place.
        extensions: the ids of the extensions that a renderer which connects by the path may speak for; None: all.
        token: lets renderers of other users, such as a sandbox's, connect by the path if they know it. It has at least
            16 characters that nobody can guess: `secrets.token_urlsafe()` makes one. It does not stop processes of
            this user, because they can read it in this process's memory.
        capacity: bytes of each ring, a power of two from 64 KiB. Each renderer has two rings. The default fits a
            core's L2 cache.
        form: the kind of shared memory: "memfd" (sealed; the default) or "shm" (POSIX shm_open, which a hostile
            renderer could truncate).
        executable: the program that renderers are started with: a Python interpreter of the same version, or a program
            that calls `lensipc.freeze_support()`; None: `sys.executable`. For a frozen program that is the program
            itself, so its main module must call `freeze_support` first.
        high_water: `drain` waits for a renderer while more bytes than this wait for the renderer.
        outbox_limit: bytes that may wait for a renderer, behind the message that is being written to its ring. Beyond
            the limit, main's own events raise OutboxFull while the renderer has had no time to read. After that time,
            main disconnects the renderer because it is slow.
        kept_limit: bytes that the kept values of one extension may take: the arguments of `broadcast(..., keep=True)`
            as a message, and some 600 more for each channel. Beyond the limit, its sender meets KeptFull.
        message_limit: bytes of the largest message that a renderer may send, and of the memory that its invokes in
            flight may take together. None: 512 MiB for renderers that main started, 64 MiB for renderers that
            connected by themselves.
        decode_budget: how long main may take to read the keys of one message and its values that are not plain data,
            in units of 10 ns. For renderers that connected by themselves, plain data counts too. A message that takes
            longer raises DataCloneError at its sender. The default is 50 ms, and the least is 1 ms.
        values: "all": everything that docs/clone.md lists. "plain": only builtins and arrays of simple dtypes, both
            ways, for renderers that run the code of strangers.
        connection_limit: how many renderers may be connected by the path at once. A renderer that main disconnected
            counts until it has hung up. None: 1,024, or fewer if their rings would take more than 1 GiB. At most 16 of
            them are of one process, and 64 of another user.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        extensions: Iterable[str] | None = None,
        token: str | None = None,
        capacity: int = 256 * 1024,
        form: str = "memfd",
        executable: str | os.PathLike[str] | None = None,
        high_water: int = 1024 * 1024,
        outbox_limit: int = 64 * 1024 * 1024,
        kept_limit: int = 16 * 1024 * 1024,
        message_limit: int | None = None,
        decode_budget: int = clone.STANDARD.budget,
        values: str = "all",
        connection_limit: int | None = None,
    ) -> None:
        forms = {"memfd": FORM_MEMFD, "shm": FORM_SHM}
        if form not in forms:
            raise ValueError(f"form must be 'memfd' or 'shm', not {form!r}")
        if decode_budget < LEAST_BUDGET:
            raise ValueError(f"decode_budget must be at least {LEAST_BUDGET}, in units of 10 ns, not {decode_budget}")
        if values not in ("all", "plain"):
            raise ValueError(f"values must be 'all' or 'plain', not {values!r}")
        if path is not None:
            from pathlib import Path

            path = Path(path).absolute()
        if token is not None and len(token) < handshake.TOKEN_MIN:
            raise ValueError(
                f"a token must have at least {handshake.TOKEN_MIN} characters: secrets.token_urlsafe() makes one"
            )
        self.path: Path | None = path
        self._token = token
        self._extensions = _ids(extensions)
        self._capacity = capacity
        self._form = forms[form]
        if executable is not None and os.sep in (executable := os.fspath(executable)):  # else PATH is searched
            executable = os.path.abspath(executable)  # noqa: PTH100
        self._executable = executable
        self._high_water = high_water
        self._outbox_limit = outbox_limit
        self._kept_limit = kept_limit
        self._message_limit = message_limit
        self._limits = clone.Limits(decode_budget, plain=values == "plain")
        if connection_limit is None:
            connection_limit = min(MOST, max(1, MOST_SHARED // max(1, 2 * capacity)))
        self._connection_limit = connection_limit
        self._frame_ids = count(1)
        self._handles: dict[int, RendererHandle] = {}
        # Count the bytes that wait for renderers that connected by the path: for all, and for those of one payer.
        self._account = Account(OUTBOXES_BY_PATH * self._outbox_limit)
        self._accounts: WeakValueDictionary[tuple[str, int], Account] = WeakValueDictionary()
        self._acceptor: Acceptor | None = None
        self._entered = False
        self._closing = Closing(self._leave)

    # ---- life ----

    async def start(self) -> MainProcess:
        """Begin to host, as entering `async with` does, and return this object. `aclose` ends it.

        Raises:
            RuntimeError: it was started before: one MainProcess is started once.
            PermissionError: another user could put another socket in the place of that at `path`.
            OSError: EADDRINUSE: another process listens at `path`. Or this process has no descriptor left.
        """
        import asyncio

        from ..runtime.asyncio_driver import AsyncioDriver

        if self._entered:
            raise RuntimeError("a MainProcess is entered once, by `async with` or start(): make a new one")
        spawn.check_no_renderer()
        self._entered = True
        self._loop = asyncio.get_running_loop()
        with self._closing.callbacks():
            driver = AsyncioDriver()
        self._core = MainCore(
            driver,
            os.getpid(),
            high_water=self._high_water,
            limit=self._outbox_limit,
            kept_limit=self._kept_limit,
            limits=self._limits,
        )
        if trace.is_asked_for():
            trace.trace_main(self._core)
        self._spawning: set[asyncio.Task[Any]] = set()
        self._lifecycle = Lifecycle(self._core, self._loop, self._closing)
        if self.path is not None:
            try:
                self._acceptor = Acceptor(
                    self.path, self._token, self._connection_limit, self._core.poller, self._loop, self._take_in
                )
            except BaseException:
                self._core.poller.close()
                raise
        driver.watch(self._core.poller.fileno(), self._core.dispatch)
        return self

    async def aclose(self) -> None:
        """Deactivate all extensions, end the renderers that main has started, and disconnect the others.

        It goes on to its end even if the task that awaits it is cancelled. Called again, it waits for the same end, and
        does nothing after that. In a handler, a listener or a part's method, or a task that one of them has started, it
        returns at once, because closing waits for these; the host is closed when they are done.

        Raises:
            RuntimeError: it was not started, or on another event loop.
        """
        if not self._entered:
            raise RuntimeError("this MainProcess was not started: `await main.start()` comes before aclose()")
        if not self._core.poller.closed:  # a fork of this process has a closed poller
            self._check_thread("aclose")
            self._check_loop("aclose")
            await self._closing.close()

    async def __aenter__(self) -> MainProcess:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _leave(self) -> None:
        import asyncio

        for task in self._spawning:
            task.cancel()
        if self._acceptor is not None:
            await self._acceptor.close()
        await asyncio.gather(*self._spawning, return_exceptions=True)
        await self._lifecycle.end(CLOSING)
        ends = [handle._close(CLOSING) for handle in self._handles.values()]
        await asyncio.gather(*ends, return_exceptions=True)
        self._loop.remove_reader(self._core.poller.fileno())
        self._core.posts.close(lambda: NotActivatedError("the MainProcess was exited"))
        self._core.poller.close()

    def _check_open(self, call: str) -> None:
        if not self._entered:
            raise RuntimeError(f"this MainProcess has not been entered: `async with` it before {call}()")
        self._check_thread(call)
        if self._core.poller.closed:
            raise RuntimeError(f"this MainProcess was exited before {call}()")
        if self._closing.begun:
            raise RuntimeError(f"this MainProcess is being closed: {call}() comes too late")
        self._check_loop(call)

    def _check_loop(self, call: str) -> None:
        import asyncio

        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                f"{call}() was called on another event loop than the one that this MainProcess was started on: "
                "asyncio.run() makes a new loop each time, so use one asyncio.run() for all of it"
            )

    def _check_thread(self, call: str) -> None:
        self._core.poller.check_thread(call, "asyncio.run_coroutine_threadsafe(..., loop) runs it there")

    @property
    def renderers(self) -> list[RendererHandle]:
        """The attached renderers, the oldest first."""
        return [handle for handle in self._handles.values() if handle._connection.state is not CLOSED]

    # ---- extensions ----

    async def install(self, manifest: ExtensionManifest, *, settings: Any = None) -> None:
        """Install an extension and enable it: in main, and in every renderer that may speak for it, now and later.

        Returns when all parts of the extension are active and main knows their listeners. Main disconnects a renderer
        that does not answer within 30 s, and a renderer that connected by itself and cannot activate its part.

        A process keeps the code that it has imported. An extension may be disabled, updated, and enabled again. If its
        files or their place have changed since a process imported them, that process does not activate the extension.
        Otherwise main, old renderers and new ones would run different versions. The error names the process to restart.

        Args:
            manifest: the extension.
            settings: whatever the host has to tell it: each part has a clone of it, as `extension.settings`.

        Raises:
            DataCloneError: the settings cannot be cloned.
            ValueError: an extension with this id is installed already.
            ActivationError: a part in main, or in a renderer that main started, could not be loaded, or raised, or
                ended its process; the error names the part. Or the extension was disabled, or the host was exited,
                meanwhile. Nothing is left of the extension.
        """
        self._check_open("install")
        await self._lifecycle.install(manifest, settings)

    async def enable(self, id: str) -> None:
        """Activate a disabled extension; do nothing if it is enabled. Raises what `install` raises, and KeyError."""
        self._check_open("enable")
        await self._lifecycle.enable(id)

    async def disable(self, id: str) -> None:
        """Deactivate an extension everywhere: `on_deactivate`, then its disposers. KeyError: it is not installed.

        The parts in renderers come first. Main disconnects a renderer that takes more than 10 s. Then main cancels the
        handlers that still run, and they have 10 s to end. Then main's `on_deactivate` has 10 s before it is cancelled.
        If the extension is being activated, the activation is cancelled.
        """
        self._check_open("disable")
        await self._lifecycle.disable(id)

    async def uninstall(self, id: str) -> None:
        """Disable an extension and forget it. KeyError: it is not installed."""
        self._check_open("uninstall")
        await self._lifecycle.uninstall(id)

    # ---- renderers ----

    async def spawn_renderer(self, extensions: Iterable[str] | None = None) -> RendererHandle:
        """Start a renderer process: a fresh interpreter, never a fork, that inherits a socket and nothing else.

        Returns when the renderer has activated its parts of all installed extensions that it may speak for. Its
        interpreter has the flags of this one (-O, -X, -W and the like), and the import path of this process, made
        absolute. For each extension it also has the path that main had when the extension was enabled. On SIGTERM or
        SIGHUP the renderer deactivates its parts and exits with status 0, unless main was started with that signal
        ignored. It does nothing on Ctrl-C: main decides.

        Args:
            extensions: the ids of the extensions that the renderer may speak for, installed or not; None: all.

        Raises:
            ActivationError: a part could not be loaded there, or raised, or ended the process. The renderer is ended.
            PeerGone: the process ended before it was attached; the error says how. Or the host was exited meanwhile.
            TimeoutError: the process said nothing for 60 s.
            OSError, MemoryError: there is no memory or no descriptor for its segment.
        """
        import asyncio

        self._check_open("spawn_renderer")
        spawning = self._loop.create_task(self._spawn(_ids(extensions)))
        self._spawning.add(spawning)
        spawning.add_done_callback(self._spawning.discard)
        try:
            return await spawning
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise PeerGone("the MainProcess was exited while the renderer was being started") from None

    async def _spawn(self, grants: frozenset[str] | None) -> RendererHandle:
        import asyncio

        process, ours = spawn.start(self._executable)
        wait = handshake.SPAWN_WAIT
        try:
            try:
                wakeup = await hear_hello(ours, self._core.poller, self._loop, None, wait)
            except BaseException as error:
                ours.close()
                if isinstance(error, (PeerGone, TimeoutError)):
                    silence = "closed its socket" if isinstance(error, PeerGone) else f"said nothing in {wait:g} s"
                    raise type(error)(await spawn.before_attached(process, silence)) from None
                raise
            handle = self._attach(ours, process.pid, wakeup, grants, process)
        except BaseException:
            process.end()
            raise
        try:
            await self._lifecycle.bring_up(handle._connection)
        except BaseException as error:
            if isinstance(error, Exception):
                self._core.disconnect(handle._connection, str(error))
            handle.kill()
            with suppress(asyncio.CancelledError):
                await handle.wait()
            raise
        return handle

    async def _take_in(self, visitor: Visitor, wakeup: int) -> None:
        """Serve a renderer that connected by the path."""
        try:
            handle = self._attach(visitor.sock, visitor.pid, wakeup, self._extensions, None, visitor)
        except Exception as error:
            log.warning("a renderer (pid %d) did not attach: %s", visitor.pid, printable(repr(error), REASON_MOST))
            visitor.leave()
            return
        try:
            await self._lifecycle.bring_up(handle._connection)
        except Exception as error:  # also PeerGone: the renderer did not wait, or was disconnected
            self._core.disconnect(handle._connection, str(error))

    def _attach(
        self,
        sock: socket.socket,
        pid: int,
        wakeup: int,
        grants: frozenset[str] | None,
        process: spawn.Child | None,
        visitor: Visitor | None = None,
    ) -> RendererHandle:
        """Share a segment with a renderer that has said hello. This owns the socket, and closes it on failure."""
        message_limit = self._message_limit or (SPAWNED_LIMIT if process is not None else CONNECTED_LIMIT)
        limits = clone.Limits(self._limits.budget, self._limits.plain, count_all=process is None)
        descriptors: list[int] = []
        try:
            descriptors.append(create_segment(self._form, self._capacity))
            descriptors.append(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
            account = None
            if visitor is not None:
                check_reserve(*descriptors)
                account = self._account_of(visitor)
            try:
                endpoint = Endpoint(
                    descriptors[0],
                    SIDE_MAIN,
                    wakeup,
                    -1 if wakeup == WAKEUP_SEMAPHORE else sock.fileno(),
                    high_water=self._high_water,
                    limit=self._outbox_limit,
                    quota=message_limit,
                    account=account,
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
                "kept_limit": self._kept_limit,
                "quota": message_limit,
                "budget": limits.budget,
                "plain": limits.plain,
                "count_all": limits.count_all,
            }
            try:
                handshake.welcome(sock, descriptors, words)
            except BaseException:
                endpoint.close()
                raise
        except BaseException as error:
            handshake.say_goodbye(sock, f"main cannot attach this renderer: {error}")
            sock.close()
            for fd in descriptors:
                os.close(fd)
            raise
        segment, wakeup_fd = descriptors
        connection = RendererConnection(
            self._core, endpoint, sock, wakeup_fd, frame_id, pid, grants, self._capacity, message_limit, limits
        )
        if visitor is None:
            os.close(segment)
        else:
            visitor.segment = segment
            visitor.account = account
            connection.hang_up = visitor.linger
        try:
            handle = self._handles[frame_id] = RendererHandle(self, connection, process, visitor)
        except BaseException as error:  # main has no descriptor to watch the process with
            handshake.say_goodbye(sock, f"main cannot attach this renderer: {error}")
            connection.close()
            raise
        connection.started_here = process is not None
        connection.fate = handle._fate if process is not None else None
        connection.on_closed.append(partial(self._on_closed, handle))
        self._core.attach(connection)
        how = "it connected by the path" if process is None else "main has started it"
        log.info("renderer %d (pid %d) is attached: %s", frame_id, pid, how)
        return handle

    def _account_of(self, visitor: Visitor) -> Account:
        """The account that counts the bytes that wait for all renderers of one process, or of one other user."""
        account = self._accounts.get(visitor.payer)
        if account is None:
            account = Account(OUTBOXES_OF_ONE * self._outbox_limit, parent=self._account)
            self._accounts[visitor.payer] = account
        return account

    def _on_closed(self, handle: RendererHandle) -> None:
        if handle._process is None or not handle.alive:
            handle._release()  # its process has ended, or main did not start it
        else:
            self._core.poller.call_later(EXIT_WAIT, handle.kill)  # unless the process exits by itself
            if handle._pidfd < 0:
                handle._look_for_exit()


def _ids(extensions: Iterable[str] | None) -> frozenset[str] | None:
    if isinstance(extensions, str):
        raise TypeError(f"extensions must be a list of ids: [{extensions!r}], not {extensions!r}")
    return None if extensions is None else frozenset(extensions)
