"""Advice in two directions at once: causes that exclude each other are never both likely."""

from __future__ import annotations

import itertools
import math

import pytest

from ftdoctor.library import load
from ftdoctor.model import Cause, Finding, State
from ftdoctor.rank import CONTRADICTED, Ranking, excluding, rank

LIBRARY = load()
PAIRS = [(a, b) for a, b in itertools.combinations(LIBRARY.causes.values(), 2) if excluding(a, b)]


def ranking(present: set[str]) -> Ranking:
    findings = [
        Finding(
            s.id, s.title, State.PRESENT if s.id in present else State.UNOBSERVABLE, "",
            group=s.group,
        )
        for s in LIBRARY.symptoms.values()
    ]  # fmt: skip
    return rank(findings, LIBRARY)


def strongest(cause: Cause, count: int) -> set[str]:
    """Return the symptoms that speak most for a cause."""
    ratio = {s: p / LIBRARY.symptoms[s].leak for s, p in cause.shows.items()}
    return set(sorted(ratio, key=lambda s: -ratio[s])[:count])


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=[f"{a.id}--{b.id}" for a, b in PAIRS])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_contradictory_causes_are_never_both_likely(one: Cause, other: Cause, count: int) -> None:
    found = ranking(strongest(one, count) | strongest(other, count))
    likely = [r.cause for r in found.ranked if r.probability >= CONTRADICTED]
    assert not any(excluding(a, b) for a, b in itertools.combinations(likely, 2))


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=[f"{a.id}--{b.id}" for a, b in PAIRS])
def test_each_of_a_pair_is_still_found_by_its_own_symptoms(one: Cause, other: Cause) -> None:
    for cause, rival in ((one, other), (other, one)):
        found = {r.cause.id: r.probability for r in ranking(set(cause.shows)).ranked}
        if set(cause.shows) - set(rival.shows):
            assert found[cause.id] > found.get(rival.id, 0.0)


def test_the_weights_of_the_one_that_yields_still_add_up() -> None:
    one, other = LIBRARY.causes["lr-too-high"], LIBRARY.causes["lr-too-low"]
    for r in ranking(strongest(one, 3) | strongest(other, 3)).ranked:
        if 0.001 < r.probability < 0.999:
            moved = 10 * math.log10(r.probability / (1 - r.probability) / (r.prior / (1 - r.prior)))
            assert sum(w.decibans for w in r.weights) == pytest.approx(moved, abs=0.4)


def test_directions_of_advice_that_are_opposite_are_known_as_such() -> None:
    for one, other in (
        ("lr-too-high", "lr-too-low"),
        ("lr-too-high", "lora-with-full-ft-lr"),
        ("full-ft-with-lora-lr", "lr-too-low"),
        ("overfit-too-many-epochs", "under-training"),
        ("truncation-cuts-answer", "sequence-exceeds-limit"),
        ("bos-missing", "double-bos"),
        ("batch-too-small", "batch-too-large-too-few-steps"),
        ("merge-not-applied", "merged-twice"),
    ):
        assert excluding(LIBRARY.causes[one], LIBRARY.causes[other])
