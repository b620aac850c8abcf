# SPDX-License-Identifier: MIT
"""Exceptions that user code has raised: whether they end this process, and how their text is made.

A handler, a listener or a part's method may raise anything: SystemExit, as argparse does, a CancelledError that leaked,
an exception whose own `__str__` raises. Such an exception must not end the process that called the user code. So each
caller of user code catches BaseException and gives the call its outcome. It raises the exception again only if
`ends_process` says so. The functions here raise nothing else.
"""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType, WrapperDescriptorType
from typing import Final

# The most characters of an error's text, and of its traceback.
TEXT_MOST: Final = 64 * 1024
# The most characters of a type's name.
NAME_MOST: Final = 200
# The most objects in a value that is printed. LINE characters of a string count as one more object.
SMALL: Final = 20_000
LINE: Final = 100
# The repr() of these shows a name, and none of their contents.
NAMED: Final = (type, ModuleType, FunctionType)


def ends_process(error: BaseException) -> bool:
    """Whether a signal's handler has raised the exception, on Ctrl-C for example, and not the interrupted code.

    The exception itself does not say so. If the handler was set in Python, the traceback has the handler's frame.
    Python's default handler raises KeyboardInterrupt between two instructions or from a call that waits, and not by a
    `raise` instruction.
    """
    if isinstance(error, Exception):
        return False
    handlers, innermost = _handlers(), error.__traceback__
    for frame, _ in traceback.walk_tb(innermost):
        if frame.f_code in handlers:
            return True
    if innermost is None or type(error) is not KeyboardInterrupt:
        return False
    from opcode import opname

    while innermost.tb_next is not None:
        innermost = innermost.tb_next
    code, at = innermost.tb_frame.f_code.co_code, innermost.tb_lasti
    return not 0 <= at < len(code) or opname[code[at]] != "RAISE_VARARGS"  # compiled code has no instructions


def conclude(error: BaseException, settle: Callable[[], object]) -> None:
    """Settle a call that has raised. Then raise the error again if it ends the process, even if `settle` raises."""
    try:
        settle()
    finally:
        if ends_process(error):
            raise error


def _handlers() -> set[CodeType]:
    """The code of all signal handlers that were set in Python."""
    import signal
    from functools import partial

    found = set()
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        while isinstance(handler, partial):  # asyncio's handlers are partials
            handler = handler.func
        if callable(handler):
            function = getattr(handler, "__func__", handler)
            code = getattr(function, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
            if code is not None:
                found.add(code)
    return found


def type_name(error: BaseException) -> str:
    """The name of an error's type, with the type's module unless it is `builtins`."""
    kind = type(error)
    try:
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        return str.__str__(name)[:NAME_MOST]
    except BaseException:  # a metaclass can return anything for these attributes
        return "exception"


def text_of(error: BaseException, most: int = TEXT_MOST) -> str:
    """An error's str(), cut to `most` characters."""
    try:
        if not _is_quick(error):
            return f"<the arguments of this {type_name(error)} are too large to print>"
        return cut(str.__str__(str(error)), most)  # a plain str, even if __str__ returned a subclass
    except BaseException:
        return f"<str() of this {type_name(error)} raised>"


def repr_of(value: object, most: int = TEXT_MOST) -> str:
    """A value's repr(), cut to `most` characters."""
    name = type.__dict__["__name__"].__get__(type(value))
    try:
        return cut(str.__str__(repr(value)), most) if is_small(value) else f"<this {name} is too large to print>"
    except BaseException:
        return f"<repr() of a {name} raised>"


def trace(error: BaseException) -> str:
    """An error's traceback as Python prints it, with its causes, cut to TEXT_MOST characters."""
    try:
        if all(map(_is_quick, _chain(error))):
            return cut("".join(traceback.format_exception(error)), TEXT_MOST)
    except BaseException:  # a SyntaxError whose text is bytes, or groups nested without end
        pass
    try:
        frames = "".join(traceback.format_tb(error.__traceback__))
    except BaseException:
        frames = ""
    return cut(f"Traceback (most recent call last):\n{frames}{type_name(error)}: {text_of(error)}\n", TEXT_MOST)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """All exceptions that a traceback shows: the error, its causes, and the members of groups."""
    todo, seen = [error], set()
    while todo:
        each = todo.pop()
        if id(each) not in seen:
            seen.add(id(each))
            yield each
            todo += [other for other in (each.__cause__, each.__context__) if other is not None]
            if isinstance(each, BaseExceptionGroup):
                todo += each.exceptions


def _is_quick(error: BaseException) -> bool:
    """Whether str() of an exception returns soon. A handler may raise ValueError(argument) with a peer's argument, and
    str() of such an argument can take for ever.

    A `__str__` that is written in Python counts as quick.
    """
    if not isinstance(type(error).__str__, WrapperDescriptorType):
        return True
    args = error.args
    return (len(args) == 1 and isinstance(args[0], str)) or is_small(args)


def is_small(value: object) -> bool:
    """Whether a value is small enough to print. An object that the value has twice is printed, and counted, twice."""
    todo, left = [value], SMALL
    while todo:
        each = todo.pop()
        left -= 1 + (len(each) // LINE if isinstance(each, (str, bytes, bytearray)) else 0)
        if left < 0:
            return False
        if isinstance(each, BaseException):
            todo += each.args
        elif type(each).__repr__ is not object.__repr__:
            todo += [other for other in gc.get_referents(each) if not isinstance(other, NAMED)]
    return True


def cut(text: str, most: int) -> str:
    """A text without its middle if it is too long. A traceback ends with the exception, so the end must stay."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} ... {len(text) - 2 * half} characters are left out ... {text[-half:]}"


def explained(error: BaseException, callback: object, count: int) -> BaseException:
    """A TypeError that explains that `callback` does not take an event and `count` arguments; else `error` itself."""
    if type(error) is not TypeError or error.__traceback__ is None or error.__traceback__.tb_next is not None:
        return error  # it was raised inside the callback
    import inspect

    try:
        inspect.signature(callback).bind(*(None for _ in range(count + 1)))  # type: ignore[arg-type]
    except ValueError:  # it has no signature
        return error
    except TypeError:
        arguments = "1 argument" if count == 1 else f"{count} arguments"
        return TypeError(
            f"{error}: it is called with the event first and then {arguments} of the message"
        ).with_traceback(error.__traceback__)
    except Exception:
        return error
    return error
