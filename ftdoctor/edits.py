"""The line that gives a setting its value, and that line with another value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from ftdoctor.detect.facts import number
from ftdoctor.model import Edit, Fact, Patch, Value
from ftdoctor.read.names import setting_name

COMMAND_LINES = 80  # of one command that goes on over line ends
_VALUE = (
    r"(?P<value>\[[^\]]*\]|\"[^\"]*\"|'[^']*'|\$\([^)]*\)|\$\{[^}]*\}|[^\s,;#()}\]\\\"']+)"
    r"(?=[\s,;#)}\]\\\"']|$)"  # a call such as `int(x)` is no value to replace
)
_OPTION = re.compile(rf"(?<![\w.-])--?(?P<name>[A-Za-z][\w.-]*)(?:=|[ \t]+(?!--)){_VALUE}")
_FLAG = re.compile(r"(?<![\w.-])--(?P<name>[A-Za-z][\w-]*)(?=\s+--|\s*\\|\s*[\"']|\s*$)")
_ARGUMENT = re.compile(rf"add_argument\(\s*.*?--?(?P<name>[\w-]+)[\"'].*?\bdefault\s*=\s*{_VALUE}")
_KEY = re.compile(rf"(?<![\w.-])[\"']?(?P<name>[A-Za-z_][\w.-]*)[\"']?\s*[:=]\s*{_VALUE}")
_ALONE = re.compile(rf"^\s*[\w.\"-]+\s*[:=]\s*{_VALUE}")
_NUMBER = re.compile(r"(?<![\w.])(?P<value>\d[\d.]*(?:e[+-]?\d+)?)\b")
_VARIABLE = re.compile(r"[\"']?\$[({]?(?P<name>[A-Za-z_]\w*)(?::-[^}]*)?[)}]?[\"']?")
_FALLBACK = re.compile(r"(\$\{\w+:-).*(\})")  # `${LR:-1e-4}`
_GOES_ON = re.compile(r"\\(?:\\n\",?)?\s*$")  # in a notebook's file the line end is written out


def replace_value(line: str, fact: Fact, to: Value) -> str | None:
    """Return the line with the setting's value replaced, or None if the value is not on it.

    Understands `key=value` (Python, shell), `key: value` (YAML), `"key": value` (JSON), the default
    in `add_argument("--key", ...)`, and `--key value` (shell).
    """
    found = _value_on(line, fact) or _ALONE.search(line)
    yaml = PurePosixPath(fact.where.path).suffix not in {".py", ".ipynb"}
    if found is None and not yaml:
        found = _only_number(line, fact.value)
    if found is None:
        return None
    return _replaced(line, found, literal(to, yaml=yaml))


def _only_number(line: str, value: Value) -> re.Match[str] | None:
    """Return where a line of code holds a number once: an argument without a name."""
    wanted = number(value)
    if isinstance(value, bool) or wanted is None:
        return None
    same = [found for found in _NUMBER.finditer(line) if number(found["value"]) == wanted]
    return same[0] if len(same) == 1 else None


def edit_command(lines: Sequence[str], fact: Fact, patch: Patch) -> Edit | None:
    """Return the change of an option of the command that begins at the fact's line.

    The command may go on over line ends. Where the option takes a variable that the same file sets
    once, that line is changed.
    """
    for place, line in _command(lines, fact.where.line or 1):
        if patch.delete or patch.to is False:
            given = _named(_FLAG.finditer(line), fact) or (patch.delete and _value_on(line, fact))
            if given:
                less = f"{line[: given.start()]}{line[given.end() :].lstrip(' ')}"
                return Edit(fact.where.path, place, line, less)
        found = _value_on(line, fact)
        if found is not None and not patch.delete:
            at, whole, value = _assignment(lines, found["value"]) or (place, line, found)
            changed = _replaced(whole, value, literal(patch.to, yaml=True))
            return Edit(fact.where.path, at, whole, changed)
    return None


def _command(lines: Sequence[str], first: int) -> Iterator[tuple[int, str]]:
    for place in range(first, min(len(lines), first + COMMAND_LINES) + 1):
        yield place, lines[place - 1]
        if not _GOES_ON.search(lines[place - 1]):
            return


def _assignment(lines: Sequence[str], value: str) -> tuple[int, str, re.Match[str]] | None:
    """Return the one line that sets the variable which a value names."""
    variable = _VARIABLE.fullmatch(value)
    if variable is None:
        return None
    sets = re.compile(
        rf"^\s*(?:(?:export|declare|local)\s+)?{variable['name']}\s*[:?]?=\s*{_VALUE}"
    )
    found = [(i, line, m) for i, line in enumerate(lines, 1) if (m := sets.search(line))]
    return found[0] if len(found) == 1 else None


def _value_on(line: str, fact: Fact) -> re.Match[str] | None:
    """Return where a line gives a setting the value that was read, in the group `value`."""
    for pattern in (_ARGUMENT, _OPTION, _KEY):
        found = _named(pattern.finditer(line), fact)
        if found is not None and _may_be(found["value"], fact.value):
            return found
    return None


def _named(places: Iterator[re.Match[str]], fact: Fact) -> re.Match[str] | None:
    last = fact.name.rpartition(".")[2]
    named = ((place, setting_name(place["name"].lower())) for place in places)
    return next((p for p, name in named if last in (name, name.rpartition(".")[2])
                 or name == fact.name), None)  # fmt: skip


def _may_be(written: str, value: Value) -> bool:
    """Say whether a text may stand for a value: another number does not, a variable does."""
    amount, wanted = number(written.strip("\"'")), number(value)
    return amount is None or wanted is None or amount == wanted


def _replaced(line: str, found: re.Match[str], new: str) -> str:
    if fallback := _FALLBACK.fullmatch(found["value"]):
        new = f"{fallback[1]}{new}{fallback[2]}"
    return f"{line[: found.start('value')]}{new}{line[found.end('value') :]}"


def cell_code(line: str) -> str:
    """Return the code that a line of a notebook's file holds; another line as it is."""
    try:
        held = json.loads(line.strip().removesuffix(","))
    except ValueError:
        return line
    return held.rstrip("\n") if isinstance(held, str) else line


def in_cell(line: str, code: str) -> str:
    """Return a line of a notebook's file with other code in it."""
    before, after = (json.dumps(text, ensure_ascii=False)[1:-1] for text in (cell_code(line), code))
    return line.replace(before, after, 1)


def literal(value: Value, *, yaml: bool) -> str:
    """Write a value as YAML/JSON (`true`) or as Python (`True`)."""
    if isinstance(value, bool):
        return str(value).lower() if yaml else str(value)
    if value is None:
        return "null" if yaml else "None"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(literal(item, yaml=yaml) for item in value)}]"
    if isinstance(value, str):
        return value if yaml else f'"{value}"'
    return str(value)
