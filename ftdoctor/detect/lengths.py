"""Detector of cut rows from the count of tokens that a log carries, where no tokenizer is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.points import points, setting_number
from ftdoctor.detect.rows import of_split
from ftdoctor.model import Fact, Observation, Run

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

FULL = 0.985  # of the limit: every row is this long
AGREED = 0.1  # by which two counts of the rows may differ
PER_CHARACTER = (0.1, 1.6)  # tokens of a character, from long English words to bytes of Chinese


@dataclass(frozen=True)
class Fed:
    """The mean tokens of a row that was trained on, and the last point of the count."""

    mean: float
    fact: Fact


@detector("lengths.counted_at_limit")
def counted_at_limit(run: Run, *, above: float) -> Observation:
    """Find that the counted tokens of a row show more than a share of the rows to be cut.

    TRL counts what the attention mask keeps, so that padding is left out. A mean at the limit says
    that every row is cut; a lower one, with the characters of the rows, how many are.
    """
    limit = setting_number(run, "max_length")
    if limit is None or limit[0] < 1:
        return unobservable("No length limit is set", "training configuration (max_length)")
    packing = run.known("packing")
    if packing is not None and packing.value is True:
        return absent("Packed rows are split, not cut", packing)
    if run.series("mean_token_accuracy") is None:
        return unobservable("The log does not count tokens without padding", "a log of TRL's SFT")
    fed = _fed(run)
    if isinstance(fed, Observation):
        return fed
    if fed.mean > 1.02 * limit[0]:
        return unobservable(f"{fed.mean:,.0f} tokens a row are more than the limit {limit[0]:,.0f}")
    share = 1.0 if fed.mean >= FULL * limit[0] else _share_cut(run, fed.mean, limit[0])
    text = f"{fed.mean:,.1f} tokens a row were trained on; the limit is {limit[0]:,.0f}"
    if share is None:
        return absent(text, fed.fact, limit[1]) if fed.mean < limit[0] / 4 else _not_told(text)
    cut = "every row is cut" if share == 1.0 else f"by their characters {share:.0%} of rows are cut"
    return (present if share > above else absent)(f"{text}: {cut}", fed.fact, limit[1])


def _not_told(text: str) -> Observation:
    return unobservable(text, "training data (JSONL, CSV or Parquet)")


def _fed(run: Run) -> Fed | Observation:
    """Return the tokens per row between the first and the last count.

    Of two counts of the rows the smaller one holds: a part of the file may be held out, and the
    last batch of an epoch may not be full.
    """
    counted = points(run, "num_tokens")
    if counted is None or len(counted) < 3:
        return unobservable("The log counts no tokens", "training log (stdout)")
    tokens = float(counted.values[-1] - counted.values[0])
    rows = [r for r in (_by_epochs(run, counted.epochs), _by_steps(run, counted.steps)) if r]
    if not rows or tokens <= 0:
        return unobservable("The number of rows that were trained on is not known", "training data")
    if max(rows) > (1 + AGREED) * min(rows):
        return unobservable("Epochs and steps give different numbers of rows")
    return Fed(tokens / min(rows), counted.fact(-1))


def _by_epochs(run: Run, epochs: Array) -> float | None:
    known = run.fact("progress.num_examples") or run.fact("data.train.rows")
    passed = float(epochs[-1] - epochs[0])
    return passed * float(known.value) if known is not None and passed > 0 else None


def _by_steps(run: Run, steps: npt.NDArray[np.int64]) -> float | None:
    batch = setting_number(run, "per_device_train_batch_size")
    if batch is None:
        return None
    gathered = setting_number(run, "gradient_accumulation_steps")
    return float(steps[-1] - steps[0]) * batch[0] * (gathered[0] if gathered else 1.0)


def _share_cut(run: Run, mean: float, limit: float) -> float | None:
    """Return the share of rows that are cut if the cut rows have `mean` tokens; None if not told.

    The tokens of a character are those at which the rows, cut at the limit, have that mean.
    """
    import numpy as np

    chars = of_split(run, "train")["n_chars"].drop_nulls().to_numpy().astype(float)
    if len(chars) < 20:
        return None
    low, high = PER_CHARACTER
    if not np.minimum(low * chars, limit).mean() <= mean <= np.minimum(high * chars, limit).mean():
        return None
    for _ in range(40):
        middle = (low + high) / 2
        if np.minimum(middle * chars, limit).mean() < mean:
            low = middle
        else:
            high = middle
    return float((low * chars > limit).mean())
