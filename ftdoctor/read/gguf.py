"""Walk GGUF files of any version and byte order within bounds: metadata, vocabulary, tensors."""

from __future__ import annotations

import contextlib
import math
import mmap
import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read.reading import Reading, Tensor
from ftdoctor.read.safetensors import NAMES_SHOWN, value_facts
from ftdoctor.read.source import Source
from ftdoctor.read.tensor_values import affordable_stats

REMOTE_LIMIT = 32 << 20  # bytes of header fetched when the file is not on this machine
KEY_LIMIT = 65_535  # bytes of a key, by the format's description
PAIR_LIMIT = 100_000  # key-value pairs; real files hold fewer than 100
TENSOR_LIMIT = 500_000  # tensors of one file
DEPTH_LIMIT = 4  # nesting of arrays
ELEMENTS_KEPT = 4096  # elements kept of an array that is not the vocabulary
WHOLE_LIMIT = 64 << 20  # bytes of float tensors tested value by value

# Type id → (name, values per block, bytes per block); a test holds it to gguf.GGML_QUANT_SIZES.
GGML_TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4),
    27: ("I64", 1, 8), 28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}  # fmt: skip

# general.file_type; https://github.com/ggml-org/llama.cpp include/llama.h, enum llama_ftype
FILE_TYPES: Mapping[int, str] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K",
    11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S",
    17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS",
    23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M",
    30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4",
    40: "Q1_0",
}  # fmt: skip

# Token texts that llama.cpp ends generation on whatever eos_token_id says (src/llama-vocab.cpp,
# ggml-org/llama.cpp@0c1e57098).
AUTO_END_TEXTS = frozenset({
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>",
    "<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]",
    "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>",
    "<｜end▁of▁sentence｜>", "[e~[",
})  # fmt: skip

TOKEN_TYPES: Mapping[int, str] = {
    1: "normal", 2: "unknown", 3: "control", 4: "user-defined", 5: "unused", 6: "byte",
}  # fmt: skip

_SCALARS: Mapping[int, tuple[str, int]] = {
    0: ("B", 1), 1: ("b", 1), 2: ("H", 2), 3: ("h", 2), 4: ("I", 4), 5: ("i", 4), 6: ("f", 4),
    7: ("?", 1), 10: ("Q", 8), 11: ("q", 8), 12: ("d", 8),
}  # fmt: skip
_STRING, _ARRAY = 8, 9
_TOKENS_KEY = "tokenizer.ggml.tokens"
_SPECIAL_KEYS = {
    "bos": "bos_token_id", "eos": "eos_token_id", "eot": "eot_token_id", "eom": "eom_token_id",
    "pad": "padding_token_id", "unk": "unknown_token_id",
}  # fmt: skip


class _DamageError(Exception):
    """The walk cannot go on: what is wrong."""

    def __init__(self, problem: str, form: str, missing: int = 0) -> None:
        super().__init__(problem)
        self.problem, self.form, self.missing = problem, form, missing


@dataclass(frozen=True, slots=True)
class StringArray:
    """An array of strings inside the file: the offset of each element's length field."""

    positions: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.positions)


@dataclass
class GgufFile:
    """What the walk found; `problem` is "" if the file is sound."""

    version: int = 0
    byte_order: str = "<"
    tensor_count: int = 0
    values: dict[str, Any] = field(default_factory=dict)
    tensors: list[Tensor] = field(default_factory=list)
    alignment: int = 32
    data_start: int = 0
    problem: str = ""
    form: str = ""
    missing_bytes: int = 0
    lost: tuple[str, ...] = ()
    unknown_types: tuple[int, ...] = ()
    tokens_at: tuple[int, ...] = ()
    end_texts: dict[str, int] = field(default_factory=dict)
    special_texts: dict[int, str] = field(default_factory=dict)


def read_gguf(source: Source) -> Reading:
    """Read metadata, vocabulary facts and the tensor table; test float tensors for NaN and Inf."""
    file = walk(source)
    if file.form == "lfs-pointer":
        facts: tuple[Fact, ...] = (Fact("weights.lfs_pointer", source.size, Where(source.path)),)
        return Reading(ArtifactState.SKIPPED, file.problem, facts=facts)
    found = [*_file_facts(source, file), *_vocabulary_facts(source.path, file)]
    if file.tensors:
        with contextlib.suppress(OSError):
            floats = [t for t in file.tensors if t.dtype in ("F32", "F16", "BF16", "F64")]
            if floats and file.byte_order == "<":
                found += value_facts(source.path, affordable_stats(source, floats, WHOLE_LIMIT))
    return Reading(
        state=ArtifactState.DAMAGED if file.form else ArtifactState.READ,
        reason=file.problem,
        taken=f"{len(file.tensors):,} tensors, {len(file.tokens_at):,} tokens",
        facts=tuple(found),
        tensors=tuple(file.tensors),
    )


def walk(source: Source) -> GgufFile:
    """Walk header, key-value pairs and tensor table; never raises on bad content.

    Local files are mapped, so a 150,000-token vocabulary costs one pass over its length fields;
    others are read up to REMOTE_LIMIT.
    """
    file = GgufFile()
    try:
        with _buffer(source) as buffer:
            _Walk(buffer, source.size, file).run()
    except _DamageError as damage:
        file.problem, file.form = damage.problem, damage.form
        file.missing_bytes = damage.missing
    except (OSError, ValueError) as error:
        file.problem, file.form = f"cannot be read: {error}", "unreadable"
    return file


@contextlib.contextmanager
def _buffer(source: Source) -> Iterator[mmap.mmap | bytes]:
    if source.size == 0:
        raise _DamageError("the file is empty (0 bytes); convert or copy it again", "empty")
    if source.local is None:
        yield source.head(REMOTE_LIMIT)
        return
    with (
        source.local.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        yield mapped


class _Walk:
    """A cursor over the buffer that checks every length against what is left."""

    def __init__(self, buffer: mmap.mmap | bytes, size: int, file: GgufFile) -> None:
        self.buffer = buffer
        self.end = len(buffer)
        self.size = size
        self.file = file
        self.at = 0
        self.place = "the header"

    def run(self) -> None:
        self.header()
        pairs = self.length()
        if pairs > PAIR_LIMIT:
            raise _DamageError(
                f"announces {pairs:,} metadata pairs: not a GGUF header", "bad-header"
            )
        for number in range(pairs):
            self.place = f"metadata pair {number + 1} of {pairs}"
            key = self.string(KEY_LIMIT)
            self.place = f"`{key[:60]}`, metadata pair {number + 1} of {pairs}"
            kind = self.number("I", 4)
            if key == _TOKENS_KEY and kind == _ARRAY:
                self.tokens()
            else:
                self.file.values[key] = self.value(kind, 0)
        self.special_texts()
        self.tensor_table()

    def header(self) -> None:
        magic = bytes(self.buffer[:4])
        if bytes(self.buffer[:23]) == b"version https://git-lfs":
            raise _DamageError("this is a Git LFS pointer; run `git lfs pull`", "lfs-pointer")
        if magic != b"GGUF":
            what = {b"ggjt": "the older GGML", b"tjgg": "the older GGML", b"PK\x03\x04": "a zip"}
            old = what.get(magic, "no GGUF at all" if any(magic) else "only zero bytes")
            raise _DamageError(
                f"does not begin with GGUF: this is {old}; convert again", "bad-magic"
            )
        self.at = 4
        version = self.number("I", 4)
        if version > 0xFFFF:
            self.file.byte_order = ">"
            self.at = 4
            version = self.number("I", 4)
        self.file.version = version
        if not 1 <= version <= 3:
            raise _DamageError(f"GGUF version {version} is not known (1 to 3 are)", "bad-version")
        self.file.tensor_count = self.length()

    def number(self, code: str, width: int) -> Any:
        if self.at + width > self.end:
            raise self.cut()
        (value,) = struct.unpack_from(self.file.byte_order + code, self.buffer, self.at)
        self.at += width
        return value

    def length(self) -> int:
        """Read a count or length: 32 bits in version 1, 64 after."""
        return int(self.number("I", 4) if self.file.version == 1 else self.number("Q", 8))

    def string(self, limit: int) -> str:
        length = self.length()
        if length > limit:
            raise self.cut() if length > self.end - self.at else self.absurd(length)
        if length > self.end - self.at:
            raise self.cut(length)
        raw = bytes(self.buffer[self.at : self.at + length])
        self.at += length
        return raw.decode("utf-8", errors="replace")

    def value(self, kind: int, depth: int) -> Any:
        if kind in _SCALARS:
            return self.number(*_SCALARS[kind])
        if kind == _STRING:
            return self.string(self.size)
        if kind != _ARRAY or depth > DEPTH_LIMIT:
            raise _DamageError(
                f"value type {kind} at {self.place} is not known: damaged, or a newer format",
                "bad-type",
            )
        element, count = self.number("I", 4), self.length()
        if element in _SCALARS:
            code, width = _SCALARS[element]
            if count * width > self.end - self.at:
                raise self.cut(count * width)
            kept = min(count, ELEMENTS_KEPT) if element not in (4, 5) else count
            found = struct.unpack_from(f"{self.file.byte_order}{kept}{code}", self.buffer, self.at)
            self.at += count * width
            return found
        if element == _STRING:
            return StringArray(tuple(self.skip_strings(count)))
        if count > self.end - self.at:
            raise self.cut()
        return [self.value(element, depth + 1) for _ in range(min(count, ELEMENTS_KEPT))]

    def skip_strings(self, count: int) -> list[int]:
        """Pass over strings and return where each begins; bounded by what the file can hold."""
        narrow = self.file.version == 1
        width = 4 if narrow else 8
        if count * width > self.end - self.at:
            raise self.cut()
        read = struct.Struct(self.file.byte_order + ("I" if narrow else "Q")).unpack_from
        buffer, at, last = self.buffer, self.at, self.end - width
        positions: list[int] = []
        for _ in range(count):
            if at > last:
                raise self.cut()
            positions.append(at)
            at += width + read(buffer, at)[0]
        if at > self.end:
            raise self.cut()
        self.at = at
        return positions

    def tokens(self) -> None:
        """Index the vocabulary and find the ids of texts that end generation."""
        if self.number("I", 4) != _STRING:
            raise _DamageError("the vocabulary is not a list of texts", "bad-type")
        positions = self.skip_strings(self.length())
        self.file.tokens_at = tuple(positions)
        width = 4 if self.file.version == 1 else 8
        wanted = {text.encode(): text for text in AUTO_END_TEXTS}
        lengths = {len(raw) for raw in wanted}
        ends = [*positions[1:], self.at]
        for number, (start, end) in enumerate(zip(positions, ends, strict=True)):
            if end - start - width in lengths:
                text = wanted.get(bytes(self.buffer[start + width : end]))
                if text is not None:
                    self.file.end_texts.setdefault(text, number)

    def token(self, number: int) -> str | None:
        if not 0 <= number < len(self.file.tokens_at):
            return None
        self.at, back = self.file.tokens_at[number], self.at
        text = self.string(self.size)
        self.at = back
        return text

    def special_texts(self) -> None:
        for key in _SPECIAL_KEYS.values():
            number = self.file.values.get(f"tokenizer.ggml.{key}")
            if not isinstance(number, int):
                continue
            text = self.token(number)
            if text is not None:
                self.file.special_texts[number] = text

    def tensor_table(self) -> None:
        file = self.file
        file.alignment = _positive(file.values.get("general.alignment"), 32)
        if file.tensor_count > TENSOR_LIMIT:
            raise _DamageError(f"announces {file.tensor_count:,} tensors", "bad-header")
        unknown: list[int] = []
        for number in range(file.tensor_count):
            self.place = f"tensor entry {number + 1} of {file.tensor_count:,}"
            name = self.string(KEY_LIMIT)
            dimensions = self.number("I", 4)
            if dimensions > 8:
                raise _DamageError(f"`{name[:60]}` has {dimensions} dimensions", "bad-entry")
            shape = tuple(self.length() for _ in range(dimensions))[::-1]
            kind, offset = self.number("I", 4), self.number("Q", 8)
            dtype, nbytes = _type_and_size(kind, shape)
            if nbytes < 0:
                unknown.append(kind)
            file.tensors.append(Tensor(name, dtype, shape, offset, max(nbytes, 0)))
        file.unknown_types = tuple(sorted(set(unknown)))
        file.data_start = -(-self.at // file.alignment) * file.alignment
        file.tensors = [replace(t, offset=t.offset + file.data_start) for t in file.tensors]
        self.check_data()

    def check_data(self) -> None:
        file = self.file
        names = Counter(t.name for t in file.tensors)
        twice = [name for name, count in names.items() if count > 1]
        if twice:
            raise _DamageError(f"tensor `{twice[0]}` is listed twice", "duplicate-tensor")
        reach = max((t.offset + t.nbytes for t in file.tensors), default=0)
        if reach > self.size:
            file.lost = tuple(t.name for t in file.tensors if t.offset + t.nbytes > self.size)
            raise _DamageError(
                f"ends {reach - self.size:,} bytes early: {len(file.lost)} of "
                f"{len(file.tensors)} tensors are cut or gone; copy or convert the file again",
                "truncated",
                reach - self.size,
            )

    def cut(self, need: int = 0) -> _DamageError:
        if self.end < self.size:
            return _DamageError(
                f"the header is longer than the {self.end:,} bytes read of it", "unreadable"
            )
        missing = max(1, need - (self.end - self.at))
        return _DamageError(
            f"cut inside {self.place}: the file ends at byte {self.size:,}; "
            "copy or convert the file again",
            "truncated-header",
            missing,
        )

    def absurd(self, length: int) -> _DamageError:
        return _DamageError(f"a name of {length:,} bytes at {self.place}", "bad-header")


def _positive(value: Any, default: int) -> int:
    return value if isinstance(value, int) and 0 < value <= 1 << 20 else default


def _type_and_size(kind: int, shape: tuple[int, ...]) -> tuple[str, int]:
    """Return the type's name and the tensor's size in bytes, −1 if the type is not known."""
    if kind not in GGML_TYPES:
        return f"type-{kind}", -1
    name, block, size = GGML_TYPES[kind]
    return name, -(-math.prod(shape) // block) * size


def _file_facts(source: Source, file: GgufFile) -> Iterator[Fact]:
    where = Where(source.path)
    values = file.values
    architecture = str(values.get("general.architecture", ""))
    simple = {
        "gguf.version": file.version or None,
        "gguf.byte_order": "big" if file.byte_order == ">" else None,
        "gguf.architecture": architecture or None,
        "gguf.name": values.get("general.name"),
        "gguf.type": values.get("general.type"),
        "gguf.file_type": FILE_TYPES.get(values.get("general.file_type", -1)),
        "gguf.base_model": values.get("general.base_model.0.name"),
        "gguf.context_length": values.get(f"{architecture}.context_length"),
        "gguf.block_count": values.get(f"{architecture}.block_count"),
        "gguf.rope_freq_base": values.get(f"{architecture}.rope.freq_base"),
        "gguf.rope_scaling": values.get(f"{architecture}.rope.scaling.type"),
        "gguf.adapter_type": values.get("adapter.type"),
        "gguf.lora_alpha": values.get("adapter.lora.alpha"),
        "gguf.split_no": values.get("split.no"),
        "gguf.split_count": values.get("split.count"),
        "gguf.imatrix": values.get("quantize.imatrix.file"),
    }
    for name, value in simple.items():
        if value is not None and not isinstance(value, StringArray):
            yield Fact(name, value, where)
    if file.form:
        yield Fact("gguf.damage", file.problem, where)
        yield Fact("gguf.damage_form", file.form, where)
        yield Fact("weights.damage", file.problem, where)
        yield Fact("weights.damage_form", file.form, where)
    if file.missing_bytes:
        yield Fact("weights.truncated_bytes", file.missing_bytes, where)
    if file.lost:
        place = Where(source.path, tensor=file.lost[0])
        yield Fact("weights.lost_tensors", list(file.lost[:NAMES_SHOWN]), place)
    if file.unknown_types:
        yield Fact("gguf.unknown_types", list(file.unknown_types), where)
    if not file.form or file.tensors:
        yield Fact("gguf.tensor_count", file.tensor_count, where)
    yield from _tensor_facts(source.path, file)


def _tensor_facts(path: str, file: GgufFile) -> Iterator[Fact]:
    """Yield what only files with tensors show: missing blocks, bits per weight, embedding rows."""
    if not file.tensors:
        return
    where = Where(path)
    yield Fact("gguf.types", dict(Counter(t.dtype for t in file.tensors).most_common()), where)
    weights = sum(math.prod(t.shape) for t in file.tensors)
    stored = sum(t.nbytes for t in file.tensors)
    if weights and not file.unknown_types:
        yield Fact("gguf.bits_per_weight", round(8 * stored / weights, 2), where)
        yield Fact("gguf.parameters", weights, where)
    table = next((t for t in file.tensors if t.name == "token_embd.weight"), None)
    if table is not None and len(table.shape) == 2:
        place = Where(path, tensor=table.name)
        yield Fact("gguf.embedding_rows", table.shape[0], place)
    blocks = {int(m[1]) for t in file.tensors if (m := re.match(r"blk\.(\d+)\.", t.name))}
    architecture = file.values.get("general.architecture")
    announced = file.values.get(f"{architecture}.block_count")
    if isinstance(announced, int) and "split.count" not in file.values and blocks:
        gone = [n for n in range(min(announced, 10_000)) if n not in blocks]
        if gone and file.values.get("general.type", "model") == "model":
            yield Fact("gguf.missing_blocks", gone[:NAMES_SHOWN], where)


def _vocabulary_facts(path: str, file: GgufFile) -> Iterator[Fact]:
    where = Where(path)
    values = file.values
    for name in ("pre", "model"):
        value = values.get(f"tokenizer.ggml.{name}")
        if isinstance(value, str):
            yield Fact(f"gguf.{'tokenizer_model' if name == 'model' else name}", value, where)
    if file.tokens_at:
        yield Fact("gguf.vocab_size", len(file.tokens_at), where)
    types = values.get("tokenizer.ggml.token_type")
    types = types if isinstance(types, tuple) else ()
    for short, key in _SPECIAL_KEYS.items():
        number = values.get(f"tokenizer.ggml.{key}")
        if not isinstance(number, int):
            continue
        yield Fact(f"gguf.{short}_token_id", number, where)
        if number in file.special_texts:
            yield Fact(f"gguf.{short}_token", file.special_texts[number], where)
        elif file.tokens_at:
            yield Fact(f"gguf.{short}_out_of_range", number, where)
    for flag in ("add_bos_token", "add_eos_token"):
        if isinstance(values.get(f"tokenizer.ggml.{flag}"), bool):
            yield Fact(f"gguf.{flag}", values[f"tokenizer.ggml.{flag}"], where)
    template = values.get("tokenizer.chat_template")
    if isinstance(template, str):
        yield Fact("gguf.chat_template", template, Where(path, pointer="tokenizer.chat_template"))
    ends = {
        text: TOKEN_TYPES.get(types[number], "unknown") if number < len(types) else ""
        for text, number in file.end_texts.items()
    }
    if ends:
        yield Fact("gguf.end_texts", ends, where)
