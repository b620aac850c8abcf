"""Extensions come and go: install, enable, disable, uninstall, and what is undone by that."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

import lab
import living
import pytest
from hosting import hosting, until

from lensipc import ActivationError, ExtensionManifest, MainProcess, NotActivatedError, PeerGone


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    living.life.clear()
    living.raise_in.clear()
    yield
    assert living.IpcMain.get_instance(strict=False) is None


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
        ("living:NotAnExtension", None, "no subclass of LensMainExtension"),
        ("living:Renderer", None, "no subclass of LensMainExtension"),
        (None, "living:Main", "no subclass of LensRendererExtension"),
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
        assert table["again"].listeners == ()


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


async def test_leaving_the_host_gives_up_an_activation_that_never_ends() -> None:
    async with MainProcess() as main:
        await main.spawn_renderer()
        installing = asyncio.create_task(
            main.install(ExtensionManifest("never", "1", renderer="starting:EndlessRenderer"))
        )
        spawning = asyncio.create_task(main.spawn_renderer())
        await asyncio.sleep(0.1)
    for task in (installing, spawning):
        with pytest.raises((asyncio.CancelledError, PeerGone)):
            await task


async def test_disabling_gives_up_an_activation_that_never_ends() -> None:
    async with MainProcess() as main:
        installing = asyncio.create_task(main.install(ExtensionManifest("never", "1", main="starting:NeverMain")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await main.uninstall("never")
        with pytest.raises(asyncio.CancelledError):
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


async def test_ids_are_given_as_a_list() -> None:
    async with MainProcess() as main:
        with pytest.raises(TypeError, match=r"\['lab'\]"):
            await main.spawn_renderer("lab")


@pytest.mark.parametrize("change", ["install", "disable"])
async def test_a_renderer_that_has_answered_is_not_disconnected_because_main_was_busy(
    monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    manifest = ExtensionManifest("busy", "1", main="starting:BusyMain", renderer="starting:BusyRenderer")
    async with hosting(1) as host:
        if change == "disable":
            await host.main.install(manifest)
        monkeypatch.setattr("lensipc.lifecycle.RENDERER_ACTIVATION_WAIT", 0.2)
        monkeypatch.setattr("lensipc.lifecycle.DEACTIVATION_WAIT", 0.2)
        (renderer,) = host.main.renderers
        changing = asyncio.create_task(
            host.main.install(manifest) if change == "install" else host.main.disable("busy")
        )
        while not len(renderer._connection.requests):
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        time.sleep(0.6)  # the answer lies in the ring, behind a thousand events
        await changing
        assert host.main.renderers == [renderer]
        assert await host.ipc.run(renderer, "invoke", "echo", 1) == (1,)


async def test_a_renderer_that_never_answers_is_disconnected_though_it_never_stops_talking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lensipc.lifecycle.RENDERER_ACTIVATION_WAIT", 0.2)
    monkeypatch.setattr("lensipc.renderer_connection.CATCH_UP", 20)
    manifest = ExtensionManifest("endless", "1", renderer="starting:EndlessRenderer")
    async with hosting(1) as host:
        host.ipc.note("n")
        talking = asyncio.create_task(host.ipc.run(host.renderers[0], "broadcast", "n", 10**9))
        await until(lambda: host.ipc.heard["n"])
        await host.main.install(manifest)
        assert host.main.renderers == []
        talking.cancel()
