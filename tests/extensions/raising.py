"""An extension that raises what its version says, where its version says: "main.on_activate async exit"."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from lensipc import ExtensionManifest, LensMainExtension, LensRendererExtension, OutboxFull


class Own(BaseException):
    """Nothing that an `except Exception` catches."""


class Mute(Exception):  # noqa: N818
    """Nothing of it can be had."""

    def __str__(self) -> str:
        raise SystemExit("in __str__")

    @property
    def args(self) -> Any:  # type: ignore[override]
        raise KeyboardInterrupt


class ParseError(SyntaxError):
    """As a parser has it that works on bytes."""


HOW: dict[str, tuple[Callable[[], BaseException], str]] = {  # makes it; the type that is told
    "exit": (lambda: SystemExit("enough"), "SystemExit"),
    "interrupt": (lambda: KeyboardInterrupt("not by a signal"), "KeyboardInterrupt"),
    "cancel": (asyncio.CancelledError, "asyncio.exceptions.CancelledError"),
    "generator": (lambda: GeneratorExit("x"), "GeneratorExit"),
    "own": (lambda: Own("x"), "raising.Own"),
    "bytes": (lambda: ParseError("bad", ("query", 1, 3, b"a b")), "raising.ParseError"),  # type: ignore[arg-type]
    "mute": (Mute, "raising.Mute"),
    "large": (lambda: ValueError("x" * 50_000_000), "ValueError"),
    "full": (lambda: OutboxFull("of another"), "lensipc.errors.OutboxFull"),
}


def plain(_event: object, how: str) -> None:
    raise HOW[how][0]()


async def awaited(_event: object, how: str) -> None:
    await asyncio.sleep(0)
    raise HOW[how][0]()


async def at_once(_event: object, how: str) -> None:
    raise HOW[how][0]()


def manifest(where: str, way: str, how: str) -> ExtensionManifest:
    """Raises there."""
    return ExtensionManifest("raising", f"{where} {way} {how}", main="raising:Main", renderer="raising:Renderer")


class _Part:
    version: str
    kind: str

    def _do(self, method: str) -> Any:
        where, way, how = self.version.split()
        return globals()[way](None, how) if where == f"{self.kind}.{method}" else None

    def on_activate(self) -> Any:
        return self._do("on_activate")

    def on_deactivate(self) -> Any:
        return self._do("on_deactivate")


class Main(_Part, LensMainExtension):
    kind = "main"


class Renderer(_Part, LensRendererExtension):
    kind = "renderer"
