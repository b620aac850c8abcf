# SPDX-License-Identifier: MIT
"""Extension IPC for Python: events and requests between processes over shared-memory rings.

The floors, each importing only from its own and those below:

    7  cli, demo                    the command line and the example extension
    6  main_process, lifecycle      the host
       renderer_process             a renderer
       spawn                        how the one starts the other
    5  extension, ipc               what an extension's author subclasses
    4  router, renderer             the two cores: main's sequencer, and a renderer's end of its line
       connection, face             the line between them; what drives them
    3  clone, message, channels, invocations    values, messages, tables: no I/O, no threads, no clock
    2  endpoint, poller, attach     bytes in, bytes out; waiting; the handshake
       posts                        what other threads ask of the one that owns a core
       log, raised                  what is logged; what user code raises
    1  _core                        the C core, compiled from csrc/
       supported                    what says so where that cannot run
"""

from __future__ import annotations

# First: it says what is missing where the rest cannot be imported.
from . import supported as _supported  # noqa: F401

# isort: split
from . import clone
from . import ipc as Ipc
from . import types as Types
from .channels import Disposer
from .errors import (
    ActivationError,
    DataCloneError,
    DecodeError,
    ForkError,
    HandlerExistsError,
    InvokeTimeout,
    LensIpcError,
    NoHandlerError,
    NotActivatedError,
    OutboxFull,
    PeerGone,
    ProtocolError,
    RemoteError,
    UnknownValueError,
)
from .extension import ExtensionManifest, LensMainExtension, LensRendererExtension
from .main_process import MainProcess, RendererHandle
from .renderer_process import RendererProcess
from .spawn import freeze_support

__all__ = [
    "ActivationError",
    "DataCloneError",
    "DecodeError",
    "Disposer",
    "ExtensionManifest",
    "ForkError",
    "HandlerExistsError",
    "InvokeTimeout",
    "Ipc",
    "LensIpcError",
    "LensMainExtension",
    "LensRendererExtension",
    "MainProcess",
    "NoHandlerError",
    "NotActivatedError",
    "OutboxFull",
    "PeerGone",
    "ProtocolError",
    "RemoteError",
    "RendererHandle",
    "RendererProcess",
    "Types",
    "UnknownValueError",
    "clone",
    "freeze_support",
]

__version__ = "0.1.0"
