from __future__ import annotations

import math

from ftdoctor.model import ArtifactState
from ftdoctor.read.ray import read_result
from ftdoctor.read.source import memory_source


def test_rows_without_housekeeping_and_the_config() -> None:
    text = (
        b'{"loss": 1.0, "training_iteration": 1, "pid": 7, "timestamp": 1700000001, '
        b'"time_total_s": 1.0, "config": {"lr": 0.1}}\n{"loss": NaN, "training_iteration": 2}\n'
    )
    reading = read_result(memory_source("result.json", text))
    assert reading.metrics[0].values == {"loss": 1.0}
    assert [row.step for row in reading.metrics] == [1, 2]
    assert reading.metrics[0].time == 1700000001
    assert math.isnan(reading.metrics[1].values["loss"])
    assert [(f.name, f.value) for f in reading.settings] == [("lr", 0.1)]


def test_cut_and_empty() -> None:
    cut = b'{"loss": 1.0, "training_iteration": 1}\n{"loss": 1.'
    assert read_result(memory_source("result.json", cut)).state is ArtifactState.PARTIAL
    assert read_result(memory_source("result.json", b"")).state is ArtifactState.DAMAGED
