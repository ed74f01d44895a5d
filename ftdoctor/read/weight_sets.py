"""Compare weight files: shards with their index, adapters with base and merge, checkpoints."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from ftdoctor.model import Fact, Where
from ftdoctor.read.reading import Tensor
from ftdoctor.read.safetensors import LORA, NAMES_SHOWN, parse_index, read_header
from ftdoctor.read.source import Source
from ftdoctor.read.tensor_values import DISTANT, matrix_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHECKPOINT = re.compile(r"(?:^|/)checkpoint-(\d+)(?=/|$)")
SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.(?P<ext>safetensors|bin)$")
ADAPTER = re.compile(r"^adapter_model.*\.safetensors$")
MODULES_SAMPLED = 4  # modules of which merge arithmetic is done
ROWS_SAMPLED = 256  # rows of each; one module of a 7B model is then 2 MB
PIECES = 16  # places at which two weight files are compared
PIECE = 64 << 10
# Relative rounding error of storing a weight, by format (measured: |D|/|W| 0.06 merged to bf16
# leaves a residual of 0.03 |D|).
ROUNDING = {"BF16": 0.002, "F16": 0.00025, "F32": 1e-7, "F64": 1e-16}


def folder_of(path: str) -> str:
    """Return the folder part of a run-relative path, "" for the run itself."""
    return path.rpartition("/")[0]


def weight_set_facts(sources: Sequence[Source]) -> list[Fact]:
    """Return every fact that needs more than one weight file."""
    by_path = {source.path: source for source in sources}
    facts: list[Fact] = []
    for source in sources:
        if source.name.endswith((".safetensors.index.json", ".bin.index.json")):
            facts += _index_facts(source, by_path)
    facts += _unindexed_shards(sources)
    models = model_folders(sources)
    for source in sources:
        if ADAPTER.match(source.name) and source.size > 0:
            facts += _adapter_set(source, by_path, models)
    facts += _identical_checkpoints(sources)
    facts += _split_gguf(sources)
    return facts


# --- shards -----------------------------------------------------------------------------------


def _index_facts(index: Source, by_path: Mapping[str, Source]) -> Iterator[Fact]:
    """Yield missing shards and misplaced names; a lone index was merely copied along."""
    parsed = parse_index(index)
    if isinstance(parsed, str):
        return
    _, shards = parsed
    folder = folder_of(index.path)
    prefix = f"{folder}/" if folder else ""
    there = {name: by_path[prefix + name] for name in shards if prefix + name in by_path}
    where = Where(index.path, pointer="/weight_map")
    if not there:
        yield Fact("weights.not_copied", len(shards), where)
        return
    gone = sorted(set(shards) - there.keys())
    if gone:
        yield Fact("weights.missing_shards", gone[:NAMES_SHOWN], where)
        lost = sum(len(shards[name]) for name in gone)
        yield Fact("weights.missing_shard_tensors", lost, where)
    else:
        yield Fact("weights.shards_complete", len(shards), where)
    strangers: list[str] = []
    for name, source in there.items():
        if not name.endswith(".safetensors") or not source.size:
            continue
        header = read_header(source)
        if header.form and header.form != "truncated":
            continue
        held = {tensor.name for tensor in header.tensors}
        strangers += [f"{tensor} ({name})" for tensor in shards[name] if tensor not in held]
    if strangers:
        yield Fact("weights.names_not_in_shard", strangers[:NAMES_SHOWN], where)
    stems = {m["stem"] for name in shards if (m := SHARD.match(name))}
    extra = sorted(
        path.removeprefix(prefix)
        for path in by_path
        if folder_of(path) == folder
        and (m := SHARD.match(path.removeprefix(prefix)))
        and m["stem"] in stems
        and path.removeprefix(prefix) not in shards
    )
    if extra:
        yield Fact("weights.extra_shards", extra[:NAMES_SHOWN], Where(prefix + extra[0]))


def _unindexed_shards(sources: Sequence[Source]) -> Iterator[Fact]:
    """Yield sets `-0000k-of-0000n` with missing parts where no index lies beside them."""
    indexed = {folder_of(s.path) for s in sources if s.name.endswith(".index.json")}
    sets: dict[tuple[str, str, int], set[int]] = {}
    for source in sources:
        match = SHARD.match(source.path)
        if match and folder_of(source.path) not in indexed:
            key = (match["stem"], match["ext"], int(match["count"]))
            sets.setdefault(key, set()).add(int(match["number"]))
    for (stem, ext, count), numbers in sets.items():
        gone = [n for n in range(1, min(count, 1000) + 1) if n not in numbers]
        if gone:
            names = [f"{stem.rpartition('/')[2]}-{n:05d}-of-{count:05d}.{ext}" for n in gone]
            first = f"{stem}-{min(numbers):05d}-of-{count:05d}.{ext}"
            yield Fact("weights.missing_shards", names[:NAMES_SHOWN], Where(first))


GGUF_SPLIT = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$")


def _split_gguf(sources: Sequence[Source]) -> Iterator[Fact]:
    """Yield missing parts of split GGUF files; the first part alone was merely copied along."""
    sets: dict[tuple[str, int], set[int]] = {}
    for source in sources:
        match = GGUF_SPLIT.match(source.path)
        if match:
            sets.setdefault((match["stem"], int(match["count"])), set()).add(int(match["number"]))
    for (stem, count), numbers in sets.items():
        gone = [n for n in range(1, min(count, 1000) + 1) if n not in numbers]
        where = Where(f"{stem}-{min(numbers):05d}-of-{count:05d}.gguf")
        if gone and numbers == {1}:
            yield Fact("weights.not_copied", count - 1, where)
        elif gone:
            names = [f"{stem.rpartition('/')[2]}-{n:05d}-of-{count:05d}.gguf" for n in gone]
            yield Fact("weights.missing_shards", names[:NAMES_SHOWN], where)


# --- full models ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder with the full weights of a model: where each tensor lies."""

    path: str
    places: Mapping[str, tuple[Source, Tensor]]


def model_folders(sources: Sequence[Source]) -> list[ModelFolder]:
    """Return the folders that hold sound full weights in safetensors, checkpoints left out."""
    found: dict[str, dict[str, tuple[Source, Tensor]]] = {}
    for source in sources:
        name = source.name
        if (
            not name.endswith(".safetensors")
            or ADAPTER.match(name)
            or name == "optimizer.safetensors"
        ):
            continue
        if CHECKPOINT.search(source.path) or not source.size:
            continue
        header = read_header(source)
        if header.form or any(LORA.match(t.name) for t in header.tensors):
            continue
        places = found.setdefault(folder_of(source.path), {})
        places.update({t.name: (source, t) for t in header.tensors})
    return [ModelFolder(path, places) for path, places in sorted(found.items()) if places]


# --- adapters ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pair:
    """The two matrices of an adapted module: A [r, in], B [out, r]; `scale` is alpha/r or alike."""

    module: str
    a: Tensor
    b: Tensor
    scale: float


def _adapter_set(
    source: Source, by_path: Mapping[str, Source], models: Sequence[ModelFolder]
) -> Iterator[Fact]:
    folder = folder_of(source.path)
    header = read_header(source)
    if header.form or not header.tensors:
        return
    config = _json(
        by_path.get(f"{folder}/adapter_config.json" if folder else "adapter_config.json")
    )
    pairs = _pairs(header.tensors, config or {})
    yield from _prefix_facts(source, header.tensors)
    if config is None or not pairs:
        return
    yield from _config_facts(source, pairs, config)
    fitting = [m for m in models if any(_base_name(p.module, m) for p in pairs)]
    for model in fitting:
        yield from _shape_facts(source, pairs, model, config)
    if models and not fitting:
        yield Fact("adapter.names_unknown_to_base", len(pairs), Where(source.path))
    if not config.get("use_dora") and str(config.get("peft_type", "LORA")).upper() == "LORA":
        yield from merge_facts(source, pairs, config, fitting)


def _json(source: Source | None) -> dict[str, Any] | None:
    if source is None:
        return None
    try:
        data = json.loads(source.text(4 << 20))
    except (ValueError, OSError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _pairs(tensors: Iterable[Tensor], config: Mapping[str, Any]) -> list[Pair]:
    sides: dict[str, dict[str, Tensor]] = {}
    for tensor in tensors:
        match = LORA.match(tensor.name)
        if match and match["side"] and len(tensor.shape) == 2:
            sides.setdefault(match["module"], {})[match["side"]] = tensor
    pairs = []
    for module, both in sides.items():
        if both.keys() == {"A", "B"} and both["A"].shape[0] == both["B"].shape[1] > 0:
            rank = both["A"].shape[0]
            pairs.append(Pair(module, both["A"], both["B"], _scale(module, rank, config)))
    return pairs


def _scale(module: str, rank: int, config: Mapping[str, Any]) -> float:
    """Return alpha/r, or alpha/sqrt(r) with use_rslora; 0 if no alpha is known."""
    alpha = config.get("lora_alpha")
    patterns = config.get("alpha_pattern")
    if isinstance(patterns, dict):
        for pattern, value in patterns.items():
            if module.endswith(str(pattern)):
                alpha = value
    if not isinstance(alpha, int | float) or isinstance(alpha, bool):
        return 0.0
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _prefix_facts(source: Source, tensors: Sequence[Tensor]) -> Iterator[Fact]:
    """Yield key prefixes that PEFT does not look for: it then loads nothing and only warns."""
    names = [t.name for t in tensors if LORA.match(t.name)]
    strange = {
        "base_model.model.base_model.model.": "the PEFT prefix stands twice",
        "_orig_mod.": "torch.compile's prefix",
        "module.": "DistributedDataParallel's prefix",
        "_fsdp_wrapped_module.": "FSDP's prefix",
        "_checkpoint_wrapped_module.": "activation checkpointing's prefix",
    }
    for prefix, why in strange.items():
        hit = [n for n in names if n.startswith(prefix) or f".{prefix}" in n.rpartition("lora_")[0]]
        if prefix == "module.":
            hit = [n for n in names if n.startswith(("module.", "base_model.model.module."))]
        if names and len(hit) == len(names):
            yield Fact("adapter.key_prefix", f"{prefix} ({why})", Where(source.path, tensor=hit[0]))
            return


def _config_facts(
    source: Source, pairs: Sequence[Pair], config: Mapping[str, Any]
) -> Iterator[Fact]:
    """Yield disagreements between adapter_config.json and the tensors."""
    rank = config.get("r")
    ranks = {p.a.shape[0] for p in pairs}
    if isinstance(rank, int) and not config.get("rank_pattern") and rank not in ranks:
        where = Where(source.path, tensor=pairs[0].a.name)
        found = sorted(ranks)
        yield Fact("adapter.rank_in_file", found[0] if len(found) == 1 else found, where)
        yield Fact("adapter.rank_in_config", rank, where)
    targets = config.get("target_modules")
    if isinstance(targets, list) and not config.get("layers_to_transform"):
        held = {p.module.rpartition(".")[2] for p in pairs}
        gone = [t for t in targets if isinstance(t, str) and not _held(t, held, pairs)]
        if gone and len(gone) < len(targets):
            yield Fact("adapter.targets_not_in_file", gone, Where(source.path))


def _held(target: str, names: set[str], pairs: Sequence[Pair]) -> bool:
    return target in names or any(p.module.endswith(f".{target}") for p in pairs)


def _base_name(module: str, model: ModelFolder) -> str | None:
    """Return the base tensor of an adapted module, allowing for moved `model.` prefixes."""
    name = module.removeprefix("base_model.model.") + ".weight"
    core = name.removeprefix("model.")
    for candidate in (name, core, f"model.{name}", name.removeprefix("base_model.")):
        if candidate in model.places:
            return candidate
    return None


def _shape_facts(
    source: Source, pairs: Sequence[Pair], model: ModelFolder, config: Mapping[str, Any]
) -> Iterator[Fact]:
    wrong = []
    for pair in pairs:
        name = _base_name(pair.module, model)
        if name is None:
            continue
        shape = model.places[name][1].shape
        wanted = (pair.b.shape[0], pair.a.shape[1])
        if config.get("fan_in_fan_out"):
            wanted = wanted[::-1]
        if len(shape) == 2 and shape != wanted and model.places[name][1].dtype not in ("U8", "I8"):
            wrong.append((pair, f"{name} is {list(shape)}, the adapter is for {list(wanted)}"))
    if wrong:
        place = Where(source.path, tensor=wrong[0][0].a.name)
        yield Fact("adapter.base_shape_mismatch", [text for _, text in wrong[:NAMES_SHOWN]], place)
    else:
        yield Fact("adapter.fits_base", model.path or ".", Where(source.path))


# --- merge arithmetic -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sample:
    """Merge arithmetic of one module: a = <W−W0, D>/<D, D>, res = |W−W0−D|/|D|, sizes and noise."""

    ratio: float
    residual: float
    identical: bool
    update: float
    noise: float


def merge_facts(
    source: Source, pairs: Sequence[Pair], config: Mapping[str, Any], models: Sequence[ModelFolder]
) -> Iterator[Fact]:
    """Yield how much of the adapter a merged model contains, if base and merge are both there."""
    base, merged = _base_and_merged(models, config)
    if base is None:
        return
    chosen = _spread(sorted(pairs, key=lambda p: p.module))
    if merged is None:
        updates = [u for p in chosen if (u := _update_size(source, p, base, config)) is not None]
        if updates:
            yield Fact("adapter.update_size", round(median(updates), 8), Where(source.path))
        return
    samples = [s for p in chosen if (s := _sample(source, p, base, merged, config)) is not None]
    if not samples:
        return
    if median(s.ratio for s in samples) < -0.5:
        # Nothing in the names told base from merge, and W−W0 = −D says that they were swapped.
        base, merged = merged, base
        swapped = (_sample(source, p, base, merged, config) for p in chosen)
        samples = [s for s in swapped if s is not None]
    where = Where(next(iter(merged.places.values()))[0].path)
    yield Fact("merge.folder", merged.path or ".", where)
    yield Fact("merge.identical", all(s.identical for s in samples), where)
    yield Fact("merge.ratio", round(median(s.ratio for s in samples), 4), where)
    yield Fact("merge.residual", round(median(s.residual for s in samples), 4), where)
    yield Fact("merge.noise", round(median(s.noise for s in samples), 4), where)
    yield Fact("merge.rank", pairs[0].a.shape[0], Where(source.path, tensor=pairs[0].a.name))
    yield Fact("adapter.update_size", round(median(s.update for s in samples), 8), where)


def _spread(pairs: Sequence[Pair]) -> list[Pair]:
    if len(pairs) <= MODULES_SAMPLED:
        return list(pairs)
    step = (len(pairs) - 1) / (MODULES_SAMPLED - 1)
    return [pairs[round(i * step)] for i in range(MODULES_SAMPLED)]


def _base_and_merged(
    models: Sequence[ModelFolder], config: Mapping[str, Any]
) -> tuple[ModelFolder | None, ModelFolder | None]:
    """Tell the base from the merge by the adapter's base name, then by the words of the folders."""
    if not models:
        return None, None
    tail = str(config.get("base_model_name_or_path") or "").rstrip("/").rpartition("/")[2].lower()

    def baseness(model: ModelFolder) -> int:
        path = model.path.lower()
        words = set(re.split(r"[^a-z0-9]+", path))
        named = 2 if tail and (path.rpartition("/")[2] == tail or tail in path) else 0
        score = named + (2 if words & {"base", "original", "pretrained"} else 0)
        return score - (3 if re.search(r"merge|fused|export|16bit", path) else 0)

    ordered = sorted(models, key=baseness, reverse=True)
    if len(ordered) == 1:
        return ordered[0], None
    return ordered[0], ordered[-1]


def _delta(
    source: Source, pair: Pair, rows: int, config: Mapping[str, Any]
) -> NDArray[np.float32] | None:
    """Return the first rows of D = scale · B·A, transposed for fan_in_fan_out layers."""
    if pair.scale == 0.0:
        return None
    a = matrix_rows(source, pair.a, pair.a.shape[0])
    b = matrix_rows(source, pair.b, pair.b.shape[0])
    if a is None or b is None:
        return None
    if config.get("fan_in_fan_out"):
        return pair.scale * (a[:, :rows].T @ b.T)
    return pair.scale * (b[:rows] @ a)


def _update_size(
    source: Source, pair: Pair, base: ModelFolder, config: Mapping[str, Any]
) -> float | None:
    """Return |D|/|W0| over the first rows."""
    import numpy as np

    place = _matrix_of(pair, base)
    weights = matrix_rows(*place, ROWS_SAMPLED) if place else None
    delta = _delta(source, pair, ROWS_SAMPLED, config) if weights is not None else None
    if weights is None or delta is None or weights.shape != delta.shape:
        return None
    size = float(np.linalg.norm(weights))
    return float(np.linalg.norm(delta)) / size if size > 0 else None


def _matrix_of(pair: Pair, model: ModelFolder) -> tuple[Source, Tensor] | None:
    name = _base_name(pair.module, model)
    return model.places[name] if name is not None else None


def _sample(
    source: Source,
    pair: Pair,
    base: ModelFolder,
    merged: ModelFolder,
    config: Mapping[str, Any],
) -> Sample | None:
    import numpy as np

    before, after = _matrix_of(pair, base), _matrix_of(pair, merged)
    if before is None or after is None or before[1].shape != after[1].shape:
        return None
    w0, w = matrix_rows(*before, ROWS_SAMPLED), matrix_rows(*after, ROWS_SAMPLED)
    delta = _delta(source, pair, ROWS_SAMPLED, config)
    if w0 is None or w is None or delta is None or w0.shape != delta.shape:
        return None
    size = float(np.linalg.norm(delta))
    if not math.isfinite(size) or size == 0.0:
        return None
    change = (w - w0).astype(np.float64)
    wide = delta.astype(np.float64)
    base_size = float(np.linalg.norm(w0))
    rounding = ROUNDING.get(after[1].dtype, 0.0)
    return Sample(
        ratio=float((change * wide).sum() / (wide * wide).sum()),
        residual=float(np.linalg.norm(change - wide)) / size,
        identical=not change.any(),
        update=size / base_size if base_size > 0 else 0.0,
        noise=rounding * base_size / size,
    )


# --- identical checkpoints --------------------------------------------------------------------


def _identical_checkpoints(sources: Sequence[Source]) -> Iterator[Fact]:
    """Yield pairs of checkpoints of different steps whose weights are the same bytes."""
    groups: dict[tuple[str, str, int], list[tuple[int, Source]]] = {}
    for source in sources:
        match = CHECKPOINT.search(folder_of(source.path))
        weights = source.name.endswith(".safetensors") and not source.name.startswith("optimizer")
        near = source.local is not None or source.size <= DISTANT
        if match and weights and near and source.size > 1024:
            key = (source.path[: match.start()], source.name, source.size)
            groups.setdefault(key, []).append((int(match[1]), source))
    compared = False
    for group in groups.values():
        group.sort(key=lambda item: item[0])
        for (step, first), (later, second) in pairwise(group):
            if step == later or min(step, later) == 0:
                continue
            compared = True
            if _sampled_digest(first) == _sampled_digest(second):
                pair = [folder_of(first.path), folder_of(second.path)]
                yield Fact("checkpoint.identical", pair, Where(second.path))
    if compared:
        yield Fact("checkpoint.compared", True, Where("."))


def _sampled_digest(source: Source) -> str:
    digest = hashlib.sha256()
    with source.open() as stream:
        for number in range(PIECES):
            stream.seek(max(0, (source.size - PIECE) * number // (PIECES - 1)))
            digest.update(stream.read(PIECE))
    return digest.hexdigest()
