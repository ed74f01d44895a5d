"""Rewards from the first row on: equal for all, far off, or thrown off by the rate."""

from __future__ import annotations

from typing import Any

import pytest

from ftdoctor.detect import starts
from ftdoctor.examples import run_from_example
from ftdoctor.model import Run, State

OFF = {"rewards/chosen": [-7.2, -6.0, -6.5, -6.1], "rewards/rejected": [-9.0, -8.5, -8.7, -8.8]}


def run_of(metrics: dict[str, list[float]], every: int = 5, **more: Any) -> Run:
    size = max(map(len, metrics.values()))
    steps = [every * i for i in range(1, size + 1)]
    return run_from_example({"metrics": metrics, "steps": steps} | more)


@pytest.mark.parametrize(
    ("reward", "spread", "state"),
    [
        ([1.0] * 12, [0.0] * 12, State.PRESENT),
        ([0.4] * 12, [0.0] * 12, State.PRESENT),
        ([0.4] * 12, [0.3] * 12, State.ABSENT),
        ([0.9] * 2 + [1.0] * 10, [0.1] * 2 + [0.0] * 10, State.ABSENT),
        ([0.0] * 12, [0.0] * 12, State.ABSENT),
        ([1.0] * 5, [0.0] * 5, State.UNOBSERVABLE),
    ],
)
def test_one_reward(reward: list[float], spread: list[float], state: State) -> None:
    assert starts.one_reward(run_of({"reward": reward, "reward_std": spread})).state is state


@pytest.mark.parametrize(
    ("rate", "every", "far", "thrown"),
    [
        (5e-3, 5, State.UNOBSERVABLE, State.PRESENT),
        (5e-3, 1, State.PRESENT, State.ABSENT),
        (5e-3, 50, State.UNOBSERVABLE, State.ABSENT),
        (5e-6, 5, State.PRESENT, State.ABSENT),
    ],
)
def test_first_rewards_and_the_rate(rate: float, every: int, far: State, thrown: State) -> None:
    run = run_of(OFF | {"learning_rate": [rate] * 4}, every)
    assert starts.rewards_far(run, above=3.0).state is far
    assert starts.thrown_off(run, above=2.0, within=20).state is thrown


def test_without_a_rate_only_the_rewards_tell() -> None:
    run = run_of(OFF)
    assert starts.rewards_far(run, above=3.0).state is State.PRESENT
    assert starts.thrown_off(run, above=2.0, within=20).state is State.UNOBSERVABLE


def test_no_preference_run() -> None:
    run = run_of({"loss": [2.0, 1.0]})
    assert starts.rewards_far(run, above=3.0).state is State.UNOBSERVABLE
    assert starts.thrown_off(run, above=2.0, within=20).state is State.UNOBSERVABLE
