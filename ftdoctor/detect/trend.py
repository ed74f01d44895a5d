"""Detectors on the course of one metric: flat, falling, level, diverging, shifted by a resume.

Levels are medians of fifths, so ten points are the least; see `points` and `stats`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from ftdoctor.detect import absent, detector, onset, present, stats, unobservable
from ftdoctor.detect.nan import before_death
from ftdoctor.detect.points import (
    Points,
    curve,
    long_enough,
    number,
    points,
    points_of_kind,
    resume_borders,
)
from ftdoctor.model import Observation, Run, Span
from ftdoctor.render.text import plural

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Part = Literal[
    "first", "first-tenth", "first-fifth", "first-half", "whole",
    "last-half", "last-third", "last-fifth", "last-tenth", "last",
]  # fmt: skip


@detector("trend.flat")
def flat(
    run: Run,
    *,
    metric: str = "loss",
    change: float = 0.02,
    minimum: int = 10,
    level_above: float | None = None,
    kinds: tuple[str, ...] = (),
    split: str = "train",
) -> Observation:
    """Find a metric whose level changes by less than `change` from the first to the last fifth.

    Below 20 points that suffices; from 20 on the Theil-Sen slope must not differ from 0 either.
    """
    found = curve(run, metric, split, minimum=minimum, kinds=kinds)
    if isinstance(found, Observation):
        return found
    first = stats.level(found.values, "first-fifth")
    last = stats.level(found.values, "last-fifth")
    drop = (first - last) / abs(first) if first else 0.0
    text = (
        f"{found.label} goes from {number(first)} to {number(last)} ({-drop:+.1%}) over "
        f"{len(found)} rows up to step {found.step(-1)}"
    )
    slope = stats.theil_sen(found.steps.astype(float), found.values)
    too_low = level_above is not None and last <= level_above
    if abs(drop) >= change or too_low or (len(found) >= 20 and not slope.is_flat):
        return absent(text, curves=(found.curve,))
    return present(text, found.fact(0), found.fact(-1), curves=(found.curve,))


@detector("trend.changes")
def changes(
    run: Run,
    *,
    metric: str,
    start: Part = "first-fifth",
    end: Part = "last-fifth",
    ratio_above: float | None = None,
    ratio_below: float | None = None,
    falls_by: float | None = None,
    minimum: int = 15,
    split: str = "train",
    kinds: tuple[str, ...] = (),
) -> Observation:
    """Find that the level at the end is beyond a ratio to the level at the start.

    `falls_by`: for metrics of either sign, a fall of that share of the start's magnitude and of
    more than three noise widths.
    """
    found = curve(run, metric, split, minimum=minimum, kinds=kinds)
    if isinstance(found, Observation):
        return found
    first, last = stats.level(found.values, start), stats.level(found.values, end)
    text = (
        f"{found.label} goes from {number(first)} ({start.replace('-', ' ')}) to {number(last)} "
        f"({end.replace('-', ' ')})"
    )
    ratio = last / first if first else math.inf
    fall = first - last
    hit = (
        (ratio_above is not None and ratio > ratio_above)
        or (ratio_below is not None and ratio < ratio_below)
        or (
            falls_by is not None
            and fall > falls_by * abs(first)
            and fall > 3 * stats.noise(found.values)
        )
    )
    if not hit:
        return absent(text, curves=(found.curve,))
    return present(text, found.fact(0), found.fact(-1), curves=(found.curve,))


@detector("trend.diverges")
def diverges(
    run: Run,
    *,
    metric: str = "loss",
    times: float = 1.25,
    kinds: tuple[str, ...] = (),
) -> Observation:
    """Find a metric that ends far above the best level it had reached.

    Rows of 0.0 that a loss of NaN leaves behind do not count. From 15 points: the last fifth is
    `times` the lowest fifth and 6 noise widths above it, or nine tenths of it twice the lowest,
    however wild the climb was; from 5 to 14: each of the last three points is twice the minimum.
    """
    import numpy as np

    found = curve(run, metric, minimum=5, kinds=kinds)
    if not isinstance(found, Observation) and metric == "loss":
        found = long_enough(before_death(run, found), 5)
    if isinstance(found, Observation):
        return found
    values = found.values
    if len(found) < 15:
        best, end = float(values.min()), float(values[-3:].min())
        hit = best > 0 and end > 2 * best and int(values.argmin()) < len(found) - 3
    else:
        levels = stats.fifths(values)
        # A rate that is far too high ruins the model within the first fifth.
        best, end = min(*levels, float(np.median(values[:3]))), levels[-1]
        beyond_noise = end > best + 6 * stats.noise(values)
        doubled = float(np.quantile(values[-(len(values) // 5) :], 0.1)) > 2 * best
        hit = best > 0 and end > times * best and (beyond_noise or doubled)
    text = f"{found.label} ends at {number(end)}; the best level was {number(best)}"
    if not hit:
        return absent(text, curves=(found.curve,))
    span = onset.change(found)
    return present(
        f"{text}; it rises for good from {span} on" if span else text,
        found.fact(found.at_step(span.step) if span else 0),
        found.fact(-1),
        curves=(found.curve,),
        span=span,
    )


@detector("trend.still_falling")
def still_falling(
    run: Run,
    *,
    metric: str = "loss",
    share: float = 0.02,
    kinds: tuple[str, ...] = (),
) -> Observation:
    """Find a loss that fell over the last tenth by `share` and twice its own error.

    Of short logs a longer part is taken, eight rows or a quarter, for the sake of the error.
    Absent if the learning rate was near 0 by then: more steps would not have helped.
    """
    import numpy as np

    found = curve(run, metric, minimum=20, kinds=kinds)
    if isinstance(found, Observation):
        return found
    size = max(len(found) // 10, min(8, len(found) // 4))
    end, before = found.values[-size:], found.values[-2 * size : -size]
    last, earlier = float(np.median(end)), float(np.median(before))
    error = 1.25 * stats.noise(found.values[-4 * size :]) * math.sqrt(2 / size)
    text = f"{found.label} falls from {number(earlier)} to {number(last)} "
    text += f"in the last {plural(size, 'row')}"
    rates = points(run, "learning_rate")
    if rates is not None and len(rates) > 2 and rates.values[-2] < 0.05 * rates.values.max():
        return absent(f"{text}, but the learning rate had run out", curves=(found.curve,))
    if earlier <= 0 or earlier - last <= max(share * earlier, 2 * error):
        return absent(text, curves=(found.curve,))
    return present(
        text, found.fact(-1), curves=(found.curve,), span=Span(found.step(len(found) - size))
    )


@detector("trend.plateaus")
def plateaus(
    run: Run,
    *,
    metric: str = "loss",
    above: float,
    kinds: tuple[str, ...] = (),
) -> Observation:
    """Find a loss whose last 30 % is flat above `above` while the learning rate still works."""
    found = curve(run, metric, minimum=20, kinds=kinds)
    if isinstance(found, Observation):
        return found
    size = max(6, round(0.3 * len(found)))
    tail = found.values[-size:]
    slope = stats.theil_sen(found.steps[-size:].astype(float), tail)
    middle = stats.level(tail)
    text = f"{found.label} is level at {number(middle)} over the last {plural(size, 'row')}"
    rates = points(run, "learning_rate")
    if rates is not None and stats.level(rates.values, "last-third") < 0.2 * rates.values.max():
        return absent(f"{text} at a learning rate that had nearly run out")
    if not slope.is_flat or middle <= above:
        return absent(f"{found.label} ends at {number(middle)}", curves=(found.curve,))
    return present(
        text, found.fact(-1), curves=(found.curve,), span=Span(found.step(len(found) - size))
    )


@detector("trend.flattens")
def flattens(
    run: Run,
    *,
    metric: str = "loss",
    before: float = 0.1,
    after: float = 0.005,
    kinds: tuple[str, ...] = (),
) -> Observation:
    """Find a drop above `before` in the first half and below `after` in the second."""
    import numpy as np

    found = curve(run, metric, minimum=20, kinds=kinds)
    if isinstance(found, Observation):
        return found
    quarters = [float(np.median(q)) for q in np.array_split(found.values, 8)]
    early = (quarters[0] - quarters[3]) / abs(quarters[0]) if quarters[0] else 0.0
    late = (quarters[4] - quarters[7]) / abs(quarters[4]) if quarters[4] else 0.0
    parts = (f"{'falls' if part > 0 else 'rises'} {abs(part):.1%}" for part in (early, late))
    text = f"{found.label} {' in the first half and '.join(parts)} in the second"
    if early > before and late < after:
        return present(text, found.fact(len(found) // 2), curves=(found.curve,))
    return absent(text, curves=(found.curve,))


@detector("trend.noisy")
def noisy(
    run: Run,
    *,
    metric: str = "loss",
    above: float,
    minimum: int = 20,
    kinds: tuple[str, ...] = (),
) -> Observation:
    """Find a curve whose scatter about its rolling median exceeds `above` of its level."""
    found = curve(run, metric, minimum=minimum, kinds=kinds)
    if isinstance(found, Observation):
        return found
    middle = abs(stats.level(found.values))
    ratio = stats.scale(stats.residuals(found.values)) / middle if middle else 0.0
    text = f"{found.label} scatters by {ratio:.0%} of its level ({plural(len(found), 'row')})"
    if ratio <= above:
        return absent(text)
    return present(text, found.fact(0), curves=(found.curve,))


@detector("trend.early_bump")
def early_bump(
    run: Run, *, metric: str = "loss", times: float = 1.1, kinds: tuple[str, ...] = ()
) -> Observation:
    """Find a rise within the first tenth (without its first two rows) that is made good later."""
    found = curve(run, metric, minimum=20, kinds=kinds)
    if isinstance(found, Observation):
        return found
    early = found.values[: max(5, len(found) // 10)]
    peak = 2 + int(early[2:].argmax())
    lowest = float(early[:peak].min())
    text = f"{found.label} goes from {number(lowest)} to {number(float(early[peak]))} early on"
    recovered = stats.level(found.values, "last-fifth") < lowest
    if lowest <= 0 or early[peak] <= times * lowest or not recovered:
        return absent(text)
    return present(
        f"{text} (step {found.step(peak)}) and recovers",
        found.fact(peak),
        curves=(found.curve,),
        span=onset.at(found, peak),
    )


@detector("trend.explodes")
def explodes(
    run: Run, *, metric: str = "grad_norm", times: float = 10.0, beyond: float = 100.0
) -> Observation:
    """Find a last fifth above `times` the second fifth, or a median beyond `beyond`."""
    found = curve(run, metric, minimum=15)
    if isinstance(found, Observation):
        return found
    early, end = stats.level(found.values, "second-fifth"), stats.level(found.values, "last-fifth")
    middle = stats.level(found.values)
    text = f"{found.label} goes from {number(early)} to {number(end)} (median {number(middle)})"
    if not (early > 0 and end > times * early) and middle <= beyond:
        return absent(text, curves=(found.curve,))
    span = onset.change(found)
    return present(
        text,
        found.fact(found.at_step(span.step) if span else 0),
        curves=(found.curve,),
        span=span,
    )


@detector("trend.rolling")
def rolling(
    run: Run,
    *,
    metric: str,
    above: float | None = None,
    times_start: float | None = None,
    below: float | None = None,
    share_of_start: float | None = None,
    window: int = 10,
    split: str = "train",
    kinds: tuple[str, ...] = (),
) -> Observation:
    """Find a rolling median (never a single point) beyond a limit or a multiple of its start.

    The start is the median of the first `window` rows; 2 x `window` rows are needed.
    """
    import numpy as np

    found = curve(run, metric, split, minimum=2 * window, kinds=kinds)
    if isinstance(found, Observation):
        return found
    views = np.lib.stride_tricks.sliding_window_view(found.values, window)
    medians = np.median(views, axis=1)
    start = float(medians[0])
    high = [x for x in (above, times_start and times_start * start) if x is not None]
    low = [x for x in (below, share_of_start and share_of_start * start) if x is not None]
    up, down = float(medians.max()), float(medians.min())
    text = f"median of {window} rows of {found.label}: {number(start)} at first"
    if high and up > min(high):
        place = int((medians > min(high)).argmax())
        text += f", up to {number(up)}"
    elif low and down < max(low):
        place = int((medians < max(low)).argmax())
        text += f", down to {number(down)}"
    else:
        return absent(f"{text}, between {number(down)} and {number(up)}", curves=(found.curve,))
    crossed = onset.at(found, place + window // 2)
    span = onset.change(found, rising=bool(high and up > min(high))) or crossed
    return present(
        f"{text} (from {span} on)",
        found.fact(found.at_step(span.step)),
        curves=(found.curve,),
        span=span,
    )


@detector("trend.steps_slow_down")
def steps_slow_down(run: Run, *, times: float = 2.0, minimum: int = 30) -> Observation:
    """Find that seconds per step in the last fifth are `times` those of the first fifth."""
    import numpy as np

    found = points(run, "loss")
    if found is None:
        return unobservable("no loss rows with times", "training log (stdout)", "metrics.jsonl")
    times_of = found.series.times[found.index]
    if not np.isfinite(times_of).all():
        return unobservable("the rows carry no time", "tensorboard events", "metrics.jsonl")
    steps, seconds = np.diff(found.steps), np.diff(times_of)
    usable = (steps > 0) & (seconds > 0)
    pace = seconds[usable] / steps[usable]
    if len(pace) < minimum:
        return unobservable(f"{len(pace)} timed steps; {minimum} are needed", "a longer log")
    first, last = stats.level(pace[1:], "first-fifth"), stats.level(pace, "last-fifth")
    text = f"a step takes {number(first)} s at the start and {number(last)} s at the end"
    if last < times * first:
        return absent(text)
    return present(text, found.fact(-1))


@detector("trend.shifts_at_resume")
def shifts_at_resume(
    run: Run,
    *,
    metric: str = "loss",
    direction: Literal["up", "down"],
    ratio: float,
    rows: int = 5,
    kinds: tuple[str, ...] = (),
) -> Observation:
    """Find a level after a resume that is beyond `ratio` of the level just before it."""
    import numpy as np

    series = run.series(metric)
    found = points_of_kind(run, metric, kinds=kinds)
    if isinstance(found, Observation) or series is None:
        return found if isinstance(found, Observation) else unobservable(f"no {metric} was logged")
    borders = resume_borders(run, series)
    if not borders:
        return absent("the log shows no resume")
    verdict: Observation | None = None
    for border in borders:
        before, after = _around(series.values, border, rows)
        if len(before) < rows or len(after) < rows:
            continue
        shift = float(np.median(after)) / max(float(np.median(before)), 1e-12)
        beyond = shift > ratio if direction == "up" else shift < ratio
        step = int(series.steps[border])
        text = f"{metric} is {shift:.2f} times its level before the resume at step {step}"
        if beyond:
            where = Points(series, np.array([border], dtype=np.int64))
            return present(text, where.fact(0), curves=(metric,), span=Span(step, within=0))
        verdict = absent(text)
    return verdict or unobservable(
        f"fewer than {rows} rows on either side of the resume", "a log with smaller logging_steps"
    )


def _around(
    values: npt.NDArray[np.float64], border: int, rows: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    import numpy as np

    before = values[max(0, border - rows) : border]
    after = values[border : border + rows]
    return before[np.isfinite(before)], after[np.isfinite(after)]


@detector("trend.fades")
def fades(run: Run, *, by: float, times: float, kinds: tuple[str, ...] = ()) -> Observation:
    """Find a loss that climbs smoothly `by` or more while the gradient norm shrinks all the time.

    So a model ends whose weights are shrunk to nothing; one that takes too large steps leaps, and
    its gradients grow. `times`: by which the norm of the first fifth is that of the last.
    """
    found = curve(run, "loss", minimum=10, kinds=kinds)
    norms = curve(run, "grad_norm", minimum=10, kinds=kinds)
    for missing in (found, norms):
        if isinstance(missing, Observation):
            return missing
    assert isinstance(found, Points)
    assert isinstance(norms, Points)
    start, end = float(found.values[:3].min()), stats.level(found.values, "last-fifth")
    first, last = (stats.level(norms.values, part) for part in ("first-fifth", "last-fifth"))
    smooth = stats.spearman(found.steps.astype(float), found.values) > 0.9
    shrinks = stats.spearman(norms.steps.astype(float), norms.values) < -0.9
    text = (
        f"loss goes from {number(start)} to {number(end)} without a leap; grad_norm from "
        f"{number(first)} to {number(last)}"
    )
    if end - start < by or first < times * last or not (smooth and shrinks):
        return absent(text.replace(" without a leap", ""), found.fact(-1), norms.fact(-1))
    return present(text, found.fact(-1), norms.fact(-1), curves=(found.curve, norms.curve))


@detector("trend.piles_up")
def piles_up(run: Run, *, metric: str = "grad_norm", times: float) -> Observation:
    """Find a metric that grows from row to row, without a leap, to `times` its first level.

    No row may be more than half above the one before once the first fifth is over.
    """
    import numpy as np

    found = curve(run, metric, minimum=10)
    if isinstance(found, Observation):
        return found
    first, last = float(np.median(found.values[:3])), stats.level(found.values, "last-fifth")
    text = f"{found.label} goes from {number(first)} to {number(last)} over {len(found)} rows"
    steady = stats.spearman(found.steps.astype(float), found.values) >= 0.97
    later = found.values[len(found) // 5 :]
    leaps = bool((later[1:] > 1.5 * later[:-1]).any())
    if first <= 0 or last < times * first or not steady or leaps:
        return absent(text, found.fact(-1))
    return present(f"{text}, ever upwards", found.fact(0), found.fact(-1), curves=(found.curve,))
