# SPDX-License-Identifier: MIT
"""The tests of files_and_search.py, with the pytest plugin: pip install 'lensipc[testing]'; pytest examples

`lensipc_host` makes a host; its renderers are real processes, or run in this one with `pytest --lensipc-in-process`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import files_and_search
import pytest
from files_and_search import IpcRenderer

from lensipc import InvokeTimeout
from lensipc.testing import Host

MakeHost = Callable[..., Host]


@pytest.fixture
def host(lensipc_host: MakeHost, tmp_path: Path) -> Any:
    """A host that watches a folder with two files."""
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "b.txt").write_text("two\nthree\n")
    settings = {"files": {"folder": str(tmp_path), "word": ""}}
    with lensipc_host(files_and_search.MANIFEST, settings=settings) as made:
        yield made


def files_in(host: Host, number: int) -> list[str]:
    """The files that a window knows."""
    renderer = host.run(host.renderer(number))
    found: list[str] = host.run(renderer.ask(lambda: sorted(IpcRenderer.get_instance().files)))
    return found


def wait_for_files(host: Host, number: int, names: list[str]) -> None:
    """Main looks at the folder now and then."""
    deadline = time.monotonic() + 20
    while files_in(host, number) != names:
        assert time.monotonic() < deadline


def test_each_window_knows_the_files_and_hears_of_changes(host: Host, tmp_path: Path) -> None:
    for number in (1, 2):
        wait_for_files(host, number, ["a.txt", "b.txt"])
    (tmp_path / "c.txt").write_text("new")
    (tmp_path / "a.txt").unlink()
    for number in (1, 2):
        wait_for_files(host, number, ["b.txt", "c.txt"])


def test_a_search_gives_paths_and_lines_and_how_far_it_is(host: Host) -> None:
    renderer = host.run(host.renderer())
    wait_for_files(host, 1, ["a.txt", "b.txt"])
    hits = host.run(renderer.ask(lambda: IpcRenderer.get_instance().search("two")))
    assert hits == [("a.txt", 2), ("b.txt", 1)]
    assert host.run(renderer.ask(lambda: IpcRenderer.get_instance().progress)) == {"two": 1.0}


def test_a_window_that_is_killed_is_not_missed(host: Host) -> None:
    first, second = host.run(host.renderer(1)), host.run(host.renderer(2))
    host.run(first.kill())
    assert isinstance(host.run(second.ask(lambda: IpcRenderer.get_instance().search("two"))), list)


def test_a_search_that_takes_too_long_is_stopped(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = host.run(host.renderer())
    wait_for_files(host, 1, ["a.txt", "b.txt"])
    over, read = threading.Event(), []

    def slow_disk(path: Path) -> list[str]:
        read.append(path)
        over.wait(60)
        return []

    monkeypatch.setattr(files_and_search, "lines_of", slow_disk)  # main is this process
    with pytest.raises(InvokeTimeout):
        host.run(renderer.ask(lambda: IpcRenderer.get_instance().search("two", timeout=0.2)))
    over.set()
    host.run(host.settle())
    assert len(read) == 1  # main did not go on to the second file


async def search_alone(folder: Path) -> list[files_and_search.Found]:
    """The function that searches, called without any window."""
    return [found async for found in files_and_search.search(folder, ["a.txt", "gone.txt"], "one")]


def test_a_file_that_has_just_gone_has_no_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    assert asyncio.run(search_alone(tmp_path)) == [("a.txt", [1], 0.5), ("gone.txt", [], 1.0)]
