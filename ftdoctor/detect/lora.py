"""Detectors on LoRA hyperparameters: the effective scale, and which layers are adapted."""

from __future__ import annotations

import math
import re

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.lr import method_of
from ftdoctor.detect.points import number, setting_number
from ftdoctor.detect.wording import shown
from ftdoctor.model import Fact, Observation, Run

ATTENTION = (
    "q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "query_key_value", "c_attn", "w_pack",
    "wq", "wk", "wv", "wo", "query", "key", "value", "q", "k", "v", "o", "out_proj", "wqkv",
)  # fmt: skip
CONFIG = "adapter_config.json or the training configuration"


def _amount(run: Run, name: str) -> tuple[float, Fact] | None:
    """Return `lora.<name>`, else what adapter_config.json says."""
    found = setting_number(run, f"lora.{name}")
    if found is not None:
        return found
    for other in (f"adapter.{name}", f"adapter.lora_{name}"):
        fact = run.fact(other)
        if fact is not None and isinstance(fact.value, int | float):
            return float(fact.value), fact
    return None


@detector("lora.scale")
def scale(run: Run, *, above: float, below: float) -> Observation:
    """Find an effective scale, alpha/r or with rslora alpha/sqrt(r), outside `below` to `above`."""
    rank, alpha = _amount(run, "r"), _amount(run, "alpha")
    if rank is None or alpha is None or rank[0] <= 0:
        return unobservable("LoRA rank and alpha are not both known", CONFIG)
    flag = run.setting("lora.use_rslora") or run.fact("adapter.use_rslora")
    stabilised = flag is not None and flag.value is True
    value = alpha[0] / (math.sqrt(rank[0]) if stabilised else rank[0])
    formula = "alpha/sqrt(r)" if stabilised else "alpha/r"
    text = f"{formula} is {number(value)} (alpha {alpha[0]:g}, r {rank[0]:g})"
    if value > above or value < below:
        return present(text, alpha[1], rank[1])
    return absent(text, alpha[1], rank[1])


_CLASSIFIER = re.compile(r"For(?:Sequence|Token|Image|Audio)Classification$|ForQuestionAnswering$")
_HEAD = re.compile(r"(?:^|\.)(?:classifier|score|qa_outputs|classification_head|cls|head|pooler)\b")


@detector("lora.head_left_out")
def head_left_out(run: Run) -> Observation:
    """Find the adapter of a classifier whose file holds no head: PEFT saves what it is told of.

    With a task type PEFT adds the head to `modules_to_save` by itself; a head that a script sets
    free by hand is trained, and not saved.
    """
    count = run.fact("weights.lora_module_count")
    if count is None:
        return unobservable("No adapter file was read", "adapter_model.safetensors")
    mapping, task = run.fact("adapter.auto_mapping"), run.fact("adapter.task_type")
    kept = mapping.value if mapping is not None and isinstance(mapping.value, dict) else {}
    meant = mapping if _CLASSIFIER.search(str(kept.get("base_model_class") or "")) else None
    if task is not None and task.value in ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS"):
        meant = task
    if meant is None:
        return absent("The adapter is not known to be a classifier's", count)
    listed = run.setting("lora.modules_to_save")
    if listed is not None and listed.value:
        return absent("The head is listed in `modules_to_save`", listed)
    others = [str(n) for f in run.facts.get("weights.adapter_other_tensors", ()) for n in f.value]
    adapted = [str(n) for f in run.facts.get("weights.lora_modules", ()) for n in f.value]
    if any(_HEAD.search(name) for name in (*others, *adapted)):
        return absent(f"{count.where.path} holds the head", count)
    text = f"{count.where.path} holds {count.value} adapted modules and no head, for a classifier"
    return present(text, count, meant)


@detector("lora.attention_only")
def attention_only(run: Run) -> Observation:
    """Find that every target module is an attention projection."""
    fact = run.setting("lora.target_modules") or run.fact("adapter.target_modules")
    if fact is None or not fact.value:
        return unobservable("the target modules are not known", CONFIG)
    names = fact.value if isinstance(fact.value, list) else str(fact.value).split(",")
    short = [str(n).strip().rsplit(".", 1)[-1].lower() for n in names]
    text = f"LoRA is on {shown(short)}"
    return (present if all(n in ATTENTION for n in short) else absent)(text, fact)


@detector("lora.in_use")
def in_use(run: Run) -> Observation:
    """Find that the run trains an adapter: from its settings, its files or the log's counts."""
    method = method_of(run)
    if method == "lora":
        return present("an adapter is trained")
    if method == "full" or run.has("adapter-config") or run.fact("script.train.file") is not None:
        return absent("nothing in the run speaks of an adapter")
    return unobservable("nothing tells which weights were trained", CONFIG)
