"""Extensions come and go: install, enable, disable, uninstall, and what is undone by that."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lab
import living
import pytest
import raising
import starting
from hosting import hosting, until

from lensipc import (
    ActivationError,
    ExtensionManifest,
    MainProcess,
    NoHandlerError,
    NotActivatedError,
    PeerGone,
    RendererProcess,
)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    living.life.clear()
    living.raise_in.clear()
    yield
    assert living.IpcMain.get_instance(strict=False) is None


async def test_a_host_that_is_not_entered_or_was_exited_says_so() -> None:
    main = MainProcess()
    with pytest.raises(RuntimeError, match=r"has not been entered: `async with` it before install\(\)"):
        await main.install(living.MANIFEST)
    async with main:
        pass
    with pytest.raises(RuntimeError, match=r"was exited before spawn_renderer\(\)"):
        await main.spawn_renderer()


async def test_install_activates_the_part_in_main_and_in_every_renderer_present() -> None:
    async with MainProcess() as main:
        renderers = [await main.spawn_renderer() for _ in range(2)]
        await main.install(living.MANIFEST)
        await until(lambda: len(living.life) == 3)
        assert living.life[0] == "activate"
        assert sorted(living.life[1:]) == [(each.frame_id, "activate") for each in renderers]


async def test_a_renderer_that_comes_later_has_all_that_is_installed() -> None:
    async with MainProcess() as main:
        await main.install(living.MANIFEST)
        renderer = await main.spawn_renderer()
        await until(lambda: (renderer.frame_id, "activate") in living.life)


async def test_after_install_and_after_spawn_a_broadcast_reaches_all() -> None:
    async with MainProcess() as main:
        first = await main.spawn_renderer()
        await main.install(living.MANIFEST)
        living.IpcMain.get_instance().broadcast("ping", 1)
        second = await main.spawn_renderer()
        living.IpcMain.get_instance().broadcast("ping", 2)
        expected = {(first.frame_id, "pong 1"), (first.frame_id, "pong 2"), (second.frame_id, "pong 2")}
        await until(lambda: expected <= set(living.life))


async def test_disable_ends_it_everywhere_and_enable_brings_it_back() -> None:
    async with MainProcess() as main:
        renderer = await main.spawn_renderer()
        await main.install(living.MANIFEST)
        ipc = living.IpcMain.get_instance()
        for _ in range(3):
            await main.disable("living")
            assert living.IpcMain.get_instance(strict=False) is None
            with pytest.raises(NotActivatedError, match="'living'"):
                ipc.broadcast("ping", 1)
            with pytest.raises(NotActivatedError, match="'living'"):
                ipc.listen("ping", print)
            await main.disable("living")  # once is enough
            await main.enable("living")
            ipc = living.IpcMain.get_instance()
            ipc.broadcast("ping", 7)
            await until(lambda: living.life[-1] == (renderer.frame_id, "pong 7"))
        assert living.life.count("activate") == 4
        assert living.life.count("deactivate") == 3


async def test_on_deactivate_comes_before_the_disposers_and_can_still_talk() -> None:
    async with MainProcess() as main:
        renderer = await main.spawn_renderer()
        await main.install(living.MANIFEST)
        await until(lambda: (renderer.frame_id, "activate") in living.life)
        living.life.clear()
        await main.uninstall("living")
        assert [entry for entry in living.life if isinstance(entry, str)] == [
            "deactivate",
            "disposed last",
            "disposed first",
        ]


async def test_uninstalled_means_forgotten_and_it_can_be_installed_again() -> None:
    async with MainProcess() as main:
        await main.install(living.MANIFEST)
        with pytest.raises(ValueError, match="installed already"):
            await main.install(living.MANIFEST)
        await main.uninstall("living")
        for change in (main.uninstall, main.enable, main.disable):
            with pytest.raises(KeyError, match="'living' is not installed"):
                await change("living")
        await main.install(living.MANIFEST)


async def test_a_part_that_raises_in_main_is_named_and_leaves_nothing() -> None:
    async with hosting(1) as host:
        living.raise_in.add("activate")
        with pytest.raises(ActivationError, match=r"'living' \(living:Main\) in main raised ValueError") as raised:
            await host.main.install(living.MANIFEST)
        assert isinstance(raised.value.__cause__, ValueError)
        assert living.IpcMain.get_instance(strict=False) is None
        assert living.life[-2:] == ["disposed last", "disposed first"]
        living.raise_in.clear()
        await host.main.install(living.MANIFEST)  # nothing is in its way


async def test_a_part_that_raises_in_a_renderer_is_named_and_leaves_nothing() -> None:
    async with hosting(2) as host:
        bad = host.renderers[1]
        living.raise_in.add(f"renderer {bad.pid}")
        with pytest.raises(ActivationError, match=rf"'living' \(living:Renderer\) in renderer {bad.frame_id}"):
            await host.main.install(living.MANIFEST)
        assert living.IpcMain.get_instance(strict=False) is None
        living.raise_in.clear()
        await host.main.install(living.MANIFEST)
        living.IpcMain.get_instance().broadcast("ping", 1)
        await until(lambda: {(each.frame_id, "pong 1") for each in host.renderers} <= set(living.life))


async def test_a_renderer_whose_part_raises_is_not_spawned_and_the_rest_goes_on() -> None:
    async with hosting(1) as host:
        await host.main.install(living.MANIFEST)
        living.raise_in.add("renderer")
        with pytest.raises(ActivationError, match="the renderer will not"):
            await host.main.spawn_renderer()
        assert host.main.renderers == host.renderers
        assert await host.ipc.run(host.renderers[0], "invoke", "echo", 1) == (1,)


@pytest.mark.parametrize(
    ("main", "renderer", "why"),
    [
        ("no_such_module:Main", None, "No module named 'no_such_module'"),
        ("living:NoSuchClass", None, "NoSuchClass"),
        ("living:NotAnExtension", None, "not a subclass of LensMainExtension"),
        ("living:Renderer", None, "not a subclass of LensMainExtension"),
        (None, "living:Main", "not a subclass of LensRendererExtension"),
    ],
)
async def test_a_part_that_cannot_be_loaded_is_named(main: str | None, renderer: str | None, why: str) -> None:
    async with hosting(1) as host:
        with pytest.raises(ActivationError, match=why):
            await host.main.install(ExtensionManifest("broken", "1", main=main, renderer=renderer))
        await host.main.install(ExtensionManifest("broken", "1", main="living:MainOnly"))
        assert living.life == ["main only"]


async def test_on_deactivate_that_raises_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with MainProcess() as main:
        await main.install(living.MANIFEST)
        living.raise_in.add("deactivate")
        await main.disable("living")
        assert "main will not end" in caplog.text
        assert living.life[-1] == "disposed first"


async def test_leaving_the_host_deactivates_everything() -> None:
    async with MainProcess() as main:
        renderer = await main.spawn_renderer()
        await main.install(living.MANIFEST)
        await until(lambda: (renderer.frame_id, "activate") in living.life)
    assert "deactivate" in living.life
    assert await renderer.wait() == 0


async def test_cancelling_an_install_undoes_it() -> None:
    async with MainProcess() as main:
        manifest = ExtensionManifest("never", "1", main="starting:NeverMain")
        installing = asyncio.create_task(main.install(manifest))
        await asyncio.sleep(0.05)
        installing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await installing
        import starting

        assert starting.NeverIpcMain.get_instance(strict=False) is None
        with pytest.raises(KeyError):
            await main.enable("never")


async def test_listening_and_disposing_many_times_keeps_nothing() -> None:
    async with hosting() as host:
        table = host.ipc._port.table
        before = len(table._registrations)
        for _ in range(10_000):
            host.ipc.listen("again", print)()
            host.ipc.handle("again", print)()
        assert len(table._registrations) == before
        assert not table["again"].listeners


async def test_many_changes_of_state_declare_a_channel_once() -> None:
    async with hosting(1) as host:
        await host.main.install(living.MANIFEST)
        connection = host.renderers[0]._connection
        await host.main.disable("living")
        declared = len(connection.channels)
        for _ in range(20):
            await host.main.enable("living")
            await host.main.disable("living")
        assert len(connection.channels) == declared


async def test_the_instance_of_an_extension_is_found_anywhere_in_its_process() -> None:
    async with hosting():
        assert lab.IpcMain.get_instance() is lab.IpcMain.get_instance(strict=False)
    with pytest.raises(TypeError, match="instance of IpcMain is not created"):
        lab.IpcMain.get_instance()


async def test_an_async_listener_does_not_outlive_its_extension() -> None:
    async with hosting() as host:
        ticks: list[int] = []

        async def listener(_event: object) -> None:
            while True:
                ticks.append(1)
                await asyncio.sleep(0)

        host.ipc.listen("tick", listener)
        host.ipc.broadcast("tick")
        await until(lambda: ticks)
        await host.main.uninstall("lab")
        await asyncio.sleep(0)
        count = len(ticks)
        await asyncio.sleep(0.01)
        assert len(ticks) == count


async def test_a_listener_may_disable_its_own_extension_and_is_cancelled_by_that() -> None:
    async with hosting(1) as host:

        async def disable(_event: object) -> None:
            await host.main.disable("lab")
            raise AssertionError("it goes on")

        host.ipc.listen("disable", disable)
        host.ipc.broadcast("disable")
        await until(lambda: lab.IpcMain.get_instance(strict=False) is None)
        await host.main.enable("lab")


async def test_cancelling_a_spawn_ends_the_renderer() -> None:
    async with MainProcess() as main:
        await main.install(ExtensionManifest("never", "1", renderer="starting:EndlessRenderer"))
        spawning = asyncio.create_task(main.spawn_renderer())
        await until(lambda: main.renderers)
        (renderer,) = main.renderers
        spawning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await spawning
        await renderer.wait()


async def test_leaving_the_host_gives_up_an_activation_that_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lensipc.main.lifecycle.DEACTIVATION_WAIT", 1.0)
    async with MainProcess() as main:
        await main.spawn_renderer()
        installing = asyncio.create_task(
            main.install(ExtensionManifest("never", "1", renderer="starting:EndlessRenderer"))
        )
        spawning = asyncio.create_task(main.spawn_renderer())
        await asyncio.sleep(0.1)
    with pytest.raises(ActivationError, match="'never' was disabled while it was being activated"):
        await installing
    with pytest.raises(PeerGone):
        await spawning


async def test_disabling_gives_up_an_activation_that_never_ends() -> None:
    async with MainProcess() as main:
        installing = asyncio.create_task(main.install(ExtensionManifest("never", "1", main="starting:NeverMain")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await main.uninstall("never")
        with pytest.raises(ActivationError, match="'never' was disabled while it was being activated"):
            await installing
        with pytest.raises(KeyError):
            await main.enable("never")


async def test_changes_of_one_extension_at_once_leave_it_whole() -> None:
    async with hosting(1) as host:
        main = host.main
        await main.install(living.MANIFEST)
        changes = [main.uninstall("living"), main.enable("living"), main.disable("living"), main.enable("living")]
        await asyncio.gather(*changes, return_exceptions=True)
        with contextlib.suppress(KeyError):
            await main.uninstall("living")
        assert living.IpcMain.get_instance(strict=False) is None
        await main.install(living.MANIFEST)
        living.IpcMain.get_instance().broadcast("ping", 1)
        await until(lambda: (host.renderers[0].frame_id, "pong 1") in living.life)


@pytest.mark.parametrize("change", ["install", "enable"])
async def test_what_waits_for_an_earlier_change_is_not_activated_in_a_host_that_is_being_closed(change: str) -> None:
    main = await MainProcess().start()
    await main.install(lab.MANIFEST)
    if change == "install":
        await main.uninstall("lab")
        changes = [main.install(starting_slowly()), main.install(starting_slowly())]
    else:
        await main.install(starting_slowly())
        changes = [main.disable("slow"), main.enable("slow")]
    first, second = [asyncio.ensure_future(each) for each in changes]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await main.aclose()
    with pytest.raises(ActivationError, match="'slow' is not activated: the MainProcess is being closed"):
        await second
    await asyncio.gather(first, return_exceptions=True)
    assert [each.state for each in main.extensions.values() if each.id == "slow"] in ([], ["disabled"])


def starting_slowly() -> ExtensionManifest:
    """An extension whose part in main takes a while to come and to go."""
    return ExtensionManifest("slow", "1", main="starting:SlowBothWaysMain")


async def test_an_install_that_comes_while_the_same_is_uninstalled_waits_for_that() -> None:
    async with MainProcess() as main:
        await main.install(starting_slowly())
        uninstalling = asyncio.create_task(main.uninstall("slow"))
        await asyncio.sleep(0)
        await main.install(starting_slowly())
        await uninstalling
        assert main.extensions["slow"].state == "enabled"


async def test_ids_are_given_as_a_list() -> None:
    async with MainProcess() as main:
        with pytest.raises(TypeError, match=r"\['lab'\]"):
            await main.spawn_renderer("lab")


UPDATED = """
from lensipc import LensRendererExtension

class Renderer(LensRendererExtension):
    def on_activate(self):
        print("code", {version}, flush=True)
"""


async def test_after_an_update_a_renderer_has_the_new_code_or_the_error_says_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "updated.py").write_text(UPDATED.format(version=1))
    monkeypatch.syspath_prepend(str(tmp_path))
    manifest = ExtensionManifest("updated", "1", renderer="updated:Renderer")
    async with MainProcess() as main:
        old = await main.spawn_renderer()
        await main.install(manifest)
        await main.disable("updated")
        await main.enable("updated")  # nothing has changed
        await main.disable("updated")
        (tmp_path / "updated.py").write_text(UPDATED.format(version=22))
        why = rf"renderer {old.frame_id} .* {tmp_path}/updated\.py has changed since this process \(pid {old.pid}\)"
        with pytest.raises(ActivationError, match=why):
            await main.enable("updated")
        await old.close()
        await main.enable("updated")
        await main.spawn_renderer()
    assert capfd.readouterr().out == "code 1\ncode 1\ncode 22\n"


@pytest.mark.parametrize("way", ["plain", "awaited", "at_once"])
@pytest.mark.parametrize("where", ["main", "renderer"])
async def test_whatever_on_activate_raises_install_says_so_and_all_live_on(where: str, way: str) -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        place = "main" if where == "main" else rf"renderer {renderer.frame_id} \(pid {renderer.pid}\)"
        for how, (_, name) in raising.HOW.items():
            what = rf"extension 'raising' \(raising:\w+\) in {place} raised {re.escape(name)}"
            with pytest.raises(ActivationError, match=what) as caught:
                await host.main.install(raising.manifest(f"{where}.on_activate", way, how))
            assert str(caught.value).isprintable()
            assert len(str(caught.value)) < 70_000
            assert host.main.renderers == [renderer]
            assert await host.ipc.run(renderer, "invoke", "echo", 1) == (1,)
        await host.main.install(raising.manifest("nowhere", way, "exit"))


@pytest.mark.parametrize("way", ["plain", "awaited", "at_once"])
async def test_whatever_on_deactivate_raises_is_logged_and_all_live_on(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        for how, (_, name) in raising.HOW.items():
            caplog.clear()
            for where in ("main", "renderer"):
                await host.main.install(raising.manifest(f"{where}.on_deactivate", way, how))
                await host.main.uninstall("raising")
            here, there = (record.getMessage() for record in caplog.records)
            assert here == "on_deactivate of extension raising in main raised"
            start = f"on_deactivate of extension raising in renderer {renderer.frame_id} (pid {renderer.pid}) raised "
            assert there.startswith(start + name)
            assert await host.ipc.run(renderer, "invoke", "echo", 1) == (1,)


async def test_a_renderer_is_not_spawned_whose_part_leaves_and_the_error_says_how() -> None:
    async with hosting() as host:
        await host.main.install(raising.manifest("renderer.on_activate", "plain", "exit"))
        with pytest.raises(ActivationError, match=r"in renderer 1 \(pid \d+\) raised SystemExit: enough"):
            await host.main.spawn_renderer()
        assert host.main.renderers == []


async def test_a_module_that_leaves_when_it_is_imported_is_named(tmp_path: Path) -> None:
    (tmp_path / "leaving.py").write_text("import sys; sys.exit('not on this machine')")
    sys.path.insert(0, str(tmp_path))
    try:
        async with hosting(1) as host:
            for part in ({"main": "leaving:Part"}, {"renderer": "leaving:Part"}):
                with pytest.raises(ActivationError, match="'leaving:Part' cannot be loaded: SystemExit"):
                    await host.main.install(ExtensionManifest("leaving", "1", **part))
            assert await host.ipc.run(host.renderers[0], "invoke", "echo", 1) == (1,)
    finally:
        sys.path.remove(str(tmp_path))


async def test_who_cancels_an_install_gets_the_cancellation_though_it_is_disabled_too() -> None:
    async with MainProcess() as main:
        installing = asyncio.create_task(main.install(ExtensionManifest("never", "1", main="starting:NeverMain")))
        await asyncio.sleep(0.01)
        disabling = asyncio.create_task(main.disable("never"))
        await asyncio.sleep(0)
        installing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await installing
        await disabling


async def test_handlers_have_cleaned_up_before_on_deactivate_and_renderers_come_before_main() -> None:
    async with MainProcess() as main:
        await main.install(living.MANIFEST)
        await main.spawn_renderer()
        life, ipc = living.life, living.IpcMain.get_instance()
        started = asyncio.Event()

        async def slow(_event: object) -> None:
            started.set()
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.05)
                life.append("handler has cleaned up")

        ipc.handle("slow", slow)
        ipc.broadcast("invoke", "slow")
        await started.wait()
        life.clear()
        await main.disable("living")
        said = [entry[1] if isinstance(entry, tuple) else entry for entry in life]
        assert said == ["deactivate", "handler has cleaned up", "deactivate", "disposed last", "disposed first"]


async def test_a_handler_that_does_not_end_holds_its_extension_up_only_so_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lensipc.main.lifecycle.DEACTIVATION_WAIT", 0.2)
    async with hosting(1) as host:
        over = asyncio.Event()

        async def stubborn(_event: object) -> None:
            while not over.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await over.wait()

        host.ipc.handle("stubborn", stubborn)
        asking = asyncio.create_task(host.ipc.run(host.renderers[0], "invoke_error", "stubborn", ()))
        await until(lambda: host.renderers[0]._connection.running)
        port: Any = host.ipc._port
        await host.main.disable("lab")
        assert "1 handlers of extension lab still run, 0.2 s after they were cancelled" in caplog.text
        over.set()
        await until(lambda: not port.stopping)
        asking.cancel()


async def test_on_deactivate_in_main_is_cancelled_after_its_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lensipc.main.lifecycle.DEACTIVATION_WAIT", 0.2)
    async with hosting() as host:
        part = host.main._lifecycle._installed["lab"].part
        monkeypatch.setattr(part, "on_deactivate", asyncio.Event().wait)
        await host.main.disable("lab")
        assert "on_deactivate of extension lab in main took more than 0.2 s" in caplog.text


async def test_a_handler_may_close_the_renderer_that_has_invoked_it() -> None:
    async with hosting(1) as host:
        (renderer,), closed = host.renderers, []

        async def close(_event: object) -> None:
            await renderer.close()
            closed.append(renderer.alive)

        host.ipc.handle("close", close)
        asking = asyncio.create_task(host.ipc.run(renderer, "invoke_error", "close", ()))
        await until(lambda: closed)
        assert closed == [False]
        assert host.main.renderers == []
        asking.cancel()


async def test_a_renderer_is_closed_to_the_end_though_who_closes_it_is_cancelled() -> None:
    async with hosting(1) as host:
        (renderer,) = host.renderers
        closing = asyncio.create_task(renderer.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await renderer.wait()
        assert host.main.renderers == []


async def test_leaving_the_host_with_invokes_on_their_way_says_nothing(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
    async with hosting(1, path=tmp_path / "s") as host, RendererProcess.connect(tmp_path / "s"):
        ipc = lab.IpcRenderer.get_instance()
        host.ipc.broadcast("run", host.renderers[0].pid, 0, "invoke_and_forget", ("sleep", 60))
        forgotten = ipc.invoke("sleep", 60)

        async def wait() -> None:
            await ipc.invoke("sleep", 60)

        task = asyncio.create_task(wait())
        await until(lambda: host.ipc.running == 4)
        await host.main.disable("lab")
        with pytest.raises(NoHandlerError, match="extension 'lab' was deactivated here"):
            await forgotten
        with pytest.raises(NoHandlerError):
            await task
        assert task.cancelled()
        assert host.ipc.running == 0
    del forgotten, task
    gc.collect()
    assert errors == []
    assert "never retrieved" not in capfd.readouterr().err


@pytest.mark.parametrize("change", ["install", "disable"])
async def test_a_renderer_that_has_answered_is_not_disconnected_because_main_was_busy(
    monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    manifest = ExtensionManifest("busy", "1", main="starting:BusyMain", renderer="starting:BusyRenderer")
    async with hosting(1) as host:
        if change == "disable":
            await host.main.install(manifest)
        monkeypatch.setattr("lensipc.main.lifecycle.DEACTIVATION_WAIT", 0.2)
        (renderer,) = host.main.renderers
        renderer._connection.activation_timeout = 0.2
        changing = asyncio.create_task(
            host.main.install(manifest) if change == "install" else host.main.disable("busy")
        )
        while not len(renderer._connection.own_requests):
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.sleep(0.6)  # the answer lies in the ring, behind a thousand events
        await changing
        assert host.main.renderers == [renderer]
        assert await host.ipc.run(renderer, "invoke", "echo", 1) == (1,)


async def test_a_renderer_that_never_answers_is_disconnected_though_it_never_stops_talking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lensipc.main.connection.CATCH_UP", 20)
    manifest = ExtensionManifest("endless", "1", renderer="starting:EndlessRenderer")
    async with hosting(1) as host:
        host.renderers[0]._connection.activation_timeout = 0.2
        host.ipc.note("n")
        talking = asyncio.create_task(host.ipc.run(host.renderers[0], "broadcast", "n", 10**9))
        await until(lambda: host.ipc.heard["n"])
        await host.main.install(manifest)
        assert host.main.renderers == []
        talking.cancel()


async def test_what_is_installed_while_a_renderer_is_started_is_active_there() -> None:
    async with MainProcess() as main:
        await main.install(ExtensionManifest("slow", "1", renderer="starting:SlowToComeRenderer"))
        spawning = asyncio.create_task(main.spawn_renderer())
        await until(lambda: main.renderers)  # it is attached, and its first part not active yet
        assert not spawning.done()
        await main.install(living.MANIFEST)
        renderer = await spawning
        living.IpcMain.get_instance().broadcast("ping", 1)
        await until(lambda: (renderer.frame_id, "pong 1") in living.life)
        assert living.life.count((renderer.frame_id, "activate")) == 1


async def test_a_failed_install_is_undone_to_the_end_though_who_waits_for_it_is_cancelled() -> None:
    starting.answered.clear()
    undone = starting.UndoneMain
    undone.undoing, undone.may_end = asyncio.Event(), asyncio.Event()
    async with MainProcess() as main:
        manifest = ExtensionManifest("undone", "1", main="starting:UndoneMain")
        installing = asyncio.create_task(main.install(manifest))
        await undone.undoing.wait()
        for _ in range(3):
            installing.cancel()
            await asyncio.sleep(0.01)
        undone.may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await installing
        await until(lambda: starting.answered == ["undone"])
        await until(lambda: starting.UndoneIpcMain.get_instance(strict=False) is None)
        with pytest.raises(ActivationError):  # and not: it is installed already
            await main.install(manifest)


async def test_a_part_in_a_renderer_is_deactivated_when_it_has_been_activated(tmp_path: Path) -> None:
    starting.answered.clear()
    async with MainProcess(tmp_path / "s") as main, RendererProcess.connect(tmp_path / "s"):
        manifest = ExtensionManifest("slow", "1", renderer="starting:SlowToComeRenderer")
        installing = asyncio.create_task(main.install(manifest))
        await until(lambda: starting.answered)
        installing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await installing
        assert starting.answered == ["comes", "is there", "has left"]
