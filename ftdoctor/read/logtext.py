"""Log text as fragments: split at LF and CR, without colours, rank prefixes and progress bars."""

from __future__ import annotations

import calendar
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from ftdoctor.read import thin
from ftdoctor.read.marks import candidate_pattern
from ftdoctor.read.source import Source, encoding_of

BLOCK = 4 << 20
# A log up to WHOLE bytes is read line by line. Of a longer one that is done with EDGE bytes at each
# end; between them only lines that may matter are looked at (see `candidates`).
WHOLE = 16 << 20
EDGE = 2 << 20
# Lines between the edges that differ in numbers only: as many are looked at (judgement). Rows of
# metrics are not counted among them.
SAME_SHAPE = 1_000
SHAPES = 100_000  # shapes that are told apart
FRAGMENT_LIMIT = 16_384  # bytes kept of one fragment; longer ones are data dumps (judgement)
BAR_WITHIN = 1_000  # bytes around a row in which the bar that it belongs to is looked for
# Lines after the header of a traceback that are read whole between the edges.
TRACEBACK_WINDOW = 200

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|[\x00\x08]")
_PREFIX = re.compile(
    r"\s*(?:"
    r"\[rank\s?(?P<rank>\d+)\]:\s?"  # torch.distributed, lightning
    r"|\[default(?P<tee>\d+)\]:\s?"  # torchrun --tee 3
    r"|\[\d+,(?P<mpi>\d+)\]<std(?:out|err)>:\s?"  # mpirun --tag-output
    r"|(?P<srun>\d{1,4}): "  # srun --label
    r"|\((?P<actor>[\w.:<>-]+)?\s?pid=(?P<pid>\d+)(?:, ip=[\d.]+)?\)\s?"  # Ray
    r")"
)
_DATE = re.compile(
    r"(?P<y>\d{4})-(?P<mo>\d\d)-(?P<d>\d\d)[ T_]"
    r"(?P<h>\d\d):(?P<mi>\d\d):(?P<s>\d\d)(?:[.,](?P<f>\d{1,6}))?"
    r"|(?P<mo2>\d\d)/(?P<d2>\d\d)/(?P<y2>\d{4}) (?P<h2>\d\d):(?P<mi2>\d\d):(?P<s2>\d\d)"
)
DESCRIPTION = 80  # characters before a bar; more is a message (judgement)
DATE_WITHIN = 120  # characters at the start of a line that may hold its time stamp

# `desc:  12%|█▏   | 12/100 [00:02<00:20,  2.3s/it, loss=0.69]`, and the form without a bar that a
# narrow terminal gets: `desc:  57% 4/7 [00:40<00:29,  9.96s/it]`.
_BAR = re.compile(
    r"(?P<percent>\d{1,3})%"
    r"(?:\|[^|]*\|\s*(?P<count>[\d.]+[kMGT]?/[\d.]+[kMGT]?)i?B?(?:\s*\[(?P<meter>[^\]]*)\])?"
    r"|\s+(?P<count2>\d+/\d+)\s*\[(?P<meter2>[^\]]*)\])"
)
_COUNTS = b" 0123456789"
_NUMBERS = b"0123456789"
# It begins with plain letters, which are searched several times as fast as a word's border.
_LOSS = re.compile(
    rb"loss(?:(?<![A-Za-z0-9_]loss)|(?<=train_loss)|(?<=training_loss))(?:_step)?"
    rb"['\"]?\s*[:=]\s*['\"]?"
    rb"([-+]?(?:\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|nan|inf))\b[^\r\n]*"
)
_STEP = re.compile(rb"(?i)step|iter")
_ROW_WORD = re.compile(rb"(?i)loss|nll|reward|acc|perplexity|norm|train_runtime|step=|%\|")
_QUOTES = b"'\""
_TROUBLED = re.compile(rb"(?i)warn|error|fatal|critical")
_COUNT = re.compile(r"^(?:[\w ().-]{0,60}: )?\d+(?:it|\s?examples|\s?tokens) \[[^\]]*\]")
# pip, huggingface_hub, rich: bars that carry no count of steps.
_OTHER_BAR = re.compile(r"━{4,}|█{4,}[^|]*\||[▏▎▍▌▋▊▉█]{3,}\s|^\s*\d{1,3}%\s*\d+[kMG]?\s")


@dataclass(frozen=True, slots=True)
class Fragment:
    """Text between line ends; `line` counts LF from 1; `stream` tells processes apart."""

    text: str
    line: int
    rank: int | None = None
    stream: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """A redraw of a progress bar: `at` of `of`, 0 of 0 if it counts bytes; `meter`: in brackets."""

    desc: str
    at: int
    of: int
    meter: str
    text: str

    @property
    def postfix(self) -> str:
        """Return what the script appended to the time and speed, "" if nothing."""
        parts = self.meter.split(", ", 2 if "<" in self.meter.split(",")[0] else 1)
        return parts[-1] if len(parts) > 2 else ""


def raw_fragments(source: Source) -> Iterator[tuple[int, bytes]]:
    """Yield (line number, bytes) of every fragment, or of a long file those that may matter."""
    with source.open() as stream:
        start = stream.read(4)
    if encoding_of(start) == "utf-16":
        for number, text in source.lines():
            for part in text.split("\r"):
                yield number, part.encode()
        return
    line = 1
    shapes: Counter[bytes] = Counter()
    for offset, block in _blocks(source):
        near_end = offset + len(block) > source.size - EDGE
        if source.size <= WHOLE:
            yield from _split(block, line)
        elif offset < EDGE or near_end:
            yield from _split(_without_rows(block, len(block) / source.size), line)
        else:
            yield from candidates(block, line, len(block) / source.size, shapes)
        line += block.count(b"\n")


def _blocks(source: Source) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, bytes) of pieces that end at a line end, or at a CR if no LF is in reach."""
    with source.open() as stream:
        rest, offset = b"", 0
        while read := stream.read(BLOCK):
            data = rest + read
            cut = data.rfind(b"\n") + 1
            if not cut and len(data) > 2 * BLOCK:
                cut = (data.rfind(b"\r") + 1) or len(data)
            if cut:
                yield offset, data[:cut]
                offset += cut
            rest = data[cut:]
        if rest:
            yield offset, rest


def _split(block: bytes, line: int) -> Iterator[tuple[int, bytes]]:
    for number, physical in enumerate(block.split(b"\n"), line):
        if b"\r" not in physical:
            if physical:
                yield number, physical
            continue
        parts = [part for part in physical.split(b"\r") if part and not part.isspace()]
        forms = [b"", *map(_form_of_bar, parts), b""]
        # Of a bar drawn again and again, the first tells of the row before, the last how far it
        # came.
        for part, before, form, after in zip(parts, forms, forms[1:], forms[2:], strict=False):
            if not form or form != before or form != after:
                yield number, part


def _form_of_bar(part: bytes) -> bytes:
    """Return what the redraws of one progress bar share, b"" for all else and bars with metrics."""
    end = part.find(b"%|")
    if end < 0 or b"=" in part or b"oss" in part or part.find(b".", 0, end) >= 0:
        return b""
    stop = part.find(b" [", end)
    total = part.rfind(b"/", end, stop)
    return part[:end].translate(None, _COUNTS) + part[total if total >= 0 else stop - 1 : stop]


def candidates(
    block: bytes, line: int, share: float = 0.0, shapes: Counter[bytes] | None = None
) -> Iterator[tuple[int, bytes]]:
    """Yield the fragments of a block that may hold a metric row or trouble, with the bars around.

    One DFA pass (RE2) over the block: the cost is that of reading, not of the number of lines. Of
    a block that is `share` of a log, as many rows of losses are kept as `thin.keep` says; `shapes`
    counts the messages of the blocks before.
    """
    shapes = Counter() if shapes is None else shapes
    if share:
        block = _without_rows(block, share)
    cursor = _Cursor(block, line)
    # A row at the end of the block before is followed by its bar here.
    yield from cursor.bar_after()
    for found in candidate_pattern().finditer(block):
        at = found.start()
        if at < cursor.done:
            continue
        start, end = cursor.around(at)
        if _enough(block[start:end], shapes):
            cursor.done = end
            continue
        yield from cursor.bar_before(start)
        if b"Traceback (most" in block[start:end]:
            end = _after_lines(block, end, TRACEBACK_WINDOW)
            yield from _split(block[start:end], cursor.line_at(start))
        else:
            yield cursor.line_at(start), block[start:end]
        cursor.done = end
        yield from cursor.bar_after()


def _enough(fragment: bytes, shapes: Counter[bytes]) -> bool:
    """Say whether enough messages of that shape were looked at; count this one."""
    if _ROW_WORD.search(fragment) or b"Traceback" in fragment:
        return False
    shape = fragment.translate(None, _NUMBERS)
    if shape not in shapes and len(shapes) >= SHAPES:
        return False
    shapes[shape] += 1
    return shapes[shape] > SAME_SHAPE


def _without_rows(block: bytes, share: float) -> bytes:
    """Return a block without the rows of losses that need not be read; its lines stay."""
    import numpy as np

    found = list(_LOSS.finditer(block))
    if len(found) <= thin.ROWS * share or not _tell_steps(block, found[0]):
        return block
    column = np.array([match[1] for match in found]).astype(np.float64)
    kept = thin.keep([column], None, len(found), share=share).tolist()
    parts, done = [], 0
    # Between two kept rows all are passed over, unless their lines begin as messages.
    for before, after in pairwise([-1, *kept, len(found)]):
        for match in found[before + 1 : after]:
            at = match.start()
            if block[at - 1] in _QUOTES or not _TROUBLED.search(block, max(0, at - 80), at):
                parts.append(block[done:at])
                done = match.end()
    return b"".join([*parts, block[done:]])


def _tell_steps(block: bytes, row: re.Match[bytes]) -> bool:
    """Say whether rows tell their step, or bars do: else it comes of counting all rows."""
    line = block[max(0, row.start() - 80) : row.end()]
    return b"%|" in block or bool(_STEP.search(line))


class _Cursor:
    """Finds the ends of fragments in a block and counts its lines, each byte once."""

    def __init__(self, block: bytes, line: int) -> None:
        self.done = 0
        self._block, self._line = block, line
        self._counted = 0
        self._next_lf = -1

    def line_at(self, at: int) -> int:
        """Return the line number at an offset; offsets must not fall."""
        self._line += self._block.count(b"\n", self._counted, at)
        self._counted = max(at, self._counted)
        return self._line

    def around(self, at: int) -> tuple[int, int]:
        """Return start and end of the fragment at an offset beyond `done`."""
        block = self._block
        start = max(block.rfind(b"\n", self.done, at), block.rfind(b"\r", self.done, at)) + 1
        if self._next_lf < at:
            found = block.find(b"\n", at)
            self._next_lf = found if found >= 0 else len(block)
        end = block.find(b"\r", at, self._next_lf)
        return max(start, self.done), end if end >= 0 else self._next_lf

    def bar_before(self, start: int) -> Iterator[tuple[int, bytes]]:
        """Yield the progress bar nearest before an offset."""
        yield from self._bar(self._block.rfind(b"%|", max(self.done, start - BAR_WITHIN), start))

    def bar_after(self) -> Iterator[tuple[int, bytes]]:
        """Yield the progress bar nearest after what was yielded."""
        yield from self._bar(self._block.find(b"%|", self.done, self.done + BAR_WITHIN))

    def _bar(self, at: int) -> Iterator[tuple[int, bytes]]:
        if at >= 0:
            start, end = self.around(at)
            yield self.line_at(start), self._block[start:end]
            self.done = end


def _after_lines(block: bytes, at: int, count: int) -> int:
    for _ in range(count):
        end = block.find(b"\n", at + 1)
        if end < 0:
            return len(block)
        at = end
    return at


def clean(raw: bytes, line: int) -> Fragment:
    """Decode a fragment, drop colours, and take the prefix that names its process."""
    text = raw[:FRAGMENT_LIMIT].decode("utf-8", errors="replace")
    if line == 1:
        text = text.removeprefix("\ufeff")
    if "\x1b" in text or "\0" in text or "\b" in text:
        text = _ANSI.sub("", text)
    text = text.rstrip()
    prefix = _PREFIX.match(text)
    if not prefix:
        return Fragment(text, line)
    rank = next((prefix[n] for n in ("rank", "tee", "mpi", "srun") if prefix[n]), None)
    rest = text[prefix.end() :]
    inner = _PREFIX.match(rest) if rank is None else None
    if inner and inner["rank"]:
        return Fragment(rest[inner.end() :], line, int(inner["rank"]), prefix.group())
    return Fragment(rest, line, int(rank) if rank else None, prefix.group().strip())


def take_bars(text: str) -> tuple[str, list[Bar]]:
    """Return the text without its progress bars, and the bars."""
    if "%" not in text and "it/s" not in text and "s/it" not in text and "━" not in text:
        return text, []
    bars: list[Bar] = []
    kept, at = [], 0
    for found in _BAR.finditer(text):
        desc = text[at : found.start()]
        at_text, _, of_text = (found["count"] or found["count2"]).partition("/")
        counts = at_text.isdigit() and of_text.isdigit()
        bars.append(
            Bar(
                desc.strip(" :"),
                int(at_text) if counts else 0,
                int(of_text) if counts else 0,
                found["meter"] or found["meter2"] or "",
                found.group(),
            )
        )
        # A message may have been printed into the line before the bar was drawn.
        if len(desc) > DESCRIPTION or "{" in desc:
            kept.append(desc)
        at = found.end()
    kept.append(text[at:])
    rest = " ".join(kept) if at else text
    if not bars and rest == text:
        if _COUNT.match(rest.strip()):
            rest = _COUNT.sub("", rest.strip())
        elif _OTHER_BAR.search(rest):
            return "", []
    return rest, bars


def time_of(text: str) -> float | None:
    """Return the time stamp at the start of a line as Unix seconds, taken as UTC (no zone told)."""
    found = _DATE.search(text[:DATE_WITHIN])
    if not found:
        return None
    if found["y"]:
        parts = [int(found[n]) for n in ("y", "mo", "d", "h", "mi", "s")]
        fraction = float(f"0.{found['f']}") if found["f"] else 0.0
    else:
        parts = [int(found[n]) for n in ("y2", "mo2", "d2", "h2", "mi2", "s2")]
        fraction = 0.0
    if not (1 <= parts[1] <= 12 and 1 <= parts[2] <= 31 and 1990 <= parts[0] <= 2100):
        return None
    return calendar.timegm((*parts, 0, 0, 0)) + fraction
