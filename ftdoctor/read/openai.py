"""OpenAI fine-tuning: the step metrics table (also base64), events, and the job object."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read.csv_log import read_table
from ftdoctor.read.jsontext import Losses, json_lines, loads
from ftdoctor.read.numeric import number, numbers, whole
from ftdoctor.read.reading import Event, MetricRow, Reading, flatten
from ftdoctor.read.source import Source, decode, memory_source

_EVENT, _JOB = "fine_tuning.job.event", "fine_tuning.job"
_ENDINGS = {"succeeded": "finished", "failed": "exit", "cancelled": "killed"}


def read_step_metrics(source: Source) -> Reading:
    """Read the result file of a job; the API hands it out as base64 text."""
    if b"," in source.head(200):
        return read_table(source, "openai")
    try:
        plain = base64.b64decode(source.data(), validate=False)
    except (binascii.Error, ValueError) as error:
        return Reading(ArtifactState.DAMAGED, f"neither a table nor base64 ({error})")
    if b"," not in plain[:200]:
        reason = "neither a table nor base64 of one: download it again"
        return Reading(ArtifactState.DAMAGED, reason)
    return read_table(memory_source(source.path, plain, source.modified), "openai")


def read_openai(source: Source) -> Reading:
    """Read events (lines, or the API's list) and job objects: curve, messages, how it ended."""
    losses = Losses()
    job = _Job(source.path)
    for line, record in _objects(source, losses):
        if record.get("object") == _EVENT:
            job.event(record, line)
        elif record.get("object") == _JOB:
            job.job(record, line)
    reason = losses.reason()
    if not job.seen:
        return Reading(ArtifactState.DAMAGED, reason or "no event and no job in it")
    rows = tuple(sorted(job.rows, key=lambda row: row.step or 0))
    return Reading(
        state=ArtifactState.PARTIAL if reason else ArtifactState.READ,
        reason=reason,
        taken=f"{len(rows)} metric rows, {len(job.events)} events",
        metrics=rows,
        events=tuple(sorted(job.events, key=lambda event: event.time or 0.0)),
        settings=tuple(job.settings),
        facts=(*job.facts, Fact("run.trainer", "openai", Where(source.path, line=1))),
        curve="openai" if rows else "",
    )


def _objects(source: Source, losses: Losses) -> Iterator[tuple[int, Mapping[str, Any]]]:
    try:
        whole_file = loads(decode(source.data()))
    except ValueError:
        pairs: Iterator[tuple[int, Any]] = json_lines(source, losses)
    else:
        pairs = iter([(1, whole_file)])
    for line, value in pairs:
        listed = isinstance(value, dict) and value.get("object") == "list"
        found = value.get("data") if listed else value
        for record in found if isinstance(found, list) else [found]:
            if isinstance(record, dict):
                yield line, record


class _Job:
    """Gathers the events and the state of one job."""

    def __init__(self, path: str) -> None:
        self.rows: list[MetricRow] = []
        self.events: list[Event] = []
        self.settings: list[Fact] = []
        self.facts: list[Fact] = []
        self.seen = 0
        self._path = path

    def event(self, record: Mapping[str, Any], line: int) -> None:
        """Take one event: metrics become a row, warnings and errors an event."""
        self.seen += 1
        time = number(record.get("created_at"))
        data = record.get("data")
        if record.get("type") == "metrics" and isinstance(data, dict):
            step, total = whole(data.get("step")), whole(data.get("total_steps"))
            values = {k: v for k, v in numbers(data).items() if k not in ("step", "total_steps")}
            if values:
                self.rows.append(MetricRow(values, line, step=step, time=time))
            if total:
                self._fact("progress.max_steps", total, line)
            return
        message = str(record.get("message", ""))
        kind = {"warn": "warning", "error": "exit"}.get(str(record.get("level")))
        if kind is None and "successfully completed" in message:
            kind = "finished"
            self._fact("progress.finished", True, line)
        if kind is None and "started" in message:
            kind = "started"
        if kind is not None:
            self.events.append(Event(kind, message, line, time=time))

    def job(self, record: Mapping[str, Any], line: int) -> None:
        """Take the job object: its settings, status and error."""
        self.seen += 1
        where = Where(self._path, line=line)
        status = str(record.get("status", ""))
        if status:
            self._fact("run.status", status, line)
        if status == "succeeded":
            self._fact("progress.finished", True, line)
        error = record.get("error")
        text = f"job {status}"
        if isinstance(error, dict) and error.get("message"):
            text = f"{error.get('code') or 'error'}: {error['message']}"
        if status in _ENDINGS:
            time = number(record.get("finished_at"))
            self.events.append(Event(_ENDINGS[status], text, line, time=time))
        given = record.get("hyperparameters")
        if isinstance(given, dict):
            self.settings += [replace(f, where=where) for f in flatten(given, self._path)]
        if record.get("model"):
            self.settings.append(Fact("model", record["model"], where))

    def _fact(self, name: str, value: Any, line: int) -> None:
        self.facts.append(Fact(name, value, Where(self._path, line=line)))
