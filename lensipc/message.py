# SPDX-License-Identifier: MIT
"""What a message between main and a renderer can be, and how an error is put into one.

Each frame's header holds a kind, three numbers and a correlation id; this is what they mean:

    kind        way    channel  peer                        correlation            body
    EVENT       up     number   frame id to reach, or ALL   -                      the arguments
    EVENT       down   number   frame id it comes from      its place in the       the arguments
                                (and `pid`)                 subscription: 1, 2, ...
    INVOKE      up     number   -                           id                     the arguments
    CANCEL      up     -        -                           the invoke's id        -
    RESULT      both   -        -                           the request's id       the value
    ERROR       both   -        -                           the request's id       see describe()
    DECLARE     up     number   the extension's number      -                      the channel's name in UTF-8
    LISTEN      up     number   what to do when too slow    -                      -
    UNLISTEN    up     number   -                           -                      -
    ACTIVATE    down   -        the extension's number      id                     (id, version, "module:Class",
                                                                                       folders to import from)
    DEACTIVATE  down   -        the extension's number      id                     -
    READY       down   -        -                           -                      -
    REPORT      up     -        frame id of the sender      -                      -

"Up" is from a renderer to main. A channel's number is the renderer's own: it declares 0, 1, 2, ... as it needs them,
and main uses the same numbers toward it. An extension's number is main's, and known to a renderer only by ACTIVATE.
The C core knows EVENT and ALL, too (csrc/lensipc.h): such a message it relays itself, unread. A renderer that cannot
decode one reports its sender. Main does not take its word: from then on it decodes that sender's events before it
relays them, and disconnects it at the first that cannot be decoded.
"""

from __future__ import annotations

import builtins
import traceback
from contextlib import suppress
from functools import cache
from typing import Any, Final

from . import clone
from .errors import DecodeError, NoHandlerError, RemoteError

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

# How long a chain of causes is followed: what a reader can use, and a bound for a hostile one.
CAUSES: Final = 8


def describe(error: BaseException) -> bytes:
    """The body of an ERROR: everything about `error` that its receiver can use. Never raises."""
    return clone.encode(_described(error, CAUSES))


def _described(error: BaseException, causes: int) -> dict[str, Any]:
    kind = type(error)
    builtin = next((base for base in kind.__mro__ if base.__module__ == "builtins"), Exception)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        text = str.__str__(str(error))  # a plain one, whatever its class made of it
    except Exception:
        text = f"<str() of this {name} raised>"
    cause = error.__cause__
    return {
        "type": name,
        "builtin": builtin.__name__,
        "text": text,
        "args": tuple(map(_clonable, _arguments(error))) if kind is builtin else (text,),
        "traceback": "".join(traceback.format_exception(kind, error, error.__traceback__)),
        "no_handler": isinstance(error, NoHandlerError),
        "cause": _described(cause, causes - 1) if cause is not None and causes else None,
    }


def _arguments(error: BaseException) -> tuple[object, ...]:
    """What to construct its like from. Only for builtins: a subclass made its `args` for its own constructor."""
    if isinstance(error, OSError) and error.filename is not None:
        return (error.errno, error.strerror, error.filename)
    return error.args


def _clonable(value: object) -> object:
    try:
        clone.encode(value)
    except Exception:
        try:
            return str.__str__(repr(value))
        except Exception:
            return f"<repr() of a {type(value).__name__} raised>"
    return value


def rebuild(body: Any) -> Exception:
    """The exception that the body of an ERROR stands for. DecodeError: it is none."""
    return _rebuilt(clone.decode(body), CAUSES)


_FIELDS: Final = {"type": str, "builtin": str, "text": str, "args": tuple, "traceback": str, "no_handler": bool}


def _rebuilt(described: Any, causes: int) -> Exception:
    if type(described) is not dict or any(type(described.get(name)) is not kind for name, kind in _FIELDS.items()):
        raise DecodeError("not the description of an error")
    text = described["text"]
    if described["no_handler"]:
        return NoHandlerError(text)
    kind = _remote_type(described["builtin"])
    try:
        error = kind(*described["args"])
    except Exception:  # the args of an instance can be changed to what its constructor does not take
        error = _bare(kind, text)
    error.remote_type = described["type"]
    error.remote_message = text
    error.remote_traceback = described["traceback"]
    cause = described.get("cause")
    if cause is not None and causes:
        error.__cause__ = _rebuilt(cause, causes - 1)
    if hasattr(error, "add_note"):  # Python 3.11: shown below the traceback
        error.add_note(f"\nRemote traceback:\n{error.remote_traceback.rstrip()}")
    return error


def _bare(kind: type[RemoteError], text: str) -> RemoteError:
    """One of that type though its constructor takes other arguments; of RemoteError if even that cannot be."""
    with suppress(Exception):
        return kind(text)
    with suppress(Exception):
        return kind.__new__(kind, text)
    return RemoteError(text)


def _remote_type(builtin: str) -> type[RemoteError]:
    """RemoteError, and the builtin exception of that name too, so that either `except` catches it."""
    base = vars(builtins).get(builtin)
    if not (isinstance(base, type) and issubclass(base, Exception)) or base is Exception:
        return RemoteError  # also for SystemExit and the like, which must not end the receiver
    if issubclass(base, (StopIteration, StopAsyncIteration)):
        return RemoteError  # Python turns these into RuntimeError in the coroutine that they reach
    return _and_remote(builtin)


@cache  # of no more than there are builtins
def _and_remote(builtin: str) -> type[RemoteError]:
    return type("RemoteError", (RemoteError, vars(builtins)[builtin]), {"__module__": RemoteError.__module__})
