"""Read safetensors headers, shard indexes and adapters: shapes, damage, NaN and zero tensors."""

from __future__ import annotations

import json
import math
import re
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read.reading import Reading, Tensor
from ftdoctor.read.source import Source
from ftdoctor.read.tensor_values import Stats, affordable_stats

HEADER_LIMIT = 100_000_000  # bytes, as in safetensors/src/tensor.rs
TENSOR_LIMIT = 500_000  # entries; the largest mixture-of-experts headers seen hold about 100,000
WHOLE_LIMIT = 200 << 20  # bytes; files up to here are tested value by value
NAMES_SHOWN = 20

# Bits per value; https://github.com/huggingface/safetensors safetensors/src/tensor.rs (0.8.0)
BITS: Mapping[str, int] = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8,
    "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip

LORA = re.compile(r"(?P<module>.+?)\.(?:lora_(?P<side>[AB])|lora_embedding_(?P<table>[AB]))\b")
LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block|layer)\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Header:
    """A parsed header: tensors with offsets from the start of the file, and what is wrong.

    `problem` is one sentence ("" = sound), `form` its kind (see `weights.damage_form`);
    `missing_bytes` is how far the file ends before the last tensor; `lost` names the tensors that
    are cut or gone.
    """

    tensors: tuple[Tensor, ...] = ()
    metadata: Mapping[str, str] | None = None
    problem: str = ""
    form: str = ""
    missing_bytes: int = 0
    lost: tuple[str, ...] = ()


def read_safetensors(source: Source) -> Reading:
    """Read the header; test all values up to WHOLE_LIMIT, else those of each tensor's beginning."""
    header = read_header(source)
    facts = list(_header_facts(source, header))
    if header.form == "lfs-pointer":
        return Reading(ArtifactState.SKIPPED, header.problem, facts=tuple(facts))
    if header.tensors:
        stats = affordable_stats(source, header.tensors, WHOLE_LIMIT)
        facts += value_facts(source.path, stats)
        facts += adapter_facts(source.path, header.tensors, stats)
    elif not header.form:
        facts.append(Fact("weights.empty_file", source.size, Where(source.path)))
    return Reading(
        state=ArtifactState.DAMAGED if header.form else ArtifactState.READ,
        reason=header.problem,
        taken=f"{len(header.tensors):,} tensors",
        facts=tuple(facts),
        tensors=header.tensors,
    )


def read_index(source: Source) -> Reading:
    """Read a shard index; whether its shards are there is decided in `checkpoints.survey`."""
    parsed = parse_index(source)
    if isinstance(parsed, str):
        return Reading(ArtifactState.DAMAGED, parsed)
    total, shards = parsed
    where = Where(source.path, pointer="/weight_map")
    facts = [
        Fact("weights.index_shards", sorted(shards), where),
        Fact("weights.index_tensors", sum(map(len, shards.values())), where),
    ]
    if total is not None:
        facts.append(
            Fact(
                "weights.index_total_size",
                total,
                Where(source.path, pointer="/metadata/total_size"),
            )
        )
    return Reading(taken=f"{facts[1].value:,} tensors in {len(shards)} shards", facts=tuple(facts))


def parse_index(source: Source) -> tuple[int | None, dict[str, list[str]]] | str:
    """Return (total_size in bytes, tensor names by shard file), or what is wrong with the index."""
    try:
        data = json.loads(source.text())
        weight_map = data["weight_map"]
        shards: dict[str, list[str]] = {}
        for name, shard in weight_map.items():
            shards.setdefault(str(shard), []).append(str(name))
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        return f"the shard index cannot be read ({type(error).__name__}): copy or save it again"
    metadata = data.get("metadata")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    return (int(total) if isinstance(total, int | float) else None), shards


def read_header(source: Source) -> Header:
    """Parse the header with all bounds checked; never raises on bad content."""
    try:
        with source.open() as stream:
            start = stream.read(160)
            wrong = _not_safetensors(start, source.size)
            if wrong is not None:
                return wrong
            (length,) = struct.unpack_from("<Q", start)
            stream.seek(8)
            raw = stream.read(length)
    except OSError as error:
        return Header(problem=f"cannot be read: {error.strerror or error}", form="unreadable")
    if len(raw) < length:
        return Header(
            problem=f"cut inside the header: {length:,} bytes announced, {len(raw):,} there; "
            "all tensors are lost, copy or save the file again",
            form="truncated-header",
            missing_bytes=length - len(raw),
        )
    try:
        entries = json.loads(raw)
    except (ValueError, RecursionError):
        zero = "only zero bytes (a write lost in a crash)" if not raw.strip(b"\0") else "no JSON"
        return Header(problem=f"the header holds {zero}; save the file again", form="bad-header")
    if not isinstance(entries, dict) or len(entries) > TENSOR_LIMIT:
        return Header(problem="the header is no table of tensors", form="bad-header")
    return _check_entries(entries, 8 + length, source.size)


def _not_safetensors(start: bytes, size: int) -> Header | None:
    """Return a header that names what the file is instead, or None if it may be safetensors."""
    kinds = (
        (b"version https://git-lfs", "lfs-pointer", "a Git LFS pointer; run `git lfs pull`"),
        (b"pk\x03\x04", "torch-zip", "a zip, probably a torch file under a wrong name"),
        (b"gguf", "gguf", "GGUF under a wrong name"),
        (b"\x80\x02", "pickle", "a pickle under a wrong name"),
        (b"<!doctype", "html", "a web page, not weights: the download was refused or redirected"),
        (b"<html", "html", "a web page, not weights: the download was refused or redirected"),
    )
    for magic, form, what in kinds:
        if start.lower().startswith(magic) and start[8:9] != b"{":
            return Header(problem=f"this is {what}", form=form)
    if size == 0:
        return Header(problem="the file is empty (0 bytes); save or copy it again", form="empty")
    if len(start) < 8:
        problem = f"too short to be a weight file ({size} bytes)"
        return Header(problem=problem, form="truncated-header", missing_bytes=8 - len(start))
    (length,) = struct.unpack_from("<Q", start)
    if not any(start):
        return Header(problem="begins with zero bytes (a write lost in a crash)", form="zeros")
    if length > HEADER_LIMIT:
        problem = (
            f"the first 8 bytes give a header of {length:,} bytes: this is no safetensors file"
        )
        return Header(problem=problem, form="bad-header-length")
    if length > 0 and len(start) > 8 and start[8:9] != b"{":
        return Header(problem="no JSON header after the first 8 bytes", form="bad-header")
    return None


def _check_entries(entries: dict[str, Any], data_start: int, size: int) -> Header:
    """Turn header entries into tensors in file order and check that they tile the file exactly."""
    metadata = entries.pop("__metadata__", None)
    tensors: list[Tensor] = []
    for name, entry in entries.items():
        tensor = _tensor(name, entry, data_start)
        if isinstance(tensor, str):
            return Header(tuple(tensors), metadata, tensor, "bad-entry")
        tensors.append(tensor)
    tensors.sort(key=lambda t: (t.offset, t.nbytes))
    ordered = tuple(tensors)
    expected = data_start
    for tensor in ordered:
        if tensor.offset != expected:
            what = "a hole" if tensor.offset > expected else "an overlap"
            problem = f"{what} of {abs(tensor.offset - expected):,} bytes before `{tensor.name}`"
            return Header(ordered, metadata, f"{problem}; save the file again", "offsets")
        expected = tensor.offset + tensor.nbytes
    if expected > size:
        lost = tuple(t.name for t in ordered if t.offset + t.nbytes > size)
        problem = (
            f"ends {expected - size:,} bytes early: {len(lost)} of {len(ordered)} tensors are cut "
            "or gone; copy or save the file again"
        )
        return Header(ordered, metadata, problem, "truncated", expected - size, lost)
    if expected < size:
        problem = f"{size - expected:,} bytes too long: two writers, or another file appended"
        return Header(ordered, metadata, problem, "trailing")
    return Header(ordered, metadata if isinstance(metadata, dict) else None)


def _tensor(name: str, entry: Any, data_start: int) -> Tensor | str:
    try:
        begin, end = (int(value) for value in entry["data_offsets"])
        shape = tuple(int(value) for value in entry["shape"])
        dtype = str(entry["dtype"])
    except (KeyError, TypeError, ValueError):
        return f"the header entry of `{name[:80]}` is malformed; save the file again"
    if not 0 <= begin <= end or any(side < 0 for side in shape):
        return f"the header entry of `{name[:80]}` has impossible offsets"
    bits = BITS.get(dtype)
    if bits is not None and -(-math.prod(shape) * bits // 8) != end - begin:
        need = -(-math.prod(shape) * bits // 8)
        return f"`{name[:80]}` {dtype} {list(shape)} needs {need:,} bytes, has {end - begin:,}"
    return Tensor(name, dtype, shape, data_start + begin, end - begin)


def _header_facts(source: Source, header: Header) -> Iterable[Fact]:
    where = Where(source.path)
    if header.form == "lfs-pointer":
        yield Fact("weights.lfs_pointer", source.size, where)
        return
    if header.form:
        yield Fact("weights.damage", header.problem, where)
        yield Fact("weights.damage_form", header.form, where)
    if header.missing_bytes:
        yield Fact("weights.truncated_bytes", header.missing_bytes, where)
    if header.lost:
        first = Where(source.path, tensor=header.lost[0])
        yield Fact("weights.lost_tensors", list(header.lost[:NAMES_SHOWN]), first)
    if header.tensors:
        yield Fact("weights.tensor_count", len(header.tensors), where)
        yield Fact("weights.bytes", sum(t.nbytes for t in header.tensors), where)
        dtypes = Counter(t.dtype for t in header.tensors)
        yield Fact("weights.dtypes", dict(dtypes.most_common()), where)
        empty = [t.name for t in header.tensors if 0 in t.shape]
        if empty:
            first = Where(source.path, tensor=empty[0])
            yield Fact("weights.zero_size_tensors", len(empty), first)


def value_facts(path: str, stats: Mapping[str, Stats]) -> list[Fact]:
    """Return the facts of NaN, infinite and all-zero tensors, none if no tensor was tested."""
    if not stats:
        return []
    facts = [
        Fact("weights.checked_tensors", len(stats), Where(path)),
        Fact("weights.checked_whole", all(s.whole for s in stats.values()), Where(path)),
    ]
    found = {
        "weights.nan_tensors": [n for n, s in stats.items() if s.nan],
        "weights.inf_tensors": [n for n, s in stats.items() if s.inf],
        "weights.zero_tensors": [
            n for n, s in stats.items() if s.all_zero and _must_not_be_zero(n)
        ],
    }
    for fact, names in found.items():
        where = Where(path, tensor=names[0]) if names else Where(path)
        facts.append(Fact(fact, names[:NAMES_SHOWN], where))
        if names:
            facts.append(Fact(f"{fact}_count", len(names), where))
    return facts


def _must_not_be_zero(name: str) -> bool:
    """Biases, LoRA B, and norms (Gemma stores weight − 1) may be zero in healthy files."""
    return not re.search(r"bias|lora_B|lora_embedding_B|norm|ln_|magnitude|rotary|inv_freq", name)


# Layers that read the hidden state: A of LoRA is as wide there as the model.
READS_HIDDEN = re.compile(
    r"\.(?:q_proj|k_proj|v_proj|qkv_proj|query_key_value|gate_proj|up_proj|gate_up_proj)$"
)
NOT_THE_TEXT = re.compile(r"vision|visual|audio|image")


def adapter_facts(
    path: str, tensors: Sequence[Tensor], stats: Mapping[str, Stats]
) -> Iterable[Fact]:
    """Yield ranks, modules, layers, unpaired and zero matrices of a LoRA file; nothing for others.

    Of a full model, `weights.wrapped_layers` names weights still inside the layers of an adapter.

    PEFT stores A as [r, in] and B as [out, r]; mlx-lm stores lora_a as [in, r] and lora_b as
    [r, out] under lower-case names and is left alone here.
    """
    sides: dict[str, dict[str, Tensor]] = {}
    for tensor in tensors:
        match = LORA.match(tensor.name)
        if match and len(tensor.shape) == 2:
            side = match["side"] or f"E{match['table']}"
            sides.setdefault(match["module"], {})[side] = tensor
    if not sides:
        return
    where = Where(path)
    wrapped = [tensor.name for tensor in tensors if ".base_layer." in tensor.name]
    if wrapped:
        place = Where(path, tensor=wrapped[0])
        yield Fact("weights.wrapped_layers", wrapped[:NAMES_SHOWN], place)
    pairs = {m: (s["A"], s["B"]) for m, s in sides.items() if {"A", "B"} <= s.keys()}
    unpaired = sorted(m for m, s in sides.items() if len(s) != 2)
    yield Fact("weights.lora_modules", sorted({m.rsplit(".", 1)[-1] for m in sides}), where)
    layers = {int(found[1]) for m in sides if (found := LAYER.search(m))}
    yield Fact("weights.lora_layers", len(layers), where)
    yield Fact("weights.lora_module_count", len(sides), where)
    ranks = Counter(a.shape[0] for a, _ in pairs.values())
    yield Fact("weights.lora_ranks", sorted(ranks), where)
    if ranks:
        yield Fact("weights.lora_rank", ranks.most_common(1)[0][0], where)
    reading = [m for m in pairs if READS_HIDDEN.search(m) and not NOT_THE_TEXT.search(m)]
    if reading:
        width = Counter(pairs[m][0].shape[1] for m in reading).most_common(1)[0][0]
        yield Fact("weights.lora_width", width, Where(path, tensor=pairs[reading[0]][0].name))
    bad = [m for m, (a, b) in pairs.items() if a.shape[0] != b.shape[1]]
    if bad:
        place = Where(path, tensor=pairs[bad[0]][1].name)
        yield Fact("weights.lora_bad_shapes", bad[:NAMES_SHOWN], place)
    if unpaired:
        first = next(iter(sides[unpaired[0]].values()))
        yield Fact("weights.lora_unpaired", unpaired[:NAMES_SHOWN], Where(path, tensor=first.name))
    extra = [t.name for t in tensors if not LORA.match(t.name)]
    if extra:
        yield Fact("weights.adapter_other_tensors", extra[:NAMES_SHOWN], where)
    tested = [b.name for _, b in pairs.values() if b.name in stats and 0 not in b.shape]
    if tested:
        zero = [name for name in tested if stats[name].all_zero]
        place = Where(path, tensor=zero[0]) if zero else where
        yield Fact("weights.lora_b_count", len(tested), where)
        yield Fact("weights.lora_b_zero", len(zero), place)
