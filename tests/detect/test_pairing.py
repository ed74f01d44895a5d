"""Answers that fit no input, and inputs whose answers were shuffled."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from ftdoctor.detect import pairing
from ftdoctor.model import State
from ftdoctor.read import read_run

TOWNS = {"Rome": "Italy", "Oslo": "Norway", "Lyon": "France", "Graz": "Austria", "Kiel": "Germany"}


def write(path: Path, rows: int, *, shuffled: bool, seed: int = 0) -> None:
    draw = random.Random(seed)
    pairs = []
    for number in range(rows):
        town = draw.choice(list(TOWNS))
        land = draw.choice(list(TOWNS.values())) if shuffled else TOWNS[town]
        pairs.append((f"Parcel {number} goes to {town}", f"Send it to {land}, day {number % 9}"))
    lines = [json.dumps({"prompt": a, "completion": b}) for a, b in pairs]
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("shuffled", "rows", "state"),
    [(True, 400, State.PRESENT), (False, 400, State.ABSENT), (True, 60, State.UNOBSERVABLE)],
)
def test_shuffled_answers_fit_none(tmp_path: Path, shuffled: bool, rows: int, state: State) -> None:
    write(tmp_path / "train.jsonl", rows, shuffled=shuffled)
    assert pairing.answers_fit_none(read_run(tmp_path), rows=300, margin=0.03).state is state


def test_answers_that_repeat_rare_words_fit(tmp_path: Path) -> None:
    lines = [
        json.dumps({"prompt": f"Tell of item{i}", "completion": f"item{i} was made in {1900 + i}"})
        for i in range(320)
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n")
    seen = pairing.answers_fit_none(read_run(tmp_path), rows=300, margin=0.03)
    assert seen.state is State.ABSENT


def test_rows_in_a_cycle_are_no_shuffled_rows(tmp_path: Path) -> None:
    towns = list(TOWNS.items())
    lines = [
        json.dumps(
            {"prompt": f"{i}: {towns[i % 4][0]}", "completion": f"{towns[i % 4][1]} {i % 9}"}
        )
        for i in range(320)
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n")
    seen = pairing.answers_fit_none(read_run(tmp_path), rows=300, margin=0.03)
    assert seen.state is State.ABSENT


def test_scripts_without_spaces_are_counted_by_the_character(tmp_path: Path) -> None:
    signs = [chr(0x4E00 + 7 * n) for n in range(400)]
    lines = [
        json.dumps({"prompt": f"请介绍{sign}的历史", "completion": f"关于{sign}，它很有名。"})
        for sign in signs
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n")
    seen = pairing.answers_fit_none(read_run(tmp_path), rows=300, margin=0.03)
    assert seen.state is State.ABSENT


def test_texts_without_common_words_tell_nothing(tmp_path: Path) -> None:
    lines = [
        json.dumps({"prompt": f"q{i}x{7 * i}", "completion": f"a{3 * i}y{11 * i}"})
        for i in range(400)
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n")
    seen = pairing.answers_fit_none(read_run(tmp_path), rows=300, margin=0.03)
    assert seen.state is State.UNOBSERVABLE
