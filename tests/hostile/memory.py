# SPDX-License-Identifier: MIT
"""Attacks by what is shared: the socket, the segment, the eventfd."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from hosting import until

from hostile.catalogue import EITHER, INVALID, VALID, attack, attacks
from hostile.renderer import DATA_OFFSET, RINGS, SLEEPERS, Renderer, frame
from lensipc import clone
from lensipc.runtime.protocol import ALL, EVENT, INVOKE, LISTEN

# ---- the socket ----


@attacks(INVALID, "a_datagram", b"w", b"{}", b'{"goodbye": "x"}', b"x" * 100_000)
def _datagram(renderer: Renderer, _rng: random.Random, data: bytes) -> None:
    renderer.sock.send(data)


@attack(VALID)
def an_empty_datagram_is_an_end(renderer: Renderer, _rng: random.Random) -> None:
    renderer.sock.send(b"")
    renderer.close()


@attack(INVALID)
def descriptors(renderer: Renderer, _rng: random.Random) -> None:
    for _ in range(20):
        with suppress(OSError):
            socket.send_fds(renderer.sock, [b"for you"], [renderer.segment] * 100)


@attack(VALID)
async def the_socket_is_shut_down(renderer: Renderer, _rng: random.Random) -> None:
    renderer.invoke(0, 1)
    renderer.sock.shutdown(socket.SHUT_RDWR)
    await until(lambda: renderer.gone)


@attack(VALID)
def leaves_without_a_word(renderer: Renderer, _rng: random.Random) -> None:
    renderer.invoke(0, 1)
    renderer.close()


# ---- the memory and the eventfd ----


@attack(VALID)
def changes_of_size_and_seals_are_refused(renderer: Renderer, _rng: random.Random) -> None:
    import fcntl

    for size in (0, 4096, len(renderer.memory) - 1, len(renderer.memory) * 2):
        try:
            os.ftruncate(renderer.segment, size)
        except PermissionError:
            continue
        raise AssertionError(f"the segment could be made {size} bytes")
    try:
        fcntl.fcntl(renderer.segment, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    except PermissionError:
        return
    raise AssertionError("a seal could be added")


@attack(VALID)
def returns_are_made_up_where_nothing_is_held(renderer: Renderer, rng: random.Random) -> None:
    renderer.memory[448:17_000] = rng.randbytes(17_000 - 448)  # the ring of returns, of which main looks at nothing yet
    renderer.wake()
    renderer.invoke(0, 1)


def _punch(fd: int, offset: int, length: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    keep_size, punch = 1, 2
    if libc.fallocate(fd, keep_size | punch, ctypes.c_long(offset), ctypes.c_long(length)):
        raise OSError(ctypes.get_errno(), "fallocate")


@attack(INVALID)
def a_hole_is_punched_where_frames_wait(renderer: Renderer, _rng: random.Random) -> None:
    renderer.put(*(frame(EVENT, 0, ALL, body=clone.encode((1,))) for _ in range(8)))
    position = renderer.write_pos
    _punch(renderer.segment, DATA_OFFSET, 2 * renderer.capacity)
    renderer.poke(RINGS + 128, position)


@attack(INVALID)
def a_hole_is_punched_where_the_positions_are(renderer: Renderer, _rng: random.Random) -> None:
    _punch(renderer.segment, 0, DATA_OFFSET)
    renderer.wake()


@contextmanager
def _meanwhile(disturb: Callable[[], None]) -> Iterator[None]:
    """Do something again and again in another thread."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            disturb()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@attacks(EITHER, "bits_flip_while_main_reads_in", "positions", "data", "everything")
async def _flips(renderer: Renderer, rng: random.Random, where: str) -> None:
    begin, end = {
        "positions": (0, 512),
        "data": (DATA_OFFSET, len(renderer.memory)),
        "everything": (0, len(renderer.memory)),
    }[where]
    own = random.Random(rng.random())
    body = clone.encode(({"numbers": list(range(50)), "text": "x" * 200},))

    def flip() -> None:
        for _ in range(100):
            renderer.memory[own.randrange(begin, end)] ^= 1 << own.randrange(8)

    await _invoke_meanwhile(renderer, body, flip)


@attack(EITHER)
async def holes_are_punched_while_main_reads(renderer: Renderer, _rng: random.Random) -> None:
    body = clone.encode((bytes(5000),))
    await _invoke_meanwhile(renderer, body, lambda: _punch(renderer.segment, 0, len(renderer.memory)))


async def _invoke_meanwhile(renderer: Renderer, body: bytes, harm: Callable[[], None]) -> None:
    """Invoke while a thread does harm all the time."""
    with _meanwhile(harm):
        for _ in range(20):
            if renderer.gone:
                break
            renderer.put(frame(INVOKE, 0, correlation=renderer.next_id(), body=body))
            await asyncio.sleep(0.001)
    await _away(renderer)


async def _away(renderer: Renderer) -> None:
    """Main has noticed, or this renderer leaves: where its positions are now, nobody could tell what main has read."""
    for _ in range(20):
        renderer.wake()
        await asyncio.sleep(0.001)
    if not renderer.gone:
        renderer.close()


@attack(VALID)
async def its_wakes_are_never_read(renderer: Renderer, _rng: random.Random) -> None:
    renderer.send(LISTEN, renderer.declare("unread"))
    await renderer.parked()
    for number in range(600):  # a socket holds some 278
        for side in range(2):
            renderer.memory[SLEEPERS + 64 * side : SLEEPERS + 64 * side + 4] = b"\xff" * 4
        renderer.host.ipc.broadcast("unread", number)
        if number % 20 == 0:
            renderer.receive()
            await asyncio.sleep(0)


def drain(fd: int) -> None:
    """Empty an eventfd, without waiting for it to be anything else."""
    os.set_blocking(fd, False)
    with suppress(BlockingIOError):
        os.eventfd_read(fd)


@attack(VALID)
async def the_eventfd_is_full_and_blocks(renderer: Renderer, _rng: random.Random) -> None:
    drain(renderer.wakeup_fd)
    os.eventfd_write(renderer.wakeup_fd, 2**64 - 2)
    os.set_blocking(renderer.wakeup_fd, True)  # the flag is the open file's: main's descriptor has it too
    renderer.memory[SLEEPERS : SLEEPERS + 4] = bytes(4)  # nobody is parked: this side does not write to it either
    renderer.invoke(0, 1)
    await asyncio.sleep(0.01)
    drain(renderer.wakeup_fd)
    renderer.wake()


@attack(VALID)
async def the_eventfd_is_drained_and_blocks(renderer: Renderer, _rng: random.Random) -> None:
    renderer.invoke(0, 1)
    drain(renderer.wakeup_fd)
    os.set_blocking(renderer.wakeup_fd, True)
    await asyncio.sleep(0.01)
    renderer.wake()


@attack(VALID)
async def wakes_without_end(renderer: Renderer, _rng: random.Random) -> None:
    for number in range(5000):
        os.eventfd_write(renderer.wakeup_fd, 1)
        if number % 50 == 0:
            await asyncio.sleep(0)
