"""Listeners that do not hear every event at once: the newest only, or so many calls at a time."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keeping
import pytest
from hosting import Host, hosting, plain_hosting, script, until

from lensipc import RendererHandle
from lensipc.main import connection as main_connection

Places = tuple[RendererHandle | None, ...]


async def pace(
    host: Host, where: Places, name: str, seconds: float, options: dict[str, Any], blocks: bool = False
) -> None:
    """Listen to "n" slowly, in renderers or in main; then main knows it."""
    for each in where:
        if each is None:
            keeping.pace(host.ipc, name, "n", seconds, options, blocks)
        else:
            await host.ipc.run(each, "keeping:pace", name, "n", seconds, options, blocks)


async def heard(host: Host, where: RendererHandle | None, name: str) -> list[Any]:
    """What was noted: (number, missed, how many calls ran)."""
    return host.ipc.heard[name] if where is None else await host.ipc.run(where, "heard", name)


async def all_heard(host: Host, where: RendererHandle | None, name: str, last: int) -> list[Any]:
    """The same, once `last` is in it."""
    while last not in [each[0] for each in await heard(host, where, name)]:
        await asyncio.sleep(0.01)
    return await heard(host, where, name)


def check_latest(noted: list[Any], count: int, running: int = 1) -> None:
    """Of so many events each was heard, or counted as missed before a newer one."""
    before = -1
    for number, missed, ran in noted:
        assert number - before - 1 == missed
        assert ran <= running
        before = number
    assert before == count - 1


@pytest.mark.parametrize("blocks", [False, True], ids=["async", "plain"])
async def test_a_slow_listener_hears_the_newest_only_and_how_many_it_skipped(blocks: bool) -> None:
    async with hosting(2) as host:
        source, other = host.renderers
        where = (None, other)
        await pace(host, where, "slow", 0.1, {"latest": True}, blocks)
        await pace(host, where, "fast", 0, {})
        await host.ipc.run(source, "keeping:tick", "n", 60)
        for each in where:
            noted = await all_heard(host, each, "slow", 59)
            assert len(noted) < 60
            check_latest(noted, 60)
            assert [note[:2] for note in await all_heard(host, each, "fast", 59)] == [(n, 0) for n in range(60)]


@pytest.mark.parametrize("sender", ["main", "a renderer"])
async def test_of_what_comes_at_once_a_plain_listener_hears_the_newest(sender: str) -> None:
    async with hosting(2) as host:
        source, other = host.renderers
        where = (None, other)
        await pace(host, where, "plain", 0.05, {"latest": True}, blocks=True)
        if sender == "main":
            for number in range(3000):
                host.ipc.broadcast("n", number)
        else:
            await host.ipc.run(source, "broadcast", "n", 3000)
        for each in where:
            noted = await all_heard(host, each, "plain", 2999)
            assert len(noted) < 10  # a turn of the loop handles 64 or 256 events
            check_latest(noted, 3000)


async def test_events_without_end_put_a_call_off_for_a_while_only() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        got: list[int] = []
        host.ipc.listen("n", lambda _event, number: got.append(number), latest=True)
        host.ipc.listen("n", lambda _event, number: host.ipc.broadcast("n", number + 1))
        await pace(host, (renderer,), "there", 0, {"latest": True}, blocks=True)
        host.ipc.broadcast("n", 0)
        await until(lambda: len(got) >= 3)
        while len(await heard(host, renderer, "there")) < 3:
            await asyncio.sleep(0.01)


async def test_no_more_calls_run_at_once_than_are_allowed() -> None:
    async with hosting(1) as host:
        where = (None, host.renderers[0])
        await pace(host, where, "three of all", 0.2, {"concurrency": 3})
        await pace(host, where, "three of the latest", 0.2, {"concurrency": 3, "latest": True})
        await pace(host, where, "any", 0.2, {})
        for number in range(12):
            host.ipc.broadcast("n", number)
            await asyncio.sleep(0.003)
        for each in where:
            everything = await all_heard(host, each, "three of all", 11)
            assert [note[:2] for note in everything] == [(n, 0) for n in range(12)]
            latest = await all_heard(host, each, "three of the latest", 11)
            check_latest(latest, 12, running=3)
            assert len(latest) < 12
            assert max(running for _, _, running in everything) == max(running for _, _, running in latest) == 3
            assert max(running for _, _, running in await all_heard(host, each, "any", 11)) > 3


async def test_after_its_disposer_returned_no_call_begins_though_events_waited() -> None:
    async with hosting(1) as host:
        where = (None, host.renderers[0])
        for name, options in (("latest", {"latest": True}), ("one", {"concurrency": 1})):
            await pace(host, where, name, 0.8, options)
        host.ipc.broadcast("n", 0)
        for each in where:
            for name in ("latest", "one"):
                await all_heard(host, each, name, 0)
        host.ipc.broadcast("n", 1)
        host.ipc.broadcast("n", 2)
        await host.ipc.drain()
        dispose = ("dispose", "latest", ""), ("dispose", "one", "")
        keeping.send(host.ipc, *dispose)
        await host.ipc.run(host.renderers[0], "keeping:send", *dispose)
        await asyncio.sleep(1)
        for each in where:
            for name in ("latest", "one"):
                assert await heard(host, each, name) == [(0, 0, 1)]
        await until(lambda: host.ipc._port.table.running == set())


@pytest.mark.parametrize("blocks", [False, True], ids=["async", "plain"])
async def test_one_event_waits_in_main_for_a_process_that_does_not_read_and_it_is_the_newest(blocks: bool) -> None:
    async with hosting(1, outbox_limit=4 << 20) as host:
        (slow,) = host.renderers
        await pace(host, (slow,), "camera", 0.01, {"latest": True}, blocks)
        os.kill(slow.pid, signal.SIGSTOP)
        for number in range(100):
            host.ipc.broadcast("n", bytes(1 << 20), number)  # no OutboxFull
        assert slow._connection.endpoint.outbox < 3 << 20  # the one that is on its way, and the newest
        os.kill(slow.pid, signal.SIGCONT)
        noted = await all_heard(host, slow, "camera", 99)
        check_latest(noted, 100)
        assert len(noted) < 5


async def test_a_listener_that_takes_long_costs_the_memory_of_what_it_hears_and_of_the_newest() -> None:
    """A camera of 2 MiB frames: 120 frames in all, of which 4 or so are heard."""
    async with hosting(2) as host:
        camera, other = host.renderers
        await host.ipc.run(other, "keeping:hold_frames", "camera", 0.3, {"latest": True})
        keeping.hold_frames(host.ipc, "camera", 0.3, {"latest": True})

        async def film(count: int) -> list[tuple[list[Any], int]]:
            await host.ipc.run(camera, "keeping:film", "camera", count)
            return [keeping.seen(host.ipc), await host.ipc.run(other, "keeping:seen")]

        before = await film(20)
        after = await film(100)
        for (_, memory), (_, memory_then) in zip(before, after, strict=True):
            assert memory_then - memory < 50 * 1024 * 1024  # all of the frames are 200 MiB
        in_main: list[Any] = keeping.seen(host.ipc)[0]
        await until(lambda: in_main[-1][0] == 99)
        for frames, _ in await film(0):
            assert all(first == number % 251 for number, _, first in frames)
            assert len(frames) < 120
        assert sum(missed for _, missed, _ in in_main) + len(in_main) == 120


@pytest.fixture
def few_listeners() -> Iterator[int]:
    """Main's bound on async listeners of one renderer's events is 20."""
    module: Any = main_connection
    most = module.MAX_LISTENERS
    module.MAX_LISTENERS = 20
    yield 20
    module.MAX_LISTENERS = most


def flood(host: Host, seconds: float) -> tuple[asyncio.Task[None], Any]:
    """The one renderer sends 100 events to a listener in main that takes so long for each; and its connection."""
    (renderer,) = host.renderers
    keeping.pace(host.ipc, "one", "n", seconds, {"concurrency": 1})
    sending = asyncio.create_task(host.ipc.run(renderer, "broadcast", "n", 100))
    return sending, host.main._core.connections[renderer.frame_id]


async def test_events_that_wait_in_main_hold_their_sender_back(few_listeners: int) -> None:
    async with hosting(1) as host:
        sending, connection = flood(host, 0.005)
        most = 0
        while len(host.ipc.heard["one"]) < 100:
            most = max(most, connection.running_listeners)
            await asyncio.sleep(0.001)
        await sending
        assert most == few_listeners
        assert [each[0] for each in host.ipc.heard["one"]] == list(range(100))
        await until(lambda: connection.running_listeners == 0)


async def test_what_a_paced_listener_raises_is_logged_and_it_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async with hosting() as host:
        got: list[int] = []

        def bad(_event: object, number: int) -> None:
            got.append(number)
            raise ValueError("no")

        async def bad_later(_event: object, number: int) -> None:
            got.append(number)
            raise SystemExit("not either")

        def takes_too_little(_event: object) -> None: ...

        for options in ({"latest": True}, {"concurrency": 1}):
            host.ipc.listen("n", bad, **options)
            host.ipc.listen("n", bad_later, **options)
            host.ipc.listen("n", takes_too_little, **options)
        for number in range(3):
            host.ipc.broadcast("n", number)
            await until(lambda number=number: got.count(number) == 4)
        await until(lambda: caplog.text.count("raised") >= 18)
        assert "it is called with the event first and then 1 argument of the message" in caplog.text
        assert "listener of lab/n in main raised" in caplog.text


async def test_each_call_of_a_paced_listener_has_context_variables_of_its_own() -> None:
    from contextvars import ContextVar

    variable: ContextVar[int] = ContextVar("variable", default=0)
    async with hosting() as host:
        found: list[int] = []

        async def sets(_event: object) -> None:
            found.append(variable.get())
            variable.set(1)
            await asyncio.sleep(0)

        def sets_at_once(_event: object) -> None:
            found.append(variable.get())
            variable.set(1)

        for options in ({"latest": True}, {"concurrency": 1}):
            host.ipc.listen("n", sets, **options)
            host.ipc.listen("n", sets_at_once, **options)
        for times in range(1, 4):
            host.ipc.broadcast("n")
            await until(lambda times=times: len(found) == 4 * times)
        assert found == [0] * 12


async def test_when_the_extension_is_disabled_nothing_that_waits_is_heard_and_what_runs_is_cancelled() -> None:
    async with hosting() as host:
        got: list[Any] = []

        async def slow(_event: object, number: int) -> None:
            got.append(number)
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                got.append("cancelled")
                raise

        host.ipc.listen("n", slow, latest=True)
        host.ipc.listen("n", slow, concurrency=1)
        for number in range(3):
            host.ipc.broadcast("n", number)
        await until(lambda: len(got) == 2)
        await host.main.disable("lab")
        await asyncio.sleep(0.02)
        assert sorted(map(str, got)) == ["0", "2", "cancelled", "cancelled"]


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"concurrency": 0}, ValueError, "concurrency is at least 1, not 0"),
        ({"concurrency": 1.5}, TypeError, "a number of calls, or None, not float"),
        ({"concurrency": True}, TypeError, "a number of calls, or None, not bool"),
    ],
)
async def test_a_concurrency_that_is_no_number_of_calls_is_refused(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    async with hosting() as host:
        with pytest.raises(error, match=text):
            host.ipc.listen("n", print, **options)
        with pytest.raises(TypeError, match="a listener is a function, not int"):
            host.ipc.listen("n", 5, latest=True)  # type: ignore[call-overload]
        for option in "replay", "latest":
            said: dict[str, Any] = {option: True}
            with pytest.raises(TypeError, match=r"the listener, .*does not take the event, which comes first: `lambda"):
                host.ipc.listen("n", lambda: None, **said)


@pytest.mark.parametrize("how", ["socket", "semaphore", "foreign"])
async def test_a_script_and_a_foreign_loop_hear_the_newest_only(tmp_path: Path, how: str) -> None:
    async with plain_hosting(tmp_path / "s") as host:

        def burst(_event: object) -> None:
            for number in range(1000):
                host.ipc.broadcast("n", number)

        host.ipc.listen("go", burst)
        out = await script(
            host,
            f"""
            with RendererProcess.connect(path, wakeup={"semaphore" if how == "semaphore" else "socket"!r}) as renderer:
                ipc, heard, said = plain.Ipc.get_instance(), [], []
                def listener(event, number):
                    said.append("begins")
                    heard.append((number, event.missed))
                    time.sleep(0.02)
                ipc.listen("n", listener, latest=True)
                ipc.listen("n", lambda event, number: None, concurrency=2)
                ipc.broadcast("go")
                ipc.invoke_sync("echo")
                assert said == [], "not within a blocking call"
                while not heard or heard[-1][0] != 999:
                    if {how == "foreign"}:
                        assert select.select([renderer], [], [], 10)[0]
                        renderer.dispatch()
                    else:
                        renderer.dispatch(10)
                assert sum(missed for _, missed in heard) + len(heard) == 1000
                assert len(heard) < 100
                while renderer.dispatch():
                    pass
                assert not select.select([renderer], [], [], 0)[0]
                print("good")
            """,
        )
        assert out == "good\n"


async def test_ctrl_c_in_a_paced_listener_loses_no_event_but_its_own(tmp_path: Path) -> None:
    async with plain_hosting(tmp_path / "s") as host:
        out = await script(
            host,
            """
            with RendererProcess.connect(path) as renderer:
                ipc, heard = plain.Ipc.get_instance(), []
                def listener(event, number):
                    heard.append(number)
                    if number == 1:
                        signal.raise_signal(signal.SIGINT)
                ipc.listen("n", listener, latest=True)
                ipc.listen("m", listener, concurrency=1)
                for channel in ("n", "m"):
                    for number in (1, 2):
                        ipc.broadcast(channel, number)
                        while heard[-1:] != [number]:
                            try:
                                renderer.dispatch(10)
                            except KeyboardInterrupt:
                                assert heard[-1] == 1
                print(heard)
            """,
        )
        assert out == "[1, 2, 1, 2]\n"


async def test_ctrl_c_in_a_call_leaves_the_order_of_the_events_that_wait(tmp_path: Path) -> None:
    async with plain_hosting(tmp_path / "s") as host:
        out = await script(
            host,
            """
            with RendererProcess.connect(path) as renderer:
                ipc, heard, came = plain.Ipc.get_instance(), [], []
                def listener(event, number):
                    heard.append(number)
                    if number == 0:
                        for more in (1, 2, 3):
                            ipc.broadcast("n", more)
                        while 3 not in came:
                            renderer.dispatch(10)
                    elif number == 1:
                        signal.raise_signal(signal.SIGINT)
                ipc.listen("n", listener, concurrency=1)
                ipc.listen("n", lambda event, number: came.append(number))
                ipc.broadcast("n", 0)
                for last in (3, 5):
                    while heard[-1:] != [last]:
                        try:
                            renderer.dispatch(10)
                        except KeyboardInterrupt:
                            assert heard == [0, 1]
                    if last == 3:
                        ipc.broadcast("n", 4)
                        ipc.broadcast("n", 5)
                print(heard)
            """,
        )
        assert out == "[0, 1, 2, 3, 4, 5]\n"


@pytest.mark.parametrize("options", ["latest=True", "concurrency=1"])
async def test_wherever_ctrl_c_comes_a_paced_listener_goes_on_and_at_most_one_event_is_lost(
    tmp_path: Path, options: str
) -> None:
    """Python calls a signal's handler where a function begins, and when one in C has returned."""
    async with plain_hosting(tmp_path / "s") as host:
        out = await script(
            host,
            f"""
            def interrupting(place):
                def profile(frame, what, _function):
                    nonlocal place
                    if what in ("call", "c_return") and frame.f_code.co_filename.endswith("runtime/listening.py"):
                        place -= 1
                        if not place:
                            sys.setprofile(None)
                            signal.raise_signal(signal.SIGINT)
                return profile
            with RendererProcess.connect(path) as renderer:
                ipc, place, interrupted = plain.Ipc.get_instance(), 0, True
                while interrupted:
                    place, interrupted, heard = place + 1, False, []
                    dispose = ipc.listen("n", lambda event, number: heard.append((number, event.missed)), {options})
                    for number in range(3):
                        ipc.broadcast("n", number)
                    ipc.invoke_sync("echo")
                    sys.setprofile(interrupting(place))
                    try:
                        while renderer.dispatch():
                            pass
                    except KeyboardInterrupt:
                        interrupted = True
                    sys.setprofile(None)
                    while renderer.dispatch():
                        pass
                    ipc.broadcast("n", 3)
                    while [number for number, _ in heard][-1:] != [3]:
                        renderer.dispatch(10)
                    assert heard == sorted(heard)
                    assert sum(missed for _, missed in heard) + len(heard) >= 4 - interrupted, (place, heard)
                    dispose()
                assert place > 10
                print("good")
            """,
        )
        assert out == "good\n"


async def test_what_waits_for_a_listener_that_is_disposed_of_holds_its_sender_no_longer(few_listeners: int) -> None:
    async with hosting(1) as host:
        sending, connection = flood(host, 3600)
        await until(lambda: connection.running_listeners == few_listeners)
        keeping.send(host.ipc, ("dispose", "one", ""))
        await sending
        await until(lambda: connection.running_listeners == 1)  # its call, which goes on
        assert await host.ipc.run(host.renderers[0], "heard", "one") == []


@pytest.mark.parametrize("options", ["latest=True", "concurrency=1"])
async def test_a_plain_listener_that_dispatches_is_not_called_within_its_own_call(tmp_path: Path, options: str) -> None:
    async with plain_hosting(tmp_path / "s") as host:
        out = await script(
            host,
            f"""
            with RendererProcess.connect(path) as renderer:
                ipc, said = plain.Ipc.get_instance(), []
                def listener(event, number):
                    said.append(number)
                    if number == 0:
                        for more in (1, 2, 3):
                            ipc.broadcast("n", more)
                        while heard[-1:] != [3]:
                            renderer.dispatch(10)
                        renderer.dispatch()
                        renderer.dispatch()
                    said.append("ends")
                heard = []
                ipc.listen("n", lambda event, number: heard.append(number))
                ipc.listen("n", listener, {options})
                ipc.broadcast("n", 0)
                while said[-2:] != [3, "ends"]:
                    renderer.dispatch(10)
                print(said)
            """,
        )
    said: list[Any] = [0, "ends", 3, "ends"] if "latest" in options else []
    for number in () if said else range(4):
        said += [number, "ends"]
    assert out == f"{said}\n"


async def test_thousands_of_events_that_waited_for_one_call_are_heard_by_a_listener_that_is_plain_then() -> None:
    async with hosting() as host:
        got: list[int] = []
        go = asyncio.Event()

        def listener(_event: object, number: int) -> Any:
            got.append(number)
            return go.wait() if number == 0 else None

        host.ipc.listen("n", listener, concurrency=1)
        for number in range(5000):
            host.ipc.broadcast("n", number)
        await host.ipc.drain()
        assert got == [0]
        go.set()
        await until(lambda: len(got) == 5000)
        assert got == list(range(5000))


async def test_a_thread_may_listen_in_each_way() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        host.ipc.broadcast("n", 0, keep=True)
        options = {"latest": True, "replay": True}
        await asyncio.to_thread(keeping.pace, host.ipc, "slow", "n", 0, options)
        await host.ipc.run(renderer, "keeping:pace_in_a_thread", "slow", "n", options)
        for where in (None, renderer):
            assert await all_heard(host, where, "slow", 0) == [(0, 0, 1)]


async def test_an_event_that_main_has_dropped_counts_as_missed_too() -> None:
    async with hosting(1, high_water=64 * 1024, capacity=64 * 1024) as host:
        (renderer,) = host.renderers
        options = {"latest": True, "when_slow": "drop_oldest"}
        await pace(host, (renderer,), "slow", 0.01, options)
        blocking = asyncio.create_task(host.ipc.run(renderer, "block", 0.3))
        await asyncio.sleep(0.1)
        for number in range(200):
            host.ipc.broadcast("n", bytes(2000), number)
        await blocking
        noted = await all_heard(host, renderer, "slow", 199)
        assert sum(missed for _, missed, _ in noted) + len(noted) == 200
