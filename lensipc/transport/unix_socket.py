# SPDX-License-Identifier: MIT
"""Unix sockets: a path that only this user controls, the process at the other end, and sockets closed in forks."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
import time
import weakref
from collections.abc import Iterator
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from functools import cache
from typing import TYPE_CHECKING, Final

from ..log import log

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path


# The socket option that gives a pidfd of a connected Unix socket's peer, since Linux 6.5. Python has no name for it.
SO_PEERPIDFD: Final = 77
# How long a process may take to close its descriptors while it dies (seconds).
DYING_WAIT: Final = 0.25
# How long to wait for another process that replaces or removes a socket in the same folder (seconds).
TURN_WAIT: Final = 0.5
# The owner that a file shows here if its real owner has no id in this user namespace.
OVERFLOW_ID: Final = 65534
# A path with more links than this has a loop. The kernel has the same limit.
MOST_LINKS: Final = 40


def peer(sock: socket.socket) -> tuple[int, int]:
    """The pid and uid of the process at the other end of a connected socket (not of a socketpair).

    The pid is 0 if this process cannot see the PID namespace of the other process.
    """
    pid, uid, _gid = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid


def watch(sock: socket.socket, pid: int) -> tuple[int, bool]:
    """A pidfd of the process that `peer` has named, and whether the pidfd certainly belongs to that process.

    The pidfd is readable once the process has ended; -1: there is none. If the kernel gives no pidfd of the peer
    itself, this one belongs to the process that has the pid now. That is good enough to watch: if another process has
    the pid, the peer has ended.

    Raises:
        OSError: this process has no descriptor left.
    """
    try:
        return sock.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD), True
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
    return open_pidfd(pid), False


def open_pidfd(pid: int) -> int:
    """A pidfd; -1: the system gives none. OSError: this process has no descriptor left."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        if error.errno not in (errno.ESRCH, errno.EINVAL):  # the process has ended; it is in another PID namespace
            _say_once(f"pidfd_open: {error.strerror}")
        return -1


@cache
def _say_once(why: str) -> None:
    log.warning("%s: main learns of a renderer's death by the end of its connection alone", why)


def listen(path: Path, *, for_all: bool = False) -> socket.socket:
    """Main: listen at `path`, for this user alone or `for_all` users. The socket replaces one that a dead main left.

    Raises:
        PermissionError: another user could put another socket in its place.
        OSError: EADDRINUSE: a living process listens at the path, or the file there is not a socket.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        check_folder(path.parent)
        with _turn(path.parent):  # until it listens, others would take the socket for one of a dead main
            _remove_stale(path)
            umask = os.umask(0o111 if for_all else 0o177)
            try:
                sock.bind(str(path))
            except OSError as error:
                raise naming(path, error) from None
            finally:
                os.umask(umask)
            sock.listen(128)
        keep_from_forks(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def check_folder(folder: Path) -> None:
    """Raise PermissionError unless only this user and root control what is in `folder`, and where it is.

    A user who can write to any folder on the way could rename the next folder and put another one in its place.
    """
    folder = folder.absolute()
    here = root = type(folder)(folder.root)
    ahead, links = list(reversed(folder.parts[1:])), 0
    _check_one(here)
    while ahead:
        name = ahead.pop()
        if name == "..":
            here = here.parent
            continue
        below = here / name
        _check_one(below)
        if not below.is_symlink():
            here = below
            continue
        links += 1
        if links > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(folder))
        target = below.readlink()
        if target.is_absolute():
            here = root
        ahead += reversed(target.parts[target.is_absolute() :])


def _check_one(found: Path) -> None:
    """Check a folder or a link. The caller checks the target of a link next."""
    status = found.lstat()
    owner, mode = status.st_uid, status.st_mode
    if owner not in (os.geteuid(), 0) and not _is_of_outside(owner):
        raise PermissionError(
            errno.EPERM,
            f"the folder belongs to user {owner}, who could replace main's socket: use a folder of your own",
            str(found),
        )
    if stat.S_ISDIR(mode) and mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
        raise PermissionError(
            errno.EPERM,
            "other users can write to the folder and could replace main's socket: chmod go-w",
            str(found),
        )


def _is_of_outside(owner: int) -> bool:
    """Whether a file's owner has no id in this user namespace, as root outside of a sandbox has none inside."""
    from pathlib import Path

    if owner != OVERFLOW_ID:
        return False
    try:
        lines = Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    spans = [[int(number) for number in line.split()] for line in lines]  # first here, first outside, how many
    return not any(first <= owner < first + count for first, _, count in spans)


def naming(path: str | os.PathLike[str], error: OSError) -> OSError:
    """The same error of bind or connect with its path, which these calls do not name."""
    if error.errno is None:  # Python itself says that the path is too long
        return OSError(errno.ENAMETOOLONG, f"{error}", os.fspath(path))
    return type(error)(error.errno, error.strerror, os.fspath(path))


@contextlib.contextmanager
def _turn(folder: Path) -> Iterator[bool]:
    """While no other process replaces or removes a socket in the folder. False: others may do so meanwhile.

    The folder itself is locked, so no file is left behind. It may be locked by somebody else, who need not be one of
    us: nobody waits for that longer than TURN_WAIT.
    """
    fd = -1
    with contextlib.suppress(OSError):  # this process may not read it, or has no descriptor left
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd >= 0 and _lock(fd)
    finally:
        if fd >= 0:
            with contextlib.suppress(OSError):
                flock(fd, LOCK_UN)  # a process that was forked meanwhile has the descriptor, too
            os.close(fd)


def _lock(fd: int) -> bool:
    end = time.monotonic() + TURN_WAIT
    while True:
        try:
            flock(fd, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(0.001)
        except OSError:  # this file system has no locks
            return False
        else:
            return True


def file_id(path: Path) -> tuple[int, int] | None:
    """What tells the file at `path` from any other, as long as it is there or open. None: there is none."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def remove_stale(path: Path) -> None:
    """Remove the socket at `path` if no process listens on it any more, and no main is about to."""
    with _turn(path.parent) as certain:
        if certain:
            _remove_stale(path)


def _remove_stale(path: Path) -> None:
    for _ in range(8):  # try again each time that the listening process ends just now
        try:
            found = path.lstat()
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(found.st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            probe.settimeout(DYING_WAIT)
            try:
                probe.connect(str(path))
                # A process listens, or did a moment ago. A dying process closes its descriptors one by one, and then
                # this connection ends.
                if probe.recv(1):
                    return
            except ConnectionRefusedError:
                if file_id(path) == (found.st_dev, found.st_ino):  # otherwise it is a new main's socket
                    path.unlink(missing_ok=True)
                return
            except ConnectionError:
                continue
            except OSError:  # TimeoutError: the listening process is alive
                return


def keep_from_forks(sock: socket.socket | FileIO) -> None:
    """Close this socket or pipe in forks of this process. A fork would keep it open after this process ends."""
    _private.add(sock)


_private: weakref.WeakSet[socket.socket | FileIO] = weakref.WeakSet()


def _close_in_child() -> None:
    for sock in list(_private):
        sock.close()
    _private.clear()


os.register_at_fork(after_in_child=_close_in_child)
