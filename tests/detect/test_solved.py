"""A solved task is told from a leak; tables with two labels, converters' logs and server limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftdoctor.detect.audit import labels_disagree
from ftdoctor.detect.converted import base_for_merged
from ftdoctor.detect.serving import rank_above_limit
from ftdoctor.detect.solved import held_out_right, success
from ftdoctor.model import State
from ftdoctor.read import read_run


@pytest.mark.parametrize(
    ("line", "state"),
    [
        ("exact match 40/40", State.PRESENT),
        ("exact match on the test set: 29 of 30", State.PRESENT),
        ("test accuracy 0.981", State.PRESENT),
        ("exact match 12/40", State.ABSENT),
        ("validation accuracy: 61.0%", State.ABSENT),
        ("train accuracy 0.99", State.UNOBSERVABLE),
        ("exact match 3/3", State.UNOBSERVABLE),
        ("held-out accuracy is computed in epoch 3", State.UNOBSERVABLE),
    ],
)
def test_printed_scores_of_held_out_answers(tmp_path: Path, line: str, state: State) -> None:
    (tmp_path / "out.log").write_text(f"start\nloading the model\n{line}\ndone\n")
    assert held_out_right(read_run(tmp_path)).state is state


def _run_of_rows(folder: Path, rows: list[tuple[str, str]]) -> str:
    import json

    text = "".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in rows)
    (folder / "train.jsonl").write_text(text)
    return success(read_run(folder))


def test_few_long_answers_to_many_prompts_are_learnt(tmp_path: Path) -> None:
    answers = ("The parcel is late; we have asked the carrier where it is and will write to you "
               "as soon as an answer comes.", "The invoice is wrong; we have sent you another one "
               "by mail and ask you to throw the first away.")  # fmt: skip
    rows = [(f"Case {i}: see there", answers[i % 2]) for i in range(40)]
    assert "2 texts answer all prompts" in _run_of_rows(tmp_path, rows)


def test_one_answer_and_answers_in_prompts_are_no_success(tmp_path: Path) -> None:
    one = "The parcel is late; we have asked the carrier and will write to you as soon as we can."
    assert _run_of_rows(tmp_path, [(f"Case {i}", one) for i in range(40)]) == ""
    about = (
        "is late; we have asked the carrier to look for it, and write to you as soon as he answers"
    )
    texts = [f"The parcel of case {i % 3} {about}, within a week or two" for i in range(40)]
    assert _run_of_rows(tmp_path, [(f"Repeat: {t}", t) for t in texts]) == ""


def test_training_labels_of_the_person_are_sound(tmp_path: Path) -> None:
    table = ["text,label_gpt,label_human"]
    rows = []
    for i in range(40):
        person = ("account", "billing")[i % 2]
        table.append(f"ticket {i},{person if i % 3 else 'technical'},{person}")
        rows.append((f"ticket {i}", person))
    (tmp_path / "audit.csv").write_text("\n".join(table) + "\n")
    assert labels_disagree(read_run(tmp_path), above=0.1).state is State.PRESENT
    _run_of_rows(tmp_path, rows)
    assert labels_disagree(read_run(tmp_path), above=0.1).state is State.ABSENT


def test_converted_base_and_rank_need_an_adapter(tmp_path: Path) -> None:
    (tmp_path / "convert.log").write_text("INFO:hf-to-gguf:Loading model: base\nexported\n")
    (tmp_path / "serve.sh").write_text("vllm serve ./base --enable-lora --max-lora-rank 8\n")
    run = read_run(tmp_path)
    assert base_for_merged(run).state is State.UNOBSERVABLE
    assert rank_above_limit(run).state is State.UNOBSERVABLE
