# SPDX-License-Identifier: MIT
"""The host with an honest neighbour, and what must hold after each attack."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import random
import tempfile
import time
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hosting import Host, hosting, until

from hostile.catalogue import INVALID, VALID, Named
from hostile.renderer import (
    CAPACITY,
    HIGH_WATER,
    MAX_CHANNELS,
    MAX_INVOKES,
    MESSAGE_LIMIT,
    OUTBOX_LIMIT,
    Renderer,
    connect,
)
from lensipc import log as log_module
from lensipc.main import peer as renderer_connection
from lensipc.main.connection import RendererConnection


class _Log(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(f"{record.levelname} {record.getMessage()}")


class Arena:
    """A host with an honest neighbour, ready for one attack after another."""

    def __init__(self, host: Host, log: _Log) -> None:
        self.host = host
        self.log = log
        self.trials = self.disconnected = self.pulses = 0
        self.longest_gap = 0.0  # of main's heartbeat
        self.loop_errors: list[str] = []
        self._dead: list[tuple[str, weakref.ref[RendererConnection]]] = []
        self._baseline = self._kept()

    def _kept(self) -> dict[str, int]:
        """What main keeps of renderers."""
        router = self.host.main._core
        return {
            "connections": len(router.connections),
            "channels": sum(len(port.table.channels) for port in router.ports.values()),
            "subscriptions": sum(
                len(channel.topic) for port in router.ports.values() for channel in port.table.channels.values()
            ),
            "callbacks": len(router.poller._callbacks),
            "congested": len(router.backpressure._congested),
        }

    async def beat(self) -> None:
        """Notice how long main's loop is away at the most."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.001)
            now = time.monotonic()
            self.longest_gap = max(self.longest_gap, now - last)
            last = now

    async def connect(self, **options: Any) -> Renderer:
        """Attach to this host: see renderer.connect."""
        path = self.host.main.path
        assert path is not None
        return await connect(path, self.host, **options)

    async def trial(self, named: Named, seed: int) -> None:
        """One attack, and all that must hold afterwards."""
        self.trials += 1
        self.log.records.clear()
        renderer = await self.connect()
        connection = renderer.connection
        try:
            result = named.run(renderer, random.Random(seed))
            if inspect.isawaitable(result):
                await result
            if named.expect == INVALID or renderer.segment < 0:
                await renderer.over()
            else:
                await self._settled(renderer)
            disconnected = renderer.gone and renderer.segment >= 0
        finally:
            renderer.close()
        await until(lambda: renderer.gone)
        self.disconnected += disconnected
        reasons = [text for text in self.log.records if f"renderer {renderer.frame_id} " in text]
        if named.expect == INVALID:
            assert len(reasons) == 1, f"not one reason, but {reasons}"
        elif named.expect == VALID:
            assert reasons == []
        else:
            assert len(reasons) == (1 if disconnected else 0), f"not one reason, but {reasons}"
        errors = [text for text in self.log.records if text.startswith(("ERROR", "CRITICAL"))]
        assert errors == []
        assert self.loop_errors == []
        await self.neighbour_is_well()
        assert self._kept() == self._baseline
        self._dead.append((named.name, connection))

    async def _settled(self, renderer: Renderer) -> None:
        """Until main has taken all that was written, or has disconnected the renderer."""
        await renderer.parked()
        await asyncio.sleep(0)
        await renderer.parked()

    async def neighbour_is_well(self) -> None:
        """The neighbour's invoke and main's broadcast work."""
        neighbour = self.host.renderers[0]
        self.pulses += 1
        assert await self.host.ipc.run(neighbour, "invoke", "echo", self.pulses) == (self.pulses,)
        self.host.ipc.broadcast("pulse", self.pulses)
        heard = await self.host.ipc.run(neighbour, "hear", "pulse", self.pulses)
        assert heard[-1] == (0, self.pulses, 0)
        assert len(heard) == self.pulses

    def all_released(self) -> None:
        """Main keeps no connection of a renderer that is gone."""
        gc.collect()
        assert [name for name, connection in self._dead if connection() is not None] == []
        self._dead.clear()


@asynccontextmanager
async def arena(**more: Any) -> AsyncIterator[Arena]:
    """A host, its neighbour, and the watch over both."""
    limits = renderer_connection.MAX_INVOKES, renderer_connection.MAX_CHANNELS
    most = log_module.MOST.copy()
    log_module.MOST.update(dict.fromkeys(most, 1_000_000))  # trials follow each other fast
    renderer_connection.MAX_INVOKES, renderer_connection.MAX_CHANNELS = MAX_INVOKES, MAX_CHANNELS  # type: ignore[misc]
    log = _Log()
    logger = logging.getLogger("lensipc")
    logger.addHandler(log)
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "path": Path(folder) / "main",
            "capacity": CAPACITY,
            "high_water": HIGH_WATER,
            "outbox_limit": OUTBOX_LIMIT,
            "message_limit": MESSAGE_LIMIT,
        }
        async with hosting(1, **options, **more) as host:
            neighbour = host.renderers[0]
            for channel in ("pulse", "news", "itself"):
                await host.ipc.run(neighbour, "note", channel)
            host.ipc.note("heard in main")
            ring = Arena(host, log)
            loop.set_exception_handler(lambda _loop, context: ring.loop_errors.append(repr(context)))
            heart = asyncio.create_task(ring.beat())
            try:
                yield ring
            finally:
                heart.cancel()
                loop.set_exception_handler(None)
                logger.removeHandler(log)
                renderer_connection.MAX_INVOKES, renderer_connection.MAX_CHANNELS = limits  # type: ignore[misc]
                log_module.MOST.update(most)
