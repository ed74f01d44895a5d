"""One row per run: what tables and the page show, small enough to hold for a whole fleet."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ftdoctor.fleet.record import Record
from ftdoctor.redact import encodable

SPARK = 46  # points of a sparkline (REPORT section 6)
UNNAMED = "unclassified-exception"  # the symptom of an exception that no signature knows
POSSIBLE = 0.40  # a second cause is named from here on, as in the verdict
PARQUET, CSV = "ftdoctor-triage.parquet", "ftdoctor-triage.csv"


@dataclass(frozen=True, slots=True)
class Spark:
    """A curve for a line as wide as a word: x from 0 to 1, values, onset (0 to 1), early end."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    onset: float | None = None
    early: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A run in a table. Times are Unix seconds; hours are device hours.

    `hours_lost` are those after the onset, all of them where the onset is unknown, none for a
    run without a failure. Fields whose metadata say `table: False` are for the page only.
    """

    run: str
    path: str
    kind: str
    cause: str = ""
    title: str = ""
    stage: str = ""
    severity: str = ""
    probability: float | None = None
    second_cause: str = ""
    second_probability: float | None = None
    onset_step: int | None = None
    onset_time: float | None = None
    device_hours: float | None = None
    hours_lost: float | None = None
    cost_lost: float | None = None
    steps_done: int | None = None
    steps_planned: int | None = None
    started: float | None = None
    ended: float | None = None
    modified: float | None = None
    ending: str = ""
    trainer: str = ""
    model: str = ""
    method: str = ""
    version_torch: str = ""
    version_transformers: str = ""
    version_trl: str = ""
    version_peft: str = ""
    version_accelerate: str = ""
    dataset: str = ""
    host: str = ""
    symptoms: str = ""
    reason: str = ""
    seconds: float = 0.0
    report: str = ""
    input_digest: str = ""
    key: str = field(default="", metadata={"table": False})
    part: str = field(default="", metadata={"table": False})
    fix: str = field(default="", metadata={"table": False})
    severities: tuple[str, ...] = field(default=(), metadata={"table": False})
    unexplained: tuple[str, ...] = field(default=(), metadata={"table": False})
    titles: Mapping[str, str] = field(default_factory=dict, metadata={"table": False})
    factors: Mapping[str, str] = field(default_factory=dict, metadata={"table": False})
    message: str = field(default="", metadata={"table": False})
    spark: Spark | None = field(default=None, metadata={"table": False})

    @property
    def time(self) -> float | None:
        """Return when the run ended, as well as it is known: by its log, else by its files."""
        return self.ended or self.modified

    @property
    def failed(self) -> bool:
        """Say whether the run shows a failure, of a known cause or not."""
        return self.kind in ("cause", "unknown")


COLUMNS = tuple(f.name for f in fields(Row) if f.metadata.get("table", True))


def row_of(record: Record) -> Row:
    """Return the row of a record, read from its plain data."""
    d = record.diagnosis
    run = d.get("run") or {}
    causes = d.get("causes") or []
    top = causes[0] if record.kind == "cause" and causes else {}
    second: Mapping[str, Any] = (
        next((c for c in causes[1:] if c["probability"] >= POSSIBLE), {}) if top else {}
    )
    span = top.get("span") or {}
    cost: Mapping[str, Any] = next(
        (p["data"] for p in d.get("panels") or [] if p["kind"] == "cost"), {}
    )
    lost, money = _lost(record.kind, cost)
    versions = run.get("versions") or {}
    findings = d.get("findings") or []
    unexplained = tuple(d.get("unexplained") or ())
    titles = {f["symptom"]: sys.intern(f["title"]) for f in findings if f["symptom"] in unexplained}
    return Row(
        run=str(run.get("name", "")),
        path=record.place.path,
        kind=record.kind,
        cause=sys.intern(str(top.get("id", ""))),
        title=sys.intern(str(top.get("title", ""))),
        stage=sys.intern(str(top.get("stage", ""))),
        severity=str(top.get("severity", "")),
        probability=top.get("probability"),
        second_cause=sys.intern(str(second.get("id", ""))),
        second_probability=second.get("probability"),
        onset_step=span.get("step"),
        onset_time=_finite(span.get("time")),
        device_hours=_finite(cost.get("device_hours")),
        hours_lost=lost,
        cost_lost=money,
        steps_done=run.get("steps_done"),
        steps_planned=run.get("steps_planned"),
        started=_finite(run.get("started")),
        ended=_finite(run.get("ended")),
        modified=record.place.modified,
        ending=sys.intern(str(run.get("ending", ""))),
        trainer=sys.intern(str(run.get("trainer", ""))),
        model=sys.intern(str(run.get("model", ""))),
        method=sys.intern(str(run.get("method", ""))),
        **{
            f"version_{name}": sys.intern(str(versions.get(name, "")))
            for name in ("torch", "transformers", "trl", "peft", "accelerate")
        },
        dataset=record.factors.get("dataset", ""),
        host=record.factors.get("host", ""),
        symptoms=" ".join(f["symptom"] for f in findings),
        reason=record.reason,
        seconds=round(record.seconds, 3),
        report=record.report,
        input_digest=record.input_digest,
        key=record.place.id,
        part=record.place.part,
        fix=sys.intern(str(top.get("setting_fix") or _first_sentence(str(top.get("fix", ""))))),
        severities=tuple(c["severity"] for c in causes if c["probability"] >= POSSIBLE),
        unexplained=unexplained,
        titles=titles,
        factors={sys.intern(k): sys.intern(v) for k, v in record.factors.items()},
        message=_message(findings),
        spark=_spark(d.get("curves") or [], run, span),
    )


def _message(findings: Sequence[Mapping[str, Any]]) -> str:
    facts = next((f.get("facts") or [] for f in findings if f["symptom"] == UNNAMED), [])
    return str(facts[0]["value"]) if facts else ""


def _lost(kind: str, cost: Mapping[str, Any]) -> tuple[float | None, float | None]:
    if kind not in ("cause", "unknown"):
        return (0.0 if kind == "healthy" else None), None
    hours = cost.get("device_hours_after_onset", cost.get("device_hours"))
    return _finite(hours), _finite(cost.get("cost_after_onset", cost.get("cost")))


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _first_sentence(text: str) -> str:
    from ftdoctor.diagnose import first_sentence

    return first_sentence(text) if text else ""


def _spark(
    curves: Sequence[Mapping[str, Any]], run: Mapping[str, Any], span: Mapping[str, Any]
) -> Spark | None:
    """Return the train loss, else the first curve; NaN and Inf are left out of the line."""
    named = [c for c in curves if c["name"] in ("loss", "reward") and c["split"] == "train"]
    curve = next(iter((*named, *curves)), None)
    if curve is None:
        return None
    points = [
        (step, value)
        for step, value in zip(curve["steps"], curve["values"], strict=True)
        if isinstance(value, int | float) and math.isfinite(value)
    ]
    if len(points) < 2:
        return None
    points = _evenly(points)
    planned, last = run.get("steps_planned") or 0, points[-1][0]
    end = max(planned, last, 1)
    step = span.get("step")
    return Spark(
        name=sys.intern(str(curve["name"])),
        x=tuple(round(s / end, 3) for s, _ in points),
        y=tuple(float(f"{v:.4g}") for _, v in points),
        onset=min(1.0, step / end) if isinstance(step, int) and step > 0 else None,
        early=bool(planned) and last < 0.95 * planned,
    )


def _evenly(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    if len(points) <= SPARK:
        return points
    last = len(points) - 1
    return [points[round(i * last / (SPARK - 1))] for i in range(SPARK)]


def write_tables(rows: Sequence[Row], folder: Path) -> None:
    """Write the CSV (header line first) and the Parquet file, each whole or not at all."""
    import io

    import polars as pl

    from ftdoctor.output import write_whole

    kinds = {str: pl.String, float: pl.Float64, int: pl.Int64}
    schema = {name: kinds[_column_type(name)] for name in COLUMNS}
    columns = {
        name: [encodable(v) if isinstance(v := getattr(row, name), str) else v for row in rows]
        for name in COLUMNS
    }
    frame = pl.DataFrame(columns, schema=schema, strict=False)
    parquet = io.BytesIO()
    frame.write_parquet(parquet)
    write_whole(folder / PARQUET, parquet.getvalue())
    write_whole(folder / CSV, "".join(_csv_lines(frame)))


def _column_type(name: str) -> type:
    text = next(str(f.type) for f in fields(Row) if f.name == name)
    return float if text.startswith("float") else int if text.startswith("int") else str


def _csv_lines(frame: Any) -> Iterator[str]:
    # A spreadsheet takes these first characters for a formula; the apostrophe makes them text.
    import polars as pl

    guarded = frame.with_columns(
        pl.when(pl.col(pl.String).str.contains(r"^[=+\-@\t\r]"))
        .then(pl.lit("'") + pl.col(pl.String))
        .otherwise(pl.col(pl.String))
        .name.keep()
    )
    yield guarded.write_csv()
