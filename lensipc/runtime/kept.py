# SPDX-License-Identifier: MIT
"""How many bytes the kept values of one extension take: `broadcast(..., keep=True)`, and its bound.

Main counts what it keeps. A renderer counts what it has had kept itself, so that it can refuse its own at once.
"""

from __future__ import annotations

from typing import Final

from ..errors import KeptFull

# Bytes that a kept value takes besides its body and its channel's name.
EACH: Final = 512
# Bytes that a character of a name may take.
CHARACTER: Final = 4


class KeptBytes:
    """The bytes of kept values, by channel.

    Args:
        extension: the extension's id, for the error.
        limit: bytes that its kept values may take together.
    """

    def __init__(self, extension: str, limit: int) -> None:
        self.extension = extension
        self.limit = limit
        self.total: int = 0
        self._sizes: dict[str, int] = {}

    def check(self, name: str, size: int) -> None:
        """KeptFull: a value of that size in place of the channel's present one would be too much."""
        total = self.total - self._sizes.get(name, 0) + _cost(name, size)
        if total > self.limit:
            raise KeptFull(
                f"the values that extension {self.extension!r} keeps would take {total} bytes, and {self.limit} are "
                "allowed: MainProcess(kept_limit=...)"
            )

    def enter(self, name: str, size: int) -> None:
        """The channel's value has that size now."""
        self.forget(name)
        self._sizes[name] = cost = _cost(name, size)
        self.total += cost

    def forget(self, name: str) -> None:
        """The channel has no value."""
        self.total -= self._sizes.pop(name, 0)

    def clear(self) -> None:
        """Nothing is kept any more."""
        self._sizes.clear()
        self.total = 0


def _cost(name: str, size: int) -> int:
    return size + CHARACTER * len(name) + EACH
