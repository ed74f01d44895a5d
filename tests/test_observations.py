"""Outcomes that a user tells: their names, their facts, and what they do to the ranking."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftdoctor.diagnose import Options, diagnose
from ftdoctor.errors import FtdoctorError
from ftdoctor.library import load
from ftdoctor.model import Diagnosis, State
from ftdoctor.observations import observations, outcomes, render_outcomes

LIBRARY = load()
RUN = Path(__file__).parents[1] / "fixtures" / "gguf-without-chat-template"
GGUF = RUN / "base-and-merge-work" / "run"


def told(*outcomes_told: str) -> Diagnosis:
    return diagnose(GGUF, Options(observed=outcomes_told))


def state(diagnosis: Diagnosis, symptom: str) -> State:
    finding = diagnosis.finding(symptom)
    assert finding is not None
    return finding.state


def test_ok_says_the_same_as_not_broken() -> None:
    (fine,) = observations(["merged-ok"], LIBRARY)
    (negated,) = observations(["not:merged-broken"], LIBRARY)
    assert (fine.name, fine.value) == (negated.name, negated.value) == (
        "observed.merged-broken", False,
    )  # fmt: skip


def test_an_unknown_outcome_names_the_nearest() -> None:
    with pytest.raises(FtdoctorError, match="never-stops"):
        observations(["never-stop"], LIBRARY)


def test_every_outcome_is_listed_and_serves_a_cause() -> None:
    listing = render_outcomes(LIBRARY)
    shown = {s for cause in LIBRARY.causes.values() for s in (*cause.shows, *cause.risk)}
    for name, symptom in outcomes(LIBRARY).items():
        assert f"  {name} " in listing
        assert symptom.id in shown or symptom.id == "empty-thinking", name


def test_untold_outcomes_are_unobservable_and_say_how_to_tell_them() -> None:
    finding = told().finding("gguf-answers-badly")
    assert finding is not None
    assert finding.state is State.UNOBSERVABLE
    assert any("--observed gguf-broken" in need for need in finding.missing)


def test_told_outcomes_are_present_or_absent() -> None:
    diagnosis = told("gguf-broken", "merged-ok", "never-stops")
    assert state(diagnosis, "gguf-answers-badly") is State.PRESENT
    assert state(diagnosis, "merged-model-answers-badly") is State.ABSENT
    assert state(diagnosis, "never-stops-generating") is State.PRESENT


def test_a_working_merge_speaks_against_faults_of_training() -> None:
    def odds(*said: str) -> float:
        listed = {c.id: c.probability for c in told(*said).causes}
        return listed.get("eos-absent-from-training-text", 0.0)

    assert odds("gguf-broken", "merged-ok") < odds("gguf-broken", "merged-broken")
