"""The ways to drive a renderer: on asyncio, in a plain script, in a foreign event loop."""

from __future__ import annotations

import asyncio
import os
import textwrap
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path

import lab
import pytest
import starting
from hosting import Host, hosting, plain_hosting, script, until

from lensipc import ActivationError, Disposer, ExtensionManifest, MainProcess, PeerGone, RendererProcess
from lensipc.runtime.protocol import MAX_CHANNELS, MAX_NAME, MAX_NAMES


async def test_a_renderer_connects_to_a_path_and_talks(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s") as host, RendererProcess.connect(tmp_path / "s") as renderer:
        assert renderer.main_pid == os.getpid()
        (handle,) = host.main.renderers
        assert (handle.pid, handle.frame_id) == (os.getpid(), renderer.frame_id)
        ipc = lab.IpcRenderer.get_instance()
        assert await ipc.invoke("echo", 1) == (1,)
        lab.note(ipc, "n")
        await ipc.invoke("echo")  # main knows the listener now
        host.ipc.broadcast("n", 1)
        ipc.broadcast("n", 2)
        assert await lab.hear(ipc, "n", 2) == [(0, 1, 0), (renderer.frame_id, 2, 0)]


async def test_leaving_a_renderer_ends_its_parts_and_main_sees_it_go(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s") as host:
        async with RendererProcess.connect(tmp_path / "s") as renderer:
            ipc = lab.IpcRenderer.get_instance()
        assert not renderer.connected
        assert lab.IpcRenderer.get_instance(strict=False) is None
        with pytest.raises(Exception, match=r"not active|gone"):
            ipc.broadcast("n")
        await until(lambda: not host.main.renderers)


async def test_main_closes_a_renderer_that_it_did_not_start(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s") as host, RendererProcess.connect(tmp_path / "s") as renderer:
        await host.main.renderers[0].close()
        await renderer.wait_closed()
        assert lab.IpcRenderer.get_instance(strict=False) is None


@pytest.mark.parametrize(
    ("length", "most", "bound"),
    [
        (4, MAX_CHANNELS - 2, "at most 16384 channels"),  # two are the lab's own
        (MAX_NAME, MAX_NAMES // MAX_NAME - 1, "at most 4194304 bytes together"),
    ],
)
async def test_a_renderer_that_uses_too_many_names_is_told_where_it_does_and_stays(
    tmp_path: Path, length: int, most: int, bound: str
) -> None:
    async with hosting(path=tmp_path / "s") as host, RendererProcess.connect(tmp_path / "s"):
        ipc = lab.IpcRenderer.get_instance()
        await ipc.invoke("echo")
        for number in range(most):
            ipc.broadcast(f"{number:0{length}x}")
            await ipc.drain()
        with pytest.raises(ValueError, match=bound):
            ipc.broadcast(f"{most:0{length}x}")
        assert await ipc.invoke("echo", 1) == (1,)
        assert len(host.main.renderers) == 1


async def test_nothing_at_the_path_is_said_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        async with RendererProcess.connect(tmp_path / "nowhere"):
            pass
    with pytest.raises(FileNotFoundError, match="nowhere"), RendererProcess.connect(tmp_path / "nowhere"):
        pass


async def test_a_part_that_fails_when_connecting_is_the_error_of_connecting(tmp_path: Path) -> None:
    async with MainProcess(tmp_path / "s") as main:
        await main.install(ExtensionManifest("broken", "1", renderer="living:NoSuchClass"))
        with pytest.raises(PeerGone, match="NoSuchClass") as raised:
            async with RendererProcess.connect(tmp_path / "s"):
                pass
        assert isinstance(raised.value.__cause__, ActivationError)


async def test_a_semaphore_cannot_wake_an_event_loop(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="plain script"):
        async with RendererProcess.connect(tmp_path / "s", wakeup="semaphore"):
            pass


# ---- a plain script: no event loop ----


@pytest.fixture
async def plain_host(tmp_path: Path) -> AsyncIterator[Host]:
    """A host whose lab has only plain functions in its renderer part."""
    async with plain_hosting(tmp_path / "s") as host:
        yield host


@pytest.mark.parametrize("wakeup", ["socket", "semaphore"])
async def test_a_script_invokes_listens_and_broadcasts_without_an_event_loop(plain_host: Host, wakeup: str) -> None:
    plain_host.ipc.note("done")
    plain_host.ipc.listen("ready", lambda _event: plain_host.ipc.broadcast("n", 1))
    out = await script(
        plain_host,
        f"""
        import plain
        with RendererProcess.connect(path, wakeup={wakeup!r}) as renderer:
            ipc = plain.Ipc.get_instance()
            assert ipc.invoke_sync("echo", 1) == (1,)
            assert ipc.invoke_sync("async echo", [2], timeout=10) == ([2],)
            heard = []
            dispose = ipc.listen("n", lambda event, n: heard.append(n))
            ipc.broadcast("ready")
            while not heard:
                renderer.dispatch(10)
            assert heard == [1], heard
            try:
                ipc.invoke_sync("sleep", 60, timeout=0.05)
            except InvokeTimeout:
                pass
            try:
                ipc.invoke_sync("fail", "ValueError", "no")
            except ValueError as error:
                assert isinstance(error, RemoteError)
            ipc.broadcast("done", threading.active_count())
            ipc.drain_sync()
            ipc.invoke_sync("echo")
            print("good")
        """,
    )
    assert out == "good\n"
    await until(lambda: plain_host.ipc.heard["done"])
    assert plain_host.ipc.heard["done"][0][1] == 1  # one thread: no hidden one


async def test_events_that_come_during_a_blocking_invoke_are_kept_in_order_for_dispatch(plain_host: Host) -> None:
    plain_host.ipc.handle("send three", lambda _event: list(map(partial(plain_host.ipc.broadcast, "n"), range(3))))
    out = await script(
        plain_host,
        """
        import plain
        with RendererProcess.connect(path) as renderer:
            ipc = plain.Ipc.get_instance()
            heard = []
            ipc.listen("n", lambda event, n: heard.append(n))
            ipc.invoke_sync("send three")
            ipc.invoke_sync("echo")
            assert heard == []
            assert select.select([renderer], [], [], 0)[0]  # readable: there is something to dispatch
            ipc.invoke_sync("send three")
            while len(heard) < 6:
                renderer.dispatch(budget=1)
            assert heard == [0, 1, 2, 0, 1, 2], heard
            assert not select.select([renderer], [], [], 0)[0]
            print("good")
        """,
    )
    assert out == "good\n"


async def test_a_listener_in_a_script_may_itself_invoke(plain_host: Host) -> None:
    plain_host.ipc.listen("ready", lambda _event: list(map(partial(plain_host.ipc.broadcast, "n"), range(200))))
    out = await script(
        plain_host,
        """
        import plain
        with RendererProcess.connect(path) as renderer:
            ipc = plain.Ipc.get_instance()
            heard = []
            ipc.listen("n", lambda event, n: heard.append(ipc.invoke_sync("echo", n)))
            ipc.broadcast("ready")
            while len(heard) < 200:
                renderer.dispatch(1)
            assert heard == [(n,) for n in range(200)], heard
            print("good")
        """,
    )
    assert out == "good\n"


async def test_what_was_kept_while_a_listener_invoked_is_not_overtaken_by_what_comes_before_it_returns(
    plain_host: Host,
) -> None:
    def more(_event: object) -> None:
        plain_host.ipc.broadcast("n", 1)  # which comes before the outcome, and is kept
        asyncio.get_running_loop().call_later(0.1, plain_host.ipc.broadcast, "n", 2)

    plain_host.ipc.handle("more", more)
    plain_host.ipc.listen("ready", lambda _event: plain_host.ipc.broadcast("n", 0))
    out = await script(
        plain_host,
        """
        import plain
        with RendererProcess.connect(path) as renderer:
            ipc = plain.Ipc.get_instance()
            heard = []

            def hear(event, n):
                heard.append(n)
                if n == 0:
                    ipc.invoke_sync("more")
                    time.sleep(0.5)

            ipc.listen("n", hear)
            ipc.broadcast("ready")
            while len(heard) < 3:
                renderer.dispatch(1)
            assert heard == [0, 1, 2], heard
            print("good")
        """,
    )
    assert out == "good\n"


async def test_what_a_script_has_sent_is_heard_though_it_leaves_at_once(plain_host: Host) -> None:
    plain_host.ipc.listen("busy", lambda _event: time.sleep(0.3))  # so that much waits when the script leaves
    plain_host.ipc.note("n")
    out = await script(
        plain_host,
        """
        import plain
        with RendererProcess.connect(path) as renderer:
            ipc = plain.Ipc.get_instance()
            ipc.broadcast("busy")
            for number in range(20):
                ipc.broadcast("n", number, bytes(1_000_000))
        print("good")
        """,
    )
    assert out == "good\n"
    await until(lambda: not plain_host.main.renderers)
    assert [number for _, number, _ in plain_host.ipc.heard["n"]] == list(range(20))


async def test_a_blocking_invoke_that_ctrl_c_ends_cancels_its_handler(plain_host: Host) -> None:
    plain_host.ipc.handle("running", lambda _event: plain_host.ipc.running)
    out = await script(
        plain_host,
        """
        import plain
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        with RendererProcess.connect(path) as renderer:
            ipc = plain.Ipc.get_instance()
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            try:
                ipc.invoke_sync("sleep", 60, "nobody waits for it")
            except KeyboardInterrupt:
                print(ipc.invoke_sync("async echo"), ipc.invoke_sync("running"))
        """,
    )
    assert out == "() 0\n"
    assert plain_host.ipc.cancelled == ["nobody waits for it"]


async def test_leaving_a_renderer_waits_for_on_deactivate(tmp_path: Path) -> None:
    starting.answered.clear()
    async with MainProcess(tmp_path / "s") as main:
        await main.install(ExtensionManifest("slow", "1", renderer="starting:SlowToLeaveRenderer"))
        async with RendererProcess.connect(tmp_path / "s"):
            pass
        assert starting.answered == ["has left"]


def broadcast_soon(host: Host, name: str, events: Sequence[tuple[str, int]]) -> Disposer:
    """Have main broadcast these in one go, a moment after each invoke of `name`: the script is idle by then."""
    loop = asyncio.get_running_loop()

    def send() -> None:
        for channel, number in events:
            host.ipc.broadcast(channel, number)

    return host.ipc.handle(name, lambda _event: loop.call_later(0.1, send) and None)


# What is sent in one go comes out of the ring as one run, after the first event of each channel, numbered 0.
IN_RUNS = """
    import plain, time
    with RendererProcess.connect(path) as renderer:
        ipc = plain.Ipc.get_instance()
        said = []
        for channel, listener in listeners(ipc, renderer, said).items():
            ipc.listen(channel, lambda event, number, listener=listener: listener(event, number) if number else None)
        ipc.invoke_sync("send")
        time.sleep(0.3)  # until all of it is in the ring
        while len(said) < {count}:
            try:
                renderer.dispatch(60)
            except KeyboardInterrupt:
                said.append("interrupted")
        print(said)
"""


async def in_runs(host: Host, sent: list[tuple[str, int]], listeners: str, count: int) -> str:
    """What a script has heard of events that main sent in one go."""
    handlers = (
        broadcast_soon(host, "send", [*((channel, 0) for channel in dict(sent)), *sent]),
        host.ipc.handle("more", lambda _event: list(map(partial(host.ipc.broadcast, "y"), (4, 5))) and None),
    )
    try:
        return await script(host, textwrap.dedent(listeners) + textwrap.dedent(IN_RUNS).format(count=count))
    finally:
        for dispose in handlers:
            dispose()


async def test_events_are_in_order_though_listeners_invoke_in_the_midst_of_runs(plain_host: Host) -> None:
    out = await in_runs(
        plain_host,
        [("x", 1), ("y", 1), ("y", 2), ("y", 3)],
        """
        def listeners(ipc, renderer, said):
            def x(event, number):
                ipc.invoke_sync("more")
                said.append(("x", number))
            def y(event, number):
                said.append((number, event.missed))
                if number in (1, 4):
                    ipc.invoke_sync("echo")
            return {"x": x, "y": y}
        """,
        6,
    )
    assert out == "[('x', 1), (1, 0), (2, 0), (3, 0), (4, 0), (5, 0)]\n"


async def test_events_of_several_channels_are_in_order_though_listeners_invoke_and_raise(plain_host: Host) -> None:
    out = await in_runs(
        plain_host,
        [(channel, number) for number in range(1, 20) for channel in "xyz"],
        """
        def listeners(ipc, renderer, said):
            def note(event, number):
                said.append((event.channel, number, event.missed))
            def x(event, number):
                note(event, number)
                if number % 3 == 0:
                    ipc.invoke_sync("echo")
            def y(event, number):
                note(event, number)
                if number % 5 == 0:
                    renderer.dispatch(0)
            def z(event, number):
                note(event, number)
                if number % 7 == 0:
                    signal.raise_signal(signal.SIGINT)
            return {"x": x, "y": y, "z": z}
        """,
        59,
    )
    expected: list[object] = []
    for number in range(1, 20):
        expected += [(channel, number, 0) for channel in "xyz"] + ["interrupted"] * (number % 7 == 0)
    assert out == f"{expected}\n"


async def test_ctrl_c_in_a_listener_loses_no_event_but_its_own_and_keeps_none_waiting(plain_host: Host) -> None:
    listeners = """
        def listeners(ipc, renderer, said):
            def y(event, number):
                said.append(number)
                if number == 1:
                    signal.raise_signal(signal.SIGINT)
            def z(event, number):
                said.append(("z", number))
            return {"x": lambda event, number: ipc.invoke_sync("echo"), "y": y, "z": z}
    """
    alone = [("y", 1), ("y", 2), ("y", 3)]
    assert await in_runs(plain_host, alone, listeners, 4) == "[1, 'interrupted', 2, 3]\n"
    kept = [("x", 1), ("y", 1), ("y", 2), ("z", 1)]  # by x, which waits for an outcome
    assert await in_runs(plain_host, kept, listeners, 4) == "[1, 'interrupted', 2, ('z', 1)]\n"


async def test_ctrl_c_in_a_dispatch_within_a_listener_loses_no_event_either(plain_host: Host) -> None:
    out = await in_runs(
        plain_host,
        [("x", 1), ("y", 1), ("y", 2), ("y", 3)],
        """
        def listeners(ipc, renderer, said):
            def x(event, number):
                try:
                    renderer.dispatch(60)
                except KeyboardInterrupt:
                    said.append("swallowed")
            def y(event, number):
                said.append(number)
                if number == 1:
                    signal.raise_signal(signal.SIGINT)
            return {"x": x, "y": y}
        """,
        4,
    )
    assert out == "[1, 'swallowed', 2, 3]\n"


async def test_ctrl_c_ends_every_wait_and_loses_nothing(plain_host: Host) -> None:
    out = await script(
        plain_host,
        """
        import plain
        def interrupt_soon():
            signal.setitimer(signal.ITIMER_REAL, 0.2)
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        for wakeup in ("socket", "semaphore"):
            with RendererProcess.connect(path, wakeup=wakeup) as renderer:
                ipc = plain.Ipc.get_instance()
                for wait in (
                    lambda: ipc.invoke_sync("sleep", 60, wakeup),
                    lambda: [renderer.dispatch(60) for _ in range(100)],  # a stray wakeup ends a wait, too
                    renderer.run_forever,
                ):
                    interrupt_soon()
                    try:
                        wait()
                    except KeyboardInterrupt:
                        print("interrupted")
                    assert ipc.invoke_sync("echo", 1) == (1,)
        """,
    )
    assert out == "interrupted\n" * 6
    await until(lambda: plain_host.ipc.cancelled == ["socket", "semaphore"])


async def test_run_forever_returns_when_main_is_gone(plain_host: Host) -> None:
    running = asyncio.create_task(
        script(
            plain_host,
            """
            import plain
            with RendererProcess.connect(path) as renderer:
                plain.Ipc.get_instance().broadcast("running")
                renderer.run_forever()
                try:
                    renderer.dispatch()
                except PeerGone as error:
                    print(error)
            """,
        )
    )
    plain_host.ipc.note("running")
    await until(lambda: plain_host.ipc.heard["running"])
    await plain_host.main.renderers[0].close()
    assert "main closed this renderer" in await running


async def test_an_async_listener_in_a_script_is_refused_with_the_way_out(plain_host: Host) -> None:
    plain_host.ipc.handle("send", lambda _event: plain_host.ipc.broadcast("n"))
    out = await script(
        plain_host,
        """
        import logging, plain, sys
        logging.basicConfig(stream=sys.stdout)
        async def listener(event): ...
        with RendererProcess.connect(path) as renderer:
            ipc = plain.Ipc.get_instance()
            ipc.listen("n", listener)  # which may be meant for a loop, in another process
            ipc.invoke_sync("send")
            renderer.dispatch()
        """,
    )
    assert "TypeError: listener is async, and this process runs no event loop: make it a plain function" in out


async def test_a_future_of_a_script_is_resolved_by_dispatch_and_can_be_cancelled(plain_host: Host) -> None:
    out = await script(
        plain_host,
        """
        import plain
        with RendererProcess.connect(path) as renderer:
            ipc = plain.Ipc.get_instance()
            future = ipc.invoke("echo", 1)
            while not future.done():
                renderer.dispatch(1)
            assert future.result() == (1,)
            future = ipc.invoke("sleep", 60, "a future")
            ipc.invoke_sync("async echo")  # by now the handler runs
            assert future.cancel()
            assert ipc.invoke_sync("echo") == ()
            future = ipc.invoke("sleep", 60, timeout=0.05)
            while not future.done():
                select.select([renderer], [], [])   # readable when the timeout is due
                renderer.dispatch()
            assert isinstance(future.exception(), InvokeTimeout)
            print("good")
        """,
    )
    assert out == "good\n"
    await until(lambda: plain_host.ipc.cancelled[:1] == ["a future"])


async def test_the_descriptor_tells_of_what_comes_after_a_blocking_invoke_whenever_it_is_asked_for(
    plain_host: Host,
) -> None:
    broadcast_soon(plain_host, "send soon", [("n", 1)])
    out = await script(
        plain_host,
        """
        import plain, time
        with RendererProcess.connect(path) as renderer:
            ipc = plain.Ipc.get_instance()
            heard = []
            ipc.listen("n", lambda event, n: heard.append(n))
            ipc.invoke_sync("send soon")
            time.sleep(0.3)  # it has come when the descriptor is asked for first
            assert select.select([renderer], [], [], 10)[0]
            renderer.dispatch()
            assert heard == [1], heard
            ipc.invoke_sync("send soon")
            assert select.select([renderer], [], [], 10)[0]  # it comes while the descriptor is waited for
            while len(heard) < 2:
                renderer.dispatch(10)
            print("good")
        """,
    )
    assert out == "good\n"


@pytest.mark.parametrize("wakeup", ["socket", "semaphore"])
async def test_dispatch_after_a_blocking_invoke_waits_as_long_as_it_was_told(plain_host: Host, wakeup: str) -> None:
    out = await script(
        plain_host,
        f"""
        import plain, time
        with RendererProcess.connect(path, wakeup={wakeup!r}) as renderer:
            ipc = plain.Ipc.get_instance()
            while renderer.dispatch():
                pass
            waited = []
            for _ in range(5):  # a stray wakeup may end one
                ipc.invoke_sync("echo", 1)
                before = time.monotonic()
                renderer.dispatch(0.2)
                waited.append(time.monotonic() - before >= 0.2)
            print(any(waited))
        """,
    )
    assert out == "True\n"


@pytest.mark.parametrize("where", ["IpcRendererEvent", "iter"])
async def test_a_signal_before_an_event_is_heard_loses_neither_it_nor_who_has_sent_it(
    plain_host: Host, where: str
) -> None:
    """At the first event of a sender, which others follow, and at the run that these come in."""
    broadcast_soon(plain_host, "send soon", [("n", number) for number in range(20)])
    out = await script(
        plain_host,
        f"""
        import plain, time
        from lensipc.renderer import dispatch
        with RendererProcess.connect(path) as renderer:
            ipc = plain.Ipc.get_instance()
            heard = []
            ipc.listen("n", lambda event, n: heard.append((event.pid, event.missed, n)))
            ipc.invoke_sync("send soon")
            time.sleep(0.3)
            real = getattr(dispatch, {where!r}, iter)
            def strike(*args):  # stands for a signal that comes now
                setattr(dispatch, {where!r}, real)
                signal.raise_signal(signal.SIGINT)
            setattr(dispatch, {where!r}, strike)
            interrupted = 0
            while len(heard) < 20:
                try:
                    renderer.dispatch(10)
                except KeyboardInterrupt:
                    interrupted += 1
            assert interrupted == 1, interrupted
            assert heard == [({os.getpid()}, 0, n) for n in range(20)], heard
            print("good")
        """,
    )
    assert out == "good\n"


async def test_a_signal_while_an_event_is_kept_for_dispatch_neither_loses_nor_doubles_it(plain_host: Host) -> None:
    plain_host.ipc.handle("send", lambda _event: list(map(partial(plain_host.ipc.broadcast, "n"), range(20))))
    out = await script(
        plain_host,
        f"""
        import plain
        from lensipc.renderer import backlog as module
        with RendererProcess.connect(path) as renderer:
            ipc = plain.Ipc.get_instance()
            heard = []
            ipc.listen("n", lambda event, n: heard.append((event.pid, event.missed, n)))
            ipc.invoke_sync("echo")
            real = module.size_of
            def strike(*args):  # stands for a signal that comes now
                module.size_of = real
                signal.raise_signal(signal.SIGINT)
            module.size_of = strike
            interrupted = 0
            for _ in range(2):
                try:
                    ipc.invoke_sync("send")
                except KeyboardInterrupt:
                    interrupted += 1
            while len(heard) < 40:
                renderer.dispatch(10)
            assert interrupted == 1, interrupted
            assert heard == [({os.getpid()}, 0, n % 20) for n in range(40)], heard
            print("good")
        """,
    )
    assert out == "good\n"


async def test_a_dispatch_in_a_listener_goes_on_with_the_run_that_it_is_in(plain_host: Host) -> None:
    broadcast_soon(plain_host, "send soon", [("n", number) for number in range(4)])
    out = await script(
        plain_host,
        """
        import plain, time
        with RendererProcess.connect(path) as renderer:
            ipc = plain.Ipc.get_instance()
            heard = []
            def listener(event, n):
                heard.append(n)
                if n == 1:
                    renderer.dispatch(60)
            ipc.listen("n", listener)
            ipc.invoke_sync("send soon")
            time.sleep(0.3)
            for timeout in ("2", float("nan")):
                try:
                    ipc.invoke_sync("send soon", timeout=timeout)
                except (TypeError, ValueError):
                    pass
            while len(heard) < 4:
                renderer.dispatch(10)
            ipc.invoke_sync("echo")
            time.sleep(0.3)
            while renderer.dispatch():
                pass
            print(heard)  # and no request with a timeout that is no number was sent
        """,
    )
    assert out == "[0, 1, 2, 3]\n"


async def test_the_descriptor_is_readable_exactly_while_there_is_work(plain_host: Host) -> None:
    out = await script(
        plain_host,
        """
        import plain
        def readable():
            return bool(select.select([renderer], [], [], 0)[0])
        with RendererProcess.connect(path) as renderer:
            ipc = plain.Ipc.get_instance()
            heard = []
            ipc.listen("n", lambda event, n: heard.append(n))
            while readable():
                renderer.dispatch()
            for n in range(100):
                ipc.broadcast("n", n)
            while len(heard) < 100:
                assert select.select([renderer], [], [], 10)[0]
                assert renderer.dispatch(budget=7) <= 7
            assert heard == list(range(100))
            while readable():
                renderer.dispatch()
            assert not readable()
            print("good")
        """,
    )
    assert out == "good\n"


async def test_invoke_sync_in_an_event_loop_is_refused_with_the_way_out(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s"), RendererProcess.connect(tmp_path / "s"):
        with pytest.raises(RuntimeError, match=r"await ipc\.invoke"):
            lab.IpcRenderer.get_instance().invoke_sync("echo")


def test_what_is_entered_is_entered_once() -> None:
    async def enter() -> None:
        main = MainProcess()
        async with main:
            pass
        with pytest.raises(RuntimeError, match="entered once"):
            async with main:
                pass

    asyncio.run(enter())
    with pytest.raises(RuntimeError, match="not been entered"):
        RendererProcess.connect("/nowhere").fileno()


# ---- deadlines: what has come is handled first ----


@pytest.mark.parametrize("wakeup", ["socket", "semaphore"])
async def test_a_script_that_was_busy_past_a_timeout_has_the_answer_that_is_there(
    plain_host: Host, wakeup: str
) -> None:
    plain_host.ipc.handle("send many", lambda _event: list(map(partial(plain_host.ipc.broadcast, "n"), range(1000))))
    out = await script(
        plain_host,
        f"""
        import plain
        with RendererProcess.connect(path, wakeup={wakeup!r}) as renderer:
            ipc = plain.Ipc.get_instance()
            said = []
            ipc.listen("n", lambda event, n: said.append(n))
            for budget in (1, 256):
                said.clear()
                ipc.invoke("send many")
                future = ipc.invoke("echo", "in time", timeout=0.1)
                future.add_done_callback(lambda done: said.append(done.result()))
                never = ipc.invoke("sleep", 60, timeout=0.1)
                time.sleep(0.3)
                while not (future.done() and never.done()):
                    assert renderer.dispatch(10, budget=budget) <= budget
                assert said == [*range(1000), ("in time",)], said[-3:]  # in their order
                assert isinstance(never.exception(), InvokeTimeout)
            print("good")
        """,
    )
    assert out == "good\n"


async def test_an_outcome_that_is_kept_for_its_turn_is_there_for_who_asks_for_it_before(plain_host: Host) -> None:
    plain_host.ipc.handle("send", lambda _event: list(map(partial(plain_host.ipc.broadcast, "n"), range(3))))
    out = await script(
        plain_host,
        """
        import plain
        with RendererProcess.connect(path) as renderer:
            ipc = plain.Ipc.get_instance()
            said = []
            def listener(event, n):
                said.append((n, future.result(10) if n == 0 else future.done()))
            ipc.listen("n", listener)
            first = ipc.invoke("send", timeout=0.1)
            first.add_done_callback(lambda done: future.result(10))
            future = ipc.invoke("echo", "in time", timeout=0.1)
            time.sleep(0.3)
            while len(said) < 3:
                renderer.dispatch(10)
            assert said == [(0, ("in time",)), (1, True), (2, True)], said
            print("good")
        """,
    )
    assert out == "good\n"


async def test_a_timeout_comes_though_a_blocking_invoke_always_finds_something_in_its_ring(plain_host: Host) -> None:
    out = await script(
        plain_host,
        """
        import plain
        with RendererProcess.connect(path) as renderer:
            renderer._core.rest = lambda: False  # stands for events that come as fast as they are taken
            try:
                plain.Ipc.get_instance().invoke_sync("sleep", 60, timeout=0.2)
            except InvokeTimeout:
                print("in time")
            del renderer._core.rest
        """,
    )
    assert out == "in time\n"


async def test_whatever_a_script_is_told_to_wait_it_waits_no_longer_and_its_timeouts_go_on_to_come(
    plain_host: Host,
) -> None:
    out = await script(
        plain_host,
        """
        import math, plain
        for wakeup in ("socket", "semaphore"):
            with RendererProcess.connect(path, wakeup=wakeup, timeout=math.inf) as renderer:
                ipc = plain.Ipc.get_instance()
                while renderer.dispatch():
                    pass
                for over in (-0.001, -math.inf, -10**400, 0, False):
                    renderer.dispatch(over)
                for nonsense in (math.nan, "1", 1j):
                    for wait in (
                        renderer.dispatch,
                        lambda nonsense: ipc.invoke_sync("echo", timeout=nonsense),
                        lambda nonsense: ipc.invoke("sleep", 60).result(nonsense),
                        lambda nonsense: RendererProcess.connect(path, timeout=nonsense),
                    ):
                        try:
                            wait(nonsense)
                        except (TypeError, ValueError):
                            pass
                        else:
                            print("taken", nonsense)
                for long in (math.inf, 1e9, 10**400, None):
                    future = ipc.invoke("sleep", 0.05)
                    while not future.done():
                        renderer.dispatch(long)
                for over in (-math.inf, -1, 0, 0.01):
                    try:
                        ipc.invoke_sync("sleep", 60, timeout=over)
                    except InvokeTimeout:
                        print("in time")
        """,
    )
    assert out == "in time\n" * 8


async def test_a_script_on_a_semaphore_hears_by_dispatches_that_do_not_wait(plain_host: Host) -> None:
    out = await script(
        plain_host,
        """
        import plain
        with RendererProcess.connect(path, wakeup="semaphore") as renderer:
            ipc = plain.Ipc.get_instance()
            heard = []
            ipc.listen("n", lambda event, n: heard.append(n))
            for n in range(3):
                ipc.broadcast("n", n)
                while len(heard) <= n:
                    renderer.dispatch(0)
                    time.sleep(0.001)
            print(heard)
        """,
    )
    assert out == "[0, 1, 2]\n"


# ---- what is waited for in the midst of something ----


@pytest.mark.parametrize("how", ["invoke_sync", "result"])
async def test_a_callback_of_an_outcome_may_wait_for_another_within_a_wait(plain_host: Host, how: str) -> None:
    plain_host.ipc.handle("send one", lambda _event: plain_host.ipc.broadcast("n", 1))
    out = await script(
        plain_host,
        f"""
        import plain
        with RendererProcess.connect(path) as renderer:
            ipc = plain.Ipc.get_instance()
            def ask(*args):
                return ipc.invoke_sync(*args) if {how!r} == "invoke_sync" else ipc.invoke(*args).result()
            said = []
            ipc.listen("n", lambda event, n: said.append(n))
            future = ipc.invoke("echo", 1)
            future.add_done_callback(lambda done: said.append((ask("send one"), ask("echo", 2))))
            assert ask("sleep", 0.2, "slept") == "slept"
            assert said == [(None, (2,))], said
            while len(said) < 2:
                renderer.dispatch(10)
            assert ask("echo", 3) == (3,)
            print("good")
        """,
    )
    assert out == "good\n"


@pytest.mark.parametrize("wakeup", ["socket", "semaphore"])
async def test_who_asks_a_future_for_its_result_brings_it_about(plain_host: Host, wakeup: str) -> None:
    out = await script(
        plain_host,
        f"""
        import plain
        with RendererProcess.connect(path, wakeup={wakeup!r}) as renderer:
            ipc = plain.Ipc.get_instance()
            heard = []
            ipc.listen("n", lambda event, n: heard.append(n))
            ipc.broadcast("n", 1)
            assert ipc.invoke("echo", 1).result() == (1,)
            several = [ipc.invoke("echo", n) for n in range(10)]
            assert [each.result(10) for each in reversed(several)] == [(n,) for n in reversed(range(10))]
            assert isinstance(ipc.invoke("fail", "ValueError", "no").exception(), ValueError)
            assert ipc.invoke("echo").exception(10) is None
            slow = ipc.invoke("sleep", 60, "slow", timeout=0.3)
            try:
                slow.result(0.05)
            except TimeoutError as error:
                assert not isinstance(error, InvokeTimeout)
            assert isinstance(slow.exception(), InvokeTimeout)  # its own timeout comes as well
            assert heard == []  # events are kept
            while not heard:
                renderer.dispatch(10)
            asked = ipc.invoke("echo", 2)
            other = threading.Thread(target=lambda: heard.append(asked.result(10)))
            other.start()  # it waits for this thread to bring it about
            while len(heard) < 2:
                renderer.dispatch(0.01)
            other.join()
            print(heard)
        """,
    )
    assert out == "[1, (2,)]\n"


@pytest.mark.parametrize("budget", [1, 256])
async def test_the_descriptor_tells_a_loop_within_a_listener_of_what_comes(plain_host: Host, budget: int) -> None:
    """A modal dialog, say: a loop that goes on until it is told to end, which waits for the descriptor."""

    async def tell(_event: object, channel: str, count: int) -> None:
        for number in range(count):
            plain_host.ipc.broadcast(channel, number)
        await asyncio.sleep(0.1)
        plain_host.ipc.broadcast("close")

    plain_host.ipc.handle("tell", tell)
    out = await script(
        plain_host,
        f"""
        import plain
        with RendererProcess.connect(path) as renderer:
            ipc = plain.Ipc.get_instance()
            said, idle = [], []
            def loop(until):
                while not until():
                    assert select.select([renderer], [], [], 10)[0], "nothing came"
                    if not renderer.dispatch(budget={budget}):
                        idle.append(1)
            def dialog(event, number):
                said.append(number)
                if number in (1, 2):
                    answer = ipc.invoke("echo", number)
                    ends = number == 1
                    loop(lambda: answer.done() and (closed or not ends))
                    said.append(answer.result(0))
            closed = []
            ipc.listen("n", dialog)
            ipc.listen("close", lambda event: closed.append(1))
            ipc.invoke_sync("echo")
            told = ipc.invoke("tell", "n", 5)
            loop(lambda: closed and len(said) == 7 and told.done())
            while select.select([renderer], [], [], 0)[0]:
                idle.append(renderer.dispatch())
            assert len(idle) < 20, idle  # it waits, and does not spin
            print(said)
        """,
    )
    assert out == "[0, 1, 2, 3, 4, (2,), (1,)]\n"


async def test_a_kept_event_leaves_the_descriptor_readable_for_what_comes_after_it(plain_host: Host) -> None:
    plain_host.ipc.handle("send one", lambda _event: plain_host.ipc.broadcast("n", 1))
    broadcast_soon(plain_host, "send soon", [("n", 2)])
    out = await script(
        plain_host,
        """
        import plain
        with RendererProcess.connect(path) as renderer:
            ipc = plain.Ipc.get_instance()
            heard = []
            def listener(event, n):
                heard.append(n)
                if len(heard) == 1:
                    ipc.invoke_sync("send one")
                    ipc.invoke_sync("send soon")
            ipc.listen("n", listener)
            ipc.invoke_sync("send one")
            while len(heard) < 3:
                assert select.select([renderer], [], [], 10)[0], heard
                renderer.dispatch(budget=1)
            print(heard)
        """,
    )
    assert out == "[1, 1, 2]\n"


@pytest.mark.parametrize("budget", [1, 256])
async def test_the_descriptor_stays_readable_until_a_dispatch_has_said_that_main_is_gone(
    plain_host: Host, budget: int
) -> None:
    running = asyncio.create_task(
        script(
            plain_host,
            f"""
            import plain
            with RendererProcess.connect(path) as renderer:
                ipc = plain.Ipc.get_instance()
                heard = []
                ipc.listen("n", lambda event, n: heard.append(n))
                ipc.broadcast("running")
                try:
                    while True:
                        assert select.select([renderer], [], [], 60)[0]
                        renderer.dispatch(budget={budget})
                except PeerGone:
                    print(heard)
                print(select.select([renderer], [], [], 0)[0])
                try:
                    renderer.dispatch()
                except PeerGone:
                    print("gone")
            """,
        )
    )
    plain_host.ipc.note("running")
    await until(lambda: plain_host.ipc.heard["running"])
    for number in range(5):
        plain_host.ipc.broadcast("n", number)
    await plain_host.main.renderers[0].close()
    assert await running == "[0, 1, 2, 3, 4]\n[]\ngone\n"


async def test_what_a_script_and_its_listeners_set_in_context_variables_stays_where_it_is(plain_host: Host) -> None:
    plain_host.ipc.handle("send", lambda _event: list(map(partial(plain_host.ipc.broadcast, "n"), range(5))))
    out = await script(
        plain_host,
        """
        import contextvars, plain
        user = contextvars.ContextVar("user", default="nobody")
        with RendererProcess.connect(path) as renderer:
            ipc = plain.Ipc.get_instance()
            seen = []
            def listener(event, n):
                seen.append(user.get())
                if n == 1:
                    user.set("the listener's")
                    renderer.dispatch()
                    seen.append(user.get())
            ipc.listen("n", listener)
            user.set("the script's")
            ipc.invoke_sync("send")
            while len(seen) < 6:
                renderer.dispatch(10)
            print({*seen}, seen.count("the listener's"), user.get())
        """,
    )
    assert "the listener's" in out
    assert "nobody" not in out
    assert out.endswith(" 1 the script's\n")


async def test_a_renderer_on_asyncio_that_was_busy_while_main_took_it_in_is_in(tmp_path: Path) -> None:
    async with MainProcess(tmp_path / "s") as main:
        out = await script(
            Host(main, None, []),  # type: ignore[arg-type]  # without the lab
            """
            import asyncio
            async def connect():
                async with RendererProcess.connect(path, timeout=0.2) as renderer:
                    print(renderer.connected)
            async def go():
                connecting = asyncio.create_task(connect())
                await asyncio.sleep(0)  # it has said hello
                time.sleep(0.5)
                await connecting
            asyncio.run(go())
            """,
        )
    assert out == "True\n"


async def test_a_loop_that_is_run_within_a_listener_on_asyncio_hears_what_comes(tmp_path: Path) -> None:
    """As one on Qt's loop is by a modal dialog."""
    async with hosting(path=tmp_path / "s") as host:

        async def tell(_event: object) -> None:
            for number in range(5):
                host.ipc.broadcast("n", number)
            await asyncio.sleep(0.1)
            host.ipc.broadcast("close")

        host.ipc.handle("tell", tell)
        out = await script(
            host,
            """
            import asyncio
            from nesting import NestingLoop
            said, closed = [], []
            def dialog(event, number):
                said.append(number)
                if number in (0, 1, 3):
                    answer = ipc.invoke("echo", number)
                    loop.nest(lambda: answer.done() and (closed or number != 1))
                    said.append(answer.result())
            async def main():
                global ipc, loop
                loop = asyncio.get_running_loop()
                loop.call_later(30, os._exit, 1)
                async with RendererProcess.connect(path) as renderer:
                    ipc = lab.IpcRenderer.get_instance()
                    ipc.listen("n", dialog)
                    ipc.listen("close", lambda event: closed.append(1))
                    await ipc.invoke("tell")
                    while len(said) < 8:
                        await asyncio.sleep(0.01)
                    assert await ipc.invoke("echo", 1) == (1,)
                print(said)
            with asyncio.Runner(loop_factory=NestingLoop) as runner:
                runner.run(main())
            """,
        )
    assert out == "[0, 1, 2, 3, 4, (3,), (1,), (0,)]\n"


async def test_a_name_that_was_refused_takes_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lensipc.renderer.core.MAX_NAMES", 1000)
    async with hosting(path=tmp_path / "s"), RendererProcess.connect(tmp_path / "s"):
        ipc = lab.IpcRenderer.get_instance()
        for _ in range(3):
            with pytest.raises(ValueError, match="at most 1000 bytes together"):
                ipc.broadcast("x" * 1000)
        ipc.broadcast("x" * 500)
        assert await ipc.invoke("echo", 1) == (1,)
