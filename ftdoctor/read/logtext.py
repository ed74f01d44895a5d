"""Log text as fragments: split at LF and CR, without colours, rank prefixes and progress bars."""

from __future__ import annotations

import calendar
import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from ftdoctor.read.sieve import Sieve
from ftdoctor.read.source import Source, encoding_of

BLOCK = 1 << 20  # bytes: what is made of them stays in the cache
# A log up to WHOLE bytes is read line by line. Of a longer one that is done with EDGE bytes at each
# end; between them only lines that may matter are looked at (see `Sieve`).
WHOLE = 16 << 20
EDGE = 1 << 20
FRAGMENT_LIMIT = 16_384  # bytes kept of one fragment; longer ones are data dumps (judgement)

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
# What a web page or a word processor makes of the quotes and brackets of a log.
_ENTITY = re.compile(r"&(?:quot|lt|gt|apos|#0?39|#x27|#34);")
_PLAIN_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'})
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
_COUNT = re.compile(r"^(?:[\w ().-]{0,60}: )?\d+(?:it|\s?examples|\s?tokens) \[[^\]]*\]")
# pip, huggingface_hub, rich: bars that carry no count of steps.
_OTHER_BAR = re.compile(r"━{4,}|█{4,}[^|]*\||[▏▎▍▌▋▊▉█]{3,}\s|^\s*\d{1,3}%\s*\d+[kMG]?\s")


@dataclass(frozen=True, slots=True)
class Fragment:
    """Text between line ends; `line` counts LF from 1; `stream` tells processes apart.

    `passed` fragments of its form before it were left out.
    """

    text: str
    line: int
    rank: int | None = None
    stream: str = ""
    passed: int = 0


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


def raw_fragments(source: Source) -> Iterator[tuple[int, bytes, int]]:
    """Yield line number and bytes of every fragment, or of a long file of those that may matter.

    The third value tells how many rows of the same form before this one are left out.
    """
    with source.open() as stream:
        start = stream.read(4)
    if encoding_of(start) == "utf-16":
        for number, text in source.lines():
            for part in text.split("\r"):
                yield number, part.encode(), 0
        return
    if source.size <= WHOLE:
        line = 1
        for _, block in _blocks(source):
            for number, piece in _split(block, line):
                yield number, piece, 0
            line += block.count(b"\n")
        return
    sieve = Sieve(source.size)
    for offset, block in _blocks(source):
        if not offset or offset + len(block) > source.size - EDGE:
            line = sieve.line
            left, passed = sieve.without_rows(block)
            for number, piece in _split(left, line):
                yield number, piece, passed.get((number, piece), 0)
        else:
            yield from sieve.candidates(block)


def _blocks(source: Source) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, bytes) of pieces that end at a line end, or at a CR if no LF is in reach.

    The edges of a long file are pieces of their own.
    """
    with source.open() as stream:
        rest, offset = b"", 0
        while read := stream.read(_reach(offset + len(rest), source.size)):
            cut = read.rfind(b"\n") + 1
            if not cut and len(rest) + len(read) >= (2 * BLOCK if source.size <= WHOLE else EDGE):
                cut = (read.rfind(b"\r") + 1) or len(read)
            if cut:
                block = b"".join((rest, memoryview(read)[:cut]))
                yield offset, block
                offset += len(block)
                rest = read[cut:]
            else:
                rest += read
        if rest:
            yield offset, rest


def _reach(at: int, size: int) -> int:
    """Return how much to read at a place of a file."""
    if size <= WHOLE or at >= size - EDGE:
        return BLOCK
    return EDGE if at < EDGE else min(BLOCK, size - EDGE - at)


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
    head = _head_of_bar(part.translate(None, _COUNTS))
    if not head:
        return b""
    end = part.find(b"%|")
    stop = part.find(b" [", end)
    total = part.rfind(b"/", end, stop)
    return head + part[total if total >= 0 else stop - 1 : stop]


@lru_cache(maxsize=1 << 10)
def _head_of_bar(shape: bytes) -> bytes:
    """Return what stands before the bar in a fragment without digits and blanks, b"" for no bar."""
    head, bar, _ = shape.partition(b"%|")
    metrics = b"=" in shape or b"oss" in shape or b"." in head
    return b"" if metrics or not bar else head + bar


def clean(raw: bytes, line: int, passed: int = 0) -> Fragment:
    """Decode a fragment, drop colours, and take the prefix that names its process."""
    text = raw[:FRAGMENT_LIMIT].decode("utf-8", errors="replace")
    if line == 1:
        text = text.removeprefix("\ufeff")
    if "\x1b" in text or "\0" in text or "\b" in text:
        text = _ANSI.sub("", text)
    if "&" in text and _ENTITY.search(text):
        text = html.unescape(text)
    if not text.isascii():
        text = text.translate(_PLAIN_QUOTES)
    text = text.rstrip()
    prefix = _PREFIX.match(text)
    if not prefix:
        return Fragment(text, line, passed=passed)
    rank = next((prefix[n] for n in ("rank", "tee", "mpi", "srun") if prefix[n]), None)
    rest = text[prefix.end() :]
    inner = _PREFIX.match(rest) if rank is None else None
    if inner and inner["rank"]:
        return Fragment(rest[inner.end() :], line, int(inner["rank"]), prefix.group(), passed)
    return Fragment(rest, line, int(rank) if rank else None, prefix.group().strip(), passed)


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
