# SPDX-License-Identifier: MIT
"""Guarantee 16, of results: an invoke's answer is read in place, by nobody but who has asked for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import lab
import numpy as np
import pytest
import viewing
from hosting import Host, hosting, plain_hosting, script, until
from test_pool import slabs_of

from lensipc import RendererHandle
from lensipc.main import slab_pool

MIB = 1 << 20


class Answering:
    """Main, which answers with numbered arrays, and its renderers."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.main, self.ipc, self.renderers = host.main, host.ipc, host.renderers
        answer(host.ipc)

    async def run(self, renderer: RendererHandle, function: str, *args: Any) -> Any:
        """Run a function of asking.py there, or of another module."""
        return await self.ipc.run(renderer, function if ":" in function else f"asking:{function}", *args)

    async def keep(self, renderer: RendererHandle, way: str) -> None:
        """Have it keep what it gets in that way."""
        await self.run(renderer, "viewing:keep", way)

    async def drop(self, renderer: RendererHandle) -> None:
        """Have it see that what it keeps is right, and keep nothing any more."""
        await self.run(renderer, "viewing:drop")

    async def places(self, renderer: RendererHandle) -> list[bool]:
        """Whether each answer lay in place there, of which none was wrong."""
        assert await self.run(renderer, "viewing:numbers", 0) is not None
        places: list[bool] = await self.run(renderer, "viewing:where")
        return places

    def nothing_left(self) -> bool:
        """Whether main has all blocks back, and no request is noted any more."""
        ends = self.main._core.connections.values()
        return self.main.pool.blocks == 0 and not any(each.large or each.in_place or each.large_bytes for each in ends)


def answer(ipc: lab.IpcMain) -> None:
    """Have main answer with numbered arrays."""

    async def slowly(_event: Any, number: int, size: int) -> Any:
        await asyncio.sleep(0.001)
        return viewing.message(number, size)

    ipc.handle("n", lambda _event, number, size: viewing.message(number, size))
    ipc.handle("async", slowly)


@asynccontextmanager
async def answering(renderers: int, way: str = "itself", warm: bool = True, **options: Any) -> AsyncIterator[Answering]:
    """A host whose renderers have each got an answer in place, and keep the further ones in that way."""
    async with hosting(renderers, **options) as host:
        main = Answering(host)
        for each in host.renderers:
            if warm:
                await main.run(each, "warm_up")
            await main.keep(each, way)
        await until(main.nothing_left)
        yield main
        assert all([not (await main.run(each, "viewing:numbers", 0))[1] for each in main.main.renderers])


async def test_a_large_result_lies_in_place_and_goes_back_when_it_is_dropped_or_released() -> None:
    async with answering(2) as main:
        one, other = main.renderers
        await main.run(one, "ask")
        assert main.main.pool.blocks == 1
        assert main.main.pool.holders.keys() == {one.frame_id}
        await main.run(other, "ask")
        assert main.main.pool.holders.keys() == {one.frame_id, other.frame_id}
        assert await main.places(one) == await main.places(other) == [True]
        await main.drop(one)
        await until(lambda: main.main.pool.holders.keys() == {other.frame_id})
        assert await main.run(other, "viewing:release") == [0]
        await until(main.nothing_left)


async def test_whatever_shows_a_result_holds_it() -> None:
    async with answering(1) as main:
        (renderer,) = main.renderers
        for way in viewing.WAYS:
            await main.keep(renderer, way)
            await main.run(renderer, "ask")
            await main.keep(renderer, "")
            for _ in range(3):
                await main.run(renderer, "ask")
            assert await main.run(renderer, "viewing:check") == 1, way
            assert main.main.pool.blocks == 1, way
            await main.drop(renderer)
            await until(main.nothing_left)
        assert all(await main.places(renderer))


async def test_a_result_is_had_in_every_way_that_an_invoke_has(tmp_path: Path) -> None:
    async with answering(1) as main:
        (renderer,) = main.renderers
        await main.run(renderer, "ask_in_every_way")
        assert await main.places(renderer) == 4 * [True]
        assert await main.run(renderer, "viewing:check") == 4
        await main.drop(renderer)
        await until(main.nothing_left)
    code = """
import asking, viewing
with RendererProcess.connect(path) as renderer:
    ipc = plain.Ipc.get_instance()
    while viewing.places[-1:] != [True]:
        asking.ask_plainly(ipc, 3)
        renderer.dispatch(0.1)
    viewing.keep(None, "itself")
    asking.ask_plainly(ipc, 6)
    assert viewing.places[-6:] == 6 * [True]
print(viewing.check())
"""
    async with plain_hosting(tmp_path / "s") as host:
        answer(host.ipc)
        assert int(await script(host, code)) == 6


@pytest.mark.parametrize("options", [{"pool_limit": 0}, {"form": "shm"}, {"pool_limit": 2 * MIB}])
async def test_without_room_in_a_pool_a_result_is_private_and_read_only(options: dict[str, Any]) -> None:
    async with answering(1, warm=False, **options) as main:
        (renderer,) = main.renderers
        for _ in range(3):
            await main.run(renderer, "ask")
        assert await main.places(renderer) == 3 * [False]
        assert await main.run(renderer, "viewing:check") == 3
        await main.drop(renderer)
        await until(main.nothing_left)


async def test_who_connects_with_a_token_has_results_of_its_own_that_are_read_only(tmp_path: Path) -> None:
    code = """
import asking, viewing
with RendererProcess.connect(path, token="known to nobody else") as renderer:
    ipc = plain.Ipc.get_instance()
    viewing.keep(None, "itself")
    for _ in range(5):
        asking.ask_plainly(ipc, 3)
        renderer.dispatch(0.01)
print(viewing.check(), sum(viewing.places), viewing.wrong)
"""
    async with plain_hosting(tmp_path / "s", token="known to nobody else") as host:
        answer(host.ipc)
        assert await script(host, code) == "15 0 []\n"
        assert host.main.pool.slabs == 0


async def test_results_beyond_the_share_are_private_copies_and_all_are_right() -> None:
    async with answering(1, high_water=MIB, pool_limit=64 * MIB) as main:
        (renderer,) = main.renderers
        await main.run(renderer, "ask_at_once", 40)
        assert set(await main.places(renderer)) == {True, False}
        assert main.main.pool.holders[renderer.frame_id] <= 8 * MIB
        assert await main.run(renderer, "viewing:check") == 40
        await main.drop(renderer)
        await until(main.nothing_left)


async def test_what_a_result_is_read_only_or_not_as_its_asker_wants_it() -> None:
    async with answering(1) as main:
        (renderer,) = main.renderers
        values = np.ones(MIB, np.uint8), np.arange(3), bytes(MIB), b"short"
        assert await main.run(renderer, "ask_for", "view", *values) == [
            "ndarray in place, read-only",
            "ndarray, read-only",
            "memoryview in place, read-only",
            "bytes, read-only",
        ]
        assert await main.run(renderer, "ask_for", "copy", *values) == [
            "ndarray",
            "ndarray",
            "bytes, read-only",
            "bytes, read-only",
        ]
        least = 64 * 1024
        assert await main.run(renderer, "ask_for", "view", np.ones(least, np.uint8)) == ["ndarray in place, read-only"]
        assert await main.run(renderer, "ask_for", "view", np.ones(least // 2, np.uint8)) == ["ndarray, read-only"]
        assert await main.run(renderer, "ask_and_let_error_go") == "RemoteError: no"
        await main.run(renderer, "viewing:forget")
        await until(main.nothing_left)


async def test_a_result_lies_where_no_other_renderer_can_read_it() -> None:
    async with answering(3, warm=False) as main:
        for each in main.renderers:
            await main.run(each, "viewing:listen")
        for number in range(3):  # so that there are slabs for events, which all have
            main.ipc.broadcast("n", *viewing.message(number, MIB))
            await asyncio.gather(*(main.run(each, "viewing:numbers", number + 1) for each in main.renderers))
        (of_events,) = {frozenset(slabs_of(each.pid)) for each in main.renderers}
        for each in main.renderers[:2]:
            await main.run(each, "warm_up")
            await main.run(each, "ask")
        one, other, third = (set(slabs_of(each.pid)) - of_events for each in main.renderers)
        assert len(one) == len(other) == 1
        assert not one & other
        assert not third
        for slab in main.main._core.pool._slabs:
            if slab.owner is not main.main._core.ports["lab"].slabs:
                assert len(slab.readers) == 1


async def test_a_result_is_heard_in_its_place_among_events() -> None:
    async with answering(1, "") as main:
        (renderer,) = main.renderers

        def between(_event: Any, number: int) -> Any:
            main.ipc.broadcast("before", number - 1, np.ones(100_000 if number % 4 == 1 else 10))
            return np.ones(100_000 if number % 6 == 1 else 10)

        main.ipc.handle("between", between)
        assert await main.run(renderer, "ask_between_events", 50) == list(range(100))
        await until(main.nothing_left)


async def test_what_is_given_up_leaves_nothing_held() -> None:
    async with answering(1) as main:
        (renderer,) = main.renderers

        async def slow(_event: Any) -> Any:
            await asyncio.sleep(0.0005)
            return np.ones(MIB)

        main.ipc.handle("slow", slow)
        main.ipc.handle("never", lambda _event: asyncio.get_running_loop().create_future())
        await main.run(renderer, "ask_and_give_up", 30)
        await until(main.nothing_left)
        await main.run(renderer, "ask")
        assert await main.run(renderer, "viewing:check") == 1


async def test_a_killed_renderer_keeps_nothing_and_its_memory_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slab_pool, "IDLE", 0.05)
    async with answering(2) as main:
        victim, other = main.renderers
        for each in main.renderers:
            for _ in range(3):
                await main.run(each, "ask")
        assert main.main.pool.slabs == 2
        victim.kill()
        await victim.wait()
        await until(lambda: main.main.pool.slabs == 1)
        assert await main.run(other, "viewing:check") == 3
        await main.drop(other)
        await until(lambda: main.main.pool.slabs == 0)
        assert slabs_of(other.pid) == {}
        await main.run(other, "warm_up")  # and it comes again


async def test_results_outlive_their_extension_and_the_connection(tmp_path: Path) -> None:
    async with answering(1) as main:
        (renderer,) = main.renderers
        await main.run(renderer, "ask")
        await main.main.disable("lab")
        await main.main.enable("lab")
        main.ipc = lab.IpcMain.get_instance()
        assert await main.run(renderer, "viewing:check") == 1
        assert main.main.pool.blocks == 1
    code = """
import asking, viewing
with RendererProcess.connect(path) as renderer:
    ipc = plain.Ipc.get_instance()
    viewing.keep(None, "itself")
    while sum(viewing.places) < 3:
        asking.ask_plainly(ipc, 3)
        viewing.kept[:-3] = []
        renderer.dispatch(0.1)
    ipc.invoke("close").exception()
    time.sleep(0.1)
print(viewing.check(), renderer.state)
"""
    async with plain_hosting(tmp_path / "s") as host:
        answer(host.ipc)
        host.ipc.handle("close", lambda _event: host.main.renderers[0].close())
        assert await script(host, code) == "3 closed\n"
        await until(lambda: host.main.pool.blocks == 0)


async def test_one_renderers_results_take_a_part_of_the_pool_alone() -> None:
    async with answering(1, high_water=64 * MIB, pool_limit=32 * MIB, warm=False) as main:
        (renderer,) = main.renderers
        for _ in range(40):
            await main.run(renderer, "ask")
        assert set(await main.places(renderer)) == {True, False}
        assert main.main.pool.bytes <= 16 * MIB
        assert await main.run(renderer, "viewing:check") == 40


async def test_a_word_that_is_none_is_an_error_at_the_call() -> None:
    async with answering(1, warm=False) as main:
        errors = await main.run(main.renderers[0], "refused")
        assert errors[0] == "ValueError: arrays is 'copy' or 'view', not 'views'"
        assert errors[1].startswith("RuntimeError: the result of submit would block")
        assert errors[2] == errors[0]
