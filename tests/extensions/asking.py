"""What tests of results that are read in place run in renderers. What they ask for they take as `viewing` does."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from types import SimpleNamespace
from typing import Any

import lab
import viewing

MIB = 1 << 20
take = partial(viewing.take, SimpleNamespace(missed=0))


async def ask(ipc: Any, size: int = MIB, channel: str = "n", arrays: str = "view") -> None:
    """Ask for one array."""
    take(*await ipc.invoke(channel, len(viewing.heard), size, arrays=arrays))


async def warm_up(ipc: Any, size: int = MIB) -> None:
    """Ask until an array lies in place, and keep none."""
    way, viewing.now = viewing.now, ""
    while viewing.places[-1:] != [True]:
        await ask(ipc, size)
    viewing.now = way
    viewing.places.clear()


async def ask_at_once(ipc: Any, count: int, size: int = MIB) -> None:
    """Ask for so many arrays at once."""
    for each in await asyncio.gather(*(ipc.invoke("n", number, size, arrays="view") for number in range(count))):
        take(*each)


async def ask_in_every_way(ipc: Any) -> None:
    """By invoke in a task, and from another thread by submit and by invoke."""
    take(*await asyncio.create_task(ipc.invoke("n", 0, MIB, arrays="view")))
    take(*await ipc.invoke("async", 1, MIB, arrays="view"))
    results: list[Any] = []

    def elsewhere(send: Any, number: int) -> None:
        results.append(send("n", number, MIB, arrays="view").result())

    for number, send in ((2, ipc.submit), (3, ipc.invoke)):
        thread = threading.Thread(target=elsewhere, args=(send, number))
        thread.start()
        while not results:
            await asyncio.sleep(0.001)
        thread.join()
        take(*results.pop())


def ask_plainly(ipc: Any, count: int) -> None:
    """For a script: invoke_sync, submit and invoke, by turns."""
    for number in range(count):
        if number % 3 == 0:
            take(*ipc.invoke_sync("n", number, MIB, arrays="view"))
        else:
            send = ipc.submit if number % 3 == 1 else ipc.invoke
            take(*send("n", number, MIB, arrays="view").result())


async def ask_and_give_up(ipc: Any, count: int) -> None:
    """Ask, and cancel it: before it is sent on, while its handler runs, and when its answer has come."""
    for _ in range(count):
        asked = [ipc.invoke("n", 0, MIB, arrays="view")]
        asked[0].cancel()
        asked += ipc.invoke("slow", arrays="view"), ipc.invoke("never", arrays="view")
        await asyncio.sleep(0.001)
        asked[1].cancel()
        asked[2].cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    assert len(lab.core_of(ipc).pending_invokes) == 0


async def ask_for(ipc: Any, arrays: str, *values: Any) -> list[str]:
    """Have values echoed: what each is."""
    viewing.kept.clear()
    for value in await ipc.invoke("echo", *values, arrays=arrays):
        viewing.kept.append((value, 0))
    return [
        f"{what}{'' if writable else ', read-only'}"
        for what, writable in zip(viewing.told(ipc), viewing.writable(ipc), strict=True)
    ]


async def ask_between_events(ipc: Any, count: int) -> list[int]:
    """Have main broadcast before each answer: the order in which all of it was heard."""
    order: list[int] = []
    ipc.listen("before", lambda _event, number, _array: order.append(number), arrays="view")
    await ipc.invoke("echo")

    for number in range(1, 2 * count, 2):
        await ipc.invoke("between", number, arrays="view")
        order.append(number)
    return order


def refused(ipc: Any) -> list[str]:
    """The errors of a wrong word."""
    errors = []
    for send in (ipc.invoke, ipc.submit, ipc.invoke_sync):
        try:
            send("n", 0, MIB, arrays="views")
        except (RuntimeError, ValueError) as error:
            errors.append(f"{type(error).__name__}: {error}")
    return errors


async def ask_and_let_error_go(ipc: Any) -> str:
    """Ask for what cannot be given."""
    try:
        await ipc.invoke("fail", "ValueError", "no", arrays="view")
    except ValueError as error:
        return f"{error.__class__.__name__}: {error}"
    return ""
