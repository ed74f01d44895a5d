"""Read an Ollama Modelfile: base, template, stop parameters, system text and adapter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read.reading import Reading
from ftdoctor.read.source import Source

SIZE_LIMIT = 4 << 20  # bytes; licences are the longest part
# https://github.com/ollama/ollama parser/parser.go
INSTRUCTIONS = frozenset({
    "FROM", "PARAMETER", "TEMPLATE", "SYSTEM", "ADAPTER", "LICENSE", "MESSAGE", "REQUIRES",
    "DRAFT", "RENDERER", "PARSER",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction with its value (quotes removed) and the line it begins on."""

    name: str
    value: str
    line: int


def read_modelfile(source: Source) -> Reading:
    """Read every instruction; an unclosed quotation makes the file `partial`."""
    try:
        lines = source.text(SIZE_LIMIT).splitlines()
    except (ValueError, OSError) as error:
        return Reading(ArtifactState.DAMAGED, f"cannot be read: {error}")
    found: list[Instruction] = []
    problem = ""
    for item in instructions(lines):
        if item.name:
            found.append(item)
        else:
            problem = item.value
    if not any(item.name == "FROM" for item in found):
        problem = problem or "no FROM instruction"
    return Reading(
        state=ArtifactState.PARTIAL if problem else ArtifactState.READ,
        reason=problem,
        taken=f"{len(found)} instructions",
        facts=tuple(_facts(source.path, found)),
    )


def instructions(lines: list[str]) -> Iterator[Instruction]:
    """Yield instructions in order; one without a name carries a problem in its value."""
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        word, _, rest = line.strip().partition(" ")
        if not word or word.startswith("#"):
            continue
        if word.upper() not in INSTRUCTIONS:
            yield Instruction("", f"line {number} begins with no known instruction", number)
            continue
        begin = number
        rest, closed = rest.strip(), True
        quote = re.search(r'"""', rest)
        if quote:
            opening, text = rest[: quote.start()], rest[quote.end() :]
            parts = [text]
            while '"""' not in parts[-1] and number < len(lines):
                parts.append(lines[number])
                number += 1
            closed = '"""' in parts[-1]
            rest = opening + "\n".join(parts).partition('"""')[0]
        if not closed:
            yield Instruction("", f'the """ of line {begin} is never closed', begin)
        yield Instruction(word.upper(), rest, begin)


def _unquote(text: str) -> str:
    text = text.strip()
    quoted = len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if quoted else text


def _facts(path: str, found: list[Instruction]) -> Iterator[Fact]:
    named = {
        "FROM": "modelfile.from",
        "TEMPLATE": "modelfile.template",
        "SYSTEM": "modelfile.system",
        "ADAPTER": "modelfile.adapter",
        "RENDERER": "modelfile.renderer",
    }
    stops: list[str] = []
    stop_line = 0
    for item in found:
        where = Where(path, line=item.line)
        if item.name in named:
            yield Fact(named[item.name], _unquote(item.value), where)
        elif item.name == "PARAMETER":
            name, _, value = item.value.partition(" ")
            if name.lower() == "stop":
                stops.append(_unquote(value))
                stop_line = stop_line or item.line
            else:
                yield Fact(f"modelfile.parameter.{name.lower()}", _unquote(value), where)
    if found:
        yield Fact("modelfile.stop", stops, Where(path, line=stop_line or found[0].line))
