"""Ray Train and Tune: result.json (JSON lines). progress.csv is read by `csv_log`."""

from __future__ import annotations

from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read.jsontext import Losses, json_lines
from ftdoctor.read.metrics_jsonl import row_of
from ftdoctor.read.numeric import whole
from ftdoctor.read.reading import MetricRow, Reading, flatten
from ftdoctor.read.source import Source

# What Tune adds to every result about itself.
_HOUSEKEEPING = frozenset(
    {"pid", "time_this_iter_s", "time_total_s", "time_since_restore", "iterations_since_restore",
     "timesteps_total", "episodes_total", "timesteps_since_restore", "should_checkpoint", "done",
     "warmup_time", "config", "hostname", "node_ip", "trial_id", "date"}
)  # fmt: skip


def read_result(source: Source) -> Reading:
    """Read result.json: a metric row per report, the trial's `config` as settings."""
    losses = Losses()
    rows: list[MetricRow] = []
    settings: list[Fact] = []
    facts: list[Fact] = []
    for line, record in json_lines(source, losses):
        if not isinstance(record, dict):
            continue
        if not settings and isinstance(record.get("config"), dict):
            where = Where(source.path, line=line)
            settings = [Fact(f.name, f.value, where) for f in flatten(record["config"], "")]
        kept = {key: value for key, value in record.items() if key not in _HOUSEKEEPING}
        row = row_of(kept, line)
        if row is not None:
            rows.append(row)
        step = whole(record.get("training_iteration"))
        if step is not None:
            facts = [Fact("progress.global_step", step, Where(source.path, line=line))]
    reason = losses.reason()
    if not rows:
        return Reading(ArtifactState.DAMAGED, reason or "no results")
    return Reading(
        state=ArtifactState.PARTIAL if reason else ArtifactState.READ,
        reason=reason,
        taken=f"{len(rows)} metric rows",
        metrics=tuple(rows),
        settings=tuple(settings),
        facts=(*facts, Fact("run.trainer", "ray", Where(source.path, line=1))),
        curve="ray",
    )
