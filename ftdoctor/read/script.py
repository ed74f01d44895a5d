"""Training, test and conversion scripts: settings, prompts, labels, paths and devices by `ast`.

A script's role is told by what it calls. Only a training script gives settings; what another
script says is a fact of its role (`script.test.adapter_path`).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import Any

from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read.code import UNKNOWN, Code, argparse_default, keyword, parse
from ftdoctor.read.imports import imported_modules
from ftdoctor.read.names import SETTINGS, setting_name
from ftdoctor.read.reading import Reading
from ftdoctor.read.script_facts import facts_of
from ftdoctor.read.script_prompts import prompts_of
from ftdoctor.read.source import Source

SIZE_LIMIT = 2 << 20  # bytes; a longer .py file is generated code
Place = Callable[[int], Where]

_ARGUMENT_CLASSES = re.compile(
    r"(?:TrainingArguments|(?:SFT|DPO|ORPO|KTO|CPO|GRPO|RLOO|PPO|Reward|GKD)(?:v2)?Config"
    r"|UnslothTrainingArguments|Seq2SeqTrainingArguments)$"
)
_CONFIG_CLASSES = re.compile(
    r"(?:Lo(?:ra|ha|Kr)Config|AdaLoraConfig|BitsAndBytesConfig|EarlyStoppingCallback"
    r"|get_peft_model|FastLanguageModel\.from_pretrained|FastModel\.from_pretrained"
    r"|LoRAConfig|create_lora_training_client|set_seed|manual_seed)$"
)
_TRAINER = re.compile(r"(?:^|\.)(?:\w*Trainer|UnslothTrainer)$")
_TRAINING_CALLS = {"backward", "forward_backward", "forward_backward_async", "fit"}
_GENERATING_CALLS = {
    "generate", "pipeline", "LLM", "LlamaCpp", "Llama", "create_sampling_client", "batch_generate",
    "stream_generate",
}  # fmt: skip
_CONVERTING_CALLS = {
    "merge_and_unload", "save_pretrained_merged", "save_pretrained_gguf", "push_to_hub_gguf",
    "push_to_hub_merged", "convert_lora_to_gguf",
}  # fmt: skip
_TRAINER_KEYWORDS = {
    "max_seq_length", "packing", "dataset_text_field", "neftune_noise_alpha", "beta",
    "max_prompt_length", "max_length",
}  # fmt: skip
# Constants at module level count as settings only under names that mean nothing else.
_CONSTANTS = frozenset(SETTINGS) | frozenset(SETTINGS.values()) | {"num_train_epochs", "max_steps"}
_NO_CONSTANTS = {"r", "model", "stage", "scheduler", "optimizer", "renderer"}


def read(source: Source) -> Reading:
    """Read one Python file; lines that are no Python 3 are passed over and told."""
    try:
        text = source.text(SIZE_LIMIT)
    except ValueError as error:
        return Reading(ArtifactState.SKIPPED, f"{error}: no hand-written script")
    return reading_of(text, source.path, lambda line: Where(source.path, line=line))


def reading_of(text: str, path: str, place: Place, *, assumed: str = "") -> Reading:
    """Read Python source; `place` turns a line of `text` into its provenance.

    `assumed` is the role of a fragment that does not show its own.
    """
    code, problem = parse(text)
    if code is None:
        fact = Fact("script.syntax_error", problem, Where(path))
        return Reading(ArtifactState.PARTIAL, f"{problem}; only its name is used", facts=(fact,))
    role = assumed or role_of(code, path)
    facts = [Fact(f"script.{role}.file", path, Where(path))]
    facts.append(Fact("script.imports", imported_modules(code.tree), Where(path)))
    facts += [Fact(f"script.{n}", v, place(at)) for n, v, at in facts_of(code, role)]
    if role != "other":
        facts += [Fact(f"script.{n}", v, place(at)) for n, v, at in prompts_of(code, role)]
    settings = [Fact(n, v, place(at)) for n, v, at in _settings(code)] if role == "train" else []
    facts, settings = _once(facts), _once(settings)
    return Reading(
        ArtifactState.PARTIAL if problem else ArtifactState.READ,
        problem,
        taken=f"{role} script: {len(settings)} settings, {len(facts) - 2} facts",
        settings=tuple(settings),
        facts=tuple(facts),
    )


def _once(facts: list[Fact]) -> list[Fact]:
    """Return the facts without repetitions at one place (values may be unhashable)."""
    return list({(f.name, repr(f.value), f.where): f for f in facts}.values())


def role_of(code: Code, path: str) -> str:
    """Return train, test (evaluation, inference, serving), convert, data or other, by the calls."""
    names = [name for name, _ in code.calls()]
    last = {name.rsplit(".", 1)[-1] for name in names}
    if "pytest" in imported_modules(code.tree) or "unittest" in imported_modules(code.tree):
        return "other"
    if any(_TRAINER.search(n) or _ARGUMENT_CLASSES.search(n) for n in names) or (
        last & _TRAINING_CALLS and last & {"from_pretrained", "backward", "zero_grad"}
    ):
        return "train"
    if {"zero_grad", "step", "from_pretrained"} <= last:  # a loop that forgot to go backward
        return "train"
    if last & {"forward_backward", "forward_backward_async", "create_lora_training_client"}:
        return "train"
    if last & _CONVERTING_CALLS and "generate" not in last:
        return "convert"
    if last & _GENERATING_CALLS or "PeftModel.from_pretrained" in names:
        return "test"
    stem = path.rsplit("/", 1)[-1].lower()
    if re.search(r"convert|merge|export|quanti[sz]e", stem) and "from_pretrained" in last:
        return "convert"
    if last & {"load_dataset", "to_json", "dump", "dumps", "read_csv", "read_json"}:
        return "data"
    return "other"


# --- settings ---------------------------------------------------------------------------------


def _settings(code: Code) -> Iterator[tuple[str, Any, int]]:
    """Yield (name as found, value, line): what calls pass first, then defaults and constants."""
    passed = [s for name, call in code.calls() for s in _call_settings(code, name, call)]
    passed += [
        s
        for name, call in code.calls()
        if name.endswith("add_argument")
        for s in _argument_default(code, call)
    ]
    yield from passed
    known = {setting_name(name) for name, _, _ in passed}
    yield from (s for s in _declared(code) if setting_name(s[0]) not in known)


def _call_settings(code: Code, name: str, call: ast.Call) -> Iterator[tuple[str, Any, int]]:
    last = name.rsplit(".", 1)[-1]
    if _ARGUMENT_CLASSES.search(name) or _CONFIG_CLASSES.search(name):
        yield from _keywords(code, call)
        if last in ("set_seed", "manual_seed") and call.args:
            yield from _one(code, "seed", call.args[0])
    elif _TRAINER.search(name):
        yield from _keywords(code, call, _TRAINER_KEYWORDS)
    elif last == "from_pretrained" and re.search(r"Model\w*\.from_pretrained$", name):
        if call.args and not re.search(r"Peft|Tokenizer|Processor", name):
            yield from _one(code, "model_name_or_path", call.args[0])
        yield from _keywords(code, call, {"torch_dtype", "dtype", "attn_implementation"})
    elif last == "load_dataset":
        yield from _loaded_dataset(code, call)
    elif last in ("AdamW", "Adam", "SGD", "Adafactor", "AdamW8bit", "PagedAdamW8bit"):
        yield "optim", last.lower(), call.lineno
        yield from _keywords(code, call, {"lr", "weight_decay"})
    elif last in ("clip_grad_norm_", "clip_grad_norm", "clip_gradients"):
        limit = keyword(call, "max_norm") or keyword(call, "clip_val")
        if limit is not None or len(call.args) > 1:
            yield from _one(code, "max_grad_norm", limit or call.args[1])
    elif _TOKENISES.search(name) and _truncates(code, call):
        yield from _keywords(code, call, {"max_length"})


_TOKENISES = re.compile(
    r"(?i)token|(?:^|[._])tok$|(?:^|\.)(?:tok\w*|processing_class)\.\w*encode\w*$"
)


def _truncates(code: Code, call: ast.Call) -> bool:
    """Say whether a tokenizer call cuts its text at `max_length`."""
    return any(k.arg == "truncation" and code.value(k.value) not in (False, None, "do_not_truncate")
               for k in call.keywords)  # fmt: skip


def _keywords(
    code: Code, call: ast.Call, wanted: set[str] | None = None
) -> Iterator[tuple[str, Any, int]]:
    for item in call.keywords:
        if item.arg is None:
            yield from _splatted(code, item.value)
        elif wanted is None or item.arg in wanted:
            yield from _one(code, item.arg, item.value)


def _splatted(code: Code, node: ast.expr) -> Iterator[tuple[str, Any, int]]:
    """Yield the settings of `**options` where that is a dict literal of this file."""
    found = code.value(node)
    if isinstance(found, dict):
        for name, value in found.items():
            yield name, value, node.lineno


def _one(code: Code, name: str, node: ast.expr) -> Iterator[tuple[str, Any, int]]:
    value = code.value(node)
    if value is not UNKNOWN and not isinstance(value, dict):
        yield name, value, _line_of(code, node)


def _line_of(code: Code, node: ast.expr) -> int:
    """Return the line where the value itself is written: a constant's, not its use."""
    if isinstance(node, ast.Name):
        bound = code.bound(node)
        if len(bound) == 1 and isinstance(bound[0].value, ast.Constant):
            return bound[0].line
    return node.lineno


def _loaded_dataset(code: Code, call: ast.Call) -> Iterator[tuple[str, Any, int]]:
    for item in call.keywords:
        if item.arg == "data_files":
            value = code.value(item.value)
            if isinstance(value, dict):
                for split, file in value.items():
                    name = "dataset" if split == "train" else "eval_dataset"
                    yield name, file, item.value.lineno
            elif value is not UNKNOWN:
                yield "dataset", value, item.value.lineno
            return
    if call.args:
        yield from _one(code, "dataset", call.args[0])


def _argument_default(code: Code, call: ast.Call) -> Iterator[tuple[str, Any, int]]:
    for name, default in argparse_default(call):
        value = code.value(default)
        if value is not UNKNOWN and value is not None and not isinstance(value, dict):
            yield name, value, call.lineno


def _declared(code: Code) -> Iterator[tuple[str, Any, int]]:
    """Yield dataclass defaults and constants whose names are settings' names."""
    for scope, names in code.bindings.items():
        if not isinstance(scope, ast.Module | ast.ClassDef):
            continue
        for name, bound in names.items():
            lowered = name.lower()
            if lowered not in _CONSTANTS or lowered in _NO_CONSTANTS or len(bound) != 1:
                continue
            value = code.value(bound[0].value)
            if isinstance(value, str | int | float | bool | list) and _is_short(value):
                yield lowered, value, bound[0].line


def _is_short(value: Any) -> bool:
    """Say whether a value is short enough to be a setting and not a text."""
    return not isinstance(value, str) or (len(value) < 300 and "\n" not in value)
