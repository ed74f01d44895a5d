from __future__ import annotations

import json
import math
import struct
import zlib
from pathlib import Path

import pytest

from ftdoctor.model import ArtifactState
from ftdoctor.read.reading import Reading
from ftdoctor.read.source import local_source, memory_source
from ftdoctor.read.wandb import BLOCK, HEADER, read_binary, read_config, read_metadata, read_summary

SAMPLES = Path(__file__).parents[3] / "shared" / "formats" / "samples" / "wandb"


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def message(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def item(value: object, *keys: str) -> bytes:
    names = b"".join(message(2 if len(keys) > 1 else 1, key.encode()) for key in keys)
    return message(1, names + message(16, json.dumps(value).encode()))


def log(*records: bytes) -> bytes:
    out = bytearray(HEADER)
    for data in records:
        first, rest = True, data
        while True:
            left = BLOCK - len(out) % BLOCK
            if left < 7:
                out += b"\0" * left
                continue
            piece, rest = rest[: left - 7], rest[left - 7 :]
            kind = (1 if not rest else 2) if first else (4 if not rest else 3)
            check = zlib.crc32(bytes([kind]) + piece)
            out += struct.pack("<IHB", check, len(piece), kind) + piece
            first = False
            if not rest:
                break
    return bytes(out)


def history(**values: object) -> bytes:
    return message(2, b"".join(item(value, key) for key, value in values.items()))


def read(content: bytes) -> Reading:
    return read_binary(memory_source("run-x.wandb", content))


def facts(reading: Reading) -> dict[str, object]:
    return {fact.name: fact.value for fact in reading.facts}


def test_history_config_output_and_exit() -> None:
    step = message(
        2, item(math.nan, "train/loss") + item(30, "train/global_step") + item(5, "_step")
    )
    config = message(17, message(4, item({"r": 16}, "lora")))
    output = message(13, b"\x08\x01" + message(3, b"RuntimeWarning: x\n"))
    reading = read(log(config, step, output, message(18, b"\x08\x01")))
    assert reading.metrics[0].step == 30
    assert math.isnan(reading.metrics[0].values["train/loss"])
    assert {f.name: f.value for f in reading.settings} == {"lora.r": 16}
    assert [line.text for line in reading.lines] == ["RuntimeWarning: x"]
    assert facts(reading)["log.exit_code"] == 1
    assert facts(reading)["log.exit_recorded"] is True


def test_no_exit_record_is_told() -> None:
    reading = read(log(history(_step=1, loss=0.5)))
    assert facts(reading)["log.exit_recorded"] is False
    assert "log.exit_code" not in facts(reading)


def test_records_longer_than_a_block() -> None:
    reading = read(log(*(history(_step=n, loss=1.0, pad=["x" * 9000]) for n in range(12))))
    assert [row.step for row in reading.metrics] == list(range(12))
    big = history(_step=99, loss=1.0, pad=["x" * 100_000])
    assert [row.step for row in read(log(big)).metrics] == [99]


def test_cut_and_damaged_files_keep_what_is_whole() -> None:
    content = log(history(_step=1, loss=0.5), history(_step=2, loss=0.4))
    cut = read(content[:-5])
    assert (cut.state, len(cut.metrics)) == (ArtifactState.PARTIAL, 1)
    flipped = content[:-3] + b"zzz"
    assert "checksum" in read(flipped).reason


@pytest.mark.parametrize("content", [b"", HEADER, b"no log at all, just text"])
def test_empty_and_foreign_files_are_damaged(content: bytes) -> None:
    assert read(content).state is ArtifactState.DAMAGED


def test_config_with_desc_and_versions() -> None:
    reading = read_config(
        memory_source(
            "config.yaml",
            b"wandb_version: 1\n\n_wandb:\n  desc: null\n  value:\n    cli_version: 0.15.4\n"
            b"    huggingface_version: 4.33.1\nlr:\n  desc: null\n  value: 1e-4\n",
        )
    )
    assert [(f.name, f.value, f.where.line) for f in reading.settings] == [("lr", 1e-4, 8)]
    assert facts(reading)["environment.package.transformers"] == "4.33.1"


def test_broken_config_is_damaged() -> None:
    reading = read_config(memory_source("config.yaml", b"a: [1, 2\nb: }"))
    assert reading.state is ArtifactState.DAMAGED


def test_summary() -> None:
    reading = read_summary(
        memory_source("s.json", b'{"train/loss": NaN, "train/train_loss": 1.5, "_wandb": {"a": 1}}')
    )
    assert math.isnan(facts(reading)["summary.train/loss"])  # type: ignore[arg-type]
    assert facts(reading)["summary.train_loss"] == 1.5
    assert read_summary(memory_source("s.json", b"{")).state is ArtifactState.DAMAGED


def test_metadata_arguments() -> None:
    reading = read_metadata(
        memory_source("m.json", b'{"args": ["--lr", "2e-4", "--bf16", "--epochs=3"], "gpu": "T4"}')
    )
    assert {f.name: f.value for f in reading.settings} == {"lr": 2e-4, "bf16": True, "epochs": 3}
    assert facts(reading)["environment.gpu"] == "T4"


def test_sample() -> None:
    paths = sorted(SAMPLES.glob("offline-*/*.wandb"))
    if not paths:
        pytest.skip("samples are not here")
    reading = read_binary(local_source(SAMPLES, paths[0]))
    assert len(reading.metrics) == 6
    assert math.isnan(reading.metrics[4].values["train/loss"])
    assert reading.metrics[4].values["train/grad_norm"] == math.inf
    assert facts(reading)["log.exit_code"] == 1
