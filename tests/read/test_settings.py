"""Configuration files: lines, flattening, dialects, the YAML number trap, damage."""

from __future__ import annotations

import math

import pytest

from ftdoctor.model import ArtifactState
from ftdoctor.read.card import read_card
from ftdoctor.read.located import entries_of, json_lines_of
from ftdoctor.read.names import setting_name
from ftdoctor.read.reading import Reading
from ftdoctor.read.settings import (
    read_adapter_config,
    read_generation_config,
    read_model_config,
    read_settings,
)
from ftdoctor.read.source import memory_source


def read(path: str, text: str) -> Reading:
    return read_settings(memory_source(path, text.encode()))


def settings(reading: Reading) -> dict[str, object]:
    return {fact.name: fact.value for fact in reading.settings}


def lines(reading: Reading) -> dict[str, int | None]:
    return {fact.name: fact.where.line for fact in reading.settings}


def dialect(reading: Reading) -> object:
    return next(fact.value for fact in reading.facts if fact.name == "config.dialect")


AXOLOTL = """\
base_model: meta-llama/Llama-3.1-8B
datasets:
  - path: data.jsonl
    type: chat_template
adapter: qlora
learning_rate: 2e-4
sequence_len: 2048
"""


def test_yaml_values_have_lines_and_numbers_are_numbers() -> None:
    found = read("config.yml", AXOLOTL)
    assert settings(found)["learning_rate"] == 2e-4
    assert lines(found)["learning_rate"] == 6
    assert settings(found)["datasets.0.path"] == "data.jsonl"
    assert lines(found)["datasets.0.type"] == 4
    assert dialect(found) == "axolotl"


def test_a_number_that_pyyaml_takes_for_text_is_told() -> None:
    found = read("config.yml", AXOLOTL + "weight_decay: 1.0e-2\nwarmup: 3\n")
    told = [fact.value for fact in found.facts if fact.name == "config.number_as_text"]
    assert told == ["learning_rate"]


def test_user_schema_is_flattened_and_found_by_canonical_names() -> None:
    text = (
        "model:\n  name: gpt2\ntraining:\n  learning_rate: 1e-5\n  batch_size: 4\n  epochs: 3\n"
        "lora:\n  r: 8\n  alpha: 16\n  target_modules: [c_attn]\n"
    )
    found = read("config.yaml", text)
    named = {setting_name(name): value for name, value in settings(found).items()}
    assert named == {
        "model_name_or_path": "gpt2", "learning_rate": 1e-5, "per_device_train_batch_size": 4,
        "num_train_epochs": 3, "lora.r": 8, "lora.alpha": 16, "lora.target_modules": ["c_attn"],
    }  # fmt: skip
    assert dialect(found) == "generic"


def test_python_tags_are_ignored_and_nothing_is_constructed() -> None:
    text = "lr: !!python/object/apply:os.system ['false']\nepochs: !!python/name:os.system 3\n"
    assert settings(read("hparams.yaml", text)) == {"lr": ["false"], "epochs": 3}


def test_multiplying_aliases_are_bounded() -> None:
    layers = "\n".join(f"a{n}: &a{n} {{x: *a{n - 1}, y: *a{n - 1}}}" for n in range(1, 40))
    found = read("config.yaml", "a0: &a0 {lr: 1}\n" + layers)
    assert len(found.settings) <= 5000


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("c.yaml", "a: [1, 2\nb: 3\n", "line"),
        ("c.json", '{"a": 1,\n "b" 2}', "line 2"),
        ("c.toml", "a = \n", "line 1"),
        ("c.json", "[" * 100_000, ""),
    ],
)
def test_damage_names_the_place(name: str, text: str, place: str) -> None:
    found = read(name, text)
    assert found.state is ArtifactState.DAMAGED
    assert place in found.reason


@pytest.mark.parametrize("end", ["seed: 0", "weight_decay: 0.0", "max_steps: 10", "lr_end: 1e-5"])
def test_a_last_line_without_newline_counts(end: str) -> None:
    found = read("config.yaml", f"epochs: 3\n{end}")
    assert found.state is ArtifactState.READ
    assert len(found.settings) == 2


@pytest.mark.parametrize(
    "end", ["lr: 0.", "lr: 2e-", "lr: 2e-0", "warmup_ratio: 0.00", "learning_rate: 0"]
)
def test_half_a_number_at_the_end_is_a_cut_and_no_setting(end: str) -> None:
    found = read("config.yaml", f"epochs: 3\n{end}")
    assert found.state is ArtifactState.PARTIAL
    assert "line 2 ends inside a number" in found.reason
    assert list(settings(found)) == ["epochs"]


def test_json_lines_survive_nesting_and_strings_with_brackets() -> None:
    text = '{\n "a": {"b": "{x"},\n "list": [\n  {"p": 1},\n  {"p": 2}],\n "c": 3\n}'
    found = json_lines_of(text)
    assert (found["a.b"], found["list.1.p"], found["c"]) == (2, 5, 6)
    values = {entry.name: (entry.value, entry.line) for entry in entries_of(text, "json")}
    assert values["a.b"] == ("{x", 2)
    assert values["list.1.p"] == (2, 5)


def test_toml_sections_have_lines() -> None:
    found = read("c.toml", 'seed = 1\n[train]\nlr = 1e-4\n"weight_decay" = 0.1\n')
    assert lines(found) == {"seed": 1, "train.lr": 3, "train.weight_decay": 4}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("finetuning_type: lora\ntemplate: qwen\n", "llama-factory"),
        ("model:\n  _component_: torchtune.models.x\nepochs: 1\n", "torchtune"),
        ("renderer_name: qwen3\nlog_path: /x\nlearning_rate: 1\n", "tinker"),
        ("fine_tune_type: lora\niters: 100\n", "mlx"),
        ("zero_optimization:\n  stage: 2\ngradient_clipping: 1.0\n", "deepspeed"),
        ("distributed_type: FSDP\nnum_machines: 1\n", "accelerate"),
        ("per_device_train_batch_size: 4\nnum_train_epochs: 1\n", "hf"),
    ],
)
def test_dialects(text: str, expected: str) -> None:
    assert dialect(read("x.yaml", text)) == expected


def test_deepspeed_settings_keep_their_prefix() -> None:
    found = read("ds.json", '{"zero_optimization": {"stage": 3}, "gradient_clipping": 1.0}')
    assert settings(found)["deepspeed.zero_optimization.stage"] == 3


def test_hydra_overrides_are_settings() -> None:
    found = read(".hydra/overrides.yaml", "- train.lr=1e-3\n- +data.path=x\n")
    assert settings(found) == {"train.lr": "1e-3", "data.path": "x"}


def test_adapter_config() -> None:
    text = '{\n "peft_type": "LORA",\n "r": 16,\n "lora_alpha": 32,\n "bias": "none",\n "x": null}'
    found = read_adapter_config(memory_source("adapter_config.json", text.encode()))
    assert settings(found)["lora.alpha"] == 32
    assert lines(found)["lora.r"] == 3
    facts = {fact.name: fact.value for fact in found.facts}
    assert facts["adapter.bias"] == "none"
    assert "adapter.x" not in facts


def test_model_config_of_a_multimodal_model_takes_the_text_model() -> None:
    text = (
        '{"architectures": ["QwenVL"], "model_type": "qwen2_vl", "eos_token_id": 5,'
        ' "text_config": {"vocab_size": 100, "eos_token_id": 6}, "id2label": {"0": "a", "1": "b"}}'
    )
    found = read_model_config(memory_source("config.json", text.encode()))
    facts = {fact.name: fact.value for fact in found.facts}
    assert facts["model.vocab_size"] == 100
    assert facts["model.eos_token_id"] == 5
    assert facts["model.architecture"] == "QwenVL"
    assert facts["model.num_labels"] == 2


def test_generation_config_gives_eos_as_a_list() -> None:
    found = read_generation_config(memory_source("g.json", b'{"eos_token_id": 2, "top_p": NaN}'))
    facts = {fact.name: fact.value for fact in found.facts}
    assert facts["generation.eos_token_id"] == [2]
    assert math.isnan(float(str(facts["generation.top_p"])))


@pytest.mark.parametrize("text", ["", "[1]", "{", '"x"'])
def test_broken_fixed_configurations_are_damaged(text: str) -> None:
    for reader in (read_adapter_config, read_model_config, read_generation_config):
        found = reader(memory_source("x.json", text.encode()))
        assert found.state is ArtifactState.DAMAGED


CARD = """\
---
base_model: mistralai/Mistral-7B-v0.1
tags:
- axolotl
---
# Model

<details><summary>See axolotl config</summary>

axolotl version: `0.4.1`
```yaml
base_model: mistralai/Mistral-7B-v0.1
learning_rate: 2e-5
```
</details>

### Training hyperparameters

- learning_rate: 2e-05
- train_batch_size: 4
- optimizer: Use adamw_torch with betas=(0.9,0.999)
- num_epochs: 3

### Training results

| Training Loss | Epoch | Step | Validation Loss | Accuracy |
|:-------------:|:-----:|:----:|:---------------:|:--------:|
| No log        | 0.5   | 5    | 2.5             | 0.4      |
| 1.9           | 1.0   | 10   | 2.25            | 0.5      |

### Framework versions

- PEFT 0.10.0
- Transformers 4.40.2
- Pytorch 2.3.0+cu121
"""


def test_model_card() -> None:
    found = read_card(memory_source("README.md", CARD.encode()))
    given = [(fact.name, fact.value, fact.where.line) for fact in found.settings]
    assert ("learning_rate", 2e-05, 19) in given
    assert ("learning_rate", 2e-05, 13) in given
    assert ("per_device_train_batch_size", 4, 20) in given
    assert ("optim", "adamw_torch", 21) in given
    facts = {fact.name: fact.value for fact in found.facts}
    assert facts["environment.package.torch"] == "2.3.0+cu121"
    assert facts["environment.package.axolotl"] == "0.4.1"
    assert facts["run.trainer"] == "axolotl"
    rows = [(row.split, row.step, dict(row.values)) for row in found.metrics]
    assert rows == [
        ("eval", 5, {"loss": 2.5, "accuracy": 0.4}),
        ("train", 10, {"loss": 1.9}),
        ("eval", 10, {"loss": 2.25, "accuracy": 0.5}),
    ]


def test_prose_gives_nothing() -> None:
    found = read_card(memory_source("README.md", b"# Readme\n- learning_rate: we tried some\n"))
    assert not found.settings
    assert not found.metrics
