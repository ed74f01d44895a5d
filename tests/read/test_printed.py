"""The example that a trainer prints before training: LLaMA-Factory's and Axolotl's."""

from __future__ import annotations

from typing import Any

from ftdoctor.read.printed import Printed


def example(text: str) -> dict[str, Any] | None:
    printed = Printed("train.log")
    for number, line in enumerate(text.split("\n"), start=1):
        printed.feed(line, number)
    found = list(printed.facts())
    if not found:
        return None
    assert isinstance(found[0].value, dict)
    return found[0].value


BLOCK = """training example:
input_ids:
[5, 6, 7, 8]
inputs:
<|user|>
Hello

there<|end|>Hi<|end|>
label_ids:
[-100, -100, 7, 8]
labels:
Hi<|end|>

[INFO|trainer.py:3] and so on
eval example:
inputs:
other
"""


def test_block_of_texts_and_ids() -> None:
    found = example(BLOCK)
    assert found == {
        "input": "<|user|>\nHello\n\nthere<|end|>Hi<|end|>",
        "labels": "Hi<|end|>",
        "tokens": 4,
        "learnt": 2,
        "last": 8,
    }


def test_chosen_answer_stands_for_a_pair() -> None:
    block = BLOCK.replace("input_ids:", "chosen_input_ids:").replace("inputs:", "chosen_inputs:")
    found = example(
        block.replace("label_ids:", "chosen_label_ids:").replace("\nlab", "\nchosen_lab")
    )
    assert found is not None
    assert found["labels"] == "Hi<|end|>"


def test_labels_that_were_not_printed_whole_are_not_counted() -> None:
    found = example(BLOCK.replace("-100, -100, 7, 8", "-100, -100, 7"))
    assert found is not None
    assert found["learnt"] is None


def test_tokens_with_label_and_id() -> None:
    found = example(
        "[2025-01-01] <|im_start|>(-100, 1) user(-100, 2)\n(-100, 9) How(-100, 3)  far(-100, 4) "
        "<|im_end|>(-100, 5) \n(-100, 9) Some(11, 11)  km(12, 12) <|im_end|>(5, 5)\n\nnext"
    )
    assert found is not None
    assert (found["tokens"], found["learnt"], found["last"]) == (10, 3, 5)
    assert found["labels"] == "Some km<|im_end|>"
    assert "user\nHow far<|im_end|>" in found["input"]


def test_prose_with_numbers_in_brackets_is_no_example() -> None:
    assert example("the grid (4, 5) and (6, 7) and (8, 9)\ninputs are fine\nlabels: 3") is None
