"""Metrics as CSV: Lightning's metrics.csv, Ray's progress.csv, exports, hand-written logs."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence

from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read.metrics_jsonl import EPOCH_KEYS, NOT_METRICS, STEP_KEYS
from ftdoctor.read.numeric import parse_number, whole
from ftdoctor.read.reading import MetricRow, Reading
from ftdoctor.read.source import Source

ROW_LIMIT = 5_000_000  # rows of one file
_DELIMITERS = ",;\t"
_TIME = frozenset({"timestamp", "_timestamp", "time", "created_at"})
_STEPS = frozenset(STEP_KEYS)
_EPOCHS = frozenset(name.lower() for name in EPOCH_KEYS)
EARLIEST = 1e9


def read_csv_log(source: Source) -> Reading:
    """Read a CSV with a step or epoch column: one metric row per line, empty cells left out."""
    return read_table(source, "csv")


def read_table(source: Source, curve: str) -> Reading:
    """Read a metrics table into rows of the given kind of curve."""
    rows: list[MetricRow] = []
    header: list[str] = []
    short = 0
    for line, cells in _records(source):
        # Lightning's older versions and concatenated files repeat the header.
        if not header or cells == header or _is_header(cells, header):
            header = cells
            continue
        if len(cells) < len(header):
            short = line
        row = _row(header, cells, line)
        if row is not None:
            rows.append(row)
        if len(rows) >= ROW_LIMIT:
            break
    if len(header) < 2:
        return Reading(ArtifactState.DAMAGED, "no table: its first line names no columns")
    if not rows:
        return Reading(ArtifactState.READ, "no numbers below the header", "nothing")
    cut = short == rows[-1].line or short > rows[-1].line
    last = next((row for row in reversed(rows) if row.step is not None), None)
    facts = [Fact("progress.started", True, Where(source.path, line=rows[0].line))]
    if last is not None:
        facts.append(Fact("progress.global_step", last.step, Where(source.path, line=last.line)))
    return Reading(
        state=ArtifactState.PARTIAL if cut else ArtifactState.READ,
        reason=f"cut in line {short}" if cut else "",
        taken=f"{len(rows)} metric rows",
        metrics=tuple(rows),
        facts=tuple(facts),
        curve=curve,
    )


def _records(source: Source) -> Iterator[tuple[int, list[str]]]:
    delimiter = ""
    for line, text in source.lines():
        if not text.strip():
            continue
        if not delimiter:
            delimiter = max(_DELIMITERS, key=text.count)
        try:
            cells = next(csv.reader([text], delimiter=delimiter))
        except (csv.Error, StopIteration):
            continue
        yield line, [cell.strip() for cell in cells]


def _is_header(cells: Sequence[str], header: Sequence[str]) -> bool:
    return len(set(cells) & set(header)) > len(header) / 2 and not any(
        parse_number(cell) is not None for cell in cells
    )


def _row(header: Sequence[str], cells: Sequence[str], line: int) -> MetricRow | None:
    values: dict[str, float] = {}
    step = epoch = time = None
    for name, cell in zip(header, cells, strict=False):
        value = parse_number(cell) if cell else None
        if value is None:
            continue
        lowered = name.lower()
        if lowered in _STEPS or name in _STEPS:
            step = whole(value) if step is None else step
        elif lowered in _EPOCHS:
            epoch = value
        elif lowered in _TIME:
            time = value if value > EARLIEST else time
        elif name not in NOT_METRICS and not name.startswith("config/"):
            # A table exported from W&B: `run name - train/loss`, with __MIN and __MAX beside it.
            if name.endswith(("__MIN", "__MAX")):
                continue
            values[name.rpartition(" - ")[2]] = value
    if not values:
        return None
    return MetricRow(values, line, step=step, epoch=epoch, time=time)
