"""Detectors on evaluations, each with its healthy look-alike."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ftdoctor.detect import evaluation
from ftdoctor.examples import run_from_example
from ftdoctor.model import Run, State

TRAIN = [1.3, 1.1, 0.9, 0.6, 0.3, 0.1, 0.06]


def run(**metrics: list[float]) -> Run:
    return run_from_example({"metrics": {k.replace("__", "/"): v for k, v in metrics.items()}})


def with_facts(facts: dict[str, Any], **metrics: list[float]) -> Run:
    named = {k.replace("__", "/"): v for k, v in metrics.items()}
    return run_from_example({"metrics": named, "facts": facts})


def test_rise_is_told_with_its_minimum() -> None:
    seen = evaluation.rises(run(eval__loss=[1.35, 1.2, 1.1, 1.3, 1.6, 2.0, 2.4], loss=TRAIN))
    assert seen.state is State.PRESENT
    assert "1.1 at step 3" in seen.text
    assert seen.span is not None
    assert seen.span.last_good == 3


@pytest.mark.parametrize(
    "values",
    [
        [1.35, 1.2, 1.1, 1.05, 1.02, 1.0, 1.01],  # the minimum is late
        [1.0, 0.9, 0.86, 0.85, 0.855, 0.86, 0.862],  # 1.4 % is not a rise
        [1.0, 1.3, 0.9, 1.2, 0.8, 1.3, 1.1],  # noise
    ],
)
def test_look_alikes_do_not_rise(values: list[float]) -> None:
    assert evaluation.rises(run(eval__loss=values, loss=TRAIN)).state is State.ABSENT


def test_rise_with_the_training_loss_is_not_overfitting() -> None:
    rising = [1.3, 1.1, 1.0, 1.2, 1.6, 2.0, 2.4]
    assert evaluation.rises(run(eval__loss=rising, loss=rising)).state is State.ABSENT


def test_several_evaluation_sets_are_judged_together() -> None:
    up, down = [1.0, 0.9, 1.1, 1.5, 2.0], [1.0, 0.9, 0.8, 0.7, 0.6]
    both = run(eval__a_loss=up, eval__b_loss=up, eval__c_loss=down)
    seen = evaluation.rises(both)
    assert seen.state is State.PRESENT
    assert "2 of 3 evaluation sets" in seen.text
    assert evaluation.rises(run(eval__a_loss=up, eval__b_loss=down, eval__c_loss=down)).state is (
        State.ABSENT
    )


def test_three_evaluations_are_too_few_for_a_rise() -> None:
    assert evaluation.rises(run(eval__loss=[1.0, 1.2, 1.5])).state is State.UNOBSERVABLE


@pytest.mark.parametrize(("classes", "loss", "accuracy"), [(3, 1.0986, 0.333), (2, 0.6931, 0.51)])
def test_chance_fits_loss_and_accuracy(classes: int, loss: float, accuracy: float) -> None:
    metrics = {"eval__loss": [loss] * 3, "eval__accuracy": [accuracy] * 3, "loss": [loss] * 3}
    seen = evaluation.at_chance(with_facts({"run.kind": "classification"}, **metrics))
    assert seen.state is State.PRESENT
    assert f"ln {classes}" in seen.text


def test_accuracy_of_tokens_in_sft_is_no_classifier() -> None:
    seen = evaluation.at_chance(
        with_facts({"run.kind": "sft"}, eval__loss=[0.69] * 3, eval__accuracy=[0.5] * 3)
    )
    assert seen.state is State.UNOBSERVABLE


def test_recorded_best_that_is_the_worst() -> None:
    curve = [1.35, 1.0, 1.1]
    worst = with_facts({"state.best_metric": 1.35}, eval__loss=curve)
    best = with_facts({"state.best_metric": 1.0}, eval__loss=curve)
    assert evaluation.best_is_worst(worst).state is State.PRESENT
    assert evaluation.best_is_worst(best).state is State.ABSENT


def test_summary_of_another_file_counts_as_evaluation() -> None:
    seen = evaluation.final_far_below_train(
        with_facts({"summary.eval_loss": 0.297}, loss=[2.0, 1.5, 0.9, 0.8, 0.74]), ratio=0.5
    )
    assert seen.state is State.PRESENT


def test_evaluations_seen_is_not_never_ran() -> None:
    long = [1.0] * 30
    assert evaluation.never_ran(run(loss=long)).state is State.PRESENT
    assert evaluation.never_ran(run(loss=long, eval__loss=[1.0])).state is State.ABSENT
    assert evaluation.never_ran(run(loss=[1.0] * 5)).state is State.UNOBSERVABLE
    assert evaluation.never_ran(run()).state is State.UNOBSERVABLE


def test_a_run_that_is_not_over_is_not_too_short() -> None:
    facts = {"progress.global_step": 12, "progress.max_steps": 900}
    assert evaluation.too_few_steps(with_facts(facts)).state is State.ABSENT
    facts["progress.max_steps"] = 12
    assert evaluation.too_few_steps(with_facts(facts)).state is State.PRESENT


@pytest.mark.parametrize(
    ("metrics", "state"),
    [
        ({"eval/loss": [math.nan]}, State.PRESENT),
        ({"eval/loss": [1.2, math.inf]}, State.PRESENT),
        ({"eval/loss": [math.nan], "loss": [2.0, 1.5]}, State.ABSENT),
        ({"eval/loss": [1.2, 1.1]}, State.ABSENT),
        ({"loss": [math.nan]}, State.UNOBSERVABLE),
    ],
)
def test_an_evaluation_that_alone_is_shown(metrics: dict[str, list[float]], state: State) -> None:
    assert evaluation.nan_alone(run_from_example({"metrics": metrics})).state is state
