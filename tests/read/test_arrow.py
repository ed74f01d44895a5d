"""Prepared data sets: Arrow streams whole and cut, and their labels."""

from __future__ import annotations

import io

import pytest

from ftdoctor.kinds import Found, classify
from ftdoctor.model import ArtifactState
from ftdoctor.read.arrow import read_arrow
from ftdoctor.read.items import read_one
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


@pytest.mark.parametrize("file", [False, True])
def test_no_damaged_length_is_believed(file: bool) -> None:
    """The library allocates what the metadata asks for; a process dies of it, not only a read."""
    import random
    import resource

    whole, chance = stream(ROWS, file), random.Random(3)
    limits = resource.getrlimit(resource.RLIMIT_DATA)
    with open("/proc/self/status") as status:
        now = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (now + (256 << 20), limits[1]))
    try:
        for _ in range(1500):
            data = bytearray(whole)
            at = chance.randrange(len(data) - 8)
            data[at : at + 4] = chance.choice((b"\xff\xff\xff\x7f", b"\0\0\0\x40", b"\x7f\0\0\0"))
            read_one(Found(source := memory_source("data.arrow", bytes(data)), classify(source)))
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, limits)


def test_a_stream_is_read_up_to_its_last_whole_batch() -> None:
    one = stream({"text": ["a", "b"]})
    body = one.removesuffix(b"\xff\xff\xff\xff\0\0\0\0")
    batch = body[8 + int.from_bytes(body[4:8], "little") :]
    reading = read_arrow(memory_source("data.arrow", body + batch + batch[:50]))
    assert reading.state is ArtifactState.PARTIAL
    assert [r.value["text"] for r in reading.records] == ["a", "b", "a", "b"]
    assert "byte" in reading.reason
