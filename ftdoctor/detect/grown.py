"""Detectors of length as the thing that preferences teach: in the pairs, and in printed outputs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from statistics import median

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.log import LOG, Text, has_text, log_of
from ftdoctor.detect.points import number
from ftdoctor.detect.rows import facts_of, no_rows, of_split
from ftdoctor.model import Observation, Run

MIN_PAIRS = 40  # a share of 85 % then has a 95 % half-width of 11 points
SEVERAL = 3  # samples of either side, unless a line tells an average
# What a script calls samples of the model before training and after, in the usual languages.
_BEFORE = re.compile(
    r"(?i)\b(?:before|base(?:line)?|initial|untrained|vorher|vor|avant|antes|prima)\b"
)
_AFTER = re.compile(r"(?i)\b(?:after|tuned|trained|final|nachher|nach|apr[eè]s|despu[eé]s|dopo)\b")
_UNIT = r"(?:tok(?:en)?s?|words?|char(?:acter)?s?|w[oö]rter|zeichen|mots|palabras|parole)"
_COUNT = re.compile(
    rf"(?i)\b(?P<a>\d+(?:\.\d+)?)\s*(?:new |output |generated )?{_UNIT}\b"
    r"|\blen(?:gth)?s?\b\W{0,3}(?:\w{1,8}\W{1,3})?(?P<b>\d+(?:\.\d+)?)"
    rf"|\b(?:new_)?{_UNIT}\W{{1,3}}(?P<c>\d+(?:\.\d+)?)"
)
_AVERAGE = re.compile(
    r"(?i)\b(?:mean|avg|average|median|mittel\w*|durchschnitt\w*|moyenne|media)\b"
)
_LABEL = 40  # characters of a line in which its label stands


@detector("grown.chosen_longer")
def chosen_longer(run: Run, *, share: float, times: float) -> Observation:
    """Find that the chosen answer is the longer one in a share of the training pairs.

    In the median pair it must be longer by the factor `times`.
    """
    import polars as pl

    rows = of_split(run, "train")
    if not rows.height:
        return no_rows("train")
    pairs = rows.filter(
        (pl.col("layout") == "preference") & (pl.col("response") != "") & (pl.col("rejected") != "")
    )
    if pairs.height < MIN_PAIRS:
        return unobservable(f"{pairs.height} pairs of preferences", "preference data")
    lengths = pairs.select(
        pl.col("response").str.len_chars().alias("chosen"),
        pl.col("rejected").str.len_chars().alias("other"),
    )
    longer = int((lengths["chosen"] > lengths["other"]).sum())
    middle = float((lengths["chosen"] / lengths["other"]).median() or 0.0)  # type: ignore[arg-type]
    said = (
        f"the chosen answer is the longer one in {longer:,} of {pairs.height:,} pairs, "
        f"{middle:.2f} times as long in the median"
    )
    found = longer >= share * pairs.height and middle >= times
    return (present if found else absent)(said, *facts_of(pairs, "data.record", "record", 1))


@detector("grown.after_training")
def after_training(run: Run, *, times: float) -> Observation:
    """Find that outputs printed after training are longer than those printed before it.

    A line tells by a word at its beginning when it was sampled, and how long it is by a number of
    tokens, words or characters. Medians of three lines or more are compared, or averages.
    """
    if not has_text(run):
        return unobservable("No console output was found", LOG)
    told = list(_lengths(run))
    sides = [[(n, text) for late, n, text in told if late is side] for side in (False, True)]
    if any(not side or (len(side) < SEVERAL and not _averages(side)) for side in sides):
        return unobservable(
            "No lengths of outputs before and after training were printed",
            "stdout log with outputs sampled before and after training",
        )
    first, last = (median(n for n, _ in side) for side in sides)
    said = (
        f"outputs printed before training are {number(first)} long, after it {number(last)} "
        f"(medians of {len(sides[0])} and {len(sides[1])} lines)"
    )
    facts = (sides[0][0][1].fact, sides[1][0][1].fact)
    return (present if first > 0 and last >= times * first else absent)(said, *facts)


def _averages(side: list[tuple[float, Text]]) -> bool:
    return all(_AVERAGE.search(text.text) for _, text in side)


def _lengths(run: Run) -> Iterator[tuple[bool, float, Text]]:
    """Yield whether it was sampled after training, its length, and the line."""
    for text in log_of(run).texts:
        count = _COUNT.search(text.text[:200])
        if text.event or count is None:
            continue
        label = text.text[: max(_LABEL, count.start())][:_LABEL]
        early, late = bool(_BEFORE.search(label)), bool(_AFTER.search(label))
        if early != late:
            value = next(group for group in count.groups() if group)
            yield late, float(value), text
