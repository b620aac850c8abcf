# SPDX-License-Identifier: MIT
"""Reducers: how the pickler writes each type of value, and which types have no clone.

The pickler asks `reducer_of` about every object whose exact type is not a builtin that the pickler knows. TABLE has the
reducer of each exact type that has come up. A new type's builtin base, or its structure, decides which reducer it gets.
Reducers read an instance only with the descriptors and methods of builtin types. No method, property or `__reduce__` of
a user's class runs. There are three exceptions, because there is no other way: `utcoffset` of a user's tzinfo class,
`__str__` of a user's exception class, and `__repr__` of an exception's argument that is not a plain scalar.
"""

from __future__ import annotations

import re
import reprlib
import sys
import threading
import types
from collections.abc import Callable
from pickle import PickleBuffer
from typing import Any

from .. import _fast
from . import constructors

Reducer = Callable[[Any, Any], Any]
"""Takes the object and the _Message of codec.py, and returns a value as `object.__reduce__` does."""

HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement, or by a module in C since 3.9
KNOWN_CLASSES = 4096
"""The most classes in TABLE. A full TABLE is cleared, so that classes made on the fly do not pile up."""

MAX_CAUSES = 100
"""The most causes in the chain of an exception. Each chain is followed to its end, to find a cycle."""

_flags_of = type.__dict__["__flags__"].__get__
_base_of = type.__dict__["__base__"].__get__
_mro_of = type.__dict__["__mro__"].__get__
_namespace_of = type.__dict__["__dict__"].__get__
_size_of = type.__dict__["__basicsize__"].__get__
_dict_offset_of = type.__dict__["__dictoffset__"].__get__
items_of: Callable[[Any], Any] = dict.items
_WHOLE = slice(None)


class Unclonable(Exception):  # noqa: N818 - never leaves the package clone
    """Raised for an object that has no clone. `what` describes the object."""

    def __init__(self, culprit: object, what: str) -> None:
        super().__init__(what)
        self.culprit = culprit
        self.what = what


def _as_is(convert: Callable[[Any], Any]) -> Reducer:
    """A reducer for objects that arrive as the builtin that `convert` returns."""

    def reduce(obj: Any, _: Any) -> tuple[Any, ...]:
        return constructors.as_is, (convert(obj),)

    return reduce


def _dict(obj: Any, _: Any) -> tuple[Any, ...]:
    return constructors.as_dict, (), None, None, iter(items_of(obj))


def _list(obj: Any, _: Any) -> tuple[Any, ...]:
    return constructors.as_list, (), None, list.__iter__(obj)


def _memoryview(obj: memoryview, _: Any) -> tuple[Any, ...]:
    try:
        if obj.c_contiguous and obj.nbytes >= _fast.OUT_OF_BAND:
            # The memory stays in the pickle, but the pickler passes the memory itself to `write` and not a copy.
            return constructors.as_is, (PickleBuffer(obj.toreadonly()),)
        return constructors.as_is, (obj.tobytes(),)
    except ValueError:
        raise Unclonable(obj, "a released memoryview") from None


def _pattern(obj: re.Pattern[Any], message: Any) -> tuple[Any, ...]:
    if len(obj.pattern) > constructors.PATTERN_LIMIT:
        raise Unclonable(obj, f"a pattern longer than {constructors.PATTERN_LIMIT} characters")
    message.price += constructors.pattern_price(obj.pattern, obj.flags)
    if message.price > message.limits.budget:
        raise Unclonable(obj, "a pattern that takes too long to compile")
    return constructors.as_pattern, (obj.pattern, obj.flags)


def _error(obj: BaseException, _: Any) -> tuple[Any, ...]:
    cls = type(obj)
    base = next(c for c in _mro_of(cls) if id(c) in _BUILTIN_EXCEPTIONS)
    own = _EXCEPTION_DICT(obj)
    notes = dict.get(own, "__notes__") if own else None
    notes = tuple(_shortened(n) for n in notes if type(n) is str) if type(notes) is list else ()
    rest = _cause(obj), notes[: constructors.ERROR_ARGS], _trace(obj, own)
    if issubclass(base, BaseExceptionGroup):
        message = _shortened(str.__str__(base.message.__get__(obj)))
        return constructors.as_group, (base.__name__, message, *rest, *base.exceptions.__get__(obj))
    args = _EXCEPTION_ARGS(obj)
    if cls is not base:
        args = (_text_of(obj, base),)
    elif issubclass(base, OSError) and len(args) == 2:
        name, second = OSError.filename.__get__(obj), OSError.filename2.__get__(obj)
        if second is not None:
            args = (*args, name, None, second)
        elif name is not None:
            args = (*args, name)
    args = tuple(_scalar(arg) for arg in args)
    exact = constructors.exact_error_args(base, args) if len(args) <= constructors.ERROR_ARGS else None
    while exact is None:  # the exception's str() is not safe with these arguments
        args = (_text_of(obj, base),)
        exact = constructors.exact_error_args(base, args)
        base = base if exact is not None else base.__base__
    return constructors.as_error, (base.__name__, exact, *rest)


def _text_of(error: BaseException, base: type[BaseException]) -> str:
    """An exception's str()."""
    try:
        return _shortened(str.__str__(str(error)))
    except Exception:
        return _shortened(f"<str() of this {base.__name__} raised>")


def _shortened(text: str) -> str:
    """A text, without its beginning if it is too long. A traceback ends with the exception."""
    return text if len(text) <= constructors.TEXT_LIMIT else "..." + text[3 - constructors.TEXT_LIMIT :]


_SCALARS = frozenset(map(id, (type(None), bool, float)))


def _scalar(value: Any) -> Any:
    """An exception's argument if it is a plain scalar, else its repr()."""
    kind = type(value)
    if id(kind) in _SCALARS or (kind is int and -(1 << 63) <= value < 1 << 63):
        return value
    if kind is str:
        return _shortened(value)
    if kind is bytes and len(value) <= constructors.TEXT_LIMIT:
        return value
    try:
        return _shortened(str.__str__(_REPR.repr(value)))
    except Exception:
        return f"<repr() of {describe(value)} raised>"


_REPR = reprlib.Repr()
"""Its text is bounded for any value, because an exception may hold anything."""
_REPR.maxlevel = 8
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 4096
_REPR.maxdict = _REPR.maxlist = _REPR.maxtuple = _REPR.maxset = _REPR.maxfrozenset = 64


def _cause(error: BaseException) -> BaseException | None:
    """An exception's cause; None: the exception is part of a cycle of causes."""
    first: BaseException | None = _EXCEPTION_CAUSE(error)
    cause = first
    seen = set()
    while cause is not None and id(cause) not in seen:
        if cause is error:
            return None
        seen.add(id(cause))
        if len(seen) > MAX_CAUSES:
            raise Unclonable(error, f"an exception with more than {MAX_CAUSES} causes")
        cause = _EXCEPTION_CAUSE(cause)
    return first


def _trace(error: BaseException, own: dict[str, Any] | None) -> str | None:
    """An exception's traceback as text. An exception that arrived in a message may have its sender's traceback."""
    traceback = _EXCEPTION_TRACEBACK(error)
    if traceback is not None:
        from traceback import format_tb

        return _shortened("".join(format_tb(traceback)))
    text = dict.get(own, "remote_traceback") if own else None
    return _shortened(text) if type(text) is str else None


_BUILTIN_EXCEPTIONS = set(map(id, constructors.EXCEPTIONS.values()))
_EXCEPTION_ARGS = BaseException.__dict__["args"].__get__
_EXCEPTION_DICT = BaseException.__dict__["__dict__"].__get__
_EXCEPTION_CAUSE = BaseException.__dict__["__cause__"].__get__
_EXCEPTION_TRACEBACK = BaseException.__dict__["__traceback__"].__get__


def _range(obj: range, _: Any) -> tuple[Any, ...]:
    parts = obj.start, obj.stop, obj.step
    if max(part.bit_length() for part in parts) > constructors.RANGE_BITS:
        raise Unclonable(obj, f"a range of numbers of more than {constructors.RANGE_BITS} bits")
    return constructors.as_range, parts


def _row(obj: constructors.Row, _: Any) -> str:
    return obj.name


_NAMESPACE_DICT = types.SimpleNamespace.__dict__["__dict__"].__get__

BASES: dict[type, Reducer] = {
    int: _as_is(int.__pos__),
    float: _as_is(float.__pos__),
    complex: lambda obj, _: (constructors.as_complex, (complex.real.__get__(obj), complex.imag.__get__(obj))),
    str: _as_is(str.__str__),
    bytes: _as_is(lambda obj: bytes.__getitem__(obj, _WHOLE)),
    bytearray: _as_is(lambda obj: bytearray.__getitem__(obj, _WHOLE)),
    list: _list,
    tuple: _as_is(lambda obj: tuple.__getitem__(obj, _WHOLE)),
    dict: _dict,
    set: _as_is(set),
    frozenset: _as_is(frozenset),
    memoryview: _memoryview,
    range: _range,
    re.Pattern: _pattern,
    BaseException: _error,
    types.SimpleNamespace: lambda obj, message: _dict(_NAMESPACE_DICT(obj), message),
}
"""Reducers of types, and of all their subclasses that have no reducer of their own."""

EXACT: dict[type, Reducer] = {constructors.Row: _row}
"""Reducers of types that have no subclasses, or whose subclasses are plain objects."""


LATER: dict[str, Callable[[], None]] = {}
"""Functions that add a module's types to BASES and EXACT, by module. stdlib_reducers.py fills it. Each function runs
once somebody else has imported its module."""

TABLE: dict[int, Reducer] = {}
"""Reducers of all types that have come up, by the types' ids. A lookup by the type itself may run its metaclass."""

_kept: list[type] = []
"""The types of TABLE. They are kept alive so that no other type gets their ids."""


def forget(cls: type, subclasses: bool) -> None:
    """Remove `cls` from TABLE, so that its reducer is chosen again when `cls` comes up next. So are its subclasses'."""
    if subclasses:
        TABLE.clear()
    TABLE.pop(id(cls), None)


_filling = threading.RLock()


def reducer_of(obj: object) -> Reducer:
    """The reducer for an object. Unclonable: there is none."""
    cls = type(obj)
    found = TABLE.get(id(cls))
    if found is None:
        with _filling:
            for module in [name for name in LATER if name in sys.modules]:
                LATER.pop(module)()
            known = _by_id({**BASES, **EXACT}).get(id(cls))
            found = known or _adapted(cls) or _inherited(cls) or _structural(cls)
            if found is None:
                raise Unclonable(obj, describe(obj))
            if known is None and _hash_of(cls) is not None:
                found = _as_key(found)
            if len(_kept) >= KNOWN_CLASSES:
                TABLE.clear()
                _kept.clear()
            _kept.append(cls)
            TABLE[id(cls)] = found
    return found


def _hash_of(cls: type) -> Any:
    """The class's `__hash__`; None: its instances are not hashable. This runs no metaclass."""
    namespaces = map(_namespace_of, _mro_of(cls))
    return next((namespace["__hash__"] for namespace in namespaces if "__hash__" in namespace), None)


def _as_key(reduce: Reducer) -> Reducer:
    """The same reducer, for a class whose instances may be keys. It notes in the message that a key's clone may not be
    hashable, or may equal another key's clone."""

    def noting(obj: Any, message: Any) -> Any:
        message.may_be_key = True
        return reduce(obj, message)

    return noting


def _adapted(cls: type) -> Reducer | None:
    """What refuses a class that an adapter would let cross, and says which; None: there is none, or it is enabled."""
    known = _by_id({**BASES, **EXACT})
    for base in _mro_of(cls):
        if id(base) in known:
            return None
        module = _type_module(base)
        adapter = type(module) is str and constructors.adapter_of(f"{module.partition('.')[0]}.{_type_name(base)}")
        if adapter:
            return _refused_with(adapter)
    return None


def _refused_with(way_out: str) -> Reducer:
    def refuse(obj: Any, _: Any) -> Any:
        raise Unclonable(obj, f"{describe(obj)}: {way_out}")

    return refuse


def _inherited(cls: type) -> Reducer | None:
    """The reducer of the first base that has one. It reads the instance's value from that base.

    This works for a subclass that class statements made. A subclass that C code made may keep its value elsewhere:
    pandas' NaT is a datetime of the year 1. So subclasses made in C are refused, except named tuples, which compare as
    tuples. An exception may be of any class, because its text arrives.
    """
    known = _by_id(BASES)
    line = _mro_of(cls)
    place = next((i for i, base in enumerate(line) if id(base) in known), None)
    if place is None:
        return None
    base = line[place]
    if base is not BaseException and not all(_is_by_statement(each) or _is_named_tuple(each) for each in line[:place]):
        return _refused(base)
    if base is types.SimpleNamespace:  # its value is its attributes, so slots belong to it
        slots = [slot for each in reversed(line[:place]) for slot in (_own_attributes(each) or ([], []))[0]]
        if slots:
            return _slotted(slots, _NAMESPACE_DICT)
    # A member of an Enum arrives as its value, even if the member is an int or a str, too.
    found: Reducer = next((known[id(each)] for each in line if id(each) in _FIRST), known[id(base)])
    return found


_FIRST: set[int] = set()
"""Ids of bases whose reducer comes before the reducers of a class's other bases. stdlib_reducers.py adds to it."""


def first(cls: type) -> None:
    """Let the reducer of `cls`, one of BASES, come before those of other bases."""
    _FIRST.add(id(cls))


def _refused(base: type) -> Reducer:
    def refuse(obj: Any, _: Any) -> Any:
        what = f"whose class is a subclass of {name_of(base)} made in C, and may keep its value elsewhere"
        raise Unclonable(obj, f"{describe(obj)}, {what}: register it with lensipc.clone.register, or convert it first")

    return refuse


def _is_named_tuple(cls: type) -> bool:
    """Whether C code made the class from a list of fields, as it made os.stat_result."""
    return _base_of(cls) is tuple and type(_namespace_of(cls).get("n_sequence_fields")) is int


def _is_by_statement(cls: type) -> bool:
    """Whether a class statement made the class. Then its instances add only attributes to its base."""
    return _own_attributes(cls) is not None


def _by_id(table: dict[type, Any]) -> dict[int, Any]:
    return {id(cls): value for cls, value in table.items()}


def _structural(cls: type) -> Reducer | None:
    """A reducer to a dict of an instance's own attributes, if class statements made `cls` and all its bases.

    A `__dict__` proves nothing: open files, functions and modules have one too. So every class below `object` must be a
    heap type whose instances hold only a dict, weak references and slots, and nothing else that C code put there.
    """
    if cls is object:
        return None
    dicts: list[Callable[[Any], Any]] = []
    slots: list[tuple[str, Callable[[Any], Any]]] = []
    mro = _mro_of(cls)
    base: Any = cls
    while base is not None:  # a metaclass may leave out bases
        if not any(base is each for each in mro):
            return None
        base = _base_of(base)
    for base in reversed(mro[:-1]):
        own = _own_attributes(base)
        if own is None:
            return None
        slots += own[0]
        dicts += own[1]
    if _dict_offset_of(cls) and not dicts:  # something else goes by the name of `__dict__`
        return None
    if slots:
        return _slotted(slots, dicts[0] if dicts else None)
    return _plain(dicts[0]) if dicts else _empty


_OF_C = frozenset(
    map(
        id,
        (
            types.MemberDescriptorType,
            types.GetSetDescriptorType,
            types.MethodDescriptorType,
            types.ClassMethodDescriptorType,
            types.WrapperDescriptorType,
            types.BuiltinFunctionType,
        ),
    )
)
"""Ids of the types of attributes that C code puts into a class. Any class may have some of them: those of its slots,
its `__dict__` and its `__weakref__`."""


def _own_attributes(
    cls: type,
) -> tuple[list[tuple[str, Callable[[Any], Any]]], list[Callable[[Any], Any]]] | None:
    """The slots that a class adds to its base, in their order, and the getter of a `__dict__`; None: C code made it."""
    slots: list[tuple[str, Callable[[Any], Any]]] = []
    dicts: list[Callable[[Any], Any]] = []
    words = 0  # of an instance, for its dict and its weak references
    namespace = _namespace_of(cls)
    for name, value in namespace.items():
        kind = type(value)
        if id(kind) not in _OF_C:
            continue
        of = value.__self__ if kind is types.BuiltinFunctionType else value.__objclass__
        # From Python 3.15 on, all classes have the same descriptors of these two, and they are `object`'s.
        shared = of is object and (name == "__weakref__" or (name == "__dict__" and _dict_offset_of(cls)))
        if of is not cls and not shared:
            continue
        if kind is types.MemberDescriptorType:
            slots.append((name, value.__get__))
        elif kind is types.GetSetDescriptorType and name == "__dict__":
            dicts.append(value.__get__)
            words += 1
        elif kind is types.GetSetDescriptorType and name == "__weakref__":
            words += 1
        else:
            return None
    if not _flags_of(cls) & HEAP_TYPE or _size_of(cls) - _size_of(_base_of(cls)) > 8 * (len(slots) + words):
        return None
    declared = namespace.get("__slots__")
    if type(declared) is tuple or type(declared) is list or type(declared) is dict:
        order = {name: i for i, name in enumerate(declared) if type(name) is str}
        slots.sort(key=lambda item: order.get(item[0], len(order)))
    return slots, dicts


def _empty(_: Any, __: Any) -> tuple[Any, ...]:
    return constructors.as_dict, ()


def _plain(dict_of: Callable[[Any], Any]) -> Reducer:
    as_dict = constructors.as_dict

    def reduce(obj: Any, _: Any) -> tuple[Any, ...]:
        return as_dict, (), None, None, iter(items_of(dict_of(obj)))

    return reduce


def _slotted(slots: list[tuple[str, Callable[[Any], Any]]], dict_of: Callable[[Any], Any] | None) -> Reducer:
    def reduce(obj: Any, _: Any) -> tuple[Any, ...]:
        attributes = {}
        for name, get in slots:
            try:
                attributes[name] = get(obj)
            except AttributeError:
                continue
        if dict_of is not None:
            dict.update(attributes, dict_of(obj))
        return constructors.as_dict, (), None, None, iter(attributes.items())

    return reduce


_WORDS: dict[type, str] = {
    types.FunctionType: "a function",
    types.BuiltinFunctionType: "a built-in function",
    types.MethodType: "a method",
    types.ModuleType: "a module",
    types.GeneratorType: "a generator",
    types.CoroutineType: "a coroutine",
    types.AsyncGeneratorType: "an asynchronous generator",
    types.CodeType: "a code object",
    types.FrameType: "a frame",
    types.TracebackType: "a traceback",
    types.CellType: "a cell",
    types.MappingProxyType: "a mapping proxy",
    property: "a property",
    object: "a bare object",
    type(...): "Ellipsis",
    type(NotImplemented): "NotImplemented",
}


def describe(obj: object) -> str:
    """A description of an object for an error: `a function`, `the class Foo`, `a _io.TextIOWrapper`."""
    cls = type(obj)
    words = _by_id(_WORDS).get(id(cls))
    if words is not None:
        return str(words)
    if issubclass(cls, type):
        return f"the class {name_of(obj)}"
    name = name_of(cls)
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


_type_name = type.__dict__["__qualname__"].__get__
_type_module = type.__dict__["__module__"].__get__


def name_of(cls: Any) -> str:
    """A class's name, with its module unless that is `builtins`."""
    module = _type_module(cls)
    name: str = _type_name(cls)
    return name if module == "builtins" or type(module) is not str else f"{module}.{name}"
