"""Run the examples that signatures carry: what each symptom and cause says of itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ftdoctor.model import Cause, Finding, Library, State, Symptom
from ftdoctor.rank import rank

FIRST = "first"
EXPECTATIONS = (FIRST, "not-first", "below-0.25")
HEALTHY_LIMIT = 0.25  # no cause of severity medium or above may pass it on a healthy run


def failures(library: Library) -> list[str]:
    """Return one line per example that does not hold, with the place of its signature."""
    return [
        f"{item.file}:{item.line}:1: {item.id}[{index}]: {problem}"
        for item, index, problem in _problems(library)
    ]


def _problems(library: Library) -> Iterator[tuple[Symptom | Cause, int, str]]:
    for item in library.items():
        for index, problem in enumerate(results(library, item)):
            if problem:
                yield item, index, problem


def results(library: Library, item: Symptom | Cause) -> Iterator[str]:
    """Yield what is wrong with each example of a signature, "" where it holds."""
    for example in item.examples:
        if isinstance(item, Symptom):
            yield check_symptom(library, item, example)
        else:
            yield check_cause(library, item, example)


def check_symptom(library: Library, symptom: Symptom, example: Mapping[str, Any]) -> str:
    """Return what is wrong with one example of a symptom, or ""."""
    from ftdoctor.detect.engine import detect_one
    from ftdoctor.examples import run_from_example

    expected = example.get("expect")
    if expected not in tuple(State):
        return f"`expect` must be one of {', '.join(State)}, not {expected!r}"
    seen = detect_one(run_from_example(example), library, symptom.id, strict=True)
    return "" if seen.state == expected else f"expected {expected}, is {seen.state}: {seen.text}"


def check_cause(library: Library, cause: Cause, example: Mapping[str, Any]) -> str:
    """Return what is wrong with one example of a cause, or ""."""
    expected = example.get("expect")
    if expected not in EXPECTATIONS:
        return f"`expect` must be one of {', '.join(EXPECTATIONS)}, not {expected!r}"
    states = example.get("symptoms") or {}
    unknown = [name for name in states if name not in library.symptoms]
    if unknown:
        return f"no symptom {', '.join(unknown)}"
    findings = [
        Finding(s.id, s.title, State(states.get(s.id, State.UNOBSERVABLE)), "", group=s.group)
        for s in library.symptoms.values()
    ]
    ranked = rank(findings, library).ranked
    probability = next((r.probability for r in ranked if r.cause.id == cause.id), 0.0)
    first = bool(ranked) and ranked[0].cause.id == cause.id
    if expected == FIRST and not first:
        top = f"{ranked[0].cause.id} ({ranked[0].probability:.2f})" if ranked else "nothing"
        return f"expected first, has {probability:.2f} behind {top}"
    if expected == "not-first" and first:
        return f"expected not first, is first with {probability:.2f}"
    if expected == "below-0.25" and probability >= HEALTHY_LIMIT:
        return f"expected below {HEALTHY_LIMIT}, has {probability:.2f}"
    return ""
