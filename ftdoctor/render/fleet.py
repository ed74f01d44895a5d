"""The fleet page: one file without scripts or requests, clusters by root cause, within a budget."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from markupsafe import Markup, escape

from ftdoctor.fleet.association import Marker
from ftdoctor.fleet.clusters import Cluster, Fleet, Group, Trend
from ftdoctor.fleet.rows import Row, Spark
from ftdoctor.render import text as words
from ftdoctor.render.html import environment, styles

BUDGET = 2_900_000  # bytes of a page
LEVELS = ((25, 2000), (25, 0), (12, 0), (6, 0), (3, 0), (1, 0))  # runs drawn, runs linked
GROUPS = 25
LEAST = 2  # runs that make a group worth a signature
STANDS_OUT = 0.2  # share of the failed runs from which causes make the headline (judgement)
MANY = 0.5  # share of the failed runs from which hours are trusted to order fixes (judgement)
LEFT, RIGHT, TOP, BOTTOM = 2, 98, 2.0, 21.0  # drawing area of a sparkline in its 100 x 24 box


@dataclass(frozen=True, slots=True)
class Told:
    """What the page says beside the fleet: where from, with what, how long, whether all is done."""

    roots: tuple[str, ...]
    command: str
    versions: Mapping[str, str] = field(default_factory=dict)
    signature_digest: str = ""
    causes: int = 0
    took: str = ""
    missing: int = 0
    interrupted: bool = False


def render_fleet(fleet: Fleet, told: Told) -> str:
    """Return the page of a fleet; the same rows and words give the same page."""
    page = ""
    for drawn, linked in LEVELS:
        page = _page(fleet, told, drawn, linked)
        if len(page.encode("utf-8", "replace")) <= BUDGET:
            break
    return page


def _page(fleet: Fleet, told: Told, drawn: int, linked: int) -> str:
    most_runs = max([1, *(len(c.rows) for c in fleet.clusters)])
    most_hours = max([1e-9, *(c.hours for c in fleet.clusters)])
    return (
        environment(400)
        .get_template("triage.html.j2")
        .render(
            css=styles("base.css", "triage.css"),
            generator=told.versions.get("ftdoctor", ""),
            fleet=fleet,
            told=told,
            headline=headline(fleet),
            lever=lever(fleet),
            span=_span(fleet.rows),
            orders=_orders(fleet.clusters),
            clusters=fleet.clusters,
            shares=[
                (100 * len(c.rows) / most_runs, 100 * c.hours / most_hours) for c in fleet.clusters
            ],
            unknown=[g for g in fleet.unknown if len(g.rows) >= LEAST][:GROUPS],
            singles=[g for g in fleet.unknown if len(g.rows) < LEAST],
            unanswered=fleet.unanswered[:GROUPS],
            groups=GROUPS,
            drawn=drawn,
            linked=linked,
            sparks=sparks,
            bars=bars,
            day=_day,
            hours=hours,
            odds=odds,
            share=_share,
            marker=marker_name,
            link=_link,
            draft=draft_command,
            money=lambda value: f"{value:,.0f}",
        )
    )


# --- words --------------------------------------------------------------------------------------


def headline(fleet: Fleet) -> str:
    """Return what kills the runs, in one or two sentences."""
    runs = len(fleet.rows)
    lost = fleet.count("unreadable") + fleet.count("failed")
    if not fleet.failed and lost:
        return f"{lost:,} of {words.plural(runs, 'run')} could not be diagnosed; no other failed."
    if not fleet.failed:
        return f"No known failure found in {words.plural(runs, 'run')}."
    first = f"{fleet.failed:,} of {words.plural(runs, 'run')} failed."
    if not fleet.clusters:
        return f"{first} No known cause is likely in any of them."
    top = fleet.clusters[:2]
    told = sum(len(c.rows) for c in top)
    if told < STANDS_OUT * fleet.failed:
        causes = words.plural(len(fleet.clusters), "root cause")
        most = words.plural(len(top[0].rows), "run")
        return f"{first} No root cause stands out: of {causes}, none has more than {most}."
    named = words.listed([f"“{c.title}”" for c in top])
    verb = "explains" if len(top) == 1 else "explain"
    part = "all" if told == fleet.failed else words.percent(told / fleet.failed)
    return f"{first} {named} {verb} {part} of them."


def lever(fleet: Fleet) -> tuple[Cluster, str] | None:
    """Return the fix that saves most: by device hours where these are known, else by runs."""
    if not fleet.clusters:
        return None
    if fleet.hours > 0 and fleet.hours_known >= MANY * fleet.failed:
        best = max(fleet.clusters, key=lambda c: (c.hours, len(c.rows)))
        if best.hours > 0:
            part = words.percent(best.hours / fleet.hours)
            return best, f"would save {hours(best.hours)} device hours, {part} of those lost"
    best = fleet.clusters[0]
    return best, f"would save {words.plural(len(best.rows), 'run')}"


def hours(value: float) -> str:
    """Return device hours with as many digits as mean something."""
    if 0 < value < 0.05:
        return "<0.1"
    return f"{value:,.0f}" if value >= 10 or not value else f"{value:.1f}"


def marker_name(marker: Marker) -> str:
    """Return a factor and its value as a person would say it."""
    kind, _, rest = marker.factor.partition(" ")
    if kind == "function":
        return f"the same function {rest} (code {marker.value})"
    if kind == "setting":
        return f"{rest} = {marker.value}"
    if kind == "package":
        return f"{rest} {marker.value}"
    if kind in ("configuration", "launch", "data"):
        return f"the same {marker.factor} (content {marker.value})"
    return f"{marker.factor} {marker.value}"


def odds(marker: Marker) -> str:
    """Return `odds ratio 52 (95% interval 18 to 150), false discovery rate 0.2%`."""
    rate = "<0.1%" if marker.q < 0.001 else f"{marker.q:.1%}"
    ratio, low, high = map(_two_digits, (marker.odds, marker.low, marker.high))
    return f"odds ratio {ratio} (95% interval {low} to {high}), false discovery rate {rate}"


def _two_digits(value: float) -> str:
    if value > 1000:
        return ">1,000"  # which thousand rests on the half added to an empty cell
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"


def draft_command(group: Group) -> str:
    """Return the command that drafts a signature from a group."""
    return "ftdoctor signatures new --from " + " ".join(_shell(r.path) for r in group.rows[:3])


def _shell(path: str) -> str:
    import shlex

    return shlex.quote(path)


def _share(part: int, whole: int) -> str:
    return "0%" if part == 0 else words.percent(part / whole)


def _day(time: float | None) -> str:
    return words.moment(time, "%d %b %Y") if time is not None else "unknown"


def _span(rows: Sequence[Row]) -> str:
    times = [time for row in rows if (time := row.time) is not None]
    if not times:
        return ""
    first, last = _day(min(times)), _day(max(times))
    return first if first == last else f"{first} to {last}"


def _link(row: Row) -> Markup:
    """Return the run's name, a link to its report if there is one."""
    name = words.clip(words.clean(row.run), 80)
    if not row.report:
        return Markup("<code>{}</code>").format(name)
    return Markup('<a href="{}"><code>{}</code></a>').format(quote(row.report), name)


def _orders(clusters: Sequence[Cluster]) -> list[dict[str, int]]:
    """Return each cluster's rank by runs, hours, certainty and newness."""
    keys: dict[str, Callable[[Cluster], float]] = {
        "n": lambda c: -len(c.rows),
        "c": lambda c: -c.hours,
        "p": lambda c: -c.probability,
        "d": lambda c: -(c.trend.first or 0.0),
    }
    ranks: list[dict[str, int]] = [{} for _ in clusters]
    for name, key in keys.items():
        order = sorted(range(len(clusters)), key=lambda i: (key(clusters[i]), i))
        for rank, index in enumerate(order):
            ranks[index][name] = rank
    return ranks


# --- drawings -----------------------------------------------------------------------------------


def sparks(rows: Sequence[Row]) -> list[Markup]:
    """Return a sparkline for each run, all on one scale; nothing for a run without a curve."""
    values = sorted(v for row in rows if row.spark for v in row.spark.y)
    if not values:
        return [Markup("") for _ in rows]
    low = values[0]
    high = values[min(len(values) - 1, int(0.98 * len(values)))]  # one spike must not flatten all
    return [_spark(row.spark, low, high) if row.spark else Markup("") for row in rows]


def _spark(spark: Spark, low: float, high: float) -> Markup:
    def across(x: float) -> int:
        return round(LEFT + (RIGHT - LEFT) * min(max(x, 0.0), 1.0))

    def down(value: float) -> str:
        part = (min(max(value, low), high) - low) / (high - low) if high > low else 0.5
        return f"{BOTTOM - (BOTTOM - TOP) * part:.1f}"

    points = " ".join(f"{across(x)},{down(y)}" for x, y in zip(spark.x, spark.y, strict=True))
    marks = ""
    if spark.onset is not None:
        marks += f'<path d="M{across(spark.onset)} 1V22"/>'
    if spark.early:
        marks += f'<circle cx="{across(spark.x[-1])}" cy="{down(spark.y[-1])}" r="2.2"/>'
    told = (
        f'<svg class="sp" viewBox="0 0 100 24" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(_in_words(spark))}"><polyline points="{points}"/>{marks}</svg>'
    )
    return Markup(told)


def _in_words(spark: Spark) -> str:
    first, last = spark.y[0], spark.y[-1]
    if last == 0 and first:
        shape = "drops to zero"
    elif last > first * 1.1:
        shape = "rises"
    elif last < first * 0.9:
        shape = "falls"
    else:
        shape = "stays level"
    return f"{spark.name} {shape}, from {words.number(first)} to {words.number(last)}" + (
        ", ends early" if spark.early else ""
    )


def bars(trend: Trend) -> Markup:
    """Return a bar per week, the last one at the right."""
    if sum(count > 0 for _, count in trend.weeks) < 2:
        return Markup("")  # one bar is no course of time
    most = max(1, *(count for _, count in trend.weeks))
    d = "".join(
        f"M{3 + 6 * i} 15v-{max(1.0, 14 * count / most):.0f}"
        for i, (_, count) in enumerate(trend.weeks)
        if count
    )
    told = f"runs per week, last {len(trend.weeks)} weeks: " + ", ".join(
        str(count) for _, count in trend.weeks
    )
    width = 6 * len(trend.weeks)
    return Markup(
        f'<svg class="tr" viewBox="0 0 {width} 16" role="img" aria-label="{escape(told)}">'
        f'<path d="{d}"/></svg>'
    )
