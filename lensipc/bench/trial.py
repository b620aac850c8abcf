# SPDX-License-Identifier: MIT
"""One measurement: `python -m lensipc.bench.trial TASK`, a fresh process that forks the sides and prints one report.

The sides connect and say ready; when all are, they go; each reports when it is done, and ends when all are. Every wait
has its end: what takes longer has failed, and is killed. Nothing was used here before the fork, only imported.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from importlib import import_module
from multiprocessing.connection import Connection, wait
from typing import Any

from lensipc.transport.endpoint import end_with_parent

from .contest import Contest, Life
from .figures import figures
from .side import Report, Side, Stalled
from .task import Task

READY_WAIT = 30.0
STALLED_WAIT = 5.0
END_WAIT = 10.0


class TrialError(Exception):
    """A side failed, or took too long; says which."""


class _Child:
    """A side, as the trial sees it."""

    def __init__(self, name: str, life: Life, side: Side, line: Connection, theirs: Connection) -> None:
        self.name = name
        self.line = line
        self.process = multiprocessing.get_context("fork").Process(target=_live, args=(life, side, theirs, os.getpid()))
        self.process.start()
        theirs.close()


def _live(life: Life, side: Side, line: Connection, parent: int) -> None:
    """What a side's process runs."""
    end_with_parent(parent, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner ends all
    signal.signal(signal.SIGUSR1, _stall)
    if side.task.placement != "free":
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[side.task.placement == "two cores" and side.name != "main"]})
    try:
        try:
            life(side)
        except Stalled:
            raise
        except BaseException as error:  # a panic in Rust is no Exception
            # A rival may make an error of the signal that it was interrupted by: Stalled is then raised in this line.
            line.send({"failed": f"{error!r}", "traceback": traceback.format_exc()})
    except Stalled:
        line.send(side.listener.report())
        line.recv()
        line.send({"cpu": 0.0, "warm": True})


def _stall(*_: object) -> None:
    raise Stalled


def run(task: Task) -> dict[str, Any]:
    """Measure, and return the figures. TrialError: it could not be."""
    module, _, name = task.where.partition(":")
    contest: Contest = getattr(import_module(f"{__package__}.rivals.{module}"), name)(task)
    children = []
    try:
        for name, life in contest.sides().items():
            ours, theirs = multiprocessing.Pipe()
            children.append(_Child(name, life, Side(task, name, theirs), ours, theirs))
        gather(children, "ready", READY_WAIT)
        tell(children, "go")
        reports = gather(children, "done", task.limit, stall=True)
        tell(children, "end")
        for name, cpu in gather(children, "ended", END_WAIT).items():
            reports[name].update(cpu)
        for child in children:
            child.process.join(END_WAIT)
        left = [child.name for child in children if child.process.is_alive()]
        return {**figures(task, reports), **({"hung_at_the_end": left} if left else {})}
    finally:
        for child in children:
            child.process.kill()
            child.process.join()


def tell(children: list[_Child], word: str) -> None:
    """Say a word to all."""
    for child in children:
        child.line.send(word)


def gather(children: list[_Child], what: str, seconds: float, *, stall: bool = False) -> dict[str, Report]:
    """What each of them says next.

    Args:
        children: the sides.
        what: what they say by that.
        seconds: how long they may take.
        stall: whether those that take longer are then asked for what they have.
    """
    waiting, said = {child.line: child for child in children}, {}
    deadline = time.monotonic() + seconds
    while waiting:
        lines = wait(list(waiting), max(0.0, deadline - time.monotonic()))
        if not lines and stall:
            stall, deadline = False, time.monotonic() + STALLED_WAIT
            for child in waiting.values():
                assert child.process.pid is not None
                os.kill(child.process.pid, signal.SIGUSR1)
        elif not lines:
            names = ", ".join(child.name for child in waiting.values())
            raise TrialError(f"not {what} within {seconds:g} s: {names}")
        for line in lines:
            assert isinstance(line, Connection)
            child = waiting.pop(line)
            try:
                heard = line.recv()
            except (EOFError, ConnectionError):
                child.process.join(END_WAIT)
                raise TrialError(f"{child.name} ended, with status {child.process.exitcode}") from None
            if isinstance(heard, dict) and "failed" in heard:
                raise TrialError(f"{child.name}: {heard['failed']}\n{heard['traceback']}")
            said[child.name] = heard
    return said


def main() -> None:
    """Print the report as JSON, the last line of the output."""
    runner, text = sys.argv[1:]
    end_with_parent(int(runner), 1)
    try:
        report = run(Task.from_json(text))
    except TrialError as error:
        first, _, rest = str(error).partition("\n")
        report = {"failed": first, "traceback": rest}
    except Exception as error:
        report = {"failed": repr(error), "traceback": traceback.format_exc()}
    print(json.dumps(report))


if __name__ == "__main__":
    main()
