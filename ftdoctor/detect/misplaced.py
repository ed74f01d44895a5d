"""Detectors of answers that repeat the words of other rows' inputs, not of their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from statistics import median

from ftdoctor.aside import begin
from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.once import once_per_run
from ftdoctor.detect.rows import HOMES, no_rows, of_split
from ftdoctor.detect.words import rarity, shared_bits
from ftdoctor.model import Call, Fact, Observation, Run, Where

MOST_ROWS = 500
MOST_WORDS = 200  # of a text
FARTHEST = 50  # rows by which answers may have slipped
VARIED = 0.2  # different inputs per row
LABELS = 0.05  # different answers per row below which they are labels
_WORD = re.compile(r"\w[\w'-]*")


@detector("misplaced.answers_moved_by")
def answers_moved_by(run: Run, *, rows: int, bits: float, times: float) -> Observation:
    """Find that answers repeat the words of the input some rows away, and hardly their own.

    The sharing at that distance must be `bits` a row, and `times` that of the own row and of the
    median distance.
    """
    taken = _taken(run)
    if isinstance(taken, Observation):
        return taken
    if len(taken) < rows:
        return unobservable(f"{len(taken)} rows with an answer; {rows} are needed", HOMES["train"])
    told = dict(_begun(run)())
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
    path, line, *_ = taken[0]
    return present(text, Fact("data.row", best, Where(path, line=line)))


Row = tuple[str, int, str, str]  # file, line, input, answer


def prepare(run: Run, _: Iterable[Call]) -> None:
    """Begin to compare the training rows (called before detection)."""
    _begun(run)


@once_per_run
def _begun(run: Run) -> Callable[[], dict[int, float]]:
    taken = _taken(run)
    return begin(shared_by_distance, [] if isinstance(taken, Observation) else taken)


@once_per_run
def _taken(run: Run) -> list[Row] | Observation:
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
    return rows.select("path", "line", "prompt", "response").head(MOST_ROWS).rows()


def shared_by_distance(rows: Sequence[Row]) -> dict[int, float]:
    """Return the mean bits that answers share with the input so many rows away.

    Distances at which fewer than a quarter of the rows have a row are left out.
    """
    asked = {(path, line): _words(text) for path, line, text, _ in rows}
    answered = [(path, line, _words(text)) for path, line, _, text in rows]
    rare = rarity(list(asked.values()))
    found: dict[int, float] = {}
    for distance in range(-FARTHEST, FARTHEST + 1):
        scores = [
            shared_bits(words, answer, rare)
            for path, line, answer in answered
            if (words := asked.get((path, line + distance))) is not None
        ]
        if scores and len(scores) >= len(rows) / 4:
            found[distance] = sum(scores) / len(scores)
    return found


def _words(text: str) -> frozenset[str]:
    found = (match.group().casefold() for match in _WORD.finditer(text[: 20 * MOST_WORDS]))
    return frozenset(word for word, _ in zip(found, range(MOST_WORDS), strict=False))
