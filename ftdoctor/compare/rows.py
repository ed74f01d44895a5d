"""Differences in the training rows: how many, how long, which labels, and whose answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from ftdoctor.compare.difference import Difference, in_good
from ftdoctor.compare.named import Part
from ftdoctor.model import Fact, Run, Where

LEAST = 20  # rows, and inputs in common: fewer give shares coarser than 5 %
LABELS = 50  # different answers at most, each met LABEL_ROWS times: then answers are labels
LABEL_ROWS = 5
SAME_ANSWERS = 0.05  # distance between answer counts up to which the same answers are there
NOTICED = 0.05  # change of a share that is told
LONGER = 1.25  # ratio of median lengths that is told
CERTAIN = 30.0  # decibans: no pair of runs that both work has shuffled answers


@dataclass(frozen=True)
class _Rows:
    """What is compared of one run's training rows: shares of the rows, lengths in characters."""

    answers: Mapping[str, str]
    labels: Counter[str]
    repeated: float
    length: float
    ends: float | None
    where: Where


def compare_rows(good: Run, bad: Run) -> Part:
    """Return differences of the training rows, and the names of what was compared."""
    count, seen = _row_count(good, bad)
    left, right = _rows(good), _rows(bad)
    if left is None or right is None:
        return count, seen
    parts = [
        _shares(left, right),
        _length(left, right),
        _labels(left, right),
        _pairing(left, right),
    ]
    return count + [d for p in parts for d in p[0]], seen + [n for p in parts for n in p[1]]


def _row_count(good: Run, bad: Run) -> Part:
    left, right = (
        r.fact("data.train.rows") or r.fact("progress.num_examples") for r in (good, bad)
    )
    if not left or not right or not left.value:
        return [], []
    if left.value == right.value:
        return [], ["data.rows"]
    ratio = float(right.value) / float(left.value)
    text = f"{right.value:,} training rows, in the good run {left.value:,}"
    rare = 12.0 if ratio < 0.5 or ratio > 2 else 5.0
    return [_made("rows", left.value, right.value, rare, text, left, right)], ["data.rows"]


def _made(
    name: str, good: object, bad: object, surprise: float, text: str, left: Fact, right: Fact
) -> Difference:
    return Difference("data", name, good, bad, surprise, text, in_good(left.where), right.where)


def _rows(run: Run) -> _Rows | None:
    """Take the training rows of a run; None if there are too few to compare."""
    import polars as pl

    if run.data.is_empty() or "prompt" not in run.data.columns:
        return None
    rows = run.data.filter(pl.col("split") == "train")
    if rows.height < LEAST:
        return None
    inputs = rows["prompt"].fill_null("").to_list()
    answers = [text.strip() for text in rows["response"].fill_null("").to_list()]
    records = rows["record"].to_list()
    met = Counter(inputs)
    ends = rows["ends_with_eos"].drop_nulls()
    return _Rows(
        {i: a for i, a in zip(inputs, answers, strict=True) if i and a and met[i] == 1},
        Counter(a for a in answers if a),
        1 - len(set(records)) / len(records),
        float(rows["n_chars"].median() or 0.0),  # type: ignore[arg-type]
        float(ends.mean()) if len(ends) >= LEAST else None,  # type: ignore[arg-type]
        Where(str(rows["path"][0])),
    )


def _difference(
    name: str, good: float, bad: float, surprise: float, text: str, left: _Rows, right: _Rows
) -> Difference:
    return Difference(
        "data", name, round(good, 4), round(bad, 4), surprise, text,
        in_good(left.where), right.where,
    )  # fmt: skip


def _shares(left: _Rows, right: _Rows) -> Part:
    """Compare the share of repeated rows and of rows that end with EOS."""
    found = []
    seen = ["data.repeated"]
    if abs(left.repeated - right.repeated) > NOTICED:
        text = f"{right.repeated:.0%} of the rows are repeated, in the good run {left.repeated:.0%}"
        found.append(
            _difference("repeated", left.repeated, right.repeated, 12.0, text, left, right)
        )
    if left.ends is not None and right.ends is not None:
        seen.append("data.ends_with_eos")
        if abs(left.ends - right.ends) > NOTICED:
            text = f"{right.ends:.0%} of the rows end with EOS, in the good run {left.ends:.0%}"
            found.append(
                _difference("ends_with_eos", left.ends, right.ends, 20.0, text, left, right)
            )
    return found, seen


def _length(left: _Rows, right: _Rows) -> Part:
    seen = ["data.length"]
    if not left.length or not right.length or 1 / LONGER < right.length / left.length < LONGER:
        return [], seen
    text = f"median row of {right.length:,.0f} characters, in the good run {left.length:,.0f}"
    return [_difference("length", left.length, right.length, 8.0, text, left, right)], seen


def _labels(left: _Rows, right: _Rows) -> Part:
    """Compare how often labels are met, where answers are labels."""
    if not all(_are_labels(r.labels) for r in (left, right)):
        return [], []
    top, share = _top(right.labels)
    before = left.labels[top] / left.labels.total()
    if _distance(left.labels, right.labels) <= 2 * NOTICED:
        return [], ["data.labels"]
    text = f"{share:.0%} of the rows have the label “{top[:30]}”, in the good run {before:.0%}"
    return [_difference("labels", before, share, 12.0, text, left, right)], ["data.labels"]


def _are_labels(answers: Counter[str]) -> bool:
    return 1 < len(answers) <= LABELS and answers.total() >= LABEL_ROWS * len(answers)


def _top(labels: Counter[str]) -> tuple[str, float]:
    name, count = max(labels.items(), key=lambda item: (item[1], item[0]))
    return name, count / labels.total()


def _distance(left: Counter[str], right: Counter[str]) -> float:
    """Return the total variation distance between two counts, from 0 (equal) to 1."""
    return 0.5 * sum(
        abs(left[k] / left.total() - right[k] / right.total()) for k in set(left) | set(right)
    )


def _pairing(left: _Rows, right: _Rows) -> Part:
    """Find, over inputs that both runs have once, answers that belong to other inputs.

    If the same answers are there as often as before and the pairs are not, rows were shuffled
    against each other; `pairing` is the share of changed pairs, divided by the share that a random
    order would change. If other answers are there, `answers` is the share of changed ones.
    """
    common = [key for key in left.answers if key in right.answers]
    if len(common) < LEAST:
        return [], []
    seen = ["data.pairing", "data.answers"]
    changed = [key for key in common if left.answers[key] != right.answers[key]]
    share = len(changed) / len(common)
    if share <= NOTICED:
        return [], seen
    before, after = (Counter(r.answers[k] for k in common) for r in (left, right))
    example = changed[0].strip()[-60:]
    if _distance(before, after) > SAME_ANSWERS:
        text = (
            f"{share:.0%} of {len(common)} common inputs have another answer, as after “…{example}”"
        )
        return [_difference("answers", 0.0, share, 15.0, text, left, right)], seen
    by_chance = 1 - sum((n / len(common)) ** 2 for n in before.values())
    moved = min(share / by_chance, 1.0) if by_chance else 0.0
    text = (
        f"{share:.0%} of {len(common)} common inputs have the answer of another input, and all "
        f"answers are still there: the pairs were shuffled, as after “…{example}”"
    )
    return [_difference("pairing", 0.0, moved, CERTAIN, text, left, right)], seen
