"""Take stock of checkpoints and exports: Tinker expiry, step folders, files beside weights."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read.reading import Reading
from ftdoctor.read.source import Source
from ftdoctor.read.weight_sets import CHECKPOINT, folder_of, weight_set_facts

RECORD_LIMIT = 20_000  # records of one file
# tinker-cookbook gives periodic checkpoints 7 days unless told otherwise, the final one no limit
# (CHANGELOG of 2026-01-27; https://github.com/thinking-machines-lab/tinker-cookbook).
DEFAULT_TTL = 604_800
FIRST_TINKER = 1_759_276_800.0  # 2025-10-01: the service opened; an older mtime is no save time
TIME_KEYS = ("time", "created_at", "saved_at", "timestamp")
LOG_TIME = re.compile(r"^\[?(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)")


# --- Tinker -----------------------------------------------------------------------------------


def read_tinker_checkpoints(source: Source) -> Reading:
    """Read checkpoints.jsonl: one fact `checkpoint.record` per line, and the newest paths."""
    facts: list[Fact] = []
    bad: list[int] = []
    for number, text in source.lines():
        if not text.strip():
            continue
        if len(facts) >= RECORD_LIMIT:
            break
        record = _parsed(text)
        if not isinstance(record, dict):
            bad.append(number)
            continue
        facts.append(Fact("checkpoint.record", record, Where(source.path, line=number)))
    count = len(facts)
    facts += _newest(tuple(facts))
    if not count:
        problem = "no line holds a checkpoint record"
        return Reading(ArtifactState.DAMAGED if bad else ArtifactState.PARTIAL, problem)
    reason = f"{len(bad)} lines are cut or no JSON, the first is line {bad[0]}" if bad else ""
    state = ArtifactState.PARTIAL if bad else ArtifactState.READ
    return Reading(state, reason, f"{count} checkpoints", facts=tuple(facts))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _newest(records: Sequence[Fact]) -> Iterator[Fact]:
    """Yield the paths of the last record that has one, and the highest batch."""
    for key in ("sampler_path", "state_path"):
        held = [f for f in records if isinstance(f.value.get(key), str)]
        if held:
            yield Fact(f"checkpoint.{key}", held[-1].value[key], held[-1].where)
    batches = [f for f in records if isinstance(f.value.get("batch"), int)]
    if batches:
        last = max(batches, key=lambda f: int(f.value["batch"]))
        yield Fact("checkpoint.last_step", last.value["batch"], last.where)


def read_tinker_listing(source: Source) -> Reading:
    """Read the service's listing: one fact `checkpoint.listed` per checkpoint, with its expiry."""
    try:
        data = _parsed(source.text())
        rows = data if data is not None else [_parsed(line) for _, line in source.lines()]
    except (ValueError, OSError) as error:
        return Reading(ArtifactState.DAMAGED, f"cannot be read: {error}")
    if isinstance(rows, dict):
        rows = rows.get("checkpoints", [rows])
    facts = [
        Fact("checkpoint.listed", row, Where(source.path, pointer=f"/{index}"))
        for index, row in enumerate(rows[:RECORD_LIMIT] if isinstance(rows, list) else [])
        if isinstance(row, dict) and isinstance(row.get("tinker_path"), str)
    ]
    return Reading(taken=f"{len(facts)} checkpoints", facts=tuple(facts))


def moment(value: Any) -> float | None:
    """Return Unix seconds of an ISO 8601 text or a number of seconds or milliseconds."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return value / 1000 if value > 1e11 else float(value)
    try:
        parsed = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


@dataclass(frozen=True, slots=True)
class Retention:
    """How long periodic checkpoints live: None = for ever; `assumed` = no file says so."""

    seconds: float | None
    assumed: bool
    where: Where


def _retention(sources: Sequence[Source], folder: str) -> Retention:
    for source in sources:
        if source.name != "config.json" or folder_of(source.path) != folder:
            continue
        try:
            config = json.loads(source.text(4 << 20))
        except (ValueError, OSError, RecursionError):
            continue
        if isinstance(config, dict) and "ttl_seconds" in config:
            ttl = config["ttl_seconds"]
            seconds = float(ttl) if isinstance(ttl, int | float) else None
            return Retention(seconds, False, Where(source.path, pointer="/ttl_seconds"))
    return Retention(DEFAULT_TTL, True, Where(f"{folder}/config.json" if folder else "config.json"))


def expiry_facts(sources: Sequence[Source]) -> Iterator[Fact]:
    """Yield when Tinker checkpoints end: the record's own word, else save time plus time to live.

    The file's mtime is no earlier than the last save, so an expiry reckoned from it is the latest
    possible one.
    """
    listed = _listed(sources)
    for source in sources:
        if not source.name.endswith("checkpoints.jsonl"):
            continue
        records = [
            f for f in read_tinker_checkpoints(source).facts if f.name == "checkpoint.record"
        ]
        if not any("tinker://" in str(f.value) for f in records):
            continue
        retention = _retention(sources, folder_of(source.path))
        saved = _save_times(sources, folder_of(source.path))
        yield from _expiries(source, records, retention, saved, listed)


def _expiries(
    source: Source,
    records: Sequence[Fact],
    retention: Retention,
    saved: Mapping[str, float],
    listed: Mapping[str, float | None],
) -> Iterator[Fact]:
    lasting = [f for f in records if _lasts(f.value, retention, listed)]
    yield Fact("checkpoint.tinker_records", len(records), Where(source.path))
    yield Fact("checkpoint.lasting", len(lasting), (lasting or list(records))[0].where)
    if lasting:
        return
    known = source.modified if (source.modified or 0) > FIRST_TINKER else None
    ends: list[tuple[float, Fact]] = []
    for fact in records:
        end = _end_of(fact.value, retention, saved, listed, known)
        if end is not None:
            ends.append((end, fact))
    if ends and len(ends) == len(records):
        last, fact = max(ends, key=lambda pair: pair[0])
        yield Fact("checkpoint.expires_at", last, fact.where)
        recorded = bool(listed) or all(_has_end(f.value) for f in records)
        yield Fact("checkpoint.ttl_assumed", retention.assumed and not recorded, retention.where)


def _paths(record: Mapping[str, Any]) -> list[str]:
    return [p for key in ("sampler_path", "state_path") if isinstance(p := record.get(key), str)]


def _lasts(
    record: Mapping[str, Any], retention: Retention, listed: Mapping[str, float | None]
) -> bool:
    """Say whether a record has no expiry: by the listing, its own word, or as the final one."""
    for path in _paths(record):
        if path in listed:
            return listed[path] is None
    if "ttl_seconds" in record:
        return record["ttl_seconds"] is None
    if moment(record.get("expires_at")) is not None:
        return False
    final = record.get("final") is True or record.get("name") == "final"
    return final or retention.seconds is None


def _has_end(record: Mapping[str, Any]) -> bool:
    """Say whether a record tells its own expiry."""
    return moment(record.get("expires_at")) is not None or "ttl_seconds" in record


def _end_of(
    record: Mapping[str, Any],
    retention: Retention,
    saved: Mapping[str, float],
    listed: Mapping[str, float | None],
    known: float | None,
) -> float | None:
    for path in _paths(record):
        if path in listed:
            return listed[path]
    own = moment(record.get("expires_at"))
    if own is not None:
        return own
    ttl = record.get("ttl_seconds", retention.seconds)
    at = next((t for key in TIME_KEYS if (t := moment(record.get(key))) is not None), None)
    if at is None:
        at = next((saved[path] for path in _paths(record) if path in saved), known)
    return at + float(ttl) if at is not None and isinstance(ttl, int | float) else None


def _listed(sources: Sequence[Source]) -> dict[str, float | None]:
    """Return expiry by path from service listings in the run; None = never."""
    found: dict[str, float | None] = {}
    for source in sources:
        if not source.name.endswith((".json", ".jsonl")) or source.size > 16 << 20:
            continue
        if b'"tinker_path"' not in source.head(1 << 16):
            continue
        for fact in read_tinker_listing(source).facts:
            found[fact.value["tinker_path"]] = moment(fact.value.get("expires_at"))
    return found


def _save_times(sources: Sequence[Source], folder: str) -> dict[str, float]:
    """Return save times by path from dated `Saved checkpoints` lines of logs.log."""
    found: dict[str, float] = {}
    for source in sources:
        if source.name != "logs.log" or folder_of(source.path) != folder:
            continue
        for _, text in source.lines():
            dated = LOG_TIME.match(text) if "Saved checkpoint" in text else None
            at = moment(dated[1]) if dated else None
            if at is not None:
                found |= dict.fromkeys(re.findall(r"tinker://[^\s'\"}]+", text), at)
    return found


# --- checkpoint folders -----------------------------------------------------------------------

STEP_FOLDER = re.compile(r"^(?P<root>(?:.*/)?)(?P<tmp>tmp-)?checkpoint-(?P<step>\d+)/(?P<rest>.+)$")
FULL_WEIGHTS = re.compile(
    r"^(model|pytorch_model|consolidated)[^/]*\.(safetensors|bin|pth)$|\.distcp$|\.(?:gguf)$"
)
ADAPTER_WEIGHTS = re.compile(r"^adapter(s|_model)[^/]*\.(safetensors|bin|pt)$")


@dataclass
class Folder:
    """A `checkpoint-N` folder: its step, and the parts of a complete save that it holds."""

    path: str
    step: int
    temporary: bool
    files: set[str] = field(default_factory=set)
    modified: float = 0.0

    @property
    def weights(self) -> bool:
        """Say whether weights are there, whole, as adapter, or in a sharded form."""
        return any(
            FULL_WEIGHTS.search(f.rpartition("/")[2])
            or ADAPTER_WEIGHTS.match(f.rpartition("/")[2])
            or f.startswith(("global_step", "pytorch_model_fsdp"))
            for f in self.files
        )

    def holds(self, *names: str) -> bool:
        """Say whether one of the files is there (a name may end in `*`)."""
        return any(
            f == n or (n.endswith("*") and f.startswith(n[:-1])) for f in self.files for n in names
        )


def step_folders(sources: Iterable[Source]) -> list[Folder]:
    """Return the `checkpoint-N` folders by step."""
    found: dict[str, Folder] = {}
    for source in sources:
        match = STEP_FOLDER.match(source.path)
        if match is None:
            continue
        path = source.path[: match.start("rest") - 1]
        temporary = match["tmp"] is not None
        folder = found.setdefault(path, Folder(path, int(match["step"]), temporary))
        folder.files.add(match["rest"])
        folder.modified = max(folder.modified, source.modified or 0.0)
    return sorted(found.values(), key=lambda f: (f.step, f.path))


def folder_facts(sources: Sequence[Source]) -> Iterator[Fact]:
    """Yield the inventory of checkpoint folders, and those whose save was interrupted."""
    folders = step_folders(sources)
    for folder in folders:
        parts = {
            "step": folder.step,
            "weights": folder.weights,
            "optimizer": folder.holds("optimizer.*", "global_step*", "optimizer_*"),
            "scheduler": folder.holds("scheduler.*", "global_step*"),
            "rng": folder.holds("rng_state*", "random_states*"),
            "trainer_state": folder.holds("trainer_state.json"),
        }
        yield Fact("checkpoint.folder", parts, Where(folder.path))
    kept = [f for f in folders if not f.temporary]
    if kept:
        yield Fact("checkpoint.steps", sorted({f.step for f in kept}), Where(kept[-1].path))
        yield Fact("checkpoint.last_step", kept[-1].step, Where(kept[-1].path))
    for folder in folders:
        if folder.temporary:
            yield Fact("checkpoint.interrupted_save", folder.path, Where(folder.path))
    # The Trainer writes trainer_state.json last: weights without it, where a sibling has both,
    # are a save that was cut off. Folders that hold no weights were not copied.
    whole = [f for f in kept if f.weights and f.holds("trainer_state.json")]
    for folder in kept:
        cut = folder.weights and not folder.holds("trainer_state.json")
        if cut and any(w.path.rpartition("/")[0] == folder.path.rpartition("/")[0] for w in whole):
            yield Fact("checkpoint.interrupted_save", folder.path, Where(folder.path))


OUTPUT_WEIGHTS = re.compile(r"^(?:adapter_model|model|pytorch_model)[^/]*\.(?:safetensors|bin)$")
OUTPUT_MARKS = ("trainer_state.json", "training_args.bin", "adapter_config.json")


def age_facts(sources: Sequence[Source]) -> Iterator[Fact]:
    """Yield when the newest weights were written, of folders that the Trainer marked as output."""
    marked = {folder_of(s.path) for s in sources if s.name in OUTPUT_MARKS}
    dated = [
        (source.modified, source.path)
        for source in sources
        if OUTPUT_WEIGHTS.match(source.name) and folder_of(source.path) in marked
        if source.modified
    ]
    if dated:
        modified, path = max(dated)
        yield Fact("weights.modified", modified, Where(path))


# --- exports ----------------------------------------------------------------------------------

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model",
    "sentencepiece.bpe.model", "tekken.json", "tiktoken.model", "qwen.tiktoken",
)  # fmt: skip


PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


def export_facts(sources: Sequence[Source]) -> Iterator[Fact]:
    """Yield which files that loaders ask for are missing beside full weights, and beside GGUF."""
    folders: dict[str, list[Source]] = {}
    for source in sources:
        folders.setdefault(folder_of(source.path), []).append(source)
    for folder, held in sorted(folders.items()):
        names = {source.name for source in held}
        if CHECKPOINT.search(folder) or "global_step" in folder:
            continue
        full = [n for n in names if re.match(r"(model|pytorch_model)[^/]*\.(safetensors|bin)$", n)]
        ggufs = [n for n in names if n.endswith(".gguf") and "mmproj" not in n]
        where = Where(folder or ".")
        prefix = f"{folder}/" if folder else ""
        if full:
            yield Fact("export.missing_files", _missing_beside(names), where)
            yield Fact("export.weights", min(full), Where(prefix + min(full)))
            if "adapter_config.json" in names:
                place = Where(f"{prefix}adapter_config.json")
                yield Fact("export.adapter_beside_weights", True, place)
            if _sees_images(held):
                there = sorted(names.intersection(PROCESSOR_FILES))
                yield Fact("export.processor_files", there, Where(f"{prefix}config.json"))
        elif ggufs and not any(ADAPTER_WEIGHTS.match(n) for n in names):
            yield Fact("export.gguf_missing_files", _missing_beside(names), where)


def _sees_images(held: Sequence[Source]) -> bool:
    """Say whether config.json is that of a model with a vision part."""
    configs = (s for s in held if s.name == "config.json" and s.size < 4 << 20)
    return any(b'"vision_config"' in source.head(4 << 20) for source in configs)


def _missing_beside(names: set[str]) -> list[str]:
    missing = [n for n in ("config.json", "tokenizer_config.json") if n not in names]
    if not names.intersection(TOKENIZER_FILES):
        missing.append("tokenizer.json")
    if "generation_config.json" not in names:
        missing.append("generation_config.json")
    return missing


# --- the whole run ----------------------------------------------------------------------------


def survey(sources: Sequence[Source]) -> Reading:
    """Return the facts that need several files of the run at once; never raises on bad content."""
    facts: list[Fact] = []
    problems: list[str] = []
    for part in (expiry_facts, folder_facts, age_facts, export_facts, weight_set_facts):
        try:
            facts += part(sources)
        except OSError as error:
            problems.append(str(error))
    return Reading(reason="; ".join(problems), facts=tuple(facts))
