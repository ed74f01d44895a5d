"""What a reader returns: plain rows with provenance, before names are made canonical."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read.layout import Example, understand


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
    """One row of a training or evaluation file, parsed; `line` from 1 (or index in an array).

    `understood` is what its reader made of the value, None if the value was changed since.
    """

    value: Any
    line: int
    understood: Example | None = field(default=None, compare=False, repr=False)

    @property
    def example(self) -> Example:
        """Return the row understood."""
        return self.understood or understand(self.value)


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


def relocated(reading: Reading, path: str, line_of: Callable[[int], int]) -> Reading:
    """Return what a reader gave of a piece of a file, at its places in the file itself.

    `line_of` turns a line of the piece into one of the file; 0 is the whole of either.
    """

    def where(place: Where) -> Where:
        return Where(path, line=line_of(place.line or 0) or None)

    def facts(found: tuple[Fact, ...]) -> tuple[Fact, ...]:
        return tuple(replace(fact, where=where(fact.where)) for fact in found)

    return replace(
        reading,
        metrics=tuple(replace(row, line=line_of(row.line)) for row in reading.metrics),
        events=tuple(replace(event, line=line_of(event.line)) for event in reading.events),
        lines=tuple(replace(line, line=line_of(line.line)) for line in reading.lines),
        settings=facts(reading.settings),
        facts=facts(reading.facts),
    )


def joined(readings: Sequence[Reading]) -> Reading:
    """Return one reading of all that the pieces of a file gave, save data rows and tensors."""
    return Reading(
        metrics=tuple(row for r in readings for row in r.metrics),
        events=tuple(event for r in readings for event in r.events),
        lines=tuple(line for r in readings for line in r.lines),
        settings=tuple(fact for r in readings for fact in r.settings),
        facts=tuple(fact for r in readings for fact in r.facts),
        texts={name: text for r in readings for name, text in r.texts.items()},
    )
