# SPDX-License-Identifier: MIT
"""The extension of a test's own: it runs functions of the test in renderers, and brings back results, logs and leaks.

A function goes as cloudpickle writes it, so it may be a lambda or stand in a test; its result comes as a pickle. Main
trusts no renderer, but a test trusts the code that it tests.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import sys
import time
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any, Final

from ..errors import LensIpcError, PeerGone
from ..events import IpcEvent, RendererInfo
from ..extension import ExtensionManifest, LensMainExtension, LensRendererExtension
from ..log import log
from ..runtime.driver import is_awaitable
from ..runtime.protocol import ALL, MAIN
from ..runtime.remote_error import describe, rebuild
from .leaks import Watch

ID: Final = "lensipc.testing"
MANIFEST: Final = ExtensionManifest(ID, "1", main=f"{__name__}:InMain", renderer=f"{__name__}:InRenderer")

# What a log record says of where it was made, and what is shown of it.
RECORD: Final = ("name", "levelno", "levelname", "pathname", "filename", "lineno", "funcName", "created", "exc_text")


def packed(function: Callable[..., Any], args: tuple[Any, ...]) -> bytes:
    """A call as bytes. ModuleNotFoundError: cloudpickle is not installed."""
    try:
        import cloudpickle
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "a function goes to a renderer as cloudpickle writes it: pip install 'lensipc[testing]'", name="cloudpickle"
        ) from None
    if type(function) is FunctionType and function.__module__ != __name__:
        # A copy is not found under its name, so it goes whole: the renderer may be unable to import a test's module.
        copy = FunctionType(
            function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
        )
        copy.__kwdefaults__ = function.__kwdefaults__
        function = copy
    file = getattr(getattr(function, "__code__", None), "co_filename", "")
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    if module is None or _is_importable(module.__name__):
        return cloudpickle.dumps((function, args, file))  # type: ignore[no-any-return]
    cloudpickle.register_pickle_by_value(module)  # so that the function's helpers go whole, too
    try:
        return cloudpickle.dumps((function, args, file))  # type: ignore[no-any-return]
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _is_importable(module: str) -> bool:
    """Whether a fresh process finds the module's package. pytest imports test modules from anywhere."""
    top = module.partition(".")[0]
    return any(finder.find_spec(top, None) for finder in sys.meta_path if hasattr(finder, "find_spec"))


def unpacked(written: bytes) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The call that `packed` has written. Its code says in which file it stands, which cloudpickle leaves out."""
    function, args, file = pickle.loads(written)
    if type(function) is FunctionType:
        function.__code__ = _in_file(function.__code__, file)
    return function, args


def _in_file(code: CodeType, file: str) -> CodeType:
    inner = tuple(_in_file(each, file) if isinstance(each, CodeType) else each for each in code.co_consts)
    return code.replace(co_filename=file, co_consts=inner)


def packed_error(error: BaseException) -> tuple[str, bytes]:
    """An exception as bytes: by pickle if that gives it back, else as handlers' errors cross."""
    try:
        written = pickle.dumps(error)
        pickle.loads(written)
    except Exception:
        return "described", describe(error)
    return "raised", written


class InMain(LensMainExtension):
    """Asks renderers, and takes what they log."""

    def on_activate(self) -> None:
        self._asked: dict[int, tuple[int, asyncio.Future[Any]]] = {}
        self._last = 0
        self._port.table.listen("answer", self._on_answer)
        self._port.table.listen("log", _on_log)

    async def ask(self, frame_id: int, method: str, payload: bytes, seconds: float, what: str) -> Any:
        """Have a renderer call a method of its InRenderer; return what that returns, or raise what it raises.

        Raises:
            TimeoutError: there was no answer in time.
            PeerGone: the renderer went before it had answered.
        """
        self._last = number = self._last + 1
        future = asyncio.get_running_loop().create_future()
        self._asked[number] = frame_id, future
        if frame_id not in self._port.renderers:
            self.on_renderer_gone(RendererInfo(frame_id, 0), "its connection is closed")
        self._port.send(frame_id, "ask", (number, method, payload))
        try:
            async with asyncio.timeout(seconds):
                kind, written = await future
        except TimeoutError:
            self._port.send(frame_id, "cancel", (number,))
            raise TimeoutError(f"renderer {frame_id} has not answered {what} in {seconds:g} s") from None
        finally:
            del self._asked[number]
        if kind == "returned":
            return pickle.loads(written)
        error = rebuild(written) if kind == "described" else pickle.loads(written)
        raise error

    def _on_answer(self, _event: IpcEvent, number: int, kind: str, written: bytes) -> None:
        _, future = self._asked.get(number, (0, None))
        if future is not None and not future.done():
            future.set_result((kind, written))

    def on_renderer_gone(self, renderer: RendererInfo, reason: str) -> None:
        for frame_id, future in list(self._asked.values()):
            if frame_id == renderer.frame_id and not future.done():
                future.set_exception(PeerGone(f"renderer {frame_id} is gone: {reason}"))


def _on_log(event: IpcEvent, fields: dict[str, Any], text: str) -> None:
    record = logging.makeLogRecord(fields)
    record.msg = f"[renderer {event.frame_id}] {text}"
    record.process, record.processName = event.pid, f"renderer {event.frame_id}"
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)


class _ToMain(logging.Handler):
    """Sends each record to main, where the test's report has it."""

    def __init__(self, part: InRenderer) -> None:
        super().__init__()
        self._port = part._port
        self._sending = False

    def emit(self, record: logging.LogRecord) -> None:
        if self._sending:
            return  # lensipc logs what it does while this sends
        self._sending = True
        try:
            self.format(record)  # which makes exc_text
            fields = {name: getattr(record, name) for name in RECORD}
            self._port.send(MAIN, "log", (fields, record.getMessage()))
        except LensIpcError:
            print(self.format(record), file=sys.stderr)  # main is gone, or takes no more
        finally:
            self._sending = False


class InRenderer(LensRendererExtension):
    """Calls what the test in main asks for."""

    def on_activate(self) -> None:
        self._heard: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
        self._slow = 0.0
        self._answering: dict[int, asyncio.Task[Any]] = {}
        self._port.listen("ask", self._on_ask, "disconnect")
        self._port.listen("cancel", self._on_cancel, "disconnect")
        if self.settings["process"] != os.getpid():  # else the test's own process looks, and logs
            self._watch = Watch()
            handler = _ToMain(self)
            logging.getLogger().addHandler(handler)
            self.disposers.callback(logging.getLogger().removeHandler, handler)
            logging.getLogger().setLevel(self.settings["level"])
            log.setLevel(self.settings["lensipc_level"])

    async def _on_ask(self, event: IpcEvent, number: int, method: str, payload: bytes) -> None:
        self._answering[number] = asyncio.current_task()  # type: ignore[assignment]
        try:
            if method == "call":
                function, args = unpacked(payload)
                result = function(*args)
            else:
                result = getattr(self, method)(*pickle.loads(payload))
            if is_awaitable(result):
                result = await result
            answer = "returned", pickle.dumps(result)
        except Exception as error:
            answer = packed_error(error)
        finally:
            del self._answering[number]
        event.reply("answer", number, *answer)

    def _on_cancel(self, _event: IpcEvent, number: int) -> None:
        if number in self._answering:
            self._answering[number].cancel()

    def _of(self, extension: str) -> Any:
        """The port of the extension's part in this renderer."""
        core: Any = self._port.core  # type: ignore[attr-defined]
        for port in core._ports.values():
            if port.extension == extension:
                return port
        raise KeyError(f"extension {extension!r} has no part in this renderer")

    async def invoke(self, extension: str, channel: str, args: tuple[Any, ...], timeout: float) -> Any:
        """Invoke as the extension does."""
        return await self._of(extension).invoke(channel, args, timeout, ())

    def broadcast(self, extension: str, channel: str, args: tuple[Any, ...]) -> None:
        """Broadcast as the extension does."""
        self._of(extension).send(ALL, channel, args)

    def nothing(self) -> None:
        """Whoever is answered has had all its earlier messages handled."""

    def hear(self, extension: str, channel: str) -> None:
        """Keep what comes by the channel from now on."""
        heard = self._heard.setdefault((extension, channel), [])
        self._of(extension).listen(channel, lambda _event, *args: heard.append(args), "disconnect")

    def heard(self, extension: str, channel: str) -> list[tuple[Any, ...]]:
        """What has come since `hear`."""
        return self._heard[extension, channel]

    def be_slow(self, seconds: float) -> None:
        """Sleep so long in each turn of the loop; 0: no more."""
        loop, began = asyncio.get_running_loop(), self._slow == 0
        self._slow = seconds

        def nap() -> None:
            if self._slow:
                time.sleep(self._slow)
                loop.call_soon(nap)

        if seconds and began:
            loop.call_soon(nap)

    async def left(self) -> list[str]:
        """What is open here, and was not when this part was activated."""
        return await self._watch.left()
