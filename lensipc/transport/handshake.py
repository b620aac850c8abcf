# SPDX-License-Identifier: MIT
"""The handshake by which a renderer and main come to share a segment. Both sides of it, so that they agree.

    renderer -> main    HELLO    {"lensipc": version, "wakeup": how the renderer sleeps, "token": if main wants one,
                                 "name": if it has one}
    main -> renderer    WELCOME  {"lensipc": version, "frame_id", "name", "pid", "high_water", "limit",
                                 "kept_limit", "quota", "budget", "plain", "count_all"}
                                 with the segment and main's eventfd as ancillary descriptors
    main -> renderer    {"goodbye": reason}   in place of WELCOME, or at any time before main disconnects
    main -> renderer    {"slab": number, "hold": id}   the next datagram has the slab's descriptor
    main -> renderer    {"unmap": number}     main takes a slab back

Each is one datagram of JSON on a SOCK_SEQPACKET socket. Main takes nothing but HELLO from a renderer here, and no
descriptors: it receives without room for them, so the kernel closes what is sent.
"""

from __future__ import annotations

import contextlib
import os
import socket
from array import array
from typing import Any, Final

from ..errors import QUOTE_MOST, PeerGone, ProtocolError, printable
from ..user_code import repr_of
from .endpoint import VERSION

HELLO_MAX: Final = 4096
WELCOME_MAX: Final = 65536
# Characters of a goodbye's reason. In JSON a character takes at most 12 bytes, so a goodbye fits in 4096 bytes.
REASON_MAX: Final = 300
# How long either side waits for the other's part of the handshake (seconds).
HANDSHAKE_WAIT: Final = 10.0
# How long both sides wait for it where main starts the renderer (seconds). In this time an interpreter starts, perhaps
# among many at once, and activates its parts.
SPAWN_WAIT: Final = 60.0
# The environment variable that marks a process that is to be a renderer: its socket's descriptor and inode, and the
# descriptor of main's path where it was given one.
MARK: Final = "LENSIPC_RENDERER"
# The environment variable that has such a process forward its logs to main: from which level on.
LOG_LEVEL: Final = "LENSIPC_LOG_LEVEL"
# What a line of its stderr begins with if it is a record of its logging, in JSON: [level, logger, text].
RECORD: Final = b"\x1e"
# The bytes of the datagram that a slab's descriptor comes with.
SLAB: Final = b"slab"
# A token of fewer characters could be guessed.
TOKEN_MIN: Final = 16
# The reason in a goodbye to a renderer that the host has closed, and that is not to come back.
CLOSED_BY_HOST: Final = "main closed this renderer"
# Characters of a renderer's name.
NAME_MOST: Final = 64


def _datagram(words: dict[str, Any]) -> bytes:
    import json  # here, for it is needed only once a process is entered

    return json.dumps(words).encode()


def hello(wakeup: int, token: str | None = None, name: str = "") -> bytes:
    """The renderer's first words."""
    words = {"lensipc": VERSION, "wakeup": wakeup}
    return _datagram(words | ({} if token is None else {"token": token}) | ({"name": name} if name else {}))


def check_name(name: str) -> str:
    """A renderer's name. TypeError, ValueError: it is none that a log and a list of processes can show."""
    if not isinstance(name, str):
        raise TypeError(f"a renderer's name is a str, not {type(name).__name__}")
    if len(name) > NAME_MOST or not name.isprintable():
        raise ValueError(f"a renderer's name has at most {NAME_MOST} characters, all printable, and not {name!r:.200}")
    return name


def name_in(data: bytes) -> str:
    """Main: the name in a renderer's first words, as it may be shown; empty if it has none."""
    name = read_words(data).get("name")
    return printable(name, NAME_MOST) if isinstance(name, str) else ""


def check_hello(data: bytes, token: str | None = None) -> int:
    """Main: what the renderer is woken by.

    Raises:
        ProtocolError: these are no words of a lensipc of this version, or of one who knows the token.
    """
    words = read_words(data)
    _check_version(words)
    if token is not None:
        from hmac import compare_digest  # takes as long wherever they differ

        said = words.get("token")
        if not isinstance(said, str) or not compare_digest(_secret(said), _secret(token)):
            raise ProtocolError("the renderer does not know main's token")
    wakeup = words.get("wakeup")
    if type(wakeup) is not int or wakeup not in (1, 2):
        raise ProtocolError(f"the renderer asked for wakeup {_shown(wakeup)}")
    return wakeup


def _secret(token: str) -> bytes:
    return token.encode("utf-8", "surrogatepass")


def welcome(sock: socket.socket, descriptors: list[int], words: dict[str, Any]) -> None:
    """Main: hand over the segment and the eventfd."""
    data = _datagram({"lensipc": VERSION, **words})
    socket.send_fds(sock, [data], descriptors, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def receive_welcome(sock: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Renderer: main's words and the descriptors that came with them. PeerGone: main declined, or is gone."""
    # Not by socket.recv_fds: it takes flags and does not use them, so a child would inherit the descriptors.
    room = socket.CMSG_LEN(2 * array("i").itemsize)
    try:
        data, messages, flags, _ = sock.recvmsg(WELCOME_MAX, room, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:  # main has closed it and not read our hello: what it said first comes after this
        data, messages, flags, _ = sock.recvmsg(WELCOME_MAX, room, socket.MSG_CMSG_CLOEXEC)
    descriptors = array("i", b"".join(message[2] for message in messages)).tolist()
    try:
        if not data:
            raise PeerGone("main closed the connection during the handshake")
        words = read_words(data)
        if "goodbye" in words:
            raise PeerGone(f"main declined: {words['goodbye']}")
        _check_version(words)
        if flags & socket.MSG_CTRUNC or len(descriptors) != 2:
            raise OSError(24, "no descriptors left in this process for the segment and its wakeup")
    except BaseException:
        for fd in descriptors:
            os.close(fd)
        raise
    return words, descriptors


def say_goodbye(sock: socket.socket, reason: str) -> None:
    """Main: tell a renderer why it will be disconnected, if it can still be told."""
    with contextlib.suppress(OSError):
        sock.send(_datagram({"goodbye": reason[:REASON_MAX]}), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def read_goodbye(data: bytes) -> str:
    """Renderer: the reason in main's last words."""
    return str(read_words(data).get("goodbye", ""))


def hand_slab(sock: socket.socket, number: int, hold: int, fd: int) -> None:
    """Main: give a renderer a slab. OSError: it has not got it, because its socket is full or closed.

    Two datagrams: a renderer has room for descriptors only where it expects one, so that a wake costs no more.
    """
    sock.send(_datagram({"slab": number, "hold": hold}), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    socket.send_fds(sock, [SLAB], [fd], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def take_slab_back(sock: socket.socket, number: int) -> None:
    """Main: have a renderer unmap a slab. OSError: it was not told, because its socket is full or closed."""
    sock.send(_datagram({"unmap": number}), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def inherited() -> int:
    """The socket of a process that main has started, as MARK names it. OSError: it was closed on the way."""
    fd, inode, *path = map(int, os.environ[MARK].split(":"))
    with contextlib.suppress(OSError):
        if os.fstat(fd).st_ino == inode:
            for each in path:  # for an interpreter only
                os.close(each)
            return fd
    raise OSError(
        f"{MARK} says that this process is a renderer with descriptor {fd} for its socket, which it does not have: "
        "what started it in main's place has to leave its descriptors open"
    )


def read_words(data: bytes) -> dict[str, Any]:
    """What the other side says in a datagram. ProtocolError: it is none of ours."""
    import json

    try:
        words = json.loads(data)
    except (ValueError, RecursionError):
        words = None
    if not isinstance(words, dict):
        raise ProtocolError("the peer does not speak lensipc")
    return words


def _shown(word: object) -> str:
    """A word of the peer's, for an error."""
    return printable(repr_of(word), 2 * QUOTE_MOST)


def _check_version(words: dict[str, Any]) -> None:
    theirs = words.get("lensipc")
    if theirs != VERSION:
        raise ProtocolError(
            f"the peer speaks version {_shown(theirs)} of the lensipc protocol and this process version {VERSION}: "
            "install the same lensipc on both sides"
        )
