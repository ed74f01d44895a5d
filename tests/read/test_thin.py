"""Long logs are thinned, and nothing odd is lost."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ftdoctor.model import ArtifactState
from ftdoctor.read import logtext, thin
from ftdoctor.read.console import read_console
from ftdoctor.read.metrics_jsonl import read_metrics_jsonl
from ftdoctor.read.reading import Reading
from ftdoctor.read.source import memory_source

COUNT = 20_000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small files count as long ones."""
    for name, value in {"LONG": 1 << 16, "BLOCK": 1 << 16, "ROWS": 500, "EXTREMES": 50}.items():
        monkeypatch.setattr(thin, name, value)
    monkeypatch.setattr(logtext, "WHOLE", 1 << 16)
    monkeypatch.setattr(logtext, "EDGE", 1 << 12)
    monkeypatch.setattr(logtext, "BLOCK", 1 << 16)


def jsonl(odd: dict[int, str], end: bytes = b"") -> Reading:
    rows = (
        f'{{"step": {n}, "loss": {odd.get(n, 2 - n / COUNT)}, "lr": 1e-4}}\n'
        for n in range(1, COUNT + 1)
    )
    return read_metrics_jsonl(memory_source("metrics.jsonl", "".join(rows).encode() + end))


def losses(reading: Reading) -> dict[int, float]:
    return {row.step or 0: row.values["loss"] for row in reading.metrics if "loss" in row.values}


def test_first_last_extremes_and_what_is_not_finite_are_kept() -> None:
    found = losses(jsonl({7: "NaN", 9_001: "900.5", 15_000: "Infinity", 15_001: "-Infinity"}))
    assert len(found) < COUNT / 5
    assert {1, 6, 7, 8, 9_001, 14_999, 15_000, 15_001, 15_002, COUNT} <= found.keys()
    assert math.isnan(found[7])
    assert found[9_001] == 900.5
    assert found[15_001] == -math.inf


def test_rows_have_their_lines() -> None:
    assert all(row.line == row.step for row in jsonl({}).metrics)


def test_evaluation_rows_between_are_kept() -> None:
    rows = [f'{{"step": {n}, "loss": 1.5}}' for n in range(1, COUNT)]
    rows.insert(12_345, '{"step": 12345, "eval_loss": 1.25}')
    found = read_metrics_jsonl(memory_source("m.jsonl", ("\n".join(rows) + "\n").encode()))
    assert [row.values["eval_loss"] for row in found.metrics if "eval_loss" in row.values] == [1.25]


def test_a_resume_inside_is_kept() -> None:
    steps = [*range(1, 12_001), *range(11_000, COUNT)]
    text = "".join(f'{{"step": {n}, "loss": 1.5}}\n' for n in steps)
    found = read_metrics_jsonl(memory_source("m.jsonl", text.encode()))
    pairs = [(a.step, b.step) for a, b in zip(found.metrics, found.metrics[1:], strict=False)]
    assert (12_000, 11_000) in pairs


def test_a_cut_end_and_a_nul_tail_are_told() -> None:
    cut = jsonl({}, b'{"step": 20001, "lo')
    assert cut.state is ArtifactState.PARTIAL
    assert f"cut in line {COUNT + 1}" in cut.reason
    assert "64 NUL" in jsonl({}, b"\0" * 64).reason


def test_a_damaged_line_inside_is_told() -> None:
    found = jsonl({10_000: "oh no"})
    assert found.state is ArtifactState.PARTIAL
    assert "line 10000" in found.reason
    assert 20_000 in losses(found)


def test_a_long_console_log_is_thinned_alike() -> None:
    odd = {7_001: "nan", 9_001: "900.5"}
    bar = "\r  1%|▏         | {0}/{1} [00:01<00:02,  1.00s/it]"
    text = "".join(
        f"{bar.format(n, COUNT)}\r   \r"
        f"{{'loss': {odd.get(n, 1.5)}, 'learning_rate': 1e-05, 'epoch': {n / COUNT:.6f}}}\n"
        f"{bar.format(n, COUNT)}"
        for n in range(1, COUNT + 1)
    )
    text += "WARNING: loss: 1.5 is odd\n"
    found = read_console(memory_source("train.log", text.encode()))
    by_step = losses(found)
    assert len(by_step) < COUNT / 5
    assert by_step[9_001] == 900.5
    assert math.isnan(by_step[7_001])
    assert all(row.line == row.step for row in found.metrics)


def test_a_short_log_is_kept_whole() -> None:
    assert list(thin.keep([np.zeros(400)], None, 400)) == list(range(400))
    assert list(thin.keep([], None, 0)) == []
