# SPDX-License-Identifier: MIT
"""Guarantee 5, of small messages beside large ones: how many of them a request waits for, and what runs meanwhile."""

from __future__ import annotations

import asyncio
import statistics
from typing import Any

import numpy as np
from hosting import hosting, until

from lensipc.runtime.connection import STEPS

MIB = 1 << 20
SIZE = 32 * MIB  # takes longer to send than AWAY of runtime/turns.py


async def test_a_request_waits_for_one_of_the_large_events_that_its_own_process_sends() -> None:
    async with hosting(1) as host:
        host.ipc.listen("bulk", lambda _event, _array: None)
        waits = await host.ipc.run(host.renderers[0], "beside:ask_while_sending", SIZE, 20)
        assert len(waits) >= 5
        assert max(waits) <= 1


async def test_a_request_waits_for_one_of_the_large_events_that_main_sends_to_its_process() -> None:
    async with hosting(2) as host:
        (one, other), over = host.renderers, asyncio.Event()

        async def send() -> None:
            array = np.ones(SIZE, np.uint8)
            while not over.is_set():
                host.ipc.broadcast("bulk", array)
                await host.ipc.drain()

        await host.ipc.run(one, "beside:hear")
        sending = asyncio.create_task(send())
        waits = await host.ipc.run(one, "beside:ask_while_hearing", 15)
        neighbours = await host.ipc.run(other, "beside:ask_while_hearing", 15)
        over.set()
        await sending
        assert max(waits) <= 3  # one is not heard yet when it asks, and one has begun when main reads that
        assert statistics.median(waits) <= 1
        assert set(neighbours) == {0}


async def test_other_callbacks_run_while_a_large_event_is_received() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        await host.ipc.run(renderer, "beside:hear")
        counting = asyncio.create_task(host.ipc.run(renderer, "beside:count_rounds"))
        await asyncio.sleep(0)
        await host.ipc.run(renderer, "heard", "bulk")  # so it counts
        size = 64 * MIB
        host.ipc.broadcast("bulk", np.ones(size, np.uint8))
        steps = size // (STEPS * 256 * 1024)  # of the ring's size
        assert await counting >= steps // 2


async def test_a_large_event_is_not_copied_for_mains_one_listener() -> None:
    async with hosting(1) as host:
        arrays: list[Any] = []
        dispose = host.ipc.listen("bulk", lambda _event, array: arrays.append(array))
        await host.ipc.run(host.renderers[0], "beside:send", MIB, 2, "bulk")
        await until(lambda: len(arrays) == 2)
        for array in arrays:
            assert array.flags.writeable
            assert not array.flags.owndata
            array.fill(7)
        assert not np.shares_memory(*arrays)
        arrays.clear()
        host.ipc.listen("bulk", lambda _event, array: arrays.append(array))
        await host.ipc.run(host.renderers[0], "beside:send", MIB, 1, "bulk")
        await until(lambda: len(arrays) == 2)
        arrays[0].fill(7)
        assert not (arrays[1] == 7).any()
        dispose()


async def test_what_main_does_to_a_kept_array_is_seen_by_nobody_who_listens_later() -> None:
    async with hosting(2) as host:
        heard: list[Any] = []

        def overwrite(_event: Any, array: Any) -> None:
            heard.append(array.copy())
            array.fill(7)

        dispose = host.ipc.listen("bulk", overwrite)
        await host.ipc.run(host.renderers[0], "beside:keep", MIB, "bulk")
        await until(lambda: heard)
        host.ipc.listen("bulk", overwrite, replay=True)
        await until(lambda: len(heard) == 2)
        dispose()
        assert all((array == 1).all() for array in heard)
        assert await host.ipc.run(host.renderers[1], "beside:replayed", "bulk") == [1]


async def test_another_threads_large_events_come_as_they_were_while_the_owner_is_answered() -> None:
    async with hosting(1) as host:
        heard: list[Any] = []
        host.ipc.listen("bulk", lambda _event, array: heard.append((array.nbytes, set(array[:: 1 << 16].tolist()))))
        await host.ipc.run(host.renderers[0], "beside:send_elsewhere", 16 * MIB, 4, "bulk")
        await until(lambda: len(heard) == 4)
        assert heard == [(16 * MIB, {number}) for number in range(4)]
        await asyncio.to_thread(lambda: host.ipc.broadcast("bulk", np.full(16 * MIB, 9, np.uint8)))
        await until(lambda: len(heard) == 5)
        assert heard[4:] == [(16 * MIB, {9})]
