"""Lint of signatures: what a loader accepts and a reader of a report would still trip over."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from ftdoctor.fixes import DIALECTS
from ftdoctor.model import Cause, Library, Symptom
from ftdoctor.rank import excluding

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
# What a fix tells to raise or to lower: the first setting after the verb.
_ADVISED = re.compile(
    r"(?i)\b(?:(?P<up>raise|increase|double)|(?P<down>lower|reduce|halve|shorten))\s+(?:the\s+)?"
    r"(?P<what>`?[\w.]+`?(?:\s(?:rate|limit))?)"
)
_TOO = re.compile(r"-too-(?:(?P<down>high|large|many|long)|(?P<up>low|small|few|short))\b")
_MEANT = {
    "rate": "learning_rate", "learning rate": "learning_rate", "limit": "max_length",
    "length limit": "max_length", "max_seq_length": "max_length",
}  # fmt: skip
_CANONICAL = {theirs: ours for names in DIALECTS.values() for ours, theirs in names.items()}


def lint(library: Library) -> list[str]:
    """Return one line per fault of form, with the place of its signature."""
    faults = [f"{s.file}:{s.line}:1: {s.id}: {f}" for s in library.items() for f in _faults(s)]
    for one, other, setting in contradictions(library):
        if not excluding(one, other):
            faults.append(
                f"{one.file}:{one.line}:1: {one.id}: `excludes` must name {other.id}, whose advice "
                f"on {setting} is the opposite"
            )
    return faults


def contradictions(library: Library) -> Iterator[tuple[Cause, Cause, str]]:
    """Yield pairs of causes of which one raises or turns on what the other lowers or turns off."""
    advice: dict[str, dict[str, list[Cause]]] = defaultdict(lambda: defaultdict(list))
    for cause in library.causes.values():
        for setting, way in sorted(advised(cause)):
            advice[setting][way].append(cause)
    for setting, ways in sorted(advice.items()):
        for way, opposite in (("up", "down"), ("on", "off")):
            for one in ways[way]:
                yield from ((one, other, setting) for other in ways[opposite] if other != one)


def advised(cause: Cause) -> frozenset[tuple[str, str]]:
    """Return (canonical setting, way) of what a cause's fix asks for: up, down, on or off."""
    found = set()
    for text in (cause.fix, *cause.fix_for.values()):
        for match in _ADVISED.finditer(" ".join(text.split())):
            what = match["what"].strip("`").lower()
            if what == "it":
                continue
            setting = _MEANT.get(what) or _CANONICAL.get(what, what)
            found.add((setting, "up" if match["up"] else "down"))
    if cause.patch is not None and isinstance(cause.patch.to, bool):
        found.add((cause.patch.setting, "on" if cause.patch.to else "off"))
    elif cause.patch is not None and (too := _TOO.search(cause.id)):
        found.add((cause.patch.setting, "up" if too["up"] else "down"))
    return frozenset(found)


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
