"""A pasted log must lead to its cause: first errors before their echoes, harmless lines to none."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftdoctor.detect.engine import detect_all
from ftdoctor.examples import run_from_example
from ftdoctor.library import load
from ftdoctor.model import Library, Severity
from ftdoctor.rank import Ranked, rank

LOGS = yaml.safe_load((Path(__file__).parent / "data" / "logs.yaml").read_text(encoding="utf-8"))
HEALTHY_LIMIT = 0.25
LIKELY = 0.5
PROGRESS = "".join(
    f"{{'loss': {2 - i / 10}, 'grad_norm': 0.4, 'learning_rate': 1e-05, 'epoch': {i / 10}}}\n"
    for i in range(1, 13)
)
SURVIVABLE = ("cuda-oom-activations", "disk-full", "ddp-marked-ready-twice", "hub-unreachable")


@cache
def library() -> Library:
    return load()


def causes_of(log: str) -> list[tuple[str, float]]:
    """Return cause and probability, best first, of severity medium or more for a pasted log."""
    run = run_from_example({"files": {"train.log": log}})
    ranked = rank(detect_all(run, library(), strict=True), library()).ranked
    return [_shown(r) for r in ranked if r.cause.severity is not Severity.LOW]


def _shown(ranked: Ranked) -> tuple[str, float]:
    return ranked.cause.id, round(ranked.probability, 3)


def named(cases: list[dict[str, str]]) -> list[Any]:
    return [pytest.param(c["cause"], c["log"], id=c["cause"]) for c in cases]


@pytest.mark.parametrize(("cause", "log"), named(LOGS["crashes"]))
def test_crash_leads_to_its_cause(cause: str, log: str) -> None:
    found = causes_of(log)
    assert found
    assert found[0][0] == cause, found[:3]
    assert found[0][1] >= LIKELY, found[:3]


@pytest.mark.parametrize(("cause", "log"), named(LOGS["consequences"]))
def test_first_error_stands_before_its_echoes(cause: str, log: str) -> None:
    found = causes_of(log)
    assert found[0][0] == cause, found[:3]
    assert [item for item in found[1:] if item[1] >= LIKELY] == []


@pytest.mark.parametrize("line", LOGS["harmless"])
def test_harmless_line_raises_nothing(line: str) -> None:
    end = "{'train_runtime': 119.8, 'train_loss': 1.2, 'epoch': 1.2}"
    found = causes_of(f"{line}\n{PROGRESS}{line}\n{end}\n")
    assert [item for item in found if item[1] > HEALTHY_LIMIT] == []


@pytest.mark.parametrize("cause", SURVIVABLE)
def test_error_that_training_survived_is_no_cause(cause: str) -> None:
    log = next(case["log"] for case in LOGS["crashes"] if case["cause"] == cause)
    found = dict(causes_of(f"{log}\n{PROGRESS}"))
    assert found.get(cause, 0.0) <= HEALTHY_LIMIT


def test_error_of_an_earlier_start_is_no_cause_of_the_last() -> None:
    start = "[INFO] [runner.py:555:main] cmd = /usr/bin/python -u -m deepspeed.launcher.launch x\n"
    refused = "train.py: error: the following arguments are required: --output_dir\n"
    stopped = "[ERROR] [launch.py:321:sigkill_handler] ['python'] exits with return code = -15\n"
    found = causes_of(start + refused + start + stopped)
    assert found[0][0] == "preemption", found[:3]
    assert dict(found).get("trainer-config-invalid", 0.0) <= HEALTHY_LIMIT


STACK = 'Traceback (most recent call last):\n  File "/app/train.py", line 9, in main\n    go(x)\n'
BAR = "\r  5%|▌         | 5/100 [00:10<03:10,  2.00s/it]"


@pytest.mark.parametrize(
    "log",
    [
        f"{STACK}ValueError: odd number of frobs\n",
        f"{STACK}RuntimeError: the frob is None\n",
        f"{PROGRESS}{BAR}{STACK}ValueError: odd number of frobs{BAR}\n",
        "".join(f"[rank1]: {line}\n" for line in f"{STACK}OddFrob: 3".splitlines()),
        f"{PROGRESS}{STACK}gone: with the wind\n",
        STACK,
    ],
)
def test_no_exception_that_ends_a_log_is_passed_over(log: str) -> None:
    assert causes_of(log)[0][0] == "uncaught-exception"


def test_value_that_is_none_is_a_fault_of_the_rows_only_if_rows_lack_text() -> None:
    log = f"{STACK}AttributeError: 'NoneType' object has no attribute 'keys'\n"
    assert causes_of(log)[0][0] == "script-error"
    row = '{"prompt": "How far is Lyon?", "completion": %s}\n'
    rows = row % "null" + "".join(row % f'"Some {n} km"' for n in range(400, 420))
    run = run_from_example({"files": {"train.log": log, "train.jsonl": rows}})
    ranked = rank(detect_all(run, library(), strict=True), library()).ranked
    assert ranked[0].cause.id == "null-or-nonstring-text"
