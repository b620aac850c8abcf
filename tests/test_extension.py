# SPDX-License-Identifier: MIT
"""Manifests, how a part is found, and how it is undone."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from importlib import import_module, reload
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from lensipc import ActivationError, ExtensionManifest, LensMainExtension, LensRendererExtension
from lensipc.extension import ENTRY_POINTS
from lensipc.runtime.loader import dispose_part, load

MODULE = """
from lensipc import ExtensionManifest, LensMainExtension, LensRendererExtension

class Main(LensMainExtension):
    class Inner(LensMainExtension):
        pass

class Renderer(LensRendererExtension):
    pass

class Camel(Main):
    def onDeactivate(self):
        pass

def function():
    pass

manifest = ExtensionManifest("offered", "1.2", main="offering:Main", renderer="offering:Renderer")
text = "no manifest"
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages."""
    (tmp_path / "offering.py").write_text(MODULE)
    (tmp_path / "offering_broken.py").write_text("raise RuntimeError('broken')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in ("offering", "offering_broken"):
        sys.modules.pop(name, None)


def offer(site: Path, package: str, *lines: str) -> None:
    """Install a distribution that offers these entry points."""
    info = site / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join([f"[{ENTRY_POINTS}]", *lines, ""]))


# ---- manifests ----


def test_a_manifest_is_a_value() -> None:
    manifest = ExtensionManifest("ext", "1.0", main="package.module:Class")
    assert manifest == ExtensionManifest(id="ext", version="1.0", main="package.module:Class", renderer=None)
    assert hash(manifest) == hash(ExtensionManifest("ext", "1.0", "package.module:Class"))
    with pytest.raises(AttributeError):
        manifest.id = "other"  # type: ignore[misc]


def test_either_part_may_be_missing() -> None:
    assert ExtensionManifest("ext", "1.0").main is None


@pytest.mark.parametrize("path", ["", "module", "module.Class", "a:b:c", ":", "module:", ":Class", "a b:c", "a:b c"])
@pytest.mark.parametrize("part", ["main", "renderer"])
def test_a_part_that_is_no_path_is_refused_by_name(part: str, path: str) -> None:
    with pytest.raises(ValueError, match=f"{part} of extension 'ext' is 'package.module:Class'"):
        ExtensionManifest("ext", "1.0", **{part: path})


@pytest.mark.parametrize("id", ["", None, 5])
def test_an_extension_has_a_name(id: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="id"):
        ExtensionManifest(id, "1.0")


# ---- discover ----


def test_discover_finds_what_installed_packages_offer(site: Path) -> None:
    offer(site, "offering", "one = offering:manifest")
    assert ExtensionManifest("offered", "1.2", "offering:Main", "offering:Renderer") in ExtensionManifest.discover()


def test_discover_leaves_out_and_logs_what_is_broken(site: Path, caplog: pytest.LogCaptureFixture) -> None:
    offer(
        site,
        "broken",
        "raises = offering_broken:manifest",
        "missing_module = offering_missing:manifest",
        "missing_name = offering:missing",
        "no_manifest = offering:text",
        "good = offering:manifest",
    )
    assert [each.id for each in ExtensionManifest.discover() if each.id == "offered"] == ["offered"]
    left_out = [record.getMessage() for record in caplog.records]
    assert len(left_out) == 4
    for name in ("raises", "missing_module", "missing_name", "no_manifest"):
        assert any(text.startswith(f"extension {name} (offering") for text in left_out)
    assert all(record.levelno == logging.ERROR and record.exc_info for record in caplog.records)


def test_discover_loads_no_part(site: Path) -> None:
    (site / "offering_parts.py").write_text("raise RuntimeError('loaded')\n")
    (site / "offering_only.py").write_text(
        "from lensipc import ExtensionManifest\nmanifest = ExtensionManifest('lazy', '1', 'offering_parts:Main')\n"
    )
    offer(site, "lazy", "lazy = offering_only:manifest")
    assert "lazy" in [manifest.id for manifest in ExtensionManifest.discover()]
    sys.modules.pop("offering_only")


# ---- load ----


@pytest.mark.usefixtures("site")
def test_a_part_is_found_by_its_path() -> None:
    assert load("offering:Main", LensMainExtension, "ext").__name__ == "Main"
    assert load("offering:Main.Inner", LensMainExtension, "ext").__name__ == "Inner"
    assert load("offering:Renderer", LensRendererExtension, "ext").__name__ == "Renderer"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("offering_missing:Main", "No module named"),
        ("offering:Missing", "no attribute 'Missing'"),
        ("offering:Main.Missing", "no attribute 'Missing'"),
        ("offering_broken:Main", "RuntimeError('broken')"),
        ("offering:function", "not a subclass of LensMainExtension"),
        ("offering:text", "not a subclass of LensMainExtension"),
        ("offering:Renderer", "not a subclass of LensMainExtension"),
        ("offering:Camel", "defines onDeactivate, which nobody calls: name it on_deactivate"),
    ],
)
@pytest.mark.usefixtures("site")
def test_a_part_that_cannot_be_loaded_is_named_with_the_reason(path: str, why: str) -> None:
    with pytest.raises(ActivationError) as caught:
        load(path, LensMainExtension, "ext")
    assert "extension 'ext'" in str(caught.value)
    assert repr(path) in str(caught.value)
    assert why in str(caught.value)


# ---- parts ----


class Port:
    """What a part is given to talk through; here it only notes that it was closed."""

    def __init__(self, error: Exception | None = None) -> None:
        self.closed = 0
        self.error = error

    def close(self) -> None:
        self.closed += 1
        if self.error is not None:
            raise self.error


@pytest.mark.parametrize("kind", [LensMainExtension, LensRendererExtension])
def test_a_part_knows_what_it_belongs_to_and_does_nothing_by_itself(kind: type[Any]) -> None:
    part = kind("ext", "1.0", Port())
    assert (part.id, part.version) == ("ext", "1.0")
    assert repr(part) == f"<{kind.__name__} ext 1.0>"
    assert part.on_activate() is None
    assert part.on_deactivate() is None


def test_undo_calls_the_disposers_the_last_first_and_then_closes_the_port() -> None:
    port = Port()
    order: list[str] = []
    part = LensMainExtension("ext", "1.0", port)
    part.disposers.callback(order.append, "first")
    part.disposers.callback(lambda: order.append(f"second {port.closed}"))
    dispose_part(part)
    dispose_part(part)
    assert order == ["second 0", "first"]
    assert port.closed == 2  # which is the port's to bear


def test_a_disposer_that_raises_stops_none_of_the_others_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    port, order = Port(RuntimeError("third")), []
    part = LensMainExtension("ext", "1.0", port)

    def fail(what: str) -> None:
        order.append(what)
        raise ValueError(what)

    part.disposers.callback(order.append, "calm")
    part.disposers.callback(fail, "first")
    part.disposers.callback(fail, "second")
    dispose_part(part)
    assert order == ["second", "first", "calm"]
    assert port.closed == 1
    assert [record.getMessage() for record in caplog.records] == ["a disposer of extension ext raised"] * 2
    assert "first" in caplog.text
    assert "third" in caplog.text


def test_the_port_is_closed_even_if_ctrl_c_comes_in_a_disposer() -> None:
    port = Port()
    part = LensMainExtension("ext", "1.0", port)

    def interrupt() -> None:
        signal.raise_signal(signal.SIGINT)

    part.disposers.callback(interrupt)
    with pytest.raises(KeyboardInterrupt):
        dispose_part(part)
    assert port.closed == 1


# ---- code that has changed ----

CHANGES = """
from lensipc import LensMainExtension
from . import helper

class Main(LensMainExtension):
    version = {version}
"""


@pytest.fixture
def package(site: Path) -> Iterator[Path]:
    """An installed package whose extension has code of its own beside its part."""
    (site / "changing").mkdir()
    (site / "changing" / "__init__.py").touch()
    (site / "changing" / "helper.py").write_text("what = 1\n")
    (site / "changing" / "part.py").write_text(CHANGES.format(version=1))
    yield site / "changing"
    for name in [name for name in sys.modules if name.partition(".")[0] == "changing"]:
        del sys.modules[name]


def test_a_part_is_loaded_again_as_long_as_its_code_is_the_same(package: Path) -> None:
    found = load("changing.part:Main", LensMainExtension, "ext")
    (package / "unrelated.py").touch()
    assert load("changing.part:Main", LensMainExtension, "ext") is found


@pytest.mark.parametrize("name", ["part", "helper"])
@pytest.mark.parametrize("change", ["edited", "removed"])
def test_a_part_whose_code_has_changed_is_refused_with_the_file_and_the_way_out(
    package: Path, name: str, change: str
) -> None:
    load("changing.part:Main", LensMainExtension, "ext")
    path = package / f"{name}.py"
    if change == "edited":
        path.write_text(path.read_text() + "\n# changed\n")
    else:
        path.unlink()
    with pytest.raises(ActivationError, match=rf"'ext': {path} has changed since .* changing\.{name}.*start this"):
        load("changing.part:Main", LensMainExtension, "ext")


def test_what_a_part_has_imported_after_it_was_loaded_counts_too(package: Path) -> None:
    (package / "later.py").write_text("what = 1\n")
    part = load("changing.part:Main", LensMainExtension, "ext")("ext", "1", Port())
    import_module("changing.later")
    dispose_part(part)
    (package / "later.py").write_text("what = 22\n")
    with pytest.raises(ActivationError, match="later"):
        load("changing.part:Main", LensMainExtension, "ext")


def test_a_part_whose_package_is_elsewhere_by_now_is_refused(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load("changing.part:Main", LensMainExtension, "ext")
    copytree(package, package.parent / "newer" / "changing")
    monkeypatch.syspath_prepend(str(package.parent / "newer"))
    with pytest.raises(ActivationError, match=rf"changing is now {package.parent}/newer/.*, not {package}/"):
        load("changing.part:Main", LensMainExtension, "ext")


def test_code_that_was_imported_anew_is_loaded(package: Path) -> None:
    load("changing.part:Main", LensMainExtension, "ext")
    (package / "part.py").write_text(CHANGES.format(version=22))
    reload(sys.modules["changing.part"])
    assert load("changing.part:Main", LensMainExtension, "ext").version == 22
    (package / "part.py").write_text(CHANGES.format(version=333))
    del sys.modules["changing.part"]
    assert load("changing.part:Main", LensMainExtension, "ext").version == 333
