"""Let each file's reader read it, whatever happens, and take secrets out at this door."""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from ftdoctor.aside import begin
from ftdoctor.kinds import LFS_MARK, Found
from ftdoctor.limits import NEVER, Deadline, TimeUpError
from ftdoctor.model import Artifact, ArtifactState, Fact, Where
from ftdoctor.read.reading import Event, MetricRow, Reading, Record
from ftdoctor.read.tokens import begin_loading
from ftdoctor.redact import Redactor, encodable

if TYPE_CHECKING:
    from ftdoctor.discover import Discovery
    from ftdoctor.read.source import Source

Reader = Callable[["Source"], Reading]
Row = TypeVar("Row", MetricRow, Event)
# Files that checkpoints and trackers repeat: an exact copy of one already read is not read again.
# Not data: a training file that is also the evaluation file is a finding.
REPEATED = frozenset({
    "tokenizer", "tokenizer-config", "special-tokens", "chat-template", "chat-template-json",
    "model-config", "generation-config", "adapter-config", "training-args", "model-card",
    "trainer-state", "trainer-log", "console", "metrics-jsonl", "tensorboard", "wandb-binary",
    "wandb-config", "wandb-summary", "wandb-metadata", "results", "csv-log",
})  # fmt: skip
SHOWN = frozenset({
    "settings", "script", "shell", "notebook", "modelfile", "requirements", "adapter-config",
})  # fmt: skip
# What takes long to read and little to hand over, read aside while this process reads the others.
LONG, LONG_SIZE = frozenset({"console"}), 1 << 20
LONGEST_SIZE = 64 << 20  # bytes; one such file takes longer than all else, and is not waited for
STEP_LIMIT = 10**15  # steps, epochs or tokens; the largest trainings see some 1e13 tokens
TIME_LIMIT = 10**11  # seconds since 1970: the year 5138
SHOWN_LIMIT = 256 << 10  # bytes
UNREAD = "not read"  # begins the reason of what a limit of the whole diagnosis kept from being read
NO_ROOM = f"{UNREAD}: needs more memory than the limit allows (--max-memory)"
LFS_REASON = "a Git LFS pointer, not the file itself: run `git lfs pull` in the repository"


@dataclass(frozen=True, slots=True)
class Item:
    """One file with what its reader gave; `text` is kept (redacted) where a fix may be shown."""

    source: Source
    artifact: Artifact
    reading: Reading
    text: str = ""


def read_items(
    found: tuple[Found, ...], redactor: Redactor, deadline: Deadline = NEVER
) -> list[Item]:
    """Read the files, those nearest to the root first, exact copies only once.

    What is not read before the deadline is told by its artifact.
    """
    ordered = sorted(found, key=lambda f: (f.source.path.count("/"), f.source.path))
    begun = _begun(ordered)
    begin_loading(ordered)
    made: dict[str, Item] = {}
    first_of: dict[tuple[str, str], str] = {}
    for each in sorted(ordered, key=_is_long):
        path = each.source.path
        try:
            with deadline.half().interrupting():
                made[path] = _item(each, first_of, redactor, begun.get(path))
        except TimeUpError:
            reason = f"{UNREAD}: its share of the {deadline.seconds:g} s was over (--timeout)"
            artifact = _artifact(each, ArtifactState.SKIPPED, reason, "", "")
            made[path] = Item(each.source, artifact, Reading())
    items = [made[each.source.path] for each in ordered]
    return [_without_learned(item, redactor) for item in items] if redactor.learned else items


def _begun(ordered: list[Found]) -> dict[str, Callable[[], Reading]]:
    """Begin to read the long files; of those of equal kind and size, which may be copies, one.

    The longest of very long ones is left to this process, which would only wait for it.
    """
    first = {(f.kind, f.source.size): f for f in reversed(ordered) if _is_long(f)}
    longest = max(first, key=lambda key: key[1], default=None)
    if longest is not None and longest[1] >= LONGEST_SIZE:
        del first[longest]
    return {
        f.source.path: begin(_read, f.kind.reader, f.source)
        for f in reversed(first.values())
        if f.kind
    }


def _is_long(found: Found) -> bool:
    kind, source = found.kind, found.source
    return bool(kind and kind.id in LONG and source.local and source.size >= LONG_SIZE)


def _read(reader: str, source: Source) -> Reading:
    return reader_named(reader)(source)


def _item(
    each: Found,
    first_of: dict[tuple[str, str], str],
    redactor: Redactor,
    begun: Callable[[], Reading] | None,
) -> Item:
    digest = _digest(each.source)
    kind = each.kind.id if each.kind else ""
    twin = first_of.setdefault((kind, digest), each.source.path)
    if kind in REPEATED and twin != each.source.path:
        artifact = _artifact(each, ArtifactState.READ, "", f"same content as {twin}", digest)
        return Item(each.source, artifact, Reading())
    reading = _bounded_reading(each, redactor, begun)
    artifact = _artifact(each, reading.state, reading.reason, reading.taken, digest)
    return Item(each.source, artifact, reading, _text(each, redactor))


def _bounded_reading(
    each: Found, redactor: Redactor, begun: Callable[[], Reading] | None
) -> Reading:
    try:
        return clean_reading(read_one(each, begun), redactor)
    except (MemoryError, RecursionError):
        return Reading(ArtifactState.SKIPPED, NO_ROOM)


def clean_paths(discovery: Discovery, redactor: Redactor) -> Discovery:
    """Return the discovery with names of files that hold no secret and are text, no two alike."""
    taken: set[str] = set()

    def cleaned(path: str) -> str:
        name = clean = redactor.clean(encodable(path))
        for count in itertools.count(2):
            if name not in taken:
                break
            name = f"{clean} ({count})"
        taken.add(name)
        return name

    return replace(
        discovery,
        found=tuple(
            replace(f, source=replace(f.source, path=cleaned(f.source.path)))
            for f in discovery.found
        ),
        skipped=tuple(replace(a, path=cleaned(a.path)) for a in discovery.skipped),
    )


def _without_learned(item: Item, redactor: Redactor) -> Item:
    """Take names that became known by a later file out of logs and shown texts.

    Settings, short facts and data rows keep them: there a name may be part of what is compared.
    """
    clean = redactor.clean_learned

    def clean_fact(fact: Fact) -> Fact:
        told = isinstance(fact.value, str) and " " in fact.value
        return replace(fact, value=clean(fact.value)) if told else fact

    reading = replace(
        item.reading,
        events=tuple(replace(e, text=clean(e.text)) for e in item.reading.events),
        lines=tuple(replace(line, text=clean(line.text)) for line in item.reading.lines),
        facts=tuple(clean_fact(fact) for fact in item.reading.facts),
    )
    return replace(item, reading=reading, text=clean(item.text))


def _text(found: Found, redactor: Redactor) -> str:
    if found.kind is None or found.kind.id not in SHOWN or found.source.size > SHOWN_LIMIT:
        return ""
    try:
        return redactor.clean(found.source.text(SHOWN_LIMIT))
    except (OSError, ValueError):
        return ""


def read_one(found: Found, begun: Callable[[], Reading] | None = None) -> Reading:
    """Read one file with its kind's reader; whatever goes wrong is told in the reading.

    `begun` waits for a call of the reader that was begun before.
    """
    source, kind = found.source, found.kind
    if kind is None:
        return Reading(ArtifactState.UNKNOWN, "no known kind of file")
    if kind.why:
        return Reading(ArtifactState.SKIPPED, kind.why)
    if source.size == 0:
        return Reading(ArtifactState.DAMAGED, "empty file")
    try:
        if source.head(len(LFS_MARK)) == LFS_MARK:
            return _lfs_pointer(found)
        return begun() if begun else _read(kind.reader, source)
    except MemoryError:
        return Reading(ArtifactState.SKIPPED, NO_ROOM)
    except Exception as error:  # a reader's fault must not hide the other files
        return Reading(ArtifactState.DAMAGED, f"{type(error).__name__}: {_one_line(error)}")
    except BaseException as error:
        # What a library in Rust raises for a fault of its own is no Exception.
        if type(error).__name__ != "PanicException":
            raise
        return Reading(ArtifactState.DAMAGED, f"cannot be decoded: {_one_line(error)}")


def reader_named(name: str) -> Reader:
    """Return the reader "module:function" below `ftdoctor.read`, or elsewhere if dotted."""
    module, _, function = name.partition(":")
    full = module if "." in module else f"ftdoctor.read.{module}"
    reader: Reader = getattr(importlib.import_module(full), function)
    return reader


def _lfs_pointer(found: Found) -> Reading:
    where = Where(found.source.path, line=1)
    fact = Fact("weights.lfs_pointer", found.source.path, where)
    return Reading(ArtifactState.DAMAGED, LFS_REASON, facts=(fact,))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _digest(source: Source) -> str:
    try:
        return source.digest()
    except OSError:
        return ""


def _artifact(found: Found, state: ArtifactState, reason: str, taken: str, digest: str) -> Artifact:
    source = found.source
    return Artifact(
        path=source.path,
        kind=found.kind.id if found.kind else "",
        size=source.size,
        state=state,
        reason=reason,
        taken=taken,
        digest=digest,
        modified=source.modified,
    )


# --- the door ---------------------------------------------------------------------------------


def clean_reading(reading: Reading, redactor: Redactor) -> Reading:
    """Return the reading with secrets and personal names taken out of every text."""
    clean, clean_value = redactor.clean, redactor.clean_value

    def clean_fact(fact: Fact) -> Fact:
        # Versions have the shape of addresses and hold nothing secret.
        if fact.name.startswith("environment.package.") or not _has_text(fact.value):
            return _plausible_fact(fact)
        return replace(fact, value=clean_value(fact.value, fact.name))

    return replace(
        reading,
        reason=clean(reading.reason),
        taken=clean(reading.taken),
        metrics=tuple(map(plausible, reading.metrics)),
        events=tuple(plausible(replace(e, text=clean(e.text))) for e in reading.events),
        lines=tuple(replace(line, text=clean(line.text)) for line in reading.lines),
        settings=tuple(clean_fact(fact) for fact in reading.settings),
        facts=tuple(clean_fact(fact) for fact in reading.facts),
        records=tuple(
            r if redactor.is_harmless(r.value) else Record(clean_value(r.value), r.line)
            for r in reading.records
        ),
        texts={name: clean(text) for name, text in reading.texts.items()},
    )


def plausible(row: Row) -> Row:
    """Return a row without a step, epoch or time that no run can have: it is damage or an attack.

    The bounds keep steps within 64 bits and every product of them finite.
    """
    epoch = row.epoch if isinstance(row, MetricRow) else None
    good = (
        _within(row.step, STEP_LIMIT),
        _within(epoch, STEP_LIMIT),
        _within(row.time, TIME_LIMIT),
    )
    if all(good):
        return row
    found = replace(row, step=row.step if good[0] else None, time=row.time if good[2] else None)
    if isinstance(found, MetricRow) and not good[1]:
        return replace(found, epoch=None)
    return found


def _within(value: float | None, limit: int) -> bool:
    return value is None or -limit < value < limit  # false for NaN


def _plausible_fact(fact: Fact) -> Fact:
    value = fact.value
    if type(value) is int and not -(1 << 64) < value < 1 << 64:
        return replace(fact, value=math.inf if value > 0 else -math.inf)
    return fact


def _has_text(value: Any) -> bool:
    return isinstance(value, str | list | tuple | dict)
