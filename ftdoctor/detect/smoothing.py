"""Detector of a loss that stands on the floor which label smoothing gives it."""

from __future__ import annotations

import math

from ftdoctor.detect import absent, detector, present, stats, unobservable
from ftdoctor.detect.points import LIKELIHOOD, curve, fact_number, number, setting_number
from ftdoctor.model import Observation, Run


@detector("smoothing.at_floor")
def at_floor(run: Run, *, below: float, above: float) -> Observation:
    """Find a loss that ends within `below` to `above` times the floor of its label smoothing.

    Smoothed targets of `epsilon` over V tokens have an entropy that no model can go below:
    1 - epsilon + epsilon / V on the label, epsilon / V on each other token.
    """
    factor = setting_number(run, "label_smoothing_factor")
    if factor is None or not 0 < factor[0] < 1:
        text = "No label smoothing is set" if factor else "Whether labels are smoothed is not known"
        return absent(text, factor[1]) if factor else unobservable(text, "training arguments")
    size = fact_number(run, "model.vocab_size", "tokenizer.vocab_size")
    if size is None or size[0] < 2:
        return unobservable("The size of the vocabulary is not known", "config.json")
    found = curve(run, "loss", minimum=5, kinds=LIKELIHOOD)
    if isinstance(found, Observation):
        return found
    floor = entropy(factor[0], size[0])
    end = stats.level(found.values, "last-fifth")
    text = (
        f"loss ends at {number(end)}; label smoothing of {number(factor[0])} over {size[0]:,.0f} "
        f"tokens has its floor at {number(floor)}"
    )
    near = below * floor <= end <= above * floor
    return (present if near else absent)(text, found.fact(-1), factor[1], size[1])


def entropy(epsilon: float, size: float) -> float:
    """Return the entropy in nats of a label smoothed by `epsilon` over `size` tokens."""
    other = epsilon / size
    own = 1 - epsilon + other
    return -own * math.log(own) - (size - 1) * other * math.log(other)
