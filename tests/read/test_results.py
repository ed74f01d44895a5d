from __future__ import annotations

from ftdoctor.model import ArtifactState
from ftdoctor.read.results import read_results
from ftdoctor.read.source import memory_source


def test_aggregates_are_facts_with_lines_and_no_curve() -> None:
    text = b'{\n    "epoch": 2.0,\n    "train_loss": NaN,\n    "train_runtime": 3.5\n}'
    reading = read_results(memory_source("all_results.json", text))
    assert not reading.metrics
    found = {fact.name: fact for fact in reading.facts}
    assert found["summary.train_runtime"].value == 3.5
    assert found["summary.train_loss"].where.line == 3
    assert found["progress.finished"].value is True


def test_evaluation_alone_does_not_mean_finished() -> None:
    reading = read_results(memory_source("eval_results.json", b'{"eval_loss": 1.0}'))
    assert [fact.name for fact in reading.facts] == ["summary.eval_loss"]


def test_cut_file_is_damaged() -> None:
    reading = read_results(memory_source("all_results.json", b'{"epoch": 2.0, "tr'))
    assert reading.state is ArtifactState.DAMAGED
