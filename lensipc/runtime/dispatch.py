# SPDX-License-Identifier: MIT
"""How an event's listeners are called, in main and in renderers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from ..errors import DecodeError
from ..log import log_raised
from ..user_code import ends_process, explained
from .channels import Callback, Channel, ChannelTable, Registration, Running
from .driver import Driver, is_awaitable


def finish(
    driver: Driver,
    table: ChannelTable[Any],
    awaitable: Awaitable[Any],
    what: tuple[object, ...],
    count: Callable[[int], None] | None = None,
) -> None:
    """Await what a callback of a part returned. A failure is logged as `what`, and closing the table cancels it.

    `count` is called with 1 when it begins, and with -1 when it has finished.
    """
    task: Running | None = None

    def settle(_result: object, error: BaseException | None) -> None:
        nonlocal task
        if task is not None:
            table.running.discard(task)
            task = None  # the error's traceback refers to this function: a cycle would keep what the task has kept
        if count is not None:
            count(-1)
        if error is not None:
            log_failure(error, what)

    task = driver.run_awaitable(awaitable, settle)
    if count is not None:
        count(1)
    if task is not None:
        table.running.add(task)


def log_failure(error: BaseException, what: tuple[object, ...]) -> None:
    """Log what a callback has raised, unless it was cancelled. `what` is a message for the log, and its arguments."""
    if type(error).__name__ != "CancelledError":  # whose module costs 30 ms to import
        message, *arguments = what
        log_raised(error, str(message), *arguments)


class Dispatcher:
    """Calls listeners.

    Args:
        driver: awaits what listeners return.
        where: this process, for the log.
    """

    def __init__(self, driver: Driver, where: str) -> None:
        self.driver = driver
        self._where = where

    def call(
        self,
        channel: Channel | Any,
        table: ChannelTable[Any],
        event: object,
        read: Callable[[], Any],
        count: Callable[[int], None] | None = None,
        listeners: Sequence[Registration] | None = None,
    ) -> None:
        """Call each listener of the channel with the event and with arguments of its own from `read`.

        `listeners` are those that are called; None: all of the channel. `count` is called for async listeners: with 1
        when one begins, with -1 when it has finished. DecodeError: `read` raised it, or gave no tuple.
        """
        for listener in tuple(channel.listeners) if listeners is None else listeners:
            if not listener.active:
                continue
            args = read()
            if type(args) is not tuple:
                raise DecodeError("the arguments are not a tuple")
            callback = listener.callback
            try:
                result = callback(event, *args)
                if result is not None and is_awaitable(result):
                    self.finish(channel, table, result, count)
            except BaseException as error:  # SystemExit and CancelledError, too
                self.failed(channel, table, callback, len(args), error)

    def failed(
        self, channel: Channel, table: ChannelTable[Any], callback: Callback, count: int, error: BaseException
    ) -> None:
        """A listener of `count` arguments has raised: log that, or raise it again if it ends this process."""
        if ends_process(error):
            raise error
        what = f"listener of %s/%s in {self._where} raised"
        log_raised(explained(error, callback, count), what, table.extension, channel.name)

    def finish(
        self,
        channel: Channel,
        table: ChannelTable[Any],
        awaitable: Awaitable[Any],
        count: Callable[[int], None] | None = None,
    ) -> None:
        """Await what an async listener returned, as `finish`."""
        what = "listener of %s/%s raised", table.extension, channel.name
        finish(self.driver, table, awaitable, what, count)
