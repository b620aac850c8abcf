# SPDX-License-Identifier: MIT
"""What a message between main and a renderer can be.

Each frame's header holds a kind, three numbers and a correlation id. What they mean in each kind, with the names that a
Message has for them:

    kind        way    channel  peer                              correlation            body
    EVENT       up     number   target: frame id to reach, or ALL -                      the arguments
    EVENT       down   number   sender: frame id it comes from    missed: how many are   the arguments
                                (and `pid`)                       missing before it
    INVOKE      up     number   -                                 id                     the arguments
    CANCEL      up     -        -                                 the invoke's id        -
    RESULT      both   -        -                                 the request's id       the value
    ERROR       up     -        -                                 the request's id       remote_error.summarize()
    ERROR       down   -        -                                 the request's id       remote_error.describe()
    DECLARE     up     number   extension: its number             -                      the channel's name in UTF-8
    LISTEN      up     number   when_full: what to do when slow   -                      -
    UNLISTEN    up     number   -                                 -                      -
    ACTIVATE    down   -        extension: its number             id                     (id, version, "module:Class",
                                                                                         folders to import from)
    DEACTIVATE  down   -        extension: its number             id                     -
    READY       down   -        -                                 -                      -
    REPORT      up     -        sender: its frame id              -                      -

"Up" is from a renderer to main. A channel's number is the renderer's own: it declares 0, 1, 2, ... as it needs them,
and main uses the same numbers toward it. An extension's number is main's, and known to a renderer only by ACTIVATE. In
an event's frame toward a renderer, the correlation is the event's number in the renderer's subscription: 1, 2, ...; the
C core makes `missed` of it. The C core knows EVENT and ALL, too (csrc/lensipc.h): such a message it relays itself,
unread. A renderer that cannot decode one reports its sender. Main does not take its word: from then on it decodes that
sender's events before it relays them, and disconnects it at the first that cannot be decoded.
"""

from __future__ import annotations

from typing import Final

EVENT: Final = 1
INVOKE: Final = 2
CANCEL: Final = 3
RESULT: Final = 4
ERROR: Final = 5
DECLARE: Final = 6
LISTEN: Final = 7
UNLISTEN: Final = 8
ACTIVATE: Final = 9
DEACTIVATE: Final = 10
READY: Final = 11
REPORT: Final = 12
KINDS: Final = 13

ALL: Final = 0xFFFFFFFF
MAIN: Final = 0  # main's frame id; renderers count from 1

# The channels of one renderer: far more than one needs, and a bound for a hostile one, whose each costs main 1 KiB.
MAX_CHANNELS: Final = 16_384
# A channel's name in bytes, and all names of one renderer together: far more than they need, and as much a bound.
MAX_NAME: Final = 4096
MAX_NAMES: Final = 4 * 1024 * 1024

# How many senders a renderer may report in a second: an honest one has no more to say, and a hostile one is not heard.
MAX_REPORTS: Final = 4
