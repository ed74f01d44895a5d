"""Console text: metric rows, settings, tracebacks and last words out of what a run printed."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from statistics import median

from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read import excerpt, headers, logtext
from ftdoctor.read.logtext import Bar, Fragment
from ftdoctor.read.marks import INTEREST_MARK, ROW_MARK, STATEMENT_MARK, event_kind, marker
from ftdoctor.read.printed import Printed
from ftdoctor.read.reading import Event, Line, MetricRow, Reading
from ftdoctor.read.rows import WATCHED, Row, parse_row, postfix_values, special_row
from ftdoctor.read.source import Source
from ftdoctor.read.tables import TextTables
from ftdoctor.read.traceback import Trace, Tracebacks

FIRST_LINES, LAST_LINES, INTERESTING_LINES = 2_000, 5_000, 20_000
SAME_SHAPE = 1_000  # of lines that differ in numbers only, as many are kept (judgement)
LINE_WIDTH = 4_000
ZEROS_WITHIN = 4_096  # bytes at the end of a log that are looked at for NULs
ROW_LIMIT = 2_000_000  # metric rows of one log
EVENT_LIMIT = 2_000  # events of one log
WARNING_LIMIT = 500  # different warnings of one log
BAR_NAMES = 200
# A form without step or epoch counts as a metric row only if it is printed this often (judgement).
LOOSE_TIMES = 3
ALMOST = 0.8  # steps per row from which a row is taken for a step (judgement)
_OF_A_RUN = re.compile(r"(?i)\b(?:final|best|avg|average|overall|peak|last|first|max|min|lowest)\b")

_EVALUATION = ("eval", "val", "test", "dev", "held", "holdout")
_DIGITS = re.compile(r"\d+")
_TRAINING_BAR = re.compile(r"(?i)train|epoch|step|iter|loss|episode|\|")
_OTHER_BAR = re.compile(
    r"(?i)eval|valid|test|predict|load|map|filter|token|download|fetch|generat|shard|pack|save|merg"
    r"|writ|convert|upload|extract|process|read|infer|render|compil|captur|warm|quanti|drop"
    r"|dataset|truncat|adding"
)
_EPOCH_OF_BAR = re.compile(r"(?i)epoch\D{0,3}(\d+)(?:/(\d+))?")
_EPOCH_HEADER = re.compile(r"^\s*(?:=+|-+|\*+)?\s*Epoch:?\s+(\d+)\s*(?:/|of)\s*(\d+)\s*[:=*-]*\s*$")


@dataclass(slots=True)
class _Printed:
    """A metric row with what is known of its place when it was printed.

    `passed` rows of its form before it were left out.
    """

    row: Row
    line: int
    text: str
    rank: int | None
    session: int
    passed: int = 0
    bar: tuple[int, int] | None = None
    step: int | None = None

    @property
    def evaluates(self) -> bool:
        """Say whether the row tells of an evaluation."""
        return self.row.split == "eval" or all(
            name.lower().startswith(_EVALUATION) or name == "epoch" for name in self.row.values
        )


def read_console(source: Source) -> Reading:
    """Read any text that a training process printed.

    All metric rows are taken, of a log above 16 MB some thousands (see `thin.keep`). Of other lines
    the first 2,000, the last 5,000 and up to 20,000 that may tell of trouble are kept; `taken` says
    how many were not.
    """
    middle = source.size > logtext.WHOLE
    log = _Log(source.path, sampled=middle, short=source.size <= excerpt.MOST_BYTES)
    previous = b""
    for number, raw, passed in logtext.raw_fragments(source):
        if raw == previous and log.repeat():
            continue
        previous = raw
        log.feed(logtext.clean(raw, number, passed))
    reading = log.reading("; the middle searched for rows and trouble only" if middle else "")
    return _with_zeros(reading, source)


def _with_zeros(reading: Reading, source: Source) -> Reading:
    """Mark a log that ends in NULs, which a machine that went down leaves in place of the text."""
    with source.open() as stream:
        stream.seek(max(0, source.size - ZEROS_WITHIN))
        tail = stream.read(ZEROS_WITHIN)
    zeros = len(tail) - len(tail.rstrip(b"\0"))
    if not zeros or tail.startswith((b"\xff\xfe", b"\xfe\xff")) or zeros == 1:
        return reading  # UTF-16 ends in one
    nothing = not (reading.lines or reading.metrics or reading.events)
    return replace(
        reading,
        state=ArtifactState.DAMAGED if nothing else ArtifactState.PARTIAL,
        reason="ends in NUL bytes: the machine went down while writing; what it last said is lost",
    )


class _Log:
    """Reads fragments in order; holds what was found so far."""

    def __init__(self, path: str, *, sampled: bool = False, short: bool = False) -> None:
        self._path = path
        self._sampled = sampled
        self._short = short
        self._store = _Lines()
        self._mark = marker()
        self._tracebacks = Tracebacks()
        self._tables = TextTables()
        self._printed = Printed(path)
        self._header = headers.Headers(path)
        self._bars = _Bars()
        self._rows: list[_Printed] = []
        self._loose: dict[tuple[str, ...], list[_Printed]] = {}
        self._awaiting: _Printed | None = None
        self._events: list[Event] = []
        self._warned: set[str] = set()
        self._finals: list[tuple[int, Row]] = []
        self._row_rank: int | None = None
        self._epoch: float | None = None
        self._session = 0
        self._ended = True
        self._last_was_line = False

    # --- one fragment ---

    def repeat(self) -> bool:
        """Count one more of the line before, if that was text."""
        if self._last_was_line and not self._tracebacks.active:
            self._store.again()
            return True
        return False

    def feed(self, fragment: Fragment) -> None:
        self._last_was_line = False
        self._printed.feed(fragment.text, fragment.line)
        text, bars = logtext.take_bars(fragment.text)
        for bar in bars:
            self._bar(bar, fragment.line)
        if not text or text.isspace():
            return
        if bars:
            fragment = replace(fragment, text=text.strip())
        traces, inside = self._tracebacks.feed(fragment)
        for trace in traces:
            self._traceback(trace)
        tabled = None if inside else self._tables.feed(fragment.text)
        # The rows of mlx-lm's table have other columns than its header.
        if tabled and self._accept(special_row(fragment.text) or tabled, fragment):
            return
        marks = self._mark(fragment.text)
        if ROW_MARK in marks and not inside and self._row(fragment):
            return
        self._store.add(fragment, INTEREST_MARK in marks)
        self._last_was_line = True
        if not inside:
            self._note(fragment, marks)

    # --- progress bars ---

    def _bar(self, bar: Bar, line: int) -> None:
        training = self._bars.see(bar, line)
        if not training:
            return
        self._ended = False
        waiting = self._awaiting
        if waiting and waiting.bar and waiting.bar[1] == bar.of and waiting.bar[0] <= bar.at:
            # The bar is drawn again right after the row, with the count that the row belongs to;
            # the redraw before it may lag (tqdm draws ten times a second at most).
            waiting.bar = (bar.at, bar.of)
        self._awaiting = None
        text = f"{bar.desc}, {bar.postfix}" if bar.postfix else bar.desc
        values = postfix_values(text) if text else {}
        if not any(WATCHED.search(name) for name in values):
            return
        step, epoch = self._bars.overall(bar)
        for name in ("global_step", "step"):
            if name in values and values[name] == values[name]:
                step = int(values.pop(name))
        values = {k: v for k, v in values.items() if k.lower() not in ("epoch", "v_num", "it")}
        row = _Printed(
            Row(values, step=step, epoch=epoch), line, "", None, self._session, step=step
        )
        if self._rows and self._rows[-1].text == "" and self._rows[-1].step == step:
            self._rows[-1] = row
        elif len(self._rows) < ROW_LIMIT:
            self._rows.append(row)

    # --- metric rows ---

    def _row(self, fragment: Fragment) -> bool:
        row = parse_row(fragment.text)
        if row is None:
            self._epoch_header(fragment.text)
            return False
        return self._accept(row, fragment)

    def _accept(self, row: Row, fragment: Fragment) -> bool:
        """Take a row at its place; say whether its line is done with."""
        if row.final:
            self._finals.append((fragment.line, row))
            self._event("finished", fragment)
            self._ended = True
            return True
        if self._header.in_summary:
            return False
        if row.epoch is None and row.step is not None and self._epoch is not None:
            row = replace(row, epoch=self._epoch, within_epoch=row.planned is not None)
        printed = _Printed(
            row, fragment.line, fragment.text, fragment.rank, self._session, fragment.passed
        )
        if row.loose:
            self._loose.setdefault(tuple(row.values), []).append(printed)
            return True
        if self._row_rank is None:
            self._row_rank = fragment.rank
        if fragment.rank != self._row_rank:
            return True
        if row.step is None:
            printed.bar = self._bars.current
            if printed.evaluates:
                printed.bar = self._bars.main or printed.bar
            elif self._bars.current:
                self._bars.main_total = self._bars.current[1]
                self._awaiting = printed
        if len(self._rows) < ROW_LIMIT:
            self._rows.append(printed)
        self._ended = False
        return True

    def _epoch_header(self, text: str) -> None:
        found = _EPOCH_HEADER.match(text)
        if found:
            self._epoch = float(found[1])

    # --- everything else ---

    def _note(self, fragment: Fragment, marks: frozenset[str]) -> None:
        self._header.look(
            fragment.text,
            fragment.line,
            before_rows=not self._rows,
            stated=STATEMENT_MARK in marks,
        )
        kind = event_kind(marks)
        if kind is None:
            return
        if kind == "warning":
            shape = _DIGITS.sub("#", fragment.text)
            if shape in self._warned or len(self._warned) >= WARNING_LIMIT:
                return
            self._warned.add(shape)
        if kind == "started":
            if not self._ended:
                return
            self._session += 1
            self._bars.restart()
        if kind in ("started", "finished", "killed", "exit"):
            self._ended = kind != "started"
        self._event(kind, fragment)

    def _event(self, kind: str, fragment: Fragment) -> None:
        if len(self._events) >= EVENT_LIMIT:
            return
        text = fragment.text
        step = headers.step_of(text) if kind in ("checkpoint-saved", "resumed") else None
        if step is None and self._bars.main:
            step = self._bars.main[0]
        time = logtext.time_of(text)
        text = text[:LINE_WIDTH].strip()
        self._events.append(Event(kind, text, fragment.line, step, time, fragment.rank))

    def _traceback(self, trace: Trace) -> None:
        self._ended = True
        # A launcher's own exception is a consequence; the text around it is kept as lines.
        if trace.from_launcher or len(self._events) >= EVENT_LIMIT:
            return
        step = self._bars.main[0] if self._bars.main else None
        self._events.append(
            Event("traceback", trace.text(), trace.last.line, step, None, trace.rank)
        )

    # --- the end ---

    def reading(self, note: str = "") -> Reading:
        for trace in self._tracebacks.finish():
            self._traceback(trace)
        self._settle_loose()
        if self._sampled:
            _place_sampled(self._rows)
        metrics = tuple(_place_rows(self._rows, self._header, self._final_epoch()))
        events = _place_events(self._events, metrics)
        facts = [*self._header.found(), *self._progress(events), *self._printed.facts()]
        for line, row in self._finals:
            where = Where(self._path, line=line)
            facts += [Fact(f"summary.{name}", value, where) for name, value in row.values.items()]
        lines, dropped = self._store.lines(self._bars.others())
        if not lines and not metrics and not events:
            return Reading(ArtifactState.READ, "no text in it", "nothing")
        left = f" ({dropped:,} not kept)" if dropped else ""
        return Reading(
            taken=f"{len(metrics):,} metric rows, {len(events)} events, "
            f"{len(lines):,} lines{left}{note}",
            metrics=metrics,
            events=events,
            lines=lines,
            settings=tuple(self._header.settings()),
            facts=tuple(facts),
            curve="console" if metrics else "",
        )

    def _final_epoch(self) -> tuple[float, int] | None:
        """Return the epoch and the step at the end, which give the exact pace."""
        if not self._finals or not self._bars.main:
            return None
        epoch = self._finals[-1][1].epoch
        at, of = self._bars.main
        return (epoch, of) if epoch and at == of else None

    def _settle_loose(self) -> None:
        """Accept rows without a position if their form repeats; give the others back as lines."""
        chosen = self._short and not self._rows  # of a short text someone chose the lines
        for group in self._loose.values():
            watched = [name for name in group[0].row.values if WATCHED.search(name)]
            enough = len(group) >= (1 if chosen else LOOSE_TIMES)
            if enough and not all(map(_OF_A_RUN.search, watched)):
                self._rows += group
            else:
                for printed in group:
                    self._store.insert(Fragment(printed.text, printed.line, printed.rank))
        self._rows.sort(key=lambda printed: printed.line)

    def _progress(self, events: Iterable[Event]) -> Iterator[Fact]:
        where = Where(self._path)
        yield Fact("progress.sessions", max(1, self._session), where)
        if self._rows:
            yield Fact("progress.started", True, Where(self._path, line=self._rows[0].line))
        elif self._bars.main or self._session:
            yield Fact("progress.started", True, where)
        planned = [p.row.planned for p in self._rows if p.row.planned and not p.row.within_epoch]
        if self._header.planned is None:
            total = planned[-1] if planned else self._bars.main_total
            if total:
                yield Fact("progress.max_steps", total, where)
        if self._bars.main:
            at, line = self._bars.main[0], self._bars.main_line
            yield Fact("progress.global_step", at, Where(self._path, line=line))
        ends = [e for e in events if e.kind in ("started", "finished", "traceback", "killed")]
        if ends and ends[-1].kind == "finished":
            yield Fact("progress.finished", True, Where(self._path, line=ends[-1].line))


# --- steps ------------------------------------------------------------------------------------


def _place_rows(
    rows: list[_Printed], header: headers.Headers, final: tuple[float, int] | None
) -> Iterator[MetricRow]:
    """Give every row a step where it can be known: printed, from the bar, the epoch, the order."""
    _unfold_epochs(rows)
    per_epoch = final[1] / final[0] if final else header.steps_per_epoch
    for session in sorted({printed.session for printed in rows}):
        _place_by_bar([p for p in rows if p.session == session], per_epoch)
    _place_by_order(rows)
    for printed in rows:
        yield MetricRow(
            printed.row.values,
            printed.line,
            printed.step,
            printed.row.epoch,
            logtext.time_of(printed.text),
            printed.row.split,
            printed.passed,
        )


def _counts(rows: Iterable[_Printed]) -> list[int]:
    """Return for every row how many there are up to it, with those that were left out."""
    return list(accumulate(1 + printed.passed for printed in rows))


def _place_sampled(rows: Iterable[_Printed]) -> None:
    """Take the steps from the bars: of a long log not all rows are here to be counted."""
    for printed in rows:
        if printed.row.step is None and printed.step is None and printed.bar:
            printed.step = printed.bar[0]


def _place_events(events: list[Event], metrics: tuple[MetricRow, ...]) -> tuple[Event, ...]:
    """Order the events; one that names no step gets that of the last row before it."""
    placed = [(row.line, row.step) for row in metrics if row.step is not None]
    made = []
    for event in sorted(events, key=lambda event: event.line):
        index = bisect_right(placed, event.line, key=lambda pair: pair[0])
        step = event.step if event.step is not None or not index else placed[index - 1][1]
        made.append(replace(event, step=step))
    return tuple(made)


def _unfold_epochs(rows: list[_Printed]) -> None:
    """Turn steps that begin again in every epoch into steps of the run."""
    inside = [p for p in rows if p.row.within_epoch and p.row.step is not None]
    for printed in rows:
        if printed.step is None:
            printed.step = printed.row.step
    epochs = sorted({p.row.epoch for p in inside if p.row.epoch is not None})
    if len(epochs) < 2:
        return
    starts = [min(_steps(inside, epoch)) for epoch in epochs]
    highest = max(_steps(inside, epochs[0]))
    if starts[1] > highest:
        return
    length = max(p.row.planned or p.row.step or 0 for p in inside) + (starts[0] == 0)
    for printed in inside:
        if printed.row.epoch is not None and printed.row.step is not None:
            printed.step = round((printed.row.epoch - epochs[0]) * length) + printed.row.step


def _steps(rows: Iterable[_Printed], epoch: float) -> list[int]:
    return [p.row.step for p in rows if p.row.epoch == epoch and p.row.step is not None]


def _place_by_bar(rows: list[_Printed], per_epoch: float | None) -> None:
    """Take the steps of rows without one from the bar around them, or from their epochs.

    Output to a file is buffered while the bar's is not: then several rows follow one bar, and its
    count is only an upper bound.
    """
    open_rows = [p for p in rows if p.step is None and not p.row.loose]
    train = [p for p in open_rows if not p.evaluates]
    counts = [p.bar[0] for p in train if p.bar and p.bar[0] > 0]
    if counts and len(counts) == len(train) and all(b > a for a, b in pairwise(counts)):
        for printed in open_rows:
            printed.step = printed.bar[0] if printed.bar else None
        return
    interval = _interval(train, per_epoch)
    for count, printed in zip(_counts(train), train, strict=True):
        printed.step = count * interval if interval else _by_epoch(printed, per_epoch)
    for printed in open_rows:
        if printed.evaluates:
            printed.step = _by_epoch(printed, per_epoch)
            if printed.step is None and not train and printed.bar:
                printed.step = printed.bar[0]


def _by_epoch(printed: _Printed, per_epoch: float | None) -> int | None:
    if per_epoch is None or printed.row.epoch is None:
        return None
    step = printed.row.epoch * per_epoch
    return round(step) if math.isfinite(step) else None


def _interval(train: list[_Printed], per_epoch: float | None) -> int | None:
    """Return the steps between rows if they are regular: by their epochs, or by lagging bars."""
    counts = _counts(train)
    guesses = [guess for p in train if (guess := _by_epoch(p, per_epoch)) is not None]
    if guesses and len(guesses) == len(train):
        interval = max(1, round(guesses[-1] / counts[-1]))
        # Printed epochs have two decimals (4.x), and the pace is a fraction: allow 2 % and 2 steps.
        slack = 2 + 0.005 * (per_epoch or 0)
        pairs = zip(counts, guesses, strict=True)
        near = (abs(n * interval - g) <= slack + 0.02 * g for n, g in pairs)
        return interval if all(near) else None
    placed = zip(counts, train, strict=True)
    bounds = [p.bar[0] / n for n, p in placed if p.bar and p.bar[0] > 0]
    return int(min(bounds)) or None if len(bounds) == len(train) and bounds else None


def _place_by_order(rows: list[_Printed]) -> None:
    """Count rows that nothing places, unless other rows of the log are the denser ones."""
    families: dict[tuple[str, ...], list[_Printed]] = {}
    trained = [printed for printed in rows if not printed.evaluates] or rows
    for printed in trained:  # an evaluation comes at the step of the row before it
        whole_epoch = float(printed.row.epoch or 0).is_integer()
        if printed.step is None and (printed.row.loose or whole_epoch):
            families.setdefault(tuple(sorted(printed.row.values)), []).append(printed)
    placed = [printed for printed in rows if printed.step is not None]
    known = _counts(placed)[-1] if placed else 0
    counted = [family for family in families.values() if _counts(family)[-1] > known]
    if not placed and sum(map(len, counted)) != len(trained):
        return
    anchors = [(printed.line, printed.step or 0) for printed in placed]
    for family in counted:
        _count(family, anchors)
    last = None
    for printed in rows:
        if printed.step is None:
            printed.step = last
        last = printed.step


def _count(family: list[_Printed], anchors: list[tuple[int, int]]) -> None:
    """Count the rows of one form; where rows with steps between them disagree, follow those.

    DeepSpeed prints its step every ten rows: after a gap in the log the count goes on from there.
    """
    lines, counts = [printed.line for printed in family], [0, *_counts(family)]
    paces = [
        (step - before) / rows
        for (start, before), (end, step) in pairwise(anchors)
        if (rows := counts[bisect_right(lines, end)] - counts[bisect_right(lines, start)])
        and step > before
    ]
    pace = max(1, round(median(paces))) if paces else 1
    # Fewer steps than rows: accumulation, where a row is no step.
    follow = bool(paces) and median(paces) > ALMOST
    step, waiting = 0, deque(anchors)
    for printed in family:
        while follow and waiting and waiting[0][0] < printed.line:
            _, known = waiting.popleft()
            # A step printed just before or after its row is no disagreement.
            step = known if abs(known - step) > 2 * pace else step
        step += pace * (1 + printed.passed)
        printed.step = step


# --- bars -------------------------------------------------------------------------------------


@dataclass
class _Bars:
    """The progress bars seen: which one counts training steps, and how far it is."""

    current: tuple[int, int] | None = None
    main_total: int | None = None
    main_line: int = 0
    _at: dict[int, int] = field(default_factory=dict)
    _others: dict[str, tuple[int, Bar]] = field(default_factory=dict)
    _passed: int = 0
    _last: Bar | None = None

    @property
    def main(self) -> tuple[int, int] | None:
        """Return how far the bar of the training steps is, once it is known which one that is."""
        if self.main_total is None or self.main_total not in self._at:
            return None
        return self._at[self.main_total], self.main_total

    def see(self, bar: Bar, line: int) -> bool:
        """Take a redraw; return whether the bar may count training steps."""
        other = _OTHER_BAR.search(bar.desc) or not _TRAINING_BAR.search(bar.desc)
        if not bar.of or (bar.desc and other):
            if bar.desc in self._others or len(self._others) < BAR_NAMES:
                first = self._others.get(bar.desc, (line, bar))[0]
                self._others[bar.desc] = (first, bar)
            return False
        # A bar is drawn once more when it is closed, after the traceback that ended the run.
        moved = self._at.get(bar.of) != bar.at
        self.current = (bar.at, bar.of)
        self._at[bar.of] = bar.at
        if moved and (bar.of == self.main_total or self.main_total is None):
            self.main_line = line
        return True

    def overall(self, bar: Bar) -> tuple[int, float | None]:
        """Return the step over all epochs of a bar that begins again in each, and its epoch."""
        last = self._last
        if last is not None and last.of == bar.of and bar.at < last.at:
            ended = last.at >= last.of
            self._passed += last.of if ended or last.desc != bar.desc else 0
        self._last = bar
        epoch = _EPOCH_OF_BAR.search(bar.desc)
        return self._passed + bar.at, float(epoch[1]) if epoch else None

    def others(self) -> Iterator[Fragment]:
        """Yield one line per bar that counts something else (downloads, shards, examples)."""
        for line, bar in self._others.values():
            yield Fragment(f"{bar.desc}: {bar.text}", line)

    def restart(self) -> None:
        """Forget the counts: a new process begins."""
        self.current, self.main_total, self._passed, self._last = None, None, 0, None
        self._at.clear()


# --- lines ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Kept:
    """A line of text, how often it came in a row, and whether it may tell of trouble."""

    text: str
    line: int
    rank: int | None
    interesting: bool = False
    count: int = 1

    def made(self) -> Line:
        """Return it for the reading, shortened in the middle."""
        text = self.text
        if len(text) > LINE_WIDTH:
            text = f"{text[: LINE_WIDTH * 3 // 4]} … {text[-LINE_WIDTH // 4 :]}"
        return Line(text, self.line, self.rank, logtext.time_of(text), self.count)


class _Lines:
    """Keeps the first, the last and the interesting lines; equal ones in a row count once."""

    def __init__(self) -> None:
        self._first: list[_Kept] = []
        self._interesting: list[_Kept] = []
        self._last: deque[_Kept] = deque()
        self._inserted: list[_Kept] = []
        self._shapes: dict[str, int] = {}
        self._dropped = 0
        self._before: _Kept | None = None

    def again(self) -> None:
        """Count the last line once more."""
        if self._before is not None:
            self._before.count += 1

    def add(self, fragment: Fragment, interesting: bool) -> None:
        """Add the next line."""
        before = self._before
        if before and before.text == fragment.text and before.rank == fragment.rank:
            before.count += 1
            return
        kept = _Kept(fragment.text, fragment.line, fragment.rank, interesting)
        self._before = kept
        if len(self._first) < FIRST_LINES:
            self._first.append(kept)
            return
        self._last.append(kept)
        if len(self._last) > LAST_LINES:
            self._pass_on(self._last.popleft())

    def insert(self, fragment: Fragment) -> None:
        """Add a line out of order."""
        self._inserted.append(_Kept(fragment.text, fragment.line, fragment.rank))

    def _pass_on(self, kept: _Kept) -> None:
        if kept.interesting and len(self._interesting) < INTERESTING_LINES:
            shape = _DIGITS.sub("#", kept.text)[:200]
            seen = self._shapes.get(shape, 0)
            if seen < SAME_SHAPE:
                self._shapes[shape] = seen + 1
                self._interesting.append(kept)
                return
        self._dropped += kept.count

    def lines(self, more: Iterable[Fragment]) -> tuple[tuple[Line, ...], int]:
        """Return the kept lines in order, and how many were dropped."""
        for fragment in more:
            self.insert(fragment)
        kept = [*self._first, *self._interesting, *self._last, *self._inserted]
        kept.sort(key=lambda each: each.line)
        return tuple(each.made() for each in kept), self._dropped
