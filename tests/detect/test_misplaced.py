"""Answers that belong to rows some places away."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from ftdoctor.detect import misplaced
from ftdoctor.model import Run, State
from ftdoctor.read import read_run

NAMES = [
    "Anna",
    "Bruno",
    "Carla",
    "Dario",
    "Elif",
    "Franz",
    "Greta",
    "Hanna",
    "Igor",
    "Karl",
    "Lena",
    "Milan",
    "Nadia",
    "Oskar",
]
TOWNS = [
    "Rome",
    "Oslo",
    "Lyon",
    "Graz",
    "Kiel",
    "Bonn",
    "Wien",
    "Prag",
    "Turin",
    "Basel",
    "Leeds",
    "Ghent",
]


def written(path: Path, rows: int, *, moved: int | None) -> Run:
    draw = random.Random(1)
    facts = [(draw.choice(NAMES), draw.choice(TOWNS)) for _ in range(rows)]
    meant = [facts[(i + (moved or 0)) % rows] for i in range(rows)]
    if moved is None:
        draw.shuffle(meant)
    lines = [
        json.dumps({"en": f"{a} lives in {b}", "de": f"In {d} wohnt {c}"})
        for (a, b), (c, d) in zip(facts, meant, strict=True)
    ]
    (path / "pairs.jsonl").write_text("\n".join(lines) + "\n")
    return read_run(path)


@pytest.mark.parametrize(
    ("rows", "moved", "state"),
    [
        (300, 7, State.PRESENT),
        (300, -1, State.PRESENT),
        (300, 0, State.ABSENT),
        (300, None, State.ABSENT),
        (40, 7, State.UNOBSERVABLE),
    ],
)
def test_moved_answers_tell_by_how_many_rows(
    tmp_path: Path, rows: int, moved: int | None, state: State
) -> None:
    run = written(tmp_path, rows, moved=moved)
    seen = misplaced.answers_moved_by(run, rows=100, bits=2.0, times=3.0)
    assert seen.state is state
    if state is State.PRESENT and moved is not None:
        assert f"{abs(moved)} rows {'below' if moved > 0 else 'above'}" in seen.text


def test_arithmetic_is_not_moved(tmp_path: Path) -> None:
    draw = random.Random(2)
    sums = [(draw.randrange(90), draw.randrange(90)) for _ in range(400)]
    lines = [json.dumps({"question": f"{a} + {b}?", "answer": str(a + b)}) for a, b in sums]
    (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n")
    run = read_run(tmp_path)
    seen = misplaced.answers_moved_by(run, rows=100, bits=2.0, times=3.0)
    assert seen.state is not State.PRESENT


def test_one_input_with_many_answers_is_no_shuffled_set(tmp_path: Path) -> None:
    draw = random.Random(3)
    lines = [
        json.dumps({"prompt": f"Who is {draw.choice(NAMES)}?", "completion": draw.choice(NAMES)})
        for _ in range(400)
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n")
    run = read_run(tmp_path)
    seen = misplaced.answers_moved_by(run, rows=100, bits=2.0, times=3.0)
    assert seen.state is State.UNOBSERVABLE
