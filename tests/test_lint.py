"""Lint: every fault of form is found, and the library has none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ftdoctor.library import load
from ftdoctor.lint import advised, lint
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


def test_opposite_advice_on_one_setting_must_be_excluded() -> None:
    one, other = LIBRARY.causes["dataloader-bottleneck"], LIBRARY.causes["host-memory-leak"]
    assert ("dataloader_num_workers", "up") in advised(one)
    assert ("dataloader_num_workers", "down") in advised(other)
    open_pair = (replace(one, excludes=()), replace(other, excludes=()))
    found = lint(replace(LIBRARY, symptoms={}, causes={c.id: c for c in open_pair}))
    assert any("host-memory-leak, whose advice on dataloader_num_workers" in f for f in found)


def test_one_setting_has_one_name_in_all_trainers() -> None:
    assert ("max_length", "up") in advised(LIBRARY.causes["truncation-cuts-answer"])
    assert ("learning_rate", "up") in advised(LIBRARY.causes["lr-too-low"])
