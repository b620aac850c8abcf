"""What tests of views run in renderers: listeners that read in place, and keep arrays for as long as they are told."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import random
import threading
import zlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import lab
import numpy as np

import lensipc
from lensipc import Ipc, _fast

# Of this process: the numbers that were heard in whole, what was wrong, what is kept, each with its CRC, and whether
# each event that was heard lay in main's memory.
heard: list[int] = []
wrong: list[str] = []
kept: list[tuple[Any, int]] = []
places: list[bool] = []
disposers: list[Any] = []
child: tuple[int, int] = 0, 0  # its pid, and what it waits for
missed = 0


def message(number: int, size: int) -> tuple[int, Any, int]:
    """An event's arguments: its number, an array that is its own, and the array's CRC."""
    array = np.random.default_rng(number).integers(0, 256, size, np.uint8)
    return number, array, zlib.crc32(array.data)


def crc(value: Any) -> int:
    """Of what an array or a memoryview shows. No buffer is made of the array itself."""
    return zlib.crc32(value.tobytes())


def in_place(value: Any) -> bool:
    """Whether an array or a memoryview shows main's memory."""
    while isinstance(value, np.ndarray) and value.base is not None:
        value = value.base
    return type(value.obj if isinstance(value, memoryview) else value) is _fast.Lease


class Node:
    """A part of a reference cycle."""

    def __init__(self, value: Any) -> None:
        self.value, self.me = value, self


def raised(value: Any) -> BaseException:
    """An error whose traceback has the value."""
    try:
        value["no"]
    except IndexError as error:
        return error
    raise AssertionError


# What a listener keeps of an array.
WAYS: dict[str, Callable[[Any], Any]] = {
    "itself": lambda array: array,
    "slice": lambda array: array[5000:60000],
    "transpose": lambda array: array.reshape(2, -1).T,
    "dtype": lambda array: array.view(np.uint16),
    "steps": lambda array: array[::100][7:],
    "memoryview": memoryview,
    "slice of a memoryview": lambda array: memoryview(array)[100:90000],
    "buffer": lambda array: np.frombuffer(array, np.uint8),
    "subclass": lambda array: array.view(np.recarray),
    "windows": lambda array: np.lib.stride_tricks.sliding_window_view(array, 3)[::50],
}
now = ""
then_release = False


def keep(_ipc: Any, way: str) -> None:
    """Keep what is heard from now on in this way; empty: not at all."""
    global now
    now = way


def keep_and_release(_ipc: Any, way: str) -> None:
    """The same, and release the array itself."""
    global now, then_release
    now, then_release = way, True


def forget(_ipc: Any) -> None:
    """Keep nothing any more, whatever has become of it."""
    kept.clear()


def take(event: Any, number: int, array: Any, expected: int) -> None:
    """Hear an event, check it, and keep what is made of its array."""
    global missed
    if crc(array) != expected:
        wrong.append(f"{number}: the array has changed")
    if array.flags.writeable:
        wrong.append(f"{number}: it can be written")
    places.append(in_place(array))
    missed += event.missed
    if now == "cycle":
        Node(array)
    elif now == "traceback":
        Node(raised(array))
    elif now == "random" and random.random() < 0.7:
        even = len(array) > 2 and len(array) % 2 == 0
        value = WAYS[random.choice([*WAYS] if even else ["itself", "slice", "steps", "memoryview"])](array)
        kept.insert(random.randrange(len(kept) + 1), (value, crc(value)))
        del array  # what is kept is all that holds it
        while len(kept) > random.randrange(1, 12):
            end(*kept.pop())
    elif now in WAYS:
        value = WAYS[now](array)
        kept.append((value, crc(value)))
        if then_release:
            lensipc.release(array)
            assert len(array) == 0
    heard.append(number)


def end(value: Any, expected: int) -> None:
    """See that what was kept is as it was, and drop it, or release it."""
    if crc(value) != expected:
        wrong.append("what was kept has changed")
    if type(value) in (np.ndarray, memoryview) and random.randrange(3) == 0:
        lensipc.release(value)


def keep_at_random(ipc: Any, seed: int) -> None:
    """Listen, and keep random views for random times."""
    random.seed(seed)
    keep(ipc, "random")
    listen(ipc)


async def reached(_ipc: Any, last: int) -> dict[str, Any]:
    """Once that event is heard: how many lay in place, and what was wrong."""
    while last >= 0 and heard[-1:] != [last] and not wrong:
        await asyncio.sleep(0.002)
    if heard != list(range(heard[0], heard[0] + len(heard))) if heard else False:
        gaps = [(one, other) for one, other in pairwise(heard) if other != one + 1]
        wrong.append(f"after the first event this did not follow this: {gaps}")
    return {"in place": sum(places), "wrong": wrong}


def listen(ipc: Any, when_slow: Any = "disconnect", **options: Any) -> None:
    """Listen, and read in place."""
    disposers.append(ipc.listen("n", take, when_slow=when_slow, arrays="view", **options))


def listen_here() -> None:
    """Listen, as the lab's part in this renderer."""
    listen(lab.IpcRenderer.get_instance())


def listen_too(ipc: Any) -> None:
    """Listen once more, for arrays of one's own."""

    def own(_event: Any, number: int, array: Any, expected: int) -> None:
        if crc(array) != expected:
            wrong.append(f"{number}: the copy has changed")
        array.fill(number % 256)  # it is writable
        places.append(in_place(array))

    disposers.append(ipc.listen("n", own))


def listen_in_turn(ipc: Any, orders: list[str]) -> None:
    """Listen to "turn" that often: to overwrite what comes by force, or to keep a copy, or to keep a view."""

    def overwrite_it(_event: Any, array: Any) -> None:
        ctypes.memset(array.ctypes.data, 0xA5, array.nbytes)

    def keep_it(_event: Any, array: Any) -> None:
        kept.append((array, 0))

    for order in orders:
        ipc.listen(
            "turn", overwrite_it if order == "overwrite" else keep_it, arrays="copy" if order == "copy" else "view"
        )


def of_turns(_ipc: Any) -> list[tuple[int, int]]:
    """The length of each array that came there, and how many of its bytes were overwritten."""
    return [(array.nbytes, int((array.view(np.uint8) != 1).sum())) for array, _ in kept]


def raise_later(ipc: Any, why: str) -> None:
    """Listen with an async listener that fails once it has waited."""

    async def fail(_event: Any, number: int, array: Any, _expected: int) -> None:
        places.append(in_place(array))
        heard.append(number)
        await asyncio.sleep(0)
        raise asyncio.CancelledError if why == "cancelled" else ValueError(why)

    logging.getLogger("lensipc").setLevel(logging.CRITICAL)
    ipc.listen("n", fail, arrays="view")


def stop(_ipc: Any) -> None:
    """Dispose of the listener that came first."""
    disposers.pop(0)()


async def numbers(_ipc: Any, count: int) -> tuple[list[int], list[str]]:
    """What was heard, once it is so much."""
    while len(heard) < count and not wrong:
        await asyncio.sleep(0.002)
    return heard, wrong


def where(_ipc: Any) -> list[bool]:
    """Whether each event lay in place."""
    return places


def check(_ipc: Any = None) -> int:
    """See that all that is kept is as it was; how much that is."""
    wrong.extend("what was kept has changed" for value, expected in kept if crc(value) != expected)
    assert wrong == []
    return len(kept)


def drop(_ipc: Any, how: str = "") -> int:
    """Keep nothing any more; how many events were missed."""
    check()
    if how == "thread":
        thread = threading.Thread(target=kept.clear)
        thread.start()
        thread.join()
    elif how == "collector":
        kept.append((kept, 0))
        globals()["kept"] = []
        gc.collect()
    kept.clear()
    return missed


def collects(_ipc: Any, does: bool) -> None:
    """Have the collector run, or not until it is told to."""
    (gc.enable if does else gc.disable)()
    if does:
        gc.collect()


def release(_ipc: Any) -> list[int]:
    """Give back what is kept; the lengths afterwards."""
    lensipc.release(*(value for value, _ in kept))
    for value, _ in kept:
        try:
            value[0]
        except (IndexError, ValueError):
            continue
        raise AssertionError(value)
    return [len(value) for value, _ in kept if type(value) is not memoryview]


def release_made_of_memoryviews(_ipc: Any) -> None:
    """Make an array of each memoryview that is kept, keep a slice of it in its place, and release the array."""
    for i, (value, _) in enumerate(kept):
        array = np.frombuffer(value, np.uint8)
        part = array[1000:5000]
        kept[i] = part, crc(part)
        lensipc.release(array)
        assert len(array) == 0


def release_bases(_ipc: Any) -> None:
    """Release what the arrays that are kept are views of, as far as that can be released."""
    for value, _ in kept:
        base = value.base
        while isinstance(base, (np.ndarray, memoryview)):
            below = base.obj if isinstance(base, memoryview) else base.base
            lensipc.release(base)
            base = below


def overwrite(_ipc: Any) -> None:
    """Write to what is kept, as C code does that knows nothing of read-only arrays."""
    for value, _ in kept:
        ctypes.memset(value.ctypes.data, 0xA5, value.nbytes)
        assert (np.asarray(value) == 0xA5).all()


def read_by_address(_ipc: Any) -> int:
    """What a released array's memory has: the address alone is kept."""
    return sum(ctypes.string_at(address, 4096).count(0) for address in addresses)


addresses: list[int] = []


def note_addresses(_ipc: Any) -> None:
    """Keep the addresses of what is kept."""
    addresses.extend(value.ctypes.data for value, _ in kept)


def fork(_ipc: Any, in_c: bool) -> None:
    """Fork, perhaps without Python's hooks. The child waits, and then checks what is kept."""
    global child
    read, write = os.pipe()
    pid = ctypes.PyDLL(None).fork() if in_c else os.fork()
    if pid == 0:
        os.close(write)
        os.read(read, 1)
        try:
            check()
            kept.clear()
        except BaseException:
            os._exit(1)
        os._exit(0)
    os.close(read)
    child = pid, write


# What shows an array's memory when it was released, and cannot be seen by `release`.
HIDDEN: dict[str, Callable[[Any], Any]] = {
    "masked": lambda array: np.ma.masked_array(array, mask=False),
    "windows": lambda array: np.lib.stride_tricks.sliding_window_view(array, 3),
    "flat": lambda array: array.flat,
}


def fork_and_read(_ipc: Any, how: str, twice: bool) -> int:
    """Release what is kept while something shows it, and fork. The child reads it; its exit status."""
    ((array, _),) = kept
    shown = HIDDEN[how](array)
    lensipc.release(array)
    for _ in range(1 + twice):
        pid = os.fork()
        if pid == 0:
            np.asarray(shown[:100_000]).sum()
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status


def status_of_child(_ipc: Any) -> int:
    """Let the child go on; its exit status."""
    os.close(child[1])
    return os.waitstatus_to_exitcode(os.waitpid(child[0], 0)[1])


def bulk(ipc: Any) -> None:
    """Listen to bytes-like values, and keep them."""

    def take_bulk(_event: Any, *values: Any) -> None:
        for value in values:
            kept.append((value, crc(value)))

    ipc.listen("bulk", take_bulk, arrays="view")


def count(_ipc: Any) -> int:
    """How much is kept."""
    return len(kept)


def listen_again(ipc: Any, options: dict[str, Any]) -> None:
    """Listen with further options."""
    listen(ipc, **options)


def writable(_ipc: Any) -> list[bool]:
    """Whether what is kept can be written."""
    return [not memoryview(value).readonly for value, _ in kept]


def told(_ipc: Any) -> list[str]:
    """What kept values are."""
    return [f"{type(value).__name__}{' in place' if in_place(value) else ''}" for value, _ in kept]


def refused(ipc: Any) -> list[str]:
    """The errors of wrong arguments."""
    errors = []
    for wrong_call in (
        lambda: ipc.listen("n", take, arrays="views"),
        lambda: lensipc.release(np.zeros(3)[1:], [1]),
        lambda: lensipc.release(np.zeros(3)),
        lambda: lensipc.release(b"", np.array(1), np.zeros(3)[1:2].reshape(()), None),
    ):
        try:
            wrong_call()
        except (TypeError, ValueError) as error:
            errors.append(f"{type(error).__name__}: {error}")
    return errors


def memory() -> tuple[int, int]:
    """Descriptors of this process, and mappings of slabs."""
    with open("/proc/self/maps") as maps:  # noqa: PTH123
        return len(os.listdir("/proc/self/fd")), maps.read().count("memfd:lensipc")  # noqa: PTH208


def used(_ipc: Any) -> tuple[int, int]:
    """The same."""
    return memory()


def hear_plainly(ipc: Ipc.Renderer) -> None:
    """For a script: listen, and keep all."""
    keep(ipc, "itself")
    listen(ipc)
