"""Detectors on rewards, groups and scores, each with its healthy look-alike."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ftdoctor.detect import rl
from ftdoctor.examples import run_from_example
from ftdoctor.model import Run, State

NOISE = [0.25, 0.5, 0.1, 0.3, 0.2, 0.25, 0.3, 0.1, 0.2, 0.4]


def run(**metrics: list[float]) -> Run:
    return run_from_example({"metrics": {k.replace("__", "/"): v for k, v in metrics.items()}})


def test_flat_reward_stalls_and_rising_one_does_not() -> None:
    seen = rl.reward_stalls(run(reward=NOISE * 4), surely=True)
    assert seen.state is State.PRESENT
    assert "standard errors" in seen.text
    rising = [v + 0.015 * i for i, v in enumerate(NOISE * 4)]
    assert rl.reward_stalls(run(reward=rising), surely=True).state is State.ABSENT


def test_solved_task_has_nowhere_to_rise() -> None:
    assert rl.reward_stalls(run(reward=[0.9, 0.95, 1.0] * 10), surely=True).state is State.ABSENT


def test_rise_within_the_noise_is_not_excluded() -> None:
    values = [*NOISE, 0.25, 0.5, 0.1, 0.3, 0.3, 0.3, 0.5, 0.2, 0.4, 0.5]
    assert rl.reward_stalls(run(reward=values), surely=True).state is State.UNOBSERVABLE
    assert rl.reward_stalls(run(reward=values), surely=False).state is State.PRESENT


def test_too_few_rows() -> None:
    assert rl.reward_stalls(run(reward=NOISE), surely=True).state is State.UNOBSERVABLE
    assert rl.reward_stalls(run(loss=NOISE), surely=True).state is State.UNOBSERVABLE


def test_collapse_of_the_reward_is_told_from_noise() -> None:
    source = random.Random(4)
    good = [0.8 + source.gauss(0, 0.05) for _ in range(40)]
    bad = [0.1 + source.gauss(0, 0.05) for _ in range(40)]
    assert rl.reward_drops(run(reward=good + bad)).state is State.PRESENT
    noisy = [source.choice([0.0, 0.125, 0.25, 0.375, 0.5]) for _ in range(60)]
    assert rl.reward_drops(run(reward=noisy)).state is State.ABSENT


@pytest.mark.parametrize(
    ("metrics", "state"),
    [
        ({"frac_reward_zero_std": [1.0] * 12}, State.PRESENT),
        ({"frac_mixed": [0.05] * 12}, State.PRESENT),
        ({"frac_mixed": [0.6] * 12}, State.ABSENT),
        ({"reward": [0.1] * 12, "reward_std": [0.0] * 12}, State.PRESENT),
        ({"reward": NOISE * 2, "loss": [0, 0, 2.5, 0, -3.0, 1.9, *[0.0] * 14]}, State.PRESENT),
        ({"reward": NOISE * 2, "loss": [0.0] * 20, "grad_norm": [0.5] * 20}, State.UNOBSERVABLE),
        ({"loss": [0.0] * 20}, State.UNOBSERVABLE),
    ],
)
def test_variance_within_groups(metrics: dict[str, list[float]], state: State) -> None:
    assert rl.groups_without_variance(run(**metrics)).state is state


def test_single_outlier_of_kl_is_no_explosion() -> None:
    kl = [0.02] * 20
    kl[7] = 190.0
    assert rl.kl_explodes(run(kl=kl)).state is State.ABSENT
    assert rl.kl_explodes(run(kl=[0.02] * 10 + [5.0] * 10)).state is State.PRESENT


def test_truncation_from_lengths_and_limit() -> None:
    lengths = {"completions/min_length": [512.0] * 5, "completions/max_length": [512.0] * 5}
    settings = {"max_completion_length": 512}
    full = run_from_example({"metrics": lengths, "settings": settings})
    assert rl.completions_at_limit(full).state is State.PRESENT
    roomy = run_from_example({"metrics": lengths, "settings": {"max_completion_length": 4096}})
    assert rl.completions_at_limit(roomy).state is State.ABSENT


def test_scores_of_a_reward_model_by_any_name() -> None:
    equal = [0.5 + 0.01 * (i % 3) for i in range(20)]
    assert rl.scores_equal(run(positive_score=equal, negative_score=equal)).state is State.PRESENT
    apart = [v - 0.4 for v in equal]
    assert rl.scores_equal(run(positive_score=equal, negative_score=apart)).state is State.ABSENT


def test_rewards_of_dpo_are_no_scores() -> None:
    zero = [0.0] * 20
    seen = rl.scores_equal(run(rewards__chosen=zero, rewards__rejected=zero))
    assert seen.state is State.UNOBSERVABLE


def test_added_sft_term_is_another_loss() -> None:
    assert rl.sigmoid_preference(run(rewards__margins=[0.0], sft_loss=[1.0])).state is State.ABSENT
    assert rl.sigmoid_preference(run(rewards__margins=[0.0])).state is State.PRESENT
    assert rl.sigmoid_preference(run(loss=[1.0])).state is State.UNOBSERVABLE


EVERY_STEP = (
    "args = DPOConfig(output_dir='o', logging_steps=1)\nDPOTrainer(model, args=args).train()\n"
)
UNCOUNTED = "".join(
    f"{{'loss': 0.6, 'grad_norm': 1.{i}, 'learning_rate': 1e-06, 'rewards/chosen': 2.{i}, "
    f"'rewards/rejected': 1.5, 'rewards/margins': 0.{i}, 'epoch': 0.{i}}}\n"
    for i in range(1, 6)
)


@pytest.mark.parametrize(
    ("metrics", "more", "state"),
    [
        ({"rewards/chosen": [2.0, 2.1], "rewards/rejected": [1.5, 1.2]}, {}, State.PRESENT),
        ({"rewards/chosen": [0.0, 2.1], "rewards/rejected": [0.0, -3.2]}, {}, State.ABSENT),
        (
            {"rewards/chosen": [2.0, 2.1], "rewards/rejected": [1.5, 1.2]},
            {"steps": [25, 50]},
            State.UNOBSERVABLE,
        ),
        ({}, {"files": {"train.log": UNCOUNTED}}, State.UNOBSERVABLE),
        (
            {},
            {"files": {"train.log": UNCOUNTED, "train.py": EVERY_STEP}},
            State.PRESENT,
        ),
        ({"rewards/mean": [2.0, 2.1]}, {}, State.UNOBSERVABLE),
    ],
)
def test_rewards_before_the_first_update(
    metrics: dict[str, list[float]], more: dict[str, Any], state: State
) -> None:
    run = run_from_example({"metrics": metrics, **more})
    assert rl.rewards_at_start(run, above=0.2).state is state
