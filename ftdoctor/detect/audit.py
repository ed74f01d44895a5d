"""Detector on tables that hold two labels of one text: a teacher's and a person's."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.rows import HOMES, of_split
from ftdoctor.model import Fact, Observation, Run, Where

FEWEST = 20  # rows with both labels
MATCHED = 5  # training rows among those in dispute, which tell whose labels were taken (judgement)
_PERSON = re.compile(
    r"(?i)(?:^|[_ .-])(?:human|person|gold|golden|truth|true|gt|manual|expert|annotator|reviewed"
    r"|reviewer|checked|verified|corrected|mensch|humain\w*|humano)(?:$|[_ .-])"
)
# Not `model` and `pred`: those of the trained model itself are its errors, no teacher's.
_TEACHER = re.compile(
    r"(?i)(?:^|[_ .-])(?:gpt[\w.-]*|chatgpt|claude\w*|gemini\w*|llm|teacher|auto|automatic|machine"
    r"|weak|silver|pseudo|synthetic|heuristic|distil\w*|maschine)(?:$|[_ .-])"
)
_LABEL_CHARS = 60


@detector("audit.labels_disagree")
def labels_disagree(run: Run, *, above: float) -> Observation:
    """Find a table in which more than a share of a teacher's labels are not a person's.

    Where audited rows are training rows, their answers must be the teacher's.
    """
    for split in ("other", "train", "gold", "eval", "test"):
        rows = of_split(run, split)
        for path in rows["path"].unique(maintain_order=True).to_list():
            found = rows.filter(rows["path"] == path)
            records = [json.loads(text) for text in found["record"].to_list()]
            if columns := _columns([r for r in records if isinstance(r, dict)]):
                return _judged(run, records, columns, Where(path, line=found["line"][0]), above)
    return unobservable("No table with labels of a teacher and of a person", HOMES["gold"])


def _columns(records: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """Return the columns of the teacher and of the person, both of labels, None without them."""
    names = [n for n in dict.fromkeys(k for r in records[:50] for k in r) if isinstance(n, str)]
    persons = [n for n in names if _PERSON.search(n) and not _TEACHER.search(n)]
    teachers = [n for n in names if _TEACHER.search(n) and not _PERSON.search(n)]
    if len(persons) != 1 or len(teachers) != 1:
        return None
    values = [{str(r.get(name)) for r in records} for name in (teachers[0], persons[0])]
    short = all(len(v) <= _LABEL_CHARS for both in values for v in both)
    # Labels of one kind: the same few words in both columns.
    alike = len(values[0] & values[1]) * 2 >= len(values[1])
    few = len(values[1]) <= max(2, len(records) / 4)
    return (teachers[0], persons[0]) if short and alike and few else None


def _judged(
    run: Run, records: Sequence[Any], columns: tuple[str, str], where: Where, above: float
) -> Observation:
    teacher, person = columns
    pairs = [
        (str(r[teacher]).strip(), str(r[person]).strip(), r)
        for r in records
        if isinstance(r, dict) and r.get(teacher) and r.get(person)
    ]
    if len(pairs) < FEWEST:
        return unobservable(f"{len(pairs)} rows hold both labels; {FEWEST} are needed", "more rows")
    wrong = Counter((b, a) for a, b, _ in pairs if a.casefold() != b.casefold())
    count = sum(wrong.values())
    fact = Fact("data.audited", {"rows": len(pairs), "wrong": count}, where)
    text = f"{where.path}: `{teacher}` is not `{person}` in {count} of {len(pairs)} rows"
    if wrong:
        (due, given), times = wrong.most_common(1)[0]
        text += f", {times} times {given[:24]} for {due[:24]}"
    if count <= above * len(pairs):
        return absent(text, fact)
    if _trained_on_person(run, pairs):
        return absent(f"{text}; training has the labels of `{person}`", fact)
    return present(text, fact)


def _trained_on_person(run: Run, pairs: Sequence[tuple[str, str, Mapping[str, Any]]]) -> bool:
    """Say whether the training rows have the person's label where the two differ."""
    answers = {
        str(p).strip().casefold(): str(a).strip().casefold()
        for p, a in of_split(run, "train").select("prompt", "response").iter_rows()
        if p and a
    }
    mine = theirs = 0
    for teacher, person, record in pairs:
        if teacher.casefold() == person.casefold():
            continue
        texts = (str(v).strip().casefold() for v in record.values())
        answer = next((answers[t] for t in texts if t in answers), None)
        mine += answer == person.casefold()
        theirs += answer == teacher.casefold()
    return mine + theirs >= MATCHED and mine > theirs
