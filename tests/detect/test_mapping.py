"""Which column is read as the prompt: by what names mean, and by what answers say."""

from __future__ import annotations

import json

import pytest

from ftdoctor.detect import mapping
from ftdoctor.examples import run_from_example
from ftdoctor.model import Run, State


def run_of(prompt: str, answer: str, *, tags: bool = False, dataset: str = "pairs") -> Run:
    names = {"user_tag": prompt, "assistant_tag": answer}
    mapped = {"tags": names} if tags else {"columns": {"prompt": prompt, "response": answer}}
    registry = {"pairs": {"file_name": "pairs.json"} | mapped}
    files = {"data/dataset_info.json": json.dumps(registry)}
    return run_from_example({"files": files, "settings": {"dataset": dataset}})


@pytest.mark.parametrize(
    ("prompt", "answer", "state"),
    [
        ("answer", "question", State.PRESENT),
        ("respuesta", "pregunta", State.PRESENT),
        ("modelResponse", "userQuery", State.PRESENT),
        ("question", "answer", State.ABSENT),
        ("text", "title", State.ABSENT),
        ("answer_to_question", "question", State.ABSENT),
        ("summary", "document", State.ABSENT),
    ],
)
def test_meaning_of_names(prompt: str, answer: str, state: State) -> None:
    assert mapping.swapped(run_of(prompt, answer)).state is state


def test_tags_of_speakers() -> None:
    assert mapping.swapped(run_of("gpt", "human", tags=True)).state is State.PRESENT
    assert mapping.swapped(run_of("human", "gpt", tags=True)).state is State.ABSENT


def test_another_data_set_of_the_registry_is_not_read() -> None:
    assert mapping.swapped(run_of("answer", "question", dataset="x")).state is State.UNOBSERVABLE
