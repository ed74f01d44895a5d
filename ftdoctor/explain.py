"""Print a signature as prose: one source for the terminal, the catalogue and the reports."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

from ftdoctor.errors import FtdoctorError
from ftdoctor.families import Pair, families, family, find_family
from ftdoctor.model import Call, Cause, Library, Symptom


def explain(library: Library, name: str) -> str:
    """Return the entry of a cause or symptom in Markdown; FtdoctorError names the nearest id."""
    cause = library.cause_called(name)
    if cause is not None:
        return explain_cause(library, cause)
    if name in library.symptoms:
        return explain_symptom(library, library.symptoms[name])
    near = difflib.get_close_matches(name, [*library.causes, *library.symptoms], 3, 0.4)
    hint = f"; near: {', '.join(near)}" if near else ""
    raise FtdoctorError(
        f"no cause or symptom is called `{name}`{hint}. "
        "`ftdoctor signatures list` shows all of them."
    )


def explain_cause(library: Library, cause: Cause) -> str:
    """Return what it is, how it shows, why, and what to do."""
    lines = [
        f"# {cause.title}",
        "",
        f"`{cause.id}` · root cause · stage {cause.stage} · severity {cause.severity.value} · "
        f"{cause.status.value} · before any evidence {cause.prior:.1%}",
        "",
        "## What happens",
        "",
        cause.mechanism,
        "",
        "## How it shows",
        "",
    ]
    for symptom, sensitivity in sorted(cause.shows.items(), key=lambda item: -item[1]):
        title = library.symptoms[symptom].title
        lines.append(f"- {title} (`{symptom}`): in {sensitivity:.0%} of such runs")
    if cause.risk:
        lines += ["", "Likelier where this is seen:", ""]
        lines += [
            f"- {library.symptoms[s].title} (`{s}`): odds times {ratio:g}"
            for s, ratio in cause.risk.items()
        ]
    lines += ["", "## Fix", "", cause.fix]
    for trainer, text in cause.fix_for.items():
        lines += ["", f"- {trainer}: {text}"]
    if cause.next_check:
        lines += ["", "## To confirm", "", cause.next_check]
    if cause.leads_to:
        lines += ["", "## Leads to", ""]
        lines += [f"- {library.causes[c].title} (`{c}`)" for c in cause.leads_to]
    if cause.affects:
        lines += ["", f"Versions affected: {', '.join(cause.affects)}"]
    if cause.aliases:
        lines += ["", f"Also known as {', '.join(cause.aliases)}"]
    if cause.references:
        lines += ["", "## References", "", *(f"- {r}" for r in cause.references)]
    lines += _examples(cause.examples)
    return "\n".join([*lines, "", f"Defined in {cause.file}:{cause.line}", ""])


def explain_symptom(library: Library, symptom: Symptom) -> str:
    """Return what is looked for, how rare it is, and which causes show it."""
    lines = [
        f"# {symptom.title}",
        "",
        f"`{symptom.id}` · symptom · {symptom.status.value} · seen in {symptom.leak:.2%} of runs "
        "without a known cause",
        "",
        "## What is looked for",
        "",
        *_call_lines(symptom.call, 0),
    ]
    if symptom.source:
        lines += ["", f"Where the numbers come from: {symptom.source}"]
    if symptom.false_positives:
        lines += ["", f"Known false positives: {symptom.false_positives}"]
    causes = [c for c in library.causes.values() if symptom.id in c.shows]
    lines += ["", "## Causes that show it", ""]
    for cause in sorted(causes, key=lambda c: -c.shows[symptom.id] * c.prior):
        lines.append(f"- {cause.title} (`{cause.id}`): in {cause.shows[symptom.id]:.0%} of runs")
    raised = [c for c in library.causes.values() if symptom.id in c.risk]
    lines += [f"- makes likelier: {c.title} (`{c.id}`)" for c in raised]
    lines += _examples(symptom.examples)
    return "\n".join([*lines, "", f"Defined in {symptom.file}:{symptom.line}", ""])


def _call_lines(call: Call, depth: int) -> list[str]:
    indent = "  " * depth
    if call.op == "detect":
        given = ", ".join(f"{k} = {v}" for k, v in call.parameters.items())
        return [f"{indent}- `{call.detector}`" + (f": {given}" if given else "")]
    if call.op == "symptom":
        return [f"{indent}- the symptom `{call.detector}`"]
    words = {"all": "all of", "any": "any of", "not": "not"}[call.op]
    return [f"{indent}- {words}"] + [x for p in call.parts for x in _call_lines(p, depth + 1)]


def _examples(examples: tuple[Mapping[str, Any], ...]) -> list[str]:
    if not examples:
        return []
    shown = [
        f"- {json.dumps({k: v for k, v in e.items() if k != 'expect'}, default=str)[:300]} "
        f"→ {e.get('expect')}"
        for e in examples
    ]
    return ["", "## Examples", "", *shown]


# --- families of models -----------------------------------------------------------------------


def explain_family(name: str) -> str:
    """Return what is known of a family of models, each line with its source.

    `name` is an id (`qwen-2.5`) or any name of a model; FtdoctorError names the nearest ids.
    """
    found = family(name.lower()) or find_family(name)
    if found is None:
        ids = [f.id for f in families()]
        near = difflib.get_close_matches(name.lower(), ids, 3, 0.4)
        hint = f"near: {', '.join(near)}" if near else f"known: {', '.join(ids)}"
        raise FtdoctorError(f"no family of models is called `{name}`; {hint}")
    sources = dict(found.sources)
    rows: list[tuple[str, str, str]] = [
        ("model_type in config.json", ", ".join(found.model_types), "model_types"),
        ("vocabulary size", ", ".join(map(str, found.vocab_sizes)), "vocab_sizes"),
        ("embedding rows", ", ".join(map(str, found.embedding_rows)), "embedding_rows"),
        ("begin of sequence", _token(found.bos), "bos"),
        ("end of sequence", _token(found.eos), "eos"),
        ("padding", _token(found.pad), "pad"),
        ("a turn ends with", ", ".join(map(_token, found.turn_ends)), "turn_ends"),
        ("generation stops at", ", ".join(map(str, found.stop_ids)), "stop_ids"),
        ("BOS added by the tokenizer", _yes_no(found.adds_bos), "adds_bos"),
        ("prompt format", ", ".join(found.formats), "formats"),
        ("template in LLaMA-Factory, axolotl", ", ".join(found.templates), "templates"),
        ("renderer in Tinker", ", ".join(found.renderers), "renderers"),
        ("linear layers for LoRA", ", ".join(found.linear), "linear"),
        ("image tokens", ", ".join(found.vision_tokens), "vision_tokens"),
        ("longest context", f"{found.context:,}" if found.context else "", "context"),
        ("number type", found.dtype, "dtype"),
    ]
    lines = [f"# {found.id}", ""]
    for label, value, key in rows:
        if value:
            lines.append(f"- {label}: {value}")
            if key in sources:
                lines.append(f"  (source: {sources[key]})")
    return "\n".join([*lines, ""])


def _token(pair: Pair) -> str:
    text, number = pair
    shown = f"`{text}`" if text else ""
    return f"{shown} {number if number is not None else ''}".strip()


def _yes_no(value: bool | None) -> str:
    return "" if value is None else ("yes" if value else "no")
