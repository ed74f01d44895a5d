"""Outcomes that a user may tell (`--observed`): their names, and the facts that they become."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ftdoctor.errors import FtdoctorError
from ftdoctor.model import Fact, Library, Symptom, Where

FINE, BROKEN = "-ok", "-broken"  # `merged-ok` says the same as `not:merged-broken`
NOT = "not:"


def outcomes(library: Library) -> dict[str, Symptom]:
    """Return the symptoms that can be told, by the name of the outcome."""
    found = {}
    for symptom in library.symptoms.values():
        name = symptom.told
        if symptom.call.detector == "observed.told":
            name = str(symptom.call.parameters["outcome"])
        if name:
            found[name] = symptom
    return dict(sorted(found.items()))


def observations(told: Iterable[str], library: Library) -> tuple[Fact, ...]:
    """Return the facts `observed.<outcome>`; FtdoctorError for an outcome that nobody knows."""
    known = outcomes(library)
    facts = []
    for text in told:
        name, seen = text.removeprefix(NOT), not text.startswith(NOT)
        if name.endswith(FINE):
            name, seen = name.removesuffix(FINE) + BROKEN, not seen
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.4)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            raise FtdoctorError(
                f"`--observed {text}`: no such outcome{hint} "
                "`ftdoctor explain --observations` lists them."
            )
        facts.append(Fact(f"observed.{name}", seen, Where(f"--observed {text}")))
    return tuple(facts)


def render_outcomes(library: Library) -> str:
    """Return the list of outcomes for a terminal."""
    known = outcomes(library)
    width = max(map(len, known), default=0)
    lines = [
        "Outcomes that you may tell with --observed ID, or --observed not:ID if it does not happen",
        f"(a name with {FINE} says the same as not: with {BROKEN}):",
        "",
        *(f"  {name:<{width}}  {symptom.title}" for name, symptom in known.items()),
    ]
    return "\n".join(lines)
