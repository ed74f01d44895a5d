from __future__ import annotations

import math
from pathlib import Path

import pytest

from ftdoctor.model import ArtifactState
from ftdoctor.read.metrics_jsonl import read_metrics_jsonl, read_timing_spans
from ftdoctor.read.reading import Reading
from ftdoctor.read.source import local_source, memory_source

SAMPLES = Path(__file__).parents[3] / "shared" / "formats" / "samples"


def read(text: str | bytes) -> Reading:
    content = text.encode() if isinstance(text, str) else text
    return read_metrics_jsonl(memory_source("metrics.jsonl", content))


def sample(path: str) -> Reading:
    if not (SAMPLES / path).exists():
        pytest.skip("samples are not here")
    return read_metrics_jsonl(local_source(SAMPLES, SAMPLES / path))


def facts(reading: Reading) -> dict[str, object]:
    return {fact.name: fact.value for fact in reading.facts}


def test_nan_literals_quoted_nan_and_infinity() -> None:
    reading = read('{"step": 1, "loss": NaN, "a": "nan", "b": -Infinity, "note": "x"}\n')
    values = reading.metrics[0].values
    assert math.isnan(values["loss"])
    assert math.isnan(values["a"])
    assert values["b"] == -math.inf
    assert "note" not in values


def test_cut_last_line_keeps_the_others() -> None:
    reading = read('{"step": 1, "loss": 2}\n{"step": 2, "lo')
    assert reading.state is ArtifactState.PARTIAL
    assert "cut in line 2" in reading.reason
    assert [row.step for row in reading.metrics] == [1]


def test_interleaved_writers_are_salvaged() -> None:
    reading = read('{"step": 2, "lo{"step": 2, "loss": 1.6}\nss": 1.4}\n{"step": 3, "loss": 1}\n')
    assert reading.state is ArtifactState.PARTIAL
    assert [(row.step, row.values["loss"], row.line) for row in reading.metrics] == [
        (2, 1.6, 1),
        (3, 1.0, 3),
    ]


def test_nul_tail_bom_and_crlf() -> None:
    reading = read(b'\xef\xbb\xbf{"step": 1, "loss": 2}\r\n{"step": 2, "loss": 1}\r\n' + b"\0" * 99)
    assert reading.state is ArtifactState.PARTIAL
    assert "99 NUL" in reading.reason
    assert len(reading.metrics) == 2


def test_repeated_steps_keep_their_order() -> None:
    reading = read("".join(f'{{"step": {s}, "loss": 1}}\n' for s in (1, 2, 3, 2, 3, 4)))
    assert [row.step for row in reading.metrics] == [1, 2, 3, 2, 3, 4]


def test_llama_factory_rows_and_evaluation_after_training() -> None:
    reading = read(
        '{"current_steps": 10, "total_steps": 20, "loss": 1.5, "lr": 0.1, "percentage": 50.0}\n'
        '{"current_steps": 20, "total_steps": 20, "epoch": 1.0}\n'
        '{"current_steps": 2, "total_steps": 2, "loss": null, "eval_loss": 1.2}\n'
    )
    assert reading.curve == "trainer-log"
    assert reading.metrics[0].values == {"loss": 1.5, "lr": 0.1}
    assert [row.step for row in reading.metrics] == [10, None]
    assert facts(reading)["progress.max_steps"] == 20
    assert facts(reading)["progress.global_step"] == 20


def test_verl_null_is_nan() -> None:
    reading = read('{"step": 2, "data": {"actor/grad_norm": null, "critic/score/mean": 0.3}}\n')
    assert math.isnan(reading.metrics[0].values["actor/grad_norm"])


def test_ms_swift_pair_of_steps() -> None:
    reading = read('{"loss": 1.4, "global_step/max_steps": "8275/11043"}\n')
    assert reading.metrics[0].step == 8275
    assert facts(reading)["progress.max_steps"] == 11043


@pytest.mark.parametrize("content", [b"", b"hello\nworld\n", b"version https://git-lfs\n", b"\0\0"])
def test_what_holds_no_object_is_damaged(content: bytes) -> None:
    assert read(content).state is ArtifactState.DAMAGED


def test_sample_of_tinker() -> None:
    reading = sample("tinker-sft/metrics.jsonl")
    assert [row.step for row in reading.metrics] == list(range(40))
    assert facts(reading)["progress.max_steps"] == 40
    assert facts(reading)["run.trainer"] == "tinker"
    assert "train_mean_nll" in reading.metrics[0].values
    assert "test/nll" in reading.metrics[0].values


def test_sample_of_tinker_rl() -> None:
    rows = sample("tinker-rl/metrics.jsonl").metrics
    assert rows[-1].values["env/all/by_group/frac_mixed"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("name", "rows", "state"),
    [
        ("truncated_last_line.jsonl", 10, ArtifactState.PARTIAL),
        ("nan_literals.jsonl", 3, ArtifactState.READ),
        ("two_ranks_interleaved.jsonl", 3, ArtifactState.PARTIAL),
        ("nul_tail.jsonl", 1, ArtifactState.PARTIAL),
        ("bom_crlf.jsonl", 2, ArtifactState.READ),
        ("resume_duplicates.jsonl", 17, ArtifactState.READ),
    ],
)
def test_damaged_samples(name: str, rows: int, state: ArtifactState) -> None:
    reading = sample(f"damage/{name}")
    assert len(reading.metrics) == rows
    assert reading.state is state


def test_timing_spans() -> None:
    text = b'{"step": 0, "spans": [{"name": "a", "duration": 1.5}, {"name": "a", "duration": 1}]}\n'
    reading = read_timing_spans(memory_source("timing_spans.jsonl", text))
    assert reading.metrics[0].values == {"time/a": 2.5}
