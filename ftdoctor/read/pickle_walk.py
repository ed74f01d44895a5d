"""A pickle followed by its opcodes: what would come out, with nothing imported, made or called.

A pickle is a program. Here only its data moves are followed: a class is kept as its name and a call
as an inert record. picklescan and fickling were tried: the one gives no values, the other rates
ordinary training arguments as unsafe.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

OPCODE_LIMIT = 5_000_000  # a 70B model's state dict takes some 50,000

# Modules by which a pickle can act; no tensor file and no TrainingArguments needs them.
DANGEROUS_MODULES = frozenset({
    "os", "posix", "nt", "subprocess", "sys", "importlib", "runpy", "socket", "shutil", "ctypes",
    "pty", "webbrowser", "requests", "urllib", "http", "pickle", "_pickle", "marshal", "operator",
    "code", "codeop", "commands", "multiprocessing", "threading", "signal", "asyncio", "pip",
    "tempfile", "platform", "bdb", "pdb", "timeit", "cProfile",
})  # fmt: skip
# `getattr` because Python 3.11 and later pickle a nested enum as getattr(Class, "MEMBER"); with
# the modules above refused it reaches nothing.
HARMLESS_BUILTINS = frozenset({
    "getattr", "set", "frozenset", "list", "dict", "tuple", "int", "float", "str", "bool",
    "bytes", "complex", "bytearray", "object", "slice", "range", "xrange", "long", "unicode",
    "type", "super", "property", "staticmethod", "classmethod", "print", "len", "min", "max",
})  # fmt: skip


class PickleError(ValueError):
    """The opcodes do not make sense, or are too many; `globals` are those named until then."""

    def __init__(self, problem: str, found: Iterable[Global] = ()) -> None:
        super().__init__(problem)
        self.globals = tuple(found)


@dataclass(frozen=True, slots=True)
class Global:
    """A class or function that unpickling would import, by name only."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"

    @property
    def dangerous(self) -> bool:
        """Say whether calling it could run a program."""
        if self.module in ("builtins", "__builtin__"):
            return self.name not in HARMLESS_BUILTINS
        return self.module.partition(".")[0] in DANGEROUS_MODULES


@dataclass(slots=True)
class Made:
    """An object that unpickling would make: what would be called, with what, and what is put in.

    `state` are its attributes, `items` its entries as a mapping, `elements` those as a sequence.
    """

    call: Any
    arguments: Any = ()
    state: dict[Any, Any] = field(default_factory=dict)
    items: dict[Any, Any] = field(default_factory=dict)
    elements: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Stored:
    """A persistent id: the torch storage behind a tensor."""

    parts: tuple[Any, ...]


def walk_pickle(data: bytes | BinaryIO, limit: int = OPCODE_LIMIT) -> tuple[Any, list[Global]]:
    """Follow one pickle's opcodes with inert records in place of objects; a stream stands after it.

    Returns what would come out (plain values, `Global`, `Made`, `Stored`) and the globals in order
    of appearance. Raises PickleError on damage and after `limit` opcodes.
    """
    machine = _Machine()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > limit:
                raise PickleError(f"more than {limit:,} pickle opcodes", machine.globals)
            machine.step(opcode.name, argument)
    except PickleError:
        raise
    except (ValueError, IndexError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise PickleError(f"the pickle is damaged: {error}", machine.globals) from error
    if not machine.stack:
        raise PickleError("the pickle is empty", machine.globals)
    return machine.stack[-1], machine.globals


def dangerous_names(found: Iterable[Global]) -> list[str]:
    """Return the dangerous ones' full names, sorted, each once."""
    return sorted({str(each) for each in found if each.dangerous})


_MARK = object()


class _Machine:
    """The stack and memo of an unpickler that makes nothing."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.globals: list[Global] = []

    def step(self, name: str, argument: Any) -> None:
        """Do one opcode."""
        stack = self.stack
        if name in _IGNORED:
            return
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _LITERALS:
            stack.append(argument)
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "GLOBAL":
            self.take_global(*str(argument).split(" ", 1))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            self.take_global(str(module), str(attribute))
        elif name == "INST":
            arguments = tuple(self.since_mark())
            self.take_global(*str(argument).split(" ", 1))
            stack.append(Made(stack.pop(), arguments))
        elif name in _TUPLES:
            size = _TUPLES[name]
            stack[-size:] = [tuple(stack[-size:])]
        elif name in _FROM_MARK:
            stack.append(_FROM_MARK[name](self.since_mark()))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, call = stack.pop(), stack.pop()
            stack.append(_made(call, arguments))
        elif name == "NEWOBJ_EX":
            stack[-3:] = [Made(stack[-3], stack[-2])]
        elif name == "BUILD":
            state = stack.pop()
            _build(stack[-1], state)
        elif name == "BINPERSID":
            stack.append(Stored(tuple(stack.pop())))
        elif name == "PERSID":
            stack.append(Stored((argument,)))
        elif name in _PUTS:
            self.memo[len(self.memo) if argument is None else int(argument)] = stack[-1]
        elif name in _GETS:
            stack.append(self.memo[int(argument)])
        elif name in _FILLS:
            self.fill(name)
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            self.since_mark()
        elif name == "DUP":
            stack.append(stack[-1])
        else:  # buffers out of band, extension registry: torch.save writes neither
            raise PickleError(f"opcode {name} has no place in a saved file", self.globals)

    def take_global(self, module: str, name: str) -> None:
        """Push a name, and remember it."""
        found = Global(module, name)
        self.globals.append(found)
        self.stack.append(found)

    def since_mark(self) -> list[Any]:
        """Take what lies above the last mark, and the mark."""
        index = len(self.stack) - 1 - self.stack[::-1].index(_MARK)
        items = self.stack[index + 1 :]
        del self.stack[index:]
        return items

    def fill(self, name: str) -> None:
        """Apply APPEND(S), SETITEM(S) and ADDITEMS to the container below."""
        if name == "APPEND":
            items = [self.stack.pop()]
        elif name == "SETITEM":
            value, key = self.stack.pop(), self.stack.pop()
            items = [key, value]
        else:
            items = self.since_mark()
        target = self.stack[-1]
        if name in ("SETITEM", "SETITEMS"):
            into = target.items if isinstance(target, Made) else target
            into.update(_plain_dict(items))
        else:
            held = target.elements if isinstance(target, Made) else target
            held.extend(items)


def _plain_dict(items: list[Any]) -> dict[Any, Any]:
    # Other keys are named by type only: printing nested tuples of a hostile pickle never ends.
    keys = [k if isinstance(k, str | int | float | None) else f"<{type(k).__name__}>"
            for k in items[::2]]  # fmt: skip
    return dict(zip(keys, items[1::2], strict=True))


def _made(call: Any, arguments: Any) -> Made:
    # Protocols 0 and 1 make objects by copyreg._reconstructor(class, base, state).
    old = isinstance(call, Global) and call.name == "_reconstructor"
    if old and isinstance(arguments, tuple) and arguments:
        return Made(arguments[0])
    return Made(call, arguments)


def _build(target: Any, state: Any) -> None:
    if not isinstance(target, Made):
        return
    # A class with slots gives (attributes, slots).
    for part in state if isinstance(state, tuple) else (state,):
        if isinstance(part, dict):
            target.state.update(part)


_IGNORED = frozenset({"PROTO", "FRAME", "STOP"})
_CONSTANTS: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: Mapping[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": list,
}  # fmt: skip
_LITERALS = frozenset({
    "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BINSTRING", "SHORT_BINSTRING",
    "STRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
})  # fmt: skip
_TUPLES: Mapping[str, int] = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_FROM_MARK: Mapping[str, Callable[[list[Any]], Any]] = {
    "TUPLE": tuple,
    "LIST": list,
    "FROZENSET": list,
    "DICT": _plain_dict,
    "OBJ": lambda items: Made(items[0], tuple(items[1:])),
}
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
_FILLS = frozenset({"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS"})
