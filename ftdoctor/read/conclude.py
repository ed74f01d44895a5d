"""Draw the facts that no single file states: trainer, kind of training, how far it got."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ftdoctor.model import Fact, Where
from ftdoctor.read.excerpt import is_excerpt, printed_tokenizer, said_in, told_facts

if TYPE_CHECKING:
    from ftdoctor.read.assemble import RunParts
    from ftdoctor.read.curve import Curves
    from ftdoctor.read.items import Item

# Most specific first: a tool that is built on another one also shows the other's marks.
TRAINERS = (
    "unsloth", "axolotl", "llama-factory", "torchtune", "tinker", "mlx", "openrlhf", "verl", "nemo",
    "megatron", "openai", "lightning", "ray", "trl", "hf", "deepspeed",
)  # fmt: skip
# Names of metrics that one tool alone writes: all of a set in one log tell the trainer (the forms
# are those of the tools' own loggers; versions and places in `read/rows.py` and the tests).
TRAINER_OF_NAMES: tuple[tuple[frozenset[str], str], ...] = tuple(
    (frozenset(names.split(", ")), trainer)
    for names, trainer in (
        ("lm loss, number of skipped iterations", "megatron"),
        ("lm loss, elapsed time per iteration (ms)", "megatron"),
        ("lm loss value, lm loss ppl", "megatron"),
        ("reduced_train_loss", "nemo"),
        ("actor/pg_loss", "verl"),
        ("actor/pg_clipfrac", "verl"),
        ("critic/score/mean", "verl"),
        ("chosen_reward, reject_reward", "openrlhf"),
        ("gpt_loss, loss_mean", "openrlhf"),
        ("policy_loss, response_length, total_length", "openrlhf"),
        ("act_loss, critic_loss, response_length", "openrlhf"),
        ("tokens/sec, trained tokens", "mlx"),
        ("loss, tokens_per_second_per_gpu", "torchtune"),
        ("train_mean_nll", "tinker"),
        ("runningavgsamplespersec", "deepspeed"),
        ("skipped_steps, learning_rate", "deepspeed"),
    )
)
NAMED_ROWS = 500  # rows of a log whose names are looked at: evaluation rows come late
# These train from scratch as often as not: a loss alone does not tell what kind of training it is.
PRETRAINERS = frozenset({"megatron", "nemo"})
TRAINER_OF_MODULE = {
    "unsloth": "unsloth",
    "axolotl": "axolotl",
    "llamafactory": "llama-factory",
    "llmtuner": "llama-factory",
    "trl": "trl",
    "transformers": "hf",
}
TRL_TRAINERS = frozenset({
    "SFTTrainer", "DPOTrainer", "KTOTrainer", "ORPOTrainer", "CPOTrainer", "RewardTrainer",
    "GRPOTrainer", "RLOOTrainer", "PPOTrainer", "OnlineDPOTrainer", "BCOTrainer", "GKDTrainer",
})  # fmt: skip
TRAINER_OF_KIND = {
    "trainer-log": "llama-factory",
    "tinker-checkpoints": "tinker",
    "openai-events": "openai",
    "openai-metrics": "openai",
    "ray-result": "ray",
    "trainer-state": "hf",
    "training-args": "hf",
}
TRAINER_OF_DIALECT = {
    "axolotl": "axolotl",
    "llama-factory": "llama-factory",
    "torchtune": "torchtune",
    "tinker": "tinker",
    "mlx": "mlx",
    "deepspeed": "deepspeed",
    "hf": "hf",
}
KIND_OF_METHOD = {
    "sft": "sft",
    "pt": "pretrain",
    "pretrain": "pretrain",
    "rm": "reward",
    "reward": "reward",
    **dict.fromkeys(("rewardmodel", "rewardmodeling", "bradleyterry", "pairwise"), "reward"),
    **dict.fromkeys(("dpo", "kto", "orpo", "simpo", "cpo", "ipo"), "preference"),
    **dict.fromkeys(("ppo", "grpo", "rloo", "gspo", "dapo", "reinforce"), "rl"),
    **dict.fromkeys(
        ("classification", "textclassification", "sequenceclassification", "seqcls"),
        "classification",
    ),
}
# Settings that name the method, and the objective where a script's own configuration names it.
METHOD_SETTINGS = (
    "method", "rl", "task", "task_type", "objective", "loss", "loss_type", "loss_fn",
)  # fmt: skip
PREFERENCE_METRICS = {"rewards/chosen", "rewards/margins", "rewards/accuracies", "logps/chosen"}
RL_METRICS = {
    "reward", "reward_std", "frac_reward_zero_std", "completions/mean_length", "frac_mixed",
    "objective/rlhf_reward", "objective/scores", "policy/approxkl_avg", "env/reward_mean",
}  # fmt: skip
REWARD_METRICS = {
    "min_reward", "max_reward", "margin", "chosen_reward", "reject_reward", "positive score",
    "negative score",
}  # fmt: skip


def conclude(parts: RunParts, curves: Curves, items: Sequence[Item]) -> None:
    """Add run.trainer, run.kind, progress.* and model.family where the files let them be known."""
    names = {point.name for point in curves.points}
    if is_excerpt(curves.points, items):
        parts.add("run.excerpt", True, Where(items[0].artifact.path))
        if items[0].artifact.kind == "console":  # of a ticket its reader has said it
            _add_all(parts, told_facts(said_in(items[0])))
    if "tokenizer.eos_token" not in parts.facts:
        _add_all(parts, printed_tokenizer(items))
    _put_aside_last(parts, {path for path, _ in curves.aside})
    _progress(parts, curves)
    _trainer(parts, items)
    _kind(parts, names)
    _family(parts)


def _add_all(parts: RunParts, facts: Iterable[Fact]) -> None:
    for fact in facts:
        parts.add(fact.name, fact.value, fact.where)


def _put_first(parts: RunParts, name: str, value: Any, where: Where) -> None:
    parts.facts.setdefault(name, []).insert(0, Fact(name, value, where))


def _numbers(facts: Iterable[Fact]) -> list[Fact]:
    return [f for f in facts if isinstance(f.value, int | float) and not isinstance(f.value, bool)]


# --- progress ---------------------------------------------------------------------------------


def _put_aside_last(parts: RunParts, aside: set[str]) -> None:
    """Let what a log of another run says of its progress count less than all else."""
    for name, facts in parts.facts.items():
        if name.startswith("progress."):
            facts.sort(key=lambda fact: fact.where.path in aside)


def _progress(parts: RunParts, curves: Curves) -> None:
    train = [point for point in curves.points if point.split == "train"]
    if train:
        placed = (point for point in train if point.path not in curves.counted)
        last = max(placed, key=lambda point: point.step, default=None)
        if last is not None:
            where = Where(last.path, line=last.line or None)
            _raise(parts, "progress.global_step", last.step, where)
        epochs = [point for point in train if point.epoch is not None]
        if epochs:
            furthest = max(epochs, key=lambda point: point.epoch or 0.0)
            place = Where(furthest.path, line=furthest.line or None)
            _raise(parts, "progress.epoch", furthest.epoch, place)
        if "progress.started" not in parts.facts:
            first = train[0]
            _put_first(parts, "progress.started", True, Where(first.path, line=first.line or None))
    _planned(parts)
    _finished(parts)


def _raise(parts: RunParts, name: str, value: Any, where: Where) -> None:
    """Put the value first if what is known is less: a checkpoint's state is often older."""
    known = _numbers(parts.facts.get(name, ()))
    if not known or value > known[0].value:
        _put_first(parts, name, value, where)


def _planned(parts: RunParts) -> None:
    if _numbers(parts.facts.get("progress.max_steps", ())):
        return
    for fact in _numbers(parts.settings.get("max_steps", ())):
        if fact.value > 0:
            parts.add("progress.max_steps", fact.value, fact.where)
            return


def _finished(parts: RunParts) -> None:
    if parts.facts.get("progress.finished"):
        return
    done = _numbers(parts.facts.get("progress.global_step", ()))
    planned = _numbers(parts.facts.get("progress.max_steps", ()))
    if done and planned and planned[0].value > 0 and done[0].value >= planned[0].value:
        parts.add("progress.finished", True, done[0].where)


# --- what kind of training --------------------------------------------------------------------


def _kind(parts: RunParts, names: set[str]) -> None:
    if parts.facts.get("run.kind"):
        return
    found = _kind_from_metrics(names) or _kind_from_settings(parts)
    found = found or _kind_from_model(parts, names) or _kind_from_scripts(parts)
    trainer = parts.facts.get("run.trainer", ())
    if found is None and "loss" in names and trainer and trainer[0].value not in PRETRAINERS:
        # Such a tool trains a language model unless it says otherwise; a bare loop, anything.
        found = "sft", trainer[0].where
    if found is not None:
        parts.add("run.kind", found[0], found[1])


def _kind_from_metrics(names: set[str]) -> tuple[str, Where] | None:
    place = Where(".")
    if names & PREFERENCE_METRICS:
        return "preference", place
    if len(names & RL_METRICS) >= 1 and not names & REWARD_METRICS:
        return "rl", place
    if len(names & REWARD_METRICS) >= 2:
        return "reward", place
    return None


def _kind_from_settings(parts: RunParts) -> tuple[str, Where] | None:
    for name in METHOD_SETTINGS:
        for fact in parts.settings.get(name, ()):
            kind = KIND_OF_METHOD.get(re.sub(r"[-_ ]", "", str(fact.value).lower()))
            if kind:
                return kind, fact.where
    for fact in (
        *parts.facts.get("args.class", ()), *parts.facts.get("script.train.trainer", ()),
    ):  # fmt: skip
        stem = str(fact.value).rpartition(".")[2].removesuffix("Config").removesuffix("Trainer")
        stem = stem.lower()
        if stem in KIND_OF_METHOD:
            return KIND_OF_METHOD[stem], fact.where
    return None


def _kind_from_model(parts: RunParts, names: set[str]) -> tuple[str, Where] | None:
    for fact in parts.facts.get("model.num_labels", ()):
        if fact.value == 1 and "accuracy" in names:  # one score, and yet right or wrong: a ranking
            return "reward", fact.where
    for fact in parts.facts.get("model.architecture", ()):
        if str(fact.value).endswith(("ForSequenceClassification", "ForTokenClassification")):
            return "classification", fact.where
    for fact in parts.facts.get("adapter.task_type", ()):
        if fact.value in ("SEQ_CLS", "TOKEN_CLS"):
            return "classification", fact.where
    return None


def _kind_from_scripts(parts: RunParts) -> tuple[str, Where] | None:
    """Take the training script's word, else that of a module beside it."""
    for name in ("script.train.classifies", "script.other.classifies"):
        for fact in parts.facts.get(name, ()):
            if name == "script.train.classifies" or "script.train.labels_seen" not in parts.facts:
                return "classification", fact.where
    return None


# --- which trainer ----------------------------------------------------------------------------


def _trainer(parts: RunParts, items: Sequence[Item]) -> None:
    candidates = list(parts.facts.get("run.trainer", ()))
    candidates += [
        Fact("run.trainer", trainer, fact.where)
        for fact in parts.facts.get("args.class", ())
        for module, trainer in TRAINER_OF_MODULE.items()
        if str(fact.value).lower().startswith(module)
    ]
    candidates += [
        Fact("run.trainer", "trl", fact.where)
        for fact in parts.facts.get("script.train.trainer", ())
        if fact.value in TRL_TRAINERS
    ]
    candidates += [
        Fact("run.trainer", TRAINER_OF_DIALECT[fact.value], fact.where)
        for fact in parts.facts.get("config.dialect", ())
        if fact.value in TRAINER_OF_DIALECT
    ]
    candidates += [
        Fact("run.trainer", TRAINER_OF_KIND[item.artifact.kind], Where(item.artifact.path))
        for item in items
        if item.artifact.kind in TRAINER_OF_KIND and item.artifact.state in ("read", "partial")
    ]
    candidates += [fact for item in items if (fact := _trainer_of_names(item))]
    if candidates:
        best = min(candidates, key=_specificity)
        parts.facts["run.trainer"] = [best]


def _trainer_of_names(item: Item) -> Fact | None:
    """Return the trainer that the names of a log's metrics give away, at its first row."""
    rows = item.reading.metrics[:NAMED_ROWS]
    names = {name.lower() for row in rows for name in row.values}
    for wanted, trainer in TRAINER_OF_NAMES:
        if wanted <= names:
            place = Where(item.artifact.path, line=rows[0].line or None)
            return Fact("run.trainer", trainer, place)
    return None


def _specificity(fact: Fact) -> int:
    return TRAINERS.index(fact.value) if fact.value in TRAINERS else len(TRAINERS)


# --- which model ------------------------------------------------------------------------------


def _family(parts: RunParts) -> None:
    if parts.facts.get("model.family"):
        return
    from ftdoctor.families import find_family

    named = [
        fact
        for facts in (
            parts.settings.get("model_name_or_path", ()),
            parts.settings.get("lora.base_model", ()),
            parts.facts.get("model.name", ()),
        )
        for fact in facts
        if isinstance(fact.value, str)
    ]
    types = [f for f in parts.facts.get("model.type", ()) if isinstance(f.value, str)]
    sizes = [f for f in parts.facts.get("model.vocab_size", ()) if isinstance(f.value, int)]
    model_type = types[0].value if types else ""
    vocab_size = sizes[0].value if sizes else None
    for fact in named:
        found = find_family(fact.value, model_type, vocab_size)
        if found is not None:
            parts.add("model.family", found.id, fact.where)
            return
    if types:
        found = find_family("", model_type, vocab_size)
        if found is not None:
            parts.add("model.family", found.id, types[0].where)
