"""The nouns of ftdoctor, frozen and plain; this module imports no other part of the package.

::

    Artifact          one file: kind, size, digest, state, reason
    Fact ── Where     one value and the place it was read
    Run               all evidence of one run: frames, settings, facts, artifacts
    Symptom ┐
    Cause   ┘         the library: what to look for, and what it means
    Finding           a symptom's state in one run, with its evidence
    Diagnosis         ranked causes and everything a report shows; JSON in and out
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

SCHEMA_VERSION = "1.0"

Value = Any  # bool, int, float, str, None, or lists and dicts of these


# --- evidence ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Where:
    """Provenance of a value: a path relative to the run, and at most one place inside it."""

    path: str
    line: int | None = None
    row: int | None = None
    pointer: str | None = None
    offset: int | None = None
    tensor: str | None = None

    @classmethod
    def in_text(cls, path: str, text: str, offset: int) -> Where:
        """Return the line of a file's text in which a character stands, counted from 0."""
        return cls(path, line=text.count("\n", 0, offset) + 1)

    def __str__(self) -> str:
        """Return `path:line`, or the nearest equivalent that a person can follow."""
        if self.line is not None:
            return f"{self.path}:{self.line}"
        if self.row is not None:
            return f"{self.path} row {self.row}"
        if self.tensor is not None:
            return f"{self.path} {self.tensor}"
        if self.pointer is not None:
            return f"{self.path}#{self.pointer}"
        if self.offset is not None:
            return f"{self.path} @{self.offset}"
        return self.path


@dataclass(frozen=True, slots=True)
class Fact:
    """One value under its canonical name, with the place it was read."""

    name: str
    value: Value
    where: Where


class ArtifactState(StrEnum):
    """What became of a file: read, read in part, damaged, of no known kind, or passed over."""

    READ = "read"
    PARTIAL = "partial"
    DAMAGED = "damaged"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Artifact:
    """One file of the run: kind, size in bytes, state, the reason for it, and what was taken."""

    path: str
    kind: str
    size: int
    state: ArtifactState
    reason: str = ""
    taken: str = ""
    digest: str = ""
    modified: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """One metric of one split over steps; arrays of equal length, in order of occurrence.

    `steps` int64 [n]; `values` float64 [n], NaN and Inf kept; `epochs` and `times` (Unix seconds)
    float64 [n], NaN where unknown; `lines` int64 [n], 0 where unknown; `segments` int64 [n] counts
    up at each resume or restart; `path` is the file it came from.
    """

    name: str
    split: str
    steps: np.ndarray
    values: np.ndarray
    epochs: np.ndarray
    times: np.ndarray
    lines: np.ndarray
    segments: np.ndarray
    path: str

    def __len__(self) -> int:
        return len(self.values)

    def where(self, index: int) -> Where:
        """Return the place of point `index`."""
        line = int(self.lines[index])
        return Where(self.path, line=line) if line else Where(self.path)


@dataclass(frozen=True)
class Run:
    """All evidence of one run. Frames may be empty, never None; `show` prints it, detectors ask it.

    - `metrics`: name, split, step, epoch, time, value, path, line, segment (one row per value)
    - `events`: kind, step, time, text, path, line, rank
      (kinds: traceback, warning, checkpoint-saved, resumed, started, finished, killed, exit)
    - `lines`: path, line, rank, time, text, count: log text without metric rows and progress bars
    - `tensors`: file, name, dtype, shape, offset, nbytes
    - `data`: split, path, line, layout, record (JSON text), prompt, response, rendered, n_tokens,
      n_prompt_tokens, last_tokens (list of ids), ends_with_eos, ... (sampled; see `read/data.py`)
    - `settings`: what was asked for, by canonical name; several facts if several files say it
    - `facts`: what was observed, by dotted name (`tokenizer.eos_token`, `progress.global_step`)
    - `texts`: redacted text of small scripts and configurations by path, to show a fix as a diff
    """

    name: str
    root: str
    metrics: pl.DataFrame
    events: pl.DataFrame
    lines: pl.DataFrame
    tensors: pl.DataFrame
    data: pl.DataFrame
    settings: Mapping[str, tuple[Fact, ...]]
    facts: Mapping[str, tuple[Fact, ...]]
    artifacts: tuple[Artifact, ...]
    texts: Mapping[str, str] = field(default_factory=dict)
    redactions: Mapping[str, int] = field(default_factory=dict)

    def setting(self, name: str) -> Fact | None:
        """Return the setting that the run really used (sources are kept in order of authority)."""
        found = self.settings.get(name)
        return found[0] if found else None

    def fact(self, name: str) -> Fact | None:
        """Return the first fact of that name, or None."""
        found = self.facts.get(name)
        return found[0] if found else None

    def known(self, name: str) -> Fact | None:
        """Return a setting or, failing that, a fact of that name."""
        return self.setting(name) or self.fact(name)

    def has(self, *kinds: str) -> bool:
        """Say whether an artifact of one of the kinds was read, wholly or in part."""
        usable = (ArtifactState.READ, ArtifactState.PARTIAL)
        return any(a.kind in kinds and a.state in usable for a in self.artifacts)

    @cached_property
    def _series(self) -> dict[tuple[str, str], Series]:
        from ftdoctor.curves import build_series

        return build_series(self.metrics)

    def series(self, name: str, split: str = "train") -> Series | None:
        """Return one metric's curve, or None if it was never logged."""
        return self._series.get((name, split))

    @cached_property
    def _rows(self) -> dict[str, pl.DataFrame]:
        parts = self.data.partition_by("split", as_dict=True) if self.data.height else {}
        return {str(split): rows for (split,), rows in parts.items() if split is not None}

    def rows_of(self, split: str) -> pl.DataFrame:
        """Return the sampled training rows of a split, in their order; none is an empty frame."""
        rows = self._rows.get(split)
        return self.data.clear() if rows is None else rows

    def series_names(self) -> tuple[tuple[str, str], ...]:
        """Return every (name, split) that was logged, sorted."""
        return tuple(sorted(self._series))


# --- the library ------------------------------------------------------------------------------


class Severity(StrEnum):
    """How bad a cause is; `low` is weak practice and shown as advice, never as the verdict."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Status(StrEnum):
    """Life cycle of a signature."""

    EXPERIMENTAL = "experimental"
    STABLE = "stable"
    DEPRECATED = "deprecated"


STAGES = (
    "data",
    "tokenizer",
    "template",
    "configuration",
    "script",
    "environment",
    "infrastructure",
    "distributed",
    "numerics",
    "optimisation",
    "adapter",
    "preference",
    "reinforcement",
    "evaluation",
    "checkpoint",
    "export",
    "serving",
)


@dataclass(frozen=True, slots=True)
class Call:
    """A condition on a run: one detector with its parameters, or all/any/not over conditions.

    One that is only `part` of an `all` or a `not` decides nothing by itself.
    """

    op: str
    detector: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[Call, ...] = ()
    part: bool = False


@dataclass(frozen=True, slots=True)
class Symptom:
    """Something that can be seen in a run: a condition, and how often it is seen without a cause.

    `leak` is P(symptom | no known cause). Of the symptoms of one `group` only the strongest counts.
    `source` says where thresholds come from. `told` is the outcome by which a user who has seen it
    may state it (`--observed`). `file` and `line` locate the definition.
    """

    id: str
    title: str
    call: Call
    leak: float
    group: str = ""
    source: str = ""
    told: str = ""
    status: Status = Status.STABLE
    false_positives: str = ""
    examples: tuple[Mapping[str, Any], ...] = ()
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Patch:
    """A setting to change: `to` is the value, or "" with `delete`.

    `to_full` is the value for a run that trains all weights, if that is another one.
    """

    setting: str
    to: Value = None
    delete: bool = False
    to_full: Value = None


@dataclass(frozen=True, slots=True)
class Cause:
    """A root cause: how likely beforehand, what it shows, why, and the fix.

    `shows` maps symptom id to sensitivity P(symptom | cause); `risk` maps symptom id to the odds
    ratio that its presence puts on the prior; `leads_to` names causes or effects downstream;
    `excludes` names causes whose advice contradicts this one's; `aliases` are other ids under which
    the same cause is known; `affects` are versions it exists in ("transformers<4.46"), any of which
    is enough.
    """

    id: str
    title: str
    stage: str
    severity: Severity
    prior: float
    shows: Mapping[str, float]
    mechanism: str
    fix: str
    verdict: str = ""
    risk: Mapping[str, float] = field(default_factory=dict)
    leads_to: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    patch: Patch | None = None
    fix_for: Mapping[str, str] = field(default_factory=dict)
    next_check: str = ""
    references: tuple[str, ...] = ()
    affects: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    status: Status = Status.STABLE
    rows: tuple[str, ...] = ()
    examples: tuple[Mapping[str, Any], ...] = ()
    file: str = ""
    line: int = 0


@dataclass(frozen=True, slots=True)
class Library:
    """All symptoms and causes in force, by id, with the digest of their sources."""

    symptoms: Mapping[str, Symptom]
    causes: Mapping[str, Cause]
    digest: str

    def items(self) -> tuple[Symptom | Cause, ...]:
        """Return all signatures, symptoms first."""
        return (*self.symptoms.values(), *self.causes.values())

    def cause_called(self, name: str) -> Cause | None:
        """Return the cause of this id or alias."""
        aliased = (cause for cause in self.causes.values() if name in cause.aliases)
        return self.causes.get(name) or next(aliased, None)


# --- findings and diagnosis -------------------------------------------------------------------


class State(StrEnum):
    """The three answers. Unobservable is not absent: it moves no probability."""

    PRESENT = "present"
    ABSENT = "absent"
    UNOBSERVABLE = "unobservable"


@dataclass(frozen=True, slots=True)
class Span:
    """Where in training it happened: from `step` to `until` (None: to the end of the log).

    `within`: it began so many steps before or after `step` at most (95 %); None for a stretch that
    was looked at, which tells nothing of a beginning.
    """

    step: int
    until: int | None = None
    last_good: int | None = None
    time: float | None = None
    within: int | None = None

    def precedes(self, other: Span) -> bool:
        """Say whether this began before the other, whatever the uncertainties of both hide."""
        if self.within is None or other.within is None:
            return False
        return self.step + self.within < other.step - other.within

    def __str__(self) -> str:
        """Return `step 1,200`, with `± 40` if the beginning is uncertain by more than a step."""
        uncertain = f" ± {self.within:,}" if self.within is not None and self.within > 1 else ""
        return f"step {self.step:,}{uncertain}"


@dataclass(frozen=True, slots=True)
class Observation:
    """What a detector answers.

    `text` is one sentence with the numbers; `facts` the places it rests on (most telling first);
    `missing` the files that would make an unobservable answer observable; `curves` the metrics
    ("loss", "eval/loss") whose plot proves it; `span` where it begins.
    """

    state: State
    text: str
    facts: tuple[Fact, ...] = ()
    missing: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A symptom's state in one run, with the evidence."""

    symptom: str
    title: str
    state: State
    text: str
    facts: tuple[Fact, ...] = ()
    missing: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()
    span: Span | None = None
    group: str = ""


@dataclass(frozen=True, slots=True)
class Weight:
    """How far one finding moved a cause, in decibans; `role` is for, against, risk or explained."""

    symptom: str
    decibans: float
    role: str


@dataclass(frozen=True, slots=True)
class Unseen:
    """A symptom of a cause that could not be observed, and how far it could move it (decibans)."""

    symptom: str
    if_present: float
    if_absent: float
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Edit:
    """A change at a place: the lines as they are and as they should be."""

    path: str
    line: int
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class RankedCause:
    """A cause with its posterior and the account of it; weights add up from prior to posterior."""

    id: str
    title: str
    probability: float
    severity: Severity
    stage: str
    prior: float
    weights: tuple[Weight, ...]
    unseen: tuple[Unseen, ...]
    mechanism: str
    fix: str
    verdict: str = ""
    edit: Edit | None = None
    setting_fix: str = ""
    explained_by: str = ""
    beneath: str = ""
    leads_to: tuple[str, ...] = ()
    next_check: str = ""
    references: tuple[str, ...] = ()
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class NextCheck:
    """A file that would tell the remaining causes apart; `bits` is the expected entropy lost."""

    need: str
    text: str
    bits: float
    causes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unchecked:
    """A check that could not be made, the files that would allow it, the causes it bears on."""

    symptom: str
    title: str
    missing: tuple[str, ...]
    causes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """One row of the timeline."""

    step: int | None
    time: float | None
    text: str
    where: Where | None = None
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Curve:
    """A thinned series for plots, NaN and Inf kept; `total` is the count before thinning."""

    name: str
    split: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    path: str
    total: int


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The run in one line: what was trained, with what, how far it got, how it ended.

    Of several runs in one place, `chosen` is the one that was diagnosed and `others` the rest.
    """

    name: str
    model: str = ""
    method: str = ""
    trainer: str = ""
    steps_done: int | None = None
    steps_planned: int | None = None
    started: float | None = None
    ended: float | None = None
    ending: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    chosen: str = ""
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The one sentence. `kind` is cause, unknown, healthy or unreadable."""

    kind: str
    text: str
    lead: str = ""
    action: str = ""


@dataclass(frozen=True, slots=True)
class Panel:
    """Content that only some diagnoses have (lengths, tokens, cost): closed kinds, plain data."""

    kind: str
    title: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Conflict:
    """A setting on which the sources disagree: one fact per value, first the one that counts."""

    setting: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Diagnosis:
    """Everything a report shows; the interface between analysis and rendering, JSON in and out.

    `causes` (severity medium and above) and `advice` (low) are best first. `status` is the exit
    status: 0 nothing found, 1 root cause found, 3 nothing readable.
    """

    run: RunSummary
    verdict: Verdict
    causes: tuple[RankedCause, ...]
    advice: tuple[RankedCause, ...]
    findings: tuple[Finding, ...]
    unexplained: tuple[str, ...]
    no_known_cause: float
    next_checks: tuple[NextCheck, ...]
    unchecked: tuple[Unchecked, ...]
    timeline: tuple[Moment, ...]
    curves: tuple[Curve, ...]
    panels: tuple[Panel, ...]
    artifacts: tuple[Artifact, ...]
    redactions: Mapping[str, int]
    versions: Mapping[str, str]
    input_digest: str
    signature_digest: str
    status: int
    conflicts: tuple[Conflict, ...] = ()
    schema_version: str = SCHEMA_VERSION

    def finding(self, symptom: str) -> Finding | None:
        """Return the finding on one symptom, or None if it was not looked for."""
        return next((f for f in self.findings if f.symptom == symptom), None)

    def _repr_html_(self) -> str:
        from ftdoctor.render.html import render_cell

        return render_cell(self)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`; non-finite numbers become strings (NaN, Infinity)."""
        from ftdoctor.codec import encode

        encoded = encode(self)
        assert isinstance(encoded, dict)
        return encoded

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Diagnosis:
        """Rebuild a diagnosis from `to_json`'s data; FtdoctorError if the schema is another one."""
        from ftdoctor.codec import decode_diagnosis

        return decode_diagnosis(data)
