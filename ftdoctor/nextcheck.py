"""What to check next: of all that could not be observed, what tells most for the least effort."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ftdoctor.model import Finding, Library, NextCheck, Run, Severity, State
from ftdoctor.rank import Ranking, SplitBy, entropy

MOST = 5
USEFUL_BITS = 0.01  # a check that settles less than this is not worth anybody's time
LIKELY = 0.10  # checks bear on causes above this, as long as there is one
# What belongs to every run: way to evidence, and the kinds of files that it comes as.
FIRST = {
    "training log": ("console",),
    "trainer state": ("trainer-state",),
    "training data": ("data-json", "data-csv", "data-parquet", "data-text", "data-arrow"),
    "script": ("script", "notebook"),
    "tokenizer": ("tokenizer", "tokenizer-config"),
}


@dataclass(frozen=True, slots=True)
class Source:
    """One way to more evidence: what it is called, how to get it, what that costs.

    `key` makes different names of one thing one check; `effort` 1 is a file that lies about
    (judgement).
    """

    key: str
    pattern: re.Pattern[str]
    effort: float
    how: str


def _source(key: str, pattern: str, effort: float, how: str) -> Source:
    return Source(key, re.compile(pattern), effort, how)


ADD = "Add {need} to the run's folder and diagnose again"
SOURCES = (
    _source(
        "own test", r"--observed (\S+?)\)", 2.0,
        "Try it on a few prompts and tell what you saw: `ftdoctor diagnose RUN --observed {0}`, or "
        "`--observed not:{0}`",
    ),
    _source(
        "good run", r"--good\b", 2.0, "Name a run that worked: `ftdoctor diagnose RUN --good GOOD`"
    ),
    _source(
        "baseline", r"--baseline\b", 4.0,
        "Score the base model on the same rows: `ftdoctor diagnose RUN --baseline EVAL.json`",
    ),
    _source(
        "production sample", r"--production-sample\b", 3.0,
        "Take a hundred real requests: `ftdoctor diagnose RUN --production-sample FILE`",
    ),
    _source(
        "benchmark", r"--benchmark\b", 3.0,
        "Name the benchmark's items: `ftdoctor diagnose RUN --benchmark FILE`",
    ),
    _source(
        "ground truth", r"--ground-truth\b", 5.0,
        "Label fifty rows by hand: `ftdoctor diagnose RUN --ground-truth FILE`",
    ),
    _source("rerun", r"smaller (?:logging|eval)_steps", 8.0, "Run again, for {need}"),
    _source(
        "sampled outputs", r"^sampled outputs", 3.0,
        "Generate answers to a few evaluation prompts and put them beside the run as "
        "`generations.jsonl`",
    ),
    _source(
        "weights", r"weight|safetensors|GGUF|merged model|checkpoints?\b", 2.0, ADD
    ),
    _source("training log", r"^(?:the )?(?:stdout log|training log)", 1.0, ADD),
    _source("trainer state", r"^trainer_state\.json", 1.0, ADD),
    _source("training data", r"^training (?:data|text|rows)", 1.0, ADD),
    _source("tokenizer", r"^(?:tokenizer|chat_template)", 1.0, ADD),
    _source("script", r"script", 1.0, ADD),
)  # fmt: skip


def source_of(need: str) -> tuple[Source, str]:
    """Return the way to what a finding says is missing, and the sentence how."""
    for source in SOURCES:
        found = source.pattern.search(need)
        if found:
            return source, source.how.format(*found.groups(), need=need)
    return Source(need, re.compile(""), 1.0, ADD), ADD.format(need=need)


def next_checks(
    ranking: Ranking, library: Library, findings: Sequence[Finding], run: Run
) -> tuple[NextCheck, ...]:
    """Return the checks that settle most for their effort, one for each way to evidence.

    A file may show several symptoms; `bits` is what the most telling one of them settles, which is
    the least that the file does. Where no cause is likely, files that belong to every run are
    proposed if they are missing, by what they would settle on average over all causes.
    """
    graver = [r for r in ranking.ranked if _grave(r.cause.id, library)]
    likely = {r.cause.id for r in graver if r.probability >= LIKELY}
    if not likely:
        lacking = {key for key, kinds in FIRST.items() if not run.has(*kinds)}
        return _first_files(findings, library, lacking)
    best: dict[str, tuple[float, NextCheck]] = {}
    for split in ranking.splits:
        if split.bits < USEFUL_BITS or not split.missing or not likely & set(split.causes):
            continue
        source, how = source_of(split.missing[0])
        value = split.bits / source.effort
        if source.key not in best or value > best[source.key][0]:
            best[source.key] = value, _check(split, how, library)
    order = sorted(best.values(), key=lambda item: (-item[0], item[1].need))
    return tuple(check for _, check in order[:MOST])


def _first_files(
    findings: Sequence[Finding], library: Library, lacking: set[str]
) -> tuple[NextCheck, ...]:
    """Return which of the files that a run lacks would settle most before anything is known."""
    gains: dict[str, dict[str, float]] = {}
    needs: dict[str, Counter[str]] = {}
    for finding in findings:
        source = source_of(finding.missing[0])[0] if finding.missing else None
        if finding.state is not State.UNOBSERVABLE or source is None or source.key not in lacking:
            continue
        needs.setdefault(source.key, Counter())[finding.missing[0]] += 1
        gain = gains.setdefault(source.key, {})
        for cause in library.causes.values():
            if finding.symptom in cause.shows and cause.severity is not Severity.LOW:
                leak = library.symptoms[finding.symptom].leak
                bits = expected_bits(cause.prior, cause.shows[finding.symptom], leak)
                gain[cause.id] = max(gain.get(cause.id, 0.0), bits)
    found = []
    for key, gain in gains.items():
        need = needs[key].most_common(1)[0][0]
        text = f"{source_of(need)[1]}: it bears on {len(gain)} known causes."
        causes = sorted(gain, key=lambda name: (-gain[name], name))[:MOST]
        found.append(NextCheck(need, text, round(sum(gain.values()), 3), tuple(causes)))
    return tuple(sorted(found, key=lambda c: (-c.bits, c.need))[:MOST])


def expected_bits(prior: float, sensitivity: float, leak: float) -> float:
    """Return the mutual information of one cause and one symptom that nobody has looked at."""
    both = 1 - (1 - leak) * (1 - sensitivity)
    seen = prior * both + (1 - prior) * leak
    return entropy(seen) - prior * entropy(both) - (1 - prior) * entropy(leak)


def _grave(name: str, library: Library) -> bool:
    return library.causes[name].severity is not Severity.LOW


def _check(split: SplitBy, how: str, library: Library) -> NextCheck:
    title = library.symptoms[split.symptom].title
    text = f"{how}: it would show whether “{title[:1].lower()}{title[1:]}”."
    return NextCheck(split.missing[0], text, round(split.bits, 3), split.causes)
