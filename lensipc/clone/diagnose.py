# SPDX-License-Identifier: MIT
"""Walks a value that could not be cloned at once, to find the object that has no clone or the places to cut the value.

These walks are slow, and never run for a value that can be cloned at once. They do not recurse, they are safe with
cycles, and they run no more of a user's code than reducers.py does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .. import _fast
from . import constructors
from .reducers import BASES, Unclonable, describe, name_of, reducer_of

# By id, because a lookup by the type itself may run its metaclass.
_ATOMS = frozenset(map(id, (int, float, str, bytes, bytearray, bool, type(None), complex)))

CUT_HEIGHT = 50
"""Levels between two cuts. CPython 3.11 allows 500 to 1000 levels of recursion in C. A level of a value takes at most
two of those, and the callers have used some."""

PATH_LENGTH = 200
"""The most characters of a path. A longer path loses its middle."""


class _NoMessage:
    """Takes the place of codec.py's _Message when a reducer is called only to learn what an object holds."""

    def __init__(self) -> None:
        self.limits, self.price, self.budget = self, 0, 1 << 62
        self.may_be_key = False
        self.arrays: list[Any] = []
        self.places: dict[Any, Any] = {}
        self.buffers: list[Any] = []
        self.current: Any = None


def children(obj: Any) -> Iterator[tuple[str, object]]:
    """The objects that a value holds, each with the step that leads to it. A step is appended to the path of the value.
    A step that begins with `a`, such as `a key of `, is put before that path."""
    cls = type(obj)
    if id(cls) in _ATOMS:
        return
    if cls is list or cls is tuple:
        for i, item in enumerate(list(obj)):
            yield f"[{i}]", item
    elif cls is set or cls is frozenset:
        for item in list(obj):
            yield "an element of ", item
    elif cls is dict:
        yield from _entries(list(obj.items()), subscript=True)
    elif issubclass(cls, BaseException):
        yield from _exception(obj)
    else:
        try:
            reduced = reducer_of(obj)(obj, _NoMessage())
        except Exception:
            return
        arguments = reduced[1]
        if reduced[0] is constructors.as_dict and len(reduced) > 4:
            yield from _entries(list(reduced[4]), subscript=issubclass(cls, dict))
        elif reduced[0] is constructors.as_list:
            for i, item in enumerate(list(reduced[3])):
                yield f"[{i}]", item
        elif reduced[0] is constructors.as_is:
            if issubclass(cls, (tuple, set, frozenset)):
                yield from children(arguments[0])
            else:
                yield ".value", arguments[0]
        elif reduced[0] is constructors.as_registered:
            yield ".payload", arguments[1]


def _entries(items: list[tuple[Any, Any]], subscript: bool) -> Iterator[tuple[str, object]]:
    for key, value in items:
        yield "a key of ", key
        if not subscript:
            yield f".{key}" if type(key) is str else ".__dict__[...]", value
        elif id(type(key)) in _ATOMS:
            yield f"[{key!r}]", value
        else:
            yield f"[<{name_of(type(key))}>]", value


def _exception(error: BaseException) -> Iterator[tuple[str, object]]:
    try:
        _, _, cause, _, _, *members = BASES[BaseException](error, None)[1]
    except Exception:
        return
    for i, item in enumerate(members):
        yield f".exceptions[{i}]", item
    if cause is not None:
        yield ".__cause__", cause


def _join(path: str, step: str) -> str:
    if step.startswith("a"):
        return step + path
    return f"({path}){step}" if path.startswith("a") and " " in path[:14] else path + step


def path_to(root: object, culprit: object, name: str) -> str | None:
    """The path from `root`, which is called `name`, to the object `culprit` itself; None: `root` does not hold it."""
    if root is culprit:
        return name
    seen: dict[int, object] = {id(root): root}
    walks = [(name, children(root))]  # each walk with the step that led to its value
    while walks:
        step = next(walks[-1][1], None)
        if step is None:
            walks.pop()
        elif step[1] is culprit:
            path = name
            for way, _ in walks[1:]:
                path = _join(path, way)
            return _shortened(_join(path, step[0]))
        elif id(step[1]) not in seen and id(type(step[1])) not in _ATOMS:
            seen[id(step[1])] = step[1]
            walks.append((step[0], children(step[1])))
    return None


def _shortened(path: str) -> str:
    return path if len(path) <= PATH_LENGTH else f"{path[: PATH_LENGTH // 2]} ... {path[-PATH_LENGTH // 2 :]}"


def too_deep(root: object) -> tuple[object, str] | None:
    """The first value that is nested too deep, with a text that says so; None: there is none. A cycle ends where it
    closes."""
    depths: dict[int, int] = {id(root): 1}
    alive: list[object] = [root]  # keeps objects that the walk makes, so that ids stay unique
    walks = [(root, children(root))]
    on_the_way = {id(root)}
    while walks:
        step = next(walks[-1][1], None)
        if step is None:
            on_the_way.discard(id(walks.pop()[0]))
            continue
        child = step[1]
        if id(type(child)) in _ATOMS or id(child) in on_the_way or depths.get(id(child), 0) > len(walks):
            continue
        if len(walks) >= _fast.DEPTH:
            return child, f"nested deeper than {_fast.DEPTH} levels"
        depths[id(child)] = len(walks) + 1
        alive.append(child)
        walks.append((child, children(child)))
        on_the_way.add(id(child))
    return None


def colliding(root: object, arrive: Callable[[Any], Any]) -> tuple[object, str] | None:
    """The first dict or set of which two keys would arrive equal, with a text that says so; None: there is none.

    `arrive(key)` returns the key as it arrives.
    """
    seen: dict[int, object] = {id(root): root}
    waiting = [root]
    while waiting:
        value = waiting.pop()
        arrived = set()
        for where, child in children(value):
            if where in ("a key of ", "an element of "):
                try:
                    arrival = child if id(type(child)) in _ATOMS else arrive(child)
                    if arrival in arrived:
                        return value, f"{describe(value)} of which two keys or elements arrive as one and the same"
                    arrived.add(arrival)
                except Exception:  # the key cannot be cloned, or its clone is not hashable; this walk ignores that
                    continue
            if id(child) not in seen and id(type(child)) not in _ATOMS:
                seen[id(child)] = child
                waiting.append(child)
    return None


def unhashable(root: object) -> tuple[object, str] | None:
    """The first key or element that would arrive unhashable, with a text that says so; None: there is none."""
    seen: dict[int, object] = {id(root): root}
    walks = [children(root)]
    while walks:
        step = next(walks[-1], None)
        if step is None:
            walks.pop()
            continue
        where, child = step
        if where in ("a key of ", "an element of "):
            found = _unhashable_part(child)
            if found is not None:
                return child, f"{describe(found)}, which arrives unhashable"
        if id(child) not in seen and id(type(child)) not in _ATOMS:
            seen[id(child)] = child
            walks.append(children(child))
    return None


def _unhashable_part(key: object) -> object | None:
    """The part of a key that arrives as a dict or another unhashable value."""
    waiting = [key]
    seen: dict[int, object] = {}
    while waiting:
        part = waiting.pop()
        if id(type(part)) in _ATOMS or id(part) in seen:
            continue
        seen[id(part)] = part
        if issubclass(type(part), (tuple, frozenset)):
            waiting += [child for _, child in children(part)]
            continue
        try:
            made = reducer_of(part)(part, _NoMessage())
        except Unclonable:
            return part
        if made[0] is constructors.as_dict or made[0] is constructors.as_list or made[0].hash_cost is None:
            return part
        if made[0] is constructors.as_is:
            waiting.append(made[1][0])
    return None


def cuts(root: object) -> list[object]:
    """Values inside `root` to clone first, in this order, so that cloning each of them, and then `root`, goes at most
    CUT_HEIGHT levels deep.

    A pickler that has cloned these values refers to them by memos, so it does not go deep again. A cycle may still take
    the pickler deeper.
    """
    found: list[object] = []
    heights: dict[int, int] = {}
    alive: list[object] = [root]  # keeps objects that the walk makes, so that ids stay unique
    walks: list[tuple[object, Iterator[tuple[str, object]], list[int]]] = [(root, children(root), [0])]
    heights[id(root)] = 0
    while walks:
        value, walk, highest = walks[-1]
        step = next(walk, None)
        if step is not None:
            child = step[1]
            if id(type(child)) in _ATOMS:
                continue
            known = heights.get(id(child))
            if known is not None:
                highest[0] = max(highest[0], known)
                continue
            heights[id(child)] = 0
            alive.append(child)
            walks.append((child, children(child), [0]))
            continue
        walks.pop()
        height = highest[0] + 1
        if height >= CUT_HEIGHT and walks:
            found.append(value)
            height = 0
        heights[id(value)] = height
        if walks:
            walks[-1][2][0] = max(walks[-1][2][0], height)
    return found
