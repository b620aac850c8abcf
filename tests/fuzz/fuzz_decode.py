# SPDX-License-Identifier: MIT
"""Mutated messages through decode: `python tests/fuzz/fuzz_decode.py --seed 1 --count 1000000`.

Every message is a mutation of what the encoder writes. Decode must give a value or raise DecodeError, run nothing
(an audit hook listens for imports, processes, files and code), take less than a second, and stay within 256 MiB more
than the process has. On a failure the message is written to a file and its name printed; `--replay FILE` runs it.
"""

from __future__ import annotations

import argparse
import pickletools
import random
import resource
import runpy
import signal
import struct
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from lensipc import clone
from lensipc._core import lib
from lensipc.errors import DecodeError

CALLS = lib.lipc_calls()

OPCODES = bytes(ord(op.code) for op in pickletools.opcodes)
FORBIDDEN = (
    "compile", "ctypes.", "exec", "import", "marshal.", "os.", "pickle.find_class", "shutil.", "socket.", "subprocess.",
)  # fmt: skip
NAME = b"\x8c\x0elensipc.values\x8c\x08as_array\x93"
FLOATS = NAME + b"(\x8c\x03<f4\x8c\x01CK\x00K\x03K\x04tR"  # what csrc/python/plain_encode.c writes of arrays
INTEGERS = NAME + b"(\x8c\x03<i8\x8c\x01CK\x01K\x08tR"
SECONDS = 1.0
MEMORY = 256 << 20

INTERESTING = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 63, (1 << 64) - 1]


def mutate(bodies: list[bytes], rng: random.Random) -> bytes:
    """A message with up to eight changes: bits, opcodes, lengths, pieces moved, doubled, dropped or of another one."""
    body = bytearray(rng.choice(bodies))
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        at = rng.randrange(len(body) + 1)
        end = min(len(body), at + rng.choice([1, 2, 4, 8, 16, 64]))
        kind = rng.randrange(8)
        if kind == 0 and at < len(body):
            body[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            body[at:at] = bytes([rng.choice(OPCODES)])
        elif kind == 2 and at < len(body):
            body[at] = rng.choice(OPCODES)
        elif kind == 3:
            del body[at:end]
        elif kind == 4:
            body[at:at] = body[at:end] * rng.choice([1, 2, 10, 1000])
        elif kind == 5:
            other = rng.choice(bodies)
            start = rng.randrange(len(other))
            body[at:at] = other[start : start + rng.randrange(1, 64)]
        elif kind == 6:
            size = rng.choice([1, 2, 4, 8])
            body[at : at + size] = (rng.choice(INTERESTING) % (1 << 8 * size)).to_bytes(size, "little")
        else:
            piece = body[at:end]
            del body[at:end]
            to = rng.randrange(len(body) + 1)
            body[to:to] = piece
    return bytes(body[: 1 << 20])


class TooSlowError(BaseException):
    """Not an Exception: decode must not take it for one of the unpickler's."""


def too_slow(_: int, __: FrameType | None) -> None:
    raise TooSlowError


class Listener:
    """An audit hook cannot be taken off, so it is switched."""

    def __init__(self) -> None:
        self.on = False
        self.heard: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on or not event.startswith(FORBIDDEN):
            return
        if event == "import" and args[0] in sys.modules:
            return
        self.heard.append(f"{event} {args!r:.100}")


def check(body: bytes, listener: Listener) -> str | None:
    """What is wrong with how decode takes a message; None if nothing is."""
    listener.on = True
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        clone.decode(body)
    except DecodeError as error:
        if isinstance(error.__cause__, MemoryError):
            return "memory"
    except TooSlowError:
        return "time"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        listener.on = False
    if listener.heard:
        return f"it ran {listener.heard}"
    return differs(body)


def differs(body: bytes) -> str | None:
    """What csrc/python/plain_decode.c makes of a message, the scan must pass, and the unpickler make the same of."""
    value = read_in_c(body)
    if value is NotImplemented:
        return None
    try:
        general = clone._decode(body)
    except DecodeError:
        return "the plain reader takes what the scan refuses"
    with suppress(RecursionError):  # nested too deep to be shown
        if repr(general) != repr(value):
            return "the plain reader and the unpickler differ"
    return None


def read_in_c(body: bytes) -> Any:
    if body.startswith(clone.MAGIC):
        return CALLS.decode_arrays(body[: clone.HEAD], len(body), memoryview(bytearray(body)))
    return CALLS.decode(body)


def with_arrays(pickled: bytes, *memory: bytes) -> bytes:
    """A message of arrays, smaller ones than those that travel beside the pickle as a rule."""
    body = struct.pack("<4sIQ", clone.MAGIC, len(memory), len(pickled))
    body += b"".join(struct.pack("<Q", len(each)) for each in memory) + pickled
    for each in memory:
        body += bytes(-len(body) % clone.ALIGNMENT) + each
    return body


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--replay", type=Path)
    options = parser.parse_args()
    messages = runpy.run_path(str(Path(__file__).resolve().parents[1] / "messages.py"))["HONEST"]
    bodies = [clone.encode(value) for value in messages.values()]
    bodies.append(with_arrays(b"\x80\x05" + FLOATS + b"\x85.", bytes(48)))
    bodies.append(with_arrays(b"\x80\x05(" + FLOATS + b"}(\x8c\x01a" + INTEGERS + b"uK\x05t.", bytes(48), bytes(64)))
    for body in bodies:
        clone.decode(body)  # imports what it needs
    assert read_in_c(bodies[-1]) is not NotImplemented
    __import__("zoneinfo")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGALRM, too_slow)
    listener = Listener()
    if options.replay:
        print(check(options.replay.read_bytes(), listener))
        return 0
    bodies = [body for body in bodies if len(body) < 50_000]
    rng = random.Random(options.seed)
    decoded = 0
    for i in range(options.count):
        body = mutate(bodies, rng)
        problem = check(body, listener)
        if problem:
            path = Path(f"fuzz-{options.seed}-{i}.bin")
            path.write_bytes(body)
            print(f"message {i} of seed {options.seed}: {problem}: {path}")
            return 1
        decoded += lets_pass(body)
        if rng.random() < 0.001 and lets_pass(body) and len(bodies) < 500:
            bodies.append(body[:5000])
    again = clone.decode(clone.encode({"a": [1, (2,)]}))
    assert again == {"a": [1, (2,)]}
    print(f"{options.count} messages of seed {options.seed}: {decoded} passed the scan, the others were refused")
    return 0


def lets_pass(body: bytes) -> bool:
    return CALLS.scan(body) >= 0


if __name__ == "__main__":
    raise SystemExit(main())
