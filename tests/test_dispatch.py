# SPDX-License-Identifier: MIT
"""What a renderer does with the events that come to it: by themselves, and in runs."""

from __future__ import annotations

import contextvars
import signal
import sys
from collections.abc import Callable
from operator import length_hint
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lensipc import clone
from lensipc.renderer.dispatch import EventDispatcher
from lensipc.renderer.port import RendererChannel, RendererPort
from lensipc.runtime.blocking_driver import BlockingDriver
from lensipc.runtime.channels import Registration
from lensipc.runtime.protocol import EVENT, MAX_REPORTS
from lensipc.transport.endpoint import Batch, Message

Listener = Callable[..., object]


# All that a port asks of its core that sends nothing: whether this is another thread.
CORE: Any = SimpleNamespace(posts=SimpleNamespace(post_from_elsewhere=lambda _call, _what: False), kept_limit=0)


class Heard:
    """Channels by their numbers, and what has been heard of the first."""

    def __init__(self, *listeners: Listener, channels: int = 1) -> None:
        port = RendererPort(CORE, "x", 0)  # it sends nothing here
        self.channels = [RendererChannel(port, f"n{number}") for number in range(channels)]
        self.channel = self.channels[0]
        self.driver = BlockingDriver()
        self.dispatch = EventDispatcher(
            self.channels, self.driver, 1, clone.STANDARD, lambda sender: self.reported.append(sender)
        )
        self.said: list[Any] = []
        self.reported: list[int] = []
        for number in range(channels):
            self.event(number, None)
        for listener in listeners or (self.note,):
            self.listen(listener)

    def note(self, event: Any, *args: Any) -> None:
        self.said.append((*args, event.missed))

    def listen(self, listener: Listener, number: int = 0) -> Registration:
        channel = self.channels[number]
        registration = Registration(listener, "here", channel.remove)
        channel.add(registration)
        return registration

    def event(self, number: int, value: Any, missed: int = 0, sender: int = 0) -> None:
        """One by itself."""
        self.dispatch.on_event(Message(EVENT, clone.encode((value,)), number, sender, 1, missed))

    def run(self, *numbers: int) -> None:
        """Of the first channel."""
        self.mixed(*((0, number) for number in numbers))

    def mixed(self, *events: tuple[int, int]) -> None:
        """A run of these numbers of these channels."""
        run = [each for number, value in events for each in (self.channels[number], (value,))]
        self.dispatch.on_batch(run)

    def rest(self) -> list[Batch]:
        """What is left of a run, heard."""
        left = self.dispatch.take_rest()
        for record in left:
            self.dispatch.on_batch(record)
        return left


def test_a_batch_calls_the_listener_for_each_event_with_one_event_object() -> None:
    heard = Heard(lambda event, *args: heard.said.append((event, args)))
    run = [each for args in ((1,), (), (2, 3)) for each in (heard.channel, args)]
    heard.dispatch.on_batch(run)
    assert [args for _, args in heard.said] == [(1,), (), (2, 3)]
    assert len({id(event) for event, _ in heard.said}) == 1
    assert heard.dispatch.take_rest() == []


def test_a_batch_spans_channels_and_calls_their_listeners_in_its_order() -> None:
    heard = Heard(channels=3)
    heard.listen(lambda event, value: heard.said.append((event.channel, value)), 1)
    heard.mixed((0, 1), (1, 2), (1, 3), (2, 4), (0, 5))
    assert heard.said == [(1, 0), ("n1", 2), ("n1", 3), (5, 0)]


def test_an_event_that_came_by_itself_goes_on_where_a_batch_ended() -> None:
    heard = Heard()
    heard.run(1, 2)
    heard.event(0, {3})
    heard.run(4)
    assert heard.said == [(1, 0), (2, 0), ({3}, 0), (4, 0)]


def test_only_the_event_behind_a_gap_says_how_many_were_missed() -> None:
    heard = Heard()
    heard.run(1, 2)
    heard.event(0, 7, missed=4)
    heard.run(8, 9)
    heard.event(0, 12, missed=2)
    assert heard.said == [(1, 0), (2, 0), (7, 4), (8, 0), (9, 0), (12, 2)]


def test_events_that_follow_are_from_whom_the_one_before_was_from() -> None:
    heard = Heard(lambda event, value: heard.said.append((event.frame_id, event.pid, value)))
    heard.run(1)
    heard.dispatch.on_event(Message(EVENT, None, 0, 7, 70, 0, (2,)))
    heard.run(3, 4)
    heard.event(0, 5)
    heard.run(6)
    assert heard.said == [(0, 1, 1), (7, 70, 2), (7, 70, 3), (7, 70, 4), (0, 1, 5), (0, 1, 6)]


def test_each_of_several_listeners_has_a_clone_of_its_own() -> None:
    heard: Heard = Heard(*(lambda _, value: heard.said.append(value) for _ in range(3)))
    heard.dispatch.on_batch([heard.channel, ([1],), heard.channel, ([2],)])
    assert heard.said == [[1], [1], [1], [2], [2], [2]]
    assert len({id(value) for value in heard.said}) == 6


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def leave() -> None:
    sys.exit("enough")


def interrupt() -> None:
    raise KeyboardInterrupt


def test_each_of_several_listeners_has_a_large_array_of_its_own() -> None:
    heard = Heard(lambda _event, array: array.fill(7), lambda _event, array: heard.said.append(array))
    body = memoryview(bytearray(clone.encode((np.zeros(100_000),))))  # as it was assembled: it may be kept
    heard.dispatch.on_event(Message(EVENT, body, 0, 0, 1, 0, None))
    (array,) = heard.said
    assert not array.any()


def test_a_listener_that_another_has_disposed_of_is_not_called() -> None:
    heard = Heard(lambda *_: dispose())
    dispose = heard.listen(heard.note)
    heard.event(0, 1)
    assert heard.said == []


@pytest.mark.parametrize("how", [leave, interrupt, ctrl_c])
def test_a_listener_that_raises_loses_no_event_but_its_own(
    how: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: Any, number: int) -> None:
        heard.note(event, number)
        if number % 3 == 1:
            how()

    heard = Heard(fail)
    raised = 0
    try:
        heard.run(*range(10))
    except KeyboardInterrupt:
        raised += 1
        left = heard.dispatch.take_rest()
        while left:
            try:
                heard.dispatch.on_batch(left.pop(0))
            except KeyboardInterrupt:
                raised += 1
                assert heard.dispatch.take_rest() == []  # each that was left is a run by itself
    heard.run(11)
    assert heard.said == [(number, 0) for number in (*range(10), 11)]
    assert raised == (3 if how is ctrl_c else 0)
    assert len(caplog.records) == (0 if how is ctrl_c else 3)


def test_a_callback_that_takes_what_is_left_hears_it_in_order_and_once() -> None:
    """As a listener does that waits for an outcome: what is left of its own run, of all channels, is kept for later."""

    def nested(event: Any, number: int) -> None:
        heard.note(event, number)
        if number == 2:
            assert heard.rest() == [[heard.channels[1], (3,)], [heard.channel, (4,)]]
            assert length_hint(heard.dispatch.batch) == 0

    heard = Heard(nested, channels=2)
    heard.listen(nested, 1)
    heard.mixed((1, 1), (0, 2), (1, 3), (0, 4))
    heard.run(5)
    assert heard.said == [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]


def test_a_batch_that_a_callback_has_begun_and_not_ended_is_not_forgotten() -> None:
    def nested(_event: Any, number: int) -> None:
        heard.said.append(number)
        if number == 1:
            with pytest.raises(KeyboardInterrupt):
                heard.run(10, 11)
        elif number == 10:
            ctrl_c()

    heard = Heard(nested)
    heard.run(1)
    assert heard.said == [1, 10]
    assert heard.rest() == [[heard.channel, (11,)]]


@pytest.mark.parametrize("listeners", [1, 2])
def test_what_a_listener_sets_in_a_context_variable_no_later_event_of_its_batch_sees(listeners: int) -> None:
    user: contextvars.ContextVar[Any] = contextvars.ContextVar("user", default="nobody")

    def note(_event: Any, number: int) -> None:
        heard.said.append((number, user.get()))
        if number == 2:
            user.set("the listener's")

    heard = Heard(*[note] * listeners)
    contexts = heard.driver.contexts
    contexts.turn(heard.run, 1, 2, 3, 4)
    contexts.turn(heard.run, 5, 2, 6)

    def by_themselves() -> None:
        for number in (2, 7):
            heard.event(0, number)

    contexts.turn(by_themselves)
    once = [(number, "nobody") for number in (1, 2, 3, 4, 5, 2, 6, 2, 7)]
    if listeners == 1:
        assert heard.said == once
    else:  # those of one event share its context
        assert heard.said[::2] == once
        assert [said for said in heard.said if said[1] != "nobody"] == [(2, "the listener's")] * 3


def test_who_stops_listening_in_the_midst_of_a_batch_hears_no_more_of_it() -> None:
    def once(event: Any, number: int) -> None:
        heard.note(event, number)
        dispose()

    heard = Heard(once)
    (dispose,) = heard.channel.listeners
    heard.run(1, 2, 3)
    assert heard.said == [(1, 0)]


def test_who_stops_listening_to_one_channel_of_a_batch_hears_the_others() -> None:
    def once(event: Any, number: int) -> None:
        heard.note(event, number)
        dispose()

    heard = Heard(once, channels=2)
    (dispose,) = heard.channel.listeners
    heard.listen(heard.note, 1)
    heard.mixed((0, 1), (1, 2), (0, 3), (1, 4))
    assert heard.said == [(1, 0), (2, 0), (4, 0)]


def test_who_begins_to_listen_in_the_midst_of_a_batch_hears_the_rest_of_it() -> None:
    def first(_event: Any, number: int) -> None:
        heard.said.append(("first", number))
        if number == 2:
            heard.listen(lambda _event, number: heard.said.append(("second", number)))

    heard = Heard(first)
    heard.run(1, 2, 3)
    assert heard.said == [("first", 1), ("first", 2), ("first", 3), ("second", 3)]


def test_what_is_left_of_a_batch_and_dropped_calls_no_listener_any_more() -> None:
    """As when main is gone."""

    def end(event: Any, number: int) -> None:
        heard.note(event, number)
        heard.dispatch.take_rest()

    heard = Heard(end)
    heard.run(1, 2, 3)
    assert heard.said == [(1, 0)]


UNDECODABLE = [(clone.encode("text"), None), (b"no message", None), (None, "text")]


@pytest.mark.parametrize(("body", "value"), UNDECODABLE)
@pytest.mark.parametrize("listeners", [1, 2])
def test_an_event_that_cannot_be_decoded_calls_nobody_and_its_sender_is_reported(
    body: bytes | None, value: object, listeners: int, caplog: pytest.LogCaptureFixture
) -> None:
    heard: Heard = Heard(*[lambda _event, *args: heard.said.append(args)] * listeners)
    heard.dispatch.on_event(Message(EVENT, body, 0, 7, 70, 0, value))
    heard.dispatch.on_event(Message(EVENT, None, 0, 7, 70, 0, ("good",)))
    assert heard.said == [("good",)] * listeners
    assert heard.reported == [7]
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("an event of x/n0 from 7 is dropped in renderer 1: it cannot be decoded: ")


def test_who_sends_without_end_what_cannot_be_decoded_is_reported_once_in_a_second(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 100.0
    monkeypatch.setattr("lensipc.renderer.dispatch.time.monotonic", lambda: now)
    heard = Heard()
    for second in range(3):
        now = 100.0 + second
        for number in range(1000):
            heard.dispatch.on_event(Message(EVENT, b"no message" * 100, 0, 7 + number % 2, 70, 0, None))
    assert heard.reported == [7, 8] * 3
    assert len(caplog.records) == 6
    assert max(len(record.getMessage()) for record in caplog.records) < 400


def test_many_who_send_what_cannot_be_decoded_are_reported_a_few_in_a_second(caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()
    for sender in range(2, 100):
        heard.dispatch.on_event(Message(EVENT, b"no message", 0, sender, 70, 0, None))
    assert len(heard.reported) in (MAX_REPORTS, 2 * MAX_REPORTS)  # a second may have begun meanwhile
    assert len(caplog.records) == len(heard.reported)


def test_main_and_this_renderer_itself_are_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()
    for sender in (0, 1):
        heard.dispatch.on_event(Message(EVENT, b"no message", 0, sender, 70, 0, None))
    assert heard.reported == []
    assert len(caplog.records) == 2


def test_a_listener_that_decodes_what_it_should_not_reports_nobody(caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard(lambda _event, value: clone.decode(value))
    heard.event(0, b"no message", sender=7)
    assert heard.reported == []
    assert [record.getMessage() for record in caplog.records] == ["listener of x/n0 in renderer 1 raised"]
