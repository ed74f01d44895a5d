"""Detector of labels that have nothing to do with their texts: naive Bayes on the training rows.

A sound set of texts and labels lets even counted words guess better than chance. Tasks of two texts
(entailment, paraphrase) do not, and are left alone.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.rows import HOMES, no_rows, of_split
from ftdoctor.model import Observation, Run, State

if TYPE_CHECKING:
    import polars as pl

FOLDS = 5
MOST_ROWS = 3000
MOST_WORDS = 300  # of a text
LABEL_CHARS = 60
FEWEST = 20  # rows of a label; rarer ones are left out
FEWEST_JUDGED = 8  # the same of evaluation rows, of which there are fewer
COMMON = 5  # rows in which a word must stand so that it can tell anything
_WORD = re.compile(r"\w+")
_TWO_TEXTS = re.compile(
    r"(?i)^(?:premise|hypothesis|sentence_?[12ab]|text_?[2b]|question_?[12]|passage|context|query)$"
)


@dataclass(frozen=True)
class Labelled:
    """Texts as sets of words, their labels, and the labels in order of frequency."""

    words: Sequence[frozenset[str]]
    labels: Sequence[str]
    names: tuple[str, ...]


@detector("separable.labels_unrelated")
def labels_unrelated(run: Run, *, margin: float, rows: int) -> Observation:
    """Find that words say no more of the labels than chance does, cross-validated.

    The mean recall of a naive Bayes guess must lie within `margin` of 1/k, and twice its standard
    error above must stay below 1/k + 2 `margin`; fewer than `rows` rows cannot tell.
    """
    found = _labelled(of_split(run, "train"))
    if isinstance(found, str):
        return unobservable(found, HOMES["train"])
    if not found.labels:
        return no_rows("train")
    if len(found.labels) < rows:
        return unobservable(f"{len(found.labels)} labelled rows; {rows} are needed", HOMES["train"])
    recall, error = _mean_recall(found)
    chance = 1 / len(found.names)
    text = (
        f"Counted words guess the label of {len(found.labels):,} rows with a mean recall of "
        f"{recall:.2f}; chance among {len(found.names)} labels is {chance:.2f}"
    )
    fact = run.fact("data.train.rows")
    if recall <= chance + margin and recall + 2 * error <= chance + 2 * margin:
        return present(text, *([fact] if fact else []))
    if recall <= chance + margin:
        return unobservable(f"{text}; the rows are too few to be sure", HOMES["train"])
    return absent(text)


@detector("separable.related_in_evaluation_only")
def related_in_evaluation_only(run: Run, *, margin: float, clear: float, rows: int) -> Observation:
    """Find that words tell the labels of the evaluation rows and nothing of the training rows'.

    Evaluation: a mean recall of `clear` above chance, beyond twice its error, on the same labels.
    Training: within `margin` of chance, as for `labels_unrelated`.
    """
    judged = _labelled(of_split(run, "eval"), fewest=FEWEST_JUDGED)
    if isinstance(judged, str):
        return unobservable(judged, HOMES["eval"])
    if not judged.labels:
        return no_rows("eval")
    recall, error = _mean_recall(judged)
    chance = 1 / len(judged.names)
    said = f"Counted words guess the label of {len(judged.labels):,} evaluation rows with a mean "
    said += f"recall of {recall:.2f} (chance {chance:.2f})"
    if recall - 2 * error < chance + clear:
        return unobservable(f"{said}, which does not tell", HOMES["eval"])
    trained = labels_unrelated(run, margin=margin, rows=rows)
    if trained.state is State.UNOBSERVABLE:
        return trained
    return replace(trained, text=f"{said}. {trained.text}")


def _labelled(rows: pl.DataFrame, fewest: int = FEWEST) -> Labelled | str:
    """Return texts and labels of a sample, or why the rows are none."""
    import polars as pl

    rows = rows.filter(pl.col("prompt").is_not_null() & pl.col("response").is_not_null())
    rows = rows.head(MOST_ROWS)
    answers = [str(a).strip() for a in rows["response"].to_list()]
    counts = Counter(a for a in answers if 0 < len(a) <= LABEL_CHARS)
    names = tuple(n for n, c in counts.most_common(50) if c >= fewest)
    if len(names) < 2 or sum(counts[n] for n in names) < 0.9 * len(answers):
        return "The answers are no labels of which two are frequent"
    keys = {k for record in rows["record"].head(5).to_list() for k in _keys(record)}
    if any(_TWO_TEXTS.match(k) for k in keys):
        return "Each row compares two texts"
    kept = [(p, a) for p, a in zip(rows["prompt"].to_list(), answers, strict=True) if a in names]
    words = [frozenset(_WORD.findall(str(p).casefold())[:MOST_WORDS]) for p, _ in kept]
    spread = Counter(w for text in words for w in text)
    common = {w for w, c in spread.items() if COMMON <= c <= 0.9 * len(words)}
    told = sum(bool(text & common) for text in words)
    if told < 0.8 * len(words):
        return "The texts share too few words"
    return Labelled([text & common for text in words], [a for _, a in kept], names)


def _keys(record: object) -> list[str]:
    try:
        value = json.loads(str(record))
    except ValueError:
        return []
    return list(value) if isinstance(value, dict) else []


def _mean_recall(data: Labelled) -> tuple[float, float]:
    """Return the mean recall over labels of a cross-validated guess, and its standard error."""
    hits: Counter[str] = Counter()
    totals = Counter(data.labels)
    for fold in range(FOLDS):
        guess = _trained(data, fold)
        for index in range(fold, len(data.labels), FOLDS):
            hits[data.labels[index]] += guess(data.words[index]) == data.labels[index]
    recalls = [hits[n] / totals[n] for n in data.names]
    variance = sum(r * (1 - r) / totals[n] for r, n in zip(recalls, data.names, strict=True))
    return sum(recalls) / len(recalls), math.sqrt(variance) / len(recalls)


def _trained(data: Labelled, fold: int) -> Callable[[frozenset[str]], str]:
    """Return a guess that has seen all rows but those of one fold; labels count alike."""
    rows: Counter[str] = Counter()
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for index, (words, label) in enumerate(zip(data.words, data.labels, strict=True)):
        if index % FOLDS != fold:
            rows[label] += 1
            seen[label].update(words)

    def guess(words: frozenset[str]) -> str:
        def score(label: str) -> float:
            total = rows[label] + 2
            return sum(math.log((seen[label][word] + 1) / total) for word in words)

        return max(data.names, key=score)

    return guess
