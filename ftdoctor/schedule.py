"""The learning rate that the settings ask for, step by step, to hold against the logged one."""

from __future__ import annotations

import math

from ftdoctor.model import Curve, Run

INTENDED = "learning_rate/intended"
# transformers/optimization.py (4.57): the schedules that need nothing but these settings.
KNOWN = ("linear", "cosine", "constant", "constant_with_warmup")


def intended_rate(run: Run) -> Curve | None:
    """Return the schedule at the logged steps, None if settings or the logged rate are missing."""
    logged = run.series("learning_rate")
    kind, rate = run.setting("lr_scheduler_type"), run.setting("learning_rate")
    total = _number(run, "progress.max_steps") or _number(run, "max_steps")
    if logged is None or len(logged) < 2 or kind is None or rate is None:
        return None
    name, peak = str(kind.value).rpartition(".")[2].lower(), rate.value
    if name not in KNOWN or not isinstance(peak, int | float) or isinstance(peak, bool):
        return None
    warmup = warmup_steps(run, total)
    if warmup is None or (total is None and not name.startswith("constant")):
        return None
    steps = tuple(int(s) for s in logged.steps)
    values = tuple(float(peak) * share(name, step, warmup, total or math.inf) for step in steps)
    return Curve(INTENDED, "train", steps, values, str(kind.where), len(steps))


def warmup_steps(run: Run, total: float | None) -> float | None:
    """Return the steps of warm-up: the number, else the ratio of all steps; None if unknown."""
    count = _number(run, "warmup_steps")
    if count is not None and count >= 1:
        return count
    # From transformers 5 on, a number below one under `warmup_steps` is the ratio.
    ratio = count or _number(run, "warmup_ratio") or 0.0
    if not ratio:
        return 0.0
    return math.ceil(ratio * total) if total is not None else None


def share(name: str, step: float, warmup: float, total: float) -> float:
    """Return the part of the peak rate at a step, 0 to 1."""
    if step < warmup and name != "constant":
        return step / warmup
    if name.startswith("constant"):
        return 1.0
    done = min(max((step - warmup) / max(total - warmup, 1), 0.0), 1.0)
    return 1 - done if name == "linear" else 0.5 * (1 + math.cos(math.pi * done))


def _number(run: Run, name: str) -> float | None:
    fact = run.known(name)
    value = fact.value if fact else None
    usable = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    return float(value) if usable and value is not None else None
