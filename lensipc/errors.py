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
├── ProtocolError                    the peer broke the protocol, or speaks another version of it
├── ForkError (RuntimeError)         an object of the parent's, used after a fork
└── an invoke's outcomes:
    ├── RemoteError                  the handler raised; also an instance of the builtin type it raised
    ├── NoHandlerError (LookupError) nothing handles that channel
    ├── InvokeTimeout (TimeoutError) no outcome in time
    └── PeerGone (ConnectionError)   the other process is gone, or was disconnected
"""

from __future__ import annotations


class LensIpcError(Exception):
    """Base of every error that lensipc raises itself."""


class DataCloneError(LensIpcError, TypeError):
    """A value that structured clone cannot carry; says where in the arguments it is and what it is."""


class DecodeError(LensIpcError, ValueError):
    """Bytes that are no structured clone; says at which byte, and why."""


class UnknownValueError(DecodeError):
    """A message of something that this process does not know, and an honest peer may: says what, and the way out.

    A type that is registered on the other side only, an exception of a newer Python, a time zone that is not installed.
    """


class HandlerExistsError(LensIpcError):
    """A channel has a handler already; says where that one was registered."""


class NotActivatedError(LensIpcError):
    """The extension's part is not active in this process: not yet, or no more."""


class ActivationError(LensIpcError):
    """A part of an extension could not be loaded, or raised while it was activated; `__cause__` says why."""


class OutboxFull(LensIpcError, BufferError):  # noqa: N818 - a state, like asyncio.QueueFull
    """More bytes wait to be sent than the outbox may hold: `await ipc.drain()` between sends."""


class ProtocolError(LensIpcError):
    """The peer sent what the protocol does not allow, or speaks another version of it."""


class ForkError(LensIpcError, RuntimeError):
    """An object that belongs to the parent process was used after a fork."""


class RemoteError(LensIpcError):
    """The handler raised.

    Where it raised a builtin exception, this is an instance of that type too, so `except ValueError` works; `args`
    are the original's. `__cause__` holds the original's cause, rebuilt the same way.

    Attributes:
        remote_type: the name of the type that was raised, with its module if that is not `builtins`.
        remote_message: `str()` of what was raised.
        remote_traceback: the traceback in the handler's process, as text.
    """

    remote_type: str = ""
    remote_message: str = ""
    remote_traceback: str = ""


class NoHandlerError(LensIpcError, LookupError):
    """Nothing in main handles the channel: no handler, or the extension is not active there."""


class InvokeTimeout(LensIpcError, TimeoutError):  # noqa: N818 - the design's word
    """An invoke had no outcome within its timeout. The handler is cancelled if it still runs."""


class PeerGone(LensIpcError, ConnectionError):  # noqa: N818 - the design's word
    """The other process has died, has closed the connection, or has disconnected us; says why where it is known."""
