"""Numbers as trainers write them: bare and quoted NaN, tensors, percentages, thousands commas."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

NUMBER = (
    r"[-+]?(?:nan|NaN|NAN|inf(?:inity)?|Inf(?:inity)?"
    r"|(?:\d+(?:,\d{3})+|\d+)(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)"
)
_WORDS = {
    "nan": float("nan"),
    "inf": float("inf"),
    "+inf": float("inf"),
    "-inf": float("-inf"),
    "infinity": float("inf"),
    "+infinity": float("inf"),
    "-infinity": float("-inf"),
}
EXACT = 2**53  # whole numbers up to it are exact as floats
_WRAPPED = re.compile(rf"(?:np\.|numpy\.|torch\.)?[a-z]+\d*\(\s*({NUMBER})\s*(?:,.*)?\)")
_PLAIN = re.compile(NUMBER)


def number(value: Any) -> float | None:
    """Return a JSON value as a float, or None: only NaN and Inf are taken from strings."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:
            return None
    if isinstance(value, str):
        return _WORDS.get(value.lower())
    return None


def parse_number(text: str) -> float | None:
    """Return printed text as a float: `1,024`, `nan`, `np.float64(0.3)`, `tensor(2., device=…)`."""
    text = text.strip().strip("'\"")
    wrapped = _WRAPPED.fullmatch(text)
    if wrapped:
        text = wrapped.group(1)
    word = _WORDS.get(text.lower())
    if word is not None:
        return word
    if not _PLAIN.fullmatch(text):
        return None
    return float(text.replace(",", ""))


def whole(value: Any) -> int | None:
    """Return a value as an int if it is a whole number, else None."""
    found = number(value)
    if found is None or not found.is_integer() or abs(found) > EXACT:
        return None
    return int(found)


def numbers(record: Mapping[str, Any], prefix: str = "", depth: int = 3) -> dict[str, float]:
    """Return the numeric leaves of a record; names of nested ones are joined by a slash."""
    found: dict[str, float] = {}
    for key, value in record.items():
        if isinstance(value, dict) and depth > 0:
            found.update(numbers(value, f"{prefix}{key}/", depth - 1))
            continue
        as_number = number(value)
        if as_number is not None:
            found[f"{prefix}{key}"] = as_number
    return found
