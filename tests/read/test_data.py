"""Training files in every layout and state of repair: rows counted, damage named by its line."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from ftdoctor.model import ArtifactState
from ftdoctor.read.data import (
    SAMPLE,
    looks_like_generations,
    looks_like_rows,
    read_csv,
    read_json,
    read_parquet,
)
from ftdoctor.read.layout import understand
from ftdoctor.read.reading import Reading
from ftdoctor.read.source import local_source, memory_source


def read(text: str | bytes, name: str = "train.jsonl") -> Reading:
    return read_json(memory_source(name, text.encode() if isinstance(text, str) else text))


def summary(reading: Reading) -> dict[str, Any]:
    return next(f.value for f in reading.facts if f.name == "data.file")


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("alpaca.json", "alpaca"),
        ("dpo_pairs.jsonl", "preference"),
        ("dpo_implicit_conversational.jsonl", "preference"),
        ("openai_preference.jsonl", "preference"),
        ("kto.jsonl", "kto"),
        ("multimodal.jsonl", "multimodal"),
        ("openai_messages.jsonl", "messages"),
        ("openai_tools.jsonl", "messages"),
        ("hf_tools_dict_arguments.jsonl", "messages"),
        ("pretokenized.jsonl", "pretokenised"),
        ("prompt_completion.jsonl", "prompt-completion"),
        ("sharegpt.json", "sharegpt"),
        ("text.jsonl", "text"),
    ],
)
def test_every_layout_is_recognised_and_clean(shared: Path, name: str, layout: str) -> None:
    folder = shared / "formats" / "samples" / "data"
    reading = read_json(local_source(folder, folder / name))
    assert reading.state is ArtifactState.READ
    assert list(summary(reading)["layouts"]) == [layout]
    assert summary(reading)["problems"] == {}


def test_a_broken_file_names_its_faults_by_line(shared: Path) -> None:
    folder = shared / "formats" / "samples" / "data"
    reading = read_json(local_source(folder, folder / "broken.jsonl"))
    found = summary(reading)
    assert reading.state is ArtifactState.PARTIAL
    assert "line 3 is a Python dict" in reading.reason
    assert (found["rows"], found["invalid"], found["blank"]) == (6, 2, 1)
    assert found["problems"]["empty-response"] == [1, [1]]
    assert found["problems"]["no-user"] == [1, [2]]


def test_an_array_knows_the_line_of_each_row() -> None:
    reading = read('[\n{"text": "a"},\n\n{"text": "b"}\n]\n', "train.json")
    assert [r.line for r in reading.records] == [2, 4]


def test_a_cut_array_keeps_its_whole_rows() -> None:
    reading = read('[\n{"text": "a"},\n{"text": "b"},\n{"te', "train.json")
    assert reading.record_count == 3
    assert "line 4 the file ends inside this row" in reading.reason


def test_a_cut_last_line_is_told_from_a_broken_one() -> None:
    assert "was cut off" in read('{"text": "a"}\n{"text": "b').reason
    assert "not valid JSON" in read('{"text": "a"}\n{"text": "b\n{"text": "c"}\n').reason


def test_objects_over_several_lines_are_rows() -> None:
    assert read('{\n"text": "a"\n}\n{\n"text": "b"\n}\n', "train.json").record_count == 2


def test_a_document_with_a_list_of_rows_is_read() -> None:
    assert (
        read('{"version": 1, "data": [{"text": "a"}, {"text": "b"}]}', "a.json").record_count == 2
    )


def test_bom_and_crlf_do_no_harm() -> None:
    reading = read(b'\xef\xbb\xbf{"text": "a"}\r\n{"text": "b"}\r\n')
    assert reading.state is ArtifactState.READ
    assert reading.record_count == 2


def test_utf16_is_read() -> None:
    assert read('{"text": "a"}\n{"text": "b"}\n'.encode("utf-16")).record_count == 2


def test_copies_and_contradictions_are_counted_over_the_whole_file() -> None:
    rows = [{"prompt": f"q{i % 50}", "completion": f"a{i}"} for i in range(100)]
    rows += rows[:7]
    found = summary(read("\n".join(map(json.dumps, rows))))
    assert found["duplicates"] == 7
    assert found["conflicts"] == 107
    assert found["duplicate_lines"][0] == (1, 101)


def test_the_sample_is_the_same_each_time_and_spread_over_the_file() -> None:
    text = "\n".join(json.dumps({"text": f"row {i}"}) for i in range(3 * SAMPLE))
    first, second = read(text), read(text)
    assert first.records == second.records
    assert len(first.records) == SAMPLE
    middle = sum(SAMPLE < r.line <= 2 * SAMPLE for r in first.records)
    assert abs(middle - SAMPLE / 3) < 200
    assert first.record_count == 3 * SAMPLE


def test_fields_that_are_missing_are_told_unless_all_rows_are_prompts() -> None:
    mixed = summary(
        read(
            '{"prompt": "a", "completion": "b"}\n{"prompt": "c"}\n'
            '{"prompt": "d", "completion": "e"}\n'
        )
    )
    assert mixed["problems"] == {"missing-field:completion": [1, [2]]}
    prompts = summary(read('{"prompt": "a"}\n{"prompt": "c"}\n'))
    assert prompts["problems"] == {}


def test_a_table_with_quotes_and_semicolons_is_read() -> None:
    source = memory_source("train.csv", b'question;answer\n"a;b";"c\nd"\nx;y;z\n')
    reading = read_csv(source)
    assert reading.records[0].value == {"question": "a;b", "answer": "c\nd"}
    assert "line 4 has other columns" in reading.reason


def test_parquet_rows_are_read() -> None:
    polars = pytest.importorskip("polars")
    buffer = io.BytesIO()
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    polars.DataFrame({"messages": [turns] * 3}).write_parquet(buffer)
    reading = read_parquet(memory_source("train.parquet", buffer.getvalue()))
    assert summary(reading)["layouts"] == {"messages": 3}


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 40, b"[", b"{", b"\xff\xfe", b"null\n", b"[1, 2]"]
)
def test_rubbish_never_raises(content: bytes) -> None:
    assert read(content).state in (ArtifactState.DAMAGED, ArtifactState.PARTIAL)


def test_training_rows_are_told_from_outputs_and_metrics() -> None:
    assert looks_like_rows(frozenset({"messages"}))
    assert looks_like_rows(frozenset({"instruction", "input", "output"}))
    assert not looks_like_rows(frozenset({"step", "loss", "lr"}))
    assert looks_like_generations("x.jsonl", frozenset({"prompt", "predict", "label"}))
    assert looks_like_generations("predictions.jsonl", frozenset({"prompt", "response"}))
    assert not looks_like_generations("generated_qa.jsonl", frozenset({"instruction", "output"}))
    assert not looks_like_generations("outputs.jsonl", frozenset({"messages"}))


def test_tool_calls_without_text_are_no_empty_answers() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "1"},
        {"role": "assistant", "content": "done"},
    ]
    assert understand({"messages": turns}).problems == ()


@pytest.mark.parametrize(
    ("turns", "problem"),
    [
        ([("assistant", "a"), ("user", "b")], "assistant-first"),
        ([("user", "a"), ("user", "b"), ("assistant", "c")], "same-role-twice"),
        ([("user", "a")], "no-assistant"),
        ([("user", "a"), ("assistant", " ")], "empty-response"),
        ([("user", "a"), ("assistant", "b"), ("user", "c")], "ends-with-user"),
        ([("narrator", "a"), ("assistant", "b")], "unknown-role"),
    ],
)
def test_each_fault_of_a_conversation_has_a_name(
    turns: list[tuple[str, str]], problem: str
) -> None:
    messages = [{"role": role, "content": content} for role, content in turns]
    assert problem in understand({"messages": messages}).problems


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"body": "Where is my parcel?", "category": "delivery"}, "delivery"),
        ({"review": "Great tent", "stars": 5}, "5"),
        ({"text": "A whole article on tents", "topic": "camping"}, ""),
    ],
)
def test_a_text_beside_its_class_is_a_pair(row: dict[str, Any], answer: str) -> None:
    assert understand(row).response == answer


def test_columns_named_for_languages_are_rows() -> None:
    assert looks_like_rows(frozenset({"en", "de"}))
    assert looks_like_rows(frozenset({"id", "translation"}))
    assert not looks_like_rows(frozenset({"id", "no", "is"}))
    found = understand({"translation": {"en": "a tent", "pt_BR": "uma barraca"}})
    assert (found.prompt, found.response) == ("a tent", "uma barraca")
    assert understand({"id": 4, "English": "a", "German": "b"}).response == "b"


def test_answers_beside_references_are_generations() -> None:
    keys = frozenset({"input", "output", "reference"})
    assert looks_like_generations("samples.jsonl", keys)
    assert not looks_like_generations("train.jsonl", keys)


def test_one_question_about_several_images_is_no_contradiction() -> None:
    def rows(image: str) -> str:
        return "".join(
            json.dumps({
                "images": [image.format(n)],
                "messages": [
                    {"role": "user", "content": "What is the sum?"},
                    {"role": "assistant", "content": f"It is {n}."},
                ],
            }) + "\n"
            for n in range(5)
        )  # fmt: skip

    assert summary(read(rows("r{}.png")))["conflicts"] == 0
    assert summary(read(rows("r.png")))["conflicts"] == 5
