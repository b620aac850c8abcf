# SPDX-License-Identifier: MIT
"""The host: `async with MainProcess() as main`. It installs extensions, starts renderers, and lets others connect."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Literal
from weakref import WeakValueDictionary

from .. import clone
from ..errors import NotActivatedError, printable
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
from ..transport.poller import seconds_of
from . import spawn
from .acceptor import MOST, MOST_SHARED, Acceptor, Visitor, check_reserve
from .connection import RendererConnection
from .core import REASON_MOST, MainCore
from .handle import RendererHandle
from .lifecycle import RENDERER_ACTIVATION_WAIT, Lifecycle
from .logs import LogReader
from .run import Run
from .supervision import AttachedHook, GoneHook, Supervision

if TYPE_CHECKING:
    from pathlib import Path
    from types import EllipsisType

    from ..runtime.ports import ExtensionInfo, PoolState

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
ON_ERROR: Final = ("raise", "disable")


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
        activation_timeout: how long each part may take to activate in a renderer (seconds) before that renderer is
            disconnected. None: without limit, for parts that wait in a debugger; but `install` waits for them, too, and
            for a renderer that connected by itself and never answers.
        on_error: what happens if a part cannot be activated in a renderer. "raise": `install`, or `spawn_renderer`,
            raises, and a renderer that connected by itself is disconnected. "disable": the extension is not active in
            that renderer alone; the log and `extensions` say so.
        on_renderer_attached: called with the RendererHandle of each renderer once all that is enabled is active there;
            may be async. What it raises is logged. One that still runs when the host is exited is cancelled.
        on_renderer_gone: called with the handle of each such renderer when it has left, was disconnected, was closed or
            has died, and with the reason, as LensMainExtension.on_renderer_gone is. `handle.status` is the exit status
            of one that has ended by itself; one that main has disconnected or closed may still run, and then it is
            None. It is not called when the host is exited.
        pool_limit: bytes of shared memory in which large events for several renderers lie until all have read them;
            0: none. It is taken as it is needed, and what was not used for a while is given back. If it is full, or
            there is no memory for it, or with form="shm", large events go through the rings, once for each renderer. So
            they do to renderers that connected with a `token`, or as another user; and so do messages of more than a
            quarter of it, and what a renderer has no share for: it may hold an eighth of this, or 8 times `high_water`
            if that is more, or one message.
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
        activation_timeout: float | None = RENDERER_ACTIVATION_WAIT,
        on_error: Literal["raise", "disable"] = "raise",
        on_renderer_attached: AttachedHook | None = None,
        on_renderer_gone: GoneHook | None = None,
        pool_limit: int = 256 * 1024 * 1024,
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
        self._executable = None if executable is None else spawn.program(executable)
        if pool_limit < 0:
            raise ValueError(f"pool_limit must be a number of bytes, 0 for no pool, not {pool_limit}")
        self._pool_limit: int = pool_limit if form == "memfd" else 0
        self._high_water = high_water
        self._outbox_limit = outbox_limit
        self._kept_limit = kept_limit
        self._message_limit = message_limit
        self._limits = clone.Limits(decode_budget, plain=values == "plain")
        if connection_limit is None:
            connection_limit = min(MOST, max(1, MOST_SHARED // max(1, 2 * capacity)))
        self._connection_limit = connection_limit
        self._activation_timeout = seconds_of(activation_timeout)
        self._on_error = _one_of("on_error", on_error, ON_ERROR)
        self._frame_ids = count(1)
        self._runs: dict[int, Run] = {}
        # Count the bytes that wait for renderers that connected by the path: for all, and for those of one payer.
        self._account = Account(OUTBOXES_BY_PATH * self._outbox_limit)
        self._accounts: WeakValueDictionary[tuple[str, int], Account] = WeakValueDictionary()
        self._acceptor: Acceptor | None = None
        self._entered = self._tried = False
        self._closing = Closing(self._leave)
        self._supervision = Supervision(self, on_renderer_attached, on_renderer_gone)

    # ---- life ----

    async def start(self) -> MainProcess:
        """Begin to host, as entering `async with` does, and return this object. `aclose` ends it.

        Raises:
            RuntimeError: it was started before: one MainProcess is started once. It may be tried again if it failed.
            PermissionError: another user could put another socket in the place of that at `path`.
            OSError: EADDRINUSE: another process listens at `path`. Or this process has no descriptor left.
        """
        import asyncio

        from ..runtime.asyncio_driver import AsyncioDriver

        if self._entered:
            raise RuntimeError("a MainProcess is entered once, by `async with` or start(): make a new one")
        spawn.check_no_renderer()
        self._tried = True
        self._loop = asyncio.get_running_loop()
        with self._closing.callbacks():
            driver = AsyncioDriver()
        self._core = MainCore(
            driver,
            os.getpid(),
            high_water=self._high_water,
            limit=self._outbox_limit,
            kept_limit=self._kept_limit,
            pool_limit=self._pool_limit,
            limits=self._limits,
        )
        if trace.is_asked_for():
            trace.trace_main(self._core)
        self._lifecycle = Lifecycle(self._core, self._loop, self._closing)
        try:
            driver.watch(self._core.poller.fileno(), self._core.dispatch)
            if self.path is not None:
                self._acceptor = Acceptor(
                    self.path, self._token, self._connection_limit, self._core.poller, self._loop, self._take_in
                )
        except BaseException:
            self._loop.remove_reader(self._core.poller.fileno())
            self._core.poller.close()
            raise
        self._entered = True
        return self

    async def aclose(self) -> None:
        """Deactivate all extensions, end the renderers that main has started, and disconnect the others.

        It goes on to its end even if the task that awaits it is cancelled. Called again, it waits for the same end, and
        does nothing after that. In a handler, a listener or a part's method, or a task that one of them has started, it
        returns at once, because closing waits for these; the host is closed when they are done. If the program leaves
        its `asyncio.run` before that, the renderers that main has started are killed.

        Raises:
            RuntimeError: it was not started, or on another event loop.
        """
        if not self._entered and self._tried:
            return  # its start has failed, and nothing is left of it
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

        try:
            if self._acceptor is not None:
                await self._acceptor.close()
            await self._supervision.end()
            await self._lifecycle.end(CLOSING)
            ends = [run.handle._close(CLOSING) for run in self._runs.values()]
            await asyncio.gather(*ends, return_exceptions=True)
        except asyncio.CancelledError:  # asyncio.run() ends before this has, and has cancelled all that runs
            for run in list(self._runs.values()):
                self._core.disconnect(run.connection, CLOSING)
                if run.process is not None:
                    run.kill()
                    await run.wait()
            raise
        finally:
            self._core.pool.close()
            self._loop.remove_reader(self._core.poller.fileno())
            self._core.posts.close(lambda: NotActivatedError("the MainProcess was exited"))
            self._core.poller.close()

    def _check_open(self, call: str) -> None:
        self._check_entered(f"{call}()")
        self._check_thread(call)
        if self._core.poller.closed:
            raise RuntimeError(f"this MainProcess was exited before {call}()")
        if self._closing.begun:
            raise RuntimeError(f"this MainProcess is being closed: {call}() comes too late")
        self._check_loop(call)

    def _check_entered(self, call: str) -> None:
        if not self._entered:
            raise RuntimeError(f"this MainProcess has not been entered: `async with` it before {call}")

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
        runs = [run for run in self._runs.values() if run.connection.state is not CLOSED]
        return [run.handle for run in runs if run.handle._run is run]  # and not an earlier one, about to be closed

    @property
    def pool(self) -> PoolState:
        """The shared memory for large messages, as it is now: `Types.PoolState` says what its fields are."""
        self._check_open("pool")
        return self._core.pool.state

    # ---- extensions ----

    @property
    def extensions(self) -> dict[str, ExtensionInfo]:
        """The installed extensions by id: the state of each, and where it is active."""
        self._check_entered("extensions")
        return self._lifecycle.infos()

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
                its process ended and this program did not end it; the error names the part. Or the extension was
                disabled, or the host was exited, meanwhile. Nothing is left of the extension.
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

    async def spawn_renderer(
        self,
        extensions: Iterable[str] | None = None,
        *,
        name: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        stdout: spawn.Stream = None,
        stderr: spawn.Stream = None,
        executable: str | os.PathLike[str] | None = None,
        restart: Literal["never", "on-failure"] = "never",
        activation_timeout: float | EllipsisType | None = ...,
        on_error: Literal["raise", "disable"] | None = None,
        forward_logs: bool = False,
    ) -> RendererHandle:
        """Start a renderer process: a fresh interpreter, never a fork, that inherits a socket and nothing else.

        Returns when the renderer has activated its parts of all installed extensions that it may speak for. Its
        interpreter has the flags of this one (-O, -X, -W and the like), and the import path of this process, made
        absolute. For each extension it also has the path that main had when the extension was enabled. On SIGTERM or
        SIGHUP the renderer deactivates its parts and exits with status 0, unless main was started with that signal
        ignored. It does nothing on Ctrl-C: main decides.

        Args:
            extensions: the ids of the extensions that the renderer may speak for, installed or not; None: all.
            name: what logs and errors call it, at most 64 printable characters. It stands on its command line, where
                other users can read it, too.
            env: its environment, in place of a copy of this process's: `{**os.environ, "NAME": "value"}` adds to it.
            cwd: its working directory; None: this process's.
            stdout, stderr: where its output goes: a file, a descriptor, or subprocess.DEVNULL; for stderr
                subprocess.STDOUT, too. None: where this process's goes.
            executable: as MainProcess's, for this renderer.
            restart: "on-failure": start it again if it ends with another status than 0 or of a signal, or if main
                disconnects it; not after `close` or `kill` of the handle. It waits 0.1 s before that, and twice as long
                after each further failure, 10 s at most. After 8 failures, one after another, it is not started again;
                those before a run of 60 s do not count. Its extensions are activated anew, under a new frame id. The
                handle stays the same. It holds from when this call has returned.
            activation_timeout: how long each part may take to activate there (seconds) before the renderer is
                disconnected. None: without limit, for a part that waits in a debugger; but `install` waits for it, too.
                Left out: MainProcess's.
            on_error: what happens if a part cannot be activated there. "raise": an error of this call, and of
                `install`. "disable": the extension is not active in this renderer alone; the log and
                `MainProcess.extensions` say so. None: MainProcess's.
            forward_logs: log here, to the logger `lensipc.renderer`, what the renderer logs and what it writes to
                stderr, such as uncaught errors and the last words of a dying interpreter. Each line begins with the
                renderer, and its record has the name as its attribute `renderer`. The renderer logs from that logger's
                level on. At most 1,000 lines in a second are logged, and 4,096 bytes of a line. A process that the
                renderer starts and that is to outlive it needs a stderr of its own: when the renderer is gone nobody
                reads this one, and writing to it ends the process by SIGPIPE, unless it ignores that signal.

        Raises:
            ActivationError: a part could not be loaded there, or raised, or ended the process. The renderer is ended.
            PeerGone: the process ended before it was attached; the error says how. Or the host was exited meanwhile.
            TimeoutError: the process said nothing for 60 s.
            OSError: its program or its working directory is not there, or there is no descriptor left.
            OSError, MemoryError: there is no memory or no descriptor for its segment.
            ValueError, TypeError: an argument is none of those above.
        """
        self._check_open("spawn_renderer")
        patience = self._activation_timeout if activation_timeout is ... else seconds_of(activation_timeout)
        return await self._supervision.spawn(
            spawn.Options(
                extensions=_ids(extensions),
                name=handshake.check_name(name),
                env=spawn.checked_env(env),
                cwd=None if cwd is None else os.path.abspath(cwd),  # noqa: PTH100
                stdout=spawn.checked_stream("stdout", stdout),
                stderr=spawn.checked_stream("stderr", stderr, forward_logs=forward_logs),
                executable=self._executable if executable is None else spawn.program(executable),
                restart=_one_of("restart", restart, ("never", "on-failure")) == "on-failure",
                activation_timeout=patience,
                raise_errors=_one_of("on_error", on_error or self._on_error, ON_ERROR) == "raise",
                forward_logs=forward_logs,
            )
        )

    async def _take_in(self, visitor: Visitor, wakeup: int, name: str) -> None:
        """Serve a renderer that connected by the path."""
        handle = RendererHandle(self, name, self._extensions)
        try:
            run = self._attach(visitor.sock, visitor.pid, wakeup, None, handle, visitor=visitor)
        except Exception as error:
            log.warning("a renderer (pid %d) did not attach: %s", visitor.pid, printable(repr(error), REASON_MOST))
            visitor.leave()
            return
        try:
            await self._lifecycle.bring_up(run.connection)
        except Exception as error:  # also PeerGone: the renderer did not wait, or was disconnected
            self._core.disconnect(run.connection, str(error))
        else:
            self._supervision.attached(run)

    def _attach(
        self,
        sock: socket.socket,
        pid: int,
        wakeup: int,
        options: spawn.Options | None,
        handle: RendererHandle,
        *,
        process: spawn.Child | None = None,
        visitor: Visitor | None = None,
        logs: LogReader | None = None,
    ) -> Run:
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
                "name": handle.name,
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
            self._core,
            endpoint,
            sock,
            wakeup_fd,
            frame_id,
            pid,
            handle.extensions,
            self._capacity,
            message_limit,
            limits,
        )
        connection.name = handle.name
        if options is None:
            connection.activation_timeout = self._activation_timeout
            connection.raise_errors = self._on_error == "raise"
        else:
            connection.activation_timeout = options.activation_timeout
            connection.raise_errors = options.raise_errors
        if visitor is None:
            os.close(segment)
            connection.hang_up = partial(self._core.pool.hang_up, frame_id, sock)
        else:
            visitor.segment = segment
            visitor.account = account
            connection.hang_up = visitor.linger
            # One that has left could go on to read them. So only who could come again, and listen, has any.
            connection.takes_slabs = self._token is None and visitor.uid == os.geteuid()
            visitor.on_hung_up = partial(self._core.pool.hung_up, frame_id)
        try:
            run = self._runs[frame_id] = Run(self, handle, connection, process, visitor, logs)
        except BaseException as error:  # main has no descriptor to watch the process with
            handshake.say_goodbye(sock, f"main cannot attach this renderer: {error}")
            connection.close()
            raise
        connection.started_here = process is not None
        connection.fate = run.fate if process is not None else None
        connection.on_closed.append(run.on_closed)
        self._core.attach(connection)
        how = "it connected by the path" if process is None else "main has started it"
        log.info("%s is attached: %s", connection.who, how)
        return run

    def _account_of(self, visitor: Visitor) -> Account:
        """The account that counts the bytes that wait for all renderers of one process, or of one other user."""
        account = self._accounts.get(visitor.payer)
        if account is None:
            account = Account(OUTBOXES_OF_ONE * self._outbox_limit, parent=self._account)
            self._accounts[visitor.payer] = account
        return account


def _ids(extensions: Iterable[str] | None) -> frozenset[str] | None:
    if isinstance(extensions, str):
        raise TypeError(f"extensions must be a list of ids: [{extensions!r}], not {extensions!r}")
    return None if extensions is None else frozenset(extensions)


def _one_of(what: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{what} must be {' or '.join(map(repr, allowed))}, not {value!r}")
    return value
