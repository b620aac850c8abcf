# SPDX-License-Identifier: MIT
"""Typed channels: a channel's name that says, to type checkers, what is sent and what comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

Args = TypeVar("Args")
Result = TypeVar("Result")

if TYPE_CHECKING:
    # To type checkers it is no str. Otherwise wrong arguments would be right ones, of a channel with a plain name.
    class Channel(Generic[Args, Result]):
        """See below."""

        def __init__(self, name: str, /) -> None: ...

        def __eq__(self, other: object, /) -> bool: ...

        def __hash__(self) -> int: ...

else:

    class Channel(str, Generic[Args, Result]):
        """A channel's name with the types of what is sent and of what comes back, for mypy and pyright.

            SEARCH = Channel[tuple[str, int], list[str]]("search")
            MOVED = Channel[tuple[float, float], None]("moved")

            hits = await ipc.invoke(SEARCH, "lens", 10)  # a list[str]; ipc.invoke(SEARCH, 10) is an error

        It is taken wherever a channel's name is, and it is that name: a `Channel("search")` and "search" are equal, and
        one process may use the one, another the other. Types are checked by type checkers alone, never at run time.

        Args:
            name: the channel's name.

        Raises:
            TypeError: the name is no str.
        """

        __slots__ = ()

        def __new__(cls, name: str) -> Channel:
            if not isinstance(name, str):
                raise TypeError(f"a channel's name is a str, not {type(name).__name__}")
            return super().__new__(cls, name)
