"""Jupyter notebooks: code cells as one script, printed output as a log, loss tables as a curve."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ftdoctor.model import ArtifactState, Where
from ftdoctor.read import script, shell, tables
from ftdoctor.read.code import parse
from ftdoctor.read.console import read_console
from ftdoctor.read.reading import Reading, joined, relocated
from ftdoctor.read.source import Source, memory_source

SIZE_LIMIT = 32 << 20  # bytes; larger notebooks carry pictures, and their text is cut anyway
CELLS = 2000
_SHELL_CELLS = ("%%bash", "%%sh", "%%shell", "%%script")
_PYTHON_CELLS = ("%%time", "%%capture", "%%python", "%%prun")


@dataclass
class _Text:
    """Lines gathered from cells, each with its line in the file."""

    lines: list[str] = field(default_factory=list)
    at: list[int] = field(default_factory=list)

    def add(self, line: str, at: int) -> None:
        self.lines.append(line)
        self.at.append(at)

    def place(self, number: int) -> int:
        """Return the line in the file of a gathered line (both from 1)."""
        return self.at[number - 1] if 1 <= number <= len(self.at) else 1

    def __str__(self) -> str:
        return "\n".join(self.lines)


def read(source: Source) -> Reading:
    """Read a notebook of format 3 or 4; every place is a line of the .ipynb file itself."""
    try:
        raw = source.text(SIZE_LIMIT)
        book = json.loads(raw)
        cells = list(book["cells"] if "cells" in book else book["worksheets"][0]["cells"])
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        return Reading(ArtifactState.DAMAGED, f"not a notebook: {error}; save it again in Jupyter")
    code, commands, printed, shown = _gather(cells[:CELLS], raw.split("\n"))

    def place(line: int) -> Where:
        return Where(source.path, line=code.place(line))

    readings = [script.reading_of(str(code), source.path, place)]
    readings.append(_moved(shell.reading_of(str(commands), source.path), commands, source.path))
    if printed.lines:
        log = read_console(memory_source(source.path, str(printed).encode()))
        readings.append(_moved(log, printed, source.path))
    return _joined(readings, _table_reading(shown, source.path))


def _gather(cells: Sequence[Any], raw: list[str]) -> tuple[_Text, _Text, _Text, list[_Shown]]:
    """Return code, shell commands, output and loss tables, walking the raw lines alongside."""
    code, commands, printed = _Text(), _Text(), _Text()
    shown: list[_Shown] = []
    finder = _Finder(raw)
    for cell in cells:
        if not isinstance(cell, dict) or cell.get("cell_type") != "code":
            continue
        lines = _lines(cell.get("source", cell.get("input", "")))
        positions = [finder.line(line) for line in lines]
        python, shell_lines = _divided(lines)
        for line, at in zip(python, positions, strict=True):
            code.add(line, at)
        for line, at in zip(shell_lines, positions, strict=True):
            if line:
                commands.add(line, at)
        for output in cell.get("outputs") or []:
            if isinstance(output, dict):
                shown += _output(output, finder, printed)
    return code, commands, printed, shown


def _divided(lines: list[str]) -> tuple[list[str], list[str]]:
    """Divide a cell into Python and shell commands, line by line; the other one's line is empty.

    A cell that is no Python as a whole (another language's magic, prose) gives no Python.
    """
    magic = next((line.strip() for line in lines if line.strip()), "")
    if magic.startswith(_SHELL_CELLS):
        return [""] * len(lines), ["", *lines[1:]]
    if magic.startswith("%%") and not magic.startswith(_PYTHON_CELLS):
        return [""] * len(lines), [""] * len(lines)
    python: list[str] = []
    commands: list[str] = []
    continued = False
    for line in lines:
        bare = line.lstrip()
        command = continued or bare.startswith(("!", "%"))
        shown = command or bare.startswith("?") or bare.endswith("?")
        continued = command and line.rstrip().endswith("\\")
        python.append(line[: len(line) - len(bare)] + "pass" if shown else line)
        commands.append(bare.lstrip("!%") if command else "")
    if parse("\n".join(python))[0] is None:
        python = [""] * len(lines)
    return python, commands


def _lines(source: Any) -> list[str]:
    text = "".join(map(str, source)) if isinstance(source, list) else str(source)
    return text.split("\n")


class _Finder:
    """Finds the line of the file that holds a text, going forward only."""

    def __init__(self, raw: list[str]) -> None:
        self.raw = raw
        self.position = 0

    def line(self, text: str) -> int:
        """Return the number of the next raw line that holds `text` encoded as JSON."""
        wanted = json.dumps(text.strip(), ensure_ascii=False)[1:-1][:200]
        escaped = json.dumps(text.strip())[1:-1][:200]
        if wanted:
            for number in range(self.position, min(len(self.raw), self.position + 400)):
                if wanted in self.raw[number] or escaped in self.raw[number]:
                    self.position = number
                    break
        return min(self.position + 1, max(len(self.raw), 1))


def _output(output: dict[str, Any], finder: _Finder, printed: _Text) -> list[_Shown]:
    """Gather an output's text; return the Trainer's HTML tables of losses in it."""
    kind = output.get("output_type")
    if kind in ("stream", "pyout") and "text" in output:
        for line in _lines(output["text"]):
            printed.add(line, finder.line(line))
    elif kind in ("error", "pyerr"):
        for line in _lines("\n".join(map(str, output.get("traceback") or []))):
            printed.add(re.sub(r"\x1b\[[0-9;]*m", "", line), finder.line(line))
    # Notebooks of format 3 keep what is displayed beside the kind, under short names.
    data = output.get("data") or {"text/html": output.get("html"), "text/plain": None}
    if isinstance(data, dict) and data.get("text/html"):
        return _shown(_text(data["text/html"]), finder)
    if isinstance(data, dict) and data.get("text/plain"):
        for line in _lines(data["text/plain"]):
            printed.add(line, finder.line(line))
    return []


def _text(value: Any) -> str:
    return "".join(map(str, value)) if isinstance(value, list) else str(value)


# --- tables of losses -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Shown:
    """A training that a table shows, and the lines of the file that hold its rows."""

    training: tables.Training
    lines: tuple[int, ...]


def _shown(markup: str, finder: _Finder) -> list[_Shown]:
    found = []
    for training in tables.trainings(markup):
        places = [finder.line(_line_around(markup, offset)) for _, offset in training.rows]
        found.append(_Shown(training, tuple(places)))
    return found


def _line_around(text: str, offset: int) -> str:
    end = text.find("\n", offset)
    return text[text.rfind("\n", 0, offset) + 1 : end if end >= 0 else len(text)]


def _table_reading(shown: list[_Shown], path: str) -> Reading:
    """Return the rows of the tables that make the curve, and what their bars say."""
    lines = {id(one.training): one.lines for one in shown}
    used, aside = tables.chosen([one.training for one in shown])
    rows = [
        tables.metric_row(row, line)
        for one in used
        for (row, _), line in zip(one.rows, lines[id(one)], strict=True)
    ]
    facts = tables.facts_of(used[-1], path, lines[id(used[-1])][0]) if used else []
    facts += [tables.aside_fact(path, lines[id(one)][0]) for one in aside]
    return Reading(metrics=tuple(rows), facts=tuple(facts))


def _moved(reading: Reading, text: _Text, path: str) -> Reading:
    """Return a reading with line numbers of gathered text turned into lines of the notebook."""
    return relocated(reading, path, lambda line: text.place(line) if line else 0)


def _joined(readings: list[Reading], table: Reading) -> Reading:
    """Return one reading; a table of losses wins over the same losses printed."""
    whole = joined([table, *readings])
    metrics = table.metrics or whole.metrics
    first = readings[0]
    return replace(
        whole,
        state=first.state,
        reason=first.reason,
        taken=f"{first.taken}; {len(metrics)} logged rows",
        metrics=metrics,
        curve="console" if metrics else "",
    )
