# SPDX-License-Identifier: MIT
"""A process that main/spawn.py started as a renderer: how it learns that it is one, runs, and ends."""

from __future__ import annotations

import os
import signal
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

from ..errors import PeerGone
from ..transport import handshake
from ..transport.endpoint import WAKEUP_SOCKET, end_with_parent
from .core import LONGEST
from .process import RendererProcess

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

# How long a renderer that main started may take to exit once main is gone (seconds).
EXIT_WAIT: Final = 2


def freeze_support() -> None:
    """If main has started this process as a renderer, run the renderer and exit; else do nothing.

    A program that PyInstaller or the like has frozen, or that embeds Python, has no interpreter to start renderers
    with. There, main starts the program itself once more. So call this first in the program's main module:

        if __name__ == "__main__":
            lensipc.freeze_support()
            asyncio.run(main())
    """
    if handshake.MARK in os.environ:
        run(handshake.inherited())


def run(fd: int) -> NoReturn:
    """Run the renderer that has this socket, then exit."""
    import asyncio

    os.environ.pop(handshake.MARK, None)  # so that a process that this one starts is not taken for a renderer
    log_level = os.environ.pop(handshake.LOG_LEVEL, None)
    if log_level is not None:
        from .forwarding import forward_logs

        forward_logs(int(log_level))
    del sys.argv[1:]  # these arguments are not for the renderer
    sock = socket.socket(fileno=fd)
    os.set_inheritable(fd, False)
    ending = _handle_signals()
    # os.getppid() and not main's pid, because a wrapper may stand between them. If main has died already, the socket is
    # at its end.
    end_with_parent(os.getppid(), EXIT_WAIT)

    async def serve() -> None:
        # Main decides how long a part may take to activate. If main dies, the socket ends.
        renderer = RendererProcess(lambda _timeout: sock, WAKEUP_SOCKET, handshake.SPAWN_WAIT, attach_timeout=LONGEST)
        async with renderer:
            await ending.wait(asyncio.ensure_future(renderer.wait_closed()))

    try:
        asyncio.run(serve())
    except PeerGone as error:
        raise SystemExit(str(error)) from None
    sys.exit()


class _Ending:
    """Ends the renderer in good order after a signal."""

    def __init__(self) -> None:
        self._asked = False
        self._end: Callable[[], object] | None = None

    async def wait(self, closed: asyncio.Future[None]) -> None:
        """Wait until the renderer is to end: main has closed the connection, or there was a signal."""
        import asyncio

        # A signal may also come when the renderer is already ending. The signal does not cut the ending short.
        self._end = partial(closed.get_loop().call_soon_threadsafe, closed.cancel)
        if self._asked:
            self._end()
        await asyncio.wait([closed])

    def ask(self, *_: object) -> None:
        """The signals' handler. A second signal changes nothing; a shell and the terminal both send SIGHUP."""
        self._asked = True
        if self._end is not None:
            self._end()


def _handle_signals() -> _Ending:
    """Handle the signals that a terminal or a supervisor sends to main and its renderers alike.

    SIGINT: nothing happens. Main decides whether Ctrl-C ends it. Main may be a prompt, which goes on.

    SIGTERM, SIGHUP: the renderer ends in good order, with its parts' `on_deactivate`, and exits with status 0. A
    supervisor may send SIGTERM to a whole group or to one process. A process cannot tell which, and each process that
    gets it is expected to end. If main ends as well, each part is still deactivated only once.

    The signals are handled, and not set to ignored, because child processes of a renderer would inherit ignored
    signals. A signal that was ignored before main started, as by nohup, stays ignored. A signal that main has blocked
    is not blocked here.
    """
    from threading import local

    ending = _Ending()
    handled = {signal.SIGINT: _nothing, signal.SIGTERM: ending.ask, signal.SIGHUP: ending.ask}
    for number, handler in handled.items():
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)
            signal.siginterrupt(number, False)  # so that system calls do not fail with EINTR

    # A fork is not a renderer. multiprocessing ends its processes by SIGTERM, so a fork needs the default handlers. The
    # signals are blocked during the fork, so that none is lost.
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
