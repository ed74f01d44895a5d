"""Where something began, with its uncertainty: `change` dates a curve, `at` a single row.

The method is two-phase regression with a searched change point (Quandt 1958, Hinkley 1971): of the
rows about the place where a curve leaves its best level for good, those before and those after are
fitted with a straight line each; the split with the least squares is the onset, and the splits
that fit nearly as well (profile likelihood) are its uncertainty. A line takes a jump as well as a
ramp. Positive curves are fitted in logarithms, since losses and norms grow by factors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftdoctor.detect import stats
from ftdoctor.detect.points import Points
from ftdoctor.model import Span

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

SMOOTHED = 5  # rows of the median that says whether a curve is back at its best level
SIGMAS = 3.0  # noise widths above the best level
LEAST_WINDOW = 10  # rows on either side that are fitted, or a part of the curve if that is more
PART_OF_CURVE = 8
# Drop of -2 log L that the interval allows: chi-squared, 95 % with three parameters (split, jump,
# kink). Of simulated jumps, ramps and exponential rises with 5 % outliers, 75 to 100 % lie inside.
PROFILE = 7.81


def at(found: Points, place: int, *, until: int | None = None, good: bool = False) -> Span:
    """Return the span of what is first seen at one row: it began after the row before.

    `until` is the last step of it; `good` says that the row before was as it should be.
    """
    before = found.step(place - 1) if place else None
    within = 0 if before is None else found.step(place) - before
    return Span(found.step(place), until, last_good=before if good else None, within=within)


def change(found: Points, *, rising: bool = True) -> Span | None:
    """Return where a curve of finite values left its best level for good, None if it did not.

    The best level is the lowest if `rising`, else the highest. The step is that of the first row
    after the change; `last_good` is the row before the earliest possible one.
    """
    import numpy as np

    values = np.log(found.values) if (found.values > 0).all() else found.values
    left = _left_for_good(values if rising else -values)
    if left is None:
        return None
    width = max(LEAST_WINDOW, len(values) // PART_OF_CURVE)
    begin = max(0, left - 1 - width)
    window = slice(begin, left + width)
    splits = _splits(
        found.steps[window].astype(float), values[window], left - begin + SMOOTHED // 2
    )
    if splits is None:
        return None
    first, best, last = (begin + split for split in splits)
    step = found.step(best)
    edges = (found.step(best - 1), found.step(first), found.step(last))
    return Span(
        step, last_good=found.step(first - 1), within=max(abs(step - edge) for edge in edges)
    )


def _left_for_good(values: Array) -> int | None:
    """Return the row from which the curve stays above its lowest level; None if it ends there."""
    import numpy as np

    smooth = stats.rolling_median(values, min(SMOOTHED, max(3, len(values) // 3)))
    lowest = np.minimum.accumulate(smooth)
    left = int(np.flatnonzero(smooth <= lowest + SIGMAS * stats.noise(values))[-1]) + 1
    return left if left < len(values) else None


def _splits(x: Array, y: Array, latest: int) -> tuple[int, int, int] | None:
    """Return the first, best and last split of rows [n] into two lines, none after `latest`.

    None if n < 3.
    """
    import numpy as np

    if len(y) < 3:
        return None
    x = (x - x.mean()) / max(float(np.ptp(x)), 1e-12)
    y = y - y.mean()
    costs = (_misfit(x[::-1], y[::-1])[::-1] + _misfit(x, y))[1:-1][:latest]
    best = int(costs.argmin())
    error = max(float(costs[best]) / max(len(y) - 5, 1), 1e-12)
    close = np.flatnonzero(costs - costs[best] <= PROFILE * error)
    return int(close[0]) + 1, best + 1, int(close[-1]) + 1


def _misfit(x: Array, y: Array) -> Array:
    """Return [n + 1]: squares left by the best line through the rows from each one to the end."""
    import numpy as np

    def rest(part: Array) -> Array:
        found: Array = np.append(np.cumsum(part[::-1])[::-1], 0.0)
        return found

    count = np.maximum(np.arange(len(y), -1, -1.0), 1.0)
    sum_x, sum_y = rest(x), rest(y)
    across = rest(x * x) - sum_x**2 / count
    up = rest(y * y) - sum_y**2 / count
    both = rest(x * y) - sum_x * sum_y / count
    slanted = np.divide(both**2, across, out=np.zeros_like(both), where=across > 1e-12)
    found: Array = np.maximum(up - slanted, 0.0)
    return found
