"""Tables of training progress: the Trainer's HTML table in notebooks and pages, tables in logs."""

from __future__ import annotations

import html
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise

from ftdoctor.kinds import PAGE_LIMIT
from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read.numeric import parse_number, whole
from ftdoctor.read.reading import MetricRow, Reading
from ftdoctor.read.rows import WATCHED, Row
from ftdoctor.read.source import Source

TABLE_ROWS = 20_000
TABLES = 500
COLUMNS_LIMIT = 200  # columns of a printed table
PAIRS_LIMIT = 200  # rows of a table of names and values, as Stable-Baselines3 prints them
ABORTED = 0.2  # a later table with fewer rows than this share is an aborted start (judgement)

STEPS = frozenset({"step", "steps", "global step", "global_step", "iter", "iters", "iteration"})
EPOCHS = frozenset({"epoch", "epochs"})
COLUMNS = {
    "training loss": "loss",
    "train loss": "loss",
    "validation loss": "eval_loss",
    "val loss": "eval_loss",
    "valid loss": "eval_loss",
    "test loss": "test_loss",
}
_LOSS = re.compile(r"(?i)(?:^|[ _/])loss$")
_SPLIT = re.compile(r"(?i)^(?:train|training|val|valid|validation|eval|test)[ _/]")
# Quantities that only training has, whatever the spelling.
_TRAIN_ONLY = frozenset({"lr", "learning rate", "grad norm", "gradient norm", "loss"})


# --- any table --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cells:
    """One row of a table as text, and the offset of its first cell in the markup."""

    texts: tuple[str, ...]
    offset: int = 0


def is_progress(header: Sequence[str]) -> bool:
    """Say whether the columns are those of a training: first a step or an epoch, then a loss.

    A data frame of the log's history has an unnamed first column and both names further on.
    """
    names = [name.strip().lower() for name in header[:COLUMNS_LIMIT]]
    if len(names) < 2 or not any(_LOSS.search(name) for name in names):
        return False
    return names[0] in STEPS | EPOCHS or (not names[0] and "step" in names and len(names) > 2)


def row_of(header: Sequence[str], cells: Sequence[str]) -> Row | None:
    """Return one row of such a table, None if it holds no number or tells no position.

    "No log" (nothing logged yet) and empty cells are no values; `nan` is one, but the `NaN` of a
    data frame is an empty cell.
    """
    frame = not header[0].strip()
    # fastai's columns are lower case, and those it does not name `train_loss` are evaluations.
    evaluated = {"valid_loss", "val_loss"} & {name.lower() for name in header}
    values: dict[str, float] = {}
    step: int | None = None
    epoch: float | None = None
    for name, cell in zip(header, cells, strict=False):
        value = None if frame and cell == "NaN" else parse_number(cell)
        if value is None or not name.strip():
            continue
        if name.lower() in STEPS:
            step = whole(value)
        elif name.lower() in EPOCHS:
            epoch = value
        else:
            values[metric_of(name, evaluated=bool(evaluated))] = value
    if not values or (step is None and epoch is None):
        return None
    return Row(values, step=step, epoch=epoch)


def metric_of(column: str, *, evaluated: bool = False) -> str:
    """Return the name under which the Trainer would have logged a column.

    Its notebook table capitalises the words of an evaluation's names (`eval_f1_macro` becomes
    "F1 Macro", transformers utils/notebook.py); Unsloth adds training's own in lower case, with
    blanks around slashes ("rewards / chosen").
    """
    lowered = column.strip().lower()
    if lowered in COLUMNS:
        return COLUMNS[lowered]
    if _SPLIT.match(lowered) or lowered in _TRAIN_ONLY:
        return lowered
    if column[:1].isupper() or evaluated:
        return "eval_" + lowered.replace(" ", "_")
    return lowered.replace(" / ", "/")


# --- HTML -------------------------------------------------------------------------------------

# No part may run over a "<": else a page of "<tr<tr<tr" takes the square of its length.
_TABLE = re.compile(r"<(/?)table\b[^<>]*>", re.IGNORECASE)
_ROW = re.compile(r"<tr\b[^<>]*>", re.IGNORECASE)
_CELL = re.compile(r"<t[hd]\b[^<>]*>", re.IGNORECASE)
_CELL_END = re.compile(r"</?t[hdr]\b|</?tbody|</?thead", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")
# NotebookProgressBar: `[346/346 1:02:02, Epoch 1/1]`, `[ 12/346 00:40 < 18:20, 0.3 it/s, Epoch …]`
_PROGRESS = re.compile(
    r"\[\s*(?P<at>\d+)\s*/\s*(?P<of>\d+)\s+[\d:]+[^\[\]<>]{0,40}(?:<|&lt;)?[^\[\]<>]{0,60}"
    r"Epoch\s+(?P<epoch>\d+(?:\.\d+)?)\s*/\s*(?P<epochs>\d+)\]"
)


@dataclass(frozen=True, slots=True)
class Training:
    """One training that a page shows: its rows with offsets, and how far its bar came."""

    rows: tuple[tuple[Row, int], ...]
    bar: tuple[int, int] | None = None
    epoch: float | None = None
    offset: int = 0

    @property
    def first(self) -> float:
        """Return the first step, or epoch where rows tell no step."""
        row = self.rows[0][0]
        return row.step if row.step is not None else row.epoch or 0.0


def html_tables(markup: str) -> Iterator[tuple[int, list[Cells]]]:
    """Yield (offset, rows) of every innermost table."""
    start = None
    count = 0
    for found in _TABLE.finditer(markup):
        if not found[1]:
            start = found.end()
        elif start is not None and count < TABLES:
            count += 1
            yield start, list(_rows(markup, start, found.start()))
            start = None


def _rows(markup: str, start: int, end: int) -> Iterator[Cells]:
    found = islice(_ROW.finditer(markup, start, end), TABLE_ROWS)
    starts = [row.end() for row in found]
    for at, until in zip(starts, [*starts[1:], end], strict=True):
        cells = list(_CELL.finditer(markup, at, until))[:COLUMNS_LIMIT]
        texts = []
        for cell in cells:
            stop = _CELL_END.search(markup, cell.end(), until)
            inner = markup[cell.end() : stop.start() if stop else until]
            texts.append(html.unescape(_TAG.sub("", inner)).strip())
        if texts:
            yield Cells(tuple(texts), cells[0].start())


def trainings(markup: str) -> list[Training]:
    """Return the trainings that HTML shows, in order; tables of anything else are passed over."""
    found = []
    bars = list(_PROGRESS.finditer(markup))
    for start, table in html_tables(markup):
        if len(table) < 2 or not is_progress(table[0].texts):
            continue
        header = table[0].texts
        rows = [(row, c.offset) for c in table[1:] if (row := row_of(header, c.texts))]
        if rows and _rises(rows):
            # The bar is drawn above its table.
            bar = next((b for b in reversed(bars) if b.end() <= start), None)
            made = Training(tuple(rows), offset=start)
            if bar:
                bars = [b for b in bars if b.start() > start]
                at, of = int(bar["at"]), int(bar["of"])
                made = replace(made, bar=(at, of), epoch=float(bar["epoch"]))
            found.append(made)
    return found


def _rises(rows: Sequence[tuple[Row, int]]) -> bool:
    """Say whether the positions never fall: a comparison of experiments is no curve."""
    places = [(row.step if row.step is not None else row.epoch) or 0.0 for row, _ in rows]
    return all(after >= before for before, after in pairwise(places))


def chosen(found: Sequence[Training]) -> tuple[list[Training], list[Training]]:
    """Return the trainings that make the curve, and those put aside.

    As with several logs: one that begins again replaces what was before, unless it is an aborted
    start; one that goes on is a resume. A table shown twice counts once.
    """
    used: list[Training] = []
    aside: list[Training] = []
    for training in found:
        if used and [r for r, _ in training.rows] == [r for r, _ in used[-1].rows]:
            used[-1] = training
        elif used and training.first <= used[0].first:
            if len(training.rows) < ABORTED * sum(len(one.rows) for one in used):
                aside.append(training)
            else:
                aside += used
                used = [training]
        else:
            used.append(training)
    return used, aside


def facts_of(training: Training, path: str, line: int) -> list[Fact]:
    """Return what the progress bar above the table says."""
    if training.bar is None:
        return []
    at, of = training.bar
    where = Where(path, line=line)
    facts = [
        Fact("progress.global_step", at, where),
        Fact("progress.max_steps", of, where),
        Fact("progress.epoch", training.epoch, where),
    ]
    if at >= of:
        facts.append(Fact("progress.finished", True, where))
    return facts


def read_html(source: Source) -> Reading:
    """Read a saved page, such as an exported notebook, for its tables of training progress."""
    markup = source.text(PAGE_LIMIT)
    found = trainings(markup)
    if not found:
        return Reading(ArtifactState.SKIPPED, "a page without a table of training progress")
    used, aside = chosen(found)
    lines = _LineCounter(markup)
    metrics = [metric_row(row, lines.at(offset)) for one in used for row, offset in one.rows]
    facts = facts_of(used[-1], source.path, lines.at(used[-1].offset))
    facts += [aside_fact(source.path, lines.at(one.offset)) for one in aside]
    return Reading(
        taken=f"{len(metrics)} metric rows of {len(used)} of {len(found)} tables",
        metrics=tuple(metrics),
        facts=tuple(facts),
        curve="console",
    )


def aside_fact(path: str, line: int) -> Fact:
    """Return the note that a table of an earlier or aborted training was not used."""
    text = f"{path}: the table of losses at line {line} is of another start of the training"
    return Fact("log.aside", text, Where(path, line=line))


def metric_row(row: Row, line: int) -> MetricRow:
    """Return a table's row with its place."""
    return MetricRow(row.values, line, row.step, row.epoch)


class _LineCounter:
    """Turns offsets into line numbers."""

    def __init__(self, text: str) -> None:
        self._ends = [found.start() for found in re.finditer("\n", text)]

    def at(self, offset: int) -> int:
        return bisect_right(self._ends, offset) + 1


# --- text -------------------------------------------------------------------------------------

_BORDER = re.compile(r"^[\s|+\-=:─━│┃┼╋╇┿├┤┌┐└┘┏┓┗┛┡┩╭╮╰╯┬┴┳┻═║╔╗╚╝╠╣╦╩╬]{4,}$")
_BARS = re.compile(r"[|│┃║]")
_PAIR = re.compile(r"^\|\s*(?P<name>[A-Za-z_][^|]{0,80}?)\s*\|\s*(?P<value>[^|]{0,40}?)\s*\|$")
_NO_LOG = re.compile(r"(?i)\bno log\b")
_WORDS = re.compile(r"(?i)^\s*(step|epoch)\s+training loss(\s+validation loss)?((?:\s+\S+)*)\s*$")
_TOTAL = ("total_timesteps", "n_updates", "iterations")


class TextTables:
    """Follows the lines of a log and gives the rows of the tables printed into it.

    Two forms: columns below a header (drawn, tab-separated, or as pasted from a notebook), and
    names with values between two rules (Stable-Baselines3).
    """

    def __init__(self) -> None:
        self._header: tuple[str, ...] = ()
        self._pairs: dict[str, float] = {}
        self._group = ""
        self._ruled = False

    def feed(self, text: str) -> Row | None:
        """Return the metric row that this line completes, if any."""
        if _BORDER.match(text):
            return self._rule()
        if self._header:
            row = row_of(self._header, _cells(text, len(self._header)))
            if row is not None:
                return row
            self._header = ()
        if (self._ruled or self._pairs) and (pair := _PAIR.match(text)):
            self._pair(pair["name"], pair["value"])
            return None
        self._ruled = False
        self._pairs.clear()
        if header := _header(text):
            self._header = header
        return None

    def _rule(self) -> Row | None:
        pairs, self._pairs, self._group = self._pairs, {}, ""
        self._ruled = True
        if not any(WATCHED.search(name) for name in pairs):
            return None
        step = next((pairs[n] for key in _TOTAL for n in pairs if n.endswith(key)), None)
        values = {n: v for n, v in pairs.items() if not n.endswith(_TOTAL)}
        return Row(values, step=whole(step), loose=step is None)

    def _pair(self, name: str, value: str) -> None:
        if name.endswith("/") and not value:
            self._group = name
            return
        number = parse_number(value)
        if number is not None and len(self._pairs) < PAIRS_LIMIT:
            self._pairs[name if "/" in name else self._group + name] = number
        elif number is None and not self._pairs and is_progress((name, value)):
            self._header = (name, value)  # a drawn table of two columns


def _header(text: str) -> tuple[str, ...]:
    """Return the columns if the line is the header of a table of progress."""
    if "oss" not in text and "OSS" not in text:
        return ()
    if words := _WORDS.match(text):
        # Pasted from a notebook, where one blank may divide the columns.
        rest = () if "\t" in text else words[3].split()
        if "\t" not in text and "  " not in text.strip():
            first = (words[1], "Training Loss", *(("Validation Loss",) if words[2] else ()))
            return first if not rest else (*first, *rest)
    cells = tuple(_split(text))
    return cells if is_progress(cells) else ()


def _cells(text: str, count: int) -> list[str]:
    text = _NO_LOG.sub("-", text)
    cells = _split(text)
    if len(cells) != count:
        cells = text.split() if not _BARS.search(text) else cells
    # A data frame printed as text has its index before the columns.
    return cells[1:] if len(cells) == count + 1 else cells if len(cells) == count else []


def _split(text: str) -> list[str]:
    if _BARS.search(text):
        return [cell.strip() for cell in _BARS.split(text.strip().strip("|│┃║"))]
    if "\t" in text:
        return [cell.strip() for cell in text.split("\t")]
    return re.split(r"\s{2,}", text.strip())
