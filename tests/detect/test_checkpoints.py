"""Detectors on checkpoints: expiry and its look-alikes, stale folders, the best one lost."""

from __future__ import annotations

from typing import Any

import pytest

from ftdoctor.detect import checkpoints
from ftdoctor.examples import run_from_example
from ftdoctor.model import Run, State

DAY = 86_400.0


def run_of(**facts: Any) -> Run:
    return run_from_example({"facts": {k.replace("__", "."): v for k, v in facts.items()}})


def expiring(
    end: float, *, assumed: bool = False, lasting: int = 0, now: float | None = 0.0
) -> Run:
    facts: dict[str, Any] = {"checkpoint__lasting": lasting}
    if not lasting:
        facts |= {"checkpoint__expires_at": end, "checkpoint__ttl_assumed": assumed}
    if now is not None:
        facts["run__now"] = now
    return run_of(**facts)


def test_expired_says_since_when() -> None:
    seen = checkpoints.expired(expiring(1_760_000_000, now=1_760_000_000 + 3 * DAY), assumed=False)
    assert seen.state is State.PRESENT
    assert "2025-10-09" in seen.text
    assert "3 days ago" in seen.text


@pytest.mark.parametrize(
    ("run", "state"),
    [
        (expiring(100 * DAY, now=10 * DAY), State.ABSENT),
        (expiring(1 * DAY, lasting=1, now=99 * DAY), State.ABSENT),
        (expiring(1 * DAY, assumed=True, now=99 * DAY), State.UNOBSERVABLE),
        (expiring(1 * DAY, now=None), State.UNOBSERVABLE),
        (run_of(), State.UNOBSERVABLE),
    ],
)
def test_not_expired(run: Run, state: State) -> None:
    assert checkpoints.expired(run, assumed=False).state is state


def test_without_a_clock_the_date_is_still_told() -> None:
    assert "1970-01-02" in checkpoints.expired(expiring(DAY, now=None), assumed=False).text


def test_assumed_life_is_another_symptom() -> None:
    run = expiring(DAY, assumed=True, now=99 * DAY)
    assert checkpoints.expired(run, assumed=True).state is State.PRESENT


@pytest.mark.parametrize(
    ("name", "path", "state"),
    [
        ("script__test__model_path", "tinker://r/weights/final", State.PRESENT),
        ("script__test__model_path", "tinker://r/sampler_weights/final", State.ABSENT),
        ("script__train__load_checkpoint_path", "tinker://r/sampler_weights/9", State.PRESENT),
        ("script__train__load_checkpoint_path", "tinker://r/weights/9", State.ABSENT),
        ("script__test__model_path", "outputs/run1", State.UNOBSERVABLE),
    ],
)
def test_kind_of_path(name: str, path: str, state: State) -> None:
    assert checkpoints.path_of_wrong_kind(run_of(**{name: path})).state is state


def test_paths_that_the_run_recorded_are_not_uses() -> None:
    run = run_of(checkpoint__state_path="tinker://r/weights/final")
    assert checkpoints.path_of_wrong_kind(run).state is State.UNOBSERVABLE


def test_baseline_beside_the_trained_model_is_fine() -> None:
    run = run_of(
        checkpoint__sampler_path="tinker://r/sampler_weights/final",
        script__test__base_model="Qwen/Qwen3-8B",
        script__inference__model_path="tinker://r/sampler_weights/final",
    )
    assert checkpoints.base_sampled(run).state is State.ABSENT


def kept(*steps: int, **example: Any) -> Run:
    files = {f"checkpoint-{step}/config.json": "{}" for step in steps}
    return run_from_example({"files": files, **example})


def test_checkpoint_beyond_plan() -> None:
    facts = {"progress.max_steps": 300}
    assert checkpoints.beyond_plan(kept(100, 900, facts=facts)).state is State.PRESENT
    assert checkpoints.beyond_plan(kept(100, 300, facts=facts)).state is State.ABSENT
    assert checkpoints.beyond_plan(kept(100)).state is State.UNOBSERVABLE


EVAL = {"eval/loss": [1.2, 0.9, 1.1, 1.4]}
STEPS = [100, 200, 300, 400]


@pytest.mark.parametrize(
    ("kept_steps", "losses", "state"),
    [
        ((300, 400), [1.2, 0.9, 1.1, 1.4], State.PRESENT),
        ((200, 400), [1.2, 0.9, 1.1, 1.4], State.ABSENT),
        ((400,), [1.2, 0.91, 0.9, 0.91], State.ABSENT),
        ((), [1.2, 0.9, 1.1, 1.4], State.UNOBSERVABLE),
    ],
)
def test_best_not_kept(kept_steps: tuple[int, ...], losses: list[float], state: State) -> None:
    run = kept(*kept_steps, metrics={"eval/loss": losses}, steps=STEPS)
    seen = checkpoints.best_not_kept(run, margin=0.05, evaluations=4)
    assert seen.state is state
    if state is State.PRESENT:
        assert seen.span is not None
        assert seen.span.step == 200


def test_best_reloaded_at_the_end_is_not_lost() -> None:
    run = kept(400, metrics=EVAL, steps=STEPS, settings={"load_best_model_at_end": True})
    assert checkpoints.best_not_kept(run, margin=0.05, evaluations=4).state is State.ABSENT


def test_all_nan_evaluation_does_not_raise() -> None:
    run = kept(400, metrics={"eval/loss": [float("nan")] * 4}, steps=STEPS)
    seen = checkpoints.best_not_kept(run, margin=0.05, evaluations=4)
    assert seen.state is State.UNOBSERVABLE


def test_single_folder_tells_nothing_of_the_named_best() -> None:
    facts = {"state.best_model_checkpoint": "out/checkpoint-200"}
    assert checkpoints.best_gone(kept(400, facts=facts)).state is State.UNOBSERVABLE
    assert checkpoints.best_gone(kept(300, 400, facts=facts)).state is State.PRESENT
    assert checkpoints.best_gone(kept(200, 400, facts=facts)).state is State.ABSENT
