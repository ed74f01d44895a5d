"""TensorBoard event files, walked record by record without TensorFlow or TensorBoard.

Record: u64 length, u32 CRC of it, payload, u32 CRC of that. Event: 1 wall_time, 2 step, 5 summary.
Summary.Value: 1 tag, 2 simple_value, 8 tensor (dtype 1, shape 2, content 4, float 5, double 6,
string 8) as in tensorflow/core/framework/summary.proto and tensor.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read import protobuf
from ftdoctor.read.jsontext import loads
from ftdoctor.read.reading import MetricRow, Reading, flatten
from ftdoctor.read.source import Source

RECORD_LIMIT = 64 << 20  # bytes; a record of scalars or text is far smaller, images are skipped
VALUE_LIMIT = 5_000_000  # values of one file
_FLOAT, _DOUBLE, _STRING = 1, 2, 7
# The Trainer logs the aggregates of its last row as scalars too; they are no points of a curve.
AGGREGATES = frozenset(
    {"train/train_runtime", "train/train_loss", "train/train_samples_per_second",
     "train/train_steps_per_second", "train/total_flos"}
)  # fmt: skip
_MODEL_FACTS = {
    "model_type": "model.type",
    "vocab_size": "model.vocab_size",
    "torch_dtype": "model.dtype",
    "dtype": "model.dtype",
    "eos_token_id": "model.eos_token_id",
    "max_position_embeddings": "model.max_position_embeddings",
    "tie_word_embeddings": "model.tie_word_embeddings",
    "transformers_version": "model.transformers_version",
    "num_hidden_layers": "model.hidden_layers",
}


def read_tensorboard(source: Source) -> Reading:
    """Read scalars of both styles, and the TrainingArguments that the HF Trainer writes as text."""
    gathered = _Gathered(source.path)
    problem = ""
    try:
        for payload in _records(source):
            gathered.event(payload)
            if gathered.count >= VALUE_LIMIT:
                break
    except ValueError as error:
        problem = str(error)
    gathered.flush()
    if not gathered.read and problem:
        return Reading(ArtifactState.DAMAGED, problem)
    return Reading(
        state=ArtifactState.PARTIAL if problem else ArtifactState.READ,
        reason=problem,
        taken=f"{gathered.count} values in {len(gathered.rows)} rows"
        + (", arguments" if gathered.settings else ""),
        metrics=tuple(gathered.rows),
        settings=tuple(gathered.settings),
        facts=tuple(gathered.facts),
        curve="tensorboard" if gathered.rows else "",
    )


class _Gathered:
    """Joins the scalars of one step into rows."""

    def __init__(self, path: str) -> None:
        self.rows: list[MetricRow] = []
        self.settings: list[Fact] = []
        self.facts: list[Fact] = []
        self.count = 0
        self.read = 0
        self._path = path
        self._step: int | None = None
        self._time = 0.0
        self._values: dict[str, float] = {}

    def event(self, payload: bytes) -> None:
        """Take one Event message."""
        time, step, summary = 0.0, 0, b""
        for number, wire, value in protobuf.fields(payload):
            if number == 1 and wire == protobuf.FIXED64:
                time = protobuf.as_double(value)
            elif number == 2 and wire == protobuf.VARINT:
                step = protobuf.signed(value)
            elif number == 5 and isinstance(value, bytes):
                summary = value
        self.read += 1
        for number, _, value in protobuf.fields(summary):
            if number == 1 and isinstance(value, bytes):
                self._value(value, step, time)

    def _value(self, data: bytes, step: int, time: float) -> None:
        tag = ""
        found: float | str | None = None
        for number, wire, value in protobuf.fields(data):
            if number == 1:
                tag = protobuf.text(value)
            elif number == 2 and wire == protobuf.FIXED32:
                found = protobuf.as_float(value)
            elif number == 8 and isinstance(value, bytes):
                found = _tensor(value)
        if isinstance(found, str):
            self._text(tag, found)
        elif found is not None:
            self._scalar(tag, found, step, time)

    def _scalar(self, tag: str, value: float, step: int, time: float) -> None:
        if tag in AGGREGATES:
            name = tag.partition("/")[2]
            self.facts.append(Fact(f"summary.{name}", value, Where(self._path)))
            if name == "train_runtime":
                self.facts.append(Fact("progress.finished", True, Where(self._path)))
            return
        if step != self._step or tag in self._values:
            self.flush()
        self._step, self._time = step, time
        self._values[tag] = value
        self.count += 1

    def _text(self, tag: str, text: str) -> None:
        stem = tag.removesuffix("/text_summary")
        if stem not in ("args", "model_config"):
            return
        try:
            value = loads(text)
        except ValueError:
            return
        if not isinstance(value, dict):
            return
        if stem == "args":
            self.settings += flatten(value, self._path)
        else:
            self.facts += model_facts(value, self._path)

    def flush(self) -> None:
        """Close the row of the current step."""
        if not self._values:
            return
        values = self._values
        epoch = values.pop("train/epoch", values.pop("epoch", None))
        if values:
            self.rows.append(MetricRow(values, 0, self._step, epoch, self._time or None))
        self._values = {}


def model_facts(config: dict[str, Any], path: str) -> list[Fact]:
    """Return the `model.*` facts of a model configuration that a tracker kept."""
    where = Where(path)
    facts = [
        Fact(name, config[key], where)
        for key, name in _MODEL_FACTS.items()
        if config.get(key) is not None
    ]
    architectures = config.get("architectures")
    if isinstance(architectures, list) and architectures:
        facts.append(Fact("model.architecture", architectures[0], where))
    return facts


def _records(source: Source) -> Iterator[bytes]:
    """Yield the payloads; ValueError tells where the file is cut or broken."""
    with source.open() as stream:
        offset = 0
        while head := stream.read(12):
            if len(head) < 12:
                raise ValueError(f"cut at byte {offset}: the writer was stopped inside a record")
            (length,) = struct.unpack("<Q", head[:8])
            if not length:  # an Event is never empty: it has its time
                raise ValueError(f"NUL bytes from byte {offset}: the machine went down")
            if length > source.size - offset - 16:
                raise ValueError(f"cut at byte {offset}: the record needs {length:,} bytes")
            if length > RECORD_LIMIT:
                stream.seek(length + 4, 1)
            else:
                yield stream.read(length)
                stream.read(4)
            offset += length + 16


def _tensor(data: bytes) -> float | str | None:
    dtype, floats, doubles, content, strings = 0, b"", b"", b"", None
    for number, wire, value in protobuf.fields(data):
        if number == 1 and isinstance(value, int):
            dtype = value
        elif isinstance(value, bytes):
            if number == 5:
                floats = floats or value
            elif number == 6:
                doubles = doubles or value
            elif number == 4:
                content = value
            elif number == 8 and wire == protobuf.BYTES and strings is None:
                strings = protobuf.text(value)
    if dtype == _STRING:
        return strings
    if dtype == _FLOAT and len(floats or content) == 4:
        return protobuf.as_float(floats or content)
    if dtype == _DOUBLE and len(doubles or content) == 8:
        return protobuf.as_double(doubles or content)
    return None
