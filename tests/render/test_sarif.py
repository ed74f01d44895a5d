"""SARIF: the fields that code scanning asks for, one result per cause."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftdoctor.render.sarif import render_sarif
from tests.render.hostile import TEXTS, fill
from tests.render.samples import SAMPLES, healthy, nothing_readable, one_cause

EVERY = pytest.mark.parametrize("name", SAMPLES)


def results(log: dict[str, Any]) -> list[dict[str, Any]]:
    found = log["runs"][0]["results"]
    assert isinstance(found, list)
    return found


@pytest.fixture(scope="module")
def published() -> Any:
    """Return a validator by the schema that OASIS publishes (sarif-spec, 2.1/schema, errata 01)."""
    jsonschema = pytest.importorskip("jsonschema", reason="comes with the extra `dev`")
    schema = json.loads((Path(__file__).parent / "schemas" / "sarif-2.1.0.json").read_text())
    return jsonschema.Draft4Validator(schema)


@EVERY
def test_the_published_schema_takes_it(name: str, published: Any) -> None:
    errors = [e.message for e in published.iter_errors(render_sarif(SAMPLES[name]()))]
    assert errors == []


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_the_published_schema_takes_hostile_text(text: str, published: Any) -> None:
    log = json.loads(json.dumps(render_sarif(fill(one_cause(), text))))
    assert [e.message for e in published.iter_errors(log)] == []


def test_the_published_schema_refuses_what_is_wrong(published: Any) -> None:
    log = render_sarif(one_cause())
    log["runs"][0]["results"][0]["level"] = "fatal"
    assert list(published.iter_errors(log))


@EVERY
def test_the_log_is_complete(name: str) -> None:
    d = SAMPLES[name]()
    log = render_sarif(d)
    json.dumps(log, allow_nan=False)
    assert log["version"] == "2.1.0"
    rules = log["runs"][0]["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    for result in results(log):
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note")
        assert result["message"]["text"]
        for location in result["locations"]:
            uri = location["physicalLocation"]["artifactLocation"]["uri"]
            assert uri
            assert not uri.startswith("/")
            assert location["physicalLocation"].get("region", {}).get("startLine", 1) >= 1


def test_results_stand_at_their_lines() -> None:
    top, second, advice = results(render_sarif(one_cause()))
    places = [
        (p["physicalLocation"]["artifactLocation"]["uri"],
         p["physicalLocation"].get("region", {}).get("startLine"))
        for p in top["locations"]
    ]  # fmt: skip
    assert places[0] == ("train.py", 118)
    assert ("trainer_state.json", 2471) in places
    assert (top["level"], second["level"], advice["level"]) == ("error", "note", "note")
    assert top["rank"] == 94.0
    replacement = top["fixes"][0]["artifactChanges"][0]["replacements"][0]
    assert replacement["insertedContent"]["text"] == "    fp16=False,\n"
    assert replacement["deletedRegion"] == {
        "startLine": 118, "startColumn": 1, "endLine": 119, "endColumn": 1}  # fmt: skip


def test_healthy_and_unreadable_runs_have_no_root_cause() -> None:
    assert [r["ruleId"] for r in results(render_sarif(healthy()))] == ["no-evaluation"]
    log = render_sarif(nothing_readable())
    assert results(log) == []
    invocation = log["runs"][0]["invocations"][0]
    assert not invocation["executionSuccessful"]
    assert "trainer_state.json" in invocation["toolExecutionNotifications"][0]["message"]["text"]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_hostile_text_makes_valid_uris(text: str) -> None:
    log = render_sarif(fill(one_cause(), text))
    for result in results(log):
        for location in result["locations"]:
            uri = location["physicalLocation"]["artifactLocation"]["uri"]
            assert uri.isascii()
            assert " " not in uri
            assert "<" not in uri
