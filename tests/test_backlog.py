# SPDX-License-Identifier: MIT
"""What is kept for its turn: in its order, whatever is put before it, and counted."""

from __future__ import annotations

import pytest
from lines import fields

from lensipc.renderer import backlog as module
from lensipc.renderer.backlog import Backlog
from lensipc.runtime.protocol import ERROR, EVENT, RESULT
from lensipc.transport.endpoint import Message


def event(body: bytes) -> Message:
    return Message(EVENT, body)


def outcome(kind: int, correlation: int) -> Message:
    return Message(kind, b"xx", correlation=correlation)


def test_what_is_kept_comes_in_its_order_and_is_counted_until_it_is_taken() -> None:
    backlog = Backlog()
    records = [event(b"a"), outcome(RESULT, 1), event(b"bcd")]
    for record in records:
        backlog.keep(record)
    assert backlog.size == 6
    assert [backlog.take() for _ in records] == records
    assert (len(backlog), backlog.size) == (0, 0)


def test_a_batch_comes_apart_into_its_events() -> None:
    backlog = Backlog()
    backlog.keep(["x", (1,), "y", (2,)])
    assert list(backlog) == [["x", (1,)], ["y", (2,)]]


def test_what_is_put_first_comes_first_in_its_own_order() -> None:
    backlog = Backlog()
    backlog.keep(event(b"c"))
    backlog.put_first([event(b"a"), event(b"b")])
    assert [fields(record)[1] for record in backlog] == [b"a", b"b", b"c"]


def test_outcomes_can_be_put_before_all_else_and_nothing_else_changes_its_place() -> None:
    backlog = Backlog()
    for record in (event(b"a"), outcome(RESULT, 1), event(b"b"), outcome(ERROR, 2), event(b"c")):
        backlog.keep(record)
    size = backlog.size
    backlog.put_outcomes_first()
    assert [fields(record)[5] or fields(record)[1] for record in backlog] == [1, 2, b"a", b"b", b"c"]
    assert backlog.size == size
    assert backlog.has_outcomes


@pytest.mark.parametrize(("where", "kept"), [("parts_of", False), ("size_of", True)])
def test_a_signal_while_one_is_kept_leaves_it_known_whether_it_is(
    monkeypatch: pytest.MonkeyPatch, where: str, kept: bool
) -> None:
    def strike(*_: object) -> None:
        raise KeyboardInterrupt

    backlog, record = Backlog(), event(b"a")
    backlog.keep(event(b"a"))
    monkeypatch.setattr(module, where, strike)
    with pytest.raises(KeyboardInterrupt):
        backlog.keep(record)
    assert backlog.has_kept(record) == kept
    assert len(backlog) == 1 + kept
