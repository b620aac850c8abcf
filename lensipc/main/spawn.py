# SPDX-License-Identifier: MIT
"""How main starts a renderer: a fresh interpreter, never a fork, that inherits its socket.

An environment variable (handshake.MARK) marks the process as a renderer and names its socket. An interpreter runs
renderer/__main__.py, with the renderer's name on its command line, so that a list of processes tells renderers apart.
It runs the file and not the module, because `python -m` would search the working directory for it. A frozen program, or
a program that embeds Python, is started as itself. Its call of `freeze_support` finds the mark (renderer/spawned.py). A
program without that call enters a MainProcess instead. The mark makes this an error. Without the error, each copy of
the program would start another copy.

The command line and the environment hold no secret. The import path may be long, and the kernel limits the length of a
command line, so the path comes in a memfd.
"""

from __future__ import annotations

import errno
import logging
import marshal
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

from ..runtime.loader import import_path
from ..transport import handshake, unix_socket

if TYPE_CHECKING:
    import subprocess

# How long a process that has closed its socket may take to end (seconds).
END_WAIT: Final = 1.0
# How often main looks whether the process has ended, where the system gives no pidfd (seconds).
END_LOOK: Final = 0.02

# What an interpreter runs, which has lensipc: renderer/__main__.py, made absolute when lensipc was imported.
SCRIPT: Final = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "renderer", "__main__.py")  # noqa: PTH100, PTH118, PTH120
# What an interpreter runs that a frozen program has named. It has a lensipc of its own.
RUN: Final = "from lensipc.renderer.spawned import freeze_support; freeze_support()"

Stream = int | IO[Any] | None


class Options(NamedTuple):
    """How a renderer is started and kept: the arguments of MainProcess.spawn_renderer, checked."""

    extensions: frozenset[str] | None
    name: str
    env: Mapping[str, str] | None
    cwd: str | None
    stdout: Stream
    stderr: Stream
    executable: str | None
    restart: bool
    activation_timeout: float | None
    raise_errors: bool
    forward_logs: bool


def program(executable: str | os.PathLike[str]) -> str:
    """The program to start renderers with. A path is made absolute; a name alone is searched for in PATH."""
    name = os.fspath(executable)
    return os.path.abspath(name) if os.sep in name else name  # noqa: PTH100


def checked_env(env: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """A copy of an environment. TypeError: a name or a value is no str."""
    if env is None:
        return None
    for name, value in (copy := dict(env)).items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise TypeError(f"env has names and values that are str, and not {name!r}: {value!r}")
    return copy


def checked_stream(what: str, stream: Stream, *, forward_logs: bool = False) -> Stream:
    """Where a renderer's output goes. ValueError: nobody would read it, or it means nothing there."""
    from subprocess import PIPE, STDOUT

    if stream == PIPE:
        raise ValueError(
            f"{what} cannot be subprocess.PIPE, which nobody would read: name a file, or forward_logs=True"
        )
    if stream == STDOUT and what == "stdout":
        raise ValueError("stdout cannot be subprocess.STDOUT, which is for stderr: name a file")
    if forward_logs and stream is not None:
        raise ValueError(f"{what} and forward_logs=True do not go together: stderr is what the logs come by")
    return stream


class Child:
    """A process that main started as a renderer.

    Attributes:
        pid: its process id.
        pidfd: readable once the process has ended. It always means this process, even if another process has the pid
            by now. -1: the system gives none.
        status: its exit status once the process is reaped, or -N after signal N; None: the process runs, or something
            else in this program has waited for it first.
    """

    def __init__(self, process: subprocess.Popen[bytes], pidfd: int) -> None:
        self.pid: int = process.pid
        self.pidfd: int = pidfd
        self.status: int | None = None
        self._process = process
        self._reaped = False

    def has_ended(self) -> bool:
        """Whether the process has ended. This does not reap it."""
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    async def ends(self, seconds: float) -> bool:
        """Wait until the process has ended, for at most so many seconds. Return whether it has."""
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
        """Kill the process with SIGKILL; do nothing if it has ended."""
        with suppress(ProcessLookupError):
            if self.pidfd >= 0:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            elif not self._reaped:
                os.kill(self.pid, signal.SIGKILL)

    def reap(self) -> None:
        """Wait until the process has ended, get its status, and close `pidfd`. Call it once."""
        # If something else in this program has waited for all child processes (os.waitpid(-1), or SIGCHLD ignored), the
        # status is lost. Popen.wait would return 0 then.
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
        self._process.returncode = self.status or 0  # so that Popen does not wait for the process, too

    def end(self) -> None:
        """Kill and reap the process, unless it is reaped already."""
        if not self._reaped:
            self.kill()
            self.reap()

    @property
    def fate(self) -> str:
        """How the process ended, as a text that follows its name."""
        if self.status is None:
            return "ended, and its status is lost: something else in this program waits for all child processes"
        if self.status >= 0:
            return f"exited with status {self.status}"
        try:
            name = signal.Signals(-self.status).name
        except ValueError:  # a realtime signal
            return f"died of signal {-self.status}"
        return f"died of signal {-self.status} ({name})"


def start(options: Options) -> tuple[Child, socket.socket, int]:
    """Start a renderer. Return its process, main's end of its socket, and the pipe that its logs come by, or -1.

    Raises:
        OSError: the program cannot be started, or there is no process or descriptor left.
    """
    import subprocess

    executable = options.executable
    program = sys.executable if executable is None else executable
    if not program:
        raise FileNotFoundError(
            "sys.executable is empty, as in a program that embeds Python: "
            "name the program to start renderers with: MainProcess(executable=...)"
        )
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    inherited = [theirs.fileno()]
    mark = f"{theirs.fileno()}:{os.fstat(theirs.fileno()).st_ino}"
    env = {**(os.environ if options.env is None else options.env)}
    env.pop(handshake.LOG_LEVEL, None)
    named = ["--name", options.name] if options.name else []
    stderr, logs = options.stderr, -1
    try:
        if options.forward_logs:
            logs, stderr = os.pipe2(os.O_CLOEXEC)
            env[handshake.LOG_LEVEL] = str(logging.getLogger("lensipc.renderer").getEffectiveLevel())
        if not frozen():
            inherited.append(path := os.memfd_create("lensipc-path"))
            mark += f":{path}"
            with open(path, "wb", closefd=False) as file:
                marshal.dump(import_path(), file)
            os.lseek(path, 0, os.SEEK_SET)
            command = [program, *interpreter_flags(), SCRIPT, *named]
        else:  # a frozen program contains its modules
            command = [program, *named] if executable is None else [program, "-c", RUN, *named]
        env[handshake.MARK] = mark
        # Ctrl-C in a terminal reaches all its processes. A renderer inherits the blocked SIGINT, and unblocks it when
        # it has set its handler.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=options.stdout,
                stderr=stderr,
                cwd=options.cwd,
                pass_fds=inherited,
                env=env,
            )
        except OSError as error:
            if options.cwd is not None and error.filename == options.cwd:
                raise type(error)(
                    error.errno,
                    f"cannot start a renderer in this folder ({error.strerror}): spawn_renderer(cwd=...) names it",
                    options.cwd,
                ) from None
            if error.filename is None or error.errno in (errno.EMFILE, errno.ENFILE):  # it is not about the program
                raise
            raise type(error)(
                error.errno,
                f"cannot start renderers with this program ({error.strerror}): "
                "name another one: MainProcess(executable=...)",
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
        if logs >= 0:
            os.close(logs)
        raise
    finally:
        theirs.close()
        if logs >= 0:
            assert isinstance(stderr, int)
            os.close(stderr)
        for fd in inherited[1:]:
            os.close(fd)
    return child, ours, logs


async def before_attached(child: Child, who: str, silence: str) -> str:
    """A message about a renderer that has not said hello: how its process ended, or `silence`."""
    ended = await child.ends(END_WAIT)
    if ended:
        child.reap()
    said = f"{who} {child.fate if ended else silence} before it was attached"
    if frozen():
        said += ": a frozen program must call lensipc.freeze_support() first in its main module"
    return said


def frozen() -> bool:
    """Whether this process is a frozen program. Its `sys.executable` is the program and not an interpreter."""
    return bool(getattr(sys, "frozen", False))


def interpreter_flags() -> list[str]:
    """The flags of this process's interpreter, so that code behaves in renderers as it does in main."""
    # This function is private, but multiprocessing starts its processes with it, so Python keeps it up to date.
    from subprocess import _args_from_interpreter_flags  # type: ignore[attr-defined]

    flags: list[str] = _args_from_interpreter_flags()
    # The function knows only some -X options, and not -u. Only the stream that -u changes shows that it was given.
    for name, value in sys._xoptions.items():
        flags += ["-X", name if value is True else f"{name}={value}"]
    if getattr(sys.__stdout__, "write_through", False):
        flags.append("-u")
    return flags


def check_no_renderer() -> None:
    """Raise RuntimeError if this process was started to be a renderer. As a main, it would start more copies."""
    if handshake.MARK in os.environ:
        with suppress(OSError, ValueError):
            os.close(handshake.inherited())  # main learns at once that no renderer will come
        raise RuntimeError(
            "this process was started to be a renderer, and enters a MainProcess instead: a frozen program, or one "
            "that embeds Python, must call lensipc.freeze_support() first in its main module, or name an interpreter "
            "to start renderers with: MainProcess(executable=...)"
        )
