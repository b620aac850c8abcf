# SPDX-License-Identifier: MIT
"""Values from programs of constructors through decode and use: `python tests/fuzz/fuzz_values.py --seed 1 --count 999`.

Every message is a pickle of constructors and containers, right but for some hostile arguments, or a mutation of one.
Decode must give a value or raise DecodeError: in 50 ms and a microsecond a byte, in 32 MiB and 64 bytes a byte, without
running anything. Whatever ordinary code then does to the value must not crash, hang or take more than that. All of it
happens in child processes under PYTHONMALLOC=debug. `grammar` makes the messages, `exercise` says what is done to a
value, `judge` is the child.

Each kind of finding is told once, with the shortest message of its kind that was met; that message is made shorter and
written to a file in hex. `--only N` repeats message N of the seed, `--replay FILE` each line of such a file.

For a core that is built with AddressSanitizer, set LD_PRELOAD to its library, PYTHONMALLOC=malloc, and
ASAN_OPTIONS=abort_on_error=1:detect_leaks=0.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz import examples
from fuzz.grammar import BATCH, tokens_of
from fuzz.judge import PAGE, WHERE, doing, grammar

HERE = Path(__file__).resolve().parent
HANG = 4.0
"""Processor time in seconds after which a message is not waited for any longer."""

STUCK = 60.0
"""The same in time on the clock, for one that does not use the processor at all."""

SHORTER = 150
"""How many shorter forms of a message are tried."""


@dataclass
class Finding:
    kind: str
    message: int


class Child:
    """One process that judges messages, and what is known of where it is."""

    def __init__(self, seed: int, first: int, step: int, count: int, lines: list[str] | None = None) -> None:
        descriptor = os.memfd_create("fuzz")
        os.ftruncate(descriptor, PAGE)
        self.page = mmap.mmap(descriptor, PAGE)
        self.at = memoryview(self.page)[:WHERE].cast("Q")
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - close() does
        self.output = tempfile.TemporaryFile()  # noqa: SIM115
        command = [
            sys.executable,
            str(HERE / "judge.py"),
            *map(str, (seed, first, step, count, -1 if lines is None else 0)),
        ]
        environment = {"PYTHONMALLOC": "debug", "MALLOC_PERTURB_": "165", **os.environ}
        self.process = subprocess.Popen(
            [*command, str(descriptor)],
            stdin=subprocess.PIPE,
            stdout=self.output,
            stderr=self.errors,
            pass_fds=[descriptor],
            env=environment,
        )
        os.close(descriptor)
        assert self.process.stdin is not None
        self.process.stdin.write("\n".join(lines or []).encode())
        self.process.stdin.close()
        self.step = step
        self.seen = ((0, 0), 0.0, time.monotonic())
        self.read = 0

    def used(self) -> float:
        """Seconds of processor time."""
        try:
            return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[0]) / 1e9
        except (OSError, IndexError):
            return 0.0

    def poll(self) -> list[Finding] | None:
        """What it has told since; with its end, if it has died or hangs, as the last. None when it has ended well."""
        status = self.process.poll()
        hangs = status is None and self.hangs()
        if hangs:
            self.process.send_signal(signal.SIGUSR1)  # faulthandler says where it is
            time.sleep(0.3)
            self.process.kill()
            self.process.wait()
        self.output.seek(self.read)
        told = self.output.read()
        told = told[: told.rfind(b"\n") + 1]
        self.read += len(told)
        findings = [
            Finding(each["wrong"], each["message"]) for each in map(json.loads, told.splitlines()) if "wrong" in each
        ]
        if status is not None and status > 0:
            raise RuntimeError(f"the judge itself has failed:{self.place()}")
        if hangs or status:
            what = "hangs" if hangs or status is None else f"dies of {signal.Signals(-status).name}"
            return [*findings, Finding(f"{doing(self.page)}: {what}{self.place()}", self.at[0])]
        return None if status == 0 and not findings else findings

    def hangs(self) -> bool:
        place, used, now = (self.at[0], self.at[1]), self.used(), time.monotonic()
        if place != self.seen[0]:
            self.seen = place, used, now
        return used - self.seen[1] > HANG or now - self.seen[2] > STUCK

    def place(self) -> str:
        """Where Python's code was, of what faulthandler wrote; or what the child's last words were."""
        self.errors.seek(0)
        text = self.errors.read().decode(errors="replace")
        summary = re.findall("SUMMARY: (.*)", text)  # of AddressSanitizer
        if summary:
            return f" {summary[0]}"
        found = re.findall(r'File "[^"]*/([^"/]+)", line \d+ in (\w+)', text[text.rfind("(most recent call first)") :])
        if found:
            return " in {}:{}".format(*found[0])
        return f" {text.strip().splitlines()[-1][:200]}" if text.strip() else ""

    def next(self) -> int:
        """The message to go on with after the one at which it died."""
        return self.at[0] + 1

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.at.release()
        self.page.close()
        self.errors.close()
        self.output.close()


def judged(lines: list[str]) -> list[str]:
    """The kinds of findings of messages in hex."""
    child = Child(0, 0, 1, 0, lines)
    kinds: list[str] = []
    while (findings := child.poll()) is not None:
        kinds += [finding.kind for finding in findings]
        if child.process.poll() is not None and not (child.process.returncode == 0 and findings):
            break
        time.sleep(0.01)
    child.close()
    return kinds


def shorter(body: bytes, kind: str, deadline: float) -> bytes:
    """The message without what its finding does not need: opcodes dropped one after the other while it stays."""
    try:
        tokens = tokens_of(body)
    except ValueError:
        tokens = [body[at : at + 1] for at in range(len(body))]
    head = body[: len(body) - sum(map(len, tokens))]
    if head or "hangs" in kind or len(tokens) > 2000:  # buffers beside it; or each attempt takes seconds
        return body
    size = max(1, len(tokens) // 2)
    for _ in range(SHORTER):
        at = 0
        while at < len(tokens) and time.monotonic() < deadline:
            fewer = tokens[:at] + tokens[at + size :]
            if fewer and same(kind, judged([b"".join(fewer).hex()])):
                tokens = fewer
            else:
                at += size
        if size == 1 or time.monotonic() >= deadline:
            break
        size //= 2
    return b"".join(tokens)


def same(kind: str, kinds: list[str]) -> bool:
    return any(normal(each) == normal(kind) for each in kinds)


def normal(kind: str) -> str:
    """A finding without its numbers and texts."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|0x[0-9a-f]+|\d+", "_", kind)


class Run:
    """All children of one run, and the shortest message of each kind of finding."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.found: dict[str, tuple[Finding, bytes]] = {}
        self.times: dict[str, int] = {}
        self.done = self.decoded = self.unclonable = 0
        self.grammar = grammar()

    def body(self, number: int) -> bytes:
        messages = self.grammar.batch(self.options.seed, number // BATCH)
        return next(body for index, body in enumerate(messages) if index == number % BATCH)

    def start(self, first: int) -> Child:
        return Child(self.options.seed, first, self.options.jobs, self.options.count)

    def run(self) -> int:
        began = time.monotonic()
        options = self.options
        until = began + options.seconds if options.seconds else float("inf")
        children = {worker: self.start(options.first + worker * BATCH) for worker in range(options.jobs)}
        while children and time.monotonic() < until and len(self.found) < options.kinds:
            time.sleep(0.05)
            for worker, child in list(children.items()):
                findings = child.poll()
                for finding in findings or []:
                    self.note(finding)
                if child.process.returncode is None or (child.process.returncode == 0 and findings):
                    continue
                first = child.next()
                self.count(child)
                del children[worker]
                if child.process.returncode and first < options.count:
                    children[worker] = self.start(first)
        for child in children.values():
            self.count(child)
        seconds = time.monotonic() - began
        rate = self.done / seconds / options.jobs
        print(
            f"{self.done} messages of seed {options.seed} in {seconds:.0f} s, {rate:.0f}/s for each of {options.jobs} "
            f"processes: {self.decoded} decoded, of {self.unclonable} of these the value has no clone"
        )
        for kind, (finding, body) in self.found.items():
            self.tell(kind, finding, body)
        return 1 if self.found else 0

    def count(self, child: Child) -> None:
        self.done += child.at[1]
        self.decoded += child.at[2]
        self.unclonable += child.at[3]
        child.close()

    def note(self, finding: Finding) -> None:
        body = self.body(finding.message)
        named = sorted({name for name in self.grammar.names if name.encode() in body})
        kind = normal(finding.kind) + (" with " + " and ".join(named) if 0 < len(named) < 3 else "")
        self.times[kind] = self.times.get(kind, 0) + 1
        if kind not in self.found:
            print(f"message {finding.message}, {len(body)} bytes: {finding.kind}", flush=True)
        elif len(body) >= len(self.found[kind][1]):
            return
        self.found[kind] = finding, body

    def tell(self, kind: str, finding: Finding, body: bytes) -> None:
        options = self.options
        alone = same(finding.kind, judged([body.hex()]))
        if alone and options.shorten:
            body = shorter(body, finding.kind, time.monotonic() + options.shorten)
        path = options.folder / f"fuzz-{options.seed}-{finding.message}.hex"
        path.write_text(body.hex() + "\n")
        print(f"{finding.kind} ({self.times[kind]} times), {len(body)} bytes in {path}: {body.hex():.160}")
        begin = finding.message // BATCH * BATCH
        again = f"--only {finding.message}" if alone else f"--first {begin} --count {finding.message + 1}"
        print(f"    again: python tests/fuzz/fuzz_values.py --seed {options.seed} {again}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help=f"the message to begin with, a multiple of {BATCH}")
    parser.add_argument("--seconds", type=float, default=0, help="end after so long, whatever the count")
    parser.add_argument("--jobs", type=int, default=1, help="processes that judge messages")
    parser.add_argument("--print", action="store_true", help="print the messages in hex instead")
    parser.add_argument("--only", type=int, help="one message of the seed")
    parser.add_argument("--replay", type=Path, help="messages in hex, one a line")
    parser.add_argument("--kinds", type=int, default=1000, help="end after so many kinds of findings")
    parser.add_argument("--shorten", type=float, default=10, help="seconds to spend on making each message shorter")
    parser.add_argument("--folder", type=Path, default=Path(), help="where messages are written to")
    options = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets, here as in the children
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "PYTHONHASHSEED": "0"})
    examples.register()
    if options.print:
        made = grammar()
        for number in range(options.first // BATCH, -(-options.count // BATCH)):
            for index, body in enumerate(made.batch(options.seed, number), number * BATCH):
                if options.first <= index < options.count:
                    print(body.hex())
        return 0
    if options.replay is None and options.only is None:
        return Run(options).run()
    lines = options.replay.read_text().split() if options.replay else [Run(options).body(options.only).hex()]
    status = 0
    for line in lines:
        kinds = judged([line])
        status |= bool(kinds)
        print(f"{line:.100}: {'; '.join(dict.fromkeys(kinds)) or 'right'}")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
