"""JSON as runs leave it: NaN literals, cut ends, NUL tails, interleaved writers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from ftdoctor.read.source import LINE_LIMIT, Source

_DECODER = json.JSONDecoder()
_BOM = b"\xef\xbb\xbf"
# Parts of one damaged line that are tried: more means that it is no JSON at all.
SALVAGE_LIMIT = 64  # open brackets closed to save a cut document


@dataclass
class Losses:
    """What could not be read of a file of JSON lines: complete lines and the cut end."""

    lines: list[int] = field(default_factory=list)
    cut_at: int | None = None
    nul_bytes: int = 0

    def reason(self) -> str:
        """Return one sentence for `Reading.reason`, "" if nothing was lost."""
        parts = []
        if self.lines:
            parts.append(
                f"{len(self.lines)} damaged line(s), the first at line {self.lines[0]}: "
                "two processes wrote at once, or the line is not JSON"
            )
        if self.cut_at is not None:
            parts.append(f"cut in line {self.cut_at}: the writer was stopped, or a partial copy")
        if self.nul_bytes:
            parts.append(f"{self.nul_bytes} NUL bytes: the machine went down while writing")
        return "; ".join(parts)


def loads(text: str | bytes) -> Any:
    """Parse JSON, NaN and Infinity included; ValueError if it is none."""
    try:
        return orjson.loads(text)
    except ValueError:
        if isinstance(text, bytes):
            text = text.decode("utf-8", errors="replace")
        try:
            return json.loads(text)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error


def json_lines(source: Source, losses: Losses) -> Iterator[tuple[int, Any]]:
    """Yield (line number, value) of every line that holds JSON; damage is counted in `losses`.

    A damaged line is searched for whole objects, as two ranks writing at once leave them.
    """
    with source.open() as stream:
        number, tail = 0, b""
        while raw := stream.readline(LINE_LIMIT):
            number += 1
            if raw[:2] in (b"\xff\xfe", b"\xfe\xff") and number == 1:
                yield from _utf16_lines(source, losses)
                return
            line = raw.removeprefix(_BOM) if number == 1 else raw
            nuls = line.count(b"\0")
            if nuls:
                losses.nul_bytes += nuls
                line = line.replace(b"\0", b"")
            line = line.strip()
            tail = raw
            if line:
                yield from line_values(line, number, losses)
    if losses.lines and losses.lines[-1] == number and not tail.endswith(b"\n"):
        losses.cut_at = losses.lines.pop()


def _utf16_lines(source: Source, losses: Losses) -> Iterator[tuple[int, Any]]:
    for number, line in source.lines():
        if line.strip():
            yield from line_values(line.strip().encode(), number, losses)


def line_values(line: bytes, number: int, losses: Losses) -> Iterator[tuple[int, Any]]:
    """Yield (line number, value) of one line, or of every whole object in a damaged one."""
    try:
        yield number, loads(line)
    except ValueError:
        losses.lines.append(number)
        for value in salvage(line.decode("utf-8", errors="replace")):
            yield number, value


def salvage(text: str) -> Iterator[dict[str, Any]]:
    """Yield the whole objects inside damaged text, in order."""
    at = 0
    for _ in range(SALVAGE_LIMIT):
        at = text.find('{"', at)
        if at < 0:
            return
        try:
            value, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        if isinstance(value, dict):
            yield value
