# SPDX-License-Identifier: MIT
"""Runs one renderer by hand, in a terminal: for breakpoint() and debuggers."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from ..errors import LensIpcError
from ..renderer.process import RendererProcess

# Exit statuses: it could not attach; Ctrl-C, as a shell has it.
FAILED = 1
INTERRUPTED = 130


def run(path: Path, name: str, token: str | None, user: int | None) -> int:
    """Connect to the main process at `path`, and run until main is gone or Ctrl-C. Return the exit status."""
    sys.path.insert(0, str(Path.cwd()))  # as `python -m` does: extensions are imported from here, too
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")

    async def serve() -> None:
        async with RendererProcess.connect(path, timeout=None, token=token, user=user, name=name) as renderer:
            print(f"renderer {renderer.frame_id} of main (pid {renderer.main_pid}): Ctrl-C leaves", flush=True)
            await renderer.wait_closed()
            print(f"main is gone: {renderer.closed_reason}", flush=True)

    try:
        asyncio.run(serve())
    except (LensIpcError, OSError, ValueError) as error:
        sys.stderr.write(f"lensipc: {error}\n")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0
