"""W&B run folders: config.yaml, wandb-summary.json, wandb-metadata.json, the binary .wandb log."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read import protobuf
from ftdoctor.read.console import read_console
from ftdoctor.read.jsontext import loads
from ftdoctor.read.located import YAML_LIMIT, check_aliases
from ftdoctor.read.metrics_jsonl import row_of
from ftdoctor.read.numeric import number, numbers, whole
from ftdoctor.read.reading import MetricRow, Reading, flatten
from ftdoctor.read.source import Source, memory_source
from ftdoctor.read.tensorboard import AGGREGATES, model_facts

HEADER = b":W&B\xe1\xbe\x00"
BLOCK = 32_768
RECORD_LIMIT = 64 << 20  # bytes of one record
OUTPUT_LIMIT = 64 << 20  # bytes of the console text kept in a .wandb file
ROW_LIMIT = 2_000_000  # history rows of one file
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_VERSIONS = {"cli_version": "wandb", "huggingface_version": "transformers"}
_FLOAT = re.compile(r"[-+]?\d+(?:\.\d*)?[eE][-+]?\d+")  # PyYAML reads `1e-4` as text


# --- the text files ---------------------------------------------------------------------------


def read_config(source: Source) -> Reading:
    """Read config.yaml: settings as given to wandb.init and by integrations, and versions."""
    text = source.text(YAML_LIMIT)
    try:
        if node := yaml.compose(text):
            check_aliases(node)
        data = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        place = getattr(error, "problem_mark", None)
        at = f" in line {place.line + 1}" if place else ""
        return Reading(ArtifactState.DAMAGED, f"not valid YAML{at}: the file was cut or edited")
    if not isinstance(data, dict):
        return Reading(ArtifactState.DAMAGED, "no keys: the file was cut")
    lines = {m[1]: text.count("\n", 0, m.start()) + 1
             for m in re.finditer(r"(?m)^(\S[^:\n]*):", text)}  # fmt: skip
    config = {key: _plain(value) for key, value in data.items()}
    own = config.pop("_wandb", None)
    config.pop("wandb_version", None)
    settings = [
        Fact(fact.name, _number(fact.value), _at(fact, lines, source.path))
        for fact in flatten({str(k): v for k, v in config.items()}, source.path)
    ]
    facts = _versions(own, Where(source.path, line=lines.get("_wandb")))
    facts += model_facts(config, source.path)
    return Reading(taken=f"{len(settings)} settings", settings=tuple(settings), facts=tuple(facts))


def _plain(value: Any) -> Any:
    """Unwrap `{desc: …, value: …}`."""
    if isinstance(value, dict) and "value" in value and set(value) <= {"value", "desc"}:
        return value["value"]
    return value


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) and _FLOAT.fullmatch(value) else value


def _at(fact: Fact, lines: Mapping[str, int], path: str) -> Where:
    line = lines.get(fact.name.partition(".")[0]) or lines.get(fact.name)
    return Where(path, line=line) if line else fact.where


def _versions(own: Any, where: Where) -> list[Fact]:
    if not isinstance(own, dict):
        return []
    facts = [
        Fact(f"environment.package.{package}", str(own[key]), where)
        for key, package in _VERSIONS.items()
        if own.get(key)
    ]
    if own.get("python_version"):
        facts.append(Fact("environment.python", str(own["python_version"]), where))
    return facts


def read_summary(source: Source) -> Reading:
    """Read wandb-summary.json: the last value of every metric, as `summary.*` facts."""
    try:
        data = loads(source.text())
    except ValueError as error:
        return Reading(ArtifactState.DAMAGED, f"not valid JSON ({error}): the file was cut")
    if not isinstance(data, dict):
        return Reading(taken="nothing: not an object")
    where = Where(source.path, line=1)
    values = {k: v for k, v in numbers(data).items() if not k.startswith("_wandb/")}
    # Quoted "NaN" is a number here too.
    facts = [
        Fact(f"summary.{k.removeprefix('train/') if k in AGGREGATES else k}", value, where)
        for k, value in values.items()
    ]
    step = whole(data.get("train/global_step"))
    if step is not None:
        facts.append(Fact("progress.global_step", step, where))
    if "train/train_runtime" in values:
        facts.append(Fact("progress.finished", True, where))
    return Reading(taken=f"{len(values)} values", facts=tuple(facts))


def read_metadata(source: Source) -> Reading:
    """Read wandb-metadata.json: machine, program, and its arguments as settings."""
    try:
        data = loads(source.text())
    except ValueError as error:
        return Reading(ArtifactState.DAMAGED, f"not valid JSON ({error}): the file was cut")
    if not isinstance(data, dict):
        return Reading(taken="nothing: not an object")
    where = Where(source.path)
    named = (
        ("environment.gpu", data.get("gpu")),
        ("environment.gpu_count", whole(data.get("gpu_count"))),
        ("environment.python", str(data.get("python", "")).removeprefix("CPython ") or None),
        ("environment.os", data.get("os")),
        ("environment.host", data.get("host")),
        ("run.program", data.get("program")),
    )
    facts = [Fact(name, value, where) for name, value in named if value]
    settings = _arguments(data.get("args"), source.path)
    return Reading(
        taken=f"{len(facts)} facts, {len(settings)} arguments",
        facts=tuple(facts),
        settings=tuple(settings),
    )


def _arguments(raw: Any, path: str) -> list[Fact]:
    """Return `--key value`, `--key=value` and bare `--key` as settings."""
    words = [str(word) for word in raw] if isinstance(raw, list) else []
    settings = []
    for index, word in enumerate(words):
        if not word.startswith("--"):
            continue
        name, equals, value = word[2:].partition("=")
        if not equals:
            following = words[index + 1] if index + 1 < len(words) else "--"
            value = "true" if following.startswith("--") else following
        parsed = yaml.safe_load(value) if re.fullmatch(r"[\w.+-]+", value) else value
        where = Where(path, pointer=f"/args/{index}")
        settings.append(Fact(name, _number(parsed), where))
    return settings


# --- the binary log ---------------------------------------------------------------------------


def read_binary(source: Source) -> Reading:
    """Read run-<id>.wandb: history, configuration, console output and exit code.

    No exit record means that the process was killed or is still running: fact
    `log.exit_recorded` is then false.
    """
    if source.size <= len(HEADER):
        return Reading(ArtifactState.DAMAGED, "empty: the run was stopped before anything was kept")
    if source.head(4) != HEADER[:4]:
        return Reading(ArtifactState.DAMAGED, "no W&B log: the first bytes are not `:W&B`")
    log = _Log(source.path)
    problem = ""
    try:
        for record in _records(source):
            log.record(record)
    except ValueError as error:
        problem = str(error)
    return log.reading(problem)


class _Log:
    """Gathers what the records of one run hold."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._rows: list[MetricRow] = []
        self._settings: dict[str, Fact] = {}
        self._facts: list[Fact] = []
        self._output: list[bytes] = []
        self._output_size = 0
        self._exit: int | None = None
        self._records = 0

    def record(self, data: bytes) -> None:
        """Take one Record message; field numbers from wandb/proto/wandb_internal.proto."""
        self._records += 1
        for field, _, value in protobuf.fields(data):
            if not isinstance(value, bytes):
                continue
            if field == 2:
                self._history(value)
            elif field == 5:
                self._config(value)
            elif field == 13:
                self._printed(value)
            elif field == 17:
                for inner, _, content in protobuf.fields(value):
                    if inner == 4 and isinstance(content, bytes):
                        self._config(content)
            elif field == 18:
                codes = [v for n, _, v in protobuf.fields(value) if n == 1]
                self._exit = protobuf.signed(codes[0]) if codes else 0
                self._exit -= 1 << 32 if self._exit > 1 << 31 else 0

    def _history(self, data: bytes) -> None:
        values = dict(_items(data))
        for name in AGGREGATES & values.keys():
            value = number(values.pop(name))
            if value is not None:
                key = name.removeprefix("train/")
                self._facts.append(Fact(f"summary.{key}", value, Where(self._path)))
                if key == "train_runtime":
                    self._facts.append(Fact("progress.finished", True, Where(self._path)))
        row = row_of(values, 0)
        if row is not None and len(self._rows) < ROW_LIMIT:
            self._rows.append(row)

    def _config(self, data: bytes) -> None:
        for name, value in _items(data, field=1):
            if name == "_wandb":
                if isinstance(value, dict):
                    self._facts += _versions(value, Where(self._path))
                continue
            for fact in flatten({name: value}, self._path):
                self._settings[fact.name] = Fact(fact.name, fact.value, Where(self._path))

    def _printed(self, data: bytes) -> None:
        for field, _, value in protobuf.fields(data):
            if field == 3 and isinstance(value, bytes) and self._output_size < OUTPUT_LIMIT:
                self._output.append(value)
                self._output_size += len(value)

    def reading(self, problem: str) -> Reading:
        """Return everything; console output passes through the console reader."""
        if not self._records:
            return Reading(ArtifactState.DAMAGED, problem or "no records")
        where = Where(self._path)
        facts = [*self._facts, Fact("log.exit_recorded", self._exit is not None, where)]
        if self._exit is not None:
            facts.append(Fact("log.exit_code", self._exit, where))
        facts += model_facts({f.name: f.value for f in self._settings.values()}, self._path)
        printed = read_console(memory_source(self._path, _joined(self._output)))
        # What the history holds is exact, the printed rows are the same ones rounded.
        metrics = tuple(self._rows) or printed.metrics
        return Reading(
            state=ArtifactState.PARTIAL if problem else ArtifactState.READ,
            reason=problem,
            taken=f"{len(metrics)} metric rows, {len(self._settings)} settings, "
            f"{len(printed.lines)} lines",
            metrics=metrics,
            events=printed.events,
            lines=printed.lines,
            settings=(*self._settings.values(), *printed.settings),
            facts=(*facts, *printed.facts),
            curve="wandb" if metrics else "",
        )


def _joined(pieces: list[bytes]) -> bytes:
    """Join output records: some versions keep line ends in them, some one line per record."""
    ended = sum(piece.endswith((b"\n", b"\r")) for piece in pieces)
    return (b"" if ended * 2 >= len(pieces) else b"\n").join(pieces)


def _items(data: bytes, field: int = 1) -> Iterator[tuple[str, Any]]:
    """Yield (name, value) of the items: key 1 or nested_key 2 (repeated), value_json 16."""
    for outer, _, item in protobuf.fields(data):
        if outer != field or not isinstance(item, bytes):
            continue
        names: list[str] = []
        value: Any = None
        for inner, _, content in protobuf.fields(item):
            if inner in (1, 2) and isinstance(content, bytes) and content:
                names.append(protobuf.text(content))
            elif inner == 16 and isinstance(content, bytes):
                try:
                    value = loads(content)
                except ValueError:
                    value = None
        if names:
            yield "/".join(names), value


def _records(source: Source) -> Iterator[bytes]:
    """Yield the records of a LevelDB log whose checksum is plain CRC-32 of type and payload."""
    parts: list[bytes] = []
    with source.open() as stream:
        start = 0
        while block := stream.read(BLOCK):
            at = len(HEADER) if start == 0 else 0
            while at + 7 <= len(block):
                check, length, kind = struct.unpack_from("<IHB", block, at)
                if kind == 0 and length == 0:
                    break
                payload = block[at + 7 : at + 7 + length]
                if len(payload) < length:
                    raise ValueError(f"cut at byte {start + at}: the process was stopped or killed")
                if zlib.crc32(bytes([kind]) + payload) != check:
                    raise ValueError(f"wrong checksum at byte {start + at}: the file is damaged")
                at += 7 + length
                if kind in (_FULL, _FIRST):
                    parts = []
                parts.append(payload)
                if sum(map(len, parts)) > RECORD_LIMIT:
                    raise ValueError(f"a record at byte {start + at} is too long")
                if kind in (_FULL, _LAST):
                    yield b"".join(parts)
                    parts = []
            start += len(block)
