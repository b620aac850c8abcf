# SPDX-License-Identifier: MIT
"""The process in which messages are decoded and used: it notes which one it is at, and tells of each that is not right.

    python judge.py SEED FIRST STEP COUNT ONLY DESCRIPTOR

Where it is stands in shared memory, since it may die at any message: fuzz_values reads it there.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import mmap
import os
import re
import resource
import signal
import sys
import time
import warnings
import zoneinfo
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz import examples
from fuzz.exercise import Exercise
from fuzz.grammar import BATCH, Grammar
from fuzz.listener import Listener

from lensipc import clone
from lensipc.clone.constructors import TABLE
from lensipc.errors import DecodeError

SECONDS = 0.05
SECONDS_A_BYTE = 1e-6
SECONDS_OF_USE = 1.0
MEMORY = 32 << 20
MEMORY_A_BYTE = 64
ADDRESSES = 512 << 20
"""Address space that it may take above what it has: what asks for more is refused by the kernel."""

PAGE = resource.getpagesize()
WHERE = 64
"""Bytes of the shared page in front of the text that says what is being done."""

TYPE = 128
"""Where the page says with a value of which type."""

LEAK_EVERY = 64
LEAK_TIMES = 16

FORBIDDEN = (
    "compile", "ctypes.", "exec", "import", "marshal.", "open", "os.", "pickle.find_class", "shutil.", "socket.",
    "subprocess.", "urllib.", "tempfile.", "glob.", "code.", "builtins.", "mmap.", "signal.",
)  # fmt: skip


def grammar() -> Grammar:
    """The grammar of what the module under test has."""
    bodies = [clone.encode(value) for value in examples.VALUES]
    name = re.search(rb"\x8c.(lensipc[.a-z_]*)", clone.encode(1j), re.DOTALL)
    assert name
    return Grammar(name[1].decode(), TABLE, TABLE, bodies)


def doing(page: mmap.mmap) -> str:
    """What is being done with a value of which type."""
    step, kind = (bytes(page[at : at + 60]).partition(b"\0")[0].decode() for at in (WHERE, TYPE))
    return step if step == "decode" else f"{step} of {kind}"


def allowed(event: str, args: tuple[Any, ...]) -> bool:
    """Time zones are read from their files, or looked for in a package; constructors may be looked up."""
    subject = str(args[0]) if args else ""
    if event == "open":
        return subject.startswith(tuple(zoneinfo.TZPATH)) or "tzdata" in subject
    if event == "import":
        return subject in sys.modules or subject.startswith("tzdata")
    if event == "os.listdir":  # where an import looks for tzdata
        return subject in sys.path
    return event == "pickle.find_class" and subject.startswith("lensipc.")


class Judge:
    def __init__(self, descriptor: int) -> None:
        self.page = mmap.mmap(descriptor, PAGE)
        self.at = memoryview(self.page)[:WHERE].cast("Q")
        self.exercise = Exercise(self.say, self.say_type)
        clone.decode(clone.encode(zoneinfo.ZoneInfo("UTC")))  # which looks at all of them the first time
        self.listener = Listener(FORBIDDEN, allowed)
        self.decoded = 0
        self.floor = self.rss() + (4 << 20)

    def say(self, step: bytes) -> None:
        self.page[WHERE : WHERE + len(step) + 1] = step + b"\0"

    def say_type(self, name: bytes) -> None:
        self.page[TYPE : TYPE + len(name) + 1] = name + b"\0"

    @staticmethod
    def rss() -> int:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * PAGE

    def decode(self, body: bytes, turn: int) -> Any:
        """What decode gives; DecodeError if it refuses. Now and then in memory that becomes the value's own."""
        return clone.decode_owned(bytearray(body)) if turn & 4 else clone.decode(body)

    def judge(self, body: bytes, turn: int) -> list[str]:
        """What is wrong with how a message is taken."""
        clock = time.perf_counter
        listener = self.listener
        wrong = []
        value = again = None
        self.page[WHERE : WHERE + 7] = b"decode\0"
        listener.on = True
        began = clock()
        try:
            value = self.decode(body, turn)
        except DecodeError as error:
            taken = clock() - began
            listener.on = False
            refused = True
            if isinstance(error.__cause__, MemoryError):
                wrong.append("decode asks for too much memory")
        except BaseException as error:
            taken = clock() - began
            listener.on = False
            refused = True
            wrong.append(f"decode raises {type(error).__name__}: {error!s:.100}")
        else:
            taken = clock() - began
            listener.on = False
            refused = False
        if listener.heard:
            wrong.append(f"decode runs {listener.heard[0]}")
            listener.heard.clear()
        if taken > SECONDS + SECONDS_A_BYTE * len(body) and self.slow(body, turn):
            wrong.append("decode takes too long")
        if not refused:
            self.decoded += 1
            began = clock()
            try:
                again = self.decode(body, turn)
                self.exercise.run(value, again, turn)
            except Exception as error:
                step = doing(self.page)
                wrong.append(f"{step}: {type(error).__name__}: {error!s:.100}")
            if clock() - began > SECONDS_OF_USE:
                step, began = doing(self.page), clock()
                with suppress(Exception):
                    self.exercise.run(self.decode(body, turn), self.decode(body, turn), turn)
                if clock() - began > SECONDS_OF_USE:  # again: others use the processor and its caches, too
                    wrong.append(f"use takes too long, in the end {step}")
            leaked = self.exercise.body
            if leaked:
                for byte in (b"\x5a", b"\xcd", b"\xdd"):  # what fresh and freed memory is filled with
                    # A fraction that is reduced may have any digits.
                    if byte * 8 in leaked and byte * 2 not in body and b"as_fraction" not in body:
                        wrong.append("what is encoded again has memory that was never cleared")
                self.exercise.body = b""
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10 > self.floor:
            value = again = None
            grown = self.growth(body, turn)
            if grown > MEMORY + MEMORY_A_BYTE * len(body):
                wrong.append("takes too much memory")
        return wrong

    def slow(self, body: bytes, turn: int) -> bool:
        """Whether decoding takes too long again, by the process's own clock: others may use the processor, too."""
        shortest = SECONDS_OF_USE
        for _ in range(2):
            began = time.process_time()
            with suppress(DecodeError):
                self.decode(body, turn)
            shortest = min(shortest, time.process_time() - began)
        return shortest > SECONDS + SECONDS_A_BYTE * len(body)

    def growth(self, body: bytes, turn: int) -> int:
        """By how much this message lets the process grow at most, anew."""
        gc.collect()
        before = self.rss()
        Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is in use
        with suppress(Exception):
            self.exercise.run(self.decode(body, turn), self.decode(body, turn), turn)
        peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) << 10  # type: ignore[index]
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")
        self.floor = self.rss() + (4 << 20)
        return peak - before

    def leaks(self, body: bytes, turn: int) -> bool:
        """Whether each decode of a message leaves something behind."""

        def round_of() -> int:
            gc.collect()
            before = sys.getallocatedblocks()
            for _ in range(LEAK_TIMES):
                with suppress(DecodeError):
                    self.decode(body, turn)
            gc.collect()
            return sys.getallocatedblocks() - before

        round_of()
        return all(round_of() >= LEAK_TIMES for _ in range(4))  # what fills a free list does so once


def main() -> None:
    seed, first, step, count, only, descriptor = map(int, sys.argv[1:7])
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")
    examples.register()
    made = grammar()  # it imports, too, whatever a message may need
    judge = Judge(descriptor)
    if only >= 0:
        messages = [(only, bytes.fromhex(line)) for line in sys.stdin.read().split()]
        limits(max((len(body) for _, body in messages), default=0) * MEMORY_A_BYTE)
        for number, body in messages:
            judge.at[0] = number
            wrong = []
            for turn in range(8):
                wrong += judge.judge(body, turn)
                judge.at[1] += 1
            if not wrong and judge.leaks(body, 0):
                wrong.append("decode leaves memory behind")
            tell(number, wrong)
        print(json.dumps({"done": judge.decoded}), flush=True)
        return
    gc.collect()
    gc.freeze()
    limits(0)
    for batch in range(first // BATCH, -(-count // BATCH), step):
        for number, body in enumerate(made.batch(seed, batch), batch * BATCH):
            if number < first or number >= count:
                continue
            judge.at[0] = number
            wrong = judge.judge(body, number)
            if number % LEAK_EVERY == 0 and len(body) < 1000 and judge.leaks(body, number):
                wrong.append("decode leaves memory behind")
            if wrong:
                tell(number, wrong)
            judge.at[1] += 1
        gc.collect()
        judge.at[2], judge.at[3] = judge.decoded, judge.exercise.unclonable
    print(json.dumps({"done": judge.decoded}), flush=True)


def limits(more: int) -> None:
    if "ASAN_OPTIONS" in os.environ:  # its shadow takes all addresses there are
        return
    now = int(Path("/proc/self/statm").read_bytes().split()[0]) * PAGE
    resource.setrlimit(resource.RLIMIT_AS, (now + ADDRESSES + more,) * 2)


def tell(number: int, wrong: list[str]) -> None:
    for problem in dict.fromkeys(wrong):
        print(json.dumps({"message": number, "wrong": problem}), flush=True)


if __name__ == "__main__":
    main()
