# SPDX-License-Identifier: MIT
"""The host: `async with MainProcess() as main`. Installs extensions, starts renderers, and takes in others."""

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
from .lifecycle import Lifecycle, to_the_end

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

# The largest message of a renderer that main has started, and of one that connected by itself, in bytes.
SPAWNED_LIMIT: Final = 512 * 1024 * 1024
CONNECTED_LIMIT: Final = 64 * 1024 * 1024
# What small messages cost to read, which are sent untried, in units of 10 ns.
LEAST_BUDGET: Final = 100_000
# What may wait in the outboxes of one process that came by the path, or of another user, and of all that came there: so
# many times `outbox_limit`.
OUTBOXES_OF_ONE: Final = 2
OUTBOXES_BY_PATH: Final = 16


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
        executable: what renderers are started with: a Python interpreter of this one's version, or a program that
            calls `lensipc.freeze_support()`; None: what this process runs in, `sys.executable`. A frozen program is
            started as itself, and calls `freeze_support` first in its main module.
        high_water: bytes waiting for a renderer from which `drain` waits for it.
        outbox_limit: bytes that may wait for a renderer, behind the message that is on its way to it. Beyond them
            main's own events raise OutboxFull while it has had no time to read; then it is disconnected for being slow.
        message_limit: the largest message that a renderer may send, in bytes, and what its invokes in flight may weigh
            together. None: 512 MiB for renderers that main has started, 64 MiB for those that connected by themselves.
        decode_budget: what the keys and the values other than plain data in one message may take main to read, in
            units of 10 ns; for renderers that connected by themselves, plain data too. A message that takes more is
            refused: at its sender, with a DataCloneError. The default is 50 ms, and 1 ms the least.
        values: "all" that docs/clone.md lists, or "plain": builtins and arrays of simple dtypes only, both ways. For
            renderers that run code of strangers.
        connection_limit: how many renderers may be connected by the path at once, those that are disconnected and have
            not hung up included; None: 1,024, or as many as have 1 GiB of rings. One process has at most 16 of them,
            another user 64.
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
        message_limit: int | None = None,
        decode_budget: int = clone.STANDARD.budget,
        values: str = "all",
        connection_limit: int | None = None,
    ) -> None:
        forms = {"memfd": FORM_MEMFD, "shm": FORM_SHM}
        if form not in forms:
            raise ValueError(f"form is 'memfd' or 'shm', not {form!r}")
        if decode_budget < LEAST_BUDGET:
            raise ValueError(f"decode_budget is {LEAST_BUDGET} at least, in units of 10 ns, and not {decode_budget}")
        if values not in ("all", "plain"):
            raise ValueError(f"values is 'all' or 'plain', not {values!r}")
        if path is not None:
            from pathlib import Path

            path = Path(path).absolute()
        if token is not None and len(token) < handshake.TOKEN_MIN:
            raise ValueError(
                f"a token has at least {handshake.TOKEN_MIN} characters: secrets.token_urlsafe() makes one"
            )
        self.path: Path | None = path
        self._token = token
        self._extensions = _ids(extensions)
        self._capacity = capacity
        self._form = forms[form]
        if executable is not None and os.sep in (executable := os.fspath(executable)):  # else it is on PATH
            executable = os.path.abspath(executable)  # noqa: PTH100
        self._executable = executable
        self._high_water = high_water
        self._outbox_limit = outbox_limit
        self._message_limit = message_limit
        self._limits = clone.Limits(decode_budget, plain=values == "plain")
        if connection_limit is None:
            connection_limit = min(MOST, max(1, MOST_SHARED // max(1, 2 * capacity)))
        self._connection_limit = connection_limit
        self._frame_ids = count(1)
        self._handles: dict[int, RendererHandle] = {}
        # What waits for those that came by the path: for all of them, and for each who pays for some.
        self._account = Account(OUTBOXES_BY_PATH * self._outbox_limit)
        self._accounts: WeakValueDictionary[tuple[str, int], Account] = WeakValueDictionary()
        self._acceptor: Acceptor | None = None
        self._entered = False

    # ---- life ----

    async def __aenter__(self) -> MainProcess:
        import asyncio

        from ..runtime.asyncio_driver import AsyncioDriver

        if self._entered:
            raise RuntimeError("a MainProcess is entered once")
        spawn.check_no_renderer()
        self._entered = True
        self._loop = asyncio.get_running_loop()
        driver = AsyncioDriver()
        self._core = MainCore(
            driver, os.getpid(), high_water=self._high_water, limit=self._outbox_limit, limits=self._limits
        )
        if trace.is_asked_for():
            trace.trace_main(self._core)
        self._spawning: set[asyncio.Task[Any]] = set()
        self._lifecycle = Lifecycle(self._core, self._loop)
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

    async def __aexit__(self, *_: object) -> None:
        if not self._core.poller.closed:  # as it is in a fork of this process
            self._check_thread("__aexit__")
            await to_the_end(self._leave())

    async def _leave(self) -> None:
        import asyncio

        for task in self._spawning:
            task.cancel()
        if self._acceptor is not None:
            await self._acceptor.close()
        await asyncio.gather(*self._spawning, return_exceptions=True)
        await self._lifecycle.end()
        await asyncio.gather(*(handle.close() for handle in list(self._handles.values())), return_exceptions=True)
        self._loop.remove_reader(self._core.poller.fileno())
        self._core.posts.close(lambda: NotActivatedError("the host was left"))
        self._core.poller.close()

    def _check_thread(self, call: str) -> None:
        self._core.poller.check_thread(call, "asyncio.run_coroutine_threadsafe(..., loop) runs it there")

    @property
    def renderers(self) -> list[RendererHandle]:
        """The renderers that are attached, the oldest first."""
        return [handle for handle in self._handles.values() if handle._connection.state is not CLOSED]

    # ---- extensions ----

    async def install(self, manifest: ExtensionManifest) -> None:
        """Install an extension and enable it: in main, and in every renderer that may speak for it, now and later.

        Returns when all its parts are active and main knows what they listen to. A renderer that does not answer
        within 30 s is disconnected, and so is one that connected by itself and whose part cannot be activated.

        A process keeps the code that it has imported. Where the files of an extension, or their place, have changed
        since it was activated there (it was disabled, updated, and enabled again), it is not activated: else main, old
        renderers and new ones would run different versions of it. The error says which process to start again.

        Raises:
            ValueError: an extension of that id is installed.
            ActivationError: a part in main, or in a renderer that main started, could not be loaded, or raised, or
                ended its process; names it. Or it was disabled, or the host left, meanwhile. Nothing is left of the
                extension.
        """
        self._check_thread("install")
        await self._lifecycle.install(manifest)

    async def enable(self, id: str) -> None:
        """Activate an extension that was disabled; nothing if it is enabled. Raises as `install`, and KeyError."""
        self._check_thread("enable")
        await self._lifecycle.enable(id)

    async def disable(self, id: str) -> None:
        """Deactivate an extension everywhere: `on_deactivate`, then its disposers. KeyError: it is not installed.

        First in the renderers, which are disconnected if that takes more than 10 s. Then in main: handlers that still
        run are cancelled and have 10 s to end, and then `on_deactivate` has 10 s before it is cancelled. An activation
        that is under way is given up for it.
        """
        self._check_thread("disable")
        await self._lifecycle.disable(id)

    async def uninstall(self, id: str) -> None:
        """Disable an extension and forget it. KeyError: it is not installed."""
        self._check_thread("uninstall")
        await self._lifecycle.uninstall(id)

    # ---- renderers ----

    async def spawn_renderer(self, extensions: Iterable[str] | None = None) -> RendererHandle:
        """Start a renderer process: a fresh interpreter, never a fork, that inherits a socket and nothing else.

        Returns when the parts of all installed extensions it may speak for are active there. Its interpreter has
        the flags of this one (-O, -X, -W and the like), and imports from where this process does: absolute, and with
        each extension from where main could import it when that was enabled. On SIGTERM or SIGHUP it deactivates its
        parts and exits with status 0, unless main was started with that signal ignored; Ctrl-C it leaves to main.

        Args:
            extensions: the ids of the extensions it may speak for, installed or not; None: all.

        Raises:
            ActivationError: a part could not be loaded there, or raised, or ended the process; the renderer is ended.
            PeerGone: the process ended before it was attached, and says how; or the host was left meanwhile.
            TimeoutError: the process said nothing in 60 s.
            OSError, MemoryError: no memory or no descriptor for its segment.
        """
        import asyncio

        self._check_thread("spawn_renderer")
        spawning = self._loop.create_task(self._spawn(_ids(extensions)))
        self._spawning.add(spawning)
        spawning.add_done_callback(self._spawning.discard)
        try:
            return await spawning
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise PeerGone("the host was left while the renderer was being started") from None

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
        """Serve a renderer that came by the path."""
        try:
            handle = self._attach(visitor.sock, visitor.pid, wakeup, self._extensions, None, visitor)
        except Exception as error:
            log.warning("a renderer (pid %d) did not attach: %s", visitor.pid, printable(repr(error), REASON_MOST))
            visitor.leave()
            return
        try:
            await self._lifecycle.bring_up(handle._connection)
        except Exception as error:  # also PeerGone: it did not wait, or was disconnected
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
        """Share a segment with one that has said hello. Takes the socket over: it is closed if this fails."""
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
            handshake.say_goodbye(sock, f"main cannot take it in: {error}")
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
        except BaseException as error:  # there is no descriptor to watch it with
            handshake.say_goodbye(sock, f"main cannot take it in: {error}")
            connection.close()
            raise
        connection.started_here = process is not None
        connection.fate = handle._fate if process is not None else None
        connection.on_closed.append(partial(self._on_closed, handle))
        self._core.attach(connection)
        how = "it came by the path" if process is None else "main has started it"
        log.info("renderer %d (pid %d) is attached: %s", frame_id, pid, how)
        return handle

    def _account_of(self, visitor: Visitor) -> Account:
        """What waits for all renderers of this process, or of this other user, counts in one account."""
        account = self._accounts.get(visitor.payer)
        if account is None:
            account = Account(OUTBOXES_OF_ONE * self._outbox_limit, parent=self._account)
            self._accounts[visitor.payer] = account
        return account

    def _on_closed(self, handle: RendererHandle) -> None:
        if handle._process is None or not handle.alive:
            handle._release()  # its process has ended, or goes on and is not ours
        else:
            self._core.poller.call_later(EXIT_WAIT, handle.kill)  # if it does not see that its time has come
            if handle._pidfd < 0:
                handle._look_for_exit()


def _ids(extensions: Iterable[str] | None) -> frozenset[str] | None:
    if isinstance(extensions, str):
        raise TypeError(f"extensions is a list of ids: [{extensions!r}], not {extensions!r}")
    return None if extensions is None else frozenset(extensions)
