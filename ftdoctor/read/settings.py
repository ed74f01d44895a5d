"""Configuration files: training settings in any dialect, adapter, model and generation configs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ftdoctor.model import ArtifactState, Fact, Where
from ftdoctor.read.jsontext import loads
from ftdoctor.read.located import Entry, entries_of, json_lines_of
from ftdoctor.read.reading import Reading
from ftdoctor.read.source import Source

CONFIG_LIMIT = 8 << 20  # bytes; a configuration of this size is none

# A dialect is known by keys that only it has; the first that fits wins.
DIALECTS: tuple[tuple[str, frozenset[str], int], ...] = (
    ("llama-factory", frozenset({"finetuning_type", "cutoff_len", "template", "stage",
                                 "lora_target", "dataset_dir"}), 2),
    ("axolotl", frozenset({"base_model", "datasets", "adapter", "sequence_len", "sample_packing",
                           "micro_batch_size", "dataset_prepared_path", "val_set_size"}), 3),
    ("tinker", frozenset({"renderer_name", "dataset_builder", "log_path", "lora_rank",
                          "rolling_ttl_seconds", "ttl_seconds", "load_checkpoint_path"}), 2),
    ("mlx", frozenset({"fine_tune_type", "lora_parameters", "iters", "num_layers", "adapter_path",
                       "steps_per_report", "val_batches"}), 2),
    ("deepspeed", frozenset({"zero_optimization", "train_micro_batch_size_per_gpu",
                             "gradient_clipping", "train_batch_size", "wall_clock_breakdown",
                             "zero_allow_untested_optimizer"}), 2),
    ("accelerate", frozenset({"distributed_type", "compute_environment", "deepspeed_config",
                              "fsdp_config", "num_machines", "machine_rank",
                              "main_training_function"}), 2),
    ("nemo", frozenset({"exp_manager", "trainer", "model", "run"}), 3),
    ("hf", frozenset({"per_device_train_batch_size", "num_train_epochs", "lr_scheduler_type",
                      "gradient_accumulation_steps", "model_name_or_path", "save_strategy"}), 2),
)  # fmt: skip
PREFIXED = frozenset({"deepspeed", "accelerate"})


def read_settings(source: Source) -> Reading:
    """Read a training configuration: settings with names as found, and `config.dialect`."""
    text = source.text(CONFIG_LIMIT).lstrip("\ufeff")
    try:
        entries = entries_of(text, _format(source.name, text))
    except (ValueError, RecursionError) as error:
        return Reading(ArtifactState.DAMAGED, f"cannot be parsed: {_short(error)}")
    cut = _cut_number(text)
    entries = [entry for entry in entries if not cut or entry.line < cut]
    if entries and all(_is_override(entry) for entry in entries):
        entries = [_override(entry) for entry in entries]
    dialect, line = dialect_of(entries, source.path)
    prefix = f"{dialect}." if dialect in PREFIXED else ""
    if source.path.endswith(".hydra/hydra.yaml"):
        prefix = "hydra."
    settings = tuple(
        Fact(prefix + entry.name, entry.value, _where(source, entry)) for entry in entries
    )
    facts = [Fact("config.dialect", dialect, Where(source.path, line=line or None))]
    facts += [
        Fact("config.number_as_text", entry.name, _where(source, entry))
        for entry in entries
        if entry.number_as_text
    ]
    taken = f"{len(settings)} settings ({dialect})"
    reason = f"line {cut} ends inside a number: the file was cut; copy it again" if cut else ""
    state = ArtifactState.PARTIAL if cut else ArtifactState.READ
    return Reading(state, reason, taken, settings=settings, facts=tuple(facts))


def _cut_number(text: str) -> int:
    """Return the last line if the file ends there in half a number, else 0.

    Many files written by hand end without a newline, in `seed: 0` or `weight_decay: 0.0`, so only
    what nobody writes is half a number: `0.`, `2e-`, `2e-0`, `0.00`, and a learning rate of zero.
    """
    half = _HALF_NUMBER.search(text)
    return text.count("\n") + 1 if half else 0


_HALF_NUMBER = re.compile(
    r"[:=]\s*[-+]?(?:\d*\.|0?\.00+|[\d.]+[eE](?:[-+]0?)?)$"
    r"|(?i:\b(?:learning_rate|lr)[\"']?\s*[:=]\s*0(?:\.0*)?)$"
)


def dialect_of(entries: Iterable[Entry], path: str) -> tuple[str, int]:
    """Return the tool whose configuration this is, else "generic", and the line that says so."""
    lines: dict[str, int] = {}
    for entry in entries:
        parts = entry.name.split(".")
        lines.setdefault(parts[0], entry.line)
        if parts[-1] == "_component_":
            return "torchtune", entry.line
    for name, keys, least in DIALECTS:
        hits = keys & lines.keys()
        if len(hits) >= least:
            return name, min(lines[key] for key in hits)
    return ("hydra" if ".hydra/" in path else "generic"), 0


def _format(name: str, text: str) -> str:
    if name.lower().endswith(".toml"):
        return "toml"
    if name.lower().endswith((".yaml", ".yml")):
        return "yaml"
    return "json" if text.lstrip()[:1] in ("{", "[") else "yaml"


def _is_override(entry: Entry) -> bool:
    """Say whether an entry is an element `key=value` of Hydra's overrides.yaml."""
    return entry.name.isdigit() and isinstance(entry.value, str) and "=" in entry.value


def _override(entry: Entry) -> Entry:
    name, _, value = entry.value.partition("=")
    return Entry(name.lstrip("+~"), value, entry.line)


def _where(source: Source, entry: Entry) -> Where:
    if entry.line:
        return Where(source.path, line=entry.line)
    return Where(source.path, pointer="/" + entry.name.replace(".", "/"))


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


# --- JSON configurations of fixed layout ------------------------------------------------------


class _Object:
    """A JSON object with the line of each key."""

    def __init__(self, source: Source) -> None:
        text = source.text(CONFIG_LIMIT).lstrip("\ufeff")
        value = loads(text)
        if not isinstance(value, dict):
            raise ValueError("no JSON object")
        self.value: Mapping[str, Any] = value
        self._path = source.path
        self._lines = json_lines_of(text)

    def where(self, key: str) -> Where:
        line = self._lines.get(key)
        return Where(self._path, line=line) if line else Where(self._path, pointer=f"/{key}")

    def fact(self, name: str, key: str) -> Iterator[Fact]:
        """Yield the fact if the key is there and not null."""
        if self.value.get(key) is not None:
            yield Fact(name, self.value[key], self.where(key))


def read_adapter_config(source: Source) -> Reading:
    """Read PEFT's adapter_config.json: settings `lora.*`, and every field as fact `adapter.*`."""
    try:
        found = _Object(source)
    except (ValueError, RecursionError) as error:
        return Reading(ArtifactState.DAMAGED, f"cannot be parsed: {_short(error)}")
    settings = tuple(
        Fact(_lora_name(key), value, found.where(key))
        for key, value in found.value.items()
        if value is not None
    )
    facts = tuple(
        Fact(f"adapter.{key}", value, found.where(key))
        for key, value in found.value.items()
        if value is not None
    )
    return Reading(taken=f"{len(settings)} adapter settings", settings=settings, facts=facts)


def _lora_name(key: str) -> str:
    renamed = {"base_model_name_or_path": "lora.base_model", "lora_alpha": "lora.alpha",
               "lora_dropout": "lora.dropout"}  # fmt: skip
    return renamed.get(key, f"lora.{key}")


# What config.json calls it, and ours; the text model's values stand for a multimodal model.
MODEL_FACTS = {
    "model_type": "model.type",
    "vocab_size": "model.vocab_size",
    "torch_dtype": "model.dtype",
    "dtype": "model.dtype",
    "eos_token_id": "model.eos_token_id",
    "bos_token_id": "model.bos_token_id",
    "pad_token_id": "model.pad_token_id",
    "max_position_embeddings": "model.max_position_embeddings",
    "n_positions": "model.max_position_embeddings",
    "tie_word_embeddings": "model.tie_word_embeddings",
    "transformers_version": "model.transformers_version",
    "num_hidden_layers": "model.hidden_layers",
    "n_layer": "model.hidden_layers",
    "hidden_size": "model.hidden_size",
    "n_embd": "model.hidden_size",
    "_name_or_path": "model.name",
    "problem_type": "model.problem_type",
    "sliding_window": "model.sliding_window",
    "rope_theta": "model.rope_theta",
    "quantization_config": "model.quantization_config",
}
TEXT_CONFIGS = ("text_config", "llm_config", "language_config", "thinker_config")


def read_model_config(source: Source) -> Reading:
    """Read a model's config.json into facts `model.*`."""
    try:
        found = _Object(source)
    except (ValueError, RecursionError) as error:
        return Reading(ArtifactState.DAMAGED, f"cannot be parsed: {_short(error)}")
    facts: list[Fact] = []
    for key, name in MODEL_FACTS.items():
        facts += found.fact(name, key)
    known = {fact.name for fact in facts}
    for section in TEXT_CONFIGS:
        inner = found.value.get(section)
        if isinstance(inner, dict):
            facts += [
                Fact(name, inner[key], found.where(f"{section}.{key}"))
                for key, name in MODEL_FACTS.items()
                if name not in known and inner.get(key) is not None
            ]
    architectures = found.value.get("architectures")
    if isinstance(architectures, list) and architectures:
        facts.append(Fact("model.architecture", architectures[0], found.where("architectures")))
    labels = found.value.get("id2label")
    if isinstance(labels, dict):
        facts.append(Fact("model.num_labels", len(labels), found.where("id2label")))
    return Reading(taken=f"{len(facts)} facts of the model", facts=tuple(facts))


def read_generation_config(source: Source) -> Reading:
    """Read generation_config.json into facts `generation.*`; eos_token_id always as a list."""
    try:
        found = _Object(source)
    except (ValueError, RecursionError) as error:
        return Reading(ArtifactState.DAMAGED, f"cannot be parsed: {_short(error)}")
    facts = []
    for key, value in found.value.items():
        if value is None:
            continue
        listed = [value] if key == "eos_token_id" and not isinstance(value, list) else value
        facts.append(Fact(f"generation.{key}", listed, found.where(key)))
    return Reading(taken=f"{len(facts)} generation settings", facts=tuple(facts))
