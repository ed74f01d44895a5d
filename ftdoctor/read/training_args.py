"""training_args.bin of the HF Trainer: its fields, read off the opcodes without unpickling."""

from __future__ import annotations

import io
import itertools
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read.pickle_walk import (
    Global,
    Made,
    PickleError,
    Stored,
    dangerous_names,
    walk_pickle,
)
from ftdoctor.read.reading import Reading
from ftdoctor.read.source import Source

FILE_LIMIT = 16 << 20  # bytes; real files have 3 to 10 kB
OPCODE_LIMIT = 200_000  # real files have some 1,500
LEGACY_PICKLES = 5  # torch before 1.6: magic number, protocol, system, then the object
DEPTH = 4  # levels of a field's value that are kept
VALUE_LIMIT = 10_000  # values kept of one field
NAMES_SHOWN = 20
SECRET_FIELDS = frozenset({"hub_token", "push_to_hub_token"})


def read_training_args(source: Source) -> Reading:
    """Read the fields of TrainingArguments as settings; the class as fact `args.class`.

    Of a pickle that names dangerous globals nothing is taken: fact `security.pickle_globals`.
    """
    problem = "the pickle holds no TrainingArguments object"
    try:
        root, names = _root(source)
    except PickleError as error:
        root, names, problem = None, list(error.globals), f"no readable pickle: {error}"
    except (
        ValueError, KeyError, zipfile.BadZipFile, zlib.error, EOFError, OSError,
        NotImplementedError, RuntimeError,
    ) as error:  # fmt: skip
        return Reading(ArtifactState.DAMAGED, f"no readable file of torch.save: {error}")
    if bad := dangerous_names(names):
        reason = f"the pickle calls {bad[0]}, which training arguments never do: do not load it"
        fact = Fact("security.pickle_globals", bad[:NAMES_SHOWN], Where(source.path))
        return Reading(ArtifactState.DAMAGED, reason, facts=(fact,))
    if root is None:
        return Reading(ArtifactState.DAMAGED, problem)
    fields = {**root.items, **root.state}
    values = {str(name): plain(value) for name, value in fields.items()}
    settings = tuple(_settings(values, source.path))
    facts = (
        Fact("args.class", str(root.call), Where(source.path)),
        *_environment(values, source.path),
    )
    taken = f"{len(settings)} fields of {str(root.call).rpartition('.')[2]}"
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


# --- the object and its values ----------------------------------------------------------------


def _root(source: Source) -> tuple[Made | None, list[Global]]:
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
    names: list[Global] = []
    for _ in range(LEGACY_PICKLES):
        found, named = walk_pickle(stream, OPCODE_LIMIT)
        names += named
        if isinstance(found, Made) and (found.state or found.items):
            return found, names
        if stream.tell() >= len(content):
            break
    return None, names


def plain(value: Any) -> Any:
    """Return an inert value as plain data: enums as their value, devices and dtypes as text.

    Of a hostile pickle, whose few bytes may name themselves over and over, some values are kept.
    """
    return _plain(value, DEPTH, itertools.count())


def _plain(value: Any, depth: int, count: Iterator[int]) -> Any:
    if isinstance(value, Global):
        return str(value)
    if depth < 0 or next(count) > VALUE_LIMIT:
        return None
    if isinstance(value, Made):
        return _plain_object(value, depth, count)
    if isinstance(value, list | tuple):
        return [_plain(inner, depth - 1, count) for inner in value[:VALUE_LIMIT]]
    if isinstance(value, dict):
        return {str(key): _plain(inner, depth - 1, count) for key, inner in value.items()}
    if isinstance(value, bytes | bytearray):
        return f"{len(value)} bytes"
    return None if isinstance(value, Stored) else value


def _plain_object(value: Made, depth: int, count: Iterator[int]) -> Any:
    arguments = value.arguments if isinstance(value.arguments, tuple) else (value.arguments,)
    name = str(value.call) if isinstance(value.call, Global) else "object"
    if name == "torch.device":
        return ":".join(str(_plain(part, 0, count)) for part in arguments)
    if fields := {**value.items, **value.state}:
        return _plain(fields, depth, count)
    if name.endswith(".getattr") and len(arguments) == 2:
        # A member of an enum of transformers: COSINE, whose value is cosine.
        return str(_plain(arguments[1], 0, count)).lower()
    if len(arguments) == 1:
        return _plain(arguments[0], depth - 1, count)
    return _plain(value.elements, depth, count) if value.elements else name
