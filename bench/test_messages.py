"""The small message one way and there and back, beside multiprocessing.Pipe in the same run.

Times are the receiver's, or the caller's: see README.md here. Each round is COUNT messages; the rate and the
percentiles are in the benchmark's extra info.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import pickle
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import workers
from workers import SMALL

from lensipc import MainProcess

COUNT = 20_000
TRIPS = 2_000
ROUNDS = 5


class Lensipc:
    """A main process with one renderer."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.main = MainProcess()
        self.loop.run_until_complete(self._begin())

    async def _begin(self) -> None:
        await self.main.__aenter__()
        await self.main.install(workers.MANIFEST)
        await self.main.spawn_renderer()
        self.ipc = workers.IpcMain.get_instance()

    async def _result(self) -> Any:
        while not self.ipc.results:
            await asyncio.sleep(0.001)
        return self.ipc.results.pop()

    def one_way(self, count: int) -> float:
        async def send() -> float:
            self.ipc.broadcast("expect", count)
            for number in range(count):
                self.ipc.broadcast("small", SMALL)
                if number % 64 == 0:
                    await self.ipc.drain()
            return float(await self._result())

        return self.loop.run_until_complete(send())

    def round_trips(self, count: int) -> list[float]:
        async def ask() -> list[float]:
            self.ipc.broadcast("round trips", count)
            return list(await self._result())

        return self.loop.run_until_complete(ask())

    def close(self) -> None:
        self.loop.run_until_complete(self.main.__aexit__())
        self.loop.close()


class Pipe:
    """multiprocessing.Pipe with pickles of protocol 5, both ends blocking."""

    def __init__(self) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self.process = context.Process(target=workers.pipe, args=(theirs,))
        self.process.start()
        theirs.close()

    def one_way(self, count: int) -> float:
        self.connection.send(("one way", count))
        for _ in range(count):
            self.connection.send_bytes(pickle.dumps(SMALL, 5))
        return float(self.connection.recv())

    def round_trips(self, count: int) -> list[float]:
        self.connection.send(("round trips", count))
        while body := self.connection.recv_bytes():
            self.connection.send_bytes(pickle.dumps(pickle.loads(body), 5))
        return list(self.connection.recv())

    def close(self) -> None:
        self.connection.send(("end", 0))
        self.process.join()
        self.connection.close()


@pytest.fixture(params=[Lensipc, Pipe], ids=lambda kind: kind.__name__)
def peer(request: pytest.FixtureRequest) -> Iterator[Any]:
    peer = request.param()
    yield peer
    peer.close()


def _measure(benchmark: Any, run: Callable[[], Any]) -> list[Any]:
    results: list[Any] = []
    benchmark.pedantic(lambda: results.append(run()), rounds=ROUNDS, warmup_rounds=1)
    return results[1:]


@pytest.mark.benchmark(group="event_small")
def test_event_small(benchmark: Any, peer: Any) -> None:
    """One way, main to one listener: encode, send, decode, call."""
    rates = [COUNT / seconds for seconds in _measure(benchmark, lambda: peer.one_way(COUNT))]
    benchmark.extra_info["messages_per_second"] = statistics.median(rates)


@pytest.mark.benchmark(group="rtt_async")
def test_rtt_async(benchmark: Any, peer: Any) -> None:
    """There and back, one at a time: `await ipc.invoke` on asyncio, and a blocking Pipe."""
    times = sorted(itertools.chain(*_measure(benchmark, lambda: peer.round_trips(TRIPS))))
    benchmark.extra_info["p50_us"] = times[len(times) // 2] * 1e6
    benchmark.extra_info["p99_us"] = times[len(times) * 99 // 100] * 1e6
