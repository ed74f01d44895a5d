"""The generated files are current, and every row of the failure catalogue is accounted for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ftdoctor.catalogue import generated, schema
from ftdoctor.explain import explain
from ftdoctor.folders import folder
from ftdoctor.library import _documents, load

LIBRARY = load()
ROOT = Path(__file__).parents[1]
KNOWLEDGE = ROOT.parent / "shared" / "knowledge"


@pytest.mark.parametrize("name", ["README.md", "schema.json"])
def test_the_generated_file_is_current(name: str) -> None:
    current = (folder("signatures") / name).read_text(encoding="utf-8")
    assert current == generated()[name], "run: python -m ftdoctor.catalogue"


def test_every_signature_fits_the_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    whole = schema()
    checks = {
        kind: jsonschema.Draft202012Validator({"$defs": whole["$defs"], "$ref": f"#/$defs/{kind}"})
        for kind in ("symptom", "cause")
    }
    wrong = []
    for path in sorted(folder("signatures").rglob("*.yaml")):
        for document in _documents(path.read_text(encoding="utf-8"), path.name, []):
            kind = "symptom" if "symptom" in document.data else "cause"
            errors = checks[kind].iter_errors(document.data)
            wrong += [f"{path.name} {document.data[kind]}: {e.message[:200]}" for e in errors]
    assert wrong == []


def test_the_schema_refuses_what_the_loader_refuses() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    whole = schema()
    check = jsonschema.Draft202012Validator(whole)
    assert not check.is_valid({"symptom": "x", "title": "X", "leak": 2, "detect": "log.matches"})
    assert not check.is_valid({"symptom": "x", "title": "X", "leak": 0.1, "detekt": "log.matches"})
    assert check.is_valid({"symptom": "x", "title": "X", "leak": 0.1, "detect": "log.matches"})


def test_an_alias_is_explained() -> None:
    assert explain(LIBRARY, "missing-package") == explain(
        LIBRARY, "missing-dependency-in-requirements"
    )


@pytest.mark.skipif(not KNOWLEDGE.is_dir(), reason="the failure catalogue is not here")
def test_every_row_of_the_failure_catalogue_is_a_cause_an_alias_or_a_listed_exception() -> None:
    known = {name for c in LIBRARY.causes.values() for name in (c.id, *c.aliases)}
    known |= set(re.findall(r"`([a-z0-9-]+)`", (ROOT / "docs/not-observable.md").read_text()))
    # Sections that are tables for reading ("0.1 ...", "F.2 ...") have no id.
    row = re.compile(r"^### +`?([a-z][a-z0-9-]+)`?\s*$", re.MULTILINE)
    parts = sorted(KNOWLEDGE.glob("[123]-*.md"))
    rows = [name for part in parts for name in row.findall(part.read_text(encoding="utf-8"))]
    assert len(rows) > 330
    assert [name for name in rows if name not in known] == []
