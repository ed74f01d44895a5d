"""Whether a run learns labels: by its rows, its kind or its scores; constant targets are none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from ftdoctor.detect.classes import labels_learnt
from ftdoctor.examples import run_from_example

LOSS = {"loss": [1.1, 0.4, 0.1, 0.01, 0.01]}


def rows(answers: Sequence[str]) -> dict[str, Any]:
    made = ({"prompt": f"Row {i} of all", "completion": a} for i, a in enumerate(answers))
    return {"files": {"train.jsonl": "".join(json.dumps(row) + "\n" for row in made)}}


@pytest.mark.parametrize(
    ("example", "learnt"),
    [
        (rows(["good", "bad", "plain"] * 10), True),
        (rows(["good"] * 30), False),
        (rows(["good"] * 29 + ["bad"]), False),
        (rows([f"The lamp is number {i}" for i in range(30)]), False),
        ({"metrics": LOSS | {"eval/accuracy": [0.9, 1.0]}}, True),
        ({"metrics": LOSS | {"eval/mean_token_accuracy": [0.9, 1.0]}}, False),
        ({"metrics": {"loss": [8.0, 0.1], "eval/accuracy": [0.9, 1.0]}}, False),
        ({"metrics": LOSS | {"eval/accuracy": [1.0]}, "facts": {"run.trainer": "trl"}}, False),
        ({"facts": {"run.kind": "classification"}}, True),
        ({}, False),
    ],
)
def test_labels(example: dict[str, Any], learnt: bool) -> None:
    assert bool(labels_learnt(run_from_example(example))) is learnt
