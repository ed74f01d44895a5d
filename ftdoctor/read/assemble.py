"""Put what the readers gave into one `Run`: frames, settings by authority, facts, conclusions."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ftdoctor.limits import NEVER, Deadline, TimeUpError
from ftdoctor.model import Artifact, ArtifactState, Fact, Run, Where
from ftdoctor.read.checkpoints import survey
from ftdoctor.read.conclude import conclude
from ftdoctor.read.curve import Curves, Log, Pace, assemble_curves
from ftdoctor.read.derive import derive, rows_frame
from ftdoctor.read.items import UNREAD
from ftdoctor.read.names import setting_name
from ftdoctor.read.purpose import files_of_use
from ftdoctor.read.reading import Record

if TYPE_CHECKING:
    import polars as pl

    from ftdoctor.discover import Discovery
    from ftdoctor.read.items import Item
    from ftdoctor.read.source import Source
    from ftdoctor.redact import Redactor

# Whose word counts when files disagree about a setting: what the trainer recorded, then what was
# typed, then the configuration file, then source code, then prose.
AUTHORITY = {
    "training-args": 0,
    "adapter-config": 0,
    "tensorboard": 1,
    "wandb-binary": 1,
    "wandb-config": 1,
    "mlflow-param": 1,
    "mlflow-database": 1,
    "trainer-state": 2,
    "console": 2,
    "wandb-metadata": 3,
    "shell": 3,
    "settings": 4,
    "model-card": 6,
    "script": 5,
    "notebook": 5,
}
DEFAULT_AUTHORITY = 5
# The Trainer writes back what came out, not what was asked for: epochs are rounded up, max_steps
# overrides them. Such a value fills a gap and contradicts nothing.
ROUNDED = frozenset({"num_train_epochs", "logging_steps"})

NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
ENUM = re.compile(
    r"(?:\w+\.)*(?:SchedulerType|IntervalStrategy|SaveStrategy|EvaluationStrategy|OptimizerNames"
    r"|HubStrategy|FSDPOption|TaskType|PeftType)\.(\w+)"
)


@dataclass
class RunParts:
    """What derivation may add to before the run is frozen.

    `settings` and `facts` are already canonical and in order of authority. `records` are the data
    rows of each file; `data` is the frame made of them. `texts` are longer texts by path.
    """

    root: str
    sources: tuple[Source, ...]
    artifacts: list[Artifact]
    settings: dict[str, list[Fact]]
    facts: dict[str, list[Fact]]
    records: dict[str, tuple[Record, ...]] = field(default_factory=dict)
    record_counts: dict[str, int] = field(default_factory=dict)
    texts: dict[str, Mapping[str, str]] = field(default_factory=dict)
    data: pl.DataFrame | None = None

    def add(self, name: str, value: Any, where: Where) -> None:
        """Add a fact at the end of those of its name."""
        self.facts.setdefault(name, []).append(Fact(name, value, where))


def assemble(
    discovery: Discovery, items: Sequence[Item], redactor: Redactor, deadline: Deadline = NEVER
) -> Run:
    """Return the run made of all readings; the caller has already taken secrets out of them.

    Data rows that cannot be judged before the deadline are told by their artifacts.
    """
    parts = RunParts(
        root=redactor.clean(discovery.root),
        sources=discovery.sources,
        artifacts=[item.artifact for item in items] + list(discovery.skipped),
        settings=gather_settings(items),
        facts=gather_facts(items),
        records={i.artifact.path: i.reading.records for i in items if i.reading.records},
        record_counts={i.artifact.path: i.reading.record_count for i in items},
        texts={i.artifact.path: i.reading.texts for i in items if i.reading.texts},
    )
    for path, where in files_of_use(items).items():
        parts.add("config.use", path, where)
    for fact in survey(discovery.sources).facts:
        parts.facts.setdefault(fact.name, []).append(fact)
    curves = assemble_curves(_logs(items, parts))
    if discovery.others:
        parts.add("run.others", list(discovery.others), Where(discovery.chosen or "."))
    for path, reason in curves.aside:
        parts.add("log.aside", f"{path}: {reason}", Where(path))
    for path in curves.interleaved:
        parts.add("log.interleaved", True, Where(path))
    for path in sorted(curves.counted):
        parts.add("log.rows_counted", True, Where(path))
    conclude(parts, curves, items)
    try:
        with deadline.interrupting():
            derive(parts)
    except TimeUpError:
        reason = f"{UNREAD} to the end: judging rows took all of {deadline.seconds:g} s (--timeout)"
        parts.artifacts = [
            replace(a, state=ArtifactState.PARTIAL, reason=reason) if a.path in parts.records else a
            for a in parts.artifacts
        ]
    return Run(
        name=parts.root.rstrip("/").rpartition("/")[2] or parts.root,
        root=parts.root,
        metrics=metrics_frame(curves),
        events=events_frame(items),
        lines=lines_frame(items),
        tensors=tensors_frame(items),
        data=parts.data if parts.data is not None else rows_frame(()),
        settings={name: tuple(facts) for name, facts in sorted(parts.settings.items())},
        facts={name: tuple(facts) for name, facts in sorted(parts.facts.items())},
        artifacts=tuple(sorted(parts.artifacts, key=lambda artifact: artifact.path)),
        texts={item.artifact.path: item.text for item in items if item.text},
        redactions=dict(sorted(redactor.counts.items())),
    )


# --- settings and facts -----------------------------------------------------------------------


def gather_settings(items: Sequence[Item]) -> dict[str, list[Fact]]:
    """Return settings by canonical name, highest authority first; null means not set, so none.

    A file that uses the trained model comes behind the files of its kind that train.
    """
    uses = files_of_use(items)
    ranked: list[tuple[int, bool, int, Fact]] = []
    for item in items:
        use = item.artifact.path in uses
        authority = AUTHORITY.get(item.artifact.kind, DEFAULT_AUTHORITY)
        depth = item.artifact.path.count("/")
        for found in item.reading.settings:
            fact = Fact(setting_name(found.name), parse_value(found.value), found.where)
            if fact.value is not None:
                ranked.append((authority, use, depth, fact))
    ranked.sort(key=lambda entry: entry[:3])
    settings: dict[str, list[Fact]] = defaultdict(list)
    for authority, *_, fact in ranked:
        rounded = fact.name in ROUNDED and authority == AUTHORITY["trainer-state"]
        if fact not in settings[fact.name] and not (rounded and settings[fact.name]):
            settings[fact.name].append(fact)
    return dict(settings)


def gather_facts(items: Iterable[Item]) -> dict[str, list[Fact]]:
    """Return facts by name in the order of reading: files nearest to the root first."""
    facts: dict[str, list[Fact]] = defaultdict(list)
    for item in items:
        for fact in item.reading.facts:
            facts[fact.name].append(fact)
    return dict(facts)


def parse_value(value: Any) -> Any:
    """Return a setting's value with numbers, booleans and enum names out of their text forms.

    PyYAML gives `2e-4` as a string, command lines give all values as strings, and the Trainer's
    enums print as `SchedulerType.COSINE`.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    lowered = text.lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    if text in ("null", "None", "~"):  # `none` is a value: PEFT's bias, the optimizer's schedule
        return None
    if NUMBER.fullmatch(text):
        try:
            return int(text)
        except ValueError:
            number = float(text)
            return number if math.isfinite(number) else value
    if match := ENUM.fullmatch(text):
        return match.group(1).lower()
    if text.startswith("torch."):
        return text.removeprefix("torch.")
    return value


# --- steps ------------------------------------------------------------------------------------


def _logs(items: Sequence[Item], parts: RunParts) -> Iterator[Log]:
    common = Pace(
        _steps_per_epoch([fact for facts in parts.facts.values() for fact in facts]),
        _interval(
            [*parts.facts.get("state.logging_steps", ()), *parts.settings.get("logging_steps", ())]
        ),
    )
    for item in items:
        if not item.reading.metrics:
            continue
        own = _steps_per_epoch(item.reading.facts)
        planned = _largest("progress.max_steps", item.reading.facts)
        yield Log(
            path=item.artifact.path,
            curve=item.reading.curve or item.artifact.kind,
            rows=item.reading.metrics,
            modified=item.artifact.modified,
            pace=Pace(own or (None if planned else common.steps_per_epoch), common.logging_steps),
            planned=int(planned) if planned else None,
        )


def _steps_per_epoch(facts: Iterable[Fact]) -> float | None:
    """Return steps per epoch from the last step and the epoch that one file gives for it."""
    by_path: dict[str, dict[str, float]] = defaultdict(dict)
    for fact in facts:
        if fact.name in ("progress.global_step", "progress.epoch") and _is_number(fact.value):
            by_path[fact.where.path][fact.name] = float(fact.value)
    for found in by_path.values():
        step, epoch = found.get("progress.global_step"), found.get("progress.epoch")
        if step and epoch and step > 0 and epoch > 0:
            return step / epoch
    return None


def _interval(facts: Iterable[Fact]) -> int | None:
    return next((int(f.value) for f in facts if _is_number(f.value) and f.value >= 1), None)


def _largest(name: str, facts: Iterable[Fact]) -> float | None:
    found = [float(f.value) for f in facts if f.name == name and _is_number(f.value)]
    return max(found, default=None)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# --- frames -----------------------------------------------------------------------------------


def metrics_frame(curves: Curves) -> pl.DataFrame:
    """Return the frame `Run.metrics`, one row per value."""
    import polars as pl

    return pl.DataFrame(
        [
            (p.name, p.split, p.step, p.epoch, p.time, p.value, p.path, p.line, p.segment)
            for p in curves.points
        ],
        schema={
            "name": pl.String,
            "split": pl.String,
            "step": pl.Int64,
            "epoch": pl.Float64,
            "time": pl.Float64,
            "value": pl.Float64,
            "path": pl.String,
            "line": pl.Int64,
            "segment": pl.Int64,
        },
        orient="row",
    )


def events_frame(items: Iterable[Item]) -> pl.DataFrame:
    """Return the frame `Run.events`, in order of files and of lines."""
    import polars as pl

    return pl.DataFrame(
        [
            (e.kind, e.step, e.time, e.text, item.artifact.path, e.line, e.rank)
            for item in items
            for e in item.reading.events
        ],
        schema={
            "kind": pl.String,
            "step": pl.Int64,
            "time": pl.Float64,
            "text": pl.String,
            "path": pl.String,
            "line": pl.Int64,
            "rank": pl.Int64,
        },
        orient="row",
    )


def lines_frame(items: Iterable[Item]) -> pl.DataFrame:
    """Return the frame `Run.lines`: log text without metric rows and progress bars."""
    import polars as pl

    return pl.DataFrame(
        [
            (item.artifact.path, n.line, n.rank, n.time, n.text, n.count)
            for item in items
            for n in item.reading.lines
        ],
        schema={
            "path": pl.String,
            "line": pl.Int64,
            "rank": pl.Int64,
            "time": pl.Float64,
            "text": pl.String,
            "count": pl.Int64,
        },
        orient="row",
    )


def tensors_frame(items: Iterable[Item]) -> pl.DataFrame:
    """Return the frame `Run.tensors`, the entries of all weights files."""
    import polars as pl

    return pl.DataFrame(
        [
            (item.artifact.path, t.name, t.dtype, list(t.shape), t.offset, t.nbytes)
            for item in items
            for t in item.reading.tensors
        ],
        schema={
            "file": pl.String,
            "name": pl.String,
            "dtype": pl.String,
            "shape": pl.List(pl.Int64),
            "offset": pl.Int64,
            "nbytes": pl.Int64,
        },
        orient="row",
    )
