from __future__ import annotations

import math
from pathlib import Path

import pytest

from ftdoctor.model import ArtifactState
from ftdoctor.read.csv_log import read_csv_log
from ftdoctor.read.reading import Reading
from ftdoctor.read.source import local_source, memory_source

SAMPLES = Path(__file__).parents[3] / "shared" / "formats" / "samples"


def read(text: str) -> Reading:
    return read_csv_log(memory_source("metrics.csv", text.encode()))


def test_empty_cells_are_left_out_and_nan_is_kept() -> None:
    reading = read("epoch,step,train_loss,val_loss\r\n0,3,1.7,\r\n0,3,,1.8\r\n1,6,nan,\r\n")
    assert [dict(row.values) for row in reading.metrics[:2]] == [
        {"train_loss": 1.7},
        {"val_loss": 1.8},
    ]
    assert math.isnan(reading.metrics[2].values["train_loss"])
    assert [(row.step, row.epoch, row.line) for row in reading.metrics] == [
        (3, 0.0, 2),
        (3, 0.0, 3),
        (6, 1.0, 4),
    ]


def test_header_in_the_middle_is_taken_anew() -> None:
    reading = read("step,loss\n1,2.0\nstep,loss,lr\n2,1.0,0.1\n")
    assert reading.metrics[1].values == {"loss": 1.0, "lr": 0.1}


def test_table_exported_from_wandb() -> None:
    reading = read('"Step","run - train/loss","run - train/loss__MIN"\n"5","1.5","1.4"\n')
    assert reading.metrics[0].values == {"train/loss": 1.5}
    assert reading.metrics[0].step == 5


def test_other_delimiters_and_cut_line() -> None:
    reading = read("step\tloss\tlr\n1\t2.0\t0.1\n2\t1.0")
    assert reading.state is ArtifactState.PARTIAL
    assert reading.metrics[1].values == {"loss": 1.0}


def test_header_alone_gives_nothing() -> None:
    assert not read("epoch,step,loss\n").metrics


def test_samples() -> None:
    path = SAMPLES / "lightning" / "logs" / "version_0" / "metrics.csv"
    if not path.exists():
        pytest.skip("samples are not here")
    rows = read_csv_log(local_source(SAMPLES, path)).metrics
    assert rows[-1].step == 6
    assert math.isnan(rows[-1].values["train_loss"])
    ray = read_csv_log(local_source(SAMPLES, SAMPLES / "ray" / "progress.csv"))
    assert [(row.step, dict(row.values)) for row in ray.metrics] == [
        (1, {"loss": 1}),
        (2, {"loss": 0.5}),
    ]
