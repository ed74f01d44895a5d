"""Lint: every fault of form is found, and the library has none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ftdoctor.library import load
from ftdoctor.lint import lint
from ftdoctor.model import Cause, Library, Symptom

LIBRARY = load()
SYMPTOM = LIBRARY.symptoms["never-stops-generating"]
CAUSE = LIBRARY.causes["lr-too-high"]


def faults(item: Symptom | Cause) -> str:
    if isinstance(item, Symptom):
        return "\n".join(lint(Library({item.id: item}, {}, "")))
    return "\n".join(lint(Library({}, {item.id: item}, "")))


def test_the_library_has_no_faults() -> None:
    assert lint(LIBRARY) == []


@pytest.mark.parametrize(
    ("title", "fault"),
    [
        ("", "1 to 90"),
        ("A" * 91, "1 to 90"),
        ("Loss is zero.", "end with a stop"),
        ("loss is zero", "capital letter"),
    ],
)
def test_a_wrong_title_is_found(title: str, fault: str) -> None:
    assert fault in faults(replace(SYMPTOM, title=title))


def test_a_threshold_without_source_is_found() -> None:
    assert "`source`" in faults(replace(SYMPTOM, source="well known"))


def test_a_fix_that_names_nothing_is_found() -> None:
    vague = replace(CAUSE, fix="Try something else.", fix_for={}, patch=None)
    assert "`fix`" in faults(vague)
    assert "`fix`" not in faults(replace(vague, fix="Lower `learning_rate`."))


def test_a_cause_without_reference_is_found() -> None:
    assert "`references`" in faults(replace(CAUSE, references=()))


def test_a_long_verdict_is_found() -> None:
    assert "`verdict`" in faults(replace(CAUSE, verdict="word " * 20))
