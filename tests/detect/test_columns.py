"""A script that reads identifiers where the answers stand beside them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftdoctor.detect import columns
from ftdoctor.model import Run, State
from ftdoctor.read import read_run

MAPPED = """from trl import SFTTrainer
ds = ds.map(lambda r: {{"prompt": f"Q: {{r['question']}}\\nA: ", "completion": r["{column}"]}},
            remove_columns=["answer", "source", "id"])
SFTTrainer(model, train_dataset=ds).train()
"""


def run_of(path: Path, *, column: str, source: str = "wiki/{i}", script: str = MAPPED) -> Run:
    rows = [
        {
            "id": f"row-{i}",
            "question": f"Where is tent {i}?",
            "answer": f"It is in hall {i}",
            "source": source.format(i=1000 + i),
        }
        for i in range(40)
    ]
    (path / "faq.jsonl").write_text("\n".join(json.dumps(r) for r in rows) + "\n")
    (path / "train.py").write_text(script.format(column=column))
    return read_run(path)


@pytest.mark.parametrize(
    ("column", "source", "state"),
    [
        ("source", "wiki/{i}", State.PRESENT),
        ("source", "https://example.org/{i}", State.PRESENT),
        ("id", "wiki/{i}", State.PRESENT),
        ("answer", "wiki/{i}", State.ABSENT),
        ("source", "from the handbook, page {i}", State.ABSENT),
        ("source", "2021-{i}-03", State.ABSENT),
    ],
)
def test_identifiers_for_answers(tmp_path: Path, column: str, source: str, state: State) -> None:
    run = run_of(tmp_path, column=column, source=source)
    assert columns.identifiers_for_answers(run).state is state


def test_a_script_that_makes_no_text_tells_nothing(tmp_path: Path) -> None:
    run = run_of(tmp_path, column="id", script="print(rows['{column}'])\ntrainer.train()\n")
    assert columns.identifiers_for_answers(run).state is State.UNOBSERVABLE
