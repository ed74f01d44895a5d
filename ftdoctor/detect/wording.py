"""Names and values as a reader of the report knows them: no dotted names, no Python literals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftdoctor.model import Fact
from ftdoctor.render.text import number

LONGEST = 60  # characters of a value in a sentence
ITEMS = 6  # of a list

# What was observed (`read/names.py`) has no name that the user gave; a setting has.
_PHRASES: Mapping[str, str] = {
    "adapter.r": "the LoRA rank",
    "adapter.update_size": "the adapter's update, as a share of the weights,",
    "config.dialect": "the kind of configuration",
    "data.eval.rows": "the number of evaluation rows",
    "data.layout": "the layout of the rows",
    "environment.gpu": "the GPU",
    "environment.gpu_count": "the number of GPUs",
    "lora.base_model": "the adapter's base model",
    "lora.r": "the LoRA rank",
    "model.dtype": "the model's number format",
    "model.family": "the model's family",
    "model.type": "the model's type",
    "progress.global_step": "the last step",
    "progress.max_steps": "the number of planned steps",
    "run.kind": "the kind of training",
    "run.trainer": "the trainer",
    "script.test.unguarded_index": "a part of the model's answer that is taken unchecked",
    "script.train.answer_end": "the text that the script puts behind the answers",
    "script.train.file": "the training script",
    "script.train.labels": "what makes the labels",
    "script.train.reads_in_order": "what reads the rows in their order",
    "script.train.reward_counts": "a reward that counts words without a bound",
    "script.train.row_keys": "the columns that the script reads",
    "script.train.turn_keys": "the keys that the script reads of a turn",
    "script.train.trainer": "the script's trainer",
    "shell.command": "the command that starts training",
    "tokenizer.chat_template": "the chat template",
    "tokenizer.class": "the tokenizer's class",
    "gguf.architecture": "the GGUF's architecture",
}
# A fact that is true or false says one of two things.
_CLAIMS: Mapping[str, tuple[str, str]] = {
    "shell.crlf": ("the script has Windows line ends (CRLF)", "the script has Unix line ends"),
    "merge.identical": (
        "merged and base weights are equal bit for bit",
        "merged and base weights differ",
    ),
}


def named(name: str) -> str:
    """Return what a person calls a value: an observation in words, a setting by its own name."""
    package = name.removeprefix("environment.package.")
    if package != name:
        return f"the version of `{package}`"
    return _PHRASES.get(name) or f"`{name.rpartition('.')[2]}`"


def shown(value: Any) -> str:
    """Return a value for a sentence, at most about 60 characters; text as code."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        more = [f"{len(value) - ITEMS} more"] if len(value) > ITEMS else []
        return ", ".join([*map(shown, value[:ITEMS]), *more])
    if isinstance(value, int | float):
        return number(value)
    text = str(value).replace("`", "'").replace("\n", "\\n").replace("\t", "\\t")
    return f"`{text if len(text) <= LONGEST else f'{text[: LONGEST - 1]}…'}`"


def place_of(fact: Fact) -> str:
    """Return file and line; a pointer into a file of settings is the setting's name once more."""
    return fact.where.path if fact.where.pointer is not None else str(fact.where)


def said(fact: Fact) -> str:
    """Return what a fact says and where: `fp16` is true in train.py:12."""
    place = place_of(fact)
    claims = _CLAIMS.get(fact.name)
    if claims and isinstance(fact.value, bool):
        return f"{claims[0] if fact.value else claims[1]} ({place})"
    return f"{named(fact.name)} is {shown(fact.value)} in {place}"
