"""Compare a run that worked with one that failed: two Runs in, a Comparison out."""

from __future__ import annotations

from ftdoctor.compare.curves import compare_curves
from ftdoctor.compare.difference import Comparison, CurvePair, Difference
from ftdoctor.compare.named import compare_named
from ftdoctor.compare.rows import compare_rows
from ftdoctor.compare.weights import compare_weights
from ftdoctor.model import Run

__all__ = ["Comparison", "CurvePair", "Difference", "compare"]


def compare(good: Run, bad: Run) -> Comparison:
    """Return what differs between two runs, or two checkpoints of one, most surprising first."""
    from ftdoctor.diagnose import summarise

    pairs, curves, seen_curves = compare_curves(good, bad)
    found: list[Difference] = list(curves)
    seen: list[str] = list(seen_curves)
    for part in (compare_named, compare_rows, compare_weights):
        differences, names = part(good, bad)
        found += differences
        seen += names
    found.sort(key=lambda d: (-d.surprise, d.key))
    return Comparison(
        summarise(good), summarise(bad), tuple(found), tuple(sorted(set(seen))), pairs
    )
