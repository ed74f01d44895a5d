from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from ftdoctor.model import ArtifactState
from ftdoctor.read.reading import Reading
from ftdoctor.read.source import local_source, memory_source
from ftdoctor.read.trainer_state import read_trainer_state

SAMPLES = Path(__file__).parents[3] / "shared" / "formats" / "samples"
ROWS = [
    {"epoch": 0.5, "grad_norm": 1.5, "learning_rate": 0.0, "loss": 2.0, "step": 1},
    {"epoch": 1.0, "eval_loss": 1.9, "step": 2},
    {"epoch": 1.0, "step": 2, "train_loss": 1.95, "train_runtime": 3.0},
]


def state(rows: list[dict[str, float]] | None = None, **fields: object) -> bytes:
    whole = {"global_step": 2, "max_steps": 4, "log_history": ROWS if rows is None else rows}
    return json.dumps(whole | fields, indent=2, sort_keys=True).encode()


def read(content: bytes) -> Reading:
    return read_trainer_state(memory_source("trainer_state.json", content))


def facts(reading: Reading) -> dict[str, object]:
    return {fact.name: fact.value for fact in reading.facts}


def sample(folder: str) -> Reading:
    path = SAMPLES / folder / "trainer_state.json"
    if not path.exists():
        pytest.skip("samples are not here")
    return read_trainer_state(local_source(SAMPLES, path))


def test_rows_have_the_line_on_which_they_begin() -> None:
    content = state()
    lines = content.decode().split("\n")
    reading = read(content)
    assert [row.step for row in reading.metrics] == [1, 2]
    for row in reading.metrics:
        assert lines[row.line - 1].strip() == "{"
        assert f'"epoch": {row.epoch}' in lines[row.line]


def test_final_row_is_a_summary_and_no_point_of_the_curve() -> None:
    reading = read(state())
    assert all("train_loss" not in row.values for row in reading.metrics)
    assert facts(reading)["summary.train_loss"] == 1.95
    assert facts(reading)["progress.finished"] is True


def test_unfinished_state_is_not_called_finished() -> None:
    reading = read(state(rows=ROWS[:2]))
    assert "progress.finished" not in facts(reading)
    assert facts(reading)["progress.global_step"] == 2


def test_nan_and_infinity_are_kept() -> None:
    reading = read(state(rows=[{"loss": math.nan, "grad_norm": math.inf, "step": 3}]))
    assert math.isnan(reading.metrics[0].values["loss"])
    assert reading.metrics[0].values["grad_norm"] == math.inf


def test_single_line_file() -> None:
    content = json.dumps(json.loads(state())).encode()
    reading = read(content)
    assert [row.line for row in reading.metrics] == [1, 1]
    assert facts(reading)["progress.max_steps"] == 4


@pytest.mark.parametrize("cut", [0.45, 0.6, 0.8])
def test_cut_file_gives_its_complete_rows(cut: float) -> None:
    content = state(rows=ROWS[:2] * 30)
    reading = read(content[: int(len(content) * cut)])
    assert reading.state is ArtifactState.PARTIAL
    assert "cut after" in reading.reason
    assert 10 < len(reading.metrics) < 60


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 100, b"version https://git-lfs.github.com/spec/v1\n", b"[1, 2]", b'{"glob'],
)
def test_what_is_no_state_is_damaged_and_raises_nothing(content: bytes) -> None:
    assert read(content).state is ArtifactState.DAMAGED


def test_early_stopping_is_told_by_its_callback() -> None:
    callback = {
        "args": {"early_stopping_patience": 3},
        "attributes": {"early_stopping_patience_counter": 3},
    }
    stopped = read(state(stateful_callbacks={"EarlyStoppingCallback": callback}))
    assert [event.kind for event in stopped.events] == ["finished"]
    callback["attributes"] = {"early_stopping_patience_counter": 2}
    assert not read(state(stateful_callbacks={"EarlyStoppingCallback": callback})).events


@pytest.mark.parametrize(
    ("folder", "first"), [("hf-v5", 0.0), ("hf-v457", 0.0), ("hf-v446", 0.0025)]
)
def test_samples_of_three_versions(folder: str, first: float) -> None:
    reading = sample(folder)
    train = [row for row in reading.metrics if "loss" in row.values]
    assert train[0].values["learning_rate"] == first
    assert [row.step for row in reading.metrics if "eval_loss" in row.values] == [4, 8, 12, 16]
    assert facts(reading)["progress.max_steps"] == 16


def test_sample_nanfilter_shows_zero_loss_with_nan_gradients() -> None:
    rows = {row.step: row.values for row in sample("hf-v5-nanfilter").metrics}
    assert round(rows[4]["loss"], 2) == 6.57
    assert all(rows[s]["loss"] == 0.0 and math.isnan(rows[s]["grad_norm"]) for s in (6, 8, 16))


def test_sample_that_was_cut() -> None:
    path = SAMPLES / "damage" / "trainer_state_truncated.json"
    if not path.exists():
        pytest.skip("samples are not here")
    reading = read_trainer_state(local_source(SAMPLES, path))
    assert reading.state is ArtifactState.PARTIAL
    assert len(reading.metrics) == 2
