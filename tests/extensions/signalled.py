"""A process that is interrupted by signals all the time: a script, or an event loop."""

from __future__ import annotations

import asyncio
import random
import signal
from typing import Any

import lab

from lensipc import RendererProcess


class Signals:
    """SIGALRM at random instants, handled in Python; so many of them."""

    def __init__(self, seed: int, count: int) -> None:
        self._rng = random.Random(seed)
        self._count = count
        self.handled = 0
        signal.signal(signal.SIGALRM, self._on_signal)
        self._arm()

    @property
    def over(self) -> bool:
        """Whether that was all."""
        return self.handled >= self._count

    def _arm(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, self._rng.choice([20e-6, 100e-6, 1e-3]) * (0.01 + self._rng.random()))

    def _on_signal(self, *_: Any) -> None:
        self.handled += 1
        if not self.over:
            self._arm()


class Listener:
    """Hears numbers that only grow by one."""

    def __init__(self, ipc: lab.IpcRenderer | lab.IpcMain, channel: str) -> None:
        self.heard = self.wrong = 0
        ipc.listen(channel, self._on_event)

    def _on_event(self, _event: Any, number: int, *_: Any) -> None:
        self.heard += 1
        self.wrong += number != self.heard


def script(path: str, seed: int, count: int, wakeup: Any) -> None:
    """Listen, broadcast and invoke, interrupted; prints what was heard and sent."""
    with RendererProcess.connect(path, wakeup=wakeup) as renderer:
        ipc = lab.IpcRenderer.get_instance()
        listener, sent, calls = Listener(ipc, "down"), 0, 0
        ipc.invoke_sync("ready")
        signals = Signals(seed, count)
        while not signals.over:
            for _ in range(5):
                sent += 1
                ipc.broadcast("up", sent, bytes(sent % 3000))
            ipc.drain_sync()
            calls += 1
            assert ipc.invoke_sync("echo", calls) == (calls,)
            renderer.dispatch(0.001)
        (last,) = ipc.invoke_sync("over", sent)
        while listener.heard < last:
            renderer.dispatch(1)
    print(signals.handled, sent, listener.heard, listener.wrong, calls)


async def loop(path: str, seed: int, count: int) -> None:
    """The same on an event loop."""
    async with RendererProcess.connect(path):
        ipc = lab.IpcRenderer.get_instance()
        listener, sent, calls = Listener(ipc, "down"), 0, 0
        await ipc.invoke("ready")
        signals = Signals(seed, count)
        while not signals.over:
            for _ in range(5):
                sent += 1
                ipc.broadcast("up", sent, bytes(sent % 3000))
            await ipc.drain()
            calls += 1
            assert await ipc.invoke("echo", calls) == (calls,)
        (last,) = await ipc.invoke("over", sent)
        while listener.heard < last:
            await asyncio.sleep(0.001)
    print(signals.handled, sent, listener.heard, listener.wrong, calls)
