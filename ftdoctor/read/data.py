"""Read training, evaluation and generation files: count every row, keep a deterministic sample."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, BinaryIO

from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read.class_columns import LOOKED_AT, class_columns
from ftdoctor.read.layout import (
    CONVERSATION_KEYS,
    PAIRS,
    PREFERENCE,
    Example,
    language_pair,
    understand,
)
from ftdoctor.read.reading import Reading, Record
from ftdoctor.read.source import Source, decode, encoding_of

SAMPLE = 5000  # rows kept; a share of 1 % then has a 95 % half-width of 0.3 points
MAX_ROWS = 1_000_000  # rows counted of one file
ROW_LIMIT = 4 << 20  # bytes of one JSONL row that are read; a longer one counts as invalid
ARRAY_LIMIT = 256 << 20  # bytes of a JSON array; it has to be held as a whole
SAMPLE_BYTES = 64 << 20  # bytes of all kept rows together
ENCODING_HEAD = 1 << 20  # bytes by which a file's encoding is judged
PLACES = 20  # line numbers kept of each kind of fault
LABEL_LIMIT = 80  # characters of an answer that can be a label
LABELS = 1000  # distinct answers counted before they are no labels any more

_ROW_KEYS = frozenset(
    [
        "input_ids",
        "text",
        "translation",
        *CONVERSATION_KEYS,
        *(k for pair in PREFERENCE for k in pair),
    ]
)
_PROMPT_KEYS = frozenset(["prompt", "instruction", "question", "query", "problem"])
_GENERATED_KEYS = frozenset(
    "prediction predictions predict predicted generated generated_text generation generations "  # noqa: SIM905
    "model_output model_response output_text finish_reason completion_text "
    "predicted_label pred_label y_pred".split()
)
_GENERATION_NAME = re.compile(
    r"(?:^|[_.-])(?:predict|generations|completions|(?:model_|eval_|test_)?outputs|responses|inference)"
    r"|^(?:(?:model_|test_)?(?:answers|replies)|generated)\."
)
_OUTPUTS = frozenset(["output", "outputs", "response", "completion"])
_REFERENCES = frozenset(
    ["reference", "expected", "expected_output", "reference_answer", "reference_output", "gold"]
)
_TRAINING_NAME = re.compile(r"train|sft|dataset|dpo|grpo|prompts")
_PYTHON_ROW = re.compile(
    r"^\s*\{'(?:messages|conversations|instruction|prompt|text|input|question)'"
)


def looks_like_rows(keys: frozenset[str]) -> bool:
    """Say whether these are the top keys of a training row."""
    if keys & _ROW_KEYS or language_pair(keys):
        return True
    return any(prompt in keys and response in keys for prompt, response in PAIRS) or (
        bool(keys & _PROMPT_KEYS) and len(keys) <= 12
    )


def looks_like_generations(name: str, keys: frozenset[str]) -> bool:
    """Say whether a file holds outputs of a model: by its keys, or by its name and row keys."""
    if keys & frozenset(CONVERSATION_KEYS):
        return False
    if keys & _GENERATED_KEYS:
        return True
    lowered = name.lower()
    if keys & _OUTPUTS and keys & _REFERENCES and not _TRAINING_NAME.search(lowered):
        return True  # what was answered beside what should have been
    return bool(_GENERATION_NAME.search(lowered)) and (
        looks_like_rows(keys) or bool(keys & {"output", "response", "completion", "completions"})
    )


def looks_like_python_rows(text: str) -> bool:
    """Say whether lines are Python dicts, which a JSON reader refuses."""
    return bool(_PYTHON_ROW.match(text))


# --- rows of a file ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """A row at its line; `problem` says why there is no value: blank, or what is wrong."""

    line: int
    value: Any = None
    problem: str = ""


BLANK = "blank line"
CUT = "the file ends inside this row: it was cut off"


def json_rows(source: Source) -> Iterator[Row]:
    """Yield the rows of JSON Lines, a JSON array, or objects that follow each other."""
    head = decode(source.head(1 << 16)).lstrip("\ufeff \t\r\n")
    if head.startswith("["):
        document = not head.startswith("[{'")
    else:
        document = not (
            _first_line_is_row(head) or head.startswith("{'") or _some_line_is_row(head)
        )
    yield from _document_rows(source) if document else _lines_as_rows(source)


def _first_line_is_row(head: str) -> bool:
    first, _, rest = head.partition("\n")
    if len(first) >= 1 << 15:
        return first.startswith("{")
    value = _loads(first)
    # A whole file on one line may be one document that holds the rows.
    return isinstance(value, dict) and (bool(rest.strip()) or _nested_rows(value) is None)


def _some_line_is_row(head: str) -> bool:
    lines = head.split("\n")[1:20]
    return any(isinstance(_loads(line), dict) for line in lines if line.strip().startswith('{"'))


def _loads(text: str | bytes) -> Any:
    """Parse JSON by the fast parser, NaN by the tolerant one; None if it is none."""
    import orjson

    try:
        return orjson.loads(text)
    except ValueError:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return None


def _lines_as_rows(source: Source) -> Iterator[Row]:
    with source.open() as stream:
        plain = encoding_of(stream.read(4)) != "utf-16"
    numbered = _byte_lines(source) if plain else ((n, t.encode()) for n, t in source.lines())
    held: Row | None = None
    for number, raw in numbered:
        if held is not None:
            yield held
            held = None
        row = _row_of_line(number, raw)
        if row.problem and row.problem != BLANK:
            held = row
        else:
            yield row
    if held is not None:
        yield Row(held.line, problem=CUT if _is_cut(source) else held.problem)


def _byte_lines(source: Source) -> Iterator[tuple[int, bytes]]:
    with source.open() as stream:
        number = 0
        while line := stream.readline(ROW_LIMIT):
            number += 1
            yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
            while line and not line.endswith(b"\n") and len(line) == ROW_LIMIT:
                line = stream.readline(ROW_LIMIT)


def _row_of_line(number: int, raw: bytes) -> Row:
    stripped = raw.strip(b"\0 \t\r\n")
    if not stripped:
        return Row(number, problem=BLANK)
    if len(raw) >= ROW_LIMIT and not raw.endswith(b"\n"):
        return Row(number, problem=f"longer than {ROW_LIMIT >> 20} MB")
    value = _loads(stripped)
    if isinstance(value, dict):
        return Row(number, value)
    if value is not None:
        return Row(number, problem=f"holds a {type(value).__name__}, not an object")
    if stripped.startswith(b"{'"):
        return Row(number, problem="is a Python dict, not JSON (single quotes)")
    return Row(number, problem="is not valid JSON")


def _is_cut(source: Source) -> bool:
    """Say whether a file ends without a line break, as a partial copy does."""
    if source.size == 0:
        return False
    with source.open() as stream:
        stream.seek(max(0, source.size - 1))
        return stream.read(1) not in (b"\n", b"\0")


def _document_rows(source: Source) -> Iterator[Row]:
    """Yield the rows of an array or of successive objects, with the line where each begins."""
    text = source.text(ARRAY_LIMIT).lstrip("\ufeff")
    start = len(text) - len(text.lstrip())
    if text[start : start + 1] == "[":
        yield from _values(text, start + 1)
        return
    first, _ = _raw(text, start)
    nested = _nested_rows(first) if isinstance(first, dict) else None
    if nested is not None:
        yield from (Row(index, value) for index, value in enumerate(nested, start=1))
    else:
        yield from _values(text, start)


def _nested_rows(document: dict[str, Any]) -> list[Any] | None:
    """Return the longest list of objects of a document like {"data": [...]}."""
    if looks_like_rows(frozenset(document)):
        return None
    lists = [v for v in document.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
    return max(lists, key=len) if lists else None


_DECODER = json.JSONDecoder()


def _raw(text: str, at: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None, -1


_SEPARATOR = re.compile(r"[\s,]*")


def _values(text: str, at: int) -> Iterator[Row]:
    line, counted = 1, 0
    while True:
        separator = _SEPARATOR.match(text, at)
        at = separator.end() if separator else at
        if at >= len(text) or text[at] == "]":
            return
        line += text.count("\n", counted, at)
        counted = at
        value, end = _raw(text, at)
        if end < 0:
            yield Row(line, problem=CUT if _unclosed(text, at) else "is not valid JSON")
            return
        problem = (
            "" if isinstance(value, dict) else f"holds a {type(value).__name__}, not an object"
        )
        yield Row(line, None if problem else value, problem)
        at = end


def _unclosed(text: str, at: int) -> bool:
    return text.rstrip()[-1:] not in ("]", "}") or text.count("{", at) > text.count("}", at)


def csv_rows(source: Source) -> Iterator[Row]:
    """Yield the rows of a table with a header line; the delimiter is told by the header."""
    csv.field_size_limit(ROW_LIMIT)
    with source.open() as raw:
        stream = io.TextIOWrapper(
            raw, encoding=encoding_of(source.head(4)), errors="replace", newline=""
        )
        header = decode(source.head(4096)).partition("\n")[0]
        delimiter = max(",\t;|", key=header.count)
        reader = csv.DictReader(stream, delimiter=delimiter)
        last = 1
        try:
            for row in reader:
                line, last = last + 1, reader.line_num
                if None in row or None in row.values():
                    yield Row(line, problem=f"has other columns than the header ({len(row)})")
                else:
                    yield Row(line, dict(row))
        except csv.Error as error:
            yield Row(last + 1, problem=f"cannot be parsed: {error}")


def parquet_rows(source: Source) -> Iterator[Row]:
    """Yield the rows of a Parquet file; numbers count rows from 1."""
    import polars as pl

    place: BinaryIO | Any = source.local or io.BytesIO(source.data(ARRAY_LIMIT))
    frame = pl.read_parquet(place, n_rows=MAX_ROWS)
    for number, row in enumerate(frame.iter_rows(named=True), start=1):
        yield Row(number, {k: v for k, v in row.items() if v is not None})


def text_rows(source: Source) -> Iterator[Row]:
    """Yield the lines of a plain text corpus."""
    for number, line in source.lines():
        yield Row(number, {"text": line}) if line.strip() else Row(number, problem=BLANK)


ROWS: dict[str, Callable[[Source], Iterator[Row]]] = {
    "data-json": json_rows,
    "data-csv": csv_rows,
    "data-parquet": parquet_rows,
    "data-text": text_rows,
}


def rows_of(source: Source, kind: str) -> Iterator[Row]:
    """Yield the rows of a file of one of the kinds `data-*`, or of a generations file."""
    if kind == "generations":
        kind = {"parquet": "data-parquet", "csv": "data-csv", "tsv": "data-csv"}.get(
            source.name.rpartition(".")[2].lower(), "data-json"
        )
    return islice(ROWS[kind](source), MAX_ROWS)


# --- counting ---------------------------------------------------------------------------------


@dataclass
class Census:
    """Counts over all rows of a file; `summary` is the value of the fact `data.file`."""

    classed: tuple[str, str] | None = None  # columns of text and label, told by their content
    rows: int = 0
    blank: int = 0
    invalid: list[tuple[int, str]] = field(default_factory=list)
    invalid_count: int = 0
    layouts: Counter[str] = field(default_factory=Counter)
    keys: dict[tuple[str, ...], list[int]] = field(default_factory=dict)
    types: dict[str, Counter[str]] = field(default_factory=dict)
    problems: dict[str, list[int]] = field(default_factory=dict)
    problem_counts: Counter[str] = field(default_factory=Counter)
    seen: dict[int, int] = field(default_factory=dict)
    duplicates: int = 0
    duplicate_lines: list[tuple[int, int]] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)
    answers: dict[int, list[int]] = field(default_factory=dict)

    def add(self, row: Row) -> Example | None:
        """Count one row; return it understood if it holds a value."""
        if row.problem == BLANK:
            self.blank += 1
            return None
        self.rows += 1
        if row.problem:
            self.invalid_count += 1
            if len(self.invalid) < PLACES:
                self.invalid.append((row.line, row.problem))
            return None
        example = understand(row.value, self.classed)
        self.layouts[example.layout] += 1
        for problem in example.problems:
            self.problem_counts[problem] += 1
            lines = self.problems.setdefault(problem, [])
            if len(lines) < PLACES:
                lines.append(row.line)
        self._shape(row)
        self._content(row, example)
        return example

    def _shape(self, row: Row) -> None:
        names = tuple(sorted(row.value))
        if names in self.keys or len(self.keys) < PLACES:
            self.keys.setdefault(names, [0, row.line])[0] += 1
        for name, value in row.value.items():
            counts = self.types.get(name)
            if counts is None and value is not None and len(self.types) < 100:
                counts = self.types[name] = Counter()
            if counts is not None and value is not None:
                counts[_json_type(value)] += 1

    def _content(self, row: Row, example: Example) -> None:
        whole = f"{example.prompt}\0{example.response}\0{example.text}"
        told = bool(whole.strip("\0"))
        if told and example.layout in ("kto", "preference"):
            whole += f"\0{example.rejected}\0{row.value.get('label')}"
        key = hash_of(whole if told else json.dumps(row.value, default=str)[:100_000])
        first = self.seen.setdefault(key, row.line)
        if first != row.line:
            self.duplicates += 1
            if len(self.duplicate_lines) < PLACES:
                self.duplicate_lines.append((first, row.line))
        if not example.response or example.layout == "preference":
            return
        answer = normalised(example.response)
        asked = "\0".join((normalised(example.prompt), *map(str, example.images)))
        group = self.answers.setdefault(hash_of(asked), [0, 0, 0, row.line])
        group[0] += 1
        hashed = hash_of(answer)
        group[1] = group[1] or hashed
        group[2] |= group[1] != hashed
        label = example.response.strip()
        if len(label) <= LABEL_LIMIT and (label in self.labels or len(self.labels) < LABELS):
            self.labels[label] += 1

    def summary(self) -> dict[str, Any]:
        """Return the counts as plain data."""
        mixed = [g for g in self.answers.values() if g[2]]
        only_prompts = self.layouts["prompt-only"] > self.rows / 2
        return {
            "rows": self.rows,
            "classed": self.classed,
            "blank": self.blank,
            "invalid": self.invalid_count,
            "invalid_lines": self.invalid,
            "layouts": dict(self.layouts.most_common()),
            "keys": [[list(k), c, line] for k, (c, line) in _by_count(self.keys)],
            "types": {k: dict(c) for k, c in self.types.items()},
            "problems": {
                name: [self.problem_counts[name], lines]
                for name, lines in self.problems.items()
                if not (only_prompts and name.startswith("missing-field"))
            },
            "duplicates": self.duplicates,
            "duplicate_lines": self.duplicate_lines,
            "labels": dict(self.labels.most_common(50)),
            "label_count": len(self.labels),
            "label_rows": sum(self.labels.values()),
            "conflicts": sum(g[0] for g in mixed),
            "conflict_lines": [g[3] for g in mixed[:PLACES]],
        }


def _by_count(keys: dict[tuple[str, ...], list[int]]) -> list[tuple[tuple[str, ...], list[int]]]:
    return sorted(keys.items(), key=lambda item: -item[1][0])


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def normalised(text: str) -> str:
    """Return text for comparison: one case, runs of white space as one blank."""
    return " ".join(text.casefold().split())


def hash_of(text: str) -> int:
    """Return a 64-bit hash that is the same in every process."""
    data = text.encode("utf-8", errors="surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


# --- readers ----------------------------------------------------------------------------------


@dataclass
class _Sample:
    """The `SAMPLE` rows with the smallest hash of their line number: a fixed, even choice."""

    kept: dict[int, tuple[int, Record]] = field(default_factory=dict)
    limit: int = 1 << 32

    def offer(self, row: Row, example: Example) -> None:
        rank = zlib.crc32(str(row.line).encode())
        if rank >= self.limit:
            return
        self.kept[row.line] = (rank, Record(row.value, row.line, example))
        if len(self.kept) > 2 * SAMPLE:
            self._thin()

    def _thin(self) -> None:
        ordered = sorted(self.kept.items(), key=lambda item: item[1][0])[:SAMPLE]
        self.kept = dict(ordered)
        self.limit = ordered[-1][1][0] if len(ordered) == SAMPLE else self.limit

    def records(self) -> tuple[Record, ...]:
        if len(self.kept) > SAMPLE:
            self._thin()
        records = [record for _, (_, record) in sorted(self.kept.items())]
        return tuple(_within(records, SAMPLE_BYTES))


def _within(records: Iterable[Record], limit: int) -> Iterator[Record]:
    """Yield records until their text passes `limit` bytes (rows with embedded images are big)."""
    used = 0
    for record in records:
        used += len(str(record.value))
        if used > limit:
            return
        yield record


def columns_of_classes(source: Source, kind: str) -> tuple[str, str] | None:
    """Return the columns of text and label of a file whose columns have no known names."""
    if kind not in ("data-csv", "data-json", "data-parquet"):
        return None
    try:
        head = [row.value for row in islice(rows_of(source, kind), LOOKED_AT) if not row.problem]
    except Exception:
        return None  # who reads all of it tells what is wrong
    known = any(understand(row).layout != "unknown" for row in head[:5])
    return None if known else class_columns([row for row in head if isinstance(row, dict)])


def looks_like_classes(source: Source) -> bool:
    """Say whether a table of unknown columns holds texts and their classes."""
    return columns_of_classes(source, "data-csv") is not None


def read_rows(source: Source, kind: str) -> Reading:
    """Count all rows of a file and keep a sample; damage is named with its first line."""
    census, sample = Census(columns_of_classes(source, kind)), _Sample()
    reason = ""
    try:
        for row in rows_of(source, kind):
            if (example := census.add(row)) is not None:
                sample.offer(row, example)
    except Exception as error:
        reason = f"reading stopped after row {census.rows:,}: {_one_line(error)}"
    if census.invalid:
        line, problem = census.invalid[0]
        count = census.invalid_count
        many = f"{count:,} of {census.rows:,} rows are unusable, the first: " if count > 1 else ""
        reason = "; ".join(filter(None, [f"{many}line {line} {problem}", reason]))
    if not census.rows:
        return Reading(ArtifactState.DAMAGED, reason or "no rows")
    state = ArtifactState.PARTIAL if reason else ArtifactState.READ
    if census.invalid_count == census.rows:
        state = ArtifactState.DAMAGED
    layout = next(iter(census.layouts.most_common(1)), ("unknown", 0))[0]
    return Reading(
        state,
        reason,
        taken=f"{census.rows:,} rows, layout {layout}",
        facts=(
            Fact("data.file", {"kind": kind, **census.summary()}, Where(source.path)),
            *_text_encoding(source, kind),
        ),
        records=sample.records(),
        record_count=census.rows,
    )


def _text_encoding(source: Source, kind: str) -> Iterator[Fact]:
    """Yield that the beginning of a text file is UTF-8 with letters beyond ASCII, if it is."""
    if kind == "data-parquet":
        return
    with source.open() as stream:
        head = stream.read(ENCODING_HEAD)
    whole = head[: head.rfind(b"\n") + 1] or head
    try:
        text = whole.decode("utf-8")
    except UnicodeDecodeError:
        return
    if any(letter > "\x7f" and letter.isalpha() for letter in text):
        yield Fact("data.utf8_file", True, Where(source.path))


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def read_json(source: Source) -> Reading:
    """Read JSON Lines, a JSON array or concatenated objects of training rows."""
    return read_rows(source, "data-json")


def read_csv(source: Source) -> Reading:
    """Read a CSV or TSV of training rows."""
    return read_rows(source, "data-csv")


def read_parquet(source: Source) -> Reading:
    """Read a Parquet file of training rows."""
    return read_rows(source, "data-parquet")


def read_text(source: Source) -> Reading:
    """Read a plain text corpus, a row a line."""
    return read_rows(source, "data-text")


def read_generations(source: Source) -> Reading:
    """Read outputs of a model: rows as they are, under the kind `generations`."""
    return read_rows(source, "generations")


def read_dataset_info(source: Source) -> Reading:
    """Read a dataset_info.json: of a saved dataset its features, of LLaMA-Factory its registry."""
    content = _loads(source.data())
    if not isinstance(content, dict):
        return Reading(ArtifactState.DAMAGED, "is not a JSON object")
    where = Where(source.path)
    if "features" in content or "_data_files" in content:
        names = content.get("features") or content.get("_data_files")
        kept = list(names)[:100] if isinstance(names, dict | list) else []
        return Reading(
            taken=f"{len(kept)} entries", facts=(Fact("data.saved_dataset", kept, where),)
        )
    entries = {k: v for k, v in content.items() if isinstance(v, dict)}
    return Reading(taken=f"{len(entries)} datasets", facts=(Fact("data.registry", entries, where),))
