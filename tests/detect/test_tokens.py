"""Ends of answers: the missing stop token found in each form, and its look-alikes left alone."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from ftdoctor.detect import tokens
from ftdoctor.detect.engine import detect_one
from ftdoctor.diagnose import diagnose_run
from ftdoctor.examples import run_from_example
from ftdoctor.library import Library, load
from ftdoctor.model import Finding, State

EOS_CAUSE = "eos-absent-from-training-text"
CONFIG = json.dumps({"eos_token": "</s>", "bos_token": "<s>", "tokenizer_class": "LlamaTokenizer"})
QWEN_BASE = json.dumps({"eos_token": "<|endoftext|>", "tokenizer_class": "Qwen2Tokenizer"})
ZEPHYR = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}END\n{% endfor %}"
NOUNS = ("river", "owl", "oak", "stone", "cloud", "lamp", "glass", "bread", "drum", "shoe")


@cache
def library() -> Library:
    return load()


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def text_rows(form: str) -> str:
    return lines([{"text": form.format(q=f"What is a {n}?", a=f"A {n} is a thing")} for n in NOUNS])


def chat_rows() -> str:
    return lines(
        [
            {
                "messages": [
                    {"role": "user", "content": f"What is a {n}?"},
                    {"role": "assistant", "content": f"A {n} is a thing"},
                ]
            }
            for n in NOUNS
        ]
    )


def found(symptom: str, **example: Any) -> Finding:
    return detect_one(run_from_example(example), library(), symptom, strict=True)


def top(**example: Any) -> dict[str, float]:
    diagnosis = diagnose_run(run_from_example(example), library())
    return {c.id: c.probability for c in diagnosis.causes}


ALPACA = "### Instruction:\n{q}\n\n### Response:\n{a}"
CHATML = "<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n{a}<|im_end|>\n"
SCRIPT = (
    "from unsloth import FastLanguageModel\nfrom trl import SFTTrainer\n"
    "SFTTrainer(model=model, train_dataset=data).train()\n"
)

MISSING: dict[str, dict[str, Any]] = {
    "text rows, old TRL": {
        "files": {"train.jsonl": text_rows(ALPACA), "tokenizer_config.json": CONFIG},
        "facts": {"run.trainer": "trl", "environment.package.trl": "0.9.6"},
    },
    "template without an end": {
        "files": {
            "train.jsonl": chat_rows(),
            "tokenizer_config.json": CONFIG,
            "chat_template.jinja": ZEPHYR.replace("END", ""),
        },
    },
    "turn marker that a base model does not stop at": {
        "files": {"train.jsonl": text_rows(CHATML), "tokenizer_config.json": QWEN_BASE},
        "settings": {"model_name_or_path": "Qwen/Qwen2.5-Coder-7B"},
    },
}
HEALTHY: dict[str, dict[str, Any]] = {
    "EOS in the text": {
        "files": {"train.jsonl": text_rows(ALPACA + "</s>"), "tokenizer_config.json": CONFIG},
        "facts": {"run.trainer": "trl", "environment.package.trl": "0.9.6"},
    },
    "TRL adds it": {
        "files": {"train.jsonl": text_rows(ALPACA), "tokenizer_config.json": CONFIG},
        "facts": {"run.trainer": "trl", "environment.package.trl": "0.24.0"},
    },
    "the script adds it": {
        "files": {"train.jsonl": text_rows(ALPACA), "tokenizer_config.json": CONFIG},
        "facts": {
            "run.trainer": "hf",
            "script.train.appends_eos": True,
            "script.train.file": "t.py",
        },
    },
    "the log says so": {
        "files": {"train.jsonl": text_rows(ALPACA), "tokenizer_config.json": CONFIG},
        "facts": {"run.trainer": "trl"},
        "lines": ["Adding EOS to train dataset: 100%|##########| 10/10 [00:00<00:00]"],
    },
    "the post-processor adds it": {
        "files": {"train.jsonl": text_rows(ALPACA), "tokenizer_config.json": CONFIG},
        "facts": {"run.trainer": "hf", "tokenizer.adds_after": ["</s>"]},
    },
    "axolotl closes answers": {
        "files": {
            "train.jsonl": chat_rows(),
            "tokenizer_config.json": CONFIG,
            "chat_template.jinja": ZEPHYR.replace("END", ""),
        },
        "facts": {"run.trainer": "axolotl"},
    },
    "template writes EOS": {
        "files": {
            "train.jsonl": chat_rows(),
            "tokenizer_config.json": CONFIG,
            "chat_template.jinja": ZEPHYR.replace("END", "{{ eos_token }}"),
        },
    },
    "GLM closes by the next turn": {
        "files": {
            "train.jsonl": text_rows("[gMASK]<sop><|user|>\n{q}<|assistant|>\n{a}"),
            "tokenizer_config.json": CONFIG,
        },
        "settings": {"model_name_or_path": "THUDM/glm-4-9b-chat"},
    },
    "the limit cuts the end off": {
        "files": {"train.jsonl": text_rows(ALPACA), "tokenizer_config.json": CONFIG},
        "settings": {"max_length": 5},
        "facts": {"run.trainer": "trl", "environment.package.trl": "0.9.6"},
    },
    "plain text corpus": {
        "files": {
            "train.jsonl": lines([{"text": f"The {n} stood by the road."} for n in NOUNS]),
            "tokenizer_config.json": CONFIG,
        },
    },
    "turn end that generation stops at": {
        "files": {"train.jsonl": text_rows(CHATML), "tokenizer_config.json": QWEN_BASE},
        "settings": {"model_name_or_path": "Qwen/Qwen2.5-7B"},
        "facts": {"generation.eos_token_id": [151643, 151645]},
    },
}


@pytest.mark.parametrize("case", MISSING)
def test_a_missing_stop_token_is_the_first_cause(case: str) -> None:
    ranked = top(**MISSING[case])
    assert next(iter(ranked)) == EOS_CAUSE
    assert ranked[EOS_CAUSE] > 0.8


@pytest.mark.parametrize("case", HEALTHY)
def test_look_alikes_are_left_alone(case: str) -> None:
    assert found("no-stop-token-to-learn", **HEALTHY[case]).state is not State.PRESENT
    assert top(**HEALTHY[case]).get(EOS_CAUSE, 0.0) < 0.25


def test_rows_whose_end_token_nobody_is_known_to_add_are_weak_evidence() -> None:
    example = {"files": {"train.jsonl": text_rows(ALPACA), "tokenizer_config.json": CONFIG}}
    assert found("answers-without-stop-token", **example).state is State.UNOBSERVABLE
    assert found("text-rows-without-stop-token", **example).state is State.PRESENT
    assert 0.25 < top(**example)[EOS_CAUSE] < 0.8


def test_a_stop_text_of_another_family_is_its_own_cause() -> None:
    example = {
        "files": {"train.jsonl": text_rows("<|user|>\n{q}\n<|assistant|>\n{a}<|endoftext|>")},
        "settings": {"model_name_or_path": "TinyLlama/TinyLlama-1.1B-Chat-v1.0"},
    }
    assert next(iter(top(**example))) == "wrong-family-stop-token-literal"


def test_padding_with_eos_is_healthy_unless_the_collator_masks_it() -> None:
    tokens = {"tokenizer.pad_token": "</s>", "tokenizer.eos_token": "</s>", "run.trainer": "trl"}
    old = {**tokens, "environment.package.trl": "0.12.0"}
    new = {**tokens, "environment.package.trl": "0.24.0"}
    assert found("end-token-masked-by-collator", facts=old).state is State.PRESENT
    assert found("end-token-masked-by-collator", facts=new).state is State.ABSENT
    packed = found("end-token-masked-by-collator", facts=old, settings={"packing": True})
    assert packed.state is State.ABSENT
    assert top(facts=new).get("eos-masked-because-pad-equals-eos", 0.0) < 0.25


def test_padding_with_eos_does_no_harm_where_turns_end_otherwise() -> None:
    files = {
        "tokenizer_config.json": json.dumps(
            {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "tokenizer_class": "X"}
        ),
        "chat_template.jinja": "{% for m in messages %}{{ m.content }}<|end|>{% endfor %}",
    }
    assert found("pad-token-is-end-token", files=files).state is State.ABSENT


@pytest.mark.parametrize(
    ("eos", "model", "generation", "state"),
    [
        ("<|endoftext|>", 151643, [151645, 151643], State.ABSENT),
        ("<|im_end|>", 151645, [151643], State.PRESENT),
        ("<|im_end|>", 151645, [-1], State.UNOBSERVABLE),
    ],
)
def test_stop_sets_may_hold_more_than_eos(
    eos: str, model: int, generation: list[int], state: State
) -> None:
    added = {str(model): {"content": eos, "special": True}}
    files = {
        "tokenizer_config.json": json.dumps(
            {"eos_token": eos, "tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": added}
        ),
        "generation_config.json": json.dumps({"eos_token_id": generation}),
    }
    assert found("stop-tokens-disagree", files=files).state is state


def test_lines_of_a_text_file_are_not_known_to_be_rows() -> None:
    text = "".join(f"Q: What is {n}?\nA: It is {n}.\n" for n in range(20))
    rows = "".join(f'{{"text": "Q: What is {n}?\\nA: It is {n}."}}\n' for n in range(20))
    for name, content, state in (
        ("train.txt", text, State.UNOBSERVABLE), ("train.jsonl", rows, State.PRESENT),
    ):  # fmt: skip
        run = run_from_example({"files": {name: content}})
        assert tokens.eos_missing(run, above=0.5, sure=False).state is state
