# SPDX-License-Identifier: MIT
"""The slabs of one extension, or of one renderer: shared memory that main writes once, for all who read it there.

A slab is a sealed memfd. This file makes slabs and gives them back. What lies in them is an affair of the C core
(csrc/endpoint/slabs.c).
"""

from __future__ import annotations

import errno
import os
import weakref
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from lensipc import _fast
from lensipc._core import ffi, lib
from lensipc.errors import ForkError

if TYPE_CHECKING:
    from .endpoint import Endpoint

Lent: TypeAlias = _fast.Lent
WANTS_SLAB: Final = lib.LIPC_WANTS_SLAB
PAGE: Final = os.sysconf("SC_PAGESIZE")
LOAN_LEAST: Final = lib.LIPC_BLOCK_LEAST  # bytes of the smallest array on loan
LOAN_HEAD: Final = lib.LIPC_LOAN_HEAD  # bytes in front of each


class SlabState(NamedTuple):
    """A slab as it is used."""

    size: int
    taken: int  # bytes in blocks that somebody holds
    blocks: int  # blocks that somebody holds
    uses: int  # blocks that were ever taken
    loans: int  # blocks that main has on loan
    lent: int  # bytes in these
    oldest: float  # for how long it has had the oldest of these (seconds)


class Slabs:
    """The slabs of one extension, or of one renderer. `most`: bytes of the largest message that lies in a slab."""

    __slots__ = ("__weakref__", "_address", "_handle")

    def __init__(self, most: int) -> None:
        handle = lib.lipc_slabs_create(most)
        if handle == ffi.NULL:
            raise MemoryError("no memory for the slabs of an extension")
        self._handle = ffi.gc(handle, lib.lipc_slabs_free)
        self._address = int(ffi.cast("uintptr_t", handle))
        _live.add(self)

    def wanted(self) -> int:
        """The size of the largest message for which there was no room since the last call, in bytes; 0: none."""
        return lib.lipc_slabs_wanted(self._handle)

    def add(self, number: int, size: int) -> None:
        """Make a slab of `size` bytes, a number of whole pages. No other slab may have had its number.

        Raises:
            OSError: no memory, no descriptor, no /proc, or a kernel without F_SEAL_FUTURE_WRITE (EINVAL).
        """
        code = lib.lipc_slab_add(self._handle, number, size)
        if code < 0:
            raise OSError(-code, os.strerror(-code))

    def lend(self, size: int) -> Lent | None:
        """Memory for an array of `size` bytes, writable and not cleared; None: no slab has that much room in one piece.

        It is given back when nothing refers to what this returns, in whatever thread. It keeps this object.
        """
        return _fast.lend(self._address, self, size)

    def close(self) -> None:
        """Give all slabs back, when nothing is sent any more. What is on loan is unmapped once nothing refers to it."""
        _fast.close_slabs(self._address)

    def remove(self, number: int) -> bool:
        """Give a slab back, unless somebody holds a block of it. Return whether it is gone."""
        return lib.lipc_slab_remove(self._handle, number) != -errno.EBUSY

    def fd(self, number: int) -> int:
        """The slab's own descriptor; -1: it is closed, or there is no such slab."""
        return lib.lipc_slab_fd(self._handle, number)

    def open(self, number: int) -> int:
        """A descriptor of the slab for one renderer, read-only. The caller closes it. OSError: there is none left."""
        fd = self.fd(number)
        os.fchmod(fd, 0o600)  # a renderer of this user, which has the file, may have changed its mode
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)

    def is_had_by_others(self, number: int) -> bool:
        """Whether another process may have the slab open, or mapped: it could have kept it, whatever it was told.

        Where the kernel knows no leases of such files, nothing is known, and the answer is True. Who has the file as
        O_PATH alone, or its pages in a pipe, is not seen.
        """
        return bool(lib.lipc_slab_is_had(self._handle, number))

    def look(self, number: int) -> SlabState:
        """How the slab is used now; all 0: there is no such slab."""
        state = ffi.new("struct lipc_slab_state *")
        lib.lipc_slab_look(self._handle, number, state)
        return SlabState(state.size, state.taken, state.blocks, state.uses, state.loans, state.lent, state.oldest / 1e9)

    def _disown(self) -> None:
        """In a forked child: unmap nothing, because it was not inherited, and close the descriptors.

        Only slabs with loans were inherited. There are zeros in their place, so that to read an array is no crash.
        """
        ffi.gc(self._handle, None)
        lib.lipc_slabs_disown(self._handle)
        self.__class__ = _ForkedSlabs


class Holds:
    """What a renderer holds of the slabs once main has closed its endpoint: it may still read.

    A signal may raise at any step. So this exists before it has anything (`take`), and what it has is given back by
    `give_back` alone.
    """

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = ffi.new("struct lipc_holds **")

    def take(self, endpoint: Endpoint) -> None:
        """Have what the renderer holds. The endpoint is closed next. Idempotent."""
        lib.lipc_leave_holds(endpoint._handle, self._left)

    @property
    def bytes(self) -> int:
        """How much it is."""
        return lib.lipc_holds_bytes(self._left[0])

    @property
    def time(self) -> float:
        """For how long the oldest of it is held (seconds)."""
        return lib.lipc_holds_time(self._left[0]) / 1e9

    def give_back(self) -> None:
        """The renderer has hung up, or main ends: end all of it. Idempotent."""
        lib.lipc_end_holds(self._left)


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
