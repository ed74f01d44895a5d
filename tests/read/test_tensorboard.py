from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import pytest

from ftdoctor.model import ArtifactState
from ftdoctor.read.reading import Reading
from ftdoctor.read.source import local_source, memory_source
from ftdoctor.read.tensorboard import read_tensorboard

SAMPLES = Path(__file__).parents[3] / "shared" / "formats" / "samples"


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def message(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def record(payload: bytes) -> bytes:
    return struct.pack("<Q", len(payload)) + b"\0" * 4 + payload + b"\0" * 4


def scalar(tag: str, value: float, step: int) -> bytes:
    inner = message(1, tag.encode()) + b"\x15" + struct.pack("<f", value)
    head = b"\x09" + struct.pack("<d", 1e9 + step) + b"\x10" + varint(step)
    return record(head + message(5, message(1, inner)))


def text(tag: str, content: str) -> bytes:
    tensor = b"\x08\x07" + message(8, content.encode())
    inner = message(1, tag.encode()) + message(8, tensor)
    return record(message(5, message(1, inner)))


def read(content: bytes) -> Reading:
    return read_tensorboard(memory_source("events.out.tfevents.1.h.1.0", content))


def test_scalars_of_one_step_are_one_row() -> None:
    reading = read(
        scalar("train/loss", 1.5, 3) + scalar("train/epoch", 0.5, 3) + scalar("train/loss", 1.0, 4)
    )
    assert [(row.step, row.epoch, dict(row.values)) for row in reading.metrics] == [
        (3, 0.5, {"train/loss": 1.5}),
        (4, None, {"train/loss": 1.0}),
    ]
    assert reading.metrics[0].time == 1e9 + 3


def test_aggregates_are_no_points() -> None:
    reading = read(scalar("train/train_loss", 1.5, 3) + scalar("train/train_runtime", 9.0, 3))
    assert not reading.metrics
    found = {fact.name: fact.value for fact in reading.facts}
    assert found["summary.train_loss"] == 1.5
    assert found["progress.finished"] is True


def test_arguments_and_model_from_text() -> None:
    reading = read(
        text("args/text_summary", json.dumps({"learning_rate": 2e-5, "fp16": True}))
        + text("model_config/text_summary", json.dumps({"model_type": "llama", "vocab_size": 7}))
    )
    assert {f.name: f.value for f in reading.settings} == {"learning_rate": 2e-5, "fp16": True}
    assert {f.name: f.value for f in reading.facts}["model.type"] == "llama"


def test_cut_record_keeps_the_rest() -> None:
    content = scalar("train/loss", 1.5, 3) + scalar("train/loss", 1.0, 4)
    reading = read(content[:-10])
    assert reading.state is ArtifactState.PARTIAL
    assert len(reading.metrics) == 1


@pytest.mark.parametrize(
    "content", [b"x", b"version https://git-lfs.github.com/spec/v1", b"\xff" * 99]
)
def test_what_is_no_event_file_is_damaged(content: bytes) -> None:
    assert read(content).state is ArtifactState.DAMAGED


def test_samples() -> None:
    if not SAMPLES.is_dir():
        pytest.skip("samples are not here")
    (path,) = (SAMPLES / "tensorboard-tensor").iterdir()
    rows = read_tensorboard(local_source(SAMPLES, path)).metrics
    assert [row.step for row in rows] == [1, 2, 3, 4, 5]
    assert math.isnan(rows[-1].values["train/loss"])
    (path,) = (SAMPLES / "tensorboard-truncated").iterdir()
    reading = read_tensorboard(local_source(SAMPLES, path))
    assert reading.state is ArtifactState.PARTIAL
    assert len(reading.metrics) == 4


def test_sample_of_the_trainer_holds_its_arguments() -> None:
    paths = sorted(SAMPLES.glob("hf-v5/runs/*/events*.0"))
    if not paths:
        pytest.skip("samples are not here")
    reading = read_tensorboard(local_source(SAMPLES, paths[0]))
    found = {fact.name: fact.value for fact in reading.settings}
    assert found["gradient_accumulation_steps"] == 2
    assert {row.step for row in reading.metrics if "eval/loss" in row.values} == {4, 8, 12, 16}
