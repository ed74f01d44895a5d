"""Detectors on configurations: LoRA targets against the family, formats, impossible values."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any, Literal

from ftdoctor.detect import absent, detector, present, unobservable
from ftdoctor.detect.facts import number
from ftdoctor.detect.log import log_of
from ftdoctor.detect.paths import is_data_file, named_files
from ftdoctor.detect.script import family_of
from ftdoctor.detect.wording import named, said, shown
from ftdoctor.families import has_no_chat_format
from ftdoctor.model import Fact, Observation, Run
from ftdoctor.render.text import plural

_CONFIG = "training configuration"
_CHAT = {
    "chat", "messages", "conversation", "conversations", "conversational", "chat_template",
    "sharegpt", "chatml", "chat-template", "multi_turn",
}  # fmt: skip
_TEXT = {"standard", "text", "completion", "plain", "raw", "pretrain", "corpus", "causal_lm"}
_CHAT_LAYOUTS = {"messages", "sharegpt"}
_TEXT_LAYOUTS = {"text", "prompt-completion", "alpaca"}
# Names that PEFT takes as "every linear layer" (peft/tuners/lora/config.py; LLaMA-Factory: all).
_ALL_LINEAR = {"all-linear", "all", "all_linear", "linear"}
# Layers that any family may name besides its linear layers.
_EXTRA_TARGETS = {
    "lm_head", "embed_tokens", "embed_in", "embed_out", "wte", "wpe", "score", "classifier",
    "embedding", "word_embeddings",
}  # fmt: skip
# Names in older or remote code of the same models, and of experts (which PEFT takes as parameters).
_ALSO_LINEAR: dict[str, set[str]] = {
    "phi-1.5-2": {"Wqkv", "out_proj"},
    "mixtral": {"w1", "w2", "w3", "gate"},
    "deepseek-llm-coder-v1-v2": {"k_proj", "v_proj"},
    "glm-4": {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"},
    "qwen-3": {"gate", "gate_up_proj"},
    "qwen-3.5": {"gate", "gate_up_proj"},
    "gpt-oss": {"gate_proj", "up_proj", "down_proj", "gate_up_proj", "router"},
    "baichuan-2": {"W_pack"},
    "falcon": {"dense_h_to_4h", "dense_4h_to_h"},
}
# The smallest valid value of a setting, and whether that value itself is valid.
_LEAST: dict[str, tuple[float, bool]] = {
    "learning_rate": (0, False),
    "per_device_train_batch_size": (1, True),
    "gradient_accumulation_steps": (1, True),
    "lora.r": (1, True),
    "lora.alpha": (0, False),
    "lora.dropout": (0, True),
    "max_length": (1, True),
    "warmup_steps": (0, True),
    "warmup_ratio": (0, True),
    "weight_decay": (0, True),
}
_MOST = {"lora.dropout": 1.0, "warmup_ratio": 1.0, "eval_share": None}
# Usual ranges for LoRA runs (must-cover row E5): outside them is unusual, not wrong.
_USUAL: dict[str, tuple[float, float]] = {
    "num_train_epochs": (1, 10),
    "per_device_train_batch_size": (1, 8),
    "learning_rate": (1e-5, 5e-4),
    "lora.r": (8, 64),
}
# -1 and 0 mean "not set" here (transformers and LLaMA-Factory defaults).
_UNSET_IF_NEGATIVE = {"max_length", "warmup_steps"}


# --- LoRA targets -----------------------------------------------------------------------------


@detector("config.lora_targets")
def lora_targets(run: Run, *, absent_from_model: Literal["all", "some"]) -> Observation:
    """Find LoRA target modules that the model's family does not have: all of them, or any.

    Names are compared by their last part; a regular expression or "all-linear" is not judged.
    """
    asked = run.setting("lora.target_modules")
    if asked is None:
        return unobservable(
            "No file gives LoRA target modules", "adapter_config.json or the script"
        )
    names = _target_names(asked.value)
    if not names:
        return absent(f"the targets are {shown(asked.value)}, which adapts to the model", asked)
    known = family_of(run)
    if known is None or not known.linear:
        return unobservable("The model's layer names are not known", "config.json")
    if known.id.startswith("phi-") and "unsloth" in str(_model_names(run)).lower():
        return unobservable("Unsloth's copies of Phi have the layers of Llama", "config.json")
    also = _ALSO_LINEAR.get(known.id, set()) | _EXTRA_TARGETS
    missing = [n for n in names if n not in known.linear and n not in also]
    telling = [n for n in names if n not in _EXTRA_TARGETS]
    wanted = len(missing) == len(telling) or absent_from_model == "some"
    if len(missing) == len(telling) and missing and _training_ran(run):
        return absent("the adapter was trained, so the model has layers of these names", asked)
    other = _error_of_another_kind(run, "target")
    if missing and other is not None:
        return unobservable(
            f"Another error ended the run, so it is not known whether this list was used: "
            f"“{other.value}”",
            "a log that goes on to the adapter",
        )
    both = f"of {known.id}, whose linear layers are {', '.join(known.linear[:7])}"
    if missing and wanted:
        return present(f"{', '.join(missing[:5])} are not layers {both}", asked, *_model_facts(run))
    if missing:
        return absent(f"{len(missing)} of {len(telling)} targets are not layers {both}", asked)
    return absent(f"every target module is a layer of {known.id}", asked)


def _training_ran(run: Run) -> bool:
    """Say whether PEFT accepted the targets: it raises before the first step if none fits."""
    step = run.fact("progress.global_step")
    return run.has("adapter-config") or (step is not None and (number(step.value) or 0) > 0)


def _error_of_another_kind(run: Run, word: str) -> Fact | None:
    """Return the exception that ended the run, if none that did so holds the word."""
    log = log_of(run)
    ended = [t.exception for t in log.tracebacks if not log.survived(t.exception)]
    if not ended or any(word in t.text.lower() for t in ended):
        return None
    return ended[-1].fact


def _target_names(value: object) -> list[str]:
    """Return plain module names; none for "all-linear" and for regular expressions."""
    if isinstance(value, str):
        value = [v.strip() for v in value.split(",")]
    if not isinstance(value, list | tuple):
        return []
    names = [str(v).rsplit(".", 1)[-1] for v in value]
    if any(n.lower() in _ALL_LINEAR or not re.fullmatch(r"\w+", n) for n in names):
        return []
    return list(dict.fromkeys(names))


def _model_facts(run: Run) -> list[Fact]:
    names = ("lora.base_model", "model_name_or_path", "model.type")
    return [f for name in names if (f := run.known(name)) is not None][:1]


def _model_names(run: Run) -> list[Any]:
    names = ("lora.base_model", "model_name_or_path")
    return [f.value for name in names for f in run.settings.get(name, ())]


# --- strategy, layout, template ---------------------------------------------------------------


def _strategy(run: Run) -> tuple[Literal["chat", "text", "fields"] | None, Fact | None]:
    """Return whether the configuration asks for chats, plain text or fields, and where it does."""
    for name in ("data_strategy", "strategy", "dataset_format", "dataset_type"):
        for fact in run.settings.get(name, ()):
            word = str(fact.value).split(".")[-1].strip().lower()
            if word in _CHAT:
                return "chat", fact
            if word in _TEXT:
                return "text", fact
            if word.startswith("alpaca"):
                return "fields", fact
    return None, None


@detector("config.chat_strategy_without_template")
def chat_strategy_without_template(run: Run) -> Observation:
    """Find a chat strategy on a model that comes without a chat template, with none given."""
    kind, fact = _strategy(run)
    if fact is None:
        return unobservable("No file says how rows are turned into text", _CONFIG)
    if kind != "chat":
        return absent(f"{said(fact)}, which needs no chat template", fact)
    given = run.known("chat_template") or run.fact("tokenizer.chat_template")
    given = given or run.setting("template") or run.fact("script.train.chat_template")
    if given is not None and given.value not in (None, "", "default", "none"):
        return absent(f"a chat template is given in {given.where}", fact, given)
    known = family_of(run)
    if known is None:
        return unobservable("Whether the model has a chat template is not known", "tokenizer files")
    if has_no_chat_format(known):
        text = f"{said(fact)}, but {known.id} models have no chat template"
        return present(text, fact, *_model_facts(run))
    return absent(f"{known.id} models have a chat format", fact)


@detector("config.layout_against_strategy")
def layout_against_strategy(run: Run) -> Observation:
    """Find rows of messages under a strategy for text or fields, or text under one for chats.

    The strategies called alpaca read `instruction`, `input` and `output` (axolotl, LLaMA-Factory).
    """
    kind, fact = _strategy(run)
    layouts = run.facts.get("data.layout", ())
    if fact is None:
        return unobservable("No file says how rows are turned into text", _CONFIG)
    if not layouts:
        return unobservable("The rows' layout is not known", "training data")
    layout = str(layouts[0].value)
    clash = (kind != "chat" and layout in _CHAT_LAYOUTS) or (
        kind == "chat" and layout in _TEXT_LAYOUTS
    )
    text = f"{said(fact)}, the rows are {layout}"
    if clash:
        return present(f"{text} ({layouts[0].where})", fact, layouts[0])
    return absent(text, fact, layouts[0])


# --- values -----------------------------------------------------------------------------------


@detector("config.invalid_number")
def invalid_number(run: Run) -> Observation:
    """Find numbers that no training can work with: zero or negative, or a share above one."""
    wrong = [f for name in _LEAST for f in run.settings.get(name, ())[:1] if _is_invalid(f)]
    wrong += _endless_epochs(run)
    if wrong and run.series("loss") is not None:
        # A default that the script replaces or does not come to, such as a LoRA rank of 0 for none.
        return absent(f"{said(wrong[0])}, but training went on", *wrong)
    if wrong:
        return present(f"training cannot work with this: {'; '.join(map(said, wrong[:4]))}", *wrong)
    seen = [f for name in _LEAST for f in run.settings.get(name, ())[:1]]
    if not seen:
        return unobservable("No training settings were found", _CONFIG)
    return absent("every number is one that training can work with", *seen[:3])


def _is_invalid(fact: Fact) -> bool:
    amount = number(fact.value)
    if amount is None:
        return False
    least, allowed = _LEAST[fact.name]
    if fact.name in _UNSET_IF_NEGATIVE and amount <= 0:
        return False
    most = _MOST.get(fact.name)
    return (
        amount < least or (amount == least and not allowed) or (most is not None and amount > most)
    )


def _endless_epochs(run: Run) -> list[Fact]:
    """Return the number of epochs if it is not above zero and no number of steps stands in."""
    epochs, steps = run.setting("num_train_epochs"), run.setting("max_steps")
    amount = number(epochs.value) if epochs else None
    planned = number(steps.value) if steps else None
    if epochs is None or amount is None or amount > 0 or (planned is not None and planned > 0):
        return []
    return [epochs]


@detector("config.empty_setting")
def empty_setting(run: Run, *, settings: list[str]) -> Observation:
    """Find a required setting whose key is there without a value."""
    seen = [f for name in settings for f in run.settings.get(name, ())[:1]]
    empty = [f for f in seen if f.value in (None, "", {}, [])]
    if empty:
        return present(f"`{empty[0].name}` has no value in {empty[0].where}", *empty)
    if seen:
        return absent(f"given: {', '.join(named(f.name) for f in seen)}", *seen)
    return unobservable("None of the required settings was found", _CONFIG)


@detector("config.unusual_number")
def unusual_number(run: Run) -> Observation:
    """Find epochs, batch size, rate or rank of a LoRA run outside what is usual; only a hint."""
    if run.setting("lora.r") is None:
        return unobservable("No LoRA settings were found", _CONFIG)
    seen = [f for name in _USUAL for f in run.settings.get(name, ())[:1] if number(f.value)]
    if not seen:
        return unobservable("No training settings were found", _CONFIG)
    odd = [f for f in seen if not _is_usual(f)]
    if odd:
        return present(f"outside the usual range: {'; '.join(map(said, odd))}", *odd)
    return absent("the values are in their usual ranges", *seen)


def _is_usual(fact: Fact) -> bool:
    low, high = _USUAL[fact.name]
    amount = number(fact.value)
    return amount is None or amount <= 0 or low <= amount <= high


# --- data paths -------------------------------------------------------------------------------


@detector("config.dataset_path_missing")
def dataset_path_missing(run: Run) -> Observation:
    """Find a training file that the settings name and the run does not hold beside its other data.

    Judged only if the run holds data files at all, for a run is often stored without its data.
    """
    named = named_files(run)
    if not named:
        return unobservable("No local data file is named in the settings", _CONFIG)
    stored = {PurePosixPath(a.path).name for a in run.artifacts}
    gone = [f for f in named if PurePosixPath(f.value.replace("\\", "/")).name not in stored]
    if not gone:
        return absent(f"{shown(named[0].value)} is here", *named)
    if not any(is_data_file(a.path) and a.kind.startswith("data") for a in run.artifacts):
        return unobservable("The run was stored without its data files", "training data")
    return present(f"{shown(gone[0].value)} ({gone[0].where}) is not among the run's files", *gone)


@detector("config.evaluates_on_training_file", of_text=True)
def evaluates_on_training_file(run: Run) -> Observation:
    """Find that the evaluation rows are the training rows: the same file, or the same variable.

    Of a hub data set, training and evaluation usually take different splits, so only files count.
    """
    same = run.facts.get("script.train.evaluates_on_training_rows", ())
    if same:
        text = f"the trainer is given {shown(same[0].value)} to train on and to evaluate on"
        return present(f"{text} ({same[0].where})", *same)
    trained = _first_file(run, "dataset")
    judged = [f for name in _JUDGED_FILES if (f := _first_file(run, name)) is not None]
    if trained is None or not judged:
        return unobservable("No two data files are named in the settings", _CONFIG)
    one = _plain_path(trained)
    for fact in judged:
        if _plain_path(fact) == one:
            text = (
                f"training ({trained.where}) and evaluation ({fact.where}) both read {shown(one)}"
            )
            return present(text, fact, trained)
    return absent(
        f"training reads {shown(one)}, evaluation {shown(_plain_path(judged[0]))}", *judged
    )


_JUDGED_FILES = (
    "eval_dataset", "test_file", "test_data", "test_path", "test_dataset", "data.test",
)  # fmt: skip


def _plain_path(fact: Fact) -> str:
    return str(fact.value).replace("\\", "/").removeprefix("./")


def _first_file(run: Run, name: str) -> Fact | None:
    fact = run.setting(name)
    value = fact.value if fact else None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    usable = fact is not None and isinstance(value, str) and is_data_file(value)
    return Fact(name, value, fact.where) if fact is not None and usable else None


# --- evaluation and checkpoints ---------------------------------------------------------------


@detector("config.evaluation_unused")
def evaluation_unused(run: Run) -> Observation:
    """Find evaluation data that are configured while evaluation is off or comes after the end."""
    data = run.setting("eval_dataset") or run.setting("eval_share")
    if data is None or data.value in (None, "", 0, 0.0):
        return unobservable("No evaluation data are configured", _CONFIG)
    off = run.setting("do_eval")
    strategy = run.setting("eval_strategy")
    if strategy is not None and str(strategy.value).lower() in ("no", "false", "none"):
        return present(
            f"evaluation data are given ({data.where}), but `{strategy.name}` is no", strategy, data
        )
    if off is not None and off.value is False:
        return present(
            f"evaluation data are given ({data.where}), but `do_eval` is false", off, data
        )
    every, last = run.setting("eval_steps"), run.known("progress.max_steps")
    interval, total = (number(f.value) if f else None for f in (every, last))
    if every and last and interval and total and interval > total:
        text = f"evaluation would come first at step {interval:g}, training ends at {total:g}"
        return present(text, every, last)
    if strategy is None and every is None:
        return unobservable("Whether evaluation is on is not visible", _CONFIG)
    return absent("evaluation is on", *(f for f in (strategy, every, data) if f is not None))


@detector("config.early_stopping_cannot_fire")
def early_stopping_cannot_fire(run: Run) -> Observation:
    """Find a patience in steps that reaches to the end of training."""
    patience, every = run.setting("early_stopping_patience"), run.setting("eval_steps")
    last = run.known("progress.max_steps") or run.setting("max_steps")
    if patience is None:
        return unobservable("No early stopping is configured", _CONFIG)
    amounts = [number(f.value) if f else None for f in (patience, every, last)]
    if None in amounts or every is None or last is None:
        return unobservable("Evaluation interval or last step is not known", _CONFIG)
    waits, interval, total = (float(a or 0) for a in amounts)
    text = f"patience {waits:g} x {interval:g} steps is {waits * interval:g} of {total:g} steps"
    if total > 0 and waits * interval >= total:
        return present(text, patience, every, last)
    return absent(text, patience, every, last)


@detector("config.best_checkpoint_at_risk")
def best_checkpoint_at_risk(run: Run) -> Observation:
    """Find settings by which the best checkpoint can be deleted or never written.

    `load_best_model_at_end` protects it; without it `save_total_limit` drops the oldest.
    """
    limit, best = run.setting("save_total_limit"), run.setting("load_best_model_at_end")
    saves, evaluates = run.setting("save_steps"), run.setting("eval_steps")
    if best is not None and best.value is True:
        steps = [number(f.value) if f else None for f in (saves, evaluates)]
        if saves and evaluates and steps[0] and steps[1] and steps[0] % steps[1]:
            text = (
                f"saving every {steps[0]:g} steps does not fall on evaluations every {steps[1]:g}"
            )
            return present(text, saves, evaluates)
        return absent("the best checkpoint is kept and loaded at the end", best)
    if limit is None:
        return unobservable("How many checkpoints are kept is not visible", _CONFIG)
    amount = number(limit.value)
    if amount is not None and 0 < amount <= 2:
        return present(
            f"kept, best or not: only the last {plural(int(amount), 'checkpoint')}", limit
        )
    return absent(f"`save_total_limit` is {shown(limit.value)}", limit)
