"""Loops that join turns by hand: where the end of an answer is learnt, and where it is not."""

from __future__ import annotations

import pytest

from ftdoctor.read.script import read
from ftdoctor.read.source import memory_source

HEAD = """
tok = AutoTokenizer.from_pretrained("gpt2")
END = tok.eos_token_id
SEP = tok("\\n")["input_ids"]
def closed(m):
    return tok(m["content"])["input_ids"] + [tok.eos_token_id]
def build(messages):
    ids, labels = [], []
"""
TAIL = """
    {end}
    return dict(input_ids=ids, labels=labels)
Trainer(model=model, train_dataset=rows).train()
"""
LAST = "ids.append(tok.eos_token_id); labels.append(tok.eos_token_id)"
BARE = """
    for m in messages:
        x = tok(" " + m["content"])["input_ids"]
        if m["role"] == "user":
            ids += x; labels += [-100] * len(x)
        else:
            ids += x; labels += x
"""
MASKED_SEPARATOR = """
    for i, turn in enumerate(messages):
        x = tok(turn["value"])["input_ids"]
        if turn["from"] == "gpt":
            ids.extend(x + SEP)
            labels.extend(x)
            labels.extend([IGNORE_INDEX] * len(SEP))
        else:
            ids.extend(x + SEP)
            labels.extend([IGNORE_INDEX] * len(x + SEP))
"""
IN_ONE = """
    for m in messages:
        x = tok(f"{m['role']}: {m['content']}")["input_ids"]
        ids += x
        labels += x if m["role"] == "assistant" else [-100] * len(x)
"""


def ends(loop: str, end: str = LAST) -> list[str]:
    text = HEAD + loop + TAIL.replace("{end}", end)
    facts = read(memory_source("train.py", text.encode())).facts
    return [str(f.value) for f in facts if f.name == "script.train.turn_ends"]


@pytest.mark.parametrize("loop", [BARE, MASKED_SEPARATOR, IN_ONE])
def test_an_end_behind_the_loop_is_the_last_answers_alone(loop: str) -> None:
    assert ends(loop) == ["last"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('["input_ids"]\n        if', '["input_ids"] + [tok.eos_token_id]\n        if'),
        ("labels += x\n", "labels += x; ids += [END]; labels += [END]\n"),
        ('x = tok(" " + m["content"])["input_ids"]', "x = closed(m)"),
        ('" " + m["content"]', 'm["content"] + "\\n"'),
        ("ids += x; labels += x\n", "ids += x + SEP; labels += x + SEP\n"),
    ],
)
def test_an_end_within_the_loop_is_every_answers(old: str, new: str) -> None:
    assert old in BARE
    assert ends(BARE.replace(old, new)) == []


def test_without_any_end_another_fault_is_told() -> None:
    assert ends(BARE, end="pass") == []
