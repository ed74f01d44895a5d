"""What a reader returns: plain rows with provenance, before names are made canonical."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ftdoctor.model import ArtifactState, Fact, Where


@dataclass(frozen=True, slots=True)
class MetricRow:
    """All metrics of one logged row, names as the trainer wrote them.

    `values` may hold non-finite floats. `split` "" means: decide by the name (`eval_loss`).
    `step` None means: unknown, to be inferred from `epoch` or order; `passed` rows like it came
    before it that are not here, as a long log is not taken whole.
    """

    values: Mapping[str, float]
    line: int = 0
    step: int | None = None
    epoch: float | None = None
    time: float | None = None
    split: str = ""
    passed: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: kinds as listed at `Run.events`."""

    kind: str
    text: str
    line: int = 0
    step: int | None = None
    time: float | None = None
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A line of log text that is neither a metric row nor a progress bar; `count` equal lines."""

    text: str
    line: int
    rank: int | None = None
    time: float | None = None
    count: int = 1


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor's entry in a weights file; `offset` is from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Record:
    """One row of a training or evaluation file, parsed; `line` from 1 (or index in an array)."""

    value: Any
    line: int


@dataclass(frozen=True, slots=True)
class Reading:
    """What one file gave. Empty parts stay empty; `state` and `reason` say how far it was read.

    `settings` carry names as found, flattened with dots; `read/names.py` makes them canonical.
    `facts` carry canonical names already. `records` is a deterministic sample of the data rows,
    `record_count` the number of all rows. `curve` names the kind of log that the metric rows are
    ("state", "console", ...): `read/assemble.py` decides by it which source is the curve.
    """

    state: ArtifactState = ArtifactState.READ
    reason: str = ""
    taken: str = ""
    metrics: tuple[MetricRow, ...] = ()
    events: tuple[Event, ...] = ()
    lines: tuple[Line, ...] = ()
    settings: tuple[Fact, ...] = ()
    facts: tuple[Fact, ...] = ()
    tensors: tuple[Tensor, ...] = ()
    records: tuple[Record, ...] = ()
    record_count: int = 0
    texts: Mapping[str, str] = field(default_factory=dict)
    curve: str = ""


def flatten(value: Any, path: str, prefix: str = "", depth: int = 12) -> list[Fact]:
    """Turn nested mappings into dotted facts (lists stay whole); places are JSON pointers."""
    found: list[Fact] = []
    for key, inner in value.items():
        name = f"{prefix}{key}"
        if isinstance(inner, dict) and inner and depth > 0:
            found += flatten(inner, path, f"{name}.", depth - 1)
        else:
            found.append(Fact(name, inner, Where(path, pointer="/" + name.replace(".", "/"))))
    return found
