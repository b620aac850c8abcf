# SPDX-License-Identifier: MIT
"""Connects again once main is gone: `RendererProcess.connect(reconnect=True)`. Nothing here blocks.

It runs by the poller's timers and descriptors. So it works on asyncio, in a script and in a foreign loop alike.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Final

from ..errors import LensIpcError
from ..log import log
from ..transport import handshake
from ..transport.poller import Deadline, Poller

# How long to wait before connecting again (seconds): at first, and then twice as long each time, up to the longest.
FIRST_DELAY: Final = 0.1
LONGEST_DELAY: Final = 2.0
# How often to look whether the parts have been deactivated (seconds).
LOOK: Final = 0.02


class Reconnect:
    """Tries to connect until it has, or until `stop`.

    Args:
        poller: calls when it is time.
        connect: connects and says hello, without blocking; OSError: that is not possible now.
        begin: takes the socket over once main has answered, unless it raises.
        is_busy: whether parts of the last connection are still being deactivated.
        patience: how long to wait for those (seconds).
    """

    def __init__(
        self,
        poller: Poller,
        connect: Callable[[], socket.socket],
        begin: Callable[[socket.socket], object],
        is_busy: Callable[[], bool],
        patience: float,
    ) -> None:
        self._poller = poller
        self._connect = connect
        self._begin = begin
        self._is_busy = is_busy
        self._patience = patience
        self._delay = FIRST_DELAY
        self._until = 0.0
        self._timer: Deadline | None = None
        self._sock: socket.socket | None = None  # on which main's answer is awaited

    def start(self) -> None:
        """Main is gone: connect again after a while, which is longer after each time that this was in vain."""
        self._until = time.monotonic() + self._patience
        self._later()

    def succeeded(self) -> None:
        """This renderer is attached again."""
        self._delay = FIRST_DELAY

    def stop(self) -> None:
        """Try no more."""
        self._drop()

    def _drop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._sock is not None:
            self._take_sock().close()

    def go_on(self) -> None:
        """Connect again later if nothing is under way, because what a signal's handler raised has cut it short."""
        if self._timer is None or not self._timer.is_pending:
            self.start()

    def _later(self) -> None:
        self._drop()
        self._timer = self._poller.call_later(self._delay, self._try)
        self._delay = min(2 * self._delay, LONGEST_DELAY)

    def _try(self) -> None:
        if self._is_busy() and time.monotonic() < self._until:  # the new parts would meet the old ones
            self._timer = self._poller.call_later(LOOK, self._try)
            return
        try:
            self._sock = self._connect()
            self._poller.register(self._sock.fileno(), self._answered)
            self._timer = self._poller.call_later(handshake.HANDSHAKE_WAIT, self._too_late)
        except BaseException as error:
            self._failed(error)

    def _take_sock(self) -> socket.socket:
        assert self._sock is not None
        sock, self._sock = self._sock, None
        self._poller.unregister(sock.fileno())
        return sock

    def _answered(self) -> None:
        sock = None
        try:
            if self._timer is not None:
                self._timer.cancel()
            sock = self._take_sock()
            self._begin(sock)
        except BaseException as error:
            if sock is not None:
                sock.close()
            self._failed(error)

    def _too_late(self) -> None:
        self._failed(TimeoutError(f"main did not answer in {handshake.HANDSHAKE_WAIT:g} s"))

    def _failed(self, error: BaseException) -> None:
        """Try again later. Raise what is no failure of this try: a signal's handler may raise anything, anywhere."""
        self._later()
        if not isinstance(error, (LensIpcError, OSError, MemoryError)):
            raise error
        log.info("this renderer is not connected again yet: %s", error)
