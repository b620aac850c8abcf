# SPDX-License-Identifier: MIT
"""Each constructor that a message may call, with each argument wrong in each way that its row in the table rules out.

The other arguments are those of an honest message, so that nothing else is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fuzz import assembler as asm
from fuzz import examples

from lensipc import clone
from lensipc.clone.constructors import TABLE
from lensipc.errors import DecodeError

LONGEST = 1 << 22
"""Bytes up to which a text or tuple is made that is longer than its row allows."""

Call = tuple[bytes, list[bytes]]


def _calls() -> dict[str, list[Call]]:
    """Calls of each constructor, as the encoder writes them: what names it, and its arguments."""
    undo = examples.register()
    found: dict[str, list[Call]] = {}
    for value in examples.VALUES:
        body = clone.encode(value)
        if body.startswith(asm.PROTOCOL):
            for name, callee, arguments in asm.calls_of(body):
                found.setdefault(name, []).append((callee, arguments))
    undo()
    # Only a pickler that cannot go as deep as a value is leaves anything to this one: that of Python 3.11.
    found.setdefault("as_last", [(asm.callee("lensipc.values", "as_last"), [asm.number(1), asm.number(2)])])
    return found


CALLS = _calls()

# One value of each kind that a row may allow, and of some that none does.
KINDS: dict[str, list[bytes]] = {
    "none": [asm.NONE],
    "bool": [asm.TRUE, asm.FALSE],
    "int": [asm.number(0), asm.number(1)],
    "float": [asm.real(0.0), asm.real(1.0), asm.real(float("nan"))],
    "str": [asm.text(""), asm.text("a")],
    "bytes": [asm.raw(b""), asm.raw(b"a")],
    "tuple": [asm.NOTHING, asm.sequence(asm.number(1))],
    "list": [asm.LIST],
    "dict": [asm.DICT],
    "set": [asm.SET],
    "frozenset": [asm.MARK + asm.FROZENSET],
    "bytearray": [asm.bytearray8(b"a")],
}


def _made(name: str) -> list[bytes]:
    """What a constructor makes, as an argument of another one."""
    return [callee + asm.sequence(*arguments) + asm.REDUCE for callee, arguments in CALLS.get(name, [])[:1]]


MADE = {name: _made(name) for name in TABLE if name not in ("as_is", "as_last", "as_dict", "as_list", "as_registered")}


def _wrong(argument: Any) -> Iterator[bytes]:
    """Values that an argument is not."""
    kinds = argument.kinds | ({"tuple"} if "scalars" in argument.kinds else set())
    if "any" in kinds:
        return
    for kind, fragments in KINDS.items():
        if kind not in kinds:
            yield from fragments
    for name, fragments in MADE.items():
        is_error = name in ("as_error", "as_group")
        if not ((name == "as_array" and "array" in kinds) or (is_error and "error" in kinds)):
            yield from fragments
    if "int" in kinds:
        size = argument.size
        low = argument.low if argument.low is not None or size is None else -(1 << size)
        high = argument.high if argument.high is not None or size is None else 1 << size
        for bound, beyond in ((low, -1), (high, 1)):
            for number in (bound + beyond, bound + beyond * (1 << 31), beyond << 63, beyond << 64, beyond << 70_000):
                if not low <= number <= high:
                    yield asm.number(number)
    if argument.size is not None and argument.size < LONGEST:
        longer = argument.size + 1
        if "str" in kinds:
            yield asm.text("a" * longer)
            yield asm.text("\U0001f600" * longer)
        if "bytes" in kinds:
            yield asm.raw(bytes(longer))
        if "tuple" in kinds:
            yield asm.sequence(*[asm.NONE] * longer)
    for fragment in [asm.NONE, asm.number(1), asm.text("a"), asm.raw(b"a")]:  # what it may be, nested
        yield asm.LIST + fragment + asm.APPEND
        if "tuple" not in kinds:
            yield asm.sequence(fragment)


def _refused(callee: bytes, arguments: list[bytes]) -> None:
    call = callee + asm.sequence(*arguments) + asm.REDUCE
    try:
        value = clone.decode(asm.PROTOCOL + call + asm.STOP)
    except DecodeError:
        return
    pytest.fail(f"{call!r:.300} decodes to a {type(value)}")


def _of(row: Any, index: int) -> Any:
    return row.arguments[index] if index < len(row.arguments) else row.rest


PLACES = [(name, index) for name, row in TABLE.items() for index in range(len(row.arguments) + (row.rest is not None))]


@pytest.mark.parametrize("name", TABLE)
def test_a_call_as_the_encoder_writes_it_decodes(name: str) -> None:
    assert CALLS.get(name), f"tests/fuzz/examples.py has no value for {name}"
    undo = examples.register()
    try:
        for callee, arguments in CALLS.get(name, []):
            clone.decode(asm.PROTOCOL + callee + asm.sequence(*arguments) + asm.REDUCE + asm.STOP)
    finally:
        undo()


@pytest.mark.parametrize(("name", "index"), PLACES)
def test_an_argument_that_its_row_rules_out_is_refused(name: str, index: int) -> None:
    argument = _of(TABLE[name], index)
    tried = 0
    for callee, arguments in CALLS.get(name, []):
        if index < len(arguments):
            for wrong in _wrong(argument):
                _refused(callee, [*arguments[:index], wrong, *arguments[index + 1 :]])
                tried += 1
    assert tried or "any" in argument.kinds, f"no value in tests/fuzz/examples.py gives {name} argument {index}"


@pytest.mark.parametrize(("name", "index"), PLACES)
def test_one_wrong_argument_that_many_calls_share_is_refused(name: str, index: int) -> None:
    for callee, arguments in CALLS.get(name, []):
        if index < len(arguments):
            for wrong in _wrong(_of(TABLE[name], index)):
                shared = [*arguments[:index], asm.get(0), *arguments[index + 1 :]]
                call = callee + asm.sequence(*shared) + asm.REDUCE
                with pytest.raises(DecodeError):
                    clone.decode(asm.PROTOCOL + asm.MARK + wrong + asm.MEMOIZE + call * 3 + asm.TUPLE + asm.STOP)
            break


@pytest.mark.parametrize("name", TABLE)
def test_too_few_and_too_many_arguments_are_refused(name: str) -> None:
    row = TABLE[name]
    for callee, arguments in CALLS.get(name, []):
        for count in range(min(row.required, len(arguments))):
            _refused(callee, arguments[:count])
        if row.rest is None:
            full = arguments + [asm.NONE] * (len(row.arguments) - len(arguments))
            for more in (1, 2, 100):
                _refused(callee, full + [asm.NONE] * more)


@pytest.mark.parametrize("name", TABLE)
def test_arguments_that_are_no_tuple_are_refused(name: str) -> None:
    for callee, _ in CALLS.get(name, []):
        for instead in (asm.NONE, asm.LIST, asm.DICT, asm.number(1), asm.text("a"), asm.MARK + asm.FROZENSET):
            with pytest.raises(DecodeError):
                clone.decode(asm.PROTOCOL + callee + instead + asm.REDUCE + asm.STOP)
