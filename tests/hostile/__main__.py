# SPDX-License-Identifier: MIT
"""The command: `python tests/hostile`."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
from pathlib import Path

sys.path[:1] = [str(Path(__file__).parent.parent / "extensions"), str(Path(__file__).parent.parent)]

import hostile  # noqa: E402 - the path comes first
from hostile import ATTACKS, RANDOM  # noqa: E402
from hostile.arena import arena  # noqa: E402


async def main(seed: int, count: int, name: str | None) -> None:
    """Run attacks until one succeeds."""
    rng = random.Random(seed)
    chosen = [ATTACKS[name]] if name else [RANDOM]
    async with arena() as ring:
        for number in range(count):
            trial_seed = seed if count == 1 else rng.getrandbits(32)
            named = rng.choice(chosen if name or rng.random() < 0.9 else list(ATTACKS.values()))
            signal.alarm(60)  # the watchdog of a loop that is blocked
            try:
                await asyncio.wait_for(ring.trial(named, trial_seed), 20)
            except BaseException:
                print(f"trial {number} failed: --attack {named.name} --seed {trial_seed} --count 1", file=sys.stderr)
                print("\n".join(ring.log.records[-20:]), file=sys.stderr)
                raise
            if number % 100 == 99:
                ring.all_released()
        ring.all_released()
        met = {"trials": ring.trials, "disconnected": ring.disconnected, "borne": ring.trials - ring.disconnected}
        print(json.dumps(met | {"longest_gap_ms": round(ring.longest_gap * 1e3, 1)}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=hostile.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--attack", choices=sorted([*ATTACKS, RANDOM.name]))
    arguments = parser.parse_args()
    ATTACKS[RANDOM.name] = RANDOM
    print(f"seed {arguments.seed}", flush=True)
    asyncio.run(main(arguments.seed, arguments.count, arguments.attack))
