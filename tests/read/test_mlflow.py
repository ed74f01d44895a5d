from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import pytest

from ftdoctor.model import ArtifactState
from ftdoctor.read.mlflow import read_database, read_meta, read_metric, read_param
from ftdoctor.read.source import local_source, memory_source

RUN = "mlruns/1/0f1e2d3c4b5a69788796a5b4c3d2e1f0"


def test_metric_lines() -> None:
    text = b"1700000001000 1.9 10\n1700000002000 nan 20\n1700000003000 1.5 30 data abc\n"
    reading = read_metric(memory_source(f"{RUN}/metrics/eval/loss", text))
    assert [(row.step, row.line) for row in reading.metrics] == [(10, 1), (20, 2), (30, 3)]
    assert list(reading.metrics[0].values) == ["eval/loss"]
    assert math.isnan(reading.metrics[1].values["eval/loss"])
    assert reading.metrics[0].time == 1700000001.0


def test_metric_without_steps_and_cut() -> None:
    reading = read_metric(memory_source(f"{RUN}/metrics/loss", b"1700000001000 1.9\n17000"))
    assert reading.state is ArtifactState.PARTIAL
    assert reading.metrics[0].step is None


def test_params_and_status() -> None:
    (setting,) = read_param(memory_source(f"{RUN}/params/lr", b"2e-4")).settings
    assert (setting.name, setting.value) == ("lr", 2e-4)
    reading = read_meta(memory_source(f"{RUN}/meta.yaml", b"end_time: 1700000100000\nstatus: 5\n"))
    assert reading.facts[0].value == "killed"
    assert [(event.kind, event.time) for event in reading.events] == [("killed", 1700000100.0)]


def database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.executescript(
            "CREATE TABLE runs (run_uuid, status, start_time, end_time);"
            "CREATE TABLE metrics (key, value, timestamp, run_uuid, step, is_nan);"
            "CREATE TABLE params (key, value, run_uuid);"
            "INSERT INTO runs VALUES ('old', 'FINISHED', 1, 2), ('new', 'FAILED', 3, 4),"
            " ('empty', 'RUNNING', 9, NULL);"
            "INSERT INTO metrics VALUES ('loss', 1.5, 5000, 'new', 1, 0),"
            " ('loss', 0, 6000, 'new', 2, 1),"
            " ('loss', 9, 1, 'old', 1, 0);"
            "INSERT INTO params VALUES ('lr', '0.1', 'new');"
        )


@pytest.mark.parametrize("local", [True, False])
def test_database_gives_the_newest_run_with_metrics(tmp_path: Path, local: bool) -> None:
    path = tmp_path / "mlflow.db"
    database(path)
    before = path.read_bytes()
    source = local_source(tmp_path, path) if local else memory_source("mlflow.db", before)
    reading = read_database(source)
    assert [row.step for row in reading.metrics] == [1, 2]
    assert math.isnan(reading.metrics[1].values["loss"])
    assert reading.settings[0].value == 0.1
    assert reading.facts[0].value == "failed"
    assert "3 runs" in reading.reason
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"SQLite format 3\0" + b"\1" * 200, b"text"])
def test_broken_database_is_damaged_or_empty(content: bytes) -> None:
    assert read_database(memory_source("mlflow.db", content)).state is ArtifactState.DAMAGED
