"""End-of-run aggregates: all_results.json, train_results.json, eval_results.json and the like."""

from __future__ import annotations

from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read.jsontext import loads
from ftdoctor.read.numeric import number
from ftdoctor.read.reading import Reading
from ftdoctor.read.source import Source, decode

FIELD_LIMIT = 1000  # a table of results per task is larger; it is not an aggregate of training


def read_results(source: Source) -> Reading:
    """Read a flat JSON object of aggregates as `summary.*` facts, none as a point of a curve."""
    text = decode(source.data())
    try:
        values = loads(text)
    except ValueError as error:
        reason = f"not valid JSON ({error}): the save was interrupted"
        return Reading(ArtifactState.DAMAGED, reason)
    if not isinstance(values, dict):
        return Reading(taken="no aggregates: not a JSON object")
    lines = {part.split('"')[1]: n for n, part in enumerate(text.split("\n"), 1) if '"' in part}
    facts = [
        Fact(f"summary.{key}", value, Where(source.path, line=lines.get(key, 1)))
        for key, raw in list(values.items())[:FIELD_LIMIT]
        if (value := number(raw)) is not None
    ]
    if "train_runtime" in values:
        facts.append(
            Fact("progress.finished", True, Where(source.path, line=lines.get("train_runtime", 1)))
        )
    return Reading(taken=f"{len(facts)} aggregates", facts=tuple(facts))
