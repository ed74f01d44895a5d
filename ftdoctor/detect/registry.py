"""Detector on LLaMA-Factory's registry of data sets: the keys it reads, and those of the rows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.rows import of_split, text_list
from ftdoctor.model import Fact, Observation, Run

LOOKED_AT = 100  # rows of a set
# LLaMA-Factory src/llamafactory/data/parser.py, class DatasetAttr: what holds without an entry.
COLUMN, ROLE, CONTENT = "conversations", "from", "value"


@detector("registry.tags_not_in_rows")
def tags_not_in_rows(run: Run) -> Observation:
    """Find a set in ShareGPT form whose turns have other keys than the registry reads.

    An entry without `tags` reads `from` and `value`.
    """
    seen: list[Fact] = []
    for name, entry, fact in _used(run):
        if entry.get("formatting") != "sharegpt":
            continue
        turns = list(_turns(run, entry))
        if not turns:
            continue
        seen.append(fact)
        read = _tags(entry)
        held = {key for turn in turns for key in turn}
        if not held & set(read):
            said = f"`{name}` reads {text_list(read)} of each turn, and the turns have"
            return present(f"{fact.where}: {said} {text_list(sorted(held))}", fact)
    if seen:
        return absent("The turns have the keys that the registry reads", seen[0])
    return unobservable("No set in ShareGPT form is here with its entry", "dataset_info.json")


def _used(run: Run) -> Iterator[tuple[str, Mapping[str, Any], Fact]]:
    setting = run.setting("dataset")
    names = set(re.split(r"[,\s]+", str(setting.value))) if setting else set()
    for fact in run.facts.get("data.registry", ()):
        for name, entry in fact.value.items():
            if isinstance(entry, dict) and (not names or name in names):
                yield name, entry, fact


def _tags(entry: Mapping[str, Any]) -> list[str]:
    tags = entry.get("tags")
    given = tags if isinstance(tags, dict) else {}
    return [str(given.get("role_tag", ROLE)), str(given.get("content_tag", CONTENT))]


def _turns(run: Run, entry: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the turns of the set's rows from the column that the registry names."""
    columns = entry.get("columns")
    column = str((columns if isinstance(columns, dict) else {}).get("messages", COLUMN))
    file = str(entry.get("file_name", "")).rsplit("/", 1)[-1]
    rows = of_split(run, "train").select("path", "record")
    chosen = (record for path, record in rows.iter_rows() if path.rsplit("/", 1)[-1] == file)
    for _, text in zip(range(LOOKED_AT), chosen, strict=False):
        record = json.loads(text)
        turns = record.get(column) if isinstance(record, dict) else None
        yield from (t for t in turns if isinstance(t, dict)) if isinstance(turns, list) else ()
