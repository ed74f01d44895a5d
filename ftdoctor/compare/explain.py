"""Rank the differences of two runs by how well they explain the failure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ftdoctor.codec import encode
from ftdoctor.compare.difference import Comparison, Difference
from ftdoctor.model import Diagnosis, State


@dataclass(frozen=True, slots=True)
class Explaining:
    """A difference with the cause that it speaks for most.

    `weight` is the expected evidence in decibans: probability of the cause times what the
    difference adds to its log-odds; 0 if no cause rests on it.
    """

    difference: Difference
    weight: float = 0.0
    cause: str = ""
    title: str = ""
    probability: float = 0.0


def explaining(comparison: Comparison, diagnosis: Diagnosis) -> tuple[Explaining, ...]:
    """Return all differences, those that explain most first, then the more surprising ones."""
    found = [_best(d, diagnosis) for d in comparison.differences]
    return tuple(sorted(found, key=lambda e: (-e.weight, -e.difference.surprise, e.difference.key)))


def _best(difference: Difference, diagnosis: Diagnosis) -> Explaining:
    """Return the cause for which a finding that rests on this difference weighs most."""
    name = f"compare.{difference.key}"
    resting = {
        f.symptom
        for f in diagnosis.findings
        if f.state is State.PRESENT and any(fact.name == name for fact in f.facts)
    }
    best = Explaining(difference)
    for cause in (*diagnosis.causes, *diagnosis.advice):
        gained = [w.decibans for w in cause.weights if w.symptom in resting and w.role == "for"]
        weight = cause.probability * max(gained, default=0.0)
        if weight > best.weight:
            best = Explaining(difference, weight, cause.id, cause.title, cause.probability)
    return best


def to_json(
    comparison: Comparison, diagnosis: Diagnosis, ranked: Sequence[Explaining]
) -> dict[str, Any]:
    """Return plain data: both runs, the verdict, all differences in order, what was compared."""
    return {
        "schema_version": diagnosis.schema_version,
        "good": encode(comparison.good),
        "bad": encode(comparison.bad),
        "verdict": encode(diagnosis.verdict),
        "causes": [
            {"id": c.id, "title": c.title, "probability": c.probability} for c in diagnosis.causes
        ],
        "differences": [
            {
                **encode(e.difference),
                "explains": e.cause,
                "weight": round(e.weight, 2),
            }
            for e in ranked
        ],
        "compared": list(comparison.seen),
        "curves": encode(comparison.curves),
    }
