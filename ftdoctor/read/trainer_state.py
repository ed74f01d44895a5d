"""trainer_state.json of the HF Trainer: one metric row per entry of log_history, with its line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read.jsontext import loads
from ftdoctor.read.numeric import number, numbers, whole
from ftdoctor.read.reading import Event, MetricRow, Reading
from ftdoctor.read.source import Source, decode

_HISTORY = re.compile(r'"log_history"\s*:\s*\[')
_SKIP = re.compile(r"[\s,]*")
_DECODER = json.JSONDecoder()
# `train_runtime` marks the row that the Trainer writes once, when train() returns.
FINAL = "train_runtime"
_POSITION = frozenset({"step", "epoch"})
_STATE_FIELDS = (
    "best_metric",
    "best_model_checkpoint",
    "best_global_step",
    "logging_steps",
    "eval_steps",
    "save_steps",
    "num_train_epochs",
    "train_batch_size",
    "num_input_tokens_seen",
    "total_flos",
)
_PROGRESS_FIELDS = ("global_step", "max_steps", "epoch")
_SETTINGS = ("num_train_epochs", "logging_steps")


@dataclass(frozen=True, slots=True)
class History:
    """The rows of log_history with their lines; `end` is the offset after the list, -1 if cut."""

    rows: tuple[tuple[int, Mapping[str, Any]], ...]
    start: int
    end: int


def read_trainer_state(source: Source) -> Reading:
    """Read a trainer_state.json; of a cut file the complete rows are taken (state partial)."""
    text = decode(source.data())
    if not text.strip("\0 \r\n\t"):
        return Reading(ArtifactState.DAMAGED, "empty file: the save was interrupted")
    history = _history(text)
    fields = _fields(text, history)
    if fields is None:
        reason = "no JSON object: the save was interrupted, take an earlier checkpoint's state"
        return Reading(ArtifactState.DAMAGED, reason)
    metrics = [_row(line, row) for line, row in history.rows if FINAL not in row]
    final = next(((line, row) for line, row in reversed(history.rows) if FINAL in row), None)
    lines = _Lines(text, source.path)
    facts = _facts(fields, lines)
    if final:
        facts += _summary(final, source.path)
    if final or _reached_end(fields):
        facts.append(Fact("progress.finished", True, lines.where("global_step")))
    if metrics:
        facts.append(Fact("progress.started", True, Where(source.path, line=metrics[0].line)))
    cut = history.end < 0 and history.start >= 0
    kept = tuple(row for row in metrics if row.values)
    return Reading(
        state=ArtifactState.PARTIAL if cut else ArtifactState.READ,
        reason=(
            f"cut after {len(history.rows)} complete rows: the save was interrupted or the copy "
            "is partial"
            if cut
            else ""
        ),
        taken=f"{len(kept)} metric rows",
        metrics=kept,
        events=tuple(_events(fields, lines)),
        settings=tuple(
            Fact(name, fields[name], lines.where(name))
            for name in _SETTINGS
            if fields.get(name) is not None
        ),
        facts=tuple(facts),
        curve="state",
    )


class _Lines:
    """Finds the line of a top-level key (indent 2, as the Trainer writes it)."""

    def __init__(self, text: str, path: str) -> None:
        self._text, self._path = text, path

    def where(self, key: str) -> Where:
        found = re.search(rf'^  "{re.escape(key)}"\s*:', self._text, re.MULTILINE)
        if not found:
            return Where(self._path, pointer=f"/{key}")
        return Where.in_text(self._path, self._text, found.start())


def _history(text: str) -> History:
    found = _HISTORY.search(text)
    if not found:
        return History((), -1, -1)
    rows: list[tuple[int, Mapping[str, Any]]] = []
    at, counted, line = found.end(), 0, 1
    while True:
        skip = _SKIP.match(text, at)
        at = skip.end() if skip else at
        if text.startswith("]", at):
            return History(tuple(rows), found.start(), at + 1)
        try:
            row, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            return History(tuple(rows), found.start(), -1)
        line += text.count("\n", counted, at)
        counted = at
        at = end
        if isinstance(row, dict):
            rows.append((line, row))


def _fields(text: str, history: History) -> Mapping[str, Any] | None:
    """Return the object without its rows; of a cut file the fields before the rows."""
    if history.start < 0:
        candidates = [text]
    elif history.end < 0:
        candidates = [text[: history.start] + '"log_history": []}']
    else:
        head, tail = text[: history.start], text[history.end :]
        candidates = [f'{head}"log_history": []{tail}', f'{head}"log_history": []}}']
    for candidate in candidates:
        try:
            value = loads(candidate)
        except ValueError:
            continue
        if isinstance(value, dict):
            return value
    return None


def _row(line: int, row: Mapping[str, Any]) -> MetricRow:
    values = {name: value for name, value in numbers(row).items() if name not in _POSITION}
    return MetricRow(values, line, step=whole(row.get("step")), epoch=number(row.get("epoch")))


def _facts(fields: Mapping[str, Any], lines: _Lines) -> list[Fact]:
    named = [("progress", name) for name in _PROGRESS_FIELDS]
    named += [("state", name) for name in _STATE_FIELDS]
    return [
        Fact(f"{group}.{name}", fields[name], lines.where(name))
        for group, name in named
        if fields.get(name) is not None
    ]


def _summary(final: tuple[int, Mapping[str, Any]], path: str) -> list[Fact]:
    line, row = final
    where = Where(path, line=line)
    return [
        Fact(f"summary.{name}", value, where)
        for name, value in numbers(row).items()
        if name not in _POSITION
    ]


def _reached_end(fields: Mapping[str, Any]) -> bool:
    done, planned = whole(fields.get("global_step")), whole(fields.get("max_steps"))
    return bool(done and planned and planned > 0 and done >= planned)


def _events(fields: Mapping[str, Any], lines: _Lines) -> list[Event]:
    """Tell an early stop from the saved state of EarlyStoppingCallback (transformers >= 4.43)."""
    callbacks = fields.get("stateful_callbacks")
    early = callbacks.get("EarlyStoppingCallback") if isinstance(callbacks, dict) else None
    if isinstance(early, list):
        early = early[0] if early else None
    if not isinstance(early, dict):
        return []
    arguments, attributes = early.get("args") or {}, early.get("attributes") or {}
    patience = whole(arguments.get("early_stopping_patience"))
    count = whole(attributes.get("early_stopping_patience_counter"))
    if patience is None or count is None or count < patience:
        return []
    step = whole(fields.get("global_step"))
    text = f"stopped early: no better metric in {count} evaluations (patience {patience})"
    return [Event("finished", text, lines.where("stateful_callbacks").line or 0, step)]
