"""Make a `Run` of the example in a signature, through the same readers as a real run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ftdoctor.discover import Discovery
from ftdoctor.kinds import Found, classify
from ftdoctor.model import Artifact, ArtifactState, Fact, Run, Where
from ftdoctor.read.assemble import assemble
from ftdoctor.read.items import Item, read_items
from ftdoctor.read.names import metric_name
from ftdoctor.read.reading import Event, MetricRow, Reading
from ftdoctor.read.source import Source, memory_source
from ftdoctor.redact import Redactor

STATE, SETTINGS, FACTS, LOG = "trainer_state.json", "settings.yaml", "facts.json", "train.log"


def run_from_example(example: Mapping[str, Any]) -> Run:
    """Return the run that an example describes.

    Keys: `metrics` (name or "eval/name" to a list; steps 1..n or `steps`; `epochs` and `times` of
    the train rows), `settings` and `facts`
    (canonical names), `lines` (log text), `events` ({kind, text, step}), `files` (path to text).
    """
    redactor = Redactor()
    files = [memory_source(path, _bytes(text)) for path, text in _files(example)]
    found = tuple(Found(source, classify(source)) for source in files)
    items = [*_stated(example), *read_items(found, redactor)]
    discovery = Discovery("example", found)
    return assemble(discovery, items, redactor)


def _files(example: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from (example.get("files") or {}).items()
    if lines := example.get("lines"):
        yield LOG, "\n".join(str(line) for line in lines) + "\n"


def _bytes(content: Any) -> bytes:
    return content if isinstance(content, bytes) else str(content).encode()


def _stated(example: Mapping[str, Any]) -> Iterator[Item]:
    """Yield what the example states outright, as if a file had been read for it."""
    rows = tuple(
        metric_rows(
            example.get("metrics") or {},
            example.get("steps"),
            epochs=example.get("epochs") or (),
            times=example.get("times") or (),
        )
    )
    if rows:
        yield _item(STATE, "trainer-state", Reading(metrics=rows, curve="state"))
    if settings := example.get("settings"):
        reading = Reading(settings=_facts(settings, SETTINGS))
        yield _item(SETTINGS, "settings", reading)
    if facts := example.get("facts"):
        yield _item(FACTS, "example", Reading(facts=_facts(facts, FACTS)))
    if events := example.get("events"):
        reading = Reading(events=tuple(_event(e, i) for i, e in enumerate(events, start=1)))
        yield _item("events.log", "console", reading)


def _item(path: str, kind: str, reading: Reading) -> Item:
    source: Source = memory_source(path, b"")
    return Item(source, Artifact(path, kind, 0, ArtifactState.READ), reading)


def _facts(values: Mapping[str, Any], path: str) -> tuple[Fact, ...]:
    return tuple(
        Fact(name, value, Where(path, line=line))
        for line, (name, value) in enumerate(values.items(), start=1)
    )


def _event(event: Mapping[str, Any], line: int) -> Event:
    return Event(str(event.get("kind", "")), str(event.get("text", "")), line, event.get("step"))


def metric_rows(
    metrics: Mapping[str, Sequence[Any]],
    steps: Sequence[int] | None,
    *,
    epochs: Sequence[float] = (),
    times: Sequence[float] = (),
) -> Iterator[MetricRow]:
    """Yield log rows in the order of training: evaluation rows follow the train row of their step.

    `steps` are those of every list of the same length; other lists have steps 1..n.
    """
    rows: list[tuple[int, int, int, dict[str, float], str]] = []
    by_place: dict[tuple[str, int], dict[str, float]] = {}
    train_steps: list[int] = []
    for name, values in metrics.items():
        split = metric_name(name)[1]
        own = list(steps) if steps and len(steps) == len(values) else range(1, len(values) + 1)
        if split == "train" and len(own) > len(train_steps):
            train_steps = list(own)
        for index, (step, value) in enumerate(zip(own, values, strict=True)):
            if value is None:
                continue
            key = (split, index)
            if key not in by_place:
                by_place[key] = {}
                rows.append((index, step, split != "train", by_place[key], split))
            by_place[key][name] = float(value)
    rows.sort(key=lambda row: (_order(row[0], row[1], bool(row[2]), train_steps), row[2]))
    for line, (index, step, _, values_at, split) in enumerate(rows, start=1):
        train = split == "train"
        epoch = epochs[index] if train and index < len(epochs) else None
        time = times[index] if train and index < len(times) else None
        yield MetricRow(values_at, line, step, epoch, time, split)


def _order(index: int, step: int, evaluation: bool, train_steps: Sequence[int]) -> int:
    """Return the place in the log: a train row's index, or that of the train row before."""
    if not evaluation:
        return index
    before = [i for i, known in enumerate(train_steps) if known <= step]
    return before[-1] if before else -1
