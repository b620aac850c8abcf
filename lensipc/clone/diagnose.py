# SPDX-License-Identifier: MIT
"""The slow walk over a value that could not be cloned at once: where is what has no clone, where to cut it.

Never on the fast path. Without recursion, safe with cycles, and running no more of a user's code than `reducers` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from .. import _fast
from . import constructors
from .reducers import BASES, Unclonable, describe, name_of, reducer_of

# By id: to look up a type itself may run its metaclass.
_ATOMS = frozenset(map(id, (int, float, str, bytes, bytearray, bool, type(None), complex)))

CUT_HEIGHT = 50
"""Levels between two cuts. A level takes at most two of C's 500 to 1000 on CPython 3.11, and callers have used some."""

PATH_LENGTH = 200
"""Characters of a path that is told whole."""


class _NoMessage:
    """Stands for the pickler where a reducer is asked what an object holds, not to send it."""

    def __init__(self) -> None:
        self.limits, self.price, self.budget = self, 0, 1 << 62
        self.may_be_key = False
        self.arrays: list[Any] = []
        self.places: dict[Any, Any] = {}
        self.buffers: list[Any] = []
        self.current: Any = None


def children(obj: Any) -> Iterator[tuple[str, object]]:
    """What a value holds, each with the step that leads to it. A step that begins with `a` leads to no subscript."""
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
    """The path from `root`, which is called `name`, to the very object `culprit`; None if it is not there."""
    if root is culprit:
        return name
    seen: dict[int, object] = {id(root): root}
    walks = [(name, children(root))]  # each with the step that has led there
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
    """The first value that is nested too deep, and that it is; None if there is none. A cycle ends where it closes."""
    depths: dict[int, int] = {id(root): 1}
    alive: list[object] = [root]  # ids stay unique as long as what the walk makes is kept
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
    """The first dict or set of which two keys would arrive as one, and that it is; None if there is none.

    `arrive` gives what a key arrives as.
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
                except Exception:  # it arrives in no way, or as no key: that is not what is looked for here
                    continue
            if id(child) not in seen and id(type(child)) not in _ATOMS:
                seen[id(child)] = child
                waiting.append(child)
    return None


def unhashable(root: object) -> tuple[object, str] | None:
    """The first key or element that would arrive unhashable, and what it is; None if there is none."""
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
    """Values inside `root` that, cloned one after the other, leave no more than CUT_HEIGHT levels to each and to it.

    A pickler that has met them in this order meets them again as memos, and never goes deep. Cycles may still take it
    deeper than that.
    """
    found: list[object] = []
    heights: dict[int, int] = {}
    alive: list[object] = [root]  # ids stay unique as long as what the walk makes is kept
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
