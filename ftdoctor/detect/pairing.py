"""Detectors of answers that have nothing to do with their inputs, though each is sound by itself.

Counted on some rows, the words of an input tell which words its answer has; on other rows the
own answer then fits an input better than another row's does. Where answers were shuffled it does
not, and neither do input and answer share more rare words than strangers do.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from ftdoctor.aside import begin
from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.once import once_per_run
from ftdoctor.detect.rows import HOMES, no_rows, of_split
from ftdoctor.model import Call, Fact, Observation, Run

FOLDS = 4
MOST_ROWS = 500
MOST_WORDS = 300  # of a text
MOST_PAIRED = 8  # words of a side whose company is counted
LABELS = 0.05  # different answers per row below which they are labels
COMMON = 3  # rows in which a word must stand so that its company can be counted
STRANGERS = (1, 7, 31)  # distances of the rows whose answers are tried
CLEAR = 0.75  # from here on a measure needs no second
DECIDED = 0.5  # of the comparisons that must not be ties for a measure to tell anything
# Scripts that put no space between words count by the character.
_WORD = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]|[^\W\u0e00-\u0eff\u3040-\u9fff]+")


@dataclass(frozen=True)
class Fit:
    """How often the own answer of `rows` rows fits better than a stranger's; 0.5 is chance.

    `answers` is the number of different answers, `best` the share by the better of two measures.
    """

    rows: int
    answers: int
    best: float

    @property
    def error(self) -> float:
        """Return the standard error of a share, by the rows alone."""
        return 0.5 / math.sqrt(max(self.rows, 1))


@detector("pairing.answers_fit_none")
def answers_fit_none(run: Run, *, rows: int, margin: float) -> Observation:
    """Find that answers fit their own inputs no better than strangers' do, in `rows` rows or more.

    The share of strangers that fit worse must lie within `margin` of a half.
    """
    found = _training(run)()
    if isinstance(found, Observation):
        return found
    if found.rows < rows:
        return unobservable(f"{found.rows} rows with an answer; {rows} are needed", HOMES["train"])
    if found.answers < LABELS * found.rows:
        return unobservable("The answers are labels, which are judged as such")
    text = _said(found, "training")
    return (present if found.best <= 0.5 + margin else absent)(text, *_counted(run))


@detector("pairing.fits_in_evaluation_only")
def fits_in_evaluation_only(
    run: Run, *, rows: int, eval_rows: int, margin: float, clear: float
) -> Observation:
    """Find that answers fit their inputs in the evaluation rows and fit none in the training rows.

    `clear`: the share above a half, beyond twice its error, that evaluation must have.
    """
    judged = _begun(run, "eval")()
    if isinstance(judged, Observation):
        return judged
    if judged.rows < eval_rows:
        return unobservable(f"{judged.rows} rows with an answer; {eval_rows} are needed")
    if judged.best - 2 * judged.error < 0.5 + clear:
        return unobservable(f"{_said(judged, 'evaluation')}, which does not tell")
    train = _training(run)()
    if isinstance(train, Observation):
        return train
    if train.rows < rows:
        return unobservable(f"{train.rows} rows with an answer; {rows} are needed")
    text = f"{_said(train, 'training')}; {_said(judged, 'evaluation')}"
    return (present if train.best <= 0.5 + margin else absent)(text, *_counted(run))


def _said(found: Fit, split: str) -> str:
    return f"the answer of {found.best:.0%} of {split} comparisons fits its own input better"


def _counted(run: Run) -> list[Fact]:
    fact = run.fact("data.train.rows")
    return [fact] if fact else []


def prepare(run: Run, _: Iterable[Call]) -> None:
    """Begin to judge the training rows (called before detection)."""
    _training(run)


@once_per_run
def _training(run: Run) -> Callable[[], Fit | Observation]:
    return _begun(run, "train")


def _begun(run: Run, split: str) -> Callable[[], Fit | Observation]:
    """Begin to judge a split, and return what waits for it."""
    import polars as pl

    rows = of_split(run, split)
    if not rows.height:
        return lambda: no_rows(split)
    rows = rows.filter(pl.col("prompt").is_not_null() & pl.col("response").is_not_null())
    rows = rows.unique(["prompt", "response"], maintain_order=True).head(MOST_ROWS)
    return begin(_fit, rows.select("prompt", "response").rows(), split)


def _fit(rows: Sequence[tuple[str, str]], split: str) -> Fit | Observation:
    """Return how well the answers of a split fit their inputs, or why that cannot be told."""
    pairs = [(_words(a), _words(b)) for a, b in rows]
    random.Random(0).shuffle(pairs)  # rows may come in a cycle, which folds must not follow
    asked, answers = [a for a, _ in pairs], [b for _, b in pairs]
    if len(set(answers)) < 2 or len(set(asked)) < 0.5 * len(asked):
        return unobservable(f"The {split} rows differ too little to tell", HOMES[split])
    sharing = _sharing(asked, answers)
    measures = [_better(asked, answers, lambda _: sharing)]
    if measures[0][0] < CLEAR:  # counting company costs ten times as much
        measures.append(_better(asked, answers, _company(asked, answers)))
    telling = [share for share, decided in measures if decided >= DECIDED]
    if not telling:
        return unobservable(f"The {split} rows share too few words to tell", HOMES[split])
    return Fit(len(asked), len(set(answers)), max(telling))


def _words(text: object) -> frozenset[str]:
    return frozenset(_WORD.findall(str(text).casefold())[:MOST_WORDS])


Score = Callable[[frozenset[str], frozenset[str]], float]


def _better(
    asked: Sequence[frozenset[str]],
    answers: Sequence[frozenset[str]],
    of_fold: Callable[[int], Score],
) -> tuple[float, float]:
    """Return the share of strangers whose answer scores less than the own, and of those not tied.

    Ties count a half of the first share.
    """
    won = tried = decided = 0.0
    for fold in range(FOLDS):
        score = of_fold(fold)
        own = range(fold, len(asked), FOLDS)
        for place, index in enumerate(own):
            mine = score(asked[index], answers[index])
            for distance in STRANGERS:
                other = own[(place + distance) % len(own)]
                if answers[other] != answers[index]:
                    theirs = score(asked[index], answers[other])
                    won += 1.0 if mine > theirs else 0.5 if mine == theirs else 0.0
                    tried += 1
                    decided += mine != theirs
    return (won / tried, decided / tried) if tried else (0.5, 0.0)


def _company(
    asked: Sequence[frozenset[str]], answers: Sequence[frozenset[str]]
) -> Callable[[int], Score]:
    """Return, per fold, a score from words that stood together in the rows of the other folds."""
    left, right = _countable(asked), _countable(answers)
    kept = dict(zip(asked, left, strict=True)), dict(zip(answers, right, strict=True))
    whole = _together(left, right)

    def of_fold(fold: int) -> Score:
        inside = _together(left[fold::FOLDS], right[fold::FOLDS])
        ones, others = (
            Counter(w for i, row in enumerate(side) if i % FOLDS != fold for w in row)
            for side in (left, right)
        )
        total = sum(1 for i in range(len(left)) if i % FOLDS != fold)

        @cache  # few counts come again and again
        def surprise(together: int, chances: int) -> float:
            return math.log((together + 0.5) / (chances / total + 0.5))

        def score(question: frozenset[str], answer: frozenset[str]) -> float:
            words = kept[1][answer]
            found: list[float] = []
            for a in kept[0][question]:
                beside, here, once = whole[a], inside.get(a, _NOTHING), ones[a]
                found += [surprise(beside.get(b, 0) - here.get(b, 0), once * others[b])
                          for b in words]  # fmt: skip
            return sum(found) / len(found) if found else 0.0

        return score

    return of_fold


_NOTHING: Mapping[str, int] = {}


def _together(
    left: Sequence[tuple[str, ...]], right: Sequence[tuple[str, ...]]
) -> dict[str, dict[str, int]]:
    """Return of each word of the left in how many rows each word of the right stands with it."""
    found: dict[str, dict[str, int]] = {}
    for words, others in zip(left, right, strict=True):
        for a in words:
            beside = found.setdefault(a, {})
            for b in others:
                beside[b] = beside.get(b, 0) + 1
    return found


def _countable(texts: Sequence[frozenset[str]]) -> list[tuple[str, ...]]:
    """Return of each text its rarest words that are neither everywhere nor nearly nowhere."""
    spread = Counter(word for text in texts for word in text)
    useful = {w for w, count in spread.items() if COMMON <= count <= 0.5 * len(texts)}
    return [
        tuple(sorted(text & useful, key=lambda w: (spread[w], w))[:MOST_PAIRED]) for text in texts
    ]


def _sharing(asked: Sequence[frozenset[str]], answers: Sequence[frozenset[str]]) -> Score:
    """Return a score from the words that input and answer share, rare ones counting more."""
    spread = Counter(word for text in (*asked, *answers) for word in text)
    total = len(asked) + len(answers)

    def score(question: frozenset[str], answer: frozenset[str]) -> float:
        # Ties are counted: the sum may not depend on the order in which a set gives its words.
        return math.fsum(math.log(total / spread[word]) for word in question & answer)

    return score
