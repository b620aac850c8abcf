# SPDX-License-Identifier: MIT
"""The abstract classes that an extension subclasses to talk: `Ipc.Main` and `Ipc.Renderer`.

    class IpcMain(Ipc.Main):
        def __init__(self, extension: LensMainExtension) -> None:
            super().__init__(extension)
            self.listen("initialize", on_initialize)

`IpcMain.create_instance(extension)` in `on_activate`, then `IpcMain.get_instance()` wherever it is needed.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NoReturn, TypeVar, TypeVarTuple, overload

from .channel import Channel, Result
from .events import IpcMainEvent, IpcMainInvokeEvent, IpcRendererEvent
from .extension import LensMainExtension, LensRendererExtension
from .runtime.channels import Callback, Disposer
from .runtime.ports import MainPort, RendererInfo, RendererPort
from .runtime.protocol import ALL
from .runtime.streams import Item, Stream

if TYPE_CHECKING:
    import concurrent.futures
    from typing import SupportsIndex

    import numpy as np
    from numpy._typing import _SupportsDType
    from numpy.typing import DTypeLike

    from .clone.loan import Loan
    from .runtime.asyncio_driver import Invocation

Args = TypeVarTuple("Args")
Self = TypeVar("Self", bound="_Ipc[Any]")
Port = TypeVar("Port", MainPort, RendererPort)

if TYPE_CHECKING:
    Scalar = TypeVar("Scalar", bound=np.generic)
    Shape = SupportsIndex | Sequence[SupportsIndex]

WhenSlow = Literal["disconnect", "drop_oldest", "drop_newest", "keep_newest"]
ArraysAs = Literal["copy", "view"]


class _Elsewhere:
    """What the other side's class has, and this one has not: an AttributeError that says so.

    A descriptor of that name: with a `__getattr__`, each attribute of an instance would take 35 ns more.
    """

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._here, self._name = owner.__name__, name

    def __get__(self, instance: object, owner: type[Any]) -> NoReturn:
        there = "Renderer" if self._here == "Main" else "Main"
        raise AttributeError(
            f"{owner.__name__} has no {self._name!r}: only an Ipc.{there} has. "
            f"A renderer invokes and broadcasts, and main handles; this is an Ipc.{self._here}"
        )


class _Ipc(ABC, Generic[Port]):
    """What main and renderer have in common: one instance of a subclass for one extension."""

    # Those of this process. lensipc.testing gives each renderer that it runs in this process a table of its own.
    _instances: ClassVar[MutableMapping[type[Any], Any]] = {}
    _creating: ClassVar[list[type[Any]]] = []

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Any:
        if cls not in _Ipc._creating:
            raise TypeError(
                f"{cls.__name__} is abstract: subclass it and call create_instance(extension) on the subclass"
                if cls.__module__ == __name__
                else f"{cls.__name__} is not constructed directly: call {cls.__name__}.create_instance(extension)"
            )
        return super().__new__(cls)

    def __init__(self, extension: Any) -> None:
        self.extension = extension
        self._port: Port = extension._port

    @classmethod
    def create_instance(cls: type[Self], extension: Any, *args: Any, **kwargs: Any) -> Self:
        """Make the one instance of this class, for this extension; further arguments go to its constructor.

        A second call for the same extension returns the first instance. The instance is forgotten, and all that it
        registered is undone, when the extension is deactivated.

        Raises:
            TypeError: this is `Ipc.Main` or `Ipc.Renderer` itself, or `extension` is no part of that kind.
            RuntimeError: there is an instance for another extension.
        """
        if cls.__module__ == __name__:
            raise TypeError(f"{cls.__name__} is abstract: subclass it and call create_instance on the subclass")
        if not isinstance(extension, cls._part()):
            raise TypeError(f"{cls.__name__} is made for a {cls._part().__name__}, not for {type(extension).__name__}")
        instance = _Ipc._instances.get(cls)
        if instance is not None:
            if instance.extension is extension:
                found: Self = instance
                return found
            raise RuntimeError(
                f"instance of {cls.__name__} exists already, for extension {instance.extension.id!r}: "
                f"reset_instance() comes first"
            )
        _Ipc._creating.append(cls)
        try:
            created = cls(extension, *args, **kwargs)
        finally:
            _Ipc._creating.remove(cls)
        _Ipc._instances[cls] = created
        extension.disposers.callback(cls._forget, created)
        return created

    @overload
    @classmethod
    def get_instance(cls: type[Self], *, strict: Literal[True] = True) -> Self: ...

    @overload
    @classmethod
    def get_instance(cls: type[Self], *, strict: bool) -> Self | None: ...

    @classmethod
    def get_instance(cls: type[Self], *, strict: bool = True) -> Self | None:
        """The instance that create_instance made.

        Args:
            strict: whether to raise TypeError when there is none; None is returned otherwise.
        """
        instance: Self | None = _Ipc._instances.get(cls)
        if instance is None and strict:
            twin = next((c for c in _Ipc._instances if c.__qualname__ == cls.__qualname__), None)
            where = f" in {cls.__module__}, but in {twin.__module__}: is it one file, imported twice?" if twin else ""
            raise TypeError(f"instance of {cls.__name__} is not created{where}")
        return instance

    @classmethod
    def reset_instance(cls) -> None:
        """Forget the instance, so that another can be made. What it registered stays until it is disposed of."""
        _Ipc._instances.pop(cls, None)

    @classmethod
    def _forget(cls, instance: Any) -> None:
        if _Ipc._instances.get(cls) is instance:
            del _Ipc._instances[cls]

    @classmethod
    def _part(cls) -> type[Any]:
        raise NotImplementedError

    @overload
    def broadcast(
        self, channel: Channel[tuple[*Args], Any], *args: *Args, transfer: Sequence[Any] = (), keep: bool = False
    ) -> None: ...

    @overload
    def broadcast(self, channel: str, *args: Any, transfer: Sequence[Any] = (), keep: bool = False) -> None: ...

    def broadcast(  # type: ignore[misc]
        self, channel: Any, *args: Any, transfer: Sequence[Any] = (), keep: bool = False
    ) -> None:
        """Send an event to all listeners of the channel: in main and in every renderer, this process included.

        Returns at once; `await drain()` between many broadcasts keeps the sender at its receivers' pace.

        Any thread may call it, as `listen`, `handle`, `invoke` and disposers: the arguments are cloned there, and the
        thread that has entered the process object sends them in its next turn, each thread's in their order.

        Args:
            channel: the channel's name, or a Channel.
            args: what the listeners are called with, after the event object; each has a structured clone of its own.
            transfer: bytearrays and arrays among them that are emptied here once the event is sent.
            keep: have main keep the arguments in place of those that it keeps of this channel, for who listens later
                with `replay=True`. They are forgotten when the extension is disabled, not when this process ends.

        Raises:
            DataCloneError: an argument cannot be cloned; nothing was sent.
            TypeError: `transfer` is no list; nothing was sent.
            KeptFull: with `keep`, more bytes than `MainProcess(kept_limit=)` would be kept of this extension; nothing
                was sent. A renderer knows only of what it has had kept itself. Where others' values are in the way, the
                event is not sent on either, and this process logs the error.
            NotActivatedError: the extension is not active here.
            OutboxFull: too much waits already, in main for one that has had no time to read it; nothing was sent.
            PeerGone: (renderer) main is gone.
        """
        if keep:
            self._port.keep(channel, args, transfer)
        else:
            self._port.send(ALL, channel, args, transfer)

    @overload
    def loan(self, shape: Shape) -> Loan[np.dtype[np.float64]]: ...

    @overload
    def loan(
        self, shape: Shape, dtype: type[Scalar] | np.dtype[Scalar] | _SupportsDType[np.dtype[Scalar]]
    ) -> Loan[np.dtype[Scalar]]: ...

    @overload
    def loan(self, shape: Shape, dtype: DTypeLike) -> Loan[Any]: ...

    def loan(self, shape: Any, dtype: Any = float) -> Any:
        """Get a writable array to fill and to send with `transfer`, which copies nothing of it in main.

            frame = ipc.loan((1080, 1920, 3), np.uint8)
            camera.read_into(frame)
            ipc.broadcast("frame", frame, transfer=[frame])     # frame is empty here now

        In main the array lies in shared memory, and `broadcast` to renderers sends where that is: alone in the
        arguments, or anywhere in them, as in `{"t": 1.0, "frame": frame}`. It is copied, as any array, if there are
        slices or other views of it; if the arguments have a second array of 64 KiB or more, or more than 4 KiB of other
        data; without `transfer`; with `keep`; by `send`, `reply` and results; and where main listens itself. In a
        renderer, in another thread, and below 64 KiB it is an array in memory of its own, so the same code runs
        everywhere.

        A memoryview, a tensor or a masked array of it cannot be seen. What is written there after the array was sent,
        its readers see.

        Its memory is used again when nothing here refers to the array, and no renderer reads it any more. In
        `with ipc.loan(...) as frame:` the array is empty at the end, whether it was sent or not.

        Args:
            shape: the array's lengths, or its one length.
            dtype: the type of its items, without objects. Float64 if it is left out, as in numpy.

        Returns:
            A numpy array, contiguous in C order. In shared memory it is not cleared: it shows what the extension has
            written there before.

        Raises:
            PoolFull: (main) the pool has no room for it: `MainProcess(pool_limit=)`. It says who holds how much.
            NotActivatedError: the extension is not active here.
            MemoryError: there is no memory for it.
            TypeError, ValueError: the shape or the dtype is none that can cross.
        """
        return self._port.loan(shape, dtype)


class Main(_Ipc[MainPort]):
    """An extension's IPC in main. Subclass it."""

    extension: LensMainExtension

    if not TYPE_CHECKING:
        invoke = _Elsewhere()
        submit = _Elsewhere()
        invoke_sync = _Elsewhere()
        stream = _Elsewhere()
        drain_sync = _Elsewhere()

    @classmethod
    def _part(cls) -> type[Any]:
        return LensMainExtension

    @overload
    def listen(
        self,
        channel: Channel[tuple[*Args], Any],
        listener: Callable[[IpcMainEvent, *Args], object],
        *,
        replay: bool = False,
        latest: bool = False,
        concurrency: int | None = None,
        arrays: ArraysAs = "copy",
    ) -> Disposer: ...

    @overload
    def listen(
        self,
        channel: str,
        listener: Callback,
        *,
        replay: bool = False,
        latest: bool = False,
        concurrency: int | None = None,
        arrays: ArraysAs = "copy",
    ) -> Disposer: ...

    def listen(
        self,
        channel: Any,
        listener: Callback,
        *,
        replay: bool = False,
        latest: bool = False,
        concurrency: int | None = None,
        arrays: ArraysAs = "copy",
    ) -> Disposer:
        """Call `listener(event, *args)` for each event of the channel; a plain or an async function.

        Args:
            channel: the channel's name.
            listener: what is called.
            replay: call it first with the channel's kept value, if there is one: the arguments of the last
                `broadcast(channel, ..., keep=True)`, with the event of who sent them, alive or not. Then it hears every
                event that comes later, none twice. Events without `keep` that came in between are not kept.
            latest: for a listener that is slow and needs the newest state only. Events that come while it runs are
                skipped, but for the newest, which it hears next; `event.missed` says how many were skipped before it.
            concurrency: how many calls of an async listener may run at once; further events wait, in order, or with
                `latest` only the newest. None: any number, or 1 with `latest`. A plain function runs once at a time.
            arrays: "copy": arrays are the listener's own. "view": they are read-only, and large bytes are memoryviews,
                as in a renderer; what they show is a copy for this listener all the same.

        Returns:
            A disposer: calling it removes the listener. It may be called any number of times.

        Raises:
            TypeError: the listener does not take the event.
            ValueError: `arrays` is another word.
        """
        return self._port.listen(channel, listener, replay, latest, concurrency, arrays)

    @overload
    def handle(
        self,
        channel: Channel[tuple[*Args], Result],
        handler: Callable[[IpcMainInvokeEvent, *Args], Result | Awaitable[Result]],
    ) -> Disposer: ...

    @overload
    def handle(self, channel: str, handler: Callback) -> Disposer: ...

    def handle(self, channel: Any, handler: Callback) -> Disposer:
        """Answer the requests of the channel: what `handler(event, *args)` returns or raises is their outcome.

        Whatever it raises, SystemExit too; only Ctrl-C, and what a signal's handler raises, ends this process.

        A generator function, plain or async, is asked by `stream` and not by `invoke`. It runs no further than its
        reader lets it. Its `finally` runs once, as soon as its reader, its extension or the renderer ends.

        Returns:
            A disposer: calling it removes the handler.

        Raises:
            HandlerExistsError: the channel has one; says where it was registered.
            TypeError: the handler does not take the event.
        """
        return self._port.table.handle(channel, handler)

    @property
    def renderers(self) -> list[RendererInfo]:
        """The renderers in which the extension's part is active, the oldest first."""
        return list(self._port.renderers.values())

    @overload
    def send(
        self, frame_id: int, channel: Channel[tuple[*Args], Any], *args: *Args, transfer: Sequence[Any] = ()
    ) -> None: ...

    @overload
    def send(self, frame_id: int, channel: str, *args: Any, transfer: Sequence[Any] = ()) -> None: ...

    def send(self, frame_id: int, channel: Any, *args: Any, transfer: Sequence[Any] = ()) -> None:  # type: ignore[misc]
        """Send an event to one renderer alone; its listeners of the channel hear it, in the order of broadcasts.

        Does nothing if that renderer is gone, or if there is none. Otherwise as `broadcast`.

        Args:
            frame_id: the renderer's number: of `renderers`, or of an event.
            channel, args, transfer: as `broadcast` takes them.
        """
        if not isinstance(frame_id, int):
            raise TypeError(f"frame_id is a number, such as renderer.frame_id, not {type(frame_id).__name__}")
        if frame_id == ALL:
            raise ValueError("frame_id is the number of one renderer: broadcast() sends to all")
        self._port.send(frame_id, channel, args, transfer)

    async def drain(self) -> None:
        """Wait until no receiver that keeps reading has much waiting for it.

        One that takes less than `high_water` bytes in 1 s holds nobody up any longer; its outbox then fills to its
        limit, where it is disconnected, or loses events if it listens so.
        """
        await self._port.drain()


class Renderer(_Ipc[RendererPort]):
    """An extension's IPC in a renderer. Subclass it."""

    extension: LensRendererExtension

    if not TYPE_CHECKING:
        handle = _Elsewhere()
        send = _Elsewhere()
        renderers = _Elsewhere()

    @classmethod
    def _part(cls) -> type[Any]:
        return LensRendererExtension

    @overload
    def listen(
        self,
        channel: Channel[tuple[*Args], Any],
        listener: Callable[[IpcRendererEvent, *Args], object],
        *,
        when_slow: WhenSlow | None = None,
        replay: bool = False,
        latest: bool = False,
        concurrency: int | None = None,
        arrays: ArraysAs = "copy",
    ) -> Disposer: ...

    @overload
    def listen(
        self,
        channel: str,
        listener: Callback,
        *,
        when_slow: WhenSlow | None = None,
        replay: bool = False,
        latest: bool = False,
        concurrency: int | None = None,
        arrays: ArraysAs = "copy",
    ) -> Disposer: ...

    def listen(
        self,
        channel: Any,
        listener: Callback,
        *,
        when_slow: WhenSlow | None = None,
        replay: bool = False,
        latest: bool = False,
        concurrency: int | None = None,
        arrays: ArraysAs = "copy",
    ) -> Disposer:
        """Call `listener(event, *args)` for each event of the channel; a plain or an async function.

        Args:
            channel: the channel's name, or a Channel.
            listener: what is called.
            when_slow: what main does with the channel's events when this process reads too slowly: disconnect it
                when its outbox is full ("disconnect"); drop the events that wait longest ("drop_oldest") or come last
                ("drop_newest") once `high_water` bytes wait; or let the newest alone wait ("keep_newest"). `missed` of
                an event tells how many were dropped before it. None: "keep_newest" with `latest`, else "disconnect".
                The first listener of a channel decides.
            replay: call it first with the channel's kept value, if there is one: the arguments of the last
                `broadcast(channel, ..., keep=True)`, with the event of who sent them, alive or not. Then it hears every
                event that comes later, none twice. Events without `keep` that came in between are not kept.
            latest: for a listener that is slow and needs the newest state only. Events that come while it runs are
                skipped, but for the newest, which it hears next; `event.missed` says how many were skipped before it.
            concurrency: how many calls of an async listener may run at once; further events wait, in order, or with
                `latest` only the newest. None: any number, or 1 with `latest`. A plain function runs once at a time.
            arrays: "copy": arrays are the listener's own, and it may write to them. "view": they are read-only, and
                bytes and bytearrays of 64 KiB or more are read-only memoryviews, but for keys, elements of sets, and
                what registered classes are made of. Large ones lie where main has written them, for all renderers at
                once. They stay as they are for as long as anything shows them: main gets the memory back when the last
                array, slice or memoryview is gone, or by `lensipc.release`. What came another way is read-only, too.

        Returns:
            A disposer: calling it removes the listener. It may be called any number of times.

        Raises:
            TypeError: the listener does not take the event.
            ValueError: `when_slow` or `arrays` is another word.
        """
        return self._port.listen(channel, listener, when_slow, replay, latest, concurrency, arrays)

    @overload
    def invoke(
        self,
        channel: Channel[tuple[*Args], Result],
        *args: *Args,
        timeout: float | None = None,
        transfer: Sequence[Any] = (),
        arrays: ArraysAs = "copy",
    ) -> Invocation[Result]: ...

    @overload
    def invoke(
        self,
        channel: str,
        *args: Any,
        timeout: float | None = None,
        transfer: Sequence[Any] = (),
        arrays: ArraysAs = "copy",
    ) -> Invocation[Any]: ...

    def invoke(  # type: ignore[misc]
        self,
        channel: Any,
        *args: Any,
        timeout: float | None = None,
        transfer: Sequence[Any] = (),
        arrays: ArraysAs = "copy",
    ) -> Invocation[Any]:
        """Send a request to main's handler of the channel: `result = await ipc.invoke("channel", 1)`.

        The request is on its way when this returns. What is returned is a future: await it, gather it, make a task
        of it. Cancelling it cancels the handler. (In a process without an event loop, and in another thread than the
        one that has entered this process, it is the concurrent.futures.Future that `submit` returns. Type checkers know
        of it there as such only where `submit` is called.)

        Args:
            channel: the channel's name, or a Channel.
            args: what the handler is called with, after the event object.
            timeout: seconds to wait for the outcome; None or infinity: as long as main lives. Negative ones are over
                at once. An outcome that has come in time is had in time, though this process was busy then.
            transfer: bytearrays and arrays among `args` that are emptied here once the request is sent.
            arrays: "copy": arrays of the result are the caller's own, and it may write to them. "view": they are
                read-only, and what is large lies where main has written it, as `listen` says; no other renderer can see
                it there. Main gets the memory back when the last array, slice or memoryview is gone, and nothing refers
                to what was awaited any more, or by `lensipc.release`.

        Raises, when called:
            DataCloneError, NotActivatedError, OutboxFull, PeerGone: as `broadcast`.
            TypeError, ValueError: the timeout is no number, or `arrays` is another word; nothing was sent.

        Raises, when awaited:
            RemoteError: the handler raised; also an instance of the builtin exception that it raised, or of lensipc's.
            NoHandlerError: main has no handler for it, or the extension was deactivated meanwhile. Where that happens
                here, a task that does not catch it ends as if it had been cancelled.
            InvokeTimeout: there was no outcome in time.
            PeerGone: main died, or disconnected this process.
        """
        return self._port.invoke(channel, args, timeout, transfer, arrays)  # type: ignore[no-any-return]

    @overload
    def submit(
        self,
        channel: Channel[tuple[*Args], Result],
        *args: *Args,
        timeout: float | None = None,
        transfer: Sequence[Any] = (),
        arrays: ArraysAs = "copy",
    ) -> concurrent.futures.Future[Result]: ...

    @overload
    def submit(
        self,
        channel: str,
        *args: Any,
        timeout: float | None = None,
        transfer: Sequence[Any] = (),
        arrays: ArraysAs = "copy",
    ) -> concurrent.futures.Future[Any]: ...

    def submit(  # type: ignore[misc]
        self,
        channel: Any,
        *args: Any,
        timeout: float | None = None,
        transfer: Sequence[Any] = (),
        arrays: ArraysAs = "copy",
    ) -> concurrent.futures.Future[Any]:
        """Send a request as `invoke`, where no event loop runs: in a script, beside a foreign loop, in another thread.

        Returns:
            A concurrent.futures.Future. On the thread that dispatches, `dispatch` resolves it, or its `result()`, which
            waits as `invoke_sync` does; do not hand it to `concurrent.futures.wait` there: that would wait for ever. In
            another thread its `result()` waits.

        Raises:
            RuntimeError: this is the thread of an event loop, which `result()` would block: `await ipc.invoke(...)`.
            All that `invoke` raises; what it raises when awaited, `result()` does.
        """
        return self._port.submit(channel, args, timeout, transfer, arrays)  # type: ignore[no-any-return]

    @overload
    def invoke_sync(
        self,
        channel: Channel[tuple[*Args], Result],
        *args: *Args,
        timeout: float | None = None,
        transfer: Sequence[Any] = (),
        arrays: ArraysAs = "copy",
    ) -> Result: ...

    @overload
    def invoke_sync(
        self,
        channel: str,
        *args: Any,
        timeout: float | None = None,
        transfer: Sequence[Any] = (),
        arrays: ArraysAs = "copy",
    ) -> Any: ...

    def invoke_sync(  # type: ignore[misc]
        self,
        channel: Any,
        *args: Any,
        timeout: float | None = None,
        transfer: Sequence[Any] = (),
        arrays: ArraysAs = "copy",
    ) -> Any:
        """The same, blocking until the outcome is there; for a process that runs no event loop.

        Events that arrive meanwhile are kept for `dispatch`.

        Raises:
            RuntimeError: this process runs an event loop, which this would block: `await ipc.invoke(...)`.
            LensIpcError: whatever `invoke` raises.
        """
        return self._port.invoke_sync(channel, args, timeout, transfer, arrays)

    @overload
    def stream(
        self,
        channel: Channel[tuple[*Args], Iterator[Item]],
        *args: *Args,
        read_ahead: int = 64,
        timeout: float | None = None,
        transfer: Sequence[Any] = (),
    ) -> Stream[Item]: ...

    @overload
    def stream(
        self,
        channel: Channel[tuple[*Args], AsyncIterator[Item]],
        *args: *Args,
        read_ahead: int = 64,
        timeout: float | None = None,
        transfer: Sequence[Any] = (),
    ) -> Stream[Item]: ...

    @overload
    def stream(
        self,
        channel: str,
        *args: Any,
        read_ahead: int = 64,
        timeout: float | None = None,
        transfer: Sequence[Any] = (),
    ) -> Stream[Any]: ...

    def stream(  # type: ignore[misc]
        self,
        channel: Any,
        *args: Any,
        read_ahead: int = 64,
        timeout: float | None = None,
        transfer: Sequence[Any] = (),
    ) -> Stream[Any]:
        """Read what a generator in main yields: `async for row in ipc.stream("rows", query)`, in a script `for`.

        The request is on its way when this returns. Each item is a clone of what the generator had yielded when it
        yielded it. Items come in their order, all of them before an error. The generator runs ahead of its reader by
        `read_ahead` items at most, so it waits for a slow reader.

        `async with ipc.stream(...) as rows` ends it for sure, as `with` does in a script. Without that, it ends when
        the iteration has ended, when its task is cancelled, and when nothing refers to it any more. A foreign event
        loop calls `take()` of it after each `dispatch`.

        Args:
            channel: the channel's name, or a Channel whose result is an `Iterator` or `AsyncIterator` of the items. Its
                handler is a generator function, plain or async.
            args: what the handler is called with, after the event object.
            read_ahead: how many items are produced before they are asked for, from 0 to 65,536; they wait here, or on
                their way.
            timeout: seconds to wait for each item, once it is asked for; None or infinity: as long as main lives. For
                a limit on all of it there is `asyncio.timeout`. `take` asks where it finds nothing.
            transfer: bytearrays and arrays among `args` that are emptied here once the request is sent.

        Raises, when called:
            DataCloneError, NotActivatedError, OutboxFull, PeerGone: as `broadcast`.
            TypeError, ValueError: `read_ahead` or the timeout is no number, or out of its range; nothing was sent.
            RuntimeError: this is another thread than the one that has entered this process.

        Raises, when iterated, after the items that have come:
            RemoteError, NoHandlerError, PeerGone: as `invoke`. A RemoteError that is a TypeError, too: the handler is
                no generator function.
            InvokeTimeout: there was no item in time. The generator is closed.
            DecodeError: the item cannot be decoded here. The generator is closed.
            RuntimeError: another task waits for an item of it, or this is a way to iterate that this process has not.
        """
        return self._port.stream(channel, args, read_ahead, timeout, transfer)

    async def drain(self) -> None:
        """Wait until little waits to be sent to main. PeerGone: main is gone."""
        await self._port.drain()

    def drain_sync(self) -> None:
        """The same, blocking; for a process that runs no event loop."""
        self._port.drain_sync()
