"""What was read from a run, as plain data and as text: files, settings, series, facts."""

from __future__ import annotations

import math
from typing import Any

from ftdoctor.model import Fact, Run

VALUE_WIDTH = 72


def describe(run: Run) -> dict[str, Any]:
    """Return everything that was read as plain data, without the rows themselves."""
    return {
        "name": run.name,
        "root": run.root,
        "artifacts": [
            {
                "path": a.path,
                "kind": a.kind,
                "bytes": a.size,
                "state": str(a.state),
                "reason": a.reason,
                "taken": a.taken,
            }
            for a in run.artifacts
        ],
        "settings": {name: _facts(facts) for name, facts in run.settings.items()},
        "facts": {name: _facts(facts) for name, facts in run.facts.items()},
        "series": [_series(run, name, split) for name, split in run.series_names()],
        "events": run.events.height,
        "lines": run.lines.height,
        "tensors": run.tensors.height,
        "data_rows": run.data.height,
        "redactions": dict(run.redactions),
    }


def _facts(facts: tuple[Fact, ...]) -> list[dict[str, Any]]:
    return [{"value": _plain(fact.value), "where": str(fact.where)} for fact in facts]


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _series(run: Run, name: str, split: str) -> dict[str, Any]:
    series = run.series(name, split)
    assert series is not None  # the name comes from series_names
    finite = [float(v) for v in series.values if math.isfinite(v)]
    return {
        "name": name,
        "split": split,
        "points": len(series),
        "first_step": int(series.steps[0]),
        "last_step": int(series.steps[-1]),
        "first": _plain(float(series.values[0])),
        "last": _plain(float(series.values[-1])),
        "lowest": min(finite) if finite else None,
        "highest": max(finite) if finite else None,
        "non_finite": len(series) - len(finite),
        "sessions": int(series.segments.max()) + 1,
        "path": series.path,
    }


def render_show(run: Run) -> str:
    """Return the description as text for a terminal."""
    found = describe(run)
    parts = [f"{found['name']}  ({found['root']})", "", "Files"]
    parts += _table([_file_row(a) for a in found["artifacts"]])
    parts += ["", "Settings (the first source is the one that counts)"]
    parts += _table(_fact_rows(found["settings"]))
    parts += ["", "Series"]
    parts += _table([_series_row(s) for s in found["series"]])
    parts += ["", "Facts"]
    parts += _table(_fact_rows(found["facts"]))
    counts = ("events", "lines", "tensors", "data_rows")
    parts += ["", ", ".join(f"{found[key]:,} {key.replace('_', ' ')}" for key in counts)]
    if found["redactions"]:
        removed = ", ".join(f"{count} {kind}" for kind, count in found["redactions"].items())
        parts.append(f"removed before reading on: {removed}")
    return "\n".join(parts)


def _file_row(artifact: dict[str, Any]) -> list[str]:
    told = artifact["taken"] or artifact["reason"]
    if artifact["taken"] and artifact["reason"]:
        told = f"{artifact['taken']}; {artifact['reason']}"
    return [
        artifact["path"],
        artifact["kind"] or "-",
        f"{artifact['bytes']:,}",
        artifact["state"],
        told,
    ]


def _fact_rows(facts: dict[str, list[dict[str, Any]]]) -> list[list[str]]:
    return [
        [name if index == 0 else "", _short(entry["value"]), entry["where"]]
        for name, entries in facts.items()
        for index, entry in enumerate(entries)
    ]


def _series_row(series: dict[str, Any]) -> list[str]:
    name = series["name"] if series["split"] == "train" else f"{series['split']}/{series['name']}"
    span = f"{series['first_step']}..{series['last_step']}"
    values = f"{_short(series['first'])} -> {_short(series['last'])}"
    notes = [f"{series['non_finite']} not finite"] if series["non_finite"] else []
    notes += [f"{series['sessions']} sessions"] if series["sessions"] > 1 else []
    return [
        name,
        f"{series['points']} points",
        f"steps {span}",
        values,
        series["path"],
        ", ".join(notes),
    ]


def _short(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value).replace("\n", "\\n")
    return text if len(text) <= VALUE_WIDTH else text[: VALUE_WIDTH - 1] + "…"


def _table(rows: list[list[str]]) -> list[str]:
    if not rows:
        return ["  none"]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return [
        "  "
        + "  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]
