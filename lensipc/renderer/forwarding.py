# SPDX-License-Identifier: MIT
"""Forwards what this process logs to main, which has started it with `forward_logs=True`, line by line over stderr."""

from __future__ import annotations

import json
import logging
import os
from typing import Final

from ..transport.handshake import RECORD
from ..user_code import cut, text_of, trace

STDERR: Final = 2
# Bytes of a line. A pipe takes so many in one piece, whatever other threads write (PIPE_BUF).
LINE_MOST: Final = 4096
# Characters of a line. Each takes at most 4 bytes, and 2 where JSON escapes it; other control characters become \\x07.
TEXT_MOST: Final = 900
# Characters of a record with its traceback.
RECORD_MOST: Final = 64 * 1024


class Forwarder(logging.Handler):
    """Writes each record to stderr: a line for each line of its text and of its traceback."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            for line in _lines(record):
                os.write(STDERR, line)
        except OSError:  # main is gone
            pass
        except Exception:
            self.handleError(record)


def _lines(record: logging.LogRecord) -> list[bytes]:
    try:
        text = record.getMessage()
    except Exception as error:  # the arguments do not go with the message
        text = f"{record.msg!r:.{TEXT_MOST}} could not be formatted: {text_of(error, TEXT_MOST)}"
    if record.exc_text:
        text += f"\n{record.exc_text}"
    elif record.exc_info and record.exc_info[1] is not None:
        text += f"\n{trace(record.exc_info[1])}"
    if record.stack_info:
        text += f"\n{record.stack_info}"
    return [_line(record.levelno, record.name, line) for line in cut(text, RECORD_MOST).splitlines() or [""]]


def _line(level: int, name: str, text: str) -> bytes:
    most = TEXT_MOST
    while True:
        words = [min(max(level, 1), logging.CRITICAL), cut(name, 200), cut(text, most)]
        line = RECORD + json.dumps(words, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        if len(line) <= LINE_MOST:
            return line
        most //= 2  # control characters, which JSON makes six of


def forward_logs(level: int) -> None:
    """Forward to main what this process logs at `level` or above."""
    root = logging.getLogger()
    root.setLevel(level)
    root.addHandler(Forwarder())
