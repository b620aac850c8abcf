"""What every test has: the harness on sys.path, signals as a terminal has them, and a check that nothing is left."""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

# The unit tests, which `make quick` runs, are those that start no process: all of these files that are not marked
# `process`. A test of one part stands in that part's file; one of whole renderers and hosts in a file that is not here.
UNITS = {
    "test_backlog",
    "test_busy_poll",
    "test_channels",
    "test_clone",
    "test_connection",
    "test_constructors",
    "test_constructors_generated",
    "test_dispatch",
    "test_drivers",
    "test_endpoint",
    "test_events",
    "test_extension",
    "test_handshake",
    "test_house",
    "test_ipc",
    "test_large_arrays",
    "test_last_sender",
    "test_log",
    "test_pending",
    "test_poller",
    "test_remote_error",
    "test_reader",
    "test_subclasses",
    "test_user_code",
    "test_writer",
}

sys.path[:0] = [str(Path(__file__).parent / "extensions"), str(Path(__file__).parent)]  # the second: hostile/

# What a shell leaves ignored for `make test &`, or nohup, is not ignored here, nor in what the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(_number, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, ())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the unit tests."""
    for item in items:
        if item.path.stem in UNITS and not item.get_closest_marker("process"):
            item.add_marker("unit")


def _shm() -> set[Path]:
    return set(Path("/dev/shm").glob("lensipc-" + 16 * "[0-9a-f]"))  # others on this machine have theirs there


def _descriptors() -> dict[str, str]:
    found = {}
    for fd in os.listdir("/proc/self/fd"):  # noqa: PTH208 - of names alone it is three times as fast
        with suppress(FileNotFoundError):  # the listing's own descriptor
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115
    return found


def _mappings() -> set[bytes]:
    """Of shared memory, each by its addresses and its inode."""
    maps = Path("/proc/self/maps").read_bytes()
    if b"/memfd:" not in maps and b"/dev/shm/" not in maps:
        return set()
    return {line for line in maps.splitlines() if b"/memfd:" in line or b"/dev/shm/" in line}


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _reaped() -> int:
    """Grows with each child that has ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt


Left = tuple[set[Path], dict[str, str], set[bytes]]


def _since(before: Left) -> Left:
    shm, descriptors, mappings = before
    left = {fd: target for fd, target in _descriptors().items() if descriptors.get(fd) != target}
    return _shm() - shm, left, _mappings() - mappings


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test: no shared memory with a name, no descriptor, no mapping of shared memory, no child process.

    What was there when the last test ended is frozen, so that a collection looks only at what this one has made: all
    of it would take most of the time. To freeze hides no leak. It could only make one of what the last test has left in
    a cycle, which is why what was found is looked for again when nothing is frozen any more.
    """
    before, reaped = (_shm(), _descriptors(), _mappings()), _reaped()
    yield
    gc.collect()
    # A killed process takes its time to vanish, and what another run of tests has in /dev/shm soon vanishes, too.
    deadline = time.monotonic() + 5
    while (_has_children() or not _shm() <= before[0]) and time.monotonic() < deadline:
        time.sleep(0.01)
    if _has_children():
        assert psutil.Process().children() == []
    left = _since(before)
    if any(left):
        gc.unfreeze()
        gc.collect()
        left = _since(before)
    gc.freeze()
    assert left == (set(), {}, set())
    if request.node.get_closest_marker("unit"):
        assert _reaped() == reaped, "a unit test has started a process: mark it `process`"
