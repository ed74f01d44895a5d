"""Of a long log the fragments that may matter: what differs in numbers only is judged once.

Logs grow long by repetition. A fragment without its digits is its shape; a shape is looked at when
it first comes, and then costs what it takes to find it again: progress bars are passed over, of
messages the first are taken, of metric rows those that `thin.keep` chooses.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate, compress
from typing import TYPE_CHECKING

from ftdoctor.read import thin
from ftdoctor.read.marks import candidate_pattern, outstanding_pattern

if TYPE_CHECKING:
    from ftdoctor.read.thin import Column

# Messages between the edges that differ in numbers only: as many are looked at (judgement).
SAME_SHAPE = 1_000
SHAPES, SHAPE_BYTES = 100_000, 32 << 20  # shapes that are remembered, and bytes of them
# Messages between the edges that are looked at, of all shapes; twice what is kept of them. Of those
# that follow, only what tells of an event is looked at.
MESSAGES = 40_000
FORMS = 200  # forms of metric rows that are told apart; of others the beginning counts
RANKS = 10_000  # processes of one form of rows
BEGINNING, LONGEST = 32, 4_000  # bytes: of a form, and of the row that it is told by
BAR_WITHIN = 1_000  # bytes around a row in which the bar that it belongs to is looked for
# Lines after the header of a traceback that are read whole between the edges.
TRACEBACK_WINDOW = 200

_DIGITS = b"0123456789"
_CR_AS_LF = bytes.maketrans(b"\r", b"\n")
_ROW_WORDS = (b"loss", b"nll", b"reward", b"acc", b"perplexity", b"norm", b"train_runtime",
              b"step=", b"%|")  # fmt: skip
_NUMBER = re.compile(rb"[-+]?(?:\d[\d.]*(?:[eE][-+]?\d+)?|\b(?i:nan|inf(?:inity)?)\b)")
_WATCHED = re.compile(
    rb"(?i)(?:loss|nll|reward|acc(?:uracy)?|perplexity|ppl|grad[_ ]?norm)(?:_step)?['\"]?\s*[:= ]"
    rb"\s*['\"]?([-+]?(?:\d[\d.]*(?:e[-+]?\d+)?|nan\b|inf(?:inity)?\b))"
)
_FILLING = re.compile(rb"%\|[^|]*\|")
# The status of an answer is a number that tells of trouble, so it may not stand for others.
_STATUS = re.compile(rb"(?<!\d)\d{3} [a-z]")
_BAD_STATUS = re.compile(rb"\b(?:401|403|404|429|50[023]) [a-z]")
# Processes whose rows are counted apart; see `logtext.clean`.
_RANK = re.compile(rb"\s*(?:\[(?:rank\s?|default)\d+\]:|\[\d+,\d+\]<std|\d{1,4}: )")


@dataclass(slots=True)
class _Group:
    """Fragments of one shape or, of metric rows, of one form.

    `before` and `after` enclose the value by which rows are chosen; of rows on a progress bar the
    count of the bar is watched as well. `carry` counts the rows passed over since the last one
    taken, `count` the messages taken; `here` are the places of the members in the block.
    """

    row: bool = False
    bar: bool = False
    status: bool = False
    traceback: bool = False
    before: bytes = b""
    after: bytes = b""
    count: int = 0
    carry: int = 0
    here: list[int] = field(default_factory=list)
    ranks: dict[bytes, _Group] | None = None

    def of_rank(self, part: bytes) -> _Group:
        """Return the group of the process that printed the row."""
        found = _RANK.match(part)
        if self.ranks is None or found is None:
            return self
        known = self.ranks.get(found.group())
        if known is None:
            if len(self.ranks) >= RANKS:
                return self
            known = replace(self, here=[], ranks=None)
            self.ranks[found.group()] = known
        return known

    def columns(self, parts: list[bytes]) -> tuple[list[Column], Column | None]:
        """Return the watched value and the bar's count of rows, as far as every row has them."""
        import numpy as np

        values, counts = [], None
        try:
            if self.before:
                texts = [part.partition(self.before)[2] for part in parts]
                if self.after:
                    texts = [text.partition(self.after)[0] for text in texts]
                values = [np.array(list(map(float, texts)))]
            if self.bar:
                tails = [part.partition(b"%|")[2].partition(b"|")[2] for part in parts]
                counts = np.array([float(tail.partition(b"/")[0]) for tail in tails])
        except ValueError:
            pass
        return values, counts


class Sieve:
    """Chooses fragments of a log of `size` bytes, block after block; `line` is the next one's."""

    def __init__(self, size: int) -> None:
        self.line = 1
        self._size = max(1, size)
        self._groups: dict[bytes, _Group | None] = {}
        self._forms: dict[bytes, _Group] = {}
        self._messages = self._remembered = 0

    def without_rows(self, block: bytes) -> tuple[bytes, dict[tuple[int, bytes], int]]:
        """Return a block without the rows that need not be read; its line ends stay.

        The second value tells, by line number and text of a row that is kept, how many of its form
        before it are not.
        """
        parts = _Parts(block)
        kept: dict[int, int] = {}
        dropped: set[int] = set()
        for group in self._sort(parts):
            if group.row:
                dropped.update(group.here)
                kept.update(self._rows_of(group, parts))
            group.here = []
        dropped.difference_update(kept)
        pieces, done = [], 0
        for start, end in parts.spans(sorted(dropped)):
            pieces.append(block[done:start])
            done = end
        places = [place for place in sorted(kept) if kept[place]]
        lines, texts = parts.lines(places), parts.texts(places)
        passed = {
            (self.line + number, text): kept[place]
            for place, number, text in zip(places, lines, texts, strict=True)
        }
        self.line += parts.line_ends
        return b"".join([*pieces, block[done:]]), passed

    def candidates(self, block: bytes) -> Iterator[tuple[int, bytes, int]]:
        """Yield line number, fragment, and how many of its form before it were passed over.

        Chosen are rows with the bars beside them, messages that may tell of trouble, and tracebacks
        with the lines after them.
        """
        parts = _Parts(block)
        chosen: dict[int, int] = {}
        for group in self._sort(parts):
            if group.row:
                chosen.update(self._rows_of(group, parts))
            else:
                chosen.update(dict.fromkeys(self._messages_of(group, parts), 0))
            group.here = []
        for place in sorted(chosen):
            if b"Traceback (most" in parts.shapes[place]:
                for near in parts.lines_after(place, TRACEBACK_WINDOW):
                    chosen.setdefault(near, 0)
        chosen |= dict.fromkeys(parts.bars_beside(chosen), 0)
        places = sorted(chosen)
        for place, number, text in zip(
            places, parts.lines(places), parts.texts(places), strict=True
        ):
            yield self.line + number, text, chosen[place]
        self.line += parts.line_ends

    # --- shapes ---

    def _sort(self, parts: _Parts) -> list[_Group]:
        """Put the places of the fragments into their groups; return those that have any."""
        known, shapes = self._groups, parts.shapes
        fresh = set(shapes).difference(known)
        judged: dict[bytes, _Group | None] = {}
        if fresh:
            first: dict[bytes, int] = {}
            for place, shape in enumerate(shapes):
                if shape in fresh:
                    first.setdefault(shape, place)
            judged = dict(zip(first, self._judge(parts.texts(first.values())), strict=True))
        groups = known
        if len(known) < SHAPES and self._remembered < SHAPE_BYTES:
            known.update(judged)
            self._remembered += sum(map(len, judged))
        elif any(judged.values()):
            groups = known | judged
        found = []
        # Nearly all are of a shape that tells nothing; this loop is for the others alone.
        for place in compress(range(len(shapes)), map(groups.get, shapes)):
            group = groups[shapes[place]]
            if group is None:
                continue
            own = group if group.ranks is None else group.of_rank(parts.text(place))
            if not own.here:
                found.append(own)
            own.here.append(place)
        return found

    def _judge(self, texts: list[bytes]) -> Iterator[_Group | None]:
        """Yield the group of each fragment, None for most, by one pass of the automaton."""
        enough = self._messages > MESSAGES
        pattern = outstanding_pattern() if enough else candidate_pattern()
        starts = list(accumulate((len(text) + 1 for text in texts), initial=0))
        marked = {
            bisect_right(starts, found.start()) - 1 for found in pattern.finditer(b"\n".join(texts))
        }
        lasting = len(self._groups) < SHAPES and not enough
        for index, text in enumerate(texts):
            if index not in marked:
                yield _Group(status=True) if lasting and _STATUS.search(text) else None
            elif _may_be_row(text) and _NUMBER.search(text):
                yield self._form_of(text[:LONGEST])
            else:
                yield _Group(traceback=b"Traceback" in text)

    def _form_of(self, text: bytes) -> _Group:
        """Return the group of a row's form: of many forms, what begins alike counts as one."""
        watched = _WATCHED.search(text)
        form = _form(text)
        if form not in self._forms and len(self._forms) >= FORMS:
            form = _form(text[: watched.end() if watched else BEGINNING])
        if form not in self._forms and len(self._forms) >= 5 * FORMS:
            form = b""
        group = self._forms.get(form)
        if group is None:
            before, after = _around(text, watched)
            ranks: dict[bytes, _Group] | None = {} if _RANK.match(text) else None
            group = _Group(row=True, bar=b"%|" in text, before=before, after=after, ranks=ranks)
            self._forms[form] = group
        return group

    # --- choice ---

    def _rows_of(self, group: _Group, parts: _Parts) -> Iterator[tuple[int, int]]:
        """Yield the places of the rows to read, each with the number passed over before it."""
        here, share = group.here, len(parts.block) / self._size
        columns, counts = group.columns(parts.texts(here)) if len(here) > 2 else ([], None)
        last = -1
        for index in thin.keep(columns, counts, len(here), share=share).tolist():
            yield here[index], group.carry + index - last - 1
            group.carry, last = 0, index
        group.carry += len(here) - 1 - last

    def _messages_of(self, group: _Group, parts: _Parts) -> Iterator[int]:
        for place in group.here:
            if group.status and not _BAD_STATUS.search(parts.text(place)):
                continue
            if group.count >= SAME_SHAPE and not group.traceback:
                return
            group.count += 1
            self._messages += 1
            if self._messages <= MESSAGES or outstanding_pattern().search(parts.text(place)):
                yield place


class _Parts:
    """The fragments of a block by their places: what stands between its line ends, LF or CR."""

    def __init__(self, block: bytes) -> None:
        import numpy as np

        self.block = block
        self.shapes = block.translate(_CR_AS_LF, _DIGITS).split(b"\n")
        content = np.frombuffer(block, dtype=np.uint8)
        ends = np.flatnonzero((content == ord("\n")) | (content == ord("\r")))
        self._lf = content[ends] == ord("\n")
        self.line_ends = int(np.count_nonzero(self._lf))
        self._starts = np.concatenate([[0], ends + 1])
        self._ends = np.concatenate([ends, [len(block)]])

    def spans(self, places: Collection[int]) -> list[tuple[int, int]]:
        """Return start and end of the fragments in the block."""
        import numpy as np

        chosen = np.fromiter(places, dtype=np.int64)
        return list(zip(self._starts[chosen].tolist(), self._ends[chosen].tolist(), strict=True))

    def texts(self, places: Collection[int]) -> list[bytes]:
        return [self.block[start:end] for start, end in self.spans(places)]

    def text(self, place: int) -> bytes:
        return self.block[self._starts[place] : self._ends[place]]

    def lines(self, places: Collection[int]) -> list[int]:
        """Return the line of each fragment, the first of the block being 0."""
        import numpy as np

        counted = np.concatenate([[0], np.cumsum(self._lf)])
        found: list[int] = counted[np.fromiter(places, dtype=np.int64)].tolist()
        return found

    def lines_after(self, place: int, count: int) -> Iterator[int]:
        """Yield the places of so many lines after a place, without progress bars."""
        for near in range(place + 1, len(self.shapes)):
            count -= bool(self._lf[near - 1])
            if count < 0:
                return
            if b"%|" not in self.shapes[near]:
                yield near

    def bars_beside(self, chosen: Mapping[int, int]) -> Iterator[int]:
        """Yield the places of the bars nearest to those chosen, and to the block's begin."""
        for place in (-1, *chosen) if b"%|" in self.block else ():
            for direction in (-1, 1):
                near, left = place + direction, BAR_WITHIN
                while 0 <= near < len(self.shapes) and left > 0 and near not in chosen:
                    if b"%|" in self.shapes[near]:
                        yield near
                        break
                    left -= len(self.shapes[near]) + 1
                    near += direction


def _may_be_row(text: bytes) -> bool:
    text = text.lower()
    return any(word in text for word in _ROW_WORDS)


def _form(text: bytes) -> bytes:
    """Return a row with its numbers, the filling of its bar and the widths of its gaps alike."""
    return b" ".join(_NUMBER.sub(b"#", _FILLING.sub(b"%||", text)).split())


def _around(text: bytes, watched: re.Match[bytes] | None) -> tuple[bytes, bytes]:
    """Return what stands before and after the watched value, b"" if that is no sure mark of it."""
    if watched is None:
        return b"", b""
    start, end = watched.span(1)
    before = re.split(rb"\d", text[max(0, start - BEGINNING) : start])[-1]
    sure = text.find(before) == start - len(before)
    return (before, text[end : end + 1]) if sure else (b"", b"")
