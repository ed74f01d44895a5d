"""Detectors on what differs from a good run (`--good`): ratios, changed shares, losses, changes."""

from __future__ import annotations

import math
from fnmatch import fnmatchcase

from ftdoctor.compare.difference import SEEN
from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.model import Fact, Observation, Run

MISSING = "a good run (--good GOOD)"
SHOWN = 3


@detector("compare.ratio")
def ratio(
    run: Run, *, of: str, at_least: float | None = None, at_most: float | None = None
) -> Observation:
    """Find a number that is at least or at most so many times what it is in the good run.

    A number that is not finite here (a curve that ended in NaN) is larger than any other.
    """
    found, blind = _look(run, [of])
    if blind is not None:
        return blind
    if not found:
        return absent(f"{_spoken(of)} is as in the good run")
    good, bad = _numbers(found[0])
    if good is None or bad is None or good <= 0:
        return unobservable(f"{_spoken(of)} has no ratio to the good run's", MISSING)
    times = bad / good
    hit = (at_least is not None and times >= at_least) or (at_most is not None and times <= at_most)
    return present(_text(found[0]), found[0]) if hit else absent(_text(found[0]), found[0])


@detector("compare.moved")
def moved(run: Run, *, of: str, by: float) -> Observation:
    """Find a share at least `by` above the good run's (below it, if `by` is negative)."""
    found, blind = _look(run, [of])
    if blind is not None:
        return blind
    if not found:
        return absent(f"{_spoken(of)} is as in the good run")
    good, bad = _numbers(found[0])
    if good is None or bad is None:
        return unobservable(f"{_spoken(of)} is no number in both runs", MISSING)
    hit = bad - good >= by if by > 0 else bad - good <= by
    return present(_text(found[0]), found[0]) if hit else absent(_text(found[0]), found[0])


@detector("compare.differs")
def differs(run: Run, *, any_of: list[str]) -> Observation:
    """Find that one of the things named (`version.package.*`) is not as in the good run."""
    found, blind = _look(run, any_of)
    if blind is not None:
        return blind
    if not found:
        return absent(f"{_spoken(any_of[0])} is as in the good run")
    return present("; ".join(_text(f) for f in found[:SHOWN]), *found[:SHOWN])


@detector("compare.lost")
def lost(run: Run, *, of: str) -> Observation:
    """Find something that the good run has and this one has not."""
    found, blind = _look(run, [of])
    if blind is not None:
        return blind
    if found and found[0].value["good"] and not found[0].value["bad"]:
        return present(_text(found[0]), found[0])
    return absent(f"{_spoken(of)} is here as in the good run")


def _look(run: Run, names: list[str]) -> tuple[list[Fact], Observation | None]:
    """Return the differences of these names, or why nothing can be said of them."""
    seen = run.fact(SEEN)
    if seen is None:
        return [], unobservable("There is no good run to compare with", MISSING)
    if not any(fnmatchcase(known, name) for name in names for known in seen.value):
        return [], unobservable(f"{_spoken(names[0])} is not known of both runs", MISSING)
    return [
        facts[0]
        for key, facts in sorted(run.facts.items())
        if any(fnmatchcase(key, f"compare.{name}") for name in names)
    ], None


def _spoken(name: str) -> str:
    return name.partition(".")[2].replace("_", " ").removesuffix(".*") or name


def _text(fact: Fact) -> str:
    told = str(fact.value.get("text") or "")
    return told or f"{fact.value['bad']!r} here, {fact.value['good']!r} in the good run"


def _numbers(fact: Fact) -> tuple[float | None, float | None]:
    return _number(fact.value["good"]), _number(fact.value["bad"])


def _number(value: object) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return None
    return float(value)
