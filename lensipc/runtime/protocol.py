# SPDX-License-Identifier: MIT
"""What a message between main and a renderer can be.

Each frame's header holds a kind, three numbers and a correlation id. What they mean in each kind, with the names that a
Message has for them:

    kind        way    channel  detail                            correlation            body
    EVENT       up     number   target: frame id to reach, or ALL -                      the arguments
    EVENT       down   number   sender: frame id it comes from    missed: how many are   the arguments
                                (and `pid`)                       missing before it
    INVOKE      up     number   views: VIEWS or 0                 id                     the arguments
    CANCEL      up     -        -                                 the invoke's id        -
    RESULT      up     -        -                                 the request's id       -
    RESULT      down   -        views: of its INVOKE              the request's id       the value
    ERROR       up     -        -                                 the request's id       remote_error.summarize()
    ERROR       down   -        -                                 the request's id       remote_error.describe()
    DECLARE     up     number   extension: its number             -                      the channel's name in UTF-8
    LISTEN      up     number   when_full: what to do when slow,  -                      -
                                and VIEWS
    UNLISTEN    up     number   -                                 -                      -
    ACTIVATE    down   -        extension: its number             id                     (id, version, "module:Class",
                                                                                         folders to import from,
                                                                                         encoded settings)
    DEACTIVATE  down   -        extension: its number             id                     why the connection ends next,
                                                                                         in UTF-8; or nothing
    READY       down   -        -                                 -                      -
    REPORT      up     -        sender: its frame id              -                      -
    STREAM      up     number   items: how many may be produced   id                     the arguments
                                before CREDIT comes
    ITEMS       down   -        items: how many these are         the stream's id        the item, or of several a list:
                                                                                         each as bytes of its own
    CREDIT      up     -        items: how many more may be       the stream's id        -
                                produced
    REPLAY      up     number   -                                 the question's id      -
    KEPT        down   number   sender: frame id it came from     the question's id      the arguments; or nothing:
                                (and `pid`)                                              there is no value
    KEEP_EVENT  up     number   -                                 -                      the arguments
    NOT_KEPT    down   number   -                                 -                      why, in UTF-8

A stream ends as an invoke does, by RESULT, whose value is None, or by ERROR, or by the renderer's CANCEL. Its id is of
the same count as those of invokes. Each item is encoded when it is produced, so what its generator does to it later is
not seen.

"Up" is from a renderer to main. Each renderer numbers its channels itself: it declares 0, 1, 2, ... as it needs them,
and main uses these numbers toward it. Main numbers the extensions, and a renderer learns an extension's number only by
ACTIVATE. In an event's frame toward a renderer, the correlation is the event's number in the renderer's subscription:
1, 2, ...; the C core computes `missed` from it. The C core knows EVENT and ALL, too (csrc/lensipc.h), and relays such a
message itself, unread. A renderer that cannot decode an event reports the sender to main. Main does not believe the
report. Instead, main decodes that sender's further events before it relays them, and disconnects the sender at the
first event that cannot be decoded.

KEEP_EVENT is an event for all that main keeps, too. The C core does not relay it: main keeps it and sends it on as an
EVENT in one step, so that its place in the order is also that of the kept value. REPLAY asks for the kept value, once
for each listener, and each is answered by one KEPT, in their order. The KEPT has its place in main's order, too: of the
events that the renderer receives on the channel, those before it are not newer than the kept value, or were sent before
the listener came, and those after it are newer than both. By the question's id a renderer knows the answers that nobody
waits for: a signal's exception may end a call that has just asked.

VIEWS in a LISTEN says that large events of the channel are read in place. A LISTEN of a channel that is listened to
changes that, and nothing else. VIEWS in an INVOKE says that a large result is read in place. Its RESULT says so, too:
then its arrays are read-only, whichever way it has come.

To add a kind, change these places; CONTRIBUTING.md says more of each:

- the table above, a constant below, and KINDS
- RendererConnection.__init__ in main/connection.py, if main receives it; there, too, if its body comes decoded
- RendererCore.__init__ in renderer/core.py, if renderers receive it; DECODED there, if its body comes decoded
- OUTCOMES in renderer/backlog.py, if it is an outcome
- _KINDS in runtime/trace.py, and OF_CHANNELS there, if it names a channel
- the member names of Message in csrc/python/message.c and lensipc/_fast.pyi, if a number needs a new name
- LIPC_VERSION in csrc/lensipc.h
- the attacks in tests/hostile/words.py
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
STREAM: Final = 13
ITEMS: Final = 14
CREDIT: Final = 15
REPLAY: Final = 16
KEPT: Final = 17
KEEP_EVENT: Final = 18
NOT_KEPT: Final = 19
KINDS: Final = 20

VIEWS: Final = 1 << 8  # a bit of `when_full`, and all that there is of `views`

ALL: Final = 0xFFFFFFFF
MAIN: Final = 0  # main's frame id; renderers count from 1

# Channels of one renderer. An honest renderer needs far fewer. The bound is for a hostile one: each channel costs main
# 1 KiB.
MAX_CHANNELS: Final = 16_384
# Bytes of one channel's name, and of all channel names of one renderer. An honest renderer needs far fewer; the bounds
# are for a hostile one.
MAX_NAME: Final = 4096
MAX_NAMES: Final = 4 * 1024 * 1024

# Items that a stream's reader may have main produce before it asks for them.
MAX_READ_AHEAD: Final = 65_536

# Senders that a renderer may report in a second. An honest renderer reports no more, and main ignores further reports.
MAX_REPORTS: Final = 4
