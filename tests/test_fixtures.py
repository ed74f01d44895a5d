"""Every fixture run gets its labelled cause first, and every healthy one stays clean."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftdoctor.diagnose import diagnose_run, gather
from ftdoctor.evaluate import ALARM, Label, load_labels
from ftdoctor.library import load
from ftdoctor.model import Diagnosis

LABELS = load_labels(Path(__file__).parents[1] / "fixtures")
LIBRARY = load()
FAULTY = [label for label in LABELS if label.healthy is False]
HEALTHY = [label for label in LABELS if label.healthy]


def diagnosed(label: Label) -> Diagnosis:
    return diagnose_run(gather(label.path, label.options(), LIBRARY), LIBRARY)


def said(diagnosis: Diagnosis) -> str:
    return ", ".join(f"{c.id} {c.probability:.2f}" for c in diagnosis.causes[:4]) or "nothing"


@pytest.mark.parametrize("label", FAULTY, ids=lambda label: label.id)
def test_the_labelled_cause_comes_first(label: Label) -> None:
    diagnosis = diagnosed(label)
    assert diagnosis.causes, diagnosis.verdict.text
    assert diagnosis.causes[0].id in label.causes, said(diagnosis)
    assert diagnosis.verdict.kind == "cause", said(diagnosis)
    listed = {c.id: c.probability for c in diagnosis.causes}
    assert all(listed.get(name, 0) >= 0.5 for name in label.also), said(diagnosis)


@pytest.mark.parametrize("label", HEALTHY, ids=lambda label: label.id)
def test_a_healthy_run_raises_no_alarm(label: Label) -> None:
    diagnosis = diagnosed(label)
    assert all(c.probability <= ALARM for c in diagnosis.causes), said(diagnosis)
    assert diagnosis.verdict.kind == "healthy", diagnosis.verdict.text


def test_there_are_enough_of_both() -> None:
    assert len({label.causes[0] for label in FAULTY}) >= 12
    assert len(HEALTHY) >= 6


@pytest.mark.parametrize("label", LABELS, ids=lambda label: label.id)
def test_labels_name_causes_that_exist(label: Label) -> None:
    assert not label.causes or set(label.causes) & set(LIBRARY.causes)
