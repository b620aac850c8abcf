# SPDX-License-Identifier: MIT
"""Listeners with options: `replay=True`.

Such an object stands in a channel in place of the user's callback. So a listener without options is called as if there
were none of this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .channels import Callback, Registration


class Replay:
    """A listener that waits for main's answer: the channel's kept value, or that there is none.

    The answer has its place in main's order of events. What comes before it was sent before main knew of the listener,
    which does not hear it. What comes after it is newer than the kept value, and the listener hears all of it.

    The object also stands for a channel of which only this listener is called: that is how it hears the kept value.

    Attributes:
        channel, registration: of the listener, once it is added.
        has_value: whether there is a kept value.
    """

    __slots__ = ("_callback", "channel", "has_value", "registration")

    channel: Any
    registration: Registration

    def __init__(self, callback: Callback) -> None:
        self._callback = callback
        self.has_value = False

    def __call__(self, *_args: object) -> None:
        """An event that came before the answer."""

    def begin(self, channel: Any, registration: Registration) -> None:
        """The listener is added."""
        self.channel, self.registration = channel, registration

    def go_live(self) -> None:
        """The answer has come: from now on the channel calls the listener itself."""
        registration = self.registration
        if registration.active:
            registration.callback = self._callback
            self.channel.add(registration)  # it stays in its place; the channel looks at its callback again

    @property
    def name(self) -> str:
        """The channel's name."""
        return str(self.channel.name)

    @property
    def port(self) -> Any:
        """The channel's port."""
        return self.channel.port

    @property
    def listeners(self) -> tuple[Registration, ...]:
        """Who is called with the answer. It goes live for that, whether the value can be decoded or not."""
        self.go_live()
        return (self.registration,) if self.has_value else ()


def with_options(
    listener: Callback, ask: Callable[[Replay], None]
) -> tuple[Callback, Callable[[Any, Registration], None]]:
    """What stands in the channel for a listener with `replay`, and what is to be called when it is added there.

    `ask` asks main for the channel's kept value. TypeError: the listener is no function.
    """
    if not callable(listener):
        raise TypeError(f"a listener is a function, not {type(listener).__name__}")
    replayed = Replay(listener)

    def added(channel: Any, registration: Registration) -> None:
        replayed.begin(channel, registration)
        ask(replayed)

    return replayed, added
