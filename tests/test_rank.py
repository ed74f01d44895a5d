"""The ranking: noisy-OR, three-valued findings, explaining away, honest accounts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import pytest

from ftdoctor.model import Call, Cause, Finding, Library, Severity, Span, State, Symptom
from ftdoctor.rank import Ranking, rank

P, A, U = State.PRESENT, State.ABSENT, State.UNOBSERVABLE


def symptom(name: str, leak: float = 0.01, group: str = "") -> Symptom:
    return Symptom(name, name, Call("all"), leak, group)


def cause(
    name: str,
    shows: Mapping[str, float],
    prior: float = 0.02,
    severity: Severity = Severity.HIGH,
    **more: object,
) -> Cause:
    return Cause(name, name, "data", severity, prior, shows, "why", "fix", **more)  # type: ignore[arg-type]


def library(symptoms: list[Symptom], causes: list[Cause]) -> Library:
    return Library({s.id: s for s in symptoms}, {c.id: c for c in causes}, "")


def ranking(made: Library, states: Mapping[str, State]) -> Ranking:
    findings = [
        Finding(s.id, s.title, states.get(s.id, U), "", missing=(f"{s.id}.log",), group=s.group)
        for s in made.symptoms.values()
    ]
    return rank(findings, made)


def probability(made: Library, states: Mapping[str, State], name: str) -> float:
    ranked = ranking(made, states).ranked
    return next((r.probability for r in ranked if r.cause.id == name), 0.0)


def exact(made: Library, states: Mapping[str, State], name: str) -> float:
    """Sum over all sets of causes, written as the model is defined."""
    causes = list(made.causes.values())
    inside = total = 0.0
    for chosen in itertools.product([0, 1], repeat=len(causes)):
        weight = 1.0
        for bit, c in zip(chosen, causes, strict=True):
            weight *= c.prior if bit else 1 - c.prior
        for s in made.symptoms.values():
            silent = 1 - s.leak
            for bit, c in zip(chosen, causes, strict=True):
                silent *= 1 - c.shows.get(s.id, 0.0) * bit
            state = states.get(s.id, U)
            weight *= {P: 1 - silent, A: silent, U: 1.0}[state]
        total += weight
        inside += weight * chosen[[c.id for c in causes].index(name)]
    return inside / total


TWO = library(
    [symptom("a"), symptom("b"), symptom("c", 0.2)],
    [cause("x", {"a": 0.9, "b": 0.8}), cause("y", {"a": 0.9, "c": 0.7}), cause("z", {"c": 0.5})],
)


@pytest.mark.parametrize("states", [dict(zip("abc", s, strict=True))
                                    for s in itertools.product([P, A, U], repeat=3)])  # fmt: skip
def test_posteriors_equal_the_exact_sum(states: dict[str, State]) -> None:
    for name in TWO.causes:
        shown = probability(TWO, states, name)
        if shown:
            assert shown == pytest.approx(exact(TWO, states, name), abs=0.005)


def test_unobservable_is_not_absent() -> None:
    seen = probability(TWO, {"a": P}, "x")
    assert probability(TWO, {"a": P, "b": A}, "x") < seen
    assert probability(TWO, {"a": P, "b": U}, "x") == seen


def test_a_cause_explains_another_away() -> None:
    both = ranking(TWO, {"a": P, "b": P, "c": A})
    by_id = {r.cause.id: r for r in both.ranked}
    assert both.ranked[0].cause.id == "x"
    assert by_id["y"].probability < 0.02
    assert by_id["y"].explained_by == "x"


def test_two_independent_faults_are_both_found() -> None:
    made = library(
        [symptom("a", 0.001), symptom("b", 0.001)],
        [cause("x", {"a": 0.95}), cause("y", {"b": 0.95})],
    )
    found = ranking(made, {"a": P, "b": P})
    assert set(found.winners) == {"x", "y"}
    assert all(r.probability > 0.9 for r in found.ranked)


def test_many_independent_faults_do_not_dilute_each_other() -> None:
    names = [f"s{i}" for i in range(8)]
    made = library([symptom(n, 0.001) for n in names], [cause(f"c{n}", {n: 0.95}) for n in names])
    found = ranking(made, dict.fromkeys(names, P))
    assert len(found.winners) == 8
    assert all(r.probability > 0.9 for r in found.ranked)


def test_one_observation_seen_five_times_counts_once() -> None:
    names = [f"s{i}" for i in range(5)]
    grouped = library(
        [symptom(n, 0.1, "g") for n in names], [cause("x", dict.fromkeys(names, 0.9))]
    )
    single = library([symptom("s0", 0.1)], [cause("x", {"s0": 0.9})])
    states = dict.fromkeys(names, P)
    assert probability(grouped, states, "x") == pytest.approx(
        probability(single, {"s0": P}, "x"), abs=1e-9
    )


def test_within_a_group_the_absent_sibling_still_discriminates() -> None:
    made = library(
        [symptom("zero", 0.001, "g"), symptom("zero-nan", 0.001, "g")],
        [cause("nan", {"zero": 0.9, "zero-nan": 0.95}), cause("masked", {"zero": 0.9})],
    )
    assert ranking(made, {"zero": P, "zero-nan": A}).ranked[0].cause.id == "masked"
    assert ranking(made, {"zero": P, "zero-nan": P}).ranked[0].cause.id == "nan"


def test_weights_add_up_from_prior_to_posterior() -> None:
    found = ranking(TWO, {"a": P, "b": A, "c": P})
    for r in found.ranked:
        odds = r.probability / (1 - r.probability)
        prior = r.prior / (1 - r.prior)
        moved = 10 * math.log10(odds / prior)
        assert sum(w.decibans for w in r.weights) == pytest.approx(moved, abs=0.3)


def test_a_risk_factor_multiplies_the_prior_odds() -> None:
    made = library(
        [symptom("a"), symptom("fp16", 0.3)],
        [cause("x", {"a": 0.9}, risk={"fp16": 5.0}), cause("y", {"a": 0.9})],
    )
    found = ranking(made, {"a": P, "fp16": P})
    assert found.ranked[0].cause.id == "x"
    assert any(w.role == "risk" for w in found.ranked[0].weights)
    assert ranking(made, {"fp16": P}).ranked == ()


def test_nothing_present_is_no_known_cause() -> None:
    found = ranking(TWO, {"a": A, "b": A, "c": A})
    assert found.ranked == ()
    assert found.no_known_cause == 1.0


def test_a_symptom_that_no_cause_shows_is_left_unexplained() -> None:
    made = library([symptom("a", 0.001), symptom("odd", 0.001)], [cause("x", {"a": 0.9})])
    assert ranking(made, {"a": P, "odd": P}).unexplained == ("odd",)


def test_the_next_check_is_the_one_that_splits_the_rest() -> None:
    made = library(
        [symptom("a", 0.001), symptom("telling"), symptom("useless", 0.2)],
        [
            cause("x", {"a": 0.9, "telling": 0.95, "useless": 0.3}),
            cause("y", {"a": 0.9, "useless": 0.3}),
        ],
    )
    splits = ranking(made, {"a": P}).splits
    assert splits[0].symptom == "telling"
    assert splits[0].missing == ("telling.log",)
    assert splits[0].bits > 0.5 > splits[-1].bits


def test_many_causes_stay_quick_and_finite() -> None:
    symptoms = [symptom(f"s{i}", 0.05) for i in range(60)]
    causes = [cause(f"c{i}", {f"s{(i * k) % 60}": 0.8 for k in (1, 3, 7)}) for i in range(120)]
    found = ranking(library(symptoms, causes), {f"s{i}": P for i in range(0, 60, 2)})
    assert all(0.001 <= r.probability <= 0.999 for r in found.ranked)


RESUME = library(
    [symptom("jump", 0.001), symptom("spike", 0.01), symptom("odd")],
    [cause("resume", {"jump": 0.95, "spike": 0.6}), cause("bad-rows", {"spike": 0.7})],
)


def dated(spike: Span | None, jump: Span | None) -> Ranking:
    spans = {"spike": spike, "jump": jump}
    return rank(
        [
            Finding(s, s, P if s in spans else U, "", span=spans.get(s))
            for s in RESUME.symptoms
        ],
        RESUME,
    )  # fmt: skip


def of(found: Ranking, name: str) -> float:
    return next(r.probability for r in found.ranked if r.cause.id == name)


def test_what_began_before_a_cause_is_not_explained_by_it() -> None:
    before = dated(Span(40, within=5), Span(100, within=10))
    after = dated(Span(120, within=5), Span(100, within=10))
    assert of(before, "bad-rows") > 0.5 > 0.1 > of(after, "bad-rows")
    assert of(after, "resume") > 0.9
    resume = next(r for r in before.ranked if r.cause.id == "resume")
    assert not any(w.symptom == "spike" and w.role == "for" for w in resume.weights)
    assert resume.probability > 0.9  # its own symptom is still there


@pytest.mark.parametrize(
    ("spike", "jump"),
    [
        (Span(85, within=5), Span(100, within=10)),
        (Span(40, within=30), Span(100, within=30)),
        (Span(40), Span(100, within=10)),
        (Span(40, within=5), Span(100)),
        (None, Span(100, within=10)),
        (Span(40, within=5), None),
    ],
)
def test_an_order_that_is_not_certain_changes_nothing(
    spike: Span | None, jump: Span | None
) -> None:
    assert of(dated(spike, jump), "bad-rows") == of(dated(None, None), "bad-rows")


def test_an_earlier_symptom_that_the_cause_cannot_have_caused_stays_unexplained() -> None:
    alone = library([symptom("jump", 0.001), symptom("spike")], [RESUME.causes["resume"]])
    findings = [
        Finding("jump", "jump", P, "", span=Span(100, within=2)),
        Finding("spike", "spike", P, "", span=Span(10, within=2)),
    ]
    assert rank(findings, alone).unexplained == ("spike",)
