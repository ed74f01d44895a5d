"""Sentences of evidence are plain: no dotted names of facts, no Python literals."""

from __future__ import annotations

import re

import pytest

from ftdoctor.detect.engine import detect_one
from ftdoctor.detect.wording import named, said, shown
from ftdoctor.examples import run_from_example
from ftdoctor.library import load
from ftdoctor.model import Fact, State, Where
from ftdoctor.read.names import FACTS

LIBRARY = load()
DOTTED = {name for name in FACTS if "*" not in name}
LITERAL = re.compile(
    r"\b(?:True|False|None|Where|Fact)\b(?! of)|\['|\{'|``|“”|  |"
    r"(?<![\d.,+-])(?<!of )1 (?:\w+ )?(?:rows|files|tokens|steps|points|tensors|spikes|modules)\b"
)


@pytest.mark.parametrize("symptom", LIBRARY.symptoms)
def test_what_is_seen_is_told_in_plain_words(symptom: str) -> None:
    for example in LIBRARY.symptoms[symptom].examples:
        finding = detect_one(run_from_example(example), LIBRARY, symptom)
        if finding.state is State.UNOBSERVABLE:
            continue
        quoted = re.sub(r"“[^”]*”", "Q", finding.text)  # what the files say, they say in their way
        assert not DOTTED & set(re.findall(r"[a-z_]+(?:\.[a-z_]+)+", quoted)), finding.text
        assert not LITERAL.search(re.sub(r"`[^`]+`|'[^']*'", "x", quoted)), finding.text


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (True, "true"),
        (2e-05, "2e-5"),
        (0.1 + 0.2, "0.3"),
        (5000, "5,000"),
        ("cosine", "`cosine`"),
        ("a`b\nc", "`a'b\\nc`"),
        (["q_proj", "v_proj"], "`q_proj`, `v_proj`"),
        ([1, 2, 3, 4, 5, 6, 7, 8], "1, 2, 3, 4, 5, 6, 2 more"),
        ("x" * 99, f"`{'x' * 59}…`"),
    ],
)
def test_values_are_shown_as_a_person_writes_them(value: object, told: str) -> None:
    assert shown(value) == told


def test_an_observation_has_words_and_a_setting_its_name() -> None:
    assert named("progress.max_steps") == "the number of planned steps"
    assert named("environment.package.peft") == "the version of `peft`"
    assert named("quantization.load_in_8bit") == "`load_in_8bit`"
    assert named("fp16") == "`fp16`"


def test_a_fact_is_said_with_its_place_once() -> None:
    where = Where("run.sh", line=3)
    assert said(Fact("shell.crlf", True, where)) == (
        "the script has Windows line ends (CRLF) (run.sh:3)"
    )
    kept = Where("training_args.bin", pointer="/fp16")
    assert said(Fact("fp16", True, kept)) == "`fp16` is true in training_args.bin"
