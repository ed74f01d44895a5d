"""Chat templates: missing where they are needed, of another family, and the look-alikes."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from ftdoctor.detect import template
from ftdoctor.detect.engine import detect_one
from ftdoctor.diagnose import diagnose_run
from ftdoctor.examples import run_from_example
from ftdoctor.families import find_family, is_base_model
from ftdoctor.library import Library, load
from ftdoctor.model import State

CONFIG = json.dumps({"eos_token": "</s>", "tokenizer_class": "LlamaTokenizer"})
CHAT = json.dumps(
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
)
CLOSING = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}"


@cache
def library() -> Library:
    return load()


def state(symptom: str, **example: Any) -> State:
    return detect_one(run_from_example(example), library(), symptom, strict=True).state


def ranked(**example: Any) -> dict[str, float]:
    diagnosis = diagnose_run(run_from_example(example), library())
    return {c.id: c.probability for c in diagnosis.causes}


def test_conversations_without_a_template_are_the_first_cause() -> None:
    causes = ranked(files={"tokenizer_config.json": CONFIG, "train.jsonl": CHAT})
    assert next(iter(causes)) == "chat-template-missing"
    assert causes["chat-template-missing"] > 0.8


BARE = {"tokenizer_config.json": CONFIG}
NO_CAUSE: dict[str, dict[str, Any]] = {
    "jinja home": {"files": {**BARE, "chat_template.jinja": CLOSING, "train.jsonl": CHAT}},
    "text data": {"files": {**BARE, "train.jsonl": '{"text": "A river ran."}'}},
    "own renderer": {
        "files": {**BARE, "train.jsonl": CHAT},
        "facts": {"run.trainer": "llama-factory"},
    },
    "classifier": {"files": BARE, "facts": {"adapter.task_type": "SEQ_CLS"}},
    "no data": {"files": BARE},
    "no tokenizer": {"files": {"train.jsonl": CHAT}},
}


@pytest.mark.parametrize("case", NO_CAUSE)
def test_a_template_that_is_there_or_not_needed_is_no_cause(case: str) -> None:
    assert ranked(**NO_CAUSE[case]).get("chat-template-missing", 0.0) < 0.25


@pytest.mark.parametrize(
    ("model", "settings", "expected"),
    [
        ("Qwen/Qwen3-8B", {"template": "llama3"}, State.PRESENT),
        ("Qwen/Qwen3-8B", {"template": "qwen3"}, State.ABSENT),
        ("Qwen/Qwen2.5-7B-Instruct", {"template": "chatml"}, State.ABSENT),
        ("mistralai/Mistral-7B-v0.1", {"template": "chatml"}, State.ABSENT),
        ("meta-llama/Llama-3.2-1B-Instruct", {"chat_template": "chatml"}, State.PRESENT),
        ("Qwen/Qwen3-VL-30B-A3B-Instruct", {"renderer_name": "qwen3_vl_instruct"}, State.ABSENT),
        ("Qwen/Qwen3-30B-A3B", {"renderer_name": "qwen3_vl"}, State.PRESENT),
        ("Qwen/Qwen3-8B-Base", {"renderer_name": "role_colon"}, State.ABSENT),
    ],
)
def test_template_names_are_judged_by_family(
    model: str, settings: dict[str, str], expected: State
) -> None:
    found = state("template-of-another-family", settings={"model_name_or_path": model, **settings})
    assert found is expected


def test_the_official_template_that_opens_a_turn_is_left_alone() -> None:
    template = CLOSING + "<|assistant|>\n"
    files = {"tokenizer_config.json": CONFIG, "chat_template.jinja": template, "train.jsonl": CHAT}
    assert state("rows-end-with-answer-header", files=files) is State.ABSENT


def test_a_template_that_needs_a_system_message_is_not_broken() -> None:
    template = (
        "{% if messages[0].role == 'system' %}{% set start = messages[0].content %}{% endif %}"
        "{{ '<s>' + start }}{% for m in messages[1:] %}{{ m.content }}{% endfor %}"
    )
    files = {"tokenizer_config.json": CONFIG, "chat_template.jinja": template}
    assert state("chat-template-broken", files=files) is State.ABSENT


@pytest.mark.parametrize(
    ("name", "expected", "base"),
    [
        ("unsloth/deepseek-r1-distill-llama-8b-unsloth-bnb-4bit", "deepseek-r1-distill", False),
        ("unsloth/Qwen3-4B-Base", "qwen-3", True),
        ("meta-llama/Llama-3.2-1B-Instruct", "llama-3.1+", False),
        ("meta-llama/Meta-Llama-3-8B", "llama-3", True),
        ("TinyLlama/TinyLlama-1.1B-Chat-v1.0", "tinyllama-zephyr", False),
        ("google/gemma-2b", "gemma-1", True),
        ("google/gemma-2-2b-it", "gemma-2", False),
        ("C:\\models\\chatglm2-6b", "chatglm-2-3", False),
        ("microsoft/Phi-4-mini-instruct", "phi-4-mini", False),
        ("MLP-KTLim/llama-3-Korean-Bllossom-8B", "llama-3", None),
        ("google/flan-t5-xl", None, None),
    ],
)
def test_families_are_known_by_name(name: str, expected: str | None, base: bool | None) -> None:
    found = find_family(name)
    assert (found.id if found else None) == expected
    assert is_base_model(name) is base


def test_held_out_rows_in_a_format_that_a_share_of_the_training_rows_has_are_no_other_format() -> (
    None
):
    one = '{"text": "### Instruction:\\nName a %s\\n\\n### Response:\\nOwl"}\n'
    other = '{"text": "<s>[INST] Name a %s [/INST] Owl</s>"}\n'

    def asked(train: str) -> State:
        files = {"train.jsonl": train, "eval.jsonl": "".join(one % n for n in range(4))}
        return template.eval_format_differs(run_from_example({"files": files}), other="eval").state

    mixed = "".join((one if n % 5 == 0 else other) % n for n in range(20))
    assert asked(mixed) is State.ABSENT
    assert asked("".join(other % n for n in range(20))) is State.PRESENT
