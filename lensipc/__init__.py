# SPDX-License-Identifier: MIT
"""Extension IPC for Python: events and requests between processes over shared-memory rings.

The floors. A module imports from its own room and the floors below, and main and renderer never from each other:

    7  cli, demo, bench             the command line, the example extension, the measurements
       testing                      the tests of extensions: a host, faults, leaks, the pytest plugin
    6  main                         the host: installs extensions, takes renderers in, routes what they send
       renderer                     a renderer: its end of the line, and its parts of extensions
    5  extension, ipc, events       what an extension's author subclasses, and is called with
       channel                      a channel's name with the types of what it carries
    4  runtime                      the protocol, connections, and how callbacks are called
    3  transport                    one end of a segment, waiting for it, and the handshake
       adapters                     values of other libraries, for whoever enables them
    2  clone                        values as bytes and back
    1  _core, _fast                 the C core, compiled from csrc/
       supported, errors, log       what is missing where that cannot run; what is raised; what is logged
       user_code                    what code that is not lensipc's raises
"""

from __future__ import annotations

from typing import TYPE_CHECKING

# First: it says what is missing where the rest cannot be imported.
from . import supported as _supported  # noqa: F401

# isort: split
from . import clone
from . import events as Types
from . import ipc as Ipc
from .channel import Channel
from .clone import release
from .errors import (
    ActivationError,
    DataCloneError,
    DecodeError,
    ForkError,
    HandlerExistsError,
    InvokeTimeout,
    KeptFull,
    LensIpcError,
    NoHandlerError,
    NotActivatedError,
    OutboxFull,
    PeerGone,
    PoolFull,
    ProtocolError,
    RemoteError,
    UnknownValueError,
)
from .extension import ExtensionManifest, LensMainExtension, LensRendererExtension
from .main.handle import RendererHandle
from .main.process import MainProcess
from .renderer.process import RendererProcess
from .renderer.spawned import freeze_support
from .runtime.channels import Disposer
from .runtime.streams import Stream

if TYPE_CHECKING:
    from . import adapters
    from .runtime.asyncio_driver import Invocation
else:

    def __getattr__(name: str) -> object:
        """What is imported when it is asked for: asyncio takes longer than all else."""
        if name == "Invocation":
            from .runtime.asyncio_driver import Invocation

            return Invocation
        if name == "adapters":
            from importlib import import_module

            return import_module(".adapters", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "ActivationError",
    "Channel",
    "DataCloneError",
    "DecodeError",
    "Disposer",
    "ExtensionManifest",
    "ForkError",
    "HandlerExistsError",
    "Invocation",
    "InvokeTimeout",
    "Ipc",
    "KeptFull",
    "LensIpcError",
    "LensMainExtension",
    "LensRendererExtension",
    "MainProcess",
    "NoHandlerError",
    "NotActivatedError",
    "OutboxFull",
    "PeerGone",
    "PoolFull",
    "ProtocolError",
    "RemoteError",
    "RendererHandle",
    "RendererProcess",
    "Stream",
    "Types",
    "UnknownValueError",
    "adapters",
    "clone",
    "freeze_support",
    "release",
]

__version__ = "0.1.0"
