# SPDX-License-Identifier: MIT
"""Guarantee 16: what is read in place stays as it is for as long as anything shows it, and is given back then."""

from __future__ import annotations

import array
import asyncio
import ctypes
import random
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import lab
import numpy as np
import pytest
import viewing
from hosting import Host, hosting, plain_hosting, script, until
from test_pool import slabs_of, stopped

import lensipc
from lensipc import DecodeError, RendererHandle, clone
from lensipc.main import slab_pool

MIB = 1 << 20


class Sender:
    """Main, which broadcasts numbered arrays, and renderers that read them in place."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.main, self.ipc, self.renderers = host.main, host.ipc, host.renderers
        self.sent = 0

    def broadcast(self, size: int = MIB) -> None:
        """The next one."""
        self.ipc.broadcast("n", *viewing.message(self.sent, size))
        self.sent += 1

    async def run(self, renderer: RendererHandle, function: str, *args: Any) -> Any:
        """Run a function of viewing.py there."""
        return await self.ipc.run(renderer, f"viewing:{function}", *args)

    async def everywhere(self, function: str, *args: Any) -> list[Any]:
        """Run it in each renderer."""
        return [await self.run(each, function, *args) for each in self.renderers]

    async def check(self, *renderers: RendererHandle) -> None:
        """All of it is heard by each of these, once, in order, and as it was sent."""
        for each in renderers or self.renderers:
            heard, wrong = await self.run(each, "numbers", self.sent)
            assert wrong == []
            assert heard == list(range(self.sent))

    async def send(self, count: int = 1, size: int = MIB) -> None:
        """Broadcast, and wait each time until all have heard it."""
        for _ in range(count):
            self.broadcast(size)
            await self.check()

    async def warm_up(self, size: int = MIB) -> None:
        """Until an event lies in place for everybody."""
        while True:
            await self.send(size=size)
            places = await self.everywhere("where")
            if all(each[-1] for each in places):
                break
        await self.nothing_held()

    async def nothing_held(self) -> None:
        """Until main has all blocks back."""
        await until(lambda: self.main.pool.blocks == 0)


@asynccontextmanager
async def sending(
    renderers: int, way: str = "", when_slow: str = "disconnect", **options: Any
) -> AsyncIterator[Sender]:
    """A host whose renderers read in place, and keep what they hear in that way from now on."""
    async with hosting(renderers, **options) as host:
        sender = Sender(host)
        await sender.everywhere("listen", when_slow)
        await sender.warm_up()
        await sender.everywhere("keep", way)
        yield sender


async def test_a_large_event_lies_in_place_for_all_and_goes_back_when_the_last_renderer_drops_it() -> None:
    async with sending(3, "itself") as sender:
        await sender.send()
        assert sender.main.pool.blocks == 1
        assert sender.main.pool.holders.keys() == {each.frame_id for each in sender.renderers}
        for each in sender.renderers:
            assert sender.main.pool.blocks == 1
            assert (await sender.run(each, "where"))[-1]
            await sender.run(each, "drop")
        await sender.nothing_held()
        assert sender.main.pool.holders == {}


async def test_whatever_shows_the_memory_holds_it_and_it_is_used_again_only_afterwards() -> None:
    async with sending(1) as sender:
        (renderer,) = sender.renderers
        for way, how in zip(viewing.WAYS, 5 * ["", "thread", "collector"], strict=False):
            await sender.run(renderer, "keep", way)
            await sender.send()
            assert sender.main.pool.blocks == 1, way
            await sender.run(renderer, "keep", "")
            await sender.send(3)
            assert await sender.run(renderer, "check") == 1, way
            assert sender.main.pool.blocks >= 1, way
            await sender.run(renderer, "drop", how)
            await sender.nothing_held()


@pytest.mark.parametrize("way", ["cycle", "traceback"])
async def test_what_waits_for_the_collector_holds_the_memory_until_then(way: str) -> None:
    async with sending(1, way) as sender:
        await sender.everywhere("collects", False)
        await sender.send()
        await sender.everywhere("keep", "")
        await sender.send(2)
        await until(lambda: sender.main.pool.blocks == 1)
        await sender.everywhere("collects", True)
        await sender.nothing_held()


@pytest.mark.parametrize("why", ["cancelled", "an error"])
async def test_what_an_async_listener_had_that_has_failed_goes_back_without_the_collector(why: str) -> None:
    async with sending(1) as sender:
        (renderer,) = sender.renderers
        await sender.run(renderer, "collects", False)
        await sender.run(renderer, "stop")
        await sender.run(renderer, "raise_later", why)
        sender.sent, before = 0, len((await sender.run(renderer, "numbers", 0))[0])
        for _ in range(5):
            sender.broadcast()
            await sender.ipc.drain()
        await sender.run(renderer, "numbers", before + 5)
        assert (await sender.run(renderer, "where"))[-5:] == 5 * [True]
        await sender.nothing_held()
        await sender.run(renderer, "collects", True)


async def test_a_released_array_is_empty_and_its_memory_goes_back_though_it_is_kept() -> None:
    async with sending(1, "itself") as sender:
        await sender.send(3)
        assert sender.main.pool.blocks == 3
        assert await sender.everywhere("release") == [[0, 0, 0]]
        await sender.nothing_held()


async def test_a_released_array_gives_back_nothing_that_another_one_still_shows() -> None:
    async with sending(1) as sender:
        (renderer,) = sender.renderers
        for way in ("slice", "transpose", "dtype", "steps", "memoryview", "slice of a memoryview", "buffer"):
            await sender.run(renderer, "keep_and_release", way)
            await sender.send()
            await sender.run(renderer, "keep", "")
            await sender.send(3)
            assert sender.main.pool.blocks >= 1, way
            assert await sender.run(renderer, "check") == 1, way
            await sender.run(renderer, "drop")
            await sender.nothing_held()


async def test_an_array_that_was_made_of_a_memoryview_gives_back_nothing_when_it_is_released() -> None:
    async with sending(1) as sender:
        (renderer,) = sender.renderers
        await sender.run(renderer, "bulk")
        sender.ipc.broadcast("bulk", bytes(range(256)) * 4096)
        await until_kept(sender, renderer, 1)
        await sender.run(renderer, "release_made_of_memoryviews")
        await sender.send(3)
        assert await sender.run(renderer, "check") == 1
        assert sender.main.pool.blocks >= 1
        await sender.run(renderer, "drop")
        await sender.nothing_held()


async def test_an_array_is_as_it_was_when_its_base_is_released() -> None:
    async with sending(1, "itself") as sender:
        (renderer,) = sender.renderers
        await sender.send()
        await sender.run(renderer, "bulk")
        others = [np.ones(9000, [("a", "<i4"), ("b", "<f8")]), np.ones((300, 300), order="F"), np.ones(MIB, bool)]
        sender.ipc.broadcast("bulk", *others, others[1], others[1].T[1:])
        await until_kept(sender, renderer, 6)
        await sender.run(renderer, "release_bases")
        await sender.run(renderer, "keep", "")
        await sender.send(3)
        assert await sender.run(renderer, "check") == 6
        await sender.run(renderer, "drop")
        await sender.nothing_held()


def test_small_values_that_a_listener_gets_can_be_released_like_large_ones() -> None:
    values = clone.decode_view(clone.encode([bytes(9), np.array(4), np.arange(3), bytes(70_000), np.arange(9e4)]))
    lensipc.release(*values)
    assert values[:2] == [bytes(9), 4]
    assert [len(values[2]), len(values[4])] == [0, 0]
    with pytest.raises(ValueError, match="released"):
        values[3][0]


def test_an_array_that_owns_its_memory_cannot_be_released_and_stays_as_it_is() -> None:
    for own in (np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2) * 2, np.arange(9.0), np.array([object()])):
        reference, part, before = weakref.ref(own), own[1:], own[1:].copy()
        with pytest.raises(TypeError, match="not one that owns its memory"):
            lensipc.release(part.T, own)
        assert reference() is own
        assert np.array_equal(part, before)


async def test_what_is_written_to_a_read_only_array_by_force_is_seen_by_nobody_and_not_in_the_next_event() -> None:
    async with sending(2, "itself") as sender:
        first, other = sender.renderers
        await sender.send()
        await sender.run(first, "overwrite")
        await sender.run(other, "check")
        uses = sender.main._core.pool._slabs[0].owner.look(1).uses
        for each in sender.renderers:
            await sender.run(each, "forget")
        await sender.nothing_held()
        await sender.send(3)  # in the same block at first
        assert sender.main._core.pool._slabs[0].owner.look(1).uses == uses + 3
        await sender.everywhere("check")


@pytest.mark.parametrize("size", [100, MIB])
@pytest.mark.parametrize("dtype", [np.uint8, bool])
async def test_what_is_written_by_force_is_seen_by_no_other_listener_that_has_a_copy(size: int, dtype: type) -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        await host.ipc.run(renderer, "viewing:listen_in_turn", ["copy", "overwrite", "copy", "overwrite", "copy"])
        for _ in range(3):
            host.ipc.broadcast("turn", np.ones(size, dtype))
            await host.ipc.drain()
        await until_kept(Sender(host), renderer, 9)
        assert await host.ipc.run(renderer, "viewing:of_turns") == 9 * [(size, 0)]


def test_a_byte_that_is_written_by_force_is_no_byte_of_others() -> None:
    (array,) = clone.decode_view(clone.encode([np.full(1, 5, np.uint8)]))
    ctypes.memset(array.ctypes.data, 9, 1)
    assert array.tolist() == [9]
    assert int.from_bytes(bytes([5]), "little") == 5
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True


async def test_each_listener_gets_what_it_has_asked_for() -> None:
    async with sending(2) as sender:
        one, both = sender.renderers
        await sender.run(both, "listen_too")
        await sender.send()
        assert (await sender.run(both, "where"))[-2:] == [True, False]
        assert (await sender.run(one, "where"))[-1:] == [True]
        await sender.run(both, "stop")  # the one that reads in place
        sender.broadcast()
        await sender.check(one)
        await until(lambda: sender.main.pool.blocks == 0)
        assert (await sender.run(both, "where"))[-1:] == [False]
        assert (await sender.run(one, "where"))[-1:] == [True]


async def test_views_beyond_the_share_are_private_copies_and_nobody_waits_for_or_loses_by_who_keeps_them() -> None:
    for when_slow in ("disconnect", "drop_oldest", "keep_newest"):
        async with sending(2, "itself", when_slow, high_water=MIB, pool_limit=64 * MIB) as sender:
            keeper, other = sender.renderers
            await sender.run(other, "keep", "")
            for _ in range(20):
                await sender.send()
                await sender.ipc.drain()
            connection = sender.main._core.connections[keeper.frame_id]
            assert connection.endpoint.outbox == 0
            assert not sender.main._core.backpressure.look()
            assert 6 * MIB < sender.main.pool.holders[keeper.frame_id] <= 8 * MIB
            assert set((await sender.run(keeper, "where"))[-20:]) == {True, False}
            assert (await sender.run(other, "where"))[-20:] == 20 * [True]
            assert await sender.run(keeper, "check") == 20
            assert await sender.run(keeper, "drop") == 0  # missed
            await sender.nothing_held()


async def test_who_reads_in_place_and_does_not_read_is_waited_for_as_others_are() -> None:
    async with sending(2, high_water=MIB) as sender:
        slow, fast = sender.renderers
        with stopped(slow):
            for _ in range(5):
                sender.broadcast()
            assert sender.main._core.connections[slow.frame_id].endpoint.outbox > 4 * MIB
            draining = asyncio.ensure_future(sender.ipc.drain())
            await sender.check(fast)
        await draining
        await sender.check()
        await sender.nothing_held()


async def test_a_killed_renderer_keeps_nothing() -> None:
    async with sending(2, "itself") as sender:
        victim, other = sender.renderers
        await sender.send(3)
        victim.kill()
        await victim.wait()
        assert await sender.run(other, "check") == 3
        assert sender.main.pool.blocks == 3
        await sender.run(other, "drop")
        await sender.nothing_held()


@pytest.mark.parametrize("in_c", [False, True])
async def test_a_forked_child_has_what_its_parent_had_whatever_becomes_of_it_there(in_c: bool) -> None:
    async with sending(1, "itself") as sender:
        (renderer,) = sender.renderers
        await sender.send(2)
        await sender.run(renderer, "fork", in_c)
        await sender.run(renderer, "drop")
        await sender.nothing_held()
        await sender.run(renderer, "keep", "")
        await sender.send(4)
        assert await sender.run(renderer, "status_of_child") == 0
        await sender.send(2)


async def test_a_forked_child_may_read_what_was_released_though_something_shows_it() -> None:
    async with sending(1, "itself") as sender:
        (renderer,) = sender.renderers
        for how in viewing.HIDDEN:
            for twice in (False, True):
                await sender.send()
                assert await sender.run(renderer, "fork_and_read", how, twice) == 0, how
                await sender.run(renderer, "forget")
                await sender.nothing_held()


CTRL_C = """
import itertools, sys
renderer = RendererProcess.connect(path)
names, heard = [], []
def interrupted(call, line):
    left = [line]
    def count(frame, event, argument):
        if event == "line":
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt
        return count
    sys.settrace(lambda frame, event, argument: count if "/lensipc/" in frame.f_code.co_filename else None)
    try:
        call()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)
    return left[0] <= 0
with renderer:
    ipc = plain.Ipc.get_instance()
    for options in ({}, {"arrays": "view"}, {"replay": True}):
        for ends in (False, True):
            for line in itertools.count(1):
                names.append(f"{len(names)}")
                call = lambda: ipc.listen(names[-1], lambda event, own: None, **options)
                if ends:
                    call = call()
                    ipc.listen(names[-1], lambda event, own: None)
                if not interrupted(call, line):
                    break
                renderer.dispatch(0)
    for name in names:
        ipc.listen(name, lambda event, own, name=name: heard.append(own == name), replay=True)
    while len(heard) < len(names) and renderer.state == "connected":
        renderer.dispatch(0.1)
    print(len(names) > 100, renderer.state, all(heard))
"""


async def test_ctrl_c_in_a_call_of_listen_or_of_its_disposer_disconnects_nobody(tmp_path: Path) -> None:
    async with plain_hosting(tmp_path / "s") as host:
        for number in range(1000):
            host.ipc.broadcast(str(number), str(number), keep=True)
        assert (await script(host, CTRL_C)).split() == ["True", "connected", "True"]


async def test_views_outlive_their_listener_and_their_extension() -> None:
    async with sending(1, "itself") as sender:
        (renderer,) = sender.renderers
        await sender.send(2)
        await sender.run(renderer, "stop")
        await sender.main.disable("lab")
        await sender.main.enable("lab")
        sender.ipc = lab.IpcMain.get_instance()
        assert await sender.run(renderer, "check") == 2
        assert sender.main.pool.blocks == 2
        await sender.run(renderer, "drop")
        await sender.nothing_held()


async def test_memory_that_main_takes_back_stays_mapped_for_who_has_kept_its_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slab_pool, "IDLE", 0.05)
    monkeypatch.setattr(slab_pool, "KEPT", 0)
    async with sending(1, "itself") as sender:
        (renderer,) = sender.renderers
        await sender.send()
        await sender.run(renderer, "note_addresses")
        await sender.run(renderer, "release")
        await sender.nothing_held()
        slab = sender.main._core.pool._slabs[0]
        await until(lambda: not slab.readers)
        assert await sender.run(renderer, "read_by_address") >= 0
        await sender.run(renderer, "forget")
        await until(lambda: slab not in sender.main._core.pool._slabs)
        assert slabs_of(renderer.pid) == {}


SCRIPT = """
import viewing
from pathlib import Path
renderer = RendererProcess.connect(path{options})
with renderer:
    viewing.hear_plainly(plain.Ipc.get_instance())
    Path({ready!r}).touch()
    while {until}:
        renderer.dispatch(0.1)
{after}
print(viewing.check())
"""


BESIDE = """
renderer = RendererProcess.connect(path)
with renderer:
    plain.Ipc.get_instance().listen("n", lambda *_: None, arrays="view")
    while renderer.state == "connected":
        renderer.dispatch(0.1)
"""


AGAIN = """
import viewing
renderer = RendererProcess.connect(path, reconnect=True)
with renderer:
    viewing.hear_plainly(plain.Ipc.get_instance())
    while renderer.state == "connected":
        renderer.dispatch(0.1)
    before = sum(viewing.places)
    while renderer.state != "connected":
        renderer.dispatch(0.1)
    viewing.hear_plainly(plain.Ipc.get_instance())
    while sum(viewing.places) < before + 3:
        renderer.dispatch(0.1)
print(viewing.check())
"""


async def overwritten(host: Host, ready: Path, number: int = 10_000, pause: float = 0.005) -> None:
    """Once the script is ready: broadcast, as long as it runs."""
    await until(ready.exists)
    while True:
        host.ipc.broadcast("n", *viewing.message(number, MIB // 2))
        number += 1
        await host.ipc.drain()
        await asyncio.sleep(pause)


DROPPED = """
import gc, socket, viewing
from pathlib import Path
gc.disable()
def look():
    renderer = RendererProcess.connect(path)
    renderer.__enter__()
    viewing.hear_plainly(plain.Ipc.get_instance())
    Path({ready!r}).touch()
    while sum(viewing.places) < 3:
        renderer.dispatch(0.1)
look()
for each in gc.get_objects():  # as the collector may do it: the socket first, and the memory some time later
    if isinstance(each, socket.socket):
        each.close()
time.sleep(0.2)
plain.Ipc.reset_instance()
gc.collect()
print(viewing.check())
"""


async def test_a_script_that_drops_its_renderer_and_does_not_close_it_keeps_its_views(tmp_path: Path) -> None:
    async with plain_hosting(tmp_path / "s") as host:
        beside = asyncio.ensure_future(script(host, BESIDE))
        await until(lambda: len(host.main.renderers) == 1)
        ready = tmp_path / "ready"
        sending = asyncio.ensure_future(overwritten(host, ready, pause=0))
        assert int(await script(host, DROPPED.format(ready=str(ready)))) >= 3
        sending.cancel()
        await until(lambda: host.main.pool.blocks == 0)
    await beside


@pytest.mark.parametrize(
    "after", ["time.sleep(0.3)", "os.fork() or os._exit(0 if viewing.check() else 1); assert os.wait()[1] == 0"]
)
async def test_a_script_that_has_left_keeps_its_views_though_main_goes_on(tmp_path: Path, after: str) -> None:
    async with plain_hosting(tmp_path / "s") as host:
        beside = asyncio.ensure_future(script(host, BESIDE))
        await until(lambda: len(host.main.renderers) == 1)
        ready = tmp_path / "ready"
        sending = asyncio.ensure_future(overwritten(host, ready))
        code = SCRIPT.format(
            options="",
            ready=str(ready),
            until="sum(viewing.places) < 3",
            after=f"assert sum(viewing.places) >= 3; {after}",
        )
        try:
            assert int(await script(host, code)) >= 3
        finally:
            sending.cancel()
        await until(lambda: host.main.pool.blocks == 0)
    await beside


async def test_views_are_as_they_were_when_main_has_closed_its_side(tmp_path: Path) -> None:
    async with plain_hosting(tmp_path / "s") as host:
        ready = tmp_path / "ready"
        sending = asyncio.ensure_future(overwritten(host, ready))
        code = SCRIPT.format(
            options="", ready=str(ready), until="renderer.state == 'connected'", after="time.sleep(0.2)"
        )
        ending = asyncio.ensure_future(script(host, code))
        await until(lambda: len(host.main.renderers) == 1)
        (handle,) = host.main.renderers
        await until(lambda: host.main.pool.blocks >= 3)
        await handle.close()
        assert int(await ending) >= 3
        sending.cancel()
        await until(lambda: host.main.pool.blocks == 0)


async def test_a_renderer_that_connects_again_keeps_what_it_had_of_its_last_main(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    ready.touch()
    for last in (False, True):
        async with plain_hosting(tmp_path / "s") as host:
            if not last:
                ending = asyncio.ensure_future(script(host, AGAIN))
            sending = asyncio.ensure_future(overwritten(host, ready))
            if last:
                assert int(await ending) >= 6
            else:
                await until(lambda host=host: host.main.pool.blocks >= 3)
            sending.cancel()


async def test_bytes_and_arrays_of_all_kinds_are_read_only_in_whatever_way_they_come() -> None:
    async with sending(1) as sender:
        (renderer,) = sender.renderers
        await sender.run(renderer, "bulk")
        structured = np.zeros(20_000, [("a", "<i4"), ("b", "<f8")])
        for values, kinds in (
            ((bytes(MIB), bytearray(MIB)), ["memoryview in place", "memoryview in place"]),
            ((np.ones(MIB, bool), np.ones((300, 300), order="F")), ["ndarray in place", "ndarray in place"]),
            ((structured, np.ones((9, 9))), ["ndarray in place", "ndarray"]),
            ((array.array("d", bytes(MIB)), np.ones(MIB // 16)), ["array", "ndarray in place"]),
            ((np.arange(10), np.zeros((0, 3))), ["ndarray", "ndarray"]),
        ):
            sender.ipc.broadcast("bulk", *values)
            await until_kept(sender, renderer, len(values))
            assert await sender.run(renderer, "told") == kinds
            assert await sender.run(renderer, "writable") == [kind == "array" for kind in kinds]
            await sender.run(renderer, "forget")
            await sender.nothing_held()
        sender.ipc.broadcast("bulk", bytes(MIB), bytes(MIB))
        await until_kept(sender, renderer, 2)
        await sender.run(renderer, "release")
        await sender.nothing_held()
        await sender.run(renderer, "forget")
        sender.ipc.send(renderer.frame_id, "bulk", np.ones(MIB))  # for one alone: by its ring
        await until_kept(sender, renderer, 1)
        assert (await sender.run(renderer, "told"))[0] == "ndarray"
        assert await sender.run(renderer, "writable") == [False]


async def until_kept(sender: Sender, renderer: RendererHandle, count: int) -> None:
    """Until so many values are kept there."""
    while await sender.run(renderer, "count") < count:
        pass


@pytest.mark.parametrize("options", [{"pool_limit": 0}, {"form": "shm"}])
async def test_without_a_pool_arrays_are_private_and_read_only_all_the_same(options: dict[str, Any]) -> None:
    async with hosting(2, **options) as host:
        sender = Sender(host)
        await sender.everywhere("listen")
        await sender.everywhere("keep", "itself")
        await sender.send(3)
        assert await sender.everywhere("check") == [3, 3]
        assert await sender.everywhere("release") == [[0, 0, 0], [0, 0, 0]]


async def test_a_kept_value_is_read_only_for_who_reads_in_place() -> None:
    async with hosting(1) as host:
        sender = Sender(host)
        host.ipc.broadcast("n", *viewing.message(0, MIB), keep=True)
        (renderer,) = host.renderers
        await sender.run(renderer, "keep", "itself")
        await sender.run(renderer, "listen_again", {"replay": True})
        sender.sent = 1
        await sender.check()
        assert await sender.run(renderer, "check") == 1


async def test_a_paced_listener_reads_in_place() -> None:
    async with hosting(1) as host:
        sender = Sender(host)
        (renderer,) = host.renderers
        await sender.run(renderer, "listen_again", {"latest": True})
        await sender.warm_up()


async def test_in_main_arrays_are_read_only_copies() -> None:
    async with hosting(1) as host:
        heard: list[Any] = []
        own: list[Any] = []
        host.ipc.listen("n", lambda _event, value: heard.append(value), arrays="view")
        host.ipc.listen("n", lambda _event, value: own.append(value))
        for value in (np.ones(MIB), np.ones(3), bytes(MIB)):
            host.ipc.broadcast("n", value)
            await host.ipc.drain()
        assert [each.flags.writeable for each in heard[:2]] == [False, False]
        assert type(heard[2]) is memoryview
        assert [each.flags.writeable for each in own[:2]] == [True, True]
        assert own[2] == bytes(MIB)
        lensipc.release(*heard)
        assert [len(each) for each in heard[:2]] == [0, 0]
        with pytest.raises(ValueError, match="arrays is 'copy' or 'view', not 'views'"):
            host.ipc.listen("n", lambda _event: None, arrays="views")  # type: ignore[call-overload]


async def test_what_a_listener_in_main_writes_by_force_is_seen_by_nobody_else() -> None:
    async with hosting(1) as host:
        heard: list[Any] = []

        def overwrite(_event: Any, value: Any) -> None:
            array = np.frombuffer(value, np.uint8)
            ctypes.memset(array.ctypes.data, 0xA5, array.nbytes)

        host.ipc.listen("n", overwrite, arrays="view")
        host.ipc.listen("n", lambda _event, value: heard.append(value), arrays="view")
        host.ipc.listen("n", lambda _event, value: heard.append(value))
        for value in (bytes(MIB), np.zeros(MIB, np.uint8), np.zeros(100, np.uint8)):
            host.ipc.broadcast("n", value, keep=True)
            await host.ipc.drain()
            host.ipc.listen("n", lambda _event, value: heard.append(value), replay=True)()
        await until(lambda: len(heard) >= 6)
        assert not any(np.frombuffer(each, np.uint8).any() for each in heard)


async def test_what_is_no_way_to_get_arrays_and_what_cannot_be_released_is_named() -> None:
    async with hosting(1) as host:
        assert await host.ipc.run(host.renderers[0], "viewing:refused") == [
            "ValueError: arrays is 'copy' or 'view', not 'views'",
            "TypeError: release takes arrays and memoryviews, not a list",
            'TypeError: release takes arrays of a listener with arrays="view", not one that owns its memory',
            "TypeError: release takes arrays and memoryviews, not a NoneType",
        ]


EXITS = {
    "a module's names": "",
    "a cycle": "node = viewing.Node(viewing.kept); del node",
    "a thread that runs on": """
def look():
    while viewing.check():
        time.sleep(0.001)
threading.Thread(target=look, daemon=True).start()
""",
    "a finalizer": """
import zlib
class Last:
    def __del__(self, kept=list(viewing.kept), crc=zlib.crc32, sleep=time.sleep):
        sleep(0.2)
        assert all(crc(value.tobytes()) == expected for value, expected in kept)
viewing.last = Last()
""",
    "os._exit": "os._exit(0)",
}


@pytest.mark.parametrize("what", EXITS)
async def test_a_process_may_end_with_views_in_whatever_state_they_are(tmp_path: Path, what: str) -> None:
    async with plain_hosting(tmp_path / "s") as host:
        ready = tmp_path / "ready"
        sending = asyncio.ensure_future(overwritten(host, ready))
        code = SCRIPT.format(options="", ready=str(ready), until="sum(viewing.places) < 3", after="")
        code = code.replace("with renderer:", "renderer.open()\nif True:").replace(
            "print(viewing.check())", EXITS[what]
        )
        await script(host, code)
        sending.cancel()
        await until(lambda: host.main.pool.blocks == 0)


async def test_a_harness_in_one_process_has_views_too(lensipc_host: Any) -> None:
    viewing.keep(None, "itself")
    try:
        async with lensipc_host(lab.MANIFEST, in_process=True) as host:
            for number in (1, 2):
                await host.ask(await host.renderer(number), viewing.listen_here)
            while viewing.places[-1:] != [True]:
                viewing.kept.clear()
                host.broadcast("n", *viewing.message(1, MIB))
                await host.settle()
            assert viewing.check() == 2
            assert host.main.pool.blocks == 1
            assert viewing.release(None) == [0, 0]
            await until(lambda: host.main.pool.blocks == 0)
            viewing.kept.clear()  # which keeps the memory mapped
    finally:
        viewing.keep(None, "")
        for each in (viewing.kept, viewing.heard, viewing.places, viewing.disposers):
            each.clear()


def same(one: Any, other: Any) -> bool:
    """Whether two values are, but for memoryviews in place of bytes."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, memoryview):
        return bytes(one) == bytes(other)
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one), list(other)) and same(list(one.values()), list(other.values()))
    return bool(one == other)


def test_keys_and_elements_are_bytes_however_long() -> None:
    large = bytes(70_000)
    for value in ({large: large}, {large}, {(1, (large,)): 2}, [large, {frozenset([large]): [large]}]):
        body = clone.encode(value)
        for kind in (bytes, bytearray, memoryview):
            assert clone.decode_view(kind(body)) == value
    (view, keys) = clone.decode_view(clone.encode([large, {(1, 2): 3}]))
    assert type(view) is memoryview
    assert keys == {(1, 2): 3}


class Own:
    """A class that is registered."""

    def __init__(self, made_of: Any) -> None:
        self.made_of = made_of


def test_a_decoder_gets_bytes_and_is_called_once() -> None:
    large, calls = bytes(70_000), []

    def decode(value: Any) -> Own:
        calls.append(value)
        return Own(value)

    undo = clone.register(Own, "views: own", lambda own: own.made_of, decode)
    try:
        for value in (large, [{"a": (large, 1)}], bytearray(large)):
            for body in (clone.encode([large, Own(value), large, Own(value)]), clone.encode([Own(value), large])):
                calls.clear()
                read = clone.decode_view(body)
                assert calls == [each.made_of for each in read if type(each) is Own]
                assert all(each == value for each in calls)
                assert "memoryview" not in str([type(each) for each in read])
    finally:
        undo()


@pytest.mark.parametrize("seed", [random.randrange(2**32)])
def test_what_is_read_in_place_is_what_is_read_from_a_copy_and_the_same_is_refused(seed: int) -> None:
    rng = random.Random(seed)
    large, numbers = rng.randbytes(70_000), np.arange(20_000.0)
    honest = [
        clone.encode(value)
        for value in (
            (1, large, bytearray(large), {"a": numbers, "b": numbers[None], "c": large}),
            ({large: 1}, [large, large], frozenset([large])),
            (array.array("q", large[:65_544]), np.ones(70_000, bool)),
            (numbers.reshape(100, 200, order="F"), numbers.view(np.int64)),
            (np.zeros(20_000, [("a", "<i4"), ("b", "<f8")]), np.array(9_000 * ["xxxxx"])),
        )
    ]
    for body in honest:
        assert same(clone.decode_view(body), clone.decode(body))
    for _ in range(3_000):
        forged = bytearray(rng.choice(honest))
        for _ in range(rng.randrange(1, 4)):
            forged[rng.randrange(min(len(forged), 400))] = rng.randrange(256)
        outcomes = []
        for decode in (clone.decode, clone.decode_view):
            try:
                outcomes.append(decode(bytes(forged)))
            except DecodeError:
                outcomes.append(None)
        assert (outcomes[0] is None) == (outcomes[1] is None)
