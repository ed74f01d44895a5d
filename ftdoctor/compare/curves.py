"""Differences of curves: where the failed run leaves the band of noise around the good one."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftdoctor.compare.difference import CurvePair, Difference, in_good
from ftdoctor.curves import thin
from ftdoctor.detect import stats
from ftdoctor.model import Curve, Run, Series, Value

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

LEAST = 5  # points of both runs in the stretch that both have
SIGMAS = 3.0  # of the good run's noise
TOLERANCE = 0.1  # of the level: two seeds of one configuration differ by less (judgement)
SMOOTHING = 9  # points of the rolling median
MOST = 40  # curves; the first are the telling ones
TELLING = ("loss", "reward", "grad_norm", "kl", "entropy", "learning_rate")
NOT_TELLING = frozenset({
    "epoch", "total_flos", "runtime", "samples_per_second", "steps_per_second", "num_tokens",
    "step_time", "learning_rate",
})  # fmt: skip
SURPRISE = {"loss": 15.0, "eval/loss": 15.0, "reward": 12.0, "grad_norm": 8.0}
# Words in the names of other metrics: what tells how well it learns, and what tells how fast.
LEARNS = re.compile(r"loss|reward|score|accura|skip|margin|f1|bleu|rouge|perplexity")
MACHINE = re.compile(r"mem|alloc|per_?sec|runtime|time|power|util")
LEARNING, OTHER, EVERYDAY = 10.0, 5.0, 1.0
PLOTTED = 4
POINTS = 300


@dataclass(frozen=True)
class _Aligned:
    """Both curves, smoothed, at the failed run's points of the stretch that both have."""

    good: Array
    bad: Array
    steps: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int64]
    width: float


def compare_curves(
    good: Run, bad: Run
) -> tuple[tuple[CurvePair, ...], list[Difference], list[str]]:
    """Return the pairs to draw, the differences, and the names of the curves compared."""
    pairs: list[CurvePair] = []
    found: list[Difference] = []
    seen: list[str] = []
    for name, split in _common(good, bad):
        left, right = good.series(name, split), bad.series(name, split)
        if left is None or right is None or (aligned := _align(left, right)) is None:
            continue
        key = name if split == "train" else f"{split}/{name}"
        seen.append(f"curve.{key}")
        start = _leaves(aligned)
        if start is not None:
            found.append(_difference(key, left, right, aligned, start))
        elif (longer := _continuation(key, left, right)) is not None:
            found.append(longer)
        step = None if start is None else int(aligned.steps[start])
        if len(pairs) < PLOTTED:
            curves: list[Curve] = [thin(s, POINTS) for s in (left, right)]
            pairs.append(CurvePair(key, curves[0], curves[1], aligned.width, step))
    return tuple(pairs), found, seen


def _common(good: Run, bad: Run) -> list[tuple[str, str]]:
    both = set(good.series_names()) & set(bad.series_names())
    told = [n for n in both if n[0] not in NOT_TELLING and n[1] in ("train", "eval")]

    def order(item: tuple[str, str]) -> tuple[int, str, str]:
        name, split = item
        return (TELLING.index(name) if name in TELLING else len(TELLING), split, name)

    return sorted(told, key=order)[:MOST]


def _align(good: Series, bad: Series) -> _Aligned | None:
    """Lay both curves over each other, by epoch if their epochs differ in length, else by step."""
    import numpy as np

    left, right = np.isfinite(good.values), np.isfinite(bad.values)
    by_epoch = not math.isclose(_epoch_steps(good), _epoch_steps(bad), rel_tol=0.1)
    x = good.epochs if by_epoch else good.steps.astype(float)
    y = bad.epochs if by_epoch else bad.steps.astype(float)
    if left.sum() < LEAST or len(bad) < LEAST:
        return None
    inside = (y >= x[left].min()) & (y <= x[left].max())
    if inside.sum() < LEAST or ((x >= y.min()) & (x <= y.max()) & left).sum() < LEAST:
        return None
    order = np.argsort(x[left], kind="stable")
    known = _smooth(good.values[left][order])
    values = np.where(right, bad.values, np.inf)
    level = np.interp(y[inside], x[left][order], known)
    noise = stats.noise(good.values[left])
    width = max(SIGMAS * noise, TOLERANCE * abs(float(np.median(known))))
    return _Aligned(
        level, _smooth(values[inside]), bad.steps[inside], np.flatnonzero(inside), width
    )


def _epoch_steps(series: Series) -> float:
    """Return the steps of one epoch, 0 if the epochs are not known."""
    import numpy as np

    if not len(series) or not np.isfinite(series.epochs).all() or series.epochs[-1] <= 0:
        return 0.0
    return float(series.steps[-1]) / float(series.epochs[-1])


def _smooth(values: Array) -> Array:
    return stats.rolling_median(values, min(SMOOTHING, max(3, len(values) // 10)) | 1)


def _leaves(aligned: _Aligned) -> int | None:
    """Return from which point on the failed run stays outside the band; a fifth at least must."""
    import numpy as np

    outside = np.abs(aligned.bad - aligned.good) > aligned.width
    length = stats.trailing_run(outside)
    return len(outside) - length if length >= max(2, len(outside) / 5) else None


def _difference(key: str, good: Series, bad: Series, aligned: _Aligned, start: int) -> Difference:
    levels = _level(aligned.good), _level(aligned.bad)
    step = int(aligned.steps[start])
    text = (
        f"{key} ends at {_told(levels[1])}, in the good run at {_told(levels[0])}; outside "
        f"its band of ±{aligned.width:.3g} from step {step} on"
    )
    return Difference(
        "curve", key, levels[0], levels[1], _surprise(key), text,
        in_good(good.where(len(good) - 1)), bad.where(int(aligned.indices[start])),
    )  # fmt: skip


def _surprise(key: str) -> float:
    """Return in decibans how seldom a metric of that name differs between two runs that work."""
    if key in SURPRISE:
        return SURPRISE[key]
    if MACHINE.search(key.lower()):
        return EVERYDAY
    return LEARNING if LEARNS.search(key.lower()) else OTHER


def _continuation(key: str, good: Series, bad: Series) -> Difference | None:
    """Return how two checkpoints of one run differ: one log is the beginning of the other."""
    import numpy as np

    short = min(len(good), len(bad))
    if len(good) == len(bad) or not np.array_equal(good.values[:short], bad.values[:short]):
        return None
    ends = float(good.values[-1]), float(bad.values[-1])
    text = (
        f"one run: {key} is {_told(ends[1])} at step {int(bad.steps[-1])}, at the good "
        f"checkpoint's step {int(good.steps[-1])} it is {_told(ends[0])}"
    )
    return Difference(
        "curve", key, ends[0], ends[1], _surprise(key) / 2, text,
        in_good(good.where(len(good) - 1)), bad.where(len(bad) - 1),
    )  # fmt: skip


def _level(values: Array) -> Value:
    level = stats.level(values, "last-fifth")
    return round(level, 6) if math.isfinite(level) else math.inf


def _told(level: float) -> str:
    return f"{level:.4g}" if math.isfinite(level) else "no finite value"
