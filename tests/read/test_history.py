"""JSON histories: lists per metric, lists of rows, and JSON that is neither."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftdoctor.read import read_run


def run_of(tmp_path: Path, value: Any, name: str = "history.json") -> Any:
    (tmp_path / name).write_text(value if isinstance(value, str) else json.dumps(value))
    (tmp_path / "train.log").write_text("done\n")
    return read_run(tmp_path)


def test_lists_per_metric_are_curves(tmp_path: Path) -> None:
    run = run_of(tmp_path, {"train_loss": [2.0, 1.0, 0.5], "val_loss": [2.1, 1.5, 1.6], "lr": 0.1})
    assert run.series("loss").values.tolist() == [2.0, 1.0, 0.5]
    assert run.series("loss", "eval").values.tolist() == [2.1, 1.5, 1.6]
    assert run.series("loss").steps.tolist() == [1, 2, 3]


def test_lists_of_steps_place_those_as_long(tmp_path: Path) -> None:
    run = run_of(tmp_path, {"step": [10, 20], "loss": [2.0, 1.0], "eval_loss": [1.5]})
    assert run.series("loss").steps.tolist() == [10, 20]
    assert run.series("loss", "eval").values.tolist() == [1.5]


def test_rows_are_rows(tmp_path: Path) -> None:
    rows = [{"epoch": n, "train_loss": 1 / n, "val_loss": 1.0, "note": "x"} for n in (1, 2, 3)]
    assert len(run_of(tmp_path, rows, "metrics.json").series("loss")) == 3


@pytest.mark.parametrize("value", [{"labels": [1, 2]}, [{"text": "my loss", "label": 1}], {}])
def test_other_json_is_no_history(tmp_path: Path, value: Any) -> None:
    kinds = {a.path: a.kind for a in run_of(tmp_path, value, "other.json").artifacts}
    assert kinds["other.json"] != "history"


def test_a_cut_history_is_damaged(tmp_path: Path) -> None:
    run = run_of(tmp_path, '{"train_loss": [2.0, 1.0')
    state = {a.path: a.state for a in run.artifacts}
    assert state["history.json"] == "damaged"
