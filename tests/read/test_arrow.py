"""Prepared data sets: Arrow streams whole and cut, and their labels."""

from __future__ import annotations

import io

import pytest

from ftdoctor.model import ArtifactState
from ftdoctor.read.arrow import read_arrow
from ftdoctor.read.source import memory_source

polars = pytest.importorskip("polars")


def stream(columns: dict[str, list[object]], file: bool = False) -> bytes:
    buffer = io.BytesIO()
    frame = polars.DataFrame(columns)
    (frame.write_ipc if file else frame.write_ipc_stream)(buffer)
    return buffer.getvalue()


ROWS = {
    "input_ids": [[1, 5, 6, 2], [1, 7, 8, 2], [1, 9, 9, 2]],
    "labels": [[-100, -100, 6, 2], [-100] * 4, [-100, 9, 9, 2]],
}


@pytest.mark.parametrize("file", [False, True])
def test_labels_are_counted(file: bool) -> None:
    reading = read_arrow(memory_source("data-00000-of-00001.arrow", stream(ROWS, file)))
    facts = {f.name: f.value for f in reading.facts}
    assert facts["data.supervised"] == {"rows": 3, "rows_without": 1, "kept": 5, "all": 12}
    assert facts["data.file"]["rows"] == 3
    assert reading.records[1].value["labels"] == [-100] * 4


def test_a_cut_stream_is_damage() -> None:
    reading = read_arrow(memory_source("data.arrow", stream(ROWS)[:200]))
    assert reading.state in (ArtifactState.DAMAGED, ArtifactState.PARTIAL)
    assert reading.reason


def test_text_columns_are_rows_too() -> None:
    reading = read_arrow(memory_source("data.arrow", stream({"text": ["a", "b"]})))
    assert [r.value for r in reading.records] == [{"text": "a"}, {"text": "b"}]
