"""Detectors on weight files: damage, missing shards, NaN, untrained or empty adapters, merges."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.facts import witness
from ftdoctor.families import width_of
from ftdoctor.model import ArtifactState, Fact, Observation, Run, Where
from ftdoctor.render.text import plural

if TYPE_CHECKING:
    import polars as pl

WEIGHT_KINDS = ("safetensors", "gguf", "torch-weights")
WEIGHTS = "weight files"
ADAPTER = "adapter_model.safetensors"
STEP = re.compile(r"(?:^|/)checkpoint-(\d+)(?:/|$)")

# What config.json calls a number type, and what the header of a safetensors file calls it.
FLOATS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def said(text: str, fact: Fact) -> str:
    """Fill {value}, {count}, {first} and {where} of a sentence; nothing else is interpreted."""
    value = fact.value
    many = isinstance(value, list | tuple)
    first = value[0] if many and value else value
    shown = ", ".join(map(str, value[:3])) + (" …" if len(value) > 3 else "") if many else value
    fillers = {
        "{value}": str(shown)[:120],
        "{count}": str(len(value) if many else 1),
        "{first}": str(first)[:100],
        "{where}": str(fact.where),
    }
    for name, filler in fillers.items():
        text = text.replace(name, filler)
    return text


@detector("tensors.reported")
def reported(run: Run, *, fact: str, says: str, known_if: list[str], need: str) -> Observation:
    """Find that a reader reported something of the files; `says` is the sentence about it.

    Absent if one of `known_if` (facts, settings or artifact kinds) shows that it was looked for,
    else unobservable for want of `need`. False, 0 and empty lists are absent.
    """
    found = [f for f in run.facts.get(fact, ()) if f.value]
    if found:
        more = f" (and {len(found) - 1} more files)" if len(found) > 1 else ""
        return present(said(says, found[0]) + more, *found)
    looked = fact in run.facts or any(witness(run, c) for c in known_if)
    if looked:
        return absent(f"Looked for in {need}, and not found")
    return unobservable(f"No {need} to look at", need)


@detector("tensors.pointers_only")
def pointers_only(run: Run) -> Observation:
    """Find a folder whose weight files are all Git LFS pointers, in a run that is none itself.

    Where text files are pointers as well the whole copy was made without Git LFS: that tells
    nothing of what was loaded.
    """
    pointers = {f.where.path: f for f in run.facts.get("weights.lfs_pointer", ())}
    weights = {a.path for a in run.artifacts if a.kind in WEIGHT_KINDS}
    if not weights:
        return unobservable(f"No {WEIGHTS} to look at", WEIGHTS)
    if others := sorted(pointers.keys() - weights):
        return absent(f"`{others[0]}` is a pointer too: this copy was made without Git LFS")
    for path in sorted(pointers):
        folder = path.rpartition("/")[0]
        beside = {p for p in weights if p.rpartition("/")[0] == folder}
        if beside <= pointers.keys() and not any(part == ".git" for part in path.split("/")):
            held = plural(len(beside), "weight file")
            text = f"`{folder or '.'}` holds {held}, nothing but Git LFS pointers"
            return present(text, pointers[path])
    return absent("Every folder with weights holds real ones")


@detector("tensors.damaged")
def damaged(run: Run, *, gguf: bool, suffixes: tuple[str, ...] = ()) -> Observation:
    """Find a weight file that is cut, empty or malformed, GGUF or other (no Git LFS pointers).

    With `suffixes`, only files that end with one of them count.
    """

    def wanted(path: str) -> bool:
        if suffixes and not path.lower().endswith(tuple(suffixes)):
            return False
        return path.lower().endswith(".gguf") is gguf

    facts = [f for f in run.facts.get("weights.damage", ()) if wanted(f.where.path)]
    pointers = {f.where.path for f in run.facts.get("weights.lfs_pointer", ())}
    weights = [
        a
        for a in run.artifacts
        if a.kind in WEIGHT_KINDS and a.path not in pointers and wanted(a.path)
    ]
    empty = [a for a in weights if a.size == 0 and a.state is ArtifactState.DAMAGED]
    if facts:
        fact = facts[0]
        return present(f"`{fact.where.path}`: {str(fact.value)[:140]}", *facts)
    if empty:
        where = Where(empty[0].path)
        fact = Fact("weights.damage", "empty", where)
        return present(f"`{empty[0].path}` is empty (0 bytes)", fact)
    sound = any(a.state is ArtifactState.READ for a in weights)
    counted = ("gguf.tensor_count" if gguf else "weights.tensor_count") in run.facts
    others = any(a.kind in WEIGHT_KINDS for a in run.artifacts)
    if sound or (counted and not (suffixes and others)):
        return absent("Every weight file ends where its header says")
    need = "GGUF file" if gguf else WEIGHTS
    return unobservable(f"No {need} to look at", need)


@detector("tensors.adapter_width")
def adapter_width(run: Run) -> Observation:
    """Find an adapter whose matrices are made for another hidden size than its base's name says."""
    base = run.setting("lora.base_model") or run.fact("adapter.base_model_name_or_path")
    if base is None:
        return unobservable("No file names the adapter's base", "adapter_config.json")
    width = width_of(str(base.value))
    if width is None:
        return unobservable(f"The hidden size of {base.value} is not known", "base weights")
    held = run.facts.get("weights.lora_width", ())
    if not held:
        return unobservable("No adapter weights to measure", ADAPTER)
    other = [f for f in held if f.value != width]
    if not other:
        return absent(f"the adapter is {width} wide, as {base.value} is", base)
    text = f"the adapter is for a model {other[0].value} wide, but {base.value} is {width} wide"
    return present(text, other[0], base)


@detector("tensors.nonfinite")
def nonfinite(run: Run) -> Observation:
    """Find tensors with NaN or infinite values; those of a cut or overwritten file tell nothing."""
    damaged_files = {a.path for a in run.artifacts if a.state is ArtifactState.DAMAGED}
    found = [
        f
        for name in ("weights.nan_tensors", "weights.inf_tensors")
        for f in run.facts.get(name, ())
        if f.value
    ]
    hits = [f for f in found if f.where.path not in damaged_files]
    if found and not hits:
        path = found[0].where.path
        return unobservable(f"`{path}` is damaged, so its values tell nothing", WEIGHTS)
    if hits:
        fact = hits[0]
        what = _what(fact)
        counts = {f.where.path: f.value for f in run.facts.get(f"{fact.name}_count", ())}
        count = counts.get(fact.where.path, len(fact.value))
        of = next(
            (
                f" of {f.value}"
                for f in run.facts.get("weights.checked_tensors", ())
                if f.where.path == fact.where.path
            ),
            "",
        )
        text = f"{count}{of} tensors in `{fact.where.path}` hold {what}, first `{fact.value[0]}`"
        return present(text, *hits)
    checked = run.facts.get("weights.checked_tensors", ())
    if not checked:
        return unobservable("No weight file whose values could be tested", WEIGHTS)
    total = sum(int(f.value) for f in checked)
    whole = all(f.value for f in run.facts.get("weights.checked_whole", ()))
    extent = "every value" if whole else "the beginning of each"
    return absent(f"{extent.capitalize()} of {total:,} tensors is finite", *checked)


@detector("tensors.only_copy_nonfinite")
def only_copy_nonfinite(run: Run) -> Observation:
    """Find NaN or infinite values in a saved model while the weights it was made of are finite.

    Those are an adapter of the run, or the checkpoint of its last step. A checkpoint from before
    says nothing: training may have broken down since.
    """
    bad = {
        f.where.path: f
        for name in ("weights.nan_tensors", "weights.inf_tensors")
        for f in run.facts.get(name, ())
        if f.value
    }
    checked = {f.where.path: f for f in run.facts.get("weights.checked_tensors", ())}
    if not checked:
        return unobservable("No weight file whose values could be tested", WEIGHTS)
    last = run.fact("progress.global_step")
    trained = [
        path
        for path in checked
        if "adapter" in path.rpartition("/")[2]
        or (last is not None and _step_of(path) == last.value)
    ]
    copies = [path for path in bad if path not in trained]
    if not copies or not trained or any(path in bad for path in trained):
        return absent("No saved model is worse than the weights it was made of", *bad.values())
    text = f"`{copies[0]}` holds {_what(bad[copies[0]])}, `{trained[0]}` holds none"
    return present(text, bad[copies[0]], checked[trained[0]])


def _what(fact: Fact) -> str:
    return "NaN" if fact.name == "weights.nan_tensors" else "infinite values"


def _step_of(path: str) -> int | None:
    found = STEP.search(path)
    return int(found[1]) if found else None


@detector("tensors.lora_b_zero")
def lora_b_zero(run: Run, *, share: float, after_step: int) -> Observation:
    """Find that at least `share` of the B matrices of the newest adapter are exactly zero.

    B starts at zero and leaves it with the first update, so files of checkpoints up to
    `after_step`, and of runs that got no further, say nothing.
    """
    zero = {f.where.path: f for f in run.facts.get("weights.lora_b_zero", ())}
    counts = {f.where.path: int(f.value) for f in run.facts.get("weights.lora_b_count", ())}
    done = run.fact("progress.global_step")
    steps = done.value if done is not None and isinstance(done.value, int | float) else None
    if steps is not None and steps <= after_step:
        return unobservable(f"The run made {steps:g} steps: B may still be zero", "a later adapter")
    # Without a step in its path a file is the final one.
    aged = [
        (math.inf if (step := _step_of(p)) is None else step, p) for p, n in counts.items() if n
    ]
    usable = [(age, path) for age, path in aged if age > after_step]
    if not usable:
        return unobservable("No adapter weights to look at", ADAPTER)
    _, newest = max(usable)
    fact, count = zero.get(newest), counts[newest]
    number = int(fact.value) if fact is not None else 0
    text = f"{number} of {count} lora_B matrices in `{newest}` are exactly zero"
    facts = (fact,) if fact is not None else ()
    return (present if number >= share * count else absent)(text, *facts)


@detector("tensors.empty")
def empty(run: Run, *, adapter: bool) -> Observation:
    """Find a weight file without tensors, or whose tensors have size 0; adapters or full models."""

    def wanted(path: str) -> bool:
        return path.rpartition("/")[2].startswith("adapter") is adapter

    for name, what in (
        ("weights.empty_file", "holds no tensor"),
        ("weights.zero_size_tensors", "holds tensors of size 0"),
    ):
        hits = [f for f in run.facts.get(name, ()) if f.value and wanted(f.where.path)]
        if hits:
            path = hits[0].where.path
            size = next((a.size for a in run.artifacts if a.path == path), None)
            amount = f" ({size:,} bytes)" if size is not None else ""
            return present(f"`{path}`{amount} {what}", *hits)
    counts = [f for f in run.facts.get("weights.tensor_count", ()) if wanted(f.where.path)]
    if counts:
        return absent(
            f"`{counts[0].where.path}` holds {plural(counts[0].value, 'tensor')}", *counts
        )
    need = ADAPTER if adapter else WEIGHTS
    return unobservable(f"No {need} to look at", need)


# --- merges -----------------------------------------------------------------------------------

MERGE = "base model, adapter and merged model together"


def _merge_number(run: Run, name: str) -> tuple[float, Fact] | None:
    fact = run.fact(name)
    if fact is None or isinstance(fact.value, bool) or not isinstance(fact.value, int | float):
        return None
    return float(fact.value), fact


@detector("tensors.merge_ratio")
def merge_ratio(
    run: Run,
    *,
    low: float,
    high: float,
    residual_below: float = math.inf,
    residual_above: float = 0.0,
    noise_below: float = 0.3,
) -> Observation:
    """Find that the merge holds `low` to `high` times the adapter's update, with such a residual.

    The ratio is <W−W0, D>/<D, D>, the residual |W−W0−D|/|D|. Unobservable where rounding of the
    stored weights is above `noise_below` times the update.
    """
    ratio, residual = _merge_number(run, "merge.ratio"), _merge_number(run, "merge.residual")
    if ratio is None or residual is None:
        return unobservable("Base, adapter and merge are not all here", MERGE)
    noise = _merge_number(run, "merge.noise")
    identical = run.fact("merge.identical")
    if noise is not None and noise[0] >= noise_below and not (identical and identical.value):
        return unobservable("The update is smaller than the rounding of the weights", MERGE)
    text = (
        f"The merged weights hold {ratio[0]:.2f} times the adapter's update "
        f"(residual {residual[0]:.2f})"
    )
    fits = low <= ratio[0] <= high and residual_above <= residual[0] <= residual_below
    return (present if fits else absent)(text, ratio[1], residual[1])


@detector("tensors.merge_scaled_by_rank")
def merge_scaled_by_rank(run: Run, *, tolerance: float) -> Observation:
    """Find that the merge is off by sqrt(r) or 1/sqrt(r): rslora's flag ignored or added."""
    ratio, rank = _merge_number(run, "merge.ratio"), _merge_number(run, "merge.rank")
    if ratio is None or rank is None or rank[0] < 2:
        return unobservable("Base, adapter and merge are not all here", MERGE)
    root = math.sqrt(rank[0])
    text = f"The merged weights hold {ratio[0]:.3g} times the adapter's update; rank {rank[0]:g}"
    for factor, name in ((root, "sqrt(r)"), (1 / root, "1/sqrt(r)")):
        if abs(ratio[0] / factor - 1) <= tolerance:
            return present(f"{text}, {name} = {factor:.3g}", ratio[1], rank[1])
    return absent(text, ratio[1], rank[1])


# --- heads and formats ------------------------------------------------------------------------


@detector("tensors.head_missing", of_text=True)
def head_missing(run: Run) -> Observation:
    """Find full weights without an output head although config.json says that it is not tied."""
    tied = run.fact("model.tie_word_embeddings")
    if tied is None or not isinstance(tied.value, bool):
        return unobservable("config.json does not say whether embeddings are tied", "config.json")
    if run.tensors.is_empty():
        return unobservable("No weight file to look at", WEIGHTS)
    names = set(run.tensors.filter(~run.tensors["file"].str.contains("adapter"))["name"])
    table = next((n for n in names if n.endswith(("embed_tokens.weight", "wte.weight"))), None)
    whole = "weights.missing_shards" not in run.facts and "weights.not_copied" not in run.facts
    layers = any(re.search(r"\.(layers|h|blocks)\.\d+\.", n) for n in names)
    if table is None or not whole or not layers:
        return unobservable("Not all weights are here", WEIGHTS)
    if (other := _other_head(run, names)) is not None:
        return absent(f"The model has another head than one for tokens: `{other}`", tied)
    head = next((n for n in names if re.search(r"(^|\.)(lm_head|output|embed_out)\.", n)), None)
    if tied.value is False and head is None:
        return present("No output head is stored, and config.json says that none is tied", tied)
    return absent("The output head is stored or tied", tied)


def _other_head(run: Run, names: set[str]) -> str | None:
    """Return the class or the tensor by which a model writes no tokens: a score, a label, a vector.

    A class that config.json names decides; else a head of that name among the tensors.
    """
    stated = run.fact("model.architecture")
    if stated is not None and isinstance(stated.value, str):
        return None if _WRITES_TOKENS.search(stated.value) else stated.value
    return next((n for n in sorted(names) if _OTHER_HEAD.search(n)), None)


_WRITES_TOKENS = re.compile(r"ForCausalLM|ForConditionalGeneration|LMHead|ForImageTextToText|MTP")
_OTHER_HEAD = re.compile(r"(^|\.)(score|classifier|v_head|value_head|reward_head|qa_outputs)\.")


@detector("tensors.quantised_merge")
def quantised_merge(run: Run) -> Observation:
    """Find bitsandbytes tensors in full weights that are not the base: a merge into 4 or 8 bit."""
    if run.tensors.is_empty():
        return unobservable("No weight file to look at", WEIGHTS)
    marks = run.tensors.filter(
        run.tensors["name"].str.contains(r"\.(absmax|quant_map|quant_state|SCB)(\.|$)")
        & ~run.tensors["file"].str.contains(r"(?i)adapter|(^|/)base|original|checkpoint-")
    )
    if marks.is_empty():
        return absent("No tensor of the full weights is quantised")
    file, name = str(marks["file"][0]), str(marks["name"][0])
    fact = Fact("weights.quantised", name, Where(file, tensor=name))
    return present(
        f"`{file}` holds {plural(marks.height, 'tensor')} of bitsandbytes (`{name}`)", fact
    )


@detector("tensors.dtype_differs")
def dtype_differs(run: Run) -> Observation:
    """Find full weights stored mostly in another float type than config.json beside them names."""
    stated = run.fact("model.dtype")
    wanted = FLOATS.get(str(stated.value).removeprefix("torch.")) if stated else None
    if stated is None or wanted is None:
        return unobservable("config.json names no number type", "config.json")
    floats = _full_weights_beside(run, stated)
    floats = floats.filter(floats["dtype"].str.to_uppercase().is_in(list(FLOATS.values())))
    if floats.is_empty():
        return unobservable("No full weights lie beside config.json", WEIGHTS)
    sizes: dict[str, int] = {}
    for kind, size in zip(floats["dtype"], floats["nbytes"], strict=True):
        sizes[kind.upper()] = sizes.get(kind.upper(), 0) + (size or 0)
    most = max(sizes, key=lambda kind: (sizes[kind], kind))
    if most == wanted:
        return absent(f"The weights are {most}, as config.json says", stated)
    held = Fact("weights.dtype", most, Where(str(floats["file"][0])))
    return present(f"config.json says {stated.value}, the weights are mostly {most}", stated, held)


@detector("tensors.quantisation_left")
def quantisation_left(run: Run) -> Observation:
    """Find a config.json that calls weights quantised which are 16- or 32-bit floats throughout."""
    stated = run.fact("model.quantization_config")
    if stated is None or not stated.value:
        if run.fact("model.type") is None:
            return unobservable("No config.json was read", "config.json")
        return absent("config.json names no quantisation")
    own = _full_weights_beside(run, stated)
    if own.is_empty():
        return unobservable("No full weights lie beside config.json", WEIGHTS)
    if own["dtype"].str.to_uppercase().is_in(list(FLOATS.values())).all():
        return present("config.json names a quantisation, the weights are plain floats", stated)
    return absent("The weights are quantised, as config.json says", stated)


def _full_weights_beside(run: Run, fact: Fact) -> pl.DataFrame:
    """Return the tensors of safetensors files, adapters left out, in the folder of a fact."""
    folder = fact.where.path.rpartition("/")[0]
    files = run.tensors["file"]
    beside = files.str.extract(r"^(.*)/[^/]*$").fill_null("") == folder
    return run.tensors.filter(beside & ~files.str.contains(r"(?i)adapter|\.gguf$"))
