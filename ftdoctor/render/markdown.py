"""The ticket: Markdown to paste into GitHub, GitLab or Jira, below the smallest limit of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ftdoctor.model import Diagnosis, Edit, RankedCause
from ftdoctor.render import evidence
from ftdoctor.render import text as words
from ftdoctor.render.panels import cost_sentence
from ftdoctor.render.plots import curves_of

LIMIT = 30_000  # characters: Jira refuses a comment over 32,767
CAUSES = 5
ROWS = 8
FURTHER_ROWS = 4
MOMENTS = 10
GAPS = 8
CONFLICTS = 10
FILES = 12
UNBREAKING = "\u200b"  # a zero-width space behind @ and # keeps trackers from linking them


def render_ticket(d: Diagnosis) -> str:
    """Return the diagnosis as Markdown of less than LIMIT characters; parts too long are left out.

    Text of the run is escaped outside fences, and fenced beyond its own backticks within them;
    `@` and `#` are defused in both, so that nobody is called and no ticket is linked.
    """
    parts = [
        _verdict(d),
        md(words.of_several(d.run), 600),
        _action(d),
        _table(d),
        _loss(d),
        _cost(d),
    ]
    folded = [_quotes(d), _causes(d), _conflicts(d), _timeline(d), _gaps(d), _files(d)]
    footer = _footer(d)
    kept = [part for part in parts if part]
    used = len(footer) + sum(len(part) + 2 for part in kept) + 200
    details = []
    for part in folded:
        if part and used + len(part) + 2 < LIMIT:
            details.append(part)
            used += len(part) + 2
    if details:
        body = "\n\n".join(details)
        kept.append(
            f"<details><summary>Evidence, timeline, files</summary>\n\n{body}\n\n</details>"
        )
    return "\n\n".join([*kept, footer]) + "\n"


# --- escaping -----------------------------------------------------------------------------------


def md(text: str, limit: int = 300) -> str:
    """Return text that Markdown shows as it is: one line, nothing linked, no HTML, no images.

    What stands in backticks becomes code.
    """
    line = words.one_line(text, limit)
    paired = line.count("`") % 2 == 0 and "``" not in line
    parts = re.split(r"`([^`]+)`", line) if paired else [line]
    return "".join(code(part) if i % 2 else _escaped(part) for i, part in enumerate(parts))


def _escaped(text: str) -> str:
    plain = re.sub(r"([\\`*_\[\]|!~$])", r"\\\1", text.replace("&", "&amp;"))
    return _defused(plain.replace("<", "&lt;").replace(">", "&gt;"))


def _defused(text: str) -> str:
    return re.sub(r"([@#])(?=\w)", rf"\1{UNBREAKING}", text)


def code(text: str, limit: int = 200) -> str:
    """Return a code span that holds any text, also in a table."""
    shown = words.one_line(text, limit)
    if not shown:
        return ""
    ticks = "`" * (_longest_run(shown) + 1)
    room = " " if shown[0] == "`" or shown[-1] == "`" else ""
    return f"{ticks}{room}{_defused(shown).replace('|', chr(92) + '|')}{room}{ticks}"


def fence(text: str, language: str = "") -> str:
    """Return a fenced block whose fence is longer than any run of backticks in the text."""
    ticks = "`" * max(_longest_run(text) + 1, 3)
    return f"{ticks}{language}\n{_defused(words.clean(text))}\n{ticks}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


# --- parts --------------------------------------------------------------------------------------


def _verdict(d: Diagnosis) -> str:
    lines = [f"**{md(d.verdict.text)}**", ""]
    top = d.causes[0] if d.verdict.kind == "cause" and d.causes else None
    if top is None:
        return "\n".join([*lines, md(d.verdict.lead)]).rstrip()
    told = f"Root cause: {md(top.title, 120)} ({words.percent(top.probability)})."
    second = evidence.second_cause(d)
    if second:
        told += (
            f" Second, independent: {md(second.title, 120)} ({words.percent(second.probability)})."
        )
    return "\n".join([*lines, told])


def _action(d: Diagnosis) -> str:
    if not d.verdict.action:
        return ""
    edit = d.causes[0].edit if d.verdict.kind == "cause" and d.causes else None
    told = f"**Do this first:** {md(d.verdict.action, 400)}"
    return f"{told}\n\n{_diff(edit)}" if edit else told


def _diff(edit: Edit) -> str:
    """Return a unified diff without context, which `git apply --unidiff-zero` takes."""
    path = words.one_line(edit.path, 200)
    before = words.code_lines(edit.before)
    after = words.code_lines(edit.after) if edit.after else []
    lines = [
        f"--- a/{path}",
        f"+++ b/{path}",
        f"@@ -{edit.line},{len(before)} +{edit.line},{len(after)} @@",
    ]
    lines += [f"-{row}" for row in before] + [f"+{row}" for row in after]
    return fence("\n".join(lines), "diff")


def _table(d: Diagnosis) -> str:
    if d.verdict.kind == "cause" and d.causes:
        return _evidence(evidence.rows(d, d.causes[0])[:ROWS])
    seen = [f for f in d.findings if f.symptom in d.unexplained]
    rows = [
        evidence.Row("▲", "seen", "", evidence.told(f), "", evidence.sources_of(f.facts)[0])
        for f in seen[:ROWS]
    ]
    return _evidence(rows) if rows else ""


def _evidence(rows: Sequence[evidence.Row]) -> str:
    lines = ["| | evidence | weight | source |", "|---|---|---|---|"]
    for row in rows:
        source = ", ".join(code(s.place, 120) for s in row.sources[:2])
        if row.need:
            source = f"add {md(row.need, 120)}"
        lines.append(f"| {row.sign} {row.word} | {md(row.text, 220)} | {row.weight} | {source} |")
    return "\n".join(lines)


def _loss(d: Diagnosis) -> str:
    """Return the loss, or the reward, in 24 characters with its range in words."""
    curves = curves_of(d)
    name = next((n for n in ("loss", "reward", "eval/loss") if n in curves), "")
    if not name:
        return ""
    curve = curves[name]
    first, last = words.number(curve.values[0]), words.number(curve.values[-1])
    told = f"{name} from {first} at step {curve.steps[0]:,} to {last} at step {curve.steps[-1]:,}"
    return f"`{words.sparkline(curve.values)}` {told}"


def _cost(d: Diagnosis) -> str:
    figures = next((p.data for p in d.panels if p.kind == "cost"), None)
    return md(cost_sentence(figures), 400) if figures else ""


def _quotes(d: Diagnosis) -> str:
    likely = [c for c in d.causes[:2] if c.probability >= words.POSSIBLE]
    findings = [f for c in likely for _, f in evidence.supporting(d, c)]
    blocks = [
        (f"From {code(quote.place)}:\n\n" if quote.place else "") + fence(quote.text)
        for quote in evidence.quotes_of(findings)
    ]
    return "\n\n".join(["**What the files say**", *blocks]) if blocks else ""


def _causes(d: Diagnosis) -> str:
    shown = evidence.shown(d)[:CAUSES]
    return "\n\n".join(_cause(d, number, cause) for number, cause in enumerate(shown, 1))


def _cause(d: Diagnosis, number: int, cause: RankedCause) -> str:
    head = f"**{number}. {md(cause.title, 120)}, {words.percent(cause.probability)}**"
    head += f" ({code(cause.id)}, {md(cause.stage)}, {cause.severity.value})"
    rows = evidence.rows(d, cause)[:FURTHER_ROWS] if number > 1 else []
    parts = [head, _evidence(rows) if rows else "", f"Why: {md(cause.mechanism, 600)}"]
    parts.append(f"Fix: {md(cause.setting_fix or cause.fix, 600)}")
    if number > 1 and cause.edit:
        parts.append(_diff(cause.edit))
    return "\n\n".join(part for part in parts if part)


def _conflicts(d: Diagnosis) -> str:
    rows = [
        f"| {code(c.setting)} | {code(words.number(f.value), 80)} | {code(str(f.where), 120)} |"
        for c in d.conflicts[:CONFLICTS]
        for f in c.facts
    ]
    head = "| setting (first what counts) | value | source |"
    return _titled("Settings on which the files disagree", head, rows)


def _timeline(d: Diagnosis) -> str:
    rows = [
        f"| {m.step if m.step is not None else ''} | {words.moment(m.time)} | {md(m.text, 160)} |"
        for m in d.timeline[:MOMENTS]
    ]
    return _titled("Timeline", "| step | time | event |", rows)


def _gaps(d: Diagnosis) -> str:
    rows = [
        f"| {md(gap.files or 'none known', 160)} | {len(gap.checks)} | {gap.causes} |"
        for gap in evidence.gaps(d.unchecked)[:GAPS]
    ]
    return _titled(
        "What could not be checked", "| file that would allow it | checks | causes |", rows
    )


def _files(d: Diagnosis) -> str:
    rows = [
        f"| {code(a.path, 120)} | {md(a.kind or 'not recognised', 60)} | {a.state.value} |"
        f" {md('; '.join(p for p in (a.taken, a.reason) if p), 120)} |"
        for a in evidence.files(d.artifacts)[:FILES]
    ]
    rest = len(d.artifacts) - FILES
    told = _titled("Files read", "| file | read as | state | |", rows)
    return f"{told}\n\nand {words.plural(rest, 'further file')}" if rest > 0 and told else told


def _titled(title: str, header: str, rows: Sequence[str]) -> str:
    if not rows:
        return ""
    line = "|---" * (header.count("|") - 1) + "|"
    return "\n".join([f"**{title}**", "", header, line, *rows])


def _footer(d: Diagnosis) -> str:
    told = [f"ftdoctor {md(d.versions.get('ftdoctor', ''), 40)}".strip()]
    told += [f"signatures {code(d.signature_digest[:12])}"] if d.signature_digest else []
    told += [f"input {code(d.input_digest[:12])}"] if d.input_digest else []
    removed = sum(d.redactions.values())
    told += [f"{words.plural(removed, 'secret')} removed"] if removed else []
    return ", ".join(told) + ". The full report is the HTML file."
