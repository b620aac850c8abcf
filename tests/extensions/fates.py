"""An extension whose requests end in every way that there is."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter, defaultdict
from typing import Any, Final

import lab

from lensipc import (
    ExtensionManifest,
    InvokeTimeout,
    Ipc,
    LensMainExtension,
    LensRendererExtension,
    NoHandlerError,
    NotActivatedError,
    PeerGone,
    RemoteError,
    RendererProcess,
    Types,
)

MANIFEST = ExtensionManifest("fates", "1", main="fates:Main", renderer="fates:Renderer")

executed: defaultdict[int, Counter[int]] = defaultdict(Counter)  # in main: how often, by process and number


class IpcMain(Ipc.Main):
    def __init__(self, extension: LensMainExtension) -> None:
        super().__init__(extension)
        self.handle("result", self._on_result)
        self.handle("raise", self._on_raise)
        self.handle("slow", self._on_slow)

    def _on_result(self, event: Types.IpcMainInvokeEvent, number: int) -> int:
        executed[event.pid][number] += 1
        return number

    def _on_raise(self, event: Types.IpcMainInvokeEvent, number: int) -> None:
        executed[event.pid][number] += 1
        raise ValueError(number)

    async def _on_slow(self, event: Types.IpcMainInvokeEvent, number: int, seconds: float) -> int:
        executed[event.pid][number] += 1
        await asyncio.sleep(seconds)
        return number


class Main(LensMainExtension):
    def on_activate(self) -> None:
        IpcMain.create_instance(self)


class IpcRenderer(Ipc.Renderer):
    pass


class Renderer(LensRendererExtension):
    def on_activate(self) -> None:
        IpcRenderer.create_instance(self)


# ---- in a renderer ----

FATES: Final = (
    ["result"] * 8 + ["raise"] * 3 + ["slow"] * 2 + ["timeout"] * 2 + ["race"] * 2 + ["cancel"] * 2 + ["nobody"]
)
RESULT, RAISED, TIMEOUT, CANCELLED, NO_HANDLER, NOT_ACTIVE, GONE, WRONG = range(8)
NAMES: Final = ["result", "raised", "timeout", "cancelled", "no handler", "not active", "peer gone", "wrong"]
# What each may come to, besides what follows from disabling the extension or leaving main.
MAY: Final = {
    "result": {RESULT},
    "raise": {RAISED},
    "slow": {RESULT},
    "timeout": {TIMEOUT},
    "race": {RESULT, TIMEOUT},
    "cancel": {CANCELLED, RESULT},
    "nobody": {NO_HANDLER},
}
EVER: Final = {NO_HANDLER, NOT_ACTIVE, GONE}


async def one(rng: random.Random, number: int) -> int:
    """An invoke of a random fate, and the outcome that it had."""
    while IpcRenderer.get_instance(strict=False) is None and rng.random() < 0.9:
        await asyncio.sleep(0.01)  # or most of them would fall into the short while in which it is disabled
    fate = rng.choice(FATES)
    outcomes = Counter[int]()
    task = asyncio.create_task(_invoke(rng, fate, number, outcomes))
    if fate == "cancel":
        await asyncio.sleep(rng.choice([0, 0, rng.random() * 0.005]))
        task.cancel()
    await asyncio.wait([task])
    if task.cancelled():
        outcomes[CANCELLED] += 1
    else:
        task.result()
    (outcome,) = outcomes.elements()  # exactly one
    assert outcome in MAY[fate] | EVER, f"{fate}: {NAMES[outcome]}"
    return outcome


async def _invoke(rng: random.Random, fate: str, number: int, outcomes: Counter[int]) -> None:
    ipc = IpcRenderer.get_instance(strict=False)
    if ipc is None:
        outcomes[NOT_ACTIVE] += 1
        return
    try:
        if fate == "raise":
            await ipc.invoke("raise", number)
        elif fate == "nobody":
            await ipc.invoke("nobody", number)
        elif fate == "timeout":
            await ipc.invoke("slow", number, 3600.0, timeout=rng.random() * 0.01)
        elif fate == "race":
            assert await ipc.invoke("result", number, timeout=rng.random() * 0.004) == number
        elif fate == "slow" or (fate == "cancel" and rng.random() < 0.7):
            assert await ipc.invoke("slow", number, rng.random() * 0.02) == number
        else:
            assert await ipc.invoke("result", number) == number
        outcomes[RESULT] += 1
    except RemoteError as error:
        outcomes[RAISED if isinstance(error, ValueError) and error.args == (number,) else WRONG] += 1
    except InvokeTimeout:
        outcomes[TIMEOUT] += 1
    except NoHandlerError:
        outcomes[NO_HANDLER] += 1
    except NotActivatedError:
        outcomes[NOT_ACTIVE] += 1
    except PeerGone:
        outcomes[GONE] += 1


async def batch(ipc: lab.IpcRenderer, seed: int, first: int, count: int) -> dict[str, Any]:
    """So many at once: the outcome of each, and what is left."""
    rng = random.Random(seed)
    outcomes = await asyncio.gather(*(one(rng, first + number) for number in range(count)))
    invocations = lab.core_of(ipc).pending_invokes
    return {"outcomes": bytes(outcomes), "pending": len(invocations), "late": invocations.late}


async def come_and_go(path: str, seed: int, count: int, at_once: int) -> None:
    """Connect, invoke, and leave with the outcomes outstanding; again and again. Prints how many were what."""
    rng, total, late = random.Random(seed), Counter[int](), 0
    for first in range(0, count, at_once):
        async with RendererProcess.connect(path) as renderer:
            core = renderer._entered
            asking = asyncio.gather(*(one(rng, first + number) for number in range(at_once)))
            await asyncio.sleep(rng.choice([0, rng.random() * 0.05]))
            renderer.close()
            total.update(await asking)
            assert len(core.pending_invokes) == 0
            late += core.pending_invokes.late
    print(*(total[outcome] for outcome in range(len(NAMES))), late, file=sys.stdout)
