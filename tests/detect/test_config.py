"""Configurations against the model's family, the data, and plain sense."""

from __future__ import annotations

from typing import Any

import pytest

from ftdoctor.detect import detector_named
from ftdoctor.examples import run_from_example
from ftdoctor.model import State

P, A, U = State.PRESENT, State.ABSENT, State.UNOBSERVABLE
QKVO = ["q_proj", "k_proj", "v_proj", "o_proj"]


def targets(model: str, names: Any, absent_from_model: str, **more: Any) -> State:
    example = {"settings": {"model_name_or_path": model, "lora.target_modules": names}, **more}
    run = run_from_example(example)
    return detector_named("config.lora_targets")(run, absent_from_model=absent_from_model).state


@pytest.mark.parametrize(
    ("model", "names", "all_absent", "some_absent"),
    [
        ("gpt2", ["q_proj", "k_proj", "v_proj", "dense"], P, P),
        ("gpt2", ["c_attn", "c_proj"], A, A),
        ("gpt2", ["c_attn", "q_proj"], A, P),
        ("gpt2", "transformer.h.0.attn.c_attn", A, A),
        ("meta-llama/Llama-3.1-8B", QKVO, A, A),
        ("meta-llama/Llama-3.1-8B", [*QKVO, "lm_head", "embed_tokens"], A, A),
        ("meta-llama/Llama-3.1-8B", "q_proj,v_proj", A, A),
        ("meta-llama/Llama-3.1-8B", "all-linear", A, A),
        ("meta-llama/Llama-3.1-8B", r".*\.(q|v)_proj", A, A),
        ("microsoft/Phi-4-mini-instruct", QKVO, A, P),
        ("unsloth/phi-4", QKVO, U, U),
        ("openai/gpt-oss-20b", [*QKVO, "gate_proj", "up_proj", "down_proj"], A, A),
        ("my-org/unheard-of", QKVO, U, U),
    ],
)
def test_lora_targets(model: str, names: Any, all_absent: State, some_absent: State) -> None:
    assert targets(model, names, "all") is all_absent
    assert targets(model, names, "some") is some_absent


def test_targets_that_trained_exist() -> None:
    facts = {"progress.global_step": 200}
    assert targets("gpt2", ["q_proj"], "all", facts=facts) is A


CASES: list[tuple[str, dict[str, Any], dict[str, Any], State]] = [
    ("chat_strategy_without_template", {"data_strategy": "chat", "model": "gpt2"}, {}, P),
    ("chat_strategy_without_template", {"data_strategy": "standard", "model": "gpt2"}, {}, A),
    (
        "chat_strategy_without_template",
        {"data_strategy": "chat", "model": "gpt2"},
        {"tokenizer.chat_template": "{{ x }}"},
        A,
    ),
    ("chat_strategy_without_template", {"data_strategy": "chat", "model": "a/b"}, {}, U),
    ("chat_strategy_without_template", {"strategy": "ddp", "model": "gpt2"}, {}, U),
    ("layout_against_strategy", {"data_strategy": "text"}, {"data.layout": "messages"}, P),
    ("layout_against_strategy", {"data_strategy": "chat"}, {"data.layout": "alpaca"}, P),
    ("layout_against_strategy", {"data_strategy": "chat"}, {"data.layout": "sharegpt"}, A),
    ("layout_against_strategy", {}, {"data.layout": "sharegpt"}, U),
    ("invalid_number", {"num_train_epochs": -1}, {}, P),
    ("invalid_number", {"num_train_epochs": -1, "max_steps": 10, "learning_rate": 1e-4}, {}, A),
    ("invalid_number", {"learning_rate": 0}, {}, P),
    ("invalid_number", {"learning_rate": "-2e-5"}, {}, P),
    ("invalid_number", {"per_device_train_batch_size": 0}, {}, P),
    ("invalid_number", {"per_device_train_batch_size": "auto", "learning_rate": 1e-4}, {}, A),
    ("invalid_number", {"lora.r": 0}, {}, P),
    ("invalid_number", {"lora.dropout": 1.5}, {}, P),
    ("invalid_number", {"max_length": -1, "learning_rate": 1e-4}, {}, A),
    ("invalid_number", {}, {}, U),
    ("unusual_number", {"lora.r": 8, "num_train_epochs": 40}, {}, P),
    ("unusual_number", {"num_train_epochs": 40}, {}, U),
    ("evaluation_unused", {"eval_dataset": "v.jsonl", "eval_strategy": "no"}, {}, P),
    ("evaluation_unused", {"eval_dataset": "v.jsonl", "do_eval": False}, {}, P),
    ("evaluation_unused", {"eval_share": 0.1, "eval_strategy": "epoch"}, {}, A),
    ("evaluation_unused", {"eval_share": 0.1}, {}, U),
    ("early_stopping_cannot_fire", {"early_stopping_patience": 3}, {}, U),
    ("best_checkpoint_at_risk", {"save_total_limit": 1}, {}, P),
    (
        "best_checkpoint_at_risk",
        {"load_best_model_at_end": True, "save_steps": 150, "eval_steps": 100},
        {},
        P,
    ),
    ("best_checkpoint_at_risk", {"load_best_model_at_end": True}, {}, A),
    ("dataset_path_missing", {"dataset": "hub/name"}, {}, U),
    ("dataset_path_missing", {"dataset": "data/a.jsonl"}, {}, U),
]


@pytest.mark.parametrize(("name", "settings", "facts", "state"), CASES)
def test_detector(name: str, settings: dict[str, Any], facts: dict[str, Any], state: State) -> None:
    settings = {("model_name_or_path" if k == "model" else k): v for k, v in settings.items()}
    run = run_from_example({"settings": settings, "facts": facts})
    found = detector_named(f"config.{name}")(run)
    assert found.state is state, found.text
    assert bool(found.missing) is (state is U)
