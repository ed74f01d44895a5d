"""Prompt formats told by markers, and what closes the turn before the model's header."""

from __future__ import annotations

import pytest

from ftdoctor.read.prompts import answer_part, formats_of, prompt_closer, stops_in

CHATML = "<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n{a}<|im_end|>"
ZEPHYR = "<|user|>\n{q}</s>\n<|assistant|>\n{a}</s>"
ALPACA = "Below.\n\n### Instruction:\n{q}\n\n### Response:\n{a}"


@pytest.mark.parametrize(
    ("text", "formats"),
    [
        (CHATML, ("chatml",)),
        (ZEPHYR, ("pipe-roles",)),
        (ALPACA, ("alpaca",)),
        ("<s>[INST] {q} [/INST] {a}</s>", ("llama-2-inst",)),
        ("<start_of_turn>user\n{q}<end_of_turn>\n<start_of_turn>model\n", ("gemma",)),
        ("<|start_header_id|>user<|end_header_id|>\n\n{q}<|eot_id|>", ("llama-3",)),
        ("### Human: {q}### Assistant: {a}", ("hash-roles",)),
        ("Question: {q}\nAnswer: {a}", ("question-answer",)),
        ("Human: {q}\nAssistant: {a}", ("human-assistant",)),
        ("<|user|>\nQuestion: {q}\nAnswer:</s>\n<|assistant|>\n", ("pipe-roles",)),
        ("Tell me a story about a river.", ()),
        ("", ()),
    ],
)
def test_formats(text: str, formats: tuple[str, ...]) -> None:
    assert formats_of(text) == formats


def test_the_part_after_the_header_is_the_answer() -> None:
    assert answer_part(ZEPHYR) == "\n{a}</s>"
    assert answer_part("<|user|>\n{q}</s>") is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("### Question: {q}\n### Answer: {a}", " {a}"),
        ("### Question: Where?\n### Answer: in Rome, not: Paris", " in Rome, not: Paris"),
        ("### Human: Where?\n### Assistant: Rome", " Rome"),
        ("### Instruction: Where?\n### Response: Rome", " Rome"),
        ("### Instruction:\nWhere?\n### Response in one word:\nRome", "\nRome"),
        ("### Question: Where?\n### Answer:", ""),
        ("### Instruction:\nWhere?\n### Response\n", "\n"),
    ],
)
def test_an_answer_may_begin_on_the_line_of_its_header(text: str, answer: str) -> None:
    assert answer_part(text) == answer


def test_the_closer_is_the_stop_before_the_header() -> None:
    assert prompt_closer(ZEPHYR) == "</s>"
    assert prompt_closer(CHATML) == "<|im_end|>"
    assert prompt_closer(ZEPHYR.replace("</s>\n", "\n")) == ""
    assert prompt_closer(ZEPHYR.replace("</s>\n", "{eos_token}\n")) == "{eos_token}"
    assert prompt_closer("{q}") is None


def test_stops_come_in_order() -> None:
    assert stops_in("a<|im_end|>b</s>c<|endoftext|>") == ("<|im_end|>", "</s>", "<|endoftext|>")
