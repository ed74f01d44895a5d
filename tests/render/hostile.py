"""Fill every text of a diagnosis with something that must not get through."""

from __future__ import annotations

from typing import Any

from ftdoctor.codec import decode_diagnosis, encode
from ftdoctor.model import Diagnosis

TEXTS = {
    "script": "<script>alert(1)</script>",
    "image": '"><img src=x onerror=alert(1)>',
    "style": "</style><style>*{display:none}</style>",
    "closing": "</script></title></svg>--><!--",
    "template": "{{7*7}}{% raw %}",
    "markdown": "```\n@everyone #1 ![x](https://evil.example/x.png) [a](javascript:1) | `` ` |",
    "quick action": "\n/close\n@here",
    "direction": "\u202eevil\u2066\u200f\u200b",
    "terminal": "\x1b[2J\x1b]0;title\x07\r\x9b31m",
    "surrogate": "caf\udce9",
    "math": r"$\frac{1}{0}$ $x$",
    "wide": "漢字" * 40,
    "attribute": "' onmouseover='alert(1)' x=\"",
}
KEPT = {"schema_version", "severity", "state", "role", "symptom", "beneath", "explained_by"}


def fill(d: Diagnosis, text: str) -> Diagnosis:
    """Return the diagnosis with `text` in each field and key that a run or signature can fill."""
    filled = decode_diagnosis(_filled(encode(d), text, ""))
    assert filled.causes or not d.causes
    return filled


def _filled(value: Any, text: str, key: str) -> Any:
    if isinstance(value, dict):
        free = key in ("redactions", "versions")
        return {(k + text if free else k): _filled(v, text, k) for k, v in value.items()}
    if isinstance(value, list):
        return [_filled(item, text, key) for item in value]
    if not isinstance(value, str) or key in KEPT or value in ("NaN", "Infinity", "-Infinity"):
        return value
    if key == "kind" and value in ("cause", "unknown", "healthy", "unreadable"):
        return value
    if key == "unexplained":
        return value
    return value + text
