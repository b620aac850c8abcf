# SPDX-License-Identifier: MIT
"""The slabs of one extension: shared memory that main writes once, for all renderers that read it there.

A slab is a sealed memfd. This file makes slabs and gives them back. What lies in them is an affair of the C core
(csrc/endpoint/slabs.c).
"""

from __future__ import annotations

import errno
import fcntl
import os
import weakref
from typing import TYPE_CHECKING, Final, NamedTuple

from lensipc._core import ffi, lib
from lensipc.errors import ForkError

if TYPE_CHECKING:
    from .endpoint import Endpoint

WANTS_SLAB: Final = lib.LIPC_WANTS_SLAB
PAGE: Final = 4096


class SlabState(NamedTuple):
    """A slab as it is used."""

    size: int
    taken: int  # bytes in blocks that somebody holds
    blocks: int  # blocks that somebody holds
    uses: int  # blocks that were ever taken


class Slabs:
    """The slabs of one extension. `most` is the size of the largest message that lies in a slab, in bytes."""

    __slots__ = ("__weakref__", "_fds", "_handle")

    def __init__(self, most: int) -> None:
        handle = lib.lipc_slabs_create(most)
        if handle == ffi.NULL:
            raise MemoryError("no memory for the slabs of an extension")
        self._handle = ffi.gc(handle, lib.lipc_slabs_free)
        self._fds: dict[int, int] = {}
        _live.add(self)

    def wanted(self) -> int:
        """The size of the largest message for which there was no room since the last call, in bytes; 0: none."""
        return lib.lipc_slabs_wanted(self._handle)

    def add(self, number: int, size: int) -> None:
        """Make a slab of `size` bytes, a number of whole pages. No other slab may have had its number.

        Raises:
            OSError: no memory, no descriptor, no /proc, or a kernel without F_SEAL_FUTURE_WRITE (EINVAL).
        """
        fd = -1
        try:
            fd = lib.lipc_slab_add(self._handle, number, size)
            if fd < 0:
                raise OSError(-fd, os.strerror(-fd))
            # The kernel counts who has opened a file, for leases, but not who has made it: so it is opened again.
            self._fds[number] = os.open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
        except BaseException:  # what a signal raises, too
            self.remove(number)
            raise
        finally:
            if fd >= 0:
                os.close(fd)

    def close(self) -> None:
        """Give all slabs back. Memory that somebody holds a block of is unmapped once nobody does."""
        for number in list(self._fds):
            if not self.remove(number):
                os.close(self._fds.pop(number))

    def remove(self, number: int) -> bool:
        """Give a slab back, unless somebody holds a block of it. Return whether it is gone."""
        if lib.lipc_slab_remove(self._handle, number) == -errno.EBUSY:
            return False
        fd = self._fds.pop(number, None)
        if fd is not None:
            os.close(fd)
        return True

    def open(self, number: int) -> int:
        """A descriptor of the slab for one renderer, read-only. The caller closes it. OSError: there is none left."""
        os.fchmod(self._fds[number], 0o600)  # a renderer of this user, which has the file, may have changed its mode
        return os.open(f"/proc/self/fd/{self._fds[number]}", os.O_RDONLY | os.O_CLOEXEC)

    def is_had_by_others(self, number: int) -> bool:
        """Whether another process may have the slab open, or mapped: it could have kept it, whatever it was told.

        The kernel grants a lease to write only where nobody else has the file open, and a mapping keeps a file open.
        Where it knows no such leases, nothing is known, and the answer is True.
        """
        from signal import SIGURG  # here, for it is seldom needed

        fd = self._fds[number]
        try:
            # If somebody opens the file just now, the kernel sends a signal. SIGIO would end this process.
            fcntl.fcntl(fd, fcntl.F_SETSIG, SIGURG)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except OSError:
            return True
        return False

    def look(self, number: int) -> SlabState:
        """How the slab is used now."""
        state = ffi.new("struct lipc_slab_state *")
        lib.lipc_slab_look(self._handle, number, state)
        return SlabState(state.size, state.taken, state.blocks, state.uses)

    def _disown(self) -> None:
        """In a forked child: unmap nothing, because it was not inherited, and close the descriptors."""
        ffi.gc(self._handle, None)
        while self._fds:
            os.close(self._fds.popitem()[1])
        self.__class__ = _ForkedSlabs


class Holds:
    """What a renderer holds of the slabs. It keeps that though main closes its endpoint, which comes next: it may still
    read. `bytes`: how much it is.
    """

    __slots__ = ("_handle", "bytes")

    def __init__(self, endpoint: Endpoint) -> None:
        handle = lib.lipc_leave_holds(endpoint._handle)
        self._handle = ffi.gc(handle, lib.lipc_holds_free)
        self.bytes: int = lib.lipc_holds_bytes(handle) if handle else 0

    def give_back(self) -> None:
        """The renderer has ended, or main has: end all of it."""
        ffi.release(self._handle)
        self.bytes = 0


class _ForkedSlabs(Slabs):
    """What inherited slabs turn into: the memory is the parent's."""

    __slots__ = ()

    def __getattribute__(self, name: str) -> object:
        if name.startswith("__"):
            return object.__getattribute__(self, name)
        raise ForkError(f"Slabs.{name}: the slabs belong to the parent process, this is a fork of it")


_live: weakref.WeakSet[Slabs] = weakref.WeakSet()


def _disown_all() -> None:
    for slabs in list(_live):
        slabs._disown()
    _live.clear()


os.register_at_fork(after_in_child=_disown_all)
