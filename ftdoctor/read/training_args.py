"""training_args.bin of the HF Trainer: its fields, read off the opcodes without unpickling.

A pickle is a program. Here only its data moves are followed: a class is kept as its name and a
call as an inert record, so nothing named in the file is imported or run.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read.reading import Reading
from ftdoctor.read.source import Source

FILE_LIMIT = 16 << 20  # bytes; real files have 3 to 10 kB
OPCODE_LIMIT = 200_000  # real files have some 1,500
LEGACY_PICKLES = 5  # torch before 1.6: magic number, protocol, system, then the object

# Modules that no TrainingArguments needs and through which a pickle can act.
DANGEROUS_MODULES = frozenset({
    "os", "posix", "nt", "subprocess", "sys", "importlib", "runpy", "socket", "shutil", "ctypes",
    "pty", "webbrowser", "requests", "urllib", "http", "pickle", "_pickle", "marshal", "types",
    "operator", "functools", "code", "commands", "multiprocessing", "threading", "signal",
    "asyncio", "pip", "tempfile", "platform", "bdb", "pdb", "timeit", "cProfile",
})  # fmt: skip
# `getattr` because Python 3.11 and later pickle a nested enum as getattr(Class, "MEMBER"); with
# the modules above refused it reaches nothing.
HARMLESS_BUILTINS = frozenset({
    "getattr", "set", "frozenset", "list", "dict", "tuple", "int", "float", "str", "bool",
    "bytes", "complex", "bytearray", "object", "slice", "range",
})  # fmt: skip
SECRET_FIELDS = frozenset({"hub_token", "push_to_hub_token"})


class SuspiciousPickle(Exception):  # noqa: N818 - a finding, not an error
    """The pickle names something through which it could act."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


@dataclass(frozen=True, slots=True)
class Global:
    """A class or function, by name only."""

    name: str


@dataclass(slots=True)
class Inert:
    """A call that was not made: the name, the arguments, and the state put on the result."""

    name: str
    arguments: tuple[Any, ...] = ()
    state: dict[Any, Any] = field(default_factory=dict)


class _Mark:
    pass


def read_training_args(source: Source) -> Reading:
    """Read the fields of TrainingArguments as settings; the class as fact `args.class`.

    A pickle that names dangerous globals is followed no further: fact `security.pickle_globals`.
    """
    try:
        root = _root(source)
    except SuspiciousPickle as found:
        reason = f"the pickle calls {found.name}, which training arguments never do: do not load it"
        fact = Fact("security.pickle_globals", [found.name], Where(source.path))
        return Reading(ArtifactState.DAMAGED, reason, facts=(fact,))
    except (
        ValueError, IndexError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error,
        EOFError, OSError, NotImplementedError, RuntimeError,
    ) as error:  # fmt: skip
        return Reading(ArtifactState.DAMAGED, f"no readable pickle of torch.save: {error}")
    if root is None:
        return Reading(ArtifactState.DAMAGED, "the pickle holds no TrainingArguments object")
    fields = {str(name): plain(value) for name, value in root.state.items()}
    settings = tuple(_settings(fields, source.path))
    facts = (
        Fact("args.class", root.name, Where(source.path)),
        *_environment(fields, source.path),
    )
    taken = f"{len(settings)} fields of {root.name.rpartition('.')[2]}"
    return Reading(taken=taken, settings=settings, facts=facts)


def _settings(fields: Mapping[str, Any], path: str) -> Iterator[Fact]:
    for name, value in fields.items():
        if name.startswith("_") or name in SECRET_FIELDS or name in ("distributed_state", "device"):
            continue
        yield Fact(name, value, Where(path, pointer=f"/{name}"))


def _environment(fields: Mapping[str, Any], path: str) -> Iterator[Fact]:
    """Yield what the arguments cached about the machine."""
    gpus = fields.get("_n_gpu")
    if isinstance(gpus, int) and gpus > 0:
        yield Fact("environment.gpu_count", gpus, Where(path, pointer="/_n_gpu"))
    state = fields.get("distributed_state")
    state = state if isinstance(state, dict) else {}
    device = state.get("device") or fields.get("__cached__setup_devices")
    if isinstance(device, str):
        kind = device.partition(":")[0]
        yield Fact("environment.device", kind, Where(path, pointer="/distributed_state/device"))
    processes = state.get("num_processes")
    if isinstance(processes, int) and processes > 0:
        where = Where(path, pointer="/distributed_state/num_processes")
        yield Fact("environment.world_size", processes, where)


# --- finding the pickle -----------------------------------------------------------------------


def _root(source: Source) -> Inert | None:
    content = source.data(FILE_LIMIT)
    if content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            member = next((i for i in archive.infolist() if i.filename.endswith("data.pkl")), None)
            if member is None:
                raise ValueError("the zip has no data.pkl")
            if member.file_size > FILE_LIMIT:
                raise ValueError(f"data.pkl is larger than {FILE_LIMIT:,} bytes")
            content = archive.read(member)
    stream = io.BytesIO(content)
    for _ in range(LEGACY_PICKLES):
        found = follow(stream)
        if isinstance(found, Inert) and found.state:
            return found
        if stream.tell() >= len(content):
            break
    return None


# --- the stack machine ------------------------------------------------------------------------


def follow(stream: BinaryIO) -> Any:
    """Return what one pickle describes, with inert records for classes and calls.

    ValueError if it is cut or uses an opcode that torch.save never writes; SuspiciousPickle if it
    names a dangerous global.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if count > OPCODE_LIMIT:
            raise ValueError(f"more than {OPCODE_LIMIT:,} opcodes")
        if opcode.name == "STOP":
            return stack.pop()
        _step(opcode.name, argument, stack, memo)
    raise ValueError("the pickle is cut")


def _step(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    if name in _IGNORED:
        return
    if name in _CONSTANTS:
        stack.append(_CONSTANTS[name])
    elif name in _EMPTY:
        stack.append(_EMPTY[name]())
    elif name in _LITERALS:
        stack.append(argument)
    elif name == "MARK":
        stack.append(_Mark)
    elif name in ("GLOBAL", "INST"):
        found = _global(*argument.split(" ", 1))
        stack.append(found if name == "GLOBAL" else Inert(found.name, tuple(_to_mark(stack))))
    elif name == "STACK_GLOBAL":
        attribute, module = stack.pop(), stack.pop()
        stack.append(_global(str(module), str(attribute)))
    elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
        memo[int(argument)] = stack[-1]
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name in ("BINGET", "LONG_BINGET", "GET"):
        stack.append(memo[int(argument)])
    elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        size = int(name[-1])
        stack[-size:] = [tuple(stack[-size:])]
    elif name in _FROM_MARK:
        stack.append(_FROM_MARK[name](_to_mark(stack)))
    elif name in ("REDUCE", "NEWOBJ"):
        arguments, target = stack.pop(), stack.pop()
        stack.append(_call(target, arguments))
    elif name == "NEWOBJ_EX":
        _, arguments, target = stack.pop(), stack.pop(), stack.pop()
        stack.append(_call(target, arguments))
    elif name in ("BINPERSID", "PERSID"):
        stack.append(Inert("persistent", (stack.pop() if name == "BINPERSID" else argument,)))
    elif name in ("SETITEM", "SETITEMS"):
        items = _to_mark(stack) if name == "SETITEMS" else [stack.pop(), stack.pop()][::-1]
        _put_items(stack[-1], items)
    elif name in ("APPEND", "APPENDS", "ADDITEMS"):
        values = [stack.pop()] if name == "APPEND" else _to_mark(stack)
        _put_values(stack[-1], values)
    elif name == "BUILD":
        state = stack.pop()
        _build(stack[-1], state)
    elif name == "POP":
        stack.pop()
    elif name == "POP_MARK":
        _to_mark(stack)
    elif name == "DUP":
        stack.append(stack[-1])
    else:
        raise ValueError(f"opcode {name} has no place in training arguments")


_IGNORED = frozenset({"PROTO", "FRAME"})
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Any] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": list,
}
_LITERALS = frozenset({
    "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BINSTRING", "SHORT_BINSTRING",
    "STRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
})  # fmt: skip


def _to_mark(stack: list[Any]) -> list[Any]:
    values: list[Any] = []
    while True:
        value = stack.pop()
        if value is _Mark:
            return values[::-1]
        values.append(value)


def _global(module: str, attribute: str) -> Global:
    top = module.partition(".")[0]
    builtin = top in ("builtins", "__builtin__") and attribute not in HARMLESS_BUILTINS
    if top in DANGEROUS_MODULES or builtin:
        raise SuspiciousPickle(f"{module}.{attribute}")
    return Global(f"{module}.{attribute}")


def _call(target: Any, arguments: Any) -> Inert:
    given = arguments if isinstance(arguments, tuple) else (arguments,)
    if isinstance(target, Global):
        if target.name in ("copyreg._reconstructor", "copy_reg._reconstructor") and given:
            return Inert(getattr(given[0], "name", "object"))
        return Inert(target.name, given)
    return Inert("object", given)


def _pairs(items: list[Any]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    _put_items(found, items)
    return found


def _put_items(target: Any, items: list[Any]) -> None:
    into = target.state if isinstance(target, Inert) else target
    if isinstance(into, dict):
        for key, value in zip(items[::2], items[1::2], strict=False):
            if isinstance(key, str | int | float | bool | None):
                into[key] = value


def _put_values(target: Any, values: list[Any]) -> None:
    if isinstance(target, list):
        target.extend(values)


def _build(target: Any, state: Any) -> None:
    if not isinstance(target, Inert):
        return
    # A slots class gives (dict state, slots state).
    for part in state if isinstance(state, tuple) else (state,):
        if isinstance(part, dict):
            target.state.update(part)


_FROM_MARK: dict[str, Any] = {
    "TUPLE": tuple,
    "LIST": list,
    "FROZENSET": list,
    "DICT": _pairs,
    "OBJ": lambda items: Inert(getattr(items[0], "name", "object"), tuple(items[1:])),
}


# --- plain values -----------------------------------------------------------------------------


def plain(value: Any, depth: int = 4) -> Any:
    """Return an inert value as plain data: enums as their value, devices and dtypes as text."""
    if isinstance(value, Global):
        return value.name
    if isinstance(value, Inert):
        return _plain_object(value, depth)
    if depth <= 0:
        return None
    if isinstance(value, list | tuple):
        return [plain(inner, depth - 1) for inner in value]
    if isinstance(value, dict):
        return {str(key): plain(inner, depth - 1) for key, inner in value.items()}
    if isinstance(value, bytes | bytearray):
        return f"{len(value)} bytes"
    return value


def _plain_object(value: Inert, depth: int) -> Any:
    if value.name == "torch.device":
        return ":".join(str(part) for part in value.arguments)
    if value.state and depth > 0:
        return {str(key): plain(inner, depth - 1) for key, inner in value.state.items()}
    if value.name.endswith(".getattr") and len(value.arguments) == 2:
        return value.arguments[1]
    if len(value.arguments) == 1:
        return plain(value.arguments[0], depth - 1)
    return value.name
