# SPDX-License-Identifier: MIT
"""The list of attacks, and what main has to make of each: disconnect the renderer, bear with it, or either."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from hostile.renderer import Renderer

INVALID, VALID, EITHER = "invalid", "valid", "either"

Attack = Callable[[Renderer, random.Random], "Awaitable[None] | None"]


@dataclass
class Named:
    """An attack, and what main has to make of it."""

    name: str
    run: Attack
    expect: str
    about: str = ""  # the module that has entered it


ATTACKS: dict[str, Named] = {}


def _about(function: Callable[..., Any]) -> str:
    return function.__module__.rpartition(".")[2]


def attack(expect: str) -> Callable[[Attack], Attack]:
    """Enter an attack into the list under its function's name."""

    def enter(function: Attack) -> Attack:
        ATTACKS[function.__name__] = Named(function.__name__, function, expect, _about(function))
        return function

    return enter


def attacks(expect: str, name: str, *variants: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The same for a function that takes a variant as its last argument."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        for number, variant in enumerate(variants):
            label = variant if isinstance(variant, (int, str)) else number

            def run(renderer: Renderer, rng: random.Random, variant: Any = variant) -> Any:
                return function(renderer, rng, variant)

            ATTACKS[f"{name}_{label}"] = Named(f"{name}_{label}", run, expect, _about(function))
        return function

    return enter
