"""Every signature holds its own examples, and the library is in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from ftdoctor.library import load
from ftdoctor.model import Call, Cause, State, Symptom
from ftdoctor.rank import TROUBLE
from ftdoctor.selftest import check_cause, check_symptom

LIBRARY = load()
SYMPTOM_EXAMPLES = [
    pytest.param(s, e, id=f"{s.id}[{i}]")
    for s in LIBRARY.symptoms.values()
    for i, e in enumerate(s.examples)
]
CAUSE_EXAMPLES = [
    pytest.param(c, e, id=f"{c.id}[{i}]")
    for c in LIBRARY.causes.values()
    for i, e in enumerate(c.examples)
]


@pytest.mark.parametrize(("symptom", "example"), SYMPTOM_EXAMPLES)
def test_symptom_example_holds(symptom: Symptom, example: Mapping[str, Any]) -> None:
    assert check_symptom(LIBRARY, symptom, example) == ""


@pytest.mark.parametrize(("cause", "example"), CAUSE_EXAMPLES)
def test_cause_example_holds(cause: Cause, example: Mapping[str, Any]) -> None:
    assert check_cause(LIBRARY, cause, example) == ""


@pytest.mark.parametrize("symptom", LIBRARY.symptoms.values(), ids=lambda s: s.id)
def test_symptom_has_examples_of_all_three_states(symptom: Symptom) -> None:
    assert {e.get("expect") for e in symptom.examples} == set(State)


@pytest.mark.parametrize("symptom", LIBRARY.symptoms.values(), ids=lambda s: s.id)
def test_symptom_says_where_its_numbers_come_from(symptom: Symptom) -> None:
    assert symptom.source


@pytest.mark.parametrize("cause", LIBRARY.causes.values(), ids=lambda c: c.id)
def test_cause_has_examples_for_and_against(cause: Cause) -> None:
    expected = {e.get("expect") for e in cause.examples}
    assert "first" in expected
    assert expected & {"not-first", "below-0.25"}


def test_detectors_take_the_parameters_that_signatures_give() -> None:
    load(check_calls=True)


def test_titles_are_sentences_without_a_stop() -> None:
    items = [*LIBRARY.symptoms.values(), *LIBRARY.causes.values()]
    wrong = [i.id for i in items if i.title.endswith(".") or len(i.title) > 100 or not i.title]
    assert wrong == []


def _referred(call: Call) -> Iterator[str]:
    for part in call.parts:
        if part.op == "symptom":
            yield part.detector
        yield from _referred(part)


def test_every_symptom_bears_on_a_cause() -> None:
    used = {s for c in LIBRARY.causes.values() for s in (*c.shows, *c.risk)}
    referred = {name for s in LIBRARY.symptoms.values() for name in _referred(s.call)}
    of_any = {s.id for s in LIBRARY.symptoms.values() if s.group == TROUBLE}
    assert sorted(set(LIBRARY.symptoms) - used - referred - of_any) == []
    assert not of_any & used
