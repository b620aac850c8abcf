# SPDX-License-Identifier: MIT
"""What a renderer does with the events that come to it: by themselves, and in runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from lensipc import clone
from lensipc.channels import Registration
from lensipc.endpoint import RUN, Record
from lensipc.hearing import MOST_EVENTS, Hearing
from lensipc.message import EVENT
from lensipc.plain_face import PlainFace
from lensipc.renderer_port import RendererChannel, RendererPort

Listener = Callable[..., object]


class Heard:
    """A channel with number 0, and what has been heard of it."""

    def __init__(self, *listeners: Listener) -> None:
        port = RendererPort(None, "x", 0)  # type: ignore[arg-type] - it sends nothing here
        self.channel = RendererChannel(port, "n")
        self.hearing = Hearing([self.channel], PlainFace(), 1)
        self.said: list[Any] = []
        for listener in listeners or (self.note,):
            self.listen(listener)

    def note(self, event: Any, *args: Any) -> None:
        self.said.append((*args, event.missed))

    def listen(self, listener: Listener) -> Registration:
        registration = Registration(listener, "here", self.channel.remove)
        self.channel.add(registration)
        return registration

    def run(self, *numbers: int, place: int = 1) -> None:
        self.hearing.on_run((RUN, [(number,) for number in numbers], 0, 0, 1, place, None))

    def rest(self) -> list[Record]:
        """What is left of a run, heard."""
        left = self.hearing.left()
        for record in left:
            self.hearing.on_run(record)
        return left


def test_a_run_calls_the_listener_for_each_event_with_one_event_object() -> None:
    heard = Heard(lambda event, *args: heard.said.append((event, args)))
    heard.hearing.on_run((RUN, [(1,), (), (2, 3)], 0, 0, 1, 1, None))
    assert [args for _, args in heard.said] == [(1,), (), (2, 3)]
    assert len({id(event) for event, _ in heard.said}) == 1
    assert heard.hearing.left() == []


def test_an_event_that_came_by_itself_goes_on_where_a_run_ended() -> None:
    heard = Heard()
    heard.run(1, 2)
    heard.hearing.on_event((EVENT, clone.encode(({3},)), 0, 0, 1, 3, None))
    heard.run(4, place=4)
    assert heard.said == [(1, 0), (2, 0), ({3}, 0), (4, 0)]


def test_only_the_first_event_behind_a_gap_says_how_many_were_missed() -> None:
    heard = Heard()
    heard.run(1, 2)
    heard.run(7, 8, 9, place=7)
    heard.hearing.on_event((EVENT, clone.encode((12,)), 0, 0, 1, 12, None))
    assert heard.said == [(1, 0), (2, 0), (7, 4), (8, 0), (9, 0), (12, 2)]


def test_each_of_several_listeners_has_a_clone_of_its_own() -> None:
    heard = Heard(*(lambda _, value: heard.said.append(value) for _ in range(3)))
    heard.hearing.on_run((RUN, [([1],), ([2],)], 0, 0, 1, 1, None))
    assert heard.said == [[1], [1], [1], [2], [2], [2]]
    assert len({id(value) for value in heard.said}) == 6


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_listener_that_raises_loses_no_event_but_its_own(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: Any, number: int) -> None:
        heard.note(event, number)
        if number % 3 == 1:
            raise error

    heard = Heard(fail)
    raised = 0
    try:
        heard.run(*range(10))
    except KeyboardInterrupt:
        raised += 1
        left = heard.hearing.left()
        while left:
            try:
                heard.hearing.on_run(left.pop(0))
            except KeyboardInterrupt:
                raised += 1
                assert heard.hearing.left() == []  # each that was left is a run by itself
    heard.run(11, place=11)
    assert heard.said == [(number, 0) for number in (*range(10), 11)]
    assert raised == (3 if error is KeyboardInterrupt else 0)
    assert len(caplog.records) == (0 if error is KeyboardInterrupt else 3)


def test_a_callback_that_takes_what_is_left_hears_it_in_order_and_once() -> None:
    """As a listener does that waits for an outcome: what is left of its own run is kept for later."""

    def nested(event: Any, number: int) -> None:
        heard.note(event, number)
        if number == 2:
            assert [record[1] for record in heard.rest()] == [[(3,)], [(4,)]]

    heard = Heard(nested)
    heard.run(1, 2, 3, 4)
    heard.run(5, place=5)
    assert heard.said == [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]


def test_a_run_that_a_callback_has_begun_and_not_ended_is_not_forgotten() -> None:
    def nested(_event: Any, number: int) -> None:
        heard.said.append(number)
        if number == 1:
            with pytest.raises(KeyboardInterrupt):
                heard.run(10, 11, place=3)
        elif number == 10:
            raise KeyboardInterrupt

    heard = Heard(nested)
    heard.run(1)
    assert heard.said == [1, 10]
    assert [record[1] for record in heard.rest()] == [[(11,)]]


def test_who_stops_listening_in_the_midst_of_a_run_hears_no_more_of_it() -> None:
    def once(event: Any, number: int) -> None:
        heard.note(event, number)
        dispose()

    heard = Heard(once)
    (dispose,) = heard.channel.listeners
    heard.run(1, 2, 3)
    assert heard.said == [(1, 0)]


def test_who_begins_to_listen_in_the_midst_of_a_run_hears_the_rest_of_it() -> None:
    def first(_event: Any, number: int) -> None:
        heard.said.append(("first", number))
        if number == 2:
            heard.listen(lambda _event, number: heard.said.append(("second", number)))

    heard = Heard(first)
    heard.run(1, 2, 3)
    assert heard.said == [("first", 1), ("first", 2), ("first", 3), ("second", 3)]


def test_when_it_is_over_no_listener_is_called_any_more() -> None:
    def end(event: Any, number: int) -> None:
        heard.note(event, number)
        heard.hearing.over = True

    heard = Heard(end)
    heard.run(1, 2, 3)
    assert heard.said == [(1, 0)]


def test_what_is_no_tuple_of_arguments_is_logged_and_calls_nobody(caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()
    with caplog.at_level(logging.ERROR):
        for body in (clone.encode("text"), b"no message"):
            heard.hearing.on_event((EVENT, body, 0, 0, 1, 1, None))
    assert heard.said == []
    assert [record.getMessage() for record in caplog.records] == ["listener of x/n in renderer 1 raised"] * 2


def test_event_objects_of_senders_that_have_gone_do_not_pile_up() -> None:
    heard = Heard()
    for sender in range(3 * MOST_EVENTS):
        heard.hearing.on_run((RUN, [(1,)], 0, sender, 1, sender + 1, None))
    assert len(heard.channel.events) <= MOST_EVENTS
