"""What a script's tokenizer calls do to rows: found in each form, and the look-alikes left alone."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest

from ftdoctor.read.script import read
from ftdoctor.read.source import memory_source

FIT = "\nfrom trl import SFTTrainer\nSFTTrainer(model, train_dataset=ds).train()\n"


def fact(code: str, name: str) -> list[Any]:
    source = memory_source("train.py", (textwrap.dedent(code) + FIT).encode())
    return [f.value for f in read(source).facts if f.name == f"script.train.{name}"]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("ids = tok(row['text'], truncation=True)['input_ids']", [True]),
        ("ids = tokenizer.encode(row['text'], add_special_tokens=False)", [False]),
        ("ids = self.tokenizer(row['text'])", [True]),
        ("tok = AutoTokenizer.from_pretrained('m', add_bos_token=False)", [False]),
        ("tokenizer.add_bos_token = False", [False]),
        ("stock(row['text'])", []),
    ],
)
def test_whether_special_tokens_are_added_is_told_by_the_call(code: str, expected: Any) -> None:
    assert fact(code, "adds_special_tokens") == expected


def test_the_side_that_is_cut_is_read_from_option_and_attribute() -> None:
    assert fact("t = AutoTokenizer.from_pretrained(b, truncation_side='left')", "truncation_side")
    assert fact("tok.truncation_side = 'left'", "truncation_side") == ["left"]
    assert (
        fact("t = AutoTokenizer.from_pretrained(b, padding_side='left')", "truncation_side") == []
    )


CALL = "tok.apply_chat_template({given}, tokenize=False, add_generation_prompt=True)"


@pytest.mark.parametrize(
    "code",
    [
        "ds = ds.map(lambda r: {'text': " + CALL.format(given="r['messages']") + "})",
        "def f(r):\n    r['text'] = " + CALL.format(given="r['conversations']") + "\n    return r",
        "def f(b):\n    out = []\n    for m in b['messages']:\n        out.append("
        + CALL.format(given="m")
        + ")\n    return {'text': out}",
    ],
)
def test_an_answer_opened_behind_a_conversation_is_found(code: str) -> None:
    assert len(fact(code, "opens_answer")) == 1


@pytest.mark.parametrize(
    "code",
    [
        "ds = ds.map(lambda r: {'prompt': " + CALL.format(given="r['messages']") + "})",
        "ds = ds.map(lambda r: {'text': " + CALL.format(given="r['messages'][:-1]") + "})",
        "ds = ds.map(lambda r: {'text': " + CALL.format(given="r['messages']") + " + r['a']})",
        "test = ds.map(lambda r: {'text': " + CALL.format(given="r['messages']") + "})",
        "n = len(tok(" + CALL.format(given="r['messages']") + ")['input_ids'])",
        "def f(r):\n    p = " + CALL.format(given="r['messages']")
        + "\n    return {'text': p, 'n': tok(p + r['a'])}",
    ],
)  # fmt: skip
def test_prompts_for_generation_and_for_masking_open_an_answer_rightly(code: str) -> None:
    assert fact(code, "opens_answer") == []
