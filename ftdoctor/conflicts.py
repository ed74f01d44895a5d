"""Settings on which two sources of one run disagree: both are kept, and the report shows both."""

from __future__ import annotations

from pathlib import PurePosixPath

from ftdoctor.compare.named import BOOKKEEPING
from ftdoctor.detect.facts import same
from ftdoctor.model import Conflict, Fact, Run, Value

# Scripts name each of their data files; no two of these need be the same.
SEVERAL = frozenset({"dataset"})
# Written alike by people and differently by tools: `adamw` for `adamw_torch_fused`.
ABBREVIATED = frozenset({"optim"})
UNSET = ("", "none", "null", "[]", "{}")


def conflicts(run: Run) -> tuple[Conflict, ...]:
    """Return the settings with different values, the value that counts first, by name.

    Unset is no value, a path is its last part, and lists are sets: these differ without a fault.
    """
    found = []
    for name, facts in sorted(run.settings.items()):
        if name in BOOKKEEPING or name in SEVERAL:
            continue
        distinct: list[Fact] = []
        for fact in facts:
            if _is_set(fact.value) and not any(_alike(name, fact, other) for other in distinct):
                distinct.append(fact)
        if len(distinct) > 1:
            found.append(Conflict(name, tuple(distinct)))
    return tuple(found)


def _is_set(value: Value) -> bool:
    return value is not None and str(value).strip().lower() not in UNSET


def _alike(name: str, one: Fact, other: Fact) -> bool:
    if isinstance(one.value, str) and isinstance(other.value, str):
        left, right = _plain(one.value), _plain(other.value)
        if name in ABBREVIATED and (left.startswith(right) or right.startswith(left)):
            return True
        return left == right
    return same(one.value, other.value)


def _plain(text: str) -> str:
    return PurePosixPath(text.strip().lower().replace("\\", "/").rstrip("/")).name
