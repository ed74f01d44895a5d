"""YAML, JSON and TOML as values with the line of each key; nothing in a file is constructed."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ftdoctor.read.jsontext import loads

DEPTH = 12
LIMIT = 5000  # entries taken from one file: a guard against YAML aliases that multiply
NODE_LIMIT = 1_000_000  # values of one YAML document, aliases written out
YAML_LIMIT = 4 << 20  # bytes; pure Python YAML reads about 100 kB/s

# YAML 1.2 core schema numbers; YAML 1.1 (PyYAML) takes `1e-4` for text and `no` for false.
INTEGER = re.compile(r"[-+]?[0-9][0-9_]*")
FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
SPECIAL = {".inf": float("inf"), "-.inf": float("-inf"), ".nan": float("nan")}
TEXT_IN_YAML_1_1 = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?[0-9.]+[eE][0-9]+")


@dataclass(frozen=True, slots=True)
class Entry:
    """A dotted key with its value and line; `number_as_text` if PyYAML would read it as text."""

    name: str
    value: Any
    line: int
    number_as_text: bool = False


def entries_of(text: str, format: str) -> list[Entry]:
    """Return the leaves of a document: mappings flattened with dots, lists whole.

    The elements of a list of mappings are given too, as `datasets.0.path`. `format` is yaml, json
    or toml. ValueError with line and column if the text is not of that format.
    """
    if format == "json":
        return _json_entries(text)
    if format == "toml":
        return _toml_entries(text)
    return _yaml_entries(text)


def _flatten(value: Any, prefix: str, depth: int = DEPTH) -> Iterator[tuple[str, Any]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        name = f"{prefix}{key}"
        if isinstance(inner, dict) and inner and depth > 0:
            yield from _flatten(inner, f"{name}.", depth - 1)
            continue
        yield name, inner
        if isinstance(inner, list) and inner and isinstance(inner[0], dict) and depth > 0:
            elements = [element for element in inner[:20] if isinstance(element, dict)]
            yield from _flatten(elements, f"{name}.", depth - 1)


def _take(value: Any, lines: dict[str, int]) -> list[Entry]:
    found = []
    for name, inner in _flatten(value, "") if isinstance(value, dict | list) else ():
        found.append(Entry(name, inner, lines.get(name, 0)))
        if len(found) >= LIMIT:
            break
    return found


# --- JSON -------------------------------------------------------------------------------------

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]')


def _json_entries(text: str) -> list[Entry]:
    return _take(loads(text), json_lines_of(text))


def json_lines_of(text: str) -> dict[str, int]:
    """Return the line of every key and list element of a JSON text by its dotted name."""
    starts = [match.end() for match in re.finditer("\n", text)]
    lines: dict[str, int] = {}
    # One entry per open bracket: the name so far, and the next index of an array (None: object).
    stack: list[tuple[str, int | None]] = []
    name = ""
    tokens = list(_TOKEN.finditer(text))
    for position, match in enumerate(tokens):
        token = match.group()
        inside = stack[-1] if stack else ("", None)
        if token in "{[":
            if inside[1] is not None:
                name = f"{inside[0]}{inside[1]}"
                lines.setdefault(name, bisect_right(starts, match.start()) + 1)
            prefix = f"{name}." if stack else ""
            stack.append((prefix, None if token == "{" else 0))
        elif token in "}]":
            if stack:
                stack.pop()
        elif token == ",":
            if inside[1] is not None:
                stack[-1] = (inside[0], inside[1] + 1)
        elif token.startswith('"') and inside[1] is None and stack:
            following = tokens[position + 1].group() if position + 1 < len(tokens) else ""
            if following == ":":
                name = inside[0] + token[1:-1]
                lines.setdefault(name, bisect_right(starts, match.start()) + 1)
    return lines


# --- TOML -------------------------------------------------------------------------------------


def _toml_entries(text: str) -> list[Entry]:
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(str(error)) from error
    lines: dict[str, int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if match := re.match(r"\s*\[\[?([^\]]+)\]", line):
            section = match.group(1).strip().replace('"', "") + "."
        elif match := re.match(r"""\s*["']?([\w.-]+)["']?\s*=""", line):
            lines.setdefault(section + match.group(1), number)
    return _take(value, lines)


# --- YAML -------------------------------------------------------------------------------------


def _yaml_entries(text: str) -> list[Entry]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found: list[Entry] = []
    try:
        for node in yaml.compose_all(text, Loader=loader):
            if node is not None:
                check_aliases(node)
                _walk(node, "", found, DEPTH)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{place}{error.problem}") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    return found


def check_aliases(node: Any) -> None:
    """Refuse, by ValueError, a composed document whose aliases multiply."""
    if _weight(node, {}) > NODE_LIMIT:
        raise ValueError(f"its aliases multiply to more than {NODE_LIMIT:,} values")


def _weight(node: Any, known: dict[int, int], depth: int = DEPTH) -> int:
    """Count the values that a node has when its aliases are written out, down to a depth."""
    if node.id == "scalar" or depth < 0:
        return 1
    if id(node) not in known:
        known[id(node)] = NODE_LIMIT  # what it has, should it hold itself
        parts = [inner for _, inner in node.value] if node.id == "mapping" else node.value
        known[id(node)] = 1 + sum(_weight(inner, known, depth - 1) for inner in parts)
    return known[id(node)]


def _walk(node: Any, prefix: str, found: list[Entry], depth: int) -> None:
    if len(found) >= LIMIT or depth < 0:
        return
    if node.id == "mapping":
        for key, inner in node.value:
            name = f"{prefix}{key.value if key.id == 'scalar' else '?'}"
            _entry(inner, name, key.start_mark.line + 1, found, depth)
    elif node.id == "sequence":
        for index, inner in enumerate(node.value[:20]):
            _entry(inner, f"{prefix}{index}", inner.start_mark.line + 1, found, depth)


def _entry(node: Any, name: str, line: int, found: list[Entry], depth: int) -> None:
    if node.id == "mapping" and node.value:
        _walk(node, f"{name}.", found, depth - 1)
        return
    plain = node.id == "scalar" and not node.style
    as_text = plain and bool(TEXT_IN_YAML_1_1.fullmatch(node.value))
    found.append(Entry(name, yaml_value(node, depth), line, as_text))
    if node.id == "sequence" and node.value and node.value[0].id == "mapping":
        _walk(node, f"{name}.", found, depth - 1)


def yaml_value(node: Any, depth: int = DEPTH) -> Any:
    """Return a composed node as plain data; tags other than the core ones are ignored."""
    if depth < 0:
        return None
    if node.id == "mapping":
        return {
            str(key.value): yaml_value(inner, depth - 1)
            for key, inner in node.value[:LIMIT]
            if key.id == "scalar"
        }
    if node.id == "sequence":
        return [yaml_value(inner, depth - 1) for inner in node.value[:LIMIT]]
    if node.style:  # quoted; libyaml gives "" for plain, the Python scanner None
        return node.value
    return yaml_scalar(node.value)


def yaml_scalar(text: str) -> Any:
    """Return a plain YAML scalar as YAML 1.2 reads it."""
    lowered = text.lower()
    if lowered in ("", "~", "null"):
        return None
    if lowered in ("true", "false"):
        return lowered == "true"
    if lowered.replace("+", "") in SPECIAL:
        return SPECIAL[lowered.replace("+", "")]
    if INTEGER.fullmatch(text):
        return int(text.replace("_", ""))
    if FLOAT.fullmatch(text):
        return float(text.replace("_", ""))
    return text
