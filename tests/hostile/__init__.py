# SPDX-License-Identifier: MIT
"""A hostile renderer: it shakes hands like any other, and then does one thing that an honest one never does.

    python tests/hostile --seed 7 --count 1000     random trials; a failure names the seed of its trial
    python tests/hostile --attack NAME             one attack by its name

The renderer's side of a connection lives in this process, by hand: its socket, its eventfd and its segment, mapped
here to write whatever bytes an attack likes. Main is a real MainProcess on this process's loop, with the lab installed
and an honest renderer process as the neighbour. After each attack the harness looks for what must hold:

    main's loop has met no exception, and its heart still beats;
    the offender is disconnected, with one reason in the log, if and only if what it did was invalid;
    main keeps nothing of a renderer that is gone;
    the neighbour's invokes and main's broadcasts work as before.

renderer.py is the renderer's side, arena.py the host and what must hold; the attacks are entered into catalogue.py by
frames.py, words.py, values.py, memory.py and floods.py, and chance.py makes up others.
"""

from __future__ import annotations

from hostile import floods, frames, memory, values, words
from hostile.arena import Arena, arena
from hostile.catalogue import ATTACKS
from hostile.chance import RANDOM
from hostile.renderer import CAPACITY, LAB, RINGS, SLEEPERS, Renderer

__all__ = ["ATTACKS", "CAPACITY", "LAB", "RANDOM", "RINGS", "SLEEPERS", "Arena", "Renderer", "arena"]
__all__ += ["floods", "frames", "memory", "values", "words"]
