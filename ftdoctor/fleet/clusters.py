"""Group the rows of a fleet: by root cause, by reason if unreadable, by symptoms if unknown."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ftdoctor.fleet.association import Marker, markers, two_sided
from ftdoctor.fleet.patterns import pattern_of
from ftdoctor.fleet.rows import UNNAMED, Row

ALIKE = 0.6  # Jaccard similarity from which symptom sets are one group (judgement)
WEEKS = 12  # weeks drawn
COMPARED = 4  # weeks on each side of a trend
CATCH_ALL = "uncaught-exception"  # the cause that says: no signature knows this exception
TREND = 0.05  # two-sided p below which a share is said to rise or fall


@dataclass(frozen=True, slots=True)
class Trend:
    """Runs per week, oldest first, the last week included; `word` is rising, falling or steady.

    `first` and `last` are the times (Unix seconds) of the first and last run; `p` is Fisher's
    two-sided p of the cluster's share of failed runs in the last weeks against those before.
    """

    weeks: tuple[tuple[str, int], ...]
    first: float | None
    last: float | None
    word: str = ""
    p: float | None = None


@dataclass(frozen=True, slots=True)
class Cluster:
    """The runs of one root cause, most typical first."""

    id: str
    title: str
    stage: str
    rows: tuple[Row, ...]
    hours: float
    hours_known: int
    cost: float | None
    probability: float
    fix: str
    fix_share: int
    trend: Trend
    markers: tuple[Marker, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Runs without a known cause that are alike, or runs with the same reason for no answer.

    Alike are those that show the same symptoms, or end in an exception that no signature knows.
    """

    symptoms: tuple[str, ...]
    titles: tuple[str, ...]
    rows: tuple[Row, ...]
    hours: float


@dataclass(frozen=True, slots=True)
class Fleet:
    """All rows in their groups; `tests` is the number of comparisons made for the markers."""

    rows: tuple[Row, ...]
    clusters: tuple[Cluster, ...]
    unknown: tuple[Group, ...]
    unanswered: tuple[Group, ...]
    tests: int

    @property
    def failed(self) -> int:
        """Return the number of runs that show a failure."""
        return sum(row.failed for row in self.rows)

    def count(self, kind: str) -> int:
        """Return the number of runs with that verdict."""
        return sum(row.kind == kind for row in self.rows)

    @property
    def hours(self) -> float:
        """Return the device hours lost, where they are known."""
        return _hours(self.rows)

    @property
    def hours_known(self) -> int:
        """Return for how many failed runs the hours are known."""
        return sum(row.failed and row.hours_lost is not None for row in self.rows)

    @property
    def cost(self) -> float | None:
        """Return the money lost, None if no price was given."""
        costs = [row.cost_lost for row in self.rows if row.cost_lost is not None]
        return sum(costs) if costs else None


def fleet_of(rows: Sequence[Row]) -> Fleet:
    """Group the rows; clusters with the most runs first."""
    failed = weeks_of(row for row in rows if row.failed)
    by_cause = _grouped(rows, lambda row: row.cause)
    found, tests = markers(rows, {cause: members for cause, members in by_cause.items() if cause})
    clusters = [
        _cluster(cause, members, failed, found.get(cause, ()))
        for cause, members in by_cause.items()
        if cause
    ]
    clusters.sort(key=lambda c: (-len(c.rows), c.id))
    unknown = _symptom_groups([row for row in rows if row.kind == "unknown"])
    unknown += _message_groups([row for row in rows if row.cause == CATCH_ALL])
    unknown.sort(key=lambda group: (-len(group.rows), group.symptoms, group.titles))
    lost = [row for row in rows if row.kind in ("unreadable", "failed")]
    unanswered = [
        Group((), (reason,), tuple(members), 0.0)
        for reason, members in _grouped(lost, lambda row: row.reason).items()
    ]
    unanswered.sort(key=lambda group: (-len(group.rows), group.titles))
    return Fleet(tuple(rows), tuple(clusters), tuple(unknown), tuple(unanswered), tests)


def _grouped(rows: Iterable[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _cluster(cause: str, rows: list[Row], failed: Weeks, found: tuple[Marker, ...]) -> Cluster:
    fix, share = Counter(row.fix for row in rows).most_common(1)[0]
    costs = [row.cost_lost for row in rows if row.cost_lost is not None]
    return Cluster(
        id=cause,
        title=rows[0].title,
        stage=rows[0].stage,
        rows=tuple(_by_typicality(rows)),
        hours=_hours(rows),
        hours_known=sum(row.hours_lost is not None for row in rows),
        cost=sum(costs) if costs else None,
        probability=statistics.median(row.probability or 0.0 for row in rows),
        fix=fix,
        fix_share=share,
        trend=trend(rows, failed),
        markers=found,
    )


def _by_typicality(rows: list[Row]) -> list[Row]:
    """Sort by distance of the curve from the cluster's median curve, runs without a curve last."""
    curves = {row.key: _shape(row) for row in rows if row.spark}
    middle = [statistics.median(column) for column in zip(*curves.values(), strict=True)]

    def distance(row: Row) -> tuple[bool, float, float, str]:
        shape = curves.get(row.key)
        away = sum(abs(a - b) for a, b in zip(shape, middle, strict=True)) if shape else 0.0
        return shape is None, away, -(row.probability or 0.0), row.key

    return sorted(rows, key=distance)


def _shape(row: Row) -> list[float]:
    """Return the curve at twelve places from its start to its end, scaled by its first value."""
    assert row.spark is not None
    y = row.spark.y
    scale = max(abs(y[0]), 1e-9)
    return [y[round(i * (len(y) - 1) / 11)] / scale for i in range(12)]


def _symptom_groups(rows: list[Row]) -> list[Group]:
    """Merge runs whose unexplained symptoms are mostly the same, the commonest sets first."""
    sets = Counter(frozenset(row.unexplained) for row in rows)
    heads: list[frozenset[str]] = []
    head_of: dict[frozenset[str], frozenset[str]] = {}
    for symptoms, _ in sorted(sets.items(), key=lambda item: (-item[1], sorted(item[0]))):
        head_of[symptoms] = next((h for h in heads if _alike(h, symptoms)), symptoms)
        if head_of[symptoms] is symptoms:
            heads.append(symptoms)
    titles = {name: title for row in rows for name, title in row.titles.items()}
    groups = []
    for head in heads:
        members = [row for row in rows if head_of[frozenset(row.unexplained)] == head]
        shared = set.intersection(*(set(row.unexplained) for row in members))
        names = tuple(s for s in members[0].unexplained if s in (shared or head))
        told = tuple(titles.get(name, name) for name in names)
        groups.append(Group(names, told, tuple(members), _hours(members)))
    return groups


def _message_groups(rows: list[Row]) -> list[Group]:
    """Group the runs of the catch-all cause by their exception, numbers and paths left open."""
    return [
        Group((UNNAMED,), (members[0].message,), tuple(members), _hours(members))
        for message, members in _grouped(rows, lambda row: pattern_of(row.message)).items()
        if message
    ]


def _hours(rows: Iterable[Row]) -> float:
    return sum(row.hours_lost or 0.0 for row in rows)


def _alike(one: frozenset[str], other: frozenset[str]) -> bool:
    union = one | other
    return not union or len(one & other) / len(union) >= ALIKE


# --- over time ----------------------------------------------------------------------------------


Weeks = Counter[datetime]  # runs by the Monday of their week


def weeks_of(rows: Iterable[Row]) -> Weeks:
    """Count the runs whose time is known by week."""
    return Counter(_monday(time) for row in rows if (time := row.time) is not None)


def trend(rows: Sequence[Row], failed: Weeks) -> Trend:
    """Count runs per week up to the fleet's last failed run, and compare the last weeks' share."""
    times = sorted(time for row in rows if (time := row.time) is not None)
    if not times or not failed:
        return Trend((), None, None)
    last = max(failed)
    weeks = [last - timedelta(weeks=back) for back in reversed(range(WEEKS))]
    own = weeks_of(rows)
    drawn = tuple((week.strftime("%Y-%m-%d"), own[week]) for week in weeks)
    late, early = weeks[-COMPARED:], weeks[-2 * COMPARED : -COMPARED]
    now, before = sum(own[w] for w in late), sum(own[w] for w in early)
    rest_now = sum(failed[w] for w in late) - now
    rest_before = sum(failed[w] for w in early) - before
    if now + before == 0 or now + rest_now == 0 or before + rest_before == 0:
        return Trend(drawn, times[0], times[-1])
    p = two_sided(now, rest_now, before, rest_before)
    rising = now * (before + rest_before) > before * (now + rest_now)
    word = "steady" if p >= TREND else "rising" if rising else "falling"
    return Trend(drawn, times[0], times[-1], word, p)


def _monday(time: float) -> datetime:
    day = datetime.fromtimestamp(time, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day - timedelta(days=day.weekday())
