# SPDX-License-Identifier: MIT
"""Guarantee 1, for other processes of this machine: who comes in by the path, and who does not."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import lab
import pytest
from hosting import hosting, until

from lensipc import MainProcess, PeerGone, RendererProcess, attach, reception

TOKEN = secrets.token_urlsafe()
NOBODY = 65534

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder of this user's that others can enter."""
    folder = Path(tempfile.mkdtemp(prefix="lensipc-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


# ---- silence ----


async def test_one_that_says_nothing_is_told_and_sent_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach, "HANDSHAKE_WAIT", 0.2)
    async with MainProcess(tmp_path / "s"):
        before = descriptors()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as sock:
            sock.connect(str(tmp_path / "s"))
            said = await asyncio.get_running_loop().sock_recv(sock, 4096)
            assert attach.read_goodbye(said) == "no hello in 0.2 s"
            assert await asyncio.get_running_loop().sock_recv(sock, 4096) == b""
        await until(lambda: descriptors() == before)


async def test_the_silent_share_a_few_places_and_one_that_speaks_gets_in(tmp_path: Path) -> None:
    async with hosting(path=tmp_path / "s"):
        before, socks = descriptors(), []
        for _ in range(3 * reception.MOST_SILENT):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
            socks.append(sock)
            while sock.connect_ex(str(tmp_path / "s")):
                await asyncio.sleep(0)
        async with RendererProcess.connect(tmp_path / "s"):
            assert await lab.IpcRenderer.get_instance().invoke("echo", 1) == (1,)
        await until(lambda: descriptors() - before - len(socks) <= reception.MOST_SILENT)
        assert b"says nothing" in socks[0].recv(4096)  # the one that was silent longest
        with pytest.raises(BlockingIOError):
            socks[-1].recv(4096)
        for sock in socks:
            sock.close()
        await until(lambda: descriptors() == before)


async def test_a_renderer_that_main_starts_and_that_says_nothing_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 600\n")
    silent.chmod(0o700)
    async with MainProcess() as main:
        monkeypatch.setattr(attach, "SPAWN_WAIT", 0.3)
        monkeypatch.setattr(sys, "executable", str(silent))
        with pytest.raises(TimeoutError, match=r"said nothing in 0\.3 s"):
            await main.spawn_renderer()
        assert main.renderers == []


# ---- the folder ----


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722, 0o720])
async def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    before = descriptors()
    with pytest.raises(PermissionError, match=r"chmod go-w.*folder"):
        async with MainProcess(folder / "s"):
            pass
    assert list(folder.iterdir()) == []
    assert descriptors() == before


@pytest.mark.parametrize("mode", [0o1777, 0o755, 0o700])
async def test_a_folder_where_none_can_touch_what_is_anothers_will_do(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    async with MainProcess(folder / "s"), RendererProcess.connect(folder / "s"):
        pass


@root
async def test_a_folder_of_another_user_is_refused(open_folder: Path) -> None:
    os.chown(open_folder, NOBODY, NOBODY)
    with pytest.raises(PermissionError, match=f"belongs to user {NOBODY}") as caught:
        attach.listen(open_folder / "s")
    assert str(open_folder) in str(caught.value)


# ---- other users ----

# Everything that is needed is imported while it may still be read.
OTHER = """
    import asyncio, json, os, sys
    sys.path[:] = {path!r}
    from lensipc import MainProcess, PeerGone, RendererProcess, asyncio_face, attach, plain_face
    import hmac, pathlib
    os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})
    try:
        with RendererProcess.connect({socket!r}, token={token!r}, user={user!r}) as renderer:
            print("in, main is", renderer.main_pid)
    except Exception as error:
        print(type(error).__name__, error)
"""


async def as_another_user(path: Path, token: str | None, user: int | None) -> str:
    """What connecting comes to for a process of another user."""
    code = textwrap.dedent(OTHER).format(path=sys.path, nobody=NOBODY, socket=str(path), token=token, user=user)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE)
    said, _ = await process.communicate()
    return said.decode()


@root
async def test_another_user_cannot_connect_at_all(open_folder: Path) -> None:
    async with MainProcess(open_folder / "s"):
        assert "PermissionError" in await as_another_user(open_folder / "s", None, 0)


@root
async def test_another_user_who_got_at_the_socket_is_declined(open_folder: Path) -> None:
    async with MainProcess(open_folder / "s") as main:
        (open_folder / "s").chmod(0o666)
        assert "PeerGone main declined: it runs as another user" in await as_another_user(open_folder / "s", None, 0)
        assert main.renderers == []


@root
async def test_a_token_lets_another_user_in_and_only_with_it(open_folder: Path) -> None:
    async with MainProcess(open_folder / "s", token=TOKEN):
        assert f"in, main is {os.getpid()}" in await as_another_user(open_folder / "s", TOKEN, 0)
        for wrong in (None, "", TOKEN[:-1], TOKEN + "x", "é"):
            assert "PeerGone main declined: the renderer does not know main's token" in await as_another_user(
                open_folder / "s", wrong, 0
            )


@root
async def test_a_renderer_says_nothing_to_a_main_of_another_user(open_folder: Path) -> None:
    async with MainProcess(open_folder / "s", token=TOKEN):
        for user in (1234, NOBODY):
            said = await as_another_user(open_folder / "s", TOKEN, user)
            assert f"user 0 listens there, not user {user}" in said


async def test_with_a_token_this_user_needs_it_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with MainProcess(tmp_path / "s", token=TOKEN):
        with pytest.raises(PeerGone, match="does not know main's token"):
            async with RendererProcess.connect(tmp_path / "s"):
                pass
        async with RendererProcess.connect(tmp_path / "s", token=TOKEN):
            pass
    assert TOKEN not in caplog.text


def test_a_token_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 characters"):
        MainProcess("/tmp/s", token="secret")


async def test_no_secret_stands_in_a_renderers_command_line_or_environment(tmp_path: Path) -> None:
    async with hosting(1, path=tmp_path / "s", token=TOKEN) as host:
        (renderer,) = host.renderers
        for name in ("cmdline", "environ"):
            text = Path(f"/proc/{renderer.pid}/{name}").read_bytes()
            assert TOKEN.encode() not in text
            assert str(tmp_path / "s").encode() not in text


async def test_strangers_cannot_fill_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with hosting(path=tmp_path / "s", token="a token of sixteen characters"):
        word = json.dumps({"lensipc": "forged\nline \x1b[2J" + "x" * 3000}).encode()
        began, sent = time.monotonic(), 0
        while time.monotonic() < began + 2.5:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as sock:
                while sock.connect_ex(str(tmp_path / "s")):
                    await asyncio.sleep(0)
                sock.send(word)
                sent += 1
                await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        seconds, lines = time.monotonic() - began, [record.getMessage() for record in caplog.records]
    assert sent > 200
    assert len(lines) <= 10 * (seconds + 1)
    assert all(line.isprintable() and len(line) < 2000 for line in lines)
    left_out = [re.search(r"\(and (\d+) more lines like this one, which were left out\)", line) for line in lines]
    assert sum(int(found[1]) for found in left_out if found) > 50
