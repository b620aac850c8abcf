# SPDX-License-Identifier: MIT
"""Guarantee 17: a loan is not copied where it is sent, and no other message lies there while anything reaches it."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import io
import os
import random
import re
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import loaned
import numpy as np
import pytest
from hosting import Host, hosting, until
from test_life import program, said
from test_pool import AlarmError, slabs_of, stopped

from lensipc import DataCloneError, ExtensionManifest, NotActivatedError, PoolFull, _fast
from lensipc.main.slab_pool import SlabPool
from lensipc.transport.endpoint import Topic

MIB = 1 << 20


class Sender:
    """Main, and renderers that note what they hear."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.expected: list[Any] = []

    @property
    def ipc(self) -> Any:
        return self.host.ipc

    @property
    def pool(self) -> Any:
        return self.host.main.pool

    @property
    def uses(self) -> int:
        """How many blocks were ever taken: one more for each loan, and for each event that is copied into the pool."""
        return sum(each.owner.look(each.number).uses for each in self.host.main._core.pool._slabs)

    def fill(self, shape: Any = MIB, dtype: Any = np.uint8) -> Any:
        """A loan of random numbers."""
        frame = self.ipc.loan(shape, dtype)
        frame[...] = np.random.default_rng(len(self.expected)).integers(0, 100, frame.shape)
        return frame

    def send(self, frame: Any, value: Any = None, transfer: bool = True) -> None:
        """Broadcast it, or a value with it."""
        value = frame if value is None else value
        self.expected.append(loaned.tell(value))
        self.ipc.broadcast("n", value, transfer=[frame] if transfer else ())

    async def check(self) -> None:
        """Each has heard what was sent, in order, and as it was."""
        for each in self.host.renderers:
            assert await self.ipc.run(each, "loaned:take", len(self.expected)) == self.expected
        self.expected.clear()

    async def warm_up(self) -> None:
        """Until all renderers have mapped the slab."""
        while True:
            before = self.uses
            with stopped(*self.host.renderers):
                self.send(self.fill())
                holders = self.pool.holders
            await self.check()
            if self.uses == before + 1 and len(holders) == len(self.host.renderers):
                break
        await until(lambda: self.pool.blocks == 0)


@asynccontextmanager
async def sending(renderers: int, arrays: str = "copy", **options: Any) -> AsyncIterator[Sender]:
    """A host whose renderers note what they hear."""
    async with hosting(renderers, **options) as host:
        for each in host.renderers:
            await host.ipc.run(each, "loaned:note", "n", "disconnect", False, arrays)
        yield Sender(host)


# ---- what arrives, and what is copied ----


@pytest.mark.parametrize("arrays", ["copy", "view"])
@pytest.mark.parametrize("renderers", [1, 2])
async def test_a_loan_is_read_where_it_was_written_and_is_empty_here_afterwards(renderers: int, arrays: str) -> None:
    async with sending(renderers, arrays) as sender:
        while sender.uses == 0 or len(sender.pool.holders) < renderers:
            with stopped(*sender.host.renderers):
                sender.send(sender.fill())
                if len(sender.pool.holders) == renderers:
                    break
            await sender.check()
        for _ in range(5):
            uses = sender.uses
            frame = sender.fill((512, 1024, 2))
            assert (frame.shape, frame.dtype, frame.flags.c_contiguous) == ((512, 1024, 2), np.uint8, True)
            sender.send(frame)
            assert (sender.uses, frame.shape, frame.size) == (uses + 1, (0,), 0)
            assert sender.pool.loans == 1, "the array is there still, and who knows what was made of it"
            del frame
            assert sender.pool.loans == 0
        await sender.check()
        for each in sender.host.renderers:
            assert all(await sender.ipc.run(each, "loaned:let_go"))
        await until(lambda: sender.pool.blocks == 0)


async def test_a_view_that_an_encoder_makes_shows_nothing_that_a_renderer_hears() -> None:
    loaned.register_shots()
    async with sending(1) as sender:
        (renderer,) = sender.host.renderers
        await sender.ipc.run(renderer, "loaned:register_shots")
        await sender.warm_up()
        frame = sender.fill()
        shot = loaned.Shot(frame)
        sender.expected.append(loaned.tell({"pixels": frame}))
        with stopped(renderer):
            sender.ipc.broadcast("n", shot, transfer=[frame])
            assert frame.shape == (0,)
            shot.thumbnail[:] = 99  # type: ignore[index]
        await sender.check()


async def test_copies_of_a_loan_keep_none_of_it() -> None:
    async with sending(1) as sender:
        await sender.warm_up()
        frame = sender.fill((640, 640))
        copies = [frame[frame > 3], frame[[0, 1]], frame + 1, np.sqrt(frame), frame.copy(), abs(frame)]
        with frame:
            copies += [frame[np.ix_([1, 2], [3])]]
        del frame
        assert sender.pool.loans == 0
        assert len(copies) == 7
        with pytest.raises(RuntimeError, match=r"`with` takes what ipc.loan has returned"), copies[1]:
            pass


async def test_arrays_of_every_shape_and_type_arrive_as_they_were_whichever_way_they_take() -> None:
    rng = random.Random(seed := random.randrange(2**32))
    print(f"seed {seed}")
    slices: list[Any] = []
    async with sending(1) as sender:
        reader = await sender.host.main.spawn_renderer()
        await sender.ipc.run(reader, "loaned:note", "n", "disconnect", False, "view")
        sender.host.renderers.append(reader)
        for _ in range(80):
            dtype = np.dtype(rng.choice(["u1", "<i2", ">f4", "f8", "c16", "?", "M8[s]", "S7", "V24", "i4,f8"]))
            shape: Any = [rng.randrange(1, 24) for _ in range(rng.randrange(3))]
            shape = [*shape, int(2 ** rng.uniform(0, 12))]
            frame = sender.ipc.loan(shape, dtype)
            frame.view(np.ndarray).reshape(-1).view(np.uint8)[:] = rng.randrange(2)
            frame.reshape(-1).view(np.uint8)[:: rng.randrange(1, 9) * 8] = 1
            if rng.randrange(3) == 0:
                slices.append(rng.choice([np.asarray(frame), frame[..., 1:], frame.T, memoryview(frame.view("V1"))]))
            value = rng.choice(
                [frame, {"t": 1.0, "frame": frame}, ["a", {"deep": [frame, None]}], {"frame": frame, "at": {1, 2}}]
            )
            sender.send(frame, value, transfer=rng.randrange(4) > 0)
            if slices and rng.randrange(3) == 0:
                kept = slices.pop(rng.randrange(len(slices)))
                if not isinstance(kept, memoryview) and rng.randrange(2):
                    kept[...] = np.zeros((), kept.dtype)  # its message is on its way, and another's memory this is not
            if rng.randrange(5) == 0:
                await sender.check()
        frame = value = kept = None
        slices.clear()
        await sender.check()
        assert all(await sender.ipc.run(reader, "loaned:let_go"))
        await until(lambda: sender.pool.blocks == 0)
        assert sender.pool.loans == 0


async def test_a_loan_in_any_value_is_not_copied() -> None:
    async with sending(1) as sender:
        await sender.warm_up()
        for make in (
            lambda frame: {"t": 1.0, "frame": frame},
            lambda frame: [1, "x", {"deep": (frame,)}],
            lambda frame: {"meta": {str(i): i for i in range(200)}, "frame": frame, "small": np.arange(20)},
            lambda frame: {"at": datetime.now(UTC), "kinds": {1, 2j}, "frame": frame},
        ):
            uses = sender.uses
            frame = sender.fill()
            sender.send(frame, make(frame))
            assert (sender.uses, frame.shape) == (uses + 1, (0,))
            await sender.check()


async def test_of_several_loans_in_a_value_one_is_not_copied_and_all_are_empty() -> None:
    async with sending(2) as sender:
        await sender.warm_up()
        first, last = sender.fill(), sender.fill(MIB // 2)
        rest = bytearray(10)
        sender.expected.append(loaned.tell([first, last]))
        sender.ipc.broadcast("n", [first, last], transfer=[last, rest, first])
        assert (first.shape, last.shape, len(rest)) == ((0,), (0,), 0)
        del first, last
        await sender.check()
        assert sender.pool.loans == 0


async def test_what_does_not_fit_beside_a_loan_has_it_copied() -> None:
    async with sending(1) as sender:
        await sender.warm_up()
        for value in (
            lambda frame: [frame, np.zeros(MIB)],
            lambda frame: [np.zeros(MIB), frame],
            lambda frame: [frame, "x" * 10_000],
            lambda frame: [frame, *(each.to_bytes(2, "little") * 40_000 for each in range(9))],
            lambda frame: [frame, frame],
            lambda frame: frame[1:],
            lambda frame: frame.reshape(1024, 1024).T,
            lambda _frame: "nothing of it",
        ):
            frame = sender.fill()
            sender.send(frame, value(frame))
            assert frame.shape == (0,)
            del frame
            await sender.check()
            assert sender.pool.loans == 0
        await until(lambda: sender.pool.blocks == 0)


async def test_without_transfer_a_loan_is_copied_and_stays() -> None:
    async with sending(1) as sender:
        await sender.warm_up()
        frame = sender.fill()
        for number in range(3):
            sender.send(frame, transfer=False)
            frame[:] = number
        assert frame.size == MIB
        assert sender.pool.loans == 1
        await sender.check()


# ---- what else shows its memory ----

VIEWS: dict[str, Callable[[Any], Any]] = {
    "a slice": lambda frame: frame[100:200],
    "an array of the same": lambda frame: np.asarray(frame),
    "a slice of an array of the same": lambda frame: np.asarray(frame)[5:],
    "a part of a reshaped one": lambda frame: frame.reshape(1024, 1024)[3:],
    "another dtype": lambda frame: frame.view(np.float32),
    "a slice of a slice": lambda frame: frame[1:][1:],
    "its base": lambda frame: frame.base,
}


async def test_a_loan_that_numpy_has_views_of_is_copied_and_they_change_nothing_that_was_sent() -> None:
    async with sending(1) as sender:
        await sender.warm_up()
        for name, view in VIEWS.items():
            frame = sender.fill()
            seen = view(frame)
            shown = bytes(seen)
            with stopped(*sender.host.renderers):
                sender.send(frame)
                assert frame.shape == (0,)
                assert bytes(seen) == shown, name
                seen.view(np.uint8)[...] = 77  # still its own memory
                for _ in range(3):
                    sender.send(sender.fill())
                assert seen.view(np.uint8).min() == 77, name
            await sender.check()
            assert sender.pool.loans == 1, name
            del seen, frame
            await until(lambda: sender.pool.blocks == 0)


async def test_a_view_behind_whatever_name_is_noticed() -> None:
    async with sending(1) as sender:
        await sender.warm_up()
        value = {"frame": sender.fill()}
        seen = value["frame"][:10]
        sender.expected.append(loaned.tell(value))
        with stopped(*sender.host.renderers):
            sender.ipc.broadcast("n", value, transfer=[value["frame"]])
            seen[:] = 77
        await sender.check()


async def test_views_that_are_gone_do_not_matter() -> None:
    async with sending(1) as sender:
        await sender.warm_up()
        frame = sender.fill()
        frame[5:][1:].fill(1)
        np.asarray(frame).reshape(1024, 1024)[3] += 1
        memoryview(frame)[0] = 9
        io.BytesIO(bytes(100)).readinto(frame)
        same = frame
        uses = sender.uses
        sender.send(frame)
        assert sender.uses == uses, "it is not copied into another block"
        assert same.shape == (0,)
        await sender.check()


ALIASES: dict[str, Callable[[Any], Any]] = {
    "a memoryview": memoryview,
    "a masked array": np.ma.asarray,
    "an array of a memoryview": lambda frame: np.frombuffer(frame, np.uint8),
    "an array with other strides": np.lib.stride_tricks.as_strided,
    "an array of ctypes": (ctypes.c_uint8 * MIB).from_buffer,
    "an array of another class": lambda frame: frame.view(np.recarray),
}


async def test_whatever_else_shows_a_loans_memory_never_shows_another_message() -> None:
    async with sending(1) as sender:
        await sender.warm_up()
        seen: dict[str, tuple[Any, bytes]] = {}
        for name, alias in ALIASES.items():
            frame = sender.fill()
            seen[name] = alias(frame), bytes(frame)
            sender.send(frame)
            assert frame.shape == (0,)
        del frame
        await sender.check()
        for _ in range(30):  # more than the slab has room for
            sender.send(sender.fill())
            assert sender.pool.loans == len(ALIASES)
            await sender.ipc.drain()
        sender.ipc.broadcast("n", np.ones(MIB // 8))
        sender.expected.append(loaned.told(np.ones(MIB // 8)))
        for name, (each, shown) in seen.items():
            assert bytes(np.asarray(each)) == shown, name
            np.asarray(each)[:] = 5  # changes nothing of what is on its way: that message is heard already
        await sender.check()
        for left in reversed(range(len(ALIASES))):
            seen.popitem()
            each = None
            assert sender.pool.loans == left
        await until(lambda: sender.pool.blocks == 0)


# ---- what is given back ----


async def test_what_was_not_sent_is_empty_at_the_end_of_with_and_given_back_with_its_last_name() -> None:
    async with sending(1) as sender:
        with sender.ipc.loan((1000, 1000)) as frame:
            assert (frame.dtype, sender.pool.loans) == (np.float64, 1)
            assert sender.pool.lent >= 8_000_000
        assert (frame.shape, sender.pool.loans) == ((0,), 1)
        with pytest.raises(ValueError, match="a test"), sender.ipc.loan(MIB, np.uint8) as frame:  # noqa: PT012
            assert sender.pool.loans == 1, "the first one had this name"
            raise ValueError("a test")
        assert (frame.shape, sender.pool.loans) == ((0,), 1)
        with frame[1:] if frame.size else sender.ipc.loan(MIB, np.uint8) as frame:
            part = frame[:10]
            part[:] = 3
        assert (frame.shape, sender.pool.loans, part.tolist()) == ((0,), 1, 10 * [3])
        del frame
        assert sender.pool.loans == 1
        del part
        assert (sender.pool.loans, sender.pool.blocks) == (0, 0)
        await sender.warm_up()
        with sender.ipc.loan(MIB, np.uint8) as frame:
            frame[:] = 5
            sender.send(frame)
        assert frame.shape == (0,)
        await sender.check()


async def test_a_loan_that_nothing_refers_to_is_given_back_from_any_thread() -> None:
    async with sending(1) as sender:
        frames = [sender.fill() for _ in range(4)]
        cycle: list[Any] = [frames.pop()]
        cycle.append(cycle)
        view = frames.pop()[5:]
        assert sender.pool.loans == 4
        thread = threading.Thread(target=frames.clear)
        thread.start()
        thread.join()
        assert sender.pool.loans == 2
        del cycle
        gc.collect()
        assert sender.pool.loans == 1
        del view
        assert (sender.pool.loans, sender.pool.blocks) == (0, 0)


async def test_threads_may_drop_loans_while_main_takes_and_sends_them() -> None:
    async with sending(1) as sender:
        await sender.warm_up()
        dropped: list[Any] = []
        done = threading.Event()

        def drop() -> None:
            while not done.is_set():
                with suppress(IndexError):
                    dropped.pop()
                time.sleep(0.0001)

        threads = [threading.Thread(target=drop) for _ in range(2)]
        for each in threads:
            each.start()
        try:
            for _ in range(300):
                frame = sender.fill(MIB // 8)
                if random.randrange(2):
                    sender.send(frame)
                dropped.append(frame)
                frame = None
                await sender.ipc.drain()
        finally:
            done.set()
            for each in threads:
                each.join()
        dropped.clear()
        await sender.check()
        await until(lambda: sender.pool.blocks == 0)


async def test_a_signals_handler_that_raises_anywhere_loses_no_block_and_changes_no_event() -> None:
    counted, armed = [0], [False]

    def on_alarm(_number: int, _frame: FrameType | None) -> None:
        if armed[0]:
            armed[0] = False
            counted[0] += 1
            raise AlarmError

    async with sending(2) as sender:
        await sender.warm_up()
        before = signal.signal(signal.SIGALRM, on_alarm)
        wrong: list[Any] = []
        try:
            until_ = time.monotonic() + 1.0
            while time.monotonic() < until_ or counted[0] < 50:
                frame = None
                with suppress(AlarmError):
                    armed[0] = True
                    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 40e-6))
                    frame = sender.ipc.loan(MIB // 8, np.uint8)
                    frame[:] = 7
                    sender.ipc.broadcast("n", frame, transfer=[frame])
                    armed[0] = False
                if frame is not None and frame.size:
                    frame[:] = 99  # it was not sent, or it was copied
                elif frame is not None and frame.shape != (0,):
                    wrong.append(frame.shape)
                await sender.ipc.drain()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert wrong == []
        frame = None
        gc.collect()
        assert sender.pool.loans == 0
        sender.ipc.broadcast("n", "the last")
        expected = loaned.told(np.full(MIB // 8, 7, np.uint8))
        for each in sender.host.renderers:
            heard = await sender.ipc.run(each, "loaned:take", 1)
            while heard[-1] != "the last":
                heard += await sender.ipc.run(each, "loaned:take", 1)
            assert {told for told in heard[:-1] if told != expected} == set()
        sender.expected.clear()
        await until(lambda: sender.pool.blocks == 0)


async def test_a_send_that_fails_leaves_the_loan_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async with sending(1) as sender:
        await sender.warm_up()
        frame = sender.fill()

        def fail(*_: Any) -> int:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(_fast, "is_lent", lambda _: False)
            patch.setattr(Topic, "send", fail)
            with pytest.raises(KeyboardInterrupt):
                sender.ipc.broadcast("n", frame, transfer=[frame])
        for wrong in ([frame, object()], [frame, print]):
            with pytest.raises(DataCloneError):
                sender.ipc.broadcast("n", wrong, transfer=[frame])
        assert frame.size == MIB
        del wrong
        sender.send(frame)
        await sender.check()


# ---- a pool that is full, or none ----


async def test_a_full_pool_is_an_error_that_says_who_holds_it_how_long_and_what_to_do() -> None:
    async with sending(3, pool_limit=8 * MIB) as sender:
        await sender.warm_up()
        slow, gone, _ = sender.host.renderers
        with stopped(slow, gone):
            sender.send(sender.fill())
            core = sender.host.main._core
            core.disconnect(core.connections[gone.frame_id], "a test")
            await asyncio.sleep(0.1)
            frames: list[Any] = []
            with pytest.raises(PoolFull) as caught:
                frames.extend(sender.fill(1500_000) for _ in range(9))
            text = str(caught.value)
            assert "no room for a loan of 1500000 bytes" in text
            assert f"of at most {8 * MIB} bytes" in text
            pages = MIB + 4096
            times = [
                re.search(rf"renderer {slow.frame_id} \(pid {slow.pid}\) has {pages} bytes, for (\d+\.\d) s", text),
                re.search(rf"renderer {gone.frame_id}, which was disconnected, has {pages} bytes, for (.*?) s", text),
                re.search(rf"main itself has \d+ bytes in {len(frames)} loans, for (\d+\.\d) s", text),
            ]
            assert [float(each[1]) >= 0.1 for each in times[:2] if each] == [True, True]
            assert times[2] is not None
            assert "MainProcess(pool_limit=...)" in text
            assert isinstance(caught.value, BufferError)
        del caught
        frames.clear()
        gone.kill()
        sender.host.renderers.remove(gone)
        await sender.check()
        assert sender.fill(1500_000).size == 1500_000


async def test_loans_grow_the_pool_and_what_they_took_is_used_again() -> None:
    async with sending(1, pool_limit=64 * MIB) as sender:
        frames = [sender.fill(5 * MIB) for _ in range(9)]
        assert (sender.pool.loans, sender.pool.slabs) == (9, 2)
        assert 45 * MIB < sender.pool.lent < 46 * MIB
        while frames:
            sender.send(frames.pop())
            await sender.ipc.drain()
        await sender.check()
        await until(lambda: sender.pool.blocks == 0)
        frames = [sender.fill(5 * MIB) for _ in range(9)]
        assert sender.pool.slabs == 2


@pytest.mark.parametrize("options", [{"pool_limit": 0}, {"form": "shm"}, {"pool_limit": 2 * MIB}, {"values": "plain"}])
async def test_without_room_in_a_pool_a_loan_is_an_array_as_any_other(options: dict[str, Any]) -> None:
    async with sending(1, **options) as sender:
        for _ in range(3):
            frame = sender.fill()
            sender.send(frame, {"frame": frame})
            assert frame.shape == (0,)
        await sender.check()


async def test_where_no_slab_can_be_made_a_loan_is_an_array_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async with sending(1) as sender:
        monkeypatch.setattr(SlabPool, "_grow", lambda *_: False)  # as on an old kernel, or without memory
        sender.send(sender.fill())
        assert sender.pool.slabs == 0
        await sender.check()


async def test_a_renderer_that_comes_late_or_holds_its_share_hears_all_the_same() -> None:
    async with sending(1, high_water=MIB // 2, pool_limit=32 * MIB) as sender:
        await sender.warm_up()
        (first,) = sender.host.renderers
        late = await sender.host.main.spawn_renderer()
        await sender.ipc.run(late, "loaned:note", "n")
        sender.host.renderers.append(late)
        with stopped(first):
            for number in range(8):  # its share is 4 of them
                frame = sender.fill()
                sender.send(frame, {"number": number, "frame": frame})
                del frame
            assert sender.pool.holders[first.frame_id] <= 4 * MIB + 8 * 4096
        await sender.check()
        await until(lambda: sender.pool.blocks == 0)


# ---- the other ways to send ----


async def test_mains_own_listeners_have_a_copy_of_their_own() -> None:
    async with sending(1) as sender:
        await sender.warm_up()
        heard: list[Any] = []
        stop = sender.ipc.listen("n", lambda _event, value: heard.append(value))
        for _ in range(3):
            frame = sender.fill()
            sender.send(frame)
            assert frame.shape == (0,)
        await until(lambda: len(heard) == 3)
        stop()
        assert [loaned.told(each) for each in heard] == sender.expected
        for each in heard:
            each.fill(9)
        for _ in range(6):
            sender.send(sender.fill())
        assert all(each.min() == 9 for each in heard)
        await sender.check()


async def test_kept_and_sent_to_one_a_loan_is_copied_and_given_back() -> None:
    async with sending(2) as sender:
        await sender.warm_up()
        one, other = sender.host.renderers
        frame = sender.fill()
        expected = loaned.told(frame)
        sender.ipc.broadcast("kept", frame, transfer=[frame], keep=True)
        assert frame.shape == (0,)
        del frame
        assert sender.pool.blocks == 0
        await sender.ipc.run(one, "loaned:note", "kept", "disconnect", True)
        assert await sender.ipc.run(one, "loaned:take", 1) == [expected]
        frame = sender.fill()
        expected = loaned.told(frame)
        sender.ipc.send(other.frame_id, "n", frame, transfer=[frame])
        assert frame.shape == (0,)
        del frame
        assert sender.pool.blocks == 0
        assert await sender.ipc.run(other, "loaned:take", 1) == [expected]


async def test_another_thread_has_loans_too_and_may_send_those_of_main() -> None:
    async with sending(2) as sender:
        await sender.warm_up()
        frame = sender.fill()
        expected = [loaned.told(frame)]

        def work() -> None:
            sender.ipc.broadcast("n", frame, transfer=[frame])
            own = sender.ipc.loan(MIB, np.uint8)
            own[:] = 4
            expected.append(loaned.told(own))
            sender.ipc.broadcast("n", own, transfer=[own])

        await asyncio.to_thread(work)
        assert frame.shape == (0,)
        for each in sender.host.renderers:
            assert await sender.ipc.run(each, "loaned:take", 2) == expected
        frame = None
        assert sender.pool.loans == 0


async def test_in_a_renderer_the_same_code_sends_an_array_of_its_own() -> None:
    async with sending(2) as sender:
        sender.ipc.handle("loaned", lambda _event, array: loaned.told(array))
        one, other = sender.host.renderers
        expected, *shapes, answer = await sender.ipc.run(one, "loaned:lend_here", "n")
        assert shapes == 3 * [(0,)]
        assert answer == loaned.told(np.ones(100_000))
        assert await sender.ipc.run(other, "loaned:take", 1) == [expected]


async def test_a_loan_of_one_extension_is_never_read_in_place_by_those_of_another() -> None:
    import other as other_extension

    async with sending(2) as sender:
        manifest = ExtensionManifest("other", "1", main="other:OtherMain", renderer="other:OtherRenderer")
        await sender.host.main.install(manifest)
        await sender.warm_up()
        frame = other_extension.IpcMain.get_instance().loan(MIB, np.uint8)
        frame[:] = 6
        with stopped(*sender.host.renderers):
            sender.send(frame)
            del frame
            slabs = {each.owner: each.owner.look(each.number) for each in sender.host.main._core.pool._slabs}
            assert [state.taken > 0 for owner, state in slabs.items() if owner is sender.ipc._port.slabs] == [True]
            assert [state.taken for owner, state in slabs.items() if owner is not sender.ipc._port.slabs] == [0]
        await sender.check()


async def test_a_traced_loan_arrives_and_its_size_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LENSIPC_TRACE", "1")
    caplog.set_level("DEBUG", "lensipc.trace")
    async with sending(1) as sender:
        await sender.warm_up()
        uses = sender.uses
        frame = sender.fill(MIB + 1)
        sender.send(frame, {"frame": frame, "kinds": {1, 2j}})
        frame = sender.fill(MIB + 2)
        sender.send(frame)
        assert sender.uses == uses + 2
        await sender.check()
    traced = re.findall(r"main > renderer 1: EVENT, (10487\d\d) bytes, channel \d+ lab/n", caplog.text)
    assert traced[-2:] == [str(MIB + 193), str(MIB + 130)]


# ---- wrong calls ----


async def test_what_is_no_open_loan_is_refused_and_nothing_is_sent() -> None:
    async with sending(1) as sender:
        frame = sender.fill()
        for wrong in (frame[1:], frame.reshape(1024, 1024), np.asarray(frame)):
            with pytest.raises(DataCloneError, match=r"transfer\[0\] is an array that does not own its memory"):
                sender.ipc.broadcast("n", frame, transfer=[wrong])
        with pytest.raises(DataCloneError, match="twice"):
            sender.ipc.broadcast("n", frame, transfer=[frame, frame])
        del wrong
        assert frame.size == MIB
        with pytest.raises(RuntimeError, match=r"`with` takes what ipc\.loan has returned"), frame[1:]:
            pass
        copy = frame.copy()
        sender.send(copy)
        assert copy.shape == (0,)
        sender.send(frame)
        with pytest.raises(RuntimeError, match=r"`with` takes what ipc\.loan has returned"), frame:
            pass
        sender.send(frame)  # it is empty now, as any array that was transferred
        assert frame.shape == (0,)
        await sender.check()


async def test_wrong_arguments_are_named() -> None:
    async with sending(1) as sender:
        loan = sender.ipc.loan
        shape: Any
        for shape in (-1, (3, -1)):
            with pytest.raises(ValueError, match="a shape has no negative lengths"):
                loan(shape)
        for shape in ("ab", 1.5, (1, 2.5), None):
            with pytest.raises(TypeError):
                loan(shape)
        for dtype in (object, np.dtype([("a", object)]), "S"):
            with pytest.raises(TypeError, match="there is no loan of what cannot cross"):
                loan(100_000, dtype)
        with pytest.raises((MemoryError, ValueError)):
            loan((1 << 40, 1 << 20))
        assert sender.pool.loans == 0
        for shape in (0, (), (0, 5), (100_000, 0)):
            frame = loan(shape, np.int32)
            assert frame.shape == (shape if isinstance(shape, tuple) else (shape,))
            frame[...] = 1
            sender.send(frame)
        frame = loan((), "V100000")
        sender.send(frame)
        await sender.check()


async def test_what_is_computed_of_a_loan_and_what_is_done_in_place_is_as_with_any_array() -> None:
    async with sending(1) as sender:
        await sender.warm_up()
        frame = sender.fill((256, 1024))
        assert type(frame + 1) is type(np.sqrt(frame)) is np.ndarray
        assert type(frame.sum()) is np.uint64
        same = frame
        frame += 1
        frame[:2] *= 2
        np.add(frame, 1, out=frame)
        assert frame is same
        read = io.BytesIO(bytes(range(256)) * 1024)
        assert read.readinto(frame) == frame.size
        assert frame[7].tolist() == 4 * list(range(256))
        copy = frame.copy()
        uses = sender.uses
        sender.send(frame)
        assert sender.uses == uses, "a copy is no view"
        assert copy.size == 256 * 1024
        await sender.check()


# ---- the end of the extension, the host, the process ----


async def test_a_loan_outlives_its_extension_and_its_host_and_then_goes() -> None:
    async with sending(1) as sender:
        frame, other, early = sender.fill(), sender.fill(), sender.fill(3 * MIB)
        await sender.host.main.uninstall("lab")
        frame[:] = 1
        del early
        with pytest.raises(NotActivatedError):
            sender.ipc.broadcast("n", frame, transfer=[frame])
        with pytest.raises(NotActivatedError):
            sender.ipc.loan(MIB)
        assert sender.pool.loans == 2
    frame += 1
    assert (frame.min(), other.size) == (2, MIB)
    with other as given:
        pass
    assert len(slabs_of(os.getpid())) == 1
    del other, given
    part = frame[3:]
    frame = None
    assert (len(slabs_of(os.getpid())), part.max()) == (1, 2)
    thread = threading.Thread(target=[part].clear)
    del part
    thread.start()
    thread.join()
    del thread
    assert slabs_of(os.getpid()) == {}


async def test_a_loan_of_a_host_that_is_closed_is_copied_by_the_next_one() -> None:
    async with sending(1) as sender:
        frame = sender.fill()
        held = memoryview(frame)
    with pytest.raises(NotActivatedError):
        sender.ipc.loan(MIB)
    async with sending(1) as other:
        await other.warm_up()
        other.send(frame)
        assert frame.shape == (0,)
        await other.check()
    assert held.nbytes == MIB
    assert held[0] >= 0


async def test_a_slab_is_not_given_back_while_a_loan_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lensipc.main.slab_pool.IDLE", 0.02)
    monkeypatch.setattr("lensipc.main.slab_pool.KEPT", 0)
    async with sending(1) as sender:
        await sender.warm_up()
        await until(lambda: sender.pool.slabs == 0)
        frame = sender.fill()
        await asyncio.sleep(0.1)
        assert sender.pool.slabs == 1
        frame[:] = 3
        sender.send(frame)
        await sender.check()
        await asyncio.sleep(0.1)
        assert sender.pool.slabs == 1
        frame = None
        await until(lambda: sender.pool.slabs == 0)


@pytest.mark.parametrize("closed", [False, True])
async def test_in_a_fork_of_main_a_loan_can_be_read_and_is_not_the_parents(closed: bool) -> None:
    async with sending(1) as sender:
        await sender.warm_up()
        frame = sender.fill()
        frame[:] = 1
        memory = memoryview(frame)
        if not closed:
            _look_from_a_fork(frame, memory)
            sender.send(frame)
            await sender.check()
    if closed:
        _look_from_a_fork(frame, memory)
    assert (memory[0], memory[MIB - 1]) == (1, 1)


def _look_from_a_fork(frame: Any, memory: memoryview) -> None:
    """A child of fork has zeros in the array, and writes them as it likes."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            zeros = frame.max() == 0 == memory[100]
            frame[:] = 3
            memory[5] = 4
            clean = slabs_of(os.getpid()) == {} and frame.min() == 3
            memory.release()
            del frame  # gives nothing back: it is the parent's
            status = 0 if zeros and clean else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (frame.min(), frame.max()) == (1, 1)


AT_EXIT = """
    import asyncio, gc, threading
    import lab, numpy as np
    from lensipc import MainProcess

    class Keeper:
        def __del__(self):
            self.frame[:] = 5

    def wait(frame):
        threading.Event().wait()

    async def main():
        global frame, view, memory, keeper
        async with MainProcess() as host:
            await host.install(lab.MANIFEST)
            ipc = lab.IpcMain.get_instance()
            frame, other = ipc.loan(1 << 20, np.uint8), ipc.loan(1 << 20, np.uint8)
            view, memory = other[5:], memoryview(ipc.loan(100_000, np.uint8))
            keeper = Keeper()
            keeper.frame, keeper.itself = ipc.loan(1 << 20, np.uint8), keeper
            threading.Thread(target=wait, args=[ipc.loan(1 << 20, np.uint8)], daemon=True).start()
            if {closed} == 0:
                print("not closed", flush=True)
                raise SystemExit(0)

    asyncio.run(main())
    print(frame.shape, len(memory))
"""


@pytest.mark.parametrize("closed", [0, 1])
async def test_a_process_may_end_with_loans_wherever_they_are(closed: int) -> None:
    async with program(AT_EXIT.replace("{closed}", str(closed))) as one:
        assert await said(one) == [["not closed"], ["(1048576,) 100000"]][closed]


# ---- all at once ----


@pytest.mark.parametrize("seed", [random.randrange(2**32)])
async def test_whoever_is_killed_or_slow_every_loan_is_heard_as_it_was(seed: int) -> None:
    rng = random.Random(seed)
    kept: list[Any] = []
    async with sending(1, pool_limit=48 * MIB, high_water=MIB) as sender:
        reader = await sender.host.main.spawn_renderer()
        await sender.ipc.run(reader, "loaned:note", "n", "disconnect", False, "view")
        sender.host.renderers.append(reader)
        for round_ in range(2):
            victim = await sender.host.main.spawn_renderer()
            await sender.ipc.run(victim, "loaned:note", "n", "disconnect", False, ["copy", "view"][round_ % 2])
            until_ = time.monotonic() + 0.3
            while time.monotonic() < until_:
                frame = sender.fill(int(2 ** rng.uniform(15, 21.5)))
                if rng.randrange(4) == 0:
                    views = VIEWS["a slice"], VIEWS["an array of the same"], ALIASES["a memoryview"]
                    kept.append(rng.choice(views)(frame))
                sender.send(frame, {"frame": frame}, transfer=rng.randrange(5) > 0)
                if len(kept) > 4:
                    kept.pop(rng.randrange(5))
                await sender.ipc.drain()
            victim.kill()
            await victim.wait()
            await sender.check()
        frame = None
        kept.clear()
        assert all(await sender.ipc.run(reader, "loaned:let_go"))
        await until(lambda: sender.pool.blocks == 0)
        assert sender.pool.loans == 0
