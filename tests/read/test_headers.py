"""Settings that a log announces before its first row."""

from __future__ import annotations

import pytest

from ftdoctor.read.headers import Headers


def settings_of(line: str, *, before_rows: bool = True) -> dict[str, object]:
    headers = Headers("train.log")
    headers.look(line, 1, before_rows=before_rows)
    return {fact.name: fact.value for fact in headers.settings()}


@pytest.mark.parametrize(
    "line",
    [
        "args: {'lr': 0.001, 'wd': 60.0, 'bs': 8, 'ga': 2}",
        '{"lr": 0.001, "wd": 60.0, "bs": 8, "ga": 2}',
        "Namespace(lr=0.001, wd=60.0, bs=8, ga=2)",
        "config: lr=0.001 wd=60.0 bs=8 ga=2",
    ],
)
def test_short_names_of_arguments(line: str) -> None:
    found = settings_of(line)
    assert found["weight_decay"] == 60.0
    assert found["batch_size"] == 8
    assert found["grad_accum"] == 2


@pytest.mark.parametrize(
    "line",
    [
        "{'lr': 0.001, 'loss': 2.1, 'wd': 0.1}",
        "{'wd': 60.0, 'bs': 8, 'ep': 3}",
        "shape {'a': 1}",
    ],
)
def test_other_dictionaries_are_no_arguments(line: str) -> None:
    assert settings_of(line) == {}


def test_a_dictionary_amid_the_rows_is_no_announcement() -> None:
    assert settings_of("{'lr': 0.001, 'wd': 1.0, 'bs': 8}", before_rows=False) == {}
