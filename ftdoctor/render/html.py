"""The HTML report: one file without scripts or requests, within a size budget."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from ftdoctor.codec import encode
from ftdoctor.folders import folder
from ftdoctor.model import ArtifactState, Diagnosis, Finding, RankedCause, State
from ftdoctor.render import evidence, panels, plots
from ftdoctor.render import text as words
from ftdoctor.render.quotes import count_quotes, without_quotes

PAGE = "report.html.j2"
TEMPLATES = (PAGE, "base.html.j2", "figures.html.j2")
BUDGET = 300_000  # bytes of a page
GAPS_OPEN, GAPS_LISTED = 10, 30  # groups of missing files shown without a click, and at all
CHECKS_LISTED = 2  # checks named of each group; `--format json` names all
FILES_OPEN, FILES_LISTED = 20, 150
WHOLE = (20_000, 20_000)  # length of a text and number of items that no real diagnosis has
UNLIKELY = 60
NEXT = 8
CONFLICTS = 20
MOMENTS, MOMENTS_LISTED = 12, 60


@dataclass(frozen=True, slots=True)
class Limits:
    """What a page may hold: each level of `LEVELS` gives up more, and says so in `dropped`.

    `text` is the length of any one text; `embed` the (length of text, number of items) to which
    the embedded data are cut.
    """

    table: bool = True
    plots: int = plots.MAX_PLOTS
    unlikely: bool = True
    text: int = 4000
    embed: tuple[int, int] = WHOLE
    dropped: tuple[str, ...] = ()


def _levels() -> tuple[Limits, ...]:
    """Return what to give up in this order; the last level always fits."""
    changes: tuple[tuple[dict[str, Any], str], ...] = (
        ({"table": False}, "the table of plotted data"),
        ({"embed": (600, 200)}, "parts of the embedded data"),
        ({"plots": 1}, "all plots but the first"),
        ({"unlikely": False}, "causes below 5%"),
        ({"text": 600}, "the ends of long quotes"),
        ({"text": 160, "embed": (160, 8)}, "most of the embedded data"),
    )
    levels = [Limits()]
    for change, told in changes:
        last = levels[-1]
        levels.append(replace(last, dropped=(*last.dropped, told), **change))
    return tuple(levels)


LEVELS = _levels()


@dataclass(frozen=True, slots=True)
class Drawn:
    """The figures of a page: the one beside the verdict, then the rest."""

    hero: plots.Plot | None
    quotes: tuple[evidence.Quote, ...]
    panel: panels.View | None
    plots: tuple[plots.Plot, ...]
    panels: tuple[panels.View, ...]


def render_html(d: Diagnosis, *, quotes: bool = True) -> str:
    """Return the report as one HTML page of at most BUDGET bytes, the same for the same diagnosis.

    Without `quotes`, text of the run's files is taken out of the page and the embedded data.
    """
    diagnosis = d if quotes else without_quotes(d)
    drawings = [plots.drawing(diagnosis, figures) for figures in plots.plan(diagnosis)]
    for name in TEMPLATES:  # compiled while a second process draws
        environment(LEVELS[0].text).get_template(name)
    drawn = _arrange(diagnosis, [drawing() for drawing in drawings])
    page = ""
    for limits in LEVELS:
        page = _page(diagnosis, drawn, limits, quoted=quotes)
        if len(page.encode("utf-8")) <= BUDGET:
            break
    return page


def render_cell(d: Diagnosis) -> str:
    """Return verdict and first plot for a notebook cell, in the light palette."""
    planned = plots.plan(d)[:1]
    template = environment(600).get_template("cell.html.j2")
    return template.render(
        d=d,
        variables=Markup(_light_palette()),
        plot=plots.draw(d, planned[0]) if planned else None,
        svg=_svg,
    )


# --- the template's surroundings ----------------------------------------------------------------


@cache
def environment(limit: int = 4000) -> Environment:
    """Return Jinja's environment for all our pages: escaping on, every text cleaned and clipped."""

    def tidy(value: Any) -> Any:
        if value is None:
            return ""
        if type(value) is not str:
            return value
        return words.clip(words.clean(words.clip(value, limit)), limit)

    made = Environment(
        loader=FileSystemLoader(str(folder("reports"))),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=tidy,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        prose=lambda text: _prose(tidy(str(text))),
        paragraphs=lambda text: _paragraphs(tidy(str(text))),
        capital=lambda text: evidence.capital(str(text)),
        lowered=lambda text: evidence.lowered(str(text)),
        known=words.known_as,
        line=lambda text: words.one_line(str(text), min(limit, 300)),
        sides=evidence.sides,
        percent=words.percent,
        prior=words.prior_percent,
        size=words.size,
        number=words.number,
        moment=words.moment,
        several=words.of_several,
        plural=words.plural,
        listed=words.listed,
        short_path=words.short_path,
    )
    made.tests["web"] = lambda link: bool(re.fullmatch(r"https://[^\s\"'<>`]+", str(link)))
    return made


@cache
def styles(*names: str) -> Markup:
    """Return our style sheets, one after the other."""
    read = (folder("reports").joinpath(name).read_text(encoding="utf-8") for name in names)
    text = re.sub(r"/\*.*?\*/", "", "\n".join(read), flags=re.S)
    text = re.sub(r"\s*([{};,])\s*", r"\1", re.sub(r"\s+", " ", text))
    return Markup(re.sub(r": (?=[^{}]*[;}])", ":", text).replace(";}", "}"))


def _light_palette() -> str:
    block = re.search(r":root\{(.*?)\}", str(styles("base.css")))
    assert block is not None  # base.css begins with it
    return " ".join(re.findall(r"--[\w-]+:[^;]+;", block[1] + ";"))


def _prose(text: str) -> Markup:
    """Return one paragraph, what stands in backticks as code."""
    parts = re.split(r"`([^`\n]+)`", text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 else escape(part)
        for index, part in enumerate(parts)
    )


def _paragraphs(text: str) -> Markup:
    """Return paragraphs and lists of lines that begin with `- ` or `1.`."""
    found = Markup("")
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = [line.strip() for line in block.split("\n") if line.strip()]
        if lines and all(re.match(r"[-*] |\d+[.)] ", line) for line in lines):
            items = [_prose(re.sub(r"^([-*]|\d+[.)]) ", "", line)) for line in lines]
            found += Markup("<ul>{}</ul>").format(
                Markup("").join(map(Markup("<li>{}</li>").format, items))
            )
        elif lines:
            found += Markup("<p>{}</p>").format(_prose(" ".join(lines)))
    return found


def _svg(text: str) -> Markup:
    return Markup(text)  # drawn by plots.py, which escapes what comes from the run


# --- the page ---------------------------------------------------------------------------------


def _page(d: Diagnosis, drawn: Drawn, limits: Limits, *, quoted: bool) -> str:
    top = d.causes[0] if d.verdict.kind == "cause" and d.causes else None
    cards = evidence.shown(d)
    listed = evidence.files(d.artifacts)
    further = drawn.plots[: max(limits.plots - (drawn.hero is not None), 0)]
    template = environment(limits.text).get_template(PAGE)
    return template.render(
        d=d,
        css=styles("base.css", "report.css"),
        generator=d.versions.get("ftdoctor", ""),
        top=top,
        second=evidence.second_cause(d) if top else None,
        edit=top.edit if top else None,
        drawn=replace(drawn, plots=further),
        tables=[p for p in (drawn.hero, *further) if p] if limits.table else [],
        svg=_svg,
        cards=[(cause, evidence.rows(d, cause), _total(cause)) for cause in cards],
        number=evidence.numbered(d),
        unlikely=_unlikely(d, cards) if limits.unlikely else [],
        advice=[(cause, evidence.rows(d, cause)) for cause in evidence.shown_advice(d)],
        unexplained=[_seen(f) for f in d.findings if f.symptom in d.unexplained],
        next_checks=[(n, _numbers(n.causes, d)) for n in d.next_checks[:NEXT]],
        chain=evidence.chain(d),
        conflicts=d.conflicts[:CONFLICTS],
        timeline=d.timeline[:MOMENTS],
        more_moments=d.timeline[MOMENTS:MOMENTS_LISTED],
        timed=any(m.time is not None for m in d.timeline),
        lost=_time_lost(d, top),
        gaps=evidence.gaps(d.unchecked),
        checks_listed=CHECKS_LISTED,
        gaps_open=GAPS_OPEN,
        gaps_listed=GAPS_LISTED,
        files=listed[:FILES_OPEN],
        more_files=listed[FILES_OPEN:FILES_LISTED],
        unlisted=max(len(listed) - FILES_LISTED, 0),
        file_counts=_file_counts(d),
        tones={"damaged": "bad", "partial": "warn", "unknown": "muted", "skipped": "muted"},
        quoted=count_quotes(d) if quoted else None,
        dropped=limits.dropped,
        data=embedded(d, limits.embed),
    )


def _arrange(d: Diagnosis, made: list[plots.Plot]) -> Drawn:
    """Choose what stands beside the verdict: the curve, panel or lines that prove it."""
    top = d.causes[0] if d.verdict.kind == "cause" and d.causes else None
    seen = _telling(d, top)
    curved = plots.proves_by_curve(d, top) if top else not seen or bool(seen[0].curves)
    hero = made[0] if made and curved else None
    stage = top.stage if top else ""
    telling = next((p for p in d.panels if not hero and panels.shows(p, seen, stage)), None)
    lines = [] if hero or telling or (made and not top) else evidence.quotes_of(seen)
    lines = [evidence.with_frame(quote, d.timeline) for quote in lines]
    if not (hero or telling or lines) and made:
        hero = made[0]
    return Drawn(
        hero=hero,
        quotes=tuple(lines),
        panel=panels.view(telling) if telling else None,
        plots=tuple(p for p in made if p is not hero),
        panels=tuple(panels.view(p) for p in d.panels if p is not telling),
    )


def _telling(d: Diagnosis, top: RankedCause | None) -> list[Finding]:
    if top is not None:
        return [finding for _, finding in evidence.supporting(d, top)]
    return [f for f in d.findings if f.symptom in d.unexplained]


def _numbers(causes: Sequence[str], d: Diagnosis) -> list[int]:
    number = evidence.numbered(d)
    return sorted(number[cause] for cause in causes if cause in number)


def _total(cause: RankedCause) -> str:
    return words.signed(words.log_odds(cause.probability) - words.log_odds(cause.prior))


def _unlikely(d: Diagnosis, cards: Sequence[RankedCause]) -> list[tuple[RankedCause, str]]:
    """Return the causes without a card, each with the strongest evidence against it."""
    shown = {c.id for c in (*cards, *evidence.shown_advice(d))}
    rest = sorted((c for c in (*d.causes, *d.advice) if c.id not in shown), key=_by_probability)
    found = []
    for cause in rest[:UNLIKELY]:
        against = [finding.text for _, finding in evidence.opposing(d, cause)]
        found.append((cause, against[0] if against else "little evidence either way"))
    return found


def _by_probability(cause: RankedCause) -> tuple[float, str]:
    return -cause.probability, cause.id


def _seen(finding: Finding) -> evidence.Row:
    sources, more = evidence.sources_of(finding.facts)
    return evidence.Row("▲", "seen", "bad", evidence.told(finding), "", sources, more)


def _time_lost(d: Diagnosis, top: RankedCause | None) -> str:
    """Return the time spent after the onset, if both times are known."""
    onset = top.span.time if top and top.span else None
    if onset is None or d.run.ended is None or not d.run.ended > onset:
        return ""
    return words.duration(d.run.ended - onset)


def _file_counts(d: Diagnosis) -> str:
    """Return `14 files, 212 MB; 1 damaged, 2 not recognised`."""
    states = [a.state for a in d.artifacts]
    named = {
        ArtifactState.DAMAGED: "damaged",
        ArtifactState.UNKNOWN: "not recognised",
        ArtifactState.SKIPPED: "passed over",
        ArtifactState.PARTIAL: "read in part",
    }
    odd = [f"{states.count(s)} {word}" for s, word in named.items() if s in states]
    told = f"{words.plural(len(states), 'file')}, {words.size(sum(a.size for a in d.artifacts))}"
    return f"{told}; {', '.join(odd)}" if odd else told


# --- the embedded data --------------------------------------------------------------------------


def embedded(d: Diagnosis, cut: tuple[int, int] = WHOLE) -> Markup:
    """Return the diagnosis as JSON that can stand in a script element; the codec decodes it.

    It is abridged, or it would be a third of the page: causes without a card, curves, files that
    were read, and what was not found are not in it, but `--format json` writes them; `abridged`
    counts them. Findings have SOURCES places; mechanism and fix stand in the page and in the
    signatures. Texts and lists have the lengths of `cut`.
    """
    causes, advice = evidence.shown(d), evidence.shown_advice(d)
    told = [f for f in d.findings if f.state is State.PRESENT]
    odd = tuple(a for a in d.artifacts if a.state is not ArtifactState.READ)
    kept = replace(
        d,
        causes=tuple(map(_abridged, causes)),
        advice=tuple(map(_abridged, advice)),
        findings=tuple(_placed(f) for f in told),
        unchecked=(),
        curves=(),
        panels=tuple(p for p in d.panels if p.kind != "tokens"),
        artifacts=tuple(replace(a, digest="", modified=None, taken="") for a in odd),
    )
    plain = encode(kept, sparse=True)
    plain["abridged"] = {
        "absent": sum(f.state is State.ABSENT for f in d.findings),
        "artifacts": len(d.artifacts) - len(odd),
        "causes": len(d.causes) + len(d.advice) - len(causes) - len(advice),
        "curves": len(d.curves),
        "unchecked": len(d.unchecked),
    }
    data = json.dumps(
        _cut(plain, *cut),
        ensure_ascii=False,
        allow_nan=False,
        sort_keys=True,
        separators=(",", ":"),
    )
    # `<` could end the script element, and half a surrogate pair (from a file name that is no
    # UTF-8) cannot be written at all; JSON has an escape for every character.
    return Markup(words.UNSAFE.sub(_json_escape, data.replace("<", "\\u003c")))


def _abridged(cause: RankedCause) -> RankedCause:
    telling = sorted(cause.unseen, key=lambda u: -abs(u.if_present))[: evidence.UNSEEN_ROWS]
    less = replace(cause, mechanism="", fix="", next_check="", references=())
    return replace(less, unseen=tuple(telling))


def _placed(finding: Finding) -> Finding:
    """Return a finding with its first places, without values that are long or nested."""
    facts = tuple(
        fact if len(str(fact.value)) <= evidence.INLINE else replace(fact, value=None)
        for fact in finding.facts[: evidence.SOURCES]
    )
    return replace(finding, title="", facts=facts)


def _json_escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


def _cut(value: Any, length: int, items: int) -> Any:
    if isinstance(value, str):
        return words.clip(value, length)
    if isinstance(value, float):
        return round(value, 4) if abs(value) >= 1 else float(f"{value:.6g}")
    if isinstance(value, dict):
        kept = list(value.items())[: max(items, 24)]  # no dataclass has more fields than that
        return {words.clip(k, length): _cut(v, length, items) for k, v in kept}
    if isinstance(value, list):
        return [_cut(item, length, items) for item in value[:items]]
    return value
