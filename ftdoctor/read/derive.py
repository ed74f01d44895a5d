"""Derive what was really trained on: rows rendered, tokenised and cut as the run did it.

`derive(parts)` puts the primary tokenizer first, decides which file is training, evaluation or
output, counts over whole files, and makes the frame `Run.data` of the sampled rows.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ftdoctor.aside import begin
from ftdoctor.families import Family, family, table
from ftdoctor.model import Fact, Where
from ftdoctor.read import tokens
from ftdoctor.read.added import role_of
from ftdoctor.read.arrow import MASKED
from ftdoctor.read.data import columns_of_classes, hash_of, normalised, rows_of
from ftdoctor.read.example import LOOKED_AT, example_fact
from ftdoctor.read.layout import Example, understand
from ftdoctor.read.prompts import STOP_TEXTS, answer_part, formats_of
from ftdoctor.read.served import PROBES, Conversation, Side, differences
from ftdoctor.read.template import Rendered, TemplateProblem, render, syntax_problem
from ftdoctor.read.tokenizer import TEMPLATE, folder_of, resolve

if TYPE_CHECKING:
    import polars as pl
    from tokenizers import Tokenizer

    from ftdoctor.read.assemble import RunParts
    from ftdoctor.read.reading import Record
    from ftdoctor.read.source import Source

RENDERED_ROWS = 1500  # rows of a split that are rendered and tokenised; half-width of 2.5 points
RENDERED_CHARS = 6_000_000  # characters of them: about a second of tokenising
LAST = 8  # ids kept of the end of a row
TRL_MAX_LENGTH = 1024  # SFTConfig.max_length where nothing is set (trl/trainer/sft_config.py)

_SPLITS = (
    ("production", r"prod(?:uction)?|traffic|deployed"),
    ("benchmark", r"benchmark|mmlu|gsm8k_test|humaneval|bench"),
    ("test", r"tests?|testing|held_?out"),
    ("eval", r"eval|evaluation|valid|validation|val|dev"),
    ("gold", r"gold|ground_?truth|spot_?checks?|spot_?checked|hand_?checked|human_?checked"),
    ("train", r"train|training|sft|finetune|fine_?tuning"),
)
_SPLIT_PATTERNS = [(s, re.compile(rf"(?:^|[^a-z]){p}(?:[^a-z]|$)")) for s, p in _SPLITS]
_CLASS_KEYS = ("prediction", "predicted", "pred", "predicted_label", "pred_label", "y_pred")
_OUTPUT_KEYS = (
    "pred", "predicted_label", "pred_label", "y_pred",
    "generated_text", "generated", "generation", "prediction", "predict", "predicted",
    "output_text",
    "model_output", "model_response", "completion_text", "completion", "response", "output",
    "generations", "completions", "predictions", "answer",
)  # fmt: skip
_COUNT_KEYS = (
    "n_tokens", "num_tokens", "completion_tokens", "new_tokens", "generated_tokens",
    "output_tokens", "tokens_generated", "n_new_tokens", "num_generated_tokens", "tokens",
)  # fmt: skip
_REFERENCE_KEYS = (
    "reference", "label", "true_label", "gold_label", "y_true", "expected", "expected_output",
    "target", "ground_truth", "gold", "reference_answer", "answer",
)  # fmt: skip


def derive(parts: RunParts) -> None:
    """Add `tokenizer.*` and `data.*` facts and set `parts.data`."""
    resolve(parts)
    _check_template(parts)
    splits = _split_of_files(parts)
    _count(parts, splits)
    _overlap(parts, splits)
    _count_images(parts)
    trained = _Trained(parts)
    parts.data = _frame(trained, splits)
    _tell_example(trained)
    _tell_served(trained, splits)
    begin(tokens.forget)()


_ROW_SOURCES = ("script.train", "script.data", "script.other")


def _tell_example(trained: _Trained) -> None:
    """Add `data.example`: one training row token by token, for people to look at."""
    parts = trained.parts
    if parts.data is None or parts.data.is_empty():
        return
    rows = parts.data.filter(split="train").head(LOOKED_AT).to_dicts()
    pad, eos = _value(parts, "tokenizer.pad_token"), trained.eos
    # Rows may be prepared in a module that the training script takes them from.
    source = next((s for s in _ROW_SOURCES if parts.facts.get(f"{s}.labels")), _ROW_SOURCES[0])
    labels = parts.facts.get(f"{source}.labels", [])
    settings = {
        "completion_only_loss": _value(parts, "completion_only_loss"),
        "assistant_only_loss": _value(parts, "assistant_only_loss"),
        "train_on_inputs": _value(parts, "train_on_inputs"),
        "labels": [fact.value for fact in labels],
        "place": str(labels[0].where) if labels else "",
        "marker": _value(parts, f"{source}.label_marker"),
        "boundary": _value(parts, f"{source}.label_boundary"),
        "collator": _value(parts, "script.train.collator"),
        "trainer": _value(parts, "run.trainer"),
        "pad_is_eos": bool(pad) and pad == eos,
    }
    if trained.source is None:
        return
    limit = trained.max_length
    fact = tokens.ask(example_fact, trained.source, rows, settings, eos, limit)()
    if fact is not None:
        parts.add(fact.name, fact.value, fact.where)


def _tell_served(trained: _Trained, splits: Mapping[str, str]) -> None:
    """Add `template.served`: where the GGUF's template renders other tokens than training's.

    The value lists, per conversation that differs, `kind`, `conversation`, `token`, `training`,
    `serving` and `of_space`; it is empty if all renderings are equal.
    """
    parts = trained.parts
    gguf = next(iter(parts.facts.get("gguf.chat_template", ())), None)
    if gguf is None or not isinstance(gguf.value, str) or trained.template is None:
        return
    texts = {
        name: text
        for name in ("bos_token", "eos_token")
        if isinstance(text := _value(parts, f"gguf.{name}"), str)
    }
    found = differences(
        Side(trained.template, trained.tokens),
        Side(gguf.value, {**trained.tokens, **texts}),
        (*_conversations(parts, splits), *PROBES),
        trained.tokenizer,
    )
    value = [
        {
            "kind": d.conversation.kind,
            "conversation": d.conversation.name,
            "token": d.token,
            "training": d.training,
            "serving": d.serving,
            "of_space": d.of_space,
        }
        for d in found
    ]
    parts.add("template.served", value, gguf.where)


SERVED_ROWS = 3  # training conversations that are rendered by both templates


def _conversations(parts: RunParts, splits: Mapping[str, str]) -> list[Conversation]:
    """Return the first training conversations."""
    found: list[Conversation] = []
    for path in (path for path, split in splits.items() if split == "train"):
        for record in parts.records.get(path, ())[: 10 * SERVED_ROWS]:
            example = record.example
            if example.messages and not example.images and len(found) < SERVED_ROWS:
                name = f"training row {path}:{record.line}"
                messages = _for_template(example)
                found.append(Conversation("row", name, messages, _tools(example)))
    return found


def _value(parts: RunParts, *names: str) -> Any:
    """Return the first value of a setting or fact under one of the names."""
    for name in names:
        for fact in (*parts.settings.get(name, ()), *parts.facts.get(name, ())):
            if fact.value is not None:
                return fact.value
    return None


# --- which file is what -----------------------------------------------------------------------


def _split_of_files(parts: RunParts) -> dict[str, str]:
    """Return the split of each file with rows: by settings that name it, else by its own name."""
    kinds = {a.path: a.kind for a in parts.artifacts}
    named = {  # a file that is named for both is trained on
        **_named_files(parts, "eval_dataset", "eval"),
        **_named_files(parts, "dataset", "train"),
    }
    paths = [f.where.path for f in parts.facts.get("data.file", ())]
    splits: dict[str, str] = {}
    for path in paths:
        stated = role_of(path) or named.get(path.rpartition("/")[2], "")
        if kinds.get(path) == "generations" and not stated:
            splits[path] = "generations"
        else:
            splits[path] = stated or _split_by_name(path)
    _undo_loaded_by_script(parts, splits)
    _leave_other_tables(parts, splits)
    certain = any(split == "train" for split in splits.values())
    for path, split in splits.items():
        if not split:
            splits[path] = "other" if certain else "train"
    return splits


def _leave_other_tables(parts: RunParts, splits: dict[str, str]) -> None:
    """Take tables of texts and classes of unknown columns for rows only of a classifier."""
    if _value(parts, "run.kind") == "classification":
        return
    for fact in parts.facts.get("data.file", ()):
        if fact.value.get("classed") and not splits[fact.where.path]:
            splits[fact.where.path] = "other"


def _undo_loaded_by_script(parts: RunParts, splits: dict[str, str]) -> None:
    """Give files their own name's split if only a script names them: it loads both with one call.

    A configuration that lists a test file among the training files means it.
    """
    meant = [f for f in parts.settings.get("dataset", ()) if not _is_script(f.where.path)]
    listed = {
        text.replace("\\", "/").rpartition("/")[2]
        for fact in meant
        for value in (fact.value if isinstance(fact.value, list) else [fact.value])
        for text in _paths_in(value)
    }
    own = {
        path: _split_by_name(path)
        for path, split in splits.items()
        if split == "train" and path.rpartition("/")[2] not in listed
    }
    if any(split == "train" and own.get(path) in (None, "train") for path, split in splits.items()):
        splits |= {path: split for path, split in own.items() if split in ("eval", "test")}


def _is_script(path: str) -> bool:
    return path.lower().endswith((".py", ".ipynb"))


def _named_files(parts: RunParts, setting: str, split: str) -> dict[str, str]:
    found = {}
    for fact in parts.settings.get(setting, ()):
        values = fact.value if isinstance(fact.value, list) else [fact.value]
        for value in values:
            for text in _paths_in(value):
                found[text.replace("\\", "/").rpartition("/")[2]] = split
    return found


def _paths_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key in ("path", "data_files", "ds_path", "name", "file_name"):
            inner = value.get(key)
            yield from (
                inner if isinstance(inner, list) else [inner] if isinstance(inner, str) else []
            )


def _split_by_name(path: str) -> str:
    """Return the split that a path names, its last part first; "" if none."""
    pieces = path.lower().split("/")
    for piece in (pieces[-1].rpartition(".")[0] or pieces[-1], *reversed(pieces[:-1])):
        for split, pattern in _SPLIT_PATTERNS:
            if pattern.search(piece):
                return split
    return ""


# --- counts over whole files ------------------------------------------------------------------


def _count(parts: RunParts, splits: Mapping[str, str]) -> None:
    """Add `data.<split>.rows` and, for training rows, what is wrong with how many of them."""
    files = {f.where.path: f for f in parts.facts.get("data.file", ())}
    for split in sorted(set(splits.values())):
        of_split = [files[path] for path, s in splits.items() if s == split and path in files]
        raw = [f for f in of_split if f.value["kind"] != "data-arrow"]
        used = raw or of_split  # prepared Arrow files repeat the rows of the raw ones
        if used:
            parts.add(f"data.{split}.rows", sum(f.value["rows"] for f in used), used[0].where)
        if split in ("train", "eval") and used:
            _count_faults(parts, split, used)


def _count_faults(parts: RunParts, split: str, files: Sequence[Fact]) -> None:
    where = files[0].where
    prefix = "data." if split == "train" else f"data.{split}."
    layouts: Counter[str] = Counter()
    for fact in files:
        layouts.update(fact.value["layouts"])
    if split == "train" and layouts:
        parts.add("data.layout", layouts.most_common(1)[0][0], where)
        parts.add("data.layouts", dict(layouts.most_common()), where)
    for name, key, places in (
        ("invalid_rows", "invalid", "invalid_lines"),
        ("blank_rows", "blank", ""),
        ("duplicate_rows", "duplicates", "duplicate_lines"),
        ("conflicting_rows", "conflicts", "conflict_lines"),
    ):
        worst = max(files, key=lambda f: f.value[key])
        place = Where(worst.where.path, line=_first_line(worst.value.get(places)))
        parts.add(prefix + name, sum(f.value[key] for f in files), place)


def _first_line(lines: Any) -> int | None:
    if not lines:
        return None
    first = lines[0]
    number = first[0] if isinstance(first, list | tuple) else first
    return number if isinstance(number, int) else None


def _overlap(parts: RunParts, splits: Mapping[str, str]) -> None:
    """Add `data.overlap.<split>`: how many rows of another split have a prompt of the training set.

    The value is a dict: rows, shared (by prompt and answer), prompts (by prompt alone), and the
    line pairs (other, train) of the first shared ones. All rows of all files are compared, where a
    folder holds both kinds those of the folder.
    """
    others = [s for s in ("eval", "test", "benchmark") if s in splits.values()]
    train = [p for p, s in splits.items() if s == "train"]
    if not others or not train:
        return
    lines: dict[int, dict[str, tuple[str, int]]] = {}  # whole → folder → place
    prompts: dict[int, set[str]] = {}  # prompt → folders
    for path, line, prompt, whole in _hashes(parts, train):
        lines.setdefault(whole, {}).setdefault(folder_of(path), (path, line))
        prompts.setdefault(prompt, set()).add(folder_of(path))
    folders = {folder_of(path) for path in train}
    for split in others:
        rows = shared = asked = 0
        pairs: list[tuple[str, int, str, int]] = []
        for path, line, prompt, whole in _hashes(
            parts, [p for p, s in splits.items() if s == split]
        ):
            # Two versions of a data set lie in a folder each, and a row may be in both.
            beside = {folder_of(path)} & folders or folders
            rows += 1
            asked += bool(prompts.get(prompt, set()) & beside)
            places = [p for folder, p in lines.get(whole, {}).items() if folder in beside]
            if places:
                shared += 1
                if len(pairs) < 20:
                    pairs.append((path, line, *places[0]))
        if rows:
            value = {"rows": rows, "shared": shared, "prompts": asked, "pairs": pairs}
            place = Where(pairs[0][0], line=pairs[0][1]) if pairs else Where(train[0])
            parts.add(f"data.overlap.{split}", value, place)


def _hashes(parts: RunParts, paths: Iterable[str]) -> Iterator[tuple[str, int, int, int]]:
    """Yield path, line, and hashes of prompt and of the whole row, for rows that have text."""
    kinds = {a.path: a.kind for a in parts.artifacts}
    wanted = set(paths)
    for source in parts.sources:
        if source.path not in wanted or kinds.get(source.path) in ("data-arrow", "data-text", None):
            continue
        try:
            classed = columns_of_classes(source, kinds[source.path])
            for row in rows_of(source, kinds[source.path]):
                example = understand(row.value, classed) if not row.problem else None
                if example is None:
                    continue
                whole = normalised(f"{example.prompt} {example.response} {example.text}")
                if len(whole) >= 20:
                    asked = normalised(example.prompt or example.text)
                    yield source.path, row.line, hash_of(asked), hash_of(whole)
        except Exception:
            # The reader of this file has told what is wrong with it already.
            continue


# --- the template -----------------------------------------------------------------------------


def _check_template(parts: RunParts) -> None:
    """Add what a probe conversation shows of the primary template.

    `template.problem` (text), `template.system` kept | dropped | raises, `template.closes` the
    text after the last answer, `template.tools` kept | dropped, `template.thinking` kept or
    stripped, `template.ignores_generation_prompt` bool, `template.formats` list.
    """
    fact = next(iter(parts.facts.get(TEMPLATE, ())), None)
    if fact is None:
        return
    problem = syntax_problem(fact.value)
    if problem is not None:
        line = (fact.where.line or 1) + (problem.line or 1) - 1 if _own_file(fact) else None
        where = Where(fact.where.path, line=line) if line else fact.where
        parts.add("template.problem", problem.text, where)
        return
    tokens = special_tokens(parts)
    for name, value in probe(fact.value, tokens).items():
        parts.add(f"template.{name}", value, fact.where)


def _own_file(fact: Fact) -> bool:
    return fact.where.path.endswith((".jinja", ".jinja2"))


def probe(template: str, tokens: Mapping[str, str]) -> dict[str, Any]:
    """Render marked conversations and return what became of each mark."""

    def shown(messages: list[dict[str, Any]], **given: Any) -> Rendered | TemplateProblem:
        return render(template, messages, tokens=tokens, **given)

    user, answer = {"role": "user", "content": "QQ1Q"}, {"role": "assistant", "content": "ZZ9Z"}
    plain = shown([user, answer])
    if isinstance(plain, TemplateProblem):
        # LLaMA-Factory's copies for Mistral and Llama 2 fail without a system message.
        plain = shown([{"role": "system", "content": "SS5S"}, user, answer])
    if isinstance(plain, TemplateProblem):
        return {"problem": plain.text} if plain.kind != "raised" else {}
    found: dict[str, Any] = {"formats": list(formats_of(plain.text))}
    found["keeps_answer"] = "ZZ9Z" in plain.text
    found["closes"] = plain.text.partition("ZZ9Z")[2] if "ZZ9Z" in plain.text else ""
    asked = shown([user], add_generation_prompt=True)
    unasked = shown([user])
    if isinstance(asked, Rendered) and isinstance(unasked, Rendered):
        found["ignores_generation_prompt"] = asked.text == unasked.text
    part = answer_part(plain.text)
    found["always_opens_turn"] = part is not None and not part.strip()
    system = shown([{"role": "system", "content": "SS5S"}, user, answer])
    found["system"] = (
        "raises" if isinstance(system, TemplateProblem) else
        "kept" if "SS5S" in system.text else "dropped"
    )  # fmt: skip
    call = {"type": "function", "function": {"name": "ff7f", "arguments": {"x": 1}}}
    calls = {"role": "assistant", "content": "", "tool_calls": [call]}
    tools = [{"type": "function", "function": {"name": "ff7f", "parameters": {}}}]
    called = shown([user, calls], tools=tools)
    if isinstance(called, Rendered):
        before = called.text.partition("QQ1Q")[2]
        found["tools"] = "kept" if "ff7f" in before else "dropped"
    thought = {"role": "assistant", "content": "<think>\nTT3T\n</think>\n\nZZ9Z"}
    history = shown([user, thought, user, answer])
    if isinstance(history, Rendered):
        found["thinking"] = "kept" if "TT3T" in history.text else "stripped"
    return found


def special_tokens(parts: RunParts) -> dict[str, str]:
    """Return bos, eos, pad and unk as texts; what no file says is taken from the family."""
    own = family(str(_value(parts, "model.family") or ""))
    known = {"bos_token": own.bos[0], "eos_token": own.eos[0]} if own else {}
    tokens = {name: text for name, text in known.items() if text}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = _value(parts, f"tokenizer.{name}")
        if isinstance(value, str):
            tokens[name] = value
    return tokens


# --- rows -------------------------------------------------------------------------------------


@dataclass
class _Trained:
    """How this run turns a row into tokens: its template, tokenizer, prompt texts and limits."""

    parts: RunParts

    @cached_property
    def template(self) -> str | None:
        found = _value(self.parts, TEMPLATE, "script.train.chat_template")
        return found if isinstance(found, str) else None

    @cached_property
    def tokens(self) -> dict[str, str]:
        return special_tokens(self.parts)

    @cached_property
    def family(self) -> Family | None:
        return family(str(_value(self.parts, "model.family") or ""))

    @cached_property
    def eos(self) -> str:
        return self.tokens.get("eos_token", "")

    @cached_property
    def bos(self) -> str:
        return self.tokens.get("bos_token", "")

    @cached_property
    def stops(self) -> tuple[str, ...]:
        """Texts that end a turn, the longest first."""
        own = self.family.stop_texts if self.family else ()
        found = {*own, *STOP_TEXTS, *table()["end_of_generation"]["value"], self.eos} - {""}
        return tuple(sorted(found, key=len, reverse=True))

    @cached_property
    def prompts(self) -> list[str]:
        """The prompt texts of the training script, in its order."""
        facts = self.parts.facts.get("script.train.prompt", ())
        texts = [f.value["text"] for f in facts if isinstance(f.value, dict)]
        return [t for t in texts if isinstance(t, str) and "{" in t]

    @cached_property
    def max_length(self) -> int | None:
        value = _value(self.parts, "max_length")
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**7:
            return value
        trl = _value(self.parts, "run.trainer") == "trl" and "max_length" not in self.parts.settings
        return TRL_MAX_LENGTH if trl and self._sft() else None

    def _sft(self) -> bool:
        return _value(self.parts, "run.kind") in ("sft", None)

    @cached_property
    def source(self) -> Source | None:
        """The run's own tokenizer.json; None if there is none or it cannot be read."""
        folder = _value(self.parts, "tokenizer.folder") or ""
        sources = [s for s in self.parts.sources if s.name == tokens.FILE]
        sources.sort(key=lambda s: (folder_of(s.path) != folder, s.path.count("/"), s.path))
        return next((s for s in sources if tokens.ask(tokens.loads, s)()), None)

    @cached_property
    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer in this process, for what asks it row by row."""
        return tokens.load(self.source) if self.source else None

    @cached_property
    def adds_bos(self) -> bool | None:
        """Whether training put BOS before a text: by the script's calls, else by the tokenizer."""
        calls = self.parts.facts.get("script.train.adds_special_tokens", ())
        if calls and not any(fact.value for fact in calls):
            return False
        before = _value(self.parts, "tokenizer.adds_before")
        if isinstance(before, list):
            return bool(self.bos) and self.bos in before
        stated = _value(self.parts, "tokenizer.add_bos_token")
        return stated if isinstance(stated, bool) else None


SCHEMA: dict[str, str] = {
    "split": "String", "path": "String", "line": "Int64", "layout": "String", "record": "String",
    "prompt": "String", "response": "String", "rejected": "String", "reference": "String",
    "stop_reason": "String", "problems": "List", "roles": "String", "rendered": "String",
    "rendered_by": "String", "problem": "String", "format": "String", "n_chars": "Int64",
    "n_tokens": "Int64", "n_prompt_tokens": "Int64", "n_bytes": "Int64", "last_tokens": "Ids",
    "stop_text": "String", "stop_ids": "Int64", "ends_with_eos": "Boolean",
    "ends_with_turn_end": "Boolean", "ends_with_header": "Boolean", "starts_with_bos": "Boolean",
    "double_bos": "Boolean", "truncated": "Boolean", "eos_masked": "Boolean",
    "supervised": "Float64", "response_empty": "Boolean", "images": "Strings",
    "image_marks": "Int64",
}  # fmt: skip


def _frame(trained: _Trained, splits: Mapping[str, str]) -> pl.DataFrame:
    """Return the frame `Run.data` of all sampled rows."""
    rows: list[dict[str, Any]] = []
    for path, split in splits.items():
        records = trained.parts.records.get(path, ())
        chosen = _chosen(records)
        derived = [_row(trained, split, path, r, r.line in chosen) for r in records]
        _tokenise(trained, [row for row in derived if row["line"] in chosen])
        rows += derived
    return rows_frame(rows)


def rows_frame(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Return rows as a frame with the columns of `SCHEMA`."""
    import polars as pl

    types = {
        "List": pl.List(pl.String), "Strings": pl.List(pl.String), "Ids": pl.List(pl.Int64),
    }  # fmt: skip
    schema = {name: types.get(kind) or getattr(pl, kind) for name, kind in SCHEMA.items()}
    columns = {name: [row[name] for row in rows] for name in schema}  # a third of the time of rows
    # Lists of texts of a stated type Polars makes one by one, a hundred times as slowly.
    texts = {
        name: pl.Series(name, columns[name]).cast(schema[name])
        for name, kind in SCHEMA.items()
        if kind in ("List", "Strings")
    }
    return pl.DataFrame(columns | texts, schema=schema)


def _chosen(records: Sequence[Record]) -> set[int]:
    """Return the lines of the rows that are rendered: every k-th, within the limits."""
    step = max(1, -(-len(records) // RENDERED_ROWS))
    chosen: set[int] = set()
    used = 0
    for record in records[::step]:
        used += _length(record.value)
        if used > RENDERED_CHARS and chosen:
            break
        chosen.add(record.line)
    return chosen


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_length, value.values()))
    return sum(map(_length, value)) if isinstance(value, list | tuple) else 8


_ENCODER = json.JSONEncoder(ensure_ascii=False, default=str)


def _row(
    trained: _Trained, split: str, path: str, record: Record, rendered: bool
) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(SCHEMA)
    row |= {"split": split, "path": path, "line": record.line}
    row["record"] = _ENCODER.encode(record.value)
    example = record.example
    row |= {"layout": example.layout, "problems": list(example.problems)}
    if split == "generations":
        return _generation(row, record.value, example)
    row["prompt"] = example.prompt or None
    row["response"] = example.response if example.layout not in _WITHOUT_RESPONSE else None
    row["rejected"] = example.rejected or None
    row["roles"] = "".join(str(m["role"])[:1] for m in example.messages)
    row["images"], row["image_marks"] = list(example.images), example.image_marks
    if row["response"] is not None:
        row["response_empty"] = not example.response.strip() and not _calls(example)
    if example.layout == "pretokenised":
        return _pretokenised(trained, row, record.value)
    if rendered:
        text, by, problem = _rendered(trained, example, record.value)
        row |= {"rendered": text, "rendered_by": by or None, "problem": problem or None}
        if text is not None:
            _judge_text(trained, row, text)
    return row


_WITHOUT_RESPONSE = ("text", "pretokenised", "unknown", "prompt-only")


def _calls(example: Example) -> bool:
    return any("tool_calls" in message for message in example.messages)


def _rendered(trained: _Trained, example: Example, value: Any) -> tuple[str | None, str, str]:
    """Return the training text, what made it, and the template's objection to the row."""
    if example.text:
        return example.text, "text", ""
    if example.messages and trained.template is not None:
        made = render(
            trained.template, _for_template(example), tools=_tools(example), tokens=trained.tokens
        )
        if isinstance(made, Rendered):
            return made.text, "template", ""
        return None, "", made.text
    if example.messages:
        return None, "", ""
    scripted = _by_script(trained, example, value)
    if scripted is not None:
        return scripted, "script", ""
    if example.layout in ("prompt-completion", "preference", "kto"):
        return example.prompt + example.response, "joined", ""
    return None, "", ""


def _for_template(example: Example) -> list[dict[str, Any]]:
    """Return messages with the arguments of tool calls as objects, as templates want them."""
    messages = []
    for message in example.messages:
        copy = dict(message)
        if isinstance(copy.get("tool_calls"), list):
            copy["tool_calls"] = [_parsed_call(call) for call in copy["tool_calls"]]
        messages.append(copy)
    return messages


def _parsed_call(call: Any) -> Any:
    function = call.get("function") if isinstance(call, Mapping) else None
    if isinstance(function, Mapping) and isinstance(function.get("arguments"), str):
        try:
            arguments = json.loads(function["arguments"])
        except ValueError:
            return call
        return {**call, "function": {**function, "arguments": arguments}}
    return call


def _tools(example: Example) -> Any:
    if isinstance(example.tools, str):
        try:
            return json.loads(example.tools)
        except ValueError:
            return None
    return example.tools or None


_SLOT = re.compile(r"\{([^{}]*)\}")
_SLOT_NAME = re.compile(r"[A-Za-z_]\w*")


def _by_script(trained: _Trained, example: Example, value: Mapping[str, Any]) -> str | None:
    """Fill the first prompt text of the training script whose slots the row can fill.

    The slot that holds the answer must be among them, or the text is no training text.
    """
    response_key = example.keys[1] if len(example.keys) > 1 else ""
    for prompt in trained.prompts:
        filled: dict[str, str] = {}
        for slot in set(_SLOT.findall(prompt)):
            text = _slot_value(trained, slot, value)
            if text is None:
                break
            filled[slot] = text
        else:
            if any(response_key in _SLOT_NAME.findall(slot) for slot in filled):
                pieces = _SLOT.split(prompt)  # text, slot, text, slot, ..., text
                return "".join(filled[p] if n % 2 else p for n, p in enumerate(pieces))
    return None


def _slot_value(trained: _Trained, slot: str, value: Mapping[str, Any]) -> str | None:
    names = _SLOT_NAME.findall(slot)
    if any(name in ("eos_token", "EOS_TOKEN", "eos") for name in names):
        return trained.eos
    if any(name in ("bos_token", "BOS_TOKEN", "bos") for name in names):
        return trained.bos
    key = next((name for name in reversed(names) if name in value), None)
    return str(value[key]) if key is not None else None


def _judge_text(trained: _Trained, row: dict[str, Any], text: str) -> None:
    """Add what the two ends of a training text show."""
    end = text.rstrip()
    stop = next((s for s in trained.stops if end.endswith(s)), "")
    row["n_chars"], row["n_bytes"] = len(text), len(text.encode("utf-8", errors="replace"))
    row["stop_text"] = stop
    row["ends_with_eos"] = end.endswith(trained.eos) if trained.eos else None
    row["ends_with_turn_end"] = bool(stop)
    part = answer_part(text)
    row["ends_with_header"] = part is not None and not part.strip()
    row["format"] = ",".join(formats_of(text)) or None
    row["starts_with_bos"] = text.startswith(trained.bos) if trained.bos else None
    if trained.bos and row["rendered_by"] in ("text", "script", "joined"):
        twice = text.startswith(trained.bos * 2)
        again = bool(row["starts_with_bos"]) and trained.adds_bos
        row["double_bos"] = twice or (again if trained.adds_bos is not None else None)
    elif trained.bos:
        row["double_bos"] = text.startswith(trained.bos * 2)


def _tokenise(trained: _Trained, rows: Sequence[dict[str, Any]]) -> None:
    """Add token counts, the last ids, and whether the row is cut by max_length."""
    texts = [row for row in rows if row["rendered"] is not None]
    if texts and trained.source is not None:
        stops = _stops(texts)
        asked = [*stops, *(row["rendered"] for row in texts)]
        counts = tokens.ask(tokens.count, trained.source, asked, LAST)()
        widths = {stop: number for stop, (number, _) in zip(stops, counts, strict=False)}
        for row, (number, last) in zip(texts, counts[len(stops) :], strict=True):
            row["n_tokens"], row["last_tokens"] = number, last
            row["stop_ids"] = widths.get(row["stop_text"])
    limit = trained.max_length
    for row in rows:
        if limit is not None:
            row["truncated"] = _is_cut(row["n_tokens"], row["n_bytes"], row["n_chars"], limit)


def _stops(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({row["stop_text"] for row in rows if row["stop_text"]})


# Without the tokenizer only rows far from the limit can be judged: no text has more tokens than
# bytes, and no natural text has more than 6 characters a token (English has about 4.3).
SURE_CHARS = 6


def _is_cut(tokens: int | None, size: int | None, chars: int | None, limit: int) -> bool | None:
    if tokens is not None:
        return tokens > limit
    if size is not None and size <= limit:
        return False
    if chars is not None and chars > SURE_CHARS * limit:
        return True
    return None


def _pretokenised(
    trained: _Trained, row: dict[str, Any], value: Mapping[str, Any]
) -> dict[str, Any]:
    """Judge a row of ids: its end without padding, and which of its labels are learned."""
    ids = [i for i in value.get("input_ids") or [] if isinstance(i, int)]
    labels = value.get("labels")
    mask = value.get("attention_mask")
    if isinstance(mask, list) and len(mask) == len(ids):
        kept = [n for n, m in enumerate(mask) if m]
    else:
        kept = list(range(len(ids)))
    real = [ids[n] for n in kept]
    row["n_tokens"], row["last_tokens"] = len(real), real[-LAST:]
    row["layout"], row["rendered_by"] = "pretokenised", "ids"
    if trained.max_length is not None:
        row["truncated"] = len(real) >= trained.max_length
    eos = _value(trained.parts, "tokenizer.eos_id")
    if isinstance(eos, int) and real:
        row["ends_with_eos"] = eos in real[-2:]
    bos = _value(trained.parts, "tokenizer.bos_id")
    if isinstance(bos, int) and real:
        row["starts_with_bos"] = real[0] == bos
        row["double_bos"] = real[:2] == [bos, bos] and bos != eos
    if isinstance(labels, list) and labels:
        learned = [n for n in kept if n < len(labels) and labels[n] != MASKED]
        row["supervised"] = len(learned) / max(1, len(kept))
        if isinstance(eos, int) and eos in real:
            at = max(n for n in kept if ids[n] == eos)
            row["eos_masked"] = at < len(labels) and labels[at] == MASKED
    if trained.tokenizer is not None and real:
        text = trained.tokenizer.decode(real[:4000], skip_special_tokens=False)
        row["rendered"], row["n_chars"] = text, len(text)
        row["format"] = ",".join(formats_of(text)) or None
        end = trained.tokenizer.decode(real[-LAST:], skip_special_tokens=False).rstrip()
        row["stop_text"] = next((s for s in trained.stops if end.endswith(s)), "")
        row["ends_with_turn_end"] = bool(row["stop_text"])
    return row


def _generation(row: dict[str, Any], value: Any, example: Example) -> dict[str, Any]:
    """Fill prompt, output, reference and stop reason of one output of a model."""
    if not isinstance(value, Mapping):
        return row
    keys = [
        k for k in _OUTPUT_KEYS
        if isinstance(value.get(k), str) or (k in _CLASS_KEYS and type(value.get(k)) is int)
    ]  # fmt: skip
    output = str(value[keys[0]]) if keys else example.response
    prompts = [k for k in ("prompt", "question", "instruction", "input", "query") if k in value]
    reference = next(
        (value[k] for k in _REFERENCE_KEYS if k in value and k != (keys[0] if keys else "")), None
    )
    row["prompt"] = str(value[prompts[0]]) if prompts else example.prompt or None
    row["response"] = output
    row["response_empty"] = not str(output).strip()
    row["reference"] = str(reference) if reference is not None else None
    reason = value.get("finish_reason", value.get("stop_reason"))
    row["stop_reason"] = str(reason) if reason is not None else None
    row["n_chars"] = len(str(output))
    counts = (value.get(key) for key in _COUNT_KEYS)
    count = next((c for c in counts if c is not None), None)
    row["n_tokens"] = count if isinstance(count, int) else None
    row["format"] = ",".join(formats_of(str(output))) or None
    return row


# --- images -----------------------------------------------------------------------------------

MAX_IMAGES = 200  # headers read; a share of 1 % then shows at least once with 87 %
LONG_SIDE = 2048  # pixels; above it a Qwen2-VL image takes more than 5,000 tokens


def _count_images(parts: RunParts) -> None:
    """Add `data.images`: of the pictures that rows name, how many are read, not RGB, large."""
    read = (".png", ".jpg", ".jpeg")
    pictures = [s for s in parts.sources if s.name.lower().endswith(read)]
    wanted = set()
    for records in parts.records.values() if pictures else ():
        for record in records[:2000]:
            wanted |= {name.replace("\\", "/").rpartition("/")[2] for name in record.example.images}
    wanted -= {"", "data:"}
    found = [s for s in pictures if s.name in wanted][:MAX_IMAGES]
    if not found:
        return
    counts: Counter[str] = Counter()
    for source in found:
        size = image_header(source.head(1 << 16))
        counts["read" if size else "unreadable"] += 1
        if size:
            counts["not-rgb"] += size[2] != "RGB"
            counts["large"] += max(size[:2]) > LONG_SIDE
    parts.add("data.images", dict(counts), Where(found[0].path))


def image_header(head: bytes) -> tuple[int, int, str] | None:
    """Return width, height and mode of a PNG or JPEG by its first bytes; None if unknown."""
    if head.startswith(b"\x89PNG\r\n\x1a\n") and len(head) >= 26:
        modes = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}
        width, height = (int.from_bytes(head[at : at + 4], "big") for at in (16, 20))
        return width, height, modes.get(head[25], "?")
    if head.startswith(b"\xff\xd8"):
        return _jpeg_header(head)
    return None


def _jpeg_header(head: bytes) -> tuple[int, int, str] | None:
    """Walk the segments to the frame header (SOF0 to SOF15 without DHT, JPG and DAC)."""
    at = 2
    while at + 9 < len(head) and head[at] == 0xFF:
        mark, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4], "big")
        if 0xC0 <= mark <= 0xCF and mark not in (0xC4, 0xC8, 0xCC):
            height = int.from_bytes(head[at + 5 : at + 7], "big")
            width = int.from_bytes(head[at + 7 : at + 9], "big")
            modes = {1: "L", 3: "RGB", 4: "CMYK"}
            return width, height, modes.get(head[at + 9], "?")
        at += 2 + length
    return None
