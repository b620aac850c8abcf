# SPDX-License-Identifier: MIT
"""Mutated messages through decode: `python tests/fuzz/fuzz_decode.py --seed 1 --count 1000000`.

Every message is a mutation of what the encoder writes. Decode must give a value or raise DecodeError, run nothing
(an audit hook listens for imports, processes, files and code), take less than a second, and stay within 256 MiB more
than the process has. What it gives must be what CPython's own unpickler makes of the same pickle. On a failure the
message is written to a file and its name printed; `--replay FILE` runs it.
"""

from __future__ import annotations

import argparse
import io
import pickle
import pickletools
import random
import resource
import signal
import struct
import sys
import zoneinfo
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from lensipc import _fast, clone
from lensipc.clone import constructors
from lensipc.errors import DecodeError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.listener import Listener
from messages import HONEST

OWNED = _fast.READ_OWNED

OPCODES = bytes(ord(op.code) for op in pickletools.opcodes)
FORBIDDEN = (
    "compile", "ctypes.", "exec", "import", "marshal.", "os.", "pickle.find_class", "shutil.", "socket.", "subprocess.",
)  # fmt: skip
NAME = b"\x8c\x0elensipc.values\x8c\x08as_array\x93"
FLOATS = NAME + b"(\x8c\x03<f4\x8c\x01CK\x00K\x03K\x04tR"  # what csrc/clone/writer.c writes of arrays
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
    """Not an Exception: decode must not take it for one that a constructor has raised."""


def too_slow(_: int, __: FrameType | None) -> None:
    raise TooSlowError


def allowed(event: str, args: tuple[Any, ...]) -> bool:
    """zoneinfo looks for a zone that the system lacks in the package tzdata."""
    return event == "import" and (args[0] in sys.modules or args[0].partition(".")[0] == "tzdata")


class Unpickler(pickle.Unpickler):
    """CPython's own, which believes all that it reads. It calls what the reader calls, but with any arguments."""

    def find_class(self, module: str, name: str) -> Any:
        if module != constructors.WIRE_MODULE or name not in constructors.TABLE:
            raise pickle.UnpicklingError(f"{module}.{name}")
        row = constructors.TABLE[name]
        own = {"dict": dict, "list": list, "last": lambda *args: args[-1]}
        return own.get(row.does, row.make)


def alike(one: Any, other: Any, met: dict[tuple[int, int], int] | None = None) -> bool:
    """Whether two values are alike in type and content, and share their parts alike."""
    met = {} if met is None else met
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, dict, set, bytearray)):
        sides = (0, id(one)), (1, id(other))
        if any(side in met for side in sides):
            return met.get(sides[0]) == id(other) and met.get(sides[1]) == id(one)
        met.update(zip(sides, (id(other), id(one)), strict=True))
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(alike(a, b, met) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return alike((*one,), (*other,), met) and alike((*one.values(),), (*other.values(),), met)
    if isinstance(one, (set, frozenset)):
        return sorted(map(repr, one)) == sorted(map(repr, other))
    if isinstance(one, BaseException):
        mine, its = [(e.args, e.__cause__, vars(e), getattr(e, "exceptions", ())) for e in (one, other)]
        return str(one) == str(other) and alike(mine, its, met)
    if isinstance(one, np.ndarray):
        return repr((one.dtype, one.shape, one.strides)) == repr((other.dtype, other.shape, other.strides)) and (
            one.tobytes() == other.tobytes()
        )
    return repr(one) == repr(other)


def check(body: bytes, listener: Listener) -> tuple[str | None, bool]:
    """What is wrong with how decode takes a message, None if nothing is; and whether it made a value of it."""
    listener.on = True
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        value = clone.decode(body)
    except DecodeError:
        decoded = False
    except TooSlowError:
        return "time", False
    except BaseException as error:
        return f"{type(error).__name__}: {error}", False
    else:
        decoded = True
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        listener.on = False
    if listener.heard:
        return f"it ran {listener.heard}", decoded
    return (differs(body, value) if decoded else None), decoded


def differs(body: bytes, value: Any) -> str | None:
    """What there is between a value that was decoded and what others make of the same message."""
    try:
        if body.startswith(_fast.MAGIC):
            memory = bytearray(body)
            return None if alike(value, _fast.decode(memory, clone.STANDARD.budget, OWNED)) else "in place it differs"
        other = Unpickler(io.BytesIO(unframed(body))).load()
        return None if alike(value, other) else "the unpickler makes another value"
    except (RecursionError, ValueError):  # nested too deep to be compared; an int too long to be shown
        return None
    except pickle.UnpicklingError as error:
        return f"the unpickler refuses it: {error}"


def unframed(body: bytes) -> bytes:
    """The same pickle without frames. To the reader they say nothing, so they may lie anywhere."""
    starts = [(start, opcode.name) for opcode, _, start in pickletools.genops(body) if start is not None]
    ends = [start for start, _ in starts[1:]] + [len(body)]
    return b"".join(body[start:end] for (start, name), end in zip(starts, ends, strict=True) if name != "FRAME")


def with_arrays(pickled: bytes, *memory: bytes) -> bytes:
    """A message of arrays, smaller ones than those that travel beside the pickle as a rule."""
    body = struct.pack("<4sIQ", _fast.MAGIC, len(memory), len(pickled))
    body += b"".join(struct.pack("<Q", len(each)) for each in memory) + pickled
    for each in memory:
        body += bytes(-len(body) % _fast.ALIGNMENT) + each
    return body


def corpus() -> list[bytes]:
    """What mutations begin from."""
    bodies = [clone.encode(value) for value in HONEST.values()]
    bodies.append(with_arrays(b"\x80\x05" + FLOATS + b"\x85.", bytes(48)))
    bodies.append(with_arrays(b"\x80\x05(" + FLOATS + b"}(\x8c\x01a" + INTEGERS + b"uK\x05t.", bytes(48), bytes(64)))
    for body in bodies:
        clone.decode(body)  # imports what it needs
    with suppress(zoneinfo.ZoneInfoNotFoundError):
        zoneinfo.ZoneInfo("No/Where")  # which imports more
    return [body for body in bodies if len(body) < 50_000]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--replay", type=Path)
    options = parser.parse_args()
    bodies = corpus()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGALRM, too_slow)
    listener = Listener(FORBIDDEN, allowed)
    if options.replay:
        print(check(options.replay.read_bytes(), listener))
        return 0
    rng = random.Random(options.seed)
    count = 0
    for i in range(options.count):
        body = mutate(bodies, rng)
        problem, decoded = check(body, listener)
        if problem:
            path = Path(f"fuzz-{options.seed}-{i}.bin")
            path.write_bytes(body)
            print(f"message {i} of seed {options.seed}: {problem}: {path}")
            return 1
        count += decoded
        if decoded and rng.random() < 0.001 and len(bodies) < 500:
            bodies.append(body[:5000])
    again = clone.decode(clone.encode({"a": [1, (2,)]}))
    assert again == {"a": [1, (2,)]}
    print(f"{options.count} messages of seed {options.seed}: {count} were decoded, the others refused")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
