"""Keys that scripts read of turns and rows: found in each form of loop, handed-on turns left."""

from __future__ import annotations

from typing import Any

import pytest

from ftdoctor.read.script import read
from ftdoctor.read.source import memory_source

END = "\nSFTTrainer(model=model, train_dataset=ds.map(to_text)).train()\n"


def found(text: str, name: str = "turn_keys") -> list[dict[str, Any]]:
    source = memory_source("train.py", ("from trl import SFTTrainer\n" + text + END).encode())
    return [f.value for f in read(source).facts if f.name == f"script.train.{name}"]


@pytest.mark.parametrize(
    "body",
    [
        "return [{'role': t.get('role', ''), 'c': t.get('content')} for t in row['turns']]",
        "turns = row['turns']\n    return [t.get('role') + t.get('content') for t in turns[1:]]",
        "for i, t in enumerate(row.get('turns', [])):\n        x = t.get('role'), t.get('content')",
        "return [[(t.get('role'), t.get('content')) for t in turns] for turns in row['turns']]",
        "return ''.join(one(t) for t in row['turns'] or [])",
    ],
)
def test_keys_of_turns(body: str) -> None:
    helper = "def one(x):\n    return x.get('role') + x.get('content')\n"
    (value,) = found(f"{helper}def to_text(row):\n    {body}\n")
    assert value["of"] == "turns"
    assert value["keys"] == ["role", "content"] == value["quiet"]


def test_a_subscript_is_not_quiet() -> None:
    (value,) = found("def to_text(row):\n    return [t['role'] for t in row['turns']]\n")
    assert (value["keys"], value["quiet"]) == (["role"], [])


@pytest.mark.parametrize("use", ["convert(t)", "{**t}", "dict(t)", "t[key]"])
def test_a_turn_that_is_handed_on_is_left_out(use: str) -> None:
    body = f"def to_text(row):\n    return [(t.get('role'), {use}) for t in row['turns']]\n"
    assert found(body) == []


def test_keys_of_a_row() -> None:
    body = "def to_text(row):\n    return row['ask'] + row.get('output', '')\n"
    assert found(body, "row_keys") == [{"of": "", "keys": ["ask", "output"], "quiet": ["output"]}]
    assert found(body.replace("row['ask']", "str(row)"), "row_keys") == []


@pytest.mark.parametrize(
    ("body", "ends"),
    [
        ("tok(r['output'] + END)", ["</s>"]),
        ("tok(f\"{r['output']}{END}\")", ["</s>"]),
        ("tok(r['output'] + '</s>\\n')", ["</s>"]),
        ("tok('the end' + END)", []),
        ("tok(END)", []),
        ("r['output'].split(END)", []),
    ],
)
def test_stop_text_behind_a_text_of_the_row(body: str, ends: list[str]) -> None:
    assert found(f"END = '</s>'\ndef to_text(r):\n    return {body}\n", "answer_end") == ends
