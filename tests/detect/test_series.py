"""The effective history of a curve, and detectors on values, levels, trends, epochs and NaN."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ftdoctor.detect import detector_named
from ftdoctor.detect.points import points
from ftdoctor.examples import run_from_example
from ftdoctor.model import Observation, State

NAN = float("nan")
FALL = [2.7, 2.1, 1.8, 1.6, 1.5, 1.4, 1.35, 1.3, 1.28, 1.25]


def ask(name: str, example: dict[str, Any], **parameters: Any) -> Observation:
    return detector_named(name)(run_from_example(example), **parameters)


def losses(*values: float, **example: Any) -> dict[str, Any]:
    return {"metrics": {"loss": list(values)}, **example}


def test_rows_that_a_resume_repeats_are_dropped() -> None:
    run = run_from_example(losses(5, 4, 3, 2.9, 2.8, 2.5, 2.4, steps=[1, 2, 3, 4, 3, 4, 5]))
    found = points(run, "loss")
    assert found is not None
    assert found.values.tolist() == [5, 4, 2.8, 2.5, 2.4]
    assert found.steps.tolist() == [1, 2, 3, 4, 5]


def test_a_restart_that_died_at_once_is_not_the_run() -> None:
    values = [3.0 - 0.1 * i for i in range(12)] + [3.0, 2.9]
    run = run_from_example(losses(*values, steps=[*range(1, 13), 1, 2]))
    found = points(run, "loss")
    assert found is not None
    assert len(found) == 12


def test_collapse_tells_values_steps_and_place() -> None:
    seen = ask(
        "series.stays", losses(*FALL, 0, 0, 0), metric="loss", at=0.0, after_above=0.1, abrupt=True
    )
    assert seen.state is State.PRESENT
    assert "from 1.25 to exactly 0.0 between step 10 and 11" in seen.text
    assert seen.span is not None
    assert (seen.span.step, seen.span.last_good) == (11, 10)
    assert seen.curves == ("loss",)


@pytest.mark.parametrize(
    "values", [[0.5, 0.2, 0.05, 0.02, 0.008, 0, 0, 0], [1.0, 0.9, 0.0, 0.8], [1.0, 0.9, 0.9, 0.0]]
)
def test_smooth_end_or_single_zero_is_no_collapse(values: list[float]) -> None:
    seen = ask("series.stays", losses(*values), metric="loss", at=0.0, after_above=0.1, abrupt=True)
    assert seen.state is State.ABSENT


def test_rl_loss_is_not_judged_by_likelihood_rules() -> None:
    example = {"metrics": {"loss": [0.0] * 6, "reward": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}}
    seen = ask("series.starts_at", example, metric="loss", at=0.0, kinds=("sft",))
    assert seen.state is State.UNOBSERVABLE
    assert seen.missing == ()


def test_lone_inf_is_the_loss_scaler() -> None:
    norms = {"loss": FALL, "grad_norm": [1, 1, float("inf"), 1, 1, 1, float("inf"), 1, 1, 1]}
    call = {"metric": "grad_norm", "at_least": 2, "or_before_dead": "loss"}
    assert ask("series.nonfinite", {"metrics": norms}, **call).state is State.ABSENT
    norms["loss"] = [*FALL[:3], 0.0, *FALL[4:]]
    assert ask("series.nonfinite", {"metrics": norms}, **call).state is State.PRESENT


@pytest.mark.parametrize(
    ("example", "state"),
    [
        (losses(2, 1.5, 1.2, NAN, NAN), State.PRESENT),
        (losses(2, 1.5, NAN, 1.2, 1.1), State.ABSENT),
        (losses(*FALL, 0, 0, 0), State.PRESENT),
        (
            {"metrics": {"loss": [*FALL, 0, 0, 0], "grad_norm": [1.0] * 10 + [0.0] * 3}},
            State.ABSENT,
        ),
        ({"metrics": {"loss": [0.0] * 5, "grad_norm": [0.0] * 5}}, State.ABSENT),
        ({"metrics": {"loss": [0.0] * 5, "grad_norm": [NAN] * 5}}, State.PRESENT),
        ({"metrics": {"loss": [0.1, 0, 0, 0], "reward": [0.1, 0.2, 0.2, 0.3]}}, State.ABSENT),
        ({}, State.UNOBSERVABLE),
    ],
)
def test_end_in_nan(example: dict[str, Any], state: State) -> None:
    assert ask("nan.ends_run", example, patterns=[]).state is state


def test_nan_names_the_gradient_at_the_same_step() -> None:
    example = {"metrics": {"loss": [1.4, 1.2, 0, 0, 0], "grad_norm": [1, 1, NAN, NAN, NAN]}}
    seen = ask("nan.ends_run", example, patterns=[])
    assert "loss is 0 from step 3 to the end (3 rows)" in seen.text
    assert "grad_norm is NaN at step 3" in seen.text


def test_manners_exclude_each_other() -> None:
    climb = losses(2.7, 2, 1.6, 1.4, 1.3, 1.3, 1.2, 2.5, 4.1, 6.0, NAN, NAN)
    states = {m: ask("nan.manner", climb, manner=m).state for m in ("climb", "sudden", "start")}
    assert states == {"climb": State.PRESENT, "sudden": State.ABSENT, "start": State.ABSENT}


def test_too_few_points_are_unobservable_never_absent() -> None:
    for name, extra in (
        ("trend.flat", {}),
        ("trend.diverges", {}),
        ("trend.still_falling", {}),
        ("trend.plateaus", {"above": 1.5}),
        ("trend.noisy", {"above": 0.2}),
        ("spikes.loss", {"recovered": True}),
        ("series.level", {"metric": "loss", "above": 1.0}),
    ):
        seen = ask(name, losses(2.0, 1.9, 1.8), **extra)
        assert seen.state is State.UNOBSERVABLE, name
        assert seen.missing, name


def test_divergence_of_a_short_run() -> None:
    burnt = losses(2.5, 2.0, 1.64, 1.7, 5.0, 11.8, 10.4, 10.37, 10.37)
    seen = ask("trend.diverges", burnt)
    assert seen.state is State.PRESENT
    assert "best level was 1.64" in seen.text
    assert ask("trend.diverges", losses(*FALL)).state is State.ABSENT


def test_falling_at_the_end_counts_only_while_the_rate_works() -> None:
    values = [3 - 0.1 * i for i in range(20)]
    assert ask("trend.still_falling", losses(*values)).state is State.PRESENT
    annealed = {"metrics": {"loss": values, "learning_rate": [1e-4] * 10 + [1e-7] * 10}}
    assert ask("trend.still_falling", annealed).state is State.ABSENT


def test_noise_raises_no_alarm() -> None:
    source = random.Random(5)
    for _ in range(20):
        values = [1 + 2 * 0.97**i * source.uniform(0.93, 1.07) for i in range(120)]
        example = losses(*values, epochs=[(i + 1) / 40 for i in range(120)])
        for name, extra in (
            ("trend.flat", {}),
            ("trend.diverges", {}),
            ("spikes.loss", {"recovered": False}),
            ("epochs.step_at_border", {"direction": "up"}),
            ("epochs.repeat", {}),
            ("spikes.each_epoch", {}),
        ):
            assert ask(name, example, **extra).state is not State.PRESENT, name


def test_epoch_borders_report_the_sign() -> None:
    values = [2.0] * 12 + [1.5] * 12 + [1.0] * 12
    example = losses(*values, epochs=[(i + 1) / 12 for i in range(36)])
    down = ask("epochs.step_at_border", example, direction="down")
    assert down.state is State.PRESENT
    assert "down at 2" in down.text
    assert ask("epochs.step_at_border", example, direction="up").state is State.ABSENT


def test_every_finding_has_a_place_and_a_short_sentence() -> None:
    seen = ask("series.run_at", {"metrics": {"grad_norm": [0, 0, 0, 0]}}, metric="grad_norm", at=0)
    assert seen.facts[0].where.line == 1
    assert len(seen.text) <= 200
