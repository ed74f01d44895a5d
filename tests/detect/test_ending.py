"""Detectors on how a run ended."""

from __future__ import annotations

from ftdoctor.detect import ending, log
from ftdoctor.examples import run_from_example
from ftdoctor.model import Call, Run, State

HALFWAY = {"progress.global_step": 50, "progress.max_steps": 100}


def run_of(*lines: str, **facts: int) -> Run:
    return run_from_example({"lines": list(lines), "facts": facts})


def test_last_line_is_found_only_at_the_end() -> None:
    patterns = ["Downloading"]
    ends = run_of("start", "Downloading model: error 1")
    assert ending.last_lines(ends, patterns=patterns, within=2).state is State.PRESENT
    goes_on = run_of("Downloading model: error 1", "a", "b", "c")
    assert ending.last_lines(goes_on, patterns=patterns, within=2).state is State.ABSENT


def test_last_line_without_a_log_is_unobservable() -> None:
    run = run_from_example({"metrics": {"loss": [1.0]}})
    assert ending.last_lines(run, patterns=["x"], within=2).state is State.UNOBSERVABLE


def test_log_that_stops_halfway_without_an_error_is_short() -> None:
    seen = ending.stops_short(run_of("training", **HALFWAY), below=0.98)
    assert seen.state is State.PRESENT
    assert "50 of 100" in seen.text


def test_whole_run_is_not_short() -> None:
    whole = {**HALFWAY, "progress.global_step": 100}
    assert ending.stops_short(run_of("training", **whole), below=0.98).state is State.ABSENT


def test_run_that_ended_in_an_error_is_not_short_of_reason() -> None:
    raised = run_of("Traceback (most recent call last):", "ValueError: x", **HALFWAY)
    assert ending.stops_short(raised, below=0.98).state is State.ABSENT
    killed = run_of("process got the axe", **HALFWAY)
    log.prepare(killed, [Call("detect", "log.matches", {"patterns": ["axe"], "fatal": True})])
    assert ending.stops_short(killed, below=0.98).state is State.ABSENT


def test_unknown_plan_is_unobservable() -> None:
    assert ending.stops_short(run_of("training"), below=0.98).state is State.UNOBSERVABLE


def test_a_restored_run_that_goes_on_is_not_stopped_at_once() -> None:
    restored = "Restored all states from the checkpoint at last.ckpt"
    reached = "`Trainer.fit` stopped: `max_steps=20` reached."
    assert ending.stops_when_restored(run_of(restored, reached)).state is State.PRESENT
    assert ending.stops_when_restored(run_of(reached, restored)).state is State.ABSENT
    assert ending.stops_when_restored(run_of(reached)).state is State.ABSENT
    rows = {"lines": [restored, reached], "metrics": {"loss": [1.0, 0.9, 0.8]}}
    assert ending.stops_when_restored(run_from_example(rows)).state is State.ABSENT
