"""Reports by class and confusion matrices that an evaluation printed."""

from __future__ import annotations

import pytest

from ftdoctor.detect.report import minority_missed
from ftdoctor.examples import run_from_example
from ftdoctor.model import Observation, State

HEADER = "              precision    recall  f1-score   support\n\n"
AVERAGES = """
    accuracy                           0.97      2000
   macro avg       0.48      0.50      0.49      2000
weighted avg       0.94      0.97      0.95      2000
"""


def seen(text: str) -> Observation:
    return minority_missed(run_from_example({"files": {"eval.log": text}}))


def test_rare_classes_that_are_never_found() -> None:
    found = seen(
        f"{HEADER}  not spam       0.97      1.00      0.98      1940\n"
        f"      spam       0.00      0.00      0.00        60\n{AVERAGES}"
    )
    assert found.state is State.PRESENT
    assert "0 of 60 rows" in found.text
    assert "97%" in found.text
    assert str(found.facts[0].where) == "eval.log:4"


@pytest.mark.parametrize("before", ["> ", "2025-03-02 10:11:12,004 INFO ", "[rank0]: "])
def test_report_behind_a_prefix(before: str) -> None:
    rows = "          ok       0.97      1.00      0.98      1940\n        spam 0.00 0.00 0.00 60\n"
    text = "".join(f"{before}{line}\n" for line in (HEADER.rstrip() + "\n" + rows).splitlines())
    assert seen(text).state is State.PRESENT


def test_the_last_report_counts() -> None:
    early = f"{HEADER}  ok  0.97  1.00  0.98  1940\n  spam  0.00  0.00  0.00  60\n{AVERAGES}"
    late = f"{HEADER}  ok  0.99  0.99  0.99  1940\n  spam  0.80  0.75  0.77  60\n{AVERAGES}"
    assert seen(early + late).state is State.ABSENT
    assert seen(late + early).state is State.PRESENT


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (
            "Confusion Matrix:\n[[2896    0    0]\n [  82    0    0]\n [  28    0    0]]\n",
            "present",
        ),
        ("confusion_matrix: [[1940, 0], [59, 1]]\n", "present"),
        ("Confusion Matrix:\n[[2890    6]\n [  10   72]]\n", "absent"),
        ("Confusion Matrix:\n[[500    0]\n [ 500    0]]\n", "unobservable"),
        ("Confusion Matrix:\n[[500    0    3]\n [ 500    0    1]]\n", "unobservable"),
        ("input_ids\n[[2896    0]\n [  82    0]]\n", "unobservable"),
        ("{'eval_loss': 0.4, 'eval_precision': 0.9}\n", "unobservable"),
    ],
)
def test_confusion_matrices(text: str, state: str) -> None:
    assert seen(text).state.value == state
