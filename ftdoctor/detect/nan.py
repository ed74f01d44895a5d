"""Detectors on runs that end in NaN, openly or behind losses of 0.0, and on how they got there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from ftdoctor.detect import absent, detector, onset, present, stats, unobservable
from ftdoctor.detect.evaluation import zero_steps
from ftdoctor.detect.log import matches
from ftdoctor.detect.log import prepare as prepare_log
from ftdoctor.detect.points import (
    LIKELIHOOD,
    Points,
    fact_number,
    kind_of,
    number,
    points,
    points_of_kind,
)
from ftdoctor.model import Call, Observation, Run, State
from ftdoctor.render.text import plural

if TYPE_CHECKING:
    import numpy as np

MEAN_OF_A_LOSS = 0.01  # a mean that rows of 0.0 alone cannot have (judgement)

# Of a log that is NaN within six rows: rows that all rise, from the first to the last this many
# times. A loss falls at first, a norm may rise with the warm-up (judgement).
RISING = 3
RISES = {"loss": 3.0, "grad_norm": 10.0}

SEVERAL = 10  # steps that went well: no fault that strikes at the first (judgement)


def prepare(run: Run, calls: Iterable[Call]) -> None:
    """Make the messages of NaN known to the log, so that they are no unknown exceptions."""
    prepare_log(run, calls)


@detector("nan.ends_run")
def ends_run(run: Run, *, patterns: list[str]) -> Observation:
    """Find a run that ends in NaN: in loss, in grad_norm, or behind losses of exactly 0.0.

    A run that looked for NaN itself may end before a row shows one: then it said so by a message
    in which one of the patterns occurs.
    """
    moment = _moment_of_death(run)
    if isinstance(moment, Observation) or moment[1] is None:
        said = matches(run, patterns=patterns, fatal=True)
        if said.state is State.PRESENT:
            return said
    if isinstance(moment, Observation):
        return moment
    found, at = moment
    if at is None:
        return absent(f"{found.label} ends at {number(float(found.values[-1]))}", found.fact(-1))
    good = found.step(at - 1) if at else None
    norm = points(run, "grad_norm")
    rows = len(found) - at
    text = (
        f"{found.label} is {number(float(found.values[at]))} from step {found.step(at)} to the end"
    )
    text += f" ({plural(rows, 'row')})"
    if good is not None:
        text += f", after {number(float(found.values[at - 1]))} at step {good}"
    facts = [found.fact(at)] + ([found.fact(at - 1)] if at else [])
    if norm is not None:
        same = [i for i in range(len(norm)) if norm.step(i) >= found.step(at)][:1]
        for i in same:
            text += f"; grad_norm is {number(float(norm.values[i]))} at step {norm.step(i)}"
            facts.append(norm.fact(i))
    return present(text, *facts, curves=("loss", "grad_norm"), span=onset.at(found, at, good=True))


@detector("nan.mean_loss_zero")
def mean_loss_zero(run: Run) -> Observation:
    """Find a mean train loss of exactly 0 over all steps, in a run that maximises likelihood.

    Where it is above 0, some batch had supervised tokens and a finite loss.
    """
    known = fact_number(run, "summary.train_loss")
    if known is None:
        return unobservable("no mean train loss was reported", "training log (stdout)")
    if kind_of(run) not in (*LIKELIHOOD, ""):
        return unobservable("the mean loss tells this of a run that maximises likelihood only")
    if zero_steps(run).state is State.PRESENT:
        return unobservable("no step was made over which the loss could be averaged")
    text = f"the mean train loss over all steps is {number(known[0])}"
    return (present if known[0] == 0.0 else absent)(text, known[1])


@detector("nan.manner")
def manner(run: Run, *, manner: Literal["climb", "sudden", "start"]) -> Observation:
    """Find how a run went NaN: after a climb of loss or grad_norm, out of the blue, or at once.

    The moment is the first row with NaN loss or grad_norm, or the first 0.0 loss of the last
    stretch. `climb`: the three rows before were over twice the level of the ten before those, in
    loss, or five times in grad_norm, or the few rows of a short log all rose. `start`: within the
    first two logged rows, unless the first is an ordinary mean over several steps.
    """
    moment = _moment_of_death(run)
    if isinstance(moment, Observation):
        return moment
    found, at = moment
    if at is None:
        return absent(f"{found.label} stays a number to step {found.step(-1)}")
    where = f"step {found.step(at)}"
    span = onset.at(found, at, good=True)
    climbed = _climbed(run, found.step(at))
    covered = found.step(0) if run.fact("log.rows_counted") is None else 1
    if at == 1 and covered >= SEVERAL:
        if manner != "start":
            return unobservable(f"only one row before {where}", "a log with smaller logging_steps")
        return absent(f"the first {covered} steps had an ordinary loss, non-finite from {where}")
    if at <= 1:
        actual, text = "start", f"the first non-finite row is row {at + 1} of the log ({where})"
    elif climbed:
        actual, text = "climb", f"before {where}, {climbed}"
    else:
        good = number(found.values[at - 1])
        actual = "sudden"
        text = f"{found.label} is an ordinary {good} one row before it goes non-finite at {where}"
    if actual != manner:
        return absent(text)
    if actual == "sudden" and at < 5:
        return unobservable(f"only {at} rows before {where}", "a log with smaller logging_steps")
    facts = [found.fact(at)] + ([found.fact(at - 1)] if at else [])
    return present(text, *facts, curves=("loss", "grad_norm"), span=span)


def before_death(run: Run, found: Points) -> Points:
    """Return the points of a curve before the run went NaN; all of them if it did not."""
    moment = _moment_of_death(run)
    if isinstance(moment, Observation):
        return found
    loss, dead = moment
    return found if dead is None else found.pick(found.steps < loss.step(dead))


def _moment_of_death(run: Run) -> tuple[Points, int | None] | Observation:
    """Return the curve and the position of its first dead row (None: it did not die).

    Dead is a run that ends in NaN loss or grad_norm, or in losses of exactly 0.0 that replace NaN:
    the HF Trainer writes 0.0 for a logging window without a finite loss. A NaN that is left again
    is a skipped step.
    """
    import numpy as np

    loss = points_of_kind(run, "loss")
    norm = points(run, "grad_norm")
    if isinstance(loss, Observation):
        return loss
    dead = ~np.isfinite(loss.values)
    zero_or_nan = (loss.values == 0.0) | dead
    tail = stats.trailing_run(zero_or_nan)
    starts = []
    if norm is not None and (length := stats.trailing_run(~np.isfinite(norm.values))):
        step = norm.step(len(norm) - length)
        place = min(int(np.searchsorted(loss.steps, step)), len(loss) - 1)
        if length >= 2 or tail:
            starts.append(place)
    if tail and (dead[-tail:].any() or _zeros_hide_nan(run, loss, tail)):
        starts.append(len(loss) - tail)
    return loss, min(starts) if starts else None


def _zeros_hide_nan(run: Run, loss: Points, tail: int) -> bool:
    """Say whether the last `tail` losses of 0.0 stand for NaN rather than for a perfect fit.

    They do if they came in a jump, on three rows or more, in a run that maximises likelihood, and
    grad_norm on these rows is not a plain 0 (which a batch without labels gives). All rows do if
    the mean over all steps is above 0: then the steps before the first row had a loss.
    """
    import numpy as np

    before = loss.values[: len(loss) - tail]
    before = before[np.isfinite(before)]
    if kind_of(run) not in (*LIKELIHOOD, "classification", ""):
        return False
    norm = points(run, "grad_norm")
    mean = fact_number(run, "summary.train_loss")
    if tail == len(loss) and mean is not None and mean[0] > MEAN_OF_A_LOSS:
        return norm is None or not np.isfinite(norm.values).all()
    if tail < 3:
        return False
    late = norm.values[norm.steps >= loss.step(len(loss) - tail)] if norm is not None else None
    odd = late is not None and len(late) > 0 and not (np.abs(late) < 1e-12).all()
    jumped = len(before) > 0 and bool((before[-2:] > 0.1).any())
    if late is None or len(late) == 0:
        return jumped
    return odd and (jumped or not np.isfinite(late).all())


def _climbed(run: Run, step: int) -> str:
    """Say in words how loss or grad_norm climbed in the rows before `step`; "" if it did not."""
    import numpy as np

    for metric, times in (("loss", 1.5), ("grad_norm", 4.0)):
        found = points(run, metric)
        if found is None:
            continue
        before = found.finite.values[found.finite.steps < step]
        if len(before) < 6:
            if _rises(before, RISES[metric]):
                return f"{metric} rose from {number(before[0])} to {number(before[-1])}"
            continue
        end, level_before = float(np.median(before[-3:])), float(np.median(before[-13:-3]))
        if level_before > 0 and end > times * level_before:
            return f"{metric} had climbed from {number(level_before)} to {number(end)}"
    return ""


def _rises(values: np.ndarray, times: float) -> bool:
    """Say whether a few rows rise one after the other, `times` over the first in all."""
    rises = bool((values[1:] > values[:-1]).all())
    return len(values) >= RISING and rises and bool(values[-1] > times * values[0] > 0)
