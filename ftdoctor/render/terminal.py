"""The ten lines on the terminal: verdict, causes with probability and bar, the fix, the report."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

from ftdoctor.model import Diagnosis, RankedCause
from ftdoctor.render import text as words
from ftdoctor.render.evidence import shown, sides

CAUSES = 4
BAR = 12
NARROW = 50  # columns; below this the bar is left out
BOLD, RED, GREEN, DIM = "1", "31", "32", "2"
_ASCII = str.maketrans(
    {"█": "#", "░": ".", "—": "-", "–": "-", "−": "-", "…": "...", "“": '"', "”": '"', "’": "'",
     "‘": "'", "×": "x", "→": "->", "≥": ">=", "≤": "<=", "·": "-"}
)  # fmt: skip


def print_summary(d: Diagnosis, *reports: Path, stream: TextIO | None = None) -> None:
    """Print the summary as the stream can show it: its width, its colours, its code page."""
    out = stream or sys.stdout
    width = shutil.get_terminal_size((80, 24)).columns
    rendered = render_terminal(
        d,
        width=width,
        color=wants_color(out, os.environ),
        report=", ".join(map(str, reports)),
        encoding=out.encoding or "ascii",
    )
    out.write(rendered)


def wants_color(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Say whether to colour: on a terminal that is not dumb, unless NO_COLOR (no-color.org)."""
    if environment.get("NO_COLOR") or environment.get("TERM") == "dumb":
        return False
    return stream.isatty()


def render_terminal(
    d: Diagnosis,
    *,
    width: int = 80,
    color: bool = False,
    report: str = "",
    encoding: str = "utf-8",
) -> str:
    """Return about ten lines of at most `width` columns that `encoding` can hold.

    Text of the run is made safe first: no escape sequence of a log reaches the terminal.
    """
    columns = max(min(width, 100), 20)
    lines = _wrap(words.one_line(d.verdict.text, 400), columns, style=_tone(d))
    lines += [("", "")] if shown(d) or d.verdict.lead else []
    for cause in shown(d)[:CAUSES]:
        lines += _cause_lines(cause, columns)
    hidden = sum(c.probability >= words.SHOWN for c in d.causes) - CAUSES
    if hidden > 0:
        lines += [(f"      and {words.plural(hidden, 'more cause')} in the report", DIM)]
    if not shown(d) and d.verdict.lead:
        lines += _wrap(words.one_line(d.verdict.lead, 300), columns)
    lines += _fix_lines(d, columns)
    if d.run.others:
        lines += [("", ""), *_wrap(words.one_line(words.of_several(d.run), 400), columns)]
    if report:
        lines += [("", ""), (f"Report: {words.clean(report)}", DIM)]
    return _encodable("\n".join(_paint(*line, color) for line in lines) + "\n", encoding)


def _tone(d: Diagnosis) -> str:
    return f"{BOLD};{RED}" if d.verdict.kind in ("cause", "unreadable") else BOLD


def _cause_lines(cause: RankedCause, columns: int) -> list[tuple[str, str]]:
    filled = round(cause.probability * BAR)
    bar = "" if columns < NARROW else "█" * filled + "░" * (BAR - filled) + "  "
    head = f"{words.percent(cause.probability):>4}  {bar}"
    title = ("→ " if cause.beneath else "") + words.one_line(cause.title, 160)
    wrapped = _wrap(title, columns, head=head)
    return [(line, "") for line, _ in wrapped]


def _fix_lines(d: Diagnosis, columns: int) -> list[tuple[str, str]]:
    action = words.one_line(d.verdict.action, 400)
    if not action:
        return []
    lines = [("", ""), *_wrap(action, columns, head="Do this first: ", hang=2, style=GREEN)]
    edit = d.causes[0].edit if d.verdict.kind == "cause" and d.causes else None
    if edit is not None:
        room = columns - 6
        lines += [(f"  {words.one_line(f'{edit.path}:{edit.line}', room)}", DIM)]
        before, after = sides(edit, room, 2)
        lines += [(f"  - {row}", RED) for row in before]
        lines += [(f"  + {row}", GREEN) for row in after]
    return lines


def _cells(text: str) -> int:
    """Return the columns that a text takes: two for wide characters, none for combining ones."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _wrap(
    text: str, columns: int, *, head: str = "", hang: int | None = None, style: str = ""
) -> list[tuple[str, str]]:
    """Return lines of a paragraph after `head`, with its style; a word too long is cut."""
    indent = " " * (_cells(head) if hang is None else hang)
    lines, current, empty = [], head, True
    for word in _words(text, columns - _cells(indent)):
        needed = _cells(current) + _cells(word) + (not empty)
        if needed > columns and current != indent:
            lines.append(current)
            current, empty = indent, True
        current += word if empty else f" {word}"
        empty = False
    return [(line.rstrip(), style) for line in (*lines, current)]


def _words(text: str, room: int) -> list[str]:
    found = []
    for word in text.split():
        rest = word
        while _cells(rest) > room:
            found.append(rest[: max(room // 2, 1)])
            rest = rest[max(room // 2, 1) :]
        found.append(rest)
    return found


def _paint(line: str, style: str, color: bool) -> str:
    return f"\x1b[{style}m{line}\x1b[0m" if color and style and line else line


def _encodable(text: str, encoding: str) -> str:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        plain = text.translate(_ASCII)
        try:
            return plain.encode(encoding, "replace").decode(encoding)
        except LookupError:
            return plain.encode("ascii", "replace").decode("ascii")
    return text
