"""Detectors on clock times."""

from __future__ import annotations

from ftdoctor.detect import timing
from ftdoctor.examples import run_from_example
from ftdoctor.model import Observation, State

ROWS = "".join(f"2024-03-01 10:0{i // 6}:{i % 6}0 INFO step {i} loss=1.{9 - i}\n" for i in range(9))


def silence(text: str) -> Observation:
    run = run_from_example({"files": {"train.log": text}})
    return timing.silence(run, factor=10.0, minutes=10.0)


def test_long_silence_after_the_last_row_is_seen() -> None:
    seen = silence(ROWS + "2024-03-01 11:01:20 INFO heartbeat\n")
    assert seen.state is State.PRESENT
    assert "60 minutes" in seen.text


def test_usual_end_is_no_silence() -> None:
    assert silence(ROWS + "2024-03-01 10:01:30 INFO saved\n").state is State.ABSENT


def test_rows_without_times_are_unobservable() -> None:
    assert silence("step 1 loss=1.0\nstep 2 loss=0.9\n").state is State.UNOBSERVABLE
