"""Detectors on single values: three answers each, numbers as text, defaults, disagreement."""

from __future__ import annotations

from typing import Any

import pytest

from ftdoctor.detect import detector_named
from ftdoctor.examples import run_from_example
from ftdoctor.model import State

P, A, U = State.PRESENT, State.ABSENT, State.UNOBSERVABLE
LR = {"learning_rate": 0.0002}

CASES: list[tuple[str, dict[str, Any], dict[str, Any], State]] = [
    ("facts.given", {"fact": "bf16"}, {"bf16": False}, P),
    ("facts.given", {"fact": "bf16", "known_if": ["learning_rate"]}, LR, A),
    ("facts.given", {"fact": "bf16"}, LR, U),
    ("facts.missing", {"fact": "bf16", "known_if": ["learning_rate"]}, LR, P),
    ("facts.missing", {"fact": "bf16", "known_if": ["lora.*"]}, {"lora.r": 8}, P),
    ("facts.missing", {"fact": "bf16", "known_if": ["lora.*"]}, LR, U),
    (
        "facts.missing",
        {"fact": "bf16", "known_if": ["x"], "alternatives": ["fp16"]},
        {"fp16": 1},
        A,
    ),
    ("facts.equals", {"fact": "seed", "value": 42}, {"seed": "42"}, P),
    ("facts.equals", {"fact": "bf16", "value": True}, {"bf16": "true"}, P),
    ("facts.equals", {"fact": "bf16", "value": True}, {"bf16": 1.0}, P),
    ("facts.equals", {"fact": "seed", "value": 42}, {"seed": 7}, A),
    ("facts.equals", {"fact": "eval_strategy", "value": "no"}, {"eval_strategy": "NO"}, P),
    ("facts.equals", {"fact": "eval_strategy", "value": "no"}, {}, U),
    (
        "facts.equals",
        {"fact": "eval_strategy", "value": "no", "default": "no", "known_if": ["learning_rate"]},
        LR,
        P,
    ),
    ("facts.equals", {"fact": "t", "value": ["a", "b"]}, {"t": ["b", "a"]}, P),
    ("facts.one_of", {"fact": "optim", "values": ["sgd", "adamw"]}, {"optim": "AdamW"}, P),
    ("facts.one_of", {"fact": "optim", "values": ["sgd"]}, {"optim": "lion"}, A),
    ("facts.matches", {"fact": "m", "pattern": "llama-?3"}, {"m": "Meta-Llama-3-8B"}, P),
    ("facts.matches", {"fact": "m", "pattern": "qwen"}, {"m": ["a", "b"]}, A),
    ("facts.contains", {"fact": "t", "any_of": ["lm_head"]}, {"t": ["q_proj", "lm_head"]}, P),
    ("facts.contains", {"fact": "t", "any_of": ["lm_head"]}, {"t": ["q_proj"]}, A),
    ("facts.above", {"fact": "learning_rate", "limit": 1e-4}, {"learning_rate": "2e-4"}, P),
    ("facts.above", {"fact": "learning_rate", "limit": 1e-3}, LR, A),
    ("facts.above", {"fact": "learning_rate", "limit": "other"}, LR, U),
    ("facts.above", {"fact": "a", "limit": "b"}, {"a": 3, "b": 2}, P),
    ("facts.above", {"fact": "a", "limit": 0}, {"a": "words"}, U),
    ("facts.above", {"fact": "a", "limit": 0}, {"a": float("nan")}, A),
    ("facts.below", {"fact": "a", "limit": 3, "or_equal": True}, {"a": 3}, P),
    ("facts.below", {"fact": "a", "limit": 3}, {"a": 3}, A),
    ("facts.between", {"fact": "a", "low": 1, "high": 3}, {"a": 3}, P),
    ("facts.between", {"fact": "a", "low": 1, "high": 3, "outside": True}, {"a": 3}, A),
    ("facts.disagree", {"fact": "a", "other": "b"}, {"a": "x", "b": "y"}, P),
    ("facts.disagree", {"fact": "a", "other": "b"}, {"a": 1.0, "b": "1"}, A),
    ("facts.disagree", {"fact": "a", "other": "b", "tolerance": 0.1}, {"a": 100, "b": 95}, A),
    ("facts.disagree", {"fact": "a"}, {"a": 1}, U),
    ("facts.ratio", {"fact": "a", "to": "b", "above": 2}, {"a": 9, "b": 3}, P),
    ("facts.ratio", {"fact": "a", "to": "b", "below": 2}, {"a": 9, "b": 3}, A),
    ("facts.ratio", {"fact": "a", "to": "b", "above": 2}, {"a": 9, "b": 0}, U),
    ("facts.ratio", {"fact": "a", "to": "b", "above": 2}, {"a": 9}, U),
]


@pytest.mark.parametrize(("name", "parameters", "settings", "state"), CASES)
def test_detector(
    name: str, parameters: dict[str, Any], settings: dict[str, Any], state: State
) -> None:
    found = detector_named(name)(run_from_example({"settings": settings}), **parameters)
    assert found.state is state, found.text
    assert found.text
    assert len(found.text) <= 300
    assert bool(found.missing) is (state is U)
    if state is P:
        assert found.facts or name == "facts.missing"


def test_two_files_that_disagree_are_found() -> None:
    files = {
        "config.yaml": "model_name_or_path: gpt2\nlearning_rate: 0.0001\nnum_train_epochs: 3\n",
        "train.py": "args = TrainingArguments(learning_rate=5e-4)\n",
    }
    run = run_from_example({"files": files})
    found = detector_named("facts.disagree")(run, fact="learning_rate")
    assert found.state is P
    assert {str(f.where) for f in found.facts} == {"config.yaml:2", "train.py:1"}
