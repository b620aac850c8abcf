# SPDX-License-Identifier: MIT
"""Attacks by what messages say: kinds, channels, requests and outcomes, bodies."""

from __future__ import annotations

import asyncio
import os
import pickle
import random
from typing import Any

from hosting import until

from hostile.catalogue import EITHER, INVALID, VALID, attack, attacks
from hostile.renderer import HIGH_WATER, LAB, MAX_CHANNELS, Renderer
from lensipc import clone
from lensipc.runtime.protocol import (
    ACTIVATE,
    ALL,
    CANCEL,
    CREDIT,
    DEACTIVATE,
    DECLARE,
    ERROR,
    EVENT,
    INVOKE,
    ITEMS,
    KEEP_EVENT,
    KEPT,
    KINDS,
    LISTEN,
    MAX_NAME,
    MAX_NAMES,
    MAX_READ_AHEAD,
    NOT_KEPT,
    READY,
    REPLAY,
    REPORT,
    RESULT,
    STREAM,
    UNLISTEN,
    VIEWS,
)
from lensipc.runtime.remote_error import describe

# ---- kinds ----


@attacks(INVALID, "kind", ACTIVATE, DEACTIVATE, READY, ITEMS, KEPT, NOT_KEPT, KINDS, 255, 256, 65535)
def _kind(renderer: Renderer, _rng: random.Random, kind: int) -> None:
    renderer.send(kind, 0, renderer.extension, 0, 1, clone.encode((LAB, "1.0", "os:system")))


# ---- channels ----


@attacks(INVALID, "a_channel_that_was_not_declared_by", EVENT, INVOKE, LISTEN, UNLISTEN, REPLAY, KEEP_EVENT, STREAM)
def _undeclared(renderer: Renderer, rng: random.Random, kind: int) -> None:
    renderer.send(kind, rng.choice([5, 2**16, 2**31, 2**32 - 1]), correlation=10**6, body=clone.encode(()))


@attacks(INVALID, "declares_for_extension", 1, 2, 77, 2**32 - 1)
def _ungranted(renderer: Renderer, _rng: random.Random, number: int) -> None:
    renderer.declare("echo", extension=number)


@attacks(INVALID, "declares", b"\xff\xfe", b"\x80", b"ok\xc0\xaf", b"x" * 4097, b"x" * 100_000)
def _declares(renderer: Renderer, _rng: random.Random, name: bytes) -> None:
    renderer.declare(name)


@attacks(VALID, "declares_well", b"", b"x" * 4096, "\ud800".encode("utf-8", "surrogatepass"), b"a\x00\nb")
def _declares_well(renderer: Renderer, _rng: random.Random, name: bytes) -> None:
    number = renderer.declare(name)
    renderer.send(LISTEN, number)
    renderer.send(EVENT, number, ALL, body=clone.encode((1,)))
    renderer.invoke(number)  # answered by NoHandlerError


@attacks(INVALID, "declares_number", 0, 5, 2**32 - 1)
def _declares_number(renderer: Renderer, _rng: random.Random, number: int) -> None:
    renderer.send(DECLARE, number, renderer.extension, body=b"another")


@attack(INVALID)
def declares_a_channel_twice(renderer: Renderer, _rng: random.Random) -> None:
    renderer.declare("twice")
    renderer.declare("twice")


@attack(INVALID)
async def declares_without_end(renderer: Renderer, _rng: random.Random) -> None:
    for number in range(MAX_CHANNELS + 100):
        renderer.declare(f"channel {number}")
        if number % 100 == 0:
            renderer.flush()
            await asyncio.sleep(0)
        if renderer.gone:
            return


@attack(INVALID)
async def declares_long_names_without_end(renderer: Renderer, _rng: random.Random) -> None:
    for number in range(MAX_NAMES // MAX_NAME + 1):
        renderer.declare(f"{number:0{MAX_NAME}}")
        if number % 10 == 0:
            renderer.flush()
            await asyncio.sleep(0)
        if renderer.gone:
            return


@attack(VALID)
def listens_twice(renderer: Renderer, _rng: random.Random) -> None:
    renderer.send(LISTEN, 0)
    renderer.send(LISTEN, 0)


@attack(VALID)
def declares_its_last_channel_twice(renderer: Renderer, _rng: random.Random) -> None:
    number = renderer.declare("last")
    renderer.send(DECLARE, number, renderer.extension, body=b"last")
    renderer.send(LISTEN, number)


@attacks(INVALID, "listens_with_policy", 4, 2**32 - 1)
def _policy(renderer: Renderer, _rng: random.Random, policy: int) -> None:
    renderer.send(LISTEN, 0, policy)


@attack(VALID)
def stops_listening_without_having_begun(renderer: Renderer, _rng: random.Random) -> None:
    renderer.send(UNLISTEN, 0)


@attacks(VALID, "listens_twice_in_one_way", 0, VIEWS)
def _listens_twice_in_one_way(renderer: Renderer, rng: random.Random, views: int) -> None:
    renderer.send(LISTEN, 0, views)
    for _ in range(rng.randrange(3)):
        renderer.send(LISTEN, 0, VIEWS ^ views)
        renderer.send(LISTEN, 0, views)
    renderer.send(LISTEN, 0, views)


@attack(VALID)
def reads_in_place_now_and_then(renderer: Renderer, rng: random.Random) -> None:
    renderer.send(LISTEN, 0)
    for _ in range(rng.randrange(100)):
        renderer.send(LISTEN, 0, VIEWS)
        renderer.send(LISTEN, 0)


@attack(VALID)
def stops_listening_twice(renderer: Renderer, _rng: random.Random) -> None:
    renderer.send(LISTEN, 0)
    renderer.send(UNLISTEN, 0)
    renderer.send(UNLISTEN, 0)


@attack(VALID)
async def listens_and_stops_without_end(renderer: Renderer, _rng: random.Random) -> None:
    for number in range(3000):
        renderer.send(LISTEN, 0, number % 3)
        renderer.send(UNLISTEN, 0)
        if number % 100 == 0:
            await asyncio.sleep(0)


# ---- kept values ----


@attack(INVALID)
def asks_for_a_kept_value_and_does_not_listen(renderer: Renderer, _rng: random.Random) -> None:
    renderer.send(REPLAY, 0)


@attack(VALID)
async def keeps_without_end(renderer: Renderer, rng: random.Random) -> None:
    kept = renderer.main_end.core.ports[LAB].kept
    for number in range(600):
        channel = renderer.declare(f"kept {number}")
        renderer.send(KEEP_EVENT, channel, body=clone.encode((bytes(rng.choice([0, 30_000, 60_000])),)))
        renderer.receive()  # that it is too much
        renderer.flush()
        await asyncio.sleep(0)
    await renderer.parked()
    assert 0 < kept.total <= kept.limit
    assert sum(len(value.body) for value in kept._values.values()) <= kept.total


@attack(VALID)
async def asks_for_kept_values_without_end_and_reads_none(renderer: Renderer, rng: random.Random) -> None:
    channel, size = renderer.declare("asked for"), 512 * 1024
    renderer.send(LISTEN, channel)
    renderer.send(KEEP_EVENT, channel, body=clone.encode((bytes(size),)))
    for _ in range(200):
        renderer.send(REPLAY, channel, correlation=rng.getrandbits(64))  # main only says it again
    for _ in range(100):
        renderer.flush()
        await asyncio.sleep(0.001)
        assert renderer.main_end.endpoint.outbox <= HIGH_WATER + 2 * size
    assert renderer.main_end.paused
    while sum(record.kind == KEPT for record in renderer.inbox) < 200:  # it has them all when it reads
        renderer.receive()
        await asyncio.sleep(0)
    renderer.inbox.clear()


@attack(VALID)
async def asks_for_kept_values_without_end_and_leaves(renderer: Renderer, _rng: random.Random) -> None:
    channel, size = renderer.declare("asked for"), 512 * 1024
    renderer.send(LISTEN, channel)
    renderer.send(KEEP_EVENT, channel, body=clone.encode((bytes(size),)))
    await renderer.parked()
    end = renderer.main_end
    for _ in range(1000):  # as many as its ring holds
        renderer.send(REPLAY, channel)
    renderer.sock.close()
    for _ in range(100):
        await asyncio.sleep(0.001)
        if not renderer.gone:
            assert end.endpoint.outbox <= HIGH_WATER + 2 * size


# ---- requests and outcomes ----


@attacks(INVALID, "invoke_ids", [5, 5], [5, 4], [0], [2**64 - 1, 1])
def _ids(renderer: Renderer, _rng: random.Random, ids: list[int]) -> None:
    for correlation in ids:
        renderer.send(INVOKE, 0, correlation=correlation, body=clone.encode(()))


@attacks(INVALID, "invokes_with_flags", 1, 2 * VIEWS, VIEWS | 1, 2**32 - 1)
def _flags(renderer: Renderer, _rng: random.Random, flags: int) -> None:
    renderer.send(INVOKE, 0, flags, correlation=renderer.next_id(), body=clone.encode(()))


@attack(VALID)
async def asks_for_results_in_place_without_end_and_takes_no_slab(renderer: Renderer, _rng: random.Random) -> None:
    end = renderer.main_end
    for _ in range(100):
        correlation = renderer.next_id()
        body = clone.encode((bytes(70_000),))
        renderer.send(INVOKE, 0, VIEWS, correlation=correlation, body=body)
        assert (await renderer.outcome(correlation)).kind == RESULT
    await until(lambda: not end.large)
    assert not end.in_place
    assert end.endpoint.held == 0


@attacks(INVALID, "answers_what_main_never_asked", RESULT, ERROR)
def _unasked(renderer: Renderer, rng: random.Random, kind: int) -> None:
    correlation = rng.choice([0, 5, 10**9, 2**64 - 1])
    renderer.send(kind, correlation=correlation, body=describe(ValueError("unasked")))


@attack(INVALID)
def answers_its_activation_twice(renderer: Renderer, _rng: random.Random) -> None:
    renderer.send(RESULT, correlation=1)


@attack(VALID)
async def cancels_the_neighbours_invoke(renderer: Renderer, _rng: random.Random) -> None:
    host = renderer.host
    asking = asyncio.create_task(host.ipc.run(host.renderers[0], "invoke", "sleep", 0.05, "neighbour's"))
    await until(lambda: host.ipc.running)
    for correlation in range(200):
        renderer.send(CANCEL, correlation=correlation)
    renderer.send(CANCEL, correlation=2**64 - 1)
    assert await asking == "neighbour's"


@attack(VALID)
async def cancels_its_own_at_once(renderer: Renderer, _rng: random.Random) -> None:
    channel = renderer.declare("sleep")
    for _ in range(200):
        correlation = renderer.invoke(channel, 60.0, "cancelled at once")
        renderer.send(CANCEL, correlation=correlation)
        renderer.send(CANCEL, correlation=correlation)
    await renderer.parked()
    await until(lambda: renderer.host.ipc.running == 0)


@attack(VALID)
async def leaves_a_hundred_handlers_running(renderer: Renderer, _rng: random.Random) -> None:
    channel = renderer.declare("sleep")
    for _ in range(100):
        renderer.invoke(channel, 60.0, "left running")
    await until(lambda: renderer.host.ipc.running == 100)
    renderer.close()
    await until(lambda: renderer.host.ipc.running == 0)


# ---- streams ----


def _stream(renderer: Renderer, channel: str, read_ahead: int, *args: Any) -> int:
    """Ask for a stream; its id."""
    number, correlation = renderer.declare(channel), renderer.next_id()
    renderer.send(STREAM, number, read_ahead, correlation=correlation, body=clone.encode(args))
    return correlation


@attacks(INVALID, "stream_ids", [5, 5], [5, 4], [0], [2**64 - 1, 1])
def _stream_ids(renderer: Renderer, _rng: random.Random, ids: list[int]) -> None:
    for correlation in ids:
        renderer.send(STREAM, 0, 1, correlation=correlation, body=clone.encode(()))


@attack(INVALID)
def a_stream_has_the_id_of_an_invoke(renderer: Renderer, _rng: random.Random) -> None:
    renderer.send(STREAM, 0, 1, correlation=renderer.invoke(0), body=clone.encode(()))


@attacks(INVALID, "reads_ahead", MAX_READ_AHEAD + 1, 2**31, 2**32 - 1)
def _reads_ahead(renderer: Renderer, _rng: random.Random, count: int) -> None:
    _stream(renderer, "endless", count)


@attacks(INVALID, "gives_credit", 0, 11, 2**31, 2**32 - 1)
def _gives_credit(renderer: Renderer, _rng: random.Random, count: int) -> None:
    renderer.send(CREDIT, 0, count, correlation=_stream(renderer, "endless", 10))


@attack(VALID)
async def gives_credit_without_end_and_reads_nothing(renderer: Renderer, _rng: random.Random) -> None:
    correlation = _stream(renderer, "endless", MAX_READ_AHEAD)
    for _ in range(50):
        await renderer.parked()
        if renderer.main_end.endpoint.outbox > renderer.main_end.low_water:
            break
        renderer.send(CREDIT, 0, 1, correlation=correlation)
    await renderer.parked()
    assert renderer.main_end.endpoint.outbox <= renderer.main_end.low_water + 32 * 1024


@attacks(INVALID, "gives_credit_to_what_it_never_asked_for", 100, 2**63, 2**64 - 1)
def _unknown_credit(renderer: Renderer, _rng: random.Random, correlation: int) -> None:
    renderer.send(CREDIT, 0, 1, correlation=correlation)


@attack(INVALID)
def gives_credit_to_an_invoke(renderer: Renderer, _rng: random.Random) -> None:
    channel = renderer.declare("sleep")
    renderer.send(CREDIT, 0, 1, correlation=renderer.invoke(channel, 60.0, "no stream"))


@attack(VALID)
async def gives_credit_to_what_has_ended_and_to_the_neighbours_streams(renderer: Renderer, _rng: random.Random) -> None:
    correlation = _stream(renderer, "endless", 1)
    renderer.send(CANCEL, correlation=correlation)
    for number in range(200):
        renderer.send(CREDIT, 0, 2**32 - 1, correlation=correlation)
        renderer.send(CREDIT, 0, number, correlation=0)
    await renderer.parked()


@attack(VALID)
async def begins_streams_and_ends_them_without_end(renderer: Renderer, rng: random.Random) -> None:
    channel = renderer.declare("endless")
    for number in range(3000):
        correlation = renderer.next_id()
        renderer.send(STREAM, channel, rng.choice([0, 1, 1000]), correlation=correlation, body=clone.encode(()))
        renderer.send(CANCEL, correlation=correlation)
        if number % 100 == 0:
            await renderer.parked()
            renderer.receive()
    await renderer.parked()


@attack(VALID)
async def leaves_streams_open_and_goes(renderer: Renderer, _rng: random.Random) -> None:
    channel = renderer.declare("endless")
    for _ in range(50):
        renderer.send(STREAM, channel, 100, correlation=renderer.next_id(), body=clone.encode(()))
    await renderer.parked()
    assert len(renderer.main_end.running) == 50
    renderer.close()


@attacks(INVALID, "asks_for_a_stream_with_a_body", "empty", "cut", "system", "memo_bomb", "no_tuple")
def _stream_body(renderer: Renderer, _rng: random.Random, name: str) -> None:
    body = clone.encode([1]) if name == "no_tuple" else bodies_of_no_use()[name]
    renderer.send(STREAM, renderer.declare("endless"), 1, correlation=renderer.next_id(), body=body)


# ---- bodies ----


class _System:
    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/lensipc-was-here",)


def bodies_of_no_use() -> dict[str, bytes]:
    good = clone.encode((1, "two", [3.0], {"four": b"5"}))
    return {
        "empty": b"",
        "zeros": bytes(64),
        "ones": b"\xff" * 64,
        "cut": good[: len(good) // 2],
        "no_stop": good[:-1],
        "system": pickle.dumps((_System(),), 5),
        "memo_bomb": b"\x80\x05Nr\x00\x00\x00\x08.",  # LONG_BINPUT: 2 GiB in an unpickler that believes it
        "long_bomb": b"\x80\x05\x8b\xff\xff\xff\x7f.",
        "string_bomb": b"\x80\x05\x8d\xff\xff\xff\xff\xff\xff\x00\x00.",
        "global": b"cos\nsystem\n(S'true'\ntR.",
        "persistent": b"\x80\x05Pxyz\n.",
        "out_of_band": b"\x80\x05\x97\x85.",
    }


@attacks(INVALID, "invokes_with_a_body", *bodies_of_no_use())
def _invoke_body(renderer: Renderer, _rng: random.Random, name: str) -> None:
    renderer.invoke(0, body=bodies_of_no_use()[name])


@attacks(INVALID, "main_hears_a_body", *bodies_of_no_use())
def _event_body(renderer: Renderer, _rng: random.Random, name: str) -> None:
    renderer.send(EVENT, renderer.declare("heard in main"), ALL, body=bodies_of_no_use()[name])


@attacks(INVALID, "main_keeps_a_body", *bodies_of_no_use())
def _kept_body(renderer: Renderer, _rng: random.Random, name: str) -> None:
    renderer.send(KEEP_EVENT, renderer.declare("kept"), body=bodies_of_no_use()[name])


@attack(INVALID)
def main_keeps_what_is_no_tuple(renderer: Renderer, _rng: random.Random) -> None:
    renderer.send(KEEP_EVENT, renderer.declare("kept"), body=clone.encode([1]))


@attacks(EITHER, "the_neighbour_hears_a_body", *bodies_of_no_use())
def _neighbour_body(renderer: Renderer, _rng: random.Random, name: str) -> None:
    renderer.send(EVENT, renderer.declare("news"), ALL, body=bodies_of_no_use()[name])


@attacks(INVALID, "arguments_that_are_no_tuple", 1, "text", [1], {"a": 1}, None, b"bytes")
def _no_tuple(renderer: Renderer, _rng: random.Random, value: Any) -> None:
    renderer.invoke(0, body=clone.encode(value))


@attack(VALID)
async def the_neighbour_hears_arguments_that_are_no_tuple(renderer: Renderer, _rng: random.Random) -> None:
    channel, host = renderer.declare("news"), renderer.host
    renderer.send(EVENT, channel, ALL, body=clone.encode("abc"))
    renderer.send(EVENT, channel, ALL, body=clone.encode(("a tuple",)))
    heard: list[Any] = []
    while not heard:
        heard = await host.ipc.run(host.renderers[0], "heard", "news")
        heard = [entry[1:-1] for entry in heard if entry[0] == renderer.frame_id]
    assert heard == [("a tuple",)]


@attacks(VALID, "reports", 0, 1, 2, 77, 2**32 - 1)
def _reports(renderer: Renderer, _rng: random.Random, sender: int) -> None:
    for number in range(100):
        renderer.send(REPORT, number, sender, correlation=number, body=b"it was that one")


@attacks(INVALID, "nested_too_deep", 1_001, 2_000, 100_000)
def _nested_too_deep(renderer: Renderer, _rng: random.Random, depth: int) -> None:
    renderer.invoke(0, body=b"\x80\x05" + b"(" * depth + b"t" * depth + b".")


@attacks(VALID, "nested", 90, 990)
async def _nested(renderer: Renderer, _rng: random.Random, depth: int) -> None:
    correlation = renderer.invoke(0, body=b"\x80\x05" + b"(" * depth + b"t" * depth + b".")
    assert (await renderer.outcome(correlation)).kind == RESULT


@attack(EITHER)
async def nested_sets_and_keys(renderer: Renderer, _rng: random.Random) -> None:
    tower = b"\x80\x05}" + b"(" * 50_000 + b"t" * 50_000 + b"Ns\x85."  # a key that takes long to hash, or to compare
    await renderer.outcome(renderer.invoke(0, body=tower))
