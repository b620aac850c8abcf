# SPDX-License-Identifier: MIT
"""Structured clone beside other serializers: `pytest bench/test_clone.py --benchmark-only`.

What is measured: encoding a value to one message, and decoding that message, in one process and one run; medians, and
their ratio to `pickle` in the same group. A rival is left out where it is not installed or does not take the value:
json, msgpack and marshal know fewer types; marshal, pickle and cloudpickle run whatever a message says. `lensipc`
proves a message harmless before it loads it.

The array of 1 MiB goes as through a ring: its pieces are copied into memory that is shared, from there into memory that
the receiver owns, and decoded there. Beside it stand two copies of an array, and nothing else.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib
import json
import marshal
import pickle
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lensipc import clone

Codec = tuple[Callable[[Any], Any], Callable[[Any], Any]]


@dataclasses.dataclass
class Record:
    id: int
    name: str
    ok: bool
    v: float
    tags: list[str]


def small(i: int = 17) -> dict[str, Any]:
    return {"id": i, "name": f"initialize{i}", "ok": True, "v": 3.14 * i, "tags": [f"a{i}", "b"]}


VALUES: dict[str, Any] = {
    "small": {"id": 17, "name": "initialize", "ok": True, "v": 3.14, "tags": ["a", "b"]},
    "args": ({"id": 17, "name": "initialize", "ok": True, "v": 3.14, "tags": ["a", "b"]},),
    "100 records": [small(i) for i in range(100)],
    "5000 records": [small(i) for i in range(5000)],
    "dataclass": Record(17, "initialize", True, 3.14, ["a", "b"]),
    "datetime": {"at": datetime.datetime(2020, 1, 2, 3, 4, 5, 6)},
    "ndarray of 8": {"a": np.arange(8.0)},
    "1 MiB of bytes": {"data": bytes(1 << 20)},
}


def codecs() -> dict[str, Codec]:
    found: dict[str, Codec] = {
        "pickle": (lambda value: pickle.dumps(value, protocol=5), pickle.loads),
        "lensipc": (clone.encode, clone.decode),
        "marshal": (marshal.dumps, marshal.loads),
        "json": (json.dumps, json.loads),
    }
    for module, encode, decode in [
        ("msgspec.msgpack", "encode", "decode"),
        ("cloudpickle", "dumps", "loads"),
        ("ormsgpack", "packb", "unpackb"),
    ]:
        try:
            rival = importlib.import_module(module)
        except ImportError:
            continue
        found[module] = (getattr(rival, encode), getattr(rival, decode))
    return found


CASES = [(what, name) for what in VALUES for name in codecs()]


def encoded(what: str, name: str) -> tuple[Codec, Any]:
    codec = codecs()[name]
    try:
        return codec, codec[0](VALUES[what])
    except (TypeError, ValueError, OverflowError):
        pytest.skip(f"{name} does not take it")


@pytest.mark.parametrize(("what", "name"), CASES)
def test_encode(benchmark: Any, what: str, name: str) -> None:
    (encode, _), _ = encoded(what, name)
    benchmark.group = f"encode {what}"
    benchmark(encode, VALUES[what])


@pytest.mark.parametrize(("what", "name"), CASES)
def test_decode(benchmark: Any, what: str, name: str) -> None:
    (_, decode), body = encoded(what, name)
    benchmark.group = f"decode {what}"
    benchmark(decode, body)


ARRAY = {"a": np.random.default_rng(1).random(1 << 18, dtype=np.float32)}


SHARED = memoryview(bytearray(2 << 20))


def by_lensipc() -> Any:
    end = 0
    for part in clone.encode_parts(ARRAY):
        SHARED[end : end + len(part)] = part
        end += len(part)
    memory = np.empty(end, np.uint8).data  # what a receiver has for it: not cleared before
    memory[:] = SHARED[:end]
    return clone.decode_owned(memory)


def by_two_copies() -> Any:
    end = ARRAY["a"].nbytes
    SHARED[:end] = ARRAY["a"].view(np.uint8).data
    memory = np.empty(end, np.uint8)
    memory.data[:] = SHARED[:end]
    return memory


def by_pickle() -> Any:
    return pickle.loads(pickle.dumps(ARRAY, protocol=5))


@pytest.mark.parametrize("through", [by_two_copies, by_lensipc, by_pickle], ids=lambda f: f.__name__)
def test_array_of_1_mib(benchmark: Any, through: Callable[[], Any]) -> None:
    benchmark.group = "1 MiB of float32, there and back"
    benchmark(through)


NODE = """
const v8 = require("v8"), value = {id: 17, name: "initialize", ok: true, v: 3.14, tags: ["a", "b"]};
const body = v8.serialize(value), median = (f) => {
  const runs = [];
  for (let i = 0; i < 50; i++) {
    const begin = process.hrtime.bigint();
    for (let j = 0; j < 2000; j++) f();
    runs.push(Number(process.hrtime.bigint() - begin) / 2000);
  }
  return runs.sort((a, b) => a - b)[25];
};
console.log(median(() => v8.serialize(value)), median(() => v8.deserialize(body)));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_node(benchmark: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """v8.serialize and v8.deserialize of the small message, timed by node itself; the benchmark's own row is idle."""
    done = subprocess.run(["node", "-e", NODE], capture_output=True, text=True, check=True)
    encode, decode = map(float, done.stdout.split())
    benchmark.extra_info.update(serialize_ns=encode, deserialize_ns=decode)
    benchmark.group = "node (see extra_info)"
    benchmark(lambda: None)
    with capsys.disabled():
        print(f"\nnode, small message: v8.serialize {encode:.0f} ns, v8.deserialize {decode:.0f} ns")
