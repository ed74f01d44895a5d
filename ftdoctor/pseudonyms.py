"""Replace the names of run, project and data sets by neutral ones, the same name everywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from ftdoctor.codec import decode_diagnosis, encode
from ftdoctor.model import Diagnosis, Run

SHORTEST = 3  # characters; a shorter name would be found inside everything
NAMED_BY = {
    "run": ("run_name", "wandb.run_name", "output_dir", "experiment_name"),
    "project": ("project", "wandb_project", "wandb.project", "wandb.entity", "entity",
                "hub_model_id", "hub.model_id", "swanlab_project"),
    "dataset": ("dataset", "eval_dataset", "test_dataset"),
}  # fmt: skip
# Names that say nothing, and words of our own sentences: replaced, they would spoil the report.
COMMON = frozenset({
    "run", "runs", "data", "dataset", "datasets", "train", "training", "trainer", "valid",
    "validation", "eval", "evaluation", "test", "out", "output", "outputs", "model", "models",
    "result", "results", "checkpoint", "checkpoints", "log", "logs", "default", "json", "jsonl",
    "csv", "text", "parquet", "loss", "main", "home", "work", "workspace", "huggingface", "none",
    "null", "true", "false",
})  # fmt: skip
# What the program itself says: ids, kinds and enumerations are compared, not read.
_OWN = frozenset({
    "id", "symptom", "state", "kind", "severity", "stage", "role", "group", "schema_version",
    "input_digest", "signature_digest", "digest", "explained_by", "beneath", "references",
    "ending", "trainer",
})  # fmt: skip


def names_of(run: Run) -> dict[str, str]:
    """Return the names of a run with what takes their place, as `run-1`, `dataset-2`."""
    found: dict[str, str] = {}
    for kind in NAMED_BY:
        count = 0
        for name in _candidates(run, kind):
            if name not in found and len(name) >= SHORTEST and name.lower() not in COMMON:
                count += 1
                found[name] = f"{kind}-{count}"
    return found


def _candidates(run: Run, kind: str) -> Iterator[str]:
    if kind == "run":
        yield run.name
    for setting in NAMED_BY[kind]:
        for fact in (*run.settings.get(setting, ()), *run.facts.get(setting, ())):
            for text in _texts(fact.value):
                yield from _parts(text)
    if kind == "dataset":
        for fact in run.facts.get("data.file", ()):
            yield from _parts(fact.where.path)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, Mapping):
        yield from _texts([value.get(key) for key in ("path", "name", "data_files")])


def _parts(text: str) -> Iterator[str]:
    """Yield the names in `owner/name`, `data/name.jsonl`: each part, without its extension."""
    if "\n" in text or len(text) > 300:
        return
    for part in PurePosixPath(text.replace("\\", "/")).parts:
        yield re.sub(r"(?:\.(?:jsonl?|csv|tsv|parquet|arrow|txt|gz|zst|ya?ml))+$", "", part).strip(
            "./~ "
        )


def hide_names(diagnosis: Diagnosis, names: Mapping[str, str]) -> Diagnosis:
    """Return the diagnosis with each name replaced wherever it stands as a word of its own."""
    if not names:
        return diagnosis
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    pattern = re.compile(
        r"(?<![A-Za-z0-9])(?:" + "|".join(map(re.escape, longest_first)) + r")(?![A-Za-z0-9])"
    )

    def told(value: Any, key: str = "") -> Any:
        if isinstance(value, str):
            return value if key in _OWN else pattern.sub(lambda m: names[m[0]], value)
        if isinstance(value, list):
            return [told(item, key) for item in value]
        if isinstance(value, dict):
            return {k: told(inner, k) for k, inner in value.items()}
        return value

    return decode_diagnosis(told(encode(diagnosis)))
