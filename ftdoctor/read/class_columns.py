"""Which columns of a table of unknown names hold a text and its class, told by what is in them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

LOOKED_AT = 200  # rows that tell
LEAST = 20  # rows; in fewer, few values come about by chance
CLASSES = 50  # different labels at most, and at most a fifth of the rows
_WORDS = 4  # of a label at most, and of a text at least on average (all judgement)
_LONGEST = 40  # characters of a label
# What a file is about or what a program said of it, and no class that anyone would learn.
_NO_CLASS = re.compile(
    r"(?i)pred|output|generat|respon|answer|level|logger|split|source|path|file|model|date|time"
    r"|origin|licen|author|version|unnamed|^lang|^set$|^id$"
)


def class_columns(rows: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """Return the column of free text and the column of labels, None unless there is one of each.

    Labels repeat and are short; texts have several words and mostly differ. A further column that
    holds words may be what is learnt, so that only numbers may stand beside the two.
    """
    if len(rows) < LEAST:
        return None
    names = [str(name) for name in rows[0] if name]
    columns = {name: [row.get(name) for row in rows] for name in names[:20]}
    texts = [name for name, values in columns.items() if _are_texts(values)]
    labels = [n for n, values in columns.items() if _are_labels(values) and not _NO_CLASS.search(n)]
    others = [n for n in columns if n not in (*texts, *labels) and not _NO_CLASS.search(n)]
    alone = all(_are_numbers(columns[name]) for name in others)
    return (texts[0], labels[0]) if alone and len(texts) == 1 and len(labels) == 1 else None


def _are_texts(values: Sequence[Any]) -> bool:
    if not all(isinstance(value, str) for value in values):
        return False
    words = sum(len(value.split()) for value in values)
    return words >= _WORDS * len(values) and len(set(values)) > 0.3 * len(values)


def _are_labels(values: Sequence[Any]) -> bool:
    texts = [str(value).strip() for value in values if isinstance(value, str | int | bool)]
    if len(texts) < len(values) or not all(texts):
        return False
    short = all(len(text) <= _LONGEST and len(text.split()) <= _WORDS for text in texts)
    return short and 2 <= len(set(texts)) <= min(CLASSES, len(texts) / 5)


def _are_numbers(values: Sequence[Any]) -> bool:
    """Say whether a column holds numbers, dates or numbered names."""
    return all(
        re.fullmatch(r"[\w:./+ -]{0,12}\d[\d:./+TZ -]{0,30}|", str(value)) for value in values
    )
