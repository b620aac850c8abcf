# SPDX-License-Identifier: MIT
"""How main starts a renderer: a fresh interpreter, never a fork, that inherits its socket.

It is marked by an environment variable that names that (handshake.MARK). An interpreter is told by its command line
what to run. A frozen program, or one that embeds Python, is started as itself: its call of `freeze_support` finds the
mark (renderer/spawned.py). Where that was forgotten, the program comes to enter a MainProcess instead: the mark makes
that an error, or each copy of the program would start the next one.

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
from typing import TYPE_CHECKING, Final

from ..runtime.loader import import_path
from ..transport import handshake, unix_socket

if TYPE_CHECKING:
    import subprocess

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
from lensipc.renderer.spawned import run
run({socket})
"""


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

        from ..runtime.asyncio_driver import readable

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
                env=os.environ | {handshake.MARK: mark},
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
            child = Child(process, unix_socket.open_pidfd(process.pid))
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
    if handshake.MARK in os.environ:
        with suppress(OSError, ValueError):
            os.close(handshake.inherited())  # main learns at once that no renderer will come
        raise RuntimeError(
            "this process was started to be a renderer, and enters a MainProcess instead: a frozen program, or one "
            "that embeds Python, calls lensipc.freeze_support() first in its main module; or "
            "MainProcess(executable=...) names an interpreter to start renderers with"
        )
