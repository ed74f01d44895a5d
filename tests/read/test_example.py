"""The token view: what is masked, what is trained on, what ends the text, what is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftdoctor.read import read_run
from ftdoctor.read.example import MOST, masking_of


def example(run: Path) -> dict[str, Any]:
    fact = read_run(run).fact("data.example")
    assert fact is not None
    assert isinstance(fact.value, dict)
    return fact.value


def shown(value: dict[str, Any], **wanted: object) -> str:
    return "".join(
        t["text"] for t in value["tokens"] if all(t.get(k) == v for k, v in wanted.items())
    )


def test_a_masked_prompt_and_an_answer_without_its_end(fixtures: Path) -> None:
    value = example(fixtures / "eos-absent-from-training-text" / "formatting" / "run")
    assert shown(value, label=False).startswith("### Instruction:")
    assert shown(value, label=False).endswith("### Response:\n")
    assert shown(value, turn=True) == "### Instruction:### Response:"
    assert shown(value, eos=True) == ""
    assert value["eos"] == "</s>"


def test_the_end_token_that_the_collator_masks(fixtures: Path) -> None:
    value = example(fixtures / "eos-masked-because-pad-equals-eos" / "collator" / "run")
    assert [t["label"] for t in value["tokens"] if t.get("eos")] == [False]
    assert "which is the EOS token" in value["why"]


def test_what_the_maximum_length_cuts_off(fixtures: Path) -> None:
    value = example(fixtures / "truncation-cuts-answer" / "short-window" / "run")
    kept = [t for t in value["tokens"] if not t.get("cut")]
    assert len(kept) == value["cut"]
    assert value["tokens"][-1]["cut"]
    assert "label" not in value["tokens"][-1]


def test_without_a_tokenizer_there_are_no_tokens(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 9)
    assert read_run(tmp_path).fact("data.example") is None


def test_a_long_row_is_told_by_its_ends(fixtures: Path) -> None:
    value = example(fixtures / "healthy" / "sft-lora" / "run")
    assert len(value["tokens"]) <= MOST + 1


@pytest.mark.parametrize(
    ("settings", "prompt", "answer"),
    [
        ({"assistant_only_loss": True}, False, True),
        ({"completion_only_loss": True}, False, True),
        ({"train_on_inputs": False}, False, True),
        ({"train_on_inputs": True}, True, True),
        ({"labels": ["masked"]}, False, None),
        ({"labels": ["masked"], "boundary": "length"}, False, True),
        ({"labels": ["copied", "masked"], "boundary": "length"}, False, True),
        ({"labels": ["masked"], "collator": "DataCollatorForLanguageModeling"}, True, True),
        ({"labels": ["masked"], "marker": "### Response:"}, False, True),
        ({"labels": ["responses-only"], "collator": "DataCollatorForLanguageModeling"},
         False, None),
        ({"labels": ["copied"]}, True, True),
        ({"collator": "DataCollatorForLanguageModeling"}, True, True),
        ({"trainer": "trl"}, True, True),
        ({"trainer": "hf"}, None, None),
        ({}, None, None),
    ],
)  # fmt: skip
def test_labels_by_what_is_known(
    settings: dict[str, object], prompt: bool | None, answer: bool | None
) -> None:
    masking = masking_of({"layout": "messages"}, settings)
    assert (masking.prompt, masking.answer) == (prompt, answer)
