"""What every test has: the harness on sys.path, signals as a terminal has them, and a check that nothing is left."""

from __future__ import annotations

import gc
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

sys.path[:0] = [str(Path(__file__).parent / "extensions"), str(Path(__file__).parent)]  # the second: hostile/

# What a shell leaves ignored for `make test &`, or nohup, is not ignored here, nor in what the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
    signal.signal(_number, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _shm() -> set[Path]:
    return set(Path("/dev/shm").glob("lensipc-" + 16 * "[0-9a-f]"))  # others on this machine have theirs there


def _descriptors() -> dict[str, str]:
    found = {}
    for fd in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the listing's own descriptor
            found[fd.name] = str(fd.readlink())
    return found


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """After each test: no shared memory with a name, no descriptor, no child process."""
    before, shm = _descriptors(), _shm()
    yield
    gc.collect()
    deadline = time.monotonic() + 5  # a killed process takes its time to vanish
    while psutil.Process().children() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert psutil.Process().children() == []
    assert _shm() - shm == set()
    left = {fd: target for fd, target in _descriptors().items() if before.get(fd) != target}
    assert left == {}
