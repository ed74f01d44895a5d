"""The page of a comparison: what differs from a good run, ranked, with the curves of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ftdoctor.compare.difference import Comparison, CurvePair
from ftdoctor.compare.explain import Explaining
from ftdoctor.model import Diagnosis
from ftdoctor.render import text as words
from ftdoctor.render.html import environment, styles
from ftdoctor.render.plots import TITLES

WIDTH, HEIGHT, LEFT, BOTTOM = 640, 220, 64, 24  # units of the drawing
LISTED = 200
PLAIN = 3.0  # decibans of surprise below which a difference is put under "everyday differences"


@dataclass(frozen=True, slots=True)
class Drawing:
    """Two curves as points of polylines, the band around the good one, and the words beside."""

    title: str
    good: str
    bad: str
    band: str
    mark: float | None
    low: str
    high: str
    first: str
    last: str
    label: str


def render_comparison(
    comparison: Comparison, diagnosis: Diagnosis, ranked: Sequence[Explaining]
) -> str:
    """Return the comparison as one HTML page without scripts or requests."""
    telling = [e for e in ranked if e.weight > 0 or e.difference.surprise > PLAIN]
    template = environment().get_template("compare.html.j2")
    return template.render(
        c=comparison,
        d=diagnosis,
        css=styles("base.css", "compare.css"),
        generator=diagnosis.versions.get("ftdoctor", ""),
        top=diagnosis.causes[0] if diagnosis.verdict.kind == "cause" else None,
        telling=telling[:LISTED],
        everyday=[e for e in ranked if e not in telling][:LISTED],
        drawings=[drawn for pair in comparison.curves if (drawn := _drawing(pair)) is not None],
        box=(WIDTH, HEIGHT, LEFT, BOTTOM),
    )


def render_comparison_text(
    comparison: Comparison, diagnosis: Diagnosis, ranked: Sequence[Explaining]
) -> str:
    """Return the ten most telling differences for a terminal."""
    lines = [diagnosis.verdict.text, ""]
    if not ranked:
        lines.append(f"No difference in {len(comparison.seen)} things compared.")
    for e in ranked[:10]:
        why = f"  [{e.title}, {words.percent(e.probability)}]" if e.cause else ""
        lines.append(f"  {e.difference.kind:<9} {e.difference.text}{why}")
    if len(ranked) > 10:
        lines.append(f"  and {len(ranked) - 10} more")
    return "\n".join(lines)


def _drawing(pair: CurvePair) -> Drawing | None:
    points = [
        [(s, v) for s, v in zip(c.steps, c.values, strict=True) if math.isfinite(v)]
        for c in (pair.good, pair.bad)
    ]
    if not all(points):
        return None
    steps = [s for part in points for s, _ in part]
    values = [v for part in points for _, v in part]
    banded = [v + sign * pair.width for _, v in points[0] for sign in (-1, 1)]
    log = min(values) > 0 and max(values) > 50 * sorted(values)[len(values) // 2]
    low, high = min((*values, *banded)), max((*values, *banded))
    if log:
        low, high = min(values), max(values)
    first, last = min(steps), max(steps)

    def at(step: float, value: float) -> tuple[float, float]:
        part = _share(max(value, low) if log else value, low, high, log=log)
        x = LEFT + (WIDTH - LEFT - 8) * (step - first) / max(last - first, 1)
        return round(x, 1), round(8 + (HEIGHT - BOTTOM - 8) * (1 - part), 1)

    def line(part: Sequence[tuple[int, float]], shift: float = 0.0) -> list[str]:
        return ["{},{}".format(*at(s, v + shift)) for s, v in part]

    name = TITLES.get(pair.key, pair.key)
    leaves = f"; it leaves the band at step {pair.leaves_at}" if pair.leaves_at is not None else ""
    return Drawing(
        title=name,
        good=" ".join(line(points[0])),
        bad=" ".join(line(points[1])),
        band=" ".join(line(points[0], pair.width) + line(points[0], -pair.width)[::-1]),
        mark=None if pair.leaves_at is None else at(pair.leaves_at, low)[0],
        low=words.number(low),
        high=words.number(high),
        first=str(first),
        last=str(last),
        label=f"{name} of both runs, steps {first} to {last}{leaves}",
    )


def _share(value: float, low: float, high: float, *, log: bool) -> float:
    if log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.5
