# SPDX-License-Identifier: MIT
"""The event objects."""

from __future__ import annotations

from typing import Any

import pytest

from lensipc import Types

KINDS = [Types.IpcMainEvent, Types.IpcRendererEvent, Types.IpcMainInvokeEvent]


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_says_who_sent_it(kind: type[Types.IpcEvent]) -> None:
    event = kind(3, 1234, "ext", "channel", 2, lambda *_: None)
    assert (event.frame_id, event.pid, event.extension, event.channel, event.missed) == (3, 1234, "ext", "channel", 2)
    assert event.process == "renderer"
    assert repr(event) == f"<{kind.__name__} ext/channel from renderer frame_id=3 pid=1234>"


@pytest.mark.parametrize("kind", KINDS)
def test_frame_0_is_main(kind: type[Types.IpcEvent]) -> None:
    assert kind(0, 1, "ext", "channel", 0, lambda *_: None).process == "main"


@pytest.mark.parametrize("kind", KINDS)
def test_a_reply_goes_to_the_sender(kind: type[Types.IpcEvent]) -> None:
    sent: list[Any] = []
    event = kind(7, 1, "ext", "ask", 0, lambda *args: sent.append(args))
    event.reply("answer", 1, "two")
    event.reply("answer")
    assert sent == [(7, "answer", (1, "two")), (7, "answer", ())]


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_holds_nothing_else(kind: type[Types.IpcEvent]) -> None:
    event = kind(0, 1, "ext", "channel", 0, lambda *_: None)
    with pytest.raises(AttributeError):
        event.other = 1  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        event.process = "main"  # type: ignore[misc]


def test_the_kinds_are_told_apart() -> None:
    assert all(issubclass(kind, Types.IpcEvent) for kind in KINDS)
    assert not issubclass(Types.IpcMainInvokeEvent, Types.IpcMainEvent)
