"""Detectors on trouble of any origin: what no healthy curve does, whatever the fault may be.

They look at every curve that was logged, so their limits are wide: see `signatures check` and the
runs of signatures/calibration.md for how seldom healthy runs reach them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ftdoctor.detect import absent, detector, onset, present, stats, unobservable
from ftdoctor.detect.points import (
    LIKELIHOOD,
    TRAIN_FILES,
    Points,
    curve,
    effective,
    kind_of,
    number,
)
from ftdoctor.model import Observation, Run
from ftdoctor.render.text import plural

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# Parts of names whose values have one good direction in every kind of run.
BETTER_HIGH = ("accuracy", "exact_match", "f1", "bleu", "rouge")
BETTER_LOW = ("perplexity", "wer", "cer")
GROWING = ("loss", "norm")  # parts of names that no run lets grow a hundredfold
SPLITS = ("train", "eval", "test")
BORDER = 0.05  # of an epoch: levels change there in healthy runs


@detector("trouble.worsens")
def worsens(run: Run, *, share: float, sigmas: float = 6.0, minimum: int = 6) -> Observation:
    """Find a score that ends worse than it began, by `share` of its size and `sigmas` of noise.

    Scores are those whose name tells which way is better, and in runs that maximise likelihood the
    evaluation loss. Entropy is none: it rises in healthy runs on a narrow base.
    """
    likelihood = kind_of(run) in ("", *LIKELIHOOD)
    looked = 0
    for found in _curves(run, minimum):
        name = found.series.name.lower()
        evaluated = found.series.split != "train"
        low = _named(name, BETTER_LOW) or (likelihood and evaluated and name.endswith("loss"))
        if not low and not _named(name, BETTER_HIGH):
            continue
        looked += 1
        first = stats.level(found.values, "first-fifth")
        last = stats.level(found.values, "last-fifth")
        worse = last - first if low else first - last
        if worse > max(share * abs(first), sigmas * stats.noise(found.values)):
            return present(
                f"{found.label} goes from {number(first)} to {number(last)}, which is worse",
                found.fact(-1),
                found.fact(0),
                curves=(found.curve,),
                span=onset.change(found, rising=low),
            )
    if not looked:
        return unobservable("no score with a good direction was logged", *TRAIN_FILES)
    return absent(f"no worse at the end than at the start: {plural(looked, 'score')}")


@detector("trouble.grows")
def grows(run: Run, *, times: float, minimum: int = 15) -> Observation:
    """Find a loss or norm of any name whose level at the end is `times` that at the start."""
    looked = 0
    for found in _curves(run, minimum):
        if not _named(found.series.name.lower(), GROWING) or found.series.split != "train":
            continue
        looked += 1
        first = stats.level(found.values, "first-fifth")
        last = stats.level(found.values, "last-fifth")
        if first > 1e-6 and last > times * first:
            return present(
                f"{found.label} grows from {number(first)} to {number(last)}",
                found.fact(-1),
                curves=(found.curve,),
                span=onset.change(found),
            )
    if not looked:
        return unobservable("no loss and no norm was logged", *TRAIN_FILES)
    return absent(
        f"within {times:g} times the start: {plural(looked, 'curve')} of losses and norms"
    )


@detector("trouble.nonfinite")
def nonfinite(run: Run, *, rows: int = 3) -> Observation:
    """Find a loss, norm or score that ends in NaN or infinity on `rows` rows, after numbers."""
    import numpy as np

    looked = 0
    for name, split in run.series_names():
        series = run.series(name, split)
        telling = _named(name.lower(), (*GROWING, *BETTER_HIGH, *BETTER_LOW))
        if series is None or split not in SPLITS or not telling:
            continue
        looked += 1
        found = effective(series)
        tail = stats.trailing_run(~np.isfinite(found.values))
        if rows <= tail < len(found):
            start = len(found) - tail
            return present(
                f"{found.label} is {number(float(found.values[start]))} from step "
                f"{found.step(start)} to the end ({plural(tail, 'row')})",
                found.fact(start),
                curves=(found.curve,),
                span=onset.at(found, start, good=True),
            )
    if not looked:
        return unobservable("no loss, norm or score was logged", *TRAIN_FILES)
    return absent(f"ending in a number: {plural(looked, 'curve')} of losses, norms and scores")


@detector("trouble.repeats")
def repeats(run: Run, *, metric: str, share: float, minimum: int = 40) -> Observation:
    """Find a noisy metric that equals its predecessor to the last digit on `share` of the rows."""
    import numpy as np

    found = curve(run, metric, minimum=minimum)
    if isinstance(found, Observation):
        return found
    same = float((np.diff(found.values) == 0).mean())
    kinds = len(np.unique(found.values))
    text = f"{found.label} repeats the value before on {same:.0%} of {len(found)} rows"
    if same < share or stats.level(found.values) == 0 or kinds < minimum // 4:
        return absent(text)
    return present(text, found.fact(1), curves=(found.curve,))


@detector("trouble.jumps")
def jumps(
    run: Run,
    *,
    metric: str,
    share: float,
    falls: bool = False,
    sigmas: float = 8.0,
    rows: int = 10,
) -> Observation:
    """Find a step up in the level of a metric, or with `falls` down, by `share` and `sigmas`.

    `rows` rows before and as many after it are compared; borders of epochs are left out.
    """
    import numpy as np

    found = curve(run, metric, minimum=4 * rows)
    if isinstance(found, Observation):
        return found
    values = -found.values if falls else found.values
    windows = np.lib.stride_tricks.sliding_window_view(values, rows)
    before, after = windows[:-rows], windows[rows:]
    # All rows after lie above all rows before, and by more than the rows on either side differ.
    gap = after.min(axis=1) - before.max(axis=1)
    step = np.median(after, axis=1) - np.median(before, axis=1)
    spread = np.maximum(np.ptp(before, axis=1), np.ptp(after, axis=1))
    size = np.maximum(np.abs(np.median(before, axis=1)), 1e-12)
    hit = (gap > 0) & (step > share * size) & (step > sigmas * stats.noise(values))
    hit &= step > 2 * spread
    hit &= ~_at_border(found)[rows : rows + len(hit)]
    text = f"the level of {found.label} changes by no more than its scatter between rows"
    if not hit.any():
        return absent(text, curves=(found.curve,))
    place = int(np.where(hit, step, -np.inf).argmax())
    levels = [float(np.median(found.values[slice(*s)])) for s in (
        (place, place + rows), (place + rows, place + 2 * rows))]  # fmt: skip
    span = onset.at(found, place + rows, good=True)
    return present(
        f"{found.label} steps from {number(levels[0])} to {number(levels[1])} at {span}",
        found.fact(place + rows),
        curves=(found.curve,),
        span=span,
    )


def _at_border(found: Points) -> npt.NDArray[np.bool_]:
    """Return [n]: whether a row lies at the border of two epochs; all False if none are known."""
    import numpy as np

    away = np.abs(found.epochs - np.round(found.epochs))
    nearest = np.round(found.epochs) >= 1
    near = np.maximum(BORDER, np.append(0.0, np.abs(np.diff(found.epochs))))
    return np.asarray(np.isfinite(found.epochs) & nearest & (away <= near))


def _curves(run: Run, minimum: int) -> Iterator[Points]:
    for name, split in run.series_names():
        series = run.series(name, split)
        if series is not None and split in SPLITS:
            found = effective(series).finite
            if len(found) >= minimum:
                yield found


def _named(name: str, parts: tuple[str, ...]) -> bool:
    """Say whether one of the words of a metric's name is in `parts` (`eval/rouge_l`: rouge)."""
    words = set(name.replace("/", "_").replace("-", "_").split("_"))
    return any(part in words or (len(part) > 4 and part in name) for part in parts)
