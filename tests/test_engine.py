"""Conditions combine in three-valued logic; a broken detector costs only its own symptom."""

from __future__ import annotations

import itertools

import pytest

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.engine import detect_all, detect_one
from ftdoctor.examples import run_from_example
from ftdoctor.model import Call, Library, Observation, Run, State, Symptom

RUN = run_from_example({})
P, A, U = State.PRESENT, State.ABSENT, State.UNOBSERVABLE


@detector("testing.answer")
def answer(run: Run, *, state: str) -> Observation:
    return {"present": present("here"), "absent": absent("gone"),
            "unobservable": unobservable("?", "stdout log")}[state]  # fmt: skip


@detector("testing.fail")
def fail(run: Run) -> Observation:
    raise RuntimeError("broken")


def asked(call: Call) -> State:
    library = Library({"s": Symptom("s", "s", call, 0.1)}, {}, "")
    return detect_one(RUN, library, "s", strict=True).state


def say(state: State) -> Call:
    return Call("detect", "testing.answer", {"state": state.value})


@pytest.mark.parametrize("pair", list(itertools.product((P, A, U), repeat=2)))
def test_all_and_any_follow_kleene(pair: tuple[State, State]) -> None:
    parts = tuple(say(s) for s in pair)
    low = A if A in pair else U if U in pair else P
    high = P if P in pair else U if U in pair else A
    assert asked(Call("all", parts=parts)) is low
    assert asked(Call("any", parts=parts)) is high


@pytest.mark.parametrize(("state", "expected"), [(P, A), (A, P), (U, U)])
def test_not_leaves_the_unobservable_alone(state: State, expected: State) -> None:
    assert asked(Call("not", parts=(say(state),))) is expected


def test_a_symptom_may_refer_to_another_and_not_to_itself() -> None:
    symptoms = {
        "a": Symptom("a", "a", Call("symptom", "b"), 0.1),
        "b": Symptom("b", "b", say(P), 0.1),
        "self": Symptom("self", "self", Call("symptom", "self"), 0.1),
    }
    found = {f.symptom: f.state for f in detect_all(RUN, Library(symptoms, {}, ""))}
    assert found == {"a": P, "b": P, "self": U}


def test_a_detector_that_fails_makes_its_symptom_unobservable() -> None:
    symptoms = {
        "bad": Symptom("bad", "bad", Call("detect", "testing.fail"), 0.1),
        "good": Symptom("good", "good", say(P), 0.1),
    }
    bad, good = detect_all(RUN, Library(symptoms, {}, ""))
    assert bad.state is U
    assert "RuntimeError: broken" in bad.text
    assert good.state is P
    with pytest.raises(RuntimeError):
        detect_all(RUN, Library(symptoms, {}, ""), strict=True)
