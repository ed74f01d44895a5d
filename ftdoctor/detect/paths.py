"""Which data files the settings name, and whether one is here under a slightly other name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from pathlib import PurePosixPath
from typing import Any

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.wording import shown
from ftdoctor.model import Fact, Observation, Run

CONFIGURATION = "training configuration"
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt")
ALIKE = 0.85  # of the letters of two names, in order: a slip or two (judgement)
# axolotl's lists of sets, torchtune's and datasets' `data_files`, and the names of `read/names.py`.
_NAMING = re.compile(
    r"dataset|eval_dataset|(?:dataset\.|eval_dataset\.)?data_files"
    r"|(?:test_|pretraining_)?datasets\.\d+\.(?:path|data_files|ds_path|name)"
)
_ROLES = re.compile(
    r"train|valid(?:ation)?|val|dev|eval|tests?|held_?out|gold|prod|chosen|rejected|prefs?|dpo|sft"
)
_WORDS = re.compile(r"[^\W\d_]+|\d+")
# What tells two states of one file apart. A sample, or what another step makes of it, is another
# file: `raw`, `clean`, `small`.
_VERSION = re.compile(r"v|\d+|version|final|new|old|neu|alt|fixed|fix|copy|bak|backup|rev|latest")


def is_data_file(path: str) -> bool:
    """Say whether a path is that of a local file with rows."""
    return "://" not in path and path.lower().endswith(SUFFIXES)


def named_files(run: Run) -> list[Fact]:
    """Return the data files that settings, scripts and a registry name; values are paths."""
    found: list[Fact] = []
    for name, facts in run.settings.items():
        if _NAMING.fullmatch(name):
            found += [fact for setting in facts for fact in _paths(setting)]
    found += [path for f in run.facts.get("script.train.data_path", ()) for path in _paths(f)]
    return [*found, *_registered(run)]


def _paths(fact: Fact) -> Iterator[Fact]:
    values = fact.value if isinstance(fact.value, list) else [fact.value]
    for value in values:
        if isinstance(value, str) and is_data_file(value):
            yield Fact(fact.name, value.replace("\\", "/").removeprefix("./"), fact.where)


def _registered(run: Run) -> Iterator[Fact]:
    """Yield the files of those sets of LLaMA-Factory's registry that `dataset` names."""
    used = {
        name.strip()
        for setting in ("dataset", "eval_dataset")
        for fact in run.settings.get(setting, ())
        for name in str(fact.value).split(",")
    }
    for fact in run.facts.get("data.registry", ()):
        entries: Mapping[str, Any] = fact.value if isinstance(fact.value, dict) else {}
        folder = fact.where.path.rpartition("/")[0]
        for name in used & entries.keys():
            entry = entries[name]
            path = entry.get("file_name") if isinstance(entry, dict) else None
            if isinstance(path, str) and is_data_file(path):
                yield Fact("data.registry", f"{folder}/{path}".lstrip("/"), fact.where)


@detector("paths.near_namesake")
def near_namesake(run: Run) -> Observation:
    """Find a named data file that is not here, while one of almost its name is, and is not used.

    Judged only for a path within the run's own folders that no script there names, and only before
    training: a run that made steps has found its rows, and was stored without them.
    """
    named = named_files(run)
    if not named:
        return unobservable("No local data file is named in the settings", CONFIGURATION)
    stored = {a.path for a in run.artifacts if a.kind.startswith("data")}
    gone = [fact for fact in named if not _is_here(str(fact.value), stored)]
    if not gone:
        return absent(f"{shown(named[0].value)} is here", *named[:3])
    if not run.metrics.is_empty() or run.fact("progress.global_step") is not None:
        return absent(f"Training ran, so {shown(gone[0].value)} was there", gone[0])
    if maker := _maker(run, gone):
        return absent(f"{maker} names {shown(gone[0].value)} too, and may make it", gone[0])
    unused = [p for p in sorted(stored) if not any(_ends(str(f.value), p) for f in named)]
    for fact in gone:
        for path in unused:
            if _same_folder(str(fact.value), path) and _alike(str(fact.value), path):
                text = f"{shown(fact.value)} ({fact.where}) is not here; `{path}` is, and is unused"
                return present(text, fact)
    return absent(f"No file here has almost the name of {shown(gone[0].value)}", gone[0])


def _maker(run: Run, gone: list[Fact]) -> str:
    """Return a script that names one of the files, "" if none does."""
    names = {PurePosixPath(str(fact.value)).name for fact in gone}
    scripts = (a.path for a in run.artifacts if a.kind in ("script", "shell", "notebook"))
    return next((p for p in scripts if any(n in run.texts.get(p, "") for n in names)), "")


def _is_here(named: str, stored: set[str]) -> bool:
    return any(char in named for char in "*?[{$") or any(_ends(named, path) for path in stored)


def _ends(named: str, path: str) -> bool:
    """Say whether a path as named may mean this file: one of them ends with the other."""
    return f"/{path}".endswith(f"/{named}") or f"/{named}".endswith(f"/{path}")


def _same_folder(named: str, path: str) -> bool:
    """Say whether a file would lie beside this one and be of its kind."""
    folder, other = PurePosixPath(named).parent.name, PurePosixPath(path).parent.name
    suffix, kind = PurePosixPath(named).suffix.lower(), PurePosixPath(path).suffix.lower()
    alike = suffix == kind or {suffix, kind} == {".json", ".jsonl"}
    return folder == other and alike and not named.startswith(("..", "~"))


def _alike(named: str, path: str) -> bool:
    """Say whether two names differ by a slip, a version or an ending, and not in their role."""
    one, other = (PurePosixPath(p).stem.lower() for p in (named, path))
    if set(_ROLES.findall(one)) != set(_ROLES.findall(other)):
        return False
    words, others = _WORDS.findall(one), _WORDS.findall(other)
    if set(words) & set(others) and all(map(_VERSION.fullmatch, set(words) ^ set(others))):
        return True
    slip = SequenceMatcher(None, "".join(words), "".join(others)).ratio()
    return len(words) == len(others) and slip >= ALIKE
