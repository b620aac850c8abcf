# SPDX-License-Identifier: MIT
"""The handshake, on a socket pair and at a path, without a process."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lensipc import PeerGone, ProtocolError
from lensipc.transport import handshake, unix_socket
from lensipc.transport.endpoint import VERSION, WAKEUP_SEMAPHORE, WAKEUP_SOCKET
from lensipc.transport.handshake import REASON_MAX, WELCOME_MAX

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Main's end and the renderer's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    with ours, theirs:
        yield ours, theirs


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# ---- hello ----


@pytest.mark.parametrize("wakeup", [WAKEUP_SOCKET, WAKEUP_SEMAPHORE])
def test_a_hello_says_how_the_renderer_is_woken(wakeup: int) -> None:
    assert handshake.check_hello(handshake.hello(wakeup)) == wakeup


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a window", "a window"),
        ("", ""),
        (5, ""),
        (["a"], ""),
        (None, ""),
        ("\x1b[31m\nfake", "\\x1b[31m\\nfake"),
        ("x" * 65, "x" * 64 + "... (65 characters)"),
        ("\ud800", "\\ud800"),
    ],
)
def test_a_renderers_name_is_shown_as_it_may_be_shown_whatever_it_says(name: object, shown: str) -> None:
    words = {"lensipc": VERSION, "wakeup": 1, "name": name}
    data = json.dumps(words).encode()
    assert handshake.check_hello(data) == 1
    assert handshake.name_in(data) == shown
    assert handshake.name_in(handshake.hello(1)) == ""


@pytest.mark.parametrize("version", [0, VERSION + 1, "1", None, [1], {"1": 1}, 10**300])
def test_main_names_both_versions_when_they_differ(version: Any) -> None:
    with pytest.raises(ProtocolError) as caught:
        handshake.check_hello(json.dumps({"lensipc": version, "wakeup": 1}).encode())
    assert repr(version) in str(caught.value)
    assert f"version {VERSION}" in str(caught.value)
    assert "install the same lensipc" in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"{",
        b"[]",
        b"1",
        b"null",
        b'"lensipc"',
        b"\xff\xfe\x00",
        b"[" * 4096,
        b'{"a":' * 800,
        handshake.hello(1)[:-1],
        b'{"lensipc": 1, "wakeup": 1, "x": "' + b"x" * 4096,  # cut where main stops reading
    ],
)
def test_what_is_no_hello_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="does not speak lensipc"):
        handshake.check_hello(data)


@pytest.mark.parametrize("wakeup", [0, 3, -1, "1", None, [1], {}, 1.5])
def test_a_wakeup_that_there_is_not_is_a_protocol_error(wakeup: Any) -> None:
    with pytest.raises(ProtocolError, match="asked for wakeup"):
        handshake.check_hello(json.dumps({"lensipc": VERSION, "wakeup": wakeup}).encode())


# ---- welcome ----


def test_a_welcome_brings_words_and_two_descriptors_that_no_child_inherits(pair: Pair) -> None:
    ours, theirs = pair
    with open(os.devnull) as first, open(os.devnull) as second:  # noqa: PTH123
        handshake.welcome(ours, [first.fileno(), second.fileno()], {"frame_id": 7})
    words, received = handshake.receive_welcome(theirs)
    assert words["frame_id"] == 7
    assert len(received) == 2
    for fd in received:
        assert not os.get_inheritable(fd)
        os.close(fd)


def test_the_renderer_names_both_versions_when_they_differ_and_keeps_no_descriptor(pair: Pair) -> None:
    ours, theirs = pair
    before = descriptors()
    socket.send_fds(ours, [json.dumps({"lensipc": VERSION + 1}).encode()], [ours.fileno(), ours.fileno()])
    with pytest.raises(ProtocolError) as caught:
        handshake.receive_welcome(theirs)
    assert f"version {VERSION + 1} " in str(caught.value)
    assert f"version {VERSION}:" in str(caught.value)
    assert descriptors() == before


def test_a_welcome_with_a_descriptor_missing_says_so_and_keeps_none(pair: Pair) -> None:
    ours, theirs = pair
    before = descriptors()
    handshake.welcome(ours, [ours.fileno()], {})
    with pytest.raises(OSError, match="no descriptors left") as caught:
        handshake.receive_welcome(theirs)
    assert caught.value.errno == errno.EMFILE
    assert descriptors() == before


def test_a_welcome_with_too_many_descriptors_is_none(pair: Pair) -> None:
    ours, theirs = pair
    before = descriptors()
    handshake.welcome(ours, [ours.fileno()] * 5, {})
    with pytest.raises(OSError, match="no descriptors left"):
        handshake.receive_welcome(theirs)
    assert descriptors() == before


@pytest.mark.parametrize("data", [b"{", b"[]", b"x" * 100])
def test_a_welcome_that_is_none_is_a_protocol_error_and_keeps_no_descriptor(pair: Pair, data: bytes) -> None:
    ours, theirs = pair
    before = descriptors()
    socket.send_fds(ours, [data], [ours.fileno()] * 2)
    with pytest.raises(ProtocolError, match="does not speak lensipc"):
        handshake.receive_welcome(theirs)
    assert descriptors() == before


def test_main_that_closes_in_place_of_a_welcome_is_gone(pair: Pair) -> None:
    ours, theirs = pair
    ours.close()
    with pytest.raises(PeerGone, match="closed the connection"):
        handshake.receive_welcome(theirs)


def test_descriptors_that_a_renderer_sends_are_closed_by_the_kernel(pair: Pair) -> None:
    ours, theirs = pair
    before = descriptors()
    reading, writing = os.pipe()
    socket.send_fds(theirs, [handshake.hello(WAKEUP_SOCKET)], [writing] * 100)
    os.close(writing)
    assert handshake.check_hello(ours.recv(handshake.HELLO_MAX, socket.MSG_DONTWAIT)) == WAKEUP_SOCKET
    assert os.read(reading, 1) == b""  # the end of file: nobody holds the other end any more
    os.close(reading)
    assert descriptors() == before


# ---- goodbye ----


def test_a_goodbye_in_place_of_a_welcome_says_why(pair: Pair) -> None:
    ours, theirs = pair
    handshake.say_goodbye(ours, "you are not wanted")
    with pytest.raises(PeerGone, match="main declined: you are not wanted"):
        handshake.receive_welcome(theirs)


@pytest.mark.parametrize("reason", ["", "why", "é" * 5000, "🎈" * 5000, "\ud800" * 5000, "\x00" * 5000, '"\\' * 5000])
def test_any_reason_fits_where_the_renderer_reads_it(pair: Pair, reason: str) -> None:
    ours, theirs = pair
    handshake.say_goodbye(ours, reason)
    data = theirs.recv(4096)  # as Connection.read_socket does
    assert handshake.read_goodbye(data) == reason[:REASON_MAX]


def test_a_goodbye_to_one_that_does_not_read_or_is_gone_blocks_and_raises_nothing(pair: Pair) -> None:
    ours, theirs = pair
    for _ in range(2000):
        handshake.say_goodbye(ours, "x" * 1000)
    theirs.close()
    handshake.say_goodbye(ours, "x")
    ours.close()
    handshake.say_goodbye(ours, "x")


def test_a_goodbye_without_a_reason_is_one(pair: Pair) -> None:
    _ = pair
    assert handshake.read_goodbye(b"{}") == ""
    assert handshake.read_goodbye(b'{"goodbye": 5}') == "5"
    assert WELCOME_MAX > 4096


# ---- the path ----


def test_only_this_user_can_connect_to_the_path(tmp_path: Path) -> None:
    path = tmp_path / "main"
    with unix_socket.listen(path):
        assert path.stat().st_mode & 0o777 == 0o600
    path.unlink()


def test_the_umask_is_as_it_was(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        unix_socket.listen(tmp_path / "main").close()
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "main"
    unix_socket.listen(path).close()  # as kill -9 leaves it
    assert path.exists()
    with unix_socket.listen(path), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(str(path))


def test_a_living_socket_is_refused_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "main"
    with unix_socket.listen(path) as living, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        with pytest.raises(OSError, match=str(path)) as caught:
            unix_socket.listen(path)
        assert caught.value.errno == errno.EADDRINUSE
        sock.connect(str(path))
        living.accept()[0].close()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_living_socket_of_another_kind_is_refused(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "other"
    with socket.socket(socket.AF_UNIX, kind) as other:
        other.bind(str(path))
        if kind == socket.SOCK_STREAM:
            other.listen()
        with pytest.raises(OSError, match="in use"):
            unix_socket.listen(path)


def test_a_file_that_is_no_socket_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(OSError, match="in use") as caught:
        unix_socket.listen(path)
    assert caught.value.errno == errno.EADDRINUSE
    unix_socket.remove_stale(path)
    assert path.read_text() == "mine"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    unix_socket.listen(target).close()
    link.symlink_to(target)
    unix_socket.remove_stale(link)
    assert link.is_symlink()
    assert target.exists()


def test_the_socket_of_a_main_that_is_being_started_is_not_taken_for_a_dead_ones(tmp_path: Path) -> None:
    path = tmp_path / "main"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        with unix_socket._turn(tmp_path) as certain:
            assert certain
            sock.bind(str(path))
            unix_socket.remove_stale(path)  # it has its own view of the folder, as another process has
            assert path.exists()
        unix_socket.remove_stale(path)  # nobody listens
        assert not path.exists()


@pytest.mark.process
def test_a_fork_does_not_keep_the_turn_and_nobody_waits_for_ever_for_one_who_does(tmp_path: Path) -> None:
    path = tmp_path / "main"
    with unix_socket._turn(tmp_path):
        child = os.fork()
        if not child:
            signal.pause()
    try:
        with unix_socket._turn(tmp_path) as certain:
            assert certain
            with unix_socket.listen(path), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                sock.connect(str(path))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


HAMMER = """
import pathlib, sys
from lensipc.transport import unix_socket
print(flush=True)
while True:
    unix_socket.remove_stale(pathlib.Path(sys.argv[1]))
"""


@pytest.mark.process
def test_no_main_loses_its_socket_however_often_others_look_for_stale_ones(tmp_path: Path) -> None:
    path = tmp_path / "main"
    command = [sys.executable, "-c", HAMMER, str(path)]
    others = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for each in others:
            assert each.stdout is not None
            each.stdout.readline()
        for _ in range(300):
            with unix_socket.listen(path):  # closed as kill -9 closes it
                time.sleep(0.001)
                assert path.exists()
    finally:
        for each in others:
            each.kill()
            each.communicate()


def test_a_path_in_no_folder_or_too_long_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        unix_socket.listen(tmp_path / "nowhere" / "main")
    with pytest.raises(OSError, match=r"too long.*xxxx") as caught:
        unix_socket.listen(tmp_path / ("x" * 200))
    assert caught.value.errno == errno.ENAMETOOLONG


# ---- the folders on the way ----


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722, 0o720])
@pytest.mark.parametrize("depth", [0, 1, 4])
def test_a_folder_on_the_way_that_others_can_write_to_is_refused_by_name(tmp_path: Path, mode: int, depth: int) -> None:
    outer = tmp_path / "outer"
    inner = outer.joinpath(*"abcd"[:depth])
    inner.mkdir(parents=True)
    outer.chmod(mode)
    with pytest.raises(PermissionError, match="chmod go-w") as caught:
        unix_socket.check_folder(inner)
    assert caught.value.filename == str(outer)
    outer.chmod(mode | 0o1000)  # none but its owner can rename what is in there now
    unix_socket.check_folder(inner)


@pytest.mark.parametrize("target", ["{0}/safe/inner", "safe/inner", "../{1}/safe/./inner", "safe/inner/../inner"])
def test_a_link_on_the_way_is_followed_and_its_own_folder_counts(tmp_path: Path, target: str) -> None:
    (tmp_path / "safe" / "inner").mkdir(parents=True)
    (tmp_path / "open").mkdir()
    (tmp_path / "link").symlink_to(target.format(tmp_path, tmp_path.name))
    (tmp_path / "open" / "link").symlink_to("../link")
    unix_socket.check_folder(tmp_path / "link")
    unix_socket.check_folder(tmp_path / "open" / "link")
    (tmp_path / "open").chmod(0o777)  # the link can be replaced, wherever it leads
    with pytest.raises(PermissionError) as caught:
        unix_socket.check_folder(tmp_path / "open" / "link")
    assert caught.value.filename == str(tmp_path / "open")
    (tmp_path / "safe").chmod(0o777)  # what it leads to can
    with pytest.raises(PermissionError) as caught:
        unix_socket.check_folder(tmp_path / "link")
    assert caught.value.filename == str(tmp_path / "safe")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_link_of_another_users_in_a_sticky_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "link").symlink_to(tmp_path / "mine")
    unix_socket.check_folder(shared / "link")
    os.chown(shared / "link", 65534, 65534, follow_symlinks=False)
    with pytest.raises(PermissionError, match="belongs to user 65534") as caught:
        unix_socket.check_folder(shared / "link")
    assert caught.value.filename == str(shared / "link")


def test_links_that_go_round_in_a_circle_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links") as caught:
        unix_socket.check_folder(tmp_path / "a" / "c")
    assert caught.value.errno == errno.ELOOP


IN_A_SANDBOX = """
    import ctypes, os, pathlib
    from lensipc.transport import unix_socket
    if os.geteuid() == 0:
        os.setgroups([]); os.setgid(1234); os.setuid(1234)
    if ctypes.CDLL(None).unshare(0x10000000) or os.stat("/").st_uid != 65534:  # CLONE_NEWUSER
        sys.exit(77)
    unix_socket.check_folder(pathlib.Path("/tmp"))
"""


@pytest.mark.process
def test_where_root_has_no_id_in_this_user_namespace_its_folders_will_do() -> None:
    code = f"import sys; sys.path[:] = {sys.path!r}\n" + textwrap.dedent(IN_A_SANDBOX)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("no user namespace may be made here")
    assert done.returncode == 0, done.stderr


def test_the_peer_of_a_connection_is_known(tmp_path: Path) -> None:
    path = tmp_path / "main"
    with unix_socket.listen(path) as listening, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(str(path))
        assert unix_socket.peer(sock) == (os.getpid(), os.geteuid())
        accepted, _ = listening.accept()
        with accepted:
            assert unix_socket.peer(accepted) == (os.getpid(), os.geteuid())
