"""Preference pairs that teach nothing: learnt by heart, or chosen against their own prompts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftdoctor.detect import preferences
from ftdoctor.model import Run, State
from ftdoctor.read import read_run


def trained(path: Path, *, eval_loss: float, eval_margin: float, accuracy: float) -> Run:
    rows: list[dict[str, float]] = [
        {"step": s, "loss": 0.72 - 0.015 * s, "rewards/margins": 0.03 * s} for s in range(1, 13)
    ]
    rows += [
        {
            "step": step,
            "eval_loss": eval_loss,
            "eval_rewards/margins": eval_margin,
            "eval_rewards/accuracies": accuracy,
        }
        for step in (4, 8, 12)
    ]
    (path / "trainer_state.json").write_text(json.dumps({"log_history": rows}))
    return read_run(path)


@pytest.mark.parametrize(
    ("loss", "margin", "accuracy", "state"),
    [
        (0.705, 0.03, 0.55, State.PRESENT),
        (0.62, 0.20, 0.70, State.ABSENT),
        (0.90, 0.60, 0.72, State.ABSENT),  # overfitted, but other pairs are told apart
    ],
)
def test_learnt_by_heart(
    tmp_path: Path, loss: float, margin: float, accuracy: float, state: State
) -> None:
    run = trained(tmp_path, eval_loss=loss, eval_margin=margin, accuracy=accuracy)
    seen = preferences.learnt_by_heart(run, falls_to=0.65, share=0.3, accuracy=0.65)
    assert seen.state is state


def judged(path: Path, *, swapped: bool, related: bool, rows: int = 80) -> State:
    pairs = []
    for i in range(rows):
        good = f"Order {5000 + i} left" if related else "It left"
        both = (good, f"Order {9000 + i} is lost")
        pairs.append(both[::-1] if swapped and i % 2 else both)
    lines = [
        json.dumps({"prompt": f"Where is order {5000 + i}?", "chosen": a, "rejected": b})
        for i, (a, b) in enumerate(pairs)
    ]
    (path / "train.jsonl").write_text("\n".join(lines) + "\n")
    return preferences.fit_on_both_sides(
        read_run(path), bits=4.0, often=0.6, balance=0.35, minimum=60
    ).state


@pytest.mark.parametrize(
    ("swapped", "related", "rows", "state"),
    [
        (True, True, 80, State.PRESENT),
        (False, True, 80, State.ABSENT),
        (True, False, 80, State.ABSENT),
        (True, True, 20, State.UNOBSERVABLE),
    ],
)
def test_fit_on_both_sides(
    tmp_path: Path, swapped: bool, related: bool, rows: int, state: State
) -> None:
    assert judged(tmp_path, swapped=swapped, related=related, rows=rows) is state
