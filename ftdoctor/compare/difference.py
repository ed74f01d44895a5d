"""The nouns of a comparison: one difference, two curves with their band, and all of it together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ftdoctor.model import Curve, Fact, RunSummary, Value, Where

GOOD = "(good run) "  # begins the path of everything that was read from the good run
SEEN = "compare.seen"  # fact: names of all that could be compared, equal or not
KINDS = (
    "data",
    "template",
    "tokenizer",
    "setting",
    "version",
    "model",
    "weights",
    "curve",
)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not the same in both runs.

    `surprise` in decibans says how seldom two runs that both work differ so: 0 every day, 10 in one
    pair of ten, 20 in one of a hundred (judgement, by kind, name and size of the difference).
    """

    kind: str
    name: str
    good: Value
    bad: Value
    surprise: float
    text: str
    good_where: Where | None = None
    bad_where: Where | None = None

    @property
    def key(self) -> str:
        """Return the name by which detectors ask for it: `setting.learning_rate`."""
        return f"{self.kind}.{self.name}"

    def fact(self) -> Fact:
        """Return it as a fact `compare.<kind>.<name>`, at its place in the failed run if any."""
        value = {"good": self.good, "bad": self.bad, "text": self.text}
        return Fact(f"compare.{self.key}", value, self.bad_where or self.good_where or NOWHERE)


NOWHERE = Where("the comparison with the good run")


@dataclass(frozen=True, slots=True)
class CurvePair:
    """One metric of both runs; `width` is half the band of noise around the good one.

    `leaves_at` is the step of the failed run from which it stays outside, None if it does not.
    """

    key: str
    good: Curve
    bad: Curve
    width: float
    leaves_at: int | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """All differences, the most surprising first; `seen` names all that could be compared."""

    good: RunSummary
    bad: RunSummary
    differences: tuple[Difference, ...]
    seen: tuple[str, ...]
    curves: tuple[CurvePair, ...]

    def facts(self) -> Iterator[Fact]:
        """Yield what detectors may ask for."""
        yield Fact(SEEN, self.seen, NOWHERE)
        for difference in self.differences:
            yield difference.fact()


def in_good(where: Where | None) -> Where | None:
    """Return a place of the good run, marked as such."""
    return None if where is None else replace(where, path=f"{GOOD}{where.path}")
