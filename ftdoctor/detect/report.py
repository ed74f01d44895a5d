"""Detectors on what an evaluation printed of each class: a report by class, a confusion matrix."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.model import Fact, Observation, Run, Where

# scikit-learn's classification_report and print(confusion_matrix(...)): a row per true class.
_HEADER = re.compile(r"\bprecision\s+recall\s+f1-score\s+support\b")
_CLASS = re.compile(r"(\S+(?: \S+)*?)\s+[01]\.\d+\s+([01]\.\d+)\s+[01]\.\d+\s+(\d+)(?:\.0)?\W*$")
_AVERAGE = re.compile(r"(?:^|\s)(?:accuracy|(?:micro|macro|weighted|samples) avg|avg / total)$")
_MATRIX = re.compile(r"(?i)confusion")
_COUNTS = re.compile(r"\[\s*(\d+(?:[\s,]+\d+)+)\s*\]")
MATRIX_WITHIN = 3  # lines below its title in which a matrix begins (judgement)
MOST_CLASSES = 1000


@dataclass(frozen=True, slots=True)
class _Class:
    """A true class: how many rows it has and how many of them were found."""

    name: str
    rows: int
    found: float
    fact: Fact


@detector("report.minority_missed")
def minority_missed(run: Run, *, at_most: float = 0.1, fewest: int = 3) -> Observation:
    """Find in the last printed report that rare classes are hardly ever predicted where due.

    Judged if one class has more than half of the rows; `fewest` rows of the others are needed.
    """
    classes = _last_report(run)
    total = sum(c.rows for c in classes)
    if len(classes) < 2 or not total:
        return unobservable("No report by class was printed", "classification report")
    most = max(classes, key=lambda c: c.rows)
    rare = [c for c in classes if c is not most]
    due, hit = sum(c.rows for c in rare), sum(c.found for c in rare)
    if most.rows <= 0.5 * total or due < fewest:
        return unobservable("No class has most of the rows in the report", "predictions")
    text = f"{hit:.0f} of {due:,} rows of the rare classes are found ({most.name!r} has "
    text = f"{most.fact.where}: {text}{most.rows / total:.0%} of the rows)"
    if hit <= at_most * due:
        return present(text, *(c.fact for c in rare[:3]))
    return absent(text, most.fact)


def _last_report(run: Run) -> list[_Class]:
    """Return the classes of the last report or matrix of the console text."""
    lines = list(run.lines.select("path", "line", "text").iter_rows())
    last: list[_Class] = []
    for at, (_, _, text) in enumerate(lines):
        if _HEADER.search(text):
            found = list(_of_report(lines[at + 1 : at + 1 + MOST_CLASSES]))
        elif _MATRIX.search(text):
            found = _of_matrix(lines[at : at + MOST_CLASSES])
        else:
            continue
        last = found or last
    return last


def _of_report(lines: Iterable[tuple[str, int | None, str]]) -> Iterator[_Class]:
    """Yield the classes of a report, from the line below its header to its averages."""
    for path, line, text in lines:
        row = _CLASS.search(text.rstrip())
        if row is None or _AVERAGE.search(row[1]):
            return
        rows = int(row[3])
        fact = Fact("log.line", text.strip()[:200], Where(path, line=line))
        yield _Class(row[1].split()[-1], rows, float(row[2]) * rows, fact)


def _of_matrix(lines: list[tuple[str, int | None, str]]) -> list[_Class]:
    """Return the classes of a square matrix of counts near its title, nothing for another shape."""
    counts: list[tuple[list[int], Fact]] = []
    for number, (path, line, text) in enumerate(lines):
        rows = _COUNTS.findall(text)
        if not rows and (counts or number > MATRIX_WITHIN):
            break
        fact = Fact("log.line", text.strip()[:200], Where(path, line=line))
        counts += [([int(n) for n in re.findall(r"\d+", row)], fact) for row in rows]
    if any(len(row) != len(counts) for row, _ in counts):
        return []
    return [_Class(f"class {i}", sum(row), row[i], fact) for i, (row, fact) in enumerate(counts)]
