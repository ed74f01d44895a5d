"""Make one curve per metric from the rows of many files: steps, sessions, and who is believed."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ftdoctor.read.names import metric_name
from ftdoctor.read.reading import MetricRow

# Who is believed: the trainer's own state is exact, trackers are float32 or may be sampled, text
# is rounded (FORMATS of transformers 4.x: 4 decimals; 5.x: 4 significant digits).
AUTHORITY = {
    "state": 0,
    "wandb": 1,
    "tensorboard": 1,
    "mlflow": 1,
    "metrics": 2,
    "trainer-log": 2,
    "csv": 2,
    "ray": 2,
    "openai": 2,
    "console": 3,
}
LAST = 4
# Share of a metric's rows that repeat a step or go back a little, from which several processes
# write to one log (judgement: two ranks give one half, a job that resumes often gives some 5 %).
INTERLEAVED = 0.2
SHORT = 0.2  # a newer log with fewer rows than this share of an older one is an aborted start


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one metric at one step, with its provenance; a row of `Run.metrics`."""

    name: str
    split: str
    step: int
    epoch: float | None
    time: float | None
    value: float
    path: str
    line: int
    segment: int = 0


@dataclass(frozen=True, slots=True)
class Pace:
    """What is known about steps, for logs that print only the epoch or nothing."""

    steps_per_epoch: float | None = None
    logging_steps: int | None = None


@dataclass(frozen=True, slots=True)
class Log:
    """The metric rows of one file, its kind of curve, and what it says of itself.

    `planned` is the number of steps that the file itself announces, None if it does not.
    """

    path: str
    curve: str
    rows: tuple[MetricRow, ...]
    modified: float | None = None
    pace: Pace = Pace()
    planned: int | None = None


@dataclass(frozen=True, slots=True)
class _Source:
    """The joined logs of one kind."""

    path: str
    authority: int
    points: list[Point]
    planned: int | None


@dataclass(frozen=True, slots=True)
class Curves:
    """The points to use, in order of occurrence, and the logs put aside with the reason.

    `counted` are the logs whose rows were numbered, because nothing tells at which steps they are.
    """

    points: tuple[Point, ...]
    aside: tuple[tuple[str, str], ...] = ()
    interleaved: tuple[str, ...] = ()
    counted: frozenset[str] = frozenset()


def assemble_curves(logs: Iterable[Log]) -> Curves:
    """Merge all logs: one source per (metric, split), extended by others past its last step."""
    by_kind: dict[str, list[Log]] = defaultdict(list)
    for log in logs:
        if log.rows:
            by_kind[log.curve].append(log)
    aside: list[tuple[str, str]] = []
    interleaved: list[str] = []
    sources: list[_Source] = []
    for kind, members in by_kind.items():
        sessions: list[tuple[Log, list[Point]]] = []
        for log in sorted(members, key=_age):
            points, mixed = points_of(log)
            if mixed:
                interleaved.append(log.path)
            sessions.append((log, points))
        chained, left = _chain(sessions)
        aside += left
        if chained:
            last = next(log for log in members if log.path == chained[-1].path)
            authority = AUTHORITY.get(kind, LAST)
            sources.append(_Source(last.path, authority, chained, last.planned))
    sources.sort(key=lambda source: (source.authority, -len(source.points)))
    points, others = _merge(sources)
    counted = frozenset(log.path for kind in by_kind.values() for log in kind if is_counted(log))
    return Curves(tuple(points), (*aside, *others), tuple(interleaved), counted)


# --- one log ----------------------------------------------------------------------------------


def points_of(log: Log) -> tuple[list[Point], bool]:
    """Return a log's points with steps and segments, and whether it mixes several writers."""
    steps = infer_steps(log.rows, log.pace)
    lead = _lead(log.rows)
    mixed = is_interleaved([steps[index] for index in lead])
    segments = [0] * len(steps) if mixed else segments_of(steps, lead)
    latest: dict[tuple[str, str, int, int], Point] = {}
    for row, step, segment in zip(log.rows, steps, segments, strict=True):
        for raw, value in row.values.items():
            name, split = metric_name(raw)
            split = row.split or split
            key = (name, split, step, segment)
            if mixed and key in latest:
                continue
            # Deleted first, so that a repeated step takes the place of its last occurrence.
            latest.pop(key, None)
            latest[key] = Point(
                name, split, step, row.epoch, row.time, float(value), log.path, row.line, segment
            )
    points = list(latest.values())
    if mixed:
        points.sort(key=lambda point: point.step)
    return points, mixed


def _lead(rows: Sequence[MetricRow]) -> list[int]:
    """Return the indices of the rows that hold the train metric which is logged most often.

    Steps are followed on one metric: a log may have several kinds of lines with grids of their own.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        for raw in row.values:
            name, split = metric_name(raw)
            # Two spellings of one metric in a row are one place.
            if (row.split or split) == "train" and places[name][-1:] != [index]:
                places[name].append(index)
    return max(places.values(), key=len, default=[])


def is_counted(log: Log) -> bool:
    """Say whether the steps of a log's rows are but their numbers."""
    by_epoch = log.pace.steps_per_epoch and all(row.epoch is not None for row in log.rows)
    stepless = all(row.step is None for row in log.rows)
    return stepless and not by_epoch and log.pace.logging_steps is None


def infer_steps(rows: Sequence[MetricRow], pace: Pace) -> list[int]:
    """Return a step for every row: as logged, else from the epoch, else from the order of rows.

    A row without a step between rows with steps takes the step of the row before it.
    """
    if any(row.step is not None for row in rows):
        first = next(row.step for row in rows if row.step is not None)
        current = first
        steps: list[int] = []
        for row in rows:
            current = row.step if row.step is not None else current
            steps.append(current)
        return steps
    if pace.steps_per_epoch and all(row.epoch is not None for row in rows):
        return [max(0, round((row.epoch or 0.0) * pace.steps_per_epoch)) for row in rows]
    interval = pace.logging_steps or 1
    begun = _begun_again(rows)
    count = 0
    seen: set[str] = set()
    steps = []
    for index, row in enumerate(rows):
        if index in begun:
            count = steps[begun[index]] // interval - 1
            seen = set(row.values)
        # A row that repeats a name begins a new step; one with new names belongs to the last.
        if not count or seen & row.values.keys():
            count += 1 + row.passed
            seen = set()
        seen |= row.values.keys()
        steps.append(count * interval)
    return steps


def _begun_again(rows: Sequence[MetricRow]) -> dict[int, int]:
    """Return the rows at which the epoch goes back, each with the earlier row of that epoch.

    Rows without a step are counted; a resume or a second start counts from where it began again.
    """
    lead = _lead(rows)
    found: dict[int, int] = {}
    for before, after in pairwise(lead):
        was, now = rows[before].epoch, rows[after].epoch
        if was is not None and now is not None and now < was:
            found[after] = next(
                (i for i in lead if (e := rows[i].epoch) is not None and e >= now), after
            )
    return found if len(found) <= 0.1 * len(lead) else {}


def is_interleaved(steps: Sequence[int]) -> bool:
    """Say whether several processes wrote one metric's steps into one file, row by row."""
    if len(steps) < 6:
        return False
    pairs = list(pairwise(steps))
    back = [before - after for before, after in pairs if after < before]
    same = sum(1 for before, after in pairs if after == before)
    ahead = sorted(after - before for before, after in pairs if after > before)
    little = max(5 * ahead[len(ahead) // 2] if ahead else 0, 0.1 * (max(steps) - min(steps)))
    small = sum(1 for jump in back if jump <= little)
    return small + same > max(2, INTERLEAVED * len(steps)) and small >= 0.8 * len(back)


def segments_of(steps: Sequence[int], lead: Sequence[int]) -> list[int]:
    """Return each row's session; one whose step is below that of the leading row before is new."""
    starts = {after for before, after in pairwise(lead) if steps[after] < steps[before]}
    segments = []
    segment = 0
    for index in range(len(steps)):
        segment += index in starts
        segments.append(segment)
    return segments


# --- several logs of one kind -----------------------------------------------------------------


def _age(log: Log) -> tuple[list[tuple[int, int | str]], float]:
    """Order by the numbers in the path (dates, job numbers, checkpoints), then by time."""
    parts = re.split(r"(\d+)", log.path)
    key: list[tuple[int, int | str]] = [(0, int(p)) if p.isdigit() else (1, p) for p in parts]
    return key, log.modified or 0.0


def _chain(
    sessions: list[tuple[Log, list[Point]]],
) -> tuple[list[Point], list[tuple[str, str]]]:
    """Join the logs of one kind: a later log that goes on where an earlier one was is a resume.

    A later log that begins again at the first step replaces the earlier one, unless it is an
    aborted start; a log wholly inside another (an older checkpoint's state) adds nothing.
    """
    aside: list[tuple[str, str]] = []
    longest = max((len(points) for _, points in sessions), default=0)
    usable = []
    for log, points in sessions:
        if len(points) < SHORT * longest and _first(points) <= min(
            _first(other) for _, other in sessions
        ):
            aside.append((log.path, f"only {len(points)} values: an aborted start"))
        else:
            usable.append((log, points))
    chained: list[Point] = []
    for log, points in usable:
        if not chained:
            chained = points
        elif _first(points) > _first(chained) and not _covers(chained, points):
            base = max(point.segment for point in chained)
            resumed = _first(points) <= _last(chained)
            shift = base + (1 if resumed else 0)
            chained = chained + [replace(p, segment=p.segment + shift) for p in points]
        elif _covers(points, chained):
            chained = points
        elif _covers(chained, points):
            continue
        else:
            older, chained = (chained, points)
            aside.append((older[0].path, f"superseded by {log.path}, which starts again"))
    return chained, aside


def _first(points: Sequence[Point]) -> int:
    return min((point.step for point in points), default=0)


def _last(points: Sequence[Point]) -> int:
    return max((point.step for point in points), default=0)


def _covers(big: Sequence[Point], small: Sequence[Point]) -> bool:
    """Say whether all points of `small` are in `big` with the same values."""
    values = {(p.name, p.split, p.step): p.value for p in big}
    return all(
        (p.name, p.split, p.step) in values and _close(values[p.name, p.split, p.step], p.value)
        for p in small
    )


def _close(a: float, b: float) -> bool:
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) == math.isnan(b)
    # Printed values are rounded to four digits, tracker values are float32.
    return math.isclose(a, b, rel_tol=2e-2, abs_tol=2e-3)


# --- several kinds ----------------------------------------------------------------------------


def _merge(sources: list[_Source]) -> tuple[list[Point], list[tuple[str, str]]]:
    """Take each (metric, split) from the best source, extended past its end by those that agree."""
    merged: dict[tuple[str, str], list[Point]] = {}
    aside: list[tuple[str, str]] = []
    for index, source in enumerate(sources):
        by_series: dict[tuple[str, str], list[Point]] = defaultdict(list)
        for point in source.points:
            by_series[point.name, point.split].append(point)
        if index and not _same_run(sources[0], source, merged, by_series):
            aside.append((source.path, f"shows another run than {sources[0].path}"))
            continue
        for key, series in by_series.items():
            base = merged.get(key)
            if base is None:
                merged[key] = series
                continue
            last, segment = _last(base), base[-1].segment
            merged[key] = base + [
                replace(point, segment=segment) for point in series if point.step > last
            ]
    return [point for series in merged.values() for point in series], aside


def _same_run(
    best: _Source,
    source: _Source,
    merged: dict[tuple[str, str], list[Point]],
    other: dict[tuple[str, str], list[Point]],
) -> bool:
    """Say whether a source shows the same run: where both have a step, most losses are the same."""
    shared = same = 0
    key = ("loss", "train")
    if key in merged and key in other:
        known = {point.step: point.value for point in merged[key]}
        for point in other[key]:
            if point.step in known:
                shared += 1
                same += _close(known[point.step], point.value)
    if shared >= 3:
        return same >= shared / 2
    return None in (best.planned, source.planned) or best.planned == source.planned
