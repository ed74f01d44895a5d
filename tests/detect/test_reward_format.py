"""A reward that looks for a format of which no prompt speaks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftdoctor.detect import reward_format
from ftdoctor.model import State
from ftdoctor.read import read_run

SCRIPT = """import re
from trl import GRPOTrainer
{asked}
def right(completions, answer, **kw):
    found = [re.search(r"{pattern}", c, re.S) for c in completions]
    return [float(bool(f) and f.group(1) == a) for f, a in zip(found, answer)]
GRPOTrainer(model, reward_funcs=right, train_dataset=ds).train()
"""


@pytest.mark.parametrize(
    ("pattern", "asked", "prompt", "state"),
    [
        ("<answer>(.*?)</answer>", "", "How many?", State.PRESENT),
        (r"\\\\boxed{(.*?)}", "", "How many?", State.PRESENT),
        ("#### (.*)", "", "How many?", State.PRESENT),
        ("<answer>(.*?)</answer>", "S = 'Say <answer>4</answer>'", "How many?", State.ABSENT),
        ("<answer>(.*?)</answer>", "", "How many? Reply in <answer> tags.", State.ABSENT),
        (r"(\\d+)", "", "How many?", State.ABSENT),
    ],
)
def test_format_that_is_never_asked(
    tmp_path: Path, pattern: str, asked: str, prompt: str, state: State
) -> None:
    (tmp_path / "grpo.py").write_text(
        SCRIPT.replace("{asked}", asked).replace("{pattern}", pattern)
    )
    rows = [json.dumps({"prompt": f"{i}: {prompt}", "answer": str(i)}) for i in range(8)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows) + "\n")
    assert reward_format.never_asked(read_run(tmp_path)).state is state


def test_without_a_reward_function(tmp_path: Path) -> None:
    (tmp_path / "sft.py").write_text("from trl import SFTTrainer\nSFTTrainer(model).train()\n")
    assert reward_format.never_asked(read_run(tmp_path)).state is State.UNOBSERVABLE
