"""Turn a cause's fix into something to do here: an edit at a line, or the trainer's setting."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from ftdoctor.model import Cause, Edit, Fact, Run, Value

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


def fix_text(cause: Cause, trainer: str) -> str:
    """Return the exact setting or step in the dialect of the run's trainer, "" if none is known."""
    if trainer in cause.fix_for:
        return cause.fix_for[trainer]
    if cause.patch is None:
        return ""
    name = setting_in(trainer, cause.patch.setting)
    if cause.patch.delete:
        return f"Remove `{name}`."
    return f"Set `{name}` to `{literal(cause.patch.to, yaml=True)}`."


def edit_for(cause: Cause, run: Run) -> Edit | None:
    """Return the change at the place where the setting was read, if we hold that line of text."""
    if cause.patch is None:
        return None
    for fact in run.settings.get(cause.patch.setting, ()):
        line = _line_at(fact, run)
        if line is None or fact.where.line is None:
            continue
        if cause.patch.delete:
            return Edit(fact.where.path, fact.where.line, line, "")
        changed = replace_value(line, fact, cause.patch.to)
        if changed is not None and changed != line:
            return Edit(fact.where.path, fact.where.line, line, changed)
    return None


def _line_at(fact: Fact, run: Run) -> str | None:
    text = run.texts.get(fact.where.path)
    if text is None or fact.where.line is None:
        return None
    lines = text.splitlines()
    return lines[fact.where.line - 1] if 0 < fact.where.line <= len(lines) else None


def replace_value(line: str, fact: Fact, to: Value) -> str | None:
    """Return the line with the setting's value replaced, or None if the value is not on it.

    Understands `key=value` (Python, shell), `key: value` (YAML), `"key": value` (JSON) and
    `--key value` (shell).
    """
    suffix = PurePosixPath(fact.where.path).suffix
    yaml = suffix not in {".py", ".ipynb"}
    name = re.escape(fact.name.rsplit(".", 1)[-1])
    value = r"(\[[^\]]*\]|\"[^\"]*\"|'[^']*'|[^\s,;#)}\]]+)"
    patterns = (
        rf"(?P<head>\b\w*{name}\w*\"?\s*[:=]\s*){value}",
        rf"(?P<head>--\w*{name}\w*[ =]){value}",
        rf"(?P<head>^\s*[\w.\"-]+\s*[:=]\s*){value}",
    )
    for pattern in patterns:
        match = re.search(pattern, line)
        if match:
            new = literal(to, yaml=yaml)
            return line[: match.start()] + match["head"] + new + line[match.end() :]
    return None


def literal(value: Value, *, yaml: bool) -> str:
    """Write a value as YAML/JSON (`true`) or as Python (`True`)."""
    if isinstance(value, bool):
        return str(value).lower() if yaml else str(value)
    if value is None:
        return "null" if yaml else "None"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str):
        return value if yaml else f'"{value}"'
    return str(value)
