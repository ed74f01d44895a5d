"""Detector of target objects whose fields are written now in one type, now in another."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.rows import facts_of, no_rows, of_split
from ftdoctor.model import Observation, Run

if TYPE_CHECKING:
    import polars as pl

LEAST = 30  # objects of one schema; in fewer a type that one in twenty has may not show
ONE_SCHEMA = 0.8  # of the objects have the same keys; else the data hold several tasks (judgement)
SHARE = 0.05  # of a field's values have another type than most
# A number with its unit, or a truth value, written as text.
_AMOUNT = re.compile(r"^\W{0,3}\d+(?:[.,]\d+)*\s*\W?[^\W\d]{0,12}\.?$")
_TRUTH = {"yes", "no", "true", "false", "y", "n"}


@dataclass(frozen=True)
class Drift:
    """One field, the number of its values per type, and whether both spell the same thing."""

    name: str
    types: Counter[str]
    same: bool

    @property
    def text(self) -> str:
        """Return the field with its counts."""
        counts = ", ".join(f"{n:,} {kind}" for kind, n in self.types.most_common(3))
        return f"`{self.name}` is {counts}"


@detector("fields.drift")
def drift(run: Run) -> Observation:
    """Find a field of the target objects that is text in some rows and something else in others.

    A target is an answer that is a JSON object, or an object beside the row's text that a script
    may write out. Two such fields are drift; one is if both types spell the same thing: a number
    as `"3 pcs"`, a truth value as `"yes"`, one text as a list of one.
    """
    rows = of_split(run, "train")
    if not rows.height:
        return no_rows("train")
    targets = list(_targets(rows))
    schemas = Counter(tuple(sorted(t)) for t in targets)
    keys, count = schemas.most_common(1)[0] if schemas else ((), 0)
    if count < LEAST or count < ONE_SCHEMA * len(targets):
        return unobservable("The targets are no objects of one schema", "structured training data")
    values = {k: [t[k] for t in targets if tuple(sorted(t)) == keys] for k in keys}
    found = [d for name, held in values.items() if (d := _drift(name, held))]
    if len(found) > 1 or any(d.same for d in found):
        shown = "; ".join(d.text for d in found[:3])
        return present(
            f"Fields of the targets change their type: {shown}",
            *facts_of(rows, "data.record", "record"),
        )
    return absent(f"The fields of {count:,} target objects keep their types")


def _targets(rows: pl.DataFrame) -> Iterator[dict[str, Any]]:
    for answer, record in rows.select("response", "record").iter_rows():
        if answer and answer.lstrip().startswith("{"):
            value = _parsed(answer)
        elif answer:
            continue
        else:
            value = _beside_text(_parsed(record or ""))
        if isinstance(value, dict) and value:
            yield {k: v for k, v in value.items() if isinstance(k, str)}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _beside_text(row: Any) -> Any:
    """Return the one object of a row that holds a text besides."""
    if not isinstance(row, dict):
        return None
    objects = [v for v in row.values() if isinstance(v, dict)]
    return objects[0] if len(objects) == 1 and any(isinstance(v, str) for v in row.values()) else {}


def _drift(name: str, values: list[Any]) -> Drift | None:
    types = Counter(_type(v) for v in values if v is not None)
    total = sum(types.values())
    rarer = total - max(types.values(), default=0)
    if len(types) < 2 or rarer < SHARE * total or "text" not in types:
        return None
    texts = [v.strip() for v in values if isinstance(v, str)]
    others = [v for v in values if v is not None and not isinstance(v, str)]
    if types["list"] + types["object"] == 0:
        spelt = sum(bool(_AMOUNT.match(t)) or t.casefold() in _TRUTH for t in texts)
        return Drift(name, types, True) if spelt > 0.9 * len(texts) else None
    lists = [v for v in others if isinstance(v, list)]
    ones = sum(len(v) == 1 for v in lists)
    if lists and ones < SHARE * len(lists):  # one as text, several as a list: the schema's choice
        return None
    return Drift(name, types, ones == len(others))


def _type(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    return "list" if isinstance(value, list) else "object"
