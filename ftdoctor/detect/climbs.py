"""Detector of a loss that climbs back in the middle of training, whether or not it recovers."""

from __future__ import annotations

from ftdoctor.detect import absent, detector, present
from ftdoctor.detect.points import curve, number
from ftdoctor.model import Observation, Run, Span


@detector("climbs.back")
def back(
    run: Run,
    *,
    metric: str = "loss",
    by: float,
    above: float,
    window: int = 5,
    kinds: tuple[str, ...] = (),
) -> Observation:
    """Find medians of `window` rows that rise `by` a share over their lowest before.

    A loss below `above` moves by such shares without harm and is left alone.
    """
    import numpy as np

    found = curve(run, metric, minimum=4 * window, kinds=kinds)
    if isinstance(found, Observation):
        return found
    windows = np.lib.stride_tricks.sliding_window_view(found.values, window)
    middles = np.median(windows, axis=1)
    lowest = np.minimum.accumulate(middles)
    rise = np.where(lowest > above, middles / np.maximum(lowest, 1e-9), 1.0)
    top = int(rise.argmax())
    low = int(middles[: top + 1].argmin())
    text = f"medians of {window} rows of {found.label} rise at most from {number(middles[low])}"
    text = f"{text} (step {found.step(low)}) to {number(middles[top])} (step {found.step(top)})"
    if rise[top] < 1 + by:
        return absent(text)
    return present(
        text, found.fact(low), found.fact(top), curves=(found.curve,), span=Span(found.step(low))
    )
