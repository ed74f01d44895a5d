"""Samples printed into the log: answers that go on after their stop, and the look-alikes."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from ftdoctor.detect.engine import detect_one
from ftdoctor.examples import run_from_example
from ftdoctor.library import Library, load
from ftdoctor.model import State

SCRIPT = """
from trl import SFTTrainer
TEXT = "### Frage: {q}\\n### Antwort: {a}STOP"
ds = load_dataset("json", data_files="x.jsonl").map(lambda r: {"text": TEXT.format(**r)})
SFTTrainer(model, train_dataset=ds).train()
"""


@cache
def library() -> Library:
    return load()


def state(symptom: str, **example: Any) -> State:
    return detect_one(run_from_example(example), library(), symptom, strict=True).state


def passed(log: str, stop: str = "<|im_end|>", **facts: Any) -> State:
    files = {"train.py": SCRIPT.replace("STOP", stop), "train.log": log}
    return state("stop-text-passed-over", files=files, facts=facts)


@pytest.mark.parametrize(
    "log",
    [
        "Antwort: Im Laden.<|im_end|>\nMorgen wieder.<|im_end|>\n",
        "Antwort: Im Laden.<|im_end|> Morgen wieder, und dann\n",
        "[0] Im Laden.<|im_end|>\n\nMorgen wieder.\nUnd dann.<|im_end|>\n",
    ],
)
def test_an_answer_that_goes_on_after_its_stop_is_found(log: str) -> None:
    assert passed(log) is State.PRESENT


@pytest.mark.parametrize(
    "log",
    [
        "Antwort: Im Laden.<|im_end|>\nFrage: Wo?\nAntwort: Dort.<|im_end|>\n",
        "Antwort: Im Laden.<|im_end|><|im_end|><|im_end|>\nsaved\n",
        "Im Laden.<|im_end|>\nDort.<|im_end|>\n",
        "Antwort: Im Laden.<|im_end|>\nepoch done, saved the model\n",
    ],
)
def test_answers_that_end_at_their_stop_are_sound(log: str) -> None:
    assert passed(log) is State.ABSENT


def test_the_models_own_end_token_is_no_foreign_text() -> None:
    log = "Antwort: Im Laden.<|im_end|>\nMorgen wieder.<|im_end|>\n"
    assert passed(log, **{"tokenizer.eos_token": "<|im_end|>"}) is State.ABSENT
    assert passed("Antwort: Im Laden.\n") is State.UNOBSERVABLE


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["ids: [128000, 128000, 9906, 11]"], State.PRESENT),
        (["'input_ids': tensor([[1, 1, 15043, 29892]])"], State.PRESENT),
        (["ids: [7, 7, 9906, 11]"], State.ABSENT),
        (["token ids: [1, 15043, 29892, 2]"], State.ABSENT),
        (["labels: [1, 1, 15043]", "loss_mask: [1, 1, 0, 0]"], State.UNOBSERVABLE),
        (["tokens per rank: 12, 12, 13, 12"], State.UNOBSERVABLE),
    ],
)
def test_bos_twice_is_told_from_other_lists(lines: list[str], expected: State) -> None:
    assert state("double-bos-printed", lines=lines) is expected
