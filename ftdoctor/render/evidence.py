"""The account of a diagnosis in rows: evidence per cause, quotes, causal chain, gaps by file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ftdoctor.edits import cell_code
from ftdoctor.model import (
    Artifact,
    ArtifactState,
    Diagnosis,
    Edit,
    Fact,
    Finding,
    Moment,
    RankedCause,
    State,
    Unchecked,
    Unseen,
    Weight,
)
from ftdoctor.render import text as words

ROWS = 8  # evidence rows of one sign in a card; the rest is summed up in one row
UNSEEN_ROWS = 3
OWN_TEST = re.compile(r"--observed ([\w-]+)")
NO_FILE = "none: these are for runs of another kind"
NO_MESSAGE = "No such message in the console output"  # of `log.matches`, for each of its patterns
SOURCES = 3
NOISE = 0.5  # decibans; findings of less share one row
CHAIN = 6
CARDS = 7
QUOTES = 4
QUOTE_LINES = 14
QUOTE_WIDTH = 240
INLINE = 60  # a quoted value longer than this is not shown beside its place

Weighed = tuple[Weight, Finding]


@dataclass(frozen=True, slots=True)
class Source:
    """A place, and the value that was read there if it is short."""

    place: str
    quote: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One piece of evidence: sign ▲ ▼ ○ with its word, sentence, weight in words, sources.

    `need` is the file that would show it, `ruled_out` what was looked for and not found.
    """

    sign: str
    word: str
    tone: str
    text: str
    weight: str
    sources: tuple[Source, ...] = ()
    more: int = 0
    need: str = ""
    ruled_out: tuple[str, ...] = ()

    @property
    def unsaid(self) -> tuple[Source, ...]:
        """Return the sources without what the sentence has said already."""
        less = (Source(s.place, "" if s.quote in self.text else s.quote) for s in self.sources)
        return tuple(s for s in less if s.quote or s.place not in self.text)


@dataclass(frozen=True, slots=True)
class Quote:
    """Lines of the run's files, as a figure."""

    place: str
    text: str


@dataclass(frozen=True, slots=True)
class Link:
    """One box of the causal chain."""

    label: str
    text: str
    root: bool = False


@dataclass(frozen=True, slots=True)
class Gap:
    """Files that are missing, the checks that they would allow, and the causes those bear on."""

    files: str
    checks: tuple[str, ...]
    causes: int


def shown(d: Diagnosis) -> tuple[RankedCause, ...]:
    """Return the causes that get a card."""
    return tuple(c for c in d.causes if c.probability >= words.SHOWN)[:CARDS]


def numbered(d: Diagnosis) -> dict[str, int]:
    """Return the number of each cause that has a card, by id."""
    return {cause.id: index for index, cause in enumerate(shown(d), 1)}


def shown_advice(d: Diagnosis) -> tuple[RankedCause, ...]:
    """Return the weak practice that is likelier there than not worth a word."""
    return tuple(c for c in d.advice if c.probability >= words.POSSIBLE)[:CARDS]


def sides(edit: Edit, width: int = 200, most: int = 6) -> tuple[list[str], list[str]]:
    """Return the lines of a change as they are and as they should be, safe to print.

    A line of a notebook's file is shown as the code that it holds.
    """
    cell = edit.path.endswith(".ipynb")
    before, after = (cell_code(text) if cell else text for text in (edit.before, edit.after))
    return words.code_lines(before, width, most), words.code_lines(after, width, most)


def second_cause(d: Diagnosis) -> RankedCause | None:
    """Return the next independent root cause that is at least probable, if there is one."""
    return next(
        (c for c in d.causes[1:CARDS] if c.probability >= words.PROBABLE and not c.beneath), None
    )


def supporting(d: Diagnosis, cause: RankedCause) -> list[Weighed]:
    """Return the weights for a cause with their findings, strongest first."""
    return _weighed(d, [w for w in cause.weights if w.role in ("for", "risk") and w.decibans > 0])


def opposing(d: Diagnosis, cause: RankedCause) -> list[Weighed]:
    """Return the weights against a cause with their findings, strongest first."""
    return _weighed(d, [w for w in cause.weights if w.role != "explained" and w.decibans < 0])


def _weighed(d: Diagnosis, weights: Iterable[Weight]) -> list[Weighed]:
    found = [(w, d.finding(w.symptom) or _unknown(w.symptom)) for w in weights]
    return sorted(found, key=lambda pair: -abs(pair[0].decibans))


def _unknown(symptom: str) -> Finding:
    return Finding(symptom, symptom, State.PRESENT, symptom.replace("-", " "))


def rows(d: Diagnosis, cause: RankedCause) -> list[Row]:
    """Return a card's evidence: for, against, explained away, not seen."""
    explained = _weighed(d, [w for w in cause.weights if w.role == "explained"])
    return [
        *_signed_rows(supporting(d, cause)),
        *_signed_rows(opposing(d, cause)),
        *_explained_rows(d, cause, explained),
        *_unseen_rows(d, cause),
    ]


def _signed_rows(weighed: Sequence[Weighed]) -> list[Row]:
    """Return a row per finding, those of equal words together, the smallest summed up in one."""
    alike: dict[tuple[str, bool, State], list[Weighed]] = {}
    for weight, finding in weighed:
        alike.setdefault((told(finding), weight.role == "risk", finding.state), []).append(
            (weight, finding)
        )
    groups = sorted(alike.values(), key=lambda group: -abs(_sum(group)))
    large = [group for group in groups[:ROWS] if abs(_sum(group)) >= NOISE]
    found = [_signed_row(group) for group in large]
    rest = [pair for group in groups[len(large) :] for pair in group]
    if rest:
        summed = f"{words.plural(len(rest), 'smaller finding')}{' together' if rest[1:] else ''}"
        found.append(_row_of(_sum(rest), rest[0][0].role, summed))
    return found


def _sum(weighed: Sequence[Weighed]) -> float:
    return sum(weight.decibans for weight, _ in weighed)


def _row_of(decibans: float, role: str, text: str) -> Row:
    sign, word, tone = ("▲", "for", "bad") if decibans >= 0 else ("▼", "against", "ok")
    if role == "risk":
        word = "risk" if decibans >= 0 else "less risk"
    return Row(sign, word, tone, text, words.signed(decibans))


def _signed_row(group: Sequence[Weighed]) -> Row:
    weight, finding = group[0]
    facts = [fact for _, found in group for fact in found.facts]
    sources, more = sources_of(facts)
    text = told(finding)
    if text == NO_MESSAGE and group[1:]:
        text = f"None of {len(group)} messages that it would leave in the console output"
    row = _row_of(_sum(group), weight.role, text)
    ruled_out = [f.title for _, f in group if f.state is State.ABSENT and f.title]
    return replace(row, sources=sources, more=more, ruled_out=tuple(dict.fromkeys(ruled_out)))


def told(finding: Finding) -> str:
    """Return what was seen as a sentence; a name such as `grad_norm` keeps its small letter."""
    return capital(finding.text or finding.title)


def capital(text: str) -> str:
    """Return a sentence with its first letter large, unless it begins with a name in code."""
    return text[:1].upper() + text[1:] if text.partition(" ")[0].isalpha() else text


def _explained_rows(d: Diagnosis, cause: RankedCause, explained: Sequence[Weighed]) -> list[Row]:
    """Sum up in one row what evidence on other causes does to this one."""
    total = sum(w.decibans for w, _ in explained)
    if abs(total) < NOISE:
        return []
    seen = [lowered(f.title) for w, f in explained if f.state is State.PRESENT]
    titles = words.listed([*seen[:2], *([f"{len(seen) - 2} more"] if len(seen) > 2 else [])])
    number = numbered(d).get(cause.explained_by)
    if total > 0:
        text = f"Made likelier by evidence on other causes{': ' if titles else ''}{titles}"
        return [Row("▲", "indirect", "bad", text, words.signed(total))]
    who = f"Cause {number} already accounts" if number else "Other causes account"
    text = f"{who} for: {titles}" if titles else "Made less likely by evidence on other causes"
    return [Row("▼", "explained", "ok", text, words.signed(total))]


def _reach(unseen: Unseen) -> float:
    return -max(abs(unseen.if_present), abs(unseen.if_absent))


def _unseen_row(d: Diagnosis, unseen: Unseen) -> Row:
    weight = f"{words.signed(unseen.if_present)} or {words.signed(unseen.if_absent)}"
    need = words.listed(unseen.missing[:3], "or") if unseen.missing else ""
    return Row("○", "not seen", "muted", _title_of(d, unseen.symptom), weight, need=need)


def _title_of(d: Diagnosis, symptom: str) -> str:
    titles = {u.symptom: u.title for u in d.unchecked} | {f.symptom: f.title for f in d.findings}
    return titles.get(symptom, symptom)


def _unseen_rows(d: Diagnosis, cause: RankedCause) -> list[Row]:
    """Return the most telling checks that files would allow, then those that need a person."""
    own = [u for u in cause.unseen if own_tests(u.missing)]
    files = sorted((u for u in cause.unseen if u not in own), key=_reach)
    shown = UNSEEN_ROWS - bool(own)
    found = [_unseen_row(d, u) for u in files[:shown]]
    if own:
        best = min(own, key=_reach)
        flags = list(dict.fromkeys(flag for u in own for flag in own_tests(u.missing)))
        text = f"What you have seen yourself: {lowered(_title_of(d, best.symptom))}"
        text += f", and {len(own) - 1} more" if own[1:] else ""
        need = f"your word: `--observed {flags[0]}`" + "".join(f", `{f}`" for f in flags[1:4])
        found.append(replace(_unseen_row(d, best), text=text, need=need))
    rest = len(files) - shown
    if rest > 0:
        text = f"{words.plural(rest, 'further check')} of less weight"
        found.append(Row("○", "not seen", "muted", text, ""))
    return found


def own_tests(missing: Sequence[str]) -> list[str]:
    """Return what can be told of a symptom by `--observed`, if nothing else would show it."""
    flags = [OWN_TEST.search(need) for need in missing]
    return [flag[1] for flag in flags if flag] if flags and all(flags) else []


def sources_of(facts: Sequence[Fact]) -> tuple[tuple[Source, ...], int]:
    """Return the first places of some facts, each once, and how many more there are."""
    placed = (fact for fact in facts if fact.where.path not in ("", "."))
    found = list(dict.fromkeys(Source(str(f.where), _inline(f)) for f in placed))
    return tuple(found[:SOURCES]), max(len(found) - SOURCES, 0)


def _inline(fact: Fact) -> str:
    """Return `fp16=True`, a short line of a log, or nothing if the value is long or nested.

    An observation's name is ours and no reader's: its value stands alone, or says nothing.
    """
    value, observed = fact.value, fact.name.partition(".")[0] in _OBSERVED
    if value is None or isinstance(value, list | dict | tuple):
        return ""
    if not isinstance(value, str):
        told = words.number(value)
        return "" if observed else f"{fact.name}={told}" if fact.name else told
    if len(value) > INLINE or "\n" in value or not value.strip() or value in fact.where.path:
        return ""
    return value if " " in value or observed or not fact.name else f"{fact.name}={value}"


# First parts of the names of `read/names.py` under which observations go, not settings or metrics.
_OBSERVED = frozenset({
    "adapter", "args", "baseline", "checkpoint", "compare", "config", "data", "environment",
    "export", "gguf", "log", "merge", "model", "modelfile", "observed", "processor", "progress",
    "requirements", "run", "script", "security", "shell", "state", "summary", "template",
    "tokenizer", "weights",
})  # fmt: skip


def quotes_of(findings: Iterable[Finding]) -> list[Quote]:
    """Return what the run's files say literally: log lines and tracebacks before settings."""
    facts = [fact for finding in findings for fact in finding.facts]
    long = [f for f in facts if isinstance(f.value, str) and (" " in f.value or "\n" in f.value)]
    short = [f for f in facts if f not in long and _inline(f)]
    found = [Quote(str(f.where), words.last_lines(f.value, QUOTE_LINES, QUOTE_WIDTH)) for f in long]
    told = list(dict.fromkeys((str(f.where), _inline(f)) for f in short))[:QUOTES]
    if told:
        width = max(len(place) for place, _ in told)
        lines = "\n".join(f"{words.clean(place):<{width}}  {text}" for place, text in told)
        found = [
            *list(dict.fromkeys(found))[: QUOTES - 1],
            Quote("", words.last_lines(lines, QUOTES, QUOTE_WIDTH)),
        ]
    return list(dict.fromkeys(found))[:QUOTES]


def with_frame(quote: Quote, timeline: Iterable[Moment]) -> Quote:
    """Put the user's own frame above a quoted exception, if the timeline tells of it."""
    for moment in timeline:
        if moment.kind == "traceback" and moment.where and str(moment.where) == quote.place:
            raised, *frame = moment.text.split("\n")
            if frame and raised[:60] in quote.text and frame[0].strip() not in quote.text:
                shown = words.last_lines("\n".join(frame), QUOTE_LINES, QUOTE_WIDTH)
                return replace(quote, text=f"{shown}\n{quote.text}")
    return quote


def chain(d: Diagnosis) -> list[Link]:
    """Return how it failed, from the root cause to what the user noticed; empty if too little."""
    if not d.causes or d.causes[0].probability < words.POSSIBLE:
        return []
    top = d.causes[0]
    dated = sorted(
        (f for w, f in supporting(d, top) if f.span is not None and w.role == "for"),
        key=lambda f: f.span.step if f.span else 0,
    )
    links = [Link("root cause", top.title, root=True)]
    links += [Link(_steps(f), lowered(f.title)) for f in dated]
    links += [Link("which led to", lowered(c.title)) for c in d.causes[1:] if c.beneath == top.id]
    if d.run.ending in ("crashed", "killed") and d.run.steps_done is not None:
        links.append(Link(f"step {d.run.steps_done:,}", f"the run {_ended(d.run.ending)}"))
    elif len(links) < 3:
        links += [Link("can lead to", lowered(title)) for title in top.leads_to[:2]]
    return links[: CHAIN - 1] + links[-1:] if len(links) > CHAIN else links if links[1:] else []


def _ended(ending: str) -> str:
    return "is killed" if ending == "killed" else "crashes"


def _steps(finding: Finding) -> str:
    span = finding.span
    assert span is not None  # only dated findings are asked
    if span.until is None:
        return f"{span} on"
    return str(span) if span.until == span.step else f"{span} to {span.until:,}"


def lowered(title: str) -> str:
    """Return a title as part of a sentence; an acronym keeps its capitals."""
    first = title.partition(" ")[0]
    return title[:1].lower() + title[1:] if first == first.capitalize() else title


def gaps(unchecked: Sequence[Unchecked]) -> list[Gap]:
    """Group what could not be checked by the files that would allow it, most causes first.

    Last comes what no file would allow: the question does not arise in a run of this kind.
    """
    groups: dict[tuple[str, ...], list[Unchecked]] = {}
    for item in sorted(unchecked, key=lambda u: (-len(u.causes), u.symptom)):
        groups.setdefault(tuple(n for n in item.missing if not OWN_TEST.search(n)), []).append(item)
    found = [
        Gap(
            _would_allow(files, group),
            tuple(dict.fromkeys(u.title for u in group)),
            len({cause for u in group for cause in u.causes}),
        )
        for files, group in groups.items()
    ]
    return sorted(found, key=lambda gap: (gap.files == NO_FILE, -gap.causes, gap.files))


def _would_allow(files: Sequence[str], group: Sequence[Unchecked]) -> str:
    """Return the files that would allow a group of checks, and how to tell what one has seen."""
    flags = dict.fromkeys(
        flag[1] for u in group for need in u.missing if (flag := OWN_TEST.search(need))
    )
    own = f"what you have seen yourself: `--observed` {words.listed(flags, 'or')}" if flags else ""
    named = words.listed(files[:4], "or")
    return f"{named}, or {own}" if named and own else named or own or NO_FILE


_ORDER = (
    ArtifactState.DAMAGED,
    ArtifactState.UNKNOWN,
    ArtifactState.SKIPPED,
    ArtifactState.PARTIAL,
    ArtifactState.READ,
)


def files(artifacts: Iterable[Artifact]) -> list[Artifact]:
    """Return files in the order in which they need attention: damaged ones first."""
    return sorted(artifacts, key=lambda a: (_ORDER.index(a.state), a.path))
