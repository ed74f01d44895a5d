"""Detectors on spikes of loss and grad_norm, and on spikes that come back each epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftdoctor.detect import absent, detector, onset, present, stats, unobservable
from ftdoctor.detect.points import (
    curve,
    number,
    points,
)
from ftdoctor.model import Observation, Run
from ftdoctor.render.text import plural

if TYPE_CHECKING:
    pass


@detector("spikes.loss")
def loss(
    run: Run,
    *,
    metric: str = "loss",
    recovered: bool,
    minimum: int = 20,
    kinds: tuple[str, ...] = (),
) -> Observation:
    """Find loss spikes that go back (`recovered`) or that leave the level raised by over 10 %.

    A spike must be confirmed: grad_norm up fivefold at the same rows, two rows in a row, or twice
    the level; batch-1 logs are heavy-tailed and would show one in most runs otherwise.
    """
    found = curve(run, metric, minimum=minimum, kinds=kinds)
    if isinstance(found, Observation):
        return found
    confirmed = [
        s
        for s in stats.spikes(found.values)
        if s.before > 0.05
        and (s.run >= 2 or s.ratio > 2 or _gradient_spikes(run, found.step(s.index)))
    ]
    if recovered:
        hits = [s for s in confirmed if s.back]
    else:
        hits = [s for s in confirmed if s.settled > 1.1 * s.before]
        hits = [s for s in hits if stats.level(found.values, "last-tenth") > 1.1 * s.before]
    if not hits:
        return absent(f"{found.label} shows no such spike in {len(found)} rows")
    worst = max(hits, key=lambda s: s.ratio)
    ending = "returns" if recovered else f"settles at {number(worst.settled)}"
    return present(
        f"{found.label} jumps from {number(worst.before)} to "
        f"{number(float(found.values[worst.index : worst.index + worst.run].max()))} at step "
        f"{found.step(worst.index)} and {ending}"
        + (f" ({len(hits)} spikes)" if len(hits) > 1 else ""),
        found.fact(worst.index),
        curves=(found.curve,),
        span=onset.at(found, worst.index, good=True),
    )


def _gradient_spikes(run: Run, step: int) -> bool:
    """Say whether grad_norm stands at five times its rolling median within a row of `step`."""
    found = points(run, "grad_norm")
    if found is None or len(found.finite) < 5:
        return False
    found = found.finite
    near = int(abs(found.steps - step).argmin())
    window = slice(max(0, near - 1), near + 2)
    usual = stats.rolling_median(found.values, 25)[window]
    return bool((found.values[window] > 5 * usual).any())


@detector("spikes.gradient")
def gradient(run: Run, *, times: float = 5.0, sigmas: float = 8.0) -> Observation:
    """Find grad_norm rows above `times` the median before them and `sigmas` noise widths."""
    found = curve(run, "grad_norm", minimum=20)
    if isinstance(found, Observation):
        return found
    hits = stats.spikes(found.values, times=times, sigmas=sigmas)
    if not hits:
        return absent(
            f"grad_norm stays within {times:g} times its level over {plural(len(found), 'row')}"
        )
    worst = max(hits, key=lambda s: s.ratio)
    peak, step = number(float(found.values[worst.index])), found.step(worst.index)
    return present(
        f"grad_norm jumps to {peak} at step {step}, {worst.ratio:.0f} times its level "
        f"({plural(len(hits), 'such row')})",
        found.fact(worst.index),
        curves=("grad_norm",),
        span=onset.at(found, worst.index),
    )


@detector("spikes.each_epoch")
def each_epoch(run: Run, *, metric: str = "loss", kinds: tuple[str, ...] = ()) -> Observation:
    """Find spikes at the same place of two or more epochs, five times as often as by chance."""
    import numpy as np

    found = curve(run, metric, minimum=40, kinds=kinds)
    if isinstance(found, Observation):
        return found
    if not np.isfinite(found.epochs).all() or found.epochs[-1] < 1.5:
        return unobservable("fewer than two epochs were logged with epochs", "trainer_state.json")
    hits = stats.spikes(found.values)
    whole = float(found.epochs[-1])
    width = max(2 * whole / len(found), 0.002)
    places = [(float(found.epochs[s.index]), s.index) for s in hits]
    pairs = [(a, b) for k, a in enumerate(places) for b in places[k + 1 :] if b[0] - a[0] > 0.5]
    again = [(a, b) for a, b in pairs if abs((b[0] - a[0] + 0.5) % 1.0 - 0.5) < width]
    text = f"{plural(len(hits), 'spike')}, of which {plural(len(again), 'pair')} "
    text += "at one place of two epochs"
    # So many pairs would meet by chance, spikes being anywhere in the epoch.
    if len(again) < max(1.0, 5 * 2 * width * len(pairs)):
        return absent(text)
    (_, first), (_, second) = again[0]
    return present(
        f"{text} (steps {found.step(first)} and {found.step(second)})",
        found.fact(first),
        found.fact(second),
        curves=(found.curve,),
    )
