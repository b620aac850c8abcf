# SPDX-License-Identifier: MIT
"""Tests of extensions: a host with renderers, in real processes or in this one, faults, and a look at what is left.

With pytest, the fixture `lensipc_host` makes a `Host` (pip install 'lensipc[testing]'). Without it, a `Host` is made
directly. `fake_event` makes the first argument of a handler or listener that a test calls alone.

    host.py              Host and Renderer: what a test talks to
    parts.py             the extension that runs a test's functions in renderers, and brings logs back
    in_process.py        renderers that run in the test's own process
    leaks.py             descriptors, shared memory, children and tasks that are left, and where they were made
    fake.py              events that nobody has sent
    pytest_lensipc.py    the pytest plugin; installed as a top-level module, so that pytest need not import lensipc
"""

from __future__ import annotations

from .fake import FakeEvent, fake_event
from .host import ExtensionErrors, Host, LeaksFound, NeedsProcesses, Renderer

__all__ = ["ExtensionErrors", "FakeEvent", "Host", "LeaksFound", "NeedsProcesses", "Renderer", "fake_event"]
