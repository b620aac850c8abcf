# SPDX-License-Identifier: MIT
"""How main starts a renderer, and how a process that was started to be one becomes it.

A renderer is a fresh interpreter, never a fork. It inherits its socket, and is marked by an environment variable that
names that. An interpreter is told by its command line what to run. A frozen program, or one that embeds Python, is
started as itself: its call of `freeze_support` finds the mark. Where that was forgotten, the program comes to enter a
MainProcess instead: the mark makes that an error, or each copy of the program would start the next one.

Neither command line nor environment holds a secret, and what may be long, the list of folders to import from, comes in
a descriptor: the kernel bounds a command line.
"""

from __future__ import annotations

import marshal
import os
import signal
import socket
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

from . import attach
from .endpoint import WAKEUP_SOCKET, end_with_parent
from .errors import PeerGone
from .extension import import_path
from .renderer_process import RendererProcess

if TYPE_CHECKING:
    import asyncio
    import subprocess
    from collections.abc import Callable

# The environment variable that marks a process that is to be a renderer: its socket's descriptor and inode, and the
# descriptor of main's path where it was given one.
MARK: Final = "LENSIPC_RENDERER"
# How long a renderer that main started may take to exit once main is gone (seconds).
EXIT_WAIT: Final = 2
# How long a process that has closed its socket may take to end (seconds).
END_WAIT: Final = 1.0
# How often it is looked for where the system gives no pidfd (seconds).
END_LOOK: Final = 0.02

# What an interpreter runs. It imports what is built into it until it knows main's path, so that no file in the working
# directory can stand for anything.
SET_PATH: Final = """\
import marshal, sys
with open({path}, 'rb') as path:
    sys.path[:] = marshal.load(path)
"""
RUN: Final = """\
from lensipc.spawn import run
run({socket})
"""


# ---- in main ----


class Child:
    """A process that was started to be a renderer.

    Attributes:
        pid: its process id.
        pidfd: readable once it has ended; means this process though another may have its pid by now. -1: the system
            gives none.
        status: once it is reaped, its exit status, or -N after signal N; None: it runs, or something else in this
            program has waited for it first.
    """

    def __init__(self, process: subprocess.Popen[bytes], pidfd: int) -> None:
        self.pid = process.pid
        self.pidfd = pidfd
        self.status: int | None = None
        self._process = process
        self._reaped = False

    def has_ended(self) -> bool:
        """Whether it has ended. It is not reaped by this."""
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    async def ends(self, seconds: float) -> bool:
        """Whether it ends within so long."""
        import asyncio

        from .asyncio_face import readable

        if self.pidfd >= 0:
            return await readable(self.pidfd, seconds)
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while not self.has_ended() and loop.time() < until:
            await asyncio.sleep(END_LOOK)
        return self.has_ended()

    def kill(self) -> None:
        """Kill it, with SIGKILL; nothing if it has ended."""
        with suppress(ProcessLookupError):
            if self.pidfd >= 0:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            elif not self._reaped:
                os.kill(self.pid, signal.SIGKILL)

    def reap(self) -> None:
        """Wait until it has ended, and learn how. Once: it closes `pidfd`."""
        # Not by Popen.wait, which says 0 where something else in this program has waited for all its children
        # (os.waitpid(-1), or SIGCHLD ignored): nobody can know the status then.
        which = (os.P_PIDFD, self.pidfd) if self.pidfd >= 0 else (os.P_PID, self.pid)
        try:
            ended = os.waitid(*which, os.WEXITED)
        except ChildProcessError:
            ended = None
        if ended is not None:
            self.status = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        self._reaped = True
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        self._process.returncode = self.status or 0  # so that Popen does not wait for it, too

    def end(self) -> None:
        """Kill and reap it, unless it is reaped already."""
        if not self._reaped:
            self.kill()
            self.reap()

    @property
    def fate(self) -> str:
        """How it ended, in words that follow its name."""
        if self.status is None:
            return "ended; how is not known, because something else in this program waits for its children"
        if self.status >= 0:
            return f"exited with status {self.status}"
        try:
            name = signal.Signals(-self.status).name
        except ValueError:  # a realtime signal
            return f"died of signal {-self.status}"
        return f"died of signal {-self.status} ({name})"


def start(executable: str | None) -> tuple[Child, socket.socket]:
    """Start a renderer: its process, and main's end of its socket.

    Args:
        executable: an interpreter, or a program that calls `freeze_support`; None: what runs this process.

    Raises:
        OSError: there is nothing to start it with, or no process or descriptor left.
    """
    import subprocess

    program = sys.executable if executable is None else executable
    if not program:
        raise FileNotFoundError(
            "sys.executable is empty, as where a program embeds Python: "
            "MainProcess(executable=...) has to say what renderers are started with"
        )
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    inherited = [theirs.fileno()]
    mark = f"{theirs.fileno()}:{os.fstat(theirs.fileno()).st_ino}"
    run = RUN.format(socket=theirs.fileno())
    try:
        if not frozen():
            inherited.append(path := os.memfd_create("lensipc-path"))
            mark += f":{path}"
            with open(path, "wb", closefd=False) as file:
                marshal.dump(import_path(), file)
            os.lseek(path, 0, os.SEEK_SET)
            command = [program, *interpreter_flags(), "-c", SET_PATH.format(path=path) + run]
        else:  # it has its modules in itself
            command = [program] if executable is None else [program, "-c", run]
        # Ctrl-C in a terminal reaches all its processes. Blocked here, it is blocked there until it is handled.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                pass_fds=inherited,
                env=os.environ | {MARK: mark},
            )
        except OSError as error:
            if error.filename is None:  # not of the program
                raise
            raise type(error)(
                error.errno,
                f"renderers cannot be started with it ({error.strerror}): MainProcess(executable=...) says with what",
                program,
            ) from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        try:
            child = Child(process, attach.open_pidfd(process.pid))
        except BaseException:
            process.kill()
            process.wait()
            raise
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
        for fd in inherited[1:]:
            os.close(fd)
    return child, ours


async def before_attached(child: Child, silence: str) -> str:
    """What became of one that has not said hello: its end, or `silence`."""
    ended = await child.ends(END_WAIT)
    if ended:
        child.reap()
    said = f"the renderer (pid {child.pid}) {child.fate if ended else silence} before it was attached"
    if frozen():
        said += ": a frozen program calls lensipc.freeze_support() first in its main module"
    return said


def frozen() -> bool:
    """Whether this process is a frozen program, whose `sys.executable` is that and no interpreter."""
    return bool(getattr(sys, "frozen", False))


def interpreter_flags() -> list[str]:
    """The flags that this process's interpreter was started with: code means the same in main and in renderers."""
    # Private, but what multiprocessing starts its processes with: so Python keeps it up to date with its flags.
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

    flags: list[str] = _args_from_interpreter_flags()
    # It knows some -X options only, and not -u, which nothing tells but the stream that it has changed.
    for name, value in sys._xoptions.items():
        flags += ["-X", name if value is True else f"{name}={value}"]
    if getattr(sys.__stdout__, "write_through", False):
        flags.append("-u")
    return flags


def check_no_renderer() -> None:
    """RuntimeError: this process was started to be a renderer, and is on the way to be a main that starts more."""
    if MARK in os.environ:
        with suppress(OSError, ValueError):
            os.close(_marked())  # main learns at once that no renderer will come
        raise RuntimeError(
            "this process was started to be a renderer, and enters a MainProcess instead: a frozen program, or one "
            "that embeds Python, calls lensipc.freeze_support() first in its main module; or "
            "MainProcess(executable=...) names an interpreter to start renderers with"
        )


# ---- in a renderer ----


def freeze_support() -> None:
    """Be a renderer, where this process was started to be one, and exit; else do nothing.

    A program that PyInstaller or the like has frozen, or that embeds Python, has no interpreter to start renderers
    with: main starts the program itself once more. So call this first in the program's main module:

        if __name__ == "__main__":
            lensipc.freeze_support()
            asyncio.run(main())
    """
    if MARK in os.environ:
        run(_marked())


def _marked() -> int:
    """The socket that the mark names. OSError: it was closed on the way."""
    fd, inode, *path = map(int, os.environ[MARK].split(":"))
    with suppress(OSError):
        if os.fstat(fd).st_ino == inode:
            for each in path:  # for an interpreter only
                os.close(each)
            return fd
    raise OSError(
        f"{MARK} says that this process is a renderer with descriptor {fd} for its socket, which it does not have: "
        "what started it in main's place has to leave its descriptors open"
    )


def run(fd: int) -> NoReturn:
    """Be the renderer that has this socket, and exit."""
    import asyncio

    os.environ.pop(MARK, None)  # what this process starts is no renderer of its main
    del sys.argv[1:]  # which are not its own
    sock = socket.socket(fileno=fd)
    os.set_inheritable(fd, False)
    ending = _handle_signals()
    # Not main's pid, which would be another where a wrapper stands between. Where main has died already, the socket
    # is at its end.
    end_with_parent(os.getppid(), EXIT_WAIT)

    async def serve() -> None:
        async with RendererProcess(lambda: sock, WAKEUP_SOCKET, attach.SPAWN_WAIT) as renderer:
            await ending.wait(asyncio.ensure_future(renderer.wait_closed()))

    try:
        asyncio.run(serve())
    except PeerGone as error:
        raise SystemExit(str(error)) from None
    sys.exit()


class _Ending:
    """Has the renderer end in good order, once a signal has asked for that."""

    def __init__(self) -> None:
        self._asked = False
        self._end: Callable[[], object] | None = None

    async def wait(self, closed: asyncio.Future[None]) -> None:
        """Wait until the renderer is to end: main has closed the connection, or there was a signal."""
        import asyncio

        # It may come when the renderer ends already: that is not cut short.
        self._end = partial(closed.get_loop().call_soon_threadsafe, closed.cancel)
        if self._asked:
            self._end()
        await asyncio.wait([closed])

    def ask(self, *_: object) -> None:
        """The signals' handler. Another one changes nothing: a shell and the terminal both send SIGHUP."""
        self._asked = True
        if self._end is not None:
            self._end()


def _handle_signals() -> _Ending:
    """See to the signals that reach main and its renderers alike, from a terminal or a supervisor.

    SIGINT: nothing happens. Ctrl-C need not end main, which may be a prompt: that is main's to decide.

    SIGTERM, SIGHUP: the renderer ends in good order, with its parts' `on_deactivate`, and exits with status 0. Who
    supervises processes sends SIGTERM to all of a group or to one alone, and expects each that gets it to end; none can
    tell which it was. Where main ends as well, each part is deactivated once, whoever was first.

    They are handled and not ignored, because what a renderer starts would inherit that. What main's own starter has
    had ignored (nohup) stays ignored, there as in any program. What main has blocked is not blocked here.
    """
    from threading import local

    ending = _Ending()
    handled = {signal.SIGINT: _nothing, signal.SIGTERM: ending.ask, signal.SIGHUP: ending.ask}
    for number, handler in handled.items():
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)
            signal.siginterrupt(number, False)  # code that does not expect EINTR meets none

    # A fork is no renderer: multiprocessing ends its processes by SIGTERM. None that comes meanwhile is lost.
    before = local()

    def block() -> None:
        before.mask = signal.pthread_sigmask(signal.SIG_BLOCK, handled)

    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before.mask)

    def reset() -> None:
        for number, handler in handled.items():
            if signal.getsignal(number) == handler:
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        unblock()

    os.register_at_fork(before=block, after_in_parent=unblock, after_in_child=reset)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return ending


def _nothing(*_: object) -> None:
    pass
