"""Of a long log what differs in numbers only is read once, and nothing odd is lost."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftdoctor.read import logtext, sieve, thin
from ftdoctor.read.console import read_console
from ftdoctor.read.curve import Pace, infer_steps
from ftdoctor.read.reading import Reading
from ftdoctor.read.source import memory_source

COUNT = 20_000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small files count as long ones."""
    for name, value in {"ROWS": 500, "EXTREMES": 50}.items():
        monkeypatch.setattr(thin, name, value)
    monkeypatch.setattr(logtext, "WHOLE", 1 << 16)
    monkeypatch.setattr(logtext, "EDGE", 1 << 14)
    monkeypatch.setattr(logtext, "BLOCK", 1 << 16)


def read(text: str) -> Reading:
    return read_console(memory_source("train.log", text.encode()))


def by_step(reading: Reading) -> dict[int, float]:
    steps = infer_steps(reading.metrics, Pace())
    pairs = zip(steps, reading.metrics, strict=True)
    return {step: row.values["loss"] for step, row in pairs if "loss" in row.values}


FORMS = {
    "a dictionary": "{{'loss': {loss}, 'learning_rate': 1e-05, 'epoch': {epoch:.4f}}}\n",
    "pairs": "loss: {loss} grad_norm: 0.5\n",
    "step and pairs": "step {n} | loss {loss} | acc 0.25\n",
    "with time stamps": "2024-05-01 12:00:{second:02d} INFO step {n} loss {loss}\n",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_rows_are_chosen_and_counted(form: str) -> None:
    odd = {7_001: "nan", 9_001: "900.5"}
    rows = (
        form.format(n=n, loss=odd.get(n, "1.5"), epoch=n / COUNT, second=n % 60)
        for n in range(1, COUNT + 1)
    )
    found = by_step(read("".join(rows)))
    assert len(found) < COUNT / 5
    assert {1, COUNT} <= found.keys()
    assert found[9_001] == 900.5
    assert [step for step, loss in found.items() if math.isnan(loss)] == [7_001]


def test_rows_of_two_processes_are_counted_apart() -> None:
    rows = (f"[rank{n % 2}]: {{'loss': {n // 2 + 1}, 'epoch': 0.5}}\n" for n in range(2 * COUNT))
    found = by_step(read("".join(rows)))
    assert len(found) > 100
    assert all(loss == step for step, loss in found.items())


def test_evaluation_rows_between_are_kept() -> None:
    rows = [f"step {n} loss 1.5\n" for n in range(1, COUNT)]
    rows.insert(12_345, "step 12345 eval_loss 1.25\n")
    metrics = read("".join(rows)).metrics
    assert [row.step for row in metrics if "eval_loss" in row.values] == [12_345]


def test_a_resume_on_a_bar_with_metrics_is_kept() -> None:
    steps = [*range(1, 12_001), *range(11_000, COUNT)]
    text = "".join(f"\r 9%|█  | {n}/{COUNT} [00:01<00:02, 1.0it/s, loss=1.5]" for n in steps)
    found = [row.step or 0 for row in read(text).metrics]
    assert (12_000, 11_000) in pairwise(found)


def test_a_status_among_equal_lines_is_found() -> None:
    lines = [f"request {n} answered 200 in 3 ms\n" for n in range(COUNT)]
    lines[9_000] = "request 9000 answered 503 in 3 ms\n"
    kept = [line.text for line in read("".join(lines)).lines]
    assert lines[9_000].strip() in kept


def test_after_many_messages_events_are_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sieve, "MESSAGES", 100)
    lines = [f"skipped {'abcdefghij'[n % 10] * (n // 10)}\n" for n in range(3_000)]
    lines[2_000] = "Traceback (most recent call last):\n  File 'x.py', line 1\nOSError: full\n"
    lines[2_001] = "slurmstepd: error: *** JOB 1 CANCELLED AT 2024 DUE TO TIME LIMIT ***\n"
    assert [event.kind for event in read("".join(lines)).events] == ["traceback", "killed"]


def test_rows_of_endless_forms_are_chosen_by_their_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sieve, "FORMS", 3)
    rows = (f"step {n} loss 1.5 {chr(97 + n % 26) * (n % 40 + 1)}: 1\n" for n in range(COUNT))
    assert len(read("".join(rows)).metrics) < COUNT / 5


def test_text_between_rows_keeps_its_place() -> None:
    rows = [f"loss: 1.{n}\n" for n in range(COUNT)]
    rows[10_000] = "ValueError: once\n"
    rows[-2] = "the last words\n"
    lines = {line.text: line.line for line in read("".join(rows)).lines}
    assert lines["ValueError: once"] == 10_001
    assert lines["the last words"] == COUNT - 1


@given(st.text("ab1\r\n").map(str.encode))
def test_a_block_without_rows_is_unchanged(block: bytes) -> None:
    assert sieve.Sieve(1).without_rows(block) == (block, {})


@given(st.text("ab1%|/ \r\nlos:.").map(str.encode))
def test_candidates_stand_in_their_lines(block: bytes) -> None:
    lines = block.split(b"\n")
    for number, part, _ in sieve.Sieve(1).candidates(block):
        assert part in lines[number - 1].split(b"\r")
