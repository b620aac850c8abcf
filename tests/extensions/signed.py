"""An extension whose parts say on standard output what happens to them, also when nobody is there to be told."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

from lensipc import ExtensionManifest, Ipc, LensMainExtension, LensRendererExtension

MANIFEST = ExtensionManifest("signed", "1", main="signed:Main", renderer="signed:Renderer")
SLOW = ExtensionManifest("signed", "1", main="signed:Main", renderer="signed:SlowRenderer")

CHILD = """
import signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    print(number.name, signal.getsignal(number))
print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


def say(*words: object) -> None:
    """One line, in one write."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class IpcMain(Ipc.Main):
    pass


class Main(LensMainExtension):
    def on_activate(self) -> None:
        IpcMain.create_instance(self)

    async def on_deactivate(self) -> None:
        await asyncio.sleep(0.2)
        say("main: deactivated")


class IpcRenderer(Ipc.Renderer):
    pass


class Renderer(LensRendererExtension):
    seconds = 0.2  # that it takes to deactivate

    def on_activate(self) -> None:
        IpcRenderer.create_instance(self).listen("end a fork", end_a_fork)

    async def on_deactivate(self) -> None:
        await asyncio.sleep(self.seconds)
        say("renderer: deactivated")


class SlowRenderer(Renderer):
    seconds = 4.0


def end_a_fork(_event: object) -> None:
    """As multiprocessing's Process.terminate does where it forks."""
    import multiprocessing
    import time

    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    process.start()
    process.terminate()
    process.join()
    say("fork:", process.exitcode)


def what_a_child_inherits(_lab: Ipc.Renderer) -> str:
    """The signals' dispositions in a program that this process starts."""
    return subprocess.run([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True, check=True).stdout


def what_main_inherits() -> str:
    """The same where main starts it."""
    return what_a_child_inherits(None)  # type: ignore[arg-type]
