"""Detector of a script that trains on a column of identifiers and leaves the answers unread."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.rows import HOMES, of_split
from ftdoctor.model import Fact, Observation, Run, Where

LOOKED_AT = 200  # rows
LEAST = 20  # rows, and different identifiers
SPOKEN = 3  # words that an answer has, at the median
ANSWERS = frozenset(
    "answer answers response output completion target reply solution summary translation "  # noqa: SIM905
    "antwort respuesta reponse réponse label_text assistant chosen_answer best_answer".split()
)
_DROPPED = re.compile(
    r"(?:remove_columns|drop(?:_columns)?)\s*(?:=|\()\s*(?:columns\s*=\s*)?\[[^\]]*\]"
)
_IDENTIFIER = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[\w./:#-]{2,60}|\d{6,}|https?://\S+")
_DATE = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}|\d{1,2}[-. ]?[A-Za-z]{3,9}[-. ]?\d{2,4}")


@detector("columns.identifiers_for_answers")
def identifiers_for_answers(run: Run) -> Observation:
    """Find that a script reads a column of identifiers, and not the one that holds the answers.

    The column of answers has a usual name and several words a row; it counts as read where a
    script or a configuration names it, unless only to drop it.
    """
    scripts = {p: _DROPPED.sub(_blank, t) for p, t in run.texts.items() if p.endswith(".py")}
    if not scripts:
        return unobservable("No script was found", "training script")
    if run.fact("script.train.formatting") is None and run.fact("script.train.prompt") is None:
        return unobservable("The script does not make the text of its rows", "training script")
    records = _records(run)
    if len(records) < LEAST:
        return unobservable("There are too few rows to tell columns apart", HOMES["train"])
    unread = [
        name for name in _columns(records)
        if name.casefold() in ANSWERS and not _is_read(run, scripts, name)
        and _is_spoken(_values(records, name))
    ]  # fmt: skip
    if not unread:
        return absent("No column of answers is left unread")
    for name in _columns(records):
        place = _place(scripts, name)
        values = _values(records, name)
        if place is not None and _are_identifiers(values):
            said = f"the script reads `{name}` (such as {values[0][:40]!r}), never `{unread[0]}`"
            return present(f"{place}: {said}", Fact("script.column", name, place))
    return absent(f"`{unread[0]}` is not read, but no column of identifiers either")


def _blank(found: re.Match[str]) -> str:
    return "\n" * found.group().count("\n")


def _records(run: Run) -> list[Mapping[str, Any]]:
    rows = of_split(run, "train")
    found = (json.loads(text) for text in rows["record"].head(LOOKED_AT) if text)
    return [record for record in found if isinstance(record, dict)]


def _columns(records: Sequence[Mapping[str, Any]]) -> list[str]:
    return [name for name, value in records[0].items() if isinstance(value, str)]


def _values(records: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    return [v for record in records if isinstance(v := record.get(name), str) and v.strip()]


def _is_spoken(values: Sequence[str]) -> bool:
    words = sorted(len(value.split()) for value in values)
    return len(words) >= LEAST and words[len(words) // 2] >= SPOKEN


def _are_identifiers(values: Sequence[str]) -> bool:
    """Say whether values are single words of letters and digits, many of them, and no dates."""
    bare = (value.strip() for value in values)
    hits = [v for v in bare if _IDENTIFIER.fullmatch(v) and not _DATE.fullmatch(v)]
    return len(hits) >= 0.95 * len(values) and len(set(hits)) >= LEAST


def _is_read(run: Run, scripts: Mapping[str, str], name: str) -> bool:
    """Say whether a script names the column, or a configuration has it anywhere."""
    word = re.compile(rf"\b{re.escape(name)}\b")
    others = (text for path, text in run.texts.items() if not path.endswith((".py", ".md")))
    if any(word.search(text) for text in others):
        return True
    taken = re.compile(rf"\.{re.escape(name)}\b|\{{{re.escape(name)}\}}")
    return _place(scripts, name) is not None or any(taken.search(t) for t in scripts.values())


def _place(scripts: Mapping[str, str], name: str) -> Where | None:
    """Return where a script names a column between quotes."""
    quoted = re.compile(rf"(['\"])(?:{re.escape(name)})\1")
    for path, text in scripts.items():
        if found := quoted.search(text):
            return Where.in_text(path, text, found.start())
    return None
