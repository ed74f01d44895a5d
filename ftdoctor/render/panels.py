"""Check and shape the panels of a diagnosis: a closed set of kinds; the rest is a plain table.

Kinds and their data:

- `tokens`: `tokens` (list of {text, label, special, eos, turn, cut}), `source`, `row`, and
  perhaps `why`, `eos`, `cut`, `total` (see `read/example.py`)
- `lengths`: `edges` (n + 1 numbers, the upper one excluded), `counts` (n numbers), `limit` (number
  or null)
- `labels`: `counts` (mapping from label to count)
- `cost`: mapping from figure to value

Any panel may carry `proves`, a list of symptom ids: it is then the figure of a cause that rests
on one of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftdoctor.model import Finding, Panel
from ftdoctor.render import text as words

TOKENS = 220
BARS = 16
LABELS = 14
TABLE = 30
PRICE = "--price-per-device-hour"
# What a finding rests on if a panel shows it: names of its facts, the stages of the cause.
_FACTS = {
    "lengths": frozenset({"data.n_tokens", "data.truncated", "max_length"}),
    "labels": frozenset({"data.labels", "data.label_counts", "data.label"}),
}
_STAGES = {"tokens": ("tokenizer", "template"), "lengths": (), "labels": (), "cost": ()}


@dataclass(frozen=True, slots=True)
class Token:
    """One token: its text with line ends made visible, and the classes that mark it."""

    text: str
    tone: str


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its name, count in words, share of the longest in percent, and whether it is red."""

    name: str
    count: str
    share: float
    bad: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """A panel ready for the page; `kind` chooses the template's block.

    `key` explains the marks of tokens: what each means, in that mark.
    """

    kind: str
    title: str
    tokens: tuple[Token, ...] = ()
    bars: tuple[Bar, ...] = ()
    table: tuple[tuple[str, str], ...] = ()
    note: str = ""
    key: tuple[Token, ...] = ()


def view(panel: Panel) -> View:
    """Return a panel's view; data that do not fit their kind become a plain table."""
    shape = {"tokens": _tokens, "lengths": _lengths, "labels": _labels, "cost": _cost}.get(
        panel.kind
    )
    try:
        found = shape(panel) if shape else None
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
        found = None
    return found or _plain(panel)


def shows(panel: Panel, findings: Sequence[Finding], stage: str = "") -> bool:
    """Say whether a panel shows what findings rest on, strongest first, or fits a cause's stage."""
    told = panel.data.get("proves")
    if isinstance(told, list | tuple):
        return any(finding.symptom in told for finding in findings)
    named = {fact.name for finding in findings[:1] for fact in finding.facts}
    return bool(named & _FACTS.get(panel.kind, frozenset())) or stage in _STAGES.get(panel.kind, ())


def _tokens(panel: Panel) -> View:
    given = list(panel.data["tokens"])
    told = [_token_source(panel)]
    if len(given) > TOKENS:
        told.append(f"the first {TOKENS // 2} and last {TOKENS // 2} of {len(given):,} tokens")
        given = [*given[: TOKENS // 2], {"text": " … "}, *given[-TOKENS // 2 :]]
    tokens = tuple(_token(t) for t in given)
    used = {word for token in tokens for word in token.tone.split()}
    key = tuple(Token(mark, word) for word, mark in _MARKS.items() if word in used)
    notes = [f"{'; '.join(filter(None, told))}."]
    why = words.one_line(str(panel.data.get("why") or ""), 300)
    if why:
        notes.append(f"Labels known by: {why}.")
    elif not {"trained", "masked"} & used:
        notes.append(_NO_LABELS)
    eos = words.one_line(str(panel.data.get("eos") or ""), 40)
    if eos and "eos" not in used:
        notes.append(f"The end-of-text token `{eos}` is not in it.")
    elif eos and any(t.get("eos") and t.get("label") is False for t in given):
        notes.append(f"The end-of-text token `{eos}` is masked: nothing teaches the model to stop.")
    cut = panel.data.get("cut")
    if cut is not None:
        notes.append(f"The maximum length keeps {int(cut):,} tokens of it.")
    return View("tokens", panel.title, tokens, note=" ".join(filter(None, notes)), key=key)


_NO_LABELS = (
    "Nothing that was read says which tokens are trained on: the training script, its settings or "
    "the prepared rows would."
)
_MARKS = {
    "trained": "solid line: trained on",
    "masked": "dotted line: masked (label -100)",
    "unknown": "no line: not known",
    "cut": "struck out: cut off",
    "special": "grey box: special token or turn marker",
    "eos": "green box: end of text",
}


def _token_source(panel: Panel) -> str:
    source = words.one_line(str(panel.data.get("source", "")), 120)
    row, total = panel.data.get("row"), panel.data.get("total")
    told = f"From `{source}`" if source else ""
    if source and row is not None and not source.endswith(f":{row}"):
        told += f", row {row}"
    return f"{told}, both ends of {int(total):,} tokens" if told and total is not None else told


def _token(token: Mapping[str, Any]) -> Token:
    text = words.clip(words.clean(str(token["text"])), 40)
    text = text.replace("\n", "↵").replace("\t", "⇥")
    label = token.get("label")
    state = (
        "cut" if token.get("cut") else "trained" if label else "masked" if label is False else ""
    )
    if not state and str(token["text"]).strip() != "…":
        state = "unknown"
    marked = token.get("special") or token.get("turn")
    return Token(
        text, f"{'eos' if token.get('eos') else 'special' if marked else ''} {state}".strip()
    )


def _lengths(panel: Panel) -> View:
    edges = [float(e) for e in panel.data["edges"]]
    counts = [int(c) for c in panel.data["counts"]]
    given = panel.data.get("limit")
    limit = float(given) if given is not None else math.inf
    if len(edges) != len(counts) + 1 or not counts or not all(map(math.isfinite, edges)):
        raise ValueError("edges and counts do not fit")
    merge = -(-len(counts) // BARS)
    starts = range(0, len(counts), merge)
    sums = [sum(counts[i : i + merge]) for i in starts]
    most = max(*sums, 1)
    # The longest that a bar holds, lengths being whole numbers.
    ends = [math.ceil(edges[min(i + merge, len(counts))]) - 1 for i in starts]
    bars = tuple(
        Bar(_span(edges[i], end), f"{total:,}", round(100 * total / most, 1),
            bad=end > limit and total > 0)
        for i, end, total in zip(starts, ends, sums, strict=True)
    )  # fmt: skip
    note = "Tokens per example."
    if limit < math.inf:
        beyond = any(bar.bad for bar in bars)
        told = "Red: with examples beyond" if beyond else "None is beyond"
        note += f" {told} the limit of {limit:,.0f} tokens."
    return View("bars", panel.title, bars=bars, note=note)


def _span(first: float, last: float) -> str:
    return f"{first:,.0f}" if last <= first else f"{first:,.0f}–{last:,.0f}"


def _labels(panel: Panel) -> View:
    counts = {str(k): int(v) for k, v in panel.data["counts"].items()}
    if not counts:
        raise ValueError("no labels")
    total = max(sum(counts.values()), 1)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    most = max(ordered[0][1], 1)
    bars = tuple(
        Bar(words.one_line(name, 40), f"{n:,} ({n / total:.0%})", round(100 * n / most, 1))
        for name, n in ordered[:LABELS]
    )
    rest = len(ordered) - LABELS
    note = f"{words.plural(rest, 'rarer label')} not shown." if rest > 0 else ""
    return View("bars", panel.title, bars=bars, note=note)


def cost_sentence(data: Mapping[str, Any]) -> str:
    """Return what the run used, and what of it came after the onset; "" without device hours."""
    if "device_hours" not in data:
        return ""
    hours = float(data["device_hours"])
    used = f"{words.number(hours)} device hours"
    if hours < 0.5:
        used = f"{words.duration(hours * 3600)} of a device"
    tokens, estimate = data.get("tokens"), data.get("tokens_estimated")
    if tokens or estimate:
        used += f" and {'' if tokens else 'about '}{int(tokens or estimate or 0):,} tokens"
    told = f"The run used {used}"
    told += f", at your price {data['cost']:,.2f}" if "cost" in data else ""
    if data.get("share_after_onset"):
        late = f"{data['share_after_onset']:.0%} of it came after the fault began"
        late += f" ({data['cost_after_onset']:,.2f})" if "cost_after_onset" in data else ""
        told += f"; {late}"
    return told + ("." if "cost" in data else f". {PRICE} puts a price on it.")


def _cost(panel: Panel) -> View:
    """Tell the figures in the units that a person would use."""
    data = panel.data
    rows = [("Time", words.duration(float(data["hours"]) * 3600))]
    count = int(data.get("devices") or 1)
    if count > 1:
        rows += [("Devices", f"{count:,}")]
        rows += [("Device time", words.duration(float(data["device_hours"]) * 3600))]
    rows += [(name, f"{about}{int(data[key]):,}") for name, key, about in _COUNTS if data.get(key)]
    if "cost" in data:
        rows.append(("At your price", f"{float(data['cost']):,.2f}"))
    if data.get("share_after_onset"):
        late = f"{float(data['share_after_onset']):.0%}"
        late += f", {float(data['cost_after_onset']):,.2f}" if "cost_after_onset" in data else ""
        rows.append(("Of it after the fault began", late))
    note = "" if "cost" in data else f"`{PRICE}` puts a price on it."
    return View("table", panel.title, table=tuple(rows), note=note)


_COUNTS = (("Tokens", "tokens", ""), ("Tokens", "tokens_estimated", "about "))


def _plain(panel: Panel) -> View:
    rows = [
        (words.one_line(str(key).replace("_", " "), 60), words.one_line(words.number(value), 300))
        for key, value in list(panel.data.items())[:TABLE]
        if key != "proves"
    ]
    return View("table", panel.title, table=tuple(rows))
