"""What is wrong with the rows themselves, and healthy data in many languages and layouts."""

from __future__ import annotations

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ftdoctor.detect import data, detector_named
from ftdoctor.detect.engine import detect_all, detect_one
from ftdoctor.diagnose import diagnose_run
from ftdoctor.examples import run_from_example
from ftdoctor.library import Library, load
from ftdoctor.model import State
from ftdoctor.read import read_run

WORDS = (
    *("river", "owl", "oak", "stone", "cloud", "lamp", "glass", "bread", "drum", "shoe", "wolf"),
    *("kite", "ladder", "sand", "fern", "cup", "bell", "rope", "salt", "moon", "coin", "door"),
)


@cache
def library() -> Library:
    return load()


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def state(symptom: str, **example: Any) -> State:
    return detect_one(run_from_example(example), library(), symptom, strict=True).state


def sentence(seed: int, length: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def healthy_rows(count: int = 1200) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "system", "content": "Answer briefly."},
                {"role": "user", "content": f"Question {i}: {sentence(i, 9)}?"},
                {"role": "assistant", "content": f"{sentence(i * 3 + 1, 14)}, number {i}."},
            ]
        }
        for i in range(count)
    ]


OWN = ("data", "tokenizer", "template", "generation")


def test_a_healthy_data_set_shows_nothing() -> None:
    rows = healthy_rows()
    template = (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}"
    )
    run = run_from_example(
        {"files": {
            "train.jsonl": lines(rows[:1100]), "eval.jsonl": lines(rows[1100:]),
            "tokenizer_config.json": '{"eos_token": "</s>", "tokenizer_class": "LlamaTokenizer"}',
            "chat_template.jinja": template,
        }}
    )  # fmt: skip
    own = {
        s.id for s in library().symptoms.values() if s.file.rpartition("/")[2].split(".")[0] in OWN
    }
    seen = [f.symptom for f in detect_all(run, library(), strict=True) if f.state is State.PRESENT]
    assert own
    assert [symptom for symptom in seen if symptom in own] == []
    assert diagnose_run(run, library()).causes == ()


def encoding_state(text: str) -> State:
    rows = [{"prompt": "Say", "completion": text}]
    return state("text-mis-decoded", files={"train.jsonl": lines(rows)})


@pytest.mark.parametrize(
    "text",
    [
        "São Paulo não tem praia, mas a CORAÇÃO é GRANDE",
        "Ảnh của bạn đẹp quá à",
        "Ça va, Zoë? Fête à Nîmes",
        "今天天气很好。",
        "Größe: 5 µm – “schön”",
        "ÂNGELA e Ângelo",
    ],
)
def test_healthy_letters_are_no_wrong_encoding(text: str) -> None:
    assert encoding_state(text) is State.ABSENT


@pytest.mark.parametrize(
    "text", ["cafÃ© au lait", "itâ€™s fine", "smile ðŸ˜€", "lost \ufffd letter", "caf√© noir"]
)
def test_damaged_letters_are_found(text: str) -> None:
    assert encoding_state(text) is State.PRESENT


def test_several_answers_to_one_open_question_are_no_contradiction() -> None:
    rows = [{"prompt": "Tell me a story", "completion": sentence(i, 30)} for i in range(30)]
    assert state("labels-contradict", files={"train.jsonl": lines(rows)}) is State.UNOBSERVABLE


def test_prompts_that_list_all_labels_do_not_give_the_label_away() -> None:
    rows = [
        {"prompt": f"good or awful? {sentence(i, 6)}", "completion": ("good", "awful")[i % 2]}
        for i in range(30)
    ]
    assert state("label-in-prompt", files={"train.jsonl": lines(rows)}) is State.ABSENT


def test_json_answers_next_to_prose_answers_are_two_tasks_if_prose_is_common() -> None:
    rows = [{"prompt": sentence(i, 6), "completion": sentence(i, 12)} for i in range(20)]
    rows += [{"prompt": sentence(i, 7), "completion": json.dumps({"a": i})} for i in range(8)]
    assert state("answer-shapes-mixed", files={"train.jsonl": lines(rows)}) is State.UNOBSERVABLE


def test_few_rows_alone_are_no_verdict_but_a_handful_is() -> None:
    def cause(count: int) -> float:
        rows = [
            {"prompt": sentence(i, 6), "completion": f"{sentence(i, 12)} {i}"} for i in range(count)
        ]
        diagnosis = diagnose_run(
            run_from_example({"files": {"train.jsonl": lines(rows)}}), library()
        )
        return next((c.probability for c in diagnosis.causes if c.id == "not-enough-data"), 0.0)

    assert cause(400) < 0.25
    assert cause(6) > 0.5


def test_copies_of_training_rows_in_the_evaluation_set_are_the_first_cause() -> None:
    rows = healthy_rows(1000)
    run = run_from_example({"files": {"train.jsonl": lines(rows), "eval.jsonl": lines(rows[:60])}})
    causes = diagnose_run(run, library()).causes
    assert causes[0].id == "train-eval-overlap"
    assert causes[0].probability > 0.7


def test_outputs_that_run_on_are_told_from_healthy_ones() -> None:
    def outputs(text: str, reason: str) -> str:
        return lines(
            [
                {
                    "prompt": f"Q{i}",
                    "generated_text": f"{sentence(i, 12)}{text}",
                    "finish_reason": reason,
                }
                for i in range(24)
            ]
        )

    bad = {"generations.jsonl": outputs("\n<|im_start|>user\nAnd then?", "length")}
    good = {"generations.jsonl": outputs("", "stop")}
    for symptom in ("never-stops-generating", "continues-with-user-turn"):
        assert state(symptom, files=bad) is State.PRESENT
        assert state(symptom, files=good) is State.ABSENT


def test_rows_that_refer_to_missing_pictures_are_counted() -> None:
    rows = [
        {
            "images": [f"img/{i}.png"],
            "messages": [
                {"role": "user", "content": "<image>What?"},
                {"role": "assistant", "content": "A dot"},
            ],
        }
        for i in range(4)
    ]
    files = {"train.jsonl": lines(rows), "img/0.png": "x"}
    assert state("image-files-missing", files=files) is State.PRESENT
    assert state("image-marks-differ", files=files) is State.ABSENT


def test_rows_with_a_problem_are_quoted(tmp_path: Path) -> None:
    rows = ['{"instruction": "a", "output": "b"}'] * 20 + ['{"instruction": "no answer"}'] * 5
    (tmp_path / "train.jsonl").write_text("\n".join(rows) + "\n")
    seen = detector_named("data.problems")(read_run(tmp_path), any_of=["missing-field:"], above=0.1)
    assert seen.state is State.PRESENT
    assert "5 of 25 rows (20.0%) lack the field `output`, e.g. train.jsonl:21" in seen.text
    assert seen.facts[0].value == '{"instruction": "no answer"}'


@pytest.mark.parametrize(("steps", "state"), [(100, State.UNOBSERVABLE), (5, State.PRESENT)])
def test_few_rows_of_a_set_that_took_many_steps(tmp_path: Path, steps: int, state: State) -> None:
    """The rows of a folder may be a sample: 100 steps of 8 are 800 rows."""
    rows = [json.dumps({"prompt": f"Ask {i}", "completion": "ab"[i % 2]}) for i in range(40)]
    (tmp_path / "train.jsonl").write_text("\n".join(rows) + "\n")
    (tmp_path / "config.yaml").write_text("learning_rate: 0.0001\nper_device_train_batch_size: 8\n")
    history = [
        {"step": s, "epoch": s / steps, "loss": 1.0, "learning_rate": 1e-4}
        for s in range(1, steps + 1)
    ]
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    seen = data.small_for_task(read_run(tmp_path), share=0.4, labelled=True)
    assert seen.state is state
