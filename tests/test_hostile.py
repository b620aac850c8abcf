# SPDX-License-Identifier: MIT
"""Guarantee 7: nothing that a renderer can do harms main or another renderer. hostile.py says what is looked for."""

from __future__ import annotations

import asyncio
import random

import hostile
import pytest

# So many attacks share one host: each begins where the last has left main.
SLICES = 4
NAMES = sorted(hostile.ATTACKS)


@pytest.mark.parametrize("part", range(SLICES))
async def test_each_attack_is_met_as_it_should_be(part: int) -> None:
    async with hostile.arena() as ring:
        for name in NAMES[part::SLICES]:
            try:
                await asyncio.wait_for(ring.trial(hostile.ATTACKS[name], 1), 20)
            except Exception as error:
                raise AssertionError(f"--attack {name}: {error!r}; main's log: {ring.log.records[-5:]}") from error
        ring.all_released()


async def test_three_hundred_random_trials_harm_nobody() -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"python tests/hostile.py --seed {seed} --count 300")  # pytest shows it when the test fails
    rng = random.Random(seed)
    async with hostile.arena() as ring:
        for number in range(300):
            trial_seed = rng.getrandbits(32)
            try:
                await asyncio.wait_for(ring.trial(hostile.RANDOM, trial_seed), 20)
            except Exception as error:
                again = f"--attack {hostile.RANDOM.name} --seed {trial_seed} --count 1"
                raise AssertionError(f"trial {number}, {again}: {error!r}; {ring.log.records[-5:]}") from error
        ring.all_released()
