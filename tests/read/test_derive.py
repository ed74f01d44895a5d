"""Rows as the run trained on them: split, rendered, tokenised, cut; copies across splits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ftdoctor.examples import run_from_example
from ftdoctor.model import Run
from ftdoctor.read.derive import image_header
from tests.tokenizers import real_tokenizer

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def chat(question: str, answer: str) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def run_of(files: dict[str, Any], **example: Any) -> Run:
    return run_from_example({"files": files, **example})


def row(run: Run, split: str = "train") -> dict[str, Any]:
    return next(r for r in run.data.iter_rows(named=True) if r["split"] == split)


def small_tokenizer() -> str:
    tokenizers = pytest.importorskip("tokenizers")
    words = {"<unk>": 0, "</s>": 1, "river": 2, "owl": 3, "Name": 4, "a": 5, "bird": 6}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.add_special_tokens(["</s>"])
    text: str = made.to_str()
    return text


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train.jsonl", "train"),
        ("data/sft/part1.jsonl", "train"),
        ("eval.jsonl", "eval"),
        ("data/validation/a.jsonl", "eval"),
        ("my_dev_set.jsonl", "eval"),
        ("test.jsonl", "test"),
        ("production_sample.jsonl", "production"),
        ("contest.jsonl", "train"),
    ],
)
def test_a_file_name_tells_the_split(path: str, split: str) -> None:
    assert row(run_of({path: lines([chat("a", "b")])}), split)["path"] == path


def test_settings_decide_over_names() -> None:
    files = {"a.jsonl": lines([chat("a", "b")]), "b.jsonl": lines([chat("c", "d")])}
    run = run_of(files, settings={"dataset": "data/a.jsonl", "eval_dataset": "b.jsonl"})
    assert row(run, "eval")["path"] == "b.jsonl"


def test_messages_are_rendered_by_the_runs_own_template() -> None:
    config = json.dumps({"eos_token": "<|im_end|>", "tokenizer_class": "Qwen2Tokenizer"})
    run = run_of(
        {"tokenizer_config.json": config, "chat_template.jinja": CHATML,
         "train.jsonl": lines([chat("Hi", "Hello")])}
    )  # fmt: skip
    found = row(run)
    assert found["rendered"] == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
    )
    assert (found["rendered_by"], found["stop_text"]) == ("template", "<|im_end|>")
    assert found["ends_with_eos"] is True
    assert found["ends_with_header"] is False


def test_alpaca_rows_are_rendered_by_the_script_alone() -> None:
    data = lines([{"instruction": "Name a bird", "output": "Owl"}])
    script = (
        "from trl import SFTTrainer\n"
        "def render(row):\n"
        "    return f\"### Instruction:\\n{row['instruction']}\\n\\n\"\\\n"
        "        f\"### Response:\\n{row['output']}\"\n"
        "SFTTrainer(model=model, formatting_func=render).train()\n"
    )
    assert row(run_of({"train.jsonl": data}))["rendered"] is None
    found = row(run_of({"train.jsonl": data, "train.py": script}))
    assert found["rendered"] == "### Instruction:\nName a bird\n\n### Response:\nOwl"
    assert found["rendered_by"] == "script"


def test_rows_are_counted_in_the_runs_own_tokens() -> None:
    run = run_of(
        {"tokenizer.json": small_tokenizer(),
         "tokenizer_config.json": '{"eos_token": "</s>", "tokenizer_class": "X"}',
         "train.jsonl": lines([{"prompt": "Name a bird ", "completion": "owl </s>"}])},
        settings={"max_length": 4},
    )  # fmt: skip
    found = row(run)
    assert (found["n_tokens"], found["last_tokens"]) == (5, [4, 5, 6, 3, 1])
    assert found["stop_ids"] == 1
    assert found["truncated"] is True


def test_without_a_tokenizer_only_the_certain_is_said() -> None:
    def cut(text: str, limit: int) -> bool | None:
        run = run_of({"train.jsonl": lines([{"text": text}])}, settings={"max_length": limit})
        found: bool | None = row(run)["truncated"]
        return found

    assert cut("word " * 20, 200) is False
    assert cut("word " * 200, 100) is True
    assert cut("word " * 40, 100) is None


def test_prepared_rows_show_their_end_and_labels() -> None:
    rows = [
        {"input_ids": [1, 5, 2, 0], "attention_mask": [1, 1, 1, 0], "labels": [-100, 5, -100, -100]}
    ]
    run = run_of({"train.jsonl": lines(rows)}, facts={"tokenizer.eos_id": 2, "tokenizer.bos_id": 1})
    found = row(run)
    assert (found["n_tokens"], found["ends_with_eos"], found["eos_masked"]) == (3, True, True)
    assert found["supervised"] == pytest.approx(1 / 3)
    assert found["starts_with_bos"] is True


def test_copies_across_splits_are_found_over_all_rows() -> None:
    train = [chat(f"Question number {i} of many", f"Answer {i}") for i in range(20)]
    run = run_of(
        {"train.jsonl": lines(train), "eval.jsonl": lines([train[4], chat("Else " * 5, "x")])}
    )
    fact = run.fact("data.overlap.eval")
    assert fact is not None
    assert (fact.value["rows"], fact.value["shared"]) == (2, 1)
    assert tuple(fact.value["pairs"][0]) == ("eval.jsonl", 1, "train.jsonl", 5)


def test_versions_of_a_data_set_in_their_own_folders_are_not_compared() -> None:
    rows = [chat(f"Question number {i} of many", f"Answer {i}") for i in range(20)]
    files = {
        "v1/train.jsonl": lines(rows[:10]), "v1/valid.jsonl": lines(rows[10:12]),
        "v2/train.jsonl": lines(rows[10:]), "v2/valid.jsonl": lines(rows[:2]),
    }  # fmt: skip
    fact = run_of(files).fact("data.overlap.eval")
    assert fact is not None
    assert (fact.value["rows"], fact.value["shared"], fact.value["prompts"]) == (4, 0, 0)
    files = {"train/a.jsonl": lines(rows[:10]), "valid/a.jsonl": lines(rows[:2])}
    fact = run_of(files).fact("data.overlap.eval")
    assert fact is not None
    assert (fact.value["shared"], fact.value["prompts"]) == (2, 2)


def test_a_script_that_adds_no_special_tokens_doubles_no_bos() -> None:
    script = "import torch\nids = tok(row['text'], add_special_tokens={})\nloss.backward()\n"
    config = {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True}
    for adds in (False, True):
        files = {
            "train.jsonl": lines([{"text": "<s>river owl</s>"}] * 5),
            "tokenizer_config.json": json.dumps(config),
            "train.py": script.format(adds),
        }
        assert row(run_of(files))["double_bos"] is adds


def test_outputs_are_kept_apart_from_training_rows() -> None:
    made = [
        {"prompt": "Hi", "generated_text": "Hello", "finish_reason": "stop", "reference": "Hey"}
    ]
    run = run_of({"generations.jsonl": lines(made), "train.jsonl": lines([chat("a", "b")])})
    found = row(run, "generations")
    assert (found["response"], found["reference"], found["stop_reason"]) == ("Hello", "Hey", "stop")
    train = run.fact("data.train.rows")
    assert train is not None
    assert train.value == 1


def test_image_headers_are_read_without_a_library() -> None:
    png = (
        b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (640).to_bytes(4, "big") + (480).to_bytes(4, "big")
    )
    assert image_header(png + b"\x08\x06\0\0\0") == (640, 480, "RGBA")
    start = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0\x00\x11\x08"
    jpeg = start + (480).to_bytes(2, "big") + (640).to_bytes(2, "big") + b"\x03" + b"\0" * 9
    assert image_header(jpeg) == (640, 480, "RGB")
    assert image_header(b"GIF89a") is None


@pytest.mark.parametrize(
    ("name", "stop"),
    [("qwen2_5", "<|im_end|>"), ("llama3_1", "<|eot_id|>"), ("gemma3", "<end_of_turn>")],
)
def test_real_tokenizers_close_their_answers_with_one_token(name: str, stop: str) -> None:
    folder = real_tokenizer(name)
    files: dict[str, Any] = {
        n: (folder / n).read_bytes() for n in ("tokenizer.json", "tokenizer_config.json")
    }
    run = run_of({**files, "train.jsonl": lines([chat("Name a bird", "An owl")])})
    found = row(run)
    assert (found["stop_text"], found["stop_ids"]) == (stop, 1)
    assert found["n_tokens"] > 8
    assert not found["double_bos"]
