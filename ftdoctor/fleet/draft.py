"""Draft a signature from runs that share a fault: what they have in common and the rest lacks."""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ftdoctor.errors import FtdoctorError, SignatureError, UnreadableRunError
from ftdoctor.fleet.find import find_runs
from ftdoctor.fleet.patterns import pattern_of
from ftdoctor.fleet.record import Place
from ftdoctor.lint import TITLE, lint
from ftdoctor.model import Finding, Library, Run, State
from ftdoctor.rank import NOTABLE_LEAK
from ftdoctor.render.text import plural

MOST_RUNS, MOST_REST = 50, 200  # runs read on each side
SHARED = 0.8  # share of the runs that must have what is called shared (judgement)
ELSEWHERE = 0.1  # share of the rest that may have it (judgement)
ENOUGH_REST = 10  # others that must lack a symptom common in healthy runs (judgement)
LINES, PATTERNS = 5000, 3  # log lines looked at per run, patterns drafted
EXAMPLES = 3
LONGEST = 240  # characters of a log line in a pattern or example
SENSITIVITY = (0.05, 0.95)
TELLING = re.compile(
    r"error|exception|fail|fatal|abort|invalid|cannot|could not|unable|kill|nan\b|inf\b|warn|"
    r"unexpected|missing|mismatch|denied|refused|timed? ?out|not found|no such",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Draft:
    """The text of a signature file, and one sentence on what it rests on."""

    text: str
    told: str


@dataclass(frozen=True, slots=True)
class _Seen:
    """A run: its findings by symptom, and its log lines as (pattern, text)."""

    name: str
    findings: Mapping[str, Finding]
    lines: tuple[tuple[str, str], ...]

    @property
    def patterns(self) -> frozenset[str]:
        return frozenset(pattern for pattern, _ in self.lines)


def draft(runs: Sequence[str], against: Sequence[str], name: str, library: Library) -> Draft:
    """Return a signature file that loads and whose examples hold.

    FtdoctorError if nothing is shared, or a cause of that name exists.
    """
    if name in library.causes or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise FtdoctorError(
            f"`{name}` cannot be a new cause's id: it exists or is not lower-case words joined by "
            "`-`; give another with --id"
        )
    group = _seen(islice(find_runs(runs), MOST_RUNS), library)
    if not group:
        raise UnreadableRunError(f"{', '.join(runs)}: no run could be read")
    rest = _seen(islice(find_runs(against), MOST_REST), library) if against else []
    shows = _shared_symptoms(group, rest, library)
    patterns = _shared_patterns(group, rest)
    if not shows and not patterns:
        raise FtdoctorError(
            f"these {len(group)} runs have no symptom and no log line in common that "
            f"{'the others' if rest else 'a healthy run'} would lack; draft from fewer, more alike "
            "runs, or give healthy ones with --against"
        )
    message = f"{name}-message"
    symptom = _symptom(message, patterns, group, rest) if patterns else None
    if patterns:
        shows = {message: SENSITIVITY[1], **shows}
    cause = _cause(name, shows, group, {message: patterns} if patterns else {})
    text = _holding([d for d in (symptom, cause) if d], group)
    told = (
        f"{plural(len(group), 'run')} share {plural(len(shows) - bool(patterns), 'known symptom')}"
        f"{' and a log message' if patterns else ''}"
        f"{f' that {len(rest)} others lack' if rest else ''}"
    )
    return Draft(text, told)


def _seen(places: Iterable[Place], library: Library) -> list[_Seen]:
    from ftdoctor.detect.engine import detect_all
    from ftdoctor.diagnose import Options, gather

    found = []
    for place in places:
        try:
            run = gather(place.path, Options(choose=place.choose), library)
        except UnreadableRunError:
            continue
        findings = {f.symptom: f for f in detect_all(run, library)}
        found.append(_Seen(run.name, findings, tuple(_lines(run))))
    return found


def _lines(run: Run) -> list[tuple[str, str]]:
    texts = [str(text) for text in run.lines["text"].head(LINES)]
    for event in run.events["text"].head(LINES):
        texts += str(event).splitlines()[-3:]
    kept = (" ".join(text.split())[:LONGEST] for text in texts)
    return [
        (pattern_of(text), text) for text in kept if len(re.findall(r"[A-Za-z]{3,}", text)) >= 3
    ]


# --- what they share ----------------------------------------------------------------------------


def _shared_symptoms(
    group: Sequence[_Seen], rest: Sequence[_Seen], library: Library
) -> dict[str, float]:
    """Return sensitivities of the symptoms that the runs share and the rest lacks.

    Symptoms that healthy runs often have count only if enough others were seen to lack them.
    """
    shared: dict[str, float] = {}
    for symptom in group[0].findings:
        present, looked = _counted(symptom, group)
        if not looked or present < SHARED * len(group):
            continue
        elsewhere, others = _counted(symptom, rest)
        if others and elsewhere > ELSEWHERE * others:
            continue
        if others < ENOUGH_REST and library.symptoms[symptom].leak > NOTABLE_LEAK:
            continue
        # Laplace's rule: two runs that both show it do not make it certain.
        shared[symptom] = round(min(max((present + 1) / (looked + 2), SENSITIVITY[0]), 0.95), 2)
    return shared


def _counted(symptom: str, runs: Sequence[_Seen]) -> tuple[int, int]:
    states = [run.findings[symptom].state for run in runs if symptom in run.findings]
    return states.count(State.PRESENT), len(states) - states.count(State.UNOBSERVABLE)


def _shared_patterns(group: Sequence[_Seen], rest: Sequence[_Seen]) -> list[str]:
    """Return the telling log lines that the runs share and no other has, the most telling first."""
    counts = Counter(pattern for run in group for pattern in run.patterns)
    elsewhere = Counter(pattern for run in rest for pattern in run.patterns)
    shared = [
        p for p, n in counts.items()
        if n >= SHARED * len(group) and not elsewhere[p] and TELLING.search(p)
    ]  # fmt: skip
    shared.sort(key=lambda p: (-counts[p], "rror" not in p, -len(p), p))
    return shared[:PATTERNS]


# --- the documents ------------------------------------------------------------------------------


def _symptom(
    name: str, patterns: Sequence[str], group: Sequence[_Seen], rest: Sequence[_Seen]
) -> dict[str, Any]:
    examples: list[dict[str, Any]] = [
        {"lines": _around(run, patterns), "expect": "present"} for run in group[:EXAMPLES]
    ]
    healthy = [text for run in rest[:EXAMPLES] for _, text in run.lines[:3]]
    examples.append({"lines": healthy or ["Training completed."], "expect": "absent"})
    examples.append({"settings": {"learning_rate": 0.0001}, "expect": "unobservable"})
    title = next(t for p, t in group[0].lines + group[-1].lines if p in patterns)
    return {
        "symptom": name,
        "title": _title(title),
        "detect": "log.matches",
        "with": {"patterns": list(patterns)},
        "leak": 0.001,
        "source": f"drafted from {len(group)} runs; judgement",
        "examples": [e for e in examples if e.get("lines") != []],
    }


def _title(line: str) -> str:
    title = f"The log says: {line}"
    return title.rstrip(".!? ") if len(title) <= TITLE else f"{title[: TITLE - 1].rstrip()}…"


def _around(run: _Seen, patterns: Sequence[str]) -> list[str]:
    """Return the first matching lines with the line before each."""
    kept: dict[str, None] = {}
    for index, (pattern, text) in enumerate(run.lines):
        if pattern in patterns:
            if index:
                kept[run.lines[index - 1][1]] = None
            kept[text] = None
        if len(kept) >= 2 * PATTERNS:
            break
    return list(kept)


def _cause(
    name: str,
    shows: Mapping[str, float],
    group: Sequence[_Seen],
    message: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Return the cause; its examples are what was seen of the symptoms in some of the runs."""
    examples = []
    for run in group[:EXAMPLES]:
        states = {s: run.findings[s].state.value for s in shows if s in run.findings}
        states = {s: state for s, state in states.items() if state != State.UNOBSERVABLE.value}
        for symptom, patterns in message.items():
            matched = not run.patterns.isdisjoint(patterns)
            states = {symptom: "present" if matched else "absent", **states}
        examples.append({"symptoms": states, "expect": "first"})
    return {
        "cause": name,
        "title": "TODO: name the fault, as in “this run has …”",
        "stage": "configuration",
        "severity": "medium",
        "status": "experimental",
        "prior": 0.005,
        "shows": dict(shows),
        "mechanism": f"TODO: say why these symptoms follow. Drafted from {len(group)} runs.",
        "fix": "TODO: say what to change.",
        "examples": examples,
    }


def _holding(documents: list[dict[str, Any]], group: Sequence[_Seen]) -> str:
    """Return the file's text without the examples that do not hold, checked by loading it."""
    text = _text(documents, group)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "draft.yaml"
        for _ in range(2):
            path.write_text(text, encoding="utf-8")
            wrong = _wrong_examples(path, documents)
            if not wrong:
                return text
            for document in documents:
                own = document.get("symptom") or document.get("cause")
                document["examples"] = [
                    e for i, e in enumerate(document["examples"]) if (own, i) not in wrong
                ]
            text = _text(documents, group)
    return text


def _wrong_examples(path: Path, documents: Sequence[Mapping[str, Any]]) -> set[tuple[str, int]]:
    from ftdoctor.library import load
    from ftdoctor.selftest import check_cause, check_symptom

    try:
        library = load((path,), check_calls=True)
    except SignatureError as error:
        raise FtdoctorError(f"the draft is not valid: {error}; please report this") from error
    if faults := [fault for fault in lint(library) if fault.startswith(str(path))]:
        raise FtdoctorError(f"the draft is not valid: {'; '.join(faults)}; please report this")
    wrong = set()
    for document in documents:
        if "symptom" in document:
            symptom = library.symptoms[document["symptom"]]
            problems = [check_symptom(library, symptom, e) for e in symptom.examples]
        else:
            cause = library.causes[document["cause"]]
            problems = [check_cause(library, cause, e) for e in cause.examples]
        name = str(document.get("symptom") or document.get("cause"))
        wrong |= {(name, i) for i, problem in enumerate(problems) if problem}
    return wrong


def _text(documents: Sequence[Mapping[str, Any]], group: Sequence[_Seen]) -> str:
    head = f"# Drafted from {len(group)} runs, as {', '.join(run.name for run in group[:5])}.\n"
    head += "# A person must name the fault, its mechanism and its fix, and read the examples:\n"
    head += "# they quote lines of these runs' logs.\n"
    return head + "---\n".join("".join(_yaml(document)) for document in documents)


def _yaml(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines of YAML whose values are JSON, which YAML 1.2 takes as it is."""
    for key, value in document.items():
        if key == "examples" and value:
            yield "examples:\n"
            yield from (f"  - {_json(item)}\n" for item in value)
        elif key == "shows":
            yield "shows:\n"
            yield from (f"  {name}: {share}\n" for name, share in value.items())
        elif value != []:
            yield f"{key}: {_json(value)}\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
