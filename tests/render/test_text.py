"""Words and numbers of the reports."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftdoctor.render import text as words


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0.0"), (3.0, "3"), (0.6543999, "0.6544"), (2e-4, "2e-4"), (1.35e-7, "1.35e-7"),
        (1e12, "1e12"), (12000, "12,000"), (math.nan, "NaN"), (math.inf, "Inf"),
        (-math.inf, "−Inf"), (True, "True"), ("x", "x"),
    ],
)  # fmt: skip
def test_number(value: object, shown: str) -> None:
    assert words.number(value) == shown


@pytest.mark.parametrize(
    ("probability", "shown"),
    [(0.0, "<1%"), (0.004, "<1%"), (0.05, "5%"), (0.944, "94%"), (0.996, ">99%"), (1.0, ">99%")],
)
def test_percent_is_never_certain(probability: float, shown: str) -> None:
    assert words.percent(probability) == shown


def test_small_priors_keep_a_digit() -> None:
    assert [words.prior_percent(p) for p in (0.012, 0.002, 0.05, 0.2)] == [
        "1.2%", "0.2%", "5%", "20%"]  # fmt: skip


def test_sizes_and_times() -> None:
    assert [words.size(n) for n in (0, 999, 9_120, 212_000_000)] == ["0 B", "999 B", "9.12 kB",
                                                                     "212 MB"]  # fmt: skip
    assert words.moment(1_789_650_341.0) == "17 Sep 2026 13:05 UTC"
    assert [words.moment(t) for t in (None, math.nan, 1e30, -1e30)] == [""] * 4
    assert words.duration(2700) == "45 minutes"
    assert words.duration(7200) == "2.0 hours"


@given(st.text())
def test_clean_text_can_be_printed_and_written(text: str) -> None:
    cleaned = words.clean(text)
    cleaned.encode("utf-8")
    assert "\x1b" not in cleaned
    assert "\u202e" not in cleaned
    assert words.clean(cleaned) == cleaned


@given(st.text(), st.integers(min_value=1, max_value=50))
def test_one_line_is_one_line_of_that_length(text: str, limit: int) -> None:
    line = words.one_line(text, limit)
    assert len(line) <= limit
    assert "\n" not in line


@given(st.lists(st.floats(), max_size=400))
def test_sparklines_are_short(values: list[float]) -> None:
    assert len(words.sparkline(values)) <= 24


def test_sparkline() -> None:
    assert words.sparkline([3.0, 2.0, 1.0]) == "█▅▁"
    assert words.sparkline([1.0, math.nan]) == "▁×"
    assert words.sparkline([]) == ""


def test_code_lines_keep_indentation() -> None:
    assert words.code_lines("\tfp16=True,\n") == ["    fp16=True,"]
    assert words.code_lines("") == []


def test_sentence_and_list() -> None:
    assert words.sentence("Do this. Then that.") == "Do this."
    assert words.sentence("version 2.1 is\nold") == "version 2.1 is old."
    assert words.listed(["a"]) == "a"
    assert words.listed(["a", "b", "c"], "or") == "a, b or c"


def test_trainers_and_methods_go_by_the_names_that_people_know() -> None:
    assert words.known_as("hf") == "Hugging Face Trainer"
    assert words.known_as("LoRA r=8 sft") == "LoRA r=8 SFT"
    assert words.known_as("my-trainer") == "my-trainer"
