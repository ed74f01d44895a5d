"""The curve that counts: a metric's effective history, with the places of its points.

Rows of an earlier attempt that a restart repeated are dropped, so that the steps never go back;
non-finite values stay and are kept apart. Detectors on curves ask `curve`, which also answers
when there is nothing to look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ftdoctor.detect import unobservable
from ftdoctor.model import Fact, Observation, Run, Series
from ftdoctor.render import text as words

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]
    Indices = npt.NDArray[np.int64]

TRAIN_FILES = ("trainer_state.json", "training log (stdout)")
EVAL_FILES = ("trainer_state.json with eval_* rows", "training log (stdout)")
KINDS_IN_WORDS = {
    "sft": "supervised fine-tuning",
    "preference": "preference training",
    "reward": "training of a reward model",
    "rl": "reinforcement learning",
    "pretrain": "pre-training",
    "classification": "training of a classifier",
}
LIKELIHOOD = ["sft", "pretrain"]  # kinds whose loss is a mean negative log-likelihood

RL_NAMES = {"reward", "reward_std", "frac_reward_zero_std", "frac_mixed", "objective/kl"}
PREFERENCE_NAMES = {
    "rewards/margins",
    "rewards/chosen",
    "logps/chosen",
    "chosen_reward",
    "dpo_loss",
}


@dataclass(frozen=True)
class Points:
    """The effective history of one metric: `index` [n] into the series it was taken from."""

    series: Series
    index: Indices

    @cached_property
    def values(self) -> Array:
        """Return float64 [n], NaN and Inf included."""
        found: Array = self.series.values[self.index]
        return found

    @cached_property
    def steps(self) -> Indices:
        """Return int64 [n], never decreasing."""
        found: Indices = self.series.steps[self.index]
        return found

    @cached_property
    def epochs(self) -> Array:
        """Return float64 [n], NaN where unknown."""
        found: Array = self.series.epochs[self.index]
        return found

    @cached_property
    def finite(self) -> Points:
        """Return the points whose value is a number."""
        import numpy as np

        return Points(self.series, self.index[np.isfinite(self.values)])

    @property
    def label(self) -> str:
        """Return the name a person knows: `loss`, `eval loss`."""
        prefix = "" if self.series.split == "train" else f"{self.series.split} "
        return prefix + self.series.name

    @property
    def curve(self) -> str:
        """Return the name that plots go by."""
        prefix = "" if self.series.split == "train" else f"{self.series.split}/"
        return prefix + self.series.name

    def __len__(self) -> int:
        return len(self.index)

    def step(self, position: int) -> int:
        """Return the step of point `position` (negative: from the end)."""
        return int(self.steps[position])

    def at_step(self, step: int) -> int:
        """Return the position of the first point at a step or after it."""
        import numpy as np

        return min(int(np.searchsorted(self.steps, step)), len(self) - 1)

    def fact(self, position: int) -> Fact:
        """Return one point with its place."""
        place = int(self.index[position])
        name = self.series.name if self.series.split == "train" else self.curve
        return Fact(name, float(self.series.values[place]), self.series.where(place))

    def pick(self, mask: npt.NDArray[np.bool_]) -> Points:
        """Return the points where the mask [n] is True."""
        return Points(self.series, self.index[mask])


def effective(series: Series) -> Points:
    """Return the history that led to the last row.

    Where steps go back (a rerun appended to the same log, a resume from an earlier checkpoint)
    the earlier rows of the repeated steps are dropped. If that leaves under 5 of at least 10
    points, the longest attempt is taken instead: a restart that died at once is not the run.
    """
    import numpy as np

    everything = np.arange(len(series), dtype=np.int64)
    if len(series) < 2 or (np.diff(series.steps) >= 0).all():
        return Points(series, everything)
    attempts = np.split(everything, np.flatnonzero(np.diff(series.steps) < 0) + 1)
    kept = attempts[-1]
    for attempt in attempts[-2::-1]:
        earlier = attempt[series.steps[attempt] < series.steps[kept[0]]]
        kept = np.concatenate([earlier, kept])
    if len(kept) < 5 and len(series) >= 10:
        kept = max(attempts, key=len)
    return Points(series, kept)


def kind_of(run: Run) -> str:
    """Return sft, preference, reward, rl, pretrain, classification, or "" if nothing tells."""
    known = run.fact("run.kind")
    if known and isinstance(known.value, str) and known.value != "unknown":
        return known.value
    names = {name for name, split in run.series_names() if split == "train"}
    if names & PREFERENCE_NAMES:
        return "preference"
    return "rl" if names & RL_NAMES else ""


def points(run: Run, metric: str, split: str = "train") -> Points | None:
    """Return the effective history of a metric, None if it was never logged."""
    series = run.series(metric, split)
    return effective(series) if series is not None and len(series) else None


def curve(
    run: Run,
    metric: str,
    split: str = "train",
    *,
    minimum: int = 1,
    kinds: Sequence[str] = (),
    exact: bool = False,
) -> Points | Observation:
    """Return the finite points of a metric, or why it cannot be judged.

    `kinds`: the kinds of run in which the question makes sense; an unknown kind counts as sft.
    `exact`: the question is after one exact value, so that a quoted row can answer it.
    """
    found = points_of_kind(run, metric, split, kinds=kinds)
    if isinstance(found, Observation):
        return found
    return long_enough(found.finite, rows_needed(run, minimum) if exact else minimum)


def rows_needed(run: Run, minimum: int) -> int:
    """Return how many rows an exact value needs: of an excerpt one, it was chosen to show it."""
    return 1 if run.fact("run.excerpt") is not None else minimum


def points_of_kind(
    run: Run, metric: str, split: str = "train", *, kinds: Sequence[str] = ()
) -> Points | Observation:
    """Return all points of a metric, non-finite ones too, or why it cannot be judged."""
    kind = kind_of(run) or "sft"
    if kinds and kind not in kinds:
        return unobservable(f"{metric} does not tell this in {KINDS_IN_WORDS.get(kind, kind)}")
    found = points(run, metric, split)
    if found is None:
        files = TRAIN_FILES if split == "train" else EVAL_FILES
        return unobservable(f"no {split} {metric} was logged", *files)
    return found


def long_enough(found: Points, minimum: int) -> Points | Observation:
    """Return the points, or that they are too few to judge."""
    return found if len(found) >= minimum else too_few(found, minimum)


def too_few(found: Points, minimum: int) -> Observation:
    """Answer that the curve exists but is too short."""
    text = f"{len(found)} logged points of {found.label}; {minimum} are needed to judge"
    return unobservable(text, "a log with smaller logging_steps")


def number(value: float) -> str:
    """Print a value for a sentence: 4 significant digits, NaN and Inf by name."""
    return words.number(float(value)) if value else "0"


def setting_number(run: Run, name: str) -> tuple[float, Fact] | None:
    """Return a setting as a number with its fact; a number in quotes counts."""
    fact = run.setting(name)
    if fact is None or isinstance(fact.value, bool):
        return None
    try:
        return float(fact.value), fact
    except (TypeError, ValueError):
        return None


def fact_number(run: Run, *names: str) -> tuple[float, Fact] | None:
    """Return the first of several facts or settings that is a number."""
    for name in names:
        fact = run.fact(name)
        if (
            fact is not None
            and isinstance(fact.value, int | float)
            and not isinstance(fact.value, bool)
        ):
            return float(fact.value), fact
        found = setting_number(run, name)
        if found is not None:
            return found
    return None


def last_epoch(run: Run) -> tuple[float, Fact] | None:
    """Return the epoch that training reached: from the loss rows, else from progress facts."""
    import numpy as np

    loss = points(run, "loss")
    if loss is not None and np.isfinite(loss.epochs).any():
        position = int(np.flatnonzero(np.isfinite(loss.epochs))[-1])
        return float(loss.epochs[position]), Fact(
            "epoch", float(loss.epochs[position]), loss.fact(position).where
        )
    return fact_number(run, "progress.epoch")


def resume_borders(run: Run, series: Series) -> list[int]:
    """Return the rows with which the run went on after a resume, in order.

    The series' own segments tell it, a log that says from which step it was resumed, or a
    learning rate that runs through its first values once more.
    """
    import numpy as np
    import polars as pl

    borders = set((np.flatnonzero(np.diff(series.segments) != 0) + 1).tolist())
    resumed = run.events.filter((pl.col("kind") == "resumed") & pl.col("step").is_not_null())
    ends = [int(step) for step in resumed["step"].to_list()]
    replay = rate_replayed(run)
    if replay is not None:
        ends.append(replay.step(0))
    for step in ends:
        later = np.flatnonzero(series.steps > step)
        if len(later) and later[0] > 0:
            borders.add(int(later[0]))
    return sorted(borders)


REPLAYED = 5  # rows of a schedule that must come again (judgement)
CYCLIC = ("restart", "cycl", "one_cycle")  # in the names of schedulers that repeat by design


def rate_replayed(run: Run) -> Points | None:
    """Return the last row before a schedule begins once more and the first after it, or None.

    The learning rate jumps and then runs through the values of its first rows again while the
    steps go on: the scheduler was built anew. A cyclic scheduler does so by design; where none is
    named and it happens more than once, this may be one.
    """
    import numpy as np

    found = points(run, "learning_rate")
    declared = run.setting("lr_scheduler_type")
    if found is None or (declared and any(c in str(declared.value).lower() for c in CYCLIC)):
        return None
    rates = found.finite
    values, steps = rates.values, rates.steps
    if len(values) < 2 * REPLAYED or float(values.min()) < 0:
        return None
    change = (values[1:] > 1.1 * values[:-1]) | (values[1:] < 0.5 * values[:-1])
    begins = [int(k) + 1 for k in np.flatnonzero(change) if k + 1 >= REPLAYED]
    again: list[int] = []
    for k in begins[:50]:
        within = again and k < 2 * again[-1]  # the warm-up of a schedule that was found already
        if not within and _repeats_beginning(values, steps, k):
            again.append(k)
    if not again or (declared is None and len(again) > 1):
        return None
    return Points(rates.series, rates.index[again[0] - 1 : again[0] + 1])


def _repeats_beginning(values: Array, steps: Indices, start: int) -> bool:
    """Say whether the rates from row `start` on are those of the first rows, some steps later.

    Where between two rows the schedule began is not logged, so several places are tried.
    """
    import numpy as np

    rows = slice(start, start + min(start, len(values) - start))
    if rows.stop - rows.start < REPLAYED:
        return False
    again = values[rows]
    if float(again.max()) <= 1.05 * float(again.min()):
        return False  # a level, not a schedule
    for offset in np.linspace(steps[start] - steps[0], steps[start - 1] - steps[0], 9):
        shifted = np.interp(steps[rows] - offset, steps[:start], values[:start])
        if np.allclose(again, shifted, rtol=0.02, atol=0.005 * float(values.max())):
            return True
    return bool(np.allclose(again, values[: len(again)], rtol=0.02))
