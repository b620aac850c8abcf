# SPDX-License-Identifier: MIT
"""Guarantee 15: a large event for several renderers is written once, and nobody's reading is another's trouble."""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import random
import re
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pooled
import pytest
from hostile.renderer import Renderer, connect
from hosting import Host, hosting, until
from test_life import program, said

from lensipc import ExtensionManifest, MainProcess, ProtocolError, RendererHandle, Types
from lensipc.main import slab_pool
from lensipc.main.slab_pool import KEPT, LEAST
from lensipc.runtime.protocol import LISTEN
from lensipc.transport import handshake
from lensipc.transport.endpoint import Endpoint
from lensipc.transport.slabs import Slabs

MIB = 1 << 20
OTHER = ExtensionManifest("other", "1", main="other:OtherMain", renderer="other:OtherRenderer")


def slabs_of(pid: int) -> dict[str, int]:
    """The bytes of each slab that a process has mapped, by inode. Segments are mapped in smaller pieces."""
    found: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        fields = re.match(r"(\w+)-(\w+) \S+ \w+ \S+ (\d+) +/memfd:lensipc", line)
        if fields is not None:
            found[fields[3]] = found.get(fields[3], 0) + int(fields[2], 16) - int(fields[1], 16)
    return {inode: size for inode, size in found.items() if size >= LEAST}


def files_of_slabs(pid: int | str = "self") -> int:
    """How many descriptors of slabs and segments a process has."""
    paths = []
    for fd in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208
        with suppress(FileNotFoundError):
            paths.append(os.readlink(f"/proc/{pid}/fd/{fd}"))  # noqa: PTH115
    return paths.count("/memfd:lensipc (deleted)")


class AlarmError(Exception):
    """What a signal's handler raises."""


@contextmanager
def stopped(*renderers: RendererHandle) -> Any:
    """These renderers read nothing in this block."""
    for each in renderers:
        os.kill(each.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in renderers:
            with suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGCONT)


class Sender:
    """Main, which broadcasts numbered arrays, and the renderers that check them."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.sent = 0

    def broadcast(self, size: int, *, keep: bool = False) -> None:
        """The next one."""
        self.host.ipc.broadcast("n", *pooled.message(self.sent, size), keep=keep)
        self.sent += 1

    async def broadcast_to(self, others: Sequence[RendererHandle], count: int, size: int = MIB) -> None:
        """The next ones, each when all others have heard the one before."""
        for _ in range(count):
            self.broadcast(size)
            await self.check(*others)

    async def hear_last(self, slow: RendererHandle) -> list[int]:
        """What a renderer that has lost some heard, the last one included. What it heard is as it was sent."""
        heard: list[int] = []
        while self.sent - 1 not in heard:
            heard, wrong = await self.host.ipc.run(slow, "pooled:numbers", 0)
            assert wrong == []
        return heard

    async def check(self, *renderers: RendererHandle) -> None:
        """All of it is heard by each of these, once, in order, and as it was sent."""
        for each in renderers:
            heard, wrong = await self.host.ipc.run(each, "pooled:numbers", self.sent)
            assert wrong == []
            assert heard == list(range(self.sent))

    async def warm_up(self, size: int = MIB) -> None:
        """Until a large event lies in the pool for everybody, and none is held."""
        pool = self.host.main._core.pool
        while True:
            uses = sum(each.owner.look(each.number).uses for each in pool._slabs)
            self.broadcast(size)
            await self.check(*self.host.renderers)
            everybody = all(len(each.readers) == len(self.host.renderers) for each in pool._slabs)
            if everybody and sum(each.owner.look(each.number).uses for each in pool._slabs) == uses + 1:
                break
        await until(lambda: self.host.main.pool.blocks == 0)


@asynccontextmanager
async def sending(renderers: int, when_slow: str = "disconnect", **options: Any) -> AsyncIterator[Sender]:
    """A host whose renderers check what they hear."""
    async with hosting(renderers, **options) as host:
        for each in host.renderers:
            await host.ipc.run(each, "pooled:check", "n", when_slow)
        yield Sender(host)


async def test_a_large_event_is_written_once_for_all_who_have_not_read_it() -> None:
    async with sending(3) as sender:
        await sender.warm_up()
        main, renderers = sender.host.main, sender.host.renderers
        with stopped(*renderers):
            for _ in range(2):
                sender.broadcast(MIB)
            pool = main.pool
            assert (pool.slabs, pool.blocks) == (1, 2)
            assert 2 * MIB < pool.held < 2.1 * MIB
            assert pool.holders == {each.frame_id: pool.held for each in renderers}
        await sender.check(*renderers)
        await until(lambda: main.pool.blocks == 0)
        assert main.pool.holders == {}
        assert {len(slabs_of(each.pid)) for each in renderers} == {1}


async def test_events_of_all_sizes_are_heard_in_order_whichever_way_they_take() -> None:
    sizes = [10, 40_000, 70_000, MIB, 200_000, 5, 3 * MIB, 65_000, 66_000, 20 * MIB, 100]
    async with sending(3) as sender:
        await sender.warm_up()
        for size in sizes * 3:
            sender.broadcast(size)
            if size == 5:
                await sender.host.ipc.drain()
        await sender.check(*sender.host.renderers)


async def test_a_burst_is_heard_in_whole_though_the_pool_is_full() -> None:
    async with sending(3, pool_limit=8 * MIB) as sender:
        await sender.warm_up()
        slow, *others = sender.host.renderers
        with stopped(slow):
            await sender.broadcast_to(others, 12)
            assert sender.host.main.pool.bytes <= 8 * MIB
            assert sender.host.main.pool.holders.keys() == {slow.frame_id}
        await sender.check(slow)
        await until(lambda: sender.host.main.pool.blocks == 0)


async def test_who_reads_too_slowly_holds_no_more_than_its_share() -> None:
    async with sending(3, high_water=MIB, pool_limit=64 * MIB) as sender:
        await sender.warm_up()
        slow, *others = sender.host.renderers
        with stopped(slow):
            await sender.broadcast_to(others, 20)
            assert 3 * MIB < sender.host.main.pool.holders[slow.frame_id] <= 8 * MIB
        await sender.check(slow)


async def test_a_renderers_share_is_an_eighth_of_the_pool_and_who_has_no_share_left_is_named() -> None:
    async with sending(2, high_water=MIB // 4) as sender:
        await sender.warm_up(3 * MIB)
        slow, fast = sender.host.renderers
        before = sender.host.main.pool.by_ring
        with stopped(slow):
            await sender.broadcast_to([fast], 12, 3 * MIB)
            held = sender.host.main.pool.holders[slow.frame_id]
            assert 8 * MIB < held <= 32 * MIB
            by_ring = sender.host.main.pool.by_ring[slow.frame_id] - before.get(slow.frame_id, 0)
            assert by_ring == 12 - held // (3 * MIB)
        await sender.check(slow)


async def test_drain_waits_for_who_holds_much() -> None:
    async with sending(2, high_water=MIB) as sender:
        await sender.warm_up()
        slow, fast = sender.host.renderers
        with stopped(slow):
            for _ in range(5):
                sender.broadcast(MIB)
            connection = sender.host.main._core.connections[slow.frame_id]
            assert connection.endpoint.outbox > 4 * MIB
            draining = asyncio.ensure_future(sender.host.ipc.drain())
            await sender.check(fast)
        await draining
        await sender.check(slow)
        await until(lambda: sender.host.main.pool.blocks == 0)


async def test_a_channel_that_drops_holds_no_more_than_would_wait_in_the_outbox() -> None:
    async with sending(2, "drop_oldest", high_water=MIB) as sender:
        await sender.warm_up(200_000)
        slow, fast = sender.host.renderers
        with stopped(slow):
            await sender.broadcast_to([fast], 30, 200_000)
            assert sender.host.main.pool.holders[slow.frame_id] <= MIB
        heard = await sender.hear_last(slow)  # the newest comes, and the oldest of those that waited do not
        assert len(heard) < sender.sent
        await until(lambda: sender.host.main.pool.blocks == 0)


async def test_where_the_newest_event_alone_waits_one_is_held() -> None:
    async with sending(2, "keep_newest") as sender:
        await sender.warm_up(200_000)
        slow, fast = sender.host.renderers
        with stopped(slow):
            for _ in range(30):
                sender.broadcast(200_000)
                await sender.check(fast)
                assert sender.host.main.pool.holders[slow.frame_id] < 210_000
        heard = await sender.hear_last(slow)
        assert len(heard) < sender.sent - 20
        await until(lambda: sender.host.main.pool.blocks == 0)


async def test_a_kept_event_of_any_way_is_in_its_place_for_who_listens_late() -> None:
    async with sending(2) as sender:
        await sender.warm_up()
        late = await sender.host.main.spawn_renderer()
        for size in (MIB, 100, 200_000):
            for _ in range(3):
                sender.broadcast(size, keep=True)
            listening = asyncio.ensure_future(sender.host.ipc.run(late, "pooled:check", "n", None, True))
            while not listening.done():
                sender.broadcast(size)
                await asyncio.sleep(0.002)
            sender.broadcast(size)
            await sender.check(*sender.host.renderers)
            heard: list[int] = []
            while not heard or heard[-1] < sender.sent - 1:
                heard, wrong = await sender.host.ipc.run(late, "pooled:numbers", 1)
                assert wrong == []
            kept, *rest = heard
            assert rest == list(range(rest[0], sender.sent))
            assert kept <= rest[0]
            await sender.host.ipc.run(late, "pooled:deaf")


async def test_a_renderer_that_is_killed_holds_nothing_any_more() -> None:
    async with sending(3) as sender:
        await sender.warm_up()
        victim, *others = sender.host.renderers
        with stopped(victim):
            for _ in range(3):
                sender.broadcast(MIB)
            await sender.check(*others)
            assert sender.host.main.pool.blocks == 3
            victim.kill()
            await victim.wait()
        await until(lambda: sender.host.main.pool.blocks == 0)
        sender.broadcast(MIB)
        await sender.check(*others)


# ---- what is read after main has closed ----

READER = """
    async def run():
        reconnect, token = "reconnect" in sys.argv, sys.argv[2] if "token" in sys.argv[-1] else None
        async with RendererProcess.connect(sys.argv[1], reconnect=reconnect, token=token) as renderer:
            await renderer.wait_closed()
    asyncio.run(run())
"""


async def test_a_renderer_that_main_has_closed_hears_all_that_it_was_sent_and_nothing_else(tmp_path: Path) -> None:
    note = tmp_path / "heard"
    async with sending(3) as sender:
        await sender.warm_up()
        main = sender.host.main
        slow, *others = sender.host.renderers
        await sender.host.ipc.run(slow, "pooled:note_to", str(note))
        first = sender.sent
        with stopped(slow):
            for _ in range(3):
                sender.broadcast(MIB)
            await sender.check(*others)
            main._core.disconnect(main._core.connections[slow.frame_id], "a test")
            await sender.broadcast_to(others, 12)  # more than the slab has room for
            assert 3 * MIB < main.pool.holders[slow.frame_id] < 3.1 * MIB
        assert await slow.wait() == 0  # it reads what is left, and then the end
        assert note.read_text().split() == [str(first + each) for each in range(3)]
        await until(lambda: main.pool.blocks == 0)


async def test_a_renderer_that_was_closed_and_is_killed_holds_nothing_any_more() -> None:
    async with sending(2) as sender:
        await sender.warm_up()
        main, (slow, fast) = sender.host.main, sender.host.renderers
        with stopped(slow):
            sender.broadcast(MIB)
            await sender.check(fast)
            main._core.disconnect(main._core.connections[slow.frame_id], "a test")
            assert main.pool.blocks == 1
            slow.kill()
        await until(lambda: main.pool.blocks == 0)


async def test_a_renderer_whose_wrapper_is_killed_hears_all_that_it_was_sent_and_nothing_else(tmp_path: Path) -> None:
    note, wrapper = tmp_path / "heard", tmp_path / "wrapper"
    wrapper.write_text(f'#!/bin/sh\n"{sys.executable}" "$@"\nexit $?\n')
    wrapper.chmod(0o700)
    async with sending(2) as sender:
        main, others = sender.host.main, sender.host.renderers
        handle = await main.spawn_renderer(executable=wrapper)
        children = Path(f"/proc/{handle.pid}/task/{handle.pid}/children").read_text()
        reader: Any = SimpleNamespace(pid=int(children))  # which is not the process that main has started
        await sender.host.ipc.run(reader, "pooled:check", "n")
        while handle.frame_id not in main.pool.holders:  # until it has mapped a slab
            await sender.check(reader, *others)
            await sender.host.ipc.run(reader, "pooled:note_to", str(note))
            first = sender.sent
            with stopped(reader):
                for _ in range(3):
                    sender.broadcast(MIB)
                await sender.check(*others)
                if handle.frame_id in main.pool.holders:
                    handle.kill()
                    await handle.wait()
                    await until(lambda: handle not in main.renderers)
                    await sender.broadcast_to(others, 12)  # more than the slab has room for
                    assert handle.frame_id in main.pool.holders
        await until(lambda: main.pool.blocks == 0)  # it has read what was left, and ended
        assert note.read_text().split() == [str(first + each) for each in range(3)]


async def test_a_renderer_that_connects_again_hears_what_was_left_and_then_goes_on(tmp_path: Path) -> None:
    path, note = tmp_path / "s", tmp_path / "heard"
    async with sending(2, path=path) as sender, program(READER, path, "reconnect") as reader:
        main, ipc = sender.host.main, sender.host.ipc
        expected: list[int] = []

        async def attached() -> RendererHandle:
            await until(lambda: len(main.extensions["lab"].renderers) == 3)
            await ipc.run(main.renderers[-1], "pooled:check", "n")
            return main.renderers[-1]

        async def send() -> None:
            sender.broadcast(MIB)
            await sender.check(*sender.host.renderers)

        slow = await attached()
        await ipc.run(slow, "pooled:note_to", str(note))
        for _ in range(3):
            while slow.frame_id not in main.pool.holders:  # until it has mapped a slab
                await asyncio.sleep(0.02)
                with stopped(slow):
                    expected.append(sender.sent)
                    await send()
                    if slow.frame_id in main.pool.holders:
                        main._core.disconnect(main._core.connections[slow.frame_id], "a test")
                        await send()  # which is not for it
            again = await attached()
            assert slow.frame_id not in main.pool.holders
            slow = again
        await until(lambda: [int(each) for each in note.read_text().split()] == expected)
        await until(lambda: len(slabs_of(slow.pid)) <= 1)
        reader.kill()


HOST = """
    import lab, pooled, signal
    from lensipc.main import lifecycle
    lifecycle.DEACTIVATION_WAIT = 0.2

    async def run():
        main = await MainProcess(sys.argv[1]).start()
        await main.install(lab.MANIFEST)
        ipc, sent = lab.IpcMain.get_instance(), 0
        while len(main.extensions["lab"].renderers) < 2:
            await asyncio.sleep(0.005)
        fast, slow = main.renderers
        await ipc.run(slow, "pooled:note_to", sys.argv[2])
        for each in main.renderers:
            await ipc.run(each, "pooled:check", "n")

        async def send():
            nonlocal sent
            ipc.broadcast("n", *pooled.message(sent, 1 << 20))
            sent += 1
            await ipc.run(fast, "pooled:numbers", sent)

        while slow.frame_id not in main.pool.holders:  # until it has mapped a slab
            os.kill(slow.pid, signal.SIGCONT)
            await ipc.run(slow, "pooled:numbers", sent)
            os.kill(slow.pid, signal.SIGSTOP)
            await send()
        await send()
        await send()
        print(slow.pid, sent, main.pool.blocks, flush=True)
        if sys.argv[3] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif sys.argv[3] == "closed":
            await main.aclose()

    asyncio.run(run())
"""


@pytest.mark.parametrize("end", ["killed", "closed", "ended without closing"])
async def test_whatever_a_renderer_has_not_read_when_main_ends_is_heard(tmp_path: Path, end: str) -> None:
    path, note = tmp_path / "s", tmp_path / "heard"
    async with program(HOST, path, note, end) as main:
        await until(path.exists)
        async with program(READER, path) as one, program(READER, path) as another:
            assert main.stdout is not None
            pid, sent, blocks = map(int, (await main.stdout.readline()).split())
            await main.wait()
            os.kill(pid, signal.SIGCONT)
            assert [await each.wait() for each in (one, another)] == [0, 0]
    assert blocks == 3
    assert note.read_text().split() == [str(each) for each in range(sent)]


async def test_what_is_in_the_pool_is_heard_before_a_part_is_deactivated(tmp_path: Path) -> None:
    note = tmp_path / "heard"
    async with sending(2) as sender:
        await sender.warm_up()
        slow = sender.host.renderers[0]
        await sender.host.ipc.run(slow, "pooled:note_to", str(note), 0.05)
        first = sender.sent
        for _ in range(5):
            sender.broadcast(MIB)
        assert sender.host.main.pool.blocks >= 3
    assert note.read_text().split() == [str(first + each) for each in range(5)]


async def test_a_renderers_large_event_is_written_once_for_the_others() -> None:
    async with sending(3) as sender:
        await sender.warm_up()
        sender_there, *others = sender.host.renderers
        uses = sender.host.main._core.pool._slabs[0].owner.look(1).uses
        await sender.host.ipc.run(sender_there, "pooled:broadcast", "n", sender.sent, 10, MIB)
        sender.sent += 10
        await sender.check(sender_there, *others)
        assert sender.host.main._core.pool._slabs[0].owner.look(1).uses == uses + 10
        await until(lambda: sender.host.main.pool.blocks == 0)


@pytest.mark.parametrize("seed", [random.randrange(2**32)])
async def test_whoever_is_killed_meanwhile_every_array_is_as_it_was_sent(seed: int) -> None:
    rng = random.Random(seed)
    async with sending(2, pool_limit=16 * MIB, high_water=512 * 1024) as sender:
        main, ipc = sender.host.main, sender.host.ipc
        for _ in range(3):
            victim = await main.spawn_renderer()
            await ipc.run(victim, "pooled:check", "n")
            for _ in range(rng.randrange(5, 40)):
                sender.broadcast(int(2 ** rng.uniform(14, 21.5)))
                if rng.randrange(3) == 0:
                    await ipc.drain()
                elif rng.randrange(4) == 0:
                    await asyncio.sleep(0.001)
            victim.kill()
            await victim.wait()
            await sender.check(*sender.host.renderers)
        await until(lambda: main.pool.blocks == 0)


@pytest.mark.parametrize("options", [{"pool_limit": 0}, {"form": "shm"}])
async def test_without_a_pool_large_events_go_through_the_rings(options: dict[str, Any]) -> None:
    async with sending(2, **options) as sender:
        for _ in range(5):
            sender.broadcast(MIB)
            await sender.check(*sender.host.renderers)
        assert (sender.host.main.pool.limit, sender.host.main.pool.slabs) == (0, 0)


async def test_where_there_is_no_memory_for_a_slab_large_events_go_through_the_rings(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(slab_pool, "RETRY", 0.05)
    caplog.set_level("INFO", "lensipc")
    async with sending(2) as sender:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, before[1]))  # of a memfd, too
        try:
            for _ in range(5):
                sender.broadcast(MIB)
                await sender.check(*sender.host.renderers)
            assert sender.host.main.pool.slabs == 0
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert "no memory is shared for large events" in caplog.text
        await sender.warm_up()  # and it recovers


@pytest.mark.parametrize("what", ["descriptors", "memory"])
async def test_a_renderer_that_cannot_map_a_slab_hears_all_the_same(what: str) -> None:
    async with sending(3) as sender:
        poor, *rich = sender.host.renderers
        sender.broadcast(1000)  # it imports what it needs
        await sender.check(*sender.host.renderers)
        await sender.host.ipc.run(poor, "pooled:starve", what)
        for _ in range(8):
            sender.broadcast(200_000)
            await sender.check(*sender.host.renderers)
        assert slabs_of(poor.pid) == {}
        assert all(len(slabs_of(each.pid)) == 1 for each in rich)


@pytest.mark.parametrize("comes", [True, False])
async def test_a_renderer_that_is_quicker_than_the_descriptor_waits_for_it(
    comes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hand(sock: socket.socket, number: int, hold: int, fd: int) -> None:
        sock.send(json.dumps({"slab": number, "hold": hold}).encode())
        time.sleep(0.05)  # the renderers read that meanwhile
        if not comes:
            sock.send(b"w")  # a wake
            raise BlockingIOError
        socket.send_fds(sock, [handshake.SLAB], [fd])

    async with sending(2) as sender:
        with monkeypatch.context() as patched:
            patched.setattr(handshake, "hand_slab", hand)
            for _ in range(3):
                sender.broadcast(MIB)
                await sender.check(*sender.host.renderers)
        await sender.warm_up()


@pytest.mark.parametrize("where", ["read_words", "receive_slab"])
async def test_a_signal_that_raises_in_a_renderer_that_is_handed_a_slab_costs_no_connection(where: str) -> None:
    async with sending(3) as sender:
        host, interrupted = sender.host, sender.host.renderers[0]
        await host.ipc.run(interrupted, "pooled:raise_after", where)
        for _ in range(4):
            sender.broadcast(MIB)
            await sender.check(*host.renderers)
        assert await host.ipc.run(interrupted, "pooled:raised") == [where]
        assert files_of_slabs(interrupted.pid) == 0
        assert len(host.main.renderers) == 3


async def test_a_slab_holds_one_extensions_data_and_only_its_listeners_have_it() -> None:
    import other

    async with hosting(2) as host:
        await host.main.install(OTHER)
        stranger = await host.main.spawn_renderer(["other"])
        deaf = await host.main.spawn_renderer()
        for each in host.renderers:
            await host.ipc.run(each, "pooled:check", "n")
            await host.ipc.run(each, "other:note", "n")
        for number in range(6):
            host.ipc.broadcast("n", *pooled.message(number, MIB))
            other.IpcMain.get_instance().broadcast("n", bytes(MIB))
            for each in host.renderers:
                assert (await host.ipc.run(each, "pooled:numbers", number + 1))[1] == []
        await until(lambda: all(len(slabs_of(each.pid)) == 2 for each in host.renderers))
        assert slabs_of(stranger.pid) == {}
        assert slabs_of(deaf.pid) == {}
        ours, theirs = host.main._core.ports["lab"].slabs, host.main._core.ports["other"].slabs
        assert {each.owner for each in host.main._core.pool._slabs} == {ours, theirs}
        assert ours is not theirs


async def test_who_connects_with_a_token_hears_all_and_has_no_memory_of_the_pool(tmp_path: Path) -> None:
    path, token = tmp_path / "s", "a token of the tests"
    async with sending(2, path=path, token=token) as sender, program(READER, path, token) as process:
        main = sender.host.main
        await until(lambda: len(main.extensions["lab"].renderers) == 3)
        visitor = main.renderers[-1]
        await sender.host.ipc.run(visitor, "pooled:check", "n")
        for _ in range(3):
            sender.broadcast(MIB)
            await sender.check(visitor, *sender.host.renderers)
        await until(lambda: all(len(slabs_of(each.pid)) == 1 for each in sender.host.renderers))
        for _ in range(3):
            sender.broadcast(MIB)
            await sender.check(visitor, *sender.host.renderers)
        assert slabs_of(visitor.pid) == {}
        assert visitor.frame_id not in main.pool.holders
        process.kill()


async def test_where_nobody_may_have_a_slab_none_is_made(tmp_path: Path) -> None:
    path, token = tmp_path / "s", "a token of the tests"
    async with sending(1, path=path, token=token) as sender, program(READER, path, token) as process:
        main = sender.host.main
        await until(lambda: len(main.extensions["lab"].renderers) == 2)
        await sender.host.ipc.run(main.renderers[-1], "pooled:check", "n")
        for _ in range(3):
            sender.broadcast(MIB)
            await sender.check(*main.renderers)
        assert main.pool.slabs == 0
        process.kill()


async def test_what_is_for_one_renderer_alone_does_not_lie_in_the_pool() -> None:
    async with sending(2) as sender:
        await sender.warm_up()
        (slab,) = sender.host.main._core.pool._slabs
        first, _ = sender.host.renderers
        uses = slab.owner.look(slab.number).uses
        sender.host.ipc.send(first.frame_id, "n", *pooled.message(sender.sent, MIB))
        await sender.host.ipc.run(first, "pooled:numbers", sender.sent + 1)
        sender.host.ipc.handle("large", lambda _event: bytes(MIB))
        assert await sender.host.ipc.run(first, "invoke", "large") == bytes(MIB)
        assert slab.owner.look(slab.number).uses == uses


async def test_memory_that_is_not_used_is_given_back_everywhere_and_comes_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slab_pool, "IDLE", 0.05)
    async with sending(2) as sender:
        for _ in range(2):
            await sender.warm_up(MIB // 2)
            await sender.warm_up(12 * MIB)
            assert sender.host.main.pool.bytes > KEPT
            await until(lambda: sender.host.main.pool.bytes <= KEPT)
            await until(lambda: all(sum(slabs_of(each.pid).values()) <= KEPT for each in sender.host.renderers))
        sender.broadcast(12 * MIB)
        await sender.check(*sender.host.renderers)


async def test_a_slab_goes_back_once_nobody_listens_to_its_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    import other

    monkeypatch.setattr(slab_pool, "IDLE", 0.05)
    async with sending(2) as sender:
        host, pool = sender.host, sender.host.main._core.pool
        await host.main.install(OTHER)
        for each in host.renderers:
            await host.ipc.run(each, "other:note", "n")
        while pool._bytes() == 0:
            other.IpcMain.get_instance().broadcast("n", bytes(MIB))
            await asyncio.sleep(0.01)
        await until(lambda: all(len(slabs_of(each.pid)) == 1 for each in host.renderers))
        await host.main.uninstall("other")
        await until(lambda: host.main.pool.slabs == 0)
        assert all(slabs_of(each.pid) == {} for each in host.renderers)
        await sender.warm_up()
        assert host.main.pool.slabs == 1


async def test_a_renderer_that_lives_long_is_watched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slab_pool, "IDLE", 0.02)
    monkeypatch.setattr(slab_pool, "KEPT", 0)
    async with sending(2) as sender:
        before = {each: len(each.on_closed) for each in sender.host.main._core.connections.values()}
        for _ in range(4):
            await sender.warm_up()
            await until(lambda: sender.host.main.pool.slabs == 0)
        assert [len(each.on_closed) for each in before] == [count + 1 for count in before.values()]


@pytest.mark.parametrize("where", ["made", "handed over"])
async def test_a_signal_that_raises_while_a_slab_is_made_or_handed_over_costs_no_slab(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_add, really_hand = Slabs.add, handshake.hand_slab
    files = files_of_slabs()
    rung: list[str] = []

    def ring(here: str) -> None:
        if here == where and not rung:
            rung.append(here)
            signal.raise_signal(signal.SIGUSR1)

    def add(*arguments: Any) -> None:
        really_add(*arguments)
        ring("made")

    def hand(*arguments: Any) -> None:
        really_hand(*arguments)
        ring("handed over")

    def on_signal(*_: object) -> None:
        raise AlarmError

    before = signal.signal(signal.SIGUSR1, on_signal)
    try:
        async with sending(2) as sender:
            with monkeypatch.context() as patched:
                patched.setattr(Slabs, "add", add)
                patched.setattr(handshake, "hand_slab", hand)
                with pytest.raises(AlarmError):
                    sender.broadcast(MIB)
                sender.sent += 1  # the event itself was sent before
                await sender.check(*sender.host.renderers)
            await sender.warm_up()
            assert sender.host.main.pool.slabs == len(slabs_of(os.getpid())) == 1
        assert files_of_slabs() == files
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("where", ["looking", "telling", "taking", "given back"])
async def test_a_signal_that_raises_while_slabs_are_given_back_costs_nothing(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slab_pool, "IDLE", 0.02)
    monkeypatch.setattr(slab_pool, "KEPT", 0)
    rung: list[str] = []

    def then_raise(here: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any) -> Any:
            result = call(*arguments)
            if here == where and not rung:
                rung.append(here)
                raise AlarmError  # as a signal's handler does when the call returns
            return result

        return called

    raised: list[BaseException | None] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: raised.append(context.get("exception")))
    files = files_of_slabs()
    async with sending(2) as sender:
        with monkeypatch.context() as patched:
            await sender.warm_up()
            patched.setattr(Slabs, "look", then_raise("looking", Slabs.look))
            patched.setattr(handshake, "take_slab_back", then_raise("telling", handshake.take_slab_back))
            patched.setattr(Endpoint, "withdraw_slab", then_raise("taking", Endpoint.withdraw_slab))
            patched.setattr(Slabs, "remove", then_raise("given back", Slabs.remove))
            while not rung:
                await asyncio.sleep(0)
            for _ in range(3):  # at once: a place in what a renderer was told to unmap would disconnect it
                sender.broadcast(MIB)
                await sender.check(*sender.host.renderers)
            await until(lambda: sender.host.main.pool.slabs == 0)
        await sender.warm_up()
        assert len(sender.host.main.renderers) == 2
    assert [type(each) for each in raised] == [AlarmError]
    assert files_of_slabs() == files


async def test_a_fork_of_main_has_nothing_of_the_pool() -> None:
    async with sending(2) as sender:
        await sender.warm_up()
        fds = [fd for each in sender.host.main._core.pool._slabs for fd in [each.owner.fd(each.number)]]
        pid = os.fork()
        if pid == 0:
            clean = slabs_of(os.getpid()) == {}
            for fd in fds:
                try:
                    os.fstat(fd)
                    clean = False
                except OSError:
                    pass
            os._exit(0 if clean else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        sender.broadcast(MIB)
        await sender.check(*sender.host.renderers)


async def test_a_wrong_limit_and_a_host_that_is_not_entered_are_named() -> None:
    with pytest.raises(ValueError, match="pool_limit must be a number of bytes, 0 for no pool, not -1"):
        MainProcess(pool_limit=-1)
    with pytest.raises(RuntimeError, match="has not been entered"):
        _ = MainProcess().pool


# ---- a hostile renderer ----

# csrc/ring/layout.h, written down again on purpose: where a renderer returns what it holds.
RETURNS = 448
RETURNED = 576
RETURN = struct.Struct("=QQIIIIHHI24x")


class Holder:
    """A renderer by hand, and an honest one beside it. It maps a slab, and from then on reads nothing."""

    def __init__(self, sender: Sender, renderer: Renderer) -> None:
        self.sender = sender
        self.renderer = renderer
        (self.honest,) = sender.host.renderers
        self.slab = -1
        self.offer = 0  # the id of its first hold; the next ones have the next numbers
        self._returned = 0

    async def send(self, count: int) -> None:
        """Broadcast, and see that the honest one hears all of it."""
        for _ in range(count):
            self.sender.broadcast(MIB)
            await self.sender.check(self.honest)

    async def take_slab(self) -> None:
        """Take the descriptor of a slab, and say that it is mapped."""
        while self.slab < 0:
            await self.send(1)
            self.renderer.receive()
            with suppress(BlockingIOError, ProtocolError):  # a wake is no words
                words = handshake.read_words(self.renderer.sock.recv(4096))
                self.offer = words["hold"]
                _, (self.slab,), *_ = socket.recv_fds(self.renderer.sock, 4096, 1, socket.MSG_DONTWAIT)
        self.give(self.offer)

    def give(self, *holds: int) -> None:
        """Return these holds, held or not."""
        for hold in holds:
            at = RETURNED + self._returned % 512 * RETURN.size
            self.renderer.memory[at : at + RETURN.size] = RETURN.pack(24, hold, 24, 0, 0, 0, 1, 0, 0)
            self._returned += 1
            struct.pack_into("=Q", self.renderer.memory, RETURNS, self._returned * RETURN.size)

    @property
    def pool(self) -> Types.PoolState:
        """Of main."""
        return self.sender.host.main.pool


@asynccontextmanager
async def holding(sender: Sender) -> AsyncIterator[Holder]:
    """A renderer by hand that has a slab. In the end all is as it was without it."""
    path = sender.host.main.path
    assert path is not None
    renderer = await connect(path, sender.host)
    renderer.send(LISTEN, renderer.declare("n"))
    await renderer.parked()
    holder = Holder(sender, renderer)
    try:
        await holder.take_slab()
        yield holder
    finally:
        renderer.close()
        if holder.slab >= 0:
            os.close(holder.slab)
    await until(lambda: renderer.gone)
    await until(lambda: holder.pool.blocks == 0)
    await holder.send(2)


FORGED: list[Callable[[Holder], list[int]]] = [
    lambda _holder: [2**63],
    lambda _holder: [0],
    lambda holder: [holder.offer],  # which it has returned
    lambda holder: [holder.offer + 1, holder.offer + 1],
    lambda holder: [holder.offer + 3],  # which comes next
    lambda holder: [holder.offer + 1 + 256],  # which would be kept in the same place
]


async def test_who_returns_what_it_does_not_hold_is_disconnected(tmp_path: Path) -> None:
    async with sending(1, path=tmp_path / "s", high_water=MIB) as sender:
        for forged in FORGED:
            async with holding(sender) as holder:
                await holder.send(2)
                assert holder.pool.holders[holder.renderer.frame_id] > 2 * MIB
                holder.give(*forged(holder))
                left = holder.pool.holders  # main looks at what was returned
                assert holder.renderer.gone
                await holder.send(10)
                assert holder.pool.holders == left


async def test_random_returns_harm_nobody_but_their_sender(tmp_path: Path) -> None:
    rng = random.Random(seed := random.randrange(2**32))
    print(f"seed {seed}")
    async with sending(1, path=tmp_path / "s", high_water=MIB) as sender, holding(sender) as holder:
        for _ in range(8):
            for _ in range(100):
                at = rng.randrange(RETURNED, RETURNED + 512 * RETURN.size, 8)
                holder.renderer.memory[at : at + 8] = rng.choice(
                    [rng.randbytes(8), struct.pack("=Q", rng.randrange(9))]
                )
            struct.pack_into("=Q", holder.renderer.memory, RETURNS, rng.choice([8, 64, 128, rng.randrange(2**64)]))
            await holder.send(1)
            assert holder.pool.blocks <= 8


async def test_an_early_return_takes_nothing_from_those_who_still_hold_the_block(tmp_path: Path) -> None:
    async with sending(1, path=tmp_path / "s", high_water=MIB) as sender, holding(sender) as holder:
        with stopped(holder.honest):
            for number in range(1, 5):
                holder.sender.broadcast(MIB)
                holder.give(holder.offer + number)
            assert holder.pool.blocks == 4
            assert holder.pool.holders.keys() == {holder.honest.frame_id}
        await holder.sender.check(holder.honest)


async def test_who_never_returns_anything_holds_its_share_and_nobody_waits_for_it(tmp_path: Path) -> None:
    options: dict[str, Any] = {"high_water": MIB, "pool_limit": 64 * MIB}
    async with sending(1, path=tmp_path / "s", **options) as sender, holding(sender) as holder:
        await holder.send(30)
        assert holder.pool.holders[holder.renderer.frame_id] <= 8 * MIB


async def test_memory_that_a_renderer_keeps_counts_until_it_lets_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slab_pool, "IDLE", 0.02)
    monkeypatch.setattr(slab_pool, "KEPT", 0)  # so that each slab would go back
    async with sending(1, path=tmp_path / "s", high_water=MIB) as sender, holding(sender) as holder:
        with mmap.mmap(holder.slab, 0, prot=mmap.PROT_READ):
            os.close(holder.slab)
            holder.slab = -1
            holder.renderer.close()  # it is gone, and has kept the mapping
            await until(lambda: holder.renderer.gone)
            await asyncio.sleep(0.3)
            assert (holder.pool.slabs, holder.pool.blocks) == (1, 0)
        await until(lambda: holder.pool.slabs == 0)


async def test_a_slab_cannot_be_written_shrunk_or_punched_by_who_has_it(tmp_path: Path) -> None:
    import ctypes
    import fcntl

    libc = ctypes.CDLL(None, use_errno=True)
    async with sending(1, path=tmp_path / "s", high_water=MIB) as sender, holding(sender) as holder:
        fd = holder.slab
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.write(fd, b"x")
        again = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
        try:
            for each in (again,):
                with pytest.raises(PermissionError):
                    mmap.mmap(each, 0)
                with pytest.raises(PermissionError):
                    os.write(each, b"x")
                with pytest.raises(PermissionError):
                    os.ftruncate(each, 0)
                with pytest.raises(PermissionError):
                    os.ftruncate(each, 1 << 30)
                with pytest.raises(PermissionError):
                    fcntl.fcntl(each, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
                assert libc.fallocate(each, 1 | 2, ctypes.c_long(0), ctypes.c_long(4096)) < 0  # punches a hole
        finally:
            os.close(again)
        await holder.send(1)


MODES = """
    import ctypes
    from lensipc.transport.slabs import Slabs
    if os.geteuid() == 0:  # root may open it whatever its mode
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # its own /proc is its own again: PR_SET_DUMPABLE
    slabs = Slabs(1 << 20)
    slabs.add(1, 1 << 20)
    first = slabs.open(1)
    os.fchmod(first, 0)  # as a renderer of the same user may
    os.close(slabs.open(1))
    os.close(first)
    slabs.close()
"""


async def test_whatever_mode_a_renderer_gives_a_slab_it_can_be_handed_to_others() -> None:
    async with program(MODES) as one:
        assert await said(one) == []
