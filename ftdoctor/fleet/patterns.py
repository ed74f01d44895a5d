"""Log lines with what differs from run to run left open: paths, addresses and numbers."""

from __future__ import annotations

import re

VARIABLE = re.compile(
    r"(?P<path>(?:[\w.~-]*/)+[\w.\[\]~-]+)|(?P<hex>\b0x[0-9a-fA-F]+\b|\b[0-9a-f]{8,}\b)"
    r"|(?P<number>[-+]?\d+(?:[.,:]\d+)*(?:e[-+]?\d+)?)"
)
WILDCARDS = {"path": r"\S+", "hex": r"\w+", "number": r"[-+\w.,:]+"}


def pattern_of(text: str) -> str:
    """Return a regular expression (RE2) for a log line with its numbers and paths left open."""
    parts, at = [], 0
    for match in VARIABLE.finditer(text):
        parts += [_escaped(text[at : match.start()]), WILDCARDS[str(match.lastgroup)]]
        at = match.end()
    return "".join((*parts, _escaped(text[at:])))


def _escaped(text: str) -> str:
    return re.sub(r"([\\.^$*+?{}\[\]|()])", r"\\\1", text)
