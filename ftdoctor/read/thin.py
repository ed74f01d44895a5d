"""Choose which rows of a very long log to read, so that what is odd in it is never left out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Any

from ftdoctor.read.jsontext import Losses, line_values, loads
from ftdoctor.read.source import LINE_LIMIT, Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Column = NDArray[np.float64]
    Places = NDArray[np.int64]

LONG = 16 << 20  # bytes of a log from which on not every row is kept
BLOCK = 4 << 20  # bytes: they stay in the cache
# Rows kept at even distances: far more than a plot or a running median needs (judgement).
ROWS = 3_000
EXTREMES = 250  # stretches of which the lowest and the highest value are kept
BREAKS = 1_000  # changes between finite and not finite, and falls of the step, that are kept
COLUMNS = 4  # columns whose extremes are kept
_STEP = re.compile(r"(?:^|[/_])step$|iter|current_steps")
_WATCHED = re.compile(r"(?i)loss|grad_?norm|nll|reward")
# Numbers of the same length (bytes are then replaced in place) that stand for those JSON lacks. A
# true value of that size is kept for no good reason, and no harm comes of it.
_STAND_INS = ((b"Infinity", b"9.0000e9"), (b"NaN", b"9e9"))
_STAND_IN = 9e9


def keep(columns: list[Column], steps: Column | None, count: int, *, share: float = 1.0) -> Places:
    """Return the indices, rising, of the rows to keep of `count`; columns are float64 [count].

    Kept are rows at even distances, the first and last, both sides of every change between finite
    and not finite (a missing value is NaN), the lowest and highest value of every stretch, and both
    sides of every fall of the step, where a run was resumed. `share` is what these rows are of the
    whole log.
    """
    import numpy as np

    rows = max(2, round(ROWS * share))
    if count <= rows:
        return np.arange(count)
    chosen = [np.linspace(0, count - 1, rows).astype(np.int64)]
    for column in columns:
        finite = np.isfinite(column)
        chosen += _around(np.flatnonzero(finite[1:] != finite[:-1]), share)
        if finite.any():
            chosen += _extremes(column, max(1, round(EXTREMES * share)))
    if steps is not None:
        chosen += _around(np.flatnonzero(np.diff(steps) < 0), share)
    return np.unique(np.concatenate(chosen))


def _around(places: Places, share: float) -> list[Places]:
    import numpy as np

    half = max(1, round(BREAKS * share / 2))
    if len(places) > 2 * half:
        places = np.concatenate([places[:half], places[-half:]])
    return [places, places + 1]


def _extremes(column: Column, stretches: int) -> list[Places]:
    import numpy as np

    width = len(column) // stretches
    if not width:
        return []
    table = column[: width * stretches].reshape(stretches, width)
    finite = np.isfinite(table)
    starts = np.arange(stretches) * width
    low = np.where(finite, table, np.inf).argmin(axis=1)
    high = np.where(finite, table, -np.inf).argmax(axis=1)
    return [starts + low, starts + high]


# --- JSON lines -------------------------------------------------------------------------------


def json_lines_of_long(
    source: Source, losses: Losses, counted: list[int]
) -> Iterator[tuple[int, Any]]:
    """Yield (line number, value) of the lines to keep of a long file of JSON lines.

    The columns are parsed by polars to choose, the chosen lines like those of any other file; a
    block that polars refuses, because a line of it is damaged, is read line by line. The number of
    lines is appended to `counted`.
    """
    line = 1
    with source.open() as stream:
        while block := stream.read(BLOCK):
            block += stream.readline(LINE_LIMIT)
            if not block.endswith(b"\n"):
                yield from _end(block, line, losses)
                line += block.count(b"\n") + 1
                break
            number, values = _chosen(block, line, losses, len(block) / max(1, source.size))
            yield from values
            line += number
    counted.append(line - 1)


def _end(block: bytes, line: int, losses: Losses) -> Iterator[tuple[int, Any]]:
    """Yield the rows of the last block if it ends inside a line, or in NULs."""
    cut = block.rfind(b"\n") + 1
    whole, rest = block[:cut], block[cut:]
    if whole:
        number, values = _chosen(whole, line, losses, len(whole) / BLOCK)
        yield from values
        line += number
    losses.nul_bytes += rest.count(b"\0")
    text = rest.replace(b"\0", b"").strip()
    if text:
        before = len(losses.lines)
        yield from line_values(text, line, losses)
        if len(losses.lines) > before:
            losses.cut_at = losses.lines.pop()


def _chosen(
    block: bytes, line: int, losses: Losses, share: float
) -> tuple[int, Iterator[tuple[int, Any]]]:
    import numpy as np

    ends = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == ord("\n"))
    starts = np.concatenate([[0], ends[:-1] + 1])
    columns = _columns(block, len(ends))
    places = keep(*columns, len(ends), share=share) if columns else np.arange(len(ends))

    def values() -> Iterator[tuple[int, Any]]:
        for place in places:
            text = block[starts[place] : ends[place]].replace(b"\0", b"").strip()
            if text:
                yield from line_values(text, line + int(place), losses)

    return len(ends), values()


def _columns(block: bytes, count: int) -> tuple[list[Column], Column | None] | None:
    """Return the watched columns and the steps of a block, None if it is not all plain rows."""
    import polars as pl

    names = _names(block)
    if not names:
        return None
    plain = block
    for word, number in _STAND_INS:
        if word in plain:
            plain = plain.replace(word, number)
    try:
        frame = pl.read_ndjson(BytesIO(plain), schema=dict.fromkeys(names, pl.Float64))
    except pl.exceptions.PolarsError:
        return None
    if frame.height != count:
        return None
    found = {}
    for name in names:
        column = frame[name].to_numpy()  # missing values become NaN
        found[name] = column if plain is block else _true(column)
    steps = next((found.pop(name) for name in names if _STEP.search(name)), None)
    return list(found.values()), steps


def _true(column: Column) -> Column:
    """Return a column with NaN where a number stands for what JSON lacks."""
    import numpy as np

    return np.where(np.abs(column) == _STAND_IN, np.nan, column)


def _names(block: bytes) -> list[str]:
    """Return the step's name and those of the columns to watch, from the first rows."""
    names: dict[str, None] = {}
    steps: dict[str, None] = {}
    for text in block[: 64 << 10].split(b"\n")[:20]:
        try:
            row = loads(text)
        except ValueError:
            continue
        for name, value in row.items() if isinstance(row, dict) else ():
            if isinstance(value, int | float) and not isinstance(value, bool):
                (steps if _STEP.search(name) else names)[name] = None
    watched = [name for name in names if _WATCHED.search(name)]
    return [*list(steps)[:1], *watched[:COLUMNS]]
