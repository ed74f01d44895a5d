"""Lengths that scripts print of samples before and after training, in several wordings."""

from __future__ import annotations

import pytest

from ftdoctor.detect.grown import after_training
from ftdoctor.examples import run_from_example
from ftdoctor.model import State


def state(*lines: str) -> State:
    return after_training(run_from_example({"lines": list(lines)}), times=1.5).state


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[before] {} tokens | Yes", "[after] {} tokens | Yes"),
        ("base model, len={}: Yes", "tuned model, len={}: Yes"),
        ("vorher: {} Wörter", "nachher: {} Wörter"),
        ("before training - {} words", "after: {} words"),
        ("avant: mots={}", "après: mots={}"),
    ],
)
def test_wordings(before: str, after: str) -> None:
    short = [before.format(n) for n in (30, 40, 50)]
    assert state(*short, *[after.format(n) for n in (80, 90, 100)]) is State.PRESENT
    assert state(*short, *[after.format(n) for n in (31, 42, 50)]) is State.ABSENT


def test_one_sample_of_either_side_tells_nothing() -> None:
    assert state("before: 30 tokens", "after: 90 tokens") is State.UNOBSERVABLE
    assert state("mean before: 30 tokens", "mean after: 90 tokens") is State.PRESENT
    assert state("after 100 steps: 90 tokens") is State.UNOBSERVABLE
