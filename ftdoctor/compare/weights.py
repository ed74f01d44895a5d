"""Differences of weight files: which tensors, of which shape and format, and whether equal."""

from __future__ import annotations

from ftdoctor.compare.difference import Difference, in_good
from ftdoctor.compare.named import Part
from ftdoctor.model import Artifact, Run, Where

KINDS = ("safetensors", "gguf", "torch-weights")
COUNTED = {  # facts whose lists or numbers are compared, with decibans for a change
    "weights.nan_tensors": ("tensors with NaN", 30.0),
    "weights.inf_tensors": ("tensors with infinities", 30.0),
    "weights.zero_tensors": ("matrices of zeros", 20.0),
    "weights.lora_b_zero": ("LoRA B matrices of zeros", 25.0),
    "weights.lora_rank": ("as LoRA rank", 8.0),
    "weights.lora_module_count": ("adapted modules", 8.0),
}


def compare_weights(good: Run, bad: Run) -> Part:
    """Return differences of tensors, counts and digests, and the names of what was compared."""
    parts = [_tensors(good, bad), _counts(good, bad), _digests(good, bad)]
    return [d for p in parts for d in p[0]], [n for p in parts for n in p[1]]


def _tensors(good: Run, bad: Run) -> Part:
    if good.tensors.is_empty() or bad.tensors.is_empty():
        return [], []
    left, right = _shapes(good), _shapes(bad)
    lost, added = sorted(set(left) - set(right)), sorted(set(right) - set(left))
    other = sorted(n for n in set(left) & set(right) if left[n] != right[n])
    if not (lost or added or other):
        return [], ["weights.tensors"]
    words = [
        f"{len(names)} {what}, as {names[0][-60:]}"
        for names, what in (
            (lost, "tensors of the good run are not here"),
            (added, "are only here"),
            (other, "have another shape or format"),
        )
        if names
    ]
    places = [Where(str(run.tensors["file"][0])) for run in (good, bad)]
    found = Difference(
        "weights", "tensors", len(left), len(right), 12.0, "; ".join(words),
        in_good(places[0]), places[1],
    )  # fmt: skip
    return [found], ["weights.tensors"]


def _shapes(run: Run) -> dict[str, tuple[str, str]]:
    """Return format and shape by tensor name; of several checkpoints the first file counts."""
    rows = run.tensors.unique("name", keep="first", maintain_order=True)
    return {
        str(name): (str(dtype), str(list(shape)))
        for name, dtype, shape in zip(rows["name"], rows["dtype"], rows["shape"], strict=True)
    }


def _counts(good: Run, bad: Run) -> Part:
    found: list[Difference] = []
    seen: list[str] = []
    for name, (words, surprise) in COUNTED.items():
        left, right = good.fact(name), bad.fact(name)
        if not left or not right:
            continue
        key = name.partition(".")[2]
        seen.append(f"weights.{key}")
        counts = [len(v) if isinstance(v := f.value, list | tuple) else v for f in (left, right)]
        if counts[0] != counts[1]:
            text = f"{counts[1]} {words}, in the good run {counts[0]}"
            found.append(
                Difference(
                    "weights",
                    key,
                    counts[0],
                    counts[1],
                    surprise,
                    text,
                    in_good(left.where),
                    right.where,
                )
            )
    return found, seen


def _digests(good: Run, bad: Run) -> Part:
    """Tell weight files that are the same though the runs, or the checkpoints, are not."""
    left, right = _files(good), _files(bad)
    if not left or not right:
        return [], []
    steps = [r.fact("progress.global_step") for r in (good, bad)]
    moved = bool(steps[0] and steps[1] and steps[0].value != steps[1].value)
    same = [(left[d], a) for d, a in right.items() if d in left]
    if not same:
        return [], ["weights.identical"]
    here, there = same[0][1], same[0][0]
    text = f"{here.path} holds the same weights as {there.path} of the good run"
    found = Difference(
        "weights", "identical", False, True, 25.0 if moved else 3.0, text,
        in_good(Where(there.path)), Where(here.path),
    )  # fmt: skip
    return [found], ["weights.identical"]


def _files(run: Run) -> dict[str, Artifact]:
    return {a.digest: a for a in run.artifacts if a.kind in KINDS and a.digest}
