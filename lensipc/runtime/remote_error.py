# SPDX-License-Identifier: MIT
"""How an exception crosses: as two texts to main, and as all that can be used of it to a renderer."""

from __future__ import annotations

from types import NoneType
from typing import Any, Final

from .. import clone
from ..errors import DecodeError, NoHandlerError, ProtocolError, RemoteError, base_of, make_remote_error, printable
from ..transport.endpoint import Buffer
from ..user_code import NAME_MOST, TEXT_MOST, cut, repr_of, text_of, trace, type_name

# How long a chain of causes is followed, and how deep and how wide groups are looked into: what a reader can use.
CAUSES: Final = 8
# Characters of the text of an error that main is told of, besides a note of what was left out; and bytes in all.
SUMMARY_MOST: Final = 2000
NOTE_MOST: Final = 100
SUMMARY_BYTES: Final = 4 * (NAME_MOST + SUMMARY_MOST + NOTE_MOST)
# The arguments of an error that cross, at most so many: a SyntaxError has a tuple of six among its own.
ARGUMENTS: Final = 16


# ---- up: main is told two texts, and makes nothing of them but one line ----


def summarize(error: BaseException) -> bytes:
    """The body of an ERROR to main: the type's name and the text, in UTF-8 with a zero byte between. Never raises."""
    name, text = type_name(error).replace("\0", " "), text_of(error, SUMMARY_MOST)
    return f"{name}\0{text}".encode(errors="replace")


def read_summary(body: Buffer) -> RemoteError:
    """What such a body says, whatever it is: on one line, and without control characters.

    Raises:
        ProtocolError: it is longer than any that `summarize` makes.
    """
    if len(body) > SUMMARY_BYTES:
        raise ProtocolError(f"an error of {len(body)} bytes, where {SUMMARY_BYTES} are allowed")
    name, _, text = str(body, "utf-8", "replace").partition("\0")
    error = RemoteError(printable(text, SUMMARY_MOST + NOTE_MOST))
    error.remote_type, error.remote_message = printable(name), error.args[0]
    return error


class NoHandler(NoHandlerError):  # noqa: N818
    """Main's own word that nothing handles a request. Any other NoHandlerError is of some request of the handler's."""


# ---- down: a renderer trusts main, and is told all that it can use ----


def describe(error: BaseException) -> bytes:
    """The body of an ERROR to a renderer. Never raises."""
    try:
        described = _described(error, CAUSES)
        described["no_handler"] = type(error) is NoHandler
        return clone.encode(described)
    except BaseException:  # an exception's class can make anything of its attributes
        return clone.encode(_fields(type_name(error), "Exception", text_of(error), trace(error)))


def _fields(kind: str, base: str, text: str, traceback: str) -> dict[str, Any]:
    return {
        "type": kind,
        "base": base,
        "text": text,
        "args": (text,),
        "traceback": traceback,
        "no_handler": False,
        "cause": None,
        "group": None,
    }


def _described(error: BaseException, causes: int) -> dict[str, Any]:
    base = base_of(type(error))
    described = _fields(type_name(error), base.__name__, text_of(error), trace(error))
    if type(error) is base and not (isinstance(error, SyntaxError) and type(error.text) not in (str, NoneType)):
        args = _plain(_arguments(error))
        if len(clone.encode(args)) <= 2 * TEXT_MOST:
            described["args"] = args
    if causes:
        cause = error.__cause__
        if cause is not None:
            described["cause"] = _described(cause, causes - 1)
        if isinstance(error, ExceptionGroup) and base is ExceptionGroup:
            described["args"] = (cut(error.message, TEXT_MOST),)
            described["group"] = [_described(each, causes // 4) for each in error.exceptions[:causes]]
    return described


def _arguments(error: BaseException) -> tuple[object, ...]:
    """What to construct its like from. Only for builtins: a subclass made its `args` for its own constructor."""
    if isinstance(error, OSError) and error.filename is not None:
        return (error.errno, error.strerror, error.filename)
    return error.args


def _plain(values: tuple[object, ...], deep: bool = True) -> tuple[object, ...]:
    """Scalars and strings as they are, tuples of them too; of all else a text."""
    values = values[:ARGUMENTS]
    return tuple(_plain(each, False) if type(each) is tuple and deep else _scalar(each) for each in values)


def _scalar(value: object) -> object:
    if isinstance(value, str):
        return cut(str.__str__(value), TEXT_MOST)
    if value is None or type(value) in (bool, float, complex):
        return value
    if (type(value) is int and value.bit_length() <= TEXT_MOST) or (type(value) is bytes and len(value) <= TEXT_MOST):
        return value
    return repr_of(value)


def rebuild(body: Any) -> Exception:
    """The exception that a description stands for. DecodeError: it is none."""
    return _rebuilt(clone.decode(body), CAUSES)


_FIELDS: Final = {"type": str, "base": str, "text": str, "args": tuple, "traceback": str, "no_handler": bool}


def _rebuilt(described: Any, causes: int) -> Exception:
    if type(described) is not dict or any(type(described.get(name)) is not kind for name, kind in _FIELDS.items()):
        raise DecodeError("not the description of an error")
    text, args = described["text"], described["args"]
    if described["no_handler"]:
        return NoHandlerError(text)
    cause, group = described.get("cause"), described.get("group")
    if type(group) is list and causes:
        args = (*args, [_rebuilt(each, causes - 1) for each in group])
    error = make_remote_error(described["base"], args, text)
    error.remote_type = described["type"]
    error.remote_message = text
    error.remote_traceback = described["traceback"]
    if cause is not None and causes:
        error.__cause__ = _rebuilt(cause, causes - 1)
    error.add_note(f"\nRemote traceback:\n{error.remote_traceback.rstrip()}")
    return error
