"""Which configuration files use a trained model, beside the one that trains it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ftdoctor.read.names import setting_name

if TYPE_CHECKING:
    from ftdoctor.model import Where
    from ftdoctor.read.items import Item

# Canonical names that only a training has.
_TRAINING = frozenset({
    "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "warmup_ratio",
    "gradient_accumulation_steps", "optim", "lr_scheduler_type", "dataset", "datasets", "do_train",
})  # fmt: skip
# What servers, merges and quick tests are told: LLaMA-Factory's, vLLM's, PEFT's and generate's.
_USE = re.compile(
    r"infer_backend|infer_dtype|export_\w+|vllm_\w+|max_new_tokens|temperature|top_p|top_k|do_sample"
    r"|adapter_name_or_path|adapter_path|lora_modules|served_model_name|gpu_memory_utilization|port"
    r"|max_model_len|system_prompt|merge_\w+"
)
_USE_NAME = re.compile(
    r"(?i)(?:^|[/_.-])(?:infer(?:ence)?|chat|api|serv(?:e|er|ing)|export|merge|predict|generate"
    r"|deploy\w*|vllm|ollama|demo|inferenz|inferencia)(?=[_.-])"
)


def files_of_use(items: Iterable[Item]) -> dict[str, Where]:
    """Return the settings files that use a model, with a place that says so.

    Only beside a file that trains: alone, such a file is all that is known of the run.
    """
    training = False
    found: dict[str, Where] = {}
    for item in items:
        if item.artifact.kind != "settings":
            continue
        names = {setting_name(fact.name): fact.where for fact in item.reading.settings}
        if names.keys() & _TRAINING:
            training = True
            continue
        marks = [where for name, where in names.items() if _USE.fullmatch(name)]
        if marks or (names and _USE_NAME.search(item.artifact.path)):
            found[item.artifact.path] = (marks or list(names.values()))[0]
    return found if training else {}
