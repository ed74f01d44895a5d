"""Turn a cause's fix into something to do here: an edit at a line, or the trainer's setting."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import replace

from ftdoctor.detect.facts import same
from ftdoctor.detect.wording import place_of
from ftdoctor.edits import cell_code, edit_command, in_cell, literal, replace_value
from ftdoctor.model import Cause, Edit, Fact, Patch, Run
from ftdoctor.read.code import syntax_tree

# Kinds of files that tell what was asked for, and are no place to change it.
RECORDS = frozenset({
    "training-args", "tensorboard", "wandb-binary", "wandb-config", "wandb-metadata",
    "mlflow-param", "mlflow-database", "trainer-state", "console",
})  # fmt: skip
TEXT_END = "text.end"  # the setting of a patch that changes what the training text ends with

# Canonical setting (HF TrainingArguments) -> name in the trainer's own configuration.
# Sources: the trainers' documentation as cited in the reader of each format.
DIALECTS: Mapping[str, Mapping[str, str]] = {
    "axolotl": {
        "num_train_epochs": "num_epochs",
        "per_device_train_batch_size": "micro_batch_size",
        "lr_scheduler_type": "lr_scheduler",
        "optim": "optimizer",
        "max_length": "sequence_len",
        "lora.r": "lora_r",
        "lora.alpha": "lora_alpha",
        "lora.dropout": "lora_dropout",
        "lora.target_modules": "lora_target_modules",
        "model_name_or_path": "base_model",
        "packing": "sample_packing",
    },
    "llama-factory": {
        "max_length": "cutoff_len",
        "lora.r": "lora_rank",
        "lora.alpha": "lora_alpha",
        "lora.dropout": "lora_dropout",
        "lora.target_modules": "lora_target",
        "train_on_inputs": "train_on_prompt",
    },
    "torchtune": {
        "learning_rate": "optimizer.lr",
        "num_train_epochs": "epochs",
        "per_device_train_batch_size": "batch_size",
        "max_grad_norm": "clip_grad_norm",
        "max_length": "tokenizer.max_seq_len",
        "lora.r": "model.lora_rank",
        "lora.alpha": "model.lora_alpha",
    },
    "tinker": {
        "num_train_epochs": "num_epochs",
        "lr_scheduler_type": "lr_schedule",
        "lora.r": "lora_rank",
        "model_name_or_path": "model_name",
    },
    "mlx": {
        "max_steps": "iters",
        "per_device_train_batch_size": "batch_size",
        "max_length": "max_seq_length",
        "lora.r": "lora_parameters.rank",
        "lora.alpha": "lora_parameters.scale",
    },
}


def setting_in(trainer: str, setting: str) -> str:
    """Return what the trainer calls a canonical setting."""
    named = DIALECTS.get(trainer, {}).get(setting)
    return named or setting.replace("lora.alpha", "lora_alpha").removeprefix("lora.")


def fitting(cause: Cause, run: Run) -> Cause:
    """Return a cause with the value that its patch has for this run.

    There is no patch where the setting has that value already: something else overrides it then.
    """
    patch = cause.patch
    if patch is None or patch.delete or patch.setting == TEXT_END:
        return cause
    adapted = any(name.startswith(("lora.", "adapter")) for name in (*run.settings, *run.facts))
    if patch.to_full is not None and run.settings and not adapted:
        patch = replace(patch, to=patch.to_full)
    known = run.setting(patch.setting)
    return replace(cause, patch=None if known and known.value == patch.to else patch)


def fix_text(cause: Cause, trainer: str) -> str:
    """Return the exact setting or step in the dialect of the run's trainer, "" if none is known."""
    if trainer in cause.fix_for:
        return cause.fix_for[trainer]
    if cause.patch is None or cause.patch.setting == TEXT_END:
        return ""
    name = setting_in(trainer, cause.patch.setting)
    if cause.patch.delete:
        return f"Remove `{name}`."
    return f"Set `{name}` to `{literal(cause.patch.to, yaml=True)}`."


def place_text(cause: Cause, run: Run) -> str:
    """Return where the setting was given if no file that we hold sets it, "" if nothing tells."""
    facts = _set_by(run, cause.patch.setting) if cause.patch else []
    kinds = {_kind_of(fact, run): fact for fact in reversed(facts)}
    if not facts or not kinds.keys() <= RECORDS:
        return ""
    if typed := kinds.get("wandb-metadata"):
        return f" It was given on the command line, as `{place_of(typed)}` records."
    value = literal(facts[0].value, yaml=True)
    return f" No file here sets it; `{place_of(facts[0])}` records that it was `{value}`."


def edit_for(cause: Cause, run: Run) -> Edit | None:
    """Return the change at the place that gave the value in force, if we hold that line of text."""
    if cause.patch is None:
        return None
    if cause.patch.setting == TEXT_END:
        return _edit_text_end(run, str(cause.patch.to))
    edits = (_edit_at(fact, cause.patch, run) for fact in _set_by(run, cause.patch.setting))
    return next((edit for edit in edits if edit is not None), None)


def _set_by(run: Run, setting: str) -> list[Fact]:
    """Return the places that give the value in force: what was typed before what a file says.

    A script's default that the command line replaced is no place to change. An option of the
    script's own (`weight_decay=args.wd`) is found under its name (`--wd`).
    """
    facts = run.settings.get(setting, ())
    own = (fact for name in _own_options(run, setting) for fact in run.settings.get(name, ()))
    asked = [fact for fact in (*facts, *own) if same(fact.value, facts[0].value)]
    return sorted(asked, key=lambda fact: not _is_command(fact, run))


def _own_options(run: Run, setting: str) -> list[str]:
    """Return the options that scripts take a setting from, other than by its own name."""
    taken = re.compile(rf"\b{re.escape(setting.rpartition('.')[2])}\s*=\s*\w+\.(\w+)\b(?!\s*[.(])")
    named = (name for text in run.texts.values() for name in taken.findall(text))
    return sorted(set(named) - {setting}) if run.settings.get(setting) else []


def _kind_of(fact: Fact, run: Run) -> str:
    return next((a.kind for a in run.artifacts if a.path == fact.where.path), "")


def _is_command(fact: Fact, run: Run) -> bool:
    """Say whether a fact is an option of a command: in a shell script, or behind `!` in a cell."""
    kind, line = _kind_of(fact, run), _line_at(fact, run) or ""
    return kind == "shell" or (kind == "notebook" and bool(re.match(r"\s*\"\s*[!%]", line)))


def _edit_at(fact: Fact, patch: Patch, run: Run) -> Edit | None:
    line = _line_at(fact, run)
    if line is None or fact.where.line is None:
        return None
    if _is_command(fact, run):
        return edit_command(run.texts[fact.where.path].splitlines(), fact, patch)
    changed = "" if patch.delete else replace_value(line, fact, patch.to)
    if changed is None or changed == line:
        return None
    return Edit(fact.where.path, fact.where.line, line, changed)


def _edit_text_end(run: Run, ending: str) -> Edit | None:
    """Return the change that makes the script's training text end with an expression."""
    for fact in run.facts.get("script.train.prompt", ()):
        line = _line_at(fact, run)
        if line is None or fact.where.line is None:
            continue
        cell = fact.where.path.endswith(".ipynb")
        code = cell_code(line) if cell else line
        changed = end_with(code, tuple(fact.value.get("stops") or ()), ending)
        if changed is not None and changed != code:
            after = in_cell(line, changed) if cell else changed
            return Edit(fact.where.path, fact.where.line, line, after)
    return None


def end_with(line: str, stops: tuple[str, ...], ending: str) -> str | None:
    """Return a line `text = ...` or `return ...` with `ending` added to what it says.

    A stop text that stands there literally, at the end, gives way. None if the line is no whole
    statement of that form, or says it already.
    """
    indent = line[: len(line) - len(line.lstrip())]
    statement = _statement(line)
    value = getattr(statement, "value", None)
    if not isinstance(statement, ast.Assign | ast.Return) or value is None or ending in line:
        return None
    text = not isinstance(value, ast.Constant) or isinstance(value.value, str)
    if not text or not isinstance(value, ast.BinOp | ast.JoinedStr | ast.Name | ast.Constant):
        return None
    source = line.strip()
    start, end = value.col_offset, value.end_col_offset or len(source)
    # Columns of `ast` count bytes; a line with other letters is cut in bytes as well.
    encoded = source.encode()
    said, rest = encoded[start:end].decode(), encoded[end:].decode()
    for stop in stops:
        said = re.sub(rf"\s*\+\s*([\"']){re.escape(stop)}\1$", "", said)
        said = re.sub(rf"{re.escape(stop)}([\"'])$", r"\1", said)
    changed = f"{encoded[:start].decode()}{said} + {ending}{rest}"
    return indent + changed if _statement(changed) is not None else None


def _statement(line: str) -> ast.stmt | None:
    try:
        body = syntax_tree(line.strip()).body  # `return` outside a function parses; compiling fails
    except (SyntaxError, ValueError):
        return None
    return body[0] if len(body) == 1 else None


def _line_at(fact: Fact, run: Run) -> str | None:
    text = run.texts.get(fact.where.path)
    if text is None or fact.where.line is None:
        return None
    lines = text.splitlines()
    return lines[fact.where.line - 1] if 0 < fact.where.line <= len(lines) else None
