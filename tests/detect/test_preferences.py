"""Preference rows that contradict each other, and pairs the wrong way round."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ftdoctor.detect.preferences import contradict, split_by_direction
from ftdoctor.model import State
from ftdoctor.read import read_run


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    (folder / name).write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")


def pair(i: int, *, turned: bool) -> dict[str, Any]:
    sides = (f"Sure, lamp {i} it is", f"No lamp {i} for you")
    liked, other = sides[::-1] if turned else sides
    return {"prompt": f"Bring lamp {i}", "chosen": liked, "rejected": other}


def test_a_pair_in_both_directions_contradicts(tmp_path: Path) -> None:
    rows = [pair(i, turned=t) for i in range(15) for t in (False, True)]
    write(tmp_path, "train.jsonl", rows)
    found = contradict(read_run(tmp_path), above=0.1)
    assert found.state is State.PRESENT
    assert "15 of 30" in found.text


def test_many_rejected_answers_to_one_prompt_do_not(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Bring tea", "chosen": "Here is tea", "rejected": f"Here is a stone {i}"}
        for i in range(30)
    ]
    write(tmp_path, "train.jsonl", rows)
    assert contradict(read_run(tmp_path), above=0.1).state is State.UNOBSERVABLE


def test_direction_needs_evaluation_pairs(tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl", [pair(i, turned=bool(i % 2)) for i in range(30)])
    assert split_by_direction(read_run(tmp_path)).state is State.UNOBSERVABLE
    write(tmp_path, "eval.jsonl", [pair(i + 50, turned=False) for i in range(30)])
    found = split_by_direction(read_run(tmp_path))
    assert found.state is State.PRESENT
    assert found.facts


def test_random_words_are_no_direction(tmp_path: Path) -> None:
    write(tmp_path, "train.jsonl", [pair(i, turned=bool(i % 2)) for i in range(30)])
    write(tmp_path, "eval.jsonl", [pair(i + 50, turned=bool(i % 2)) for i in range(30)])
    assert split_by_direction(read_run(tmp_path)).state is State.UNOBSERVABLE
