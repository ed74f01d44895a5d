"""Detector on training labels beside the truth: columns of one row, or a checked file of rows."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.once import once_per_run
from ftdoctor.detect.rows import HOMES, no_rows, of_split
from ftdoctor.model import Fact, Observation, Run, Where
from ftdoctor.read.layout import CLASSES, CLASSIFIED, TEXT_KEYS

if TYPE_CHECKING:
    import polars as pl

ENOUGH = 20  # pairs; a share of 0.9 then has a standard error of 0.07
LABEL_CHARS = 60  # an answer of at most so many characters can be a label
FEW_CLASSES = 0.25  # of the pairs: with fewer distinct truths these are classes (judgement)
ALIKE = 0.3  # labels that agree, where they are no classes: they are written alike (judgement)

_TRUTHS = (
    "gold", "ground_truth", "gold_label", "true_label", "gold_answer", "reference_label",
    "gold_intent", "gold_class", "correct_label", "correct_answer", "human_label", "expert_label",
    "verified_label", "reviewed_label", "checked_label", "manual_label", "expected_label", "truth",
)  # fmt: skip
# Only in a file of checked rows: beside a conversation they are something else.
_CHECKED = (*_TRUTHS, "human", "expert", "correct", "expected", "annotation", "answer", *CLASSES)
_GIVEN = ("teacher", "teacher_label", "label", "pseudo_label", "completion", "output", "response",
          "predicted_label", "model_label", "llm_label", "weak_label")  # fmt: skip
_QUESTIONS = (*TEXT_KEYS, *CLASSIFIED, "prompt", "input", "instruction", "document")
_IDS = ("id", "ID", "uid", "uuid", "idx", "row_id", "example_id", "sample_id", "ticket_id")
_MARKED = re.compile(rf'"(?:{"|".join(_TRUTHS)})"')
_AROUND = " \t\r\n.\"'`*"


@dataclass(frozen=True, slots=True)
class _Pair:
    """A label that is trained on, what is true of the row, and where the label is."""

    given: str
    truth: str
    where: Where

    @property
    def agrees(self) -> bool:
        """Say whether the two are the same but for case, quotes and a key in front."""
        truth = _plain(self.truth)
        return truth in (_plain(self.given), _plain(self.given.rpartition(":")[2]))


@detector("gold.labels_wrong")
def labels_wrong(run: Run, *, below: float) -> Observation:
    """Find that fewer than a share of the labels agree with the ground truth."""
    if not of_split(run, "train").height:
        return no_rows("train")
    found = pairs(run)
    if len(found) < ENOUGH:
        return unobservable("No ground truth to compare the labels with", HOMES["gold"])
    if (reason := _incomparable(found)) is not None:
        return unobservable(reason, HOMES["gold"])
    wrong = [pair for pair in found if not pair.agrees]
    same = len(found) - len(wrong)
    share = same / len(found)
    text = f"{same:,} of {len(found):,} labels ({share:.0%}) agree with the ground truth"
    if share >= below:
        return absent(text)
    facts = [Fact("data.label", f"{p.given!r}, truth {p.truth!r}", p.where) for p in wrong[:3]]
    return present(f"{text}, e.g. {wrong[0].where}", *facts)


def agreement(run: Run) -> float | None:
    """Return the share of labels that agree with the ground truth, None if it cannot be told."""
    found = pairs(run)
    if len(found) < ENOUGH or _incomparable(found) is not None:
        return None
    return sum(pair.agrees for pair in found) / len(found)


def _incomparable(found: tuple[_Pair, ...]) -> str | None:
    """Return why the two cannot be compared by their words, None if they can.

    Two good answers in free text never agree, and one scheme of labels may use other words than the
    other: of classes most that are given are among the true ones, of other answers some agree.
    """
    short = sum(len(p.truth) <= LABEL_CHARS and len(p.given) <= LABEL_CHARS for p in found)
    if short < len(found) / 2:
        return "The answers are free text, which no two people word alike"
    if sum(p.agrees for p in found) >= ALIKE * len(found):
        return None
    truths = Counter(_plain(p.truth) for p in found)
    shared = sum(_plain(p.given) in truths for p in found)
    classes = len(truths) <= FEW_CLASSES * len(found)
    if classes and len(truths) > 1 and shared > len(found) / 2:
        return None
    return "The labels and the ground truth are not in the same words"


@once_per_run
def pairs(run: Run) -> tuple[_Pair, ...]:
    """Return the training labels of which the truth is known."""
    rows = of_split(run, "train").select("path", "line", "prompt", "response", "record")
    by_text, by_id = _checked(of_split(run, "gold"))
    found: list[_Pair] = []
    for path, line, prompt, response, text in rows.iter_rows():
        if not (by_text or by_id or _MARKED.search(text)):
            continue
        record = _record(text)
        where = Where(path, line=line)
        if (within := _within(record)) is not None and not by_text:
            found.append(_Pair(*within, where))
        elif response:
            asked = (prompt or "", _last_question(record))
            truth = next((by_text[q] for q in map(_plain, asked) if q in by_text), None)
            truth = truth or by_id.get(_id(record))
            if truth is not None:
                found.append(_Pair(_answer(response), truth, where))
    return tuple(found)


def _checked(rows: pl.DataFrame) -> tuple[dict[str, str], dict[str, str]]:
    """Return truths of the checked rows by their text, and by their id where they hold no text."""
    by_text: dict[str, str] = {}
    by_id: dict[str, str] = {}
    for prompt, response, text in rows.select("prompt", "response", "record").iter_rows():
        record = _record(text)
        truth = _first(record, _TRUTHS) or response or _first(record, _CHECKED)
        if not truth:
            continue
        question = _last_question(record) or prompt or _first(record, _QUESTIONS)
        if question:
            by_text[_plain(question)] = by_text[_plain(prompt or question)] = _answer(truth)
        elif number := _id(record):
            by_id[number] = _answer(truth)
    return by_text, by_id


def _within(record: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the label and the truth that one row holds both."""
    truth, given = _first(record, _TRUTHS), _first(record, _GIVEN)
    return (given, truth) if truth and given else None


def _first(record: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return next((v for name in names if isinstance(v := record.get(name), str) and v.strip()), "")


def _id(record: Mapping[str, Any]) -> str:
    return next((str(v) for n in _IDS if isinstance(v := record.get(n), str | int)), "")


def _last_question(record: Mapping[str, Any]) -> str:
    """Return what the user said last, without the system prompt that all rows share."""
    turns = record.get("messages")
    for turn in reversed(turns) if isinstance(turns, list) else ():
        if isinstance(turn, dict) and turn.get("role") == "user":
            content = turn.get("content")
            return content if isinstance(content, str) else ""
    return ""


def _answer(text: str) -> str:
    """Return the label of an answer that is a JSON object with one."""
    if not text.lstrip().startswith("{"):
        return text
    record = _record(text)
    return _first(record, CLASSES) or (_first(record, tuple(record)) if len(record) == 1 else text)


def _record(text: str) -> Mapping[str, Any]:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(_AROUND)
