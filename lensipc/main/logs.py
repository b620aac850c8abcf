# SPDX-License-Identifier: MIT
"""Reads what a renderer logs, and what it writes to stderr, and logs it here: `spawn_renderer(forward_logs=True)`.

Both come through one pipe, the renderer's stderr. So the last words of an interpreter that dies come, too, and those of
C code. A record of the renderer's logging goes from handshake.RECORD to the end of the line; renderer/forwarding.py
writes it. A renderer may be hostile: it may write anything, and without end.
"""

from __future__ import annotations

import logging
import os
import time
from typing import Any, Final

from ..errors import printable
from ..transport import unix_socket
from ..transport.handshake import RECORD
from ..transport.poller import Deadline, Poller

log = logging.getLogger("lensipc.renderer")

# Lines of one renderer that are logged in a second. Those beyond are counted, and not looked at.
LINES_MOST: Final = 1000
# Bytes of a line that are looked at. A record has fewer, so that it comes through the pipe in one piece.
LINE_MOST: Final = 4096
# Bytes that one callback reads, and bytes that are still read of a renderer that has ended.
READ_MOST: Final = 64 * 1024
LAST_MOST: Final = 1024 * 1024


class LogReader:
    """Reads one renderer's pipe until it ends, or until `finish`.

    Args:
        poller: calls when there is something to read.
        fd: the pipe; this owns it.
        who: the renderer, as a person is told of it.
        name: the renderer's name, which each record has as its attribute `renderer`.

    Attributes:
        who: may change; each line begins with it.
    """

    def __init__(self, poller: Poller, fd: int, who: str, name: str) -> None:
        self.who = who
        self._name = name
        self._poller = poller
        os.set_blocking(fd, False)
        self._file = open(fd, "rb", buffering=0)  # noqa: SIM115 - `finish` closes it
        unix_socket.keep_from_forks(self._file)
        self._rest = b""  # the beginning of a line whose end has not come
        self._skips = False  # what comes up to the next end of a line, because the line is too long
        self._began, self._lines, self._left_out = 0.0, 0, 0  # when this second began, and its lines
        self._telling: Deadline | None = None  # that lines were left out
        try:
            poller.register(fd, self._on_readable)
        except BaseException:
            self._file.close()
            raise

    def _on_readable(self) -> None:
        self._read()

    def _read(self) -> int:
        """Read once. Return how many bytes there were; 0: no more for now, or for ever."""
        try:
            data = self._file.read(READ_MOST)
        except OSError:
            data = b""
        if data is None:
            return 0
        if not data:
            self._close()
            return 0
        self._take(data)
        return len(data)

    def _take(self, data: bytes) -> None:
        now = time.monotonic()
        if now - self._began >= 1:
            self._began, self._lines = now, 0
        # A record begins a line, also behind a progress bar that has not ended its own. That adds no line to be counted
        # where there is an end of a line already.
        data = data.replace(RECORD, b"\n" + RECORD).replace(b"\n\n", b"\n")
        if not self._rest and not self._skips:
            data = data.removeprefix(b"\n")
        *lines, rest = data.split(b"\n", LINES_MOST - self._lines)
        self._lines += len(lines)
        for line in lines:
            if not self._skips:
                self._log(self._rest + line)
            self._rest, self._skips = b"", False
        if self._lines == LINES_MOST and (count := rest.count(b"\n")):  # whole lines beyond those that are looked at
            self._leave_out(count)
            self._rest, self._skips = b"", False
            rest = rest.rpartition(b"\n")[2]
        if not self._skips:
            self._rest += rest
            if len(self._rest) > LINE_MOST:
                self._log(self._rest)
                self._rest, self._skips = b"", True

    def _leave_out(self, count: int) -> None:
        self._left_out += count
        if self._left_out and self._telling is None:
            self._telling = self._poller.call_later(1.0, self._tell)

    def _tell(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
            count, self._left_out = self._left_out, 0
            why = "%s: %d more lines were left out: %d a second are logged of a renderer"
            log.warning(why, self.who, count, LINES_MOST, extra={"renderer": self._name})

    def _log(self, line: bytes) -> None:
        if not line:
            return
        level, text = logging.WARNING, line[: LINE_MOST + 1].decode("utf-8", "backslashreplace")
        if line.startswith(RECORD):
            level, text = _record(line[len(RECORD) :]) or (level, text)
        log.log(level, "%s: %s", self.who, printable(text, LINE_MOST), extra={"renderer": self._name})

    def finish(self) -> None:
        """The renderer's process has ended: log what it has written last, and close the pipe. Idempotent.

        A process that the renderer has started may have the pipe still, and go on to write.
        """
        left = LAST_MOST
        while not self._file.closed and left > 0 and (count := self._read()):
            left -= count
        self._close()

    def _close(self) -> None:
        if not self._file.closed:
            self._poller.unregister(self._file.fileno())
            self._file.close()
            if not self._skips:
                self._log(self._rest)
            self._tell()


def _record(data: bytes) -> tuple[int, str] | None:
    """The level and the text of a record; None: it is none."""
    import json  # here, because `import lensipc` imports this module

    try:
        words: Any = json.loads(data)
        level, name, text = words
    except (ValueError, TypeError, RecursionError):
        return None
    if type(level) is not int or not 0 < level <= logging.CRITICAL or type(name) is not str or type(text) is not str:
        return None
    return level, f"{name}: {text}"
