"""Histories of hand-written loops: JSON of one list per metric (as Keras' History) or of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ftdoctor.model import ArtifactState
from ftdoctor.read.jsontext import loads
from ftdoctor.read.numeric import number, whole
from ftdoctor.read.reading import MetricRow, Reading
from ftdoctor.read.rows import WATCHED
from ftdoctor.read.source import Source, decode

ROW_LIMIT = 1_000_000  # rows of one history
STEPS, EPOCHS = ("global_step", "step", "steps", "iteration", "iter"), ("epoch", "epochs")


def read_history(source: Source) -> Reading:
    """Read the rows of a history; lists of other lengths than the longest keep their own count."""
    try:
        value = loads(decode(source.data()))
    except ValueError as error:
        return Reading(ArtifactState.DAMAGED, f"not valid JSON ({error}): write the file again")
    rows = tuple(_of_rows(value) if isinstance(value, list) else _of_columns(value))
    if not rows:
        return Reading(ArtifactState.PARTIAL, "holds no list of losses or other metrics")
    return Reading(taken=f"{len(rows):,} metric rows", metrics=rows, curve="metrics")


def _of_rows(value: list[Any]) -> Iterator[MetricRow]:
    for record in value[:ROW_LIMIT]:
        if isinstance(record, dict):
            row = _row({str(k): n for k, v in record.items() if (n := number(v)) is not None})
            if row is not None:
                yield row


def _of_columns(value: Any) -> Iterator[MetricRow]:
    """Turn lists into rows; those as long as the list of steps or epochs lie at its places."""
    lists = {
        str(name): [number(item) for item in items[:ROW_LIMIT]]
        for name, items in (value.items() if isinstance(value, dict) else ())
        if isinstance(items, list)
    }
    for length in sorted({len(items) for items in lists.values()}):
        columns = {name: items for name, items in lists.items() if len(items) == length}
        for index in range(length):
            given = {n: v for n, items in columns.items() if (v := items[index]) is not None}
            row = _row(given, count=index + 1)
            if row is not None:
                yield row


def _row(values: Mapping[str, float], count: int | None = None) -> MetricRow | None:
    """Make a row of named numbers, None if none of them is watched in training."""
    step = next((whole(values[name]) for name in STEPS if name in values), None)
    epoch = next((values[name] for name in EPOCHS if name in values), None)
    rest = {name: v for name, v in values.items() if name not in STEPS + EPOCHS}
    if not any(WATCHED.search(name) for name in rest):
        return None
    return MetricRow(rest, step=count if step is None and epoch is None else step, epoch=epoch)
