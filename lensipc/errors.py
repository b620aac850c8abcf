# SPDX-License-Identifier: MIT
"""Every exception that lensipc raises. Each says what went wrong with which thing, and the way out.

LensIpcError
├── DataCloneError (TypeError)       a value that cannot cross, at its sender
├── DecodeError (ValueError)         bytes that are no structured clone
│   └── UnknownValueError            a clone of something that this process does not know
├── HandlerExistsError               a channel has a handler already
├── NotActivatedError                an extension's part is not active here (any more)
├── ActivationError                  an extension's part raised while it was activated
├── OutboxFull (BufferError)         more waits to be sent than the outbox may hold
├── KeptFull (BufferError)           main would keep more of an extension than it may
├── PoolFull (BufferError)           main's shared memory has no room for a loan
├── ProtocolError                    the peer broke the protocol, or speaks another version of it
├── ForkError (RuntimeError)         an object of the parent's, used after a fork
└── an invoke's outcomes:
    ├── RemoteError                  the handler raised; also an instance of that type, if it is builtin or ours
    ├── NoHandlerError (LookupError) nothing handles that channel
    ├── InvokeTimeout (TimeoutError) no outcome in time
    └── PeerGone (ConnectionError)   the other process is gone, or was disconnected
"""

from __future__ import annotations

import builtins
import functools
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing import Any

# Characters of a peer's words that our own texts quote.
QUOTE_MOST: Final = 200


def printable(text: str, most: int = QUOTE_MOST) -> str:
    """A peer's words as they may stand in our errors and in our log: short, one line, no control characters."""
    shown = text[:most]
    if not shown.isprintable():  # lone surrogates and what turns the direction of writing are not, either
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    return shown if len(text) <= most else f"{shown}... ({len(text)} characters)"


class LensIpcError(Exception):
    """Base of every error that lensipc raises itself."""


class DataCloneError(LensIpcError, TypeError):
    """A value that structured clone cannot carry; says where in the arguments it is and what it is."""


class DecodeError(LensIpcError, ValueError):
    """Bytes that are no structured clone; says at which byte, and why."""


class UnknownValueError(DecodeError):
    """A message from an honest peer that holds something unknown to this process; says what, and the way out.

    Examples are a type that is registered on the other side only, an exception of a newer Python, and a time zone that
    is not installed.
    """


class HandlerExistsError(LensIpcError):
    """A channel has a handler already; says where that one was registered."""


class NotActivatedError(LensIpcError):
    """The extension's part is not active in this process: not yet, or no more."""


class ActivationError(LensIpcError):
    """A part of an extension could not be loaded, or raised while it was activated; `__cause__` says why."""


class OutboxFull(LensIpcError, BufferError):  # noqa: N818 - a state, like asyncio.QueueFull
    """More bytes wait to be sent than the outbox may hold: `await ipc.drain()` between sends."""


class KeptFull(LensIpcError, BufferError):  # noqa: N818 - as OutboxFull
    """The values that an extension has main keep would take too many bytes: `MainProcess(kept_limit=...)`."""


class PoolFull(LensIpcError, BufferError):  # noqa: N818 - as OutboxFull
    """Main's shared memory has no room for a loan; says who holds how much: `MainProcess(pool_limit=...)`."""


class ProtocolError(LensIpcError):
    """The peer sent what the protocol does not allow, or speaks another version of it."""


class ForkError(LensIpcError, RuntimeError):
    """An object that belongs to the parent process was used after a fork."""


class RemoteError(LensIpcError):
    """The handler raised.

    Where it raised a builtin exception, or one of lensipc's, this is an instance of that type too, so `except
    ValueError` and `except OutboxFull` work; `args` are the original's as far as they are plain values. `__cause__`
    holds the original's cause, rebuilt the same way.

    Attributes:
        remote_type: the name of the type that was raised, with its module if that is not `builtins`.
        remote_message: `str()` of what was raised.
        remote_traceback: the traceback in the handler's process, as text.
    """

    remote_type: str = ""
    remote_message: str = ""
    remote_traceback: str = ""
    _base: str = ""  # the name of the other type that this is an instance of

    def __repr__(self) -> str:
        kind = f"[{self.remote_type}]" if self.remote_type else ""
        return f"RemoteError{kind}({', '.join(map(repr, self.args))})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Its class is made when it is needed, so it has no name by which pickle would find it.
        parts: Any = super().__reduce__()
        return (make_remote_error, (self._base, parts[1], self.remote_message), *parts[2:])


class NoHandlerError(LensIpcError, LookupError):
    """Nothing in main handles the channel: no handler, or the extension is not active there."""


class InvokeTimeout(LensIpcError, TimeoutError):  # noqa: N818 - the design's word
    """An invoke had no outcome within its timeout. The handler is cancelled if it still runs."""


class PeerGone(LensIpcError, ConnectionError):  # noqa: N818 - the design's word
    """The other process has died, has closed the connection, or has disconnected us; says why where it is known."""


def base_of(kind: type[BaseException]) -> type[BaseException]:
    """The nearest builtin exception, or one of lensipc's, that `kind` is or is a subclass of."""
    return next(base for base in kind.__mro__ if base in _known())


def make_remote_error(base: str, args: tuple[Any, ...], text: str) -> RemoteError:
    """A RemoteError that is an instance of the exception `base`, too, made of `args`, or of `text` if `args` fail."""
    kind = _remote_type(base)
    for make, arguments in ((kind, args), (kind, (text,)), (functools.partial(kind.__new__, kind), (text,))):
        try:
            return make(*arguments)
        except Exception:  # user code can set `args` to values that the constructor does not take
            continue
    return RemoteError(text)


@functools.cache
def _known() -> frozenset[type[BaseException]]:
    kinds = [*vars(builtins).values(), *globals().values()]
    return frozenset(kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseException))


# A RemoteError is never an instance of these. Python gives StopIteration and StopAsyncIteration a meaning of their own
# when they leave a coroutine. The other errors are outcomes of the caller's own request, and a handler that raises one
# of them speaks of a request of its own.
_NEVER: Final = (StopIteration, StopAsyncIteration, NoHandlerError, InvokeTimeout, PeerGone)


def _remote_type(base: str) -> type[RemoteError]:
    found: Any = globals().get(base, vars(builtins).get(base))
    if found not in _known() or not issubclass(found, Exception):
        return RemoteError  # also for SystemExit and the like, which must not end the receiver
    while issubclass(found, _NEVER):
        found = found.__bases__[-1]
    return RemoteError if issubclass(RemoteError, found) else _and_remote(found)


@functools.cache  # as many as there are builtin exceptions and errors of lensipc
def _and_remote(kind: type[Exception]) -> type[RemoteError]:
    names = {"__module__": RemoteError.__module__, "__qualname__": f"RemoteError[{kind.__name__}]"}
    return type("RemoteError", (RemoteError, kind), names | {"_base": kind.__name__})
