"""Types that are registered in one process only, and what a renderer does with them."""

from __future__ import annotations

from collections.abc import Callable

import lab

from lensipc import RemoteError, clone


class Coin:
    """What somebody forgot to register on one side."""

    def __init__(self, cents: int) -> None:
        self.cents = cents


def know(name: str) -> Callable[[], None]:
    """Register it here, under that name; returns what takes that back."""
    return clone.register(Coin, name, lambda coin: coin.cents, Coin)


def know_here(_ipc: lab.IpcRenderer, name: str) -> None:
    """The same, in a renderer."""
    know(name)


def broadcast(ipc: lab.IpcRenderer, channel: str) -> None:
    """Broadcast one, and something that everybody knows."""
    ipc.broadcast(channel, Coin(5))
    ipc.broadcast(channel, "after")


async def ask(ipc: lab.IpcRenderer) -> list[str]:
    """Invoke with one: the outcome's type, its original's and the beginning of its text."""
    try:
        await ipc.invoke("echo", Coin(5))
    except RemoteError as error:
        return [type(error).__name__, error.remote_type, str(error).partition(":")[0]]
    raise AssertionError("it raised nothing")
