"""Read torch checkpoints (.bin, .pt) without unpickling: shapes, NaN, suspicious globals."""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read.pickle_walk import (
    Global,
    Made,
    PickleError,
    Stored,
    dangerous_names,
    walk_pickle,
)
from ftdoctor.read.reading import Reading, Tensor
from ftdoctor.read.safetensors import NAMES_SHOWN, WHOLE_LIMIT, adapter_facts, value_facts
from ftdoctor.read.source import Source
from ftdoctor.read.tensor_values import affordable_stats

# Keys under which Lightning, hand-written loops and Megatron keep the weights.
CONTAINERS = ("state_dict", "model_state_dict", "model", "module", "net", "weights")
PICKLE_LIMIT = 64 << 20  # bytes of data.pkl; names and shapes of a 70B model take 0.2 MB
MEMBER_LIMIT = 200_000  # members of one archive
NESTING = 4  # state dicts inside dicts of a checkpoint
WEIGHT_NAME = re.compile(r"(adapter_model|pytorch_model|consolidated|model)\b.*\.(bin|pt|pth)$")

# https://github.com/pytorch/pytorch torch/storage.py: storage classes by element type
STORAGES: Mapping[str, tuple[str, int]] = {
    "FloatStorage": ("F32", 4), "HalfStorage": ("F16", 2), "BFloat16Storage": ("BF16", 2),
    "DoubleStorage": ("F64", 8), "LongStorage": ("I64", 8), "IntStorage": ("I32", 4),
    "ShortStorage": ("I16", 2), "CharStorage": ("I8", 1), "ByteStorage": ("U8", 1),
    "BoolStorage": ("BOOL", 1), "UntypedStorage": ("U8", 1),
}  # fmt: skip


def read_torch_file(source: Source) -> Reading:
    """Read names, shapes and dtypes of a torch file, zip or legacy; values of zips are tested."""
    head = source.head(64)
    where = Where(source.path)
    if head.startswith(b"version https://git-lfs"):
        fact = Fact("weights.lfs_pointer", source.path, where)
        return Reading(
            ArtifactState.DAMAGED, "a Git LFS pointer; run `git lfs pull`", facts=(fact,)
        )
    if not head.startswith((b"PK\x03\x04", b"\x80")):
        what = "only zero bytes" if not any(head) else "no torch file"
        if head.lstrip()[:1] == b"<":
            what = "a web page, not weights: the download was refused or redirected"
        return _damaged(source, f"the content is {what}", "bad-magic")
    try:
        if head.startswith(b"PK"):
            tensors, names = _read_zip(source)
        else:
            tensors, names = _read_legacy(source)
    except zipfile.BadZipFile:
        problem = "the zip has no directory at its end: cut short; copy or save the file again"
        return _damaged(source, problem, "truncated")
    except (
        PickleError, OSError, EOFError, struct.error, KeyError, zlib.error, NotImplementedError,
        RuntimeError,
    ) as error:  # fmt: skip
        reading = _damaged(source, f"{error}; copy or save the file again", "bad-pickle")
        named = error.globals if isinstance(error, PickleError) else ()
        return replace(reading, facts=(*_security(source, named), *reading.facts))
    facts = list(_facts(source, tensors, names))
    return Reading(taken=f"{len(tensors):,} tensors", facts=tuple(facts), tensors=tuple(tensors))


def _damaged(source: Source, problem: str, form: str) -> Reading:
    facts = (
        Fact("weights.damage", problem, Where(source.path)),
        Fact("weights.damage_form", form, Where(source.path)),
    )
    return Reading(ArtifactState.DAMAGED, problem, facts=facts)


def _security(source: Source, names: Iterable[Global]) -> Iterator[Fact]:
    bad = dangerous_names(names)
    if bad:
        yield Fact("security.pickle_globals", bad[:NAMES_SHOWN], Where(source.path))


def _facts(source: Source, tensors: list[Tensor], names: list[Global]) -> Iterator[Fact]:
    where = Where(source.path)
    yield from _security(source, names)
    if not tensors:
        if WEIGHT_NAME.match(source.name):
            yield Fact("weights.empty_file", source.size, where)
        return
    yield Fact("weights.tensor_count", len(tensors), where)
    yield Fact("weights.bytes", sum(t.nbytes for t in tensors), where)
    yield Fact("weights.dtypes", dict(Counter(t.dtype for t in tensors).most_common()), where)
    empty = [t.name for t in tensors if 0 in t.shape]
    if empty:
        place = Where(source.path, tensor=empty[0])
        yield Fact("weights.zero_size_tensors", len(empty), place)
    placed = [t for t in tensors if t.offset > 0]
    stats = affordable_stats(source, placed, WHOLE_LIMIT) if placed else {}
    yield from value_facts(source.path, stats)
    yield from adapter_facts(source.path, tensors, stats)


def _read_zip(source: Source) -> tuple[list[Tensor], list[Global]]:
    """Return tensors with the file offset of their bytes (0 unless stored plainly), and globals."""
    with source.open() as stream, zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        if len(members) > MEMBER_LIMIT:
            raise PickleError(f"{len(members):,} members in the zip")
        pickled = next((m for m in members if m.filename.endswith("/data.pkl")), None)
        if pickled is None:
            raise PickleError("a zip without data.pkl: not a torch file")
        if pickled.file_size > PICKLE_LIMIT:
            raise PickleError(f"data.pkl of {pickled.file_size:,} bytes")
        with archive.open(pickled) as member:
            root, names = walk_pickle(io.BytesIO(member.read(PICKLE_LIMIT)))
        folder = pickled.filename.rpartition("/")[0]
        stored = {m.filename: m for m in members if m.compress_type == zipfile.ZIP_STORED}
        tensors = []
        for name, made in _tensors(weights_of(root)):
            info = stored.get(f"{folder}/data/{made.key}")
            base = _data_offset(stream, info) if info is not None and made.contiguous else 0
            offset = base + made.start * made.width if base else 0
            tensors.append(Tensor(name, made.dtype, made.shape, offset, made.nbytes))
    return tensors, names


def _data_offset(stream: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Return where a stored member's bytes begin: after its local header's name and extra field."""
    stream.seek(info.header_offset)
    header = stream.read(30)
    name, extra = struct.unpack_from("<HH", header, 26)
    return info.header_offset + 30 + int(name) + int(extra)


def _read_legacy(source: Source) -> tuple[list[Tensor], list[Global]]:
    """Read a file of torch before 1.6: a magic number, protocol, system, then the object.

    Each is a pickle of its own. A bare pickle, as other libraries write, has the object first.
    """
    names: list[Global] = []
    with source.open() as stream:
        for _ in range(4):
            root, found = walk_pickle(stream)
            names += found
            tensors = [
                Tensor(name, made.dtype, made.shape, 0, made.nbytes)
                for name, made in _tensors(weights_of(root))
            ]
            plain = isinstance(root, int) or (isinstance(root, dict) and "protocol_version" in root)
            if tensors or not plain:
                break
    return tensors, names


@dataclass(frozen=True, slots=True)
class _Rebuilt:
    """The arguments of torch._utils._rebuild_tensor_v2 that matter."""

    dtype: str
    width: int
    shape: tuple[int, ...]
    key: str
    start: int
    contiguous: bool

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.width


def weights_of(root: Any) -> Any:
    """Return the model's part of a checkpoint that also holds optimizer, callbacks and counters."""
    for name in CONTAINERS:
        inner = _items(_items(root).get(name))
        if any(_rebuilt(value) for value in inner.values()):
            return {name: inner}
    return root


def _items(value: Any) -> dict[Any, Any]:
    """Return the items of a mapping, also of one made by a call (OrderedDict); else nothing."""
    items = value.items if isinstance(value, Made) else value
    return items if isinstance(items, dict) else {}


def _tensors(root: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, _Rebuilt]]:
    """Yield the tensors of nested mappings by dotted name."""
    if depth > NESTING:
        return
    for key, value in _items(root).items():
        name = f"{prefix}{key}"
        rebuilt = _rebuilt(value)
        if rebuilt is not None:
            yield name, rebuilt
        else:
            yield from _tensors(value, f"{name}.", depth + 1)


def _rebuilt(value: Any, depth: int = 0) -> _Rebuilt | None:
    if not isinstance(value, Made) or not isinstance(value.call, Global) or depth > NESTING:
        return None
    arguments = value.arguments
    if not isinstance(arguments, tuple) or not arguments:
        return None
    if value.call.name.startswith("_rebuild_parameter"):
        return _rebuilt(arguments[0], depth + 1)
    if value.call.name == "_rebuild_from_type_v2" and len(arguments) > 2:
        return _rebuilt(Made(arguments[0], arguments[2]), depth + 1)
    if not value.call.name.startswith("_rebuild_tensor") or len(arguments) < 4:
        return None
    storage, start, shape, stride = arguments[:4]
    if not isinstance(storage, Stored) or len(storage.parts) < 3:
        return None
    kind = storage.parts[1]
    dtype, width = STORAGES.get(kind.name if isinstance(kind, Global) else "", ("unknown", 0))
    sizes, steps = _integers(shape), _integers(stride)
    if sizes is None or steps is None or not isinstance(start, int):
        return None
    expected = tuple(math.prod(sizes[i + 1 :]) for i in range(len(sizes)))
    return _Rebuilt(dtype, width, sizes, str(storage.parts[2]), start, steps == expected)


def _integers(value: Any) -> tuple[int, ...] | None:
    if isinstance(value, tuple) and all(isinstance(v, int) for v in value):
        return value
    return None
