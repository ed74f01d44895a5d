"""Detectors of answers that repeat the words of other rows' inputs, not of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.rows import HOMES, no_rows, of_split
from ftdoctor.detect.words import rarity, shared_bits
from ftdoctor.model import Fact, Observation, Run, Where

MOST_ROWS = 500
MOST_WORDS = 200  # of a text
FARTHEST = 50  # rows by which answers may have slipped
VARIED = 0.2  # different inputs per row
LABELS = 0.05  # different answers per row below which they are labels
_WORD = re.compile(r"\w[\w'-]*")


@dataclass(frozen=True)
class Pair:
    """The words of an input and of its answer, at their place."""

    where: Where
    asked: frozenset[str]
    answered: frozenset[str]


@detector("misplaced.answers_moved_by")
def answers_moved_by(run: Run, *, rows: int, bits: float, times: float) -> Observation:
    """Find that answers repeat the words of the input some rows away, and hardly their own.

    The sharing at that distance must be `bits` a row, and `times` that of the own row and of the
    median distance.
    """
    pairs = _pairs(run)
    if isinstance(pairs, Observation):
        return pairs
    if len(pairs) < rows:
        return unobservable(f"{len(pairs)} rows with an answer; {rows} are needed", HOMES["train"])
    rare = rarity([pair.asked for pair in pairs])
    inputs = {(pair.where.path, pair.where.line): pair.asked for pair in pairs}
    shared = {k: _sharing_at(pairs, inputs, k, rare) for k in range(-FARTHEST, FARTHEST + 1)}
    told = {k: value for k, value in shared.items() if value is not None}
    own = told.pop(0, 0.0)
    if not told or max(own, *told.values()) <= 0:
        return unobservable("Inputs and answers share no words", HOMES["train"])
    best = max(told, key=lambda k: told[k])
    usual = median(told.values())
    if told[best] < max(bits, times * own, times * usual):
        return absent(
            f"Answers share {own:.1f} bits of rare words with their own inputs and at most "
            f"{told[best]:.1f} with those up to {FARTHEST} rows away"
        )
    side = "below" if best > 0 else "above"
    text = (
        f"Answers repeat the rare words of the input {abs(best)} rows {side} "
        f"({told[best]:.1f} bits a row), not of their own ({own:.1f}; elsewhere {usual:.1f})"
    )
    return present(text, Fact("data.row", best, pairs[0].where))


def _pairs(run: Run) -> list[Pair] | Observation:
    import polars as pl

    rows = of_split(run, "train")
    if not rows.height:
        return no_rows("train")
    rows = rows.filter(
        pl.col("prompt").is_not_null()
        & pl.col("response").is_not_null()
        & pl.col("layout").is_in(["preference", "kto"]).not_()
    )
    if rows["prompt"].n_unique() < VARIED * rows.height:
        return unobservable("The inputs differ too little to tell", HOMES["train"])
    if rows["response"].n_unique() < LABELS * rows.height:
        return unobservable("The answers are labels, which are judged as such", HOMES["train"])
    taken = rows.select("path", "line", "prompt", "response").head(MOST_ROWS)
    return [
        Pair(Where(path, line=line), _words(prompt), _words(response))
        for path, line, prompt, response in taken.iter_rows()
    ]


def _words(text: str) -> frozenset[str]:
    found = (match.group().casefold() for match in _WORD.finditer(text[: 20 * MOST_WORDS]))
    return frozenset(word for word, _ in zip(found, range(MOST_WORDS), strict=False))


Inputs = Mapping[tuple[str, int | None], frozenset[str]]  # (file, line) → words


def _sharing_at(
    pairs: Sequence[Pair], inputs: Inputs, distance: int, rare: Mapping[str, float]
) -> float | None:
    """Return the mean bits that answers share with the input `distance` rows away."""
    scores = [
        shared_bits(asked, pair.answered, rare)
        for pair in pairs
        if (asked := inputs.get((pair.where.path, (pair.where.line or 0) + distance))) is not None
    ]
    return sum(scores) / len(scores) if len(scores) >= len(pairs) / 4 else None
