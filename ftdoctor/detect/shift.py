"""Detector of distribution shift between training rows and another sample: length, words, labels.

Each part needs an effect that matters and a test that excludes chance, at 0.001 divided by the
number of parts tested; the effect is what the finding tells, the test alone would find trifles.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.rows import HOMES, facts_of, no_rows, of_split
from ftdoctor.model import Observation, Run

if TYPE_CHECKING:
    import polars as pl

ENOUGH = 20  # rows of each sample; with fewer no test can tell a shift of half a deviation
LEVEL = 0.001
LONGER = 1.5  # ratio of median lengths below which the same tokens and time suffice (judgement)
LABEL_CHARS = 60  # an answer of at most so many characters can be a label
MOST_LABELS = 50
_WORD = re.compile(r"[^\W\d_]{2,}")


@detector("shift.between")
def between(run: Run, *, split: str, lengths: float, words: float, labels: float) -> Observation:
    """Find that another sample is unlike the training rows in at least one respect.

    `lengths` is the least Kolmogorov-Smirnov distance of prompt lengths, `words` the least
    probability that a row there holds more words unknown to training than a training row does
    (ROC area), `labels` the least total variation distance of the label shares.
    """
    ours = _asked(run, "train")
    theirs = _asked(run, split)
    if ours.height < ENOUGH or theirs.height < ENOUGH:
        lacking = "train" if ours.height < ENOUGH else split
        if not of_split(run, lacking).height:
            return no_rows(lacking)
        return unobservable(f"Fewer than {ENOUGH} {lacking} rows", HOMES.get(lacking, lacking))
    tested = [
        result
        for result in (
            _lengths(ours, theirs, split, lengths),
            _words(ours, theirs, split, words),
            _labels(ours, theirs, split, labels),
        )
        if result is not None
    ]
    told = [text for text, chance, large in tested if large and chance < LEVEL / len(tested)]
    if told:
        return present("; ".join(told), *facts_of(theirs, "data.prompt", "prompt", 2))
    return absent("; ".join(text for text, _, _ in tested))


def _asked(run: Run, split: str) -> pl.DataFrame:
    import polars as pl

    return of_split(run, split).filter(
        pl.col("prompt").is_not_null() & (pl.col("prompt").str.len_chars() > 0)
    )


Tested = tuple[str, float, bool]  # what was found, probability by chance, whether it is large


def _lengths(ours: pl.DataFrame, theirs: pl.DataFrame, split: str, least: float) -> Tested:
    from scipy.stats import ks_2samp

    own, other = (rows["prompt"].str.len_chars().to_list() for rows in (ours, theirs))
    result = ks_2samp(own, other)
    text = (
        f"The median {split} prompt has {_median(other):,.0f} characters, the training prompt "
        f"{_median(own):,.0f} (KS distance {result.statistic:.2f})"
    )
    ratio = _median(other) / max(1.0, _median(own))
    large = float(result.statistic) >= least and not 1 / LONGER < ratio < LONGER
    return text, float(result.pvalue), large


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _words(ours: pl.DataFrame, theirs: pl.DataFrame, split: str, least: float) -> Tested | None:
    """Compare rows there with every second training row, by the words of the other half."""
    from scipy.stats import mannwhitneyu

    prompts = ours["prompt"].to_list()
    known = {word for prompt in prompts[::2] for word in _said(prompt)}
    own = list(_unknown(prompts[1::2], known))
    other = list(_unknown(theirs["prompt"].to_list(), known))
    if len(own) < ENOUGH // 2 or len(other) < ENOUGH // 2:
        return None
    result = mannwhitneyu(other, own, alternative="greater")
    area = float(result.statistic) / (len(own) * len(other))
    text = (
        f"{_mean(other):.0%} of the words of {split} prompts are not in the training prompts, "
        f"against {_mean(own):.0%} within training"
    )
    return text, float(result.pvalue), area >= least


def _said(text: str) -> list[str]:
    return _WORD.findall(text.casefold())[:2000]


def _unknown(prompts: Sequence[str], known: set[str]) -> Iterator[float]:
    """Yield per prompt the share of its words that are not known."""
    for prompt in prompts:
        words = _said(prompt)
        if words:
            yield sum(word not in known for word in words) / len(words)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _labels(ours: pl.DataFrame, theirs: pl.DataFrame, split: str, least: float) -> Tested | None:
    from scipy.stats import chi2_contingency

    own, other = _label_counts(ours), _label_counts(theirs)
    if own is None or other is None:
        return None
    names = sorted(own | other)
    shares = [(own[n] / own.total(), other[n] / other.total()) for n in names]
    distance = sum(abs(a - b) for a, b in shares) / 2
    if len(names) < 2:
        return None
    chance = float(chi2_contingency([[own[n] for n in names], [other[n] for n in names]]).pvalue)
    most = max(range(len(names)), key=lambda i: abs(shares[i][0] - shares[i][1]))
    text = (
        f"The label {names[most]!r} has {shares[most][1]:.0%} of the {split} rows and "
        f"{shares[most][0]:.0%} of the training rows"
    )
    return text, chance, distance >= least


def _label_counts(rows: pl.DataFrame) -> Counter[str] | None:
    """Return label counts if the answers are few, short and repeated."""
    answers = [a.strip() for a in rows["response"].drop_nulls().to_list() if a.strip()]
    counts = Counter(a for a in answers if len(a) <= LABEL_CHARS)
    few = len(counts) <= min(MOST_LABELS, len(answers) // 4)
    return counts if len(answers) >= ENOUGH and few and counts.total() == len(answers) else None
