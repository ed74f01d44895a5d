"""Detectors on training rows: what is broken, repeated, contradictory, mixed or too little."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from ftdoctor.aside import begin
from ftdoctor.detect import absent, detector, nearcopies, present, unobservable
from ftdoctor.detect.log import has_text, log_of
from ftdoctor.detect.once import once_per_run
from ftdoctor.detect.points import last_epoch, points, setting_number
from ftdoctor.detect.rows import (
    HOMES,
    MIN_ROWS,
    broken,
    facts_of,
    lines_of,
    no_rows,
    of_split,
    share_of,
    text_list,
)
from ftdoctor.detect.script import facts_named
from ftdoctor.detect.tokens import tokens_added
from ftdoctor.model import Call, Fact, Observation, Run, Where
from ftdoctor.render.text import plural

if TYPE_CHECKING:
    import polars as pl

ROW_SHOWN = 1000  # characters of a row that is quoted
LABEL_CHARS = 60  # an answer of at most so many characters can be a label
_READERS = ("train", "data", "other")  # roles of scripts that may read the training rows
COMPARED = 2000  # rows of a split that near copies are sought in


# --- files and shapes -------------------------------------------------------------------------


def _files(run: Run, split: str) -> list[Fact]:
    """Return the summaries of the files of a split, those read as rows."""
    rows = of_split(run, split)
    paths = set(rows["path"].unique().to_list())
    alone = split == "train" and run.fact("data.train.rows") is not None and not paths
    return [
        f
        for f in run.facts.get("data.file", ())
        if f.where.path in paths or (alone and f.value["invalid"] == f.value["rows"])
    ]


@detector("data.faults")
def faults(run: Run, *, kind: str, above: float = 0.0, split: str = "train") -> Observation:
    """Find more than a share of rows with a fault, counted over whole files.

    `kind` is invalid (not JSON objects), duplicates (exact), conflicts (same prompt, other answer)
    or blank (lines).
    """
    files = _files(run, split)
    if not files:
        return no_rows(split)
    rows = sum(f.value["rows"] for f in files)
    count = sum(f.value[kind] for f in files)
    places = {"invalid": "invalid_lines", "duplicates": "duplicate_lines"}
    worst = max(files, key=lambda f: f.value[kind])
    listed = worst.value.get(places.get(kind, "conflict_lines")) or []
    text = f"{count:,} of {rows:,} rows ({count / max(1, rows):.1%}) {_FAULTS[kind]}"
    if not count or count / max(1, rows) <= above:
        return absent(text)
    if kind == "duplicates" and (cut := broken(run, split)) is not None:
        return cut
    lines = [
        x[-1] if kind == "duplicates" else x[0] if isinstance(x, list | tuple) else x
        for x in listed
    ]
    numbers = [n for n in lines if isinstance(n, int)]
    detail = f": {listed[0][1]}" if kind == "invalid" and listed else ""
    where = ", ".join(f"{worst.where.path}:{n}" for n in numbers[:3])
    facts = [Fact(f"data.{kind}", count, Where(worst.where.path, line=n)) for n in numbers[:3]]
    return present(f"{text}, e.g. {where}{detail}", *(facts or [worst]))


_FAULTS = {
    "invalid": "cannot be parsed",
    "duplicates": "repeat an earlier row exactly",
    "conflicts": "share their prompt with a row of another answer",
    "blank": "are blank",
}


@detector("data.problems")
def problems(
    run: Run, *, any_of: list[str], above: float = 0.0, at_least: int = 1, split: str = "train"
) -> Observation:
    """Find rows with one of the problems that `read/layout.py` names, over whole files.

    A name ending in ":" counts all problems that begin with it (`missing-field:`). Fields that no
    layout knows, in every row of a run that trained, are the script's own.
    """
    files = _files(run, split)
    if not files:
        return no_rows(split)
    trained = run.fact("progress.started") is not None
    rows = sum(f.value["rows"] for f in files)
    worst: tuple[int, str, Fact, list[int]] | None = None
    total = 0
    for fact in files:
        for name, (count, lines) in fact.value["problems"].items():
            if not any(name == p or (p.endswith(":") and name.startswith(p)) for p in any_of):
                continue
            if trained and name == "no-known-fields" and count == fact.value["rows"]:
                continue
            total += count
            if worst is None or count > worst[0]:
                worst = count, name, fact, lines
    total = min(total, rows)
    if worst is None or total / max(1, rows) <= above or total < at_least:
        return absent(f"{total:,} of {rows:,} rows have such a problem")
    _, name, fact, lines = worst
    path = fact.where.path
    where = ", ".join(f"{path}:{n}" if i == 0 else f":{n}" for i, n in enumerate(lines[:3]))
    told = _problem_in_words(name)
    said = f"{total:,} of {rows:,} rows ({total / rows:.1%}) {told}, e.g. {where}"
    shown = {n: _row_at(run, path, n) or told for n in lines[:3]}
    return present(said, *(Fact("data.problem", t, Where(path, line=n)) for n, t in shown.items()))


def _row_at(run: Run, path: str, line: int) -> str:
    """Return the text of one row, "" if it is not among those that were kept."""
    if not run.data.height:
        return ""
    rows = run.data.filter((run.data["path"] == path) & (run.data["line"] == line))
    return str(rows["record"][0])[:ROW_SHOWN] if rows.height else ""


# Names of `read/layout.py`; what follows a colon is the field.
_PROBLEMS = {
    "assistant-first": "begin with the assistant",
    "chosen-equals-rejected": "have equal chosen and rejected answers",
    "empty-prompt": "have an empty prompt",
    "empty-response": "have an empty answer",
    "empty-text": "have an empty text",
    "empty-turn": "have an empty turn",
    "ends-with-user": "end with the user",
    "missing-field": "lack the field",
    "missing-role": "have a message without a role",
    "no-assistant": "have no turn of the assistant",
    "no-known-fields": "have none of the known fields",
    "no-messages": "have no messages",
    "no-user": "have no turn of the user",
    "not-an-object": "are no JSON objects",
    "null-text": "have null in place of text",
    "same-role-twice": "have two turns of one role in a row",
    "system-not-first": "have a system message after the first message",
    "unknown-role": "have a message of an unknown role",
    "wrong-type": "have a field of the wrong type",
}


def _problem_in_words(name: str) -> str:
    """Return what rows with a problem do: `lack the field `output``."""
    kind, _, detail = name.partition(":")
    told = _PROBLEMS.get(kind, f"have a problem ({kind})")
    return f"{told} `{detail}`" if detail else told


@detector("data.type_drift")
def type_drift(run: Run) -> Observation:
    """Find a field whose JSON type differs between rows of a file, which Arrow refuses."""
    files = _files(run, "train")
    if not files:
        return no_rows("train")
    for fact in files:
        for name, types in fact.value["types"].items():
            kinds = [k for k in types if types[k]]
            # A pair of text and number is drift as well: pyarrow cannot cast "a" to a number.
            if len(kinds) > 1 and name not in ("prompt", "completion"):
                counts = ", ".join(f"{types[k]:,} {k}" for k in kinds)
                return present(f"Field `{name}` of {fact.where.path} is {counts}", fact)
    return absent(f"Every field has one type in {plural(len(files), 'file')}")


@detector("data.mixed_layouts")
def mixed_layouts(run: Run, *, above: float) -> Observation:
    """Find that the training rows have two layouts, the rarer with more than a share."""
    fact = run.fact("data.layouts")
    if fact is None:
        return no_rows("train")
    counts = {k: v for k, v in fact.value.items() if k not in ("multimodal", "prompt-only")}
    total = sum(counts.values()) or 1
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    if len(ranked) > 1 and ranked[1][1] / total > above:
        shown = ", ".join(f"{v:,} {k}" for k, v in ranked[:3])
        return present(f"The training rows have several layouts: {shown}", fact)
    return absent(f"The training rows have one layout: {ranked[0][0] if ranked else 'unknown'}")


@detector("data.mixed_formats")
def mixed_formats(run: Run, *, above: float) -> Observation:
    """Find two prompt formats in the training text, the rarer with more than a share."""
    import polars as pl

    rows = of_split(run, "train").filter(
        pl.col("format").is_not_null() & (pl.col("rendered_by") == "text")
    )
    if rows.height < MIN_ROWS:
        return unobservable("No rendered training text was found", "training text")
    counts = rows["format"].str.split(",").list.first().value_counts(sort=True)
    shown = ", ".join(f"{n:,} {name}" for name, n in counts.head(3).iter_rows())
    if counts.height > 1 and counts["count"][1] / rows.height > above:
        odd = rows.filter(pl.col("format").str.starts_with(counts["format"][1]))
        return present(
            f"The training text mixes prompt formats: {shown}, e.g. {lines_of(odd)}",
            *facts_of(odd, "data.format", "format"),
        )
    return absent(f"The training text is in one prompt format: {shown}")


@detector("data.columns_missing")
def columns_missing(run: Run) -> Observation:
    """Find a setting that names a column which no training row has."""
    import polars as pl

    rows = of_split(run, "train")
    names = [s for n in _COLUMN_SETTINGS if (s := run.setting(n)) and isinstance(s.value, str)]
    if not names:
        return unobservable("No setting names a column", "training configuration")
    if not rows.height:
        return no_rows("train")
    if run.fact("script.train.formatting") is not None:
        return absent("A formatting function makes the column")
    keys = {k for f in _files(run, "train") for names_, _, _ in f.value["keys"] for k in names_}
    for setting in names:
        if setting.value not in keys and not _unused(run, setting):
            known = text_list(sorted(keys), 8)
            said = f"`{setting.name}: {setting.value}` names no column; the rows have {known}"
            return present(
                said, setting, *facts_of(rows.select(pl.all()), "data.record", "record", 1)
            )
    return absent(f"`{names[0].value}` is a column of the rows", names[0])


_KEY_ERROR = r"\bKeyError: ['\"][\w .-]{1,60}['\"]\s*$"


@detector("data.read_column_missing")
def read_column_missing(run: Run) -> Observation:
    """Find a KeyError at the end of the run whose key is a column of no training row.

    A key that no row has is judged only if a line of the traceback or of a script takes it from a
    row, or it names text that rows usually hold: other keys are looked up in other dictionaries.
    """
    if not has_text(run):
        return unobservable("No console output was found", "stdout log")
    files = _files(run, "train")
    if not files:
        return no_rows("train")
    keys = {k for f in files for names, _, _ in f.value["keys"] for k in names}
    log = log_of(run)
    for found in reversed(log.find([_KEY_ERROR])):
        name = found.text.rsplit("KeyError:", 1)[1].strip().strip("'\"")
        if log.survived(found) or name in keys or not _is_read(run, name):
            continue
        known = text_list(sorted(keys), 8)
        said = f"{found.fact.where}: KeyError '{name}', the rows have {known}"
        return present(said, found.fact, files[0])
    return absent("No KeyError names a column that the rows lack")


_ROW_NAMES = (
    r"(?:r|x|d|b|ex|row|rows|rec|record|item|entry|example|examples|sample|samples|batch|line|ds"
    r"|df|data|dataset|\w+_(?:df|row|rows|ds|data|dataset))"
)
_TEXT_COLUMN = re.compile(
    r"(?i)^(?:text|messages?|conversations?|instruction|input|output|prompt|completion|response"
    r"|question|answer|chosen|rejected|label|labels|sentence|context|query|content)$"
)


def _is_read(run: Run, name: str) -> bool:
    """Say whether code takes an element of that name from a row, or rows usually have it."""
    if _TEXT_COLUMN.match(name):
        return True
    subscript = re.compile(rf"\b{_ROW_NAMES}\[['\"]{re.escape(name)}['\"]\]")
    raised = (line for trace in log_of(run).tracebacks for line in trace.body)
    return any(subscript.search(text) for text in (*run.texts.values(), *raised))


_TEXT_SETTING = re.compile(
    r"(?i)(?:^|[._])(?:text|sentence|prompt|question|document|content|review|input|response)"
    r"(?:[_.]?(?:col|column|field|key|name))*$|^dataset_text_field$"
)


@detector("data.identifier_as_text")
def identifier_as_text(run: Run) -> Observation:
    """Find a setting that takes a column of identifiers as text: one word, other in every row."""
    rows = of_split(run, "train")
    if rows.height < 20:
        return no_rows("train")
    files = _files(run, "train")
    keys = {k for f in files for names, _, _ in f.value["keys"] for k in names}
    named = [
        run.settings[n][0] for n in run.settings
        if _TEXT_SETTING.search(n) and run.settings[n][0].value in keys
    ]  # fmt: skip
    if not named:
        return unobservable("No setting names the column of the text", "training configuration")
    records = [json.loads(r) for r in rows["record"].head(200) if r]
    for setting in named:
        values = [str(r.get(setting.value, "")) for r in records if isinstance(r, dict)]
        if _are_identifiers(values):
            said = f"`{setting.name}: {setting.value}` is read as text, and holds identifiers"
            return present(f"{said} such as {values[0]!r} ({setting.where})", setting)
    return absent(f"`{named[0].value}` holds text", named[0])


def _are_identifiers(values: list[str]) -> bool:
    """Say whether values are single short words with a digit, each of them met once."""
    filled = [v for v in values if v.strip()]
    if len(filled) < 20 or len(set(filled)) < 0.98 * len(filled):
        return False
    words = sum(
        len(v) <= 40 and " " not in v.strip() and any(c.isdigit() for c in v) for v in filled
    )
    return words >= 0.95 * len(filled)


_COLUMN_SETTINGS = (
    "dataset_text_field", "field_instruction", "field_output", "field_messages", "prompt_column",
    "response_column", "text_column", "label_column", "messages_field", "input_key", "output_key",
)  # fmt: skip


# TRL reads `dataset_text_field` (default "text") only for rows that are plain text.
_OWN_COLUMNS = ("messages", "sharegpt", "prompt-completion", "preference", "kto", "pretokenised")


def _unused(run: Run, setting: Fact) -> bool:
    """Say whether the setting is not read for rows of this layout, or a script makes the column."""
    layout = run.fact("data.layout")
    if setting.name == "dataset_text_field" and layout and layout.value in _OWN_COLUMNS:
        return True
    made = run.fact("script.train.prompt") or run.fact("script.train.applies_chat_template")
    return setting.value == "text" and made is not None


# --- amount -----------------------------------------------------------------------------------


@detector("data.small")
def small(run: Run, *, below: int, unique: bool = True) -> Observation:
    """Find that fewer than `below` training rows exist, exact copies counted once."""
    fact = run.fact("data.train.rows")
    logged = run.fact("progress.num_examples")
    if fact is None and logged is None:
        return unobservable("The number of training rows is not known", HOMES["train"])
    source = fact or logged
    assert source is not None
    count = int(source.value)
    copies = run.fact("data.duplicate_rows")
    if unique and fact is not None and copies is not None:
        count -= int(copies.value)
    text = f"{count:,} different training rows"
    if count < below and fact is not None and (cut := broken(run, "train")) is not None:
        return cut
    return present(text, source) if count < below else absent(text, source)


@detector("data.small_for_task")
def small_for_task(run: Run, *, share: float = 1.0, labelled: bool = False) -> Observation:
    """Find fewer rows than a share of the rule of thumb for the task that the answers show.

    With `labelled` only tasks are judged whose answers are labels or JSON.

    Classification 200, extraction (JSON answers) 500, free generation 1,000 rows; 50 per class for
    images.
    """
    rows = of_split(run, "train")
    count = run.fact("data.train.rows")
    if not rows.height or count is None:
        return no_rows("train")
    if labelled and set(rows["layout"].drop_nulls().to_list()) & {"preference", "kto"}:
        return unobservable("The rows are preferences, not labelled answers", HOMES["train"])
    task, needed = _task_of(rows)
    if not task:
        return unobservable("The rows do not show a task", HOMES["train"])
    if labelled and task == "free generation":
        return absent("The answers are free text, for which few rows may do", count)
    copies = run.fact("data.duplicate_rows")
    number = int(count.value) - (int(copies.value) if copies else 0)
    text = f"{number:,} different rows for {task}; the rule of thumb is {needed:,}"
    if number < share * needed and (cut := broken(run, "train")) is not None:
        return cut
    if (trained := _rows_by_steps(run)) > 4 * int(count.value):
        seen = f"The steps of an epoch took {trained:,.0f} rows, and {count.value:,} are here"
        return unobservable(seen, "the whole training data")
    return present(text, count) if number < share * needed else absent(text, count)


def _rows_by_steps(run: Run) -> float:
    """Return the rows of one epoch as its steps and their batch tell them at least; 0 if unknown.

    A script that counts epochs from 0 halves the epochs of a run of two.
    """
    epoch, loss = last_epoch(run), points(run, "loss")
    batch = setting_number(run, "per_device_train_batch_size")
    if epoch is None or epoch[0] < 0.5 or batch is None or loss is None:
        return 0.0
    return loss.step(-1) * batch[0] / epoch[0]


def _task_of(rows: pl.DataFrame) -> tuple[str, int]:
    answers = rows["response"].drop_nulls().to_list()
    if len(answers) < MIN_ROWS:
        return "", 0
    if _label_counts(answers):
        return "classification", 200
    if sum(a.lstrip()[:1] in ("{", "[") for a in answers) > len(answers) / 2:
        return "extraction", 500
    return "free generation", 1000


# --- labels -----------------------------------------------------------------------------------


def _label_counts(answers: list[str]) -> Counter[str] | None:
    """Return label counts if the answers are labels: short, at most 50, each used again.

    At most 50 distinct values that cover 95 % of the rows (symptoms-2, class-imbalance).
    """
    short = [a.strip() for a in answers if len(a.strip()) <= LABEL_CHARS]
    counts = Counter(short)
    common = sum(n for _, n in counts.most_common(50))
    distinct = len(counts)
    if len(answers) < 20 or common < 0.95 * len(answers) or distinct > len(answers) / 4:
        return None
    return counts


def labels_of(run: Run, split: str) -> Counter[str] | None:
    """Return how often each answer of a split occurs, None if the answers are no labels."""
    counts: Counter[str] = Counter()
    rows = 0
    for fact in _files(run, split):
        counts.update(fact.value["labels"])
        rows += fact.value["rows"]
    covered = sum(counts.values())
    many = len(counts) > 50 or len(counts) > max(2, rows / 4)
    return None if rows < 20 or covered < 0.95 * rows or many or len(counts) < 2 else counts


@detector("data.imbalanced")
def imbalanced(run: Run, *, majority: float, ratio: float) -> Observation:
    """Find labels of which one has a share of `majority`, or is `ratio` times the rarest."""
    if not _files(run, "train"):
        return no_rows("train")
    counts = labels_of(run, "train")
    if counts is None:
        return unobservable("The answers are no labels", "training data with class labels")
    ranked = counts.most_common()
    total = sum(counts.values())
    share = ranked[0][1] / total
    times = ranked[0][1] / max(1, ranked[-1][1])
    shown = ", ".join(f"{n:,} {label!r}" for label, n in ranked[:4])
    text = f"Labels: {shown}; the largest has {share:.0%}, {times:.3g} times the smallest"
    fact = Fact("data.labels", dict(ranked[:50]), _files(run, "train")[0].where)
    if share >= majority or times >= ratio:
        return present(text, fact)
    return absent(text, fact)


@detector("data.conflicting_labels")
def conflicting_labels(run: Run, *, above: float) -> Observation:
    """Find that the same input has several labels, in tasks whose answers are labels or JSON.

    Free text may answer one question in many ways, so it is not judged.
    """
    rows = of_split(run, "train")
    if not _files(run, "train"):
        return no_rows("train")
    answers = rows["response"].drop_nulls().to_list()
    task, _ = _task_of(rows)
    if task not in ("classification", "extraction") or not answers:
        return unobservable("The answers are no labels", "training data with class labels")
    return faults(run, kind="conflicts", above=above)


@detector("data.label_variants")
def label_variants(run: Run, *, above: float) -> Observation:
    """Find labels that differ only in case, blanks or punctuation."""
    if not _files(run, "train"):
        return no_rows("train")
    counts = labels_of(run, "train")
    if counts is None:
        return unobservable("The answers are no labels", "training data with class labels")
    groups: dict[str, list[str]] = {}
    for label in counts:
        groups.setdefault(re.sub(r"[\W_]+", "", label.casefold()), []).append(label)
    odd = [sorted(g, key=lambda x: -counts[x]) for g in groups.values() if len(g) > 1]
    minor = sum(counts[label] for g in odd for label in g[1:])
    total = sum(counts.values())
    if odd and minor / total > above:
        forms = "; ".join(text_list(g) for g in odd[:2])
        said = f"{minor:,} of {total:,} labels are written in a second form: {forms}"
        return present(said, _files(run, "train")[0])
    return absent(f"{len(counts)} labels, each in one form")


# --- answers ----------------------------------------------------------------------------------

_INNER_JSON = re.compile(r"```json|\{\s*\"\w+\"\s*:")
_FENCE = re.compile(r"^```(?:json)?\s*(.*?)\s*```$", re.DOTALL)


def _shape(answer: str) -> str:
    """Return the outer form of an answer: json, fenced, prose+json, python, text."""
    text = answer.strip()
    if _FENCE.match(text):
        return "fenced"
    if text[:1] in ("{", "["):
        return "python" if re.match(r"^[{\[]\s*'", text) else "json"
    # Most answers hold neither of these: two searches for a text cost a tenth of a pattern.
    if ("{" in text or "```json" in text) and _INNER_JSON.search(text):
        return "prose+json"
    return "text"


def _parses(answer: str) -> bool:
    fenced = _FENCE.match(answer.strip())
    try:
        json.loads(fenced.group(1) if fenced else answer)
    except (ValueError, RecursionError):
        return False
    return True


def _structured(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows with their answer's shape, if most answers are JSON-like; else none."""
    import polars as pl

    answered = rows.filter(pl.col("response").is_not_null() & (pl.col("response") != ""))
    shapes = [_shape(a) for a in answered["response"]]
    answered = answered.with_columns(pl.Series("shape", shapes, dtype=pl.String))
    like = sum(s != "text" for s in shapes)
    return answered if like > 0.5 * len(shapes) and like >= 10 else answered.clear()


@detector("data.unparseable_answers")
def unparseable_answers(run: Run, *, above: float) -> Observation:
    """Find JSON answers that do not parse."""
    import polars as pl

    rows = of_split(run, "train")
    if not rows.height:
        return no_rows("train")
    # JSON within prose is another form, which `mixed_answer_shapes` judges, and not broken JSON.
    structured = _structured(rows).filter(~pl.col("shape").is_in(["text", "prose+json"]))
    if not structured.height:
        return unobservable("The answers are not JSON", "training data with structured answers")
    bad = [not _parses(a) for a in structured["response"]]
    hits = structured.filter(pl.Series(bad))
    return share_of(
        structured, hits, "have an answer that is no valid JSON", above=above,
        fact="data.response", column="response",
    )  # fmt: skip


@detector("data.mixed_answer_shapes")
def mixed_answer_shapes(run: Run, *, above: float) -> Observation:
    """Find structured answers in several outer forms: bare JSON, fenced, within prose, plain text.

    Rows whose prompts ask for different things are one task only if the system prompts agree; so
    only data with one instruction for most rows is judged.
    """
    import polars as pl

    rows = of_split(run, "train")
    if not rows.height:
        return no_rows("train")
    structured = _structured(rows)
    if not structured.height:
        return unobservable("The answers are not JSON", "training data with structured answers")
    counts = structured["shape"].value_counts(sort=True)
    minor = structured.height - int(counts["count"][0])
    shown = ", ".join(f"{n:,} {name}" for name, n in counts.iter_rows())
    odd = structured.filter(pl.col("shape") != counts["shape"][0])
    if minor / structured.height > above:
        said = f"Answers come in several forms: {shown}, e.g. {lines_of(odd)}"
        return present(said, *facts_of(odd, "data.response", "response"))
    return absent(f"Answers come in one form: {shown}")


_XML = re.compile(r"<(\w+)(?: [^<>]*)?>[\s\S]*</\1>$")
_FIELD = re.compile(r"^[\"'*]*[A-Za-z][\w ]{0,30}[\"'*]*\s*[:=]\s*\S")
ALIKE = 10  # rows of one instruction; a form that a tenth of them has then shows in one


def _form(answer: str) -> str:
    """Return the outer form of a structured answer; "" for free text.

    Python's spelling of a dictionary counts as JSON: that it does not parse is another finding.
    """
    text = answer.strip()
    shape = _shape(text)
    if shape != "text":
        return "json" if shape == "python" else shape
    if _XML.match(text):
        return "xml"
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) >= 2 and all(_FIELD.match(line) for line in lines):
        return "key: value lines"
    return ""


@detector("data.forms_within_instruction")
def forms_within_instruction(run: Run, *, above: float) -> Observation:
    """Find one instruction whose structured answers are JSON here and XML or lines of fields there.

    Rows of one instruction are those whose prompts begin with the same line.
    """
    import polars as pl

    rows = of_split(run, "train").filter(
        pl.col("response").is_not_null() & pl.col("prompt").is_not_null()
    )
    if not rows.height:
        return no_rows("train")
    rows = rows.with_columns(
        pl.Series("form", [_form(a) for a in rows["response"]], dtype=pl.String),
        pl.col("prompt").str.split("\n").list.first().str.slice(0, 200).alias("asked"),
    ).filter(pl.col("form") != "")
    groups = [g for _, g in rows.group_by("asked", maintain_order=True) if g.height >= ALIKE]
    if not groups:
        return unobservable("No instruction has ten structured answers", "training data")
    worst, odd = groups[0], groups[0].clear()
    for group in groups:
        usual = group["form"].value_counts(sort=True)["form"][0]
        others = group.filter(pl.col("form") != usual)
        if others.height / group.height > odd.height / worst.height:
            worst, odd = group, others
    counts = worst["form"].value_counts(sort=True)
    forms = ", ".join(f"{n:,} {form}" for form, n in counts.iter_rows())
    said = f"{str(worst['asked'][0])[:50]!r} is answered in: {forms}"
    if odd.height / worst.height > above and odd.height >= 3:
        return present(f"{said}, e.g. {lines_of(odd)}", *facts_of(odd, "data.response", "response"))
    return absent(said)


@detector("data.pattern_share")
def pattern_share(
    run: Run, *, column: str, pattern: str, above: float, claim: str, split: str = "train"
) -> Observation:
    """Find that more than a share of rows matches a pattern in prompt, response or rendered."""
    import polars as pl
    import re2

    rows = of_split(run, split).filter(pl.col(column).is_not_null())
    if not rows.height:
        return no_rows(split)
    compiled = re2.compile(pattern)
    hits = rows.filter(pl.Series([bool(compiled.search(v[:20_000])) for v in rows[column]]))
    return share_of(rows, hits, claim, above=above, fact=f"data.{column}", column=column)


_ODD = re.compile(r"Ã.|â€|Â[^A-Za-z]|ðŸ|ï»¿|‚Ä|√[©®¢£§]|\ufffd")


@detector("data.mojibake")
def mojibake(run: Run, *, above: float) -> Observation:
    """Find text that was decoded with the wrong encoding: it turns sane when that is undone.

    Letters like Ã occur in healthy Portuguese and Vietnamese, so a row counts only if encoding it
    back to cp1252, latin-1 or Mac Roman gives valid UTF-8, or if it holds U+FFFD.
    """
    import polars as pl

    rows = of_split(run, "train")
    if not rows.height:
        return no_rows("train")
    texts = rows.select(
        pl.concat_str(["prompt", "response", "rendered"], separator="\n", ignore_nulls=True)
    ).to_series()
    flags = [_is_damaged(t) for t in texts]
    hits = rows.filter(pl.Series(flags))
    return share_of(
        rows, hits, "hold text of a wrong encoding (like `Ã©` or U+FFFD)", above=above,
        fact="data.record", column="record",
    )  # fmt: skip


def _is_damaged(text: str | None) -> bool:
    if not text:
        return False
    for match in _ODD.finditer(text[:200_000]):
        piece = match.group()
        if piece == "\ufffd":
            return True
        window = text[match.start() : match.start() + 4]
        if any(_restores(window[:n], e) for n in (2, 3, 4) for e in _ENCODINGS):
            return True
    return False


_ENCODINGS = ("cp1252", "latin-1", "mac_roman")


@detector("data.read_in_other_encoding")
def read_in_other_encoding(run: Run) -> Observation:
    """Find a script that reads a UTF-8 file with letters beyond ASCII in a one-byte encoding.

    A file is meant by its name. Where only running tells the name, a training script is taken to
    read the data that is there.
    """
    opened = [
        fact
        for fact in facts_named(run, *(f"script.{role}.read_as" for role in _READERS))
        if isinstance(fact.value, list | tuple) and len(fact.value) == 2
    ]
    files = run.facts.get("data.utf8_file", ())
    if not opened:
        if not run.has("script", "notebook"):
            return unobservable("No script was found that reads the data", "training script")
        return absent("No script reads text in a one-byte encoding")
    for fact in opened:
        named, encoding = (str(part) for part in fact.value)
        for file in files:
            same = PurePosixPath(named).name == PurePosixPath(file.where.path).name
            if same or (not named and fact.name == "script.train.read_as"):
                return present(
                    f"{file.where.path} is UTF-8, and {fact.where} reads it as {encoding}",
                    fact,
                    file,
                )
    return absent(f"What {opened[0].where} reads as {opened[0].value[1]} is not known to be UTF-8")


@detector("data.mis_decoded_output")
def mis_decoded_output(run: Run, *, fewest: int) -> Observation:
    """Find wrongly decoded letters in console output whose other signs are right.

    A console that was itself written or copied in another encoding damages bars and quotes too, so
    the file must hold a sign beyond Latin-1 (a progress bar, a tick) to be believed.
    """
    if run.lines.is_empty():
        return unobservable("No console output was found", "console log")
    believed: set[str] = set()
    damaged: dict[str, list[tuple[int, str]]] = {}
    for path, line, text in run.lines.select("path", "line", "text").iter_rows():
        if any("\u2190" <= sign <= "\u27bf" for sign in text):
            believed.add(path)
        if any(_is_damaged_letter(m.group()) for m in _TWO.finditer(text[:2_000])):
            damaged.setdefault(path, []).append((line, text))
    found = {path: hits for path, hits in damaged.items() if path in believed}
    for path, hits in found.items():
        if len(hits) >= fewest:
            place = Where(path, line=hits[0][0])
            return present(
                f"{plural(len(hits), 'line')} of {path} show letters that were decoded wrongly",
                Fact("console.text", hits[0][1][:200], place),
            )
    if damaged and not found:
        return unobservable("The log itself may have been decoded wrongly", "console log")
    return absent("The console output shows no text of a wrong encoding")


# Of a letter of two bytes: the first, then the second as Latin-1 or cp1252 show it.
_TWO = re.compile(
    "[\u00c3\u00c4\u00c5\u00d0\u00d1]"
    "[\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc"
    "\u2013-\u2026\u2030\u2039\u203a\u20ac\u2122]"
)


def _is_damaged_letter(pair: str) -> bool:
    return any(_restores(pair, encoding) for encoding in ("cp1252", "latin-1"))


def _restores(window: str, encoding: str) -> bool:
    try:
        restored = window.encode(encoding).decode("utf-8")
    except (UnicodeEncodeError, UnicodeDecodeError):
        return False
    return len(restored) < len(window)


# --- copies -----------------------------------------------------------------------------------


def prepare(run: Run, _: Iterable[Call]) -> None:
    """Begin to compare the training rows with each other (called before detection)."""
    _alike(run)


@once_per_run
def _alike(run: Run) -> Callable[[], list[int]]:
    return begin(nearcopies.near_copies, _texts(of_split(run, "train")))


@detector("data.near_copies")
def near_copies(run: Run, *, above: float) -> Observation:
    """Find that more than a share of the sampled training rows nearly repeats an earlier one."""
    rows = of_split(run, "train")
    if rows.height < 20:
        return (
            no_rows("train")
            if not rows.height
            else absent(f"too few to judge: {plural(rows.height, 'row')}")
        )
    hits = rows.head(COMPARED)[_alike(run)()]
    return share_of(
        rows.head(COMPARED), hits, f"nearly repeat an earlier row (Jaccard ≥ {nearcopies.NEAR})",
        above=above, fact="data.record", column="record",
    )  # fmt: skip


@detector("data.overlap")
def overlap(run: Run, *, above: float, splits: list[str]) -> Observation:
    """Find evaluation rows that are in the training data, exactly, over all rows of all files."""
    found = [(s, f) for s in splits if (f := run.fact(f"data.overlap.{s}"))]
    if not found:
        need = [HOMES[s] for s in splits[:1]]
        return unobservable("Training and held-out rows are not both here", HOMES["train"], *need)
    split, fact = max(found, key=lambda item: item[1].value["shared"] / item[1].value["rows"])
    value = fact.value
    share = value["shared"] / value["rows"]
    text = f"{value['shared']:,} of {value['rows']:,} {split} rows ({share:.1%}) are training rows"
    if share <= above:
        return absent(text, fact)
    pairs = [tuple(p) for p in value["pairs"][:3]]
    shown = ", ".join(f"{p}:{n} = {q}:{m}" for p, n, q, m in pairs[:2])
    facts = [Fact("data.overlap", f"{q}:{m}", Where(p, line=n)) for p, n, q, m in pairs]
    return present(f"{text}, e.g. {shown}", *facts)


MOST_BY_CHANCE = 0.6  # of the held-out rows, of which templates make near copies (judgement)


@detector("data.near_overlap")
def near_overlap(run: Run, *, above: float, splits: list[str]) -> Observation:
    """Find held-out rows that are near copies of training rows, on the samples.

    Rows that are made from templates resemble each other by chance: where training rows have as
    many near copies among themselves, and not most held-out rows have one, nothing is told.
    """
    train = of_split(run, "train")
    for split in splits:
        rows = of_split(run, split)
        if rows.height < MIN_ROWS or train.height < MIN_ROWS:
            continue
        asked, known = _texts(rows), _texts(train)
        exact = set(known)
        near = [j for j in nearcopies.near_copies(known, asked) if asked[j] not in exact]
        hits = rows.head(COMPARED)[near]
        share = len(near) / len(asked)
        if near and share <= MOST_BY_CHANCE and share <= _resembling(run):
            text = f"{len(near)} of {len(asked)} {split} rows are near copies of training rows, "
            return unobservable(f"{text}which are so of each other")
        return share_of(
            rows.head(COMPARED), hits, f"of {split} are near copies of training rows",
            above=above, fact="data.record", column="record",
        )  # fmt: skip
    return unobservable("Training and held-out rows are not both here", HOMES["eval"])


def _resembling(run: Run) -> float:
    """Return the share of training rows that nearly repeat another, or are nearly repeated.

    Of two that resemble each other only the later one is named.
    """
    return 2 * len(_alike(run)()) / min(of_split(run, "train").height, COMPARED)


def _texts(rows: pl.DataFrame) -> list[str]:
    """Return the text by which rows are compared: prompt and answer, else the text."""
    found = []
    for prompt, response, rendered, record in (
        rows.head(COMPARED).select("prompt", "response", "rendered", "record").iter_rows()
    ):
        found.append(f"{prompt}\n{response}" if prompt or response else rendered or record)
    return [" ".join(t.casefold().split()) for t in found]


# --- task -------------------------------------------------------------------------------------


@detector("data.answer_in_prompt")
def answer_in_prompt(run: Run, *, above: float) -> Observation:
    """Find that the label stands in the prompt, where the prompt does not list all labels."""
    import polars as pl

    rows = of_split(run, "train")
    if not rows.height:
        return no_rows("train")
    answers = rows["response"].drop_nulls().to_list()
    counts = _label_counts(answers)
    if not counts or len(counts) < 2:
        return unobservable("The answers are no labels", "training data with class labels")
    labels = [label for label in counts if len(label) > 2]
    flags = []
    for prompt, response in rows.select("prompt", "response").iter_rows():
        inside = [label for label in labels if label.casefold() in (prompt or "").casefold()]
        flags.append(inside == [(response or "").strip()] and len(labels) > 1)
    hits = rows.filter(pl.Series(flags))
    return share_of(
        rows, hits, "hold their own label, and no other, in the prompt", above=above,
        fact="data.prompt", column="prompt",
    )  # fmt: skip


_CODE = r"[\[(<#]?\s*{}\s*[-_:#/]?\s*(?:\d+\b|[\])>:|])"


@detector("data.label_in_code")
def label_in_code(run: Run, *, share: float, fewest: int) -> Observation:
    """Find a code with the label in it at one end of the inputs: `[REFUND-964] …`, `… #spam 3`."""
    rows = of_split(run, "train")
    labels = _label_counts(rows["response"].drop_nulls().to_list()) if rows.height else None
    if not labels or len(labels) < 2 or rows.height < fewest:
        return unobservable("The answers are no labels", "training data with class labels")
    first: tuple[str, int] | None = None
    sides = [0, 0]
    pairs = rows.select("prompt", "response", "path", "line").iter_rows()
    for prompt, response, path, line in pairs:
        text, label = (prompt or "").strip(), (response or "").strip()
        code = _CODE.format(re.escape(label))
        found = (
            re.match(code, text, re.IGNORECASE),
            re.search(code + r"\W*$", text[-80:], re.IGNORECASE),
        )
        for side, hit in enumerate(found):
            sides[side] += bool(hit and label)
        if first is None and label and any(found):
            first = (path, line)
    hits = max(sides)
    text = f"A code with the row's label stands at one end of {hits:,} of {rows.height:,} inputs"
    if first is None or hits < share * rows.height:
        return absent(text)
    return present(text, Fact("data.prompt", "label in a code", Where(first[0], line=first[1])))


_NAMED_VALUE = re.compile(r"(\w{2,30})\s*[:=]\s*([\w.+-]{1,30})")


@detector("data.field_tells_label")
def field_tells_label(run: Run, *, share: float) -> Observation:
    """Find a `name: value` in the input whose value tells the label without exception.

    It must stand in at least `share` of the rows, with at most two values for each label.
    """
    rows = of_split(run, "train")
    if not rows.height:
        return no_rows("train")
    labels = _label_counts(rows["response"].drop_nulls().to_list())
    if not labels or len(labels) < 2 or rows.height < 40:
        return unobservable("The answers are no labels", "training data with class labels")
    seen: dict[str, list[tuple[str, str, int]]] = {}
    pairs = rows.select("prompt", "response").iter_rows()
    for index, (prompt, response) in enumerate(pairs):
        named = dict(_NAMED_VALUE.findall(f"{(prompt or '')[:2000]}\n{(prompt or '')[-2000:]}"))
        for name, value in named.items():
            seen.setdefault(name, []).append((value, (response or "").strip(), index))
    for name, found in sorted(seen.items(), key=lambda item: -len(item[1])):
        told = {(value, label) for value, label, _ in found}
        values, told_labels = {v for v, _ in told}, {lab for _, lab in told}
        certain = len(told) == len(values) and len(told_labels) == len(labels)
        if len(found) >= share * rows.height and certain and len(values) <= 2 * len(labels):
            hits = rows[[index for _, _, index in found[:3]]]
            said = (
                f"`{name}:` stands in {len(found):,} of {rows.height:,} inputs and tells the label"
            )
            return present(
                f"{said} ({text_list(sorted(values))}), e.g. {lines_of(hits)}",
                *facts_of(hits, "data.prompt", "prompt"),
            )
    return absent("No field of the inputs tells the label")


@detector("data.sorted_by_label")
def sorted_by_label(run: Run) -> Observation:
    """Find that the rows of a training file come label by label, in as many blocks as labels.

    Of longer answers their first piece is a label if few occur (`type: tool, country: …`), and so
    is another column of few values (source, language, task).
    """
    import polars as pl

    rows = of_split(run, "train")
    if not rows.height:
        return no_rows("train")
    seen: Observation | None = None
    for path in rows["path"].unique(maintain_order=True):
        for labels, name in _label_sequences(rows.filter(pl.col("path") == path).sort("line")):
            counts = _label_counts(labels)
            if not counts or len(counts) < 2 or min(counts.values()) < 5:
                continue
            changes = sum(a != b for a, b in itertools.pairwise(labels))
            said = f"{plural(len(labels), 'row')} of {path} with {plural(changes, 'change')} of"
            if changes < 2 * len(counts):
                text = f"{said} {name} among {len(counts)} labels"
                return present(text, Fact("data.order", said, Where(path)))
            seen = seen or absent(f"{said} {name}")
    return seen or unobservable("The answers are no labels", "training data with class labels")


_PIECE_END = re.compile(r"[,;.\n|]")


def _label_sequences(rows: pl.DataFrame) -> Iterator[tuple[list[str], str]]:
    """Yield what may label the rows, in their order, with its name."""
    answers = rows["response"].drop_nulls().to_list()
    yield answers, "the label"
    yield [_PIECE_END.split(a.strip(), maxsplit=1)[0] for a in answers], "the answer's first piece"
    texts = rows["record"].drop_nulls().to_list()
    first = next((r for r in map(json.loads, texts) if isinstance(r, dict)), {})
    labelled = [key for key in list(first)[:20] if isinstance(first[key], str | int)]
    records = [json.loads(text) for text in texts] if labelled else []
    for key in labelled:
        values = [record.get(key) for record in records if isinstance(record, dict)]
        if all(isinstance(value, str | int) for value in values):
            yield [str(value) for value in values], f"`{key}`"


@detector("data.questions_as_answers")
def questions_as_answers(run: Run, *, above: float) -> Observation:
    """Find answers that are questions while prompts are none: the columns are swapped."""
    import polars as pl

    rows = of_split(run, "train").filter(
        pl.col("prompt").is_not_null() & pl.col("response").is_not_null()
    )
    if rows.height < MIN_ROWS:
        return no_rows("train") if not rows.height else absent("Too few rows to tell")
    asks = rows.filter(
        pl.col("response").str.strip_chars().str.ends_with("?")
        & ~pl.col("prompt").str.strip_chars().str.ends_with("?")
        & (pl.col("prompt").str.len_chars() > pl.col("response").str.len_chars())
    )
    return share_of(
        rows, asks, "have a question as the answer and a longer statement as the prompt",
        above=above, fact="data.response", column="response",
    )  # fmt: skip


@detector("data.constant_prefix")
def constant_prefix(run: Run, *, above: float, min_chars: int) -> Observation:
    """Find that more than a share of all prompt text is one prefix that every row repeats."""
    import polars as pl

    rows = of_split(run, "train").filter(pl.col("prompt").is_not_null())
    if rows.height < 20:
        return no_rows("train") if not rows.height else absent("Too few rows to tell")
    prompts = rows["prompt"].to_list()
    first, last = min(prompts), max(prompts)
    common = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
    sizes = rows.select(pl.col("prompt").str.len_chars() + pl.col("response").str.len_chars())
    total = float(sizes.to_series().sum() or 1)
    share = common * len(prompts) / max(1.0, total)
    text = f"{common:,} characters at the start of every prompt are {share:.0%} of all text"
    if share > above and common >= min_chars:
        return present(text, *facts_of(rows, "data.prompt", "prompt", 1))
    return absent(text)


@detector("data.json_blanks")
def json_blanks(run: Run, *, above: float) -> Observation:
    """Find that indentation makes up more than a share of JSON answers."""
    import polars as pl

    rows = of_split(run, "train")
    if not rows.height:
        return no_rows("train")
    structured = _structured(rows).filter(pl.col("shape") != "text")
    if not structured.height:
        return unobservable("The answers are not JSON", "training data with structured answers")
    answers = structured["response"].to_list()
    blanks = sum(len(m) for a in answers for m in re.findall(r"\n\s*", a))
    share = blanks / max(1, sum(map(len, answers)))
    text = f"Line breaks and indentation are {share:.0%} of the characters of JSON answers"
    return (
        present(text, *facts_of(structured, "data.response", "response", 1))
        if (share > above)
        else absent(text)
    )


# --- masks and marks --------------------------------------------------------------------------


@detector("data.supervised")
def supervised(
    run: Run, *, rows_without_above: float | None = None, share_above: float | None = None
) -> Observation:
    """Judge the labels of prepared rows: rows with none to learn, or hardly any label masked."""
    facts = run.facts.get("data.supervised", ())
    if not facts:
        rows = of_split(run, "train")
        if "supervised" in rows.columns and rows["supervised"].drop_nulls().len():
            return _supervised_sample(rows, rows_without_above, share_above)
        return unobservable("No prepared rows with labels", "prepared dataset (Arrow) with labels")
    totals = Counter[str]()
    for fact in facts:
        totals.update({k: v for k, v in fact.value.items() if isinstance(v, int)})
    without = totals["rows_without"] / max(1, totals["rows"])
    learned = totals["kept"] / max(1, totals["all"])
    if rows_without_above is not None:
        text = (
            f"{totals['rows_without']:,} of {totals['rows']:,} prepared rows have only labels -100"
        )
        return present(text, *facts) if without > rows_without_above else absent(text, *facts)
    text = f"{learned:.1%} of the labels of prepared rows are learned"
    over = share_above is not None and learned > share_above
    return present(text, *facts) if over else absent(text, *facts)


def _supervised_sample(
    rows: pl.DataFrame, rows_without_above: float | None, share_above: float | None
) -> Observation:
    import polars as pl

    judged = rows.filter(pl.col("supervised").is_not_null())
    if rows_without_above is not None:
        return share_of(
            judged, judged.filter(pl.col("supervised") == 0), "have only labels -100",
            above=rows_without_above, fact="data.supervised", column="supervised",
        )  # fmt: skip
    mean = float(judged["supervised"].sum()) / judged.height
    text = f"{mean:.1%} of the labels of prepared rows are learned"
    over = share_above is not None and mean > share_above
    return (
        present(text, *facts_of(judged, "data.supervised", "supervised")) if over else absent(text)
    )


@detector("data.special_tokens_inside")
def special_tokens_inside(run: Run, *, above: float) -> Observation:
    """Find control tokens of this tokenizer inside message contents or answers.

    Tokens that were added for these rows are content: a script adds them, or they are extra ones
    of the tokenizer that neither its template nor a known format knows.
    """
    import polars as pl

    special = run.fact("tokenizer.special_tokens")
    if special is None:
        return unobservable("The tokenizer's special tokens are not known", "tokenizer files")
    content = _added_for_rows(run)
    marks = [t for t in special.value if _is_control(t) and t not in content]
    rows = of_split(run, "train").filter(pl.col("layout") != "text")
    rows = rows.filter(pl.col("prompt").is_not_null() | pl.col("response").is_not_null())
    if not rows.height:
        return no_rows("train")
    if not marks:
        return absent("This tokenizer has no control tokens")
    texts = rows.select(pl.concat_str(["prompt", "response"], ignore_nulls=True)).to_series()
    flags = texts.str.contains_any(marks)
    held = next((m for m in marks if texts.str.contains(m, literal=True).any()), marks[0])
    return share_of(
        rows, rows.filter(flags), f"hold a control token such as {held!r} inside their content",
        above=above, fact="data.record", column="record",
    )  # fmt: skip


_OF_A_FORMAT = re.compile(r"im_|eot|eom|turn|header|text|user|assistant|system|sep|return|message")


def _added_for_rows(run: Run) -> set[str]:
    """Return the special tokens that were added for what the rows say, not to part turns."""
    ends = {
        f.value for n in ("eos", "bos", "pad") for f in run.facts.get(f"tokenizer.{n}_token", ())
    }
    template = " ".join(str(f.value) for f in run.facts.get("tokenizer.chat_template", ()))
    extra = [t for f in run.facts.get("tokenizer.extra_special_tokens", ()) for t in f.value]
    own = {t for t in extra if t not in template and not _OF_A_FORMAT.search(t)}
    return (own | set(tokens_added(run))) - ends


def _is_control(text: str) -> bool:
    """Say whether a token is a control mark: image marks and thinking tags are content."""
    if re.search(r"image|video|audio|think|tool|vision|fim|unused|reserved", text):
        return False
    return bool(
        re.fullmatch(r"<[|｜].+[|｜]>|</?s>|<(?:start|end)_of_turn>|<eos>|<bos>|\[/?INST\]", text)
    )
