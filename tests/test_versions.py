"""Versions: a known one outside a cause's range leaves it out, an unknown one changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ftdoctor.diagnose import applicable, diagnose_run
from ftdoctor.examples import run_from_example
from ftdoctor.library import load
from ftdoctor.model import Fact, Run, Status, Where
from ftdoctor.versions import affected, is_range, version, within

LIBRARY = load()
OLD_WEIGHTING = "grad-accum-token-weighting"  # affects transformers<4.46


def run_with(**facts: str) -> Run:
    return run_from_example({"facts": {k.replace("__", "."): v for k, v in facts.items()}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4.46.0.dev0", (4, 46)), ("2.6.0+cu124", (2, 6)), ("v0.9", (0, 9)), ("main", None)],
)  # fmt: skip
def test_version_takes_the_release_numbers(text: str, expected: tuple[int, ...] | None) -> None:
    assert version(text) == expected


@pytest.mark.parametrize(
    ("found", "text", "expected"),
    [
        ("4.45.2", "transformers<4.46", True),
        ("4.46", "transformers<4.46", False),
        ("4.46.3", "transformers>=4.46,<4.50", True),
        ("4.50.0", "transformers>=4.46, <4.50", False),
        ("4.100", "transformers>4.46", True),
        ("2.1.0", "torch==2.1", True),
    ],
)
def test_within_compares_numbers(found: str, text: str, expected: bool) -> None:
    number = version(found)
    assert number is not None
    assert within(number, text) is expected


@pytest.mark.parametrize("text", ["transformers", "transformers<main", "<4.46", "transformers~4"])
def test_other_texts_are_no_ranges(text: str) -> None:
    assert not is_range(text)


def test_a_version_outside_leaves_the_cause_out() -> None:
    run = run_with(environment__package__transformers="4.51.3")
    assert OLD_WEIGHTING not in applicable(LIBRARY, run).causes


def test_a_version_inside_or_unknown_keeps_it() -> None:
    for run in (
        run_with(environment__package__transformers="4.45.2"),
        run_with(run__trainer="trl"),
    ):
        assert OLD_WEIGHTING in applicable(LIBRARY, run).causes


def test_the_environment_outranks_config_json() -> None:
    run = run_with(
        environment__package__transformers="4.40.0", model__transformers_version="4.55.0"
    )
    assert OLD_WEIGHTING in applicable(LIBRARY, run).causes
    assert (
        OLD_WEIGHTING
        not in applicable(LIBRARY, run_with(model__transformers_version="4.55.0")).causes
    )


def test_a_log_banner_tells_the_version() -> None:
    lines = ["==((====))==  Unsloth 2025.3.19: Fast Qwen2 patching. Transformers: 4.50.3."]
    run = run_from_example({"lines": lines})
    assert OLD_WEIGHTING not in applicable(LIBRARY, run).causes


def test_one_range_of_several_is_enough() -> None:
    run = run_with(environment__package__transformers="5.1.0")
    assert affected(run, ["transformers<4.41", "transformers>=5"])
    assert not affected(run, ["transformers<4.41"])


def test_a_deprecated_cause_is_not_used_and_an_experimental_one_is_marked() -> None:
    lines = ["ModuleNotFoundError: No module named 'triton'"]
    run = run_from_example({"lines": lines})
    cause = LIBRARY.causes["missing-dependency-in-requirements"]
    for status, title in ((Status.DEPRECATED, None), (Status.EXPERIMENTAL, "(experimental)")):
        causes = {**LIBRARY.causes, cause.id: replace(cause, status=status)}
        found = [
            c for c in diagnose_run(run, replace(LIBRARY, causes=causes)).causes if c.id == cause.id
        ]
        assert [c.title.endswith("(experimental)") for c in found] == ([True] if title else [])


def test_one_of_several_versions_that_are_told_is_enough() -> None:
    name = "environment.package.torch"
    told = tuple(Fact(name, v, Where("issue.md")) for v in ("2.4.1", "2.6.0"))
    run = replace(run_from_example({"metrics": {}}), facts={name: told})
    assert affected(run, ["torch>=2.6"])
    assert affected(run, ["torch<2.5"])
    assert not affected(run, ["torch>=2.7"])
