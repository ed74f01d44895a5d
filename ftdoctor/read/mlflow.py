"""MLflow: the file store's metric, parameter and meta files, and the SQLite store."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing

from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read.numeric import parse_number
from ftdoctor.read.reading import Event, MetricRow, Reading
from ftdoctor.read.source import Source

# RunStatus of mlflow/protos/service.proto.
STATUS = {1: "running", 2: "scheduled", 3: "finished", 4: "failed", 5: "killed"}
_KIND = {"finished": "finished", "failed": "exit", "killed": "killed"}
DATABASE_LIMIT = 256 << 20  # bytes of mlflow.db
DATABASE_HEADER = 100  # bytes, of every SQLite 3 file
ROW_LIMIT = 2_000_000  # metric rows of one run
INSTRUCTION_LIMIT = 200_000_000  # of SQLite's machine for one query, some 10 s
_WHOLE = re.compile(r"[-+]?[0-9]{1,18}")  # what fits 64 bits
_META = re.compile(r"(?m)^(status|start_time|end_time|run_name): *(.*?)\s*$")


def read_metric(source: Source) -> Reading:
    """Read `metrics/<key>`: lines of milliseconds, value and step (none in the oldest form)."""
    name = source.path.rpartition("/metrics/")[2] or source.name
    rows, bad = [], 0
    for line, text in source.lines():
        parts = text.split()
        value = parse_number(parts[1]) if len(parts) >= 2 else None
        if value is None or not _WHOLE.fullmatch(parts[0]):
            bad = line if parts else bad
            continue
        step = int(parts[2]) if len(parts) > 2 and _WHOLE.fullmatch(parts[2]) else None
        rows.append(MetricRow({name: value}, line, step=step, time=float(parts[0]) / 1000))
    if not rows:
        return Reading(ArtifactState.DAMAGED, "no line of the form `<ms> <value> <step>`")
    return Reading(
        state=ArtifactState.PARTIAL if bad else ArtifactState.READ,
        reason=f"line {bad} is not a metric: the writer was stopped" if bad else "",
        taken=f"{len(rows)} values",
        metrics=tuple(rows),
        curve="mlflow",
    )


def read_param(source: Source) -> Reading:
    """Read `params/<key>`: one value."""
    name = source.path.rpartition("/params/")[2] or source.name
    value = source.text(1 << 20).strip()
    return Reading(
        taken="1 setting", settings=(Fact(name, _value(value), Where(source.path, line=1)),)
    )


def read_meta(source: Source) -> Reading:
    """Read a run's meta.yaml: how it ended, and when."""
    text = source.text(1 << 20)
    found = {m[1]: (m[2], text.count("\n", 0, m.start()) + 1) for m in _META.finditer(text)}
    raw, line = found.get("status", ("", 0))
    status = STATUS.get(int(raw)) if _WHOLE.fullmatch(raw) else raw.strip("'\"").lower() or None
    ended = found.get("end_time", ("", 0))[0]
    time = int(ended) / 1000 if _WHOLE.fullmatch(ended) else None
    if status is None:
        return Reading(taken="no status")
    return _ending(status, source.path, line, time)


def _ending(status: str, path: str, line: int, time: float | None) -> Reading:
    where = Where(path, line=line or None)
    facts = [Fact("run.status", status, where)]
    if status == "finished":
        facts.append(Fact("progress.finished", True, where))
    kind = _KIND.get(status)
    events = (Event(kind, f"MLflow status: {status}", line, time=time),) if kind else ()
    return Reading(taken=f"status {status}", facts=tuple(facts), events=events)


def read_database(source: Source) -> Reading:
    """Read the newest run with metrics of an mlflow.db; the file is never written to."""
    if source.size < DATABASE_HEADER:
        return Reading(ArtifactState.DAMAGED, "cut inside its header: copy the file again")
    if source.size > DATABASE_LIMIT:
        return Reading(ArtifactState.SKIPPED, f"larger than {DATABASE_LIMIT:,} bytes: not searched")
    try:
        with closing(_open(source)) as database:
            return _newest_run(database, source.path)
    except (sqlite3.Error, ValueError) as error:
        reason = f"{error}: copy the file again, with its -wal file, while MLflow is stopped"
        return Reading(ArtifactState.DAMAGED, reason)


def _open(source: Source) -> sqlite3.Connection:
    if source.local is not None:
        uri = f"{source.local.resolve().as_uri()}?mode=ro&immutable=1"
        database = sqlite3.connect(uri, uri=True)
    else:
        database = sqlite3.connect(":memory:")
        database.deserialize(source.data(DATABASE_LIMIT))
    database.execute("PRAGMA trusted_schema = OFF")
    # Without an index the newest run takes time quadratic in the rows: it is interrupted.
    database.set_progress_handler(lambda: 1, INSTRUCTION_LIMIT)
    return database


def _check_tables(database: sqlite3.Connection) -> None:
    """Refuse views and virtual tables in place of MLflow's own: they may never end."""
    wanted = [t for (t,) in database.execute(
        "SELECT name FROM sqlite_master WHERE name IN ('runs', 'metrics', 'params')"
        " AND type = 'table' AND sql NOT LIKE 'CREATE VIRTUAL%'"
    ).fetchmany(4)]  # fmt: skip
    if len(wanted) < 3:
        raise ValueError("not MLflow's tables runs, metrics and params")


def _newest_run(database: sqlite3.Connection, path: str) -> Reading:
    _check_tables(database)
    runs = database.execute(
        "SELECT r.run_uuid, r.status, r.end_time FROM runs r ORDER BY"
        " EXISTS (SELECT 1 FROM metrics m WHERE m.run_uuid = r.run_uuid) DESC, r.start_time DESC"
    ).fetchmany(1000)
    if not runs:
        return Reading(taken="no runs")
    run, status, ended = runs[0]
    ending = _ending(str(status).lower(), path, 0, ended / 1000 if ended else None)
    metrics = tuple(_metrics(database, run))
    settings = tuple(
        Fact(str(key), _value(str(value)), Where(path, pointer=f"/params/{key}"))
        for key, value in database.execute(
            "SELECT key, value FROM params WHERE run_uuid = ? LIMIT 10000", (run,)
        )
    )
    return Reading(
        reason=f"holds {len(runs)} runs: the newest is read" if len(runs) > 1 else "",
        taken=f"{len(metrics)} metric rows, {len(settings)} settings",
        metrics=metrics,
        events=ending.events,
        settings=settings,
        facts=ending.facts,
        curve="mlflow" if metrics else "",
    )


def _metrics(database: sqlite3.Connection, run: str) -> Iterator[MetricRow]:
    query = (
        "SELECT key, value, is_nan, step, timestamp FROM metrics WHERE run_uuid = ?"
        " ORDER BY timestamp, step LIMIT ?"
    )
    for key, value, is_nan, step, time in database.execute(query, (run, ROW_LIMIT)):
        if is_nan or value is not None:
            number = float("nan") if is_nan else float(value)
            yield MetricRow({str(key): number}, 0, step=step, time=time / 1000 if time else None)


def _value(text: str) -> object:
    words = {"True": True, "False": False, "None": None}
    if text in words:
        return words[text]
    number = parse_number(text) if "," not in text else None
    if number is None:
        return text
    return int(number) if _WHOLE.fullmatch(text) else number
