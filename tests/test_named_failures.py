"""Every failure that users named: found where it is, not found where it only looks like it."""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from ftdoctor.diagnose import diagnose_run, gather
from ftdoctor.evaluate import ALARM, Label, load_labels
from ftdoctor.library import load
from ftdoctor.model import Diagnosis

ROOT = Path(__file__).parents[1]
FIXTURES = ROOT / "fixtures"
LIBRARY = load()
LABELS = {label.id: label for label in load_labels(FIXTURES)}


def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rows", FIXTURES / "rows.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


ROWS = module()
COVERED = ROWS.covered(LIBRARY, FIXTURES)
SHOWN = [(row, name) for row, found in COVERED.items() for name in found.shown]
CLEAN = [(row, name) for row, found in COVERED.items() for name in found.clean]


@cache
def diagnosed(name: str) -> Diagnosis:
    label: Label = LABELS[name]
    return diagnose_run(gather(label.path, label.options(), LIBRARY), LIBRARY)


def listed(row: str, name: str) -> dict[str, float]:
    """Return the probabilities of the causes and the advice that serve a row."""
    diagnosis = diagnosed(name)
    serving = COVERED[row].causes
    return {c.id: c.probability for c in (*diagnosis.causes, *diagnosis.advice) if c.id in serving}


@pytest.mark.parametrize("row", ROWS.ROWS)
def test_no_cell_of_the_table_is_empty(row: str) -> None:
    found = COVERED[row]
    assert found.causes or row in ROWS.BY_REPORT
    assert found.shown, "no fixture shows it"
    assert found.clean, "no look-alike"


def test_the_page_is_current() -> None:
    assert ROWS.PAGE.read_text(encoding="utf-8") == ROWS.page(LIBRARY, FIXTURES)


@pytest.mark.parametrize(("row", "name"), [s for s in SHOWN if s[0] not in ROWS.BY_REPORT])
def test_the_row_is_found_in_the_run_that_shows_it(row: str, name: str) -> None:
    found = listed(row, name)
    assert max(found.values(), default=0.0) >= 0.5, found


@pytest.mark.parametrize(("row", "name"), [c for c in CLEAN if c[0] not in ROWS.BY_REPORT])
def test_the_row_is_not_found_in_its_look_alike(row: str, name: str) -> None:
    found = listed(row, name)
    assert max(found.values(), default=0.0) <= ALARM, found


@pytest.mark.parametrize("name", [n for r, n in SHOWN if r == "B12"])
def test_several_causes_are_ranked_with_a_probability_each(name: str) -> None:
    diagnosis = diagnosed(name)
    assert len([c for c in diagnosis.causes if c.probability >= ALARM]) >= 1
    probabilities = [c.probability for c in diagnosis.causes]
    assert all(0 < p < 1 for p in probabilities)
    assert set(LABELS[name].also) <= {c.id for c in diagnosis.causes if c.probability >= 0.5}


@pytest.mark.parametrize("name", [n for r, n in SHOWN if r == "C10"])
def test_told_outcomes_enter_as_findings_and_a_next_check_is_named(name: str) -> None:
    diagnosis = diagnosed(name)
    told = [f for f in diagnosis.findings if f.text.startswith("You have seen")]
    assert len(told) == len(LABELS[name].given["observed"])
    assert diagnosis.next_checks


@pytest.mark.parametrize("name", [n for r, n in SHOWN if r == "D14"])
def test_what_the_run_used_is_told(name: str) -> None:
    figures = next(p.data for p in diagnosed(name).panels if p.kind == "cost")
    assert figures["device_hours"] > 0
    price = LABELS[name].given["price"]
    assert figures["cost"] == pytest.approx(figures["device_hours"] * price, abs=0.02)


@pytest.mark.parametrize("name", [n for r, n in CLEAN if r == "D14"])
def test_no_price_is_invented(name: str) -> None:
    for panel in diagnosed(name).panels:
        assert "cost" not in panel.data or panel.kind != "cost"


@pytest.mark.parametrize(
    ("option", "row"),
    [("--production-sample", "D1"), ("--benchmark", "D10"), ("--ground-truth", "A1"),
     ("--baseline", "D6")],
)  # fmt: skip
def test_what_needs_a_file_from_outside_is_listed_with_its_option(option: str, row: str) -> None:
    diagnosis = diagnosed("lr-too-high/full")
    named = [u for u in diagnosis.unchecked if any(option in m for m in u.missing)]
    serving = {c for u in named for c in u.causes}
    assert serving & set(COVERED[row].causes)


def test_every_fixture_is_small() -> None:
    for path in FIXTURES.rglob("expected.json"):
        size = sum(p.stat().st_size for p in path.parent.rglob("*") if p.is_file())
        assert size < 600_000, path.parent
        assert json.loads(path.read_text())["why"]
