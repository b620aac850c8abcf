"""What a host tells an extension when it installs it."""

from __future__ import annotations

import fractions
import re
from collections.abc import Iterator

import configured
import pytest

from lensipc import DataCloneError, ExtensionManifest, MainProcess


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    configured.told.clear()
    yield
    assert configured.IpcMain.get_instance(strict=False) is None


async def test_each_part_has_a_clone_of_the_settings_whenever_it_is_activated() -> None:
    settings = {"folders": ["a"], "limit": 3, "kinds": {"x"}}
    async with MainProcess() as main:
        await main.spawn_renderer()
        await main.install(configured.MANIFEST, settings=settings)
        settings["folders"].append("later")  # type: ignore[attr-defined]
        await main.spawn_renderer()
        await main.disable("configured")
        configured.told[0]["limit"] = 4  # main's own, for this activation
        await main.enable("configured")
        assert configured.told == [{"folders": ["a"], "limit": limit, "kinds": {"x"}} for limit in (4, 3, 3, 3, 3, 3)]


async def test_without_settings_they_are_none() -> None:
    async with MainProcess() as main:
        await main.install(configured.MANIFEST)
        await main.spawn_renderer()
        assert configured.told == [None, None]


async def test_settings_that_cannot_be_cloned_install_nothing() -> None:
    async with MainProcess() as main:
        with pytest.raises(DataCloneError, match=r"settings\['f'\] is a function"):
            await main.install(configured.MANIFEST, settings={"f": lambda: None})
        await main.install(configured.MANIFEST, settings=1)
        assert configured.told == [1]


async def test_where_only_plain_values_cross_settings_are_plain_too() -> None:
    async with MainProcess(values="plain") as main:
        with pytest.raises(DataCloneError):
            await main.install(configured.MANIFEST, settings=fractions.Fraction(1, 2))
        await main.install(configured.MANIFEST, settings={"a": [1.5, b"b"]})
        assert configured.told == [{"a": [1.5, b"b"]}]


async def test_large_settings_of_many_extensions_come_though_more_than_the_outbox_holds_waits() -> None:
    async with MainProcess(outbox_limit=1 << 20, high_water=1 << 16) as main:
        await main.install(ExtensionManifest("busy", "1", renderer="configured:Busy"))  # so that the rest has to wait
        large = bytes(3_000_000)
        manifests = [ExtensionManifest(f"large{n}", "1", renderer="configured:Silent") for n in range(6)]
        for manifest in manifests:
            await main.install(manifest, settings=large)
        assert (await main.spawn_renderer()).alive  # all were activated there


async def test_settings_may_cost_as_much_to_read_as_the_host_allows() -> None:
    patterns = [re.compile(f"[a-z]{{{n}}}[^x-z]*") for n in range(1, 200)]
    async with MainProcess(decode_budget=10**9) as main:
        await main.spawn_renderer()
        await main.install(configured.MANIFEST, settings=patterns)
        assert configured.told == [patterns, patterns]
