"""Metrics as JSON lines: Tinker, LLaMA-Factory, verl, ms-swift, anything with a step per line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read import thin
from ftdoctor.read.jsontext import Losses, json_lines
from ftdoctor.read.numeric import number, numbers, whole
from ftdoctor.read.reading import MetricRow, Reading
from ftdoctor.read.source import Source

ROW_LIMIT = 5_000_000  # rows of one file
# Names of the step, most exact first: `_step` of W&B counts log() calls, not optimizer steps.
STEP_KEYS = (
    "train/global_step",
    "trainer/global_step",
    "global_step",
    "current_steps",
    "step",
    "training_iteration",
    "iteration",
    "iter",
    "it",
    "steps",
    "progress/batch",
    "_step",
)
EPOCH_KEYS = ("epoch", "train/epoch", "current_epoch", "Epoch")
TIME_KEYS = ("_timestamp", "timestamp", "time")
PLANNED_KEYS = ("total_steps", "max_steps")
# Tinker and tinker-cookbook tell the share of the run that is done.
SHARE_KEYS = ("progress/done_frac", "progress")
_PAIR_KEY = "global_step/max_steps"  # ms-swift: "8275/11043"
_PAIR = re.compile(r"\s*(\d+)\s*/\s*(\d+)\s*")
NOT_METRICS = frozenset(
    {*STEP_KEYS, *EPOCH_KEYS, *TIME_KEYS, *PLANNED_KEYS, *SHARE_KEYS, "percentage", _PAIR_KEY,
     "_runtime", "run_id", "seed", "rank", "pid"}
)  # fmt: skip
EARLIEST = 1e9  # a `time` below it (2001) is a duration, not a moment


def read_metrics_jsonl(source: Source) -> Reading:
    """Read a log of JSON lines, rows in order of occurrence; of a damaged file what is whole.

    Of a file above 16 MB some thousand rows are kept: see `thin.keep`.
    """
    losses = Losses()
    rows: list[MetricRow] = []
    state = _Seen()
    counted: list[int] = []
    long = source.size > thin.LONG
    lines = thin.json_lines_of_long(source, losses, counted) if long else json_lines(source, losses)
    for line, value in lines:
        for record in value if isinstance(value, list) else (value,):
            if not isinstance(record, dict):
                continue
            in_training = state.look(line, record)
            row = row_of(record, line)
            if row is not None:
                rows.append(row if in_training else replace(row, step=None))
        if len(rows) >= ROW_LIMIT:
            break
    reason = losses.reason()
    if not rows and not state.rows:
        empty = "no JSON objects" + (f": {reason}" if reason else "")
        return Reading(ArtifactState.DAMAGED, empty)
    return Reading(
        state=ArtifactState.PARTIAL if reason else ArtifactState.READ,
        reason=reason,
        taken=f"{len(rows)} metric rows" + (f" of {counted[0]:,} lines" if counted else ""),
        metrics=tuple(rows),
        facts=tuple(state.facts(source.path)),
        curve="trainer-log" if state.llama_factory else "metrics",
    )


def read_timing_spans(source: Source) -> Reading:
    """Read tinker's timing_spans.jsonl: seconds of each named part of a step, as `time/<name>`."""
    losses = Losses()
    rows = []
    for line, record in json_lines(source, losses):
        if not isinstance(record, dict) or not isinstance(record.get("spans"), list):
            continue
        values: dict[str, float] = {}
        for span in record["spans"]:
            duration = number(span.get("duration")) if isinstance(span, dict) else None
            if duration is not None:
                name = f"time/{span.get('name')}"
                values[name] = values.get(name, 0.0) + duration
        if values:
            rows.append(MetricRow(values, line, step=whole(record.get("step"))))
    reason = losses.reason()
    return Reading(
        state=ArtifactState.PARTIAL if reason else ArtifactState.READ,
        reason=reason,
        taken=f"{len(rows)} timed steps",
        metrics=tuple(rows),
        curve="timing",
    )


def row_of(record: Mapping[str, Any], line: int) -> MetricRow | None:
    """Return one record's metric row, None if it holds no metric."""
    data = record.get("data")
    if isinstance(data, dict) and "step" in record:
        # verl's file logger is written by orjson, which turns NaN into null.
        inner = {key: float("nan") if value is None else value for key, value in data.items()}
        record = {"step": record["step"], **inner}
    values = {name: value for name, value in numbers(record).items() if name not in NOT_METRICS}
    if not values:
        return None
    return MetricRow(values, line, step=step_of(record), epoch=_epoch(record), time=_time(record))


def step_of(record: Mapping[str, Any]) -> int | None:
    """Return the optimizer step of a record under whichever name it has."""
    pair = record.get(_PAIR_KEY)
    if isinstance(pair, str) and (found := _PAIR.fullmatch(pair)):
        return int(found.group(1))
    for key in STEP_KEYS:
        if key in record and (step := whole(record[key])) is not None:
            return step
    return None


def _epoch(record: Mapping[str, Any]) -> float | None:
    for key in EPOCH_KEYS:
        if key in record and (epoch := number(record[key])) is not None:
            return epoch
    return None


def _time(record: Mapping[str, Any]) -> float | None:
    for key in TIME_KEYS:
        if key in record and (time := number(record[key])) is not None and time > EARLIEST:
            return time
    return None


class _Seen:
    """Gathers what the records tell about the run's progress."""

    def __init__(self) -> None:
        self.rows = 0
        self.llama_factory = False
        self._line = 0
        self._step: int | None = None
        self._epoch: float | None = None
        self._planned: tuple[int, int] | None = None
        self._trainer = ""

    def look(self, line: int, record: Mapping[str, Any]) -> bool:
        """Take a record; return False if its step counts an evaluation's batches.

        LLaMA-Factory's evaluation after training counts its own batches in the same fields.
        """
        self.rows += 1
        total = whole(record.get("total_steps"))
        if total and self._planned and total < self._planned[0] and record.get("loss") is None:
            return False
        step = step_of(record)
        if step is not None:
            self._step, self._line = step, line
        epoch = _epoch(record)
        self._epoch = epoch if epoch is not None else self._epoch
        planned = _planned(record, step)
        if planned:
            self._planned = planned, line
        if "current_steps" in record and "total_steps" in record:
            self.llama_factory, self._trainer = True, "llama-factory"
        elif "train_mean_nll" in record or "progress/done_frac" in record:
            self._trainer = "tinker"
        return True

    def facts(self, path: str) -> list[Fact]:
        where = Where(path, line=self._line or None)
        facts = [Fact("progress.started", True, where)]
        if self._step is not None:
            facts.append(Fact("progress.global_step", self._step, where))
        if self._epoch is not None:
            facts.append(Fact("progress.epoch", self._epoch, where))
        if self._planned:
            total, line = self._planned
            facts.append(Fact("progress.max_steps", total, Where(path, line=line)))
        if self._trainer:
            facts.append(Fact("run.trainer", self._trainer, where))
        return facts


def _planned(record: Mapping[str, Any], step: int | None) -> int | None:
    pair = record.get(_PAIR_KEY)
    if isinstance(pair, str) and (found := _PAIR.fullmatch(pair)):
        return int(found.group(2))
    for key in PLANNED_KEYS:
        if key in record and (total := whole(record[key])):
            return total
    for key in SHARE_KEYS:
        share = number(record.get(key))
        # Tinker counts batches from 0 and tells the share after the batch.
        if step is not None and share and 0 < share <= 1:
            return round((step + 1) / share)
    return None
