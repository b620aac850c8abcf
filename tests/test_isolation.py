"""Guarantee 1: an extension hears and reaches only itself, and only where main granted it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import hostile
import lab
import living
import pytest
from hosting import hosting, until

from lensipc import ExtensionManifest, MainProcess, RendererProcess, clone
from lensipc.runtime.protocol import ACTIVATE, ALL, CANCEL, DECLARE, EVENT, INVOKE, LISTEN, RESULT

OTHER = ExtensionManifest("other", "1", main="other:OtherMain", renderer="other:OtherRenderer")


async def test_two_extensions_with_the_same_channel_names_hear_only_themselves() -> None:
    import other

    async with hosting(2) as host:
        await host.main.install(OTHER)
        theirs = other.IpcMain.get_instance()
        host.ipc.note("news")
        for renderer in host.renderers:
            await host.ipc.run(renderer, "note", "news")
            await host.ipc.run(renderer, "other:note", "news")
        host.ipc.broadcast("news", "ours")
        theirs.broadcast("news", "theirs")
        for renderer in host.renderers:
            assert await host.ipc.run(renderer, "hear", "news", 1) == [(0, "ours", 0)]
            assert await host.ipc.run(renderer, "other:hear", "news", 1) == ["theirs"]
        assert host.ipc.heard["news"] == [(0, "ours")]
        # Each invokes its own handler.
        assert await host.ipc.run(host.renderers[0], "other:who") == "other"
        assert (await host.ipc.run(host.renderers[0], "invoke", "who"))[3] == "lab"


@pytest.mark.parametrize("name", ["lab/news", "other:news", "lab:news", "../other/news", "other\0news", ""])
async def test_no_channel_name_reaches_another_extension(name: str) -> None:
    import other

    async with hosting(1) as host:
        await host.main.install(OTHER)
        heard: list[object] = []
        other.IpcMain.get_instance().listen("news", lambda _event, *args: heard.append(args))
        host.ipc.note(name)
        await host.ipc.run(host.renderers[0], "broadcast", name, 3)
        await until(lambda: len(host.ipc.heard[name]) == 3)
        assert heard == []


async def test_a_renderer_has_the_parts_it_was_granted_and_no_others() -> None:
    import other

    async with hosting() as host:
        await host.main.install(OTHER)
        await host.main.install(living.MANIFEST)
        renderer = await host.main.spawn_renderer(["lab"])
        assert renderer.extensions == frozenset({"lab"})
        assert await host.ipc.run(renderer, "lab:active_extensions") == ["lab"]
        # Nor does it hear of what is installed later.
        await host.main.uninstall("other")
        await host.main.install(OTHER)
        assert await host.ipc.run(renderer, "lab:active_extensions") == ["lab"]
        other.IpcMain.get_instance().broadcast("news", 1)
        assert await host.ipc.run(renderer, "invoke", "echo") == ()


async def test_a_renderer_may_be_granted_what_is_installed_only_later() -> None:
    async with MainProcess() as main:
        renderer = await main.spawn_renderer(["lab"])
        await main.install(OTHER)
        await main.install(lab.MANIFEST)
        assert await lab.IpcMain.get_instance().run(renderer, "lab:active_extensions") == ["lab"]


async def test_what_connects_to_the_path_has_what_the_path_was_granted(tmp_path: Path) -> None:
    async with MainProcess(tmp_path / "s", extensions=["other"]) as main:
        await main.install(lab.MANIFEST)
        await main.install(OTHER)
        async with RendererProcess.connect(tmp_path / "s"):
            import other

            assert other.IpcRenderer.get_instance(strict=False) is not None
            assert lab.IpcRenderer.get_instance(strict=False) is None
            assert main.renderers[0].extensions == frozenset({"other"})


@pytest.mark.parametrize("kind", [DECLARE, EVENT, INVOKE, LISTEN, CANCEL, RESULT])
async def test_whatever_a_renderer_forges_nothing_of_another_extension_is_reached(kind: int) -> None:
    """A renderer that may speak for the lab alone, and that names another extension by every number there is."""
    import other

    async with hostile.arena(extensions=["lab"]) as ring:
        await ring.host.main.install(OTHER)
        heard: list[object] = []
        theirs = other.IpcMain.get_instance()
        theirs.listen("news", lambda _event, *args: heard.append(args))
        theirs.handle("secret", lambda _event: heard.append("asked"))
        number = ring.host.main._core.ports["other"].number
        neighbour = ring.host.renderers[0]
        await ring.host.ipc.run(neighbour, "other:note", "news")
        asking = asyncio.create_task(ring.host.ipc.run(neighbour, "invoke", "sleep", 0.1, "the neighbour's"))
        await until(lambda: ring.host.ipc.running)
        for forged in (number, 0, 2**32 - 1):
            renderer = await ring.connect()
            assert [clone.decode(record.body)[0] for record in renderer.inbox if record.kind == ACTIVATE] == ["lab"]
            if kind == DECLARE:
                renderer.declare("news", extension=forged)
                renderer.send(EVENT, 1, ALL, body=clone.encode(("forged",)))
                renderer.send(LISTEN, 1)
            else:  # a channel of the lab's, the other extension's number wherever there is room for one
                for channel in (0, number, forged):
                    renderer.send(kind, channel, forged, forged, renderer.next_id(), body=clone.encode(("forged",)))
            await renderer.parked()
            theirs.broadcast("news", "theirs")
            await renderer.parked()
            assert not any(b"theirs" in bytes(record.body) for record in renderer.receive())
            renderer.close()
            await renderer.over()
        assert await asking == "the neighbour's"
        await until(lambda: heard == [("theirs",)] * 3)
        assert await ring.host.ipc.run(neighbour, "other:hear", "news", 3) == ["theirs"] * 3
        assert ring.loop_errors == []


async def test_the_same_correlation_ids_in_two_renderers_are_two_requests() -> None:
    async with hostile.arena() as ring:
        first, second = await ring.connect(), await ring.connect()
        for renderer in (first, second):
            for _ in range(100):
                renderer.invoke(0, renderer.frame_id)
        for renderer in (first, second):
            for correlation in range(1, 101):
                record = next(
                    (each for each in renderer.inbox if each.correlation == correlation and each.kind == RESULT), None
                )
                record = record or await renderer.outcome(correlation)
                assert clone.decode(record.body) == (renderer.frame_id,)
            renderer.close()
            await renderer.over()


async def test_only_a_renderer_invokes_and_only_main_handles() -> None:
    from lensipc import Ipc

    assert not hasattr(Ipc.Main, "invoke")
    assert not hasattr(Ipc.Renderer, "handle")


async def test_the_socket_is_for_this_user_alone(tmp_path: Path) -> None:
    async with MainProcess(tmp_path / "s"):
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600


async def test_a_renderer_inherits_no_descriptor_but_its_own() -> None:
    async with hosting(2) as host:
        secret = Path(__file__).open()  # noqa: SIM115 - open in this process while the renderer starts
        with secret:
            renderer = await host.main.spawn_renderer()
        targets = await host.ipc.run(renderer, "lab:descriptors")
        assert not any(__file__ in target for target in targets)
        assert sum("socket:" in target for target in targets) <= 3  # its own, and asyncio's self-pipe
