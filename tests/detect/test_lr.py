"""Detectors on the learning rate, each with its healthy look-alike."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ftdoctor.detect import lr
from ftdoctor.examples import run_from_example
from ftdoctor.model import State

COSINE = [1e-4 * (1 + math.cos(math.pi * i / 20)) / 2 for i in range(21)]
SAWTOOTH = [1e-4 * (1 - i / 8) for i in range(8)] * 3
JAGGED = [1e-4, 9e-5, 2e-5, 9e-5, 1e-5, 8e-5, 7e-5, 1e-5, 9e-5, 2e-5, 8e-5, 1e-5]


def rates(values: list[float], **example: Any) -> Any:
    return run_from_example({"metrics": {"learning_rate": values}, **example})


@pytest.mark.parametrize(
    ("values", "settings", "state"),
    [
        (JAGGED, {}, State.PRESENT),
        (JAGGED, {"lr_scheduler_type": "cosine"}, State.PRESENT),
        (SAWTOOTH, {"lr_scheduler_type": "cosine_with_restarts"}, State.ABSENT),
        (SAWTOOTH, {"lr_scheduler_type": "linear"}, State.PRESENT),
        (SAWTOOTH, {}, State.UNOBSERVABLE),
        (COSINE, {}, State.ABSENT),
        ([0.0, 2e-5, 5e-5, 1e-4, *COSINE, 0.0], {}, State.ABSENT),
    ],
)
def test_oscillation(values: list[float], settings: dict[str, Any], state: State) -> None:
    assert lr.oscillates(rates(values, settings=settings)).state is state


@pytest.mark.parametrize(
    ("values", "schedule", "done", "state"),
    [
        ([2e-4] * 20, "cosine", 100, State.PRESENT),
        ([2e-4] * 20, "SchedulerType.LINEAR", 90, State.PRESENT),
        ([0.0, *[2e-4] * 20], "cosine", 100, State.PRESENT),
        ([2e-4] * 20, "cosine", 10, State.UNOBSERVABLE),
        ([2e-4] * 20, "constant_with_warmup", 100, State.ABSENT),
        (COSINE, "cosine", 100, State.ABSENT),
        ([2e-4] * 5, "cosine", 100, State.UNOBSERVABLE),
    ],
)
def test_a_level_rate_under_a_decay(
    values: list[float], schedule: str, done: int, state: State
) -> None:
    progress = {"progress.global_step": done, "progress.max_steps": 100}
    run = rates(values, settings={"lr_scheduler_type": schedule}, facts=progress)
    assert lr.stays_level(run).state is state


TRIANGLES = [1e-4 * (1 + abs((i % 12) - 6)) / 7 for i in range(48)]
LIFTED = [1.0 + 0.4 * rate / 1e-4 + 1 / (i + 1) for i, rate in enumerate(SAWTOOTH)]
WORSE = [1.0 + 0.3 * (i // 8) + 0.4 * rate / 1e-4 for i, rate in enumerate(SAWTOOTH)]
STEADY = [2.0 - 0.04 * i for i in range(24)]


@pytest.mark.parametrize(
    ("values", "loss", "settings", "lifts", "worse"),
    [
        (SAWTOOTH, LIFTED, {}, State.PRESENT, State.ABSENT),
        (SAWTOOTH, WORSE, {}, State.PRESENT, State.PRESENT),
        (SAWTOOTH, STEADY, {}, State.ABSENT, State.ABSENT),
        (SAWTOOTH[:16], WORSE[:16], {}, State.UNOBSERVABLE, State.UNOBSERVABLE),
        (
            SAWTOOTH[:16],
            WORSE[:16],
            {"lr_scheduler_type": "cosine_with_restarts"},
            State.PRESENT,
            State.PRESENT,
        ),
        (
            TRIANGLES,
            [1 + 0.5 * rate / 1e-4 - 0.005 * i for i, rate in enumerate(TRIANGLES)],
            {},
            State.PRESENT,
            State.PRESENT,  # it ends halfway up
        ),
        (COSINE, [2.0 - 0.04 * i for i in range(21)], {}, State.ABSENT, State.ABSENT),
    ],
)
def test_the_loss_at_restarts(
    values: list[float], loss: list[float], settings: dict[str, Any], lifts: State, worse: State
) -> None:
    run = run_from_example(
        {"metrics": {"learning_rate": values, "loss": loss}, "settings": settings}
    )
    assert lr.restarts_lift(run).state is lifts
    assert lr.ends_above_trough(run).state is worse


def test_range_depends_on_method_and_kind() -> None:
    values = [2e-4] * 5
    assert lr.beyond(rates(values, settings={"lora.r": 8}), side="high").state is State.ABSENT
    full = rates(values, settings={"adapter": "full"})
    assert lr.beyond(full, side="high").state is State.PRESENT
    dpo = run_from_example(
        {
            "metrics": {"learning_rate": values, "rewards/margins": [0.0] * 5},
            "settings": {"lora.r": 8},
        }
    )
    assert lr.beyond(dpo, side="high").state is State.PRESENT


def test_unknown_method_takes_the_wider_range() -> None:
    assert lr.beyond(rates([8e-5] * 5), side="high").state is State.ABSENT
    assert lr.beyond(rates([2e-4] * 5), side="high").state is State.UNOBSERVABLE
    assert lr.beyond(rates([2e-2] * 5), side="high").state is State.PRESENT


def test_schedule_that_begins_once_more_is_a_resume() -> None:
    again = [1e-3 * (1 - i / 20) for i in range(12)] + [1e-3 * (1 - i / 20) for i in range(8)]
    assert lr.jumps_at_resume(rates(again), to_peak=True).state is State.PRESENT
    warm = [1e-4 * i for i in range(1, 6)] + [5e-4 - 2e-5 * i for i in range(10)]
    assert lr.jumps_at_resume(rates(warm + warm[:8])).state is State.PRESENT
    assert lr.jumps_at_resume(rates(warm)).state is State.ABSENT
    meant = rates(again, settings={"lr_scheduler_type": "cosine_with_restarts"})
    assert lr.jumps_at_resume(meant).state is State.ABSENT
    assert lr.jumps_at_resume(rates(again[:12] + again[:12] + again[:12])).state is State.ABSENT


def test_optimizer_of_another_scale_is_not_judged() -> None:
    run = rates([1.0] * 5, settings={"optim": "prodigy"})
    assert lr.beyond(run, side="high").state is State.UNOBSERVABLE


def test_end_of_a_schedule_is_no_low_rate() -> None:
    assert lr.beyond(rates([4e-8]), side="low").state is State.UNOBSERVABLE
    assert lr.beyond(rates([1e-9, 2e-9, 3e-9]), side="low").state is State.UNOBSERVABLE


def test_jump_at_resume_is_told_with_both_rates() -> None:
    values = [1e-3, 8e-4, 6e-4, 4e-4, 2e-4, 1e-3, 9e-4]
    seen = lr.jumps_at_resume(rates(values, steps=[1, 2, 3, 4, 5, 4, 5]))
    assert seen.state is State.PRESENT
    assert "0.0002 to 0.001" in seen.text
    assert lr.jumps_at_resume(rates(COSINE)).state is State.ABSENT


def test_warm_up_cut_by_an_abort_is_no_fault() -> None:
    values = [1e-6 * i for i in range(1, 9)]
    planned = {"progress.global_step": 8, "progress.max_steps": 800}
    assert lr.warms_up_to_the_end(rates(values, facts=planned)).state is State.ABSENT
    done = {"progress.epoch": 2.97}
    reached = rates(values, facts=done, settings={"num_train_epochs": 3})
    assert lr.warms_up_to_the_end(reached).state is State.PRESENT
    ended = rates(values, facts={"progress.finished": True})
    assert lr.warms_up_to_the_end(ended).state is State.PRESENT
    assert lr.warms_up_to_the_end(rates(values)).state is State.UNOBSERVABLE


def test_schedule_that_ran_out() -> None:
    early = [1e-4 * (1 - i / 10) for i in range(10)] + [0.0] * 15
    assert lr.finishes_early(rates(early), share=0.2).state is State.PRESENT
    assert lr.finishes_early(rates(COSINE), share=0.2).state is State.ABSENT


def test_rate_of_the_first_row_after_some_decay_is_the_setting() -> None:
    values = [9.7e-5 - 4e-6 * i for i in range(20)]
    run = rates(values, settings={"learning_rate": 1e-4})
    assert lr.differs_from_setting(run).state is State.ABSENT
    other = rates(values, settings={"learning_rate": 5e-5})
    assert lr.differs_from_setting(other).state is State.PRESENT
