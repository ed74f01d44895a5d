"""Detectors on what preference and reinforcement runs show from their first row on."""

from __future__ import annotations

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.lr import beyond
from ftdoctor.detect.points import Points, kind_of, number, points
from ftdoctor.detect.rl import RL_FILES, rewards
from ftdoctor.model import Observation, Run, State

EQUAL = 0.95  # share of rows (judgement: one completion cut short may differ)
BEYOND_USE = 20.0  # times the usual range at which a few steps move a policy anywhere (judgement)
SPREADS = ("reward_std", "frac_reward_zero_std")


@detector("starts.one_reward")
def one_reward(run: Run, *, minimum: int = 10) -> Observation:
    """Find that every completion of the run gets one positive reward, from the first row on.

    A reward that is 0 or less throughout is never earned, which is another fault.
    """
    import numpy as np

    found = rewards(run, minimum)
    if isinstance(found, Observation):
        return found
    value = float(np.median(found.values))
    same = float((np.abs(found.values - value) < 1e-6).mean())
    text = f"{found.label} is {number(value)} on {same:.0%} of {len(found)} rows"
    if value <= 0 or same < EQUAL or found.values[0] != value:
        return absent(text, found.fact(0))
    spread = next((p.finite for n in SPREADS if (p := points(run, n)) is not None), None)
    if spread is None or len(spread) < minimum:
        return unobservable("no spread of rewards within groups was logged", *RL_FILES)
    still = spread.values > 1 - 1e-6 if spread.series.name != SPREADS[0] else spread.values < 1e-6
    text = f"{text}, without spread on {float(still.mean()):.0%}"
    if float(still.mean()) >= EQUAL:
        return present(f"{text}, from the first on", found.fact(0), curves=(found.curve,))
    return absent(text, found.fact(0))


@detector("starts.rewards_far")
def rewards_far(run: Run, *, above: float) -> Observation:
    """Find implicit rewards beyond `above` in the first logged row of a preference run.

    Unobservable where a rate far beyond use had some steps to move the policy before that row.
    """
    if (far := _farthest(run)) is None:
        return unobservable("no rewards of a preference run were logged", *RL_FILES)
    value = float(far.values[0])
    text = f"first logged |{far.label}| is {number(abs(value))} at step {far.step(0)}"
    if abs(value) <= above:
        return absent(f"{text}, not above {number(above)}", far.fact(0))
    rate = _rate_beyond_use(run)
    if rate.state is State.PRESENT and far.step(0) > 1:
        return unobservable(
            f"{text}: {rate.text}, and such steps move it so far", "logging_steps: 1"
        )
    return present(f"{text}, above {number(above)}", far.fact(0), curves=(far.curve,))


@detector("starts.thrown_off")
def thrown_off(run: Run, *, above: float, within: int) -> Observation:
    """Find that a rate far beyond use moves the rewards beyond `above` in the first few steps."""
    if (far := _farthest(run)) is None:
        return unobservable("no rewards of a preference run were logged", *RL_FILES)
    rate = _rate_beyond_use(run)
    if rate.state is State.UNOBSERVABLE:
        return rate
    value, step = float(far.values[0]), far.step(0)
    text = f"first logged {far.label} is {number(value)} at step {step}; {rate.text}"
    if rate.state is State.PRESENT and abs(value) > above and 1 < step <= within:
        return present(text, far.fact(0), *rate.facts, curves=(far.curve, "learning_rate"))
    return absent(text, far.fact(0))


def _farthest(run: Run) -> Points | None:
    """Return the rewards of the side that is farther from 0 in its first row."""
    if kind_of(run) != "preference":
        return None
    sides = [points(run, name) for name in ("rewards/chosen", "rewards/rejected")]
    found = [side.finite for side in sides if side is not None and len(side.finite)]
    return max(found, key=lambda side: abs(float(side.values[0])), default=None)


def _rate_beyond_use(run: Run) -> Observation:
    return beyond(run, side="high", times=BEYOND_USE, kinds=("preference",))
