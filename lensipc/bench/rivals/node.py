# SPDX-License-Identifier: MIT
"""Node: its worker threads and child processes, which clone what they send each other. See node.js."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..contest import Contest, Life
from ..figures import figures
from ..side import Side

SCRIPT = Path(__file__).with_name("node.js")


class Workers(Contest):
    """Threads of one process. Its CPU is not told apart: all of it is main's."""

    threads = True
    kind = "events"

    def sides(self) -> dict[str, Life]:
        """Node makes the renderers."""
        return {"main": self.main}

    def main(self, side: Side) -> None:
        """Run node."""
        task = {**asdict(self.task), "threads": self.threads, "kind": self.kind}
        command = ["node", str(SCRIPT), json.dumps(task)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as node:
            assert node.stdin is not None
            assert node.stdout is not None
            try:
                ready = json.loads(node.stdout.readline())
                if self.task.placement == "two cores":
                    for pid in ready["pids"]:
                        os.sched_setaffinity(pid, set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0))
                side.ready()
                node.stdin.write("go\n")
                node.stdin.flush()
                report = json.loads(node.stdout.readline())
            except BaseException:
                node.kill()
                raise
            node.stdin.close()
        reports: dict[str, Any] = {f"renderer {number}": each for number, each in enumerate(report["renderers"])}
        found = figures(self.task, {"main": report["main"], **reports})
        if self.threads:
            found = {key: value for key, value in found.items() if "renderer" not in key}
        side.done({"figures": found})


class WorkersCalls(Workers):
    """Awaited calls from a thread."""

    kind = "calls"


class Children(Workers):
    """Processes of their own."""

    threads = False


class ChildrenCalls(Children):
    """Awaited calls from a process."""

    kind = "calls"
