"""Rewards that pay for every repetition: found in each form, bounded counts left alone."""

from __future__ import annotations

import pytest

from ftdoctor.read.script import read
from ftdoctor.read.source import memory_source

SCRIPT = """
import re
from trl import GRPOTrainer
def reward(completions, **kw):
    {body}
GRPOTrainer(model=model, reward_funcs={given}, train_dataset=ds).train()
"""


def found(body: str, given: str = "reward") -> list[object]:
    source = memory_source("train.py", SCRIPT.format(body=body, given=given).encode())
    return [f.value for f in read(source).facts if f.name == "script.train.reward_counts"]


@pytest.mark.parametrize(
    "body",
    [
        "return [float(c.lower().count('please')) for c in completions]",
        "return [0.5 * len(re.findall('step', c)) for c in completions]",
        "return [float(sum(c.count(w) for w in WORDS)) for c in completions]",
    ],
)
def test_a_count_without_a_bound_is_found(body: str) -> None:
    assert found(body) == ["reward"] == found(body, "[other, reward]")


@pytest.mark.parametrize(
    "body",
    [
        "return [0.5 if c.count('<answer>') == 1 else 0.0 for c in completions]",
        "return [min(1.0, 0.1 * c.count('step')) for c in completions]",
        "return [c.count('e') / len(c) for c in completions]",
        "return [-0.1 * float(c.count('!')) - c.count('?') for c in completions if c]",
        "return [1.0 if answer in c else 0.0 for c in completions]",
    ],
)
def test_a_bounded_count_is_no_invitation_to_repeat(body: str) -> None:
    assert found(body) == []


def test_a_function_that_is_no_reward_is_left_alone() -> None:
    body = "return [float(c.count('please')) for c in completions]"
    assert found(body, "[other]") == []
