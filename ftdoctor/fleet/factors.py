"""What runs may have in common: library versions, settings, files, host, functions."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterator

from ftdoctor.model import Artifact, Run
from ftdoctor.read.code import syntax_tree

MOST = 200  # factors kept of one run
VALUE = 80  # characters kept of a value
FUNCTIONS = 60  # functions looked at in one script
# Packages whose versions have broken fine-tuning; others stay in the run's own report.
PACKAGES = frozenset({
    "torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "bitsandbytes",
    "unsloth", "unsloth_zoo", "deepspeed", "flash-attn", "flash_attn", "xformers", "triton",
    "axolotl", "llamafactory", "torchtune", "vllm", "mlx", "mlx-lm", "numpy", "safetensors",
    "sentencepiece", "liger-kernel",
})  # fmt: skip
SETTINGS = (
    "learning_rate", "optim", "lr_scheduler_type", "warmup_steps", "warmup_ratio",
    "num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps", "max_length",
    "max_grad_norm", "bf16", "fp16", "packing", "gradient_checkpointing", "attn_implementation",
    "lora.r", "lora.alpha", "lora.target_modules", "quantization.load_in_4bit",
    "quantization.load_in_8bit", "data_strategy", "chat_template", "deepspeed", "fsdp",
)  # fmt: skip
KIND = "kind of training"
FACTS = {
    "run.trainer": "trainer",
    "run.kind": KIND,
    "environment.python": "Python",
    "environment.os": "system",
    "environment.gpu": "GPU",
    "environment.gpu_count": "GPUs",
    "environment.device": "device",
    "environment.host": "host",
    "model.type": "model type",
    "tokenizer.class": "tokenizer class",
}
FILES = {"settings": "configuration", "shell": "launch script", "data-json": "data file"}
TFEVENTS_HOST = re.compile(r"tfevents\.\d+\.(.+?)(?:\.\d+)*$")


def factors_of(run: Run) -> dict[str, str]:
    """Return the categorical facts of a run by name, each a short text."""
    found: dict[str, str] = {}
    for name, value in _pairs(run):
        if len(found) >= MOST:
            break
        text = " ".join(value.split())
        if text:
            found.setdefault(name, text if len(text) <= VALUE else f"{text[: VALUE - 1]}…")
    return found


def _pairs(run: Run) -> Iterator[tuple[str, str]]:
    for fact, label in FACTS.items():
        if (known := run.fact(fact)) is not None:
            yield label, str(known.value)
    model = run.known("model_name_or_path") or run.known("lora.base_model")
    if model is not None:
        yield "model", str(model.value)
    if (dataset := run.setting("dataset")) is not None:
        yield "dataset", str(dataset.value)
    for name, facts in run.facts.items():
        package = name.removeprefix("environment.package.")
        if package != name and package.lower() in PACKAGES:
            yield f"package {package}", str(facts[0].value)
    for artifact in run.artifacts:
        yield from _of_file(artifact)
    for path, text in run.texts.items():
        if path.endswith(".py"):
            yield from functions(text)
    for setting in SETTINGS:
        if (known := run.setting(setting)) is not None:
            yield f"setting {setting}", str(known.value)


def _of_file(artifact: Artifact) -> Iterator[tuple[str, str]]:
    name = artifact.path.rpartition("/")[2]
    if artifact.kind in FILES and artifact.digest:
        yield f"{FILES[artifact.kind]} {name}", artifact.digest[:10]
    match = TFEVENTS_HOST.search(name)
    if match and match.group(1) != "[host]":  # a name that was taken out tells nothing
        yield "host", match.group(1)


def functions(source: str) -> Iterator[tuple[str, str]]:
    """Yield each function of a script with a digest of its code, without layout and comments."""
    try:
        tree = syntax_tree(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    count = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            count += 1
            if count > FUNCTIONS:
                return
            digest = hashlib.sha256(ast.dump(node).encode("utf-8", "replace")).hexdigest()[:10]
            yield f"function {node.name}", digest
