"""Causes as SARIF 2.1.0 results for code scanning: one per cause, at the lines it rests on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from ftdoctor.model import ArtifactState, Diagnosis, Edit, RankedCause, Severity, Where
from ftdoctor.render import text as words
from ftdoctor.render.evidence import shown, shown_advice, supporting

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LOCATIONS = 20  # code scanning takes 1,000 per result and shows 100
TEXT = 1000
_SEVERITY = {  # GitHub's security-severity bands have no meaning here; `level` carries it
    Severity.CRITICAL: "error",
    Severity.HIGH: "error",
    Severity.MEDIUM: "warning",
    Severity.LOW: "note",
}


def render_sarif(d: Diagnosis) -> dict[str, Any]:
    """Return a SARIF log for `json.dumps`: each cause from 5% on and each advice is one result."""
    ranked = [*shown(d), *shown_advice(d)]
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": _driver(d, ranked)},
                "automationDetails": {"id": f"ftdoctor/{words.one_line(d.run.name, 100)}"},
                "columnKind": "utf16CodeUnits",
                "invocations": [
                    {
                        "executionSuccessful": d.verdict.kind != "unreadable",
                        "toolExecutionNotifications": [
                            _notification(a.path, a.reason)
                            for a in d.artifacts
                            if a.state is ArtifactState.DAMAGED
                        ],
                    }
                ],
                "results": [_result(d, cause, index) for index, cause in enumerate(ranked)],
                "properties": {
                    "verdict": words.one_line(d.verdict.text, TEXT),
                    "inputDigest": d.input_digest,
                    "signatureDigest": d.signature_digest,
                },
            }
        ],
    }


def _driver(d: Diagnosis, ranked: Iterable[RankedCause]) -> dict[str, Any]:
    driver: dict[str, Any] = {"name": "ftdoctor", "rules": [_rule(cause) for cause in ranked]}
    if d.versions.get("ftdoctor"):
        driver["version"] = d.versions["ftdoctor"]
    return driver


def _rule(cause: RankedCause) -> dict[str, Any]:
    rule: dict[str, Any] = {
        "id": cause.id,
        "shortDescription": {"text": words.one_line(cause.title, TEXT)},
        "fullDescription": {"text": words.one_line(cause.mechanism, TEXT) or cause.title},
        "help": {"text": words.one_line(cause.fix, TEXT) or cause.title},
        "defaultConfiguration": {"level": _SEVERITY[cause.severity]},
        "properties": {"tags": [cause.stage, cause.severity.value]},
    }
    links = [link for link in cause.references if link.startswith("https://")]
    return {**rule, "helpUri": links[0]} if links else rule


def _result(d: Diagnosis, cause: RankedCause, index: int) -> dict[str, Any]:
    places = _places(d, cause)
    result: dict[str, Any] = {
        "ruleId": cause.id,
        "ruleIndex": index,
        "level": _level(cause),
        "rank": round(cause.probability * 100, 1),
        "message": {"text": _message(d, cause)},
        "locations": [_location(where) for where in places[:LOCATIONS]],
        "partialFingerprints": {"cause/v1": f"{cause.id}:{d.run.name}"},
        "properties": {"probability": cause.probability, "prior": cause.prior},
    }
    if cause.edit:
        result["fixes"] = [_fix(cause, cause.edit)]
    return result


def _level(cause: RankedCause) -> str:
    """Return the severity's level, lowered to a note for what is only possible."""
    if cause.probability < words.POSSIBLE:
        return "note"
    likely = _SEVERITY[cause.severity]
    return "warning" if likely == "error" and cause.probability < words.PROBABLE else likely


def _message(d: Diagnosis, cause: RankedCause) -> str:
    told = [f"{words.one_line(cause.title, 200)} ({words.percent(cause.probability)})."]
    told += [f"{words.one_line(f.text or f.title, 250)}." for _, f in supporting(d, cause)[:3]]
    told.append(words.one_line(cause.setting_fix or words.sentence(cause.fix), 300))
    return " ".join(part.replace("..", ".") for part in told if part)


def _places(d: Diagnosis, cause: RankedCause) -> list[Where]:
    """Return the places of a cause, the line to change first, each once."""
    first = [Where(cause.edit.path, line=cause.edit.line)] if cause.edit else []
    evidence = [fact.where for _, f in supporting(d, cause) for fact in f.facts]
    return list(dict.fromkeys([*first, *evidence]))


def _uri(path: str) -> str:
    return quote(path.replace("\\", "/").lstrip("/"), safe="/", errors="replace")


def _location(where: Where) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": {"uri": _uri(where.path)}}
    if where.line is not None and where.line > 0:
        physical["region"] = {"startLine": where.line}
    elif where.offset is not None and where.offset >= 0:
        physical["region"] = {"byteOffset": where.offset}
    return {"physicalLocation": physical}


def _fix(cause: RankedCause, edit: Edit) -> dict[str, Any]:
    lines = max(edit.before.count("\n") + 1, 1)
    inserted = {"insertedContent": {"text": edit.after + "\n"}} if edit.after else {}
    region = {
        "startLine": edit.line,
        "startColumn": 1,
        "endLine": edit.line + lines,
        "endColumn": 1,
    }
    return {
        "description": {"text": words.one_line(cause.setting_fix or cause.title, 300)},
        "artifactChanges": [
            {
                "artifactLocation": {"uri": _uri(edit.path)},
                "replacements": [{"deletedRegion": region, **inserted}],
            }
        ],
    }


def _notification(path: str, reason: str) -> dict[str, Any]:
    told = words.one_line(f"{path} could not be read: {reason}", TEXT)
    return {"level": "warning", "message": {"text": told}}
