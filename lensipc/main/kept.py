# SPDX-License-Identifier: MIT
"""The values that main keeps of one extension: of each channel the last that was broadcast with `keep=True`.

They stand here by their channel's name, and not in the channel: main drops a channel that nobody uses any more, and a
value stays when its sender has died.
"""

from __future__ import annotations

from typing import NamedTuple

from ..runtime.kept import KeptBytes
from ..transport.endpoint import Buffer


class Kept(NamedTuple):
    """A kept value: who has sent it, and its arguments as a message."""

    frame_id: int
    pid: int
    body: Buffer


class KeptValues(KeptBytes):
    """The kept values of one extension. They are forgotten when the extension is disabled.

    Attributes:
        open: whether values are kept: the extension is enabled, or is being enabled or disabled.
    """

    def __init__(self, extension: str, limit: int) -> None:
        super().__init__(extension, limit)
        self.open: bool = False
        self._values: dict[str, Kept] = {}

    def get(self, name: str) -> Kept | None:
        """The channel's value; None: there is none."""
        return self._values.get(name)

    def put(self, name: str, value: Kept) -> None:
        """Keep a value in place of the channel's present one. `check` comes first."""
        if self.open:
            self.enter(name, len(value.body))
            self._values[name] = value

    def close(self) -> None:
        """Forget all values, and keep none."""
        self.open = False
        self._values.clear()
        self.clear()
