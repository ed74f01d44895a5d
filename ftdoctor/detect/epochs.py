"""Detectors that compare epochs: how many, equal losses, equal order, steps at their borders."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from ftdoctor.detect import absent, detector, present, stats, unobservable
from ftdoctor.detect.classes import labels_learnt
from ftdoctor.detect.points import (
    Points,
    curve,
    last_epoch,
    number,
)
from ftdoctor.detect.solved import success
from ftdoctor.model import Observation, Run
from ftdoctor.render.text import plural

if TYPE_CHECKING:
    pass


@detector("epochs.reached")
def reached(
    run: Run, *, at_least: float | None = None, at_most: float | None = None
) -> Observation:
    """Find how often the data were seen: the last epoch logged against limits."""
    known = last_epoch(run)
    if known is None:
        return unobservable("no row tells the epoch", "trainer_state.json", "training log (stdout)")
    value, fact = known
    text = f"training reached epoch {number(round(value, 2))}"
    above = at_least is None or value >= at_least
    if above and (at_most is None or value <= at_most):
        return present(text, fact)
    return absent(text, fact)


def _by_epoch(
    run: Run, metric: str, rows: int, kinds: tuple[str, ...]
) -> list[Points] | Observation:
    """Return the points of each whole epoch, if at least two epochs have `rows` points."""
    import numpy as np

    found = curve(run, metric, minimum=2 * rows, kinds=kinds)
    if isinstance(found, Observation):
        return found
    if not np.isfinite(found.epochs).all():
        return unobservable(f"{found.label} is logged without epochs", "trainer_state.json")
    # A row belongs to the epoch that it ends: epoch 1.0 is the last row of the first.
    owner = np.ceil(found.epochs - 1e-6).astype(int)
    pieces = [found.pick(owner == e) for e in range(1, int(owner.max()) + 1)]
    pieces = [p for p in pieces if len(p) >= rows]
    if len(pieces) < 2:
        return unobservable(
            f"{len(pieces)} epochs with {rows} logged points; 2 are needed to compare epochs",
            "a log with smaller logging_steps",
        )
    return pieces


@detector("epochs.repeat")
def repeat(run: Run, *, metric: str = "loss", kinds: tuple[str, ...] = ()) -> Observation:
    """Find losses that equal those of the epoch before to 4 decimals (90 % of 10 or more pairs)."""
    import numpy as np

    pieces = _by_epoch(run, metric, 10, kinds)
    if isinstance(pieces, Observation):
        return pieces
    equal = total = 0
    for one, two in pairwise(pieces):
        size = min(len(one), len(two))
        equal += int((np.abs(one.values[:size] - two.values[:size]) < 1e-4).sum())
        total += size
    varied = len(np.unique(pieces[0].values)) >= 5
    text = f"{equal} of {total} {metric} values equal those of the epoch before to 4 decimals"
    if not varied or equal < 0.9 * total:
        return absent(text)
    return present(text, pieces[0].fact(0), pieces[1].fact(0), curves=(pieces[0].curve,))


@detector("epochs.same_order")
def same_order(
    run: Run, *, metric: str = "loss", above: float = 0.5, kinds: tuple[str, ...] = ()
) -> Observation:
    """Find residuals of the loss that correlate between consecutive epochs (same batches again)."""
    pieces = _by_epoch(run, metric, 20, kinds)
    if isinstance(pieces, Observation):
        return pieces
    found = []
    for one, two in pairwise(pieces):
        size = min(len(one), len(two))
        found.append(
            stats.spearman(stats.residuals(one.values)[:size], stats.residuals(two.values)[:size])
        )
    middle = sorted(found)[len(found) // 2]
    text = f"{metric} of consecutive epochs correlates by {middle:.2f} at the same positions"
    if middle <= above:
        return absent(text)
    return present(text, pieces[1].fact(0), curves=(pieces[0].curve,))


@detector("epochs.step_at_border")
def step_at_border(
    run: Run,
    *,
    metric: str = "loss",
    direction: Literal["down", "up"],
    share: float = 0.05,
    kinds: tuple[str, ...] = (),
) -> Observation:
    """Find level shifts at epoch borders, of one sign at most of them, beyond those elsewhere.

    Compared are the medians of the five points on either side; 95 % of the same figure taken at
    all other places must be smaller.
    """
    import numpy as np

    pieces = _by_epoch(run, metric, 10, kinds)
    if isinstance(pieces, Observation):
        return pieces
    whole = np.concatenate([p.values for p in pieces])
    borders = np.cumsum([len(p) for p in pieces])[:-1]
    if stats.level(whole) < 0.05:
        return absent(f"{metric} is too near 0 for shifts to be told from noise")

    medians = np.median(np.lib.stride_tricks.sliding_window_view(whole, 5), axis=1)
    before, after = medians[:-5], medians[5:]  # of the place 5 + index
    shifts = np.divide(after, before, out=np.ones_like(before), where=before > 0) - 1
    at_borders = shifts[borders - 5]
    places = np.arange(5, len(whole) - 5)
    far = np.searchsorted(borders, places - 5, "right") == np.searchsorted(borders, places + 5)
    elsewhere = np.abs(shifts[places[far] - 5])
    elsewhere = elsewhere if elsewhere.size else np.array([0.0])
    limit = max(share, float(np.quantile(elsewhere, 0.95)))
    sign = -1 if direction == "down" else 1
    hits = int((sign * at_borders > limit).sum())
    middle = float(np.median(at_borders))
    text = f"{metric} shifts by {middle:+.0%} (median) at {plural(len(borders), 'epoch border')}"
    if hits < max(1, math.ceil(len(borders) / 2)):
        return absent(text)
    return present(
        f"{text}, {direction} at {hits} of them", pieces[1].fact(0), curves=(pieces[0].curve,)
    )


@detector("epochs.falls_early_to")
def falls_early_to(
    run: Run,
    *,
    metric: str = "loss",
    below: float,
    within_epochs: float,
    kinds: tuple[str, ...] = (),
) -> Observation:
    """Find a loss whose median of three rows is under a limit before the data were seen once.

    Labels and the like are learnt from a part of the rows, so that it tells nothing of them.
    """
    import numpy as np

    found = curve(run, metric, minimum=8, kinds=kinds)
    if isinstance(found, Observation):
        return found
    if labels := labels_learnt(run):
        return unobservable(f"A loss near zero is success here: {labels}")
    if not np.isfinite(found.epochs).all():
        return unobservable(f"{found.label} is logged without epochs", "trainer_state.json")
    early = found.pick(found.epochs <= within_epochs)
    if len(early) < 4:
        return unobservable(
            f"{len(early)} rows within the first epoch; 4 are needed",
            "a log with smaller logging_steps",
        )
    end = float(np.median(early.values[-3:]))
    text = f"{found.label} is {number(end)} at epoch {float(early.epochs[-1]):.2f}"
    if end < below and early.values[0] > 2 * below:
        if why := success(run):
            return unobservable(f"A loss near zero is success here: {why}")
        return present(text, early.fact(-1), curves=(found.curve,))
    return absent(text, early.fact(-1))
