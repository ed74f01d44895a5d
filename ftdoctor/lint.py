"""Lint of signatures: what a loader accepts and a reader of a report would still trip over."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ftdoctor.model import Cause, Library, Symptom

TITLE = 90  # characters: more does not fit one line of a ticket
CLAUSE = 16  # words of a verdict: it is read as a headline
# Something that can be acted on: code, a setting, an option, a file, a command, a variable, a
# number, a named method or class.
_CONCRETE = re.compile(
    r"`[^`]+`|\b\w+_\w+\b|--\w|\b[\w-]+\.(?:json|jsonl|yaml|yml|txt|sh|py|gguf|safetensors|bin)\b"
    r"|\bpip\b|\bnvidia-smi\b|\bulimit\b|\b[A-Z]{2,}\w*\b|\b\w+[A-Z]\w+\b|\d"
)
_SOURCED = re.compile(
    r"(?i)https://|measured|judgement|by definition|arithmetic|catalogue|symptoms-\d|seed rule"
    r"|as its two parts|\d+\.\d+|\w+\.(?:py|md|json|cpp|c|h)\b|transformers|\btrl\b|tinker|python"
    r"|TrainingArguments"
)


def lint(library: Library) -> list[str]:
    """Return one line per fault of form, with the place of its signature."""
    return [f"{s.file}:{s.line}:1: {s.id}: {f}" for s in library.items() for f in _faults(s)]


def _faults(item: Symptom | Cause) -> Iterator[str]:
    yield from _title_faults(item.title)
    if isinstance(item, Symptom):
        if not _SOURCED.search(item.source):
            yield "`source` must say where the numbers come from: a link, a measurement, judgement"
        return
    if not (item.patch or _CONCRETE.search(" ".join((item.fix, *item.fix_for.values())))):
        yield "`fix` must name a setting, a file or a command"
    drafted = item.status == "experimental"
    if not item.references and item.severity != "low" and not drafted:
        yield "`references` must hold at least one https:// link"
    if len(item.verdict.split()) > CLAUSE:
        yield f"`verdict` must be a clause of at most {CLAUSE} words"


def _title_faults(title: str) -> Iterator[str]:
    if not title or len(title) > TITLE:
        yield f"`title` must have 1 to {TITLE} characters, not {len(title)}"
    if title.endswith((".", "!", "?")):
        yield "`title` must not end with a stop"
    if title[:1].islower() and not re.match(r"\w*[A-Z_\d.]|[a-z]+bytes\b", title):
        yield "`title` must begin with a capital letter"
