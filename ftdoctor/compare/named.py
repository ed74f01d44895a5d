"""Differences in what has a name and one value: settings, tokenizer, template, versions, model."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator

from ftdoctor.compare.difference import Difference, in_good
from ftdoctor.detect.facts import number, same
from ftdoctor.model import Fact, Run, Value

Part = tuple[list[Difference], list[str]]

# Names that say where or how often something is written, not how the model is trained.
BOOKKEEPING = frozenset({
    "output_dir", "logging_dir", "run_name", "report_to", "push_to_hub", "hub_model_id",
    "hub_strategy", "disable_tqdm", "log_level", "overwrite_output_dir", "local_rank", "project",
    "log_on_each_node", "logging_first_step", "save_total_limit", "dataloader_num_workers",
})  # fmt: skip
# Fact prefixes that are compared, with the kind of difference that they make.
PREFIXES = {
    "tokenizer.": "tokenizer",
    "template.": "template",
    "generation.": "model",
    "model.": "model",
    "environment.": "version",
}
# Where files lie and what follows from another difference that is reported itself.
DERIVED = frozenset({
    "tokenizer.folder", "tokenizer.folders", "tokenizer.files", "tokenizer.chat_template",
    "tokenizer.merges", "tokenizer.added_tokens", "tokenizer.chat_template_home",
})  # fmt: skip

# Decibans, by judgement: how seldom two runs that both work differ in this.
LEARNING = {
    "learning_rate": 6.0, "num_train_epochs": 5.0, "max_steps": 5.0, "max_length": 6.0,
    "lr_scheduler_type": 5.0, "warmup_steps": 4.0, "warmup_ratio": 4.0, "weight_decay": 5.0,
    "max_grad_norm": 6.0, "optim": 5.0, "bf16": 6.0, "fp16": 8.0, "train_on_inputs": 8.0,
    "assistant_only_loss": 8.0, "completion_only_loss": 8.0, "packing": 6.0,
    "model_name_or_path": 8.0, "dataset": 3.0, "seed": 0.5, "per_device_train_batch_size": 3.0,
    "gradient_accumulation_steps": 3.0,
}  # fmt: skip
OTHER_SETTING = 2.0
OF_KIND = {"tokenizer": 15.0, "template": 15.0, "model": 10.0, "version": 5.0}
PER_DOUBLING = 2.5  # a rate ten times as high is rarer than one twice as high
MOST = 40.0
SHOWN = 60  # characters of a value in a sentence


def compare_named(good: Run, bad: Run) -> Part:
    """Return differences of all settings and facts that both runs know, and the names compared."""
    found: list[Difference] = []
    seen: list[str] = []
    for kind, name, left, right in _pairs(good, bad):
        seen.append(f"{kind}.{name}")
        if not _alike(kind, left.value, right.value):
            found.append(_difference(kind, name, left, right))
    template, names = _chat_template(good, bad)
    return found + template, seen + names


def _pairs(good: Run, bad: Run) -> Iterator[tuple[str, str, Fact, Fact]]:
    for name in sorted(set(good.settings) & set(bad.settings) - BOOKKEEPING):
        left, right = good.setting(name), bad.setting(name)
        if left and right:
            yield "setting", name, left, right
    for name in sorted(set(good.facts) & set(bad.facts) - DERIVED):
        kind = next((k for prefix, k in PREFIXES.items() if name.startswith(prefix)), "")
        left, right = good.fact(name), bad.fact(name)
        if kind and left and right:
            yield kind, name.partition(".")[2], left, right


def _alike(kind: str, left: Value, right: Value) -> bool:
    if kind == "version":  # as a number 2.10 would be 2.1
        return str(left) == str(right)
    return same(left, right)


def _difference(kind: str, name: str, left: Fact, right: Fact) -> Difference:
    spoken = name.removeprefix("package.")
    here, there = _short(right.value), _short(left.value)
    return Difference(
        kind,
        name,
        left.value,
        right.value,
        _surprise(kind, name, left.value, right.value),
        f"{spoken} is {here}, in the good run {there}{_times(left, right)}",
        in_good(left.where),
        right.where,
    )


def _surprise(kind: str, name: str, left: Value, right: Value) -> float:
    base = LEARNING.get(name, OTHER_SETTING) if kind == "setting" else OF_KIND[kind]
    if kind == "setting" and name not in LEARNING:
        return base
    a, b = number(left), number(right)
    if a and b and a > 0 and b > 0:
        return min(MOST, base + PER_DOUBLING * abs(math.log2(a / b)))
    return base


def _times(left: Fact, right: Fact) -> str:
    a, b = number(left.value), number(right.value)
    if not a or not b or a < 0 or b < 0 or 0.5 < b / a < 2:
        return ""
    return f", {b / a:.3g} times as much" if b > a else f", {a / b:.3g} times less"


def _short(value: Value) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"


def _chat_template(good: Run, bad: Run) -> Part:
    """Compare the chat templates; one that is missing counts if a tokenizer was read there."""
    key, name = "tokenizer.chat_template", "text"
    left, right = good.fact(key), bad.fact(key)
    known = [bool(r.fact("tokenizer.vocab_size") or r.fact("tokenizer.class")) for r in (good, bad)]
    if not all(known) and not (left and right):
        return [], []
    seen = [f"template.{name}"]
    texts = [str(f.value) if f else "" for f in (left, right)]
    if "".join(texts[0].split()) == "".join(texts[1].split()):
        return [], seen
    found = Difference(
        "template",
        name,
        texts[0],
        texts[1],
        20.0 if all(texts) else 25.0,
        _told(*texts),
        in_good(left.where) if left else None,
        right.where if right else None,
    )
    return [found], seen


def _told(good: str, bad: str) -> str:
    if not bad:
        return "the chat template of the good run is missing here"
    if not good:
        return "there is a chat template here, and none in the good run"
    match = difflib.SequenceMatcher(None, good, bad, autojunk=False)
    start = match.find_longest_match().size if good[:1] == bad[:1] else 0
    at = next((i for i, (a, b) in enumerate(zip(good, bad, strict=False)) if a != b), start)
    return f"the chat templates differ from character {at} on: here `{bad[at : at + 40]}`"
