"""The floor that label smoothing gives a loss."""

from __future__ import annotations

import math

import pytest

from ftdoctor.detect.smoothing import at_floor, entropy
from ftdoctor.examples import run_from_example
from ftdoctor.model import State


def test_the_floor_is_the_entropy_of_the_target() -> None:
    target = [0.7 + 0.1, 0.1, 0.1]  # 0.3 smoothed over 3
    assert entropy(0.3, 3) == pytest.approx(-sum(p * math.log(p) for p in target))


def test_a_loss_far_above_its_floor_does_not_stand_on_it() -> None:
    given = {"settings": {"label_smoothing_factor": 0.1}, "facts": {"model.vocab_size": 32000}}
    for losses, state in (
        ([3.0, 2.0, 1.6, 1.45, 1.4, 1.38], State.PRESENT),
        ([3.0, 2.8, 2.6, 2.5, 2.4, 2.4], State.ABSENT),
    ):
        run = run_from_example({"metrics": {"loss": losses}, **given})
        assert at_floor(run, below=0.95, above=1.25).state is state
