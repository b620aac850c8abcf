# SPDX-License-Identifier: MIT
"""What lensipc logs, to the logger "lensipc". Others bring about much of it, so how much that is has a bound."""

from __future__ import annotations

import logging
import time
from typing import Final

from .user_code import trace

log: Final = logging.getLogger("lensipc")

# So many lines of one kind are logged in a second at most; the next one says how many were left out. Warnings are of
# strangers, who did not attach or were disconnected; errors of user code, which raises for what strangers send, too.
# What comes and goes in good order, and each change of state, is as much as a host of many renderers has at once.
MOST: Final = {logging.DEBUG: 100, logging.INFO: 100, logging.WARNING: 10, logging.ERROR: 100}


class _Few(logging.Filter):
    """Lets that many pass. A kind is what is logged before its arguments are put in, and its level."""

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[tuple[str, int], tuple[float, int]] = {}  # when its second began, and how many came since

    def filter(self, record: logging.LogRecord) -> bool:
        text, most, now = str(record.msg), MOST.get(record.levelno, 100), time.monotonic()
        kind = text, record.levelno
        began, count = self._kinds.get(kind, (now, 0))
        if now - began >= 1:
            if count > most:
                record.msg = f"{text} (and {count - most} more lines like this one, which were left out)"
            began, count = now, 0
        self._kinds[kind] = began, count + 1
        return count < most


log.addFilter(_Few())


def log_raised(error: BaseException, what: str, *args: object) -> None:
    """Log what user code has raised, with its traceback. Never raises, whatever the error's class makes of that."""
    if log.isEnabledFor(logging.ERROR):
        exc_info = (type(error), error, error.__traceback__)
        record = log.makeRecord(log.name, logging.ERROR, __file__, 0, what, args, exc_info)
        record.exc_text = trace(error).rstrip("\n")  # where this stands, a formatter takes it
        log.handle(record)
