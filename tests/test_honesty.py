"""Faults that no signature covers must end in "no known cause", never in a confident wrong one."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from ftdoctor.compare import compare
from ftdoctor.diagnose import POSSIBLE, diagnose_run, with_comparison
from ftdoctor.examples import run_from_example
from ftdoctor.library import load
from ftdoctor.model import Diagnosis, State
from ftdoctor.rank import TROUBLE

LIBRARY = load()
STEPS = 200
Example = dict[str, Any]
SETTINGS = {
    "learning_rate": 1e-4, "num_train_epochs": 2, "per_device_train_batch_size": 8,
    "lr_scheduler_type": "cosine", "warmup_steps": 10, "max_grad_norm": 1.0,
}  # fmt: skip


def decay(start: float, end: float, count: int = STEPS, noise: float = 0.03) -> list[float]:
    """Return a loss as healthy runs have it."""
    rng = random.Random(1)
    return [
        end + (start - end) * math.exp(-5 * i / count) + rng.gauss(0, noise) for i in range(count)
    ]


def healthy(**changed: list[float]) -> Example:
    """Return a healthy run with some of its metrics replaced."""
    rng = random.Random(2)
    metrics: dict[str, list[float]] = {
        "loss": decay(2.4, 1.1),
        "grad_norm": [0.8 + rng.gauss(0, 0.08) for _ in range(STEPS)],
        "learning_rate": [
            1e-4 * min(i / 10, (STEPS - i) / (STEPS - 10)) for i in range(1, STEPS + 1)
        ],
    }
    return {"metrics": {**metrics, **changed}, "settings": SETTINGS}


def two_alternating_data_sets() -> Example:
    """Blocks of 20 steps of another data set, whose loss is higher by 0.6."""
    return healthy(loss=[v + (0.6 if (i // 20) % 2 else 0) for i, v in enumerate(decay(2.4, 1.1))])


def constant_gradient_norm() -> Example:
    """A hook returns the clipped norm of another model."""
    return healthy(grad_norm=[0.731] * STEPS)


def auxiliary_loss_left_in() -> Example:
    """The load-balancing loss of a router is added at weight 1."""
    return healthy(loss=decay(5.2, 3.9))


def router_loss_explodes() -> Example:
    """The routers of a mixture of experts diverge while the language loss still falls."""
    return healthy(router_z_loss=[0.1 * math.exp(i / 30) for i in range(STEPS)])


def logger_repeats_values() -> Example:
    """A callback logs each value four times."""
    return healthy(loss=[v for v in decay(2.4, 1.1, STEPS // 4) for _ in range(4)])


def accuracy_falls_while_loss_falls() -> Example:
    """The token accuracy is computed on shifted labels."""
    falling = [0.62 - 0.2 * i / STEPS for i in range(STEPS)]
    return healthy(mean_token_accuracy=falling)


def license_server_in_the_log() -> Example:
    """An in-house service stops the job with words that nobody else has."""
    lines = ["quota-broker[12]: lease 7731 revoked by scheduler policy", "trainer handed over"]
    return {**healthy(), "lines": lines}


def entropy_climbs_in_supervised_training() -> Example:
    """A temperature is learnt by mistake."""
    return healthy(entropy=[0.9 + 1.5 * i / STEPS for i in range(STEPS)])


def loss_jumps_at_a_wall_clock_hour() -> Example:
    """A cron job swaps a data shard half-way for an easier one."""
    return healthy(loss=[v - (0.5 if i > 120 else 0) for i, v in enumerate(decay(2.4, 1.4))])


def half_the_layers_freeze_half_way() -> Example:
    """A callback freezes half of the layers by mistake."""
    rng = random.Random(3)
    norms = [(0.8 if i < 70 else 0.4) + rng.gauss(0, 0.02) for i in range(STEPS)]
    return healthy(grad_norm=norms)


def auxiliary_head_goes_nan() -> Example:
    """A head that only a callback trains divides by zero from half-way on."""
    norms = [1.5 if i < 90 else math.nan for i in range(STEPS)]
    return healthy(value_head_norm=norms)


def clipping_hook_counts_on() -> Example:
    """The norm that is logged is a running sum."""
    return healthy(weight_norm=[0.5 * 1.05**i for i in range(STEPS)])


def evaluation_scores_fall() -> Example:
    """The evaluation prompt rots: a counter in it grows with every evaluation."""
    scores = [0.41, 0.4, 0.35, 0.31, 0.28, 0.24, 0.2, 0.18]
    return healthy(**{"eval/rouge_l": scores})


# What is seen in them, and what nobody could see in one curve.
SEEN: tuple[tuple[Callable[[], Example], str], ...] = (
    (two_alternating_data_sets, "loss-steps-up"),
    (constant_gradient_norm, "gradient-norm-never-varies"),
    (router_loss_explodes, "loss-or-norm-grows-hundredfold"),
    (logger_repeats_values, "loss-repeats-values"),
    (accuracy_falls_while_loss_falls, "score-worse-than-at-start"),
    (half_the_layers_freeze_half_way, "gradient-norm-steps-down"),
    (auxiliary_head_goes_nan, "metric-ends-in-nan"),
    (evaluation_scores_fall, "score-worse-than-at-start"),
    (clipping_hook_counts_on, "loss-or-norm-grows-hundredfold"),
)
SILENT: tuple[Callable[[], Example], ...] = (
    auxiliary_loss_left_in,
    license_server_in_the_log,
    loss_jumps_at_a_wall_clock_hour,
    entropy_climbs_in_supervised_training,  # as it does in healthy runs on a narrow base
)
FAULTS = tuple(fault for fault, _ in SEEN) + SILENT


def diagnosed(example: Example) -> Diagnosis:
    return diagnose_run(run_from_example(example), LIBRARY)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_an_unknown_fault_gets_no_confident_cause(fault: Callable[[], Example]) -> None:
    diagnosis = diagnosed(fault())
    said = [(c.id, c.probability) for c in diagnosis.causes[:3]]
    assert diagnosis.verdict.kind in ("unknown", "healthy"), said
    assert all(p < POSSIBLE for _, p in said), said


@pytest.mark.parametrize(("fault", "symptom"), SEEN, ids=lambda f: getattr(f, "__name__", f))
def test_a_fault_that_is_seen_is_not_called_healthy(
    fault: Callable[[], Example], symptom: str
) -> None:
    diagnosis = diagnosed(fault())
    assert diagnosis.verdict.kind == "unknown"
    assert diagnosis.verdict.text.startswith("A fault is seen, but its cause is not known.")
    assert symptom in diagnosis.unexplained
    seen = diagnosis.finding(symptom)
    assert seen is not None
    assert seen.text == diagnosis.verdict.lead


def test_an_exception_that_nobody_knows_is_named_by_its_last_line() -> None:
    """The cause that is named says itself that no signature knows the exception."""
    text = 'Traceback (most recent call last):\n  File "own.py", line 7, in lease\n'
    text += "LeaseRevoked: ticket 7731 was taken back by the broker\n"
    diagnosis = diagnosed({**healthy(), "files": {"stdout.log": text}})
    assert [c.id for c in diagnosis.causes if c.probability >= POSSIBLE] == ["uncaught-exception"]
    assert "no signature knows it" in diagnosis.verdict.text
    assert "LeaseRevoked: ticket 7731 was taken back by the broker" in diagnosis.verdict.lead


def test_trouble_that_a_likely_cause_accounts_for_is_not_told_again() -> None:
    rising = [2.0 + 0.02 * i for i in range(40)] + [math.nan] * (STEPS - 40)
    diagnosis = diagnosed(healthy(loss=rising, grad_norm=rising))
    assert diagnosis.verdict.kind == "cause"
    assert not set(diagnosis.unexplained) & {
        s.id for s in LIBRARY.symptoms.values() if s.group == TROUBLE
    }


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_its_strongest_symptoms_are_named(fault: Callable[[], Example]) -> None:
    """What is present, rare and explained by nothing likely stands in the verdict."""
    diagnosis = diagnosed(fault())
    present = {f.symptom for f in diagnosis.findings if f.state is State.PRESENT}
    assert set(diagnosis.unexplained) <= present
    if diagnosis.unexplained:
        assert diagnosis.verdict.kind == "unknown"
        titles = [f.title for f in diagnosis.findings if f.symptom in diagnosis.unexplained]
        assert any(title[1:] in diagnosis.verdict.text for title in titles)
        assert diagnosis.status == 0


@pytest.mark.parametrize("outcome", ["never-stops", "same-as-base", "gibberish"])
def test_a_run_of_which_the_user_tells_a_fault_is_not_called_healthy(outcome: str) -> None:
    diagnosis = diagnosed({**healthy(), "facts": {f"observed.{outcome}": True}})
    assert diagnosis.verdict.kind == "unknown"
    assert "Strongest symptom" in diagnosis.verdict.text


def test_what_only_a_good_run_shows_is_named_if_nothing_explains_it() -> None:
    good, bad = (run_from_example(e) for e in (healthy(), auxiliary_loss_left_in()))
    diagnosis = diagnose_run(with_comparison(bad, compare(good, bad)), LIBRARY)
    assert diagnosis.verdict.kind == "unknown"
    assert "loss-worse-than-good-run" in diagnosis.unexplained


def test_the_healthy_run_beneath_them_is_clean() -> None:
    assert diagnosed(healthy()).verdict.kind == "healthy"
