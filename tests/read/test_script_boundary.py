"""Where the mask of a script ends: counted, looked for, or known to a run only."""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path

import pytest

from ftdoctor.read import read_run
from ftdoctor.read.code import Code
from ftdoctor.read.example import NOT_FOUND
from ftdoctor.read.script_boundary import boundaries_of

COUNTED = [
    """
    def tokenize(row):
        ids = tokenizer(prompt + answer)["input_ids"]
        start = len(tokenizer(prompt)["input_ids"])
        labels = [-100] * start + ids[start:]
    """,
    """
    def tokenize(row):
        labels = ids.clone()
        n = tokenizer(row["prompt"], return_tensors="pt").input_ids.shape[1]
        labels[0, :n] = -100
    """,
    """
    def tokenize(row):
        prompt_ids = tokenizer.encode(row["prompt"])
        labels = [IGNORE_INDEX] * len(prompt_ids) + answer_ids
    """,
]
SOUGHT = [
    (
        """
    def tokenize(row):
        marker = tokenizer("### Response:", add_special_tokens=False)["input_ids"]
        labels, seen = [], False
        for i, token in enumerate(ids):
            seen = seen or ids[i - len(marker) : i] == marker
            labels.append(token if seen else -100)
    """,
        "### Response:",
    ),
    (
        """
    def tokenize(row):
        wanted = tokenizer.encode("<|im_start|>assistant", add_special_tokens=False)
        at = find_sublist(ids, wanted)
        labels = ids.copy()
        labels[:at] = -100
    """,
        "<|im_start|>assistant",
    ),
    (
        'collator = DataCollatorForCompletionOnlyLM("### Answer:", tokenizer=tokenizer)',
        "### Answer:",
    ),
    (
        """
    HEADER = "<|start_header_id|>assistant<|end_header_id|>"
    trainer = train_on_responses_only(trainer, instruction_part="x", response_part=HEADER)
    """,
        "<|start_header_id|>assistant<|end_header_id|>",
    ),
]
UNTOLD = [
    # where it ends depends on a search of something that only a run knows
    """
    def tokenize(row):
        labels = ids.copy()
        labels[: ids.index(sep_id)] = -100
    """,
    # the template is given as ids, cut at a place that depends on the tokenizer
    """
    ids = tokenizer.encode("\\n### Answer:", add_special_tokens=False)[2:]
    collator = DataCollatorForCompletionOnlyLM(ids, tokenizer=tokenizer)
    """,
    # padding is masked, no prompt
    "labels = ids + [-100] * (size - len(ids))",
    "labels = ids.copy()",
]


def found(source: str) -> list[tuple[str, object]]:
    code = Code(ast.parse(textwrap.dedent(source)))
    return [(name, value) for name, value, _ in boundaries_of(code)]


@pytest.mark.parametrize("source", COUNTED)
def test_a_counted_end(source: str) -> None:
    assert ("label_boundary", "length") in found(source)


@pytest.mark.parametrize(("source", "text"), SOUGHT)
def test_an_end_that_is_looked_for(source: str, text: str) -> None:
    assert found(source)[0] == ("label_marker", text)


@pytest.mark.parametrize("source", UNTOLD)
def test_an_end_that_only_a_run_would_show(source: str) -> None:
    assert found(source) == []


def labelled(run: Path, *, label: bool) -> tuple[str, str]:
    fact = read_run(run).fact("data.example")
    assert fact is not None
    kept = "".join(t["text"] for t in fact.value["tokens"] if t.get("label") is label)
    return kept, fact.value["why"]


def test_the_answer_of_a_hand_masked_prompt_is_trained_on(fixtures: Path) -> None:
    kept, why = labelled(fixtures / "healthy" / "labels-agree-with-truth" / "run", label=True)
    assert kept.endswith("</s>")
    assert "###" not in kept
    assert "(train.py:" in why


def test_a_marker_that_the_row_does_not_have_leaves_nothing_to_learn(fixtures: Path) -> None:
    run = fixtures / "all-labels-masked" / "marker-never-found" / "run"
    kept, why = labelled(run, label=True)
    assert kept == ""
    assert why.endswith(f"`<|assistant|>`{NOT_FOUND}")
