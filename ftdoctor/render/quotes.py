"""Take the run's own text out of a diagnosis, for a report that may leave the company."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ftdoctor.model import Diagnosis, Fact, Finding, Moment, Panel, RankedCause

HIDDEN = "(not quoted)"
SAFE_VALUE = re.compile(r"[\w.+:/-]{0,24}")  # a setting's value such as bf16, cosine or 2e-4
_QUOTED = re.compile(r"`[^`\n]*`|“[^”\n]*”|\"[^\"\n]*\"|(?<!\w)'[^'\n]*'(?!\w)")


def without_quotes(d: Diagnosis) -> Diagnosis:
    """Return the diagnosis without text of the run's files: data, code, log lines, outputs.

    Numbers, names of files and settings, and short one-word values remain: they are the evidence.
    """
    unnamed = d.verdict.kind == "unknown"  # the lead then is a finding, else titles of causes
    return replace(
        d,
        verdict=replace(d.verdict, lead=_told(d.verdict.lead)) if unnamed else d.verdict,
        causes=tuple(_cause(c) for c in d.causes),
        advice=tuple(_cause(c) for c in d.advice),
        findings=tuple(_finding(f) for f in d.findings),
        timeline=tuple(_moment(m) for m in d.timeline),
        panels=tuple(_panel(p) for p in d.panels),
    )


def count_quotes(d: Diagnosis) -> tuple[int, int]:
    """Return how many lines of files and how many data rows a diagnosis quotes."""
    values = {
        (str(fact.where), fact.value)
        for finding in d.findings
        for fact in finding.facts
        if isinstance(fact.value, str) and not SAFE_VALUE.fullmatch(fact.value)
    }
    edits = {(c.edit.path, c.edit.line) for c in (*d.causes, *d.advice) if c.edit}
    lines = sum(max(len(str(value).splitlines()), 1) for _, value in values) + len(edits)
    return lines, sum(p.kind == "tokens" for p in d.panels)


def _told(text: str) -> str:
    """Hide what a sentence quotes; names of settings and files in backticks remain."""
    return _QUOTED.sub(lambda m: m[0] if SAFE_VALUE.fullmatch(m[0][1:-1]) else "(…)", text)


def _fact(fact: Fact) -> Fact:
    return replace(fact, value=_value(fact.value))


def _value(value: Any) -> Any:
    if isinstance(value, str):
        return value if SAFE_VALUE.fullmatch(value) else HIDDEN
    if isinstance(value, list | tuple | Mapping):
        return HIDDEN
    return value


def _finding(finding: Finding) -> Finding:
    return replace(finding, text=_told(finding.text), facts=tuple(_fact(f) for f in finding.facts))


def _cause(cause: RankedCause) -> RankedCause:
    return replace(cause, edit=None)


def _moment(moment: Moment) -> Moment:
    literal = moment.kind in ("traceback", "warning", "killed", "exit", "started")
    return replace(moment, text=moment.kind if literal else _told(moment.text))


def _panel(panel: Panel) -> Panel:
    if panel.kind in ("lengths", "cost"):
        return panel
    if panel.kind == "labels":
        counts = panel.data.get("counts")
        named = counts.values() if isinstance(counts, Mapping) else ()
        return replace(panel, data={"counts": {f"label {i}": n for i, n in enumerate(named, 1)}})
    return Panel(panel.kind, panel.title, {"hidden": HIDDEN})
