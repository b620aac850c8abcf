# SPDX-License-Identifier: MIT
"""The abstract classes and their one instance each, without a process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lensipc import Ipc, LensMainExtension, LensRendererExtension, NotActivatedError
from lensipc.runtime.channels import Channel, ChannelTable
from lensipc.runtime.loader import dispose_part
from lensipc.runtime.protocol import ALL


class Port:
    """A port to nowhere."""

    def __init__(self) -> None:
        self.table: ChannelTable[Channel] = ChannelTable("ext", Channel)
        self.table.open = True
        self.sent: list[Any] = []

    def close(self) -> None:
        self.table.close()

    def send(self, target: int, channel: str, args: tuple[Any, ...], transfer: Any) -> None:
        self.sent.append((target, channel, args, transfer))

    def listen(self, channel: str, listener: Any, *options: Any) -> Any:
        self.sent.append(options)
        return self.table.listen(channel, listener)


class IpcMain(Ipc.Main):
    """Takes arguments of its own."""

    def __init__(self, extension: LensMainExtension, number: int = 0, *, word: str = "") -> None:
        super().__init__(extension)
        self.number, self.word = number, word
        if word == "raise":
            raise ValueError(word)


class OtherMain(Ipc.Main):
    """Another class of the same extension."""


class IpcRenderer(Ipc.Renderer):
    """A renderer's side."""


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    for kind in (IpcMain, OtherMain, IpcRenderer):
        kind.reset_instance()


def main_part(id: str = "ext") -> LensMainExtension:
    return LensMainExtension(id, "1.0", Port())


def renderer_part(id: str = "ext") -> LensRendererExtension:
    return LensRendererExtension(id, "1.0", Port())


@pytest.mark.parametrize("kind", [Ipc.Main, Ipc.Renderer])
def test_the_abstract_classes_cannot_be_made(kind: Any) -> None:
    for make in (kind, kind.create_instance):
        with pytest.raises(TypeError, match=f"{kind.__name__} is abstract: subclass it"):
            make(main_part())
    with pytest.raises(TypeError, match="is not created"):
        kind.get_instance()


def test_a_class_of_a_file_that_was_imported_twice_is_told_of_the_other_one() -> None:
    IpcMain.create_instance(main_part())
    twin: Any = type("IpcMain", (Ipc.Main,), {"__qualname__": IpcMain.__qualname__, "__module__": "__main__"})
    with pytest.raises(TypeError, match=rf"not created in __main__, but in {__name__}: is it one file, imported twice"):
        twin.get_instance()


def test_a_subclass_is_made_by_create_instance_only() -> None:
    with pytest.raises(TypeError, match=r"IpcMain is not constructed directly: call IpcMain\.create_instance"):
        IpcMain(main_part())
    IpcMain.create_instance(main_part())
    with pytest.raises(TypeError, match="not constructed directly"):
        IpcMain(main_part())


def test_get_instance_finds_what_create_instance_made() -> None:
    with pytest.raises(TypeError, match=r"^instance of IpcMain is not created$"):
        IpcMain.get_instance()
    assert IpcMain.get_instance(strict=False) is None
    part = main_part()
    instance = IpcMain.create_instance(part)
    assert IpcMain.get_instance() is instance
    assert IpcMain.get_instance(strict=False) is instance
    assert instance.extension is part


def test_a_second_create_instance_for_the_same_extension_gives_the_first() -> None:
    part = main_part()
    instance = IpcMain.create_instance(part, 1)
    assert IpcMain.create_instance(part, 2) is instance
    assert instance.number == 1


def test_a_second_extension_is_refused_by_name() -> None:
    instance = IpcMain.create_instance(main_part("first"))
    with pytest.raises(RuntimeError, match=r"exists already, for extension 'first': reset_instance\(\) comes first"):
        IpcMain.create_instance(main_part("second"))
    assert IpcMain.get_instance() is instance


def test_the_constructor_has_its_arguments() -> None:
    instance = IpcMain.create_instance(main_part(), 7, word="seven")
    assert (instance.number, instance.word) == (7, "seven")


@pytest.mark.parametrize(
    ("kind", "part"),
    [(IpcMain, renderer_part()), (IpcRenderer, main_part()), (IpcMain, None), (IpcRenderer, "ext")],
)
def test_an_extension_of_the_other_kind_is_refused(kind: Any, part: Any) -> None:
    with pytest.raises(TypeError, match=f"is made for a {kind._part().__name__}, not for"):
        kind.create_instance(part)
    assert kind.get_instance(strict=False) is None


def test_a_constructor_that_raises_leaves_no_instance() -> None:
    with pytest.raises(ValueError, match="raise"):
        IpcMain.create_instance(main_part(), word="raise")
    assert IpcMain.get_instance(strict=False) is None
    with pytest.raises(TypeError, match="not constructed directly"):
        IpcMain(main_part())
    IpcMain.create_instance(main_part())


def test_each_subclass_has_an_instance_of_its_own() -> None:
    part = main_part()
    own: Ipc.Main = IpcMain.create_instance(part)
    assert own is not OtherMain.create_instance(part)
    OtherMain.reset_instance()
    assert OtherMain.get_instance(strict=False) is None
    assert IpcMain.get_instance() is not None


def test_reset_instance_makes_room_for_another() -> None:
    first = IpcMain.create_instance(main_part("first"))
    IpcMain.reset_instance()
    IpcMain.reset_instance()
    assert IpcMain.create_instance(main_part("second")) is not first


def test_the_instance_is_forgotten_with_its_extension() -> None:
    part = main_part()
    IpcMain.create_instance(part)
    dispose_part(part)
    assert IpcMain.get_instance(strict=False) is None


def test_an_extension_that_ends_leaves_the_instance_of_the_next_alone() -> None:
    first, second = main_part("first"), main_part("second")
    IpcMain.create_instance(first)
    IpcMain.reset_instance()
    instance = IpcMain.create_instance(second)
    dispose_part(first)
    assert IpcMain.get_instance() is instance


def test_what_an_instance_registers_is_undone_with_its_extension_even_if_it_is_kept() -> None:
    part = main_part()
    instance = IpcMain.create_instance(part)
    instance.listen("a", print)
    instance.handle("b", print)
    dispose_part(part)
    table: Any = part._port.table
    assert not table["a"].listeners
    assert table["b"].handler is None
    with pytest.raises(NotActivatedError):
        instance.listen("a", print)
    with pytest.raises(NotActivatedError):
        instance.handle("a", print)


def test_broadcast_sends_to_all() -> None:
    part = main_part()
    IpcMain.create_instance(part).broadcast("a", 1, "two")
    port: Any = part._port
    assert port.sent == [(ALL, "a", (1, "two"), ())]


def test_a_renderer_listens_with_a_policy_and_does_not_handle() -> None:
    part = renderer_part()
    instance = IpcRenderer.create_instance(part)
    instance.listen("a", print)
    instance.listen("a", print, when_slow="drop_oldest", arrays="view")
    port: Any = part._port
    assert port.sent == [(None, False, False, None, "copy"), ("drop_oldest", False, False, None, "view")]
    assert not hasattr(instance, "handle")
    assert not hasattr(IpcMain, "invoke")


def test_who_asks_for_what_the_other_side_has_is_told_which_side_that_is() -> None:
    main = IpcMain.create_instance(LensMainExtension("ext", "1", Port()))
    renderer = IpcRenderer.create_instance(LensRendererExtension("ext", "1", Port()))
    for name in ("invoke", "invoke_sync", "drain_sync"):
        with pytest.raises(
            AttributeError, match=rf"IpcMain has no '{name}': only an Ipc\.Renderer has\. A renderer inv"
        ):
            getattr(main, name)
    with pytest.raises(
        AttributeError, match=r"IpcRenderer has no 'handle': only an Ipc\.Main has\. .* an Ipc\.Renderer"
    ):
        renderer.handle("n", print)  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="object has no attribute 'nothing'"):
        main.nothing  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(main, "invoke")
    dispose_part(main.extension)
    dispose_part(renderer.extension)
