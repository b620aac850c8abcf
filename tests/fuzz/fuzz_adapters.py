# SPDX-License-Identifier: MIT
"""Forges what adapters' decoders get: honest values told, and then changed. `fuzz_adapters.py --count 40000 --seed 7`.

Each message is either refused with a DecodeError, or makes a value that ordinary code can use. Whatever else its
decoder raises is a fault, and so is a crash, of which faulthandler tells the seed's last message.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import decimal
import faulthandler
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lensipc import DecodeError, adapters, clone
from lensipc.clone import constructors, reducers

ENABLED: list[str] = []
for _name in adapters.ADAPTERS:
    try:
        adapters.enable(_name)
    except ModuleNotFoundError:
        continue
    ENABLED.append(_name)
MODULES = [sys.modules[f"lensipc.adapters.{name.lower()}"] for name in ENABLED]


class Forged:
    """What arrives as a value of a registered type that was made of `told`."""

    def __init__(self, name: str, told: Any) -> None:
        self.name, self.told = name, told


def forge() -> Callable[[], None]:
    """Let Forged be encoded; returns what takes that back."""
    reducers.EXACT[Forged] = lambda obj, _: (constructors.as_registered, (obj.name, obj.told))

    def undo() -> None:
        del reducers.EXACT[Forged]
        reducers.forget(Forged, subclasses=False)

    return undo


def told(value: Any) -> Any:
    """A value as its adapter tells it, and all in it."""
    if type(value) in (list, tuple):
        return type(value)(told(each) for each in value)
    for module in MODULES:
        for cls, name, encode, _ in module.TYPES:
            if isinstance(value, cls):
                return Forged(name, told(encode(value)))
    return value


def honest() -> list[Any]:
    """Values of all adapters."""
    values: list[Any] = []
    if "pandas" in ENABLED:
        import pandas as pd

        days = pd.date_range("2020", periods=2, tz="UTC")
        categories = pd.Categorical(["a", "b"])
        mixed = {"a": [1, 2], "s": ["x", None], "c": categories, "i": pd.array([1, None], dtype="Int64"), "t": days}
        frame = pd.DataFrame(mixed, index=pd.MultiIndex.from_product([["x"], [1, 2]], names=["p", "q"]))
        values += [frame, pd.DataFrame([[1.0, 2.0]]), frame["c"], frame.index, pd.RangeIndex(3)]
        values += [pd.Series([1, "x"], dtype=object), days, days[0], pd.Timedelta(1), pd.NaT]
    if "pyarrow" in ENABLED:
        import pyarrow as pa

        columns: dict[str, Any] = {
            "i": [1, None], "s": ["x", None], "l": [[1], None], "st": [{"a": 1, "b": "x"}, None], "b": [True, None],
            "d": pa.array(["a", "b"]).dictionary_encode(), "dec": [decimal.Decimal("1.5"), None], "n": pa.nulls(2),
            "ts": pa.array([1, 2], pa.timestamp("us", "UTC")), "fb": pa.array([b"ab", None], pa.binary(2)),
            "fl": pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), "date": [datetime.date(2020, 1, 1), None],
            "ld": pa.array([["a"], []], pa.large_list(pa.large_string())),
        }  # fmt: skip
        table = pa.table(columns)
        values += 4 * [table] + table.to_batches()
    if "polars" in ENABLED:
        import polars as pl

        values += [pl.DataFrame({"a": [1, None], "s": ["x", None]}), pl.Series("x", [[1], [2, 3]])]
    if "PIL" in ENABLED:
        from PIL import Image

        values += [Image.new("P", (3, 2)), Image.new("1", (9, 2)), Image.new("RGB", (3, 2))]
    if "torch" in ENABLED:
        import torch

        values += [torch.ones(2), torch.ones(2, dtype=torch.bfloat16)]
    return [told(value) for value in values]


def strange(rng: random.Random) -> Any:
    """Something that may stand in the place of anything."""
    return rng.choice([
        None, True, 0, 1, -1, 3, 7, 1 << 31, 1 << 40, 1 << 62, -(1 << 63), 10**30, 1.5, "", "x", "int64", "string",
        "list", "numpy", "UTC", "RGB", "P", "null", "bool", "large_string", b"", b"ab", (), [], {}, [1, 2],
        [None, "x"], ["a", 1], np.zeros(3, np.uint8), np.zeros(0, np.uint8), np.full(16, 255, np.uint8), np.arange(4),
        np.array([5, -3, 10**5]), np.array([2**62, 3]), np.zeros((2, 2)), np.zeros(2, "M8[Y]"), np.array(["a"]),
        np.array([1, 2], "M8[us]"), np.zeros(2, bool), np.zeros(2, ">i4"), np.zeros(2, np.longdouble),
        np.zeros(2, [("a", "i4")]), np.float64(1), np.datetime64("NaT"), np.datetime64(2**62, "Y"),
        datetime.UTC, ("struct",), ("list", ("x", "null", True)), ("fixed_list", ("x", "null", True), 0),
        ("dictionary", "int8", "string", False), Forged("pandas.Index", ("range", 0, 1 << 40, 1, None)),
        Forged("pandas.NAType", "NA"), Forged("torch.Tensor", (None, np.zeros(2))),
    ])  # fmt: skip


Path = tuple[int, ...]


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """The ways to all that a value holds."""
    yield path
    if isinstance(value, Forged):
        yield from places(value.told, (*path, 0))
    elif type(value) in (list, tuple):
        for i, each in enumerate(value):
            yield from places(each, (*path, i))


def changed(value: Any, path: Path, change: Callable[[Any], Any]) -> Any:
    """The value with another in one place."""
    if not path:
        return change(value)
    if isinstance(value, Forged):
        return Forged(value.name, changed(value.told, path[1:], change))
    members = list(value)
    members[path[0]] = changed(members[path[0]], path[1:], change)
    return type(value)(members)


def mutated(value: Any, rng: random.Random) -> Any:
    """A value near this one, or any other."""
    if rng.random() < 0.5:
        if type(value) is np.ndarray and value.size:
            memory = bytearray(value.tobytes())
            memory[rng.randrange(len(memory))] = rng.choice([0, 1, 127, 128, 255])
            return np.frombuffer(memory, value.dtype).reshape(value.shape) if value.dtype != bool else value[:-1]
        if type(value) is int:
            return value + rng.choice([-1, 1, 8, 1 << 33])
        if type(value) in (list, tuple) and value:
            members = list(value)
            if rng.random() < 0.5:
                members.pop(rng.randrange(len(members)))
            else:
                members.append(rng.choice(members))
            return type(value)(members)
    return strange(rng)


def use(value: Any) -> None:
    """What ordinary code does. It may raise, but neither crash nor take for ever."""
    repr(value)
    kind = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
    if kind in ("pyarrow.Table", "pyarrow.RecordBatch"):
        assert value.num_rows < 1 << 20, value.schema
        value.to_pylist()
        value.slice(1).to_pydict()
    elif kind == "polars.DataFrame":
        value.to_dicts()
    elif kind == "pandas.DataFrame":
        value.iloc[::-1].copy()
        value.memory_usage(deep=True)
        value.sort_index()
    elif kind in ("pandas.Series", "polars.Series", "torch.Tensor"):
        value.tolist() if kind == "torch.Tensor" else value.to_list()
    elif kind == "PIL.Image":
        value.copy().tobytes()
    clone.encode(value)


def main() -> int:
    """Forge, decode and use; whether nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    arguments = parser.parse_args()
    print(f"adapters of {', '.join(ENABLED)}: --count {arguments.count} --seed {arguments.seed}", flush=True)
    faulthandler.enable()
    warnings.simplefilter("ignore")
    forge()
    rng = random.Random(arguments.seed)
    seeds, counted, faults = honest(), collections.Counter[str](), 0
    for number in range(arguments.count):
        value = rng.choice(seeds)
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            value = changed(value, rng.choice(list(places(value))[1:] or [()]), lambda each: mutated(each, rng))
        try:
            message = clone.encode(value)
        except Exception:  # by mistake, such as a text that is no dtype
            counted["not sent"] += 1
            continue
        try:
            made = clone.decode_owned(memoryview(bytearray(message)))
        except DecodeError:
            counted["refused"] += 1
            continue
        except BaseException as error:
            print(f"message {number}: {type(error).__name__}: {error}: {message.hex()}")
            faults += 1
            continue
        counted["made"] += 1
        try:
            use(made)
        except Exception as error:  # of a value that nobody can have: a time that datetime does not know
            counted[f"used with {type(error).__name__}"] += 1
    print(dict(counted))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
