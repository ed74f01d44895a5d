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


def test_the_configuration_that_nanogpt_prints_is_read() -> None:
    headers = Headers("out.txt")
    printed = (
        "Overriding config with config/small.py:", "# a comment", "out_dir = 'out'",
        "learning_rate = 6e-2 # high", "grad_clip = 0.0", "", "seed = 4", "Overriding: max_iters = 9",
    )  # fmt: skip
    for number, line in enumerate(printed, start=1):
        headers.look(line, number, before_rows=True)
    found = {f.name: (f.value, f.where.line) for f in headers.settings()}
    assert found == {
        "out_dir": ("out", 3), "learning_rate": (0.06, 4), "grad_clip": (0.0, 5),
        "max_iters": (9, 8),
    }  # fmt: skip
