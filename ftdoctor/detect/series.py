"""Detectors on the values of one logged metric: exact values, levels, constants, non-finite rows.

Minimum counts follow one rule: exact values need 1 to 3 points, levels 5, medians of fifths 10,
spikes and plateaus 20. With fewer the answer is unobservable, never absent. `kinds` limits a
question to kinds of run in which it makes sense (a GRPO loss crosses zero in healthy runs).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from ftdoctor.detect import absent, detector, onset, present, stats, unobservable
from ftdoctor.detect.points import (
    TRAIN_FILES,
    Points,
    curve,
    fact_number,
    long_enough,
    number,
    points,
    points_of_kind,
    too_few,
)
from ftdoctor.model import Observation, Run, Span
from ftdoctor.render.text import plural

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LATE_ROWS, LATE_STEP, LATE_GAPS = 4, 20, 5  # rows, step and distances of a late log (judgement)
EXACT = 1e-6  # width of a band that means one value (judgement)
Part = Literal[
    "first", "first-tenth", "first-fifth", "first-half", "whole",
    "last-half", "last-third", "last-fifth", "last-tenth", "last",
]  # fmt: skip


def _near(found: Points, at: float, tolerance: float) -> npt.NDArray[np.bool_]:
    import numpy as np

    mask: npt.NDArray[np.bool_] = np.abs(found.values - at) <= tolerance
    return mask


@detector("series.stays")
def stays(
    run: Run,
    *,
    metric: str,
    at: float,
    from_last: int = 3,
    after_above: float,
    abrupt: bool | None = None,
    tolerance: float = 0.0,
    split: str = "train",
    kinds: tuple[str, ...] = (),
) -> Observation:
    """Find a metric that holds one value to the end of the log, after having been above another.

    `abrupt`: whether one of the two rows before the first such value was still above `after_above`
    (a jump), or neither was (a smooth way down); None takes both. NaN rows count as held.
    """
    import numpy as np

    found = points_of_kind(run, metric, split, kinds=kinds)
    if isinstance(found, Observation):
        return found
    held = _near(found, at, tolerance) | ~np.isfinite(found.values)
    run_length = stats.trailing_run(held)
    while run_length and not np.isfinite(found.values[len(found) - run_length]):
        run_length -= 1
    start = len(found) - run_length
    before = found.values[:start]
    high = before[np.isfinite(before)] > after_above
    if len(found) < from_last + 1:
        return too_few(found, from_last + 1)
    if run_length < from_last or not high.any():
        return absent(f"{found.label} ends at {number(found.values[-1])}", found.fact(-1))
    jumped = bool((before[-2:] > after_above).any())
    if abrupt is not None and jumped is not abrupt:
        way = "in a jump" if jumped else "smoothly"
        return absent(f"{found.label} reaches {number(at)} {way}", found.fact(start))
    text = (
        f"{found.label} goes from {number(float(before[-1]))} to {_exactly(at, tolerance)} between "
        f"step {found.step(start - 1)} and {found.step(start)} and stays there "
        f"to the end ({plural(run_length, 'logged row')})"
    )
    return present(
        text,
        found.fact(start),
        found.fact(start - 1),
        curves=(found.curve,),
        span=onset.at(found, start, good=True),
    )


def _exactly(value: float, tolerance: float) -> str:
    return f"about {number(value)}" if tolerance > 1e-6 else f"exactly {value:.1f}"


@detector("series.starts_at")
def starts_at(
    run: Run,
    *,
    metric: str,
    at: float,
    rows: int = 3,
    tolerance: float = 0.0,
    split: str = "train",
    kinds: tuple[str, ...] = (),
) -> Observation:
    """Find a metric whose first rows (all rows, if there are only two) hold one value."""
    found = points_of_kind(run, metric, split, kinds=kinds)
    if isinstance(found, Observation):
        return found
    if len(found) < 2:
        return too_few(found, 2)
    wanted = min(rows, len(found))
    length = stats.leading_run(_near(found, at, tolerance))
    if length < wanted:
        return absent(f"{found.label} starts at {number(found.values[0])}", found.fact(0))
    until = None if length == len(found) else found.step(length - 1)
    extent = "on every logged row" if until is None else f"up to step {until}"
    return present(
        f"{found.label} is {_exactly(at, tolerance)} from the first logged step "
        f"{found.step(0)} on, {extent} ({plural(length, 'row')})",
        found.fact(0),
        found.fact(length - 1),
        curves=(found.curve,),
        span=onset.at(found, 0, until=until),
    )


@detector("series.alternates")
def alternates(
    run: Run,
    *,
    metric: str,
    at: float,
    minimum: int = 8,
    changes: int = 2,
    most: float = 0.9,
    split: str = "train",
    kinds: tuple[str, ...] = (),
) -> Observation:
    """Find a metric that jumps to one exact value and back, on 1 % to `most` of the rows."""
    import numpy as np

    found = points_of_kind(run, metric, split, kinds=kinds)
    if not isinstance(found, Observation):
        found = long_enough(found, minimum)
    if isinstance(found, Observation):
        return found
    held = _near(found, at, 0.0)
    share = float(held.mean())
    crossings = int(np.abs(np.diff(held.astype(int))).sum())
    if crossings < changes or not 0.01 <= share <= most:
        count = int(held.sum())
        return absent(f"{found.label} is exactly {at:g} on {count} of {len(found)} rows")
    if at == 0 and _rounded_off(found.values, held):
        return absent(f"{found.label} is 0 only where it was next to 0 before: it is rounded")
    first = int(np.flatnonzero(held)[0])
    return present(
        f"{found.label} is exactly {at:g} on {int(held.sum())} of {len(found)} logged rows "
        f"and above it on the others (first at step {found.step(first)})",
        found.fact(first),
        curves=(found.curve,),
        span=onset.at(found, first),
    )


def _rounded_off(values: npt.NDArray[np.float64], held: npt.NDArray[np.bool_]) -> bool:
    """Say whether zeros stand beside the smallest value that is printed only: 0.001, 0.000."""
    import numpy as np

    finite = np.abs(values[~held & np.isfinite(values)])
    beside = np.zeros_like(held)
    beside[:-1] |= held[1:]
    beside[1:] |= held[:-1]
    around = np.abs(values[beside & ~held])
    least = float(finite.min())
    return least <= ROUNDED and len(around) > 0 and float(np.nanmax(around)) <= 3 * least


ROUNDED = 0.002  # a loss below it may be printed as zero with three digits (judgement)


@detector("series.zero_together")
def zero_together(
    run: Run,
    *,
    metric: str,
    other: str,
    minimum: int = 2,
    share: float = 0.9,
    tolerance: float = 1e-12,
    kinds: tuple[str, ...] = (),
) -> Observation:
    """Find that on the rows where `metric` is exactly 0, `other` is 0 too (on `share` of them)."""
    found = points_of_kind(run, metric, kinds=kinds)
    if isinstance(found, Observation):
        return found
    partner = points_of_kind(run, other)
    if isinstance(partner, Observation):
        return partner
    by_step = dict(zip(partner.steps.tolist(), partner.values.tolist(), strict=True))
    zeros = [s for s, v in zip(found.steps.tolist(), found.values.tolist(), strict=True) if v == 0]
    pairs = [(s, by_step[s]) for s in zeros if s in by_step]
    if len(pairs) < minimum:
        return absent(f"{found.label} is 0 on {plural(len(pairs), 'row')} with {other}")
    both = [s for s, v in pairs if abs(v) <= tolerance]
    text = f"{other} is 0 on {len(both)} of the {len(pairs)} rows where {found.label} is 0"
    if len(both) < share * len(pairs):
        return absent(text)
    place = int((partner.steps == both[0]).argmax())
    return present(text, partner.fact(place), curves=(found.curve, partner.curve))


@detector("series.nonfinite")
def nonfinite(
    run: Run,
    *,
    metric: str,
    at_least: int = 1,
    or_before_dead: str | None = None,
    split: str = "train",
) -> Observation:
    """Find NaN or Inf in a metric, on `at_least` rows in a row.

    With `or_before_dead`, fewer rows suffice if that other metric is 0.0 or NaN within the next
    two rows: one lone Inf of grad_norm is the fp16 loss scaler at work.
    """
    import numpy as np

    found = points_of_kind(run, metric, split)
    if isinstance(found, Observation):
        return found
    bad = np.flatnonzero(~np.isfinite(found.values))
    if len(bad) == 0:
        return absent(f"{found.label} is a number on all {len(found)} logged rows")
    first = int(bad[0])
    start, length = stats.longest_run(~np.isfinite(found.values))
    if length >= at_least:
        first = start
    elif not (or_before_dead and _dead_soon(run, or_before_dead, found, first)):
        rows = f"{plural(len(bad), 'row')} (first step {found.step(first)})"
        return absent(f"{found.label} is no finite number on {rows} and recovers")
    good = found.step(first - 1) if first else None
    after = f", {number(found.values[first - 1])} at step {good}" if first else ", the first row"
    ending = "to the end" if stats.trailing_run(~np.isfinite(found.values)) == len(bad) else ""
    return present(
        f"{found.label} is {number(found.values[first])} from step {found.step(first)} "
        f"{ending or 'on'} ({len(bad)} of {len(found)} rows){after}",
        found.fact(first),
        *([found.fact(first - 1)] if first else []),
        curves=(found.curve,),
        span=onset.at(found, first, good=True),
    )


def _dead_soon(run: Run, metric: str, found: Points, first: int) -> bool:
    """Say whether another metric is 0.0 or NaN at the row of `first` or the next two."""
    import numpy as np

    other = points(run, metric)
    if other is None:
        return False
    until = found.step(min(first + 2, len(found) - 1))
    window = other.values[(other.steps >= found.step(first)) & (other.steps <= until)]
    return bool(((window == 0.0) | ~np.isfinite(window)).any())


@detector("series.run_at")
def run_at(
    run: Run,
    *,
    metric: str,
    at: float,
    rows: int = 3,
    tolerance: float = 0.0,
    beside: str = "",
    beside_above: float = 0.0,
    kinds: tuple[str, ...] = (),
    split: str = "train",
) -> Observation:
    """Find `rows` consecutive rows, or all rows, at one value.

    With `beside` a row counts only if that metric is above `beside_above` on it.
    """
    import numpy as np

    found = points_of_kind(run, metric, split, kinds=kinds)
    if not isinstance(found, Observation):
        found = long_enough(found, 2)
    if isinstance(found, Observation):
        return found
    mask = _near(found, at, tolerance)
    if beside:
        other = points_of_kind(run, beside, split)
        if isinstance(other, Observation):
            return other
        mask &= np.isin(found.steps, other.steps[other.values > beside_above])
    start, length = stats.longest_run(mask)
    if length < min(rows, len(found)):
        return absent(
            f"{found.label} is {at:g} on at most {plural(length, 'row')} one after the other"
        )
    return present(
        f"{found.label} is {_exactly(at, tolerance)} on {plural(length, 'consecutive row')} "
        f"from step {found.step(start)} to {found.step(start + length - 1)}",
        found.fact(start),
        curves=(found.curve,),
        span=onset.at(found, start, until=found.step(start + length - 1)),
    )


@detector("series.mostly")
def mostly(
    run: Run,
    *,
    metric: str,
    above: float | None = None,
    below: float | None = None,
    share: float = 0.9,
    minimum: int = 5,
    part: Part = "whole",
    skip_ends: bool = False,
    split: str = "train",
    kinds: tuple[str, ...] = (),
) -> Observation:
    """Find a metric that is strictly above and/or below limits on at least `share` of the rows.

    `skip_ends` leaves out the first and last row, where schedules are at 0 in healthy runs.
    """
    exact = above is not None and below is not None and below - above < EXACT
    found = curve(run, metric, split, minimum=minimum, kinds=kinds, exact=exact)
    if isinstance(found, Observation):
        return found
    values = stats.part(found.values, part)
    if skip_ends and len(values) > 3:
        values = values[1:-1]
    inside = (values > (-math.inf if above is None else above)) & (
        values < (math.inf if below is None else below)
    )
    text = (
        f"{found.label} is {limits(above, below)} on {int(inside.sum())} of {len(values)} rows"
        f"{_of_part(part)} (median {number(stats.level(values))})"
    )
    if inside.mean() < share:
        return absent(text, curves=(found.curve,))
    offset = len(found) - len(values) if part.startswith("last") else 0
    return present(text, found.fact(offset), curves=(found.curve,), span=Span(found.step(offset)))


@detector("series.level")
def level(
    run: Run,
    *,
    metric: str,
    part: Part = "whole",
    above: float | None = None,
    below: float | None = None,
    magnitude: bool = False,
    minimum: int = 5,
    split: str = "train",
    kinds: tuple[str, ...] = (),
) -> Observation:
    """Find that the median of a part of a metric is above and/or below limits.

    The first row says nothing of the beginning in a log that begins late: of a resumed run.
    """
    import numpy as np

    found = curve(run, metric, split, minimum=minimum, kinds=kinds)
    if isinstance(found, Observation):
        return found
    if part == "first" and _begins_late(found):
        return unobservable(
            f"the log of {found.label} begins at step {found.step(0)}", *TRAIN_FILES
        )
    values = np.abs(found.values) if magnitude else found.values
    middle = stats.level(values, part)
    which = "first logged" if part == "first" else "last logged" if part == "last" else "median"
    name = f"|{found.label}|" if magnitude else found.label
    text = f"{which} {name}{_of_part(part)} is {number(middle)}"
    held = (above is None or middle > above) and (below is None or middle < below)
    place = 0 if part.startswith("first") else -1
    if not held:
        return absent(f"{text}, not {limits(above, below)}", found.fact(place))
    return present(
        f"{text}, {limits(above, below)} ({len(found)} rows, steps {found.step(0)} to "
        f"{found.step(-1)})",
        found.fact(place),
        curves=(found.curve,),
    )


def _begins_late(found: Points) -> bool:
    """Say whether the first logged step is far beyond the distance of the others."""
    import numpy as np

    steps = np.array([found.step(i) for i in range(len(found))])
    gap = float(np.median(np.diff(steps))) if len(steps) >= LATE_ROWS else 0.0
    return gap > 0 and steps[0] >= max(LATE_STEP, LATE_GAPS * gap)


def limits(above: float | None, below: float | None) -> str:
    """Say two limits in words."""
    if above is not None and below is not None:
        return f"between {number(above)} and {number(below)}"
    return f"above {number(above)}" if above is not None else f"below {number(below or 0.0)}"


def _of_part(part: str) -> str:
    if part in ("first", "last", "whole"):
        return ""
    return f" of the {part.replace('-', ' ')}"


@detector("series.constant")
def constant(
    run: Run,
    *,
    metric: str,
    spread: float,
    minimum: int,
    nonzero: bool = True,
    sqrt_of_groups: bool = False,
    kinds: tuple[str, ...] = (),
) -> Observation:
    """Find a metric that hardly varies: robust scale / |median| below `spread`.

    A `spread` below a millionth asks for one value: then the whole range must be within it.

    With `sqrt_of_groups` the constant must also be the square root of 1 to 8, which is what
    DeepSpeed's norm code returns for as many parameter groups of NaN gradients.
    """
    import numpy as np

    found = curve(run, metric, minimum=minimum, kinds=kinds)
    if isinstance(found, Observation):
        return found
    middle = stats.level(found.values)
    width = stats.scale(found.values) if spread > 1e-6 else float(np.ptp(found.values))
    if sqrt_of_groups:
        found, middle, width = _constant_tail(found, minimum)
    relative = width / abs(middle) if middle else math.inf if width else 0.0
    text = (
        f"{found.label} is {number(middle)} with a spread of {number(width)} over {len(found)} rows"
    )
    if relative > spread or (nonzero and middle == 0.0):
        return absent(text, curves=(found.curve,))
    roots = [k for k in range(1, 9) if abs(middle - math.sqrt(k)) < 1e-5]
    if sqrt_of_groups and not roots:
        return absent(text)
    if sqrt_of_groups:
        text += f": the square root of {roots[0]}, which stands for {roots[0]} groups of NaN"
    return present(text, found.fact(0), curves=(found.curve,), span=Span(found.step(0)))


def _constant_tail(found: Points, minimum: int) -> tuple[Points, float, float]:
    """Return the stretch to the end that equals the last value, at least `minimum` rows of it."""
    import numpy as np

    last = float(found.values[-1])
    length = max(minimum, stats.trailing_run(np.abs(found.values - last) < 1e-6))
    tail = Points(found.series, found.index[-length:])
    return tail, last, float(np.ptp(tail.values))


@detector("series.at_ln_of")
def at_ln_of(
    run: Run,
    *,
    metric: str = "loss",
    sizes: tuple[str, ...],
    tolerance: float = 0.03,
    after_below: float | None = None,
    kinds: tuple[str, ...] = (),
) -> Observation:
    """Find a loss that ends at ln(n), the value of a uniform guess; `sizes` name facts that give n.

    With `after_below`, the loss must have been under that share of ln(n) before.
    """
    found = curve(run, metric, minimum=5, kinds=kinds)
    if isinstance(found, Observation):
        return found
    known = [f for s in sizes if (f := fact_number(run, s)) is not None and f[0] >= 2]
    if not known:
        return unobservable(f"no file gives {sizes[0]}", "config.json")
    end = stats.level(found.values, "last-fifth")
    for size, fact in known:
        chance = math.log(size)
        was_lower = after_below is None or float(found.values.min()) < after_below * chance
        if abs(end - chance) < tolerance and was_lower:
            return present(
                f"{found.label} ends at {number(end)} = ln {size:g}, the loss of a uniform guess "
                f"(lowest before: {number(float(found.values.min()))})",
                found.fact(-1),
                fact,
                curves=(found.curve,),
            )
    return absent(f"{found.label} ends at {number(end)}, ln n is {number(math.log(known[0][0]))}")


@detector("series.first_above_ln_of")
def first_above_ln_of(
    run: Run,
    *,
    metric: str = "loss",
    sizes: tuple[str, ...],
    margin: float = 0.5,
    smallest: int = 2,
    kinds: tuple[str, ...] = (),
) -> Observation:
    """Find a first value above ln(n) + `margin`: worse than a uniform guess among n.

    An n below `smallest` is not judged: every foreign word is worse than a guess among few.
    """
    found = curve(run, metric, kinds=kinds)
    if isinstance(found, Observation):
        return found
    known = [f for s in sizes if (f := fact_number(run, s)) is not None and f[0] >= smallest]
    if not known:
        return unobservable(f"no file gives {sizes[0]}", "config.json")
    size, fact = max(known, key=lambda k: k[0])
    first = float(found.values[0])
    text = f"the first {found.label} is {number(first)}; ln {size:g} is {math.log(size):.2f}"
    if first > math.log(size) + margin:
        return present(text, found.fact(0), fact, curves=(found.curve,))
    return absent(text, found.fact(0))


@detector("series.pair_equal")
def pair_equal(
    run: Run, *, metric: str, other: str, tolerance: float = 1e-6, minimum: int = 3
) -> Observation:
    """Find two metrics that agree on every row to `tolerance` of their size."""
    import numpy as np

    one, two = points(run, metric), points(run, other)
    if one is None or two is None:
        return unobservable(f"{metric} and {other} are not both logged", *TRAIN_FILES)
    size = min(len(one), len(two))
    if size < minimum:
        return too_few(one, minimum)
    equal = np.isclose(one.values[:size], two.values[:size], rtol=tolerance, atol=tolerance)
    text = f"{metric} equals {other} on {int(equal.sum())} of {size} rows"
    if not equal.all():
        return absent(text)
    return present(text, one.fact(-1), two.fact(-1), curves=(metric, other))


@detector("series.parts")
def parts(run: Run, *, suffix: str, at_least: int) -> Observation:
    """Find further train metrics whose names end with `suffix`: the metric of that name sums them.

    `train_loss` and `total_loss` are the sum itself under another name.
    """
    import polars as pl

    if run.metrics.is_empty():
        return unobservable("no training log was found", *TRAIN_FILES)
    names = run.metrics.filter(pl.col("split") == "train")["name"].unique().to_list()
    sums = {suffix, f"train_{suffix}", f"train/{suffix}", f"total_{suffix}"}
    found = sorted(n for n in names if n.endswith(suffix) and n not in sums)
    text = f"{len(found)} further metrics end with {suffix}"
    if len(found) < at_least:
        return absent(text)
    return present(f"{text}: {', '.join(found[:4])}", curves=(suffix,))
