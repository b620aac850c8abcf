# SPDX-License-Identifier: MIT
"""Extensions are installed, enabled, disabled and uninstalled here, in main and in every renderer together.

A change of an extension's state is one task. The task holds the extension's lock until the whole change is done or
undone. So changes of an extension come one after another, and a change never stops half-way because its caller is
cancelled.
"""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from .. import clone
from ..errors import ActivationError, ForkError, InvokeTimeout, LensIpcError, PeerGone, RemoteError, printable
from ..extension import ExtensionManifest, LensMainExtension
from ..log import log, log_raised
from ..runtime.closing import Closing, to_the_end
from ..runtime.connection import CLOSED
from ..runtime.dispatch import finish, log_failure
from ..runtime.driver import is_awaitable
from ..runtime.loader import adopt, dispose_part, import_path, load
from ..runtime.ports import ExtensionInfo, RendererInfo
from ..runtime.protocol import READY
from ..user_code import conclude, ends_process, text_of, type_name
from .connection import RendererConnection
from .core import REASON_MOST, MainCore
from .port import MainPort

if TYPE_CHECKING:
    import asyncio

# How long a part may take to deactivate. After that, main goes on without it, or disconnects its renderer (seconds).
DEACTIVATION_WAIT: Final = 10.0
# How long a part in a renderer may take to activate before that renderer is disconnected (seconds).
RENDERER_ACTIVATION_WAIT: Final = 30.0

Result = TypeVar("Result")


class Installed:
    """An installed extension, and its part in main while the part is active."""

    def __init__(self, manifest: ExtensionManifest, port: MainPort, settings: bytes) -> None:
        self.manifest = manifest
        self.port = port
        self.settings = settings  # as its parts decode them
        self.enabled = False
        self.folders: list[str] = []  # main's import path when the extension was enabled
        self.activating: asyncio.Task[Any] | None = None
        self.deactivating = False
        self.given_up = False  # `_disable` has cancelled the activation
        self.part: LensMainExtension | None = None


class Lifecycle:
    """All extensions that a host has installed.

    Args:
        core: main's core.
        loop: the loop that the core runs on.
        closing: closes the host.
    """

    def __init__(self, core: MainCore, loop: asyncio.AbstractEventLoop, closing: Closing) -> None:
        self._core = core
        self._loop = loop
        self._closing = closing
        self._installed: dict[str, Installed] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._changes: set[asyncio.Task[Any]] = set()

    async def install(self, manifest: ExtensionManifest, settings: object) -> None:
        """Install an extension and activate all its parts."""
        await self._stoppable(self._install(manifest, clone.encode(settings, self._core.limits, "settings")))

    async def enable(self, id: str) -> None:
        """Activate all parts of the extension again."""
        await self._stoppable(self._enable(self._find(id)))

    async def disable(self, id: str) -> None:
        """Deactivate all parts of the extension."""
        await self.shielded(self._disable(self._find(id)))

    async def uninstall(self, id: str) -> None:
        """Deactivate all parts of the extension, and forget the extension."""
        await self.shielded(self._uninstall(self._find(id)))

    def infos(self) -> dict[str, ExtensionInfo]:
        """What is installed, by id, in the order in which it was."""
        return {installed.manifest.id: self._info(installed) for installed in self._installed.values()}

    def _info(self, installed: Installed) -> ExtensionInfo:
        if installed.activating is not None:
            state: Literal["activating", "enabled", "deactivating", "disabled"] = "activating"
        elif installed.deactivating:
            state = "deactivating"
        else:
            state = "enabled" if installed.enabled else "disabled"
        connections, port = self._core.connections.values(), installed.port
        active = tuple(each.frame_id for each in connections if port in each.active)
        failed = {each.frame_id: each.failed[port] for each in connections if port in each.failed}
        return ExtensionInfo(installed.manifest.id, installed.manifest.version, state, active, failed)

    async def end(self, reason: str) -> None:
        """Deactivate all extensions, because the host ends. Renderers are told the reason."""
        import asyncio

        ends = [self._disable(installed, reason) for installed in self._installed.values()]
        await asyncio.gather(*ends, return_exceptions=True)

    async def bring_up(self, connection: RendererConnection) -> None:
        """Activate all enabled extensions in a new renderer, then send READY."""
        connection.on_closed.append(partial(self._gone, connection))
        connection.brought_up = True
        enabled = [installed for installed in self._installed.values() if installed.enabled]
        await _all(*(self._activate_in(connection, installed) for installed in enabled))
        if connection.state is CLOSED:
            how = connection.fate and await connection.fate()
            how = how or f"is gone: {connection.reason}"
            raise PeerGone(f"{connection.who} {how}")
        connection.send(READY)

    async def take_down(self, connection: RendererConnection, reason: str) -> None:
        """Deactivate all enabled extensions in a renderer, which main then closes. It is told the reason."""
        import asyncio

        self._gone(connection, "main closed it")
        enabled = [installed for installed in self._installed.values() if installed.enabled]
        await asyncio.gather(*(self._deactivate_in(connection, installed, reason) for installed in enabled))

    def _announce(self, port: MainPort, connection: RendererConnection) -> None:
        """Tell the part in main that the extension's part in this renderer is active."""
        if connection.frame_id not in port.renderers:
            info = RendererInfo(connection.frame_id, connection.pid, connection.name)
            port.renderers[connection.frame_id] = info
            self._loop.call_soon(self._tell, port, "on_renderer_attached", info)  # what it raises is not `install`'s

    def _gone(self, connection: RendererConnection, reason: str | None = None) -> None:
        """Tell the parts in main whose parts were active in this renderer. Without a reason, its connection is closed.

        How a process has ended is known a little later, and told then.
        """
        for port in connection.active:
            info = port.renderers.pop(connection.frame_id, None)
            if info is None:
                continue
            if connection.fate is None or reason is not None:
                self._loop.call_soon(self._tell, port, "on_renderer_gone", info, reason or connection.reason)
            else:
                task = self._loop.create_task(self._tell_fate(port, info, connection))
                port.table.running.add(task)
                task.add_done_callback(port.table.running.discard)
        connection.active.clear()

    async def _tell_fate(self, port: MainPort, info: RendererInfo, connection: RendererConnection) -> None:
        """Tell the part in main how the process of a renderer has ended, once that is known."""
        how = connection.fate and await connection.fate()
        info = info._replace(status=connection.exit_status)
        self._tell(port, "on_renderer_gone", info, how or connection.reason)

    def _tell(self, port: MainPort, method: str, *args: object) -> None:
        """Call a method of the part in main, and await what it returns. A failure is logged."""
        installed = self._installed.get(port.extension)
        if installed is None or installed.part is None:
            return
        what = "%s of extension %s in main raised", method, port.extension
        try:
            result = getattr(installed.part, method)(*args)
            if is_awaitable(result):
                finish(self._core.driver, port.table, result, what)
        except BaseException as error:
            conclude(error, partial(log_failure, error, what))

    def _find(self, id: str) -> Installed:
        if id not in self._installed:
            raise KeyError(f"extension {id!r} is not installed")
        return self._installed[id]

    async def shielded(self, change: Coroutine[Any, Any, None]) -> None:
        """Wait for a change. The change goes on to its end even if its caller is cancelled."""
        import asyncio

        await asyncio.shield(self._started(change))

    async def _stoppable(self, change: Coroutine[Any, Any, Result]) -> Result:
        """Wait for a change. If the caller is cancelled, the change undoes what it has done."""
        import asyncio

        task = self._started(change)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait([task])
            raise

    def _started(self, change: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        try:
            self._core.poller.check_fork()
        except ForkError:  # in a fork, this loop is the parent's too
            change.close()
            raise
        with self._closing.callbacks():  # it calls parts' methods
            task = self._loop.create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return task

    def _lock(self, id: str) -> asyncio.Lock:
        import asyncio

        return self._locks.setdefault(id, asyncio.Lock())

    async def _install(self, manifest: ExtensionManifest, settings: bytes) -> None:
        async with self._lock(manifest.id):
            self._check_not_closing(manifest.id)
            if manifest.id in self._installed:
                raise ValueError(f"extension {manifest.id!r} is installed already: uninstall it first")
            installed = Installed(manifest, self._core.port(manifest.id), settings)
            self._installed[manifest.id] = installed
            try:
                await self._activate(installed)
            except BaseException:
                del self._installed[manifest.id]
                raise
            log.info("extension %s %s is installed and enabled", manifest.id, manifest.version)

    async def _enable(self, installed: Installed) -> None:
        manifest = installed.manifest
        async with self._lock(manifest.id):
            if self._installed.get(manifest.id) is not installed:
                raise KeyError(f"extension {manifest.id!r} is not installed any more")
            self._check_not_closing(manifest.id)
            if not installed.enabled:
                await self._activate(installed)
                log.info("extension %s is enabled", manifest.id)

    async def _disable(self, installed: Installed, reason: str = "") -> None:
        self._give_up(installed)
        async with self._lock(installed.manifest.id):
            await self._disable_locked(installed, reason)

    async def _uninstall(self, installed: Installed) -> None:
        manifest = installed.manifest
        self._give_up(installed)
        async with self._lock(manifest.id):
            await self._disable_locked(installed)
            if self._installed.get(manifest.id) is installed:
                del self._installed[manifest.id]
                log.info("extension %s is uninstalled", manifest.id)

    def _check_not_closing(self, id: str) -> None:
        if self._closing.begun:  # while this change waited for an earlier one
            raise ActivationError(f"extension {id!r} is not activated: the MainProcess is being closed")

    def _give_up(self, installed: Installed) -> None:
        if installed.activating is not None:
            installed.given_up = True
            installed.activating.cancel()

    async def _disable_locked(self, installed: Installed, reason: str = "") -> None:
        if installed.enabled:
            await self._deactivate(installed, reason)
            log.info("extension %s is disabled", installed.manifest.id)

    async def _activate(self, installed: Installed) -> None:
        """Activate all parts, or none."""
        import asyncio

        port = installed.port
        adopt(installed.folders, import_path())
        installed.activating = asyncio.current_task()
        installed.given_up = False
        installed.enabled = port.activating = port.kept.open = True
        renderers = [each for each in self._core.connections.values() if each.brought_up]
        try:
            await _all(
                self._activate_in_main(installed),
                *(self._activate_in(each, installed, veto=each.started_here) for each in renderers),
            )
        except BaseException as error:
            installed.activating = None  # so that `_disable` does not cancel the undoing
            await to_the_end(self._deactivate(installed))
            if isinstance(error, asyncio.CancelledError) and installed.given_up:  # `_disable` cancelled, not the caller
                why = f"extension {installed.manifest.id!r} was disabled while it was being activated"
                raise ActivationError(why) from None
            raise
        finally:
            installed.activating = None
            port.end_activation()
        for each in list(self._core.connections.values()):
            if port in each.active:
                self._announce(port, each)

    async def _activate_in_main(self, installed: Installed) -> None:
        manifest, port = installed.manifest, installed.port
        try:
            if manifest.main is None:
                return
            kind = load(manifest.main, LensMainExtension, manifest.id)
            settings = clone.decode(installed.settings, self._core.limits)
            part = kind(manifest.id, manifest.version, port, settings)
            installed.part = part
            port.table.open = True
            result = part.on_activate()
            if is_awaitable(result):
                await result
            log.debug("the part of extension %s in main is activated", manifest.id)
        except ActivationError:
            raise
        except BaseException as error:
            if _ends_us(error):
                raise
            why = f"extension {manifest.id!r} ({manifest.main}) in main raised {_said(error)}"
            raise ActivationError(why) from error
        finally:
            port.end_activation()

    async def _activate_in(self, connection: RendererConnection, installed: Installed, *, veto: bool = True) -> None:
        """Activate a renderer's part.

        On failure, raise ActivationError if `veto`; else disconnect the renderer. Or the extension is not active there,
        if that is what the host has chosen for this renderer.
        """
        manifest = installed.manifest
        if manifest.renderer is None or not connection.may_speak_for(manifest.id):
            return
        if connection.state is CLOSED:
            return
        pending = self._core.driver.future()
        where = f"extension {manifest.id!r} ({manifest.renderer}) in {connection.who}"
        wait = connection.activation_timeout
        try:
            told = manifest.version, manifest.renderer, installed.folders, installed.settings
            connection.activate(installed.port, *told, pending, wait)
            await pending
            if installed.enabled and connection.state is not CLOSED:  # neither has changed meanwhile
                connection.active.add(installed.port)
                if installed.activating is None:
                    self._announce(installed.port, connection)
        except PeerGone as gone:  # with its renderer: the part's fault only if main started it and nobody here ended it
            how = connection.fate and await connection.fate()
            if how and not connection.asked:
                raise ActivationError(f"{where} was being activated when the process {how}") from gone
        except InvokeTimeout:  # a silent renderer must not keep the whole host waiting
            why = f"extension {manifest.id!r} did not activate there in {wait:g} s"
            self._core.disconnect(connection, why)
        except RemoteError as error:
            why = f"{where} raised {_said(error)}"
            if not connection.raise_errors:
                connection.failed[installed.port] = printable(_said(error), REASON_MOST)
                log.error("%s, and is not active there", printable(why, REASON_MOST))
                return
            if veto:
                raise ActivationError(why) from error
            self._core.disconnect(connection, why)

    async def _deactivate(self, installed: Installed, reason: str = "") -> None:
        installed.enabled = False
        installed.deactivating = True
        try:
            await self._deactivate_everywhere(installed, reason)
        finally:
            installed.deactivating = False

    async def _deactivate_everywhere(self, installed: Installed, reason: str) -> None:
        import asyncio

        installed.port.renderers.clear()
        connections = list(self._core.connections.values())
        for each in connections:
            each.active.discard(installed.port)
            each.failed.pop(installed.port, None)
        await asyncio.gather(*(self._deactivate_in(each, installed, reason) for each in connections))
        try:
            await self._deactivate_in_main(installed)  # last: the parts in renderers still have main's handlers
        finally:
            installed.port.kept.close()

    async def _deactivate_in_main(self, installed: Installed) -> None:
        import asyncio

        part, installed.part = installed.part, None
        if part is None:
            return
        port = installed.port
        port.end_handlers()
        if port.stopping:  # on_deactivate comes later, so these handlers can still use the part
            _, running = await asyncio.wait(port.stopping, timeout=DEACTIVATION_WAIT)
            if running:
                why = "%d handlers of extension %s still run, %g s after they were cancelled"
                log.warning(why, len(running), part.id, DEACTIVATION_WAIT)
        try:
            async with asyncio.timeout(DEACTIVATION_WAIT) as limit:
                result = part.on_deactivate()
                if is_awaitable(result):
                    await result
        except BaseException as error:
            if _ends_us(error):
                raise
            what = f"took more than {DEACTIVATION_WAIT:g} s" if limit.expired() else "raised"
            log_raised(error, f"on_deactivate of extension %s in main {what}", part.id)
        finally:
            dispose_part(part)
            log.debug("the part of extension %s in main is deactivated", part.id)

    async def _deactivate_in(self, connection: RendererConnection, installed: Installed, reason: str) -> None:
        if installed.port.number not in connection.ports or connection.state is CLOSED:
            return
        pending = self._core.driver.future()
        try:
            connection.deactivate(installed.port, reason, pending, DEACTIVATION_WAIT)
            await pending
        except PeerGone:
            pass
        except InvokeTimeout:
            why = f"extension {installed.manifest.id!r} did not deactivate in {DEACTIVATION_WAIT:g} s"
            self._core.disconnect(connection, why, told=reason)  # main has meant to close it, if there is a reason
        except LensIpcError as error:
            what = "on_deactivate of extension %s in %s raised %s"
            log.error(what, installed.manifest.id, connection.who, _said(error))


def _ends_us(error: BaseException) -> bool:
    """Whether the error ends this change or process: the change is cancelled, or a signal's handler has raised it."""
    import asyncio

    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0
    return ends_process(error)


def _said(error: BaseException) -> str:
    """The type and the text of an error."""
    kind = error.remote_type if isinstance(error, RemoteError) else type_name(error)
    text = text_of(error)
    return f"{kind}: {text}" if text else kind


async def _all(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Await all coroutines, even if one fails; then raise the first failure."""
    import asyncio

    for outcome in await asyncio.gather(*coroutines, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
