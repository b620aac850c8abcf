"""Who is there: an extension's part in main knows the renderers in which it is active, and sends to one of them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import present
import pytest
from hosting import until

from lensipc import (
    ActivationError,
    MainProcess,
    NotActivatedError,
    PeerGone,
    RendererHandle,
    RendererProcess,
    Types,
)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    present.notes.clear()  # other tests use the extension, too
    yield
    present.notes.clear()
    present.raise_in.clear()
    assert present.IpcMain.get_instance(strict=False) is None


def info(handle: RendererHandle) -> Types.RendererInfo:
    return Types.RendererInfo(handle.frame_id, handle.pid)


async def test_the_part_in_main_is_told_of_each_renderer_in_which_it_is_active_once_it_is_active_itself() -> None:
    async with MainProcess() as main:
        first = await main.spawn_renderer()
        await main.install(present.MANIFEST)
        second = await main.spawn_renderer()
        await main.spawn_renderer(["another"])  # which may not speak for it
        ipc = present.IpcMain.get_instance()
        assert ipc.renderers == [info(first), info(second)]
        await until(lambda: len(present.notes) == 3)
        assert present.notes == ["activated", ("attached", info(first)), ("attached", info(second))]


async def test_the_part_in_main_is_told_how_a_renderer_has_gone() -> None:
    async with MainProcess() as main:
        await main.install(present.MANIFEST)
        first, second = await main.spawn_renderer(), await main.spawn_renderer()
        first.kill()
        await until(lambda: len(present.notes) == 4)
        assert present.notes[3] == (
            "gone",
            info(first)._replace(status=-9),
            "died of signal 9 (SIGKILL)",
            [info(second)],
        )
        await second.close()
        await until(lambda: len(present.notes) == 5)
        assert present.notes[4] == ("gone", info(second), "main closed it", [])
        assert present.IpcMain.get_instance().renderers == []


async def test_a_renderer_that_connects_and_leaves_by_itself_is_told_of_too(tmp_path: Path) -> None:
    async with MainProcess(tmp_path / "s") as main:
        await main.install(present.MANIFEST)
        async with RendererProcess.connect(tmp_path / "s") as renderer:
            await until(lambda: len(present.notes) == 2)
            assert present.notes[1][1].frame_id == renderer.frame_id
        await until(lambda: len(present.notes) == 3)
        assert present.notes[2][0] == "gone"


async def test_the_part_in_a_renderer_knows_of_it_what_main_knows(tmp_path: Path) -> None:
    async with MainProcess(tmp_path / "s") as main:
        await main.install(present.MANIFEST)
        await main.spawn_renderer(name="spawned")
        async with RendererProcess.connect(tmp_path / "s", name="connected") as renderer:
            assert renderer.name == "connected"
            ipc = present.IpcMain.get_instance()
            assert [each.name for each in ipc.renderers] == ["spawned", "connected"]
            ipc.broadcast("who")
            await until(lambda: len([note for note in present.notes if note[0] == "heard"]) == 2)
            heard = [note for note in present.notes if note[0] == "heard"]
            assert sorted(heard) == sorted(("heard", each.frame_id, *each) for each in ipc.renderers)


async def test_disabling_an_extension_makes_no_renderer_gone_and_enabling_it_tells_of_all_again() -> None:
    async with MainProcess() as main:
        await main.install(present.MANIFEST)
        renderer = await main.spawn_renderer()
        ipc = present.IpcMain.get_instance()
        await main.disable("present")
        assert ipc.renderers == []
        await main.enable("present")
        await until(lambda: len(present.notes) == 5)
        attached = ("attached", info(renderer))
        assert present.notes == ["activated", attached, ("deactivated", []), "activated", attached]
        await main.uninstall("present")
        renderer.kill()
        await renderer.wait()
        assert present.notes[5:] == [("deactivated", [])]


async def test_what_the_part_raises_there_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    present.raise_in.update({"attached", "gone"})
    async with MainProcess() as main:
        await main.install(present.MANIFEST)
        renderer = await main.spawn_renderer()
        await until(lambda: "on_renderer_attached of extension present in main raised" in caplog.text)
        renderer.kill()
        await until(lambda: "on_renderer_gone of extension present in main raised" in caplog.text)
        assert info(await main.spawn_renderer()) in present.IpcMain.get_instance().renderers


async def test_an_async_call_that_still_runs_when_the_extension_is_disabled_is_cancelled() -> None:
    present.raise_in.add("wait")
    async with MainProcess() as main:
        await main.install(present.MANIFEST)
        renderer = await main.spawn_renderer()
        await until(lambda: ("attached", info(renderer)) in present.notes)
        await main.disable("present")
        await until(lambda: present.notes[-1] == ("ended", info(renderer)))


async def test_an_event_for_one_renderer_is_heard_there_alone_in_the_order_of_broadcasts() -> None:
    async with MainProcess() as main:
        await main.install(present.MANIFEST)
        renderers = [await main.spawn_renderer() for _ in range(3)]
        ipc = present.IpcMain.get_instance()
        one = renderers[1].frame_id
        for number in range(100):
            ipc.send(one, "say", "one", number)
            ipc.broadcast("say", "all", number)
        await until(lambda: sum(note[0] == "heard" for note in present.notes) == 400)
        heard = {each.frame_id: [] for each in renderers}  # type: ignore[var-annotated]
        for note in present.notes:
            if note[0] == "heard":
                heard[note[1]].append(note[2:])
        expected = [(what, number) for number in range(100) for what in ("one", "all")]
        assert heard.pop(one) == expected
        assert all(said == [("all", number) for number in range(100)] for said in heard.values())


async def test_an_event_for_nobody_is_dropped_and_one_for_all_is_a_broadcast() -> None:
    async with MainProcess() as main:
        await main.install(present.MANIFEST)
        renderer = await main.spawn_renderer()
        ipc = present.IpcMain.get_instance()
        ipc.send(999, "say", "nobody")
        ipc.send(renderer.frame_id, "say", "somebody")
        with pytest.raises(ValueError, match=r"broadcast\(\) sends to all"):
            ipc.send(0xFFFFFFFF, "say", "all")
        with pytest.raises(TypeError, match=r"such as renderer\.frame_id, not RendererInfo"):
            ipc.send(ipc.renderers[0], "say", "all")  # type: ignore[call-overload]
        await until(lambda: ("heard", renderer.frame_id, "somebody") in present.notes)
        assert not any(note[-1] in ("nobody", "all") for note in present.notes)
        await main.disable("present")
        with pytest.raises(NotActivatedError):
            ipc.send(renderer.frame_id, "say", "late")


async def test_another_thread_may_send_to_one_renderer_and_its_array_is_moved() -> None:
    async with MainProcess() as main:
        await main.install(present.MANIFEST)
        renderer = await main.spawn_renderer()
        ipc, moved = present.IpcMain.get_instance(), bytearray(b"moved")
        send = threading.Thread(
            target=lambda: ipc.send(renderer.frame_id, "say", moved, transfer=[moved]),
        )
        send.start()
        send.join()
        await until(lambda: ("heard", renderer.frame_id, bytearray(b"moved")) in present.notes)
        assert moved == b""


async def test_one_that_is_disabled_while_a_renderer_is_started_is_told_of_that_renderer_when_it_is_enabled() -> None:
    async with MainProcess() as main:
        await main.install(present.MANIFEST, settings="slow")
        starting = asyncio.create_task(main.spawn_renderer())
        await until(lambda: main.renderers)
        await asyncio.sleep(0.05)
        await main.disable("present")
        renderer = await starting
        assert not any(note[0] == "attached" for note in present.notes)
        await main.enable("present")
        await until(lambda: ("attached", info(renderer)) in present.notes)
        assert present.IpcMain.get_instance().renderers == [info(renderer)]


async def test_each_that_is_told_of_is_told_of_as_gone_though_it_went_as_it_came() -> None:
    async with MainProcess() as main:
        await main.install(present.MANIFEST, settings="hostile")
        for _ in range(5):
            starting = asyncio.create_task(main.spawn_renderer())
            await until(lambda: main.renderers)
            time.sleep(0.5)  # main is busy: then it reads all at once
            with contextlib.suppress(PeerGone, ActivationError):
                await starting
        await until(lambda: not main.renderers)
        ipc = present.IpcMain.get_instance()
        await until(
            lambda: (
                sum(note[0] == "attached" for note in present.notes) == sum(note[0] == "gone" for note in present.notes)
            )
        )
        assert ipc.renderers == []


async def test_a_renderer_that_main_closes_is_gone_before_its_parts_are_deactivated() -> None:
    async with MainProcess() as main:
        await main.install(present.MANIFEST, settings="slow")
        renderer = await main.spawn_renderer()
        closing = asyncio.create_task(renderer.close())
        await until(lambda: ("gone", info(renderer), "main closed it", []) in present.notes)
        assert not closing.done()
        await closing
        assert sum(note[0] == "gone" for note in present.notes) == 1


@pytest.mark.parametrize("first", [True, False])
async def test_what_nobody_can_tell_from_an_awaitable_neither_ends_a_renderer_nor_an_installation(
    first: bool, caplog: pytest.LogCaptureFixture
) -> None:
    present.raise_in.add("odd")
    async with MainProcess() as main:
        if first:
            await main.spawn_renderer()
        await main.install(present.MANIFEST)
        renderer = await main.spawn_renderer()
        await until(lambda: ("attached", info(renderer)) in present.notes)
        await until(lambda: "on_renderer_attached of extension present in main raised" in caplog.text)
        assert renderer.alive
    assert present.notes[-1] == ("deactivated", [])
