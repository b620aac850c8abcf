# SPDX-License-Identifier: MIT
"""A main process of its own, with the lab and some renderers that work, for commands that kill or stop it.

python tests/faults/serving.py PATH RENDERERS FUNCTION ARGUMENTS

Prints "ready" and the renderers' process ids, and serves until it is killed or its input ends.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys

import command
import lab

from lensipc import MainProcess, Types


async def _hold(_event: Types.IpcMainInvokeEvent) -> None:
    await asyncio.sleep(3600)


async def serve(path: str, renderers: int, function: str, arguments: str) -> None:
    """Until the input ends."""
    async with MainProcess(path) as main:
        await main.install(lab.MANIFEST)
        ipc = lab.IpcMain.get_instance()
        ipc.handle("hold", _hold)
        handles = await asyncio.gather(*(main.spawn_renderer() for _ in range(renderers)))
        for handle in handles:
            ipc.broadcast("run", handle.pid, -1, function, tuple(json.loads(arguments)))
        print("ready", *(handle.pid for handle in handles), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    logging.getLogger("lensipc").addHandler(logging.NullHandler())
    command.beat()
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]))
